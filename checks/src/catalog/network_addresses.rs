//! network-addresses: what addresses this host has and whether it knows the way out.

use warden_host::{Cause, Failure, Host, IfAny};

use crate::net_links::{IP_ADDRESS, IP_NEIGHBOUR, IP_ROUTE, Link, Neighbour, Route};
use crate::{
    Advice, Area, Check, DEADLINE, Error, Evidence, Finding, Read, Result, Table, Value, Verdict, quantity,
};

pub const CHECK: Check = Check {
    id: "network-addresses",
    area: Area::Network,
    title: "Does it have its addresses and a way out?",
    why: "Clients reach Iggy at the address it binds and advertises, and the node reaches its Supervisor by its \
          default route. An address that two hosts have takes turns between them: connections break at random.",
    reads: &[
        Read::Command(IP_ADDRESS),
        Read::Command(IP_ROUTE),
        Read::Command(IP_NEIGHBOUR),
        Read::Path("/proc/net/route"),
        Read::Path("/proc/net/ipv6_route"),
    ],
    thresholds: &[
        "fails when another host has the same address",
        "warns without any address but the loopback's, without a default route, or when the only default route is down",
        "warns when no gateway answers, notes one of several",
        "notes an address that two interfaces have",
    ],
    advice: "Compare with the configuration of systemd-networkd, NetworkManager or ifupdown, and with its neighbours.",
    deadline: DEADLINE,
    run,
};

fn run(host: &Host) -> Result<Finding> {
    let links = match Link::all(host) {
        Err(Error::Host(Failure { cause: Cause::Absent, .. })) => return without_iproute(host),
        links => links?,
    };
    let (routes, neighbours) = (Route::all(host)?, Neighbour::all(host));
    let mut finding = Finding::new("");

    let global: Vec<_> =
        links.iter().flat_map(|link| &link.addresses).filter(|one| one.scope == "global").collect();
    if global.is_empty() {
        let text = "no interface has an address that others can reach";
        finding.warn(
            text,
            Advice::run("Bring a link up and configure an address.", "ip -brief address; networkctl status"),
        );
    }
    let mut table = Table::new("Addresses", ["interface", "address", "family", "scope", "state"]);
    for link in &links {
        for address in &link.addresses {
            let again = |other: &&Link| {
                other.name < link.name && other.addresses.iter().any(|one| one.local == address.local)
            };
            // Link-local addresses are each link's own.
            let shared = links.iter().find(again).filter(|_| address.scope != "link");
            let state = match address.duplicate_on_the_link {
                true => "another host has it".into(),
                false if address.tentative => "not yet verified".into(),
                false => Value::Nothing,
            };
            let shown = Value::Code(format!("{}/{}", address.local, address.prefixlen));
            let cells = [
                Value::Code(link.name.clone()),
                shown,
                address.family.clone().into(),
                address.scope.clone().into(),
                state,
            ];
            if address.duplicate_on_the_link {
                table.marked_row(Verdict::Fail, cells);
                let text =
                    format!("another host on the link of {} has its address {}", link.name, address.local);
                let advice =
                    "Give one of the two another address; the kernel log names the other's hardware address.";
                finding.fail(text, Advice::run(advice, "dmesg | grep -i 'duplicate address'"));
            } else if let Some(other) = shared {
                table.marked_row(Verdict::Note, cells);
                let text = format!("{} and {} both have {}", other.name, link.name, address.local);
                finding.note(
                    text,
                    Advice::text("Fine for an address that moves between hosts; else remove one."),
                );
            } else {
                table.row(cells);
            }
        }
    }

    let gateways = judge_routes(&mut finding, &routes);
    match &neighbours {
        Ok(neighbours) => judge_gateways(&mut finding, &gateways, neighbours),
        Err(error) => {
            finding.note(
                format!("whether the gateway answers is not known: {error}"),
                Advice::text(CHECK.advice),
            );
        }
    }
    let way_out = match gateways.as_slice() {
        [] => "no gateway".to_owned(),
        gateways => format!("by {}", gateways.join(", ")),
    };
    finding.summary =
        format!("{}, {way_out}", quantity::count(global.len() as u64, "global address", "global addresses"));
    finding.show(Evidence::Table(table));
    finding.show(Evidence::Table(route_table(&routes)));
    Ok(finding)
}

/// The gateways of the default routes that work.
fn judge_routes(finding: &mut Finding, routes: &[Route]) -> Vec<String> {
    let is_default = |route: &&Route| {
        ["default", "0.0.0.0/0", "::/0"].contains(&route.destination.as_str())
            && route.kind.as_deref().is_none_or(|kind| kind == "unicast")
    };
    let is_down = |flags: &[String]| flags.iter().any(|flag| flag == "linkdown" || flag == "dead");
    let defaults: Vec<&Route> = routes.iter().filter(is_default).collect();
    let works = |route: &&&Route| match route.nexthops.as_slice() {
        [] => !is_down(&route.flags),
        hops => hops.iter().any(|hop| !is_down(&hop.flags)),
    };
    let working: Vec<&&Route> = defaults.iter().filter(works).collect();
    if defaults.is_empty() {
        let text = "there is no default route: nothing beyond the local networks can be reached";
        let advice = "Fine in a closed network; else set the gateway in the network configuration.";
        finding.warn(text, Advice::run(advice, "ip route; ip -6 route"));
    } else if working.is_empty() {
        let names: Vec<&str> = defaults.iter().filter_map(|route| route.device.as_deref()).collect();
        let text = format!("the default route leaves by {}, which is down", names.join(", "));
        finding.warn(text, Advice::run("Bring the link up.", "ip -brief link"));
    }
    let mut gateways: Vec<String> = Vec::new();
    for route in working {
        let hops =
            route.nexthops.iter().filter(|hop| !is_down(&hop.flags)).filter_map(|hop| hop.gateway.clone());
        let by = route.gateway.clone().or_else(|| route.via.as_ref().map(|via| via.host.clone()));
        for gateway in by.into_iter().chain(hops) {
            if !gateways.contains(&gateway) {
                gateways.push(gateway);
            }
        }
    }
    gateways
}

fn judge_gateways(finding: &mut Finding, gateways: &[String], neighbours: &[Neighbour]) {
    let silent: Vec<&String> = gateways.iter().filter(|gateway| is_silent(gateway, neighbours)).collect();
    let severity = if silent.len() == gateways.len() { Verdict::Warn } else { Verdict::Note };
    for gateway in silent {
        let text = format!("the gateway {gateway} does not answer on its link");
        let command = format!("ip neighbour show {gateway}; ping -c 3 {gateway}");
        finding.problem(
            severity,
            text,
            Advice::run("Check the address of the gateway, the VLAN and the cable.", command),
        );
    }
}

/// The kernel asked for its hardware address and nothing came; a gateway that was never asked is not listed.
fn is_silent(gateway: &str, neighbours: &[Neighbour]) -> bool {
    let mut known = neighbours.iter().filter(|one| one.address == gateway).peekable();
    let failed = |state: &String| state == "FAILED" || state == "INCOMPLETE";
    known.peek().is_some() && known.all(|one| one.state.iter().any(failed))
}

fn route_table(routes: &[Route]) -> Table {
    let mut table = Table::new("Routes", ["to", "by", "interface", "table", "metric", "set by"]);
    // The local table repeats every address of the host.
    for route in routes.iter().filter(|route| route.table.as_deref() != Some("local")) {
        let hops = route.nexthops.iter().filter_map(|hop| hop.gateway.clone()).collect::<Vec<_>>().join(", ");
        let by = route.gateway.clone().or_else(|| route.via.as_ref().map(|via| via.host.clone()));
        table.row([
            Value::Code(route.destination.clone()),
            by.or(Some(hops).filter(|hops| !hops.is_empty())).map(Value::Code).unwrap_or(Value::Nothing),
            route.device.clone().map(Value::Code).unwrap_or(Value::Nothing),
            route.table.as_deref().unwrap_or("main").into(),
            route.metric.into(),
            route.protocol.clone().into(),
        ]);
    }
    table
}

/// Only routes can be read without iproute2.
fn without_iproute(host: &Host) -> Result<Finding> {
    let (v4, v6) = (host.value("/proc/net/route")?, host.read("/proc/net/ipv6_route").if_any()?);
    if v4.is_empty() {
        return Err(Error::parse("/proc/net/route", "it is empty, without even its head"));
    }
    let routes: Vec<Route> =
        default_routes_v4(&v4).chain(default_routes_v6(v6.as_deref().unwrap_or_default())).collect();
    let mut finding = Finding::new("");
    let gateways = judge_routes(&mut finding, &routes);
    finding.summary = match gateways.as_slice() {
        [] => "addresses were not read; no gateway".to_owned(),
        gateways => format!("addresses were not read; the gateway is {}", gateways.join(", ")),
    };
    let advice = Advice::run("Install iproute2.", "apt-get install iproute2 || dnf install iproute");
    finding.note("addresses and neighbours could not be read: `ip` is not installed", advice);
    finding.show(Evidence::Table(route_table(&routes)));
    Ok(finding)
}

/// Columns of /proc/net/route: interface, destination, gateway, flags, ..., mask; addresses in hexadecimal with
/// the bytes reversed.
fn default_routes_v4(text: &str) -> impl Iterator<Item = Route> {
    text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (&[device, "00000000", gateway, ..], Some(&"00000000")) = (words.as_slice(), words.get(7)) else {
            return None;
        };
        let gateway = std::net::Ipv4Addr::from(u32::from_str_radix(gateway, 16).ok()?.swap_bytes());
        Some(default_route(device, gateway.to_string()))
    })
}

/// Columns of /proc/net/ipv6_route: destination, its length, source, its length, gateway, metric, ..., flags, interface.
fn default_routes_v6(text: &str) -> impl Iterator<Item = Route> {
    /// RTF_REJECT: every host has such a default on its loopback.
    const REJECT: u32 = 0x200;
    text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let &[destination, "00", _, _, gateway, _, _, _, flags, device] = words.as_slice() else {
            return None;
        };
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let is_default = destination.bytes().all(|byte| byte == b'0') && flags & REJECT == 0;
        let gateway = std::net::Ipv6Addr::from(u128::from_str_radix(gateway, 16).ok()?);
        is_default.then(|| default_route(device, gateway.to_string()))
    })
}

fn default_route(device: &str, gateway: String) -> Route {
    let (destination, device) = ("default".to_owned(), Some(device.to_owned()));
    Route { destination, device, gateway: Some(gateway), ..Route::default() }
}

#[cfg(test)]
mod tests {
    use warden_host::{Data, Output, Recorded, Request};

    use super::*;

    const ADDRESSES: &str = r#"[{"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8,"scope":"host"}]},
        {"ifname":"eth0","flags":["UP","LOWER_UP"],"addr_info":[
            {"family":"inet","local":"192.0.2.2","prefixlen":24,"scope":"global"},
            {"family":"inet6","local":"fe80::1","prefixlen":64,"scope":"link"}]}]"#;
    const ROUTES: &str = r#"[{"dst":"default","gateway":"192.0.2.1","dev":"eth0","flags":[]},
        {"dst":"192.0.2.0/24","dev":"eth0","protocol":"kernel","flags":[]},
        {"type":"local","dst":"192.0.2.2","dev":"eth0","table":"local","flags":[]}]"#;
    const NEIGHBOURS: &str =
        r#"[{"dst":"192.0.2.1","dev":"eth0","lladdr":"02:fc:00:00:00:05","state":["STALE"]}]"#;

    fn output(recorded: Recorded, name: &str, stdout: &str) -> Recorded {
        let output = Output { status: Some(0), stdout: stdout.to_owned(), stderr: String::new(), cut: false };
        recorded.with(Request::Command { name: name.to_owned(), argument: None }, Data::Output(output))
    }

    fn examined(addresses: &str, routes: &str, neighbours: &str) -> Finding {
        let recorded = output(Recorded::complete(), IP_ADDRESS, addresses);
        run(&output(output(recorded, IP_ROUTE, routes), IP_NEIGHBOUR, neighbours).host()).unwrap()
    }

    fn texts(finding: &Finding) -> Vec<&str> {
        finding.problems.iter().map(|problem| problem.text.as_str()).collect()
    }

    #[test]
    fn an_address_and_a_gateway_pass() {
        let finding = examined(ADDRESSES, ROUTES, NEIGHBOURS);
        assert_eq!((finding.verdict(), texts(&finding)), (Verdict::Pass, vec![]));
        assert_eq!(finding.summary, "1 global address, by 192.0.2.1");
        assert!(matches!(&finding.evidence[1], Evidence::Table(table) if table.rows.len() == 2));
    }

    #[test]
    fn no_address_and_no_default_route_warn() {
        let finding = examined("[]", r#"[{"type":"unreachable","dst":"default","dev":"lo"}]"#, "");
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(
            texts(&finding),
            [
                "no interface has an address that others can reach",
                "there is no default route: nothing beyond the local networks can be reached",
            ]
        );
    }

    #[test]
    fn a_default_route_over_a_dead_link_warns() {
        let routes = r#"[{"dst":"default","gateway":"192.0.2.1","dev":"eth0","flags":["dead","linkdown"]}]"#;
        let finding = examined(ADDRESSES, routes, "[]");
        assert_eq!(texts(&finding), ["the default route leaves by eth0, which is down"]);
    }

    #[test]
    fn a_silent_gateway_warns_and_one_of_two_is_noted() {
        let failed = r#"[{"dst":"192.0.2.1","dev":"eth0","state":["FAILED"]}]"#;
        let finding = examined(ADDRESSES, ROUTES, failed);
        assert_eq!(
            (finding.verdict(), texts(&finding)),
            (Verdict::Warn, vec!["the gateway 192.0.2.1 does not answer on its link"])
        );
        let two = r#"[{"dst":"default","nexthops":[{"gateway":"192.0.2.1","dev":"eth0","flags":[]},{"gateway":"192.0.2.3","dev":"eth0","flags":[]}]}]"#;
        assert_eq!(examined(ADDRESSES, two, failed).verdict(), Verdict::Note);
    }

    #[test]
    fn an_address_that_another_host_has_fails_and_one_on_two_links_is_noted() {
        let duplicate =
            ADDRESSES.replace(r#""local":"192.0.2.2","#, r#""local":"192.0.2.2","dadfailed":true,"#);
        let finding = examined(&duplicate, ROUTES, NEIGHBOURS);
        assert_eq!(
            (finding.verdict(), texts(&finding)),
            (Verdict::Fail, vec!["another host on the link of eth0 has its address 192.0.2.2"])
        );
        let twice = ADDRESSES.replace("127.0.0.1", "192.0.2.2");
        let finding = examined(&twice, ROUTES, NEIGHBOURS);
        assert_eq!(
            (finding.verdict(), texts(&finding)),
            (Verdict::Note, vec!["eth0 and lo both have 192.0.2.2"])
        );
    }

    #[test]
    fn without_iproute_the_default_route_is_still_found() {
        let v4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                  eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\ntorn\t00000000\n";
        let zeros = "0".repeat(32);
        let v6 = format!("{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200       lo\n");
        let host = Recorded::complete().file("/proc/net/route", v4).file("/proc/net/ipv6_route", &v6).host();
        let finding = run(&host).unwrap();
        assert_eq!(finding.summary, "addresses were not read; the gateway is 192.0.2.1");
        assert_eq!(texts(&finding), ["addresses and neighbours could not be read: `ip` is not installed"]);
        assert_eq!(finding.verdict(), Verdict::Note);
    }

    #[test]
    fn an_answer_that_is_no_json_is_an_error() {
        let host = output(Recorded::complete(), IP_ADDRESS, "Object \"-j\" is unknown").host();
        assert!(run(&host).is_err());
        assert!(run(&Recorded::complete().host()).is_err());
    }
}
