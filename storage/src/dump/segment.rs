//! Prints a segment file: its header, every batch, and where what is written ends.

use std::io::Write;

use corelane_protocol::TopicPartition;
use corelane_protocol::batch::{BatchHeader, PREFIX_LEN, Stamp, is_padding};

use super::rest::rest_of;
use super::{DumpError, Input, read_at};
use crate::layout::{BLOCK, block_ceiling};
use crate::position::SEGMENT_DATA;
use crate::segment::SegmentHeader;
use crate::segment::batches::{Check, Found, find};

/// How often a place is read again that changes while it is read: a broker may be writing there.
const REREADS_MAX: usize = 100;

pub(super) fn dump(
    input: &mut dyn Input,
    start: &[u8],
    out: &mut dyn Write,
) -> Result<(), DumpError> {
    let header = SegmentHeader::decode(start).map_err(|_| DumpError::Damaged {
        position: 0,
        what: "the header, or its version is unknown",
    })?;
    writeln!(
        out,
        "segment: partition {}, base offset {}, store {}, incarnation {:#x}",
        header.partition, header.base_offset, header.store, header.incarnation
    )?;
    let (mut position, mut zeros_from, mut rereads) = (SEGMENT_DATA, None, 0);
    loop {
        let (bytes, found) = look(input, header.partition, position)?;
        match found {
            Found::Padding(next) => {
                zeros_from.get_or_insert(position);
                position = next;
            }
            Found::Batch(batch) => {
                if let Some(from) = zeros_from.take() {
                    writeln!(out, "padding from {from} to {position}")?;
                }
                dump_batch(position, &bytes, out)?;
                position += u64::from(batch.length);
            }
            _ if bytes.is_empty() => return end(zeros_from, position, out),
            Found::Incomplete(_) | Found::Damaged(_) => {
                let verdict = judge(input, &header, position, &bytes)?;
                // What was zeros, or half a batch, may have been written in the meantime.
                let from = zeros_from.unwrap_or(position);
                if rereads < REREADS_MAX
                    && has_changed(input, header.partition, from, position, &bytes)?
                {
                    (position, zeros_from, rereads) = (from, None, rereads + 1);
                    continue;
                }
                if let Some(from) = zeros_from {
                    writeln!(out, "padding from {from} to {position}")?;
                }
                return match verdict {
                    Verdict::Gap(text, next) => {
                        writeln!(out, "at {position}: {text}")?;
                        position = next;
                        continue;
                    }
                    Verdict::NotWritten(text) => Ok(writeln!(out, "at {position}: {text}")?),
                    Verdict::Damaged(what) => {
                        writeln!(out, "at {position}: {found:?}")?;
                        Err(DumpError::Damaged { position, what })
                    }
                };
            }
        }
    }
}

/// What lies at a place, and the bytes that say so.
fn look(
    input: &mut dyn Input,
    partition: TopicPartition,
    position: u64,
) -> Result<(Vec<u8>, Found), DumpError> {
    let mut len = BLOCK as usize;
    loop {
        let bytes = read_at(input, position, len)?;
        match find(partition, position, &bytes, Check::Whole) {
            // First the header may need more than was read, and then the batch.
            Found::Incomplete(needed) if bytes.len() == len && needed > len => len = needed,
            found => return Ok((bytes, found)),
        }
    }
}

/// Whether the zeros from `from` on, or the bytes at `position`, are others by now.
fn has_changed(
    input: &mut dyn Input,
    partition: TopicPartition,
    from: u64,
    position: u64,
    before: &[u8],
) -> Result<bool, DumpError> {
    let zeros = from < position && matches!(look(input, partition, from)?.1, Found::Padding(_));
    Ok((from < position && !zeros) || look(input, partition, position)?.0 != before)
}

/// What a place is at which no sound batch begins.
enum Verdict {
    /// The file is written up to here; what comes is still in the journal only.
    NotWritten(String),
    /// The same, but behind what is not written a group has written something: where to look for it.
    Gap(String, u64),
    Damaged(&'static str),
}

/// Segments are written in whole blocks, and a batch may go beyond what is written: then there are zeros or
/// nothing from the block on in which it is cut, as far as groups have written nothing behind it. Where it is cut can
/// only be told if its header is there.
fn judge(
    input: &mut dyn Input,
    header: &SegmentHeader,
    position: u64,
    bytes: &[u8],
) -> Result<Verdict, DumpError> {
    let rest = rest_of(input, position)?;
    if !rest.file_end.is_multiple_of(BLOCK) {
        return Ok(Verdict::Damaged(
            "no whole batch, and the file ends within a block: it was cut off",
        ));
    }
    let batch_bytes = match (BatchHeader::parse(bytes), Stamp::read(bytes)) {
        (Ok(batch), Ok(stamp)) if stamp.topic_partition() == header.partition => {
            Some(u64::from(batch.total_length))
        }
        _ => None,
    };
    let needed = batch_bytes.unwrap_or(PREFIX_LEN as u64);
    let what = |here: u64| match batch_bytes {
        Some(batch_bytes) => {
            format!("{here} bytes of a batch of {batch_bytes}: the rest is not written yet")
        }
        None => format!("{here} bytes of a batch: the rest is not written yet"),
    };
    if is_padding(bytes) || rest.written_end >= position + needed {
        let batch_end = block_ceiling(position + needed);
        let batch = read_at(input, position, (batch_end - position) as usize)?;
        let written = batch.iter().rposition(|byte| *byte != 0);
        let cut = block_ceiling(written.map_or(position, |last| position + last as u64 + 1));
        // A segment that takes no more has no room behind its data, and no gaps.
        let takes_more = rest.written_end < rest.file_end;
        if takes_more && !is_padding(bytes) && cut < position + needed {
            return Ok(Verdict::Gap(what(cut - position), batch_end));
        }
        return Ok(Verdict::Damaged(
            "no sound batch (legal only beyond what the catalogue says is flushed)",
        ));
    }
    Ok(Verdict::NotWritten(what(rest.written_end - position)))
}

fn end(zeros_from: Option<u64>, position: u64, out: &mut dyn Write) -> Result<(), DumpError> {
    if let Some(from) = zeros_from {
        writeln!(
            out,
            "zeros from {from} to the end of the file at {position}"
        )?;
    }
    if position.is_multiple_of(BLOCK) {
        return Ok(());
    }
    Err(DumpError::Damaged {
        position,
        what: "the file ends within a block: it was cut off",
    })
}

fn dump_batch(position: u64, bytes: &[u8], out: &mut dyn Write) -> Result<(), DumpError> {
    let (Ok(stamp), Ok(header)) = (Stamp::read(bytes), BatchHeader::parse(bytes)) else {
        return Err(DumpError::Damaged {
            position,
            what: "a batch",
        });
    };
    writeln!(
        out,
        "batch at {position}: offsets {} to {}, records {}, {} bytes, compression {}, leader epoch {}, appended {}, \
         crc {:08x}",
        stamp.base_offset,
        stamp.base_offset.advance(header.offsets_taken()),
        header.record_count,
        header.total_length,
        header.compression,
        stamp.leader_epoch,
        stamp.append_time,
        header.crc
    )?;
    Ok(())
}
