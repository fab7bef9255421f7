//! `/async_actions/{async_action_id}/events`: every change of an action as it happens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event as SentEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use super::Api;
use super::asked::{Place, Query};
use super::async_actions::action;
use super::identity::{Allowed, Read};
use super::problem::Problem;
use super::values::Time;
use crate::supervisor::store::async_actions::{self, Event};
use crate::supervisor::store::{Notice, Notices};

/// Something is sent at least this often, so that proxies keep the stream open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The store is looked at this often even if nobody said that something changed.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Where a client that was cut off says what it has.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Told by the last event of an action.
const FINISHED: &str = "finished";

/// Follow an async action
///
/// Server-sent events, from the first on: `started`, `progress` (what a node does right now), `node` (a node has
/// ended), `cancelling`, `finished`. The id counts from 1 without gaps. The stream ends after `finished`; cut off
/// before, send `Last-Event-ID` and it goes on after that.
#[utoipa::path(get, operation_id = "follow_async_action", path = "/async_actions/{async_action_id}/events", tag = "async actions",
    params(("last-event-id" = Option<u64>, Header, description = "The id of the last event that was received.")),
    responses(
        (status = OK, content_type = "text/event-stream", body = String,
         example = "id: 1\nevent: started\ndata: {\"action\":\"restart\",\"at\":\"2026-06-01T10:30:00Z\",\"metadata\":{\"runtime\":\"iggy\"},\"nodes\":1}\n\n"),
        (status = NOT_FOUND, description = "`async_action_not_found`"),
    ))]
pub async fn follow(
    State(api): State<Api>,
    who: Allowed<Read>,
    place: Place,
    parts: Parts,
) -> Result<Response, Problem> {
    Query::read(&parts, &[])?;
    let after = last_event(&parts)?;
    let action = action(&api, &who.caller, &place).await?.id;
    let Ok(permit) = Arc::clone(&api.streams).try_acquire_owned() else {
        return Err(Problem::unavailable("too many streams of events").coded("too_many_streams"));
    };
    // From before the first look, so that nothing is missed in between.
    let notices = api.store.listen();
    let follower =
        Follower { api, action, after, notices, ready: VecDeque::new(), over: false, _permit: permit };
    let events = stream::unfold(follower, |mut follower| async {
        let event = follower.next().await?;
        Some((Ok::<SentEvent, Infallible>(sent(&event)), follower))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // nginx would hold the events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn last_event(parts: &Parts) -> Result<u64, Problem> {
    let Some(value) = parts.headers.get(LAST_EVENT_ID) else { return Ok(0) };
    let id = value.to_str().ok().and_then(|text| text.parse().ok());
    id.ok_or_else(|| Problem::field("last-event-id", "invalid_value", "expected the id of an event"))
}

fn sent(event: &Event) -> SentEvent {
    let mut data = event.data.clone();
    data["at"] = json!(Time(event.at));
    SentEvent::default().id(event.version.to_string()).event(&event.kind).data(data.to_string())
}

struct Follower {
    api: Api,
    action: u64,
    /// The version of the last event that was handed out.
    after: u64,
    notices: Notices,
    ready: VecDeque<Event>,
    over: bool,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// The next event; none when the action has ended, or the Supervisor stops.
    async fn next(&mut self) -> Option<Event> {
        while self.ready.is_empty() {
            if self.over {
                return None;
            }
            match async_actions::events_after(&self.api.store, self.action, self.after).await {
                Ok(events) if events.is_empty() => self.wait().await?,
                Ok(events) => self.ready.extend(events),
                Err(error) => {
                    tracing::warn!(%error, action = self.action, "cannot read the events of an action");
                    return None;
                }
            }
        }
        let event = self.ready.pop_front()?;
        self.after = event.version;
        self.over = event.kind == FINISHED;
        Some(event)
    }

    async fn wait(&mut self) -> Option<()> {
        let changed = async {
            loop {
                let notice = self.notices.next().await?;
                if notice == Notice::Changed(self.action) || notice == Notice::Missed {
                    return Some(());
                }
            }
        };
        tokio::select! {
            changed = changed => changed,
            () = tokio::time::sleep(LOOK_AGAIN) => Some(()),
            () = self.api.stop.cancelled() => None,
        }
    }
}
