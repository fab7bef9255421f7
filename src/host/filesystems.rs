//! Which mounts store data, and which of them show the same storage again. Source: proc_pid_mountinfo(5).

use crate::proc::Mount;
use crate::{Cause, Error, Host, Space};

/// What is behind a mounted filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The kernel itself: nothing is stored.
    Kernel,
    /// A type that the kernel can only read: always full, and never anybody's data.
    Image,
    /// Memory: gone at the next boot.
    Memory,
    /// Directories of other filesystems in layers.
    Layers,
    /// Another host, which may not answer.
    Network,
    /// A process (FUSE), which may not answer either.
    Process,
    /// Storage of this host.
    Disk,
}

const KERNEL: [&str; 24] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fuse.lxcfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nfsd",
    "nsfs",
    "proc",
    "pstore",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tracefs",
];
/// Neither has code to write in the kernel.
const IMAGE: [&str; 5] = ["cramfs", "erofs", "iso9660", "romfs", "squashfs"];
const MEMORY: [&str; 2] = ["ramfs", "tmpfs"];
const LAYERS: [&str; 5] = ["aufs", "fuse.fuse-overlayfs", "fuse.unionfs", "overlay", "unionfs"];
const NETWORK: [&str; 31] = [
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "fuse.blobfuse2",
    "fuse.ceph",
    "fuse.ceph-fuse",
    "fuse.curlftpfs",
    "fuse.gcsfuse",
    "fuse.glusterfs",
    "fuse.goofys",
    "fuse.juicefs",
    "fuse.mount-s3",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.sshfs",
    "fuse.vmhgfs-fuse",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "orangefs",
    "prl_fs",
    "smb3",
    "smbfs",
    "vboxsf",
    "virtiofs",
];

/// EIO, ENOTCONN, ESHUTDOWN, EHOSTDOWN, ESTALE and EUCLEAN, see errno(3): what a mount says whose storage, server or
/// process is gone.
const BROKEN: [i32; 6] = [5, 107, 108, 112, 116, 117];

/// Mounts of one filesystem that are tried until one answers: the first may be out of reach for our user.
const TRIES: usize = 4;
/// ZFS datasets that are measured: a pool of containers has thousands, at some microseconds each.
const DATASETS: usize = 256;

impl Mount {
    pub fn kind(&self) -> Kind {
        let name = self.filesystem.as_str();
        match name {
            _ if KERNEL.contains(&name) => Kind::Kernel,
            _ if IMAGE.contains(&name) => Kind::Image,
            _ if MEMORY.contains(&name) => Kind::Memory,
            _ if LAYERS.contains(&name) => Kind::Layers,
            _ if NETWORK.contains(&name) => Kind::Network,
            // NTFS and exFAT by FUSE are `fuseblk` and lie on a disk.
            "fuse" => Kind::Process,
            _ if name.starts_with("fuse.") => Kind::Process,
            _ if self.is_of_another_host() => Kind::Network,
            _ => Kind::Disk,
        }
    }

    /// `host:/path` and `//host/share`, whatever the type is called; a set of devices has colons, too.
    fn is_of_another_host(&self) -> bool {
        let source = self.source.as_str();
        self.device.starts_with("0:")
            && !source.starts_with("/dev/")
            && (source.contains(":/") || source.starts_with("//"))
    }

    /// Whether it stores data: neither a view of the kernel nor an image.
    pub fn is_storage(&self) -> bool {
        let is_lower_only = self.filesystem == "overlay" && self.upper_directory().is_none();
        // A ramfs has no size that could be used up.
        !matches!(self.kind(), Kind::Kernel | Kind::Image) && self.filesystem != "ramfs" && !is_lower_only
    }

    /// A FUSE filesystem without `allow_other` lets in nobody but the user who mounted it, not even root
    /// (mount.fuse3(8)).
    pub fn is_private(&self) -> bool {
        let mut options = self.super_options.split(',');
        let is_of_a_user = options.any(|option| option.starts_with("user_id=") && option != "user_id=0");
        self.filesystem.starts_with("fuse") && is_of_a_user && !self.has_option("allow_other")
    }

    /// Where an overlay keeps what is written to it. One without is read-only.
    fn upper_directory(&self) -> Option<&str> {
        self.super_options.split(',').find_map(|option| option.strip_prefix("upperdir="))
    }

    fn pool(&self) -> Option<&str> {
        (self.filesystem == "zfs").then(|| self.source.split('/').next().unwrap_or_default())
    }
}

/// The storage mounts, one for each filesystem: bind mounts, the views of a container, the overlays on a filesystem
/// and the datasets of a ZFS pool show the same storage again.
pub fn distinct(mounts: &[Mount]) -> Vec<&Mount> {
    groups(mounts).into_iter().filter_map(|group| group.into_iter().next()).collect()
}

/// Mounts of the same storage, in mount order; an overlay comes after the mounts of its upper directory.
fn groups(mounts: &[Mount]) -> Vec<Vec<&Mount>> {
    let is_seen = |at: usize, mount: &Mount| !mounts[at + 1..].iter().any(|later| later.point == mount.point);
    let visible: Vec<&Mount> =
        mounts.iter().enumerate().filter(|(at, mount)| is_seen(*at, mount)).map(|(_, mount)| mount).collect();
    let mut groups: Vec<Vec<&Mount>> = Vec::new();
    let mut layered: Vec<(&Mount, &Mount)> = Vec::new();
    for &mount in visible.iter().filter(|mount| mount.is_storage()) {
        if let Some(holder) = upper_mount(mounts, mount) {
            layered.push((mount, holder));
            continue;
        }
        let is_same = |other: &&Mount| {
            other.device == mount.device || mount.pool().is_some_and(|pool| other.pool() == Some(pool))
        };
        match groups.iter_mut().find(|group| group.iter().any(is_same)) {
            Some(group) => group.push(mount),
            None => groups.push(vec![mount]),
        }
    }
    for (overlay, holder) in layered {
        let is_holder = |group: &&mut Vec<&Mount>| group.iter().any(|one| one.device == holder.device);
        match groups.iter_mut().find(is_holder) {
            Some(group) => group.push(overlay),
            None => groups.push(vec![overlay]),
        }
    }
    groups
}

/// The mount on which the upper directory of an overlay lies, if it can be seen from here: to a process in a
/// container its root is an overlay whose upper directory is a path of the host.
fn upper_mount<'a>(mounts: &'a [Mount], overlay: &Mount) -> Option<&'a Mount> {
    let upper = overlay.upper_directory().filter(|upper| upper.starts_with('/'))?;
    let holder = Mount::holding(mounts, &crate::proc::unescape(upper))?;
    let below = |point: &str| Mount::holding(std::slice::from_ref(overlay), point).is_some();
    (holder.is_storage() && holder.device != overlay.device && !below(&holder.point)).then_some(holder)
}

/// A filesystem that stores data, with its figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Filesystem<'a> {
    /// The one of its mounts that was measured.
    pub mount: &'a Mount,
    pub space: Space,
    /// Whether Iggy's data directory lies on it.
    pub holds_data: bool,
}

/// A filesystem of which nothing is known, and why.
pub struct Unmeasured<'a, E> {
    pub mount: &'a Mount,
    pub holds_data: bool,
    pub error: E,
}

/// Measures every filesystem of a `wanted` kind. FUSE mounts that are private to a user are left out, and so is
/// what is read-only and has nothing free: an image.
pub fn measure<'a, E>(
    mounts: &'a [Mount],
    data: Option<&'a Mount>,
    wanted: impl Fn(Kind) -> bool,
    mut ask: impl FnMut(&str) -> Result<Space, E>,
) -> (Vec<Filesystem<'a>>, Vec<Unmeasured<'a, E>>) {
    let (mut measured, mut failed) = (Vec::new(), Vec::new());
    for mut group in groups(mounts) {
        let is_data = |mount: &&Mount| data.is_some_and(|data| data.device == mount.device);
        let holds_data = group.iter().any(is_data);
        // An overlay folded into a group lies on the kind of the first.
        if !group.first().is_some_and(|mount| wanted(mount.kind())) {
            continue;
        }
        group.retain(|mount| holds_data && is_data(mount) || !mount.is_private());
        if group.iter().any(|mount| mount.pool().is_some()) {
            measure_pool(group, is_data, &mut ask, &mut measured, &mut failed);
            continue;
        }
        let mut first_error = None;
        let answer = group.iter().take(TRIES).find_map(|mount| match ask(&mount.point) {
            Ok(space) => Some((*mount, space)),
            Err(error) => {
                first_error.get_or_insert((*mount, error));
                None
            }
        });
        match (answer, first_error) {
            (Some((mount, space)), _) => measured.push(Filesystem { mount, space, holds_data }),
            (None, Some((mount, error))) => failed.push(Unmeasured { mount, holds_data, error }),
            (None, None) => {}
        }
    }
    measured.retain(|one| one.holds_data || !is_image(one.mount, &one.space));
    (measured, failed)
}

fn is_image(mount: &Mount, space: &Space) -> bool {
    (mount.is_read_only() || space.read_only) && space.free == 0
}

/// The datasets of a pool share what is available; each says how much it uses itself. One with another amount
/// available has a quota or a reservation and is a filesystem of its own.
fn measure_pool<'a, E>(
    datasets: Vec<&'a Mount>,
    is_data: impl Fn(&&Mount) -> bool,
    ask: &mut impl FnMut(&str) -> Result<Space, E>,
    measured: &mut Vec<Filesystem<'a>>,
    failed: &mut Vec<Unmeasured<'a, E>>,
) {
    /// Datasets are asked one after the other, while others write.
    const SAME: f64 = 0.01;
    let (mut pools, mut first_error): (Vec<Filesystem>, Option<Unmeasured<E>>) = (Vec::new(), None);
    let mut asked: Vec<&str> = Vec::new();
    // The dataset of the data is never the one that is left out.
    let mut datasets = datasets;
    datasets.sort_by_key(|mount| !is_data(mount));
    for mount in datasets.into_iter().take(DATASETS) {
        if asked.contains(&mount.device.as_str()) {
            continue;
        }
        let holds_data = is_data(&mount);
        let space = match ask(&mount.point) {
            Ok(space) => space,
            Err(error) => {
                if holds_data || first_error.is_none() {
                    first_error = Some(Unmeasured { mount, holds_data, error });
                }
                continue;
            }
        };
        asked.push(&mount.device);
        let used = space.size.saturating_sub(space.free);
        let is_same = |pool: &&mut Filesystem| {
            pool.space.available.abs_diff(space.available) as f64 <= pool.space.available as f64 * SAME
        };
        match pools.iter_mut().find(is_same) {
            Some(pool) => pool.space.size = pool.space.size.saturating_add(used),
            None => pools.push(Filesystem { mount, space, holds_data }),
        }
    }
    if let Some(error) = first_error.filter(|error| pools.is_empty() || error.holds_data) {
        failed.push(error);
    }
    measured.append(&mut pools);
}

/// [`measure`] of a [`Host`], for the checks: all kinds, and the data's filesystem in any case, which a mount
/// namespace can hide.
pub fn measure_host<'a>(
    host: &Host,
    mounts: &'a [Mount],
    data: Option<(&str, &'a Mount)>,
) -> (Vec<Filesystem<'a>>, Vec<Unmeasured<'a, Error>>) {
    let (mut measured, mut failed) =
        measure(mounts, data.map(|(_, mount)| mount), |_| true, |point| host.space(point));
    let is_known = measured.iter().any(|one| one.holds_data) || failed.iter().any(|one| one.holds_data);
    if let Some((directory, mount)) = data.filter(|(_, mount)| !is_known && mount.is_storage()) {
        match host.space(directory) {
            Ok(space) => measured.push(Filesystem { mount, space, holds_data: true }),
            Err(error) => failed.push(Unmeasured { mount, holds_data: true, error }),
        }
    }
    (measured, failed)
}

impl Unmeasured<'_, Error> {
    /// Whether the mount is broken, and not only closed to our user or unable to tell.
    pub fn is_fault(&self) -> bool {
        matches!(&self.error, Error::Host(failure) if is_broken(&failure.cause))
    }
}

/// Whether a filesystem that is asked for its size and answers so has lost what it lies on.
pub fn is_broken(cause: &Cause) -> bool {
    match cause {
        Cause::TimedOut => true,
        Cause::Other(text) => BROKEN.iter().any(|code| text.ends_with(&format!("(os error {code})"))),
        Cause::Absent
        | Cause::Denied
        | Cause::Unavailable(_)
        | Cause::Unrecorded
        | Cause::Truncated(_)
        | Cause::Masked => false,
    }
}

#[cfg(test)]
mod tests;
