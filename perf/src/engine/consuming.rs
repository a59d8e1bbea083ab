//! Consumers of a run: reading a topic again and again, or what producers send at the same time.

use std::time::Duration;

use corelane_client::{Client, Consumer, Durability, Error, Records, Start};
use tokio::sync::watch;

use super::producing::{Sending, Until, kind};
use super::{LEAD, Measured, Shared, Started, Worker, build_producer, monitor};
use crate::control::{Control, Phase};
use crate::error::PerfError;
use crate::recorder::{Times, Window};
use crate::result::Consumed;
use crate::schedule::Schedule;
use crate::session::{Session, UsedTopic};
use crate::stages::Watch;
use crate::value::Values;
use crate::workload::Workload;

/// How long a consumer waits before it looks whether the run is over.
const POLL: Duration = Duration::from_millis(50);
/// How long the broker holds a fetch back that finds nothing; consumers are not to end later than that.
const MAX_WAIT: Duration = Duration::from_millis(100);
/// How long filling a topic may take.
const FILL_PATIENCE: Duration = Duration::from_secs(3_600);
/// A consumer that has failed so often will not do better.
const FAILURES_MAX: u32 = 100;

/// How often a consumer has failed.
#[derive(Default)]
struct Failures(u32);

impl Failures {
    /// Counts one among what the run has lost. It goes on unless there were too many.
    fn count(&mut self, shared: &Shared, error: Error) -> Result<(), PerfError> {
        let now_ns = shared.clock.ns();
        let mut recorder = shared.recorder();
        recorder.lost(now_ns, &kind(&error), 1, &error.to_string());
        self.0 += 1;
        if self.0 > FAILURES_MAX {
            return Err(error.into());
        }
        Ok(())
    }
}

/// The partitions of each consumer; none has no partition.
fn shares(workload: &Workload, topic: &UsedTopic) -> Vec<Vec<u32>> {
    let consumers = workload.connections.min(topic.partitions);
    let share = |index| {
        (0..topic.partitions)
            .filter(move |partition| partition % consumers == index)
            .collect()
    };
    (0..consumers).map(share).collect()
}

async fn build(
    client: &Client,
    topic: &str,
    partitions: &[u32],
    start: Start,
    until_end: bool,
) -> Result<Consumer, PerfError> {
    let assigned = partitions.iter().map(|partition| (topic, *partition));
    let consumer = client.consumer().assign(assigned, start);
    let consumer = consumer.max_wait(MAX_WAIT).until_end(until_end);
    Ok(consumer.build().await?)
}

/// Consumers that have everything which is sent from now on.
pub(super) async fn at_end(
    client: &Client,
    workload: &Workload,
    topic: &UsedTopic,
) -> Result<Vec<Consumer>, PerfError> {
    let mut consumers = Vec::new();
    for partitions in shares(workload, topic) {
        let mut consumer = build(client, &topic.name, &partitions, Start::Latest, false).await?;
        // Connects before the clock runs; what other producers send is passed over.
        consumer.poll(Duration::ZERO).await?;
        consumers.push(consumer);
    }
    Ok(consumers)
}

/// A consumer of what the run's producers send.
pub(super) struct EndToEnd {
    pub(super) shared: Shared,
    pub(super) values: Values,
    /// Of the first producer; the others take turns with it.
    pub(super) schedule: Schedule,
    /// Becomes true when everything has been read.
    pub(super) finished: watch::Receiver<bool>,
}

impl EndToEnd {
    pub(super) async fn run(self, mut consumer: Consumer) -> Result<(), PerfError> {
        let mut failures = Failures::default();
        while !*self.finished.borrow() {
            match consumer.poll(POLL).await {
                Ok(Some(records)) => self.take(&records),
                Ok(None) => {}
                Err(error) => failures.count(&self.shared, error)?,
            }
        }
        Ok(())
    }

    fn take(&self, records: &Records) {
        let now_ns = self.shared.clock.ns();
        let value_bytes = self.values.bytes() as u64;
        let mut recorder = self.shared.recorder();
        for record in records {
            let value = record.value().unwrap_or_default();
            if Values::claimed(value).is_none_or(|number| number.run != self.shared.run) {
                continue;
            }
            let Some((number, sent_ns)) = self.values.stamp(value) else {
                recorder.lost(now_ns, "damaged", 1, "a value was not what had been sent");
                continue;
            };
            let schedule = Schedule {
                index: number.producer.into(),
                ..self.schedule
            };
            let times = Times {
                due_ns: schedule.due_ns(number.sequence),
                sent_ns,
                done_ns: now_ns,
            };
            recorder.timed(times, 1);
            recorder.done(now_ns, 1, value_bytes);
        }
    }
}

/// Fills a topic without records. Gives how many were acknowledged, and how durable the weakest of them is.
pub(super) fn fill(
    session: &Session,
    workload: &Workload,
    topic: &UsedTopic,
    control: &mut Control<'_>,
) -> Result<(u64, Option<Durability>), PerfError> {
    if topic.size().0 > 0 {
        return Ok((0, None));
    }
    let producers = u64::from(workload.connections);
    let records = workload
        .fill_bytes
        .div_ceil(u64::from(workload.record_size) * producers);
    let (cancel, cancelled) = watch::channel(None);
    let patience_ns = FILL_PATIENCE.as_nanos() as u64;
    let shared = Shared::new(
        Window {
            from_ns: 0,
            to_ns: patience_ns,
        },
        cancelled,
        topic,
        session.tag(),
    );
    let values = Values::new(workload);
    let workers = session.runtime().block_on(async {
        let mut workers: Vec<Worker> = Vec::new();
        for index in 0..workload.connections {
            let sending = Sending {
                shared: shared.clone(),
                producer: build_producer(session.client(), workload).await?,
                index: index as u8,
                values: values.clone(),
                is_end_to_end: false,
            };
            let until = Until {
                end_ns: patience_ns,
                records,
            };
            workers.push(shared.spawn(sending.closed(until, workload.in_flight_bytes)));
        }
        Ok::<_, PerfError>(workers)
    })?;
    let is_whole = monitor::wait_for(&workers, &shared, Phase::Fill, FILL_PATIENCE, control);
    let _ = cancel.send(Some(shared.clock.ns()));
    monitor::join(session, workers)?;
    let recorder = shared.recorder();
    let acknowledged = recorder.everything_acknowledged().records;
    if !is_whole || acknowledged == 0 {
        return Err(PerfError::NothingMeasured {
            what: "the topic could not be filled before it was to be read".into(),
            first_error: recorder.first_error().map(str::to_owned),
        });
    }
    Ok((acknowledged, recorder.weakest()))
}

/// Reads a topic from its start, again and again until the time is over.
pub(super) fn run(
    session: &Session,
    workload: &Workload,
    topic: &UsedTopic,
    stages: Option<Watch>,
    control: &mut Control<'_>,
) -> Result<(Measured, Consumed), PerfError> {
    let (cancel, cancelled) = watch::channel(None);
    let (from, length) = (LEAD + workload.warm_up(), workload.duration());
    let window = Window {
        from_ns: from.as_nanos() as u64,
        to_ns: (from + length).as_nanos() as u64,
    };
    let (topic_records, topic_bytes) = session.runtime().block_on(async {
        let described = session
            .client()
            .admin()
            .describe_topics([&*topic.name])
            .await?;
        let described = described
            .into_iter()
            .next()
            .expect("one topic was asked for");
        let now = UsedTopic {
            name: topic.name.clone(),
            description: described,
            ..*topic
        };
        Ok::<_, PerfError>(now.size())
    })?;
    let shared = Shared::new(window, cancelled, topic, 0);
    let _runtime = session.runtime().enter();
    let consumers = shares(workload, topic).into_iter().map(|partitions| {
        let reading = Reading {
            shared: shared.clone(),
            client: session.client().clone(),
            partitions,
            end_ns: window.to_ns,
        };
        shared.spawn(reading.run())
    });
    let started = Started {
        consumers: consumers.collect(),
        producers: Vec::new(),
        finish: None,
        stages,
        shared: shared.clone(),
        cancel,
    };
    let measured = monitor::watch(session, workload, started, control)?;
    let consumed = Consumed {
        topic_records,
        topic_bytes,
        filled_records: 0,
        passes: shared.recorder().delivered() as f64 / topic_records.max(1) as f64,
    };
    Ok((measured, consumed))
}

/// A consumer of what is there.
struct Reading {
    shared: Shared,
    client: Client,
    partitions: Vec<u32>,
    end_ns: u64,
}

impl Reading {
    async fn run(self) -> Result<(), PerfError> {
        let mut failures = Failures::default();
        loop {
            let topic = &*self.shared.topic;
            let mut consumer =
                build(&self.client, topic, &self.partitions, Start::Earliest, true).await?;
            let mut is_empty = true;
            while !consumer.is_at_end() {
                if self.shared.is_cancelled() || self.shared.clock.ns() >= self.end_ns {
                    return Ok(());
                }
                match consumer.poll(POLL).await {
                    Ok(Some(records)) => {
                        is_empty = false;
                        let sizes = records
                            .iter()
                            .map(|record| record.value().map_or(0, <[u8]>::len));
                        let value_bytes = sizes.sum::<usize>() as u64;
                        let now_ns = self.shared.clock.ns();
                        self.shared
                            .recorder()
                            .done(now_ns, records.len() as u64, value_bytes);
                    }
                    Ok(None) => {}
                    Err(error) => failures.count(&self.shared, error)?,
                }
            }
            if is_empty {
                // These partitions are empty; there is no use in asking again and again.
                tokio::time::sleep(POLL).await;
            }
        }
    }
}
