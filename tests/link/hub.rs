//! The Supervisor's end, against nodes that do what they like.

use tokio_tungstenite::tungstenite::Message;
use warden::protocol::{
    Code, Finished, FromNode, Heartbeat, Host, MESSAGE_LIMIT, Outcome, PING_SECONDS, Refusal, ToNode,
};
use warden::secret::Secret;
use warden::supervisor::store::activities::State;
use warden::supervisor::store::deployments::Scope;
use warden::supervisor::store::heartbeats::{self, OfHost};
use warden::supervisor::store::{Page, audit};

use super::node::{Declined, Node, hello};
use super::site::{Site, now};
use super::until;
use crate::supervisor::Backend;
use crate::support::proxy::Proxy;

crate::supervisor::on_both_stores!(
    a_node_is_sent_what_waited_and_what_comes_and_settles_it_once,
    a_credential_nobody_has_is_declined,
    a_removed_node_is_cut_off_and_cannot_come_back,
    what_a_node_has_already_is_not_sent_again,
    what_was_on_its_way_when_the_link_broke_is_sent_again,
    a_request_the_node_lost_is_not_sent_again_but_ended,
    a_cancelled_request_is_asked_back,
    a_node_cannot_end_what_is_anothers,
    the_same_agent_takes_over_its_own_link,
    a_second_agent_with_the_identity_is_refused_while_the_first_lives,
    heartbeats_are_kept,
);

fn completed(request: u64) -> FromNode {
    FromNode::Finished(Finished { request, outcome: Outcome::Completed { result: None } })
}

async fn a_node_is_sent_what_waited_and_what_comes_and_settles_it_once(backend: Backend) {
    let site = Site::start(backend).await;
    let (id, credential) = site.enrolled().await;
    let waited = site.order(id).await;
    let mut node = Node::dial(site.address, &credential).await.unwrap();
    node.say(&FromNode::Hello(hello(id, "a", Vec::new()))).await;
    let welcome = node.welcome().await;
    assert_eq!((welcome.deployment, welcome.heartbeat_seconds), (site.deployment.id, 30));
    let request = node.request().await;
    assert_eq!((request.request, request.author.as_str()), (waited, "ops@example.com"));
    assert!((200_000..=300_000).contains(&request.deadline_ms), "{}", request.deadline_ms);
    let came = site.order(id).await;
    assert_eq!(node.request().await.request, came);
    for request in [waited, came] {
        node.say(&FromNode::Accepted { request }).await;
        node.say(&FromNode::Progress { request, step: "restarting".into() }).await;
        node.say(&completed(request)).await;
        assert_eq!(node.hear().await, Some(ToNode::Settled { request }));
        // What is settled is in the store: the word came after it.
        assert_eq!(site.activity(request).await.state, State::Completed);
    }
    // Told twice, settled twice, and nothing changes.
    let before = site.activity(waited).await;
    let outcome = Outcome::rejected(Code::JobFailed, "told again, and otherwise");
    node.say(&FromNode::Finished(Finished { request: waited, outcome })).await;
    assert_eq!(node.hear().await, Some(ToNode::Settled { request: waited }));
    assert_eq!(site.activity(waited).await, before);
}

async fn a_credential_nobody_has_is_declined(backend: Backend) {
    let site = Site::start(backend).await;
    site.enrolled().await;
    for wrong in ["wnode_wrong", "x"] {
        let declined = Node::dial(site.address, &Secret::new(wrong)).await.err().unwrap();
        assert_eq!(declined, Declined { status: 401, retry_after: None });
    }
    assert_eq!(site.hub.connections(), 0);
}

async fn a_removed_node_is_cut_off_and_cannot_come_back(backend: Backend) {
    let site = Site::start(backend).await;
    let (id, credential) = site.enrolled().await;
    let mut node = Node::link(site.address, id, &credential, "a").await;
    site.remove(id).await;
    assert_eq!(node.refused().await, Refusal::UnknownNode);
    assert_eq!(Node::dial(site.address, &credential).await.err().unwrap().status, 401);
}

async fn what_a_node_has_already_is_not_sent_again(backend: Backend) {
    let site = Site::start(backend).await;
    let (id, credential) = site.enrolled().await;
    let (known, unknown) = (site.order(id).await, site.order(id).await);
    let mut node = Node::link(site.address, id, &credential, "a").await;
    assert_eq!([node.request().await.request, node.request().await.request], [known, unknown]);
    node.say(&FromNode::Accepted { request: known }).await;
    until("it is accepted", async || (site.activity(known).await.state == State::Accepted).then_some(()))
        .await;
    drop(node);
    let mut node = Node::dial(site.address, &credential).await.unwrap();
    node.say(&FromNode::Hello(hello(id, "a", vec![known]))).await;
    node.welcome().await;
    assert_eq!(node.request().await.request, unknown);
    node.say(&completed(known)).await;
    assert_eq!(node.hear().await, Some(ToNode::Settled { request: known }));
}

async fn what_was_on_its_way_when_the_link_broke_is_sent_again(backend: Backend) {
    let site = Site::start(backend).await;
    let (id, credential) = site.enrolled().await;
    let network = Proxy::before(site.address).await;
    let _node = Node::link(network.address, id, &credential, "a").await;
    network.stall();
    let lost = site.order(id).await;
    until("it is on its way", async || (site.activity(lost).await.state == State::Delivered).then_some(()))
        .await;
    // The Supervisor does not know yet that the first link is dead.
    let mut node = Node::link(site.address, id, &credential, "a").await;
    assert_eq!(node.request().await.request, lost);
}

async fn a_request_the_node_lost_is_not_sent_again_but_ended(backend: Backend) {
    let site = Site::start(backend).await;
    let (id, credential) = site.enrolled().await;
    let lost = site.order(id).await;
    let mut node = Node::link(site.address, id, &credential, "a").await;
    assert_eq!(node.request().await.request, lost);
    node.say(&FromNode::Accepted { request: lost }).await;
    until("it is accepted", async || (site.activity(lost).await.state == State::Accepted).then_some(()))
        .await;
    drop(node);
    let mut node = Node::link(site.address, id, &credential, "a").await;
    let ended = site.ended(lost).await;
    assert_eq!(ended.reason.unwrap().code, Code::Interrupted);
    let next = site.order(id).await;
    assert_eq!(node.request().await.request, next);
}

async fn a_cancelled_request_is_asked_back(backend: Backend) {
    let site = Site::start(backend).await;
    let (id, credential) = site.enrolled().await;
    let mut node = Node::link(site.address, id, &credential, "a").await;
    let request = site.order(id).await;
    assert_eq!(node.request().await.request, request);
    let action = site.activity(request).await.async_action_id;
    let mut change = site.store.change().await.unwrap();
    warden::supervisor::store::activities::cancel(&mut change, action, now()).await.unwrap();
    change.commit().await.unwrap();
    assert_eq!(node.hear().await, Some(ToNode::Cancel { request }));
    // It is asked back again over the next link, until the node has answered.
    drop(node);
    let mut node = Node::dial(site.address, &credential).await.unwrap();
    node.say(&FromNode::Hello(hello(id, "a", vec![request]))).await;
    node.welcome().await;
    assert_eq!(node.hear().await, Some(ToNode::Cancel { request }));
}

async fn a_node_cannot_end_what_is_anothers(backend: Backend) {
    let site = Site::start(backend).await;
    let ((id, credential), (other, other_credential)) = (site.enrolled().await, site.enrolled().await);
    let request = site.order(id).await;
    let mut thief = Node::link(site.address, other, &other_credential, "b").await;
    thief.say(&completed(request)).await;
    assert_eq!(thief.hear().await, Some(ToNode::Settled { request }));
    assert_eq!(site.activity(request).await.state, State::Queued);
    let mut node = Node::link(site.address, id, &credential, "a").await;
    assert_eq!(node.request().await.request, request);
    // A credential speaks for its own node only.
    let mut thief = Node::dial(site.address, &other_credential).await.unwrap();
    thief.say(&FromNode::Hello(hello(id, "b", Vec::new()))).await;
    assert_eq!(thief.refused().await, Refusal::UnknownNode);
}

async fn the_same_agent_takes_over_its_own_link(backend: Backend) {
    let site = Site::start(backend).await;
    let (id, credential) = site.enrolled().await;
    let mut first = Node::link(site.address, id, &credential, "a").await;
    let mut second = Node::link(site.address, id, &credential, "a").await;
    assert_eq!(first.hear().await, None);
    let request = site.order(id).await;
    assert_eq!(second.request().await.request, request);
    assert_eq!(site.hub.connections(), 1);
}

async fn a_second_agent_with_the_identity_is_refused_while_the_first_lives(backend: Backend) {
    let site = Site::start(backend).await;
    let (id, credential) = site.enrolled().await;
    let network = Proxy::before(site.address).await;
    let mut first = Node::link(network.address, id, &credential, "a").await;
    // The first one answers pings only while somebody listens to it.
    let answering = tokio::spawn(async move {
        assert!(matches!(first.hear().await, Some(ToNode::Request(_))));
        first
    });
    for _ in 0..2 {
        let mut second = Node::dial(site.address, &credential).await.unwrap();
        second.say(&FromNode::Hello(hello(id, "b", Vec::new()))).await;
        assert_eq!(second.refused().await, Refusal::DuplicateIdentity);
    }
    let page = Page { page: 1, results: 100 };
    let told =
        audit::list(&site.store, Scope::ALL, &audit::AuditFilter::default(), page).await.unwrap().items;
    let told = told.iter().filter(|told| told.entry.action == "node.duplicate_identity").count();
    assert_eq!(told, 1, "a war of two machines is told once");
    site.order(id).await;
    let _first = answering.await.unwrap();
    network.stall();
    let _second = Node::link(site.address, id, &credential, "b").await;
}

async fn heartbeats_are_kept(backend: Backend) {
    let site = Site::start(backend).await;
    let (id, credential) = site.enrolled().await;
    let mut node = Node::link(site.address, id, &credential, "a").await;
    let heartbeat = Heartbeat {
        at_ms: 5,
        host: Host { load_1m: Some(0.5), ..Host::default() },
        agent: warden::protocol::Agent { resident_bytes: 7, cpu_ms: 9 },
        runtimes: Vec::new(),
    };
    node.say(&FromNode::Heartbeat(heartbeat.clone())).await;
    let kept =
        until("the heartbeat is kept", async || heartbeats::newest(&site.store, &[id]).await.unwrap().pop())
            .await;
    let of_host = OfHost { at_ms: 5, host: heartbeat.host, agent: heartbeat.agent };
    assert_eq!((kept.of_host, kept.runtimes), (of_host, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_ends_the_link_and_harms_nobody_else() {
    let site = Site::start(Backend::sqlite()).await;
    let (bystander, credential) = site.enrolled().await;
    let mut bystander_node = Node::link(site.address, bystander, &credential, "a").await;
    let (id, credential) = site.enrolled().await;
    let oversized = format!(r#"{{"v":1,"type":"accepted","request":1,"x":"{}"}}"#, "x".repeat(MESSAGE_LIMIT));
    let wrongs = [
        Message::text("{"),
        Message::text("\0"),
        Message::text(r#"{"v":2,"type":"accepted","request":1}"#),
        Message::text(r#"{"v":1,"type":"no_such_thing"}"#),
        Message::text(r#"{"v":1,"type":"accepted","request":-1}"#),
        Message::text("[".repeat(60_000)),
        Message::text(oversized),
        Message::binary(vec![0xff; 10]),
        Message::text(warden::protocol::encode(&FromNode::Hello(hello(id, "a", Vec::new()))).unwrap()),
    ];
    for wrong in wrongs {
        let shown: String = format!("{wrong:?}").chars().take(60).collect();
        let mut node = Node::link(site.address, id, &credential, "a").await;
        node.say_frame(wrong).await;
        match node.hear().await {
            Some(ToNode::Refused { code: Refusal::Malformed, .. }) => assert_eq!(node.hear().await, None),
            // A node that still writes is reset before it reads why.
            None => {}
            other => panic!("{shown}: {other:?}"),
        }
        site.unlinked(id).await;
    }
    // Before hello, too.
    let mut node = Node::dial(site.address, &credential).await.unwrap();
    node.say(&FromNode::Accepted { request: 1 }).await;
    assert_eq!(node.refused().await, Refusal::Malformed);
    let request = site.order(bystander).await;
    assert_eq!(bystander_node.request().await.request, request);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_stops_says_so_and_goes_on_where_it_stopped() {
    let site = Site::start(Backend::sqlite()).await;
    let (id, credential) = site.enrolled().await;
    let mut node = Node::link(site.address, id, &credential, "a").await;
    let request = site.order(id).await;
    assert_eq!(node.request().await.request, request);
    node.say(&FromNode::Accepted { request }).await;
    until("it is accepted", async || (site.activity(request).await.state == State::Accepted).then_some(()))
        .await;
    let ((), stopped) =
        tokio::join!(async { assert_eq!(node.refused().await, Refusal::GoingAway) }, site.stop());
    let site = stopped.start().await;
    let mut node = Node::dial(site.address, &credential).await.unwrap();
    node.say(&FromNode::Hello(hello(id, "a", vec![request]))).await;
    node.welcome().await;
    node.say(&completed(request)).await;
    assert_eq!(node.hear().await, Some(ToNode::Settled { request }));
    assert_eq!(site.activity(request).await.state, State::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_vanished_without_a_word_is_noticed() {
    let site = Site::start(Backend::sqlite()).await;
    let (id, credential) = site.enrolled().await;
    let network = Proxy::before(site.address).await;
    let _node = Node::link(network.address, id, &credential, "a").await;
    network.stall();
    let began = std::time::Instant::now();
    site.unlinked(id).await;
    // Not at once either: one lost packet is no dead node.
    assert!(began.elapsed().as_secs() >= 2 * PING_SECONDS, "{:?}", began.elapsed());
}
