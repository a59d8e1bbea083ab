//! Accepting connections on one listener.
//!
//! Owns the patience with a kernel that is short of something. Runs on every core, one task per listener.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use corelane_storage::ring::{Acceptor, Ring};

use super::ConnectionEvents;
use super::connections::Connections;

/// How long nothing is accepted after the kernel was short of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts for as long as it is polled.
pub(crate) async fn accept<E: ConnectionEvents>(
    ring: Ring,
    mut acceptor: Acceptor,
    connections: Rc<Connections>,
    events: Rc<E>,
) {
    let mut is_short = false;
    loop {
        match acceptor.next().await {
            Ok(socket) => {
                is_short = false;
                connections.open(&events, socket);
            }
            Err(error) if is_of_one_connection(&error) => {
                tracing::debug!(%error, "a client went away before it was accepted");
            }
            Err(error) => {
                if !is_short {
                    tracing::warn!(
                        %error,
                        "no connection can be accepted; raise the limit of open files (ulimit -n) if it says so"
                    );
                }
                is_short = true;
                ring.sleep(PAUSE).await;
            }
        }
    }
}

/// Errors that say something about the client that was about to be accepted, as accept(2) lists them.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
        )
    )
}
