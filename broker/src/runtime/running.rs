//! A broker that runs, in the hands of whoever embeds it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use corelane_storage::ring::RingAddress;

use super::StopError;
use super::guard::DirectoryLock;
use super::link::{BrokerState, Ended};
use crate::admin::AdminEndpoint;

/// A running broker. Dropping it ends it as if the process had been killed: nothing is answered, flushed or
/// marked, and the next start recovers. [`ShutdownHandle::shut_down`] and [`Running::join`] end it in order.
pub struct Running {
    pub(super) bootstrap: SocketAddr,
    pub(super) cores: Vec<SocketAddr>,
    pub(super) handle: ShutdownHandle,
    pub(super) threads: Vec<JoinHandle<Ended>>,
    /// It answers until the cores have ended.
    pub(super) admin: Option<AdminEndpoint>,
    /// Given back last, when no thread touches the directory any more.
    pub(super) _lock: DirectoryLock,
}

/// Asks a broker to end in order. May be cloned and sent anywhere.
#[derive(Clone)]
pub struct ShutdownHandle {
    state: Arc<BrokerState>,
    addresses: Arc<[RingAddress]>,
}

impl ShutdownHandle {
    pub(super) fn new(state: Arc<BrokerState>, addresses: Vec<RingAddress>) -> Self {
        Self {
            state,
            addresses: addresses.into(),
        }
    }

    /// Takes no more requests, answers those in flight, flushes and closes. Returns at once: [`Running::join`]
    /// waits for the end.
    pub fn shut_down(&self) {
        self.state.shut_down();
        self.signal();
    }

    fn signal(&self) {
        for address in self.addresses.iter() {
            address.signal();
        }
    }
}

impl Running {
    /// The address that clients start with.
    #[must_use]
    pub fn bootstrap(&self) -> SocketAddr {
        self.bootstrap
    }

    /// The address of each core, by core number.
    #[must_use]
    pub fn cores(&self) -> &[SocketAddr] {
        &self.cores
    }

    /// The address of the admin endpoint, if there is one.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(AdminEndpoint::address)
    }

    /// A handle to end the broker with.
    #[must_use]
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.handle.clone()
    }

    /// Waits until the broker has ended, after somebody asked it to.
    ///
    /// # Errors
    /// What did not go in order. Acknowledged records are safe all the same.
    pub fn join(mut self) -> Result<(), Vec<StopError>> {
        let problems: Vec<StopError> = self.join_threads();
        if problems.is_empty() {
            tracing::info!("the broker has ended in order");
            Ok(())
        } else {
            Err(problems)
        }
    }

    fn join_threads(&mut self) -> Vec<StopError> {
        let ended = self
            .threads
            .drain(..)
            .map(|thread| thread.join().expect("a core that panics ends the process"));
        ended.flatten().collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.handle.state.abandon();
            self.handle.signal();
            self.join_threads();
        }
    }
}
