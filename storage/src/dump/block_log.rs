//! Prints a block log: its header, both superblocks, and every group up to the first that does not follow.

use std::io::Write;

use super::catalogue::{checkpoint_text, record_text};
use super::{DumpError, Input, RecordWords, hex, read_at};
use crate::block_log::BlockLogKind;
use crate::block_log::layout::{FIRST_GROUP, GroupHeader, Header, HeaderDefect, Superblock};
use crate::catalogue::{CatalogueRecord, Checkpoint};
use crate::disk::BLOCK_BYTES;

pub(super) fn dump(
    input: &mut dyn Input,
    start: &[u8],
    out: &mut dyn Write,
    metadata_words: RecordWords<'_>,
) -> Result<(), DumpError> {
    if start.len() < BLOCK_BYTES {
        return Err(DumpError::Damaged {
            position: start.len() as u64,
            what: "the file ends here",
        });
    }
    let header = Header::decode(start).map_err(|defect| match defect {
        HeaderDefect::Damaged(what) => DumpError::Damaged { position: 0, what },
        HeaderDefect::Version(_) => DumpError::Damaged {
            position: 8,
            what: "the format version is unknown",
        },
    })?;
    let Header {
        kind,
        identity,
        incarnation,
    } = header;
    writeln!(
        out,
        "block log: kind {kind:?}, identity {identity}, incarnation {incarnation}"
    )?;
    let newest = dump_superblocks(input, &header, out)?;
    let mut before = Superblock::empty();
    loop {
        let position = before.end;
        match dump_group(input, &header, &before, out, metadata_words)? {
            Ok(reached) => before = reached,
            Err(what) if newest.is_none_or(|end| position < end) => {
                return Err(DumpError::Damaged { position, what });
            }
            Err(_) => {
                writeln!(out, "end at {position}")?;
                return Ok(());
            }
        }
    }
}

/// Prints both superblocks and says where the newest lets the log end.
fn dump_superblocks(
    input: &mut dyn Input,
    header: &Header,
    out: &mut dyn Write,
) -> Result<Option<u64>, DumpError> {
    let mut newest: Option<Superblock> = None;
    for position in (BLOCK_BYTES as u64..FIRST_GROUP).step_by(BLOCK_BYTES) {
        let mut block = read_at(input, position, BLOCK_BYTES)?;
        block.resize(BLOCK_BYTES, 0);
        let Some(superblock) = Superblock::decode(&block, position, header) else {
            writeln!(out, "superblock at {position}: not valid")?;
            continue;
        };
        let Superblock {
            sequence,
            end,
            group_checksum,
            is_clean,
            checkpoint,
        } = &superblock;
        writeln!(
            out,
            "superblock at {position}: sequence {sequence}, end {end}, group checksum {group_checksum:08x}, \
             clean {is_clean}{}",
            checkpoint_clause(header.kind, checkpoint)
        )?;
        if newest
            .as_ref()
            .is_none_or(|newest| newest.sequence < *sequence)
        {
            newest = Some(superblock);
        }
    }
    Ok(newest.map(|superblock| superblock.end))
}

/// Prints the group that follows `before`, or says why there is none.
fn dump_group(
    input: &mut dyn Input,
    header: &Header,
    before: &Superblock,
    out: &mut dyn Write,
    metadata_words: RecordWords<'_>,
) -> Result<Result<Superblock, &'static str>, DumpError> {
    let position = before.end;
    let block = read_at(input, position, BLOCK_BYTES)?;
    if block.len() < BLOCK_BYTES {
        return Ok(Err("the file ends here"));
    }
    let group = match GroupHeader::decode(&block, header, before) {
        Ok(group) => group,
        Err(what) => return Ok(Err(what)),
    };
    let bytes = read_at(input, position, group.padded_length())?;
    if bytes.len() < group.padded_length() {
        return Ok(Err("the file ends within a group"));
    }
    let (reached, records) = match group.decode_body(&bytes, before) {
        Ok(decoded) => decoded,
        Err(what) => return Ok(Err(what)),
    };
    let GroupHeader {
        sequence,
        is_clean,
        record_count,
        ..
    } = group;
    writeln!(
        out,
        "group at {position}: sequence {sequence}, blocks {}, records {record_count}, clean {is_clean}{}",
        bytes.len() / BLOCK_BYTES,
        checkpoint_clause(header.kind, &reached.checkpoint)
    )?;
    for record in records {
        let words = match header.kind {
            BlockLogKind::Catalogue => CatalogueRecord::decode(record)
                .ok()
                .map(|record| record_text(&record)),
            BlockLogKind::Metadata => metadata_words(record),
        };
        let text = words.unwrap_or_else(|| format!("not understood: {}", hex(record)));
        writeln!(out, "  record: {text}")?;
    }
    Ok(Ok(reached))
}

/// What follows about a checkpoint: in words, if it is a catalogue's; in hexadecimal otherwise.
fn checkpoint_clause(kind: BlockLogKind, checkpoint: &[u8]) -> String {
    match (kind, Checkpoint::decode(checkpoint)) {
        _ if checkpoint.is_empty() => String::new(),
        (BlockLogKind::Catalogue, Ok(checkpoint)) => {
            format!("; checkpoint: {}", checkpoint_text(&checkpoint))
        }
        _ => format!("; checkpoint: {}", hex(checkpoint)),
    }
}
