//! What becomes of a client's connections, for programs that want to tell people.
//!
//! Owns: the events, and whom they go to. Never: changes what the client does about them.

use std::fmt;
use std::sync::Arc;

use crate::error::Error;

/// What became of a connection to a broker's address. A client has several of them: one for its own requests,
/// and one for each address that a producer or consumer uses.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConnectionEvent<'a> {
    /// It was made.
    Connected {
        /// The broker's address.
        address: &'a str,
    },
    /// It broke. Whatever needs it makes it again.
    Lost {
        /// The broker's address.
        address: &'a str,
        /// Why.
        error: &'a Error,
    },
    /// It could not be made. Producers and consumers try again, after a wait; other requests until
    /// their timeout.
    Failed {
        /// The broker's address.
        address: &'a str,
        /// Why.
        error: &'a Error,
    },
}

type Listener = dyn Fn(ConnectionEvent<'_>) + Send + Sync;

/// Whom events go to, if to anybody.
#[derive(Clone, Default)]
pub(crate) struct EventListener(Option<Arc<Listener>>);

impl EventListener {
    pub(crate) fn new(listener: impl Fn(ConnectionEvent<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    pub(crate) fn tell(&self, event: ConnectionEvent<'_>) {
        if let Some(listener) = &self.0 {
            listener(event);
        }
    }
}

impl fmt::Debug for EventListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "set" } else { "none" })
    }
}
