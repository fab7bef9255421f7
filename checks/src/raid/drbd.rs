//! DRBD: copies on other hosts. Source: drbd(9), drbdsetup-status(8).

use serde_json::Value as Json;

use super::{Copies, Fault};

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
        Some(copies(format!("DRBD {minor}"), state, fault, &format!("drbd{minor}")))
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
            let minor = device["minor"].as_u64().map_or_else(String::new, |minor| format!("drbd{minor}"));
            found.push(copies(name, state, drbd_fault(&own, &links, whole), &minor));
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

fn copies(name: String, state: String, fault: Option<Fault>, mounted_as: &str) -> Copies {
    Copies { name, state, fault, mounted_as: mounted_as.to_owned(), command: "drbdadm status".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::faults;
    use super::*;

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
