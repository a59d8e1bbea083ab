//! A batch between its accumulator and the end of its way.
//!
//! Owns: its bytes, what they say of the producer and of times, and what it carries along. Never:
//! decides where it goes.

use std::sync::Arc;

use corelane_protocol::batch::{
    BatchBytes, BatchHeader, TimestampType, set_producer, set_timestamp_type,
};

use super::accumulator::{Guess, SealedBatch, Ticket};
use super::engine::EncodingNumber;
use super::sequence::Sequence;

/// A batch on its way.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) ticket: Ticket,
    pub(super) body: Body,
    /// The broker refused it as too large, whatever we know of the topic.
    pub(super) is_too_large: bool,
    /// The epoch and number that it was encoded with, if they were guessed.
    pub(super) guess: Option<Guess>,
}

/// The records of a batch on its way.
#[derive(Debug)]
pub(super) enum Body {
    /// Being encoded under this number.
    Encoding(EncodingNumber),
    Encoded(Arc<BatchBytes>),
    /// It will never be sent.
    Dropped,
}

impl Body {
    pub(super) fn into_bytes(self) -> Option<Arc<BatchBytes>> {
        match self {
            Self::Encoded(bytes) => Some(bytes),
            Self::Encoding(_) | Self::Dropped => None,
        }
    }
}

impl Batch {
    /// Its bytes, once it is encoded.
    pub(super) fn bytes(&self) -> Option<&Arc<BatchBytes>> {
        match &self.body {
            Body::Encoded(bytes) => Some(bytes),
            Body::Encoding(_) | Body::Dropped => None,
        }
    }

    /// Its bytes, once it is encoded, saying of the records' times what the topic wants by now, and
    /// of their producer what the broker is to know them by; and how many records it has.
    pub(super) fn bytes_to_send(
        &mut self,
        timestamp_type: TimestampType,
        sequence: Option<Sequence>,
    ) -> Option<(Arc<BatchBytes>, u32)> {
        let Body::Encoded(bytes) = &mut self.body else {
            return None;
        };
        let header = BatchHeader::parse(bytes).expect("a batch of ours");
        if header.timestamp_type != timestamp_type {
            let own: &mut BatchBytes = Arc::make_mut(bytes);
            set_timestamp_type(own, timestamp_type);
        }
        let said = Sequence {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
        };
        if let Some(sequence) = sequence.filter(|sequence| *sequence != said) {
            let own: &mut BatchBytes = Arc::make_mut(bytes);
            let (id, epoch) = (sequence.producer_id, sequence.producer_epoch);
            set_producer(own, id, epoch, sequence.base_sequence);
        }
        Some((Arc::clone(bytes), header.record_count))
    }

    /// How many records it has; 0 if it is not encoded.
    pub(super) fn record_count(&self) -> u32 {
        let header = self.bytes().map(|bytes| BatchHeader::parse(bytes));
        header.map_or(0, |header| header.expect("a batch of ours").record_count)
    }

    /// A batch that is to be settled and never sent.
    pub(super) fn unsent(sealed: SealedBatch) -> Self {
        Self {
            ticket: sealed.ticket,
            body: Body::Dropped,
            is_too_large: false,
            guess: None,
        }
    }
}
