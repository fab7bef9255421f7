//! Environments of processes: only values of names that are known to be harmless are shown.

use super::allowlist::{is_harmless, is_setting};
use super::entropy::is_secretish;
use super::key_names::telling;
use super::placeholders::is_token;
use super::span::Span;

const HARMLESS: [&str; 73] = [
    "AUTHOR",
    "AWS_PROFILE",
    "BUILD_DATE",
    "DISPLAY",
    "GIT_COMMIT",
    "IMAGE_DIGEST",
    "KEYBOARD_LAYOUT",
    "KEYMAP",
    "MAIL",
    "SSH_CLIENT",
    "SSH_CONNECTION",
    "SSH_TTY",
    "TOKENIZER",
    "XDG_SESSION_ID",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "MALLOC_ARENA_MAX",
    "MALLOC_CONF",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "TOKIO_WORKER_THREADS",
    "GOMAXPROCS",
    "GOMEMLIMIT",
    "RUST_MIN_STACK",
    "NO_PROXY",
    "no_proxy",
    "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT",
    "OTEL_SERVICE_NAME",
    "PATH",
    "LANG",
    "LANGUAGE",
    "HOME",
    "USER",
    "LOGNAME",
    "PWD",
    "OLDPWD",
    "SHELL",
    "TZ",
    "TERM",
    "SHLVL",
    "HOSTNAME",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "RUST_LIB_BACKTRACE",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "SYSTEMD_EXEC_PID",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "MAINPID",
    "MANAGERPID",
    "RUNTIME_DIRECTORY",
    "STATE_DIRECTORY",
    "CACHE_DIRECTORY",
    "LOGS_DIRECTORY",
    "CONFIGURATION_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
    "MEMORY_PRESSURE_WATCH",
    "XDG_RUNTIME_DIR",
    "XDG_SESSION_TYPE",
    "TMPDIR",
    "PAGER",
    "EDITOR",
    "NO_COLOR",
    "COLORTERM",
    "DEBIAN_FRONTEND",
    "container",
    "_",
];
/// Ends of names whose values say how it is set up and open nothing.
const HARMLESS_ENDS: [&str; 71] = [
    "DESERIALIZER",
    "SERIALIZER",
    "METHOD",
    "STORE",
    "PROFILE",
    "MODE",
    "BACKEND",
    "ADDR",
    "URL",
    "ENDPOINT",
    "REGION",
    "ZONE",
    "ENV",
    "ENVIRONMENT",
    "VERSION",
    "LANG",
    "LOCALE",
    "STREAM",
    "TOPIC",
    "USERNAME",
    "USER",
    "BUCKET",
    "DATABASE",
    "DRIVER",
    "DEVICE",
    "DOMAIN",
    "PATH",
    "ADDRESS",
    "ENABLED",
    "PORT",
    "ID",
    "NAME",
    "LEVEL",
    "SIZE",
    "INTERVAL",
    "TIMEOUT",
    "ALLOCATION",
    "CAPACITY",
    "EXPIRY",
    "FSYNC",
    "CHECKSUM",
    "FORMAT",
    "DIR",
    "TYPE",
    "COUNT",
    "DEPTH",
    "SLOTS",
    "RETENTION",
    "TRANSPORT",
    "FILE",
    "SIGNED",
    "CORES",
    "IP",
    "HOST",
    "TCP",
    "QUIC",
    "HTTP",
    "WEBSOCKET",
    "IPV6",
    "SEGMENT",
    "SAVE",
    "ALGORITHM",
    "ISSUER",
    "AUDIENCE",
    "UI",
    "CONFIG",
    "BUILD",
    "ROTATION",
    "WINDOW",
    "BATCH",
    "RETRIES",
];

/// The rule that masks the value of `name`, or `None` if it may be shown.
pub(super) fn rule(name: &str) -> Option<&'static str> {
    let telling = telling(name).filter(|_| !matches!(name, "PWD" | "OLDPWD"));
    if let Some(telling) = telling {
        return Some(telling.rule);
    }
    let iggy = name.strip_prefix("IGGY_").is_some_and(|rest| {
        rest.rsplit('_')
            .find(|word| !word.bytes().all(|byte| byte.is_ascii_digit()))
            .is_some_and(|last| HARMLESS_ENDS.contains(&last))
    });
    let harmless = iggy || HARMLESS.contains(&name) || name.starts_with("LC_");
    (!harmless).then_some("environment")
}

/// Whether nothing is hidden by masking what a variable holds, whatever its name may say.
pub(super) fn shown(name: &str, value: &str) -> bool {
    match telling(name).filter(|_| !matches!(name, "PWD" | "OLDPWD")) {
        Some(telling) if telling.rule == "connector-config" => false,
        Some(telling) => is_harmless(value, telling.certainty, true),
        None => {
            let end = name.rsplit('_').find(|word| !word.bytes().all(|byte| byte.is_ascii_digit()));
            let named = end.is_some_and(|last| HARMLESS_ENDS.contains(&last));
            let plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/:+, ".contains(&byte));
            let words = value.bytes().all(|byte| byte.is_ascii_alphabetic() || b",_-* ".contains(&byte));
            is_setting(value) || named && plain && !is_secretish(value) || name.starts_with("IGGY_") && words
        }
    }
}

/// Masks the value of one `NAME=value` that begins at `start`; whether it was one.
pub(super) fn entry(text: &str, start: usize, end: usize, spans: &mut Vec<Span>) -> bool {
    let entry = &text[start..end];
    let Some((name, value)) = entry.split_once('=') else { return false };
    let bare = name.trim().trim_start_matches("export ").trim_start_matches('\u{feff}').trim();
    if bare.is_empty()
        || bare.len() > 256
        || !bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    {
        return false;
    }
    let mut first = start + name.len() + 1;
    let mut last = first + value.trim_end_matches(['\r', '\n']).len();
    for quote in ['"', '\''] {
        let inner = &text[first..last];
        if inner.len() >= 2 && inner.starts_with(quote) && inner.ends_with(quote) {
            (first, last) = (first + 1, last - 1);
        }
    }
    let value = &text[first..last];
    if shown(bare, value) {
        return true;
    }
    if let Some(rule) = rule(bare).filter(|_| !value.trim().is_empty() && !is_token(value)) {
        let known = rule != "environment" && rule != "connector-config" || is_secretish(value);
        spans.push(Span::new(first, last, rule).known(known));
    } else if let Some(end) = value.find('\n') {
        // A line below the value of a harmless name is not known to be harmless.
        let from = first + end + 1;
        let rest = text[from..last].trim();
        if !rest.is_empty() && !is_token(rest) && !is_token(value.trim()) {
            spans.push(Span::new(from, last, "environment").known(false));
        }
    }
    true
}

/// Masks a whole environment, separated by NUL as in /proc/PID/environ or by line ends as in a `.env` file.
pub(super) fn environment(text: &str, spans: &mut Vec<Span>) {
    let separator = if text.contains('\0') { '\0' } else { '\n' };
    let (mut start, mut masking) = (0, false);
    for part in text.split(separator) {
        let end = start + part.len();
        let shown = spans.len();
        if entry(text, start, end, spans) {
            masking = spans.len() > shown;
        } else {
            let line = part.trim();
            let comment = separator == '\n' && line.starts_with('#');
            // What has no name is the next line of the value above, or nothing that can be judged.
            if !line.is_empty() && !comment && !is_token(line) && (masking || separator == '\0') {
                let from = start + part.find(line).unwrap_or(0);
                spans.push(Span::new(from, from + line.len(), "environment").known(false));
            }
        }
        start = end + 1;
    }
}
