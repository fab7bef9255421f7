//! The only code that speaks D-Bus: systemd's manager, as org.freedesktop.systemd1(5) describes it.

mod facts;
mod json;
pub mod notify;

use std::collections::{BTreeMap, HashMap};

use warden_checks::host::{Unit, UnitRow};
use zbus::{OwnedObjectPath, OwnedVariant};

pub use facts::UnitFacts;

const DESTINATION: &str = "org.freedesktop.systemd1";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no bus, or no systemd on it.
    #[error("{0}")]
    Unavailable(String),
    #[error("permission denied")]
    Denied,
    #[error("{0}")]
    Call(String),
}

/// A row of ListUnits: name, description, load, active and sub state, followed unit, object path, job id,
/// job type, job object path.
type ListedUnit =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait SystemdManager {
    fn list_units(&self) -> zbus::Result<Vec<ListedUnit>>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
}

/// A connection to systemd's manager.
pub struct Manager {
    proxy: SystemdManagerProxy<'static>,
}

impl Manager {
    pub async fn connect() -> Result<Manager, Error> {
        let no_bus = |error: zbus::Error| {
            let absent = matches!(&error, zbus::Error::InputOutput(_) | zbus::Error::Connection(..));
            Error::Unavailable(if absent {
                "no D-Bus system bus on this host".to_owned()
            } else {
                format!("the D-Bus system bus does not take us: {error}")
            })
        };
        let connection = zbus::Connection::system().await.map_err(no_bus)?;
        let proxy = SystemdManagerProxy::new(&connection).await.map_err(explain)?;
        Ok(Manager { proxy })
    }

    /// Every unit that is loaded.
    pub async fn list_units(&self) -> Result<Vec<UnitRow>, Error> {
        let mut units: Vec<UnitRow> = self
            .proxy
            .list_units()
            .await
            .map_err(explain)?
            .into_iter()
            .map(|(name, description, load, active, sub, ..)| UnitRow {
                name,
                description,
                load,
                active,
                sub,
            })
            .collect();
        units.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(units)
    }

    /// Properties of a unit, of its general interface and of the one for its kind. Loads the unit: one that is
    /// stopped and disabled has no object until then.
    pub async fn unit(&self, name: &str) -> Result<Unit, Error> {
        let path = self.proxy.load_unit(name).await.map_err(explain)?;
        let connection = self.proxy.inner().connection();
        let properties = zbus::Proxy::new(connection, DESTINATION, path, "org.freedesktop.DBus.Properties")
            .await
            .map_err(explain)?;
        let mut unit = Unit { properties: BTreeMap::new() };
        for interface in interfaces(name) {
            let all: HashMap<String, OwnedVariant> =
                properties.call("GetAll", &(interface,)).await.map_err(explain)?;
            unit.properties.extend(all.into_iter().map(|(name, value)| (name, json::from(&value))));
        }
        Ok(unit)
    }
}

fn interfaces(unit: &str) -> Vec<String> {
    let kind = match unit.rsplit_once('.') {
        Some((_, "service")) => Some("Service"),
        Some((_, "timer")) => Some("Timer"),
        Some((_, "socket")) => Some("Socket"),
        Some((_, "mount")) => Some("Mount"),
        _ => None,
    };
    ["Unit"].into_iter().chain(kind).map(|kind| format!("org.freedesktop.systemd1.{kind}")).collect()
}

fn explain(error: zbus::Error) -> Error {
    if let zbus::Error::MethodError(name, detail, _) = &error {
        return match name.as_str() {
            "org.freedesktop.DBus.Error.AccessDenied" => Error::Denied,
            "org.freedesktop.DBus.Error.ServiceUnknown" | "org.freedesktop.DBus.Error.NameHasNoOwner" => {
                Error::Unavailable("systemd does not run on this host".to_owned())
            }
            _ => Error::Call(detail.clone().unwrap_or_else(|| name.to_string())),
        };
    }
    Error::Call(error.to_string())
}
