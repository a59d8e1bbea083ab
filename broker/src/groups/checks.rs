//! What is refused of names and subscriptions, and why.
//!
//! Owns the rules for one request by itself; whether a group takes it is decided elsewhere.

use std::collections::BTreeSet;

use corelane_protocol::request::Subscription;
use corelane_protocol::{ApiError, ErrorCode, TopicName, TopicPartition};

use super::assignors::Assignor;
use super::settings::Settings;
use crate::metadata::is_internal;

/// The most bytes of the names of groups, instances and clients.
const NAME_BYTES_MAX: usize = 255;

pub(super) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message)
}

/// # Errors
/// A name that no group can have.
pub(super) fn check_group(name: &str) -> Result<(), ApiError> {
    check_name("group", name)
}

/// A partition that is named again and again would be answered with far more than was asked.
///
/// # Errors
/// A partition is named twice.
pub(super) fn check_once(partitions: impl Iterator<Item = TopicPartition>) -> Result<(), ApiError> {
    let mut seen = BTreeSet::new();
    for partition in partitions {
        if !seen.insert(partition) {
            return Err(invalid(format!(
                "partition {partition} is named twice; name each one once"
            )));
        }
    }
    Ok(())
}

fn check_name(what: &str, name: &str) -> Result<(), ApiError> {
    if name.is_empty() {
        return Err(invalid(format!(
            "the {what} has no name; give it 1 to {NAME_BYTES_MAX} bytes"
        )));
    }
    check_text(&format!("the {what}'s name"), name)
}

fn check_text(what: &str, text: &str) -> Result<(), ApiError> {
    if text.len() > NAME_BYTES_MAX {
        return Err(invalid(format!(
            "{what} has {} bytes; at most {NAME_BYTES_MAX} are allowed",
            text.len()
        )));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(invalid(format!("{what} has the control character {c:?}"))),
        None => Ok(()),
    }
}

/// The host as it is kept: at most as long as a name.
pub(super) fn host_kept(host: &str) -> &str {
    let mut end = host.len().min(NAME_BYTES_MAX);
    while !host.is_char_boundary(end) {
        end -= 1;
    }
    &host[..end]
}

/// Checks what a member wants, and puts its topics in order, each once.
///
/// # Errors
/// The first rule that it breaks.
pub(super) fn check_subscription(
    wanted: &Subscription,
    settings: &Settings,
) -> Result<Subscription, ApiError> {
    if let Some(instance) = &wanted.instance {
        check_name("instance", instance)?;
    }
    check_text("the client's name", &wanted.client)?;
    let (min, max) = (
        settings.session_timeout_ms_min,
        settings.session_timeout_ms_max,
    );
    check_range("session", wanted.session_timeout_ms, min, max)?;
    let max = settings.rebalance_timeout_ms_max;
    check_range("rebalance", wanted.rebalance_timeout_ms, 1, max)?;
    let names: usize = wanted.topics.iter().map(String::len).sum();
    let bytes = names + wanted.pattern.as_ref().map_or(0, String::len);
    if bytes > settings.subscription_bytes_max {
        return Err(invalid(format!(
            "the subscription has {bytes} bytes of topic names and pattern; at most {} are \
             allowed; a pattern may say it in less",
            settings.subscription_bytes_max
        )));
    }
    for name in &wanted.topics {
        TopicName::new(name.as_str())
            .map_err(|error| invalid(format!("topic {name:?} of the subscription: {error}")))?;
        if is_internal(name) {
            return Err(invalid(format!(
                "topic {name:?} is internal; a group cannot subscribe to it"
            )));
        }
    }
    if let Some(name) = &wanted.assignor {
        Assignor::find(name)?;
    }
    let mut checked = wanted.clone();
    checked.topics.sort_unstable();
    checked.topics.dedup();
    Ok(checked)
}

fn check_range(what: &str, ms: u32, min: u32, max: u32) -> Result<(), ApiError> {
    if (min..=max).contains(&ms) {
        return Ok(());
    }
    Err(invalid(format!(
        "a {what} timeout of {ms} ms is not possible; the broker allows {min} to {max} ms \
         (groups.{what}_timeout_ms)"
    )))
}
