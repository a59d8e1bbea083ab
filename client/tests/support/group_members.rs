//! What tests of members of groups have in common.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use corelane_client::{
    Client, GroupBuilder, GroupConsumer, Rebalance, RebalanceListener, RecordRef,
};

use super::state::State;
use super::{FakeBroker, plain};

/// How long a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A member of group `g` that reads topic `t`, with short waits.
pub(crate) fn joining(client: &Client) -> GroupBuilder {
    let group = client.group("g").topics(["t"]);
    group.max_wait(Duration::from_millis(20)).max_bytes(1_000)
}

/// Writes the numbers from 0 to every partition, in batches of ten.
pub(crate) async fn fill(client: &Client, topic: &str, partitions: u32, count: usize) {
    let producer = client.producer().build().await.unwrap();
    let values: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    for partition in 0..partitions {
        for chunk in values.chunks(10) {
            let records = chunk
                .iter()
                .map(|value| RecordRef::value(value.as_bytes()).partition(partition));
            let sent = producer.send_batch(topic, records).await.unwrap();
            sent.await.into_result().unwrap();
        }
    }
}

/// Reads until so many records came, as (partition, offset).
pub(crate) async fn read(member: &mut GroupConsumer, count: usize) -> Vec<(u32, u64)> {
    let mut read = Vec::new();
    while read.len() < count {
        let records = member.poll(PATIENCE).await.unwrap();
        let records = records.expect("there are more");
        read.extend(
            plain(&records)
                .iter()
                .map(|(partition, offset, _)| (*partition, *offset)),
        );
    }
    read
}

/// A broker with a topic `t` of so many partitions, with ten batches of ten records in each.
pub(crate) async fn filled(partitions: u32) -> (FakeBroker, Client) {
    let broker = FakeBroker::with_topic(2, partitions).await;
    let client = broker.client().await;
    fill(&client, "t", partitions, 100).await;
    (broker, client)
}

/// Waits until something is so at the broker.
pub(crate) async fn until(broker: &FakeBroker, is_so: impl Fn(&mut State) -> bool) {
    let look = async {
        while !is_so(&mut broker.state()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, look).await;
    in_time.expect("the broker never got there");
}

/// What listeners were told, one line for each call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Waits until there are so many lines.
    pub(crate) async fn until(&self, count: usize) {
        let look = async {
            while self.lines().len() < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, look).await;
        in_time.unwrap_or_else(|_| panic!("only {:?}", self.lines()));
    }

    /// A listener that writes its calls down.
    pub(crate) fn named(&self, name: &str) -> Writing {
        Writing {
            journal: self.clone(),
            name: name.to_owned(),
            seek: None,
            panics: false,
        }
    }

    /// A listener that begins to read partitions at an offset.
    pub(crate) fn seeking(&self, name: &str, offset: u64) -> Writing {
        Writing {
            seek: Some(offset),
            ..self.named(name)
        }
    }

    pub(crate) fn panicking(&self) -> Writing {
        Writing {
            panics: true,
            ..self.named("panicking")
        }
    }
}

#[derive(Debug)]
pub(crate) struct Writing {
    journal: Journal,
    name: String,
    seek: Option<u64>,
    panics: bool,
}

impl Writing {
    fn write(&self, what: &str, change: &Rebalance) {
        let mut line = format!("{} {what}", self.name);
        for of in change.partitions() {
            let offset = of
                .offset
                .map_or("?".to_owned(), |offset| offset.to_string());
            line += &format!(" {}-{}@{offset}", of.topic, of.partition);
        }
        self.journal.0.lock().unwrap().push(line);
    }
}

impl RebalanceListener for Writing {
    async fn assigned(&self, change: &Rebalance) {
        self.write("assigned", change);
        assert!(!self.panics, "as the test wants it");
        for of in change.partitions() {
            if let Some(offset) = self.seek {
                change.seek(&of.topic, of.partition, offset).unwrap();
            }
        }
    }

    async fn revoked(&self, change: &Rebalance) {
        // What is awaited here holds up nothing but this change.
        tokio::task::yield_now().await;
        for of in change.partitions() {
            let late = change.seek(&of.topic, of.partition, 0);
            late.expect_err("it is not about to be read");
        }
        self.write("revoked", change);
    }

    async fn lost(&self, change: &Rebalance) {
        self.write("lost", change);
    }
}
