//! `corelane consume`: prints records, as fast as they come and as soon as they come.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::time::Duration;

use clap::Args;
use corelane_client::{Client, Consumer, Error, OffsetSpec, Records, Start};
use futures_util::FutureExt;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::command::{BrokerArguments, Format};
use crate::failure::Failure;
use crate::input::start::From;
use crate::output::print_format::{PrintFormat, PrintedRecord};
use crate::output::say;
use crate::runtime::{block_on, check_partition, connect_patiently, topic_failure};

#[derive(Debug, Args)]
#[command(after_help = "\
FORMAT is printed for each record, with nothing appended:
  %t topic   %p partition   %o offset   %k key   %v value   %T time in ms since 1970
  \\n newline   \\t tab   %% percent sign   \\\\ backslash
`--print json` (or `--format json`) prints an object per line; bytes that are no UTF-8 appear there
as {\"base64\": \"…\"}, headers too, and null differs from empty. Records of one partition come in order; partitions have no order among them.

Examples:
  corelane consume orders --until-end
  corelane consume orders --from -10 --partition 0 --print '%o %k: %v\\n'
  corelane consume orders --from @2026-01-31T08:00:00+01:00 --until-end
  corelane consume orders --from end --print json | jq .value")]
pub(crate) struct Arguments {
    /// The topic's name
    topic: String,

    /// Where to begin: start, end, an offset, -N for the last N records (of each partition), or @TIME
    /// for the first record at or after a time: 2026-01-31T08:00:00Z, or ms since 1970
    #[arg(
        long,
        value_name = "start|end|OFFSET|-N|@TIME",
        default_value = "start",
        allow_hyphen_values = true
    )]
    from: From,

    /// Read this partition only
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    partition: Option<u32>,

    /// Stop at what is the end now, instead of waiting for more
    #[arg(long)]
    until_end: bool,

    /// Stop after so many records
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    max: Option<u64>,

    /// How each record is printed: a FORMAT, or json [default: the value and a newline]
    #[arg(long, value_name = "FORMAT|json")]
    print: Option<PrintFormat>,

    /// Report what was printed as read by the reader of this name, one of those in the topic's
    /// retention.guard.readers: retention then knows what it has read
    #[arg(long, value_name = "NAME")]
    reader: Option<String>,

    #[command(flatten)]
    broker: BrokerArguments,
}

/// How often a reader's position is reported while there is always more to print.
const REPORT_EVERY: Duration = Duration::from_secs(1);

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    if arguments.max == Some(0) {
        return Ok(());
    }
    block_on(consume(arguments))
}

async fn consume(arguments: Arguments) -> Result<(), Failure> {
    let client = connect_patiently(&arguments.broker, "until it is back").await?;
    let count = check_partition(&client, &arguments.topic, arguments.partition).await?;
    let partitions: Vec<_> = match arguments.partition {
        Some(partition) => vec![partition],
        None => (0..count).collect(),
    };
    let starts = starts(&client, &arguments, &partitions).await?;
    let mut builder = client.consumer().until_end(arguments.until_end);
    for (partition, start) in partitions.iter().zip(starts) {
        builder = builder.assign([(&*arguments.topic, *partition)], start);
    }
    let built = builder.build().await;
    let mut consumer = built.map_err(|error| topic_failure(&arguments.topic, &error))?;

    let progress = progress_bar(&consumer, arguments.until_end).await;
    let form = match (arguments.print, arguments.broker.format) {
        (Some(form), _) => form,
        (None, Format::Json) => PrintFormat::Json,
        (None, Format::Table) => PrintFormat::values_by_line(),
    };
    let mut printer = Printer {
        form,
        output: BufWriter::with_capacity(256 * 1024, io::stdout().lock()),
        left: arguments.max.unwrap_or(u64::MAX),
        progress,
        report: arguments.reader.as_deref().map(|reader| Report {
            client: &client,
            topic: &arguments.topic,
            reader,
            printed: BTreeMap::new(),
            sent: Instant::now(),
        }),
    };
    let outcome = print_all(&mut consumer, &mut printer, partitions.len()).await;
    printer.progress.finish_and_clear();
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
    let topic = &*arguments.topic;
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
    printer: &mut Printer<'_>,
    partitions: usize,
) -> Result<(), Failure> {
    let mut failed = 0;
    while failed < partitions && printer.left > 0 {
        let next = match consumer.next().now_or_never() {
            Some(next) => next,
            None => {
                printer.flush().await?;
                consumer.next().await
            }
        };
        match next {
            Ok(Some(records)) => {
                printer.print(&records)?;
                if printer.is_report_due() {
                    printer.flush().await?;
                }
            }
            Ok(None) => break,
            // The partition goes on by itself.
            Err(error @ Error::LogTruncated { .. }) => printer.warn(&error),
            Err(error) => {
                failed += 1;
                printer.report(&error);
            }
        }
    }
    printer.flush().await?;
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

struct Printer<'a> {
    form: PrintFormat,
    output: BufWriter<StdoutLock<'a>>,
    /// Records that may still be printed.
    left: u64,
    progress: ProgressBar,
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

impl Printer<'_> {
    fn print(&mut self, records: &Records) -> Result<(), Failure> {
        let mut headers = Vec::new();
        let (mut printed, mut last) = (0, None);
        for record in records
            .iter()
            .take(usize::try_from(self.left).unwrap_or(usize::MAX))
        {
            headers.clear();
            headers.extend(record.headers());
            last = Some(record.offset());
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
        if let (Some(report), Some(last)) = (&mut self.report, last) {
            report.printed.insert(records.partition(), last + 1);
        }
        self.left -= printed;
        self.progress.inc(printed);
        Ok(())
    }

    /// Whether what was printed is to be reported although more is there to be printed.
    fn is_report_due(&self) -> bool {
        let report = self.report.as_ref();
        report.is_some_and(|report| report.sent.elapsed() >= REPORT_EVERY)
    }

    /// Writes everything out, and then reports it.
    async fn flush(&mut self) -> Result<(), Failure> {
        self.output
            .flush()
            .map_err(|error| Failure::writing(&error))?;
        match &mut self.report {
            Some(report) => report.send().await,
            None => Ok(()),
        }
    }

    fn warn(&self, error: &Error) {
        self.progress
            .suspend(|| say(format_args!("warning: {error}")));
    }

    fn report(&self, error: &Error) {
        self.progress
            .suspend(|| say(format_args!("error: {error}")));
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
