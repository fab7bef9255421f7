//! cpu-vulnerabilities: which flaws of the processor are open, and which mitigations cost time.

use warden_host::quantity::count;
use warden_host::{Host, IfAny, PLACEHOLDER};

use crate::{Advice, Area, Check, DEADLINE, Evidence, Fields, Finding, Read, Result, Table, Value, Verdict};

pub const CHECK: Check = Check {
    id: "cpu-vulnerabilities",
    area: Area::Cpu,
    title: "Are the processor's flaws mitigated?",
    why: "An open flaw lets a program, or a neighbour on the same machine, read memory that is not its own: keys and \
          messages among it. The mitigations cost system calls some time, so both sides are shown.",
    reads: &[Read::Path("/sys/devices/system/cpu/vulnerabilities/*"), Read::Path("/proc/cmdline")],
    thresholds: &[
        "warns about each flaw that the kernel calls vulnerable",
        "notes flaws that are mitigated in part or unknown",
    ],
    advice: "Update kernel and microcode; on a virtual machine the host has to.",
    deadline: DEADLINE,
    run,
};

fn run(host: &Host) -> Result<Finding> {
    let files = host.read_all("/sys/devices/system/cpu/vulnerabilities/*")?;
    if files.is_empty() {
        return Ok(Finding::skip("this kernel does not tell of processor flaws"));
    }
    let command_line = host.quietly(|host| host.read("/proc/cmdline")).if_any()?.unwrap_or_default();
    let words = || command_line.split_ascii_whitespace();
    // The secret of another word does not matter; a word of which nothing is left could be a switch.
    let is_hidden =
        |word: &str| word.starts_with(PLACEHOLDER) || is_switch(word) && word.contains(PLACEHOLDER);
    if words().any(is_hidden) {
        host.note_masked("/proc/cmdline");
    }
    let switched_off: Vec<&str> = words().filter(|word| is_switch(word)).collect();

    let mut finding = Finding::new("");
    let mut table = Table::new("Flaws", ["flaw", "state"]);
    let (mut open, mut partial, mut unaffected) = (Vec::new(), Vec::new(), 0);
    for file in &files {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        let state = file.text.trim();
        let cells = [Value::Code(name.to_owned()), state.into()];
        match judge(state) {
            Some(Verdict::Warn) => {
                table.marked_row(Verdict::Warn, cells);
                open.push((name, state));
            }
            Some(severity) => {
                table.marked_row(severity, cells);
                partial.push(name);
            }
            None => {
                table.row(cells);
                unaffected += u64::from(state.starts_with("Not affected"));
            }
        }
    }
    if switched_off.is_empty() {
        for (name, state) in &open {
            finding.warn(format!("{name}: {state}"), advice(state));
        }
    } else if !open.is_empty() {
        let text = format!(
            "{} open, with {} on the kernel's command line",
            count(open.len() as u64, "flaw is", "flaws are"),
            switched_off.join(" ")
        );
        finding.warn(text, Advice::text("Remove the switch unless this machine runs nothing but trusted programs and has no neighbours."));
    }
    if !partial.is_empty() {
        let text = format!(
            "{} mitigated in part, or not known: {}",
            count(partial.len() as u64, "flaw is", "flaws are"),
            partial.join(", ")
        );
        finding.note(text, Advice::text(CHECK.advice));
    }
    let mitigated = files.len() as u64 - open.len() as u64 - partial.len() as u64 - unaffected;
    finding.summary = format!(
        "of {}, {} open, {} in part or unknown, {mitigated} mitigated, {unaffected} not of this processor",
        count(files.len() as u64, "flaw", "flaws"),
        open.len(),
        partial.len()
    );
    finding.show(Evidence::Table(table));
    let switches = if switched_off.is_empty() { Value::Nothing } else { Value::Code(switched_off.join(" ")) };
    finding.show(Evidence::Fields(Fields::new("Kernel command line").row("switches", switches)));
    Ok(finding)
}

/// Words that switch a mitigation. Source: Documentation/admin-guide/kernel-parameters.txt.
fn is_switch(word: &str) -> bool {
    const NAMES: [&str; 14] = [
        "mitigations",
        "nopti",
        "pti",
        "nospectre_v1",
        "nospectre_v2",
        "spectre_v2",
        "spec_store_bypass_disable",
        "l1tf",
        "mds",
        "tsx_async_abort",
        "retbleed",
        "mmio_stale_data",
        "srbds",
        "gather_data_sampling",
    ];
    NAMES.contains(&word.split('=').next().unwrap_or_default()) && !word.ends_with("=auto")
}

/// The kernel's words: `Not affected`, `Vulnerable...`, `Mitigation: ...`, `KVM: ...`, `Unknown: ...`.
fn judge(state: &str) -> Option<Verdict> {
    let state = state.strip_prefix("KVM: ").unwrap_or(state);
    if state.starts_with("Vulnerable") {
        Some(Verdict::Warn)
    } else if state.starts_with("Not affected") || state.starts_with("Mitigation") && !has_open_part(state) {
        None
    } else {
        Some(Verdict::Note)
    }
}

/// `Mitigation: Clear CPU buffers; SMT vulnerable`.
fn has_open_part(state: &str) -> bool {
    state.split([';', ',']).any(|part| part.trim_end().to_ascii_lowercase().ends_with("vulnerable"))
}

fn advice(state: &str) -> Advice {
    if state.contains("no microcode") {
        return Advice::run(
            "The microcode is missing: install it and reboot; on a virtual machine the host has to.",
            "grep -m1 microcode /proc/cpuinfo",
        );
    }
    Advice::run(CHECK.advice, "grep . /sys/devices/system/cpu/vulnerabilities/*")
}

#[cfg(test)]
mod tests {
    use warden_host::Recorded;

    use super::*;

    fn with(state: &str) -> Recorded {
        Recorded::complete()
            .file("/sys/devices/system/cpu/vulnerabilities/mds", &format!("{state}\n"))
            .file("/sys/devices/system/cpu/vulnerabilities/meltdown", "Not affected\n")
    }

    fn verdict(state: &str) -> Verdict {
        run(&with(state).host()).unwrap().verdict()
    }

    #[test]
    fn mitigated_flaws_pass() {
        let finding = run(&with("Mitigation: PTI").host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(
            finding.summary,
            "of 2 flaws, 0 open, 0 in part or unknown, 1 mitigated, 1 not of this processor"
        );
    }

    #[test]
    fn open_flaws_warn() {
        let finding = run(&with("Vulnerable: Clear CPU buffers attempted, no microcode").host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(finding.problems[0].text, "mds: Vulnerable: Clear CPU buffers attempted, no microcode");
        assert_eq!(verdict("KVM: Vulnerable"), Verdict::Warn);
    }

    #[test]
    fn a_switch_on_the_command_line_is_named_once() {
        let finding =
            run(&with("Vulnerable").file("/proc/cmdline", "root=/dev/vda mitigations=off quiet\n").host())
                .unwrap();
        assert_eq!(finding.problems.len(), 1);
        assert_eq!(
            finding.problems[0].text,
            "1 flaw is open, with mitigations=off on the kernel's command line"
        );
    }

    #[test]
    fn parts_that_stay_open_and_words_from_the_future_are_noted() {
        assert_eq!(verdict("Mitigation: Clear CPU buffers; SMT vulnerable"), Verdict::Note);
        assert_eq!(verdict("Mitigation: Retpolines; BHI: Not affected; RSB filling"), Verdict::Pass);
        assert_eq!(verdict("Unknown: Dependent on hypervisor status"), Verdict::Note);
        assert_eq!(verdict(""), Verdict::Note);
    }

    #[test]
    fn a_kernel_that_does_not_tell_skips_and_a_denied_command_line_is_unknown() {
        assert_eq!(run(&Recorded::complete().host()).unwrap().verdict(), Verdict::Skip);
        assert!(run(&with("Mitigation: PTI").denied("/proc/cmdline").host()).is_err());
    }

    #[test]
    fn a_masked_switch_is_said_and_the_secret_of_another_word_is_not() {
        let judged = |words: &str| {
            CHECK.judge(&with("Mitigation: PTI").file("/proc/cmdline", words).host()).unwrap().verdict()
        };
        assert_eq!(judged("quiet ip=dhcp iscsi_password=[secret:value:3f9a]\n"), Verdict::Pass);
        assert_eq!(judged("quiet mitigations=[secret:value:3f9a]\n"), Verdict::Note);
        assert_eq!(judged("quiet [secret:value:3f9a]\n"), Verdict::Note);
    }
}
