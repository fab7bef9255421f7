//! Gathers the values of one node after the other, and keeps of each only what it takes to compare them.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use warden_host::{Evidence, Fields, Row, Table, Value};
use warden_platform::sha256::hex;

use super::rules::{self, Block, COMPUTED, FACTS, Only, Topic, Treat};
use super::variants::{Alike, Variants};
use crate::diff::row_keys::{by_title, key_width, keys, numbered};
use crate::diff::{Side, is_shape_table};
use crate::fleet::host_specific::Own;
use crate::fleet::nodes::NodeSet;

/// Values of one node: an ordinary host has some 600.
const OF_ONE_NODE: usize = 10_000;

/// Fields and tables of one node: an ordinary host has some 90.
const BLOCKS_OF_ONE_NODE: usize = 1_000;

/// Bytes of all values that are kept: those of 256 ordinary hosts, which are mostly the same, take some 200 KiB.
const BYTES: usize = 64 << 20;

/// Characters of a value or a name: a longer one is cut, and compared by its hash.
const CHARACTERS: usize = 300;

/// Facts of the host that each has for itself, besides those that [`FACTS`] names.
const OWN_FACTS: [&str; 4] = ["name", "machine_id", "boot_id", "up_seconds"];

/// Where a block of evidence stands. Ordered as the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Of the check in the catalogue; unknown ones are behind it.
    order: usize,
    /// Empty for the facts of the host.
    pub check: String,
    pub title: String,
    /// Of several with one title.
    nth: usize,
    width: usize,
}

#[derive(Debug)]
pub struct Gathered {
    pub topic: Topic,
    /// Nodes of which every row is known.
    pub whole: NodeSet,
    /// By row and column; the fields of a block have no columns.
    pub values: BTreeMap<(String, String), Variants>,
    pub rows: BTreeMap<String, Seen>,
}

/// A row of a table that should have the same rows everywhere.
#[derive(Debug, Default)]
pub struct Seen {
    pub nodes: NodeSet,
    /// As the first of the nodes has it.
    pub text: String,
}

#[derive(Debug, Default)]
pub struct Settings {
    pub blocks: BTreeMap<Place, Gathered>,
    kept: usize,
    /// Values that were not looked at, because there were too many.
    pub left_out: usize,
}

/// One node while its values are gathered.
struct Reading<'a> {
    node: usize,
    own: Own,
    /// Whether it saw everything: what another could not see is no difference.
    privileged: bool,
    values: usize,
    settings: &'a mut Settings,
}

impl Settings {
    pub fn add(&mut self, node: usize, side: &Side) {
        let privileged = side.run.privileged != Some(false);
        let mut reading = Reading { node, own: Own::of(side), privileged, values: 0, settings: self };
        reading.facts(side);
        let mut blocks = 0;
        for check in &side.checks {
            for ((_, title, nth), evidence) in by_title(&check.evidence) {
                blocks += 1;
                if blocks > BLOCKS_OF_ONE_NODE {
                    return;
                }
                let title = reading.text(title);
                let block = rules::of(&check.id, &title);
                let place = |width| Place {
                    order: order(&check.id),
                    check: cut(&check.id),
                    title: title.clone(),
                    nth,
                    width,
                };
                match evidence {
                    Evidence::Fields(fields) => reading.fields(block, place(0), fields),
                    Evidence::Table(table) if !is_shape_table(table) => {
                        let width = match block.map_or(0, |block| block.width) {
                            0 => key_width(&[table], |cell| reading.text(&cell.to_string())),
                            width => width,
                        };
                        reading.table(block, place(width), table);
                    }
                    Evidence::Table(_) | Evidence::Text(_) | Evidence::Log(_) | Evidence::Series(_) => {}
                }
            }
        }
    }

    fn block(&mut self, place: Place, topic: Topic) -> &mut Gathered {
        self.blocks.entry(place).or_insert_with(|| Gathered {
            topic,
            whole: NodeSet::default(),
            values: BTreeMap::new(),
            rows: BTreeMap::new(),
        })
    }
}

impl Reading<'_> {
    fn facts(&mut self, side: &Side) {
        let place = |order| Place { order, check: String::new(), title: "host".to_owned(), nth: 0, width: 0 };
        for (at, (name, told, alike)) in FACTS.iter().enumerate() {
            let value = match side.host.get(*name) {
                None | Some(serde_json::Value::Null) => continue,
                Some(value) => value.as_u64().map_or(Value::Nothing, Value::Bytes),
            };
            self.value(&place(at), Topic::Host, told, "", *alike, &side.fact(name), &value);
        }
        for (name, value) in &side.host {
            let known = OWN_FACTS.contains(&name.as_str()) || FACTS.iter().any(|(fact, ..)| fact == name);
            if let (false, Some(text)) = (known, value.as_str()) {
                let place = place(FACTS.len());
                self.value(
                    &place,
                    Topic::Other,
                    &name.replace('_', " "),
                    "",
                    Alike::Same,
                    text,
                    &Value::Nothing,
                );
            }
        }
    }

    fn fields(&mut self, block: Option<&'static Block>, place: Place, fields: &Fields) {
        let topic = block.map_or(Topic::Other, |block| block.topic);
        let names = numbered(fields.rows.iter().map(|(name, _)| self.text(name)));
        for (name, (_, value)) in names.iter().zip(&fields.rows) {
            if let Some(alike) = alike(block, name, value) {
                self.cell(&place, topic, name, "", alike, value);
            }
        }
    }

    fn table(&mut self, block: Option<&'static Block>, place: Place, table: &Table) {
        let topic = block.map_or(Topic::Other, |block| block.topic);
        let only = block.map_or(Only::All, |block| block.only);
        let packages = place.check == "runtime-versions" && place.title == "Packages";
        let keys = keys(table, place.width, |cell| self.text(&cell.to_string()));
        let counts_rows = block.is_some_and(|block| block.rows);
        if counts_rows && table.left_out == 0 {
            self.settings.block(place.clone(), topic).whole.insert(self.node);
        }
        for (key, row) in keys.iter().zip(&table.rows).filter(|(_, row)| looked_at(only, table, row)) {
            if packages {
                let (name, version) = package(key);
                self.row(&place, topic, name, version.to_owned());
                let value = Value::Code(version.to_owned());
                self.cell(&place, topic, name, "", Alike::Same, &value);
                continue;
            }
            let mut said = Vec::new();
            for (column, value) in table.columns.iter().zip(&row.cells).skip(place.width) {
                let Some(alike) = alike(block, column, value) else { continue };
                let alike = if COMPUTED.contains(&key.as_str()) { Alike::Near } else { alike };
                self.cell(&place, topic, key, column, alike, value);
                if *value != Value::Nothing {
                    said.push(self.text(&value.to_string()));
                }
            }
            if counts_rows {
                said.retain(|text| !text.is_empty());
                self.row(&place, topic, key, said.join(", "));
            }
        }
    }

    fn row(&mut self, place: &Place, topic: Topic, key: &str, text: String) {
        let (node, key) = (self.node, cut(key));
        let rows = &mut self.settings.block(place.clone(), topic).rows;
        if let Some(seen) = rows.get_mut(&key) {
            seen.nodes.insert(node);
            return;
        }
        if self.is_full() {
            return;
        }
        let text = if text.is_empty() { "there".to_owned() } else { cut(&format!("there ({text})")) };
        let mut seen = Seen { text, ..Seen::default() };
        seen.nodes.insert(node);
        self.settings.kept += key.len() + seen.text.len() + size_of::<Seen>();
        self.settings.block(place.clone(), topic).rows.insert(key, seen);
    }

    fn cell(&mut self, place: &Place, topic: Topic, key: &str, column: &str, alike: Alike, value: &Value) {
        let text = if *value == Value::Nothing { String::new() } else { self.text(&value.to_string()) };
        if text.is_empty() && !self.privileged {
            return;
        }
        self.value(place, topic, key, column, alike, &text, value);
    }

    #[expect(clippy::too_many_arguments, reason = "where a value stands, and what it is")]
    fn value(
        &mut self,
        place: &Place,
        topic: Topic,
        key: &str,
        column: &str,
        alike: Alike,
        text: &str,
        value: &Value,
    ) {
        if self.is_full() {
            return;
        }
        let (key, column) = (cut(key), cut(column));
        let bytes = key.len() + column.len() + size_of::<Variants>();
        let values = &mut self.settings.block(place.clone(), topic).values;
        let mut is_new = false;
        let variants = values.entry((key, column)).or_insert_with(|| {
            is_new = true;
            Variants::default()
        });
        let added = variants.add(self.node, alike, text, value);
        self.settings.kept += added + if is_new { bytes } else { 0 };
    }

    /// Counts what is looked at, and what is not.
    fn is_full(&mut self) -> bool {
        self.values += 1;
        let full = self.values > OF_ONE_NODE || self.settings.kept > BYTES;
        self.settings.left_out += usize::from(full);
        full
    }

    fn text(&self, text: &str) -> String {
        cut(&self.own.steady(text))
    }
}

/// How a value is compared; `None` when it is left.
fn alike(block: Option<&Block>, name: &str, value: &Value) -> Option<Alike> {
    let treat = block.map_or(Treat::ByKind, |block| {
        let named = block.named.iter().find(|(known, _)| *known == name);
        named.map_or(block.rest, |(_, treat)| *treat)
    });
    match (treat, value) {
        (Treat::Compare(alike), _) => Some(alike),
        (Treat::ByKind, Value::Text(_) | Value::Code(_) | Value::Flag(_) | Value::Nothing) => {
            Some(Alike::Same)
        }
        (Treat::ByKind | Treat::Leave, _) => None,
    }
}

fn looked_at(only: Only, table: &Table, row: &Row) -> bool {
    /// Filesystems of packages and of the kernel itself.
    const MADE: [&str; 6] = ["squashfs", "erofs", "autofs", "nsfs", "fuse.gvfsd-fuse", "fuse.lxcfs"];
    const IN_MEMORY: [&str; 4] = ["tmpfs", "devtmpfs", "ramfs", "overlay"];
    /// Where sessions, services, packages and containers have theirs.
    const BELOW: [&str; 8] = [
        "/run/user/",
        "/run/credentials/",
        "/run/netns/",
        "/snap/",
        "/var/lib/docker/",
        "/var/lib/containers/",
        "/var/lib/kubelet/",
        "/run/containerd/",
    ];
    const VIRTUAL: [&str; 9] = ["veth", "cali", "tap", "tun", "vnet", "docker", "br-", "virbr", "lxc"];
    let cell = |name: &str| {
        let at = table.columns.iter().position(|column| column == name);
        at.and_then(|at| row.cells.get(at)).map(Value::to_string).unwrap_or_default()
    };
    let begins = |text: &str, with: &[&str]| with.iter().any(|start| text.starts_with(start));
    match only {
        Only::All => true,
        Only::Mounts => !MADE.contains(&cell("type").as_str()) && !begins(&cell("mounted on"), &BELOW),
        Only::Disks => looked_at(Only::Mounts, table, row) && !IN_MEMORY.contains(&cell("type").as_str()),
        Only::Interfaces => !begins(&cell("interface"), &VIRTUAL),
    }
}

/// Name and version of a package, as dpkg-query (`ii  name version architecture`) and rpm (without the state) list it.
fn package(line: &str) -> (&str, &str) {
    let name = match line.split_ascii_whitespace().count() {
        4 => line.split_ascii_whitespace().nth(1),
        3 => line.split_ascii_whitespace().next(),
        _ => None,
    };
    let after = |name: &str| {
        let at = line.find(&format!("{name} ")).map_or(line.len(), |at| at + name.len());
        line.get(at..).unwrap_or_default().trim()
    };
    name.map_or((line, ""), |name| (name, after(name)))
}

fn order(check: &str) -> usize {
    let known = warden_checks::CHECKS.iter().position(|known| known.id == check);
    known.unwrap_or(warden_checks::CHECKS.len()) + FACTS.len() + 1
}

/// Not endless, and still another when only its end is.
fn cut(text: &str) -> String {
    let Some((at, _)) = text.char_indices().nth(CHARACTERS) else { return text.to_owned() };
    let hash = hex(&Sha256::digest(text)[..4]);
    format!("{}… ({} bytes, {hash})", &text[..at], text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_both_families_are_known_by_name() {
        assert_eq!(package("ii  iggy-server 0.9.0-1 amd64"), ("iggy-server", "0.9.0-1 amd64"));
        assert_eq!(package("iggy-server 0.8.0-1.el8 x86_64"), ("iggy-server", "0.8.0-1.el8 x86_64"));
        assert_eq!(package("nothing"), ("nothing", ""));
    }

    #[test]
    fn a_long_value_is_cut_and_still_differs_by_its_end() {
        let (one, other) = (format!("{}a", "é".repeat(5_000)), format!("{}b", "é".repeat(5_000)));
        assert_ne!(cut(&one), cut(&other));
        assert!(cut(&one).len() < 700, "{}", cut(&one).len());
    }
}
