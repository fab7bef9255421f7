//! Units as checks look at them: whether there is one, since when, and how to change it.

use warden_host::{Cause, Error, Failure, Host, Result, UnitProperties};

use crate::Advice;
use crate::iggy::{Runtime, Service, unit_of};

/// Whether there is a unit of this name.
pub enum Found {
    Loaded(Box<UnitProperties>),
    /// There is none, or what is there does not load; `LoadState` in words.
    NotLoaded(String),
    /// No service manager to ask, and why.
    NoManager(String),
}

impl Found {
    pub fn loaded(self) -> Option<Box<UnitProperties>> {
        match self {
            Found::Loaded(unit) => Some(unit),
            Found::NotLoaded(_) | Found::NoManager(_) => None,
        }
    }
}

/// A denied or timed-out question stays an error.
pub fn find(host: &Host, name: &str) -> Result<Found> {
    match host.unit(name) {
        Ok(unit) if unit.is_loaded() => Ok(Found::Loaded(Box::new(unit))),
        Ok(unit) => Ok(Found::NotLoaded(unit.text("LoadState").unwrap_or("not-found").to_owned())),
        Err(Error::Host(Failure { cause: Cause::Absent, .. })) => {
            Ok(Found::NotLoaded("not-found".to_owned()))
        }
        Err(Error::Host(Failure { cause: Cause::Unavailable(reason), .. })) => Ok(Found::NoManager(reason)),
        Err(error) => Err(error),
    }
}

/// The units of the two runtimes: those in which their processes run, whatever their names, or the configured ones.
pub fn runtime_units(host: &Host) -> Result<[(Runtime, String); 2]> {
    let name = |runtime: Runtime| match Service::of(host, runtime) {
        Service::Unit(unit) => Ok(unit),
        Service::UserUnit { .. } | Service::Container { .. } | Service::Nobody { .. } => {
            unit_of(host, runtime)
        }
    };
    Ok([(Runtime::Iggy, name(Runtime::Iggy)?), (Runtime::Connectors, name(Runtime::Connectors)?)])
}

/// A timestamp property in Unix seconds; zero means never.
pub fn time(unit: &UnitProperties, name: &str) -> Option<i64> {
    let microseconds = unit.number(name).filter(|&microseconds| microseconds > 0)?;
    i64::try_from(microseconds / 1_000_000).ok()
}

/// systemd's own measure of how exposed a unit is, 0 (confined) to 10; absent where systemd-analyze is not
/// installed or is older than version 240.
pub fn exposure(host: &Host, unit: &str) -> Option<f64> {
    let output = host.run_with("systemd-security", unit).ok()?;
    let line = output.stdout.lines().find(|line| line.contains("Overall exposure level for"))?;
    line.rsplit_once(": ")?.1.split_whitespace().next()?.parse().ok()
}

/// Sorts after `override.conf`, which `systemctl edit` writes, and after what distributions name: systemd.unit(5) reads
/// drop-ins in the order of their file names, whatever directory they are in, and the last one wins.
const DROP_IN: &str = "zz-warden";

/// How to set one directive of a unit for good. The advice says when a drop-in of the unit would still win.
pub fn drop_in(host: &Host, unit: &str, setting: &str) -> Advice {
    let directive = setting.split('=').next().unwrap_or_default();
    let loaded = host.unit(unit).ok();
    let existing = loaded.as_ref().map(|unit| unit.list("DropInPaths")).unwrap_or_default();
    drop_in_beside(unit, setting, directive, &existing)
}

fn drop_in_beside(unit: &str, setting: &str, directive: &str, existing: &[&str]) -> Advice {
    let mut name = format!("{DROP_IN}-{}", directive.to_ascii_lowercase());
    let file = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    // Those of ours set one directive each; anything else that sorts later would win.
    let own = |other: &str| other.starts_with(DROP_IN);
    let others = existing.iter().map(|path| file(path)).filter(|other| !own(other));
    if let Some(last) = others.filter(|other| *other > format!("{name}.conf")).max() {
        // `_` sorts after the `.` of `.conf`, `-` before it.
        name = format!("{}_{name}", last.trim_end_matches(".conf"));
    }
    // printf takes % for its own.
    let printed = setting.replace('%', "%%");
    let directory = crate::quoted_if_needed(&format!("/etc/systemd/system/{unit}.d"));
    let path = crate::quoted_if_needed(&format!("/etc/systemd/system/{unit}.d/{name}.conf"));
    let command = format!(
        "mkdir -p {directory} && printf '[Service]\\n{printed}\\n' > {path} && systemctl daemon-reload && \
         systemctl show {} -p {directive}",
        crate::quoted_if_needed(unit)
    );
    let beside = match existing {
        [] => String::new(),
        others => format!(" It sorts after those that are there ({}), so it wins.", others.join(", ")),
    };
    Advice::run(
        format!(
            "Set {setting} in a drop-in of {unit}; it holds from the next start. The command ends with the value in force.{beside}"
        ),
        command,
    )
}

#[cfg(test)]
pub mod testing {
    use warden_host::{STATE_DIRECTORY, Settings};

    /// A run as root with the packaged unit names, by process 99.
    pub fn settings() -> Settings {
        Settings {
            iggy_unit: "iggy.service".to_owned(),
            connectors_unit: "iggy-connectors.service".to_owned(),
            warden_unit: "warden.service".to_owned(),
            state_directory: STATE_DIRECTORY.to_owned(),
            supervisor_url: None,
            supervisor_authorities: None,
            since_seconds: 86_400,
            own_pid: 99,
            effective_uid: 0,
            capabilities: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use warden_host::{Data, Output, Recorded, Request};

    use super::*;

    #[test]
    fn a_unit_is_there_or_not_or_nobody_can_say() {
        let request = |name: &str| Request::Unit { name: name.to_owned() };
        let host = Recorded::complete()
            .unit("a.service", serde_json::json!({"LoadState": "loaded"}))
            .unit("b.service", serde_json::json!({"LoadState": "masked"}))
            .without(request("c.service"), Cause::Unavailable("no D-Bus".to_owned()))
            .without(request("d.service"), Cause::Denied)
            .host();
        assert!(matches!(find(&host, "a.service"), Ok(Found::Loaded(_))));
        assert!(matches!(find(&host, "b.service"), Ok(Found::NotLoaded(state)) if state == "masked"));
        assert!(matches!(find(&host, "c.service"), Ok(Found::NoManager(reason)) if reason == "no D-Bus"));
        assert!(find(&host, "d.service").is_err());
        assert!(matches!(find(&host, "e.service"), Ok(Found::NotLoaded(state)) if state == "not-found"));
    }

    #[test]
    fn the_exposure_is_the_number_in_the_last_line() {
        let ask =
            Request::Command { name: "systemd-security".to_owned(), argument: Some("a.service".to_owned()) };
        let stdout =
            "✓ UMask= Files are private\n\n→ Overall exposure level for a.service: 1.9 OK 🙂\n".to_owned();
        let output = Output { status: Some(0), stdout, stderr: String::new(), cut: false };
        let host = Recorded::complete().with(ask, Data::Output(output)).host();
        assert_eq!((exposure(&host, "a.service"), exposure(&host, "b.service")), (Some(1.9), None));
    }

    fn advised(drop_ins: serde_json::Value) -> Advice {
        let unit = serde_json::json!({"LoadState": "loaded", "DropInPaths": drop_ins});
        drop_in(
            &Recorded::complete().unit("iggy.service", unit).host(),
            "iggy.service",
            "LimitMEMLOCK=infinity",
        )
    }

    #[test]
    fn a_drop_in_is_one_line_to_paste_and_wins_over_the_one_that_systemctl_edit_writes() {
        let plain = advised(serde_json::json!([]));
        assert_eq!(
            plain.command.unwrap(),
            "mkdir -p /etc/systemd/system/iggy.service.d && printf '[Service]\\nLimitMEMLOCK=infinity\\n' > \
             /etc/systemd/system/iggy.service.d/zz-warden-limitmemlock.conf && systemctl daemon-reload && \
             systemctl show iggy.service -p LimitMEMLOCK"
        );
        let edited = advised(serde_json::json!(["/etc/systemd/system/iggy.service.d/override.conf"]));
        assert!(edited.text.ends_with(
            "It sorts after those that are there (/etc/systemd/system/iggy.service.d/override.conf), so it wins."
        ));
        assert!(edited.command.unwrap().contains("/zz-warden-limitmemlock.conf"));
    }

    #[test]
    fn a_drop_in_that_sorts_after_the_usual_name_is_outdone() {
        let late = advised(serde_json::json!(["/run/systemd/system/iggy.service.d/zzz.conf"]));
        assert!(late.command.unwrap().contains("/zzz_zz-warden-limitmemlock.conf "));
        assert!("zzz_zz-warden-limitmemlock.conf" > "zzz.conf");
        let own =
            advised(serde_json::json!(["/etc/systemd/system/iggy.service.d/zz-warden-limitmemlock.conf"]));
        assert!(own.command.unwrap().contains("/zz-warden-limitmemlock.conf "));
    }
}
