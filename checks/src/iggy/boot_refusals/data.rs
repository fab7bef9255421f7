//! Refusals over the data directory.

use super::Effect::{Exits, Follows, ServesLess};
use super::Refusal;

const INSPECT: &str = "Copy the data directory first, to a disk with room (`cp -a --reflink=auto`); then let `warden inspect --scan full` \
                       tell which file it is and what is known to help. Empty and delete nothing before.";
const METADATA: &str = "Copy metadata/ first, to a disk with room (`cp -a --reflink=auto`); then put the file back from a backup or a copy \
                        of the same state. No other remedy is known. Start no server on a directory without it: streams \
                        created anew take the numbers, and the files, of the old ones.";
const LIMIT: &str = "Look at the limit of open files first (`LimitNOFILE=`, four for each partition and two more for each sealed \
                     segment): too few look the same, and raising it loses nothing. Else: copy the data directory \
                     (`cp -a --reflink=auto`) and let `warden inspect --scan full` tell which file it is.";

pub const REFUSALS: &[Refusal] = &[
    Refusal {
        id: "too-many-open-files",
        signs: &["Too many open files", "os error 24"],
        meaning: "the limit of open files is too low for the partitions on disk",
        advice: "Raise `LimitNOFILE=` of the unit; the data is not damaged by it.",
        effect: Exits,
    },
    Refusal {
        id: "message-index-divergence",
        signs: &["message/index divergence", "RecoveredSegmentSizeDivergence"],
        meaning: "where the index of a segment leads, its log has no batch: the log is cut or damaged there, or the index is \
                  wrong, or there were too few file descriptors to open it",
        advice: LIMIT,
        effect: Exits,
    },
    Refusal {
        id: "segment-chain-refused",
        signs: &[
            "refusing the recovered segment chain",
            "recovered an unusable segment chain",
            "PartitionChainRefused",
            "so the chain cannot be served past it",
            "leaving a hole",
        ],
        meaning: "the segments of a partition do not follow on each other: the server moves all of them aside (P.fenced.N) and \
                  goes on with an empty partition, from offset 0",
        advice: "Stop the producers of this partition, and copy P.fenced.N first (`cp -a --reflink=auto`): it holds every message. Then \
                 bring back what broke the chain (an index that was emptied, a log that was cut) from a backup, stop \
                 the server and move the segments back; `warden inspect --scan full` tells which file it is.",
        effect: ServesLess,
    },
    Refusal {
        id: "segments-moved-aside",
        signs: &["quarantined the refused segment files"],
        meaning: "the server moved the segments of a partition aside (P.fenced.N) and began it anew",
        advice: "Copy P.fenced.N first (`cp -a --reflink=auto`) and keep it: it is the only copy of these messages.",
        effect: ServesLess,
    },
    Refusal {
        id: "segments-not-moved-aside",
        signs: &["failed to quarantine the refused segment files"],
        meaning: "the segments of a partition do not follow on each other, and could not be moved aside: the partition is not served",
        advice: INSPECT,
        effect: ServesLess,
    },
    Refusal {
        id: "index-cannot-be-opened",
        signs: &["failed to open sparse index during recovery"],
        meaning: "the index of a segment is missing or cannot be opened; any file in a partition whose name is a number and `.log` \
                  counts as a segment",
        advice: LIMIT,
        effect: Exits,
    },
    Refusal {
        id: "index-cannot-be-read",
        signs: &["failed to read first sparse index entry", "failed to read last sparse index entry"],
        meaning: "the index of a segment cannot be read",
        advice: INSPECT,
        effect: Exits,
    },
    Refusal {
        id: "segment-cannot-be-opened",
        signs: &["failed to open persisted segment storage during recovery"],
        meaning: "a segment cannot be opened: its rights, the disk, or too few file descriptors",
        advice: LIMIT,
        effect: Exits,
    },
    Refusal {
        id: "partition-cannot-be-listed",
        signs: &[
            "failed to list partition directory during recovery",
            "CannotReadPartitions",
            "Cannot read partitions directories",
        ],
        meaning: "the folder of a partition cannot be read, or (0.8) a message in it does not fit its checksum",
        advice: INSPECT,
        effect: Exits,
    },
    Refusal {
        id: "snapshot-behind-superblock",
        signs: &["CheckpointAheadOfSnapshot", "references checkpoint op"],
        meaning: "metadata/snapshot.bin is missing, or older than the superblock beside it",
        advice: METADATA,
        effect: Exits,
    },
    Refusal {
        id: "snapshot-not-of-superblock",
        signs: &["CheckpointChecksumMismatch", "does not match the superblock's checkpoint checksum"],
        meaning: "metadata/snapshot.bin is damaged, or not the one that the superblock belongs to",
        advice: METADATA,
        effect: Exits,
    },
    Refusal {
        id: "snapshot-checksum",
        signs: &["Snapshot(ChecksumMismatch", "snapshot checksum mismatch"],
        meaning: "metadata/snapshot.bin does not fit its checksum",
        advice: METADATA,
        effect: Exits,
    },
    Refusal {
        id: "snapshot-format",
        signs: &["UnsupportedFormatVersion", "snapshot format version"],
        meaning: "metadata/snapshot.bin was written by another version of the server",
        advice: "Start the version that wrote it; copy the data directory before it is upgraded again.",
        effect: Exits,
    },
    Refusal {
        id: "snapshot-unreadable",
        signs: &[
            "Snapshot(Deserialize",
            "Snapshot(Truncated",
            "Snapshot(Io",
            "recovery snapshot error",
            "snapshot file truncated",
        ],
        meaning: "metadata/snapshot.bin is cut, or cannot be read",
        advice: METADATA,
        effect: Exits,
    },
    Refusal {
        id: "journal-damaged",
        signs: &["interior WAL corruption", "mid-file WAL corruption"],
        meaning: "metadata/journal.wal is damaged, with operations behind it",
        advice: METADATA,
        effect: Exits,
    },
    Refusal {
        id: "journal-gap",
        signs: &["metadata WAL does not connect at this op", "dropped the disconnected metadata WAL suffix"],
        meaning: "operations are missing in metadata/journal.wal: the server drops those behind them for good, and streams, topics \
                  or users are gone or come back",
        advice: "Stop the server; put metadata/ back from a copy that was made before this start, and journal.wal from a backup. Without a \
                 copy, hold the streams, topics and users against what should be there.",
        effect: ServesLess,
    },
    Refusal {
        id: "journal-torn",
        signs: &["truncating torn WAL tail"],
        meaning: "the last operation in metadata/journal.wal was cut off: after a crash it was never acknowledged; where the file was \
                  cut otherwise, an acknowledged one is undone (a stream that was deleted comes back)",
        advice: "Hold the streams, topics and users against what should be there. After anything but a crash, put the file back from a copy.",
        effect: ServesLess,
    },
    Refusal {
        id: "journal-unreadable",
        signs: &["MetadataRecovery(Journal", "recovery journal error", "journal poisoned at"],
        meaning: "metadata/journal.wal cannot be read or written",
        advice: METADATA,
        effect: Exits,
    },
    Refusal {
        id: "superblock-version",
        signs: &[
            "SuperblockUnreadable…version: Some",
            "superblock in…format version…is unrecognized by this build",
        ],
        meaning: "the superblock was written by a newer server",
        advice: "Start the version that wrote it, not an older one.",
        effect: Exits,
    },
    Refusal {
        id: "superblock-damaged",
        signs: &[
            "MetadataRecovery(SuperblockUnreadable",
            "superblock present but a copy holds bytes that do not verify",
        ],
        meaning: "metadata/superblock.a or .b does not fit its checksum",
        advice: "Copy metadata/ first, to a disk with room (`cp -a --reflink=auto`); `warden inspect` names the damaged slot. Of a server without a \
                 cluster, move that slot out of metadata/ (both, if both are damaged): it starts with all streams and messages. In a \
                 cluster, bring it back from a backup or let the replicas rebuild the node.",
        effect: Exits,
    },
    Refusal {
        id: "superblock-undecodable",
        signs: &[
            "MetadataRecovery(SuperblockUndecodable",
            "did not decode into VSR state",
            "VsrState needs",
            "exceeds view",
        ],
        meaning: "the superblock fits its checksum, and what it says cannot be",
        advice: METADATA,
        effect: Exits,
    },
    Refusal {
        id: "superblock-of-another",
        signs: &[
            "MetadataRecovery(SuperblockIdentityMismatch",
            "the metadata directory belongs to another cluster or replica",
        ],
        meaning: "the data directory belongs to another cluster or replica, or the cluster was resized",
        advice: "Compare `--replica-id`, the cluster's nodes and `system.path` with what they were; change the configuration, not the data.",
        effect: Exits,
    },
    Refusal {
        id: "superblock-unreadable",
        signs: &["MetadataRecovery(Superblock {", "recovery superblock error"],
        meaning: "the superblocks cannot be opened or read",
        advice: INSPECT,
        effect: Exits,
    },
    Refusal {
        id: "client-table-damaged",
        signs: &["ClientTableDecode", "recovery client-table decode error"],
        meaning: "the table of clients in metadata/snapshot.bin cannot be read",
        advice: METADATA,
        effect: Exits,
    },
    Refusal {
        id: "operation-cannot-be-applied",
        signs: &["MetadataRecovery(StateMachine", "recovery state machine error"],
        meaning: "an operation in metadata/journal.wal cannot be applied by this version of the server",
        advice: "Start the version that wrote it; copy the data directory first (`cp -a --reflink=auto`).",
        effect: Exits,
    },
    Refusal {
        id: "metadata-io",
        signs: &["MetadataRecovery(Io", "recovery I/O error"],
        meaning: "the metadata cannot be read or written: rights, a full disk, or an error of the disk",
        advice: "Look at the disk and the rights of metadata/ (`df`, `ls -ln`, `dmesg`).",
        effect: Exits,
    },
    Refusal {
        id: "partition-superblock",
        signs: &[
            "cannot trust this partition's durable consensus state",
            "failed to open partition superblock",
            "partition superblock at",
            "PartitionSuperblock",
        ],
        meaning: "the superblock of a partition cannot be trusted: the partition is left out, its messages stay where they are",
        advice: "Copy the partition first (`cp -a --reflink=auto`); then put its superblock back from a backup, or ask. No other remedy was tried.",
        effect: ServesLess,
    },
    Refusal {
        id: "consumer-offset-damaged",
        signs: &["offset file failed its checksum"],
        meaning: "the offset of a consumer did not fit its checksum: the server removed it, and the consumer begins anew",
        advice: "Store the offset by hand where reading from the start is not wanted.",
        effect: ServesLess,
    },
    Refusal {
        id: "consumer-offset-torn",
        signs: &[
            "failed to read consumer offset from file (truncated)",
            "failed to read consumer group offset from file (truncated)",
        ],
        meaning: "the offset of a consumer is cut: the consumer begins anew",
        advice: "Store the offset by hand where reading from the start is not wanted.",
        effect: ServesLess,
    },
    Refusal {
        id: "consumer-offsets-unreadable",
        signs: &[
            "ConsumerOffsetsLoad",
            "failed to load persisted",
            "CannotReadConsumerOffsets",
            "Failed to read consumers offsets from path",
        ],
        meaning: "the folder of the consumers' offsets cannot be read",
        advice: "Look at its rights and at the disk (`ls -ln`, `dmesg`).",
        effect: Exits,
    },
    Refusal {
        id: "old-state-damaged",
        signs: &[
            "State file is corrupted",
            "State file corrupted",
            "StateFileCorrupted",
            "Invalid state entry checksum",
            "InvalidStateEntryChecksum",
            "STATE - failed to parse file state",
            "failed to parse entry command from bytes",
        ],
        meaning: "state/log (0.8) is cut or damaged, or its encryption key is another",
        advice: "Look at the encryption key first. Else copy state/ (`cp -a --reflink=auto`), and put the file back from a backup; no other remedy \
                 is known.",
        effect: Exits,
    },
    Refusal {
        id: "old-state-missing",
        signs: &["State file not found", "StateFileNotFound"],
        meaning: "state/log (0.8) is missing",
        advice: "Look at `system.path` first. Else put the file back from a backup; create no streams before.",
        effect: Exits,
    },
    Refusal {
        id: "old-message-checksum",
        signs: &[
            "Failed to validate message checksum for segment",
            "Failed to load messages from disk for checksum validation",
        ],
        meaning: "a message (0.8) does not fit its checksum, and the server was told to check them at its start",
        advice: INSPECT,
        effect: Exits,
    },
    Refusal {
        id: "old-index",
        signs: &[
            "Failed to rebuild index for partition",
            "Failed to load indexes during startup",
            "Index migration error",
            "IndexMigrationError",
        ],
        meaning: "an index (0.8) cannot be read or made anew",
        advice: INSPECT,
        effect: Exits,
    },
    Refusal {
        id: "old-index-torn",
        signs: &["Index data must be exactly 16 bytes"],
        meaning: "an index (0.8) ends within an entry",
        advice: "Copy the partition first (`cp -a --reflink=auto`); then `warden inspect` names the index, and where its last whole entry ends: cut \
                 behind that, every message that it knows is kept.",
        effect: Exits,
    },
    Refusal {
        id: "old-info",
        signs: &["Failed to load system info from disk"],
        meaning: "state/info (0.8) cannot be read",
        advice: INSPECT,
        effect: Exits,
    },
];

/// What only tells that something went wrong; the cause stands in another line.
pub const GENERAL: &[Refusal] = &[
    Refusal {
        id: "metadata-recovery",
        signs: &["failed to recover metadata snapshot and journal", "MetadataRecovery("],
        meaning: "the metadata could not be recovered; the cause stands behind `Error:` on stderr",
        advice: "Read the last `Error:` of the journal (`journalctl -u UNIT -n 50`); the log file does not have it.",
        effect: Follows,
    },
    Refusal {
        id: "cannot-read-file",
        signs: &["Cannot read file", "CannotReadFile"],
        meaning: "a file of the data directory cannot be opened or read; too few file descriptors look the same",
        advice: LIMIT,
        effect: Exits,
    },
    Refusal {
        id: "partition-not-loaded",
        signs: &["failed to load partition log during server bootstrap"],
        meaning: "a partition could not be loaded; the cause stands behind `error=`",
        advice: INSPECT,
        effect: Exits,
    },
    Refusal {
        id: "another-shard-failed",
        signs: &[
            "MetadataHandoffAborted",
            "aborted while waiting for shard-0",
            "ShardBootstrapBarrierAborted",
            "aborted before binding listeners",
        ],
        meaning: "a thread gave up because another one had; the cause is in its line",
        advice: "Read the lines of the other shards.",
        effect: Follows,
    },
    Refusal {
        id: "shard-failed",
        signs: &[
            "shard thread(s) failed",
            "ShardJoinFailures",
            "shard thread returned error",
            "Shard failure",
        ],
        meaning: "a thread of the server ended with an error",
        advice: "Read what stands behind it, and the lines before.",
        effect: Follows,
    },
];
