//! The engine by itself: events and times in, effects out, as transcripts.

use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::batch::{BatchBuilderConfig, Compression};
use corelane_protocol::response::{
    BrokerMetadata, CoreAddress, Durability, PartitionMetadata, Receipt, TopicPartitions,
};
use corelane_protocol::{
    ApiError, BrokerId, CoreId, ErrorCode, Offset, PartitionIndex, Timestamp, TopicId,
};

use super::accumulator::Slot;
use super::builders::Builders;
use super::engine::{Effect, Engine, EngineSettings, EntryAnswer, RequestNumber};
use super::window::Hints;
use crate::backoff::Backoff;
use crate::cluster::TopicMetadata;
use crate::error::{Error, ErrorKind};
use crate::record::RecordRef;

const PLENTY: Hints = Hints {
    credit_bytes: u32::MAX,
    throttle_ms: 0,
};

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

/// A topic of four partitions: 0 and 1 on core 0, 2 and 3 on core 1.
fn topic(cores: [u16; 4]) -> TopicMetadata {
    let core = |core: u16| CoreAddress {
        core: CoreId::new(core),
        host: "h".into(),
        port: core,
    };
    let broker = BrokerMetadata {
        id: BrokerId::new(1),
        cores: vec![core(0), core(1)],
        ..BrokerMetadata::default()
    };
    let partitions = (0..).zip(cores).map(|(index, core)| PartitionMetadata {
        partition: PartitionIndex::new(index),
        leader: BrokerId::new(1),
        core: CoreId::new(core),
        ..PartitionMetadata::default()
    });
    let topic = TopicPartitions {
        id: TopicId::NIL,
        batch_bytes_max: 100_000,
        partitions: partitions.collect(),
        ..TopicPartitions::default()
    };
    TopicMetadata::new("t", &topic, &[broker], None).unwrap()
}

struct Bench {
    engine: Engine,
    builders: Arc<Builders>,
    slots: Vec<Arc<Slot>>,
    topic: TopicMetadata,
    next_connection: u64,
}

impl Bench {
    fn new(change: impl FnOnce(&mut EngineSettings)) -> Self {
        Self::with_codec(Compression::None, 1_000, change)
    }

    fn with_codec(
        compression: Compression,
        bytes_max: u32,
        change: impl FnOnce(&mut EngineSettings),
    ) -> Self {
        let config = BatchBuilderConfig {
            bytes_max,
            compression,
            ..BatchBuilderConfig::default()
        };
        let builders = Arc::new(Builders::new(config));
        let mut settings = EngineSettings {
            linger: Duration::ZERO,
            delivery_timeout: ms(10_000),
            in_flight_bytes_max: 1_000_000,
            request_bytes_max: 100_000,
            partial_in_flight_max: 2,
            backoff: Backoff {
                min: ms(10),
                max: ms(10),
            },
            metadata_max_age: ms(1_000_000),
            idempotent: false,
            seed: 1,
        };
        change(&mut settings);
        let slots = (0..4).map(|id| Slot::new(id, "t".into(), id as u32, 100_000));
        Self {
            engine: Engine::new(settings, Arc::clone(&builders), None),
            builders,
            slots: slots.map(Arc::new).collect(),
            topic: topic([0, 0, 1, 1]),
            next_connection: 0,
        }
    }

    /// A caller puts one record of `bytes` into a partition.
    fn put(&mut self, now: Duration, partition: usize, bytes: usize) {
        let value = vec![0; bytes];
        let slot = &self.slots[partition];
        let record = RecordRef::value(&value);
        let announce = slot
            .lock()
            .push(now, &record, 0, bytes, &self.builders, |_| {})
            .unwrap();
        if announce {
            self.engine.records_waiting(now, slot, &self.topic);
        }
    }

    /// Everything that the engine does now, one line for each effect.
    fn step(&mut self, now: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let effects = self.engine.step(now);
            if effects.is_empty() {
                return lines;
            }
            lines.extend(effects.iter().map(line));
            for effect in effects {
                if let Effect::Encode {
                    slot,
                    encoding,
                    builder,
                } = effect
                {
                    let bytes = self.builders.encode(builder);
                    self.engine.encoded(now, slot, encoding, bytes);
                }
            }
        }
    }

    /// Opens the connection to a core. Connections are numbered from 0.
    fn connect(&mut self, core: u16) {
        let address = format!("h:{core}");
        self.engine
            .connected(&address, self.next_connection, u64::MAX);
        self.next_connection += 1;
    }

    /// A bench whose connections to both cores are open: 0 to core 0, 1 to core 1.
    fn connected(change: impl FnOnce(&mut EngineSettings)) -> Self {
        let mut bench = Self::new(change);
        for partition in [0, 2] {
            bench.put(ms(0), partition, 1);
        }
        bench.engine.flush(ms(0));
        bench.step(ms(0));
        bench.connect(0);
        bench.connect(1);
        let sent = bench.step(ms(0));
        assert_eq!(sent, ["send 0 on 0: 0", "send 1 on 1: 2"]);
        bench.answer(ms(0), 0, &[Ok(())]);
        bench.answer(ms(0), 1, &[Ok(())]);
        bench.step(ms(0));
        bench
    }

    fn answer(&mut self, now: Duration, request: RequestNumber, results: &[Result<(), ErrorCode>]) {
        let entries = results.iter().map(|result| entry(*result, None));
        self.engine
            .answered(now, request, PLENTY, Ok(entries.collect()));
    }
}

fn entry(result: Result<(), ErrorCode>, owner: Option<u16>) -> EntryAnswer {
    let receipt = Receipt {
        base_offset: Offset::new(7),
        append_time: Timestamp::new(0),
        log_start_offset: Offset::ZERO,
        durability: Durability::Durable,
        replicas_flushed: 1,
    };
    EntryAnswer {
        result: result.map(|()| receipt).map_err(ApiError::from),
        owner: owner.map(|core| CoreAddress {
            core: CoreId::new(core),
            host: "h".into(),
            port: core,
        }),
    }
}

fn line(effect: &Effect) -> String {
    match effect {
        Effect::Connect { address } => format!("connect {address}"),
        Effect::Send {
            connection,
            request,
            entries,
        } => {
            let parts = entries.iter().map(|entry| {
                let resume = if entry.resume { "r" } else { "" };
                format!(" {}{resume}", entry.partition)
            });
            format!(
                "send {request} on {connection}:{}",
                parts.collect::<String>()
            )
        }
        Effect::Encode { slot, encoding, .. } => format!("encode {slot}/{encoding}"),
        Effect::Refresh { topic } => format!("refresh {topic}"),
        Effect::Identify => "identify".into(),
        Effect::Learn {
            partition, route, ..
        } => format!("learn {partition} at {}", route.address),
        Effect::Settle { result, .. } => match result {
            Ok(receipt) => format!("written {}", receipt.partition),
            Err(error) => format!("{:?}", error.kind()),
        },
    }
}

#[test]
fn a_record_opens_its_link_is_sent_and_settled() {
    let mut bench = Bench::new(|_| {});
    bench.put(ms(1), 3, 10);
    assert_eq!(bench.step(ms(1)), ["connect h:1"]);
    assert_eq!(bench.step(ms(2)), [""; 0], "it is being opened");
    bench.connect(1);
    assert_eq!(bench.step(ms(3)), ["send 0 on 0: 3"]);
    assert!(!bench.engine.is_idle());
    bench.answer(ms(4), 0, &[Ok(())]);
    assert_eq!(bench.step(ms(4)), ["written 3"]);
    assert!(bench.engine.is_idle());
}

#[test]
fn partitions_of_one_core_share_a_request() {
    let mut bench = Bench::connected(|_| {});
    for partition in 0..4 {
        bench.put(ms(1), partition, 10);
    }
    assert_eq!(bench.step(ms(1)), ["send 2 on 0: 0 1", "send 3 on 1: 2 3"]);
}

#[test]
fn under_load_batches_wait_until_they_are_full() {
    let mut bench = Bench::connected(|_| {});
    for _ in 0..2 {
        bench.put(ms(1), 0, 10);
        assert_eq!(bench.step(ms(1)).len(), 1);
    }
    for _ in 0..3 {
        bench.put(ms(1), 0, 200);
        assert_eq!(
            bench.step(ms(1)),
            [""; 0],
            "two small batches are in flight already"
        );
    }
    bench.put(ms(1), 0, 700);
    assert_eq!(bench.step(ms(1)), ["send 4 on 0: 0"], "the full one goes");
    bench.answer(ms(2), 2, &[Ok(())]);
    bench.answer(ms(2), 3, &[Ok(())]);
    let sent = bench.step(ms(2));
    assert_eq!(
        sent,
        ["written 0", "written 0", "send 5 on 0: 0"],
        "there is room for the small one"
    );
}

#[test]
fn lingering_ends_by_time_by_pressure_and_by_a_flush() {
    let mut bench = Bench::connected(|settings| settings.linger = ms(50));
    bench.put(ms(100), 0, 10);
    assert_eq!(bench.step(ms(100)), [""; 0]);
    assert_eq!(bench.engine.wake_at(ms(100)), Some(ms(150)));
    assert_eq!(bench.step(ms(150)), ["send 2 on 0: 0"]);
    bench.put(ms(160), 0, 10);
    assert_eq!(bench.step(ms(160)), [""; 0]);
    bench.engine.set_pressed(ms(161), true);
    assert_eq!(bench.step(ms(161)), ["send 3 on 0: 0"]);
    bench.engine.set_pressed(ms(162), false);
    bench.put(ms(170), 1, 10);
    assert_eq!(bench.step(ms(170)), [""; 0]);
    assert_eq!(
        bench.engine.flush(ms(171)).len(),
        3,
        "all that is not settled"
    );
    assert_eq!(bench.step(ms(171)), ["send 4 on 0: 1"]);
}

#[test]
fn a_request_takes_no_more_than_its_bytes() {
    let mut bench = Bench::connected(|settings| settings.request_bytes_max = 2_200);
    for _ in 0..4 {
        bench.put(ms(1), 0, 800);
    }
    bench.put(ms(1), 1, 800);
    assert_eq!(
        bench.step(ms(1)),
        ["send 2 on 0: 0 0", "send 3 on 0: 1 0", "send 4 on 0: 0"]
    );
}

#[test]
fn a_batch_larger_than_requests_should_be_goes_alone() {
    let mut bench = Bench::connected(|settings| settings.request_bytes_max = 2_200);
    for bytes in [10, 5_000, 5_000] {
        bench.put(ms(1), 0, bytes);
    }
    assert_eq!(
        bench.step(ms(1)),
        ["send 2 on 0: 0", "send 3 on 0: 0", "send 4 on 0: 0"]
    );
}

#[test]
fn the_window_of_a_connection_is_kept_and_throttles_hold() {
    let mut bench = Bench::connected(|settings| settings.in_flight_bytes_max = 2_500);
    for _ in 0..4 {
        bench.put(ms(1), 0, 800);
    }
    assert_eq!(bench.step(ms(1)), ["send 2 on 0: 0 0"]);
    let throttle = Hints {
        throttle_ms: 5,
        ..PLENTY
    };
    let answer = vec![entry(Ok(()), None), entry(Ok(()), None)];
    bench.engine.answered(ms(2), 2, throttle, Ok(answer));
    assert_eq!(bench.step(ms(2)), ["written 0", "written 0"]);
    assert_eq!(bench.engine.wake_at(ms(2)), Some(ms(7)));
    assert_eq!(bench.step(ms(7)), ["send 3 on 0: 0 0"]);
}

#[test]
fn a_lost_connection_is_opened_again_at_once_and_then_after_waits() {
    let mut bench = Bench::connected(|_| {});
    bench.put(ms(1), 0, 10);
    bench.step(ms(1));
    let error = Error::Closed { what: "connection" };
    assert_eq!(bench.engine.request_failed(ms(2), 2, &error), Some(0));
    assert_eq!(bench.engine.request_failed(ms(2), 2, &error), None);
    assert_eq!(bench.step(ms(2)), ["connect h:0", "refresh t"]);
    bench.engine.connect_failed(ms(3), "h:0", error);
    assert_eq!(bench.step(ms(3)), [""; 0]);
    let later: Vec<(u64, String)> = (4..14)
        .flat_map(|time| {
            bench
                .step(ms(time))
                .into_iter()
                .map(move |line| (time, line))
        })
        .collect();
    assert!(
        matches!(&later[..], [(8..14, line)] if line == "connect h:0"),
        "{later:?}"
    );
    bench.connect(0);
    assert_eq!(bench.step(ms(20)), ["send 3 on 2: 0r"]);
}

#[test]
fn deadlines_count_while_the_link_is_down() {
    let mut bench = Bench::new(|_| {});
    bench.put(ms(1), 0, 10);
    assert_eq!(bench.step(ms(1)), ["connect h:0"]);
    assert_eq!(bench.engine.wake_at(ms(1)), Some(ms(10_001)));
    assert_eq!(bench.step(ms(10_001)), ["TimedOut"]);
    assert!(bench.engine.is_idle());
}

#[test]
fn a_timeout_names_what_was_in_the_way() {
    let mut bench = Bench::new(|_| {});
    bench.put(ms(1), 0, 10);
    bench.step(ms(1));
    let error = Error::Connect {
        address: "h:0".into(),
        reason: "refused".into(),
    };
    bench.engine.connect_failed(ms(2), "h:0", error);
    let effects = bench.engine.step(ms(10_001));
    let cause = effects.iter().find_map(|effect| match effect {
        Effect::Settle {
            result: Err(Error::TimedOut { cause, .. }),
            ..
        } => cause.clone(),
        _ => None,
    });
    assert_eq!(cause.unwrap().kind(), ErrorKind::Connection);
}

#[test]
fn a_refused_batch_goes_again_with_those_behind_it() {
    let mut bench = Bench::connected(|_| {});
    for _ in 0..3 {
        bench.put(ms(1), 0, 800);
    }
    assert_eq!(bench.step(ms(1)), ["send 2 on 0: 0 0 0"]);
    let results = [
        Ok(()),
        Err(ErrorCode::Overloaded),
        Err(ErrorCode::ProduceOrder),
    ];
    bench.answer(ms(2), 2, &results);
    assert_eq!(bench.step(ms(2)), ["written 0"]);
    let again = bench.engine.wake_at(ms(2)).unwrap();
    assert_eq!(bench.step(again), ["send 3 on 0: 0r 0"]);
}

#[test]
fn a_redirect_drains_the_old_core_before_the_new_one_is_used() {
    let mut bench = Bench::connected(|_| {});
    for _ in 0..2 {
        bench.put(ms(1), 0, 10);
        bench.step(ms(1));
    }
    // Forwarded, with the better address; another batch is still in flight on the old way.
    let answer = vec![entry(Ok(()), Some(1))];
    bench.engine.answered(ms(2), 2, PLENTY, Ok(answer));
    assert_eq!(bench.step(ms(2)), ["learn 0 at h:1", "written 0"]);
    bench.put(ms(3), 0, 10);
    assert_eq!(bench.step(ms(3)), [""; 0]);
    bench.answer(ms(4), 3, &[Ok(())]);
    assert_eq!(bench.step(ms(4)), ["written 0", "send 4 on 1: 0"]);
}

#[test]
fn a_partition_that_moves_back_and_forth_is_sent_once() {
    let mut bench = Bench::connected(|settings| settings.linger = ms(5));
    bench.put(ms(1), 0, 10);
    bench.engine.metadata(ms(1), &topic([1, 0, 1, 1]));
    bench.engine.metadata(ms(1), &topic([0, 0, 1, 1]));
    bench.engine.metadata(ms(1), &topic([1, 0, 1, 1]));
    bench.engine.metadata(ms(1), &topic([0, 0, 1, 1]));
    assert_eq!(bench.step(ms(6)), ["send 2 on 0: 0"]);
    bench.answer(ms(7), 2, &[Ok(())]);
    assert_eq!(bench.step(ms(7)), ["written 0"]);
}

#[test]
fn without_its_topic_everything_that_waits_fails() {
    let mut bench = Bench::connected(|_| {});
    bench.put(ms(1), 0, 10);
    bench.step(ms(1));
    bench.answer(ms(2), 2, &[Err(ErrorCode::UnknownTopic)]);
    assert_eq!(bench.step(ms(2)), ["refresh t"]);
    bench.put(ms(3), 1, 10);
    let error = Error::refused("topic t", ErrorCode::UnknownTopic.into());
    bench.engine.metadata_failed(ms(3), "t", &error);
    assert_eq!(bench.step(ms(3)), ["Refused", "Refused"]);
    assert!(bench.engine.is_idle());
}

#[test]
fn metadata_is_renewed_while_records_are_sent_and_not_without_any() {
    let mut bench = Bench::connected(|settings| settings.metadata_max_age = ms(1000));
    bench.put(ms(900), 0, 10);
    assert_eq!(bench.step(ms(900)), ["send 2 on 0: 0"]);
    bench.answer(ms(901), 2, &[Ok(())]);
    bench.step(ms(901));
    assert_eq!(bench.step(ms(1500)), ["no effect"; 0], "nobody waits");
    bench.put(ms(2000), 0, 10);
    assert_eq!(bench.step(ms(2000)), ["send 3 on 0: 0", "refresh t"]);
    let topic = bench.topic.clone();
    bench.engine.metadata(ms(2001), &topic);
    bench.put(ms(2900), 2, 10);
    assert_eq!(bench.step(ms(2900)), ["send 4 on 1: 2"]);
}

#[test]
fn metadata_that_cannot_be_had_is_asked_for_again_while_somebody_waits() {
    let mut bench = Bench::connected(|_| {});
    bench.put(ms(1), 0, 10);
    bench.step(ms(1));
    bench.answer(ms(2), 2, &[Err(ErrorCode::UnknownTopic)]);
    assert_eq!(bench.step(ms(2)), ["refresh t"]);
    bench
        .engine
        .metadata_failed(ms(20), "t", &Error::Closed { what: "connection" });
    assert_eq!(
        bench.step(ms(20)),
        ["send 3 on 0: 0r"],
        "the wait is over meanwhile"
    );
    let lines = bench.step(ms(40));
    assert_eq!(lines, ["refresh t"]);
    bench.answer(ms(41), 3, &[Ok(())]);
    bench
        .engine
        .metadata_failed(ms(42), "t", &Error::Closed { what: "connection" });
    assert_eq!(
        bench.step(ms(60)),
        ["written 0"],
        "nobody waits for it any more"
    );
}

#[test]
fn small_batches_are_compressed_at_once() {
    let mut bench = Bench::with_codec(Compression::Lz4, 1_000, |_| {});
    for _ in 0..2 {
        bench.put(ms(0), 0, 700);
    }
    bench.step(ms(0));
    bench.connect(0);
    assert_eq!(bench.step(ms(1)), ["send 0 on 0: 0 0"]);
}

#[test]
fn large_batches_are_compressed_elsewhere_and_leave_in_order() {
    let mut bench = Bench::with_codec(Compression::Lz4, 10_000, |_| {});
    for _ in 0..2 {
        bench.put(ms(0), 0, 9_000);
    }
    bench.step(ms(0));
    bench.connect(0);
    let effects = bench.engine.step(ms(1));
    let lines: Vec<String> = effects.iter().map(line).collect();
    assert_eq!(lines, ["encode 0/0"], "the second one is not full");
    for _ in 0..2 {
        bench.put(ms(1), 0, 9_000);
    }
    bench.engine.flush(ms(1));
    let more = bench.engine.step(ms(1));
    let lines: Vec<String> = more.iter().map(line).collect();
    assert_eq!(lines, ["encode 0/1", "encode 0/2"]);
    for effect in more.into_iter().chain(effects) {
        assert_eq!(bench.step(ms(2)), [""; 0], "the first one is not there yet");
        let Effect::Encode {
            slot,
            encoding,
            builder,
        } = effect
        else {
            panic!("listed above");
        };
        let bytes = bench.builders.encode(builder);
        bench.engine.encoded(ms(2), slot, encoding, bytes);
    }
    assert_eq!(bench.step(ms(3)), ["send 0 on 0: 0 0 0"]);
}
