//! An open loop's times: when each record is due, whatever has become of those before it.
//!
//! Pure: it is told the time, in nanoseconds since any start, and never looks at a clock.

const NS_PER_S: u128 = 1_000_000_000;

/// When the records of one of several producers are due. Record `n` of all of them together is due `n / rate` seconds
/// after the start; producers take turns, so that they do not all send at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// Records a second, over all producers.
    pub(crate) rate: u64,
    /// How many producers there are.
    pub(crate) producers: u64,
    /// Which one this is, from 0.
    pub(crate) index: u64,
    /// When the first record of all is due.
    pub(crate) start_ns: u64,
    /// From when on none is.
    pub(crate) end_ns: u64,
}

impl Schedule {
    /// When this producer's record with this number, from 0, is due.
    pub(crate) fn due_ns(&self, sequence: u64) -> u64 {
        let among_all = u128::from(sequence) * u128::from(self.producers) + u128::from(self.index);
        let after_start = among_all * NS_PER_S / u128::from(self.rate);
        self.start_ns + after_start as u64
    }

    /// How many of this producer's records are due at `now_ns` or were before.
    pub(crate) fn due_count(&self, now_ns: u64) -> u64 {
        let last_ns = now_ns.min(self.end_ns.saturating_sub(1));
        let Some(after_start) = last_ns.checked_sub(self.start_ns) else {
            return 0;
        };
        // Record n is due by then if the whole nanoseconds of n / rate are no more than what has passed.
        let of_all = (u128::from(after_start) + 1) * u128::from(self.rate);
        let of_all = of_all.div_ceil(NS_PER_S) as u64;
        of_all.saturating_sub(self.index).div_ceil(self.producers)
    }
}

/// What a producer has to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send records from number `first` on.
    Send { first: u64, count: u64 },
    /// Do nothing until then.
    Wait { until_ns: u64 },
    /// Everything was sent.
    Done,
}

/// Goes through a schedule. A producer that was held up sends everything that has become due since, as fast as it can.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer {
    schedule: Schedule,
    next: u64,
}

impl Pacer {
    pub(crate) fn new(schedule: Schedule) -> Self {
        Self { schedule, next: 0 }
    }

    /// The next step; of the records that are due, at most `count_max` at once.
    pub(crate) fn step(&mut self, now_ns: u64, count_max: u64) -> Step {
        let due = self.schedule.due_count(now_ns) - self.next;
        if due > 0 {
            let (first, count) = (self.next, due.min(count_max));
            self.next += count;
            return Step::Send { first, count };
        }
        let until_ns = self.schedule.due_ns(self.next);
        if until_ns >= self.schedule.end_ns {
            return Step::Done;
        }
        Step::Wait { until_ns }
    }

    /// How many records are due that no step was given for.
    pub(crate) fn behind(&self, now_ns: u64) -> u64 {
        self.schedule.due_count(now_ns).saturating_sub(self.next)
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;

    const MS: u64 = 1_000_000;

    fn schedule(rate: u64, producers: u64, index: u64) -> Schedule {
        Schedule {
            rate,
            producers,
            index,
            start_ns: 500,
            end_ns: 500 + 1000 * MS,
        }
    }

    #[test]
    fn due_counts_agree_with_due_times() {
        for (rate, producers) in [(1, 1), (3, 2), (7, 64), (5_000, 3), (999_983, 7)] {
            for index in 0..producers.min(3) {
                let schedule = schedule(rate, producers, index);
                for sequence in 0..40 {
                    let due = schedule.due_ns(sequence);
                    let is_within = due < schedule.end_ns;
                    let before = schedule.due_count(due - 1);
                    let at = schedule.due_count(due);
                    if is_within {
                        assert_eq!(at, sequence + 1, "{schedule:?} {sequence}");
                        assert_eq!(before, sequence, "{schedule:?} {sequence}");
                    }
                }
            }
        }
    }

    #[test]
    fn producers_share_the_rate_and_nothing_is_due_after_the_end() {
        for (rate, producers) in [(5_000, 3), (10, 64), (1, 2)] {
            let counts =
                (0..producers).map(|index| schedule(rate, producers, index).due_count(u64::MAX));
            assert_eq!(counts.sum::<u64>(), rate);
        }
        assert_eq!(schedule(5, 1, 0).due_count(499), 0);
    }

    /// A sender in virtual time: each call takes 10 µs, one takes much longer. Gives the latencies from the intended
    /// times in µs, and when the last record was sent.
    fn send_with_stall(stall_ns: u64) -> (Histogram<u64>, u64, u64) {
        let mut pacer = Pacer::new(schedule(1_000, 1, 0));
        let schedule = pacer.schedule;
        let mut latencies = Histogram::new(3).unwrap();
        let (mut now, mut sent) = (0, 0);
        loop {
            match pacer.step(now, 64) {
                Step::Wait { until_ns } => now = until_ns,
                Step::Done => return (latencies, sent, now),
                Step::Send { first, count } => {
                    now += 10_000;
                    if (first..first + count).contains(&500) {
                        now += stall_ns;
                    }
                    for sequence in first..first + count {
                        let latency_ns = now - schedule.due_ns(sequence);
                        latencies.record(latency_ns / 1000).unwrap();
                    }
                    sent += count;
                }
            }
        }
    }

    #[test]
    fn a_stall_of_the_sender_shows_in_the_latency_of_all_that_it_delayed_and_not_in_the_rate() {
        let (smooth, sent, end_ns) = send_with_stall(0);
        let (stalled, sent_stalled, end_stalled_ns) = send_with_stall(200 * MS);
        assert_eq!((sent, sent_stalled), (1_000, 1_000));
        assert!(end_stalled_ns - end_ns < MS, "{end_ns} {end_stalled_ns}");
        assert_eq!(smooth.max(), 10);
        // A fifth of the records was due during the stall, and waited for what was left of it.
        let delayed = stalled.len() - stalled.count_between(0, 999);
        assert!((195..=205).contains(&delayed), "{delayed}");
        assert!(
            stalled.value_at_percentile(90.0) > 95_000,
            "half of the stall"
        );
        assert!(stalled.max() >= 200_000);
    }

    #[test]
    fn what_was_never_sent_is_known() {
        let mut pacer = Pacer::new(schedule(1_000, 1, 0));
        assert_eq!(pacer.step(500, 64), Step::Send { first: 0, count: 1 });
        assert_eq!(pacer.behind(500 + 10 * MS), 10);
        assert_eq!(
            pacer.step(500 + 10 * MS, 4),
            Step::Send { first: 1, count: 4 }
        );
        assert_eq!(pacer.behind(500 + 10 * MS), 6);
        assert_eq!(pacer.behind(u64::MAX), 995);
    }
}
