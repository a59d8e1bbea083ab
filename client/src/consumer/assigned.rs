//! One assigned partition: where it is, where reading stands, and whether it can be fetched.

use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::TopicId;

use super::start::Asked;
use crate::cluster::{Route, TopicMetadata};
use crate::error::Error;

/// One assigned partition.
#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) topic: Arc<str>,
    pub(super) topic_id: TopicId,
    pub(super) partition: u32,
    pub(super) route: Route,
    /// The offset of the next record to hand out.
    pub(super) position: u64,
    /// The offset of the next record to fetch; ahead of the position by what is buffered.
    pub(super) fetch_offset: u64,
    /// Changes with every seek: what was fetched for an earlier one is thrown away.
    pub(super) generation: u64,
    /// Where reading ends, if it shall.
    pub(super) end: Option<u64>,
    pub(super) high_watermark: Option<u64>,
    pub(super) paused: bool,
    pub(super) status: Status,
    pub(super) failures: u32,
    pub(super) not_before: Duration,
    /// When it last gave records, as a count of such answers: the longest ago is asked first.
    pub(super) last_served: u64,
    /// Why it failed for good.
    pub(super) failure: Option<Error>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// Can be fetched.
    Idle,
    /// In a fetch request.
    InFlight,
    /// Its start is being asked for, after an offset that does not exist.
    Resetting,
    /// Its topic is being asked for.
    Locating,
    /// It failed for good; the user was told, and it waits for a seek or resume.
    Failed,
}

impl Assigned {
    pub(super) fn new(topic: &TopicMetadata, partition: u32, route: Route) -> Self {
        Self {
            topic: Arc::clone(&topic.name),
            topic_id: topic.id,
            partition,
            route,
            position: 0,
            fetch_offset: 0,
            generation: 0,
            end: None,
            high_watermark: None,
            paused: false,
            status: Status::Idle,
            failures: 0,
            not_before: Duration::ZERO,
            last_served: 0,
            failure: None,
        }
    }

    /// Begins reading at `offset`.
    pub(super) fn begin_at(&mut self, offset: u64) {
        self.position = offset;
        self.fetch_offset = offset;
    }

    pub(super) fn asked(&self) -> Asked<'_> {
        Asked {
            name: &self.topic,
            topic: self.topic_id,
            partition: self.partition,
        }
    }

    pub(super) fn wants_fetch(&self) -> bool {
        let all_fetched = self.end.is_some_and(|end| self.fetch_offset >= end);
        self.status == Status::Idle && !self.paused && !all_fetched
    }
}
