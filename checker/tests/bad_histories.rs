//! Each kind of broken promise, planted in an otherwise good history, is found and named; good
//! histories pass, however strange.

use corelane_checker::{
    Checker, Digest, Event, OwnerNumber, ProducerNumber, ReaderNumber, RecordNumber, Rules,
    Verdict, Violation,
};
use corelane_protocol::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicPartition};

fn partition(index: u32) -> TopicPartition {
    TopicPartition {
        topic: TopicId::from_bytes([1; 16]),
        partition: PartitionIndex::new(index),
    }
}

fn content(record: u64) -> Digest {
    Digest::of_record(Some(b"key"), Some(record.to_string().as_bytes()))
}

/// A history in the making. Records are numbered; record `n` has the content `content(n)`.
struct History {
    events: Vec<Event>,
    rules: Rules,
    readers: u32,
}

impl History {
    fn new() -> Self {
        Self {
            events: Vec::new(),
            rules: Rules::default(),
            readers: 0,
        }
    }

    fn send(&mut self, record: u64) -> &mut Self {
        self.send_keyed(record, b"key")
    }

    fn send_keyed(&mut self, record: u64, key: &[u8]) -> &mut Self {
        self.events.push(Event::Sent {
            record: RecordNumber(record),
            producer: ProducerNumber(0),
            key: Some(Digest::of_key(key)),
            content: content(record),
        });
        self
    }

    fn acknowledge(&mut self, record: u64, offset: u64) -> &mut Self {
        self.acknowledge_in(record, 0, offset, true)
    }

    fn acknowledge_in(&mut self, record: u64, index: u32, offset: u64, durable: bool) -> &mut Self {
        let (partition, offset) = (partition(index), Offset::new(offset));
        let record = RecordNumber(record);
        self.events.push(Event::Acknowledged {
            record,
            partition,
            offset,
            durable,
        });
        self
    }

    fn fail(&mut self, record: u64) -> &mut Self {
        self.events.push(Event::Failed {
            record: RecordNumber(record),
        });
        self
    }

    fn unknown(&mut self, record: u64) -> &mut Self {
        self.events.push(Event::Unknown {
            record: RecordNumber(record),
        });
        self
    }

    /// A complete read of a partition which finds these records at offsets 0, 1, 2 …
    fn read(&mut self, index: u32, records: &[u64]) -> &mut Self {
        let found: Vec<_> = (0..).zip(records.iter().copied()).collect();
        self.read_offsets(index, &found)
    }

    fn read_offsets(&mut self, index: u32, found: &[(u64, u64)]) -> &mut Self {
        let reader = self.start_read(index);
        for (offset, record) in found {
            self.poll(reader, index, *offset, content(*record));
        }
        self.end_read(reader, index)
    }

    fn start_read(&mut self, index: u32) -> ReaderNumber {
        let reader = ReaderNumber(self.readers);
        self.readers += 1;
        let partition = partition(index);
        self.events.push(Event::ReadStarted {
            reader,
            partition,
            from: Offset::new(0),
        });
        reader
    }

    fn poll(&mut self, reader: ReaderNumber, index: u32, offset: u64, content: Digest) {
        let (partition, offset) = (partition(index), Offset::new(offset));
        self.events.push(Event::Polled {
            reader,
            partition,
            offset,
            content,
        });
    }

    fn end_read(&mut self, reader: ReaderNumber, index: u32) -> &mut Self {
        self.events.push(Event::ReadEnded {
            reader,
            partition: partition(index),
        });
        self
    }

    fn judge(&self) -> Verdict {
        let mut checker = Checker::new(self.rules);
        for event in &self.events {
            checker.observe(*event);
        }
        checker.finish()
    }

    #[track_caller]
    fn assert_holds(&self) {
        let verdict = self.judge();
        assert!(verdict.holds(), "{verdict}");
    }

    /// Exactly these kinds are found, and nothing else is blamed.
    #[track_caller]
    fn assert_violates(&self, kinds: &[&str]) -> Verdict {
        let verdict = self.judge();
        let found: Vec<_> = verdict.violations_by_kind.keys().copied().collect();
        let mut kinds = kinds.to_vec();
        kinds.sort_unstable();
        assert_eq!(found, kinds, "{verdict}");
        verdict
    }
}

/// Three records, sent and acknowledged in order.
fn three() -> History {
    let mut history = History::new();
    for record in 0..3 {
        history.send(record);
    }
    for record in 0..3 {
        history.acknowledge(record, record);
    }
    history
}

#[test]
fn a_plain_history_holds() {
    let mut history = three();
    history.read(0, &[0, 1, 2]).assert_holds();
    let counts = history.judge().counts;
    assert_eq!(
        (
            counts.sent,
            counts.acknowledged_durable,
            counts.offsets_read
        ),
        (3, 3, 3)
    );
}

#[test]
fn an_empty_history_holds() {
    History::new().assert_holds();
}

#[test]
fn a_retry_that_had_arrived_leaves_a_second_copy_which_is_counted() {
    let mut history = History::new();
    history.send(0).send(1).send(2);
    history
        .acknowledge(0, 2)
        .acknowledge(1, 3)
        .acknowledge(2, 4);
    history.read(0, &[0, 1, 0, 1, 2]).assert_holds();
    assert_eq!(history.judge().counts.duplicates, 2);
}

#[test]
fn a_late_second_copy_behind_later_records_holds_without_idempotence() {
    let mut history = History::new();
    history.send(0).send(1);
    history.acknowledge(0, 0).acknowledge(1, 1);
    history.read(0, &[0, 1, 0]).assert_holds();
}

#[test]
fn a_second_copy_of_an_idempotent_producer_is_a_violation() {
    let two = |producer| {
        let mut history = History::new();
        let producer = ProducerNumber(producer);
        history.events.push(Event::Idempotent { producer });
        history.send(0).acknowledge(0, 0);
        history.read(0, &[0, 0]);
        history
    };
    two(0).assert_violates(&["duplicate"]);
    two(1).assert_holds();
}

#[test]
fn a_second_copy_violates_idempotence() {
    let mut history = three();
    history.rules.no_duplicates = true;
    let verdict = history
        .read(0, &[0, 1, 2, 1])
        .assert_violates(&["duplicate"]);
    assert!(matches!(
        verdict.violations[0],
        Violation::Duplicate { record: RecordNumber(1), first, second, .. }
            if first == Offset::new(1) && second == Offset::new(3)
    ));
}

#[test]
fn unknown_records_may_be_there_or_not() {
    let mut history = History::new();
    history
        .send(0)
        .send(1)
        .send(2)
        .unknown(0)
        .unknown(1)
        .unknown(2);
    history.read(0, &[0, 2]).assert_holds();
}

#[test]
fn an_unknown_record_may_turn_out_acknowledged() {
    let mut history = History::new();
    history.send(0).unknown(0).acknowledge(0, 0);
    history.read(0, &[0]).assert_holds();
}

#[test]
fn a_receipt_from_memory_may_be_taken_back_and_its_offset_given_away() {
    let mut history = History::new();
    history.send(0).acknowledge_in(0, 0, 0, false);
    history.send(1).acknowledge(1, 0);
    history.read(0, &[1]).assert_holds();
}

#[test]
fn a_lost_acknowledged_record_in_the_middle_is_found() {
    let mut history = three();
    let verdict = history
        .read_offsets(0, &[(0, 0), (2, 2)])
        .assert_violates(&["lost", "skip"]);
    assert!(verdict.violations.iter().any(|violation| matches!(
        violation,
        Violation::LostAcknowledged { record: RecordNumber(1), offset, .. } if *offset == Offset::new(1)
    )));
}

#[test]
fn a_lost_acknowledged_tail_is_found() {
    three().read(0, &[0, 1]).assert_violates(&["lost"]);
}

#[test]
fn an_emptied_partition_is_found() {
    let verdict = three().read(0, &[]).assert_violates(&["lost"]);
    assert_eq!(verdict.violations_by_kind["lost"], 3);
}

#[test]
fn a_record_acknowledged_after_the_read_began_may_be_missing_from_it() {
    let mut history = History::new();
    history.send(0).send(1).acknowledge(0, 0);
    let reader = history.start_read(0);
    history.acknowledge(1, 1);
    history.poll(reader, 0, 0, content(0));
    history.end_read(reader, 0);
    history.read(0, &[0, 1]).assert_holds();
}

#[test]
fn an_acknowledged_record_that_nobody_looked_for_is_not_taken_as_kept() {
    three().assert_violates(&["not verified"]);
    let mut history = three();
    let reader = history.start_read(0);
    for record in 0..3 {
        history.poll(reader, 0, record, content(record));
    }
    // The read never came to its end.
    history.assert_violates(&["not verified"]);
}

#[test]
fn an_acknowledged_offset_with_other_bytes_is_found() {
    let mut history = three();
    history.send(3);
    history
        .read(0, &[0, 3, 2])
        .assert_violates(&["changed", "out of order"]);
}

#[test]
fn a_receipt_for_what_was_read_with_other_bytes_is_found() {
    let mut history = History::new();
    history.send(0).send(1).read(0, &[0]);
    history.acknowledge(1, 0);
    history.read(0, &[0]).assert_violates(&["changed"]);
}

#[test]
fn flipped_bytes_are_found() {
    let mut history = three();
    let reader = history.start_read(0);
    history.poll(reader, 0, 0, content(0));
    history.poll(
        reader,
        0,
        1,
        Digest::of_record(Some(b"key"), Some(b"\x31\x01")),
    );
    history.poll(reader, 0, 2, content(2));
    history.end_read(reader, 0);
    history.assert_violates(&["changed", "nobody sent it"]);
}

#[test]
fn a_record_that_nobody_sent_is_found() {
    let mut history = three();
    history
        .read(0, &[0, 1, 2, 99])
        .assert_violates(&["nobody sent it"]);
}

#[test]
fn an_offset_with_two_contents_is_found() {
    let mut history = History::new();
    history.send(0).send(1).unknown(0).unknown(1);
    history.read(0, &[0]);
    let verdict = history.read(0, &[1]).assert_violates(&["two contents"]);
    assert!(matches!(
        verdict.violations[0],
        Violation::TwoContents {
            first: ReaderNumber(0),
            second: ReaderNumber(1),
            ..
        }
    ));
}

#[test]
fn an_acknowledged_offset_issued_again_is_found() {
    let mut history = three();
    history.send(3).acknowledge(3, 2);
    let verdict = history.judge();
    assert_eq!(verdict.violations_by_kind["issued twice"], 1, "{verdict}");
    assert!(matches!(
        verdict.violations[0],
        Violation::OffsetIssuedTwice {
            first: RecordNumber(2),
            second: RecordNumber(3),
            ..
        }
    ));
}

#[test]
fn a_record_acknowledged_at_two_offsets_is_found() {
    let mut history = three();
    history.acknowledge(2, 3);
    history
        .read(0, &[0, 1, 2])
        .assert_violates(&["two receipts"]);
}

#[test]
fn the_same_receipt_twice_holds() {
    let mut history = three();
    history.acknowledge(2, 2);
    history.read(0, &[0, 1, 2]).assert_holds();
}

#[test]
fn a_poll_that_goes_backwards_is_found() {
    let mut history = three();
    history
        .read_offsets(0, &[(0, 0), (1, 1), (1, 1), (2, 2)])
        .assert_violates(&["backwards"]);
}

#[test]
fn a_skip_over_an_unacknowledged_record_is_found() {
    let mut history = History::new();
    history.send(0).send(1).unknown(0).acknowledge(1, 2);
    history
        .read_offsets(0, &[(0, 0), (2, 1)])
        .assert_violates(&["skip"]);
}

#[test]
fn a_record_that_was_read_and_is_gone_is_found() {
    let mut history = History::new();
    history.send(0).send(1).unknown(1).acknowledge(0, 0);
    history.read(0, &[0, 1]);
    history.read(0, &[0]).assert_violates(&["vanished"]);
}

#[test]
fn first_copies_out_of_order_are_found() {
    let mut history = History::new();
    history.send(0).send(1).unknown(0).unknown(1);
    let verdict = history.read(0, &[1, 0]).assert_violates(&["out of order"]);
    assert!(matches!(
        verdict.violations[0],
        Violation::ReadOutOfOrder {
            record: RecordNumber(0),
            overtaken_by: RecordNumber(1),
            ..
        }
    ));
}

#[test]
fn receipts_out_of_order_are_found_even_when_first_copies_are_in_order() {
    let mut history = History::new();
    history.send(0).send(1);
    history.acknowledge(0, 2).acknowledge(1, 1);
    history
        .read(0, &[0, 1, 0])
        .assert_violates(&["receipts out of order"]);
}

#[test]
fn producers_have_no_order_among_each_other() {
    let mut history = History::new();
    history.send(0);
    history.events.push(Event::Sent {
        record: RecordNumber(1),
        producer: ProducerNumber(1),
        key: None,
        content: content(1),
    });
    history.acknowledge(0, 1).acknowledge(1, 0);
    history.read(0, &[1, 0]).assert_holds();
}

#[test]
fn a_key_in_two_partitions_is_found() {
    let mut history = History::new();
    history.send(0).send(1);
    history
        .acknowledge_in(0, 0, 0, true)
        .acknowledge_in(1, 1, 0, true);
    history
        .read(0, &[0])
        .read(1, &[1])
        .assert_violates(&["key split"]);
    history.rules.keys_stay_in_one_partition = false;
    history.assert_holds();
}

#[test]
fn a_refused_record_that_is_read_is_found() {
    let mut history = History::new();
    history.send(0).fail(0);
    history.read(0, &[0]).assert_violates(&["refused and read"]);
}

#[test]
fn records_with_equal_bytes_are_judged_by_their_receipts() {
    let mut history = History::new();
    let same = content(7);
    for record in 0..3 {
        history.events.push(Event::Sent {
            record: RecordNumber(record),
            producer: ProducerNumber(0),
            key: Some(Digest::of_key(b"key")),
            content: same,
        });
        history.acknowledge(record, record);
    }
    let mut complete = History {
        events: history.events.clone(),
        ..History::new()
    };
    complete.read(0, &[7, 7, 7]).assert_holds();
    history.read(0, &[7, 7]).assert_violates(&["lost"]);
}

#[test]
fn an_observer_that_contradicts_itself_is_told_so() {
    let mut history = History::new();
    history.acknowledge(5, 0);
    history.assert_violates(&["bad history"]);

    let mut history = three();
    history.fail(0);
    history
        .read(0, &[0, 1, 2])
        .assert_violates(&["bad history"]);

    let mut history = History::new();
    history.send(0).send(0);
    history.assert_violates(&["bad history"]);

    let mut history = History::new();
    history.end_read(ReaderNumber(9), 0);
    history.assert_violates(&["bad history"]);
}

#[test]
fn every_single_deletion_or_swap_in_a_long_read_is_found() {
    const RECORDS: u64 = 40;
    let mut base = History::new();
    for record in 0..RECORDS {
        base.send(record).acknowledge(record, record);
    }
    let good: Vec<_> = (0..RECORDS).collect();
    for index in 0..good.len() {
        let mut cut = good.clone();
        cut.remove(index);
        let mut history = History {
            events: base.events.clone(),
            ..History::new()
        };
        assert!(
            !history.read(0, &cut).judge().holds(),
            "record {index} deleted unnoticed"
        );

        let mut swapped = good.clone();
        swapped.swap(index, (index + 1) % good.len());
        let mut history = History {
            events: base.events.clone(),
            ..History::new()
        };
        assert!(
            !history.read(0, &swapped).judge().holds(),
            "record {index} swapped unnoticed"
        );
    }
}

#[test]
fn violations_are_all_counted_though_few_are_kept() {
    let mut history = History::new();
    for record in 0..1000 {
        history.send(record).acknowledge(record, record);
    }
    let verdict = history.read(0, &[]).judge();
    assert_eq!(verdict.violations_by_kind["lost"], 1000);
    assert_eq!(verdict.violations.len(), 100);
    assert!(
        verdict.to_string().contains("VIOLATED lost: 1000"),
        "{verdict}"
    );
}

/// Near-linear: 300,000 records and three complete reads stay a matter of seconds even unoptimised.
/// The test bounds the work by finishing; it does not time itself.
#[test]
fn a_large_history_is_judged() {
    const RECORDS: u64 = 300_000;
    let mut history = History::new();
    for record in 0..RECORDS {
        history.send(record).acknowledge(record, record);
    }
    let all: Vec<_> = (0..RECORDS).collect();
    history
        .read(0, &all)
        .read(0, &all)
        .read(0, &all)
        .assert_holds();
}

/// A history in which a reader is answered with a high watermark before it is handed records.
fn fetched(history: &mut History, reader: ReaderNumber, high_watermark: u64) {
    history.events.push(Event::Fetched {
        reader,
        partition: partition(0),
        high_watermark: Offset::new(high_watermark),
    });
}

#[test]
fn a_record_above_the_high_watermark_is_found() {
    let mut history = History::new();
    history.send(0).send(1);
    let reader = history.start_read(0);
    fetched(&mut history, reader, 1);
    history.poll(reader, 0, 0, content(0));
    fetched(&mut history, reader, 1);
    history.poll(reader, 0, 1, content(1));
    history.assert_violates(&["above the high watermark"]);
}

#[test]
fn records_below_the_high_watermark_are_well() {
    let mut history = History::new();
    history.send(0).send(1);
    let reader = history.start_read(0);
    fetched(&mut history, reader, 1);
    history.poll(reader, 0, 0, content(0));
    fetched(&mut history, reader, 2);
    history.poll(reader, 0, 1, content(1));
    history.assert_holds();
}

fn owned(history: &mut History, epoch: u32, owner: u32) {
    history.events.push(Event::Owned {
        partition: partition(0),
        epoch: LeaderEpoch::new(epoch),
        owner: OwnerNumber(owner),
    });
}

#[test]
fn two_owners_in_one_term_are_found_and_a_new_term_is_well() {
    let mut history = History::new();
    owned(&mut history, 1, 7);
    owned(&mut history, 1, 7);
    owned(&mut history, 2, 8);
    history.assert_holds();
    owned(&mut history, 1, 8);
    history.assert_violates(&["two owners"]);
}

#[test]
fn a_released_partition_owes_nothing_but_serves_nothing_wrong() {
    let mut history = History::new();
    history.send(0).acknowledge(0, 0);
    history.events.push(Event::Released {
        partition: partition(0),
    });
    history.assert_holds();
    history.read(0, &[]);
    history.assert_holds();
    let reader = history.start_read(0);
    history.poll(reader, 0, 0, content(5));
    history.assert_violates(&["changed", "nobody sent it"]);
}

#[test]
fn a_weak_partition_that_was_cut_back_issues_its_offsets_anew() {
    let mut history = History::new();
    history.send(0).send(1).send(2).send(3);
    history.read(0, &[0, 1, 2]);
    history.events.push(Event::CutBack {
        partition: partition(0),
        to: Offset::new(1),
    });
    history.read(0, &[0, 3]);
    history.assert_holds();
    let verdict = history.judge();
    assert_eq!(verdict.counts.cut_back, 2);
}

#[test]
fn what_was_durable_is_missed_behind_a_cut() {
    let mut history = History::new();
    history.send(0).send(1).acknowledge(0, 0).acknowledge(1, 1);
    history.events.push(Event::CutBack {
        partition: partition(0),
        to: Offset::new(1),
    });
    history.read(0, &[0]);
    history.assert_violates(&["lost"]);
}

#[test]
fn a_receipt_after_a_doubtful_attempt_may_be_out_of_order() {
    let mut history = History::new();
    history.send(0).send(1).unknown(0);
    history.acknowledge(1, 1).acknowledge(0, 2);
    history.read_offsets(0, &[(0, 0), (1, 1), (2, 0)]);
    history.assert_holds();
}

fn log_start(history: &mut History, log_start: u64, at_least: u64) {
    history.events.push(Event::LogStart {
        partition: partition(0),
        log_start: Offset::new(log_start),
        at_least: Offset::new(at_least),
    });
}

fn deletable(history: &mut History, before: u64) {
    let (partition, before) = (partition(0), Offset::new(before));
    history.events.push(Event::Deletable { partition, before });
}

fn moved(history: &mut History, reader: ReaderNumber, to: u64) {
    history.events.push(Event::ReadMoved {
        reader,
        partition: partition(0),
        to: Offset::new(to),
    });
}

#[test]
fn what_is_deleted_with_leave_may_be_missing_and_nothing_else() {
    let begin = || {
        let mut history = three();
        history.read(0, &[0, 1, 2]);
        deletable(&mut history, 2);
        log_start(&mut history, 2, 0);
        let reader = history.start_read(0);
        moved(&mut history, reader, 2);
        (history, reader)
    };
    let (mut history, reader) = begin();
    history.poll(reader, 0, 2, content(2));
    history.end_read(reader, 0);
    history.assert_holds();
    // Beyond the log start everything is demanded.
    let (mut history, reader) = begin();
    history.end_read(reader, 0);
    history.assert_violates(&["lost"]);
}

#[test]
fn what_is_below_the_log_start_need_not_be_read_back() {
    let mut history = three();
    deletable(&mut history, 3);
    log_start(&mut history, 3, 0);
    history.assert_holds();
    let mut history = three();
    deletable(&mut history, 2);
    log_start(&mut history, 2, 0);
    history.assert_violates(&["not verified"]);
}

#[test]
fn a_log_start_that_goes_back_is_found() {
    let mut history = three();
    history.read(0, &[0, 1, 2]);
    deletable(&mut history, 3);
    log_start(&mut history, 3, 0);
    // Asked before the last answer came.
    log_start(&mut history, 2, 0);
    history.assert_holds();
    log_start(&mut history, 2, 3);
    history.assert_violates(&["log start back"]);
}

#[test]
fn records_deleted_without_leave_are_found() {
    let mut history = three();
    deletable(&mut history, 1);
    log_start(&mut history, 3, 0);
    let verdict = history.assert_violates(&["deleted"]);
    assert_eq!(verdict.violations_by_kind["deleted"], 2);
    // Also if the receipt comes later.
    let mut history = History::new();
    history.send(0);
    log_start(&mut history, 1, 0);
    history.acknowledge(0, 0);
    history.assert_violates(&["deleted"]);
}

#[test]
fn a_reader_that_moves_without_a_log_start_contradicts_itself() {
    let mut history = three();
    let reader = history.start_read(0);
    moved(&mut history, reader, 1);
    history.poll(reader, 0, 0, content(0));
    history.poll(reader, 0, 1, content(1));
    history.poll(reader, 0, 2, content(2));
    history.end_read(reader, 0);
    history.assert_violates(&["bad history"]);
}

#[test]
fn receipts_from_memory_are_promises_once_their_time_is_over() {
    let settled = Event::Settled {
        partition: partition(0),
    };
    let mut history = History::new();
    history.send(0).send(1);
    history
        .acknowledge_in(0, 0, 0, false)
        .acknowledge_in(1, 0, 1, false);
    // The second was lost before.
    let (partition, to) = (partition(0), Offset::new(1));
    history.events.push(Event::CutBack { partition, to });
    history.events.push(settled);
    let begun = history.events.clone();
    history.read(0, &[0]);
    history.assert_holds();
    history.events = begun;
    history.read(0, &[]);
    history.assert_violates(&["lost"]);
}

#[test]
fn a_first_copy_that_was_deleted_unread_says_nothing_about_order() {
    let begin = |deleted: u64| {
        let mut history = three();
        // A retry of the first record comes last, and the first offsets are gone before anybody reads.
        history.unknown(0);
        deletable(&mut history, deleted);
        log_start(&mut history, deleted, 0);
        let reader = history.start_read(0);
        moved(&mut history, reader, deleted);
        for offset in deleted..3 {
            history.poll(reader, 0, offset, content(offset));
        }
        (history, reader)
    };
    let (mut history, reader) = begin(1);
    history.poll(reader, 0, 3, content(0));
    history.end_read(reader, 0);
    history.assert_holds();
    // A record without doubts has one copy.
    let (mut history, reader) = begin(1);
    history.send(3).send(4);
    history.poll(reader, 0, 3, content(4));
    history.poll(reader, 0, 4, content(3));
    history.end_read(reader, 0);
    history.assert_violates(&["out of order"]);
}

/// Every kind of violation has a history here, or in the tests of compaction, that is judged to be one.
#[test]
fn every_kind_is_tried_here() {
    let tests = [
        include_str!("bad_histories.rs"),
        include_str!("compaction.rs"),
    ];
    for kind in Violation::KINDS {
        let quoted = format!("\"{kind}\"");
        assert!(tests.iter().any(|tests| tests.contains(&quoted)), "{kind}");
    }
}
