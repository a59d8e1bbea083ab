//! Members of consumer groups.
//!
//! Owns: the public member and its calls. What a member does when is decided in `membership` (sans-IO). Three tasks
//! carry it out: `heart` keeps the member in its group, `steps` takes partitions and lets them go, `commits` commits.
//! Reading is done by the caller, with the source of the consumer; `shared` is what all of them know.

mod builder;
mod commits;
mod coordinator;
mod effect;
mod heart;
mod listener;
mod membership;
#[cfg(test)]
mod membership_model_tests;
#[cfg(test)]
mod membership_tests;
mod offsets;
mod opening;
mod positions;
mod shared;
#[cfg(test)]
mod shared_tests;
mod steps;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::request::Subscription;
use corelane_protocol::{MemberId, TopicPartition};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use self::builder::GroupBuilder;
pub use self::commits::PendingCommit;
pub(crate) use self::coordinator::Coordinator;
pub use self::listener::{PartitionPosition, Rebalance, RebalanceListener};
pub use self::offsets::{CommittedOffset, OffsetToCommit};
pub(crate) use self::offsets::{commit, fetch};

use self::commits::{Commit, CommitOrder};
use self::effect::Standing;
use self::heart::HeartEvent;
use self::listener::Listener;
use self::shared::{Mark, Phase, Shared, State};
use crate::client::random_seed;
use crate::cluster::Cluster;
use crate::consumer::{FetchOptions, Next, PartitionId, RecordSource, Records};
use crate::error::{Error, Result};

/// The settings of a member that its tasks need.
#[derive(Debug)]
struct Settings {
    subscription: Subscription,
    session_timeout: Duration,
    max_poll_interval: Duration,
    auto_commit: Option<Duration>,
    listener: Option<Listener>,
    options: FetchOptions,
}

/// What a member and its tasks share.
#[derive(Debug)]
struct Group {
    cluster: Arc<Cluster>,
    name: String,
    settings: Settings,
    coordinator: Coordinator,
    shared: Shared,
    heart: mpsc::UnboundedSender<HeartEvent>,
    commits: mpsc::UnboundedSender<CommitOrder>,
}

impl Group {
    fn not_held(&self, topic: &str, partition: u32) -> Error {
        let name = &self.name;
        Error::invalid(format!(
            "partition {topic}-{partition} is not held by this member of group {name}; see assignment"
        ))
    }
}

/// A member of a consumer group: reads the partitions that the group gives it, each in the order of its offsets.
///
/// Records count as processed when the program asks for the next ones, commits, or closes the member; never before they
/// were handed out. What was processed is committed every few seconds
/// ([`GroupBuilder::auto_commit`]) and before a partition is let go, so that whoever reads the partition next goes on
/// there. After a crash records may be handed out again, none is left out.
///
/// Heartbeats are sent by tasks of the member on the program's runtime, whatever the program awaits. (A program that
/// computes for long without an await holds them up if the runtime has no other thread.) A program that does not ask
/// for records for [`GroupBuilder::max_poll_interval`] counts as stuck all the same: its member leaves.
///
/// Dropping it without [`GroupConsumer::close`] ends its tasks at once. Nothing is committed then, and the group gives
/// its partitions to others after the session timeout.
#[derive(Debug)]
pub struct GroupConsumer {
    group: Arc<Group>,
    source: RecordSource,
    changes: watch::Receiver<()>,
    /// The partitions in the source, with which taking of it each is.
    reading: BTreeMap<PartitionId, (TopicPartition, u64)>,
    /// The state's version up to which `reading` is true.
    seen_version: Option<u64>,
    /// The partition of the records that were handed out last, which taking, and where they end.
    in_hand: Option<(TopicPartition, u64, Mark)>,
    tasks: Tasks,
}

/// The tasks of a member, the heart first; they end with it.
#[derive(Debug)]
struct Tasks([JoinHandle<()>; 3]);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// While it lives, the program waits for records.
struct Asking<'a>(&'a Shared);

impl<'a> Asking<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.state().asks(true, Instant::now());
        Self(shared)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.state().asks(false, Instant::now());
    }
}

impl GroupConsumer {
    fn new(group: Arc<Group>, source: RecordSource, tasks: [JoinHandle<()>; 3]) -> Self {
        Self {
            changes: group.shared.subscribe(),
            group,
            source,
            reading: BTreeMap::new(),
            seen_version: None,
            in_hand: None,
            tasks: Tasks(tasks),
        }
    }

    /// Waits until the group has the member.
    async fn has_joined(&self) -> Result<()> {
        let shared = &self.group.shared;
        let after = self.group.cluster.config().request_timeout;
        let joined =
            shared.until(|state| state.standing == Standing::Member || state.out.is_some());
        if tokio::time::timeout(after, joined).await.is_err() {
            return Err(Error::TimedOut {
                what: format!("joining group {}", self.group.name),
                after,
                cause: shared.state().last_failure.take().map(Box::new),
            });
        }
        shared.state().out.take().map_or(Ok(()), Err)
    }

    /// The next records, of any of the member's partitions; waits for them, also while it has no partitions. The
    /// records that the last call gave count as processed.
    ///
    /// # Errors
    /// As [`Consumer::next`](crate::Consumer::next) for one partition, which is then left alone until
    /// [`GroupConsumer::seek`] or [`GroupConsumer::resume`]. `LogTruncated` and `OffsetReset` when the position of a
    /// partition moved by itself; calling again goes on there. `PollOverdue`, or `Refused` for the whole member, when
    /// it is out of its group: calling again joins again. Why what was processed could not be committed, once for each
    /// time that commits begin to fail.
    ///
    /// # Cancel safety
    /// Safe: a dropped future has handed nothing out, and nothing more counts as processed than when it was called.
    pub async fn next(&mut self) -> Result<Records> {
        loop {
            if let Some(records) = self.next_until(None).await? {
                return Ok(records);
            }
        }
    }

    /// The next records if they come within `timeout`, as [`GroupConsumer::next`].
    ///
    /// # Errors
    /// As [`GroupConsumer::next`].
    ///
    /// # Cancel safety
    /// Safe, as [`GroupConsumer::next`].
    pub async fn poll(&mut self, timeout: Duration) -> Result<Option<Records>> {
        self.next_until(Some(Instant::now() + timeout)).await
    }

    async fn next_until(&mut self, deadline: Option<Instant>) -> Result<Option<Records>> {
        let group = Arc::clone(&self.group);
        let _asking = Asking::begin(&group.shared);
        self.done_with_records();
        loop {
            self.changes.borrow_and_update();
            self.follow();
            self.take_error()?;
            if let Some(records) = self.take_records()? {
                return Ok(Some(records));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
            tokio::select! {
                biased;
                _ = self.changes.changed() => {}
                () = self.source.wait(deadline) => {}
            }
        }
    }

    /// What the program is at counts as processed.
    fn done_with_records(&mut self) {
        let in_hand = self.in_hand.take();
        self.group.shared.update(|state| {
            state.in_hand = None;
            if let Some((partition, number, mark)) = in_hand {
                state.processed(partition, number, mark);
            }
        });
    }

    /// Reads the partitions that the member holds, and no others.
    fn follow(&mut self) {
        let mut state = self.group.shared.state();
        if self.seen_version == Some(state.version) {
            return;
        }
        self.seen_version = Some(state.version);
        let gone: Vec<PartitionId> = self
            .reading
            .iter()
            .filter(|(_, (partition, number))| state.reading(*partition, *number).is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.reading.remove(&id);
            self.source.remove(id);
        }
        let known: Vec<TopicPartition> = self
            .reading
            .values()
            .map(|(partition, _)| *partition)
            .collect();
        for (partition, holding) in &state.partitions {
            let Phase::Reading(opened) = &holding.phase else {
                continue;
            };
            if known.contains(partition) {
                continue;
            }
            let index = partition.partition.get();
            let id = match &opened.start {
                Ok(start) => self.source.add(&opened.topic, index, *start),
                Err(error) => self.source.add_failed(&opened.topic, index, error.clone()),
            };
            self.reading.insert(id, (*partition, holding.number));
        }
    }

    fn take_error(&self) -> Result<()> {
        let (error, is_out) = {
            let mut state = self.group.shared.state();
            match state.errors.pop_front() {
                Some(error) => (Some(error), false),
                None => (state.out.take(), true),
            }
        };
        match error {
            None => Ok(()),
            Some(error) => {
                if is_out {
                    self.group.tell_heart(HeartEvent::Rejoin);
                }
                Err(error)
            }
        }
    }

    fn take_records(&mut self) -> Result<Option<Records>> {
        loop {
            let shared = &self.group.shared;
            if !shared.state().may_hand_out(Instant::now()) {
                // What is buffered stays so until the coordinator has answered, or goes.
                return Ok(None);
            }
            let Some(next) = self.source.take_next()? else {
                return Ok(None);
            };
            let (Next::Records(id, _) | Next::Jumped(id, _)) = &next;
            let mark = self.source.place(*id).into();
            let (partition, number) = self.reading[id];
            match next {
                Next::Jumped(_, error) => {
                    shared.state().processed(partition, number, mark);
                    return Err(error);
                }
                Next::Records(_, records) if records.is_empty() => {
                    shared.state().processed(partition, number, mark);
                }
                Next::Records(_, records) => {
                    // A partition that goes gives no more, even if it was fetched.
                    if shared.state().hand_out(partition, number, mark) {
                        self.in_hand = Some((partition, number, mark));
                        return Ok(Some(records));
                    }
                }
            }
        }
    }

    /// Commits everything that was handed out, which counts as processed by this. Returns once it is durable.
    ///
    /// # Errors
    /// `PartitionsLost` if partitions were lost before what was handed out of them was committed; `Refused`; connection
    /// errors after the request timeout. What is not to blame is committed all the same.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the commit under way.
    pub async fn commit(&mut self) -> Result<()> {
        self.commit_in_background().await?;
        let lost = std::mem::take(&mut self.group.shared.state().lost_uncommitted);
        if lost.is_empty() {
            return Ok(());
        }
        Err(Error::PartitionsLost {
            group: self.group.name.clone(),
            partitions: lost.into_iter().collect(),
        })
    }

    /// Begins to commit everything that was handed out, which counts as processed by this, and does not wait for it.
    /// Commits are done in the order in which they begin.
    pub fn commit_in_background(&mut self) -> PendingCommit {
        self.done_with_records();
        self.group.commit(Commit::Processed)
    }

    /// Commits these offsets of partitions that the member holds. Positions stay as they are.
    ///
    /// # Errors
    /// `InvalidArgument` for a partition that is not held, or given twice; else as [`GroupConsumer::commit`].
    ///
    /// # Cancel safety
    /// Dropping the future may leave the commit under way.
    pub async fn commit_offsets(
        &mut self,
        offsets: impl IntoIterator<Item = OffsetToCommit>,
    ) -> Result<()> {
        let entries = self.group.entries(offsets)?;
        self.group.commit(Commit::Entries(entries)).await
    }

    /// Ends the membership in order: nothing more is handed out, what was handed out counts as processed and is
    /// committed (with auto-commit), the listener is told that all partitions go, and the member leaves, so that others
    /// have them at once. A member with an instance name keeps them until its session timeout, to come back.
    ///
    /// # Errors
    /// What could not be committed, or any other failure that was not told yet. The member has left all the same, or
    /// will be missed after its session timeout. Where the broker cannot be reached, that is tried for as long as the
    /// session lasts.
    ///
    /// # Cancel safety
    /// Dropping the future ends it where it is, as dropping the member does.
    pub async fn close(mut self) -> Result<()> {
        self.done_with_records();
        self.group.tell_heart(HeartEvent::Close);
        if let Err(error) = (&mut self.tasks.0[0]).await {
            tracing::warn!(%error, "the heart of a group's member ended early");
        }
        let told = |state: &mut State| state.errors.pop_front().or(state.out.take());
        told(&mut self.group.shared.state()).map_or(Ok(()), Err)
    }
}

/// An id that no other member has, as random as the keys that the standard library draws for hash maps.
fn new_member_id() -> MemberId {
    let mut bytes = (u128::from(random_seed()) << 64 | u128::from(random_seed())).to_be_bytes();
    // Version 4 and the variant of RFC 9562.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    MemberId::from_bytes(bytes)
}
