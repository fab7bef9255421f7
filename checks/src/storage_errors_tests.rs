//! Lines of real kernels, 4.x to 6.x.

use super::*;

fn said(text: &str) -> Option<(String, Verdict)> {
    storage_error(text).filter(|error| error.severity > Pass).map(|error| (error.device, error.severity))
}

#[test]
fn lines_of_a_failing_device_name_it() {
    let lines = [
        (
            "blk_update_request: I/O error, dev sda, sector 7 op 0x0:(READ) flags 0x80700 phys_seg 1 prio class 0",
            "sda",
        ),
        ("print_req_error: critical medium error, dev sdc, sector 1934", "sdc"),
        (
            "critical target error, dev nvme0n1, sector 1 op 0x1:(WRITE) flags 0x800 phys_seg 1 prio class 2",
            "nvme0n1",
        ),
        ("device offline error, dev sdb, sector 12 op 0x1:(WRITE) flags 0x0 phys_seg 1 prio class 0", "sdb"),
        ("critical space allocation error, dev dm-6, sector 4194304 op 0x1:(WRITE)", "dm-6"),
        ("I/O error, dev cciss/c0d0, sector 1", "cciss/c0d0"),
        ("Buffer I/O error on dev dm-0, logical block 12, lost async page write", "dm-0"),
        ("Buffer I/O error on device sda1, logical block 0", "sda1"),
        (
            "EXT4-fs error (device dm-0): ext4_find_entry:1455: inode #812: comm cron: reading directory lblock 0",
            "dm-0",
        ),
        ("EXT4-fs (vda1): Remounting filesystem read-only", "vda1"),
        (
            "EXT4-fs warning (device sdb1): ext4_end_bio:343: I/O error 10 writing to inode 5 starting block 8)",
            "sdb1",
        ),
        ("JBD2: Detected IO errors while flushing file data on dm-0-8", "dm-0"),
        ("Aborting journal on device sda2-8.", "sda2"),
        ("XFS (sdb1): Metadata CRC error detected at xfs_agf_read_verify+0x1, xfs_agf block 0x1", "sdb1"),
        ("XFS (dm-1): log I/O error -5", "dm-1"),
        ("XFS (dm-1): Filesystem has been shut down due to log error (0x2).", "dm-1"),
        (
            "XFS (dm-3): Corruption of in-memory data (0x8) detected at xfs_defer_finish. Shutting down filesystem.",
            "dm-3",
        ),
        ("BTRFS error (device sda1): bdev /dev/sdb1 errs: wr 1, rd 0, flush 0, corrupt 0, gen 0", "sdb1"),
        ("BTRFS info (device sda1: state EA): forced readonly", "sda1"),
        ("BTRFS: error (device sda1: state A) in btrfs_commit_transaction:2494: errno=-5 IO failure", "sda1"),
        ("BTRFS warning (device sdb): devid 2 uuid 5dcd is missing", "sdb"),
        ("nvme nvme0: I/O 12 QID 3 timeout, aborting", "nvme0"),
        (
            "nvme nvme1: I/O tag 12 (b00c) opcode 0x2 (I/O Cmd) QID 3 timeout, aborting req_op:READ(0) size:4096",
            "nvme1",
        ),
        ("nvme nvme0: controller is down; will reset: CSTS=0xffffffff, PCI_STATUS=0x10", "nvme0"),
        (
            "nvme0n1: Read(0x2) @ LBA 1234, 8 blocks, Unrecovered Read Error (sct 0x2 / sc 0x81) MORE DNR",
            "nvme0n1",
        ),
        ("ata1.00: failed command: READ FPDMA QUEUED", "ata1.00"),
        ("sd 0:0:0:0: [sda] tag#3 Sense Key : Medium Error [current]", "sda"),
        ("sd 2:0:0:0: rejecting I/O to offline device", "2:0:0:0"),
        ("md/raid1:md0: Disk failure on sdb1, disabling device.", "sdb1"),
        ("md: kicking non-fresh sdc1 from array!", "sdc1"),
        ("device-mapper: thin: 253:4: switching pool to out-of-data-space (queue IO) mode", "253:4"),
        ("WARNING: Pool 'tank' has encountered an uncorrectable I/O failure and has been suspended.", "tank"),
        ("megaraid_sas 0000:03:00.0: 1193 (607963402s/0x0001/CRIT) - VD 00/0 is now DEGRADED", "VD 00/0"),
    ];
    for (text, device) in lines {
        assert_eq!(said(text), Some((device.to_owned(), Fail)), "{text}");
    }
}

#[test]
fn lines_of_a_healthy_boot_and_of_refused_extras_are_no_fault() {
    let harmless = [
        "nvme nvme0: Shutdown timeout set to 10 seconds",
        "nvme nvme0: 8/0/0 default/read/poll queues",
        "nvme0: Admin Cmd(0x6), I/O Error (sct 0x0 / sc 0x2) MORE DNR",
        "operation not supported error, dev loop0, sector 9 op 0x9:(WRITE_ZEROES) flags 0x8000800",
        "EXT4-fs (vda): re-mounted. Opts: errors=remount-ro",
        "EXT4-fs (sda1): mounted filesystem 5dcd ro with ordered data mode. Quota mode: none.",
        "XFS (sdb1): Mounting V5 Filesystem",
        "XFS (sdb1): Unmounting Filesystem 5dcd",
        "BTRFS info (device sda): bdev /dev/sdb errs: wr 0, rd 0, flush 0, corrupt 2, gen 0",
        "floppy: error 10 while reading block 0",
        "ata3: SATA link down (SStatus 0 SControl 300)",
        "ata2.00: failed command: PACKET",
        "sr 1:0:0:0: [sr0] tag#8 Sense Key : Medium Error [current]",
        "sd 6:0:0:0: [sdb] Sense Key : Not Ready [current]",
        "md: data-check of RAID array md0",
        "md/raid1:md0: active with 2 out of 2 mirrors",
    ];
    for text in harmless {
        assert_eq!(said(text), None, "{text}");
    }
    let lesser = [
        ("critical target error, dev sda, sector 9 op 0x3:(DISCARD) flags 0x800 phys_seg 1", "sda", Note),
        ("ata1.00: failed command: DATA SET MANAGEMENT", "ata1.00", Note),
        ("I/O error, dev loop3, sector 0", "loop3", Note),
        ("nvme nvme0: I/O 8 QID 5 timeout, completion polled", "nvme0", Warn),
        ("md/raid1:md0: read error corrected (8 sectors at 1234 on sda1)", "md0", Warn),
        ("BTRFS info (device sda): read error corrected: ino 1 off 0 (dev /dev/sdb sector 9)", "sdb", Warn),
        ("nfs: server nas not responding, still trying", "nas", Warn),
    ];
    for (text, device, severity) in lesser {
        assert_eq!(said(text), Some((device.to_owned(), severity)), "{text}");
    }
}

#[test]
fn a_drive_without_a_medium_is_left_out_and_what_is_over_is_a_note() {
    let line =
        |text: &str| LogLine { at_us: None, level: None, origin: String::new(), text: text.to_owned() };
    let lines = [
        line("Buffer I/O error on dev fd0, logical block 0, async page read"),
        line("device-mapper: thin: 253:4: switching pool to out-of-data-space (error IO) mode"),
        line("device-mapper: multipath: 253:3: Failing path 8:16."),
        line("device-mapper: thin: 253:4: switching pool to write mode"),
    ];
    let lines: Vec<&LogLine> = lines.iter().collect();
    let severities: Vec<_> = storage_errors(&lines, |device| device == "fd0")
        .into_iter()
        .map(|error| error.map(|error| (error.device, error.severity)))
        .collect();
    let pool = Some(("253:4".to_owned(), Note));
    assert_eq!(severities, [None, pool, Some(("8:16".to_owned(), Warn)), None]);
}
