//! The broker's state in the text formats of Prometheus and OpenMetrics.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text, text};
use prometheus_client::registry::Registry;

use super::families::families;
use super::family::{Samples, Shown};
use super::state::BrokerState;

/// The content types of the two formats.
pub(super) const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
pub(super) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// In the format that every Prometheus reads. The first so many partitions have metrics of their own.
pub(super) fn prometheus(state: Arc<BrokerState>, partitions_max: usize) -> String {
    let mut out = String::new();
    let encoded = prometheus_text::encode(&mut out, &registry(state, partitions_max));
    encoded.expect("a string takes whatever is written");
    out
}

/// In the format that newer ones ask for.
pub(super) fn open_metrics(state: Arc<BrokerState>, partitions_max: usize) -> String {
    let mut out = String::new();
    let encoded = text::encode(&mut out, &registry(state, partitions_max));
    encoded.expect("a string takes whatever is written");
    out
}

fn registry(state: Arc<BrokerState>, partitions_max: usize) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(StateCollector {
        state,
        partitions_max,
    }));
    registry
}

#[derive(Debug)]
struct StateCollector {
    state: Arc<BrokerState>,
    partitions_max: usize,
}

impl Collector for StateCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let shown = Shown {
            state: &self.state,
            partitions_max: self.partitions_max,
        };
        for family in families() {
            let unit = family.unit.as_unit();
            let kind = family.kind.as_type();
            let metric =
                encoder.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
            let mut samples = Samples::new(family, metric);
            (family.collect)(&shown, &mut samples);
            samples.finish()?;
        }
        Ok(())
    }
}
