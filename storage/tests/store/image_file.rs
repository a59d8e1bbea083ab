//! Data directories as single files: each file's bytes without longer runs of zeros.

use corelane_storage::disk::memory::DiskImage;

/// Zeros that end a run of bytes.
const ZEROS_BETWEEN: usize = 16;

/// The runs of bytes that are not zero, with where they begin.
fn runs(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let used = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0);
    for (at, _) in used {
        match runs.last_mut() {
            Some((_, end)) if at - *end < ZEROS_BETWEEN => *end = at + 1,
            _ => runs.push((at, at + 1)),
        }
    }
    let runs = runs.into_iter();
    runs.map(|(from, to)| (from, &bytes[from..to])).collect()
}

/// The bytes of a file that holds a data directory.
pub(crate) fn encode(image: &DiskImage) -> Vec<u8> {
    let mut out = Vec::new();
    let mut number = |value: usize, bytes: &[u8]| {
        out.extend((value as u32).to_le_bytes());
        out.extend(bytes);
    };
    let files = image.files();
    number(files.len(), &[]);
    for (path, len) in files {
        let bytes = image.read(&path).expect("it is listed");
        let runs = runs(&bytes);
        number(path.len(), path.as_bytes());
        number(len as usize, &[]);
        number(runs.len(), &[]);
        for (at, run) in runs {
            number(at, &[]);
            number(run.len(), run);
        }
    }
    out
}

/// The data directory that a file holds.
pub(crate) fn decode(golden: &[u8]) -> DiskImage {
    let mut image = DiskImage::default();
    let mut rest = golden;
    let mut take = |len: usize| {
        let (taken, after) = rest.split_at(len);
        rest = after;
        taken
    };
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("4 bytes")) as usize;
    for _ in 0..number(take(4)) {
        let path_len = number(take(4));
        let path = std::str::from_utf8(take(path_len)).expect("a path");
        let mut bytes = vec![0; number(take(4))];
        for _ in 0..number(take(4)) {
            let (at, len) = (number(take(4)), number(take(4)));
            bytes[at..at + len].copy_from_slice(take(len));
        }
        image.write(path, &bytes);
    }
    assert!(rest.is_empty(), "nothing follows the last file");
    image
}
