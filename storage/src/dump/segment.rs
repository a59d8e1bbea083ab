//! Prints a segment file: its header, and every batch.

use std::io::Write;

use corelane_protocol::batch::{BatchHeader, PREFIX_LEN, Stamp};

use super::{DumpError, Input, read_at};
use crate::layout::BLOCK;
use crate::position::SEGMENT_DATA;
use crate::segment::SegmentHeader;
use crate::segment::batches::{Check, Found, find};

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
    let mut position = SEGMENT_DATA;
    let mut padding_from = None;
    loop {
        let mut bytes = read_at(input, position, BLOCK as usize)?;
        if bytes.is_empty() {
            end_padding(&mut padding_from, position, out)?;
            return Ok(());
        }
        let mut found = find(header.partition, position, &bytes, Check::Whole);
        if let Found::Incomplete(needed) = found {
            bytes = read_at(input, position, needed.max(PREFIX_LEN))?;
            found = find(header.partition, position, &bytes, Check::Whole);
        }
        if let Found::Incomplete(needed) = found {
            bytes = read_at(input, position, needed)?;
            found = find(header.partition, position, &bytes, Check::Whole);
        }
        match found {
            Found::Padding(next) => {
                padding_from.get_or_insert(position);
                position = next;
            }
            Found::Batch(batch) => {
                end_padding(&mut padding_from, position, out)?;
                dump_batch(position, &bytes, out)?;
                position += u64::from(batch.length);
            }
            Found::Incomplete(_) | Found::Damaged(_) => {
                end_padding(&mut padding_from, position, out)?;
                writeln!(out, "at {position}: {found:?}")?;
                return Err(DumpError::Damaged {
                    position,
                    what: "no sound batch (legal only beyond what was flushed)",
                });
            }
        }
    }
}

fn end_padding(
    from: &mut Option<u64>,
    position: u64,
    out: &mut dyn Write,
) -> Result<(), DumpError> {
    if let Some(from) = from.take() {
        writeln!(out, "padding from {from} to {position}")?;
    }
    Ok(())
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
