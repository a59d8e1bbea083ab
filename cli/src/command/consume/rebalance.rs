//! What a member does when its partitions change: it begins where the command line says, and says what
//! has come and gone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corelane_client::{Client, Error, GroupConsumer, OffsetSpec, Rebalance, RebalanceListener};
use tokio::sync::Notify;

use crate::input::start::From;
use crate::output::{say, units};

/// The wait before the broker is asked again for offsets that it could not tell.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A partition: its topic, and its number there.
type Place = (Arc<str>, u32);

#[derive(Debug, Default)]
struct Ends {
    /// Where each partition ended when it came, if reading is to end there.
    of: BTreeMap<Place, u64>,
    /// One that had more when that was looked at last.
    unread: Option<Place>,
}

/// The partitions that the member holds.
#[derive(Debug)]
pub(super) struct Holdings {
    client: Client,
    group: String,
    from: From,
    until_end: bool,
    ends: Mutex<Ends>,
    changed: Notify,
    is_closing: AtomicBool,
}

impl Holdings {
    pub(super) fn new(client: Client, group: String, from: From, until_end: bool) -> Self {
        Self {
            client,
            group,
            from,
            until_end,
            ends: Mutex::default(),
            changed: Notify::new(),
            is_closing: AtomicBool::new(false),
        }
    }

    /// From here on nothing is said of partitions: all of them go.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    /// Waits until partitions have come or gone.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether more partitions than so many were not read up to their end yet. It is asked behind every batch, and the
    /// partitions may be thousands.
    pub(super) fn has_unread(&self, member: &GroupConsumer, but_for: usize) -> bool {
        let mut ends = self.ends();
        let is_unread = |(topic, partition): &Place, end: &u64| {
            let position = member.position(topic, *partition);
            position.is_none_or(|position| position < *end)
        };
        if but_for == 0
            && let Some(place) = &ends.unread
            && let Some(end) = ends.of.get(place)
            && is_unread(place, end)
        {
            return true;
        }
        let mut unread = ends.of.iter().filter(|(place, end)| is_unread(place, end));
        let unread = unread.nth(but_for).map(|(place, _)| place.clone());
        ends.unread = unread;
        ends.unread.is_some()
    }

    /// Whether all of these partitions are held.
    pub(super) fn has_all(&self, partitions: &[(String, u32)]) -> bool {
        let ends = self.ends();
        let mut partitions = partitions.iter();
        partitions.all(|(topic, index)| ends.of.contains_key(&(topic.as_str().into(), *index)))
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, what: &str, change: &Rebalance, more: &str) {
        if !self.is_closing.load(Ordering::Relaxed) {
            let partitions = change.partitions().iter();
            let partitions = partitions.map(|one| (&*one.topic, one.partition));
            let partitions = units::partitions(partitions);
            say(format_args!(
                "group {}: {what} {partitions}{more}",
                self.group
            ));
        }
    }

    fn forget(&self, change: &Rebalance) {
        let mut ends = self.ends();
        for one in change.partitions() {
            ends.of.remove(&(Arc::clone(&one.topic), one.partition));
        }
        drop(ends);
        self.changed.notify_one();
    }

    /// Begins where `--from` says with partitions of which the group has committed nothing, where that is
    /// no offset that the client finds by itself.
    async fn begin(&self, change: &Rebalance) -> Result<(), Error> {
        if matches!(self.from, From::Start | From::End) {
            return Ok(());
        }
        let committed = self.client.admin().group_offsets(&self.group).await?;
        let fresh = change.partitions().iter().filter(|one| {
            let is_it = |at: &corelane_client::CommittedOffset| {
                *at.topic == *one.topic && at.partition == one.partition
            };
            !committed.iter().any(is_it)
        });
        let fresh: Vec<(&str, u32)> = fresh.map(|one| (&*one.topic, one.partition)).collect();
        let earliest = self.ask(&fresh, OffsetSpec::Earliest).await?;
        let latest = self.ask(&fresh, OffsetSpec::Latest).await?;
        let at_time = match self.from {
            From::Time(time) => self.ask(&fresh, OffsetSpec::Timestamp(time)).await?,
            _ => Vec::new(),
        };
        for (at, (topic, partition)) in fresh.into_iter().enumerate() {
            let meant = match self.from {
                From::Start => earliest[at],
                From::End => latest[at],
                From::Offset(offset) => offset,
                From::Last(count) => latest[at].saturating_sub(count),
                From::Time(_) => at_time[at],
            };
            let offset = meant.min(latest[at]).max(earliest[at]);
            // It is lost already where this fails.
            let _ = change.seek(topic, partition, offset);
        }
        Ok(())
    }

    /// Notes where reading is to end, if it is.
    async fn note(&self, change: &Rebalance) -> Result<(), Error> {
        let come: Vec<(&str, u32)> = change
            .partitions()
            .iter()
            .map(|one| (&*one.topic, one.partition))
            .collect();
        let ends = if self.until_end {
            self.ask(&come, OffsetSpec::Latest).await?
        } else {
            vec![u64::MAX; come.len()]
        };
        let come = change.partitions().iter();
        let come = come.map(|one| (Arc::clone(&one.topic), one.partition));
        self.ends().of.extend(come.zip(ends));
        Ok(())
    }

    async fn ask(&self, partitions: &[(&str, u32)], spec: OffsetSpec) -> Result<Vec<u64>, Error> {
        let mut asked = Vec::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            asked.push((*topic, *partition, spec));
        }
        let listed = self.client.admin().list_offsets(asked).await?;
        Ok(listed.into_iter().map(|listed| listed.offset).collect())
    }

    /// Whether something is to be tried again, after a while: it failed, and may not the next time.
    async fn is_to_repeat(&self, what: &str, outcome: Result<(), Error>) -> bool {
        match outcome {
            Ok(()) => false,
            Err(error) if error.is_retriable() => {
                tokio::time::sleep(ASK_AGAIN).await;
                true
            }
            Err(error) => {
                say(format_args!("error: group {}: {what}: {error}", self.group));
                false
            }
        }
    }
}

/// The listener of a member, which shares what it knows with the command.
pub(super) struct Listener(pub(super) Arc<Holdings>);

impl RebalanceListener for Listener {
    async fn assigned(&self, change: &Rebalance) {
        let holdings = &self.0;
        let what = "cannot begin where --from says";
        while holdings
            .is_to_repeat(what, holdings.begin(change).await)
            .await
        {}
        let what = "cannot tell where partitions end";
        while holdings
            .is_to_repeat(what, holdings.note(change).await)
            .await
        {}
        holdings.say("got", change, "");
        holdings.changed.notify_one();
    }

    async fn revoked(&self, change: &Rebalance) {
        self.0.say("let go of", change, "");
        self.0.forget(change);
    }

    async fn lost(&self, change: &Rebalance) {
        let more = ": what was printed last of them may be printed again by others";
        self.0.say("lost", change, more);
        self.0.forget(change);
    }
}
