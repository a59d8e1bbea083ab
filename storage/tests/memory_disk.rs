//! The in-memory disk keeps its promises: what is durable survives, what is not may go in every way.

use std::collections::BTreeSet;
use std::io;

use corelane_storage::disk::memory::{DiskImage, Fault, MemoryDisk, MemoryFile, OperationKind};
use corelane_storage::disk::{
    BLOCK_BYTES, Disk, DiskFile, Durable, OpenOptions, Unsynced, WriteData,
};
use corelane_storage::memory::AlignedBuf;
use corelane_storage::testing::Executor;

const BLOCK: u64 = BLOCK_BYTES as u64;
const CRASHES: u64 = 200;

fn blocks(byte: u8, count: usize) -> WriteData {
    let mut buffer = AlignedBuf::zeroed(count * BLOCK_BYTES);
    buffer.fill(byte);
    WriteData::from(buffer)
}

async fn durable_file(disk: &MemoryDisk, path: &str) -> MemoryFile {
    let file = disk
        .open(path, OpenOptions::CREATE_NEW)
        .await
        .expect("a new file");
    disk.sync_dir("").await.expect("a healthy disk");
    file
}

async fn bytes(file: &MemoryFile, position: u64, len: usize) -> Vec<u8> {
    let (count, buffer) = file.read(position, AlignedBuf::zeroed(len)).await;
    buffer[..count.expect("a healthy disk")].to_vec()
}

/// Runs `work` on a new disk, and hands back that disk.
fn after<F: Future<Output = ()>>(seed: u64, work: impl FnOnce(MemoryDisk) -> F) -> MemoryDisk {
    let executor = Executor::new(seed);
    let disk = MemoryDisk::new(&executor);
    executor.block_on(work(disk.clone()));
    disk
}

fn crashes(disk: &MemoryDisk) -> impl Iterator<Item = DiskImage> {
    (0..CRASHES).map(|seed| disk.crash(seed))
}

#[test]
fn reads_see_what_was_written_and_end_with_the_file() {
    after(1, async |disk| {
        let file = durable_file(&disk, "a").await;
        file.write(BLOCK, blocks(7, 2), Durable::No).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 3 * BLOCK);
        assert_eq!(bytes(&file, 0, BLOCK_BYTES).await, [0; BLOCK_BYTES]);
        assert_eq!(
            bytes(&file, 2 * BLOCK, 4 * BLOCK_BYTES).await,
            [7; BLOCK_BYTES]
        );
        assert_eq!(bytes(&file, 3 * BLOCK, BLOCK_BYTES).await, []);
        file.truncate(BLOCK + 100).await.unwrap();
        file.truncate(2 * BLOCK).await.unwrap();
        let mut cut = [0; BLOCK_BYTES];
        cut[..100].fill(7);
        assert_eq!(bytes(&file, BLOCK, 2 * BLOCK_BYTES).await, cut);
    });
}

#[test]
fn flushed_and_dsync_writes_survive_every_crash() {
    let disk = after(1, async |disk| {
        let file = durable_file(&disk, "a").await;
        file.write(0, blocks(1, 1), Durable::No).await.unwrap();
        file.write(0, blocks(2, 1), Durable::No).await.unwrap();
        file.flush().await.unwrap();
        file.write(BLOCK, blocks(3, 1), Durable::Data)
            .await
            .unwrap();
    });
    for image in crashes(&disk) {
        let bytes = image.read("a").unwrap();
        assert_eq!(bytes, [[2; BLOCK_BYTES], [3; BLOCK_BYTES]].concat());
    }
}

#[test]
fn unflushed_writes_are_kept_lost_torn_and_reordered() {
    let disk = after(1, async |disk| {
        let file = durable_file(&disk, "a").await;
        file.write(0, blocks(1, 2), Durable::Data).await.unwrap();
        file.write(0, blocks(2, 1), Durable::No).await.unwrap();
        file.write(BLOCK, blocks(3, 1), Durable::No).await.unwrap();
    });
    let survivors: BTreeSet<Vec<u8>> = crashes(&disk)
        .map(|image| image.read("a").unwrap())
        .collect();
    let whole = |first, second| [[first; BLOCK_BYTES], [second; BLOCK_BYTES]].concat();
    for expected in [whole(1, 1), whole(2, 3), whole(2, 1), whole(1, 3)] {
        let (first, second) = (expected[0], expected[BLOCK_BYTES]);
        assert!(survivors.contains(&expected), "never {first} then {second}");
    }
    let torn = |bytes: &[u8]| bytes.chunks(512).any(|sector| sector != &bytes[..512]);
    assert!(survivors.iter().any(|bytes| torn(&bytes[..BLOCK_BYTES])));
    let is_whole_sector = |sector: &[u8]| {
        sector
            .iter()
            .all(|byte| *byte == sector[0] && matches!(byte, 1..=3))
    };
    assert!(
        survivors
            .iter()
            .flat_map(|bytes| bytes.chunks(512))
            .all(is_whole_sector)
    );
}

#[test]
fn a_flush_covers_only_the_writes_before_it() {
    let executor = Executor::new(1);
    let disk = MemoryDisk::new(&executor);
    let file = executor.block_on(durable_file(&disk, "a"));
    executor
        .block_on(file.write(0, blocks(1, 1), Durable::Data))
        .unwrap();
    let mut flush = Box::pin(file.flush());
    executor.block_on(std::future::poll_fn(|context| {
        assert!(flush.as_mut().poll(context).is_pending());
        std::task::Poll::Ready(())
    }));
    executor
        .block_on(file.write(0, blocks(2, 1), Durable::No))
        .unwrap();
    executor.block_on(flush).unwrap();
    assert!(crashes(&disk).any(|image| image.read("a").unwrap()[0] == 1));
    executor.block_on(file.flush()).unwrap();
    assert!(crashes(&disk).all(|image| image.read("a").unwrap() == [2; BLOCK_BYTES]));
}

#[test]
fn a_dsync_write_in_flight_may_be_torn() {
    let executor = Executor::new(1);
    let disk = MemoryDisk::new(&executor);
    let file = executor.block_on(durable_file(&disk, "a"));
    executor
        .block_on(file.write(0, blocks(1, 4), Durable::Data))
        .unwrap();
    disk.halt_at(disk.operations());
    assert!(
        executor
            .try_block_on(file.write(0, blocks(2, 4), Durable::Data))
            .is_none()
    );
    assert!(disk.is_halted());
    let survivors: Vec<Vec<u8>> = crashes(&disk)
        .map(|image| image.read("a").unwrap())
        .collect();
    for byte in [1, 2] {
        assert!(survivors.contains(&vec![byte; 4 * BLOCK_BYTES]));
    }
    assert!(
        survivors
            .iter()
            .any(|bytes| bytes.contains(&1) && bytes.contains(&2))
    );
    assert_eq!(disk.image().read("a").unwrap(), [1; 4 * BLOCK_BYTES]);
}

#[test]
fn what_a_killed_process_wrote_stays_and_is_not_durable() {
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let executor = Executor::new(seed);
        let disk = MemoryDisk::new(&executor);
        let file = executor.block_on(durable_file(&disk, "a"));
        executor
            .block_on(file.write(0, blocks(1, 1), Durable::No))
            .unwrap();
        disk.halt_at(disk.operations());
        let in_flight = file.write(BLOCK, blocks(2, 1), Durable::Data);
        assert!(executor.try_block_on(in_flight).is_none());
        executor.crash();
        disk.kill(seed);
        let found = executor.block_on(bytes(&file, 0, 2 * BLOCK_BYTES));
        assert_eq!(found[0], 1);
        seen.insert(found.len() / BLOCK_BYTES);
        assert!(crashes(&disk).any(|image| image.read("a").unwrap().is_empty()));
        let again = file.write(BLOCK, blocks(3, 1), Durable::Data);
        executor.block_on(again).unwrap();
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}

#[test]
fn a_dropped_future_does_not_cancel_its_write() {
    let executor = Executor::new(1);
    let disk = MemoryDisk::new(&executor);
    let file = executor.block_on(durable_file(&disk, "a"));
    {
        let mut write = Box::pin(file.write(0, blocks(9, 1), Durable::No));
        executor.block_on(std::future::poll_fn(|context| {
            assert!(write.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        }));
    }
    executor.run_until_stalled();
    assert_eq!(
        executor.block_on(bytes(&file, 0, BLOCK_BYTES)),
        [9; BLOCK_BYTES]
    );
}

#[test]
fn writes_in_flight_complete_in_any_order() {
    let mut orders = BTreeSet::new();
    for seed in 0..50 {
        let executor = Executor::new(seed);
        let disk = MemoryDisk::new(&executor);
        let file = executor.block_on(durable_file(&disk, "a"));
        disk.start_trace();
        for position in 0..3 {
            let file = file.clone();
            executor.spawn(async move {
                file.write(position * BLOCK, blocks(1, 1), Durable::No)
                    .await
                    .unwrap();
            });
        }
        executor.run_until_stalled();
        let trace = disk.take_trace();
        orders.insert(
            trace
                .iter()
                .map(|operation| operation.position / BLOCK)
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(orders.len(), 6, "{orders:?}");
}

#[test]
#[should_panic(expected = "two writes in flight overlap in a")]
fn writes_in_flight_must_not_overlap() {
    let executor = Executor::new(1);
    let disk = MemoryDisk::new(&executor);
    let file = executor.block_on(durable_file(&disk, "a"));
    for position in [0, 1] {
        let file = file.clone();
        executor.spawn(async move {
            file.write(position * BLOCK, blocks(1, 2), Durable::No)
                .await
        });
    }
    executor.run_until_stalled();
}

#[test]
#[should_panic(expected = "are not whole blocks")]
fn a_write_starts_at_a_block() {
    after(1, async |disk| {
        let file = durable_file(&disk, "a").await;
        let _ = file.write(512, blocks(1, 1), Durable::No).await;
    });
}

#[test]
fn a_name_is_durable_once_its_directory_is_synced() {
    let present = |disk: &MemoryDisk, path: &str| {
        crashes(disk)
            .filter(|image| image.read(path).is_some())
            .count()
    };
    let some = 1..CRASHES as usize;
    let disk = after(1, async |disk| {
        let file = disk.open("a", OpenOptions::CREATE_NEW).await.unwrap();
        file.write(0, blocks(1, 1), Durable::Data).await.unwrap();
    });
    assert!(some.contains(&present(&disk, "a")));

    let disk = after(1, async |disk| {
        disk.create_dir("dir").await.unwrap();
        durable_file(&disk, "dir/a").await;
        disk.sync_dir("dir").await.unwrap();
    });
    // `durable_file` has synced the data directory, and so the name of `dir`.
    assert_eq!(present(&disk, "dir/a"), CRASHES as usize);

    let disk = after(1, async |disk| {
        disk.create_dir("dir").await.unwrap();
        disk.open("dir/a", OpenOptions::CREATE_NEW).await.unwrap();
        disk.sync_dir("dir").await.unwrap();
    });
    assert!(some.contains(&present(&disk, "dir/a")));
}

#[test]
fn a_rename_or_unlink_survives_or_not_as_a_whole() {
    let disk = after(1, async |disk| {
        for (path, byte) in [("new", 2), ("old", 1), ("gone", 3)] {
            let file = durable_file(&disk, path).await;
            file.write(0, blocks(byte, 1), Durable::Data).await.unwrap();
        }
        disk.rename("new", "old").await.unwrap();
        disk.remove_file("gone").await.unwrap();
    });
    let mut seen = BTreeSet::new();
    for image in crashes(&disk) {
        let byte = |path| image.read(path).map(|bytes| bytes[0]);
        assert!(matches!(
            (byte("new"), byte("old")),
            (None, Some(2)) | (Some(2), Some(1))
        ));
        seen.insert((byte("old"), byte("gone")));
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn names_behave_as_on_a_real_filesystem() {
    after(1, async |disk| {
        let kind = |result: io::Result<()>| result.unwrap_err().kind();
        let open = async |path, options| disk.open(path, options).await.map(drop);
        let missing = open("a", OpenOptions::EXISTING).await;
        assert_eq!(kind(missing), io::ErrorKind::NotFound);
        durable_file(&disk, "a").await;
        let present = open("a", OpenOptions::CREATE_NEW).await;
        assert_eq!(kind(present), io::ErrorKind::AlreadyExists);
        assert!(open("a", OpenOptions::CREATE).await.is_ok());
        assert_eq!(kind(disk.create_dir("x/y").await), io::ErrorKind::NotFound);
        disk.create_dir("x").await.unwrap();
        assert_eq!(
            kind(disk.create_dir("x").await),
            io::ErrorKind::AlreadyExists
        );
        let file = disk.open("x/b", OpenOptions::CREATE).await.unwrap();
        file.allocate(5 * BLOCK).await.unwrap();
        assert_eq!(
            kind(disk.remove_dir("x").await),
            io::ErrorKind::DirectoryNotEmpty
        );
        let entries = disk.list("").await.unwrap();
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| (&entry.name[..], entry.is_dir))
            .collect();
        assert_eq!(entries, [("a", false), ("x", true)]);
        assert_eq!(disk.list("x").await.unwrap()[0].len, 5 * BLOCK);
        assert_eq!(disk.file_len("x/b").await.unwrap(), Some(5 * BLOCK));
        assert_eq!(disk.file_len("x/c").await.unwrap(), None);
        disk.remove_file("x/b").await.unwrap();
        disk.remove_dir("x").await.unwrap();
        assert_eq!(
            disk.list("x").await.unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    });
}

#[test]
fn a_failed_flush_may_lose_data_and_the_next_one_succeeds() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = after(seed, async |disk| {
            let file = durable_file(&disk, "a").await;
            file.write(0, blocks(1, 1), Durable::Data).await.unwrap();
            file.write(0, blocks(2, 1), Durable::No).await.unwrap();
            disk.inject(Fault::io_error().on(OperationKind::Flush));
            assert!(file.flush().await.is_err());
            file.flush().await.unwrap();
        });
        let survivors: BTreeSet<_> = crashes(&disk)
            .map(|image| image.read("a").unwrap())
            .collect();
        assert_eq!(survivors.len(), 1, "nothing is left to decide");
        lost += usize::from(!survivors.contains(&vec![2; BLOCK_BYTES]));
    }
    assert!(lost > 0);
}

#[test]
fn a_failed_write_may_have_written_a_part() {
    let mut parts = BTreeSet::new();
    for seed in 0..50 {
        let disk = after(seed, async |disk| {
            let file = durable_file(&disk, "a").await;
            file.write(0, blocks(1, 2), Durable::Data).await.unwrap();
            disk.inject(
                Fault::io_error()
                    .on(OperationKind::Write)
                    .in_path(|path| path == "a"),
            );
            assert!(file.write(0, blocks(2, 2), Durable::Data).await.is_err());
        });
        let bytes = disk.image().read("a").unwrap();
        parts.insert((bytes[0], bytes[BLOCK_BYTES]));
    }
    assert_eq!(parts.len(), 4, "{parts:?}");
}

#[test]
fn a_full_disk_refuses_to_grow_and_recovers() {
    after(1, async |disk| {
        disk.set_capacity(Some(4 * BLOCK));
        let file = durable_file(&disk, "a").await;
        file.allocate(3 * BLOCK).await.unwrap();
        file.write(0, blocks(1, 3), Durable::Data).await.unwrap();
        let full = file
            .write(3 * BLOCK, blocks(1, 2), Durable::Data)
            .await
            .unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        let full = file.allocate(5 * BLOCK).await.unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(
            (file.len().await.unwrap(), disk.allocated()),
            (3 * BLOCK, 3 * BLOCK)
        );
        let other = durable_file(&disk, "b").await;
        assert!(other.write(0, blocks(1, 2), Durable::No).await.is_err());
        disk.remove_file("a").await.unwrap();
        other.write(0, blocks(1, 2), Durable::No).await.unwrap();
    });
}

#[test]
fn writes_can_be_lost_or_misdirected() {
    after(1, async |disk| {
        let file = durable_file(&disk, "a").await;
        let other = durable_file(&disk, "b").await;
        file.write(0, blocks(1, 2), Durable::Data).await.unwrap();
        other.write(0, blocks(1, 2), Durable::Data).await.unwrap();
        disk.inject(Fault::lost());
        file.write(0, blocks(2, 1), Durable::Data).await.unwrap();
        disk.inject(Fault::misdirected("b", BLOCK).at(disk.operations()));
        file.write(0, blocks(3, 1), Durable::Data).await.unwrap();
        assert_eq!(bytes(&file, 0, 2 * BLOCK_BYTES).await, [1; 2 * BLOCK_BYTES]);
        assert_eq!(bytes(&other, BLOCK, BLOCK_BYTES).await, [3; BLOCK_BYTES]);
    });
}

#[test]
fn bits_flip_on_the_device_and_on_the_way() {
    let disk = after(1, async |disk| {
        let file = durable_file(&disk, "a").await;
        file.write(0, blocks(0, 2), Durable::No).await.unwrap();
        disk.flip_bit("a", 5000, 3);
        file.flush().await.unwrap();
        assert_eq!(
            bytes(&file, BLOCK, BLOCK_BYTES).await[5000 - BLOCK_BYTES],
            8
        );
        disk.inject(Fault::corrupt_read(1, 0));
        assert_eq!(bytes(&file, 0, BLOCK_BYTES).await[1], 1);
        assert_eq!(bytes(&file, 0, BLOCK_BYTES).await[1], 0);
    });
    assert!(crashes(&disk).all(|image| image.read("a").unwrap()[5000] == 8));
}

#[test]
fn a_length_that_was_not_flushed_may_be_lost() {
    let disk = after(1, async |disk| {
        let file = durable_file(&disk, "a").await;
        file.allocate(10 * BLOCK).await.unwrap();
        file.flush().await.unwrap();
        file.truncate(2 * BLOCK).await.unwrap();
        file.allocate(20 * BLOCK).await.unwrap();
    });
    let lengths: BTreeSet<u64> = crashes(&disk)
        .map(|image| image.files()[0].1 / BLOCK)
        .collect();
    assert!(
        [2, 10, 20].iter().all(|len| lengths.contains(len)),
        "{lengths:?}"
    );
}

#[test]
fn a_crash_at_each_step_leaves_a_prefix_of_durable_writes() {
    let work = async |disk: MemoryDisk| {
        let file = durable_file(&disk, "a").await;
        for position in 0..5 {
            let data = blocks(position as u8 + 1, 1);
            file.write(position * BLOCK, data, Durable::Data)
                .await
                .unwrap();
        }
    };
    let steps = after(1, work).operations();
    assert_eq!(steps, 7);
    for step in 0..steps {
        let executor = Executor::new(1);
        let disk = MemoryDisk::new(&executor);
        disk.halt_at(step);
        assert!(executor.try_block_on(work(disk.clone())).is_none());
        executor.crash();
        let durable = step.saturating_sub(2);
        let image = disk.crash(step);
        let reopened = MemoryDisk::from_image(&executor, &image);
        let Some(contents) = image.read("a") else {
            assert!(step < 2);
            continue;
        };
        assert!(contents.len() as u64 >= durable * BLOCK);
        for (block, byte) in contents.chunks(BLOCK_BYTES).zip(1..=durable) {
            assert_eq!(block, [byte as u8; BLOCK_BYTES]);
        }
        assert_eq!(reopened.files(), [("a".to_owned(), contents.len() as u64)]);
    }
}

#[test]
fn an_image_can_be_edited_and_reopened() {
    let mut image = DiskImage::default();
    image.write("x/y/a", b"hello");
    image.flip_bit("x/y/a", 0, 1);
    image.truncate("x/y/a", 3);
    assert_eq!(image.read("x/y/a").unwrap(), b"jel");
    assert_eq!(image.directories(), ["x", "x/y"]);
    let executor = Executor::new(1);
    let disk = MemoryDisk::from_image(&executor, &image);
    assert_eq!(disk.image(), image);
    assert_eq!(disk.crash(1), image);
    assert!(image.remove("x/y/a"));
    assert!(image.files().is_empty());
}

#[test]
fn what_was_synced_together_survives_but_for_what_failed() {
    let disk = after(1, async |disk| {
        let mut files = Vec::new();
        for path in ["a", "b", "c"] {
            let create = disk.open(path, OpenOptions::CREATE_NEW);
            let file = create.await.unwrap();
            file.write(0, blocks(7, 1), Durable::No).await.unwrap();
            files.push(file);
        }
        let fault = Fault::io_error().on(OperationKind::Flush);
        disk.inject(fault.in_path(|path| path == "b"));
        let items = files.iter().map(Unsynced::File);
        let items: Vec<_> = items.chain([Unsynced::Directory("")]).collect();
        let synced = disk.sync_together(&items).await;
        let is_ok: Vec<bool> = synced.iter().map(Result::is_ok).collect();
        assert_eq!(is_ok, [true, false, true, true]);
    });
    let mut lost = 0;
    for image in crashes(&disk) {
        for path in ["a", "c"] {
            assert_eq!(image.read(path), Some(vec![7; BLOCK_BYTES]), "{path}");
        }
        lost += usize::from(image.read("b") != Some(vec![7; BLOCK_BYTES]));
    }
    assert!(lost > 0);
}
