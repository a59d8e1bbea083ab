//! What a program is told of the partitions that its member gets and gives.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use corelane_protocol::TopicPartition;

use super::commits::Commit;
use super::effect::Loss;
use super::shared::{Mark, Phase};
use super::{Group, OffsetToCommit};
use crate::consumer::{Found, Place};
use crate::error::{Error, Result};

/// Is told when a member's partitions change. Each method is awaited before the member goes on with the partitions that
/// it is about; heartbeats go on meanwhile.
///
/// The methods are called one after the other, in the order of the changes, on tasks of the member: also while the
/// program works on records of partitions that stay. A call is never cut off; one that panics is reported by the next
/// [`GroupConsumer::next`](crate::GroupConsumer::next). [`revoked`](Self::revoked) waits until the program has asked
/// for more after the last records of those partitions, so the program must not wait for the listener before it asks.
///
/// ```
/// use corelane_client::{Rebalance, RebalanceListener};
///
/// struct Flush;
///
/// impl RebalanceListener for Flush {
///     async fn revoked(&self, change: &Rebalance) {
///         for partition in change.partitions() {
///             println!("{}-{} goes", partition.topic, partition.partition);
///         }
///         if let Err(error) = change.commit().await {
///             eprintln!("{error}");
///         }
///     }
/// }
/// ```
pub trait RebalanceListener: Send + Sync + 'static {
    /// The member has got partitions. Reading begins once this returns, where
    /// [`PartitionPosition::offset`] says or [`Rebalance::seek`] told.
    fn assigned(&self, change: &Rebalance) -> impl Future<Output = ()> + Send {
        let _ = change;
        async {}
    }

    /// The member is to let go of partitions, which are its own until this returns: what was handed out can be finished
    /// and committed ([`Rebalance::commit`]). With auto-commit, what was processed has been committed already.
    fn revoked(&self, change: &Rebalance) -> impl Future<Output = ()> + Send {
        let _ = change;
        async {}
    }

    /// Partitions were lost: other members may read them already, and nothing can be committed. What is not finished
    /// should be given up.
    fn lost(&self, change: &Rebalance) -> impl Future<Output = ()> + Send {
        let _ = change;
        async {}
    }
}

/// A listener that the program keeps a hold on.
impl<L: RebalanceListener> RebalanceListener for Arc<L> {
    fn assigned(&self, change: &Rebalance) -> impl Future<Output = ()> + Send {
        L::assigned(self, change)
    }

    fn revoked(&self, change: &Rebalance) -> impl Future<Output = ()> + Send {
        L::revoked(self, change)
    }

    fn lost(&self, change: &Rebalance) -> impl Future<Output = ()> + Send {
        L::lost(self, change)
    }
}

/// A partition, and where its member stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionPosition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's index.
    pub partition: u32,
    /// The offset of the next record: in [`RebalanceListener::assigned`] of the first that will be handed out, else of
    /// the first that does not count as processed. `None` where it could not be found out where to begin.
    pub offset: Option<u64>,
}

/// A change of a member's partitions.
#[derive(Debug)]
pub struct Rebalance {
    group: Arc<Group>,
    partitions: Vec<PartitionPosition>,
    ids: Vec<(TopicPartition, u64)>,
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Assigned,
    Revoked,
    Lost(Loss),
}

/// A partition of a change: which, which taking of it, its topic's name, and where it stands.
pub(super) type Changed = (TopicPartition, u64, Arc<str>, Option<Mark>);

impl Rebalance {
    pub(super) fn new(group: Arc<Group>, changed: Vec<Changed>) -> Self {
        let ids = changed
            .iter()
            .map(|(id, number, ..)| (*id, *number))
            .collect();
        let partitions = changed
            .into_iter()
            .map(|(id, _, topic, mark)| PartitionPosition {
                topic,
                partition: id.partition.get(),
                offset: mark.map(|mark| mark.offset),
            });
        Self {
            group,
            partitions: partitions.collect(),
            ids,
        }
    }

    /// The group's name.
    pub fn group(&self) -> &str {
        &self.group.name
    }

    /// The partitions that the change is about.
    pub fn partitions(&self) -> &[PartitionPosition] {
        &self.partitions
    }

    /// Commits what was processed of these partitions.
    ///
    /// # Errors
    /// As [`GroupConsumer::commit`](crate::GroupConsumer::commit).
    ///
    /// # Cancel safety
    /// Dropping the future leaves the commit under way.
    pub async fn commit(&self) -> Result<()> {
        let of: BTreeSet<TopicPartition> = self.ids.iter().map(|(id, _)| *id).collect();
        self.group.commit(Commit::ProcessedOf(of)).await
    }

    /// Commits these offsets.
    ///
    /// # Errors
    /// As [`GroupConsumer::commit_offsets`](crate::GroupConsumer::commit_offsets).
    ///
    /// # Cancel safety
    /// Dropping the future leaves the commit under way.
    pub async fn commit_offsets(
        &self,
        offsets: impl IntoIterator<Item = OffsetToCommit> + Send,
    ) -> Result<()> {
        let entries = self.group.entries(offsets)?;
        self.group.commit(Commit::Entries(entries)).await
    }

    /// Begins to read a partition at `offset` instead: for programs that keep offsets elsewhere. Only in
    /// [`RebalanceListener::assigned`].
    ///
    /// # Errors
    /// `InvalidArgument` for a partition that the change is not about, or that is not about to be read.
    pub fn seek(&self, topic: &str, partition: u32, offset: u64) -> Result<()> {
        let about = |index: &usize| {
            let of = &self.partitions[*index];
            of.partition == partition && &*of.topic == topic
        };
        let index = (0..self.ids.len()).find(about);
        let (id, number) = *self
            .ids
            .get(index.unwrap_or(usize::MAX))
            .ok_or_else(|| Error::invalid(format!("{topic}-{partition} is not of this change")))?;
        let mut state = self.group.shared.state();
        let holding = state.partitions.get_mut(&id);
        let holding = holding.filter(|holding| holding.number == number);
        if let Some(holding) = holding
            && let Phase::Taking(Some(opened)) = &mut holding.phase
        {
            let place = Place::new(offset, None);
            opened.start = Ok(Found {
                place,
                read_from: offset,
                latest: u64::MAX,
            });
            holding.position = Some(place.into());
            holding.processed = holding.position;
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{topic}-{partition} is not about to be read; seek in RebalanceListener::assigned, or by \
             GroupConsumer::seek"
        )))
    }
}

/// A listener behind a pointer.
#[derive(Clone)]
pub(super) struct Listener(Arc<dyn ListenerObject>);

impl Listener {
    pub(super) fn new(listener: impl RebalanceListener) -> Self {
        Self(Arc::new(listener))
    }

    /// Tells the listener, on a task of its own, so that nothing cuts it off.
    ///
    /// # Errors
    /// When it panicked.
    pub(super) async fn tell(
        &self,
        change: Change,
        about: Rebalance,
    ) -> std::result::Result<(), tokio::task::JoinError> {
        let listener = Arc::clone(&self.0);
        tokio::spawn(async move { listener.tell(change, &about).await }).await
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("set")
    }
}

/// [`RebalanceListener`] in a form that can be behind a pointer.
trait ListenerObject: Send + Sync {
    fn tell<'a>(
        &'a self,
        change: Change,
        about: &'a Rebalance,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

impl<L: RebalanceListener> ListenerObject for L {
    fn tell<'a>(
        &'a self,
        change: Change,
        about: &'a Rebalance,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        match change {
            Change::Assigned => Box::pin(self.assigned(about)),
            Change::Revoked => Box::pin(self.revoked(about)),
            Change::Lost(_) => Box::pin(self.lost(about)),
        }
    }
}
