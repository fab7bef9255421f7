//! Every default and limit, with its unit and reason.

pub mod fragments;
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
/// One command, after which its process group is killed.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(5);
/// One exchange with a local service or name server.
pub const NETWORK_LIMIT: Duration = Duration::from_secs(3);
/// One answer of Iggy's API: the server itself waits 3 s for a shard that is dead.
pub const IGGY_API_LIMIT: Duration = Duration::from_secs(5);
/// One call to the service manager.
pub const DBUS_LIMIT: Duration = Duration::from_secs(3);

/// How long a unit must stay as it was right after its job. A service that finds its port taken, its data damaged or
/// its configuration wrong ends within the first two seconds or so; whoever waits for a restart has that much patience.
pub const SETTLE: Duration = Duration::from_secs(3);

/// Checks that run at once. They mostly wait for the kernel, so more than the cores, but few: the host is busy.
pub const SIDE_BY_SIDE: usize = 6;
