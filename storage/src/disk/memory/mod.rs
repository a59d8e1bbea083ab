//! The in-memory disk: for tests and the simulator, with every fault that a device or a crash can bring.
//!
//! Owns the files of one simulated machine. Keeps *written* and *flushed* apart: what was not flushed is kept,
//! lost or torn by `crash`, sector by sector, and names are durable only once their directory was synced.
//! Operations are queued, and complete in an order that the executor's seed decides, so several are in
//! flight. Runs on a test's executor; never touches a real file.

mod contents;
mod fault;
mod file;
mod image;
mod latency;
mod names;
mod operation;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

pub use fault::Fault;
pub use image::DiskImage;
pub use latency::Latency;
pub use operation::{Operation, OperationKind, Strike};

use self::contents::{Contents, block_of};
use self::fault::FaultEffect;
use self::file::FileState;
use self::names::{FileRef, Names, Node};
use crate::disk::{BLOCK_BYTES, DirEntry, Disk, DiskFile, Durable, OpenOptions, WriteData};
use crate::memory::AlignedBuf;
use crate::testing::{Executor, JoinHandle, Random, Spawner, yield_now};

/// How many other tasks may run, at most, between an operation's start and its end, once it could end.
const DELAY_MAX: u64 = 4;

/// A disk in memory. A clone is another handle on the same disk.
#[derive(Clone)]
pub struct MemoryDisk {
    state: Rc<RefCell<State>>,
    spawner: Spawner,
}

struct State {
    names: Names,
    random: Random,
    /// The bytes that all files together may take.
    capacity: Option<u64>,
    writes_begun: u64,
    operations: u64,
    halt_at: Option<u64>,
    faults: Vec<Fault>,
    trace: Option<Vec<Operation>>,
    latency: Option<Latency>,
}

impl MemoryDisk {
    /// An empty disk whose operations run on `executor`.
    #[must_use]
    pub fn new(executor: &Executor) -> Self {
        Self::from_image(executor, &DiskImage::default())
    }

    /// A disk that holds `image`, all of it durable.
    #[must_use]
    pub fn from_image(executor: &Executor, image: &DiskImage) -> Self {
        let directories = image
            .directories
            .iter()
            .map(|path| (path.clone(), Node::Directory));
        let files = image.files.iter().map(|(path, contents)| {
            let file = FileState::new(path.as_str().into(), contents.clone());
            (path.clone(), Node::File(Rc::new(RefCell::new(file))))
        });
        let state = State {
            names: Names::new(directories.chain(files).collect()),
            random: executor.random(),
            capacity: None,
            writes_begun: 0,
            operations: 0,
            halt_at: None,
            faults: Vec::new(),
            trace: None,
            latency: None,
        };
        Self {
            state: Rc::new(RefCell::new(state)),
            spawner: executor.spawner(),
        }
    }

    /// How many operations have completed. The next one to complete has this number.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.borrow().operations
    }

    /// From the operation with this number on, nothing completes any more. The tasks that wait for the disk
    /// then wait for ever, and `Executor::try_block_on` returns: this is the moment of the crash.
    pub fn halt_at(&self, number: u64) {
        self.state.borrow_mut().halt_at = Some(number);
    }

    /// Whether the disk has reached the operation to halt at.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        let state = self.state.borrow();
        state
            .halt_at
            .is_some_and(|halt_at| state.operations >= halt_at)
    }

    /// Adds a fault to come. Of several that match an operation, the oldest strikes.
    pub fn inject(&self, fault: Fault) {
        self.state.borrow_mut().faults.push(fault);
    }

    /// Whether a fault is to come that makes this of an operation.
    #[must_use]
    pub fn awaits(&self, strike: Strike) -> bool {
        let state = self.state.borrow();
        state.faults.iter().any(|fault| fault.makes(strike))
    }

    /// Takes back every fault that has not struck yet.
    pub fn clear_faults(&self) {
        self.state.borrow_mut().faults.clear();
    }

    /// Limits the bytes that all files together may take; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.borrow_mut().capacity = bytes;
    }

    /// The bytes that all files together take.
    #[must_use]
    pub fn allocated(&self) -> u64 {
        self.state.borrow().allocated()
    }

    /// Keeps a list of operations from now on, for `take_trace`.
    pub fn start_trace(&self) {
        self.state.borrow_mut().trace = Some(Vec::new());
    }

    /// The operations that have completed since `start_trace`, in order; ends the trace.
    #[must_use]
    pub fn take_trace(&self) -> Vec<Operation> {
        self.state.borrow_mut().trace.take().unwrap_or_default()
    }

    /// The operations that have completed since the trace was started or last drained; it goes on.
    #[must_use]
    pub fn drain_trace(&self) -> Vec<Operation> {
        let mut state = self.state.borrow_mut();
        state.trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// How many writes are in flight to files whose path satisfies `predicate`.
    #[must_use]
    pub fn writes_in_flight(&self, predicate: impl Fn(&str) -> bool) -> usize {
        let state = self.state.borrow();
        let files = state.names.files().map(|file| file.borrow());
        let files = files.filter(|file| file.writes_in_flight() > 0 && predicate(&file.path));
        files.map(|file| file.writes_in_flight()).sum()
    }

    /// From now on operations take virtual time, or `None`: only turns of the executor.
    pub fn set_latency(&self, latency: Option<Latency>) {
        self.state.borrow_mut().latency = latency;
    }

    /// Whether there is a file whose path satisfies `predicate`.
    #[must_use]
    pub fn has_file(&self, predicate: impl Fn(&str) -> bool) -> bool {
        self.state.borrow().names.has_file(predicate)
    }

    /// Every file's path and length in bytes, in the order of the paths.
    #[must_use]
    pub fn files(&self) -> Vec<(String, u64)> {
        self.image().files()
    }

    /// Turns over one bit of a file's byte, on the device and in every cache.
    ///
    /// # Panics
    /// If there is no such file, or it is not that long.
    pub fn flip_bit(&self, path: &str, byte: u64, bit: u8) {
        let state = self.state.borrow();
        let file = state.names.file(path).ok().flatten();
        let mut file = file
            .as_ref()
            .unwrap_or_else(|| panic!("there is no file {path}"))
            .borrow_mut();
        assert!(
            byte < file.len(),
            "{path} has {} bytes, not a byte {byte}",
            file.len()
        );
        file.flip_bit(byte, bit);
    }

    /// What the disk holds as its users see it now. Writes in flight are left out.
    ///
    /// This is what the death of the process alone leaves behind: the machine lives on.
    #[must_use]
    pub fn image(&self) -> DiskImage {
        image_of(self.state.borrow().names.nodes(), |file| {
            file.written().clone()
        })
    }

    /// What a power loss at this moment leaves on the disk; `seed` decides about all that was not flushed,
    /// writes in flight included. The disk itself goes on as if nothing had happened.
    #[must_use]
    pub fn crash(&self, seed: u64) -> DiskImage {
        let mut random = Random::new(seed);
        let nodes = self.state.borrow().names.survivors(&mut random);
        image_of(&nodes, |file| file.survivor(&mut random))
    }

    /// The process dies, and the machine lives on: what was written stays, flushed or not, and each block of a
    /// write in flight may have been written. Then the disk works as before, without faults to come.
    ///
    /// The tasks of the process must be gone already: see `Executor::crash`.
    pub fn kill(&self, seed: u64) {
        let mut random = Random::new(seed);
        let mut state = self.state.borrow_mut();
        state.halt_at = None;
        state.faults.clear();
        for file in state.names.files() {
            file.borrow_mut().abandon_writes(&mut random);
        }
    }

    /// Queues an operation, and completes it some time later, in any order with the others.
    ///
    /// `complete` is given the fault that strikes it, if any.
    fn submit<T: 'static>(
        &self,
        mut operation: Operation,
        complete: impl FnOnce(&mut State, Option<FaultEffect>) -> T + 'static,
    ) -> JoinHandle<T> {
        let state = Rc::clone(&self.state);
        let delay = self.spawner.below(DELAY_MAX + 1);
        let time = state.borrow_mut().time_of(&operation);
        self.spawner.spawn(async move {
            if let Some(time) = time {
                time.await;
            }
            for _ in 0..delay {
                yield_now().await;
            }
            if !state.borrow_mut().number(&mut operation) {
                std::future::pending::<()>().await;
            }
            let mut state = state.borrow_mut();
            let effect = state.fault_for(operation);
            complete(&mut state, effect)
        })
    }

    /// An operation that fails without any effect when a fault strikes it.
    async fn run<T: 'static>(
        &self,
        operation: Operation,
        complete: impl FnOnce(&mut State) -> io::Result<T> + 'static,
    ) -> io::Result<T> {
        let done = self.submit(operation, |state, effect| match effect {
            Some(FaultEffect::Error { errno }) => Err(io::Error::from_raw_os_error(errno)),
            _ => complete(state),
        });
        done.await
    }

    fn open_file(&self, file: FileRef) -> MemoryFile {
        MemoryFile {
            disk: self.clone(),
            file,
        }
    }
}

fn image_of(
    nodes: &BTreeMap<String, Node>,
    mut contents: impl FnMut(&FileState) -> Contents,
) -> DiskImage {
    let mut image = DiskImage::default();
    for (path, node) in nodes {
        match node {
            Node::Directory => drop(image.directories.insert(path.clone())),
            Node::File(file) => drop(image.files.insert(path.clone(), contents(&file.borrow()))),
        }
    }
    image
}

impl State {
    /// Counts an operation that is about to complete, or says that nothing completes any more.
    fn number(&mut self, operation: &mut Operation) -> bool {
        if self
            .halt_at
            .is_some_and(|halt_at| self.operations >= halt_at)
        {
            return false;
        }
        operation.number = self.operations;
        self.operations += 1;
        true
    }

    /// How long an operation takes that begins now.
    fn time_of(&mut self, operation: &Operation) -> Option<impl Future<Output = ()> + use<>> {
        let latency = self.latency.as_ref()?;
        Some(latency.time_of(operation, &mut self.random))
    }

    /// What strikes an operation that was just counted. It goes into the trace.
    fn fault_for(&mut self, mut operation: Operation) -> Option<FaultEffect> {
        let effect = self
            .faults
            .iter_mut()
            .find_map(|fault| fault.strike(&operation));
        self.faults.retain(|fault| !fault.is_spent());
        if let Some(trace) = &mut self.trace {
            operation.struck = effect.as_ref().map(FaultEffect::name);
            trace.push(operation);
        }
        effect
    }

    fn allocated(&self) -> u64 {
        self.names
            .files()
            .map(|file| file.borrow().allocated())
            .sum()
    }

    fn free(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| {
            capacity.saturating_sub(self.allocated())
        })
    }

    fn expect_room(&self, growth: u64) -> io::Result<()> {
        if growth <= self.free() {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::ENOSPC))
        }
    }

    fn complete_write(
        &mut self,
        file: &FileRef,
        id: u64,
        effect: Option<FaultEffect>,
    ) -> io::Result<()> {
        let growth = file.borrow().growth(file.borrow().end_of_write(id));
        let write = file.borrow_mut().take_write(id);
        match effect {
            Some(FaultEffect::Error { errno }) => {
                if errno != libc::ENOSPC {
                    file.borrow_mut().fail_write(write, &mut self.random);
                }
                return Err(io::Error::from_raw_os_error(errno));
            }
            Some(FaultEffect::Lose) => return Ok(()),
            Some(FaultEffect::Misdirect { path, position }) => {
                // Where a file was that is gone by now, nobody misses what was there.
                if let Some(target) = self.names.file(&path)? {
                    target
                        .borrow_mut()
                        .complete_write(FileState::misdirected_to(write, position));
                }
                return Ok(());
            }
            Some(FaultEffect::CorruptRead { .. }) | None => {}
        }
        self.expect_room(growth)?;
        file.borrow_mut().complete_write(write);
        Ok(())
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    /// Virtual time, if operations take any.
    fn now_us(&self) -> u64 {
        let state = self.state.borrow();
        state
            .latency
            .as_ref()
            .map_or(0, |latency| latency.clock.now_us())
    }

    async fn open(&self, path: &str, options: OpenOptions) -> io::Result<MemoryFile> {
        let path = checked(path);
        let operation = Operation::new(OperationKind::Open, &path);
        let open = self.run(operation, move |state| match state.names.file(&path)? {
            Some(_) if options.create_new => Err(io::ErrorKind::AlreadyExists.into()),
            Some(file) => Ok(file),
            None if options.create || options.create_new => {
                let file = FileState::new(Rc::clone(&path), Contents::default());
                let file = Rc::new(RefCell::new(file));
                state.names.bind(&path, Node::File(Rc::clone(&file)))?;
                Ok(file)
            }
            None => Err(io::ErrorKind::NotFound.into()),
        });
        Ok(self.open_file(open.await?))
    }

    async fn create_dir(&self, path: &str) -> io::Result<()> {
        let path = checked(path);
        let operation = Operation::new(OperationKind::CreateDir, &path);
        self.run(operation, move |state| {
            state.names.bind(&path, Node::Directory)
        })
        .await
    }

    async fn remove_file(&self, path: &str) -> io::Result<()> {
        let path = checked(path);
        let operation = Operation::new(OperationKind::RemoveFile, &path);
        self.run(operation, move |state| state.names.remove_file(&path))
            .await
    }

    async fn remove_dir(&self, path: &str) -> io::Result<()> {
        let path = checked(path);
        let operation = Operation::new(OperationKind::RemoveDir, &path);
        self.run(operation, move |state| state.names.remove_dir(&path))
            .await
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (checked(from), checked(to));
        let operation = Operation::new(OperationKind::Rename, &from);
        self.run(operation, move |state| state.names.rename(&from, &to))
            .await
    }

    async fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        let dir = checked(dir);
        let operation = Operation::new(OperationKind::List, &dir);
        self.run(operation, move |state| state.names.list(&dir))
            .await
    }

    async fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let dir = checked(dir);
        let begun = self.state.borrow().names.syncable(&dir)?;
        let operation = Operation::new(OperationKind::SyncDir, &dir);
        let done = self.submit(operation, move |state, effect| match effect {
            Some(FaultEffect::Error { errno }) => {
                state.names.fail_sync(&dir, &mut state.random);
                Err(io::Error::from_raw_os_error(errno))
            }
            Some(FaultEffect::Lose) => Ok(()),
            _ => {
                state.names.complete_sync(&dir, begun);
                Ok(())
            }
        });
        done.await
    }

    async fn file_len(&self, path: &str) -> io::Result<Option<u64>> {
        let path = checked(path);
        let operation = Operation::new(OperationKind::FileLen, &path);
        self.run(operation, move |state| Ok(state.names.len(&path)))
            .await
    }

    async fn free_bytes(&self) -> io::Result<u64> {
        let operation = Operation::new(OperationKind::FreeBytes, &"".into());
        self.run(operation, |state| Ok(state.free())).await
    }
}

/// A path of the seam's form.
///
/// # Panics
/// If it is not: no path comes from outside.
fn checked(path: &str) -> Rc<str> {
    let is_well_formed =
        path.is_empty() || path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    assert!(
        is_well_formed,
        "{path:?} is not a path within the data directory"
    );
    path.into()
}

/// An open file of a `MemoryDisk`.
#[derive(Clone)]
pub struct MemoryFile {
    disk: MemoryDisk,
    file: FileRef,
}

impl MemoryFile {
    fn operation(&self, kind: OperationKind, position: u64, len: usize) -> Operation {
        Operation::of_range(kind, &self.file.borrow().path, position, len)
    }

    /// # Panics
    /// If the range is not whole blocks: direct I/O would refuse it.
    fn expect_blocks(&self, position: u64, len: usize) {
        let whole_blocks =
            position.is_multiple_of(BLOCK_BYTES as u64) && len.is_multiple_of(BLOCK_BYTES);
        assert!(
            whole_blocks,
            "{len} bytes at {position} of {} are not whole blocks",
            self.file.borrow().path
        );
    }
}

impl DiskFile for MemoryFile {
    async fn read(&self, position: u64, mut buf: AlignedBuf) -> (io::Result<usize>, AlignedBuf) {
        self.expect_blocks(position, buf.len());
        let operation = self.operation(OperationKind::Read, position, buf.len());
        let file = Rc::clone(&self.file);
        let done = self.disk.submit(operation, move |state, effect| {
            if let Some(FaultEffect::Error { errno }) = effect {
                return (Err(io::Error::from_raw_os_error(errno)), buf);
            }
            let count = file.borrow().read(position, &mut buf, &mut state.random);
            if let Some(FaultEffect::CorruptRead { byte, bit }) = effect {
                buf[byte] ^= 1 << bit;
            }
            (Ok(count), buf)
        });
        done.await
    }

    async fn write(&self, position: u64, data: WriteData, durable: Durable) -> io::Result<()> {
        self.expect_blocks(position, data.len());
        let operation = self.operation(OperationKind::Write, position, data.len());
        let id = {
            let mut state = self.disk.state.borrow_mut();
            state.writes_begun += 1;
            state.writes_begun
        };
        let segments = data.segments().iter();
        let blocks = segments
            .flat_map(|segment| segment.chunks(BLOCK_BYTES))
            .map(block_of)
            .collect();
        self.file
            .borrow_mut()
            .begin_write(id, position, blocks, durable);
        let file = Rc::clone(&self.file);
        self.disk
            .submit(operation, move |state, effect| {
                state.complete_write(&file, id, effect)
            })
            .await
    }

    async fn flush(&self) -> io::Result<()> {
        let begun = self.file.borrow().flushable();
        let operation = self.operation(OperationKind::Flush, 0, 0);
        let file = Rc::clone(&self.file);
        let done = self
            .disk
            .submit(operation, move |state, effect| match effect {
                Some(FaultEffect::Error { errno }) => {
                    file.borrow_mut().fail_flush(&mut state.random);
                    Err(io::Error::from_raw_os_error(errno))
                }
                Some(FaultEffect::Lose) => Ok(()),
                _ => {
                    file.borrow_mut().complete_flush(begun);
                    Ok(())
                }
            });
        done.await
    }

    async fn allocate(&self, len: u64) -> io::Result<()> {
        let operation = Operation {
            len,
            ..self.operation(OperationKind::Allocate, 0, 0)
        };
        let file = Rc::clone(&self.file);
        let done = self.disk.run(operation, move |state| {
            let growth = file.borrow().growth(len);
            state.expect_room(growth)?;
            file.borrow_mut().allocate(len);
            Ok(())
        });
        done.await
    }

    async fn truncate(&self, len: u64) -> io::Result<()> {
        let operation = Operation {
            len,
            ..self.operation(OperationKind::Truncate, 0, 0)
        };
        let file = Rc::clone(&self.file);
        self.disk
            .run(operation, move |_| {
                file.borrow_mut().truncate(len);
                Ok(())
            })
            .await
    }

    async fn len(&self) -> io::Result<u64> {
        let operation = self.operation(OperationKind::Len, 0, 0);
        let file = Rc::clone(&self.file);
        self.disk
            .run(operation, move |_| Ok(file.borrow().len()))
            .await
    }
}
