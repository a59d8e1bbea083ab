//! The connections of one core, by the numbers that their user gave them.
//!
//! Owns the table and starts each connection's two tasks. Bounds nothing by itself: who hears of a new
//! connection may refuse it. Runs on every core.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use corelane_storage::ring::{Receiver, Ring, SendBatch, SendPart, Socket};

use super::connection::Connection;
use super::{ConnectionEvents, TaskGroup};
use crate::lane::{ConnectionId, ReplyPart};

/// Refused connections that are told why at the same time; others are closed without a word.
const REFUSALS_MAX: usize = 64;

/// How long a client has to take the reason.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);

/// After so long without an acknowledgement of what was sent, the client counts as gone.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

/// Bytes that the kernel keeps for a client that does not take them; without a bound up to 4 MiB, which no ledger sees.
const UNSENT_MAX: u32 = 512 * 1024;

pub(crate) struct Connections {
    ring: Ring,
    tasks: TaskGroup,
    table: RefCell<Vec<Option<Rc<Connection>>>>,
    refusals: Cell<usize>,
}

impl Connections {
    pub(crate) fn new(ring: Ring, tasks: TaskGroup) -> Rc<Self> {
        Rc::new(Self {
            ring,
            tasks,
            table: RefCell::default(),
            refusals: Cell::new(0),
        })
    }

    /// Takes over an accepted socket.
    pub(crate) fn open<E: ConnectionEvents>(self: &Rc<Self>, events: &Rc<E>, socket: Socket) {
        let options = socket
            .set_no_delay()
            .and_then(|()| socket.set_user_timeout(UNACKNOWLEDGED_MAX))
            .and_then(|()| socket.set_unsent_max(UNSENT_MAX));
        let peer = match options.and_then(|()| socket.peer_address()) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::debug!(%error, "a client went away at once");
                return;
            }
        };
        match events.opened(peer) {
            Ok(id) => self.start(events, id, socket),
            Err(last_frame) => self.refuse(socket, last_frame),
        }
    }

    fn start<E: ConnectionEvents>(
        self: &Rc<Self>,
        events: &Rc<E>,
        id: ConnectionId,
        socket: Socket,
    ) {
        let receiver = Receiver::new(&socket);
        let connection = Rc::new(Connection::new(id, socket, receiver.control()));
        self.insert(connection.clone());
        self.tasks
            .spawn(connection.clone().send_all(events.clone()));
        let (this, events) = (self.clone(), events.clone());
        self.tasks.spawn(async move {
            let ring = this.ring.clone();
            connection.receive(ring, receiver, events.clone()).await;
            this.remove(id);
            events.closed(id);
        });
    }

    fn refuse(self: &Rc<Self>, socket: Socket, last_frame: Vec<u8>) {
        if self.refusals.get() >= REFUSALS_MAX {
            return;
        }
        self.refusals.set(self.refusals.get() + 1);
        let this = self.clone();
        self.tasks.spawn(async move {
            let mut batch = SendBatch::new();
            batch.push(SendPart::Bytes(last_frame));
            // A fresh socket has room for a frame, so this does not wait for the client.
            let _ = socket.send(batch).await;
            socket.shut_down_write();
            this.ring.sleep(REFUSAL_PATIENCE).await;
            this.refusals.set(this.refusals.get() - 1);
        });
    }

    /// Sends parts in order, after everything that was sent before.
    pub(crate) fn send(&self, id: ConnectionId, parts: Vec<ReplyPart>) {
        if let Some(connection) = self.get(id) {
            connection.send(parts.into_iter().map(|part| match part {
                ReplyPart::Bytes(bytes) => SendPart::Bytes(bytes),
                ReplyPart::Log(slice) => SendPart::Log(slice),
            }));
        }
    }

    /// Stops receiving, or goes on.
    pub(crate) fn set_receiving(&self, id: ConnectionId, on: bool) {
        if let Some(connection) = self.get(id) {
            connection.set_receiving(on);
        }
    }

    /// Closes a connection, at once or after what waits has been sent.
    pub(crate) fn close(&self, id: ConnectionId, after_sending: bool) {
        if let Some(connection) = self.get(id) {
            connection.close(after_sending);
        }
    }

    /// Closes them all at once.
    pub(crate) fn close_all(&self) {
        let connections: Vec<_> = self.table.borrow().iter().flatten().cloned().collect();
        for connection in connections {
            connection.close(false);
        }
    }

    fn get(&self, id: ConnectionId) -> Option<Rc<Connection>> {
        let table = self.table.borrow();
        let connection = table.get(id.index as usize)?.as_ref()?;
        (connection.id == id).then(|| connection.clone())
    }

    fn insert(&self, connection: Rc<Connection>) {
        let mut table = self.table.borrow_mut();
        let index = connection.id.index as usize;
        if table.len() <= index {
            table.resize(index + 1, None);
        }
        let before = table[index].replace(connection);
        assert!(
            before.is_none(),
            "the number of an open connection is not given again"
        );
    }

    fn remove(&self, id: ConnectionId) {
        let removed = self.table.borrow_mut()[id.index as usize].take();
        assert!(removed.is_some_and(|connection| connection.id == id));
    }
}
