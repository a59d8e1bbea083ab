//! Cameras at football games tell what happens; phones, televisions and the news follow.
//!
//! All games share one topic. Records are keyed by game, so the events of a game go to one
//! partition and stay in order. Each audience is a consumer group: every group gets every event, and
//! its members share the partitions, also while one joins late and another leaves early.
//!
//! `cargo run -p corelane-client --example games -- 127.0.0.1:9500`

use std::collections::BTreeMap;
use std::time::Duration;

use corelane_client::{
    Client, Error, GroupBuilder, NewTopic, Producer, Rebalance, RebalanceListener, Record,
};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

/// Each of the four partitions gets at least one of them, so that all members have some to see.
const GAMES: [&str; 5] = ["AJA-PSV", "ATL-RMA", "FCP-SLB", "GAL-FEN", "MCI-MUN"];
const AUDIENCES: [&str; 3] = ["phones", "tvs", "news"];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:9500".into());
    let client = Client::connect(address).await?;
    // A name of its own, so that runs beside one another do not meet.
    let topic = format!("example-games-{}", std::process::id());
    let admin = client.admin();
    admin.create_topic(NewTopic::new(&topic, 4)).await?;

    let seen = watch::Sender::default();
    let join = |audience, name| {
        let group = client.group(format!("{topic}-{audience}")).topics([&topic]);
        Member::start(group, audience, name, seen.clone())
    };
    let mut members = vec![
        join("phones", "phone 1"),
        join("phones", "phone 2"),
        join("phones", "phone 3"),
        join("tvs", "tv 1"),
        join("news", "reporter 1"),
    ];
    let leaving = join("news", "reporter 2");

    let producer = client.producer().build().await?;
    let (whistle, playing) = watch::channel(true);
    let mut cameras = JoinSet::new();
    for game in GAMES {
        cameras.spawn(film(producer.clone(), topic.clone(), game, playing.clone()));
    }

    // In the middle of the games a reporter goes, and a television comes. They last until it is on.
    let has_begun = |seen: &Seen| seen.by_member.values().filter(|count| **count > 9).count() == 6;
    until(&seen, "each member sees some events", has_begun).await?;
    leaving.leave().await?;
    members.push(join("tvs", "tv 2"));
    let is_watched = |seen: &Seen| seen.by_member.get("tv 2").is_some_and(|count| *count > 9);
    until(&seen, "the second television sees some", is_watched).await?;
    whistle.send_replace(false);

    let mut expected = BTreeMap::new();
    while let Some(filmed) = cameras.join_next().await {
        let (game, count) = filmed??;
        let numbers: Vec<u32> = (0..count).collect();
        for audience in AUDIENCES {
            expected.insert((audience, game.to_owned()), numbers.clone());
        }
    }
    let all = expected.values().map(Vec::len).sum();
    println!("the games are over, after {} events", all / AUDIENCES.len());
    let is_over = |seen: &Seen| seen.by_member.values().sum::<usize>() >= all;
    until(&seen, "each audience sees every event", is_over).await?;
    for member in members {
        member.leave().await?;
    }

    let seen = seen.borrow();
    println!("events seen by each member: {:?}", seen.by_member);
    for (place, sent) in &expected {
        let got = seen.numbers.get(place);
        if got != Some(sent) {
            let count = sent.len();
            return Err(format!("{place:?}: events 0..{count} were sent, and seen {got:?}").into());
        }
    }
    println!("each audience saw every event once, and those of a game in order");
    admin.delete_topic(&topic).await?;
    Ok(())
}

/// Sends the events of a game, numbered from 0, until the final whistle.
async fn film(
    producer: Producer,
    topic: String,
    game: &'static str,
    playing: watch::Receiver<bool>,
) -> Result<(&'static str, u32), Error> {
    let mut number = 0;
    while *playing.borrow() {
        let record = Record::to(&topic).key(game).value(number.to_string());
        producer.send(record).await?.await?;
        number += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok((game, number))
}

/// What all audiences have seen so far.
#[derive(Default)]
struct Seen {
    /// The numbers of the events, by audience and game, in the order in which they were seen.
    numbers: BTreeMap<(&'static str, String), Vec<u32>>,
    /// How many events each member has seen.
    by_member: BTreeMap<&'static str, usize>,
}

/// A member of an audience, on a task of its own.
struct Member {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
}

impl Member {
    fn start(
        group: GroupBuilder,
        audience: &'static str,
        name: &'static str,
        seen: watch::Sender<Seen>,
    ) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            // Members hear of each other with their heartbeats, every third of this.
            let group = group.session_timeout(Duration::from_secs(5));
            let mut member = group.listener(Announcer(name)).join().await?;
            loop {
                tokio::select! {
                    _ = &mut stopped => break,
                    records = member.next() => for record in &records? {
                        let game = record.key_text();
                        let number = record.value_text();
                        seen.send_modify(|seen| {
                            let numbers = seen.numbers.entry((audience, game.into())).or_default();
                            numbers.push(number.parse().unwrap_or(u32::MAX));
                            *seen.by_member.entry(name).or_default() += 1;
                        });
                    },
                }
            }
            // What was seen is committed, and the others get the partitions at once.
            member.close().await
        });
        Self { stop, task }
    }

    async fn leave(self) -> Result<(), Box<dyn std::error::Error>> {
        // Nobody listens if the member has failed, which its task tells.
        let _ = self.stop.send(());
        Ok(self.task.await??)
    }
}

/// Tells of partitions that come and go. Records count as processed when the next ones are asked
/// for; what was processed is committed every few seconds, and before `revoked` is called.
struct Announcer(&'static str);

impl RebalanceListener for Announcer {
    async fn assigned(&self, change: &Rebalance) {
        self.announce("gets", change);
    }

    async fn revoked(&self, change: &Rebalance) {
        self.announce("hands over", change);
    }

    async fn lost(&self, change: &Rebalance) {
        self.announce("lost, so that others see the last events again:", change);
    }
}

impl Announcer {
    fn announce(&self, what: &str, change: &Rebalance) {
        let partitions = change.partitions().iter();
        let partitions: Vec<u32> = partitions.map(|partition| partition.partition).collect();
        println!("{} {what} {partitions:?}", self.0);
    }
}

async fn until(
    seen: &watch::Sender<Seen>,
    what: &str,
    is_so: impl Fn(&Seen) -> bool,
) -> Result<(), String> {
    let mut seen = seen.subscribe();
    let waiting = seen.wait_for(|seen| is_so(seen));
    match tokio::time::timeout(Duration::from_secs(20), waiting).await {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("within 20 s this does not come true: {what}")),
    }
}
