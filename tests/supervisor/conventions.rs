//! What holds for every request, whatever it asks.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Method, Request};
use futures_util::stream;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Backend;
use super::served::{Answer, Served};

super::on_both_stores!(
    every_answer_names_its_request_and_every_refusal_has_the_one_shape,
    a_wrong_body_is_told_field_by_field,
    pages_link_to_each_other,
    a_page_outside_the_range_is_refused,
    ids_are_numbers_and_taken_as_texts,
    health_is_told_without_a_key,
    whoever_sends_more_than_is_read_gets_the_answer_all_the_same,
);

const JSON: (&str, &str) = ("content-type", "application/json");

/// The problem as a whole, its instance being the request.
fn problem(answer: &Answer, status: u16, title: &str, code: &str, reason: &str) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let retryable = matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504);
    json!({ "type": "about:blank", "title": title, "code": code, "reason": reason,
            "instance": answer.header("ld-request"), "status": status, "retryable": retryable })
}

async fn every_answer_names_its_request_and_every_refusal_has_the_one_shape(backend: Backend) {
    let served = Served::start(&backend).await;
    let key = served.key.clone();
    let key = ("ld-api-key", key.as_str());
    let mut requests = BTreeSet::new();
    let mut note = |answer: &Answer| {
        let request = answer.header("ld-request").to_owned();
        assert!(
            request.len() == 32 && request.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        );
        assert!(requests.insert(request), "each request has its own");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("cache-control"), "no-store");
    };

    let found = served.get("/deployments").await;
    assert_eq!(found.status, 200);
    note(&found);
    let unknown = served.call(Method::GET, "/nowhere", &[key], "").await;
    let reason = "there is nothing at this path; /docs tells what there is";
    assert_eq!(unknown.json(), problem(&unknown, 404, "Not Found", "path_not_found", reason));
    note(&unknown);
    let wrong_verb = served.call(Method::PATCH, "/deployments", &[key], "").await;
    let reason = "this path does not take this method; the header allow tells which it takes";
    assert_eq!(
        wrong_verb.json(),
        problem(&wrong_verb, 405, "Method Not Allowed", "method_not_allowed", reason)
    );
    assert_eq!(wrong_verb.header("allow"), "GET,HEAD,POST");
    note(&wrong_verb);
    let missing = served.call(Method::GET, "/deployments", &[], "").await;
    let reason = "the header ld-api-key is missing";
    assert_eq!(missing.json(), problem(&missing, 401, "Unauthorized", "unauthorized", reason));
    note(&missing);
    let plain = served.call(Method::POST, "/deployments", &[key, ("content-type", "text/plain")], "{}").await;
    let reason = "expected content-type: application/json";
    let expected = problem(&plain, 415, "Unsupported Media Type", "unsupported_media_type", reason);
    assert_eq!(plain.json(), expected);
    note(&plain);
    let untyped = served.call(Method::POST, "/deployments", &[key], r#"{"name":"a"}"#).await;
    assert_eq!(untyped.problem(), (415, "unsupported_media_type".into()));

    let large = format!(r#"{{"name":"{}"}}"#, "x".repeat(1 << 20));
    let large = served.call(Method::POST, "/deployments", &[key, JSON], &large).await;
    let reason = "the body is over the limit of 1048576 bytes";
    assert_eq!(large.json(), problem(&large, 413, "Payload Too Large", "body_too_large", reason));
    note(&large);
    // Without a length, as a stream.
    let chunks = (0..32).map(|_| Ok::<_, std::io::Error>("y".repeat(64 << 10)));
    let request = Request::post(served.url("/deployments"))
        .header("ld-api-key", key.1)
        .header(JSON.0, JSON.1)
        .body(Body::from_stream(stream::iter(chunks)))
        .unwrap();
    assert_eq!(served.send(request).await.problem(), (413, "body_too_large".into()));

    let absent = served.get("/deployments/7").await;
    let reason = "there is no such deployment, or it is not yours to see";
    assert_eq!(absent.json(), problem(&absent, 404, "Not Found", "deployment_not_found", reason));
    note(&absent);
    // HEAD answers as GET does.
    let head = served.call(Method::HEAD, "/deployments", &[key], "").await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    note(&head);
    served.stop().await;
}

async fn whoever_sends_more_than_is_read_gets_the_answer_all_the_same(backend: Backend) {
    let served = Served::start(&backend).await;
    let (key, nobody) = (served.key.clone(), "none".to_owned());
    for (path, key, status) in [("/deployments", key, 413), ("/deployments", nobody, 401)] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        // More than sockets hold; a simple client sends all of it before it reads.
        let body = vec![b'x'; 24 << 20];
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: warden\r\nld-api-key: {key}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    served.stop().await;
}

async fn a_wrong_body_is_told_field_by_field(backend: Backend) {
    let served = Served::start(&backend).await;
    let deployment = served.deployment("events-prod").await;
    let activities = format!("/deployments/{deployment}/activities/iggy/restart");
    for (path, body, code, issue, field) in [
        ("/deployments", "{", "invalid_json", "invalid_json", "body"),
        ("/deployments", "", "validation_error", "missing_field", "name"),
        ("/deployments", "[]", "validation_error", "wrong_type", "body"),
        ("/deployments", r#"{"name":7}"#, "validation_error", "wrong_type", "name"),
        ("/deployments", r#"{"name":"a","plan":"gold"}"#, "validation_error", "invalid_value", "plan"),
        ("/deployments", r#"{"name":"a","color":"red"}"#, "validation_error", "unknown_field", "color"),
        ("/deployments", r#"{"name":" "}"#, "validation_error", "empty", "name"),
        ("/deployments", r#"{"name":"a\u0000b"}"#, "validation_error", "invalid_value", "name"),
        ("/deployments", r#"{"name":"a","tenant_id":-1}"#, "validation_error", "wrong_type", "tenant_id"),
        (&activities, r#"{"nodes":[1,"x"]}"#, "validation_error", "invalid_value", "nodes[1]"),
        (&activities, r#"{"deadline_seconds":0}"#, "validation_error", "out_of_range", "deadline_seconds"),
        (&activities, r#"{"deadline_seconds":1.5}"#, "validation_error", "wrong_type", "deadline_seconds"),
    ] {
        let answer = served.call(Method::POST, path, &[("ld-api-key", &served.key), JSON], body).await;
        let told = answer.json();
        assert_eq!((answer.status, told["code"].as_str().unwrap()), (400, code), "{body}: {told}");
        assert_eq!((&told["field"], &told["retryable"]), (&json!(field), &json!(false)), "{body}: {told}");
        assert_eq!(told["field_issues"][0]["code"], issue, "{body}: {told}");
        assert_eq!(told["field_issues"][0]["path"], field, "{body}: {told}");
    }
    // Everything that is wrong, at once.
    let body = json!({ "name": "", "permissions": ["deployment:read", "x"], "allow_list": ["10.0.0.1/8"],
                       "expires_at": "2020-01-01T00:00:00Z" });
    let told = served.post("/api_keys", &body).await.json();
    let paths: Vec<&str> = told["field_issues"]
        .as_array()
        .unwrap()
        .iter()
        .map(|issue| issue["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["name", "permissions[1]", "allow_list[0]", "expires_at"]);
    for (path, field) in [
        ("/async_actions?running=maybe", "running"),
        ("/async_actions?action=%00", "action"),
        (&format!("/deployments/{deployment}/activities?node_id=x"), "node_id"),
        (&format!("/deployments/{deployment}/activities?node_id=0"), "node_id"),
        (&format!("/deployments/{deployment}/activities?runtime=x"), "runtime"),
        (&format!("/deployments/{deployment}/activities?status=open"), "status"),
        (&format!("/deployments/{deployment}/activities?nodes=7"), "nodes"),
        (&format!("/deployments/{deployment}/activities?runtime=iggy&runtime=iggy"), "runtime"),
    ] {
        let answer = served.get(path).await;
        assert_eq!((answer.status, &answer.json()["field"]), (400, &json!(field)), "{path}");
    }
    for (path, code) in [
        ("/deployments/x", "deployment_not_found"),
        ("/deployments/0", "deployment_not_found"),
        ("/deployments/18446744073709551616", "deployment_not_found"),
        (&format!("/deployments/{deployment}/activities/x"), "activity_not_found"),
    ] {
        assert_eq!(served.get(path).await.problem(), (404, code.to_owned()), "{path}");
    }
    served.stop().await;
}

async fn pages_link_to_each_other(backend: Backend) {
    let served = Served::start(&backend).await;
    let mut ids = Vec::new();
    for number in 0..25 {
        ids.push(served.deployment(&format!("d{number}")).await);
    }
    ids.reverse();
    let url = served.url("/deployments");
    let link = |page: u32, relation: &str| format!("<{url}?page={page}&results=10>; rel=\"{relation}\"");
    for (page, items, links) in [
        (1, 0..10, vec![link(1, "first"), link(2, "next"), link(3, "last")]),
        (2, 10..20, vec![link(1, "first"), link(1, "prev"), link(3, "next"), link(3, "last")]),
        (3, 20..25, vec![link(1, "first"), link(2, "prev"), link(3, "last")]),
        (9, 25..25, vec![link(1, "first"), link(3, "prev"), link(3, "last")]),
    ] {
        let answer = served.get(&format!("/deployments?page={page}")).await;
        let body = answer.json();
        let listed: Vec<u64> =
            body["items"].as_array().unwrap().iter().map(|item| item["id"].as_u64().unwrap()).collect();
        assert_eq!(listed, ids[items], "newest first");
        assert_eq!((&body["page"], &body["total_results"]), (&json!(page), &json!(25)));
        assert_eq!(body["total_pages"], 3);
        assert_eq!(answer.header("link"), links.join(", "));
    }
    // The filters go along.
    let path = "/async_actions?running=true&action=a%26b&results=2";
    let link = format!(
        "<{}?page=1&results=2&action=a%26b&running=true>; rel=\"first\", ",
        served.url("/async_actions")
    );
    let answer = served.get(path).await;
    assert!(answer.header("link").starts_with(&link), "{}", answer.header("link"));
    assert_eq!(answer.json(), json!({ "items": [], "page": 1, "total_results": 0, "total_pages": 0 }));
    served.stop().await;
}

async fn a_page_outside_the_range_is_refused(backend: Backend) {
    let served = Served::start(&backend).await;
    for (query, field) in [
        ("page=0", "page"),
        ("page=-1", "page"),
        ("page=+1", "page"),
        ("page=x", "page"),
        ("page=99999999999999999999", "page"),
        ("results=0", "results"),
        ("results=101", "results"),
        ("results=", "results"),
    ] {
        let answer = served.get(&format!("/deployments?{query}")).await;
        let body = answer.json();
        assert_eq!((answer.status, &body["field"]), (400, &json!(field)), "{query}");
        assert_eq!(body["field_issues"][0]["code"], "out_of_range", "{query}");
    }
    assert_eq!(served.get("/deployments?results=100&page=10000000").await.status, 200);
    served.stop().await;
}

async fn ids_are_numbers_and_taken_as_texts(backend: Backend) {
    let served = Served::start(&backend).await;
    let deployment = served.deployment("events-prod").await;
    let node = served.node(deployment, "a").await;
    let path = format!("/deployments/{deployment}/activities/iggy/restart");
    for id in [json!(node), json!(node.to_string())] {
        let answer = served.post(&path, &json!({ "nodes": [id] })).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        assert_eq!(answer.json()["items"][0]["node_id"], node);
        assert!(answer.json()["items"][0]["id"].is_u64());
    }
    served.stop().await;
}

async fn health_is_told_without_a_key(backend: Backend) {
    let served = Served::start(&backend).await;
    let health = served.call(Method::GET, "/health", &[], "").await;
    assert_eq!(health.json(), json!({ "status": "alive", "version": env!("CARGO_PKG_VERSION") }));
    let ready = served.call(Method::GET, "/ready", &[], "").await;
    assert_eq!(ready.json(), json!({ "status": "ready", "store": "ok", "objects": "ok" }));
    served.get("/deployments").await;
    let metrics = served.call(Method::GET, "/metrics", &[], "").await;
    let type_ = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((metrics.status, metrics.header("content-type")), (200, type_));
    let counted =
        r#"warden_supervisor_http_requests_total{method="GET",route="/deployments",status="200"} 1"#;
    for line in [counted, "warden_supervisor_nodes 0", "warden_supervisor_activities_open 0"] {
        assert!(metrics.text.lines().any(|told| told == line), "{line}: {}", metrics.text);
    }
    assert!(metrics.text.ends_with("# EOF\n"));
    served.stop().await;
}

fn anything() -> impl Strategy<Value = (String, String, Vec<(String, String)>, String)> {
    let method = prop_oneof!["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "[A-Z]{1,8}"];
    let part = prop_oneof![
        "deployments",
        "activities",
        "nodes",
        "async_actions",
        "api_keys",
        "audit",
        "cancel",
        "events",
        "iggy",
        "restart",
        "heartbeats",
        "metrics",
        "enrolments",
        "[0-9]{1,22}",
        "[a-z%0-9:.~-]{0,12}",
    ];
    let path = prop::collection::vec(part, 0..6).prop_map(|parts| format!("/{}", parts.join("/")));
    let query = prop_oneof![Just(String::new()), "\\?[a-z_]{0,8}=[ -~&&[^\"#<>`{}|\\\\^ ]]{0,20}"];
    let header = ("(content-type|idempotency-key|last-event-id|x-forwarded-for|accept)", "[ -~]{0,40}");
    let body = prop_oneof![
        Just(String::new()),
        "\\PC{0,60}",
        r#"\{"(name|nodes|permissions|expires_at|x)":("[a-z]{0,4}"|[0-9]{0,20}|\[\]|null|\{\})\}"#,
    ];
    (method, (path, query).prop_map(|(path, query)| path + &query), prop::collection::vec(header, 0..3), body)
}

#[test]
fn whatever_comes_the_answer_keeps_the_conventions_and_never_fails() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let backend = Backend::sqlite();
    let served = runtime.block_on(Served::start(&backend));
    runtime.block_on(served.deployment("events-prod"));
    let config = ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |((method, path, headers, body) in anything())| {
        let mut request = Request::builder().method(&*method).uri(served.url(&path)).header("ld-api-key", &served.key);
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        // What is no request at all is not ours to answer.
        let Ok(request) = request.body(Body::from(body)) else { return Ok(()) };
        if method == "CONNECT" {
            return Ok(());
        }
        let answer = runtime.block_on(served.send(request));
        prop_assert!(answer.status < 500, "{method} {path}: {}", answer.text);
        prop_assert_eq!(answer.header("ld-request").len(), 32);
        if answer.status >= 400 && method != "HEAD" {
            prop_assert_eq!(answer.header("content-type"), "application/problem+json");
            prop_assert_eq!(&answer.json()["instance"], answer.header("ld-request"));
            prop_assert_eq!(&answer.json()["status"], answer.status);
        }
    });
    runtime.block_on(served.stop());
}
