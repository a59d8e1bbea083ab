//! The bytes of records are a format.

use corelane_protocol::LeaderEpoch;
use corelane_protocol::response::CommittedOffset;

use super::super::{GroupRecordError, GroupValue, MemberValue};
use super::*;

fn samples() -> Vec<GroupRecord> {
    let topic = TopicId::from_bytes(*b"0123456789abcdef");
    let group = || "g1".to_owned();
    let member = MemberId::new(Uuid::from_bytes(*b"ABCDEFGHIJKLMNOP"));
    vec![
        GroupRecord::Group {
            group: group(),
            value: Some(GroupValue {
                generation: Generation::new(7),
                target_generation: Generation::new(5),
                assignor: "sticky".to_owned(),
                empty_since: Some(Timestamp::new(258)),
            }),
        },
        GroupRecord::Member {
            group: group(),
            member,
            value: Some(Box::new(MemberValue {
                subscription: Subscription {
                    instance: Some("i".to_owned()),
                    client: "c".to_owned(),
                    session_timeout_ms: 9_000,
                    rebalance_timeout_ms: 60_000,
                    topics: vec!["t".to_owned()],
                    pattern: None,
                    assignor: Some("range".to_owned()),
                },
                host: "h".to_owned(),
                generation: Generation::new(3),
                previous: Generation::new(2),
                away: true,
                assigned: owned_on_wire(&BTreeSet::from([at(topic, 1)])),
                revoking: Vec::new(),
            })),
        },
        GroupRecord::Offset {
            group: group(),
            partition: at(topic, 4),
            value: Some(CommittedOffset {
                offset: Offset::new(1_000),
                leader_epoch: Some(LeaderEpoch::new(2)),
                time: Timestamp::new(-1),
                metadata: "m".to_owned(),
            }),
        },
        GroupRecord::Group {
            group: group(),
            value: None,
        },
        GroupRecord::Member {
            group: group(),
            member,
            value: None,
        },
        GroupRecord::Offset {
            group: group(),
            partition: at(topic, 4),
            value: None,
        },
    ]
}

#[test]
fn golden_bytes() {
    let expected: [(&[u8], Option<&[u8]>); 6] = [
        (
            b"\x01\x01\x02\0g1",
            Some(b"\x01\x07\0\0\0\x05\0\0\0\x06\0sticky\x01\x02\x01\0\0\0\0\0\0"),
        ),
        (
            b"\x01\x02\x02\0g1ABCDEFGHIJKLMNOP",
            Some(
                b"\x01\x01\x01\0i\x01\0c\x28\x23\0\0\x60\xea\0\0\x01\0\0\0\x01\0t\0\x01\x05\0range\
                  \x01\0h\x03\0\0\0\x02\0\0\0\x01\
                  \x01\0\0\x000123456789abcdef\x01\0\0\0\x01\0\0\0\0\0\0\0",
            ),
        ),
        (
            b"\x01\x03\x02\0g10123456789abcdef\x04\0\0\0",
            Some(b"\x01\xe8\x03\0\0\0\0\0\0\x02\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\x01\0m"),
        ),
        (b"\x01\x01\x02\0g1", None),
        (b"\x01\x02\x02\0g1ABCDEFGHIJKLMNOP", None),
        (b"\x01\x03\x02\0g10123456789abcdef\x04\0\0\0", None),
    ];
    for (record, (key, value)) in samples().iter().zip(expected) {
        assert_eq!(record.key(), key);
        assert_eq!(record.value().as_deref(), value);
        assert_eq!(GroupRecord::decode(key, value).as_ref(), Ok(record));
    }
}

#[test]
fn no_prefix_is_a_record() {
    for record in samples() {
        let (key, value) = (record.key(), record.value());
        for end in 0..key.len() {
            assert!(GroupRecord::decode(&key[..end], value.as_deref()).is_err());
        }
        let value = value.unwrap_or_default();
        for end in 0..value.len() {
            assert!(GroupRecord::decode(&key, Some(&value[..end])).is_err());
        }
        let longer = [&value[..], b"\0"].concat();
        assert!(GroupRecord::decode(&key, Some(&longer)).is_err());
    }
}

/// Whatever a damaged record says, a coordinator that reads it neither panics nor lets two members
/// hold one partition.
#[test]
fn a_flipped_bit_does_no_harm() {
    let records = samples();
    let mut topics = FakeTopics::default();
    topics.create("t", 3);
    let now = Bench::new().now;
    for (place, record) in records.iter().take(3).enumerate() {
        let (key, value) = (record.key(), record.value().expect("these have one"));
        for bit in 0..(key.len() + value.len()) * 8 {
            let mut bytes = [&key[..], &value].concat();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (key, value) = bytes.split_at(key.len());
            let Ok(damaged) = GroupRecord::decode(key, Some(value)) else {
                continue;
            };
            assert_ne!(damaged, *record);
            let mut coordinator = Coordinator::new(Settings::default());
            for (other, record) in records.iter().take(3).enumerate() {
                let read = if other == place { &damaged } else { record };
                coordinator.replay(read.clone());
            }
            let loaded = coordinator.loaded(now, &topics, &mut Allowance::of_event());
            assert!(loaded.is_some());
            sound::assert_sound(&coordinator);
        }
    }
}

#[test]
fn a_newer_version_is_named() {
    let record = samples().remove(0);
    let (mut key, mut value) = (record.key(), record.value().expect("it has one"));
    value[0] = 2;
    let error = GroupRecord::decode(&key, Some(&value)).expect_err("it is newer");
    assert_eq!(error, GroupRecordError::Version { version: 2 });
    assert!(error.to_string().contains("start a newer version"));
    key[1] = 4;
    let error = GroupRecord::decode(&key, None).expect_err("it is newer");
    assert_eq!(error, GroupRecordError::Kind { kind: 4 });
    key[0] = 3;
    let error = GroupRecord::decode(&key, None).expect_err("it is newer");
    assert_eq!(error, GroupRecordError::Version { version: 3 });
}
