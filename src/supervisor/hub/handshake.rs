//! A node says hello: it is who it says, it is the only one, and it hears what it missed.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use warden_protocol::{self as protocol, FromNode, Hello, Refusal, ToNode, Welcome};

use super::Hub;
use super::connection::End;
use super::registry::{Claim, Close, Seat};
use super::socket::{Failure, Received, Socket};
use crate::store::Notice;
use crate::store::audit::{self, Actor, Entry};
use crate::store::deployments::{self, Scope};
use crate::store::nodes::{self, Node};

/// For a node that has its websocket to say hello.
const HELLO_LIMIT: Duration = Duration::from_secs(10);
/// For a connection to show that it is alive when another agent wants its place. A node gives the hub 15 s to say
/// welcome.
const ALIVE_LIMIT: Duration = Duration::from_secs(5);
/// Connections that were broken off on the way take their time to end; a few tries are enough for a place to be free.
const CLAIMS: usize = 3;

impl Hub {
    /// One connection from its first message to its end.
    pub(super) async fn serve(self, node: Node, address: String, mut socket: Socket) {
        let stop = self.inner.stop.clone();
        let hello = tokio::select! {
            () = stop.cancelled() => Err(End::Closed(Close::GoingAway)),
            hello = hello(&mut socket, node.id) => hello,
        };
        let end = match hello {
            Ok(hello) => match self.seat(&node, &hello, &address).await {
                Ok(seat) => self.welcome(&node, hello, &seat, &mut socket).await,
                Err(end) => end,
            },
            Err(end) => end,
        };
        farewell(&node, end, socket).await;
    }

    /// A place for this agent, when no other lives in it.
    async fn seat(&self, node: &Node, hello: &Hello, address: &str) -> Result<Seat<'_>, End> {
        let mut dead = None;
        for _ in 0..CLAIMS {
            match self.inner.registry.claim(node.id, &hello.instance, dead) {
                Claim::Seated(seat) => return Ok(seat),
                Claim::Taken { alive, number, told } => match timeout(ALIVE_LIMIT, alive).await {
                    Ok(Ok(())) => {
                        self.inner.registry.refuse(node.id, &hello.instance);
                        if !told {
                            self.tell_duplicate(node, hello, address).await;
                        }
                        return Err(End::Closed(Close::Duplicate));
                    }
                    Ok(Err(_)) | Err(_) => dead = Some(number),
                },
            }
        }
        Err(End::Closed(Close::Duplicate))
    }

    /// What it says is kept before it is welcome: who is welcome elsewhere afterwards came later, for everybody.
    async fn welcome(&self, node: &Node, hello: Hello, seat: &Seat<'_>, socket: &mut Socket) -> End {
        let before = match Box::pin(self.arrive(node, &hello, seat.number)).await {
            Ok(before) => before,
            Err(end) => return end,
        };
        let welcome = Welcome {
            deployment: node.deployment_id,
            heartbeat_seconds: self.inner.limits.heartbeat_seconds,
            takes_offers: self.inner.uploads.is_some(),
        };
        if let Err(failure) = socket.send(&ToNode::Welcome(welcome)).await {
            return End::Failed(failure);
        }
        let instance = &hello.instance;
        tracing::info!(node = node.id, deployment = node.deployment_id, instance, "a node is linked");
        let instance = instance.clone();
        let linked_at = self.now();
        let end = self.carry(&before, hello, seat, socket).await;
        self.unlinked(node.id, seat.number, linked_at, &end);
        if let End::Closed(Close::Duplicate) = &end {
            self.take_back(&before, &instance).await;
        }
        end
    }

    /// The other agent was first: what it said of itself is what the node is, and this one is met as a stranger when it
    /// comes again.
    async fn take_back(&self, before: &Node, instance: &str) {
        let Some(hello) = &before.hello else { return };
        if let Err(error) = nodes::restore_hello(&self.inner.store, before.id, instance, hello).await {
            tracing::warn!(node = before.id, %error, "what a second agent said of a node is kept");
        }
    }

    /// A node that is connected anew, here or elsewhere, has not left; and one that comes back to a Supervisor that is
    /// started anew need not be told to have been away.
    fn unlinked(&self, node: u64, connection: u64, linked_at: i64, end: &End) {
        let is_gone = match end {
            End::Failed(_) | End::Silent | End::WrongNode(_) | End::Store(_) => true,
            End::Closed(
                Close::Replaced | Close::Silent | Close::Duplicate | Close::Removed | Close::GoingAway,
            ) => false,
        };
        if is_gone && self.inner.registry.holds(node, connection) {
            nodes::unlinked(&self.inner.store, node, linked_at, self.now());
        }
    }

    /// Keeps what the node said, and tells the other Supervisors. The node as it was until now.
    async fn arrive(&self, node: &Node, hello: &Hello, connection: u64) -> Result<Node, End> {
        let store = &self.inner.store;
        // Between the look at the credential and now the node could have been removed.
        let before = nodes::get(store, node.deployment_id, node.id).await?;
        let before = before.ok_or(End::Closed(Close::Removed))?;
        let arrived = Notice::Arrived {
            node: node.id,
            instance: hello.instance.clone(),
            supervisor: store.start(),
            connection,
        };
        let hello = Hello { open: Vec::new(), ..hello.clone() };
        self.inner.scribe.hello(node.id, hello, arrived).await?;
        Ok(before)
    }

    /// A node of ours has connected to another Supervisor. The same agent left us; another is told, if ours lives.
    pub(super) fn elsewhere(&self, node: u64, instance: String) {
        let registry = &self.inner.registry;
        match registry.instance(node) {
            None => {}
            Some(own) if *own == *instance => registry.close(node, Close::Replaced),
            Some(_) => {
                let hub = self.clone();
                self.inner.connections.spawn(async move {
                    let Some((alive, number)) = hub.inner.registry.probe(node, &instance) else { return };
                    if let Ok(Ok(())) = timeout(ALIVE_LIMIT, alive).await {
                        let contested = Notice::Contested { node, instance };
                        if let Err(error) = hub.inner.store.notify(contested).await {
                            tracing::warn!(node, %error, "another Supervisor was not told of a duplicate");
                        }
                    } else {
                        hub.inner.registry.close_number(node, number, Close::Silent);
                    }
                });
            }
        }
    }

    /// Two agents with one identity: a copied machine, or a stolen credential.
    async fn tell_duplicate(&self, node: &Node, hello: &Hello, address: &str) {
        let hostname: String = hello.host.hostname.chars().take(253).collect();
        tracing::warn!(
            node = node.id,
            address,
            hostname,
            "a second agent with the identity of a connected node was refused"
        );
        let recorded = async {
            let store = &self.inner.store;
            let deployment = deployments::get(store, Scope::ALL, node.deployment_id).await?;
            let Some(deployment) = deployment else { return Ok(()) };
            let entry = Entry {
                tenant_id: deployment.tenant_id,
                actor: Actor::Node { id: node.id, name: node.name.clone() },
                address: Some(address.to_owned()),
                request: None,
                action: "node.duplicate_identity".to_owned(),
                deployment_id: Some(node.deployment_id),
                resource_type: "Node".to_owned(),
                resource_id: Some(node.id),
                detail: json!({ "hostname": hostname }),
            };
            let mut change = store.change().await?;
            audit::record(&mut change, entry, self.now()).await?;
            change.commit().await
        };
        if let Err(error) = recorded.await {
            tracing::error!(node = node.id, %error, "a duplicate identity is missing in the audit");
        }
    }
}

/// The first message: hello, of the node the credential is of.
async fn hello(socket: &mut Socket, node: u64) -> Result<Hello, End> {
    let first = timeout(HELLO_LIMIT, async {
        loop {
            match socket.receive().await {
                Ok(Received::Text(text)) => return Ok(text),
                Ok(Received::Sign) => {}
                Err(failure) => return Err(End::Failed(failure)),
            }
        }
    });
    let text = first.await.unwrap_or(Err(End::Failed(Failure::Malformed("no hello".to_owned()))))?;
    match protocol::decode(&text) {
        Ok(FromNode::Hello(hello)) if hello.node != node => {
            Err(End::WrongNode("the credential is of another node".to_owned()))
        }
        Ok(FromNode::Hello(hello)) if (1..=64).contains(&hello.instance.len()) => Ok(hello),
        Ok(_) => Err(End::Failed(Failure::Malformed("the first message must be hello".to_owned()))),
        Err(error) => Err(End::Failed(Failure::Malformed(error.to_string()))),
    }
}

/// Tells the node why, and the log.
async fn farewell(node: &Node, end: End, mut socket: Socket) {
    let (code, reason) = match end {
        End::Failed(Failure::Gone(why)) => {
            tracing::info!(node = node.id, "a node's link ended: {why}");
            return;
        }
        End::Failed(Failure::Slow) => {
            tracing::warn!(node = node.id, "a node does not read what it is sent: its link was cut");
            return;
        }
        End::Silent => {
            tracing::warn!(node = node.id, "a node fell silent: its link was cut");
            return;
        }
        End::Store(error) => {
            tracing::error!(node = node.id, %error, "the store failed: a node's link was closed");
            (Refusal::GoingAway, "the Supervisor cannot keep what it is told now".to_owned())
        }
        End::Failed(Failure::Malformed(why)) => {
            tracing::warn!(node = node.id, "a node said what is no message: {why}");
            (Refusal::Malformed, why)
        }
        End::WrongNode(why) => {
            tracing::warn!(node = node.id, "{why}");
            (Refusal::UnknownNode, why)
        }
        End::Closed(Close::Replaced | Close::Silent) => {
            tracing::info!(node = node.id, "an older link of a node was closed");
            return socket.close(CloseCode::Normal, "replaced").await;
        }
        End::Closed(Close::Duplicate) => {
            (Refusal::DuplicateIdentity, "another agent speaks for this node".to_owned())
        }
        End::Closed(Close::Removed) => (Refusal::UnknownNode, "the node was removed".to_owned()),
        End::Closed(Close::GoingAway) => (Refusal::GoingAway, "the Supervisor stops".to_owned()),
    };
    if socket.send(&ToNode::Refused { code, reason }).await.is_ok() {
        socket.close(CloseCode::Normal, "").await;
    }
}
