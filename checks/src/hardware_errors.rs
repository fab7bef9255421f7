//! Errors of memory, processors and PCIe that the kernel logged, counted as events: an event writes several lines.
//! Source: drivers/edac, arch/x86/kernel/cpu/mce, drivers/acpi/apei/ghes.c, drivers/pci/pcie/aer.c of Linux.

use warden_host::LogLine;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The hardware mended it; nothing was lost.
    Corrected,
    /// The same of a PCIe link, which sends again.
    CorrectedLink,
    /// The log does not say whether it was corrected.
    Unclear,
    /// Something was lost.
    Uncorrected,
}

/// Lines of one event are written within this time.
const EVENT_US: i64 = 2_000_000;
/// A storm makes the kernel stop counting single errors: it stands for as many as are worth a warning.
const STORM: u64 = 10;

/// What a line says of an event: its class, the kind of line, and how many events it counts.
struct Part {
    class: Class,
    kind: &'static str,
    count: u64,
}

/// Events by class, and which lines tell of each.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HardwareErrors {
    /// For each line of the log: the class of its event.
    pub lines: Vec<Option<Class>>,
    pub corrected: u64,
    pub corrected_link: u64,
    pub unclear: u64,
    pub uncorrected: u64,
}

/// Counts the events in the lines of a log, the oldest first.
pub fn hardware_errors(lines: &[&LogLine]) -> HardwareErrors {
    let mut found = HardwareErrors { lines: vec![None; lines.len()], ..HardwareErrors::default() };
    let mut event: Vec<usize> = Vec::new();
    let mut last: Option<i64> = None;
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| is_hardware(&line.text)) {
        let is_later = line.at_us.zip(last).is_some_and(|(now, before)| now - before > EVENT_US);
        if is_later {
            found.close(&event, lines);
            event.clear();
        }
        event.push(at);
        last = line.at_us.or(last);
    }
    found.close(&event, lines);
    found
}

impl HardwareErrors {
    /// Counts what lines written together tell: as many events of a class as its most frequent kind of line counts.
    fn close(&mut self, event: &[usize], lines: &[&LogLine]) {
        if event.is_empty() {
            return;
        }
        let parts: Vec<Part> = event.iter().filter_map(|&at| part(&lines[at].text)).collect();
        let count = |class: Class| {
            let of_class = || parts.iter().filter(|part| part.class == class);
            let of_kind = |kind| of_class().filter(|part| part.kind == kind).map(|part| part.count).sum();
            of_class().map(|part| of_kind(part.kind)).max().unwrap_or(0_u64)
        };
        self.corrected += count(Class::Corrected);
        self.corrected_link += count(Class::CorrectedLink);
        self.uncorrected += count(Class::Uncorrected);
        self.unclear += if parts.is_empty() { 1 } else { count(Class::Unclear) };
        let worst = parts.iter().map(|part| part.class).max().unwrap_or(Class::Unclear);
        for &at in event {
            self.lines[at] = Some(part(&lines[at].text).map_or(worst, |part| part.class));
        }
    }
}

fn is_hardware(text: &str) -> bool {
    let is_harmless = text.contains("event severity: info") || text.contains("storm subsided");
    !is_harmless && (text.contains("[Hardware Error]") || part(text).is_some())
}

fn part(text: &str) -> Option<Part> {
    let of = |class, kind| Some(Part { class, kind, count: 1 });
    let has = |words: &[&str]| words.iter().all(|word| text.contains(word));
    let any = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if text.contains("PCIe Bus Error: severity=") || text.contains("AER: ") && text.contains(" received") {
        let kind = if text.contains("severity=") { "bus" } else { "received" };
        let is_lost = any(&["Uncorrect", "uncorrect"]);
        return of(if is_lost { Class::Uncorrected } else { Class::CorrectedLink }, kind);
    }
    if text.contains("EDAC ") && any(&[" UE ", " CE "]) {
        let (class, mark) =
            if text.contains(" UE ") { (Class::Uncorrected, " UE ") } else { (Class::Corrected, " CE ") };
        let before = text.split(mark).next().unwrap_or_default();
        let count = before.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or(1);
        return Some(Part { class, kind: "edac", count });
    }
    if has(&["Machine Check: ", " Bank "]) || has(&["Machine Check Event: ", " Bank "]) {
        // IA32_MCi_STATUS: bit 61 is set for an uncorrected error (Intel SDM 3B, 17.3.2.2).
        const UNCORRECTED: u64 = 1 << 61;
        let status = text.rsplit(": ").next().and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
        let class = match status {
            Some(status) if status & UNCORRECTED != 0 => Class::Uncorrected,
            Some(_) => Class::Corrected,
            None => Class::Unclear,
        };
        return of(class, "bank");
    }
    let known = [
        ("Machine Check Exception", Class::Uncorrected, "bank"),
        ("event severity: fatal", Class::Uncorrected, "ghes"),
        ("event severity: recoverable", Class::Uncorrected, "ghes"),
        ("event severity: corrected", Class::Corrected, "ghes"),
        ("It has been corrected by h/w", Class::Corrected, "advice"),
        ("Corrected error, no action required", Class::Corrected, "amd"),
        ("Deferred error", Class::Unclear, "amd"),
        ("Uncorrected, software", Class::Uncorrected, "amd"),
        ("Uncorrected error", Class::Uncorrected, "amd"),
        ("System Fatal error", Class::Uncorrected, "amd"),
        ("Uncorrected hardware memory error", Class::Uncorrected, "poison"),
        ("hardware memory corruption", Class::Uncorrected, "killed"),
        ("Hardware memory corruption", Class::Uncorrected, "killed"),
    ];
    if let Some((_, class, kind)) = known.iter().find(|(mark, ..)| text.contains(mark)) {
        return of(*class, kind);
    }
    if text.starts_with("Memory failure: 0x") {
        return of(Class::Uncorrected, "page");
    }
    (text.contains("CMCI storm detected")).then_some(Part {
        class: Class::Corrected,
        kind: "storm",
        count: STORM,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(lines: &[(i64, &str)]) -> (u64, u64, u64, u64) {
        let lines: Vec<LogLine> = lines
            .iter()
            .map(|(at, text)| LogLine {
                at_us: Some(at * 1_000_000),
                level: None,
                origin: String::new(),
                text: (*text).to_owned(),
            })
            .collect();
        let lines: Vec<&LogLine> = lines.iter().collect();
        let found = hardware_errors(&lines);
        (found.corrected, found.corrected_link, found.unclear, found.uncorrected)
    }

    const LOGGED: &str = "mce: [Hardware Error]: Machine check events logged";

    #[test]
    fn a_corrected_memory_error_of_two_lines_is_one_event() {
        let edac = "EDAC MC0: 1 CE memory read error on CPU_SrcID#0_Ha#0_Chan#1_DIMM#0 (channel:1 slot:0)";
        assert_eq!(counted(&[(1, LOGGED), (1, edac)]), (1, 0, 0, 0));
        assert_eq!(counted(&[(1, LOGGED), (1, edac), (60, LOGGED), (60, edac)]), (2, 0, 0, 0));
        assert_eq!(counted(&[(1, "EDAC MC1: 32 CE memory scrubbing error on DIMM_A1")]), (32, 0, 0, 0));
        assert_eq!(counted(&[(1, LOGGED)]), (0, 0, 1, 0));
    }

    #[test]
    fn every_reporter_of_the_kernel_is_told_corrected_from_uncorrected() {
        let amd = [
            (1, LOGGED),
            (1, "[Hardware Error]: Corrected error, no action required."),
            (
                1,
                "[Hardware Error]: CPU:2 (19:21:0) MC18_STATUS[-|CE|MiscV|AddrV|-|-|SyndV|CECC]: 0x9c2040000000011b",
            ),
            (1, "[Hardware Error]: Error Addr: 0x00000003f6f7a4c0"),
        ];
        assert_eq!(counted(&amd), (1, 0, 0, 0));
        let intel = [
            (1, "mce: [Hardware Error]: CPU 1: Machine Check: 0 Bank 8: 8c00004000010090"),
            (1, "mce: [Hardware Error]: TSC 0 ADDR 1"),
        ];
        assert_eq!(counted(&intel), (1, 0, 0, 0));
        let fatal =
            [(1, "mce: [Hardware Error]: CPU 0: Machine Check Exception: 5 Bank 4: be00000000800400")];
        assert_eq!(counted(&fatal), (0, 0, 0, 1));
        assert_eq!(
            counted(&[(1, "mce: [Hardware Error]: CPU 1: Machine Check: 0 Bank 8: be00000000800400")]),
            (0, 0, 0, 1)
        );
        let ghes = |severity: &'static str| {
            [
                (1, "{1}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 1"),
                (1, "{1}[Hardware Error]: It has been corrected by h/w and requires no further action"),
                (1, severity),
                (1, "{1}[Hardware Error]:  Error 0, type: corrected"),
            ]
        };
        assert_eq!(counted(&ghes("{1}[Hardware Error]: event severity: corrected")), (1, 0, 0, 0));
        assert_eq!(counted(&[(1, "{2}[Hardware Error]: event severity: recoverable")]), (0, 0, 0, 1));
        assert_eq!(counted(&[(1, "EDAC MC0: 1 UE memory read error on CPU_SrcID#0")]), (0, 0, 0, 1));
        assert_eq!(
            counted(&[(1, "Memory failure: 0x3f6f7: recovery action for dirty LRU page: Recovered")]),
            (0, 0, 0, 1)
        );
    }

    #[test]
    fn a_link_that_sent_again_is_told_from_one_that_lost_something() {
        let corrected = [
            (1, "pcieport 0000:00:1c.5: AER: Corrected error received: 0000:00:1c.5"),
            (
                1,
                "pcieport 0000:00:1c.5: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)",
            ),
        ];
        assert_eq!(counted(&corrected), (0, 1, 0, 0));
        let newer = [
            (1, "pcieport 0000:00:1c.5: AER: Correctable error message received from 0000:01:00.0"),
            (
                1,
                "nvme 0000:01:00.0: PCIe Bus Error: severity=Correctable, type=Physical Layer, (Receiver ID)",
            ),
        ];
        assert_eq!(counted(&newer), (0, 1, 0, 0));
        let lost = [
            (1, "pcieport 0000:00:1c.5: AER: Uncorrected (Non-Fatal) error received: 0000:01:00.0"),
            (
                1,
                "nvme 0000:01:00.0: PCIe Bus Error: severity=Uncorrectable (Non-Fatal), type=Transaction Layer",
            ),
        ];
        assert_eq!(counted(&lost), (0, 0, 0, 1));
    }

    #[test]
    fn lines_of_a_boot_are_no_errors() {
        for text in [
            "mce: CPU0 supports 32 MCE banks",
            "EDAC MC: Ver: 3.0.0",
            "EDAC MC0: Giving out device to module skx_edac controller Skylake Socket#0 IMC#0",
            "pcieport 0000:00:1c.0: AER: enabled with IRQ 122",
            "MCE: In-kernel MCE decoding enabled.",
            "mce: CMCI storm subsided: switching to interrupt mode",
        ] {
            assert_eq!(counted(&[(1, text)]), (0, 0, 0, 0), "{text}");
        }
    }
}
