//! The settings of a member.

use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::request::{MemberRef, Subscription};
use corelane_protocol::{Generation, TopicName};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::coordinator::Coordinator;
use super::effect::MembershipSettings;
use super::listener::{Listener, RebalanceListener};
use super::membership::Membership;
use super::shared::Shared;
use super::{Group, GroupConsumer, Settings, commits, heart, new_member_id, steps};
use crate::cluster::Cluster;
use crate::consumer::{FetchOptions, OffsetReset, OnTruncation};
use crate::error::{Error, Result};

/// The settings of a [`GroupConsumer`].
#[derive(Debug, Clone)]
pub struct GroupBuilder {
    cluster: Arc<Cluster>,
    group: String,
    topics: Vec<String>,
    pattern: Option<String>,
    instance: Option<String>,
    assignor: Option<String>,
    session_timeout: Duration,
    max_poll_interval: Duration,
    auto_commit: Option<Duration>,
    listener: Option<Listener>,
    options: FetchOptions,
}

impl GroupBuilder {
    pub(crate) fn new(cluster: Arc<Cluster>, group: String) -> Self {
        Self {
            cluster,
            group,
            topics: Vec::new(),
            pattern: None,
            instance: None,
            assignor: None,
            session_timeout: Duration::from_secs(45),
            max_poll_interval: Duration::from_secs(300),
            auto_commit: Some(Duration::from_secs(5)),
            listener: None,
            options: FetchOptions {
                offset_reset: OffsetReset::Earliest,
                ..FetchOptions::default()
            },
        }
    }

    /// Subscribes to these topics. May be called several times. A topic that does not exist counts once it does.
    pub fn topics<S: Into<String>>(mut self, topics: impl IntoIterator<Item = S>) -> Self {
        self.topics.extend(topics.into_iter().map(Into::into));
        self
    }

    /// Subscribes to all topics whose whole name matches a regular expression, also those to come. The broker checks
    /// it. It may be given beside [`topics`](Self::topics).
    pub fn pattern(mut self, pattern: impl Into<String>) -> Self {
        self.pattern = Some(pattern.into());
        self
    }

    /// The name under which this member is the same one when it comes back (static membership): if it is closed and
    /// joins again within its session timeout, its partitions do not change hands. Each member of the group needs a
    /// name of its own. Default: none.
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.instance = Some(name.into());
        self
    }

    /// How the group assigns partitions, by the name of one of the broker's ways. Default: the broker's.
    pub fn assignor(mut self, name: impl Into<String>) -> Self {
        self.assignor = Some(name.into());
        self
    }

    /// How long the group waits for a sign of the member before others get its partitions; the member stops by itself
    /// when it could not reach the broker for so long. Default 45 s.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout;
        self
    }

    /// The longest time between two calls that ask for records: a program that takes longer counts as stuck, and its
    /// member leaves. It is also how long the group waits for partitions to be let go. Default 5 min.
    pub fn max_poll_interval(mut self, interval: Duration) -> Self {
        self.max_poll_interval = interval;
        self
    }

    /// How often what was processed is committed by itself, beside each time that partitions are let go. With `None`
    /// the program commits. Default 5 s.
    pub fn auto_commit(mut self, every: Option<Duration>) -> Self {
        self.auto_commit = every;
        self
    }

    /// Whom to tell of partitions that come and go. Default: nobody.
    pub fn listener(mut self, listener: impl RebalanceListener) -> Self {
        self.listener = Some(Listener::new(listener));
        self
    }

    /// Where to begin with a partition of which the group has committed nothing, and what to do when the offset to be
    /// read does not exist; the latter is reported ([`Error::OffsetReset`]). Default: [`OffsetReset::Earliest`].
    pub fn offset_reset(mut self, reset: OffsetReset) -> Self {
        self.options.offset_reset = reset;
        self
    }

    /// What to do when records that were read are gone. Default: report it once, and go on with what the log has at
    /// those offsets now.
    pub fn on_truncation(mut self, on_truncation: OnTruncation) -> Self {
        self.options.on_truncation = on_truncation;
        self
    }

    /// How long the broker may hold a fetch back while there are fewer than [`min_bytes`](Self::min_bytes) to read.
    /// Default 500 ms.
    pub fn max_wait(mut self, max_wait: Duration) -> Self {
        self.options.max_wait = max_wait;
        self
    }

    /// The bytes for which the broker answers a fetch before `max_wait` is over. Default 1: as soon as there is a
    /// record.
    pub fn min_bytes(mut self, bytes: u32) -> Self {
        self.options.min_bytes = bytes;
        self
    }

    /// The bytes of one fetch over all partitions of one core. Default 4 MiB. A batch larger than this is fetched all
    /// the same, alone.
    pub fn max_bytes(mut self, bytes: u32) -> Self {
        self.options.max_bytes = bytes;
        self
    }

    /// The bytes of one fetch for one partition. Default 1 MiB.
    pub fn max_partition_bytes(mut self, bytes: u32) -> Self {
        self.options.max_partition_bytes = bytes;
        self
    }

    /// No more is fetched ahead while this many bytes wait to be handed out. Default 8 MiB. Up to one fetch of each
    /// core may come on top.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.options.buffer_bytes = bytes;
        self
    }

    /// Makes the member's random choices (jitter of waits) repeatable; its id is not one of them.
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = Some(seed);
        self
    }

    /// Joins the group: returns once the group has the member. Partitions come later.
    ///
    /// # Errors
    /// `InvalidArgument` for settings that cannot work; `Refused` with `InstanceInUse`, `GroupLimit` or
    /// `InvalidRequest`; `TimedOut` if the group could not be reached within the request timeout.
    ///
    /// # Cancel safety
    /// Dropping the future ends the attempt; the group may have the member until its session timeout.
    pub async fn join(self) -> Result<GroupConsumer> {
        self.check()?;
        let member = MemberRef {
            id: new_member_id(),
            generation: Generation::NONE,
        };
        let config = self.cluster.config();
        let seed = self.options.seed;
        let membership = MembershipSettings {
            session_timeout: self.session_timeout,
            has_instance: self.instance.is_some(),
            backoff: config.backoff,
            seed: seed.unwrap_or_else(|| self.cluster.next_seed()),
        };
        let subscription = Subscription {
            instance: self.instance,
            client: config.connection.client_name.clone(),
            session_timeout_ms: milliseconds(self.session_timeout),
            rebalance_timeout_ms: milliseconds(self.max_poll_interval),
            topics: self.topics,
            pattern: self.pattern,
            assignor: self.assignor,
        };
        let (heart_events, to_heart) = mpsc::unbounded_channel();
        let (commit_orders, to_commits) = mpsc::unbounded_channel();
        let (step_orders, to_steps) = mpsc::unbounded_channel();
        let source = self.options.open_changing(&self.cluster);
        let group = Arc::new(Group {
            coordinator: Coordinator::new(Arc::clone(&self.cluster)),
            cluster: self.cluster,
            name: self.group,
            settings: Settings {
                subscription,
                session_timeout: self.session_timeout,
                max_poll_interval: self.max_poll_interval,
                auto_commit: self.auto_commit,
                listener: self.listener,
                options: self.options,
            },
            shared: Shared::new(member, Instant::now()),
            heart: heart_events,
            commits: commit_orders,
        });
        let membership = Membership::new(membership, member.id);
        let heart = heart::run(Arc::clone(&group), membership, to_heart, step_orders);
        let tasks = [
            tokio::spawn(heart),
            tokio::spawn(steps::run(Arc::clone(&group), to_steps)),
            tokio::spawn(commits::run(Arc::clone(&group), to_commits)),
        ];
        let consumer = GroupConsumer::new(group, source, tasks);
        consumer.has_joined().await?;
        Ok(consumer)
    }

    fn check(&self) -> Result<()> {
        if self.group.is_empty() {
            return Err(Error::invalid("a group has a name; this one is empty"));
        }
        if self.topics.is_empty() && self.pattern.is_none() {
            return Err(Error::invalid(
                "a member of a group needs topics: call topics or pattern",
            ));
        }
        for topic in &self.topics {
            let name = topic.parse::<TopicName>();
            name.map_err(|error| Error::invalid(format!("topic {topic:?}: {error}")))?;
        }
        if self.session_timeout < SESSION_TIMEOUT_MIN {
            return Err(Error::invalid(format!(
                "session_timeout must be at least {SESSION_TIMEOUT_MIN:?}"
            )));
        }
        if self.max_poll_interval.is_zero() || self.auto_commit.is_some_and(|every| every.is_zero())
        {
            return Err(Error::invalid(
                "max_poll_interval and the interval of auto_commit must be longer than zero",
            ));
        }
        self.options.check(&self.cluster)
    }
}

/// Below this no heartbeat may be late at all.
const SESSION_TIMEOUT_MIN: Duration = Duration::from_millis(100);

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
