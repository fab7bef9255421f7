//! Reads what `iptables-save` and `ip6tables-save` print.

use super::Ruleset;
use super::iptables_match::tests_of;
use super::rule::{Base, Chain, Family, Hook, Rule, Statement, Verdict};

/// The rules of one family.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    pub ruleset: Ruleset,
    /// It says that it shows rules of nf_tables.
    pub says_nf_tables: bool,
    /// Tables that it cannot show: nft made them.
    pub incompatible: Vec<String>,
}

/// From `iptables-save` or `ip6tables-save`.
pub fn of_iptables(text: &str, family: Family) -> Saved {
    let program = if family == Family::V4 { "iptables" } else { "ip6tables" };
    let (mut saved, mut table) = (Saved::default(), String::new());
    let header = text.lines().take_while(|line| line.starts_with('#'));
    saved.says_nf_tables = header.into_iter().any(|line| line.contains("nf_tables"));
    let mut rules: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines().map(str::trim_end) {
        let incompatible =
            line.strip_prefix("# Table `").and_then(|rest| rest.split_once("' is incompatible"));
        if let Some((name, _)) = incompatible {
            saved.incompatible.push(name.to_owned());
        } else if let Some(name) = line.strip_prefix('*') {
            table = format!("{program} {}", name.trim());
        } else if let Some(chain) = line.strip_prefix(':') {
            saved.ruleset.chains.push(read_chain(chain, &table, family));
        } else if let Some(at) = line.find("-A ").filter(|&at| at == 0 || line.starts_with('[')) {
            rules.push((table.clone(), words(&line[at + "-A ".len()..])));
        }
    }
    for (table, words) in rules {
        let Some((chain, options)) = words.split_first() else { continue };
        let name = format!("{table} {chain}");
        let rule = read_rule(options, &table, family, &saved.ruleset.chains);
        if let Some(chain) = saved.ruleset.chains.iter_mut().find(|chain| chain.name == name) {
            chain.rules.push(rule);
        }
    }
    saved
}

/// `INPUT DROP [0:0]`; a chain that is only jumped to has no policy.
fn read_chain(line: &str, table: &str, family: Family) -> Chain {
    let mut words = line.split(' ');
    let (name, policy) = (words.next().unwrap_or_default(), words.next().unwrap_or("-"));
    let base = Hook::parse(name).filter(|_| policy != "-").map(|hook| Base {
        hook,
        priority: priority(table.split(' ').nth(1).unwrap_or_default(), hook),
        family: Some(family),
        policy: if policy == "DROP" { Verdict::Drop } else { Verdict::Accept },
        entry: Vec::new(),
    });
    Chain { table: table.to_owned(), name: format!("{table} {name}"), base, rules: Vec::new() }
}

/// include/uapi/linux/netfilter_ipv4.h.
fn priority(table: &str, hook: Hook) -> i64 {
    match (table, hook) {
        ("raw", _) => -300,
        ("mangle", _) => -150,
        ("nat", Hook::Input) => 100,
        ("nat", _) => -100,
        ("security", _) => 50,
        _ => 0,
    }
}

fn read_rule(options: &[String], table: &str, family: Family, chains: &[Chain]) -> Rule {
    let target = options.iter().rposition(|word| ["-j", "-g", "--jump", "--goto"].contains(&word.as_str()));
    let matches = &options[..target.unwrap_or(options.len())];
    let mut statements: Vec<Statement> = tests_of(matches, family).into_iter().map(Statement::Test).collect();
    if let Some(at) = target {
        let name = options.get(at + 1).map(String::as_str).unwrap_or_default();
        let goes = options[at].starts_with("-g") || options[at] == "--goto";
        let full = format!("{table} {name}");
        let is_chain = chains.iter().any(|chain| chain.name == full);
        statements.extend(match (is_chain, goes) {
            (true, true) => Some(Statement::Verdict(Verdict::Goto(full))),
            (true, false) => Some(Statement::Verdict(Verdict::Jump(full))),
            (false, _) => target_statement(name, &options[at + 1..]),
        });
    }
    Rule { text: format!("rule `{}`", options.join(" ")), statements }
}

/// Targets: iptables-extensions(8).
fn target_statement(name: &str, options: &[String]) -> Option<Statement> {
    let has = |option: &str| options.iter().any(|word| word == option);
    let verdict = match name {
        "ACCEPT" => Verdict::Accept,
        "DROP" | "TARPIT" | "STEAL" => Verdict::Drop,
        "REJECT" => Verdict::Reject,
        "RETURN" => Verdict::Return,
        "DNAT" | "REDIRECT" | "NETMAP" => {
            Verdict::Elsewhere("the connection is sent to another address or port".to_owned())
        }
        // The source changes, the destination does not.
        "SNAT" | "MASQUERADE" => Verdict::Accept,
        "MARK" | "CONNMARK" => return Some(Statement::SetMark),
        "NOTRACK" => return Some(Statement::Untrack),
        "CT" => return has("--notrack").then_some(Statement::Untrack),
        "" | "LOG" | "NFLOG" | "ULOG" | "TRACE" | "SET" | "TCPMSS" | "TCPOPTSTRIP" | "TOS" | "DSCP"
        | "TTL" | "HL" | "CLASSIFY" | "SECMARK" | "CONNSECMARK" | "TEE" | "AUDIT" | "CHECKSUM"
        | "IDLETIMER" | "RATEEST" | "LED" | "ECN" | "HMARK" => return None,
        "SYNPROXY" | "TPROXY" => Verdict::Elsewhere("the connection is handed to a proxy".to_owned()),
        "NFQUEUE" | "QUEUE" => Verdict::Elsewhere("a program in user space decides".to_owned()),
        other => Verdict::Elsewhere(format!("Warden does not know the target {other}")),
    };
    Some(Statement::Verdict(verdict))
}

/// Words as iptables-save writes them: those with white space in double quotes, in which `\` escapes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => (quoted, begun) = (!quoted, true),
            '\\' if quoted => word.extend(characters.next()),
            ' ' if !quoted => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            other => {
                word.push(other);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}
