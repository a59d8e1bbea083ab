//! One assigned partition: where it is, where reading stands, and whether it can be fetched.

use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::TopicId;

use super::place::Place;
use super::start::{Asked, Found};
use crate::cluster::{Route, TopicMetadata};
use crate::error::Error;

/// One assigned partition.
#[derive(Debug)]
pub(crate) struct Assigned {
    pub(super) topic: Arc<str>,
    pub(super) topic_id: TopicId,
    pub(super) partition: u32,
    pub(super) route: Route,
    /// The partition's leader epoch as the metadata has it.
    pub(super) leader_epoch: Option<u32>,
    /// The next record to hand out.
    pub(super) position: Place,
    /// The next record to fetch; ahead of the position by what is buffered.
    pub(super) fetched: Place,
    /// Everything from here to the position counts as read.
    pub(super) read_from: u64,
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
    /// The position that was reported last.
    pub(super) reported: Option<u64>,
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
    /// It is not read any more; its place is free for another partition.
    Removed,
}

impl Assigned {
    pub(crate) fn new(topic: &TopicMetadata, partition: u32, route: Route) -> Self {
        Self {
            topic: Arc::clone(&topic.name),
            topic_id: topic.id,
            partition,
            route,
            leader_epoch: topic.epoch(partition),
            position: Place::default(),
            fetched: Place::default(),
            read_from: 0,
            generation: 0,
            end: None,
            high_watermark: None,
            paused: false,
            status: Status::Idle,
            failures: 0,
            not_before: Duration::ZERO,
            last_served: 0,
            failure: None,
            reported: None,
        }
    }

    /// Begins reading at a place.
    pub(crate) fn begin_at(&mut self, found: Found) {
        self.position = found.place;
        self.fetched = found.place;
        self.read_from = found.read_from;
    }

    pub(super) fn asked(&self) -> Asked<'_> {
        Asked {
            name: &self.topic,
            topic: self.topic_id,
            partition: self.partition,
        }
    }

    pub(super) fn wants_fetch(&self) -> bool {
        let all_fetched = self.end.is_some_and(|end| self.fetched.offset >= end);
        self.status == Status::Idle && !self.paused && !all_fetched
    }
}
