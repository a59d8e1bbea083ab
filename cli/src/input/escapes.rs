//! Backslash escapes in arguments, where a shell makes a tab or a newline hard to type.

/// Reads `\t`, `\n`, `\0` and `\\` as the characters they name; any other use of a backslash is
/// an error that says what is known.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        bytes.push(escape(characters.next())?);
    }
    Ok(bytes)
}

/// The byte named by the character after a backslash.
pub(crate) fn escape(character: Option<char>) -> Result<u8, String> {
    match character {
        Some('t') => Ok(b'\t'),
        Some('n') => Ok(b'\n'),
        Some('0') => Ok(0),
        Some('\\') => Ok(b'\\'),
        Some(other) => Err(format!(
            "\\{other} is unknown; known are \\t, \\n, \\0 and \\\\"
        )),
        None => Err("it ends with a lone backslash; write \\\\ for a backslash".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read() {
        assert_eq!(
            unescape("a\\tb\\n\\\\\\0é"),
            Ok("a\tb\n\\\0é".as_bytes().to_vec())
        );
        assert_eq!(unescape("\t"), Ok(b"\t".to_vec()));
        assert!(unescape("\\x").unwrap_err().contains("\\x is unknown"));
        assert!(unescape("a\\").unwrap_err().contains("lone backslash"));
    }
}
