//! Hosts send measurements, and an aggregator writes their sums by minute and host to another topic.
//!
//! The aggregator commits how far it has read only once the sums of everything before are durable.
//! It stops in the middle, and another one goes on where it has committed: nothing is left out or
//! counted twice. (After a crash between sums and commit, those sums would be written again.)
//!
//! `cargo run -p corelane-client --example metrics_pipeline -- 127.0.0.1:9500`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corelane_client::{
    Client, Compression, Error, NewTopic, Producer, Rebalance, RebalanceListener, Record, Records,
    Start,
};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

const HOSTS: [&str; 6] = ["anton", "berta", "cesar", "dora", "emil", "frida"];
const PARTITIONS: u32 = 4;
/// How many measurements each host sends, one for each second.
const SECONDS: i64 = 1_500;
/// 2025-01-01T00:00:00Z, in milliseconds since the Unix epoch.
const BEGIN_MS: i64 = 1_735_689_600_000;
const WINDOW_MS: i64 = 60_000;

/// Sums of measurements, by host and the time at which the window begins.
type Sums = BTreeMap<(String, i64), u64>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:9500".into());
    let client = Client::connect(address).await?;
    // Names of its own, so that runs beside one another do not meet.
    let loads = format!("example-loads-{}", std::process::id());
    let sums = format!("{loads}-by-minute");
    let admin = client.admin();
    for topic in [&loads, &sums] {
        admin.create_topic(NewTopic::new(topic, PARTITIONS)).await?;
    }

    // Measurements wait a little for others, and go as compressed batches.
    let producer = client
        .producer()
        .linger(Duration::from_millis(10))
        .batch_bytes(8 * 1024)
        .compression(Compression::Zstd)
        .build()
        .await?;
    let mut hosts = JoinSet::new();
    for host in HOSTS {
        hosts.spawn(measure(producer.clone(), loads.clone(), host));
    }

    let total = HOSTS.len() * SECONDS as usize;
    let first = aggregate(&client, &loads, &sums, total / 2).await?;
    println!("the first aggregator stops after {first} of {total} measurements");
    let second = aggregate(&client, &loads, &sums, total - first).await?;
    println!("the second one went on, and read {second}");
    check(first < total, "the first aggregator stops in the middle")?;
    let committed = admin.group_offsets(&loads).await?;
    let committed: u64 = committed.iter().map(|partition| partition.offset).sum();
    check(committed == total as u64, "everything is committed")?;

    let mut expected = Sums::new();
    while let Some(sent) = hosts.join_next().await {
        expected.extend(sent??);
    }
    let written = read_sums(&client, &sums).await?;
    check(written == expected, "the sums are those of what was sent")?;
    for topic in [&loads, &sums] {
        admin.delete_topic(topic).await?;
    }
    Ok(())
}

/// Sends what a host measures, and returns the sums of it.
async fn measure(producer: Producer, topic: String, host: &'static str) -> Result<Sums, Error> {
    let (mut deliveries, mut sent) = (Vec::new(), Sums::new());
    for second in 0..SECONDS {
        let (time, load) = (BEGIN_MS + second * 1_000, second as u64 * 7 % 100);
        let record = Record::to(&topic).key(host).timestamp_ms(time);
        deliveries.push(producer.send(record.value(load.to_string())).await?);
        *sent.entry((host.into(), window_of(time))).or_default() += load;
    }
    for delivery in deliveries {
        delivery.await?;
    }
    Ok(sent)
}

/// Aggregates until so many measurements were read. Returns how many it were.
async fn aggregate(client: &Client, from: &str, to: &str, limit: usize) -> Result<usize, Error> {
    let aggregator = Arc::new(Aggregator {
        producer: client.producer().build().await?,
        topic: to.into(),
        open: Mutex::default(),
    });
    let group = client.group(from).topics([from]).auto_commit(None);
    let mut member = group.listener(Arc::clone(&aggregator)).join().await?;
    let (mut count, mut unwritten) = (0, 0);
    while count < limit {
        let Some(records) = member.poll(Duration::from_secs(10)).await? else {
            break;
        };
        aggregator.add(&records).await;
        count += records.len();
        unwritten += records.len();
        if unwritten >= 1_000 {
            aggregator.write_out(0..PARTITIONS).await?;
            member.commit().await?;
            unwritten = 0;
        }
    }
    // Its partitions go, so the listener writes out what is left.
    member.close().await?;
    Ok(count)
}

/// Sums that are not written out yet, by the partition that their measurements came from.
struct Aggregator {
    producer: Producer,
    topic: String,
    open: Mutex<BTreeMap<u32, Sums>>,
}

impl Aggregator {
    async fn add(&self, records: &Records) {
        let mut open = self.open.lock().await;
        add_up(open.entry(records.partition()).or_default(), records);
    }

    /// Writes out what came from these partitions, and returns once it is durable. A window may be
    /// written several times, each time with what has come since: whoever reads adds that up.
    async fn write_out(&self, partitions: impl IntoIterator<Item = u32>) -> Result<(), Error> {
        // Held to the end: nobody is to commit these partitions before.
        let mut open = self.open.lock().await;
        let mut deliveries = Vec::new();
        for partition in partitions {
            for ((host, window), sum) in open.remove(&partition).unwrap_or_default() {
                let record = Record::to(&self.topic).key(host).timestamp_ms(window);
                let record = record.value(sum.to_string());
                deliveries.push(self.producer.send(record).await?);
            }
        }
        for delivery in deliveries {
            delivery.await?;
        }
        Ok(())
    }
}

/// Finishes with partitions that go to other aggregators.
impl RebalanceListener for Aggregator {
    async fn revoked(&self, change: &Rebalance) {
        let outcome = match self.write_out(indexes(change)).await {
            Ok(()) => change.commit().await,
            failed => failed,
        };
        if let Err(error) = outcome {
            eprintln!("{error}; whoever gets these partitions reads the last measurements again");
        }
    }

    async fn lost(&self, change: &Rebalance) {
        // Whoever has them now reads again what was not committed.
        let mut open = self.open.lock().await;
        open.retain(|partition, _| !indexes(change).contains(partition));
    }
}

fn indexes(change: &Rebalance) -> Vec<u32> {
    let partitions = change.partitions().iter();
    partitions.map(|partition| partition.partition).collect()
}

/// Adds up what the aggregators have written.
async fn read_sums(client: &Client, topic: &str) -> Result<Sums, Error> {
    let consumer = client.consumer().assign_topic(topic, Start::Earliest);
    let mut consumer = consumer.until_end(true).build().await?;
    let (mut sums, mut rows) = (Sums::new(), 0);
    while let Some(records) = consumer.next().await? {
        rows += records.len();
        add_up(&mut sums, &records);
    }
    println!("{rows} rows hold the sums of {} windows", sums.len());
    Ok(sums)
}

/// Adds numbers up by host and window.
fn add_up(sums: &mut Sums, records: &Records) {
    for record in records {
        let host = record.key_text();
        let number = record.value_text();
        let entry = sums.entry((host.into(), window_of(record.timestamp_ms())));
        *entry.or_default() += number.parse::<u64>().unwrap_or(0);
    }
}

fn window_of(time_ms: i64) -> i64 {
    time_ms / WINDOW_MS * WINDOW_MS
}

fn check(holds: bool, what: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(format!("this does not hold: {what}"))
    }
}
