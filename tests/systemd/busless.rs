//! While the bus is down, the kernel tells of the clock, and systemd of the units, by its own socket.

use serde_json::Value;

use crate::support::sandbox::Sandbox;

#[test]
fn a_snapshot_judges_clock_and_units_while_there_is_no_bus() {
    let sandbox = Sandbox::boot();
    sandbox.unit("broken.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n");
    assert!(!sandbox.output(&["systemctl", "start", "broken.service"]).status.success());
    sandbox.run(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
    assert!(!sandbox.output(&["timedatectl", "show"]).status.success());
    let warden = env!("CARGO_BIN_EXE_warden");
    sandbox.run(&[
        warden,
        "snapshot",
        "--only=system-time,units-failed",
        "--fail-on=never",
        "--quiet",
        "--output=/run/report.json",
    ]);
    let report: Value = serde_json::from_str(&sandbox.read("/run/report.json")).unwrap();
    let finding =
        |id: &str| report["checks"].as_array().unwrap().iter().find(|check| check["id"] == id).unwrap();
    let units = finding("units-failed");
    assert_eq!(units["outcome"], "warn");
    let problems = units["problems"].to_string();
    for told in
        ["systemd runs and cannot be asked: no D-Bus system bus on this host; ", "broken.service failed"]
    {
        assert!(problems.contains(told), "{told}: {units:#}");
    }
    let time = finding("system-time");
    assert!(["pass", "note", "warn"].contains(&time["outcome"].as_str().unwrap()), "{time:#}");
    assert!(time["summary"].as_str().unwrap().contains("(by the kernel)"), "{time:#}");
    assert!(time["evidence"].to_string().contains("synchronised, by the kernel"), "{time:#}");
}
