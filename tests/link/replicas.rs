//! Two Supervisors on one PostgreSQL: either takes a request, whichever holds the node's link.

use warden::protocol::{FromNode, Refusal, ToNode};

use super::node::{Node, hello};
use super::site::Site;
use crate::supervisor::Backend;

async fn two() -> (Site, Site) {
    let first = Site::start(Backend::postgres()).await;
    let second = first.beside().await;
    (first, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_one_supervisor_reaches_the_node_at_the_other() {
    let (first, second) = two().await;
    let (id, credential) = first.enrolled().await;
    let mut node = Node::link(second.address, id, &credential, "a").await;
    let request = first.order(id).await;
    assert_eq!(node.request().await.request, request);
    first.remove(id).await;
    assert_eq!(node.refused().await, Refusal::UnknownNode);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_moves_to_another_supervisor_leaves_the_first() {
    let (first, second) = two().await;
    let (id, credential) = first.enrolled().await;
    let mut old = Node::link(first.address, id, &credential, "a").await;
    let mut new = Node::link(second.address, id, &credential, "a").await;
    assert_eq!(old.hear().await, None);
    first.unlinked(id).await;
    let request = first.order(id).await;
    assert_eq!(new.request().await.request, request);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_supervisor_sent_in_vain_the_other_sends_again() {
    let (first, second) = two().await;
    let (id, credential) = first.enrolled().await;
    let network = crate::support::proxy::Proxy::before(first.address).await;
    let _old = Node::link(network.address, id, &credential, "a").await;
    network.stall();
    let lost = first.order(id).await;
    let mut new = Node::link(second.address, id, &credential, "a").await;
    assert_eq!(new.request().await.request, lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_at_another_supervisor_is_refused_and_gets_no_work() {
    let (first, second) = two().await;
    let (id, credential) = first.enrolled().await;
    let mut rightful = Node::link(first.address, id, &credential, "a").await;
    let answering = tokio::spawn(async move {
        let request = rightful.hear().await;
        (rightful, request)
    });
    let mut other = Node::dial(second.address, &credential).await.unwrap();
    other.say(&FromNode::Hello(hello(id, "b", Vec::new()))).await;
    other.welcome().await;
    let request = second.order(id).await;
    assert_eq!(other.refused().await, Refusal::DuplicateIdentity);
    let (mut rightful, sent) = answering.await.unwrap();
    assert!(matches!(sent, Some(ToNode::Request(sent)) if sent.request == request));

    // It is no less a stranger when it comes again.
    let answering = tokio::spawn(async move { rightful.hear().await });
    let mut other = Node::dial(second.address, &credential).await.unwrap();
    other.say(&FromNode::Hello(hello(id, "b", Vec::new()))).await;
    other.welcome().await;
    assert_eq!(other.refused().await, Refusal::DuplicateIdentity);
    let next = first.order(id).await;
    let sent = answering.await.unwrap();
    assert!(matches!(sent, Some(ToNode::Request(sent)) if sent.request == next));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_does_not_displace_one_that_is_held_back_itself() {
    let site = Site::start(Backend::postgres()).await;
    let (id, credential) = site.enrolled().await;
    drop(Node::link(site.address, id, &credential, "before its restart").await);
    site.unlinked(id).await;
    // Nothing is sent to it for a while: another agent was seen a moment ago.
    let mut first = Node::link(site.address, id, &credential, "a").await;
    let answering = tokio::spawn(async move { (first.hear().await, first) });
    for _ in 0..2 {
        let mut second = Node::dial(site.address, &credential).await.unwrap();
        second.say(&FromNode::Hello(hello(id, "b", Vec::new()))).await;
        assert_eq!(second.refused().await, Refusal::DuplicateIdentity);
    }
    let request = site.order(id).await;
    let (sent, _first) = answering.await.unwrap();
    assert!(matches!(sent, Some(ToNode::Request(sent)) if sent.request == request));
}
