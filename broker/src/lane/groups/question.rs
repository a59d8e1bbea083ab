//! What may be asked about one group, and what is answered, on its way between cores.

use corelane_protocol::request::{
    CommitOffsetsRequest, DeleteGroupRequest, DescribeGroupRequest, FetchOffsetsRequest,
    GroupHeartbeatRequest, LeaveGroupRequest,
};
use corelane_protocol::response::{
    CommittedEntry, CoreAddress, FetchedOffset, GroupAnswer, GroupDescription, HeartbeatAnswer,
    Response,
};
use corelane_protocol::{ApiError, ApiKey, ErrorCode};

/// A question about one group.
#[derive(Debug)]
pub enum GroupQuestion {
    /// A member joins, or stays.
    Heartbeat(GroupHeartbeatRequest),
    /// A member goes.
    Leave(LeaveGroupRequest),
    /// How far the group has come is noted.
    Commit(CommitOffsetsRequest),
    /// How far has it come?
    Offsets(FetchOffsetsRequest),
    /// What is it made of?
    Describe(DescribeGroupRequest),
    /// It is to be forgotten.
    Delete(DeleteGroupRequest),
}

/// The answer to a [`GroupQuestion`].
#[derive(Debug)]
pub enum GroupAnswered {
    /// To a heartbeat.
    Heartbeat(HeartbeatAnswer),
    /// To a member that goes, or a group that is forgotten.
    Done,
    /// To a commit, by entry.
    Committed(Vec<CommittedEntry>),
    /// The offsets.
    Offsets(Vec<FetchedOffset>),
    /// The group.
    Described(GroupDescription),
}

/// Bytes that a partition takes in a question or an answer, at most, beside texts.
const ENTRY_BYTES: usize = 64;

impl GroupQuestion {
    /// The group that is asked about.
    pub fn group(&self) -> &str {
        match self {
            Self::Heartbeat(request) => &request.group,
            Self::Leave(request) => &request.group,
            Self::Commit(request) => &request.group,
            Self::Offsets(request) => &request.group,
            Self::Describe(request) => &request.group,
            Self::Delete(request) => &request.group,
        }
    }

    /// How many offsets it would commit.
    pub(super) fn commits(&self) -> usize {
        match self {
            Self::Commit(request) => request.entries.len(),
            _ => 0,
        }
    }

    /// What it counts for in a mailbox.
    pub(in crate::lane) fn mailbox_bytes(&self) -> usize {
        let more = match self {
            Self::Heartbeat(request) => {
                let wish = request.subscription.as_ref();
                let names = wish.map_or(0, |wish| wish.topics.iter().map(String::len).sum());
                let owned = request.owned.iter().map(|topic| topic.partitions.len());
                names + owned.sum::<usize>() * ENTRY_BYTES
            }
            Self::Commit(request) => {
                let entries = request.entries.iter();
                entries
                    .map(|entry| entry.metadata.len() + ENTRY_BYTES)
                    .sum()
            }
            Self::Offsets(request) => request.partitions.as_ref().map_or(0, Vec::len) * ENTRY_BYTES,
            Self::Leave(_) | Self::Describe(_) | Self::Delete(_) => 0,
        };
        self.group().len() + ENTRY_BYTES + more
    }

    /// The answer while there is no group at all; none where that makes the first one.
    pub(super) fn asked_of_nothing(&self) -> Option<Result<GroupAnswered, ApiError>> {
        match self {
            Self::Heartbeat(_) | Self::Commit(_) => None,
            Self::Leave(_) => Some(Err(ErrorCode::UnknownMember.into())),
            Self::Offsets(FetchOffsetsRequest {
                partitions: Some(partitions),
                ..
            }) => {
                let none = partitions.iter().map(|partition| FetchedOffset {
                    partition: *partition,
                    committed: None,
                });
                Some(Ok(GroupAnswered::Offsets(none.collect())))
            }
            Self::Offsets(_) | Self::Describe(_) | Self::Delete(_) => {
                let message = format!("there is no group named {:?}", self.group());
                Some(Err(ApiError::new(ErrorCode::UnknownGroup, message)))
            }
        }
    }
}

/// The response to a request of this kind.
pub(super) fn response(
    api: ApiKey,
    answer: Result<GroupAnswered, ApiError>,
    owner: Option<CoreAddress>,
) -> Response<'static> {
    match api {
        ApiKey::GroupHeartbeat => {
            Response::GroupHeartbeat(only(answer, owner, |said| match said {
                GroupAnswered::Heartbeat(answer) => Some(answer),
                _ => None,
            }))
        }
        ApiKey::LeaveGroup => Response::LeaveGroup(done(answer, owner)),
        ApiKey::DeleteGroup => Response::DeleteGroup(done(answer, owner)),
        ApiKey::CommitOffsets => Response::CommitOffsets(only(answer, owner, |said| match said {
            GroupAnswered::Committed(entries) => Some(entries),
            _ => None,
        })),
        ApiKey::FetchOffsets => Response::FetchOffsets(only(answer, owner, |said| match said {
            GroupAnswered::Offsets(offsets) => Some(offsets),
            _ => None,
        })),
        ApiKey::DescribeGroup => Response::DescribeGroup(only(answer, owner, |said| match said {
            GroupAnswered::Described(description) => Some(description),
            _ => None,
        })),
        _ => unreachable!("only questions about a group are answered here"),
    }
}

fn done(answer: Result<GroupAnswered, ApiError>, owner: Option<CoreAddress>) -> GroupAnswer<()> {
    only(answer, owner, |said| {
        matches!(said, GroupAnswered::Done).then_some(())
    })
}

fn only<T>(
    answer: Result<GroupAnswered, ApiError>,
    owner: Option<CoreAddress>,
    pick: impl FnOnce(GroupAnswered) -> Option<T>,
) -> GroupAnswer<T> {
    let result = answer.map(|said| pick(said).expect("a coordinator answers what it was asked"));
    GroupAnswer { result, owner }
}
