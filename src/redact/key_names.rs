//! Which names tell that their value is a secret.

use super::languages;
use super::words::{KEYS, OPEN_TOKENS, PUBLIC_KEYS};

/// How sure a name makes it that its value is a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certainty {
    /// Whatever the value is.
    Sure,
    /// Unless the value is a path, a short number or a placeholder.
    Likely,
    /// Only if the value looks like one.
    Possible,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Telling {
    pub(super) rule: &'static str,
    pub(super) certainty: Certainty,
}

use Certainty::{Likely, Possible, Sure};

/// Last words that say nothing about whether the words before them name a secret.
const DECORATIONS: [&str; 28] = [
    "sha",
    "md",
    "bcrypt",
    "scram",
    "digest",
    "double",
    "hex",
    "base",
    "value",
    "val",
    "plain",
    "plaintext",
    "text",
    "hash",
    "hashed",
    "encrypted",
    "enc",
    "base64",
    "b64",
    "raw",
    "str",
    "data",
    "current",
    "old",
    "new",
    "previous",
    "static",
    "string",
];
/// Words before "credential" of settings that say where one is read from.
const READ_CREDENTIALS: [&str; 2] = ["load", "import"];
const PASSWORDS: [&str; 8] =
    ["password", "passwd", "passwort", "kennwort", "passphrase", "passcode", "userpasswords", "passwords"];
const SHORT_PASSWORDS: [&str; 24] = [
    "authtok",
    "adminpw",
    "userpw",
    "ldappw",
    "pw",
    "psw",
    "pwd",
    "userpwd",
    "rootpw",
    "dbpw",
    "dbpwd",
    "bindpw",
    "requirepass",
    "masterauth",
    "userpass",
    "dbpass",
    "keypass",
    "storepass",
    "rootpass",
    "adminpass",
    "smtppass",
    "mypass",
    "sshpass",
    "mypwd",
];
const JOINED_KEYS: [(&str, &str); 10] = [
    ("apikey", "api-key"),
    ("secretkey", "secret-key"),
    ("privatekey", "private-key"),
    ("accesskey", "access-key"),
    ("accountkey", "secret-key"),
    ("sharedkey", "secret-key"),
    ("encryptionkey", "encryption-key"),
    ("signingkey", "secret-key"),
    ("masterkey", "secret-key"),
    ("authkey", "secret-key"),
];

/// What `name` tells, in any spelling: `api_key`, `Api-Key`, `apiKey`, `http.api_key`, `APIKEY`.
pub(super) fn telling(name: &str) -> Option<Telling> {
    let words = words(name);
    let iggy = words.first().is_some_and(|word| word == "iggy");
    if iggy && words.windows(2).any(|pair| pair[0] == "plugin" && pair[1] == "config") {
        return Some(Telling { rule: "connector-config", certainty: Sure });
    }
    // `--no-password`, `without_token`.
    if words.len() > 1 && matches!(words[0].as_str(), "no" | "without" | "skip" | "disable") {
        return None;
    }
    let mut end = words.len();
    while end > 1 && (DECORATIONS.contains(&words[end - 1].as_str()) || words[end - 1].is_empty()) {
        end -= 1;
    }
    let last = words.get(end.checked_sub(1)?)?.as_str();
    let before = end.checked_sub(2).and_then(|at| words.get(at)).map_or("", String::as_str);
    let tells = |rule, certainty| Some(Telling { rule, certainty });
    if PASSWORDS.iter().any(|password| last.ends_with(password)) || SHORT_PASSWORDS.contains(&last) {
        return tells(if iggy { "iggy-password" } else { "password" }, Sure);
    }
    let written_apart = before == "pass" && matches!(last, "word" | "words" | "phrase" | "code");
    if written_apart {
        return tells(if iggy { "iggy-password" } else { "password" }, Sure);
    }
    if matches!(last, "pass" | "psk" | "rocommunity" | "rwcommunity") {
        return tells("password", Likely);
    }
    if last.ends_with("token") {
        return if OPEN_TOKENS.contains(&before) {
            None
        } else {
            tells(if iggy { "iggy-token" } else { "token" }, Likely)
        };
    }
    if last.ends_with("secret") {
        // `existingSecret`: the name of an object that holds one.
        if before == "existing" {
            return None;
        }
        return tells(if iggy { "iggy-secret" } else { "secret" }, Likely);
    }
    if let Some((_, rule)) = JOINED_KEYS.iter().find(|(joined, _)| last.ends_with(joined)) {
        return tells(rule, Likely);
    }
    if last == "key" && KEYS.contains(&before) {
        return match before {
            "api" | "app" | "application" => tells("api-key", Likely),
            "private" => tells("private-key", Likely),
            "encryption" => tells("encryption-key", Likely),
            "access" => tells("access-key", Likely),
            _ => tells("secret-key", Likely),
        };
    }
    if last == "id" && before == "key" && end >= 3 && matches!(words[end - 3].as_str(), "access" | "private")
    {
        return tells("access-key", Likely);
    }
    match last {
        "credential" | "credentials" if READ_CREDENTIALS.contains(&before) => None,
        "credential" | "credentials" | "creds" => tells("credentials", Likely),
        "tokens" | "secrets" | "jwt" => tells("token", Possible),
        "login" if before == "sonar" => tells("token", Likely),
        "salt" if !before.is_empty() => tells("secret", Likely),
        "pin" | "otp" => tells("pin", Likely),
        "key" if PUBLIC_KEYS.contains(&before) => None,
        "key" | "auth" => tells("secret-key", Possible),
        "signature" | "sig" | "hmac" => tells("signature", Possible),
        "session" | "sessionid" | "phpsessid" | "jsessionid" | "sid" | "cookie" => tells("session", Possible),
        "id" if before == "session" => tells("session", Possible),
        _ => languages::telling(&words.join(" ")),
    }
}

/// What the name of a file tells of what is in it: `/etc/app/db-password.txt`.
pub(super) fn of_file(path: &str) -> Option<Telling> {
    let name = path.rsplit('/').next().filter(|name| name.len() < path.len())?;
    let stem = name.split('.').find(|part| !part.is_empty())?;
    telling(stem).filter(|telling| telling.certainty != Possible)
}

/// What a "key" or "token" tells that a word stands before: `API key`, `message key`, `fencing token`.
pub(super) fn spaced(word: &str, last: &str) -> Spaced {
    let open = if last == "key" { PUBLIC_KEYS.as_slice() } else { OPEN_TOKENS.as_slice() };
    if open.contains(&word) {
        Spaced::Open
    } else if let Some(telling) =
        telling(&format!("{word}_{last}")).filter(|telling| telling.certainty == Likely)
    {
        Spaced::Secret(telling)
    } else {
        Spaced::Unknown
    }
}

pub(super) enum Spaced {
    Secret(Telling),
    /// It opens nothing.
    Open,
    Unknown,
}

/// Lower-case words of a name, split at separators and at the humps of camelCase, without trailing digits.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let characters: Vec<char> = name.chars().collect();
    let mut word = String::new();
    for (at, character) in characters.iter().enumerate() {
        let hump = character.is_uppercase()
            && at > 0
            && (characters[at - 1].is_lowercase()
                || (characters[at - 1].is_uppercase()
                    && characters.get(at + 1).is_some_and(|next| next.is_lowercase())));
        if !character.is_alphanumeric() || hump {
            finish(&mut word, &mut words);
        }
        if character.is_alphanumeric() {
            word.extend(character.to_lowercase());
        }
    }
    finish(&mut word, &mut words);
    words
}

fn finish(word: &mut String, words: &mut Vec<String>) {
    if !word.is_empty() {
        let kept = word.trim_end_matches(|character: char| character.is_ascii_digit());
        // base64 and b64 are words of their own; a number is a word that says nothing.
        words.push(if matches!(word.as_str(), "base64" | "b64") { word.clone() } else { kept.to_owned() });
        word.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_makes_no_difference() {
        for name in
            ["api_key", "API-KEY", "apiKey", "http.api_key", "APIKEY", "x-Api-Key", "api_key_2", "ApiKey"]
        {
            assert_eq!(telling(name), Some(Telling { rule: "api-key", certainty: Likely }), "{name}");
        }
        for name in [
            "password",
            "PGPASSWORD",
            "sslPassword",
            "db.passwd",
            "MYSQL_PWD",
            "new_password1",
            "passwordHash",
        ] {
            assert_eq!(telling(name), Some(Telling { rule: "password", certainty: Sure }), "{name}");
        }
        assert_eq!(telling("IGGY_ROOT_PASSWORD").map(|telling| telling.rule), Some("iggy-password"));
        assert_eq!(
            telling("IGGY_CONNECTORS_SINK_PG_PLUGIN_CONFIG_HOST").map(|telling| telling.rule),
            Some("connector-config")
        );
    }

    #[test]
    fn a_name_about_secrets_is_not_a_name_of_one() {
        for name in [
            "password_min_length",
            "token_count",
            "secret_manager",
            "key_file",
            "monkey",
            "author",
            "passed",
            "public_key",
            "partition_key",
            "next_token",
            "access_token_expiry",
            "bypass",
            "passwordPolicy",
            "secretName",
            "",
            "-",
            "1",
        ] {
            assert_eq!(telling(name), None, "{name}");
        }
    }
}
