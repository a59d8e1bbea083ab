//! Patterns of topic names.
//!
//! Owns how they are read: a pattern has to match the whole name, works on ASCII (as topic names
//! are), and is bounded in what it may cost. A group keeps each distinct pattern once, with the
//! topics that it matches.

use corelane_protocol::{ApiError, TopicId};
use regex::bytes::{Regex, RegexBuilder};

use super::Topics;
use super::checks::invalid;
use crate::metadata::is_internal;

/// The most bytes of a compiled pattern; a larger one is refused.
const COMPILED_BYTES_MAX: usize = 256 << 10;
/// How deep groups and repetitions of a pattern may be nested.
const NESTING_MAX: u32 = 64;
/// What a pattern is counted with beside its text: those that people write compile to less.
const COMPILED_BYTES: usize = 16 << 10;

/// A pattern that some members subscribe to.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    regex: Regex,
    /// The topics that it matches, as of the last look at them.
    pub(super) topics: Vec<TopicId>,
    /// How many topics it has looked at then.
    pub(super) seen: usize,
    /// Members that subscribe to it.
    pub(super) members: usize,
}

impl Pattern {
    /// # Errors
    /// A pattern that is none, or costs too much.
    pub(super) fn compile(text: &str, topics: &dyn Topics) -> Result<Self, ApiError> {
        // By itself first: what is wrong is told of the text that the user wrote, and what is only
        // right within the anchors, as `a)|(b`, is none.
        let whole = compile(text).and_then(|_| compile(&format!("^(?:{text})$")));
        let regex = whole.map_err(|error| {
            invalid(format!(
                "the pattern {text:?} is no regular expression: {error}"
            ))
        })?;
        let mut pattern = Self {
            regex,
            topics: Vec::new(),
            seen: 0,
            members: 0,
        };
        pattern.look(topics);
        Ok(pattern)
    }

    /// Finds the topics that it matches now.
    pub(super) fn look(&mut self, topics: &dyn Topics) {
        self.topics.clear();
        self.seen = 0;
        topics.for_each_name(&mut |name| {
            self.seen += 1;
            if !is_internal(name) && self.regex.is_match(name.as_bytes()) {
                self.topics.extend(topics.by_name(name).map(|(id, _)| id));
            }
        });
    }

    /// Roughly the bytes that a pattern of this text takes.
    pub(super) fn cost(text: &str) -> usize {
        COMPILED_BYTES + text.len()
    }
}

fn compile(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text)
        .unicode(false)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .nest_limit(NESTING_MAX)
        .build()
}
