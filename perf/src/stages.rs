//! How long the stages of a broker took while a run was counted.
//!
//! Owns what is read of the broker's admin endpoint, and when: its histograms count from its start, so what they gained
//! between the end of the warm-up and the end is the run's. Never mixes up brokers: the endpoint has to know the topic.

use std::time::Duration;

use corelane_broker::admin::fetch;
use corelane_broker::admin::state::{BrokerState, CoreState, Counts, StoreState};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::error::PerfError;
use crate::session::UsedTopic;
use crate::workload::Kind;

/// The stages of a broker during a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stages {
    /// The admin endpoint that they were read from.
    pub admin: String,
    /// Seconds between the two readings, by the broker's clock.
    pub seconds: f64,
    /// Why there is nothing, or less than there should be. `None`: all cores said what they did.
    pub problem: Option<String>,
    /// The stages, in the order in which a request comes through them.
    pub times: Vec<StageTimes>,
}

/// How long one stage took, over all cores, and over everything that the broker did meanwhile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageTimes {
    /// `produce`, `fetch`, or `any` for what is not told apart.
    pub request: String,
    /// The stage.
    pub stage: String,
    /// What was timed: `requests`, `batches`, `groups`, `waits`, `reads` or `sends`.
    pub of: String,
    /// How many of them.
    pub count: u64,
    /// The mean, from the exact sum, microseconds. `None` where there was nothing, as below.
    pub mean_us: Option<f64>,
    /// The upper bound of the histogram's step that the median is in, microseconds: at most a sixteenth above it.
    pub p50_us: Option<u64>,
    /// Likewise of 99 %.
    pub p99_us: Option<u64>,
    /// Likewise of the longest.
    pub max_us: Option<u64>,
}

/// Where a stage is found in what the broker says.
enum Source {
    /// A stage of requests of a kind, in each core.
    Stage(&'static str, &'static str),
    /// All of a request of a kind, in each core.
    Request(&'static str),
    /// Of each core.
    Core(fn(&CoreState) -> &Counts),
    /// Of each store.
    Store(fn(&StoreState) -> &Counts),
}

/// A stage that can be shown: the request, its name, what is timed, and where it is found.
type Known = (&'static str, &'static str, &'static str, Source);

const PRODUCE: [Known; 6] = [
    (
        "produce",
        "queue",
        "requests",
        Source::Stage("Produce", "queue"),
    ),
    (
        "produce",
        "hop",
        "requests",
        Source::Stage("Produce", "forward"),
    ),
    (
        "produce",
        "journal-wait",
        "groups",
        Source::Store(|store| &store.group_wait),
    ),
    (
        "produce",
        "write-and-flush",
        "groups",
        Source::Store(|store| &store.group_write),
    ),
    (
        "produce",
        "until-durable",
        "batches",
        Source::Stage("Produce", "flush"),
    ),
    (
        "produce",
        "whole-request",
        "requests",
        Source::Request("Produce"),
    ),
];

const FETCH: [Known; 5] = [
    (
        "fetch",
        "queue",
        "requests",
        Source::Stage("Fetch", "queue"),
    ),
    (
        "fetch",
        "hop",
        "requests",
        Source::Stage("Fetch", "forward"),
    ),
    (
        "fetch",
        "wait-for-records",
        "waits",
        Source::Stage("Fetch", "wait"),
    ),
    (
        "fetch",
        "disk-read",
        "reads",
        Source::Stage("Fetch", "disk"),
    ),
    (
        "fetch",
        "whole-request",
        "requests",
        Source::Request("Fetch"),
    ),
];

const REPLY: Known = ("any", "reply", "sends", Source::Core(|core| &core.sends));

/// A state is shown again for a second at most; then there is a new one.
const REPEATED_MAX: Duration = Duration::from_millis(1_500);
/// How often a new one is asked for.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Reads an admin endpoint at the right moments.
pub(crate) struct Watch {
    admin: String,
    kind: Kind,
    /// When what was read last was taken.
    seen: Seen,
}

/// Which state of which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    started_ms: i64,
    taken_us: u64,
}

impl Seen {
    fn of(state: &BrokerState) -> Self {
        Self {
            started_ms: state.started_ms,
            taken_us: state.taken_us,
        }
    }
}

/// The state at the beginning, as soon as it is there.
pub(crate) struct Begun {
    watch: Watch,
    reading: JoinHandle<Result<BrokerState, String>>,
}

/// Both states, as soon as they are there.
pub(crate) struct Ended(JoinHandle<Stages>);

impl Watch {
    /// Looks whether the endpoint answers, and is that of the broker which has this topic.
    pub(crate) async fn open(
        admin: &str,
        kind: Kind,
        topic: &UsedTopic,
    ) -> Result<Self, PerfError> {
        let failed = |problem| PerfError::Admin {
            admin: admin.to_owned(),
            problem,
        };
        let mut state = fetch(admin).await.map_err(failed)?;
        if !knows(&state, topic) {
            // Perhaps it is shown as it was before the topic was made.
            state = newer(admin, Seen::of(&state)).await.map_err(failed)?;
        }
        if !knows(&state, topic) {
            return Err(failed(format!(
                "it does not know topic {}, so it is another broker's",
                topic.name
            )));
        }
        Ok(Self {
            admin: admin.to_owned(),
            kind,
            seen: Seen::of(&state),
        })
    }

    /// What comes from now on counts.
    pub(crate) fn begin(self, runtime: &Handle) -> Begun {
        let (admin, seen) = (self.admin.clone(), self.seen);
        let reading = runtime.spawn(async move { newer(&admin, seen).await });
        Begun {
            watch: self,
            reading,
        }
    }
}

impl Begun {
    /// What comes from now on does not count any more.
    pub(crate) fn end(self, runtime: &Handle) -> Ended {
        let Self { watch, reading } = self;
        Ended(runtime.spawn(async move {
            let read = async {
                let before = reading.await.expect("reading does not panic")?;
                let after = newer(&watch.admin, Seen::of(&before)).await?;
                Ok((before, after))
            };
            match read.await {
                Ok((before, after)) => between(watch.admin, watch.kind, &before, &after),
                Err(problem) => Stages::without(watch.admin, problem),
            }
        }))
    }
}

impl Ended {
    /// Waits for the second reading.
    pub(crate) fn join(self, runtime: &Handle) -> Stages {
        runtime.block_on(self.0).expect("reading does not panic")
    }
}

impl StageTimes {
    /// Its name for people.
    #[must_use]
    pub fn title(&self) -> String {
        let stage = self.stage.replace('-', " ");
        match self.request.as_str() {
            "any" => stage,
            request => format!("{request}: {stage}"),
        }
    }
}

impl Stages {
    fn without(admin: String, problem: String) -> Self {
        Self {
            admin,
            seconds: 0.0,
            problem: Some(problem),
            times: Vec::new(),
        }
    }
}

fn knows(state: &BrokerState, topic: &UsedTopic) -> bool {
    let id = topic.description.id.to_string();
    state.topics.iter().any(|known| known.id == id)
}

/// A state that was taken after one that was seen already.
async fn newer(admin: &str, seen: Seen) -> Result<BrokerState, String> {
    let mut waited = Duration::ZERO;
    loop {
        let state = fetch(admin).await?;
        if Seen::of(&state) != seen {
            return Ok(state);
        }
        if waited >= REPEATED_MAX {
            return Err(format!(
                "it shows the same for {} s",
                REPEATED_MAX.as_secs_f64()
            ));
        }
        sleep(ASK_AGAIN).await;
        waited += ASK_AGAIN;
    }
}

/// What was gained between two states of a broker.
fn between(admin: String, kind: Kind, before: &BrokerState, after: &BrokerState) -> Stages {
    if before.started_ms != after.started_ms {
        return Stages::without(admin, "the broker was started anew meanwhile".to_owned());
    }
    let mut silent: Vec<u16> = [before, after]
        .iter()
        .flat_map(|state| &state.silent_cores)
        .copied()
        .collect();
    silent.sort_unstable();
    silent.dedup();
    let problem = (!silent.is_empty()).then(|| {
        let silent: Vec<_> = silent.iter().map(u16::to_string).collect();
        format!(
            "without what core {} did: it did not answer",
            silent.join(", ")
        )
    });
    let (produce, fetch) = match kind {
        Kind::Produce | Kind::Latency => (&PRODUCE[..], &[][..]),
        Kind::Consume => (&[][..], &FETCH[..]),
        Kind::EndToEnd => (&PRODUCE[..], &FETCH[..]),
    };
    let known = produce.iter().chain(fetch).chain([&REPLY]);
    Stages {
        admin,
        seconds: after.taken_us.saturating_sub(before.taken_us) as f64 / 1e6,
        problem,
        times: known.map(|known| times(known, before, after)).collect(),
    }
}

fn times(
    (request, stage, of, source): &Known,
    before: &BrokerState,
    after: &BrokerState,
) -> StageTimes {
    let mut gained = Counts::default();
    for later in &after.cores {
        // A core that was silent once has no difference.
        let earlier = before.cores.iter().find(|core| core.core == later.core);
        let Some(earlier) = earlier else { continue };
        if let Some((later, earlier)) = of_core(source, later).zip(of_core(source, earlier)) {
            gained.add(&later.since(earlier));
        }
    }
    if let Source::Store(read) = source {
        for later in &after.stores {
            let earlier = before
                .stores
                .iter()
                .find(|store| store.store == later.store);
            if let Some(earlier) = earlier {
                gained.add(&read(later).since(read(earlier)));
            }
        }
    }
    let count = gained.count();
    StageTimes {
        request: (*request).to_owned(),
        stage: (*stage).to_owned(),
        of: (*of).to_owned(),
        count,
        mean_us: (count > 0).then(|| gained.sum as f64 / count as f64),
        p50_us: gained.quantile(0.5),
        p99_us: gained.quantile(0.99),
        max_us: (count > 0).then(|| gained.max()),
    }
}

fn of_core<'s>(source: &Source, core: &'s CoreState) -> Option<&'s Counts> {
    match source {
        Source::Stage(api, stage) => {
            let mut stages = core.stages.iter();
            let found = stages.find(|one| one.api == *api && one.stage == *stage);
            found.map(|found| &found.times)
        }
        Source::Request(api) => {
            let found = core.requests.iter().find(|one| one.api == *api);
            found.map(|found| &found.times)
        }
        Source::Core(read) => Some(read(core)),
        Source::Store(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use corelane_broker::admin::state::{RequestState, StageState};

    use super::*;

    fn counts(steps: &[(u64, u64)]) -> Counts {
        Counts {
            sum: steps.iter().map(|(upto, count)| upto * count).sum(),
            steps: steps.to_vec(),
        }
    }

    fn core(core: u16, queue: &[(u64, u64)], sends: &[(u64, u64)]) -> CoreState {
        CoreState {
            core,
            stages: vec![StageState {
                api: "Produce".to_owned(),
                stage: "queue".to_owned(),
                times: counts(queue),
            }],
            requests: vec![RequestState {
                api: "Produce".to_owned(),
                times: counts(queue),
                errors: Vec::new(),
            }],
            sends: counts(sends),
            ..CoreState::default()
        }
    }

    fn state(taken_us: u64, cores: Vec<CoreState>, written: &[(u64, u64)]) -> BrokerState {
        BrokerState {
            taken_us,
            cores,
            stores: vec![StoreState {
                group_write: counts(written),
                ..StoreState::default()
            }],
            ..BrokerState::default()
        }
    }

    fn find<'s>(stages: &'s Stages, request: &str, stage: &str) -> &'s StageTimes {
        let mut times = stages.times.iter();
        let found = times.find(|one| one.request == request && one.stage == stage);
        found.unwrap_or_else(|| panic!("{request} {stage} is not in {stages:?}"))
    }

    #[test]
    fn what_was_before_is_left_out_and_cores_are_added_up() {
        let before = state(
            1_000_000,
            vec![core(0, &[(10, 5)], &[(1, 7)]), core(1, &[(900, 1)], &[])],
            &[(50, 2)],
        );
        let after = state(
            3_500_000,
            vec![
                core(0, &[(10, 8), (20, 95)], &[(1, 7)]),
                core(1, &[(900, 3)], &[(4, 1)]),
            ],
            &[(50, 3)],
        );
        let stages = between("a".to_owned(), Kind::Produce, &before, &after);
        assert_eq!((stages.seconds, &stages.problem), (2.5, &None));
        let queue = find(&stages, "produce", "queue");
        assert_eq!((queue.count, queue.of.as_str()), (100, "requests"));
        assert_eq!(
            queue.mean_us,
            Some((3 * 10 + 95 * 20 + 2 * 900) as f64 / 100.0)
        );
        assert_eq!(
            (queue.p50_us, queue.p99_us, queue.max_us),
            (Some(20), Some(900), Some(900))
        );
        assert_eq!(find(&stages, "produce", "whole-request").count, 100);
        let write = find(&stages, "produce", "write-and-flush");
        assert_eq!((write.count, write.max_us), (1, Some(50)));
        assert_eq!(find(&stages, "any", "reply").count, 1);
        let hop = find(&stages, "produce", "hop");
        assert_eq!(
            (hop.count, hop.mean_us, hop.p50_us, hop.max_us),
            (0, None, None, None)
        );
        assert!(!stages.times.iter().any(|one| one.request == "fetch"));
    }

    #[test]
    fn a_load_has_the_stages_of_its_requests() {
        let state = state(0, Vec::new(), &[]);
        let requests = |kind| {
            let stages = between("a".to_owned(), kind, &state, &state);
            let mut requests: Vec<_> = stages.times.into_iter().map(|one| one.request).collect();
            requests.dedup();
            requests
        };
        assert_eq!(requests(Kind::Latency), ["produce", "any"]);
        assert_eq!(requests(Kind::Consume), ["fetch", "any"]);
        assert_eq!(requests(Kind::EndToEnd), ["produce", "fetch", "any"]);
    }

    #[test]
    fn a_core_that_was_silent_once_is_left_out_and_named() {
        let mut before = state(0, vec![core(0, &[(10, 5)], &[])], &[]);
        before.silent_cores.push(1);
        let both = vec![core(0, &[(10, 6)], &[]), core(1, &[(10, 77)], &[])];
        let stages = between("a".to_owned(), Kind::Produce, &before, &state(1, both, &[]));
        assert_eq!(find(&stages, "produce", "queue").count, 1);
        assert!(stages.problem.unwrap().contains("core 1"));
    }

    #[test]
    fn another_broker_s_counts_are_no_difference() {
        let mut after = state(5, vec![core(0, &[(10, 5)], &[])], &[]);
        let before = after.clone();
        after.started_ms += 1;
        let stages = between("a".to_owned(), Kind::Produce, &before, &after);
        assert!(stages.times.is_empty());
        assert!(stages.problem.unwrap().contains("anew"));
    }
}
