//! What goes into a builder comes out of a batch, whatever it is, and the
//! builder's promises on size hold.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use corelane_protocol::batch::{
    BatchBuilder, BatchBuilderConfig, BatchError, BatchLimits, BuildError, Compression,
    DecompressLimit, PREFIX_LEN, PushError, RecordBatch, RecordRef, Stamp, batches, is_padding,
    validate, verify_crc,
};
use corelane_protocol::{AlignedBytes, LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId};
use proptest::prelude::*;

type Header = (String, Option<Vec<u8>>);

#[derive(Clone, Debug, PartialEq)]
struct Record {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<Header>,
    timestamp: i64,
}

fn push(builder: &mut BatchBuilder, record: &Record) -> Result<u32, PushError> {
    let headers: Vec<(&str, Option<&[u8]>)> = record
        .headers
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_deref()))
        .collect();
    builder.try_push(RecordRef {
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: &headers,
        timestamp: Timestamp::new(record.timestamp),
    })
}

fn read<B: AsRef<[u8]>>(batch: &RecordBatch<B>) -> Vec<Record> {
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    let record = |view: corelane_protocol::batch::RecordView<'_>| Record {
        key: owned(view.key),
        value: owned(view.value),
        headers: view
            .headers()
            .map(|(key, value)| (key.to_owned(), owned(value)))
            .collect(),
        timestamp: view.timestamp.get(),
    };
    batch.records().map(record).collect()
}

fn stamp(base_offset: u64) -> Stamp {
    Stamp {
        topic: TopicId::from_bytes([7; 16]),
        partition: PartitionIndex::new(3),
        leader_epoch: LeaderEpoch::new(9),
        base_offset: Offset::new(base_offset),
        append_time: Timestamp::new(1_700_000_000_000),
    }
}

fn builder(compression: Compression) -> BatchBuilder {
    BatchBuilder::new(BatchBuilderConfig {
        compression,
        ..BatchBuilderConfig::default()
    })
    .unwrap()
}

fn bytes_strategy() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        1 => Just(None),
        4 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Some),
        1 => (any::<u8>(), 0..3000_usize).prop_map(|(byte, n)| Some(vec![byte; n])),
    ]
}

fn record_strategy() -> impl Strategy<Value = Record> {
    let header = ("\\PC{0,6}", bytes_strategy());
    let headers = prop_oneof![
        3 => Just(Vec::new()),
        1 => proptest::collection::vec(header, 0..4),
    ];
    let timestamp = prop_oneof![
        Just(1_700_000_000_000_i64),
        1_700_000_000_000_i64..1_700_000_000_100,
        1_699_999_000_000_i64..1_700_001_000_000,
    ];
    (bytes_strategy(), bytes_strategy(), headers, timestamp).prop_map(
        |(key, value, headers, timestamp)| Record {
            key,
            value,
            headers,
            timestamp,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn records_come_out_as_they_went_in(
        records in proptest::collection::vec(record_strategy(), 1..60),
        more in proptest::collection::vec(record_strategy(), 1..5),
        codec in 0..Compression::ALL.len(),
        base_offset in 0..1_u64 << 62,
    ) {
        let mut builder = builder(Compression::ALL[codec]);
        // The second batch shows that nothing of the first one stays behind.
        for records in [records, more] {
            for (index, record) in records.iter().enumerate() {
                prop_assert_eq!(push(&mut builder, record), Ok(index as u32));
            }
            prop_assert_eq!(builder.len(), records.len());
            let estimate = builder.estimated_bytes();
            let mut bytes = builder.finish().unwrap();
            prop_assert!(builder.is_empty());
            prop_assert!(bytes.len() <= estimate, "{} > {estimate}", bytes.len());
            let header = validate(&bytes, &BatchLimits::default()).unwrap();
            if header.compression == Compression::None {
                prop_assert!(bytes.len() + 256 >= estimate, "{} << {estimate}", bytes.len());
            }
            let latest = records.iter().map(|record| record.timestamp).max();
            prop_assert_eq!(Some(header.max_timestamp.get()), latest);
            prop_assert!(is_padding(&bytes[..8]));

            stamp(base_offset).write(&mut bytes);
            prop_assert!(!is_padding(&bytes));
            prop_assert_eq!(Stamp::read(&bytes), Ok(stamp(base_offset)));
            prop_assert_eq!(verify_crc(&bytes), Ok(header));
            let batch = RecordBatch::parse(&bytes[..], &DecompressLimit::default()).unwrap();
            prop_assert_eq!(&read(&batch), &records);
            let offsets: Vec<u64> = batch.records().map(|record| record.offset.get()).collect();
            let expected: Vec<u64> = (base_offset..base_offset + records.len() as u64).collect();
            prop_assert_eq!(offsets, expected);
            prop_assert_eq!(batch.end_offset().get(), base_offset + records.len() as u64);

            // Skipping arrives where stepping does, headers and keys included.
            for skipped in 0..records.len() + 1 {
                let rest: Vec<_> = batch.records().skip(skipped).map(|r| r.value.map(<[u8]>::to_vec)).collect();
                let expected: Vec<_> = records.iter().skip(skipped).map(|r| r.value.clone()).collect();
                prop_assert_eq!(rest, expected);
                let at = batch.records().nth(skipped);
                let headers = at.map(|r| (r.key.map(<[u8]>::to_vec), r.headers().len()));
                let expected = records.get(skipped).map(|r| (r.key.clone(), r.headers.len()));
                prop_assert_eq!(headers, expected);
            }
        }
    }

    #[test]
    fn no_batch_is_longer_than_its_limit(
        records in proptest::collection::vec(record_strategy(), 1..80),
        bytes_max in 300_u32..9000,
        codec in 0..Compression::ALL.len(),
    ) {
        let config = BatchBuilderConfig {
            bytes_max,
            compression: Compression::ALL[codec],
            ..BatchBuilderConfig::default()
        };
        let mut builder = BatchBuilder::new(config).unwrap();
        let mut read_back = Vec::new();
        let mut taken = Vec::new();
        let finish = |builder: &mut BatchBuilder, read_back: &mut Vec<Record>| {
            let bytes = builder.finish().unwrap();
            assert!(bytes.len() <= bytes_max as usize);
            let limit = DecompressLimit::default();
            read_back.extend(read(&RecordBatch::parse_unstamped(bytes, &limit).unwrap()));
        };
        for record in &records {
            let mut pushed = push(&mut builder, record);
            if pushed == Err(PushError::Full) {
                finish(&mut builder, &mut read_back);
                pushed = push(&mut builder, record);
            }
            match pushed {
                Ok(_) => taken.push(record.clone()),
                Err(PushError::RecordTooLarge { bytes, .. }) => {
                    prop_assert!(bytes > bytes_max as usize);
                    prop_assert!(builder.is_empty());
                }
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
        if !builder.is_empty() {
            finish(&mut builder, &mut read_back);
        }
        prop_assert_eq!(read_back, taken);
    }
}

fn batch_of(records: usize, key: Option<&[u8]>, value: &[u8], step_ms: i64) -> AlignedBytes {
    let mut builder = builder(Compression::None);
    for index in 0..records {
        let timestamp = Timestamp::new(1_700_000_000_000 + index as i64 * step_ms);
        builder
            .try_push(RecordRef {
                key,
                value: Some(value),
                headers: &[],
                timestamp,
            })
            .unwrap();
    }
    builder.finish().unwrap()
}

#[test]
fn a_record_costs_at_most_eight_bytes() {
    let overhead = |bytes: &AlignedBytes, blobs: usize| bytes.len() - PREFIX_LEN - blobs;
    // Values in a narrow and in a wide blob, with one timestamp.
    assert!(overhead(&batch_of(1000, None, &[1; 60], 0), 60_000) <= 2 * 1000 + 72);
    assert!(overhead(&batch_of(1000, None, &[1; 100], 0), 100_000) <= 4 * 1000 + 72);
    // With keys, and a time of its own for each record.
    let keyed = batch_of(1000, Some(&[2; 16]), &[1; 100], 1);
    assert!(overhead(&keyed, 116_000) <= 8 * 1000 + 104);
    // One record alone.
    assert!(batch_of(1, None, &[1; 100], 0).len() <= PREFIX_LEN + 100 + 72);
}

#[test]
fn tombstones_and_empty_values_differ() {
    let mut builder = builder(Compression::None);
    for (key, value) in [
        (Some(&b"k"[..]), None),
        (Some(b""), Some(&b""[..])),
        (None, None),
    ] {
        let record = RecordRef {
            key,
            value,
            ..RecordRef::default()
        };
        builder.try_push(record).unwrap();
    }
    let batch =
        RecordBatch::parse_unstamped(builder.finish().unwrap(), &DecompressLimit::default());
    let batch = batch.unwrap();
    let seen: Vec<_> = batch
        .records()
        .map(|record| (record.key, record.value))
        .collect();
    assert_eq!(
        seen,
        [
            (Some(&b"k"[..]), None),
            (Some(b""), Some(&b""[..])),
            (None, None)
        ]
    );
}

#[test]
fn compression_never_makes_a_batch_longer() {
    // A fixed sequence without pattern, as far as a codec can see.
    let noise: Vec<u8> = (0..4000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) ^ (n * n)).to_be_bytes()[1])
        .collect();
    for codec in Compression::ALL {
        let mut builder = builder(*codec);
        for (value, compressible) in [(&noise[..], false), (&[b'x'; 5000], true)] {
            let plain = batch_of(1, None, value, 0);
            let timestamp = Timestamp::new(1_700_000_000_000);
            builder
                .try_push(RecordRef {
                    value: Some(value),
                    timestamp,
                    ..RecordRef::default()
                })
                .unwrap();
            let bytes = builder.finish().unwrap();
            assert!(bytes.len() <= plain.len(), "{codec}");
            if compressible && *codec != Compression::None {
                let header = validate(&bytes, &BatchLimits::default()).unwrap();
                assert_eq!(header.compression, *codec);
                assert!(bytes.len() < 600, "{codec}: {}", bytes.len());
            }
        }
    }
}

#[test]
fn what_shrinks_further_than_a_reader_unpacks_is_packed_by_another_codec() {
    let mut builder = builder(Compression::Zstd);
    builder
        .try_push(RecordRef {
            value: Some(&[0; 1_000_000]),
            ..RecordRef::default()
        })
        .unwrap();
    let bytes = builder.finish().unwrap();
    let header = validate(&bytes, &BatchLimits::default()).unwrap();
    assert_eq!(header.compression, Compression::Lz4);
    assert!(bytes.len() < 10_000, "{}", bytes.len());
    let batch = RecordBatch::parse_unstamped(bytes, &DecompressLimit::default()).unwrap();
    let record = batch.records().next().unwrap();
    assert_eq!(record.value, Some(&[0; 1_000_000][..]));
}

#[test]
fn times_that_cannot_be_are_refused_by_the_builder() {
    let mut builder = builder(Compression::None);
    let at = |ms| RecordRef {
        timestamp: Timestamp::new(ms),
        ..RecordRef::default()
    };
    for ms in [-1, i64::MIN, i64::MAX] {
        let timestamp = Timestamp::new(ms);
        assert_eq!(
            builder.try_push(at(ms)),
            Err(PushError::Timestamp { timestamp })
        );
    }
    builder.try_push(at(1 << 40)).unwrap();
    builder
        .try_push(at((1 << 40) + i64::from(i32::MAX)))
        .unwrap();
    builder
        .try_push(at((1 << 40) + i64::from(i32::MIN)))
        .unwrap();
    assert_eq!(
        builder.try_push(at((1 << 40) + (1 << 31))),
        Err(PushError::TimestampSpan)
    );
    assert_eq!(builder.len(), 3);
    validate(&builder.finish().unwrap(), &BatchLimits::default()).unwrap();
    assert_eq!(builder.finish(), Err(BuildError::Empty));
}

#[test]
fn batches_split_where_they_end() {
    let (one, two) = (
        batch_of(3, None, b"abc", 1),
        batch_of(1, Some(b"k"), b"", 0),
    );
    let mut both = one.clone();
    both.extend_from_slice(&two);
    let split: Vec<_> = batches(&both).collect();
    assert_eq!(split, [Ok(&one[..]), Ok(&two[..])]);
    for cut in 1..two.len() {
        let split: Vec<_> = batches(&both[..both.len() - cut]).collect();
        assert_eq!(split.len(), 2);
        assert!(
            matches!(split[1], Err(BatchError::Truncated { .. })),
            "{cut}"
        );
    }
}

#[test]
fn unaligned_bytes_are_read_but_not_validated() {
    let batch = batch_of(10, Some(b"key"), b"value", 1);
    let mut shifted = AlignedBytes::zeroed(4);
    shifted.extend_from_slice(&batch);
    assert_eq!(
        validate(&shifted[4..], &BatchLimits::default()),
        Err(BatchError::Misaligned)
    );
    verify_crc(&shifted[4..]).unwrap();
    let read_shifted = RecordBatch::parse_unstamped(&shifted[4..], &DecompressLimit::default());
    let read_batch = RecordBatch::parse_unstamped(&batch[..], &DecompressLimit::default());
    assert_eq!(read(&read_shifted.unwrap()), read(&read_batch.unwrap()));
}
