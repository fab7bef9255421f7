//! /proc/PID/limits: what a process may use. Source: getrlimit(2), fs/proc/base.c.

/// A row: `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

/// The row called `name` (`Max open files`); absent when there is no such row or it does not parse.
pub fn limit(text: &str, name: &str) -> Option<Limit> {
    let row = text.lines().find_map(|line| line.strip_prefix(name))?;
    let mut words = row.split_ascii_whitespace();
    Some(Limit { soft: value(words.next()?)?, hard: value(words.next()?)? })
}

fn value(word: &str) -> Option<Option<u64>> {
    if word == "unlimited" { Some(None) } else { word.parse().ok().map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_found_by_name_and_unlimited_is_no_number() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 524288               files     \n\
                    Max locked memory         unlimited            unlimited            bytes     \n\
                    Max processes             torn";
        assert_eq!(limit(text, "Max open files"), Some(Limit { soft: Some(1024), hard: Some(524_288) }));
        assert_eq!(limit(text, "Max locked memory"), Some(Limit { soft: None, hard: None }));
        assert_eq!((limit(text, "Max processes"), limit(text, "Max core file size")), (None, None));
    }
}
