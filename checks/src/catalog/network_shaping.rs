//! network-shaping: is traffic delayed, lost or limited on purpose.

use warden_host::{Cause, Failure, Host};

use crate::net_links::{IP_ADDRESS, Link, parse};
use crate::{
    Advice, Area, Check, DEADLINE, Error, Evidence, Finding, Read, Result, Table, Value, Verdict, quantity,
    quoted,
};

pub const CHECK: Check = Check {
    id: "network-shaping",
    area: Area::Network,
    title: "Is traffic shaped?",
    why: "A rate limit or an artificial delay left behind by a test slows every producer and consumer. From \
          inside Iggy it looks like slow clients.",
    reads: &[Read::Command("tc-qdisc"), Read::Command(IP_ADDRESS)],
    thresholds: &[
        "warns when an interface delays or loses packets (netem) or limits its rate (tbf)",
        "notes classes and other shapers (htb, hfsc, cbq, taprio, cake with a bandwidth, fq with a rate)",
        "notes filters of what arrives or leaves (ingress, clsact), which may drop and are not read",
    ],
    advice: "Remove the queueing discipline if nobody means it to be there.",
    deadline: DEADLINE,
    run,
};

const HURTS: [&str; 2] = ["netem", "tbf"];
const MAY_LIMIT: [&str; 6] = ["htb", "hfsc", "cake", "cbq", "taprio", "fq"];
/// They hold filters, not packets.
const FILTERS: [&str; 2] = ["ingress", "clsact"];

struct Discipline {
    interface: String,
    kind: String,
    place: String,
    options: String,
    /// Its options say that it has no rate to keep to.
    unlimited: bool,
}

fn run(host: &Host) -> Result<Finding> {
    let mut finding = Finding::new("");
    let disciplines = match host.run("tc-qdisc") {
        Ok(output) => parse("tc-qdisc", &output)?.iter().map(of_tc).collect(),
        Err(Error::Host(Failure { cause: Cause::Absent, .. })) => {
            let text = "`tc` is not installed: only the outermost discipline of each interface is known";
            finding.note(
                text,
                Advice::run(
                    "Install iproute2 in full.",
                    "apt-get install iproute2 || dnf install iproute-tc",
                ),
            );
            Link::all(host)?.into_iter().map(of_link).collect::<Vec<_>>()
        }
        Err(error) => return Err(error),
    };

    let mut table = Table::new("Queueing disciplines", ["interface", "kind", "at", "options"]);
    let mut shaped = 0;
    for one in &disciplines {
        let cells = [
            Value::Code(one.interface.clone()),
            one.kind.clone().into(),
            one.place.clone().into(),
            if one.options.is_empty() { Value::Nothing } else { Value::Code(one.options.clone()) },
        ];
        let kind = one.kind.as_str();
        let (severity, text) = if HURTS.contains(&kind) {
            let what = if kind == "netem" { "delays, loses or reorders packets" } else { "limits the rate" };
            (Verdict::Warn, format!("{kind} on {} {what}: {}", one.interface, one.options))
        } else if FILTERS.contains(&kind) {
            let text =
                format!("{} has filters ({kind}), which may drop or limit and are not read", one.interface);
            table.marked_row(Verdict::Note, cells);
            let command = format!(
                "tc filter show dev {0} ingress; tc filter show dev {0} egress",
                quoted(&one.interface)
            );
            finding.note(text, Advice::run("Read what the filters do.", command));
            continue;
        } else if MAY_LIMIT.contains(&kind) && !one.unlimited {
            (Verdict::Note, format!("{kind} on {} may limit the rate: {}", one.interface, one.options))
        } else {
            table.row(cells);
            continue;
        };
        shaped += 1;
        table.marked_row(severity, cells);
        let command = format!("tc -s qdisc show dev {0}; tc qdisc del dev {0} root", quoted(&one.interface));
        finding.problem(severity, text, Advice::run(CHECK.advice, command));
    }
    let count = quantity::count(disciplines.len() as u64, "queueing discipline", "queueing disciplines");
    finding.summary = format!("{shaped} of {count} shape traffic");
    finding.show(Evidence::Table(table));
    Ok(finding)
}

fn of_tc(row: &serde_json::Value) -> Discipline {
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let place = match row["root"].as_bool() {
        Some(true) => "root".to_owned(),
        _ => text("parent"),
    };
    let options = row["options"].as_object().filter(|options| !options.is_empty());
    let has = |name: &str| options.is_some_and(|options| options.contains_key(name));
    let unlimited = match row["kind"].as_str() {
        Some("cake") => row["options"]["bandwidth"] == "unlimited",
        Some("fq") => !has("maxrate") && !has("defrate"),
        _ => false,
    };
    let options =
        options.map(|options| serde_json::Value::Object(options.clone()).to_string()).unwrap_or_default();
    Discipline { interface: text("dev"), kind: text("kind"), place, options, unlimited }
}

fn of_link(link: Link) -> Discipline {
    // Without its options nobody knows whether the usual queue has a rate.
    let unlimited = link.qdisc == "fq";
    Discipline {
        interface: link.name,
        kind: link.qdisc,
        place: "root".to_owned(),
        options: String::new(),
        unlimited,
    }
}

#[cfg(test)]
mod tests {
    use warden_host::{Data, Output, Recorded, Request};

    use super::*;

    fn command(recorded: Recorded, name: &str, status: i32, stdout: &str) -> Recorded {
        let output =
            Output { status: Some(status), stdout: stdout.to_owned(), stderr: String::new(), cut: false };
        recorded.with(Request::Command { name: name.to_owned(), argument: None }, Data::Output(output))
    }

    fn with(kind: &str) -> Finding {
        let json = format!(
            r#"[{{"kind":"noqueue","handle":"0:","dev":"lo","root":true,"options":{{}}}},
                {{"kind":"{kind}","handle":"8001:","dev":"eth0","root":true,"options":{{"limit":1000,"delay":{{"delay":0.1}}}}}}]"#
        );
        run(&command(Recorded::complete(), "tc-qdisc", 0, &json).host()).unwrap()
    }

    #[test]
    fn the_usual_queues_pass() {
        let finding = with("fq_codel");
        assert_eq!(
            (finding.verdict(), finding.summary.as_str()),
            (Verdict::Pass, "0 of 2 queueing disciplines shape traffic")
        );
    }

    #[test]
    fn an_artificial_delay_and_a_rate_limit_warn_and_classes_are_noted() {
        let netem = with("netem");
        assert_eq!(netem.verdict(), Verdict::Warn);
        let text = r#"netem on eth0 delays, loses or reorders packets: {"delay":{"delay":0.1},"limit":1000}"#;
        assert_eq!(netem.problems[0].text, text);
        assert_eq!((with("tbf").verdict(), with("htb").verdict()), (Verdict::Warn, Verdict::Note));
    }

    #[test]
    fn a_queue_without_a_rate_passes_and_filters_are_noted() {
        let judged = |kind: &str, options: &str| {
            let json = format!(r#"[{{"kind":"{kind}","dev":"eth0","root":true,"options":{options}}}]"#);
            let finding = run(&command(Recorded::complete(), "tc-qdisc", 0, &json).host()).unwrap();
            (finding.verdict(), finding.summary)
        };
        let none = "0 of 1 queueing discipline shape traffic".to_owned();
        let one = "1 of 1 queueing discipline shape traffic".to_owned();
        assert_eq!(judged("cake", r#"{"bandwidth":"unlimited"}"#), (Verdict::Pass, none.clone()));
        assert_eq!(judged("cake", r#"{"bandwidth":1062500000}"#), (Verdict::Note, one.clone()));
        assert_eq!(judged("fq", r#"{"limit":10000}"#), (Verdict::Pass, none.clone()));
        assert_eq!(judged("fq", r#"{"maxrate":125000}"#), (Verdict::Note, one));
        assert_eq!(judged("clsact", "{}"), (Verdict::Note, none));
    }

    #[test]
    fn without_tc_the_outermost_discipline_is_judged_and_that_is_said() {
        let links = r#"[{"ifname":"eth0","qdisc":"netem"}]"#;
        let finding = run(&command(Recorded::complete(), IP_ADDRESS, 0, links).host()).unwrap();
        let severities: Vec<Verdict> = finding.problems.iter().map(|problem| problem.severity).collect();
        assert_eq!(severities, [Verdict::Note, Verdict::Warn]);
    }

    #[test]
    fn an_answer_that_is_not_understood_is_an_error() {
        assert!(run(&command(Recorded::complete(), "tc-qdisc", 1, "").host()).is_err());
        assert!(
            run(&command(Recorded::complete(), "tc-qdisc", 0, "qdisc noqueue 0: dev lo").host()).is_err()
        );
        assert!(run(&Recorded::complete().host()).is_err());
    }
}
