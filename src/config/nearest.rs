//! What somebody may have meant by a name that is not known.

/// The known name that is nearest to `name`, if one is near: a slip or two of the keyboard away, the beginning of it, or
/// without its first words.
pub fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', ' ', '.'], "_");
    let wanted = plain(name);
    let near = known.into_iter().filter_map(|one| {
        let candidate = plain(one);
        let (short, long) =
            if wanted.len() < candidate.len() { (&wanted, &candidate) } else { (&candidate, &wanted) };
        let is_part = short.len() >= 4
            && (long.starts_with(short.as_str())
                || long.strip_suffix(short.as_str()).is_some_and(|rest| rest.ends_with('_')));
        let steps = if is_part { 1 } else { distance(&wanted, &candidate) };
        (steps <= 1.max(short.len() / 3)).then_some((steps, one))
    });
    near.min_by_key(|(steps, _)| *steps).map(|(_, one)| one)
}

/// Letters to put in, take out, change or swap with the next, to make one of the other (Damerau and Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let mut steps = (rows[i][j] + usize::from(a != b)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                steps = steps.min(rows[i - 1][j - 1] + 1);
            }
            row.push(steps);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known =
            ["agent", "supervisor", "units", "heartbeat_seconds", "tls_key", "tls_certificate", "log"];
        let near = |name: &str| nearest(name, known);
        assert_eq!(near("agnet"), Some("agent"));
        assert_eq!(near("Agents"), Some("agent"));
        assert_eq!(near("superviser"), Some("supervisor"));
        assert_eq!(near("heartbeat"), Some("heartbeat_seconds"));
        assert_eq!(near("tls-certificate"), Some("tls_certificate"));
        assert_eq!(near("certificate"), Some("tls_certificate"));
        assert_eq!(near("tls_cert"), Some("tls_certificate"));
        assert_eq!(near("tls_kye"), Some("tls_key"));
        for other in ["", "x", "database", "no-such-key", "listen"] {
            assert_eq!(near(other), None, "{other}");
        }
    }
}
