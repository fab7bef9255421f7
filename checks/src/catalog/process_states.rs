//! process-states: is anything stuck in the kernel, stopped, or dead and not collected.

use std::collections::BTreeMap;

use warden_host::Host;
use warden_host::quantity::{count, duration};

use crate::process_samples::{self, Runtimes, STAT, Seen};
use crate::{
    Advice, Area, Check, DEADLINE, Evidence, Finding, Read, Result, Series, Table, Unit, Value, Verdict,
};

pub const CHECK: Check = Check {
    id: "process-states",
    area: Area::Process,
    title: "Is any process stuck?",
    why: "A process in uninterruptible sleep waits for a disk or a network filesystem that does not answer; a shard of \
          Iggy that waits so serves nobody, while the server still looks alive. Zombies mean that a parent has \
          stopped looking after its children.",
    reads: &[
        Read::Sample(STAT),
        Read::Path("/proc/[pid]/wchan"),
        Read::Path("/proc/[pid]/stack"),
        Read::Path("/proc/[pid]/task/[pid]/stat"),
        Read::Group(crate::iggy::READS),
    ],
    thresholds: &[
        "warns when a process is in uninterruptible sleep (D) in both samples and nothing of it moved between them; \
         fails when it is a runtime",
        "fails when a runtime is stopped (T) or a zombie (Z)",
        "warns when there are more than 10 zombies",
        "notes threads of a runtime in uninterruptible sleep at one look, and other stopped processes",
    ],
    advice: "See what the process waits for: a disk that is failing, an NFS server that is gone.",
    deadline: DEADLINE,
    run,
};

const ZOMBIES: usize = 10;
/// Stuck processes whose kernel position is looked up: two reads each.
const LOOKED_INTO: usize = 20;

fn run(host: &Host) -> Result<Finding> {
    judge(host, &process_samples::runtimes(host))
}

fn judge(host: &Host, runtimes: &Runtimes) -> Result<Finding> {
    let sampled = process_samples::sampled(host)?;
    let mut finding = Finding::new("");
    let mut table =
        Table::new("Stuck, stopped and dead processes", ["process", "pid", "parent", "state", "waits in"]);

    let in_state = |wanted: &'static [char]| {
        sampled.processes.iter().filter(move |seen| wanted.contains(&seen.now.state))
    };
    // A process that reads a busy disk is often caught waiting twice, but its counters move.
    let waited = |seen: &&Seen| seen.before.as_ref().is_some_and(|before| before.state == 'D');
    let (stuck, busy): (Vec<&Seen>, Vec<&Seen>) =
        in_state(&['D']).filter(waited).partition(|seen| seen.is_still);
    let over = duration(sampled.seconds);
    for (rank, seen) in stuck.iter().enumerate() {
        let place = if rank < LOOKED_INTO { place(host, seen.now.pid) } else { None };
        let severity = if runtimes.contains_key(&seen.now.pid) { Verdict::Fail } else { Verdict::Warn };
        let waits = place.as_deref().map_or_else(String::new, |place| format!(", in {place}"));
        let text = format!("{} was in uninterruptible sleep at both looks, {over} apart{waits}", named(seen));
        finding.problem(
            severity,
            text,
            Advice::run(CHECK.advice, format!("cat /proc/{}/stack", seen.now.pid)),
        );
        table.marked_row(severity, cells(seen, place.map(Value::Code).into()));
    }
    for seen in busy {
        table.row(cells(seen, "I/O, and moves on".into()));
    }
    for seen in in_state(&['T', 't']) {
        let severity = if runtimes.contains_key(&seen.now.pid) { Verdict::Fail } else { Verdict::Note };
        let text = format!("{} is stopped: it got SIGSTOP, or a debugger holds it", named(seen));
        let advice =
            Advice::run("Let it go on, unless someone debugs it.", format!("kill -CONT {}", seen.now.pid));
        finding.problem(severity, text, advice);
        table.marked_row(severity, cells(seen, Value::Nothing));
    }
    let zombies: Vec<&Seen> = in_state(&['Z', 'X']).collect();
    for seen in &zombies {
        match runtimes.get(&seen.now.pid) {
            Some(&runtime) => {
                let text = format!("{} (pid {}) is a zombie: it has ended", runtime.program(), seen.now.pid);
                let advice = Advice::run(
                    "See why it ended; its parent has not noticed.",
                    format!("systemctl status {}", seen.now.parent),
                );
                finding.fail(text, advice);
                table.marked_row(Verdict::Fail, cells(seen, Value::Nothing));
            }
            None => table.row(cells(seen, Value::Nothing)),
        }
    }
    if zombies.len() > ZOMBIES {
        finding.warn(
            format!("there are {} zombies, {}", zombies.len(), parents(&zombies, &sampled.processes)),
            zombie_advice(),
        );
    }
    stuck_threads(host, runtimes, &mut finding);

    let all = count(sampled.processes.len() as u64, "process", "processes");
    let zombies = count(zombies.len() as u64, "zombie", "zombies");
    finding.summary =
        format!("{all}: {} in uninterruptible sleep at both looks {over} apart, {zombies}", stuck.len());
    sampled.note_if_hidden(&mut finding);
    finding.show(Evidence::Series(states(&sampled.processes)));
    if !table.rows.is_empty() {
        finding.show(Evidence::Table(table));
    }
    Ok(finding)
}

fn named(seen: &Seen) -> String {
    format!("{} (pid {})", seen.now.name, seen.now.pid)
}

fn cells(seen: &Seen, place: Value) -> [Value; 5] {
    let stat = &seen.now;
    let (pid, parent) = (u64::from(stat.pid), u64::from(stat.parent));
    [Value::Code(stat.name.clone()), pid.into(), parent.into(), stat.state.to_string().into(), place]
}

/// Where in the kernel the process waits. Without the right to see, wchan reads `0`.
fn place(host: &Host, pid: u32) -> Option<String> {
    let stack = host.read(&format!("/proc/{pid}/stack")).unwrap_or_default();
    let function = |line: &str| Some(line.split_once("] ")?.1.split('+').next()?.to_owned());
    let wchan =
        || host.value(&format!("/proc/{pid}/wchan")).ok().filter(|place| place != "0" && !place.is_empty());
    let frames: Vec<String> = stack.lines().take(4).filter_map(function).collect();
    if frames.is_empty() { wchan() } else { Some(frames.join(" < ")) }
}

/// A shard is a thread: the process may look well while one of them hangs. One look only, so no more than a note.
fn stuck_threads(host: &Host, runtimes: &Runtimes, finding: &mut Finding) {
    for (pid, &runtime) in runtimes {
        let Ok(files) = host.read_all(&format!("/proc/{pid}/task/[pid]/stat")) else { continue };
        let threads = files.iter().filter_map(|file| warden_host::proc::ProcessStat::parse(&file.text));
        let names: Vec<String> = threads.filter(|stat| stat.state == 'D').map(|stat| stat.name).collect();
        if !names.is_empty() {
            let text = format!(
                "{} of {} (pid {pid}) in uninterruptible sleep at one look: {}",
                count(names.len() as u64, "thread", "threads"),
                runtime.program(),
                names.join(", ")
            );
            let command = format!("grep -H . /proc/{pid}/task/*/wchan");
            finding.note(
                text,
                Advice::run(
                    "Short waits for a disk are normal; look again whether the same threads wait.",
                    command,
                ),
            );
        }
    }
}

fn parents(zombies: &[&Seen], processes: &[Seen]) -> String {
    let mut children: BTreeMap<u32, usize> = BTreeMap::new();
    for seen in zombies {
        *children.entry(seen.now.parent).or_default() += 1;
    }
    let Some((parent, most)) = children.into_iter().max_by_key(|&(_, number)| number) else {
        return String::new();
    };
    let name =
        processes.iter().find(|seen| seen.now.pid == parent).map_or("a process", |seen| &seen.now.name);
    format!("{most} of them children of {name} (pid {parent})")
}

fn zombie_advice() -> Advice {
    Advice::run(
        "A zombie holds only its pid; restart the parent that does not collect them.",
        "ps -eo ppid,pid,stat,comm | awk '$3 ~ /^Z/'",
    )
}

fn states(processes: &[Seen]) -> Series {
    let mut chart = Series::bars("Processes by state", Unit::Count, ["processes"]);
    let mut counts: BTreeMap<char, u64> = BTreeMap::new();
    for seen in processes {
        *counts.entry(seen.now.state).or_default() += 1;
    }
    for (state, number) in counts {
        let name = match state {
            'R' => "running".to_owned(),
            'S' => "sleeping".to_owned(),
            'D' => "uninterruptible".to_owned(),
            'I' => "idle kernel thread".to_owned(),
            'Z' => "zombie".to_owned(),
            'T' => "stopped".to_owned(),
            't' => "traced".to_owned(),
            other => other.to_string(),
        };
        chart.point(name, [number as f64]);
    }
    chart
}

#[cfg(test)]
mod tests {
    use warden_host::Recorded;

    use super::*;
    use crate::iggy::Runtime;
    use crate::process_samples::testing::{stat, with_processes};

    fn host(processes: &[(u32, &str, char, char)]) -> Recorded {
        let pairs: Vec<_> = [(1, "systemd", 'S', 'S')]
            .iter()
            .chain(processes)
            .map(|&(pid, name, first, second)| {
                (Some(stat(pid, name, first, 1, 0)), Some(stat(pid, name, second, 1, 0)))
            })
            .collect();
        with_processes(Recorded::complete(), &pairs)
    }

    fn judged(host: Recorded) -> Finding {
        judge(&host.host(), &Runtimes::from([(9, Runtime::Iggy)])).unwrap()
    }

    #[test]
    fn a_process_that_waits_at_both_looks_but_moves_on_passes() {
        let (first, second) = (stat(7, "dd", 'D', 1, 3), stat(7, "dd", 'D', 1, 4));
        let init = stat(1, "systemd", 'S', 1, 0);
        let pairs = [(Some(init.clone()), Some(init)), (Some(first), Some(second))];
        let finding = judged(with_processes(Recorded::complete(), &pairs));
        assert_eq!(finding.verdict(), Verdict::Pass);
        let Evidence::Table(table) = &finding.evidence[1] else { panic!("a table") };
        assert_eq!(table.rows[0].cells[4], Value::from("I/O, and moves on"));
    }

    #[test]
    fn a_process_that_waits_only_at_one_look_passes() {
        let finding = judged(host(&[(7, "dd", 'R', 'D'), (8, "cp", 'D', 'R')]));
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(
            finding.summary,
            "3 processes: 0 in uninterruptible sleep at both looks 1 s apart, 0 zombies"
        );
    }

    #[test]
    fn a_process_stuck_at_both_looks_warns_and_says_where() {
        let finding = judged(host(&[(7, "dd", 'D', 'D')]).file("/proc/7/wchan", "nfs_wait_on_request"));
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(
            finding.problems[0].text,
            "dd (pid 7) was in uninterruptible sleep at both looks, 1 s apart, in nfs_wait_on_request"
        );
    }

    #[test]
    fn the_kernel_stack_tells_more_than_wchan_and_a_hidden_wchan_tells_nothing() {
        let stack = "[<0>] io_schedule+0x46/0x80\n[<0>] folio_wait_bit+0x1/0x2\n";
        let host = Recorded::complete().file("/proc/7/stack", stack).file("/proc/8/wchan", "0").host();
        assert_eq!(place(&host, 7).as_deref(), Some("io_schedule < folio_wait_bit"));
        assert_eq!(place(&host, 8), None);
    }

    #[test]
    fn a_stuck_or_stopped_runtime_fails() {
        for state in ['D', 'T', 'Z'] {
            assert_eq!(judged(host(&[(9, "iggy-server", state, state)])).verdict(), Verdict::Fail, "{state}");
        }
        assert_eq!(judged(host(&[(7, "less", 'T', 'T')])).verdict(), Verdict::Note);
    }

    #[test]
    fn more_than_ten_zombies_warn_and_the_parent_is_named() {
        let mut processes: Vec<_> = (20..30).map(|pid| (pid, "sh", 'Z', 'Z')).collect();
        assert_eq!(judged(host(&processes)).verdict(), Verdict::Pass);
        processes.push((30, "sh", 'Z', 'Z'));
        let finding = judged(host(&processes));
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(finding.problems[0].text, "there are 11 zombies, 11 of them children of systemd (pid 1)");
    }

    #[test]
    fn a_waiting_shard_is_noted_by_its_name() {
        let host = host(&[(9, "iggy-server", 'S', 'S')])
            .file("/proc/9/task/9/stat", &stat(9, "iggy-server", 'S', 1, 0))
            .file("/proc/9/task/12/stat", &stat(12, "shard-1", 'D', 1, 0));
        let finding = judged(host);
        assert_eq!(finding.verdict(), Verdict::Note);
        assert_eq!(
            finding.problems[0].text,
            "1 thread of iggy-server (pid 9) in uninterruptible sleep at one look: shard-1"
        );
    }
}
