//! The requests by number, and the versions of each that this build speaks.

use std::fmt;
use std::ops::RangeInclusive;

/// A request's kind. The numbers are part of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum ApiKey {
    /// Which requests and versions the broker speaks; the first exchange.
    ApiVersions = 0,
    /// Brokers, cores and their addresses, topics and leaders.
    Metadata = 1,
    /// Appends batches.
    Produce = 2,
    /// Reads batches, waiting for them if need be.
    Fetch = 3,
    /// The earliest and the latest offset.
    ListOffsets = 4,
    /// Creates topics.
    CreateTopics = 5,
    /// Deletes topics.
    DeleteTopics = 6,
    /// Settings, placement and sizes of topics.
    DescribeTopics = 7,
    /// Changes settings of topics.
    AlterTopicConfigs = 8,
    /// More partitions for topics.
    CreatePartitions = 9,
    /// Gives up the oldest records of partitions.
    DeleteRecords = 10,
    /// How far a named reader has come.
    ReportPositions = 11,
    /// Joins a consumer group, stays in it, and says what a member holds.
    GroupHeartbeat = 12,
    /// Leaves a consumer group.
    LeaveGroup = 13,
    /// Notes how far a consumer group has come.
    CommitOffsets = 14,
    /// How far a consumer group has come.
    FetchOffsets = 15,
    /// The consumer groups.
    ListGroups = 16,
    /// Members, assignments and offsets of a consumer group.
    DescribeGroup = 17,
    /// Forgets a consumer group.
    DeleteGroup = 18,
    /// Gives an idempotent producer its number.
    InitProducerId = 19,
}

impl ApiKey {
    /// Every request, in the order of the numbers.
    pub const ALL: &'static [Self] = &[
        Self::ApiVersions,
        Self::Metadata,
        Self::Produce,
        Self::Fetch,
        Self::ListOffsets,
        Self::CreateTopics,
        Self::DeleteTopics,
        Self::DescribeTopics,
        Self::AlterTopicConfigs,
        Self::CreatePartitions,
        Self::DeleteRecords,
        Self::ReportPositions,
        Self::GroupHeartbeat,
        Self::LeaveGroup,
        Self::CommitOffsets,
        Self::FetchOffsets,
        Self::ListGroups,
        Self::DescribeGroup,
        Self::DeleteGroup,
        Self::InitProducerId,
    ];

    /// The request with this number.
    pub fn from_u16(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The number on the wire.
    pub const fn as_u16(self) -> u16 {
        self as u16
    }

    /// The name in documents and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ApiVersions => "ApiVersions",
            Self::Metadata => "Metadata",
            Self::Produce => "Produce",
            Self::Fetch => "Fetch",
            Self::ListOffsets => "ListOffsets",
            Self::CreateTopics => "CreateTopics",
            Self::DeleteTopics => "DeleteTopics",
            Self::DescribeTopics => "DescribeTopics",
            Self::AlterTopicConfigs => "AlterTopicConfigs",
            Self::CreatePartitions => "CreatePartitions",
            Self::DeleteRecords => "DeleteRecords",
            Self::ReportPositions => "ReportPositions",
            Self::GroupHeartbeat => "GroupHeartbeat",
            Self::LeaveGroup => "LeaveGroup",
            Self::CommitOffsets => "CommitOffsets",
            Self::FetchOffsets => "FetchOffsets",
            Self::ListGroups => "ListGroups",
            Self::DescribeGroup => "DescribeGroup",
            Self::DeleteGroup => "DeleteGroup",
            Self::InitProducerId => "InitProducerId",
        }
    }

    /// The version in which this build sends the request.
    pub const fn version(self) -> u16 {
        *versions(self).end()
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The versions of a request that this build encodes and decodes.
pub const fn versions(api_key: ApiKey) -> RangeInclusive<u16> {
    match api_key {
        ApiKey::ApiVersions
        | ApiKey::Metadata
        | ApiKey::Produce
        | ApiKey::Fetch
        | ApiKey::ListOffsets
        | ApiKey::CreateTopics
        | ApiKey::DeleteTopics
        | ApiKey::DescribeTopics
        | ApiKey::AlterTopicConfigs
        | ApiKey::CreatePartitions
        | ApiKey::DeleteRecords
        | ApiKey::ReportPositions
        | ApiKey::GroupHeartbeat
        | ApiKey::LeaveGroup
        | ApiKey::CommitOffsets
        | ApiKey::FetchOffsets
        | ApiKey::ListGroups
        | ApiKey::DescribeGroup
        | ApiKey::DeleteGroup
        | ApiKey::InitProducerId => 1..=1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back() {
        for (index, key) in ApiKey::ALL.iter().enumerate() {
            assert_eq!(usize::from(key.as_u16()), index);
            assert_eq!(ApiKey::from_u16(key.as_u16()), Some(*key));
            assert!(versions(*key).contains(&key.version()));
        }
        assert_eq!(ApiKey::from_u16(20), None);
        assert_eq!(ApiKey::from_u16(u16::MAX), None);
    }
}
