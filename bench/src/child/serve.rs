//! The broker's process: this program, started again.

use std::io::{Read, Write};
use std::path::Path;

use corelane_broker::runtime;

use crate::{BenchError, broker};

/// Serves until standard input ends, and then ends in order. Prints `ready ADDRESS` on standard output.
///
/// # Errors
/// The broker does not start, or does not end in order.
pub fn serve(data_dir: &Path, cpus: &[usize]) -> Result<(), BenchError> {
    let running = runtime::serve(broker::config(data_dir, cpus)?)?;
    let mut output = std::io::stdout();
    let told = writeln!(output, "ready {}", running.bootstrap()).and_then(|()| output.flush());
    told.map_err(BenchError::io("standard output"))?;
    let mut rest = Vec::new();
    // However input ends, it is the end.
    let _ = std::io::stdin().read_to_end(&mut rest);
    running.shutdown_handle().shut_down();
    running.join().map_err(BenchError::Stop)
}
