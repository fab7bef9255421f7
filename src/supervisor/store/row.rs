//! Reads columns of a row as what they stand for.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::Result;

pub(super) trait Columns {
    fn number(&self, column: &str) -> Result<i64>;
    fn maybe_number(&self, column: &str) -> Result<Option<i64>>;
    fn text(&self, column: &str) -> Result<String>;
    fn maybe_text(&self, column: &str) -> Result<Option<String>>;

    fn id(&self, column: &str) -> Result<u64> {
        self.number(column).map(i64::cast_unsigned)
    }

    fn maybe_id(&self, column: &str) -> Result<Option<u64>> {
        Ok(self.maybe_number(column)?.map(i64::cast_unsigned))
    }

    fn yes(&self, column: &str) -> Result<bool> {
        Ok(self.number(column)? != 0)
    }

    /// A text that this program wrote as JSON.
    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T> {
        serde_json::from_str(&self.text(column)?).map_err(unreadable)
    }

    fn maybe_json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>> {
        let text = self.maybe_text(column)?;
        text.map(|text| serde_json::from_str(&text).map_err(unreadable)).transpose()
    }

    fn parsed<T: std::str::FromStr<Err: Into<Box<dyn std::error::Error + Send + Sync>>>>(
        &self,
        column: &str,
    ) -> Result<T> {
        self.text(column)?.parse().map_err(|error: T::Err| sqlx::Error::Decode(error.into()))
    }
}

impl Columns for AnyRow {
    fn number(&self, column: &str) -> Result<i64> {
        self.try_get(column)
    }

    fn maybe_number(&self, column: &str) -> Result<Option<i64>> {
        self.try_get(column)
    }

    fn text(&self, column: &str) -> Result<String> {
        self.try_get(column)
    }

    fn maybe_text(&self, column: &str) -> Result<Option<String>> {
        self.try_get(column)
    }
}

fn unreadable(error: serde_json::Error) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

/// An id as its column holds it.
pub(super) fn key(id: u64) -> i64 {
    id.cast_signed()
}

pub(super) fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}

/// A text from elsewhere, without what PostgreSQL cannot hold or a terminal would obey, cut to so many characters.
pub(super) fn plain(text: &str, limit: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(limit).collect()
}
