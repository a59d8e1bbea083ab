//! Sequence numbers of idempotent producers: one for each record of a producer in a partition.

/// How many sequence numbers there are: after the last one comes 0 again, as in Kafka.
pub const SEQUENCES: u32 = 1 << 31;

/// The sequence number `records` later.
#[must_use]
pub const fn advance_sequence(sequence: u32, records: u32) -> u32 {
    ((sequence as u64 + records as u64) % SEQUENCES as u64) as u32
}

/// How many records later `later` is than `earlier`, of the two ways round the shorter one; negative if it is earlier.
#[must_use]
pub const fn sequence_distance(earlier: u32, later: u32) -> i64 {
    let ahead = (later as i64 - earlier as i64).rem_euclid(SEQUENCES as i64);
    if ahead < SEQUENCES as i64 / 2 {
        ahead
    } else {
        ahead - SEQUENCES as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_go_round() {
        assert_eq!(advance_sequence(0, 5), 5);
        assert_eq!(advance_sequence(SEQUENCES - 1, 1), 0);
        assert_eq!(
            advance_sequence(SEQUENCES - 2, SEQUENCES - 1),
            SEQUENCES - 3
        );
        assert_eq!(sequence_distance(3, 5), 2);
        assert_eq!(sequence_distance(5, 3), -2);
        assert_eq!(sequence_distance(SEQUENCES - 1, 4), 5);
        assert_eq!(sequence_distance(4, SEQUENCES - 1), -5);
    }
}
