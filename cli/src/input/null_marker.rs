//! `--null-marker`: the text that stands for a null value where values are lines of text.

use std::str::FromStr;

use crate::input::escapes::unescape;

/// The bytes that stand for a null value. None at all: null and empty are then the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NullMarker(pub(crate) Vec<u8>);

impl FromStr for NullMarker {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = unescape(text)?;
        if bytes.contains(&b'\n') {
            return Err(
                "values are lines, so no value equals a marker with a newline; leave it out"
                    .to_owned(),
            );
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_read() {
        let marker = |bytes: &[u8]| Ok(NullMarker(bytes.to_vec()));
        assert_eq!("NULL".parse(), marker(b"NULL"));
        assert_eq!("".parse(), marker(b""));
        assert_eq!("\\\\N".parse(), marker(b"\\N"));
        assert_eq!("\\t\\0".parse(), marker(b"\t\0"));
        for (wrong, part) in [
            ("\\N", "\\N is unknown"),
            ("a\\", "lone backslash"),
            ("a\\n", "a marker with a newline"),
            ("a\nb", "a marker with a newline"),
        ] {
            let error = wrong.parse::<NullMarker>().unwrap_err();
            assert!(error.contains(part), "{wrong:?}: {error}");
        }
    }
}
