//! Members of a group: who reads what, and how partitions change hands.

use std::collections::BTreeSet;
use std::time::Duration;

use corelane_client::{Error, ErrorCode, ErrorKind};

use crate::support::group_members::{Journal, filled, joining, read, until};
use crate::support::{GroupAction, plain};

#[tokio::test]
async fn a_member_reads_everything_and_what_it_was_at_is_committed_when_it_closes() {
    let (broker, client) = filled(3).await;
    let mut member = joining(&client).join().await.unwrap();
    let mut all = read(&mut member, 300).await;
    all.sort_unstable();
    let expected = (0..3).flat_map(|partition| (0..100).map(move |offset| (partition, offset)));
    assert!(all.into_iter().eq(expected));
    let everything = [
        ("t".to_owned(), 0),
        ("t".to_owned(), 1),
        ("t".to_owned(), 2),
    ];
    assert_eq!(member.assignment(), everything);
    assert_eq!(member.position("t", 1), Some(100));
    member.close().await.unwrap();
    let mut state = broker.state();
    for partition in 0..3 {
        assert_eq!(state.committed("g", "t", partition), Some(100));
    }
    assert_eq!(state.group("g").left.len(), 1);
}

#[tokio::test]
async fn a_partition_goes_only_once_the_program_is_done_with_it() {
    let (broker, client) = filled(2).await;
    let journal = Journal::default();
    let mut first = joining(&client)
        .listener(journal.named("1"))
        .join()
        .await
        .unwrap();
    let mut at = read(&mut first, 1).await[0];
    while at.0 != 1 {
        at = read(&mut first, 1).await[0];
    }
    // At records of partition 1, which the second member is to have.
    let second = joining(&client).listener(journal.named("2"));
    let mut second = second.join().await.unwrap();
    let beats = broker.state().groups.heartbeat_cores.len();
    until(&broker, |state| {
        state.groups.heartbeat_cores.len() > beats + 6
    })
    .await;
    assert!(second.assignment().is_empty());
    let position = first.position("t", 0).unwrap();
    let mut rest = Vec::new();
    while let Some(records) = first.poll(Duration::from_millis(200)).await.unwrap() {
        rest.extend(
            plain(&records)
                .iter()
                .map(|(partition, offset, _)| (*partition, *offset)),
        );
    }
    assert!(
        rest.into_iter()
            .eq((position..100).map(|offset| (0, offset))),
        "nothing of what goes"
    );
    let next = at.1 + 10;
    assert_eq!(read(&mut second, 1).await[0], (1, next));
    let expected = [
        "1 assigned t-0@0 t-1@0".to_owned(),
        format!("1 revoked t-1@{next}"),
        format!("2 assigned t-1@{next}"),
    ];
    assert_eq!(journal.lines(), expected);
    first.close().await.unwrap();
    second.close().await.unwrap();
    assert_eq!(journal.lines()[3], "1 revoked t-0@100");
}

#[tokio::test]
async fn partitions_change_hands_without_a_record_twice_or_left_out() {
    let (broker, client) = filled(4).await;
    let reading = |batches: usize| {
        let client = client.clone();
        async move {
            let mut member = joining(&client).join().await.unwrap();
            let mut seen = Vec::new();
            for _ in 0..batches {
                let Some(records) = member.poll(Duration::from_millis(400)).await.unwrap() else {
                    break;
                };
                seen.extend(plain(&records).iter().map(|(p, offset, _)| (*p, *offset)));
                tokio::task::yield_now().await;
            }
            member.close().await.unwrap();
            seen
        }
    };
    let members: Vec<_> = [7, 9, 12, 1_000]
        .into_iter()
        .map(|batches| tokio::spawn(reading(batches)))
        .collect();
    let mut seen = Vec::new();
    for member in members {
        seen.extend(member.await.unwrap());
    }
    let count = seen.len();
    let distinct: BTreeSet<(u32, u64)> = seen.into_iter().collect();
    assert_eq!((count, distinct.len()), (400, 400));
    assert_eq!(broker.state().committed("g", "t", 3), Some(100));
}

#[tokio::test]
async fn a_member_that_the_group_forgot_loses_everything_and_joins_as_another() {
    let (broker, client) = filled(2).await;
    let journal = Journal::default();
    let group = joining(&client)
        .auto_commit(None)
        .listener(journal.named("1"));
    let mut member = group.join().await.unwrap();
    read(&mut member, 10).await;
    let id = member.member_id();
    broker.state().forget_members("g");
    until(&broker, |state| state.group("g").members.len() == 1).await;
    journal.until(3).await;
    assert_ne!(member.member_id(), id);
    let lines = journal.lines();
    assert_eq!(lines[1], "1 lost t-0@0 t-1@0");
    assert_eq!(lines[2], "1 assigned t-0@0 t-1@0");
    let error = member.commit().await.unwrap_err();
    assert!(matches!(error, Error::PartitionsLost { .. }), "{error}");
    member.commit().await.unwrap();
    let mut again = read(&mut member, 200).await;
    again.sort_unstable();
    assert_eq!(again[0], (0, 0), "from where was committed");
}

#[tokio::test]
async fn a_member_that_cannot_reach_its_group_stops_by_itself() {
    let (broker, client) = filled(1).await;
    let journal = Journal::default();
    let group = joining(&client)
        .session_timeout(Duration::from_millis(300))
        .listener(journal.named("1"));
    let mut member = group.join().await.unwrap();
    read(&mut member, 10).await;
    broker.hang_up(true);
    journal.until(2).await;
    assert_eq!(journal.lines()[1], "1 lost t-0@0");
    assert!(member.assignment().is_empty());
    let nothing = member.poll(Duration::from_millis(20)).await.unwrap();
    assert!(
        nothing.is_none(),
        "nothing is handed out, although it was fetched"
    );
    broker.state().forget_members("g");
    broker.hang_up(false);
    assert_eq!(read(&mut member, 100).await[0], (0, 0));
}

#[tokio::test]
async fn a_program_that_does_not_ask_leaves_is_told_and_joins_again() {
    let (broker, client) = filled(1).await;
    let journal = Journal::default();
    let group = joining(&client)
        .max_poll_interval(Duration::from_millis(60))
        .listener(journal.named("1"));
    let mut member = group.join().await.unwrap();
    read(&mut member, 10).await;
    until(&broker, |state| state.group("g").left.len() == 1).await;
    assert!(broker.state().group("g").members.is_empty());
    let error = member.next().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MembershipLost);
    assert!(error.to_string().contains("max_poll_interval"), "{error}");
    assert_eq!(read(&mut member, 10).await[0], (0, 0));
    assert_eq!(journal.lines()[1], "1 lost t-0@0");
    member.close().await.unwrap();
}

#[tokio::test]
async fn lost_answers_and_refusals_that_pass_change_nothing() {
    let (broker, client) = filled(2).await;
    let mut number = 0;
    broker.state().on_group(move |_| {
        number += 1;
        match number % 7 {
            1 => GroupAction::AnswerLost,
            3 => GroupAction::Close,
            4 => GroupAction::Refuse(ErrorCode::GroupLoading),
            5 => GroupAction::Refuse(ErrorCode::NotOwner),
            _ => GroupAction::Answer,
        }
    });
    let journal = Journal::default();
    let mut member = joining(&client)
        .listener(journal.named("1"))
        .join()
        .await
        .unwrap();
    for _ in 0..5 {
        read(&mut member, 40).await;
        member.commit().await.unwrap();
    }
    member.close().await.unwrap();
    let mut state = broker.state();
    assert_eq!(
        [0, 1].map(|index| state.committed("g", "t", index)),
        [Some(100); 2]
    );
    assert_eq!(journal.lines().len(), 2, "{:?}", journal.lines());
}

#[tokio::test]
async fn the_coordinating_core_is_asked_from_then_on() {
    for strict in [false, true] {
        let (broker, client) = filled(1).await;
        broker.state().strict = strict;
        broker.state().groups.core = 1;
        let mut member = joining(&client).join().await.unwrap();
        read(&mut member, 100).await;
        member.close().await.unwrap();
        let cores = broker.state().groups.heartbeat_cores.clone();
        assert_eq!(cores[0], 0, "the bootstrap core is asked first");
        assert!(cores[1..].iter().all(|core| *core == 1), "{cores:?}");
        assert_eq!(broker.state().committed("g", "t", 0), Some(100));
    }
}

#[tokio::test]
async fn a_member_with_a_name_comes_back_to_its_partitions() {
    let (broker, client) = filled(2).await;
    let journal = Journal::default();
    let named = |name: &str| {
        let group = joining(&client).instance(name);
        group.listener(journal.named(name)).join()
    };
    let first = named("a").await.unwrap();
    journal.until(1).await;
    let error = named("a").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InstanceInUse));
    let second = named("b").await.unwrap();
    journal.until(3).await;
    first.close().await.unwrap();
    let first = named("a").await.unwrap();
    journal.until(5).await;
    let lines = journal.lines();
    assert_eq!(lines[2], "b assigned t-1@0");
    assert_eq!(
        lines[3..],
        ["a revoked t-0@0", "a assigned t-0@0"],
        "b was not bothered"
    );
    let left = broker.state().group("g").left.clone();
    assert!(matches!(left[..], [(_, true)]));
    second.close().await.unwrap();
    first.close().await.unwrap();
}

#[tokio::test]
async fn a_member_that_is_dropped_is_silent() {
    let (broker, client) = filled(1).await;
    let mut member = joining(&client).join().await.unwrap();
    read(&mut member, 10).await;
    drop(member);
    // The tasks end where they are; whatever they had sent arrives within a beat of another member.
    let mut other = joining(&client).join().await.unwrap();
    assert!(
        other
            .poll(Duration::from_millis(100))
            .await
            .unwrap()
            .is_none()
    );
    let mut state = broker.state();
    assert_eq!(state.committed("g", "t", 0), None);
    let group = state.group("g");
    assert!(group.left.is_empty());
    assert_eq!(group.members.len(), 2, "its session is not over");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let (broker, client) = filled(1).await;
    let zero = Duration::ZERO;
    let refused = [
        client.group("g"),
        client.group("").topics(["t"]),
        client.group("g").topics(["t t"]),
        client.group("g").topics(["t"]).session_timeout(zero),
        client.group("g").topics(["t"]).max_poll_interval(zero),
        client.group("g").topics(["t"]).auto_commit(Some(zero)),
        client.group("g").topics(["t"]).max_bytes(0),
    ];
    for group in refused {
        let error = group.join().await.unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
    }
    broker
        .state()
        .on_group(|_| GroupAction::Refuse(ErrorCode::GroupLimit));
    let error = joining(&client).join().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::GroupLimit));
    broker
        .state()
        .on_group(|_| GroupAction::Refuse(ErrorCode::GroupLoading));
    let hasty = broker.builder().request_timeout(Duration::from_millis(600));
    let hasty = hasty.connect().await.unwrap();
    let error = joining(&hasty).join().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::TimedOut, Some(ErrorCode::GroupLoading))
    );
}
