//! Requests about consumer groups, with every field in use.

use corelane_protocol::request::{
    CommitEntry, CommitOffsetsRequest, DeleteGroupRequest, DescribeGroupRequest,
    FetchOffsetsRequest, GroupHeartbeatRequest, LeaveGroupRequest, ListGroupsRequest, MemberRef,
    PartitionsOfTopic, Subscription,
};
use corelane_protocol::{
    Generation, LeaderEpoch, MemberId, Offset, PartitionIndex, Request, TopicId, TopicPartition,
};
use uuid::Uuid;

fn member() -> MemberRef {
    MemberRef {
        id: MemberId::new(Uuid::from_bytes([3; 16])),
        generation: Generation::new(7),
    }
}

fn partition(number: u32) -> TopicPartition {
    TopicPartition::new(
        TopicId::from_bytes([number as u8 | 1; 16]),
        PartitionIndex::new(number),
    )
}

/// A member that joins, and one that stays as it is.
fn heartbeats() -> [Request<'static>; 2] {
    let subscription = Subscription {
        instance: Some("till-3".to_owned()),
        client: "billing on a".to_owned(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 60_000,
        topics: vec!["orders".to_owned(), "ä".to_owned(), String::new()],
        pattern: Some("orders-.*".to_owned()),
        assignor: Some("sticky".to_owned()),
    };
    let owned = |topic, partitions: &[u32]| PartitionsOfTopic {
        topic: TopicId::from_bytes([topic; 16]),
        partitions: partitions
            .iter()
            .copied()
            .map(PartitionIndex::new)
            .collect(),
    };
    [
        GroupHeartbeatRequest {
            group: "billing".to_owned(),
            member: MemberRef {
                generation: Generation::NONE,
                ..member()
            },
            subscription: Some(subscription),
            owned: vec![owned(1, &[0, 5, 2]), owned(2, &[])],
        },
        GroupHeartbeatRequest {
            group: "billing".to_owned(),
            member: member(),
            subscription: None,
            owned: Vec::new(),
        },
    ]
    .map(Request::GroupHeartbeat)
}

/// Positions that a member has reached, and positions that are set from outside.
fn commits() -> [Request<'static>; 2] {
    let entry = |number, leader_epoch, metadata: &str| CommitEntry {
        partition: partition(number),
        offset: Offset::new(1 << 40),
        leader_epoch,
        metadata: metadata.to_owned(),
    };
    [
        CommitOffsetsRequest {
            group: "billing".to_owned(),
            member: Some(member()),
            entries: vec![
                entry(0, Some(LeaderEpoch::new(4)), "by a"),
                entry(2, None, ""),
            ],
        },
        CommitOffsetsRequest {
            group: "billing".to_owned(),
            member: None,
            entries: vec![entry(1, None, "reset")],
        },
    ]
    .map(Request::CommitOffsets)
}

/// One of each request, and more where it has choices.
pub(crate) fn samples() -> Vec<Request<'static>> {
    let group = || "billing".to_owned();
    let fetch = |partitions| {
        Request::FetchOffsets(FetchOffsetsRequest {
            group: group(),
            partitions,
        })
    };
    let rest = [
        Request::LeaveGroup(LeaveGroupRequest {
            group: group(),
            member: member(),
            returns: true,
        }),
        fetch(None),
        fetch(Some((0..3).map(partition).collect())),
        Request::ListGroups(ListGroupsRequest),
        Request::DescribeGroup(DescribeGroupRequest { group: group() }),
        Request::DeleteGroup(DeleteGroupRequest { group: group() }),
    ];
    heartbeats()
        .into_iter()
        .chain(commits())
        .chain(rest)
        .collect()
}
