//! The records that are sent: each value carries its number, so that what is read back can be recognised.

use std::sync::Arc;

use corelane_client::RecordRef;

use crate::workload::{Payload, Workload};

/// Bytes of a value's number.
pub(crate) const NUMBER_BYTES: usize = 8;
/// Bytes of a number and the time at which the record was sent.
pub(crate) const STAMPED_BYTES: usize = 16;
/// Bytes of a key: its number in hexadecimal.
const KEY_BYTES: usize = 8;
/// Bytes of payload after which it repeats, unless a value is larger: a codec is to find no repetition in a batch.
const PAYLOAD_BYTES: usize = 1 << 20;

/// A value's number: the run, the producer, and the how-manieth of its records it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    /// Tells this run's records from those of others on the same topic.
    pub(crate) run: u16,
    pub(crate) producer: u8,
    /// At most [`SEQUENCE_BITS`].
    pub(crate) sequence: u64,
}

const SEQUENCE_BITS: u32 = 40;

impl Number {
    pub(crate) fn pack(self) -> u64 {
        let sequence = self.sequence & ((1 << SEQUENCE_BITS) - 1);
        u64::from(self.run) << 48 | u64::from(self.producer) << SEQUENCE_BITS | sequence
    }

    pub(crate) fn unpack(packed: u64) -> Self {
        Self {
            run: (packed >> 48) as u16,
            producer: (packed >> SEQUENCE_BITS) as u8,
            sequence: packed & ((1 << SEQUENCE_BITS) - 1),
        }
    }
}

/// Makes and recognises the records of a workload. Clones share what never changes.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    bytes: usize,
    /// What values hold beside their numbers; value `n` is the slot `n % slots`.
    payload: Arc<[u8]>,
    keys: Option<Arc<[u8]>>,
    /// The payload with the numbers of the last values that were made. A value is never copied.
    made: Vec<u8>,
}

impl Values {
    pub(crate) fn new(workload: &Workload) -> Self {
        let bytes = workload.record_size as usize;
        assert!(bytes >= NUMBER_BYTES, "a value holds its number");
        let slots = (PAYLOAD_BYTES / bytes).max(1);
        let payload = match workload.payload {
            Payload::Random => random(slots * bytes),
            Payload::Zeros => vec![0; slots * bytes],
            Payload::Text => text(slots * bytes),
        };
        let keys = workload.keys.map(|count| {
            let keys = (0..count).flat_map(|key| format!("{key:08x}").into_bytes());
            keys.collect()
        });
        Self {
            bytes,
            payload: payload.into(),
            keys,
            made: Vec::new(),
        }
    }

    /// The size of each value, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn slots(&self) -> usize {
        self.payload.len() / self.bytes
    }

    fn slot(&self, sequence: u64) -> usize {
        (sequence % self.slots() as u64) as usize
    }

    /// How many records can be made at once.
    pub(crate) fn made_max(&self) -> usize {
        self.slots()
    }

    /// The records with these numbers, [`Values::made_max`] at most; where `sent_ns` is given values carry it, and have
    /// [`STAMPED_BYTES`] at least.
    pub(crate) fn make(&mut self, first: Number, count: usize, sent_ns: Option<u64>) -> Made<'_> {
        if self.made.is_empty() {
            self.made = self.payload.to_vec();
        }
        let first_slot = self.slot(first.sequence);
        let (bytes, slots) = (self.bytes, self.slots());
        assert!(count <= slots, "more values than there is payload for");
        for (index, packed) in (first.pack()..).take(count).enumerate() {
            let start = (first_slot + index) % slots * bytes;
            let value = &mut self.made[start..start + bytes];
            value[..NUMBER_BYTES].copy_from_slice(&packed.to_le_bytes());
            if let Some(sent_ns) = sent_ns {
                value[NUMBER_BYTES..STAMPED_BYTES].copy_from_slice(&sent_ns.to_le_bytes());
            }
        }
        Made {
            values: self,
            sequence: first.sequence,
            slot: first_slot,
            left: count,
        }
    }

    #[inline]
    fn key(&self, sequence: u64) -> Option<&[u8]> {
        /// Spreads consecutive numbers over all keys.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let keys = self.keys.as_ref()?;
        let count = (keys.len() / KEY_BYTES) as u64;
        let key = (sequence.wrapping_mul(SPREAD) >> 32) % count;
        let start = key as usize * KEY_BYTES;
        Some(&keys[start..start + KEY_BYTES])
    }

    /// The number of a value, whether it is whole or not.
    pub(crate) fn claimed(value: &[u8]) -> Option<Number> {
        let packed = value.first_chunk::<NUMBER_BYTES>()?;
        Some(Number::unpack(u64::from_le_bytes(*packed)))
    }

    /// The number of a value, if it is whole.
    pub(crate) fn number(&self, value: &[u8]) -> Option<Number> {
        self.check(value, NUMBER_BYTES)
    }

    /// The number and the time of a value that has one, if it is whole.
    pub(crate) fn stamp(&self, value: &[u8]) -> Option<(Number, u64)> {
        let number = self.check(value, STAMPED_BYTES)?;
        let sent_ns = value[NUMBER_BYTES..].first_chunk()?;
        Some((number, u64::from_le_bytes(*sent_ns)))
    }

    fn check(&self, value: &[u8], head_bytes: usize) -> Option<Number> {
        let number = Self::claimed(value)?;
        let start = self.slot(number.sequence) * self.bytes;
        let payload = &self.payload[start..start + self.bytes];
        let is_whole =
            value.len() == self.bytes && value.get(head_bytes..)? == &payload[head_bytes..];
        is_whole.then_some(number)
    }
}

/// Records that were made.
pub(crate) struct Made<'v> {
    values: &'v Values,
    sequence: u64,
    slot: usize,
    left: usize,
}

impl<'v> Iterator for Made<'v> {
    type Item = RecordRef<'v>;

    #[inline]
    fn next(&mut self) -> Option<RecordRef<'v>> {
        self.left = self.left.checked_sub(1)?;
        let start = self.slot * self.values.bytes;
        let record = RecordRef::value(&self.values.made[start..start + self.values.bytes]);
        let record = match self.values.key(self.sequence) {
            Some(key) => record.key(key),
            None => record,
        };
        self.sequence += 1;
        self.slot += 1;
        if self.slot == self.values.slots() {
            self.slot = 0;
        }
        Some(record)
    }
}

/// Numbers that look random and are the same in every run (splitmix64).
fn random_numbers() -> impl Iterator<Item = u64> {
    let mut state: u64 = 0;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

/// Bytes that no codec makes smaller.
fn random(bytes: usize) -> Vec<u8> {
    let words = random_numbers().take(bytes.div_ceil(8));
    let mut random: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    random.truncate(bytes);
    random
}

/// Lines like those of a log, which codecs make several times smaller.
fn text(bytes: usize) -> Vec<u8> {
    const LEVELS: [&str; 4] = ["INFO", "INFO", "WARN", "ERROR"];
    const WHAT: [&str; 8] = [
        "order accepted",
        "payment settled",
        "user signed in",
        "stock reserved",
        "parcel handed over",
        "retrying after timeout",
        "cache refreshed",
        "session expired",
    ];
    let mut text = Vec::with_capacity(bytes + 128);
    for number in random_numbers() {
        if text.len() >= bytes {
            break;
        }
        let level = LEVELS[(number % 4) as usize];
        let what = WHAT[(number >> 8) as usize % WHAT.len()];
        let (customer, millis) = ((number >> 16) % 100_000, (number >> 40) % 1_000);
        let line = format!("{level} {what} customer={customer} took={millis}ms\n");
        text.extend_from_slice(line.as_bytes());
    }
    text.truncate(bytes);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Kind;

    const FIRST: Number = Number {
        run: 0xbeef,
        producer: 63,
        sequence: 7,
    };

    fn workload(record_size: u32) -> Workload {
        Workload {
            record_size,
            ..Workload::new(Kind::Produce)
        }
    }

    fn slots(values: &Values) -> Vec<&[u8]> {
        values.made.chunks(values.bytes).collect()
    }

    #[test]
    fn values_are_recognised_and_damage_is_not() {
        let mut values = Values::new(&workload(100));
        assert_eq!(values.make(FIRST, 3, None).count(), 3);
        let made: Vec<Vec<u8>> = slots(&values)[7..10]
            .iter()
            .map(|value| value.to_vec())
            .collect();
        let numbers = made
            .iter()
            .map(|value| values.number(value).map(|number| number.sequence));
        assert_eq!(numbers.collect::<Vec<_>>(), [Some(7), Some(8), Some(9)]);
        assert_eq!(values.number(&made[0]), Some(FIRST));
        let mut damaged = made[1].clone();
        damaged[50] ^= 1;
        assert_eq!(values.number(&damaged), None);
        assert_eq!(values.number(&made[0][..99]), None);
        assert_eq!(values.number(&[]), None);
    }

    #[test]
    fn payload_begins_anew_without_a_seam() {
        let mut values = Values::new(&workload(300_000));
        assert_eq!(values.made_max(), 3);
        let last = Number {
            sequence: 1_000_000,
            ..FIRST
        };
        assert_eq!(values.make(last, 3, None).count(), 3);
        let mut sequences: Vec<_> = slots(&values)
            .into_iter()
            .map(|value| values.number(value).expect("whole").sequence)
            .collect();
        sequences.sort_unstable();
        assert_eq!(sequences, [1_000_000, 1_000_001, 1_000_002]);
    }

    #[test]
    fn a_value_may_carry_its_time() {
        for bytes in [STAMPED_BYTES as u32, 100] {
            let mut values = Values::new(&workload(bytes));
            assert_eq!(values.make(FIRST, 2, Some(12_345)).count(), 2);
            let second = Number {
                sequence: 8,
                ..FIRST
            };
            let value = slots(&values)[8];
            assert_eq!(values.stamp(value), Some((second, 12_345)));
            assert_eq!(values.stamp(&value[..bytes as usize - 1]), None);
        }
    }

    #[test]
    fn keys_are_all_used_and_few_are_used_more_often_than_others() {
        let values = Values::new(&Workload {
            keys: Some(10),
            ..workload(100)
        });
        let mut counts = std::collections::BTreeMap::<&[u8], u32>::new();
        for sequence in 0..10_000 {
            *counts
                .entry(values.key(sequence).expect("a key"))
                .or_default() += 1;
        }
        assert_eq!(counts.len(), 10);
        assert!(
            counts.values().all(|count| (800..1_200).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn payloads_shrink_as_their_names_promise() {
        let shrunk = |payload| {
            let values = Values::new(&Workload {
                payload,
                ..workload(1000)
            });
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &values.payload).unwrap();
            encoder.finish().unwrap().len() as f64 / values.payload.len() as f64
        };
        assert!(shrunk(Payload::Random) > 0.99);
        assert!(
            (0.05..0.5).contains(&shrunk(Payload::Text)),
            "{}",
            shrunk(Payload::Text)
        );
        assert!(shrunk(Payload::Zeros) < 0.02);
    }
}
