//! `consume --print`: a form for records, parsed once and then applied to each record.

use std::io::{self, Write};
use std::str::FromStr;

use crate::input::escapes::escape;
use crate::output::json;

/// The fields of one record that can be printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PrintedRecord<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    /// Milliseconds since the Unix epoch.
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// How records are printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PrintFormat {
    /// One JSON object a line.
    Json,
    /// Literal bytes and fields; nothing is appended.
    Pieces(Vec<Piece>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Literal(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key,
    /// The value, or these bytes where it is null.
    Value {
        null: Vec<u8>,
    },
    Timestamp,
}

impl Piece {
    /// A value that prints as nothing where it is null.
    fn value() -> Self {
        Self::Value { null: Vec::new() }
    }
}

impl PrintFormat {
    /// A value and a newline.
    pub(crate) fn values_by_line() -> Self {
        Self::Pieces(vec![Piece::value(), Piece::Literal(b"\n".to_vec())])
    }

    /// The same with null values printed as these bytes. JSON stays as it is: it has a null.
    pub(crate) fn with_null_values_as(mut self, marker: &[u8]) -> Self {
        if let Self::Pieces(pieces) = &mut self {
            for piece in pieces {
                if let Piece::Value { null } = piece {
                    *null = marker.to_vec();
                }
            }
        }
        self
    }

    /// Prints one record. A null key prints as nothing, and so does a null value without a marker;
    /// JSON has null for both.
    pub(crate) fn write(
        &self,
        output: &mut impl Write,
        record: PrintedRecord<'_>,
    ) -> io::Result<()> {
        let pieces = match self {
            Self::Json => return json::write_record(output, record),
            Self::Pieces(pieces) => pieces,
        };
        for piece in pieces {
            match piece {
                Piece::Literal(bytes) => output.write_all(bytes)?,
                Piece::Topic => output.write_all(record.topic.as_bytes())?,
                Piece::Partition => write!(output, "{}", record.partition)?,
                Piece::Offset => write!(output, "{}", record.offset)?,
                Piece::Timestamp => write!(output, "{}", record.timestamp_ms)?,
                Piece::Key => output.write_all(record.key.unwrap_or_default())?,
                Piece::Value { null } => output.write_all(record.value.unwrap_or(null))?,
            }
        }
        Ok(())
    }
}

impl FromStr for PrintFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "json" {
            return Ok(Self::Json);
        }
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let field = match character {
                '%' => match characters.next() {
                    Some('%') => None,
                    other => Some(field(other)?),
                },
                _ => None,
            };
            if let Some(field) = field {
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(field);
            } else if character == '\\' {
                literal.push(escape(characters.next())?);
            } else {
                literal.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self::Pieces(pieces))
    }
}

/// The field named by the character after a percent sign.
fn field(character: Option<char>) -> Result<Piece, String> {
    match character {
        Some('t') => Ok(Piece::Topic),
        Some('p') => Ok(Piece::Partition),
        Some('o') => Ok(Piece::Offset),
        Some('k') => Ok(Piece::Key),
        Some('v') => Ok(Piece::value()),
        Some('T') => Ok(Piece::Timestamp),
        Some(other) => Err(format!(
            "%{other} is unknown; known are %t topic, %p partition, %o offset, %k key, %v value, %T time in ms, and %% for a percent sign"
        )),
        None => Err("it ends with a lone percent sign; write %% for a percent sign".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: PrintedRecord<'_> = PrintedRecord {
        topic: "orders",
        partition: 3,
        offset: 42,
        timestamp_ms: 1_700_000_000_000,
        key: Some(b"k"),
        value: Some(b"v\xff"),
        headers: &[],
    };

    fn print(format: &str, record: PrintedRecord<'_>) -> Vec<u8> {
        let mut output = Vec::new();
        format
            .parse::<PrintFormat>()
            .unwrap()
            .write(&mut output, record)
            .unwrap();
        output
    }

    #[test]
    fn every_field_is_printed_and_nothing_is_appended() {
        assert_eq!(
            print("%t %p %o %k %v %T", RECORD),
            b"orders 3 42 k v\xff 1700000000000".as_slice()
        );
        assert_eq!(print("%o\\t%k\\n", RECORD), b"42\tk\n");
        assert_eq!(print("100%% \\\\ é", RECORD), "100% \\ é".as_bytes());
        assert_eq!(print("", RECORD), b"");
        assert_eq!(print("%v%v", RECORD), b"v\xffv\xff");
    }

    #[test]
    fn null_key_and_value_print_as_nothing() {
        let record = PrintedRecord {
            key: None,
            value: None,
            ..RECORD
        };
        assert_eq!(print("[%k|%v]", record), b"[|]");
    }

    #[test]
    fn a_null_value_prints_as_the_marker_and_nothing_else_does() {
        let print = |format: &str, value| {
            let record = PrintedRecord {
                key: None,
                value,
                ..RECORD
            };
            let format: PrintFormat = format.parse().unwrap();
            let mut output = Vec::new();
            let marked = format.with_null_values_as(b"\\N");
            marked.write(&mut output, record).unwrap();
            String::from_utf8(output).unwrap()
        };
        assert_eq!(print("%v,[%k],%v", None), "\\N,[],\\N");
        assert_eq!(print("%v,[%k],%v", Some(b"")), ",[],");
        assert_eq!(print("%v", Some(b"v")), "v");
        assert!(print("json", None).contains("\"key\":null,\"value\":null,"));
    }

    #[test]
    fn the_default_prints_values_by_line() {
        let mut output = Vec::new();
        PrintFormat::values_by_line()
            .write(&mut output, RECORD)
            .unwrap();
        assert_eq!(output, b"v\xff\n");
        assert_eq!("%v\\n".parse(), Ok(PrintFormat::values_by_line()));
    }

    #[test]
    fn what_is_unknown_is_refused_with_what_is_known() {
        assert!(
            "%x".parse::<PrintFormat>()
                .unwrap_err()
                .contains("%t topic")
        );
        assert!("%".parse::<PrintFormat>().unwrap_err().contains("%%"));
        assert!("\\r".parse::<PrintFormat>().unwrap_err().contains("\\t"));
        assert!(
            "a\\"
                .parse::<PrintFormat>()
                .unwrap_err()
                .contains("lone backslash")
        );
    }

    #[test]
    fn json_is_a_form_of_its_own() {
        assert_eq!("json".parse(), Ok(PrintFormat::Json));
        let line = print("json", RECORD);
        assert!(line.starts_with(b"{\"topic\":\"orders\",\"partition\":3,\"offset\":42,"));
        assert!(line.ends_with(b"}\n"));
    }
}
