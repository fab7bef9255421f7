//! Keeps the worst of all problems: a directory that is damaged throughout has more than anybody reads, or memory
//! has room for.

use std::cmp::Reverse;
use std::io;

use super::problems::unreadable;
use super::report::Problem;

/// Problems told. A directory that is damaged throughout is not told better by more of them.
pub const KEPT: usize = 1000;

#[derive(Default)]
pub struct Problems {
    found: Vec<Problem>,
    left_out: u64,
    damaged: bool,
}

impl Problems {
    pub fn push(&mut self, problem: Problem) {
        self.damaged |= problem.is_damage();
        self.found.push(problem);
        if self.found.len() >= 2 * KEPT {
            self.keep_the_worst();
        }
    }

    /// What could not be read; that the time was over is told elsewhere.
    pub fn unreadable(&mut self, file: &str, error: &io::Error) {
        unreadable(file, error).into_iter().for_each(|problem| self.push(problem));
    }

    pub fn extend(&mut self, problems: Vec<Problem>) {
        problems.into_iter().for_each(|problem| self.push(problem));
    }

    /// The worst, worst first and then by place; how many others there were; and whether any is damage. The same
    /// whatever the order in which they came.
    pub fn finish(mut self) -> (Vec<Problem>, u64, bool) {
        self.keep_the_worst();
        (self.found, self.left_out, self.damaged)
    }

    fn keep_the_worst(&mut self) {
        let position = |problem: &Problem| problem.at.as_ref().map_or(u64::MAX, |at| at.position);
        self.found.sort_by(|one, other| {
            (Reverse(one.severity), &one.file, position(one), &one.kind, &one.text).cmp(&(
                Reverse(other.severity),
                &other.file,
                position(other),
                &other.kind,
                &other.text,
            ))
        });
        self.left_out += self.found.len().saturating_sub(KEPT) as u64;
        self.found.truncate(KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Severity;
    use super::*;

    #[test]
    fn the_worst_stay_whatever_the_order() {
        let problem = |number: u64| {
            let severity = if number.is_multiple_of(3) { Severity::Damage } else { Severity::Note };
            Problem::new(severity, "made-up", format!("{:05}", number % 7000), format!("{number}"), "None.")
        };
        let finish = |numbers: &mut dyn Iterator<Item = u64>| {
            let mut problems = Problems::default();
            numbers.for_each(|number| problems.push(problem(number)));
            problems.finish()
        };
        let (kept, left_out, damaged) = finish(&mut (0..9000));
        assert_eq!((kept.len(), left_out, damaged), (KEPT, 8000, true));
        assert!(kept.iter().all(Problem::is_damage));
        assert!(kept.is_sorted_by_key(|problem| &problem.file));
        assert_eq!(finish(&mut (0..9000).rev()).0, kept);
    }
}
