//! The store as the hub and the jobs use it.

mod activities;

use std::collections::BTreeSet;

use warden::protocol::{Agent, Heartbeat, Host, Runtime, RuntimeState};
use warden::supervisor::store::deployments::{self, Deployment, Plan, Scope};
use warden::supervisor::store::enrolments::{self, Applicant, Enrolment};
use warden::supervisor::store::heartbeats::{self, Newest, Span};
use warden::supervisor::store::idempotency::{self, Answer, Claim, Slot};
use warden::supervisor::store::{Notice, Page, Store, audit, nodes};

use super::Backend;
use super::administration::hello;

pub const NOW: i64 = 1_780_000_000_000;
pub const FIRST: Page = Page { page: 1, results: 100 };

super::on_both_stores!(
    a_token_makes_one_node_however_many_bring_it,
    an_old_token_is_refused,
    a_first_answer_is_replayed_until_it_is_too_old,
    a_claim_without_an_answer_is_taken_over_and_its_holder_commits_nothing,
    notices_reach_every_listener_once_the_change_is_committed,
    a_silent_node_is_marked_once_and_heals,
    a_node_whose_connection_ended_is_unreachable_after_a_grace_unless_it_is_back,
    nodes_of_a_supervisor_that_was_killed_are_unreachable_after_a_grace_unless_they_are_back,
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
        uses: 1,
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
    let audit = audit::list(&store, Scope::ALL, &audit::AuditFilter::default(), FIRST).await.unwrap();
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

async fn a_node_whose_connection_ended_is_unreachable_after_a_grace_unless_it_is_back(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let id = node(&store, deployment.id, "a").await;
    let status = async |now| {
        let node = nodes::get(&store, deployment.id, id).await.unwrap().unwrap();
        node.status(now).as_str()
    };
    nodes::hello(&store, id, &hello(id), NOW).await.unwrap();
    nodes::seen(&store, id, NOW + 30_000);
    nodes::unlinked(&store, id, NOW, NOW + 31_000);
    heartbeats::flush(&store, NOW + 31_000).await.unwrap();
    assert_eq!(status(NOW + 40_999).await, "online");
    assert_eq!(status(NOW + 41_000).await, "unreachable");
    assert_eq!(nodes::count(&store, NOW + 41_000).await.unwrap(), (1, 1));
    let mut change = store.change().await.unwrap();
    assert_eq!(nodes::mark_unreachable(&mut change, NOW + 40_999).await.unwrap(), []);
    assert_eq!(nodes::mark_unreachable(&mut change, NOW + 41_000).await.unwrap(), [(id, "a".to_owned())]);
    change.commit().await.unwrap();

    // What another Supervisor heard later is not undone by one that finds out late.
    nodes::hello(&store, id, &hello(id), NOW + 50_000).await.unwrap();
    nodes::unlinked(&store, id, NOW, NOW + 51_000);
    heartbeats::flush(&store, NOW + 51_000).await.unwrap();
    assert_eq!(status(NOW + 80_000).await, "online");
    assert_eq!(nodes::count(&store, NOW + 80_000).await.unwrap(), (1, 0));
    // Neither is a heartbeat.
    nodes::unlinked(&store, id, NOW + 50_000, NOW + 52_000);
    nodes::seen(&store, id, NOW + 53_000);
    heartbeats::flush(&store, NOW + 53_000).await.unwrap();
    assert_eq!(status(NOW + 80_000).await, "online");
}

async fn nodes_of_a_supervisor_that_was_killed_are_unreachable_after_a_grace_unless_they_are_back(
    backend: Backend,
) {
    let killed = opened(&backend).await;
    let deployment = deployment(&killed, "events-prod").await;
    let (away, back) =
        (node(&killed, deployment.id, "away").await, node(&killed, deployment.id, "back").await);
    for id in [away, back] {
        nodes::hello(&killed, id, &hello(id), NOW).await.unwrap();
    }
    let unlink = async |store: &Store| {
        let mut change = store.change().await.unwrap();
        let orphans = nodes::unlink_orphans(&mut change, NOW + 20_000).await.unwrap();
        change.commit().await.unwrap();
        orphans
    };
    assert_eq!(unlink(&killed).await, 0, "its own");
    if matches!(backend, Backend::Postgres { .. }) {
        assert_eq!(unlink(&opened(&backend).await).await, 0, "those of one that lives");
    }
    killed.close().await;
    drop(killed);

    let store = opened(&backend).await;
    nodes::hello(&store, back, &hello(back), NOW + 15_000).await.unwrap();
    // PostgreSQL finds out a moment later that a connection ended.
    let mut orphans = 0;
    for _ in 0..500 {
        orphans += unlink(&store).await;
        if orphans > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(orphans, 1);
    for (id, status) in [(away, "unreachable"), (back, "online")] {
        let node = nodes::get(&store, deployment.id, id).await.unwrap().unwrap();
        assert_eq!(node.status(NOW + 29_999).as_str(), "online");
        assert_eq!(node.status(NOW + 30_000).as_str(), status);
    }
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
