//! The rule, against a reference that keeps every batch, and what the catalogue gives back of it.

use corelane_protocol::batch::{SEQUENCES, advance_sequence};
use corelane_protocol::wire::{Reader, Writer};
use corelane_protocol::{Offset, ProducerEpoch, ProducerId, Timestamp};

use super::*;
use crate::testing::Random;

fn batch(producer: u64, epoch: u16, sequence: u32, records: u32) -> Sequenced {
    Sequenced {
        producer: ProducerId::new(producer),
        epoch: ProducerEpoch::new(epoch),
        sequence,
        records,
    }
}

fn at(offset: u64) -> Offset {
    Offset::new(offset)
}

fn time(ms: i64) -> Timestamp {
    Timestamp::new(ms)
}

/// Appends one batch after the other, each at the offset given.
fn with(batches: &[(Sequenced, u64)]) -> Producers {
    let mut producers = Producers::default();
    for (batch, offset) in batches {
        producers.appended(batch, at(*offset), time(5), Offset::ZERO);
    }
    producers
}

#[test]
fn what_comes_next_is_new_and_what_came_before_is_known() {
    let producers = with(&[(batch(1, 0, 0, 10), 100), (batch(1, 0, 10, 5), 130)]);
    let judge = |sequence, records| producers.judge(&batch(1, 0, sequence, records));
    assert_eq!(judge(15, 3), Verdict::Next);
    assert_eq!(judge(0, 10), Verdict::Known(at(100)));
    assert_eq!(judge(10, 5), Verdict::Known(at(130)));
    // A piece of one that was sent again in smaller batches.
    assert_eq!(judge(4, 6), Verdict::Known(at(104)));
    let gap = |found| {
        Verdict::Refused(SequenceError::OutOfOrder {
            found,
            expected: 15,
        })
    };
    assert_eq!(judge(16, 1), gap(16));
    assert_eq!(judge(12, 4), gap(12), "half of it is new");
    assert_eq!(judge(8, 4), gap(8), "no batch holds all of it");
}

#[test]
fn unknown_producers_begin_at_zero() {
    let producers = Producers::default();
    assert_eq!(producers.judge(&batch(1, 3, 0, 1)), Verdict::First);
    let unknown = SequenceError::UnknownProducer { found: 4 };
    let verdict = producers.judge(&batch(1, 3, 4, 1));
    assert_eq!(verdict, Verdict::Refused(unknown));
}

#[test]
fn a_later_epoch_begins_at_zero_and_fences_the_earlier_one() {
    let mut producers = with(&[(batch(1, 4, 0, 10), 0)]);
    let gap = SequenceError::OutOfOrder {
        found: 10,
        expected: 0,
    };
    let verdict = producers.judge(&batch(1, 5, 10, 1));
    assert_eq!(verdict, Verdict::Refused(gap));
    assert_eq!(producers.judge(&batch(1, 9, 0, 2)), Verdict::Next);
    producers.appended(&batch(1, 9, 0, 2), at(10), time(6), Offset::ZERO);
    let fenced = SequenceError::Fenced {
        found: ProducerEpoch::new(4),
        latest: ProducerEpoch::new(9),
    };
    for sequence in [0, 10] {
        let verdict = producers.judge(&batch(1, 4, sequence, 1));
        assert_eq!(verdict, Verdict::Refused(fenced));
    }
    assert_eq!(producers.judge(&batch(1, 9, 0, 2)), Verdict::Known(at(10)));
}

#[test]
fn sequences_go_round() {
    let last = SEQUENCES - 2;
    let producers = with(&[(batch(1, 0, last, 4), 50), (batch(1, 0, 2, 3), 60)]);
    assert_eq!(producers.judge(&batch(1, 0, 5, 1)), Verdict::Next);
    let known = producers.judge(&batch(1, 0, SEQUENCES - 1, 2));
    assert_eq!(known, Verdict::Known(at(51)));
    assert_eq!(producers.judge(&batch(1, 0, 2, 3)), Verdict::Known(at(60)));
}

#[test]
fn the_last_batches_are_remembered_and_older_ones_known_to_be_there() {
    let mut producers = Producers::default();
    let batches = PRODUCER_WINDOW + 300;
    for number in 0..batches {
        // Two producers in turn, so that no two batches make one run.
        for producer in [1, 2] {
            let offset = at(u64::from(number) * 2 + producer - 1);
            producers.appended(&batch(producer, 0, number, 1), offset, time(5), offset);
        }
    }
    let judge = |number| producers.judge(&batch(1, 0, number, 1));
    let oldest = batches - PRODUCER_WINDOW;
    assert_eq!(judge(oldest), Verdict::Known(at(u64::from(oldest) * 2)));
    let long_ago = Verdict::Refused(SequenceError::LongAgo);
    assert_eq!(judge(oldest - 2), long_ago);
    assert!(producers.bytes() < 2 * (PRODUCER_BYTES + 17 * (PRODUCER_WINDOW as usize + 1)));
    let mut scarce = producers.clone();
    scarce.shrink(Offset::MAX);
    assert!(scarce.bytes() < 2 * (PRODUCER_BYTES + 17 * 7));
    let judge = |number| scarce.judge(&batch(1, 0, number, 1));
    let last = batches - 1;
    assert_eq!(judge(last), Verdict::Known(at(u64::from(last) * 2)));
    assert_eq!(judge(oldest), long_ago);
}

#[test]
fn what_is_not_settled_is_kept_whatever_it_takes() {
    let mut producers = Producers::default();
    let batches = PRODUCER_WINDOW * 3;
    for number in 0..batches {
        let offset = at(u64::from(number) * 2);
        producers.appended(&batch(1, 0, number, 1), offset, time(5), Offset::ZERO);
    }
    producers.shrink(at(10));
    assert_eq!(producers.judge(&batch(1, 0, 5, 1)), Verdict::Known(at(10)));
    let mut first = Producers::default();
    for record in producers.between(Offset::ZERO, at(100)) {
        first.take_in(record, Offset::ZERO).expect("no overlap");
    }
    assert_eq!(first.judge(&batch(1, 0, 50, 1)), Verdict::Next);
}

#[test]
fn the_silent_are_forgotten() {
    let mut producers = Producers::default();
    producers.appended(&batch(1, 0, 0, 1), at(0), time(10), Offset::ZERO);
    producers.appended(&batch(2, 0, 0, 1), at(1), time(20), Offset::ZERO);
    producers.appended(&batch(3, 0, 0, 1), at(2), time(30), Offset::ZERO);
    producers.appended(&batch(1, 0, 1, 1), at(3), time(40), Offset::ZERO);
    assert_eq!(producers.expire(time(20)), 0);
    assert_eq!(producers.expire(time(21)), 1);
    assert!(matches!(
        producers.judge(&batch(2, 0, 1, 1)),
        Verdict::Refused(SequenceError::UnknownProducer { .. })
    ));
    assert_eq!(producers.judge(&batch(1, 0, 2, 1)), Verdict::Next);
    assert_eq!(producers.expire(time(41)), 2);
    assert_eq!((producers.len(), producers.bytes()), (0, 0));
}

/// A log of batches, with the producers that write to it.
struct Log {
    random: Random,
    batches: Vec<(Sequenced, u64)>,
    end: u64,
    next: Vec<(u16, u32)>,
}

impl Log {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            batches: Vec::new(),
            end: 0,
            next: vec![(0, 0); 3],
        }
    }

    fn grow(&mut self, producers: &mut Producers, settled: Offset) {
        let producer = self.random.below(3) as usize;
        let records = 1 + self.random.below(4) as u32;
        let (epoch, sequence) = &mut self.next[producer];
        if self.random.below(40) == 0 {
            (*epoch, *sequence) = (*epoch + 1, 0);
        }
        let batch = batch(producer as u64, *epoch, *sequence, records);
        *sequence = advance_sequence(*sequence, records);
        let verdict = producers.judge(&batch);
        assert!(
            matches!(verdict, Verdict::Next | Verdict::First),
            "{batch:?} is {verdict:?}"
        );
        producers.appended(&batch, at(self.end), time(self.end as i64), settled);
        self.batches.push((batch, self.end));
        // Others' records lie between.
        self.end += u64::from(records) + self.random.below(2);
    }
}

/// Everything that matters of what is known: what each batch of the log is now.
fn verdicts(producers: &Producers, log: &Log) -> Vec<Verdict> {
    let batches = log.batches.iter();
    batches.map(|(batch, _)| producers.judge(batch)).collect()
}

#[test]
fn catalogue_and_journal_give_back_what_was_known() {
    for seed in 0..200 {
        let mut log = Log::new(seed);
        let mut live = Producers::default();
        // What the catalogue has, and up to where: as the records of flushes leave it, some told twice.
        let (mut image, mut settled) = (Producers::default(), 0);
        for _ in 0..log.random.below(300) {
            log.grow(&mut live, at(settled));
            if log.random.below(8) > 0 {
                continue;
            }
            let boundaries: Vec<u64> = log.batches.iter().map(|(_, offset)| *offset).collect();
            let later: Vec<u64> = boundaries.into_iter().filter(|at| *at > settled).collect();
            let Some(&upto) = later.get(log.random.below(later.len().max(1) as u64) as usize)
            else {
                continue;
            };
            for record in live.between(at(settled), at(upto)) {
                let mut bytes = Vec::new();
                let mut out = Writer::new(&mut bytes);
                out.list(&record, |out, snapshot| snapshot.encode(out));
                out.finish().expect("short");
                let mut input = Reader::new(&bytes);
                let decoded = ProducerSnapshot::decode_all(&mut input).expect("as written");
                assert_eq!(decoded, record);
                image.take_in(decoded, at(settled)).expect("no overlap");
            }
            // A crash may come before the flush itself is recorded.
            if log.random.below(3) > 0 {
                settled = upto;
            }
        }
        let mut recovered = image.clone();
        recovered.cut(at(settled));
        for (batch, offset) in &log.batches {
            if *offset >= settled {
                recovered.appended(batch, at(*offset), time(*offset as i64), at(settled));
            }
        }
        assert_eq!(
            verdicts(&recovered, &log),
            verdicts(&live, &log),
            "seed {seed}"
        );
        // And of a log that lost its end nothing is known that was there. What was known of an epoch goes when the next
        // one begins, and no producer goes back to it.
        image.cut(at(settled));
        for (batch, offset) in &log.batches {
            let (latest, _) = log.next[batch.producer.get() as usize];
            if *offset >= settled && batch.epoch.get() == latest {
                let verdict = image.judge(batch);
                let is_known = matches!(
                    verdict,
                    Verdict::Known(_) | Verdict::Refused(SequenceError::LongAgo)
                );
                assert!(!is_known, "seed {seed}: {batch:?} is {verdict:?}");
            }
        }
    }
}
