//! Makes checksums right again after a mutation, so that what lies behind them is reached.
//!
//! Follows `docs/data_dir.md` as far as a file makes sense. Whoever writes right checksums can write anything:
//! what is read then need not be what was written, but must be read or refused.

use corelane_protocol::AlignedBytes;
use corelane_protocol::batch::{BatchHeader, HEADER_LEN, PREFIX_LEN, STAMP_LEN};

const BLOCK: usize = 4096;
const BLOCK_CHECKSUM: usize = BLOCK - 4;
const HEADER_CHECKSUM: usize = 124;

/// Repairs a file of a data directory by its magic.
pub(crate) fn file(bytes: &mut [u8]) {
    let Some(magic) = bytes.first_chunk::<8>() else {
        return;
    };
    match magic {
        b"CLDATDIR" => block(bytes, 0),
        b"CLBLKLOG" => block_log(bytes),
        b"CLJOURNL" => journal(bytes),
        b"CLSEGMNT" => segment(bytes),
        b"CLINDEX\0" => blocks(bytes),
        _ => {}
    }
}

/// Repairs a batch: its CRC, and its stamp if it has one.
pub(crate) fn batch(bytes: &mut [u8]) {
    if bytes.len() < PREFIX_LEN {
        return;
    }
    let crc = crc32c::crc32c(&bytes[STAMP_LEN + 4..]);
    put(bytes, STAMP_LEN, crc);
    put(bytes, 4, crc);
    let stamp = crc32c::crc32c(&bytes[4..STAMP_LEN]);
    put(bytes, 0, if stamp == 0 { 1 } else { stamp });
}

/// Blocks that each end with a checksum of their own.
pub(crate) fn blocks(bytes: &mut [u8]) {
    for number in 0..bytes.len() / BLOCK {
        block(bytes, number * BLOCK);
    }
}

fn block(bytes: &mut [u8], at: usize) {
    if let Some(block) = bytes.get_mut(at..at + BLOCK) {
        let checksum = crc32c::crc32c(&block[..BLOCK_CHECKSUM]);
        put(block, BLOCK_CHECKSUM, checksum);
    }
}

/// A header of 128 bytes, whose checksum begins with a seed.
pub(crate) fn header(bytes: &mut [u8], at: usize, seed: &[u8]) -> u32 {
    let Some(header) = bytes.get_mut(at..at + HEADER_CHECKSUM + 4) else {
        return 0;
    };
    let checksum = crc32c::crc32c_append(crc32c::crc32c(seed), &header[..HEADER_CHECKSUM]);
    put(header, HEADER_CHECKSUM, checksum);
    checksum
}

fn block_log(bytes: &mut [u8]) {
    if bytes.len() < 3 * BLOCK {
        return;
    }
    block(bytes, 0);
    let identity: [u8; 24] = bytes[16..40].try_into().expect("24 bytes");
    let seed = |at: usize| {
        let seed = [&identity[..], &(at as u64).to_le_bytes()].concat();
        crc32c::crc32c(&seed)
    };
    let mut at = 3 * BLOCK;
    let mut before = 0;
    let mut groups = Vec::new();
    while bytes.get(at..at + 4) == Some(b"CLBG") {
        let length = (get(bytes, at + 16) as usize).next_multiple_of(BLOCK);
        if length < BLOCK || at + length > bytes.len() {
            break;
        }
        let body = crc32c::crc32c(&bytes[at + 40..at + length]);
        put(bytes, at + 28, before);
        put(bytes, at + 32, body);
        before = crc32c::crc32c_append(seed(at), &bytes[at..at + 36]);
        put(bytes, at + 36, before);
        groups.push((at + length, before));
        at += length;
    }
    for superblock in [BLOCK, 2 * BLOCK] {
        let end = get(bytes, superblock + 16) as usize;
        if let Some((_, checksum)) = groups.iter().find(|(group, _)| *group == end) {
            put(bytes, superblock + 24, *checksum);
        }
        let sum = crc32c::crc32c_append(
            seed(superblock),
            &bytes[superblock..superblock + BLOCK_CHECKSUM],
        );
        put(bytes, superblock + BLOCK_CHECKSUM, sum);
    }
}

fn journal(bytes: &mut [u8]) {
    if bytes.len() < BLOCK {
        return;
    }
    header(bytes, 0, &[]);
    let store: [u8; 16] = bytes[16..32].try_into().expect("16 bytes");
    let mut at = BLOCK;
    let mut before = None;
    while bytes.get(at..at + 4) == Some(b"CLGR") {
        let (length, directory) = (get(bytes, at + 8) as usize, get(bytes, at + 64) as usize);
        let padded = length.next_multiple_of(BLOCK);
        if length < 128 || directory > length - 128 || at + padded > bytes.len() {
            break;
        }
        parts(&mut bytes[at..at + length], directory);
        let checksum = crc32c::crc32c(&bytes[at + 128..at + 128 + directory]);
        put(bytes, at + 68, checksum);
        if let Some(before) = before {
            put(bytes, at + 56, before);
        }
        before = Some(header(bytes, at, &store));
        at += padded;
    }
}

/// The batches of a journal's group, and the checksums that its directory has of them.
fn parts(group: &mut [u8], directory: usize) {
    let mut at = 128 + directory;
    for entry in (128..128 + directory).step_by(80) {
        if entry + 80 > group.len() {
            return;
        }
        let length = get(group, entry + 28) as usize;
        let Some(part) = group.get_mut(at..at + length) else {
            return;
        };
        let checksum = run_of_batches(part);
        put(group, entry + 72, checksum);
        at += length;
    }
}

/// Repairs batches that lie one after the other; the checksum of the first 8 bytes of each.
fn run_of_batches(bytes: &mut [u8]) -> u32 {
    let mut at = 0;
    let mut checksum = 0;
    while let Some(length) = batch_at(&bytes[at..]) {
        batch(&mut bytes[at..at + length]);
        checksum = crc32c::crc32c_append(checksum, &bytes[at..at + 8]);
        at += length;
    }
    checksum
}

fn batch_at(bytes: &[u8]) -> Option<usize> {
    let prefix = bytes.get(..STAMP_LEN + HEADER_LEN)?;
    let length = BatchHeader::parse(prefix).ok()?.total_length as usize;
    (length <= bytes.len()).then_some(length)
}

fn segment(bytes: &mut [u8]) {
    header(bytes, 0, &[]);
    let mut at = BLOCK;
    while at < bytes.len() {
        run_of_batches(&mut bytes[at..]);
        at += BLOCK;
    }
}

/// A batch with right checksums over whatever it holds, where a batch may lie.
pub(crate) fn sealed(bytes: &[u8]) -> AlignedBytes {
    let mut sealed = AlignedBytes::copy_of(bytes);
    batch(&mut sealed);
    sealed
}

fn get(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..at + 4).map(<[u8; 4]>::try_from);
    field.map_or(0, |field| u32::from_le_bytes(field.expect("4 bytes")))
}

fn put(bytes: &mut [u8], at: usize, number: u32) {
    if let Some(field) = bytes.get_mut(at..at + 4) {
        field.copy_from_slice(&number.to_le_bytes());
    }
}
