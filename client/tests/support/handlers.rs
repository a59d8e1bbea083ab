//! The answers of the broker in the tests.

use std::sync::Arc;
use std::time::Duration;

use corelane_protocol::request::{
    DeleteBefore, FetchRequest, ListOffsetsRequest, OffsetPosition, ProduceRequest,
};
use corelane_protocol::response::{
    AlterTopicConfigsResponse, AlteredTopic, ApiVersionsResponse, BrokerMetadata, ConfigSource,
    CreatePartitionsResponse, CreateTopicsResponse, CreatedTopic, DeleteRecordsResponse,
    DeleteTopicsResponse, DeletedRecords, DeletedTopic, DescribeTopicsResponse, DescribedPartition,
    DescribedTopic, DivergingEpoch, ExtendedTopic, FetchResponse, Fetched, FetchedEntry,
    InitProducerIdResponse, ListOffsetsResponse, ListedEntry, ListedOffset, MetadataResponse,
    PartitionMetadata, PartitionState, ProduceResponse, ProducedEntry, Receipt,
    ReportPositionsResponse, ReportedPosition, SupportedApi, TopicConfigEntry, TopicDescription,
    TopicMetadata, TopicPartitions,
};
use corelane_protocol::{
    AlignedBytes, ApiError, ApiKey, BrokerId, CoreId, ErrorCode, LeaderEpoch, Offset,
    PartitionIndex, Request, Response, ResponseMeta, StoreId, Timestamp, versions,
};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::state::{Action, Seen, values_of};
use super::{Replies, Shared, groups};

/// Handles one request; false closes the connection.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    replies: &Replies,
    core: u16,
    connection: u64,
    meta: ResponseMeta,
    request: Request<'_>,
) -> bool {
    let response = match request {
        Request::Produce(produce) => {
            return handle_produce(shared, replies, core, connection, meta, &produce).await;
        }
        Request::Fetch(fetch) => {
            // A long poll must not hold up what comes after it.
            let (shared, replies) = (Arc::clone(shared), Arc::clone(replies));
            tokio::spawn(async move { answer_fetch(&shared, &replies, core, meta, &fetch).await });
            return true;
        }
        Request::ApiVersions(_) => Response::ApiVersions(api_versions(shared)),
        Request::Metadata(request) => Response::Metadata(metadata(shared, request.topics)),
        Request::ListOffsets(request) => Response::ListOffsets(list_offsets(shared, &request)),
        Request::CreateTopics(request) => {
            let mut state = shared.state();
            let topics = request.topics.into_iter().map(|topic| {
                let result = if state.topics.contains_key(&topic.name) {
                    Err(ErrorCode::TopicExists.into())
                } else if topic.partitions == 0 {
                    Err(ErrorCode::InvalidPartitions.into())
                } else if request.validate_only {
                    Ok(corelane_protocol::TopicId::NIL)
                } else {
                    let id = state.create_topic(&topic.name, topic.partitions);
                    state.topics.get_mut(&topic.name).unwrap().configs = topic.configs;
                    Ok(id)
                };
                CreatedTopic {
                    name: topic.name,
                    result,
                }
            });
            Response::CreateTopics(CreateTopicsResponse {
                topics: topics.collect(),
            })
        }
        Request::DeleteTopics(request) => {
            let mut state = shared.state();
            let topics = request.names.into_iter().map(|name| {
                let removed = state.topics.remove(&name).map(|topic| topic.id);
                DeletedTopic {
                    name,
                    result: removed.ok_or_else(|| ErrorCode::UnknownTopic.into()),
                }
            });
            Response::DeleteTopics(DeleteTopicsResponse {
                topics: topics.collect(),
            })
        }
        Request::ReportPositions(request) => {
            let mut state = shared.state();
            let entries = request.entries.iter().map(|entry| {
                let found = state.partition(entry.partition.topic, entry.partition.partition);
                let start = found.map(|(_, partition)| Offset::new(partition.start));
                ReportedPosition {
                    partition: entry.partition,
                    result: match &*request.reader {
                        "billing" => start,
                        _ => Err(ErrorCode::InvalidRequest.into()),
                    },
                    owner: None,
                }
            });
            let entries = entries.collect();
            for entry in &request.entries {
                let key = (request.reader.clone(), entry.partition.partition.get());
                state.positions.insert(key, entry.position.get());
            }
            state.counters.reports += 1;
            Response::ReportPositions(ReportPositionsResponse { entries })
        }
        Request::DeleteRecords(request) => {
            let mut state = shared.state();
            let entries = request.entries.iter().map(|entry| {
                let found = state.partition(entry.partition.topic, entry.partition.partition);
                let result = found.and_then(|(_, partition)| {
                    let before = match entry.before {
                        DeleteBefore::HighWatermark => partition.end(),
                        DeleteBefore::Offset(before) => before.get(),
                    };
                    if before > partition.end() {
                        return Err(ErrorCode::OffsetOutOfRange.into());
                    }
                    partition.start = partition.start.max(before);
                    Ok(Offset::new(partition.start))
                });
                DeletedRecords {
                    partition: entry.partition,
                    result,
                    owner: None,
                }
            });
            Response::DeleteRecords(DeleteRecordsResponse {
                entries: entries.collect(),
            })
        }
        Request::CreatePartitions(request) => {
            let mut state = shared.state();
            let topics = request.topics.into_iter().map(|wish| {
                let result = match state.topics.get(&wish.name) {
                    None => Err(ErrorCode::UnknownTopic.into()),
                    Some(topic) if wish.total as usize <= topic.partitions.len() => {
                        Err(ErrorCode::InvalidPartitions.into())
                    }
                    Some(topic) if request.validate_only => Ok(topic.id),
                    Some(_) => Ok(state.extend_topic(&wish.name, wish.total)),
                };
                ExtendedTopic {
                    name: wish.name,
                    result,
                }
            });
            Response::CreatePartitions(CreatePartitionsResponse {
                topics: topics.collect(),
            })
        }
        Request::AlterTopicConfigs(request) => {
            let mut state = shared.state();
            let topics = request.topics.into_iter().map(|change| {
                let topic = state.topics.get_mut(&change.name);
                let result = match topic {
                    None => Err(ErrorCode::UnknownTopic.into()),
                    Some(_) if change.set.iter().any(|(key, _)| key == "colour") => {
                        Err(ApiError::new(ErrorCode::InvalidConfig, "unknown setting"))
                    }
                    Some(topic) => {
                        if !request.validate_only {
                            topic.configs.retain(|(key, _)| {
                                !change.unset.contains(key)
                                    && change.set.iter().all(|(changed, _)| changed != key)
                            });
                            topic.configs.extend(change.set);
                        }
                        Ok(topic.id)
                    }
                };
                AlteredTopic {
                    name: change.name,
                    result,
                }
            });
            Response::AlterTopicConfigs(AlterTopicConfigsResponse {
                topics: topics.collect(),
            })
        }
        Request::DescribeTopics(request) => {
            Response::DescribeTopics(describe(shared, request.topics))
        }
        Request::InitProducerId(_) => {
            let mut state = shared.state();
            state.counters.identities += 1;
            let result = state.identities.give().map_err(ApiError::from);
            Response::InitProducerId(InitProducerIdResponse { result })
        }
        Request::GroupHeartbeat(_)
        | Request::LeaveGroup(_)
        | Request::CommitOffsets(_)
        | Request::FetchOffsets(_)
        | Request::ListGroups(_)
        | Request::DescribeGroup(_)
        | Request::DeleteGroup(_) => match groups::answer(shared, core, &request) {
            Some(response) => response,
            None => return false,
        },
    };
    reply(replies, &meta, &response).await
}

async fn reply(replies: &Replies, meta: &ResponseMeta, response: &Response<'_>) -> bool {
    let mut out = Vec::new();
    response.encode(meta, &mut out);
    replies.lock().await.write_all(&out).await.is_ok()
}

fn api_versions(shared: &Shared) -> ApiVersionsResponse {
    let state = shared.state();
    let is_known = |key: &&ApiKey| state.identities.known || **key != ApiKey::InitProducerId;
    let apis = ApiKey::ALL.iter().filter(is_known).map(|key| SupportedApi {
        api_key: key.as_u16(),
        version_min: *versions(*key).start(),
        version_max: *versions(*key).end(),
    });
    ApiVersionsResponse {
        broker_version: "fake".into(),
        apis: apis.collect(),
        frame_bytes_max: corelane_protocol::FRAME_BYTES_MAX_DEFAULT,
        batch_bytes_max: state.batch_bytes_max,
        connection_in_flight_bytes_max: state.in_flight_bytes_max,
        ..ApiVersionsResponse::default()
    }
}

fn metadata(shared: &Shared, names: Option<Vec<String>>) -> MetadataResponse {
    let mut state = shared.state();
    state.counters.metadata += 1;
    let cores = (0..state.cores).map(|core| state.core_address(core, shared.port(core)));
    let broker = BrokerMetadata {
        id: BrokerId::new(1),
        host: "127.0.0.1".into(),
        port: 9500,
        cores: cores.collect(),
    };
    let names = names.unwrap_or_else(|| state.topics.keys().cloned().collect());
    let topics = names.into_iter().map(|name| {
        let Some(topic) = state.topics.get(&name) else {
            return TopicMetadata {
                name,
                result: Err(ErrorCode::UnknownTopic.into()),
            };
        };
        let partitions = (0..)
            .zip(&topic.partitions)
            .map(|(index, partition)| PartitionMetadata {
                partition: PartitionIndex::new(index),
                leader: BrokerId::new(1),
                core: CoreId::new(partition.owner),
                leader_epoch: partition.epoch(),
            });
        let result = Ok(TopicPartitions {
            id: topic.id,
            timestamp_type: topic.timestamp_type(),
            batch_bytes_max: topic.batch_bytes_max,
            partitions: partitions.collect(),
        });
        TopicMetadata { name, result }
    });
    MetadataResponse {
        brokers: vec![broker],
        controller: BrokerId::new(1),
        topics: topics.collect(),
    }
}

/// What becomes of a whole produce request.
enum Fate {
    Answer(ProduceResponse, Duration),
    Close,
    Ignore,
}

async fn handle_produce(
    shared: &Arc<Shared>,
    replies: &Replies,
    core: u16,
    connection: u64,
    meta: ResponseMeta,
    produce: &ProduceRequest<'_>,
) -> bool {
    let bytes: usize = produce.entries.iter().map(|entry| entry.batch.len()).sum();
    {
        let counters = &mut shared.state().counters;
        let outstanding = counters.outstanding_bytes.entry(connection).or_default();
        *outstanding += bytes;
        counters.outstanding_bytes_max = counters.outstanding_bytes_max.max(*outstanding);
        counters.produces += 1;
        counters.produce_cores.insert(core);
    }
    let fate = decide_produce(shared, core, connection, produce);
    shared.appended.notify_waiters();
    match fate {
        Fate::Close => false,
        Fate::Ignore => true,
        Fate::Answer(response, delay) => {
            let (shared, replies) = (Arc::clone(shared), Arc::clone(replies));
            let answer = async move {
                tokio::time::sleep(delay).await;
                *shared
                    .state()
                    .counters
                    .outstanding_bytes
                    .get_mut(&connection)
                    .unwrap() -= bytes;
                reply(&replies, &meta, &Response::Produce(response)).await
            };
            if delay.is_zero() {
                return answer.await;
            }
            tokio::spawn(answer);
            true
        }
    }
}

fn decide_produce(
    shared: &Shared,
    core: u16,
    connection: u64,
    produce: &ProduceRequest<'_>,
) -> Fate {
    let mut entries = Vec::new();
    let mut longest = Duration::ZERO;
    for entry in &produce.entries {
        let mut state = shared.state();
        state.counters.batches += 1;
        state.counters.resumes += u64::from(entry.resume);
        let (topic, index) = (entry.partition.topic, entry.partition.partition);
        let known = state
            .partition(topic, index)
            .map(|(_, partition)| partition.owner);
        let poison = (connection, topic, index.get());
        let mut owner = None;
        let mut result: Result<Receipt, ApiError> = Err(ErrorCode::ProduceOrder.into());
        if entry.resume {
            state.poisoned.remove(&poison);
        }
        if let Err(error) = known {
            result = Err(error);
        } else if let (Ok(owning), false) = (known, state.poisoned.contains(&poison)) {
            let seen = Seen {
                partition: index.get(),
                number: state.counters.batches - 1,
                values: values_of(&AlignedBytes::copy_of(entry.batch)),
            };
            owner = (owning != core).then(|| state.core_address(owning, shared.port(owning)));
            let mut decide = state.on_produce.take();
            let action = match &mut decide {
                _ if owner.is_some() && state.strict => Action::Refuse(ErrorCode::NotOwner),
                Some(decide) => decide(&seen),
                None => Action::Accept,
            };
            state.on_produce = decide;
            match action {
                Action::Accept => result = state.append(topic, index, entry.batch),
                Action::AcceptAfter(delay) => {
                    longest = longest.max(delay);
                    result = state.append(topic, index, entry.batch);
                }
                Action::Refuse(code) => result = Err(code.into()),
                Action::AcceptAndClose => {
                    state.append(topic, index, entry.batch).unwrap();
                    return Fate::Close;
                }
                Action::Close => return Fate::Close,
                Action::Ignore => return Fate::Ignore,
            }
        }
        if result.as_ref().is_err_and(ApiError::needs_resume) {
            state.poisoned.insert(poison);
        }
        entries.push(ProducedEntry {
            partition: entry.partition,
            result,
            owner,
        });
    }
    Fate::Answer(ProduceResponse { entries }, longest)
}

async fn answer_fetch(
    shared: &Arc<Shared>,
    replies: &Replies,
    core: u16,
    meta: ResponseMeta,
    fetch: &FetchRequest,
) {
    shared.state().counters.fetches += 1;
    let deadline = Instant::now() + Duration::from_millis(u64::from(fetch.max_wait_ms));
    loop {
        let appended = shared.appended.notified();
        tokio::pin!(appended);
        appended.as_mut().enable();
        let read = read_entries(shared, core, fetch);
        let bytes: usize = read
            .iter()
            .filter_map(|entry| entry.1.as_ref().ok())
            .map(|found| found.bytes.len())
            .sum();
        let any_error = read
            .iter()
            .any(|entry| !matches!(&entry.1, Ok(found) if found.diverging.is_none()));
        if bytes >= fetch.min_bytes as usize || any_error || Instant::now() >= deadline {
            let entries = fetch
                .entries
                .iter()
                .zip(&read)
                .map(|(asked, (owner, found))| FetchedEntry {
                    partition: asked.partition,
                    result: found.as_ref().map_err(Clone::clone).map(|found| Fetched {
                        high_watermark: Offset::new(found.high_watermark),
                        log_start_offset: Offset::new(found.start),
                        diverging: found.diverging,
                        batches: &found.bytes,
                    }),
                    owner: owner
                        .map(|owner| shared.state().core_address(owner, shared.port(owner))),
                });
            let response = Response::Fetch(FetchResponse {
                entries: entries.collect(),
            });
            reply(replies, &meta, &response).await;
            return;
        }
        // Whichever comes first; the loop looks again.
        let _ = tokio::time::timeout_at(deadline, appended).await;
    }
}

struct Found {
    bytes: Vec<u8>,
    high_watermark: u64,
    start: u64,
    diverging: Option<DivergingEpoch>,
}

type Read = (Option<u16>, Result<Found, ApiError>);

fn read_entries(shared: &Shared, core: u16, fetch: &FetchRequest) -> Vec<Read> {
    let mut state = shared.state();
    let strict = state.strict;
    let mut left = fetch.max_bytes as usize;
    let mut total = 0;
    let read = fetch.entries.iter().map(|entry| {
        let (_, partition) = match state.partition(entry.partition.topic, entry.partition.partition)
        {
            Ok(found) => found,
            Err(error) => return (None, Err(error)),
        };
        let owner = (partition.owner != core).then_some(partition.owner);
        if owner.is_some() && strict {
            return (owner, Err(ErrorCode::NotOwner.into()));
        }
        let offset = entry.offset.get();
        let (high_watermark, start) = (partition.end(), partition.start);
        let current = entry.current_epoch.unwrap_or(partition.epoch());
        if current != partition.epoch() {
            return (owner, Err(ErrorCode::FencedLeaderEpoch.into()));
        }
        let last = entry.last_epoch;
        if let Some(diverging) = last.and_then(|last| partition.divergence(last, offset)) {
            let found = Found {
                bytes: Vec::new(),
                high_watermark,
                start,
                diverging: Some(diverging),
            };
            return (owner, Ok(found));
        }
        if offset > partition.end() || offset < partition.start {
            return (owner, Err(ErrorCode::OffsetOutOfRange.into()));
        }
        let mut bytes = Vec::new();
        let most = left.min(entry.max_bytes as usize);
        for (_, end, batch) in &partition.log {
            let fits = bytes.len() + batch.len() <= most || total == 0;
            if *end > offset && fits {
                bytes.extend_from_slice(batch);
                total += batch.len();
            } else if *end > offset {
                break;
            }
        }
        left = left.saturating_sub(bytes.len());
        (
            owner,
            Ok(Found {
                bytes,
                high_watermark,
                start,
                diverging: None,
            }),
        )
    });
    read.collect()
}

fn list_offsets(shared: &Shared, request: &ListOffsetsRequest) -> ListOffsetsResponse {
    let mut state = shared.state();
    let entries = request.entries.iter().map(|entry| {
        let found = state.partition(entry.partition.topic, entry.partition.partition);
        let result = found.map(|(_, partition)| {
            let (offset, timestamp) = match entry.position {
                OffsetPosition::Earliest => (partition.start, Timestamp::new(-1)),
                OffsetPosition::Latest => (partition.end(), Timestamp::new(-1)),
                OffsetPosition::Timestamp(time) => {
                    let end = (partition.end(), Timestamp::new(-1));
                    partition.at_time(time).unwrap_or(end)
                }
            };
            let later = partition.epochs[1..].partition_point(|begun| *begun <= offset);
            ListedOffset {
                offset: Offset::new(offset),
                timestamp,
                leader_epoch: LeaderEpoch::new(later as u32 + 1),
            }
        });
        ListedEntry {
            partition: entry.partition,
            result,
            owner: None,
        }
    });
    ListOffsetsResponse {
        entries: entries.collect(),
    }
}

fn describe(shared: &Shared, names: Option<Vec<String>>) -> DescribeTopicsResponse {
    let state = shared.state();
    let names = names.unwrap_or_else(|| state.topics.keys().cloned().collect());
    let topics = names.into_iter().map(|name| {
        let Some(topic) = state.topics.get(&name) else {
            return DescribedTopic {
                name,
                result: Err(ErrorCode::UnknownTopic.into()),
            };
        };
        let configs = topic.configs.iter().map(|(key, value)| TopicConfigEntry {
            key: key.clone(),
            value: value.clone(),
            source: ConfigSource::Topic,
            bounded_by: Some("another".to_owned()),
        });
        let partitions =
            (0..)
                .zip(&topic.partitions)
                .map(|(index, partition)| DescribedPartition {
                    partition: PartitionIndex::new(index),
                    store: StoreId::new(0),
                    core: CoreId::new(partition.owner),
                    leader_epoch: partition.epoch(),
                    log_start_offset: Offset::new(partition.start),
                    high_watermark: Offset::new(partition.end()),
                    log_end_offset: Offset::new(partition.end()),
                    size_bytes: partition
                        .log
                        .iter()
                        .map(|(_, _, bytes)| bytes.len() as u64)
                        .sum(),
                    epoch_start_offset: Offset::new(*partition.epochs.last().unwrap()),
                    state: PartitionState::Online,
                    damage: Vec::new(),
                    readers: Vec::new(),
                });
        let description = TopicDescription {
            id: topic.id,
            configs: configs.collect(),
            partitions: partitions.collect(),
        };
        DescribedTopic {
            name,
            result: Ok(description),
        }
    });
    DescribeTopicsResponse {
        topics: topics.collect(),
    }
}
