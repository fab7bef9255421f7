//! Every default and limit, with its unit and reason.

pub mod fragments;
pub mod log;
pub mod nearest;
pub mod policy;
pub mod units;

use std::time::Duration;

/// systemd units of the runtimes, as the packages of the field name them.
pub const IGGY_UNIT: &str = "iggy.service";
pub const CONNECTORS_UNIT: &str = "iggy-connectors.service";
pub const WARDEN_UNIT: &str = "warden.service";

/// How far back logs are read: a day covers "since yesterday", the usual first words of a ticket.
pub const SINCE: Duration = Duration::from_secs(24 * 3600);

/// A whole snapshot; whoever waits for it has not yet walked away.
pub const RUN_LIMIT: Duration = Duration::from_secs(60);

/// Between two samples of a counter. Long enough for a share of a 100 Hz tick to mean something, short enough
/// not to be noticed.
pub const SAMPLE_PAUSE: Duration = Duration::from_millis(250);

/// One question to the host's files: a healthy disk answers in milliseconds, a dead mount never does.
pub const FILE_PATIENCE: Duration = Duration::from_secs(3);
/// A data directory that is packed and gives nothing for so long is on a dead mount: last in line at a busy disk, its
/// next block still comes sooner. Time in which the program computes, or waits for a core to do so, does not count.
pub const DATA_PATIENCE: Duration = Duration::from_secs(30);
/// One command, after which its process group is killed.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(5);
/// One exchange with a local service or name server.
pub const NETWORK_LIMIT: Duration = Duration::from_secs(3);
/// One answer of Iggy's API: the server itself waits 3 s for a shard that is dead.
pub const IGGY_API_LIMIT: Duration = Duration::from_secs(5);
/// One call to the service manager.
pub const DBUS_LIMIT: Duration = Duration::from_secs(3);

/// How long a unit must stay as it was right after its job, in seconds. A service that finds its port taken, its data
/// damaged or its configuration wrong ends within some seconds, and is started again by systemd some seconds later:
/// whoever waits for a restart has that much patience.
pub const SETTLE_SECONDS: u32 = 10;
/// How long a runtime may take to answer after its start, in seconds: Iggy opens its API when it has loaded its data.
pub const ANSWER_SECONDS: u32 = 120;
/// One look whether a runtime answers: its configuration, its API, its listeners.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(6);

/// Looking into Iggy's data directory. Only its structure, as part of every snapshot: on a disk that keeps up this is
/// done long before, and on one that does not, whoever waits has other worries.
pub const INSPECT_STRUCTURE_LIMIT: Duration = Duration::from_secs(3);
/// A sample of 1 GiB: a disk that gives 20 MB/s to those behind everybody else is through.
pub const INSPECT_SAMPLED_LIMIT: Duration = Duration::from_secs(60);
/// All of it, only when asked for: a terabyte at 300 MB/s.
pub const INSPECT_FULL_LIMIT: Duration = Duration::from_secs(3600);
/// Files and folders of the data directory that are looked at: 40,000 segments, in some 30 MiB of memory.
pub const INSPECT_ENTRIES: usize = 100_000;

/// Checks that run at once. They mostly wait for the kernel, so more than the cores, but few: the host is busy.
pub const SIDE_BY_SIDE: usize = 6;
