//! Rules as `nft -j list ruleset` prints them; the expressions are those of nft 1.0.6 and 1.1.3.

use super::super::Ruleset;
use super::{fate, of_nft, tcp, two_cards, udp, v6};

fn ruleset(objects: &[String]) -> Ruleset {
    let metainfo = r#"{"metainfo":{"version":"1.0.6","json_schema_version":1}}"#;
    of_nft(&format!(r#"{{"nftables":[{metainfo},{}]}}"#, objects.join(","))).unwrap()
}

fn base(table: &str, hook: &str, priority: i64, policy: &str) -> String {
    format!(
        r#"{{"chain":{{"family":"inet","table":"{table}","name":"{hook}","type":"filter","hook":"{hook}","prio":{priority},"policy":"{policy}"}}}}"#
    )
}

fn chain(name: &str) -> String {
    format!(r#"{{"chain":{{"family":"inet","table":"filter","name":"{name}"}}}}"#)
}

fn rule(chain: &str, expressions: &str) -> String {
    format!(
        r#"{{"rule":{{"family":"inet","table":"filter","chain":"{chain}","handle":7,"expr":[{expressions}]}}}}"#
    )
}

fn dport(right: &str) -> String {
    format!(
        r#"{{"match":{{"op":"==","left":{{"payload":{{"protocol":"tcp","field":"dport"}}}},"right":{right}}}}}"#
    )
}

fn saddr(right: &str) -> String {
    format!(
        r#"{{"match":{{"op":"==","left":{{"payload":{{"protocol":"ip","field":"saddr"}}}},"right":{right}}}}}"#
    )
}

/// An input chain with this policy and these rules, after `objects`.
fn input(policy: &str, objects: &[String], rules: &[&str]) -> Ruleset {
    let mut all = vec![base("filter", "input", 0, policy)];
    all.extend(objects.iter().cloned());
    all.extend(rules.iter().map(|expressions| rule("input", expressions)));
    ruleset(&all)
}

const ACCEPT: &str = r#"{"accept":null}"#;
const DROP: &str = r#"{"drop":null}"#;
const DROPPED: &str = "turned away by inet filter input, policy";

/// The server of the nftables wiki ("Simple ruleset for a server"), with port 8090 added or not.
fn wiki(ports: &str) -> Ruleset {
    let state = r#"{"vmap":{"key":{"ct":{"key":"state"}},"data":{"set":[["invalid",{"drop":null}],["established",{"accept":null}],["related",{"accept":null}]]}}}"#;
    let lo = r#"{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"lo"}},{"accept":null}"#;
    let family = r#"{"vmap":{"key":{"meta":{"key":"protocol"}},"data":{"set":[["ip",{"jump":{"target":"inbound_ipv4"}}],["ip6",{"jump":{"target":"inbound_ipv6"}}]]}}}"#;
    let icmp = r#"{"match":{"op":"==","left":{"payload":{"protocol":"icmp","field":"type"}},"right":"echo-request"}},{"limit":{"rate":5,"burst":5,"per":"second"}},{"accept":null}"#;
    let icmpv6 = r#"{"match":{"op":"==","left":{"payload":{"protocol":"icmpv6","field":"type"}},"right":{"set":["nd-router-advert","nd-neighbor-solicit"]}}},{"accept":null}"#;
    input(
        "drop",
        &[
            chain("inbound_ipv4"),
            chain("inbound_ipv6"),
            rule("inbound_ipv4", icmp),
            rule("inbound_ipv6", icmpv6),
        ],
        &[state, lo, family, &format!("{},{ACCEPT}", dport(ports))],
    )
}

#[test]
fn the_server_of_the_wiki_lets_in_what_it_lists() {
    let closed = wiki(r#"{"set":[22,80,443]}"#);
    assert_eq!([fate(&closed, &tcp(443)), fate(&closed, &tcp(8090))], ["accepted", DROPPED]);
    assert_eq!(fate(&closed, &udp(443)), DROPPED);
    let open = wiki(r#"{"set":[22,{"range":[8090,8092]}]}"#);
    assert_eq!([fate(&open, &tcp(8091)), fate(&open, &v6(8091))], ["accepted", "accepted"]);
}

/// firewalld's default zone, with or without an opened port. Its reject rules end each chain.
fn firewalld(opened: &str) -> Ruleset {
    let named = |name: &str, inner: &str| inner.replace("NAME", name);
    let state = |states: &str| {
        format!(r#"{{"match":{{"op":"in","left":{{"ct":{{"key":"state"}}}},"right":{states}}}}}"#)
    };
    let reject = r#"{"reject":{"type":"icmpx","expr":"admin-prohibited"}}"#;
    let jump = |to: &str| named(to, r#"{"jump":{"target":"NAME"}}"#);
    let goto = |to: &str| named(to, r#"{"goto":{"target":"NAME"}}"#);
    let dnat = r#"{"match":{"op":"in","left":{"ct":{"key":"status"}},"right":"dnat"}},{"accept":null}"#;
    let lo = r#"{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"lo"}},{"accept":null}"#;
    let eth0 = r#"{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"eth0"}}"#;
    let reverse = r#"{"match":{"op":"==","left":{"meta":{"key":"nfproto"}},"right":"ipv6"}},{"match":{"op":"==","left":{"fib":{"result":"oif","flags":["saddr","mark","iif"]}},"right":false}},{"drop":null}"#;
    ruleset(&[
        base("filter", "prerouting", -140, "accept"),
        base("filter", "input", 10, "accept"),
        chain("ZONES"),
        chain("IN_public"),
        chain("IN_public_allow"),
        rule("prerouting", reverse),
        rule("input", &format!("{},{ACCEPT}", state(r#"["established","related"]"#))),
        rule("input", dnat),
        rule("input", lo),
        rule("input", &format!("{},{DROP}", state(r#""invalid""#))),
        rule("input", &jump("ZONES")),
        rule("input", reject),
        rule("ZONES", &format!("{eth0},{}", goto("IN_public"))),
        rule("ZONES", &goto("IN_public")),
        rule("IN_public", &jump("IN_public_allow")),
        rule(
            "IN_public",
            r#"{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":{"set":["icmp","ipv6-icmp"]}}},{"accept":null}"#,
        ),
        rule("IN_public", reject),
        rule("IN_public_allow", &format!("{},{ACCEPT}", dport("22"))),
        rule("IN_public_allow", &format!("{},{ACCEPT}", dport(opened))),
    ])
}

#[test]
fn firewalld_rejects_what_its_zone_does_not_open() {
    for connection in [tcp(8090), two_cards(8090), v6(8090)] {
        let closed = fate(&firewalld("9090"), &connection);
        assert_eq!(closed, "turned away by inet filter IN_public, rule with handle 7");
        assert_eq!(fate(&firewalld("8090"), &connection), "accepted");
    }
}

#[test]
fn an_accept_in_one_table_does_not_end_a_later_one_and_a_drop_does() {
    let other = |policy: &str, expressions: &str| {
        let late = base("late", "input", 5, policy);
        let own = rule("input", expressions).replace(r#""table":"filter""#, r#""table":"late""#);
        ruleset(&[base("filter", "input", 0, "drop"), late, rule("input", ACCEPT), own])
    };
    assert_eq!(
        fate(&other("drop", &format!("{},{ACCEPT}", dport("22"))), &tcp(8090)),
        "turned away by inet late input, policy"
    );
    assert_eq!(fate(&other("drop", &format!("{},{ACCEPT}", dport("8090"))), &tcp(8090)), "accepted");
    assert_eq!(
        fate(&other("accept", DROP), &tcp(8090)),
        "turned away by inet late input, rule with handle 7"
    );
}

#[test]
fn sets_maps_and_concatenations_are_looked_up() {
    let set = |kind: &str, name: &str, elements: &str| {
        format!(r#"{{"{kind}":{{"family":"inet","table":"filter","name":"{name}","elem":[{elements}]}}}}"#)
    };
    let ports = set("set", "ports", r#"22,{"range":[8090,8099]},{"elem":{"val":3000,"comment":"http"}}"#);
    let by_set = input("drop", &[ports], &[&format!("{},{ACCEPT}", dport(r#""@ports""#))]);
    assert_eq!([8090, 8095, 3000].map(|port| fate(&by_set, &tcp(port))), ["accepted"; 3]);
    assert_eq!(fate(&by_set, &tcp(8100)), DROPPED);
    // nft lists no elements of an empty set.
    let empty = set("set", "ports", "").replace(r#","elem":[]"#, "");
    let by_empty = input("drop", &[empty], &[&format!("{},{ACCEPT}", dport(r#""@ports""#))]);
    assert_eq!(fate(&by_empty, &tcp(8090)), DROPPED);

    let verdicts = set(
        "map",
        "verdicts",
        r#"["*",{"drop":null}],[8090,{"jump":{"target":"own"}}],[22,{"accept":null}]"#,
    );
    let map = r#"{"vmap":{"key":{"payload":{"protocol":"tcp","field":"dport"}},"data":"@verdicts"}}"#;
    let by_map = input("accept", &[verdicts, chain("own"), rule("own", r#"{"reject":null}"#)], &[map]);
    assert_eq!(fate(&by_map, &tcp(22)), "accepted");
    assert_eq!(fate(&by_map, &tcp(8090)), "turned away by inet filter own, rule with handle 7");
    assert_eq!(fate(&by_map, &tcp(1)), "turned away by inet filter input, rule with handle 7");
    assert_eq!(fate(&by_map, &udp(1)), "accepted");

    let pairs = set(
        "map",
        "pairs",
        r#"[{"concat":[{"prefix":{"addr":"10.0.0.0","len":8}},{"range":[8080,8099]}]},{"accept":null}],[{"concat":["192.168.1.1",22]},{"accept":null}]"#,
    );
    let both = r#"{"vmap":{"key":{"concat":[{"payload":{"protocol":"ip","field":"saddr"}},{"payload":{"protocol":"tcp","field":"dport"}}]},"data":"@pairs"}}"#;
    let by_pairs = input("drop", &[pairs], &[both]);
    assert_eq!(fate(&by_pairs, &tcp(8090)), "only source 10.0.0.0/8");
    assert_eq!(fate(&by_pairs, &tcp(22)), "only source 192.168.1.1");
    assert_eq!([fate(&by_pairs, &tcp(3000)), fate(&by_pairs, &v6(8090))], [DROPPED, DROPPED]);

    let transport = r#"{"match":{"op":"==","left":{"concat":[{"meta":{"key":"l4proto"}},{"payload":{"protocol":"th","field":"dport"}}]},"right":{"set":[{"concat":["tcp",8090]},{"concat":["udp",8080]}]}}},{"accept":null}"#;
    let by_transport = input("drop", &[], &[transport]);
    assert_eq!([fate(&by_transport, &tcp(8090)), fate(&by_transport, &udp(8080))], ["accepted", "accepted"]);
    assert_eq!([fate(&by_transport, &udp(8090)), fate(&by_transport, &tcp(8080))], [DROPPED, DROPPED]);
}

#[test]
fn senders_are_told_by_address_set_and_negation() {
    let blocked = r#"{"set":{"family":"inet","table":"filter","name":"blocked","elem":["198.51.100.7",{"prefix":{"addr":"203.0.113.0","len":24}}]}}"#;
    let all_but = input("accept", &[blocked.to_owned()], &[&format!("{},{DROP}", saddr(r#""@blocked""#))]);
    assert_eq!(fate(&all_but, &tcp(8090)), "all but source in set blocked");
    assert_eq!(fate(&all_but, &v6(8090)), "accepted");
    let several =
        r#"{"set":[{"prefix":{"addr":"10.0.0.0","len":8}},{"range":["192.168.1.1","192.168.1.9"]}]}"#;
    let some = input("drop", &[], &[&format!("{},{},{ACCEPT}", saddr(several), dport("8090"))]);
    assert_eq!(fate(&some, &tcp(8090)), "only source 10.0.0.0/8, 192.168.1.1-192.168.1.9");
    let others = saddr(r#""10.0.0.1""#).replace("==", "!=");
    let one = input("accept", &[], &[&format!("{others},{DROP}")]);
    assert_eq!(fate(&one, &tcp(8090)), "only source 10.0.0.1");
    // A test of IPv4 says nothing of IPv6, negated or not.
    assert_eq!(fate(&one, &v6(8090)), "accepted");
}

#[test]
fn tests_that_the_first_packet_settles_decide_nothing() {
    let settled = [
        r#"{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":"invalid"}}"#,
        r#"{"match":{"op":"==","left":{"&":[{"payload":{"protocol":"tcp","field":"flags"}},["fin","syn"]]},"right":["fin","syn"]}}"#,
        r#"{"match":{"op":"!=","left":{"&":[{"payload":{"protocol":"tcp","field":"flags"}},["fin","syn","rst","ack"]]},"right":"syn"}}"#,
        r#"{"match":{"op":"!","left":{"payload":{"protocol":"tcp","field":"flags"}},"right":"syn"}}"#,
        r#"{"match":{"op":"!=","left":{"fib":{"result":"type","flags":["daddr"]}},"right":"local"}}"#,
        r#"{"match":{"op":"==","left":{"fib":{"result":"oif","flags":["saddr","iif"]}},"right":false}}"#,
        r#"{"match":{"op":"==","left":{"meta":{"key":"pkttype"}},"right":{"set":["broadcast","multicast"]}}}"#,
        r#"{"match":{"op":"==","left":{"&":[{"meta":{"key":"mark"}},32768]},"right":32768}}"#,
        r#"{"match":{"op":"!=","left":{"&":[{"payload":{"protocol":"ip","field":"frag-off"}},8191]},"right":0}}"#,
        r#"{"match":{"op":"==","left":{"meta":{"key":"iif"}},"right":"lo"}}"#,
        r#"{"match":{"op":"==","left":{"meta":{"key":"iiftype"}},"right":"loopback"}}"#,
        r#"{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"daddr"}},"right":"10.0.0.5"}}"#,
        r#"{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"prefix":{"addr":"127.0.0.0","len":8}}}}"#,
        r#"{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":8090}}"#,
        r#"{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"protocol"}},"right":"udp"}}"#,
        r#"{"match":{"op":"==","left":{"meta":{"key":"nfproto"}},"right":"ipv6"}}"#,
        r#"{"match":{"op":"!=","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":8090}}"#,
    ];
    for test in settled {
        assert_eq!(
            fate(&input("accept", &[], &[&format!("{test},{DROP}")]), &tcp(8090)),
            "accepted",
            "{test}"
        );
    }
    let held = [
        r#"{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":["new","untracked"]}}"#,
        r#"{"match":{"op":"in","left":{"payload":{"protocol":"tcp","field":"flags"}},"right":"syn"}}"#,
        r#"{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"eth*"}}"#,
        r#"{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"sport"}},"right":{"range":[1024,65535]}}}"#,
        r#"{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":{"set":["tcp","udp"]}}},{"match":{"op":"==","left":{"payload":{"protocol":"th","field":"dport"}},"right":8090}}"#,
        r#"{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"daddr"}},"right":"192.0.2.11"}}"#,
        r#"{"xt":{"type":"match","name":"comment"}}"#,
        r#"{"counter":{"packets":1,"bytes":60}},{"log":{"prefix":"x"}}"#,
    ];
    for test in held {
        assert_eq!(
            fate(&input("drop", &[], &[&format!("{test},{ACCEPT}")]), &tcp(8090)),
            "accepted",
            "{test}"
        );
    }
}

#[test]
fn a_kind_of_rejection_is_for_its_family_and_protocol() {
    let icmp = input("accept", &[], &[r#"{"reject":{"type":"icmp","expr":"admin-prohibited"}}"#]);
    assert!(fate(&icmp, &tcp(8090)).starts_with("turned away"));
    assert_eq!(fate(&icmp, &v6(8090)), "accepted");
    let reset = input("accept", &[], &[r#"{"reject":{"type":"tcp reset"}}"#]);
    assert!(fate(&reset, &tcp(8090)).starts_with("turned away"));
    assert_eq!(fate(&reset, &udp(8090)), "accepted");
}

#[test]
fn rates_and_dynamic_sets_hold_for_some() {
    let within = input(
        "drop",
        &[],
        &[&format!(r#"{},{{"limit":{{"rate":10,"burst":5,"per":"second"}}}},{ACCEPT}"#, dport("8090"))],
    );
    assert_eq!(fate(&within, &tcp(8090)), "only within 10/second");
    let meter = r#"{"set":{"op":"add","elem":{"payload":{"protocol":"ip","field":"saddr"}},"set":"@dyn","stmt":[{"limit":{"rate":5,"per":"minute","inv":true}}]}},{"drop":null}"#;
    assert_eq!(fate(&input("accept", &[], &[meter]), &tcp(8090)), "all but over 5/minute");
    let count = r#"{"ct count":{"val":10,"inv":true}},{"drop":null}"#;
    assert_eq!(fate(&input("accept", &[], &[count]), &tcp(8090)), "all but over 10 connections");
}

#[test]
fn what_is_not_known_is_told_where_it_decides() {
    for test in [
        r#"{"match":{"op":"==","left":{"socket":{"key":"transparent"}},"right":1}}"#,
        r#"{"xt":{"type":"match","name":"recent"}}"#,
        r#"{"match":{"op":"==","left":{"brand":"new"},"right":1}}"#,
        r#"{"brand new":1}"#,
    ] {
        let decides = fate(&input("drop", &[], &[&format!("{test},{ACCEPT}")]), &tcp(8090));
        assert!(
            decides.starts_with("not judged: ")
                && decides.ends_with("(inet filter input: rule with handle 7)"),
            "{decides}"
        );
        assert_eq!(fate(&input("drop", &[], &[&format!("{test},{DROP}")]), &tcp(8090)), DROPPED);
    }
    let queue = input("drop", &[], &[r#"{"queue":{"num":1}}"#]);
    assert!(fate(&queue, &tcp(8090)).starts_with("not judged: a program in user space decides"));
}

#[test]
fn a_translation_is_not_judged_and_those_of_other_ports_change_nothing() {
    let nat = |expressions: &str| {
        let pre = base("filter", "prerouting", -100, "accept");
        ruleset(&[
            pre,
            base("filter", "input", 0, "drop"),
            rule("prerouting", expressions),
            rule("input", &format!("{},{ACCEPT}", dport("8090"))),
        ])
    };
    let sent = "not judged: the connection is sent to another address or port (inet filter prerouting: rule with handle 7)";
    assert_eq!(
        fate(&nat(&format!(r#"{},{{"dnat":{{"addr":"10.0.0.2","port":80}}}}"#, dport("8090"))), &tcp(8090)),
        sent
    );
    assert_eq!(
        fate(&nat(&format!(r#"{},{{"redirect":{{"port":81}}}}"#, dport("80"))), &tcp(8090)),
        "accepted"
    );
    let by_map = r#"{"dnat":{"addr":{"map":{"key":{"payload":{"protocol":"tcp","field":"dport"}},"data":{"set":[[80,"10.0.0.7"],[8090,"10.0.0.8"]]}}}}}"#;
    assert_eq!(fate(&nat(by_map), &tcp(8090)), sent);
    assert_eq!(fate(&nat(&by_map.replace("8090", "8091")), &tcp(8090)), "accepted");
}

#[test]
fn chains_of_a_card_a_bridge_and_another_hook_count_where_they_are_met() {
    let on = |chain: &str, family: &str| {
        ruleset(&[
            chain.to_owned(),
            rule("x", DROP).replace(r#""family":"inet""#, &format!(r#""family":"{family}""#)),
        ])
    };
    let ingress = r#"{"chain":{"family":"netdev","table":"filter","name":"x","hook":"ingress","prio":0,"dev":"eth1","policy":"accept"}}"#;
    assert_eq!(fate(&on(ingress, "netdev"), &two_cards(8090)), "all but arriving on eth1");
    let bridge = r#"{"chain":{"family":"bridge","table":"filter","name":"x","hook":"input","prio":0,"policy":"accept"}}"#;
    assert_eq!(fate(&on(bridge, "bridge"), &tcp(8090)), "all but arriving over a bridge");
    for hook in ["forward", "output", "postrouting"] {
        let chain = format!(
            r#"{{"chain":{{"family":"inet","table":"filter","name":"x","hook":"{hook}","prio":0,"policy":"drop"}}}}"#
        );
        assert_eq!(fate(&on(&chain, "inet"), &tcp(8090)), "accepted");
    }
}

#[test]
fn an_answer_without_rules_is_empty_and_one_that_is_none_is_an_error() {
    assert_eq!(of_nft(r#"{"nftables":[{"metainfo":{}}]}"#).unwrap().count(), 0);
    assert!(of_nft("{}").is_err() && of_nft("Operation not permitted").is_err() && of_nft("").is_err());
}
