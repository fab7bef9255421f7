//! A page of a list, newest first.

use sqlx::AnyConnection;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;

use super::Result;

/// Which part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// From 1.
    pub page: u32,
    pub results: u32,
}

impl Page {
    pub(super) fn limit(self) -> i64 {
        i64::from(self.results)
    }

    pub(super) fn offset(self) -> i64 {
        i64::from(self.page.saturating_sub(1)) * i64::from(self.results)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paged<T> {
    pub items: Vec<T>,
    pub total: u64,
}

/// What a query that counts and one that lists say together.
pub(super) async fn paged<T>(
    connection: &mut AnyConnection,
    count: Query<'_, sqlx::Any, AnyArguments>,
    list: Query<'_, sqlx::Any, AnyArguments>,
    read: impl Fn(&AnyRow) -> Result<T>,
) -> Result<Paged<T>> {
    use sqlx::Row;
    let total: i64 = count.fetch_one(&mut *connection).await?.try_get(0)?;
    let rows = list.fetch_all(connection).await?;
    Ok(Paged { items: rows.iter().map(read).collect::<Result<_>>()?, total: total.cast_unsigned() })
}
