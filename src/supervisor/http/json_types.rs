//! Ids and times as they are in JSON.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{KnownFormat, OneOfBuilder, SchemaFormat, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::bounds::ID_TEXT;

/// An id that was sent: a number, or a text with the number, for clients whose numbers end at 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub u64);

const NO_ID: &str = "expected an id: a whole number above 0";

impl FromStr for Id {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Id, Self::Err> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        let id = if digits { text.parse().ok() } else { None };
        id.filter(|id| *id > 0).map(Id).ok_or(NO_ID)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
        struct NumberOrText;
        impl Visitor<'_> for NumberOrText {
            type Value = Id;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an id: a whole number above 0")
            }

            fn visit_u64<E: Error>(self, id: u64) -> Result<Id, E> {
                if id > 0 { Ok(Id(id)) } else { Err(E::custom(NO_ID)) }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Id, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(NumberOrText)
    }
}

impl PartialSchema for Id {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::Custom("uint64".to_owned())))
            .minimum(Some(1))
            .maximum(Some(u64::MAX as f64));
        let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(ID_TEXT));
        OneOfBuilder::new()
            .item(number)
            .item(text)
            .description(Some("An id; a text where numbers end at 2^53."))
            .into()
    }
}

impl ToSchema for Id {}

/// A moment, in milliseconds since 1970 UTC; as text RFC 3339 in UTC with `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub i64);

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Timestamp::from_millisecond(self.0).unwrap_or_default().fmt(formatter)
    }
}

impl FromStr for Time {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Time, Self::Err> {
        let timestamp: Timestamp =
            text.parse().map_err(|_| "expected a time in RFC 3339, such as 2026-06-01T10:30:00Z")?;
        Ok(Time(timestamp.as_millisecond()))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("RFC 3339 in UTC, to the millisecond."))
            .examples([serde_json::json!("2026-06-01T10:30:00.250Z")])
            .into()
    }
}

impl ToSchema for Time {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_number_or_its_text_and_nothing_else() {
        let read = |json: &str| serde_json::from_str::<Id>(json).ok();
        assert_eq!(read("18446744073709551615"), Some(Id(u64::MAX)));
        assert_eq!(read("\"610809900976570889\""), Some(Id(610_809_900_976_570_889)));
        for bad in
            ["0", "\"0\"", "\"01\"", "-1", "1.5", "1e3", "\"\"", "\"+1\"", "\" 1\"", "\"x\"", "null", "true"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_time_is_utc_with_z() {
        assert_eq!(Time(1_780_309_800_000).to_string(), "2026-06-01T10:30:00Z");
        assert_eq!("2026-06-01T12:30:00.5+02:00".parse(), Ok(Time(1_780_309_800_500)));
        assert_eq!(Time(1_780_309_800_500).to_string(), "2026-06-01T10:30:00.5Z");
        assert!("2026-06-01".parse::<Time>().is_err());
    }
}
