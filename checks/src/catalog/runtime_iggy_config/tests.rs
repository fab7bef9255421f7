//! Configurations of Iggy, and what is said of them.

use warden_host::{Data, Kind, Recorded, Request};

use super::*;
use crate::iggy::tests::{directory, link, running, settings, stat};

const CURRENT: &str = "[system]\npath = \"/d\"\n[system.logging]\nlevel = \"info\"\n[tcp]\nenabled = true\n\
     address = \"127.0.0.1:8090\"\n[http]\nenabled = true\naddress = \"127.0.0.1:3000\"\n[cluster]\nnodes = []\n";
const CURRENT_PATH: &str = "/d/runtime/current_config.toml";

fn server(environment: &str, file: &str) -> Recorded {
    let recorded = running(70)
        .file("/proc/70/environ", environment)
        .file("/srv/core/server/config.toml", file)
        .file(CURRENT_PATH, CURRENT);
    let recorded = link(recorded, "/proc/70/cwd", "/srv");
    let recorded = link(recorded, "/proc/70/fd/5", "/d/logs/iggy-server.log");
    directory(recorded, "/d/streams")
}

fn of(recorded: Recorded) -> Finding {
    run(&recorded.host()).unwrap()
}

fn problem(recorded: Recorded) -> (Verdict, String) {
    let finding = of(recorded);
    assert_eq!(finding.problems.len(), 1, "{:?}", finding.problems);
    (finding.verdict(), finding.problems[0].text.clone())
}

#[test]
fn a_plain_server_on_loopback_passes_and_shows_what_is_in_force() {
    let finding = of(server("IGGY_SYSTEM_PATH=/d\0HOME=/\0", "[tcp]\nenabled = true\n"));
    assert_eq!(finding.verdict(), Verdict::Pass);
    assert_eq!(
        finding.summary,
        "configured by /srv/core/server/config.toml and 1 environment variable; the rest is default"
    );
}

#[test]
fn an_open_listener_without_tls_warns() {
    let open = server("", "").file(CURRENT_PATH, &CURRENT.replace("127.0.0.1:8090", "0.0.0.0:8090"));
    let expected = "the tcp listener 0.0.0.0:8090 is open beyond loopback without TLS";
    assert_eq!(problem(open), (Verdict::Warn, expected.to_owned()));
}

#[test]
fn unknown_keys_and_variables_are_named() {
    let file =
        "[tcp]\nadress = \"x\"\n[http.jwt]\nencoding_secret = \"s\"\n[[cluster.nodes]]\nname = \"n\"\n";
    let expected = "/srv/core/server/config.toml sets what this server does not know: tcp.adress";
    assert_eq!(problem(server("", file)), (Verdict::Warn, expected.to_owned()));
    let environment =
        "IGGY_TCP_ADRESS=x\0IGGY_ENCRYPTION_KEY=x\0IGGY_CLUSTER_NODES_0_IP=x\0IGGY_SYSTEM_PATH=/d\0";
    let expected = "the environment sets what this server does not know: IGGY_TCP_ADRESS";
    assert_eq!(problem(server(environment, "")), (Verdict::Note, expected.to_owned()));
}

#[test]
fn a_change_that_waits_for_a_restart_is_noted_unless_the_environment_overrides_it() {
    let file = "[tcp]\naddress = \"127.0.0.1:9999\"\n";
    let expected =
        "/srv/core/server/config.toml differs from what is in force, until the next start, in tcp.address";
    assert_eq!(problem(server("", file)), (Verdict::Note, expected.to_owned()));
    assert_eq!(of(server("IGGY_TCP_ADDRESS=127.0.0.1:8090\0", file)).verdict(), Verdict::Pass);
}

#[test]
fn default_credentials_warn_on_loopback_and_fail_beyond() {
    let started = |recorded: Recorded| {
        recorded.file("/proc/70/cmdline", "iggy-server\0--with-default-root-credentials\0")
    };
    assert_eq!(problem(started(server("", ""))).0, Verdict::Warn);
    let open = server("IGGY_TCP_ADDRESS=0.0.0.0:1\0", "");
    assert_eq!(of(started(open)).verdict(), Verdict::Fail);
}

#[test]
fn secrets_that_everybody_may_read_warn() {
    let file = "[encryption]\nkey = \"[secret:iggy-key:3f9a]\"\n";
    let path = "/srv/core/server/config.toml";
    let with_mode = |mode| {
        let mut stat = stat(Kind::File, 10);
        stat.mode = mode;
        server("", file).with(Request::Stat { path: path.to_owned() }, Data::Stat(stat))
    };
    assert_eq!(of(with_mode(0o640)).verdict(), Verdict::Pass);
    let expected = format!("{path} holds secrets and every user of this machine may read it");
    assert_eq!(problem(with_mode(0o644)), (Verdict::Warn, expected));
}

#[test]
fn a_broken_file_fails_a_denied_one_is_noted_and_so_is_a_hidden_environment() {
    assert_eq!(problem(server("", "[tcp\n")).0, Verdict::Fail);
    let denied = server("", "").denied("/srv/core/server/config.toml");
    assert_eq!(problem(denied).0, Verdict::Note);
    let hidden = server("", "").denied("/proc/70/environ");
    assert!(problem(hidden).1.ends_with("is unknown: /proc/70/environ: permission denied"));
}

#[test]
fn verbose_logs_and_a_resting_cleaner_are_noted() {
    assert_eq!(problem(server("RUST_LOG=debug\0", "")).0, Verdict::Note);
    let resting = format!("{CURRENT}[data_maintenance.messages]\ncleaner_enabled = false\n");
    assert_eq!(problem(server("", "").file(CURRENT_PATH, &resting)).0, Verdict::Note);
}

#[test]
fn without_a_server_there_is_no_question() {
    assert_eq!(of(Recorded::complete().settings(settings())).verdict(), Verdict::Skip);
}
