//! What a core exchanges with the world: connections with clients, and mail with other cores.
//!
//! Owns sockets, what waits to be sent on them, and the queues between cores. Never looks into a byte of what
//! passes and decides nothing but how to close: whoever uses it hears of what happened through
//! [`ConnectionEvents`]. Runs on every core, over the core's ring.

mod accept;
mod connection;
mod connections;
mod listener;
mod mailbox;
mod tasks;

use std::net::SocketAddr;

pub(crate) use accept::accept;
pub(crate) use connections::Connections;
pub(crate) use listener::{Listeners, bind};
pub(crate) use mailbox::{Mailbox, MailboxSeat, mailboxes};
pub(crate) use tasks::TaskGroup;

use crate::lane::ConnectionId;

/// Who hears of what happens to a core's connections. Called one event at a time, never from within a call
/// to [`Connections`].
pub(crate) trait ConnectionEvents: 'static {
    /// A client has connected. `Err` holds a last frame for it, and it is disconnected.
    fn opened(&self, peer: SocketAddr) -> Result<ConnectionId, Vec<u8>>;

    /// Bytes have arrived, whatever piece of the stream they are. Returns how many were taken in; the rest is told
    /// again once others had their turn.
    fn received(&self, connection: ConnectionId, bytes: &[u8]) -> usize;

    /// So many bytes have left.
    fn sent(&self, connection: ConnectionId, bytes: usize);

    /// The connection is gone. Told once for each that was opened, and last.
    fn closed(&self, connection: ConnectionId);
}

#[cfg(test)]
mod tests;
