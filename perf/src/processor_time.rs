//! How much CPU the broker and the load generator used.
//!
//! Owns: finding the broker's threads, in this process or in another one on this machine. Kernel threads and interrupts
//! are nobody's and not counted. Never guesses: where the broker cannot be told from others there is no figure.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use corelane_bench::broker::LANE_THREADS;
use corelane_bench::cpu::Threads;
use rustix::time::{ClockId, clock_gettime};

/// Workers that the kernel starts for an io_uring belong to the process that made it; the client has none.
const RING_WORKERS: &str = "iou-";

/// Where the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokerProcess {
    /// In this process, on threads of its own.
    Embedded,
    /// In another one on this machine.
    Other(u32),
    /// Somewhere else, or it belongs to somebody else.
    Unknown,
}

/// CPU time used so far, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    broker_ns: Option<u64>,
    client_ns: u64,
}

impl BrokerProcess {
    /// Looks for the process that listens on `address`.
    pub(crate) fn find(address: SocketAddr) -> Self {
        let found = listening_socket(address).and_then(process_with);
        found.map_or(Self::Unknown, Self::Other)
    }

    pub(crate) fn spent(self) -> Spent {
        let own = clock_gettime(ClockId::ProcessCPUTime);
        let own_ns = own.tv_sec as u64 * 1_000_000_000 + own.tv_nsec as u64;
        match self {
            Self::Embedded => {
                let process = std::process::id();
                let [lanes, workers] = [LANE_THREADS, RING_WORKERS]
                    .map(|prefix| Threads::named(process, prefix).run_time_ns());
                Spent {
                    broker_ns: Some(lanes + workers),
                    client_ns: own_ns.saturating_sub(lanes + workers),
                }
            }
            Self::Other(process) => {
                let threads = Threads::named(process, "");
                Spent {
                    broker_ns: (threads.count() > 0).then(|| threads.run_time_ns()),
                    client_ns: own_ns,
                }
            }
            Self::Unknown => Spent {
                broker_ns: None,
                client_ns: own_ns,
            },
        }
    }
}

impl Spent {
    /// What broker and client used since, for each of so many records.
    pub(crate) fn per_record(self, earlier: Self, records: u64) -> (Option<f64>, Option<f64>) {
        let each = |later: u64, earlier: u64| {
            (records > 0).then(|| later.saturating_sub(earlier) as f64 / records as f64)
        };
        let broker = (self.broker_ns.zip(earlier.broker_ns))
            .and_then(|(later, earlier)| each(later, earlier));
        (broker, each(self.client_ns, earlier.client_ns))
    }
}

/// The inode of the socket that listens there, from the kernel's table.
fn listening_socket(address: SocketAddr) -> Option<u64> {
    let table = match address.ip() {
        IpAddr::V4(_) => "/proc/net/tcp",
        IpAddr::V6(_) => "/proc/net/tcp6",
    };
    listener_in(&fs::read_to_string(table).ok()?, address)
}

/// The same, in the text of such a table: address and port in hexadecimal, of which the address is in the machine's
/// byte order.
fn listener_in(table: &str, address: SocketAddr) -> Option<u64> {
    const LISTENING: &str = "0A";
    let bytes: Vec<u8> = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = bytes.as_chunks::<4>().0.iter();
    let host: String = words
        .map(|word| format!("{:08X}", u32::from_ne_bytes(*word)))
        .collect();
    let port = format!("{:04X}", address.port());
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local_host, local_port) = fields.get(1)?.split_once(':')?;
        // A listener on all addresses has zeros.
        let is_there = local_host == host || local_host.bytes().all(|digit| digit == b'0');
        if fields.get(3) != Some(&LISTENING) || local_port != port || !is_there {
            return None;
        }
        fields.get(9)?.parse().ok()
    })
}

/// The process that has this socket open, among those that may be looked at.
fn process_with(socket: u64) -> Option<u32> {
    let wanted = format!("socket:[{socket}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut processes =
        processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    processes.find(|process| {
        let files = fs::read_dir(format!("/proc/{process}/fd"));
        let mut files = files.into_iter().flatten().flatten();
        files.any(|file| {
            fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str())
        })
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_process_that_listens_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(
            BrokerProcess::find(address),
            BrokerProcess::Other(std::process::id())
        );
        drop(listener);
        assert_eq!(BrokerProcess::find(address), BrokerProcess::Unknown);
    }

    #[test]
    fn a_listener_on_all_addresses_counts_and_a_connection_does_not() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:251C 0100007F:9999 01 00000000:00000000 00:00000000 00000000  0 0 11 1\n\
             1: 0200007F:251C 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 22 1\n\
             2: 00000000:251D 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 33 1\n";
        let at = |address: &str| listener_in(table, address.parse().unwrap());
        assert_eq!(at("127.0.0.1:9500"), None);
        assert_eq!(at("127.0.0.2:9500"), Some(22));
        assert_eq!(at("127.0.0.1:9501"), Some(33));
    }

    #[test]
    fn the_program_itself_is_not_the_broker() {
        let burn = std::thread::Builder::new().name("corelane".into());
        let burn = burn.spawn(|| {
            let start = corelane_bench::clock::Clock::start();
            while start.elapsed() < std::time::Duration::from_millis(50) {
                std::hint::spin_loop();
            }
            BrokerProcess::Embedded.spent()
        });
        let spent = burn.unwrap().join().unwrap();
        assert_eq!(spent.broker_ns, Some(0));
        assert!(spent.client_ns > 0);
    }

    #[test]
    fn cpu_is_spread_over_the_records() {
        let spent = |broker_ns, client_ns| Spent {
            broker_ns,
            client_ns,
        };
        let later = spent(Some(5_000), 9_000);
        assert_eq!(
            later.per_record(spent(Some(1_000), 1_000), 4),
            (Some(1_000.0), Some(2_000.0))
        );
        assert_eq!(
            later.per_record(spent(None, 1_000), 4),
            (None, Some(2_000.0))
        );
        assert_eq!(later.per_record(spent(Some(1), 1), 0), (None, None));
    }
}
