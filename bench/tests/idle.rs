//! A broker with a few idle connections and partitions, step by step.

use std::process::Command;

#[test]
fn every_step_of_a_small_measurement_is_reported() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_idle"));
    command.args(["--connections", "20", "--partitions", "8"]);
    command.args(["--idle-seconds", "0.1", "--settle-seconds", "0"]);
    command.args(["--format", "json"]);
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let steps = report["steps"].as_array().unwrap();
    let counts: Vec<u64> = steps
        .iter()
        .map(|step| step["count"].as_u64().unwrap())
        .collect();
    let owned = 8 / report["cores"].as_u64().unwrap();
    assert_eq!(counts, [0, 20, 20, 8, owned, 20]);
    for step in steps {
        assert!(step["memory_bytes"].as_u64().unwrap() > 0, "{step}");
    }
    assert_eq!(
        report["memory_bytes_each"].as_array().unwrap().len(),
        steps.len()
    );
}
