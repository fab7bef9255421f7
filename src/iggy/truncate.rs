//! An inspection in the length that a report has room for: what is damaged stays, of the rest the newest does.

use super::report::{Inspection, Offset, Partition};

/// Partitions told. A report of so many has about 1 MiB, and its page still opens at once.
const PARTITIONS: usize = 400;
/// Segments told of all partitions together, besides those that are damaged.
const SEGMENTS: usize = 1600;
/// Of one partition: its newest, and so many of its damaged ones.
const SEGMENTS_EACH: usize = 32;
/// Consumers and groups told of all partitions together, those that are behind most.
const OFFSETS: usize = 1600;
const OFFSETS_EACH: usize = 64;

impl Inspection {
    /// What is left out is counted where it stood.
    pub fn shortened(mut self) -> Inspection {
        let all =
            || self.streams.iter().flat_map(|stream| &stream.topics).flat_map(|topic| &topic.partitions);
        let count = all().count();
        let mut ranked: Vec<(bool, usize)> =
            all().enumerate().map(|(number, partition)| (!is_damaged(partition), number)).collect();
        ranked.sort_unstable();
        ranked.truncate(PARTITIONS);
        let kept: std::collections::BTreeSet<usize> = ranked.into_iter().map(|(_, number)| number).collect();
        let segments_each = (SEGMENTS / kept.len().max(1)).clamp(1, SEGMENTS_EACH);
        let offsets_each = (OFFSETS / kept.len().max(1)).clamp(1, OFFSETS_EACH);

        let mut number = 0;
        for topic in self.streams.iter_mut().flat_map(|stream| &mut stream.topics) {
            topic.partitions.retain_mut(|partition| {
                number += 1;
                let stays = kept.contains(&(number - 1));
                if stays {
                    shorten(partition, segments_each, offsets_each);
                }
                stays
            });
        }
        if count > kept.len() {
            for stream in &mut self.streams {
                stream.topics.retain(|topic| !topic.partitions.is_empty());
            }
            self.streams.retain(|stream| !stream.topics.is_empty());
        }
        self.partitions_left_out = (count - kept.len()) as u64;
        self
    }
}

fn is_damaged(partition: &Partition) -> bool {
    partition.segments.iter().any(|segment| segment.damages > 0)
}

fn shorten(partition: &mut Partition, segments_each: usize, offsets_each: usize) {
    let count = partition.segments.len();
    let (mut at, mut damaged) = (0, 0);
    partition.segments.retain(|segment| {
        at += 1;
        damaged += usize::from(segment.damages > 0);
        at + segments_each > count || (segment.damages > 0 && damaged <= SEGMENTS_EACH)
    });
    partition.segments_left_out = (count - partition.segments.len()) as u64;
    for offsets in [&mut partition.consumers, &mut partition.groups] {
        partition.offsets_left_out += offsets.len().saturating_sub(offsets_each) as u64;
        furthest_behind(offsets, offsets_each);
    }
}

/// Keeps the order of those that stay.
fn furthest_behind(offsets: &mut Vec<Offset>, most: usize) {
    if offsets.len() <= most {
        return;
    }
    let mut lags: Vec<Option<u64>> = offsets.iter().map(|offset| offset.lag).collect();
    lags.sort_unstable_by(|one, other| other.cmp(one));
    let least = lags[most - 1];
    let mut ties = most - lags.iter().filter(|lag| **lag > least).count();
    offsets.retain(|offset| {
        let is_tie = offset.lag == least && ties > 0;
        ties -= usize::from(is_tie);
        offset.lag > least || is_tie
    });
}

#[cfg(test)]
mod tests {
    use super::super::report::{Generation, Scan, Segment, Stream, Topic, Totals, VERSION, Verdict};
    use super::*;

    fn segment(start: u64, damages: u64) -> Segment {
        Segment { start, damages, ..Segment::default() }
    }

    fn inspection(partitions: Vec<Partition>) -> Inspection {
        Inspection {
            version: VERSION,
            path: String::new(),
            verdict: Verdict::Sound,
            generation: Generation::Edge,
            problems: Vec::new(),
            problems_left_out: 0,
            totals: Totals::default(),
            scan: Scan::default(),
            superblock: None,
            journal: None,
            checkpoint: None,
            unchecked: Vec::new(),
            streams: vec![Stream {
                id: 1,
                topics: vec![Topic { id: 1, partitions, ..Topic::default() }, Topic::default()],
                ..Stream::default()
            }],
            partitions_left_out: 0,
        }
    }

    #[test]
    fn what_is_damaged_stays_and_what_goes_is_counted() {
        let partition = |id: u64| Partition {
            id,
            segments: (0..40).map(|start| segment(start, u64::from(id == 700 && start == 3))).collect(),
            ..Partition::default()
        };
        let short = inspection((0..1000).map(partition).collect()).shortened();
        let kept = &short.streams[0].topics[0].partitions;
        assert_eq!((kept.len(), short.partitions_left_out), (PARTITIONS, 600));
        assert_eq!((kept[0].id, kept[PARTITIONS - 1].id), (0, 700));
        let starts: Vec<u64> = kept[PARTITIONS - 1].segments.iter().map(|segment| segment.start).collect();
        assert_eq!((starts, kept[PARTITIONS - 1].segments_left_out), (vec![3, 36, 37, 38, 39], 35));
        assert_eq!(short.streams[0].topics.len(), 1);
    }

    #[test]
    fn a_small_one_stays_as_it_is() {
        let offset = |id: u64| Offset { id: id.to_string(), offset: Some(0), lag: Some(id) };
        let partition = Partition { segments: vec![segment(0, 0)], ..Partition::default() };
        let whole = inspection(vec![partition]);
        assert_eq!(whole.clone().shortened(), whole);
        let mut offsets: Vec<Offset> = (0..10).chain(0..10).map(offset).collect();
        furthest_behind(&mut offsets, 5);
        let lags: Vec<_> = offsets.iter().filter_map(|offset| offset.lag).collect();
        assert_eq!(lags, [7, 8, 9, 8, 9]);
    }
}
