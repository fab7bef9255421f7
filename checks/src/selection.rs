//! Which checks a run is made of.

use std::fmt;

use warden_host::{Area, Check};

use crate::CHECKS;

/// The section of a report that no check of this name makes.
pub const DATA_DIRECTORY: &str = "data-directory";

/// Why nothing, or not what was meant, is selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NothingSelected(String);

impl fmt::Display for NothingSelected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for NothingSelected {}

/// What was asked for: ids of checks or names of areas. An empty `only` means everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub only: Vec<String>,
    pub skip: Vec<String>,
}

impl Selection {
    /// The selected checks in the order of the catalogue. A name that is neither a check nor an area is an
    /// error that says what comes near.
    pub fn checks(&self) -> Result<Vec<&'static Check>, NothingSelected> {
        let unknown =
            self.only.iter().chain(&self.skip).find(|name| !CHECKS.iter().any(|check| is(check, name)));
        if let Some(name) = unknown {
            return Err(NothingSelected(format!(
                "there is no check and no area called `{name}`{}",
                suggestion(name)
            )));
        }
        let wanted = |check: &&&Check| {
            let asked_for = self.only.is_empty() || self.only.iter().any(|name| is(check, name));
            asked_for && !self.skip.iter().any(|name| is(check, name))
        };
        let selected: Vec<_> = CHECKS.iter().filter(wanted).copied().collect();
        if selected.is_empty() {
            return Err(NothingSelected(
                "no check is left: everything that --only names is also named by --skip".to_owned(),
            ));
        }
        Ok(selected)
    }
}

fn is(check: &Check, name: &str) -> bool {
    check.id == name || check.area.name() == name
}

fn suggestion(name: &str) -> String {
    if name == DATA_DIRECTORY {
        return "; that section of a report comes with `runtime-iggy-data`".to_owned();
    }
    let names = || CHECKS.iter().map(|check| check.id).chain(Area::ALL.map(Area::name));
    let misspelt =
        names().min_by_key(|known| distance(known, name)).filter(|known| distance(known, name) <= 3);
    let near = misspelt.or_else(|| names().find(|known| known.contains(name) || name.contains(known)));
    match near {
        Some(known) => format!("; did you mean `{known}`? `warden checks` lists them all"),
        None => "; `warden checks` lists them all".to_owned(),
    }
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(only: &[&str], skip: &[&str]) -> Result<Vec<&'static str>, NothingSelected> {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let selection = Selection { only: owned(only), skip: owned(skip) };
        Ok(selection.checks()?.iter().map(|check| check.id).collect())
    }

    #[test]
    fn an_area_selects_its_checks_and_skip_wins() {
        let disk = select(&["disk"], &["disk-space"]).unwrap();
        assert!(disk.iter().all(|id| id.starts_with("disk-")) && !disk.contains(&"disk-space"));
        assert_eq!(select(&["disk-space", "cpu-steal"], &[]).unwrap(), ["cpu-steal", "disk-space"]);
        assert_eq!(select(&[], &[]).unwrap().len(), CHECKS.len());
    }

    #[test]
    fn a_misspelt_name_gets_a_suggestion() {
        let error = |only: &str| select(&[only], &[]).unwrap_err().to_string();
        assert_eq!(
            error("disk-spcae"),
            "there is no check and no area called `disk-spcae`; did you mean `disk-space`? `warden checks` lists them all"
        );
        assert_eq!(
            error("xyzzyxyzzy"),
            "there is no check and no area called `xyzzyxyzzy`; `warden checks` lists them all"
        );
    }
}
