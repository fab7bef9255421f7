//! Where a process's control groups are, in either hierarchy. Source: cgroups(7), Documentation/admin-guide/cgroup-v2.rst.

use crate::proc::Mount;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    One,
    Two,
}

/// Directory of a group, for one controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub version: Version,
    pub mount: String,
    /// Below the mount, `/` for its top.
    pub path: String,
}

impl Group {
    pub fn file(&self, name: &str) -> String {
        format!("{}{}/{name}", self.mount, self.path.trim_end_matches('/'))
    }

    /// The group and those above it, innermost first, without the top: limits hold all the way up.
    pub fn with_parents(&self) -> Vec<Group> {
        let mut groups = vec![self.clone()];
        let mut path = self.path.as_str();
        while let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
            groups.push(Group { path: parent.to_owned(), ..self.clone() });
            path = parent;
        }
        groups
    }
}

/// The group of `controller` (`cpu`, `memory`) that /proc/PID/cgroup names.
pub fn of_process(mounts: &[Mount], cgroup: &str, controller: &str) -> Option<Group> {
    let lines = || cgroup.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let of_one = lines().find(|(controllers, _)| controllers.split(',').any(|name| name == controller));
    let of_two = || lines().find(|(controllers, _)| controllers.is_empty());
    match of_one {
        Some((_, path)) => group(mounts, Version::One, controller, path),
        None => group(mounts, Version::Two, controller, of_two()?.1),
    }
}

fn group(mounts: &[Mount], version: Version, controller: &str, path: &str) -> Option<Group> {
    let is_it = |mount: &&Mount| match version {
        Version::One => {
            mount.filesystem == "cgroup" && mount.super_options.split(',').any(|name| name == controller)
        }
        Version::Two => mount.filesystem == "cgroup2",
    };
    let mount = mounts.iter().find(is_it)?;
    Some(Group { version, mount: mount.point.clone(), path: path.to_owned() })
}

/// A number of a `name value` file (cpu.stat, memory.events).
pub fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "30 1 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                          31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                          32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";

    #[test]
    fn a_controller_is_looked_for_in_the_first_hierarchy_and_then_in_the_second() {
        let mounts = Mount::parse_all(HYBRID);
        let cgroup =
            "4:cpu,cpuacct:/system.slice/iggy.service\n1:name=systemd:/x\n0::/system.slice/iggy.service\n";
        let cpu = of_process(&mounts, cgroup, "cpu").unwrap();
        assert_eq!(cpu.file("cpu.stat"), "/sys/fs/cgroup/cpu,cpuacct/system.slice/iggy.service/cpu.stat");
        let memory = of_process(&mounts, cgroup, "memory").unwrap();
        assert_eq!((memory.version, memory.mount.as_str()), (Version::Two, "/sys/fs/cgroup/unified"));
        assert_eq!(of_process(&[], cgroup, "cpu"), None);
    }

    #[test]
    fn parents_end_below_the_top() {
        let group = Group {
            version: Version::Two,
            mount: "/sys/fs/cgroup".to_owned(),
            path: "/a.slice/b.service".to_owned(),
        };
        let paths: Vec<String> = group.with_parents().into_iter().map(|group| group.path).collect();
        assert_eq!(paths, ["/a.slice/b.service", "/a.slice"]);
        let top = Group { path: "/".to_owned(), ..group };
        assert_eq!(top.with_parents().len(), 1);
        assert_eq!(top.file("cpu.stat"), "/sys/fs/cgroup/cpu.stat");
    }

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let text = "nr_periods 10\nnr_throttled 3\noom_kill torn\n";
        assert_eq!(
            (counter(text, "nr_throttled"), counter(text, "nr"), counter(text, "oom_kill")),
            (Some(3), None, None)
        );
    }
}
