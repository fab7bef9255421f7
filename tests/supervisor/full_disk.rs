//! A disk that fills up under SQLite: every write is refused in words, and works again when there is room.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use axum::http::Method;
use serde_json::{Value, json};
use warden::protocol::{
    About, Agent, Code, ENROL_PATH, Enrol, Enrolled, Finished, FromNode, Heartbeat, Host, Outcome, Refusal,
    Request, SnapshotOffered, SnapshotProgress, ToNode, Trigger, decode, encode,
};
use warden::secret::Secret;
use warden::supervisor::settings::{Database, Settings};

use super::served::{Answer, NOW, Served, settings};
use super::{Backend, until};
use crate::link::node::{Node, hello};
use crate::support::mount::Tmpfs;

/// Room for the tables and some hundred changes.
const DISK: u64 = 4 << 20;
/// Changes that find room in what the store has taken from the disk before.
const CHANGES: usize = 3000;

/// Runs a test with a directory of its own small disk. Its threads come after the mount, and so see it.
fn on_a_small_disk(test: impl AsyncFnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let _disk = Tmpfs::new(folder.path(), DISK);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test(folder.path()));
    runtime.shutdown_timeout(std::time::Duration::from_secs(30));
}

async fn serve(disk: &Path, backend: &Backend) -> Served {
    let database = Database::Sqlite { directory: disk.join("data") };
    let settings = Settings { database, ..settings(backend) };
    Served::with(settings, Arc::new(AtomicI64::new(NOW)), None).await
}

/// What takes the room.
struct Filler(PathBuf);

impl Filler {
    fn new(disk: &Path) -> Filler {
        let path = disk.join("filler");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        while file.write_all(&[0]).is_ok() {}
        Filler(path)
    }

    fn remove(self) {
        std::fs::remove_file(self.0).unwrap();
    }
}

/// Fills the disk until the store has no room left.
async fn fill(disk: &Path, served: &Served) -> Filler {
    let filler = Filler::new(disk);
    for number in 0..CHANGES {
        let answer = served.post("/deployments", &json!({ "name": format!("filler {number}") })).await;
        if answer.status != 201 {
            assert_eq!(answer.problem(), no_room(), "{}", answer.text);
            return filler;
        }
    }
    panic!("the disk is never full");
}

fn no_room() -> (u16, String) {
    (503, "store_unavailable".to_owned())
}

fn told_no_room(answer: &Answer, what: &str) {
    assert_eq!(answer.problem(), no_room(), "{what}");
    assert_eq!(answer.header("retry-after"), "1", "{what}");
    let reason = answer.json()["reason"].as_str().unwrap().to_owned();
    assert!(reason.starts_with("the store cannot write: its disk is full or fails"), "{what}: {reason}");
}

async fn ready(served: &Served, status: u16) {
    until(async || served.get("/ready").await.status == status).await;
}

/// Trades a token for a node, as an agent does.
async fn enrol(served: &Served, token: &str, credential: &Secret) -> Answer {
    let host = About { hostname: "iggy-1".into(), ..About::default() };
    let enrol = Enrol { token: token.to_owned(), credential_hash: credential.hash(), host };
    let body = encode(&enrol).unwrap();
    served.call(Method::POST, ENROL_PATH, &[("content-type", "application/json")], &body).await
}

async fn token(served: &Served, deployment: u64) -> String {
    let made = served.post(&format!("/deployments/{deployment}/enrolments"), &json!({})).await;
    made.json()["token"].as_str().unwrap().to_owned()
}

async fn enrolled(served: &Served, deployment: u64) -> (u64, Secret) {
    let (token, credential) = (token(served, deployment).await, Secret::draw("wnode_").unwrap());
    let enrolled: Enrolled = decode(&enrol(served, &token, &credential).await.text).unwrap();
    (enrolled.node, credential)
}

#[test]
fn every_change_over_the_api_is_refused_on_a_full_disk_and_works_again_when_there_is_room() {
    on_a_small_disk(async |disk| {
        let backend = Backend::sqlite();
        let served = serve(disk, &backend).await;
        let deployment = served.deployment("events-prod").await;
        let elsewhere = served.deployment("elsewhere").await;
        let (gone, _) = enrolled(&served, deployment).await;
        let kept = enrolled(&served, deployment).await.0;
        let other = enrolled(&served, elsewhere).await.0;
        let restart = |deployment: u64| format!("/deployments/{deployment}/activities/iggy/restart");
        let running = served.post(&restart(elsewhere), &json!({})).await.id("ld-async-action");
        let (old_key, _) = served.key(json!({ "permissions": ["deployment:read"] })).await;
        // One that failed on every node, to be deleted.
        let failed =
            served.post(&format!("/deployments/{elsewhere}/snapshots"), &json!({})).await.id("ld-snapshot");
        served.post(&format!("/async_actions/{failed}/cancel"), &json!({})).await;
        let expires_at = jiff::Timestamp::from_millisecond(NOW + 86_400_000).unwrap().to_string();
        let key = json!({ "name": "new", "expires_at": expires_at, "permissions": ["deployment:read"] });
        let nothing = json!({});
        let changes: Vec<(Method, String, Value, u16)> = vec![
            (Method::POST, "/deployments".into(), json!({ "name": "another" }), 201),
            (Method::POST, format!("/deployments/{deployment}/enrolments"), nothing.clone(), 201),
            (Method::POST, restart(deployment), nothing.clone(), 202),
            (Method::POST, format!("/deployments/{deployment}/snapshots"), nothing.clone(), 204),
            (Method::POST, format!("/async_actions/{running}/cancel"), nothing.clone(), 202),
            (Method::DELETE, format!("/deployments/{elsewhere}/snapshots/{failed}"), nothing.clone(), 204),
            (Method::DELETE, format!("/deployments/{deployment}/nodes/{gone}"), nothing.clone(), 204),
            (Method::POST, "/api_keys".into(), key, 201),
            (Method::DELETE, format!("/api_keys/{old_key}"), nothing, 204),
        ];
        ready(&served, 200).await;

        let filler = fill(disk, &served).await;
        ready(&served, 503).await;
        for (number, (method, path, body, _)) in changes.iter().enumerate() {
            let what = format!("{method} {path}");
            told_no_room(&call(&served, method, path, body, None).await, &what);
            if method == Method::POST {
                let key = format!("once {number}");
                told_no_room(&call(&served, method, path, body, Some(&key)).await, &what);
            }
        }
        // What needs no writing goes on.
        assert_eq!(served.get("/health").await.status, 200);
        let nodes = served.get(&format!("/deployments/{deployment}/nodes")).await.json();
        assert_eq!(nodes["total_results"], 2);
        assert_eq!(served.get(&format!("/async_actions/{running}")).await.json()["finished_at"], Value::Null);

        filler.remove();
        // At once, without a restart; the idempotency keys of what was refused are free again.
        for (number, (method, path, body, status)) in changes.iter().enumerate() {
            let key = (method == Method::POST).then(|| format!("once {number}"));
            let answer = call(&served, method, path, body, key.as_deref()).await;
            assert_eq!(answer.status, *status, "{method} {path}: {}", answer.text);
        }
        ready(&served, 200).await;
        let left = served.get(&format!("/deployments/{deployment}/nodes")).await.json();
        assert_eq!((&left["total_results"], &left["items"][0]["id"]), (&json!(1), &json!(kept)));
        assert_eq!(served.get(&format!("/deployments/{elsewhere}/nodes/{other}")).await.status, 200);
        served.stop().await;
    });
}

async fn call(served: &Served, method: &Method, path: &str, body: &Value, once: Option<&str>) -> Answer {
    if method == Method::DELETE {
        return served.delete(path).await;
    }
    match once {
        None => served.post(path, body).await,
        Some(key) => served.once(key, path, body).await,
    }
}

#[test]
fn an_idempotency_key_claimed_before_the_disk_was_full_is_given_back_when_there_is_room() {
    on_a_small_disk(async |disk| {
        let backend = Backend::sqlite();
        let served = serve(disk, &backend).await;
        let deployment = served.deployment("events-prod").await;
        let filler = fill(disk, &served).await;
        // Refused before it claims anything, or after: either way the key is not lost for a minute.
        let path = format!("/deployments/{deployment}/enrolments");
        told_no_room(&served.once("one", &path, &json!({})).await, "enrolment");
        filler.remove();
        assert_eq!(served.once("one", &path, &json!({})).await.status, 201);
        served.stop().await;
    });
}

#[test]
fn what_nodes_tell_on_a_full_disk_is_told_again_when_there_is_room() {
    on_a_small_disk(async |disk| {
        let backend = Backend::sqlite();
        let served = serve(disk, &backend).await;
        let deployment = served.deployment("events-prod").await;
        let (id, credential) = enrolled(&served, deployment).await;
        let unused = token(&served, deployment).await;
        let newcomer = Secret::draw("wnode_").unwrap();
        let mut node = Node::link(served.address, id, &credential, "a").await;
        let path = format!("/deployments/{deployment}/activities/iggy/restart");
        let made = served.post(&path, &json!({})).await;
        let Request { request, .. } = node.request().await;
        let overdue = served.post(&path, &json!({})).await.id("ld-async-action");
        let second = node.request().await.request;

        let filler = fill(disk, &served).await;
        told_no_room(&enrol(&served, &unused, &newcomer).await, "enrolment of a node");
        // Nobody waits for these to be written.
        node.say(&FromNode::Heartbeat(heartbeat())).await;
        node.say(&FromNode::Accepted { request }).await;
        node.say(&FromNode::Progress { request, step: "waits for its turn".into() }).await;
        let progress = SnapshotProgress { request, checks_done: 1, checks_total: 2, ..Default::default() };
        node.say(&FromNode::SnapshotProgress(progress)).await;
        let offered = SnapshotOffered {
            offer: 1,
            trigger: Trigger::UnitFailed,
            reason: "iggy.service failed".into(),
            taken_at_ms: NOW,
        };
        node.say(&FromNode::SnapshotOffered(offered.clone())).await;
        let finished = Finished { request, outcome: Outcome::rejected(Code::PolicyDenied, "not here") };
        node.say(&FromNode::Finished(finished.clone())).await;
        assert_eq!(node.refused().await, Refusal::GoingAway);
        let mut node = Node::dial(served.address, &credential).await.unwrap();
        node.say(&FromNode::Hello(hello(id, "a", vec![request, second]))).await;
        assert_eq!(node.refused().await, Refusal::GoingAway);

        filler.remove();
        let mut node = Node::dial(served.address, &credential).await.unwrap();
        node.say(&FromNode::Hello(hello(id, "a", vec![request, second]))).await;
        node.welcome().await;
        node.say(&FromNode::Finished(finished)).await;
        assert_eq!(node.hear().await, Some(ToNode::Settled { request }));
        let ended = served.get(&format!("/async_actions/{}", made.id("ld-async-action"))).await.json();
        assert_eq!(ended["finished_success"], json!(false));
        // The heartbeat of the full disk was kept until it could be written.
        let beats = format!("/deployments/{deployment}/heartbeats");
        until(async || served.get(&beats).await.json()["total_results"] == 1).await;
        // The job that ends what is overdue works again.
        served.pass(3_600_000);
        let path = format!("/async_actions/{overdue}");
        until(async || served.get(&path).await.json()["finished_at"] != Value::Null).await;
        node.say(&FromNode::SnapshotOffered(offered)).await;
        assert!(matches!(node.hear().await, Some(ToNode::Request(_))));
        assert_eq!(enrol(&served, &unused, &newcomer).await.problem().0, 403, "the token is too old by now");
        served.stop().await;
    });
}

fn heartbeat() -> Heartbeat {
    let agent = Agent::default();
    Heartbeat { at_ms: NOW, host: Host::default(), agent, runtimes: Vec::new() }
}
