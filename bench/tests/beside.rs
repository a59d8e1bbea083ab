//! A short measurement of everything, for its form and its counts; its figures say nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use corelane_bench::beside::{InFlight, Report, Settings, measure};
use corelane_bench::relay::Form;
use corelane_protocol::request::Acks;

fn settings(pace: InFlight) -> Settings {
    Settings {
        broker: None,
        partitions: 3,
        record_bytes: 100,
        batch_bytes: 4096,
        batch_records: usize::MAX,
        pace,
        acks: Acks::All,
        rounds: 2,
        warm_up: Duration::from_millis(100),
        duration: Duration::from_millis(300),
        forms: vec![Form::Recycled, Form::Fresh],
        recycled_bytes: 64 << 20,
        fresh_bytes: 2 << 30,
        settle: Duration::ZERO,
        directory: None,
    }
}

fn run(settings: &Settings) -> Report {
    let mut runs = 0;
    let report = measure(settings, |_, _, _| runs += 1).expect("it is measured");
    assert_eq!(runs, 6, "three contenders in two rounds");
    report
}

fn keys(value: &serde_json::Value) -> BTreeSet<&str> {
    let object = value.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

#[test]
fn relay_and_broker_answer_everything_and_the_report_keeps_its_keys() {
    let report = run(&settings(InFlight::Bytes(100_000)));
    assert_eq!((report.errors, report.durability), (0, Some("durable")));
    for contender in &report.contenders {
        for outcome in &contender.rounds {
            assert!(outcome.sent > 0, "{} did nothing", contender.name);
            assert_eq!(
                outcome.unanswered + outcome.stray_answers + outcome.errors,
                0
            );
        }
    }
    let json = serde_json::to_value(&report).unwrap();
    let expected = "background_cores contenders durability errors load machine ratios version";
    assert_eq!(keys(&json), expected.split(' ').collect());
    assert_eq!(json["contenders"][0]["name"], "relay, recycled");
    assert_eq!(json["contenders"][2]["name"], "broker");
    let outcome = &json["contenders"][2]["rounds"][0];
    let expected = "acks acks_s cpu cpu_ns_per_ack cpu_ns_per_kb durability errors first_error latency_us mb_s \
                    records_s seconds sender_ns_per_ack sent stray_answers threads_ns_per_kb unanswered";
    assert_eq!(keys(outcome), expected.split_whitespace().collect());
    assert_eq!(
        keys(&outcome["latency_us"]),
        "count max p50 p99 p999".split(' ').collect()
    );
    assert_eq!(
        keys(&json["ratios"][1]),
        "cpu p50 p99 throughput to".split(' ').collect()
    );
    assert!(
        report
            .text()
            .contains("receipts confirm: durable; errors: 0")
    );
}

#[test]
fn an_open_loop_sends_what_is_due() {
    let settings = Settings {
        acks: Acks::None,
        batch_records: 1,
        ..settings(InFlight::Rate(1000.0))
    };
    let report = run(&settings);
    assert_eq!(report.durability, Some("memory"), "as acks 0 promises");
    assert_eq!(report.load.records_per_request, 1);
    assert_eq!(report.load.rate, Some(1000.0));
    assert_eq!(report.errors, 0);
    for outcome in report
        .contenders
        .iter()
        .flat_map(|contender| &contender.rounds)
    {
        assert_eq!(
            (outcome.sent, outcome.acks),
            (400, 300),
            "100 of them warm up"
        );
    }
}

#[test]
fn impossible_settings_are_refused_by_name() {
    let refused = Settings {
        rounds: 0,
        ..settings(InFlight::Bytes(1))
    };
    let error = measure(&refused, |_, _, _| ()).unwrap_err().to_string();
    assert!(error.contains("one round"), "{error}");
    let refused = settings(InFlight::Rate(0.0));
    let error = measure(&refused, |_, _, _| ()).unwrap_err().to_string();
    assert!(error.contains("rate"), "{error}");
}
