//! Lists of the API: one page, or all of them.

use std::collections::BTreeSet;
use std::io::Write;

use serde_json::{Value, json};

use super::context::Session;
use super::table::{Column, fields, table};
use crate::cli::json_ids;
use crate::cli::terminal::Style;

/// What the API gives at once at most.
const PAGE_LIMIT: u32 = 100;
/// Items that `--all` fetches: a person reads no more, and memory stays small.
const ALL_LIMIT: usize = 10_000;

/// Which part of a list, the newest first
#[derive(Debug, Clone, clap::Args)]
pub struct Part {
    /// Page to show
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    page: u32,

    /// Items of a page
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    results: u32,

    /// All pages, up to 10000 items
    #[arg(long, conflicts_with_all = ["page", "results"])]
    all: bool,
}

/// Some items of a list, and how many there are.
#[derive(Debug)]
pub struct Page {
    pub items: Vec<Value>,
    pub total: u64,
    body: Value,
}

impl Page {
    /// Takes a page, and a plain array too.
    pub fn read(body: Value) -> Page {
        let items = body.get("items").unwrap_or(&body).as_array().cloned().unwrap_or_default();
        let total = body.get("total_results").and_then(Value::as_u64).unwrap_or(items.len() as u64);
        Page { items, total, body }
    }
}

impl Session {
    /// Fetches what `part` says of the list at `path`, and prints it.
    pub async fn list(
        &self,
        path: &[&str],
        query: &[(&str, Option<String>)],
        part: &Part,
        columns: &[Column],
        (one, many): (&str, &str),
    ) -> anyhow::Result<u8> {
        let mut query: Vec<(&str, String)> =
            query.iter().filter_map(|(name, value)| Some((*name, value.clone()?))).collect();
        let page = if part.all {
            self.all(path, &query).await?
        } else {
            query.extend([("page", part.page.to_string()), ("results", part.results.to_string())]);
            Page::read(self.client.get(path, &query).await?)
        };
        self.print(&page.body, || {
            if page.items.is_empty() {
                return format!("no {many}\n");
            }
            let mut text = table(columns, &page.items, self.look);
            let shown = page.items.len() as u64;
            if shown < page.total {
                let noun = if page.total == 1 { one } else { many };
                let hint = format!("\n{shown} of {} {noun}; --page and --all tell more", page.total);
                text += &(self.look.paint.paint(Style::Dim, &hint) + "\n");
            }
            text
        })
    }

    /// All items at `path`, page for page.
    pub async fn all(&self, path: &[&str], query: &[(&str, String)]) -> anyhow::Result<Page> {
        let mut items: Vec<Value> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut number = 1_u32;
        loop {
            let mut query = query.to_vec();
            query.extend([("page", number.to_string()), ("results", PAGE_LIMIT.to_string())]);
            let page = Page::read(self.client.get(path, &query).await?);
            let last = page.items.len() < PAGE_LIMIT as usize || page.body.is_array();
            // What came to be meanwhile has moved the rest on to the next page.
            let new = page
                .items
                .into_iter()
                .filter(|item| item.get("id").is_none_or(|id| seen.insert(id.to_string())));
            items.extend(new);
            if last || items.len() >= ALL_LIMIT {
                let total = page.total.max(items.len() as u64);
                let body = json!({"items": items, "total_results": total});
                return Ok(Page { items, total, body });
            }
            number += 1;
        }
    }

    /// Prints one object.
    pub fn show(&self, item: &Value, columns: &[Column]) -> anyhow::Result<u8> {
        self.print(item, || fields(columns, item, self.look))
    }

    /// As JSON if asked for, else as `text` tells it.
    pub fn print(&self, body: &Value, text: impl FnOnce() -> String) -> anyhow::Result<u8> {
        let mut out = std::io::stdout().lock();
        if self.json {
            let mut body = body.clone();
            json_ids::as_strings(&mut body);
            serde_json::to_writer_pretty(&mut out, &body)?;
            writeln!(out)?;
        } else {
            out.write_all(text().as_bytes())?;
        }
        Ok(0)
    }
}
