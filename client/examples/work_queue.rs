//! A work queue: jobs go into a topic, and the workers of one group share them.
//!
//! One worker dies in the middle. After its session timeout the group gives its jobs to the others,
//! from the first one on that it has not committed: every job is done at least once, and a few may be
//! done twice.
//!
//! `cargo run -p corelane-client --example work_queue -- 127.0.0.1:9500`

use std::collections::BTreeMap;
use std::time::Duration;

use corelane_client::{
    Client, ConsumedRecord, Error, GroupConsumer, GroupDescription, GroupState, NewTopic,
    OffsetToCommit, Partitioner, Producer, Record, Start,
};
use tokio::sync::watch;

const WORKERS: [&str; 3] = ["worker 1", "worker 2", "worker 3"];
const PARTITIONS: u32 = 6;
const JOBS: u32 = 180;
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:9500".into());
    let client = Client::connect(address).await?;
    // Names of its own, so that runs beside one another do not meet.
    let jobs = format!("example-jobs-{}", std::process::id());
    let results = format!("{jobs}-results");
    let admin = client.admin();
    admin.create_topic(NewTopic::new(&jobs, PARTITIONS)).await?;
    admin.create_topic(NewTopic::new(&results, 1)).await?;

    let producer = client.producer().build().await?;
    let (close, closing) = watch::channel(false);
    let mut workers = Vec::new();
    for name in WORKERS {
        // So short that the jobs of a worker that died need not wait for long.
        let session = Duration::from_millis(1_500);
        let group = client.group(&jobs).topics([&jobs]).session_timeout(session);
        let member = group.auto_commit(None).join().await?;
        let (producer, results, closing) = (producer.clone(), results.clone(), closing.clone());
        workers.push(tokio::spawn(work(name, member, producer, results, closing)));
    }
    let is_shared = |group: &GroupDescription| {
        let is_shared = group.members.len() == WORKERS.len();
        is_shared && group.state == GroupState::Stable
    };
    until(&client, &jobs, "all workers have their share", is_shared).await?;

    // Jobs have no keys, and are to be spread evenly.
    let queue = client.producer().partitioner(Partitioner::RoundRobin);
    let queue = queue.build().await?;
    let mut deliveries = Vec::new();
    for job in 0..JOBS {
        let record = Record::to(&jobs).value(job.to_string());
        deliveries.push(queue.send(record).await?);
    }
    for delivery in deliveries {
        delivery.await?;
    }
    println!("{JOBS} jobs are in the queue");

    let dying = workers.remove(1);
    let finished = client.consumer().assign_topic(&results, Start::Earliest);
    let mut finished = finished.build().await?;
    let (mut count, mut by_dying) = (0, 0);
    while count < JOBS as usize && by_dying < 10 {
        let results = finished.poll(PATIENCE).await?.ok_or("no results come")?;
        count += results.len();
        let is_its = |result: &ConsumedRecord<'_>| worker_of(result) == WORKERS[1];
        by_dying += results.iter().filter(is_its).count();
    }
    dying.abort();
    println!("{} dies after {by_dying} jobs or a few more", WORKERS[1]);

    let is_empty = |group: &GroupDescription| {
        let partitions = &group.partitions;
        partitions.len() == PARTITIONS as usize && partitions.iter().all(|one| one.lag == Some(0))
    };
    until(&client, &jobs, "all jobs are done", is_empty).await?;
    close.send_replace(true);
    for worker in workers {
        worker.await??;
    }

    let (mut times_done, mut by_worker) = (BTreeMap::new(), BTreeMap::new());
    let consumer = client.consumer().assign_topic(&results, Start::Earliest);
    let mut consumer = consumer.until_end(true).build().await?;
    while let Some(records) = consumer.next().await? {
        for record in &records {
            let result = record.value_text();
            *times_done.entry(result.into_owned()).or_insert(0) += 1;
            *by_worker.entry(worker_of(&record).to_owned()).or_insert(0) += 1;
        }
    }
    let twice = times_done.values().filter(|times| **times > 1).count();
    println!(
        "{} jobs are done, {twice} of them more than once: {by_worker:?}",
        times_done.len()
    );
    for job in 0..JOBS {
        let result = square(job);
        if !times_done.contains_key(&result) {
            return Err(format!("this result is missing: {result}").into());
        }
    }
    admin.delete_topic(&jobs).await?;
    admin.delete_topic(&results).await?;
    Ok(())
}

/// Does jobs until it is to close. Only what is done is committed, job by job.
async fn work(
    name: &'static str,
    mut member: GroupConsumer,
    producer: Producer,
    results: String,
    mut closing: watch::Receiver<bool>,
) -> Result<(), Error> {
    loop {
        let jobs = tokio::select! {
            _ = closing.changed() => break,
            jobs = member.next() => jobs?,
        };
        for job in &jobs {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let number = job.value_text();
            let result = square(number.parse().unwrap_or_default());
            let record = Record::to(&results).value(result).header("worker", name);
            producer.send(record).await?.await?;

            // The result is durable: this job is done.
            let done = OffsetToCommit::after(&job);
            if let Err(error) = member.commit_offsets([done]).await {
                // Perhaps this worker was slow, and another one has the partition.
                println!("{name} could not commit a job, which may be done again: {error}");
            }
        }
    }
    member.close().await
}

fn square(job: u32) -> String {
    format!("the square of {job} is {}", job * job)
}

fn worker_of<'a>(result: &ConsumedRecord<'a>) -> &'a str {
    let worker = result.header("worker");
    str::from_utf8(worker.unwrap_or_default()).unwrap_or_default()
}

/// Asks about the group until it is as wanted.
async fn until(
    client: &Client,
    group: &str,
    what: &str,
    is_so: impl Fn(&GroupDescription) -> bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let asking = async {
        while !is_so(&client.admin().describe_group(group).await?) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok::<(), Error>(())
    };
    let in_time = tokio::time::timeout(PATIENCE, asking).await;
    Ok(in_time.map_err(|_| format!("within {PATIENCE:?} this does not come true: {what}"))??)
}
