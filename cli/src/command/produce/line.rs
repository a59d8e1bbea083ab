//! What a line says: a key, if it has one, and a value, which may be null.

use memchr::memmem::Finder;

use super::Arguments;

/// How lines are read.
pub(super) struct LineForm<'a> {
    separator: Option<Finder<'a>>,
    null_marker: Option<&'a [u8]>,
}

/// Key and value of a line; `None` is null.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'l> {
    pub(super) key: Option<&'l [u8]>,
    pub(super) value: Option<&'l [u8]>,
}

impl<'a> LineForm<'a> {
    /// Lines as the command line has them.
    pub(super) fn new(arguments: &'a Arguments) -> Self {
        let (separator, marker) = (&arguments.key_separator, &arguments.null_marker);
        Self {
            separator: separator
                .as_ref()
                .map(|separator| Finder::new(&separator.0)),
            null_marker: marker.as_ref().map(|marker| &*marker.0),
        }
    }

    /// Reads a line, without its newline. One without the separator has no key. Only what is left
    /// as the value can be the marker: a key is never null because of it.
    pub(super) fn read<'l>(&self, line: &'l [u8]) -> Line<'l> {
        let found = self
            .separator
            .as_ref()
            .and_then(|finder| Some((finder, finder.find(line)?)));
        let (key, value) = match found {
            Some((finder, at)) => (Some(&line[..at]), &line[at + finder.needle().len()..]),
            None => (None, line),
        };
        Line {
            key,
            value: (self.null_marker != Some(value)).then_some(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Produce {
        #[command(flatten)]
        arguments: Arguments,
    }

    /// Reads one line as these options say.
    fn read<'l>(options: &[&str], line: &'l str) -> (Option<&'l str>, Option<&'l str>) {
        let words = [&["produce", "t"], options].concat();
        let produce = Produce::try_parse_from(words).unwrap();
        let Line { key, value } = LineForm::new(&produce.arguments).read(line.as_bytes());
        let text = |bytes: &'l [u8]| std::str::from_utf8(bytes).unwrap();
        (key.map(text), value.map(text))
    }

    #[test]
    fn without_a_marker_every_value_is_one() {
        assert_eq!(read(&[], "NULL"), (None, Some("NULL")));
        assert_eq!(read(&[], ""), (None, Some("")));
        let keyed = ["--key-separator", "="];
        assert_eq!(read(&keyed, "k=v=w"), (Some("k"), Some("v=w")));
        assert_eq!(read(&keyed, "k="), (Some("k"), Some("")));
        assert_eq!(read(&keyed, "=v"), (Some(""), Some("v")));
    }

    #[test]
    fn a_value_that_equals_the_marker_is_null() {
        let keyed = ["--key-separator", "=", "--null-marker", "NULL"];
        assert_eq!(read(&keyed, "k=NULL"), (Some("k"), None));
        assert_eq!(read(&keyed, "NULL"), (None, None));
        for value in ["", "null", "NULL ", "NULL\r", "=NULL", "NULL=NULL"] {
            let line = format!("k={value}");
            assert_eq!(read(&keyed, &line), (Some("k"), Some(value)));
        }
        assert_eq!(read(&keyed[2..], "k=NULL"), (None, Some("k=NULL")));
        let escaped = ["--key-separator", "\\t", "--null-marker", "\\t\\\\N"];
        assert_eq!(read(&escaped, "k\t\t\\N"), (Some("k"), None));
        assert_eq!(read(&escaped, "k\t\\N"), (Some("k"), Some("\\N")));
    }

    #[test]
    fn a_key_that_equals_the_marker_stays_a_key() {
        let keyed = ["--key-separator", "=", "--null-marker", "NULL"];
        assert_eq!(read(&keyed, "NULL=v"), (Some("NULL"), Some("v")));
        assert_eq!(read(&keyed, "NULL=NULL"), (Some("NULL"), None));
    }

    #[test]
    fn an_empty_marker_makes_empty_values_null() {
        let keyed = ["--key-separator", "=", "--null-marker", ""];
        assert_eq!(read(&keyed, "k="), (Some("k"), None));
        assert_eq!(read(&keyed, ""), (None, None));
        assert_eq!(read(&keyed, "="), (Some(""), None));
        assert_eq!(read(&keyed, "k=v"), (Some("k"), Some("v")));
    }
}
