//! The bytes that hostile clients send.

use corelane_protocol::request::{
    Acks, FetchEntry, FetchRequest, ListOffsetsEntry, ListOffsetsRequest, MetadataRequest,
    OffsetPosition, ProduceEntry, ProduceRequest,
};
use corelane_protocol::{CorrelationId, Offset, Request, RequestFlags, Timestamp, TopicPartition};

use crate::BenchError;
use crate::broker::CoreTopic;
use crate::frames::Batch;

fn encoded(request: &Request<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    let encoded = request.encode(CorrelationId::new(9), RequestFlags::NONE, &mut frame);
    encoded.expect("a small request fits a frame");
    frame
}

fn places(topic: &CoreTopic) -> impl Iterator<Item = TopicPartition> {
    let partitions = topic.partitions.iter();
    partitions.map(|partition| TopicPartition::new(topic.id, *partition))
}

/// A record of 1,000 bytes.
pub(super) fn produce(topic: &CoreTopic) -> Result<Vec<u8>, BenchError> {
    let batch = Batch::build(1000, 64 << 10, 1)?;
    let partition = places(topic).next().expect("a core's topic has partitions");
    Ok(encoded(&Request::Produce(ProduceRequest {
        acks: Acks::All,
        timeout_ms: 30_000,
        entries: vec![ProduceEntry {
            partition,
            resume: false,
            batch: batch.bytes(),
        }],
    })))
}

/// Records of every partition from its beginning, at once.
pub(super) fn fetch(topic: &CoreTopic, max_bytes: u32) -> Vec<u8> {
    let entries = places(topic).map(|place| FetchEntry::new(place, Offset::ZERO, max_bytes));
    encoded(&Request::Fetch(FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes,
        entries: entries.collect(),
    }))
}

/// About everything.
pub(super) fn metadata() -> Vec<u8> {
    encoded(&Request::Metadata(MetadataRequest { topics: None }))
}

/// The first record of every partition that is younger than one that all records are younger than.
pub(super) fn offsets_by_time(topic: &CoreTopic) -> Vec<u8> {
    let entries = places(topic).map(|partition| ListOffsetsEntry {
        partition,
        position: OffsetPosition::Timestamp(Timestamp::new(1_700_000_000_000)),
    });
    encoded(&Request::ListOffsets(ListOffsetsRequest {
        entries: entries.collect(),
    }))
}

/// The header of a produce of so many bytes.
pub(super) fn announced(length: u32) -> Vec<u8> {
    frame(length, 2, 1, 0, &[])
}

/// Streams that are no requests, and requests that ask for absurd things.
pub(super) fn absurd() -> Vec<Vec<u8>> {
    let many = u32::MAX.to_le_bytes();
    vec![
        frame(u32::MAX, 2, 1, 0, &[]),
        frame(11, 2, 1, 0, &[]),
        frame(12, 1, 1, 1 << 31, &[]),
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        vec![0; 64],
        vec![0xff; 64],
        framed(999, 1, &[]),
        framed(3, 9, &[]),
        framed(6, 1, &many),
        framed(
            6,
            1,
            &[&65_537_u32.to_le_bytes()[..], &[0; 2 * 65_537]].concat(),
        ),
        framed(2, 1, &[0xee; 60_000]),
    ]
}

/// A request whose header is right, with any body.
fn framed(api_key: u16, version: u16, body: &[u8]) -> Vec<u8> {
    frame(12 + body.len() as u32, api_key, version, 0, body)
}

/// A request with any header and body.
fn frame(length: u32, api_key: u16, version: u16, flags: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend(api_key.to_le_bytes());
    frame.extend(version.to_le_bytes());
    frame.extend(77_u32.to_le_bytes());
    frame.extend(flags.to_le_bytes());
    frame.extend(body);
    frame
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use corelane_protocol::frame::RequestHeader;
    use corelane_protocol::{PartitionIndex, TopicId};

    use super::*;

    /// The broker's default.
    const FRAME_BYTES_MAX: u32 = 8 << 20;

    /// Whether the bytes are a request, and nothing else.
    fn is_request(bytes: &[u8]) -> bool {
        let Ok(Some(header)) = RequestHeader::parse(bytes, FRAME_BYTES_MAX) else {
            return false;
        };
        let body = &bytes[RequestHeader::LEN..];
        body.len() == header.body_length()
            && Request::decode(header.api_key, header.api_version, body).is_ok()
    }

    #[test]
    fn floods_are_requests_and_absurd_streams_are_not() {
        let topic = CoreTopic {
            id: TopicId::from_bytes([7; 16]),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 9)),
            partitions: vec![PartitionIndex::new(0), PartitionIndex::new(3)],
        };
        let floods = [
            produce(&topic).unwrap(),
            fetch(&topic, 1 << 20),
            metadata(),
            offsets_by_time(&topic),
        ];
        for flood in floods {
            assert!(is_request(&flood), "{flood:?}");
        }
        for stream in absurd() {
            assert!(!is_request(&stream), "{stream:?}");
        }
    }
}
