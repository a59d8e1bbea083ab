//! One partition's order by itself: answers in, what may be sent out.

use std::time::Duration;

use super::order::*;
use crate::backoff::{Backoff, Jitter};

type Order = PartitionOrder<&'static str, &'static str>;
type Outcome = Settled<&'static str, u64, &'static str>;

const BACKOFF: Backoff = Backoff {
    min: Duration::from_millis(10),
    max: Duration::from_millis(10),
};
const DEADLINE: Duration = Duration::from_secs(100);
const T0: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(2);

fn order_of(batches: &[&'static str]) -> Order {
    let mut order = Order::new(false);
    for batch in batches {
        order.push(batch, DEADLINE);
    }
    order
}

fn send_all(
    order: &mut Order,
    now: Duration,
    connection: ConnectionNumber,
) -> Vec<(&'static str, bool)> {
    let mut sent = Vec::new();
    while let Some(next) = order.peek(now, connection) {
        sent.push((*next.batch, next.resume));
        order.sent(connection, 1);
    }
    sent
}

fn answer(
    order: &mut Order,
    number: BatchNumber,
    answer: Answer<u64, &'static str>,
) -> Option<Outcome> {
    let mut settled = Vec::new();
    let jitter = &mut Jitter::new(1);
    order.answered(T0, number, answer, &BACKOFF, jitter, &mut settled);
    assert!(settled.len() <= 1);
    settled.pop()
}

fn lose(order: &mut Order, connection: ConnectionNumber) {
    let mut settled: Vec<Outcome> = Vec::new();
    let jitter = &mut Jitter::new(1);
    order.connection_lost(T0, connection, &"reset", &BACKOFF, jitter, &mut settled);
    assert_eq!(settled, []);
}

fn refusal(error: &'static str) -> Answer<u64, &'static str> {
    Answer::Retry {
        error,
        needs_resume: true,
        maybe_written: false,
        redirected: false,
    }
}

fn failure(error: &'static str, needs_resume: bool) -> Answer<u64, &'static str> {
    Answer::Failed {
        error,
        needs_resume,
        maybe_written: false,
    }
}

#[test]
fn batches_go_out_in_order_without_the_resume_flag() {
    let mut order = order_of(&["a", "b", "c"]);
    assert_eq!(
        send_all(&mut order, T0, 1),
        [("a", false), ("b", false), ("c", false)]
    );
    assert_eq!(
        answer(&mut order, 1, Answer::Written(7)),
        Some(Settled::Written("b", 7))
    );
    assert_eq!(
        answer(&mut order, 0, Answer::Written(6)),
        Some(Settled::Written("a", 6))
    );
    assert_eq!(order.in_flight_count(), 1);
}

#[test]
fn a_refusal_in_the_middle_waits_for_the_rest_and_then_resumes_in_order() {
    let mut order = order_of(&["a", "b", "c", "d"]);
    send_all(&mut order, T0, 1);
    order.push("e", DEADLINE);
    assert_eq!(
        answer(&mut order, 0, Answer::Written(0)),
        Some(Settled::Written("a", 0))
    );
    assert_eq!(answer(&mut order, 1, refusal("overloaded")), None);
    assert_eq!(order.peek(LATER, 1), None, "others are still in flight");
    assert_eq!(answer(&mut order, 3, refusal("order")), None);
    assert_eq!(answer(&mut order, 2, refusal("order")), None);
    assert_eq!(order.peek(T0, 1), None, "the wait has not passed");
    assert!(order.wake_at(T0).is_some_and(|at| at <= T0 + BACKOFF.max));
    assert_eq!(
        send_all(&mut order, LATER, 1),
        [("b", true), ("c", false), ("d", false), ("e", false)]
    );
}

#[test]
fn a_batch_refused_for_good_does_not_stop_the_others() {
    let mut order = order_of(&["a", "b"]);
    send_all(&mut order, T0, 1);
    assert_eq!(
        answer(&mut order, 0, failure("corrupt", false)),
        Some(Settled::Failed("a", "corrupt"))
    );
    order.push("c", DEADLINE);
    assert_eq!(send_all(&mut order, T0, 1), [("c", false)]);
}

#[test]
fn what_follows_a_batch_that_failed_and_held_it_up_resumes_at_once() {
    let mut order = order_of(&["a", "b"]);
    send_all(&mut order, T0, 1);
    let failed = answer(&mut order, 0, failure("too large", true));
    assert_eq!(failed, Some(Settled::Failed("a", "too large")));
    order.push("c", DEADLINE);
    assert_eq!(order.peek(T0, 1), None, "b is still in flight");
    assert_eq!(answer(&mut order, 1, refusal("order")), None);
    assert_eq!(send_all(&mut order, LATER, 1), [("b", true), ("c", false)]);
    let mut order = order_of(&["a"]);
    send_all(&mut order, T0, 1);
    answer(&mut order, 0, failure("too large", true));
    order.push("b", DEADLINE);
    assert_eq!(send_all(&mut order, T0, 1), [("b", true)]);
}

#[test]
fn a_batch_is_replaced_where_it_stood() {
    let mut order = order_of(&["a", "b", "c"]);
    send_all(&mut order, T0, 1);
    order.push("d", DEADLINE);
    answer(&mut order, 0, Answer::Written(0));
    answer(&mut order, 1, refusal("too large"));
    answer(&mut order, 2, refusal("order"));
    let (taken, vacancy) = order.take_front().unwrap();
    assert_eq!(taken, "b");
    let part = |batch| Part {
        batch: Some(batch),
        record_count: 1,
    };
    order.put_front(vacancy, vec![part("b1"), part("b2")]);
    assert_eq!(
        send_all(&mut order, LATER, 1),
        [("b1", true), ("b2", false), ("c", false), ("d", false)]
    );
    for number in 4..8 {
        let settled = answer(&mut order, number, Answer::Written(number));
        assert!(matches!(settled, Some(Settled::Written(_, offset)) if offset == number));
    }
    assert!(order.is_empty());
}

#[test]
fn a_lost_connection_sends_everything_unanswered_again_in_order() {
    let mut order = order_of(&["a", "b", "c"]);
    send_all(&mut order, T0, 1);
    answer(&mut order, 1, Answer::Written(1));
    answer(&mut order, 2, refusal("overloaded"));
    lose(&mut order, 1);
    assert_eq!(send_all(&mut order, LATER, 2), [("a", true), ("c", false)]);
}

#[test]
fn losing_another_connection_changes_nothing() {
    let mut order = order_of(&["a"]);
    send_all(&mut order, T0, 2);
    lose(&mut order, 1);
    assert_eq!(order.in_flight_count(), 1);
}

#[test]
fn a_new_route_waits_until_the_old_one_is_drained() {
    let mut order = order_of(&["a"]);
    send_all(&mut order, T0, 1);
    order.push("b", DEADLINE);
    assert_eq!(order.peek(T0, 2), None);
    answer(&mut order, 0, Answer::Written(0));
    assert_eq!(send_all(&mut order, T0, 2), [("b", false)]);
}

#[test]
fn the_first_redirect_is_followed_at_once_and_the_second_waits() {
    let redirect = || Answer::Retry {
        error: "not owner",
        needs_resume: true,
        maybe_written: false,
        redirected: true,
    };
    let mut order = order_of(&["a"]);
    send_all(&mut order, T0, 1);
    answer(&mut order, 0, redirect());
    assert_eq!(send_all(&mut order, T0, 2), [("a", true)]);
    answer(&mut order, 0, redirect());
    assert_eq!(order.peek(T0, 1), None);
    assert_eq!(send_all(&mut order, LATER, 1), [("a", true)]);
}

#[test]
fn a_deadline_tells_what_is_known() {
    let mut order = order_of(&["sent", "refused"]);
    send_all(&mut order, T0, 1);
    answer(&mut order, 1, refusal("overloaded"));
    order.push("waiting", DEADLINE);
    order.push("later", DEADLINE + T0);
    let mut settled: Vec<Outcome> = Vec::new();
    order.expire(DEADLINE, &mut settled);
    assert_eq!(
        settled,
        [
            Settled::Unknown("sent", None),
            Settled::Expired("refused", Some("overloaded")),
            Settled::Expired("waiting", None),
        ]
    );
    assert_eq!(
        answer(&mut order, 0, Answer::Written(0)),
        None,
        "told already"
    );
    assert_eq!(send_all(&mut order, DEADLINE, 1), [("later", true)]);
}

#[test]
fn after_a_lost_connection_the_outcome_stays_unknown() {
    let mut order = order_of(&["a"]);
    send_all(&mut order, T0, 1);
    lose(&mut order, 1);
    let mut settled: Vec<Outcome> = Vec::new();
    order.expire(DEADLINE, &mut settled);
    assert_eq!(settled, [Settled::Unknown("a", Some("reset"))]);
    assert!(order.is_empty());
}

#[test]
fn a_wait_ends_for_batches_that_come_after_those_refused() {
    let mut order = order_of(&["a"]);
    send_all(&mut order, T0, 1);
    answer(&mut order, 0, refusal("overloaded"));
    let mut settled: Vec<Outcome> = Vec::new();
    order.expire(DEADLINE, &mut settled);
    assert!(order.is_empty());
    let looked_at = order.wake_at(T0).unwrap();
    assert!(looked_at > T0 && looked_at <= T0 + BACKOFF.max);
}
