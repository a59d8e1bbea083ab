//! What a broker answers. One file per response; each owns its body's layout.

mod alter_topic_configs;
mod api_versions;
mod commit_offsets;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_group;
mod describe_topics;
mod fetch;
mod fetch_offsets;
mod group;
mod group_done;
mod group_heartbeat;
mod init_producer_id;
mod list_groups;
mod list_offsets;
mod metadata;
mod produce;
mod report_positions;

pub use alter_topic_configs::{AlterTopicConfigsResponse, AlteredTopic};
pub use api_versions::{ApiVersionsResponse, SupportedApi};
pub use commit_offsets::{CommitOffsetsResponse, CommittedEntry};
pub use create_partitions::{CreatePartitionsResponse, ExtendedTopic};
pub use create_topics::{CreateTopicsResponse, CreatedTopic};
pub use delete_records::{DeleteRecordsResponse, DeletedRecords};
pub use delete_topics::{DeleteTopicsResponse, DeletedTopic};
pub use describe_group::{
    DescribeGroupResponse, DescribedMember, GroupDescription, GroupPartition,
};
pub use describe_topics::{
    ConfigSource, DescribeTopicsResponse, DescribedPartition, DescribedReader, DescribedTopic,
    PartitionState, TopicConfigEntry, TopicDescription,
};
pub use fetch::{
    DivergingEpoch, FetchResponse, FetchResponseHead, Fetched, FetchedEntry, FetchedEntryHead,
    FetchedHead,
};
pub use fetch_offsets::{CommittedOffset, FetchOffsetsResponse, FetchedOffset};
pub use group::{GroupAnswer, NamedPartitions};
pub use group_done::GroupDoneResponse;
pub use group_heartbeat::{GroupHeartbeatResponse, HeartbeatAnswer};
pub use init_producer_id::{InitProducerIdResponse, ProducerIdentity};
pub use list_groups::{GroupState, ListGroupsResponse, ListedGroup};
pub use list_offsets::{ListOffsetsResponse, ListedEntry, ListedOffset};
pub use metadata::{
    BrokerMetadata, CoreAddress, MetadataResponse, PartitionMetadata, TopicMetadata,
    TopicPartitions,
};
pub use produce::{Durability, ProduceResponse, ProducedEntry, Receipt};
pub use report_positions::{ReportPositionsResponse, ReportedPosition};

use crate::api::ApiKey;
use crate::error::{ApiError, ErrorCode};
use crate::frame::{ResponseHeader, ResponseMeta};
use crate::request::known_api;
use crate::wire::{DecodeError, EncodeError, Reader, api_error};

/// A response's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// See [`ApiVersionsResponse`].
    ApiVersions(ApiVersionsResponse),
    /// See [`MetadataResponse`].
    Metadata(MetadataResponse),
    /// See [`ProduceResponse`].
    Produce(ProduceResponse),
    /// See [`FetchResponse`].
    Fetch(FetchResponse<'a>),
    /// See [`ListOffsetsResponse`].
    ListOffsets(ListOffsetsResponse),
    /// See [`CreateTopicsResponse`].
    CreateTopics(CreateTopicsResponse),
    /// See [`DeleteTopicsResponse`].
    DeleteTopics(DeleteTopicsResponse),
    /// See [`DescribeTopicsResponse`].
    DescribeTopics(DescribeTopicsResponse),
    /// See [`AlterTopicConfigsResponse`].
    AlterTopicConfigs(AlterTopicConfigsResponse),
    /// See [`CreatePartitionsResponse`].
    CreatePartitions(CreatePartitionsResponse),
    /// See [`DeleteRecordsResponse`].
    DeleteRecords(DeleteRecordsResponse),
    /// See [`ReportPositionsResponse`].
    ReportPositions(ReportPositionsResponse),
    /// See [`GroupHeartbeatResponse`].
    GroupHeartbeat(GroupHeartbeatResponse),
    /// See [`GroupDoneResponse`].
    LeaveGroup(GroupDoneResponse),
    /// See [`CommitOffsetsResponse`].
    CommitOffsets(CommitOffsetsResponse),
    /// See [`FetchOffsetsResponse`].
    FetchOffsets(FetchOffsetsResponse),
    /// See [`ListGroupsResponse`].
    ListGroups(ListGroupsResponse),
    /// See [`DescribeGroupResponse`].
    DescribeGroup(DescribeGroupResponse),
    /// See [`GroupDoneResponse`].
    DeleteGroup(GroupDoneResponse),
    /// See [`InitProducerIdResponse`].
    InitProducerId(InitProducerIdResponse),
}

impl<'a> Response<'a> {
    /// Reads the body of a response: the answer, or the broker's refusal of the
    /// whole request.
    ///
    /// # Errors
    /// A body that does not follow its layout: the connection is of no more use.
    pub fn decode(
        header: &ResponseHeader,
        body: &'a [u8],
    ) -> Result<Result<Self, ApiError>, DecodeError> {
        let mut reader = Reader::new(body);
        let r = &mut reader;
        if header.error_code != 0 {
            let error = api_error(header.error_code, r.text()?);
            reader.finish()?;
            return Ok(Err(error));
        }
        let response = match known_api(header.api_key, header.api_version)? {
            ApiKey::ApiVersions => Self::ApiVersions(ApiVersionsResponse::decode(r)?),
            ApiKey::Metadata => Self::Metadata(MetadataResponse::decode(r)?),
            ApiKey::Produce => Self::Produce(ProduceResponse::decode(r)?),
            ApiKey::Fetch => Self::Fetch(FetchResponse::decode(r)?),
            ApiKey::ListOffsets => Self::ListOffsets(ListOffsetsResponse::decode(r)?),
            ApiKey::CreateTopics => Self::CreateTopics(CreateTopicsResponse::decode(r)?),
            ApiKey::DeleteTopics => Self::DeleteTopics(DeleteTopicsResponse::decode(r)?),
            ApiKey::DescribeTopics => Self::DescribeTopics(DescribeTopicsResponse::decode(r)?),
            ApiKey::AlterTopicConfigs => {
                Self::AlterTopicConfigs(AlterTopicConfigsResponse::decode(r)?)
            }
            ApiKey::CreatePartitions => {
                Self::CreatePartitions(CreatePartitionsResponse::decode(r)?)
            }
            ApiKey::DeleteRecords => Self::DeleteRecords(DeleteRecordsResponse::decode(r)?),
            ApiKey::ReportPositions => Self::ReportPositions(ReportPositionsResponse::decode(r)?),
            ApiKey::GroupHeartbeat => Self::GroupHeartbeat(GroupHeartbeatResponse::decode(r)?),
            ApiKey::LeaveGroup => Self::LeaveGroup(GroupDoneResponse::decode(r)?),
            ApiKey::CommitOffsets => Self::CommitOffsets(CommitOffsetsResponse::decode(r)?),
            ApiKey::FetchOffsets => Self::FetchOffsets(FetchOffsetsResponse::decode(r)?),
            ApiKey::ListGroups => Self::ListGroups(ListGroupsResponse::decode(r)?),
            ApiKey::DescribeGroup => Self::DescribeGroup(DescribeGroupResponse::decode(r)?),
            ApiKey::DeleteGroup => Self::DeleteGroup(GroupDoneResponse::decode(r)?),
            ApiKey::InitProducerId => Self::InitProducerId(InitProducerIdResponse::decode(r)?),
        };
        reader.finish()?;
        Ok(Ok(response))
    }

    /// Appends the response as one frame. A response that no frame can hold
    /// (a text beyond 65,535 bytes, 4 GiB in all) becomes an Internal error.
    pub fn encode(&self, meta: &ResponseMeta, out: &mut Vec<u8>) {
        if let Err(error) = self.try_encode(meta, out) {
            let error = ApiError::new(ErrorCode::Internal, error.to_string());
            encode_error(self.api_key().as_u16(), meta, &error, out);
        }
    }

    /// The number of the request that this answers.
    pub const fn api_key(&self) -> ApiKey {
        match self {
            Self::ApiVersions(_) => ApiKey::ApiVersions,
            Self::Metadata(_) => ApiKey::Metadata,
            Self::Produce(_) => ApiKey::Produce,
            Self::Fetch(_) => ApiKey::Fetch,
            Self::ListOffsets(_) => ApiKey::ListOffsets,
            Self::CreateTopics(_) => ApiKey::CreateTopics,
            Self::DeleteTopics(_) => ApiKey::DeleteTopics,
            Self::DescribeTopics(_) => ApiKey::DescribeTopics,
            Self::AlterTopicConfigs(_) => ApiKey::AlterTopicConfigs,
            Self::CreatePartitions(_) => ApiKey::CreatePartitions,
            Self::DeleteRecords(_) => ApiKey::DeleteRecords,
            Self::ReportPositions(_) => ApiKey::ReportPositions,
            Self::GroupHeartbeat(_) => ApiKey::GroupHeartbeat,
            Self::LeaveGroup(_) => ApiKey::LeaveGroup,
            Self::CommitOffsets(_) => ApiKey::CommitOffsets,
            Self::FetchOffsets(_) => ApiKey::FetchOffsets,
            Self::ListGroups(_) => ApiKey::ListGroups,
            Self::DescribeGroup(_) => ApiKey::DescribeGroup,
            Self::DeleteGroup(_) => ApiKey::DeleteGroup,
            Self::InitProducerId(_) => ApiKey::InitProducerId,
        }
    }

    fn try_encode(&self, meta: &ResponseMeta, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if let Self::Fetch(fetch) = self {
            fetch.head()?.try_encode(meta, out)?;
            for fetched in fetch
                .entries
                .iter()
                .filter_map(|entry| entry.result.as_ref().ok())
            {
                out.extend_from_slice(fetched.batches);
            }
            return Ok(());
        }
        let api_key = self.api_key().as_u16();
        ResponseHeader::write_frame(out, api_key, meta, 0, 0, |w| match self {
            Self::ApiVersions(response) => response.encode(w),
            Self::Metadata(response) => response.encode(w),
            Self::Produce(response) => response.encode(w),
            Self::Fetch(_) => unreachable!("written above"),
            Self::ListOffsets(response) => response.encode(w),
            Self::CreateTopics(response) => response.encode(w),
            Self::DeleteTopics(response) => response.encode(w),
            Self::DescribeTopics(response) => response.encode(w),
            Self::AlterTopicConfigs(response) => response.encode(w),
            Self::CreatePartitions(response) => response.encode(w),
            Self::DeleteRecords(response) => response.encode(w),
            Self::ReportPositions(response) => response.encode(w),
            Self::GroupHeartbeat(response) => response.encode(w),
            Self::LeaveGroup(response) => response.encode(w),
            Self::CommitOffsets(response) => response.encode(w),
            Self::FetchOffsets(response) => response.encode(w),
            Self::ListGroups(response) => response.encode(w),
            Self::DescribeGroup(response) => response.encode(w),
            Self::DeleteGroup(response) => response.encode(w),
            Self::InitProducerId(response) => response.encode(w),
        })
    }
}

/// Appends the refusal of a whole request as one frame. `api_key` is the
/// request's number, known or not.
pub fn encode_error(api_key: u16, meta: &ResponseMeta, error: &ApiError, out: &mut Vec<u8>) {
    let code = error.code.as_u16();
    ResponseHeader::write_frame(out, api_key, meta, code, 0, |w| w.message(&error.message))
        .expect("a message is cut to what a frame holds");
}
