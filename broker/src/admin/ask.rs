//! Questions of the admin thread to a core, and their answers.
//!
//! Owns one bounded queue to each core. A core that does not take its questions is found out by that: nothing
//! waits in front of a full queue.

use corelane_protocol::TopicPartition;
use corelane_storage::distribution::Distribution;
use corelane_storage::ring::{RingAddress, RingStats};
use rtrb::{Consumer, Producer, RingBuffer};
use tokio::sync::oneshot;

use crate::lane::{GroupPlace, GroupsPiece, LaneMetrics, PartitionsPiece};

/// Questions that wait for a core.
const QUESTIONS_MAX: usize = 4;

/// A question to a core. The answer is sent, and nobody may wait for it any more.
pub(crate) enum Ask {
    /// Whether it turns.
    Ping(oneshot::Sender<()>),
    /// Its numbers, without those of its partitions and groups.
    Core(oneshot::Sender<Box<CoreAnswer>>),
    /// Some of its partitions, from this one on.
    Partitions {
        from: TopicPartition,
        answer: oneshot::Sender<PartitionsPiece>,
    },
    /// Some of its consumer groups, from this place on.
    Groups {
        from: GroupPlace,
        answer: oneshot::Sender<GroupsPiece>,
    },
}

/// A core's numbers: what its lane says, and what its shell knows.
pub(crate) struct CoreAnswer {
    pub(crate) lane: LaneMetrics,
    /// CPU time of its thread, µs.
    pub(crate) cpu_us: u64,
    /// Mail to other cores that they have not taken.
    pub(crate) mail_queued: usize,
    pub(crate) ring: RingMetrics,
}

/// What a core's ring does.
pub(crate) struct RingMetrics {
    pub(crate) in_flight: u32,
    pub(crate) stats: RingStats,
    pub(crate) turn_times: Distribution,
}

/// A core's end.
pub(crate) type AskSeat = Consumer<Ask>;

/// The admin thread's end.
pub(crate) struct AskLine {
    queue: Producer<Ask>,
    address: Option<RingAddress>,
}

/// A line to each of so many cores.
pub(crate) fn asks(cores: usize) -> (Vec<AskLine>, Vec<AskSeat>) {
    let pair = |_| {
        let (queue, seat) = RingBuffer::new(QUESTIONS_MAX);
        let line = AskLine {
            queue,
            address: None,
        };
        (line, seat)
    };
    (0..cores).map(pair).unzip()
}

/// A core does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Silent;

impl AskLine {
    /// From now on the core can be asked.
    pub(super) fn connect(&mut self, address: &RingAddress) {
        self.address.get_or_insert_with(|| address.clone());
    }

    /// Asks, and waits for the answer for as long as the caller polls.
    pub(super) async fn ask<T>(
        &mut self,
        question: impl FnOnce(oneshot::Sender<T>) -> Ask,
    ) -> Result<T, Silent> {
        let (sender, receiver) = oneshot::channel();
        let address = self.address.as_ref().ok_or(Silent)?;
        self.queue.push(question(sender)).map_err(|_| Silent)?;
        address.signal();
        receiver.await.map_err(|_| Silent)
    }
}
