//! A client's connection to a broker: made again after a pause when it breaks, given up when it is silent.

use corelane_protocol::{Request, RequestFlags};

use super::Context;
use crate::counters::Sometimes;
use crate::network::ConnNumber;

/// How long a request may stay without an answer.
const PATIENCE_US: u64 = 12_000_000;

/// The longest pause before another attempt.
const PAUSE_US_MAX: u64 = 400_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing before this time.
    Pausing(u64),
    Connecting(ConnNumber),
    Open(ConnNumber),
}

/// See the module.
pub(crate) struct Link {
    state: State,
    correlation: u32,
    /// The oldest moment since which an answer is awaited.
    waiting_since_us: Option<u64>,
    /// The core to go to next time.
    pub(crate) core: Option<u16>,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Pausing(0),
            correlation: 0,
            waiting_since_us: None,
            core: None,
        }
    }

    /// Whether this is the link's connection.
    pub(crate) fn is(&self, conn: ConnNumber) -> bool {
        matches!(self.state, State::Connecting(own) | State::Open(own) if own == conn)
    }

    pub(crate) fn open(&self) -> Option<ConnNumber> {
        match self.state {
            State::Open(conn) => Some(conn),
            _ => None,
        }
    }

    pub(crate) fn connected(&mut self, conn: ConnNumber) {
        if self.is(conn) {
            self.state = State::Open(conn);
            self.waiting_since_us = None;
        }
    }

    /// It broke, or was refused.
    pub(crate) fn closed(&mut self, context: &mut Context<'_>) {
        let pause = context.random.below(PAUSE_US_MAX);
        self.state = State::Pausing(context.now_us + pause);
        self.waiting_since_us = None;
    }

    /// Ends the connection from this side.
    pub(crate) fn close(&mut self, context: &mut Context<'_>) {
        if let State::Connecting(conn) | State::Open(conn) = self.state {
            context.close(conn);
            self.closed(context);
        }
    }

    /// Connects if it is time, and gives up a silent connection. Returns whether it did the latter: every
    /// request in flight is unknown then.
    pub(crate) fn tend(&mut self, context: &mut Context<'_>) -> bool {
        match self.state {
            State::Pausing(until) if until <= context.now_us => {
                let cores = u64::from(context.cores);
                let any = context
                    .random
                    .coin()
                    .then(|| context.random.below(cores) as u16);
                let core = self.core.take().or(any);
                self.state = State::Connecting(context.connect(core));
                self.waiting_since_us = Some(context.now_us);
            }
            State::Connecting(_) | State::Open(_) => {
                let since = self.waiting_since_us.unwrap_or(context.now_us);
                if context.now_us - since > PATIENCE_US {
                    context.history.reached(Sometimes::ClientTimedOut);
                    if since >= context.calm_us {
                        let seconds = PATIENCE_US / 1_000_000;
                        let what = format!(
                            "{:?} is not answered for {seconds} s though nothing is broken",
                            self.state
                        );
                        context.history.problem(what);
                    }
                    self.close(context);
                    return true;
                }
            }
            State::Pausing(_) => {}
        }
        false
    }

    /// When to tend it next.
    pub(crate) fn next_us(&self, now_us: u64) -> u64 {
        match self.state {
            State::Pausing(until) => until,
            _ => self.waiting_since_us.unwrap_or(now_us) + PATIENCE_US + 1,
        }
    }

    /// Sends a request on the open connection; its correlation id.
    pub(crate) fn ask(
        &mut self,
        context: &mut Context<'_>,
        flags: RequestFlags,
        request: &Request<'_>,
    ) -> u32 {
        let conn = self.open().expect("asked of an open link");
        self.correlation += 1;
        let bytes = super::frames::frame(self.correlation, flags, request);
        context.send(conn, bytes);
        self.waiting_since_us.get_or_insert(context.now_us);
        self.correlation
    }

    /// An answer came; whether others are awaited.
    pub(crate) fn answered(&mut self, context: &Context<'_>, awaits_more: bool) {
        self.waiting_since_us = awaits_more.then_some(context.now_us);
    }
}
