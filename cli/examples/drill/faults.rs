//! What is done to a running broker, and how it comes back.

use std::thread;
use std::time::Duration;

use super::broker_process::{BrokerProcess, Launcher};
use super::power::Rig;
use super::random::Random;

/// One way to interrupt a broker.
pub(crate) trait Fault {
    fn name(&self) -> &'static str;

    /// Whether the broker may live to report a failed disk, after which some lines are neither
    /// acknowledged nor tried again.
    fn fails_lines(&self) -> bool {
        false
    }

    /// Interrupts the broker and returns it, or its successor, when it is ready again.
    fn strike(
        &mut self,
        broker: BrokerProcess,
        launcher: &Launcher,
        random: &mut Random,
    ) -> Result<BrokerProcess, String>;
}

/// kill -9.
pub(crate) struct Kill;

impl Fault for Kill {
    fn name(&self) -> &'static str {
        "kill -9"
    }

    fn strike(
        &mut self,
        broker: BrokerProcess,
        launcher: &Launcher,
        random: &mut Random,
    ) -> Result<BrokerProcess, String> {
        broker.kill();
        restart(launcher, random)
    }
}

/// SIGSTOP, a pause, SIGCONT. One time in four it is killed while it is stopped.
pub(crate) struct Pause;

impl Fault for Pause {
    fn name(&self) -> &'static str {
        "SIGSTOP"
    }

    fn strike(
        &mut self,
        broker: BrokerProcess,
        launcher: &Launcher,
        random: &mut Random,
    ) -> Result<BrokerProcess, String> {
        broker.signal("STOP");
        // Short ones hide from clients' timeouts, long ones make clients give up and come back.
        let pause = if random.one_in(5) {
            5_000..15_000
        } else {
            10..3_000
        };
        thread::sleep(Duration::from_millis(random.within(pause)));
        if random.one_in(4) {
            broker.kill();
            return restart(launcher, random);
        }
        broker.signal("CONT");
        Ok(broker)
    }
}

/// The device under the data directory forgets everything that was not flushed.
pub(crate) struct PowerLoss(pub(crate) Rig);

impl Fault for PowerLoss {
    fn name(&self) -> &'static str {
        "power loss"
    }

    fn fails_lines(&self) -> bool {
        true
    }

    fn strike(
        &mut self,
        broker: BrokerProcess,
        launcher: &Launcher,
        random: &mut Random,
    ) -> Result<BrokerProcess, String> {
        // A loss of power stops broker and disk at one moment, so the broker is mostly frozen first.
        // Sometimes it is left to see its disk fail under it: then it must acknowledge nothing more.
        if !random.one_in(4) {
            broker.signal("STOP");
        }
        self.0.cut()?;
        broker.kill();
        self.0.restore()?;
        restart(launcher, random)
    }
}

/// Starts the broker again. One time in four it is killed during its recovery first.
fn restart(launcher: &Launcher, random: &mut Random) -> Result<BrokerProcess, String> {
    thread::sleep(Duration::from_millis(random.within(0..100)));
    while random.one_in(4) {
        let starting = launcher.spawn()?;
        thread::sleep(Duration::from_millis(random.within(0..100)));
        starting.kill();
    }
    launcher.start()
}
