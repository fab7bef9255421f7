//! Deployments that change and go, and the enrolments of their nodes.

use axum::http::Method;
use serde_json::{Value, json};
use warden::protocol::{Code, Finished, Outcome};
use warden::secret::Secret;
use warden::supervisor::store::activities;
use warden::supervisor::store::enrolments::{self, Applicant};

use super::Backend;
use super::served::{Answer, Served};
use super::snapshots::stored;

super::on_both_stores!(
    a_deployment_gets_another_name_and_another_plan,
    who_may_only_read_changes_no_deployment,
    a_deployment_with_nodes_goes_only_by_force_and_takes_all_that_is_its_own_along,
    a_token_for_several_nodes_serves_so_many_and_no_more,
    a_revoked_token_is_void_and_its_nodes_stay,
    a_token_has_its_bounds,
    a_full_plan_gives_the_place_of_its_oldest_run_when_it_is_told_to,
);

async fn patch_as(served: &Served, key: &str, path: &str, body: &Value) -> Answer {
    let headers = [("ld-api-key", key), ("content-type", "application/json")];
    served.call(Method::PATCH, path, &headers, &body.to_string()).await
}

async fn patch(served: &Served, path: &str, body: &Value) -> Answer {
    patch_as(served, &served.key, path, body).await
}

/// What was done, the newest first: action, resource, detail.
async fn audited(served: &Served, action: &str) -> Vec<(u64, Value)> {
    let found = served.get(&format!("/audit?results=100&action={action}")).await.json();
    let entries = found["items"].as_array().unwrap().iter();
    entries.map(|entry| (entry["resource_id"].as_u64().unwrap(), entry["detail"].clone())).collect()
}

async fn a_deployment_gets_another_name_and_another_plan(backend: Backend) {
    let served = Served::start(&backend).await;
    let (id, other) = (served.deployment("events-prod").await, served.deployment("events-test").await);
    let path = format!("/deployments/{id}");
    let before = served.get(&path).await.json();
    let renamed = patch(&served, &path, &json!({ "name": "events-live" })).await;
    let mut expected = before.clone();
    expected["name"] = json!("events-live");
    assert_eq!((renamed.status, renamed.json()), (200, expected.clone()));
    expected["plan"] = json!("enterprise");
    assert_eq!(patch(&served, &path, &json!({ "plan": "enterprise" })).await.json(), expected);
    assert_eq!(served.get(&path).await.json(), expected);
    assert_eq!(patch(&served, &path, &json!({})).await.json(), expected, "nothing said is nothing changed");
    let taken = patch(&served, &format!("/deployments/{other}"), &json!({ "name": "events-live" })).await;
    assert_eq!(taken.problem(), (409, "deployment_exists".into()));
    let wrong = patch(&served, &path, &json!({ "name": " ", "plan": "gold" })).await;
    let fields: Vec<Value> =
        wrong.json()["field_issues"].as_array().unwrap().iter().map(|issue| issue["path"].clone()).collect();
    assert_eq!((wrong.status, fields), (400, vec![json!("name"), json!("plan")]));
    assert_eq!(patch(&served, &path, &json!({ "tenant_id": 2 })).await.status, 400);
    let nowhere = patch(&served, "/deployments/7", &json!({ "name": "x" })).await;
    assert_eq!(nowhere.problem(), (404, "deployment_not_found".into()));
    let entries = audited(&served, "deployment.change").await;
    let [(_, plan), (of, name)] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(*of, id);
    assert_eq!(
        *name,
        json!({ "name": "events-live", "plan": "basic", "before": { "name": "events-prod", "plan": "basic" } })
    );
    assert_eq!(plan["before"], json!({ "name": "events-live", "plan": "basic" }));
    // The same request again is answered as before, whatever happened since.
    let headers =
        [("ld-api-key", &*served.key), ("content-type", "application/json"), ("idempotency-key", "k")];
    let body = r#"{"plan":"pro"}"#;
    let first = served.call(Method::PATCH, &path, &headers, body).await;
    patch(&served, &path, &json!({ "plan": "basic" })).await;
    let again = served.call(Method::PATCH, &path, &headers, body).await;
    assert_eq!((again.json(), again.header("idempotent-replayed")), (first.json(), "true"));
    assert_eq!(served.get(&path).await.json()["plan"], "basic");
    served.stop().await;
}

async fn who_may_only_read_changes_no_deployment(backend: Backend) {
    let served = Served::start(&backend).await;
    let (mine, other) = (served.deployment("mine").await, served.deployment("other").await);
    let (_, reader) = served.key(json!({ "permissions": ["deployment:read"] })).await;
    let limited = json!({ "permissions": ["deployment:read", "deployment:manage"], "deployments": [mine] });
    let (_, limited) = served.key(limited).await;
    let path = format!("/deployments/{mine}");
    let denied = (403, "permission_denied".to_owned());
    assert_eq!(patch_as(&served, &reader, &path, &json!({ "name": "x" })).await.problem(), denied);
    let headers = [("ld-api-key", &*reader)];
    assert_eq!(served.call(Method::DELETE, &path, &headers, "").await.problem(), denied);
    assert_eq!(
        served.call(Method::DELETE, &format!("{path}/enrolments/7"), &headers, "").await.problem(),
        denied
    );
    assert_eq!(served.call(Method::GET, &format!("{path}/enrolments"), &headers, "").await.status, 200);
    let headers = [("ld-api-key", &*limited)];
    let missing = (404, "deployment_not_found".to_owned());
    let path = format!("/deployments/{other}");
    assert_eq!(served.call(Method::DELETE, &path, &headers, "").await.problem(), missing);
    assert_eq!(patch_as(&served, &limited, &path, &json!({ "plan": "pro" })).await.problem(), missing);
    assert_eq!(served.get(&path).await.json()["plan"], "basic");
    served.stop().await;
}

async fn a_deployment_with_nodes_goes_only_by_force_and_takes_all_that_is_its_own_along(backend: Backend) {
    let served = Served::start(&backend).await;
    let (id, other) = (served.deployment("events-prod").await, served.deployment("events-test").await);
    let node = served.node(id, "a").await;
    served.node(other, "b").await;
    let path = format!("/deployments/{id}");
    served.post(&format!("{path}/enrolments"), &json!({})).await;
    let (_, limited) = served.key(json!({ "permissions": ["deployment:read"], "deployments": [id] })).await;
    let started = served.post(&format!("{path}/activities/iggy/stop"), &json!({})).await;
    let refused = served.delete(&path).await;
    assert_eq!(refused.problem(), (409, "deployment_has_nodes".into()));
    assert_eq!(
        refused.json()["reason"],
        "it has a node: remove that first, or set force=true (ctl: --force)"
    );
    assert_eq!(served.get(&format!("{path}/enrolments")).await.json()["total_results"], 2, "nothing is gone");
    assert_eq!(served.delete(&format!("{path}?force=perhaps")).await.status, 400);
    let removed = served.delete(&format!("{path}?force=true")).await;
    assert_eq!((removed.status, removed.text.as_str()), (204, ""));
    let missing = (404, "deployment_not_found".to_owned());
    for gone in [path.clone(), format!("{path}/nodes/{node}"), format!("{path}/snapshots")] {
        assert_eq!(served.get(&gone).await.problem(), missing, "{gone}");
    }
    assert_eq!(served.delete(&path).await.problem(), missing);
    assert_eq!(patch(&served, &path, &json!({ "name": "back" })).await.problem(), missing);
    let action = served.get(&format!("/async_actions/{}", started.id("ld-async-action"))).await.json();
    assert_eq!(action["finished_message"], "Stopped iggy on 0 of 1 node");
    let listed = served.get("/deployments").await.json();
    assert_eq!((&listed["total_results"], &listed["items"][0]["id"]), (&json!(1), &json!(other)));
    let seen = served.call(Method::GET, "/deployments", &[("ld-api-key", &*limited)], "").await.json();
    assert_eq!(seen["total_results"], 0);
    assert_eq!(
        audited(&served, "deployment.remove").await,
        [(id, json!({ "name": "events-prod", "nodes": 1, "snapshots": 0 }))]
    );
    assert_eq!(served.post("/deployments", &json!({ "name": "events-prod" })).await.status, 201);
    // Without nodes it goes at once.
    let empty = served.deployment("empty").await;
    assert_eq!(served.delete(&format!("/deployments/{empty}")).await.status, 204);
    served.stop().await;
}

async fn token(served: &Served, deployment: u64, body: Value) -> (u64, String) {
    let made = served.post(&format!("/deployments/{deployment}/enrolments"), &body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    (made.id("ld-enrolment"), Secret::new(made.json()["token"].as_str().unwrap()).hash())
}

/// The node that a host of this name becomes by this token.
async fn brought(served: &Served, token_hash: &str, name: &str) -> Option<u64> {
    let credential = Secret::new(name).hash();
    let host = Applicant { hostname: name, credential_hash: &credential, address: "127.0.0.1" };
    enrolments::use_token(&served.store, token_hash, host, served.now()).await.unwrap().map(|node| node.id)
}

async fn a_token_for_several_nodes_serves_so_many_and_no_more(backend: Backend) {
    let served = Served::start(&backend).await;
    let id = served.deployment("events-prod").await;
    let path = format!("/deployments/{id}/enrolments");
    let (enrolment, hash) = token(&served, id, json!({ "uses": 2, "expires_in_seconds": 86_400 })).await;
    let calls = [(); 4].map(|()| brought(&served, &hash, "host-1"));
    let calls = futures_util::future::join_all(calls).await;
    let first = calls[0].unwrap();
    assert_eq!(calls, [Some(first); 4], "one host, however often it asks at once");
    assert_eq!(brought(&served, &hash, "host-1").await, Some(first), "an answer that was lost is told again");
    let listed = served.get(&path).await.json();
    let author = listed["items"][0]["author_id"].clone();
    assert_eq!(
        listed["items"][0],
        json!({ "id": enrolment, "deployment_id": id, "name": null, "author_id": author,
                "created_at": "2026-05-28T20:26:40Z", "expires_at": "2026-05-29T20:26:40Z", "uses": 2, "used": 1,
                "last_used_at": "2026-05-28T20:26:40Z", "status": "open" })
    );
    assert!(!listed.to_string().contains(&hash) && !listed.to_string().contains("we_"));
    let others = ["host-2", "host-3", "host-4"].map(|name| brought(&served, &hash, name));
    let others = futures_util::future::join_all(others).await;
    assert_eq!(others.iter().flatten().count(), 1, "{others:?}");
    assert_eq!(brought(&served, &hash, "host-1").await, Some(first));
    let listed = served.get(&path).await.json();
    assert_eq!((&listed["items"][0]["used"], &listed["items"][0]["status"]), (&json!(2), &json!("used_up")));
    let (_, short) = token(&served, id, json!({ "uses": 9, "expires_in_seconds": 60 })).await;
    served.pass(60_000);
    assert_eq!(brought(&served, &short, "late").await, None);
    assert_eq!(served.get(&path).await.json()["items"][0]["status"], "expired");
    served.stop().await;
}

async fn a_revoked_token_is_void_and_its_nodes_stay(backend: Backend) {
    let served = Served::start(&backend).await;
    let id = served.deployment("events-prod").await;
    let path = format!("/deployments/{id}/enrolments");
    let (enrolment, hash) = token(&served, id, json!({ "uses": 5 })).await;
    let node = brought(&served, &hash, "host-1").await.unwrap();
    let revoked = served.delete(&format!("{path}/{enrolment}")).await;
    assert_eq!((revoked.status, revoked.text.as_str()), (204, ""));
    assert_eq!(brought(&served, &hash, "host-2").await, None);
    assert_eq!(served.get(&format!("/deployments/{id}/nodes/{node}")).await.json()["name"], "host-1");
    assert_eq!(served.get(&path).await.json()["items"], json!([]));
    let again = served.delete(&format!("{path}/{enrolment}")).await;
    assert_eq!(again.problem(), (404, "enrolment_not_found".into()));
    assert_eq!(
        audited(&served, "enrolment.revoke").await,
        [(enrolment, json!({ "name": null, "uses": 5, "used": 1 }))]
    );
    // One of another deployment is none of this.
    let other = served.deployment("events-test").await;
    let (foreign, hash) = token(&served, other, json!({})).await;
    assert_eq!(served.delete(&format!("{path}/{foreign}")).await.status, 404);
    assert!(brought(&served, &hash, "host-3").await.is_some());
    served.stop().await;
}

async fn a_token_has_its_bounds(backend: Backend) {
    let served = Served::start(&backend).await;
    let id = served.deployment("events-prod").await;
    let path = format!("/deployments/{id}/enrolments");
    for (body, field) in [
        (json!({ "uses": 0 }), "uses"),
        (json!({ "uses": 1001 }), "uses"),
        (json!({ "uses": 2, "name": "iggy-1" }), "name"),
        (json!({ "expires_in_seconds": 2_592_001 }), "expires_in_seconds"),
    ] {
        let refused = served.post(&path, &body).await;
        assert_eq!((refused.status, &refused.json()["field"]), (400, &json!(field)), "{body}");
    }
    let most = json!({ "uses": 1000, "expires_in_seconds": 2_592_000 });
    assert_eq!(served.post(&path, &most).await.json()["uses"], 1000);
    served.stop().await;
}

async fn a_full_plan_gives_the_place_of_its_oldest_run_when_it_is_told_to(backend: Backend) {
    let served = Served::start(&backend).await;
    let id = served.deployment("events-prod").await;
    let node = served.node(id, "a").await;
    let path = format!("/deployments/{id}/snapshots");
    let kept = async || -> Vec<u64> {
        let listed = served.get(&path).await.json();
        let kept =
            listed["items"].as_array().unwrap().iter().filter(|snapshot| snapshot["status"] != "failed");
        kept.map(|snapshot| snapshot["run_id"].as_u64().unwrap()).collect()
    };
    let ends = async |run: u64, outcome: Outcome| {
        let listed = served.get(&format!("{path}?run_id={run}")).await.json();
        let request = listed["items"][0]["id"].as_u64().unwrap();
        if outcome.is_completed() {
            stored(&served.store, node, request).await;
        }
        let finished = Finished { request, outcome };
        assert!(activities::finished(&served.store, node, &finished, served.now()).await.unwrap());
    };
    let take = async |body: Value| {
        served.pass(1000);
        let answer = served.post(&path, &body).await;
        if answer.status == 204 {
            ends(answer.id("ld-snapshot"), Outcome::Completed { result: None }).await;
        }
        answer
    };
    let mut runs = Vec::new();
    for _ in 0..3 {
        // Where there is room, nothing goes.
        runs.push(take(json!({ "replace_oldest": true })).await.id("ld-snapshot"));
    }
    let full = take(json!({})).await;
    assert_eq!(full.problem(), (409, "snapshots_limit_reached".into()));
    // Nothing goes for what never came.
    let fails = served.post(&path, &json!({ "replace_oldest": true })).await.id("ld-snapshot");
    assert_eq!(kept().await, [fails, runs[2], runs[1], runs[0]]);
    ends(fails, Outcome::rejected(Code::UploadFailed, "the disk is full")).await;
    assert_eq!(kept().await, [runs[2], runs[1], runs[0]]);
    let fourth = take(json!({ "replace_oldest": true })).await.id("ld-snapshot");
    assert_eq!(kept().await, [fourth, runs[2], runs[1]]);
    assert_eq!(audited(&served, "snapshot.remove").await, [(runs[0], json!({ "replaced_by": fourth }))]);

    // One that began where there was room removes none, although the plan has become smaller meanwhile.
    let plan = async |plan: &str| {
        let changed = patch(&served, &format!("/deployments/{id}"), &json!({ "plan": plan })).await;
        assert!(changed.status < 300, "{plan}");
    };
    plan("pro").await;
    served.pass(1000);
    let fifth = served.post(&path, &json!({ "replace_oldest": true })).await.id("ld-snapshot");
    plan("basic").await;
    ends(fifth, Outcome::Completed { result: None }).await;
    assert_eq!(kept().await, [fifth, fourth, runs[2], runs[1]]);
    served.stop().await;
}
