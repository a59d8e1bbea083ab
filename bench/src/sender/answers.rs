//! Reads the answers of either peer.

use corelane_protocol::response::Durability;
use corelane_protocol::{Response, ResponseHeader};

use crate::outstanding::Outstanding;

/// What is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// [`crate::relay`].
    Relay,
    /// A broker.
    Broker,
}

/// The answer to one frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its number.
    pub(super) number: u64,
    /// What was confirmed, or why it was refused.
    pub(super) result: Result<Durability, String>,
}

/// The largest answer of a broker, bytes: receipts of one entry, or a message.
const ANSWER_BYTES_MAX: u32 = 128 << 10;

/// The answers of one connection.
#[derive(Debug)]
pub(super) struct Answers {
    peer: Peer,
    frame_bytes: u64,
    /// What the relay has acknowledged, bytes.
    acknowledged: u64,
}

impl Answers {
    pub(super) fn new(peer: Peer, frame_bytes: usize) -> Self {
        Self {
            peer,
            frame_bytes: frame_bytes as u64,
            acknowledged: 0,
        }
    }

    /// Hands every whole answer at the front of `bytes` to `take`, and says how many bytes they had.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        outstanding: &mut Outstanding,
        take: impl FnMut(&mut Outstanding, Answer),
    ) -> Result<usize, String> {
        match self.peer {
            Peer::Relay => self.read_relay(bytes, outstanding, take),
            Peer::Broker => read_broker(bytes, outstanding, take),
        }
    }

    /// Only the last number counts: it covers all before.
    fn read_relay(
        &mut self,
        bytes: &[u8],
        outstanding: &mut Outstanding,
        mut take: impl FnMut(&mut Outstanding, Answer),
    ) -> Result<usize, String> {
        let (numbers, _) = bytes.as_chunks::<8>();
        let Some(last) = numbers.last() else {
            return Ok(0);
        };
        let durable = u64::from_le_bytes(*last);
        if durable < self.acknowledged {
            return Err("the relay's acknowledgements go back".into());
        }
        self.acknowledged = durable;
        for number in outstanding.oldest()..durable / self.frame_bytes {
            let result = Ok(Durability::Durable);
            take(outstanding, Answer { number, result });
        }
        Ok(numbers.len() * 8)
    }
}

fn read_broker(
    bytes: &[u8],
    outstanding: &mut Outstanding,
    mut take: impl FnMut(&mut Outstanding, Answer),
) -> Result<usize, String> {
    let mut at = 0;
    loop {
        let header = ResponseHeader::parse(&bytes[at..], ANSWER_BYTES_MAX);
        let Some(header) = header.map_err(|error| error.to_string())? else {
            return Ok(at);
        };
        let Some(frame) = bytes[at..].get(..header.frame_length()) else {
            return Ok(at);
        };
        at += frame.len();
        let response = Response::decode(&header, &frame[ResponseHeader::LEN..]);
        let result = match response.map_err(|error| error.to_string())? {
            Ok(Response::Produce(response)) => match &response.entries[..] {
                [entry] => match &entry.result {
                    Ok(receipt) => Ok(receipt.durability),
                    Err(error) => Err(error.to_string()),
                },
                entries => return Err(format!("{} receipts for one batch", entries.len())),
            },
            Ok(other) => return Err(format!("an answer that was not asked for: {other:?}")),
            Err(error) => Err(error.to_string()),
        };
        let number = outstanding.unwrap(header.correlation_id.get());
        take(outstanding, Answer { number, result });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_protocol::response::{ProduceResponse, ProducedEntry, Receipt};
    use corelane_protocol::{
        ApiError, CorrelationId, ErrorCode, Offset, PartitionIndex, ResponseMeta, Timestamp,
        TopicId, TopicPartition,
    };

    fn response(number: u32, result: Result<Durability, ApiError>) -> Vec<u8> {
        let meta = ResponseMeta {
            api_version: corelane_protocol::ApiKey::Produce.version(),
            correlation_id: CorrelationId::new(number),
            ..ResponseMeta::default()
        };
        let receipt = |durability| Receipt {
            base_offset: Offset::new(0),
            append_time: Timestamp::new(0),
            log_start_offset: Offset::new(0),
            durability,
            replicas_flushed: 1,
        };
        let partition = TopicPartition::new(TopicId::from_bytes([1; 16]), PartitionIndex::new(0));
        let entries = vec![ProducedEntry {
            partition,
            result: result.map(receipt),
            owner: None,
        }];
        let mut frame = Vec::new();
        Response::Produce(ProduceResponse { entries }).encode(&meta, &mut frame);
        frame
    }

    fn outstanding(count: u64) -> Outstanding {
        let mut outstanding = Outstanding::default();
        for time in 0..count {
            outstanding.sent(time);
        }
        outstanding
    }

    #[test]
    fn a_brokers_answers_are_read_in_pieces_and_in_any_order() {
        let mut stream = response(1, Ok(Durability::Durable));
        stream.extend(response(0, Err(ApiError::from(ErrorCode::Overloaded))));
        let mut outstanding = outstanding(2);
        let mut answers = Answers::new(Peer::Broker, 100);
        let (mut start, mut seen) = (0, Vec::new());
        for end in 0..=stream.len() {
            let read = answers.read(&stream[start..end], &mut outstanding, |_, answer| {
                seen.push(answer);
            });
            start += read.unwrap();
        }
        assert_eq!(start, stream.len());
        assert_eq!(
            (seen[0].number, seen[0].result.clone()),
            (1, Ok(Durability::Durable))
        );
        assert_eq!(seen[1].number, 0);
        assert!(seen[1].result.as_ref().unwrap_err().contains("overloaded"));
    }

    #[test]
    fn the_relays_last_number_acknowledges_whole_frames_once() {
        let mut outstanding = outstanding(5);
        let mut answers = Answers::new(Peer::Relay, 100);
        let mut stream = 150_u64.to_le_bytes().to_vec();
        stream.extend(399_u64.to_le_bytes());
        stream.extend([1, 2, 3]);
        let mut numbers = Vec::new();
        let mut take = |outstanding: &mut Outstanding, answer: Answer| {
            assert!(outstanding.answered(answer.number).is_some());
            numbers.push(answer.number);
        };
        assert_eq!(answers.read(&stream, &mut outstanding, &mut take), Ok(16));
        let more = 400_u64.to_le_bytes();
        assert_eq!(answers.read(&more, &mut outstanding, &mut take), Ok(8));
        assert_eq!(numbers, [0, 1, 2, 3]);
        let back = 300_u64.to_le_bytes();
        assert!(answers.read(&back, &mut outstanding, |_, _| ()).is_err());
    }
}
