//! Metrics of requests and their stages.

use super::family_row;
use crate::admin::family::{Family, Kind, Unit};

pub(super) static REQUESTS: &[Family] = &[
    family_row!(
        "corelane_request",
        Histogram,
        Seconds,
        ["core", "api"],
        "From taking a request up to answering it",
        |b, s| {
            for core in &b.state.cores {
                for request in &core.requests {
                    s.put_counts(&[&core.core.to_string(), &request.api], &request.times);
                }
            }
        }
    ),
    family_row!(
        "corelane_request_errors",
        Counter,
        None,
        ["core", "api", "error"],
        "Answers, and entries of answers, that were errors; a kind that never came is not listed",
        |b, s| {
            for core in &b.state.cores {
                for request in &core.requests {
                    for (error, count) in &request.errors {
                        s.put(&[&core.core.to_string(), &request.api, error], *count);
                    }
                }
            }
        }
    ),
    family_row!(
        "corelane_produce_stage",
        Histogram,
        Seconds,
        ["core", "stage"],
        "Stages of produces. queue: a whole request until it is taken up; forward: another core's part; flush: a batch in memory until it is durable",
        |b, s| {
            s.each_stage(b, "Produce");
        }
    ),
    family_row!(
        "corelane_fetch_stage",
        Histogram,
        Seconds,
        ["core", "stage"],
        "Stages of fetches. queue: a whole request until it is taken up; forward: another core's answer; wait: for records; disk: for reads",
        |b, s| {
            s.each_stage(b, "Fetch");
        }
    ),
    family_row!(
        "corelane_send",
        Histogram,
        Seconds,
        ["core"],
        "From making a reply, or sending what was before it, to its leaving",
        |b, s| {
            for core in &b.state.cores {
                s.put_counts(&[&core.core.to_string()], &core.sends);
            }
        }
    ),
];
