//! Connections: from a client's attempt to the end on both sides.

use corelane_broker::lane::ReplyPart;

use super::{Event, World};
use crate::client::{ClientEvent, Reply};
use crate::counters::Sometimes;
use crate::network::{Conn, ConnNumber, Network, Place, Speed};
use crate::process::{Input, Opening};
use crate::trace::happens;

/// Longer than a request of any client may wait for the disk or for other cores.
const PAUSE_US_MAX: u64 = 10_500_000;

impl World {
    pub(super) fn connect(&mut self, client: usize, number: ConnNumber, core: Option<u16>) {
        let latency_us = 1 + self.random.below(2 * self.profile.latency_us);
        let speed = Speed {
            latency_us,
            piece_bytes_max: [40, 700, 9_000, 200_000][self.random.index(4)],
            kib_us: [0, 1, 10, 400][self.random.index(4)],
        };
        let place = Place {
            broker: 0,
            life: 0,
            core: 0,
        };
        self.network
            .insert(number, Conn::new(client, place, speed, self.now_us));
        self.plan(latency_us, Event::Connect { conn: number, core });
    }

    /// A client's attempt reaches the broker: the core that it asked for, or any.
    pub(super) fn connect_arrives(&mut self, number: ConnNumber, core: Option<u16>) {
        let any = self.random.next_u64();
        let Some(conn) = self.network.get(number) else {
            return;
        };
        let broker = conn.place.broker;
        let process = self.machines[broker].process.as_mut();
        let Some(process) = process.filter(|process| process.is_serving()) else {
            let latency_us = conn.speed.latency_us;
            return self.plan(latency_us, Event::ClientSees { conn: number });
        };
        let cores = process.cores.len();
        let core = core.map_or(any as usize, usize::from) % cores;
        conn.place = Place {
            broker,
            life: process.life,
            core,
        };
        conn.broker_open = true;
        let place = conn.place;
        self.note(format_args!("connection {number} reaches core {core}"));
        self.input(broker, place.life, core, Input::Opened(number));
    }

    /// A core has looked at an attempt.
    pub(super) fn opened(&mut self, number: ConnNumber, opening: Opening) {
        let Some(conn) = self.network.get(number) else {
            return;
        };
        let (place, latency_us) = (conn.place, conn.speed.latency_us);
        match opening {
            Opening::Accepted(id) => {
                self.network.accepted(number, id);
                let conn = self.network.get(number).expect("looked up above");
                if conn.broker_open {
                    return self.plan(latency_us, Event::Connected { conn: number });
                }
                // It broke meanwhile.
                self.input(place.broker, place.life, place.core, Input::Closed(id));
                self.network.forget_lane(number);
            }
            Opening::Refused(frame) => {
                conn.broker_open = false;
                conn.downstream.push_back(frame);
                self.plan(latency_us, Event::Downstream { conn: number });
                self.plan(latency_us + 1, Event::ClientSees { conn: number });
            }
        }
    }

    pub(super) fn connected(&mut self, number: ConnNumber) {
        if let Some(conn) = self.network.get(number).filter(|conn| conn.client_open) {
            let client = conn.client;
            self.note(format_args!("connection {number} is open"));
            self.tell(client, ClientEvent::Connected(number));
        }
    }

    /// A client sends: its bytes leave in pieces.
    pub(super) fn client_sends(&mut self, number: ConnNumber, bytes: Vec<u8>) {
        let now_us = self.now_us;
        let conn = self.network.get(number);
        let Some(conn) = conn.filter(|conn| conn.client_open && !conn.is_broken) else {
            return;
        };
        let mut rest = bytes.as_slice();
        let mut arrivals = Vec::new();
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(conn.speed.piece_bytes(rest.len(), &mut self.random));
            rest = left;
            conn.upstream_us = conn.arrival_us(now_us, conn.upstream_us, piece.len());
            conn.upstream.push_back(piece.to_vec());
            arrivals.push(conn.upstream_us);
        }
        let crc = crc32c::crc32c(&bytes);
        happens!(
            self,
            "connection {}: client sends {} {:08x}",
            number,
            bytes.len(),
            crc
        );
        for us in arrivals {
            self.plan_at(us, Event::Upstream { conn: number });
        }
    }

    pub(super) fn upstream(&mut self, number: ConnNumber) {
        let now_us = self.now_us;
        let Some(conn) = self.network.get(number) else {
            return;
        };
        if conn.stalled_until_us > now_us {
            let us = conn.stalled_until_us;
            return self.plan_at(us, Event::Upstream { conn: number });
        }
        // A broken connection has lost its pieces.
        let Some(piece) = conn.upstream.pop_front().filter(|_| conn.broker_open) else {
            return;
        };
        let bytes = piece.len();
        conn.held.push_back(piece);
        happens!(self, "connection {}: {} reach the broker", number, bytes);
        self.deliver_held(number);
    }

    fn deliver_held(&mut self, number: ConnNumber) {
        let Some(conn) = self.network.get(number) else {
            return;
        };
        let (Some(id), true) = (conn.lane_id, conn.is_receiving) else {
            return;
        };
        let place = conn.place;
        let next = |network: &mut Network| network.get(number)?.held.pop_front();
        while let Some(piece) = next(&mut self.network) {
            let input = Input::Received(id, piece);
            self.input(place.broker, place.life, place.core, input);
        }
    }

    pub(super) fn broker_receives(&mut self, number: ConnNumber, on: bool) {
        let now_us = self.now_us;
        if let Some(conn) = self.network.get(number) {
            assert_ne!(conn.is_receiving, on, "a switch that changes nothing");
            conn.is_receiving = on;
            conn.paused_us = now_us;
            if on {
                self.deliver_held(number);
            } else {
                self.history.reached(Sometimes::ReceivePaused);
            }
        }
    }

    pub(super) fn broker_sends(&mut self, number: ConnNumber, parts: &[ReplyPart]) {
        let Some(conn) = self.network.get(number).filter(|conn| conn.broker_open) else {
            return;
        };
        let mut crc = 0;
        let mut bytes = 0;
        for part in parts {
            let part = part.as_slice();
            crc = crc32c::crc32c_append(crc, part);
            bytes += part.len();
            conn.outbox.extend(part);
        }
        happens!(
            self,
            "connection {}: broker sends {} {:08x}",
            number,
            bytes,
            crc
        );
        self.pump(number);
    }

    /// Moves what the socket takes, and tells the broker.
    fn pump(&mut self, number: ConnNumber) {
        let now_us = self.now_us;
        loop {
            let Some(conn) = self.network.get(number) else {
                return;
            };
            let Some(piece) = conn.take_from_outbox(&mut self.random) else {
                break;
            };
            conn.downstream_us = conn.arrival_us(now_us, conn.downstream_us, piece.len());
            let (us, bytes, place) = (conn.downstream_us, piece.len(), conn.place);
            let id = conn.lane_id;
            if !conn.is_broken {
                conn.downstream.push_back(piece);
                self.plan_at(us, Event::Downstream { conn: number });
            }
            if let Some(id) = id {
                self.input(place.broker, place.life, place.core, Input::Sent(id, bytes));
            }
        }
        let Some(conn) = self.network.get(number) else {
            return;
        };
        if !conn.outbox.is_empty() {
            self.history.reached(Sometimes::PartlySent);
        } else if conn.is_closing {
            self.finish_close(number);
        }
    }

    pub(super) fn downstream(&mut self, number: ConnNumber) {
        let now_us = self.now_us;
        let Some(conn) = self.network.get(number) else {
            return;
        };
        if conn.stalled_until_us > now_us {
            let us = conn.stalled_until_us;
            return self.plan_at(us, Event::Downstream { conn: number });
        }
        let Some(piece) = conn.downstream.pop_front().filter(|_| conn.client_open) else {
            return;
        };
        let bytes = piece.len();
        conn.unread.push_back(piece);
        happens!(self, "connection {}: {} reach the client", number, bytes);
        self.read_at_client(number);
    }

    fn read_at_client(&mut self, number: ConnNumber) {
        let Some(conn) = self.network.get(number).filter(|conn| conn.client_reads) else {
            return;
        };
        for piece in conn.unread.drain(..) {
            conn.in_socket = conn.in_socket.saturating_sub(piece.len());
            if conn.inbox.is_empty() {
                conn.inbox = piece;
            } else {
                conn.inbox.extend(piece);
            }
        }
        self.pump(number);
        loop {
            let Some(conn) = self.network.get(number).filter(|conn| conn.client_open) else {
                return;
            };
            let client = conn.client;
            match Reply::cut(&mut conn.inbox) {
                Ok(Some(reply)) => self.tell(client, ClientEvent::Reply(number, reply)),
                Ok(None) => return,
                Err(problem) => {
                    let name = self.clients[client].client.name();
                    return self
                        .history
                        .problem(format!("{name} was sent no frame: {problem}"));
                }
            }
        }
    }

    pub(super) fn client_reads(&mut self, number: ConnNumber, on: bool) {
        if let Some(conn) = self.network.get(number) {
            conn.client_reads = on;
            if on {
                self.read_at_client(number);
            }
        }
    }

    /// A client closes: what it has sent still arrives.
    pub(super) fn client_closes(&mut self, number: ConnNumber) {
        let now_us = self.now_us;
        self.judge_pause(number);
        if let Some(conn) = self.network.get(number) {
            conn.client_open = false;
            conn.inbox.clear();
            conn.unread.clear();
            let us = conn.arrival_us(now_us, conn.upstream_us, 0) + 1;
            self.note(format_args!("connection {number}: client closes"));
            self.plan_at(us, Event::BrokerSees { conn: number });
        }
    }

    /// Whether a connection that its client gives up was left unread for longer than any of its requests may take.
    fn judge_pause(&mut self, number: ConnNumber) {
        let (now_us, is_honest) = (self.now_us, !self.may_be_damaged());
        let Some(conn) = self.network.get(number) else {
            return;
        };
        let is_idle = conn.outbox.is_empty() && conn.stalled_until_us == 0 && conn.client_reads;
        if is_honest
            && is_idle
            && conn.broker_open
            && !conn.is_receiving
            && now_us - conn.paused_us > PAUSE_US_MAX
        {
            let seconds = (now_us - conn.paused_us) / 1_000_000;
            let problem = format!("connection {number} has not been read from for {seconds} s");
            self.history.problem(problem);
        }
    }

    pub(super) fn broker_sees(&mut self, number: ConnNumber) {
        let now_us = self.now_us;
        let Some(conn) = self.network.get(number) else {
            return;
        };
        if conn.stalled_until_us > now_us {
            let us = conn.stalled_until_us + 1;
            return self.plan_at(us, Event::BrokerSees { conn: number });
        }
        conn.client_open = false;
        self.note(format_args!(
            "connection {number}: the broker sees that it is closed"
        ));
        self.end_at_broker(number);
        self.network.sweep();
    }

    /// The broker's side is over: its core is told.
    fn end_at_broker(&mut self, number: ConnNumber) {
        let Some(conn) = self.network.get(number).filter(|conn| conn.broker_open) else {
            return;
        };
        conn.broker_open = false;
        conn.outbox.clear();
        conn.held.clear();
        let (place, id) = (conn.place, conn.lane_id);
        if let Some(id) = id {
            self.input(place.broker, place.life, place.core, Input::Closed(id));
            self.network.forget_lane(number);
        }
    }

    pub(super) fn broker_closes(&mut self, number: ConnNumber, after_sending: bool) {
        let Some(conn) = self.network.get(number) else {
            return;
        };
        if after_sending {
            conn.is_closing = true;
        } else {
            conn.outbox.clear();
        }
        let has_sent_all = conn.outbox.is_empty();
        self.note(format_args!(
            "connection {number}: broker closes, {after_sending}"
        ));
        if has_sent_all {
            self.finish_close(number);
        }
    }

    fn finish_close(&mut self, number: ConnNumber) {
        let now_us = self.now_us;
        self.end_at_broker(number);
        if let Some(conn) = self.network.get(number) {
            let us = conn.arrival_us(now_us, conn.downstream_us, 0) + 1;
            self.plan_at(us, Event::ClientSees { conn: number });
        }
    }

    pub(super) fn client_sees(&mut self, number: ConnNumber) {
        let Some(conn) = self.network.get(number) else {
            return;
        };
        if conn.client_open {
            conn.client_open = false;
            let client = conn.client;
            self.note(format_args!(
                "connection {number}: the client sees that it is closed"
            ));
            self.tell(client, ClientEvent::Closed(number));
        }
        self.network.sweep();
    }

    /// The machine's process is gone, and with it its side of every connection.
    pub(super) fn connections_end(&mut self, broker: usize) {
        let now_us = self.now_us;
        for number in self.network.numbers_of(broker) {
            let silence_us = if self.random.coin() {
                self.random.below(2_000)
            } else {
                self.random.below(3_000_000)
            };
            let conn = self.network.get(number).expect("just listed");
            if !conn.broker_open {
                continue;
            }
            conn.broker_open = false;
            conn.outbox.clear();
            conn.held.clear();
            conn.upstream.clear();
            // What the client would read later belongs to before the end, and a weak topic may be cut back there.
            conn.downstream.clear();
            conn.unread.clear();
            self.network.forget_lane(number);
            self.plan_at(now_us + silence_us, Event::ClientSees { conn: number });
        }
    }
}
