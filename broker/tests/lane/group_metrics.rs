//! What lanes say of their consumer groups: counts that add up, and pieces that leave nothing out.

use std::collections::BTreeMap;

use corelane_broker::lane::{GroupPiece, GroupPlace, GroupsMetrics};
use corelane_protocol::request::{
    CommitEntry, CommitOffsetsRequest, DeleteGroupRequest, GroupHeartbeatRequest, MemberRef,
    Subscription,
};
use corelane_protocol::response::{GroupState, HeartbeatAnswer};
use corelane_protocol::{
    ErrorCode, Generation, MemberId, Offset, PartitionIndex, Request, Response, TopicId,
    TopicPartition,
};
use corelane_storage::disk::memory::{Fault, OperationKind};
use uuid::Uuid;

use crate::client::at;
use crate::world::{World, small_config};

const SESSION_MS: u32 = 10_000;

/// Committed offsets of each group, by topic name and partition.
type Committed = BTreeMap<String, BTreeMap<(String, u32), u64>>;

fn commit(
    group: &str,
    member: Option<MemberRef>,
    offsets: &[(TopicPartition, u64)],
) -> Request<'static> {
    let entries = offsets.iter().map(|(partition, offset)| CommitEntry {
        partition: *partition,
        offset: Offset::new(*offset),
        leader_epoch: None,
        metadata: String::new(),
    });
    Request::CommitOffsets(CommitOffsetsRequest {
        group: group.to_owned(),
        member,
        entries: entries.collect(),
    })
}

impl World {
    /// How many of the offsets were committed; the code of a refusal of all.
    fn commit_all(&mut self, client: usize, request: &Request<'_>) -> Result<usize, ErrorCode> {
        let reply = self.ask(client, request);
        let Ok(Response::CommitOffsets(answer)) = reply.response() else {
            panic!("not an answer to a commit: {:?}", reply.response());
        };
        let entries = answer.result.map_err(|error| error.code)?;
        Ok(entries.iter().filter(|entry| entry.result.is_ok()).count())
    }

    /// Has the topic made that keeps groups, and waits until all of it serves.
    fn serve_groups(&mut self, client: usize, partition: TopicPartition) {
        let first = commit("first", None, &[(partition, 0)]);
        let refused = self.commit_all(client, &first);
        assert_eq!(refused, Err(ErrorCode::GroupLoading));
        self.pass_ms(10);
        assert_eq!(self.groups_metrics().shards_loading, 0);
    }

    /// A heartbeat of the only member of a group; it holds nothing yet.
    fn beat(&mut self, client: usize, group: &str, member: MemberRef) -> HeartbeatAnswer {
        let request = Request::GroupHeartbeat(GroupHeartbeatRequest {
            group: group.to_owned(),
            member,
            subscription: Some(Subscription {
                client: "test".to_owned(),
                session_timeout_ms: SESSION_MS,
                rebalance_timeout_ms: 60_000,
                topics: vec!["orders".to_owned()],
                ..Subscription::default()
            }),
            owned: Vec::new(),
        });
        let reply = self.ask(client, &request);
        match reply.response() {
            Ok(Response::GroupHeartbeat(answer)) => answer.result.expect("a member"),
            other => panic!("not an answer to a heartbeat: {other:?}"),
        }
    }

    /// The numbers of all cores together.
    fn groups_metrics(&self) -> GroupsMetrics {
        let mut sum = GroupsMetrics::default();
        for core in &self.cores {
            let of_core = core.lane.metrics().groups;
            sum.groups += of_core.groups;
            sum.members += of_core.members;
            sum.offsets += of_core.offsets;
            sum.shards_serving += of_core.shards_serving;
            sum.shards_loading += of_core.shards_loading;
            sum.shards_failed += of_core.shards_failed;
            let since_start = &mut sum.since_start;
            since_start.generations += of_core.since_start.generations;
            since_start.members_expired += of_core.since_start.members_expired;
            since_start.commits += of_core.since_start.commits;
            since_start.commits_refused += of_core.since_start.commits_refused;
        }
        sum
    }

    /// All pieces of a core from this place on, each of them no larger than it may be.
    fn group_pieces(&self, core: usize, from: GroupPlace) -> Vec<Vec<GroupPiece>> {
        let mut pieces = Vec::new();
        let mut from = Some(from);
        while let Some(place) = from {
            let piece = self.cores[core].lane.group_metrics(&place);
            let topics = piece.groups.iter().flat_map(|group| &group.topics);
            let offsets: usize = topics.map(|topic| topic.offsets.len()).sum();
            assert!(offsets <= 2048, "{offsets} offsets in a piece");
            assert!(piece.groups.len() <= 256, "{} groups", piece.groups.len());
            assert_ne!(piece.next.as_ref(), Some(&place), "a piece is not empty");
            from = piece.next;
            pieces.push(piece.groups);
        }
        pieces
    }

    /// The only group of this name that a core tells of.
    fn shown_group(&self, name: &str) -> GroupPiece {
        let cores = 0..self.cores.len();
        let all = cores.flat_map(|core| self.group_pieces(core, GroupPlace::BEGINNING));
        let mut found = all.flatten().filter(|group| group.name == name);
        let group = found.next().expect("it is told of");
        assert!(found.next().is_none(), "by one core, and once");
        group
    }
}

/// Adds what pieces say. No offset comes twice.
fn add(all: &mut Committed, pieces: Vec<Vec<GroupPiece>>) {
    for group in pieces.into_iter().flatten() {
        let offsets = all.entry(group.name).or_default();
        for topic in group.topics {
            for (partition, offset) in topic.offsets {
                let place = (topic.name.clone(), partition.get());
                let before = offsets.insert(place, offset.get());
                assert_eq!(before, None, "an offset comes once");
            }
        }
    }
}

#[test]
fn members_and_commits_are_counted_where_the_group_is() {
    let mut world = World::new(520, 2);
    let topic = world.create("orders", 2, &[]);
    let client = world.connect(0);
    assert_eq!(world.groups_metrics(), GroupsMetrics::default());
    world.serve_groups(client, at(topic, 0));
    let shards = world.groups_metrics().shards_serving;
    assert_eq!(shards, world.config.groups.offsets_partitions as usize);

    let id = MemberId::new(Uuid::from_u128(1));
    let joining = MemberRef {
        id,
        generation: Generation::NONE,
    };
    let answer = world.beat(client, "g", joining);
    let member = MemberRef {
        id,
        generation: answer.generation,
    };
    let joined = world.groups_metrics();
    assert_eq!((joined.groups, joined.members, joined.offsets), (1, 1, 0));
    assert_eq!(joined.since_start.generations, 1);
    let shown = world.shown_group("g");
    assert_eq!((shown.state, shown.members), (GroupState::Stable, 1));
    assert_eq!(shown.generation, answer.generation);
    assert!(shown.topics.is_empty());

    // One of the three partitions is nowhere.
    let offsets = [(at(topic, 0), 5), (at(topic, 1), 6), (at(topic, 9), 7)];
    let accepted = world.commit_all(client, &commit("g", Some(member), &offsets));
    assert_eq!(accepted, Ok(2));
    let stale = MemberRef {
        id,
        generation: Generation::new(77),
    };
    let refused = world.commit_all(client, &commit("g", Some(stale), &offsets));
    assert_eq!(refused, Err(ErrorCode::StaleGeneration));
    let committed = world.groups_metrics();
    assert_eq!(committed.offsets, 2);
    let since_start = committed.since_start;
    assert_eq!(
        (since_start.commits, since_start.commits_refused),
        (2, 1 + 3)
    );
    // Nothing else raises a generation.
    world.beat(client, "g", member);
    assert_eq!(world.groups_metrics().since_start.generations, 1);

    world.pass_ms(u64::from(SESSION_MS) + 1000);
    let expired = world.groups_metrics();
    assert_eq!(
        (expired.groups, expired.members, expired.offsets),
        (1, 0, 2)
    );
    assert_eq!(expired.since_start.members_expired, 1);
    assert_eq!(expired.since_start.generations, 2);
    let shown = world.shown_group("g");
    assert_eq!((shown.state, shown.members), (GroupState::Empty, 0));
    assert_eq!(shown.topics[0].name, "orders");
    assert_eq!(shown.topics[0].offsets.len(), 2);

    // New topics and partitions rebalance groups without a request of theirs.
    world.beat(client, "g", joining);
    let before = world.groups_metrics().since_start.generations;
    world.extend(client, "orders", 4).expect("more partitions");
    world.pass_ms(10);
    assert_eq!(world.groups_metrics().since_start.generations, before + 1);
}

#[test]
fn many_groups_and_offsets_come_in_pieces() {
    const PARTITIONS: u32 = 3000;
    let mut config = small_config();
    config.limits.partitions_max = 2 * PARTITIONS;
    let mut world = World::with_config(521, 2, config);
    let many = world.create("many", PARTITIONS, &[]);
    let few = world.create("few", 2, &[]);
    let client = world.connect(0);
    world.serve_groups(client, at(few, 0));
    let mut expected = Committed::new();
    let mut place = |group: &str, topic: &str, index: u32, offset: u64| {
        let offsets = expected.entry(group.to_owned()).or_default();
        offsets.insert((topic.to_owned(), index), offset);
    };
    // Two groups that need several pieces each, among many that do not.
    for group in ["small-1", "wide"] {
        let offsets: Vec<_> = (0..PARTITIONS)
            .map(|it| (at(many, it), u64::from(it)))
            .collect();
        for (partition, offset) in &offsets {
            place(group, "many", partition.partition.get(), *offset);
        }
        for some in offsets.chunks(1000) {
            let committed = world.commit_all(client, &commit(group, None, some));
            assert_eq!(committed, Ok(some.len()));
        }
    }
    for number in 0..600 {
        let group = format!("small-{number:03}");
        let offsets = [(at(few, 0), number), (at(few, 1), number + 1)];
        for (partition, offset) in &offsets {
            place(&group, "few", partition.partition.get(), *offset);
        }
        world.send(client, &commit(&group, None, &offsets));
        if number % 20 == 19 {
            world.settle();
            for _ in 0..20 {
                world.reply(client);
            }
        }
    }
    let mut found = Committed::new();
    for core in 0..2 {
        let pieces = world.group_pieces(core, GroupPlace::BEGINNING);
        let metrics = world.cores[core].lane.metrics().groups;
        assert!(pieces.len() >= metrics.groups.div_ceil(256));
        assert!(pieces.len() >= metrics.offsets.div_ceil(2048));
        add(&mut found, pieces);
    }
    assert!(
        found == expected,
        "every offset of every group, and no other"
    );
    let metrics = world.groups_metrics();
    assert_eq!(metrics.groups, expected.len());
    let offsets: usize = expected.values().map(BTreeMap::len).sum();
    assert_eq!(metrics.offsets, offsets);
}

#[test]
fn what_follows_of_a_deleted_topic_is_spread_over_events() {
    const PARTITIONS: u32 = 2000;
    const GROUPS: usize = 16;
    let mut config = small_config();
    config.limits.partitions_max = 2 * PARTITIONS;
    let mut world = World::with_config(524, 1, config);
    let gone = world.create("gone", PARTITIONS, &[]);
    let kept = world.create("kept", 1, &[]);
    let client = world.connect(0);
    world.serve_groups(client, at(kept, 0));
    let of_gone: Vec<_> = (0..PARTITIONS).map(|index| (at(gone, index), 1)).collect();
    for number in 0..GROUPS {
        let group = format!("group-{number}");
        for some in of_gone.chunks(1000).chain([[(at(kept, 0), 1)].as_slice()]) {
            let committed = world.commit_all(client, &commit(&group, None, some));
            assert_eq!(committed, Ok(some.len()));
        }
    }
    let all = world.groups_metrics().offsets;
    assert_eq!(all, GROUPS * (PARTITIONS as usize + 1));
    world.delete(client, "gone").expect("it is there");
    let left = world.groups_metrics().offsets;
    assert!(left > GROUPS && left < all, "{left} of {all} are left");
    // Nobody has to ask, and no time has to pass: the core is due at once until all is done.
    world.pass_ms(0);
    assert_eq!(world.groups_metrics().offsets, GROUPS);
    assert_eq!(world.groups_metrics().groups, GROUPS);
    let next = world.cores[0].lane.next_deadline();
    assert!(next.is_none_or(|next| next > world.now.monotonic_us));
}

#[test]
fn pieces_go_on_where_a_group_was_that_is_gone() {
    let mut config = small_config();
    config.groups.offsets_partitions = 1;
    let mut world = World::with_config(522, 1, config);
    let topic = world.create("orders", 4, &[]);
    let client = world.connect(0);
    world.serve_groups(client, at(topic, 0));
    let all: Vec<_> = (0..4).map(|index| (at(topic, index), 1)).collect();
    for group in ["a", "b", "c"] {
        let committed = world.commit_all(client, &commit(group, None, &all));
        assert_eq!(committed, Ok(4));
    }
    let from = |group: &str, partition: TopicPartition| GroupPlace {
        shard: PartitionIndex::new(0),
        group: group.to_owned(),
        partition,
    };
    let shown = |world: &World, from: GroupPlace| -> Vec<(String, usize)> {
        let groups = world.group_pieces(0, from).concat();
        let offsets = |group: &GroupPiece| group.topics.iter().map(|it| it.offsets.len()).sum();
        groups
            .iter()
            .map(|it| (it.name.clone(), offsets(it)))
            .collect()
    };
    let named = |groups: &[(&str, usize)]| -> Vec<(String, usize)> {
        groups
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    };
    let within = from("b", at(topic, 3));
    assert_eq!(shown(&world, within.clone()), named(&[("b", 1), ("c", 4)]));
    let beyond = from(
        "b",
        TopicPartition::new(TopicId::new(Uuid::max()), PartitionIndex::new(0)),
    );
    assert_eq!(shown(&world, beyond), named(&[("b", 0), ("c", 4)]));
    let forget = Request::DeleteGroup(DeleteGroupRequest {
        group: "b".to_owned(),
    });
    world.ask(client, &forget);
    assert_eq!(shown(&world, within), named(&[("c", 4)]));
    assert_eq!(shown(&world, from("d", at(topic, 0))), []);
    assert_eq!(
        shown(&world, GroupPlace::BEGINNING),
        named(&[("a", 4), ("c", 4)])
    );
}

#[test]
fn groups_whose_log_fails_are_counted_and_not_told_of() {
    let mut config = small_config();
    config.groups.offsets_partitions = 1;
    let mut world = World::with_config(523, 1, config);
    let topic = world.create("orders", 1, &[]);
    let client = world.connect(0);
    world.serve_groups(client, at(topic, 0));
    let request = commit("g", None, &[(at(topic, 0), 1)]);
    assert_eq!(world.commit_all(client, &request), Ok(1));
    let fault = Fault::io_error().on(OperationKind::Write).forever();
    world
        .disk
        .inject(fault.in_path(|path| path.contains("journal")));
    let refused = world.commit_all(client, &request);
    assert_eq!(refused, Err(ErrorCode::StorageFailed));
    let metrics = world.groups_metrics();
    assert_eq!((metrics.shards_serving, metrics.shards_failed), (0, 1));
    assert_eq!((metrics.groups, metrics.offsets), (0, 0));
    let since_start = metrics.since_start;
    // What was in memory before it could not be written is no commit.
    assert_eq!((since_start.commits, since_start.commits_refused), (1, 1));
    assert_eq!(
        world.group_pieces(0, GroupPlace::BEGINNING).concat().len(),
        0
    );
}
