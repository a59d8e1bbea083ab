//! Damage at rest: flipped bits at every byte of a small store, and files that are cut, gone, old or another's.
//!
//! Whatever is damaged, what is served is what was written; what is not served any more is reported with the
//! file's name; and damage to one partition's file leaves the others alone.

use std::collections::BTreeSet;

use corelane_protocol::TopicPartition;
use corelane_storage::disk::memory::{DiskImage, OperationKind};

use crate::support::history::History;
use crate::support::inspect::{Finding, inspect};
use crate::support::layout::Layout;
use crate::support::oracle::Oracle;
use crate::support::session::{Scene, Start};
use crate::support::{is_thorough, seeds};

const BLOCK: u64 = 4096;

/// A small store that was closed, an older state of it, and how it is opened.
struct Specimen {
    layout: Layout,
    older: Start,
    start: Start,
}

impl Specimen {
    /// With some of its records in the journal only.
    fn new(seed: u64, stores: usize) -> Self {
        Self::of(History::small(seed, stores))
    }

    /// With some of its records in segments, and only the journal tells of them.
    fn straight(seed: u64, stores: usize) -> Self {
        let specimen = Self::of(History::small_straight(seed, stores));
        let inspected = inspect(specimen.image(), &specimen.layout, specimen.oracle());
        let extents = inspected.expect("nothing is damaged").extents_replayed;
        assert!(extents > 0, "no parts are in segments");
        specimen
    }

    fn of(history: History) -> Self {
        let [_, last] = &history.chapters[..] else {
            panic!("two sessions")
        };
        Self {
            layout: last.session.layout.clone(),
            older: last.start.clone(),
            start: history.end,
        }
    }

    fn image(&self) -> &DiskImage {
        &self.start.image
    }

    fn oracle(&self) -> &Oracle {
        &self.start.oracle
    }

    /// What the inspection of a damaged copy reports.
    fn findings(&self, image: &DiskImage) -> Vec<Finding> {
        let inspected = inspect(image, &self.layout, self.oracle());
        inspected
            .unwrap_or_else(|violation| panic!("{violation}"))
            .findings
    }

    /// The blocks that opening and reading everything looks at, by file.
    fn blocks_read(&self) -> BTreeSet<(String, u64)> {
        let inspection =
            inspect(self.image(), &self.layout, self.oracle()).expect("nothing is damaged");
        assert_eq!(inspection.findings, []);
        let reads = inspection
            .operations
            .iter()
            .filter(|operation| operation.kind == OperationKind::Read);
        let blocks = |position: u64, len: u64| position / BLOCK..(position + len).div_ceil(BLOCK);
        reads
            .flat_map(|read| {
                blocks(read.position, read.len).map(|block| (read.path.to_string(), block))
            })
            .collect()
    }

    fn files(&self) -> Vec<(String, u64)> {
        self.image()
            .files()
            .into_iter()
            .filter(|(path, _)| path.starts_with("store-"))
            .collect()
    }

    /// The partition that a file belongs to.
    fn owner(&self, path: &str) -> Option<TopicPartition> {
        let mut parts = path.split('/').skip(1);
        let (topic, partition) = (parts.next()?, parts.next()?);
        let mut partitions = self.oracle().logs.keys();
        partitions
            .find(|owner| {
                owner.topic.to_string() == topic && owner.partition.to_string() == partition
            })
            .copied()
    }

    /// Whatever is reported is about this file, and about those that it belongs to.
    fn expect_confined(&self, path: &str, findings: &[Finding]) {
        let owner = self.owner(path);
        for finding in findings {
            assert!(
                finding.message.contains(path),
                "{path} is not named: {finding:?}"
            );
            let store = format!("store-{:04}/", finding.store);
            assert!(
                path.starts_with(&store),
                "another store is concerned: {finding:?}"
            );
            assert!(
                owner.is_none() || finding.partition == owner,
                "others are concerned: {finding:?}"
            );
            assert!(
                !path.ends_with(".index"),
                "an index can be made anew: {finding:?}"
            );
        }
    }
}

fn flip_every_byte(
    seed: u64,
    specimen: &Specimen,
    stride: usize,
    is_wanted: impl Fn(&str) -> bool,
) {
    let blocks_read = specimen.blocks_read();
    let (mut flips, mut unread, mut found) = (0, 0, 0);
    for (path, len) in specimen
        .files()
        .into_iter()
        .filter(|(path, _)| is_wanted(path))
    {
        for byte in (0..len).step_by(stride) {
            // What nobody reads cannot matter: the run would be the same. One flip for each such block.
            if !blocks_read.contains(&(path.clone(), byte / BLOCK)) && !byte.is_multiple_of(BLOCK) {
                unread += 1;
                continue;
            }
            let bits = if is_thorough() {
                0..8
            } else {
                (byte % 8) as u8..(byte % 8) as u8 + 1
            };
            for bit in bits {
                let _scene = Scene(|| eprintln!("seed {seed}, {path}, byte {byte}, bit {bit}"));
                let mut image = specimen.image().clone();
                image.flip_bit(&path, byte, bit);
                let findings = specimen.findings(&image);
                specimen.expect_confined(&path, &findings);
                found += usize::from(!findings.is_empty());
                flips += 1;
            }
        }
    }
    eprintln!(
        "seed {seed}: {flips} flips, {found} reported, the others harmless; {unread} bytes are never read"
    );
}

#[test]
fn a_flipped_bit_in_a_journal_or_catalogue_is_reported_or_harmless() {
    for seed in seeds() {
        flip_every_byte(seed, &Specimen::new(seed, 1), 1, |path| {
            path.split('/').count() == 2
        });
    }
}

#[test]
fn a_flipped_bit_in_a_segment_or_index_is_reported_or_harmless() {
    for seed in seeds() {
        flip_every_byte(seed, &Specimen::new(seed, 1), 1, |path| {
            path.split('/').count() > 2
        });
    }
}

#[test]
fn a_flipped_bit_in_what_went_straight_to_a_segment_is_reported_or_harmless() {
    for seed in seeds() {
        let specimen = Specimen::straight(seed, 1);
        // Its files are larger than those of the others, and what is in most of them is tried there.
        let stride = if is_thorough() { 1 } else { 11 };
        flip_every_byte(seed, &specimen, stride, |path| !path.ends_with(".index"));
    }
}

#[test]
fn a_file_that_was_cut_is_reported_or_harmless() {
    for seed in seeds() {
        cut_everywhere(seed, &Specimen::new(seed, 2));
        cut_everywhere(seed, &Specimen::straight(seed, 2));
    }
}

fn cut_everywhere(seed: u64, specimen: &Specimen) {
    let mut cuts = 0;
    for (path, len) in specimen.files() {
        let blocks = 0..len.div_ceil(BLOCK);
        for cut in blocks
            .flat_map(|block| [block * BLOCK, block * BLOCK + 1000])
            .filter(|cut| *cut < len)
        {
            let _scene = Scene(|| eprintln!("seed {seed}, {path} cut to {cut}"));
            let mut image = specimen.image().clone();
            image.truncate(&path, cut);
            specimen.expect_confined(&path, &specimen.findings(&image));
            cuts += 1;
        }
    }
    eprintln!("seed {seed}: {cuts} cuts");
}

#[test]
fn a_missing_file_is_reported() {
    for seed in seeds() {
        expect_missed(seed, &Specimen::new(seed, 2));
        expect_missed(seed, &Specimen::straight(seed, 2));
    }
}

fn expect_missed(seed: u64, specimen: &Specimen) {
    // What nobody reads cannot matter: a segment may have been closed when all of its records were deleted.
    let read: BTreeSet<_> = specimen
        .blocks_read()
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    for (path, _) in specimen.files() {
        let _scene = Scene(|| eprintln!("seed {seed}, {path} is missing"));
        let mut image = specimen.image().clone();
        image.remove(&path);
        let findings = specimen.findings(&image);
        specimen.expect_confined(&path, &findings);
        let is_log = path.ends_with(".log") && read.contains(&path);
        let is_needed = is_log || path.ends_with("catalogue");
        assert!(!is_needed || !findings.is_empty(), "nobody misses {path}");
    }
}

#[test]
fn a_file_of_another_place_is_never_served() {
    for seed in seeds() {
        swap_everywhere(seed, &Specimen::new(seed, 2));
        swap_everywhere(seed, &Specimen::straight(seed, 2));
    }
}

fn swap_everywhere(seed: u64, specimen: &Specimen) {
    let files = specimen.files();
    // What nobody reads cannot matter: all of a segment's records may be deleted.
    let read: BTreeSet<_> = specimen
        .blocks_read()
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    let mut swaps = 0;
    for (path, _) in &files {
        let kind = kind(path);
        for (other, _) in files
            .iter()
            .filter(|(other, _)| other != path && self::kind(other) == kind)
        {
            let _scene = Scene(|| eprintln!("seed {seed}, {path} is a copy of {other}"));
            let mut image = specimen.image().clone();
            image.write(path, &specimen.image().read(other).expect("it was listed"));
            let findings = specimen.findings(&image);
            assert!(findings.iter().all(
                |finding| finding.message.contains("store-0000") == path.contains("store-0000")
            ));
            let is_derived = path.ends_with(".index");
            let is_log = path.ends_with(".log") && read.contains(path);
            let is_needed = is_log || path.ends_with("catalogue");
            assert!(
                is_derived || !is_needed || !findings.is_empty(),
                "nobody minds {other} as {path}"
            );
            swaps += 1;
        }
    }
    eprintln!("seed {seed}: {swaps} swaps");
}

#[test]
fn an_old_copy_of_a_file_is_never_served() {
    for seed in seeds() {
        put_back_everywhere(seed, &Specimen::new(seed, 2));
        put_back_everywhere(seed, &Specimen::straight(seed, 2));
    }
}

fn put_back_everywhere(seed: u64, specimen: &Specimen) {
    let mut copies = 0;
    for (path, _) in specimen.files() {
        let Some(old) = specimen.older.image.read(&path) else {
            continue;
        };
        if Some(&old) == specimen.image().read(&path).as_ref() {
            continue;
        }
        let _scene = Scene(|| eprintln!("seed {seed}, {path} is an old copy"));
        let mut image = specimen.image().clone();
        image.write(&path, &old);
        specimen.findings(&image);
        copies += 1;
    }
    eprintln!("seed {seed}: {copies} old copies");
}

/// What may be mistaken for each other.
fn kind(path: &str) -> &str {
    let name = path.rsplit('/').next().expect("a path has a name");
    match name.rsplit_once('.') {
        Some((_, extension)) => extension,
        None => name.split('-').next().expect("a split has a part"),
    }
}
