//! The task that commits: one request at a time, in the order in which they were given.
//!
//! Owns: when what was processed is committed by itself, and what becomes of a commit that is refused. Dropping the
//! future of a commit loses its outcome, never its place in the order.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use corelane_protocol::request::CommitEntry;
use corelane_protocol::response::CommittedEntry;
use corelane_protocol::{ApiError, ErrorCode, LeaderEpoch, Offset, TopicPartition};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use super::heart::HeartEvent;
use super::offsets;
use super::shared::{Mark, Taken};
use super::{Group, OffsetToCommit};
use crate::backoff::Jitter;
use crate::error::{Error, ErrorKind, Result};

/// What is to be committed.
#[derive(Debug)]
pub(super) enum Commit {
    /// All that was processed and is not committed.
    Processed,
    /// Likewise, of these partitions.
    ProcessedOf(BTreeSet<TopicPartition>),
    Entries(Vec<CommitEntry>),
}

#[derive(Debug)]
pub(super) struct CommitOrder {
    commit: Commit,
    /// Who wants to know of its end. If that has gone, a failure is logged.
    reply: oneshot::Sender<Result<()>>,
}

/// A commit that is under way: await it for its outcome, or drop it. The outcome of one that was dropped goes to the
/// log if it is a failure.
///
/// # Cancel safety
/// Safe: the commit goes on without it.
#[derive(Debug)]
pub struct PendingCommit(oneshot::Receiver<Result<()>>);

impl Future for PendingCommit {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let outcome = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(outcome.unwrap_or(Err(Error::Closed {
            what: "group member",
        })))
    }
}

impl Group {
    /// Gives a commit to the task.
    pub(super) fn commit(&self, commit: Commit) -> PendingCommit {
        let (reply, outcome) = oneshot::channel();
        // Without the task the reply is dropped, which says that the member is closed.
        let _ = self.commits.send(CommitOrder { commit, reply });
        PendingCommit(outcome)
    }

    /// A commit failed that the program had not asked for: the next call tells it. True unless that is no news, since
    /// the listener is told that the partitions were lost.
    pub(super) fn commit_failed(&self, error: Error) -> bool {
        tracing::warn!(group = %self.name, %error, "what was processed could not be committed");
        let by_loss = error.kind() == ErrorKind::MembershipLost
            || matches!(
                error.code(),
                Some(
                    ErrorCode::UnknownMember | ErrorCode::StaleGeneration | ErrorCode::NotAssigned
                )
            );
        if !by_loss {
            self.shared.update(|state| state.errors.push_back(error));
        }
        !by_loss
    }

    /// Offsets of held partitions, as they are committed.
    pub(super) fn entries(
        &self,
        offsets: impl IntoIterator<Item = OffsetToCommit>,
    ) -> Result<Vec<CommitEntry>> {
        let state = self.shared.state();
        let entries = offsets.into_iter().map(|offset| {
            let held = state.find(&offset.topic, offset.partition);
            let (partition, _) =
                held.ok_or_else(|| self.not_held(&offset.topic, offset.partition))?;
            Ok(offset.entry(partition.topic))
        });
        let entries: Vec<CommitEntry> = entries.collect::<Result<_>>()?;
        let mut seen = BTreeSet::new();
        match entries.iter().find(|entry| !seen.insert(entry.partition)) {
            None => Ok(entries),
            Some(twice) => Err(Error::invalid(format!(
                "an offset of {} is given twice",
                state.place(&twice.partition)
            ))),
        }
    }
}

/// The task. It ends with the member.
pub(super) async fn run(group: Arc<Group>, mut orders: mpsc::UnboundedReceiver<CommitOrder>) {
    let every = group.settings.auto_commit;
    let mut ticks = every.map(|every| {
        let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    });
    let mut committer = Committer {
        jitter: Jitter::new(group.cluster.next_seed()),
        group,
        auto_failing: false,
    };
    loop {
        let tick = async {
            match &mut ticks {
                Some(ticks) => drop(ticks.tick().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = orders.recv() => match order {
                Some(order) => committer.carry_out(order).await,
                None => return,
            },
            () = tick => committer.commit_by_itself().await,
        }
    }
}

/// What is left of a commit that was answered.
#[derive(Default)]
struct Sorted {
    again: Vec<CommitEntry>,
    /// The generation was out of date.
    stale: Option<Error>,
}

struct Committer {
    group: Arc<Group>,
    jitter: Jitter,
    /// The last commit that nobody had asked for failed, and the program was told.
    auto_failing: bool,
}

impl Committer {
    async fn carry_out(&mut self, order: CommitOrder) {
        let outcome = self.commit(order.commit).await;
        if let Err(Err(error)) = order.reply.send(outcome) {
            tracing::warn!(group = %self.group.name, %error, "a commit failed");
        }
    }

    async fn commit_by_itself(&mut self) {
        let Err(error) = self.commit(Commit::Processed).await else {
            self.auto_failing = false;
            return;
        };
        if self.auto_failing {
            tracing::warn!(group = %self.group.name, %error, "commits go on to fail");
        } else {
            self.auto_failing = self.group.commit_failed(error);
        }
    }

    async fn commit(&mut self, commit: Commit) -> Result<()> {
        let of = match commit {
            Commit::Entries(entries) => return self.commit_entries(entries, false).await,
            Commit::Processed => None,
            Commit::ProcessedOf(partitions) => Some(partitions),
        };
        let marks = self.group.shared.state().uncommitted(of.as_ref());
        let entries = marks
            .into_iter()
            .map(|(partition, mark)| entry(partition, mark));
        self.commit_entries(entries.collect(), true).await
    }

    /// Commits, and tries again what may pass, within the client's request timeout. With `spare_gone`, partitions that
    /// do not exist any more need no offset.
    async fn commit_entries(
        &mut self,
        mut entries: Vec<CommitEntry>,
        spare_gone: bool,
    ) -> Result<()> {
        let group = Arc::clone(&self.group);
        let config = group.cluster.config();
        let deadline = Instant::now() + config.request_timeout;
        let takings = self.takings(&entries);
        let mut first_error = None;
        let mut failures = 0;
        let mut has_caught_up = false;
        loop {
            self.forget_lost(&takings, &mut entries, &mut first_error);
            if entries.is_empty() {
                return first_error.map_or(Ok(()), Err);
            }
            let member = group.shared.state().member;
            let outcomes =
                offsets::commit(&group.coordinator, &group.name, Some(member), &entries).await;
            let stale = match outcomes {
                Ok(outcomes) => {
                    let answered = entries.into_iter().zip(outcomes);
                    let sorted = self.sort(answered, spare_gone, &mut first_error);
                    entries = sorted.again;
                    sorted.stale
                }
                Err(error) if error.code() == Some(ErrorCode::StaleGeneration) => Some(error),
                Err(error) => {
                    if error.code() == Some(ErrorCode::UnknownMember) {
                        group.tell_heart(HeartEvent::Fenced(member.id));
                    }
                    return Err(first_error.unwrap_or(error));
                }
            };
            match stale {
                Some(error) => {
                    if has_caught_up || !group.catch_up().await {
                        return Err(first_error.unwrap_or(error));
                    }
                    has_caught_up = true;
                }
                None if entries.is_empty() => {}
                None => {
                    failures += 1;
                    let wait = config.backoff.after(failures, &mut self.jitter);
                    if Instant::now() + wait >= deadline {
                        return Err(first_error.unwrap_or(Error::TimedOut {
                            what: format!("a commit of group {}", group.name),
                            after: config.request_timeout,
                            cause: None,
                        }));
                    }
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// Which taking of each partition it is that is committed of.
    fn takings(&self, entries: &[CommitEntry]) -> Taken {
        let state = self.group.shared.state();
        let held = entries.iter().filter_map(|entry| {
            let holding = state.partitions.get(&entry.partition)?;
            Some((entry.partition, (holding.number, Arc::clone(&holding.name))))
        });
        held.collect()
    }

    /// What was lost meanwhile is not committed, even if the member has it again: others may have come further.
    fn forget_lost(
        &self,
        takings: &Taken,
        entries: &mut Vec<CommitEntry>,
        first_error: &mut Option<Error>,
    ) {
        let state = self.group.shared.state();
        let mut lost = Vec::new();
        entries.retain(|entry| {
            let taking = takings.get(&entry.partition);
            let now = state.partitions.get(&entry.partition);
            let is_held = taking
                .is_some_and(|(number, _)| now.is_some_and(|holding| holding.number == *number));
            if !is_held {
                let topic = match taking {
                    Some((_, name)) => name.to_string(),
                    None => entry.partition.topic.to_string(),
                };
                lost.push((topic, entry.partition.partition.get()));
            }
            is_held
        });
        if !lost.is_empty() {
            first_error.get_or_insert_with(|| Error::PartitionsLost {
                group: self.group.name.clone(),
                partitions: lost,
            });
        }
    }

    /// What is to be sent again of what was answered.
    fn sort(
        &self,
        answered: impl Iterator<Item = (CommitEntry, CommittedEntry)>,
        spare_gone: bool,
        first_error: &mut Option<Error>,
    ) -> Sorted {
        let mut sorted = Sorted::default();
        for (entry, outcome) in answered {
            match outcome.result {
                Ok(()) => self.has_committed(&entry),
                Err(error) if spare_gone && is_gone(error.code) => self.has_committed(&entry),
                Err(error) if error.code == ErrorCode::StaleGeneration => {
                    sorted.stale = Some(self.refused(&entry, error));
                    sorted.again.push(entry);
                }
                Err(error) if error.retriable() => sorted.again.push(entry),
                Err(error) => {
                    let error = self.refused(&entry, error);
                    first_error.get_or_insert(error);
                }
            }
        }
        sorted
    }

    fn has_committed(&self, entry: &CommitEntry) {
        let mut state = self.group.shared.state();
        state.committed(entry.partition, entry.offset.get());
    }

    fn refused(&self, entry: &CommitEntry, error: ApiError) -> Error {
        if error.code == ErrorCode::NotAssigned {
            self.group
                .tell_heart(HeartEvent::NotAssigned(entry.partition));
        }
        let place = self.group.shared.state().place(&entry.partition);
        let offset = entry.offset;
        Error::refused(
            format!(
                "commit offset {offset} of {place} for group {}",
                self.group.name
            ),
            error,
        )
    }
}

/// Whether the partition does not exist any more.
fn is_gone(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::UnknownTopic | ErrorCode::UnknownPartition)
}

fn entry(partition: TopicPartition, mark: Mark) -> CommitEntry {
    CommitEntry {
        partition,
        offset: Offset::new(mark.offset),
        leader_epoch: mark.epoch.map(LeaderEpoch::new),
        metadata: String::new(),
    }
}
