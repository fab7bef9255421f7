//! Snapshots that a node took by itself: how the Supervisor takes them on, and how an agent offers them.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;
use warden::protocol::{
    Code, Finished, FromNode, OfferRefusal, Outcome, Request, SnapshotChoice, SnapshotOffered, ToNode,
    Trigger, Work,
};
use warden::secret::Secret;
use warden::supervisor::store::activities::Order;
use warden::supervisor::store::audit::{self, Actor};
use warden::supervisor::store::deployments::Scope;
use warden::supervisor::store::snapshots::{self, Cause, Snapshot, Status};
use warden::supervisor::store::{Page, nodes};

use super::fake::Supervisor;
use super::node::Node;
use super::site::{Agent, Site, enrolled, now};
use super::until;
use crate::supervisor::Backend;
use crate::supervisor::snapshots::stored;

crate::supervisor::on_both_stores!(
    an_offer_becomes_a_run_over_its_node_and_is_asked_for_once,
    an_offer_is_refused_while_a_run_is_under_way_or_the_plan_has_no_place_but_the_last,
    an_offer_takes_the_place_of_the_oldest_snapshot_that_nobody_asked_for,
    an_offer_that_failed_may_be_made_again,
    offers_without_an_archive_take_no_place_of_the_plan,
);

const FIRST: Page = Page { page: 1, results: 100 };
/// A node that hears nothing for so long offers again: what comes too fast is not looked at.
const AGAIN: Duration = Duration::from_secs(1);

fn offered(offer: u64) -> SnapshotOffered {
    let reason = "iggy.service was killed\u{1b} for memory".to_owned();
    SnapshotOffered { offer, trigger: Trigger::OutOfMemory, reason, taken_at_ms: now() - 5_000 }
}

/// What the Supervisor says to an offer.
async fn offers(node: &mut Node, offer: u64) -> ToNode {
    loop {
        node.say(&FromNode::SnapshotOffered(offered(offer))).await;
        if let Ok(answer) = timeout(AGAIN, node.hear()).await {
            return answer.unwrap();
        }
    }
}

async fn asked_for(node: &mut Node, offer: u64) -> Request {
    match offers(node, offer).await {
        ToNode::Request(request) => request,
        other => panic!("{other:?}"),
    }
}

async fn refused(node: &mut Node, offer: u64) -> OfferRefusal {
    match offers(node, offer).await {
        ToNode::OfferRefused { offer: told, code, .. } if told == offer => code,
        other => panic!("{other:?}"),
    }
}

async fn ends(node: &mut Node, request: u64, outcome: Outcome) {
    node.say(&FromNode::Finished(Finished { request, outcome })).await;
    assert_eq!(node.hear().await, Some(ToNode::Settled { request }));
}

async fn listed(site: &Site) -> Vec<Snapshot> {
    snapshots::list(&site.store, site.deployment.id, None, FIRST).await.unwrap().items
}

async fn an_offer_becomes_a_run_over_its_node_and_is_asked_for_once(backend: Backend) {
    let site = Site::start(backend).await;
    let (id, credential) = site.enrolled().await;
    let _other = site.enrolled().await;
    let mut node = Node::dial(site.address, &credential).await.unwrap();
    node.say(&FromNode::Hello(super::node::hello(id, "a", Vec::new()))).await;
    assert!(node.welcome().await.takes_offers);
    let request = asked_for(&mut node, 7).await;
    assert_eq!(
        request.work,
        Work::Snapshot {
            redact_secrets: true,
            include_iggy: false,
            offer: Some(7),
            choice: SnapshotChoice::default()
        }
    );
    let name = nodes::get(&site.store, site.deployment.id, id).await.unwrap().unwrap().name;
    assert_eq!(request.author, name);
    assert!((1_000_000..=1_800_000).contains(&request.deadline_ms), "{}", request.deadline_ms);
    // Told twice, as after a connection that broke: nothing follows from that.
    node.say(&FromNode::SnapshotOffered(offered(7))).await;
    assert_eq!(refused(&mut node, 8).await, OfferRefusal::InProgress);
    stored(&site.store, id, request.request).await;
    ends(&mut node, request.request, Outcome::Completed { result: None }).await;
    assert_eq!(refused(&mut node, 7).await, OfferRefusal::NotWanted);

    let rows = listed(&site).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((rows[0].id, rows[0].node_id, rows[0].status), (request.request, id, Status::Completed));
    let Cause { offer, trigger, reason, taken_at_ms } = rows[0].cause.clone().unwrap();
    assert_eq!(
        (offer, trigger, reason.as_str()),
        (7, Trigger::OutOfMemory, "iggy.service was killed for memory")
    );
    assert!((0..600_000).contains(&(now() - taken_at_ms)));
    let audited =
        audit::list(&site.store, Scope::ALL, &audit::AuditFilter::default(), FIRST).await.unwrap().items;
    let entry = &audited.iter().find(|recorded| recorded.entry.action == "snapshot.offer").unwrap().entry;
    assert_eq!(entry.actor, Actor::Node { id, name });
    assert_eq!((entry.resource_id, entry.deployment_id), (Some(rows[0].run_id), Some(site.deployment.id)));
    assert_eq!(entry.detail["trigger"], json!("out_of_memory"));
}

async fn an_offer_is_refused_while_a_run_is_under_way_or_the_plan_has_no_place_but_the_last(
    backend: Backend,
) {
    // Its plan keeps three.
    let site = Site::start(backend).await;
    let (id, credential) = site.enrolled().await;
    let mut node = Node::link(site.address, id, &credential, "a").await;
    for _ in [1, 2] {
        taken_for_somebody(&site, &mut node, id).await;
    }
    assert_eq!(refused(&mut node, 3).await, OfferRefusal::LimitReached);
    assert_eq!(listed(&site).await.len(), 2);
}

/// A snapshot that somebody asked for.
async fn taken_for_somebody(site: &Site, node: &mut Node, id: u64) {
    let order = Order {
        deployment: site.deployment.clone(),
        nodes: vec![id],
        work: Work::Snapshot {
            redact_secrets: true,
            include_iggy: true,
            offer: None,
            choice: SnapshotChoice::default(),
        },
        author_id: 42,
        author: "ops@example.com".into(),
        started_via: "api",
        deadline_at: now() + 300_000,
    };
    let mut change = site.store.change().await.unwrap();
    snapshots::start(&mut change, order, None, None, now()).await.unwrap().unwrap();
    change.commit().await.unwrap();
    let request = node.request().await.request;
    stored(&site.store, id, request).await;
    ends(node, request, Outcome::Completed { result: None }).await;
}

async fn an_offer_takes_the_place_of_the_oldest_snapshot_that_nobody_asked_for(backend: Backend) {
    // Its plan keeps three.
    let site = Site::start(backend).await;
    let (id, credential) = site.enrolled().await;
    let mut node = Node::link(site.address, id, &credential, "a").await;
    taken_for_somebody(&site, &mut node, id).await;
    for offer in [1, 2, 3] {
        let request = asked_for(&mut node, offer).await.request;
        stored(&site.store, id, request).await;
        ends(&mut node, request, Outcome::Completed { result: None }).await;
    }
    let kept: Vec<Option<u64>> =
        listed(&site).await.into_iter().map(|row| row.cause.map(|cause| cause.offer)).collect();
    assert_eq!(kept, [Some(3), None], "the place of the plan that is left stays free");
    taken_for_somebody(&site, &mut node, id).await;
    let request = asked_for(&mut node, 4).await.request;
    stored(&site.store, id, request).await;
    ends(&mut node, request, Outcome::Completed { result: None }).await;
    let kept: Vec<Option<u64>> =
        listed(&site).await.into_iter().map(|row| row.cause.map(|cause| cause.offer)).collect();
    assert_eq!(kept, [Some(4), None, None]);
    let filter = audit::AuditFilter { action: Some("snapshot.remove".into()), ..Default::default() };
    let removed = audit::list(&site.store, Scope::ALL, &filter, FIRST).await.unwrap().items;
    assert_eq!(removed.len(), 3);
    assert_eq!(removed[0].entry.detail, json!({ "replaced_by": listed(&site).await[0].run_id }));
}

async fn an_offer_that_failed_may_be_made_again(backend: Backend) {
    let site = Site::start(backend).await;
    let (id, credential) = site.enrolled().await;
    let mut node = Node::link(site.address, id, &credential, "a").await;
    let first = asked_for(&mut node, 5).await.request;
    ends(&mut node, first, Outcome::rejected(Code::NodeUnreachable, "away")).await;
    let again = asked_for(&mut node, 5).await.request;
    assert_ne!(first, again);
    assert_eq!(listed(&site).await.len(), 2);
}

async fn offers_without_an_archive_take_no_place_of_the_plan(backend: Backend) {
    // Its plan keeps three, of which two are for offers.
    let site = Site::start(backend).await;
    let (id, credential) = site.enrolled().await;
    let mut node = Node::link(site.address, id, &credential, "a").await;
    for offer in 1..=4 {
        let request = asked_for(&mut node, offer).await.request;
        ends(&mut node, request, Outcome::Completed { result: None }).await;
    }
    let rows = listed(&site).await;
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row.status == Status::Failed), "{rows:?}");
}

/// An agent with a snapshot of its own in its outbox.
fn agent_with_an_offer(supervisor: &Supervisor) -> Agent {
    let folder = enrolled(&supervisor.url(), 7, &Secret::new("wnode_c4n4ry"));
    let outbox = folder.path().join("state/outbox");
    std::fs::create_dir_all(&outbox).unwrap();
    let write = |name: &str, text: &str| std::fs::write(outbox.join(name), text).unwrap();
    write("offer-77.zip", "abc");
    write("offer-77.json", r#"{"size":3,"sha256":"00","verdict":"warn"}"#);
    write(
        "offer-77.offer",
        r#"{"trigger":"unit_failed","reason":"iggy.service failed","taken_at_ms":5,"begun":1,"refused":0}"#,
    );
    Agent::start(folder)
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("state/outbox")).unwrap().count()
}

#[tokio::test]
async fn what_waits_in_the_outbox_is_offered_until_it_is_asked_for_or_not_wanted() {
    let supervisor = Supervisor::start().await;
    let agent = agent_with_an_offer(&supervisor);
    let expected = SnapshotOffered {
        offer: 77,
        trigger: Trigger::UnitFailed,
        reason: "iggy.service failed".to_owned(),
        taken_at_ms: 5,
    };
    // A connection that breaks takes the offer with it.
    for _ in 0..2 {
        let mut link = supervisor.welcomed().await;
        loop {
            match link.hear().await.unwrap() {
                FromNode::SnapshotOffered(told) => break assert_eq!(told, expected),
                FromNode::Heartbeat(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    let mut link = supervisor.welcomed().await;
    while !matches!(link.hear().await.unwrap(), FromNode::SnapshotOffered(_)) {}
    let reason = "a run is under way".to_owned();
    link.say(&ToNode::OfferRefused { offer: 77, code: OfferRefusal::InProgress, reason }).await;
    let note = agent.folder.path().join("state/outbox/offer-77.offer");
    until("the refusal is remembered", async || {
        std::fs::read_to_string(&note).ok()?.contains("\"refused\":1").then_some(())
    })
    .await;
    let reason = "it is here".to_owned();
    link.say(&ToNode::OfferRefused { offer: 77, code: OfferRefusal::NotWanted, reason }).await;
    until("it is given up", async || (files(agent.folder.path()) == 0).then_some(())).await;
}

#[tokio::test]
async fn a_supervisor_from_before_there_were_offers_is_offered_nothing() {
    let supervisor = Supervisor::start().await;
    let agent = agent_with_an_offer(&supervisor);
    let mut link = supervisor.link().await;
    link.hello().await;
    link.welcome_as(false).await;
    // The offer was due before the end of this request is told.
    let work = Work::Activity {
        runtime: warden::protocol::Runtime::Iggy,
        action: warden::protocol::Action::Reconfigure(42),
    };
    let request = Request { request: 9, work, author: "ops".into(), deadline_ms: 60_000 };
    while !matches!(link.hear().await.unwrap(), FromNode::Heartbeat(_)) {}
    link.say(&ToNode::Request(request)).await;
    loop {
        match link.hear().await.unwrap() {
            FromNode::Finished(_) => break,
            FromNode::SnapshotOffered(_) => panic!("it would not understand"),
            _ => {}
        }
    }
    assert_eq!(files(agent.folder.path()), 3, "it waits for a newer one");
}
