//! How long the in-memory disk takes for an operation, in virtual time.

use super::operation::{Operation, OperationKind};
use crate::testing::{Clock, Random};

/// The times of a device. Operations in flight together do not slow each other down.
#[derive(Clone, Debug)]
pub struct Latency {
    /// What the times are told by.
    pub clock: Clock,
    /// Every operation takes at least so long, and up to twice as long by chance. Microseconds.
    pub base_us: u64,
    /// What makes data or names durable takes so much longer, and up to twice that by chance.
    pub flush_us: u64,
    /// Each MiB read or written takes so much longer.
    pub mib_us: u64,
    /// One operation in so many is slow; 0 for none.
    pub slow_one_in: u64,
    /// A slow operation takes up to so much longer.
    pub slow_us_max: u64,
}

impl Latency {
    pub(super) fn time_of(
        &self,
        operation: &Operation,
        random: &mut Random,
    ) -> impl Future<Output = ()> + use<> {
        let chance = |us: u64, random: &mut Random| us + random.below(us + 1);
        let mut us = chance(self.base_us, random);
        if matches!(
            operation.kind,
            OperationKind::Write | OperationKind::Flush | OperationKind::SyncDir
        ) {
            us += chance(self.flush_us, random);
        }
        us += (operation.len * self.mib_us) >> 20;
        if self.slow_one_in > 0 && random.chance(1, self.slow_one_in) {
            us += random.below(self.slow_us_max + 1);
        }
        self.clock.sleep_us(us)
    }
}
