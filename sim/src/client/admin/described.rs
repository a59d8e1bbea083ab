//! What a description says of a topic, against what was known when it was asked for.

use corelane_protocol::response::{DescribedPartition, PartitionState, TopicDescription};

use super::{Admin, Asked, OwnTopic};
use crate::client::{Client as _, Context, LogAsked};
use crate::counters::Sometimes;
use crate::keeping::Limits;
use crate::profile::{CLEANUP_POLICY, Damage};
use crate::run::WEAK_TOPIC;

impl Admin {
    /// Holds a description against what was known when it was asked for.
    pub(super) fn described(
        &mut self,
        context: &mut Context<'_>,
        asked: &Asked,
        description: &TopicDescription,
    ) {
        let name = self.name();
        self.counted(context, asked.index, description.partitions.len());
        let topic = &self.topics[asked.index];
        context.history.reached(Sometimes::TopicDescribed);
        for (key, value) in topic.settings.iter().flatten() {
            let entry = description.configs.iter().find(|entry| entry.key == *key);
            if entry.is_none_or(|entry| entry.value != *value) {
                let problem = format!(
                    "{name}: {key} of {} is {value}, and described as {entry:?}",
                    topic.parts.name
                );
                context.history.problem(problem);
            }
        }
        if topic.last != Some(description.id) {
            return;
        }
        let (limits, most) = keeps(description);
        let keeping = &mut context.history.keeping;
        keeping.keeps_at_most(description.id, most);
        for (partition, log) in description.partitions.iter().zip(&asked.logs) {
            if partition.state == PartitionState::Online {
                self.described_log(context, topic, log, partition, limits);
            }
        }
    }

    fn described_log(
        &self,
        context: &mut Context<'_>,
        topic: &OwnTopic,
        log: &LogAsked,
        described: &DescribedPartition,
        limits: Limits,
    ) {
        let (name, id) = (self.name(), log.partition);
        let begin = described.log_start_offset;
        context.log_begins(log, begin);
        if described.high_watermark.get() < log.end && !context.may_be_damaged() {
            let problem = format!(
                "{name}: {id} ends at {}, and a record before {} was acknowledged",
                described.high_watermark, log.end
            );
            context.history.problem(problem);
        }
        if context.history.damage == Damage::Lies {
            return;
        }
        let now_us = context.now_us;
        let size_bytes = described.size_bytes;
        context.history.keeping.described(id, log.us, size_bytes);
        let may_be_cut = topic.parts.name == WEAK_TOPIC || context.may_be_damaged();
        let keeping = &mut context.history.keeping;
        let guarding = &mut keeping.guarding;
        let missed = guarding.described(log.us, (id, may_be_cut), begin, &described.readers);
        if keeping.is_held(now_us, log.us, id, limits) {
            context.history.reached(Sometimes::GuardHeld);
        }
        match missed {
            Ok(0) => {}
            Ok(missed) => {
                context.note(format_args!("{name}: {id}: readers have missed {missed}"));
                context.history.reached(Sometimes::UnreadCounted);
            }
            Err(problem) => context.history.problem(format!("{name}: {id}: {problem}")),
        }
    }
}

/// What a topic is described to keep by itself, and what it keeps at most, when nothing is appended any more and
/// readers are waited for.
fn keeps(description: &TopicDescription) -> (Limits, Limits) {
    let value = |key: &str| {
        let mut configs = description.configs.iter();
        configs
            .find(|entry| entry.key == key)
            .map(|entry| &*entry.value)
    };
    let number = |key: &str| value(key).and_then(|value| value.parse::<u64>().ok());
    let deletes = value(CLEANUP_POLICY).is_none_or(|policy| policy.contains("delete"));
    let bound = |key| number(key).filter(|_| deletes);
    let limits = Limits {
        bytes: bound("retention.bytes"),
        ms: bound("retention.ms"),
    };
    let names_readers = value("retention.guard.readers").is_some_and(|names| !names.is_empty());
    let waits = value("retention.guard") == Some("wait") && names_readers;
    let more = |key| match number(key) {
        Some(more) if waits => more,
        None if waits => u64::MAX,
        _ => 0,
    };
    let (more_bytes, more_ms) = (
        more("retention.guard.max.bytes"),
        more("retention.guard.max.ms"),
    );
    // Files go as a whole, and the last one stays.
    let segments = number("segment.bytes").map_or(u64::MAX, |bytes| 3 * bytes);
    let most = Limits {
        bytes: limits
            .bytes
            .map(|bytes| bytes.saturating_add(more_bytes).saturating_add(segments)),
        ms: limits.ms.map(|ms| ms.saturating_add(more_ms)),
    };
    (limits, most)
}
