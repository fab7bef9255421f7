//! ZFS pools, from the kernel and from `zpool status`. Source: zpool-status(8), zpoolconcepts(7).

use super::{Copies, Fault};

/// A pool's state, which anybody may read (OpenZFS 0.8 and later).
pub const STATES: &str = "/proc/spl/kstat/zfs/*/state";

/// A pool as its state file tells it; `path` is one of [`STATES`].
pub fn of_state(path: &str, state: &str) -> Option<Copies> {
    let pool = path.split('/').nth(5)?;
    Some(copies(pool, state.trim().to_owned(), fault(state.trim())))
}

/// Every pool of `zpool status`.
pub fn of_status(text: &str) -> Vec<Copies> {
    let mut pools: Vec<(String, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        match (line.trim_start().strip_prefix("pool: "), pools.last_mut()) {
            (Some(name), _) => pools.push((name.trim().to_owned(), Vec::new())),
            (None, Some((_, lines))) => lines.push(line),
            (None, None) => {}
        }
    }
    pools.into_iter().map(|(name, lines)| of_lines(&name, &lines)).collect()
}

fn of_lines(pool: &str, lines: &[&str]) -> Copies {
    let field =
        |name: &str| lines.iter().find_map(|line| line.trim_start().strip_prefix(name)).map(str::trim);
    let state = field("state:").unwrap_or("UNKNOWN");
    let errors = field("errors:").filter(|text| !text.starts_with("No known data errors"));
    let is_resilvering = field("scan:").is_some_and(|text| text.starts_with("resilver in progress"));
    // A row of the configuration: name, state, errors of reading, of writing and of checksums.
    let bad: Vec<String> = lines
        .iter()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [name, state, read, write, sum, ..] = &words[..] else { return None };
            let counts = [read, write, sum];
            let is_row = counts.iter().all(|count| count.starts_with(|c: char| c.is_ascii_digit()));
            let is_bad = *state != "ONLINE" || counts.iter().any(|count| **count != "0");
            (is_row && is_bad && *name != pool).then(|| format!("{name} {state} {read}/{write}/{sum}"))
        })
        .collect();
    let mut shown = state.to_owned();
    if is_resilvering {
        shown.push_str(", resilvering");
    }
    if let Some(errors) = errors {
        shown.push_str(&format!(", {errors}"));
    }
    if !bad.is_empty() {
        shown.push_str(&format!(" ({})", bad.join(", ")));
    }
    let fault = match fault(state) {
        Some(Fault::Broken) => Some(Fault::Broken),
        _ if errors.is_some() => Some(Fault::DataErrors),
        _ if is_resilvering => Some(Fault::Recovering),
        None if !bad.is_empty() => Some(Fault::MendedErrors),
        fault => fault,
    };
    copies(pool, shown, fault)
}

fn fault(state: &str) -> Option<Fault> {
    match state {
        "ONLINE" => None,
        "DEGRADED" => Some(Fault::Degraded),
        // FAULTED, UNAVAIL, SUSPENDED, REMOVED, OFFLINE: it takes no write.
        _ => Some(Fault::Broken),
    }
}

fn copies(pool: &str, state: String, fault: Option<Fault>) -> Copies {
    Copies {
        name: format!("ZFS pool {pool}"),
        state,
        fault,
        mounted_as: pool.to_owned(),
        command: format!("zpool status -v {}", crate::quoted(pool)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults;
    use super::*;

    #[test]
    fn the_kernels_state_of_a_pool_is_its_fault() {
        let fault = |state| of_state("/proc/spl/kstat/zfs/tank/state", state).unwrap().fault;
        assert_eq!(
            ["ONLINE\n", "DEGRADED\n", "SUSPENDED\n"].map(fault),
            [None, Some(Fault::Degraded), Some(Fault::Broken)]
        );
    }

    #[test]
    fn zpool_status_tells_resilvering_lost_data_and_mended_errors() {
        let of = |state: &str, scan: &str, sum: &str, errors: &str| {
            let text = format!(
                "  pool: tank\n state: {state}\n  scan: {scan}\nconfig:\n\n\tNAME        STATE     READ WRITE CKSUM\n\
                 \ttank        {state}       0     0     0\n\t  mirror-0  {state}       0     0     0\n\
                 \t    sda     ONLINE       0     0     {sum}\n\t    sdb     ONLINE       0     0     0\n\
                 \tspares\n\t  sdc       AVAIL\n\nerrors: {errors}\n"
            );
            let pools = of_status(&text);
            (pools[0].fault, pools[0].state.clone())
        };
        let (scrub, none) = ("scrub repaired 0B in 00:10:00 with 0 errors", "No known data errors");
        assert_eq!(of("ONLINE", scrub, "0", none), (None, "ONLINE".to_owned()));
        assert_eq!(
            of("ONLINE", scrub, "3", none),
            (Some(Fault::MendedErrors), "ONLINE (sda ONLINE 0/0/3)".to_owned())
        );
        let lost = of("ONLINE", scrub, "0", "2 data errors, use '-v' for a list");
        assert_eq!(lost.0, Some(Fault::DataErrors));
        let mending = of("DEGRADED", "resilver in progress since Sat Nov 21 11:00:00 2026", "0", none);
        assert_eq!(mending.0, Some(Fault::Recovering));
        assert_eq!(faults(&of_status("no pools available\n")), []);
    }
}
