//! Waiting until activities have ended on every node, telling of each as it goes.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use indicatif::ProgressBar;
use serde_json::Value;
use warden_client::Failure;
use warden_host::quantity;

use super::context::Session;
use super::pagination::Page;
use super::runtime_actions::label;
use crate::cli::terminal::{Painter, Style, harmless};

/// The first pause between two looks; a fast restart is over by then.
const FIRST_PAUSE: Duration = Duration::from_millis(150);
/// And the longest, so that a hundred shells that wait are no load.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A Supervisor that restarts is back by then; the nodes go on meanwhile.
const OUTAGE_LIMIT: Duration = Duration::from_secs(120);
/// Spinners beside each other; more than a screen helps nobody.
const SPINNERS: usize = 24;

/// One activity that has not ended.
struct Open {
    label: String,
    spinner: Option<ProgressBar>,
    step: String,
}

/// Asks until all of `activities` have ended, and returns them as they are then, in their order. On the way each is
/// told on stdout as it ends, unless JSON is wanted.
///
/// # Errors
/// `limit` has passed, or the Supervisor cannot be asked for longer than it may be away.
pub async fn until_ended(
    session: &Session,
    deployment: &str,
    activities: Vec<Value>,
    limit: Duration,
) -> anyhow::Result<Vec<Value>> {
    let nodes = session.all(&["deployments", deployment, "nodes"], &[]).await.map(|page| page.items);
    let nodes = nodes.unwrap_or_default();
    let width = activities.iter().map(|activity| label(&activity["node_id"], &nodes).chars().count()).max();
    let mut following = Following { session, deployment, width: width.unwrap_or(0), open: BTreeMap::new() };
    let mut order = Vec::new();
    for activity in &activities {
        let id = activity
            .get("id")
            .and_then(Value::as_u64)
            .context("the Supervisor names an activity without an id")?;
        order.push(id);
        let label = label(&activity["node_id"], &nodes);
        let spinner = (following.open.len() < SPINNERS).then(|| session.screen.spinner(&label));
        following.open.insert(id, Open { label, spinner, step: String::new() });
    }
    let mut ended = following.run(limit).await?;
    Ok(order.iter().filter_map(|id| ended.remove(id)).collect())
}

pub fn is_completed(activity: &Value) -> bool {
    status(activity) == "completed"
}

struct Following<'a> {
    session: &'a Session,
    deployment: &'a str,
    width: usize,
    open: BTreeMap<u64, Open>,
}

impl Following<'_> {
    async fn run(&mut self, limit: Duration) -> anyhow::Result<BTreeMap<u64, Value>> {
        let began = Instant::now();
        let mut away_since = None;
        let mut ended = BTreeMap::new();
        let mut pause = FIRST_PAUSE;
        while !self.open.is_empty() {
            ensure!(began.elapsed() < limit, self.not_in_time(limit));
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
            match self.look(&mut ended).await {
                Ok(()) => away_since = None,
                Err(failure) if failure.is_outage() => {
                    if away_since.is_none() {
                        self.session
                            .screen
                            .say(&format!("{failure}; the nodes go on, and it is asked again"));
                    }
                    let since: Instant = *away_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > OUTAGE_LIMIT {
                        bail!(failure);
                    }
                }
                Err(failure) => bail!(failure),
            }
        }
        Ok(ended)
    }

    /// One look at all that is open: in as few calls as the open ones of the deployment fill pages.
    async fn look(&mut self, ended: &mut BTreeMap<u64, Value>) -> Result<(), Failure> {
        let (client, path) = (&self.session.client, ["deployments", self.deployment, "activities"]);
        let mut gone: Vec<u64> = self.open.keys().copied().collect();
        if let [only] = gone.as_slice() {
            let only = *only;
            let activity = client.get(&[&path[..], &[&only.to_string()]].concat(), &[]).await?;
            self.take(only, activity, ended);
            return Ok(());
        }
        let oldest = gone.first().copied().unwrap_or(0);
        for number in 1_u32.. {
            let query = [("status", "processing"), ("results", "100"), ("page", &number.to_string())]
                .map(|(name, value)| (name, value.to_owned()));
            let page = Page::read(client.get(&path, &query).await?);
            let ids: Vec<u64> = page.items.iter().filter_map(|item| item.get("id")?.as_u64()).collect();
            gone.retain(|id| !ids.contains(id));
            for activity in page.items {
                self.tell_step(&activity);
            }
            // Ids rise with time and the newest come first: what follows is older than all of ours.
            if ids.len() < 100 || ids.iter().any(|id| *id < oldest) {
                break;
            }
        }
        for id in gone {
            let activity = client.get(&[&path[..], &[&id.to_string()]].concat(), &[]).await?;
            self.take(id, activity, ended);
        }
        Ok(())
    }

    fn take(&mut self, id: u64, activity: Value, ended: &mut BTreeMap<u64, Value>) {
        if status(&activity) == "processing" {
            return self.tell_step(&activity);
        }
        let Some(open) = self.open.remove(&id) else { return };
        if let Some(spinner) = open.spinner {
            spinner.finish_and_clear();
        }
        if !self.session.json {
            let text = told(&activity, &open.label, self.width, self.session.look.paint);
            self.session.screen.without_bars(|| {
                let _ = std::io::stdout().write_all(text.as_bytes());
            });
        }
        ended.insert(id, activity);
    }

    fn tell_step(&mut self, activity: &Value) {
        let Some(open) = activity.get("id").and_then(Value::as_u64).and_then(|id| self.open.get_mut(&id))
        else {
            return;
        };
        let step = activity.get("step").and_then(Value::as_str).unwrap_or_default();
        if step == open.step {
            return;
        }
        step.clone_into(&mut open.step);
        let screen = &self.session.screen;
        match &open.spinner {
            Some(spinner) if screen.draws() => spinner.set_message(harmless(step)),
            _ if screen.draws() || self.session.json || step.is_empty() => {}
            _ => screen.say(&format!("{}: {step}", open.label)),
        }
    }

    fn not_in_time(&self, limit: Duration) -> String {
        let open: Vec<&str> = self.open.values().map(|open| open.label.as_str()).collect();
        format!(
            "not ended after {}: {}; it goes on: warden ctl activities list --status processing",
            quantity::duration(limit.as_secs_f64()),
            open.join(", ")
        )
    }
}

fn status(activity: &Value) -> &str {
    activity.get("status").and_then(Value::as_str).unwrap_or_default()
}

/// Below a stop that ended in SIGKILL, which must not pass for a clean one.
const FORCED: &str = "warning: it did not stop by itself and got SIGKILL, which for what ran there is a crash; see what it \
                      was doing, and give it longer (TimeoutStopSec= of the unit)";

/// How an activity ended: a line, what is to be known of it, and the journal's lines where it went wrong.
fn told(activity: &Value, label: &str, width: usize, paint: Painter) -> String {
    let word = format!("{:9}", harmless(status(activity)));
    let word = paint.paint(if is_completed(activity) { Style::Green } else { Style::Red }, &word);
    let text = |at: &str| activity.pointer(at).and_then(Value::as_str).map(harmless);
    let mut parts = Vec::new();
    if let (Some(code), Some(reason)) = (text("/reason/code"), text("/reason/reason")) {
        parts.push(format!("{code}: {reason}"));
    }
    if let (Some(unit), Some(active), Some(sub)) =
        (text("/result/unit"), text("/result/after/active_state"), text("/result/after/sub_state"))
    {
        parts.push(format!("{unit} is {active} ({sub})"));
    }
    let number = |at: &str| activity.pointer(at).and_then(Value::as_u64).filter(|number| *number > 0);
    parts.extend(number("/result/after/main_pid").map(|pid| format!("main PID {pid}")));
    let took = number("/result/took_ms").map(|ms| quantity::duration(ms as f64 / 1000.0));
    parts.extend(took.map(|took| format!("took {took}")));
    let padding = " ".repeat(width.saturating_sub(label.chars().count()));
    let mut lines =
        format!("{word}  {}{padding}  {}", harmless(label), parts.join(", ")).trim_end().to_owned() + "\n";
    if activity.pointer("/result/forced").and_then(Value::as_bool) == Some(true) {
        lines += &format!("           {}\n", paint.paint(Style::Yellow, FORCED));
    }
    let answers = activity.pointer("/result/answers").and_then(Value::as_bool);
    if let Some(answer) = text("/result/answer").filter(|_| is_completed(activity)) {
        let said = if answers == Some(true) { answer } else { format!("judged by its unit alone: {answer}") };
        lines += &format!("           {said}\n");
    }
    for line in activity.pointer("/result/journal").and_then(Value::as_array).into_iter().flatten() {
        lines += &format!("           | {}\n", harmless(line.as_str().unwrap_or_default()));
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_end_is_told_with_state_and_time_and_a_failure_with_the_journal() {
        let completed = json!({"status": "completed", "result": {"unit": "iggy.service", "took_ms": 1300,
            "after": {"active_state": "active", "sub_state": "running", "main_pid": 4711}}});
        assert_eq!(
            told(&completed, "a (7)", 8, Painter::plain()),
            "completed  a (7)     iggy.service is active (running), main PID 4711, took 1.3 s\n"
        );
        let forced = json!({"status": "completed", "result": {"unit": "iggy.service", "forced": true,
            "journal": ["systemd: Killing process 7 (iggy-server) with signal SIGKILL."],
            "after": {"active_state": "failed", "sub_state": "failed", "main_pid": 0}}});
        assert_eq!(
            told(&forced, "a (7)", 5, Painter::plain()),
            format!(
                "completed  a (7)  iggy.service is failed (failed)\n           {FORCED}\n           \
                 | systemd: Killing process 7 (iggy-server) with signal SIGKILL.\n"
            )
        );
        let mut answered =
            json!({"status": "completed", "result": {"answers": true, "answer": "/ping says pong"}});
        assert_eq!(told(&answered, "a", 1, Painter::plain()), "completed  a\n           /ping says pong\n");
        answered["result"] = json!({"answer": "iggy-server was not asked: its API is off"});
        assert_eq!(
            told(&answered, "a", 1, Painter::plain()),
            "completed  a\n           judged by its unit alone: iggy-server was not asked: its API is off\n"
        );
        let rejected = json!({"status": "rejected", "reason": {"code": "job_failed", "reason": "it ended as failed"},
            "result": {"unit": "iggy.service", "journal": ["no such\u{1b}[2J file"],
                       "after": {"active_state": "failed", "sub_state": "failed", "main_pid": 0}}});
        assert_eq!(
            told(&rejected, "bb (8)", 8, Painter::plain()),
            "rejected   bb (8)    job_failed: it ended as failed, iggy.service is failed (failed)\n           \
             | no such\\u{1b}[2J file\n"
        );
        assert_eq!(told(&json!({"status": "completed"}), "a", 1, Painter::plain()), "completed  a\n");
    }
}
