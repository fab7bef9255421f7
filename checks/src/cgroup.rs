//! Where a process's control groups are, in either hierarchy. Source: cgroups(7), Documentation/admin-guide/cgroup-v2.rst.

use warden_host::proc::Mount;

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
    /// The mount shows the hierarchy from its top on, as far as this can be told from here.
    pub from_top: bool,
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

/// Where the group of a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Here(Group),
    /// It has one, and no mount shows it: it lies outside of this control group namespace or container. Its path.
    Hidden(String),
    /// The controller is mounted nowhere.
    Nowhere,
}

/// The group of `controller` (`cpu`, `memory`) that /proc/PID/cgroup names.
pub fn of_process(mounts: &[Mount], cgroup: &str, controller: &str) -> Place {
    let lines = || cgroup.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let of_one = lines().find(|(controllers, _)| controllers.split(',').any(|name| name == controller));
    let of_two = || lines().find(|(controllers, _)| controllers.is_empty());
    match of_one {
        Some((_, path)) => place(mounts, Version::One, controller, path),
        None => of_two().map_or(Place::Nowhere, |(_, path)| place(mounts, Version::Two, controller, path)),
    }
}

/// The group at `path`, as a unit's `ControlGroup` or /proc/PID/cgroup names it.
pub fn place(mounts: &[Mount], version: Version, controller: &str, path: &str) -> Place {
    let is_it = |mount: &&Mount| match version {
        Version::One => {
            mount.filesystem == "cgroup" && mount.super_options.split(',').any(|name| name == controller)
        }
        Version::Two => mount.filesystem == "cgroup2",
    };
    let mut candidates = mounts.iter().filter(is_it).peekable();
    if candidates.peek().is_none() {
        return Place::Nowhere;
    }
    let shown = candidates.find_map(|mount| {
        let path = below(path, &mount.root)?;
        Some(Group { version, mount: mount.point.clone(), path, from_top: mount.root == "/" })
    });
    shown.map_or_else(|| Place::Hidden(path.to_owned()), Place::Here)
}

/// A path within a hierarchy as the mount of its part `root` shows it. In a container /proc/PID/cgroup holds the path
/// on the host, and the mount has that path as its root. Above the top of a control group namespace both begin with
/// `/..`; the names of what lies there are not known here (cgroup_namespaces(7)).
fn below(path: &str, root: &str) -> Option<String> {
    let rest = path.strip_prefix(root.trim_end_matches('/'))?;
    let is_climbing = rest.split('/').any(|part| part == "..");
    match rest {
        "" => Some("/".to_owned()),
        rest if rest.starts_with('/') && !is_climbing => Some(rest.to_owned()),
        _ => None,
    }
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
        let here = |controller: &str| match of_process(&mounts, cgroup, controller) {
            Place::Here(group) => group,
            other @ (Place::Hidden(_) | Place::Nowhere) => panic!("{other:?}"),
        };
        let cpu = here("cpu");
        assert_eq!(cpu.file("cpu.stat"), "/sys/fs/cgroup/cpu,cpuacct/system.slice/iggy.service/cpu.stat");
        let memory = here("memory");
        assert_eq!((memory.version, memory.mount.as_str()), (Version::Two, "/sys/fs/cgroup/unified"));
        assert_eq!(of_process(&[], cgroup, "cpu"), Place::Nowhere);
    }

    #[test]
    fn the_root_of_the_mount_is_no_part_of_the_path_below_it() {
        let shown = |path: &str, root: &str| below(path, root);
        assert_eq!(shown("/docker/0a1b", "/docker/0a1b").as_deref(), Some("/"));
        assert_eq!(shown("/docker/0a1b/iggy", "/docker/0a1b").as_deref(), Some("/iggy"));
        assert_eq!(shown("/docker/0a1bc", "/docker/0a1b"), None);
        assert_eq!(shown("/system.slice/docker.service", "/docker/0a1b"), None);
        assert_eq!(shown("/a.slice", "/").as_deref(), Some("/a.slice"));
        assert_eq!(shown("/", "/").as_deref(), Some("/"));
        // A namespace: the process, or what is mounted, lies above its top.
        assert_eq!(shown("/../../system.slice/iggy.service", "/"), None);
        assert_eq!(
            shown("/../../system.slice/iggy.service", "/../..").as_deref(),
            Some("/system.slice/iggy.service")
        );
        assert_eq!(shown("/../x", "/../.."), None);
        assert_eq!(shown("/", "/../.."), None);
    }

    #[test]
    fn of_several_mounts_the_one_that_shows_the_group_is_taken_and_otherwise_it_is_hidden() {
        let mounts = Mount::parse_all(
            "31 30 0:27 /other /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             32 30 0:27 /docker/1 /cg rw - cgroup cgroup rw,memory\n",
        );
        let of = |path: &str| of_process(&mounts, &format!("8:memory:{path}\n"), "memory");
        assert!(
            matches!(of("/docker/1"), Place::Here(group) if group.file("x") == "/cg/x" && !group.from_top)
        );
        assert_eq!(of("/docker/2"), Place::Hidden("/docker/2".to_owned()));
    }

    #[test]
    fn parents_end_below_the_top() {
        let group = Group {
            version: Version::Two,
            mount: "/sys/fs/cgroup".to_owned(),
            path: "/a.slice/b.service".to_owned(),
            from_top: true,
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
