//! Prints a journal file: its header, and every group whose header is sound.

use std::io::Write;

use super::{DumpError, Input, read_at};
use crate::disk::BLOCK_BYTES;
use crate::journal::{
    FIRST_GROUP, GROUP_HEADER_BYTES, GROUP_SEAL, GroupHeader, JournalHeader, decode_directory,
    verify_part,
};

pub(super) fn dump(
    input: &mut dyn Input,
    start: &[u8],
    out: &mut dyn Write,
) -> Result<(), DumpError> {
    let header = JournalHeader::decode(start).map_err(|_| DumpError::Damaged {
        position: 0,
        what: "the header, or its version is unknown",
    })?;
    writeln!(
        out,
        "journal file {}: store {}, incarnation {}, armed in recovery epoch {}, {} bytes",
        header.number, header.store, header.incarnation, header.recovery_epoch, header.file_bytes
    )?;
    let (mut position, mut has_gap) = (FIRST_GROUP, false);
    loop {
        let block = read_at(input, position, BLOCK_BYTES)?;
        if block.len() < BLOCK_BYTES {
            return Ok(());
        }
        match GroupHeader::decode(header.store, header.incarnation, position, &block) {
            Some((group, checksum)) => {
                has_gap = false;
                dump_group(input, &header, &group, checksum, out)?;
                position += group.padded_length();
            }
            None => {
                if !has_gap {
                    writeln!(out, "no group of this incarnation at {position}")?;
                    has_gap = true;
                }
                position += BLOCK_BYTES as u64;
            }
        }
    }
}

fn dump_group(
    input: &mut dyn Input,
    file: &JournalHeader,
    group: &GroupHeader,
    checksum: u32,
    out: &mut dyn Write,
) -> Result<(), DumpError> {
    debug_assert_eq!(file.incarnation, group.incarnation);
    let kind = if group.flags & GROUP_SEAL != 0 {
        "seal"
    } else {
        "group"
    };
    writeln!(
        out,
        "{kind} at {}: sequence {}, recovery epoch {}, {} bytes, parts {}, durable up to {}, checksum {checksum:08x} \
         after {:08x}",
        group.position,
        group.sequence,
        group.recovery_epoch,
        group.length,
        group.part_count,
        group.durable_upto,
        group.previous_checksum
    )?;
    let bytes = read_at(input, group.position, group.length as usize)?;
    let Some(parts) = decode_directory(group, &bytes) else {
        writeln!(out, "  torn or damaged: the directory")?;
        return Ok(());
    };
    let mut at = GROUP_HEADER_BYTES + group.directory_length();
    for part in parts {
        let range = at..at + part.length as usize;
        at = range.end;
        writeln!(
            out,
            "  part: partition {}, offsets {} to {}, batches {}, {} bytes at {}, leader epoch {}, high watermark {}",
            part.partition,
            part.base_offset,
            part.end_offset,
            part.batch_count,
            part.length,
            part.position,
            part.leader_epoch,
            part.high_watermark
        )?;
        let verified = bytes.get(range).map(|bytes| verify_part(&part, bytes));
        if !matches!(verified, Some(Ok(()))) {
            writeln!(out, "    torn or damaged: {verified:?}")?;
        }
    }
    Ok(())
}
