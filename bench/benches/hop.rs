//! What a message from core to core costs, there and back: a bounded queue with one writer and one reader in each
//! direction, and a message to the other core's ring that wakes it.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use corelane_bench::clock::Clock;
use corelane_bench::cpu;
use corelane_storage::ring::{PREEMPT_TIMER, Ring, RingAddress, RingConfig, probe};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use glommio::{LocalExecutorBuilder, Placement};
use rtrb::{Consumer, Producer, RingBuffer};

/// As the broker's queues.
const QUEUE_ITEMS: usize = 256;

/// What travels: as large as a small message of the broker.
type Item = [u64; 8];

/// One core's ends.
struct Seat {
    cpu: usize,
    outgoing: Producer<Item>,
    incoming: Consumer<Item>,
    own_address: Sender<RingAddress>,
    other_address: Receiver<RingAddress>,
}

/// Runs `body` on a core of its own, for as long as the process lives.
fn start<F: Future<Output = ()>>(
    seat: Seat,
    body: impl FnOnce(Core) -> F + Send + 'static,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let executor = LocalExecutorBuilder::new(Placement::Fixed(seat.cpu))
            .preempt_timer(PREEMPT_TIMER)
            .make()
            .expect("an executor, which needs locked memory");
        executor.run(async move {
            let features = probe().expect("a kernel that the broker runs on");
            let ring = Ring::start(RingConfig::default(), &features).expect("a ring");
            seat.own_address
                .send(ring.address())
                .expect("the other core waits");
            let other = seat.other_address.recv().expect("the other core sends");
            body(Core {
                ring,
                other,
                outgoing: seat.outgoing,
                incoming: seat.incoming,
            })
            .await;
        });
    })
}

struct Core {
    ring: Ring,
    other: RingAddress,
    outgoing: Producer<Item>,
    incoming: Consumer<Item>,
}

impl Core {
    /// Sends so many items and wakes the other core once.
    fn send(&mut self, count: usize) {
        for _ in 0..count {
            self.outgoing.push([1; 8]).expect("the queue holds a batch");
        }
        self.ring.post(&self.other);
    }

    /// Waits until so many items have come.
    async fn receive(&mut self, count: usize) {
        let mut left = count;
        loop {
            while left > 0 && self.incoming.pop().is_ok() {
                left -= 1;
            }
            if left == 0 {
                return;
            }
            self.ring.messages().await;
        }
    }
}

/// Two cores: one measures so many round trips of so many items as it is told, the other sends back what comes.
fn cores() -> (Sender<(u64, usize)>, Receiver<Duration>) {
    let (first_cpu, second_cpu) = cpu::pair();
    let (there, arriving) = RingBuffer::new(QUEUE_ITEMS);
    let (back, returning) = RingBuffer::new(QUEUE_ITEMS);
    let (first_address, for_second) = channel();
    let (second_address, for_first) = channel();
    let (order, orders) = channel::<(u64, usize)>();
    let (result, results) = channel();
    let first = Seat {
        cpu: first_cpu,
        outgoing: there,
        incoming: returning,
        own_address: first_address,
        other_address: for_first,
    };
    start(first, move |mut core| async move {
        // Between orders this core has nothing to do, so it may well block.
        while let Ok((trips, items)) = orders.recv() {
            let clock = Clock::start();
            for _ in 0..trips {
                core.send(items);
                core.receive(items).await;
            }
            result.send(clock.elapsed()).expect("who ordered waits");
        }
    });
    let second = Seat {
        cpu: second_cpu,
        outgoing: back,
        incoming: arriving,
        own_address: second_address,
        other_address: for_second,
    };
    start(second, |mut core| async move {
        loop {
            core.ring.messages().await;
            let mut count = 0;
            while let Ok(item) = core.incoming.pop() {
                core.outgoing.push(item).expect("the queue holds a batch");
                count += 1;
            }
            if count > 0 {
                core.ring.post(&core.other);
            }
        }
    });
    (order, results)
}

fn hops(criterion: &mut Criterion) {
    let (order, results) = cores();
    let mut group = criterion.benchmark_group("hop there and back");
    for items in [1, 64] {
        group.throughput(Throughput::Elements(items as u64));
        group.bench_function(BenchmarkId::new("items", items), |bencher| {
            bencher.iter_custom(|trips| {
                order.send((trips, items)).expect("the core takes orders");
                results.recv().expect("the core answers")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, hops);
criterion_main!(benches);
