//! Reads the rules that the kernel of this host has, and says which of them Warden cannot see.

use warden_host::{Cause, Failure, Host, IfAny};

use super::iptables::of_iptables;
use super::nft::of_nft;
use super::{Family, Ruleset, remove_repeated};
use crate::{Error, Result};

/// Tables of the older back end of iptables that are loaded, by name: a line each, for root.
pub const LEGACY_TABLES: &str = "/proc/net/ip_tables_names";
pub const LEGACY_TABLES_6: &str = "/proc/net/ip6_tables_names";

/// The rules of this host, as far as they can be seen.
#[derive(Debug, Default)]
pub struct Rules {
    pub rulesets: Vec<Ruleset>,
    /// What cannot be seen: no connection of that family can be called accepted.
    pub gaps: Vec<Gap>,
    /// A program that shows rules is installed.
    pub any_program: bool,
}

#[derive(Clone, Debug)]
pub struct Gap {
    /// `None` for both.
    pub family: Option<Family>,
    pub error: Error,
}

impl Gap {
    pub fn hides(&self, family: Family) -> bool {
        self.family.is_none_or(|own| own == family)
    }
}

impl Rules {
    pub fn of(host: &Host) -> Rules {
        let mut rules = Rules::default();
        let nft = output(host, "nft-ruleset").and_then(|text| {
            text.map(|text| of_nft(&text).map_err(|detail| Error::parse("nft-ruleset", detail))).transpose()
        });
        let mut nft = rules.take(None, nft);
        for family in [Family::V4, Family::V6] {
            rules.read_iptables(host, family, &mut nft);
        }
        if let Seen::Shown(nft) = nft {
            rules.rulesets.insert(0, nft);
        }
        rules
    }

    /// Reads what iptables shows of one family; `nft` loses the tables that it shows in part only.
    fn read_iptables(&mut self, host: &Host, family: Family, nft: &mut Seen<Ruleset>) {
        let (program, legacy_program, tables) = match family {
            Family::V4 => ("iptables-save", "iptables-legacy-save", LEGACY_TABLES),
            Family::V6 => ("ip6tables-save", "ip6tables-legacy-save", LEGACY_TABLES_6),
        };
        let loaded = match host.read(tables).if_any() {
            // Recordings of before this was asked say nothing of such tables.
            Err(Error::Host(Failure { cause: Cause::Unrecorded, .. })) => Ok(String::new()),
            loaded => loaded.map(Option::unwrap_or_default),
        };
        let legacy = loaded.as_ref().is_ok_and(|text| !text.trim().is_empty());
        let saved = output(host, program).map(|text| text.map(|text| of_iptables(&text, family)));
        // What nft shows is all there is, unless there are tables of the older back end.
        let is_needed = !(matches!(nft, Seen::Shown(_)) && loaded.is_ok() && !legacy);
        let saved = match saved {
            Err(_) if !is_needed => {
                self.any_program = true;
                return;
            }
            saved => self.take(Some(family), saved),
        };
        let gap = |what: String, cause: &str| Gap {
            family: Some(family),
            error: Error::Host(Failure { what, cause: Cause::Other(cause.to_owned()) }),
        };
        let mut shows_legacy = false;
        if let Seen::Shown(mut saved) = saved {
            shows_legacy = !saved.says_nf_tables;
            match nft {
                Seen::Shown(nft) => remove_repeated(nft, &mut saved.ruleset, saved.says_nf_tables, family),
                Seen::Missing if !saved.incompatible.is_empty() => {
                    let what = format!("the tables {} of nft", saved.incompatible.join(", "));
                    self.gaps.push(gap(what, "nft, which shows them, is not installed"));
                }
                Seen::Missing | Seen::Hidden => {}
            }
            self.rulesets.push(saved.ruleset);
        }
        if legacy && !shows_legacy {
            let saved = output(host, legacy_program).map(|text| text.map(|text| of_iptables(&text, family)));
            match self.take(Some(family), saved) {
                Seen::Shown(saved) => self.rulesets.push(saved.ruleset),
                Seen::Hidden => {}
                Seen::Missing => {
                    let tables = loaded.unwrap_or_default();
                    let tables: Vec<&str> = tables.split_whitespace().collect();
                    let what = format!("the tables {} of iptables' older back end", tables.join(", "));
                    self.gaps
                        .push(gap(what, &format!("{legacy_program}, which shows them, is not installed")));
                }
            }
        }
    }

    fn take<T>(&mut self, family: Option<Family>, answer: Result<Option<T>>) -> Seen<T> {
        match answer {
            Ok(Some(shown)) => {
                self.any_program = true;
                Seen::Shown(shown)
            }
            Ok(None) => Seen::Missing,
            Err(error) => {
                self.gaps.push(Gap { family, error });
                Seen::Hidden
            }
        }
    }
}

enum Seen<T> {
    Shown(T),
    /// The program is not installed.
    Missing,
    Hidden,
}

/// `None` when the program is not installed.
fn output(host: &Host, name: &str) -> Result<Option<String>> {
    let Some(output) = host.run(name).if_any()? else { return Ok(None) };
    if output.status == Some(0) && !output.cut {
        return Ok(Some(output.stdout));
    }
    let said = output.stderr.lines().next().unwrap_or("no reason given");
    let denied =
        ["ermitted", "ermission denied", "must be root"].iter().any(|words| output.stderr.contains(words));
    let cause = match (denied, output.cut) {
        (true, _) => Cause::Denied,
        (_, true) => Cause::Other("there is more than Warden reads".to_owned()),
        _ => Cause::Other(said.to_owned()),
    };
    Err(Failure { what: format!("command {name}"), cause }.into())
}
