//! The packages: what is in them, and what becomes of a host they are installed on.

mod command;
mod content;
mod deb;
mod doctor;
mod readme;
mod rpm;
mod settings;
mod units;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::sandbox::Sandbox;

pub struct Packages {
    pub deb: PathBuf,
    pub rpm: PathBuf,
}

/// Both packages, made once of the program under test.
pub fn packages() -> &'static Packages {
    static MADE: OnceLock<Packages> = OnceLock::new();
    MADE.get_or_init(|| {
        build();
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
        std::fs::create_dir_all(&kept).unwrap();
        let keep = |ending: &str| {
            let made = made(ending);
            let kept = kept.join(made.file_name().unwrap());
            std::fs::copy(made, &kept).unwrap();
            kept
        };
        Packages { deb: keep("deb"), rpm: keep("rpm") }
    })
}

/// Runs packaging/build on what is built already.
fn build() {
    let program = Path::new(env!("CARGO_BIN_EXE_warden"));
    let folder = program.parent().unwrap();
    let profile = folder.file_name().unwrap().to_str().unwrap();
    let profile = if profile == "debug" { "dev" } else { profile };
    let output = Command::new("packaging/build")
        .args(["--no-build", "--profile", profile])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", folder.parent().unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn made(ending: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/package");
    let mut found = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    found.find(|path| path.extension().is_some_and(|found| found == ending)).unwrap()
}

/// A sandbox that sees the packages.
pub fn sandbox() -> Sandbox {
    let packages = packages();
    let sandbox = Sandbox::boot_showing(&[packages.deb.parent().unwrap()]);
    // Else each installation ends with a new index of every manual page of this machine.
    let _ = std::fs::remove_file(sandbox.root().join("var/lib/man-db/auto-update"));
    sandbox
}

/// The agent is up and says so, enrolled or not.
pub fn assert_the_agent_waits(sandbox: &Sandbox) {
    // An installation starts it, and does not wait until it has started.
    crate::support::until("the agent has started", || {
        (sandbox.property("warden.service", "ActiveState") != "activating").then_some(())
    });
    for (property, expected) in
        [("ActiveState", "active"), ("UnitFileState", "enabled"), ("User", "warden"), ("NRestarts", "0")]
    {
        assert_eq!(sandbox.property("warden.service", property), expected, "{property}");
    }
    assert_eq!(sandbox.property("warden-supervisor.service", "ActiveState"), "inactive");
    assert_eq!(sandbox.property("warden-supervisor.service", "UnitFileState"), "disabled");
    let told = crate::support::until("the agent says what it waits for", || {
        let text = sandbox.property("warden.service", "StatusText");
        text.contains("enroll").then_some(text)
    });
    assert!(told.contains("`warden enroll`"), "{told}");
    for (place, expected) in [
        ("/var/lib/warden", "700 warden warden"),
        ("/var/lib/warden-supervisor", "700 warden-supervisor warden-supervisor"),
        ("/run/warden", "755 warden warden"),
        ("/run/warden/status.json", "644 warden warden"),
        ("/etc/warden/policy.toml", "644 root root"),
    ] {
        assert_eq!(sandbox.run(&["stat", "--format=%a %U %G", place]), expected, "{place}");
    }
    assert!(sandbox.run(&["getent", "passwd", "warden"]).ends_with(":/var/lib/warden:/usr/sbin/nologin"));
}
