//! Batches that lose records: what is written for each case, and what is refused.

mod passes;

use super::columns::{self, Deltas};
use super::layout::{PREFIX_LEN, STAMP_LEN};
use super::*;
use crate::aligned::AlignedBytes;
use crate::ids::{
    LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicId,
};

const APPEND_TIME: i64 = 1_700_000_500_000;
const BASE_OFFSET: u64 = 1 << 40;

#[derive(Clone, Debug, PartialEq)]
struct Record {
    offset: u64,
    /// The producer's.
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

/// What a batch says beside its records.
#[derive(Clone, Debug)]
struct Kind {
    compression: Compression,
    timestamp_type: TimestampType,
    /// Idempotent, transactional and control, which producers do not send but a log may hold.
    is_marked: bool,
}

fn stamp(base_offset: u64) -> Stamp {
    Stamp {
        topic: TopicId::from_bytes([7; 16]),
        partition: PartitionIndex::new(3),
        leader_epoch: LeaderEpoch::new(9),
        base_offset: Offset::new(base_offset),
        append_time: Timestamp::new(APPEND_TIME),
    }
}

fn builder(compression: Compression) -> BatchBuilder {
    BatchBuilder::new(BatchBuilderConfig {
        compression,
        bytes_max: u32::MAX,
        ..BatchBuilderConfig::default()
    })
    .unwrap()
}

/// Adds a record to a builder, as one of its producer or at an offset delta.
fn push(builder: &mut BatchBuilder, record: &Record, delta: Option<u32>) -> Result<u32, PushError> {
    let headers = record.headers.iter();
    let headers: Vec<(&str, Option<&[u8]>)> = headers
        .map(|(key, value)| (key.as_str(), value.as_deref()))
        .collect();
    let record = RecordRef {
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: &headers,
        timestamp: Timestamp::new(record.timestamp),
    };
    match delta {
        None => builder.try_push(record),
        Some(delta) => builder.try_push_at(record, delta),
    }
}

/// The stamped batch of these records as it is in a log.
fn log_batch(records: &[Record], kind: &Kind) -> AlignedBytes {
    let mut builder = builder(kind.compression);
    for record in records {
        push(&mut builder, record, None).unwrap();
    }
    let mut bytes = AlignedBytes::new();
    let finished = builder.finish_with(&mut bytes, |header| {
        header.timestamp_type = kind.timestamp_type;
        if kind.is_marked {
            (header.transactional, header.control) = (true, true);
            header.producer_id = ProducerId::new(5);
            header.producer_epoch = ProducerEpoch::new(6);
            header.base_sequence = 7;
        }
    });
    finished.unwrap();
    stamp(records[0].offset).write(&mut bytes);
    bytes
}

fn parse(bytes: &[u8]) -> RecordBatch<&[u8]> {
    RecordBatch::parse(bytes, &DecompressLimit::default()).unwrap()
}

/// The records, with the times that readers see.
fn seen<B: AsRef<[u8]>>(batch: &RecordBatch<B>) -> Vec<Record> {
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    let record = |view: RecordView<'_>| Record {
        offset: view.offset.get(),
        timestamp: view.timestamp.get(),
        key: owned(view.key),
        value: owned(view.value),
        headers: view
            .headers()
            .map(|(key, value)| (key.to_owned(), owned(value)))
            .collect(),
    };
    batch.records().map(record).collect()
}

/// The records, with their producer's times.
fn created(bytes: &[u8]) -> Vec<Record> {
    let stamp = Stamp::read(bytes).unwrap();
    let batch = RecordBatch::parse_unstamped(bytes, &DecompressLimit::default()).unwrap();
    let mut records = seen(&batch);
    for record in &mut records {
        record.offset += stamp.base_offset.get();
    }
    records
}

/// The offsets column of a batch that is not compressed.
fn offsets_column(bytes: &[u8]) -> Vec<u32> {
    let header = BatchHeader::parse(bytes).unwrap();
    assert_eq!(header.compression, Compression::None);
    let columns = columns::access(&bytes[PREFIX_LEN..header.payload_end()]).unwrap();
    let offsets = columns.offsets.iter();
    offsets.map(|offset| offset.to_native()).collect()
}

/// A record of an offset with a value as long as it takes to make removing it worth it.
fn plain(offset: u64) -> Record {
    Record {
        offset: BASE_OFFSET + offset,
        timestamp: 1000 + offset as i64,
        key: Some(format!("k{offset}").into_bytes()),
        value: Some(vec![offset as u8; 100]),
        headers: Vec::new(),
    }
}

fn plain_batch(count: u64) -> AlignedBytes {
    let records: Vec<_> = (0..count).map(plain).collect();
    log_batch(&records, &PLAIN)
}

const PLAIN: Kind = Kind {
    compression: Compression::None,
    timestamp_type: TimestampType::Create,
    is_marked: false,
};

/// Keeps the records whose offset is this much after [`BASE_OFFSET`].
fn retain_these(bytes: &[u8], kept: &[u64]) -> (Retained, AlignedBytes) {
    let mut out = AlignedBytes::copy_of(b"what was there before");
    let keep = |record: &RecordView<'_>| kept.contains(&(record.offset.get() - BASE_OFFSET));
    let retained = retain(&parse(bytes), keep, &mut out).unwrap();
    assert_eq!(out.is_empty(), !matches!(retained, Retained::Some { .. }));
    (retained, out)
}

/// The records of batches that follow each other, and that none is longer than the one that they were in.
fn all_of(out: &[u8], before: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    let mut next = None;
    for batch in batches(out) {
        let batch = batch.unwrap();
        let parsed = parse(batch);
        assert!(next.is_none_or(|next| parsed.base_offset() == next));
        next = Some(parsed.end_offset());
        records.extend(created(batch));
        let unpacked = |bytes| BatchHeader::parse(bytes).unwrap().uncompressed_length;
        assert!(unpacked(batch) <= unpacked(before));
    }
    assert_eq!(next, Some(parse(before).end_offset()));
    records
}

#[test]
fn offsets_are_written_only_where_there_are_gaps_between_records() {
    let batch = plain_batch(5);
    let kept = |kept: &[u64]| {
        let (retained, out) = retain_these(&batch, kept);
        let removed = 5 - kept.len() as u32;
        assert_eq!(retained, Retained::Some { removed });
        let parsed = parse(&out);
        assert_eq!(parsed.base_offset().get(), BASE_OFFSET + kept[0]);
        assert_eq!(parsed.end_offset().get(), BASE_OFFSET + 5);
        offsets_column(&out)
    };
    assert_eq!(kept(&[0, 1, 2]), [0_u32; 0]);
    assert_eq!(kept(&[0]), [0_u32; 0]);
    assert_eq!(kept(&[4]), [0_u32; 0]);
    assert_eq!(kept(&[1, 2, 3]), [0_u32; 0]);
    assert_eq!(kept(&[0, 1, 4]), [0, 1, 4]);
    assert_eq!(kept(&[1, 4]), [0, 3]);
}

#[test]
fn a_batch_that_loses_nothing_or_everything_is_not_built() {
    let batch = plain_batch(3);
    assert_eq!(retain_these(&batch, &[0, 1, 2]).0, Retained::All);
    assert_eq!(retain_these(&batch, &[]).0, Retained::None);
    let (_, gaps) = retain_these(&batch, &[0, 2]);
    assert_eq!(retain_these(&gaps, &[0, 2]).0, Retained::All);
}

/// What is left of a batch never needs a reader that takes more than before: it is several batches then.
#[test]
fn where_offsets_are_longer_than_what_goes_there_are_more_batches() {
    let short = |offset| Record {
        timestamp: 1000,
        value: Some(vec![1; 8]),
        key: None,
        ..plain(offset)
    };
    let records: Vec<_> = (0..500).map(short).collect();
    for compression in Compression::ALL {
        let kind = Kind {
            compression: *compression,
            ..PLAIN
        };
        let batch = log_batch(&records, &kind);
        let kept: Vec<u64> = (0..500).filter(|offset| *offset != 250).collect();
        let (retained, out) = retain_these(&batch, &kept);
        assert_eq!(retained, Retained::Some { removed: 1 });
        assert!(batches(&out).count() > 1, "{compression}");
        let found = all_of(&out, &batch);
        assert_eq!(found, [&records[..250], &records[251..]].concat());
    }
}

#[test]
fn records_whose_times_need_the_first_one_become_several_batches() {
    const HALF: i64 = 1 << 31;
    // The first one lies in the middle: the other two are too far from each other.
    for times in [[HALF, 0, 2 * HALF - 1], [HALF, 2 * HALF - 1, 0]] {
        let records = [0, 1, 2].map(|offset| Record {
            timestamp: times[offset as usize],
            ..plain(offset)
        });
        let batch = log_batch(&records, &PLAIN);
        let (retained, out) = retain_these(&batch, &[1, 2]);
        assert_eq!(retained, Retained::Some { removed: 1 });
        assert_eq!(batches(&out).count(), 2);
        assert_eq!(all_of(&out, &batch), records[1..]);
        let (retained, out) = retain_these(&batch, &[0, 2]);
        assert_eq!(retained, Retained::Some { removed: 1 });
        assert_eq!(created(&out), [records[0].clone(), records[2].clone()]);
    }
}

#[test]
fn a_batch_without_records_covers_offsets_and_is_not_taken_from_a_producer() {
    for timestamp_type in [TimestampType::Create, TimestampType::LogAppend] {
        let kind = Kind {
            compression: Compression::Zstd,
            timestamp_type,
            is_marked: false,
        };
        let records: Vec<_> = (0..9).map(plain).collect();
        let gone = log_batch(&records, &kind);
        let (from, end) = (Offset::new(BASE_OFFSET - 5), Offset::new(BASE_OFFSET + 2));
        let mut out = AlignedBytes::copy_of(b"before");
        hollow(&gone, from, end, &mut out).unwrap();
        let batch = parse(&out);
        assert_eq!((batch.base_offset(), batch.end_offset()), (from, end));
        assert_eq!((batch.record_count(), batch.records().count()), (0, 0));
        assert_eq!(
            batch.header().max_timestamp,
            parse(&gone).header().max_timestamp
        );
        assert_eq!(batch.stamp().unwrap().append_time.get(), APPEND_TIME);
        let expected = BatchError::RecordCount { record_count: 0 };
        assert_eq!(validate(&out, &BatchLimits::default()), Err(expected));
        let mut nothing = AlignedBytes::new();
        let retained = retain(&batch, |_| true, &mut nothing).unwrap();
        assert_eq!(
            retained,
            Retained::None,
            "it goes as soon as something else covers it"
        );
        let mut longer = out.clone();
        extend_to(&mut longer, end.advance(7)).unwrap();
        assert_eq!(parse(&longer).end_offset(), end.advance(7));
        for bit in 0..out.len() * 8 {
            let mut damaged = out.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(RecordBatch::parse(&damaged[..], &DecompressLimit::default()).is_err());
        }
    }
    let error = hollow(
        &plain_batch(1),
        Offset::ZERO,
        Offset::new(1 << 33),
        &mut AlignedBytes::new(),
    );
    assert!(matches!(error, Err(CompactError::Span { .. })));
}

#[test]
fn wide_columns_are_kept_and_become_narrow_where_that_is_enough() {
    let long = |offset: u64| Record {
        timestamp: 1000 + 100_000 * offset as i64,
        value: Some(vec![offset as u8; 30_000]),
        key: Some(vec![offset as u8; 25_000]),
        headers: vec![("h".repeat(24_000), Some(vec![1; 24_000]))],
        ..plain(offset)
    };
    let records: Vec<_> = (0..4).map(long).collect();
    let batch = log_batch(&records, &PLAIN);
    let (_, out) = retain_these(&batch, &[0, 1, 3]);
    assert_eq!(
        seen(&parse(&out)),
        [&records[0], &records[1], &records[3]].map(Clone::clone)
    );
    let (_, out) = retain_these(&out, &[3]);
    assert_eq!(seen(&parse(&out)), records[3..]);
    let header = BatchHeader::parse(&out).unwrap();
    let columns = columns::checked(&out[PREFIX_LEN..header.payload_end()], &header).unwrap();
    assert!(matches!(
        columns.values.ends,
        columns::ArchivedEnds::Narrow(_)
    ));
    assert_eq!(header.max_timestamp, header.first_timestamp);
}

#[test]
fn a_batch_of_another_client_is_rebuilt_with_its_records() {
    let mut payload = AlignedBytes::new();
    // Everything wide, and marks of nulls where there are none.
    let blobs = |bytes: &[u8]| columns::Blobs {
        ends: columns::Ends::Wide(vec![100, 200, 300]),
        nulls: vec![0],
        bytes: bytes.to_vec(),
    };
    let wide = columns::Columns {
        values: blobs(&[1; 300]),
        keys: Some(Box::new(blobs(&[2; 300]))),
        timestamps: Deltas::Wide(vec![0, 0, 0]),
        offsets: vec![0, 1, 2],
        headers: None,
    };
    wide.write(&mut payload);
    let mut header = BatchHeader::parse(&plain_batch(3)).unwrap();
    header.payload_length = payload.len() as u32;
    header.uncompressed_length = payload.len() as u32;
    header.max_timestamp = header.first_timestamp;
    let length = (PREFIX_LEN + payload.len()).next_multiple_of(BATCH_ALIGN);
    header.total_length = length as u32;
    let mut batch = AlignedBytes::zeroed(length);
    batch[PREFIX_LEN..PREFIX_LEN + payload.len()].copy_from_slice(&payload);
    header.write(&mut batch);
    stamp(BASE_OFFSET).write(&mut batch);
    let records = seen(&parse(&batch));
    let (retained, out) = retain_these(&batch, &[0, 1]);
    assert_eq!(retained, Retained::Some { removed: 1 });
    assert_eq!(seen(&parse(&out)), records[..2]);
    assert_eq!(offsets_column(&out), [0_u32; 0]);
}

#[test]
fn a_batch_cannot_cover_more_than_its_field_counts_or_less_than_it_holds() {
    let mut batch = plain_batch(3);
    let before = batch.clone();
    let mut extend = |end: u64| extend_to(&mut batch, Offset::new(end));
    let error = extend(BASE_OFFSET + (1 << 32) + 1).unwrap_err();
    assert!(matches!(error, CompactError::Span { .. }), "{error}");
    let error = extend(BASE_OFFSET + 2).unwrap_err();
    assert!(matches!(error, CompactError::End { .. }), "{error}");
    assert_eq!(batch, before);
    extend_to(&mut batch, Offset::new(BASE_OFFSET + (1 << 32))).unwrap();
    assert_eq!(parse(&batch).end_offset().get(), BASE_OFFSET + (1 << 32));
}

#[test]
fn only_batches_of_a_log_are_compacted() {
    let mut batch = plain_batch(3);
    batch[..STAMP_LEN].fill(0);
    let unstamped = RecordBatch::parse_unstamped(&batch[..], &DecompressLimit::default()).unwrap();
    let keep = |_: &RecordView<'_>| false;
    let retained = retain(&unstamped, keep, &mut AlignedBytes::new());
    assert!(matches!(retained, Err(CompactError::Unstamped)));
    let extended = extend_to(&mut batch, Offset::new(9));
    assert!(matches!(
        extended,
        Err(CompactError::Batch(BatchError::StampChecksum { .. }))
    ));
    let short = extend_to(&mut batch[..PREFIX_LEN - 1], Offset::new(9));
    assert!(matches!(
        short,
        Err(CompactError::Batch(BatchError::Truncated { .. }))
    ));
}
