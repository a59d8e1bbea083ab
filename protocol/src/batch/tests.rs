//! Batches that no builder makes: each rule of the payload broken by itself
//! under a right CRC, and the gaps that compaction will leave.

use super::columns::{Blobs, Columns, Deltas, Ends, HeaderColumns};
use super::header::{BatchTimes, TimestampType, set_producer, set_timestamp_type};
use super::layout::{BATCH_ALIGN, ENCODING_COLUMNAR, PREFIX_LEN};
use super::*;
use crate::aligned::AlignedBytes;
use crate::ids::{
    LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicId,
};

const FIRST: i64 = 1000;

/// Three records: a null key, a null value, and one with two headers.
fn columns() -> Columns {
    let headers = HeaderColumns {
        record_ends: Ends::Narrow(vec![0, 0, 2]),
        keys: blobs(Ends::Narrow(vec![2, 5]), &[], "éabc".as_bytes()),
        values: blobs(Ends::Wide(vec![0, 1]), &[0b01], b"v"),
    };
    Columns {
        values: blobs(Ends::Wide(vec![3, 3, 4]), &[0b010], b"onex"),
        keys: Some(Box::new(blobs(
            Ends::Narrow(vec![0, 1, 3]),
            &[0b001],
            b"kkk",
        ))),
        timestamps: Deltas::Narrow(vec![0, -1, 5]),
        offsets: Vec::new(),
        headers: Some(Box::new(headers)),
    }
}

fn blobs(ends: Ends, nulls: &[u8], bytes: &[u8]) -> Blobs {
    Blobs {
        ends,
        nulls: nulls.to_vec(),
        bytes: bytes.to_vec(),
    }
}

fn stamp() -> Stamp {
    Stamp {
        topic: TopicId::from_bytes([1; 16]),
        partition: PartitionIndex::new(2),
        leader_epoch: LeaderEpoch::new(3),
        base_offset: Offset::new(100),
        append_time: Timestamp::new(77),
    }
}

/// A stamped batch of these columns, with a header as `change` wants it.
fn assemble(columns: &Columns, change: impl FnOnce(&mut BatchHeader)) -> AlignedBytes {
    let mut batch = AlignedBytes::zeroed(PREFIX_LEN);
    columns.write(&mut batch);
    let payload_length = (batch.len() - PREFIX_LEN) as u32;
    batch.resize(batch.len().next_multiple_of(BATCH_ALIGN), 0);
    let mut header = BatchHeader {
        crc: 0,
        encoding: ENCODING_COLUMNAR,
        total_length: batch.len() as u32,
        compression: Compression::None,
        timestamp_type: TimestampType::Create,
        transactional: false,
        control: false,
        record_count: 3,
        last_offset_delta: 2,
        first_timestamp: Timestamp::new(FIRST),
        max_timestamp: Timestamp::new(FIRST + 5),
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: u32::MAX,
        payload_length,
        uncompressed_length: payload_length,
    };
    change(&mut header);
    header.write(&mut batch);
    stamp().write(&mut batch);
    batch
}

fn keys(columns: &mut Columns) -> &mut Blobs {
    columns.keys.as_mut().unwrap()
}

fn headers(columns: &mut Columns) -> &mut HeaderColumns {
    columns.headers.as_mut().unwrap()
}

#[test]
fn hand_made_columns_are_read() {
    let batch = assemble(&columns(), |_| ());
    validate(&batch, &BatchLimits::default()).unwrap();
    let batch = RecordBatch::parse(batch, &DecompressLimit::default()).unwrap();
    let records: Vec<_> = batch.records().collect();
    let keys: Vec<_> = records.iter().map(|record| record.key).collect();
    assert_eq!(keys, [None, Some(&b"k"[..]), Some(b"kk")]);
    let values: Vec<_> = records.iter().map(|record| record.value).collect();
    assert_eq!(values, [Some(&b"one"[..]), None, Some(b"x")]);
    let times: Vec<_> = records
        .iter()
        .map(|record| record.timestamp.get())
        .collect();
    assert_eq!(times, [FIRST, FIRST - 1, FIRST + 5]);
    assert_eq!(records[1].headers().count(), 0);
    let headers: Vec<_> = records[2].headers().collect();
    assert_eq!(headers, [("é", None), ("abc", Some(&b"v"[..]))]);
}

/// What is wrong with a payload, and how it is made so.
type Broken = (&'static str, fn(&mut Columns));

const BROKEN: &[Broken] = &[
    ("ends and rows differ", |c| {
        c.values.ends = Ends::Wide(vec![3, 4])
    }),
    ("ends and rows differ", |c| {
        c.values.ends = Ends::Narrow(vec![3, 3, 4, 4])
    }),
    ("ends and rows differ", |c| keys(c).ends = Ends::default()),
    ("ends do not rise to the end of the bytes", |c| {
        c.values.ends = Ends::Wide(vec![5, 3, 4])
    }),
    ("ends do not rise to the end of the bytes", |c| {
        c.values.ends = Ends::Narrow(vec![3, 2, 4])
    }),
    ("ends do not rise to the end of the bytes", |c| {
        c.values.ends = Ends::Wide(vec![3, 3, 5])
    }),
    ("ends do not rise to the end of the bytes", |c| {
        c.values.ends = Ends::Wide(vec![3, 3, 3])
    }),
    ("ends do not rise to the end of the bytes", |c| {
        keys(c).ends = Ends::Narrow(vec![0, 9, 3])
    }),
    ("null marks and rows differ", |c| {
        c.values.nulls = vec![0, 0]
    }),
    ("null marks and rows differ", |c| {
        c.values.nulls = vec![0; 9]
    }),
    ("a null mark is beyond the last row", |c| {
        c.values.nulls = vec![0b1000]
    }),
    ("a null has bytes", |c| c.values.nulls = vec![0b001]),
    ("a null has bytes", |c| keys(c).nulls = vec![0b100]),
    ("timestamps and records differ", |c| {
        c.timestamps = Deltas::Narrow(vec![0, 5])
    }),
    ("timestamps and records differ", |c| {
        c.timestamps = Deltas::Wide(Vec::new())
    }),
    ("the first timestamp is not the header's", |c| {
        c.timestamps = Deltas::Narrow(vec![1, 0, 5])
    }),
    ("a timestamp is negative", |c| {
        c.timestamps = Deltas::Wide(vec![0, -1001, 5])
    }),
    ("a timestamp is negative", |c| {
        c.timestamps = Deltas::Wide(vec![0, i32::MIN, 5])
    }),
    ("the latest timestamp is not the header's", |c| {
        c.timestamps = Deltas::Zero
    }),
    ("the latest timestamp is not the header's", |c| {
        c.timestamps = Deltas::Wide(vec![0, 6, 5])
    }),
    ("offsets and records differ", |c| c.offsets = vec![0, 1]),
    ("offsets do not rise", |c| c.offsets = vec![0, 2, 2]),
    ("offsets do not rise", |c| c.offsets = vec![1, 0, 2]),
    ("an offset is beyond the last one", |c| {
        c.offsets = vec![0, 1, 3]
    }),
    ("header counts and records differ", |c| {
        headers(c).record_ends = Ends::Narrow(vec![0, 2])
    }),
    ("header counts do not rise to the headers", |c| {
        headers(c).record_ends = Ends::Narrow(vec![0, 0, 1]);
    }),
    ("header counts do not rise to the headers", |c| {
        headers(c).record_ends = Ends::Wide(vec![3, 0, 2]);
    }),
    ("ends and rows differ", |c| {
        headers(c).values.ends = Ends::Narrow(vec![1])
    }),
    ("ends do not rise to the end of the bytes", |c| {
        headers(c).keys.ends = Ends::Narrow(vec![6, 5]);
    }),
    ("a header key is null", |c| headers(c).keys.nulls = vec![0]),
    ("a header key is not UTF-8", |c| {
        headers(c).keys.bytes = b"\xffabcd".to_vec()
    }),
    ("a header key ends within a character", |c| {
        headers(c).keys.ends = Ends::Narrow(vec![1, 5])
    }),
];

#[test]
fn each_broken_rule_of_the_payload_is_named() {
    for (what, break_it) in BROKEN {
        let mut broken = columns();
        break_it(&mut broken);
        let batch = assemble(&broken, |_| ());
        let expected = BatchError::Structure { what };
        assert_eq!(
            validate(&batch, &BatchLimits::default()),
            Err(expected.clone()),
            "{broken:?}"
        );
        let error = RecordBatch::parse(&batch[..], &DecompressLimit::default()).unwrap_err();
        assert_eq!(error.base_offset, Some(Offset::new(100)));
        assert_eq!(error.error, expected);
    }
}

#[test]
fn compaction_may_leave_gaps_and_producers_may_not() {
    let gaps = Columns {
        offsets: vec![1, 4, 6],
        ..columns()
    };
    let batch = assemble(&gaps, |header| header.last_offset_delta = 9);
    assert_eq!(
        validate(&batch, &BatchLimits::default()),
        Err(BatchError::RecordCount { record_count: 3 })
    );
    let batch = RecordBatch::parse(batch, &DecompressLimit::default()).unwrap();
    let offsets: Vec<u64> = batch.records().map(|record| record.offset.get()).collect();
    assert_eq!(offsets, [101, 104, 106]);
    assert_eq!(batch.end_offset(), Offset::new(110));
    // Not even where the last offset fits the count.
    let shifted = Columns {
        offsets: vec![0, 1, 2],
        ..columns()
    };
    let batch = assemble(&shifted, |_| ());
    assert_eq!(
        validate(&batch, &BatchLimits::default()),
        Err(BatchError::NotFromProducers { kind: "compacted" })
    );
}

#[test]
fn append_time_replaces_the_producers_time_where_the_batch_says_so() {
    let batch = assemble(&columns(), |header| {
        header.timestamp_type = TimestampType::LogAppend
    });
    validate(&batch, &BatchLimits::default()).unwrap();
    let batch = RecordBatch::parse(batch, &DecompressLimit::default()).unwrap();
    assert!(batch.records().all(|record| record.timestamp.get() == 77));
}

#[test]
fn the_type_of_a_batchs_times_changes_and_nothing_else() {
    let created = assemble(&columns(), |_| ());
    let mut changed = created.clone();
    set_timestamp_type(&mut changed, TimestampType::LogAppend);
    let expected = assemble(&columns(), |header| {
        header.timestamp_type = TimestampType::LogAppend
    });
    assert_eq!(changed[STAMP_LEN..], expected[STAMP_LEN..]);
    verify_crc(&changed).unwrap();
    let times = BatchTimes::peek(&changed).unwrap();
    assert_eq!(times.timestamp_type, TimestampType::LogAppend);
    assert_eq!((times.first.get(), times.max.get()), (FIRST, FIRST + 5));
    set_timestamp_type(&mut changed, TimestampType::Create);
    assert_eq!(changed[STAMP_LEN..], created[STAMP_LEN..]);
    assert_eq!(BatchTimes::peek(&changed[..PREFIX_LEN - 1]), None);
    for number in 0..=u8::MAX {
        let read = TimestampType::from_u8(number).map(TimestampType::as_u8);
        assert_eq!(read, (number < 2).then_some(number));
    }
}

#[test]
fn a_batch_is_renumbered_in_place() {
    let (id, epoch) = (ProducerId::new(0x1122_3344_5566), ProducerEpoch::new(7));
    let mut changed = assemble(&columns(), |_| {});
    set_producer(&mut changed, id, epoch, 40);
    let expected = assemble(&columns(), |header| {
        header.producer_id = id;
        header.producer_epoch = epoch;
        header.base_sequence = 40;
    });
    assert_eq!(changed[STAMP_LEN..], expected[STAMP_LEN..]);
    validate(&changed, &BatchLimits::default()).unwrap();
}

#[test]
fn a_builder_is_told_whose_one_batch_is() {
    let (id, epoch) = (ProducerId::new(0x1122_3344_5566), ProducerEpoch::new(7));
    let mut builder = BatchBuilder::new(BatchBuilderConfig::default()).unwrap();
    let mut build = |producer| {
        builder.try_push(RecordRef::default()).unwrap();
        if let Some((id, epoch, base_sequence)) = producer {
            builder.set_producer(id, epoch, base_sequence);
        }
        builder.finish().unwrap()
    };
    let mut nobodys = build(None);
    let told = build(Some((id, epoch, 40)));
    assert_eq!(build(None), nobodys, "it was for one batch");
    set_producer(&mut nobodys, id, epoch, 40);
    assert_eq!(told, nobodys, "the checksum as well");
    validate(&told, &BatchLimits::default()).unwrap();
}

#[test]
fn producer_id_epoch_and_sequence_go_together() {
    let check = |id: u64, epoch: u16, sequence: u32| {
        let batch = assemble(&columns(), |header| {
            header.producer_id = ProducerId::new(id);
            header.producer_epoch = ProducerEpoch::new(epoch);
            header.base_sequence = sequence;
        });
        validate(&batch, &BatchLimits::default()).map(drop)
    };
    assert_eq!(check(u64::MAX, u16::MAX, u32::MAX), Ok(()));
    assert_eq!(check(0, 0, SEQUENCES - 1), Ok(()));
    for (id, epoch, sequence) in [
        (u64::MAX, 0, u32::MAX),
        (u64::MAX, u16::MAX, 0),
        (5, u16::MAX, 0),
        (5, 0, u32::MAX),
        (5, 0, SEQUENCES),
    ] {
        assert_eq!(check(id, epoch, sequence), Err(BatchError::Producer));
    }
}

#[test]
fn times_near_the_end_of_i64_are_refused() {
    let batch = assemble(&columns(), |header| {
        header.first_timestamp = Timestamp::new(i64::MAX - 5);
        header.max_timestamp = Timestamp::new(i64::MAX);
    });
    assert_eq!(verify_crc(&batch), Err(BatchError::Timestamps));
}

#[test]
fn a_packed_payload_cannot_claim_more_records_than_it_has_bytes_for() {
    let claim = |record_count: u32| {
        assemble(&columns(), |header| {
            header.compression = Compression::Lz4;
            header.uncompressed_length = 1000;
            header.record_count = record_count;
            header.last_offset_delta = record_count - 1;
        })
    };
    validate(&claim(500), &BatchLimits::default()).unwrap();
    for record_count in [501, 1 << 31, u32::MAX] {
        let expected = BatchError::RecordCount { record_count };
        assert_eq!(
            validate(&claim(record_count), &BatchLimits::default()),
            Err(expected)
        );
    }
}

/// A stamp whose checksum computes to 0. The checksum is linear over bits, so
/// the append time that makes it 0 comes from solving 32 equations.
fn stamp_with_zero_checksum(batch: &mut [u8]) -> Stamp {
    let mut checksum = |time: u32| {
        Stamp {
            append_time: Timestamp::new(i64::from(time)),
            ..stamp()
        }
        .write(batch);
        crc32c::crc32c(&batch[4..48])
    };
    let constant = checksum(0);
    // Rows of (effect on the checksum, bits of the time), reduced as they come.
    let mut rows: Vec<(u32, u32)> = Vec::new();
    let reduce = |rows: &[(u32, u32)], mut row: (u32, u32)| {
        for (effect, bits) in rows {
            if row.0 ^ effect < row.0 {
                row = (row.0 ^ effect, row.1 ^ bits);
            }
        }
        row
    };
    for bit in 0..32 {
        let row = reduce(&rows, (checksum(1 << bit) ^ constant, 1 << bit));
        assert_ne!(row.0, 0, "32 bits of data reach every checksum");
        rows.push(row);
        rows.sort_by_key(|row| std::cmp::Reverse(row.0));
    }
    let (rest, time) = reduce(&rows, (constant, 0));
    assert_eq!((rest, checksum(time)), (0, 0));
    Stamp {
        append_time: Timestamp::new(i64::from(time)),
        ..stamp()
    }
}

#[test]
fn no_stamp_passes_for_padding() {
    let mut batch = assemble(&columns(), |_| ());
    let stamp = stamp_with_zero_checksum(&mut batch);
    stamp.write(&mut batch);
    assert_eq!(batch[..4], [1, 0, 0, 0]);
    assert_eq!(Stamp::read(&batch), Ok(stamp));
    assert!(!is_padding(&batch));
    batch[0] = 0;
    assert_eq!(
        Stamp::read(&batch),
        Err(BatchError::StampChecksum {
            stored: 0,
            computed: 1
        })
    );
}
