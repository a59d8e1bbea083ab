//! A seed gives one run, a few of them hold, and planted bugs are caught.

use corelane_sim::{Bug, hunt, keep_panics, run_many, run_seed};

/// Short, so that debug builds run it in seconds.
const SECONDS: u64 = 3;

#[test]
fn a_seed_gives_the_same_run_twice_and_another_seed_another() {
    keep_panics();
    let (first, again, other) = (
        run_seed(11, SECONDS, None),
        run_seed(11, SECONDS, None),
        run_seed(12, SECONDS, None),
    );
    assert_eq!((first.hash, first.events), (again.hash, again.events));
    assert_ne!(first.hash, other.hash);
    assert!(first.events > 1000, "{} events", first.events);
}

#[test]
fn a_trace_is_the_same_run() {
    keep_panics();
    let lines = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let kept = std::rc::Rc::clone(&lines);
    let reader = Box::new(move |line: &str| kept.borrow_mut().push(line.to_owned()));
    let traced = run_seed(13, SECONDS, Some(reader));
    let times: Vec<String> = lines
        .borrow()
        .iter()
        .map(|line| line[..11].to_owned())
        .collect();
    assert_eq!(times.len() as u64, traced.events);
    assert!(times.is_sorted(), "time does not run backwards");
    assert_eq!(traced.hash, run_seed(13, SECONDS, None).hash);
}

#[test]
fn some_seeds_hold() {
    keep_panics();
    let report = run_many(100..112, SECONDS, 2, 4, |_| ());
    let failures: Vec<_> = report
        .failed
        .iter()
        .map(|outcome| (outcome.seed, &outcome.failures))
        .collect();
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!((report.seeds, report.repeated), (12, 3));
    assert!(report.records > 100, "{} records", report.records);
}

#[test]
fn a_planted_bug_is_caught_and_gone_afterwards() {
    keep_panics();
    let hunts = hunt(&[Bug::FlushSkipped], 0, 30, SECONDS, 1, |_| ());
    assert!(hunts[0].caught.is_some(), "{hunts:?}");
    assert!(!corelane_storage::planted::is_planted(Bug::FlushSkipped));
}
