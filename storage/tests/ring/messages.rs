//! Messages between cores reach a ring in any state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use corelane_storage::ring::{Features, PREEMPT_TIMER, Ring, RingAddress, RingConfig};
use glommio::{LocalExecutorBuilder, Placement, timer};

use crate::support::{Numbers, features, on_core, patiently};

const ROUNDS: u64 = 3000;

/// Two cores hand a number to and fro; each waits for times around those at which a driver changes how it
/// waits before it answers. One lost message stops both.
#[test]
fn messages_between_two_cores_are_never_lost() {
    let mut without = features();
    without.message_ring = false;
    for features in [features(), without] {
        patiently(move || {
            let (first, second) = (mpsc::channel(), mpsc::channel());
            let counter = Arc::new(AtomicU64::new(0));
            let even = core(0, features.clone(), counter.clone(), first.0, second.1);
            let odd = core(1, features, counter, second.0, first.1);
            even.join().expect("no panic");
            odd.join().expect("no panic");
        });
    }
}

fn core(
    parity: u64,
    features: Features,
    counter: Arc<AtomicU64>,
    own: mpsc::Sender<RingAddress>,
    peer: mpsc::Receiver<RingAddress>,
) -> glommio::ExecutorJoinHandle<()> {
    LocalExecutorBuilder::new(Placement::Unbound)
        .preempt_timer(PREEMPT_TIMER)
        .io_memory(64 * 1024)
        .spawn(move || async move {
            let ring = Ring::start(RingConfig::default(), &features).expect("a ring");
            own.send(ring.address()).expect("the other core lives");
            let peer = glommio::executor()
                .spawn_blocking(move || peer.recv().expect("the other core lives"))
                .await;
            let numbers = Numbers::new(parity + 1);
            loop {
                let value = counter.load(Ordering::SeqCst);
                if value >= ROUNDS {
                    break;
                }
                if value % 2 == parity {
                    let pause =
                        [0, 0, 0, 0, 50, 1990, 2020, 2500][numbers.borrow_mut().below(8) as usize];
                    if pause > 0 {
                        timer::sleep(Duration::from_micros(pause)).await;
                    }
                    counter.store(value + 1, Ordering::SeqCst);
                    ring.post(&peer);
                } else {
                    ring.messages().await;
                }
            }
            // The last message may still have to wake the other core.
            ring.post(&peer);
            ring.sleep(Duration::from_millis(20)).await;
            ring.close().await;
        })
        .expect("an executor")
}

#[test]
fn a_thread_without_a_ring_wakes_a_sleeping_core() {
    on_core(|ring| async move {
        let address = ring.address();
        let is_last = Arc::new(AtomicBool::new(false));
        let last = is_last.clone();
        let thread = std::thread::spawn(move || {
            for pause in [0, 100, 3000, 10_000, 300, 20_000] {
                std::thread::sleep(Duration::from_micros(pause));
                address.signal();
            }
            std::thread::sleep(Duration::from_millis(5));
            last.store(true, Ordering::SeqCst);
            address.signal();
        });
        let mut received = 0;
        while !is_last.load(Ordering::SeqCst) {
            received += ring.messages().await;
        }
        assert!((1..=7).contains(&received), "{received} messages");
        assert!(thread.join().is_ok());
    });
}

#[test]
fn a_message_to_a_ring_that_is_gone_harms_nobody() {
    let address = on_core(|ring| async move { ring.address() });
    on_core(move |ring| async move {
        ring.post(&address);
        ring.sleep(Duration::from_millis(5)).await;
        assert_eq!(ring.stats().messages, 0);
    });
}
