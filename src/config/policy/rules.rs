//! What may be done on this host, how often and for whom: an ordered list of rules, the first that fits decides.
//!
//! ```toml
//! [[rule]]
//! name = "nobody stops the broker from outside"
//! runtimes = ["iggy"]
//! actions = ["stop"]
//! then = "deny"
//!
//! [[rule]]
//! name = "operators, three times an hour"
//! authors = ["*@example.com"]
//! then = "allow"
//! at_most = 3
//! within = "1h"
//! ```
//! What no rule fits is denied. Without any rule, start, stop and restart are allowed, of every runtime and for
//! everybody.

use std::fmt;
use std::time::Duration;

use anyhow::{bail, ensure};
use serde::Deserialize;
use warden_protocol::{Action, Runtime};

/// Rules of one policy: what has more is not written by hand, and nobody can tell what it does.
const RULES_LIMIT: usize = 100;
/// The longest span actions are counted over: the ledger keeps what is older only for a while.
const WITHIN_LIMIT: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Told when it denies.
    pub name: String,
    /// `iggy`, `connectors`, `connector:sink:orders-pg`; `*` stands for any text. Absent: every one.
    #[serde(default = "anything")]
    pub runtimes: Vec<Pattern>,
    /// `start`, `stop`, `restart`, `reconfigure`. Absent: every one.
    #[serde(default = "anything")]
    pub actions: Vec<Pattern>,
    /// As the Supervisor names them. Absent: everybody.
    #[serde(default = "anything")]
    pub authors: Vec<Pattern>,
    pub then: Then,
    /// Allowed so many times within so long a time, for each runtime by itself.
    pub at_most: Option<u32>,
    pub within: Option<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    Allow,
    Deny,
}

/// A text in which `*` stands for any other.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

/// `90s`, `15m`, `1h`, `7d`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span {
    text: String,
    span: Duration,
}

/// What somebody wants done, or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub runtime: Runtime,
    pub action: Action,
    pub author: String,
}

/// Something that was done. Milliseconds since 1970 UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    pub asked: Asked,
    pub at_ms: i64,
}

/// Why it is denied, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied(pub String);

/// Whether `rules` allow it, after all that was `done` before.
///
/// # Errors
/// They do not, and this is why.
pub fn decide(rules: &[Rule], asked: &Asked, done: &[Done], now_ms: i64) -> Result<(), Denied> {
    let usual = matches!(asked.action, Action::Start | Action::Stop | Action::Restart);
    if rules.is_empty() && usual {
        return Ok(());
    }
    let Some(rule) = rules.iter().find(|rule| rule.fits(asked)) else {
        return Err(Denied(format!("no rule of the policy of this host allows {asked}")));
    };
    if rule.then == Then::Deny {
        return Err(Denied(format!("the rule \"{}\" of the policy of this host denies {asked}", rule.name)));
    }
    if let (Some(at_most), Some(within)) = (rule.at_most, &rule.within) {
        let since = now_ms.saturating_sub(within.millis());
        let counted = done.iter().filter(|done| {
            // One from the future was done before the clock was set back: it counts.
            done.at_ms >= since && done.asked.runtime == asked.runtime && rule.fits(&done.asked)
        });
        let count = counted.count();
        if count >= at_most as usize {
            return Err(Denied(format!(
                "the rule \"{}\" of the policy of this host allows {at_most} within {within} for one runtime, and \
                 there were {count}",
                rule.name
            )));
        }
    }
    Ok(())
}

/// How far back [`decide`] wants to know what was done.
pub fn looks_back(rules: &[Rule]) -> Option<Duration> {
    rules.iter().filter_map(|rule| rule.within.as_ref()).map(|within| within.span).max()
}

/// Tells every rule that says less than it seems to.
pub(super) fn mistakes(rules: &[Rule]) -> Vec<String> {
    if rules.len() > RULES_LIMIT {
        return vec![format!("{} rules; at most {RULES_LIMIT} are read", rules.len())];
    }
    let each = rules.iter().enumerate().map(|(at, rule)| mistake(at, rule));
    each.filter_map(|mistake| mistake.err().map(|error| error.to_string())).collect()
}

fn mistake(at: usize, rule: &Rule) -> anyhow::Result<()> {
    let name = &rule.name;
    ensure!(!name.trim().is_empty(), "rule {} has no name; it is told to whom it denies", at + 1);
    for (key, patterns) in
        [("runtimes", &rule.runtimes), ("actions", &rule.actions), ("authors", &rule.authors)]
    {
        ensure!(!patterns.is_empty(), "the rule \"{name}\" fits nothing: its {key} are empty");
    }
    for action in &rule.actions {
        let known = ["start", "stop", "restart", "reconfigure"].iter().any(|known| action.fits(known));
        ensure!(known, "the rule \"{name}\" names the action \"{}\", which there is not", action.0);
    }
    match (rule.at_most, &rule.within, rule.then) {
        (None, None, _) => {}
        (Some(_), Some(_), Then::Deny) => bail!("the rule \"{name}\" denies: nothing is counted for it"),
        (Some(0), Some(_), Then::Allow) => {
            bail!("the rule \"{name}\" allows nothing: write then = \"deny\"")
        }
        (Some(_), Some(_), Then::Allow) => {}
        (Some(_), None, _) | (None, Some(_), _) => {
            bail!("the rule \"{name}\" needs at_most and within, or neither")
        }
    }
    Ok(())
}

impl Rule {
    fn fits(&self, asked: &Asked) -> bool {
        let any = |patterns: &[Pattern], text: &str| patterns.iter().any(|pattern| pattern.fits(text));
        let action = asked.action.to_string();
        let action = action.split(':').next().unwrap_or_default();
        any(&self.runtimes, &asked.runtime.to_string())
            && any(&self.actions, action)
            && any(&self.authors, &asked.author)
    }
}

impl Pattern {
    fn fits(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = text.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

fn anything() -> Vec<Pattern> {
    vec![Pattern("*".to_owned())]
}

impl Span {
    fn millis(&self) -> i64 {
        i64::try_from(self.span.as_millis()).unwrap_or(i64::MAX)
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Span, String> {
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let seconds = match unit {
            "s" => Some(1),
            "m" => Some(60),
            "h" => Some(3600),
            "d" => Some(86_400),
            _ => None,
        };
        let seconds = seconds.and_then(|seconds: u64| number.parse::<u64>().ok()?.checked_mul(seconds));
        match seconds.map(Duration::from_secs) {
            Some(span) if !span.is_zero() && span <= WITHIN_LIMIT => Ok(Span { text, span }),
            _ => Err(format!("`{text}` is not a span of at most 30 days; write it as 90s, 15m, 1h or 7d")),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the {} of {} by {}", self.action, self.runtime, self.author)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    #[derive(Deserialize)]
    struct Rules {
        #[serde(default)]
        rule: Vec<Rule>,
    }

    fn rules(text: &str) -> Vec<Rule> {
        let rules = toml::from_str::<Rules>(text).unwrap().rule;
        assert_eq!(mistakes(&rules), [""; 0]);
        rules
    }

    fn asked(what: &str) -> Asked {
        let [runtime, action, author] = what.split(' ').collect::<Vec<_>>()[..] else { panic!("{what}") };
        Asked {
            runtime: runtime.parse().unwrap(),
            action: action.parse().unwrap(),
            author: author.to_owned(),
        }
    }

    fn denied(rules: &[Rule], what: &str) -> String {
        decide(rules, &asked(what), &[], 0).unwrap_err().0
    }

    #[test]
    fn without_rules_a_unit_may_be_started_stopped_and_restarted() {
        for what in ["iggy start a", "connectors stop b", "connector:sink:x restart c"] {
            assert_eq!(decide(&[], &asked(what), &[], 0), Ok(()));
        }
        let told = denied(&[], "iggy reconfigure:4 ops");
        assert_eq!(told, "no rule of the policy of this host allows the reconfigure:4 of iggy by ops");
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_what_none_fits_is_denied() {
        let rules = rules(
            "[[rule]]\nname = \"no stops\"\nruntimes = [\"iggy\"]\nactions = [\"stop\"]\nthen = \"deny\"\n\
             [[rule]]\nname = \"ops\"\nruntimes = [\"iggy\", \"connector:sink:*\"]\nactions = [\"*start\", \"stop\"]\n\
             authors = [\"*@example.com\", \"hook\"]\nthen = \"allow\"\n",
        );
        for what in ["iggy restart a@example.com", "connector:sink:x stop hook", "iggy start hook"] {
            assert_eq!(decide(&rules, &asked(what), &[], 0), Ok(()), "{what}");
        }
        assert_eq!(
            denied(&rules, "iggy stop hook"),
            "the rule \"no stops\" of the policy of this host denies the stop of iggy by hook"
        );
        for what in ["iggy restart a@example.org", "connector:source:x stop hook", "iggy reconfigure:1 hook"]
        {
            assert!(denied(&rules, what).starts_with("no rule of the policy"), "{what}");
        }
    }

    #[test]
    fn a_rate_is_counted_for_each_runtime_by_itself() {
        let rules = rules(
            "[[rule]]\nname = \"now and then\"\nactions = [\"restart\"]\nthen = \"allow\"\nat_most = 2\nwithin = \"1h\"\n",
        );
        assert_eq!(looks_back(&rules), Some(Duration::from_secs(3600)));
        let done = |what: &str, at_ms| Done { asked: asked(what), at_ms };
        let mut before = vec![
            done("iggy restart a", 0),
            done("connectors restart a", HOUR_MS),
            done("iggy start a", HOUR_MS),
            done("iggy restart b", HOUR_MS),
        ];
        let now = HOUR_MS + 1;
        assert_eq!(decide(&rules, &asked("iggy restart a"), &before, now), Ok(()));
        before.push(done("iggy restart b", now + HOUR_MS));
        assert_eq!(
            decide(&rules, &asked("iggy restart a"), &before, now).unwrap_err().0,
            "the rule \"now and then\" of the policy of this host allows 2 within 1h for one runtime, and there were 2"
        );
    }

    #[test]
    fn a_star_stands_for_any_text_and_nothing_else_is_special() {
        let fits = |pattern: &str, text: &str| Pattern(pattern.to_owned()).fits(text);
        assert!(fits("*", "") && fits("a*c", "abc") && fits("a*b*c", "a-b-b-c") && fits("a.c", "a.c"));
        assert!(!fits("a.c", "abc") && !fits("ab*ba", "aba") && !fits("a*b*c", "acb") && !fits("", "a"));
    }

    #[test]
    fn a_rule_that_says_less_than_it_seems_to_is_refused() {
        for (text, told) in [
            ("name = \" \"\nthen = \"allow\"", "has no name"),
            ("name = \"x\"\nthen = \"allow\"\nat_most = 3", "needs at_most and within, or neither"),
            ("name = \"x\"\nthen = \"deny\"\nat_most = 3\nwithin = \"1h\"", "nothing is counted"),
            ("name = \"x\"\nthen = \"allow\"\nat_most = 0\nwithin = \"1h\"", "allows nothing"),
            ("name = \"x\"\nthen = \"allow\"\nactions = [\"reboot\"]", "which there is not"),
            ("name = \"x\"\nthen = \"allow\"\nauthors = []", "its authors are empty"),
        ] {
            let rules = toml::from_str::<Rules>(&format!("[[rule]]\n{text}\n")).unwrap().rule;
            let error = mistakes(&rules).concat();
            assert!(error.contains(told), "{error}");
        }
        for text in
            ["then = \"maybe\"", "then = \"allow\"\nwithin = \"2 weeks\"", "then = \"allow\"\nuser = \"x\""]
        {
            assert!(toml::from_str::<Rules>(&format!("[[rule]]\nname = \"x\"\n{text}\n")).is_err(), "{text}");
        }
    }
}
