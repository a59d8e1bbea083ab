//! What a client asks. One file per request; each owns its body's layout.
//!
//! Bodies are read in place where they carry batches, so that a broker copies
//! them once, into the partition's tail.

mod alter_topic_configs;
mod api_versions;
mod commit_offsets;
mod create_partitions;
mod create_topics;
mod delete_group;
mod delete_records;
mod delete_topics;
mod describe_group;
mod describe_topics;
mod fetch;
mod fetch_offsets;
mod group_heartbeat;
mod init_producer_id;
mod leave_group;
mod list_groups;
mod list_offsets;
mod metadata;
mod produce;
mod report_positions;

pub use alter_topic_configs::{AlterTopicConfigsRequest, TopicAlteration};
pub use api_versions::ApiVersionsRequest;
pub use commit_offsets::{CommitEntry, CommitOffsetsRequest};
pub use create_partitions::{CreatePartitionsRequest, TopicExtension};
pub use create_topics::{CreateTopicsRequest, NewTopic};
pub use delete_group::DeleteGroupRequest;
pub use delete_records::{DeleteBefore, DeleteRecordsEntry, DeleteRecordsRequest};
pub use delete_topics::DeleteTopicsRequest;
pub use describe_group::DescribeGroupRequest;
pub use describe_topics::DescribeTopicsRequest;
pub use fetch::{FetchEntry, FetchRequest};
pub use fetch_offsets::FetchOffsetsRequest;
pub use group_heartbeat::{GroupHeartbeatRequest, PartitionsOfTopic, Subscription};
pub use init_producer_id::InitProducerIdRequest;
pub use leave_group::LeaveGroupRequest;
pub use list_groups::ListGroupsRequest;
pub use list_offsets::{ListOffsetsEntry, ListOffsetsRequest, OffsetPosition};
pub use metadata::MetadataRequest;
pub use produce::{Acks, ProduceEntry, ProduceRequest};
pub use report_positions::{PositionEntry, ReportPositionsRequest};

use crate::api::{ApiKey, versions};
use crate::frame::{RequestFlags, RequestHeader};
use crate::ids::{CorrelationId, Generation, MemberId};
use crate::wire::{DecodeError, EncodeError, Reader};

/// A member of a consumer group, as of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberRef {
    /// The member.
    pub id: MemberId,
    /// The generation that it knows.
    pub generation: Generation,
}

/// A request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// See [`ApiVersionsRequest`].
    ApiVersions(ApiVersionsRequest),
    /// See [`MetadataRequest`].
    Metadata(MetadataRequest),
    /// See [`ProduceRequest`].
    Produce(ProduceRequest<'a>),
    /// See [`FetchRequest`].
    Fetch(FetchRequest),
    /// See [`ListOffsetsRequest`].
    ListOffsets(ListOffsetsRequest),
    /// See [`CreateTopicsRequest`].
    CreateTopics(CreateTopicsRequest),
    /// See [`DeleteTopicsRequest`].
    DeleteTopics(DeleteTopicsRequest),
    /// See [`DescribeTopicsRequest`].
    DescribeTopics(DescribeTopicsRequest),
    /// See [`AlterTopicConfigsRequest`].
    AlterTopicConfigs(AlterTopicConfigsRequest),
    /// See [`CreatePartitionsRequest`].
    CreatePartitions(CreatePartitionsRequest),
    /// See [`DeleteRecordsRequest`].
    DeleteRecords(DeleteRecordsRequest),
    /// See [`ReportPositionsRequest`].
    ReportPositions(ReportPositionsRequest),
    /// See [`GroupHeartbeatRequest`].
    GroupHeartbeat(GroupHeartbeatRequest),
    /// See [`LeaveGroupRequest`].
    LeaveGroup(LeaveGroupRequest),
    /// See [`CommitOffsetsRequest`].
    CommitOffsets(CommitOffsetsRequest),
    /// See [`FetchOffsetsRequest`].
    FetchOffsets(FetchOffsetsRequest),
    /// See [`ListGroupsRequest`].
    ListGroups(ListGroupsRequest),
    /// See [`DescribeGroupRequest`].
    DescribeGroup(DescribeGroupRequest),
    /// See [`DeleteGroupRequest`].
    DeleteGroup(DeleteGroupRequest),
    /// See [`InitProducerIdRequest`].
    InitProducerId(InitProducerIdRequest),
}

impl<'a> Request<'a> {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// An unknown number or version, or a body that does not follow its layout.
    pub fn decode(api_key: u16, api_version: u16, body: &'a [u8]) -> Result<Self, DecodeError> {
        let api_key = known_api(api_key, api_version)?;
        let mut reader = Reader::new(body);
        let r = &mut reader;
        let request = match api_key {
            ApiKey::ApiVersions => Self::ApiVersions(ApiVersionsRequest::decode(r)?),
            ApiKey::Metadata => Self::Metadata(MetadataRequest::decode(r)?),
            ApiKey::Produce => Self::Produce(ProduceRequest::decode(r)?),
            ApiKey::Fetch => Self::Fetch(FetchRequest::decode(r)?),
            ApiKey::ListOffsets => Self::ListOffsets(ListOffsetsRequest::decode(r)?),
            ApiKey::CreateTopics => Self::CreateTopics(CreateTopicsRequest::decode(r)?),
            ApiKey::DeleteTopics => Self::DeleteTopics(DeleteTopicsRequest::decode(r)?),
            ApiKey::DescribeTopics => Self::DescribeTopics(DescribeTopicsRequest::decode(r)?),
            ApiKey::AlterTopicConfigs => {
                Self::AlterTopicConfigs(AlterTopicConfigsRequest::decode(r)?)
            }
            ApiKey::CreatePartitions => Self::CreatePartitions(CreatePartitionsRequest::decode(r)?),
            ApiKey::DeleteRecords => Self::DeleteRecords(DeleteRecordsRequest::decode(r)?),
            ApiKey::ReportPositions => Self::ReportPositions(ReportPositionsRequest::decode(r)?),
            ApiKey::GroupHeartbeat => Self::GroupHeartbeat(GroupHeartbeatRequest::decode(r)?),
            ApiKey::LeaveGroup => Self::LeaveGroup(LeaveGroupRequest::decode(r)?),
            ApiKey::CommitOffsets => Self::CommitOffsets(CommitOffsetsRequest::decode(r)?),
            ApiKey::FetchOffsets => Self::FetchOffsets(FetchOffsetsRequest::decode(r)?),
            ApiKey::ListGroups => Self::ListGroups(ListGroupsRequest::decode(r)?),
            ApiKey::DescribeGroup => Self::DescribeGroup(DescribeGroupRequest::decode(r)?),
            ApiKey::DeleteGroup => Self::DeleteGroup(DeleteGroupRequest::decode(r)?),
            ApiKey::InitProducerId => Self::InitProducerId(InitProducerIdRequest::decode(r)?),
        };
        reader.finish()?;
        Ok(request)
    }

    /// Appends the request as one frame, in the version of [`ApiKey::version`].
    ///
    /// # Errors
    /// A text, an array or the frame is too long, or a batch is not padded;
    /// `out` is as it was then.
    pub fn encode(
        &self,
        correlation_id: CorrelationId,
        flags: RequestFlags,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        if let Self::Produce(produce) = self {
            produce.encode_head(correlation_id, flags, out)?;
            for entry in &produce.entries {
                out.extend_from_slice(entry.batch);
            }
            return Ok(());
        }
        RequestHeader::write_frame(
            out,
            self.api_key(),
            correlation_id,
            flags,
            0,
            |w| match self {
                Self::ApiVersions(request) => request.encode(w),
                Self::Metadata(request) => request.encode(w),
                Self::Produce(_) => unreachable!("written above"),
                Self::Fetch(request) => request.encode(w),
                Self::ListOffsets(request) => request.encode(w),
                Self::CreateTopics(request) => request.encode(w),
                Self::DeleteTopics(request) => request.encode(w),
                Self::DescribeTopics(request) => request.encode(w),
                Self::AlterTopicConfigs(request) => request.encode(w),
                Self::CreatePartitions(request) => request.encode(w),
                Self::DeleteRecords(request) => request.encode(w),
                Self::ReportPositions(request) => request.encode(w),
                Self::GroupHeartbeat(request) => request.encode(w),
                Self::LeaveGroup(request) => request.encode(w),
                Self::CommitOffsets(request) => request.encode(w),
                Self::FetchOffsets(request) => request.encode(w),
                Self::ListGroups(request) => request.encode(w),
                Self::DescribeGroup(request) => request.encode(w),
                Self::DeleteGroup(request) => request.encode(w),
                Self::InitProducerId(request) => request.encode(w),
            },
        )
    }

    /// The request's number.
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
}

/// The request with this number, if this build speaks this version of it.
pub(crate) fn known_api(api_key: u16, version: u16) -> Result<ApiKey, DecodeError> {
    let api = ApiKey::from_u16(api_key).ok_or(DecodeError::UnknownApi { api_key })?;
    let known = versions(api);
    if known.contains(&version) {
        return Ok(api);
    }
    Err(DecodeError::UnknownVersion {
        api,
        version,
        first: *known.start(),
        last: *known.end(),
    })
}
