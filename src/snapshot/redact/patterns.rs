//! Secrets that are recognized by their own form, wherever they stand.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// How a provider's tokens look: what they begin with, and how many characters follow at least.
pub(super) struct Provider {
    pub(super) prefix: &'static str,
    pub(super) rule: &'static str,
    least: usize,
    /// Signs besides letters and digits.
    signs: &'static [u8],
}

const fn provider(prefix: &'static str, rule: &'static str, least: usize, signs: &'static [u8]) -> Provider {
    Provider { prefix, rule, least, signs }
}

pub(super) const PROVIDERS: &[Provider] = &[
    provider("AKIA", "aws-access-key", 16, b""),
    provider("ASIA", "aws-access-key", 16, b""),
    provider("ABIA", "aws-access-key", 16, b""),
    provider("ACCA", "aws-access-key", 16, b""),
    provider("AIza", "gcp-key", 35, b"_-"),
    provider("ya29.", "gcp-token", 20, b"_-."),
    provider("GOCSPX-", "gcp-secret", 20, b"_-"),
    provider("ghp_", "github-token", 30, b"_"),
    provider("gho_", "github-token", 30, b"_"),
    provider("ghu_", "github-token", 30, b"_"),
    provider("ghs_", "github-token", 30, b"_"),
    provider("ghr_", "github-token", 30, b"_"),
    provider("github_pat_", "github-token", 30, b"_"),
    provider("glpat-", "gitlab-token", 20, b"_-."),
    provider("glrt-", "gitlab-token", 20, b"_-."),
    provider("gldt-", "gitlab-token", 20, b"_-."),
    provider("glcbt-", "gitlab-token", 20, b"_-."),
    provider("glptt-", "gitlab-token", 20, b"_-."),
    provider("glsoat-", "gitlab-token", 20, b"_-."),
    provider("glft-", "gitlab-token", 20, b"_-."),
    provider("xoxb-", "slack-token", 16, b"-"),
    provider("xoxp-", "slack-token", 16, b"-"),
    provider("xoxa-", "slack-token", 16, b"-"),
    provider("xoxr-", "slack-token", 16, b"-"),
    provider("xoxs-", "slack-token", 16, b"-"),
    provider("xoxe.", "slack-token", 16, b"-."),
    provider("xapp-", "slack-token", 16, b"-"),
    provider("hooks.slack.com/services/", "slack-webhook", 20, b"/"),
    provider("/api/webhooks/", "discord-webhook", 40, b"/_-"),
    provider("sk_live_", "stripe-key", 16, b"_"),
    provider("sk_test_", "stripe-key", 16, b"_"),
    provider("rk_live_", "stripe-key", 16, b"_"),
    provider("rk_test_", "stripe-key", 16, b"_"),
    provider("whsec_", "stripe-key", 16, b"+/="),
    provider("npm_", "npm-token", 36, b""),
    provider("pypi-AgE", "pypi-token", 40, b"_-"),
    provider("hvs.", "vault-token", 20, b"_-"),
    provider("hvb.", "vault-token", 20, b"_-"),
    provider("hvr.", "vault-token", 20, b"_-"),
    provider("AGE-SECRET-KEY-1", "age-key", 40, b""),
    provider("AGE-SECRET-KEY-PQ-1", "age-key", 40, b""),
    provider("sk-ant-", "api-key", 20, b"_-"),
    provider("sk-proj-", "api-key", 20, b"_-"),
    provider("sk-svcacct-", "api-key", 20, b"_-"),
    provider("SG.", "sendgrid-key", 40, b"_-."),
    provider("dop_v1_", "digitalocean-token", 40, b""),
    provider("dckr_pat_", "docker-token", 20, b"_-"),
    provider("shpat_", "shopify-token", 30, b""),
    provider("hf_", "huggingface-token", 30, b""),
    provider("glc_", "grafana-token", 30, b"_+/="),
    provider("glsa_", "grafana-token", 30, b"_"),
    provider("NRAK-", "newrelic-key", 20, b""),
    provider("tskey-", "tailscale-key", 16, b"-"),
    provider("ATATT3", "atlassian-token", 40, b"_-="),
    provider("rubygems_", "rubygems-token", 40, b""),
    provider("sntrys_", "sentry-token", 40, b"_=+/"),
    provider("xkeysib-", "brevo-key", 40, b"-"),
    provider("lin_api_", "linear-key", 30, b""),
    provider("dapi", "databricks-token", 32, b"-"),
];

/// The end of a provider's token that begins at `at`; for web hooks the path alone is the secret.
pub(super) fn provider_range(bytes: &[u8], at: usize, provider: &Provider) -> Option<(usize, usize)> {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || provider.signs.contains(byte);
    let hook = provider.prefix.contains('/');
    let inside =
        at.checked_sub(1).is_some_and(|last| bytes[last].is_ascii_alphanumeric() || bytes[last] == b'_');
    let after = at + provider.prefix.len();
    // `\nAKIA...` in a written string is not a longer word.
    let written = at >= 2 && bytes[at - 2] == b'\\' && matches!(bytes[at - 1], b'n' | b't' | b'r');
    if inside && !hook && !written {
        return None;
    }
    let length = bytes[after..].iter().take_while(|byte| word(byte)).count();
    let tail = &bytes[after..after + length];
    let fixed = match provider.rule {
        "aws-access-key" => length == provider.least && tail.iter().all(|byte| !byte.is_ascii_lowercase()),
        "databricks-token" => tail[..length.min(32)].iter().all(u8::is_ascii_hexdigit),
        // Forty lower-case letters are a name, not a token.
        _ => tail.iter().any(u8::is_ascii_digit) || tail.iter().any(u8::is_ascii_uppercase),
    };
    let start = if hook { after } else { at };
    (length >= provider.least && fixed).then_some((start, after + length))
}

/// The end of a JSON web token (signed or encrypted, whole or cut) that begins at `at`.
pub(super) fn jwt_end(bytes: &[u8], at: usize) -> Option<usize> {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let written = at >= 2 && bytes[at - 2] == b'\\' && matches!(bytes[at - 1], b'n' | b't' | b'r');
    if at.checked_sub(1).is_some_and(|last| word(&bytes[last])) && !written {
        return None;
    }
    // A header is small; one that is longer than this is not read.
    let header = bytes[at..].iter().take(4096).take_while(|byte| word(byte)).count();
    let decoded = URL_SAFE_NO_PAD.decode(&bytes[at..at + header]).ok()?;
    let header_json: serde_json::Value = serde_json::from_slice(&decoded).ok()?;
    header_json.get("alg")?;
    let length = bytes[at..].iter().take_while(|byte| word(byte) || **byte == b'.').count();
    let token = &bytes[at..at + length];
    Some(at + token.len() - token.iter().rev().take_while(|byte| **byte == b'.').count())
}

/// The range of a password hash that begins at `at` (crypt(5), PHC string format, LDAP).
pub(super) fn hash_end(bytes: &[u8], at: usize, prefix: &str) -> Option<usize> {
    let length = bytes[at..]
        .iter()
        .take(1024)
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"$./+=,-_{}@".contains(byte))
        .count();
    let body = &bytes[at + prefix.len()..at + length];
    let parts = body.iter().filter(|byte| **byte == b'$').count();
    let least = match prefix {
        "$argon2" | "$scrypt$" | "$pbkdf2" | "SCRAM-SHA-256$" | "pbkdf2_sha256$" => 30,
        "{SSHA" | "{SHA" | "{CRYPT}" => 16,
        _ => 22,
    };
    (body.len() >= least && (parts > 0 || !matches!(prefix, "$1$" | "$5$" | "$6$"))).then_some(at + length)
}

pub(super) const HASHES: [&str; 16] = [
    "$argon2",
    "$2a$",
    "$2b$",
    "$2y$",
    "$1$",
    "$5$",
    "$6$",
    "$7$",
    "$y$",
    "$gy$",
    "$scrypt$",
    "$pbkdf2",
    "SCRAM-SHA-256$",
    "pbkdf2_sha256$",
    "{SSHA",
    "{CRYPT}",
];

/// Whether a word is `user:password` in base64, as HTTP basic authentication sends it.
pub(super) fn is_basic(word: &str) -> bool {
    let decoded = STANDARD.decode(word).or_else(|_| URL_SAFE_NO_PAD.decode(word.trim_end_matches('=')));
    decoded.is_ok_and(|bytes| bytes.contains(&b':') && bytes.iter().all(|byte| *byte >= 0x20))
}

/// The password hash of a line of shadow(5): nine fields, of which the third is a day.
pub(super) fn shadow_hash(line: &str) -> Option<(usize, usize)> {
    let fields: Vec<&str> = line.trim_end().split(':').take(10).collect();
    let [name, hash, day, ..] = fields.as_slice() else { return None };
    let real = hash.len() >= 8 && !hash.starts_with(['*', '[']) && hash.trim_start_matches('!').len() >= 8;
    let shadow = fields.len() == 9
        && !name.is_empty()
        && !name.contains(' ')
        && day.bytes().all(|byte| byte.is_ascii_digit());
    (shadow && real && !hash.contains(' ')).then_some((name.len() + 1, name.len() + 1 + hash.len()))
}
