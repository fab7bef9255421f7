//! Asks polkit what a process may do, as org.freedesktop.PolicyKit1.Authority describes it.

use std::collections::HashMap;

use tokio::time::timeout;
use warden_config::DBUS_LIMIT;
use zbus::{Connection, OwnedVariant, Variant};

use super::error::{explain, explain_connect};
use super::properties::text;
use super::{Error, PROPERTIES, Verb};

const DESTINATION: &str = "org.freedesktop.PolicyKit1";
const PATH: &str = "/org/freedesktop/PolicyKit1/Authority";
const AUTHORITY: &str = "org.freedesktop.PolicyKit1.Authority";
const MANAGE_UNITS: &str = "org.freedesktop.systemd1.manage-units";
/// polkit finds out by itself when the process was started.
const STARTED: u64 = 0;
/// No user is to be asked for a password.
const NO_FLAGS: u32 = 0;
/// The backend that reads rules in JavaScript, since polkit 0.106. The one before it (`local`) does not know them.
const READS_RULES: &str = "js";

/// The polkit that runs on this host.
#[derive(Debug, Clone)]
pub struct Polkit {
    connection: Connection,
    backend: String,
    pub version: String,
}

impl Polkit {
    /// # Errors
    /// There is no bus, or no polkit on it.
    pub async fn connect() -> Result<Polkit, Error> {
        in_time(async {
            let connection = Connection::system().await.map_err(explain_connect)?;
            let mut told = Vec::new();
            for property in ["BackendName", "BackendVersion"] {
                let arguments = (AUTHORITY, property);
                let answer = connection
                    .call_method(Some(DESTINATION), PATH, Some(PROPERTIES), "Get", &arguments)
                    .await
                    .map_err(explain_polkit)?;
                told.push(text(&answer.body().deserialize::<OwnedVariant>().map_err(explain)?));
            }
            let version = told.pop().unwrap_or_default();
            Ok(Polkit { connection, backend: told.pop().unwrap_or_default(), version })
        })
        .await
    }

    /// Whether it reads rules like the one that Warden brings.
    pub fn reads_rules(&self) -> bool {
        self.backend == READS_RULES
    }

    /// Whether a process may do this to a unit. Only root may ask for the processes of others.
    ///
    /// # Errors
    /// polkit does not answer, or not to us.
    pub async fn lets(&self, process: u32, verb: Verb, unit: &str) -> Result<bool, Error> {
        in_time(async {
            let process =
                HashMap::from([("pid", Variant::U32(process)), ("start-time", Variant::U64(STARTED))]);
            let details = HashMap::from([("unit", unit), ("verb", word(verb))]);
            let arguments = (("unix-process", process), MANAGE_UNITS, details, NO_FLAGS, "");
            let answer = self
                .connection
                .call_method(Some(DESTINATION), PATH, Some(AUTHORITY), "CheckAuthorization", &arguments)
                .await
                .map_err(explain_polkit)?;
            let (is_authorized, _is_challenge, _details): (bool, bool, HashMap<String, String>) =
                answer.body().deserialize().map_err(explain)?;
            Ok(is_authorized)
        })
        .await
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(DBUS_LIMIT, asked).await.unwrap_or(Err(Error::Timeout(DBUS_LIMIT)))
}

fn explain_polkit(error: zbus::Error) -> Error {
    match explain(error) {
        Error::Unavailable(_) => Error::Unavailable("polkit does not run on this host".to_owned()),
        Error::Timeout(_) => Error::Call("polkit does not answer".to_owned()),
        error @ (Error::Denied | Error::NoSuchUnit(_) | Error::Call(_)) => error,
    }
}

/// As systemd names it to polkit.
fn word(verb: Verb) -> &'static str {
    match verb {
        Verb::Start => "start",
        Verb::Stop => "stop",
        Verb::Restart => "restart",
    }
}
