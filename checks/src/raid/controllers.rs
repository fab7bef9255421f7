//! Arrays of hardware RAID controllers, from their makers' tools.

use serde_json::Value as Json;

use super::{Copies, Fault};

/// The drivers of the hosts of the SCSI layer.
pub const HOSTS: &str = "/sys/class/scsi_host/*/proc_name";

/// What reads the text that a tool prints.
type Reader = fn(&str) -> Vec<Copies>;

/// A family of controllers and the commands that can ask one.
pub struct Family {
    /// As in [`HOSTS`].
    drivers: &'static [&'static str],
    /// Rows of the command table, the best first, with the reader of what they print.
    pub commands: &'static [(&'static str, Reader)],
    /// The tools, for a person.
    pub tools: &'static str,
}

pub const FAMILIES: [Family; 4] = [
    Family {
        drivers: &["megaraid_sas", "megaraid_mbox"],
        commands: &[("storcli", storcli), ("megacli", megacli)],
        tools: "storcli, perccli or MegaCli",
    },
    Family { drivers: &["hpsa", "cciss", "smartpqi"], commands: &[("ssacli", ssacli)], tools: "ssacli" },
    Family { drivers: &["aacraid"], commands: &[("arcconf", arcconf)], tools: "arcconf" },
    Family {
        drivers: &["3w-xxxx", "3w-9xxx", "3w-sas", "arcmsr"],
        commands: &[],
        tools: "the tool of the controller's maker",
    },
];

impl Family {
    pub fn has(&self, driver: &str) -> bool {
        self.drivers.contains(&driver)
    }
}

fn copies(kind: &str, name: &str, state: &str, fault: Option<Fault>, command: &str) -> Copies {
    Copies {
        name: format!("{kind} {name}"),
        state: state.to_owned(),
        fault,
        mounted_as: String::new(),
        command: command.to_owned(),
    }
}

/// `storcli /call show J`, and perccli, which is the same.
fn storcli(text: &str) -> Vec<Copies> {
    let json: Json = serde_json::from_str(text).unwrap_or_default();
    let mut found = Vec::new();
    for (at, controller) in json["Controllers"].as_array().into_iter().flatten().enumerate() {
        let data = &controller["Response Data"];
        for drive in data["VD LIST"].as_array().into_iter().flatten() {
            let state = drive["State"].as_str().unwrap_or("unknown");
            let fault = match state {
                "Optl" => None,
                "Dgrd" | "Pdgd" => Some(Fault::Degraded),
                "Rec" => Some(Fault::Recovering),
                _ => Some(Fault::Broken),
            };
            let name = format!("{at}:{}", drive["DG/VD"].as_str().unwrap_or("?"));
            let shown = format!("{} {state}", drive["TYPE"].as_str().unwrap_or_default());
            found.push(copies("MegaRAID drive", &name, shown.trim(), fault, "storcli64 /call/vall show all"));
        }
        for drive in data["PD LIST"].as_array().into_iter().flatten() {
            let state = drive["State"].as_str().unwrap_or_default();
            if ["Failed", "UBad", "Offln", "Msng"].contains(&state) {
                let name = format!("{at}:{}", drive["EID:Slt"].as_str().unwrap_or("?"));
                let fault = Some(Fault::FailedMember);
                found.push(copies("MegaRAID disk", &name, state, fault, "storcli64 /call/eall/sall show"));
            }
        }
    }
    found
}

/// `MegaCli -LDInfo`: `Virtual Drive: 0 (Target Id: 0)`, then `State : Optimal`.
fn megacli(text: &str) -> Vec<Copies> {
    let mut found: Vec<Copies> = Vec::new();
    let mut name = "?";
    for line in text.lines() {
        if let Some(rest) = line.trim().strip_prefix("Virtual Drive:") {
            name = rest.trim().split(' ').next().unwrap_or("?");
        }
        let Some((key, state)) = line.split_once(':').filter(|(key, _)| key.trim() == "State") else {
            continue;
        };
        let (_, state) = (key, state.trim());
        let fault = match state {
            "Optimal" => None,
            "Degraded" | "Partially Degraded" => Some(Fault::Degraded),
            "Recovery" => Some(Fault::Recovering),
            _ => Some(Fault::Broken),
        };
        found.push(copies("MegaRAID drive", name, state, fault, "MegaCli64 -LDInfo -Lall -aALL"));
    }
    found
}

/// `ssacli ctrl all show config`: `logicaldrive 1 (279.37 GB, RAID 1, OK)`.
fn ssacli(text: &str) -> Vec<Copies> {
    let row = |line: &str| {
        let (head, rest) = line.trim().split_once(" (")?;
        let (kind, name) = head.split_once(' ')?;
        let state = rest.trim_end_matches(')').rsplit(", ").next()?;
        let is_well = state == "OK" || state == "spare" || state == "active spare";
        let command = "ssacli ctrl all show config detail";
        match kind {
            "logicaldrive" => {
                let fault = match state {
                    "OK" => None,
                    _ if state.starts_with("Interim") => Some(Fault::Degraded),
                    _ if state.contains("ecover")
                        || state.contains("ebuild")
                        || state.contains("ransform") =>
                    {
                        Some(Fault::Recovering)
                    }
                    _ => Some(Fault::Broken),
                };
                Some(copies("Smart Array drive", name, state, fault, command))
            }
            "physicaldrive" if !is_well && state.contains("Fail") => {
                Some(copies("Smart Array disk", name, state, Some(Fault::FailedMember), command))
            }
            _ => None,
        }
    };
    text.lines().filter_map(row).collect()
}

/// `arcconf getconfig 1 LD`: `Logical Device number 0`, then `Status of Logical Device : Optimal`.
fn arcconf(text: &str) -> Vec<Copies> {
    let mut found: Vec<Copies> = Vec::new();
    let mut name = "?".to_owned();
    for line in text.lines().map(str::trim) {
        let lower = line.to_ascii_lowercase();
        if let Some(number) = lower.strip_prefix("logical device number ") {
            name = number.trim().to_owned();
        }
        let Some((_, state)) = line.split_once(':').filter(|_| lower.starts_with("status of logical device"))
        else {
            continue;
        };
        let state = state.trim();
        let fault = match state {
            "Optimal" => None,
            _ if state.contains("Degraded") => Some(Fault::Degraded),
            _ if state.contains("uild") || state.contains("mpacted") => Some(Fault::Recovering),
            _ => Some(Fault::Broken),
        };
        found.push(copies("Adaptec drive", &name, state, fault, "arcconf getconfig 1 LD"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::faults;
    use super::*;

    #[test]
    fn every_tool_tells_a_degraded_array() {
        let json = r#"{"Controllers":[{"Command Status":{"Status":"Success"},"Response Data":{"Virtual Drives":2,
            "VD LIST":[{"DG/VD":"0/0","TYPE":"RAID1","State":"Optl"},{"DG/VD":"1/1","TYPE":"RAID5","State":"Dgrd"}],
            "PD LIST":[{"EID:Slt":"32:0","State":"Onln"},{"EID:Slt":"32:3","State":"Failed"}]}}]}"#;
        assert_eq!(
            faults(&storcli(json)),
            [
                ("MegaRAID drive 0:0/0", "RAID1 Optl", None),
                ("MegaRAID drive 0:1/1", "RAID5 Dgrd", Some(Fault::Degraded)),
                ("MegaRAID disk 0:32:3", "Failed", Some(Fault::FailedMember)),
            ]
        );
        let text = "Adapter 0 -- Virtual Drive Information:\nVirtual Drive: 0 (Target Id: 0)\nName                :\nState               : Degraded\n";
        assert_eq!(faults(&megacli(text)), [("MegaRAID drive 0", "Degraded", Some(Fault::Degraded))]);
        let text = "Smart Array P440ar in Slot 0 (Embedded)   (sn: X)\n   Array A (SAS, Unused Space: 0  MB)\n\
                    \x20     logicaldrive 1 (279.37 GB, RAID 1, Interim Recovery Mode)\n\
                    \x20     physicaldrive 1I:1:1 (port 1I:box 1:bay 1, SAS HDD, 300 GB, OK)\n\
                    \x20     physicaldrive 1I:1:2 (port 1I:box 1:bay 2, SAS HDD, 300 GB, Failed)\n";
        assert_eq!(
            faults(&ssacli(text)),
            [
                ("Smart Array drive 1", "Interim Recovery Mode", Some(Fault::Degraded)),
                ("Smart Array disk 1I:1:2", "Failed", Some(Fault::FailedMember)),
            ]
        );
        let text = "Logical Device number 0\n   Logical Device name                      : root\n   Status of Logical Device                 : Optimal\n";
        assert_eq!(faults(&arcconf(text)), [("Adaptec drive 0", "Optimal", None)]);
    }
}
