//! Every limit of the broker in one place: what a client may ask for, and what a core may hold.
//!
//! Plain data, read by every core; nothing here is ever changed while the broker runs. A limit is
//! checked before the memory it bounds is reserved.

/// Room that a frame has beyond its largest batch: headers and entry tables.
pub const FRAME_OVERHEAD_BYTES: u32 = 64 * 1024;

/// Bytes that one settings value of a topic may have.
pub const TOPIC_CONFIG_VALUE_BYTES_MAX: usize = 256;

/// Bytes that one encoded metadata record may have.
pub const METADATA_RECORD_BYTES_MAX: usize = 64 * 1024;

/// Entries that one produce, fetch or list-offsets request may have.
pub const ENTRIES_PER_REQUEST_MAX: usize = 65_536;

/// Bytes of records that one command may add to the metadata log: they are written in one piece.
pub const METADATA_COMMAND_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Topics that one create, delete or describe request may name.
pub const TOPICS_PER_REQUEST_MAX: usize = 10_000;

/// What the broker accepts and holds. See `docs/corelane.example.toml` for each key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest request frame, in bytes after the length field.
    pub frame_bytes_max: u32,
    /// Request bytes that one connection may have received and not had answered; beyond it the
    /// broker stops reading from that connection.
    pub connection_in_flight_bytes_max: u64,
    /// Requests that one connection may have received and not had answered.
    pub connection_requests_max: u32,
    /// Reply bytes that may wait for one connection's socket; beyond it none of its requests is
    /// taken up until the client has read.
    pub connection_reply_bytes_max: u64,
    /// Request bytes received and not answered over all connections of one core.
    pub core_in_flight_bytes_max: u64,
    /// Open connections of one core.
    pub connections_max: u32,
    /// Time that a client has to send a request whole, from its first byte on, and its first request,
    /// from the connection on, in milliseconds.
    pub frame_timeout_ms: u32,
    /// Time in which a client that has replies to read has to take in some of them, in milliseconds.
    pub reply_timeout_ms: u32,
    /// Topics of the broker.
    pub topics_max: u32,
    /// Partitions of one topic.
    pub topic_partitions_max: u32,
    /// Partitions of the broker.
    pub partitions_max: u32,
    /// Bytes of records that one fetch may return, whatever it asks for.
    pub fetch_bytes_max: u32,
    /// Longest time that a fetch may wait for data, in milliseconds.
    pub fetch_wait_ms_max: u32,
    /// Longest time that a produce may wait for its flush before it is answered `TimedOut`, in
    /// milliseconds.
    pub produce_timeout_ms_max: u32,
    /// Requests that one core may have sent to another and not had answered.
    pub mailbox_requests_max: u32,
    /// Request bytes that one core may have sent to another and not had answered.
    pub mailbox_bytes_max: u64,
}

impl Limits {
    /// Largest batch that fits a frame, in bytes.
    pub fn batch_bytes_max(&self) -> u32 {
        self.frame_bytes_max - FRAME_OVERHEAD_BYTES
    }
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            frame_bytes_max: 8 * 1024 * 1024 + FRAME_OVERHEAD_BYTES,
            connection_in_flight_bytes_max: 16 * MIB,
            connection_requests_max: 16_384,
            connection_reply_bytes_max: 16 * MIB,
            core_in_flight_bytes_max: 128 * MIB,
            connections_max: 10_000,
            frame_timeout_ms: 60_000,
            reply_timeout_ms: 60_000,
            topics_max: 10_000,
            topic_partitions_max: 10_000,
            partitions_max: 100_000,
            fetch_bytes_max: 16 * 1024 * 1024,
            fetch_wait_ms_max: 300_000,
            produce_timeout_ms_max: 300_000,
            mailbox_requests_max: 4096,
            mailbox_bytes_max: 32 * MIB,
        }
    }
}
