//! Watching a run: when counting begins and ends, that it can be ended before, and that what was sent is awaited.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::{DRAIN, Measured, Shared, Started, Worker};
use crate::control::{Control, Phase, Progress};
use crate::error::PerfError;
use crate::processor_time::Spent;
use crate::session::Session;
use crate::workload::Workload;

/// How often the run is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How often its end is looked for.
const LOOK_FOR_END: Duration = Duration::from_millis(2);
/// Consumers that are handed nothing for so long will not be handed what is missing.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long workers that were told to end may take.
const ENDING: Duration = Duration::from_secs(1);

/// Speeds between two looks.
struct Pulse {
    phase: Phase,
    since_ns: u64,
    records_before: u64,
    last: (u64, u64, u64),
}

impl Pulse {
    fn new(phase: Phase, shared: &Shared) -> Self {
        let delivered = shared.recorder().progress();
        let now_ns = shared.clock.ns();
        Self {
            phase,
            since_ns: now_ns,
            records_before: delivered.0,
            last: (now_ns, delivered.0, delivered.1),
        }
    }

    fn look(&mut self, shared: &Shared, of: Option<Duration>) -> Progress {
        let now_ns = shared.clock.ns();
        let recorder = shared.recorder();
        let (records, value_bytes) = recorder.progress();
        let (last_ns, last_records, last_bytes) = self.last;
        let seconds = (now_ns - last_ns).max(1) as f64 / 1e9;
        self.last = (now_ns, records, value_bytes);
        Progress {
            phase: self.phase,
            elapsed: Duration::from_nanos(now_ns - self.since_ns),
            of,
            records: records - self.records_before,
            records_per_s: (records - last_records) as f64 / seconds,
            mb_s: (value_bytes - last_bytes) as f64 / seconds / 1e6,
            p99_us: recorder.recent_p99_us(now_ns),
            errors: recorder.errors(),
        }
    }
}

/// Waits for workers that end by themselves, for at most `patience`. `false` if the run was ended before.
pub(super) fn wait_for(
    workers: &[Worker],
    shared: &Shared,
    phase: Phase,
    patience: Duration,
    control: &mut Control<'_>,
) -> bool {
    let mut pulse = Pulse::new(phase, shared);
    let started_ns = shared.clock.ns();
    let mut looked_ns = started_ns;
    loop {
        let now_ns = shared.clock.ns();
        if workers.iter().all(Worker::is_finished) {
            return true;
        }
        if control.stop.load(Ordering::Relaxed)
            || shared.has_failed.load(Ordering::Relaxed)
            || now_ns - started_ns > patience.as_nanos() as u64
        {
            return false;
        }
        if now_ns - looked_ns >= LOOK.as_nanos() as u64 {
            looked_ns = now_ns;
            (control.observe)(&pulse.look(shared, None));
        }
        thread::sleep(LOOK_FOR_END);
    }
}

/// The outcome of workers that were told to end. Those that do not are left to themselves.
pub(super) fn join(session: &Session, workers: Vec<Worker>) -> Result<(), PerfError> {
    let deadline = corelane_bench::clock::Clock::start();
    while deadline.elapsed() < ENDING && !workers.iter().all(Worker::is_finished) {
        thread::sleep(LOOK_FOR_END);
    }
    for worker in workers {
        if worker.is_finished() {
            session
                .runtime()
                .block_on(worker)
                .expect("a worker does not panic")?;
        } else {
            worker.abort();
        }
    }
    Ok(())
}

/// Watches a run from its start to its end.
pub(super) fn watch(
    session: &Session,
    workload: &Workload,
    mut started: Started,
    control: &mut Control<'_>,
) -> Result<Measured, PerfError> {
    let runtime = session.runtime().handle();
    let stages = started.stages.take();
    let (shared, process) = (&started.shared, session.process());
    let window = shared.recorder().window();
    let warm_up = wait_until(
        shared,
        window.from_ns,
        Phase::WarmUp,
        workload.warm_up(),
        control,
    );
    let before = process.spent();
    let stages = stages.map(|stages| stages.begin(runtime));
    let whole = warm_up && {
        wait_until(
            shared,
            window.to_ns,
            Phase::Measure,
            workload.duration(),
            control,
        )
    };
    let after = process.spent();
    let stages = stages.map(|stages| stages.end(runtime));
    let mut is_cut_short = false;
    if !whole {
        let now_ns = shared.clock.ns();
        is_cut_short = now_ns < window.to_ns;
        shared.recorder().end_at(now_ns);
        // Everybody who listens has ended if this fails.
        let _ = started.cancel.send(Some(now_ns));
    }
    let mut measured = drain(session, started, control, (before, after), is_cut_short)?;
    measured.stages = stages.map(|stages| stages.join(runtime));
    Ok(measured)
}

/// Waits until then, looking at the run. `false` if it was ended before, or somebody has given up.
fn wait_until(
    shared: &Shared,
    ns: u64,
    phase: Phase,
    of: Duration,
    control: &mut Control<'_>,
) -> bool {
    let mut pulse = Pulse::new(phase, shared);
    loop {
        let now_ns = shared.clock.ns();
        if now_ns >= ns {
            return true;
        }
        if control.stop.load(Ordering::Relaxed) || shared.has_failed.load(Ordering::Relaxed) {
            return false;
        }
        thread::sleep(Duration::from_nanos(ns - now_ns).min(LOOK));
        (control.observe)(&pulse.look(shared, Some(of)));
    }
}

fn drain(
    session: &Session,
    started: Started,
    control: &mut Control<'_>,
    (before, after): (Spent, Spent),
    is_cut_short: bool,
) -> Result<Measured, PerfError> {
    let shared = started.shared;
    // That it was asked to end does not keep it from ending in order.
    let go_on = std::sync::atomic::AtomicBool::new(false);
    let mut patient = Control {
        stop: if is_cut_short { &go_on } else { control.stop },
        observe: &mut *control.observe,
    };
    wait_for(
        &started.producers,
        &shared,
        Phase::Drain,
        DRAIN,
        &mut patient,
    );
    let _ = started.cancel.send(Some(shared.clock.ns()));
    join(session, started.producers)?;
    let unanswered = shared.recorder().outstanding();
    if unanswered > 0 {
        let now_ns = shared.clock.ns();
        // The client goes on trying while a disk is full, and has no answer to show.
        let room = session
            .room()
            .map_or_else(String::new, |room| format!("; {room}"));
        let why = format!(
            "records were not acknowledged within {} s of the end{room}",
            DRAIN.as_secs()
        );
        shared
            .recorder()
            .lost(now_ns, "unacknowledged", unanswered, &why);
    }

    if let Some(finish) = started.finish {
        wait_for_delivery(&shared);
        let _ = finish.send(true);
    }
    join(session, started.consumers)?;
    let records = shared.recorder().total().0;
    let (broker_cpu_ns_per_record, client_cpu_ns_per_record) = after.per_record(before, records);
    Ok(Measured {
        recorder: shared.recorder,
        is_cut_short,
        broker_cpu_ns_per_record,
        client_cpu_ns_per_record,
        stages: None,
    })
}

/// Waits until consumers had everything that was acknowledged, or are handed nothing any more.
fn wait_for_delivery(shared: &Shared) {
    let (mut delivered, mut since_ns) = (0, shared.clock.ns());
    loop {
        let now_ns = shared.clock.ns();
        let (wanted, had) = {
            let recorder = shared.recorder();
            (
                recorder.everything_acknowledged().records,
                recorder.delivered(),
            )
        };
        if had > delivered {
            (delivered, since_ns) = (had, now_ns);
        }
        if had >= wanted {
            return;
        }
        if now_ns - since_ns > PATIENCE.as_nanos() as u64 {
            let why = "records were acknowledged and did not reach a consumer";
            shared
                .recorder()
                .lost(now_ns, "not-delivered", wanted - had, why);
            return;
        }
        thread::sleep(LOOK_FOR_END);
    }
}
