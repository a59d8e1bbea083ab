//! A place in a partition's log, and the leader epoch of what was read before it.
//!
//! Owns the rule by which a reader and a log that was cut back find where they agree. Pure.

/// Where reading stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The offset of the next record.
    pub(crate) offset: u64,
    /// The leader epoch of the last record before it, if it is known.
    pub(crate) epoch: Option<u32>,
    /// Where reading under that epoch began.
    epoch_from: u64,
}

impl Place {
    /// A place before which nothing was read, or by somebody who knows the last record's epoch.
    pub(crate) fn new(offset: u64, epoch: Option<u32>) -> Self {
        Self {
            offset,
            epoch,
            epoch_from: offset,
        }
    }

    /// Goes on behind records of this epoch.
    pub(super) fn advance(&mut self, end_offset: u64, epoch: u32) {
        if self.epoch != Some(epoch) {
            self.epoch = Some(epoch);
            self.epoch_from = self.offset;
        }
        self.offset = end_offset;
    }

    /// Up to where the log has what was read, given the newest epoch of the log that is not beyond the one that was
    /// read last, and where that epoch ended.
    pub(super) fn agreement(&self, epoch: u32, end: u64) -> u64 {
        let end = if self.epoch == Some(epoch) {
            end
        } else {
            // Nothing that was read under an epoch which the log does not have is in it.
            end.min(self.epoch_from)
        };
        end.min(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reader_and_log_agree_up_to_the_end_of_an_epoch_that_both_have() {
        let mut place = Place::new(5, None);
        place.advance(10, 1);
        place.advance(15, 1);
        place.advance(20, 3);
        assert_eq!(place.agreement(3, 18), 18);
        assert_eq!(place.agreement(3, 30), 20);
        assert_eq!(place.agreement(2, 40), 15, "epoch 3 is not in the log");
        assert_eq!(place.agreement(1, 12), 12);
        assert_eq!(Place::new(7, Some(2)).agreement(2, 4), 4);
    }
}
