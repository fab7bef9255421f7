//! Runs of snapshots in the store: one at a time, within the plan, and gone when they are old.

use serde_json::json;
use warden::protocol::{
    Code, Finished, Outcome, SNAPSHOT_CHOICE, SnapshotChoice, SnapshotProgress, ToNode, Upload,
    UploadRefusal, UploadWanted, Uploaded, Work,
};
use warden::sha256::hex;
use warden::supervisor::object_store::{Announced, Begun, Key, Local, Objects, local};
use warden::supervisor::store::activities::{self, Order};
use warden::supervisor::store::deployments::{Deployment, Scope};
use warden::supervisor::store::snapshots::{self, Refused, Snapshot, Status};
use warden::supervisor::store::{Page, Store, async_actions, nodes};
use warden::supervisor::upload_service::{Limits, Uploads};

use super::Backend;
use super::administration::hello;
use super::served::Served;
use super::store::{NOW, deployment, node, opened};
use crate::support::objects::{announced, content, http, serve};

const FIRST: Page = Page { page: 1, results: 100 };
const DAY: i64 = 86_400_000;
const LIMITS: Limits = Limits { largest: 10 << 20, whole: 1 << 20 };

super::on_both_stores!(
    one_run_at_a_time_however_many_ask_at_once,
    a_plan_keeps_so_many_runs_and_a_failed_one_takes_no_place,
    a_node_that_never_answers_fails_its_snapshot_and_the_next_run_starts,
    an_archive_is_confirmed_from_the_object_store_and_then_the_snapshot_completes,
    a_node_that_lies_of_its_archive_or_means_that_of_another_is_refused,
    what_is_older_than_the_plan_keeps_goes_with_its_archive_however_often_the_job_dies,
    deleting_a_run_hides_it_at_once,
    a_node_that_says_completed_without_an_archive_has_a_failed_snapshot,
    an_upload_address_is_worth_nothing_when_its_upload_is_over,
    a_snapshot_of_some_nodes_and_of_less_is_asked_of_those_as_it_was_asked,
);

fn order(deployment: &Deployment, nodes: &[u64], now: i64) -> Order {
    Order {
        deployment: deployment.clone(),
        nodes: nodes.to_vec(),
        work: Work::Snapshot {
            redact_secrets: true,
            include_iggy: true,
            offer: None,
            choice: SnapshotChoice::default(),
        },
        author_id: 42,
        author: "ops@example.com".into(),
        started_via: "api",
        deadline_at: now + 60_000,
    }
}

async fn start(
    store: &Store,
    deployment: &Deployment,
    nodes: &[u64],
    now: i64,
) -> Result<Vec<Snapshot>, Refused> {
    let mut change = store.change().await.unwrap();
    let started =
        snapshots::start(&mut change, order(deployment, nodes, now), None, None, now).await.unwrap();
    if started.is_ok() {
        change.commit().await.unwrap();
    }
    started.map(|(_, snapshots)| snapshots)
}

async fn end(store: &Store, node: u64, snapshot: &Snapshot, outcome: Outcome, now: i64) {
    let finished = Finished { request: snapshot.id, outcome };
    assert!(activities::finished(store, node, &finished, now).await.unwrap());
}

async fn one(store: &Store, snapshot: &Snapshot) -> Snapshot {
    snapshots::get(store, snapshot.deployment_id, snapshot.id).await.unwrap().unwrap()
}

async fn listed(store: &Store, deployment: &Deployment) -> Vec<Snapshot> {
    snapshots::list(store, deployment.id, None, FIRST).await.unwrap().items
}

/// Uploads to a folder that is served.
async fn uploads(store: &Store) -> (Uploads, String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let local = Local::open(folder.path()).unwrap();
    let base = serve(local::routes(local.clone(), wanted(store))).await;
    (Uploads::new(store.clone(), Objects::Local(local).into(), LIMITS), base, folder)
}

/// What the Supervisor's own addresses ask the store.
fn wanted(store: &Store) -> local::Wanted {
    let store = store.clone();
    std::sync::Arc::new(move |key| {
        let store = store.clone();
        Box::pin(async move { snapshots::awaits(&store, key).await.ok() })
    })
}

/// An archive has arrived, as far as the store knows.
pub async fn stored(store: &Store, node: u64, snapshot: u64) {
    let announced = Announced { size: 1000, sha256: [7; 32] };
    assert!(snapshots::announce(store, node, snapshot, &announced, &Begun::Whole).await.unwrap());
    assert!(snapshots::stored(store, node, snapshot, "pass").await.unwrap());
}

async fn put(
    uploads: &Uploads,
    base: &str,
    node: u64,
    snapshot: &Snapshot,
    content: &[u8],
) -> Option<ToNode> {
    let announced = announced(content);
    let wanted = UploadWanted {
        request: snapshot.id,
        size: announced.size,
        sha256: hex(&announced.sha256),
        parts: Vec::new(),
    };
    let Some(ToNode::UploadGrant(grant)) = uploads.wanted(node, &wanted).await else {
        panic!("it is granted");
    };
    let Upload::Whole { put } = grant.upload else { panic!("it is small") };
    let answer = http().put(format!("{base}{}", put.url)).body(content.to_vec()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let uploaded = Uploaded { request: snapshot.id, verdict: "warn".into(), parts: Vec::new() };
    uploads.uploaded(node, &uploaded).await
}

async fn one_run_at_a_time_however_many_ask_at_once(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let nodes = [node(&store, deployment.id, "a").await, node(&store, deployment.id, "b").await];
    let asked = (0..8).map(|_| start(&store, &deployment, &nodes, NOW));
    let answers = futures_util::future::join_all(asked).await;
    let started: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    assert_eq!(started.len(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == Err(Refused::InProgress)).count(), 7);
    let [first, second] = &started[0][..] else { panic!("a row a node") };
    assert_eq!((first.name.as_str(), &first.name), ("snapshot-20260528-202640", &second.name));
    assert_eq!((first.run_id, first.status), (second.run_id, Status::Processing));
    assert_eq!(start(&store, &deployment, &[], NOW).await, Err(Refused::NoNodes));
    assert_eq!(
        activities::list(&store, deployment.id, &activities::Filter::default(), FIRST).await.unwrap().total,
        0
    );
    let [sent] = &activities::undelivered(&store, nodes[0]).await.unwrap()[..] else {
        panic!("one is queued")
    };
    let work = Work::Snapshot {
        redact_secrets: true,
        include_iggy: true,
        offer: None,
        choice: SnapshotChoice::default(),
    };
    assert_eq!(sent.request(NOW).work, work);
}

async fn a_plan_keeps_so_many_runs_and_a_failed_one_takes_no_place(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let node = node(&store, deployment.id, "a").await;
    for run in 0..5 {
        let [snapshot] = &start(&store, &deployment, &[node], NOW + run).await.unwrap()[..] else {
            panic!("one node");
        };
        let outcome = match run {
            0 | 2 => Outcome::rejected(Code::Internal, "a defect"),
            _ => Outcome::Completed { result: None },
        };
        if outcome.is_completed() {
            stored(&store, node, snapshot.id).await;
        }
        end(&store, node, snapshot, outcome, NOW + run).await;
    }
    assert_eq!(start(&store, &deployment, &[node], NOW + 9).await, Err(Refused::LimitReached(3)));
    let oldest = listed(&store, &deployment).await.into_iter().rfind(|one| one.status == Status::Completed);
    let mut change = store.change().await.unwrap();
    let removed = snapshots::remove(&mut change, deployment.id, oldest.unwrap().id, NOW + 9).await.unwrap();
    change.commit().await.unwrap();
    assert_eq!(removed, Some(true));
    assert!(start(&store, &deployment, &[node], NOW + 10).await.is_ok());
}

async fn a_node_that_never_answers_fails_its_snapshot_and_the_next_run_starts(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let (here, away) = (node(&store, deployment.id, "a").await, node(&store, deployment.id, "b").await);
    let rows = start(&store, &deployment, &[here, away], NOW).await.unwrap();
    let mine = rows.iter().find(|row| row.node_id == here).unwrap();
    stored(&store, here, mine.id).await;
    end(&store, here, mine, Outcome::Completed { result: None }, NOW + 5).await;
    assert_eq!(start(&store, &deployment, &[here], NOW + 6).await, Err(Refused::InProgress));
    let late = NOW + 60_001;
    let overdue = activities::overdue(&store, late, 0).await.unwrap();
    let mut change = store.change().await.unwrap();
    assert_eq!(activities::reject_overdue(&mut change, &overdue, late).await.unwrap(), 1);
    change.commit().await.unwrap();
    let failed = listed(&store, &deployment).await.into_iter().find(|row| row.node_id == away).unwrap();
    assert_eq!((failed.status, failed.completed_at), (Status::Failed, Some(late)));
    assert_eq!(failed.reason.unwrap().code, Code::NodeUnreachable);
    let run = async_actions::get(&store, Scope::ALL, mine.run_id).await.unwrap().unwrap();
    assert_eq!(run.finished.unwrap().message, "Took a snapshot of 1 of 2 nodes");
    assert!(start(&store, &deployment, &[here, away], late).await.is_ok());
}

async fn an_archive_is_confirmed_from_the_object_store_and_then_the_snapshot_completes(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let node = node(&store, deployment.id, "a").await;
    let [snapshot] = &start(&store, &deployment, &[node], NOW).await.unwrap()[..] else { panic!("one node") };
    let (uploads, base, folder) = uploads(&store).await;
    let progress =
        SnapshotProgress { request: snapshot.id, checks_done: 3, checks_total: 57, ..Default::default() };
    uploads.progress(node, &progress, NOW + 1).await;
    assert_eq!(one(&store, snapshot).await.progress, Some(progress));
    let content = content(1000);
    let confirmed = Some(ToNode::UploadConfirmed { request: snapshot.id });
    assert_eq!(put(&uploads, &base, node, snapshot, &content).await, confirmed);
    // Asked again by a node that did not hear it.
    let uploaded = Uploaded { request: snapshot.id, verdict: "pass".into(), parts: Vec::new() };
    assert_eq!(uploads.uploaded(node, &uploaded).await, confirmed);
    end(&store, node, snapshot, Outcome::Completed { result: None }, NOW + 9).await;
    let done = one(&store, snapshot).await;
    assert_eq!(
        (done.status, done.verdict.as_deref(), done.size),
        (Status::Completed, Some("warn"), Some(1000))
    );
    assert_eq!(done.sha256, Some(hex(&announced(&content).sha256)));
    let key = Key { deployment: deployment.id, snapshot: snapshot.id };
    assert_eq!(std::fs::read(folder.path().join(key.path())).unwrap(), content);
    // Nothing can be put there any more.
    let wanted = UploadWanted { request: snapshot.id, size: 22, sha256: "0".repeat(64), parts: Vec::new() };
    let refused = uploads.wanted(node, &wanted).await;
    assert!(
        matches!(refused, Some(ToNode::UploadRefused { code: UploadRefusal::NotWanted, .. })),
        "{refused:?}"
    );
}

async fn a_node_that_lies_of_its_archive_or_means_that_of_another_is_refused(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let (mine, other) = (node(&store, deployment.id, "a").await, node(&store, deployment.id, "b").await);
    let rows = start(&store, &deployment, &[mine, other], NOW).await.unwrap();
    let snapshot = rows.iter().find(|row| row.node_id == mine).unwrap();
    let (uploads, base, folder) = uploads(&store).await;
    let code = |answer: Option<ToNode>| match answer {
        Some(ToNode::UploadRefused { code, .. }) => code,
        answer => panic!("{answer:?} is no refusal"),
    };
    let wanted = |size, sha256: &str| UploadWanted {
        request: snapshot.id,
        size,
        sha256: sha256.to_owned(),
        parts: Vec::new(),
    };
    let zeros = "0".repeat(64);
    assert_eq!(code(uploads.wanted(other, &wanted(22, &zeros)).await), UploadRefusal::NotWanted);
    assert_eq!(code(uploads.wanted(mine, &wanted(u64::MAX, &zeros)).await), UploadRefusal::TooLarge);
    assert_eq!(code(uploads.wanted(mine, &wanted(21, &zeros)).await), UploadRefusal::Mismatch);
    assert_eq!(code(uploads.wanted(mine, &wanted(22, "../../etc")).await), UploadRefusal::Mismatch);
    let uploaded = Uploaded { request: snapshot.id, verdict: "pass".into(), parts: Vec::new() };
    assert_eq!(code(uploads.uploaded(mine, &uploaded).await), UploadRefusal::NotWanted);

    // It announces one content and puts another of the same size.
    let Some(ToNode::UploadGrant(grant)) = uploads.wanted(mine, &wanted(22, &zeros)).await else {
        panic!("it is granted");
    };
    let Upload::Whole { put } = grant.upload else { panic!("it is small") };
    let answer =
        http().put(format!("{base}{}", put.url)).body("evil evil evil evil ev").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(code(uploads.uploaded(mine, &uploaded).await), UploadRefusal::Mismatch);
    assert_eq!(one(&store, snapshot).await.verdict, None);
    let key = Key { deployment: deployment.id, snapshot: snapshot.id };
    assert!(!folder.path().join(key.path()).exists());
}

async fn what_is_older_than_the_plan_keeps_goes_with_its_archive_however_often_the_job_dies(
    backend: Backend,
) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let node = node(&store, deployment.id, "a").await;
    let (uploads, base, folder) = uploads(&store).await;
    let mut keys = Vec::new();
    for now in [NOW, NOW + DAY] {
        let [snapshot] = &start(&store, &deployment, &[node], now).await.unwrap()[..] else { panic!("one") };
        put(&uploads, &base, node, snapshot, &content(100)).await.unwrap();
        end(&store, node, snapshot, Outcome::Completed { result: None }, now).await;
        keys.push(Key { deployment: deployment.id, snapshot: snapshot.id });
    }
    let expire = async |now| {
        let mut change = store.change().await.unwrap();
        let expired = snapshots::expire(&mut change, now).await.unwrap();
        change.commit().await.unwrap();
        expired
    };
    assert_eq!(expire(NOW + 7 * DAY).await, 0);
    assert_eq!(expire(NOW + 7 * DAY + 1).await, 1);
    // It died before it removed the archive: hidden at once, and found again.
    assert_eq!(listed(&store, &deployment).await.len(), 1);
    assert!(folder.path().join(keys[0].path()).exists());
    // It died after that, and before it forgot the row.
    let [removal] = &snapshots::removed(&store).await.unwrap()[..] else { panic!("one is to go") };
    uploads.objects().delete(removal.key).await.unwrap();
    uploads.remove_archives(NOW + 9 * DAY).await.unwrap();
    assert_eq!(snapshots::removed(&store).await.unwrap(), []);
    assert!(!folder.path().join(keys[0].path()).exists() && folder.path().join(keys[1].path()).exists());
    // An archive that no row knows goes, too.
    let stray = Key { deployment: 1, snapshot: 2 };
    std::fs::create_dir(folder.path().join("1")).unwrap();
    std::fs::write(folder.path().join(stray.path()), "x").unwrap();
    uploads.remove_archives(NOW + 9 * DAY).await.unwrap();
    assert!(!folder.path().join(stray.path()).exists() && folder.path().join(keys[1].path()).exists());
}

async fn a_snapshot_of_some_nodes_and_of_less_is_asked_of_those_as_it_was_asked(backend: Backend) {
    let served = Served::start(&backend).await;
    let deployment = served.deployment("events-prod").await;
    let [one, _other] = [served.node(deployment, "a").await, served.node(deployment, "b").await];
    let path = format!("/deployments/{deployment}/snapshots");
    for (asked, code) in [
        (json!({ "nodes": [one, 7] }), "node_not_found"),
        (json!({ "only": ["nothing-like-it"] }), "unknown_check"),
        (json!({ "since_seconds": 59 }), "validation_error"),
        (json!({ "only": vec!["disk"; 101] }), "validation_error"),
    ] {
        assert_eq!(served.post(&path, &asked).await.problem(), (400, code.to_owned()), "{asked}");
    }
    let asked = json!({ "nodes": [one, one], "only": ["disk", "runtime-iggy-health"], "since_seconds": 7200,
        "anonymize": true });
    // An agent that does not know how would send everything as it is.
    let mut hello = hello(one);
    nodes::hello(&served.store, one, &hello, served.now()).await.unwrap();
    assert_eq!(served.post(&path, &asked).await.problem(), (409, "agent_too_old".to_owned()));
    hello.capabilities.push(SNAPSHOT_CHOICE.to_owned());
    nodes::hello(&served.store, one, &hello, served.now()).await.unwrap();
    let begun = served.post(&path, &asked).await;
    assert_eq!(begun.status, 204);
    let rows = served.get(&path).await.json();
    assert_eq!((&rows["total_results"], &rows["items"][0]["node_id"]), (&json!(1), &json!(one)));
    let [sent] = &activities::undelivered(&served.store, one).await.unwrap()[..] else {
        panic!("one is queued")
    };
    let choice = SnapshotChoice {
        only: vec!["disk".into(), "runtime-iggy-health".into()],
        since_seconds: Some(7200),
        anonymize: true,
    };
    let work = Work::Snapshot { redact_secrets: true, include_iggy: true, offer: None, choice };
    assert_eq!(sent.request(served.now()).work, work);
    let audit = served.get("/audit?action=snapshot.create").await.json();
    let detail = json!({ "nodes": 1, "redact_secrets": true, "include_iggy": true,
        "only": ["disk", "runtime-iggy-health"], "since_seconds": 7200, "anonymize": true });
    assert_eq!(audit["items"][0]["detail"], detail);
    served.stop().await;
}

async fn deleting_a_run_hides_it_at_once(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let nodes = [node(&store, deployment.id, "a").await, node(&store, deployment.id, "b").await];
    let rows = start(&store, &deployment, &nodes, NOW).await.unwrap();
    let remove = async |id| {
        let mut change = store.change().await.unwrap();
        let removed = snapshots::remove(&mut change, deployment.id, id, NOW).await.unwrap();
        change.commit().await.unwrap();
        removed
    };
    stored(&store, rows[0].node_id, rows[0].id).await;
    end(&store, rows[0].node_id, &rows[0], Outcome::Completed { result: None }, NOW).await;
    assert_eq!(remove(rows[0].run_id).await, Some(false));
    end(&store, rows[1].node_id, &rows[1], Outcome::rejected(Code::Cancelled, "cancelled"), NOW).await;
    assert_eq!(snapshots::get(&store, deployment.id, rows[0].run_id).await.unwrap(), None);
    assert_eq!(remove(12345).await, None);
    assert_eq!(remove(rows[0].run_id).await, Some(true));
    assert_eq!(listed(&store, &deployment).await, []);
    assert_eq!(remove(rows[0].run_id).await, None);
}

async fn a_node_that_says_completed_without_an_archive_has_a_failed_snapshot(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let node = node(&store, deployment.id, "a").await;
    // More often than the plan has places.
    for run in 0..4 {
        let rows = start(&store, &deployment, &[node], NOW + run).await.unwrap();
        let completed = Outcome::Completed { result: None };
        if run == 3 {
            // Announced is not stored.
            let announced = Announced { size: 1000, sha256: [7; 32] };
            let announced = snapshots::announce(&store, node, rows[0].id, &announced, &Begun::Whole);
            assert!(announced.await.unwrap());
        }
        end(&store, node, &rows[0], completed, NOW + run).await;
        let failed = one(&store, &rows[0]).await;
        assert_eq!((failed.status, failed.completed_at), (Status::Failed, Some(NOW + run)));
        assert_eq!(failed.reason.unwrap().code, Code::UploadFailed);
        let run = async_actions::get(&store, Scope::ALL, rows[0].run_id).await.unwrap().unwrap();
        let finish = run.finished.unwrap();
        assert!(!finish.success);
        assert_eq!(finish.message, "Took a snapshot of 0 of 1 node");
    }
    assert!(start(&store, &deployment, &[node], NOW + 9).await.is_ok(), "none of them took a place");
}

/// Every file below a folder, but the key of its addresses.
fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.ends_with(".signing-key") {
            found.push(path);
        }
    }
    found
}

async fn an_upload_address_is_worth_nothing_when_its_upload_is_over(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let node = node(&store, deployment.id, "a").await;
    let (uploads, base, folder) = uploads(&store).await;
    let content = content(1000);
    let announced = announced(&content);
    let put = async |url: &str| {
        http().put(format!("{base}{url}")).body(content.clone()).send().await.unwrap().status().as_u16()
    };
    for (now, how) in [(NOW, "confirmed"), (NOW + 1, "finished"), (NOW + 2, "deleted")] {
        let rows = start(&store, &deployment, &[node], now).await.unwrap();
        let snapshot = &rows[0];
        let wanted = UploadWanted {
            request: snapshot.id,
            size: announced.size,
            sha256: hex(&announced.sha256),
            parts: Vec::new(),
        };
        let Some(ToNode::UploadGrant(grant)) = uploads.wanted(node, &wanted).await else {
            panic!("it is granted");
        };
        let Upload::Whole { put: address } = grant.upload else { panic!("it is small") };
        assert_eq!(put(&address.url).await, 200, "{how}");
        let uploaded = Uploaded { request: snapshot.id, verdict: "pass".into(), parts: Vec::new() };
        let object = folder.path().join(Key { deployment: deployment.id, snapshot: snapshot.id }.path());
        if how == "finished" {
            end(&store, node, snapshot, Outcome::rejected(Code::Internal, "a defect"), now).await;
            assert_eq!(put(&address.url).await, 403, "before anything of it is removed");
            uploads.ended(snapshot.id, now).await;
            assert_eq!(put(&address.url).await, 403);
            assert_eq!(files(folder.path()), Vec::<std::path::PathBuf>::new());
            continue;
        }
        uploads.uploaded(node, &uploaded).await.unwrap();
        assert_eq!(put(&address.url).await, 403, "{how}");
        assert_eq!(files(folder.path()), std::slice::from_ref(&object));
        end(&store, node, snapshot, Outcome::Completed { result: None }, now).await;
        assert_eq!(put(&address.url).await, 403, "{how}");
        let mut change = store.change().await.unwrap();
        assert_eq!(
            snapshots::remove(&mut change, deployment.id, snapshot.id, now).await.unwrap(),
            Some(true)
        );
        change.commit().await.unwrap();
        assert_eq!(put(&address.url).await, 403, "{how}");
        uploads.remove_archives(now).await.unwrap();
        assert_eq!(put(&address.url).await, 403, "{how}");
        assert_eq!(files(folder.path()), Vec::<std::path::PathBuf>::new(), "{how}");
    }
}
