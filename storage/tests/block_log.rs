//! Block logs hold what was acknowledged through crashes, and refuse what the device changed.

use std::fmt;
use std::io::{self, Cursor};

use corelane_storage::block_log::{
    BlockLog, BlockLogContents, BlockLogError, BlockLogKind, CHECKPOINT_BYTES_MAX, GROUP_BYTES_MAX,
};
use corelane_storage::disk::BLOCK_BYTES;
use corelane_storage::disk::memory::{DiskImage, Fault, MemoryDisk, Operation, OperationKind};
use corelane_storage::dump;
use corelane_storage::testing::Executor;
use uuid::Uuid;

const PATH: &str = "catalogue";
const KIND: BlockLogKind = BlockLogKind::Catalogue;
const IDENTITY: Uuid = Uuid::from_u128(0x1234);
const SEEDS: u64 = 12;

type Log = BlockLog<MemoryDisk>;

/// What a log should hold.
#[derive(Clone, Default, PartialEq, Eq)]
struct Model {
    records: Vec<Vec<u8>>,
    checkpoint: Vec<u8>,
    is_clean: bool,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths: Vec<usize> = self.records.iter().map(Vec::len).collect();
        let checkpoint = String::from_utf8_lossy(&self.checkpoint);
        write!(
            f,
            "{checkpoint}, clean {}, records of {lengths:?} bytes",
            self.is_clean
        )
    }
}

#[derive(Clone)]
enum Step {
    Create,
    Append {
        sizes: Vec<usize>,
        checkpoint: Option<&'static [u8]>,
    },
    MarkClean,
    Rewrite {
        kept: usize,
    },
}

/// A life of a log with small and large groups, a clean end and a rewrite.
fn life() -> Vec<Step> {
    vec![
        Step::Create,
        Step::Append {
            sizes: vec![10],
            checkpoint: None,
        },
        Step::Append {
            sizes: vec![0, 5000, 3],
            checkpoint: Some(b"second"),
        },
        Step::MarkClean,
        Step::Append {
            sizes: vec![],
            checkpoint: Some(b"third"),
        },
        Step::Append {
            sizes: vec![200; 60],
            checkpoint: None,
        },
        Step::Rewrite { kept: 20 },
        Step::Append {
            sizes: vec![20_000],
            checkpoint: None,
        },
        Step::Append {
            sizes: vec![7],
            checkpoint: Some(b"last"),
        },
    ]
}

impl Model {
    fn apply(&mut self, step: &Step, number: usize) {
        self.is_clean = matches!(step, Step::MarkClean);
        match step {
            Step::Create => self.checkpoint = b"first".to_vec(),
            Step::MarkClean => {}
            Step::Append { checkpoint, .. } => {
                self.records.extend(new_records(step, number));
                if let Some(checkpoint) = checkpoint {
                    self.checkpoint = checkpoint.to_vec();
                }
            }
            Step::Rewrite { kept } => self.records.truncate(*kept),
        }
    }

    fn of(contents: &BlockLogContents) -> Self {
        let BlockLogContents {
            records,
            checkpoint,
            is_clean,
            ..
        } = contents.clone();
        Self {
            records,
            checkpoint,
            is_clean,
        }
    }
}

fn new_records(step: &Step, number: usize) -> Vec<Vec<u8>> {
    let Step::Append { sizes, .. } = step else {
        return Vec::new();
    };
    sizes.iter().map(|size| vec![number as u8; *size]).collect()
}

/// What the log holds before the first step and after each.
fn models(life: &[Step]) -> Vec<Model> {
    let mut model = Model::default();
    let mut models = vec![model.clone()];
    for (number, step) in life.iter().enumerate() {
        model.apply(step, number);
        models.push(model.clone());
    }
    models
}

/// Lives until the end or the first error; counts the steps that were acknowledged.
async fn live(
    disk: MemoryDisk,
    life: &[Step],
    acknowledged: &mut usize,
) -> Result<(), BlockLogError> {
    let models = models(life);
    let mut log: Option<Log> = None;
    for (number, step) in life.iter().enumerate() {
        let result = match (step, &log) {
            (Step::Create, _) => {
                let none: [&[u8]; 0] = [];
                let made =
                    BlockLog::create(disk.clone(), PATH, KIND, IDENTITY, &none, b"first").await;
                made.map(|made| log = Some(made))
            }
            (Step::Append { checkpoint, .. }, Some(log)) => {
                log.append(&new_records(step, number), *checkpoint).await
            }
            (Step::MarkClean, Some(log)) => log.mark_clean(None).await,
            (Step::Rewrite { .. }, Some(log)) => {
                let after = &models[number + 1];
                log.rewrite(&after.records, &after.checkpoint).await
            }
            (_, None) => panic!("a life begins with its creation"),
        };
        result?;
        *acknowledged = number + 1;
    }
    Ok(())
}

fn open(image: &DiskImage) -> Result<BlockLogContents, BlockLogError> {
    let executor = Executor::new(1);
    let disk = MemoryDisk::from_image(&executor, image);
    executor
        .block_on(BlockLog::open(disk, PATH, KIND))
        .map(|(_, contents)| contents)
}

/// The disk after a whole life, for tests that damage it.
fn lived() -> DiskImage {
    let executor = Executor::new(1);
    let disk = MemoryDisk::new(&executor);
    executor
        .block_on(live(disk.clone(), &life(), &mut 0))
        .expect("a healthy disk");
    disk.image()
}

/// Opens what a crash has left. It holds what was acknowledged, or one step more; then it goes on.
fn expect_survival(image: &DiskImage, acknowledged: usize, context: &str) {
    let models = models(&life());
    let allowed = &models[acknowledged..models.len().min(acknowledged + 2)];
    match open(image) {
        Ok(contents) => {
            assert!(
                allowed.contains(&Model::of(&contents)),
                "{context}: {:?}",
                Model::of(&contents)
            );
            assert_eq!(contents.identity, IDENTITY);
        }
        Err(BlockLogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            assert_eq!(acknowledged, 0, "{context}: the log is gone");
            return;
        }
        Err(error) => panic!("{context}: {error}"),
    }
    expect_growth(image, context);
}

/// A log that was opened takes records, and keeps them together with the old ones.
fn expect_growth(image: &DiskImage, context: &str) {
    let executor = Executor::new(1);
    let disk = MemoryDisk::from_image(&executor, image);
    let mut expected = executor.block_on(async {
        let (log, contents) = BlockLog::open(disk.clone(), PATH, KIND)
            .await
            .expect("it was opened before");
        for record in [b"more", b"most"] {
            log.append(&[record], None).await.expect("a healthy disk");
        }
        contents
    });
    expected
        .records
        .extend([b"more".to_vec(), b"most".to_vec()]);
    let grown = open(&disk.crash(1)).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(grown.records, expected.records, "{context}");
    assert!(!grown.was_repaired && !grown.is_clean);
}

#[test]
fn a_log_holds_what_was_appended() {
    for (steps, model) in models(&life()).iter().enumerate().skip(1) {
        let executor = Executor::new(steps as u64);
        let disk = MemoryDisk::new(&executor);
        executor
            .block_on(live(disk.clone(), &life()[..steps], &mut 0))
            .unwrap();
        let contents = open(&disk.crash(1)).unwrap();
        assert_eq!(&Model::of(&contents), model);
        assert!(!contents.was_repaired);
    }
}

#[test]
fn a_crash_at_every_step_loses_nothing_that_was_acknowledged() {
    let mut repaired = 0;
    for step in 0.. {
        let mut finished = false;
        for seed in 0..SEEDS {
            let executor = Executor::new(1);
            let disk = MemoryDisk::new(&executor);
            disk.halt_at(step);
            let mut acknowledged = 0;
            finished = executor
                .try_block_on(live(disk.clone(), &life(), &mut acknowledged))
                .is_some();
            executor.crash();
            let image = disk.crash(seed);
            repaired += u64::from(open(&image).is_ok_and(|contents| contents.was_repaired));
            expect_survival(&image, acknowledged, &format!("step {step}, seed {seed}"));
        }
        if finished {
            assert!(step > 30, "{step} steps only");
            break;
        }
    }
    assert!(
        repaired > 0,
        "no crash came between a group and its superblock"
    );
}

#[test]
fn a_second_crash_while_opening_loses_nothing() {
    for step in 0..35 {
        let executor = Executor::new(1);
        let disk = MemoryDisk::new(&executor);
        disk.halt_at(step);
        let mut acknowledged = 0;
        let _ = executor.try_block_on(live(disk.clone(), &life(), &mut acknowledged));
        let first = disk.crash(step);
        for second_step in 0..10 {
            let executor = Executor::new(2);
            let disk = MemoryDisk::from_image(&executor, &first);
            disk.halt_at(second_step);
            let _ = executor.try_block_on(BlockLog::open(disk.clone(), PATH, KIND));
            for seed in 0..3 {
                let context = format!("steps {step} and {second_step}, seed {seed}");
                expect_survival(&disk.crash(seed), acknowledged, &context);
            }
        }
    }
}

/// The operations of a whole life that satisfy `wanted`.
fn operations(wanted: impl Fn(&Operation) -> bool) -> Vec<Operation> {
    let executor = Executor::new(1);
    let disk = MemoryDisk::new(&executor);
    disk.start_trace();
    executor
        .block_on(live(disk.clone(), &life(), &mut 0))
        .expect("a healthy disk");
    disk.take_trace().into_iter().filter(wanted).collect()
}

#[test]
fn every_failing_operation_is_reported_and_survived() {
    for operation in operations(|operation| operation.kind.is_change()) {
        let executor = Executor::new(1);
        let disk = MemoryDisk::new(&executor);
        disk.inject(Fault::io_error().at(operation.number));
        let mut acknowledged = 0;
        let result = executor.block_on(live(disk.clone(), &life(), &mut acknowledged));
        let context = format!("{operation:?}");
        assert!(
            matches!(result, Err(BlockLogError::Io { .. })),
            "{context}: {result:?}"
        );
        expect_survival(&disk.image(), acknowledged, &context);
        for seed in 0..SEEDS {
            expect_survival(
                &disk.crash(seed),
                acknowledged,
                &format!("{context}, seed {seed}"),
            );
        }
    }
}

#[test]
fn a_failed_write_poisons_the_log_until_it_is_reopened() {
    let executor = Executor::new(1);
    let disk = MemoryDisk::new(&executor);
    executor.block_on(async {
        live(disk.clone(), &life(), &mut 0).await.unwrap();
        let (log, before) = BlockLog::open(disk.clone(), PATH, KIND).await.unwrap();
        disk.inject(Fault::io_error().on(OperationKind::Write));
        assert!(matches!(
            log.append(&[b"x"], None).await,
            Err(BlockLogError::Io { .. })
        ));
        assert!(log.is_poisoned().await);
        assert!(matches!(
            log.append(&[b"y"], None).await,
            Err(BlockLogError::Poisoned { .. })
        ));
        assert!(matches!(
            log.rewrite(&[b"y"], b"").await,
            Err(BlockLogError::Poisoned { .. })
        ));
        let (log, after) = BlockLog::open(disk.clone(), PATH, KIND).await.unwrap();
        assert!(after.records.starts_with(&before.records));
        log.append(&[b"z"], None).await.unwrap();
    });
}

#[test]
fn an_append_that_is_dropped_half_way_poisons_the_log() {
    let executor = Executor::new(1);
    let disk = MemoryDisk::new(&executor);
    executor
        .block_on(live(disk.clone(), &life(), &mut 0))
        .unwrap();
    let (log, before) = executor
        .block_on(BlockLog::open(disk.clone(), PATH, KIND))
        .unwrap();
    disk.halt_at(disk.operations() + 1);
    assert!(executor.try_block_on(log.append(&[b"x"], None)).is_none());
    assert!(executor.block_on(log.is_poisoned()));
    let after = open(&disk.image()).unwrap();
    assert!(after.records.starts_with(&before.records));
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let executor = Executor::new(1);
    let disk = MemoryDisk::new(&executor);
    executor.block_on(async {
        let log = BlockLog::create(disk.clone(), PATH, KIND, IDENTITY, &[b"a"], b"")
            .await
            .unwrap();
        disk.set_capacity(Some(disk.allocated()));
        let large = vec![1; 100_000];
        for error in [
            log.append(&[&large], None).await,
            log.rewrite(&[&large], b"").await,
        ] {
            let Err(BlockLogError::Io { source, .. }) = error else {
                panic!("{error:?}")
            };
            assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        }
        assert_eq!(
            disk.files().len(),
            1,
            "what a rewrite has taken is given back"
        );
        log.append(&[b"small"], None).await.unwrap();
        disk.set_capacity(None);
        log.append(&[&large], None).await.unwrap();
        let contents = BlockLog::open(disk.clone(), PATH, KIND).await.unwrap().1;
        assert_eq!(contents.records, [b"a".to_vec(), b"small".to_vec(), large]);
    });
}

#[test]
fn every_flipped_bit_is_detected_or_harmless() {
    let image = lived();
    let sound = Model::of(&open(&image).unwrap());
    let (_, len) = image.files()[0];
    let mut detected = 0;
    let mut flips = 0;
    for byte in 0..len {
        // Every bit of what has fields, one of each byte elsewhere.
        let has_fields = byte % (BLOCK_BYTES as u64) < 64;
        for bit in if has_fields {
            0..8
        } else {
            (byte % 8) as u8..(byte % 8) as u8 + 1
        } {
            let mut damaged = image.clone();
            damaged.flip_bit(PATH, byte, bit);
            flips += 1;
            match open(&damaged) {
                Ok(contents) => assert_eq!(Model::of(&contents), sound, "byte {byte}, bit {bit}"),
                Err(BlockLogError::Corrupt { .. }) => detected += 1,
                Err(error) => panic!("byte {byte}, bit {bit}: {error}"),
            }
        }
    }
    assert!(detected > flips / 3, "{detected} of {flips}");
}

#[test]
fn a_truncated_file_is_refused_with_its_position() {
    let image = lived();
    let sound = open(&image).unwrap();
    let (_, len) = image.files()[0];
    for cut in (0..len).step_by(BLOCK_BYTES / 2) {
        let mut damaged = image.clone();
        damaged.truncate(PATH, cut);
        match open(&damaged) {
            Ok(contents) => assert_eq!(contents, sound),
            Err(error) => {
                let BlockLogError::Corrupt { file, position, .. } = &error else {
                    panic!("{error}")
                };
                assert!(file == PATH && *position <= cut);
            }
        }
    }
    let mut missing = image.clone();
    missing.remove(PATH);
    assert!(matches!(open(&missing), Err(BlockLogError::Io { .. })));
}

#[test]
fn a_write_that_the_device_lost_or_misdirected_is_detected() {
    let whole = models(&life()).pop().unwrap();
    let mut detected = 0;
    let writes = operations(|operation| operation.kind == OperationKind::Write);
    let positions: Vec<u64> = writes.iter().map(|write| write.position).collect();
    for write in &writes {
        let elsewhere = positions
            .iter()
            .filter(|position| **position != write.position);
        // A write goes astray within the file that has the path at that time.
        let misdirected = elsewhere.map(|position| {
            (
                format!("went to {position}"),
                Fault::misdirected(&write.path, *position),
            )
        });
        for (context, fault) in misdirected.chain([("was lost".to_owned(), Fault::lost())]) {
            let executor = Executor::new(1);
            let disk = MemoryDisk::new(&executor);
            disk.inject(fault.at(write.number));
            executor
                .block_on(live(disk.clone(), &life(), &mut 0))
                .unwrap();
            match open(&disk.image()) {
                // A later rewrite may have healed it, or the group speaks for its superblock.
                Ok(contents) => assert_eq!(Model::of(&contents), whole, "{write:?} {context}"),
                Err(BlockLogError::Corrupt { .. }) => detected += 1,
                Err(error) => panic!("{write:?} {context}: {error}"),
            }
        }
    }
    assert!(detected > 0);
}

#[test]
fn blocks_of_another_log_are_not_accepted() {
    let image = lived();
    let executor = Executor::new(1);
    let disk = MemoryDisk::new(&executor);
    let none: [&[u8]; 0] = [];
    executor.block_on(async {
        let log = BlockLog::create(disk.clone(), PATH, KIND, Uuid::nil(), &none, b"")
            .await
            .unwrap();
        log.append(&[b"foreign"], None).await.unwrap();
    });
    let foreign = disk.image().read(PATH).unwrap();
    let own = image.read(PATH).unwrap();
    for block in 0..4 {
        let range = block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES;
        let mut mixed = own.clone();
        mixed[range.clone()].copy_from_slice(&foreign[range]);
        let mut damaged = image.clone();
        damaged.write(PATH, &mixed);
        match open(&damaged) {
            Ok(contents) => assert_eq!(
                Model::of(&contents),
                Model::of(&open(&image).unwrap()),
                "block {block}"
            ),
            Err(error) => assert!(matches!(error, BlockLogError::Corrupt { .. }), "{error}"),
        }
    }
}

#[test]
fn impossible_requests_are_refused_without_harm() {
    let executor = Executor::new(1);
    let disk = MemoryDisk::new(&executor);
    executor.block_on(async {
        let log = BlockLog::create(disk.clone(), PATH, KIND, IDENTITY, &[b"a"], b"point")
            .await
            .unwrap();
        let large = vec![0; GROUP_BYTES_MAX];
        assert!(matches!(
            log.append(&[&large], None).await,
            Err(BlockLogError::TooLarge { .. })
        ));
        assert!(matches!(
            log.rewrite(&[&large], b"").await,
            Err(BlockLogError::TooLarge { .. })
        ));
        let checkpoint = vec![0; CHECKPOINT_BYTES_MAX + 1];
        let refused = log.append(&[b"a"], Some(&checkpoint)).await;
        assert!(matches!(refused, Err(BlockLogError::TooLarge { .. })));
        let again = BlockLog::create(disk.clone(), PATH, KIND, IDENTITY, &[b"a"], b"").await;
        assert!(matches!(again, Err(BlockLogError::Io { .. })));
        let other = BlockLog::open(disk.clone(), PATH, BlockLogKind::Metadata).await;
        assert!(matches!(other, Err(BlockLogError::Kind { .. })));
        log.append(&[b"b"], None).await.unwrap();
        let contents = BlockLog::open(disk.clone(), PATH, KIND).await.unwrap().1;
        assert_eq!(contents.records, [b"a", b"b"]);
        assert_eq!(contents.checkpoint, b"point");
    });
}

#[test]
fn appends_that_meet_take_turns() {
    for seed in 0..20 {
        let executor = Executor::new(seed);
        let disk = MemoryDisk::new(&executor);
        let none: [&[u8]; 0] = [];
        let log = executor.block_on(BlockLog::create(
            disk.clone(),
            PATH,
            KIND,
            IDENTITY,
            &none,
            b"",
        ));
        let log = std::rc::Rc::new(log.unwrap());
        for number in 0..5_u8 {
            let log = std::rc::Rc::clone(&log);
            executor.spawn(async move { log.append(&[[number]], None).await.unwrap() });
        }
        executor.run_until_stalled();
        let mut records = open(&disk.crash(seed)).unwrap().records;
        records.sort();
        assert_eq!(
            records,
            (0..5).map(|number| vec![number]).collect::<Vec<_>>()
        );
        assert_eq!(executor.block_on(log.len_bytes()), 9 * BLOCK_BYTES as u64);
    }
}

#[test]
fn a_rewrite_of_many_records_takes_several_groups() {
    let executor = Executor::new(1);
    let disk = MemoryDisk::new(&executor);
    let records: Vec<Vec<u8>> = (0..3000_u32)
        .map(|number| number.to_le_bytes().repeat(100))
        .collect();
    executor.block_on(async {
        let log = BlockLog::create(disk.clone(), PATH, KIND, IDENTITY, &records[..5], b"")
            .await
            .unwrap();
        log.rewrite(&records, b"now").await.unwrap();
        log.append(&[b"end"], None).await.unwrap();
    });
    let contents = open(&disk.crash(1)).unwrap();
    assert_eq!(contents.records[..3000], records);
    assert_eq!(
        (contents.records.len(), &contents.checkpoint[..]),
        (3001, &b"now"[..])
    );
}

#[test]
fn a_log_can_be_printed() {
    let image = lived();
    let print = |bytes: Vec<u8>| {
        let mut out = Vec::new();
        let result = dump::dump(&mut Cursor::new(bytes), &mut out);
        (result, String::from_utf8(out).unwrap())
    };
    let bytes = image.read(PATH).unwrap();
    let (result, text) = print(bytes.clone());
    result.unwrap();
    for expected in [
        "kind Catalogue",
        &IDENTITY.to_string(),
        "incarnation 2",
        "sequence 3",
        "record: not understood: 08080808",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    let mut damaged = bytes.clone();
    damaged[3 * BLOCK_BYTES + 500] ^= 1;
    let (result, text) = print(damaged);
    assert!(
        matches!(
            result,
            Err(dump::DumpError::Damaged {
                position: 12288,
                ..
            })
        ),
        "{result:?}"
    );
    assert!(text.contains("superblock at 8192"));
    assert!(matches!(
        print(b"something else".to_vec()).0,
        Err(dump::DumpError::Unknown(_))
    ));
    assert!(matches!(
        print(bytes[..100].to_vec()).0,
        Err(dump::DumpError::Damaged { position: 100, .. })
    ));
}
