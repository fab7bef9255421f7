//! Activities and the async actions they are part of, from POST to the end.

use axum::body::Body;
use futures_util::StreamExt;
use serde_json::{Value, json};
use warden::protocol::{Code, Finished, Outcome, UnitChange};
use warden::supervisor::store::activities;

use super::Backend;
use super::served::{NOW, Served};

super::on_both_stores!(
    one_activity_a_node_and_one_async_action_over_all,
    an_unknown_node_stops_it_all,
    what_cannot_be_asked_is_told,
    the_list_is_filtered,
    an_async_action_tells_how_it_went,
    the_events_tell_every_change_and_go_on_where_one_was_cut_off,
    a_stream_ends_when_the_supervisor_stops,
    cancelling_ends_what_was_not_sent,
    jobs_end_what_nobody_answers,
);

async fn finish(served: &Served, node: u64, activity: u64, outcome: Outcome) {
    let finished = Finished { request: activity, outcome };
    assert!(activities::finished(&served.store, node, &finished, served.now()).await.unwrap());
}

fn completed() -> Outcome {
    let result = UnitChange {
        unit: "iggy.service".into(),
        took_ms: Some(812),
        forced: true,
        answers: Some(true),
        answer: Some("http://127.0.0.1:3000/ping says pong".into()),
        journal: vec!["systemd: Killing process 7 (iggy-server) with signal SIGKILL.".into()],
        ..UnitChange::default()
    };
    Outcome::Completed { result: Some(result) }
}

async fn one_activity_a_node_and_one_async_action_over_all(backend: Backend) {
    let served = Served::start(&backend).await;
    let deployment = served.deployment("events-prod").await;
    let nodes = [served.node(deployment, "a").await, served.node(deployment, "b").await];
    let listed = served.get("/api_keys").await.json();
    let path = format!("/deployments/{deployment}/activities/connector:sink:orders-pg/restart");
    let started = served.post(&path, &json!({})).await;
    assert_eq!(started.status, 202);
    let items = started.json()["items"].clone();
    for (item, node) in items.as_array().unwrap().iter().zip(nodes) {
        let expected = json!({
            "id": item["id"], "tenant_id": 1, "division_id": 1, "environment_id": 1, "deployment_id": deployment,
            "author_id": listed["items"][0]["id"], "runtime": "connector:sink:orders-pg", "action": "restart",
            "node_id": node, "status": "processing", "created_at": "2026-05-28T20:26:40Z", "finished_at": null,
            "async_action_id": started.id("ld-async-action"), "deadline_at": "2026-05-28T20:31:40Z",
            "step": null, "reason": null, "result": null
        });
        assert_eq!(*item, expected);
        let path = format!("/deployments/{deployment}/activities/{}", item["id"]);
        assert_eq!(served.get(&path).await.json(), expected);
    }
    assert_eq!(items.as_array().unwrap().len(), 2);
    let one =
        served.post(&path, &json!({ "nodes": [nodes[1], nodes[1]], "deadline_seconds": 7 })).await.json();
    assert_eq!(one["items"].as_array().unwrap().len(), 1, "a node that is named twice is meant once");
    assert_eq!(
        (&one["items"][0]["node_id"], &one["items"][0]["deadline_at"]),
        (&json!(nodes[1]), &json!("2026-05-28T20:26:47Z"))
    );
    served.stop().await;
}

async fn an_unknown_node_stops_it_all(backend: Backend) {
    let served = Served::start(&backend).await;
    let (deployment, other) = (served.deployment("events-prod").await, served.deployment("other").await);
    let node = served.node(deployment, "a").await;
    let foreign = served.node(other, "b").await;
    let path = format!("/deployments/{deployment}/activities/iggy/restart");
    let refused = served.post(&path, &json!({ "nodes": [node, foreign, 7] })).await;
    assert_eq!(refused.problem(), (400, "node_not_found".into()));
    let body = refused.json();
    assert_eq!((&body["field"], body["field_issues"].as_array().unwrap().len()), (&json!("nodes[1]"), 2));
    assert_eq!(body["field_issues"][1]["path"], "nodes[2]");
    let removed = served.node(deployment, "c").await;
    assert_eq!(served.delete(&format!("/deployments/{deployment}/nodes/{removed}")).await.status, 204);
    let refused = served.post(&path, &json!({ "nodes": [node, removed] })).await;
    assert_eq!(refused.problem(), (400, "node_not_found".into()));
    for list in ["activities", "async_actions"] {
        let listed = served.get(&format!("/deployments/{deployment}/{list}")).await.json();
        assert_eq!(listed["total_results"], 0, "nothing was asked of any");
    }
    served.stop().await;
}

async fn what_cannot_be_asked_is_told(backend: Backend) {
    let served = Served::start(&backend).await;
    let deployment = served.deployment("events-prod").await;
    let post = async |rest: &str| {
        let path = format!("/deployments/{deployment}/activities/{rest}");
        let answer = served.post(&path, &json!({})).await;
        (answer.status, answer.problem().1, answer.json()["field"].as_str().unwrap_or_default().to_owned())
    };
    let told = |code: &str, field: &str| (400, code.to_owned(), field.to_owned());
    assert_eq!(post("iggy/restart").await, (409, "no_nodes".to_owned(), String::new()));
    served.node(deployment, "a").await;
    assert_eq!(post("postgres/restart").await, told("validation_error", "runtime"));
    assert_eq!(post("connector:sink:..%2Figgy/restart").await, told("validation_error", "runtime"));
    assert_eq!(post("iggy/explode").await, told("unsupported_action", "action"));
    assert_eq!(post("iggy/reconfigure:7").await, told("config_not_found", "action"));
    served.stop().await;
}

async fn the_list_is_filtered(backend: Backend) {
    let served = Served::start(&backend).await;
    let deployment = served.deployment("events-prod").await;
    let (one, other) = (served.node(deployment, "a").await, served.node(deployment, "b").await);
    let path = format!("/deployments/{deployment}/activities");
    let restarted = served.post(&format!("{path}/iggy/restart"), &json!({})).await.json();
    served.post(&format!("{path}/connectors/stop"), &json!({ "nodes": [one] })).await;
    let id = restarted["items"][0]["id"].as_u64().unwrap();
    finish(&served, one, id, completed()).await;
    let total =
        async |query: &str| served.get(&format!("{path}?{query}")).await.json()["total_results"].clone();
    for (query, expected) in [
        ("", 3),
        (&*format!("node_id={one}"), 2),
        (&*format!("node_id={other}"), 1),
        ("node_id=7", 0),
        ("runtime=iggy", 2),
        ("runtime=connectors", 1),
        ("status=processing", 2),
        ("status=completed", 1),
        ("status=rejected", 0),
        (&*format!("node_id={one}&runtime=iggy&status=completed"), 1),
        (&*format!("node_id={other}&runtime=iggy&status=completed"), 0),
    ] {
        assert_eq!(total(query).await, expected, "{query}");
    }
    served.stop().await;
}

async fn an_async_action_tells_how_it_went(backend: Backend) {
    let served = Served::start(&backend).await;
    let deployment = served.deployment("events-prod").await;
    let (one, other) = (served.node(deployment, "a").await, served.node(deployment, "b").await);
    let (_, key) =
        served.key(json!({ "name": "ops@example.com", "permissions": ["deployment:manage"] })).await;
    let path = format!("/deployments/{deployment}/activities/iggy/restart");
    let headers = [("ld-api-key", &*key), ("user-agent", "warden-ctl/0.1.0")];
    let started = served.call(axum::http::Method::POST, &path, &headers, "").await;
    let action = started.id("ld-async-action");
    let path = format!("/async_actions/{action}");
    let mut expected = json!({
        "id": action, "user": "ops@example.com", "resource_type": "Deployment", "action": "restart",
        "resource_id": deployment, "started_via": "cli", "started_at": "2026-05-28T20:26:40Z", "finished_at": null,
        "finished_success": null, "finished_message": null, "finished_result": null,
        "metadata": { "runtime": "iggy" }
    });
    assert_eq!(served.get(&path).await.json(), expected);
    let running = async |running: bool| {
        let path = format!("/async_actions?running={running}&action=restart&resource_type=Deployment");
        served.get(&path).await.json()["total_results"].clone()
    };
    assert_eq!((running(true).await, running(false).await), (json!(1), json!(0)));
    let ids: Vec<u64> =
        started.json()["items"].as_array().unwrap().iter().map(|item| item["id"].as_u64().unwrap()).collect();
    served.pass(5_000);
    finish(&served, one, ids[0], completed()).await;
    assert_eq!(served.get(&path).await.json(), expected, "one node is still at it");
    finish(&served, other, ids[1], Outcome::rejected(Code::PolicyDenied, "not here")).await;
    expected["finished_at"] = json!("2026-05-28T20:26:45Z");
    expected["finished_success"] = json!(false);
    expected["finished_message"] = json!("Restarted iggy on 1 of 2 nodes");
    expected["finished_result"] = json!({ "nodes": [
        { "node_id": one, "status": "completed", "activity_id": ids[0] },
        { "node_id": other, "status": "rejected", "activity_id": ids[1] }
    ]});
    assert_eq!(served.get(&path).await.json(), expected);
    assert_eq!((running(true).await, running(false).await), (json!(0), json!(1)));
    let rejected = served.get(&format!("/deployments/{deployment}/activities/{}", ids[1])).await.json();
    assert_eq!(rejected["status"], "rejected");
    assert_eq!(rejected["finished_at"], "2026-05-28T20:26:45Z");
    assert_eq!(rejected["reason"], json!({ "code": "policy_denied", "reason": "not here" }));
    let done = served.get(&format!("/deployments/{deployment}/activities/{}", ids[0])).await.json();
    assert_eq!((&done["status"], &done["result"]["took_ms"]), (&json!("completed"), &json!(812)));
    let result = &done["result"];
    assert_eq!((&result["forced"], &result["answers"]), (&json!(true), &json!(true)));
    assert_eq!(result["answer"], "http://127.0.0.1:3000/ping says pong");
    assert_eq!(result["journal"].as_array().unwrap().len(), 1);
    served.stop().await;
}

/// Reads a stream of events to its end, or to `enough` of them: id, kind and data of each.
pub async fn events(
    response: axum::http::Response<hyper::body::Incoming>,
    enough: usize,
) -> Vec<(u64, String, Value)> {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    let mut frames = Body::new(response.into_body()).into_data_stream();
    while text.matches("\n\n").count() < enough {
        let Some(frame) = frames.next().await else { break };
        text.push_str(std::str::from_utf8(&frame.unwrap()).unwrap());
    }
    let field = |event: &str, name: &str| {
        event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default().to_owned()
    };
    let read = |event: &str| {
        let data = serde_json::from_str(&field(event, "data:")).unwrap();
        (field(event, "id:").parse().unwrap(), field(event, "event:"), data)
    };
    text.split("\n\n").filter(|event| event.contains("data:")).map(read).collect()
}

async fn the_events_tell_every_change_and_go_on_where_one_was_cut_off(backend: Backend) {
    let served = Served::start(&backend).await;
    let deployment = served.deployment("events-prod").await;
    let node = served.node(deployment, "a").await;
    let started =
        served.post(&format!("/deployments/{deployment}/activities/iggy/restart"), &json!({})).await;
    let activity = started.json()["items"][0]["id"].as_u64().unwrap();
    let path = format!("/async_actions/{}/events", started.id("ld-async-action"));
    let first = events(served.stream(&path, &[]).await, 1).await;
    let data = json!({ "action": "restart", "metadata": { "runtime": "iggy" }, "nodes": 1, "at": "2026-05-28T20:26:40Z" });
    assert_eq!(first, [(1, "started".to_owned(), data)]);

    // One that listens hears what happens later, as it happens.
    let live = tokio::spawn(events(served.stream(&path, &[("last-event-id", "1")]).await, usize::MAX));
    let (store, now) = (&served.store, served.now());
    assert!(activities::progress(store, node, activity, "stopping", now).await.unwrap());
    finish(&served, node, activity, completed()).await;
    let live = live.await.unwrap();
    let kinds: Vec<(u64, &str)> = live.iter().map(|(id, kind, _)| (*id, kind.as_str())).collect();
    assert_eq!(kinds, [(2, "progress"), (3, "node"), (4, "finished")]);
    assert_eq!(live[0].2["step"], "stopping");
    assert_eq!(live[2].2["finished_message"], "Restarted iggy on 1 of 1 node");

    let rest = events(served.stream(&path, &[("last-event-id", "3")]).await, usize::MAX).await;
    assert_eq!(rest, live[2..]);
    let wrong = served.stream(&path, &[("last-event-id", "x")]).await;
    assert_eq!(wrong.status(), 400);
    let collected = axum::body::to_bytes(Body::new(wrong.into_body()), usize::MAX).await.unwrap();
    assert!(String::from_utf8_lossy(&collected).contains("\"field\":\"last-event-id\""));
    served.stop().await;
}

async fn a_stream_ends_when_the_supervisor_stops(backend: Backend) {
    let served = Served::start(&backend).await;
    let deployment = served.deployment("events-prod").await;
    served.node(deployment, "a").await;
    let started =
        served.post(&format!("/deployments/{deployment}/activities/iggy/restart"), &json!({})).await;
    let path = format!("/async_actions/{}/events", started.id("ld-async-action"));
    let stream = served.stream(&path, &[]).await;
    let told = tokio::spawn(events(stream, usize::MAX));
    served.stop().await;
    assert_eq!(told.await.unwrap().len(), 1);
}

async fn cancelling_ends_what_was_not_sent(backend: Backend) {
    let served = Served::start(&backend).await;
    let deployment = served.deployment("events-prod").await;
    let (one, other) = (served.node(deployment, "a").await, served.node(deployment, "b").await);
    let started =
        served.post(&format!("/deployments/{deployment}/activities/iggy/restart"), &json!({})).await;
    let items = started.json()["items"].clone();
    let sent = items[1]["id"].as_u64().unwrap();
    assert!(activities::delivered(&served.store, sent, served.now()).await.unwrap());
    let path = format!("/async_actions/{}", started.id("ld-async-action"));
    let cancelled = served.once("cancel", &format!("{path}/cancel"), &json!({})).await;
    assert_eq!((cancelled.status, &cancelled.json()["finished_at"]), (202, &Value::Null));
    let queued = served.get(&format!("/deployments/{deployment}/activities/{}", items[0]["id"])).await.json();
    assert_eq!((&queued["node_id"], &queued["reason"]["code"]), (&json!(one), &json!("cancelled")));
    finish(&served, other, sent, Outcome::rejected(Code::Cancelled, "before it took effect")).await;
    let ended = served.get(&path).await.json();
    assert_eq!(ended["finished_message"], "Restarted iggy on 0 of 2 nodes");
    let again = served.post(&format!("{path}/cancel"), &json!({})).await;
    assert_eq!(again.problem(), (409, "async_action_finished".into()));
    let replay = served.once("cancel", &format!("{path}/cancel"), &json!({})).await;
    assert_eq!((replay.status, replay.header("idempotent-replayed")), (202, "true"));
    served.stop().await;
}

async fn jobs_end_what_nobody_answers(backend: Backend) {
    let served = Served::start(&backend).await;
    let deployment = served.deployment("events-prod").await;
    let (one, other) = (served.node(deployment, "a").await, served.node(deployment, "b").await);
    let path = format!("/deployments/{deployment}/activities");
    let started = served.post(&format!("{path}/iggy/restart"), &json!({ "deadline_seconds": 60 })).await;
    let sent = started.json()["items"][1]["id"].as_u64().unwrap();
    assert!(activities::delivered(&served.store, sent, served.now()).await.unwrap());
    let code = async |node: u64| {
        let listed = served.get(&format!("{path}?node_id={node}")).await.json();
        listed["items"][0]["reason"]["code"].as_str().unwrap_or_default().to_owned()
    };
    served.pass(60_000);
    while code(one).await.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!((code(one).await, code(other).await), ("node_unreachable".into(), String::new()));
    served.pass(90_000);
    while code(other).await.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(code(other).await, "deadline_exceeded");
    let action = served.get(&format!("/async_actions/{}", started.id("ld-async-action"))).await.json();
    let at = jiff::Timestamp::from_millisecond(NOW + 150_000).unwrap().to_string();
    assert_eq!((&action["finished_success"], &action["finished_at"]), (&json!(false), &json!(at)));
    served.stop().await;
}
