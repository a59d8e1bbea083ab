//! The raw sender: one connection, frames that were built before, and nothing else to do. It shows what a broker
//! can take, not what a client library costs.
//!
//! Owns the connection and the loop on a thread of its own, which it pins. Closed loop: a fixed number of bytes
//! is in flight, and a frame is sent when an answer makes room. Open loop: frames are due at fixed times whatever
//! has been answered, and latency counts from the time that a frame was due.

mod answers;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::Duration;

use corelane_protocol::response::Durability;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::clock::Clock;
use crate::cpu::{self, Snapshot, Threads, Used};
use crate::frames::Frames;
use crate::latency::{Latency, histogram};
use crate::outstanding::Outstanding;
use crate::wait::{be_punctual, wait};
use crate::{BenchError, latency};
pub use answers::Peer;
use answers::{Answer, Answers};

/// When frames are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As soon as no more than so many bytes are in flight.
    Closed {
        /// Bytes of frames without answer; one frame at least.
        window_bytes: usize,
    },
    /// At a steady rate.
    Open {
        /// Frames a second.
        rate: f64,
    },
}

/// What is sent where, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What listens there.
    pub peer: Peer,
    /// Where it listens.
    pub address: SocketAddr,
    /// When frames are sent.
    pub pace: Pace,
    /// Not measured, at the beginning.
    pub warm_up: Duration,
    /// Measured, after that.
    pub duration: Duration,
    /// The CPU to send from.
    pub cpu: usize,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Measured time.
    pub seconds: f64,
    /// Frames of the whole run, warm-up included.
    pub sent: u64,
    /// Frames answered as they should be: those answered in the measured time; in an open loop those that were due
    /// in it, whenever they were answered.
    pub acks: u64,
    /// The same per second.
    pub acks_s: f64,
    /// Records of those frames per second.
    pub records_s: f64,
    /// Value bytes of those records, 10^6 a second.
    pub mb_s: f64,
    /// From the time that a frame was due (closed loop: was put together) to its answer, microseconds.
    pub latency_us: Latency,
    /// The same, nanoseconds.
    #[serde(skip)]
    pub latency_ns: Histogram<u64>,
    /// The weakest durability that any answer of the whole run confirmed.
    pub durability: Option<&'static str>,
    /// Frames that were refused.
    pub errors: u64,
    /// The first refusal.
    pub first_error: Option<String>,
    /// Frames that had no answer some seconds after the end.
    pub unanswered: u64,
    /// Answers to nothing, or a second time.
    pub stray_answers: u64,
    /// CPU during the measured time.
    pub cpu: Used,
    /// The whole machine's less the sender's, nanoseconds per 1,000 value bytes.
    pub cpu_ns_per_kb: f64,
    /// The same per frame.
    pub cpu_ns_per_ack: f64,
    /// The watched threads' own, nanoseconds per 1,000 value bytes.
    pub threads_ns_per_kb: f64,
    /// The sender's own, nanoseconds per frame.
    pub sender_ns_per_ack: f64,
}

/// How long answers are waited for at the end.
const PATIENCE_NS: u64 = 30_000_000_000;
/// Bytes of answers that are read at once.
const READ_BYTES: usize = 1 << 20;
/// A wait that is shorter is not worth a system call, nanoseconds.
const SHORT_NS: u64 = 2_000;
const LONG_NS: u64 = 100_000_000;

/// Sends as planned. `watched` are the threads whose own CPU time is of interest.
///
/// # Errors
/// The connection breaks, or the peer does not speak as it should.
pub fn send(plan: &Plan, frames: &mut Frames, watched: &Threads) -> Result<Outcome, BenchError> {
    send_over(connect(plan)?, plan, frames, watched)
}

/// The connection to send over.
///
/// # Errors
/// Nobody listens there.
pub fn connect(plan: &Plan) -> Result<TcpStream, BenchError> {
    let socket = TcpStream::connect(plan.address).map_err(BenchError::io("cannot connect"))?;
    let prepared = socket
        .set_nodelay(true)
        .and_then(|()| socket.set_nonblocking(true));
    prepared.map_err(BenchError::io("the sender's socket"))?;
    Ok(socket)
}

/// As [`send`], over a connection from [`connect`].
///
/// # Errors
/// Those of [`send`].
pub fn send_over(
    socket: TcpStream,
    plan: &Plan,
    frames: &mut Frames,
    watched: &Threads,
) -> Result<Outcome, BenchError> {
    thread::scope(|scope| {
        let sender = scope.spawn(|| send_here(socket, plan, frames, watched));
        sender.join().expect("the sender does not panic")
    })
}

fn send_here(
    socket: TcpStream,
    plan: &Plan,
    frames: &mut Frames,
    watched: &Threads,
) -> Result<Outcome, BenchError> {
    cpu::pin(plan.cpu);
    be_punctual();
    let clock = Clock::start();
    let start_ns = plan.warm_up.as_nanos() as u64;
    let mut run = Run {
        plan,
        answers: Answers::new(plan.peer, frames.frame_bytes()),
        frames,
        socket,
        clock,
        start_ns,
        end_ns: start_ns + plan.duration.as_nanos() as u64,
        outstanding: Outstanding::default(),
        unsent: 0..0,
        received: vec![0; READ_BYTES],
        received_bytes: 0,
        tally: Tally::new(),
    };
    let used = run.run(watched).map_err(|failure| match failure {
        Failure::Io(error) => BenchError::io("the sender's connection")(error),
        Failure::Protocol(text) => BenchError::Protocol(text),
    })?;
    Ok(run.outcome(used))
}

enum Failure {
    Io(io::Error),
    Protocol(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What was counted.
struct Tally {
    acks: u64,
    latency_ns: Histogram<u64>,
    durability: Option<Durability>,
    errors: u64,
    first_error: Option<String>,
    stray_answers: u64,
}

impl Tally {
    fn new() -> Self {
        Self {
            acks: 0,
            latency_ns: histogram(),
            durability: None,
            errors: 0,
            first_error: None,
            stray_answers: 0,
        }
    }
}

struct Run<'a> {
    plan: &'a Plan,
    frames: &'a mut Frames,
    socket: TcpStream,
    clock: Clock,
    start_ns: u64,
    end_ns: u64,
    outstanding: Outstanding,
    /// Bytes of the frames' block that have not left.
    unsent: Range<usize>,
    received: Vec<u8>,
    received_bytes: usize,
    answers: Answers,
    tally: Tally,
}

impl Run<'_> {
    fn run(&mut self, watched: &Threads) -> Result<Used, Failure> {
        let mut before = None;
        let mut used = None;
        loop {
            let now = self.clock.ns();
            if before.is_none() && now >= self.start_ns {
                before = Some(Snapshot::take(&self.clock, watched));
            }
            if let (Some(before), None) = (&before, &used)
                && now >= self.end_ns
            {
                used = Some(Snapshot::take(&self.clock, watched).since(before));
            }
            let sent = self.send()?;
            let heard = self.receive()?;
            if let Some(used) = used {
                let is_over = self.outstanding.is_empty() && self.unsent.is_empty();
                if is_over || now > self.end_ns + PATIENCE_NS {
                    return Ok(used);
                }
            }
            if !sent && !heard {
                self.wait()?;
            }
        }
    }

    /// Sends what may be sent, until the socket is full. Says whether anything was.
    fn send(&mut self) -> Result<bool, Failure> {
        let mut has_sent = false;
        loop {
            if self.unsent.is_empty() && !self.number_next() {
                return Ok(has_sent);
            }
            match self.socket.write(self.frames.bytes(self.unsent.clone())) {
                Ok(bytes) => self.unsent.start += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(has_sent),
                Err(error) => return Err(error.into()),
            }
            has_sent = true;
        }
    }

    /// Makes the next frames ready, if any may be sent.
    fn number_next(&mut self) -> bool {
        let now = self.clock.ns();
        if self.tally.errors > 0 {
            return false;
        }
        let next = self.outstanding.next();
        let count = match self.plan.pace {
            Pace::Closed { .. } if now >= self.end_ns => 0,
            Pace::Closed { window_bytes } => {
                let most = (window_bytes / self.frames.frame_bytes()).max(1);
                most.saturating_sub(self.outstanding.len())
            }
            Pace::Open { rate } => {
                // Frame 0 is due at 0, so one more is due than the last one's number. What was due in time is sent
                // even if this thread comes late, or the slowest frames would not count.
                let due = (now.min(self.end_ns - 1) as f64 * rate / 1e9) as u64 + 1;
                due.saturating_sub(next) as usize
            }
        };
        let count = count.min(self.frames.block_frames());
        for number in next..next + count as u64 {
            self.outstanding.sent(match self.plan.pace {
                Pace::Closed { .. } => now,
                Pace::Open { rate } => due_ns(number, rate),
            });
        }
        self.unsent = 0..self.frames.block(next, count).len();
        count > 0
    }

    /// Takes the answers that are there. Says whether there were any.
    fn receive(&mut self) -> Result<bool, Failure> {
        let bytes = match self.socket.read(&mut self.received[self.received_bytes..]) {
            Ok(0) => {
                return Err(Failure::Protocol(
                    "the peer has closed the connection".into(),
                ));
            }
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        self.received_bytes += bytes;
        let now = self.clock.ns();
        let Self {
            answers,
            outstanding,
            tally,
            ..
        } = self;
        let measured = self.start_ns..self.end_ns;
        let is_open = matches!(self.plan.pace, Pace::Open { .. });
        let received = &self.received[..self.received_bytes];
        let used = answers.read(received, outstanding, |outstanding, answer| {
            tally.take(outstanding, answer, now, |due| {
                measured.contains(if is_open { due } else { &now })
            });
        });
        let used = used.map_err(Failure::Protocol)?;
        self.received.copy_within(used..self.received_bytes, 0);
        self.received_bytes -= used;
        Ok(true)
    }

    fn wait(&self) -> Result<(), Failure> {
        let now = self.clock.ns();
        let until = match self.plan.pace {
            _ if now >= self.end_ns => now + LONG_NS,
            Pace::Open { rate } if self.unsent.is_empty() => {
                due_ns(self.outstanding.next(), rate).min(self.end_ns)
            }
            _ => self.end_ns,
        };
        let ns = until.saturating_sub(now).min(LONG_NS);
        if ns > SHORT_NS {
            wait(&self.socket, !self.unsent.is_empty(), ns)?;
        }
        Ok(())
    }

    fn outcome(self, used: Used) -> Outcome {
        let tally = self.tally;
        let seconds = self.plan.duration.as_secs_f64();
        let acks = tally.acks as f64;
        let kilobytes = acks * self.frames.value_bytes() as f64 / 1e3;
        let per = |ns: u64, count: f64| if count > 0.0 { ns as f64 / count } else { 0.0 };
        Outcome {
            seconds,
            sent: self.outstanding.next(),
            acks: tally.acks,
            acks_s: acks / seconds,
            records_s: acks * self.frames.records() as f64 / seconds,
            mb_s: kilobytes / 1e3 / seconds,
            latency_us: latency::Latency::of(&tally.latency_ns),
            latency_ns: tally.latency_ns,
            durability: tally.durability.map(Durability::as_str),
            errors: tally.errors,
            first_error: tally.first_error,
            unanswered: self.outstanding.len() as u64,
            stray_answers: tally.stray_answers,
            cpu: used,
            cpu_ns_per_kb: per(used.others_ns(), kilobytes),
            cpu_ns_per_ack: per(used.others_ns(), acks),
            threads_ns_per_kb: per(used.watched_ns, kilobytes),
            sender_ns_per_ack: per(used.caller_ns, acks),
        }
    }
}

fn due_ns(number: u64, rate: f64) -> u64 {
    (number as f64 * 1e9 / rate) as u64
}

impl Tally {
    fn take(
        &mut self,
        outstanding: &mut Outstanding,
        answer: Answer,
        now: u64,
        is_measured: impl FnOnce(&u64) -> bool,
    ) {
        let Some(intended) = outstanding.answered(answer.number) else {
            self.stray_answers += 1;
            return;
        };
        match answer.result {
            Ok(durability) => {
                self.durability = Some(self.durability.map_or(durability, |d| d.min(durability)));
                if is_measured(&intended) {
                    self.acks += 1;
                    self.latency_ns
                        .saturating_record(now.saturating_sub(intended));
                }
            }
            Err(text) => {
                self.errors += 1;
                self.first_error.get_or_insert(text);
            }
        }
    }
}
