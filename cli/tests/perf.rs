//! `corelane perf` measures without a word of configuration, and says how durable its figures are.
//! The figures themselves are not judged here.

mod support;

use support::corelane;

#[test]
fn the_report_for_programs_has_its_keys() {
    let outcome = corelane(&["perf", "--format", "json"]);
    outcome.assert_code(0);
    let report: serde_json::Value =
        serde_json::from_str(&outcome.stdout).expect("the report is JSON");
    assert_eq!(report["durability"], "durable");
    assert_eq!(report["errors"], 0);
    assert!(report["throughput_mb_s"].as_f64().expect("a number") > 0.0);
    let latency = &report["latency_us"];
    let percentiles = ["p50", "p90", "p99", "p999", "p9999", "max"];
    let latencies = percentiles.map(|name| latency[name].as_u64().expect(name));
    assert!(latencies.is_sorted(), "{latency}");
    assert!(latencies[0] > 0, "{latency}");
    assert_eq!(report["produce"]["mb_s"], report["throughput_mb_s"]);
    assert!(report["consume"]["records"].as_u64() > report["produce"]["records"].as_u64());
    assert!(report["manifest"]["kernel"].is_string());
}
