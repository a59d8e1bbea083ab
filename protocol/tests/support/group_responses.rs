//! Responses about consumer groups, with every field in use.

use corelane_protocol::response::{
    CommittedEntry, CommittedOffset, CoreAddress, DescribedMember, FetchedOffset, GroupAnswer,
    GroupDescription, GroupPartition, GroupState, HeartbeatAnswer, ListGroupsResponse, ListedGroup,
    NamedPartitions,
};
use corelane_protocol::{
    ApiError, CoreId, ErrorCode, Generation, LeaderEpoch, MemberId, Offset, PartitionIndex,
    Response, Timestamp, TopicId, TopicPartition,
};
use uuid::Uuid;

fn partition(number: u32) -> TopicPartition {
    TopicPartition::new(
        TopicId::from_bytes([number as u8 | 1; 16]),
        PartitionIndex::new(number),
    )
}

fn named(name: &str, partitions: &[u32]) -> NamedPartitions {
    NamedPartitions {
        topic: TopicId::from_bytes([6; 16]),
        name: name.to_owned(),
        partitions: partitions
            .iter()
            .copied()
            .map(PartitionIndex::new)
            .collect(),
    }
}

fn committed(leader_epoch: Option<LeaderEpoch>) -> CommittedOffset {
    CommittedOffset {
        offset: Offset::new(1 << 40),
        leader_epoch,
        time: Timestamp::new(1_700_000_000_000),
        metadata: "by a".to_owned(),
    }
}

fn answered<T>(value: T) -> GroupAnswer<T> {
    GroupAnswer {
        result: Ok(value),
        owner: None,
    }
}

fn refused<T>(code: ErrorCode) -> GroupAnswer<T> {
    GroupAnswer {
        result: Err(ApiError::new(code, "the group is billing")),
        owner: Some(CoreAddress {
            core: CoreId::new(3),
            host: "::1".to_owned(),
            port: 9503,
        }),
    }
}

fn description() -> GroupDescription {
    let id = MemberId::new(Uuid::from_bytes([3; 16]));
    let member = DescribedMember {
        id,
        instance: Some("till-3".to_owned()),
        client: "billing on a".to_owned(),
        host: "127.0.0.1".to_owned(),
        generation: Generation::new(6),
        topics: vec!["orders".to_owned(), "ä".to_owned()],
        pattern: Some("orders-.*".to_owned()),
        assigned: vec![named("orders", &[0, 1]), named("ä", &[])],
        target: vec![named("orders", &[0])],
    };
    let spare = DescribedMember {
        id: MemberId::new(Uuid::from_bytes([4; 16])),
        instance: None,
        client: String::new(),
        host: String::new(),
        generation: Generation::NONE,
        topics: Vec::new(),
        pattern: None,
        assigned: Vec::new(),
        target: Vec::new(),
    };
    GroupDescription {
        state: GroupState::Reconciling,
        generation: Generation::new(7),
        assignor: "sticky".to_owned(),
        members: vec![member, spare],
        partitions: vec![
            GroupPartition {
                name: "orders".to_owned(),
                partition: partition(0),
                owner: Some(id),
                committed: Some(committed(Some(LeaderEpoch::new(4)))),
                high_watermark: Some(Offset::MAX),
            },
            GroupPartition {
                name: String::new(),
                partition: partition(1),
                owner: None,
                committed: None,
                high_watermark: None,
            },
        ],
    }
}

/// One of each response, and more where it has choices.
pub(crate) fn samples() -> Vec<Response<'static>> {
    let heartbeat = |assignment| {
        Response::GroupHeartbeat(answered(HeartbeatAnswer {
            generation: Generation::new(7),
            heartbeat_interval_ms: 3_000,
            assignment,
        }))
    };
    let outcome = |number, result| CommittedEntry {
        partition: partition(number),
        result,
    };
    let fetched = |number, committed| FetchedOffset {
        partition: partition(number),
        committed,
    };
    let listed = |name: &str, state| ListedGroup {
        group: name.to_owned(),
        state,
        generation: Generation::new(7),
        members: 2,
        offsets: 12,
    };
    vec![
        heartbeat(Some(vec![named("orders", &[0, 5, 2]), named("ä", &[])])),
        heartbeat(None),
        Response::GroupHeartbeat(refused(ErrorCode::UnknownMember)),
        Response::LeaveGroup(answered(())),
        Response::LeaveGroup(refused(ErrorCode::GroupLoading)),
        Response::CommitOffsets(answered(vec![
            outcome(0, Ok(())),
            outcome(1, Err(ErrorCode::NotAssigned.into())),
        ])),
        Response::CommitOffsets(refused(ErrorCode::StaleGeneration)),
        Response::FetchOffsets(answered(vec![
            fetched(0, Some(committed(Some(LeaderEpoch::new(4))))),
            fetched(1, Some(committed(None))),
            fetched(2, None),
        ])),
        Response::FetchOffsets(refused(ErrorCode::UnknownGroup)),
        Response::ListGroups(ListGroupsResponse {
            groups: vec![
                listed("billing", GroupState::Stable),
                listed("ä", GroupState::Reconciling),
                listed("", GroupState::Empty),
            ],
        }),
        Response::DescribeGroup(answered(description())),
        Response::DescribeGroup(refused(ErrorCode::UnknownGroup)),
        Response::DeleteGroup(answered(())),
        Response::DeleteGroup(refused(ErrorCode::GroupNotEmpty)),
    ]
}
