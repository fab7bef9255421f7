//! What of an answer could not be seen: it was refused, cut, or masked.

use super::{Answer, Cause, Data, Failure, Request, UnitProperties};
use crate::quantity::{bytes, count};

/// Begins the token that the redactor puts in the place of a secret.
pub const PLACEHOLDER: &str = "[secret:";

/// Why a request was not answered, or not whole. What does not exist is an answer.
pub fn unseen(request: &Request, answer: &Answer) -> Option<Failure> {
    let failure = |cause| Some(Failure { what: request.to_string(), cause });
    match answer {
        Err(Failure { cause: Cause::Absent, .. }) => None,
        Err(failure) => Some(failure.clone()),
        Ok(data) => match (missing(data), void(request, data), complaint(request, data)) {
            (Some(text), ..) => failure(Cause::Truncated(text)),
            (_, Some(text), _) | (.., Some(text)) => failure(Cause::Other(text)),
            _ if holds_no_secrets(request) && is_masked(data) => failure(Cause::Masked),
            _ => flaw(data).and_then(failure),
        },
    }
}

/// Why an answer that is no failure holds nothing that could be judged, although there is always something.
fn void(request: &Request, data: &Data) -> Option<String> {
    const EMPTY: &str = "it is empty, which it never is";
    let empty = |is_empty: bool, text: &str| is_empty.then(|| text.to_owned());
    match (request, data) {
        (Request::File { path }, Data::Text(content)) => {
            empty(content.text.is_empty() && content.cut_from.is_none() && !may_be_empty(path), EMPTY)
        }
        (Request::Files { pattern }, Data::Files { files, .. }) => {
            if pattern.starts_with("/proc/[pid]/") && files.is_empty() {
                return Some("not one process could be read".to_owned());
            }
            let hollow = files.iter().find(|file| file.text.is_empty() && !may_be_empty(&file.path));
            hollow.map(|file| format!("{} is empty, which it never is", file.path))
        }
        (Request::Sample { .. }, Data::Samples(samples)) => {
            let is_empty = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
            let mut files = samples.files.iter().filter(|file| !may_be_empty(&file.path));
            let hollow = files.find(|file| is_empty(&file.first) || is_empty(&file.second));
            hollow.map(|file| format!("{} is empty, which it never is", file.path))
        }
        (Request::List { path }, Data::Entries { entries, .. }) => {
            empty(entries.is_empty() && path.starts_with("/proc/"), "it lists nothing")
        }
        (Request::Http { url } | Request::IggyApi { url }, Data::Http(answer)) => {
            // Of /health the status is the answer.
            let is_status = answer.status != 200 || url.ends_with("/health");
            empty(!is_status && answer.body.trim().is_empty(), "the answer has no body")
        }
        (_, Data::Units { units }) => empty(units.is_empty(), "the service manager lists not one unit"),
        (_, Data::Link { target }) => empty(target.is_empty(), "it leads nowhere"),
        (_, Data::Addresses { addresses, .. }) => empty(addresses.is_empty(), "it has no address"),
        _ => None,
    }
}

/// Files of /proc and /sys that hold nothing when there is nothing to tell; the others always hold something. What
/// else lies on a host may be empty.
fn may_be_empty(path: &str) -> bool {
    const ENDS: [&str; 20] = [
        "/environ",
        "/cmdline",
        "/stack",
        "/wchan",
        "/io",
        "/maps",
        "/attr/current",
        "/modules",
        "/if_inet6",
        "/diskstats",
        "/ip_tables_names",
        "/ip6_tables_names",
        "/arp",
        "/tcp6",
        "/udp6",
        "/io.max",
        "/cgroup.procs",
        "/cgroup.controllers",
        "/cgroup.subtree_control",
        "/memory.swap.events",
    ];
    let of_the_kernel = path.starts_with("/proc/") || path.starts_with("/sys/");
    !of_the_kernel
        || path.starts_with("/sys/class/dmi/")
        || path.starts_with("/sys/module/")
        || ENDS.iter().any(|end| path.ends_with(end))
}

/// Commands that print nothing when there is none of what they list.
const SILENT: [&str; 12] = [
    "apt-pending",
    "coredumpctl",
    "dpkg-kernels",
    "dpkg-runtimes",
    "drbdsetup-status",
    "ip-neighbour",
    "ip-route",
    "ip6tables-legacy-save",
    "ip6tables-save",
    "iptables-legacy-save",
    "iptables-save",
    "rpm-runtimes",
];

/// What a command said instead of an answer: it does not know the option, or the kernel does not.
fn complaint(request: &Request, data: &Data) -> Option<String> {
    let (Request::Command { name, .. }, Data::Output(output)) = (request, data) else { return None };
    if !output.stdout.trim().is_empty() {
        return None;
    }
    let said = output.stderr.lines().find(|line| !line.trim().is_empty());
    let may_be_silent = SILENT.contains(&name.as_str());
    let status = output.status.map_or("a signal".to_owned(), |status| format!("status {status}"));
    match said {
        Some(said) if output.status != Some(0) && (!may_be_silent || is_misuse(said)) => {
            Some(format!("it ended with {status}: {}", said.trim()))
        }
        Some(said) if is_misuse(said) => Some(said.trim().to_owned()),
        _ if may_be_silent && output.status == Some(0) => None,
        None if output.status != Some(0) => Some(format!("it ended with {status} and said nothing")),
        None => Some("it said nothing".to_owned()),
        Some(_) if may_be_silent => None,
        Some(said) => Some(format!("it said only: {}", said.trim())),
    }
}

/// How programs say that they, or the kernel below them, do not know what they were asked.
fn is_misuse(said: &str) -> bool {
    const SIGNS: [&str; 10] = [
        "unknown option",
        "unrecognized option",
        "invalid option",
        "unknown command",
        "usage:",
        "not supported",
        "not implemented",
        "permission denied",
        "not permitted",
        "cannot open",
    ];
    let said = said.to_lowercase();
    SIGNS.iter().any(|sign| said.contains(sign))
}

/// Why an answer cannot be taken for the whole of what was asked.
pub fn flaw(data: &Data) -> Option<Cause> {
    let unit = if let Data::Unit(unit) = data { Some(unit) } else { None };
    let told_nothing = || Cause::Other("the service manager told no properties".to_owned());
    let empty = || unit.filter(|unit| unit.properties.is_empty()).map(|_| told_nothing());
    let masked = || unit.filter(|unit| is_masked_unit(unit)).map(|_| Cause::Masked);
    missing(data).map(Cause::Truncated).or_else(empty).or_else(masked)
}

/// What is missing of an answer that is not whole, in a person's words.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other answers are whole or not there")]
pub fn missing(data: &Data) -> Option<String> {
    match data {
        Data::Text(content) => {
            let read = content.text.len() as u64;
            content
                .cut_from
                .map(|size| format!("only {} of {} were read", bytes(read), bytes(size.max(read))))
        }
        Data::Files { files, left_out: left_out @ 1.., .. } => {
            Some(format!("only {} of {} files were read", files.len(), files.len() as u64 + left_out))
        }
        Data::Files { unread, .. } if !unread.is_none() => {
            let first = unread.first.as_ref().map_or_else(String::new, |first| format!(" ({first})"));
            Some(format!("{} could not be read{first}", count(unread.count, "file", "files")))
        }
        Data::Samples(samples) if samples.left_out > 0 => {
            Some(format!("{} left out", count(samples.left_out, "file was", "files were")))
        }
        Data::Entries { entries, left_out: left_out @ 1.. } => {
            Some(format!("only {} of {} names were read", entries.len(), entries.len() as u64 + left_out))
        }
        Data::Output(output) if output.cut => {
            let read = (output.stdout.len() + output.stderr.len()) as u64;
            Some(format!("only the first {} of its output were read", bytes(read)))
        }
        Data::Log(log) if log.cut => {
            Some(format!("only the newest {} were read", count(log.lines.len() as u64, "line", "lines")))
        }
        _ => None,
    }
}

/// A name that was not UTF-8 holds U+FFFD by now: no question that is built from it would mean what it says.
pub fn unspeakable(request: &Request) -> Option<Failure> {
    let what = request.to_string();
    let cause = || Cause::Other("its name is not UTF-8, so it cannot be asked for".to_owned());
    what.contains('\u{fffd}').then(|| Failure { what, cause: cause() })
}

/// Files of the system that hold no secret either.
const PLAIN: [&str; 8] = [
    "/etc/adjtime",
    "/etc/warden/policy.toml",
    "/etc/warden/warden.toml",
    "/etc/os-release",
    "/etc/resolv.conf",
    "/etc/selinux/config",
    "/etc/systemd/journald.conf",
    "/usr/lib/os-release",
];

/// Where a placeholder is a value that the kernel or a program reports, and no secret that was rightly masked.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "configurations, units and logs hold secrets as a matter of course"
)]
fn holds_no_secrets(request: &Request) -> bool {
    match request {
        Request::File { path } | Request::Files { pattern: path } | Request::Sample { pattern: path } => {
            let of_a_process = ["/environ", "/cmdline"].iter().any(|end| path.ends_with(end));
            let of_the_kernel = path.starts_with("/proc/") || path.starts_with("/sys/");
            path == "/proc/cmdline" || of_the_kernel && !of_a_process || PLAIN.contains(&path.as_str())
        }
        Request::Command { .. } | Request::IggyApi { .. } => true,
        Request::Http { url } => !url.ends_with("/health"),
        _ => false,
    }
}

/// Properties of a unit that the redactor may rightly mask: they hold words of the administrator.
const WORDS_OF_A_UNIT: [&str; 5] = ["Environment", "Exec", "Description", "StatusText", "Documentation"];

/// Whether the redactor took away what the service manager says of the unit's state or settings.
pub fn is_masked_unit(unit: &UnitProperties) -> bool {
    let of_state = |name: &str| !WORDS_OF_A_UNIT.iter().any(|words| name.starts_with(words));
    let mut values = unit.properties.iter().filter(|(name, _)| of_state(name)).map(|(_, value)| value);
    values.any(|value| value.to_string().contains(PLACEHOLDER))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other answers are not asked about")]
fn is_masked(data: &Data) -> bool {
    let is_masked = |text: &str| text.contains(PLACEHOLDER);
    match data {
        Data::Text(content) => is_masked(&content.text),
        Data::Files { files, .. } => files.iter().any(|file| is_masked(&file.text)),
        Data::Samples(samples) => {
            let sides = samples.files.iter().flat_map(|sample| [&sample.first, &sample.second]);
            sides.flatten().any(|text| is_masked(text))
        }
        Data::Output(output) => is_masked(&output.stdout),
        Data::Http(answer) => is_masked(&answer.body),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, Recorded, Unread};

    #[test]
    fn a_file_that_was_cut_is_an_error_unless_a_part_is_asked_for() {
        let path = "/proc/self/mountinfo";
        let content = Content { text: "x".repeat(1 << 20), cut_from: Some(3 << 20) };
        let host = Recorded::new().with(Request::File { path: path.to_owned() }, Data::Text(content)).host();
        let error = host.read(path).unwrap_err();
        assert_eq!(error.to_string(), "/proc/self/mountinfo: only 1 MiB of 3 MiB were read");
        let part = host.read_part(path).unwrap();
        assert_eq!(
            (part.value.len(), part.missing.as_deref()),
            (1 << 20, Some("only 1 MiB of 3 MiB were read"))
        );
        assert_eq!(host.unseen().len(), 1);
    }

    #[test]
    fn a_member_of_a_pattern_that_may_not_be_read_is_told() {
        let pattern = || "/sys/block/*/queue/write_cache";
        let denied = Failure { what: "/sys/block/sda/queue/write_cache".to_owned(), cause: Cause::Denied };
        let mut unread = Unread::default();
        unread.add(denied);
        let files = Data::Files { files: Vec::new(), left_out: 0, unread };
        let host = Recorded::new().with(Request::Files { pattern: pattern().to_owned() }, files).host();
        assert_eq!(
            host.read_all(pattern()).unwrap_err().to_string(),
            "/sys/block/*/queue/write_cache: 1 file could not be read (/sys/block/sda/queue/write_cache: permission denied)"
        );
        assert_eq!(host.read_all_part(pattern()).unwrap().value, []);
    }

    #[test]
    fn a_masked_number_of_the_kernel_is_unseen_and_a_masked_configuration_is_not() {
        let host = Recorded::new()
            .file("/proc/meminfo", "MemTotal: [secret:entropy:77] kB")
            .file("/etc/iggy/config.toml", "password = \"[secret:password:77]\"")
            .host();
        host.read("/proc/meminfo").unwrap();
        host.read("/etc/iggy/config.toml").unwrap();
        let told: Vec<String> = host.unseen().iter().map(ToString::to_string).collect();
        assert_eq!(told, ["/proc/meminfo: a value in it is masked"]);
    }

    #[test]
    fn a_name_that_was_no_text_is_not_asked_for() {
        let host = Recorded::complete().host();
        let error = host.read("/srv/d\u{fffd}ta/current_config.toml").unwrap_err();
        assert!(error.to_string().ends_with("its name is not UTF-8, so it cannot be asked for"));
    }

    #[test]
    fn what_is_asked_quietly_is_not_remembered_as_unseen() {
        let host = Recorded::new().denied("/a").denied("/b").denied("/c").host();
        host.quietly(|host| host.read("/a").and(host.quietly(|host| host.read("/b")))).unwrap_err();
        host.read("/c").unwrap_err();
        let told: Vec<String> = host.unseen().iter().map(ToString::to_string).collect();
        assert_eq!(told, ["/c: permission denied"]);
    }
}
