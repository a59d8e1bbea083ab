//! A small filesystem that comes near its end under a broker with `log.disk_reserve_bytes`.
//!
//! Below the reserve a produce must be refused by name while the filesystem still has room; reads, topics and
//! deletions must go on; and once space returns the broker must take records again without being touched.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use corelane_client::{Client, Error, ErrorCode, Record};

use super::broker_process::{BrokerProcess, Launcher};
use super::faults::Fault;
use super::full_disk::{FullDisk, still_serves};
use super::random::Random;

/// What the broker keeps free, far more than it can write before it looks.
const RESERVE_BYTES: u64 = 512 << 20;

/// How long a refusal, or its end, may take: the broker looks once a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// The settings of the drill's broker.
pub(crate) fn settings() -> (String, String) {
    let name = "CORELANE_LOG_DISK_RESERVE_BYTES".to_owned();
    (name, RESERVE_BYTES.to_string())
}

/// The fault: room below the reserve for a while.
#[derive(Debug)]
pub(crate) struct DiskReserve(pub(crate) FullDisk);

impl Fault for DiskReserve {
    fn name(&self) -> &'static str {
        "disk reserve"
    }

    fn strike(
        &mut self,
        broker: BrokerProcess,
        launcher: &Launcher,
        random: &mut Random,
    ) -> Result<BrokerProcess, String> {
        let disk = &self.0;
        command(
            launcher,
            &broker,
            &["topic", "create", "probe", "--partitions", "1"],
        )?;
        let left = random.within(150..450) << 20;
        disk.fill_but(left)?;
        await_probe(broker.address(), true)?;
        let free = disk.free_bytes()?;
        if free < left / 2 {
            return Err(format!(
                "produces were refused with {free} bytes left of {left}: the reserve was written to"
            ));
        }
        thread::sleep(Duration::from_millis(random.within(100..2_000)));
        let broker = match random.within(0..3) {
            0 => broker,
            1 => {
                broker.stop()?;
                launcher.start()?
            }
            _ => {
                broker.kill();
                launcher.start()?
            }
        };
        still_serves(launcher, broker.address())?;
        for arguments in [
            &["topic", "create", "meanwhile", "--partitions", "1"][..],
            &["topic", "alter", "probe", "--config", "retention.ms=1h"],
            &[
                "topic",
                "delete-records",
                "probe",
                "--partition",
                "0",
                "--before",
                "end",
            ],
            &["topic", "delete", "meanwhile"],
        ] {
            command(launcher, &broker, arguments)?;
        }
        await_probe(broker.address(), true)?;
        disk.empty()?;
        await_probe(broker.address(), false)?;
        command(launcher, &broker, &["topic", "delete", "probe"])?;
        Ok(broker)
    }
}

/// Waits until a produce is refused for the reserve, or is taken.
fn await_probe(broker: &str, is_refused: bool) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    #[expect(clippy::disallowed_methods, reason = "a drill runs in real time")]
    let began = Instant::now();
    loop {
        let probed = runtime.block_on(probe(broker));
        match probed {
            Ok(()) if !is_refused => return Ok(()),
            Err(error) if is_refused && error.code() == Some(ErrorCode::DiskFull) => return Ok(()),
            _ if began.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(200)),
            Ok(()) => {
                return Err("a produce is taken although less than the reserve is free".into());
            }
            Err(error) => {
                return Err(format!(
                    "a produce is not answered as it should be: {error}"
                ));
            }
        }
    }
}

/// Produces one record, and gives up soon.
async fn probe(broker: &str) -> Result<(), Error> {
    let client = Client::connect(broker.to_owned()).await?;
    let producer = client
        .producer()
        .delivery_timeout(Duration::from_secs(1))
        .build()
        .await?;
    let delivery = producer.send(Record::to("probe").value("a probe")).await?;
    delivery.await.map(drop)
}

fn command(launcher: &Launcher, broker: &BrokerProcess, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(&launcher.corelane)
        .args(arguments)
        .args(["--broker", broker.address()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "corelane {} fails below the reserve: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    ))
}

impl FullDisk {
    /// Takes all room but so many bytes.
    fn fill_but(&self, bytes: u64) -> Result<(), String> {
        let free = self.free_bytes()?;
        let ballast = fs::File::create(self.ballast()).map_err(|error| error.to_string())?;
        let taken = free.saturating_sub(bytes);
        rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), 0, taken)
            .map_err(|error| error.to_string())
    }

    /// Room that is left.
    fn free_bytes(&self) -> Result<u64, String> {
        let found = rustix::fs::statvfs(self.data_dir()).map_err(|error| error.to_string())?;
        Ok(found.f_bavail * found.f_frsize)
    }
}
