//! Lists in pages, with links to the others (RFC 8288).

use std::fmt::Write;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::extract::Query;
use super::idempotency::Reply;
use super::problem::Problem;
use super::{Api, base_url};
use crate::store::{Page, Paged};

/// Items of a page when the request does not say.
const RESULTS: u32 = 10;
/// At most.
const RESULTS_LIMIT: u32 = 100;
/// Far beyond any list, so that an offset never overflows.
const PAGE_LIMIT: u32 = 10_000_000;

/// The parameters of every list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes; the query is read by hand to tell every mistake")]
pub struct PageParameters {
    /// Which page, from 1.
    #[param(minimum = 1, maximum = 10_000_000, default = 1, example = 1)]
    page: Option<u32>,
    /// Items of a page.
    #[param(minimum = 1, maximum = 100, default = 10, example = 10)]
    results: Option<u32>,
}

/// A page of a list, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct PageOf<T> {
    pub items: Vec<T>,
    /// Which page this is, from 1.
    #[schema(example = 1)]
    pub page: u32,
    #[schema(example = 1)]
    pub total_results: u64,
    #[schema(example = 1)]
    pub total_pages: u64,
}

/// What a list was asked for: the page and the filters of the endpoint.
pub struct Listed {
    pub page: Page,
    pub query: Query,
    address: String,
}

impl Listed {
    /// Reads the query of a list that has these filters.
    pub fn read(parts: &Parts, api: &Api, filters: &[&str]) -> Result<Listed, Problem> {
        let known: Vec<&str> = ["page", "results"].iter().chain(filters).copied().collect();
        let query = Query::read(parts, &known)?;
        let page = bounded(&query, "page", 1, PAGE_LIMIT)?;
        let results = bounded(&query, "results", RESULTS, RESULTS_LIMIT)?;
        let address = format!("{}{}", base_url(parts, &api.settings), parts.uri.path());
        Ok(Listed { page: Page { page, results }, query, address })
    }

    pub fn respond<T, J: Serialize>(
        &self,
        paged: Paged<T>,
        item: impl Fn(T) -> J,
    ) -> Result<Response, Problem> {
        let total_pages = paged.total.div_ceil(u64::from(self.page.results));
        let body = PageOf {
            items: paged.items.into_iter().map(item).collect(),
            page: self.page.page,
            total_results: paged.total,
            total_pages,
        };
        let mut response = Reply::json(StatusCode::OK, &body)?.into_response();
        if let Ok(links) = HeaderValue::try_from(self.links(total_pages)) {
            response.headers_mut().insert(header::LINK, links);
        }
        Ok(response)
    }

    fn links(&self, total_pages: u64) -> String {
        let page = u64::from(self.page.page);
        let last = total_pages.max(1);
        let previous = (page > 1).then(|| (page - 1).min(last));
        let next = (page < last).then_some(page + 1);
        let mut links = String::new();
        for (relation, number) in
            [("first", Some(1)), ("prev", previous), ("next", next), ("last", Some(last))]
        {
            let Some(number) = number else { continue };
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            query.append_pair("page", &number.to_string());
            query.append_pair("results", &self.page.results.to_string());
            query.extend_pairs(self.query.without_page());
            let comma = if links.is_empty() { "" } else { ", " };
            let _ = write!(links, "{comma}<{}?{}>; rel=\"{relation}\"", self.address, query.finish());
        }
        links
    }
}

fn bounded(query: &Query, name: &str, default: u32, limit: u32) -> Result<u32, Problem> {
    let Some(text) = query.text(name) else { return Ok(default) };
    let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
    number.filter(|number| (1..=limit).contains(number)).ok_or_else(|| {
        Problem::field(name, "out_of_range", format!("expected a whole number from 1 to {limit}"))
    })
}

/// A list without filters.
impl FromRequestParts<Api> for Listed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Listed, Problem> {
        Listed::read(parts, api, &[])
    }
}
