//! How long a unit takes from the moment a restart is asked for until systemd says that it is active again: asked of
//! the Supervisor by a POST, through its store, the link, the agent's ledger, policy, audit log and polkit; and asked
//! by `systemctl restart` as root. In turn, in a sandboxed systemd, both stores on the disk of the build folder.
//!
//! cargo bench --bench restart                # as root
//! cargo bench --bench restart -- --rounds 9

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on says where")]

#[path = "../tests/support/sandbox/mod.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod sandbox;

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use sandbox::Sandbox;

const ROUNDS: usize = 40;
const UNIT: &str = "iggy.service";
const WARDEN: &str = env!("CARGO_BIN_EXE_warden");
const ADDRESS: &str = "127.0.0.1:7600";
/// Before what a process inside is to be.
const INSIDE: &str = "--inside";
/// Between two looks whether something has come about that is not measured.
const AGAIN: Duration = Duration::from_millis(50);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [INSIDE, "systemctl"] => by_systemctl(),
        [INSIDE, "post", key, deployment] => by_post(key, deployment),
        ["--rounds", rounds] => compare(rounds.parse().expect("a number of rounds")),
        _ => compare(ROUNDS),
    }
}

fn compare(rounds: usize) {
    let state = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let sandbox = Sandbox::boot_showing(&[state.path()]);
    let site = Site::start(&sandbox, state.path());
    let program = std::env::current_exe().unwrap();
    let mut systemctl = sandbox.command(&program);
    systemctl.args([INSIDE, "systemctl"]);
    let mut systemctl = Asker::start(systemctl);
    let mut post = sandbox.command(&program);
    post.args([INSIDE, "post", &site.key, &site.deployment]);
    let mut post = Asker::start(post);

    post.restart(&sandbox);
    systemctl.restart(&sandbox);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(post.restart(&sandbox));
        theirs.push(systemctl.restart(&sandbox));
    }
    let [own, other] = [show("POST at the Supervisor", &mut ours), show("systemctl restart", &mut theirs)];
    println!("difference of the medians     {:>7.2} ms", own - other);
}

/// A Supervisor and an agent, each as a user of its own, and a unit that runs.
struct Site {
    key: String,
    deployment: String,
    _daemons: [Daemon; 2],
}

impl Site {
    fn start(sandbox: &Sandbox, state: &Path) -> Site {
        let place = |name: &str| state.join(name).to_str().unwrap().to_owned();
        let [supervisor, agent, key, token] = ["supervisor", "agent", "supervisor/key", "token"].map(place);
        for (user, folder) in
            [("warden-supervisor", &supervisor), ("warden", &agent), ("warden", &"/run/warden".to_owned())]
        {
            sandbox.output(&["useradd", "--system", user]);
            sandbox.run(&["install", "-d", "-m", "700", "-o", user, folder]);
        }
        let rules = include_str!("../packaging/polkit/50-warden.rules");
        sandbox.write("/usr/share/polkit-1/rules.d/50-warden.rules", rules);
        sandbox.write(
            "/etc/warden/warden.toml",
            &format!("[agent]\nstate_directory = {agent:?}\niggy_api = \"none\"\n"),
        );
        sandbox.unit(UNIT, "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sleep 1000\n");
        sandbox.run(&["systemctl", "start", UNIT]);

        let listen =
            ["supervisor", "--listen", ADDRESS, "--data-dir", &supervisor, "--administrator-key-file", &key];
        let served = Daemon::start(sandbox, "warden-supervisor", &listen);
        wait_until(|| sandbox.output(&["test", "-s", &key]).status.success());
        let url = format!("http://{ADDRESS}");
        let ctl = |arguments: &[&str]| {
            let mut command = sandbox.command(WARDEN);
            command.arg("ctl").args(arguments).env("WARDEN_URL", &url).env("WARDEN_API_KEY_FILE", &key);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {output:?}");
            serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap_or_default()
        };
        ctl(&["deployments", "create", "bench"]);
        ctl(&["enrolments", "create", "--into", &token]);
        sandbox.run(&["chown", "warden", &token]);
        as_user(sandbox, "warden", &["enroll", &url, "--token-file", &token]).output().unwrap();
        let works = Daemon::start(sandbox, "warden", &["agent"]);
        wait_until(|| ctl(&["nodes", "list", "--json"])["items"][0]["status"] == "online");
        let deployment = ctl(&["deployments", "list", "--json"])["items"][0]["id"].to_string();
        let key = std::fs::read_to_string(state.join("supervisor/key")).unwrap().trim().to_owned();
        Site { key, deployment, _daemons: [served, works] }
    }
}

fn as_user(sandbox: &Sandbox, user: &str, arguments: &[&str]) -> Command {
    let mut command = sandbox.command("setpriv");
    let ids = [format!("--reuid={user}"), format!("--regid={user}"), "--init-groups".to_owned()];
    // A change of user forgets the signal that was to come with the end of the parent.
    command.args(ids).args(["--", "setpriv", "--pdeathsig", "KILL", "--", WARDEN]).args(arguments);
    command
}

struct Daemon(Child);

impl Daemon {
    fn start(sandbox: &Sandbox, user: &str, arguments: &[&str]) -> Daemon {
        let mut command = as_user(sandbox, user, arguments);
        command.env("WARDEN_LOG", "warn").stdin(Stdio::null()).stdout(Stdio::null());
        Daemon(command.spawn().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process inside that restarts the unit for each line it reads, says when it began to, and that it has ended.
struct Asker {
    child: Child,
    orders: ChildStdin,
    told: Lines<BufReader<ChildStdout>>,
}

impl Asker {
    fn start(mut command: Command) -> Asker {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let orders = child.stdin.take().unwrap();
        let told = BufReader::new(child.stdout.take().unwrap()).lines();
        Asker { child, orders, told }
    }

    /// Milliseconds from then until the unit was active again.
    fn restart(&mut self, sandbox: &Sandbox) -> f64 {
        writeln!(self.orders).unwrap();
        let began: f64 = self.told.next().unwrap().unwrap().parse().unwrap();
        let active: f64 = sandbox.property(UNIT, "ActiveEnterTimestampMonotonic").parse().unwrap();
        assert!(active > began, "it was restarted");
        (active - began) / 1000.0
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn by_systemctl() {
    for _ in std::io::stdin().lines() {
        let began = microseconds();
        assert!(Command::new("systemctl").args(["restart", UNIT]).status().unwrap().success());
        println!("{began}");
    }
}

fn by_post(key: &str, deployment: &str) {
    let mut server = Server { stream: TcpStream::connect(ADDRESS).unwrap(), key: key.to_owned() };
    server.stream.set_nodelay(true).unwrap();
    for _ in std::io::stdin().lines() {
        let began = microseconds();
        let started = server.ask("POST", &format!("/deployments/{deployment}/activities/iggy/restart"));
        let activity = &started["items"][0]["id"];
        assert!(activity.is_u64(), "{started}");
        // Until it is known that the unit stayed up: the next request would wait for that.
        wait_until(|| {
            let now = server.ask("GET", &format!("/deployments/{deployment}/activities/{activity}"));
            assert_ne!(now["status"], "rejected", "{now}");
            now["status"] == "completed"
        });
        println!("{began}");
    }
}

/// One kept connection, as a client that has just asked something else has.
struct Server {
    stream: TcpStream,
    key: String,
}

impl Server {
    fn ask(&mut self, method: &str, path: &str) -> serde_json::Value {
        let key = &self.key;
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {ADDRESS}\r\nld-api-key: {key}\r\n");
        let body = if method == "POST" {
            "content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
        } else {
            "\r\n"
        };
        self.stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut answer = BufReader::new(&self.stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            answer.read_line(&mut line).unwrap();
            if let Some(told) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = told.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body).unwrap();
        serde_json::from_slice(&body).unwrap()
    }
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        std::thread::sleep(AGAIN);
    }
}

/// CLOCK_MONOTONIC, in which systemd tells when a unit became active.
fn microseconds() -> i64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000
}

/// The median, in milliseconds.
fn show(name: &str, runs: &mut [f64]) -> f64 {
    runs.sort_by(f64::total_cmp);
    let at = |share: usize| runs[(runs.len() - 1) * share / 100];
    println!(
        "{name:<23} median {:>7.2} ms   fastest {:>7.2}   90 of 100 within {:>7.2}   (of {})",
        at(50),
        at(0),
        at(90),
        runs.len()
    );
    at(50)
}
