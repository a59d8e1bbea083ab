//! Which sequence numbers the batches of one partition have, and keep.

use std::time::Duration;

use corelane_protocol::response::ProducerIdentity;
use corelane_protocol::{ProducerEpoch, ProducerId};

use super::order::*;
use crate::backoff::{Backoff, Jitter};

type Outcome = Settled<&'static str, (), &'static str>;

const BACKOFF: Backoff = Backoff {
    min: Duration::from_millis(10),
    max: Duration::from_millis(10),
};
const T0: Duration = Duration::from_secs(1);

/// Batches of two records each; every look is long after the one before.
struct Bench {
    order: PartitionOrder<&'static str, &'static str>,
    connection: ConnectionNumber,
    now: Duration,
    settled: Vec<Outcome>,
}

impl Bench {
    fn new(batches: &[&'static str]) -> Self {
        let mut order = PartitionOrder::new(true);
        for (batch, deadline) in batches.iter().zip(100..) {
            order.push(*batch, Duration::from_secs(deadline));
        }
        let mut bench = Self {
            order,
            connection: 1,
            now: T0,
            settled: Vec::new(),
        };
        assert_eq!(bench.send(), [], "it has no identity");
        assert!(bench.order.needs_identity());
        bench.identify(7, 0);
        bench
    }

    fn identify(&mut self, id: u64, epoch: u16) {
        assert!(self.order.identify(ProducerIdentity {
            producer_id: ProducerId::new(id),
            producer_epoch: ProducerEpoch::new(epoch),
            window: 4,
        }));
    }

    /// Sends all that may be sent, each with its epoch and number.
    fn send(&mut self) -> Vec<(&'static str, u16, u32)> {
        self.now += T0;
        let mut sent = Vec::new();
        while let Some(next) = self.order.peek(self.now, self.connection) {
            let sequence = next.sequence.unwrap();
            sent.push((
                *next.batch,
                sequence.producer_epoch.get(),
                sequence.base_sequence,
            ));
            self.order.sent(self.connection, 2);
        }
        sent
    }

    fn answer(&mut self, number: BatchNumber, answer: Answer<(), &'static str>) {
        let (now, jitter) = (self.now, &mut Jitter::new(1));
        let settled = &mut self.settled;
        self.order
            .answered(now, number, answer, &BACKOFF, jitter, settled);
    }

    fn refuse(&mut self, number: BatchNumber) {
        let refusal = Answer::Retry {
            error: "overloaded",
            needs_resume: true,
            maybe_written: false,
            redirected: false,
        };
        self.answer(number, refusal);
    }

    fn fail(&mut self, number: BatchNumber) {
        let failure = Answer::Failed {
            error: "invalid",
            needs_resume: false,
            maybe_written: false,
        };
        self.answer(number, failure);
    }

    fn lose(&mut self) {
        let (now, jitter) = (self.now, &mut Jitter::new(1));
        let (connection, settled) = (self.connection, &mut self.settled);
        self.order
            .connection_lost(now, connection, &"reset", &BACKOFF, jitter, settled);
        self.connection += 1;
    }

    fn expire(&mut self, at_s: u64) {
        self.now = Duration::from_secs(at_s);
        self.order.expire(self.now, &mut self.settled);
    }

    fn settled(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.settled)
    }
}

#[test]
fn what_is_refused_for_a_moment_keeps_its_number() {
    let mut bench = Bench::new(&["a", "b", "c"]);
    assert_eq!(bench.send(), [("a", 0, 0), ("b", 0, 2), ("c", 0, 4)]);
    bench.answer(0, Answer::Written(()));
    bench.refuse(1);
    bench.refuse(2);
    assert_eq!(bench.send(), [("b", 0, 2), ("c", 0, 4)]);
}

#[test]
fn what_stands_behind_a_failure_moves_up() {
    let mut bench = Bench::new(&["a", "b", "c"]);
    bench.send();
    bench.answer(0, Answer::Written(()));
    // Its answer may well come before that of the batch that it lacks.
    bench.answer(2, Answer::OutOfSequence("out of sequence"));
    bench.fail(1);
    assert!(!bench.order.take_has_lost(), "the failure explains it");
    assert_eq!(bench.send(), [("c", 0, 2)]);
    let expected = [Settled::Written("a", ()), Settled::Failed("b", "invalid")];
    assert_eq!(bench.settled(), expected);
}

#[test]
fn a_number_that_is_still_on_its_way_is_given_to_nobody_else() {
    let mut bench = Bench::new(&["a", "b", "c"]);
    bench.send();
    bench.fail(0);
    bench.answer(1, Answer::OutOfSequence("out of sequence"));
    bench.lose();
    assert_eq!(
        bench.send(),
        [("b", 0, 0), ("c", 0, 2)],
        "c was behind what the broker holds up"
    );
    bench.fail(1);
    bench.lose();
    assert_eq!(
        bench.send(),
        [("c", 1, 0)],
        "c may arrive, and find that its number is next"
    );
}

#[test]
fn what_may_be_written_keeps_its_number_on_another_connection() {
    let mut bench = Bench::new(&["a", "b", "c"]);
    bench.send();
    bench.answer(1, Answer::Written(()));
    bench.refuse(2);
    bench.lose();
    assert_eq!(bench.send(), [("a", 0, 0), ("c", 0, 4)]);
}

#[test]
fn what_was_given_up_ends_the_epoch_once_nothing_else_depends_on_it() {
    let mut bench = Bench::new(&["a", "b", "c"]);
    bench.send();
    bench.refuse(2);
    bench.lose();
    bench.expire(100);
    assert_eq!(bench.settled(), [Settled::Unknown("a", Some("reset"))]);
    assert_eq!(
        bench.send(),
        [("b", 0, 2)],
        "it may be there, which only its number tells"
    );
    bench.answer(1, Answer::Written(()));
    assert_eq!(bench.send(), [("c", 1, 0)]);
}

#[test]
fn what_depends_on_a_batch_that_was_given_up_may_stay_in_doubt() {
    let mut bench = Bench::new(&["a", "b", "c"]);
    bench.send();
    bench.refuse(2);
    bench.lose();
    bench.expire(100);
    bench.settled();
    bench.send();
    bench.answer(1, Answer::OutOfSequence("out of sequence"));
    assert_eq!(bench.settled(), [Settled::Doubtful("b", "out of sequence")]);
    assert_eq!(bench.send(), [("c", 1, 0)]);
}

#[test]
fn an_answer_that_nobody_waits_for_holds_up_nothing() {
    let mut bench = Bench::new(&["a", "b"]);
    bench.send();
    bench.answer(1, Answer::OutOfSequence("out of sequence"));
    assert_eq!(bench.send(), []);
    bench.expire(100);
    assert_eq!(bench.settled(), [Settled::Unknown("a", None)]);
    assert_eq!(bench.send(), [("b", 1, 0)]);
    bench.answer(0, Answer::Written(()));
    assert_eq!(bench.settled(), [], "told already");
}

#[test]
fn after_a_loss_of_acknowledged_batches_everything_goes_again() {
    let mut bench = Bench::new(&["a", "b", "c"]);
    bench.send();
    bench.answer(0, Answer::Written(()));
    bench.lose();
    bench.send();
    bench.answer(1, Answer::OutOfSequence("out of sequence"));
    bench.refuse(2);
    assert!(bench.order.take_has_lost());
    assert!(!bench.order.take_has_lost(), "it is told once");
    assert_eq!(bench.send(), [("b", 1, 0), ("c", 1, 2)]);
    bench.refuse(1);
    bench.refuse(2);
    bench.settled();
    bench.expire(101);
    let expected = [Settled::Expired("b", Some("overloaded"))];
    assert_eq!(bench.settled(), expected, "it is known not to be there");
}

#[test]
fn of_a_forgotten_producer_only_what_was_never_written_goes_again() {
    let mut bench = Bench::new(&["a", "b", "c"]);
    bench.send();
    bench.answer(0, Answer::Written(()));
    bench.settled();
    bench.refuse(2);
    bench.lose();
    bench.send();
    bench.answer(1, Answer::Forgotten("forgotten"));
    bench.refuse(2);
    assert_eq!(bench.settled(), [Settled::Doubtful("b", "forgotten")]);
    assert_eq!(bench.send(), [("c", 1, 0)]);
}

#[test]
fn a_refusal_for_good_of_what_may_be_written_says_so() {
    let mut bench = Bench::new(&["a", "b"]);
    bench.send();
    bench.refuse(1);
    bench.lose();
    bench.send();
    bench.fail(0);
    bench.answer(1, Answer::OutOfSequence("out of sequence"));
    assert_eq!(bench.settled(), [Settled::Doubtful("a", "invalid")]);
    assert_eq!(bench.send(), [("b", 1, 0)]);
}

#[test]
fn no_more_batches_are_unanswered_than_the_broker_remembers() {
    let mut bench = Bench::new(&["a", "b", "c", "d", "e", "f"]);
    assert_eq!(bench.send().len(), 4);
    bench.answer(1, Answer::Written(()));
    assert_eq!(bench.send(), [], "the first one would be too far back");
    bench.answer(0, Answer::Written(()));
    assert_eq!(bench.send(), [("e", 0, 8), ("f", 0, 10)]);
}

#[test]
fn pieces_keep_the_numbers_of_their_records() {
    let piece = |batch, record_count| Part {
        batch,
        record_count,
    };
    let mut bench = Bench::new(&["a", "b", "c"]);
    bench.send();
    bench.answer(0, Answer::Written(()));
    bench.refuse(2);
    bench.lose();
    let (_, vacancy) = bench.order.take_front().unwrap();
    assert!(vacancy.maybe_written);
    let parts = vec![piece(None, 1), piece(Some("b2"), 1)];
    bench.order.put_front(vacancy, parts);
    assert_eq!(
        bench.send(),
        [("b2", 0, 3)],
        "what comes after it waits: there may be a gap"
    );
}

#[test]
fn a_topic_made_anew_knows_none_of_the_numbers() {
    let mut bench = Bench::new(&["a", "b"]);
    bench.send();
    bench.lose();
    bench.order.partition_changed();
    assert_eq!(bench.send(), [("a", 1, 0), ("b", 1, 2)]);
    bench.order.partition_changed();
    bench.order.push("c", Duration::from_secs(200));
    assert_eq!(bench.send(), [], "others are still in flight");
    bench.lose();
    assert_eq!(bench.send().first(), Some(&("a", 2, 0)));
}

#[test]
fn without_an_epoch_left_everything_waits_for_another_id() {
    let mut bench = Bench::new(&["a", "b"]);
    bench.identify(8, u16::MAX - 1);
    for _ in 0..u16::MAX - 1 {
        bench.order.partition_changed();
    }
    assert!(!bench.order.needs_identity(), "one was left");
    bench.order.partition_changed();
    assert_eq!(
        bench.send(),
        [("a", u16::MAX - 1, 0), ("b", u16::MAX - 1, 2)]
    );
    bench.refuse(0);
    bench.refuse(1);
    bench.order.partition_changed();
    assert!(bench.order.needs_identity());
    assert_eq!(bench.send(), []);
    bench.identify(9, 3);
    assert_eq!(bench.send(), [("a", 3, 0), ("b", 3, 2)]);
}
