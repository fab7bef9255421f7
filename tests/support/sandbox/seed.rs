//! What is laid over the view of this machine before systemd starts on it.

use std::fs;
use std::io::Read;
use std::path::Path;

/// Units that make no sense in a sandbox, are slow, or would touch the machine from inside. An empty file masks.
const MASKED: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty-static.service",
    "getty.target",
    "kmod-static-nodes.service",
    "logrotate.timer",
    "man-db.timer",
    "proc-sys-fs-binfmt_misc.automount",
    "proc-sys-fs-binfmt_misc.mount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sysstat-collect.timer",
    "sysstat-summary.timer",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-initctl.socket",
    "systemd-journal-flush.service",
    "systemd-journald-audit.socket",
    "systemd-machine-id-commit.service",
    "systemd-modules-load.service",
    "systemd-networkd-wait-online.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-repart.service",
    "systemd-sysctl.service",
    "systemd-time-wait-sync.service",
    "systemd-timesyncd.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-udev-settle.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
];

const JOURNALD: &str = "[Journal]\nStorage=volatile\nAudit=no\nReadKMsg=no\nRateLimitIntervalSec=0\n";
const TARGET: &str = "[Unit]\nRequires=basic.target\nWants=dbus.socket dbus.service\n\
                      After=basic.target dbus.service\nAllowIsolate=yes\n";
/// Tells the outside that the target has been reached.
const READY: &str = "[Unit]\nRequires=dbus.socket\n\
                     After=basic.target dbus.socket dbus.service systemd-journald.service\n\
                     [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/touch /run/sandbox/ready\n";

/// Writes the tree below `seed`. Its machine and boot ids are its own, so that nothing takes it for this machine.
pub fn write(seed: &Path) {
    let units = seed.join("run/systemd/system");
    fs::create_dir_all(units.join("sandbox.target.wants")).unwrap();
    fs::create_dir_all(seed.join("run/systemd/journald.conf.d")).unwrap();
    fs::create_dir_all(seed.join("run/sandbox")).unwrap();
    fs::create_dir_all(seed.join("run/lock")).unwrap();
    fs::create_dir_all(seed.join("etc")).unwrap();
    for unit in MASKED {
        fs::write(units.join(unit), "").unwrap();
    }
    fs::write(units.join("sandbox.target"), TARGET).unwrap();
    fs::write(units.join("sandbox-ready.service"), READY).unwrap();
    let wanted = units.join("sandbox.target.wants/sandbox-ready.service");
    std::os::unix::fs::symlink("../sandbox-ready.service", wanted).unwrap();
    fs::write(seed.join("run/systemd/journald.conf.d/sandbox.conf"), JOURNALD).unwrap();
    fs::write(seed.join("run/boot_id"), uuid()).unwrap();
    // Not a first boot, which would apply presets.
    fs::write(seed.join("etc/machine-id"), uuid().replace('-', "")).unwrap();
}

fn uuid() -> String {
    let mut text = String::new();
    fs::File::open("/proc/sys/kernel/random/uuid").unwrap().read_to_string(&mut text).unwrap();
    text
}
