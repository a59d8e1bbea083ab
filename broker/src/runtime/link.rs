//! How the starting thread and the cores keep in step.
//!
//! Owns the channel from each core to the starting thread, the one back, and the flags that a running broker
//! is stopped by.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

use corelane_storage::directory::DirectoryIdentity;
use corelane_storage::ring::{Ring, RingAddress};

use super::{StartError, StopError};
use crate::lane::{StoresFound, Topology};
use crate::metadata::MetadataImage;

/// How often a core looks for an order. A start takes three of them.
const ORDER_PAUSE: Duration = Duration::from_micros(500);

/// What a core tells the starting thread.
pub(super) struct Report {
    pub(super) core: usize,
    pub(super) event: Event,
}

pub(super) enum Event {
    /// Its ring turns.
    Joined(RingAddress),
    /// The directory and the metadata log are open. Core 0 only.
    Loaded(Box<Loaded>),
    /// Its stores are open and hold what the metadata says, but for those that are out of service.
    Recovered(StoresFound),
    /// The new directory is marked as finished. Core 0 only.
    Finished,
    /// It accepts connections.
    Ready,
    /// It cannot start.
    Failed(StartError),
}

impl Event {
    /// What has been reported, in words.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Joined(_) => "its ring turns",
            Self::Loaded(_) => "the metadata is read",
            Self::Recovered(_) => "its stores are open",
            Self::Finished => "the new directory is finished",
            Self::Ready => "it accepts connections",
            Self::Failed(_) => "it has failed",
        }
    }
}

/// What core 0 read.
pub(super) struct Loaded {
    pub(super) identity: DirectoryIdentity,
    /// Its stores are to be made.
    pub(super) is_new: bool,
    pub(super) image: MetadataImage,
}

/// What the starting thread tells a core.
pub(super) enum Order {
    /// Every core's ring, by core number.
    Addresses(Vec<RingAddress>),
    /// Open the stores, or make them.
    Recover(Arc<Recover>),
    /// Mark the new directory as finished. Core 0 only.
    Finish,
    /// Accept connections. What the stores of all cores are.
    Listen(StoresFound),
}

pub(super) struct Recover {
    pub(super) topology: Arc<Topology>,
    pub(super) is_new: bool,
    pub(super) image: MetadataImage,
}

/// A core's end.
pub(super) struct Link {
    pub(super) core: usize,
    pub(super) reports: Sender<Report>,
    orders: Receiver<Order>,
    pub(super) state: Arc<BrokerState>,
}

/// The start was given up: the starting thread is gone, or has let go of this core.
pub(super) struct GivenUp;

impl Link {
    pub(super) fn new(
        core: usize,
        reports: Sender<Report>,
        orders: Receiver<Order>,
        state: Arc<BrokerState>,
    ) -> Self {
        Self {
            core,
            reports,
            orders,
            state,
        }
    }

    pub(super) fn report(&self, event: Event) {
        let core = self.core;
        // Nobody listens only if another core's failure has ended the start.
        let _ = self.reports.send(Report { core, event });
    }

    /// The next order. Looked for with pauses of the core's own ring, which goes on turning: a thread that waited for
    /// it would keep glommio's only one from what the stores ask of it.
    pub(super) async fn order(&self, ring: &Ring) -> Result<Order, GivenUp> {
        loop {
            match self.orders.try_recv() {
                Ok(order) => return Ok(order),
                Err(TryRecvError::Empty) => ring.sleep(ORDER_PAUSE).await,
                Err(TryRecvError::Disconnected) => return Err(GivenUp),
            }
        }
    }
}

const RUN: u8 = 0;
const SHUT_DOWN: u8 = 1;
const ABANDON: u8 = 2;

/// What a running broker's cores and its owner share: flags, no data.
pub(super) struct BrokerState {
    wish: AtomicU8,
    /// Cores that have answered what was in flight.
    drained: AtomicUsize,
    cores: usize,
}

impl BrokerState {
    pub(super) fn new(cores: usize) -> Self {
        Self {
            wish: AtomicU8::new(RUN),
            drained: AtomicUsize::new(0),
            cores,
        }
    }

    /// Asks for an orderly end.
    pub(super) fn shut_down(&self) {
        let _ = self
            .wish
            .compare_exchange(RUN, SHUT_DOWN, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Asks for an end as if the process had died.
    pub(super) fn abandon(&self) {
        self.wish.store(ABANDON, Ordering::Release);
    }

    pub(super) fn is_ending(&self) -> bool {
        self.wish.load(Ordering::Acquire) != RUN
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.wish.load(Ordering::Acquire) == ABANDON
    }

    /// One more core is drained; says whether it was the last.
    pub(super) fn core_drained(&self) -> bool {
        self.drained.fetch_add(1, Ordering::AcqRel) + 1 == self.cores
    }

    pub(super) fn all_drained(&self) -> bool {
        self.drained.load(Ordering::Acquire) >= self.cores
    }
}

/// What a core's thread returns.
pub(super) type Ended = Vec<StopError>;
