//! No wake-up is lost, whether the driver turns, waits inside the ring, or sleeps.

use std::io::{Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use corelane_storage::ring::{Features, Receiver, Ring, RingConfig, SendBatch, SendPart, Socket};
use glommio::{LocalExecutorBuilder, Placement, timer};

use crate::support::{
    Numbers, connection, features, on_core, on_core_with, patiently, socket, spawn,
};

/// A client pauses between requests for times around those at which the driver changes how it waits. One
/// lost wake-up stops the test for good: nothing else happens on that core.
#[test]
fn requests_at_any_moment_are_answered() {
    let least = Features {
        incremental_buffers: false,
        minimum_wait: false,
        message_ring: false,
        truncate: false,
    };
    for features in [features(), least] {
        on_core_with(RingConfig::default(), features, |ring| async move {
            let (mut client, server) = connection();
            client.set_nodelay(true).expect("a TCP socket");
            let requests = std::thread::spawn(move || {
                let numbers = Numbers::new(42);
                for request in 0..4000_u32 {
                    client.write_all(&request.to_le_bytes()).expect("connected");
                    let mut answer = [0; 4];
                    client.read_exact(&mut answer).expect("answered");
                    assert_eq!(u32::from_le_bytes(answer), request);
                    let pause = [0, 0, 0, 0, 30, 1900, 1980, 2000, 2010, 2050, 2300, 2600]
                        [numbers.borrow_mut().below(12) as usize];
                    spin(Duration::from_micros(pause));
                }
            });
            echo(socket(&ring, server)).await;
            assert!(requests.join().is_ok());
            let stats = ring.stats();
            assert!(stats.parks > 100, "the driver slept: {stats:?}");
        });
    }
}

/// glommio falls asleep on runnable tasks whenever its preempt timer fires before its first look at them,
/// which a short timer provokes and a thread that is not scheduled for long enough cannot avoid. It has to wake
/// up by itself again: nothing else may ever happen on that core.
#[test]
fn a_core_that_sleeps_on_runnable_tasks_wakes_up_by_itself() {
    patiently(|| {
        let core = LocalExecutorBuilder::new(Placement::Unbound)
            .preempt_timer(Duration::from_micros(300))
            .io_memory(64 * 1024)
            .spawn(|| async {
                let ring = Ring::start(RingConfig::default(), &features()).expect("a ring");
                for round in 0..2000 {
                    let answer = glommio::executor().spawn_blocking(move || round).await;
                    assert_eq!(answer, round);
                    ring.sleep(Duration::from_micros(100)).await;
                }
                ring.close().await;
            })
            .expect("an executor");
        core.join().expect("no panic");
    });
}

async fn echo(socket: Socket) {
    let mut receiver = Receiver::new(&socket);
    let mut batch = SendBatch::new();
    while let Some(piece) = receiver.next().await.expect("connected") {
        batch.push(SendPart::Bytes(piece.to_vec()));
        while !batch.is_empty() {
            let (sent, rest) = socket.send(batch).await;
            sent.expect("connected");
            batch = rest;
        }
    }
}

fn spin(duration: Duration) {
    let began = now();
    while began.elapsed() < duration {
        std::hint::spin_loop();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test of waiting")]
fn now() -> Instant {
    Instant::now()
}

/// Tasks that push operations while the driver sleeps wake it.
#[test]
fn an_operation_pushed_while_the_driver_sleeps_is_submitted() {
    on_core(|ring| async move {
        let numbers = Numbers::new(7);
        for _ in 0..300 {
            // glommio's own timer wakes the task while the driver sleeps on its eventfd.
            let pause = numbers.borrow_mut().below(4000);
            timer::sleep(Duration::from_micros(pause)).await;
            ring.sleep(Duration::from_micros(1)).await;
        }
        assert!(ring.stats().parks > 10);
    });
}

/// Under continuous load glommio still gets to see its timers and its blocking threads.
#[test]
fn the_executor_sees_its_own_events_under_load() {
    on_core(|ring| async move {
        let stop = Rc::new(std::cell::Cell::new(false));
        let load = spawn({
            let (ring, stop) = (ring.clone(), stop.clone());
            async move {
                while !stop.get() {
                    ring.sleep(Duration::ZERO).await;
                }
            }
        });
        for _ in 0..50 {
            timer::sleep(Duration::from_micros(100)).await;
            let answer = glommio::executor().spawn_blocking(|| 42).await;
            assert_eq!(answer, 42);
        }
        stop.set(true);
        load.await;
    });
}

/// A core with a flood of work in memory, each piece of which begins the next, still sees everything else.
#[test]
fn tasks_that_begin_one_another_let_the_ring_turn() {
    fn begin(ring: Ring, stop: Rc<std::cell::Cell<bool>>) {
        drop(spawn(async move {
            ring.next_turn().await;
            spin(Duration::from_micros(100));
            if !stop.get() {
                begin(ring, stop);
            }
        }));
    }
    let config = RingConfig {
        lap: Duration::from_micros(500),
        ..RingConfig::default()
    };
    on_core_with(config, features(), |ring| async move {
        let stop = Rc::new(std::cell::Cell::new(false));
        for _ in 0..8 {
            begin(ring.clone(), stop.clone());
        }
        for _ in 0..50 {
            ring.sleep(Duration::from_micros(100)).await;
            timer::sleep(Duration::from_micros(100)).await;
        }
        stop.set(true);
    });
}

/// An idle core neither spins nor wakes up periodically.
#[test]
fn an_idle_ring_does_not_turn() {
    on_core(|ring| async move {
        let (_client, server) = connection();
        let socket = socket(&ring, server);
        let mut receiver = Receiver::new(&socket);
        let idle = spawn(async move {
            let _ = receiver.next().await;
        });
        timer::sleep(Duration::from_millis(50)).await;
        let before = ring.stats();
        timer::sleep(Duration::from_millis(300)).await;
        let turns = ring.stats().turns - before.turns;
        assert!(turns < 50, "{turns} turns while nothing happened");
        socket.shut_down();
        idle.await;
    });
}

#[test]
fn more_operations_than_the_queue_holds_all_complete() {
    let config = RingConfig {
        submission_entries: 4,
        completion_entries: 8,
        ..RingConfig::default()
    };
    on_core_with(config, features(), |ring| async move {
        let tasks: Vec<_> = (0..2000)
            .map(|number| {
                let ring = ring.clone();
                spawn(async move { ring.sleep(Duration::from_micros(number % 50)).await })
            })
            .collect();
        for task in tasks {
            task.await;
        }
    });
}
