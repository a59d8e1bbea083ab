//! The common course of the drills that interrupt a stream: release some lines, strike in the
//! middle of them, bring the broker back, and go on until all lines are out; then read everything
//! and let the checker judge.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::broker_process::Launcher;
use super::faults::Fault;
use super::history::History;
use super::input::Line;
use super::random::Random;
use super::reading::{Follower, read_to_end};
use super::stream::Stream;
use super::{PARTITIONS, create_topic};

/// A complete read follows every so many strikes, besides those at the end.
const STRIKES_PER_READ: u32 = 10;

/// Runs a drill of so many strikes.
///
/// # Errors
/// What went wrong: a process that ended, a broker that did not come back, or the checker's
/// verdict.
pub(crate) fn run(
    mut launcher: Launcher,
    mut fault: impl Fault,
    strikes: u32,
    lines: Vec<Line>,
    mut random: Random,
) -> Result<(), String> {
    let mut broker = launcher.start()?;
    // Clients come back to the port that the first start chose.
    launcher.listen = broker.address().to_owned();
    let topic = create_topic(&launcher.corelane, broker.address())?;
    let history = History::new();
    let lines = Arc::new(lines);
    let mut stream = Stream::start(&topic, Arc::clone(&lines), &history)?;
    let mut follower = Follower::start(&topic, 0..PARTITIONS, &history)?;
    let mut pauses = Vec::new();

    for strike in 0..strikes {
        let released_before = lines.len() * strike as usize / strikes as usize;
        let released = lines.len() * (strike as usize + 1) / strikes as usize;
        stream.allow(released);
        let aim = random.within(released_before as u64..released as u64 + 1);
        stream.wait_for(aim, Duration::from_millis(random.within(1..2000)));
        thread::sleep(Duration::from_micros(random.within(0..3000)));

        #[expect(clippy::disallowed_methods, reason = "a drill runs in real time")]
        let struck = Instant::now();
        broker = fault
            .strike(broker, &launcher, &mut random)
            .map_err(|error| format!("strike {}: {error}", strike + 1))?;
        pauses.push(struck.elapsed());
        if stream.has_ended() {
            return Err(format!(
                "corelane produce gave up after strike {}",
                strike + 1
            ));
        }
        if follower.has_ended() {
            return Err(format!(
                "corelane consume gave up after strike {}",
                strike + 1
            ));
        }
        if (strike + 1) % STRIKES_PER_READ == 0 || strike + 1 == strikes {
            let read = read_to_end(&topic, 0..PARTITIONS, &history)?;
            let acknowledged = stream.acknowledged();
            println!(
                "{} strikes: {acknowledged} lines acknowledged, {read} read back",
                strike + 1
            );
        }
    }

    stream.allow(lines.len());
    stream.finish(fault.fails_lines())?;
    let everything = read_to_end(&topic, 0..PARTITIONS, &history)?;
    follower.catch_up(everything)?;
    let followed = follower.stop()?;
    // What is there after a clean restart is what was there before it.
    broker.stop()?;
    let broker = launcher.start()?;
    read_to_end(&topic, 0..PARTITIONS, &history)?;
    broker.stop()?;

    pauses.sort_unstable();
    println!(
        "{strikes} × {}; back after {:?} (median), {:?} (longest); a live consumer saw {followed} records",
        fault.name(),
        pauses[pauses.len() / 2],
        pauses[pauses.len() - 1],
    );
    let verdict = history.finish();
    println!("{verdict}");
    let acknowledged = verdict.counts.acknowledged_durable;
    if acknowledged != lines.len() as u64 && !fault.fails_lines() {
        return Err(format!(
            "{acknowledged} of {} lines were acknowledged",
            lines.len()
        ));
    }
    if verdict.holds() {
        Ok(())
    } else {
        Err("the promise was broken".to_owned())
    }
}
