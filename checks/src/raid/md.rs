//! Linux RAID, from /proc/mdstat. Source: md(4), drivers/md/md.c (md_seq_show).

use super::{Copies, Fault};

/// Levels that keep no copy: a member lost is everything lost.
const WITHOUT_COPY: [&str; 3] = ["raid0", "linear", "faulty"];

/// Every array, and every container of arrays (IMSM, DDF), which is always shown inactive with its members as spares.
pub fn arrays(mdstat: &str) -> Vec<Copies> {
    let mut found: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for line in mdstat.lines() {
        let header = line.split_once(" : ").filter(|(name, _)| {
            !name.is_empty() && !name.starts_with(char::is_whitespace) && *name != "Personalities"
        });
        match (header, found.last_mut()) {
            (Some((name, rest)), _) => found.push((name.trim(), rest, Vec::new())),
            (None, Some((_, _, body))) if line.starts_with(char::is_whitespace) => body.push(line.trim()),
            _ => {}
        }
    }
    found.into_iter().map(|(name, rest, body)| array(name, rest, &body)).collect()
}

fn array(name: &str, header: &str, body: &[&str]) -> Copies {
    let is_member = |word: &&str| word.contains('[');
    let words: Vec<&str> = header.split_ascii_whitespace().collect();
    let state: Vec<&str> = words.iter().copied().take_while(|word| !is_member(word)).collect();
    let members: Vec<&str> = words.into_iter().filter(is_member).collect();
    let with = |flag: &str| members.iter().filter(|word| word.contains(flag)).copied().collect::<Vec<_>>();
    let disks = |words: &[&str]| {
        words.iter().filter_map(|word| word.split('[').next()).collect::<Vec<_>>().join(", ")
    };
    let text = body.join(" ");
    let mut shown = state.join(" ");
    let copies = |state: String, fault| Copies {
        name: name.to_owned(),
        state,
        fault,
        mounted_as: name.to_owned(),
        command: format!("mdadm --detail /dev/{name}"),
    };
    if let Some(kind) = container(&text) {
        return copies(format!("container ({kind}) of {}", disks(&members)), None);
    }

    let level = state.iter().copied().find(|word| *word != "active" && !word.starts_with('(')).unwrap_or("");
    let counts = text.split_ascii_whitespace().find_map(counts);
    let missing = counts.map_or(0, |(wanted, working)| wanted.saturating_sub(working));
    if let Some((wanted, working)) = counts {
        shown.push_str(&format!(" [{wanted}/{working}]"));
    }
    let action = ["recovery", "resync", "reshape", "recover"].into_iter().find_map(|action| {
        let rest = text[text.find(&format!("{action} ")).or_else(|| text.find(&format!("{action}=")))?..]
            .split('(')
            .next()?;
        // `recovery = 12.6%`, `resync=PENDING`.
        let words = rest.split_ascii_whitespace().take(3).collect::<Vec<_>>();
        let words = if words.get(1) == Some(&"=") { words.join(" ") } else { (*words.first()?).to_owned() };
        Some((action, words))
    });
    if let Some((_, words)) = &action {
        shown.push_str(&format!(", {words}"));
    }
    let failed = with("(F)");
    if !failed.is_empty() {
        shown.push_str(&format!(", failed: {}", disks(&failed)));
    }
    if state.first() != Some(&"active") {
        // The members tell which disks wait for the others.
        shown.push_str(&format!(" {}", members.join(" ")));
    }

    let is_down = state.first() != Some(&"active") || text.contains("FAILED") || header.contains("FAILED");
    let tolerated = match level {
        "raid4" | "raid5" => 1,
        "raid6" => 2,
        _ if WITHOUT_COPY.contains(&level) => 0,
        _ => counts.map_or(u32::MAX, |(wanted, _)| wanted.saturating_sub(1)),
    };
    let journal_failed = failed.iter().any(|word| word.contains("(J)"));
    let fault = match &action {
        _ if is_down || missing > tolerated => Some(Fault::Broken),
        _ if WITHOUT_COPY.contains(&level) && !failed.is_empty() => Some(Fault::Broken),
        _ if journal_failed => Some(Fault::Degraded),
        // Only a recovery gives a missing copy back.
        Some(("recovery" | "recover", _)) => Some(Fault::Recovering),
        _ if missing > 0 => Some(Fault::Degraded),
        Some((_, words)) if words.ends_with("PENDING") => Some(Fault::Waiting),
        Some(_) => Some(Fault::Recovering),
        None if !failed.is_empty() => Some(Fault::FailedMember),
        None => None,
    };
    copies(shown.trim().to_owned(), fault)
}

/// `imsm` of `super external:imsm`. An array in a container says `external:/md127/0`, or `-md127/0` when read-only.
fn container(text: &str) -> Option<&str> {
    let kind = text.split_once("super external:")?.1.split_ascii_whitespace().next()?;
    (!kind.starts_with(['/', '-'])).then_some(kind)
}

/// `[2/1]`: members wanted and working.
fn counts(word: &str) -> Option<(u32, u32)> {
    let (wanted, working) = word.strip_prefix('[')?.strip_suffix(']')?.split_once('/')?;
    Some((wanted.parse().ok()?, working.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::faults;
    use super::*;

    #[test]
    fn arrays_are_whole_degraded_recovering_or_broken() {
        let text = "Personalities : [raid1] [raid6] [raid5] [raid4]\n\
            md0 : active raid1 sdb1[1] sda1[0]\n      1047552 blocks super 1.2 [2/2] [UU]\n\n\
            md1 : active raid1 sda2[0] sdb2[1](F)\n      1047552 blocks [2/1] [U_]\n\
            md2 : active raid5 sdc1[3] sdb3[1] sda3[0]\n      2095104 blocks level 5, 512k chunk [3/2] [UU_]\n      \
            [==>..................]  recovery = 12.6% (132096/1047552) finish=0.1min speed=132096K/sec\n\
            md3 : inactive sdd1[0](S)\n      1047552 blocks super 1.2\n       \n\
            md4 : active raid5 sdc2[2](F) sdb4[1](F) sda4[0]\n      99 blocks level 5, 512k chunk [3/1] [U__]\n\
            md5 : active raid10 sda5[0] sdb5[1] sdc5[2]\n      99 blocks [4/3] [UUU_]\n        resync=DELAYED\n\
            unused devices: <none>\n";
        assert_eq!(
            faults(&arrays(text)),
            [
                ("md0", "active raid1 [2/2]", None),
                ("md1", "active raid1 [2/1], failed: sdb2", Some(Fault::Degraded)),
                ("md2", "active raid5 [3/2], recovery = 12.6%", Some(Fault::Recovering)),
                ("md3", "inactive sdd1[0](S)", Some(Fault::Broken)),
                ("md4", "active raid5 [3/1], failed: sdc2, sdb4", Some(Fault::Broken)),
                ("md5", "active raid10 [4/3], resync=DELAYED", Some(Fault::Degraded)),
            ]
        );
        assert_eq!(arrays("Personalities : \nunused devices: <none>\n"), []);
    }

    #[test]
    fn a_container_is_no_array_and_the_array_in_it_is_judged() {
        let imsm = "Personalities : [raid1]\n\
            md126 : active raid1 sda[1] sdb[0]\n      234428416 blocks super external:/md127/0 [2/2] [UU]\n      \n\
            md127 : inactive sdb[1](S) sda[0](S)\n      10402 blocks super external:imsm\n       \n";
        assert_eq!(
            faults(&arrays(imsm)),
            [("md126", "active raid1 [2/2]", None), ("md127", "container (imsm) of sdb, sda", None)]
        );
        let ddf = "md125 : active (auto-read-only) raid5 sdc[2] sdb[1] sda[0]\n      99 blocks super external:-md127/1 level 5, 64k chunk, algorithm 2 [3/3] [UUU]\n      \tresync=PENDING\n\
            md127 : inactive sdc[2](S) sdb[1](S) sda[0](S)\n      98304 blocks super external:ddf\n\
            md126 : inactive sdd[0](S)\n      99 blocks super external:/md127/0\n";
        let shown = arrays(ddf);
        assert_eq!(shown[0].fault, Some(Fault::Waiting), "{shown:?}");
        assert_eq!((shown[1].fault, shown[2].fault), (None, Some(Fault::Broken)));
    }

    #[test]
    fn a_failed_disk_beside_a_whole_array_is_said_and_other_marks_are_no_fault() {
        let text = "md0 : active raid1 sdc1[2] sdb1[1](F) sda1[0]\n      1047552 blocks super 1.2 [2/2] [UU]\n\
            md1 : active raid1 sdc2[2](S) sdb2[1](W) sda2[0]\n      1047552 blocks super 1.2 [2/2] [UU]\n      bitmap: 0/1 pages [0KB], 65536KB chunk\n\
            md2 : active raid5 sdd1[4] nvme0n1p1[3](J) sdc3[2] sdb3[0]\n      99 blocks super 1.2 level 5, 512k chunk, algorithm 2 [3/3] [UUU]\n\
            md3 : active raid5 sdd4[4] nvme0n1p2[3](J)(F) sdc4[2] sdb4[0]\n      99 blocks super 1.2 level 5, 512k chunk, algorithm 2 [3/3] [UUU]\n";
        assert_eq!(
            faults(&arrays(text)),
            [
                ("md0", "active raid1 [2/2], failed: sdb1", Some(Fault::FailedMember)),
                ("md1", "active raid1 [2/2]", None),
                ("md2", "active raid5 [3/3]", None),
                ("md3", "active raid5 [3/3], failed: nvme0n1p2", Some(Fault::Degraded)),
            ]
        );
    }

    #[test]
    fn stripes_keep_no_copy_and_checks_and_reshapes_are_told_apart() {
        let text = "md0 : active raid0 sdb1[1] sda1[0]\n      99 blocks super 1.2 512k chunks\n\
            md1 : broken raid0 sdb2[1] sda2[0]\n      99 blocks super 1.2 512k chunks\n\
            md2 : active linear sdb3[1] sda3[0]\n      99 blocks super 1.2 0k rounding\n\
            md_home : active raid1 sdb4[1] sda4[0]\n      99 blocks [2/2] [UU]\n      [=>...]  check =  5.2% (1/2) finish=1.0min speed=1K/sec\n\
            md4 : active raid6 sde1[4] sdd1[3] sdc1[2] sdb1[1]\n      99 blocks level 6, 512k chunk [4/4] [UUUU]\n      [=>...]  reshape =  5.2% (1/2) finish=1.0min speed=1K/sec\n\
            md5 : active (read-only) raid1 sdb6[1] sda6[0]\n      99 blocks [2/2] [UU]\n";
        let found: Vec<_> = arrays(text).into_iter().map(|one| one.fault).collect();
        assert_eq!(found, [None, Some(Fault::Broken), None, None, Some(Fault::Recovering), None]);
    }
}
