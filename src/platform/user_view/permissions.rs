//! Whether a user may read a file, by its mode bits and its POSIX ACL.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::unistd::{Gid, User};
use rustix::fs::Stat;
use rustix::io::Errno;
use warden_host::proc::field;

/// Of the three bits of a class in a file's mode: to read it, and to look a name up in it (a directory).
pub const READ: u32 = 4;
pub const SEARCH: u32 = 1;

/// Where the kernel shows an ACL, and its form (linux/posix_acl_xattr.h): a version, then entries of tag, permissions
/// and user or group, little-endian.
const ACL: &str = "system.posix_acl_access";
const ACL_VERSION: u32 = 2;
const ACL_ENTRY_BYTES: usize = 8;
/// 500 entries; ext4 holds about as many in a block.
const ACL_BYTES: usize = 4 + 500 * ACL_ENTRY_BYTES;

/// linux/capability.h: bypass the permissions of all files, and only for reading and searching.
const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_DAC_READ_SEARCH: u32 = 2;

/// Who a user is, as far as permissions of files go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Each of them must be allowed.
    users: Vec<u32>,
    groups: Vec<u32>,
    /// Root may read what its permissions keep from it.
    overrides: bool,
}

impl Permissions {
    /// Those of root.
    pub fn all() -> Permissions {
        Permissions { users: vec![0], groups: vec![0], overrides: true }
    }

    pub fn of_user(user: u32, groups: Vec<u32>) -> Permissions {
        Permissions { users: vec![user], groups, overrides: user == 0 }
    }

    /// Of the user with a number, with the groups that this host knows.
    pub fn of_number(number: u32) -> Permissions {
        let user = User::from_uid(number.into()).ok().flatten();
        user.map_or_else(|| Permissions::of_user(number, Vec::new()), |user| Permissions::of_known(&user))
    }

    /// Of a user of this host.
    pub fn of_known(user: &User) -> Permissions {
        let name = std::ffi::CString::new(user.name.as_str()).unwrap_or_default();
        let groups = nix::unistd::getgrouplist(&name, user.gid).unwrap_or_else(|_| vec![user.gid]);
        Permissions::of_user(user.uid.as_raw(), groups.into_iter().map(Gid::as_raw).collect())
    }

    /// Of a process, by its `/proc/PID/status` (proc_pid_status(5)). A program with the set-user-ID bit gets what both
    /// its caller and its owner have. Capabilities count for root alone, and only where it `shares_users`, the
    /// namespace of users, with this process: in one of its own they are over its own files.
    pub fn of_process(status: &str, shares_users: bool) -> Option<Permissions> {
        let ids = |name: &str| -> Option<Vec<u32>> {
            field(status, name)?.split_ascii_whitespace().map(|id| id.parse().ok()).collect()
        };
        let (users, gids) = (ids("Uid")?, ids("Gid")?);
        let (real, of_files) = (*users.first()?, *users.get(3)?);
        let mut groups = ids("Groups").unwrap_or_default();
        groups.push(*gids.first()?);
        let capabilities = u64::from_str_radix(field(status, "CapEff")?, 16).ok()?;
        let has = |bit: u32| capabilities >> bit & 1 == 1;
        let overrides =
            shares_users && real == 0 && of_files == 0 && (has(CAP_DAC_OVERRIDE) || has(CAP_DAC_READ_SEARCH));
        let users = if real == of_files { vec![real] } else { vec![real, of_files] };
        Some(Permissions { users, groups, overrides })
    }

    /// Whether the file that is open as `place` may be used as `wanted`. `stat` is what fstat(2) says of it.
    pub fn allow(&self, place: BorrowedFd<'_>, stat: &Stat, wanted: u32) -> io::Result<bool> {
        #[expect(clippy::useless_conversion, reason = "their types differ between architectures")]
        let owned = Owned { mode: stat.st_mode.into(), user: stat.st_uid, group: stat.st_gid };
        if self.overrides || self.users.iter().all(|&user| user == owned.user) {
            return Ok(self.overrides || owned.mode >> 6 & wanted == wanted);
        }
        let acl = acl(place)?;
        Ok(self.users.iter().all(|&user| self.may(user, owned, acl.as_deref(), wanted)))
    }

    /// acl(5), "ACCESS CHECK ALGORITHM".
    fn may(&self, user: u32, file: Owned, acl: Option<&[AclEntry]>, wanted: u32) -> bool {
        let grants = |permissions: u32| permissions & wanted == wanted;
        let is_member = |group: u32| self.groups.contains(&group);
        if user == file.user {
            return grants(file.mode >> 6);
        }
        let Some(acl) = acl else {
            return grants(if is_member(file.group) { file.mode >> 3 } else { file.mode });
        };
        let mask = acl.iter().find(|entry| entry.tag == Tag::Mask).map_or(7, |entry| entry.permissions);
        if let Some(named) = acl.iter().find(|entry| entry.tag == Tag::User && entry.id == user) {
            return grants(named.permissions & mask);
        }
        let of_groups = acl.iter().filter(|entry| match entry.tag {
            Tag::OwningGroup => is_member(file.group),
            Tag::Group => is_member(entry.id),
            Tag::Owner | Tag::User | Tag::Mask | Tag::Other => false,
        });
        let mut of_groups = of_groups.peekable();
        if of_groups.peek().is_some() {
            return of_groups.any(|entry| grants(entry.permissions & mask));
        }
        acl.iter().any(|entry| entry.tag == Tag::Other && grants(entry.permissions))
    }
}

#[derive(Clone, Copy)]
struct Owned {
    mode: u32,
    user: u32,
    group: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Owner,
    User,
    OwningGroup,
    Group,
    Mask,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AclEntry {
    tag: Tag,
    permissions: u32,
    id: u32,
}

/// The ACL of an open file; `None` when its mode says all. One that is not understood is an error.
fn acl(place: BorrowedFd<'_>) -> io::Result<Option<Vec<AclEntry>>> {
    let mut bytes = vec![0; ACL_BYTES];
    // A mere place has no attributes of its own to ask for; the link in /proc leads to the file that is open.
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    match rustix::fs::getxattr(path, ACL, &mut bytes[..]) {
        Ok(length) => parse(bytes.get(..length).unwrap_or_default())
            .map(Some)
            .ok_or_else(|| io::Error::other("has an access control list that is not understood")),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn parse(acl: &[u8]) -> Option<Vec<AclEntry>> {
    let (version, entries) = acl.split_first_chunk::<4>()?;
    let (entries, rest) = entries.as_chunks::<ACL_ENTRY_BYTES>();
    if u32::from_le_bytes(*version) != ACL_VERSION || !rest.is_empty() {
        return None;
    }
    entries
        .iter()
        .map(|&[tag_low, tag_high, low, high, a, b, c, d]| {
            let tag = match u16::from_le_bytes([tag_low, tag_high]) {
                0x01 => Tag::Owner,
                0x02 => Tag::User,
                0x04 => Tag::OwningGroup,
                0x08 => Tag::Group,
                0x10 => Tag::Mask,
                0x20 => Tag::Other,
                _ => return None,
            };
            let permissions = u16::from_le_bytes([low, high]).into();
            Some(AclEntry { tag, permissions, id: u32::from_le_bytes([a, b, c, d]) })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(user: u32, groups: &[u32]) -> Permissions {
        Permissions::of_user(user, groups.to_vec())
    }

    fn file(mode: u32) -> Owned {
        Owned { mode, user: 10, group: 20 }
    }

    #[test]
    fn the_first_class_that_a_user_is_of_decides() {
        let may = |who: &Permissions, mode: u32| who.may(who.users[0], file(mode), None, READ);
        let (owner, member, other) = (user(10, &[20]), user(11, &[9, 20]), user(12, &[9]));
        assert!(may(&owner, 0o400) && !may(&owner, 0o044));
        assert!(may(&member, 0o040) && !may(&member, 0o404));
        assert!(may(&other, 0o004) && !may(&other, 0o440));
    }

    /// As the kernel hands it out, of `user::rw-, user:30:r--, group::---, group:40:r--, mask::r--, other::r--`.
    const LIST: &[u8] = &[
        2, 0, 0, 0, //
        1, 0, 6, 0, 255, 255, 255, 255, //
        2, 0, 4, 0, 30, 0, 0, 0, //
        2, 0, 0, 0, 31, 0, 0, 0, //
        4, 0, 0, 0, 255, 255, 255, 255, //
        8, 0, 4, 0, 40, 0, 0, 0, //
        16, 0, 4, 0, 255, 255, 255, 255, //
        32, 0, 4, 0, 255, 255, 255, 255, //
    ];

    #[test]
    fn an_access_control_list_gives_and_takes() {
        let list = parse(LIST).unwrap();
        let may = |who: &Permissions| who.may(who.users[0], file(0o644), Some(&list), READ);
        assert!(may(&user(10, &[])) && may(&user(30, &[])) && may(&user(12, &[40])) && may(&user(12, &[])));
        assert!(!may(&user(31, &[])), "named, with nothing");
        assert!(!may(&user(12, &[20])), "of the group of the file, which has nothing");
        assert!(may(&user(12, &[20, 40])), "another group gives it");
        for torn in [&LIST[..7], &[3, 0, 0, 0], &[2, 0, 0, 0, 3, 0, 4, 0, 0, 0, 0, 0], &[]] {
            assert_eq!(parse(torn), None);
        }
    }

    const STATUS: &str =
        "Name:\tiggy-server\nUid:\t0\t0\t0\t0\nGid:\t5\t6\t6\t6\nGroups:\t7 8 \nCapEff:\t0000000000000006\n";

    #[test]
    fn root_overrides_only_with_the_capability_in_our_namespace() {
        let of = |status: &str, shares: bool| Permissions::of_process(status, shares).unwrap();
        let root = of(STATUS, true);
        assert_eq!((root.overrides, root.groups), (true, vec![7, 8, 5]));
        assert!(!of(STATUS, false).overrides);
        assert!(!of(&STATUS.replace("006\n", "000\n"), true).overrides);
        let service = of(&STATUS.replace("\t0\t0\t0\t0", "\t9\t9\t9\t9"), true);
        assert_eq!((service.overrides, service.users), (false, vec![9]));
    }

    #[test]
    fn a_set_user_id_program_gets_only_what_both_users_may() {
        let both = Permissions::of_process(&STATUS.replace("\t0\t0\t0\t0", "\t9\t0\t0\t0"), true).unwrap();
        assert_eq!((both.overrides, both.users), (false, vec![9, 0]));
        assert_eq!(Permissions::of_process("Name:\tx\n", true), None);
    }
}
