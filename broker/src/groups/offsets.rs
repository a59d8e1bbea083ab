//! How far groups have come.
//!
//! Owns who may commit: a member what is its own, or anybody while the group has no members. A
//! committed offset may be less than the one before: whoever may commit a partition decides where
//! the group goes on in it, and may go back. Offsets do not change by anything else but that they
//! go: with their topic, with their group, and when the group has had no members for long.

use corelane_protocol::request::{CommitEntry, CommitOffsetsRequest, FetchOffsetsRequest};
use corelane_protocol::response::{CommittedEntry, CommittedOffset, FetchedOffset};
use corelane_protocol::{ApiError, ErrorCode, TopicPartition};

use super::checks::{check_group, check_once, invalid};
use super::group::{GROUP_BYTES, Group, OFFSET_BYTES};
use super::heartbeat::stale;
use super::leave::{no_such_group, not_empty};
use super::member::{Member, no_such_member};
use super::{Coordinator, Now, Outcome, Topics};

impl Coordinator {
    /// Notes how far a group has come. A member must name its generation of now, and each
    /// partition must be its own or one that it has yet to let go. Without a member the group must
    /// have none; it is made if there is none.
    pub fn commit(
        &mut self,
        now: Now,
        topics: &dyn Topics,
        request: &CommitOffsetsRequest,
    ) -> Outcome<Vec<CommittedEntry>> {
        let checked = self.check_commit(topics, request);
        let results = match checked {
            Err(error) => return Outcome::refused(error),
            Ok(results) => results,
        };
        let accepted = request.entries.iter().zip(&results);
        let accepted = accepted
            .filter(|(_, result)| result.is_ok())
            .map(|(entry, _)| entry);
        let mut records = Vec::new();
        if results.iter().any(Result::is_ok) {
            self.make_group(&request.group);
            self.change(now, &request.group, &mut records, |group, _, _| {
                accepted.for_each(|entry| group.commit(entry, now));
            });
        }
        let answered = request.entries.iter().zip(results);
        Outcome {
            result: Ok(answered
                .map(|(entry, result)| CommittedEntry {
                    partition: entry.partition,
                    result,
                })
                .collect()),
            records,
        }
    }

    /// What a group has committed, of the partitions asked for or of all.
    ///
    /// # Errors
    /// `UnknownGroup` where all are asked for; a group that is not there has committed none of
    /// the partitions that are asked for by name.
    pub fn fetch_offsets(
        &self,
        request: &FetchOffsetsRequest,
    ) -> Result<Vec<FetchedOffset>, ApiError> {
        check_group(&request.group)?;
        let group = self.groups.get(request.group.as_str());
        if let Some(partitions) = &request.partitions {
            check_once(partitions.iter().copied())?;
            let fetch = |partition: &_| FetchedOffset {
                partition: *partition,
                committed: group.and_then(|group| group.offsets.get(partition).cloned()),
            };
            return Ok(partitions.iter().map(fetch).collect());
        }
        let group = group.ok_or_else(|| no_such_group(&request.group))?;
        let fetched = group
            .offsets
            .iter()
            .map(|(partition, committed)| FetchedOffset {
                partition: *partition,
                committed: Some(committed.clone()),
            });
        Ok(fetched.collect())
    }

    /// The outcome of each entry.
    fn check_commit(
        &self,
        topics: &dyn Topics,
        request: &CommitOffsetsRequest,
    ) -> Result<Vec<Result<(), ApiError>>, ApiError> {
        check_group(&request.group)?;
        let group = self.groups.get(request.group.as_str());
        let member = self.committer(group, request)?;
        let check = |entry: &CommitEntry| {
            self.check_entry(topics, entry)?;
            match member {
                Some(member) if !member.may_commit(entry) => Err(ApiError::new(
                    ErrorCode::NotAssigned,
                    format!(
                        "partition {} is not assigned to the member",
                        entry.partition
                    ),
                )),
                _ => Ok(()),
            }
        };
        let results: Vec<_> = request.entries.iter().map(check).collect();
        let more = request.entries.iter().zip(&results).map(|(entry, result)| {
            let kept = group.and_then(|group| group.offsets.get(&entry.partition));
            let bytes = OFFSET_BYTES + entry.metadata.len();
            let kept = kept.map_or(0, |kept| OFFSET_BYTES + kept.metadata.len());
            if result.is_ok() {
                bytes.saturating_sub(kept)
            } else {
                0
            }
        });
        let more: usize = more.sum();
        let new_group = if group.is_none() && more > 0 {
            GROUP_BYTES + 2 * request.group.len()
        } else {
            0
        };
        self.check_memory(more + new_group)?;
        Ok(results)
    }

    /// The member that commits, if it is one.
    fn committer<'a>(
        &self,
        group: Option<&'a Group>,
        request: &CommitOffsetsRequest,
    ) -> Result<Option<&'a Member>, ApiError> {
        if corelane_storage::planted!(ZombieCommitAccepted) {
            return Ok(None);
        }
        let Some(said) = request.member else {
            return match group {
                Some(group) if !group.members.is_empty() => {
                    Err(not_empty(&request.group, group.members.len()))
                }
                _ => Ok(None),
            };
        };
        let member = group
            .and_then(|group| group.members.get(&said.id))
            .filter(|member| !member.away)
            .ok_or_else(|| no_such_member(&request.group, said.id))?;
        if said.generation != member.generation {
            return Err(stale(&request.group, said, member.generation));
        }
        Ok(Some(member))
    }

    fn check_entry(&self, topics: &dyn Topics, entry: &CommitEntry) -> Result<(), ApiError> {
        let most = self.settings.metadata_bytes_max;
        if entry.metadata.len() > most {
            return Err(invalid(format!(
                "the metadata has {} bytes; at most {most} are allowed",
                entry.metadata.len()
            )));
        }
        let id = entry.partition.topic;
        let topic = topics.name_of(id).and_then(|name| topics.by_name(name));
        match topic.filter(|(found, _)| *found == id) {
            None => Err(ApiError::new(
                ErrorCode::UnknownTopic,
                format!("there is no topic with the id {id}"),
            )),
            Some((_, count)) if entry.partition.partition.get() >= count => Err(ApiError::new(
                ErrorCode::UnknownPartition,
                format!(
                    "topic {id} has {count} partitions, not {}",
                    entry.partition.partition
                ),
            )),
            Some(_) => Ok(()),
        }
    }
}

impl Member {
    fn may_commit(&self, entry: &CommitEntry) -> bool {
        self.assigned.contains(entry.partition) || self.revoking.contains(entry.partition)
    }
}

impl Group {
    fn commit(&mut self, entry: &CommitEntry, now: Now) {
        self.remove_offset(entry.partition);
        let committed = CommittedOffset {
            offset: entry.offset,
            leader_epoch: entry.leader_epoch,
            time: now.wall,
            metadata: entry.metadata.clone(),
        };
        self.put_offset(entry.partition, committed);
        self.changes.offsets.insert(entry.partition);
    }

    /// Keeps an offset; there is none of the partition.
    pub(super) fn put_offset(&mut self, partition: TopicPartition, committed: CommittedOffset) {
        self.metadata_bytes += committed.metadata.len();
        let before = self.offsets.insert(partition, committed);
        debug_assert!(before.is_none(), "the old offset was removed before");
    }

    pub(super) fn remove_all_offsets(&mut self) {
        let all: Vec<_> = self.offsets.keys().copied().collect();
        all.into_iter()
            .for_each(|partition| self.remove_offset(partition));
    }
}
