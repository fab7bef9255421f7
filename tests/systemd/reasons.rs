//! What leads a host to a snapshot by itself when no unit has failed: a filesystem that fills up, a certificate that runs
//! out, and the kernel, which kills for memory.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::automatic::Host;
use crate::support::pki::Authority;
use crate::support::sandbox::Sandbox;
use crate::support::until;

/// The reason of the snapshot of this kind.
fn reason(snapshots: &[Value], kind: &str) -> String {
    let of_kind = snapshots.iter().find(|snapshot| snapshot["trigger"]["kind"] == kind);
    let of_kind = of_kind.unwrap_or_else(|| panic!("{kind}: {snapshots:#?}"));
    assert_eq!(of_kind["status"], "completed", "{of_kind:#}");
    of_kind["trigger"]["reason"].as_str().unwrap().to_owned()
}

#[test]
fn a_full_filesystem_and_a_certificate_near_its_end_lead_to_a_snapshot_each() {
    let sandbox = Sandbox::boot();
    // 4 MiB that are storage to the agent: the writable half of an overlay, as of this host itself.
    sandbox.run(&["mkdir", "-p", "/small", "/var/lib/iggy"]);
    sandbox.run(&["mount", "-t", "tmpfs", "-o", "size=4m", "none", "/small"]);
    sandbox.run(&["mkdir", "/small/lower", "/small/upper", "/small/work"]);
    let layers = "lowerdir=/small/lower,upperdir=/small/upper,workdir=/small/work";
    sandbox.run(&["mount", "-t", "overlay", "-o", layers, "none", "/var/lib/iggy"]);
    sandbox.run(&["dd", "if=/dev/zero", "of=/var/lib/iggy/filler", "bs=4k", "count=1000"]);

    let in_three_days = Duration::from_secs(3 * 86_400);
    let certified = Authority::new("warden tests").server_for("iggy.example.com", in_three_days);
    sandbox.write("/etc/iggy/certificate.pem", &certified.certificate);
    let config = "[tcp]\nenabled = true\naddress = \"127.0.0.1:8090\"\n[tcp.tls]\nenabled = true\nself_signed = false\n\
                  cert_file = \"/etc/iggy/certificate.pem\"\nkey_file = \"/etc/iggy/key.pem\"\n";
    sandbox.write("/etc/iggy/config.toml", config);
    let service =
        "[Service]\nExecStart=/bin/sleep infinity\nEnvironment=IGGY_CONFIG_PATH=/etc/iggy/config.toml\n";
    sandbox.unit("iggy.service", service);

    let host = Host::enrolled_on(sandbox);
    let snapshots = host.has_snapshots(2);
    assert_eq!(reason(&snapshots, "filesystem_full"), "/var/lib/iggy is 97 % full");
    let expires = reason(&snapshots, "certificate_expires");
    assert!(expires.starts_with("the certificate /etc/iggy/certificate.pem expires at 20"), "{expires}");
}

/// 32 MiB for the processes of a unit where systemd itself cannot limit them, for the kernel has its memory controller
/// in the older hierarchy.
struct Limit(Option<PathBuf>);

impl Limit {
    fn of(sandbox: &Sandbox, unit: &str) -> Limit {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let memory = mounts.lines().find_map(|line| {
            let (place, kind) = line.split_once(" - cgroup ")?;
            kind.split([' ', ',']).any(|option| option == "memory").then(|| place.split(' ').nth(4))?
        });
        let Some(memory) = memory else { return Limit(None) };
        let group = PathBuf::from(memory).join(format!("warden-tests.{}", std::process::id()));
        std::fs::create_dir(&group).unwrap();
        let limit = Limit(Some(group.clone()));
        std::fs::write(group.join("memory.limit_in_bytes"), (32 << 20).to_string()).unwrap();
        // As they are numbered out here.
        let found =
            std::process::Command::new("find").arg(sandbox.cgroup()).args(["-name", unit]).output().unwrap();
        let of_unit = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
        let processes = std::fs::read_to_string(of_unit.join("cgroup.procs")).unwrap();
        assert!(!processes.is_empty(), "{}", of_unit.display());
        for process in processes.lines() {
            std::fs::write(group.join("cgroup.procs"), process).unwrap();
        }
        limit
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        if let Some(group) = &self.0 {
            let _ = std::fs::remove_dir(group);
        }
    }
}

#[test]
fn a_unit_that_the_kernel_kills_for_memory_leads_to_a_snapshot_that_says_so() {
    let sandbox = Sandbox::boot();
    // It wants 200 MiB, once, when it is told to; started again, it waits for the next word.
    let script = "until rm /run/grow 2>/dev/null; do sleep 0.1; done; exec dd if=/dev/zero of=/dev/null bs=200M count=1";
    let service = format!(
        "[Service]\nExecStart=/bin/sh -c '{script}'\nRestart=always\nRestartSec=1\nMemoryMax=32M\nMemorySwapMax=0\n"
    );
    sandbox.unit("iggy.service", &service);
    let host = Host::enrolled_on(sandbox);
    until("the agent has looked at the unit", || {
        let recorder = host.sandbox.root().join("var/lib/warden/recorder");
        let files = std::fs::read_dir(recorder).ok()?;
        let samples = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
        (samples.map(|text| text.matches("\tactive\t").count()).sum::<usize>() >= 4).then_some(())
    });
    let limit = Limit::of(&host.sandbox, "iggy.service");
    host.sandbox.write("/run/grow", "");
    until("systemd has started it again", || {
        (host.sandbox.property("iggy.service", "NRestarts") == "1").then_some(())
    });
    drop(limit);
    let snapshots = host.has_snapshots(1);
    assert_eq!(reason(&snapshots, "out_of_memory"), "iggy.service was killed for memory");
}
