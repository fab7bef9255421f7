//! Each refusal by a line that a server wrote, or writes by its source.

use std::collections::BTreeSet;

use super::*;

/// From servers of 0.9.0-edge.5 and 0.8.0 under damage, with shorter paths; the others follow the text of their error in the source.
const LINES: &[(&str, &str)] = &[
    (
        "message-index-divergence",
        "2026-12-01T03:02:25.293386Z ERROR shard-0 server::bootstrap: failed to load partition log during server bootstrap stream_id=0 topic_id=0 partition_id=0 error=recovered segment for stream 0, topic 0, partition 0 at start_offset 1600 has message/index divergence (messages_size=1304937, indexed_size=777210, end_offset=2800); recovery aborted before opening listeners. Restore the partition from a healthy replica or snapshot, or move the segment aside for offline repair before restarting.",
    ),
    (
        "message-index-divergence",
        "Error: ShardJoinFailures { failures: [ShardJoinFailure { shard_id: 0, kind: Error(RecoveredSegmentSizeDivergence { stream_id: 0, topic_id: 0, partition_id: 0, start_offset: 1600, end_offset: 2800, messages_size_bytes: 3, indexed_size_bytes: 777210 }) }] }",
    ),
    (
        "segment-chain-refused",
        "2026-12-01T03:02:25.618140Z ERROR shard-0 server::bootstrap: refusing the recovered segment chain; fencing this partition and rebuilding it empty for the rejoin path stream_id=0 topic_id=0 partition_id=0 partition_dir=\"/d/streams/0/topics/0/partitions/0\" reason=segment 1600 ends at offset 3199 but the next starts at 3600, leaving a hole",
    ),
    (
        "segment-chain-refused",
        "partition 0/0/0 at /d recovered an unusable segment chain: segment 1600 is empty yet 3600 follows it, so the chain cannot be served past it",
    ),
    (
        "segments-moved-aside",
        "2026-12-01T03:02:25.619264Z ERROR shard-0 server::bootstrap: quarantined the refused segment files; they are kept for inspection stream_id=0 topic_id=0 partition_id=0 fenced_dir=\"/d/streams/0/topics/0/partitions/0.fenced.0\"",
    ),
    (
        "segments-not-moved-aside",
        "ERROR shard-0 server::bootstrap: failed to quarantine the refused segment files; leaving this partition tombstoned rather than rebuilding over them",
    ),
    (
        "index-cannot-be-opened",
        "2026-12-01T03:03:14.115285Z ERROR shard-0 server::segment_recovery: failed to open sparse index during recovery stream_id=0 topic_id=0 partition_id=0 path=/d/00000000000000001600.index error=Cannot read file",
    ),
    (
        "index-cannot-be-read",
        "ERROR shard-0 server::segment_recovery: failed to read last sparse index entry during recovery stream_id=0",
    ),
    (
        "segment-cannot-be-opened",
        "ERROR shard-0 server::segment_recovery: failed to open persisted segment storage during recovery stream_id=0",
    ),
    (
        "partition-cannot-be-listed",
        "ERROR shard-0 server::segment_recovery: failed to list partition directory during recovery partition_path=\"/d\" error=Permission denied (os error 13)",
    ),
    (
        "partition-not-loaded",
        "ERROR shard-0 server::bootstrap: failed to load partition log during server bootstrap stream_id=0 error=Cannot decode",
    ),
    (
        "cannot-read-file",
        "2026-12-01T03:03:14.126372Z ERROR    main server::bootstrap: shard thread returned error shard_id=0 error=Cannot read file",
    ),
    (
        "cannot-read-file",
        "Error: ShardJoinFailures { failures: [ShardJoinFailure { shard_id: 0, kind: Error(Iggy(CannotReadFile)) }] }",
    ),
    (
        "too-many-open-files",
        "ERROR shard-0 server::segment_recovery: failed to open sparse index during recovery error=Too many open files (os error 24)",
    ),
    (
        "snapshot-behind-superblock",
        "Error: ShardJoinFailures { failures: [ShardJoinFailure { shard_id: 0, kind: Error(MetadataRecovery(CheckpointAheadOfSnapshot { dir: \"/d/metadata\", checkpoint_op: 192, snapshot_op: 0 })) }] }",
    ),
    (
        "snapshot-behind-superblock",
        "superblock in /d/metadata references checkpoint op 192 but the on-disk snapshot is only at op 0: a lost or reverted snapshot write, refusing boot",
    ),
    (
        "snapshot-not-of-superblock",
        "Error: ShardJoinFailures { failures: [ShardJoinFailure { shard_id: 0, kind: Error(MetadataRecovery(CheckpointChecksumMismatch { dir: \"/d\", op: 1, expected: 2, actual: 3 })) }] }",
    ),
    (
        "snapshot-not-of-superblock",
        "snapshot at op 1 in /d does not match the superblock's checkpoint checksum (superblock 0x2, snapshot 0x3): corrupt or torn snapshot, refusing boot",
    ),
    (
        "snapshot-checksum",
        "Error: ShardJoinFailures { failures: [ShardJoinFailure { shard_id: 0, kind: Error(MetadataRecovery(Snapshot(ChecksumMismatch { expected: 9167104421336201969, actual: 5803590952902298751 }))) }] }",
    ),
    ("snapshot-checksum", "recovery snapshot error: snapshot checksum mismatch: expected 0x1, actual 0x2"),
    (
        "snapshot-format",
        "recovery snapshot error: snapshot format version 2 is incompatible with this build, which reads version 3",
    ),
    (
        "snapshot-unreadable",
        "Error: ShardJoinFailures { failures: [ShardJoinFailure { shard_id: 0, kind: Error(MetadataRecovery(Snapshot(Deserialize(InvalidDataRead(Kind(UnexpectedEof)))))) }] }",
    ),
    (
        "snapshot-unreadable",
        "recovery snapshot error: snapshot file truncated: 3 bytes (too short for checksum)",
    ),
    (
        "journal-damaged",
        "Error: ShardJoinFailures { failures: [ShardJoinFailure { shard_id: 0, kind: Error(MetadataRecovery(Journal(Io(Custom { kind: InvalidData, error: \"interior WAL corruption at pos 1312 (op 197, operation DeleteStream): prepare body checksum mismatch with 35275 bytes of entries following; refusing to truncate and discard the committed suffix\" })))) }] }",
    ),
    (
        "journal-damaged",
        "mid-file WAL corruption at pos 9: corrupt or non-prepare entry; a complete entry starts at pos 300 (600 trailing bytes), so this is not a torn tail; refusing to truncate and discard committed entries",
    ),
    (
        "journal-gap",
        "2026-12-01T03:03:40.652386Z ERROR shard-0 metadata::impls::recovery: metadata WAL does not connect at this op; stopping replay and dropping the suffix for VSR repair op=233 previous_op=231 gap=true broken_chain=true",
    ),
    (
        "journal-gap",
        "2026-12-01T03:03:40.660075Z  WARN shard-0 metadata::impls::recovery: dropped the disconnected metadata WAL suffix; the cluster re-supplies these ops break_op=233 removed=99 last_journaled_op=231",
    ),
    (
        "journal-torn",
        "2026-12-01T03:03:30.787162Z  WARN shard-0 journal::prepare_journal: truncating torn WAL tail; no complete entry follows the damage pos=36586 trailing=164 reason=\"leftover bytes shorter than a header\"",
    ),
    ("journal-unreadable", "recovery journal error: journal I/O error: Input/output error (os error 5)"),
    (
        "superblock-damaged",
        "Error: ShardJoinFailures { failures: [ShardJoinFailure { shard_id: 0, kind: Error(MetadataRecovery(SuperblockUnreadable { dir: \"/d/metadata\", version: None })) }] }",
    ),
    (
        "superblock-damaged",
        "superblock present but a copy holds bytes that do not verify (bit-rot or a checksum failure), so its latest generation cannot be established: refusing boot; inspect superblock.a and superblock.b in /d",
    ),
    (
        "superblock-version",
        "Error: ShardJoinFailures { failures: [ShardJoinFailure { shard_id: 0, kind: Error(MetadataRecovery(SuperblockUnreadable { dir: \"/d\", version: Some(2) })) }] }",
    ),
    (
        "superblock-version",
        "superblock in /d present but its format version 2 is unrecognized by this build (a downgrade, or a corrupt version field): refusing boot",
    ),
    (
        "superblock-undecodable",
        "superblock record in /d is present and checksum-clean but its payload did not decode into VSR state (VsrState log_view 1 exceeds view 0, which no replica can reach): unrecoverable durable consensus state, refusing boot",
    ),
    (
        "superblock-of-another",
        "superblock replica_id in /d is 1 but this replica is configured with 0: the metadata directory belongs to another cluster or replica, or the cluster was resized without reconfiguration, refusing boot",
    ),
    (
        "superblock-unreadable",
        "recovery superblock error in /d (superblock.a / superblock.b): Permission denied (os error 13)",
    ),
    ("client-table-damaged", "recovery client-table decode error: short reply"),
    ("operation-cannot-be-applied", "recovery state machine error: Invalid command"),
    ("metadata-io", "recovery I/O error: No space left on device (os error 28)"),
    (
        "metadata-recovery",
        "2026-12-01T03:03:29.325579Z ERROR    main server::bootstrap: shard thread returned error shard_id=0 error=failed to recover metadata snapshot and journal",
    ),
    (
        "partition-superblock",
        "ERROR shard-0 server::bootstrap: cannot trust this partition's durable consensus state; tombstoning the partition and continuing to boot the rest of the shard error=partition superblock at /d is present but a copy holds bytes that do not verify (bit-rot or a checksum failure), so its latest generation cannot be established",
    ),
    (
        "consumer-offset-damaged",
        "2026-12-01T03:03:46.424284Z ERROR shard-0 server::offset_recovery: STREAMING_PARTITIONS - consumer offset file failed its checksum (offset: 1235, expected: 1, found: 2), path: /d/offsets/consumers/1, removing it and resuming this consumer from the start.",
    ),
    (
        "consumer-offset-torn",
        "2026-12-01T03:03:49.251251Z  WARN shard-0 server::offset_recovery: STREAMING_PARTITIONS - failed to read consumer offset from file (truncated), path: /d/offsets/consumers/1, skipping.",
    ),
    (
        "consumer-offsets-unreadable",
        "failed to load persisted consumer offsets for stream 0, topic 0, partition 0 from /d",
    ),
    (
        "old-state-damaged",
        "ERROR shard-0 server::state::file: State file is corrupted, expected index: 3, got: 9",
    ),
    ("old-state-damaged", "Invalid state entry checksum: 1, expected: 2, for index: 3"),
    ("old-state-missing", "State file not found"),
    (
        "old-message-checksum",
        "ERROR shard-0 server::bootstrap: Failed to validate message checksum for segment at offset 0 in stream ID: 0, topic ID: 0, partition ID: 0, error: Invalid message checksum",
    ),
    (
        "old-index",
        "Failed to rebuild index for partition with ID: 0 for stream with ID: 0 and topic with ID: 0. Error: x",
    ),
    (
        "old-index-torn",
        "Error: ShardFailure { message: \"Shard 0 panicked: Index data must be exactly 16 bytes\" }",
    ),
    ("old-info", "Failed to load system info from disk. Cannot deserialize"),
    (
        "another-shard-failed",
        "shard 1 aborted while waiting for shard-0 to broadcast the metadata factory bundle; shard 0 dropped its sender (most likely it failed to recover)",
    ),
    (
        "another-shard-failed",
        "shard 0 aborted before binding listeners with 1 peer shard(s) still loading their on-disk partitions; a peer most likely failed during bootstrap (shutdown flag set)",
    ),
    ("shard-failed", "2 shard thread(s) failed: shard 0 -> x"),
    (
        "locked-memory",
        "failed to create io_uring runtime for shard 0: Cannot allocate memory (os error 12): io_uring was denied locked memory for its rings (RLIMIT_MEMLOCK soft=65536 bytes (64 KB), hard=65536 bytes (64 KB)): raise the limit with `ulimit -l unlimited` (shell)",
    ),
    (
        "io-uring-blocked",
        "Operation not permitted (os error 1): io_uring syscalls are blocked, typically by a container seccomp profile: allow io_uring_setup",
    ),
    (
        "io-uring-too-old",
        "Invalid argument (os error 22): the kernel rejected io_uring setup flags shard executors require",
    ),
    ("io-uring-incomplete", "shard 0 panicked: the thread pool is needed but no worker thread is running"),
    (
        "io-uring",
        "thread 'main' panicked at core/server/src/main.rs:62:13: Cannot create server bootstrap executor: x",
    ),
    (
        "port-in-use",
        "Error: ShardJoinFailures { failures: [ShardJoinFailure { shard_id: 0, kind: Error(Iggy(CannotBindToSocket(\"127.0.0.1:8090\"))) }] }",
    ),
    ("port-in-use", "Cannot bind to socket with addr: 127.0.0.1:8090"),
    ("address-unreadable", "failed to parse tcp socket address 'nowhere'"),
    ("listener-credentials", "failed to load TCP listener credentials"),
    ("data-directory-unwritable", "Error: Iggy(CannotCreateStateDirectory(\"/d/state\"))"),
    ("data-directory-unwritable", "Cannot create base directory, Path: /d"),
    (
        "partition-folder-unwritable",
        "Failed to create directory for topic with ID: 0 for stream with ID: 0, Path: /d",
    ),
    ("configuration-not-written", "failed to write current server config at /d/runtime/current_config.toml"),
    ("log-not-begun", "failed to initialize server logging"),
    ("wipe-failed", "--fresh could not remove the system path at /d"),
    (
        "setting-moved",
        "ERROR main configs::configs_impl::file_provider: Config key 'system.segment.size' no longer exists; set it per topic. Remove the key to boot.",
    ),
    (
        "setting-moved",
        "Environment variable 'IGGY_SYSTEM_SEGMENT_SIZE' sets config key 'system.segment.size', which no longer exists; x. Unset it to boot.",
    ),
    ("configuration-value", "Error: Config(InvalidConfigurationValue)"),
    ("configuration-environment", "Error: Config(EnvironmentVariableParsingFailed)"),
    ("configuration-file", "Error: Config(CannotLoadConfiguration)"),
    ("configuration", "failed to load server config"),
    ("sharding-value", "system.sharding.inbox_capacity must be in 1..=65536; got 0"),
    (
        "processors",
        "Requested 8 shard(s) but only 2 CPU core(s) are allowed for this process (affinity/cpuset mask)",
    ),
    ("processors", "failed to allocate shards from sharding.cpu_allocation"),
    ("processor-binding", "failed to bind shard 1 to its CPU set"),
    ("thread-not-started", "failed to spawn OS thread for shard 1"),
    (
        "root-credentials",
        "IGGY_ROOT_USERNAME is set but IGGY_ROOT_PASSWORD is not; the root user credentials must be provided as a pair",
    ),
    ("root-credentials", "IGGY_ROOT_PASSWORD must be 3..=100 characters long; got 1"),
    (
        "pump-died",
        "shard 1 message pump died instead of draining (panicked); committed journal tail may not have flushed",
    ),
    ("cluster-node", "cluster mode requires --replica-id to identify the current node"),
    ("cluster-too-large", "cluster node count 300 exceeds supported u8 replica count"),
    (
        "replica-without-cluster",
        "--replica-id 1 was passed with cluster.enabled=false; the WAL would commit under replica 0",
    ),
    (
        "cluster-port",
        "cluster node for replica 1 is missing ports.tcp; cluster mode requires an explicit roster port for every enabled transport",
    ),
    (
        "cluster-root",
        "cluster bootstrap with empty metadata requires both IGGY_ROOT_USERNAME and IGGY_ROOT_PASSWORD to be set",
    ),
    ("cluster-value", "Invalid cluster configuration: cluster name cannot be empty"),
    ("defect", "failed to construct IggyShard from bootstrap inputs"),
];

#[test]
fn every_line_of_a_refusal_is_explained() {
    for (id, line) in LINES {
        assert_eq!(explain(line).map(|refusal| refusal.id), Some(*id), "{line}");
    }
}

#[test]
fn every_refusal_has_a_line_and_a_name_of_its_own() {
    let with_a_line: BTreeSet<&str> = LINES.iter().map(|(id, _)| *id).collect();
    let known: Vec<&str> = refusals().map(|refusal| refusal.id).collect();
    let unique: BTreeSet<&str> = known.iter().copied().collect();
    assert_eq!(with_a_line, unique);
    assert_eq!(known.len(), unique.len());
}

#[test]
fn colours_are_no_hindrance_with_or_without_their_first_character() {
    let line = "\u{1b}[2m2026-12-01T03:00:00Z\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m failed to open sparse \u{1b}[3mindex\u{1b}[0m during recovery";
    assert_eq!(explain(line).map(|refusal| refusal.id), Some("index-cannot-be-opened"));
    let stripped = line.replace('\u{1b}', "");
    assert_eq!(explain(&stripped).map(|refusal| refusal.id), Some("index-cannot-be-opened"));
    assert_eq!(
        without_colours("failures: [ShardJoinFailure [1] [x] [12;3"),
        "failures: [ShardJoinFailure [1] [x] [12;3"
    );
}

#[test]
fn ordinary_lines_are_not_explained() {
    for line in [
        "2026-11-21T10:30:53.843359Z  INFO  main iggy_server: server shutdown complete",
        "2026-12-01T03:00:58.654365Z  WARN main configs::configs_impl::file_provider: Configuration file not found at path: 'core/server/config.toml'.",
        "2026-12-01T03:03:10.990632Z  WARN shard-0 server::segment_recovery: sparse index holds no whole entry; recovered segment bounds by walking the log instead of discarding it",
        "ERROR shard-0 iggy.partitions.diag: disk poll: batch checksum mismatch; segment is corrupt at rest",
        "",
    ] {
        assert_eq!(explain(line), None, "{line}");
    }
}

#[test]
fn advice_about_data_begins_with_what_loses_nothing_and_never_empties_a_file() {
    for refusal in refusals() {
        for word in ["truncate", "rm ", "delete the", "empty the"] {
            assert!(!refusal.advice.contains(word), "{}: {word}", refusal.id);
        }
        let moves = ["move that slot", "put the file back", "move the segments back"];
        if moves.iter().any(|word| refusal.advice.contains(word))
            && refusal.id != "journal-torn"
            && refusal.id != "old-state-missing"
        {
            assert!(refusal.advice.contains("cp -a --reflink=auto"), "{}", refusal.id);
        }
    }
}
