//! `/openapi.json`, generated from the endpoints, and `/docs`, the same as a page.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use utoipa::OpenApi;

use super::openapi_html::Page;
use super::problem::{FieldIssue, ProblemBody};
use super::{Api, bounds};

/// What holds for every endpoint, in the words of the page.
const CONVENTIONS: &str = include_str!("conventions.md");
const STYLE: &str = include_str!("../../../templates/docs.css");

#[derive(OpenApi)]
#[openapi(
    info(title = "Warden Supervisor", version = env!("CARGO_PKG_VERSION"), license(name = "Apache-2.0", identifier = "Apache-2.0")),
    components(schemas(ProblemBody, FieldIssue)),
    tags(
        (name = "deployments", description = "Nodes that run one Iggy together."),
        (name = "nodes", description = "The hosts of a deployment, and how they come and go."),
        (name = "activities", description = "Actions on the runtimes of nodes."),
        (name = "async actions", description = "Operations that outlive their request, over all their nodes."),
        (name = "snapshots", description = "What nodes and their Iggy look like, judged, as archives."),
        (name = "health", description = "How nodes and runtimes are, and were."),
        (name = "administration", description = "Keys, and who did what. Needs an administrator's key."),
        (name = "supervisor", description = "This Supervisor itself. Asks for no API key."),
    )
)]
struct Frame;

/// What the endpoints are added to.
pub fn frame() -> utoipa::openapi::OpenApi {
    Frame::openapi()
}

pub struct Document {
    json: String,
    page: String,
    /// Content-Security-Policy of the page: its own style, and nothing else from anywhere.
    policy: String,
}

impl Document {
    pub fn new(openapi: utoipa::openapi::OpenApi) -> Document {
        let document = completed(serde_json::to_value(openapi).unwrap_or_default());
        let page = Page::new(&document, STYLE).render().unwrap_or_default();
        let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'"
        );
        Document { json: format!("{document:#}"), page, policy }
    }
}

pub fn routes() -> Router<Api> {
    Router::new()
        .route("/openapi.json", get(async |State(api): State<Api>| openapi(&api)))
        .route("/docs", get(async |State(api): State<Api>| docs(&api)))
}

fn openapi(api: &Api) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], api.document.json.clone()).into_response()
}

fn docs(api: &Api) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, api.document.policy.as_str()),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, api.document.page.clone()).into_response()
}

/// Adds to every operation what the conventions give it.
fn completed(mut document: Value) -> Value {
    document["info"]["description"] = json!(CONVENTIONS);
    document["components"]["securitySchemes"] = json!({ "ld-api-key": {
        "type": "apiKey", "in": "header", "name": "ld-api-key", "description": "A key from `POST /api_keys`."
    }, "metrics-token": {
        "type": "http", "scheme": "bearer", "description": "What `metrics_token_file` of the configuration holds."
    }});
    document["security"] = json!([{ "ld-api-key": [] }]);
    bounds::schemas(&mut document["components"]["schemas"]);
    let schemas = document["components"]["schemas"].clone();
    let Some(paths) = document["paths"].as_object_mut() else { return document };
    for (path, item) in paths {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            let needs_body = bounds::needs_body(operation, &schemas);
            complete(path, method, operation);
            if needs_body {
                operation["requestBody"]["required"] = json!(true);
            }
        }
    }
    document
}

fn complete(path: &str, method: &str, operation: &mut Value) {
    let open = operation.get("security").is_some();
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let mut all: Vec<Value> = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .filter(|name| !parameters.iter().any(|known| known["name"] == *name))
        .map(|name| {
            json!({ "name": name, "in": "path", "required": true, "example": 611_298_765_432_109_056_u64,
                    "schema": bounds::id() })
        })
        .collect();
    all.extend(parameters);
    if matches!(method, "post" | "put" | "patch") {
        all.push(json!({ "name": "idempotency-key", "in": "header", "required": false,
            "description": "Makes the request safe to send again: the first answer is kept for 10 minutes and replayed with `idempotent-replayed: true`.",
            "example": "4f1c2f6e-restart-iggy", "schema": { "type": "string", "minLength": 1, "maxLength": 255 } }));
        operation["requestBody"]["required"] = json!(false);
    }
    all.iter_mut().for_each(bounds::parameter);
    if !all.is_empty() {
        operation["parameters"] = Value::Array(all);
    }
    let responses = &mut operation["responses"];
    let refusals: &[(&str, &str)] = if open {
        &[("503", "`not_ready`, `store_unavailable`")]
    } else {
        &[
            ("400", "`validation_error`, with every field that is wrong"),
            ("401", "`unauthorized`: the key is missing, unknown, expired or was removed"),
            ("403", "`permission_denied`, or `address_denied`: not from this address"),
            ("404", "`deployment_not_found`: not there, or not yours"),
            ("429", "`rate_limited`: wait as long as `retry-after` says"),
            ("503", "`store_unavailable`: try again"),
        ]
    };
    let with_body: &[(&str, &str)] = if matches!(method, "post" | "put" | "patch") {
        &[
            ("408", "`request_timeout`: the body did not come in time"),
            (
                "409",
                "`idempotency_error`: the idempotency-key was used with another request. \
                 `idempotent_request_in_progress`: ask again in a moment",
            ),
            ("413", "`body_too_large`: over 1 MiB"),
            ("415", "`unsupported_media_type`: the body is no JSON"),
        ]
    } else {
        &[]
    };
    let in_deployment = path.starts_with("/deployments/{");
    for (status, description) in refusals.iter().chain(with_body) {
        if responses.get(status).is_none() && (*status != "404" || in_deployment) {
            responses[status] = json!({ "description": description });
        }
    }
    for (status, response) in responses.as_object_mut().into_iter().flatten() {
        if response["description"].as_str().is_none_or(str::is_empty) {
            response["description"] = json!("Done.");
        }
        response["headers"]["ld-request"] = json!({ "schema": { "type": "string", "pattern": "^[0-9a-f]{32}$" },
            "description": "The id of this request." });
        if status.starts_with(['4', '5']) && response.get("content").is_none() {
            response["content"] = json!({ "application/problem+json": {
                "schema": { "$ref": "#/components/schemas/Problem" } } });
        }
    }
}
