//! Planted bugs: deliberate faults at chosen places, by which tests are measured.
//!
//! With the feature `planted-bugs` each place asks whether its bug is planted on this thread; without it, as in
//! everything that is shipped, `planted!` is the constant `false`.

#[cfg(feature = "planted-bugs")]
use std::cell::Cell;

/// Whether a bug is planted on this thread. A constant without the feature `planted-bugs`.
#[cfg(feature = "planted-bugs")]
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::is_planted($crate::planted::Bug::$bug)
    };
}

/// Whether a bug is planted on this thread. A constant without the feature `planted-bugs`.
#[cfg(not(feature = "planted-bugs"))]
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

#[cfg(feature = "planted-bugs")]
macro_rules! bugs {
    ($($name:ident, $what:literal;)+) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "each is described by `what`")]
        pub enum Bug {
            $($name,)+
        }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// What is wrong, in a few words.
            pub const fn what(self) -> &'static str {
                match self {
                    $(Self::$name => $what,)+
                }
            }
        }
    };
}

#[cfg(feature = "planted-bugs")]
bugs! {
    FlushSkipped, "groups of the journal are written without a flush";
    AckBeforeFlush, "a produce is acknowledged as durable when it is appended";
    AckWithAnother, "a flush acknowledges every batch that waits for its partition";
    AckOutOfOrder, "a later group is reported durable before an earlier one";
    DurableUptoTooHigh, "a group says of itself that it is durable";
    HighWatermarkEarly, "records are readable before they are flushed";
    ReadsNotVerified, "batches read from a segment are not checked";
    SegmentFlushSkipped, "the journal is released before the segment is flushed";
    JournalReleasedEarly, "journal files are used again while partitions need them";
    StaleGroupAccepted, "recovery takes a group that neither follows the one before nor has its epoch";
    DiscardedTaken, "what recovery discarded is not buried, and taken for what follows";
    EpochNotRaised, "recovery discards groups and keeps its epoch";
    RecoveryNotFlushed, "recovery relies on what only caches hold";
    RecoveryStopsEarly, "recovery ignores all but the first groups";
    SuperblockFirst, "a superblock is written before the group that it counts";
    RenameNotSynced, "a log that was written anew is not made durable under its name";
    DirectorySyncSkipped, "names in the store's directory are not made durable";
    WriteErrorIgnored, "a group whose write failed is taken for durable";
    ForwardedReceiptsSwapped, "receipts of another core are given to the wrong batches";
    OrderNotKept, "batches behind a refused one are taken";
    MetadataBeforeDurable, "topics are shown before the metadata log is written";
    LeaderEpochKept, "a restart that was not in order goes on under the same leader epoch";
    ReceiveNotResumed, "a paused connection is not read from again";
    MailboxNotReleased, "an answered request still counts in its mailbox";
    LogStartNotRecorded, "records are deleted before the log start is durable";
    LogStartForgotten, "a restart forgets where logs begin";
    DeletedTooFar, "more is deleted than somebody asked for";
    DeletedServed, "deleted records are served";
    ExpiredTooMuch, "retention leaves less than it has to keep";
    ExpiredByRecordTime, "retention goes by the times of records instead of their appends";
    GuardIgnored, "retention does not wait for readers";
    GuardNeverEnds, "retention waits for readers without bound";
    ReaderForgotten, "a restart takes readers to be at the end";
    ReaderNotTakenBack, "a reader's position does not go back";
    UnreadNotCounted, "what expires before a reader had it is not counted";
    TimeFloorTooLate, "a look-up by time begins behind what it looks for";
    IndexTooFar, "a look-up of an offset begins behind it";
    FlushMsForgotten, "what waits for flush.ms is not flushed by itself";
    SealedTooShort, "a segment that is full is cut off before its end";
    ExtentNotFlushed, "a group is acknowledged before the blocks beside it in segments are flushed";
    ExtentNotVerified, "recovery takes what it finds in a segment for what a group says of it";
    LeftExtentsCut, "the first write to a segment after a restart cuts off what only groups tell of";
    GroupToldBeforeDurable, "a group's answer does not wait for its records";
    GroupRefusalIgnored, "a group's answers are told though its records were refused";
    GroupLoadSkipsLast, "the log of groups is read without its last record";
    SnapshotForgetsOffsets, "a snapshot of groups lacks committed offsets";
    SnapshotDeletesTooMuch, "a part of a snapshot of groups is deleted with what it replaces";
    ZombieCommitAccepted, "whoever commits an offset is believed";
    RevokedGivenAtOnce, "a partition is given to the next member before the holder has let go";
    SessionEndsEarly, "a member is taken for lost after half of its session timeout";
    SessionsNotBegunAnew, "a restart takes every member of a group for lost";
    GenerationNotLogged, "what members of a group are given after they joined is not logged";
    GenerationNotRaised, "a member is given partitions under its old generation";
    GrowthNotFollowed, "groups do not notice that their topics change";
    SequenceNotChecked, "a batch of an idempotent producer is appended again when it is sent again";
    DuplicateAckedEarly, "a batch that is known is acknowledged before it is durable";
    ProducersForgotten, "a restart forgets the producers that the catalogue knows";
    ProducersNotRecorded, "the catalogue is not told of producers when their batches leave the journal";
    ProducerIdsReused, "a restart gives producers numbers that others have";
    LatestLeftOut, "compaction keeps what was replaced and leaves the latest record of a key out";
    TombstoneDroppedEarly, "records without a value are left out by the first pass that sees them";
    PartTakenForWhole, "a pass that had no memory for all keys counts as if it had";
    CompactedNotFlushed, "the catalogue names a segment that compaction wrote before it is flushed";
    ReplacedBeforeRecorded, "segments that compaction wrote anew are removed before the catalogue is told";
    ScrubSkipsDamage, "scrubbing does not tell of damage";
}

#[cfg(feature = "planted-bugs")]
thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug on this thread, or takes the last one back.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this bug is planted on this thread.
#[cfg(feature = "planted-bugs")]
#[must_use]
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
