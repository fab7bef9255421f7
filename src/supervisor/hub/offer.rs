//! A node offers a snapshot that it took by itself: it becomes a run over that one node, within the plan. Where that is
//! full, it takes the place of the oldest one that a node took by itself.

use serde_json::json;
use warden_protocol::{OfferRefusal, SnapshotChoice, SnapshotOffered, ToNode, Work};

use super::Hub;
use crate::store::activities::Order;
use crate::store::audit::{self, Actor, Entry};
use crate::store::deployments::{self, Scope};
use crate::store::snapshots::{self, Cause, Refused, Replaceable, Status};
use crate::store::{Result, nodes};

/// Offers of one node that become runs within a day, however they end: as many as a policy can allow.
const OFFERS_A_DAY: u64 = 24;
const DAY_MS: i64 = 86_400_000;
/// How such a run is begun, in the words of async actions.
const STARTED_VIA: &str = "node";

impl Hub {
    /// Answers a node that has a snapshot. None: the request for it is on its way, or the node shall offer it again.
    pub(super) async fn offered(
        &self,
        node: u64,
        deployment: u64,
        offered: &SnapshotOffered,
    ) -> Option<ToNode> {
        let offer = offered.offer;
        match self.take_offer(node, deployment, offered).await {
            Ok(None) => None,
            Ok(Some((code, reason))) => {
                tracing::info!(
                    node,
                    offer,
                    ?code,
                    "a snapshot that a node took by itself is not taken on: {reason}"
                );
                Some(ToNode::OfferRefused { offer, code, reason })
            }
            Err(error) => {
                tracing::error!(node, offer, %error, "a snapshot that a node took by itself must wait");
                None
            }
        }
    }

    async fn take_offer(
        &self,
        node: u64,
        deployment: u64,
        offered: &SnapshotOffered,
    ) -> Result<Option<(OfferRefusal, String)>> {
        let (store, now) = (&self.inner.store, self.now());
        let known = nodes::get(store, deployment, node).await?;
        let Some((node, deployment)) = known.zip(deployments::get(store, Scope::ALL, deployment).await?)
        else {
            return Ok(None);
        };
        let mut change = store.change().await?;
        match snapshots::status_of_offer(&mut change, node.id, offered.offer).await? {
            // Offered twice: the request goes the way of all requests.
            Some(Status::Processing) => return Ok(None),
            Some(_) => return Ok(Some((OfferRefusal::NotWanted, "it is here already".to_owned()))),
            None => {}
        }
        if snapshots::offered_since(&mut change, node.id, now - DAY_MS).await? >= OFFERS_A_DAY {
            let reason = format!("this node has offered {OFFERS_A_DAY} snapshots within a day");
            return Ok(Some((OfferRefusal::LimitReached, reason)));
        }
        let order = Order {
            deployment: deployment.clone(),
            nodes: vec![node.id],
            work: Work::Snapshot {
                redact_secrets: true,
                include_iggy: false,
                offer: Some(offered.offer),
                choice: SnapshotChoice::default(),
            },
            author_id: node.id,
            author: node.name.clone(),
            started_via: STARTED_VIA,
            deadline_at: now + self.inner.limits.offer_deadline_ms,
        };
        let cause = Cause::told(offered, now);
        let detail =
            json!({ "trigger": cause.trigger, "reason": cause.reason, "taken_at_ms": cause.taken_at_ms });
        let reason = cause.reason.clone();
        let replaceable = Some(Replaceable::Automatic);
        let started = snapshots::start(&mut change, order, Some(cause), replaceable, now).await?;
        let run = match started {
            Ok((run, _)) => run.id,
            Err(refused) => return Ok(Some(refusal(refused))),
        };
        let entry = Entry {
            tenant_id: deployment.tenant_id,
            actor: Actor::Node { id: node.id, name: node.name },
            address: None,
            request: None,
            action: "snapshot.offer".to_owned(),
            deployment_id: Some(deployment.id),
            resource_type: "AsyncAction".to_owned(),
            resource_id: Some(run),
            detail,
        };
        audit::record(&mut change, entry, now).await?;
        change.commit().await?;
        tracing::info!(node = node.id, run, "a node took a snapshot by itself: {reason}");
        Ok(None)
    }
}

fn refusal(refused: Refused) -> (OfferRefusal, String) {
    match refused {
        Refused::InProgress => {
            (OfferRefusal::InProgress, "a snapshot of this deployment is under way".to_owned())
        }
        Refused::LimitReached(kept) => {
            let reason = format!(
                "the plan of this deployment has no place: {kept} snapshots are kept that were asked for, and one \
                 place is for the next of those"
            );
            (OfferRefusal::LimitReached, reason)
        }
        Refused::NoNodes => (OfferRefusal::Other, "there is no such node".to_owned()),
    }
}
