//! `[units]`: which systemd unit carries which runtime on this host.

use serde::Deserialize;
use warden_protocol::{ConnectorKind, Runtime};

use super::{CONNECTORS_UNIT, IGGY_UNIT};

/// The template for single connectors; its instances are `sink-KEY` and `source-KEY`.
pub const CONNECTOR_TEMPLATE: &str = "iggy-connector@.service";

/// Bytes of a unit's name, by systemd.unit(5).
const NAME_LIMIT: usize = 255;
/// Bytes of an instance: `source-` and the longest key of a connector.
const INSTANCE_LIMIT: usize = 7 + 64;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Units {
    pub iggy: Service,
    pub connectors: Service,
    pub connector: Template,
}

/// The name of a service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Service(String);

/// The name of a template for services, split at its instance.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template {
    prefix: String,
}

impl Units {
    /// The unit that carries `runtime`.
    pub fn unit(&self, runtime: &Runtime) -> String {
        match runtime {
            Runtime::Iggy => self.iggy.0.clone(),
            Runtime::Connectors => self.connectors.0.clone(),
            Runtime::Connector { kind, key } => {
                format!("{}@{}-{key}.service", self.connector.prefix, kind.as_str())
            }
        }
    }

    /// The runtime that `unit` carries, if it is one of ours.
    pub fn runtime(&self, unit: &str) -> Option<Runtime> {
        if unit == self.iggy.0 {
            return Some(Runtime::Iggy);
        }
        if unit == self.connectors.0 {
            return Some(Runtime::Connectors);
        }
        let instance = unit.strip_prefix(&self.connector.prefix)?.strip_prefix('@')?;
        let (kind, key) = instance.strip_suffix(".service")?.split_once('-')?;
        let runtime = format!("connector:{kind}:{key}").parse().ok()?;
        matches!(runtime, Runtime::Connector { kind: ConnectorKind::Sink | ConnectorKind::Source, .. })
            .then_some(runtime)
    }

    /// What every connector instance's unit matches, in the manner of glob(7).
    pub fn instances(&self) -> String {
        format!("{}@*.service", self.connector.prefix)
    }
}

impl Default for Units {
    fn default() -> Units {
        let prefix = CONNECTOR_TEMPLATE.trim_end_matches("@.service").to_owned();
        Units {
            iggy: Service(IGGY_UNIT.to_owned()),
            connectors: Service(CONNECTORS_UNIT.to_owned()),
            connector: Template { prefix },
        }
    }
}

impl TryFrom<String> for Service {
    type Error = String;

    fn try_from(name: String) -> Result<Service, String> {
        let stem = name.strip_suffix(".service").filter(|stem| is_stem(stem, "@"));
        match stem {
            Some(stem) if !stem.ends_with('@') && name.len() <= NAME_LIMIT => Ok(Service(name)),
            _ => Err(format!("`{name}` is no name of a service; it is like {IGGY_UNIT}")),
        }
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(name: String) -> Result<Template, String> {
        let prefix = name.strip_suffix("@.service").filter(|prefix| is_stem(prefix, ""));
        match prefix {
            Some(prefix) if name.len() + INSTANCE_LIMIT <= NAME_LIMIT => {
                Ok(Template { prefix: prefix.to_owned() })
            }
            _ => Err(format!("`{name}` is no name of a template; it is like {CONNECTOR_TEMPLATE}")),
        }
    }
}

/// The characters systemd.unit(5) allows.
fn is_stem(stem: &str, more: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\".contains(c) || more.contains(c);
    !stem.is_empty() && stem.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runtime_has_a_unit_and_is_found_again_by_it() {
        let units = Units::default();
        for (runtime, unit) in [
            ("iggy", "iggy.service"),
            ("connectors", "iggy-connectors.service"),
            ("connector:sink:orders-pg", "iggy-connector@sink-orders-pg.service"),
            ("connector:source:s3", "iggy-connector@source-s3.service"),
        ] {
            let runtime: Runtime = runtime.parse().unwrap();
            assert_eq!(units.unit(&runtime), unit);
            assert_eq!(units.runtime(unit), Some(runtime));
        }
        for foreign in ["sshd.service", "iggy-connector@.service", "iggy-connector@x-y.service", "iggy"] {
            assert_eq!(units.runtime(foreign), None, "{foreign}");
        }
        assert_eq!(units.instances(), "iggy-connector@*.service");
    }

    #[test]
    fn what_is_no_unit_name_is_refused() {
        for name in ["", "iggy", ".service", "a b.service", "a/b.service", "x@.service", "iggy.socket"] {
            assert!(Service::try_from(name.to_owned()).is_err(), "{name}");
        }
        assert!(Service::try_from("iggy@blue.service".to_owned()).is_ok());
        assert!(Service::try_from(format!("{}.service", "a".repeat(250))).is_err());
        for name in ["", "@.service", "a.service", "a@b.service", "a@@.service"] {
            assert!(Template::try_from(name.to_owned()).is_err(), "{name}");
        }
    }
}
