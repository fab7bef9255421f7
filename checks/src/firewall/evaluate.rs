//! Runs the rules for one connection, along every way that conditions on the sender leave open.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::condition::{Condition, Kind, Match, compare, compare_element};
use super::rule::{Chain, Hook, Rule, Statement, Test, Verdict};
use super::{Connection, Decision, Outcome, Ruleset, Tracking};

/// Rules that are run for one connection: those of a large host, along some hundred ways.
const STEPS: usize = 2_000_000;
/// Conditions that hold at once on one way; more are not followed, for each doubles the ways.
const HELD: usize = 40;
/// Jumps within jumps: more than the 16 that the kernel allows.
const JUMPS: usize = 32;
/// NF_IP_PRI_CONNTRACK: where connection tracking sees a packet first.
const CONNTRACK: i64 = -200;
/// Groups of senders that a sentence names.
const NAMED: usize = 6;

/// What the firewall does with `connection`.
pub fn judge<'a>(rulesets: impl IntoIterator<Item = &'a Ruleset>, connection: &Connection) -> Outcome {
    let chains: Vec<&Chain> = rulesets.into_iter().flat_map(|ruleset| &ruleset.chains).collect();
    let names = chains.iter().enumerate().map(|(at, chain)| (chain.name.as_str(), at)).collect();
    let mut bases: Vec<usize> = (0..chains.len())
        .filter(|&at| {
            chains[at]
                .base
                .as_ref()
                .is_some_and(|base| base.family.is_none_or(|own| own == connection.family))
        })
        .collect();
    bases.sort_by_key(|&at| chains[at].base.as_ref().map(|base| (base.hook, base.priority)));
    let mut run = Run { deciding: Vec::new(), chains, names, bases, connection, steps: 0 };
    run.deciding = run.deciding();
    let tree = run.follow(Packet::default(), 0);
    outcome(&tree)
}

struct Run<'a> {
    chains: Vec<&'a Chain>,
    names: BTreeMap<&'a str, usize>,
    bases: Vec<usize>,
    /// Chains in which anything can happen to a packet: the others are not entered.
    deciding: Vec<bool>,
    connection: &'a Connection,
    steps: usize,
}

#[derive(Clone, Default)]
struct Packet {
    /// The base chain that it is in, or is to enter.
    base: usize,
    entered: usize,
    stack: Vec<Position>,
    known: Vec<(Arc<Condition>, bool)>,
    tracking: Tracking,
}

#[derive(Clone, Copy, Default)]
struct Position {
    chain: usize,
    rule: usize,
    statement: usize,
    element: usize,
}

/// What becomes of the packets of one group of senders.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Accepted,
    TurnedAway(Decision),
    Undecided(String),
}

/// What becomes of all: the first branch whose condition holds, or else the end.
struct Tree {
    branches: Vec<(Arc<Condition>, Tree)>,
    end: Fate,
}

enum Step {
    On,
    End(Fate),
    Fork(Condition),
}

impl Run<'_> {
    /// Chains from which anything but an accept of the own table can come.
    fn deciding(&self) -> Vec<bool> {
        let mut deciding = vec![false; self.chains.len()];
        loop {
            let mut changed = false;
            for (at, chain) in self.chains.iter().enumerate() {
                if !deciding[at] && chain.rules.iter().any(|rule| self.decides(rule, &deciding)) {
                    deciding[at] = true;
                    changed = true;
                }
            }
            if !changed {
                return deciding;
            }
        }
    }

    fn decides(&self, rule: &Rule, deciding: &[bool]) -> bool {
        let verdict = |verdict: &Verdict| match verdict {
            Verdict::Continue => false,
            Verdict::Jump(chain) => self.names.get(chain.as_str()).is_none_or(|&at| deciding[at]),
            Verdict::Accept
            | Verdict::Drop
            | Verdict::Reject
            | Verdict::Return
            | Verdict::Goto(_)
            | Verdict::Elsewhere(_) => true,
        };
        rule.statements.iter().any(|statement| match statement {
            Statement::Test(_) => false,
            Statement::Verdict(own) => verdict(own),
            Statement::Map(map) => map.elements.iter().any(|(_, own)| verdict(own)),
            Statement::SetMark | Statement::Untrack => true,
        })
    }

    fn follow(&mut self, mut packet: Packet, held: usize) -> Tree {
        let mut branches = Vec::new();
        let end = loop {
            self.steps += 1;
            if self.steps > STEPS || held > HELD {
                break Fate::Undecided("there are more conditions than Warden follows".to_owned());
            }
            match self.step(&mut packet) {
                Step::On => {}
                Step::End(fate) => break fate,
                Step::Fork(condition) => {
                    let condition = Arc::new(condition);
                    let mut with = packet.clone();
                    with.known.push((Arc::clone(&condition), true));
                    branches.push((Arc::clone(&condition), self.follow(with, held + 1)));
                    packet.known.push((condition, false));
                }
            }
        };
        // What comes to the same either way is no condition.
        while branches
            .last()
            .is_some_and(|(_, tree): &(_, Tree)| tree.branches.is_empty() && tree.end.is_like(&end))
        {
            branches.pop();
        }
        Tree { branches, end }
    }

    fn step(&self, packet: &mut Packet) -> Step {
        let Some(&position) = packet.stack.last() else { return self.enter(packet) };
        let chain = self.chains[position.chain];
        let Some(rule) = chain.rules.get(position.rule) else {
            packet.stack.pop();
            if packet.stack.is_empty() {
                return self.policy(packet);
            }
            return Step::On;
        };
        let next_rule = Position { rule: position.rule + 1, statement: 0, element: 0, ..position };
        if position.statement == 0 && !self.decides(rule, &self.deciding) {
            packet.go(next_rule);
            return Step::On;
        }
        let next_statement = Position { statement: position.statement + 1, element: 0, ..position };
        match rule.statements.get(position.statement) {
            None => packet.go(next_rule),
            Some(Statement::Test(test)) => match self.holds(test, packet, chain, rule) {
                Ok(true) => packet.go(next_statement),
                Ok(false) => packet.go(next_rule),
                Err(condition) => return Step::Fork(condition),
            },
            Some(Statement::SetMark) => {
                packet.tracking.marked = true;
                packet.go(next_statement);
            }
            Some(Statement::Untrack) => {
                packet.tracking.untracked = true;
                packet.go(next_statement);
            }
            Some(Statement::Verdict(verdict)) => return self.apply(verdict, packet, chain, rule, next_rule),
            Some(Statement::Map(map)) => {
                let Some((values, verdict)) = map.elements.get(position.element) else {
                    packet.go(next_rule);
                    return Step::On;
                };
                let found = compare_element(&map.keys, values, self.connection, &packet.tracking);
                match packet.resolve(found, chain, rule) {
                    Ok(true) => return self.apply(verdict, packet, chain, rule, next_rule),
                    Ok(false) => packet.go(Position { element: position.element + 1, ..position }),
                    Err(condition) => return Step::Fork(condition),
                }
            }
        }
        Step::On
    }

    /// Enters the next base chain.
    fn enter(&self, packet: &mut Packet) -> Step {
        let Some(&at) = self.bases.get(packet.base) else { return Step::End(Fate::Accepted) };
        let chain = self.chains[at];
        let Some(base) = &chain.base else { return Step::End(Fate::Accepted) };
        if !self.deciding[at] && base.policy == Verdict::Accept {
            packet.leave();
            return Step::On;
        }
        packet.tracking.early = (base.hook, base.priority) < (Hook::Prerouting, CONNTRACK);
        let Some(test) = base.entry.get(packet.entered) else {
            packet.stack.push(Position { chain: at, ..Position::default() });
            return Step::On;
        };
        let rule = Rule { text: "its hook".to_owned(), statements: Vec::new() };
        match self.holds(test, packet, chain, &rule) {
            Ok(true) => packet.entered += 1,
            Ok(false) => packet.leave(),
            Err(condition) => return Step::Fork(condition),
        }
        Step::On
    }

    fn policy(&self, packet: &mut Packet) -> Step {
        let chain = self.bases.get(packet.base).map(|&at| self.chains[at]);
        match chain.and_then(|chain| Some((chain, chain.base.as_ref()?))) {
            Some((chain, base)) if base.policy == Verdict::Drop => {
                let chain = chain.name.clone();
                Step::End(Fate::TurnedAway(Decision { chain, rejects: false, rule: None }))
            }
            _ => {
                packet.leave();
                Step::On
            }
        }
    }

    fn apply(
        &self,
        verdict: &Verdict,
        packet: &mut Packet,
        chain: &Chain,
        rule: &Rule,
        next: Position,
    ) -> Step {
        let turned_away = |rejects| {
            let rule = Some(rule.text.clone());
            Step::End(Fate::TurnedAway(Decision { chain: chain.name.clone(), rejects, rule }))
        };
        match verdict {
            Verdict::Drop => return turned_away(false),
            Verdict::Reject => return turned_away(true),
            // It ends this base chain; those of other tables come after it.
            Verdict::Accept => packet.leave(),
            Verdict::Continue => packet.go(next),
            Verdict::Return => {
                packet.stack.pop();
                if packet.stack.is_empty() {
                    return self.policy(packet);
                }
            }
            Verdict::Jump(target) | Verdict::Goto(target) => {
                let Some(&at) = self.names.get(target.as_str()) else {
                    return Step::End(Fate::Undecided(place(
                        &format!("there is no chain {target}"),
                        chain,
                        rule,
                    )));
                };
                if packet.stack.len() >= JUMPS {
                    let text = "it jumps deeper than the kernel allows";
                    return Step::End(Fate::Undecided(place(text, chain, rule)));
                }
                if matches!(verdict, Verdict::Goto(_)) {
                    packet.stack.pop();
                } else {
                    packet.go(next);
                }
                packet.stack.push(Position { chain: at, ..Position::default() });
            }
            Verdict::Elsewhere(what) => return Step::End(Fate::Undecided(place(what, chain, rule))),
        }
        Step::On
    }

    fn holds(&self, test: &Test, packet: &Packet, chain: &Chain, rule: &Rule) -> Result<bool, Condition> {
        let (found, negated) = match test {
            Test::Never => return Ok(false),
            Test::Sometimes(text) => (Match::If(Condition::other(text.as_str())), false),
            Test::Unsupported(text) => (Match::If(Condition::unjudged(text.as_str())), false),
            Test::Compare(comparison) => compare(comparison, self.connection, &packet.tracking),
        };
        packet.resolve(found, chain, rule).map(|holds| holds != negated)
    }
}

impl Packet {
    fn go(&mut self, position: Position) {
        if let Some(last) = self.stack.last_mut() {
            *last = position;
        }
    }

    /// Leaves the base chain for the next one.
    fn leave(&mut self) {
        self.stack.clear();
        self.base += 1;
        self.entered = 0;
    }

    /// Whether it matches on this way; a condition that this way does not settle forks it.
    fn resolve(&self, found: Match, chain: &Chain, rule: &Rule) -> Result<bool, Condition> {
        let mut condition = match found {
            Match::Yes => return Ok(true),
            Match::No => return Ok(false),
            Match::If(condition) => condition,
        };
        if condition.kind == Kind::Unjudged {
            condition.text = place(&condition.text, chain, rule);
        }
        let settled = self.known.iter().find_map(|(other, holds)| condition.follows_from(other, *holds));
        settled.ok_or(condition)
    }
}

fn place(text: &str, chain: &Chain, rule: &Rule) -> String {
    format!("{text} ({}: {})", chain.name, rule.text)
}

impl Fate {
    fn is_like(&self, other: &Fate) -> bool {
        match (self, other) {
            (Fate::Accepted, Fate::Accepted)
            | (Fate::TurnedAway(_), Fate::TurnedAway(_))
            | (Fate::Undecided(_), Fate::Undecided(_)) => true,
            (Fate::Accepted | Fate::TurnedAway(_) | Fate::Undecided(_), _) => false,
        }
    }
}

fn outcome(tree: &Tree) -> Outcome {
    if let Some(reason) = undecided(tree) {
        return Outcome::NotJudged(reason);
    }
    let mut others = Vec::new();
    differing(tree, &tree.end, &mut Vec::new(), &mut others);
    let decision = others.first().map(|(_, fate)| (*fate).clone());
    let mut who: Vec<String> = Vec::new();
    for (text, _) in others {
        if !who.contains(&text) {
            who.push(text);
        }
    }
    let more = who.len().saturating_sub(NAMED);
    who.truncate(NAMED);
    who.extend((more > 0).then(|| format!("{more} more")));
    match (&tree.end, decision) {
        (Fate::TurnedAway(by), None) => Outcome::TurnedAway(by.clone()),
        (Fate::TurnedAway(by), Some(_)) => Outcome::OnlySome(who, by.clone()),
        (Fate::Accepted, Some(Fate::TurnedAway(by))) => Outcome::AllBut(who, by),
        (Fate::Accepted | Fate::Undecided(_), _) => Outcome::Accepted,
    }
}

/// The first thing that Warden cannot judge and that decides.
fn undecided(tree: &Tree) -> Option<String> {
    let of_branch = |(condition, tree): &(Arc<Condition>, Tree)| match condition.kind {
        Kind::Unjudged => Some(condition.text.clone()),
        Kind::Source(_) | Kind::Interface(_) | Kind::Other => undecided(tree),
    };
    tree.branches.iter().find_map(of_branch).or_else(|| match &tree.end {
        Fate::Undecided(reason) => Some(reason.clone()),
        Fate::Accepted | Fate::TurnedAway(_) => None,
    })
}

/// Groups of senders whose packets fare otherwise than those of everybody else, and how.
fn differing<'a>(tree: &'a Tree, rest: &Fate, held: &mut Vec<&'a str>, found: &mut Vec<(String, &'a Fate)>) {
    for (condition, branch) in &tree.branches {
        held.push(&condition.text);
        differing(branch, rest, held, found);
        held.pop();
    }
    if !held.is_empty() && !tree.end.is_like(rest) {
        found.push((held.join(" and "), &tree.end));
    }
}
