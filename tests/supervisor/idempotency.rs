//! A request that comes twice has one effect.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::Backend;
use super::listen::{Running, command};
use super::served::{Answer, NOW, Served};

super::on_both_stores!(
    a_repeated_request_gets_the_first_answer_and_has_one_effect,
    the_answer_survives_a_restart_and_is_kept_ten_minutes,
    another_request_with_the_same_key_is_refused,
    the_media_type_is_a_part_of_the_request,
    the_same_request_in_parallel_has_one_effect,
    a_refusal_is_kept_and_tells_its_own_request,
    what_may_do_better_later_is_not_kept,
    each_key_has_its_own_idempotency_keys,
    a_wrong_idempotency_key_is_told,
    a_caller_that_hangs_up_finds_its_request_done,
);

const PATH: &str = "/deployments";

fn body() -> Value {
    json!({ "name": "events-prod" })
}

async fn deployments(served: &Served) -> u64 {
    served.get(PATH).await.json()["total_results"].as_u64().unwrap()
}

/// Headers that a replay must have as the first answer had them.
fn kept(answer: &Answer) -> Vec<(String, String)> {
    let of_each = ["ld-request", "date", "idempotent-replayed"];
    let headers = answer.headers.iter().filter(|(name, _)| !of_each.contains(&name.as_str()));
    let mut headers: Vec<_> =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    headers.sort();
    headers
}

async fn a_repeated_request_gets_the_first_answer_and_has_one_effect(backend: Backend) {
    let served = Served::start(&backend).await;
    let first = served.once("one", PATH, &body()).await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (201, ""));
    for _ in 0..3 {
        let again = served.once("one", PATH, &body()).await;
        assert_eq!((again.status, &again.text), (201, &first.text));
        assert_eq!(again.header("idempotent-replayed"), "true");
        assert_eq!(kept(&again), kept(&first));
        assert_ne!(again.header("ld-request"), first.header("ld-request"));
    }
    assert_eq!(deployments(&served).await, 1);

    let deployment = first.id("ld-deployment");
    served.node(deployment, "a").await;
    let path = format!("/deployments/{deployment}/activities/iggy/restart");
    let first = served.once("two", &path, &json!({})).await;
    let again = served.once("two", &path, &json!({})).await;
    assert_eq!((first.status, first.id("ld-async-action")), (202, again.id("ld-async-action")));
    let activities = served.get(&format!("/deployments/{deployment}/activities")).await.json();
    assert_eq!(activities["total_results"], 1);
    // A replay is no second deed.
    let audit = served.get("/audit?results=100").await.json();
    let started =
        audit["items"].as_array().unwrap().iter().filter(|entry| entry["action"] == "activity.start");
    assert_eq!(started.count(), 1);
    served.stop().await;
}

async fn the_answer_survives_a_restart_and_is_kept_ten_minutes(backend: Backend) {
    let served = Served::start(&backend).await;
    let first = served.once("one", PATH, &body()).await;
    let served = served.restarted(&backend).await;
    served.pass(599_999);
    let again = served.once("one", PATH, &body()).await;
    assert_eq!((again.header("idempotent-replayed"), &again.text), ("true", &first.text));
    served.pass(1);
    let anew = served.once("one", PATH, &body()).await;
    assert_eq!((anew.problem(), anew.header("idempotent-replayed")), ((409, "deployment_exists".into()), ""));
    served.stop().await;
}

async fn another_request_with_the_same_key_is_refused(backend: Backend) {
    let served = Served::start(&backend).await;
    let first = served.once("one", PATH, &body()).await;
    let refused = (409, "idempotency_error".to_owned());
    assert_eq!(served.once("one", PATH, &json!({ "name": "other" })).await.problem(), refused);
    let elsewhere = format!("/deployments/{}/enrolments", first.id("ld-deployment"));
    assert_eq!(served.once("one", &elsewhere, &body()).await.problem(), refused);
    assert_eq!(served.once("one", &format!("{PATH}?x=1"), &body()).await.problem(), refused);
    assert_eq!(deployments(&served).await, 1);
    assert_eq!(served.once("one", PATH, &body()).await.text, first.text, "the first answer is still there");
    served.stop().await;
}

async fn the_media_type_is_a_part_of_the_request(backend: Backend) {
    let served = Served::start(&backend).await;
    let send = async |media_type: &str| {
        let headers =
            [("ld-api-key", served.key.as_str()), ("idempotency-key", "one"), ("content-type", media_type)];
        served.call(Method::POST, PATH, &headers, &body().to_string()).await
    };
    let wrong = (415, "unsupported_media_type".to_owned());
    assert_eq!(send("text/plain").await.problem(), wrong);
    let first = send("application/json").await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (201, ""), "{}", first.text);
    let again = send("Application/JSON; charset=utf-8").await;
    assert_eq!((again.header("idempotent-replayed"), &again.text), ("true", &first.text));
    let other = send("application/merge-patch+json").await;
    assert_eq!(other.problem(), (409, "idempotency_error".to_owned()));
    let plain = send("text/plain").await;
    assert_eq!((plain.problem(), plain.header("idempotent-replayed")), (wrong, ""));
    assert_eq!(deployments(&served).await, 1);
    served.stop().await;
}

async fn the_same_request_in_parallel_has_one_effect(backend: Backend) {
    let served = Served::start(&backend).await;
    let deployment = served.deployment("events-prod").await;
    for number in 0..5 {
        served.node(deployment, &format!("n{number}")).await;
    }
    let path = format!("/deployments/{deployment}/activities/iggy/restart");
    for round in 0..5 {
        let key = format!("round {round}");
        let nothing = json!({});
        let calls = (0..16).map(|_| served.once(&key, &path, &nothing));
        let answers = futures_util::future::join_all(calls).await;
        let mut firsts = 0;
        let mut actions = std::collections::BTreeSet::new();
        for answer in &answers {
            match (answer.status, answer.header("idempotent-replayed")) {
                (202, replayed) => {
                    firsts += usize::from(replayed.is_empty());
                    actions.insert(answer.id("ld-async-action"));
                }
                (409, _) => {
                    assert_eq!(answer.problem().1, "idempotent_request_in_progress");
                    assert_eq!(answer.header("retry-after"), "1");
                }
                other => panic!("{other:?} {}", answer.text),
            }
        }
        assert_eq!((firsts, actions.len()), (1, 1));
        let listed = served.get(&format!("/deployments/{deployment}/async_actions")).await.json();
        assert_eq!(listed["total_results"], round + 1);
        assert_eq!(served.once(&key, &path, &nothing).await.header("idempotent-replayed"), "true");
    }
    served.stop().await;
}

async fn a_refusal_is_kept_and_tells_its_own_request(backend: Backend) {
    let served = Served::start(&backend).await;
    let deployment = served.deployment("events-prod").await;
    let node = served.node(deployment, "a").await;
    let path = format!("/deployments/{deployment}/activities/iggy/restart");
    let nodes = json!({ "nodes": [node, node + 1] });
    let first = served.once("one", &path, &nodes).await;
    assert_eq!(first.problem(), (400, "node_not_found".into()));
    let again = served.once("one", &path, &nodes).await;
    assert_eq!((again.problem(), again.header("idempotent-replayed")), (first.problem(), "true"));
    assert_eq!(again.header("content-type"), "application/problem+json");
    assert_eq!(again.json()["instance"], again.header("ld-request"));
    assert_ne!(again.json()["instance"], first.json()["instance"]);
    assert_eq!(again.json()["field_issues"], first.json()["field_issues"]);
    served.stop().await;
}

async fn what_may_do_better_later_is_not_kept(backend: Backend) {
    let served = Served::start(&backend).await;
    // Who asks without the right key claims nothing.
    let headers =
        [("ld-api-key", "wk_1_x"), ("content-type", "application/json"), ("idempotency-key", "one")];
    let refused = served.call(Method::POST, PATH, &headers, &body().to_string()).await;
    assert_eq!(refused.status, 401);
    assert_eq!(served.once("one", PATH, &body()).await.status, 201);
    served.stop().await;
}

async fn each_key_has_its_own_idempotency_keys(backend: Backend) {
    let served = Served::start(&backend).await;
    assert_eq!(served.once("one", PATH, &body()).await.status, 201);
    let (_, other) = served.key(json!({ "permissions": ["deployment:manage"] })).await;
    let headers = [("ld-api-key", &*other), ("content-type", "application/json"), ("idempotency-key", "one")];
    let answer = served.call(Method::POST, PATH, &headers, r#"{"name":"other"}"#).await;
    assert_eq!((answer.status, answer.header("idempotent-replayed")), (201, ""));
    served.stop().await;
}

async fn a_wrong_idempotency_key_is_told(backend: Backend) {
    let served = Served::start(&backend).await;
    let longest = "k".repeat(255);
    assert_eq!(served.once(&longest, PATH, &body()).await.status, 201);
    for wrong in ["k".repeat(256).as_str(), "", "é"] {
        let answer = served.once(wrong, PATH, &body()).await;
        assert_eq!((answer.status, &answer.json()["field"]), (400, &json!("idempotency-key")), "{wrong:?}");
    }
    served.stop().await;
}

async fn a_caller_that_hangs_up_finds_its_request_done(backend: Backend) {
    let served = Served::start(&backend).await;
    let deployment = served.deployment("events-prod").await;
    served.node(deployment, "a").await;
    let path = format!("/deployments/{deployment}/activities/iggy/restart");
    let nothing = json!({});
    for number in 0..20 {
        let key = format!("hang up {number}");
        // Cut off at another moment each time.
        let patience = Duration::from_micros(number * 150);
        let _ = tokio::time::timeout(patience, served.once(&key, &path, &nothing)).await;
        let answer = loop {
            let answer = served.once(&key, &path, &nothing).await;
            if answer.status != 409 {
                break answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert_eq!(answer.status, 202, "{}", answer.text);
    }
    let listed = served.get(&format!("/deployments/{deployment}/activities")).await.json();
    assert_eq!((listed["total_results"].as_u64(), served.now()), (Some(20), NOW));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_leaves_one_effect_or_none_and_the_repeated_request_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let start = || Running::start(command(folder.path(), &["--listen", "127.0.0.1:0"]));
    let mut running = start();
    let key = running.key();
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let ask = async |address: &str, round: u64| {
        let request = Request::post(format!("http://{address}{PATH}"))
            .header("ld-api-key", &key)
            .header("content-type", "application/json")
            .header("idempotency-key", format!("round {round}"))
            .body(Body::from(json!({ "name": format!("d{round}") }).to_string()))
            .unwrap();
        let response = client.request(request).await.ok()?;
        let made = response.headers().get("ld-deployment").map(|id| id.to_str().unwrap().to_owned());
        Some((response.status().as_u16(), made))
    };
    let mut cut_off = 0;
    for round in 0..12 {
        let address = running.address.clone();
        let calls = futures_util::future::join_all((0..4).map(|_| ask(&address, round)));
        let crash = async {
            tokio::time::sleep(Duration::from_micros(400 * round)).await;
            running.crash();
        };
        let (answers, ()) = tokio::join!(calls, crash);
        cut_off += answers.iter().filter(|answer| answer.is_none()).count();
        running = start();
        let (status, made) = ask(&running.address, round).await.unwrap();
        assert_eq!(status, 201, "nobody holds the key any more");
        for told in answers.iter().flatten().filter_map(|(_, made)| made.clone()) {
            assert_eq!(Some(told), made, "who got an answer got this one");
        }
    }
    assert!(cut_off > 0, "some calls were cut off");
    let list =
        Request::get(format!("http://{}{PATH}?results=100", running.address)).header("ld-api-key", &key);
    let response = client.request(list.body(Body::empty()).unwrap()).await.unwrap();
    let body = axum::body::to_bytes(Body::new(response.into_body()), usize::MAX).await.unwrap();
    let listed: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(listed["total_results"], 12);
}
