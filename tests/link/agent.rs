//! The node's end, against Supervisors that do what they like.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite::Message;
use warden::agent::{LinkState, Surroundings};
use warden::protocol::{FromNode, MESSAGE_LIMIT, PING_SECONDS, PINGS_UNANSWERED, Refusal, ToNode};
use warden::secret::Secret;

use super::fake::Supervisor;
use super::site::{Agent, enrolled, now, settings, surroundings};

const CREDENTIAL: &str = "wnode_c4n4ry";

fn agent_of(supervisor: &Supervisor) -> Agent {
    Agent::start(enrolled(&supervisor.url(), 7, &Secret::new(CREDENTIAL)))
}

#[tokio::test]
async fn an_agent_shows_its_credential_says_hello_and_tells_how_it_is() {
    let supervisor = Supervisor::start().await;
    let agent = agent_of(&supervisor);
    let mut link = supervisor.link().await;
    assert_eq!(link.shown, format!("Bearer {CREDENTIAL}"));
    let hello = link.hello().await;
    assert_eq!((hello.node, hello.open.len(), hello.instance.len()), (7, 0, 32));
    assert!(hello.capabilities.contains(&"activity".to_owned()), "{hello:?}");
    link.welcome().await;
    let Some(FromNode::Heartbeat(heartbeat)) = link.hear().await else { panic!("no heartbeat") };
    assert!((heartbeat.at_ms - now()).abs() < 60_000);
    assert!(heartbeat.agent.resident_bytes > 0 && heartbeat.host.uptime_seconds.is_some());
    let units: Vec<&str> = heartbeat.runtimes.iter().map(|runtime| runtime.unit.as_str()).collect();
    assert!(units.starts_with(&["iggy.service", "iggy-connectors.service"]), "{units:?}");
    agent.tells("it is connected", |status| (status.link == LinkState::Connected).then_some(())).await;
    let status = agent.status().unwrap();
    assert_eq!((status.node, status.deployment), (Some(7), Some(1)));
    assert_eq!((status.supervisor.unwrap(), status.instance), (supervisor.url(), hello.instance.clone()));
    // The same agent is known again by its instance, a new start is not.
    drop(link);
    let mut link = supervisor.link().await;
    assert_eq!(link.hello().await.instance, hello.instance);
    let folder = agent.stop().await;
    assert!(!folder.path().join("run/status.json").exists());
    let _agent = Agent::start(folder);
    assert_ne!(supervisor.link().await.hello().await.instance, hello.instance);
}

#[tokio::test]
async fn what_is_no_message_of_a_supervisor_makes_the_agent_dial_again() {
    let supervisor = Supervisor::start().await;
    let agent = agent_of(&supervisor);
    let oversized = format!(r#"{{"v":1,"type":"settled","request":1,"x":"{}"}}"#, "x".repeat(MESSAGE_LIMIT));
    let wrongs = [
        Message::text("{"),
        Message::text(r#"{"v":2,"type":"settled","request":1}"#),
        Message::text(r#"{"v":1,"type":"no_such_thing"}"#),
        Message::text("[".repeat(60_000)),
        Message::text(oversized),
        Message::binary(vec![0xff; 10]),
    ];
    for wrong in &wrongs {
        let mut link = supervisor.welcomed().await;
        link.say_frame(wrong.clone()).await;
        link.closed().await;
        let mut link = supervisor.link().await;
        link.hello().await;
        link.say_frame(wrong.clone()).await;
        link.closed().await;
    }
    // Work before the welcome, too.
    let mut link = supervisor.link().await;
    link.say(&ToNode::Settled { request: 1 }).await;
    link.closed().await;
    let mut link = supervisor.welcomed().await;
    assert!(matches!(link.hear().await, Some(FromNode::Heartbeat(_))));
    agent.stop().await;
}

#[tokio::test]
async fn what_answers_and_is_no_supervisor_is_tried_again() {
    let supervisor = Supervisor::start().await;
    let agent = agent_of(&supervisor);
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: https://elsewhere/\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "",
    ] {
        let asked = supervisor.answer(head).await;
        assert!(asked.starts_with("GET /nodes/link HTTP/1.1\r\n"), "{asked}");
    }
    supervisor.welcomed().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_supervisor_that_asks_for_time_gets_it() {
    let supervisor = Supervisor::start().await;
    let agent = agent_of(&supervisor);
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let head = format!("HTTP/1.1 {status}\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n");
        supervisor.answer(&head).await;
        let asked = Instant::now();
        let waits = agent.tells("it waits", |status| match &status.link {
            LinkState::Waiting { why, .. } => Some(why.clone()),
            _ => None,
        });
        let why = waits.await;
        assert!(why.starts_with("the Supervisor asks to come back later"), "{why}");
        drop(supervisor.connection().await);
        assert!(asked.elapsed() >= Duration::from_millis(1_990), "{:?}", asked.elapsed());
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_refused_agent_says_why_and_asks_about_once_a_minute() {
    let supervisor = Supervisor::start().await;
    let body = r#"{"type":"about:blank","reason":"no node has this credential"}"#;
    let length = body.len();
    let unauthorized =
        format!("HTTP/1.1 401 Unauthorized\r\ncontent-length: {length}\r\nretry-after: 1\r\n\r\n{body}");
    let refused = async |agent: &Agent| {
        let tells = agent.tells("it is refused", |status| match &status.link {
            LinkState::Refused { why, again_at_ms } => Some((why.clone(), again_at_ms - status.since_ms)),
            _ => None,
        });
        tells.await
    };
    let agent = agent_of(&supervisor);
    supervisor.answer(&unauthorized).await;
    let (why, wait) = refused(&agent).await;
    assert_eq!(why, "the credential of this node is not accepted (401): no node has this credential");
    assert!((44_000..=61_000).contains(&wait), "{wait} ms");
    agent.stop().await;

    let agent = agent_of(&supervisor);
    let mut link = supervisor.welcomed().await;
    let reason = "iggy-2\nREADY=1".to_owned();
    link.say(&ToNode::Refused { code: Refusal::DuplicateIdentity, reason }).await;
    let (why, wait) = refused(&agent).await;
    assert_eq!(why, "another agent has the identity of this node: iggy-2READY=1");
    assert!((44_000..=61_000).contains(&wait), "{wait} ms");
    agent.stop().await;
}

#[tokio::test]
async fn a_supervisor_that_takes_the_connection_and_says_nothing_is_given_up() {
    let supervisor = Supervisor::start().await;
    let agent = agent_of(&supervisor);
    let mute = supervisor.connection().await;
    let began = Instant::now();
    supervisor.welcomed().await;
    assert!(began.elapsed() >= Duration::from_secs(14), "{:?}", began.elapsed());
    drop(mute);
    agent.stop().await;
}

#[tokio::test]
async fn a_supervisor_that_answers_no_ping_is_given_up_after_three() {
    let supervisor = Supervisor::start().await;
    let agent = agent_of(&supervisor);
    let silent = supervisor.welcomed().await.fall_silent();
    let began = Instant::now();
    let link = supervisor.welcomed().await;
    let least = PING_SECONDS * u64::from(PINGS_UNANSWERED - 1);
    assert!(began.elapsed() >= Duration::from_secs(least), "{:?}", began.elapsed());
    drop(silent);
    drop(link);
    agent.stop().await;
}

#[tokio::test]
async fn a_supervisor_that_answers_pings_is_kept() {
    let supervisor = Supervisor::start().await;
    let agent = agent_of(&supervisor);
    let mut link = supervisor.welcomed().await;
    let began = Instant::now();
    // Whoever reads answers.
    while began.elapsed() < Duration::from_secs(PING_SECONDS * u64::from(PINGS_UNANSWERED + 1)) {
        let frame = tokio::time::timeout(Duration::from_secs(1), link.frame()).await;
        assert!(!matches!(frame, Ok(None)), "the agent gave up a Supervisor that answers");
    }
    agent.stop().await;
}

static STEPPING: AtomicI64 = AtomicI64::new(0);

/// A clock that is set by a day, back and forth, whenever it is looked at.
fn stepping() -> i64 {
    let looked = STEPPING.fetch_add(1, Ordering::Relaxed);
    now() + if looked % 2 == 0 { 86_400_000 } else { -86_400_000 }
}

#[tokio::test]
async fn a_clock_that_steps_changes_nothing() {
    let supervisor = Supervisor::start().await;
    let folder = enrolled(&supervisor.url(), 7, &Secret::new(CREDENTIAL));
    let with = settings(folder.path());
    let agent = Agent::start_with(folder, with, Surroundings { wall_clock: stepping, ..surroundings() });
    supervisor.answer("HTTP/1.1 503 Later\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n").await;
    let asked = Instant::now();
    let mut link = supervisor.welcomed().await;
    assert!(asked.elapsed() >= Duration::from_millis(990), "{:?}", asked.elapsed());
    assert!(matches!(link.hear().await, Some(FromNode::Heartbeat(_))));
    // Pings come as ever, and the link holds.
    let mut pings = 0;
    while pings < 2 {
        match link.frame().await {
            Some(Message::Ping(_)) => pings += 1,
            Some(_) => {}
            None => panic!("the agent gave up"),
        }
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_host_that_is_enrolled_later_needs_no_restart_of_its_agent() {
    let supervisor = Supervisor::start().await;
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::start(folder);
    let told = |status: &warden::agent::Status| match &status.link {
        LinkState::NotEnrolled { why } => Some(why.clone()),
        _ => None,
    };
    assert_eq!(agent.tells("it waits", told).await, "this host is not enrolled: run `warden enroll`");
    let given = enrolled(&supervisor.url(), 7, &Secret::new(CREDENTIAL));
    let (from, to) = (given.path().join("state/identity"), agent.folder.path().join("state/identity"));
    std::fs::rename(from, to).unwrap();
    supervisor.welcomed().await;
    agent.stop().await;
}
