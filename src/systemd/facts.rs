//! What a heartbeat tells of a unit: its state and what it costs, each figure asked for by itself.

use super::properties::{number, text};
use super::{DESTINATION, Error, ListedUnit, MANAGER, MANAGER_PATH, Manager, SERVICE, UNIT, explain};

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
        let states: &[&str] = &[];
        let arguments = (states, patterns);
        let answer = self
            .connection()
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
        let get = |interface, name| self.property(&path, interface, name);
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
}
