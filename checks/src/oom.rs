//! OOM kills, as the kernel's log tells of them. Source: mm/oom_kill.c of the kernel.

use std::collections::HashMap;

use warden_host::{LogLine, Settings};

use crate::iggy::Runtime;

/// A process that the kernel killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    pub at_us: Option<i64>,
    pub pid: u32,
    pub name: String,
    pub cgroup: Option<String>,
    pub of_cgroup_limit: bool,
    pub resident: Option<u64>,
}

/// The processes that were killed. A kernel of 4.x logs two lines for one: `Kill process` says whom it chose,
/// `Killed process` who died, which may be a child of it. The control group is named before: `oom-kill:` or, before
/// 5.0, `Task in ... killed as a result of limit of ...`.
pub fn kills<'a>(lines: impl Iterator<Item = &'a LogLine>) -> Vec<Kill> {
    let mut cgroups: HashMap<u32, String> = HashMap::new();
    let mut of_task = None;
    let mut chosen: Option<Kill> = None;
    let mut kills = Vec::new();
    for line in lines {
        if let Some((_, constraint)) = line.text.split_once("oom-kill:") {
            let value = |name: &str| {
                constraint.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
            };
            if let (Some(pid), Some(group)) =
                (value("pid").and_then(|pid| pid.parse().ok()), value("task_memcg"))
            {
                cgroups.insert(pid, group.to_owned());
            }
        } else if let Some((task, _)) = line.text.split_once(" killed as a result of limit of ") {
            of_task = task.split_once("Task in ").map(|(_, group)| group.to_owned());
        } else if let Some(kill) = Kill::parse(line, CHOSEN) {
            // One that died without a second line of its own: the log ends, or was cut, between the two.
            kills.extend(chosen.replace(Kill { cgroup: of_task.take(), ..kill }));
        } else if let Some(kill) = Kill::parse(line, DIED) {
            let before = chosen.take();
            let (of_chosen, limit) = before.map_or((None, false), |kill| (kill.cgroup, kill.of_cgroup_limit));
            kills.push(Kill {
                cgroup: cgroups.remove(&kill.pid).or(of_chosen),
                of_cgroup_limit: kill.of_cgroup_limit || limit,
                ..kill
            });
        }
    }
    kills.extend(chosen);
    kills
}

const CHOSEN: &str = "Kill process ";
const DIED: &str = "Killed process ";

impl Kill {
    /// `Out of memory: Killed process 7 (name) total-vm:1kB, anon-rss:1kB, ...`; mm/oom_kill.c of the kernel.
    fn parse(line: &LogLine, words: &str) -> Option<Kill> {
        let (before, rest) = line.text.split_once(words)?;
        let (pid, rest) = rest.split_once(' ')?;
        // The name may hold `)`: the last one before the sizes ends it.
        let (name, sizes) = rest.strip_prefix('(')?.rsplit_once(')')?;
        let resident = sizes
            .split(", ")
            .find_map(|size| size.trim().strip_prefix("anon-rss:")?.strip_suffix("kB")?.parse::<u64>().ok());
        Some(Kill {
            at_us: line.at_us,
            pid: pid.trim_end_matches(',').parse().ok()?,
            name: name.to_owned(),
            cgroup: None,
            of_cgroup_limit: before.contains("Memory cgroup"),
            resident: resident.map(|kib| kib.saturating_mul(1024)),
        })
    }

    /// By name, or by control group: the kernel may name a thread, such as `shard-0`.
    pub fn is_runtime(&self, settings: Option<&Settings>) -> bool {
        let of_unit = |unit: &str| {
            self.cgroup.as_deref().is_some_and(|group| group.split('/').any(|part| part == unit))
        };
        Runtime::ALL.iter().any(|runtime| {
            self.name.starts_with(runtime.program())
                || settings.is_some_and(|settings| of_unit(runtime.unit(settings)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn killed(texts: &[&str]) -> Vec<Kill> {
        let line = |text: &&str| LogLine {
            at_us: None,
            level: None,
            origin: "kernel".to_owned(),
            text: (*text).to_owned(),
        };
        let lines: Vec<LogLine> = texts.iter().map(line).collect();
        kills(lines.iter())
    }

    #[test]
    fn the_constraint_line_gives_the_control_group() {
        let found = killed(&[
            "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=/system.slice/iggy.service,\
             task_memcg=/system.slice/iggy.service,task=shard-0,pid=12,uid=998",
            "Out of memory: Killed process 12 (a) b) total-vm:900kB, anon-rss:1kB, file-rss:0kB",
        ]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].cgroup.as_deref(), Some("/system.slice/iggy.service"));
    }

    #[test]
    fn two_lines_of_an_old_kernel_are_one_kill() {
        let found = killed(&[
            "Task in /system.slice/iggy.service killed as a result of limit of /system.slice",
            "Memory cgroup out of memory: Kill process 40 (shard-0) score 1923 or sacrifice child",
            "Killed process 40 (shard-0) total-vm:32812kB, anon-rss:1024kB, file-rss:1684kB",
            "Out of memory: Kill process 5 (make) score 900 or sacrifice child",
            "Killed process 6 (cc1) total-vm:32812kB, anon-rss:2048kB, file-rss:0kB",
        ]);
        let told: Vec<_> = found
            .iter()
            .map(|kill| (kill.pid, kill.name.as_str(), kill.of_cgroup_limit, kill.cgroup.as_deref()))
            .collect();
        assert_eq!(
            told,
            [(40, "shard-0", true, Some("/system.slice/iggy.service")), (6, "cc1", false, None)]
        );
    }

    #[test]
    fn a_chosen_process_counts_where_the_log_ends_before_its_death() {
        let found = killed(&["Out of memory: Kill process 5 (make) score 900 or sacrifice child"]);
        assert_eq!((found.len(), found[0].pid), (1, 5));
    }
}
