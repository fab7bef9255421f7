//! `/async_actions/{async_action_id}/events`: every change of an action as it happens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event as SentEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;

use super::Api;
use super::async_actions::action;
use super::auth::{Allowed, Read};
use super::extract::{Place, Query};
use super::json_types::Time;
use super::problem::Problem;
use super::streams::Stream;
use crate::store::async_actions::{self, AsyncAction, Event};
use crate::store::{Notice, Notices, keys};

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
/// before, send `Last-Event-ID` and it goes on after that. Of an action that has ended, `finished` is told whatever was
/// received before. A key follows at most 32 actions at once; its streams end when it is removed or expires.
#[utoipa::path(get, operation_id = "follow_async_action", path = "/async_actions/{async_action_id}/events", tag = "async actions",
    params(("last-event-id" = Option<u64>, Header, description = "The id of the last event that was received.")),
    responses(
        (status = OK, content_type = "text/event-stream", body = String,
         example = "id: 1\nevent: started\ndata: {\"action\":\"restart\",\"at\":\"2026-06-01T10:30:00Z\",\"metadata\":{\"runtime\":\"iggy\"},\"nodes\":1}\n\n"),
        (status = NOT_FOUND, description = "`async_action_not_found`"),
        (status = TOO_MANY_REQUESTS, description = "`rate_limited`; `too_many_streams`: of this key"),
    ))]
pub async fn follow(
    State(api): State<Api>,
    who: Allowed<Read>,
    place: Place,
    parts: Parts,
) -> Result<Response, Problem> {
    Query::read(&parts, &[])?;
    let received = last_event(&parts)?;
    let action = action(&api, &who.caller, &place).await?;
    let key = who.caller.key.id;
    let stream = api.streams.take(key)?;
    // From before the first look, so that nothing is missed in between.
    let notices = api.store.listen();
    let follower = Follower {
        api,
        action: action.id,
        after: begins_after(&action, received),
        key,
        notices,
        ready: VecDeque::new(),
        over: false,
        _stream: stream,
    };
    let events = stream::unfold(follower, |mut follower| async {
        let event = follower.next().await?;
        Some((Ok::<SentEvent, Infallible>(sent(&event)), follower))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // nginx would hold the events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// The event after which the stream begins. One of an action that has ended tells its end, if nothing else: whoever had
/// received it before would wait for ever.
fn begins_after(action: &AsyncAction, received: u64) -> u64 {
    let last = if action.finished.is_some() { action.version.saturating_sub(1) } else { action.version };
    received.min(last)
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
    /// Of whoever follows.
    key: u64,
    notices: Notices,
    ready: VecDeque<Event>,
    over: bool,
    _stream: Stream,
}

impl Follower {
    /// The next event; none when the action has ended, the key is good no more, or the Supervisor stops.
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
                let ours = [Notice::Changed(self.action), Notice::KeyRemoved(self.key), Notice::Missed];
                if ours.contains(&notice) {
                    return Some(());
                }
            }
        };
        tokio::select! {
            changed = changed => changed?,
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = self.api.stop.cancelled() => return None,
        }
        self.key_is_good().await.then_some(())
    }

    /// Whoever lost the right to ask is told nothing more.
    async fn key_is_good(&self) -> bool {
        match keys::by_id(&self.api.store, self.key).await {
            Ok(key) => key.is_some_and(|key| key.expires_at > self.api.now()),
            Err(error) => {
                tracing::warn!(%error, key = self.key, "cannot look at a key: its stream of events ends");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::async_actions::Finish;

    fn action(version: u64, finished: bool) -> AsyncAction {
        let finish = Finish { at: 1, success: true, message: String::new(), result: json!({}) };
        AsyncAction {
            id: 1,
            tenant_id: 1,
            deployment_id: 1,
            author_id: 1,
            author: String::new(),
            resource_type: String::new(),
            resource_id: 1,
            action: String::new(),
            started_via: String::new(),
            started_at: 0,
            metadata: json!({}),
            total: 1,
            ended: 0,
            completed: 0,
            version,
            cancel_requested_at: None,
            finished: finished.then_some(finish),
        }
    }

    #[test]
    fn the_end_of_an_action_is_told_whatever_was_received_before() {
        for (version, finished, received, after) in [
            (5, false, 0, 0),
            (5, false, 5, 5),
            (5, false, u64::MAX, 5),
            (5, true, 3, 3),
            (5, true, 5, 4),
            (5, true, u64::MAX, 4),
        ] {
            assert_eq!(begins_after(&action(version, finished), received), after, "{version} {received}");
        }
    }
}
