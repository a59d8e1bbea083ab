//! `corelane dump`: prints a file of a data directory in words.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use corelane_broker::metadata::MetadataRecord;
use corelane_storage::dump::{DumpError, dump_with};

use crate::failure::Failure;

#[derive(Debug, Args)]
#[command(after_help = "\
Any file of a data directory can be given; what it is, its first bytes say. The file is only read,
and may belong to a running broker: what is not written yet is said, and is no error. Where the file
is damaged, everything before the damage is printed and the error names the position.
docs/data_dir.md draws every byte.")]
pub(crate) struct Arguments {
    /// The file
    file: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let name = arguments.file.display();
    if arguments.file.is_dir() {
        return Err(Failure::with_advice(
            format_args!("{name} is a directory"),
            format_args!(
                "give one of its files, such as metadata/log or store-0000/catalogue of a data directory; `find {name} -type f` \
                 lists them"
            ),
        ));
    }
    let file = File::open(&arguments.file)
        .map_err(|error| Failure::new(format_args!("cannot read {name}: {error}")))?;
    let is_empty = file
        .metadata()
        .is_ok_and(|about| about.is_file() && about.len() == 0);
    if is_empty {
        return Err(Failure::new(format_args!("{name} is empty")));
    }
    let mut output = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    let metadata_words = |record: &[u8]| Some(MetadataRecord::decode(record).ok()?.to_string());
    let dumped = dump_with(&mut BufReader::new(file), &mut output, &metadata_words);
    output.flush().map_err(|error| Failure::writing(&error))?;
    dumped.map_err(|error| match error {
        DumpError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
        DumpError::Unknown(_) if arguments.file.file_name().is_some_and(|name| name == "LOCK") => {
            Failure::new(format_args!(
                "{name} only says which process uses the directory (see `cat`); there is nothing to dump"
            ))
        }
        error => Failure::new(format_args!("{name}: {error}")),
    })
}
