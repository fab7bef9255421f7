//! network-firewall: does this host's own firewall turn away what is meant for Iggy.

use std::net::IpAddr;

use warden_host::{Host, IfAny};

use crate::firewall::{
    Connection, Decision, Family, LEGACY_TABLES, LEGACY_TABLES_6, Outcome, Rules, address_number, judge,
};
use crate::iggy::{self, Configuration, Listener, Runtime};
use crate::net_links::{IP_ADDRESS, Link};
use crate::{
    Advice, Area, Check, DEADLINE, Evidence, Fields, Finding, Read, Result, Table, Value, Verdict, quantity,
    quoted,
};

pub const CHECK: Check = Check {
    id: "network-firewall",
    area: Area::Network,
    title: "Does the firewall let Iggy's clients in?",
    why: "A rule that drops a port of Iggy looks to its clients like a server that is down. The server itself \
          answers on the host and logs nothing.",
    reads: &[
        Read::Command("nft-ruleset"),
        Read::Command("iptables-save"),
        Read::Command("ip6tables-save"),
        Read::Command("iptables-legacy-save"),
        Read::Command("ip6tables-legacy-save"),
        Read::Command(IP_ADDRESS),
        Read::Path(LEGACY_TABLES),
        Read::Path(LEGACY_TABLES_6),
        Read::Path("/proc/[pid]/ns/net"),
        Read::Path("/proc/self/ns/net"),
        Read::Group(iggy::READS),
    ],
    thresholds: &[
        "warns when a new connection from another host to a port of Iggy is dropped or rejected, whoever sends it, by a rule or by a chain's policy",
        "notes a port that only some get in at, or that some are turned away from, and says who",
        "notes a port for which it cannot be judged, and why: rules that cannot be read, or an expression that decides and is not known",
        "a port that listens on the loopback only needs no opening",
    ],
    advice: "Let the clients' networks in before the rule or the policy that turns everybody else away.",
    deadline: DEADLINE,
    run,
};

fn run(host: &Host) -> Result<Finding> {
    let rules = Rules::of(host);
    let Rules { rulesets, gaps, any_program } = &rules;
    match gaps.first() {
        Some(gap) if rulesets.is_empty() => return Err(gap.error.clone()),
        None if !any_program => return Ok(Finding::skip("neither nft nor iptables is installed here")),
        _ => {}
    }
    let mut finding = Finding::new("");
    for gap in gaps {
        let advice = Advice::run(
            "Run Warden as root or give it CAP_NET_ADMIN.",
            "nft list ruleset; iptables-save; ip6tables-save",
        );
        finding.note(format!("part of the firewall could not be read: {}", gap.error), advice);
    }

    let links = Link::all(host).unwrap_or_default();
    let (mut table, mut tally) =
        (Table::new("New connections to Iggy from other hosts", COLUMNS), Tally::default());
    for runtime in Runtime::ALL {
        let Some(configuration) = iggy::configuration(host, runtime) else { continue };
        let hidden = unknown(host, &configuration);
        for listener in configuration.listeners() {
            let found = match &hidden {
                _ if listener.is_loopback() => Vec::new(),
                Some(reason) => vec![(None, Outcome::NotJudged(reason.clone()))],
                None => outcomes(&rules, &links, &listener),
            };
            tally.count(&found);
            show(&mut finding, &mut table, &listener, &found);
        }
    }
    let count = rulesets.iter().map(|ruleset| ruleset.count()).sum();
    finding.summary = format!("{}; {}", quantity::count(count, "rule", "rules"), tally.sentence());
    let mut policies = Fields::new("What happens to packets that no rule decides");
    for (chain, policy) in rulesets.iter().flat_map(|ruleset| ruleset.policies()) {
        policies = policies.row(chain, policy);
    }
    finding.show(Evidence::Table(table));
    finding.show(Evidence::Fields(policies));
    Ok(finding)
}

const COLUMNS: [&str; 7] = ["listener", "protocol", "port", "over", "address", "outcome", "decided by"];

/// Why nothing can be said of the ports of a runtime.
fn unknown(host: &Host, configuration: &Configuration) -> Option<String> {
    if let Some(error) = configuration.hidden(host) {
        return Some(format!("its configuration could not be read: {error}"));
    }
    let pid = configuration.launch.as_ref()?.pid?;
    let namespace = |of: &str| host.link(&format!("/proc/{of}/ns/net")).if_any().ok().flatten();
    let (own, theirs) = (namespace("self")?, namespace(&pid.to_string())?);
    (own != theirs).then(|| {
        format!("process {pid} has a network namespace of its own (a container), whose rules these are not")
    })
}

/// What becomes of connections to `listener`, by family; one without a family holds for all that it has.
fn outcomes(rules: &Rules, links: &[Link], listener: &Listener) -> Vec<(Option<Family>, Outcome)> {
    let own: Vec<IpAddr> = links
        .iter()
        .flat_map(|link| &link.addresses)
        .filter_map(|address| address.local.parse().ok())
        .filter(|address: &IpAddr| !address.is_loopback())
        .collect();
    let address = listener.host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    let has_v6 = own.is_empty() || own.iter().any(IpAddr::is_ipv6);
    let families: &[Family] = match address {
        Some(IpAddr::V4(_)) => &[Family::V4],
        Some(IpAddr::V6(address)) if !address.is_unspecified() => &[Family::V6],
        _ if has_v6 => &[Family::V4, Family::V6],
        _ => &[Family::V4],
    };
    let interfaces = links.iter().filter(|link| link.name != "lo").map(|link| link.name.clone());
    let interfaces: Vec<String> = interfaces.collect();
    let mut found: Vec<(Option<Family>, Outcome)> = Vec::new();
    for &family in families {
        let local = match address.filter(|address| !address.is_unspecified()) {
            Some(address) => vec![address_number(address)],
            None => {
                own.iter().filter(|one| Family::of(**one) == family).map(|one| address_number(*one)).collect()
            }
        };
        let interfaces = interfaces.clone();
        let first =
            Connection { family, udp: listener.udp, port: listener.port, local, interfaces, later: false };
        let mut outcome = judge(&rules.rulesets, &first);
        if outcome == Outcome::Accepted {
            // A rule that only lets new connections in ends each with its second packet.
            outcome = judge(&rules.rulesets, &Connection { later: true, ..first });
        }
        let gap = rules.gaps.iter().find(|gap| gap.hides(family));
        if let (Some(gap), false) = (gap, matches!(outcome, Outcome::TurnedAway(_))) {
            outcome = Outcome::NotJudged(gap.error.to_string());
        }
        found.push((Some(family), outcome));
    }
    // One sentence serves for both: the chains of the two families only have other names.
    let are_away = found.iter().all(|(_, outcome)| matches!(outcome, Outcome::TurnedAway(_)));
    if are_away || found.windows(2).all(|pair| pair[0].1 == pair[1].1) {
        found.truncate(1);
        found[0].0 = None;
    }
    found
}

fn severity(outcome: &Outcome) -> Verdict {
    match outcome {
        Outcome::Accepted => Verdict::Pass,
        Outcome::TurnedAway(_) => Verdict::Warn,
        Outcome::OnlySome(..) | Outcome::AllBut(..) | Outcome::NotJudged(_) => Verdict::Note,
    }
}

fn show(finding: &mut Finding, table: &mut Table, listener: &Listener, found: &[(Option<Family>, Outcome)]) {
    let protocol = if listener.udp { "UDP" } else { "TCP" };
    let row = |over: &str, outcome: &str, by: Option<&Decision>| {
        [
            format!("{} {}", listener.runtime.program(), listener.name).into(),
            protocol.into(),
            Value::Count(listener.port.into()),
            over.into(),
            Value::Code(listener.host.clone()),
            outcome.into(),
            by.map(|by| format!("{}: {}", by.chain, by.rule.as_deref().unwrap_or("policy drop"))).into(),
        ]
    };
    if found.is_empty() {
        table.row(row("", "on the loopback only", None));
    }
    for (family, outcome) in found {
        let over = family.map_or("", Family::name);
        let port = match family.map(Family::name) {
            Some(name) => format!("{protocol} port {} ({}) over {name}", listener.port, listener.name),
            None => format!("{protocol} port {} ({})", listener.port, listener.name),
        };
        let does = |by: &Decision| if by.rejects { "rejects" } else { "drops" };
        let (text, shown, by) = match outcome {
            Outcome::Accepted => {
                table.row(row(over, "let in", None));
                continue;
            }
            Outcome::TurnedAway(by) => {
                let why = match &by.rule {
                    Some(rule) => format!("its {rule}"),
                    None => "no rule accepts it, and the policy is drop".to_owned(),
                };
                (format!("{} {} {port}: {why}", by.chain, does(by)), "turned away".to_owned(), Some(by))
            }
            Outcome::OnlySome(who, by) => {
                let who = who.join("; ");
                let text = format!("{} {} {port} for all but: {who}", by.chain, does(by));
                (text, format!("let in for {who} only"), Some(by))
            }
            Outcome::AllBut(who, by) => {
                let who = who.join("; ");
                (
                    format!("{} {} {port} for: {who}", by.chain, does(by)),
                    format!("turned away for {who}"),
                    Some(by),
                )
            }
            Outcome::NotJudged(reason) => (
                format!("whether {port} is let in cannot be judged: {reason}"),
                "not judged".to_owned(),
                None,
            ),
        };
        table.marked_row(severity(outcome), row(over, &shown, by));
        finding.problem(severity(outcome), text, advice(by));
    }
}

fn advice(by: Option<&Decision>) -> Advice {
    let Some(by) = by else {
        let text =
            "Connect from a client's host, or read the rules: what Warden does not know, it does not guess.";
        return Advice::run(text, "nft -a list ruleset; iptables-save; ip6tables-save");
    };
    let mut words = by.chain.splitn(3, ' ');
    let command = match (words.next(), words.next(), words.next()) {
        (Some(program @ ("iptables" | "ip6tables")), Some(table), Some(chain)) => {
            format!("{program} -t {} -nvL {} --line-numbers", quoted(table), quoted(chain))
        }
        (Some(family), Some(table), Some(chain)) => {
            format!("nft -a list chain {family} {} {}", quoted(table), quoted(chain))
        }
        _ => "nft -a list ruleset".to_owned(),
    };
    Advice::run(CHECK.advice, command)
}

/// Ports by what was found of them.
#[derive(Default)]
struct Tally {
    turned_away: u64,
    partly: u64,
    judged: u64,
    not_judged: u64,
}

impl Tally {
    fn count(&mut self, found: &[(Option<Family>, Outcome)]) {
        let any = |kind: fn(&Outcome) -> bool| found.iter().any(|(_, outcome)| kind(outcome));
        if any(|outcome| matches!(outcome, Outcome::TurnedAway(_))) {
            self.turned_away += 1;
        } else if any(|outcome| matches!(outcome, Outcome::NotJudged(_))) {
            self.not_judged += 1;
            return;
        } else if any(|outcome| matches!(outcome, Outcome::OnlySome(..) | Outcome::AllBut(..))) {
            self.partly += 1;
        }
        self.judged += 1;
    }

    fn sentence(&self) -> String {
        let ports = |count| quantity::count(count, "port of Iggy is", "ports of Iggy are");
        let unjudged = quantity::count(self.not_judged, "port of Iggy", "ports of Iggy");
        let partly = match self.partly {
            0 => String::new(),
            count => format!(", {count} for some"),
        };
        match (self.judged, self.not_judged) {
            (0, 0) => "no Iggy is configured on this host".to_owned(),
            (0, _) => format!("{unjudged} could not be judged"),
            (judged, 0) => format!("{} of {} turned away{partly}", self.turned_away, ports(judged)),
            (judged, _) => {
                format!(
                    "{} of {} turned away{partly}; {unjudged} could not be judged",
                    self.turned_away,
                    ports(judged)
                )
            }
        }
    }
}
#[cfg(test)]
mod tests {
    use warden_host::{Data, Output, Recorded, Request};

    use super::*;
    use crate::iggy::tests::{link, running};

    fn command(recorded: Recorded, name: &str, status: i32, stdout: &str, stderr: &str) -> Recorded {
        let output =
            Output { status: Some(status), stdout: stdout.to_owned(), stderr: stderr.to_owned(), cut: false };
        recorded.with(Request::Command { name: name.to_owned(), argument: None }, Data::Output(output))
    }

    fn iggy_at(address: &str) -> Recorded {
        running(70).file("/proc/70/environ", &format!("IGGY_TCP_ADDRESS={address}:8090\0"))
    }

    fn told(recorded: Recorded) -> (Verdict, String, Vec<String>) {
        let finding = run(&recorded.host()).unwrap();
        let texts = finding.problems.iter().map(|problem| problem.text.clone()).collect();
        (finding.verdict(), finding.summary, texts)
    }

    fn saved(policy: &str, rules: &str) -> String {
        format!("*filter\n:INPUT {policy} [0:0]\n{rules}COMMIT\n")
    }

    fn examined(address: &str, policy: &str, rules: &str) -> (Verdict, String, Vec<String>) {
        told(command(iggy_at(address), "iptables-save", 0, &saved(policy, rules), ""))
    }

    fn expected(verdict: Verdict, summary: &str, texts: &[&str]) -> (Verdict, String, Vec<String>) {
        (verdict, summary.to_owned(), texts.iter().map(|&text| text.to_owned()).collect())
    }

    const REJECT: &str = "-A INPUT -p tcp -m tcp --dport 8090 -j REJECT\n";
    const ACCEPT: &str = "-A INPUT -p tcp -m tcp --dport 8090 -j ACCEPT\n";
    const NO_RULES: &str = r#"{"nftables":[{"metainfo":{"version":"1.0.6"}}]}"#;
    const DENIED: &str =
        "Operation not permitted (you must be root)\nnetlink: Error: cache initialization failed";

    #[test]
    fn a_port_that_everybody_gets_in_at_passes() {
        let passes = expected(Verdict::Pass, "1 rule; 0 of 4 ports of Iggy are turned away", &[]);
        assert_eq!(examined("0.0.0.0", "DROP", ACCEPT), passes);
        assert_eq!(examined("0.0.0.0", "ACCEPT", "-A INPUT -p udp --dport 8090 -j DROP\n"), passes);
        let empty = command(iggy_at("0.0.0.0"), "nft-ruleset", 0, NO_RULES, "");
        let passes = expected(Verdict::Pass, "0 rules; 0 of 4 ports of Iggy are turned away", &[]);
        assert_eq!(told(empty.clone()), passes);
        assert_eq!(told(command(empty, "iptables-save", 0, "", "")), passes);
    }

    #[test]
    fn a_port_that_nobody_gets_in_at_warns() {
        let summary = "1 rule; 1 of 4 ports of Iggy are turned away";
        let text = "iptables filter INPUT rejects TCP port 8090 (tcp): its rule `-p tcp -m tcp --dport 8090 -j REJECT`";
        let by_rule = examined("0.0.0.0", "ACCEPT", REJECT);
        assert_eq!(by_rule, expected(Verdict::Warn, summary, &[text]));
        let text =
            "iptables filter INPUT drops TCP port 8090 (tcp): no rule accepts it, and the policy is drop";
        let by_policy = examined("192.0.2.11", "DROP", "-A INPUT -p tcp --dport 22 -j ACCEPT\n");
        assert_eq!(by_policy, expected(Verdict::Warn, summary, &[text]));
    }

    #[test]
    fn a_port_that_listens_on_the_loopback_only_needs_no_opening() {
        let passes = expected(Verdict::Pass, "1 rule; 0 of 4 ports of Iggy are turned away", &[]);
        assert_eq!(examined("127.0.0.1", "DROP", REJECT), passes);
    }

    #[test]
    fn the_packets_after_the_first_have_to_get_in_too() {
        let new = "-A INPUT -p tcp -m tcp --dport 8090 -m conntrack --ctstate NEW -j ACCEPT\n";
        assert_eq!(examined("0.0.0.0", "DROP", new).0, Verdict::Warn);
        let established = format!("{new}-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n");
        assert_eq!(examined("0.0.0.0", "DROP", &established).0, Verdict::Pass);
    }

    #[test]
    fn who_gets_in_and_who_does_not_is_noted() {
        let some = format!("-A INPUT -s 10.0.0.0/8 -p tcp --dport 8090 -j ACCEPT\n{REJECT}");
        let text = "iptables filter INPUT rejects TCP port 8090 (tcp) for all but: source 10.0.0.0/8";
        let summary = "2 rules; 0 of 4 ports of Iggy are turned away, 1 for some";
        assert_eq!(examined("0.0.0.0", "ACCEPT", &some), expected(Verdict::Note, summary, &[text]));
        let banned = format!("-A INPUT -s 203.0.113.0/24 -j DROP\n{ACCEPT}");
        let text = "iptables filter INPUT drops TCP port 8090 (tcp) for: source 203.0.113.0/24";
        assert_eq!(examined("0.0.0.0", "DROP", &banned), expected(Verdict::Note, summary, &[text]));
    }

    #[test]
    fn rules_that_cannot_be_judged_are_not_counted() {
        let rules = "-A INPUT -p tcp -m unheard --of -j ACCEPT\n";
        let text = "whether TCP port 8090 (tcp) is let in cannot be judged: Warden does not know the match -m unheard (iptables filter INPUT: rule `-p tcp -m unheard --of -j ACCEPT`)";
        let summary = "1 rule; 0 of 3 ports of Iggy are turned away; 1 port of Iggy could not be judged";
        assert_eq!(examined("0.0.0.0", "DROP", rules), expected(Verdict::Note, summary, &[text]));
    }

    #[test]
    fn each_family_of_a_listener_of_both_is_judged_by_its_own_rules() {
        let (open, closed) = (saved("DROP", ACCEPT), saved("DROP", ""));
        let both = |v6: &str| {
            let recorded = command(iggy_at("[::]"), "iptables-save", 0, &open, "");
            told(command(recorded, "ip6tables-save", 0, v6, ""))
        };
        let text = "ip6tables filter INPUT drops TCP port 8090 (tcp) over IPv6: no rule accepts it, and the policy is drop";
        assert_eq!(
            both(&closed),
            expected(Verdict::Warn, "1 rule; 1 of 4 ports of Iggy are turned away", &[text])
        );
        assert_eq!(both(&open).0, Verdict::Pass);
    }

    #[test]
    fn rules_that_only_root_may_read_are_an_error_and_half_of_them_judge_nothing_but_a_refusal() {
        let denied = command(iggy_at("0.0.0.0"), "nft-ruleset", 1, "", DENIED);
        let error = run(&denied.clone().host()).unwrap_err();
        assert_eq!(error.to_string(), "command nft-ruleset: permission denied");
        let gap = "part of the firewall could not be read: command nft-ruleset: permission denied";
        let text =
            "whether TCP port 8090 (tcp) is let in cannot be judged: command nft-ruleset: permission denied";
        let half = |rules: &str| told(command(denied.clone(), "iptables-save", 0, rules, ""));
        let summary = "0 rules; 0 of 3 ports of Iggy are turned away; 1 port of Iggy could not be judged";
        assert_eq!(half(""), expected(Verdict::Note, summary, &[gap, text]));
        let text =
            "iptables filter INPUT drops TCP port 8090 (tcp): no rule accepts it, and the policy is drop";
        let summary = "0 rules; 1 of 4 ports of Iggy are turned away";
        assert_eq!(half(&saved("DROP", "")), expected(Verdict::Warn, summary, &[gap, text]));
    }

    #[test]
    fn tables_of_the_older_back_end_are_read_or_missed() {
        let nft = command(iggy_at("0.0.0.0"), "nft-ruleset", 0, NO_RULES, "").file(LEGACY_TABLES, "filter\n");
        let missed = "the tables filter of iptables' older back end: iptables-legacy-save, which shows them, is not installed";
        let (verdict, summary, texts) = told(nft.clone());
        assert_eq!(
            (verdict, texts[0].as_str()),
            (Verdict::Note, format!("part of the firewall could not be read: {missed}").as_str())
        );
        assert!(summary.ends_with("1 port of Iggy could not be judged"), "{summary}");
        let by_nf_tables =
            "# Generated by iptables-save v1.8.9 (nf_tables) on Tue\n*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n";
        let both = command(nft, "iptables-save", 0, by_nf_tables, "");
        let legacy = command(both, "iptables-legacy-save", 0, &saved("DROP", ""), "");
        assert_eq!(told(legacy).0, Verdict::Warn);
    }

    #[test]
    fn a_server_in_a_network_namespace_of_its_own_is_not_judged_by_the_rules_of_this_one() {
        let recorded =
            link(link(iggy_at("0.0.0.0"), "/proc/self/ns/net", "net:[1]"), "/proc/70/ns/net", "net:[2]");
        let (verdict, summary, texts) = told(command(recorded, "iptables-save", 0, &saved("DROP", ""), ""));
        let text = "whether TCP port 8090 (tcp) is let in cannot be judged: process 70 has a network namespace of its own (a container), whose rules these are not";
        assert_eq!((verdict, texts), (Verdict::Note, vec![text.to_owned()]));
        assert_eq!(
            summary,
            "0 rules; 0 of 3 ports of Iggy are turned away; 1 port of Iggy could not be judged"
        );
    }

    #[test]
    fn a_host_without_either_program_is_skipped_and_one_without_iggy_passes() {
        assert_eq!(run(&Recorded::complete().host()).unwrap().verdict(), Verdict::Skip);
        let finding = told(command(Recorded::complete(), "iptables-save", 0, &saved("ACCEPT", REJECT), ""));
        assert_eq!(finding, expected(Verdict::Pass, "1 rule; no Iggy is configured on this host", &[]));
    }
}
