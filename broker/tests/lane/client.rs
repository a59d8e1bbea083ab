//! A client that speaks in whole requests and keeps what it is answered.

use corelane_broker::lane::ConnectionId;
use corelane_protocol::batch::{
    BatchBuilder, BatchBuilderConfig, DecompressLimit, RecordBatch, RecordRef,
};
use corelane_protocol::ids::CorrelationId;
use corelane_protocol::request::{
    Acks, AlterTopicConfigsRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteTopicsRequest, DescribeTopicsRequest, FetchEntry, FetchRequest, ListOffsetsEntry,
    ListOffsetsRequest, MetadataRequest, NewTopic, OffsetPosition, ProduceEntry, ProduceRequest,
    TopicAlteration, TopicExtension,
};
use corelane_protocol::response::{
    ConfigSource, CoreAddress, DescribedPartition, DescribedTopic, FetchResponse, ListedOffset,
    PartitionMetadata, ProduceResponse, Receipt,
};
use corelane_protocol::{
    AlignedBytes, ApiError, CoreId, ErrorCode, Offset, PartitionIndex, Request, RequestFlags,
    Response, ResponseHeader, Timestamp, TopicId, TopicPartition,
};

use crate::world::World;

/// The client's end of a connection.
pub(crate) struct Client {
    pub(crate) core: CoreId,
    pub(crate) connection: ConnectionId,
    /// Whether what is sent is read at once.
    pub(crate) reading: bool,
    /// What the broker wants: to receive, or a pause.
    pub(crate) receiving: bool,
    pub(crate) open: bool,
    pub(crate) closed_by_broker: bool,
    /// Whether it was closed without waiting for replies to be sent and taken.
    pub(crate) closed_at_once: bool,
    /// Sent by the broker and not read.
    pub(crate) unread: Vec<u8>,
    inbox: Vec<u8>,
    correlation: u32,
}

/// One answer.
pub(crate) struct Reply {
    pub(crate) header: ResponseHeader,
    body: Vec<u8>,
}

impl Client {
    pub(crate) fn new(core: CoreId, connection: ConnectionId) -> Self {
        Self {
            core,
            connection,
            reading: true,
            receiving: true,
            open: true,
            closed_by_broker: false,
            closed_at_once: false,
            unread: Vec::new(),
            inbox: Vec::new(),
            correlation: 0,
        }
    }

    /// Moves what was sent into the inbox; how much it was.
    pub(crate) fn read(&mut self) -> usize {
        let length = self.unread.len();
        self.inbox.append(&mut self.unread);
        length
    }

    /// Takes the next answer, if a whole one is there.
    pub(crate) fn take_reply(&mut self) -> Option<Reply> {
        let header = ResponseHeader::parse(&self.inbox, u32::MAX).expect("a sound header")?;
        let length = header.frame_length();
        if self.inbox.len() < length {
            return None;
        }
        let body = self.inbox[ResponseHeader::LEN..length].to_vec();
        self.inbox.drain(..length);
        Some(Reply { header, body })
    }
}

impl Reply {
    pub(crate) fn correlation(&self) -> u32 {
        self.header.correlation_id.get()
    }

    pub(crate) fn response(&self) -> Result<Response<'_>, ApiError> {
        Response::decode(&self.header, &self.body).expect("a sound body")
    }

    pub(crate) fn code(&self) -> Option<ErrorCode> {
        self.response().err().map(|error| error.code)
    }

    pub(crate) fn produce(&self) -> ProduceResponse {
        match self.response() {
            Ok(Response::Produce(response)) => response,
            other => panic!("not an answer to a produce: {other:?}"),
        }
    }

    pub(crate) fn fetch(&self) -> FetchResponse<'_> {
        match self.response() {
            Ok(Response::Fetch(response)) => response,
            other => panic!("not an answer to a fetch: {other:?}"),
        }
    }

    /// The outcomes of a produce: receipts, or codes.
    pub(crate) fn receipts(&self) -> Vec<Result<Receipt, ErrorCode>> {
        let entries = self.produce().entries.into_iter();
        entries
            .map(|entry| entry.result.map_err(|error| error.code))
            .collect()
    }

    pub(crate) fn owner(&self) -> Option<CoreAddress> {
        self.produce().entries[0].owner.clone()
    }

    /// The values that a fetch returned for each entry, with their offsets, or codes.
    pub(crate) fn values(&self) -> Vec<Result<Vec<(u64, String)>, ErrorCode>> {
        let entries = self.fetch().entries;
        let values = entries.into_iter().map(|entry| match entry.result {
            Err(error) => Err(error.code),
            Ok(fetched) => Ok(records(fetched.batches)),
        });
        values.collect()
    }
}

/// The records of several batches, offsets and values.
pub(crate) fn records(mut bytes: &[u8]) -> Vec<(u64, String)> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let length = u32::from_le_bytes(bytes[56..60].try_into().expect("four bytes")) as usize;
        let aligned = AlignedBytes::copy_of(&bytes[..length]);
        let batch =
            RecordBatch::parse(aligned, &DecompressLimit::default()).expect("a sound batch");
        for record in batch.records() {
            let value = record.value.expect("tests write values");
            let text = String::from_utf8(value.to_vec()).expect("tests write text");
            records.push((record.offset.get(), text));
        }
        bytes = &bytes[length..];
    }
    records
}

/// A batch of these values.
pub(crate) fn batch(values: &[&str]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchBuilderConfig::default()).expect("a codec");
    for value in values {
        let record = RecordRef {
            value: Some(value.as_bytes()),
            timestamp: Timestamp::new(1_700_000_000_000),
            ..RecordRef::default()
        };
        builder.try_push(record).expect("a small record");
    }
    builder.finish().expect("a batch").to_vec()
}

/// One batch of a produce.
#[derive(Clone)]
pub(crate) struct Put {
    pub(crate) partition: TopicPartition,
    pub(crate) batch: Vec<u8>,
    pub(crate) resume: bool,
}

pub(crate) fn put(partition: TopicPartition, value: &str) -> Put {
    Put {
        partition,
        batch: batch(&[value]),
        resume: false,
    }
}

pub(crate) fn at(topic: TopicId, partition: u32) -> TopicPartition {
    TopicPartition::new(topic, PartitionIndex::new(partition))
}

/// The bytes of a produce.
pub(crate) fn produce_frame(correlation: u32, acks: Acks, puts: &[Put]) -> Vec<u8> {
    let entries = puts.iter().map(|put| ProduceEntry {
        partition: put.partition,
        resume: put.resume,
        batch: &put.batch,
    });
    let request = Request::Produce(ProduceRequest {
        acks,
        timeout_ms: 30_000,
        entries: entries.collect(),
    });
    frame(correlation, RequestFlags::NONE, &request)
}

/// The bytes of a request.
pub(crate) fn frame(correlation: u32, flags: RequestFlags, request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    request
        .encode(CorrelationId::new(correlation), flags, &mut out)
        .expect("a request that fits");
    out
}

/// A wish for more partitions of one topic.
pub(crate) fn extension(name: &str, total: u32) -> Request<'static> {
    Request::CreatePartitions(CreatePartitionsRequest {
        topics: vec![TopicExtension {
            name: name.to_owned(),
            total,
        }],
        validate_only: false,
    })
}

/// A change of one topic's settings.
pub(crate) fn alteration(name: &str, set: &[(&str, &str)], unset: &[&str]) -> Request<'static> {
    let set = set
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let change = TopicAlteration {
        name: name.to_owned(),
        set: set.collect(),
        unset: unset.iter().map(|key| (*key).to_owned()).collect(),
    };
    Request::AlterTopicConfigs(AlterTopicConfigsRequest {
        topics: vec![change],
        validate_only: false,
    })
}

/// A fetch of everything from these offsets on.
pub(crate) fn fetch_request(
    entries: &[(TopicPartition, u64)],
    max_wait_ms: u32,
    min_bytes: u32,
) -> FetchRequest {
    let entries = entries
        .iter()
        .map(|(partition, offset)| FetchEntry::new(*partition, Offset::new(*offset), 1 << 20));
    FetchRequest {
        max_wait_ms,
        min_bytes,
        max_bytes: 4 << 20,
        entries: entries.collect(),
    }
}

impl World {
    /// Sends a request; its correlation id.
    pub(crate) fn send(&mut self, client: usize, request: &Request<'_>) -> u32 {
        self.send_flagged(client, RequestFlags::NONE, request)
    }

    pub(crate) fn send_flagged(
        &mut self,
        client: usize,
        flags: RequestFlags,
        request: &Request<'_>,
    ) -> u32 {
        self.clients[client].correlation += 1;
        let correlation = self.clients[client].correlation;
        let bytes = frame(correlation, flags, request);
        self.receive(client, &bytes);
        correlation
    }

    /// Sends a produce without waiting for anything; its correlation id.
    pub(crate) fn send_produce(&mut self, client: usize, acks: Acks, puts: &[Put]) -> u32 {
        self.clients[client].correlation += 1;
        let correlation = self.clients[client].correlation;
        self.receive(client, &produce_frame(correlation, acks, puts));
        correlation
    }

    pub(crate) fn send_fetch(&mut self, client: usize, request: FetchRequest) -> u32 {
        self.send(client, &Request::Fetch(request))
    }

    /// The next answer, which must be there.
    pub(crate) fn reply(&mut self, client: usize) -> Reply {
        self.clients[client].take_reply().expect("an answer")
    }

    pub(crate) fn no_reply(&mut self, client: usize) {
        assert!(
            self.clients[client].take_reply().is_none(),
            "an answer that came too soon"
        );
    }

    /// Asks and waits for the answer.
    pub(crate) fn ask(&mut self, client: usize, request: &Request<'_>) -> Reply {
        let correlation = self.send(client, request);
        self.settle();
        let reply = self.reply(client);
        assert_eq!(reply.correlation(), correlation);
        reply
    }

    /// Sends a creation without waiting for anything.
    pub(crate) fn send_create(&mut self, client: usize, name: &str, partitions: u32) {
        let request = CreateTopicsRequest {
            topics: vec![NewTopic {
                name: name.to_owned(),
                partitions,
                configs: Vec::new(),
            }],
            validate_only: false,
        };
        self.send(client, &Request::CreateTopics(request));
    }

    /// Sends a deletion without waiting for anything.
    pub(crate) fn send_delete(&mut self, client: usize, name: &str) {
        let names = vec![name.to_owned()];
        self.send(
            client,
            &Request::DeleteTopics(DeleteTopicsRequest { names }),
        );
    }

    /// Creates a topic through a client; its id, or why not.
    pub(crate) fn try_create(
        &mut self,
        client: usize,
        name: &str,
        partitions: u32,
        configs: &[(&str, &str)],
    ) -> Result<TopicId, ApiError> {
        let configs = configs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let request = Request::CreateTopics(CreateTopicsRequest {
            topics: vec![NewTopic {
                name: name.to_owned(),
                partitions,
                configs: configs.collect(),
            }],
            validate_only: false,
        });
        let reply = self.ask(client, &request);
        match reply.response()? {
            Response::CreateTopics(mut response) => response.topics.remove(0).result,
            other => panic!("not an answer to a creation: {other:?}"),
        }
    }

    /// Creates a topic through a client of its own on core 0.
    pub(crate) fn create(
        &mut self,
        name: &str,
        partitions: u32,
        configs: &[(&str, &str)],
    ) -> TopicId {
        let client = self.connect(0);
        let id = self
            .try_create(client, name, partitions, configs)
            .expect("a topic");
        self.disconnect(client);
        id
    }

    pub(crate) fn delete(&mut self, client: usize, name: &str) -> Result<TopicId, ApiError> {
        let names = vec![name.to_owned()];
        let reply = self.ask(
            client,
            &Request::DeleteTopics(DeleteTopicsRequest { names }),
        );
        match reply.response()? {
            Response::DeleteTopics(mut response) => response.topics.remove(0).result,
            other => panic!("not an answer to a deletion: {other:?}"),
        }
    }

    /// Changes a topic's settings through a client.
    pub(crate) fn alter(
        &mut self,
        client: usize,
        name: &str,
        set: &[(&str, &str)],
        unset: &[&str],
    ) -> Result<TopicId, ApiError> {
        let request = alteration(name, set, unset);
        let reply = self.ask(client, &request);
        match reply.response()? {
            Response::AlterTopicConfigs(mut response) => response.topics.remove(0).result,
            other => panic!("not an answer to an alteration: {other:?}"),
        }
    }

    /// Topics as a client's core describes them; `None` for all.
    pub(crate) fn describe(
        &mut self,
        client: usize,
        names: Option<&[&str]>,
    ) -> Vec<DescribedTopic> {
        let topics = names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let request = Request::DescribeTopics(DescribeTopicsRequest { topics });
        let reply = self.ask(client, &request);
        match reply.response() {
            Ok(Response::DescribeTopics(response)) => response.topics,
            other => panic!("not a description: {other:?}"),
        }
    }

    /// The partitions of a topic as a client's core describes them.
    pub(crate) fn describe_partitions(
        &mut self,
        client: usize,
        name: &str,
    ) -> Vec<DescribedPartition> {
        let described = self.describe(client, Some(&[name])).remove(0);
        described.result.expect("a topic").partitions
    }

    /// Gives a topic more partitions through a client.
    pub(crate) fn extend(
        &mut self,
        client: usize,
        name: &str,
        total: u32,
    ) -> Result<TopicId, ApiError> {
        let reply = self.ask(client, &extension(name, total));
        match reply.response()? {
            Response::CreatePartitions(mut response) => response.topics.remove(0).result,
            other => panic!("not an answer to an extension: {other:?}"),
        }
    }

    /// The value of a topic's setting and who set it, as a client's core describes them.
    pub(crate) fn setting(
        &mut self,
        client: usize,
        name: &str,
        key: &str,
    ) -> (String, ConfigSource) {
        let described = self.describe(client, Some(&[name])).remove(0);
        let described = described.result.expect("a topic");
        let found = described
            .configs
            .into_iter()
            .find(|config| config.key == key);
        let found = found.expect("a setting that exists");
        (found.value, found.source)
    }

    /// The cores of a topic's partitions as the metadata of a client's core has them.
    pub(crate) fn owners(&mut self, client: usize, name: &str) -> Result<Vec<u16>, ErrorCode> {
        let partitions = self.metadata_of(client, name)?.into_iter();
        Ok(partitions.map(|partition| partition.core.get()).collect())
    }

    /// Their leader epochs.
    pub(crate) fn leader_epochs(&mut self, client: usize, name: &str) -> Vec<u32> {
        let partitions = self.metadata_of(client, name).expect("a topic").into_iter();
        partitions
            .map(|partition| partition.leader_epoch.get())
            .collect()
    }

    fn metadata_of(
        &mut self,
        client: usize,
        name: &str,
    ) -> Result<Vec<PartitionMetadata>, ErrorCode> {
        let topics = Some(vec![name.to_owned()]);
        let reply = self.ask(client, &Request::Metadata(MetadataRequest { topics }));
        let Ok(Response::Metadata(mut response)) = reply.response() else {
            panic!("not an answer to a metadata request");
        };
        let topic = response.topics.remove(0).result;
        Ok(topic.map_err(|error| error.code)?.partitions)
    }

    /// A partition of the topic that this core owns.
    pub(crate) fn partition_on(
        &mut self,
        name: &str,
        topic: TopicId,
        number: u16,
    ) -> TopicPartition {
        let client = self.connect(0);
        let owners = self.owners(client, name).expect("a topic");
        self.disconnect(client);
        let index = owners
            .iter()
            .position(|owner| *owner == number)
            .expect("a partition there");
        at(topic, u32::try_from(index).expect("few partitions"))
    }

    /// Produces one value and waits; its offset.
    pub(crate) fn produce_one(
        &mut self,
        client: usize,
        partition: TopicPartition,
        value: &str,
    ) -> Result<u64, ErrorCode> {
        self.send_produce(client, Acks::All, &[put(partition, value)]);
        self.settle();
        let receipt = self.reply(client).receipts().remove(0)?;
        Ok(receipt.base_offset.get())
    }

    /// Everything in a partition, through a client.
    pub(crate) fn read_all(
        &mut self,
        client: usize,
        partition: TopicPartition,
    ) -> Vec<(u64, String)> {
        let mut all = Vec::new();
        loop {
            let from = all
                .last()
                .map_or(0, |(offset, _): &(u64, String)| offset + 1);
            self.send_fetch(client, fetch_request(&[(partition, from)], 0, 0));
            self.settle();
            let mut values = self
                .reply(client)
                .values()
                .remove(0)
                .expect("a partition that reads");
            values.retain(|(offset, _)| *offset >= from);
            if values.is_empty() {
                return all;
            }
            all.extend(values);
        }
    }

    /// The values of a partition, in order.
    pub(crate) fn values(&mut self, client: usize, partition: TopicPartition) -> Vec<String> {
        let records = self.read_all(client, partition).into_iter();
        records.map(|(_, value)| value).collect()
    }

    pub(crate) fn list_offset(
        &mut self,
        client: usize,
        partition: TopicPartition,
        position: OffsetPosition,
    ) -> Result<u64, ErrorCode> {
        let listed = self.listed(client, partition, position)?;
        Ok(listed.offset.get())
    }

    pub(crate) fn listed(
        &mut self,
        client: usize,
        partition: TopicPartition,
        position: OffsetPosition,
    ) -> Result<ListedOffset, ErrorCode> {
        let entries = vec![ListOffsetsEntry {
            partition,
            position,
        }];
        let reply = self.ask(
            client,
            &Request::ListOffsets(ListOffsetsRequest { entries }),
        );
        let Ok(Response::ListOffsets(mut response)) = reply.response() else {
            panic!("not an answer to a list of offsets");
        };
        let listed = response.entries.remove(0).result;
        listed.map_err(|error| error.code)
    }
}
