//! The sequence numbers that one partition's batches are given.
//!
//! Owns: the producer id, the epoch and the next number in this partition, and when another epoch
//! has to begin. Never: knows batches; `order.rs` tells what becomes of them.
//!
//! The rules (see `docs/wire.md`, idempotent producers): the broker takes a batch if its number is
//! the next one of the epoch, knows it again if it was appended under it, and refuses it otherwise.
//! So a number may be given to another batch only if the first one is not in the log and never will
//! be: all that was sent with numbers from there on was refused. Where that is not certain, an epoch
//! begins instead, which shuts out whatever of the one before is still on some way to the broker.

use corelane_protocol::batch::SEQUENCES;
use corelane_protocol::response::ProducerIdentity;
use corelane_protocol::{ProducerEpoch, ProducerId};

/// Counts the records of an epoch, on beyond where the numbers on the wire begin again.
pub(crate) type RecordNumber = u64;

/// What a batch says of its producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub(crate) producer_id: ProducerId,
    pub(crate) producer_epoch: ProducerEpoch,
    pub(crate) base_sequence: u32,
}

/// The last epoch of a producer id; the number after it stands for none.
pub(crate) const EPOCH_LAST: u16 = u16::MAX - 1;

/// One partition's numbers.
#[derive(Debug, Default)]
pub(crate) struct Sequencer {
    /// The one in use, once the producer has one.
    identity: Option<ProducerIdentity>,
    /// Another one, to be used when this one has no epochs left.
    spare: Option<ProducerIdentity>,
    epoch: u16,
    next: RecordNumber,
    /// Where the records end that are known to be in the log under this epoch.
    written_end: RecordNumber,
    /// An epoch has to begin before a batch is given another number than it had.
    is_due: bool,
    /// A batch of this epoch was given up and may be in the log: a gap may be there or not.
    is_unresolved: bool,
    /// The partition is another one, which knows nothing: its topic was made anew.
    has_moved: bool,
}

impl Sequencer {
    /// Takes the identity that the producer was given; returns whether that was of use.
    pub(crate) fn identify(&mut self, identity: ProducerIdentity) -> bool {
        match &self.identity {
            None => {
                self.identity = Some(identity);
                self.epoch = identity.producer_epoch.get();
                true
            }
            Some(own) if own.producer_id != identity.producer_id => {
                self.spare = Some(identity);
                true
            }
            Some(_) => false,
        }
    }

    /// Whether nothing can go on without an identity that it has not had.
    pub(crate) fn needs_identity(&self) -> bool {
        let is_exhausted = self.is_due && self.epoch >= EPOCH_LAST && self.spare.is_none();
        self.identity.is_none() || is_exhausted
    }

    /// How many batches may be without an answer, so that each would be known again.
    pub(crate) fn window(&self) -> u64 {
        self.identity
            .map_or(1, |identity| u64::from(identity.window.max(1)))
    }

    /// The number of the batch that is sent next.
    pub(crate) fn next(&self) -> RecordNumber {
        self.next
    }

    /// A number as a batch has it.
    pub(crate) fn on_the_wire(&self, number: RecordNumber) -> Option<Sequence> {
        Some(Sequence {
            producer_id: self.identity?.producer_id,
            producer_epoch: ProducerEpoch::new(self.epoch),
            base_sequence: u32::try_from(number % u64::from(SEQUENCES))
                .expect("it is less than the number of sequences"),
        })
    }

    /// A batch with this number, and so many records, was sent.
    pub(crate) fn sent(&mut self, number: RecordNumber, record_count: u32) {
        self.next = (number + u64::from(record_count)).max(self.written_end);
    }

    /// Everything before `end` is in the log: the broker took a batch that ends there.
    pub(crate) fn written(&mut self, end: RecordNumber) {
        self.written_end = self.written_end.max(end);
    }

    /// Nothing from this number on is in the log, as far as is known, and nothing is on its way.
    pub(crate) fn rewind(&mut self, number: RecordNumber) {
        self.next = number.max(self.written_end);
    }

    /// A batch was given up that may be in the log.
    pub(crate) fn given_up(&mut self) {
        self.is_unresolved = true;
        self.is_due = true;
    }

    /// Numbers were used that nothing else may be given.
    pub(crate) fn used_up(&mut self) {
        self.is_due = true;
    }

    /// The partition is another one from now on.
    pub(crate) fn moved(&mut self) {
        self.has_moved = true;
        self.is_due = true;
    }

    pub(crate) fn is_due(&self) -> bool {
        self.is_due
    }

    pub(crate) fn is_unresolved(&self) -> bool {
        self.is_unresolved
    }

    pub(crate) fn has_moved(&self) -> bool {
        self.has_moved
    }

    /// Begins the epoch that is due, if there is one left. Nothing may be in flight, and no batch may
    /// keep a number that it had.
    pub(crate) fn begin_epoch(&mut self) {
        if self.epoch < EPOCH_LAST {
            self.epoch += 1;
        } else if let Some(spare) = self.spare.take() {
            self.identity = Some(spare);
            self.epoch = spare.producer_epoch.get();
        } else {
            return;
        }
        self.next = 0;
        self.written_end = 0;
        self.is_due = false;
        self.is_unresolved = false;
        self.has_moved = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(id: u64, epoch: u16) -> ProducerIdentity {
        ProducerIdentity {
            producer_id: ProducerId::new(id),
            producer_epoch: ProducerEpoch::new(epoch),
            window: 5,
        }
    }

    fn said(sequencer: &Sequencer) -> (u64, u16, u32) {
        let sequence = sequencer.on_the_wire(sequencer.next()).unwrap();
        (
            sequence.producer_id.get(),
            sequence.producer_epoch.get(),
            sequence.base_sequence,
        )
    }

    #[test]
    fn numbers_follow_the_records_and_go_back_to_what_is_not_written() {
        let mut sequencer = Sequencer::default();
        assert!(sequencer.needs_identity());
        assert_eq!(sequencer.on_the_wire(0), None);
        assert!(sequencer.identify(identity(9, 0)));
        assert!(!sequencer.identify(identity(9, 0)), "it is known");
        assert!(!sequencer.needs_identity());
        assert_eq!(said(&sequencer), (9, 0, 0));
        sequencer.sent(0, 3);
        sequencer.sent(3, 4);
        assert_eq!(said(&sequencer), (9, 0, 7));
        sequencer.written(3);
        sequencer.rewind(3);
        assert_eq!(said(&sequencer), (9, 0, 3));
        sequencer.rewind(0);
        assert_eq!(said(&sequencer), (9, 0, 3), "what is written stays");
    }

    #[test]
    fn numbers_go_round_on_the_wire() {
        let mut sequencer = Sequencer::default();
        sequencer.identify(identity(9, 0));
        let last = u64::from(SEQUENCES) - 1;
        let sequence = sequencer.on_the_wire(last).unwrap();
        assert_eq!(sequence.base_sequence, (1 << 31) - 1);
        sequencer.sent(last, 3);
        assert_eq!(said(&sequencer), (9, 0, 2));
    }

    #[test]
    fn an_epoch_begins_with_zero() {
        let mut sequencer = Sequencer::default();
        sequencer.identify(identity(9, 4));
        sequencer.sent(0, 3);
        sequencer.given_up();
        assert!(sequencer.is_due() && sequencer.is_unresolved());
        sequencer.begin_epoch();
        assert!(!sequencer.is_due() && !sequencer.is_unresolved());
        assert_eq!(said(&sequencer), (9, 5, 0));
    }

    #[test]
    fn without_an_epoch_left_another_identity_is_needed() {
        let mut sequencer = Sequencer::default();
        sequencer.identify(identity(9, EPOCH_LAST));
        sequencer.sent(0, 3);
        assert!(!sequencer.needs_identity(), "there is no need for an epoch");
        sequencer.used_up();
        assert!(sequencer.needs_identity());
        sequencer.begin_epoch();
        assert!(sequencer.is_due(), "there is none");
        assert!(
            !sequencer.identify(identity(9, 0)),
            "the same one is of no use"
        );
        assert!(sequencer.identify(identity(10, 2)));
        assert!(!sequencer.needs_identity());
        sequencer.begin_epoch();
        assert_eq!(said(&sequencer), (10, 2, 0));
    }
}
