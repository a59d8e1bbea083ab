//! Creates a topic, looks at it, and deletes it.
//!
//! `cargo run -p corelane-client --example admin -- 127.0.0.1:9500`

use corelane_client::{Client, ErrorCode, NewTopic, OffsetSpec, Record};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:9500".into());
    let client = Client::connect(address).await?;
    let admin = client.admin();

    for broker in admin.describe_cluster().await?.brokers {
        println!(
            "broker {} at {} with {} core(s)",
            broker.id,
            broker.address,
            broker.cores.len()
        );
    }

    // A name of its own, so that runs beside one another do not meet.
    let topic = format!("example-admin-{}", std::process::id());
    let id = admin.create_topic(NewTopic::new(&topic, 3)).await?;
    println!("created {topic} ({id})");
    let again = admin.create_topic(NewTopic::new(&topic, 3)).await;
    let code = again.err().and_then(|error| error.code());
    check(
        code == Some(ErrorCode::TopicExists),
        "a topic is created once",
    )?;

    let producer = client.producer().build().await?;
    producer
        .send(Record::to(&topic).partition(1).value("x"))
        .await?
        .await?;
    producer.close().await?;

    let listed = admin.list_topics().await?;
    check(
        listed.iter().any(|listing| listing.id == id),
        "the topic is listed",
    )?;
    let described = admin.describe_topics([topic.as_str()]).await?;
    check(
        described[0].partitions.len() == 3,
        "it has three partitions",
    )?;
    for partition in &described[0].partitions {
        println!(
            "partition {} on core {}: offsets {} to {}, {} bytes",
            partition.partition,
            partition.core,
            partition.log_start_offset,
            partition.log_end_offset,
            partition.size_bytes
        );
    }
    let offsets = admin
        .list_offsets([(topic.as_str(), 1, OffsetSpec::Latest)])
        .await?;
    check(offsets[0].offset == 1, "the record counts")?;

    admin.delete_topic(&topic).await?;
    let listed = admin.list_topics().await?;
    check(
        listed.iter().all(|listing| listing.id != id),
        "the topic is gone",
    )?;
    println!("deleted {topic}");
    Ok(())
}

fn check(holds: bool, what: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(format!("this does not hold: {what}"))
    }
}
