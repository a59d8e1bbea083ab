//! Brokers in temporary directories, and a client that speaks one frame at a time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use corelane_broker::config::{BrokerConfig, CoreSelection};
use corelane_broker::runtime::{Running, serve};
use corelane_protocol::batch::{
    BatchBuilder, BatchBuilderConfig, DecompressLimit, RecordBatch, RecordRef, batches,
};
use corelane_protocol::frame::{RequestFlags, ResponseHeader};
use corelane_protocol::request::{
    Acks, CommitEntry, CommitOffsetsRequest, CreateTopicsRequest, FetchEntry, FetchRequest,
    MetadataRequest, NewTopic, ProduceEntry, ProduceRequest, Request,
};
use corelane_protocol::response::{MetadataResponse, Receipt, Response, TopicPartitions};
use corelane_protocol::{
    ApiError, CorrelationId, ErrorCode, Offset, PartitionIndex, Timestamp, TopicPartition,
};

const FRAME_BYTES_MAX: u32 = 64 << 20;

/// A small broker: two cores that share a CPU where there is only one.
pub(crate) fn config(data_dir: &Path) -> BrokerConfig {
    let mut config = BrokerConfig::default();
    config.server.data_dir = data_dir.to_owned();
    config.server.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.server.cores = CoreSelection::Count(2);
    config.admin.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.journal.file_bytes = 40 << 20;
    config.memory.per_core_bytes = 128 << 20;
    config
}

pub(crate) fn start(data_dir: &Path) -> Running {
    serve(config(data_dir)).unwrap_or_else(|error| panic!("the broker does not start: {error}"))
}

pub(crate) fn shut_down(broker: Running) {
    broker.shutdown_handle().shut_down();
    broker.join().expect("an orderly end");
}

pub(crate) struct Client {
    stream: TcpStream,
    next: u32,
    received: Vec<u8>,
    is_closed: bool,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the broker listens");
        stream.set_nodelay(true).expect("a TCP socket");
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("a TCP socket");
        Self {
            stream,
            next: 1,
            received: Vec::new(),
            is_closed: false,
        }
    }

    /// Sends a request and returns its correlation id.
    pub(crate) fn send(&mut self, request: &Request<'_>, flags: RequestFlags) -> CorrelationId {
        let id = CorrelationId::new(self.next);
        self.next += 1;
        let mut frame = Vec::new();
        request.encode(id, flags, &mut frame).expect("it fits");
        // A broker that was killed answers nothing, which who receives will see.
        self.is_closed |= self.stream.write_all(&frame).is_err();
        id
    }

    /// Whether a request could not be sent.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The next response frame, whichever request it answers.
    pub(crate) fn receive(&mut self) -> (ResponseHeader, Vec<u8>) {
        self.try_receive().expect("a response")
    }

    pub(crate) fn try_receive(&mut self) -> std::io::Result<(ResponseHeader, Vec<u8>)> {
        loop {
            let header = ResponseHeader::parse(&self.received, FRAME_BYTES_MAX)
                .expect("the broker's frames are sound");
            if let Some(header) = header
                && self.received.len() >= header.frame_length()
            {
                let rest = self.received.split_off(header.frame_length());
                let frame = std::mem::replace(&mut self.received, rest);
                return Ok((header, frame[ResponseHeader::LEN..].to_vec()));
            }
            let mut piece = vec![0; 256 * 1024];
            let bytes = self.stream.read(&mut piece)?;
            if bytes == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            self.received.extend_from_slice(&piece[..bytes]);
        }
    }

    pub(crate) fn encode_produce(&mut self, partition: TopicPartition, batch: &[u8]) -> Vec<u8> {
        let request = Request::Produce(ProduceRequest {
            acks: Acks::All,
            timeout_ms: 30_000,
            entries: vec![ProduceEntry {
                partition,
                resume: false,
                batch,
            }],
        });
        let id = CorrelationId::new(self.next);
        self.next += 1;
        let mut frame = Vec::new();
        request
            .encode(id, RequestFlags::default(), &mut frame)
            .expect("it fits");
        frame
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("connected");
    }

    /// Another handle on the same connection, to send from another thread.
    pub(crate) fn another_handle(&self) -> Self {
        Self {
            stream: self.stream.try_clone().expect("a descriptor"),
            next: 1 << 30,
            received: Vec::new(),
            is_closed: false,
        }
    }

    pub(crate) fn call(
        &mut self,
        request: &Request<'_>,
        flags: RequestFlags,
    ) -> (ResponseHeader, Vec<u8>) {
        let id = self.send(request, flags);
        let (header, body) = self.receive();
        assert_eq!(header.correlation_id, id);
        (header, body)
    }

    pub(crate) fn metadata(&mut self) -> MetadataResponse {
        let request = Request::Metadata(MetadataRequest { topics: None });
        let (header, body) = self.call(&request, RequestFlags::default());
        match Response::decode(&header, &body)
            .expect("sound")
            .expect("answered")
        {
            Response::Metadata(metadata) => metadata,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn create_topic(&mut self, name: &str, partitions: u32) -> TopicPartitions {
        self.create_topic_with(name, partitions, &[])
    }

    pub(crate) fn create_topic_with(
        &mut self,
        name: &str,
        partitions: u32,
        configs: &[(&str, &str)],
    ) -> TopicPartitions {
        let configs = configs.iter();
        let configs = configs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let request = Request::CreateTopics(CreateTopicsRequest {
            topics: vec![NewTopic {
                name: name.to_owned(),
                partitions,
                configs: configs.collect(),
            }],
            validate_only: false,
        });
        let (header, body) = self.call(&request, RequestFlags::default());
        let response = Response::decode(&header, &body)
            .expect("sound")
            .expect("answered");
        let Response::CreateTopics(created) = response else {
            panic!("{response:?}");
        };
        for topic in created.topics {
            topic.result.expect("created");
        }
        self.topic(name)
    }

    pub(crate) fn topic(&mut self, name: &str) -> TopicPartitions {
        let topics = self.metadata().topics;
        let topic = topics.into_iter().find(|topic| topic.name == name);
        topic.expect("it exists").result.expect("it is served")
    }

    pub(crate) fn send_produce(
        &mut self,
        partition: TopicPartition,
        batch: &[u8],
        flags: RequestFlags,
    ) -> CorrelationId {
        let request = Request::Produce(ProduceRequest {
            acks: Acks::All,
            timeout_ms: 30_000,
            entries: vec![ProduceEntry {
                partition,
                resume: false,
                batch,
            }],
        });
        self.send(&request, flags)
    }

    pub(crate) fn receive_receipt(&mut self) -> Result<Receipt, ApiError> {
        let (header, body) = self.receive();
        receipt(&header, &body)
    }

    pub(crate) fn produce(
        &mut self,
        partition: TopicPartition,
        batch: &[u8],
    ) -> Result<Receipt, ApiError> {
        self.send_produce(partition, batch, RequestFlags::default());
        self.receive_receipt()
    }

    /// Commits an offset of a group that has no members, once groups are served.
    pub(crate) fn commit(&mut self, group: &str, partition: TopicPartition, offset: u64) {
        let request = Request::CommitOffsets(CommitOffsetsRequest {
            group: group.to_owned(),
            member: None,
            entries: vec![CommitEntry {
                partition,
                offset: Offset::new(offset),
                leader_epoch: None,
                metadata: String::new(),
            }],
        });
        for _ in 0..1000 {
            let (header, body) = self.call(&request, RequestFlags::default());
            let response = Response::decode(&header, &body)
                .expect("sound")
                .expect("answered");
            let Response::CommitOffsets(answer) = response else {
                panic!("{response:?}");
            };
            match answer.result {
                Ok(mut entries) => {
                    entries.remove(0).result.expect("committed");
                    return;
                }
                // The first group has the topic made that keeps groups.
                Err(error) => assert_eq!(error.code, ErrorCode::GroupLoading, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("groups are never served");
    }

    /// Every value from `offset` on, up to the high watermark.
    pub(crate) fn read_all(&mut self, partition: TopicPartition) -> Vec<Vec<u8>> {
        let mut values = Vec::new();
        let mut offset = 0;
        loop {
            let (next, high_watermark) = self.fetch(partition, offset, 0, &mut values);
            offset = next;
            if offset >= high_watermark {
                return values;
            }
        }
    }

    /// Appends what one fetch returns; the offset after it, and the high watermark.
    pub(crate) fn fetch(
        &mut self,
        partition: TopicPartition,
        offset: u64,
        max_wait_ms: u32,
        values: &mut Vec<Vec<u8>>,
    ) -> (u64, u64) {
        let request = Request::Fetch(FetchRequest {
            max_wait_ms,
            min_bytes: 1,
            max_bytes: 4 << 20,
            entries: vec![FetchEntry::new(partition, Offset::new(offset), 4 << 20)],
        });
        let (header, body) = self.call(&request, RequestFlags::default());
        let response = Response::decode(&header, &body)
            .expect("sound")
            .expect("answered");
        let Response::Fetch(mut fetched) = response else {
            panic!("{response:?}");
        };
        let fetched = fetched.entries.remove(0).result.expect("served");
        let mut next = offset;
        for bytes in batches(fetched.batches) {
            let bytes = bytes.expect("whole batches");
            let batch = RecordBatch::parse(bytes, &DecompressLimit::default()).expect("sound");
            for record in batch.records() {
                if record.offset.get() >= next {
                    assert_eq!(record.offset.get(), next, "no offset is skipped");
                    values.push(record.value.expect("not null").to_vec());
                    next += 1;
                }
            }
        }
        (next, fetched.high_watermark.get())
    }
}

pub(crate) fn receipt(header: &ResponseHeader, body: &[u8]) -> Result<Receipt, ApiError> {
    let response = Response::decode(header, body).expect("sound")?;
    let Response::Produce(mut produced) = response else {
        panic!("{response:?}");
    };
    produced.entries.remove(0).result
}

pub(crate) fn batch(values: &[&[u8]]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchBuilderConfig::default()).expect("no codec to set up");
    for value in values {
        let record = RecordRef {
            value: Some(value),
            timestamp: Timestamp::new(1),
            ..RecordRef::default()
        };
        builder.try_push(record).expect("room");
    }
    builder.finish().expect("records").to_vec()
}

pub(crate) fn partition(topic: &TopicPartitions, index: u32) -> TopicPartition {
    TopicPartition::new(topic.id, PartitionIndex::new(index))
}
