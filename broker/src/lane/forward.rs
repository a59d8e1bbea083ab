//! Requests on their way to other cores, and the counts that bound them.

use corelane_protocol::{ApiError, CoreId, ErrorCode};
use corelane_storage::disk::Disk;

use super::mail::{ForwardedReply, ForwardedRequest};
use super::parked::{ForwardKind, ForwardWait};
use super::slab::Key;
use super::{Effect, Lane, Mail};

/// What is outstanding at one other core.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outbound {
    requests: u32,
    bytes: u64,
}

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
        if let Some(connection) = self.connections.get_mut(connection)
            && !connection.forwarded_to.contains(&to)
        {
            connection.forwarded_to.push(to);
        }
        let key = self.forwards.insert(ForwardWait {
            to,
            mailbox_bytes,
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
        let limits = &self.config.limits;
        let outbound = &mut self.outbound[usize::from(to.get())];
        let full = outbound.requests >= limits.mailbox_requests_max
            || (outbound.bytes > 0 && outbound.bytes + bytes > limits.mailbox_bytes_max);
        if full {
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

    pub(super) fn release_mailbox(&mut self, to: CoreId, bytes: u64) {
        let outbound = &mut self.outbound[usize::from(to.get())];
        outbound.requests -= 1;
        outbound.bytes -= bytes;
    }

    /// Another core has answered a forwarded request.
    pub(super) fn forward_replied(&mut self, token: u64, reply: ForwardedReply) {
        let wait = self.forwards.remove(Key::from_u64(token));
        let wait = wait.expect("a forwarded request is answered once");
        self.release_mailbox(wait.to, wait.mailbox_bytes);
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
