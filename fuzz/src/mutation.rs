//! Damage to a data directory: what an input asks for, on the files that there are.

use corelane_storage::disk::memory::DiskImage;

use crate::bytes::Bytes;

/// The most that happens to one directory.
const MUTATIONS_MAX: usize = 12;

/// Bytes that are looked at together when something that is not zero is sought.
const LINE: usize = 64;

const BLOCK: usize = 4096;

/// What was done to a directory.
#[derive(Debug, Default)]
pub(crate) struct Damage {
    /// Each mutation, in words.
    pub(crate) done: Vec<String>,
    /// The files that were touched.
    pub(crate) touched: Vec<String>,
}

/// Carries out everything that the input asks for.
pub(crate) fn mutate(image: &mut DiskImage, input: &mut Bytes<'_>) -> Damage {
    let mut damage = Damage::default();
    while !input.is_empty() && damage.done.len() < MUTATIONS_MAX {
        let files = image.files();
        let (path, _) = input.one_of(&files).clone();
        let mut bytes = image.read(&path).expect("it is listed");
        let what = match input.u8() % 10 {
            7 => {
                let (other, _) = input.one_of(&files);
                image.write(&path, &image.read(other).expect("it is listed"));
                format!("a copy of {other}")
            }
            8 => {
                image.remove(&path);
                "removed".to_owned()
            }
            9 => {
                let len = input.number::<4>() as usize % (bytes.len() + 1);
                image.truncate(&path, len as u64);
                format!("cut to {len}")
            }
            kind => {
                let Some(at) = place(&bytes, input) else {
                    continue;
                };
                let what = change(&mut bytes, at, kind, image, &files, input);
                image.write(&path, &bytes);
                format!("byte {at}: {what}")
            }
        };
        damage.done.push(format!("{path}: {what}"));
        damage.touched.push(path);
        if files.len() == 1 {
            break;
        }
    }
    damage
}

/// A place in a file, near something that is not zero.
fn place(bytes: &[u8], input: &mut Bytes<'_>) -> Option<usize> {
    let is_used = |line: &&[u8]| line.iter().any(|byte| *byte != 0);
    let used = bytes.chunks(LINE).filter(is_used).count();
    let wanted = usize::from(input.u16());
    let within = usize::from(input.u8()) % LINE;
    if used == 0 {
        return None;
    }
    let lines = bytes.chunks(LINE).enumerate();
    let (line, _) = lines.filter(|(_, line)| is_used(line)).nth(wanted % used)?;
    Some((line * LINE + within).min(bytes.len() - 1))
}

fn change(
    bytes: &mut [u8],
    at: usize,
    kind: u8,
    image: &DiskImage,
    files: &[(String, u64)],
    input: &mut Bytes<'_>,
) -> String {
    let len = bytes.len();
    match kind {
        0 | 1 => {
            let bit = input.u8() % 8;
            bytes[at] ^= 1 << bit;
            format!("bit {bit} flipped")
        }
        2 => {
            let count = usize::from(input.u16()) + 1;
            let end = (at + count).min(len);
            bytes[at..end].fill(0);
            format!("zeros to {end}")
        }
        3 => {
            let count = usize::from(input.u8() % 64) + 1;
            let new = input.take(count.min(len - at));
            bytes[at..at + new.len()].copy_from_slice(new);
            format!("set to {new:02x?}")
        }
        4 => {
            let at = at / 4 * 4;
            let new = (input.u32()).to_le_bytes();
            let end = (at + 4).min(len);
            bytes[at..end].copy_from_slice(&new[..end - at]);
            format!("field of 4 at {at} set to {new:02x?}")
        }
        5 => {
            let at = at / 8 * 8;
            let new = input.number::<8>().to_le_bytes();
            let end = (at + 8).min(len);
            bytes[at..end].copy_from_slice(&new[..end - at]);
            format!("field of 8 at {at} set to {new:02x?}")
        }
        _ => {
            let (other, _) = input.one_of(files);
            let source = image.read(other).expect("it is listed");
            let (from, to) = (
                usize::from(input.u8()) * BLOCK % source.len().max(1) / BLOCK * BLOCK,
                at / BLOCK * BLOCK,
            );
            let count = (usize::from(input.u8() % 8) + 1) * BLOCK;
            let count = count.min(len - to).min(source.len().saturating_sub(from));
            bytes[to..to + count].copy_from_slice(&source[from..from + count]);
            format!("{count} bytes at {to} from {other} at {from}")
        }
    }
}
