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
    let (_rightful, sent) = answering.await.unwrap();
    assert!(matches!(sent, Some(ToNode::Request(sent)) if sent.request == request));
}
