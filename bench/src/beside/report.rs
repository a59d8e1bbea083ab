//! Medians of the rounds, ratios within them, and how both are shown.

use serde::Serialize;

use crate::machine::Machine;
use crate::sender::Outcome;
use crate::series::median;
use crate::table::{figure, table};

/// What was sent.
#[derive(Clone, Debug, Serialize)]
pub struct Load {
    /// Partitions of the broker's topic.
    pub partitions: u32,
    /// Bytes of a record's value.
    pub record_bytes: usize,
    /// Records of a request.
    pub records_per_request: usize,
    /// Bytes of a request, the same for relay and broker.
    pub frame_bytes: usize,
    /// Bytes in flight; `None` in an open loop.
    pub in_flight_bytes: Option<usize>,
    /// Requests due per second; `None` in a closed loop.
    pub rate: Option<f64>,
    /// As on the wire: 0, 1 or -1.
    pub acks: i16,
    /// Interleaved rounds.
    pub rounds: usize,
    /// Measured seconds of each run.
    pub seconds: f64,
    /// Whether the broker ran in the sender's process, on one core with the default settings.
    pub is_embedded: bool,
}

/// One of those that were measured.
#[derive(Clone, Debug, Serialize)]
pub struct Contender {
    /// `broker`, or the relay's form.
    pub name: String,
    /// One for each round.
    pub rounds: Vec<Outcome>,
    /// The median of each figure over the rounds.
    pub median: Median,
}

/// Medians. Units are those of [`Outcome`].
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "the fields are named and explained in Outcome")]
pub struct Median {
    pub mb_s: f64,
    pub acks_s: f64,
    pub records_s: f64,
    pub cpu_ns_per_kb: f64,
    pub cpu_ns_per_ack: f64,
    pub threads_ns_per_kb: f64,
    pub sender_ns_per_ack: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
}

impl Contender {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            rounds: Vec::new(),
            median: Median::default(),
        }
    }

    fn sum_up(&mut self) {
        let of = |figure: fn(&Outcome) -> f64| median(self.rounds.iter().map(figure));
        self.median = Median {
            mb_s: of(|outcome| outcome.mb_s),
            acks_s: of(|outcome| outcome.acks_s),
            records_s: of(|outcome| outcome.records_s),
            cpu_ns_per_kb: of(|outcome| outcome.cpu_ns_per_kb),
            cpu_ns_per_ack: of(|outcome| outcome.cpu_ns_per_ack),
            threads_ns_per_kb: of(|outcome| outcome.threads_ns_per_kb),
            sender_ns_per_ack: of(|outcome| outcome.sender_ns_per_ack),
            p50_us: of(|outcome| outcome.latency_us.p50),
            p99_us: of(|outcome| outcome.latency_us.p99),
            p999_us: of(|outcome| outcome.latency_us.p999),
        };
    }

    fn failures(&self) -> u64 {
        let failures = self.rounds.iter();
        let failures = failures.map(|run| run.errors + run.unanswered + run.stray_answers);
        failures.sum()
    }
}

/// The broker against a relay: the median of the ratios within each round.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    /// Which relay.
    pub to: String,
    /// Throughput; higher is better.
    pub throughput: f64,
    /// CPU per byte; lower is better.
    pub cpu: f64,
    /// Median latency; lower is better.
    pub p50: f64,
    /// 99th percentile of latency; lower is better.
    pub p99: f64,
}

/// What was measured, on what, and what it says.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Changes with the meaning of the other fields.
    pub version: u32,
    /// Where it was measured.
    pub machine: Machine,
    /// What was sent.
    pub load: Load,
    /// Cores that were busy with something else just before the runs, their median: that much is in every figure of
    /// CPU but the threads' own.
    pub background_cores: f64,
    /// Relays, then the broker.
    pub contenders: Vec<Contender>,
    /// The broker against each relay.
    pub ratios: Vec<Ratio>,
    /// The weakest durability that any receipt of the broker confirmed.
    pub durability: Option<&'static str>,
    /// Requests of the broker that were refused, not answered, or answered twice.
    pub errors: u64,
}

impl Report {
    pub(super) fn new(
        machine: Machine,
        load: Load,
        background: Vec<f64>,
        mut contenders: Vec<Contender>,
    ) -> Self {
        contenders.iter_mut().for_each(Contender::sum_up);
        let (broker, relays) = contenders.split_last().expect("the broker is the last");
        let ratios = relays.iter().map(|relay| ratio(broker, relay)).collect();
        let mut durabilities: Vec<_> = broker.rounds.iter().map(|run| run.durability).collect();
        durabilities.sort_by_key(|durability| match durability {
            Some("replicated") => 3,
            Some("durable") => 2,
            Some(_) => 1,
            None => 0,
        });
        Self {
            version: 1,
            machine,
            load,
            background_cores: median(background),
            ratios,
            durability: durabilities.first().copied().flatten(),
            errors: broker.failures(),
            contenders,
        }
    }

    /// As a table for people.
    #[must_use]
    pub fn text(&self) -> String {
        let headings = [
            "durable produce",
            "MB/s",
            "acks/s",
            "records/s",
            "CPU ns/KB",
            "own threads",
            "CPU ns/ack",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "failed",
        ];
        let mut figures = table(&headings);
        for contender in &self.contenders {
            let median = &contender.median;
            let values = [
                median.mb_s,
                median.acks_s,
                median.records_s,
                median.cpu_ns_per_kb,
                median.threads_ns_per_kb,
                median.cpu_ns_per_ack,
                median.p50_us,
                median.p99_us,
                median.p999_us,
            ];
            let mut row = vec![contender.name.clone()];
            row.extend(values.map(figure));
            row.push(contender.failures().to_string());
            figures.add_row(row);
        }
        let mut ratios = table(&["broker against", "throughput", "CPU per KB", "p50", "p99"]);
        for ratio in &self.ratios {
            let values = [ratio.throughput, ratio.cpu, ratio.p50, ratio.p99];
            let mut row = vec![ratio.to.clone()];
            row.extend(values.map(|value| format!("{value:.2} ×")));
            ratios.add_row(row);
        }
        let mut text = format!(
            "{}\n{}\n\n{figures}\n\n{ratios}\n\n",
            self.machine.line(),
            self.headline()
        );
        let durability = self.durability.unwrap_or("nothing");
        text.push_str(&format!(
            "receipts confirm: {durability}; errors: {}",
            self.errors
        ));
        if let Some(error) = self
            .contenders
            .iter()
            .flat_map(|of| &of.rounds)
            .find_map(|run| run.first_error.as_ref())
        {
            text.push_str(&format!(" (first: {error})"));
        }
        text
    }

    fn headline(&self) -> String {
        let background = self.background_cores;
        let load = &self.load;
        let pace = match (load.in_flight_bytes, load.rate) {
            (Some(bytes), _) => format!("{bytes} bytes in flight (closed loop)"),
            (None, rate) => format!("{} requests a second (open loop)", rate.unwrap_or(0.0)),
        };
        format!(
            "{} × {} B a request, frames of {} B, {pace}, {} partitions, medians of {} rounds of {} s\n\
             just before each run {background:.2} cores were busy with something else",
            load.records_per_request,
            load.record_bytes,
            load.frame_bytes,
            load.partitions,
            load.rounds,
            load.seconds
        )
    }
}

fn ratio(broker: &Contender, relay: &Contender) -> Ratio {
    let of = |figure: fn(&Outcome) -> f64| {
        let rounds = broker.rounds.iter().zip(&relay.rounds);
        median(rounds.map(|(broker, relay)| figure(broker) / figure(relay)))
    };
    Ratio {
        to: relay.name.clone(),
        throughput: of(|outcome| outcome.mb_s),
        cpu: of(|outcome| outcome.cpu_ns_per_kb),
        p50: of(|outcome| outcome.latency_us.p50),
        p99: of(|outcome| outcome.latency_us.p99),
    }
}
