//! Whether a word looks like a secret when its name alone does not decide.

/// Shortest word that is judged by its characters: shorter ones are too often ordinary names.
const RANDOM_BYTES: usize = 20;
/// Bits per character: English words stay below, 20 random letters and digits lie at 3.9 on average.
const RANDOM_BITS: f64 = 3.4;
/// Longest part of a word that is looked at.
const LOOK_BYTES: usize = 256;

/// A word that was drawn, not written: long, of mixed kinds and evenly spread.
pub(super) fn is_random(word: &str) -> bool {
    let bytes = &word.as_bytes()[..word.len().min(LOOK_BYTES)];
    if bytes.len() < RANDOM_BYTES || is_identifier(word) {
        return false;
    }
    let plain = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/=_-.~!@#$%^&*".contains(byte));
    let kinds = [u8::is_ascii_lowercase, u8::is_ascii_uppercase, u8::is_ascii_digit]
        .iter()
        .filter(|kind| bytes.iter().any(kind))
        .count();
    // A path or a dotted name is words, however many they are.
    let breaks = bytes.iter().filter(|byte| b"/.-_".contains(byte)).count();
    plain && kinds == 3 && breaks * 6 < bytes.len() && bits(bytes) > RANDOM_BITS
}

/// Could be a password or a token somebody chose: mixed letters and digits, signs among them, or random.
pub(super) fn is_secretish(word: &str) -> bool {
    if word.contains("**") {
        return word.chars().any(char::is_alphanumeric);
    }
    if is_identifier(word) || word.len() < 8 {
        return false;
    }
    if is_random(word) {
        return true;
    }
    if word.starts_with('/') || word.contains("::") {
        return false;
    }
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let letters = word.bytes().filter(u8::is_ascii_alphabetic).count();
    (digits >= 2 && letters >= 2) || (digits >= 1 && letters >= 8 && word.len() >= 12)
}

/// UUIDs, hashes in hexadecimal, numbers, times, addresses, versions: names of things, not keys to them.
pub(super) fn is_identifier(word: &str) -> bool {
    let hashes = [
        "sha256:", "SHA256:", "sha512:", "sha384:", "sha1:", "md5:", "MD5:", "sha256-", "sha384-", "sha512-",
    ];
    if hashes.iter().any(|hash| word.starts_with(hash)) || word.starts_with("AAAA") {
        return true;
    }
    let hex = word.strip_prefix("0x").unwrap_or(word);
    hex.bytes().all(|byte| byte.is_ascii_hexdigit() || b"-:.".contains(&byte))
        || word.bytes().all(|byte| byte.is_ascii_digit() || b"-:.TZ+,/_ ".contains(&byte))
}

/// Shannon entropy in bits per byte.
fn bits(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let length = bytes.len() as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / length)
        .map(|share| -share * share.log2())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_thing_is_not_random() {
        for word in [
            "550e8400-e29b-41d4-a716-446655440000",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "2026-11-21T10:30:53.843359Z",
            "/usr/lib/x86_64-linux-gnu/libSystemd.so.0",
            "iggy_connectors::configs::connectors",
            "SHA256:q0Zr1q5cYvV3m3o0wq4m7n8b9v0c1x2z3a4s5d6f7g8",
        ] {
            assert!(!is_random(word) && !is_secretish(word), "{word}");
        }
        assert!(is_random("koQbvRiYVCfTnVrDctFCdARdE1W8jnvYmzSbp"));
        assert!(is_secretish("igg***") && !is_secretish("******"));
    }
}
