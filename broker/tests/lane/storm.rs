//! Everything at once, in an order that a seed decides: producers that retry by the rules, readers
//! that poll and stall, full journals and mailboxes, connections that come and go.
//!
//! In the end every producer's values are in every partition once and in its order, every reader
//! saw what is there, and nothing is left in any core.

use std::collections::{BTreeMap, VecDeque};

use corelane_protocol::request::Acks;
use corelane_protocol::{ErrorCode, TopicPartition};
use corelane_storage::memory::MemoryKind;
use corelane_storage::testing::Random;

use crate::client::{Put, at, fetch_request, put};
use crate::world::{World, small_config};

const PARTITIONS: u32 = 6;
const VALUES: u32 = 40;

/// How often what is rare has happened, over all seeds: a storm that never reaches it shows nothing.
#[derive(Debug, Default)]
struct Reached {
    refused: u64,
    refused_for_order: u64,
    paused: u64,
    mail_waited: u64,
    records_polled: u64,
}

/// A producer that keeps its order through refusals, as the protocol asks.
struct Producer {
    number: usize,
    client: usize,
    lanes: BTreeMap<TopicPartition, Sending>,
    requests: BTreeMap<u32, Vec<(TopicPartition, u32)>>,
}

/// One partition of a producer.
#[derive(Default)]
struct Sending {
    next: u32,
    in_flight: usize,
    /// Refused, to be sent again in order once nothing is in flight.
    refused: Vec<u32>,
    resend: VecDeque<u32>,
    resume: bool,
    acknowledged: u32,
}

/// A reader of one partition, in order.
struct Reader {
    client: usize,
    partition: TopicPartition,
    seen: Vec<(u64, String)>,
    asked: Option<u32>,
}

impl Producer {
    fn send(
        &mut self,
        world: &mut World,
        random: &mut Random,
        topic_partitions: &[TopicPartition],
    ) {
        let mut puts = Vec::new();
        let mut sent = Vec::new();
        for _ in 0..=random.below(3) {
            let partition = topic_partitions[random.below(u64::from(PARTITIONS)) as usize];
            let sending = self.lanes.entry(partition).or_default();
            if !sending.refused.is_empty() {
                continue;
            }
            let (sequence, resume) = match sending.resend.pop_front() {
                Some(sequence) => (sequence, std::mem::take(&mut sending.resume)),
                None if sending.next < VALUES => {
                    sending.next += 1;
                    (sending.next - 1, false)
                }
                None => continue,
            };
            sending.in_flight += 1;
            let filling = "x".repeat(random.below(2000) as usize);
            let value = format!("{}:{sequence}:{filling}", self.number);
            puts.push(Put {
                resume,
                ..put(partition, &value)
            });
            sent.push((partition, sequence));
        }
        if !puts.is_empty() {
            let acks = if random.below(5) == 0 {
                Acks::None
            } else {
                Acks::All
            };
            let correlation = world.send_produce(self.client, acks, &puts);
            self.requests.insert(correlation, sent);
        }
    }

    fn receive(&mut self, world: &mut World, reached: &mut Reached) {
        while let Some(reply) = world.clients[self.client].take_reply() {
            let sent = self
                .requests
                .remove(&reply.correlation())
                .expect("answered once");
            for ((partition, sequence), outcome) in sent.into_iter().zip(reply.receipts()) {
                let sending = self.lanes.get_mut(&partition).expect("it was sent");
                sending.in_flight -= 1;
                match outcome {
                    Ok(_) => sending.acknowledged += 1,
                    Err(ErrorCode::Overloaded) => {
                        reached.refused += 1;
                        sending.refused.push(sequence);
                    }
                    Err(ErrorCode::ProduceOrder) => {
                        reached.refused_for_order += 1;
                        sending.refused.push(sequence);
                    }
                    Err(code) => panic!("an unexpected refusal: {code:?}"),
                }
            }
        }
        for sending in self.lanes.values_mut() {
            if sending.in_flight == 0 && !sending.refused.is_empty() {
                let mut again = std::mem::take(&mut sending.refused);
                again.extend(sending.resend.drain(..));
                again.sort_unstable();
                sending.resend = again.into();
                sending.resume = true;
            }
        }
    }

    fn is_done(&self) -> bool {
        self.lanes.len() == PARTITIONS as usize
            && self
                .lanes
                .values()
                .all(|sending| sending.acknowledged == VALUES)
    }
}

impl Reader {
    fn ask(&mut self, world: &mut World, random: &mut Random) {
        if self.asked.is_none() {
            let from = self.seen.len() as u64;
            let mut request =
                fetch_request(&[(self.partition, from)], 50, 1 + random.below(3000) as u32);
            request.max_bytes = 1 + random.below(20_000) as u32;
            self.asked = Some(world.send_fetch(self.client, request));
        }
    }

    fn receive(&mut self, world: &mut World) {
        while let Some(reply) = world.clients[self.client].take_reply() {
            assert_eq!(self.asked.take(), Some(reply.correlation()));
            match reply.values().remove(0) {
                Ok(values) => {
                    let from = self.seen.len() as u64;
                    self.seen
                        .extend(values.into_iter().filter(|(offset, _)| *offset >= from));
                }
                Err(ErrorCode::Overloaded) => {}
                Err(code) => panic!("a reader was refused: {code:?}"),
            }
        }
    }
}

fn storm(seed: u64, reached: &mut Reached) {
    let mut config = small_config();
    config.limits.mailbox_requests_max = 5;
    config.limits.connection_requests_max = 6;
    config.limits.connection_reply_bytes_max = 64 * 1024;
    config.limits.core_in_flight_bytes_max = 512 * 1024;
    let mut world = World::with_config(seed, 3, config);
    let mut random = world.executor.random();
    let topic = world.create("t", PARTITIONS, &[("segment.bytes", "256 KiB")]);
    world.create("filler", 12, &[]);
    let partitions: Vec<_> = (0..PARTITIONS).map(|index| at(topic, index)).collect();
    let mut producers: Vec<_> = (0..5)
        .map(|number| Producer {
            number,
            client: world.connect(random.below(3) as u16),
            lanes: BTreeMap::new(),
            requests: BTreeMap::new(),
        })
        .collect();
    let mut readers: Vec<_> = (0..8)
        .map(|_| Reader {
            client: world.connect(random.below(3) as u16),
            partition: partitions[random.below(u64::from(PARTITIONS)) as usize],
            seen: Vec::new(),
            asked: None,
        })
        .collect();
    let mut steps = 0;
    while !producers.iter().all(Producer::is_done) {
        steps += 1;
        assert!(steps < 60_000, "seed {seed}: the storm does not end");
        let who = random.below(5) as usize;
        match random.below(24) {
            0..=8 => {
                for _ in 0..=random.below(6) {
                    producers[who].send(&mut world, &mut random, &partitions);
                }
            }
            9..=12 => {
                let reader = random.below(8) as usize;
                readers[reader].ask(&mut world, &mut random);
            }
            13 => {
                let reader = &mut readers[random.below(8) as usize];
                if random.below(4) == 0 {
                    world.disconnect(reader.client);
                    reader.client = world.connect(random.below(3) as u16);
                    reader.asked = None;
                } else if world.clients[reader.client].reading {
                    world.clients[reader.client].reading = false;
                } else {
                    world.start_reading(reader.client);
                }
            }
            14 => match random.below(40) {
                0..4 => world.fill_journals(random.below(3) as u16),
                4..9 => {
                    // For longer than the lanes' patience.
                    world.fill_journals(random.below(3) as u16);
                    world.pass_ms_without_disks(5_500);
                }
                _ => {}
            },
            15..=16 => {
                world.carry();
            }
            17 => {
                world.deliver_mail();
            }
            18 => world.carry_one_way(random.below(3) as u16, random.below(3) as u16),
            19..=21 => world.run_disks(),
            22 => world.pass_ms(random.below(60)),
            _ => world.settle(),
        }
        for producer in &mut producers {
            producer.receive(&mut world, reached);
        }
        let paused = |client: usize| u64::from(!world.clients[client].receiving);
        reached.paused += producers
            .iter()
            .map(|producer| paused(producer.client))
            .sum::<u64>();
        reached.mail_waited += world.mail.values().filter(|queue| queue.len() > 2).count() as u64;
        for reader in &mut readers {
            reader.receive(&mut world);
        }
    }
    reached.records_polled += readers
        .iter()
        .map(|reader| reader.seen.len() as u64)
        .sum::<u64>();
    finish(world, producers, readers, &partitions);
}

fn finish(
    mut world: World,
    producers: Vec<Producer>,
    mut readers: Vec<Reader>,
    partitions: &[TopicPartition],
) {
    for reader in &mut readers {
        if !world.clients[reader.client].reading {
            world.start_reading(reader.client);
        }
    }
    world.pass_ms(100);
    world.settle();
    let probe = world.connect(0);
    for partition in partitions {
        let log = world.read_all(probe, *partition);
        for reader in readers
            .iter_mut()
            .filter(|reader| reader.partition == *partition)
        {
            reader.receive(&mut world);
            assert_eq!(reader.asked, None, "a poll was not answered");
            assert_eq!(
                reader.seen,
                log[..reader.seen.len()],
                "what a reader saw of {partition}"
            );
        }
        for producer in &producers {
            let prefix = format!("{}:", producer.number);
            let own = log
                .iter()
                .filter_map(|(_, value)| value.strip_prefix(&prefix));
            let sequences: Vec<u32> = own
                .map(|rest| {
                    rest.split(':')
                        .next()
                        .expect("a number")
                        .parse()
                        .expect("a number")
                })
                .collect();
            let expected: Vec<u32> = (0..VALUES).collect();
            assert_eq!(
                sequences, expected,
                "producer {} in {partition}",
                producer.number
            );
        }
    }
    for client in 0..world.clients.len() {
        if world.clients[client].open {
            assert!(
                world.clients[client].receiving,
                "nothing holds a client up any more"
            );
            world.disconnect(client);
        }
    }
    world.settle();
    for core in &mut world.cores {
        assert_eq!(core.ledger.in_use_of(MemoryKind::Reply), 0);
        assert_eq!(core.lane.connections(), 0);
        core.lane.begin_shutdown(world.now);
        assert!(
            core.lane.is_drained(),
            "something is left: {:?}",
            core.lane.core()
        );
    }
}

#[test]
fn order_and_content_survive_everything_at_once() {
    let mut reached = Reached::default();
    for seed in 0..40 {
        storm(seed, &mut reached);
    }
    let Reached {
        refused,
        refused_for_order,
        paused,
        mail_waited,
        records_polled,
    } = reached;
    for count in [
        refused,
        refused_for_order,
        paused,
        mail_waited,
        records_polled,
    ] {
        assert!(count > 100, "{reached:?}");
    }
}
