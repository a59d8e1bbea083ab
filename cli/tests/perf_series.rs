//! Several runs of `corelane perf`: scenarios, sweeps and comparisons.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::perf::{CLOSED_SECONDS, assert_files, assert_report, load, result_of};
use support::{CORELANE, Outcome, SMALL_JOURNAL, corelane};

#[test]
fn scenarios_are_listed_run_and_begun_from() {
    let listed = corelane(&["perf", "scenarios", "--format", "json"]);
    listed.assert_code(0);
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let names = listed.as_array().expect("a list").iter();
    let names: Vec<_> = names
        .map(|scenario| scenario["name"].as_str().expect("a name"))
        .collect();
    assert!(
        names.contains(&"partitions") && names.contains(&"catch-up"),
        "{names:?}"
    );

    let printed = corelane(&["perf", "scenarios", "--print", "keyed"]);
    printed.assert_code(0);
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = directory.path().join("mine.toml");
    fs::write(&file, &printed.stdout).expect("a file can be written");
    let (file, out) = (
        file.to_str().expect("Unicode"),
        directory.path().join("out"),
    );
    let arguments = [
        "perf",
        "run",
        file,
        "--duration",
        CLOSED_SECONDS,
        "--format",
        "json",
        "--out",
    ];
    let mut command = Command::new(CORELANE);
    command
        .args(arguments)
        .arg(&out)
        .envs(SMALL_JOURNAL)
        .stdin(Stdio::null());
    let outcome = Outcome::of(command.output().expect("corelane runs"));
    outcome.assert_code(0);
    let outcome: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let runs = outcome["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 2);
    for run in runs {
        let name = run["name"].as_str().expect("a name");
        assert_eq!(run["result"]["durability"], "durable");
        assert_files(&out.join(name), &run["result"]);
    }
    let kept = fs::read(out.join("scenario.json")).expect("scenario.json");
    assert_eq!(
        serde_json::from_slice::<Value>(&kept).expect("JSON"),
        outcome
    );
    let page = fs::read_to_string(out.join("report.html")).expect("report.html");
    for run in runs {
        let name = run["name"].as_str().expect("a name");
        let link = format!("<a href=\"{name}/report.html\">");
        assert!(page.contains(&link), "{link} is not in {page}");
    }
    corelane(&["perf", "report", out.to_str().expect("Unicode")]).assert_code(0);
    assert_eq!(
        fs::read_to_string(out.join("report.html")).expect("again"),
        page
    );
    let elsewhere = directory.path().join("elsewhere");
    let elsewhere = elsewhere.to_str().expect("Unicode");
    corelane(&[
        "perf",
        "report",
        out.to_str().expect("Unicode"),
        "--out",
        elsewhere,
    ])
    .assert_code(0);
    let alone = fs::read_to_string(format!("{elsewhere}/report.html")).expect("there");
    assert!(
        alone.contains("<svg") && !alone.contains("href"),
        "no links to what is not there"
    );
}

#[test]
fn a_scenario_that_cannot_be_is_refused_with_its_line() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = directory.path().join("mine.toml");
    let text =
        "description = \"d\"\n\n[[run]]\nname = \"n\"\ncommand = \"produce\"\nrecord-sise = 1\n";
    fs::write(&file, text).expect("a file can be written");
    let outcome = corelane(&["perf", "run", file.to_str().expect("Unicode")]);
    outcome
        .assert_code(2)
        .assert_error_says(&["mine.toml", "line 6", "record-sise"]);
    fs::write(
        &file,
        text.replace("record-sise = 1", "options = { stages = true }"),
    )
    .expect("a file can be written");
    let file = file.to_str().expect("Unicode");
    corelane(&["perf", "run", file, "--broker", "127.0.0.1:1"])
        .assert_code(2)
        .assert_error_says(&["--stages", "--admin HOST:PORT"]);
    corelane(&["perf", "run", "nothing-like-it"])
        .assert_code(1)
        .assert_error_says(&["nothing-like-it", "perf scenarios"]);
}

#[test]
fn a_sweep_prints_every_rate_that_it_tried() {
    let load = [
        "--duration",
        "0.2",
        "--warm-up",
        "0",
        "--record-size",
        "100",
    ];
    let bounds = ["--p99", "60000", "--rate", "100", "--precision", "1"];
    let out = tempfile::tempdir().expect("a directory can be made");
    let mut command = Command::new(CORELANE);
    // No rate above is possible, whatever the machine: a debug build does not send ten million records a second.
    command
        .args(["perf", "sweep", "--format", "json"])
        .args(load)
        .args(bounds)
        .arg("--out")
        .arg(out.path())
        .envs(SMALL_JOURNAL)
        .stdin(Stdio::null());
    let outcome = Outcome::of(command.output().expect("corelane runs"));
    let swept: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let steps = swept["steps"].as_array().expect("steps");
    assert!(steps.len() > 1, "{swept}");
    let held = steps.iter().filter(|step| step["failed_by"].is_null());
    let highest = held
        .map(|step| step["rate"].as_u64().expect("a rate"))
        .max();
    assert_eq!(swept["highest_rate"].as_u64(), highest);
    assert_eq!(swept["bound"]["p99_us"], 60_000_000);
    let kept = fs::read(out.path().join("sweep.json")).expect("sweep.json");
    assert_eq!(serde_json::from_slice::<Value>(&kept).expect("JSON"), swept);
    let page = fs::read(out.path().join("report.html")).expect("report.html");
    assert_report(out.path(), &["<svg", "the bound of the p99"]);
    let path = out.path().to_str().expect("Unicode");
    corelane(&["perf", "report", path]).assert_code(0);
    assert_eq!(
        fs::read(out.path().join("report.html")).expect("again"),
        page
    );
    // On a machine that stands still no rate holds.
    outcome.assert_code(if highest.is_some() { 0 } else { 1 });

    corelane(&["perf", "sweep", "--p99", "0"])
        .assert_code(2)
        .assert_error_says(&["--p99"]);
    corelane(&["perf", "sweep"])
        .assert_code(2)
        .assert_error_says(&["--p99"]);
}

#[test]
fn results_are_compared_unless_their_loads_differ() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let paths = ["a", "b", "c"].map(|name| directory.path().join(name));
    let [a, b, c] = paths.each_ref().map(|path| path.to_str().expect("Unicode"));
    result_of(&load(&["latency", "--rate", "100", "--out", a]));
    result_of(&load(&["latency", "--rate", "100", "--out", b]));
    result_of(&load(&[
        "latency",
        "--rate",
        "100",
        "--record-size",
        "50",
        "--out",
        c,
    ]));

    let compared = corelane(&[
        "perf",
        "compare",
        a,
        &format!("{b}/result.json"),
        "--format",
        "json",
    ]);
    compared.assert_code(0);
    let compared: Value = serde_json::from_str(&compared.stdout).expect("JSON");
    assert_eq!(
        compared["differences"].as_array().map(Vec::len),
        Some(0),
        "{compared}"
    );
    let figures = compared["figures"].as_array().expect("figures");
    assert!(
        figures
            .iter()
            .any(|figure| figure["name"] == "latency p99, µs"),
        "{compared}"
    );

    let both = directory.path().join("both");
    let both_path = both.to_str().expect("Unicode");
    corelane(&["perf", "compare", a, b, "--out", both_path]).assert_code(0);
    assert_report(&both, &["<svg", "B / A", a, b]);
    let kept: Value =
        serde_json::from_slice(&fs::read(both.join("comparison.json")).expect("comparison.json"))
            .expect("JSON");
    assert_eq!(kept, compared);
    corelane(&["perf", "compare", a, b, "--out", a])
        .assert_code(1)
        .assert_error_says(&["overwritten", "another directory"]);

    assert_rounds(directory.path(), [a, b, c]);
    corelane(&["perf", "compare", a, c])
        .assert_code(1)
        .assert_error_says(&["record_size: 1000 and 50", "--anyway"]);
    let anyway = corelane(&["perf", "compare", a, c, "--anyway"]);
    anyway.assert_code(0);
    assert!(
        anyway.stdout.contains("NOT THE SAME LOAD: record_size"),
        "{}",
        anyway.stdout
    );
    assert!(anyway.stdout.contains("B/A"), "{}", anyway.stdout);
    corelane(&["perf", "compare", a, "/dev/null"])
        .assert_code(1)
        .assert_error_says(&["/dev/null"]);
}

/// Several results in directories of the same names are rounds; here with the two ways round, so that every ratio has
/// its inverse.
#[track_caller]
fn assert_rounds(directory: &Path, [a, b, c]: [&str; 3]) {
    let copy = |from: &str, to: &str| {
        let to = directory.join(to);
        fs::create_dir_all(&to).expect("a directory can be made");
        fs::copy(format!("{from}/result.json"), to.join("result.json")).expect("it can be copied");
    };
    for (from, to) in [(a, "old/1"), (b, "old/2"), (b, "new/1"), (a, "new/2")] {
        copy(from, to);
    }
    let [old, new, out] = ["old", "new", "out"].map(|name| directory.join(name));
    let [old, new, out] = [&old, &new, &out].map(|path| path.to_str().expect("Unicode"));
    let compare = ["perf", "compare", old, new];
    let compared = corelane(&[&compare[..], &["--format", "json", "--out", out]].concat());
    compared.assert_code(0);
    let compared: Value = serde_json::from_str(&compared.stdout).expect("JSON");
    assert_eq!(compared["rounds"], 2);
    let throughput = &compared["figures"][0];
    assert_eq!(throughput["a"], throughput["b"], "the same two results");
    let [least, most] =
        ["ratio_min", "ratio_max"].map(|key| throughput[key].as_f64().expect("a ratio"));
    assert!((least * most - 1.0).abs() < 1e-6, "{throughput}");
    let kept = fs::read(format!("{out}/comparison.json")).expect("comparison.json");
    assert_eq!(
        serde_json::from_slice::<Value>(&kept).expect("JSON"),
        compared
    );
    assert_report(Path::new(out), &["<svg", old, new]);
    let table = corelane(&compare);
    table.assert_code(0);
    assert!(table.stdout.contains("2 rounds"), "{}", table.stdout);
    corelane(&["perf", "compare", a, new])
        .assert_code(1)
        .assert_error_says(&["single result"]);
    copy(c, "new/3");
    corelane(&compare)
        .assert_code(1)
        .assert_error_says(&["only one of", "called 3"]);
    copy(c, "old/3");
    copy(a, "new/3");
    corelane(&compare)
        .assert_code(1)
        .assert_error_says(&["record_size: 50 and 1000", "--anyway"]);
}
