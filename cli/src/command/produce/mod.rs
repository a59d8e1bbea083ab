//! `corelane produce`: a record per line.
//!
//! Three stages work at the same time: a thread reads lines, [`send`] gives them to the client
//! library, and [`settle`] awaits what the broker says of each. The library's buffer bounds what is
//! under way.

mod line;
mod send;
mod settle;
mod summary;

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::thread;

use clap::Args;
use corelane_client::Producer;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use crate::command::BrokerArguments;
use crate::command::names::{AcksName, CompressionName};
use crate::failure::Failure;
use crate::input::escapes::unescape;
use crate::input::lines::{LineReader, Piece};
use crate::input::null_marker::NullMarker;
use crate::interrupt;
use crate::output::say;
use crate::runtime::{block_on, check_partition, connect_patiently};

#[derive(Debug, Args)]
#[command(after_help = "\
Each line is a record: its value without the newline (a carriage return before it stays). With
--key-separator, what stands before the first separator is the key; a line without a separator has
no key. Records of one key go to one partition and stay in order. A record is in the log once, also
where its answer was lost and it had to be sent again.

With --null-marker, a value that equals TEXT is null: the record has no value, and deletes its key
where the topic is compacted. The value is what the key separator leaves; a key that equals TEXT is
a key like others. An empty TEXT makes empty values null. Without the option no value is null.

Exit code 0 says that every record was acknowledged. A summary goes to standard error.

Examples:
  dmesg | corelane produce kernel --compression zstd
  corelane produce users --file users.tsv --key-separator '\\t' --receipts
  echo 'cake=NULL' | corelane produce prices --key-separator = --null-marker NULL")]
pub(crate) struct Arguments {
    /// The topic's name
    topic: String,

    /// Read this file instead of standard input; - is standard input
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,

    /// Divides key and value of a line; \t stands for a tab
    #[arg(long, value_name = "S", value_parser = parse_separator)]
    key_separator: Option<Separator>,

    /// A value that equals this text is null; \t stands for a tab
    #[arg(long, value_name = "TEXT")]
    null_marker: Option<NullMarker>,

    /// Send to this partition, whatever the key says
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    partition: Option<u32>,

    /// A header of every record; may be repeated
    #[arg(long = "header", value_name = "K=V", value_parser = parse_header)]
    headers: Vec<(String, String)>,

    /// How batches of records are compressed
    #[arg(long, value_enum, value_name = "C", default_value_t = CompressionName::None)]
    compression: CompressionName,

    /// What to wait for: nothing, the leader's disk, or every in-sync replica's
    #[arg(long, value_enum, value_name = "A", default_value_t = AcksName::All)]
    acks: AcksName,

    /// Let a record whose answer was lost be there twice, as a broker needs that gives no producer ids
    #[arg(long)]
    no_idempotence: bool,

    /// Print `LINE_NUMBER PARTITION OFFSET DURABILITY` as each line is acknowledged (with --format
    /// json, an object with these keys in lower case)
    #[arg(long)]
    receipts: bool,

    #[command(flatten)]
    broker: BrokerArguments,
}

/// Bytes that divide key and value.
#[derive(Clone, Debug)]
pub(super) struct Separator(Vec<u8>);

/// Pieces of input that may wait for the client library. It has a buffer of its own behind them.
const PIECES_WAITING_MAX: usize = 4;
/// Batches of outcomes that may wait to be settled.
const OUTCOMES_WAITING_MAX: usize = 1024;

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let (input, input_bytes) = open(arguments.file.as_ref())?;
    block_on(produce(arguments, input, input_bytes))
}

async fn produce(
    arguments: Arguments,
    input: Box<dyn Read + Send>,
    input_bytes: Option<u64>,
) -> Result<(), Failure> {
    let client = connect_patiently(&arguments.broker, "up to 120 s").await?;
    check_partition(&client, &arguments.topic, arguments.partition).await?;
    let producer = build_producer(&client, &arguments).await?;

    let mut interrupted = interrupt::listen()?;
    let progress = progress_bar(input_bytes, arguments.receipts);
    let (piece_sender, pieces) = mpsc::channel(PIECES_WAITING_MAX);
    let (outcome_sender, outcomes) = mpsc::channel(OUTCOMES_WAITING_MAX);
    thread::spawn(move || read_lines(input, &piece_sender));
    let settled = tokio::spawn(settle::settle(
        outcomes,
        arguments.receipts.then_some(arguments.broker.format),
        progress.clone(),
        interrupted.clone(),
    ));
    let sent = tokio::select! {
        sent = send::send(&arguments, &producer, pieces, outcome_sender) => sent,
        _ = interrupt::interrupted(&mut interrupted) => Ok(()),
    };
    let settled = settled.await.expect("settling does not panic");
    progress.finish_and_clear();

    let summary = settled?;
    summary.print(arguments.broker.format);
    sent?;
    summary.outcome()
}

async fn build_producer(
    client: &corelane_client::Client,
    arguments: &Arguments,
) -> Result<Producer, Failure> {
    let producer = client
        .producer()
        .acks(arguments.acks.into())
        .idempotent(!arguments.no_idempotence)
        .compression(arguments.compression.into());
    producer.build().await.map_err(Failure::new)
}

/// The input, and its size if it is a file.
fn open(path: Option<&PathBuf>) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    let Some(path) = path.filter(|path| path.as_os_str() != "-") else {
        if io::stdin().is_terminal() {
            say(format_args!(
                "reading records from the terminal, one a line; end with Ctrl-D"
            ));
        }
        return Ok((Box::new(io::stdin()), None));
    };
    let opened = File::open(path).and_then(|file| {
        let about = file.metadata()?;
        if about.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok((file, about.len()))
    });
    match opened {
        Ok((file, bytes)) => Ok((Box::new(file), Some(bytes))),
        Err(error) => Err(Failure::new(format_args!(
            "cannot read {}: {error}",
            path.display()
        ))),
    }
}

/// Runs on a thread of its own, since reading may block for ever. It ends with the input, or when
/// nobody takes the pieces any more.
fn read_lines(input: Box<dyn Read + Send>, pieces: &mpsc::Sender<io::Result<Piece>>) {
    let mut reader = LineReader::new(input);
    while let Some(piece) = reader.next_piece().transpose() {
        let failed = piece.is_err();
        if pieces.blocking_send(piece).is_err() || failed {
            return;
        }
    }
}

/// A bar of the bytes acknowledged. It shows itself on a terminal only, and not where receipts or
/// typed lines would get in its way.
fn progress_bar(input_bytes: Option<u64>, receipts: bool) -> ProgressBar {
    if receipts || (input_bytes.is_none() && io::stdin().is_terminal()) {
        return ProgressBar::hidden();
    }
    let (bar, template) = match input_bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{bar:32.cyan} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
        ),
        None => (
            ProgressBar::no_length(),
            "{spinner} {binary_bytes}, {binary_bytes_per_sec}",
        ),
    };
    bar.with_style(ProgressStyle::with_template(template).expect("the template is valid"))
}

fn parse_separator(text: &str) -> Result<Separator, String> {
    match unescape(text)? {
        bytes if bytes.is_empty() => Err("a separator has at least one character".to_owned()),
        bytes => Ok(Separator(bytes)),
    }
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a header has the form key=value".to_owned()),
    }
}
