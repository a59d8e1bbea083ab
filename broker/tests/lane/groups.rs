//! Consumer groups on whole cores: who coordinates, what is told when, and what a crash leaves.

use corelane_broker::metadata::OFFSETS_TOPIC;
use corelane_protocol::request::{
    CommitEntry, CommitOffsetsRequest, DeleteBefore, DeleteGroupRequest, DeleteRecordsEntry,
    DeleteRecordsRequest, DescribeGroupRequest, FetchOffsetsRequest, GroupHeartbeatRequest,
    LeaveGroupRequest, ListGroupsRequest, MemberRef, OffsetPosition, PartitionsOfTopic,
    Subscription,
};
use corelane_protocol::response::{
    CoreAddress, GroupDescription, GroupState, HeartbeatAnswer, NamedPartitions,
};
use corelane_protocol::{
    ErrorCode, Generation, MemberId, Offset, Request, RequestFlags, Response, TopicPartition,
};
use uuid::Uuid;

use crate::client::at;
use crate::world::{World, small_config};

const SESSION_MS: u32 = 10_000;

/// A member as its client sees it.
#[derive(Clone, Debug)]
struct Member {
    id: MemberId,
    generation: Generation,
    group: String,
    topics: Vec<String>,
    owned: Vec<PartitionsOfTopic>,
}

impl Member {
    fn new(number: u128, group: &str, topics: &[&str]) -> Self {
        Self {
            id: MemberId::new(Uuid::from_u128(number)),
            generation: Generation::NONE,
            group: group.to_owned(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            owned: Vec::new(),
        }
    }

    fn reference(&self) -> MemberRef {
        MemberRef {
            id: self.id,
            generation: self.generation,
        }
    }

    fn heartbeat(&self) -> Request<'static> {
        let joins = self.generation == Generation::NONE;
        let subscription = Subscription {
            client: "test".to_owned(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: 60_000,
            topics: self.topics.clone(),
            ..Subscription::default()
        };
        Request::GroupHeartbeat(GroupHeartbeatRequest {
            group: self.group.clone(),
            member: self.reference(),
            subscription: joins.then_some(subscription),
            owned: self.owned.clone(),
        })
    }

    fn commit(&self, partition: TopicPartition, offset: u64) -> Request<'static> {
        commit(&self.group, Some(self.reference()), partition, offset)
    }

    fn follow(&mut self, answer: &HeartbeatAnswer) {
        self.generation = answer.generation;
        if let Some(assignment) = &answer.assignment {
            self.owned = assignment.iter().map(unnamed).collect();
        }
    }

    fn partitions(&self) -> Vec<TopicPartition> {
        let owned = self.owned.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|partition| TopicPartition::new(topic.topic, *partition))
        });
        owned.collect()
    }
}

fn unnamed(named: &NamedPartitions) -> PartitionsOfTopic {
    PartitionsOfTopic {
        topic: named.topic,
        partitions: named.partitions.clone(),
    }
}

fn commit(
    group: &str,
    member: Option<MemberRef>,
    partition: TopicPartition,
    offset: u64,
) -> Request<'static> {
    Request::CommitOffsets(CommitOffsetsRequest {
        group: group.to_owned(),
        member,
        entries: vec![CommitEntry {
            partition,
            offset: Offset::new(offset),
            leader_epoch: None,
            metadata: String::new(),
        }],
    })
}

type Answered<T> = (Result<T, ErrorCode>, Option<CoreAddress>);

impl World {
    fn heartbeat(&mut self, client: usize, member: &mut Member) -> Answered<HeartbeatAnswer> {
        let reply = self.ask(client, &member.heartbeat());
        let Ok(Response::GroupHeartbeat(answer)) = reply.response() else {
            panic!("not an answer to a heartbeat: {:?}", reply.response());
        };
        if let Ok(said) = &answer.result {
            member.follow(said);
        }
        (answer.result.map_err(|error| error.code), answer.owner)
    }

    /// Heartbeats of all until nobody is told anything new.
    fn gather_in(&mut self, client: usize, members: &mut [Member]) {
        for _ in 0..20 {
            let before: Vec<_> = members
                .iter()
                .map(|it| (it.generation, it.partitions()))
                .collect();
            for member in &mut *members {
                let (answer, _) = self.heartbeat(client, member);
                match answer {
                    Ok(_) | Err(ErrorCode::GroupLoading) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            self.pass_ms(10);
            let after: Vec<_> = members
                .iter()
                .map(|it| (it.generation, it.partitions()))
                .collect();
            if before == after
                && after
                    .iter()
                    .all(|(reached, _)| *reached != Generation::NONE)
            {
                return;
            }
        }
        panic!("the group does not come to rest: {members:?}");
    }

    fn commit(&mut self, client: usize, request: &Request<'_>) -> Result<(), ErrorCode> {
        let reply = self.ask(client, request);
        let Ok(Response::CommitOffsets(answer)) = reply.response() else {
            panic!("not an answer to a commit: {:?}", reply.response());
        };
        let mut entries = answer.result.map_err(|error| error.code)?;
        entries.remove(0).result.map_err(|error| error.code)
    }

    fn committed(&mut self, client: usize, group: &str, partition: TopicPartition) -> Option<u64> {
        let request = Request::FetchOffsets(FetchOffsetsRequest {
            group: group.to_owned(),
            partitions: Some(vec![partition]),
        });
        for _ in 0..100 {
            let reply = self.ask(client, &request);
            let Ok(Response::FetchOffsets(answer)) = reply.response() else {
                panic!("not an answer about offsets");
            };
            match answer.result {
                Ok(mut offsets) => {
                    let committed = offsets.remove(0).committed;
                    return committed.map(|committed| committed.offset.get());
                }
                Err(error) => assert_eq!(error.code, ErrorCode::GroupLoading),
            }
            self.pass_ms(10);
        }
        panic!("the group is never loaded");
    }

    fn group(&mut self, client: usize, group: &str) -> Result<GroupDescription, ErrorCode> {
        let group = group.to_owned();
        let reply = self.ask(
            client,
            &Request::DescribeGroup(DescribeGroupRequest { group }),
        );
        match reply.response() {
            Ok(Response::DescribeGroup(answer)) => answer.result.map_err(|error| error.code),
            other => panic!("not a description: {other:?}"),
        }
    }

    fn groups(&mut self, client: usize) -> Vec<(String, GroupState, u32, u32)> {
        let reply = self.ask(client, &Request::ListGroups(ListGroupsRequest));
        let Ok(Response::ListGroups(response)) = reply.response() else {
            panic!("not a list of groups");
        };
        let groups = response.groups.into_iter();
        groups
            .map(|group| (group.group, group.state, group.members, group.offsets))
            .collect()
    }

    fn done(&mut self, client: usize, request: &Request<'_>) -> Result<(), ErrorCode> {
        let reply = self.ask(client, request);
        match reply.response() {
            Ok(Response::LeaveGroup(answer) | Response::DeleteGroup(answer)) => {
                answer.result.map_err(|error| error.code)
            }
            other => panic!("not that something is done: {other:?}"),
        }
    }
}

fn sorted(members: &[Member]) -> Vec<TopicPartition> {
    let mut all: Vec<_> = members.iter().flat_map(Member::partitions).collect();
    all.sort();
    all
}

#[test]
fn members_share_the_partitions_and_hand_them_over() {
    let mut world = World::new(501, 2);
    let topic = world.create("orders", 6, &[]);
    let client = world.connect(0);
    let all: Vec<_> = (0..6).map(|index| at(topic, index)).collect();
    let mut members = vec![Member::new(1, "g", &["orders"])];
    world.gather_in(client, &mut members);
    assert_eq!(members[0].partitions(), all);
    members.push(Member::new(2, "g", &["orders"]));
    world.gather_in(client, &mut members);
    assert_eq!(members[0].partitions().len(), 3);
    assert_eq!(sorted(&members), all);

    let leaving = members.remove(0);
    let left = Request::LeaveGroup(LeaveGroupRequest {
        group: "g".to_owned(),
        member: leaving.reference(),
        returns: false,
    });
    assert_eq!(world.done(client, &left), Ok(()));
    world.gather_in(client, &mut members);
    assert_eq!(members[0].partitions(), all);
    // Who has left may not say anything in the group's name.
    let zombie = leaving.commit(all[0], 1);
    assert_eq!(world.commit(client, &zombie), Err(ErrorCode::UnknownMember));

    // A member that is silent is given up.
    world.pass_ms(u64::from(SESSION_MS) + 1000);
    let (answer, _) = world.heartbeat(client, &mut members[0]);
    assert_eq!(answer, Err(ErrorCode::UnknownMember));
}

#[test]
fn every_core_is_asked_and_names_the_one_that_coordinates() {
    let mut world = World::new(502, 2);
    let topic = world.create("orders", 2, &[]);
    let clients = [world.connect(0), world.connect(1)];
    let mut owners = Vec::new();
    for number in 0..8 {
        let group = format!("group-{number}");
        let mut members = vec![Member::new(number + 1, &group, &["orders"])];
        world.gather_in(clients[0], &mut members);
        assert_eq!(members[0].partitions().len(), 2, "{group}");
        let here = world.heartbeat(clients[0], &mut members[0]);
        let there = world.heartbeat(clients[1], &mut members[0]);
        assert!(here.0.is_ok() && there.0.is_ok());
        // One of the two owns it, the other one names it.
        let (none, named) = match (&here.1, &there.1) {
            (None, Some(owner)) => (0, owner),
            (Some(owner), None) => (1, owner),
            both => panic!("{both:?}"),
        };
        assert_eq!(usize::from(named.core.get()), none);
        owners.push(none);
        let other = clients[1 - none];
        let flags = RequestFlags::NO_FORWARD;
        world.send_flagged(other, flags, &members[0].heartbeat());
        world.settle();
        let reply = world.reply(other);
        let Ok(Response::GroupHeartbeat(answer)) = reply.response() else {
            panic!("not an answer to a heartbeat");
        };
        assert_eq!(
            answer.result.map_err(|error| error.code),
            Err(ErrorCode::NotOwner)
        );
        assert_eq!(answer.owner.as_ref(), Some(named));
        world
            .commit(other, &members[0].commit(at(topic, 0), number as u64))
            .expect("a commit through the other core");
    }
    assert!(
        owners.contains(&0) && owners.contains(&1),
        "groups are spread over the cores"
    );
    for client in clients {
        let listed = world.groups(client);
        assert_eq!(listed.len(), 8);
        for (number, listed) in (0..).zip(listed) {
            assert_eq!(
                listed,
                (format!("group-{number}"), GroupState::Stable, 1, 1)
            );
            let group = format!("group-{number}");
            assert_eq!(world.committed(client, &group, at(topic, 0)), Some(number));
            assert_eq!(world.committed(client, &group, at(topic, 1)), None);
        }
    }
}

#[test]
fn a_description_says_how_far_behind_a_group_is() {
    let mut world = World::new(503, 2);
    let topic = world.create("orders", 4, &[]);
    let client = world.connect(0);
    for index in 0..4 {
        for value in 0..=index {
            world
                .produce_one(client, at(topic, index), &value.to_string())
                .expect("a produce");
        }
    }
    assert_eq!(world.group(client, "g"), Err(ErrorCode::UnknownGroup));
    let mut members = vec![Member::new(7, "g", &["orders"])];
    world.gather_in(client, &mut members);
    for index in 0..3 {
        world
            .commit(client, &members[0].commit(at(topic, index), 1))
            .expect("a commit");
    }
    for number in 0..2 {
        let client = world.connect(number);
        let described = world.group(client, "g").expect("a group");
        assert_eq!(described.state, GroupState::Stable);
        assert_eq!(described.members.len(), 1);
        assert_eq!(described.members[0].id, members[0].id);
        assert_eq!(described.members[0].host, "127.0.0.1");
        let lag: Vec<_> = described.partitions.iter().map(|it| it.lag()).collect();
        assert_eq!(lag, [Some(0), Some(1), Some(2), None]);
        let ends = described.partitions.iter().map(|it| it.high_watermark);
        assert_eq!(
            ends.map(Option::unwrap)
                .map(Offset::get)
                .collect::<Vec<_>>(),
            [1, 2, 3, 4]
        );
        assert!(
            described
                .partitions
                .iter()
                .all(|it| it.owner == Some(members[0].id))
        );
    }
}

#[test]
fn a_crash_leaves_members_and_offsets_as_they_were_told() {
    for cores in 1..=3 {
        let mut world = World::new(504, 2);
        let topic = world.create("orders", 4, &[]);
        let client = world.connect(0);
        let mut members = vec![
            Member::new(1, "g", &["orders"]),
            Member::new(2, "g", &["orders"]),
        ];
        world.gather_in(client, &mut members);
        for member in &members {
            for partition in member.partitions() {
                let offset = u64::from(partition.partition.get()) + 10;
                world
                    .commit(client, &member.commit(partition, offset))
                    .expect("a commit");
            }
        }
        let before: Vec<_> = members.iter().map(Member::partitions).collect();
        let generations: Vec<_> = members.iter().map(|it| it.generation).collect();

        let mut world = world.crash(cores);
        let client = world.connect(0);
        for index in 0..4 {
            let expected = Some(u64::from(index) + 10);
            assert_eq!(world.committed(client, "g", at(topic, index)), expected);
        }
        world.gather_in(client, &mut members);
        let after: Vec<_> = members.iter().map(Member::partitions).collect();
        assert_eq!(after, before, "a restart moves nothing");
        let same: Vec<_> = members.iter().map(|it| it.generation).collect();
        assert_eq!(same, generations);
        // Sessions are counted anew, and end.
        world.pass_ms(u64::from(SESSION_MS) + 1000);
        let described = world.group(client, "g").expect("it has offsets");
        assert_eq!(
            (described.state, described.members.len()),
            (GroupState::Empty, 0)
        );
    }
}

#[test]
fn what_is_told_is_durable() {
    let mut world = World::new(505, 1);
    let topic = world.create("orders", 1, &[]);
    let client = world.connect(0);
    let mut members = vec![Member::new(1, "g", &["orders"])];
    world.gather_in(client, &mut members);
    world.send(client, &members[0].commit(at(topic, 0), 5));
    world.carry();
    // Another client that looks now is not told what a crash would take back.
    let other = world.connect(0);
    let asked = Request::FetchOffsets(FetchOffsetsRequest {
        group: "g".to_owned(),
        partitions: None,
    });
    world.send(other, &asked);
    world.carry();
    world.no_reply(client);
    world.no_reply(other);
    world.settle();
    let reply = world.reply(other);
    let Ok(Response::FetchOffsets(answer)) = reply.response() else {
        panic!("not an answer about offsets");
    };
    assert_eq!(answer.result.expect("offsets").len(), 1);
    world.reply(client);
}

#[test]
fn the_log_of_groups_stays_short_and_says_the_same() {
    let mut world = World::new(506, 1);
    let topic = world.create("orders", 3, &[]);
    let client = world.connect(0);
    let mut members = vec![Member::new(1, "g", &["orders"])];
    world.gather_in(client, &mut members);
    for round in 1..=1500_u64 {
        let entries = (0..3).map(|index| CommitEntry {
            partition: at(topic, index),
            offset: Offset::new(round),
            leader_epoch: None,
            metadata: String::new(),
        });
        let request = Request::CommitOffsets(CommitOffsetsRequest {
            group: "g".to_owned(),
            member: Some(members[0].reference()),
            entries: entries.collect(),
        });
        world.commit(client, &request).expect("a commit");
    }
    let offsets = world
        .owners(client, OFFSETS_TOPIC)
        .expect("it was made")
        .len();
    let id = world.describe(client, Some(&[OFFSETS_TOPIC])).remove(0);
    let id = id.result.expect("a topic").id;
    let mut kept = 0;
    let mut written = 0;
    for index in 0..u32::try_from(offsets).expect("few") {
        let mut offset = |position| {
            let found = world.list_offset(client, at(id, index), position);
            found.expect("it is there")
        };
        let (start, end) = (
            offset(OffsetPosition::Earliest),
            offset(OffsetPosition::Latest),
        );
        kept += end - start;
        written += end;
    }
    assert!(written > 4500, "{written}");
    assert!(
        kept < 1000,
        "a snapshot takes the place of what is outdated: {kept} of {written}"
    );
    let mut world = world.crash(1);
    let client = world.connect(0);
    for index in 0..3 {
        assert_eq!(world.committed(client, "g", at(topic, index)), Some(1500));
    }
    let described = world.group(client, "g").expect("a group");
    assert_eq!(described.members.len(), 1);
}

#[test]
fn a_full_disk_refuses_changes_and_they_go_on_when_there_is_room() {
    let mut config = small_config();
    config.log.disk_reserve_bytes = 1 << 20;
    let mut world = World::with_config(507, 1, config);
    let topic = world.create("orders", 2, &[]);
    let client = world.connect(0);
    let mut members = vec![Member::new(1, "g", &["orders"])];
    world.gather_in(client, &mut members);
    world
        .commit(client, &members[0].commit(at(topic, 0), 3))
        .expect("a commit");
    world.fill_journals(0);
    world.disk.set_capacity(Some(0));
    let mut last = 3;
    let refused = loop {
        world.send(client, &members[0].commit(at(topic, 0), last + 1));
        world.pass_ms(8000);
        let reply = world.reply(client);
        let Ok(Response::CommitOffsets(answer)) = reply.response() else {
            panic!("not an answer to a commit");
        };
        match answer.result {
            Ok(_) => last += 1,
            Err(error) => break error,
        }
        assert!(last < 1000, "a full disk takes no end of commits");
    };
    assert_eq!(refused.code, ErrorCode::DiskFull, "{refused:?}");
    // The log is read again, and takes nothing yet: what it refuses at once is not told either.
    for _ in 0..3 {
        world.pass_ms(1000);
        world.send(client, &members[0].commit(at(topic, 0), last + 1));
        world.pass_ms(8000);
        let reply = world.reply(client);
        let Ok(Response::CommitOffsets(answer)) = reply.response() else {
            panic!("not an answer to a commit");
        };
        let again = answer.result.map_err(|error| error.code);
        assert_eq!(again, Err(ErrorCode::DiskFull));
    }
    world.disk.set_capacity(None);
    world.pass_ms(2000);
    assert_eq!(world.committed(client, "g", at(topic, 0)), Some(last));
    // Its session has ended meanwhile, or goes on: it may join in any case.
    let mut members = vec![Member::new(2, "g", &["orders"])];
    world.pass_ms(u64::from(SESSION_MS));
    world.gather_in(client, &mut members);
    world
        .commit(client, &members[0].commit(at(topic, 0), 9))
        .expect("a commit");
    assert_eq!(world.committed(client, "g", at(topic, 0)), Some(9));
}

#[test]
fn a_subscription_that_no_log_takes_is_refused_and_nobody_is_hurt() {
    let mut config = small_config();
    config.limits.frame_bytes_max = 128 * 1024;
    config.log.max_message_bytes = 32 * 1024;
    let mut world = World::with_config(511, 1, config);
    world.create("orders", 1, &[]);
    let client = world.connect(0);
    let mut members = vec![Member::new(1, "g", &["orders"])];
    world.gather_in(client, &mut members);
    let names: Vec<_> = (0..500).map(|index| format!("{index:0>200}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut greedy = Member::new(2, "g", &names);
    let (refused, _) = world.heartbeat(client, &mut greedy);
    assert_eq!(refused, Err(ErrorCode::InvalidRequest));
    let (answer, _) = world.heartbeat(client, &mut members[0]);
    assert!(answer.is_ok(), "{answer:?}");
}

#[test]
fn topics_that_come_grow_and_go_are_followed() {
    let mut world = World::new(508, 2);
    let client = world.connect(1);
    let mut members = vec![
        Member::new(1, "g", &["later", "orders"]),
        Member::new(2, "g", &["later", "orders"]),
    ];
    let orders = world.create("orders", 2, &[]);
    world.gather_in(client, &mut members);
    assert_eq!(sorted(&members), [at(orders, 0), at(orders, 1)]);
    let later = world.create("later", 2, &[]);
    world.extend(client, "orders", 4).expect("more partitions");
    world.gather_in(client, &mut members);
    assert_eq!(sorted(&members).len(), 6);
    assert!(members.iter().all(|member| member.partitions().len() == 3));
    for member in &members {
        for partition in member.partitions() {
            world
                .commit(client, &member.commit(partition, 1))
                .expect("a commit");
        }
    }
    world.delete(client, "later").expect("it is there");
    world.gather_in(client, &mut members);
    assert_eq!(sorted(&members).len(), 4);
    assert_eq!(world.committed(client, "g", at(later, 0)), None);
    let gone = members[0].commit(at(later, 0), 1);
    assert_eq!(world.commit(client, &gone), Err(ErrorCode::UnknownTopic));
}

#[test]
fn positions_are_set_from_outside_only_while_nobody_is_there() {
    let mut world = World::new(509, 2);
    let topic = world.create("orders", 1, &[]);
    let client = world.connect(0);
    let partition = at(topic, 0);
    let from_outside = commit("g", None, partition, 4);
    for _ in 0..3 {
        // The first one makes the topic that keeps groups.
        match world.commit(client, &from_outside) {
            Ok(()) => break,
            Err(error) => assert_eq!(error, ErrorCode::GroupLoading),
        }
        world.pass_ms(10);
    }
    assert_eq!(world.committed(client, "g", partition), Some(4));
    let mut members = vec![Member::new(1, "g", &["orders"])];
    world.gather_in(client, &mut members);
    assert_eq!(
        world.commit(client, &from_outside),
        Err(ErrorCode::GroupNotEmpty)
    );
    let forget = Request::DeleteGroup(DeleteGroupRequest {
        group: "g".to_owned(),
    });
    assert_eq!(world.done(client, &forget), Err(ErrorCode::GroupNotEmpty));
    world.pass_ms(u64::from(SESSION_MS) + 1000);
    assert_eq!(world.done(client, &forget), Ok(()));
    assert_eq!(world.done(client, &forget), Err(ErrorCode::UnknownGroup));
    assert_eq!(world.committed(client, "g", partition), None);
    assert_eq!(world.groups(client), []);
}

#[test]
fn the_topic_that_keeps_groups_is_the_brokers_own() {
    let mut world = World::new(510, 2);
    let client = world.connect(0);
    let refused = world.try_create(client, OFFSETS_TOPIC, 1, &[]);
    assert_eq!(
        refused.map_err(|error| error.code),
        Err(ErrorCode::InvalidRequest)
    );
    world.create("orders", 1, &[]);
    let mut members = vec![Member::new(1, "g", &["orders"])];
    world.gather_in(client, &mut members);
    let described = world.describe(client, Some(&[OFFSETS_TOPIC])).remove(0);
    let id = described.result.expect("a topic").id;
    let produced = world.produce_one(client, at(id, 0), "x");
    assert_eq!(produced, Err(ErrorCode::InvalidRequest));
    let deleted = world.delete(client, OFFSETS_TOPIC);
    assert_eq!(
        deleted.map_err(|error| error.code),
        Err(ErrorCode::InvalidRequest)
    );
    let altered = world.alter(client, OFFSETS_TOPIC, &[("retention.ms", "1 d")], &[]);
    assert_eq!(
        altered.map_err(|error| error.code),
        Err(ErrorCode::InvalidRequest)
    );
    let extended = world.extend(client, OFFSETS_TOPIC, 64);
    assert_eq!(
        extended.map_err(|error| error.code),
        Err(ErrorCode::InvalidRequest)
    );
    let reply = world.ask(
        client,
        &Request::DeleteRecords(DeleteRecordsRequest {
            entries: vec![DeleteRecordsEntry {
                partition: at(id, 0),
                before: DeleteBefore::HighWatermark,
            }],
        }),
    );
    let Ok(Response::DeleteRecords(mut response)) = reply.response() else {
        panic!("not an answer to a deletion");
    };
    let refused = response
        .entries
        .remove(0)
        .result
        .expect_err("it is the broker's");
    assert_eq!(refused.code, ErrorCode::InvalidRequest);
}
