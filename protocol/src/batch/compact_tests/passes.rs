//! Batches that lose records keep everything of those that stay, pass after pass.

use proptest::prelude::*;

use super::*;

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
            offset: 0,
            timestamp,
            key,
            value,
            headers,
        },
    )
}

/// One pass of a log's compaction over a batch.
#[derive(Clone, Debug)]
struct Pass {
    /// A bit for each record.
    kept: u64,
    /// By how much it ends later.
    on: u64,
    flipped: prop::sample::Index,
}

fn pass_strategy() -> impl Strategy<Value = Pass> {
    let kept = prop_oneof![
        4 => any::<u64>(),
        2 => (any::<u64>(), any::<u64>()).prop_map(|(one, other)| one | other),
        1 => (0..64_u32).prop_map(|length| (1 << length) - 1),
        1 => Just(u64::MAX),
    ];
    let distance = || prop_oneof![2 => Just(0), 1 => 1..5_u64, 1 => 0..1_u64 << 24];
    let flipped = any::<prop::sample::Index>();
    (kept, distance(), flipped).prop_map(|(kept, on, flipped)| Pass { kept, on, flipped })
}

fn kind_strategy() -> impl Strategy<Value = Kind> {
    let codec = prop::sample::select(Compression::ALL);
    (codec, any::<bool>(), any::<bool>()).prop_map(|(compression, log_append, is_marked)| Kind {
        compression,
        timestamp_type: match log_append {
            true => TimestampType::LogAppend,
            false => TimestampType::Create,
        },
        is_marked,
    })
}

/// Checks a compacted batch against what it was made from and against what it should hold.
fn check_compacted(
    after: &[u8],
    before: &[u8],
    kind: &Kind,
    (from, end): (u64, u64),
    records: &[Record],
) -> Result<(), TestCaseError> {
    let batch = parse(after);
    prop_assert_eq!(batch.stamp(), Some(&stamp(from)));
    prop_assert_eq!(batch.end_offset().get(), end);
    prop_assert_eq!(&created(after), records);
    let mut expected = records.to_vec();
    if kind.timestamp_type == TimestampType::LogAppend {
        expected
            .iter_mut()
            .for_each(|record| record.timestamp = APPEND_TIME);
    }
    prop_assert_eq!(seen(&batch), expected);
    prop_assert_eq!(verify_crc(after), Ok(batch.header().clone()));
    let split: Vec<_> = batches(after).collect();
    prop_assert_eq!(split, vec![Ok(after)]);
    if end - from > records.len() as u64 {
        prop_assert!(validate(after, &BatchLimits::default()).is_err());
    }
    let (header, old) = (batch.header(), parse(before).header().clone());
    let producer = |header: &BatchHeader| {
        let BatchHeader {
            producer_id,
            producer_epoch,
            base_sequence,
            ..
        } = *header;
        (producer_id, producer_epoch, base_sequence)
    };
    prop_assert_eq!(producer(header), producer(&old));
    let attributes =
        |header: &BatchHeader| (header.timestamp_type, header.transactional, header.control);
    prop_assert_eq!(attributes(header), attributes(&old));
    prop_assert!([old.compression, Compression::None].contains(&header.compression));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_stays_what_it_was(
        mut records in proptest::collection::vec(record_strategy(), 1..60),
        kind in kind_strategy(),
        passes in proptest::collection::vec(pass_strategy(), 3),
    ) {
        let (mut from, mut end) = (BASE_OFFSET, BASE_OFFSET + records.len() as u64);
        for (record, offset) in records.iter_mut().zip(from..) {
            record.offset = offset;
        }
        let mut bytes = log_batch(&records, &kind);
        let mut out = AlignedBytes::new();
        for pass in passes {
            let batch = parse(&bytes);
            let wanted = |offset: u64| pass.kept & 1 << (offset % 64) != 0;
            let mut asked = Vec::new();
            let keep = |record: &RecordView<'_>| {
                asked.push(record.offset.get());
                wanted(record.offset.get())
            };
            let retained = retain(&batch, keep, &mut out).unwrap();
            let offsets: Vec<u64> = records.iter().map(|record| record.offset).collect();
            prop_assert_eq!(asked, offsets);
            let mut kept = records.clone();
            kept.retain(|record| wanted(record.offset));
            match retained {
                Retained::None => {
                    prop_assert!(kept.is_empty() && out.is_empty());
                    break;
                }
                Retained::All => {
                    prop_assert!(kept.len() == records.len() && out.is_empty());
                }
                Retained::Some { removed } => {
                    prop_assert!(removed > 0);
                    prop_assert_eq!(removed as usize, records.len() - kept.len());
                    prop_assert_eq!(&all_of(&out, &bytes), &kept);
                    // The next pass is over the first of them.
                    let first = batches(&out).next().unwrap().unwrap();
                    let first_end = parse(first).end_offset().get();
                    kept.retain(|record| record.offset < first_end);
                    let begin = kept[0].offset;
                    check_compacted(first, &bytes, &kind, (begin, first_end), &kept)?;
                    bytes = AlignedBytes::copy_of(first);
                    (records, from, end) = (kept, begin, first_end);
                }
            }
            let extended = end + pass.on;
            let before = bytes.clone();
            extend_to(&mut bytes, Offset::new(extended)).unwrap();
            if extended == end {
                prop_assert_eq!(&bytes, &before);
            } else {
                check_compacted(&bytes, &before, &kind, (from, extended), &records)?;
                prop_assert_eq!(&bytes[PREFIX_LEN..], &before[PREFIX_LEN..]);
            }
            end = extended;
            let flipped = pass.flipped.index(bytes.len() * 8);
            let mut damaged = bytes.clone();
            damaged[flipped / 8] ^= 1 << (flipped % 8);
            prop_assert!(RecordBatch::parse(&damaged[..], &DecompressLimit::default()).is_err());
            let as_it_was = damaged.clone();
            prop_assert!(extend_to(&mut damaged, Offset::new(end + 1)).is_err());
            prop_assert_eq!(damaged, as_it_was);
        }
    }

    #[test]
    fn a_builder_knows_what_offsets_take(
        records in proptest::collection::vec(record_strategy(), 1..60),
        gaps in proptest::collection::vec(0..1000_u32, 60),
    ) {
        let mut builder = builder(Compression::None);
        let mut delta = 0;
        for (record, gap) in records.iter().zip(&gaps) {
            delta += 1 + gap;
            push(&mut builder, record, Some(delta)).unwrap();
        }
        let estimate = builder.estimated_bytes();
        // A record that does not fit leaves nothing behind.
        builder.set_bytes_max(estimate as u32);
        prop_assert_eq!(push(&mut builder, &records[0], Some(delta + 1)), Err(PushError::Full));
        prop_assert_eq!(builder.estimated_bytes(), estimate);
        let mut bytes = AlignedBytes::new();
        builder.finish_with(&mut bytes, |header| header.last_offset_delta = delta).unwrap();
        prop_assert!(bytes.len() <= estimate, "{} > {estimate}", bytes.len());
        prop_assert!(bytes.len() + 256 >= estimate, "{} << {estimate}", bytes.len());
        prop_assert_eq!(offsets_column(&bytes).len(), records.len());
        // Nor does the batch leave anything to the next one.
        builder.set_bytes_max(u32::MAX);
        push(&mut builder, &records[0], None).unwrap();
        let next = builder.finish().unwrap();
        validate(&next, &BatchLimits { batch_bytes_max: u32::MAX, ..BatchLimits::default() }).unwrap();
    }
}
