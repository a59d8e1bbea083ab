//! What may be asked of `/v1/state`: everything, or a summary with the parts of a topic and of a group.

/// A question that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StateQuery {
    /// The whole state.
    Whole,
    /// A summary.
    Summary(Wanted),
}

/// What a summary has in full.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wanted {
    /// The topic whose partitions are listed.
    pub(super) topic: Option<String>,
    /// The group whose partitions are listed.
    pub(super) group: Option<String>,
}

impl StateQuery {
    /// Reads what comes after the question mark.
    ///
    /// # Errors
    /// What is not understood, and what would be.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, String> {
        let mut is_summary = false;
        let mut wanted = Wanted::default();
        let pairs = query.unwrap_or_default().split('&');
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value)?;
            match (key, value.as_str()) {
                ("form", "summary") => is_summary = true,
                ("topic", _) => wanted.topic = Some(value),
                ("group", _) => wanted.group = Some(value),
                _ => {
                    let shown: String = pair.chars().take(100).collect();
                    return Err(format!(
                        "/v1/state knows no {shown}; it takes form=summary, and with it topic=NAME and group=NAME.\n"
                    ));
                }
            }
        }
        if is_summary {
            return Ok(Self::Summary(wanted));
        }
        if wanted != Wanted::default() {
            let text = "A topic and a group are chosen in a summary: add form=summary. The whole state has all.\n";
            return Err(text.to_owned());
        }
        Ok(Self::Whole)
    }
}

/// A value of a query as it was before it was made part of an address.
fn decode(value: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(if byte == b'+' { b' ' } else { byte });
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(
                "The query is not encoded well: % is followed by two digits of base 16.\n"
                    .to_owned(),
            );
        };
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes)
        .map_err(|_| "The query is not encoded well: it is no UTF-8.\n".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(topic: Option<&str>, group: Option<&str>) -> Result<StateQuery, String> {
        Ok(StateQuery::Summary(Wanted {
            topic: topic.map(str::to_owned),
            group: group.map(str::to_owned),
        }))
    }

    #[test]
    fn names_come_through_however_they_are_written() {
        assert_eq!(StateQuery::parse(None), Ok(StateQuery::Whole));
        assert_eq!(StateQuery::parse(Some("")), Ok(StateQuery::Whole));
        let parse = |text| StateQuery::parse(Some(text));
        assert_eq!(parse("form=summary"), summary(None, None));
        assert_eq!(
            parse("topic=orders&form=summary&group=%3Cb%3E%20a+b%26%C3%A4%25"),
            summary(Some("orders"), Some("<b> a b&ä%"))
        );
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (query, word) in [
            ("form=full", "form=full"),
            ("pretty", "form=summary"),
            ("topic=orders", "add form=summary"),
            ("form=summary&topic=%4", "two digits"),
            ("form=summary&topic=%zz", "two digits"),
            ("form=summary&topic=%ff", "UTF-8"),
        ] {
            let refusal = StateQuery::parse(Some(query)).expect_err(query);
            assert!(refusal.contains(word), "{refusal}");
        }
    }
}
