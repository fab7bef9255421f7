//! network-firewall: does this host's own firewall turn away what is meant for Iggy.

use std::net::IpAddr;

use crate::firewall::{Action, Rule, Ruleset, of_iptables, of_nft};
use crate::host::{Cause, Failure, Host, IfAny};
use crate::iggy::{self, Listener};
use crate::{
    Advice, Area, Check, DEADLINE, Error, Evidence, Fields, Finding, Read, Result, Table, Value, Verdict,
    quantity,
};

pub const CHECK: Check = Check {
    id: "network-firewall",
    area: Area::Network,
    title: "Does the firewall let Iggy's clients in?",
    why: "A rule that drops a port of Iggy looks to its clients like a server that is down. The server itself \
          answers on the host and logs nothing.",
    reads: &[Read::Command("nft-ruleset"), Read::Command("iptables-save"), Read::Iggy],
    thresholds: &[
        "warns when a rule drops or rejects a port that Iggy listens on, for every packet",
        "notes one that holds for some packets, follows a rule that lets some through, or is about a port that listens on the loopback only",
        "says when the rules could not be read; policies are shown and not judged",
    ],
    advice: "Let the clients' networks in before the rule that turns everybody away.",
    deadline: DEADLINE,
    run,
};

fn run(host: &Host) -> Result<Finding> {
    let nft = read(host, "nft-ruleset").and_then(|text| {
        text.map(|text| of_nft(&text).map_err(|detail| Error::parse("nft-ruleset", detail))).transpose()
    });
    let iptables = read(host, "iptables-save").map(|text| text.map(|text| of_iptables(&text)));
    let mut finding = Finding::new("");
    let mut rulesets: Vec<Ruleset> = Vec::new();
    let mut failed = None;
    for answer in [nft, iptables] {
        match answer {
            Ok(ruleset) => rulesets.extend(ruleset),
            Err(error) => {
                let advice = Advice::run(
                    "Run Warden as root or give it CAP_NET_ADMIN.",
                    "nft list ruleset; iptables-save",
                );
                finding.note(format!("part of the firewall could not be read: {error}"), advice);
                failed = failed.or(Some(error));
            }
        }
    }
    match failed {
        Some(error) if rulesets.is_empty() => return Err(error),
        None if rulesets.is_empty() => {
            return Ok(Finding::skip("neither nft nor iptables is installed here"));
        }
        _ => {}
    }

    let listeners = iggy::listeners(host);
    let mut table =
        Table::new("Rules about Iggy's ports", ["chain", "action", "protocol", "ports", "for", "about"]);
    let mut turned_away = 0;
    for listener in &listeners {
        for ruleset in &rulesets {
            turned_away += u64::from(judge(&mut finding, &mut table, ruleset, listener));
        }
    }
    let count = rulesets.iter().map(|ruleset| ruleset.count).sum::<usize>() as u64;
    let rules = quantity::count(count, "rule", "rules");
    finding.summary = match listeners.len() {
        0 => format!("{rules}; no Iggy is configured on this host"),
        ports => format!(
            "{rules}; {turned_away} of {} turned away",
            quantity::count(ports as u64, "port of Iggy is", "ports of Iggy are")
        ),
    };
    let mut policies = Fields::new("What happens to packets that no rule decides");
    for (chain, policy) in rulesets.iter().flat_map(|ruleset| &ruleset.policies) {
        policies = policies.row(chain, policy.as_str());
    }
    finding.show(Evidence::Table(table));
    finding.show(Evidence::Fields(policies));
    Ok(finding)
}

/// `None` when the program is not installed.
fn read(host: &Host, name: &str) -> Result<Option<String>> {
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

/// Whether something turns away what arrives for `listener`.
fn judge(finding: &mut Finding, table: &mut Table, ruleset: &Ruleset, listener: &Listener) -> bool {
    let mut turned_away = false;
    let rules: Vec<&Rule> =
        ruleset.rules.iter().filter(|rule| rule.is_about(listener.port, listener.udp)).collect();
    for (at, rule) in rules.iter().enumerate() {
        let before = rules[..at].iter().filter(|other| other.chain == rule.chain);
        let accepted: Vec<bool> =
            before.filter(|other| other.action == Action::Accept).map(|other| other.conditional).collect();
        // Who was let in by an earlier rule of the chain does not come here.
        let has_effect = rule.action != Action::Accept && accepted.iter().all(|&conditional| conditional);
        let on_loopback = listener.host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        let severity = match rule.conditional || !accepted.is_empty() || on_loopback {
            _ if !has_effect => None,
            true => Some(Verdict::Note),
            false => Some(Verdict::Warn),
        };
        let ports: Vec<String> = rule
            .ports
            .iter()
            .map(|range| match range.start() == range.end() {
                true => range.start().to_string(),
                false => format!("{}-{}", range.start(), range.end()),
            })
            .collect();
        let ports = format!("{}{}", if rule.negated { "all but " } else { "" }, ports.join(", "));
        let cells = [
            Value::Code(rule.chain.clone()),
            rule.action.name().into(),
            rule.protocol.as_deref().unwrap_or("any").into(),
            ports.into(),
            if rule.conditional { "some packets" } else { "every packet" }.into(),
            format!("{} {}", listener.name, listener.port).into(),
        ];
        let Some(severity) = severity else {
            table.row(cells);
            continue;
        };
        table.marked_row(severity, cells);
        turned_away = true;
        let limit = match (rule.conditional, accepted.is_empty(), on_loopback) {
            (true, ..) => ", for some packets",
            (_, false, _) => ", after others let some through",
            (.., true) => ", where Iggy listens on the loopback only",
            _ => "",
        };
        let (protocol, done) = (
            if listener.udp { "UDP" } else { "TCP" },
            if rule.action == Action::Drop { "drops" } else { "rejects" },
        );
        let text =
            format!("{} {done} {protocol} port {} ({}){limit}", rule.chain, listener.port, listener.name);
        let command = match rule.chain.strip_prefix("iptables ").and_then(|rest| rest.split_once(' ')) {
            Some((table, chain)) => format!("iptables -t {table} -nvL {chain} --line-numbers"),
            None => format!("nft -a list chain {}", rule.chain),
        };
        finding.problem(severity, text, Advice::run(CHECK.advice, command));
    }
    turned_away
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Data, Output, Recorded, Request};
    use crate::iggy::tests::running;

    fn command(recorded: Recorded, name: &str, status: i32, stdout: &str, stderr: &str) -> Recorded {
        let output =
            Output { status: Some(status), stdout: stdout.to_owned(), stderr: stderr.to_owned(), cut: false };
        recorded.with(Request::Command { name: name.to_owned(), argument: None }, Data::Output(output))
    }

    fn iggy_at(address: &str) -> Recorded {
        running(70).file("/proc/70/environ", &format!("IGGY_TCP_ADDRESS={address}:8090\0"))
    }

    fn examined(address: &str, rules: &str) -> (Verdict, Vec<String>) {
        let saved = format!("*filter\n:INPUT ACCEPT [0:0]\n{rules}COMMIT\n");
        let finding = run(&command(iggy_at(address), "iptables-save", 0, &saved, "").host()).unwrap();
        (finding.verdict(), finding.problems.into_iter().map(|problem| problem.text).collect())
    }

    const REJECT: &str = "-A INPUT -p tcp -m tcp --dport 8090 -j REJECT\n";

    #[test]
    fn rules_about_other_ports_pass() {
        let drop = "-A INPUT -p tcp --dport 22 -j DROP\n-A INPUT -p udp --dport 8090 -j DROP\n";
        assert_eq!(examined("0.0.0.0", drop), (Verdict::Pass, vec![]));
        let nft = r#"{"nftables":[{"metainfo":{"version":"1.0.6"}}]}"#;
        let finding = run(&command(iggy_at("0.0.0.0"), "nft-ruleset", 0, nft, "").host()).unwrap();
        assert_eq!(
            (finding.verdict(), finding.summary.as_str()),
            (Verdict::Pass, "0 rules; 0 of 4 ports of Iggy are turned away")
        );
    }

    #[test]
    fn a_rule_that_rejects_a_port_of_iggy_warns() {
        let text = "iptables filter INPUT rejects TCP port 8090 (tcp)";
        assert_eq!(examined("0.0.0.0", REJECT), (Verdict::Warn, vec![text.to_owned()]));
    }

    #[test]
    fn what_an_earlier_rule_lets_in_is_not_turned_away() {
        let everybody = format!("-A INPUT -p tcp --dport 8090 -j ACCEPT\n{REJECT}");
        assert_eq!(examined("0.0.0.0", &everybody), (Verdict::Pass, vec![]));
        let some = format!("-A INPUT -s 10.0.0.0/8 -p tcp --dport 8090 -j ACCEPT\n{REJECT}");
        let text = "iptables filter INPUT rejects TCP port 8090 (tcp), after others let some through";
        assert_eq!(examined("0.0.0.0", &some), (Verdict::Note, vec![text.to_owned()]));
    }

    #[test]
    fn a_rule_for_some_packets_or_over_a_loopback_listener_is_noted() {
        let text = "iptables filter INPUT drops TCP port 8090 (tcp), for some packets";
        assert_eq!(
            examined("0.0.0.0", "-A INPUT -i eth1 -p tcp --dport 8090 -j DROP\n"),
            (Verdict::Note, vec![text.to_owned()])
        );
        let text =
            "iptables filter INPUT rejects TCP port 8090 (tcp), where Iggy listens on the loopback only";
        assert_eq!(examined("127.0.0.1", REJECT), (Verdict::Note, vec![text.to_owned()]));
    }

    #[test]
    fn rules_that_only_root_may_read_are_an_error_and_half_of_them_a_note() {
        let said = "Operation not permitted (you must be root)\nnetlink: Error: cache initialization failed";
        let denied = command(iggy_at("0.0.0.0"), "nft-ruleset", 1, "", said);
        let error = run(&denied.clone().host()).unwrap_err();
        assert_eq!(error.to_string(), "command nft-ruleset: permission denied");
        let finding = run(&command(denied, "iptables-save", 0, "", "").host()).unwrap();
        let text = "part of the firewall could not be read: command nft-ruleset: permission denied";
        assert_eq!((finding.verdict(), finding.problems[0].text.as_str()), (Verdict::Note, text));
    }

    #[test]
    fn a_host_without_either_program_is_skipped_and_one_without_iggy_passes() {
        assert_eq!(run(&Recorded::complete().host()).unwrap().verdict(), Verdict::Skip);
        let finding = run(&command(Recorded::complete(), "iptables-save", 0, REJECT, "").host()).unwrap();
        assert_eq!(
            (finding.verdict(), finding.summary.as_str()),
            (Verdict::Pass, "1 rule; no Iggy is configured on this host")
        );
    }
}
