//! How long to wait before trying again.
//!
//! Owns: exponential growth, its cap, and the jitter that keeps many clients from returning at once.
//! Never: reads a clock or draws from a global random source; the seed is given.

use std::time::Duration;

/// A small seeded generator (SplitMix64, from Steele et al., "Fast splittable pseudorandom number
/// generators"), good enough to spread retries and first partitions.
#[derive(Debug, Clone)]
pub(crate) struct Jitter {
    state: u64,
}

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The bounds between which retries wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            min: Duration::from_millis(20),
            max: Duration::from_secs(1),
        }
    }
}

impl Backoff {
    /// The wait before attempt `failures + 1`: doubled for each failure after the first, capped,
    /// and then shortened by up to a half at random.
    pub(crate) fn after(&self, failures: u32, jitter: &mut Jitter) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let full = self.min.saturating_mul(1 << doublings).min(self.max);
        let half_ns = u64::try_from(full.as_nanos() / 2).unwrap_or(u64::MAX);
        full - Duration::from_nanos(jitter.next() % half_ns.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_cap_and_keep_at_least_half() {
        let backoff = Backoff {
            min: Duration::from_millis(10),
            max: Duration::from_millis(100),
        };
        let mut jitter = Jitter::new(1);
        for failures in 0_u32..40 {
            let full = Duration::from_millis(10)
                .saturating_mul(1 << (failures.clamp(1, 10) - 1))
                .min(Duration::from_millis(100));
            let wait = backoff.after(failures, &mut jitter);
            assert!(wait <= full, "{failures}: {wait:?} > {full:?}");
            assert!(wait >= full / 2, "{failures}: {wait:?} < {:?}", full / 2);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_waits() {
        let (mut one, mut two) = (Jitter::new(9), Jitter::new(9));
        let backoff = Backoff::default();
        for failures in 1..10 {
            assert_eq!(
                backoff.after(failures, &mut one),
                backoff.after(failures, &mut two)
            );
        }
    }
}
