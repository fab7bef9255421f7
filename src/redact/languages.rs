//! Names of passwords and keys that are more than one word, or of other languages than English.

use Certainty::{Likely, Possible, Sure};

use super::key_names::{Certainty, Telling};

/// Words in lower case, as they stand in running text, and what they tell.
pub(super) const WORDS: [(&str, Certainty); 102] = [
    // German, Dutch, Swedish, Norwegian, Danish, Finnish, Icelandic.
    ("passwort", Sure),
    ("kennwort", Sure),
    ("losungswort", Sure),
    ("zugangscode", Likely),
    ("zugangsdaten", Likely),
    ("geheimer schlüssel", Likely),
    ("geheimnis", Possible),
    ("privater schlüssel", Likely),
    ("wachtwoord", Sure),
    ("geheime sleutel", Likely),
    ("toegangscode", Likely),
    ("lösenord", Sure),
    ("losenord", Sure),
    ("passord", Sure),
    ("adgangskode", Sure),
    ("kodeord", Sure),
    ("salasana", Sure),
    ("lykilorð", Sure),
    // French.
    ("mot de passe", Sure),
    ("motdepasse", Sure),
    ("mdp", Sure),
    ("clé secrète", Likely),
    ("cle secrete", Likely),
    ("clé privée", Likely),
    ("clé d'api", Likely),
    ("clé api", Likely),
    ("jeton", Possible),
    ("jeton d'accès", Likely),
    ("phrase secrète", Sure),
    // Spanish, Catalan, Portuguese, Galician.
    ("contraseña", Sure),
    ("contrasena", Sure),
    ("contrasenya", Sure),
    ("clave secreta", Likely),
    ("clave privada", Likely),
    ("clave de acceso", Likely),
    ("clave", Possible),
    ("senha", Sure),
    ("palavra-passe", Sure),
    ("palavra passe", Sure),
    ("contrasinal", Sure),
    ("chave secreta", Likely),
    ("chave privada", Likely),
    ("chave de api", Likely),
    // Italian, Romanian, Turkish, Latvian.
    ("parola d'ordine", Sure),
    ("parola chiave", Possible),
    ("parola", Likely),
    ("parole", Possible),
    ("chiave segreta", Likely),
    ("chiave privata", Likely),
    ("şifre", Sure),
    ("sifre", Likely),
    ("gizli anahtar", Likely),
    ("slaptažodis", Sure),
    // Polish, Czech, Slovak, Slovene, Croatian, Hungarian.
    ("hasło", Sure),
    ("haslo", Sure),
    ("tajny klucz", Likely),
    ("klucz tajny", Likely),
    ("heslo", Sure),
    ("geslo", Sure),
    ("lozinka", Sure),
    ("zaporka", Sure),
    ("jelszó", Sure),
    ("jelszo", Sure),
    // Russian, Ukrainian, Bulgarian, Greek.
    ("пароль", Sure),
    ("парола", Sure),
    ("секретный ключ", Likely),
    ("секретний ключ", Likely),
    ("секрет", Possible),
    ("токен", Likely),
    ("ключ api", Likely),
    ("κωδικός πρόσβασης", Sure),
    ("κωδικός", Likely),
    // Arabic, Hebrew, Persian, Hindi, Thai, Vietnamese, Indonesian.
    ("كلمة المرور", Sure),
    ("كلمة السر", Sure),
    ("رمز عبور", Sure),
    ("סיסמה", Sure),
    ("סיסמא", Sure),
    ("पासवर्ड", Sure),
    ("รหัสผ่าน", Sure),
    ("mật khẩu", Sure),
    ("kata sandi", Sure),
    // Names of a secret in English that are more than one word.
    ("pin code", Likely),
    ("seed phrase", Sure),
    ("recovery phrase", Sure),
    ("totp seed", Likely),
    ("otp seed", Likely),
    ("unseal key", Likely),
    ("erlang cookie", Sure),
    ("magic cookie", Likely),
    ("recovery code", Likely),
    ("backup code", Likely),
    // Chinese, Japanese, Korean.
    ("密码", Sure),
    ("密碼", Sure),
    ("口令", Sure),
    ("密钥", Likely),
    ("密鑰", Likely),
    ("令牌", Likely),
    ("パスワード", Sure),
    ("秘密鍵", Likely),
    ("비밀번호", Sure),
    ("암호", Likely),
    ("비밀키", Likely),
];

/// A word as it begins lines and headings: in lower case, with a capital, in capitals.
pub(super) fn spellings(word: &str) -> Vec<String> {
    let mut first = word.chars();
    let capital = first.next().map(|letter| letter.to_uppercase().chain(first).collect::<String>());
    let mut all = vec![word.to_owned(), word.to_uppercase()];
    all.extend(capital);
    all.sort();
    all.dedup();
    all
}

/// What the words of a name tell, which are in lower case and divided by blanks.
pub(super) fn telling(words: &str) -> Option<Telling> {
    let (_, certainty) = WORDS.iter().find(|(word, _)| {
        words.strip_suffix(word).is_some_and(|before| before.is_empty() || before.ends_with(' '))
    })?;
    Some(told(*certainty))
}

pub(super) fn told(certainty: Certainty) -> Telling {
    let rule = if certainty == Sure { "password" } else { "secret" };
    Telling { rule, certainty }
}
