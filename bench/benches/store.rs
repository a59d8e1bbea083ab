//! What the storage engine costs in CPU: append, group commit, acknowledgement and writing to segments, on a disk that
//! takes everything at once and keeps nothing of it, and what reading from memory costs. The device's own time is not
//! in these figures.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use corelane_protocol::batch::{BatchBuilder, BatchBuilderConfig, RecordRef};
use corelane_protocol::{
    AlignedBytes, Offset, PartitionIndex, StoreId, Timestamp, TopicId, TopicPartition,
};
use corelane_storage::Store;
use corelane_storage::disk::{
    BLOCK_BYTES, DirEntry, Disk, DiskFile, Durable, OpenOptions, WriteData,
};
use corelane_storage::memory::{AlignedBuf, Ledger};
use corelane_storage::store::{LogConfig, PartitionHandle, Progress, Read, StoreConfig};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Keeps names, lengths and the first blocks of files; whatever else is written is forgotten.
#[derive(Clone, Default)]
struct ForgetfulDisk {
    files: Rc<RefCell<BTreeMap<String, ForgetfulFile>>>,
}

#[derive(Clone, Default)]
struct ForgetfulFile {
    len: Rc<RefCell<u64>>,
    blocks: Rc<RefCell<BTreeMap<u64, Vec<u8>>>>,
}

/// What a catalogue takes, and more than the headers of other files do.
const KEPT_BYTES: u64 = 4 << 20;

impl Disk for ForgetfulDisk {
    type File = ForgetfulFile;

    fn now_us(&self) -> u64 {
        0
    }

    async fn open(&self, path: &str, options: OpenOptions) -> io::Result<ForgetfulFile> {
        let mut files = self.files.borrow_mut();
        if !files.contains_key(path) && !options.create {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(files.entry(path.to_owned()).or_default().clone())
    }

    async fn create_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    async fn remove_file(&self, path: &str) -> io::Result<()> {
        let removed = self.files.borrow_mut().remove(path);
        removed.map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    async fn remove_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files.borrow_mut();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    async fn list(&self, _: &str) -> io::Result<Vec<DirEntry>> {
        Ok(Vec::new())
    }

    async fn sync_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    async fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    async fn file_len(&self, path: &str) -> io::Result<Option<u64>> {
        Ok(self.files.borrow().get(path).map(|file| *file.len.borrow()))
    }
}

impl DiskFile for ForgetfulFile {
    async fn read(&self, position: u64, mut buf: AlignedBuf) -> (io::Result<usize>, AlignedBuf) {
        let blocks = self.blocks.borrow();
        for (index, block) in buf.chunks_mut(BLOCK_BYTES).enumerate() {
            match blocks.get(&(position + (index * BLOCK_BYTES) as u64)) {
                Some(kept) => block.copy_from_slice(kept),
                None => block.fill(0),
            }
        }
        let count = buf.len().min((*self.len.borrow() - position) as usize);
        (Ok(count), buf)
    }

    async fn write(&self, position: u64, data: WriteData, _: Durable) -> io::Result<()> {
        let end = position + data.len() as u64;
        let mut len = self.len.borrow_mut();
        *len = end.max(*len);
        if data.len() == BLOCK_BYTES && position < KEPT_BYTES {
            let mut blocks = self.blocks.borrow_mut();
            for segment in data.segments() {
                blocks.insert(position, segment.to_vec());
            }
        }
        Ok(())
    }

    async fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    async fn allocate(&self, len: u64) -> io::Result<()> {
        let mut own = self.len.borrow_mut();
        *own = len.max(*own);
        Ok(())
    }

    async fn truncate(&self, len: u64) -> io::Result<()> {
        *self.len.borrow_mut() = len;
        Ok(())
    }

    async fn len(&self) -> io::Result<u64> {
        Ok(*self.len.borrow())
    }
}

fn batch(value_bytes: usize) -> AlignedBytes {
    let mut builder = BatchBuilder::new(BatchBuilderConfig::default()).expect("no codec is set up");
    let value = vec![0x5a; 1000];
    for _ in 0..value_bytes.div_ceil(1000) {
        let record = RecordRef {
            value: Some(&value),
            timestamp: Timestamp::new(1),
            ..RecordRef::default()
        };
        builder.try_push(record).expect("the batch has room");
    }
    builder.finish().expect("records are there")
}

/// Runs a future that never waits.
fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

/// A store with its tasks, and `partitions` partitions.
struct Bench {
    tasks: Vec<Pin<Box<dyn Future<Output = ()>>>>,
    store: Rc<Store<ForgetfulDisk>>,
    ids: Vec<TopicPartition>,
    handles: Vec<PartitionHandle>,
    progress: Vec<Progress>,
}

impl Bench {
    fn new(partitions: u32) -> Self {
        let disk = ForgetfulDisk::default();
        let config = StoreConfig::default();
        let ledger = Rc::new(Ledger::new(1 << 30, 768 << 20));
        let wanted: Vec<_> = (0..partitions)
            .map(|index| {
                let topic = TopicId::from_bytes([7; 16]);
                (
                    TopicPartition::new(topic, PartitionIndex::new(index)),
                    LogConfig::default(),
                )
            })
            .collect();
        let store = now_or_never(async {
            let uuid = uuid::Uuid::from_u128(1);
            let made = Store::create(&disk, "store-0000", StoreId::new(0), uuid, &config).await;
            made.expect("the disk takes everything");
            let opened = Store::open(disk, "store-0000".into(), StoreId::new(0), config, ledger);
            let (store, _) = opened.await.expect("it was just made");
            store
                .create_partitions(&wanted)
                .await
                .expect("the disk takes everything");
            store
        });
        let handles = wanted
            .iter()
            .filter_map(|(id, _)| store.partition_handle(*id))
            .collect();
        let tasks = store.tasks();
        let ids = wanted.into_iter().map(|(id, _)| id).collect();
        Self {
            tasks,
            store,
            ids,
            handles,
            progress: Vec::new(),
        }
    }

    /// Appends a batch to each of `count` partitions in turn, and waits until all are durable.
    fn round(&mut self, batch: &[u8], from: usize, count: usize) {
        for index in from..from + count {
            let handle = self.handles[index % self.handles.len()];
            let now = Timestamp::new(1_700_000_000_000);
            let appended = self.store.append_by_handle(handle, batch, now);
            appended.expect("segments are written as fast as anything");
        }
        // Nothing ever waits for the disk, so a few turns end everything.
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..8 {
            for task in &mut self.tasks {
                let _ = task.as_mut().poll(&mut context);
            }
        }
        let last = self
            .store
            .offsets(self.ids[(from + count - 1) % self.ids.len()]);
        let last = last.expect("it exists");
        assert_eq!(last.durable_end, last.log_end, "something waits");
        self.progress.clear();
        self.store.take_progress(&mut self.progress);
    }
}

fn appends(criterion: &mut Criterion) {
    let cases = [
        ("64 KB", 64_000, 1, 64),
        ("16 KB", 16_000, 1, 256),
        ("1 KB", 1000, 1, 2000),
        ("1 KB", 1000, 10_000, 2000),
    ];
    let mut group = criterion.benchmark_group("append to durable");
    for (name, bytes, partitions, at_once) in cases {
        let batch = batch(bytes);
        let mut bench = Bench::new(partitions);
        group.throughput(Throughput::Bytes((batch.len() * at_once) as u64));
        let id = BenchmarkId::new(format!("{partitions} partitions"), name);
        let mut from = 0;
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                bench.round(&batch, from, at_once);
                from += at_once;
            });
        });
    }
    group.finish();
}

/// Reads of what is still in memory: what a consumer that keeps up, and every waiting fetch, is served by.
fn fetches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fetch from tail");
    for (name, batch_bytes, bytes_max) in [
        ("one batch of 1 KB", 1000, 1),
        ("1 MB of 1 KB batches", 1000, 1_000_000),
        ("1 MB of 64 KB batches", 64_000, 1_000_000),
    ] {
        let batch = batch(batch_bytes);
        let mut bench = Bench::new(1);
        // Less than what is written to a segment.
        bench.round(&batch, 0, (2 << 20) / batch.len());
        let read = |from| {
            let read = bench.store.read(bench.ids[0], from, bytes_max, true);
            match read.expect("the offset is there") {
                Read::Ready(fetched) => fetched,
                Read::Disk(wanted) => panic!("{wanted:?} is in memory"),
            }
        };
        let from = Offset::new(u64::from(bytes_max == 1) * 10);
        group.throughput(Throughput::Bytes(read(from).bytes as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| read(black_box(from)).bytes);
        });
    }
    group.finish();
}

criterion_group!(benches, appends, fetches);
criterion_main!(benches);
