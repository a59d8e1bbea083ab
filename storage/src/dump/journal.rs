//! Prints a journal file: its header, every group whose header is sound, and what is damaged.
//!
//! A place without a whole group is damage only if a group of this file says that the one there was durable;
//! otherwise a crash tore it, or it is being written.

use std::io::Write;

use super::{DumpError, Input, read_at};
use crate::disk::BLOCK_BYTES;
use crate::journal::{
    Extent, FIRST_GROUP, GROUP_HEADER_BYTES, GROUP_SEAL, GroupHeader, JournalHeader, PartEntry,
    PartFault, decode_directory, verify_part,
};

/// A place where a whole group should be and is not.
struct Suspect {
    position: u64,
    /// The group that belongs there, by its own header or by the group before.
    sequence: u64,
    what: &'static str,
}

const TORN: &str = "a group that was durable is not whole";

/// What was seen of a file's groups.
#[derive(Default)]
struct Seen {
    /// The newest group with a sound header.
    sequence: u64,
    /// The newest group that is said to be durable.
    durable_upto: u64,
    suspects: Vec<Suspect>,
}

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
    let seen = dump_groups(input, &header, out)?;
    conclude(input, &header, &seen, out)
}

fn dump_groups(
    input: &mut dyn Input,
    header: &JournalHeader,
    out: &mut dyn Write,
) -> Result<Seen, DumpError> {
    let (mut position, mut gap_from) = (FIRST_GROUP, None);
    let mut seen = Seen::default();
    loop {
        let block = read_at(input, position, BLOCK_BYTES)?;
        let decoded = GroupHeader::decode(header.store, header.incarnation, position, &block);
        let is_end = block.len() < BLOCK_BYTES;
        if let Some(from) = gap_from
            && (is_end || decoded.is_some())
        {
            writeln!(
                out,
                "no group of this incarnation from {from} to {position}"
            )?;
            gap_from = None;
        }
        match decoded {
            _ if is_end => {
                if position + (block.len() as u64) < header.file_bytes {
                    return Err(DumpError::Damaged {
                        position: position + block.len() as u64,
                        what: "the file ends here, before the length that its header gives: it was cut off",
                    });
                }
                return Ok(seen);
            }
            Some((group, checksum)) => {
                let is_whole = dump_group(input, &group, checksum, out)?;
                // A recovery discards what was torn and goes on from there with the same numbers, so behind
                // a group with as high a number there is only what was discarded.
                if !is_whole && group.sequence > seen.sequence {
                    seen.suspects.push(Suspect {
                        position,
                        sequence: group.sequence,
                        what: TORN,
                    });
                }
                seen.sequence = seen.sequence.max(group.sequence);
                seen.durable_upto = seen.durable_upto.max(group.durable_upto);
                position += group.padded_length();
            }
            None => {
                if gap_from.is_none() {
                    gap_from = Some(position);
                    // In a file without any group so far, nothing tells which one belongs here.
                    if seen.sequence > 0 {
                        seen.suspects.push(Suspect {
                            position,
                            sequence: seen.sequence + 1,
                            what: "no group where one was durable",
                        });
                    }
                }
                position += BLOCK_BYTES as u64;
            }
        }
    }
}

/// Says what the places without a whole group are.
fn conclude(
    input: &mut dyn Input,
    header: &JournalHeader,
    seen: &Seen,
    out: &mut dyn Write,
) -> Result<(), DumpError> {
    writeln!(
        out,
        "newest group {}, groups known durable here up to {}",
        seen.sequence, seen.durable_upto
    )?;
    for suspect in &seen.suspects {
        let &Suspect {
            position,
            sequence,
            what,
        } = suspect;
        if sequence <= seen.durable_upto {
            // It may have been written since it was read, or the whole file be in use anew.
            if is_whole_by_now(input, header, position)? {
                writeln!(out, "group at {position}: written by now")?;
                continue;
            }
            return Err(DumpError::Damaged { position, what });
        }
        if what == TORN {
            writeln!(
                out,
                "group at {position}: the rest is not written yet, or a crash tore it; nothing here says that it was \
                 durable"
            )?;
        }
    }
    Ok(())
}

fn is_whole_by_now(
    input: &mut dyn Input,
    header: &JournalHeader,
    position: u64,
) -> Result<bool, DumpError> {
    let start = read_at(input, 0, BLOCK_BYTES)?;
    if JournalHeader::decode(&start).ok() != Some(*header) {
        return Ok(true);
    }
    let block = read_at(input, position, BLOCK_BYTES)?;
    match GroupHeader::decode(header.store, header.incarnation, position, &block) {
        Some((group, _)) => dump_group(input, &group, 0, &mut std::io::sink()),
        None => Ok(false),
    }
}

/// Prints a group and says whether it is whole.
fn dump_group(
    input: &mut dyn Input,
    group: &GroupHeader,
    checksum: u32,
    out: &mut dyn Write,
) -> Result<bool, DumpError> {
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
        writeln!(out, "  not whole: the directory")?;
        return Ok(false);
    };
    let mut is_whole = true;
    let mut at = GROUP_HEADER_BYTES + group.directory_length();
    for part in parts {
        let range = at..at + part.length as usize;
        at = range.end;
        is_whole &= dump_part(&part, bytes.get(range), out)?;
    }
    Ok(is_whole)
}

/// Prints a part and says whether it is whole.
fn dump_part(
    part: &PartEntry,
    bytes: Option<&[u8]>,
    out: &mut dyn Write,
) -> Result<bool, DumpError> {
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
    let verified = bytes.map(|bytes| verify_part(part, bytes));
    let is_whole = matches!(verified, Some(Ok(())));
    match verified {
        Some(Ok(())) => {
            if let Some(extent) = bytes.and_then(|bytes| Extent::decode(part, bytes)) {
                writeln!(
                    out,
                    "    in the segment's file, incarnation {:#x}: {} bytes of batches from byte {} on",
                    extent.incarnation, extent.length, part.position.at
                )?;
            }
        }
        Some(Err(PartFault::DamagedExtent(reason) | PartFault::Lost(reason))) => {
            writeln!(out, "    not whole: {reason}")?;
        }
        Some(Err(PartFault::Damaged(at, reason))) => {
            writeln!(out, "    not whole: {reason}, {at} bytes into the part")?;
        }
        Some(Err(PartFault::Unsupported(flags))) => {
            writeln!(
                out,
                "    not understood: flags {flags:#x} of a newer version"
            )?;
        }
        None => writeln!(out, "    not whole: the file ends before")?,
    }
    Ok(is_whole)
}
