//! The shape of a log message: what is left when numbers, addresses and identifiers are taken out, so that
//! lines that say the same thing are counted together.

use std::collections::BTreeMap;

use crate::{Clock, Level, LogLine, LogText, Table, Value, Verdict};

/// Lines that say the same thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub shape: String,
    /// The most severe of the lines.
    pub level: Option<Level>,
    pub count: u64,
    /// Unix time in microseconds of the oldest and newest line that has one.
    pub first_us: Option<i64>,
    pub last_us: Option<i64>,
    /// The newest line as it was written.
    pub newest: String,
}

/// Groups of equal shape: the most severe first, then the most frequent.
pub fn group<'a>(lines: impl IntoIterator<Item = &'a LogLine>) -> Vec<Group> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for line in lines {
        let shape = shape(&line.text);
        let group = groups.entry(shape.clone()).or_insert_with(|| Group {
            shape,
            level: None,
            count: 0,
            first_us: None,
            last_us: None,
            newest: String::new(),
        });
        group.count += 1;
        group.level = group.level.max(line.level);
        group.first_us = [group.first_us, line.at_us].into_iter().flatten().min();
        if line.at_us.is_none() || line.at_us >= group.last_us {
            group.newest.clone_from(&line.text);
        }
        group.last_us = group.last_us.max(line.at_us);
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by(|a, b| (b.level, b.count, &a.shape).cmp(&(a.level, a.count, &b.shape)));
    groups
}

/// Groups as a table; `judge` says which rows a problem is about.
pub fn table(title: impl Into<String>, groups: &[Group], judge: impl Fn(&Group) -> Option<Verdict>) -> Table {
    let mut table = Table::new(title, ["level", "count", "first seen", "last seen", "newest line"]);
    for group in groups {
        let time = |at: Option<i64>| at.map_or(Value::Nothing, |at| Value::Time(at.div_euclid(1_000_000)));
        let cells = [
            group.level.map(Level::name).into(),
            group.count.into(),
            time(group.first_us),
            time(group.last_us),
            Value::Code(group.newest.clone()),
        ];
        match judge(group) {
            Some(severity) => table.marked_row(severity, cells),
            None => table.row(cells),
        }
    }
    table
}

/// The lines of the last `seconds`. A line without a time is kept: that it is old cannot be told.
pub fn newest(log: &LogText, clock: Clock, seconds: i64) -> impl Iterator<Item = &LogLine> {
    let from = clock.unix_us.saturating_sub(seconds.saturating_mul(1_000_000));
    log.lines.iter().filter(move |line| line.at_us.is_none_or(|at| at >= from))
}

/// Characters of a shape: what differs only after so many is the same message.
const SHAPE_CHARACTERS: usize = 300;

/// `text` with each number, hexadecimal value, address, time and UUID replaced by `#`. Digits within a name
/// (`eth0`, `nvme0n1`) stay, because they tell one device from another.
pub fn shape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.trim();
    let mut written = 0;
    while let Some(first) = rest.chars().next() {
        if written == SHAPE_CHARACTERS {
            break;
        }
        let length = if is_word(first) { token(rest) } else { 0 };
        if length == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            let (token, after) = rest.split_at(length);
            let shaped = shape_of_token(token);
            // `10.0.0.1:8090`, `3-7` and `1.5` are one value each.
            let joins =
                out.strip_suffix(['.', ':', '-', '/', ',']).is_some_and(|before| before.ends_with('#'));
            match shaped.strip_prefix('#') {
                Some(unit) if joins => {
                    out.pop();
                    out.push_str(unit);
                }
                _ => out.push_str(&shaped),
            }
            rest = after;
        }
        written += 1;
    }
    out
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// Bytes of the token that `text` begins with: a UUID, a colon-separated address, or a word.
fn token(text: &str) -> usize {
    let run = |accept: fn(char) -> bool| text.find(|character| !accept(character)).unwrap_or(text.len());
    let uuid = run(|character| character.is_ascii_hexdigit() || character == '-');
    if is_uuid(&text[..uuid]) {
        return uuid;
    }
    let address = run(|character| character.is_ascii_hexdigit() || matches!(character, ':' | '.'));
    let trimmed = text[..address].trim_end_matches([':', '.']);
    if is_address(trimmed) && !text[trimmed.len()..].starts_with(is_word) {
        return trimmed.len();
    }
    run(is_word)
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    text.len() == 36 && lengths.eq([8, 4, 4, 4, 12])
}

/// IPv6, MAC and PCI addresses, times of day: groups of hexadecimal digits with two colons or more.
fn is_address(text: &str) -> bool {
    text.matches(':').count() >= 2 && text.contains(|character: char| character.is_ascii_digit())
}

fn shape_of_token(token: &str) -> String {
    let hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let has_digit = token.bytes().any(|byte| byte.is_ascii_digit());
    let value = is_uuid(token)
        || is_address(token)
        || token.strip_prefix("0x").is_some_and(hexadecimal)
        // Eight hexadecimal digits are an identifier, whatever they begin with; four that begin with a digit too.
        || has_digit
            && hexadecimal(token)
            && (token.len() >= 8 || token.len() >= 4 && token.starts_with(|first: char| first.is_ascii_digit()));
    if value {
        return "#".to_owned();
    }
    let unit = token.trim_start_matches(|character: char| character.is_ascii_digit());
    if unit.len() < token.len() { format!("#{unit}") } else { token.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_and_names_stay() {
        let shapes = [
            (
                "BUG: soft lockup - CPU#3 stuck for 22s! [iggy-server:4711]",
                "BUG: soft lockup - CPU## stuck for #s! [iggy-server:#]",
            ),
            (
                "I/O error, dev nvme0n1, sector 123456 op 0x1:(WRITE)",
                "I/O error, dev nvme0n1, sector # op #:(WRITE)",
            ),
            ("client 10.0.0.7:51670 left after 1.5ms", "client # left after #ms"),
            ("eth0: link from fe80::1 mac 02:42:ac:11:00:02 at 10:30:53.843", "eth0: link from # mac # at #"),
            ("pcieport 0000:00:1c.0: AER", "pcieport #: AER"),
            ("request f81d4fae-7dec-11d0-a765-00a0c91e6bf6 by deadbeef01", "request # by #"),
            ("shard-3 topic orders offset 4799", "shard-# topic orders offset #"),
        ];
        for (text, expected) in shapes {
            assert_eq!(shape(text), expected);
        }
    }

    #[test]
    fn any_text_has_a_shape_of_bounded_length() {
        assert_eq!(shape(""), "");
        assert_eq!(shape("größe 5 → 6"), "größe # → #");
        assert_eq!(shape(&"é ".repeat(5000)).chars().count(), SHAPE_CHARACTERS);
        assert_eq!(shape("::: ... ---"), "::: ... ---");
    }

    fn line(at: Option<i64>, level: Level, text: &str) -> LogLine {
        let at_us = at.map(|at| at * 1_000_000);
        LogLine { at_us, level: Some(level), origin: String::new(), text: text.to_owned() }
    }

    #[test]
    fn equal_shapes_are_counted_together_and_the_most_severe_come_first() {
        let lines = [
            line(Some(10), Level::Warn, "retry 1"),
            line(Some(30), Level::Warn, "retry 3"),
            line(Some(20), Level::Error, "broken pipe"),
            line(Some(20), Level::Warn, "retry 2"),
        ];
        let groups = group(&lines);
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[0].shape, "broken pipe");
        assert_eq!((groups[1].count, groups[1].newest.as_str()), (3, "retry 3"));
        assert_eq!((groups[1].first_us, groups[1].last_us), (Some(10_000_000), Some(30_000_000)));
        let table = table("Lines", &groups, |group| (group.count > 2).then_some(Verdict::Warn));
        assert_eq!(table.rows[1].severity, Some(Verdict::Warn));
        assert_eq!(table.rows[1].cells[2], Value::Time(10));
    }

    #[test]
    fn a_line_without_a_time_is_never_taken_for_an_old_one() {
        let lines = vec![
            line(Some(99), Level::Info, "old"),
            line(Some(100), Level::Info, "new"),
            line(None, Level::Info, "?"),
        ];
        let log = LogText { lines, cut: false, source: "journal".to_owned() };
        let clock = Clock { unix_us: 110_000_000, up_us: 0, kernel: None };
        let kept: Vec<&str> = newest(&log, clock, 10).map(|line| line.text.as_str()).collect();
        assert_eq!(kept, ["new", "?"]);
    }
}
