//! While the bus is down, timedatectl knows nothing; the kernel tells of the clock.

use serde_json::Value;

use crate::support::sandbox::Sandbox;

#[test]
fn a_snapshot_judges_the_clock_while_there_is_no_bus() {
    let sandbox = Sandbox::boot();
    sandbox.run(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
    assert!(!sandbox.output(&["timedatectl", "show"]).status.success());
    let warden = env!("CARGO_BIN_EXE_warden");
    sandbox.run(&[
        warden,
        "snapshot",
        "--only=system-time",
        "--fail-on=never",
        "--quiet",
        "--output=/run/report.json",
    ]);
    let report: Value = serde_json::from_str(&sandbox.read("/run/report.json")).unwrap();
    let time = &report["checks"][0];
    assert!(["pass", "note", "warn"].contains(&time["outcome"].as_str().unwrap()), "{time:#}");
    assert!(time["summary"].as_str().unwrap().contains("(by the kernel)"), "{time:#}");
    assert!(time["evidence"].to_string().contains("synchronised, by the kernel"), "{time:#}");
}
