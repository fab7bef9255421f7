//! Activities in the store: each ends once, and so does the action they are part of.

use serde_json::json;
use warden::protocol::{Action, Code, Finished, Outcome, Reason, Runtime, UnitChange, Work};
use warden::supervisor::store::activities::{self, Activity, Filter, Order, State, Status};
use warden::supervisor::store::async_actions::{self, AsyncAction};
use warden::supervisor::store::deployments::{Deployment, Scope};
use warden::supervisor::store::{Notice, Page, Store, nodes, snapshots};

use super::{FIRST, NOW, deployment, node, opened};
use crate::supervisor::{Backend, on_both_stores};

on_both_stores!(
    an_activity_goes_from_queued_to_completed_and_each_step_counts_once,
    only_the_node_it_belongs_to_ends_an_activity_and_only_once,
    the_events_of_an_action_have_no_gap_and_tell_it_all,
    what_nobody_answers_ends_by_its_deadline,
    what_comes_too_late_tells_the_unit_but_not_another_status,
    what_a_node_logged_of_a_snapshot_is_learnt_also_when_its_answer_comes_too_late,
    cancelling_ends_what_was_not_sent_and_asks_back_the_rest,
    a_removed_node_leaves_nothing_open_and_its_credential_is_void,
    many_nodes_ending_at_once_finish_their_action_once,
    a_fleet_is_asked_in_one_change,
);

fn order(deployment: &Deployment, nodes: &[u64], work: Work) -> Order {
    Order {
        deployment: deployment.clone(),
        nodes: nodes.to_vec(),
        work,
        author_id: 42,
        author: "ops@example.com".into(),
        started_via: "api",
        deadline_at: NOW + 60_000,
    }
}

async fn started(store: &Store, deployment: &Deployment, nodes: &[u64]) -> (AsyncAction, Vec<Activity>) {
    let restart = Work::Activity { runtime: Runtime::Iggy, action: Action::Restart };
    let mut change = store.change().await.unwrap();
    let started = activities::start(&mut change, &order(deployment, nodes, restart), NOW).await.unwrap();
    change.commit().await.unwrap();
    started
}

fn completed(activity: &Activity) -> Finished {
    let result = UnitChange { unit: "iggy.service".into(), took_ms: Some(7), ..UnitChange::default() };
    Finished { request: activity.id, outcome: Outcome::Completed { result: Some(result) } }
}

async fn state(store: &Store, activity: &Activity) -> Activity {
    activities::get(store, activity.deployment_id, activity.id).await.unwrap().unwrap()
}

async fn kinds(store: &Store, action: u64) -> Vec<(u64, String)> {
    let events = async_actions::events_after(store, action, 0).await.unwrap();
    events.into_iter().map(|event| (event.version, event.kind)).collect()
}

async fn an_activity_goes_from_queued_to_completed_and_each_step_counts_once(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let node = node(&store, deployment.id, "a").await;
    let (action, activities) = started(&store, &deployment, &[node]).await;
    let [activity] = &activities[..] else { panic!("one node, one activity") };
    assert_eq!(activities::undelivered(&store, node).await.unwrap(), activities);
    assert_eq!(activity.request(NOW + 1000).deadline_ms, 59_000);

    assert!(activities::delivered(&store, activity.id, NOW + 1).await.unwrap());
    assert!(!activities::delivered(&store, activity.id, NOW + 1).await.unwrap(), "somebody sends it already");
    assert_eq!(activities::undelivered(&store, node).await.unwrap(), []);
    assert_eq!(activities::unfinished(&store, node, 0).await.unwrap().len(), 1);
    assert!(activities::accepted(&store, node, activity.id, NOW + 2).await.unwrap());
    assert!(
        activities::progress(&store, node, activity.id, &format!("\0{}", "s".repeat(999)), NOW + 3)
            .await
            .unwrap()
    );
    let running = state(&store, activity).await;
    assert_eq!((running.state, running.step.unwrap()), (State::Accepted, "s".repeat(200)));

    assert!(activities::finished(&store, node, &completed(activity), NOW + 4).await.unwrap());
    let ended = state(&store, activity).await;
    assert_eq!((ended.state, ended.finished_at, ended.step), (State::Completed, Some(NOW + 4), None));
    assert_eq!(ended.result.unwrap().took_ms, Some(7));
    assert_eq!(activities::unfinished(&store, node, 0).await.unwrap(), []);

    let action = async_actions::get(&store, Scope::ALL, action.id).await.unwrap().unwrap();
    let finish = action.finished.unwrap();
    assert_eq!((finish.success, finish.message.as_str()), (true, "Restarted iggy on 1 of 1 node"));
    let nodes = json!([{ "node_id": node, "status": "completed", "activity_id": activity.id }]);
    assert_eq!(finish.result, json!({ "nodes": nodes }));

    let filter = |status| Filter { node_id: Some(node), runtime: Some(Runtime::Iggy), status: Some(status) };
    for (status, there) in [(Status::Completed, 1), (Status::Processing, 0), (Status::Rejected, 0)] {
        let found = activities::list(&store, deployment.id, &filter(status), FIRST).await.unwrap();
        assert_eq!((found.total, found.items.len()), (there, there as usize), "{status:?}");
    }
}

async fn only_the_node_it_belongs_to_ends_an_activity_and_only_once(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let (one, other) = (node(&store, deployment.id, "a").await, node(&store, deployment.id, "b").await);
    let (_, activities) = started(&store, &deployment, &[one]).await;
    let finished = completed(&activities[0]);
    assert!(!activities::finished(&store, other, &finished, NOW).await.unwrap());
    assert!(!activities::accepted(&store, other, activities[0].id, NOW).await.unwrap());
    assert!(!activities::progress(&store, other, activities[0].id, "x", NOW).await.unwrap());
    assert_eq!(state(&store, &activities[0]).await, activities[0]);
    assert!(activities::finished(&store, one, &finished, NOW).await.unwrap());
    let rejected = Outcome::rejected(Code::JobFailed, "it failed");
    let second = Finished { request: activities[0].id, outcome: rejected };
    assert!(!activities::finished(&store, one, &second, NOW + 9).await.unwrap());
    assert!(!activities::accepted(&store, one, activities[0].id, NOW + 9).await.unwrap());
    assert!(!activities::finished(&store, one, &Finished { request: 1, ..finished }, NOW).await.unwrap());
    let ended = state(&store, &activities[0]).await;
    assert_eq!((ended.state, ended.finished_at, ended.reason), (State::Completed, Some(NOW), None));
}

async fn the_events_of_an_action_have_no_gap_and_tell_it_all(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let (one, other) = (node(&store, deployment.id, "a").await, node(&store, deployment.id, "b").await);
    let (action, activities) = started(&store, &deployment, &[one, other]).await;
    assert!(activities::progress(&store, one, activities[0].id, "stopping", NOW).await.unwrap());
    assert!(activities::finished(&store, one, &completed(&activities[0]), NOW).await.unwrap());
    let failed = Outcome::rejected(Code::JobFailed, "it failed");
    let failed = Finished { request: activities[1].id, outcome: failed };
    assert!(activities::finished(&store, other, &failed, NOW).await.unwrap());
    let events = async_actions::events_after(&store, action.id, 0).await.unwrap();
    let told: Vec<_> = events.iter().map(|event| (event.version, event.kind.as_str())).collect();
    assert_eq!(told, [(1, "started"), (2, "progress"), (3, "node"), (4, "node"), (5, "finished")]);
    assert_eq!(
        events[1].data,
        json!({ "node_id": one, "activity_id": activities[0].id, "step": "stopping" })
    );
    let rejected = json!({ "node_id": other, "activity_id": activities[1].id, "status": "rejected",
                           "code": "job_failed" });
    assert_eq!(events[3].data, rejected);
    assert_eq!(events[4].data["finished_message"], "Restarted iggy on 1 of 2 nodes");
    assert_eq!(events[4].data["finished_success"], false);
    assert_eq!(async_actions::events_after(&store, action.id, 4).await.unwrap(), events[4..]);
}

async fn what_nobody_answers_ends_by_its_deadline(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let (one, other) = (node(&store, deployment.id, "a").await, node(&store, deployment.id, "b").await);
    let (action, activities) = started(&store, &deployment, &[one, other]).await;
    let (queued, sent) = (&activities[0], &activities[1]);
    assert!(activities::delivered(&store, sent.id, NOW).await.unwrap());
    let deadline = NOW + 60_000;
    assert_eq!(activities::overdue(&store, deadline - 1, 5_000).await.unwrap(), []);
    let overdue = activities::overdue(&store, deadline, 5_000).await.unwrap();
    assert_eq!(overdue, [(queued.id, State::Queued)]);
    assert!(!activities::delivered(&store, queued.id, deadline).await.unwrap(), "too late to send it");
    // What went on between the look and the change is left alone.
    let mut change = store.change().await.unwrap();
    assert_eq!(
        activities::reject_overdue(&mut change, &[(queued.id, State::Accepted)], deadline).await.unwrap(),
        0
    );
    assert_eq!(activities::reject_overdue(&mut change, &overdue, deadline).await.unwrap(), 1);
    change.commit().await.unwrap();
    assert_eq!(state(&store, queued).await.reason.unwrap().code, Code::NodeUnreachable);

    let overdue = activities::overdue(&store, deadline + 5_000, 5_000).await.unwrap();
    assert_eq!(overdue, [(sent.id, State::Delivered)]);
    let mut change = store.change().await.unwrap();
    assert_eq!(activities::reject_overdue(&mut change, &overdue, deadline + 5_000).await.unwrap(), 1);
    change.commit().await.unwrap();
    assert_eq!(state(&store, sent).await.reason.unwrap().code, Code::DeadlineExceeded);
    assert_eq!(kinds(&store, action.id).await.last().unwrap().1, "finished");
}

async fn what_comes_too_late_tells_the_unit_but_not_another_status(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let node = node(&store, deployment.id, "a").await;
    let (_, activities) = started(&store, &deployment, &[node]).await;
    assert!(activities::delivered(&store, activities[0].id, NOW).await.unwrap());
    let mut change = store.change().await.unwrap();
    let overdue = [(activities[0].id, State::Delivered)];
    assert_eq!(activities::reject_overdue(&mut change, &overdue, NOW + 99).await.unwrap(), 1);
    change.commit().await.unwrap();
    assert!(!activities::finished(&store, node, &completed(&activities[0]), NOW + 100).await.unwrap());
    let ended = state(&store, &activities[0]).await;
    assert_eq!((ended.state, ended.finished_at), (State::Rejected, Some(NOW + 99)));
    assert_eq!(ended.result.unwrap().took_ms, Some(7));
}

async fn what_a_node_logged_of_a_snapshot_is_learnt_also_when_its_answer_comes_too_late(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let node = node(&store, deployment.id, "a").await;
    let work = Work::Snapshot {
        redact_secrets: true,
        include_iggy: true,
        offer: None,
        choice: warden::protocol::SnapshotChoice::default(),
    };
    let mut change = store.change().await.unwrap();
    let begun =
        snapshots::start(&mut change, order(&deployment, &[node], work), None, None, NOW).await.unwrap();
    change.commit().await.unwrap();
    let snapshot = begun.unwrap().1.remove(0);
    let known = async || snapshots::get(&store, deployment.id, snapshot.id).await.unwrap().unwrap();
    assert!(activities::delivered(&store, snapshot.id, NOW).await.unwrap());
    let mut change = store.change().await.unwrap();
    let overdue = [(snapshot.id, State::Delivered)];
    assert_eq!(activities::reject_overdue(&mut change, &overdue, NOW + 99).await.unwrap(), 1);
    change.commit().await.unwrap();
    assert_eq!(known().await.log, [""; 0]);
    let answer = |line: &str| {
        let journal = vec![line.to_owned()];
        let result = Some(UnitChange { unit: "warden.service".into(), journal, ..UnitChange::default() });
        let reason = Reason { code: Code::Internal, reason: "another one".into() };
        Finished { request: snapshot.id, outcome: Outcome::Rejected { reason, result } }
    };
    for line in ["a disk hangs", "told again"] {
        assert!(!activities::finished(&store, node, &answer(line), NOW + 100).await.unwrap());
    }
    let told = known().await;
    assert_eq!((told.completed_at, told.log), (Some(NOW + 99), vec!["a disk hangs".to_owned()]));
    assert_eq!(told.reason.unwrap().code, Code::DeadlineExceeded);
}

async fn cancelling_ends_what_was_not_sent_and_asks_back_the_rest(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let (one, other) = (node(&store, deployment.id, "a").await, node(&store, deployment.id, "b").await);
    let (action, activities) = started(&store, &deployment, &[one, other]).await;
    assert!(activities::delivered(&store, activities[1].id, NOW).await.unwrap());
    let mut notices = store.listen();
    let mut change = store.change().await.unwrap();
    activities::cancel(&mut change, action.id, NOW + 1).await.unwrap();
    change.commit().await.unwrap();
    let queued = state(&store, &activities[0]).await;
    assert_eq!((queued.state, queued.reason.unwrap().code), (State::Rejected, Code::Cancelled));
    let sent = activities::unfinished(&store, other, 0).await.unwrap();
    assert_eq!(sent[0].cancel_requested_at, Some(NOW + 1));
    let asked = Notice::Cancel { node: other, activity: activities[1].id };
    while notices.next().await.unwrap() != asked {}
    let cancelled = Outcome::rejected(Code::Cancelled, "before it took effect");
    let cancelled = Finished { request: activities[1].id, outcome: cancelled };
    assert!(activities::finished(&store, other, &cancelled, NOW + 2).await.unwrap());
    let action = async_actions::get(&store, Scope::ALL, action.id).await.unwrap().unwrap();
    assert_eq!(action.finished.unwrap().message, "Restarted iggy on 0 of 2 nodes");
    let kinds: Vec<String> = kinds(&store, action.id).await.into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, ["started", "cancelling", "node", "node", "finished"]);
}

async fn a_removed_node_leaves_nothing_open_and_its_credential_is_void(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let node = node(&store, deployment.id, "a").await;
    let (_, activities) = started(&store, &deployment, &[node]).await;
    assert!(activities::accepted(&store, node, activities[0].id, NOW).await.unwrap());
    let found = nodes::by_credential_hash(&store, "credential of a").await.unwrap().unwrap();
    assert_eq!((found.id, found.name.as_str()), (node, "a"));
    let mut change = store.change().await.unwrap();
    assert!(nodes::remove(&mut change, deployment.id, node, NOW + 1).await.unwrap());
    assert!(!nodes::remove(&mut change, deployment.id, node, NOW + 1).await.unwrap());
    assert_eq!(activities::end_for_removed_node(&mut change, node, NOW + 1).await.unwrap(), 1);
    change.commit().await.unwrap();
    assert_eq!(state(&store, &activities[0]).await.reason.unwrap().code, Code::NodeRemoved);
    assert_eq!(nodes::by_credential_hash(&store, "credential of a").await.unwrap(), None);
    assert_eq!(nodes::list(&store, deployment.id, FIRST).await.unwrap().items, []);
}

async fn many_nodes_ending_at_once_finish_their_action_once(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let mut nodes = Vec::new();
    for number in 0..24 {
        nodes.push(node(&store, deployment.id, &format!("n{number}")).await);
    }
    let (action, activities) = started(&store, &deployment, &nodes).await;
    let ends = activities.into_iter().map(|activity| {
        let store = store.clone();
        tokio::spawn(async move {
            let finished = completed(&activity);
            let (one, other) = tokio::join!(
                activities::finished(&store, activity.node_id, &finished, NOW),
                activities::finished(&store, activity.node_id, &finished, NOW),
            );
            usize::from(one.unwrap()) + usize::from(other.unwrap())
        })
    });
    for ended in ends.collect::<Vec<_>>() {
        assert_eq!(ended.await.unwrap(), 1);
    }
    let events = kinds(&store, action.id).await;
    let versions: Vec<u64> = events.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions, (1..=26).collect::<Vec<u64>>());
    assert_eq!(events.iter().filter(|(_, kind)| kind == "finished").count(), 1);
    let action = async_actions::get(&store, Scope::ALL, action.id).await.unwrap().unwrap();
    assert_eq!(action.finished.unwrap().message, "Restarted iggy on 24 of 24 nodes");
}

async fn a_fleet_is_asked_in_one_change(backend: Backend) {
    let store = opened(&backend).await;
    let deployment = deployment(&store, "events-prod").await;
    let mut nodes = Vec::new();
    for number in 0..101 {
        nodes.push(node(&store, deployment.id, &format!("n{number}")).await);
    }
    let (action, activities) = started(&store, &deployment, &nodes).await;
    assert_eq!((action.total, activities.len()), (101, 101));
    for at in [0, 99, 100] {
        assert_eq!(activities::undelivered(&store, nodes[at]).await.unwrap(), activities[at..=at]);
    }
    let page = Page { page: 1, results: 200 };
    let mut listed = activities::list(&store, deployment.id, &Filter::default(), page).await.unwrap().items;
    listed.reverse();
    assert_eq!(listed, activities);
}
