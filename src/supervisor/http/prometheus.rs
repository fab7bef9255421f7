//! The Supervisor's own figures, for Prometheus (OpenMetrics).

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds in seconds: around the few milliseconds a request takes, and the limit it has.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

pub struct Telemetry {
    registry: Registry,
    requests: Family<Labels, Counter>,
    durations: Family<Route, Histogram, fn() -> Histogram>,
    nodes: Gauge<u64, AtomicU64>,
    unreachable: Gauge<u64, AtomicU64>,
    open: Gauge<u64, AtomicU64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: String,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    method: String,
    route: String,
}

impl Default for Telemetry {
    fn default() -> Telemetry {
        let mut registry = Registry::with_prefix("warden_supervisor");
        let requests = Family::default();
        let durations = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        let (nodes, unreachable, open) = (Gauge::default(), Gauge::default(), Gauge::default());
        registry.register("http_requests", "Requests answered", requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "From the head of a request to that of its answer",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register("nodes", "Nodes enrolled", nodes.clone());
        registry.register("nodes_unreachable", "Nodes silent for 120 s", unreachable.clone());
        registry.register("activities_open", "Activities that have not ended", open.clone());
        Telemetry { registry, requests, durations, nodes, unreachable, open }
    }
}

impl Telemetry {
    pub fn answered(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        // Methods are the caller's to make up: only known ones become a label.
        let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        let method = if known.contains(method) { method.as_str() } else { "other" }.to_owned();
        let labels = Labels { method: method.clone(), route: route.to_owned(), status: status.as_u16() };
        self.requests.get_or_create(&labels).inc();
        let route = Route { method, route: route.to_owned() };
        self.durations.get_or_create(&route).observe(took.as_secs_f64());
    }

    pub fn text(&self, nodes: u64, unreachable: u64, open: u64) -> Result<String, fmt::Error> {
        self.nodes.set(nodes);
        self.unreachable.set(unreachable);
        self.open.set(open);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
