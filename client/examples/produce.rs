//! Sends records one by one and in a batch call, and checks their receipts.
//!
//! `cargo run -p corelane-client --example produce -- 127.0.0.1:9500`

use std::time::Duration;

use corelane_client::{Acks, Client, Durability, Error, ErrorCode, NewTopic, Record, RecordRef};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:9500".into());
    let client = Client::connect(address).await?;
    let topic = "example-produce";
    match client.admin().create_topic(NewTopic::new(topic, 4)).await {
        Ok(id) => println!("created {topic} ({id})"),
        Err(error) if error.code() == Some(ErrorCode::TopicExists) => {}
        Err(error) => return Err(error.into()),
    }

    let linger = Duration::from_millis(2);
    let producer = client
        .producer()
        .acks(Acks::All)
        .linger(linger)
        .build()
        .await?;

    // One record. Sending waits for room in the buffer, the delivery for the broker's answer.
    let record = Record::to(topic)
        .key("customer-7")
        .value("3 apples")
        .header("source", "example");
    let delivery = producer.send(record).await?;
    let receipt = delivery.await?;
    println!(
        "partition {}, offset {}: {}, flushed by {} replica(s)",
        receipt.partition, receipt.offset, receipt.durability, receipt.replicas_flushed
    );
    check(
        receipt.durability >= Durability::Durable,
        "the record is durable",
    )?;

    // Many records: one call, one future, a receipt for each.
    let values: Vec<String> = (0..1_000).map(|index| format!("order {index}")).collect();
    let records = values
        .iter()
        .map(|value| RecordRef::value(value.as_bytes()).key(b"customer-8"));
    let outcome = producer
        .send_batch(topic, records)
        .await?
        .await
        .into_result()?;
    let receipts = outcome.iter().collect::<Result<Vec<_>, Error>>()?;
    check(
        receipts.len() == values.len(),
        "every record has its receipt",
    )?;
    let in_order = receipts
        .windows(2)
        .all(|pair| pair[0].partition == pair[1].partition && pair[0].offset < pair[1].offset);
    check(in_order, "one key goes to one partition, in order")?;
    println!(
        "{} records more in partition {}",
        receipts.len(),
        receipts[0].partition
    );

    producer.close().await?;
    Ok(())
}

fn check(holds: bool, what: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(format!("this does not hold: {what}"))
    }
}
