//! Mail from other cores.

use corelane_protocol::CoreId;
use corelane_protocol::request::{Acks, FetchRequest, ProduceEntry, ProduceRequest};
use corelane_storage::disk::Disk;

use super::log_requests::{LogAsker, LogQuestions};
use super::mail::{ForwardedBatch, ForwardedReply, ForwardedRequest};
use super::parked::Origin;
use super::{ConnectionId, Lane, Mail, Now, Topology};

impl<D: Disk> Lane<D> {
    /// Mail has come from another core.
    pub fn mail(&mut self, now: Now, from: CoreId, mail: Mail) {
        self.meters.begin_event(now);
        match mail {
            Mail::Forward {
                token,
                source,
                request,
            } => self.forwarded(now, from, token, source, request),
            Mail::ForwardReply { token, reply } => self.forward_replied(token, reply),
            Mail::SourceClosed { source } => self.source_closed(from, source),
            Mail::Command { token, command } => self.take_command(from, token, command),
            Mail::CommandDone { token, reply } => self.command_done(token, reply),
            Mail::MetadataRecords { position, records } => self.apply_records(position, &records),
            Mail::MetadataApplied { position, failure } => self.core_applied(position, failure),
            Mail::MetadataVisible { position } => {
                self.show_topics(position);
                self.post(Topology::CONTROLLER, Mail::MetadataShown { position });
            }
            Mail::MetadataShown { position } => self.core_shown(position),
        }
        self.finish_event(now);
    }

    fn forwarded(
        &mut self,
        now: Now,
        core: CoreId,
        token: u64,
        source: ConnectionId,
        request: ForwardedRequest,
    ) {
        let origin = Origin::Core {
            core,
            token,
            source,
        };
        match request {
            ForwardedRequest::Produce {
                acks,
                timeout_ms,
                batches,
            } => self.forwarded_produce(now, origin, acks, timeout_ms, &batches),
            ForwardedRequest::Fetch {
                max_wait_ms,
                min_bytes,
                max_bytes,
                entries,
            } => {
                let request = FetchRequest {
                    max_wait_ms,
                    min_bytes,
                    max_bytes,
                    entries,
                };
                self.fetch_here(now, origin, request);
            }
            ForwardedRequest::ListOffsets { entries } => {
                let asker = LogAsker::Core { core, token };
                self.ask_logs(asker, &LogQuestions::Offsets(entries));
            }
            ForwardedRequest::DeleteRecords { entries } => {
                let asker = LogAsker::Core { core, token };
                self.ask_logs(asker, &LogQuestions::Deletions(entries));
            }
            ForwardedRequest::ReportPositions { reader, entries } => {
                let asker = LogAsker::Core { core, token };
                self.ask_logs(asker, &LogQuestions::Positions(reader, entries));
            }
            ForwardedRequest::ListGroups => self.forwarded_list_groups(core, token),
            ForwardedRequest::Group { host, question } => {
                self.forwarded_group(now, core, token, &host, &question);
            }
            ForwardedRequest::Describe { topics } => {
                let reply = ForwardedReply::Describe(self.describe_local(&topics));
                self.post(core, Mail::ForwardReply { token, reply });
            }
        }
    }

    fn forwarded_produce(
        &mut self,
        now: Now,
        origin: Origin,
        acks: Acks,
        timeout_ms: u32,
        batches: &[ForwardedBatch],
    ) {
        let entries = batches.iter().map(|batch| ProduceEntry {
            partition: batch.partition,
            resume: batch.resume,
            batch: &batch.batch,
        });
        let request = ProduceRequest {
            acks,
            timeout_ms,
            entries: entries.collect(),
        };
        self.produce(now, origin, &request);
    }

    /// A client of another core is gone: nobody waits for its fetches, and nothing follows on what
    /// it was refused.
    fn source_closed(&mut self, from: CoreId, closed: ConnectionId) {
        self.drop_paced(|wait| {
            matches!(wait.origin, Origin::Core { core, source, .. } if (core, source) == (from, closed))
        });
        // Only now: what was dropped was refused.
        self.foreign_refused.remove(&(from, closed));
        for wait in self.produces.iter_mut() {
            if let Origin::Core { core, source, .. } = &mut wait.origin
                && (*core, *source) == (from, closed)
            {
                *source = ConnectionId::CLOSED;
            }
        }
        let mut parked = Vec::new();
        for (key, wait) in self.fetches.iter() {
            if let Origin::Core { core, source, .. } = wait.origin
                && (core, source) == (from, closed)
            {
                parked.push(key);
            }
        }
        for key in parked {
            // It is answered all the same: the other core counts its requests here.
            self.hasten_fetch(key);
        }
    }
}
