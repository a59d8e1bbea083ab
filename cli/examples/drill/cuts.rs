//! Connections that are cut again and again, with kill -9 in between: several idempotent producers
//! go on through it, and each of their records is in the log once and in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use corelane_client::{Client, Delivery, Durability, Producer, Record};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::broker_process::Launcher;
use super::faults::{Fault, Kill};
use super::history::{History, Place};
use super::input::Line;
use super::proxy::{Cuts, Moment, Proxy};
use super::random::Random;
use super::reading::read_to_end;
use super::{PARTITIONS, Topic, create_topic};

/// Producers, each with connections of its own.
const PRODUCERS: u32 = 4;

/// Records of one producer that may wait for their receipts.
const UNDER_WAY_MAX: usize = 400;

/// Records that a producer sends without a pause, at most, and the longest pause.
const LOT_MAX: u64 = 10;
const PAUSE_MS_MAX: u64 = 3;

/// Between attempts, so that a connection is back while others are still sending.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));

/// How often a producer tries to begin: its first connections are cut as well.
const BEGINNINGS_MAX: u32 = 1000;

/// One cut in so many has to be after a write and before its answer, for the drill to be of use.
const UNANSWERED_SHARE: u64 = 8;

/// How long it may take until the next cut, restarts included.
const PATIENCE: Duration = Duration::from_secs(60);

/// Cuts so many connections, and kills the broker so many times between.
///
/// # Errors
/// What went wrong: a record without a receipt, a broker that did not come back, fewer cuts than
/// were asked for, or the checker's verdict.
pub(crate) fn run(
    mut launcher: Launcher,
    cuts: u64,
    kills: u32,
    lines: Vec<Line>,
    mut random: Random,
) -> Result<(), String> {
    let mut broker = launcher.start()?;
    launcher.listen = broker.address().to_owned();
    let topic = create_topic(&launcher.corelane, broker.address())?;
    let history = History::new();
    let runtime = Runtime::new().map_err(|error| error.to_string())?;
    let proxy = runtime
        .block_on(Proxy::start(broker.address(), random.split()))
        .map_err(|error| format!("the proxy cannot listen: {error}"))?;
    let mut senders = Senders::start(&runtime, &topic, &proxy, lines, &history, &mut random);

    for kill in 0..kills {
        let aim = cuts * u64::from(kill + 1) / u64::from(kills + 1);
        senders.wait_for(&proxy, aim)?;
        thread::sleep(Duration::from_micros(random.within(0..5000)));
        broker = Kill
            .strike(broker, &launcher, &mut random)
            .map_err(|error| format!("kill {}: {error}", kill + 1))?;
        if (kill + 1) % 10 == 0 || kill + 1 == kills {
            let (cuts, acknowledged) = (proxy.cuts().total(), senders.acknowledged());
            println!(
                "{cuts} cuts, {} kills: {acknowledged} acknowledged",
                kill + 1
            );
        }
    }
    senders.wait_for(&proxy, cuts)?;
    proxy.stop_cutting();
    let made = proxy.cuts();
    let sent = senders.finish(&runtime)?;
    drop(runtime);

    let read = read_to_end(&topic, 0..PARTITIONS, &history)?;
    broker.stop()?;
    let broker = launcher.start()?;
    read_to_end(&topic, 0..PARTITIONS, &history)?;
    broker.stop()?;

    report(&made, kills);
    let verdict = history.finish();
    println!("{verdict}");
    if !verdict.holds() {
        return Err("the promise was broken".to_owned());
    }
    let acknowledged = verdict.counts.acknowledged_durable;
    if acknowledged != sent || read != sent {
        return Err(format!(
            "{sent} records were sent, {acknowledged} acknowledged and {read} read"
        ));
    }
    was_of_use(&made, cuts)
}

fn report(made: &Cuts, kills: u32) {
    println!("{} cuts, {kills} × kill -9:", made.total());
    for moment in Moment::ALL {
        println!("{:8} {}", made.at(moment), moment.name());
    }
    println!(
        "{} batches were durable and their producers were not told",
        made.unanswered_batches
    );
}

/// Whether every moment came up, and those that matter most often enough.
fn was_of_use(made: &Cuts, cuts: u64) -> Result<(), String> {
    if made.total() < cuts {
        return Err(format!("{} cuts of {cuts} were made", made.total()));
    }
    let unanswered = made.at(Moment::BeforeAnswer) + made.at(Moment::InAnswer);
    if unanswered < cuts / UNANSWERED_SHARE {
        return Err(format!(
            "{unanswered} of {cuts} cuts after a write and before its answer are too few to show anything"
        ));
    }
    let missing = Moment::ALL.into_iter().find(|moment| made.at(*moment) == 0);
    match missing {
        Some(moment) if cuts >= 200 => Err(format!("no cut {}", moment.name())),
        _ => Ok(()),
    }
}

/// The producers, at work.
struct Senders {
    tasks: Vec<JoinHandle<Result<u64, String>>>,
    is_over: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Senders {
    fn start(
        runtime: &Runtime,
        topic: &Topic,
        proxy: &Proxy,
        lines: Vec<Line>,
        history: &History,
        random: &mut Random,
    ) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (lines, numbers) = (Arc::new(lines), Arc::new(AtomicU64::new(0)));
        let tasks = (0..PRODUCERS).map(|number| {
            let sender = Sender {
                number,
                topic: topic.name.clone(),
                lines: Arc::clone(&lines),
                history: history.clone(),
                numbers: Arc::clone(&numbers),
                is_over: Arc::clone(&is_over),
                acknowledged: Arc::clone(&acknowledged),
                random: random.split(),
            };
            runtime.spawn(sender.run(proxy.address()))
        });
        Self {
            tasks: tasks.collect(),
            is_over,
            acknowledged,
        }
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many connections were cut.
    fn wait_for(&mut self, proxy: &Proxy, cuts: u64) -> Result<(), String> {
        #[expect(clippy::disallowed_methods, reason = "a drill runs in real time")]
        let now = Instant::now;
        let (mut last, mut since) = (proxy.cuts().total(), now());
        while last < cuts {
            if self.tasks.iter().any(JoinHandle::is_finished) {
                return Ok(());
            }
            if since.elapsed() > PATIENCE {
                return Err(format!(
                    "no connection was cut for {PATIENCE:?}, {last} before; {} records acknowledged",
                    self.acknowledged()
                ));
            }
            thread::sleep(Duration::from_millis(1));
            let made = proxy.cuts().total();
            if made > last {
                (last, since) = (made, now());
            }
        }
        Ok(())
    }

    /// Ends the sending, waits for all receipts, and gives the number of records.
    fn finish(self, runtime: &Runtime) -> Result<u64, String> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut sent = 0;
        for task in self.tasks {
            sent += runtime
                .block_on(task)
                .expect("a producer's task does not panic")?;
        }
        Ok(sent)
    }
}

/// One producer's records.
struct Sender {
    number: u32,
    topic: String,
    lines: Arc<Vec<Line>>,
    history: History,
    /// The number of the next record, whoever sends it.
    numbers: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    random: Random,
}

impl Sender {
    /// Sends until it is over, and waits for every receipt. Gives the number of records.
    async fn run(mut self, address: String) -> Result<u64, String> {
        let producer = self.begin(&address).await?;
        let (under_way, waiting) = mpsc::channel(UNDER_WAY_MAX);
        let receipts = tokio::spawn(note_receipts(
            waiting,
            self.history.clone(),
            Arc::clone(&self.acknowledged),
        ));
        let mut sent = 0;
        while !self.is_over.load(Ordering::Relaxed) && !under_way.is_closed() {
            let lines = Arc::clone(&self.lines);
            let from = self.random.within(0..lines.len() as u64) as usize;
            let lot = self.random.within(1..LOT_MAX + 1) as usize;
            for line in lines.iter().cycle().skip(from).take(lot) {
                let number = self.numbers.fetch_add(1, Ordering::Relaxed);
                let line = Line {
                    key: line.key.clone(),
                    value: format!("{} ({number})", line.value),
                };
                self.history.sent(number, self.number, &line);
                let record = Record::to(self.topic.as_str());
                let record = record.key(line.key).value(line.value);
                let delivery = producer.send(record).await;
                let delivery = delivery.map_err(|error| format!("record {number}: {error}"))?;
                sent += 1;
                // Whoever waits for receipts has said why it does not any more.
                let _ = under_way.send((number, delivery)).await;
            }
            let pause = self.random.within(0..PAUSE_MS_MAX + 1);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        drop(under_way);
        receipts.await.expect("noting receipts does not panic")?;
        Ok(sent)
    }

    /// A producer whose only way to the broker is the proxy. They have batches of different sizes.
    async fn begin(&mut self, address: &str) -> Result<Producer, String> {
        let mut last_error = String::new();
        for _ in 0..BEGINNINGS_MAX {
            let seed = self.random.within(0..u64::MAX);
            let client = Client::builder()
                .bootstrap([address])
                .use_bootstrap_only(true)
                .retry_backoff(BACKOFF.0, BACKOFF.1)
                .seed(seed);
            let begun = async {
                let producer = client.connect().await?.producer();
                producer.batch_bytes(512 << self.number).build().await
            };
            match begun.await {
                Ok(producer) => return Ok(producer),
                Err(error) => last_error = error.to_string(),
            }
            tokio::time::sleep(BACKOFF.0).await;
        }
        Err(format!(
            "producer {} cannot begin: {last_error}",
            self.number
        ))
    }
}

async fn note_receipts(
    mut waiting: mpsc::Receiver<(u64, Delivery)>,
    history: History,
    acknowledged: Arc<AtomicU64>,
) -> Result<(), String> {
    while let Some((number, delivery)) = waiting.recv().await {
        let receipt = delivery.await;
        let receipt = receipt.map_err(|error| format!("record {number}: {error}"))?;
        if receipt.durability != Durability::Durable {
            return Err(format!("a receipt promises too little: {receipt:?}"));
        }
        let place = Place {
            partition: receipt.partition,
            offset: receipt.offset,
        };
        history.acknowledged(number, place, true);
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
