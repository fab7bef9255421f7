//! The store as the hub and the jobs use it.

use std::collections::BTreeSet;

use serde_json::json;
use warden::protocol::{
    Action, Agent, Code, Finished, Heartbeat, Host, Outcome, Runtime, RuntimeState, UnitChange, Work,
};
use warden::supervisor::store::activities::{self, Activity, Filter, Order, State, Status};
use warden::supervisor::store::async_actions::{self, AsyncAction};
use warden::supervisor::store::deployments::{self, Deployment, Plan, Scope};
use warden::supervisor::store::enrolments::{self, Applicant, Enrolment};
use warden::supervisor::store::heartbeats::{self, Newest, Span};
use warden::supervisor::store::idempotency::{self, Answer, Claim, Slot};
use warden::supervisor::store::{Notice, Page, Store, audit, nodes};

use super::Backend;

pub const NOW: i64 = 1_780_000_000_000;
const FIRST: Page = Page { page: 1, results: 100 };

super::on_both_stores!(
    an_activity_goes_from_queued_to_completed_and_each_step_counts_once,
    only_the_node_it_belongs_to_ends_an_activity_and_only_once,
    the_events_of_an_action_have_no_gap_and_tell_it_all,
    what_nobody_answers_ends_by_its_deadline,
    what_comes_too_late_tells_the_unit_but_not_another_status,
    cancelling_ends_what_was_not_sent_and_asks_back_the_rest,
    a_removed_node_leaves_nothing_open_and_its_credential_is_void,
    many_nodes_ending_at_once_finish_their_action_once,
    a_fleet_is_asked_in_one_change,
    a_token_makes_one_node_however_many_bring_it,
    an_old_token_is_refused,
    a_first_answer_is_replayed_until_it_is_too_old,
    a_claim_without_an_answer_is_taken_over_and_its_holder_commits_nothing,
    notices_reach_every_listener_once_the_change_is_committed,
    a_silent_node_is_marked_once_and_heals,
    the_history_of_heartbeats_is_bounded,
    state_survives_and_each_start_draws_other_ids,
);

pub async fn opened(backend: &Backend) -> Store {
    Store::open(&backend.database()).await.unwrap()
}

pub async fn deployment(store: &Store, name: &str) -> Deployment {
    let deployment = Deployment {
        id: store.id(NOW),
        tenant_id: 1,
        division_id: 1,
        environment_id: 1,
        name: name.into(),
        plan: Plan::Basic,
        created_at: NOW,
    };
    let mut change = store.change().await.unwrap();
    assert!(deployments::insert(&mut change, &deployment).await.unwrap());
    change.commit().await.unwrap();
    deployment
}

async fn token(store: &Store, deployment: u64, token: &str) {
    let enrolment = Enrolment {
        id: store.id(NOW),
        deployment_id: deployment,
        token_hash: token.into(),
        name: None,
        author_id: 42,
        created_at: NOW,
        expires_at: NOW + 1000,
    };
    let mut change = store.change().await.unwrap();
    enrolments::insert(&mut change, &enrolment).await.unwrap();
    change.commit().await.unwrap();
}

pub async fn node(store: &Store, deployment: u64, name: &str) -> u64 {
    token(store, deployment, name).await;
    let host =
        Applicant { hostname: name, credential_hash: &format!("credential of {name}"), address: "::1" };
    let Some(node) = enrolments::use_token(store, name, host, NOW).await.unwrap() else {
        panic!("the token is new");
    };
    node.id
}

async fn started(store: &Store, deployment: &Deployment, nodes: &[u64]) -> (AsyncAction, Vec<Activity>) {
    let order = Order {
        deployment: deployment.clone(),
        nodes: nodes.to_vec(),
        work: Work::Activity { runtime: Runtime::Iggy, action: Action::Restart },
        author_id: 42,
        author: "ops@example.com".into(),
        started_via: "api",
        deadline_at: NOW + 60_000,
    };
    let mut change = store.change().await.unwrap();
    let started = activities::start(&mut change, &order, NOW).await.unwrap();
    change.commit().await.unwrap();
    started
}

fn completed(activity: &Activity) -> Finished {
    let result = UnitChange { unit: "iggy.service".into(), took_ms: Some(7), ..UnitChange::default() };
    Finished { request: activity.id, outcome: Outcome::Completed { result: Some(result) } }
}

async fn state(store: &Store, activity: &Activity) -> Activity {
    activities::get(store, activity.deployment_id, activity.id).await.unwrap().unwrap()
}

async fn kinds(store: &Store, action: u64) -> Vec<(u64, String)> {
    let events = async_actions::events_after(store, action, 0).await.unwrap();
    events.into_iter().map(|event| (event.version, event.kind)).collect()
}

async fn an_activity_goes_from_queued_to_completed_and_each_step_counts_once(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let node = node(&store, deployment.id, "a").await;
    let (action, activities) = started(&store, &deployment, &[node]).await;
    let [activity] = &activities[..] else { panic!("one node, one activity") };
    assert_eq!(activities::undelivered(&store, node).await.unwrap(), activities);
    assert_eq!(activity.request(NOW + 1000).deadline_ms, 59_000);

    assert!(activities::delivered(&store, activity.id, NOW + 1).await.unwrap());
    assert!(!activities::delivered(&store, activity.id, NOW + 1).await.unwrap(), "somebody sends it already");
    assert_eq!(activities::undelivered(&store, node).await.unwrap(), []);
    assert_eq!(activities::unfinished(&store, node, 0).await.unwrap().len(), 1);
    assert!(activities::accepted(&store, node, activity.id, NOW + 2).await.unwrap());
    assert!(
        activities::progress(&store, node, activity.id, &format!("\0{}", "s".repeat(999)), NOW + 3)
            .await
            .unwrap()
    );
    let running = state(&store, activity).await;
    assert_eq!((running.state, running.step.unwrap()), (State::Accepted, "s".repeat(200)));

    assert!(activities::finished(&store, node, &completed(activity), NOW + 4).await.unwrap());
    let ended = state(&store, activity).await;
    assert_eq!((ended.state, ended.finished_at, ended.step), (State::Completed, Some(NOW + 4), None));
    assert_eq!(ended.result.unwrap().took_ms, Some(7));
    assert_eq!(activities::unfinished(&store, node, 0).await.unwrap(), []);

    let action = async_actions::get(&store, Scope::ALL, action.id).await.unwrap().unwrap();
    let finish = action.finished.unwrap();
    assert_eq!((finish.success, finish.message.as_str()), (true, "Restarted iggy on 1 of 1 node"));
    let nodes = json!([{ "node_id": node, "status": "completed", "activity_id": activity.id }]);
    assert_eq!(finish.result, json!({ "nodes": nodes }));

    let filter = |status| Filter { node_id: Some(node), runtime: Some(Runtime::Iggy), status: Some(status) };
    for (status, there) in [(Status::Completed, 1), (Status::Processing, 0), (Status::Rejected, 0)] {
        let found = activities::list(&store, deployment.id, &filter(status), FIRST).await.unwrap();
        assert_eq!((found.total, found.items.len()), (there, there as usize), "{status:?}");
    }
}

async fn only_the_node_it_belongs_to_ends_an_activity_and_only_once(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let (one, other) = (node(&store, deployment.id, "a").await, node(&store, deployment.id, "b").await);
    let (_, activities) = started(&store, &deployment, &[one]).await;
    let finished = completed(&activities[0]);
    assert!(!activities::finished(&store, other, &finished, NOW).await.unwrap());
    assert!(!activities::accepted(&store, other, activities[0].id, NOW).await.unwrap());
    assert!(!activities::progress(&store, other, activities[0].id, "x", NOW).await.unwrap());
    assert_eq!(state(&store, &activities[0]).await, activities[0]);
    assert!(activities::finished(&store, one, &finished, NOW).await.unwrap());
    let rejected = Outcome::rejected(Code::JobFailed, "it failed");
    let second = Finished { request: activities[0].id, outcome: rejected };
    assert!(!activities::finished(&store, one, &second, NOW + 9).await.unwrap());
    assert!(!activities::accepted(&store, one, activities[0].id, NOW + 9).await.unwrap());
    assert!(!activities::finished(&store, one, &Finished { request: 1, ..finished }, NOW).await.unwrap());
    let ended = state(&store, &activities[0]).await;
    assert_eq!((ended.state, ended.finished_at, ended.reason), (State::Completed, Some(NOW), None));
}

async fn the_events_of_an_action_have_no_gap_and_tell_it_all(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let (one, other) = (node(&store, deployment.id, "a").await, node(&store, deployment.id, "b").await);
    let (action, activities) = started(&store, &deployment, &[one, other]).await;
    assert!(activities::progress(&store, one, activities[0].id, "stopping", NOW).await.unwrap());
    assert!(activities::finished(&store, one, &completed(&activities[0]), NOW).await.unwrap());
    let failed = Outcome::rejected(Code::JobFailed, "it failed");
    let failed = Finished { request: activities[1].id, outcome: failed };
    assert!(activities::finished(&store, other, &failed, NOW).await.unwrap());
    let events = async_actions::events_after(&store, action.id, 0).await.unwrap();
    let told: Vec<_> = events.iter().map(|event| (event.version, event.kind.as_str())).collect();
    assert_eq!(told, [(1, "started"), (2, "progress"), (3, "node"), (4, "node"), (5, "finished")]);
    assert_eq!(
        events[1].data,
        json!({ "node_id": one, "activity_id": activities[0].id, "step": "stopping" })
    );
    let rejected = json!({ "node_id": other, "activity_id": activities[1].id, "status": "rejected",
                           "code": "job_failed" });
    assert_eq!(events[3].data, rejected);
    assert_eq!(events[4].data["finished_message"], "Restarted iggy on 1 of 2 nodes");
    assert_eq!(events[4].data["finished_success"], false);
    assert_eq!(async_actions::events_after(&store, action.id, 4).await.unwrap(), events[4..]);
}

async fn what_nobody_answers_ends_by_its_deadline(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let (one, other) = (node(&store, deployment.id, "a").await, node(&store, deployment.id, "b").await);
    let (action, activities) = started(&store, &deployment, &[one, other]).await;
    let (queued, sent) = (&activities[0], &activities[1]);
    assert!(activities::delivered(&store, sent.id, NOW).await.unwrap());
    let deadline = NOW + 60_000;
    assert_eq!(activities::overdue(&store, deadline - 1, 5_000).await.unwrap(), []);
    let overdue = activities::overdue(&store, deadline, 5_000).await.unwrap();
    assert_eq!(overdue, [(queued.id, State::Queued)]);
    assert!(!activities::delivered(&store, queued.id, deadline).await.unwrap(), "too late to send it");
    // What went on between the look and the change is left alone.
    let mut change = store.change().await.unwrap();
    assert_eq!(
        activities::reject_overdue(&mut change, &[(queued.id, State::Accepted)], deadline).await.unwrap(),
        0
    );
    assert_eq!(activities::reject_overdue(&mut change, &overdue, deadline).await.unwrap(), 1);
    change.commit().await.unwrap();
    assert_eq!(state(&store, queued).await.reason.unwrap().code, Code::NodeUnreachable);

    let overdue = activities::overdue(&store, deadline + 5_000, 5_000).await.unwrap();
    assert_eq!(overdue, [(sent.id, State::Delivered)]);
    let mut change = store.change().await.unwrap();
    assert_eq!(activities::reject_overdue(&mut change, &overdue, deadline + 5_000).await.unwrap(), 1);
    change.commit().await.unwrap();
    assert_eq!(state(&store, sent).await.reason.unwrap().code, Code::DeadlineExceeded);
    assert_eq!(kinds(&store, action.id).await.last().unwrap().1, "finished");
}

async fn what_comes_too_late_tells_the_unit_but_not_another_status(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let node = node(&store, deployment.id, "a").await;
    let (_, activities) = started(&store, &deployment, &[node]).await;
    assert!(activities::delivered(&store, activities[0].id, NOW).await.unwrap());
    let mut change = store.change().await.unwrap();
    let overdue = [(activities[0].id, State::Delivered)];
    assert_eq!(activities::reject_overdue(&mut change, &overdue, NOW + 99).await.unwrap(), 1);
    change.commit().await.unwrap();
    assert!(!activities::finished(&store, node, &completed(&activities[0]), NOW + 100).await.unwrap());
    let ended = state(&store, &activities[0]).await;
    assert_eq!((ended.state, ended.finished_at), (State::Rejected, Some(NOW + 99)));
    assert_eq!(ended.result.unwrap().took_ms, Some(7));
}

async fn cancelling_ends_what_was_not_sent_and_asks_back_the_rest(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let (one, other) = (node(&store, deployment.id, "a").await, node(&store, deployment.id, "b").await);
    let (action, activities) = started(&store, &deployment, &[one, other]).await;
    assert!(activities::delivered(&store, activities[1].id, NOW).await.unwrap());
    let mut notices = store.listen();
    let mut change = store.change().await.unwrap();
    activities::cancel(&mut change, action.id, NOW + 1).await.unwrap();
    change.commit().await.unwrap();
    let queued = state(&store, &activities[0]).await;
    assert_eq!((queued.state, queued.reason.unwrap().code), (State::Rejected, Code::Cancelled));
    let sent = activities::unfinished(&store, other, 0).await.unwrap();
    assert_eq!(sent[0].cancel_requested_at, Some(NOW + 1));
    let asked = Notice::Cancel { node: other, activity: activities[1].id };
    while notices.next().await.unwrap() != asked {}
    let cancelled = Outcome::rejected(Code::Cancelled, "before it took effect");
    let cancelled = Finished { request: activities[1].id, outcome: cancelled };
    assert!(activities::finished(&store, other, &cancelled, NOW + 2).await.unwrap());
    let action = async_actions::get(&store, Scope::ALL, action.id).await.unwrap().unwrap();
    assert_eq!(action.finished.unwrap().message, "Restarted iggy on 0 of 2 nodes");
    let kinds: Vec<String> = kinds(&store, action.id).await.into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, ["started", "cancelling", "node", "node", "finished"]);
}

async fn a_removed_node_leaves_nothing_open_and_its_credential_is_void(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let node = node(&store, deployment.id, "a").await;
    let (_, activities) = started(&store, &deployment, &[node]).await;
    assert!(activities::accepted(&store, node, activities[0].id, NOW).await.unwrap());
    let found = nodes::by_credential_hash(&store, "credential of a").await.unwrap().unwrap();
    assert_eq!((found.id, found.name.as_str()), (node, "a"));
    let mut change = store.change().await.unwrap();
    assert!(nodes::remove(&mut change, deployment.id, node, NOW + 1).await.unwrap());
    assert!(!nodes::remove(&mut change, deployment.id, node, NOW + 1).await.unwrap());
    assert_eq!(activities::end_for_removed_node(&mut change, node, NOW + 1).await.unwrap(), 1);
    change.commit().await.unwrap();
    assert_eq!(state(&store, &activities[0]).await.reason.unwrap().code, Code::NodeRemoved);
    assert_eq!(nodes::by_credential_hash(&store, "credential of a").await.unwrap(), None);
    assert_eq!(nodes::list(&store, deployment.id, FIRST).await.unwrap().items, []);
}

async fn many_nodes_ending_at_once_finish_their_action_once(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let mut nodes = Vec::new();
    for number in 0..24 {
        nodes.push(node(&store, deployment.id, &format!("n{number}")).await);
    }
    let (action, activities) = started(&store, &deployment, &nodes).await;
    let ends = activities.into_iter().map(|activity| {
        let store = store.clone();
        tokio::spawn(async move {
            let finished = completed(&activity);
            let (one, other) = tokio::join!(
                activities::finished(&store, activity.node_id, &finished, NOW),
                activities::finished(&store, activity.node_id, &finished, NOW),
            );
            usize::from(one.unwrap()) + usize::from(other.unwrap())
        })
    });
    for ended in ends.collect::<Vec<_>>() {
        assert_eq!(ended.await.unwrap(), 1);
    }
    let events = kinds(&store, action.id).await;
    let versions: Vec<u64> = events.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions, (1..=26).collect::<Vec<u64>>());
    assert_eq!(events.iter().filter(|(_, kind)| kind == "finished").count(), 1);
    let action = async_actions::get(&store, Scope::ALL, action.id).await.unwrap().unwrap();
    assert_eq!(action.finished.unwrap().message, "Restarted iggy on 24 of 24 nodes");
}

async fn a_fleet_is_asked_in_one_change(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let mut nodes = Vec::new();
    for number in 0..101 {
        nodes.push(node(&store, deployment.id, &format!("n{number}")).await);
    }
    let (action, activities) = started(&store, &deployment, &nodes).await;
    assert_eq!((action.total, activities.len()), (101, 101));
    for at in [0, 99, 100] {
        assert_eq!(activities::undelivered(&store, nodes[at]).await.unwrap(), activities[at..=at]);
    }
    let page = Page { page: 1, results: 200 };
    let mut listed = activities::list(&store, deployment.id, &Filter::default(), page).await.unwrap().items;
    listed.reverse();
    assert_eq!(listed, activities);
}

async fn a_token_makes_one_node_however_many_bring_it(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    token(&store, deployment.id, "once").await;
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let store = store.clone();
            tokio::spawn(async move {
                let hash = format!("credential {}", caller / 2);
                let host = Applicant { hostname: "host-1", credential_hash: &hash, address: "10.0.0.9" };
                enrolments::use_token(&store, "once", host, NOW + 999).await.unwrap()
            })
        })
        .collect();
    let mut made = Vec::new();
    for caller in callers {
        if let Some(node) = caller.await.unwrap() {
            made.push(node);
        }
    }
    let listed = nodes::list(&store, deployment.id, FIRST).await.unwrap();
    assert_eq!(made.len(), 2, "both calls of one host, and nobody else");
    assert_eq!(made[0], made[1]);
    assert_eq!(listed.items, made[..1]);
    assert_eq!(made[0].name, "host-1");
    let audit = audit::list(&store, Scope::ALL, FIRST).await.unwrap();
    assert_eq!((audit.total, audit.items[0].entry.action.as_str()), (1, "node.enrol"));
    assert_eq!(audit.items[0].entry.address.as_deref(), Some("10.0.0.9"));
}

async fn an_old_token_is_refused(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    token(&store, deployment.id, "old").await;
    let host = Applicant { hostname: "h", credential_hash: "c", address: "::1" };
    assert_eq!(enrolments::use_token(&store, "old", host, NOW + 1000).await.unwrap(), None);
    assert_eq!(enrolments::use_token(&store, "unknown", host, NOW).await.unwrap(), None);
    assert!(enrolments::use_token(&store, "old", host, NOW + 999).await.unwrap().is_some());
}

fn slot() -> Slot {
    Slot { api_key: 7, idempotency_key: "one".into() }
}

fn ok() -> Answer {
    Answer { status: 202, headers: vec![("ld-async-action".into(), "9".into())], body: "{}".into() }
}

async fn a_first_answer_is_replayed_until_it_is_too_old(backend: Backend) {
    let store = opened(&backend).await;
    let Claim::Mine(mine) = idempotency::claim(&store, &slot(), "a", NOW).await.unwrap() else {
        panic!("nobody else has it");
    };
    assert_eq!(idempotency::claim(&store, &slot(), "a", NOW + 1).await.unwrap(), Claim::Running);
    assert_eq!(idempotency::claim(&store, &slot(), "b", NOW + 1).await.unwrap(), Claim::Differs);
    let other = Slot { api_key: 8, ..slot() };
    assert!(matches!(idempotency::claim(&store, &other, "b", NOW).await.unwrap(), Claim::Mine(_)));
    let mut change = store.change().await.unwrap();
    assert!(idempotency::answer(&mut change, &slot(), mine, &ok()).await.unwrap());
    change.commit().await.unwrap();
    store.close().await;
    drop(store);
    let store = opened(&backend).await;
    assert_eq!(idempotency::claim(&store, &slot(), "a", NOW + 2).await.unwrap(), Claim::Answered(ok()));
    assert_eq!(idempotency::claim(&store, &slot(), "b", NOW + 599_999).await.unwrap(), Claim::Differs);
    let later = idempotency::claim(&store, &slot(), "b", NOW + 600_000).await.unwrap();
    assert!(matches!(later, Claim::Mine(_)), "{later:?}");
}

async fn a_claim_without_an_answer_is_taken_over_and_its_holder_commits_nothing(backend: Backend) {
    let store = opened(&backend).await;
    let Claim::Mine(first) = idempotency::claim(&store, &slot(), "a", NOW).await.unwrap() else {
        panic!("nobody else has it");
    };
    assert_eq!(idempotency::claim(&store, &slot(), "a", NOW + 59_999).await.unwrap(), Claim::Running);
    let second = idempotency::claim(&store, &slot(), "a", NOW + 60_000).await.unwrap();
    let Claim::Mine(second) = second else { panic!("{second:?}") };
    let mut change = store.change().await.unwrap();
    assert!(!idempotency::answer(&mut change, &slot(), first, &ok()).await.unwrap());
    assert!(idempotency::answer(&mut change, &slot(), second, &ok()).await.unwrap());
    change.commit().await.unwrap();

    let other = Slot { idempotency_key: "other".into(), ..slot() };
    let Claim::Mine(mine) = idempotency::claim(&store, &other, "a", NOW).await.unwrap() else {
        panic!("nobody else has it");
    };
    idempotency::release(&store, &other, mine).await.unwrap();
    assert!(matches!(idempotency::claim(&store, &other, "b", NOW).await.unwrap(), Claim::Mine(_)));
}

async fn notices_reach_every_listener_once_the_change_is_committed(backend: Backend) {
    let store = opened(&backend).await;
    // A second Supervisor, where there can be one.
    let other = match &backend {
        Backend::Sqlite(_) => store.clone(),
        Backend::Postgres { .. } => opened(&backend).await,
    };
    let mut notices = other.listen();
    let mut dropped = store.change().await.unwrap();
    dropped.notify(Notice::Wake(1));
    drop(dropped);
    let mut change = store.change().await.unwrap();
    (2..2000).for_each(|node| change.notify(Notice::Wake(node)));
    change.commit().await.unwrap();
    for node in 2..2000 {
        assert_eq!(notices.next().await, Some(Notice::Wake(node)));
    }
    if let Backend::Postgres { server, url, .. } = &backend {
        server.cut(url);
        assert_eq!(notices.next().await, Some(Notice::Missed));
        store.notify(Notice::Wake(7)).await.unwrap();
        while notices.next().await.unwrap() != Notice::Wake(7) {}
    }
}

async fn a_silent_node_is_marked_once_and_heals(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let id = node(&store, deployment.id, "a").await;
    let status = async |now| {
        let node = nodes::get(&store, deployment.id, id).await.unwrap().unwrap();
        (node.status(now).as_str(), node.unreachable_at)
    };
    assert_eq!(status(NOW).await, ("pending", None));
    nodes::seen(&store, id, NOW);
    assert_eq!(heartbeats::flush(&store, NOW).await.unwrap(), 1);
    assert_eq!(heartbeats::flush(&store, NOW).await.unwrap(), 0);
    assert_eq!(status(NOW + 119_999).await, ("online", None));
    let mark = async |now| {
        let mut change = store.change().await.unwrap();
        let marked = nodes::mark_unreachable(&mut change, now).await.unwrap();
        change.commit().await.unwrap();
        marked
    };
    assert_eq!(mark(NOW + 119_999).await, []);
    assert_eq!(mark(NOW + 120_000).await, [(id, "a".to_owned())]);
    assert_eq!(mark(NOW + 120_001).await, []);
    assert_eq!(status(NOW + 120_000).await, ("unreachable", Some(NOW + 120_000)));
    nodes::seen(&store, id, NOW + 130_000);
    heartbeats::flush(&store, NOW + 130_000).await.unwrap();
    assert_eq!(status(NOW + 130_000).await, ("online", None));
    assert_eq!(nodes::count(&store, NOW + 130_000).await.unwrap(), (1, 0));
}

fn heartbeat(now: i64) -> Heartbeat {
    let iggy = RuntimeState {
        runtime: Runtime::Iggy,
        unit: "iggy.service".into(),
        load_state: "loaded".into(),
        active_state: "active".into(),
        sub_state: "running".into(),
        main_pid: 7,
        since_ms: None,
        restarts: None,
        memory_bytes: None,
        cpu_ms: None,
        tasks: None,
        answers: None,
    };
    let host = Host { cpu: Some(0.25), ..Host::default() };
    Heartbeat { at_ms: now, host, agent: Agent::default(), runtimes: vec![iggy] }
}

async fn the_history_of_heartbeats_is_bounded(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let node = node(&store, deployment.id, "a").await;
    let (start, day) = (NOW - NOW % 300_000, 24 * 3_600_000);
    for minute in 0..26 * 60 {
        let now = start + minute * 60_000;
        heartbeats::record(&store, node, &heartbeat(now), now);
        heartbeats::flush(&store, now).await.unwrap();
    }
    let now = start + 26 * 3_600_000;
    let mut change = store.change().await.unwrap();
    while heartbeats::thin(&mut change, now).await.unwrap() > 0 {}
    change.commit().await.unwrap();
    let all = async |from, to| {
        let page = Page { page: 1, results: 10_000 };
        heartbeats::of_runtime(&store, node, "iggy", Span { from, to }, page).await.unwrap()
    };
    assert_eq!(all(now - 3_600_000, now).await.total, 60, "the last hour, one a minute");
    let older = all(0, now - 3_600_001).await;
    assert_eq!(older.total, 23 * 12, "one in five minutes of the 23 hours before");
    assert_eq!(older.items.last().unwrap().0, now - day);
    assert!(older.items.iter().all(|(at, _)| at % 300_000 == 0));
    let page = Page { page: 1, results: 1 };
    let of_host = heartbeats::of_host(&store, node, Span { from: 0, to: now }, page).await.unwrap();
    assert_eq!(of_host.total, 60 + 23 * 12);
    assert_eq!(of_host.items[0].1.host.cpu, Some(0.25));
    let newest = heartbeats::newest(&store, &[node, 1]).await.unwrap();
    assert_eq!(newest.len(), 1);
    let Newest { at, of_host, runtimes, .. } = &newest[0];
    let expected = heartbeat(now - 60_000);
    assert_eq!((*at, &of_host.host, runtimes), (now - 60_000, &expected.host, &expected.runtimes));
}

async fn state_survives_and_each_start_draws_other_ids(backend: Backend) {
    let mut drawn = BTreeSet::new();
    for start in 0..3 {
        let store = opened(&backend).await;
        assert_eq!(store.start(), start);
        assert!(drawn.insert(store.id(NOW)), "the clock stands still");
        if start == 0 {
            deployment(&store, "events-prod").await;
        }
        assert_eq!(deployments::list(&store, Scope::ALL, FIRST).await.unwrap().total, 1);
        if let Backend::Sqlite(_) = &backend {
            let refused = Store::open(&backend.database()).await.err().unwrap();
            assert!(refused.to_string().starts_with("another Supervisor runs on "), "{refused}");
        }
        store.close().await;
    }
}
