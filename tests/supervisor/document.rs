//! The OpenAPI document: complete, true, and shown on a page that loads nothing.

use std::collections::BTreeSet;

use axum::http::Method;
use serde_json::{Value, json};

use super::Backend;
use super::served::{Answer, Served};
use crate::support::browser::{self, Script};

/// The document, as what every answer must fit.
#[derive(Default)]
pub struct Contract {
    document: Value,
}

impl Contract {
    pub fn new(document: Value) -> Contract {
        Contract { document }
    }

    /// The answer is one the document tells of, and its body has the shape it tells.
    pub fn hold(&self, method: &Method, path: &str, answer: &Answer) {
        let path = path.split('?').next().unwrap();
        let Some(operation) = self.operation(method, path) else { return };
        let status = answer.status.to_string();
        let response = &operation["responses"][&status];
        // What no operation tells of.
        let everywhere = matches!(answer.status, 405 | 500);
        assert!(response.is_object() || everywhere, "{method} {path} answers {status}: {}", answer.text);
        let content = answer.header("content-type").split(';').next().unwrap().to_owned();
        let schema = &response["content"][&content]["schema"];
        if answer.text.is_empty() || content.starts_with("text/") || content.contains("metrics") || everywhere
        {
            return;
        }
        assert!(schema.is_object(), "{method} {path} answers {status} as {content:?}");
        let mut whole = schema.clone();
        whole["components"] = self.document["components"].clone();
        let validator = jsonschema::draft202012::new(&whole).unwrap();
        let body = answer.json();
        let wrong: Vec<String> = validator
            .iter_errors(&body)
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{method} {path} {status}: {wrong:?}\n{body:#}");
    }

    fn operation(&self, method: &Method, path: &str) -> Option<&Value> {
        let parts: Vec<&str> = path.split('/').collect();
        let fits = |template: &str| {
            let wanted: Vec<&str> = template.split('/').collect();
            wanted.len() == parts.len()
                && wanted.iter().zip(&parts).all(|(wanted, part)| wanted.starts_with('{') || wanted == part)
        };
        let paths = self.document["paths"].as_object()?;
        let (_, item) = paths
            .iter()
            .filter(|(template, _)| fits(template))
            .min_by_key(|(template, _)| template.matches('{').count())?;
        item.get(method.as_str().to_lowercase())
    }
}

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            let item = item.as_object().unwrap();
            item.iter().map(|(method, operation)| (path.clone(), method.clone(), operation.clone()))
        })
        .collect()
}

#[tokio::test]
async fn the_document_is_complete() {
    let backend = Backend::sqlite();
    let served = Served::start(&backend).await;
    let answer = served.get("/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut ids = BTreeSet::new();
    let tags: BTreeSet<&str> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    for (path, method, operation) in operations(&document) {
        let at = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{at}");
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{at}");
        assert!(tags.contains(operation["tags"][0].as_str().unwrap()), "{at}");
        for part in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            let named = |parameter: &Value| parameter["name"] == part && parameter["in"] == "path";
            assert!(operation["parameters"].as_array().unwrap().iter().any(named), "{at}: {part}");
        }
        if method == "post" {
            let named = |parameter: &Value| parameter["name"] == "idempotency-key";
            assert!(operation["parameters"].as_array().unwrap().iter().any(named), "{at}");
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            assert!(response["headers"]["ld-request"].is_object(), "{at} {status}");
            assert!(!response["description"].as_str().unwrap().is_empty(), "{at} {status}");
        }
        let open = operation.get("security").is_some();
        assert_eq!(open, operation["tags"][0] == "supervisor", "{at}");
    }
    assert_eq!(document["security"], json!([{ "ld-api-key": [] }]));
    served.stop().await;
}

#[tokio::test]
async fn every_reference_resolves_and_every_example_fits_its_schema() {
    let backend = Backend::sqlite();
    let served = Served::start(&backend).await;
    let document = served.get("/openapi.json").await.json();
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut examples = 0;
    for (name, schema) in schemas {
        let Some(example) = schema.get("example").or(schema["examples"].get(0)) else { continue };
        let whole =
            json!({ "$ref": format!("#/components/schemas/{name}"), "components": document["components"] });
        let validator = jsonschema::draft202012::new(&whole).unwrap();
        let wrong: Vec<String> = validator.iter_errors(example).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
        examples += 1;
    }
    assert!(examples >= 15, "{examples}");
    served.stop().await;
}

#[tokio::test]
async fn the_document_tells_every_path_there_is_and_no_other() {
    let backend = Backend::sqlite();
    let served = Served::start(&backend).await;
    let document = served.get("/openapi.json").await.json();
    for (path, method, _) in operations(&document) {
        let filled = path
            .replace("{runtime}", "iggy")
            .replace("{action}", "restart")
            .split('/')
            .map(|part| if part.starts_with('{') { "7" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let answer = served.call(method.clone(), &filled, &[], "").await;
        let expected = if document["paths"][&path][method.as_str().to_lowercase()].get("security").is_some() {
            200
        } else {
            401
        };
        assert_eq!(answer.status, expected, "{method} {filled}: {}", answer.text);
    }
    served.stop().await;
}

#[tokio::test]
async fn the_page_shows_every_operation_and_loads_nothing() {
    let backend = Backend::sqlite();
    let served = Served::start(&backend).await;
    let document = served.get("/openapi.json").await.json();
    let page = served.get("/docs").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    for (_, _, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(page.text.contains(&format!("<article id=\"{id}\">")), "{id}");
    }
    for (name, _) in document["components"]["schemas"].as_object().unwrap() {
        assert!(page.text.contains(&format!("<article id=\"schema-{name}\">")), "{name}");
    }
    for door in ["<script", "<img", "<iframe", "url(", "@import", "src="] {
        assert!(!page.text.contains(door), "{door}");
    }
    for link in page.text.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        let target = link.strip_prefix('#').map(|id| format!("id=\"{id}\""));
        match target {
            Some(target) => assert!(page.text.contains(&target), "{link} leads nowhere"),
            None => assert!(matches!(link, "/openapi.json" | "data:,"), "{link}"),
        }
    }
    served.stop().await;
}

#[test]
fn a_browser_shows_the_page_as_it_is_meant_and_asks_for_nothing_else() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let backend = Backend::sqlite();
    let served = runtime.block_on(Served::start(&backend));
    let page = served.url("/docs");
    browser::open_url(&page, Script::On, async |browser| {
        assert_eq!(browser.console().await, Vec::<String>::new());
        assert_eq!(browser.requests_of(&page).await, std::slice::from_ref(&page));
        assert!(browser.is_shown("#start_activities .POST").await);
        let column = "getComputedStyle(document.querySelector('.layout')).display";
        assert_eq!(browser.run(&format!("return {column}")).await, "grid", "the style is applied");
    });
    runtime.block_on(served.stop());
}
