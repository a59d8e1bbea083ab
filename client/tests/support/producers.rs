//! What the broker in the tests knows of idempotent producers.

use std::collections::{BTreeMap, VecDeque};

use corelane_protocol::batch::{BatchHeader, advance_sequence, sequence_distance};
use corelane_protocol::response::ProducerIdentity;
use corelane_protocol::{ErrorCode, ProducerEpoch, ProducerId};

/// What the broker gives out.
pub(crate) struct Identities {
    /// Whether it is new enough to give any.
    pub(crate) known: bool,
    pub(crate) next_id: u64,
    pub(crate) first_epoch: u16,
    /// What the next requests are refused with.
    pub(crate) refusals: VecDeque<ErrorCode>,
}

impl Default for Identities {
    fn default() -> Self {
        Self {
            known: true,
            next_id: 1_000,
            first_epoch: 0,
            refusals: VecDeque::new(),
        }
    }
}

impl Identities {
    pub(crate) fn give(&mut self) -> Result<ProducerIdentity, ErrorCode> {
        if let Some(refusal) = self.refusals.pop_front() {
            return Err(refusal);
        }
        self.next_id += 1;
        Ok(ProducerIdentity {
            producer_id: ProducerId::new(self.next_id - 1),
            producer_epoch: ProducerEpoch::new(self.first_epoch),
            window: 1024,
        })
    }
}

/// What one partition knows.
#[derive(Default)]
pub(crate) struct Producers {
    known: BTreeMap<ProducerId, Known>,
    /// How many batches of each are remembered, if not all.
    pub(crate) remembered_max: Option<usize>,
}

struct Known {
    epoch: ProducerEpoch,
    next: u32,
    /// First and following number of each batch, and its base offset.
    batches: VecDeque<(u32, u32, u64)>,
}

impl Producers {
    /// Where a batch is, if it was written before; an error if it is not the next one either.
    pub(crate) fn find(&self, header: &BatchHeader) -> Result<Option<u64>, ErrorCode> {
        if header.producer_id == ProducerId::NONE {
            return Ok(None);
        }
        let base = header.base_sequence;
        let Some(known) = self.known.get(&header.producer_id) else {
            return match base {
                0 => Ok(None),
                _ => Err(ErrorCode::UnknownProducer),
            };
        };
        if header.producer_epoch < known.epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        let is_later = header.producer_epoch > known.epoch;
        let ahead = match is_later {
            true => sequence_distance(0, base),
            false => sequence_distance(known.next, base),
        };
        if ahead >= 0 {
            return match ahead {
                0 => Ok(None),
                _ => Err(ErrorCode::OutOfOrderSequence),
            };
        }
        let end = advance_sequence(base, header.record_count);
        assert!(
            sequence_distance(known.next, end) <= 0,
            "half of a batch is written"
        );
        let has_it = |(first, following, _): &&(u32, u32, u64)| {
            sequence_distance(*first, base) >= 0 && sequence_distance(base, *following) > 0
        };
        let found = known.batches.iter().find(has_it);
        let (first, _, offset) = found.ok_or(ErrorCode::DuplicateSequence)?;
        Ok(Some(offset + sequence_distance(*first, base) as u64))
    }

    /// A batch was appended.
    pub(crate) fn note(&mut self, header: &BatchHeader, base_offset: u64) {
        if header.producer_id == ProducerId::NONE {
            return;
        }
        let epoch = header.producer_epoch;
        let new = || Known {
            epoch,
            next: 0,
            batches: VecDeque::new(),
        };
        let known = self.known.entry(header.producer_id).or_insert_with(new);
        if known.epoch != epoch {
            *known = new();
        }
        let following = advance_sequence(header.base_sequence, header.record_count);
        known.next = following;
        let batch = (header.base_sequence, following, base_offset);
        known.batches.push_back(batch);
        if self
            .remembered_max
            .is_some_and(|max| known.batches.len() > max)
        {
            known.batches.pop_front();
        }
    }

    pub(crate) fn forget(&mut self) {
        self.known.clear();
    }
}
