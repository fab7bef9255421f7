//! Finds for a line of one source its counterpart in another: the runtimes write each line to a file and to stdout.

use std::collections::BTreeMap;

use warden_host::{Level, LogLine};

/// The two sinks of a line stamp it one after the other; a full disk can hold one of them up.
pub(super) const REPEATED_US: i64 = 2_000_000;
/// A line that masking changed in one place and not in the other is known by its moment.
pub(super) const SAME_EVENT_US: i64 = 2_000;

/// Lines that have found no counterpart yet: their times, by level and text or by level and origin.
pub(super) struct Unmatched<'a> {
    lines: &'a [LogLine],
    by_text: BTreeMap<(Option<Level>, &'a str), Vec<usize>>,
    by_origin: BTreeMap<(Option<Level>, &'a str), Vec<usize>>,
    taken: Vec<bool>,
}

impl<'a> Unmatched<'a> {
    pub(super) fn of(lines: &'a [LogLine]) -> Unmatched<'a> {
        let (mut by_text, mut by_origin) =
            (BTreeMap::<_, Vec<usize>>::new(), BTreeMap::<_, Vec<usize>>::new());
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.at_us.is_some()) {
            by_text.entry((line.level, line.text.as_str())).or_default().push(at);
            by_origin.entry((line.level, line.origin.as_str())).or_default().push(at);
        }
        Unmatched { lines, by_text, by_origin, taken: vec![false; lines.len()] }
    }

    /// Takes the nearest line that says the same within `reach`, if there is one.
    pub(super) fn take(&mut self, line: &LogLine, reach: i64, by_text: bool) -> bool {
        let Some(at_us) = line.at_us else { return false };
        let candidates = match by_text {
            true => self.by_text.get(&(line.level, line.text.as_str())),
            false => self.by_origin.get(&(line.level, line.origin.as_str())),
        };
        let Some(candidates) = candidates else { return false };
        let time = |at: usize| self.lines[at].at_us.unwrap_or(i64::MIN);
        // Oldest first, like the lines themselves.
        let from = candidates.partition_point(|&at| time(at) < at_us.saturating_sub(reach));
        let near =
            candidates[from..].iter().copied().take_while(|&at| time(at) <= at_us.saturating_add(reach));
        let nearest = near.filter(|&at| !self.taken[at]).min_by_key(|&at| time(at).abs_diff(at_us));
        if let Some(at) = nearest {
            self.taken[at] = true;
        }
        nearest.is_some()
    }
}
