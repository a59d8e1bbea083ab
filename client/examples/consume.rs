//! Writes some records, reads them back to the end, and reads the last ones again.
//!
//! `cargo run -p corelane-client --example consume -- 127.0.0.1:9500`

use corelane_client::{Client, ErrorCode, NewTopic, RecordRef, Start};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:9500".into());
    let client = Client::connect(address).await?;
    let topic = "example-consume";
    match client.admin().create_topic(NewTopic::new(topic, 2)).await {
        Ok(id) => println!("created {topic} ({id})"),
        Err(error) if error.code() == Some(ErrorCode::TopicExists) => {}
        Err(error) => return Err(error.into()),
    }
    let values: Vec<String> = (0..100).map(|index| format!("value {index}")).collect();
    let producer = client.producer().build().await?;
    let records = values
        .iter()
        .map(|value| RecordRef::value(value.as_bytes()).partition(0));
    producer
        .send_batch(topic, records)
        .await?
        .await
        .into_result()?;

    // Every partition from its first record to where it ends now.
    let consumer = client
        .consumer()
        .assign_topic(topic, Start::Earliest)
        .until_end(true);
    let mut consumer = consumer.build().await?;
    let mut count = 0;
    while let Some(records) = consumer.next().await? {
        // Records borrow from the batch as it was received.
        for record in &records {
            check(record.value().is_some(), "the value is there")?;
            count += 1;
        }
    }
    println!("{count} records in {topic}");
    check(count >= values.len(), "all records are read")?;

    // The same consumer goes back.
    let first = consumer.seek_to(topic, 0, Start::Last(10)).await?;
    let mut last = Vec::new();
    while let Some(records) = consumer.next().await? {
        last.extend(
            records
                .iter()
                .filter_map(|record| record.value().map(<[u8]>::to_vec)),
        );
    }
    println!("from offset {first}: {} records", last.len());
    let expected = values[90..].iter().map(String::as_bytes);
    check(
        last.iter().map(Vec::as_slice).eq(expected),
        "the last ten are the last ten written",
    )?;
    Ok(())
}

fn check(holds: bool, what: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(format!("this does not hold: {what}"))
    }
}
