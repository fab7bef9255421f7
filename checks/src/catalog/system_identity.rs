//! system-identity: what machine this is, and whether its operating system still gets fixes.

use warden_host::proc::cpu_count;
use warden_host::quantity::{count, duration};
use warden_host::{Host, IfAny};

use crate::{Advice, Area, Check, DEADLINE, Evidence, Fields, Finding, Read, Result, Value, end_of_life};

pub const CHECK: Check = Check {
    id: "system-identity",
    area: Area::System,
    title: "What machine is this?",
    why: "Everything else is judged on this machine: its system, kernel, cloud and age. A release without security fixes \
          leaves known holes open, and a machine that has just booted has not yet shown how it behaves.",
    reads: &[
        Read::Path("/etc/os-release"),
        Read::Path("/usr/lib/os-release"),
        Read::Path("/etc/machine-id"),
        Read::Path("/proc/sys/kernel/random/boot_id"),
        Read::Path("/proc/cpuinfo"),
        Read::Path("/sys/devices/system/cpu/online"),
        Read::Path("/sys/class/dmi/id/*"),
        Read::Path("/sys/hypervisor/type"),
        Read::Path("/run/systemd/container"),
        Read::Path("/run/.containerenv"),
        Read::Path("/.dockerenv"),
    ],
    thresholds: &[
        "warns when the operating system's release gets no more free security fixes",
        "notes that this ends within 90 days, and that the machine booted less than 10 minutes ago",
    ],
    advice: "Move to a release that still gets fixes.",
    deadline: DEADLINE,
    run,
};

/// Long enough to plan a move of every node.
const NOTE_DAYS_LEFT: i64 = 90;
const JUST_BOOTED_SECONDS: i64 = 600;

fn run(host: &Host) -> Result<Finding> {
    let os = match host.read("/etc/os-release").if_any()? {
        Some(text) => text,
        None => host.read("/usr/lib/os-release").if_any()?.unwrap_or_default(),
    };
    let (uname, clock) = (host.uname()?, host.clock()?);
    let name = os_value(&os, "PRETTY_NAME").unwrap_or_else(|| format!("an unnamed {}", uname.system));
    let cpuinfo = host.read("/proc/cpuinfo").if_any()?.unwrap_or_default();
    let cores = host.read("/sys/devices/system/cpu/online").if_any()?.map(|list| cpu_count(&list));
    let dmi = Dmi::read(host)?;
    let container = container(host)?;
    let machine = dmi.machine(host.value("/sys/hypervisor/type").if_any()?.as_deref(), &cpuinfo);

    let up = clock.up_us.div_euclid(1_000_000).max(0);
    let shown_up = duration(up as f64);
    let shown_cores = cores.map_or_else(String::new, |cores| format!(", {}", count(cores, "core", "cores")));
    let mut finding = Finding::new(format!(
        "{name}, kernel {}, {}{shown_cores}, up {shown_up}",
        uname.release, uname.machine
    ));
    let support = judge_release(&mut finding, &os, &name, clock.seconds());
    if up < JUST_BOOTED_SECONDS {
        let advice = Advice::run(
            "See why it restarted, unless somebody meant it to.",
            "last -x reboot shutdown | head -n 5; journalctl -b -1 -n 50",
        );
        finding.note(format!("the machine booted {shown_up} ago"), advice);
    }

    let code = |text: Option<String>| text.map_or(Value::Nothing, Value::Code);
    finding.show(Evidence::Fields(
        Fields::new("System")
            .row("operating system", name)
            .row("free security fixes until", support)
            .row("kernel", Value::Code(uname.release))
            .row("kernel build", Value::Code(uname.version))
            .row("architecture", Value::Code(uname.machine))
            .row("host name", Value::Code(uname.node))
            .row("machine id", code(host.value("/etc/machine-id").if_any()?))
            .row("boot id", code(host.value("/proc/sys/kernel/random/boot_id").if_any()?))
            .row("time", Value::Time(clock.seconds()))
            .row("up for", Value::Seconds(up as f64))
            .row("booted at", Value::Time(clock.seconds().saturating_sub(up))),
    ));
    finding.show(Evidence::Fields(
        Fields::new("Machine")
            .row("kind", machine)
            .row("container", container.map_or_else(|| "no".into(), Value::Code))
            .row("vendor", dmi.vendor.as_str())
            .row("product", dmi.product.as_str())
            .row("firmware", dmi.firmware.as_str())
            .row("processor", processor(&cpuinfo))
            .row("cores", cores),
    ));
    Ok(finding)
}

/// The last day of free fixes, as shown.
fn judge_release(finding: &mut Finding, os: &str, name: &str, now: i64) -> Value {
    let id = os_value(os, "ID").unwrap_or_default();
    let version = os_value(os, "VERSION_ID").unwrap_or_default();
    let Some(release) = end_of_life::find(&id, &version) else { return "not known to Warden".into() };
    let (ends, left) = (release.ends, release.days_left(now));
    let days = |days: i64| count(days.unsigned_abs(), "day", "days");
    if left < 0 {
        let text = format!("{name} has had no free security fixes since {ends}, {} ago", days(left));
        let advice = match release.paid_until.filter(|_| release.can_be_bought(now)) {
            Some(until) => {
                format!("Move to a newer release, or buy the vendor's extended fixes, which end on {until}.")
            }
            None => CHECK.advice.to_owned(),
        };
        finding.warn(text, Advice::text(advice));
    } else if left <= NOTE_DAYS_LEFT {
        finding.note(
            format!("free security fixes for {name} end on {ends}, in {}", days(left)),
            Advice::text(CHECK.advice),
        );
    }
    Value::Text(ends.to_string())
}

/// A value of os-release(5): `NAME=value`, in quotes or not.
fn os_value(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))?.trim();
    let quoted = |quote| value.strip_prefix(quote).and_then(|rest: &str| rest.strip_suffix(quote));
    let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
    (!value.is_empty()).then(|| value.replace("\\\"", "\""))
}

/// What the firmware says of the machine; empty where there is none (many ARM boards, small virtual machines).
#[derive(Default)]
struct Dmi {
    vendor: String,
    product: String,
    firmware: String,
    asset_tag: String,
}

impl Dmi {
    fn read(host: &Host) -> Result<Dmi> {
        let mut dmi = Dmi::default();
        // Not `*`: serial numbers are in the same directory.
        for pattern in [
            "/sys/class/dmi/id/*_vendor",
            "/sys/class/dmi/id/product_name",
            "/sys/class/dmi/id/product_version",
            "/sys/class/dmi/id/bios_*",
            "/sys/class/dmi/id/chassis_asset_tag",
        ] {
            for file in host.read_all(pattern)? {
                let text = file.text.trim();
                match file.path.rsplit('/').next().unwrap_or_default() {
                    "sys_vendor" => dmi.vendor = text.to_owned(),
                    "product_name" | "product_version" if !text.is_empty() => add(&mut dmi.product, text),
                    "bios_version" | "bios_date" => add(&mut dmi.firmware, text),
                    "chassis_asset_tag" => dmi.asset_tag = text.to_owned(),
                    _ => {}
                }
            }
        }
        Ok(dmi)
    }

    /// The cloud or hypervisor, told by the words that each puts into the firmware.
    fn machine(&self, hypervisor: Option<&str>, cpuinfo: &str) -> &'static str {
        const KINDS: [(&str, &str); 21] = [
            ("Amazon EC2", "Amazon EC2"),
            ("amazon", "Amazon EC2 (Xen)"),
            ("Google", "Google Cloud"),
            // The asset tag of every Azure machine; without it the vendor is Hyper-V's.
            ("7783-7084-3265-9085-8269-3286-77", "Microsoft Azure"),
            ("Microsoft Corporation Virtual Machine", "a Hyper-V virtual machine"),
            ("OracleCloud.com", "Oracle Cloud"),
            ("DigitalOcean", "DigitalOcean"),
            ("Hetzner", "Hetzner"),
            ("Alibaba Cloud", "Alibaba Cloud"),
            ("Scaleway", "Scaleway"),
            ("Vultr", "Vultr"),
            ("Linode", "Akamai (Linode)"),
            ("UpCloud", "UpCloud"),
            ("Exoscale", "Exoscale"),
            ("OpenStack", "an OpenStack virtual machine"),
            ("VMware", "a VMware virtual machine"),
            ("innotek", "a VirtualBox virtual machine"),
            ("Parallels", "a Parallels virtual machine"),
            ("QEMU", "a QEMU or KVM virtual machine"),
            ("KVM", "a KVM virtual machine"),
            ("Xen", "a Xen virtual machine"),
        ];
        let words = format!("{} {} {} {}", self.vendor, self.product, self.firmware, self.asset_tag);
        let is_virtual = || {
            let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
            flags.is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"))
        };
        match KINDS.iter().find(|(word, _)| words.contains(word)) {
            Some((_, kind)) => kind,
            None if hypervisor == Some("xen") => "a Xen virtual machine",
            None if is_virtual() => "a virtual machine",
            None if self.vendor.is_empty() => "not told by the firmware",
            None => "a physical machine",
        }
    }
}

fn add(text: &mut String, word: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(word);
}

/// The kind of container, when this is one.
fn container(host: &Host) -> Result<Option<String>> {
    if let Some(kind) = host.value("/run/systemd/container").if_any()? {
        return Ok(Some(kind));
    }
    let is_there = |path| host.stat(path).if_any().map(|stat| stat.is_some());
    Ok(if is_there("/.dockerenv")? {
        Some("docker".to_owned())
    } else if is_there("/run/.containerenv")? {
        Some("podman".to_owned())
    } else {
        None
    })
}

fn processor(cpuinfo: &str) -> Value {
    let line =
        cpuinfo.lines().find(|line| line.starts_with("model name") || line.starts_with("CPU implementer"));
    line.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim().to_owned()).into()
}

#[cfg(test)]
mod tests {
    use warden_host::{Data, Kind, Recorded, Request, Stat, Uname};

    use super::*;
    use crate::Verdict;

    /// 2026-11-21T12:00:00Z.
    const NOW: i64 = 1_795_262_400;

    fn host(os: &str) -> Recorded {
        let [system, node, release, version, machine] =
            ["Linux", "broker-1", "6.1.0-28-amd64", "#1 SMP", "x86_64"].map(str::to_owned);
        let uname = Uname { system, node, release, version, machine };
        Recorded::complete()
            .with(Request::Uname, Data::Uname(uname))
            .at(NOW, 90_000)
            .file("/etc/os-release", os)
            .file("/sys/devices/system/cpu/online", "0-7\n")
    }

    const BOOKWORM: &str = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n";

    #[test]
    fn a_supported_release_passes() {
        let finding = run(&host(BOOKWORM).host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(
            finding.summary,
            "Debian GNU/Linux 12 (bookworm), kernel 6.1.0-28-amd64, x86_64, 8 cores, up 1 d 1 h"
        );
        let Evidence::Fields(fields) = &finding.evidence[0] else { panic!("no fields") };
        assert_eq!(fields.rows[1].1, Value::Text("2028-06-30".to_owned()));
    }

    #[test]
    fn a_release_without_fixes_warns_and_names_what_can_be_bought() {
        let finding =
            run(&host("PRETTY_NAME='Ubuntu 20.04.6 LTS'\nID=ubuntu\nVERSION_ID='20.04'\n").host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(
            finding.problems[0].text,
            "Ubuntu 20.04.6 LTS has had no free security fixes since 2025-05-29, 541 days ago"
        );
        assert_eq!(
            finding.problems[0].advice.text,
            "Move to a newer release, or buy the vendor's extended fixes, which end on 2030-04-23."
        );
    }

    #[test]
    fn the_last_ninety_days_are_noted() {
        let end_of_bookworm = 1_845_936_000;
        let at = |days: i64| run(&host(BOOKWORM).at(end_of_bookworm - days * 86_400, 90_000).host()).unwrap();
        assert_eq!(
            [at(91).verdict(), at(90).verdict(), at(0).verdict(), at(-1).verdict()],
            [Verdict::Pass, Verdict::Note, Verdict::Note, Verdict::Warn]
        );
    }

    #[test]
    fn a_fresh_boot_is_noted() {
        let at = |up| run(&host(BOOKWORM).at(NOW, up).host()).unwrap();
        assert_eq!([at(600).verdict(), at(599).verdict()], [Verdict::Pass, Verdict::Note]);
        assert_eq!(at(90).problems[0].text, "the machine booted 1 min 30 s ago");
    }

    #[test]
    fn clouds_hypervisors_and_containers_are_told_apart() {
        let machine = |vendor: &str, product: &str, tag: &str| {
            let [vendor, product, asset_tag] = [vendor, product, tag].map(str::to_owned);
            Dmi { vendor, product, asset_tag, firmware: String::new() }.machine(None, "")
        };
        assert_eq!(machine("Amazon EC2", "m7i.large", ""), "Amazon EC2");
        assert_eq!(
            machine("Microsoft Corporation", "Virtual Machine", "7783-7084-3265-9085-8269-3286-77"),
            "Microsoft Azure"
        );
        assert_eq!(machine("Microsoft Corporation", "Virtual Machine", ""), "a Hyper-V virtual machine");
        assert_eq!(machine("QEMU", "Standard PC", ""), "a QEMU or KVM virtual machine");
        assert_eq!(machine("Dell Inc.", "PowerEdge R650", ""), "a physical machine");
        assert_eq!(Dmi::default().machine(None, "flags\t\t: fpu hypervisor lahf_lm"), "a virtual machine");
        let stat = Stat {
            kind: Kind::File,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            allocated: 0,
            modified: 0,
            device: 0,
            inode: 0,
        };
        let docker = host("").with(Request::Stat { path: "/.dockerenv".to_owned() }, Data::Stat(stat));
        assert_eq!(container(&docker.host()).unwrap().as_deref(), Some("docker"));
    }

    #[test]
    fn a_system_without_a_name_is_described_and_a_denied_one_is_unknown() {
        let finding = run(&host("\"torn").host()).unwrap();
        assert!(finding.summary.starts_with("an unnamed Linux, kernel 6.1.0-28-amd64"));
        assert!(run(&host("").denied("/etc/os-release").host()).is_err());
    }
}
