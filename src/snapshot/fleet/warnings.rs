//! What to know of the snapshots of a fleet before reading on.

use std::collections::BTreeMap;

use warden_host::quantity;

use super::nodes::{Added, Member, NodeSet, Roster, listed};

/// Snapshots that are further apart than this may tell of different states of the deployment.
const APART_SECONDS: i64 = 3_600;

/// Nodes named in one remark.
const NAMED: usize = 5;

pub fn remarks(added: &[Added], roster: &Roster) -> Vec<String> {
    let mut remarks = Vec::new();
    let times: Vec<(i64, usize)> = (added.iter().enumerate())
        .filter_map(|(node, one)| Some((one.started_at.parse::<jiff::Timestamp>().ok()?.as_second(), node)))
        .collect();
    if let (Some((first, oldest)), Some((last, newest))) = (times.iter().min(), times.iter().max())
        && last - first > APART_SECONDS
    {
        remarks.push(format!(
            "the snapshots are up to {} apart: {} is the oldest, {} the newest",
            quantity::duration((last - first) as f64),
            roster.member(*oldest).name,
            roster.member(*newest).name
        ));
    }
    let versions = by(added, |one| &one.warden);
    if versions.len() > 1 {
        let each = versions.iter().map(|(version, nodes)| format!("{version} on {}", on(nodes, roster)));
        remarks.push(format!(
            "judged by different Wardens: {}; a difference may be one of the judge",
            each.collect::<Vec<_>>().join(", ")
        ));
    }
    let with = |wanted: fn(&Added) -> bool| of(added, wanted, roster);
    let blind = with(|one| one.privileged == Some(false));
    if !blind.is_empty() && blind.len() < added.len() {
        remarks.push(format!("without privileges, and so blind to much: {}", listed(&blind, NAMED)));
    }
    for (id, nodes) in by(added, |one| &one.machine_id) {
        // A masked id says nothing, and so does none.
        if nodes.len() > 1 && !id.is_empty() && !id.starts_with('[') {
            let nodes = roster.members(nodes);
            remarks.push(format!("one machine, or copies with one machine id: {}", listed(&nodes, NAMED)));
        }
    }
    let newer = with(|one| one.is_newer);
    if !newer.is_empty() {
        remarks.push(format!(
            "of a newer form than this warden knows, what it does not know is left out: {}",
            listed(&newer, NAMED)
        ));
    }
    remarks
}

fn by<'a>(added: &'a [Added], of: impl Fn(&'a Added) -> &'a String) -> BTreeMap<&'a str, NodeSet> {
    let mut found: BTreeMap<&str, NodeSet> = BTreeMap::new();
    for (node, one) in added.iter().enumerate() {
        found.entry(of(one)).or_default().insert(node);
    }
    found
}

fn of(added: &[Added], wanted: fn(&Added) -> bool, roster: &Roster) -> Vec<Member> {
    let mut nodes = NodeSet::default();
    added.iter().enumerate().filter(|(_, one)| wanted(one)).for_each(|(node, _)| nodes.insert(node));
    roster.members(nodes)
}

fn on(nodes: &NodeSet, roster: &Roster) -> String {
    let members = roster.members(*nodes);
    if members.len() <= NAMED { listed(&members, NAMED) } else { format!("{} nodes", members.len()) }
}
