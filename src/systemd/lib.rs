//! The only code that speaks D-Bus: systemd's manager, as org.freedesktop.systemd1(5) describes it.

mod bus;
mod error;
mod jobs;
pub mod notify;
pub mod polkit;
mod properties;
mod property_json;
mod unit_state;
mod unit_stats;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

pub use bus::Bus;
pub use error::{CallError, Error};
use error::{explain, explain_connect};
pub use jobs::{Ended, Jobs, Verb};
use tokio::sync::OnceCell;
pub use unit_state::{Job, Standing};
pub use unit_stats::UnitFacts;
use warden_config::DBUS_LIMIT;
use warden_host::{UnitProperties, UnitRow};
use zbus::{OwnedObjectPath, OwnedVariant};

const DESTINATION: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";

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
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn subscribe(&self) -> zbus::Result<()>;
}

/// A connection to systemd's manager.
#[derive(Clone)]
pub struct Manager {
    proxy: SystemdManagerProxy<'static>,
    /// systemd tells of jobs once it was asked to, for as long as the connection holds.
    subscribed: Arc<OnceCell<()>>,
}

impl Manager {
    /// To the system bus of this host.
    pub async fn connect() -> Result<Manager, Error> {
        Manager::over(zbus::connection::Builder::system()).await
    }

    pub async fn connect_to(address: &str) -> Result<Manager, Error> {
        Manager::over(zbus::connection::Builder::address(address)).await
    }

    async fn over(builder: zbus::connection::Builder<'_>) -> Result<Manager, Error> {
        let connect = async {
            let connection = builder.build().await.map_err(explain_connect)?;
            SystemdManagerProxy::new(&connection).await.map_err(explain)
        };
        let proxy =
            tokio::time::timeout(DBUS_LIMIT, connect).await.map_err(|_| Error::Timeout(DBUS_LIMIT))??;
        Ok(Manager { proxy, subscribed: Arc::default() })
    }

    /// What this connection is known by: the bus, which has a new id each time it starts, and the name it gave us.
    pub fn identity(&self) -> String {
        let name = self.connection().unique_name().map_or("", |name| name.as_str());
        format!("{} {name}", self.connection().server_guid().as_str())
    }

    pub fn is_closed(&self) -> bool {
        self.connection().is_closed()
    }

    /// Whether the connection of that identity is still on the bus of this one.
    async fn is_connected(&self, identity: &str) -> Result<bool, Error> {
        let Some((bus, name)) = identity.split_once(' ') else { return Ok(false) };
        if bus != self.connection().server_guid().as_str() {
            return Ok(false);
        }
        let bus = "org.freedesktop.DBus";
        self.in_time(async {
            let answer = self
                .connection()
                .call_method(Some(bus), "/org/freedesktop/DBus", Some(bus), "NameHasOwner", &(name,))
                .await
                .map_err(explain)?;
            answer.body().deserialize().map_err(explain)
        })
        .await
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
    pub async fn unit(&self, name: &str) -> Result<UnitProperties, Error> {
        let path = self.proxy.load_unit(name).await.map_err(explain)?;
        let properties =
            zbus::Proxy::new(self.connection(), DESTINATION, path, PROPERTIES).await.map_err(explain)?;
        let mut unit = UnitProperties { properties: BTreeMap::new() };
        for interface in interfaces(name) {
            let all: HashMap<String, OwnedVariant> =
                properties.call("GetAll", &(interface,)).await.map_err(explain)?;
            unit.properties.extend(all.into_iter().map(|(name, value)| (name, property_json::from(&value))));
        }
        Ok(unit)
    }

    async fn subscribe(&self) -> Result<(), Error> {
        let subscribe = || async { self.proxy.subscribe().await.map_err(explain) };
        self.subscribed.get_or_try_init(subscribe).await.copied()
    }

    fn connection(&self) -> &zbus::Connection {
        self.proxy.inner().connection()
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::time::timeout(DBUS_LIMIT, work).await.unwrap_or(Err(Error::Timeout(DBUS_LIMIT)))
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Manager").field(&self.identity()).finish()
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
