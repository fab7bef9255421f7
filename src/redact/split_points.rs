//! Where a text may be divided without dividing what is searched for.

use super::{OVERLAP_BYTES, Redactor};

impl Redactor {
    /// Bytes of the longest form of a value that is searched for.
    pub const LONGEST_FORM: usize = OVERLAP_BYTES;

    /// The last place up to `at` that is not inside a value seen so far, in any encoded form; `at` itself when a value
    /// fills all before it. Behind `at` so much text must follow as the longest form has, or all there is.
    pub fn between_values(&self, text: &[u8], at: usize) -> usize {
        let Some(search) = self.vault.search() else { return at };
        let from = at.saturating_sub(OVERLAP_BYTES);
        let to = at.saturating_add(OVERLAP_BYTES).min(text.len());
        let places = search.places(&text[from..to]);
        let across = places.iter().find(|(span, _)| from + span.start < at && from + span.end > at);
        across.map(|(span, _)| from + span.start).filter(|&start| start > 0).unwrap_or(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;

    #[test]
    fn a_known_value_is_never_divided() {
        let redactor = Redactor::new([1; 32]);
        let text = b"and then canary-4711-x was it";
        assert_eq!(redactor.between_values(text, 12), 12, "nothing is known yet");
        redactor.redact(Shape::Log, "password=canary-4711-x");
        let places = [8, 9, 10, 21, 22, 23].map(|at| redactor.between_values(text, at));
        assert_eq!(places, [8, 9, 9, 9, 22, 23]);
        assert_eq!(redactor.between_values(b"canary-4711-x", 5), 5, "nowhere before it");
    }
}
