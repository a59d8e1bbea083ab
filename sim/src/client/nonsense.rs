//! A client without structure: valid requests about anything, invalid ones, garbage, halves of frames.
//!
//! Whatever it does may cost itself its connection, and nobody else anything. It never sends a sound batch to
//! a topic that others read.

use corelane_protocol::request::{
    Acks, ApiVersionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeTopicsRequest,
    FetchEntry, FetchRequest, ListOffsetsEntry, ListOffsetsRequest, MetadataRequest, NewTopic,
    OffsetPosition, ProduceEntry, ProduceRequest,
};
use corelane_protocol::response::Response;
use corelane_protocol::{
    CorrelationId, Offset, PartitionIndex, Request, RequestFlags, TopicId, TopicPartition,
};

use super::frames::{NewRecord, batch, frame};
use super::link::Link;
use super::{Client, ClientEvent, Context};
use crate::counters::Sometimes;

pub(crate) struct Nonsense {
    link: Link,
    next_us: u64,
    /// Ids that it has heard of.
    heard: Vec<TopicId>,
    correlation: u32,
    /// It has sent something after which the broker may close.
    misbehaved: bool,
}

impl Nonsense {
    pub(crate) fn new() -> Self {
        Self {
            link: Link::new(),
            next_us: 0,
            heard: Vec::new(),
            correlation: 0,
            misbehaved: false,
        }
    }

    fn work(&mut self, context: &mut Context<'_>) {
        self.link.tend(context);
        let mut next = self.link.next_us(context.now_us);
        if self.link.open().is_some() && !context.is_draining {
            if self.next_us <= context.now_us {
                self.next_us = context.now_us + context.about(40_000);
                self.act(context);
            }
            next = next.min(self.next_us);
        }
        context.wake_at(next);
    }

    fn act(&mut self, context: &mut Context<'_>) {
        let conn = self.link.open().expect("looked at by the caller");
        match context.random.below(20) {
            0 => {
                let mut bytes = vec![0; 1 + context.random.index(400)];
                context.random.fill(&mut bytes);
                self.misbehaved = true;
                context.send(conn, bytes);
            }
            1 => {
                let mut bytes = self.anything(context);
                bytes.truncate(context.random.index(bytes.len()));
                context.history.reached(Sometimes::FrameHalfSent);
                context.send(conn, bytes);
                self.link.close(context);
            }
            2 => {
                let mut bytes = self.anything(context);
                let byte = context.random.index(bytes.len());
                bytes[byte] ^= 1 << context.random.below(8);
                self.misbehaved = true;
                context.send(conn, bytes);
            }
            3 => self.link.close(context),
            _ => {
                for _ in 0..=context.random.below(8) {
                    let bytes = self.anything(context);
                    context.send(conn, bytes);
                }
            }
        }
    }

    fn partition(&mut self, context: &mut Context<'_>) -> TopicPartition {
        let known = !self.heard.is_empty() && context.random.chance(4, 5);
        let topic = if known {
            self.heard[context.random.index(self.heard.len())]
        } else {
            let mut id = [0; 16];
            context.random.fill(&mut id);
            TopicId::from_bytes(id)
        };
        TopicPartition::new(topic, PartitionIndex::new(context.random.below(7) as u32))
    }

    fn name_of_topic(context: &mut Context<'_>) -> String {
        match context.random.below(6) {
            0 => String::new(),
            1 => "../x".to_owned(),
            2 => "x".repeat(300),
            number => format!("n{number}"),
        }
    }

    /// A request that follows its layout, whatever it asks.
    fn anything(&mut self, context: &mut Context<'_>) -> Vec<u8> {
        let partition = self.partition(context);
        let name = Self::name_of_topic(context);
        let spoilt = spoilt_batch(context);
        let random = &mut *context.random;
        let request = match random.below(9) {
            0 => Request::ApiVersions(ApiVersionsRequest {
                client_name: name,
                client_version: "0".to_owned(),
            }),
            1 => Request::Metadata(MetadataRequest {
                topics: random.coin().then(|| vec![name]),
            }),
            2 => Request::Produce(ProduceRequest {
                acks: [Acks::None, Acks::Leader, Acks::All][random.index(3)],
                timeout_ms: random.below(3_000) as u32,
                entries: (0..random.below(3))
                    .map(|_| ProduceEntry {
                        partition,
                        resume: random.coin(),
                        batch: &spoilt,
                    })
                    .collect(),
            }),
            3 | 4 => Request::Fetch(FetchRequest {
                max_wait_ms: random.below(3_000) as u32,
                min_bytes: random.below(1 << 20) as u32,
                max_bytes: random.below(1 << 20) as u32,
                entries: (0..random.below(4))
                    .map(|_| {
                        FetchEntry::new(
                            partition,
                            Offset::new(random.below(3_000)),
                            random.below(1 << 20) as u32,
                        )
                    })
                    .collect(),
            }),
            5 => Request::ListOffsets(ListOffsetsRequest {
                entries: vec![ListOffsetsEntry {
                    partition,
                    position: [OffsetPosition::Earliest, OffsetPosition::Latest][random.index(2)],
                }],
            }),
            6 => Request::CreateTopics(CreateTopicsRequest {
                topics: vec![NewTopic {
                    name,
                    partitions: random.below(4) as u32,
                    configs: if random.chance(1, 3) {
                        vec![("segment.bytes".to_owned(), "much".to_owned())]
                    } else {
                        Vec::new()
                    },
                }],
                validate_only: random.coin(),
            }),
            7 => {
                let name = format!("n{}", random.below(6));
                Request::DeleteTopics(DeleteTopicsRequest { names: vec![name] })
            }
            _ => Request::DescribeTopics(DescribeTopicsRequest {
                topics: random.coin().then(|| vec![name]),
            }),
        };
        self.correlation += 1;
        let flags = if random.chance(1, 5) {
            RequestFlags::NO_FORWARD
        } else {
            RequestFlags::NONE
        };
        frame(CorrelationId::new(self.correlation).get(), flags, &request)
    }
}

/// A batch whose checksum does not fit it, nor would if another bit of the frame were turned over.
fn spoilt_batch(context: &mut Context<'_>) -> Vec<u8> {
    let nonsense = NewRecord {
        key: None,
        identity: b"nonsense".to_vec(),
        is_tombstone: false,
    };
    let mut bytes = batch(&[nonsense], &[1_700_000_000_000]);
    let byte = 64 + context.random.index(bytes.len() - 65);
    for byte in [byte, byte + 1] {
        bytes[byte] ^= 1 << context.random.below(8);
    }
    bytes
}

impl Client for Nonsense {
    fn name(&self) -> String {
        "nonsense".to_owned()
    }

    fn handle(&mut self, context: &mut Context<'_>, event: ClientEvent) {
        match event {
            ClientEvent::Wake => {}
            ClientEvent::Connected(conn) => {
                self.link.connected(conn);
                self.misbehaved = false;
            }
            ClientEvent::Closed(conn) if self.link.is(conn) => {
                if self.misbehaved {
                    context.history.reached(Sometimes::GarbageClosed);
                }
                self.link.closed(context);
            }
            ClientEvent::Reply(conn, reply) if self.link.is(conn) => match reply.response() {
                Err(problem) => context.history.problem(format!("nonsense: {problem}")),
                Ok(Err(_)) => context.history.reached(Sometimes::NonsenseRefused),
                Ok(Ok(Response::Metadata(response))) => {
                    let found = response.topics.into_iter();
                    let found = found
                        .filter_map(|topic| topic.result.ok())
                        .map(|topic| topic.id);
                    self.heard.extend(found);
                    let old = self.heard.len().saturating_sub(30);
                    self.heard.drain(..old);
                }
                Ok(Ok(Response::Produce(response))) => {
                    for entry in response.entries {
                        if let Ok(receipt) = entry.result {
                            let problem = format!("a spoilt batch was taken: {receipt:?}");
                            context.history.problem(problem);
                        }
                    }
                }
                Ok(Ok(_)) => {}
            },
            ClientEvent::Closed(_) | ClientEvent::Reply(..) => return,
        }
        self.work(context);
    }

    fn is_done(&self) -> bool {
        true
    }

    fn waits_for(&self) -> String {
        String::new()
    }
}
