//! ListOffsets: where logs begin and end. Entries of other cores are gathered from them.

use corelane_protocol::request::{ListOffsetsEntry, ListOffsetsRequest, OffsetPosition};
use corelane_protocol::response::{ListOffsetsResponse, ListedEntry, ListedOffset, Response};
use corelane_protocol::{ApiError, CoreId, ErrorCode, Timestamp};
use corelane_storage::disk::Disk;
use std::collections::BTreeMap;

use super::Lane;
use super::mail::ForwardedRequest;
use super::parked::{ClientRequest, ForwardKind, GatherKind, GatherWait};
use super::partitions::Home;
use super::produce::unknown_partition;
use super::slab::Key;
use super::storage_errors::partition_error;

impl<D: Disk> Lane<D> {
    pub(super) fn list_offsets(&mut self, client: ClientRequest, request: &ListOffsetsRequest) {
        let mut response = ListOffsetsResponse::default();
        let mut remote: BTreeMap<CoreId, (Vec<u32>, Vec<ListOffsetsEntry>)> = BTreeMap::new();
        for (index, entry) in (0..).zip(&request.entries) {
            let mut owner = None;
            let result = match self.partitions.find(entry.partition) {
                Home::Local(local) => self.listed_offset(local, entry),
                Home::Remote(core) => {
                    owner = Some(self.topology.address(core).clone());
                    if !client.no_forward {
                        let (indexes, entries) = remote.entry(core).or_default();
                        indexes.push(index);
                        entries.push(*entry);
                    }
                    Err(ErrorCode::NotOwner.into())
                }
                unknown => Err(unknown_partition(entry.partition, unknown)),
            };
            response.entries.push(ListedEntry {
                partition: entry.partition,
                result,
                owner,
            });
        }
        if remote.is_empty() {
            return self.answer(client, &Response::ListOffsets(response));
        }
        let gather = self.gathers.insert(GatherWait {
            client,
            remaining: u32::try_from(remote.len()).expect("cores are numbered by u16"),
            kind: GatherKind::ListOffsets(response),
        });
        for (to, (indexes, entries)) in remote {
            let request = ForwardedRequest::ListOffsets { entries };
            let entries = indexes;
            let kind = ForwardKind::Gather { gather, entries };
            if let Err((kind, error)) = self.forward(client.connection, to, request, kind) {
                let ForwardKind::Gather { entries, .. } = kind else {
                    unreachable!("the kind comes back as it was given");
                };
                let results = vec![Err(error); entries.len()];
                self.gathered_offsets(gather, &entries, results);
            }
        }
    }

    /// The offset that an entry asks for, of a partition of this core.
    pub(super) fn listed_offset(
        &self,
        local: Key,
        entry: &ListOffsetsEntry,
    ) -> Result<ListedOffset, ApiError> {
        let partition = self.partitions.local(local).expect("found by the caller");
        let store = &self.stores[partition.store];
        if let Some(reason) = store.unfit() {
            return Err(ApiError::new(ErrorCode::StorageFailed, &*reason));
        }
        let offsets = partition
            .offsets(&self.stores)
            .map_err(|error| partition_error(&error))?;
        let offset = match entry.position {
            OffsetPosition::Earliest => offsets.log_start,
            OffsetPosition::Latest => offsets.high_watermark,
            OffsetPosition::Timestamp(_) => {
                return Err(ApiError::new(
                    ErrorCode::InvalidRequest,
                    "this version cannot look up offsets by time; ask for the earliest or the latest",
                ));
            }
        };
        Ok(ListedOffset {
            offset,
            timestamp: Timestamp::new(-1),
            leader_epoch: partition.leader_epoch,
        })
    }
}
