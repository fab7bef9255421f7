//! Reading properties, and what their values are.

use std::collections::HashMap;

use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use super::error::explain;
use super::{DESTINATION, Error, Manager, PROPERTIES};

/// systemd's way to say that it does not know a figure.
const UNKNOWN: u64 = u64::MAX;

impl Manager {
    pub(super) async fn property(
        &self,
        path: &OwnedObjectPath,
        interface: &str,
        name: &str,
    ) -> Result<OwnedVariant, Error> {
        let answer = self
            .connection()
            .call_method(Some(DESTINATION), path, Some(PROPERTIES), "Get", &(interface, name))
            .await
            .map_err(explain)?;
        answer.body().deserialize().map_err(explain)
    }

    /// All of an interface, as they are at one moment.
    pub(super) async fn properties(
        &self,
        path: &OwnedObjectPath,
        interface: &str,
    ) -> Result<HashMap<String, OwnedVariant>, Error> {
        let answer = self
            .connection()
            .call_method(Some(DESTINATION), path, Some(PROPERTIES), "GetAll", &(interface,))
            .await
            .map_err(explain)?;
        answer.body().deserialize().map_err(explain)
    }
}

pub fn text(value: &OwnedVariant) -> String {
    if let Variant::Str(text) = &**value { text.as_str().to_owned() } else { String::new() }
}

pub fn number(value: &OwnedVariant) -> Option<u64> {
    let number = if let Variant::U32(number) = &**value {
        u64::from(*number)
    } else if let Variant::U64(number) = &**value {
        *number
    } else {
        return None;
    };
    (number != UNKNOWN).then_some(number)
}
