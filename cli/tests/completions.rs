//! The completion scripts know the commands, and the shell that is here takes them.

mod support;

use std::process::Command;

use support::{CORELANE, corelane};

#[test]
fn every_shell_gets_a_script_that_knows_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = corelane(&["completions", shell]);
        script.assert_code(0);
        for word in ["serve", "topic", "describe", "until-end", "reset-offsets"] {
            assert!(script.stdout.contains(word), "{shell} does not know {word}");
        }
    }
    corelane(&["completions", "tcsh"])
        .assert_code(2)
        .assert_error_says(&["tcsh", "bash", "zsh", "fish"]);
}

#[test]
fn bash_completes_commands_and_options() {
    let complete = |words: &[&str]| {
        let script = r#"
            source <("$0" completions bash)
            COMP_WORDS=(corelane "$@") COMP_CWORD=$#
            _corelane corelane "${!#}" "${COMP_WORDS[$#-1]}"
            printf '%s\n' "${COMPREPLY[@]}"
        "#;
        let output = Command::new("bash")
            .args(["-euc", script, CORELANE])
            .args(words)
            .output()
            .expect("bash runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("completions are text")
    };
    assert_eq!(complete(&["pro"]), "produce\n");
    assert_eq!(
        complete(&["topic", "de"]),
        "describe\ndelete-records\ndelete\n"
    );
    assert_eq!(complete(&["consume", "--unt"]), "--until-end\n");
    assert_eq!(complete(&["group", "res"]), "reset-offsets\n");
}
