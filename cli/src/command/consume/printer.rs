//! Prints records.

use std::io::{self, BufWriter, StdoutLock, Write};

use corelane_client::{Error, Records};
use indicatif::ProgressBar;

use crate::failure::Failure;
use crate::output::print_format::{PrintFormat, PrintedRecord};
use crate::output::say;

pub(super) struct Printer<'a> {
    form: PrintFormat,
    output: BufWriter<StdoutLock<'a>>,
    /// Records that may still be printed.
    left: u64,
    progress: ProgressBar,
}

impl Printer<'_> {
    /// Prints in this form, at most so many records, and counts them on `progress`.
    pub(super) fn new(form: PrintFormat, max: Option<u64>, progress: ProgressBar) -> Self {
        Self {
            form,
            output: BufWriter::with_capacity(256 * 1024, io::stdout().lock()),
            left: max.unwrap_or(u64::MAX),
            progress,
        }
    }

    /// Whether as many records were printed as were wanted.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Prints as many of the records as are wanted. Gives the offset behind the last one printed.
    pub(super) fn print(&mut self, records: &Records) -> Result<Option<u64>, Failure> {
        let mut headers = Vec::new();
        let (mut printed, mut next) = (0, None);
        for record in records
            .iter()
            .take(usize::try_from(self.left).unwrap_or(usize::MAX))
        {
            headers.clear();
            headers.extend(record.headers());
            next = Some(record.offset() + 1);
            let record = PrintedRecord {
                topic: record.topic(),
                partition: record.partition(),
                offset: record.offset(),
                timestamp_ms: record.timestamp_ms(),
                key: record.key(),
                value: record.value(),
                headers: &headers,
            };
            let written = self.form.write(&mut self.output, record);
            written.map_err(|error| Failure::writing(&error))?;
            printed += 1;
        }
        self.left -= printed;
        self.progress.inc(printed);
        Ok(next)
    }

    /// Writes everything out.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.output
            .flush()
            .map_err(|error| Failure::writing(&error))
    }

    pub(super) fn finish(&self) {
        self.progress.finish_and_clear();
    }

    pub(super) fn warn(&self, error: &Error) {
        self.say(format_args!("warning: {error}"));
    }

    pub(super) fn error(&self, error: &Error) {
        self.say(format_args!("error: {error}"));
    }

    /// Says something on standard error, beside the bar.
    pub(super) fn say(&self, text: std::fmt::Arguments<'_>) {
        self.progress.suspend(|| say(text));
    }
}
