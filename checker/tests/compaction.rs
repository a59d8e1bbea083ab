//! Histories of logs that are compacted by key: what may be missing is, and what may not is found.

use corelane_checker::{
    Checker, Digest, Event, ProducerNumber, ReaderNumber, RecordNumber, Rules, Verdict,
};
use corelane_protocol::ids::{Offset, PartitionIndex, TopicId, TopicPartition};

const PARTITION: TopicPartition = TopicPartition {
    topic: TopicId::from_bytes([1; 16]),
    partition: PartitionIndex::new(0),
};

fn content(record: u64) -> Digest {
    Digest::of_record(None, Some(record.to_string().as_bytes()))
}

/// A log that is compacted, in the making. Record `n` has the content `content(n)`, and is at offset `n`.
struct Log {
    checker: Checker,
    readers: u32,
}

impl Log {
    /// Acknowledged records of these keys, from offset 0 on. Those whose key is a capital letter have no value, and are of
    /// the key in small.
    fn of(keys: &str) -> Self {
        let mut log = Self {
            checker: Checker::new(Rules::default()),
            readers: 0,
        };
        let partition = PARTITION;
        log.checker.observe(Event::Compactable { partition });
        for (record, key) in (0..).zip(keys.chars()) {
            log.send(record, key);
            log.acknowledge(record, record);
        }
        log
    }

    fn send(&mut self, record: u64, key: char) -> &mut Self {
        let number = RecordNumber(record);
        self.checker.observe(Event::Sent {
            record: number,
            producer: ProducerNumber(0),
            key: Some(Digest::of_key(key.to_lowercase().to_string().as_bytes())),
            content: content(record),
        });
        if key.is_uppercase() {
            self.checker.observe(Event::Tombstone { record: number });
        }
        self
    }

    fn acknowledge(&mut self, record: u64, offset: u64) -> &mut Self {
        self.checker.observe(Event::Acknowledged {
            record: RecordNumber(record),
            partition: PARTITION,
            offset: Offset::new(offset),
            durable: true,
        });
        self
    }

    fn expire(&mut self, record: u64) -> &mut Self {
        let record = RecordNumber(record);
        self.checker.observe(Event::Expirable { record });
        self
    }

    fn start(&mut self) -> ReaderNumber {
        let reader = ReaderNumber(self.readers);
        self.readers += 1;
        self.checker.observe(Event::ReadStarted {
            reader,
            partition: PARTITION,
            from: Offset::ZERO,
        });
        reader
    }

    fn poll(&mut self, reader: ReaderNumber, offset: u64, record: u64) -> &mut Self {
        self.checker.observe(Event::Polled {
            reader,
            partition: PARTITION,
            offset: Offset::new(offset),
            content: content(record),
        });
        self
    }

    /// The reader was served up to an offset.
    fn through(&mut self, reader: ReaderNumber, to: u64) -> &mut Self {
        self.checker.observe(Event::ReadThrough {
            reader,
            partition: PARTITION,
            to: Offset::new(to),
        });
        self
    }

    /// A complete read of a log with this end, which finds these records.
    fn read(&mut self, records: &[u64], end: u64) -> &mut Self {
        let reader = self.start();
        for record in records {
            self.poll(reader, *record, *record);
        }
        if records.last().is_none_or(|last| *last + 1 < end) {
            self.through(reader, end);
        }
        self.checker.observe(Event::ReadEnded {
            reader,
            partition: PARTITION,
        });
        self
    }

    fn judge(&mut self) -> Verdict {
        std::mem::replace(&mut self.checker, Checker::new(Rules::default())).finish()
    }

    #[track_caller]
    fn assert_holds(&mut self) -> Verdict {
        let verdict = self.judge();
        assert!(verdict.holds(), "{verdict}");
        verdict
    }

    #[track_caller]
    fn assert_violates(&mut self, kinds: &[&str]) {
        let verdict = self.judge();
        let found: Vec<_> = verdict.violations_by_kind.keys().copied().collect();
        assert_eq!(found, kinds, "{verdict}");
    }
}

#[test]
fn records_that_later_ones_replace_may_be_missing() {
    Log::of("abac").read(&[0, 1, 2, 3], 4).assert_holds();
    let verdict = Log::of("abac").read(&[1, 2, 3], 4).assert_holds();
    assert_eq!(verdict.counts.compacted, 1);
    // Everything but the last one, and nobody has to see the same as others.
    let verdict = Log::of("aaaa")
        .read(&[0, 3], 4)
        .read(&[3], 4)
        .assert_holds();
    assert_eq!(verdict.counts.compacted, 3);
    // A record without a value replaces as any other.
    Log::of("abA").read(&[1, 2], 3).assert_holds();
}

#[test]
fn a_lost_last_record_of_a_key_is_found() {
    Log::of("abac")
        .read(&[0, 1, 3], 4)
        .assert_violates(&["lost"]);
    // At the end of the log, whether a batch covers it or not.
    Log::of("aba").read(&[0, 1], 3).assert_violates(&["lost"]);
    Log::of("aba").read(&[0, 1], 2).assert_violates(&["lost"]);
    Log::of("a").read(&[], 1).assert_violates(&["lost"]);
    // Though an earlier record of the key is there.
    Log::of("aab").read(&[0, 2], 3).assert_violates(&["lost"]);
}

#[test]
fn a_hole_that_no_later_record_explains_is_found() {
    // Record 1 is read before anybody has acknowledged it, and is gone later.
    let unacknowledged = |key: char| {
        let mut log = Log::of("a");
        log.send(1, 'b').send(2, key);
        log.read(&[0, 1, 2], 3).acknowledge(2, 2);
        log.read(&[0, 2], 3);
        log
    };
    unacknowledged('b').assert_holds();
    unacknowledged('c').assert_violates(&["vanished"]);
    // What is sent only after the hole was seen explains nothing.
    let mut late = Log::of("ab");
    late.read(&[1], 2).send(2, 'a').acknowledge(2, 2);
    late.read(&[1, 2], 3).assert_violates(&["lost"]);
    // It is found as well by who does not read to the end.
    let mut log = Log::of("abc");
    let reader = log.start();
    log.poll(reader, 0, 0).poll(reader, 2, 2);
    log.read(&[0, 1, 2], 3)
        .assert_violates(&["came back", "lost"]);
}

#[test]
fn a_record_that_may_be_in_the_log_explains_a_hole() {
    let mut log = Log::of("ab");
    log.send(2, 'a').read(&[1], 2).assert_holds();
    let mut refused = Log::of("ab");
    refused.send(2, 'a');
    let record = RecordNumber(2);
    refused.checker.observe(Event::Failed { record });
    refused.read(&[1], 2).assert_violates(&["lost"]);
}

#[test]
fn a_record_without_a_value_stays_for_its_time() {
    Log::of("aAb").read(&[2], 3).assert_violates(&["lost"]);
    let verdict = Log::of("aAb").expire(1).read(&[2], 3).assert_holds();
    assert_eq!(
        (verdict.counts.compacted, verdict.counts.tombstones_gone),
        (1, 1)
    );
    // It was gone before its time was over.
    let mut early = Log::of("aAb");
    early.read(&[2], 3).expire(1).assert_violates(&["lost"]);
}

#[test]
fn a_value_that_comes_back_is_found() {
    // What has deleted it is gone, and it is there.
    let mut log = Log::of("aAb");
    log.expire(1).read(&[0, 2], 3).read(&[0, 2], 3);
    log.assert_violates(&["came back"]);
    // Who was handed the value before it was gone may find nothing that deletes it.
    let mut slow = Log::of("aAb");
    slow.expire(1);
    let reader = slow.start();
    slow.poll(reader, 0, 0).read(&[2], 3);
    slow.poll(reader, 2, 2).assert_holds();
    // What is gone is gone, though it does no harm.
    let mut log = Log::of("aab");
    log.read(&[1, 2], 3).read(&[0, 1, 2], 3);
    log.assert_violates(&["came back"]);
}

#[test]
fn nothing_is_served_twice_or_in_another_order() {
    let mut twice = Log::of("aab");
    let reader = twice.start();
    twice.poll(reader, 1, 1).poll(reader, 1, 1);
    twice.read(&[1, 2], 3).assert_violates(&["backwards"]);
    let mut below = Log::of("abc");
    let reader = below.start();
    below.through(reader, 2).poll(reader, 1, 1);
    below
        .read(&[0, 1, 2], 3)
        .assert_violates(&["backwards", "came back", "lost"]);
    let mut changed = Log::of("aab");
    let reader = changed.start();
    changed.poll(reader, 1, 0).poll(reader, 2, 2);
    changed.assert_violates(&["changed", "not verified"]);
}

#[test]
fn who_is_led_past_offsets_is_told_no_more_than_is_served() {
    let mut log = Log::of("aab");
    let reader = log.start();
    log.checker.observe(Event::Fetched {
        reader,
        partition: PARTITION,
        high_watermark: Offset::new(2),
    });
    log.through(reader, 3).read(&[1, 2], 3);
    log.assert_violates(&["above the high watermark", "came back", "lost"]);
}

#[test]
fn a_first_copy_that_was_left_out_unread_says_nothing_about_order() {
    let mut log = Log::of("");
    // Record 0 has two copies, at 0 and 2, of which only the second one has a receipt.
    log.send(0, 'a').send(1, 'b').acknowledge(1, 1);
    let record = RecordNumber(0);
    log.checker.observe(Event::Unknown { record });
    log.acknowledge(0, 2);
    let reader = log.start();
    log.poll(reader, 1, 1).poll(reader, 2, 0);
    log.checker.observe(Event::ReadEnded {
        reader,
        partition: PARTITION,
    });
    log.assert_holds();
}

#[test]
fn a_log_that_is_not_compacted_has_no_holes() {
    let mut log = Log {
        checker: Checker::new(Rules::default()),
        readers: 0,
    };
    for (record, key) in [(0, 'a'), (1, 'a'), (2, 'a')] {
        log.send(record, key).acknowledge(record, record);
    }
    let reader = log.start();
    log.poll(reader, 1, 1).through(reader, 3);
    log.read(&[0, 1, 2], 3).assert_violates(&["skip"]);
}

#[test]
fn a_gap_without_end_is_no_compaction() {
    let mut log = Log::of("ab");
    let reader = log.start();
    log.through(reader, u64::MAX);
    log.read(&[0, 1], 2).assert_violates(&["skip"]);
}

#[test]
fn an_observer_that_contradicts_itself_is_told_so() {
    Log::of("a")
        .expire(0)
        .read(&[0], 1)
        .assert_violates(&["bad history"]);
    let mut log = Log::of("");
    let record = RecordNumber(7);
    log.checker.observe(Event::Tombstone { record });
    log.assert_violates(&["bad history"]);
    let mut log = Log::of("");
    log.through(ReaderNumber(3), 1);
    log.assert_violates(&["bad history"]);
}
