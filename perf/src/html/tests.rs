//! Whole pages: well-formed, of themselves alone, and with everything in them.

use super::*;
use crate::compare::compare;
use crate::result::tests::example;
use crate::result::{CurvePoint, Interval, Percentiles};
use crate::rounds::compare_rounds;
use crate::scenario::{RunOutcome, ScenarioOutcome, is_run_name};
use crate::sweep::{Bound, Step, Sweep};

/// Elements that HTML never closes; here they close themselves.
const VOID: [&str; 1] = ["meta"];

/// Holds that every tag is closed where it was opened, and every text and attribute is escaped; gives all attributes.
#[track_caller]
fn assert_well_formed(page: &str) -> Vec<(String, String)> {
    let mut open: Vec<String> = Vec::new();
    let mut attributes = Vec::new();
    let mut rest = page.strip_prefix("<!DOCTYPE html>\n").expect("a doctype");
    while let Some((text, after)) = rest.split_once('<') {
        if open.last().is_none_or(|element| element != "style") {
            assert_text(text);
        }
        let (tag, after) = split_tag(after);
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "{tag}");
            continue;
        }
        let (inner, closes_itself) = tag
            .strip_suffix('/')
            .map_or((tag, false), |tag| (tag, true));
        let (name, mut fields) = inner.split_once(' ').unwrap_or((inner, ""));
        assert!(
            name.bytes().all(|byte| byte.is_ascii_alphanumeric()),
            "{tag}"
        );
        while !fields.trim().is_empty() {
            let (key, after) = fields
                .trim_start()
                .split_once("=\"")
                .expect("a quoted value");
            let (value, after) = after.split_once('"').expect("an end of it");
            assert!(
                key.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
                "{tag}"
            );
            assert_text(value);
            attributes.push((key.to_owned(), value.to_owned()));
            fields = after;
        }
        assert!(closes_itself || !VOID.contains(&name), "{tag}");
        if !closes_itself {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty(), "{open:?} is not closed");
    assert_eq!(rest.trim(), "");
    attributes
}

/// The tag, up to the `>` that is in no attribute, and what comes after it.
fn split_tag(text: &str) -> (&str, &str) {
    let mut is_quoted = false;
    let end = text.find(|character| {
        is_quoted ^= character == '"';
        character == '>' && !is_quoted
    });
    let end = end.expect("an end of the tag");
    (&text[..end], &text[end + 1..])
}

/// No character that begins a tag, and no `&` that begins no reference to one.
#[track_caller]
fn assert_text(text: &str) {
    assert!(!text.contains(['<', '>']), "{text}");
    for (at, _) in text.match_indices('&') {
        let known = ["&amp;", "&lt;", "&gt;", "&quot;", "&apos;", "&#39;"];
        assert!(
            known.iter().any(|one| text[at..].starts_with(one)),
            "{text}"
        );
    }
}

/// Holds that the page is well-formed, asks for nothing from outside, and draws no figure that is none.
#[track_caller]
fn assert_page(page: &str) {
    for (key, value) in assert_well_formed(page) {
        if key == "href" {
            // To a page beside this one, and nowhere else.
            let name = value.strip_suffix("/report.html");
            assert!(name.is_some_and(is_run_name), "{key}={value}");
            continue;
        }
        assert!(
            !["src", "srcset", "data", "action", "xlink:href"].contains(&key.as_str())
                && !key.starts_with("on"),
            "{key}={value}"
        );
        assert!(!value.contains("http"), "{key}={value}");
    }
    let style = page
        .split_once("<style>")
        .unwrap()
        .1
        .split_once("</style>")
        .unwrap()
        .0;
    for outside in ["url(", "@import", "http"] {
        assert!(!style.contains(outside), "{outside}");
    }
    for nonsense in ["<script", "NaN", ">inf<", "-2147483648", "2147483647"] {
        assert!(!page.contains(nonsense), "{nonsense}");
    }
    assert!(page.contains("prefers-color-scheme: dark"));
}

#[track_caller]
fn assert_contains(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "{part:?} is not in\n{page}");
    }
}

#[test]
fn the_page_of_a_run_has_its_figures_its_errors_and_its_manifest() {
    let page = of_result(&example());
    assert_page(&page);
    assert_contains(
        &page,
        &[
            "open loop",
            "durable, confirmed by receipts",
            "p99 of 5.00 ms",
        ],
    );
    assert_contains(
        &page,
        &[
            "role=\"alert\"",
            "3 records failed (storage-full: 3). The first: no room",
        ],
    );
    assert_contains(
        &page,
        &[
            "records failed</li>",
            ">errors_by_kind.storage-full<",
            ">7,000<",
            ">8,000<",
        ],
    );
    assert_contains(
        &page,
        &[
            "127.0.0.1:9500",
            ">workload.acks<",
            ">all<",
            ">kernel<",
            ">load_average<",
        ],
    );
    assert_contains(
        &page,
        &[
            "Latency by percentile",
            "Throughput over time",
            "Latency over time",
            "\n99.99%\n",
            "\nmax\n",
        ],
    );
    assert_eq!(
        page.matches("<svg ").count(),
        6,
        "three plots, each in two sizes"
    );
}

#[test]
fn the_limit_is_shown_where_it_was_measured() {
    let mut result = example();
    assert!(!of_result(&result).contains("The limit"));
    let limit = serde_json::json!({
        "yardsticks": [{
            "name": "relay, <fresh>", "seconds": 2.0, "throughput_mb_s": 4.0, "records_per_s": 4000.0,
            "latency_us": null, "cpu_ns_per_record": null, "throughput_ratio": 0.25, "p50_ratio": 1.5, "p99_ratio": null,
        }],
        "records_per_frame": 1, "frame_bytes": 1, "in_flight_bytes": null, "frames_per_s": 1.0, "directory": null,
    });
    result.limit = Some(serde_json::from_value(limit).unwrap());
    let page = of_result(&result);
    assert_page(&page);
    assert!(!page.contains("did not get an answer"));
    result.limit.as_mut().unwrap().yardsticks[0].failed_frames = 7;
    let page = of_result(&result);
    assert_page(&page);
    assert_contains(
        &page,
        &["relay, &lt;fresh&gt;: 7 frames did not get an answer"],
    );
    assert_contains(
        &page,
        &[
            "The limit",
            ">relay, &lt;fresh&gt;<",
            ">0.25 ×<",
            ">1.50 ×<",
        ],
    );
}

#[test]
fn the_broker_s_stages_are_shown_where_they_were_asked_for() {
    let mut result = example();
    assert!(!of_result(&result).contains("s stages<"));
    let stages = serde_json::json!({
        "admin": "127.0.0.1:9600", "seconds": 2.5, "problem": null,
        "times": [
            {"request": "produce", "stage": "journal-wait", "of": "groups", "count": 1234, "mean_us": 1.25, "p50_us": 1,
             "p99_us": 2303, "max_us": 43007},
            {"request": "produce", "stage": "hop", "of": "requests", "count": 0, "mean_us": null, "p50_us": null,
             "p99_us": null, "max_us": null},
        ],
    });
    result.stages = Some(serde_json::from_value(stages).unwrap());
    let page = of_result(&result);
    assert_page(&page);
    assert_contains(
        &page,
        &[
            "in 2.5 s, as 127.0.0.1:9600 says",
            "<th scope=\"row\">produce: journal wait</th><td>groups</td><td>1,234</td><td>1.25</td><td>1</td><td>2,303</td>",
            "<th scope=\"row\">produce: hop</th><td>requests</td><td>0</td><td>–</td>",
        ],
    );
    let stages = result.stages.as_mut().unwrap();
    stages.times.clear();
    stages.problem = Some("the broker was started anew meanwhile".to_owned());
    let page = of_result(&result);
    assert_page(&page);
    assert_contains(&page, &["from 127.0.0.1:9600: the broker was started anew"]);
    assert!(!page.contains("max ≤"));
}

#[test]
fn no_alarm_is_raised_without_a_reason() {
    let mut result = example();
    result.errors = 0;
    result
        .series
        .iter_mut()
        .for_each(|interval| interval.errors = 0);
    result.manifest.software.optimised = true;
    let page = of_result(&result);
    assert_page(&page);
    assert!(!page.contains("role=\"alert\"") && !page.contains("records failed"));
    result.cut_short = true;
    result.manifest.software.optimised = false;
    assert_contains(&of_result(&result), &["Cut short after 2 s", "debug build"]);
}

#[test]
fn a_closed_loop_is_called_so_and_has_one_curve() {
    let mut result = example();
    result.pace = Pace::Closed;
    result.kind = Kind::Produce;
    result.service_time_curve_us = result.latency_curve_us.clone();
    let page = of_result(&result);
    assert_page(&page);
    assert_contains(
        &page,
        &[
            "closed loop, 8 MiB in flight",
            "mostly the length of the queue",
            "<h1>1.00 MB/s",
        ],
    );
    assert!(!page.contains("service time</li>"));
}

#[test]
fn what_users_named_is_only_text() {
    let hostile = "</title><script>alert(\"1\")</script><img src='x' onerror=\"a\">&\u{1}";
    let mut result = example();
    result.manifest.topic.name = hostile.to_owned();
    result.manifest.workload.topic = Some(hostile.to_owned());
    result.manifest.topic.settings = vec![hostile.to_owned()];
    result.first_error = Some(hostile.to_owned());
    result.errors_by_kind.insert(hostile.to_owned(), 1);
    for page in [
        of_result(&result),
        of_comparison(
            [hostile, hostile],
            [&result, &example()],
            &compare(&result, &example()),
        ),
        of_scenario(
            &ScenarioOutcome {
                ended_by: Some(hostile.to_owned()),
                ..scenario(vec![(hostile, result.clone())])
            },
            true,
        ),
        of_sweep(&sweep(vec![Step {
            failed_by: Some(hostile.to_owned()),
            ..step(1_000, 900)
        }])),
    ] {
        assert_page(&page);
        assert_contains(&page, &["&lt;script&gt;alert(&quot;1&quot;)"]);
    }
}

#[test]
fn runs_without_much_in_them_are_shown_too() {
    let mut empty = example();
    empty.records = 0;
    empty.value_bytes = 0;
    empty.throughput_mb_s = 0.0;
    empty.records_per_s = 0.0;
    empty.series.clear();
    empty.latency_curve_us.clear();
    assert_page(&of_result(&empty));
    assert_contains(&of_result(&empty), &["Nothing to plot."]);

    let mut consumed = empty.clone();
    consumed.kind = Kind::Consume;
    consumed.pace = Pace::Closed;
    consumed.latency_us = None;
    consumed.service_time_us = None;
    let page = of_result(&consumed);
    assert_page(&page);
    assert!(!page.contains("Latency by percentile"));

    let interval = Interval {
        start_s: 0.0,
        seconds: 0.1,
        records: 0,
        value_bytes: 0,
        latencies: 0,
        p50_us: Some(0),
        p99_us: Some(0),
        max_us: Some(0),
        errors: 0,
    };
    for series in [
        vec![interval],
        vec![interval; 600],
        vec![
            Interval {
                seconds: 0.0,
                ..interval
            };
            2
        ],
    ] {
        let mut equal = example();
        equal.series = series;
        equal.latency_curve_us = vec![CurvePoint {
            percentile: 100.0,
            value_us: 0,
        }];
        assert_page(&of_result(&equal));
    }
    let mut extreme = example();
    extreme.series[0].value_bytes = u64::MAX;
    extreme.series[0].max_us = Some(u64::MAX);
    extreme.series[1].start_s = 1e300;
    assert_well_formed(&of_result(&extreme));
}

#[test]
fn the_page_of_a_comparison_has_both_runs_in_each_plot() {
    let (a, mut b) = (example(), example());
    b.throughput_mb_s = 2.0;
    b.manifest.broker.cores = 7;
    b.durability = corelane_client::Durability::Memory;
    let page = of_comparison(["./before", "./after"], [&a, &b], &compare(&a, &b));
    assert_page(&page);
    assert_contains(
        &page,
        &[
            "A: ./before",
            "B: ./after",
            "2.00 × the throughput",
            ">2.000<",
            ">better<",
        ],
    );
    assert_contains(
        &page,
        &[
            "Not the same load: durability: durable and memory",
            "A: 3 records failed",
        ],
    );
    assert_contains(
        &page,
        &["<tr class=\"marked\"><th scope=\"row\">broker.cores</th><td>2</td><td>7</td>"],
    );
    assert_contains(
        &page,
        &[">A, p99</li>", ">B, p99</li>", ">A</li>", ">B</li>"],
    );
}

#[test]
fn the_page_of_rounds_has_the_ratio_of_each() {
    let faster = |throughput_mb_s| PerfResult {
        throughput_mb_s,
        ..example()
    };
    let rounds = [(example(), faster(1.5)), (example(), faster(2.5))];
    let page = of_rounds(["./<old>", "./new"], &compare_rounds(&rounds));
    assert_page(&page);
    assert_contains(
        &page,
        &[
            "B has 2.00 × the throughput and 1.00 × the p99 of A",
            "<li>2 rounds</li>",
            "A: ./&lt;old&gt;",
            "\n2.000 × better\n",
            ">1.500</td><td>2.500</td><td>better<",
        ],
    );
    assert_page(&of_rounds(["a", "b"], &compare_rounds(&[])));
}

fn step(rate: u64, p99: u64) -> Step {
    let latency = Percentiles {
        p99,
        ..example().latency_us.unwrap()
    };
    Step {
        rate,
        records_per_s: rate as f64,
        throughput_mb_s: 1.0,
        latency_us: Some(latency),
        service_time_us: None,
        errors: 0,
        durability: "durable".to_owned(),
        failed_by: (p99 > 5_000).then(|| "p99 over 5000 µs".to_owned()),
    }
}

fn sweep(steps: Vec<Step>) -> Sweep {
    Sweep {
        version: 1,
        bound: Bound {
            p99_us: 5_000,
            first_rate: 1_000,
            precision: 0.05,
        },
        highest_rate: steps
            .iter()
            .filter(|step| step.failed_by.is_none())
            .map(|step| step.rate)
            .max(),
        cut_short: false,
        ended_by: None,
        steps,
        manifest: example().manifest,
    }
}

#[test]
fn the_page_of_a_sweep_has_the_curve_and_the_bound() {
    let page = of_sweep(&sweep(vec![
        step(1_000, 900),
        step(4_000, 90_000),
        step(2_000, 4_000),
    ]));
    assert_page(&page);
    assert_contains(
        &page,
        &[
            "2,000 records/s with a p99 of at most 5.00 ms",
            "the bound of the p99",
            "did not hold</li>",
        ],
    );
    assert_contains(
        &page,
        &[
            "<tr class=\"marked\"><th scope=\"row\">2,000</th>",
            ">p99 over 5000 µs<",
        ],
    );
    let none = of_sweep(&sweep(vec![step(1_000, 90_000)]));
    assert_page(&none);
    assert_contains(&none, &["No rate held.", "No rate had a p99"]);
    let ended = of_sweep(&Sweep {
        ended_by: Some("4,000 <records/s>".to_owned()),
        ..sweep(vec![step(1_000, 90_000)])
    });
    assert_page(&ended);
    assert_contains(
        &ended,
        &["a higher rate may hold: 4,000 &lt;records/s&gt;."],
    );
    let unmeasured = of_sweep(&sweep(vec![Step {
        latency_us: None,
        ..step(1, 1)
    }]));
    assert_page(&unmeasured);
    assert_contains(&unmeasured, &["Nothing to plot."]);
}

fn scenario(runs: Vec<(&str, PerfResult)>) -> ScenarioOutcome {
    ScenarioOutcome {
        version: 1,
        scenario: "mine.toml".to_owned(),
        description: "what <mine> shows".to_owned(),
        planned: runs.iter().map(|(name, _)| (*name).to_owned()).collect(),
        ended_by: None,
        runs: runs
            .into_iter()
            .map(|(name, result)| RunOutcome {
                name: name.to_owned(),
                result,
            })
            .collect(),
    }
}

#[test]
fn the_page_of_a_scenario_has_its_runs_beside_each_other_and_leads_to_their_pages() {
    let (small, mut large) = (example(), example());
    large.errors = 0;
    large.manifest.workload.record_size = 5_000;
    large.manifest.broker.cores = 7;
    large.pace = Pace::Closed;
    large.throughput_mb_s = 512.3;
    let outcome = scenario(vec![("small", small), ("large", large)]);
    let page = of_scenario(&outcome, true);
    assert_page(&page);
    assert_contains(
        &page,
        &[
            "<h1>What &lt;mine&gt; shows</h1>",
            "<li>durable, confirmed by receipts</li>",
            "small: 3 records failed",
            "<a href=\"small/report.html\">small</a><small>record size 1,000</small>",
            "<a href=\"large/report.html\">large</a><small>record size 5,000</small>",
            "\n512 MB/s · 1k records/s\n",
            "\np50 1.00 ms · p99 5.00 ms\n",
            "<th scope=\"row\">broker.cores</th><td>small: 2\nlarge: 7</td>",
            "<th scope=\"row\">broker.version</th><td>0.1.0</td>",
        ],
    );
    assert!(!page.contains("<li>records of"), "they differ in that");
    assert!(!page.contains("large: 3 records"));
    assert!(!of_scenario(&outcome, false).contains("href"));
    let open = of_scenario(&scenario(vec![("one", example())]), true);
    assert!(!open.contains("<h2>Throughput"), "a rate is no throughput");
}

#[test]
fn a_scenario_that_was_not_ended_says_why() {
    let mut outcome = scenario(vec![("one", example()), ("two", example())]);
    outcome.runs.pop();
    let page = of_scenario(&outcome, true);
    assert_page(&page);
    assert_contains(&page, &["Ended after 1 of 2 runs."]);
    outcome.ended_by = Some("no <room>".to_owned());
    let page = of_scenario(&outcome, true);
    assert_contains(&page, &["Only 1 of 2 runs were made: no &lt;room&gt;"]);
    outcome.runs.clear();
    assert_page(&of_scenario(&outcome, true));
    let mut consumed = example();
    consumed.latency_us = None;
    consumed.pace = Pace::Closed;
    consumed.throughput_mb_s = 0.0;
    consumed.records_per_s = 0.0;
    let page = of_scenario(&scenario(vec![("none", consumed)]), true);
    assert_page(&page);
    assert!(!page.contains("<h2>Latency"));
    assert!(!page.contains(">p99.9<"), "no run has a latency");
}
