//! Rules as iptables-save prints them.

use super::super::{Family, Ruleset};
use super::{fate, of_iptables, tcp, two_cards, udp, v6};

/// A filter table whose INPUT has this policy.
fn filter(policy: &str, rules: &str) -> Ruleset {
    let chains: String = rules
        .lines()
        .filter_map(|line| line.strip_prefix(':'))
        .map(|chain| format!(":{chain} - [0:0]\n"))
        .collect();
    let rules: String =
        rules.lines().filter(|line| !line.starts_with(':')).map(|line| format!("{line}\n")).collect();
    let text = format!(
        "*filter\n:INPUT {policy} [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n{chains}{rules}COMMIT\n"
    );
    of_iptables(&text, Family::V4).ruleset
}

#[test]
fn a_last_rule_that_rejects_everybody_turns_away_what_no_rule_before_it_accepts() {
    let rules = filter(
        "ACCEPT",
        "-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT\n-A INPUT -p icmp -j ACCEPT\n-A INPUT -i lo -j ACCEPT\n\
         -A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT\n-A INPUT -j REJECT --reject-with icmp-host-prohibited\n\
         -A FORWARD -j REJECT --reject-with icmp-host-prohibited",
    );
    let turned_away =
        "turned away by iptables filter INPUT, rule `-j REJECT --reject-with icmp-host-prohibited`";
    assert_eq!(fate(&rules, &tcp(8090)), turned_away);
    assert_eq!(fate(&rules, &udp(8080)), turned_away);
    assert_eq!(fate(&rules, &tcp(22)), "accepted");
}

#[test]
fn a_policy_of_drop_turns_away_what_no_rule_accepts_and_one_of_accept_lets_it_in() {
    assert_eq!(fate(&filter("DROP", ""), &tcp(8090)), "turned away by iptables filter INPUT, policy");
    assert_eq!(fate(&filter("ACCEPT", ""), &tcp(8090)), "accepted");
    let open = filter("DROP", "-A INPUT -p tcp -m multiport --dports 22,8090:8092 -j ACCEPT");
    assert_eq!(fate(&open, &tcp(8091)), "accepted");
    assert_eq!(fate(&open, &tcp(8093)), "turned away by iptables filter INPUT, policy");
    assert_eq!(fate(&open, &udp(8091)), "turned away by iptables filter INPUT, policy");
    // The rules of the other family decide nothing here.
    assert_eq!(fate(&filter("DROP", ""), &v6(8090)), "accepted");
}

/// As `ufw enable` and `ufw allow 22/tcp` leave it, without the rules about ICMP and logging that repeat.
const UFW: &str = ":ufw-after-input\n:ufw-after-logging-input\n:ufw-before-input\n:ufw-before-logging-input\n:ufw-logging-deny\n\
    :ufw-not-local\n:ufw-reject-input\n:ufw-skip-to-policy-input\n:ufw-track-input\n:ufw-user-input\n:ufw-user-limit\n:ufw-user-limit-accept\n\
    -A INPUT -j ufw-before-logging-input\n-A INPUT -j ufw-before-input\n-A INPUT -j ufw-after-input\n-A INPUT -j ufw-after-logging-input\n\
    -A INPUT -j ufw-reject-input\n-A INPUT -j ufw-track-input\n\
    -A ufw-after-input -p udp -m udp --dport 137 -j ufw-skip-to-policy-input\n\
    -A ufw-after-input -m addrtype --dst-type BROADCAST -j ufw-skip-to-policy-input\n\
    -A ufw-after-logging-input -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix \"[UFW BLOCK] \"\n\
    -A ufw-before-input -i lo -j ACCEPT\n-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
    -A ufw-before-input -m conntrack --ctstate INVALID -j ufw-logging-deny\n-A ufw-before-input -m conntrack --ctstate INVALID -j DROP\n\
    -A ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT\n-A ufw-before-input -p udp -m udp --sport 67 --dport 68 -j ACCEPT\n\
    -A ufw-before-input -j ufw-not-local\n-A ufw-before-input -d 224.0.0.251/32 -p udp -m udp --dport 5353 -j ACCEPT\n\
    -A ufw-before-input -j ufw-user-input\n\
    -A ufw-logging-deny -m conntrack --ctstate INVALID -m limit --limit 3/min --limit-burst 10 -j RETURN\n\
    -A ufw-logging-deny -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix \"[UFW BLOCK] \"\n\
    -A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN\n-A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN\n\
    -A ufw-not-local -m limit --limit 3/min --limit-burst 10 -j ufw-logging-deny\n-A ufw-not-local -j DROP\n\
    -A ufw-skip-to-policy-input -j DROP\n-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT\n\
    -A ufw-user-limit -m limit --limit 3/min -j LOG --log-prefix \"[UFW LIMIT BLOCK] \"\n\
    -A ufw-user-limit -j REJECT --reject-with icmp-port-unreachable\n-A ufw-user-limit-accept -j ACCEPT";

#[test]
fn ufw_denies_by_its_policy_what_the_user_did_not_allow() {
    let rules = filter("DROP", UFW);
    assert_eq!(fate(&rules, &tcp(22)), "accepted");
    assert_eq!(fate(&rules, &tcp(8090)), "turned away by iptables filter INPUT, policy");
    let allowed = filter("DROP", &format!("{UFW}\n-A ufw-user-input -p tcp -m tcp --dport 8090 -j ACCEPT"));
    assert_eq!(fate(&allowed, &tcp(8090)), "accepted");
    let from = filter(
        "DROP",
        &format!("{UFW}\n-A ufw-user-input -s 10.0.0.0/8 -p tcp -m tcp --dport 8090 -j ACCEPT"),
    );
    assert_eq!(fate(&from, &tcp(8090)), "only source 10.0.0.0/8");
}

#[test]
fn ufw_limit_turns_away_those_who_come_often() {
    let rules = filter(
        "DROP",
        &format!(
            "{UFW}\n-A ufw-user-input -p tcp -m tcp --dport 8090 -m conntrack --ctstate NEW -m recent --set --name DEFAULT --mask 255.255.255.255 --rsource\n\
             -A ufw-user-input -p tcp -m tcp --dport 8090 -m conntrack --ctstate NEW -m recent --update --seconds 30 --hitcount 6 --name DEFAULT --mask 255.255.255.255 --rsource -j ufw-user-limit\n\
             -A ufw-user-input -p tcp -m tcp --dport 8090 -j ufw-user-limit-accept"
        ),
    );
    let often = "all but recent update seconds 30 hitcount 6 name DEFAULT mask 255.255.255.255 rsource";
    assert_eq!(fate(&rules, &tcp(8090)), often);
}

#[test]
fn who_an_earlier_rule_has_decided_over_does_not_come_to_a_later_one() {
    let shadowed = "-A INPUT -s 10.0.0.0/8 -j DROP\n-A INPUT -s 10.1.0.0/16 -p tcp --dport 8090 -j ACCEPT";
    assert_eq!(fate(&filter("DROP", shadowed), &tcp(8090)), "turned away by iptables filter INPUT, policy");
    let excepted = "-A INPUT -s 10.1.0.0/16 -j DROP\n-A INPUT -s 10.0.0.0/8 -p tcp --dport 8090 -j ACCEPT";
    assert_eq!(fate(&filter("DROP", excepted), &tcp(8090)), "only source 10.0.0.0/8");
    let both = "-A INPUT -s 10.0.0.0/8 -j ACCEPT\n-A INPUT ! -s 10.0.0.0/8 -j ACCEPT";
    assert_eq!(fate(&filter("DROP", both), &tcp(8090)), "accepted");
    let ours = "-A INPUT -s 127.0.0.0/8 -j ACCEPT\n-A INPUT -s 192.0.2.11/32 -j ACCEPT";
    assert_eq!(fate(&filter("DROP", ours), &tcp(8090)), "turned away by iptables filter INPUT, policy");
    let everybody = "-A INPUT -s 0.0.0.0/0 -p tcp --dport 8090 -j ACCEPT";
    assert_eq!(fate(&filter("DROP", everybody), &tcp(8090)), "accepted");
}

#[test]
fn negated_options_hold_for_the_others() {
    assert_eq!(
        fate(&filter("ACCEPT", "-A INPUT ! -s 10.0.0.0/8 -p tcp --dport 8090 -j DROP"), &tcp(8090)),
        "only source 10.0.0.0/8"
    );
    let ports = filter("ACCEPT", "-A INPUT -p tcp -m multiport ! --dports 22,8090 -j DROP");
    assert_eq!(fate(&ports, &tcp(8090)), "accepted");
    assert!(fate(&ports, &tcp(3000)).starts_with("turned away"));
    assert_eq!(
        fate(&filter("ACCEPT", "-A INPUT ! -i lo -p tcp --dport 8090 -j DROP"), &udp(8090)),
        "accepted"
    );
    assert!(fate(&filter("ACCEPT", "-A INPUT ! -i lo -j DROP"), &tcp(1)).starts_with("turned away"));
    assert!(fate(&filter("ACCEPT", "-A INPUT ! -p udp -j DROP"), &tcp(1)).starts_with("turned away"));
    assert_eq!(
        fate(&filter("ACCEPT", "-A INPUT -p tcp ! --syn -m state --state NEW -j DROP"), &tcp(1)),
        "accepted"
    );
    assert_eq!(
        fate(&filter("ACCEPT", "-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN FIN,SYN -j DROP"), &tcp(1)),
        "accepted"
    );
    assert_eq!(fate(&filter("ACCEPT", "-A INPUT -f -j DROP"), &tcp(1)), "accepted");
}

#[test]
fn jumps_come_back_and_gotos_do_not() {
    let chains = |first: &str| {
        filter(
            "DROP",
            &format!(
                ":own\n{first}\n-A INPUT -p tcp --dport 8090 -j ACCEPT\n-A own -p tcp --dport 8091 -j ACCEPT\n-A own -p tcp --dport 8092 -j RETURN\n-A own -p tcp --dport 8092 -j ACCEPT"
            ),
        )
    };
    let jump = chains("-A INPUT -j own");
    assert_eq!(fate(&jump, &tcp(8090)), "accepted");
    assert_eq!(fate(&jump, &tcp(8091)), "accepted");
    assert!(fate(&jump, &tcp(8092)).starts_with("turned away"));
    let goto = chains("-A INPUT -g own");
    assert_eq!(fate(&goto, &tcp(8090)), "turned away by iptables filter INPUT, policy");
    assert_eq!(fate(&goto, &tcp(8091)), "accepted");
    let circle = filter("DROP", ":a\n:b\n-A INPUT -j a\n-A a -j b\n-A b -j a\n-A b -j DROP");
    assert!(fate(&circle, &tcp(8090)).starts_with("not judged: it jumps deeper than the kernel allows"));
}

#[test]
fn an_interface_decides_where_there_is_more_than_one() {
    let rules = filter("DROP", "-A INPUT -i eth0 -p tcp --dport 8090 -j ACCEPT");
    assert_eq!(fate(&rules, &tcp(8090)), "accepted");
    assert_eq!(fate(&rules, &two_cards(8090)), "only arriving on eth0");
    let pattern = filter("DROP", "-A INPUT -i eth+ -p tcp --dport 8090 -j ACCEPT");
    assert_eq!(fate(&pattern, &two_cards(8090)), "accepted");
    let each = filter("DROP", "-A INPUT -i eth0 -j DROP\n-A INPUT -i eth1 -j ACCEPT");
    assert_eq!(fate(&each, &two_cards(8090)), "only arriving on eth1");
}

#[test]
fn rates_and_sets_of_senders_are_named() {
    let limited = filter("DROP", "-A INPUT -p tcp --dport 8090 -m limit --limit 10/sec -j ACCEPT");
    assert_eq!(fate(&limited, &tcp(8090)), "only limit 10/sec");
    let banned = filter(
        "ACCEPT",
        ":f2b-sshd\n-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd\n-A INPUT -m set --match-set blocklist src -j DROP\n-A f2b-sshd -s 203.0.113.5/32 -j REJECT\n-A f2b-sshd -j RETURN",
    );
    assert_eq!(fate(&banned, &tcp(8090)), "all but source in set blocklist");
    assert_eq!(fate(&banned, &tcp(22)), "all but source 203.0.113.5; source in set blocklist");
}

#[test]
fn what_is_not_known_decides_nothing() {
    let unknown = filter("DROP", "-A INPUT -p tcp -m set --match-set open dst -j ACCEPT");
    assert_eq!(
        fate(&unknown, &tcp(8090)),
        "not judged: what is in the set open (dst) (iptables filter INPUT: rule `-p tcp -m set --match-set open dst -j ACCEPT`)"
    );
    let new = filter("ACCEPT", "-A INPUT -m somenew --some option -j DROP");
    assert!(fate(&new, &tcp(8090)).starts_with("not judged: Warden does not know the match -m somenew"));
    // Either way it comes to the same.
    let same = filter("DROP", "-A INPUT -m somenew --some option -j DROP");
    assert_eq!(fate(&same, &tcp(8090)), "turned away by iptables filter INPUT, policy");
    let before =
        filter("DROP", "-A INPUT -p tcp --dport 8090 -j ACCEPT\n-A INPUT -m somenew --some option -j DROP");
    assert_eq!(fate(&before, &tcp(8090)), "accepted");
    assert!(
        fate(&filter("DROP", "-A INPUT -j NFQUEUE --queue-num 0"), &tcp(8090))
            .starts_with("not judged: a program in user space decides")
    );
}

/// Of a Docker host: a published port 9000, and nothing about INPUT.
const DOCKER: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n\
    -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER\n\
    -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\n-A DOCKER -i docker0 -j RETURN\n\
    -A DOCKER ! -i docker0 -p tcp -m tcp --dport 9000 -j DNAT --to-destination 172.17.0.2:8090\nCOMMIT\n\
    *filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:DOCKER - [0:0]\n:DOCKER-USER - [0:0]\n\
    -A FORWARD -j DOCKER-USER\n-A FORWARD -o docker0 -j DOCKER\n-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 8090 -j ACCEPT\n\
    -A DOCKER-USER -j RETURN\nCOMMIT\n";

#[test]
fn docker_forwards_its_own_ports_and_leaves_the_others_to_input() {
    let rules = of_iptables(DOCKER, Family::V4).ruleset;
    assert_eq!(fate(&rules, &tcp(8090)), "accepted");
    assert!(
        fate(&rules, &tcp(9000)).starts_with(
            "not judged: the connection is sent to another address or port (iptables nat DOCKER"
        )
    );
    let closed = of_iptables(
        &DOCKER.replace(":INPUT ACCEPT [0:0]\n:FORWARD", ":INPUT DROP [0:0]\n:FORWARD"),
        Family::V4,
    );
    assert_eq!(fate(&closed.ruleset, &tcp(8090)), "turned away by iptables filter INPUT, policy");
    assert!(fate(&closed.ruleset, &tcp(9000)).starts_with("not judged"));
}

#[test]
fn kube_proxy_lets_in_what_is_no_service() {
    let rules = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\n:KUBE-SVC-A - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n\
        -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
        -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n-A KUBE-NODEPORTS -p tcp -m comment --comment \"default/a\" -m tcp --dport 30080 -j KUBE-SVC-A\n\
        -A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment \"default/kubernetes:https cluster IP\" -m tcp --dport 443 -j KUBE-SVC-A\n\
        -A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n\
        -A KUBE-SVC-A -m statistic --mode random --probability 0.5 -j DNAT --to-destination 10.244.0.2:80\n-A KUBE-SVC-A -p tcp -j DNAT --to-destination 10.244.0.3:80\nCOMMIT\n\
        *filter\n:INPUT ACCEPT [0:0]\n:KUBE-FIREWALL - [0:0]\n:KUBE-PROXY-FIREWALL - [0:0]\n\
        -A INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL\n-A INPUT -j KUBE-FIREWALL\n\
        -A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment \"block incoming localnet connections\" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP\n\
        -A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP\nCOMMIT\n";
    let rules = of_iptables(rules, Family::V4).ruleset;
    assert_eq!(fate(&rules, &tcp(8090)), "accepted");
    assert!(fate(&rules, &tcp(30080)).starts_with("not judged"));
}

#[test]
fn a_drop_in_an_earlier_table_is_not_undone_by_a_later_one() {
    let text = "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp --dport 8090 -j DROP\nCOMMIT\n*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\nCOMMIT\n";
    let rules = of_iptables(text, Family::V4).ruleset;
    assert_eq!(
        fate(&rules, &tcp(8090)),
        "turned away by iptables raw PREROUTING, rule `-p tcp --dport 8090 -j DROP`"
    );
    // Before connection tracking has seen it, nothing is new.
    let early = text.replace(
        "-A PREROUTING -p tcp --dport 8090 -j DROP",
        "-A PREROUTING -m conntrack --ctstate NEW -j DROP",
    );
    assert_eq!(fate(&of_iptables(&early, Family::V4).ruleset, &tcp(8090)), "accepted");
    // What is not tracked is not new.
    let untracked = "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp --dport 8090 -j CT --notrack\nCOMMIT\n\
        *filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -m conntrack --ctstate NEW -j ACCEPT\nCOMMIT\n";
    let rules = of_iptables(untracked, Family::V4).ruleset;
    assert_eq!(fate(&rules, &tcp(8090)), "turned away by iptables filter INPUT, policy");
    assert_eq!(fate(&rules, &tcp(8091)), "accepted");
}

#[test]
fn a_mark_decides_only_where_a_rule_sets_one() {
    let marked = "-A INPUT -m mark --mark 0x8000/0x8000 -j DROP";
    assert_eq!(fate(&filter("ACCEPT", marked), &tcp(8090)), "accepted");
    let text = format!(
        "*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp --dport 8090 -j MARK --set-xmark 0x8000/0x8000\nCOMMIT\n*filter\n:INPUT ACCEPT [0:0]\n{marked}\nCOMMIT\n"
    );
    let rules = of_iptables(&text, Family::V4).ruleset;
    assert!(fate(&rules, &tcp(8090)).starts_with("not judged: the mark that an earlier rule sets"));
    assert_eq!(fate(&rules, &tcp(8091)), "accepted");
}

#[test]
fn thousands_of_banned_senders_are_followed() {
    let banned: String = (0..3000u32)
        .map(|at| format!("-A INPUT -s 203.0.{}.{}/32 -j DROP\n", at / 250, at % 250 + 1))
        .collect();
    let found = fate(&filter("ACCEPT", banned.trim_end()), &tcp(8090));
    assert!(
        found.starts_with("all but source 203.0.0.1; source 203.0.0.2;") && found.ends_with("; 2994 more"),
        "{found}"
    );
}

#[test]
fn back_ends_and_what_they_cannot_show_are_told() {
    let saved = of_iptables(
        "# Generated by iptables-save v1.8.9 (nf_tables) on Tue\n# Table `firewalld' is incompatible, use 'nft' tool.\n*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n",
        Family::V4,
    );
    assert_eq!((saved.says_nf_tables, saved.incompatible), (true, vec!["firewalld".to_owned()]));
    assert!(!of_iptables("# Generated by iptables-save v1.8.9 on Tue\n", Family::V4).says_nf_tables);
    let counted = of_iptables(
        "*filter\n:INPUT DROP [0:0]\n[12:720] -A INPUT -p tcp --dport 8090 -m comment --comment \"a \\\"b\\\" -j DROP\" -j ACCEPT\nCOMMIT\n",
        Family::V4,
    );
    assert_eq!(fate(&counted.ruleset, &tcp(8090)), "accepted");
}
