//! Help is complete, and wrong use is told apart from failure.

mod support;

use support::corelane;

#[test]
fn every_command_explains_itself() {
    let commands: [&[&str]; 31] = [
        &[],
        &["serve"],
        &["topic"],
        &["topic", "create"],
        &["topic", "list"],
        &["topic", "describe"],
        &["topic", "alter"],
        &["topic", "delete-records"],
        &["topic", "add-partitions"],
        &["topic", "delete"],
        &["produce"],
        &["consume"],
        &["group"],
        &["group", "list"],
        &["group", "describe"],
        &["group", "reset-offsets"],
        &["group", "delete"],
        &["dump"],
        &["completions"],
        &["doctor"],
        &["top"],
        &["perf"],
        &["perf", "produce"],
        &["perf", "consume"],
        &["perf", "latency"],
        &["perf", "end-to-end"],
        &["perf", "run"],
        &["perf", "scenarios"],
        &["perf", "sweep"],
        &["perf", "compare"],
        &["perf", "report"],
    ];
    for command in commands {
        let help = corelane(&[command, &["--help"]].concat());
        help.assert_code(0);
        assert!(help.stdout.contains("Usage: corelane"), "{}", help.stdout);
        let widest = help.stdout.lines().map(|line| line.chars().count()).max();
        assert!(
            widest <= Some(100),
            "{command:?} is {widest:?} wide:\n{}",
            help.stdout
        );
        assert_eq!(help.stderr, "");
    }
    let client_commands: [&[&str]; 13] = [
        &["topic", "delete-records"],
        &["topic", "add-partitions"],
        &["topic", "alter"],
        &["topic", "create"],
        &["topic", "list"],
        &["topic", "describe"],
        &["topic", "delete"],
        &["produce"],
        &["consume"],
        &["group", "list"],
        &["group", "describe"],
        &["group", "reset-offsets"],
        &["group", "delete"],
    ];
    for command in client_commands {
        let help = corelane(&[command, &["--help"]].concat());
        for part in [
            "--broker",
            "CORELANE_BROKER",
            "127.0.0.1:9500",
            "--format",
            "table",
            "json",
        ] {
            assert!(
                help.stdout.contains(part),
                "{command:?} does not explain {part}"
            );
        }
    }
}

#[test]
fn the_version_is_the_packages() {
    let version = corelane(&["--version"]);
    version.assert_code(0);
    assert_eq!(
        version.stdout,
        format!("corelane {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn wrong_use_is_exit_code_2() {
    for arguments in [
        &["nonsense"][..],
        &["topic", "nonsense"],
        &["topic", "create"],
        &["topic", "create", "t", "--partitions", "-1"],
        &["consume", "t", "--max", "-1"],
        &["consume", "t", "--partition", "-1"],
        &["consume"],
        &["consume", "t", "u"],
        &["consume", "--pattern", "t.*"],
        &["consume", "t", "--instance", "i"],
        &["consume", "t", "--group", "g", "--partition", "0"],
        &["consume", "t", "--group", "g", "--reader", "r"],
        &["group"],
        &["group", "describe"],
        &["group", "reset-offsets", "g", "--topic", "t"],
        &["group", "reset-offsets", "g", "--to-latest"],
        &["produce"],
        &["produce", "t", "--key-separator", ""],
        &["produce", "t", "--header", "nonsense"],
        &["consume", "t", "--max", "many"],
        &["consume", "t", "--print", "%"],
        &["topic", "list", "--format", "xml"],
        &["dump"],
        &["completions"],
    ] {
        let outcome = corelane(arguments);
        outcome.assert_code(2);
        assert!(
            outcome.stderr.contains("--help"),
            "{arguments:?}: {}",
            outcome.stderr
        );
        assert_eq!(outcome.stdout, "", "{arguments:?}");
    }
    // The reason is the number, not a flag that would have to be escaped.
    let negative = corelane(&["consume", "t", "--max", "-1"]);
    assert!(!negative.stderr.contains("-- -1"), "{}", negative.stderr);
    negative.assert_error_says(&["invalid value '-1' for '--max"]);
    let nothing = corelane(&[]);
    nothing
        .assert_code(2)
        .assert_error_says(&["serve", "produce", "consume"]);
}
