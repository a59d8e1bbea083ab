//! What hostile clients do: each attack is one or two threads that run until the measurement is over.
//!
//! All of them run where the innocent client does, and only while it does not want the CPU: what is measured is how
//! the broker deals with them, not how the kernel shares the clients' CPU.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use socket2::{Domain, Socket, Type};

use super::requests;
use crate::broker::CoreTopic;
use crate::clock::Clock;
use crate::wait::{make_way, wait};
use crate::{BenchError, cpu};

/// Connections that ask and never read.
const UNREAD_CONNECTIONS: usize = 300;
/// Connections that send a byte a second.
pub(super) const SLOW_CONNECTIONS: usize = 2000;
/// Absurd streams a second.
const ABSURD_PER_SECOND: f64 = 500.0;
/// Rounds a second in which each connection that does not read asks once more.
const UNREAD_ROUNDS_PER_SECOND: f64 = 5.0;
/// Bytes that a flood hands to the kernel at once.
const FLOOD_BYTES: usize = 64 << 10;
/// Answers that a flood takes at once, bytes.
const ANSWER_BYTES: usize = 256 << 10;
/// How long a connection that neither takes nor gives anything is waited for, nanoseconds.
const PAUSE_NS: u64 = 1_000_000;

/// One way to be hostile, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// Nobody beside the innocent client.
    Nobody,
    /// A flood that goes to a thread which throws it away: the CPU and the loopback of the clients, without the broker.
    NoBroker,
    /// 300 consumers that ask for more and more and never read.
    Unread,
    /// 2,000 connections that send a byte a second.
    Slow,
    /// Streams that are no requests, and requests that ask for absurd things, 500 a second, each on a new connection.
    Absurd,
    /// One connection that produces single records as fast as it can.
    Produces,
    /// One connection that fetches as fast as it can.
    Fetches,
    /// One connection that asks for the metadata of everything as fast as it can.
    Metadata,
    /// One connection that looks offsets up by time as fast as it can.
    Times,
    /// Connections that are opened and dropped as fast as that goes.
    Storm,
}

impl Attack {
    /// As the command line has it.
    #[must_use]
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.expect("none is hidden").get_name().to_owned()
    }
}

/// What is attacked.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// A topic that is full of records.
    pub(super) full: CoreTopic,
    /// A topic for the floods' own records.
    pub(super) flooded: CoreTopic,
    /// The CPU of the clients.
    pub(super) cpu: usize,
}

/// An attack that goes on.
struct Raid<'a> {
    target: &'a Target,
    is_over: AtomicBool,
    /// Requests, connections or bytes, whatever the attack counts.
    steps: AtomicU64,
}

/// Ends the threads of an attack, also if the measurement fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does something while an attack goes on; what came of it, and how many steps a second the attack made.
pub(super) fn under<T>(
    attack: Attack,
    target: &Target,
    victim: impl FnOnce() -> Result<T, BenchError>,
) -> Result<(T, f64), BenchError> {
    let raid = Raid {
        target,
        is_over: AtomicBool::new(false),
        steps: AtomicU64::new(0),
    };
    let clock = Clock::start();
    let (begun, waiting) = mpsc::channel();
    let outcome = thread::scope(|scope| {
        let _end = End(&raid.is_over);
        let attacker = scope.spawn(|| {
            let is_idle = cpu::pin(target.cpu) && make_way();
            is_idle.then_some(()).ok_or_else(|| {
                BenchError::Settings("attackers cannot be kept out of the client's way".into())
            })?;
            raid.run(attack, begun)
        });
        // An attacker that fails drops its end.
        let has_begun = waiting.recv().is_ok();
        let outcome = has_begun.then(victim);
        raid.is_over.store(true, Ordering::Relaxed);
        attacker.join().expect("attackers do not panic")?;
        outcome.expect("an attack that ended early has failed")
    })?;
    let steps = raid.steps.load(Ordering::Relaxed) as f64;
    Ok((outcome, steps / clock.elapsed().as_secs_f64()))
}

impl Raid<'_> {
    fn run(&self, attack: Attack, begun: mpsc::Sender<()>) -> Result<(), BenchError> {
        let Target { full, flooded, .. } = self.target;
        let address = full.address;
        let flood = |frame: &[u8]| self.flood(address, frame, &begun);
        match attack {
            Attack::Nobody => drop(begun.send(())),
            Attack::NoBroker => self.flood_nobody(&requests::fetch(full, 1 << 20), &begun)?,
            Attack::Unread => self.never_read(&begun)?,
            Attack::Slow => self.send_bytes(&begun)?,
            Attack::Absurd => self.send_absurd_streams(&begun)?,
            Attack::Produces => flood(&requests::produce(flooded)?)?,
            Attack::Fetches => flood(&requests::fetch(full, 1 << 20))?,
            Attack::Metadata => flood(&requests::metadata())?,
            Attack::Times => flood(&requests::offsets_by_time(full))?,
            Attack::Storm => self.open_and_drop(&begun),
        }
        Ok(())
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    fn count(&self, steps: u64) {
        self.steps.fetch_add(steps, Ordering::Relaxed);
    }

    /// Does something so many times a second, until it is over.
    fn at_rate(&self, rate: f64, mut step: impl FnMut(u64)) {
        let clock = Clock::start();
        let mut done = 0;
        while self.goes_on() {
            let due = (clock.elapsed().as_secs_f64() * rate) as u64;
            while done < due && self.goes_on() {
                step(done);
                done += 1;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends a frame again and again, and throws the answers away. The broker may close: then on a new connection.
    fn flood(
        &self,
        address: SocketAddr,
        frame: &[u8],
        begun: &mpsc::Sender<()>,
    ) -> Result<(), BenchError> {
        let many = frame.repeat((FLOOD_BYTES / frame.len()).max(1));
        let mut answers = vec![0; ANSWER_BYTES];
        while self.goes_on() {
            let mut stream = connect(address)?;
            let _ = begun.send(());
            let mut at = 0;
            while self.goes_on() {
                let sent = match stream.write(&many[at..]) {
                    Ok(bytes) => bytes,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                    Err(_) => break,
                };
                self.count(((at % frame.len() + sent) / frame.len()) as u64);
                at = (at + sent) % many.len();
                let heard = match stream.read(&mut answers) {
                    Ok(0) => break,
                    Ok(bytes) => bytes,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                    Err(_) => break,
                };
                if sent == 0 && heard == 0 {
                    wait(&stream, true, PAUSE_NS).map_err(BenchError::io("cannot wait"))?;
                }
            }
        }
        Ok(())
    }

    /// The same against a thread that only reads.
    fn flood_nobody(&self, frame: &[u8], begun: &mpsc::Sender<()>) -> Result<(), BenchError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.map_err(BenchError::io("cannot listen"))?;
        let address = listener
            .local_addr()
            .map_err(BenchError::io("no address"))?;
        thread::scope(|scope| {
            // It inherits the attacker's CPU and class, and ends with the stream.
            scope.spawn(move || {
                let mut bytes = vec![0; FLOOD_BYTES];
                if let Ok((mut stream, _)) = listener.accept() {
                    while stream.read(&mut bytes).is_ok_and(|count| count > 0) {}
                }
            });
            self.flood(address, frame, begun)
        })
    }

    fn never_read(&self, begun: &mpsc::Sender<()>) -> Result<(), BenchError> {
        let address = self.target.full.address;
        let fetch = requests::fetch(&self.target.full, 16 << 20);
        let mut streams = connections(address, UNREAD_CONNECTIONS)?;
        for stream in &mut streams {
            // As far as the kernel takes it: half a request is as good as none.
            let _ = stream.write(&fetch.repeat(20));
        }
        let _ = begun.send(());
        let rate = UNREAD_ROUNDS_PER_SECOND * streams.len() as f64;
        self.at_rate(rate, |number| {
            let index = number as usize % streams.len();
            let asked = streams[index].write(&fetch);
            let is_closed = asked.is_err_and(|error| error.kind() != ErrorKind::WouldBlock);
            if is_closed && let Ok(stream) = connect(address) {
                streams[index] = stream;
            }
            self.count(1);
        });
        Ok(())
    }

    fn send_bytes(&self, begun: &mpsc::Sender<()>) -> Result<(), BenchError> {
        let address = self.target.full.address;
        let mut streams = connections(address, SLOW_CONNECTIONS)?;
        let _ = begun.send(());
        let frame = requests::announced(64 << 10);
        self.at_rate(streams.len() as f64, |number| {
            let (round, index) = (
                number as usize / streams.len(),
                number as usize % streams.len(),
            );
            let byte = frame.get(round).copied().unwrap_or_default();
            let is_closed = streams[index].write(&[byte]).is_err();
            if is_closed && let Ok(stream) = connect(address) {
                streams[index] = stream;
            }
            self.count(1);
        });
        Ok(())
    }

    fn send_absurd_streams(&self, begun: &mpsc::Sender<()>) -> Result<(), BenchError> {
        let address = self.target.full.address;
        let streams = requests::absurd();
        connect(address)?;
        let _ = begun.send(());
        // The last ones, so that answers have time to come before a connection goes.
        let mut open = Vec::new();
        self.at_rate(ABSURD_PER_SECOND, |number| {
            if let Ok(mut stream) = connect(address) {
                let _ = stream.write(&streams[number as usize % streams.len()]);
                open.push(stream);
            }
            if open.len() > 100 {
                open.remove(0);
            }
            self.count(1);
        });
        Ok(())
    }

    fn open_and_drop(&self, begun: &mpsc::Sender<()>) {
        let address = self.target.full.address;
        let request = requests::metadata();
        let _ = begun.send(());
        for number in 0_u64.. {
            if !self.goes_on() {
                return;
            }
            let Ok(mut stream) = connect_from(number, address) else {
                // Ports of connections that were dropped are not free at once.
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            // Nothing, the beginning of a frame, or a request whose answer nobody waits for.
            let _ = stream.write(match number % 3 {
                0 => &[],
                1 => &request[..3],
                _ => &request,
            });
            self.count(1);
        }
    }
}

/// Connects from one of 65,536 loopback addresses after the other: the ports of one last a storm for two seconds.
fn connect_from(number: u64, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.ip() == Ipv4Addr::LOCALHOST {
        let [.., high, low] = number.to_be_bytes();
        let source = SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 0));
        socket.bind(&source.into())?;
    }
    socket.connect(&address.into())?;
    Ok(socket.into())
}

fn connect(address: SocketAddr) -> Result<TcpStream, BenchError> {
    let stream = TcpStream::connect(address).map_err(BenchError::io("an attacker's connection"))?;
    let prepared = stream
        .set_nodelay(true)
        .and_then(|()| stream.set_nonblocking(true));
    prepared.map_err(BenchError::io("an attacker's socket"))?;
    Ok(stream)
}

fn connections(address: SocketAddr, count: usize) -> Result<Vec<TcpStream>, BenchError> {
    (0..count).map(|_| connect(address)).collect()
}
