//! The host's load, processors and memory, as sysinfo reads them.

use sysinfo::{MemoryRefreshKind, System};

/// Looks again and again; processors are busy since the look before.
pub struct HostStats {
    system: Option<System>,
    looked: bool,
}

/// What cannot be read is absent.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct HostFigures {
    pub uptime_seconds: Option<u64>,
    /// The average over one minute.
    pub load: Option<f64>,
    /// Share of all cores since the look before, 0 to 1.
    pub cpu: Option<f64>,
    /// In bytes.
    pub memory_total: Option<u64>,
    pub memory_available: Option<u64>,
}

impl HostStats {
    pub fn new() -> HostStats {
        HostStats { system: System::new().ok(), looked: false }
    }

    pub fn look(&mut self) -> HostFigures {
        let mut figures = HostFigures {
            uptime_seconds: System::uptime().ok(),
            load: System::load_average().ok().map(|load| load.one),
            ..HostFigures::default()
        };
        if let Some(system) = &mut self.system {
            system.refresh_cpu_usage();
            system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
            let share = f64::from(system.global_cpu_usage()) / 100.0;
            figures.cpu = (self.looked && !system.cpus().is_empty()).then(|| share.clamp(0.0, 1.0));
            self.looked = true;
            figures.memory_total = Some(system.total_memory()).filter(|bytes| *bytes > 0);
            figures.memory_available = figures.memory_total.map(|_| system.available_memory());
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_and_its_processors_from_the_second_look_on() {
        let mut stats = HostStats::new();
        let first = stats.look();
        assert_eq!(first.cpu, None);
        assert!(first.load.is_some() && first.uptime_seconds.is_some_and(|seconds| seconds > 0), "{first:?}");
        let (total, available) = (first.memory_total.unwrap(), first.memory_available.unwrap());
        assert!(total > 1 << 20 && available <= total, "{first:?}");
        let second = stats.look();
        assert!(second.cpu.is_some_and(|share| (0.0..=1.0).contains(&share)), "{second:?}");
    }
}
