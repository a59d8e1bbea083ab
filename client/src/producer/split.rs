//! Taking a batch apart that is larger than its topic takes.
//!
//! That happens when a topic's limit is lowered while batches are on their way, and where a record does
//! not shrink as much as was hoped. Owns: which records stay together. Never: changes their order.

use std::sync::Arc;

use corelane_protocol::batch::{
    BatchBuilder, DecompressLimit, PREFIX_LEN, PushError, RecordBatch, RecordRef,
};

use super::accumulator::{Content, SealedBatch, SlotId, Ticket};
use super::builders::Builders;
use super::engine::{Effect, Engine};
use super::order::Part;
use crate::error::{Error, Result};

/// What becomes of consecutive records of a batch.
enum Piece {
    /// They make a batch of their own.
    Batch(Box<BatchBuilder>),
    /// One record, which no batch can hold.
    TooLarge { bytes: u64 },
}

impl Piece {
    fn record_count(&self) -> u32 {
        match self {
            Self::Batch(builder) => {
                u32::try_from(builder.len()).expect("a batch counts its records by 32 bits")
            }
            Self::TooLarge { .. } => 1,
        }
    }
}

/// The sizes of the batches that another one is split into, in bytes before compression.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Of a batch with several records.
    several_max: u32,
    /// Of a batch with one record.
    alone_max: u32,
}

impl Engine {
    /// Splits the batch whose turn it is, so that each part is within what its topic takes. A record
    /// that exceeds that by itself is refused, and the others go on in order.
    pub(super) fn split_front(&mut self, id: SlotId) {
        let state = self.slots[id].as_mut().expect("it has a batch");
        let topic = Arc::clone(&state.slot.topic);
        let topic_bytes_max = state.slot.lock().batch_bytes_max();
        let Some((batch, vacancy)) = state.order.take_front() else {
            return;
        };
        let bytes = batch
            .body
            .into_bytes()
            .expect("only sizes that are known are too large")
            .to_aligned();
        let records = RecordBatch::parse_unstamped(&bytes[..], &DecompressLimit::default())
            .expect("a batch of ours");
        let too_large = |bytes| Error::RecordTooLarge {
            topic: topic.to_string(),
            bytes,
            bytes_max: u64::from(topic_bytes_max),
        };
        let what = format!("produce to {topic}-{}", state.slot.partition);
        let was_in_doubt = vacancy.maybe_written;
        let in_doubt = |error: Error| match was_in_doubt {
            true => Error::RefusedInDoubt {
                what: what.clone(),
                cause: Box::new(error),
            },
            false => error,
        };
        let sizes = sizes(&records, topic_bytes_max, &self.builders);
        let pieces = match records.record_count() {
            1 => Err(too_large(bytes.len() as u64)),
            _ => cut(&records, sizes, &self.builders),
        };
        let pieces = match pieces {
            Ok(pieces) => pieces,
            Err(error) => {
                let none = Part {
                    batch: None,
                    record_count: records.record_count(),
                };
                state.order.put_front(vacancy, vec![none]);
                return self.give_up(batch.ticket, in_doubt(error));
            }
        };
        tracing::debug!(%topic, bytes = bytes.len(), topic_bytes_max, pieces = pieces.len(), "split a batch");
        let tickets = share(batch.ticket, &pieces);
        let mut parts = Vec::new();
        for (piece, ticket) in pieces.into_iter().zip(tickets) {
            let record_count = piece.record_count();
            let batch = match piece {
                Piece::Batch(builder) => {
                    let sealed = SealedBatch {
                        content: Content::Records(builder),
                        ticket,
                        guess: None,
                    };
                    Some(self.begin(id, sealed))
                }
                Piece::TooLarge { bytes } => {
                    self.give_up(ticket, in_doubt(too_large(bytes)));
                    None
                }
            };
            parts.push(Part {
                batch,
                record_count,
            });
        }
        let state = self.slots[id].as_mut().expect("it had a batch");
        state.order.put_front(vacancy, parts);
    }

    /// Tells that a batch which is in no partition's order any more will not be sent.
    fn give_up(&mut self, ticket: Ticket, error: Error) {
        self.effects.push(Effect::Settle {
            completer: ticket.completer,
            buffer_bytes: ticket.buffer_bytes,
            bytes: None,
            result: Err(error),
        });
    }
}

/// The sizes that fit a topic. Where the whole batch should have fitted and was refused all the same,
/// what the topic takes is not known, and half of it is tried.
fn sizes(records: &RecordBatch<&[u8]>, topic_bytes_max: u32, builders: &Builders) -> Sizes {
    if records.as_bytes().len() > topic_bytes_max as usize {
        return Sizes {
            several_max: topic_bytes_max,
            alone_max: builders.alone_bytes_max(topic_bytes_max),
        };
    }
    let plain_bytes = PREFIX_LEN as u32 + records.header().uncompressed_length;
    Sizes {
        several_max: plain_bytes / 2,
        alone_max: u32::MAX,
    }
}

/// Puts the records of a batch into smaller ones, in order.
fn cut(records: &RecordBatch<&[u8]>, sizes: Sizes, builders: &Builders) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut open: Option<Box<BatchBuilder>> = None;
    for record in records.records() {
        let headers: Vec<_> = record.headers().collect();
        let item = RecordRef {
            key: record.key,
            value: record.value,
            headers: &headers,
            timestamp: record.timestamp,
        };
        if let Some(builder) = &mut open {
            if builder.try_push(item).is_ok() {
                continue;
            }
            pieces.extend(open.take().map(Piece::Batch));
        }
        let mut builder = builders.take(sizes.several_max)?;
        match builder.try_push(item) {
            Ok(_) => open = Some(builder),
            Err(PushError::RecordTooLarge { bytes, .. }) => {
                builders.give_back(builder);
                if bytes > sizes.alone_max as usize {
                    let bytes = bytes as u64;
                    pieces.push(Piece::TooLarge { bytes });
                    continue;
                }
                let mut alone = builders.large(sizes.alone_max)?;
                alone.try_push(item).expect("it was held against this size");
                pieces.push(Piece::Batch(alone));
            }
            Err(error) => unreachable!("it was in a batch before: {error}"),
        }
    }
    pieces.extend(open.map(Piece::Batch));
    Ok(pieces)
}

/// What each piece carries along: its part of the outcome and of the producer's buffer.
fn share(ticket: Ticket, pieces: &[Piece]) -> Vec<Ticket> {
    let records: u32 = pieces.iter().map(Piece::record_count).sum();
    let each = ticket.buffer_bytes / records.max(1) as usize;
    let mut left = ticket.buffer_bytes;
    let completers = ticket
        .completer
        .split(pieces.iter().map(Piece::record_count));
    let mut tickets: Vec<Ticket> = pieces
        .iter()
        .zip(completers)
        .map(|(piece, completer)| {
            let buffer_bytes = each * piece.record_count() as usize;
            left -= buffer_bytes;
            Ticket {
                completer,
                completion: ticket.completion.clone(),
                opened_at: ticket.opened_at,
                buffer_bytes,
            }
        })
        .collect();
    if let Some(last) = tickets.last_mut() {
        last.buffer_bytes += left;
    }
    tickets
}
