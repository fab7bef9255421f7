//! The one table of programs that may ever be run.

/// A program with fixed arguments. Run with a cleared environment (`LC_ALL=C`), in its own process group, with
/// a deadline and an output limit; the first of `programs` that exists is used, never `PATH`.
#[derive(Debug)]
pub struct Command {
    pub name: &'static str,
    pub programs: &'static [&'static str],
    pub args: &'static [&'static str],
    /// Takes one more argument from the check (a device, a unit, an interface). It may not begin with `-`.
    pub takes_argument: bool,
}

const fn row(
    name: &'static str,
    programs: &'static [&'static str],
    args: &'static [&'static str],
) -> Command {
    Command { name, programs, args, takes_argument: false }
}

const fn row_with_argument(
    name: &'static str,
    programs: &'static [&'static str],
    args: &'static [&'static str],
) -> Command {
    Command { name, programs, args, takes_argument: true }
}

/// Read-only queries, all of them. Sorted by name.
pub static COMMANDS: &[Command] = &[
    // A simulation that takes no lock and writes no cache.
    row(
        "apt-pending",
        &["/usr/bin/apt-get"],
        &["--simulate", "-qq", "-oDebug::NoLocking=true", "dist-upgrade"],
    ),
    // Queries of RAID controllers: none of the four writes its log file (`nolog`).
    row("arcconf", &["/usr/sbin/arcconf", "/usr/Arcconf/arcconf"], &["getconfig", "1", "LD", "nologs"]),
    row("chronyc-tracking", &["/usr/bin/chronyc"], &["-c", "-n", "tracking"]),
    row("coredumpctl", &["/usr/bin/coredumpctl"], &["list", "--no-pager", "--json=short", "--since=-7d"]),
    // Asks the kernel's device mapper and no disk.
    row("dmsetup-status", &["/usr/sbin/dmsetup", "/sbin/dmsetup"], &["status", "--noflush"]),
    row(
        "dpkg-kernels",
        &["/usr/bin/dpkg-query"],
        &["-W", "-f=${db:Status-Abbrev} ${Package} ${Version}\n", "linux-image-*"],
    ),
    row(
        "dpkg-runtimes",
        &["/usr/bin/dpkg-query"],
        &["-W", "-f=${db:Status-Abbrev} ${Package} ${Version} ${Architecture}\n", "*iggy*", "warden*"],
    ),
    row("drbdsetup-status", &["/usr/sbin/drbdsetup", "/sbin/drbdsetup"], &["status", "--json"]),
    row("iggy-cli-version", &["/usr/bin/iggy", "/usr/local/bin/iggy"], &["--version"]),
    row(
        "iggy-connectors-version",
        &["/usr/bin/iggy-connectors", "/usr/local/bin/iggy-connectors"],
        &["--version"],
    ),
    row("iggy-server-version", &["/usr/bin/iggy-server", "/usr/local/bin/iggy-server"], &["--version"]),
    row("ip-address", &["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"], &["-j", "-d", "address", "show"]),
    row("ip-neighbour", &["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"], &["-j", "neighbour", "show"]),
    row("ip-route", &["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"], &["-j", "route", "show", "table", "all"]),
    row("ip6tables-legacy-save", &["/usr/sbin/ip6tables-legacy-save", "/sbin/ip6tables-legacy-save"], &[]),
    row("ip6tables-save", &["/usr/sbin/ip6tables-save", "/sbin/ip6tables-save"], &[]),
    row("iptables-legacy-save", &["/usr/sbin/iptables-legacy-save", "/sbin/iptables-legacy-save"], &[]),
    row("iptables-save", &["/usr/sbin/iptables-save", "/sbin/iptables-save"], &[]),
    row("journal-disk-usage", &["/usr/bin/journalctl"], &["--disk-usage", "--no-pager"]),
    row("journal-header", &["/usr/bin/journalctl"], &["--header", "--no-pager"]),
    row(
        "megacli",
        &["/opt/MegaRAID/MegaCli/MegaCli64", "/usr/sbin/MegaCli64", "/usr/sbin/megacli"],
        &["-LDInfo", "-Lall", "-aALL", "-NoLog"],
    ),
    row("nft-ruleset", &["/usr/sbin/nft", "/sbin/nft"], &["-j", "list", "ruleset"]),
    row_with_argument("nvme-smart-log", &["/usr/sbin/nvme"], &["smart-log", "--output-format=json"]),
    row(
        "rpm-runtimes",
        &["/usr/bin/rpm"],
        &["-qa", "--queryformat", "%{NAME} %{VERSION}-%{RELEASE} %{ARCH}\n", "*iggy*", "warden*", "kernel*"],
    ),
    // A disk that sleeps is not woken for a question.
    row_with_argument(
        "smartctl",
        &["/usr/sbin/smartctl"],
        &["--json", "--nocheck=standby", "--health", "--attributes"],
    ),
    row(
        "ssacli",
        &["/usr/sbin/ssacli", "/usr/sbin/hpssacli", "/opt/smartstorageadmin/ssacli/bin/ssacli"],
        &["ctrl", "all", "show", "config"],
    ),
    // The same program under the names of Broadcom and of Dell.
    row(
        "storcli",
        &[
            "/opt/MegaRAID/storcli/storcli64",
            "/usr/sbin/storcli64",
            "/opt/MegaRAID/perccli/perccli64",
            "/usr/sbin/perccli64",
        ],
        &["/call", "show", "J", "nolog"],
    ),
    // As root it goes by systemd's own socket, which is there without a bus, too.
    row(
        "systemctl-units",
        &["/usr/bin/systemctl"],
        &["list-units", "--all", "--full", "--plain", "--no-legend", "--no-pager"],
    ),
    row_with_argument("systemd-security", &["/usr/bin/systemd-analyze"], &["security", "--no-pager"]),
    row("tc-qdisc", &["/usr/sbin/tc", "/sbin/tc"], &["-j", "qdisc", "show"]),
    row("timedatectl", &["/usr/bin/timedatectl"], &["show"]),
    row("zpool-status", &["/usr/sbin/zpool", "/sbin/zpool"], &["status"]),
];

pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_is_absolute_and_the_table_is_sorted() {
        assert!(COMMANDS.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(COMMANDS.iter().flat_map(|command| command.programs).all(|program| program.starts_with('/')));
    }
}
