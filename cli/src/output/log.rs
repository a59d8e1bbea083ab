//! Where the broker's log lines go: standard error, whatever becomes of it.
//!
//! A log that nobody can write must not end a broker: the disk behind it may be full, or its reader gone.
//! Lines that cannot be written are counted, and the count is written once that works again.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use corelane_broker::admin::LOG_LINES_LOST;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that were lost since the last one that was written.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Makes the writer of each line.
pub(crate) struct LogLines;

/// Writes one line at a time, and never fails.
pub(crate) struct LogLine<W>(W);

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = LogLine<io::StderrLock<'a>>;

    fn make_writer(&'a self) -> Self::Writer {
        LogLine(io::stderr().lock())
    }
}

impl<W: Write> Write for LogLine<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let lost = LOST.swap(0, Ordering::Relaxed);
        let told = match lost {
            0 => Ok(()),
            lost => writeln!(
                self.0,
                "({lost} log lines before this one could not be written)"
            ),
        };
        if told.and_then(|()| self.0.write_all(line)).is_err() {
            LOG_LINES_LOST.fetch_add(1, Ordering::Relaxed);
            LOST.fetch_add(lost + 1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Disk {
        text: Vec<u8>,
        is_full: bool,
    }

    impl Write for &mut Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.is_full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.text.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lost_lines_are_counted_and_the_count_is_written() {
        let mut disk = Disk {
            text: Vec::new(),
            is_full: false,
        };
        for (line, is_full) in [
            ("1\n", false),
            ("2\n", true),
            ("3\n", true),
            ("4\n", false),
            ("5\n", false),
        ] {
            disk.is_full = is_full;
            LogLine(&mut disk).write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(
            String::from_utf8(disk.text).unwrap(),
            "1\n(2 log lines before this one could not be written)\n4\n5\n"
        );
    }
}
