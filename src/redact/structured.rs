//! What a place in a TOML, JSON or YAML document says about the values in it.

use super::allowlist::{is_harmless, is_setting};
use super::entropy::is_secretish;
use super::environment;
use super::key_names::{Certainty, telling};
use super::placeholders::is_token;
use super::span::{Quoting, Span};
use super::visible_text::visible;
use super::words::SETTINGS;

/// Headers of a request or a message that say how it is to be read, and open nothing.
fn is_open_header(name: &str) -> bool {
    const OPEN: [&str; 24] = [
        "accept",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "etag",
        "host",
        "idempotency-key",
        "if-none-match",
        "origin",
        "server",
        "traceparent",
        "transfer-encoding",
        "user-agent",
        "vary",
        "x-correlation-id",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-partition-key",
        "x-request-id",
    ];
    OPEN.contains(&name.to_ascii_lowercase().as_str())
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Parent {
    #[default]
    Other,
    Encryption,
    Value,
    Environment,
    Command,
}

/// A place in a document: what its keys, from the root on, say.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    pub(super) rule: Option<&'static str>,
    /// `None` masks whatever is there.
    certainty: Option<Certainty>,
    parent: Parent,
    /// The value of an environment, which is shown when it only sets something up.
    setting: bool,
}

impl Place {
    /// The place under `key`, which may be dotted where the format allows it.
    pub(super) fn enter(self, key: &str, unit: bool) -> Place {
        let key = visible(key);
        let key = key.trim();
        if self.rule == Some("header") && self.certainty.is_none() && is_open_header(key) {
            return Place::default();
        }
        if self.rule.is_some() {
            return self.within(key);
        }
        let masked = |rule| Place { rule: Some(rule), ..Place::default() };
        let lower = key.to_ascii_lowercase().replace('-', "_");
        match lower.as_str() {
            "plugin_config" | "pluginconfig" => return masked("connector-config"),
            "request_headers" | "headers" | "stringdata" => return masked("header"),
            "static" if self.parent == Parent::Value => return masked("connector-config"),
            "value.static" => return masked("connector-config"),
            "key" if self.parent == Parent::Encryption => return masked("encryption-key"),
            "encryption.key" => return masked("encryption-key"),
            "setcredential" | "setcredentialencrypted" => return masked("credentials"),
            _ => {}
        }
        if self.parent == Parent::Environment {
            let rule = environment::rule(key);
            return Place { rule, certainty: Some(Certainty::Sure), parent: Parent::Other, setting: true };
        }
        let telling = telling(key).filter(|telling| telling.certainty != Certainty::Possible);
        let parent = match lower.as_str() {
            "encryption" => Parent::Encryption,
            "value" => Parent::Value,
            "environment" | "env" => Parent::Environment,
            "cmd" | "command" | "args" | "entrypoint" => Parent::Command,
            _ if unit && lower.starts_with("exec") => Parent::Command,
            // Lists in lists, as D-Bus gives them, stay what they are.
            "" => self.parent,
            _ => Parent::Other,
        };
        Place {
            rule: telling.map(|telling| telling.rule),
            certainty: telling.map(|telling| telling.certainty),
            parent,
            setting: false,
        }
    }

    /// The place under a key that is named by what it holds: settings of a token are none.
    fn within(self, key: &str) -> Place {
        const ITSELF: [&str; 6] = ["value", "raw", "plain", "data", "text", "current"];
        if self.certainty.is_some() && SETTINGS.contains(&key.to_ascii_lowercase().as_str()) {
            return Place::default();
        }
        let token = matches!(self.rule, Some("token" | "iggy-token")) && self.certainty.is_some();
        if !token || ITSELF.contains(&key.to_ascii_lowercase().as_str()) {
            return self;
        }
        let own = telling(key).filter(|telling| telling.certainty != Certainty::Possible);
        Place {
            rule: own.map(|telling| telling.rule).or(self.rule),
            certainty: Some(own.map_or(Certainty::Possible, |telling| telling.certainty)),
            parent: Parent::Other,
            setting: false,
        }
    }

    pub(super) fn is_environment(self) -> bool {
        self.parent == Parent::Environment
    }

    pub(super) fn is_command(self) -> bool {
        self.parent == Parent::Command
    }

    /// The mask of a scalar that stands in this place, if it needs one.
    pub(super) fn scalar(self, text: &str, start: usize, end: usize, quoted: bool) -> Option<Span> {
        let rule = self.rule?;
        let value = text.get(start..end)?;
        let shown = match self.certainty {
            Some(certainty) => is_harmless(value, certainty, quoted),
            None => value.trim().is_empty() || (!quoted && matches!(value, "null" | "~")),
        };
        if shown || is_token(value) || self.setting && rule == "environment" && is_setting(value) {
            return None;
        }
        let known = self.certainty.is_some() || is_secretish(value);
        let quoting = if quoted { Quoting::None } else { Quoting::Double };
        Some(Span::new(start, end, rule).quoting(quoting).known(known))
    }
}
