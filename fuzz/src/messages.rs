//! Frames, requests and responses: what is read is written again as the same bytes, what is not is refused,
//! and neither costs more memory than the bytes are worth.
//!
//! Input: a byte whose lowest bit says which (0 a request, 1 a response), and a frame.

use corelane_protocol::frame::{RequestHeader, ResponseHeader, ResponseMeta};
use corelane_protocol::response::encode_error;
use corelane_protocol::{ApiError, ApiKey, Request, Response};

const CONVERSATION: &[u8] = include_bytes!("../../protocol/tests/golden/conversation-1");

const FRAME_BYTES_MAX: u32 = 1 << 20;

pub(crate) fn run(input: &[u8]) {
    let Some((which, frame)) = input.split_first() else {
        return;
    };
    if which & 1 == 0 {
        request(frame);
    } else {
        response(frame);
    }
}

/// The memory that decoding so many bytes may cost, as in the tests of the protocol.
fn worth(frame: &[u8]) -> u64 {
    16 * 1024 + 64 * frame.len() as u64
}

fn measured<T>(frame: &[u8], decode: impl FnOnce() -> T) -> T {
    let mut decoded = None;
    let memory = allocation_counter::measure(|| decoded = Some(decode()));
    assert!(
        memory.bytes_max <= worth(frame),
        "{} bytes for a frame of {}",
        memory.bytes_max,
        frame.len()
    );
    decoded.expect("it was called")
}

fn request(frame: &[u8]) {
    let Ok(Some(header)) = RequestHeader::parse(frame, FRAME_BYTES_MAX) else {
        return;
    };
    assert!(header.frame_length() <= FRAME_BYTES_MAX as usize);
    let body = &frame[RequestHeader::LEN..];
    let decoded = measured(frame, || {
        Request::decode(header.api_key, header.api_version, body)
    });
    let request = match decoded {
        Ok(request) => request,
        Err(error) => {
            assert!(!ApiError::from(error).message.is_empty());
            return;
        }
    };
    let mut encoded = Vec::new();
    request
        .encode(header.correlation_id, header.flags, &mut encoded)
        .expect("what was read can be sent");
    let from = if header.frame_length() == frame.len() {
        0
    } else {
        4
    };
    assert_eq!(encoded[from..], frame[from..], "{request:?}");
}

fn response(frame: &[u8]) {
    let Ok(Some(header)) = ResponseHeader::parse(frame, FRAME_BYTES_MAX) else {
        return;
    };
    assert!(header.frame_length() <= FRAME_BYTES_MAX as usize);
    let body = &frame[ResponseHeader::LEN..];
    let decoded = measured(frame, || Response::decode(&header, body));
    let Ok(decoded) = decoded else { return };
    // A code of a later release is read as another one, and its message says so: what was read once is
    // read again as the same.
    let written = encode(&header, &decoded);
    let header = ResponseHeader::parse(&written, u32::MAX);
    let header = header.expect("sound").expect("whole");
    assert_eq!(header.frame_length(), written.len());
    let again = Response::decode(&header, &written[ResponseHeader::LEN..]);
    let again = again.expect("what was written is read");
    assert_eq!(encode(&header, &again), written);
    if decoded.is_ok() {
        assert_eq!(again.is_ok(), decoded.is_ok());
    }
}

fn encode(header: &ResponseHeader, response: &Result<Response<'_>, ApiError>) -> Vec<u8> {
    let meta = ResponseMeta {
        api_version: header.api_version,
        correlation_id: header.correlation_id,
        throttle_ms: header.throttle_ms,
        credit_bytes: header.credit_bytes,
    };
    let mut out = Vec::new();
    match response {
        Ok(response) => response.encode(&meta, &mut out),
        Err(error) => encode_error(header.api_key, &meta, error, &mut out),
    }
    out
}

/// Every request and response of the recorded conversation, and empty bodies of every kind.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut rest = CONVERSATION;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (said, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        // Requests and responses take turns.
        seeds.push([&[(seeds.len() % 2) as u8], said].concat());
        rest = after;
    }
    for key in ApiKey::ALL {
        let mut frame = vec![0; RequestHeader::LEN + 5];
        frame[0] = 17;
        frame[4] = key.as_u16() as u8;
        frame[6] = 1;
        seeds.push([vec![0], frame.clone()].concat());
        let mut frame = vec![0; ResponseHeader::LEN + 4];
        frame[0] = 24;
        frame[4] = key.as_u16() as u8;
        frame[6] = 1;
        seeds.push([vec![1], frame].concat());
    }
    seeds
}
