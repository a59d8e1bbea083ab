//! The forms of a result for other programs: the line of `kafka-producer-perf-test`, JSON, an interval log of
//! HdrHistogram, a time series.

mod hlog;
mod line;
mod series;

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

pub use line::line;

use crate::error::PerfError;
use crate::result::PerfResult;

/// The names of the files in the directory.
pub const RESULT_FILE: &str = "result.json";
/// The interval log of HdrHistogram.
pub const HLOG_FILE: &str = "latency.hlog";
/// The time series.
pub const SERIES_FILE: &str = "series.csv";

/// Makes the directory, so that a run is not made for nothing.
///
/// # Errors
/// `Output` if it cannot be made or written to.
pub fn prepare(directory: &Path) -> Result<(), PerfError> {
    let made = fs::create_dir_all(directory);
    made.map_err(|error| failed(directory, error))?;
    let probe = tempfile::tempfile_in(directory);
    probe.map(drop).map_err(|error| failed(directory, error))
}

/// Writes result.json, latency.hlog and series.csv.
///
/// # Errors
/// `Output` with the file that cannot be written.
pub fn write(directory: &Path, result: &PerfResult) -> Result<(), PerfError> {
    file(directory, RESULT_FILE, |file| {
        serde_json::to_writer_pretty(&mut *file, result)?;
        file.write_all(b"\n")
    })?;
    file(directory, HLOG_FILE, |file| hlog::write(file, result))?;
    file(directory, SERIES_FILE, |file| series::write(file, result))
}

fn file(
    directory: &Path,
    name: &str,
    write: impl FnOnce(&mut BufWriter<fs::File>) -> io::Result<()>,
) -> Result<(), PerfError> {
    let path = directory.join(name);
    let written = fs::File::create(&path).and_then(|file| {
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        file.flush()
    });
    written.map_err(|error| failed(&path, error))
}

fn failed(path: &Path, error: io::Error) -> PerfError {
    let path = path.display().to_string();
    PerfError::Output { path, error }
}
