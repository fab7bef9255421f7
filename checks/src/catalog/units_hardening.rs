//! units-hardening: how much could a runtime do to this host if it were taken over.

use warden_host::proc::field;
use warden_host::quantity::number;
use warden_host::{Host, IfAny, UnitProperties};

use crate::iggy::Runtime;
use crate::process_samples::{self, Runtimes};
use crate::units::{self, Found};
use crate::{Advice, Area, Check, DEADLINE, Error, Evidence, Fields, Finding, Read, Result, Table, Value};

pub const CHECK: Check = Check {
    id: "units-hardening",
    area: Area::Units,
    title: "How confined are the runtimes?",
    why: "A broker takes bytes from the network, and the connectors runtime loads plugins. Neither needs root, and each \
          directive that is set takes one way away from whoever finds a hole. Iggy writes its data as the umask says: \
          with the usual one, every user of the host can read every message.",
    reads: &[
        Read::Units,
        Read::Command("systemd-security"),
        Read::Path("/proc/[pid]/status"),
        Read::Group(crate::iggy::READS),
    ],
    thresholds: &[
        "warns when a runtime runs, or would run, as root",
        "warns when it may gain privileges (no NoNewPrivileges)",
        "notes a umask that lets other users read the data",
    ],
    advice: "Give each runtime a user of its own and NoNewPrivileges=yes; the other directives one by one, with a test.",
    deadline: DEADLINE,
    run,
};

/// What a file mode must keep from other users.
const OTHERS: u64 = 0o007;

fn run(host: &Host) -> Result<Finding> {
    judge(host, &process_samples::runtimes(host))
}

fn judge(host: &Host, runtimes: &Runtimes) -> Result<Finding> {
    let mut finding = Finding::new("");
    let mut sentences = Vec::new();
    let mut reasons = Vec::new();
    for (runtime, name) in units::runtime_units(host)? {
        let mut silent = None;
        let unit = match units::find(host, &name)? {
            Found::Loaded(unit) => Some(unit),
            Found::NotLoaded(state) => {
                reasons.push(format!("{name} is not loaded ({state})"));
                None
            }
            Found::NoManager(reason) => {
                reasons.push(format!("there is no systemd to ask for {name}: {reason}"));
                silent = Some(reason);
                None
            }
        };
        let running = running(host, runtimes, runtime)?;
        let unit = unit.as_deref();
        if unit.is_none() && running.is_none() {
            continue;
        }
        let sentence = judge_one(host, &mut finding, runtime, &name, unit, running.as_ref());
        // Nobody can say whether the process is of the unit.
        sentences.push(match silent {
            Some(reason) => format!("{} is judged by its process alone: {reason}", runtime.program()),
            None => sentence,
        });
    }
    if sentences.is_empty() {
        return Ok(Finding::skip(reasons.join("; ")));
    }
    finding.summary = sentences.join("; ");
    Ok(finding)
}

/// What /proc/PID/status says: it holds whatever started the process.
struct Running {
    pid: u32,
    uid: Option<String>,
    no_new_privileges: Option<bool>,
    seccomp: Option<String>,
    capabilities: Option<String>,
}

fn running(host: &Host, runtimes: &Runtimes, runtime: Runtime) -> Result<Option<Running>> {
    let Some((&pid, _)) = runtimes.iter().find(|&(_, &other)| other == runtime) else { return Ok(None) };
    let Some(status) = host.value(&format!("/proc/{pid}/status")).if_any()? else { return Ok(None) };
    let effective = field(&status, "Uid").and_then(|ids| ids.split_whitespace().nth(1));
    if effective.is_none() {
        return Err(Error::parse(format!("/proc/{pid}/status"), "it names no user"));
    }
    Ok(Some(Running {
        pid,
        uid: effective.map(str::to_owned),
        no_new_privileges: field(&status, "NoNewPrivs").map(|flag| flag == "1"),
        seccomp: field(&status, "Seccomp").map(str::to_owned),
        capabilities: field(&status, "CapEff").map(str::to_owned),
    }))
}

fn judge_one(
    host: &Host,
    finding: &mut Finding,
    runtime: Runtime,
    name: &str,
    unit: Option<&UnitProperties>,
    running: Option<&Running>,
) -> String {
    let who = match running {
        Some(running) => format!("{} (pid {})", runtime.program(), running.pid),
        None => name.to_owned(),
    };
    let as_root = match (running.and_then(|running| running.uid.as_deref()), unit) {
        (Some(uid), _) => uid == "0",
        (None, Some(unit)) => would_be_root(unit),
        (None, None) => false,
    };
    let advise = |setting: &str| match unit {
        Some(_) => units::drop_in(host, name, setting),
        None => Advice::text("Start it from a unit, with a user of its own and NoNewPrivileges=yes."),
    };
    if as_root {
        let user = runtime.program();
        let command = format!("useradd --system --no-create-home --shell /usr/sbin/nologin {user}");
        let text =
            format!("Make a user, give it the data directory (chown -R) and set User={user} in the unit.");
        finding.warn(format!("{who} runs as root"), Advice::run(text, command));
    }
    let confined = running
        .and_then(|running| running.no_new_privileges)
        .or_else(|| unit.and_then(|unit| unit.flag("NoNewPrivileges")));
    if confined == Some(false) {
        let text = format!("{who} may gain privileges through setuid programs: NoNewPrivileges is off");
        finding.warn(text, advise("NoNewPrivileges=yes"));
    }
    let Some(unit) = unit else {
        finding.show(Evidence::Fields(fields(&who, running, None, None)));
        return format!("{who} runs outside {name}");
    };
    if let Some(mask) = unit.number("UMask").filter(|mask| mask & OTHERS != OTHERS) {
        let text =
            format!("{name} has UMask={mask:04o}: what it writes can be read by every user of this host");
        finding.note(text, advise("UMask=0027"));
    }
    let measures = measures(unit);
    let (set, all) = (measures.iter().filter(|measure| measure.is_set).count(), measures.len());
    let mut table =
        Table::new(format!("Directives of {name}"), ["directive", "set", "value", "what it prevents"]);
    for measure in measures {
        let cells = [
            Value::Code(measure.name.to_owned()),
            measure.is_set.into(),
            Value::Code(measure.value),
            measure.prevents.into(),
        ];
        table.row(cells);
    }
    let exposure = units::exposure(host, name);
    finding.show(Evidence::Fields(fields(&who, running, Some(unit), exposure)));
    finding.show(Evidence::Table(table));
    let scored = exposure.map_or_else(String::new, |score| format!(", exposure {} of 10", number(score)));
    format!("{name} sets {set} of {all} confining directives{scored}")
}

fn would_be_root(unit: &UnitProperties) -> bool {
    unit.flag("DynamicUser") != Some(true) && matches!(unit.text("User"), None | Some("root" | "0"))
}

fn fields(
    who: &str,
    running: Option<&Running>,
    unit: Option<&UnitProperties>,
    exposure: Option<f64>,
) -> Fields {
    let user = unit.and_then(|unit| {
        let user = if unit.flag("DynamicUser") == Some(true) { Some("(dynamic)") } else { unit.text("User") };
        user.or(Some("root (none is set)"))
    });
    let code = |text: Option<&String>| Value::from(text.map(|text| Value::Code(text.clone())));
    Fields::new(who)
        .row("user of the unit", Value::from(user))
        .row("user id of the process", code(running.and_then(|running| running.uid.as_ref())))
        .row("no new privileges, process", Value::from(running.and_then(|running| running.no_new_privileges)))
        .row("seccomp mode (0 none, 2 filter)", code(running.and_then(|running| running.seccomp.as_ref())))
        .row("effective capabilities", code(running.and_then(|running| running.capabilities.as_ref())))
        .row("exposure by systemd-analyze (0 to 10)", Value::from(exposure))
}

struct Measure {
    name: &'static str,
    is_set: bool,
    value: String,
    prevents: &'static str,
}

/// Directives of systemd.exec(5) that a broker can live with.
fn measures(unit: &UnitProperties) -> Vec<Measure> {
    const FLAGS: [(&str, &str); 12] = [
        ("NoNewPrivileges", "gaining privileges through setuid programs"),
        ("PrivateTmp", "seeing other services' temporary files"),
        ("PrivateDevices", "raw access to disks"),
        ("ProtectKernelTunables", "changing sysctls"),
        ("ProtectKernelModules", "loading kernel modules"),
        ("ProtectKernelLogs", "reading the kernel's log"),
        ("ProtectControlGroups", "changing control groups"),
        ("ProtectClock", "setting the clock"),
        ("ProtectHostname", "changing the host name"),
        ("RestrictRealtime", "taking a CPU for itself"),
        ("RestrictSUIDSGID", "leaving setuid files behind"),
        ("LockPersonality", "using odd execution domains"),
    ];
    let user = unit.text("User").unwrap_or("root").to_owned();
    let mut measures = vec![Measure {
        name: "User",
        is_set: !would_be_root(unit),
        value: if unit.flag("DynamicUser") == Some(true) { "(dynamic)".to_owned() } else { user },
        prevents: "being root",
    }];
    for (name, prevents) in FLAGS {
        let flag = unit.flag(name).unwrap_or(false);
        measures.push(Measure {
            name,
            is_set: flag,
            value: if flag { "yes" } else { "no" }.to_owned(),
            prevents,
        });
    }
    for (name, prevents) in [
        ("ProtectSystem", "changing programs and /etc"),
        ("ProtectHome", "reading home directories"),
        ("ProtectProc", "seeing other users' processes"),
    ] {
        let value = unit.text(name).unwrap_or("no").to_owned();
        measures.push(Measure { name, is_set: !matches!(value.as_str(), "no" | "default"), value, prevents });
    }
    for (name, prevents) in [
        ("SystemCallFilter", "system calls that a broker does not need"),
        ("RestrictAddressFamilies", "other kinds of sockets"),
    ] {
        let (is_allow_list, entries) = filter(unit, name);
        let value = match (entries, is_allow_list) {
            (0, false) => "none".to_owned(),
            (entries, true) => format!("{entries} allowed"),
            (entries, false) => format!("{entries} denied"),
        };
        measures.push(Measure { name, is_set: entries > 0 || is_allow_list, value, prevents });
    }
    let bounding = unit.properties.get("CapabilityBoundingSet").and_then(serde_json::Value::as_u64);
    // Linux has 41 capabilities; the default is all of them, however many this systemd knows.
    let kept = bounding.map_or(41, u64::count_ones);
    measures.push(Measure {
        name: "CapabilityBoundingSet",
        is_set: kept < 30,
        value: format!("{kept} capabilities"),
        prevents: "using root's powers one by one",
    });
    measures
}

/// `(is it an allow list, how many entries)`: on the bus a filter is a pair of a flag and a list of names.
fn filter(unit: &UnitProperties, name: &str) -> (bool, usize) {
    let pair = unit.properties.get(name).and_then(serde_json::Value::as_array);
    let allow = pair.and_then(|pair| pair.first()?.as_bool()).unwrap_or(false);
    let names = pair.and_then(|pair| pair.get(1)?.as_array()).map_or(0, Vec::len);
    (allow, names)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};
    use warden_host::{Cause, Recorded, Request};

    use super::*;
    use crate::Verdict;
    use crate::units::testing::settings;

    fn with(changes: Json) -> Recorded {
        let mut unit = json!({
            "LoadState": "loaded", "User": "iggy", "NoNewPrivileges": true, "UMask": 0o027, "ProtectSystem": "strict",
            "SystemCallFilter": [true, ["read", "write"]], "CapabilityBoundingSet": 0
        });
        for (name, value) in changes.as_object().unwrap() {
            unit[name] = value.clone();
        }
        Recorded::complete().settings(settings()).unit("iggy.service", unit)
    }

    fn judged(host: Recorded) -> Finding {
        judge(&host.host(), &Runtimes::new()).unwrap()
    }

    #[test]
    fn a_unit_with_a_user_of_its_own_passes_and_its_directives_are_counted() {
        let finding = judged(with(json!({})));
        assert_eq!(finding.verdict(), Verdict::Pass, "{:?}", finding.problems);
        assert_eq!(finding.summary, "iggy.service sets 5 of 19 confining directives");
    }

    #[test]
    fn root_and_gained_privileges_warn() {
        let finding = judged(with(json!({"User": "", "NoNewPrivileges": false})));
        assert_eq!(finding.verdict(), Verdict::Warn);
        let texts: Vec<&str> = finding.problems.iter().map(|problem| problem.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "iggy.service runs as root",
                "iggy.service may gain privileges through setuid programs: NoNewPrivileges is off"
            ]
        );
        assert_eq!(judged(with(json!({"User": "", "DynamicUser": true}))).verdict(), Verdict::Pass);
    }

    #[test]
    fn an_open_umask_is_noted() {
        let finding = judged(with(json!({"UMask": 0o022})));
        assert_eq!(finding.verdict(), Verdict::Note);
        assert_eq!(
            finding.problems[0].text,
            "iggy.service has UMask=0022: what it writes can be read by every user of this host"
        );
    }

    #[test]
    fn the_process_is_believed_over_its_unit() {
        let status = "Uid:\t0\t0\t0\t0\nNoNewPrivs:\t1\nSeccomp:\t2\nCapEff:\t0000000000000000\n";
        let host = with(json!({"NoNewPrivileges": false})).file("/proc/9/status", status).host();
        let finding = judge(&host, &Runtimes::from([(9, Runtime::Iggy)])).unwrap();
        assert_eq!(finding.problems.len(), 1);
        assert_eq!(finding.problems[0].text, "iggy-server (pid 9) runs as root");
    }

    #[test]
    fn without_systemd_a_running_process_is_still_judged_and_without_one_it_skips() {
        let request = |name: &str| Request::Unit { name: name.to_owned() };
        let cause = || Cause::Unavailable("no system bus".to_owned());
        let host = Recorded::complete()
            .settings(settings())
            .without(request("iggy.service"), cause())
            .without(request("iggy-connectors.service"), cause());
        let skipped = judged(host.clone());
        assert_eq!(skipped.verdict(), Verdict::Skip);
        assert!(skipped.summary.starts_with("there is no systemd to ask for iggy.service: no system bus; "));
        let host = host.file("/proc/9/status", "Uid:\t1000\t1000\t1000\t1000\nNoNewPrivs:\t0\n").host();
        let finding = judge(&host, &Runtimes::from([(9, Runtime::Iggy)])).unwrap();
        assert_eq!(
            (finding.verdict(), finding.summary.as_str()),
            (Verdict::Warn, "iggy-server is judged by its process alone: no system bus")
        );
    }

    #[test]
    fn a_denied_unit_cannot_be_judged() {
        let request = Request::Unit { name: "iggy.service".to_owned() };
        let host = with(json!({})).without(request, Cause::Denied).host();
        assert!(judge(&host, &Runtimes::new()).is_err());
    }
}
