//! Checks of the runtimes that found something.

use warden::snapshot::report::CheckReport;
use warden_host::{Advice, Area, Evidence, Fields, Finding, Level, Log, LogLine, Table, Value, Verdict};

use super::{GIB, HOSTILE, NOW_US, Question, log_lines};

pub fn checks() -> Vec<CheckReport> {
    vec![units_runtimes(), logs_iggy(), certificates_files(), logs_connectors(), process_limits()]
}

fn units_runtimes() -> CheckReport {
    let mut finding =
        Finding::new("iggy-server.service restarted 4 times in 24 h; iggy-connectors.service has failed");
    finding.fail(
        "iggy-connectors.service has failed: exit code 101, 6 min ago",
        Advice::run(
            "Read why, then start it again.",
            "journalctl -u iggy-connectors.service -n 50 --no-pager",
        ),
    );
    finding.warn(
        "iggy-server.service restarted 4 times in 24 h, last at 2026-11-21T09:41:02Z",
        Advice::text("Find the cause in logs-iggy and memory-oom before it happens again."),
    );
    for (unit, state, memory) in [
        ("iggy-server.service", "active (running)", Some(38 * GIB)),
        ("iggy-connectors.service", "failed (exit-code)", None),
    ] {
        let fields = Fields::new(unit)
            .row("state", state)
            .row("enabled", true)
            .row("main process", memory.map(|_| 1412_i64))
            .row("restarts", 4_i64)
            .row("memory", memory.map_or(Value::Nothing, Value::Bytes))
            .row("unit file", Value::Code(format!("/usr/lib/systemd/system/{unit}")))
            .row("drop-ins", Value::Nothing);
        finding.show(Evidence::Fields(fields));
    }
    Question {
        id: "units-runtimes",
        area: Area::Units,
        title: "Are the runtimes' units well?",
        why: "A unit that restarts again and again serves for minutes and fails for seconds. Every restart drops the connections of all clients and reads every open segment anew.",
        thresholds: &["warns when a unit restarted within 24 h or is not enabled", "fails when a unit has failed"],
        asked: &["unit iggy-server.service", "unit iggy-connectors.service"],
    }
    .answered(finding)
}

fn logs_iggy() -> CheckReport {
    let mut finding = Finding::new("17 errors and 22 warnings in the newest 1998 lines");
    finding.fail("\"Failed to persist message batch: No space left on device\" was logged 16 times since 2026-11-21T10:59:52Z", Advice::text("Make room first (disk-space), then restart the server: its shards do not come back by themselves."));
    let mut lines = log_lines(
        1990,
        1850,
        "iggy_server::streaming",
        &[
            (
                Level::Info,
                "Appended batch of {n} messages to stream: 1, topic: 4, partition: 2, segment: 00000000000018273645",
            ),
            (
                Level::Error,
                "Failed to persist message batch: No space left on device (os error 28), partition: 2, offset: {n}",
            ),
            (Level::Warn, "Client with ID {n} has not sent a heartbeat for 35 s, disconnecting"),
            (Level::Debug, "Consumer group 3 rebalanced: {n}"),
        ],
    );
    for text in HOSTILE {
        lines.push(LogLine {
            at_us: Some(NOW_US - 1000),
            level: Some(Level::Warn),
            origin: text.into(),
            text: text.into(),
        });
    }
    lines.push(LogLine { at_us: None, level: None, origin: String::new(), text: "stack backtrace:\n   0: rust_begin_unwind\n   1: core::panicking::panic_fmt\n   2: iggy_server::shard::run".into() });
    lines.push(LogLine {
        at_us: Some(NOW_US),
        level: Some(Level::Critical),
        origin: "iggy_server".into(),
        text: "y".repeat(1_000_000),
    });
    let mut shapes = Table::new("Errors by shape", ["shape", "level", "count", "first", "last"]);
    shapes.marked_row(
        Verdict::Fail,
        [
            Value::Code("Failed to persist message batch: No space left on device (os error N)".into()),
            "error".into(),
            Value::Count(16),
            Value::Time(1_795_258_793),
            Value::Time(1_795_262_206),
        ],
    );
    shapes.row([
        Value::Code("Client with ID N has not sent a heartbeat for N s, disconnecting".into()),
        "warn".into(),
        Value::Count(16),
        Value::Time(1_795_251_000),
        Value::Time(1_795_262_100),
    ]);
    finding.show(Evidence::Table(shapes));
    finding.show(Evidence::Log(Log {
        title: "/var/lib/iggy/data/logs/iggy-server.log".into(),
        lines,
        cut: true,
    }));
    Question {
        id: "logs-iggy",
        area: Area::Logs,
        title: "What did Iggy say?",
        why: "Iggy reports a dying shard only in its log: the process lives on and answers pings.",
        thresholds: &["warns on an error within 24 h", "fails when a write failed"],
        asked: &["tail /var/lib/iggy/data/logs/iggy-server.log"],
    }
    .answered(finding)
}

fn certificates_files() -> CheckReport {
    let mut finding = Finding::new("2 certificates; the next one expires in 12 d");
    finding.warn(
        "/etc/iggy/tls/server.pem expires in 12 d, on 2026-12-03T09:00:00Z",
        Advice::text("Renew it and restart the server: Iggy reads its certificate once, when it starts."),
    );
    let mut table = Table::new("Certificates", ["file", "subject", "expires", "key", "mode"]);
    table.marked_row(
        Verdict::Warn,
        [
            Value::Code("/etc/iggy/tls/server.pem".into()),
            "CN=iggy-node-07".into(),
            Value::Time(1_796_288_400),
            "P-256".into(),
            Value::Code("0640".into()),
        ],
    );
    table.row([
        Value::Code("/etc/iggy/tls/ca.pem".into()),
        HOSTILE[0].into(),
        Value::Time(1_922_000_000),
        "RSA 4096".into(),
        Value::Code("0644".into()),
    ]);
    finding.show(Evidence::Table(table));
    Question {
        id: "certificates-files",
        area: Area::Certificates,
        title: "Are the certificates good?",
        why: "On the day it expires every new connection fails, all at once, on every node that shares it.",
        thresholds: &["warns 30 d before the end", "fails 7 d before"],
        asked: &["/etc/iggy/tls/server.pem", "/etc/iggy/tls/ca.pem", "public-key /etc/iggy/tls/server.key"],
    }
    .answered(finding)
}

fn logs_connectors() -> CheckReport {
    let mut finding = Finding::new("48 lines that warn or worse in the newest 2000");
    finding.warn(
        "\"Sink postgres_orders could not connect\" was logged 24 times in 24 h",
        Advice::run("Check that the database answers.", "pg_isready -h db-1.internal -p 5432"),
    );
    let lines = log_lines(
        2000,
        900,
        "iggy_connectors::sink",
        &[
            (Level::Info, "Sent {n} messages to sink postgres_orders"),
            (Level::Error, "Sink postgres_orders could not connect: connection refused ({n})"),
            (Level::Warn, "Retrying in {n} ms"),
        ],
    );
    finding.show(Evidence::Log(Log { title: "journal of iggy-connectors.service".into(), lines, cut: true }));
    Question {
        id: "logs-connectors",
        area: Area::Logs,
        title: "What did the connectors say?",
        why: "A sink that cannot deliver keeps its offset: the lag grows and nothing else tells.",
        thresholds: &["warns on an error within 24 h"],
        asked: &["journal iggy-connectors.service"],
    }
    .answered(finding)
}

fn process_limits() -> CheckReport {
    let mut finding = Finding::new("iggy-server has 734 of 1024 file descriptors open");
    finding.warn(
        "iggy-server has 72 % of its file descriptors open: 734 of 1024",
        Advice::run(
            "Raise the limit of the unit, then restart it.",
            "systemctl edit iggy-server.service --stdin <<< $'[Service]\\nLimitNOFILE=65536'",
        ),
    );
    let mut table = Table::new("Limits", ["process", "limit", "used", "soft", "hard"]);
    for at in 0..40_i64 {
        table.row([
            Value::Code(format!("thread {at}")),
            "open files".into(),
            Value::Count(at * 13 % 97),
            Value::Count(1024),
            Value::Count(524_288),
        ]);
    }
    table.left_out = 212;
    finding.show(Evidence::Table(table));
    Question {
        id: "process-limits",
        area: Area::Process,
        title: "Are the runtimes near their limits?",
        why: "Iggy holds four descriptors for each partition. At the limit it refuses clients.",
        thresholds: &["warns when 70 % of the descriptors are open", "fails at 90 %"],
        asked: &["/proc/1412/limits", "list /proc/1412/fd"],
    }
    .answered(finding)
}
