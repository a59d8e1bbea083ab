//! The broker's process of its own, and what is read from it.

use std::process::Command;

#[test]
fn few_partitions_are_made_killed_and_loaded() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_partitions"));
    command.args(["--counts", "1,3", "--rounds", "1", "--seconds", "0.2"]);
    command.args(["--idle-seconds", "0.1", "--settle-seconds", "0"]);
    command.args(["--format", "json"]);
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["errors"], 0);
    let costs = report["costs"].as_array().unwrap();
    assert_eq!(costs.len(), 2);
    for cost in costs {
        for figure in ["creation_s", "clean_restart_s", "crash_restart_s"] {
            assert!(cost[figure].as_f64().unwrap() > 0.0, "{figure} of {cost}");
        }
        assert!(cost["handles"][0].as_u64().unwrap() > 0);
        assert!(cost["empty_memory_bytes"].as_u64().unwrap() > 0);
    }
    let spreads = report["spreads"].as_array().unwrap();
    assert_eq!(spreads.len(), 4, "two loads over two numbers of partitions");
    for spread in spreads {
        assert!(spread["acks_s"].as_f64().unwrap() > 0.0);
        assert_eq!(spread["rounds"][0]["durability"], "durable");
    }
    assert_eq!(spreads[0]["throughput_ratio"], 1.0);
}
