//! A store has progressed: appends are flushed and answered, readers look again, failures are told.

use corelane_protocol::response::{Durability, Receipt};
use corelane_protocol::{ApiError, ErrorCode, Offset, TopicPartition};
use corelane_storage::disk::Disk;

use super::meters::Stage;
use super::partitions::{Home, LocalState};
use super::slab::Key;
use super::{Lane, Now};
use corelane_storage::store::{Progress, Unread};

impl<D: Disk> Lane<D> {
    /// Some store of this core has progressed.
    pub fn store_progress(&mut self, now: Now) {
        self.meters.begin_event(now);
        let mut progress = std::mem::take(&mut self.progress);
        for store in 0..self.stores.len() {
            self.stores[store].take_progress(&mut progress);
            for event in progress.drain(..) {
                match event {
                    Progress::Durable {
                        partition,
                        durable_end,
                        ..
                    } => self.flushed(partition, durable_end),
                    Progress::Failed { partition, reason } => {
                        for key in self.failed_partitions(store, partition) {
                            self.partition_failed(key, &reason);
                        }
                    }
                    Progress::Unread { partition, unread } => self.tell_unread(partition, &unread),
                    // The store has logged it, and fetches of it fail by themselves.
                    Progress::Damaged { .. } => {}
                }
            }
        }
        self.progress = progress;
        self.pacing.look_again = true;
        self.finish_event(now);
    }

    /// Records expired, or are to, before a named reader had them.
    fn tell_unread(&self, partition: TopicPartition, unread: &Unread) {
        let topic = self.image.topic(partition.topic);
        let topic = topic.map_or("a deleted topic", |topic| topic.name.as_str());
        let partition = partition.partition;
        let Unread {
            reader,
            records,
            expired_unread,
            is_waited_for,
        } = unread;
        if *is_waited_for {
            tracing::warn!(
                topic,
                %partition,
                reader,
                records,
                "records that have expired are kept until their reader has read them, or retention.guard.max.ms or \
                 retention.guard.max.bytes is over"
            );
        } else {
            tracing::warn!(
                topic,
                %partition,
                reader,
                records,
                in_all = expired_unread,
                "records were deleted before their reader had read them"
            );
        }
    }

    /// Everything of a partition before `durable_end` is flushed.
    fn flushed(&mut self, partition: TopicPartition, durable_end: Offset) {
        let Home::Local(key) = self.partitions.find(partition) else {
            // The topic was deleted while its last group was being written.
            return;
        };
        let local = self
            .partitions
            .local_mut(key)
            .expect("found under this key");
        if let Ok(offsets) = local.offsets(&self.stores) {
            local.log_start = offsets.log_start;
        }
        loop {
            let local = self
                .partitions
                .local_mut(key)
                .expect("found under this key");
            let log_start_offset = local.log_start;
            let flushed = local.produces.front().is_some_and(|wait| {
                wait.end_offset <= durable_end || corelane_storage::planted!(AckWithAnother)
            });
            if !flushed {
                break;
            }
            let waiting = local.produces.pop_front().expect("just looked at");
            self.meters
                .stage_done(Stage::ProduceFlush, waiting.append_us);
            let receipt = Receipt {
                base_offset: waiting.base_offset,
                append_time: waiting.append_time,
                log_start_offset,
                durability: Durability::Durable,
                replicas_flushed: 1,
            };
            self.settle_produce(waiting.produce, waiting.entry, Ok(receipt));
            self.finish_produce(waiting.produce);
        }
        self.wake_fetches(key);
    }

    /// One partition, or all of a store.
    fn failed_partitions(&self, store: usize, partition: Option<TopicPartition>) -> Vec<Key> {
        match partition.map(|id| self.partitions.find(id)) {
            None => self.partitions.local_keys(|local| local.store == store),
            Some(Home::Local(key)) => vec![key],
            Some(_) => Vec::new(),
        }
    }

    /// A partition takes no more appends; those that were not flushed may be lost.
    fn partition_failed(&mut self, key: Key, message: &str) {
        let local = self
            .partitions
            .local_mut(key)
            .expect("looked up by the caller");
        local.state = LocalState::Failed(message.to_owned());
        let error = ApiError::new(ErrorCode::StorageFailed, message);
        for waiting in std::mem::take(&mut local.produces) {
            self.settle_produce(waiting.produce, waiting.entry, Err(error.clone()));
            self.finish_produce(waiting.produce);
        }
        self.wake_fetches(key);
    }
}
