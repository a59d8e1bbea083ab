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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::state::{PartitionState, ReaderState, TopicState};

    #[test]
    fn readers_are_behind_by_what_is_kept_for_them() {
        let reader = |name: &str, position, expired_unread| ReaderState {
            name: name.to_owned(),
            position,
            expired_unread,
        };
        let partition = PartitionState {
            log_start: 10,
            high_watermark: 25,
            log_end: 30,
            readers: vec![
                reader("audit", 4, 6),
                reader("billing", 20, 0),
                reader("fresh", 25, 0),
            ],
            ..PartitionState::default()
        };
        let state = BrokerState {
            topics: vec![TopicState {
                name: "orders".to_owned(),
                partitions: vec![partition],
                ..TopicState::default()
            }],
            ..BrokerState::default()
        };
        let text = prometheus(Arc::new(state), 10);
        let value = |family: &str, reader: &str| {
            let labels = format!(
                "{family}{{topic=\"orders\",partition=\"0\",core=\"0\",reader=\"{reader}\"}} "
            );
            let found = text.lines().find_map(|line| line.strip_prefix(&labels));
            let found = found.unwrap_or_else(|| panic!("{labels} is not in\n{text}"));
            found.parse::<f64>().expect("a number") as u64
        };
        let of_reader = |reader: &str| {
            let position = value("corelane_reader_position", reader);
            let expired = value("corelane_reader_expired_unread_records_total", reader);
            [position, value("corelane_reader_lag", reader), expired]
        };
        assert_eq!(of_reader("audit"), [4, 15, 6]);
        assert_eq!(of_reader("billing"), [20, 5, 0]);
        assert_eq!(of_reader("fresh"), [25, 0, 0]);
    }
}
