//! A batch that is built where its values were collected has the bytes that rkyv makes of its columns.

use proptest::prelude::*;

use super::column::{Column, Extra};
use super::columns::{Blobs, Columns, Deltas, Ends, HeaderColumns};
use super::compression::Compressor;
use super::layout::{BATCH_ALIGN, ENCODING_COLUMNAR, PREFIX_LEN};
use super::*;
use crate::aligned::AlignedBytes;
use crate::ids::{ProducerEpoch, ProducerId, Timestamp};

#[derive(Clone, Debug)]
struct Record {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    timestamp: i64,
}

/// The columns of some records, as plainly as they can be made.
fn columns(records: &[Record]) -> Columns {
    let blobs = |rows: Vec<Option<&[u8]>>| {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        let mut nulls = vec![0; rows.len().div_ceil(8)];
        for (index, row) in rows.iter().enumerate() {
            bytes.extend_from_slice(row.unwrap_or_default());
            ends.push(bytes.len() as u32);
            nulls[index / 8] |= u8::from(row.is_none()) << (index % 8);
        }
        Blobs {
            ends: match bytes.len() {
                0..=65_535 => Ends::Narrow(ends.iter().map(|end| *end as u16).collect()),
                _ => Ends::Wide(ends),
            },
            nulls: if nulls.iter().all(|marks| *marks == 0) {
                Vec::new()
            } else {
                nulls
            },
            bytes,
        }
    };
    let deltas = records
        .iter()
        .map(|record| record.timestamp - records[0].timestamp);
    let deltas: Vec<i32> = deltas.map(|delta| delta as i32).collect();
    let narrow: Result<Vec<i16>, _> = deltas.iter().map(|delta| i16::try_from(*delta)).collect();
    let headers: Vec<_> = records.iter().flat_map(|record| &record.headers).collect();
    let mut header_count = 0;
    let record_ends = records.iter().map(|record| {
        header_count += record.headers.len() as u32;
        header_count
    });
    let record_ends = Ends::Wide(record_ends.collect());
    let any_key = records.iter().any(|record| record.key.is_some());
    let keys = records.iter().map(|record| record.key.as_deref());
    Columns {
        values: blobs(
            records
                .iter()
                .map(|record| record.value.as_deref())
                .collect(),
        ),
        keys: any_key.then(|| Box::new(blobs(keys.collect()))),
        timestamps: match narrow {
            _ if deltas.iter().all(|delta| *delta == 0) => Deltas::Zero,
            Ok(narrow) => Deltas::Narrow(narrow),
            Err(_) => Deltas::Wide(deltas),
        },
        offsets: Vec::new(),
        headers: (!headers.is_empty()).then(|| {
            Box::new(HeaderColumns {
                record_ends,
                keys: blobs(
                    headers
                        .iter()
                        .map(|(key, _)| Some(key.as_bytes()))
                        .collect(),
                ),
                values: blobs(headers.iter().map(|(_, value)| value.as_deref()).collect()),
            })
        }),
    }
}

/// The batch of some records, by way of rkyv.
fn expected(records: &[Record], compression: Compression) -> Vec<u8> {
    let mut plain = AlignedBytes::new();
    columns(records).write(&mut plain);
    let mut batch = vec![0; PREFIX_LEN];
    let mut compressor = Compressor::new(compression, None).unwrap();
    let packed = compressor.compress(&plain, &mut batch);
    let is_packed = packed.is_some() && batch.len() - PREFIX_LEN < plain.len();
    if !is_packed {
        batch.truncate(PREFIX_LEN);
        batch.extend_from_slice(&plain);
    }
    let payload_length = batch.len() - PREFIX_LEN;
    batch.resize(batch.len().next_multiple_of(BATCH_ALIGN), 0);
    let times = records.iter().map(|record| record.timestamp);
    let header = BatchHeader {
        crc: 0,
        encoding: ENCODING_COLUMNAR,
        total_length: batch.len() as u32,
        compression: if is_packed {
            compression
        } else {
            Compression::None
        },
        timestamp_type: TimestampType::Create,
        transactional: false,
        control: false,
        record_count: records.len() as u32,
        last_offset_delta: records.len() as u32 - 1,
        first_timestamp: Timestamp::new(records[0].timestamp),
        max_timestamp: Timestamp::new(times.max().unwrap()),
        producer_id: ProducerId::new(4),
        producer_epoch: ProducerEpoch::new(5),
        base_sequence: 6,
        payload_length: payload_length as u32,
        uncompressed_length: plain.len() as u32,
    };
    header.write(&mut batch);
    batch
}

fn builder(compression: Compression) -> BatchBuilder {
    BatchBuilder::new(BatchBuilderConfig {
        compression,
        bytes_max: u32::MAX,
        ..BatchBuilderConfig::default()
    })
    .unwrap()
}

fn push(builder: &mut BatchBuilder, record: &Record) {
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
    builder.try_push(record).unwrap();
}

/// Few values are long, so that with one of them ends become wide.
fn bytes_strategy() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        20 => Just(None),
        80 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Some),
        1 => (any::<u8>(), 65_000..66_000_usize).prop_map(|(byte, n)| Some(vec![byte; n])),
    ]
}

fn record_strategy() -> impl Strategy<Value = Record> {
    let header = ("\\PC{0,6}", bytes_strategy());
    let headers = prop_oneof![
        6 => Just(Vec::new()),
        1 => proptest::collection::vec(header, 1..4),
    ];
    let key = prop_oneof![2 => Just(None), 1 => bytes_strategy()];
    let timestamp = prop_oneof![
        20 => 1_000_000_i64..1_000_002,
        1 => 0..10_000_000_i64,
    ];
    (key, bytes_strategy(), headers, timestamp).prop_map(|(key, value, headers, timestamp)| {
        Record {
            key,
            value,
            headers,
            timestamp,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Each batch is built in what an earlier one left behind, behind as much room as one before it took.
    #[test]
    fn a_batch_built_in_place_has_the_bytes_of_its_columns(
        batches in proptest::collection::vec(
            proptest::collection::vec(record_strategy(), 1..30), 1..5),
        codec in 0..Compression::ALL.len(),
    ) {
        let compression = Compression::ALL[codec];
        let mut builder = builder(compression);
        let mut next = BatchBytes::default();
        for records in &batches {
            for record in records {
                push(&mut builder, record);
            }
            let estimate = builder.estimated_bytes();
            builder.set_producer(ProducerId::new(4), ProducerEpoch::new(5), 6);
            let batch = builder.finish_in_place(next).unwrap();
            prop_assert_eq!(&batch[..], &expected(records, compression)[..]);
            prop_assert!(batch.len() <= estimate, "{} > {estimate}", batch.len());
            prop_assert_eq!(&batch.to_aligned()[..], &batch[..]);
            next = batch;
        }
    }
}

#[test]
fn values_stay_where_they_were_collected_once_the_room_before_them_is_known() {
    let mut column = Column::default();
    for round in 0..3 {
        let rows: [&[u8]; 3] = [b"one", b"", b"three"];
        rows.iter().for_each(|row| column.push(Some(row)));
        let (memory, begin, places) = column.take_out(16);
        let start = begin + places.bytes.at;
        assert_eq!(&memory[start..], b"onethree");
        assert_eq!(&memory[begin + 16..start], [3, 0, 3, 0, 8, 0]);
        // The first time they were moved; after that a little more is left free.
        let expected = if round == 0 { (0, 22) } else { (2, 24) };
        assert_eq!((begin, start), expected, "round {round}");
        column.clear();
        column.collect_in(memory);
    }
    // Fewer rows leave some of the room free.
    column.push(Some(b"one"));
    let (memory, begin, places) = column.take_out(16);
    assert_eq!((begin, places.bytes.at), (6, 18));
    assert_eq!(&memory[24..], b"one");
}

#[test]
fn a_null_key_takes_the_same_room_before_and_after_the_first_key() {
    let mut early = Column::default();
    let mut late = Column::default();
    for row in 0..20 {
        early.push((row == 19).then_some(&b"key"[..]));
    }
    late.fill_with_nulls(19);
    late.push(Some(b"key"));
    let none = Extra::default();
    assert_eq!(early.bytes_with(&none), late.bytes_with(&none));
    assert_eq!(early.take_out(0).0, late.take_out(0).0);
}

#[test]
fn what_is_in_the_memory_of_the_next_batch_is_forgotten() {
    let record = Record {
        key: None,
        value: Some(b"value".to_vec()),
        headers: Vec::new(),
        timestamp: 7,
    };
    let mut builder = builder(Compression::None);
    push(&mut builder, &record);
    let first = builder
        .finish_in_place(BatchBytes::copy_of(&[9; 1000]))
        .unwrap();
    push(&mut builder, &record);
    assert_eq!(
        builder.finish_in_place(BatchBytes::default()).unwrap(),
        first
    );
    assert_eq!(
        builder.finish_in_place(BatchBytes::default()),
        Err(BuildError::Empty)
    );
}
