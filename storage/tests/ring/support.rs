//! Executors, connections and patience for the tests of the ring.

use std::future::Future;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use corelane_storage::ring::{Features, PREEMPT_TIMER, Ring, RingConfig, Socket, probe};
use glommio::{LocalExecutorBuilder, Placement};

/// A test that takes so long has lost a wake-up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `test` on an executor of its own with a ring of its own, which is closed afterwards.
pub(crate) fn on_core<F, T>(test: impl FnOnce(Ring) -> F + Send + 'static) -> T
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    on_core_with(RingConfig::default(), features(), test)
}

pub(crate) fn on_core_with<F, T>(
    config: RingConfig,
    features: Features,
    test: impl FnOnce(Ring) -> F + Send + 'static,
) -> T
where
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    patiently(move || {
        let core = LocalExecutorBuilder::new(Placement::Unbound)
            .preempt_timer(PREEMPT_TIMER)
            .io_memory(64 * 1024)
            .spawn(move || async move {
                let ring = Ring::start(config, &features).expect("a ring");
                let result = test(ring.clone()).await;
                ring.close().await;
                assert_eq!((ring.in_flight(), ring.orphans()), (0, 0));
                result
            })
            .expect("an executor");
        core.join().expect("the test does not panic")
    })
}

/// Runs `work` on a thread and fails if it does not end.
pub(crate) fn patiently<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let _ = done.send(work());
    });
    match result.recv_timeout(PATIENCE) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("nothing happens any more"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().expect_err("it ended without a result"))
        }
    }
}

pub(crate) fn features() -> Features {
    probe().expect("Linux 6.1 or newer with io_uring")
}

/// The two ends of a connection, as plain blocking streams.
pub(crate) fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    let (server, _) = listener.accept().expect("accepts");
    (client, server)
}

pub(crate) fn socket(ring: &Ring, stream: TcpStream) -> Socket {
    Socket::new(ring.clone(), OwnedFd::from(stream))
}

/// Spawns a task on the current executor and waits for it to end elsewhere.
pub(crate) fn spawn<T: 'static>(
    future: impl Future<Output = T> + 'static,
) -> impl Future<Output = T> {
    let task = glommio::spawn_local(future).detach();
    async move { task.await.expect("the task is not cancelled") }
}

/// A deterministic sequence of numbers.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Rc<std::cell::RefCell<Self>> {
        Rc::new(std::cell::RefCell::new(Self(seed | 1)))
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
