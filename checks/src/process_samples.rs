//! Processes as the run's one pair of samples shows them.

use std::collections::BTreeMap;

use warden_host::proc::{ProcessStat, TICKS};
use warden_host::{Error, Host, Result};

use crate::iggy::{self, Runtime};
use crate::{Advice, Finding, quantity};

/// Every process, sampled once for all checks that want it.
pub const STAT: &str = "/proc/[pid]/stat";

/// A process that was there at the second look.
#[derive(Clone, Debug)]
pub struct Seen {
    pub now: ProcessStat,
    /// The same process (not merely the same pid) at the first look; absent when it began in between.
    pub before: Option<ProcessStat>,
    /// Nothing of its line moved between the looks: not even a page fault or a tick.
    pub is_still: bool,
}

impl Seen {
    /// CPU time between the looks, in percent of one core.
    pub fn cpu_percent(&self, seconds: f64) -> f64 {
        let ticks = |stat: &ProcessStat| stat.user_ticks.saturating_add(stat.system_ticks);
        let spent = ticks(&self.now).saturating_sub(self.before.as_ref().map_or(0, ticks));
        if seconds > 0.0 { spent as f64 * 100.0 / TICKS / seconds } else { 0.0 }
    }

    /// The kernel's own threads are children of kthreadd, which is process 2.
    pub fn is_kernel_thread(&self) -> bool {
        self.now.pid == 2 || self.now.parent == 2
    }
}

pub struct Sampled {
    pub seconds: f64,
    pub processes: Vec<Seen>,
}

/// Fails when not a single process could be read: an empty machine does not exist.
pub fn sampled(host: &Host) -> Result<Sampled> {
    let samples = host.sample(STAT)?;
    let processes: Vec<Seen> = samples
        .files
        .iter()
        .filter_map(|file| {
            let now = ProcessStat::parse(file.second.as_ref()?)?;
            let before = file.first.as_deref().and_then(ProcessStat::parse);
            let before = before.filter(|before| before.start_ticks == now.start_ticks);
            Some(Seen { is_still: file.first == file.second, now, before })
        })
        .collect();
    if processes.is_empty() {
        return Err(Error::parse(STAT, "no process could be read"));
    }
    Ok(Sampled { seconds: samples.seconds(), processes })
}

impl Sampled {
    /// With /proc mounted `hidepid`, a user sees only their own processes; process 1 is never ours.
    pub fn note_if_hidden(&self, finding: &mut Finding) {
        if !self.processes.iter().any(|seen| seen.now.pid == 1) {
            let text = format!(
                "only {} of this user can be seen: /proc hides the others (hidepid)",
                quantity::count(self.processes.len() as u64, "process", "processes")
            );
            let advice =
                "Run Warden as root, or add its user to the group that /proc is mounted with (gid=).";
            finding.note(text, Advice::run(advice, "findmnt -no OPTIONS /proc"));
        }
    }
}

/// The pids of the runtimes.
pub type Runtimes = BTreeMap<u32, Runtime>;

pub fn runtimes(host: &Host) -> Runtimes {
    iggy::processes(host).into_iter().map(|process| (process.pid, process.runtime)).collect()
}

#[cfg(test)]
pub mod testing {
    //! Processes for tests, a line each.

    use warden_host::{Data, Recorded, Request, Sample, Samples};

    /// A line of /proc/PID/stat: state, parent and CPU ticks as given, one thread, 250 resident pages.
    pub fn stat(pid: u32, name: &str, state: char, parent: u32, ticks: u64) -> String {
        format!("{pid} ({name}) {state} {parent} 0 0 0 0 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 500 9999 250 0\n")
    }

    /// The pair of samples: each process as it was first and second.
    pub fn with_processes(host: Recorded, processes: &[(Option<String>, Option<String>)]) -> Recorded {
        let files = processes
            .iter()
            .map(|(first, second)| {
                let line = second.as_ref().or(first.as_ref()).map_or("", String::as_str);
                let pid = line.split(' ').next().unwrap_or_default();
                Sample { path: format!("/proc/{pid}/stat"), first: first.clone(), second: second.clone() }
            })
            .collect();
        let samples = Samples { elapsed_us: 1_000_000, files, left_out: 0 };
        host.with(Request::Sample { pattern: super::STAT.to_owned() }, Data::Samples(samples))
    }
}

#[cfg(test)]
mod tests {
    use warden_host::Recorded;

    use super::*;

    #[test]
    fn a_pid_that_was_given_to_another_process_is_not_the_same_process() {
        let before = testing::stat(7, "old", 'R', 1, 900).replace(" 500 ", " 400 ");
        let after = testing::stat(7, "new", 'R', 1, 30);
        let host = testing::with_processes(Recorded::new(), &[(Some(before), Some(after))]).host();
        let sampled = sampled(&host).unwrap();
        assert_eq!(sampled.processes[0].before, None);
        assert_eq!(sampled.processes[0].cpu_percent(sampled.seconds), 30.0);
    }

    #[test]
    fn a_proc_that_hides_other_users_is_said() {
        let own = testing::stat(7, "a", 'S', 1, 0);
        let host = testing::with_processes(Recorded::new(), &[(Some(own.clone()), Some(own))]).host();
        let mut finding = Finding::new("");
        sampled(&host).unwrap().note_if_hidden(&mut finding);
        assert_eq!(
            finding.problems[0].text,
            "only 1 process of this user can be seen: /proc hides the others (hidepid)"
        );
    }

    #[test]
    fn torn_and_ended_processes_are_left_out_and_nothing_at_all_is_an_error() {
        let torn = (Some(testing::stat(7, "a", 'S', 1, 0)), Some("7 (a".to_owned()));
        let ended = (Some(testing::stat(8, "b", 'S', 1, 0)), None);
        let host = testing::with_processes(Recorded::new(), &[torn, ended]).host();
        assert_eq!(
            sampled(&host).err().map(|error| error.to_string()).as_deref(),
            Some("cannot understand /proc/[pid]/stat: no process could be read")
        );
    }
}
