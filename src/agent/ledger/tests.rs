//! The ledger on a real disk.

use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use warden_protocol::{Action, Code, Runtime, UnitState};
use warden_systemd::Standing;

use super::*;

const DAY_MS: i64 = 24 * 3600 * 1000;

fn entry(request: u64) -> Entry {
    Entry {
        request,
        work: Some(Work::Activity { runtime: Runtime::Iggy, action: Action::Restart }),
        author: "ops@example.com".into(),
        boot_id: "this boot".into(),
        deadline: BootTime(1_000),
    }
}

fn at(step: Step) -> Record {
    Record { step, progress: Progress::default(), outcome: None }
}

async fn sql(path: &Path, sql: &'static str) {
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn what_was_written_is_read_again_in_the_order_of_arrival() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.sqlite");
    let ledger = Ledger::open(&path).await.unwrap();
    let (late, early) = (entry(3), entry(u64::MAX));
    ledger.write(&early, &at(Step::Accepted), 5).await.unwrap();
    ledger.write(&late, &at(Step::Accepted), 6).await.unwrap();
    let state = UnitState { invocation_id: "ab".into(), ..UnitState::default() };
    let before = Some(Standing { state, restarts: 7, ..Standing::default() });
    let progress = Progress { before, bus: Some("b :1.2".into()), ..Progress::default() };
    let record = Record { step: Step::Intended, progress, outcome: None };
    ledger.write(&early, &record, 7).await.unwrap();
    drop(ledger);

    let ledger = Ledger::open(&path).await.unwrap();
    let rows = ledger.open_requests().await.unwrap();
    assert_eq!(
        rows,
        [
            Row { entry: early.clone(), record: Some(record), settled: false },
            Row { entry: late, record: Some(at(Step::Accepted)), settled: false },
        ]
    );
    let begun = ledger.begun_since(7, 10).await.unwrap();
    assert_eq!(begun, [Begun { work: early.work.unwrap(), author: early.author, at_ms: 7 }]);
    assert_eq!(ledger.begun_since(8, 10).await.unwrap(), []);
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn how_long_the_same_took_the_last_time_is_known_if_it_told() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&folder.path().join("ledger.sqlite")).await.unwrap();
    let restart = entry(1).work.unwrap();
    let took = async || ledger.last_took_ms(&restart, 10).await.unwrap();
    assert_eq!(took().await, None);
    let write = async |request, at_ms, took_ms, late_ms| {
        let progress = Progress { took_ms, late_ms, ..Progress::default() };
        ledger.write(&entry(request), &Record { progress, ..at(Step::Called) }, at_ms).await.unwrap();
    };
    write(1, 9, Some(7_000), None).await;
    assert_eq!(took().await, None, "it is too long ago");
    write(2, 10, Some(800), None).await;
    write(3, 11, None, None).await;
    assert_eq!(took().await, Some(800), "one that was interrupted does not tell");
    write(4, 12, None, Some(9_000)).await;
    assert_eq!(took().await, Some(9_000));
    let progress = Progress { took_ms: Some(800), answered_late_ms: Some(20_000), ..Progress::default() };
    ledger.write(&entry(5), &Record { progress, ..at(Step::Called) }, 13).await.unwrap();
    assert_eq!(took().await, Some(20_800), "until it answered");
    let stop = Work::Activity { runtime: Runtime::Iggy, action: Action::Stop };
    assert_eq!(ledger.last_took_ms(&stop, 10).await.unwrap(), None);
}

#[tokio::test]
async fn a_settled_request_is_known_for_thirty_days_but_the_newest_thousand_longer() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&folder.path().join("ledger.sqlite")).await.unwrap();
    let outcome = Outcome::rejected(Code::PolicyDenied, "no");
    let finished = Record { outcome: Some(outcome), ..at(Step::Finished) };
    ledger.write(&entry(1), &finished, 0).await.unwrap();
    ledger.settle(1, 0).await.unwrap();
    assert!(ledger.open_requests().await.unwrap().is_empty());
    ledger.settle(1, 40 * DAY_MS).await.unwrap();
    let known = ledger.find(1).await.unwrap().unwrap();
    assert_eq!((known.settled, known.record), (true, Some(finished.clone())));
    for request in 2..=1_001 {
        ledger.write(&entry(request), &finished, 0).await.unwrap();
    }
    ledger.settle(2, 29 * DAY_MS).await.unwrap();
    assert!(ledger.find(1).await.unwrap().is_some());
    ledger.settle(2, 31 * DAY_MS).await.unwrap();
    assert!(ledger.find(1).await.unwrap().is_none());
    assert!(ledger.find(2).await.unwrap().is_some());
}

#[tokio::test]
async fn after_a_write_that_was_not_finished_it_is_read_anew_and_has_all_that_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&folder.path().join("ledger.sqlite")).await.unwrap();
    for request in 1..=3 {
        ledger.write(&entry(request), &at(Step::Accepted), 0).await.unwrap();
        // As when the task that writes is dropped in the middle.
        let mut held = ledger.held.lock().await;
        held.writer().await.unwrap();
        assert!(held.doubt().is_some());
        drop(held);
        assert!(ledger.find(request).await.unwrap().is_some());
        assert_eq!(ledger.held.lock().await.doubt(), None);
    }
    assert_eq!(ledger.open_requests().await.unwrap().len(), 3);
}

#[tokio::test]
async fn what_a_killed_agent_left_in_the_log_is_put_on_disk_as_it_is() {
    let [folder, left] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let ledger = Ledger::open(&folder.path().join("ledger.sqlite")).await.unwrap();
    ledger.write(&entry(1), &at(Step::Accepted), 0).await.unwrap();
    for name in ["ledger.sqlite", "ledger.sqlite-wal"] {
        std::fs::copy(folder.path().join(name), left.path().join(name)).unwrap();
    }
    let log = left.path().join("ledger.sqlite-wal");
    let before = std::fs::read(&log).unwrap();
    assert!(before.len() > 4096);
    let ledger = Ledger::open(&left.path().join("ledger.sqlite")).await.unwrap();
    assert_eq!(std::fs::read(&log).unwrap(), before);
    assert!(ledger.find(1).await.unwrap().is_some());
}

#[tokio::test]
async fn a_second_agent_does_not_get_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.sqlite");
    let _first = Ledger::open(&path).await.unwrap();
    let options = SqliteConnectOptions::new().filename(&path).busy_timeout(Duration::ZERO);
    let mut second = options.connect().await.unwrap();
    let answer = sqlx::query("SELECT * FROM request").fetch_all(&mut second).await;
    assert!(answer.unwrap_err().to_string().contains("locked"));
}

#[tokio::test]
async fn the_next_version_may_come_and_go_and_one_further_ahead_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.sqlite");
    let ledger = Ledger::open(&path).await.unwrap();
    ledger.write(&entry(1), &at(Step::Accepted), 0).await.unwrap();
    drop(ledger);
    sql(
        &path,
        "ALTER TABLE request ADD COLUMN colour TEXT; PRAGMA user_version = 2; \
         INSERT INTO request (request, work, author, received_at_ms, boot_id, deadline_ms, step, progress, colour) \
         VALUES (2, '{\"kind\":\"dance\"}', 'a', 0, 'b', 0, 'accepted', '{\"mood\":1}', 'red'), \
         (3, NULL, 'a', 0, 'b', 0, 'rehearsed', '{}', 'red')",
    )
    .await;
    let ledger = Ledger::open(&path).await.unwrap();
    ledger.write(&entry(1), &at(Step::Intended), 0).await.unwrap();
    let rows = ledger.open_requests().await.unwrap();
    let seen: Vec<_> = rows.iter().map(|row| (row.entry.work.is_some(), row.record.is_some())).collect();
    assert_eq!(seen, [(true, true), (false, true), (false, false)]);
    drop(ledger);

    sql(&path, "PRAGMA user_version = 3").await;
    let error = format!("{:#}", Ledger::open(&path).await.unwrap_err());
    assert!(
        error.contains("written by a newer version of Warden (format 3; this one reads up to 2)"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_no_ledger_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.sqlite");
    std::fs::write(&path, "not a database, but somebody's letters".repeat(100)).unwrap();
    let error = format!("{:#}", Ledger::open(&path).await.unwrap_err());
    assert!(error.starts_with("cannot open the ledger /") && error.contains("not a database"), "{error}");
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("not a database"));
}
