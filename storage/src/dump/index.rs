//! Prints an index file: the entries of every block.

use std::io::Write;

use super::rest::rest_of;
use super::{DumpError, Input, read_at};
use crate::disk::BLOCK_BYTES;
use crate::index::decode_block;

pub(super) fn dump(input: &mut dyn Input, out: &mut dyn Write) -> Result<(), DumpError> {
    let mut position = 0;
    loop {
        let block = read_at(input, position, BLOCK_BYTES)?;
        if block.is_empty() {
            return Ok(());
        }
        let Some((identity, number, entries)) = decode_block(&block) else {
            if block.len() == BLOCK_BYTES && rest_of(input, position)?.written_end == position {
                writeln!(out, "at {position}: the rest is not written yet")?;
                return Ok(());
            }
            return Err(DumpError::Damaged {
                position,
                what: "a block of the index (it is made anew when it is needed)",
            });
        };
        writeln!(
            out,
            "index block {number}: segment {}, incarnation {:#x}, entries {}",
            identity.base,
            identity.incarnation,
            entries.len()
        )?;
        for entry in entries {
            let offset = identity.base.advance(u64::from(entry.relative_offset));
            writeln!(
                out,
                "  offset {offset} at {}, largest timestamp before {}",
                entry.position, entry.max_timestamp_before
            )?;
        }
        position += BLOCK_BYTES as u64;
    }
}
