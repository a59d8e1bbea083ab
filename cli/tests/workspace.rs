//! The map of the workspace: which crate may import which of ours. A new edge is a decision, made
//! here and in `docs/architecture.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What each crate may import at run time, without the `corelane-` prefix.
const EDGES: [(&str, &[&str]); 10] = [
    ("protocol", &[]),
    ("storage", &["protocol"]),
    ("broker", &["protocol", "storage"]),
    ("client", &["protocol"]),
    // Facts about the machine and the accounting of CPU are those of the limits that stand beside its figures.
    ("perf", &["bench", "broker", "client"]),
    ("cli", &["broker", "client", "perf", "protocol", "storage"]),
    ("bench", &["broker", "protocol", "storage"]),
    ("checker", &["protocol"]),
    ("sim", &["broker", "checker", "protocol", "storage"]),
    ("fuzz", &["broker", "protocol", "storage"]),
];

/// What a crate's tests and examples may import besides.
const TEST_EDGES: [(&str, &[&str]); 2] = [
    ("cli", &["checker"]),
    ("bench", &["broker", "client", "protocol", "storage"]),
];

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn short(name: &str) -> Option<&str> {
    name.strip_prefix("corelane-")
}

fn allowed(edges: &[(&str, &[&str])], name: &str) -> BTreeSet<String> {
    let of_crate = edges.iter().filter(|(from, _)| *from == name);
    of_crate
        .flat_map(|(_, to)| to.iter().map(|to| (*to).to_owned()))
        .collect()
}

#[test]
fn crates_import_only_what_the_map_allows() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let mut seen = BTreeMap::new();
    for package in packages {
        let name = package["name"]
            .as_str()
            .and_then(short)
            .expect("crates are named corelane-*");
        let run_time = allowed(&EDGES, name);
        let test_time: BTreeSet<_> = &run_time | &allowed(&TEST_EDGES, name);
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let Some(target) = dependency["name"].as_str().and_then(short) else {
                continue;
            };
            let is_test = dependency["kind"].as_str() == Some("dev");
            // A crate's own tests may switch on its own features.
            if is_test && target == name {
                continue;
            }
            let allowed = if is_test { &test_time } else { &run_time };
            assert!(allowed.contains(target), "{name} may not import {target}");
        }
        seen.insert(name, ());
    }
    for (name, _) in EDGES {
        assert!(
            seen.contains_key(name),
            "the map names {name}, which is not in the workspace"
        );
    }
    assert_eq!(
        seen.len(),
        EDGES.len(),
        "a crate is missing from the map: {:?}",
        seen.keys()
    );
}

#[test]
fn protocol_and_checker_forbid_unsafe_code_and_io_runtimes() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"]
            .as_str()
            .and_then(short)
            .expect("crates are named corelane-*");
        let names = package["dependencies"]
            .as_array()
            .expect("dependencies")
            .iter();
        let names: Vec<_> = names
            .filter_map(|dependency| dependency["name"].as_str())
            .collect();
        let banned: &[&str] = match name {
            "protocol" | "checker" => &["tokio", "glommio", "io-uring", "libc"],
            "client" => &["glommio", "io-uring", "libc"],
            "storage" => &["tokio"],
            _ => &[],
        };
        for banned in banned {
            assert!(!names.contains(banned), "{name} may not depend on {banned}");
        }
    }
}

#[test]
fn the_shipped_binary_has_no_planted_bugs_and_no_test_disk() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            "corelane-cli",
            "--edges",
            "normal,features",
        ])
        .args([
            "--prefix",
            "none",
            "--locked",
            "--offline",
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .output()
        .expect("cargo runs");
    let tree = String::from_utf8_lossy(&output.stdout);
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{problem}");
    assert!(tree.contains("corelane-storage feature"), "{tree}");
    for feature in ["planted-bugs", "testing"] {
        let line = format!("corelane-storage feature \"{feature}\"");
        assert!(!tree.contains(&line), "the binary is built with {feature}");
    }
}
