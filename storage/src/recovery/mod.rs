//! Recovery: from what is on disk to a store that knows everything it acknowledged.
//!
//! Owns the walk over the journal from the last checkpoint to the end of the log. Restart time follows the
//! journal's size, not the log's. Changes nothing on disk: the opening of the store does, once it knows.
//! Runs on the core that opens the store.

mod extents;
mod journal;
mod judge;
mod replay;
mod segments;

use uuid::Uuid;

pub(crate) use replay::Replay;

use crate::catalogue::{CatalogueImage, Checkpoint};
use crate::disk::{Disk, DiskFile};
use crate::journal::{ChainPoint, Extent, FIRST_GROUP, JournalFile, PartEntry, PartFault};
use crate::store::{RecoveryReport, StoreError};
use crate::tail::ChunkPool;
use extents::ExtentFiles;
use journal::{FoundGroup, JournalReader, open_journal};
use judge::{Expected, GroupState, Judgement, Testimony, judge, part_ranges};
use replay::FoundPart;

/// What a recovery found.
pub(crate) struct Recovered<F> {
    pub(crate) replay: Replay,
    /// The journal's files that hold groups, each with the boundary where they begin, in order.
    pub(crate) in_use: Vec<(JournalFile, ChainPoint)>,
    /// The files that are ready for groups, in the order of their use.
    pub(crate) armed: Vec<JournalFile>,
    /// Both kinds, opened.
    pub(crate) files: Vec<(u32, F)>,
    /// Where the log ends, in the last file in use.
    pub(crate) end: ChainPoint,
    pub(crate) report: RecoveryReport,
}

/// Where the files of a store are, and what its catalogue says.
pub(crate) struct Source<'a, D> {
    pub(crate) disk: &'a D,
    pub(crate) dir: &'a str,
    pub(crate) store: Uuid,
    pub(crate) image: &'a CatalogueImage,
    pub(crate) checkpoint: &'a Checkpoint,
}

/// Reads the journal and looks for the segments.
///
/// # Errors
/// The disk's errors. Damage is in the report, and in the state of the partitions.
pub(crate) async fn recover<D: Disk>(
    source: Source<'_, D>,
    pool: ChunkPool,
    mark_interval: u32,
) -> Result<Recovered<D::File>, StoreError> {
    let replay = Replay::new(source.image, pool, mark_interval);
    let mut readers = Vec::new();
    let mut missing = None;
    for &identity in &source.checkpoint.journal.files {
        match open_journal(source.disk, source.dir, source.store, identity).await? {
            Ok(reader) => readers.push(reader),
            Err(reason) => {
                missing.get_or_insert(reason);
            }
        }
    }
    let mut walk = JournalWalk::new(&source, readers, replay);
    match missing {
        Some(reason) => walk.fence(reason),
        None => walk.run(&source).await?,
    }
    walk.replay.finish();
    segments::check_segments(source.disk, source.dir, &mut walk.replay).await?;
    Ok(walk.into_recovered())
}

/// The walk over the groups.
struct JournalWalk<F> {
    expected: Expected,
    /// The newest group that the checkpoint knows durable, and its checksum.
    known: (u64, u32),
    readers: Vec<JournalReader<F>>,
    /// The reader of the file in which the next group is expected.
    current: usize,
    /// Where the groups of each file begin, up to the current one.
    begins: Vec<ChainPoint>,
    /// What the checkpoint and the groups say was durable; found out when it first matters.
    testimony: Option<Testimony>,
    replay: Replay,
    report: RecoveryReport,
}

/// What is at the place of the next group.
enum Place {
    Group(FoundGroup),
    Nothing,
}

impl<F: DiskFile> JournalWalk<F> {
    fn new<D>(source: &Source<'_, D>, readers: Vec<JournalReader<F>>, replay: Replay) -> Self {
        let checkpoint = source.checkpoint;
        let start = checkpoint.journal.start;
        Self {
            expected: Expected {
                store: source.store,
                recovery_epoch: checkpoint.recovery_epoch,
                epoch_first_sequence: checkpoint.epoch_first_sequence,
                last_epoch: 0,
                point: start,
            },
            known: (checkpoint.durable_sequence, checkpoint.durable_checksum),
            readers,
            current: 0,
            begins: vec![start],
            testimony: None,
            replay,
            report: RecoveryReport::default(),
        }
    }

    /// Goes from group to group until the log ends, or the store cannot be trusted.
    async fn run<D: Disk<File = F>>(&mut self, source: &Source<'_, D>) -> Result<(), StoreError> {
        let mut files = ExtentFiles::new();
        while !self.readers.is_empty() && self.report.fenced.is_none() {
            let mut place = self.next_place().await?;
            if let Place::Group(group) = &mut place {
                self.read_extents(source, &mut files, group).await?;
            }
            let is_whole = matches!(
                &place,
                Place::Group(FoundGroup { state: GroupState::Readable(_, faults), .. })
                    if faults.iter().all(|(_, fault)| matches!(fault, PartFault::Lost(_)))
            );
            let goes_on = match place {
                Place::Group(group) if is_whole => self.take(group).await?,
                place => self.take_bad(place).await?,
            };
            if !goes_on || (crate::planted!(RecoveryStopsEarly) && self.report.groups_replayed == 3)
            {
                break;
            }
        }
        Ok(())
    }

    /// What is where the next group should be: in this file, or at the start of the next one.
    async fn next_place(&mut self) -> Result<Place, StoreError> {
        if let Some(found) = self.readers[self.current].find(&self.expected).await? {
            return Ok(Place::Group(found));
        }
        let Some(next) = self.readers.get_mut(self.current + 1) else {
            return Ok(Place::Nothing);
        };
        let point = ChainPoint {
            position: FIRST_GROUP,
            ..self.expected.point
        };
        let expected = Expected {
            point,
            ..self.expected
        };
        let Some(found) = next.find(&expected).await? else {
            return Ok(Place::Nothing);
        };
        self.current += 1;
        self.begins.push(point);
        self.expected = expected;
        Ok(Place::Group(found))
    }

    /// Reads and verifies what a group has written to segments, as far as it is wanted.
    async fn read_extents<D: Disk<File = F>>(
        &mut self,
        source: &Source<'_, D>,
        files: &mut ExtentFiles<F>,
        group: &mut FoundGroup,
    ) -> Result<(), StoreError> {
        let GroupState::Readable(parts, faults) = &mut group.state else {
            return Ok(());
        };
        if !parts.iter().any(PartEntry::is_in_segment) {
            return Ok(());
        }
        let bytes = self.readers[self.current].group(&group.header).await?;
        let ranges = parts.iter().zip(part_ranges(&group.header, parts));
        for (index, (entry, range)) in ranges.enumerate() {
            let extent = entry.is_in_segment().then(|| bytes.get(range)).flatten();
            let extent = extent.and_then(|bytes| Extent::decode(entry, bytes));
            let (Some(extent), Some(partition)) = (extent, self.replay.wants(entry)) else {
                continue;
            };
            match files.read(source, partition, entry, &extent).await? {
                Ok(mut blocks) => {
                    blocks.set_len(extent.length as usize);
                    self.report.extents_replayed += 1;
                    group.extents.push((index, blocks));
                }
                Err(fault) => faults.push((index, fault)),
            }
        }
        Ok(())
    }

    /// Replays a group's sound parts and continues the chain behind it.
    async fn take(&mut self, group: FoundGroup) -> Result<bool, StoreError> {
        let sequence = self.expected.point.sequence;
        if sequence == self.known.0 && group.checksum != self.known.1 {
            let reader = &self.readers[self.current];
            let position = group.header.position;
            let reason = format!(
                "{} is damaged at byte {position}: group {sequence} is not the one that was acknowledged",
                reader.path
            );
            self.fence(reason);
            return Ok(false);
        }
        let reader = &mut self.readers[self.current];
        let (path, file) = (reader.path.clone(), reader.identity.incarnation);
        let bytes = reader.group(&group.header).await?;
        if let GroupState::Readable(parts, faults) = &group.state {
            for (index, (entry, range)) in parts
                .iter()
                .zip(part_ranges(&group.header, parts))
                .enumerate()
            {
                let extent = group.extents.iter().find(|(of, _)| *of == index);
                let bytes = match extent {
                    Some((_, batches)) => &batches[..],
                    None if entry.is_in_segment() => &[],
                    None => bytes.get(range).unwrap_or_default(),
                };
                let group_position = group.header.position;
                let part = FoundPart {
                    entry,
                    bytes,
                    file,
                    path: &path,
                    group_position,
                };
                match faults.iter().find(|(faulty, _)| *faulty == index) {
                    None => self.replay.apply(&part),
                    Some((_, fault)) => {
                        let reason = describe(&path, group_position, fault);
                        self.replay.fail(&part, reason);
                    }
                }
            }
        }
        self.report.groups_replayed += 1;
        self.report.bytes_replayed += group.header.padded_length();
        self.expected.last_epoch = group.header.recovery_epoch;
        self.expected.point = ChainPoint {
            position: group.header.position + group.header.padded_length(),
            sequence: sequence + 1,
            previous_checksum: group.checksum,
        };
        Ok(true)
    }

    /// Judges what is not a whole group. Returns whether the walk goes on behind it.
    async fn take_bad(&mut self, place: Place) -> Result<bool, StoreError> {
        if let Place::Group(FoundGroup {
            state: GroupState::Readable(_, faults),
            ..
        }) = &place
            && let Some(flags) = faults.iter().find_map(|(_, fault)| unsupported(fault))
        {
            let file = self.readers[self.current].path.clone();
            return Err(StoreError::Unsupported {
                file,
                reason: format!("a part has the flags {flags:#x}"),
            });
        }
        let sequence = self.expected.point.sequence;
        let known = self.testimony().await?;
        if known.recovery_epoch > self.expected.recovery_epoch {
            // The catalogue says so before any group of an epoch is written.
            let path = &self.readers[self.current].path;
            let (dir, _) = path
                .rsplit_once('/')
                .expect("the file is in the store's directory");
            let reason = format!(
                "{dir}/catalogue is older than {path}: put back the newest, or both from the same copy"
            );
            self.fence(reason);
            return Ok(false);
        }
        let is_readable = matches!(&place, Place::Group(group) if matches!(group.state, GroupState::Readable(..)));
        match (judge(sequence, known.durable_upto, is_readable), place) {
            (Judgement::EndOfLog, place) => {
                if matches!(place, Place::Group(_)) {
                    self.report.discarded_from = Some(sequence);
                }
                Ok(false)
            }
            (Judgement::DamagedParts, Place::Group(group)) => self.take(group).await,
            (Judgement::DamagedParts | Judgement::DamagedStore, place) => {
                let (path, position) = (
                    &self.readers[self.current].path,
                    self.expected.point.position,
                );
                // Where there was no room for it, it began the next file.
                let elsewhere = match (&place, self.readers.get(self.current + 1)) {
                    (Place::Nothing, Some(next)) => {
                        format!(", or {} at byte {FIRST_GROUP}", next.path)
                    }
                    _ => String::new(),
                };
                let what = match place {
                    Place::Group(_) => "the directory of group",
                    Place::Nothing => "the header of group",
                };
                let reason = format!(
                    "{path} is damaged at byte {position}{elsewhere}: {what} {sequence}, which was acknowledged"
                );
                self.fence(reason);
                Ok(false)
            }
        }
    }

    /// What is known to have been durable: by the checkpoint, or by any later group.
    async fn testimony(&mut self) -> Result<Testimony, StoreError> {
        if let Some(known) = self.testimony {
            return Ok(known);
        }
        let mut known = Testimony {
            durable_upto: self.known.0,
            recovery_epoch: self.expected.recovery_epoch,
        };
        for index in self.current..self.readers.len() {
            let from = if index == self.current {
                self.expected.point.position
            } else {
                FIRST_GROUP
            };
            let store = self.expected.store;
            known = known.and(self.readers[index].testimony(store, from).await?);
        }
        self.testimony = Some(known);
        Ok(known)
    }

    fn fence(&mut self, reason: String) {
        tracing::error!(reason, "the store cannot be recovered");
        for partition in self.replay.partitions.values_mut() {
            replay::fail(partition, reason.clone());
        }
        self.report.fenced = Some(reason);
    }

    fn into_recovered(self) -> Recovered<F> {
        let mut report = self.report;
        report.bytes_recovered = self.replay.bytes_recovered;
        report.partitions = self.replay.partitions.len();
        let failed = self.replay.partitions.values().filter_map(|partition| {
            partition
                .refusal()
                .map(|reason| (partition.id, reason.to_string()))
        });
        report.failed = failed.collect();
        let used = self.begins.len().min(self.readers.len());
        let identities = self.readers.iter().map(|reader| reader.identity);
        Recovered {
            in_use: identities.clone().zip(self.begins).collect(),
            armed: identities.skip(used).collect(),
            end: self.expected.point,
            replay: self.replay,
            files: self
                .readers
                .into_iter()
                .map(|reader| (reader.identity.number, reader.file))
                .collect(),
            report,
        }
    }
}

fn unsupported(fault: &PartFault) -> Option<u32> {
    match fault {
        PartFault::Unsupported(flags) => Some(*flags),
        PartFault::Damaged(..) | PartFault::DamagedExtent(_) | PartFault::Lost(_) => None,
    }
}

/// What is wrong with a part of the group at a position of a journal file.
fn describe(path: &str, position: u64, fault: &PartFault) -> String {
    match fault {
        PartFault::Unsupported(flags) => {
            format!("{path} is damaged at byte {position}: a part has the flags {flags:#x}")
        }
        PartFault::Damaged(at, reason) => {
            format!("{path} is damaged at byte {position}: byte {at} of a part: {reason}")
        }
        PartFault::DamagedExtent(reason) | PartFault::Lost(reason) => {
            format!("{reason}; the group at byte {position} of {path} tells what belongs there")
        }
    }
}
