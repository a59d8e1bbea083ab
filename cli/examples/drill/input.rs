//! Real input: every line of the file lists of all installed Debian packages, keyed by package.

use std::process::Command;

/// One line to produce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The package.
    pub(crate) key: String,
    /// A line of its file list.
    pub(crate) value: String,
}

/// What divides key and value on the way to `corelane produce`.
pub(crate) const KEY_SEPARATOR: char = '\t';

/// Reads the lists, in the order in which `dpkg` names the packages, so many times over, at most
/// `lines_max` lines in all.
pub(crate) fn package_file_lists(rounds: usize, lines_max: usize) -> Result<Vec<Line>, String> {
    let names = run(Command::new("dpkg-query").args(["-W", "-f", "${binary:Package}\\n"]))?;
    let packages: Vec<_> = names.lines().collect();
    let lists = run(Command::new("dpkg").arg("-L").args(&packages))?;
    // dpkg divides the packages' lists by empty lines.
    let blocks: Vec<_> = lists.split("\n\n").collect();
    if blocks.len() != packages.len() {
        let (blocks, packages) = (blocks.len(), packages.len());
        return Err(format!(
            "dpkg -L gave {blocks} lists for {packages} packages"
        ));
    }
    let lists = packages.iter().zip(blocks);
    let lines = (0..rounds).flat_map(|round| {
        let lines = lists.clone().flat_map(|(package, list)| {
            list.lines()
                .filter(|line| !line.is_empty())
                .map(move |line| (*package, line))
        });
        lines.map(move |(package, line)| Line {
            key: package.to_owned(),
            value: match round {
                0 => line.replace(KEY_SEPARATOR, " "),
                _ => format!("{} (round {round})", line.replace(KEY_SEPARATOR, " ")),
            },
        })
    });
    let lines: Vec<_> = lines.take(lines_max).collect();
    if lines.is_empty() {
        Err("no package is installed".to_owned())
    } else {
        Ok(lines)
    }
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| {
        format!(
            "cannot run {}: {error}; this drill needs Debian's dpkg",
            command.get_program().display()
        )
    })?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    String::from_utf8(output.stdout).map_err(|error| format!("a file list is no UTF-8: {error}"))
}
