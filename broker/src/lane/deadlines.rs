//! What happens because time passes.

use corelane_storage::disk::Disk;

use super::slab::Key;
use super::{Lane, Now};

/// How often waiting produces are checked for their deadlines, in µs: few ever reach them, so they
/// are looked through now and then instead of being kept in order.
const PRODUCE_CHECK_US: u64 = 100_000;

/// How often stores of an idle core are told the time, in µs, while there are topics: records grow old and
/// segments are closed without anybody appending.
const IDLE_PERIOD_US: u64 = 1_000_000;

/// When stores are told the time: often for a while after each append, and seldom on an idle core.
#[derive(Debug)]
pub(super) struct StoreClock {
    period_us: u64,
    /// How long after the last append.
    while_us: u64,
    /// The next time, if it is not for the first time after a pause.
    next_us: Option<u64>,
    /// Whether anything grows old here.
    keeps_time: bool,
    /// When they were told last.
    told_us: u64,
}

impl Default for StoreClock {
    fn default() -> Self {
        Self {
            period_us: 50_000,
            while_us: 2_000_000,
            next_us: None,
            keeps_time: false,
            told_us: 0,
        }
    }
}

impl StoreClock {
    /// Takes over the `flush.ms` of all topics, as far as they have one.
    pub(super) fn follow(&mut self, flush_ms: impl Iterator<Item = Option<u64>>) {
        *self = Self {
            next_us: self.next_us,
            told_us: self.told_us,
            ..Self::default()
        };
        for ms in flush_ms {
            self.keeps_time = true;
            let Some(ms) = ms else { continue };
            let us = ms.saturating_mul(1000);
            self.period_us = self.period_us.min((us / 4).max(1000));
            self.while_us = self.while_us.max(us.saturating_mul(2));
        }
    }

    fn next(&self, last_append_us: Option<u64>) -> Option<u64> {
        match last_append_us {
            Some(last) => Some(self.next_us.unwrap_or(last + self.period_us)),
            None => self.keeps_time.then(|| self.told_us + IDLE_PERIOD_US),
        }
    }

    /// The stores are told that it is `time`; forgets the last append once it is long ago.
    fn told(&mut self, time: u64, last_append_us: &mut Option<u64>) {
        self.told_us = time;
        self.next_us = Some(time + self.period_us);
        if last_append_us.is_some_and(|last| time > last.saturating_add(self.while_us)) {
            *last_append_us = None;
            self.next_us = None;
        }
    }
}

impl<D: Disk> Lane<D> {
    /// When to call [`Lane::tick`], in monotonic microseconds.
    pub fn next_deadline(&self) -> Option<u64> {
        let fetch = self.fetch_deadlines.first().map(|(deadline, _)| *deadline);
        let stores = self.store_clock.next(self.last_append_us);
        let shutdown = self.shutdown_deadline();
        let pacing = self.pacing.check_us();
        let frames = self.frame_checks.first().map(|(check, _)| *check);
        let produces = self.produce_check_us;
        let replies = self.reply_check_us;
        let retry = self.pending_records.retry_us();
        let groups = self.groups_deadline();
        [
            fetch, frames, produces, replies, stores, pacing, retry, groups, shutdown,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Time has passed: to be called at or after [`Lane::next_deadline`].
    pub fn tick(&mut self, now: Now) {
        self.meters.begin_event(now);
        let time = now.monotonic_us;
        while self
            .fetch_deadlines
            .first()
            .is_some_and(|(deadline, _)| *deadline <= time)
        {
            let (_, key) = self.fetch_deadlines.pop_first().expect("just looked at");
            self.unpark_fetch(key);
        }
        self.check_frames(now);
        if self.produce_check_us.is_some_and(|check| check <= time) {
            self.check_produces(now);
        }
        if self.reply_check_us.is_some_and(|check| check <= time) {
            self.check_replies(now);
        }
        if self
            .store_clock
            .next(self.last_append_us)
            .is_some_and(|next| next <= time)
        {
            self.store_clock.told(time, &mut self.last_append_us);
            for store in &self.stores {
                store.tick(now.wall);
            }
        }
        if self.pacing.check_us().is_some_and(|check| check <= time) {
            self.pacing.look_again = true;
        }
        let retry = self.pending_records.retry_us();
        if retry.is_some_and(|retry| retry <= time) {
            self.retry_tasks();
        }
        if self.groups_deadline().is_some_and(|due| due <= time) {
            self.tick_groups(now);
        }
        self.check_shutdown_deadline(now);
        self.finish_event(now);
    }

    /// Has produces checked later, if there are any.
    pub(super) fn plan_produce_check(&mut self, now: Now) {
        if self.produce_check_us.is_none() && !self.produces.is_empty() {
            self.produce_check_us = Some(now.monotonic_us + PRODUCE_CHECK_US);
        }
    }

    fn check_produces(&mut self, now: Now) {
        let late = self
            .produces
            .iter()
            .filter(|(_, wait)| wait.deadline_us <= now.monotonic_us);
        let late: Vec<Key> = late.map(|(key, _)| key).collect();
        if !late.is_empty() {
            for key in late {
                self.time_out_produce(key);
            }
            self.drop_paced(|_| false);
        }
        self.produce_check_us = None;
        self.plan_produce_check(now);
    }
}
