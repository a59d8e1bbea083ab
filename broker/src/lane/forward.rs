//! Requests on their way to other cores, and the counts that bound them.

use corelane_protocol::{ApiError, CoreId, ErrorCode};
use corelane_storage::disk::Disk;

use super::mail::{ForwardedReply, ForwardedRequest};
use super::meters::Stage;
use super::parked::{ForwardKind, ForwardWait};
use super::report::MailboxMetrics;
use super::slab::Key;
use super::{Effect, Lane, Mail};

/// What is outstanding at one other core.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outbound {
    requests: u32,
    bytes: u64,
    /// The part of them that are produces.
    produces: u32,
    produce_bytes: u64,
}

impl Outbound {
    pub(super) fn metrics(&self, to: CoreId) -> MailboxMetrics {
        MailboxMetrics {
            to,
            requests: self.requests,
            bytes: self.bytes,
        }
    }
}

/// The part of a core's memory that produces of other cores may fill while they wait.
const MAILBOX_MEMORY_SHARE: u64 = 8;

/// What an entry of a forwarded request counts for, beside its batch.
pub(super) const FORWARDED_ENTRY_BYTES: u64 = 64;

impl<D: Disk> Lane<D> {
    /// Sends a client's request, or a part of it, to the core that owns it.
    ///
    /// # Errors
    /// That core's mailbox is full; `kind` comes back.
    pub(super) fn forward(
        &mut self,
        connection: Key,
        to: CoreId,
        request: ForwardedRequest,
        kind: ForwardKind,
    ) -> Result<(), (ForwardKind, ApiError)> {
        let mailbox_bytes = request.mailbox_bytes();
        if let Err(error) = self.reserve_mailbox(to, mailbox_bytes) {
            return Err((kind, error));
        }
        if let ForwardKind::Produce { .. } = kind {
            let outbound = &mut self.outbound[usize::from(to.get())];
            outbound.produces += 1;
            outbound.produce_bytes += mailbox_bytes;
        }
        if let Some(connection) = self.connections.get_mut(connection)
            && !connection.forwarded_to.contains(&to)
        {
            connection.forwarded_to.push(to);
        }
        let key = self.forwards.insert(ForwardWait {
            to,
            mailbox_bytes,
            sent_us: self.meters.now_us,
            kind,
        });
        let mail = Mail::Forward {
            token: key.to_u64(),
            source: connection.into(),
            request,
        };
        self.effects.push_back(Effect::Mail { to, mail });
        Ok(())
    }

    /// Counts a request to another core, if there is room for it.
    pub(super) fn reserve_mailbox(&mut self, to: CoreId, bytes: u64) -> Result<(), ApiError> {
        let takes = self.mailbox_takes(to, bytes);
        let outbound = &mut self.outbound[usize::from(to.get())];
        if !takes {
            self.meters.mailbox_refused += 1;
            let message = format!(
                "{} requests with {} bytes wait for core {to}; connect to its own address",
                outbound.requests, outbound.bytes
            );
            return Err(ApiError::new(ErrorCode::Overloaded, message));
        }
        outbound.requests += 1;
        outbound.bytes += bytes;
        Ok(())
    }

    /// Whether a request to another core is taken at all.
    pub(super) fn mailbox_takes(&self, to: CoreId, bytes: u64) -> bool {
        let limits = &self.config.limits;
        let outbound = &self.outbound[usize::from(to.get())];
        outbound.requests < limits.mailbox_requests_max
            && (outbound.bytes == 0 || outbound.bytes + bytes <= limits.mailbox_bytes_max)
    }

    /// Whether a produce may go to another core without waiting: produces keep to half of what the mailbox
    /// takes, and those of all cores together to a part of the memory of the one that they go to.
    pub(super) fn mailbox_has_room(&self, to: CoreId, bytes: u64) -> bool {
        let limits = &self.config.limits;
        let outbound = &self.outbound[usize::from(to.get())];
        let others = (self.topology.cores.len() as u64 - 1).max(1);
        let share = self.config.memory.per_core_bytes / MAILBOX_MEMORY_SHARE / others;
        let most = share.min(limits.mailbox_bytes_max / 2);
        outbound.produces < limits.mailbox_requests_max.div_ceil(2)
            && (outbound.produce_bytes == 0 || outbound.produce_bytes + bytes <= most)
    }

    pub(super) fn release_mailbox(&mut self, to: CoreId, bytes: u64) {
        if corelane_storage::planted!(MailboxNotReleased) {
            return;
        }
        let outbound = &mut self.outbound[usize::from(to.get())];
        outbound.requests -= 1;
        outbound.bytes -= bytes;
        self.pacing.look_again = true;
    }

    /// Another core has answered a forwarded request.
    pub(super) fn forward_replied(&mut self, token: u64, reply: ForwardedReply) {
        let wait = self.forwards.remove(Key::from_u64(token));
        let wait = wait.expect("a forwarded request is answered once");
        self.release_mailbox(wait.to, wait.mailbox_bytes);
        if let ForwardKind::Produce { .. } = wait.kind {
            let outbound = &mut self.outbound[usize::from(wait.to.get())];
            outbound.produces -= 1;
            outbound.produce_bytes -= wait.mailbox_bytes;
        }
        match wait.kind {
            ForwardKind::Produce { .. } => {
                self.meters.stage_done(Stage::ProduceForward, wait.sent_us);
            }
            ForwardKind::Fetch { .. } => {
                self.meters.stage_done(Stage::FetchForward, wait.sent_us);
            }
            ForwardKind::Gather { .. } | ForwardKind::Group { .. } => {}
        }
        match (wait.kind, reply) {
            (ForwardKind::Produce { produce, entries }, ForwardedReply::Produce(results)) => {
                self.forwarded_produce_done(produce, &entries, results);
            }
            (
                ForwardKind::Fetch {
                    client,
                    heads,
                    entries,
                },
                ForwardedReply::Fetch {
                    heads: results,
                    bytes,
                },
            ) => self.forwarded_fetch_done(client, heads, &entries, results, bytes),
            (ForwardKind::Gather { gather, entries }, ForwardedReply::ListOffsets(results)) => {
                self.gathered_offsets(gather, &entries, results);
            }
            (ForwardKind::Gather { gather, entries }, ForwardedReply::LogStarts(results)) => {
                self.gathered_log_starts(gather, &entries, results);
            }
            (ForwardKind::Gather { gather, .. }, ForwardedReply::Groups(groups)) => {
                self.gathered_groups(gather, groups);
            }
            (ForwardKind::Group { client }, ForwardedReply::Group(answer)) => {
                self.forwarded_group_done(client, wait.to, *answer);
            }
            (ForwardKind::Gather { gather, .. }, ForwardedReply::Describe(partitions)) => {
                self.gathered_descriptions(gather, partitions);
            }
            _ => unreachable!("a core answers with the kind that it was asked for"),
        }
    }

    /// Sends mail to a core; what is for this one is handled by the callers of their own.
    pub(super) fn post(&mut self, to: CoreId, mail: Mail) {
        debug_assert_ne!(to, self.core, "a core does not write to itself");
        self.effects.push_back(Effect::Mail { to, mail });
    }
}
