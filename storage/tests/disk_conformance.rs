//! Every disk keeps the same rules: the in-memory one that tests and the simulator run on, and that of the
//! machine. What holds on the first is then worth something on the second.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use corelane_storage::disk::memory::MemoryDisk;
use corelane_storage::disk::uring::UringDisk;
use corelane_storage::disk::{
    BLOCK_BYTES, Disk, DiskFile, Durable, OpenOptions, Unsynced, WriteData,
};
use corelane_storage::memory::AlignedBuf;
use corelane_storage::ring::{Features, PREEMPT_TIMER, Ring, RingConfig, probe};
use corelane_storage::testing::Executor;
use glommio::{LocalExecutorBuilder, Placement};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Runs a test on each disk.
macro_rules! on_every_disk {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        mod in_memory {
            $($(#[$doc])* #[test] fn $name() {
                let executor = super::Executor::new(7);
                let disk = super::MemoryDisk::new(&executor);
                executor.block_on(super::$name(disk));
            })*
        }
        mod on_the_machine {
            $($(#[$doc])* #[test] fn $name() {
                super::on_a_directory(super::probed(), super::$name);
            })*
        }
        /// Without anything that the oldest kernel lacks.
        mod on_an_old_machine {
            $($(#[$doc])* #[test] fn $name() {
                super::on_a_directory(super::LEAST, super::$name);
            })*
        }
    };
}

on_every_disk! {
    reads_return_what_was_written_and_end_with_the_file;
    a_vectored_write_is_written_in_order;
    writes_in_flight_together_all_arrive;
    lengths_follow_writes_allocations_and_truncations;
    opening_respects_what_exists;
    names_come_and_go;
    a_renamed_file_replaces_its_target;
    a_removed_file_serves_who_has_it_open;
    a_dropped_write_is_written;
    directories_are_listed_in_order;
    the_room_that_is_left_is_told;
    many_are_synced_together;
}

const LEAST: Features = Features {
    incremental_buffers: false,
    minimum_wait: false,
    message_ring: false,
    truncate: false,
};

fn probed() -> Features {
    probe().expect("Linux 6.1 or newer with io_uring")
}

fn on_a_directory<F: Future<Output = ()> + 'static>(
    features: Features,
    test: impl FnOnce(UringDisk) -> F + Send + 'static,
) {
    let core = LocalExecutorBuilder::new(Placement::Unbound)
        .preempt_timer(PREEMPT_TIMER)
        .io_memory(64 * 1024)
        .spawn(move || async move {
            let dir = tempfile::tempdir().expect("a directory");
            let mut config = RingConfig::default();
            if features == LEAST {
                config.fixed_files = 0;
            }
            let ring = Ring::start(config, &features).expect("a ring");
            let disk = UringDisk::open(&ring, dir.path()).await.expect("a disk");
            assert_is_empty(dir.path());
            test(disk).await;
            ring.close().await;
        })
        .expect("an executor");
    core.join().expect("the test does not panic");
}

fn assert_is_empty(path: &Path) {
    let mut entries = std::fs::read_dir(path).expect("a directory");
    assert!(entries.next().is_none(), "opening a disk leaves nothing");
}

fn filled(byte: u8, blocks: usize) -> AlignedBuf {
    let mut buffer = AlignedBuf::zeroed(blocks * BLOCK_BYTES);
    buffer.fill(byte);
    buffer
}

async fn new_file<D: Disk>(disk: &D, path: &str) -> D::File {
    disk.open(path, OpenOptions::CREATE_NEW)
        .await
        .expect("a new file")
}

async fn contents(file: &impl DiskFile, position: u64, blocks: usize) -> Vec<u8> {
    let (count, buffer) = file
        .read(position, AlignedBuf::zeroed(blocks * BLOCK_BYTES))
        .await;
    buffer[..count.expect("a healthy disk")].to_vec()
}

fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
    match result {
        Ok(_) => panic!("it succeeded"),
        Err(error) => error.kind(),
    }
}

async fn reads_return_what_was_written_and_end_with_the_file<D: Disk>(disk: D) {
    let file = new_file(&disk, "file").await;
    assert_eq!(contents(&file, 0, 1).await, []);
    file.write(BLOCK, filled(7, 2).into(), Durable::No)
        .await
        .expect("room");
    assert_eq!(
        contents(&file, 0, 1).await,
        [0; BLOCK_BYTES],
        "a hole reads as zero"
    );
    assert_eq!(contents(&file, BLOCK, 2).await, [7; 2 * BLOCK_BYTES]);
    assert_eq!(contents(&file, 2 * BLOCK, 4).await, [7; BLOCK_BYTES]);
    assert_eq!(contents(&file, 3 * BLOCK, 1).await, []);
    file.write(BLOCK, filled(8, 1).into(), Durable::Data)
        .await
        .expect("room");
    assert_eq!(contents(&file, BLOCK, 1).await, [8; BLOCK_BYTES]);
    file.flush().await.expect("a healthy disk");
    file.truncate(BLOCK + 100).await.expect("a healthy disk");
    assert_eq!(
        contents(&file, BLOCK, 2).await,
        [8; 100],
        "short within a block"
    );
    let again = disk
        .open("file", OpenOptions::EXISTING)
        .await
        .expect("it exists");
    assert_eq!(contents(&again, BLOCK, 2).await, [8; 100]);
}

async fn a_vectored_write_is_written_in_order<D: Disk>(disk: D) {
    let file = new_file(&disk, "file").await;
    for durable in [Durable::No, Durable::Data] {
        let whole = filled(9, 3).freeze();
        let mut segments = vec![whole.slice(BLOCK_BYTES..2 * BLOCK_BYTES)];
        let mut expected = vec![9; BLOCK_BYTES];
        for byte in 0..200 {
            let blocks = usize::from(byte) % 3 + 1;
            segments.push(filled(byte, blocks).freeze());
            expected.extend(vec![byte; blocks * BLOCK_BYTES]);
        }
        let data = WriteData::new(segments);
        let blocks = data.len() / BLOCK_BYTES;
        file.write(2 * BLOCK, data, durable).await.expect("room");
        assert!(contents(&file, 2 * BLOCK, blocks).await == expected);
    }
}

async fn writes_in_flight_together_all_arrive<D: Disk>(disk: D) {
    let file = new_file(&disk, "file").await;
    let mut writes: Vec<_> = (0..32_u8)
        .map(|number| {
            let file = file.clone();
            let durable = if number % 2 == 0 {
                Durable::Data
            } else {
                Durable::No
            };
            Box::pin(async move {
                let position = u64::from(number) * 4 * BLOCK;
                file.write(position, filled(number, 4).into(), durable)
                    .await
            })
        })
        .collect();
    std::future::poll_fn(|cx| {
        writes.retain_mut(|write| match write.as_mut().poll(cx) {
            Poll::Ready(result) => {
                result.expect("room");
                false
            }
            Poll::Pending => true,
        });
        if writes.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    let all = contents(&file, 0, 32 * 4).await;
    for (number, part) in all.chunks(4 * BLOCK_BYTES).enumerate() {
        assert!(part.iter().all(|byte| usize::from(*byte) == number));
    }
}

async fn lengths_follow_writes_allocations_and_truncations<D: Disk>(disk: D) {
    let file = new_file(&disk, "file").await;
    assert_eq!(file.len().await.expect("open"), 0);
    file.allocate(4 * BLOCK).await.expect("room");
    assert_eq!(file.len().await.expect("open"), 4 * BLOCK);
    assert_eq!(contents(&file, 0, 8).await, [0; 4 * BLOCK_BYTES]);
    file.write(BLOCK, filled(1, 1).into(), Durable::No)
        .await
        .expect("room");
    file.allocate(2 * BLOCK).await.expect("room");
    assert_eq!(
        file.len().await.expect("open"),
        4 * BLOCK,
        "it does not shrink"
    );
    assert_eq!(contents(&file, BLOCK, 1).await, [1; BLOCK_BYTES]);
    file.write(4 * BLOCK, filled(2, 2).into(), Durable::Data)
        .await
        .expect("room");
    assert_eq!(
        disk.file_len("file").await.expect("a healthy disk"),
        Some(6 * BLOCK)
    );
    file.truncate(BLOCK).await.expect("a healthy disk");
    file.truncate(3 * BLOCK).await.expect("a healthy disk");
    assert_eq!(
        contents(&file, 0, 8).await,
        [0; 3 * BLOCK_BYTES],
        "cut off is gone"
    );
    assert_eq!(disk.file_len("").await.expect("a healthy disk"), Some(0));
    assert_eq!(disk.file_len("other").await.expect("a healthy disk"), None);
}

async fn opening_respects_what_exists<D: Disk>(disk: D) {
    let missing = disk.open("file", OpenOptions::EXISTING).await;
    assert_eq!(kind(missing), io::ErrorKind::NotFound);
    let missing = disk.open("no/file", OpenOptions::CREATE).await;
    assert_eq!(kind(missing), io::ErrorKind::NotFound);
    let file = new_file(&disk, "file").await;
    file.write(0, filled(1, 1).into(), Durable::No)
        .await
        .expect("room");
    let present = disk.open("file", OpenOptions::CREATE_NEW).await;
    assert_eq!(kind(present), io::ErrorKind::AlreadyExists);
    let again = disk
        .open("file", OpenOptions::CREATE)
        .await
        .expect("it exists");
    assert_eq!(
        contents(&again, 0, 1).await,
        [1; BLOCK_BYTES],
        "it is not emptied"
    );
}

async fn names_come_and_go<D: Disk>(disk: D) {
    assert_eq!(
        kind(disk.create_dir("one/two").await),
        io::ErrorKind::NotFound
    );
    disk.create_dir("one").await.expect("a healthy disk");
    assert_eq!(
        kind(disk.create_dir("one").await),
        io::ErrorKind::AlreadyExists
    );
    disk.create_dir("one/two").await.expect("a healthy disk");
    drop(new_file(&disk, "one/two/file").await);
    for dir in ["one/two", "one", ""] {
        disk.sync_dir(dir).await.expect("a healthy disk");
    }
    assert_eq!(
        kind(disk.remove_dir("one/two").await),
        io::ErrorKind::DirectoryNotEmpty
    );
    disk.remove_file("one/two/file")
        .await
        .expect("a healthy disk");
    assert_eq!(
        kind(disk.remove_file("one/two/file").await),
        io::ErrorKind::NotFound
    );
    disk.remove_dir("one/two").await.expect("a healthy disk");
    assert_eq!(
        kind(disk.remove_dir("one/two").await),
        io::ErrorKind::NotFound
    );
    assert_eq!(
        kind(disk.sync_dir("one/two").await),
        io::ErrorKind::NotFound
    );
    assert_eq!(kind(disk.list("one/two").await), io::ErrorKind::NotFound);
}

async fn a_renamed_file_replaces_its_target<D: Disk>(disk: D) {
    for (name, byte) in [("old", 1), ("new", 2)] {
        let file = new_file(&disk, name).await;
        file.write(0, filled(byte, 1).into(), Durable::Data)
            .await
            .expect("room");
    }
    let old = disk
        .open("old", OpenOptions::EXISTING)
        .await
        .expect("it exists");
    disk.rename("new", "old").await.expect("a healthy disk");
    assert_eq!(disk.file_len("new").await.expect("a healthy disk"), None);
    let new = disk
        .open("old", OpenOptions::EXISTING)
        .await
        .expect("it exists");
    assert_eq!(contents(&new, 0, 1).await[0], 2);
    assert_eq!(contents(&old, 0, 1).await[0], 1, "who has it open keeps it");
    assert_eq!(
        kind(disk.rename("new", "old").await),
        io::ErrorKind::NotFound
    );
}

async fn a_removed_file_serves_who_has_it_open<D: Disk>(disk: D) {
    let file = new_file(&disk, "file").await;
    disk.remove_file("file").await.expect("a healthy disk");
    file.write(0, filled(3, 1).into(), Durable::Data)
        .await
        .expect("room");
    let other = file.clone();
    drop(file);
    assert_eq!(contents(&other, 0, 1).await, [3; BLOCK_BYTES]);
}

async fn a_dropped_write_is_written<D: Disk>(disk: D) {
    let file = new_file(&disk, "file").await;
    let mut write = Box::pin(file.write(0, filled(5, 16).into(), Durable::No));
    assert!(poll_once(write.as_mut()).is_pending());
    drop(write);
    // An operation in flight is not ordered with others: wait for it by its effect.
    while contents(&file, 15 * BLOCK, 1).await != [5; BLOCK_BYTES] {}
    assert_eq!(contents(&file, 0, 16).await, [5; 16 * BLOCK_BYTES]);
}

fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

async fn directories_are_listed_in_order<D: Disk>(disk: D) {
    for name in ["b", "a", "d"] {
        let file = new_file(&disk, name).await;
        file.allocate(BLOCK).await.expect("room");
    }
    disk.create_dir("c").await.expect("a healthy disk");
    drop(new_file(&disk, "c/inner").await);
    let listed: Vec<_> = disk
        .list("")
        .await
        .expect("a healthy disk")
        .into_iter()
        .map(|entry| (entry.name, entry.is_dir, entry.len))
        .collect();
    let file = |name: &str| (name.to_owned(), false, BLOCK);
    assert_eq!(
        listed,
        [file("a"), file("b"), ("c".to_owned(), true, 0), file("d")]
    );
    assert_eq!(disk.list("c").await.expect("a healthy disk").len(), 1);
}

/// Where the filesystem has no direct I/O the disk says so, and works.
#[test]
fn a_filesystem_in_memory_is_served_too() {
    if !Path::new("/dev/shm").is_dir() {
        return;
    }
    let core = LocalExecutorBuilder::new(Placement::Unbound)
        .preempt_timer(PREEMPT_TIMER)
        .spawn(move || async move {
            let dir = tempfile::tempdir_in("/dev/shm").expect("a directory");
            let ring = Ring::start(RingConfig::default(), &probed()).expect("a ring");
            let disk = UringDisk::open(&ring, dir.path()).await.expect("a disk");
            reads_return_what_was_written_and_end_with_the_file(disk).await;
            ring.close().await;
        })
        .expect("an executor");
    core.join().expect("the test does not panic");
}

async fn the_room_that_is_left_is_told<D: Disk>(disk: D) {
    let free = disk.free_bytes().await.expect("it can be told");
    // In memory there is no end of it; a machine that runs tests has more than this, and not all there is.
    assert!(free > 1 << 20, "{free} bytes");
}

async fn many_are_synced_together<D: Disk>(disk: D) {
    assert!(disk.sync_together(&[]).await.is_empty());
    for count in [1, 3, 40] {
        let dir = format!("of-{count}");
        disk.create_dir(&dir).await.expect("a new directory");
        let mut files = Vec::new();
        for number in 0..count {
            let file = new_file(&disk, &format!("{dir}/{number}")).await;
            let write = WriteData::from(filled(number, 2));
            file.write(0, write, Durable::No)
                .await
                .expect("it has room");
            files.push(file);
        }
        let mut items: Vec<_> = files.iter().map(Unsynced::File).collect();
        items.extend([Unsynced::Directory(&dir), Unsynced::Directory("")]);
        let synced = disk.sync_together(&items).await;
        assert_eq!(synced.len(), items.len());
        assert!(synced.iter().all(Result::is_ok), "{synced:?}");
        for (number, file) in files.iter().enumerate() {
            let bytes = vec![number as u8; 2 * BLOCK_BYTES];
            assert_eq!(contents(file, 0, 2).await, bytes);
        }
        // Each has an answer of its own.
        let few = [Unsynced::Directory("nowhere"), Unsynced::File(&files[0])];
        let mut synced = disk.sync_together(&few).await.into_iter();
        let mut next = || synced.next().expect("one for each");
        assert_eq!(kind(next()), io::ErrorKind::NotFound);
        assert!(next().is_ok());
    }
}
