//! Everything that lies on disk, decoder by decoder: what is read is written again as the same bytes, and a file
//! with any damage is dumped or refused.
//!
//! Input: a byte that says which decoder, and what it is given. The dump is given mutations of a golden data
//! directory, since the others' files are large.

use std::io::Cursor;

use corelane_broker::metadata::{MetadataImage, MetadataRecord};
use corelane_protocol::{Offset, StoreId};
use corelane_storage::catalogue::{CatalogueImage, CatalogueRecord, Checkpoint};
use corelane_storage::directory;
use corelane_storage::disk::memory::DiskImage;
use corelane_storage::dump::dump_with;
use corelane_storage::index::{IndexIdentity, SparseIndex, decode_block};
use corelane_storage::journal::{
    GroupHeader, JournalHeader, PART_BYTES, PartEntry, journal_number,
};
use corelane_storage::segment::SegmentHeader;
use uuid::Uuid;

use crate::bytes::Bytes;
use crate::mutation::mutate;
use crate::{recovery, repair};

const BLOCK: usize = 4096;

thread_local! {
    static IMAGES: [DiskImage; 2] = recovery::images();
}

pub(crate) fn run(input: &[u8]) {
    let mut input = Bytes::new(input);
    match input.u8() % 10 {
        0 => dump(&mut input),
        1 => catalogue_record(input.rest()),
        2 => checkpoint(input.rest()),
        3 => metadata_record(input.rest()),
        4 => catalogue(&mut input),
        5 => metadata(&mut input),
        6 => journal(&mut input),
        7 => segment(input.rest()),
        8 => index(&mut input),
        _ => names_and_directory(input.rest()),
    }
}

fn dump(input: &mut Bytes<'_>) {
    let choices = input.u8();
    IMAGES.with(|images| {
        let mut image = images[usize::from(choices & 1)].clone();
        let damage = mutate(&mut image, input);
        for path in &damage.touched {
            let Some(mut bytes) = image.read(path) else {
                continue;
            };
            if choices & 2 != 0 {
                repair::file(&mut bytes);
            }
            let mut out = Vec::new();
            let words = |record: &[u8]| Some(MetadataRecord::decode(record).ok()?.to_string());
            if let Err(error) = dump_with(&mut Cursor::new(&bytes), &mut out, &words) {
                assert!(!error.to_string().is_empty());
            }
            assert!(String::from_utf8(out).is_ok());
        }
    });
}

fn catalogue_record(bytes: &[u8]) {
    if let Ok(record) = CatalogueRecord::decode(bytes) {
        assert_eq!(record.encode(), bytes, "{record:?}");
    }
}

fn checkpoint(bytes: &[u8]) {
    if let Ok(checkpoint) = Checkpoint::decode(bytes) {
        assert_eq!(checkpoint.encode(), bytes, "{checkpoint:?}");
    }
}

fn metadata_record(bytes: &[u8]) {
    match MetadataRecord::decode(bytes) {
        Ok(record) => {
            assert_eq!(record.encode(), bytes, "{record:?}");
            assert!(!record.to_string().is_empty());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The records of an input: a length and bytes each.
fn records<'a>(input: &mut Bytes<'a>) -> Vec<&'a [u8]> {
    let mut records = Vec::new();
    while !input.is_empty() && records.len() < 64 {
        let length = usize::from(input.u8());
        records.push(input.take(length));
    }
    records
}

/// Records one after the other are a state or are refused, and a state's own records give the same.
fn catalogue(input: &mut Bytes<'_>) {
    let mut image = CatalogueImage::default();
    for record in records(input) {
        let Ok(record) = CatalogueRecord::decode(record) else {
            return;
        };
        if image.apply(record).is_err() {
            return;
        }
    }
    let mut again = CatalogueImage::default();
    for record in image.records() {
        let record = CatalogueRecord::decode(&record.encode()).expect("it was just written");
        again.apply(record).expect("a state's own records");
    }
    assert_eq!(again, image);
}

fn metadata(input: &mut Bytes<'_>) {
    let mut image = MetadataImage::new();
    for record in records(input) {
        let Ok(record) = MetadataRecord::decode(record) else {
            return;
        };
        if image.apply(&record).is_err() {
            return;
        }
    }
    let mut again = MetadataImage::new();
    for record in image.snapshot() {
        let record = MetadataRecord::decode(&record.encode()).expect("it was just written");
        again.apply(&record).expect("a state's own records");
    }
    let of = |image: &MetadataImage| image.topics().cloned().collect::<Vec<_>>();
    assert_eq!(of(&again), of(&image));
    for store in 0..4 {
        let store = StoreId::new(store);
        assert_eq!(again.store_partitions(store), image.store_partitions(store));
    }
}

fn journal(input: &mut Bytes<'_>) {
    let is_repaired = input.u8() & 1 == 1;
    let (incarnation, position) = (input.number::<8>(), input.number::<8>());
    let mut bytes = input.rest().to_vec();
    if bytes.len() >= PART_BYTES {
        let entry = PartEntry::decode(&bytes[..PART_BYTES]);
        let mut encoded = [0; PART_BYTES];
        entry.encode(&mut encoded);
        assert_eq!(PartEntry::decode(&encoded), entry);
    }
    bytes.resize(BLOCK, 0);
    if is_repaired {
        repair::header(&mut bytes, 0, &[]);
    }
    if let Ok(header) = JournalHeader::decode(&bytes) {
        let mut encoded = vec![0; BLOCK];
        header.encode(&mut encoded);
        assert_eq!(JournalHeader::decode(&encoded), Ok(header));
    }
    if is_repaired {
        bytes[32..40].copy_from_slice(&incarnation.to_le_bytes());
        bytes[40..48].copy_from_slice(&position.to_le_bytes());
        repair::header(&mut bytes, 0, Uuid::nil().as_bytes());
    }
    let decoded = GroupHeader::decode(Uuid::nil(), incarnation, position, &bytes);
    if let Some((header, checksum)) = decoded {
        assert!(header.padded_length() >= header.directory_length() as u64);
        let mut encoded = vec![0; BLOCK];
        let again = header.encode(Uuid::nil(), &mut encoded);
        let decoded = GroupHeader::decode(Uuid::nil(), incarnation, position, &encoded);
        assert_eq!(decoded, Some((header, again)));
        let _ = checksum;
    }
}

fn segment(bytes: &[u8]) {
    let mut block = bytes.to_vec();
    block.resize(BLOCK, 0);
    for _ in 0..2 {
        if let Ok(header) = SegmentHeader::decode(&block) {
            let mut encoded = vec![0; BLOCK];
            header.encode(&mut encoded);
            assert_eq!(SegmentHeader::decode(&encoded), Ok(header));
        }
        repair::header(&mut block, 0, &[]);
    }
}

fn index(input: &mut Bytes<'_>) {
    let choices = input.u8();
    let segment_bytes = u64::from(input.u32());
    let mut file = input.rest().to_vec();
    file.resize(file.len().next_multiple_of(BLOCK).max(BLOCK), 0);
    if choices & 1 == 1 {
        repair::blocks(&mut file);
    }
    let Some((identity, _, _)) = decode_block(&file[..BLOCK]) else {
        return;
    };
    // Bases of segments are offsets of logs.
    if identity.base.get() >= 1 << 62 {
        return;
    }
    let index = SparseIndex::decode(identity, 4096, segment_bytes, &file);
    let mut last = None;
    for entry in index.entries() {
        let here = (entry.relative_offset, entry.position);
        assert!(u64::from(entry.position) < segment_bytes);
        assert!(last.is_none_or(|last: (u32, u32)| last.0 < here.0 && last.1 < here.1));
        last = Some(here);
        let offset = Offset::new(identity.base.get() + u64::from(entry.relative_offset));
        assert_eq!(index.floor(offset).offset, offset);
    }
    let _ = index.time_floor(index.last_max_timestamp());
    let other = IndexIdentity {
        incarnation: identity.incarnation.wrapping_add(1),
        ..identity
    };
    let of_another = SparseIndex::decode(other, 4096, segment_bytes, &file);
    assert!(of_another.entries().is_empty());
    let written = index.encode(identity);
    let again = SparseIndex::decode(identity, 4096, segment_bytes, &written);
    assert_eq!(again.entries(), index.entries());
}

fn names_and_directory(bytes: &[u8]) {
    if let Ok(name) = std::str::from_utf8(bytes) {
        let _ = journal_number(name);
    }
    let mut block = bytes.to_vec();
    block.resize(BLOCK, 0);
    for _ in 0..2 {
        let _ = directory::decode(&block);
        repair::blocks(&mut block);
    }
}

/// What the golden directories hold, piece by piece.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = recovery::seeds()
        .into_iter()
        .map(|seed| [&[0], &seed[..]].concat())
        .collect();
    let image = &recovery::images()[0];
    let trimmed = |bytes: &[u8]| {
        let end = bytes.iter().rposition(|byte| *byte != 0);
        bytes[..end.map_or(0, |end| end + 1)].to_vec()
    };
    for (path, _) in image.files() {
        let bytes = image.read(&path).expect("it is listed");
        let Some(first) = bytes.get(..BLOCK) else {
            continue;
        };
        let number = match &first[..8] {
            b"CLSEGMNT" => 7,
            b"CLDATDIR" => 9,
            b"CLINDEX\0" => {
                let head = [8, 1, 0, 0, 0, 1];
                seeds.push([&head[..], &trimmed(first)].concat());
                continue;
            }
            b"CLJOURNL" => {
                let head = [&[6, 1][..], &bytes[32..40], &[0; 8]].concat();
                seeds.push([&head[..], &trimmed(&first[..128])].concat());
                seeds.push([&head[..], &bytes[BLOCK..BLOCK + 128 + PART_BYTES]].concat());
                continue;
            }
            b"CLBLKLOG" => {
                seeds.extend(records_of(&bytes));
                continue;
            }
            _ => continue,
        };
        seeds.push([&[number], &trimmed(first)[..]].concat());
    }
    seeds.push(metadata_seed());
    seeds
}

/// The records and the checkpoint of a catalogue: each alone, and all in their order.
fn records_of(log: &[u8]) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut all = vec![4];
    let mut at = 3 * BLOCK;
    let number = |at: usize| {
        let field = log[at..at + 4].try_into().expect("4 bytes");
        u32::from_le_bytes(field) as usize
    };
    while log.get(at..at + 4) == Some(b"CLBG") {
        let (length, records, checkpoint) = (number(at + 16), number(at + 20), number(at + 24));
        if checkpoint > 0 {
            let bytes = &log[at + 40..at + 40 + checkpoint];
            seeds.push([&[2], bytes].concat());
        }
        let mut record = at + 40 + checkpoint;
        for _ in 0..records {
            let bytes = &log[record + 4..record + 4 + number(record)];
            seeds.push([&[1], bytes].concat());
            all.push(bytes.len() as u8);
            all.extend(bytes);
            record += 4 + bytes.len();
        }
        at += length.next_multiple_of(BLOCK);
    }
    seeds.push(all);
    seeds
}

fn metadata_seed() -> Vec<u8> {
    let topic = [7; 16];
    let text = |text: &str| [&(text.len() as u16).to_le_bytes(), text.as_bytes()].concat();
    let created = [
        &[1, 2][..],
        &topic,
        &text("orders"),
        &[2, 0, 0, 0],
        &[1, 0, 0, 0],
        &text("flush.ms"),
        &text("10"),
    ]
    .concat();
    let placed = [&[1, 3][..], &topic, &[0; 4], &[2, 0, 0, 0], &[0, 0, 1, 0]].concat();
    let extended = [&[1, 6][..], &topic, &[3, 0, 0, 0]].concat();
    let placed_more = [&[1, 3][..], &topic, &[2, 0, 0, 0], &[1, 0, 0, 0], &[1, 0]].concat();
    let records = [vec![1, 1, 1, 0], created, placed, extended, placed_more];
    let mut seed = vec![5];
    for record in records {
        seed.push(record.len() as u8);
        seed.extend(record);
    }
    seed
}
