//! network-interfaces: are the links up, clean and alike.

use warden_host::Host;

use crate::net_links::{Counters, IP_ADDRESS, Link};
use crate::{
    Advice, Area, Check, DEADLINE, Evidence, Finding, Read, Result, Series, Table, Unit, Value, Verdict,
    quantity, quoted,
};

pub const CHECK: Check = Check {
    id: "network-interfaces",
    area: Area::Network,
    title: "Are the links clean?",
    why: "A frame that is lost on the wire or dropped by the card is sent again by TCP after a wait that is long \
          against Iggy's usual latency. Two ends that disagree on the frame size let small requests through and hang \
          on the first large batch.",
    reads: &[
        Read::Sample("/proc/net/dev"),
        Read::Path("/sys/class/net/*/duplex"),
        Read::Path("/sys/class/net/*/speed"),
        Read::Path("/sys/class/net/*/device/driver"),
        Read::Path("/sys/class/net/*/mtu"),
        Read::Path("/sys/class/net/*/operstate"),
        Read::Path("/sys/class/net/*/carrier_changes"),
        Read::Command(IP_ADDRESS),
    ],
    thresholds: &[
        "warns when errors rise, or drops rise by more than 0.1 % of the packets (fewer are noted)",
        "warns when a card runs at half duplex or over 90 % of its speed; links of software and of hypervisors make both up",
        "warns when a member's MTU differs from its bond or bridge, or a VLAN's exceeds its parent's",
        "warns when a member of a bond has no carrier, notes any other link that is up without one",
        "notes errors on more than 0.1 % of the packets since boot, and more than 20 changes of carrier",
    ],
    advice: "Look at the cable, the transceiver and the switch port; compare MTU and duplex at both ends.",
    deadline: DEADLINE,
    run,
};

/// One lost packet in a thousand is what a clean link never reaches.
const SHARE_THAT_HURTS: f64 = 0.001;
/// Bringing a link up takes a few; more than this is a link that flaps.
const CARRIER_CHANGES: u64 = 20;
const WARN_SPEED_PERCENT: f64 = 90.0;
/// Bars that a chart carries, the busiest first: more cannot be read.
const CHART_POINTS: usize = 64;

fn run(host: &Host) -> Result<Finding> {
    let (first, second, seconds) = host.sample_file("/proc/net/dev")?;
    let (before, after) = (Counters::parse_all(&first), Counters::parse_all(&second));
    let mut found: Vec<Interface> = Vec::new();
    for (name, counters) in after.into_iter().filter(|(name, _)| name != "lo") {
        let before = before.iter().find(|(other, _)| *other == name).map_or(counters, |(_, before)| *before);
        found.push(Interface {
            during: counters.since(&before),
            since_boot: counters,
            name,
            ..Interface::default()
        });
    }
    if found.is_empty() {
        return Ok(Finding::skip("there is no interface but the loopback"));
    }
    let mut read = |file: &str, set: fn(&mut Interface, &str)| -> Result<()> {
        for text in host.read_all(&format!("/sys/class/net/*/{file}"))? {
            let name = text.path.split('/').nth(4).unwrap_or_default();
            if let Some(interface) = found.iter_mut().find(|interface| interface.name == name) {
                set(interface, text.text.trim());
            }
        }
        Ok(())
    };
    read("duplex", |interface, text| interface.duplex = Some(text.to_owned()))?;
    // A link without a speed says -1.
    read("speed", |interface, text| interface.speed = text.parse().ok().filter(|&speed| speed > 0))?;
    read("mtu", |interface, text| interface.mtu = text.parse().ok())?;
    read("operstate", |interface, text| interface.state = Some(text.to_owned()))?;
    read("carrier_changes", |interface, text| interface.carrier_changes = text.parse().ok())?;
    found.sort_by_key(|interface| std::cmp::Reverse(interface.during.bytes()));

    let mut finding = Finding::new("");
    let links = Link::all(host);
    for interface in &mut found {
        if !is_card(host, links.as_deref().ok(), &interface.name) {
            (interface.speed, interface.duplex) = (None, None);
        }
    }
    match links {
        Ok(links) => judge_links(&mut finding, &links),
        Err(error) => {
            let text = format!("MTUs of bonds, bridges and VLANs were not compared: {error}");
            finding.note(text, Advice::text("Install iproute2."));
        }
    }
    let columns = [
        "interface",
        "state",
        "speed Mb/s",
        "duplex",
        "MTU",
        "in/s",
        "out/s",
        "errors",
        "drops",
        "errors since boot",
        "drops since boot",
        "carrier changes",
    ];
    let mut table = Table::new("Interfaces", columns);
    let mut chart = Series::bars("Traffic", Unit::BytesPerSecond, ["in", "out"]);
    let each = |bytes: u64| bytes as f64 / seconds.max(0.001);
    for interface in &found {
        let known = finding.problems.len();
        judge(&mut finding, interface, seconds);
        let Interface { name, during, since_boot, .. } = interface;
        let cells = [
            Value::Code(name.clone()),
            interface.state.clone().into(),
            interface.speed.into(),
            interface.duplex.clone().into(),
            interface.mtu.into(),
            Value::Bytes(each(during.received) as u64),
            Value::Bytes(each(during.sent) as u64),
            during.errors.into(),
            during.drops.into(),
            since_boot.errors.into(),
            since_boot.drops.into(),
            interface.carrier_changes.into(),
        ];
        match finding.problems[known..].iter().map(|problem| problem.severity).max() {
            Some(severity) => table.marked_row(severity, cells),
            None => table.row(cells),
        }
        if chart.points.len() < CHART_POINTS {
            chart.point(name, [each(during.received), each(during.sent)]);
        }
    }
    let errors = found.iter().map(|interface| interface.during.errors).fold(0, u64::saturating_add);
    let drops = found.iter().map(|interface| interface.during.drops).fold(0, u64::saturating_add);
    finding.summary = format!(
        "{} had {errors} errors and {drops} drops in {}",
        quantity::count(found.len() as u64, "interface", "interfaces"),
        quantity::duration(seconds)
    );
    finding.show(Evidence::Series(chart));
    finding.show(Evidence::Table(table));
    Ok(finding)
}

/// Drivers of cards that a hypervisor makes: they report a speed that is nobody's.
const HYPERVISOR_DRIVERS: [&str; 6] =
    ["virtio_net", "vmxnet3", "hv_netvsc", "vif", "xen_netfront", "xen-netfront"];

/// Whether speed and duplex of an interface are those of a wire. A bond has the sum of its members'.
fn is_card(host: &Host, links: Option<&[Link]>, name: &str) -> bool {
    let driver = host.link(&format!("/sys/class/net/{name}/device/driver"));
    if let Ok(target) = &driver {
        return !HYPERVISOR_DRIVERS.contains(&target.rsplit('/').next().unwrap_or_default());
    }
    let Some(links) = links else { return false };
    let Some(link) = links.iter().find(|link| link.name == name) else { return false };
    match link.kind.as_str() {
        "bond" | "team" => {
            let mut members = links.iter().filter(|member| member.master.as_deref() == Some(name));
            members.all(|member| is_card(host, Some(links), &member.name))
        }
        _ => link.is_card,
    }
}

fn judge(finding: &mut Finding, interface: &Interface, seconds: f64) {
    let Interface { name, during, since_boot, .. } = interface;
    let over = quantity::duration(seconds);
    let advice =
        |text: &str| Advice::run(text, format!("ip -s -s link show dev {0}; ethtool -S {0}", quoted(name)));
    if during.errors > 0 {
        let text = format!("{name} had {} in {over}", quantity::count(during.errors, "error", "errors"));
        finding.warn(text, advice(CHECK.advice));
    } else if since_boot.errors as f64 > SHARE_THAT_HURTS * since_boot.packets as f64 {
        let text = format!(
            "{name} had {} since boot in {} packets",
            quantity::count(since_boot.errors, "error", "errors"),
            since_boot.packets
        );
        finding.note(text, advice(CHECK.advice));
    }
    if during.drops > 0 {
        let hurts = during.drops as f64 > SHARE_THAT_HURTS * during.packets as f64;
        let severity = if hurts { Verdict::Warn } else { Verdict::Note };
        let text = format!("{name} dropped {} of {} packets in {over}", during.drops, during.packets);
        let what = "Enlarge the receive ring (ethtool -G) and spread the interrupts; frames of unknown protocols count too.";
        finding.problem(severity, text, advice(what));
    }
    if interface.duplex.as_deref() == Some("half") {
        let text = format!("{name} runs at half duplex: both ends collide under load");
        finding.warn(
            text,
            Advice::run("Let both ends negotiate.", format!("ethtool -s {} autoneg on", quoted(name))),
        );
    }
    if let Some(speed) = interface.speed {
        let most = during.received.max(during.sent) as f64 * 8.0 / seconds.max(0.001);
        let used = most * 100.0 / (speed as f64 * 1e6);
        if used > WARN_SPEED_PERCENT {
            let text = format!("{name} used {} % of its {speed} Mb/s over {over}", quantity::number(used));
            finding.warn(text, Advice::text("Find who sends so much, or move to a faster link."));
        }
    }
    if let Some(changes) = interface.carrier_changes.filter(|&changes| changes > CARRIER_CHANGES) {
        let text = format!("{name} gained or lost its carrier {changes} times since boot");
        finding.note(
            text,
            Advice::run(
                CHECK.advice,
                format!("journalctl -k --grep {}", quoted(&format!("{name}.*[Ll]ink"))),
            ),
        );
    }
}

fn judge_links(finding: &mut Finding, links: &[Link]) {
    for link in links.iter().filter(|link| link.name != "lo") {
        let named = |name: &Option<String>| links.iter().find(|other| Some(&other.name) == name.as_ref());
        let set = |to: u64| {
            Advice::run(
                "Give both the same MTU, here and on the switch.",
                format!("ip link set dev {} mtu {to}", quoted(&link.name)),
            )
        };
        if let Some(master) =
            named(&link.master).filter(|master| ["bond", "bridge", "team"].contains(&master.kind.as_str()))
        {
            if link.mtu != master.mtu {
                let text = format!(
                    "{} has an MTU of {} and its {} {} one of {}",
                    link.name, link.mtu, master.kind, master.name, master.mtu
                );
                finding.warn(text, set(master.mtu));
            }
            if master.kind == "bond" && !link.has_carrier {
                let text = format!("{}, a member of {}, has no carrier", link.name, master.name);
                finding.warn(
                    text,
                    Advice::run(CHECK.advice, format!("cat /proc/net/bonding/{}", quoted(&master.name))),
                );
                continue;
            }
        }
        if let Some(parent) =
            named(&link.parent).filter(|parent| link.kind == "vlan" && link.mtu > parent.mtu)
        {
            let text = format!(
                "{} has an MTU of {}, more than the {} of {} below it",
                link.name, link.mtu, parent.mtu, parent.name
            );
            finding.warn(text, set(parent.mtu));
        }
        // A bridge without members has none either, and that is no fault.
        if link.is_up && !link.has_carrier && link.kind.is_empty() {
            let text = format!("{} is up and has no carrier", link.name);
            finding.note(text, Advice::text("Plug it in, or take it down if it is not used."));
        }
    }
}

#[derive(Default)]
struct Interface {
    name: String,
    during: Counters,
    since_boot: Counters,
    state: Option<String>,
    /// In Mb/s.
    speed: Option<u64>,
    duplex: Option<String>,
    mtu: Option<u64>,
    carrier_changes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use warden_host::{Data, Output, Recorded, Request};

    use super::*;
    use crate::iggy::tests::link;

    /// One second on eth0: 1 MB and 1000 packets in, 500 of each out, and so many errors and drops.
    fn second(errors: u64, drops: u64) -> Recorded {
        let head = "Inter-|   Receive  | Transmit\n face |bytes packets errs drop\n";
        let lo = "    lo: 1 1 1 1 0 0 0 0 1 1 1 1 0 0 0 0\n  torn: 1 2\n";
        let first = format!("{head}{lo}  eth0: 1000 100 0 0 0 0 0 0 1000 100 0 0 0 0 0 0\n");
        let second =
            format!("{head}{lo}  eth0: 1001000 1100 {errors} {drops} 0 0 0 0 501000 600 0 0 0 0 0 0\n");
        Recorded::complete()
            .sample("/proc/net/dev", &first, &second, 1.0)
            .file("/sys/class/net/eth0/mtu", "1500\n")
            .file("/sys/class/net/eth0/duplex", "full\n")
            .file("/sys/class/net/eth0/speed", "1000\n")
            .file("/sys/class/net/eth0/operstate", "up\n")
            .file("/sys/class/net/eth0/carrier_changes", "2\n")
    }

    fn with_links(recorded: Recorded, json: &str) -> Recorded {
        let output = Output { status: Some(0), stdout: json.to_owned(), stderr: String::new(), cut: false };
        recorded.with(Request::Command { name: IP_ADDRESS.to_owned(), argument: None }, Data::Output(output))
    }

    fn examined(recorded: Recorded) -> Finding {
        let up = r#"[{"ifname":"eth0","flags":["UP","LOWER_UP"],"mtu":1500}]"#;
        run(&with_links(recorded, up).host()).unwrap()
    }

    fn texts(finding: &Finding) -> Vec<&str> {
        finding.problems.iter().map(|problem| problem.text.as_str()).collect()
    }

    #[test]
    fn a_clean_link_passes() {
        let finding = examined(second(0, 0));
        assert_eq!((finding.verdict(), texts(&finding)), (Verdict::Pass, vec![]));
        assert_eq!(finding.summary, "1 interface had 0 errors and 0 drops in 1 s");
        let Evidence::Series(chart) = &finding.evidence[0] else { panic!("a chart") };
        assert_eq!(chart.points[0].values, [1_000_000.0, 500_000.0]);
    }

    #[test]
    fn errors_warn_and_drops_warn_when_they_are_many() {
        assert_eq!(texts(&examined(second(1, 0))), ["eth0 had 1 error in 1 s"]);
        let few = examined(second(0, 1));
        assert_eq!(
            (few.verdict(), texts(&few)),
            (Verdict::Note, vec!["eth0 dropped 1 of 1500 packets in 1 s"])
        );
        assert_eq!(examined(second(0, 2)).verdict(), Verdict::Warn);
    }

    #[test]
    fn errors_since_boot_and_flapping_are_noted() {
        let line = "eth0: 0 1000 9 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
        let finding = examined(second(0, 0).sample("/proc/net/dev", line, line, 1.0));
        assert_eq!(
            (finding.verdict(), texts(&finding)),
            (Verdict::Note, vec!["eth0 had 9 errors since boot in 1000 packets"])
        );
        let finding = examined(second(0, 0).file("/sys/class/net/eth0/carrier_changes", "21\n"));
        assert_eq!(texts(&finding), ["eth0 gained or lost its carrier 21 times since boot"]);
    }

    #[test]
    fn half_duplex_and_a_full_link_warn() {
        let finding = examined(second(0, 0).file("/sys/class/net/eth0/duplex", "half\n"));
        assert_eq!(texts(&finding), ["eth0 runs at half duplex: both ends collide under load"]);
        let finding = examined(second(0, 0).file("/sys/class/net/eth0/speed", "8\n"));
        assert_eq!(texts(&finding), ["eth0 used 100 % of its 8 Mb/s over 1 s"]);
        assert_eq!(examined(second(0, 0).file("/sys/class/net/eth0/speed", "-1\n")).verdict(), Verdict::Pass);
    }

    #[test]
    fn a_speed_that_a_virtual_link_makes_up_is_not_judged() {
        let slow = || {
            let recorded = second(0, 0).file("/sys/class/net/eth0/speed", "8\n");
            recorded.file("/sys/class/net/eth0/duplex", "half\n")
        };
        let judged = |link: &str| {
            let json = format!(r#"[{{"ifname":"eth0","flags":["UP","LOWER_UP"],"mtu":1500{link}}}]"#);
            run(&with_links(slow(), &json).host()).unwrap().problems.len()
        };
        assert_eq!(judged(r#","link_type":"ether","parentbus":"pci""#), 2);
        for link in [
            r#","linkinfo":{"info_kind":"veth"}"#,
            r#","linkinfo":{"info_kind":"bridge"}"#,
            r#","linkinfo":{"info_kind":"tun","info_data":{"type":"tap"}}"#,
            r#","link_type":"none""#,
            r#","link_type":"ether","parentbus":"virtio""#,
        ] {
            assert_eq!(judged(link), 0, "{link}");
        }
        let driven = |driver: &str| {
            let driver = format!("../../../../bus/x/drivers/{driver}");
            examined(link(slow(), "/sys/class/net/eth0/device/driver", &driver)).problems.len()
        };
        assert_eq!(["e1000e", "virtio_net", "vmxnet3"].map(driven), [2, 0, 0]);
    }

    #[test]
    fn members_and_vlans_whose_mtu_does_not_fit_warn() {
        let links = r#"[{"ifname":"bond0","flags":["UP","LOWER_UP"],"mtu":9000,"linkinfo":{"info_kind":"bond"}},
            {"ifname":"eth0","flags":["UP"],"mtu":1500,"master":"bond0"},
            {"ifname":"eth1","flags":["UP"],"mtu":1500},
            {"ifname":"docker0","flags":["UP"],"mtu":1500,"linkinfo":{"info_kind":"bridge"}},
            {"ifname":"v5","flags":["UP","LOWER_UP"],"mtu":9100,"link":"bond0","linkinfo":{"info_kind":"vlan"}}]"#;
        let finding = run(&with_links(second(0, 0), links).host()).unwrap();
        assert_eq!(
            texts(&finding),
            [
                "eth0 has an MTU of 1500 and its bond bond0 one of 9000",
                "eth0, a member of bond0, has no carrier",
                "eth1 is up and has no carrier",
                "v5 has an MTU of 9100, more than the 9000 of bond0 below it",
            ]
        );
        assert_eq!(finding.verdict(), Verdict::Warn);
    }

    #[test]
    fn without_iproute_the_rest_is_judged_and_that_is_said() {
        let finding = run(&second(0, 0).host()).unwrap();
        let text = "MTUs of bonds, bridges and VLANs were not compared: command ip-address: does not exist";
        assert_eq!((finding.verdict(), texts(&finding)), (Verdict::Note, vec![text]));
    }

    #[test]
    fn a_host_with_only_the_loopback_is_skipped_and_no_counters_are_an_error() {
        let line = "lo: 1 1 1 1 0 0 0 0 1 1 1 1 0 0 0 0\n";
        assert_eq!(examined(second(0, 0).sample("/proc/net/dev", line, line, 1.0)).verdict(), Verdict::Skip);
        assert!(run(&Recorded::complete().host()).is_err());
    }
}
