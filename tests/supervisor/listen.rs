//! The socket, and `warden supervisor` as a person starts it.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

use super::Backend;

/// `warden supervisor` on a port of its own, stopped when dropped.
pub struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    /// What it logged since it listens.
    log: Arc<Mutex<String>>,
    pub address: String,
}

pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warden"));
    command.args(["supervisor", "--config"]).arg(folder).arg("--data-dir").arg(folder.join("data"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

fn refused(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, stdout } = command(folder, arguments).output().unwrap();
    assert_eq!(stdout, b"");
    (status.code(), String::from_utf8(stderr).unwrap())
}

impl Running {
    pub fn start(mut command: Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listens on ") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended early");
        }
        let address = line.split("listens on ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        let logged = Arc::new(Mutex::new(String::new()));
        let lines = Arc::clone(&logged);
        std::thread::spawn(move || {
            log.lines().map_while(Result::ok).for_each(|line| *lines.lock().unwrap() += &line)
        });
        Running { child, out, log: logged, address }
    }

    pub fn hang_up(&self) {
        self.signal(Signal::SIGHUP);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Waits until it has logged this.
    pub fn logged(&self, text: &str) {
        super::super::support::until(text, || self.log.lock().unwrap().contains(text).then_some(()));
    }

    /// All that it has logged since it listens.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The administrator's key, which it prints at its first start.
    pub fn key(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        key(&line).to_owned()
    }

    /// Ends it as a crash does.
    pub fn crash(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop; returns the exit code and what else it printed.
    pub fn stop(mut self, signal: Signal) -> (Option<i32>, String) {
        self.signal(signal);
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn key(line: &str) -> &str {
    line.strip_prefix("administrator key, shown this once: ").unwrap().trim_end()
}

pub fn curl(arguments: &[&str]) -> Output {
    Command::new("curl").args(["-sS", "--max-time", "20"]).args(arguments).output().unwrap()
}

#[test]
fn the_first_start_prints_the_key_and_no_other_does() {
    let folder = tempfile::tempdir().unwrap();
    let plain = ["--listen", "127.0.0.1:0"];
    let mut first = Running::start(command(folder.path(), &plain));
    let shown = first.key();
    let address = first.address.clone();
    let header = format!("ld-api-key: {shown}");
    let answer =
        curl(&["-w", "%{http_code}", "-o", "/dev/null", "-H", &header, &format!("http://{address}/audit")]);
    assert_eq!(answer.stdout, b"200");
    let second = refused(folder.path(), &plain);
    assert_eq!(second.0, Some(2));
    assert!(second.1.contains("another Supervisor runs on"), "{}", second.1);
    assert_eq!(first.stop(Signal::SIGTERM), (Some(0), String::new()));

    let again = Running::start(command(folder.path(), &plain));
    let url = format!("http://{}/audit", again.address);
    assert_eq!(curl(&["-w", "%{http_code}", "-o", "/dev/null", "-H", &header, &url]).stdout, b"200");
    assert_eq!(again.stop(Signal::SIGINT), (Some(0), String::new()));

    let mut anew =
        Running::start(command(folder.path(), &[&plain[..], &["--new-administrator-key"]].concat()));
    assert_ne!(anew.key(), shown);
    anew.stop(Signal::SIGTERM);
    for (name, mode) in [("", 0o700), ("warden.sqlite", 0o600), ("lock", 0o600)] {
        let found = folder.path().join("data").join(name).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(found, mode, "{name:?}");
    }
}

#[test]
fn the_key_can_go_into_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let into = ["--listen", "127.0.0.1:0", "--administrator-key-file", path.to_str().unwrap()];
    let running = Running::start(command(folder.path(), &into));
    super::super::support::until("the key is written", || {
        std::fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))
    });
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("wk_"));
    assert_eq!(running.stop(Signal::SIGTERM), (Some(0), String::new()), "it is not printed as well");
}

#[test]
fn nobody_is_served_in_the_clear_from_elsewhere_unless_it_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (code, told) = refused(folder.path(), &["--listen", "0.0.0.0:0"]);
    assert_eq!(code, Some(2));
    assert!(told.contains("without TLS, keys and credentials can be read on the way to 0.0.0.0:0"), "{told}");
    assert!(!folder.path().join("data").exists(), "nothing was made");
    let insecure = ["--listen", "0.0.0.0:0", "--insecure-plain-http"];
    let running = Running::start(command(folder.path(), &insecure));
    let port = running.address.rsplit(':').next().unwrap().to_owned();
    let answer = curl(&["-w", "%{http_code}", "-o", "/dev/null", &format!("http://127.0.0.1:{port}/health")]);
    assert_eq!(answer.stdout, b"200");
}

#[test]
fn whatever_is_wrong_with_the_configuration_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[supervisor]\nlisten = \"x\"\ncolour = 1\ntls_key = \"k\"\n";
    std::fs::write(folder.path().join("warden.toml"), text).unwrap();
    let (code, told) = refused(folder.path(), &[]);
    assert_eq!((code, told.lines().count()), (Some(2), 4), "{told}");
    std::fs::write(folder.path().join("warden.toml"), "").unwrap();
    let mut with_url = command(folder.path(), &["--listen", "127.0.0.1:0"]);
    let Output { status, stderr, .. } =
        with_url.env("WARDEN_DATABASE_URL", "postgres://u:s3cret@127.0.0.1:1/x").output().unwrap();
    let told = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(told.contains("cannot connect to PostgreSQL") && !told.contains("s3cret"), "{told}");
    let (code, told) = refused(folder.path(), &["--tls-cert", "x"]);
    assert_eq!(code, Some(2));
    assert!(told.contains("--tls-key"), "{told}");
}

#[test]
fn the_state_is_in_postgresql_when_the_environment_says_so() {
    let backend = Backend::postgres();
    let Backend::Postgres { url, server, .. } = &backend else { panic!("not PostgreSQL") };
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path(), &["--listen", "127.0.0.1:0"]);
    command.env("WARDEN_DATABASE_URL", url);
    let mut running = Running::start(command);
    running.key();
    assert!(server.dump(url).contains("\tadministrator\t"), "the key is in PostgreSQL");
    assert!(!folder.path().join("data/warden.sqlite").exists());
    assert_eq!(running.stop(Signal::SIGTERM), (Some(0), String::new()));
}

/// A CA, a certificate for 127.0.0.1 that it signed, one that has expired, and one for a client.
pub struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    pub fn new() -> Certificates {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        for (name, subject, until) in
            [("server", "127.0.0.1", 2100), ("client", "node.example", 2100), ("expired", "127.0.0.1", 2025)]
        {
            let own = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![subject.to_owned()]).unwrap();
            params.not_after = date_time_ymd(until, 1, 1);
            let signed = params.signed_by(&own, &ca).unwrap();
            std::fs::write(folder.path().join(format!("{name}.pem")), signed.pem()).unwrap();
            std::fs::write(folder.path().join(format!("{name}.key")), own.serialize_pem()).unwrap();
        }
        Certificates { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

#[test]
fn https_speaks_both_versions_of_http() {
    let certificates = Arc::new(Certificates::new());
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (certificates.text("server.pem"), certificates.text("server.key"));
    let tls = ["--listen", "127.0.0.1:0", "--tls-cert", &certificate, "--tls-key", &key];
    let running = Running::start(command(folder.path(), &tls));
    let url = format!("https://{}/health", running.address);
    let ca = certificates.text("ca.pem");
    for (version, told) in [("--http1.1", "1.1 200"), ("--http2", "2 200")] {
        let answer =
            curl(&[version, "--cacert", &ca, "-w", "%{http_version} %{http_code}", "-o", "/dev/null", &url]);
        assert_eq!(String::from_utf8_lossy(&answer.stdout), told, "{answer:?}");
    }
    assert_eq!(curl(&[&url]).status.code(), Some(60), "a certificate nobody vouches for");
    let plain = curl(&[&url.replace("https", "http")]);
    assert!(!plain.status.success(), "{plain:?}");
    let list = curl(&["--cacert", &ca, &url.replace("health", "openapi.json")]);
    assert!(list.status.success());
    assert_eq!(running.stop(Signal::SIGTERM).0, Some(0));
}

#[test]
fn a_renewed_certificate_is_taken_up_and_a_torn_or_expired_one_is_not() {
    let (first, second) = (Certificates::new(), Certificates::new());
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (first.text("server.pem"), first.text("server.key"));
    let tls = ["--listen", "127.0.0.1:0", "--tls-cert", &certificate, "--tls-key", &key];
    let running = Running::start(command(folder.path(), &tls));
    let url = format!("https://{}/health", running.address);
    let vouched = |by: &Certificates| curl(&["--cacert", &by.text("ca.pem"), &url]).status.success();
    assert!(vouched(&first));

    let torn = &std::fs::read(second.path("server.pem")).unwrap()[..100];
    std::fs::write(first.path("server.pem"), torn).unwrap();
    running.hang_up();
    running.logged("the renewed certificate is not taken");
    assert!(vouched(&first), "it serves the one it has");
    for ending in ["pem", "key"] {
        let file = |name: &str| first.path(&format!("{name}.{ending}"));
        std::fs::copy(file("expired"), file("server")).unwrap();
    }
    running.hang_up();
    running.logged("server.pem expired ");
    assert!(vouched(&first), "it serves the one that is valid");

    std::fs::copy(second.path("server.pem"), first.path("server.pem")).unwrap();
    std::fs::copy(second.path("server.key"), first.path("server.key")).unwrap();
    running.hang_up();
    running.logged("the certificate was read anew");
    assert!(vouched(&second) && !vouched(&first));
    assert_eq!(running.stop(Signal::SIGTERM).0, Some(0));

    let plain = Running::start(command(folder.path(), &["--listen", "127.0.0.1:0"]));
    plain.hang_up();
    let url = format!("http://{}/health", plain.address);
    assert!(curl(&[&url]).status.success(), "there is nothing to read anew, and nothing ends");
}

#[test]
fn clients_can_be_made_to_show_a_certificate() {
    let certificates = Certificates::new();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key, ca) =
        (certificates.text("server.pem"), certificates.text("server.key"), certificates.text("ca.pem"));
    let text = format!(
        "[supervisor]\nlisten = \"127.0.0.1:0\"\ntls_certificate = {certificate:?}\ntls_key = {key:?}\n\
         tls_client_ca = {ca:?}\n"
    );
    std::fs::write(folder.path().join("warden.toml"), text).unwrap();
    let running = Running::start(command(folder.path(), &[]));
    let url = format!("https://{}/health", running.address);
    assert!(!curl(&["--cacert", &ca, &url]).status.success(), "no certificate, no answer");
    let own = [certificates.text("client.pem"), certificates.text("client.key")];
    let shown = ["--cacert", &ca, "--cert", &own[0], "--key", &own[1], &url];
    assert!(curl(&shown).status.success());
}

#[test]
fn a_certificate_that_cannot_be_used_is_named() {
    let certificates = Certificates::new();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(certificates.path("empty.pem"), "").unwrap();
    for (certificate, key, told) in [
        ("empty.pem", "server.key", "there is no certificate in "),
        ("absent.pem", "server.key", "cannot read "),
        ("server.pem", "server.pem", "there is no private key in "),
        ("server.pem", "client.key", "do not fit"),
    ] {
        let (certificate, key) = (certificates.text(certificate), certificates.text(key));
        let tls = ["--listen", "127.0.0.1:0", "--tls-cert", &certificate, "--tls-key", &key];
        let (code, text) = refused(folder.path(), &tls);
        assert_eq!(code, Some(2));
        assert!(text.contains(told), "{text}");
    }
}
