//! The sandbox itself: private, side by side, and gone without a trace.

use std::path::Path;

use crate::support::sandbox::Sandbox;

#[test]
fn sandboxes_side_by_side_know_nothing_of_each_other_or_of_this_machine() {
    let (one, other) = (Sandbox::boot(), Sandbox::boot());
    one.unit("only-here.service", "[Service]\nExecStart=/bin/sleep 600\n");
    one.run(&["systemctl", "start", "only-here.service"]);
    assert_eq!(one.property("only-here.service", "ActiveState"), "active");
    assert_eq!(other.property("only-here.service", "LoadState"), "not-found");
    assert!(!Path::new("/etc/systemd/system/only-here.service").exists());
    let boots = [&one, &other].map(|sandbox| sandbox.run(&["cat", "/proc/sys/kernel/random/boot_id"]));
    let here = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(boots[0] != boots[1] && !boots.contains(&here.trim().to_owned()), "{boots:?}");
    assert_ne!(one.read("/etc/machine-id"), other.read("/etc/machine-id"));
    assert_eq!(one.run(&["ps", "-p", "1", "-o", "comm="]), "systemd");
}

#[test]
fn a_sandbox_leaves_nothing_behind_even_when_its_test_panics() {
    let mut root = None;
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let sandbox = Sandbox::boot();
        sandbox.unit("stays.service", "[Service]\nExecStart=/bin/sleep 600\n");
        sandbox.run(&["systemctl", "start", "stays.service"]);
        root = Some((sandbox.root(), sandbox.state(), sandbox.cgroup()));
        panic!("as a failed assertion would");
    }));
    assert!(broken.is_err());
    let (root, state, cgroup) = root.unwrap();
    assert!(!root.exists() && !state.exists() && !cgroup.exists());
}

#[test]
fn its_bus_and_its_journal_are_reached_from_outside() {
    let sandbox = Sandbox::boot();
    sandbox.unit("talks.service", "[Service]\nType=oneshot\nExecStart=/bin/echo 0x2a is the word\n");
    sandbox.run(&["systemctl", "start", "talks.service"]);
    let listed = std::process::Command::new("busctl")
        .args(["--address", &sandbox.bus_address(), "list", "--acquired", "--no-legend"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("org.freedesktop.systemd1"), "{listed:?}");
    crate::support::until("the journal has the line", || {
        let lines = std::process::Command::new("journalctl")
            .arg("--directory")
            .arg(sandbox.journal())
            .args(["--unit", "talks.service", "--output", "cat"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&lines.stdout).contains("0x2a is the word").then_some(())
    });
}
