//! DescribeGroup: to what the coordinator says, the core that was asked adds where each partition ends.

use std::collections::BTreeMap;

use corelane_protocol::request::{ListOffsetsEntry, OffsetPosition};
use corelane_protocol::response::{CoreAddress, GroupAnswer, GroupDescription, ListedOffset};
use corelane_protocol::{ApiError, CoreId};
use corelane_storage::disk::Disk;

use crate::lane::Lane;
use crate::lane::log_requests::LogQuestions;
use crate::lane::mail::ForwardedRequest;
use crate::lane::parked::{ClientRequest, GatherKind};
use crate::lane::partitions::Home;

impl<D: Disk> Lane<D> {
    /// Asks the owners of a group's partitions where these end, then answers.
    pub(super) fn describe_positions(
        &mut self,
        client: ClientRequest,
        description: GroupDescription,
        owner: Option<CoreAddress>,
    ) {
        let mut split: BTreeMap<CoreId, Vec<(u32, ListOffsetsEntry)>> = BTreeMap::new();
        for (index, entry) in (0..).zip(&description.partitions) {
            let core = match self.partitions.find(entry.partition) {
                Home::Local(_) => self.core,
                Home::Remote(core) => core,
                Home::UnknownTopic | Home::UnknownPartition => continue,
            };
            let asked = ListOffsetsEntry {
                partition: entry.partition,
                position: OffsetPosition::Latest,
            };
            split.entry(core).or_default().push((index, asked));
        }
        let kind = GatherKind::Group(GroupAnswer {
            result: Ok(description),
            owner,
        });
        self.gather(client, kind, split, LogQuestions::Offsets, |entries| {
            ForwardedRequest::ListOffsets { entries }
        });
    }
}

/// Notes where one of the group's partitions ends, if that could be asked.
pub(in crate::lane) fn note_end(
    answer: &mut GroupAnswer<GroupDescription>,
    index: u32,
    end: &Result<ListedOffset, ApiError>,
) {
    if let (Ok(description), Ok(listed)) = (&mut answer.result, end) {
        description.partitions[index as usize].high_watermark = Some(listed.offset);
    }
}
