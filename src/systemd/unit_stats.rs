//! What a heartbeat tells of a unit: its state and what it costs, each figure asked for by itself.

use std::collections::BTreeMap;

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
    /// How it ended, `success`, `exit-code`, `oom-kill`, ...; empty while it is up.
    pub result: String,
    /// Whether its main process ended before anybody asked systemd to stop the unit. Absent: it is up or never was, or
    /// systemd has forgotten it, as it does with a unit that is down and that nothing refers to.
    pub by_itself: Option<bool>,
}

impl Manager {
    /// The loaded units that match one of the patterns, in the manner of glob(7), with their active and sub state.
    pub async fn units_like(&self, patterns: &[&str]) -> Result<BTreeMap<String, (String, String)>, Error> {
        let states: &[&str] = &[];
        let arguments = (states, patterns);
        let answer = self
            .connection()
            .call_method(Some(DESTINATION), MANAGER_PATH, Some(MANAGER), "ListUnitsByPatterns", &arguments)
            .await
            .map_err(explain)?;
        let units: Vec<ListedUnit> = answer.body().deserialize().map_err(explain)?;
        Ok(units.into_iter().map(|(name, _, _, active, sub, ..)| (name, (active, sub))).collect())
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
        if facts.active_state != "active" {
            facts.result = text(&get(SERVICE, "Result").await?);
        }
        // What is down costs nothing, and a unit that is not there has no figures.
        if matches!(facts.active_state.as_str(), "inactive" | "failed") {
            let moment =
                async |interface, name| Ok::<_, Error>(number(&get(interface, name).await?).unwrap_or(0));
            let begun = moment(UNIT, "InactiveExitTimestampMonotonic").await?;
            let left = moment(UNIT, "ActiveExitTimestampMonotonic").await?;
            let ended = moment(SERVICE, "ExecMainExitTimestampMonotonic").await?;
            // A unit that is told to stop leaves its active state first, and then its process ends. One that left it
            // in an earlier run did not get that far in this one.
            facts.by_itself = (ended > 0 && begun > 0).then_some(left < begun || ended <= left);
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
