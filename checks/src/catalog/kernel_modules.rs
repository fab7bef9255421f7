//! kernel-modules: is the kernel tainted, and by what.

use warden_host::{Host, IfAny};

use crate::{
    Advice, Area, Check, DEADLINE, Error, Evidence, Fields, Finding, Read, Result, Table, Value, Verdict,
    quantity,
};

pub const CHECK: Check = Check {
    id: "kernel-modules",
    area: Area::Kernel,
    title: "Is the kernel as its makers built it?",
    why: "A kernel marks itself tainted when something made it less trustworthy: a crash it survived, a hardware \
          error, a module from elsewhere. Strange behaviour of io_uring or a disk on such a kernel is a problem of the \
          kernel first.",
    reads: &[Read::Path("/proc/sys/kernel/tainted"), Read::Path("/proc/modules")],
    thresholds: &[
        "fails when the kernel has crashed (D) or found a bad page (B) since boot",
        "warns after a machine check (M), a warning (W), a soft lockup (L), or a forced module (F, R)",
        "notes modules from outside the kernel and every other reason",
    ],
    advice: "Reboot into a current kernel after a crash; remove modules that are not needed.",
    deadline: DEADLINE,
    run,
};

/// A bit of /proc/sys/kernel/tainted. Source: Documentation/admin-guide/tainted-kernels.rst.
struct Taint {
    letter: char,
    severity: Verdict,
    means: &'static str,
}

const fn taint(letter: char, severity: Verdict, means: &'static str) -> Taint {
    Taint { letter, severity, means }
}

/// In the order of their bits.
const TAINTS: [Taint; 20] = [
    taint('P', Verdict::Note, "a proprietary module was loaded"),
    taint('F', Verdict::Warn, "a module was force loaded"),
    taint('S', Verdict::Note, "the kernel runs on a processor or system out of specification"),
    taint('R', Verdict::Warn, "a module was force unloaded"),
    taint('M', Verdict::Warn, "the processor reported a machine check"),
    taint('B', Verdict::Fail, "a bad memory page was found"),
    taint('U', Verdict::Note, "a user asked for the taint"),
    taint('D', Verdict::Fail, "the kernel has crashed (oops) since boot"),
    taint('A', Verdict::Note, "an ACPI table was overridden"),
    taint('W', Verdict::Warn, "the kernel has warned about itself since boot"),
    taint('C', Verdict::Note, "a staging driver was loaded"),
    taint('I', Verdict::Note, "a firmware bug was worked around"),
    taint('O', Verdict::Note, "a module from outside the kernel's tree was loaded"),
    taint('E', Verdict::Note, "an unsigned module was loaded"),
    taint('L', Verdict::Warn, "a CPU was locked up since boot"),
    taint('K', Verdict::Note, "the kernel was patched while running"),
    taint('X', Verdict::Note, "the distribution marked it (auxiliary taint)"),
    taint('T', Verdict::Note, "it was built with randomised structures"),
    taint('N', Verdict::Note, "a test of the kernel itself was run"),
    taint('J', Verdict::Note, "a firmware control command changed a device"),
];

fn run(host: &Host) -> Result<Finding> {
    let text = host.value("/proc/sys/kernel/tainted")?;
    let bits: u64 = text
        .parse()
        .map_err(|_| Error::parse("/proc/sys/kernel/tainted", format!("`{text}` is not a number")))?;
    let modules = host.read("/proc/modules").if_any()?.map(|text| Module::parse_all(&text));

    let mut letters = String::new();
    let mut finding = Finding::new("");
    let mut reasons = Fields::new("Taint").row("value", Value::Code(text));
    for (bit, taint) in TAINTS.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1) {
        let by = modules_with(modules.as_deref().unwrap_or_default(), taint.letter);
        finding.problem(
            taint.severity,
            format!("{} ({}, bit {bit}){by}", taint.means, taint.letter),
            advice(taint),
        );
        reasons = reasons.row(taint.letter, taint.means);
        letters.push(taint.letter);
    }
    let unknown = bits >> TAINTS.len();
    if unknown != 0 {
        let text = format!(
            "the kernel is tainted for reasons that Warden does not know (bits {:#x})",
            unknown << TAINTS.len()
        );
        finding.note(text, Advice::text("Look the bits up in the kernel's own tainted-kernels document."));
    }

    let loaded = match &modules {
        None => "a kernel without loadable modules".to_owned(),
        Some(modules) => quantity::count(modules.len() as u64, "module", "modules") + " loaded",
    };
    finding.summary = match bits {
        0 => format!("the kernel is not tainted, {loaded}"),
        bits => format!("the kernel is tainted ({bits}, {letters}), {loaded}"),
    };
    finding.show(Evidence::Fields(reasons));
    if let Some(modules) = modules.filter(|modules| !modules.is_empty()) {
        finding.show(Evidence::Table(table(modules)));
    }
    Ok(finding)
}

fn advice(taint: &Taint) -> Advice {
    match taint.letter {
        'D' | 'B' => Advice::run(
            "Save the kernel's log, then reboot this node when its load can be moved.",
            "journalctl -k -b -o short-iso -p warning",
        ),
        'M' | 'W' | 'L' => Advice::run(
            "Find the line that set it.",
            "journalctl -k -b -o short-iso | grep -E 'WARNING|Hardware Error|lockup'",
        ),
        _ => Advice::run(
            "Nothing to do unless the kernel misbehaves: then try without the module first.",
            "grep -E '\\([A-Z+-]+\\)$' /proc/modules",
        ),
    }
}

/// A line of /proc/modules.
struct Module {
    name: String,
    bytes: u64,
    uses: u64,
    used_by: String,
    /// `OE`; empty for a module of the kernel's own.
    taints: String,
}

impl Module {
    fn parse_all(text: &str) -> Vec<Module> {
        text.lines().filter_map(Module::parse).collect()
    }

    fn parse(line: &str) -> Option<Module> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let taints =
            words.last()?.strip_prefix('(').and_then(|word| word.strip_suffix(')')).unwrap_or_default();
        Some(Module {
            name: (*words.first()?).to_owned(),
            bytes: words.get(1)?.parse().ok()?,
            uses: words.get(2)?.parse().unwrap_or(0),
            used_by: words.get(3).map_or("", |users| users.trim_end_matches([',', '-'])).to_owned(),
            taints: taints.to_owned(),
        })
    }
}

/// `: zfs, spl`, the modules that carry the letter of a taint.
fn modules_with(modules: &[Module], letter: char) -> String {
    const NAMED: usize = 8;
    let names: Vec<&str> = modules
        .iter()
        .filter(|module| module.taints.contains(letter))
        .map(|module| module.name.as_str())
        .collect();
    match names.len() {
        0 => String::new(),
        1..=NAMED => format!(": {}", names.join(", ")),
        more => format!(": {} and {} more", names[..NAMED].join(", "), more - NAMED),
    }
}

fn table(mut modules: Vec<Module>) -> Table {
    modules.sort_by(|a, b| (a.taints.is_empty(), &a.name).cmp(&(b.taints.is_empty(), &b.name)));
    let mut table = Table::new("Modules", ["module", "taints", "size", "uses", "used by"]);
    for module in modules {
        let tainted = !module.taints.is_empty();
        let cells = [
            Value::Code(module.name),
            if tainted { Value::Code(module.taints) } else { Value::Nothing },
            Value::Bytes(module.bytes),
            module.uses.into(),
            module.used_by.into(),
        ];
        if tainted { table.marked_row(Verdict::Note, cells) } else { table.row(cells) }
    }
    table
}

#[cfg(test)]
mod tests {
    use warden_host::Recorded;

    use super::*;

    const MODULES: &str = "xfs 2117632 1 - Live 0x0000000000000000\n\
                           zfs 6000000 2 zunicode,zavl, Live 0x0000000000000000 (POE)\ntorn\n";

    fn tainted(value: &str) -> Result<Finding> {
        run(&Recorded::complete()
            .file("/proc/sys/kernel/tainted", value)
            .file("/proc/modules", MODULES)
            .host())
    }

    #[test]
    fn a_clean_kernel_passes() {
        let finding = tainted("0\n").unwrap();
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(finding.summary, "the kernel is not tainted, 2 modules loaded");
    }

    #[test]
    fn a_foreign_module_is_noted_by_name() {
        let finding = tainted("4097\n").unwrap();
        assert_eq!(finding.verdict(), Verdict::Note);
        assert_eq!(finding.summary, "the kernel is tainted (4097, PO), 2 modules loaded");
        assert_eq!(
            finding.problems[1].text,
            "a module from outside the kernel's tree was loaded (O, bit 12): zfs"
        );
    }

    #[test]
    fn a_warning_warns_and_a_crash_fails() {
        assert_eq!(tainted("512\n").unwrap().verdict(), Verdict::Warn);
        let crashed = tainted("640\n").unwrap();
        assert_eq!(crashed.verdict(), Verdict::Fail);
        assert_eq!(crashed.problems[0].text, "the kernel has crashed (oops) since boot (D, bit 7)");
    }

    #[test]
    fn a_bit_from_the_future_is_noted() {
        let finding = tainted("1048576\n").unwrap();
        assert_eq!(finding.verdict(), Verdict::Note);
        assert_eq!(
            finding.problems[0].text,
            "the kernel is tainted for reasons that Warden does not know (bits 0x100000)"
        );
    }

    #[test]
    fn a_kernel_without_modules_is_judged_by_its_taint_alone() {
        let finding = run(&Recorded::complete().file("/proc/sys/kernel/tainted", "0").host()).unwrap();
        assert_eq!(finding.summary, "the kernel is not tainted, a kernel without loadable modules");
    }

    #[test]
    fn what_cannot_be_read_or_parsed_is_unknown() {
        assert!(run(&Recorded::complete().denied("/proc/sys/kernel/tainted").host()).is_err());
        let error = tainted("-1").unwrap_err();
        assert_eq!(error.to_string(), "cannot understand /proc/sys/kernel/tainted: `-1` is not a number");
    }
}
