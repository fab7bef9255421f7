//! Which values may stay: nothing would be hidden by masking them but what a reader needs.

use super::entropy::is_secretish;
use super::key_names::Certainty;

const NOTHING: [&str; 55] = [
    // nsswitch.conf: where `passwd:` is looked up.
    "files",
    "compat",
    "sss",
    "systemd",
    "winbind",
    // Packages are named `libsecret-1-0:amd64`, rights `id-token: write`.
    "amd64",
    "arm64",
    "read",
    "write",
    "|",
    ">",
    "|-",
    ">-",
    "|+",
    ">+",
    "",
    "true",
    "false",
    "null",
    "none",
    "nil",
    "undefined",
    "yes",
    "no",
    "on",
    "off",
    "enabled",
    "disabled",
    "(none)",
    "n/a",
    "unset",
    "empty",
    "required",
    "missing",
    "-",
    "~",
    "{}",
    "[]",
    "[redacted]",
    "<redacted>",
    "redacted",
    "(null)",
    "(redacted)",
    "<hidden>",
    "[hidden]",
    "<secret>",
    "<unset>",
    "<none>",
    "some",
    "string",
    "&str",
    "option<string>",
    "is",
    "prompt",
    "ask",
];
/// Words of a sentence about a password or token, in the place where a value could stand.
const PROSE: [&str; 34] = [
    "must",
    "was",
    "were",
    "not",
    "should",
    "cannot",
    "can",
    "could",
    "expired",
    "incorrect",
    "invalid",
    "wrong",
    "the",
    "a",
    "an",
    "for",
    "to",
    "from",
    "and",
    "or",
    "at",
    "in",
    "with",
    "try",
    "too",
    "reset",
    "authentication",
    "failed",
    "include",
    "omit",
    "same-origin",
    "of",
    "changed",
    "please",
];

/// What stands in a usage line or an example in the place of a value.
const NAMES_OF_VALUES: [&str; 12] = [
    "PASSWORD",
    "PASSWD",
    "PASS",
    "SECRET",
    "TOKEN",
    "API_KEY",
    "APIKEY",
    "ACCESS_KEY",
    "ACCESS_TOKEN",
    "SECRET_KEY",
    "YOUR_PASSWORD",
    "YOUR_TOKEN",
];

/// What a token or a credential is, said where it could stand.
const KINDS: [&str; 6] = ["secret", "token", "configmap", "secrets", "tokens", "credentials"];

/// Whether masking this value would hide nothing but what a reader needs.
pub(super) fn is_harmless(value: &str, certainty: Certainty, quoted: bool) -> bool {
    let lower = value.trim().to_ascii_lowercase();
    if NOTHING.contains(&lower.as_str()) || (!quoted && PROSE.contains(&lower.as_str())) || is_masked(value) {
        return true;
    }
    // A switch: `old_passwords=0`.
    if is_placeholder(value) || is_reference(value) || matches!(value, "0" | "1") {
        return true;
    }
    match certainty {
        Certainty::Sure => value.starts_with('/') && is_path(value) && value.split('/').count() > 2,
        Certainty::Likely => {
            is_path(value)
                || (value.len() <= 4 && value.bytes().all(|byte| byte.is_ascii_digit()))
                || is_version(value)
                || KINDS.contains(&lower.as_str())
        }
        Certainty::Possible => is_path(value) || !is_secretish(value),
    }
}

/// Stars or crosses that somebody else put there.
fn is_masked(value: &str) -> bool {
    value.chars().all(|c| "*•.".contains(c))
        || (value.len() >= 4 && value.bytes().all(|byte| matches!(byte, b'x' | b'X')))
}

/// `${NAME}`, `$NAME`, `{{ .Values.x }}`, `%s`, `<your token>`: the name of a value, not the value.
pub(super) fn is_placeholder(value: &str) -> bool {
    let shell = value.strip_prefix('$').is_some_and(|name| {
        let name = name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name);
        name.len() > 1 && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
            || (value.starts_with("${") && value.ends_with('}') && value.len() < 64 && !value.contains(":-"))
    });
    let parameter = value.strip_prefix('$').is_some_and(|number| {
        (1..=2).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    shell
        || parameter
        || is_template(value)
        || NAMES_OF_VALUES.contains(&value)
        || ((value.starts_with("{{") || value.starts_with("${{")) && value.ends_with("}}"))
        || matches!(value, "{{" | "${{")
        || matches!(value, "%s" | "%d" | "{}" | "{:?}" | "%v" | "?")
        || (value.starts_with('<') && value.ends_with('>') && value.len() < 32)
}

/// `%%NAME%%`, `%NAME%`, `%env(NAME)%`, `@name@`, `__NAME__`, `[FILTERED]`, `<your password here>`, `!secret name`,
/// `ENC[...]`: what is put there later, what was taken away, or what only a key of elsewhere opens.
fn is_template(value: &str) -> bool {
    const TAGS: [&str; 9] = [
        "!secret ",
        "!vault ",
        "!env ",
        "!include ",
        "!Ref ",
        "!Sub ",
        "!GetAtt ",
        "!ImportValue ",
        "!reference ",
    ];
    let between = |opening: &str, closing: &str| {
        value.strip_prefix(opening)?.strip_suffix(closing).filter(|name| (2..64).contains(&name.len()))
    };
    let upper =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') && name.len() > 2;
    let lower = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_lowercase() || b"._-".contains(&byte))
            && name.contains(['.', '_'])
    };
    let words = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphabetic() || b" _-".contains(&byte));
    ["%%", "%", "__", "@"].iter().any(|mark| between(mark, mark).is_some_and(upper))
        || between("@", "@").is_some_and(lower)
        || between("%env(", ")%").is_some()
        || between("[", "]").is_some_and(upper)
        || between("(", ")").is_some_and(upper)
        || between("<", ">").is_some_and(words)
        || value.starts_with("ENC[")
        || TAGS.iter().any(|tag| value.starts_with(tag))
}

/// Where a value is read from: `file:/run/x`, `$(cat /run/x)`, `var.db_password`, `process.env.TOKEN`.
fn is_reference(value: &str) -> bool {
    const SOURCES: [&str; 14] = [
        "file:/",
        "file:~/",
        "file:./",
        "file:%d",
        "%d/",
        "env:",
        "vault:",
        "ssm:",
        "aws-sm:",
        "op://",
        "arn:aws:",
        "secretsmanager:",
        "keyring:",
        "secretKeyRef",
    ];
    const OBJECTS: [&str; 18] = [
        "data.",
        "var.",
        "local.",
        "module.",
        "process.env",
        "os.environ",
        "os.getenv",
        "os.Getenv",
        "System.getenv",
        concat!("std", "::env"),
        "env.",
        "ENV[",
        "config.",
        "self.",
        "this.",
        "args.",
        "settings.",
        "random_password.",
    ];
    let command = value.starts_with("$(") && !value.contains("echo") && !value.contains("printf");
    let names = |byte: u8| byte.is_ascii_alphabetic() || b"._[]()\"':".contains(&byte);
    let object = OBJECTS.iter().any(|object| value.starts_with(object)) && value.bytes().all(names);
    // `$USER:$PASSWORD`.
    let both = value.starts_with('$')
        && value
            .split_once(':')
            .is_some_and(|(user, password)| is_placeholder(user) && is_placeholder(password));
    command || object || both || SOURCES.iter().any(|source| value.starts_with(source))
}

/// `10.2.0`: what `jsonwebtoken = ` has behind it in a list of packages.
fn is_version(value: &str) -> bool {
    let (digits, dots) = value.bytes().fold((0, 0), |(digits, dots), byte| match byte {
        b'0'..=b'9' => (digits + 1, dots),
        b'.' => (digits, dots + 1),
        _ => (digits, 9),
    });
    digits > 0 && (1..=3).contains(&dots) && value.len() <= 16
}

/// Values that say how something is set up: numbers, sizes, times, switches, addresses, paths, and lists of them.
pub(super) fn is_setting(value: &str) -> bool {
    const WORDS: [&str; 34] = [
        "true",
        "false",
        "yes",
        "no",
        "on",
        "off",
        "none",
        "null",
        "all",
        "auto",
        "default",
        "enabled",
        "disabled",
        "info",
        "warn",
        "warning",
        "debug",
        "trace",
        "error",
        "json",
        "text",
        "tcp",
        "udp",
        "quic",
        "http",
        "https",
        "grpc",
        "websocket",
        "production",
        "development",
        "staging",
        "utf-8",
        "unlimited",
        "max",
    ];
    const UNITS: [&str; 34] = [
        "", "b", "kb", "mb", "gb", "tb", "kib", "mib", "gib", "tib", "k", "m", "g", "t", "ms", "us", "ns",
        "s", "sec", "secs", "second", "seconds", "min", "mins", "minute", "minutes", "h", "hour", "hours",
        "d", "day", "days", "%", "x",
    ];
    let value = value.trim();
    if value.is_empty() || value.len() > 512 {
        return false;
    }
    let one = |part: &str| {
        let lower = part.trim().to_ascii_lowercase();
        let digits =
            lower.trim_start_matches('-').bytes().take_while(|byte| b"0123456789._".contains(byte)).count();
        let number = lower.trim_start_matches('-');
        let quantity = digits > 0 && digits <= 12 && UNITS.contains(&number[digits..].trim());
        WORDS.contains(&lower.as_str()) || quantity || is_address(&lower) || is_path(part.trim())
    };
    value.split([',', ';']).all(one)
}

/// `127.0.0.1:8090`, `[::1]:80`, `db-1.example.org:5432`, and the same behind a scheme, without credentials.
fn is_address(value: &str) -> bool {
    let (scheme, rest) = value.split_once("://").unwrap_or(("", value));
    if !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
        return false;
    }
    let rest = if scheme.is_empty() { rest } else { rest.split('/').next().unwrap_or_default() };
    if rest.parse::<core::net::SocketAddr>().is_ok() || rest.parse::<core::net::IpAddr>().is_ok() {
        return true;
    }
    let (host, port) = rest.rsplit_once(':').unwrap_or((rest, ""));
    let named = !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_*".contains(&byte));
    let ported = port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    let plain = value.len() == scheme.len() + 3 + rest.len()
        || value[scheme.len()..]
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || b":/._-0123456789".contains(&byte));
    named && ported && (!port.is_empty() || !scheme.is_empty() && plain)
}

/// An absolute path below a usual root, or a name that ends as files of keys and certificates do.
fn is_path(value: &str) -> bool {
    const ROOTS: [&str; 19] = [
        "/lib/", "/bin/", "/sys/", "/etc/", "/var/", "/run/", "/usr/", "/home/", "/opt/", "/srv/", "/tmp/",
        "/root", "/proc/", "/dev/", "/mnt/", "/data/", "/app/", "./", "~/",
    ];
    const ENDINGS: [&str; 9] = [".pem", ".key", ".crt", ".txt", ".json", ".toml", ".yaml", ".pub", ".p12"];
    let plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-~@:".contains(&byte));
    plain
        && (ROOTS.iter().any(|root| value.starts_with(root))
            || ENDINGS.iter().any(|ending| value.ends_with(ending)))
}
