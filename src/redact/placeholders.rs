//! What stands where a secret stood: `[secret:RULE:DIGITS]`.

use hex::encode as hex;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

pub(super) const OPENING: &str = "[secret:";
/// 32 bits: two of a bundle's some hundred secrets share their digits once in 100,000 bundles.
const DIGITS: usize = 8;
/// Longest name of a rule, so that a token is recognized without looking far.
const RULE_BYTES: usize = 24;

#[derive(Clone)]
pub(super) struct Tokens {
    key: [u8; 32],
}

impl Tokens {
    pub(super) fn new(key: [u8; 32]) -> Tokens {
        Tokens { key }
    }

    /// Equal values have equal digits, whatever the rule that found them.
    pub(super) fn token(&self, rule: &str, value: &str) -> String {
        format!("{OPENING}{rule}:{}]", self.digits(value))
    }

    pub(super) fn digits(&self, value: &str) -> String {
        // HMAC takes keys of any length; without one there is still a token, only not a keyed one.
        let mut digits = match Hmac::<Sha256>::new_from_slice(&self.key) {
            Ok(mut mac) => {
                mac.update(value.as_bytes());
                hex(mac.finalize().into_bytes())
            }
            Err(_) => "0".repeat(DIGITS),
        };
        digits.truncate(DIGITS);
        digits
    }
}

/// Length of the token that `text` starts with.
pub(super) fn token_length(text: &[u8]) -> Option<usize> {
    let rest = text.strip_prefix(OPENING.as_bytes())?;
    let rule = rest.iter().take(RULE_BYTES + 1).position(|byte| *byte == b':')?;
    if rule == 0
        || !rest[..rule].iter().all(|byte| byte.is_ascii_lowercase() || b"-0123456789".contains(byte))
    {
        return None;
    }
    let digits = rest.get(rule + 1..rule + 1 + DIGITS)?;
    let hex = digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (hex && rest.get(rule + 1 + DIGITS) == Some(&b']')).then_some(OPENING.len() + rule + 1 + DIGITS + 1)
}

/// Whether `text` is one token and nothing else but blanks.
pub(super) fn is_token(text: &str) -> bool {
    let text = text.trim();
    token_length(text.as_bytes()) == Some(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_get_equal_digits_and_other_keys_other_digits() {
        let one = Tokens::new([1; 32]);
        let token = one.token("jwt", "a value");
        assert!(is_token(&token), "{token}");
        assert_eq!(token, one.token("jwt", "a value"));
        assert_eq!(token[12..], one.token("bearer", "a value")[15..]);
        assert_ne!(token, one.token("jwt", "another value"));
        assert_ne!(token, Tokens::new([2; 32]).token("jwt", "a value"));
    }

    #[test]
    fn only_the_exact_form_is_a_token() {
        for text in [
            "[secret:",
            "[secret::01234567]",
            "[secret:a:0123456]",
            "[secret:a:0123456g]",
            "[secret:A:01234567]",
        ] {
            assert_eq!(token_length(text.as_bytes()), None, "{text}");
        }
        assert_eq!(token_length(b"[secret:a:01234567] and more"), Some(19));
        assert!(!is_token("[secret:a:01234567] and more"));
    }
}
