//! What cgroup-limits says of groups of either version.

use warden_host::{Cause, Data, Recorded, Request, Sample};

use super::*;
use crate::iggy::Runtime;

const MOUNT: &str = "31 30 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
const GROUP: &str = "/sys/fs/cgroup/system.slice/iggy.service";

fn with(cpu_before: &str, cpu_after: &str, events: &str) -> Recorded {
    let sample = Sample {
        path: format!("{GROUP}/cpu.stat"),
        first: Some(cpu_before.to_owned()),
        second: Some(cpu_after.to_owned()),
    };
    let samples = Samples { elapsed_us: 1_000_000, files: vec![sample], left_out: 0 };
    Recorded::complete()
        .file("/proc/self/mountinfo", MOUNT)
        .file("/proc/9/cgroup", "0::/system.slice/iggy.service\n")
        .with(Request::Sample { pattern: STAT_TWO.to_owned() }, Data::Samples(samples))
        .file(&format!("{GROUP}/cpu.stat"), cpu_after)
        .file(&format!("{GROUP}/cpu.max"), "200000 100000\n")
        .file(&format!("{GROUP}/memory.current"), "1048576\n")
        .file(&format!("{GROUP}/memory.high"), "max\n")
        .file(&format!("{GROUP}/memory.max"), "2097152\n")
        .file(&format!("{GROUP}/memory.stat"), "anon 524288\nfile 1\n")
        .file(&format!("{GROUP}/memory.events"), events)
        .file(&format!("{GROUP}/pids.current"), "12\n")
        .file(&format!("{GROUP}/pids.max"), "max\n")
}

const CALM: &str = "nr_periods 100\nnr_throttled 0\nthrottled_usec 0\n";
const NO_EVENTS: &str = "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n";

fn judged(host: Recorded) -> Finding {
    judge(&host.host(), &Runtimes::from([(9, Runtime::Iggy)])).unwrap()
}

#[test]
fn a_limit_that_was_never_reached_passes() {
    let finding = judged(with(CALM, CALM, NO_EVENTS));
    assert_eq!(finding.verdict(), Verdict::Pass, "{:?}", finding.problems);
    assert_eq!(finding.summary, "1 runtime looked at: CPU limited, memory limited");
}

#[test]
fn throttling_between_the_looks_warns_and_in_most_periods_fails() {
    let after = |throttled| format!("nr_periods 110\nnr_throttled {throttled}\nthrottled_usec 5\n");
    let half = judged(with(CALM, &after(5), NO_EVENTS));
    assert_eq!(half.verdict(), Verdict::Warn);
    assert_eq!(
        half.problems[0].text,
        "iggy-server is throttled at 2 cores: in 5 of 10 periods between the looks (/system.slice/iggy.service)"
    );
    assert_eq!(judged(with(CALM, &after(6), NO_EVENTS)).verdict(), Verdict::Fail);
}

#[test]
fn throttling_of_the_past_is_noted_or_warns_by_its_share() {
    let past = |throttled| format!("nr_periods 100\nnr_throttled {throttled}\n");
    assert_eq!(judged(with(&past(5), &past(5), NO_EVENTS)).verdict(), Verdict::Note);
    let finding = judged(with(&past(6), &past(6), NO_EVENTS));
    assert_eq!(finding.verdict(), Verdict::Warn);
    assert_eq!(
        finding.problems[0].text,
        "iggy-server was throttled at 2 cores in 6 % of its periods so far (/system.slice/iggy.service)"
    );
}

#[test]
fn memory_limits_that_were_hit_warn_and_a_kill_fails() {
    let finding = judged(with(CALM, CALM, "high 4\nmax 1\noom_kill 0\n"));
    assert_eq!(finding.verdict(), Verdict::Warn);
    let texts: Vec<&str> = finding.problems.iter().map(|problem| problem.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "iggy-server went over its memory.high 4 times and was slowed down for it \
             (/system.slice/iggy.service)",
            "iggy-server reached its memory limit of 2 MiB 1 time: page cache was given up \
             (/system.slice/iggy.service)"
        ]
    );
    assert_eq!(judged(with(CALM, CALM, "high 0\nmax 0\noom_kill 1\n")).verdict(), Verdict::Fail);
    let full = with(CALM, CALM, NO_EVENTS).file(&format!("{GROUP}/memory.stat"), "anon 2000000\n");
    assert_eq!(judged(full).verdict(), Verdict::Warn);
}

#[test]
fn a_limit_of_the_slice_above_is_found_too() {
    let host = with(CALM, CALM, NO_EVENTS)
        .file("/sys/fs/cgroup/system.slice/memory.current", "9000000\n")
        .file("/sys/fs/cgroup/system.slice/memory.max", "9000000\n")
        .file("/sys/fs/cgroup/system.slice/memory.events", "high 0\nmax 7\noom_kill 0\n");
    let finding = judged(host);
    assert_eq!(
        finding.problems[0].text,
        "iggy-server reached its memory limit of 8.58 MiB 7 times: page cache was given up (/system.slice)"
    );
}

#[test]
fn the_first_hierarchy_is_judged_the_same() {
    let mounts = "32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                  33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    let (cpu, memory) = ("/sys/fs/cgroup/cpu,cpuacct/i.service", "/sys/fs/cgroup/memory/i.service");
    let host = Recorded::complete()
        .file("/proc/self/mountinfo", mounts)
        .file("/proc/9/cgroup", "4:cpu,cpuacct:/i.service\n3:memory:/i.service\n")
        .file(&format!("{cpu}/cpu.stat"), "nr_periods 100\nnr_throttled 50\nthrottled_time 2000000000\n")
        .file(&format!("{cpu}/cpu.cfs_quota_us"), "-1\n")
        .file(&format!("{memory}/memory.usage_in_bytes"), "4096\n")
        .file(&format!("{memory}/memory.limit_in_bytes"), "9223372036854771712\n")
        .file(&format!("{memory}/memory.failcnt"), "3\n");
    let finding = judged(host);
    let texts: Vec<&str> = finding.problems.iter().map(|problem| problem.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "iggy-server was throttled in 50 % of its periods so far (/i.service)",
            "iggy-server reached its memory limit 3 times: page cache was given up (/i.service)"
        ]
    );
}

#[test]
fn in_a_container_the_files_lie_directly_below_the_mount() {
    let mounts = "32 30 0:28 /docker/1 /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
                  33 30 0:29 /docker/1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
    let host = Recorded::complete()
        .file("/proc/self/mountinfo", mounts)
        .file(
            "/proc/9/cgroup",
            "4:cpu,cpuacct:/docker/1\n3:memory:/docker/1\n0::/system.slice/docker.service\n",
        )
        .file("/sys/fs/cgroup/cpu,cpuacct/cpu.stat", "nr_periods 100\nnr_throttled 90\nthrottled_time 1\n")
        .file("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "150000\n")
        .file("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
        .file("/sys/fs/cgroup/memory/memory.usage_in_bytes", "4096\n")
        .file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n")
        .file("/sys/fs/cgroup/memory/memory.oom_control", "under_oom 0\noom_kill 3\n");
    let finding = judged(host);
    let texts: Vec<&str> = finding.problems.iter().map(|problem| problem.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "iggy-server was throttled at 1.5 cores in 90 % of its periods so far (/)",
            "3 processes were killed at the memory limit of 2 GiB of iggy-server (/)"
        ]
    );
}

#[test]
fn a_group_outside_of_the_namespace_is_not_called_unlimited() {
    let outside = with(CALM, CALM, NO_EVENTS).file("/proc/9/cgroup", "0::/../../system.slice/iggy.service\n");
    let error = judge(&outside.host(), &Runtimes::from([(9, Runtime::Iggy)])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot understand the control groups: no mount here shows cpu of iggy-server (pid 9): \
         /../../system.slice/iggy.service"
    );
}

#[test]
fn without_a_runtime_it_skips_and_when_denied_it_cannot_tell() {
    let host = with(CALM, CALM, NO_EVENTS);
    assert_eq!(judge(&host.clone().host(), &Runtimes::new()).unwrap(), Finding::skip("no runtime runs here"));
    let denied = host.without(Request::File { path: "/proc/9/cgroup".to_owned() }, Cause::Denied).host();
    assert!(judge(&denied, &Runtimes::from([(9, Runtime::Iggy)])).is_err());
}
