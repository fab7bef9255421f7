//! `warden supervisor init-tls`: an authority, a certificate, and a Supervisor that is served with them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::listen::{Running, command};
use crate::support::until;

const FILES: [&str; 4] = ["supervisor-ca.key", "supervisor-ca.pem", "supervisor.key", "supervisor.pem"];

fn warden(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_warden"))
        .args(arguments)
        .env_clear()
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn init_tls(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = warden(folder, &[&["supervisor", "init-tls", "--dir", "."], arguments].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn openssl(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn contents(folder: &Path) -> Vec<Vec<u8>> {
    FILES.map(|name| std::fs::read(folder.join(name)).unwrap()).to_vec()
}

#[test]
fn an_authority_and_a_certificate_are_made_for_the_names_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (code, told, error) = init_tls(folder, &["warden.example.com", "10.0.0.5", "2001:db8::1"]);
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(files(folder), FILES);
    let mode = |name: &str| folder.join(name).metadata().unwrap().permissions().mode() & 0o7777;
    // Where the package is installed its group reads the key.
    let group = nix::unistd::Group::from_name("warden-supervisor").unwrap().is_some();
    assert_eq!(FILES.map(mode), [0o600, 0o644, if group { 0o640 } else { 0o600 }, 0o644]);

    let fingerprint =
        openssl(folder, &["x509", "-in", "supervisor-ca.pem", "-noout", "-fingerprint", "-sha256"]);
    let fingerprint = fingerprint.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    assert!(told.contains(&format!("SHA-256 fingerprint of the authority:\n  {fingerprint}\n")), "{told}");
    let enrol = format!(
        "warden enroll https://warden.example.com:7600 --ca-fingerprint {fingerprint} --token-file token"
    );
    assert!(told.contains(&enrol), "{told}");
    assert!(
        told.contains("tls_certificate = \"") && told.contains("warden supervisor --check-config"),
        "{told}"
    );
    for name in ["warden.example.com", "10.0.0.5"] {
        let option = if name.starts_with('1') { "-verify_ip" } else { "-verify_hostname" };
        let verify =
            ["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "supervisor-ca.pem", option, name];
        openssl(folder, &[&verify[..], &["supervisor.pem"]].concat());
    }
    let own = openssl(folder, &["x509", "-in", "supervisor.pem", "-noout", "-text"]);
    assert!(own.contains("IP Address:2001:DB8:0:0:0:0:0:1") && own.contains("CA:FALSE"), "{own}");
    let authority = openssl(folder, &["x509", "-in", "supervisor-ca.pem", "-noout", "-text"]);
    assert!(authority.contains("CA:TRUE, pathlen:0"), "{authority}");

    let before = contents(folder);
    let (code, told, error) = init_tls(folder, &["other.example.com"]);
    assert_eq!((code, told.as_str()), (2, ""));
    assert!(
        error.starts_with("error: nothing is overwritten, and ") && error.contains("supervisor-ca.pem"),
        "{error}"
    );
    assert_eq!(contents(folder), before);
    for name in &FILES[1..] {
        std::fs::remove_file(folder.join(name)).unwrap();
    }
    assert_eq!(init_tls(folder, &["other.example.com"]).0, 2);
    assert_eq!(
        files(folder),
        FILES[..1],
        "one that is there is reason enough, and nothing is left half-made"
    );
}

#[test]
fn what_is_no_name_of_a_host_is_refused_and_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    for wrong in ["https://a.example", "a.example:7600", "a b", "", "-a.example", "300.1.1.1", "a..b"] {
        let (code, _, error) = init_tls(folder.path(), &["--", wrong]);
        assert!(code == 2 && error.contains("is no name or address of a host"), "{wrong}: {error}");
    }
    let (code, _, error) = init_tls(folder.path(), &[]);
    assert!(code == 2 && error.contains("<NAME>"), "{error}");
    let output = warden(folder.path(), &["supervisor", "init-tls", "a.example", "--dir", "/proc/nowhere"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("error: cannot write /proc/nowhere/supervisor-ca.key: "), "{error}");
    assert_eq!(files(folder.path()), [""; 0]);
}

#[test]
fn a_node_knows_the_supervisor_by_the_fingerprint_and_ctl_and_uploads_go_by_the_same_authority() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_, told, _) = init_tls(folder, &["localhost", "--json"]);
    let made: Value = serde_json::from_str(&told).unwrap();
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    let (certificate, key, ca) = (text("tls_certificate"), text("tls_key"), text("ca_file"));
    let mut running = Running::start(command(
        folder,
        &["--listen", "127.0.0.1:0", "--tls-cert", &certificate, "--tls-key", &key],
    ));
    let url = format!("https://localhost:{}", running.address.rsplit(':').next().unwrap());
    let administrator = running.key();
    let ctl = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warden"));
        command.arg("ctl").args(arguments).env_clear().env("HOME", folder).current_dir(folder);
        command.env("WARDEN_URL", &url).env("WARDEN_CA", &ca).env("WARDEN_API_KEY", &administrator);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    ctl(&["deployments", "create", "events"]);
    ctl(&["enrolments", "create", "--into", "token"]);
    let config = format!(
        "[agent]\nstate_directory = {:?}\nruntime_directory = {:?}\npolicy = \"/nonexistent/policy.toml\"\nproxy = \"none\"\n\
         iggy_api = \"none\"\n",
        folder.join("state"),
        folder.join("run"),
    );
    std::fs::create_dir(folder.join("node")).unwrap();
    std::fs::write(folder.join("node/warden.toml"), config).unwrap();
    let fingerprint = text("ca_sha256");
    let enrol =
        ["enroll", &url, "--config", "node", "--ca-fingerprint", &fingerprint, "--token-file", "token"];
    let output = warden(folder, &enrol);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.ends_with(&format!("which it believes by the authority {fingerprint} alone\n")), "{told}");

    let agent = Command::new(env!("CARGO_BIN_EXE_warden"))
        .args(["agent", "--config", "node"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _agent = Ended(agent);
    until("the node is online", || ctl(&["nodes", "list"]).contains("online").then_some(()));
    // Done means: the archive came over the same TLS, and was confirmed.
    let told = ctl(&["snapshots", "create", "--without-iggy", "--wait"]);
    assert!(told.contains("completed"), "{told}");

    // Another certificate by the same authority: nobody has to be told.
    let (code, told, error) = init_tls(folder, &["--renew"]);
    assert_eq!((code, error.as_str()), (0, ""), "{told}");
    assert!(told.contains("is made anew for localhost, valid until "), "{told}");
    running.hang_up();
    running.logged("the certificate was read anew");
    ctl(&["nodes", "list"]);
    let (code, _, error) = init_tls(&folder.join("node"), &["--renew", "localhost"]);
    assert!(code == 2 && error.contains("without --renew an authority is made"), "{error}");
}

/// Killed and reaped when dropped.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
