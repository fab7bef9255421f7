//! Copies of data on several disks or hosts, and whether they are whole: Linux RAID and DRBD.

use serde_json::Value as Json;

/// A set of copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copies {
    /// `md0`, `DRBD r0/0`.
    pub name: String,
    /// As the kernel shows it: `raid1 [2/1] [U_]`, `UpToDate, peer Outdated`.
    pub state: String,
    pub fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No copy, or one that cannot be used, is left here.
    Broken,
    /// A copy is missing.
    Degraded,
    /// A copy is being made whole again.
    Recovering,
}

/// Every array of /proc/mdstat (md(4)).
pub fn arrays(mdstat: &str) -> Vec<Copies> {
    let mut arrays: Vec<Copies> = Vec::new();
    for line in mdstat.lines() {
        if let Some((name, rest)) = line.split_once(" : ").filter(|_| line.starts_with("md")) {
            let broken = rest.starts_with("inactive") || rest.contains("FAILED");
            let state = rest.split(' ').take(2).collect::<Vec<_>>().join(" ");
            let failed = rest.contains("(F)").then_some(Fault::Degraded);
            let fault = if broken { Some(Fault::Broken) } else { failed };
            arrays.push(Copies { name: name.trim().to_owned(), state, fault });
            continue;
        }
        let Some(array) = arrays.last_mut() else { continue };
        if let Some(members) = line.split_ascii_whitespace().find_map(members) {
            array.state.push_str(&format!(" [{}/{}]", members.0, members.1));
            if members.1 < members.0 && array.fault.is_none() {
                array.fault = Some(Fault::Degraded);
            }
        }
        let busy = ["recovery = ", "resync = ", "reshape = "].iter().find_map(|what| line.find(what));
        if let Some(at) = busy {
            array.state.push_str(&format!(", {}", line[at..].split('(').next().unwrap_or_default().trim()));
            if array.fault != Some(Fault::Broken) {
                // A degraded array that rebuilds is on the mend, one that only checks itself is whole.
                array.fault = Some(Fault::Recovering);
            }
        }
    }
    arrays
}

/// `[2/1]`: members wanted and working.
fn members(word: &str) -> Option<(u32, u32)> {
    let (wanted, working) = word.strip_prefix('[')?.strip_suffix(']')?.split_once('/')?;
    Some((wanted.parse().ok()?, working.parse().ok()?))
}

/// Devices of DRBD 8, from /proc/drbd: ` 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----`.
pub fn drbd_devices(text: &str) -> Vec<Copies> {
    let device = |line: &str| {
        let (minor, rest) = line.trim_start().split_once(": ")?;
        let word = |prefix: &str| rest.split(' ').find_map(|word| word.strip_prefix(prefix));
        let (connection, (own, peer)) = (word("cs:")?, word("ds:")?.split_once('/')?);
        let whole = |state: &str| state == "UpToDate";
        minor.parse::<u32>().ok()?;
        let (state, fault) =
            (format!("{own}, peer {peer}, {connection}"), drbd_fault(own, &[connection], whole(peer)));
        Some(Copies { name: format!("DRBD {minor}"), state, fault })
    };
    text.lines().filter_map(device).collect()
}

/// Resources of DRBD 9, from `drbdsetup status --json`; `None` when it is no such answer.
pub fn drbd_resources(text: &str) -> Option<Vec<Copies>> {
    let json: Json = serde_json::from_str(text).ok()?;
    let word = |json: &Json, key: &str| json[key].as_str().unwrap_or("Unknown").to_owned();
    let mut found = Vec::new();
    for resource in json.as_array()? {
        let connections = resource["connections"].as_array().map(Vec::as_slice).unwrap_or_default();
        let links: Vec<String> = connections.iter().map(|one| word(one, "connection-state")).collect();
        let links: Vec<&str> = links.iter().map(String::as_str).collect();
        for device in resource["devices"].as_array().into_iter().flatten() {
            let (own, volume) = (word(device, "disk-state"), &device["volume"]);
            let peers =
                connections.iter().flat_map(|one| one["peer_devices"].as_array().into_iter().flatten());
            let peers: Vec<String> = peers
                .filter(|peer| peer["volume"] == *volume)
                .map(|peer| word(peer, "peer-disk-state"))
                .collect();
            // A diskless peer only votes and holds no copy.
            let whole = peers.iter().all(|state| state == "UpToDate" || state == "Diskless");
            let name = format!("DRBD {}/{volume}", word(resource, "name"));
            let state = format!("{own}, peers {}", peers.join(" "));
            found.push(Copies { name, state, fault: drbd_fault(&own, &links, whole) });
        }
    }
    Some(found)
}

fn drbd_fault(own: &str, connections: &[&str], peers_whole: bool) -> Option<Fault> {
    let syncing = |state: &&str| state.starts_with("Sync") || state.starts_with("Verify");
    match own {
        "UpToDate" if connections.iter().any(syncing) => Some(Fault::Recovering),
        "UpToDate" if peers_whole && connections.iter().all(|&state| state == "Connected") => None,
        "UpToDate" => Some(Fault::Degraded),
        _ if connections.iter().any(syncing) => Some(Fault::Recovering),
        _ => Some(Fault::Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(copies: &[Copies]) -> Vec<(&str, &str, Option<Fault>)> {
        copies.iter().map(|one| (one.name.as_str(), one.state.as_str(), one.fault)).collect()
    }

    #[test]
    fn arrays_are_whole_degraded_recovering_or_broken() {
        let text = "Personalities : [raid1]\n\
            md0 : active raid1 sdb1[1] sda1[0]\n      1047552 blocks super 1.2 [2/2] [UU]\n\n\
            md1 : active raid1 sda2[0] sdb2[1](F)\n      1047552 blocks [2/1] [U_]\n\
            md2 : active raid5 sdc1[3] sdb3[1] sda3[0]\n      2095104 blocks level 5, 512k chunk [3/2] [UU_]\n      \
            [==>..................]  recovery = 12.6% (132096/1047552) finish=0.1min speed=132096K/sec\n\
            md3 : inactive sdd1[0](S)\n      1047552 blocks\nunused devices: <none>\n";
        assert_eq!(
            faults(&arrays(text)),
            [
                ("md0", "active raid1 [2/2]", None),
                ("md1", "active raid1 [2/1]", Some(Fault::Degraded)),
                ("md2", "active raid5 [3/2], recovery = 12.6%", Some(Fault::Recovering)),
                ("md3", "inactive sdd1[0](S)", Some(Fault::Broken)),
            ]
        );
        assert_eq!(arrays("Personalities : \nunused devices: <none>\n"), []);
    }

    #[test]
    fn both_generations_of_drbd_are_read() {
        let text = "version: 8.4.11 (api:1/proto:86-101)\n 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----\n    ns:1 nr:0\n \
                    1: cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown C r-----\n";
        assert_eq!(
            faults(&drbd_devices(text)),
            [
                ("DRBD 0", "UpToDate, peer UpToDate, Connected", None),
                ("DRBD 1", "UpToDate, peer DUnknown, WFConnection", Some(Fault::Degraded)),
            ]
        );
        let json = r#"[{"name":"r0","devices":[{"volume":0,"disk-state":"Failed"}],
            "connections":[{"connection-state":"Connected","peer_devices":[{"volume":0,"peer-disk-state":"UpToDate"}]}]}]"#;
        let resources = drbd_resources(json).unwrap();
        assert_eq!(faults(&resources), [("DRBD r0/0", "Failed, peers UpToDate", Some(Fault::Broken))]);
        assert_eq!(drbd_resources("# no resources"), None);
    }
}
