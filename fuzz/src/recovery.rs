//! A data directory whose bytes were changed is opened, read completely, appended to, closed and opened again.
//!
//! It must not panic. Unless the checksums were made right again, nothing is served but what was written, and
//! what was promised and is not served any more is reported. What is acknowledged afterwards is served after
//! the next opening, unless damage lies before it in the same file: there the file is named.
//!
//! Input: a byte of choices (bit 0: which directory; bit 1: the checksums are made right; bit 2: appends and a
//! second opening; bit 3: a third directory, with large parts in segments; else bit 4: a fourth, with idempotent
//! producers; else bit 5: a fifth, whose log was compacted), and mutations.

use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_protocol::{Offset, StoreId, Timestamp, TopicPartition};
use corelane_storage::directory::{self, DirectoryIdentity};
use corelane_storage::disk::memory::DiskImage;
use corelane_storage::store::{LogState, ReadError, RecoveryReport, StoreConfig, StoreError};
use uuid::Uuid;

use crate::bytes::Bytes;
use crate::mutation::{Damage, mutate};
use crate::support::{Machine, NOW, STORE, Store, batch, ledger, read_once, small_config};
use crate::{image_file, repair};

const CLOSED: &[u8] = include_bytes!("../../storage/tests/golden/version-1-closed");
const LEFT: &[u8] = include_bytes!("../../storage/tests/golden/version-1-left");
const STRAIGHT: &[u8] = include_bytes!("../../storage/tests/golden/version-1-straight");
const PRODUCERS: &[u8] = include_bytes!("../../storage/tests/golden/version-1-producers");
const COMPACTED: &[u8] = include_bytes!("../../storage/tests/golden/version-1-compacted");

/// A directory that is sound, and what it holds.
struct Specimen {
    image: DiskImage,
    logs: BTreeMap<TopicPartition, Log>,
    is_closed: bool,
}

/// What was written to one log.
struct Log {
    start: Offset,
    end: Offset,
    /// Each batch: its base offset, its end, its bytes.
    batches: Vec<(Offset, Offset, Vec<u8>)>,
}

thread_local! {
    static SPECIMENS: [Specimen; 5] = [
        specimen(CLOSED, true),
        specimen(LEFT, false),
        specimen(STRAIGHT, false),
        specimen(PRODUCERS, false),
        specimen(COMPACTED, false),
    ];
}

pub(crate) fn run(input: &[u8]) {
    let mut input = Bytes::new(input);
    let choices = input.u8();
    SPECIMENS.with(|specimens| {
        let which = match choices {
            _ if choices & 8 != 0 => 2,
            _ if choices & 16 != 0 => 3,
            _ if choices & 32 != 0 => 4,
            _ => choices & 1,
        };
        let specimen = &specimens[usize::from(which)];
        let mut image = specimen.image.clone();
        let damage = mutate(&mut image, &mut input);
        let is_forged = choices & 2 != 0;
        if is_forged {
            for path in &damage.touched {
                if let Some(mut bytes) = image.read(path) {
                    repair::file(&mut bytes);
                    image.write(path, &bytes);
                }
            }
        }
        let attempt = Attempt {
            specimen,
            is_forged,
            damage,
        };
        attempt.open(&image, choices & 4 != 0);
    });
}

fn config() -> StoreConfig {
    StoreConfig {
        spill_bytes: 4096,
        ..small_config()
    }
}

fn open(machine: &Machine) -> Result<(Rc<Store>, RecoveryReport), StoreError> {
    let opened = Store::open(
        machine.disk.clone(),
        STORE.to_owned(),
        StoreId::new(0),
        config(),
        ledger(),
    );
    machine.executor.block_on(opened)
}

/// One damaged copy of a directory.
struct Attempt<'a> {
    specimen: &'a Specimen,
    /// Whoever writes right checksums can write anything: only that nothing panics is asked then.
    is_forged: bool,
    damage: Damage,
}

impl Attempt<'_> {
    fn open(&self, image: &DiskImage, goes_on: bool) {
        let machine = Machine::from_image(7, image);
        let identity = DirectoryIdentity {
            cluster: Uuid::nil(),
            directory: Uuid::nil(),
            stores: 1,
        };
        let _ = machine
            .executor
            .block_on(directory::open(&machine.disk, identity));
        let Ok((store, report)) = open(&machine) else {
            return;
        };
        self.inspect(&machine, &store, &report);
        if !goes_on {
            return;
        }
        machine.run(&store);
        let appended = append_to_all(&machine, &store);
        // A store that is out of service, or whose files turn out to be damaged, says so here.
        let _ = machine.executor.block_on(store.close());
        drop(store);
        let again = Machine::from_image(8, &machine.disk.image());
        let Ok((store, report)) = open(&again) else {
            self.must(appended.is_empty(), "the store does not open again");
            return;
        };
        self.must(
            appended.is_empty() || report.fenced.is_none(),
            "what was acknowledged is out of service",
        );
        for (partition, (offset, bytes)) in appended {
            let read = read_once(&store, partition, offset, bytes.len());
            let read = again.executor.block_on(read);
            let read = read.map(|fetched| joined(&fetched.parts));
            let is_sound = match &read {
                Ok(read) => read.get(48..) == Some(&bytes[48..]),
                // Batches are found from the one before, so whoever looks for this one meets the damage.
                Err(ReadError::Corrupt(corruption)) => {
                    self.damage.touched.contains(&corruption.file)
                }
                Err(_) => false,
            };
            let what = format!("{partition} at {offset} after a restart: {read:?}");
            self.must(is_sound, &what);
        }
    }

    fn inspect(&self, machine: &Machine, store: &Rc<Store>, report: &RecoveryReport) {
        let found = store.partitions();
        for partition in &found {
            let known = self.specimen.logs.contains_key(partition);
            let what = format!("{partition} never was");
            self.must(known || report.fenced.is_some(), &what);
        }
        for (partition, log) in &self.specimen.logs {
            if found.contains(partition) {
                self.inspect_log(machine, store, report, *partition, log);
            } else {
                let what = format!("{partition} is gone: {report:?}");
                self.must(report.fenced.is_some(), &what);
            }
        }
        if self.is_forged {
            for partition in found {
                self.read_forged(machine, store, partition);
            }
        }
    }

    fn inspect_log(
        &self,
        machine: &Machine,
        store: &Rc<Store>,
        report: &RecoveryReport,
        partition: TopicPartition,
        log: &Log,
    ) {
        let Ok(description) = store.describe(partition) else {
            return;
        };
        let (start, end) = (
            description.offsets.log_start,
            description.offsets.high_watermark,
        );
        let is_online = description.state == LogState::Online && report.fenced.is_none();
        let what = format!("{partition} is {start} to {end}: {report:?}");
        self.must(!is_online || start >= log.start, &what);
        // The last groups of a log that was left, if they are gone, look like writes that a crash prevented.
        let may_end_early = !self.specimen.is_closed;
        self.must(!is_online || end == log.end || may_end_early, &what);
        self.must(end <= log.end, &what);
        if self.is_forged {
            return;
        }
        let mut next = log.start;
        for (base, after, bytes) in &log.batches {
            if *after <= next || *after > end || *after <= start {
                continue;
            }
            let read = machine
                .executor
                .block_on(read_once(store, partition, *base.max(&start), 1));
            match read {
                Ok(fetched) => {
                    let same = joined(&fetched.parts) == *bytes && fetched.next_offset == *after;
                    let what = format!("{partition} at {base} is not what was written");
                    self.must(same, &what);
                }
                Err(
                    ReadError::Corrupt(_) | ReadError::Io { .. } | ReadError::PartitionFailed(_),
                ) => {}
                Err(error) => self.must(false, &format!("{partition} at {base}: {error}")),
            }
            next = *after;
        }
    }

    /// Reads whatever a directory claims to hold.
    fn read_forged(&self, machine: &Machine, store: &Rc<Store>, partition: TopicPartition) {
        let Ok(offsets) = store.offsets(partition) else {
            return;
        };
        let mut next = offsets.log_start;
        for _ in 0..64 {
            let read = read_once(store, partition, next, 10_000);
            match machine.executor.block_on(read) {
                Ok(fetched) if fetched.next_offset > next => next = fetched.next_offset,
                _ => break,
            }
        }
        let searched = store.offset_for_timestamp(partition, NOW);
        let _ = machine.executor.block_on(searched);
    }

    fn must(&self, is_so: bool, what: &str) {
        assert!(is_so || self.is_forged, "{what}; {:#?}", self.damage);
    }
}

/// Appends a batch to each partition that takes one; those that were acknowledged.
fn append_to_all(
    machine: &Machine,
    store: &Rc<Store>,
) -> BTreeMap<TopicPartition, (Offset, Vec<u8>)> {
    let mut appended = BTreeMap::new();
    for partition in store.partitions() {
        let bytes = batch(&format!("{partition}"), 1, 3000);
        let now = Timestamp::new(NOW.get() + 1000);
        if let Ok(given) = store.append(partition, &bytes, now) {
            appended.insert(partition, (given, bytes));
        }
    }
    store.tick(Timestamp::new(NOW.get() + 2000));
    machine.settle();
    let is_durable = |partition: &TopicPartition, end: Offset| {
        let offsets = store.offsets(*partition);
        offsets.is_ok_and(|offsets| offsets.durable_end >= end)
    };
    let durable = appended
        .into_iter()
        .filter(|(partition, (given, _))| is_durable(partition, given.end_offset));
    durable
        .map(|(partition, (given, bytes))| (partition, (given.base_offset, bytes)))
        .collect()
}

fn joined<T: std::ops::Deref<Target = [u8]>>(parts: &[T]) -> Vec<u8> {
    parts.iter().flat_map(|part| part.to_vec()).collect()
}

fn specimen(golden: &[u8], is_closed: bool) -> Specimen {
    let image = image_file::decode(golden);
    let machine = Machine::from_image(1, &image);
    let (store, report) = open(&machine).expect("a sound directory");
    assert!(report.failed.is_empty() && report.was_clean == is_closed);
    let mut logs = BTreeMap::new();
    for partition in store.partitions() {
        let offsets = store.offsets(partition).expect("it is there");
        let mut batches = Vec::new();
        let mut next = offsets.log_start;
        while next < offsets.high_watermark {
            let read = machine
                .executor
                .block_on(read_once(&store, partition, next, 1))
                .expect("nothing is damaged");
            batches.push((next, read.next_offset, joined(&read.parts)));
            next = read.next_offset;
        }
        let log = Log {
            start: offsets.log_start,
            end: offsets.high_watermark,
            batches,
        };
        logs.insert(partition, log);
    }
    Specimen {
        image,
        logs,
        is_closed,
    }
}

/// One mutation of each kind, on each directory, with and without right checksums.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![0], vec![1], vec![4], vec![5]];
    for kind in 0..10_u8 {
        for choices in (0..16_u8).chain(32..40) {
            let file = kind.wrapping_mul(7).wrapping_add(choices);
            let place = u16::from(kind) * 37 + u16::from(choices);
            let mut seed = vec![choices, file, kind];
            seed.extend(place.to_le_bytes());
            seed.extend([choices.wrapping_mul(8), 3, 1, 0, 0, 0, 0, 0]);
            seeds.push(seed);
        }
    }
    seeds
}

/// The files of both directories, for the targets that look at single files.
pub(crate) fn images() -> [DiskImage; 2] {
    [CLOSED, LEFT].map(image_file::decode)
}
