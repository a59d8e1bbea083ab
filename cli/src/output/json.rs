//! The JSON that programs read. Keys are stable: they may be added to, never renamed.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

use super::print_format::PrintedRecord;

/// Prints one value and a newline.
pub(crate) fn print(value: &impl Serialize) -> io::Result<()> {
    let mut output = io::stdout().lock();
    serde_json::to_writer_pretty(&mut output, value)?;
    output.write_all(b"\n")
}

/// Prints one record as an object on a line of its own.
pub(super) fn write_record(output: &mut impl Write, record: PrintedRecord<'_>) -> io::Result<()> {
    serde_json::to_writer(
        &mut *output,
        &RecordLine {
            topic: record.topic,
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp_ms,
            key: record.key.map(Bytes),
            value: record.value.map(Bytes),
            headers: record
                .headers
                .iter()
                .map(|(key, value)| Header {
                    key,
                    value: value.map(Bytes),
                })
                .collect(),
        },
    )?;
    output.write_all(b"\n")
}

#[derive(Serialize)]
struct RecordLine<'a> {
    topic: &'a str,
    partition: u32,
    offset: u64,
    timestamp: i64,
    key: Option<Bytes<'a>>,
    value: Option<Bytes<'a>>,
    headers: Vec<Header<'a>>,
}

#[derive(Serialize)]
struct Header<'a> {
    key: &'a str,
    value: Option<Bytes<'a>>,
}

/// Bytes as a string where they are UTF-8, and otherwise as `{"base64": "…"}`, so that nothing is
/// lost.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Encoded {
            base64: String,
        }
        match std::str::from_utf8(self.0) {
            Ok(text) => text.serialize(serializer),
            Err(_) => Encoded {
                base64: STANDARD.encode(self.0),
            }
            .serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_survive() {
        let record = PrintedRecord {
            topic: "t",
            partition: 0,
            offset: 1,
            timestamp_ms: -5,
            key: Some(b"\xff\x00"),
            value: Some("a\"\n\u{e9}".as_bytes()),
            headers: &[("h", None), ("h", Some(b"x"))],
        };
        let mut output = Vec::new();
        write_record(&mut output, record).unwrap();
        assert_eq!(
            String::from_utf8(output).unwrap(),
            "{\"topic\":\"t\",\"partition\":0,\"offset\":1,\"timestamp\":-5,\
             \"key\":{\"base64\":\"/wA=\"},\"value\":\"a\\\"\\n\u{e9}\",\
             \"headers\":[{\"key\":\"h\",\"value\":null},{\"key\":\"h\",\"value\":\"x\"}]}\n"
        );
    }

    #[test]
    fn null_differs_from_empty() {
        let record = PrintedRecord {
            topic: "t",
            partition: 0,
            offset: 0,
            timestamp_ms: 0,
            key: None,
            value: Some(b""),
            headers: &[],
        };
        let mut output = Vec::new();
        write_record(&mut output, record).unwrap();
        let line = String::from_utf8(output).unwrap();
        assert!(line.contains("\"key\":null,\"value\":\"\""), "{line}");
    }
}
