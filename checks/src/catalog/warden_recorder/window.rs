//! The part of a recording that is looked at, on a time line that no step of the clock bends.

use warden_host::recorder::Recording;

/// Spans that a chart's points stand for, in seconds: the least of them holds a sample or two.
const STEPS: [i64; 5] = [20, 60, 120, 300, 600];
/// Points of a chart: more than can be told apart on a page.
pub const POINTS: i64 = 300;

pub struct Window<'a> {
    pub recording: &'a Recording,
    ages: &'a [i64],
    first: usize,
    now: i64,
    /// Seconds for a point of a chart.
    pub step: i64,
}

/// A time in which something went on without a break.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    pub seconds: i64,
    /// Unix time.
    pub until: i64,
    pub least: f32,
    pub most: f32,
}

/// How the samples within a point of a chart become one.
#[derive(Clone, Copy, Debug)]
pub enum Thin {
    Average,
    Least,
    Most,
}

impl<'a> Window<'a> {
    /// The samples of the last `seconds` before `now`, of which `ages` are the ages; nothing when there are none.
    pub fn new(recording: &'a Recording, ages: &'a [i64], now: i64, seconds: i64) -> Option<Window<'a>> {
        let first = ages.iter().position(|age| *age <= seconds)?;
        let step = STEPS.into_iter().find(|step| ages[first] / step < POINTS).unwrap_or(STEPS[4]);
        Some(Window { recording, ages, first, now, step })
    }

    /// Which samples: positions in the recording.
    pub fn samples(&self) -> std::ops::Range<usize> {
        self.first..self.ages.len()
    }

    /// When a sample was taken, as the clock is now.
    pub fn time(&self, sample: usize) -> i64 {
        self.now - self.age(sample)
    }

    pub fn age(&self, sample: usize) -> i64 {
        self.ages.get(sample).copied().unwrap_or(0)
    }

    pub fn newest_age(&self) -> i64 {
        self.ages.last().copied().unwrap_or(0)
    }

    pub fn begins(&self) -> i64 {
        self.time(self.first)
    }

    pub fn ends(&self) -> i64 {
        self.now - self.newest_age()
    }

    /// Pauses longer than `limit` between two samples.
    pub fn gaps(&self, limit: i64) -> Vec<Stretch> {
        let pause = |sample: usize| {
            let seconds = self.age(sample - 1) - self.age(sample);
            Stretch { seconds, until: self.time(sample), least: 0.0, most: 0.0 }
        };
        self.samples().skip(1).map(pause).filter(|gap| gap.seconds > limit).collect()
    }

    /// Seconds that the samples cover.
    pub fn recorded(&self, gap: i64) -> i64 {
        let missing: i64 = self.gaps(gap).iter().map(|gap| gap.seconds).sum();
        self.age(self.first) - self.newest_age() - missing
    }

    /// The longest time in which every sample of `column` was as `is`; a gap ends it, and so does a sample without.
    pub fn longest(&self, column: &str, gap: i64, is: impl Fn(f32) -> bool) -> Option<Stretch> {
        let values = self.recording.figure(column)?;
        let mut longest: Option<Stretch> = None;
        let mut began: Option<(usize, f32, f32)> = None;
        for sample in self.samples() {
            if sample > self.first && self.age(sample - 1) - self.age(sample) > gap {
                began = None;
            }
            let Some(value) = values.get(sample).copied().filter(|value| is(*value)) else {
                began = None;
                continue;
            };
            let (from, least, most) = began.map_or((sample, value, value), |(from, least, most)| {
                (from, least.min(value), most.max(value))
            });
            began = Some((from, least, most));
            let seconds = self.age(from) - self.age(sample);
            if longest.is_none_or(|longest| seconds > longest.seconds) {
                longest = Some(Stretch { seconds, until: self.time(sample), least, most });
            }
        }
        longest
    }

    /// A value for each point of a chart, from the first sample until now.
    pub fn thin(&self, column: &str, how: Thin) -> Vec<Option<f64>> {
        let count = usize::try_from(self.age(self.first) / self.step).unwrap_or(0) + 1;
        let mut points: Vec<(f64, u32)> = vec![(0.0, 0); count];
        let values = self.recording.figure(column).unwrap_or_default();
        for sample in self.samples() {
            let Some(value) =
                values.get(sample).map(|value| f64::from(*value)).filter(|value| value.is_finite())
            else {
                continue;
            };
            let at = usize::try_from((self.age(self.first) - self.age(sample)) / self.step).unwrap_or(0);
            let Some((sum, seen)) = points.get_mut(at) else { continue };
            *sum = match (how, *seen) {
                (_, 0) => value,
                (Thin::Average, _) => *sum + value,
                (Thin::Least, _) => sum.min(value),
                (Thin::Most, _) => sum.max(value),
            };
            *seen += 1;
        }
        let told = |(sum, seen): (f64, u32)| match (how, seen) {
            (_, 0) => None,
            (Thin::Average, seen) => Some(sum / f64::from(seen)),
            (Thin::Least | Thin::Most, _) => Some(sum),
        };
        points.into_iter().map(told).collect()
    }

    /// The middle of the n-th point, in Unix time.
    pub fn moment(&self, point: usize) -> i64 {
        self.begins() + self.step * i64::try_from(point).unwrap_or(0) + self.step / 2
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn recording(samples: &[(i64, &str)]) -> Recording {
        let mut text = "#1 b\ntime\tup\tload\n".to_owned();
        for (at, load) in samples {
            writeln!(text, "{at}\t{at}\t{load}").unwrap();
        }
        let mut recording = Recording::default();
        recording.read(&text);
        recording
    }

    #[test]
    fn points_hold_the_average_the_least_or_the_most_and_a_gap_holds_nothing() {
        let recording = recording(&[(0, "1"), (10, "3"), (20, "5"), (30, ""), (100, "7")]);
        let ages = recording.ages((110, 110), None);
        let window = Window::new(&recording, &ages, 1110, 86_400).unwrap();
        assert_eq!((window.step, window.begins(), window.ends()), (20, 1000, 1100));
        let expected = |first| [Some(first), Some(5.0), None, None, None, Some(7.0)];
        assert_eq!(window.thin("load", Thin::Average), expected(2.0));
        assert_eq!(window.thin("load", Thin::Least), expected(1.0));
        assert_eq!(window.thin("load", Thin::Most), expected(3.0));
        assert_eq!(window.moment(1), 1030);
        assert_eq!(
            window.gaps(60).iter().map(|gap| (gap.seconds, gap.until)).collect::<Vec<_>>(),
            [(70, 1100)]
        );
        assert_eq!(window.recorded(60), 30);
    }

    #[test]
    fn a_day_is_drawn_in_no_more_points_than_can_be_told_apart() {
        for seconds in [0, 30, 5_999, 6_000, 40_000, 86_400] {
            let recording = recording(&[(0, "1"), (seconds, "1")]);
            let ages = recording.ages((seconds, seconds), None);
            let window = Window::new(&recording, &ages, 0, 86_400).unwrap();
            let points = window.thin("load", Thin::Most).len();
            assert!(points <= POINTS as usize, "{seconds}: {points}");
        }
        let old = recording(&[(0, "1")]);
        assert!(Window::new(&old, &old.ages((90_000, 90_000), None), 0, 86_400).is_none());
    }

    #[test]
    fn a_stretch_is_broken_by_a_sample_that_is_not_so_and_by_a_gap() {
        let recording = recording(&[
            (0, "9"),
            (10, "8"),
            (20, "1"),
            (30, "9"),
            (40, "7"),
            (50, "9"),
            (200, "9"),
            (210, "9"),
        ]);
        let ages = recording.ages((210, 210), None);
        let window = Window::new(&recording, &ages, 210, 86_400).unwrap();
        let longest = window.longest("load", 60, |load| load > 5.0).unwrap();
        assert_eq!(longest, Stretch { seconds: 20, until: 50, least: 7.0, most: 9.0 });
        assert_eq!(window.longest("load", 60, |load| load > 10.0), None);
        assert_eq!(window.longest("cpu", 60, |_| true), None);
    }
}
