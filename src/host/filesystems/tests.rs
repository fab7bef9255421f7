//! Mounts, grouped and measured.

use super::*;

const GIB: u64 = 1 << 30;

fn space(size: u64, free: u64) -> Space {
    Space { size, free, available: free, inodes: 100, inodes_free: 50, read_only: false }
}

fn points(mountinfo: &str) -> Vec<String> {
    distinct(&Mount::parse_all(mountinfo)).into_iter().map(|mount| mount.point.clone()).collect()
}

#[test]
fn overlays_binds_and_subvolumes_fold_into_the_filesystem_below() {
    let mountinfo = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
         2 1 0:60 / /var/lib/docker/overlay2/a/merged rw - overlay overlay rw,lowerdir=/l,upperdir=/var/lib/docker/overlay2/a/diff,workdir=/w\n\
         3 1 0:61 / /run/view ro - overlay overlay ro,lowerdir=/l1:/l2\n\
         4 1 8:1 /srv /mnt/bind rw - ext4 /dev/sda1 rw\n\
         5 1 0:40 /@home /home rw - btrfs /dev/sdb rw,subvol=/@home\n\
         6 1 0:40 /@var /srv rw - btrfs /dev/sdb rw,subvol=/@var\n\
         7 1 7:1 / /snap/core/1 ro - squashfs /dev/loop1 ro\n\
         8 1 0:42 / /proc rw - proc proc rw\n\
         9 1 0:43 / /misc rw - autofs systemd-1 rw,fd=1\n";
    assert_eq!(points(mountinfo), ["/", "/home"]);
}

#[test]
fn an_overlay_whose_upper_directory_is_out_of_sight_stands_for_itself() {
    let container = "1 0 0:60 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/var/lib/docker/overlay2/a/diff\n\
         2 1 8:1 / /var/lib/iggy rw - ext4 /dev/sda1 rw\n3 1 8:2 / /var/lib rw - ext4 /dev/sda2 rw\n";
    assert_eq!(points(container), ["/", "/var/lib/iggy", "/var/lib"]);
}

#[test]
fn what_comes_from_another_host_is_known_by_its_source() {
    let kind = |text: &str| Mount::parse_all(&format!("1 0 {text} rw\n"))[0].kind();
    assert_eq!(kind("0:50 / /mnt rw - newnetfs host:/share"), Kind::Network);
    assert_eq!(kind("0:50 / /mnt rw - bcachefs /dev/sda:/dev/sdb"), Kind::Disk);
    assert_eq!(kind("0:50 / /mnt rw - zfs tank/iggy"), Kind::Disk);
    assert_eq!(kind("0:50 / /mnt rw - fuse.portal portal"), Kind::Process);
    assert_eq!(kind("8:1 / /mnt rw - fuseblk /dev/sda1"), Kind::Disk);
}

#[test]
fn a_mount_that_another_hides_is_not_measured_for_it() {
    let hidden = "1 0 0:1 / / rw - tmpfs rootfs rw\n2 0 8:1 / / rw - ext4 /dev/sda1 rw\n";
    let mounts = Mount::parse_all(hidden);
    assert_eq!(distinct(&mounts), [&mounts[1]]);
}

#[test]
fn a_private_fuse_mount_is_not_asked_and_a_read_only_one_with_nothing_free_is_an_image() {
    let mounts = Mount::parse_all(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
         2 1 0:51 / /run/user/1000/doc rw - fuse.portal portal rw,user_id=1000,group_id=1000\n\
         3 1 0:52 / /home/u/nas rw - fuse.sshfs u@nas: rw,user_id=1000,group_id=1000\n\
         4 1 0:53 / /snap/a/1 ro - fuse.snapfuse snapfuse ro,user_id=0,group_id=0,allow_other\n\
         5 1 0:54 / /mnt/pool rw - fuse.mergerfs a:b rw,user_id=0,group_id=0,allow_other\n\
         6 1 8:17 / /usr ro - ext4 /dev/sdb1 ro\n",
    );
    let mut asked = Vec::new();
    let (measured, failed) = measure(
        &mounts,
        None,
        |_| true,
        |point| {
            asked.push(point.to_owned());
            Ok::<_, ()>(if point.starts_with("/snap") || point == "/usr" { space(9, 0) } else { space(9, 4) })
        },
    );
    assert_eq!(asked, ["/", "/snap/a/1", "/mnt/pool", "/usr"]);
    let kept: Vec<&str> = measured.iter().map(|one| one.mount.point.as_str()).collect();
    assert_eq!((kept, failed.len()), (vec!["/", "/mnt/pool"], 0));
}

#[test]
fn datasets_of_a_pool_are_one_filesystem_and_one_with_a_quota_is_another() {
    let mounts = Mount::parse_all(
        "1 0 0:30 / / rw - zfs rpool/ROOT/debian rw\n2 1 0:31 / /home rw - zfs rpool/home rw\n\
         3 1 0:32 / /var/lib/iggy rw - zfs rpool/iggy rw\n4 1 0:33 / /small rw - zfs rpool/small rw\n",
    );
    let answer = |point: &str| match point {
        "/home" => Ok::<_, ()>(space(90 * GIB, 10 * GIB)),
        "/small" => Ok(space(GIB, GIB / 2)),
        _ => Ok(space(15 * GIB, 10 * GIB)),
    };
    let (measured, _) = measure(&mounts, Some(&mounts[2]), |_| true, answer);
    let figures: Vec<_> =
        measured.iter().map(|one| (one.mount.point.as_str(), one.space.size / GIB, one.holds_data)).collect();
    assert_eq!(figures, [("/var/lib/iggy", 100, true), ("/small", 1, false)]);
}

#[test]
fn a_mount_out_of_reach_is_measured_by_another_of_the_same_filesystem() {
    let mounts =
        Mount::parse_all("1 0 8:1 /a /root/a rw - xfs /dev/sda1 rw\n2 0 8:1 /b /srv rw - xfs /dev/sda1 rw\n");
    let (measured, failed) = measure(
        &mounts,
        None,
        |_| true,
        |point| {
            if point == "/srv" { Ok(space(9, 4)) } else { Err("denied") }
        },
    );
    assert_eq!((measured[0].mount.point.as_str(), failed.len()), ("/srv", 0));
}
