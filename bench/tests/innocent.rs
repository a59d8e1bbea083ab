//! An innocent client beside attacks, for a moment each.

use std::process::Command;

const ATTACKS: &str = "slow,absurd,produces,fetches,metadata,times,storm";

#[test]
fn attacks_begin_and_end_and_the_innocent_client_is_served() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostile"));
    command.args(["--rounds", "1", "--seconds", "0.2", "--rate", "100"]);
    command.args(["--attacks", ATTACKS]);
    command.args(["--settle-seconds", "0", "--format", "json"]);
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["errors"], 0);
    let attacks = report["attacks"].as_array().unwrap();
    let names: Vec<&str> = attacks
        .iter()
        .map(|attack| attack["attack"].as_str().unwrap())
        .collect();
    assert_eq!(names.join(","), format!("nobody,no-broker,{ATTACKS}"));
    assert_eq!(attacks[0]["p99_ratio"], 1.0);
    for attack in attacks {
        let innocent = &attack["rounds"][0]["innocent"];
        assert_eq!(innocent["acks"], 20, "{attack}");
        assert_eq!(innocent["durability"], "durable");
        assert!(attack["memory_peak_bytes"].as_u64().unwrap() > 0);
        let is_attack = attack["attack"] != "nobody";
        assert_eq!(
            attack["attack_steps_s"].as_f64().unwrap() > 0.0,
            is_attack,
            "{attack}"
        );
    }
}
