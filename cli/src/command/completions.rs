//! `corelane completions`: prints the script that makes a shell complete our command line.

use std::io::{self, Write};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::CommandLine;
use crate::failure::Failure;

#[derive(Debug, Args)]
#[command(after_help = "\
bash:  corelane completions bash > ~/.local/share/bash-completion/completions/corelane
zsh:   corelane completions zsh > ~/.zfunc/_corelane     (with ~/.zfunc in fpath, before compinit)
fish:  corelane completions fish > ~/.config/fish/completions/corelane.fish

For this shell alone:  source <(corelane completions bash)")]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    // `generate` panics where it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut CommandLine::command(),
        "corelane",
        &mut script,
    );
    let mut output = io::stdout().lock();
    output
        .write_all(&script)
        .and_then(|()| output.flush())
        .map_err(|error| Failure::writing(&error))
}
