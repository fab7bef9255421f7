//! The segments of 0.8: messages, one after the other.

use std::io;

use super::{End, Fault, RESUMES, Report, Scanned, Stretch, What, search};
use crate::buffered_reader::{Source, Window};
use crate::legacy_message::{HEADER, Header};

/// Messages between two reports on how far it is.
const REPORT_EVERY: u64 = 1024;
/// Behind damage, a message may carry an offset this much higher than the last one seen, where no next segment
/// says what the highest is.
const FURTHEST: u64 = 10_000_000;

/// Verifies the messages of `stretch`. `source` stands where the stretch begins.
pub fn messages<S: Source>(source: S, stretch: Stretch, report: Report<'_>) -> io::Result<Scanned> {
    let mut window = Window::new(source, stretch.from, stretch.size);
    let mut found = Scanned::default();
    run(&mut window, stretch, report, &mut found)?;
    found.bytes = window.position() - stretch.from;
    Ok(found)
}

fn run<S: Source>(
    window: &mut Window<S>,
    stretch: Stretch,
    report: Report<'_>,
    found: &mut Scanned,
) -> io::Result<()> {
    let mut expected = stretch.offset;
    let (mut resumes, mut last_seen) = (0, stretch.offset.unwrap_or(0));
    loop {
        let position = window.position();
        if found.messages.is_multiple_of(REPORT_EVERY) && !report(position) {
            found.end = End::Cancelled;
            return Ok(());
        }
        let at_hand = window.fill(HEADER)?;
        if position >= stretch.until || at_hand == 0 {
            return Ok(());
        }
        let head = &window.data()[..at_hand.min(HEADER)];
        let room = stretch.size - position;
        let mut fault = Fault {
            what: What::NoBatch,
            position,
            batch: None,
            offset: expected,
            messages: None,
            bytes: None,
        };
        if head.iter().all(|&byte| byte == 0) {
            if window.only_zeros_follow()? {
                found.end = End::Zeros { at: position };
                return Ok(());
            }
            fault.what = What::Zeros;
        } else if at_hand < HEADER {
            found.end = End::Torn { at: position, bytes: room };
            window.consume(at_hand);
            return Ok(());
        } else {
            let header = Header::read(head);
            let continues = expected.is_none_or(|expected| expected == header.offset);
            let begins = header.reserved_is_zero && header.length <= room;
            let hash = if begins { window.hash(8, header.length)? } else { None };
            if begins && hash == Some(header.checksum) {
                if !continues {
                    fault.what = What::Offset;
                    fault.offset = Some(header.offset);
                    found.add(fault);
                }
                found.messages += 1;
                found.saw_time(header.timestamp);
                let next = header.offset.saturating_add(1);
                (expected, found.next_offset, last_seen) = (Some(next), Some(next), next);
                continue;
            }
            fault.what = What::Message;
            // Its length is believed when the next message follows where it says.
            let most = stretch.next_segment.unwrap_or(last_seen.saturating_add(FURTHEST));
            let follows = begins
                && hash.is_some()
                && next_is_plausible(window, stretch.size, expected.map(|expected| expected + 1), most)?;
            if follows {
                fault.messages = Some(1);
                fault.bytes = Some(header.length);
                found.add(fault);
                found.messages += 1;
                expected = expected.map(|expected| expected + 1);
                found.next_offset = expected.or(found.next_offset);
                continue;
            }
            let could_be_torn =
                header.reserved_is_zero && continues && header.length > room && position >= stretch.written;
            if could_be_torn {
                window.consume(HEADER);
                if !resume(window, stretch, last_seen)? {
                    found.end = End::Torn { at: position, bytes: room };
                    return Ok(());
                }
            }
        }
        resumes += 1;
        let resumed = resumes <= RESUMES && resume(window, stretch, last_seen)?;
        if resumed {
            let next = Header::read(window.data()).offset;
            fault.bytes = Some(window.position() - position);
            fault.messages = expected.and_then(|expected| next.checked_sub(expected));
        }
        found.add(fault);
        if !resumed {
            found.end = End::Lost { at: position, bytes: room };
            return Ok(());
        }
        expected = None;
    }
}

fn next_is_plausible<S: Source>(
    window: &mut Window<S>,
    size: u64,
    expected: Option<u64>,
    most: u64,
) -> io::Result<bool> {
    let at_hand = window.fill(HEADER)?;
    if at_hand < HEADER {
        return Ok(at_hand == 0);
    }
    let (header, least) = (Header::read(window.data()), expected.unwrap_or(0));
    Ok(header.could_begin(least, most.max(least + 1), size - window.position()))
}

fn resume<S: Source>(window: &mut Window<S>, stretch: Stretch, last_seen: u64) -> io::Result<bool> {
    let most = stretch.next_segment.unwrap_or(last_seen.saturating_add(FURTHEST));
    search(window, HEADER, |bytes, position| {
        let header = Header::read(bytes);
        if !header.could_begin(last_seen, most, stretch.size - position) {
            return false;
        }
        // Zeros and counters look like a header now and then; the checksum does not.
        let whole = usize::try_from(header.length).ok().and_then(|length| bytes.get(8..length));
        whole.is_none_or(|bytes| twox_hash::XxHash3_64::oneshot(bytes) == header.checksum)
    })
}
