//! Several Supervisors on one PostgreSQL: any of them takes any call.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Method;
use futures_util::StreamExt;
use serde_json::json;
use warden::protocol::{Finished, Outcome};
use warden::supervisor::store::idempotency::{self, Claim, Slot};
use warden::supervisor::store::{Notice, activities};

use super::served::{NOW, Served, settings};
use super::store::opened;
use super::{Backend, until};

async fn two(backend: &Backend) -> (Served, Served) {
    let one = Served::start(backend).await;
    let other = Served::with(settings(backend), Arc::new(NOW.into()), Some(&one.key)).await;
    (one, other)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_was_asked_the_other_knows() {
    let backend = Backend::postgres();
    let (one, other) = two(&backend).await;
    let deployment = one.deployment("events-prod").await;
    let node = other.node(deployment, "a").await;
    let started = one.post(&format!("/deployments/{deployment}/activities/iggy/restart"), &json!({})).await;
    let path = format!("/async_actions/{}/events", started.id("ld-async-action"));
    // Followed on the one, ended on the other.
    let mut frames = Body::new(one.stream(&path, &[]).await.into_body()).into_data_stream();
    let first = frames.next().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("event: started"));
    let request = started.json()["items"][0]["id"].as_u64().unwrap();
    let finished = Finished { request, outcome: Outcome::Completed { result: None } };
    assert!(activities::finished(&other.store, node, &finished, NOW).await.unwrap());
    let mut rest = String::new();
    while let Some(frame) = frames.next().await {
        rest.push_str(std::str::from_utf8(&frame.unwrap()).unwrap());
    }
    assert!(rest.contains("event: finished"), "{rest}");
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_supervisor_had_claimed_when_it_died_is_free_at_once() {
    let backend = Backend::postgres();
    let [lives, dies] = [opened(&backend).await, opened(&backend).await];
    let slot = |key: &str| Slot { api_key: 7, idempotency_key: key.into() };
    let Claim::Mine(first) = idempotency::claim(&dies, &slot("a"), "x", NOW).await.unwrap() else { panic!() };
    let Claim::Mine(_) = idempotency::claim(&lives, &slot("b"), "x", NOW).await.unwrap() else { panic!() };
    assert_eq!(idempotency::claim(&lives, &slot("a"), "x", NOW).await.unwrap(), Claim::Running);
    // Its connections end with it, as those of a process do.
    dies.close().await;
    drop(dies);
    let mut second = None;
    until(async || {
        if let Claim::Mine(claim) = idempotency::claim(&lives, &slot("a"), "x", NOW).await.unwrap() {
            second = Some(claim);
        }
        second.is_some()
    })
    .await;
    assert_ne!(second, Some(first));
    assert_eq!(idempotency::claim(&lives, &slot("a"), "x", NOW).await.unwrap(), Claim::Running);

    // One that lost its connections for a moment is not gone.
    let third = opened(&backend).await;
    let mut notices = lives.listen();
    let Backend::Postgres { server, url, .. } = &backend else { panic!() };
    server.cut(url);
    assert_eq!(notices.next().await, Some(Notice::Missed));
    until(async || {
        let Ok(mut change) = third.change().await else { return false };
        matches!(change.is_gone(lives.id(NOW)).await, Ok(false))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_to_both_at_once_has_one_effect() {
    let backend = Backend::postgres();
    let (one, other) = two(&backend).await;
    for round in 0..10 {
        let (key, body) = (format!("round {round}"), json!({ "name": format!("d{round}") }));
        let calls = (0..8).map(|call| {
            let served = if call % 2 == 0 { &one } else { &other };
            served.once(&key, "/deployments", &body)
        });
        let answers = futures_util::future::join_all(calls).await;
        let made = answers.iter().filter(|answer| answer.status == 201);
        let first = made.filter(|answer| answer.header("idempotent-replayed").is_empty()).count();
        assert_eq!(first, 1);
        for answer in &answers {
            assert!(answer.status == 201 || answer.problem().1 == "idempotent_request_in_progress");
        }
        assert_eq!(other.get("/deployments").await.json()["total_results"], round + 1);
    }
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_on_one_of_them_and_an_overdue_activity_ends_once() {
    let backend = Backend::postgres();
    let (one, other) = two(&backend).await;
    let deployment = one.deployment("events-prod").await;
    for number in 0..20 {
        one.node(deployment, &format!("n{number}")).await;
    }
    let started = one.post(&format!("/deployments/{deployment}/activities/iggy/restart"), &json!({})).await;
    let path = format!("/async_actions/{}", started.id("ld-async-action"));
    one.pass(300_000);
    other.pass(300_000);
    until(async || other.get(&path).await.json()["finished_success"] == false).await;
    let events = one.call(Method::GET, &format!("{path}/events"), &[("ld-api-key", &one.key)], "").await;
    assert_eq!(events.text.matches("event: node\n").count(), 20);
    assert_eq!(events.text.matches("event: finished\n").count(), 1);
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_that_restarts_is_a_passing_fault() {
    let backend = Backend::postgres();
    let (one, other) = two(&backend).await;
    let Backend::Postgres { server, url, .. } = &backend else { panic!("not PostgreSQL") };
    let deployment = one.deployment("events-prod").await;
    let node = one.node(deployment, "a").await;
    let started = one.post(&format!("/deployments/{deployment}/activities/iggy/restart"), &json!({})).await;
    let path = format!("/async_actions/{}/events", started.id("ld-async-action"));
    let mut frames = Body::new(one.stream(&path, &[]).await.into_body()).into_data_stream();
    frames.next().await.unwrap().unwrap();
    server.cut(url);
    // Whoever is told of the fault is told to try again.
    until(async || {
        let answer = one.get("/deployments").await;
        assert!(answer.status == 200 || answer.json()["retryable"] == true, "{}", answer.text);
        answer.status == 200
    })
    .await;
    let request = started.json()["items"][0]["id"].as_u64().unwrap();
    let finished = Finished { request, outcome: Outcome::Completed { result: None } };
    until(async || activities::finished(&other.store, node, &finished, NOW).await.is_ok()).await;
    let mut rest = String::new();
    while let Some(frame) = frames.next().await {
        rest.push_str(std::str::from_utf8(&frame.unwrap()).unwrap());
    }
    assert!(rest.contains("event: finished"), "{rest}");
    one.stop().await;
    other.stop().await;
}
