//! The bytes of requests and responses about consumer groups.

use corelane_protocol::request::{
    CommitEntry, CommitOffsetsRequest, FetchOffsetsRequest, GroupHeartbeatRequest,
    LeaveGroupRequest, MemberRef, PartitionsOfTopic, Subscription,
};
use corelane_protocol::response::{
    CommittedEntry, CommittedOffset, CoreAddress, DescribedMember, FetchedOffset, GroupAnswer,
    GroupDescription, GroupPartition, GroupState, HeartbeatAnswer, ListGroupsResponse, ListedGroup,
    NamedPartitions,
};
use corelane_protocol::{
    ApiError, CoreId, CorrelationId, ErrorCode, Generation, LeaderEpoch, MemberId, Offset,
    PartitionIndex, Request, RequestFlags, Response, ResponseMeta, Timestamp, TopicId,
    TopicPartition,
};
use uuid::Uuid;

use super::{TOPIC, hex};

const MEMBER: [u8; 16] = *b"\xfe\xdc\xba\x98\x76\x54\x43\x21\x8f\xed\xcb\xa9\x87\x65\x43\x21";

fn member(generation: u32) -> MemberRef {
    MemberRef {
        id: MemberId::new(Uuid::from_bytes(MEMBER)),
        generation: Generation::new(generation),
    }
}

fn partition(number: u32) -> TopicPartition {
    TopicPartition::new(TopicId::from_bytes(TOPIC), PartitionIndex::new(number))
}

fn named(partitions: &[u32]) -> NamedPartitions {
    NamedPartitions {
        topic: TopicId::from_bytes(TOPIC),
        name: "orders".to_owned(),
        partitions: partitions
            .iter()
            .copied()
            .map(PartitionIndex::new)
            .collect(),
    }
}

fn committed() -> CommittedOffset {
    CommittedOffset {
        offset: Offset::new(0x2122),
        leader_epoch: Some(LeaderEpoch::new(4)),
        time: Timestamp::new(1_700_000_000_000),
        metadata: "m".to_owned(),
    }
}

fn asked(request: &Request<'_>) -> String {
    let mut frame = Vec::new();
    let correlation = CorrelationId::new(0x0a0b_0c0d);
    request
        .encode(correlation, RequestFlags::NONE, &mut frame)
        .unwrap();
    hex(&frame)
}

fn answered(response: &Response<'_>) -> String {
    let meta = ResponseMeta {
        api_version: 1,
        correlation_id: CorrelationId::new(0x0a0b_0c0d),
        throttle_ms: 0,
        credit_bytes: 0x0010_0000,
    };
    let mut frame = Vec::new();
    response.encode(&meta, &mut frame);
    hex(&frame)
}

fn ok<T>(value: T) -> GroupAnswer<T> {
    GroupAnswer {
        result: Ok(value),
        owner: None,
    }
}

const HEARTBEAT: &str = "\
7e0000000c0001000d0c0b0a00000000
070062696c6c696e67fedcba98765443
218fedcba98765432100000000010106
0074696c6c2d33010061c8af000060ea
00000200000006006f72646572730300
7461780103006f2e2a01060073746963
6b79010000000123456789ab4def8123
456789abcdef02000000020000000500
0000";

const LEAVE: &str = "\
2a0000000d0001000d0c0b0a00000000
070062696c6c696e67fedcba98765443
218fedcba9876543210700000001";

#[test]
fn the_golden_member_joins_and_leaves() {
    let subscription = Subscription {
        instance: Some("till-3".to_owned()),
        client: "a".to_owned(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 60_000,
        topics: vec!["orders".to_owned(), "tax".to_owned()],
        pattern: Some("o.*".to_owned()),
        assignor: Some("sticky".to_owned()),
    };
    let heartbeat = GroupHeartbeatRequest {
        group: "billing".to_owned(),
        member: member(0),
        subscription: Some(subscription),
        owned: vec![PartitionsOfTopic {
            topic: TopicId::from_bytes(TOPIC),
            partitions: vec![PartitionIndex::new(2), PartitionIndex::new(5)],
        }],
    };
    assert_eq!(asked(&Request::GroupHeartbeat(heartbeat)), HEARTBEAT);
    let leave = LeaveGroupRequest {
        group: "billing".to_owned(),
        member: member(7),
        returns: true,
    };
    assert_eq!(asked(&Request::LeaveGroup(leave)), LEAVE);
}

const COMMIT: &str = "\
730000000e0001000d0c0b0a00000000
070062696c6c696e6701fedcba987654
43218fedcba987654321070000000200
00000123456789ab4def8123456789ab
cdef0700000022210000000000000400
000001006d0123456789ab4def812345
6789abcdef0800000011000000000000
00ffffffff0000";

const FETCH: &str = "\
2e0000000f0001000d0c0b0a00000000
070062696c6c696e6701010000000123
456789ab4def8123456789abcdef0700
0000";

#[test]
fn the_golden_offsets_are_committed_and_asked_for() {
    let entry = |number, offset, leader_epoch, metadata: &str| CommitEntry {
        partition: partition(number),
        offset: Offset::new(offset),
        leader_epoch,
        metadata: metadata.to_owned(),
    };
    let commit = CommitOffsetsRequest {
        group: "billing".to_owned(),
        member: Some(member(7)),
        entries: vec![
            entry(7, 0x2122, Some(LeaderEpoch::new(4)), "m"),
            entry(8, 0x11, None, ""),
        ],
    };
    assert_eq!(asked(&Request::CommitOffsets(commit)), COMMIT);
    let fetch = FetchOffsetsRequest {
        group: "billing".to_owned(),
        partitions: Some(vec![partition(7)]),
    };
    assert_eq!(asked(&Request::FetchOffsets(fetch)), FETCH);
}

const TOLD: &str = "\
480000000c0001000d0c0b0a00000000
0000100000000000000007000000b80b
000001010000000123456789ab4def81
23456789abcdef06006f726465727302
000000020000000500000000";

#[test]
fn the_golden_assignment_is_written() {
    let answer = ok(HeartbeatAnswer {
        generation: Generation::new(7),
        heartbeat_interval_ms: 3_000,
        assignment: Some(vec![named(&[2, 5])]),
    });
    assert_eq!(answered(&Response::GroupHeartbeat(answer)), TOLD);
}

const COMMITTED: &str = "\
510000000e0001000d0c0b0a00000000
00001000000000000000020000000123
456789ab4def8123456789abcdef0700
000000000123456789ab4def81234567
89abcdef080000002100080062206861
7320697400";

const ELSEWHERE: &str = "\
260000000e0001000d0c0b0a00000000
00001000000000000f000600636f7265
20320102000100682425";

const FETCHED: &str = "\
5c0000000f0001000d0c0b0a00000000
00001000000000000000020000000123
456789ab4def8123456789abcdef0700
00000122210000000000000400000000
68e5cf8b01000001006d0123456789ab
4def8123456789abcdef080000000000";

#[test]
fn the_golden_offsets_are_answered() {
    let outcome = |number, result| CommittedEntry {
        partition: partition(number),
        result,
    };
    let outcomes = ok(vec![
        outcome(7, Ok(())),
        outcome(8, Err(ApiError::new(ErrorCode::NotAssigned, "b has it"))),
    ]);
    assert_eq!(answered(&Response::CommitOffsets(outcomes)), COMMITTED);
    let elsewhere = GroupAnswer {
        result: Err(ApiError::new(ErrorCode::NotOwner, "core 2")),
        owner: Some(CoreAddress {
            core: CoreId::new(2),
            host: "h".to_owned(),
            port: 0x2524,
        }),
    };
    assert_eq!(answered(&Response::CommitOffsets(elsewhere)), ELSEWHERE);
    let fetched = |number, committed| FetchedOffset {
        partition: partition(number),
        committed,
    };
    let fetched = ok(vec![fetched(7, Some(committed())), fetched(8, None)]);
    assert_eq!(answered(&Response::FetchOffsets(fetched)), FETCHED);
}

const LISTED: &str = "\
2e000000100001000d0c0b0a00000000
00001000000000000100000007006269
6c6c696e670207000000010000000200
0000";

const DESCRIBED: &str = "\
f2000000110001000d0c0b0a00000000
00001000000000000000010700000006
00737469636b7901000000fedcba9876
5443218fedcba9876543210106007469
6c6c2d3301006103003a3a3106000000
0100000006006f72646572730103006f
2e2a010000000123456789ab4def8123
456789abcdef06006f72646572730100
00000700000000000000020000000600
6f72646572730123456789ab4def8123
456789abcdef0700000001fedcba9876
5443218fedcba9876543210122210000
00000000040000000068e5cf8b010000
01006d01302100000000000000000123
456789ab4def8123456789abcdef0800
000000000000";

#[test]
fn the_golden_group_is_listed_and_described() {
    let listed = ListedGroup {
        group: "billing".to_owned(),
        state: GroupState::Stable,
        generation: Generation::new(7),
        members: 1,
        offsets: 2,
    };
    let groups = vec![listed];
    let listed = Response::ListGroups(ListGroupsResponse { groups });
    assert_eq!(answered(&listed), LISTED);
    let one = DescribedMember {
        id: member(6).id,
        instance: Some("till-3".to_owned()),
        client: "a".to_owned(),
        host: "::1".to_owned(),
        generation: Generation::new(6),
        topics: vec!["orders".to_owned()],
        pattern: Some("o.*".to_owned()),
        assigned: vec![named(&[7])],
        target: Vec::new(),
    };
    let held = GroupPartition {
        name: "orders".to_owned(),
        partition: partition(7),
        owner: Some(one.id),
        committed: Some(committed()),
        high_watermark: Some(Offset::new(0x2130)),
    };
    let gone = GroupPartition {
        name: String::new(),
        partition: partition(8),
        owner: None,
        committed: None,
        high_watermark: None,
    };
    assert_eq!((held.lag(), gone.lag()), (Some(14), None));
    let group = ok(GroupDescription {
        state: GroupState::Reconciling,
        generation: Generation::new(7),
        assignor: "sticky".to_owned(),
        members: vec![one],
        partitions: vec![held, gone],
    });
    assert_eq!(answered(&Response::DescribeGroup(group)), DESCRIBED);
}
