//! One partition's order against a model of a broker that knows batches again by their numbers, with
//! everything that can go wrong, at random: refusals, lost answers, connections that end while
//! requests are still on their way and arrive later, crashes that take acknowledged records, topics
//! made anew, batches that are split, deadlines, and epochs that run out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use corelane_protocol::response::ProducerIdentity;
use corelane_protocol::{ProducerEpoch, ProducerId};

use super::order::*;
use super::sequence::{EPOCH_LAST, Sequence};
use crate::backoff::{Backoff, Jitter};

const BACKOFF: Backoff = Backoff {
    min: Duration::from_millis(2),
    max: Duration::from_millis(20),
};
/// Batches that the broker remembers of each producer.
const WINDOW: u32 = 4;

struct Dice(Jitter);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0.next() % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Batch {
    values: Vec<u32>,
    is_too_large: bool,
}

/// A batch on its way to the broker.
#[derive(Debug, Clone)]
struct Frame {
    connection: ConnectionNumber,
    number: BatchNumber,
    topic: u32,
    sequence: Sequence,
    resume: bool,
    values: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Written,
    WrittenBefore,
    Overloaded,
    Order,
    Invalid,
    TooLarge,
    TimedOut,
    UnknownTopic,
    OutOfSequence,
    Forgotten,
    Fenced,
}

/// What the broker knows of a producer.
#[derive(Debug, Default)]
struct Known {
    epoch: u16,
    next: u32,
    /// Where its last batches begin.
    bases: VecDeque<u32>,
}

#[derive(Debug, Default)]
struct Broker {
    topic: u32,
    log: Vec<(Sequence, Vec<u32>)>,
    known: BTreeMap<ProducerId, Known>,
    /// Connections on which nothing is taken until a batch resumes.
    held: BTreeSet<ConnectionNumber>,
    /// What topics held that were deleted.
    old_logs: Vec<Vec<u32>>,
    /// What crashes took.
    lost: BTreeSet<u32>,
}

impl Broker {
    fn values(&self) -> Vec<u32> {
        self.log
            .iter()
            .flat_map(|(_, values)| values.clone())
            .collect()
    }

    fn note(&mut self, sequence: Sequence, record_count: usize) {
        let known = self.known.entry(sequence.producer_id).or_default();
        let epoch = sequence.producer_epoch.get();
        if epoch != known.epoch {
            *known = Known {
                epoch,
                ..Known::default()
            };
        }
        known.next = sequence.base_sequence + record_count as u32;
        known.bases.push_back(sequence.base_sequence);
        if known.bases.len() > WINDOW as usize {
            known.bases.pop_front();
        }
    }

    /// What is under this number now.
    fn value_at(&self, sequence: Sequence) -> Option<u32> {
        let same_epoch = |(of, _): &&(Sequence, Vec<u32>)| {
            (of.producer_id, of.producer_epoch) == (sequence.producer_id, sequence.producer_epoch)
        };
        self.log.iter().filter(same_epoch).find_map(|(of, values)| {
            let index = sequence.base_sequence.checked_sub(of.base_sequence)?;
            values.get(index as usize).copied()
        })
    }

    fn take(&mut self, frame: &Frame, is_current: bool, faults: &mut Option<Dice>) -> Word {
        if frame.resume {
            self.held.remove(&frame.connection);
        }
        if frame.topic != self.topic {
            return Word::UnknownTopic;
        }
        if self.held.contains(&frame.connection) {
            return Word::Order;
        }
        let fault = faults.as_mut().map_or(99, |dice| dice.roll(40));
        let word = match fault {
            0 | 1 => Word::Overloaded,
            2 => Word::Invalid,
            3 if frame.values.len() > 1 => Word::TooLarge,
            4 => Word::TimedOut,
            5 if self.append(frame, is_current) == Word::Written => Word::TimedOut,
            _ => self.append(frame, is_current),
        };
        let holding = [
            Word::Overloaded,
            Word::TooLarge,
            Word::TimedOut,
            Word::OutOfSequence,
            Word::Forgotten,
        ];
        if holding.contains(&word) {
            self.held.insert(frame.connection);
        }
        word
    }

    fn append(&mut self, frame: &Frame, is_current: bool) -> Word {
        let sequence = frame.sequence;
        let (base, count) = (sequence.base_sequence, frame.values.len() as u32);
        let epoch = sequence.producer_epoch.get();
        match self.known.get(&sequence.producer_id) {
            None if base != 0 => return Word::Forgotten,
            None => {}
            Some(known) if epoch < known.epoch => {
                assert!(!is_current, "an earlier epoch goes on: {frame:?}");
                return Word::Fenced;
            }
            Some(known) if epoch > known.epoch && base != 0 => return Word::OutOfSequence,
            Some(known) if epoch > known.epoch => {}
            Some(known) if base > known.next => return Word::OutOfSequence,
            Some(known) if base + count <= known.next => {
                for (value, number) in frame.values.iter().zip(base..) {
                    let at = Sequence {
                        base_sequence: number,
                        ..sequence
                    };
                    let found = self.value_at(at);
                    assert_eq!(
                        found,
                        Some(*value),
                        "another batch has its number: {frame:?}"
                    );
                }
                let is_remembered = known.bases.front().is_some_and(|first| *first <= base);
                return match is_remembered {
                    true => Word::Written,
                    false => Word::WrittenBefore,
                };
            }
            Some(known) if base < known.next => {
                assert!(!is_current, "half of it is written: {frame:?}");
                return Word::Invalid;
            }
            Some(_) => {}
        }
        self.log.push((sequence, frame.values.clone()));
        self.note(sequence, frame.values.len());
        Word::Written
    }

    /// Starts again without its last batches.
    fn crash(&mut self, without: usize) {
        let kept = self.log.len().saturating_sub(without);
        let lost = self.log.drain(kept..);
        self.lost.extend(lost.flat_map(|(_, values)| values));
        self.held.clear();
        self.known.clear();
        for (sequence, values) in self.log.clone() {
            self.note(sequence, values.len());
        }
    }

    fn make_anew(&mut self) {
        self.old_logs.push(self.values());
        self.log.clear();
        self.known.clear();
        self.topic += 1;
    }
}

type Outcome = Settled<Batch, (), &'static str>;

struct Model {
    order: PartitionOrder<Batch, &'static str>,
    broker: Broker,
    dice: Dice,
    faults: Option<Dice>,
    jitter: Jitter,
    now: Duration,
    connection: ConnectionNumber,
    /// By connection, also of those that the producer has given up.
    on_the_way: BTreeMap<ConnectionNumber, VecDeque<Frame>>,
    answers: Vec<(BatchNumber, Word)>,
    /// The topic as the producer knows it.
    topic: u32,
    identities: u64,
    next_value: u32,
    settled: BTreeMap<u32, &'static str>,
}

impl Model {
    fn new(seed: u64) -> Self {
        Self {
            order: PartitionOrder::new(true),
            broker: Broker::default(),
            dice: Dice(Jitter::new(seed)),
            faults: Some(Dice(Jitter::new(!seed))),
            jitter: Jitter::new(seed),
            now: Duration::from_secs(1),
            connection: 0,
            on_the_way: BTreeMap::new(),
            answers: Vec::new(),
            topic: 0,
            identities: 0,
            next_value: 0,
            settled: BTreeMap::new(),
        }
    }

    fn push(&mut self) {
        let count = 1 + self.dice.roll(4) as u32;
        let values = (self.next_value..self.next_value + count).collect();
        self.next_value += count;
        let batch = Batch {
            values,
            is_too_large: false,
        };
        // Never before that of the batch in front of it.
        self.order
            .push(batch, self.now + Duration::from_millis(120));
    }

    /// The producer gets an identity, of which some have few epochs left.
    fn identify(&mut self) {
        self.identities += 1;
        let epoch = [0, EPOCH_LAST - 2][self.dice.roll(2) as usize];
        assert!(self.order.identify(ProducerIdentity {
            producer_id: ProducerId::new(self.identities),
            producer_epoch: ProducerEpoch::new(epoch),
            window: WINDOW,
        }));
    }

    fn send(&mut self) {
        let Some(next) = self.order.peek(self.now, self.connection) else {
            return;
        };
        let sequence = next.sequence.expect("it is idempotent");
        if next.batch.is_too_large {
            return self.split();
        }
        let values = next.batch.values.clone();
        let record_count = values.len() as u32;
        let frame = Frame {
            connection: self.connection,
            number: next.number,
            topic: self.topic,
            sequence,
            resume: next.resume,
            values,
        };
        self.on_the_way
            .entry(self.connection)
            .or_default()
            .push_back(frame);
        self.order.sent(self.connection, record_count);
    }

    /// Sometimes one of the records turns out to be too large by itself.
    fn split(&mut self) {
        let (batch, vacancy) = self.order.take_front().unwrap();
        let given_up = self
            .dice
            .one_in(4)
            .then(|| self.dice.roll(batch.values.len() as u64));
        let mut parts = Vec::new();
        for (index, value) in (0..).zip(batch.values) {
            let part = Batch {
                values: vec![value],
                is_too_large: false,
            };
            let is_given_up = given_up == Some(index);
            if is_given_up {
                let outcome = match vacancy.maybe_written {
                    true => Settled::Doubtful(part.clone(), "too large"),
                    false => Settled::Failed(part.clone(), "too large"),
                };
                self.settle(outcome);
            }
            parts.push(Part {
                batch: (!is_given_up).then_some(part),
                record_count: 1,
            });
        }
        self.order.put_front(vacancy, parts);
    }

    /// The broker takes what has come on one of the connections.
    fn arrive(&mut self) {
        self.on_the_way.retain(|_, frames| !frames.is_empty());
        let count = self.on_the_way.len() as u64;
        if count == 0 {
            return;
        }
        let index = self.dice.roll(count) as usize;
        let (connection, frames) = self.on_the_way.iter_mut().nth(index).unwrap();
        let frame = frames.pop_front().unwrap();
        let is_current = *connection == self.connection;
        let word = self.broker.take(&frame, is_current, &mut self.faults);
        if is_current {
            self.answers.push((frame.number, word));
        }
    }

    fn answer(&mut self) {
        if self.answers.is_empty() {
            return;
        }
        let index = self.dice.roll(self.answers.len() as u64) as usize;
        let (number, word) = self.answers.swap_remove(index);
        let retry = |error, needs_resume, maybe_written| Answer::Retry {
            error,
            needs_resume,
            maybe_written,
            redirected: false,
        };
        let fail = |error| Answer::Failed {
            error,
            needs_resume: false,
            maybe_written: false,
        };
        let answer = match word {
            Word::Written => Answer::Written(()),
            Word::WrittenBefore => Answer::WrittenBefore("before"),
            Word::Overloaded => retry("overloaded", true, false),
            Word::Order => retry("order", true, false),
            Word::TimedOut => retry("timed out", true, true),
            Word::UnknownTopic => retry("unknown topic", false, false),
            Word::Invalid => fail("invalid"),
            Word::Fenced => fail("fenced"),
            Word::OutOfSequence => Answer::OutOfSequence("out of sequence"),
            Word::Forgotten => Answer::Forgotten("forgotten"),
            Word::TooLarge => {
                if let Some(batch) = self.order.in_flight_mut(number) {
                    batch.is_too_large = true;
                }
                retry("too large", true, false)
            }
        };
        if word == Word::UnknownTopic && self.topic != self.broker.topic {
            self.topic = self.broker.topic;
            self.order.partition_changed();
        }
        let mut settled = Vec::new();
        let (now, jitter) = (self.now, &mut self.jitter);
        self.order
            .answered(now, number, answer, &BACKOFF, jitter, &mut settled);
        self.settle_all(settled);
    }

    /// The producer's connection ends. Of what it has sent some may still arrive.
    fn cut(&mut self) {
        if let Some(frames) = self.on_the_way.get_mut(&self.connection) {
            frames.truncate(self.dice.roll(frames.len() as u64 + 1) as usize);
        }
        self.answers.clear();
        let mut settled = Vec::new();
        let (now, jitter) = (self.now, &mut self.jitter);
        self.order
            .connection_lost(now, self.connection, &"cut", &BACKOFF, jitter, &mut settled);
        self.settle_all(settled);
        self.connection += 1;
    }

    /// The broker goes down, and with it whatever was on its way.
    fn crash(&mut self) {
        self.on_the_way.clear();
        let without = self.dice.roll(4) as usize;
        self.broker.crash(without);
        self.cut();
    }

    fn pass_time(&mut self) {
        self.now += Duration::from_millis(self.dice.roll(30));
        let mut settled: Vec<Outcome> = Vec::new();
        self.order.expire(self.now, &mut settled);
        self.settle_all(settled);
    }

    fn settle_all(&mut self, settled: Vec<Outcome>) {
        for outcome in settled {
            self.settle(outcome);
        }
    }

    fn settle(&mut self, outcome: Outcome) {
        let (batch, word) = match outcome {
            Settled::Written(batch, ()) | Settled::WrittenBefore(batch, _) => (batch, "written"),
            Settled::Failed(batch, _) | Settled::Expired(batch, _) => (batch, "not written"),
            Settled::Doubtful(batch, _) | Settled::Unknown(batch, _) => (batch, "unknown"),
        };
        for value in batch.values {
            let before = self.settled.insert(value, word);
            assert_eq!(before, None, "{value} is settled once");
        }
    }

    fn step(&mut self) {
        match self.dice.roll(100) {
            0..20 => self.push(),
            20..45 => self.send(),
            45..70 => self.arrive(),
            70..90 => self.answer(),
            90..95 => self.pass_time(),
            95 => self.cut(),
            96 if self.dice.one_in(4) => self.crash(),
            97 if self.dice.one_in(8) => self.broker.make_anew(),
            98 if self.is_quiet() => self.broker.known.clear(),
            _ if self.order.needs_identity() => self.identify(),
            _ => {}
        }
    }

    /// Whether nothing is under way anywhere, as when a day has passed.
    fn is_quiet(&self) -> bool {
        self.order.is_empty() && self.on_the_way.values().all(VecDeque::is_empty)
    }

    /// Without faults everything is settled, and what is sent then is written: no gap is left.
    fn finish(&mut self) {
        self.faults = None;
        self.run_until_settled();
        let first = self.next_value;
        for _ in 0..3 {
            self.push();
        }
        self.run_until_settled();
        for value in first..self.next_value {
            assert_eq!(
                self.settled.get(&value),
                Some(&"written"),
                "{value} at the end"
            );
        }
    }

    fn run_until_settled(&mut self) {
        for _ in 0..2_000 {
            if self.order.is_empty() {
                return;
            }
            if self.order.needs_identity() {
                self.identify();
            }
            self.send();
            self.arrive();
            self.answer();
            self.now += Duration::from_millis(1);
            let mut settled: Vec<Outcome> = Vec::new();
            self.order.expire(self.now, &mut settled);
            self.settle_all(settled);
        }
        panic!("it does not come to an end: {:?}", self.order);
    }

    fn check(&self) {
        let current = self.broker.values();
        let logs = self.broker.old_logs.iter().chain([&current]);
        let mut in_logs = BTreeSet::new();
        for log in logs {
            let once: BTreeSet<u32> = log.iter().copied().collect();
            assert_eq!(once.len(), log.len(), "once each: {log:?}");
            // Another id does not keep out what was given up under the one before. It may come late.
            let is_early = |value: &&u32| self.identities == 1 || self.settled[*value] != "unknown";
            let in_order = log.iter().filter(is_early);
            assert!(in_order.is_sorted_by(|a, b| a < b), "in order: {log:?}");
            in_logs.extend(once);
        }
        assert_eq!(self.settled.len(), self.next_value as usize);
        for (value, word) in &self.settled {
            match *word {
                "written" => assert!(
                    in_logs.contains(value) || self.broker.lost.contains(value),
                    "{value} was acknowledged and never written"
                ),
                "not written" => assert!(!in_logs.contains(value), "{value} is in the log"),
                _ => {}
            }
        }
    }
}

fn run(seed: u64) -> Model {
    let mut model = Model::new(seed);
    for _ in 0..400 {
        model.step();
    }
    model.finish();
    model.check();
    model
}

#[test]
fn whatever_goes_wrong_records_are_written_once_and_in_order() {
    let mut words: BTreeMap<&str, u32> = BTreeMap::new();
    let mut identities = 0;
    for seed in 0..SEEDS {
        let caught = std::panic::catch_unwind(|| run(seed));
        let model = caught.unwrap_or_else(|_| panic!("seed {seed}"));
        for word in model.settled.values() {
            *words.entry(word).or_default() += 1;
        }
        identities += model.identities;
    }
    // It is a test of something only if all of this happens, and most is written all the same.
    assert!(
        words["written"] > words["unknown"] + words["not written"],
        "{words:?}"
    );
    assert!(
        words["unknown"] > 50 && words["not written"] > 50,
        "{words:?}"
    );
    assert!(identities > SEEDS, "epochs run out");
}

const SEEDS: u64 = 500;
