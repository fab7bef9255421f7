//! What a heartbeat tells of a unit: its state and what it costs, each figure asked for by itself.

use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use super::{DESTINATION, Error, ListedUnit, Manager, explain};

const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
/// systemd's way to say that it does not know a figure.
const UNKNOWN: u64 = u64::MAX;

/// A service at one moment, in systemd's own words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFacts {
    /// `loaded`, `not-found`, `masked`, ...
    pub load_state: String,
    pub active_state: String,
    pub sub_state: String,
    /// Nought: none runs.
    pub main_pid: u32,
    /// When it came into this state, milliseconds since 1970 UTC.
    pub since_ms: Option<i64>,
    /// How often systemd itself started it again.
    pub restarts: Option<u32>,
    pub memory_bytes: Option<u64>,
    pub cpu_ms: Option<u64>,
    pub tasks: Option<u64>,
}

impl Manager {
    /// The names of the loaded units that match one of the patterns, in the manner of glob(7).
    pub async fn units_like(&self, patterns: &[&str]) -> Result<Vec<String>, Error> {
        let connection = self.proxy.inner().connection();
        let states: &[&str] = &[];
        let arguments = (states, patterns);
        let answer = connection
            .call_method(Some(DESTINATION), MANAGER_PATH, Some(MANAGER), "ListUnitsByPatterns", &arguments)
            .await
            .map_err(explain)?;
        let units: Vec<ListedUnit> = answer.body().deserialize().map_err(explain)?;
        let mut names: Vec<String> = units.into_iter().map(|(name, ..)| name).collect();
        names.sort();
        Ok(names)
    }

    /// How `service` is. One that does not exist is no error: its load state says so.
    pub async fn facts(&self, service: &str) -> Result<UnitFacts, Error> {
        let path = self.proxy.load_unit(service).await.map_err(explain)?;
        let get = |interface, name| self.get(&path, interface, name);
        let load_state = text(&get(UNIT, "LoadState").await?);
        let active_state = text(&get(UNIT, "ActiveState").await?);
        let sub_state = text(&get(UNIT, "SubState").await?);
        let since = number(&get(UNIT, "StateChangeTimestamp").await?).filter(|since| *since > 0);
        let since_ms = since.and_then(|since| i64::try_from(since / 1000).ok());
        let mut facts = UnitFacts { load_state, active_state, sub_state, since_ms, ..UnitFacts::default() };
        // What is down costs nothing, and a unit that is not there has no figures.
        if matches!(facts.active_state.as_str(), "inactive" | "failed") {
            return Ok(facts);
        }
        let main_pid = number(&get(SERVICE, "MainPID").await?);
        facts.main_pid = main_pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        let restarts = number(&get(SERVICE, "NRestarts").await?);
        facts.restarts = restarts.and_then(|restarts| u32::try_from(restarts).ok());
        facts.memory_bytes = number(&get(SERVICE, "MemoryCurrent").await?);
        facts.cpu_ms =
            number(&get(SERVICE, "CPUUsageNSec").await?).map(|nanoseconds| nanoseconds / 1_000_000);
        facts.tasks = number(&get(SERVICE, "TasksCurrent").await?);
        Ok(facts)
    }

    async fn get(
        &self,
        path: &OwnedObjectPath,
        interface: &'static str,
        name: &'static str,
    ) -> Result<OwnedVariant, Error> {
        let connection = self.proxy.inner().connection();
        let answer = connection
            .call_method(Some(DESTINATION), path, Some(PROPERTIES), "Get", &(interface, name))
            .await
            .map_err(explain)?;
        answer.body().deserialize().map_err(explain)
    }
}

fn text(value: &OwnedVariant) -> String {
    if let Variant::Str(text) = &**value { text.as_str().to_owned() } else { String::new() }
}

fn number(value: &OwnedVariant) -> Option<u64> {
    let number = if let Variant::U32(number) = &**value {
        u64::from(*number)
    } else if let Variant::U64(number) = &**value {
        *number
    } else {
        return None;
    };
    (number != UNKNOWN).then_some(number)
}
