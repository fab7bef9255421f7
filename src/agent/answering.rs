//! Asks a runtime that was started whether it does its work.

use std::net::SocketAddr;

use warden_checks::iggy;
use warden_checks::iggy::answering::Answering;
use warden_config::units::Units;
use warden_protocol::Runtime;
use warden_snapshot as snapshot;

use super::settings::IggyApi;

/// What came of it, as the course of a request takes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answered {
    /// Absent: it was not asked, and `said` says why; empty where there is nothing to ask.
    pub answers: Option<bool>,
    pub said: String,
}

/// Asks `runtime` once. Blocks for some seconds at most.
pub fn ask(runtime: &Runtime, units: &Units, api: IggyApi) -> Answered {
    let unit = units.unit(runtime);
    let asked = match (runtime, api) {
        (Runtime::Iggy, IggyApi::None) => {
            return Answered { answers: None, said: "Iggy was not asked: iggy_api is none".to_owned() };
        }
        (Runtime::Iggy, IggyApi::Configured) => snapshot::answering(iggy::Runtime::Iggy, &unit, None),
        (Runtime::Iggy, IggyApi::At(at)) => snapshot::answering(iggy::Runtime::Iggy, &unit, Some(at)),
        (Runtime::Connectors, _) => snapshot::answering(iggy::Runtime::Connectors, &unit, None::<SocketAddr>),
        // It has no API of its own.
        (Runtime::Connector { .. }, _) => return Answered::default(),
    };
    match asked {
        Ok(Answering::Answers(said)) => Answered { answers: Some(true), said },
        Ok(Answering::Silent(said)) => Answered { answers: Some(false), said },
        Ok(Answering::NotAsked(said)) => Answered { answers: None, said },
        Err(error) => Answered { answers: None, said: format!("{runtime} was not asked: {error:#}") },
    }
}
