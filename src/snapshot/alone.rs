//! Single questions to this host, without a whole snapshot.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use warden_checks::iggy::{self, DataDirectory};
use warden_config as config;
use warden_host::{Host, Settings};

use super::host::live::Live;
use super::{Place, settings};

/// Where Iggy keeps its data on this host, by the running server, its configuration or its usual place.
///
/// # Errors
/// There is none, or it cannot be seen: with the place where it would be, if that is known.
pub fn data_directory() -> anyhow::Result<Place> {
    let host = this_host(config::RUN_LIMIT, |_| ())?;
    if let Some(found) = iggy::data_directory(&host) {
        return Ok(Place::of(found, &host));
    }
    if let Some((DataDirectory { path, found_by }, _)) = iggy::intended_data_directory(&host) {
        bail!("the data directory {path} (by {found_by}) is not there; is its filesystem mounted?");
    }
    match iggy::hidden_data_directory(&host) {
        Some(error) => Err(anyhow!("no data directory of Iggy can be seen: {error}")),
        None => Err(anyhow!("no data directory of Iggy was found; name it with --iggy-data DIR")),
    }
}

/// When the certificates run out that Iggy's listeners on this host are configured with; those that can be read.
pub fn certificates() -> anyhow::Result<Vec<warden_checks::Expiry>> {
    let host = this_host(config::RUN_LIMIT, |_| ())?;
    Ok(warden_checks::expiries(&host))
}

/// Asks a runtime on this host, which `unit` carries, whether it does its work. Blocks for [`config::ANSWER_LIMIT`] at
/// most. `api`: where Iggy's HTTP API is, whatever its configuration says.
pub fn answering(
    runtime: iggy::Runtime,
    unit: &str,
    api: Option<SocketAddr>,
) -> anyhow::Result<iggy::answering::Answering> {
    let host = this_host(config::ANSWER_LIMIT, |settings| match runtime {
        iggy::Runtime::Iggy => unit.clone_into(&mut settings.iggy_unit),
        iggy::Runtime::Connectors => unit.clone_into(&mut settings.connectors_unit),
    })?;
    Ok(iggy::answering::ask(&host, runtime, api))
}

fn this_host(limit: Duration, change: impl FnOnce(&mut Settings)) -> anyhow::Result<Host> {
    let mut settings = settings(config::SINCE);
    change(&mut settings);
    Ok(Host::new(Arc::new(Live::new(settings, None)?), Instant::now() + limit))
}
