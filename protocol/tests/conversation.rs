//! A recorded conversation that uses every request: what was said once is read for ever, and written as the same
//! bytes. The broker's tests record it (`broker/tests/lane/conversation.rs`) and hold that it is still answered
//! like this.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;

use corelane_protocol::batch::{BatchLimits, DecompressLimit, RecordBatch, batches, validate};
use corelane_protocol::frame::{RequestHeader, ResponseHeader, ResponseMeta};
use corelane_protocol::response::encode_error;
use corelane_protocol::{AlignedBytes, ApiKey, Request, Response};

/// The first version of the format, and the requests about groups and producers that were added to it.
const CONVERSATIONS: [&[u8]; 3] = [
    include_bytes!("golden/conversation-1"),
    include_bytes!("golden/conversation-2"),
    include_bytes!("golden/conversation-3"),
];

/// Requests and what was answered to each.
fn said() -> Vec<(AlignedBytes, AlignedBytes)> {
    let conversations = CONVERSATIONS.concat();
    let mut rest = conversations.as_slice();
    let mut take = || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (bytes, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        rest = after;
        Some(AlignedBytes::copy_of(bytes))
    };
    let mut said = Vec::new();
    while let Some(asked) = take() {
        said.push((asked, take().unwrap()));
    }
    said
}

#[test]
fn every_request_is_read_and_written_as_it_was() {
    let mut seen = BTreeSet::new();
    for (frame, _) in said() {
        let header = RequestHeader::parse(&frame, u32::MAX).unwrap().unwrap();
        assert_eq!(header.frame_length(), frame.len());
        let body = &frame[RequestHeader::LEN..];
        // A few are there to be refused.
        let Ok(request) = Request::decode(header.api_key, header.api_version, body) else {
            continue;
        };
        let mut written = Vec::new();
        request
            .encode(header.correlation_id, header.flags, &mut written)
            .unwrap();
        assert_eq!(written, frame[..], "{request:?}");
        if let Request::Produce(produce) = &request {
            let sound = produce
                .entries
                .iter()
                .filter(|entry| validate(entry.batch, &BatchLimits::default()).is_ok());
            assert!(sound.count() > 1);
        }
        seen.insert(request.api_key());
    }
    assert_eq!(seen, ApiKey::ALL.iter().copied().collect());
}

#[test]
fn every_response_is_read_and_written_as_it_was() {
    let (mut answered, mut refused, mut records) = (BTreeSet::new(), 0, 0);
    for (asked, frame) in said() {
        let header = ResponseHeader::parse(&frame, u32::MAX).unwrap().unwrap();
        assert_eq!(header.frame_length(), frame.len());
        let (api_key, api_version, correlation_id) = RequestHeader::peek(&asked).unwrap();
        assert_eq!(
            (header.api_key, header.api_version, header.correlation_id),
            (api_key, api_version, correlation_id)
        );
        let meta = ResponseMeta {
            api_version,
            correlation_id,
            throttle_ms: header.throttle_ms,
            credit_bytes: header.credit_bytes,
        };
        let mut written = Vec::new();
        match Response::decode(&header, &frame[ResponseHeader::LEN..]).unwrap() {
            Ok(response) => {
                response.encode(&meta, &mut written);
                answered.insert(response.api_key());
                records += records_of(&response);
            }
            Err(error) => {
                encode_error(header.api_key, &meta, &error, &mut written);
                refused += 1;
            }
        }
        assert_eq!(written, frame[..]);
    }
    assert_eq!(answered, ApiKey::ALL.iter().copied().collect());
    assert!(refused >= 3 && records > 40, "{refused} {records}");
}

/// Records that a fetch has brought, each of them read.
fn records_of(response: &Response<'_>) -> usize {
    let Response::Fetch(fetch) = response else {
        return 0;
    };
    let fetched = fetch
        .entries
        .iter()
        .filter_map(|entry| entry.result.as_ref().ok());
    let parsed = fetched
        .flat_map(|fetched| batches(fetched.batches))
        .map(|batch| RecordBatch::parse(batch.unwrap(), &DecompressLimit::default()).unwrap());
    parsed.map(|batch| batch.records().count()).sum()
}
