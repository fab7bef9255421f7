//! A real systemd with D-Bus, journal and polkit, booted within a second on a throw-away view of this machine.
//!
//! What is written inside is gone with the sandbox. Several run side by side, each with its own network, processes,
//! machine id and boot id. The program of the tests is there at its own path.

mod cgroup;
mod seed;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use cgroup::Cgroup;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Booting takes half a second on an idle machine.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// Capabilities that reach the whole machine from inside any namespace.
const DROP: &str =
    "-sys_module,-sys_time,-sys_boot,-sys_rawio,-audit_control,-audit_read,-wake_alarm,-mac_admin";

pub struct Sandbox {
    init: Pid,
    launcher: Child,
    cgroup: Cgroup,
    state: TempDir,
}

impl Sandbox {
    pub fn boot() -> Sandbox {
        Sandbox::boot_showing(&[])
    }

    /// The same, with `paths` of this machine inside at the same place, live and writable.
    pub fn boot_showing(paths: &[&Path]) -> Sandbox {
        assert!(nix::unistd::geteuid().is_root(), "this test boots systemd: run it as root");
        for program in
            ["/lib/systemd/systemd", "/usr/bin/dbus-daemon", "/usr/bin/unshare", "/usr/bin/setpriv"]
        {
            assert!(
                Path::new(program).exists(),
                "{program} is missing: tests/run installs what the tests need"
            );
        }
        let state = tempfile::Builder::new().prefix("warden-sandbox-").tempdir().unwrap();
        seed::write(&state.path().join("seed"));
        fs::create_dir(state.path().join("share")).unwrap();
        fs::write(state.path().join("console.log"), "").unwrap();
        fs::write(state.path().join("binds"), binds(paths)).unwrap();
        let log = fs::File::create(state.path().join("boot.log")).unwrap();
        let cgroup = Cgroup::new();

        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/sandbox/boot.sh");
        let mut command = cgroup.command("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--fork",
        ]);
        command
            .args(["--kill-child=KILL", "bash"])
            .arg(script)
            .arg(state.path())
            .arg(cgroup.path())
            .arg(DROP);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut sandbox = Sandbox { init: Pid::from_raw(0), launcher: spawn(command), cgroup, state };
        sandbox.wait_until_booted();
        sandbox
    }

    /// Where its root directory is seen from outside.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init))
    }

    /// Its system bus, for clients outside. Inside it is where it always is.
    pub fn bus_address(&self) -> String {
        format!("unix:path={}", self.root().join("run/dbus/system_bus_socket").display())
    }

    /// The folder of this machine it keeps its files in; gone with it, and so is its control group.
    pub fn state(&self) -> PathBuf {
        self.state.path().to_owned()
    }

    pub fn cgroup(&self) -> PathBuf {
        self.cgroup.path().to_owned()
    }

    /// For `journalctl --directory`.
    pub fn journal(&self) -> PathBuf {
        self.root().join("run/log/journal")
    }

    /// A command that will run inside, as root, and dies with the process that waits for it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.cgroup.command("nsenter");
        command.arg(format!("--target={}", self.init));
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--wdns=/", "--"]);
        command
            .args(["setpriv", "--pdeathsig", "KILL", &format!("--bounding-set={DROP}"), "--"])
            .arg(program);
        for name in
            ["DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS", "NOTIFY_SOCKET", "XDG_RUNTIME_DIR"]
        {
            command.env_remove(name);
        }
        command
    }

    /// Lays a cable to another one: this has the address `own` there, that one `theirs`, each like `10.77.0.1`.
    pub fn wire(&self, other: &Sandbox, own: &str, theirs: &str) {
        let [here, there] = [self.init, other.init].map(|init| init.to_string());
        let laid = Command::new("ip")
            .args([
                "link", "add", "cable", "netns", &here, "type", "veth", "peer", "name", "cable", "netns",
                &there,
            ])
            .output()
            .unwrap();
        assert!(laid.status.success(), "{}", String::from_utf8_lossy(&laid.stderr));
        for (sandbox, address) in [(self, own), (other, theirs)] {
            sandbox.run(&["ip", "address", "add", &format!("{address}/24"), "dev", "cable"]);
            sandbox.run(&["ip", "link", "set", "cable", "up"]);
        }
    }

    /// Runs a command inside to its end, whatever that is.
    pub fn output(&self, command: &[&str]) -> Output {
        self.command(command[0]).args(&command[1..]).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command inside that must succeed; what it printed, without the last line end.
    pub fn run(&self, command: &[&str]) -> String {
        let output = self.output(command);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {} {told}", output.status);
        String::from_utf8(output.stdout).unwrap().trim_end_matches('\n').to_owned()
    }

    /// Writes a file inside, with the folders above it.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Reads a file inside.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path.trim_start_matches('/'))).unwrap_or_default()
    }

    /// Writes a unit file and lets systemd read it.
    pub fn unit(&self, name: &str, text: &str) {
        self.write(&format!("/etc/systemd/system/{name}"), text);
        self.run(&["systemctl", "daemon-reload"]);
    }

    /// A property of a unit, as `systemctl show` prints it.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.run(&["systemctl", "show", "--value", "--property", name, unit])
    }

    fn wait_until_booted(&mut self) {
        let share = self.state.path().join("share");
        let began = Instant::now();
        loop {
            if let Ok(pid) = fs::read_to_string(share.join("pid"))
                && let Ok(pid) = pid.trim().parse()
            {
                self.init = Pid::from_raw(pid);
                if share.join("ready").exists() {
                    return;
                }
            }
            if began.elapsed() > BOOT_LIMIT || matches!(self.launcher.try_wait(), Ok(Some(_))) {
                panic!("the sandbox does not boot:\n{}", self.what_was_said());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn what_was_said(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.state.path().join(name)).unwrap_or_default();
        let journal =
            Command::new("journalctl").arg("--directory").arg(self.journal()).args(["--lines=40"]).output();
        let journal = journal.map_or_else(|_| Vec::new(), |output| output.stdout);
        format!("{}{}{}", read("boot.log"), read("console.log"), String::from_utf8_lossy(&journal))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.init.as_raw() > 0 {
            // The kernel takes the whole pid namespace down with its first process.
            let _ = kill(self.init, Signal::SIGKILL);
        }
        let _ = self.launcher.kill();
        let _ = self.launcher.wait();
        self.cgroup.remove();
    }
}

/// The program of the tests, which tests start inside, and what the test asked for.
fn binds(paths: &[&Path]) -> String {
    let program = std::env::current_exe().unwrap();
    let built = program.parent().and_then(Path::parent).unwrap();
    let mut lines = format!("ro\t{}\n", built.display());
    for path in paths {
        lines.push_str(&format!("rw\t{}\n", path.display()));
    }
    lines
}

/// Starts a process from a thread that lives as long as this process: `setpriv --pdeathsig` acts when the thread
/// ends that started it.
fn spawn(command: Command) -> Child {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static KEEPER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (orders, taken) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in taken {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, child) = mpsc::channel();
    keeper.send((command, answer)).unwrap();
    child.recv().unwrap().unwrap()
}
