//! Reads partitions of one topic, without a group.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::Duration;

use corelane_client::{Client, Consumer, Error, OffsetSpec, Records, Start};
use futures_util::FutureExt;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::Arguments;
use super::printer::Printer;
use crate::failure::Failure;
use crate::input::start::From;
use crate::runtime::{check_partition, connect_patiently, topic_failure};

/// How often a reader's position is reported while there is always more to print.
const REPORT_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn consume(arguments: Arguments) -> Result<(), Failure> {
    let client = connect_patiently(&arguments.broker, "until it is back").await?;
    let topic = &*arguments.topics[0];
    let count = check_partition(&client, topic, arguments.partition).await?;
    let partitions: Vec<_> = match arguments.partition {
        Some(partition) => vec![partition],
        None => (0..count).collect(),
    };
    let starts = starts(&client, &arguments, &partitions).await?;
    let mut builder = client.consumer().until_end(arguments.until_end);
    for (partition, start) in partitions.iter().zip(starts) {
        builder = builder.assign([(topic, *partition)], start);
    }
    let built = builder.build().await;
    let mut consumer = built.map_err(|error| topic_failure(topic, &error))?;

    let progress = progress_bar(&consumer, arguments.until_end).await;
    let mut output = Output {
        printer: Printer::new(arguments.form(), arguments.max, progress),
        report: arguments.reader.as_deref().map(|reader| Report {
            client: &client,
            topic,
            reader,
            printed: BTreeMap::new(),
            sent: Instant::now(),
        }),
    };
    let outcome = print_all(&mut consumer, &mut output, partitions.len()).await;
    output.printer.finish();
    outcome
}

/// Where each partition begins. An offset that one partition does not have is an error where that
/// partition was asked for; where all were, its nearest end is meant.
async fn starts(
    client: &Client,
    arguments: &Arguments,
    partitions: &[u32],
) -> Result<Vec<Start>, Failure> {
    let offset = match arguments.from {
        From::Start => return Ok(vec![Start::Earliest; partitions.len()]),
        From::End => return Ok(vec![Start::Latest; partitions.len()]),
        From::Time(ms) => return Ok(vec![Start::Timestamp(ms); partitions.len()]),
        From::Last(count) => return Ok(vec![Start::Last(count); partitions.len()]),
        From::Offset(offset) => offset,
    };
    let topic = &*arguments.topics[0];
    let ask = async |spec| {
        let asked = partitions.iter().map(|partition| (topic, *partition, spec));
        let listed = client.admin().list_offsets(asked).await;
        listed.map_err(|error| topic_failure(topic, &error))
    };
    let (earliest, latest) = (
        ask(OffsetSpec::Earliest).await?,
        ask(OffsetSpec::Latest).await?,
    );
    let bounds = earliest
        .iter()
        .zip(&latest)
        .map(|(first, next)| (first.offset, next.offset));
    let bounds: Vec<_> = bounds.collect();
    if bounds.iter().all(|(_, next)| *next < offset) {
        let most = bounds.iter().map(|(_, next)| *next).max().unwrap_or(0);
        return Err(Failure::with_advice(
            format_args!("topic '{topic}' has no offset {offset}"),
            match arguments.partition {
                Some(_) => format!("the partition's next record will have {most}"),
                None => format!("the next record of its longest partition will have {most}"),
            },
        ));
    }
    let starts = bounds.into_iter().map(|(first, next)| {
        if arguments.partition.is_some() && !(first..=next).contains(&offset) {
            return Err(Failure::with_advice(
                format_args!(
                    "partition {} of topic '{topic}' has no offset {offset}",
                    partitions[0]
                ),
                format_args!("its first offset is {first}, and its next record will have {next}"),
            ));
        }
        Ok(Start::Offset(offset.clamp(first, next)))
    });
    starts.collect()
}

/// Prints until the end, the limit, or for ever. A partition that fails is reported, and the others
/// go on.
async fn print_all(
    consumer: &mut Consumer,
    output: &mut Output<'_>,
    partitions: usize,
) -> Result<(), Failure> {
    let mut failed = 0;
    while failed < partitions && !output.printer.is_done() {
        let next = match consumer.next().now_or_never() {
            Some(next) => next,
            None => {
                output.flush().await?;
                consumer.next().await
            }
        };
        match next {
            Ok(Some(records)) => {
                output.print(&records)?;
                if output.is_report_due() {
                    output.flush().await?;
                }
            }
            Ok(None) => break,
            // The partition goes on by itself.
            Err(error @ Error::LogTruncated { .. }) => output.printer.warn(&error),
            Err(error) => {
                failed += 1;
                output.printer.error(&error);
            }
        }
    }
    output.flush().await?;
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

/// Records that are printed, and reported as read if the command line wants it.
struct Output<'a> {
    printer: Printer<'a>,
    /// Under which name it is reported what was printed, if it is.
    report: Option<Report<'a>>,
}

/// What a reader of this name has printed.
struct Report<'a> {
    client: &'a Client,
    topic: &'a str,
    reader: &'a str,
    /// Where reading goes on behind what was printed and not reported, by partition.
    printed: BTreeMap<u32, u64>,
    sent: Instant,
}

impl Report<'_> {
    /// Reports what was printed, which has been written out.
    async fn send(&mut self) -> Result<(), Failure> {
        self.sent = Instant::now();
        if self.printed.is_empty() {
            return Ok(());
        }
        let positions = std::mem::take(&mut self.printed).into_iter();
        let positions = positions.map(|(partition, offset)| (self.topic, partition, offset));
        let admin = self.client.admin();
        let reported = admin.report_positions(self.reader, positions).await;
        reported.map_err(|error| topic_failure(self.topic, &error))
    }
}

impl Output<'_> {
    fn print(&mut self, records: &Records) -> Result<(), Failure> {
        let next = self.printer.print(records)?;
        if let (Some(report), Some(next)) = (&mut self.report, next) {
            report.printed.insert(records.partition(), next);
        }
        Ok(())
    }

    /// Whether what was printed is to be reported although more is there to be printed.
    fn is_report_due(&self) -> bool {
        let report = self.report.as_ref();
        report.is_some_and(|report| report.sent.elapsed() >= REPORT_EVERY)
    }

    /// Writes everything out, and then reports it.
    async fn flush(&mut self) -> Result<(), Failure> {
        self.printer.flush()?;
        match &mut self.report {
            Some(report) => report.send().await,
            None => Ok(()),
        }
    }
}

/// A bar of the records read, where a person watches a long read into a file or a pipe.
async fn progress_bar(consumer: &Consumer, until_end: bool) -> ProgressBar {
    if io::stdout().is_terminal() || !io::stderr().is_terminal() || !until_end {
        return ProgressBar::hidden();
    }
    // Only the bar needs the ends here, so a failure to ask for them leaves a bar without length.
    let ends = consumer.end_offsets().await.unwrap_or_default();
    let total: u64 = ends
        .iter()
        .map(|(topic, partition, end)| {
            end.saturating_sub(consumer.position(topic, *partition).unwrap_or(*end))
        })
        .sum();
    let template = "{bar:32.cyan} {human_pos} of {human_len} records, {per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    ProgressBar::new(total).with_style(style)
}
