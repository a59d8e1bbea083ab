//! "Sometimes" counters: how often each fault and each rare path was really reached.
//!
//! A simulator that never reaches a path shows nothing about it, so those that must be reached are named here
//! and a long enough run fails if one of them is zero.

use std::fmt;

macro_rules! sometimes {
    ($($name:ident, $must:literal, $what:literal;)+) => {
        /// Something that should happen now and then.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "each is described by `what`")]
        pub enum Sometimes {
            $($name,)+
        }

        impl Sometimes {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// What happens, in a few words.
            pub const fn what(self) -> &'static str {
                match self {
                    $(Self::$name => $what,)+
                }
            }

            /// Whether a run of many seeds must reach it.
            pub const fn must_be_reached(self) -> bool {
                match self {
                    $(Self::$name => $must,)+
                }
            }
        }
    };
}

sometimes! {
    Killed, true, "fault: the process was killed";
    PowerLost, true, "fault: the power was lost";
    PowerLostAtWrite, true, "fault: the power was lost at one of the first writes after a recovery";
    PowerLostInBetween, true, "fault: the power was lost while several groups of a journal were in flight";
    KilledAtStart, true, "fault: killed or without power before it served";
    StoppedInOrder, true, "fault: the broker was stopped in order";
    CoresChanged, true, "fault: restarted with another number of cores";
    WriteFailed, true, "fault: a write failed";
    FlushFailed, true, "fault: a flush or a directory's sync failed";
    ReadFailed, true, "fault: a read failed";
    OtherFailed, true, "fault: another operation of the disk failed";
    DiskFilled, true, "fault: the disk had no room";
    DiskSlow, true, "fault: the disk was slow";
    BitFlipped, true, "fault: a stored bit was turned over";
    ReadCorrupted, true, "fault: a read returned a wrong bit";
    WriteMisdirected, true, "fault: a write went to another place";
    WriteLost, true, "fault: the device forgot a write that it had confirmed";
    ConnectionDropped, true, "fault: a connection broke";
    ConnectionStalled, true, "fault: a connection stood still";
    FrameHalfSent, true, "fault: a client left in the middle of a frame";
    ReaderStalled, true, "fault: a client stopped reading";
    ClockJumped, true, "fault: the wall clock jumped";
    CoreSlow, true, "fault: a core stood still";
    StartFailed, true, "the broker could not start, and said why";
    RecoveredUnclean, true, "recovery after an unclean end";
    RecoveredClean, true, "recovery after a clean end";
    GroupsReplayed, true, "recovery replayed groups of the journal";
    ExtentsReplayed, true, "recovery read from segments what only groups of the journal told of";
    TornGroupDiscarded, true, "recovery discarded torn groups";
    PartitionFailedInRecovery, false, "recovery put a partition out of service";
    StoreUnfit, true, "a store was out of service";
    DirectoryMadeAgain, true, "an unfinished data directory was made again";
    JournalRecycled, true, "a journal file was used again";
    JournalGrew, true, "a journal file was made";
    SegmentMade, true, "a segment file was made";
    SegmentRolled, true, "a partition began another segment";
    SegmentRead, true, "a segment was read for a consumer";
    CatalogueRewritten, true, "a catalogue or metadata log was written anew";
    ProduceForwarded, true, "a produce was forwarded to its core";
    FetchForwarded, true, "a fetch was forwarded to its core";
    SourceClosed, true, "a connection closed while it had requests at another core";
    ReceivePaused, true, "a connection was not read from for a while";
    PartlySent, true, "a reply waited for the client to read";
    RefusedOverloaded, true, "a produce was refused as overloaded";
    RefusedForOrder, true, "a produce was refused for its order";
    RefusedDiskFull, true, "a produce was refused for a full disk";
    RestartedForStorage, true, "failed storage made somebody restart the broker";
    RefusedShuttingDown, true, "a request was refused by a stopping broker";
    RefusedStorageFailed, true, "a request met failed storage";
    CorruptionReported, true, "a fetch was refused because data is damaged";
    Resumed, true, "a produce resumed after a refusal";
    Resent, true, "a producer sent again what it had no answer for";
    ResentKnown, true, "an idempotent producer sent again what was in the log, and was told where";
    SequenceLost, true, "an idempotent producer was told that batches before its next one are missing";
    EpochBegun, true, "an idempotent producer began a new epoch after records of a weak topic were lost";
    Duplicated, true, "a retry left a second copy in the log";
    RequestTimedOut, true, "the broker answered that the time was over";
    ClientTimedOut, true, "a client gave up waiting";
    GivenUp, true, "a producer gave up a refused record";
    LongPollWoken, true, "a long poll was answered by new records";
    TopicCreated, true, "a topic was created";
    TopicDeleted, true, "a topic was deleted";
    TopicMadeAgain, true, "a deleted topic was made again";
    TopicUnknown, true, "a request met a deleted topic";
    EpochFenced, true, "a consumer learned that a leader epoch has ended";
    ReaderTold, true, "a consumer learned that what it had read is gone";
    TopicAltered, true, "the settings of a topic were changed";
    PartitionsAdded, true, "a topic was given more partitions";
    TopicDescribed, true, "a topic was described";
    RecordsDeleted, true, "records were deleted because somebody asked for it";
    RecordsExpired, true, "records were deleted because they expired";
    GuardHeld, true, "retention waited for a named reader";
    GuardLetGo, true, "retention waited for a reader as long as it may, and deleted";
    ReaderWentBack, true, "a named reader's position went back";
    ReaderUnnamed, true, "a reader that a topic does not name reported a position";
    UnreadCounted, true, "records were counted that expired before a named reader had them";
    SegmentRemoved, true, "a segment file was removed";
    VerifierWaited, false, "the last reads waited for a partition that a full disk had refused";
    ReaderLeftBehind, true, "a reader's next records were deleted";
    OffsetFoundByTime, true, "an offset was found by its time";
    NothingThatLate, true, "no record was as late as somebody asked for";
    RefusedByReserve, true, "a produce was refused for the reserve of the disk";
    ScrubFoundDamage, true, "scrubbing found damage";
    WeakRecordsSettled, true, "records acknowledged from memory were flushed before the power was lost";
    WeakRecordsLost, true, "a weak topic lost acknowledged records";
    MemberJoined, true, "a member joined a group";
    MemberLeft, true, "a member left its group in order";
    MemberLost, true, "a member learned that its group has taken it for lost";
    PartitionMoved, true, "a partition went from a member to another one";
    MovingAtEnd, true, "a broker ended while a member had to let go of a partition";
    ZombieRefused, true, "a commit of what a crashed member has left was refused";
    InstanceInUse, true, "a member met another one with its instance name";
    InstanceReturned, true, "a member came back under its instance name and found its partitions";
    GroupLoading, true, "a request met a group whose log was not read yet";
    GroupNotLogged, true, "a change of a group was refused for a full disk";
    GroupLogShortened, true, "a log of groups was read that began with a snapshot";
    GroupsSettled, true, "every partition had one member in the end";
    CompactionEnded, true, "a pass of compaction ended";
    CompactionInLittleMemory, true, "a pass of compaction ended where memory has room for fewer keys than there are";
    RecordsLeftOut, true, "compaction left records out";
    SegmentReplaced, true, "a segment was replaced by one that compaction wrote";
    CompactionInterrupted, true, "a broker ended while a segment was written anew or the old ones were removed";
    ReplacedMissed, true, "a record was missing that a later one of its key replaces";
    TombstoneGone, true, "a record without a value was missing whose time was over";
    BatchWithoutRecords, true, "a batch without records was served";
    NonsenseRefused, true, "an invalid request was refused";
    GarbageClosed, true, "a connection that sent no frames was closed";
}

/// How often each has happened, in the order of `Sometimes`.
#[derive(Clone, Debug)]
pub struct Counters([u64; Sometimes::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self([0; Sometimes::ALL.len()])
    }
}

impl Counters {
    pub(crate) fn add(&mut self, what: Sometimes, times: u64) {
        self.0[what as usize] += times;
    }

    pub(crate) fn reached(&mut self, what: Sometimes) {
        self.add(what, 1);
    }

    /// How often it has happened.
    pub fn get(&self, what: Sometimes) -> u64 {
        self.0[what as usize]
    }

    /// Adds those of another run.
    pub fn merge(&mut self, other: &Self) {
        for (times, more) in self.0.iter_mut().zip(other.0) {
            *times += more;
        }
    }

    /// What must be reached and was not.
    pub fn missing(&self) -> Vec<Sometimes> {
        let all = Sometimes::ALL.iter().copied();
        all.filter(|what| what.must_be_reached() && self.get(*what) == 0)
            .collect()
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for what in Sometimes::ALL {
            let mark = match self.get(*what) {
                0 if what.must_be_reached() => "NEVER",
                _ => "",
            };
            writeln!(f, "{:>12}  {} {mark}", self.get(*what), what.what())?;
        }
        Ok(())
    }
}
