//! The configuration of a Supervisor before, while and after it is taken up: `--check-config`, a reload, `warden doctor`.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::Backend;
use super::listen::{Running, command, curl};
use crate::support::pki::{Authority, Certified};
use crate::support::until;

fn warden(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warden"));
    command.args(arguments).args(["--config", "."]).env_clear().current_dir(folder).stdin(Stdio::null());
    command.output().unwrap()
}

fn configured(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("warden.d")).unwrap();
    std::fs::write(folder.path().join("warden.toml"), text).unwrap();
    folder
}

/// Exit code and lines.
fn checked(folder: &Path, daemon: &str) -> (i32, String) {
    let output = warden(folder, &[daemon, "--check-config"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

fn written(certified: &Certified, folder: &Path, name: &str) -> (String, String) {
    use std::os::unix::fs::PermissionsExt;
    let (certificate, key) = certified.write(folder, name);
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    (certificate.to_str().unwrap().to_owned(), key.to_str().unwrap().to_owned())
}

#[test]
fn every_mistake_of_the_supervisors_configuration_is_told_at_once_and_nothing_starts() {
    let (_, as_server) = Authority::authority_as_server("localhost");
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("warden.d")).unwrap();
    let (certificate, key) = written(&as_server, folder.path(), "mistaken");
    let text = format!(
        "[supervisr]\nlisten = \"0.0.0.0:7600\"\n[supervisor]\nlisten = \"127.0.0.1:0\"\ntls_cert = \"x\"\n\
         public_url = \"warden\"\ntls_certificate = {certificate:?}\ntls_key = {key:?}\nheartbeat = 10\n\
         data_directory = {:?}\n",
        folder.path().join("data")
    );
    std::fs::write(folder.path().join("warden.toml"), text).unwrap();
    std::fs::write(
        folder.path().join("warden.d/a.toml"),
        "[supervisor]\nlog = \"loud\"\nheartbeat_seconds = 99\n",
    )
    .unwrap();
    let (code, told) = checked(folder.path(), "supervisor");
    assert_eq!(code, 1);
    for line in [
        "FAIL     configuration  6 things are wrong with the configuration\n",
        "./warden.toml:1:2: unknown section `supervisr`; did you mean `supervisor`?\n",
        "./warden.toml:5:1: unknown key `tls_cert`; did you mean `tls_certificate`?\n",
        "./warden.toml:6:1: supervisor.public_url must be like https://warden.example.com, without a query\n",
        "./warden.toml:9:1: unknown key `heartbeat`; did you mean `heartbeat_seconds`?\n",
        "./warden.d/a.toml:2:7: expected one of off, error, warn, info, debug, trace, or levels by part like ",
        "./warden.d/a.toml:3:1: supervisor.heartbeat_seconds must be from 5 to 60\n",
        "FAIL     certificate    ",
        "begins with the certificate of an authority (CA:TRUE, CN=localhost), which no client accepts as a server's\n",
        "-> put the server's own certificate first in the file, or make both: warden supervisor init-tls NAME...\n",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    assert!(told.ends_with("2 things fail; begin with the first\n"), "{told}");
    assert!(!folder.path().join("data").exists());
}

#[test]
fn a_configuration_that_is_right_is_told_with_what_it_means() {
    let ours = Authority::new("ours");
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = written(&ours.server("localhost"), folder.path(), "right");
    let text = |url: &str| {
        format!(
            "[supervisor]\nlisten = \"0.0.0.0:7601\"\npublic_url = {url:?}\ntls_certificate = {certificate:?}\n\
             tls_key = {key:?}\ndata_directory = \"/srv/warden\"\n"
        )
    };
    std::fs::write(folder.path().join("warden.toml"), text("https://localhost:7601")).unwrap();
    let (code, told) = checked(folder.path(), "supervisor");
    assert_eq!(code, 0);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines[0],
        "pass     configuration  . is understood: it listens on 0.0.0.0:7601, its state is in SQLite in /srv/warden, \
         archives in /srv/warden/objects"
    );
    assert!(lines[1].starts_with("pass     certificate    for localhost, valid until "), "{told}");
    assert_eq!(lines[2..], ["nothing fails"]);

    std::fs::write(folder.path().join("warden.toml"), text("https://warden.example.com")).unwrap();
    let (code, told) = checked(folder.path(), "supervisor");
    assert_eq!(code, 1);
    assert!(
        told.contains("is for localhost, and nodes call the Supervisor warden.example.com (public_url)"),
        "{told}"
    );
    let open = configured("[supervisor]\nlisten = \"0.0.0.0:7601\"\n");
    let (code, told) = checked(open.path(), "supervisor");
    assert_eq!(code, 1);
    assert!(
        told.contains("supervisor.listen is open to others: without TLS, keys and credentials can be read"),
        "{told}"
    );
}

#[test]
fn the_agents_configuration_is_checked_with_the_policy_and_the_certificates_that_it_names() {
    let ours = Authority::new("ours");
    let folder = configured("");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("ca.pem"), ours.pem()).unwrap();
    let settings = |ca: &str, more: &str| {
        let text = format!(
            "[agent]\nca_file = {:?}\npolicy = {:?}\nstate_directory = {:?}\n{more}",
            at(ca),
            at("policy.toml"),
            at("state")
        );
        std::fs::write(at("warden.toml"), text).unwrap();
        checked(folder.path(), "agent")
    };
    let (code, told) = settings("ca.pem", "");
    assert_eq!(code, 0, "{told}");
    assert!(
        told.contains(&format!(
            "the Supervisor is believed by the authorities in {}",
            at("ca.pem").display()
        )),
        "{told}"
    );
    std::fs::write(at("policy.toml"), "[[rule]]\nname = 7\n").unwrap();
    let (code, told) = settings("absent.pem", "hearbeat_seconds = 7\n[unit]\n");
    assert_eq!(code, 1);
    for line in [
        "FAIL     configuration  2 things are wrong with the configuration\n",
        "unknown key `hearbeat_seconds`; did you mean `heartbeat_seconds`?\n",
        "unknown section `unit`; did you mean `units`?\n",
        "FAIL     policy         the policy ",
        "FAIL     certificates   cannot read ",
        "3 things fail; begin with the first\n",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
}

#[test]
fn a_reload_takes_up_the_log_level_and_names_what_waits_for_a_restart() {
    let folder = configured("[supervisor]\nlisten = \"127.0.0.1:0\"\n");
    let write = |text: &str| std::fs::write(folder.path().join("warden.toml"), text).unwrap();
    let running = Running::start(command(folder.path(), &[]));
    write("[supervisor]\nlisten = \"127.0.0.1:1\"\nlog = \"warn\"\nrequests_at_once = 7\n");
    running.hang_up();
    running.logged("the configuration was read anew");
    running.logged(
        "changed, and taken up at the next start alone (systemctl restart warden-supervisor): supervisor.listen, \
         supervisor.requests_at_once",
    );
    write("[supervisor]\nlisten = 7\n");
    running.hang_up();
    running.logged(
        "the configuration is not taken, and stays as it was: one thing is wrong with the configuration",
    );
    write("[supervisor]\nlisten = \"127.0.0.1:0\"\nlog = \"warn,warden=debug\"\n");
    running.hang_up();
    // At `warn` this is not logged: the level of before was taken up, and now this one is.
    running.logged("what is logged: warn,warden=debug");
    let told = running.log();
    assert_eq!(told.matches("the configuration was read anew").count(), 1, "{told}");
}

#[test]
fn what_is_logged_is_chosen_by_part_as_the_packaged_configuration_names_it() {
    for (level, is_told) in [("info,warden::supervisor=debug", true), ("info,warden::agent=debug", false)] {
        let folder = configured(&format!("[supervisor]\nlisten = \"127.0.0.1:0\"\nlog = \"{level}\"\n"));
        let running = Running::start(command(folder.path(), &[]));
        let url = format!("http://{}/deployments", running.address);
        assert!(curl(&["-o", "/dev/null", &url]).status.success());
        if is_told {
            running.logged("/deployments");
        }
        let log = running.log();
        assert_eq!(log.contains("/deployments"), is_told, "{level}: {log}");
    }
}

#[test]
fn an_agent_goes_on_through_a_reload() {
    let folder = configured("");
    let write = |more: &str| {
        let (state, run) = (folder.path().join("state"), folder.path().join("run"));
        let text = format!("[agent]\nstate_directory = {state:?}\nruntime_directory = {run:?}\n{more}");
        std::fs::write(folder.path().join("warden.toml"), text).unwrap();
    };
    write("");
    let log = folder.path().join("log");
    let mut agent = Command::new(env!("CARGO_BIN_EXE_warden"))
        .args(["agent", "--config", "."])
        .env_clear()
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let logged = |text: &str| {
        until(text, || std::fs::read_to_string(&log).unwrap().contains(text).then_some(()));
    };
    logged("the agent has started");
    write("log = \"debug\"\nheartbeat_seconds = 7\n");
    let pid = Pid::from_raw(i32::try_from(agent.id()).unwrap());
    kill(pid, Signal::SIGHUP).unwrap();
    logged("what is logged: debug");
    logged(
        "changed, and taken up at the next start alone (systemctl restart warden): agent.heartbeat_seconds",
    );
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(agent.wait().unwrap().code(), Some(0));
}

/// Verdict and text of what `warden doctor` says about something.
fn doctor(folder: &Path, about: &str) -> Option<(String, String)> {
    let output = warden(folder, &["doctor", "--json"]);
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let found = findings.iter().find(|finding| finding["about"] == about)?;
    let text = |key: &str| found[key].as_str().unwrap().to_owned();
    Some((text("verdict"), text("told")))
}

#[test]
fn the_doctor_looks_at_the_supervisors_certificate_database_objects_and_room() {
    let folder = configured("");
    let data = folder.path().join("data");
    let write = |more: &str| {
        let text =
            format!("[agent]\nstate_directory = {:?}\n[supervisor]\n{more}", folder.path().join("state"));
        std::fs::write(folder.path().join("warden.toml"), text).unwrap();
    };
    write("");
    assert_eq!(doctor(folder.path(), "database"), None, "this host has no Supervisor");
    let home = format!("data_directory = {data:?}\n");
    write(&home);
    let told = |about: &str| doctor(folder.path(), about).unwrap();
    let pass = |text: String| ("pass".to_owned(), text);
    assert_eq!(told("certificate"), pass("none, and none is needed on one host".into()));
    assert_eq!(told("database"), pass(format!("{} is made at the first start", data.display())));
    assert_eq!(
        told("object store"),
        pass(format!("{} is made at the first start", data.join("objects").display()))
    );
    assert_ne!(told("room").0, "unknown");

    let mut running = Running::start(command(folder.path(), &["--listen", "127.0.0.1:0"]));
    running.key();
    running.stop(Signal::SIGTERM);
    // Where the package is installed it would want its user to own it.
    if nix::unistd::User::from_name("warden-supervisor").unwrap().is_none() {
        let (verdict, text) = told("database");
        assert!(verdict == "pass" && text.starts_with("SQLite, ") && text.ends_with(", whole"), "{text}");
        std::fs::write(data.join("warden.sqlite"), "x".repeat(4096)).unwrap();
        let (verdict, text) = told("database");
        assert!(verdict == "fail" && text.ends_with("warden.sqlite is no database"), "{text}");
    }
    write(&format!("{home}listen = \"0.0.0.0:7600\"\n"));
    assert_eq!(told("supervisor").0, "fail");
    assert_eq!(told("certificate").0, "fail");

    std::fs::write(folder.path().join("secret"), "SK").unwrap();
    let secret = folder.path().join("secret");
    write(&format!(
        "{home}s3 = {{ endpoint = \"http://127.0.0.1:1\", region = \"x\", bucket = \"b\", access_key_id = \"A\", \
         secret_access_key_file = {secret:?} }}\n"
    ));
    let (verdict, text) = told("object store");
    assert!(verdict == "fail" && text.starts_with("bucket b at http://127.0.0.1:1: "), "{text}");
}

#[test]
fn the_doctor_asks_postgresql_whether_it_takes_writes() {
    let backend = Backend::postgres();
    let Backend::Postgres { server, url, .. } = &backend else { unreachable!("it was asked for") };
    let folder = configured("");
    let file = folder.path().join("url");
    std::fs::write(&file, url).unwrap();
    let text = format!("[supervisor]\nlisten = \"127.0.0.1:0\"\ndatabase_url_file = {file:?}\n");
    std::fs::write(folder.path().join("warden.toml"), text).unwrap();
    let told = || doctor(folder.path(), "database").unwrap();
    let fresh = "PostgreSQL answers; its tables are made at the first start";
    assert_eq!(told(), ("pass".to_owned(), fresh.to_owned()));
    let mut running = Running::start(command(folder.path(), &[]));
    running.key();
    running.stop(Signal::SIGTERM);
    assert_eq!(told(), ("pass".to_owned(), "PostgreSQL answers and takes writes".to_owned()));
    server.read_only(url);
    let (verdict, text) = told();
    assert!(verdict == "fail" && text.contains("it takes no writes"), "{text}");
    assert!(!text.contains("postgres://"), "{text}");
}
