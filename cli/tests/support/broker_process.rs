//! A real broker process: started, waited for, signalled by its own id, and never left behind.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long a start or a stop may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How to start a broker, again and again.
#[derive(Clone, Debug)]
pub(crate) struct Launcher {
    /// The `corelane` binary.
    pub(crate) corelane: PathBuf,
    /// The data directory.
    pub(crate) data_dir: PathBuf,
    /// Bootstrap address.
    pub(crate) listen: String,
    /// Where its log lines are appended.
    pub(crate) log: PathBuf,
    /// Settings given through the environment.
    pub(crate) settings: Vec<(String, String)>,
}

/// A running broker. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct BrokerProcess {
    child: OwnedChild,
    address: String,
    admin: Option<String>,
    log: PathBuf,
}

/// The addresses of a `ready` line: that of clients, and that of the admin endpoint if there is one.
pub(crate) fn split_addresses(line: &str) -> (String, Option<String>) {
    let (address, admin) = match line.trim_end().split_once(" admin ") {
        Some((address, admin)) => (address, Some(admin.to_owned())),
        None => (line.trim_end(), None),
    };
    (address.to_owned(), admin)
}

impl Launcher {
    /// Starts a broker without waiting until it is ready.
    pub(crate) fn spawn(&self) -> Result<StartingBroker, String> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log: File =
            log.map_err(|error| format!("cannot open {}: {error}", self.log.display()))?;
        let child = Command::new(&self.corelane)
            .arg("serve")
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(["--listen", &self.listen])
            .env("CORELANE_ADMIN_LISTEN", "127.0.0.1:0")
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.corelane.display()))?;
        Ok(StartingBroker {
            child: OwnedChild(child),
            log: self.log.clone(),
        })
    }

    /// Starts a broker and waits until it is ready. The error holds the end of its log.
    pub(crate) fn start(&self) -> Result<BrokerProcess, String> {
        self.spawn()?.wait_until_ready()
    }
}

/// A broker that has not said `ready` yet. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct StartingBroker {
    child: OwnedChild,
    log: PathBuf,
}

impl StartingBroker {
    /// Waits for the `ready` line.
    pub(crate) fn wait_until_ready(mut self) -> Result<BrokerProcess, String> {
        let output = self
            .child
            .0
            .stdout
            .take()
            .expect("standard output is piped");
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(output).read_line(&mut line);
            // Nobody listens any more when the wait was given up.
            let _ = sender.send(read.map(|_| line));
        });
        let problem = match receiver.recv_timeout(PATIENCE) {
            Ok(Ok(line)) => match line.strip_prefix("ready ") {
                Some(addresses) => {
                    let (address, admin) = split_addresses(addresses);
                    return Ok(BrokerProcess {
                        child: self.child,
                        address,
                        admin,
                        log: self.log,
                    });
                }
                None => "ended before it was ready".to_owned(),
            },
            Ok(Err(error)) => format!("cannot be read: {error}"),
            Err(_) => "was not ready in time".to_owned(),
        };
        let threads = threads(self.child.0.id());
        self.child.kill();
        Err(format!(
            "the broker {problem}; its log ends:\n{}\nits threads:\n{threads}",
            tail(&self.log)
        ))
    }

    /// Kills it and waits for its end.
    pub(crate) fn kill(mut self) {
        self.child.kill();
    }
}

impl BrokerProcess {
    /// The address it said it is ready at.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The address of its admin endpoint.
    pub(crate) fn admin(&self) -> Option<&str> {
        self.admin.as_deref()
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.child.0.id()
    }

    /// Whether it has ended by itself, and how.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child
            .0
            .try_wait()
            .expect("a child of ours can be waited for")
    }

    /// SIGKILL, and waits for its end.
    pub(crate) fn kill(mut self) {
        self.child.kill();
    }

    /// Sends a signal by name, for example `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("sh")
            .arg("-c")
            .arg(format!("kill -{name} {}", self.id()))
            .status()
            .expect("sh runs");
        assert!(status.success(), "kill -{name} {}", self.id());
    }

    /// SIGTERM, and waits for a clean end.
    pub(crate) fn stop(mut self) -> Result<(), String> {
        self.signal("TERM");
        let deadline = PATIENCE.as_millis() / 10;
        for _ in 0..deadline {
            if let Some(status) = self.ended() {
                return if status.success() {
                    Ok(())
                } else {
                    Err(format!(
                        "the broker stopped with {status}:\n{}",
                        tail(&self.log)
                    ))
                };
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(format!(
            "the broker did not stop on SIGTERM; its log ends:\n{}\nits threads:\n{}",
            tail(&self.log),
            threads(self.id())
        ))
    }
}

/// A child that does not outlive us.
#[derive(Debug)]
pub(crate) struct OwnedChild(pub(crate) Child);

impl OwnedChild {
    pub(crate) fn kill(&mut self) {
        // It may have ended already; what matters is that it is gone afterwards.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for OwnedChild {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a log, without colours.
fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// What each thread of a process does: its state and CPU time so far, and where in the kernel it is. Twice, so that
/// one that runs is told from one that waits.
fn threads(process: u32) -> String {
    let one = threads_now(process);
    thread::sleep(Duration::from_millis(500));
    format!("{one}half a second later:\n{}", threads_now(process))
}

fn threads_now(process: u32) -> String {
    let mut text = String::new();
    let entries = std::fs::read_dir(format!("/proc/{process}/task"));
    for entry in entries.into_iter().flatten().flatten() {
        let read = |name| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let stat = read("stat");
        // `pid (name) state ppid … utime stime`, of which these are the 14th and 15th: proc(5).
        let (name, rest) = stat.rsplit_once(") ").unwrap_or_default();
        let fields: Vec<_> = rest.split(' ').collect();
        let field = |at: usize| fields.get(at).copied().unwrap_or("?");
        text += &format!(
            "  {name}) {} user {} system {} ticks, in {}\n",
            field(0),
            field(11),
            field(12),
            read("wchan")
        );
        // Readable by root alone.
        text += &read("stack");
    }
    text
}
