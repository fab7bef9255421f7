//! Every check, in the order a person reads them.

use crate::Check;

/// One line a check: its file, and its place in the order.
macro_rules! checks {
    ($($name:ident,)*) => {
        $(mod $name;)*
        pub static CHECKS: &[&Check] = &[$(&$name::CHECK,)*];
    };
}

checks! {
    system_identity,
    system_updates,
    system_time,
    system_security_modules,
    cpu_load,
    cpu_steal,
    cpu_frequency,
    cpu_vulnerabilities,
    memory_usage,
    memory_swap,
    memory_huge_pages,
    memory_numa,
    memory_oom,
    disk_space,
    disk_inodes,
    disk_mounts,
    disk_latency,
    disk_health,
    disk_write_cache,
    network_interfaces,
    network_addresses,
    network_dns,
    network_listeners,
    network_tcp,
    network_conntrack,
    network_firewall,
    network_shaping,
    supervisor_reachability,
    process_top,
    process_states,
    process_limits,
    runtime_versions,
    runtime_iggy_process,
    runtime_iggy_health,
    runtime_iggy_config,
    runtime_iggy_data,
    runtime_connectors,
    units_runtimes,
    units_failed,
    units_timers,
    units_hardening,
    kernel_parameters,
    kernel_io_uring,
    kernel_log,
    kernel_modules,
    kernel_limits,
    cgroup_limits,
    certificates_files,
    certificates_served,
    certificates_trust,
    logs_iggy,
    logs_connectors,
    logs_warden,
    logs_journal,
    logs_crashes,
    warden_self,
    warden_setup,
    warden_recorder,
}
