//! Metrics of cores: connections, memory, mailboxes, the ring and its turns.

use super::family_row;
use crate::admin::family::{Family, Kind, STALL_US, Unit};

pub(super) static CORES: &[Family] = &[
    family_row!(
        "corelane_core_cpu",
        Counter,
        Seconds,
        ["core"],
        "CPU time of the core's thread",
        |b, s| s.each_core(b, |c| c.cpu_us)
    ),
    family_row!(
        "corelane_core_partitions",
        Gauge,
        None,
        ["core"],
        "Partitions that the core owns",
        |b, s| s.each_core(b, |c| c.partitions)
    ),
    family_row!(
        "corelane_core_connections",
        Gauge,
        None,
        ["core"],
        "Open connections",
        |b, s| s.each_core(b, |c| c.connections)
    ),
    family_row!(
        "corelane_core_connections_opened",
        Counter,
        None,
        ["core"],
        "Connections that were accepted",
        |b, s| {
            s.each_core(b, |c| c.connections_opened);
        }
    ),
    family_row!(
        "corelane_core_connections_refused",
        Counter,
        None,
        ["core"],
        "Connections that were refused: there were too many, or the broker was about to stop",
        |b, s| {
            s.each_core(b, |c| c.connections_refused);
        }
    ),
    family_row!(
        "corelane_core_connections_timed_out",
        Counter,
        None,
        ["core"],
        "Connections that were closed because a request was not finished within limits.frame_timeout_ms",
        |b, s| {
            s.each_core(b, |c| c.connections_timed_out);
        }
    ),
    family_row!(
        "corelane_core_connections_unread",
        Counter,
        None,
        ["core"],
        "Connections that were closed because the client took in none of its replies within limits.reply_timeout_ms",
        |b, s| {
            s.each_core(b, |c| c.connections_unread);
        }
    ),
    family_row!(
        "corelane_core_received",
        Counter,
        Bytes,
        ["core"],
        "Bytes received of clients",
        |b, s| s.each_core(b, |c| c.received_bytes)
    ),
    family_row!(
        "corelane_core_sent",
        Counter,
        Bytes,
        ["core"],
        "Bytes sent to clients",
        |b, s| s.each_core(b, |c| c.sent_bytes)
    ),
    family_row!(
        "corelane_core_in_flight",
        Gauge,
        Bytes,
        ["core"],
        "Bytes of requests that are not answered",
        |b, s| {
            s.each_core(b, |c| c.in_flight_bytes);
        }
    ),
    family_row!(
        "corelane_core_replies",
        Gauge,
        Bytes,
        ["core"],
        "Bytes of replies that have not left, or are expected of the disk",
        |b, s| {
            s.each_core(b, |c| c.reply_bytes);
        }
    ),
    family_row!(
        "corelane_core_waiting_requests",
        Gauge,
        None,
        ["core", "api"],
        "Requests that wait: produces for a flush or another core, fetches for records, the disk or their client",
        |b, s| {
            for core in &b.state.cores {
                let number = core.core.to_string();
                s.put(&[&number, "Produce"], core.waiting_produces);
                s.put(&[&number, "Fetch"], core.waiting_fetches);
            }
        }
    ),
    family_row!(
        "corelane_core_paced",
        Gauge,
        None,
        ["core"],
        "Connections and batches that wait for room in a store or in another core's mailbox",
        |b, s| {
            s.each_core(b, |c| c.paced_waiting);
        }
    ),
    family_row!(
        "corelane_core_pacings",
        Counter,
        None,
        ["core"],
        "Times that a connection or a batch began to wait for room",
        |b, s| {
            s.each_core(b, |c| c.paced);
        }
    ),
    family_row!(
        "corelane_mailbox_requests",
        Gauge,
        None,
        ["core", "to"],
        "Requests that were sent to another core and are not answered",
        |b, s| {
            for core in &b.state.cores {
                for mailbox in &core.mailboxes {
                    s.put(
                        &[&core.core.to_string(), &mailbox.to.to_string()],
                        mailbox.requests,
                    );
                }
            }
        }
    ),
    family_row!(
        "corelane_mailbox",
        Gauge,
        Bytes,
        ["core", "to"],
        "Bytes of these requests",
        |b, s| {
            for core in &b.state.cores {
                for mailbox in &core.mailboxes {
                    s.put(
                        &[&core.core.to_string(), &mailbox.to.to_string()],
                        mailbox.bytes,
                    );
                }
            }
        }
    ),
    family_row!(
        "corelane_mailbox_refused",
        Counter,
        None,
        ["core"],
        "Requests that another core's mailbox had no room for",
        |b, s| {
            s.each_core(b, |c| c.mailbox_refused);
        }
    ),
    family_row!(
        "corelane_mailbox_queued",
        Gauge,
        None,
        ["core"],
        "Messages to other cores that they have not taken",
        |b, s| {
            s.each_core(b, |c| c.mail_queued);
        }
    ),
    family_row!(
        "corelane_memory",
        Gauge,
        Bytes,
        ["core", "use"],
        "Memory that is reserved in the core's ledger: receive, tail, journal, read_ahead, reply, groups",
        |b, s| {
            for core in &b.state.cores {
                for (kind, bytes) in &core.memory {
                    s.put(&[&core.core.to_string(), kind], *bytes);
                }
            }
        }
    ),
    family_row!(
        "corelane_memory_cap",
        Gauge,
        Bytes,
        ["core"],
        "The most memory that the core may reserve (memory.per_core_bytes)",
        |b, s| {
            s.each_core(b, |c| c.memory_cap);
        }
    ),
    family_row!(
        "corelane_core_turn",
        Histogram,
        Seconds,
        ["core"],
        "How long the core's tasks kept the driver of its io_uring from its turn, while there was work",
        |b, s| {
            for core in &b.state.cores {
                s.put_counts(&[&core.core.to_string()], &core.ring.turn_times);
            }
        }
    ),
    family_row!(
        "corelane_core_stalls",
        Counter,
        None,
        ["core"],
        "Turns that came more than 10 ms late: everything on the core has waited for so long",
        |b, s| {
            s.each_core(b, |c| c.ring.turn_times.above(STALL_US));
        }
    ),
    family_row!(
        "corelane_core_longest_turn",
        Gauge,
        Seconds,
        ["core"],
        "The latest that a turn has come since the core serves",
        |b, s| {
            s.each_core(b, |c| c.ring.turn_times.max());
        }
    ),
    family_row!(
        "corelane_ring_in_flight",
        Gauge,
        None,
        ["core"],
        "Operations of the core's io_uring that the kernel has not completed",
        |b, s| {
            s.each_core(b, |c| c.ring.in_flight);
        }
    ),
    family_row!(
        "corelane_ring_operations",
        Counter,
        None,
        ["core"],
        "Operations that were handed to the core's io_uring",
        |b, s| {
            s.each_core(b, |c| c.ring.submitted);
        }
    ),
    family_row!(
        "corelane_ring_enters",
        Counter,
        None,
        ["core"],
        "System calls of the core's driver",
        |b, s| s.each_core(b, |c| c.ring.enters)
    ),
    family_row!(
        "corelane_ring_parks",
        Counter,
        None,
        ["core"],
        "Times that the core's driver slept",
        |b, s| s.each_core(b, |c| c.ring.parks)
    ),
    family_row!(
        "corelane_ring_buffers_exhausted",
        Counter,
        None,
        ["core"],
        "Receives that ended because all receive buffers were in use; they went on at once",
        |b, s| {
            s.each_core(b, |c| c.ring.buffers_exhausted);
        }
    ),
];
