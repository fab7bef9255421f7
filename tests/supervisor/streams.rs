//! Streams of events: how many a key may follow, and when one ends.

use serde_json::json;

use super::activities::events;
use super::served::Served;
use super::{Backend, until};

super::on_both_stores!(
    who_has_the_last_event_of_an_action_that_ended_is_told_its_end,
    the_streams_of_a_removed_key_end,
    a_key_follows_so_many_actions_and_leaves_places_to_others,
);

const STREAMS_OF_A_KEY: usize = 32;

/// The path of the events of a new action.
async fn an_action(served: &Served) -> (u64, String) {
    let deployment = served.deployment("events-prod").await;
    served.node(deployment, "a").await;
    let path = format!("/deployments/{deployment}/activities/iggy/restart");
    let id = served.post(&path, &json!({})).await.id("ld-async-action");
    (id, format!("/async_actions/{id}/events"))
}

async fn who_has_the_last_event_of_an_action_that_ended_is_told_its_end(backend: Backend) {
    let served = Served::start(&backend).await;
    let (id, path) = an_action(&served).await;
    let cancelled = served.post(&format!("/async_actions/{id}/cancel"), &json!({})).await;
    assert_eq!(cancelled.status, 202);
    let all = events(served.stream(&path, &[]).await, usize::MAX).await;
    let last = all.last().unwrap().clone();
    assert_eq!(last.1, "finished");
    for received in [last.0.to_string(), u64::MAX.to_string()] {
        let stream = served.stream(&path, &[("last-event-id", &received)]).await;
        assert_eq!(events(stream, usize::MAX).await, std::slice::from_ref(&last));
    }
    served.stop().await;
}

async fn the_streams_of_a_removed_key_end(backend: Backend) {
    let served = Served::start(&backend).await;
    let (_, path) = an_action(&served).await;
    let (key, secret) = served.key(json!({ "permissions": ["deployment:read"] })).await;
    let (_, other) = served.key(json!({ "permissions": ["deployment:read"] })).await;
    let removed = tokio::spawn(events(served.stream_as(&secret, &path, &[]).await, usize::MAX));
    let kept = tokio::spawn(events(served.stream_as(&other, &path, &[]).await, usize::MAX));
    assert_eq!(served.delete(&format!("/api_keys/{key}")).await.status, 204);
    assert_eq!(removed.await.unwrap().len(), 1, "what was told before");
    assert_eq!(served.stream_as(&secret, &path, &[]).await.status(), 401);
    assert!(!kept.is_finished());
    served.stop().await;
    assert_eq!(kept.await.unwrap().len(), 1);
}

async fn a_key_follows_so_many_actions_and_leaves_places_to_others(backend: Backend) {
    let served = Served::start(&backend).await;
    let (_, path) = an_action(&served).await;
    let (_, other) = served.key(json!({ "permissions": ["deployment:read"] })).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS_OF_A_KEY {
        let stream = served.stream(&path, &[]).await;
        assert_eq!(stream.status(), 200);
        streams.push(stream);
    }
    let refused = served.get(&path).await;
    assert_eq!(refused.problem(), (429, "too_many_streams".to_owned()));
    assert_eq!(refused.header("retry-after"), "10");
    assert_eq!(served.stream_as(&other, &path, &[]).await.status(), 200);
    drop(streams.pop());
    until(async || served.stream(&path, &[]).await.status() == 200).await;
    served.stop().await;
}
