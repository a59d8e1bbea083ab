//! Reads again from a point in time: records have times, and a reader may begin at any of them.
//!
//! `cargo run -p corelane-client --example replay -- 127.0.0.1:9500`

use std::ops::Range;

use corelane_client::{Client, Consumer, Error, NewTopic, Record, Start};

const PARTITIONS: u32 = 3;
/// 2025-01-01T00:00:00Z, in milliseconds since the Unix epoch.
const BEGIN_MS: i64 = 1_735_689_600_000;
/// There is one record for each second.
const SECONDS: i64 = 600;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:9500".into());
    let client = Client::connect(address).await?;
    // A name of its own, so that runs beside one another do not meet.
    let topic = format!("example-replay-{}", std::process::id());
    let new = NewTopic::new(&topic, PARTITIONS);
    client.admin().create_topic(new).await?;

    // A record that brings no time gets that of its sending; these bring their own.
    let producer = client.producer().build().await?;
    let mut deliveries = Vec::new();
    for second in 0..SECONDS {
        let record = Record::to(&topic)
            .key(format!("meter-{}", second % 10))
            .value(format!("reading {second}"))
            .timestamp_ms(BEGIN_MS + second * 1_000);
        deliveries.push(producer.send(record).await?);
    }
    for delivery in deliveries {
        delivery.await?;
    }

    // The first reader reads everything.
    let consumer = client.consumer().assign_topic(&topic, Start::Earliest);
    let mut first = consumer.until_end(true).build().await?;
    expect("from the first record on", &mut first, 0..SECONDS).await?;

    // The second one begins in the middle: in each partition at the first record at or after it.
    let middle = BEGIN_MS + SECONDS / 2 * 1_000;
    let consumer = client
        .consumer()
        .assign_topic(&topic, Start::Timestamp(middle));
    let mut second = consumer.until_end(true).build().await?;
    expect("from the middle on", &mut second, SECONDS / 2..SECONDS).await?;

    // The first one goes back as well. No record has this very time; the next one has second 540.
    let last_minute = Start::Timestamp(BEGIN_MS + (SECONDS - 60) * 1_000 - 500);
    for partition in 0..PARTITIONS {
        let offset = first.seek_to(&topic, partition, last_minute).await?;
        println!("partition {partition} goes back to offset {offset}");
    }
    expect("of the last minute", &mut first, SECONDS - 60..SECONDS).await?;

    // Behind the last record there is nothing yet.
    let late = Start::Timestamp(BEGIN_MS + SECONDS * 1_000);
    let consumer = client.consumer().assign_topic(&topic, late);
    let mut third = consumer.until_end(true).build().await?;
    expect("after the last one", &mut third, 0..0).await?;
    client.admin().delete_topic(&topic).await?;
    Ok(())
}

/// Reads to the end, and checks that it is the records of these seconds, each once.
async fn expect(
    what: &str,
    consumer: &mut Consumer,
    seconds: Range<i64>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut read = read(consumer).await?;
    println!("{} records {what}", read.len());
    // Partitions have no order among them.
    read.sort();
    let expected = seconds.map(|second| (BEGIN_MS + second * 1_000, format!("reading {second}")));
    if !expected.eq(read) {
        return Err(format!("the records {what} are not those that were written").into());
    }
    Ok(())
}

/// The time and the value of each record up to the end.
async fn read(consumer: &mut Consumer) -> Result<Vec<(i64, String)>, Error> {
    let mut read = Vec::new();
    while let Some(records) = consumer.next().await? {
        for record in &records {
            let value = record.value_text();
            read.push((record.timestamp_ms(), value.into_owned()));
        }
    }
    Ok(read)
}
