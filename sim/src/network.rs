//! Simulated connections: bytes on their way in both directions, in pieces, each at its time.
//!
//! Owns the state of every connection. Decides nothing about when: the world schedules an event for each piece
//! and each end, and asks here what it means.

use std::collections::{BTreeMap, VecDeque};

use corelane_broker::lane::ConnectionId;
use corelane_storage::testing::Random;

/// Names a connection of the world for good.
pub(crate) type ConnNumber = u64;

/// Bytes that the broker's side may have handed to its socket and the client not taken.
const SOCKET_BYTES_MAX: usize = 64 * 1024;

/// Where a connection ends at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) broker: usize,
    pub(crate) life: u32,
    pub(crate) core: usize,
}

/// How fast a connection is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speed {
    pub(crate) latency_us: u64,
    /// Bytes of a piece at most.
    pub(crate) piece_bytes_max: usize,
    /// Microseconds that each KiB takes.
    pub(crate) kib_us: u64,
}

impl Speed {
    /// How long the next piece is of what is left. A connection of small pieces has longer ones between them, so that a
    /// frame is cut anywhere, and yet a large one is not carried byte by byte.
    pub(crate) fn piece_bytes(&self, left: usize, random: &mut Random) -> usize {
        let most = if random.coin() {
            self.piece_bytes_max
        } else {
            self.piece_bytes_max.max(left / 2)
        };
        1 + random.index(most.min(left))
    }
}

/// One connection between a client and a core.
pub(crate) struct Conn {
    pub(crate) client: usize,
    pub(crate) place: Place,
    pub(crate) speed: Speed,
    /// The lane's name for it, once it was accepted.
    pub(crate) lane_id: Option<ConnectionId>,
    /// The client's side is open.
    pub(crate) client_open: bool,
    /// The broker's side is open.
    pub(crate) broker_open: bool,
    /// It has lost pieces, and carries nothing more.
    pub(crate) is_broken: bool,
    /// Nothing moves before this time.
    pub(crate) stalled_until_us: u64,
    /// Pieces on their way to the broker.
    pub(crate) upstream: VecDeque<Vec<u8>>,
    /// When the last of them arrives.
    pub(crate) upstream_us: u64,
    /// Arrived pieces that the broker does not want yet.
    pub(crate) held: VecDeque<Vec<u8>>,
    pub(crate) is_receiving: bool,
    /// Since when the broker does not want to read from it.
    pub(crate) paused_us: u64,
    /// Bytes that the broker has handed over and its socket has not taken.
    pub(crate) outbox: VecDeque<u8>,
    /// Pieces on their way to the client.
    pub(crate) downstream: VecDeque<Vec<u8>>,
    pub(crate) downstream_us: u64,
    /// Bytes that the socket has taken and the client has not.
    pub(crate) in_socket: usize,
    /// Arrived at the client and not read by it.
    pub(crate) unread: VecDeque<Vec<u8>>,
    pub(crate) client_reads: bool,
    /// Read by the client, not yet a whole frame.
    pub(crate) inbox: Vec<u8>,
    /// The broker closes once the outbox has left.
    pub(crate) is_closing: bool,
}

impl Conn {
    pub(crate) fn new(client: usize, place: Place, speed: Speed, now_us: u64) -> Self {
        Self {
            client,
            place,
            speed,
            lane_id: None,
            client_open: true,
            broker_open: false,
            is_broken: false,
            stalled_until_us: 0,
            upstream: VecDeque::new(),
            upstream_us: now_us,
            held: VecDeque::new(),
            is_receiving: true,
            paused_us: 0,
            outbox: VecDeque::new(),
            downstream: VecDeque::new(),
            downstream_us: now_us,
            in_socket: 0,
            unread: VecDeque::new(),
            client_reads: true,
            inbox: Vec::new(),
            is_closing: false,
        }
    }

    /// When a piece of this length that leaves now arrives, behind `last_us`.
    pub(crate) fn arrival_us(&self, now_us: u64, last_us: u64, bytes: usize) -> u64 {
        let travel = self.speed.latency_us + bytes as u64 * self.speed.kib_us / 1024;
        last_us.max(now_us.max(self.stalled_until_us) + travel)
    }

    /// The next bytes that the socket takes from the outbox.
    pub(crate) fn take_from_outbox(&mut self, random: &mut Random) -> Option<Vec<u8>> {
        let room = SOCKET_BYTES_MAX.saturating_sub(self.in_socket);
        let most = room.min(self.outbox.len());
        if most == 0 {
            return None;
        }
        let count = self.speed.piece_bytes(most, random);
        self.in_socket += count;
        let (front, back) = self.outbox.as_slices();
        let from_front = count.min(front.len());
        let mut piece = Vec::with_capacity(count);
        piece.extend_from_slice(&front[..from_front]);
        piece.extend_from_slice(&back[..count - from_front]);
        self.outbox.drain(..count);
        Some(piece)
    }
}

/// All connections.
#[derive(Default)]
pub(crate) struct Network {
    /// By number; `None` once one is over.
    conns: Vec<Option<Box<Conn>>>,
    by_lane: BTreeMap<(usize, usize, ConnectionId), ConnNumber>,
}

impl Network {
    pub(crate) fn insert(&mut self, number: ConnNumber, conn: Conn) {
        let place = number as usize;
        if place >= self.conns.len() {
            self.conns.resize_with(place + 1, || None);
        }
        self.conns[place] = Some(Box::new(conn));
    }

    pub(crate) fn get(&mut self, number: ConnNumber) -> Option<&mut Conn> {
        self.conns.get_mut(number as usize)?.as_deref_mut()
    }

    /// The broker has accepted it.
    pub(crate) fn accepted(&mut self, number: ConnNumber, id: ConnectionId) {
        if let Some(conn) = self.get(number) {
            conn.lane_id = Some(id);
            let Place { broker, core, .. } = conn.place;
            self.by_lane.insert((broker, core, id), number);
        }
    }

    /// The connection that an effect means, if it is still there.
    pub(crate) fn of_lane(
        &self,
        broker: usize,
        core: usize,
        id: ConnectionId,
    ) -> Option<ConnNumber> {
        self.by_lane.get(&(broker, core, id)).copied()
    }

    /// Forgets the broker's side.
    pub(crate) fn forget_lane(&mut self, number: ConnNumber) {
        if let Some(conn) = self.get(number)
            && let Some(id) = conn.lane_id.take()
        {
            let Place { broker, core, .. } = conn.place;
            self.by_lane.remove(&(broker, core, id));
        }
    }

    /// Drops connections that are closed on both sides.
    pub(crate) fn sweep(&mut self) {
        for conn in &mut self.conns {
            conn.take_if(|conn| !conn.client_open && !conn.broker_open);
        }
    }

    pub(crate) fn numbers(&self) -> Vec<ConnNumber> {
        self.iter().map(|(number, _)| number).collect()
    }

    pub(crate) fn numbers_of(&self, broker: usize) -> Vec<ConnNumber> {
        self.iter()
            .filter(|(_, conn)| conn.place.broker == broker)
            .map(|(number, _)| number)
            .collect()
    }

    fn iter(&self) -> impl Iterator<Item = (ConnNumber, &Conn)> {
        let conns = (0..).zip(&self.conns);
        conns.filter_map(|(number, conn)| Some((number, conn.as_deref()?)))
    }
}
