//! Simulated clients: they speak the protocol, keep its rules (or break them, where that is their job), and
//! write down what they see.
//!
//! A client is sans-IO: the world tells it what happens, and does what it asks for afterwards.

mod admin;
mod asked;
mod clerk;
mod consumer;
mod frames;
mod link;
mod member;
mod nonsense;
mod producer;
mod reporter;
mod verifier;

use std::fmt::Arguments;

use corelane_checker::ReaderNumber;
use corelane_protocol::{Offset, TopicPartition};
use corelane_storage::testing::Random;

pub(crate) use admin::{Admin, NewTopicParts};
pub(crate) use asked::LogAsked;
pub(crate) use clerk::Clerk;
pub(crate) use consumer::Consumer;
pub(crate) use frames::{NewRecord, Reply};
pub(crate) use member::{Member, MemberParts};
pub(crate) use nonsense::Nonsense;
pub(crate) use producer::{Producer, ProducerParts};
pub(crate) use reporter::Reporter;
pub(crate) use verifier::Verifier;

use self::frames::Served;
use crate::counters::Sometimes;
use crate::history::History;
use crate::network::ConnNumber;
use crate::profile::Damage;
use crate::trace::Trace;

/// What a client is told.
pub(crate) enum ClientEvent {
    /// The time that it asked for has come.
    Wake,
    Connected(ConnNumber),
    /// It was not accepted, or is no more.
    Closed(ConnNumber),
    Reply(ConnNumber, Reply),
}

/// What a client wants done.
pub(crate) enum Action {
    Connect {
        conn: ConnNumber,
        core: Option<u16>,
    },
    Send {
        conn: ConnNumber,
        bytes: Vec<u8>,
    },
    Close {
        conn: ConnNumber,
    },
    /// Read what arrives, or leave it.
    Read {
        conn: ConnNumber,
        on: bool,
    },
    WakeAt(u64),
}

/// What a client may use while it is called.
pub(crate) struct Context<'a> {
    pub(crate) now_us: u64,
    pub(crate) random: &'a mut Random,
    pub(crate) history: &'a mut History,
    pub(crate) trace: &'a mut Trace,
    pub(crate) actions: &'a mut Vec<Action>,
    pub(crate) conns: &'a mut ConnNumber,
    /// No new work is begun any more.
    pub(crate) is_draining: bool,
    /// From here on nothing that had been broken excuses a silence.
    pub(crate) calm_us: u64,
    /// The cores that the broker had when it was last looked at.
    pub(crate) cores: u16,
}

impl Context<'_> {
    /// An answer with records has come.
    fn served(&mut self, reader: ReaderNumber, partition: TopicPartition, served: &Served) {
        let history = &mut *self.history;
        let counters = &mut history.counters;
        counters.add(Sometimes::BatchWithoutRecords, served.hollow);
        if served.ends_in_gap {
            history.read_through(reader, partition, Offset::new(served.position));
        }
    }

    /// Writes something into the trace.
    pub(crate) fn note(&mut self, what: Arguments<'_>) {
        self.trace.event(self.now_us, what);
    }

    pub(crate) fn connect(&mut self, core: Option<u16>) -> ConnNumber {
        *self.conns += 1;
        let conn = *self.conns;
        self.actions.push(Action::Connect { conn, core });
        conn
    }

    pub(crate) fn send(&mut self, conn: ConnNumber, bytes: Vec<u8>) {
        self.actions.push(Action::Send { conn, bytes });
    }

    pub(crate) fn close(&mut self, conn: ConnNumber) {
        self.actions.push(Action::Close { conn });
    }

    pub(crate) fn wake_at(&mut self, us: u64) {
        self.actions.push(Action::WakeAt(us.max(self.now_us + 1)));
    }

    /// A time of about so much, never more than twice.
    pub(crate) fn about(&mut self, us: u64) -> u64 {
        self.random.below(2 * us + 1)
    }

    /// Whether a partition may be damaged in this world.
    pub(crate) fn may_be_damaged(&self) -> bool {
        self.history.damage != Damage::None
    }
}

/// One client of the world.
pub(crate) trait Client {
    fn name(&self) -> String;

    fn handle(&mut self, context: &mut Context<'_>, event: ClientEvent);

    /// Whether nothing that it has begun is left to be done.
    fn is_done(&self) -> bool;

    /// What it still waits for, for people.
    fn waits_for(&self) -> String;

    /// How far it has read each partition.
    fn positions(&self) -> Vec<(TopicPartition, u64)> {
        Vec::new()
    }
}
