//! Which values may stay: nothing would be hidden by masking them but what a reader needs.

use super::entropy::is_secretish;
use super::names::Certainty;

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

/// Whether masking this value would hide nothing but what a reader needs.
pub(super) fn is_harmless(value: &str, certainty: Certainty, quoted: bool) -> bool {
    let lower = value.trim().to_ascii_lowercase();
    if NOTHING.contains(&lower.as_str()) || (!quoted && PROSE.contains(&lower.as_str())) || is_masked(value) {
        return true;
    }
    if is_placeholder(value) {
        return true;
    }
    match certainty {
        Certainty::Sure => value.starts_with('/') && is_path(value) && value.split('/').count() > 2,
        Certainty::Likely => {
            is_path(value) || (value.len() <= 4 && value.bytes().all(|byte| byte.is_ascii_digit()))
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
    shell
        || ((value.starts_with("{{") || value.starts_with("${{")) && value.ends_with("}}"))
        || matches!(value, "{{" | "${{")
        || matches!(value, "%s" | "%d" | "{}" | "{:?}" | "%v" | "?")
        || (value.starts_with('<') && value.ends_with('>') && value.len() < 32)
}

/// An absolute path below a usual root, or a name that ends as files of keys and certificates do.
fn is_path(value: &str) -> bool {
    const ROOTS: [&str; 16] = [
        "/etc/", "/var/", "/run/", "/usr/", "/home/", "/opt/", "/srv/", "/tmp/", "/root", "/proc/", "/dev/",
        "/mnt/", "/data/", "/app/", "./", "~/",
    ];
    const ENDINGS: [&str; 9] = [".pem", ".key", ".crt", ".txt", ".json", ".toml", ".yaml", ".pub", ".p12"];
    let plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-~@:".contains(&byte));
    plain
        && (ROOTS.iter().any(|root| value.starts_with(root))
            || ENDINGS.iter().any(|ending| value.ends_with(ending)))
}
