//! Gives lines to the client library: by the batch call, or one by one when each line's receipt is
//! wanted as soon as it is there.

use std::io;

use corelane_client::{BatchDelivery, Delivery, Error, Producer, Record, RecordRef};
use tokio::sync::mpsc;

use super::Arguments;
use super::line::{Line, LineForm};
use crate::failure::Failure;
use crate::input::lines::Piece;
use crate::runtime::topic_failure;

/// Lines under way.
#[derive(Debug)]
pub(super) enum Sent {
    /// A whole piece of the input.
    Piece {
        piece: Piece,
        delivery: BatchDelivery,
    },
    /// One line, numbered from 1, and how long it is.
    Line {
        number: u64,
        bytes: u64,
        delivery: Delivery,
    },
    /// A line that the client library did not take.
    Refused { number: u64, error: Error },
}

impl Sent {
    /// How many lines these are.
    pub(super) fn lines(&self) -> u64 {
        match self {
            Self::Piece { piece, .. } => piece.lines().count() as u64,
            Self::Line { .. } | Self::Refused { .. } => 1,
        }
    }
}

/// Sends every piece until the input ends.
pub(super) async fn send(
    arguments: &Arguments,
    producer: &Producer,
    mut pieces: mpsc::Receiver<io::Result<Piece>>,
    sent: mpsc::Sender<Sent>,
) -> Result<(), Failure> {
    let headers: Vec<_> = arguments
        .headers
        .iter()
        .map(|(key, value)| (key.as_str(), Some(value.as_bytes())))
        .collect();
    let sender = Sender {
        topic: &arguments.topic,
        form: LineForm::new(arguments),
        partition: arguments.partition,
        headers: &headers,
        producer,
        sent,
    };
    while let Some(piece) = pieces.recv().await {
        let piece =
            piece.map_err(|error| Failure::new(format_args!("cannot read input: {error}")))?;
        let taken = if arguments.receipts {
            sender.line_by_line(&piece).await
        } else {
            sender.whole(piece).await
        };
        match taken {
            Ok(()) => {}
            // Settling has ended, and says why itself.
            Err(Stop::NobodySettles) => return Ok(()),
            Err(Stop::Client(error)) => return Err(topic_failure(&arguments.topic, &error)),
        }
    }
    Ok(())
}

/// Why no further line is sent.
enum Stop {
    NobodySettles,
    Client(Error),
}

struct Sender<'a> {
    topic: &'a str,
    form: LineForm<'a>,
    partition: Option<u32>,
    headers: &'a [(&'a str, Option<&'a [u8]>)],
    producer: &'a Producer,
    sent: mpsc::Sender<Sent>,
}

impl Sender<'_> {
    async fn whole(&self, piece: Piece) -> Result<(), Stop> {
        let records = piece.lines().map(|line| self.record(line));
        let delivery = self
            .producer
            .send_batch(self.topic, records)
            .await
            .map_err(Stop::Client)?;
        self.pass_on(Sent::Piece { piece, delivery }).await
    }

    async fn line_by_line(&self, piece: &Piece) -> Result<(), Stop> {
        for (number, line) in (piece.first_number()..).zip(piece.lines()) {
            let Line { key, value } = self.form.read(line);
            let mut record = Record::to(self.topic);
            if let Some(key) = key {
                record = record.key(key);
            }
            if let Some(value) = value {
                record = record.value(value);
            }
            if let Some(partition) = self.partition {
                record = record.partition(partition);
            }
            for (name, value) in self.headers {
                record = record.header(*name, value.unwrap_or_default());
            }
            let bytes = line.len() as u64;
            let outcome = match self.producer.send(record).await {
                Ok(delivery) => Sent::Line {
                    number,
                    bytes,
                    delivery,
                },
                Err(error @ Error::RecordTooLarge { .. }) => Sent::Refused { number, error },
                Err(error) => return Err(Stop::Client(error)),
            };
            self.pass_on(outcome).await?;
        }
        Ok(())
    }

    async fn pass_on(&self, sent: Sent) -> Result<(), Stop> {
        self.sent.send(sent).await.map_err(|_| Stop::NobodySettles)
    }

    fn record<'l>(&'l self, line: &'l [u8]) -> RecordRef<'l> {
        let Line { key, value } = self.form.read(line);
        let record = value.map_or_else(RecordRef::tombstone, RecordRef::value);
        let mut record = record.headers(self.headers);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(partition) = self.partition {
            record = record.partition(partition);
        }
        record
    }
}
