//! Members of a group: where they read, what counts as processed, and what is committed.

use std::collections::BTreeMap;
use std::time::Duration;

use corelane_client::{Error, ErrorCode, OffsetReset, OffsetToCommit, Start};
use corelane_protocol::Request;

use crate::support::group_members::{Journal, fill, filled, joining, read, until};
use crate::support::{FakeBroker, GroupAction, plain};

#[tokio::test]
async fn records_count_as_processed_once_the_next_ones_are_asked_for() {
    let (broker, client) = filled(1).await;
    let every = Some(Duration::from_millis(2));
    let mut member = joining(&client).auto_commit(every).join().await.unwrap();
    for batch in 0..3 {
        assert_eq!(read(&mut member, 10).await[0], (0, batch * 10));
        let beats = broker.state().groups.heartbeat_cores.len();
        until(&broker, |state| {
            state.groups.heartbeat_cores.len() > beats + 3
        })
        .await;
        let processed = Some(batch * 10);
        assert_eq!(
            broker.state().committed("g", "t", 0),
            processed,
            "what is buffered is not"
        );
    }
    // A call that is given up says as much as one that is not.
    drop(member.poll(Duration::ZERO).await.unwrap());
    until(&broker, |state| state.committed("g", "t", 0) == Some(30)).await;
}

#[tokio::test]
async fn who_goes_on_begins_where_the_last_has_left_off() {
    let (broker, client) = filled(1).await;
    let mut first = joining(&client).auto_commit(None).join().await.unwrap();
    read(&mut first, 20).await;
    first.commit().await.unwrap();
    read(&mut first, 10).await;
    first.close().await.unwrap();
    assert_eq!(
        broker.state().committed("g", "t", 0),
        Some(20),
        "close commits nothing by hand"
    );
    let mut second = joining(&client).join().await.unwrap();
    assert_eq!(read(&mut second, 1).await[0], (0, 20));
    let committed = second
        .committed([("t", 0)])
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    assert_eq!((committed.offset, committed.leader_epoch), (20, Some(1)));
}

#[tokio::test]
async fn a_commit_of_an_old_generation_catches_up() {
    let (broker, client) = filled(1).await;
    let mut member = joining(&client).auto_commit(None).join().await.unwrap();
    read(&mut member, 10).await;
    let mut stale = 1;
    broker.state().on_group(move |request| match request {
        Request::CommitOffsets(_) if stale > 0 => {
            stale -= 1;
            GroupAction::Refuse(ErrorCode::StaleGeneration)
        }
        _ => GroupAction::Answer,
    });
    member.commit().await.unwrap();
    assert_eq!(broker.state().committed("g", "t", 0), Some(10));
    let always = |request: &Request<'_>| match request {
        Request::CommitOffsets(_) => GroupAction::Refuse(ErrorCode::StaleGeneration),
        _ => GroupAction::Answer,
    };
    broker.state().on_group(always);
    read(&mut member, 10).await;
    let error = member.commit().await.unwrap_err();
    assert_eq!(
        error.code(),
        Some(ErrorCode::StaleGeneration),
        "not for ever"
    );
}

#[tokio::test]
async fn a_partition_that_is_not_the_members_is_lost_alone() {
    let (broker, client) = filled(2).await;
    let journal = Journal::default();
    let group = joining(&client)
        .auto_commit(None)
        .listener(journal.named("1"));
    let mut member = group.join().await.unwrap();
    read(&mut member, 200).await;
    {
        let mut state = broker.state();
        let gone = state.id("t", 1);
        for of in state.group("g").members.values_mut() {
            of.forget(gone);
        }
        // No heartbeat is to come before the commit.
        state.on_group(|request| match request {
            Request::GroupHeartbeat(_) => GroupAction::Refuse(ErrorCode::GroupLoading),
            _ => GroupAction::Answer,
        });
    }
    let error = member.commit().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NotAssigned));
    assert!(error.to_string().contains("t-1"), "{error}");
    assert_eq!(
        broker.state().committed("g", "t", 0),
        Some(100),
        "the other is committed"
    );
    journal.until(2).await;
    assert_eq!(journal.lines()[1], "1 lost t-1@100");
    assert_eq!(member.assignment(), [("t".to_owned(), 0)]);
}

#[tokio::test]
async fn an_offset_that_does_not_exist_is_reported_and_reset() {
    let (broker, client) = filled(1).await;
    let admin = client.admin();
    {
        let mut state = broker.state();
        let log = state.log("t", 0);
        log.start = 50;
        log.log.drain(..5);
    }
    for (reset, to) in [(OffsetReset::Earliest, 50), (OffsetReset::Latest, 100)] {
        let offset = OffsetToCommit::new("t", 0, 20);
        admin.commit_group_offsets("g", [offset]).await.unwrap();
        let mut member = joining(&client).offset_reset(reset).join().await.unwrap();
        let error = member.next().await.unwrap_err();
        assert!(
            matches!(&error, Error::OffsetReset { partition: 0, from: 20, to: at, .. } if *at == to),
            "{error}"
        );
        assert_eq!(member.position("t", 0), Some(to));
        member.close().await.unwrap();
    }
    let offset = OffsetToCommit::new("t", 0, 20);
    admin.commit_group_offsets("g", [offset]).await.unwrap();
    let group = joining(&client).offset_reset(OffsetReset::Fail);
    let mut member = group.join().await.unwrap();
    let error = member.next().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
    member.seek("t", 0, 95).unwrap();
    assert_eq!(read(&mut member, 5).await[0], (0, 95));
}

#[tokio::test]
async fn without_a_commit_and_a_reset_a_partition_waits_for_a_seek() {
    let (broker, client) = filled(1).await;
    let group = joining(&client).offset_reset(OffsetReset::Fail);
    let mut member = group.join().await.unwrap();
    let error = member.next().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
    assert!(error.to_string().contains("t-0"), "{error}");
    assert_eq!(member.positions()[0].offset, None);
    assert!(
        member
            .poll(Duration::from_millis(20))
            .await
            .unwrap()
            .is_none(),
        "told once"
    );
    let error = member.resume("t", 0).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
    member.commit().await.unwrap();
    assert_eq!(
        broker.state().committed("g", "t", 0),
        None,
        "not known, so not committed"
    );
    member.seek("t", 0, 30).unwrap();
    assert_eq!(read(&mut member, 1).await[0], (0, 30));
}

#[tokio::test]
async fn records_that_the_group_has_read_and_are_gone_are_reported() {
    let (broker, client) = filled(1).await;
    let mut member = joining(&client).join().await.unwrap();
    read(&mut member, 100).await;
    member.close().await.unwrap();
    broker.restart_without("t", 70);
    fill(&client, "t", 1, 50).await;
    let mut member = joining(&client).join().await.unwrap();
    let error = member.next().await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::LogTruncated {
                from: 70,
                to: 100,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(read(&mut member, 50).await[0], (0, 70));
    member.close().await.unwrap();
    assert_eq!(broker.state().committed("g", "t", 0), Some(120));
}

#[tokio::test]
async fn topics_that_appear_are_taken_and_positions_are_the_programs_to_set() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let client = broker.client().await;
    fill(&client, "t", 1, 20).await;
    let group = client
        .group("g")
        .pattern("t.*")
        .max_wait(Duration::from_millis(20));
    let mut member = group.join().await.unwrap();
    read(&mut member, 20).await;
    broker.create_topic("t-late", 1);
    broker.create_topic("other", 1);
    fill(&client, "t-late", 1, 20).await;
    let records = member.next().await.unwrap();
    assert_eq!(records.topic(), "t-late");
    member.pause("t-late", 0).unwrap();
    assert!(
        member
            .poll(Duration::from_millis(50))
            .await
            .unwrap()
            .is_none()
    );
    member.seek("t", 0, 15).unwrap();
    assert_eq!(read(&mut member, 5).await[0], (0, 15));
    member.resume("t-late", 0).unwrap();
    let records = member.next().await.unwrap();
    assert_eq!(
        (records.topic(), records.iter().next().unwrap().offset()),
        ("t-late", 10)
    );
    let start = Start::Last(3);
    assert_eq!(member.seek_to("t-late", 0, start).await.unwrap(), 17);
    let outside = [
        member.seek("other", 0, 1),
        member.pause("t", 7),
        member
            .commit_offsets([OffsetToCommit::new("other", 0, 1)])
            .await,
        {
            let twice = [
                OffsetToCommit::new("t", 0, 1),
                OffsetToCommit::new("t", 0, 2),
            ];
            member.commit_offsets(twice).await
        },
    ];
    for refused in outside {
        assert!(
            matches!(refused, Err(Error::InvalidArgument(_))),
            "{refused:?}"
        );
    }
    let offset = OffsetToCommit::new("t", 0, 3).metadata("by hand");
    member.commit_offsets([offset]).await.unwrap();
    let committed = member.committed([("t", 0), ("other", 0)]).await.unwrap();
    let by_hand = committed[0].as_ref().unwrap();
    assert_eq!((by_hand.offset, &*by_hand.metadata), (3, "by hand"));
    assert!(committed[1].is_none());
    member.close().await.unwrap();
    assert_eq!(
        broker.state().committed("g", "t-late", 0),
        Some(17),
        "what was sought counts"
    );
}

#[tokio::test]
async fn a_dropped_next_loses_nothing_and_counts_nothing() {
    let (broker, client) = filled(3).await;
    let mut member = joining(&client).join().await.unwrap();
    let mut all = Vec::new();
    while all.len() < 300 {
        let waited = tokio::time::timeout(Duration::from_micros(50), member.next()).await;
        if let Ok(records) = waited {
            let records = records.unwrap();
            all.extend(plain(&records).iter().map(|(p, offset, _)| (*p, *offset)));
            member.commit_in_background();
            let (index, end) = (records.partition(), records.end_offset());
            drop(
                tokio::time::timeout(Duration::from_micros(10), member.next())
                    .await
                    .map(|records| {
                        let records = records.unwrap();
                        all.extend(plain(&records).iter().map(|(p, offset, _)| (*p, *offset)));
                    }),
            );
            assert!(broker.state().committed("g", "t", index) <= Some(end));
        }
    }
    all.sort_unstable();
    let expected = (0..3).flat_map(|partition| (0..100).map(move |offset| (partition, offset)));
    assert!(all.into_iter().eq(expected));
    member.commit().await.unwrap();
    let commits = broker.state().group("g").commits.clone();
    let mut last = BTreeMap::new();
    for (partition, offset) in commits {
        let before = last.insert(partition, offset);
        assert!(before <= Some(offset), "commits keep their order");
    }
}

#[tokio::test]
async fn a_listener_says_where_to_begin_and_may_fail() {
    let (_broker, client) = filled(1).await;
    let journal = Journal::default();
    let group = joining(&client).listener(journal.seeking("1", 42));
    let mut member = group.join().await.unwrap();
    assert_eq!(read(&mut member, 1).await[0], (0, 42));
    member.close().await.unwrap();
    let group = joining(&client).listener(journal.panicking());
    let mut member = group.join().await.unwrap();
    let error = member.next().await.unwrap_err();
    assert!(matches!(error, Error::ListenerPanicked { .. }), "{error}");
    assert_eq!(read(&mut member, 1).await[0], (0, 50), "it goes on");
}

#[tokio::test]
async fn groups_are_listed_described_set_and_deleted() {
    let (_broker, client) = filled(2).await;
    let admin = client.admin();
    assert!(admin.list_groups().await.unwrap().is_empty());
    let error = admin.describe_group("g").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownGroup));
    let offsets = [
        OffsetToCommit::new("t", 1, 90).leader_epoch(1),
        OffsetToCommit::new("t", 0, 40).metadata("moved"),
    ];
    admin.commit_group_offsets("g", offsets).await.unwrap();
    let mut member = joining(&client).instance("till-3").join().await.unwrap();
    let mut all = read(&mut member, 70).await;
    all.sort_unstable();
    assert_eq!((all[0], all[60]), ((0, 40), (1, 90)));

    let listed = admin.list_groups().await.unwrap().remove(0);
    assert_eq!((&*listed.name, listed.members, listed.offsets), ("g", 1, 2));
    let described = admin.describe_group("g").await.unwrap();
    let one = &described.members[0];
    assert_eq!(
        (one.id, one.instance.as_deref()),
        (member.member_id(), Some("till-3"))
    );
    assert_eq!(
        (&one.topics[..], one.assigned.len()),
        (&["t".to_owned()][..], 2)
    );
    let of = &described.partitions[0];
    assert_eq!(
        (&*of.topic, of.owner, of.lag),
        ("t", Some(one.id), Some(60))
    );
    let again = admin
        .commit_group_offsets("g", [OffsetToCommit::new("t", 0, 1)])
        .await;
    assert_eq!(again.unwrap_err().code(), Some(ErrorCode::GroupNotEmpty));
    let error = admin.delete_group("g").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::GroupNotEmpty));
    assert!(error.to_string().contains("group g"), "{error}");
}

#[tokio::test]
async fn offsets_outlive_members_and_go_with_the_group() {
    let (broker, client) = filled(2).await;
    let admin = client.admin();
    let mut member = joining(&client).join().await.unwrap();
    read(&mut member, 200).await;
    member.close().await.unwrap();
    let offsets = admin.group_offsets("g").await.unwrap();
    let plain: Vec<(&str, u32, u64)> = offsets
        .iter()
        .map(|offset| (&*offset.topic, offset.partition, offset.offset))
        .collect();
    assert_eq!(plain, [("t", 0, 100), ("t", 1, 100)]);
    let twice = [
        OffsetToCommit::new("t", 0, 1),
        OffsetToCommit::new("t", 0, 2),
    ];
    let error = admin.commit_group_offsets("g", twice).await.unwrap_err();
    assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
    let moved = OffsetToCommit::new("t", 0, 1);
    admin.commit_group_offsets("g", [moved]).await.unwrap();
    assert_eq!(broker.state().committed("g", "t", 0), Some(1));
    admin.delete_group("g").await.unwrap();
    let error = admin.group_offsets("g").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownGroup));
}

#[tokio::test]
async fn a_topic_that_is_deleted_goes_and_its_end_is_told_once() {
    let broker = FakeBroker::with_topic(1, 1).await;
    let client = broker.client().await;
    broker.create_topic("t-2", 1);
    fill(&client, "t", 1, 20).await;
    fill(&client, "t-2", 1, 20).await;
    let journal = Journal::default();
    let group = client
        .group("g")
        .pattern("t.*")
        .listener(journal.named("1"));
    let group = group.max_wait(Duration::from_millis(20));
    let mut member = group.join().await.unwrap();
    read(&mut member, 40).await;
    drop(member.poll(Duration::ZERO).await.unwrap());
    let mut errors = Vec::new();
    broker.state().topics.remove("t-2");
    while journal.lines().len() < 2 {
        if let Err(error) = member.poll(Duration::from_millis(20)).await {
            errors.push(error.code());
        }
    }
    assert!(journal.lines()[1].starts_with("1 revoked t-2-0@20"));
    assert!(
        member
            .poll(Duration::from_millis(50))
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        errors.is_empty() || errors == [Some(ErrorCode::UnknownTopic)],
        "{errors:?}"
    );
    fill(&client, "t", 1, 10).await;
    assert_eq!(read(&mut member, 10).await[0], (0, 20));
    member.close().await.unwrap();
}
