//! Deployments, nodes, heartbeats, figures over time, and the audit.

use serde_json::{Value, json};
use warden::protocol::{About, Agent, Disk, Heartbeat, Hello, Host, Runtime, RuntimeState};
use warden::supervisor::store::{heartbeats, nodes};

use super::Backend;
use super::served::Served;

super::on_both_stores!(
    a_deployment_is_made_once_in_its_environment,
    a_deployment_tells_where_its_nodes_call,
    a_node_is_pending_online_unreachable_and_online_again,
    a_removed_node_is_gone_and_its_work_ends,
    heartbeats_are_told_by_node_and_by_runtime,
    figures_are_told_over_time,
    the_audit_tells_who_did_what,
);

async fn a_deployment_is_made_once_in_its_environment(backend: Backend) {
    let served = Served::start(&backend).await;
    let body = json!({ "name": "events-prod", "plan": "pro", "division_id": 2, "environment_id": "3" });
    let made = served.post("/deployments", &body).await;
    let id = made.id("ld-deployment");
    let url = served.url("");
    let expected = json!({ "id": id, "tenant_id": 1, "division_id": 2, "environment_id": 3, "name": "events-prod",
                           "plan": "pro", "created_at": "2026-05-28T20:26:40Z", "supervisor_url": url });
    assert_eq!((made.status, made.json()), (201, expected.clone()));
    assert_eq!(served.get(&format!("/deployments/{id}")).await.json(), expected);
    let again = served.post("/deployments", &body).await;
    assert_eq!(again.problem(), (409, "deployment_exists".into()));
    let elsewhere = json!({ "name": "events-prod" });
    assert_eq!(served.post("/deployments", &elsewhere).await.status, 201);
    served.stop().await;
}

async fn a_deployment_tells_where_its_nodes_call(backend: Backend) {
    let mut settings = super::served::settings(&backend);
    settings.public_url = Some("https://warden.example.com/sub".into());
    let clock = std::sync::Arc::new(super::served::NOW.into());
    let served = Served::with(settings, clock, None).await;
    let id = served.deployment("a").await;
    let shown = served.get(&format!("/deployments/{id}")).await.json();
    assert_eq!(shown["supervisor_url"], "https://warden.example.com/sub");
    let enrolment = served.post(&format!("/deployments/{id}/enrolments"), &json!({ "name": "n" })).await;
    let body = enrolment.json();
    let expected = json!({ "id": enrolment.id("ld-enrolment"), "deployment_id": id, "name": "n",
        "created_at": "2026-05-28T20:26:40Z", "expires_at": "2026-05-28T21:26:40Z", "uses": 1,
        "supervisor_url": "https://warden.example.com/sub", "token": body["token"] });
    assert_eq!((enrolment.status, &body), (201, &expected));
    assert!(body["token"].as_str().unwrap().starts_with("we_"));
    let link = served.get("/deployments").await.header("link").to_owned();
    assert!(link.starts_with("<https://warden.example.com/sub/deployments?page=1"), "{link}");
    served.stop().await;
}

pub fn hello(node: u64) -> Hello {
    Hello {
        node,
        boot_id: "4f0d6ad3-35a7-4e6a-b1f7-1f6f2f0c9a11".into(),
        instance: "i".into(),
        agent_version: "0.1.0".into(),
        capabilities: vec!["activity".into()],
        host: About { hostname: "host\u{0}-1".into(), cpus: 8, ..About::default() },
        open: Vec::new(),
    }
}

async fn a_node_is_pending_online_unreachable_and_online_again(backend: Backend) {
    let served = Served::start(&backend).await;
    let deployment = served.deployment("events-prod").await;
    let node = served.node(deployment, "host-1").await;
    let path = format!("/deployments/{deployment}/nodes/{node}");
    let pending = json!({ "id": node, "deployment_id": deployment, "name": "host-1", "status": "pending",
        "enrolled_at": "2026-05-28T20:26:40Z", "last_seen_at": null, "unreachable_since": null,
        "connected_at": null, "agent_version": null, "boot_id": null, "capabilities": [], "host": null });
    assert_eq!(served.get(&path).await.json(), pending);
    nodes::hello(&served.store, node, &hello(node), served.now()).await.unwrap();
    let online = served.get(&path).await.json();
    assert_eq!(
        (&online["status"], &online["last_seen_at"]),
        (&json!("online"), &json!("2026-05-28T20:26:40Z"))
    );
    assert_eq!((&online["host"]["cpus"], &online["host"]["hostname"]), (&json!(8), &json!("host\u{0}-1")));
    served.pass(120_000);
    let silent = served.get(&path).await.json();
    assert_eq!(silent["status"], "unreachable");
    assert_eq!(silent["unreachable_since"], "2026-05-28T20:28:40Z");
    nodes::seen(&served.store, node, served.now());
    super::until(async || served.get(&path).await.json()["status"] == "online").await;
    let listed = served.get(&format!("/deployments/{deployment}/nodes")).await.json();
    assert_eq!(listed["items"], json!([served.get(&path).await.json()]));
    served.stop().await;
}

async fn a_removed_node_is_gone_and_its_work_ends(backend: Backend) {
    let served = Served::start(&backend).await;
    let deployment = served.deployment("events-prod").await;
    let node = served.node(deployment, "a").await;
    let started = served.post(&format!("/deployments/{deployment}/activities/iggy/stop"), &json!({})).await;
    let path = format!("/deployments/{deployment}/nodes/{node}");
    let removed = served.delete(&path).await;
    assert_eq!((removed.status, removed.text.as_str()), (204, ""));
    assert_eq!(served.get(&path).await.problem(), (404, "node_not_found".into()));
    assert_eq!(served.delete(&path).await.problem(), (404, "node_not_found".into()));
    let id = &started.json()["items"][0]["id"];
    let activity = served.get(&format!("/deployments/{deployment}/activities/{id}")).await.json();
    assert_eq!(
        (&activity["status"], &activity["reason"]["code"]),
        (&json!("rejected"), &json!("node_removed"))
    );
    let action = served.get(&format!("/async_actions/{}", started.id("ld-async-action"))).await.json();
    assert_eq!(action["finished_message"], "Stopped iggy on 0 of 1 node");
    served.stop().await;
}

fn heartbeat(at_ms: i64, cpu_ms: u64) -> Heartbeat {
    let iggy = RuntimeState {
        runtime: Runtime::Iggy,
        unit: "iggy.service".into(),
        load_state: "loaded".into(),
        active_state: "active".into(),
        sub_state: "running".into(),
        main_pid: 811,
        since_ms: Some(at_ms),
        restarts: Some(1),
        memory_bytes: Some(1 << 28),
        cpu_ms: Some(cpu_ms),
        tasks: Some(24),
        answers: Some(true),
    };
    let disks = vec![Disk { mount: "/".into(), total_bytes: 100, available_bytes: 50 }];
    let host = Host { cpu: Some(0.25), load_1m: Some(0.5), disks, ..Host::default() };
    Heartbeat { at_ms, host, agent: Agent { resident_bytes: 1 << 23, cpu_ms: 7 }, runtimes: vec![iggy] }
}

async fn heartbeats_are_told_by_node_and_by_runtime(backend: Backend) {
    let served = Served::start(&backend).await;
    let deployment = served.deployment("events-prod").await;
    let (silent, node) = (served.node(deployment, "a").await, served.node(deployment, "b").await);
    let of_nodes = format!("/deployments/{deployment}/heartbeats");
    for number in 0..3 {
        heartbeats::record(&served.store, node, &heartbeat(served.now() - 5, number * 15_000), served.now());
        let at = jiff::Timestamp::from_millisecond(served.now()).unwrap().to_string();
        super::until(async || served.get(&of_nodes).await.json()["items"][0]["at"] == at).await;
        served.pass(30_000);
    }
    let listed = served.get(&of_nodes).await.json();
    let expected = serde_json::to_value(heartbeat(served.now() - 30_005, 30_000)).unwrap();
    assert_eq!(
        listed["items"][0],
        json!({
            "node_id": node, "name": "b", "status": "online", "at": "2026-05-28T20:27:40Z",
            "node_at": "2026-05-28T20:27:39.995Z", "host": expected["host"], "agent": expected["agent"],
            "runtimes": expected["runtimes"]
        })
    );
    assert_eq!(
        listed["items"][1],
        json!({
            "node_id": silent, "name": "a", "status": "pending", "at": null, "node_at": null, "host": null,
            "agent": null, "runtimes": []
        })
    );
    let of_runtime = format!("/deployments/{deployment}/nodes/{node}/heartbeats/iggy");
    let listed = served.get(&of_runtime).await.json();
    assert_eq!(listed["total_results"], 3);
    assert_eq!(
        (&listed["items"][0]["at"], &listed["items"][0]["cpu_ms"]),
        (&json!("2026-05-28T20:27:40Z"), &json!(30_000))
    );
    assert_eq!(listed["items"][2]["active_state"], "active");
    let span = "from=2026-05-28T20:27:00Z&to=2026-05-28T20:27:30Z";
    assert_eq!(served.get(&format!("{of_runtime}?{span}")).await.json()["total_results"], 1);
    let none = served.get(&of_runtime.replace("iggy", "connectors")).await.json();
    assert_eq!(none["items"], json!([]));
    let nowhere = served.get(&of_runtime.replace(&node.to_string(), "7")).await;
    assert_eq!(nowhere.problem(), (404, "node_not_found".into()));
    let backwards =
        served.get(&format!("{of_runtime}?from=2026-05-28T20:27:00Z&to=2026-05-28T20:26:00Z")).await;
    assert_eq!((backwards.status, &backwards.json()["items"]), (200, &json!([])));
    served.stop().await;
}

async fn figures_are_told_over_time(backend: Backend) {
    let served = Served::start(&backend).await;
    let deployment = served.deployment("events-prod").await;
    let node = served.node(deployment, "a").await;
    let newest = format!("/deployments/{deployment}/metrics");
    // The unit was started anew before the last.
    for cpu_ms in [1_000, 16_000, 500] {
        heartbeats::record(&served.store, node, &heartbeat(served.now(), cpu_ms), served.now());
        let told = |body: &Value| body["items"][0]["runtimes"][0]["cpu_ms"] == cpu_ms;
        super::until(async || told(&served.get(&newest).await.json())).await;
        served.pass(30_000);
    }
    let body = served.get(&newest).await.json();
    assert_eq!(
        body["items"][0]["runtimes"][0],
        json!({ "runtime": "iggy", "memory_bytes": 1 << 28, "cpu_ms": 500,
                                                       "tasks": 24, "restarts": 1 })
    );
    assert_eq!((&body["items"][0]["host"]["cpu"], &body["items"][0]["name"]), (&json!(0.25), &json!("a")));
    let path = format!("/deployments/{deployment}/nodes/{node}/metrics");
    let series = served.get(&format!("{path}/iggy")).await.json();
    let cpu: Vec<Value> =
        series["points"].as_array().unwrap().iter().map(|point| point["cpu"].clone()).collect();
    assert_eq!(cpu, [Value::Null, json!(0.5), Value::Null]);
    assert_eq!(series["points"][0]["at"], "2026-05-28T20:26:40Z");
    assert_eq!((&series["runtime"], &series["node_id"]), (&json!("iggy"), &json!(node)));
    let from = "2026-05-28T20:27:00Z";
    let series = served.get(&format!("{path}/host?from={from}")).await.json();
    assert_eq!((series["points"].as_array().unwrap().len(), &series["from"]), (2, &json!(from)));
    assert_eq!(series["points"][0]["disks"][0]["mount"], "/");
    let wrong = served.get(&format!("{path}/iggy?from=yesterday")).await;
    assert_eq!((wrong.status, &wrong.json()["field"]), (400, &json!("from")));
    let wrong = served.get(&format!("{path}/postgres")).await;
    assert_eq!((wrong.status, &wrong.json()["field"]), (400, &json!("runtime")));
    served.stop().await;
}

async fn the_audit_tells_who_did_what(backend: Backend) {
    let served = Served::start(&backend).await;
    let made = served.post("/deployments", &json!({ "name": "events-prod" })).await;
    let deployment = made.id("ld-deployment");
    let node = served.node(deployment, "a").await;
    let (key, _) = served.key(json!({ "permissions": ["deployment:read"] })).await;
    let path = format!("/deployments/{deployment}");
    let started = served.post(&format!("{path}/activities/iggy/restart"), &json!({})).await;
    served.post(&format!("/async_actions/{}/cancel", started.id("ld-async-action")), &json!({})).await;
    served.delete(&format!("{path}/nodes/{node}")).await;
    served.delete(&format!("/api_keys/{key}")).await;
    let audit = served.get("/audit?results=100").await.json();
    let entries = audit["items"].as_array().unwrap();
    let actions: Vec<&str> = entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions,
        [
            "api_key.remove",
            "node.remove",
            "async_action.cancel",
            "activity.start",
            "api_key.create",
            "node.enrol",
            "enrolment.create",
            "deployment.create",
            "api_key.create",
        ]
    );
    let administrator = entries[8]["resource_id"].clone();
    assert_eq!((&entries[8]["actor_type"], &entries[8]["actor_id"]), (&json!("supervisor"), &Value::Null));
    assert_eq!(
        entries[7],
        json!({
            "id": entries[7]["id"], "at": "2026-05-28T20:26:40Z", "tenant_id": 1, "actor_type": "api_key",
            "actor_id": administrator, "actor": "administrator", "address": "127.0.0.1",
            "request": made.header("ld-request"), "action": "deployment.create", "deployment_id": deployment,
            "resource_type": "Deployment", "resource_id": deployment,
            "detail": { "name": "events-prod", "plan": "basic" }
        })
    );
    assert_eq!((&entries[5]["actor_type"], &entries[5]["actor_id"]), (&json!("node"), &json!(node)));
    assert_eq!(entries[3]["detail"], json!({ "runtime": "iggy", "action": "restart", "nodes": 1 }));
    let filtered = async |query: &str| {
        let found = served.get(&format!("/audit?results=100&{query}")).await.json();
        let actions =
            found["items"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap());
        (actions.map(str::to_owned).collect::<Vec<_>>(), found["total_results"].as_u64().unwrap())
    };
    let expected = |actions: &[&str]| {
        (actions.iter().map(|action| (*action).to_owned()).collect::<Vec<_>>(), actions.len() as u64)
    };
    assert_eq!(
        filtered("action=api_key").await,
        expected(&["api_key.remove", "api_key.create", "api_key.create"])
    );
    assert_eq!(filtered("action=activity.start&actor=administrator").await, expected(&["activity.start"]));
    assert_eq!(filtered("action=activity.start&actor=a").await, expected(&[]));
    let of_node = expected(&["node.remove", "async_action.cancel", "activity.start", "node.enrol"]);
    assert_eq!(filtered(&format!("node_id={node}")).await, of_node);
    assert_eq!(filtered("to=2026-05-28T20:26:39Z").await, expected(&[]));
    assert_eq!(filtered("from=2026-05-28T20:26:40Z").await.1, 9);
    assert_eq!(filtered("from=2026-06-02T00:00:00Z&to=2026-06-01T00:00:00Z").await, expected(&[]));
    served.stop().await;
}
