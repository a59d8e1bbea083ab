//! What members may want, and what becomes of it as topics come and go.

use super::*;

fn with_pattern(pattern: &str) -> Subscription {
    let mut wish = wants(&[]);
    wish.pattern = Some(pattern.to_owned());
    wish
}

fn names(bench: &Bench, client: &Client) -> BTreeSet<String> {
    let name = |one: &TopicPartition| bench.topics.name_of(one.topic).unwrap_or("?").to_owned();
    client.owned.iter().map(name).collect()
}

#[test]
fn a_pattern_matches_whole_names_and_no_internal_topics() {
    let mut bench = Bench::new();
    for name in ["orders", "orders-eu", "reorders", "__offsets"] {
        bench.topics.create(name, 1);
    }
    let mut a = Client::new(1, with_pattern("orders|orders-.*|__.*"));
    bench.beat(&mut a);
    let expected = ["orders", "orders-eu"].map(str::to_owned);
    assert_eq!(names(&bench, &a), BTreeSet::from(expected));
}

#[test]
fn patterns_find_topics_that_are_made_later() {
    let mut bench = Bench::new();
    let mut a = Client::new(1, with_pattern("(?i)ORDERS-[0-9]+"));
    bench.beat(&mut a);
    assert!(a.owned.is_empty());
    bench.topics.create("other", 1);
    assert_eq!(bench.topics_changed(), 0);
    bench.topics.create("orders-17", 3);
    assert_eq!(bench.topics_changed(), 1, "the group's generation");
    bench.beat(&mut a);
    assert_eq!(a.owned.len(), 3);
}

#[test]
fn named_topics_count_once_they_are_there() {
    let mut bench = Bench::new();
    let (mut a, mut b) = (
        Client::new(1, wants(&["orders"])),
        Client::new(2, wants(&["orders"])),
    );
    bench.settle(&mut [&mut a, &mut b]);
    bench.topics.create("orders", 4);
    bench.topics_changed();
    bench.settle(&mut [&mut a, &mut b]);
    assert_eq!((a.owned.len(), b.owned.len()), (2, 2));
    let before = a.owned.clone();
    bench.topics.extend("orders", 6);
    bench.topics_changed();
    bench.settle(&mut [&mut a, &mut b]);
    assert_eq!((a.owned.len(), b.owned.len()), (3, 3));
    assert!(before.is_subset(&a.owned));
    bench.topics.delete("orders");
    bench.topics_changed();
    bench.settle(&mut [&mut a, &mut b]);
    assert_eq!((a.owned.len(), b.owned.len()), (0, 0));
}

#[test]
fn a_topic_that_is_made_anew_is_another_one() {
    let mut bench = Bench::new();
    let old = bench.topics.create("orders", 1);
    let mut a = Client::new(1, wants(&["orders"]));
    bench.beat(&mut a);
    bench.topics.delete("orders");
    let new = bench.topics.create("orders", 1);
    bench.topics_changed();
    bench.settle(&mut [&mut a]);
    assert_eq!(a.owned, BTreeSet::from([at(new, 0)]));
    assert_ne!(old, new);
}

#[test]
fn a_member_changes_what_it_wants() {
    let mut bench = Bench::new();
    bench.topics.create("orders", 2);
    bench.topics.create("payments", 2);
    let (mut a, mut b) = (
        Client::new(1, wants(&["orders"])),
        Client::new(2, wants(&["orders"])),
    );
    bench.settle(&mut [&mut a, &mut b]);
    let mut request = a.request();
    request.subscription = Some(with_pattern("pay.*"));
    let answer = bench.send(&request).expect("it is a member");
    a.apply(&answer);
    bench.settle(&mut [&mut a, &mut b]);
    assert_eq!(names(&bench, &a), BTreeSet::from(["payments".to_owned()]));
    assert_eq!((a.owned.len(), b.owned.len()), (2, 2));
    // Other timeouts are noted, and move nothing.
    let generation = bench.coordinator.groups["g"].generation;
    let logged = bench.log.len();
    let mut other = with_pattern("pay.*");
    other.session_timeout_ms = 3_000;
    let mut request = a.request();
    request.subscription = Some(other);
    let answer = bench.send(&request).expect("it is a member");
    assert_eq!(answer.heartbeat_interval_ms, 1_000);
    assert_eq!(bench.log.len(), logged + 1);
    assert_eq!(bench.coordinator.groups["g"].generation, generation);
    assert_eq!(
        bench.coordinator.next_deadline(),
        Some(bench.now.monotonic_us + 3_000_000)
    );
}

#[test]
fn what_is_wrong_with_a_subscription_is_said() {
    let mut bench = Bench::new();
    bench.topics.create("orders", 1);
    let long = "x".repeat(256);
    type Change<'a> = &'a dyn Fn(&mut Subscription);
    let cases: [(Change<'_>, &str); 15] = [
        (
            &|wish| wish.pattern = Some("orders(".to_owned()),
            "unclosed group",
        ),
        (
            &|wish| wish.pattern = Some("a)|(b".to_owned()),
            "unopened group",
        ),
        (
            &|wish| wish.pattern = Some("(?x) a # b".to_owned()),
            "no regular expression",
        ),
        (
            &|wish| wish.pattern = Some("(a{1000}){1000}".to_owned()),
            "size limit",
        ),
        (
            &|wish| wish.pattern = Some("(".repeat(70) + &")".repeat(70)),
            "nest",
        ),
        (
            &|wish| wish.topics = vec!["__offsets".to_owned()],
            "internal",
        ),
        (
            &|wish| wish.topics = vec!["a/b".to_owned()],
            "'/' is not allowed",
        ),
        (
            &|wish| wish.assignor = Some("fair".to_owned()),
            "cores, range, round-robin, sticky",
        ),
        (&|wish| wish.session_timeout_ms = 999, "1000 to 1800000 ms"),
        (
            &|wish| wish.session_timeout_ms = u32::MAX,
            "session timeout",
        ),
        (&|wish| wish.rebalance_timeout_ms = 0, "rebalance timeout"),
        (&|wish| wish.client = long.clone(), "at most 255"),
        (
            &|wish| wish.instance = Some(String::new()),
            "instance has no name",
        ),
        (
            &|wish| wish.instance = Some("a\nb".to_owned()),
            "control character",
        ),
        (
            &|wish| wish.topics = vec!["t".repeat(200); 2_000],
            "a pattern may say it in less",
        ),
    ];
    for (change, said) in cases {
        let mut client = Client::new(1, wants(&["orders"]));
        change(&mut client.subscription);
        let error = bench.send(&client.request()).expect_err(said);
        assert_eq!(error.code, ErrorCode::InvalidRequest, "{said}");
        assert!(
            error.message.contains(said),
            "{said:?} is not in {:?}",
            error.message
        );
    }
    assert!(bench.log.is_empty());
}

#[test]
fn group_names_are_checked() {
    let mut bench = Bench::new();
    for (name, said) in [
        ("", "no name"),
        ("a\u{7}", "control"),
        (&*"n".repeat(256), "256 bytes"),
    ] {
        let mut client = Client::new(1, wants(&["orders"]));
        client.group = name.to_owned();
        let error = bench.send(&client.request()).expect_err(said);
        assert_eq!(error.code, ErrorCode::InvalidRequest);
        assert!(
            error.message.contains(said),
            "{said:?} is not in {:?}",
            error.message
        );
        assert_eq!(code(bench.leave(&client, false)), ErrorCode::InvalidRequest);
    }
    let mut client = Client::new(1, wants(&["orders"]));
    client.group = "n".repeat(255);
    bench.beat(&mut client);
}

#[test]
fn most_members_decide_on_the_assignor() {
    let mut bench = Bench::new();
    bench.topics.create("orders", 4);
    let asks = |n, name: &str| {
        let mut wish = wants(&["orders"]);
        wish.assignor = Some(name.to_owned());
        Client::new(n, wish)
    };
    let in_use = |bench: &Bench| bench.coordinator.groups["g"].assignor.name();
    let (mut a, mut b, mut c) = (asks(1, "range"), asks(2, "cores"), asks(3, "cores"));
    bench.beat(&mut a);
    assert_eq!(in_use(&bench), "range");
    bench.beat(&mut b);
    assert_eq!(in_use(&bench), "range", "among equals the one in use");
    assert_eq!(
        bench.restart(),
        1,
        "the group is not settled, and has a new generation"
    );
    assert_eq!(in_use(&bench), "range");
    bench.beat(&mut c);
    assert_eq!(in_use(&bench), "cores");
    bench.settle(&mut [&mut a, &mut b, &mut c]);
    let mut d = Client::new(4, wants(&["orders"]));
    bench.beat(&mut d);
    bench.leave(&b, false).expect("it is a member");
    bench.leave(&c, false).expect("it is a member");
    assert_eq!(
        in_use(&bench),
        "range",
        "the first by name of those that are asked for"
    );
}
