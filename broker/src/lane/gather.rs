//! Puts the parts of an answer together that several cores give.

use corelane_protocol::response::{DescribedPartition, ListedOffset, Response};
use corelane_protocol::{ApiError, Offset, TopicId};
use corelane_storage::disk::Disk;

use super::Lane;
use super::groups::note_end;
use super::parked::GatherKind;
use super::slab::Key;

impl<D: Disk> Lane<D> {
    /// One core has listed these entries.
    pub(super) fn gathered_offsets(
        &mut self,
        gather: Key,
        entries: &[u32],
        results: Vec<Result<ListedOffset, ApiError>>,
    ) {
        debug_assert_eq!(entries.len(), results.len(), "one result for each entry");
        let wait = self
            .gathers
            .get_mut(gather)
            .expect("it waits for this answer");
        for (index, result) in entries.iter().zip(results) {
            match &mut wait.kind {
                GatherKind::ListOffsets(response) => {
                    response.entries[*index as usize].result = result;
                }
                GatherKind::Group(answer) => note_end(answer, *index, &result),
                _ => unreachable!("offsets answer a request for offsets"),
            }
        }
        self.gathered_one(gather);
    }

    /// One core has deleted records of these entries, or noted positions.
    pub(super) fn gathered_log_starts(
        &mut self,
        gather: Key,
        entries: &[u32],
        results: Vec<Result<Offset, ApiError>>,
    ) {
        debug_assert_eq!(entries.len(), results.len(), "one result for each entry");
        let wait = self
            .gathers
            .get_mut(gather)
            .expect("it waits for this answer");
        for (index, result) in entries.iter().zip(results) {
            let index = *index as usize;
            match &mut wait.kind {
                GatherKind::DeleteRecords(response) => response.entries[index].result = result,
                GatherKind::ReportPositions(response) => response.entries[index].result = result,
                _ => unreachable!("log starts answer what is asked of entries"),
            }
        }
        self.gathered_one(gather);
    }

    /// One core could not be asked for these entries.
    pub(super) fn gather_refused(&mut self, gather: Key, entries: &[u32], error: &ApiError) {
        let wait = self
            .gathers
            .get_mut(gather)
            .expect("it waits for this answer");
        for index in entries.iter().map(|index| *index as usize) {
            match &mut wait.kind {
                GatherKind::ListOffsets(response) => {
                    response.entries[index].result = Err(error.clone());
                }
                GatherKind::DeleteRecords(response) => {
                    response.entries[index].result = Err(error.clone());
                }
                GatherKind::ReportPositions(response) => {
                    response.entries[index].result = Err(error.clone());
                }
                // It is described without what is not known.
                GatherKind::Group(_) => {}
                GatherKind::Describe { .. } | GatherKind::Topics(_) | GatherKind::Groups(_) => {
                    unreachable!("these have no entries");
                }
            }
        }
        self.gathered_one(gather);
    }

    /// One core has described its partitions.
    pub(super) fn gathered_descriptions(
        &mut self,
        gather: Key,
        partitions: Vec<(TopicId, DescribedPartition)>,
    ) {
        let wait = self
            .gathers
            .get_mut(gather)
            .expect("it waits for this answer");
        let GatherKind::Describe {
            response,
            positions,
        } = &mut wait.kind
        else {
            unreachable!("descriptions answer a request for descriptions");
        };
        for (topic, partition) in partitions {
            let index = partition.partition.get() as usize;
            for position in positions.get(&topic).into_iter().flatten() {
                if let Ok(description) = &mut response.topics[*position].result
                    && let Some(place) = description.partitions.get_mut(index)
                {
                    *place = partition.clone();
                }
            }
        }
        self.gathered_one(gather);
    }

    pub(super) fn gathered_one(&mut self, gather: Key) {
        let wait = self
            .gathers
            .get_mut(gather)
            .expect("looked up by the caller");
        wait.remaining -= 1;
        if wait.remaining > 0 {
            return;
        }
        let wait = self.gathers.remove(gather).expect("just looked up");
        let response = match wait.kind {
            GatherKind::ListOffsets(response) => Response::ListOffsets(response),
            GatherKind::DeleteRecords(response) => Response::DeleteRecords(response),
            GatherKind::ReportPositions(response) => Response::ReportPositions(response),
            GatherKind::Describe { response, .. } => Response::DescribeTopics(response),
            GatherKind::Groups(Ok(response)) => Response::ListGroups(response),
            GatherKind::Groups(Err(error)) => return self.answer_error(wait.client, &error),
            GatherKind::Group(answer) => Response::DescribeGroup(answer),
            GatherKind::Topics(_) => unreachable!("the controller answers in one piece"),
        };
        self.answer(wait.client, &response);
    }
}
