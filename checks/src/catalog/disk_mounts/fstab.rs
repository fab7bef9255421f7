//! What should be mounted, by /etc/fstab.

use warden_host::proc::unescape;

/// Mount points of /etc/fstab with their options (fstab(5)).
#[derive(Default)]
pub struct Fstab {
    pub rows: Vec<(String, String)>,
}

impl Fstab {
    pub fn parse(text: &str) -> Fstab {
        let rows = text.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(|line| {
            let mut words = line.split_ascii_whitespace().skip(1);
            let point = unescape(words.next()?);
            let point = if point.len() > 1 { point.trim_end_matches('/').to_owned() } else { point };
            Some((point, words.nth(1).unwrap_or("defaults").to_owned()))
        });
        Fstab { rows: rows.collect() }
    }

    pub fn options(&self, point: &str) -> Option<&str> {
        self.rows.iter().find(|(other, _)| other == point).map(|(_, options)| options.as_str())
    }
}
