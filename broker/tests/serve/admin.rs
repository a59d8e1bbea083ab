//! The admin endpoint of a broker that works: what it shows adds up, and nobody can misuse it.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use corelane_broker::admin::families;
use corelane_broker::admin::state::{BrokerState, Phase};
use corelane_broker::runtime::{Running, StartError, serve};
use corelane_protocol::frame::RequestFlags;

use crate::http::{Answer, connect, exchange, get, get_as};
use crate::support::{Client, batch, config, partition, shut_down, start};

pub(crate) fn admin(broker: &Running) -> SocketAddr {
    broker.admin().expect("it has an endpoint")
}

/// The state once it says what the test has done, since what is shown may be a moment old.
pub(crate) fn state_when(
    broker: &Running,
    is_expected: impl Fn(&BrokerState) -> bool,
) -> BrokerState {
    for _ in 0..200 {
        let answer = get(admin(broker), "/v1/state");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let state: BrokerState = serde_json::from_str(&answer.body).expect("the state");
        if state.silent_cores.is_empty() && is_expected(&state) {
            return state;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the state never says what was done");
}

/// The metrics, once every core has answered in time: on a busy machine one may not.
pub(crate) fn metrics(broker: &Running, accept: &str) -> Answer {
    for _ in 0..200 {
        let answer = get_as(admin(broker), "/metrics", accept);
        assert_eq!(answer.status, 200, "{}", answer.body);
        if answer.body.contains("\ncorelane_cores_silent 0") {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("cores never answer");
}

/// The answer of health or readiness, once every core has answered in time.
fn judged(broker: &Running, path: &str) -> Answer {
    for _ in 0..200 {
        let answer = get(admin(broker), path);
        if !answer.body.contains("has not answered") {
            return answer;
        }
    }
    panic!("cores never answer");
}

/// Every series of a text exposition: its value by name and labels.
pub(crate) fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().expect(line))
        })
        .collect()
}

fn sum(series: &BTreeMap<String, f64>, family: &str) -> f64 {
    let of_family = series
        .iter()
        .filter(|(name, _)| name.split('{').next() == Some(family));
    of_family.map(|(_, value)| value).sum()
}

#[test]
fn what_is_shown_while_producing_adds_up_to_what_was_sent() {
    const BATCHES: u64 = 300;
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path());
    let mut client = Client::connect(broker.bootstrap());
    let topic = client.create_topic("orders", 4);
    let bytes = batch(&[b"one", b"two", b"three"]);
    for number in 0..BATCHES {
        let place = partition(&topic, u32::try_from(number % 4).expect("small"));
        client.send_produce(place, &bytes, RequestFlags::default());
        if number % 50 == 0 {
            let state = state_when(&broker, |_| true);
            let topic = state.topics.iter().find(|topic| topic.name == "orders");
            let seen = topic
                .expect("it exists")
                .sum(|partition| partition.records_in);
            assert!(seen <= 3 * (number + 1), "{seen} of {}", 3 * (number + 1));
        }
    }
    for _ in 0..BATCHES {
        client.receive_receipt().expect("a receipt");
    }
    let mut values = Vec::new();
    for index in 0..4 {
        client.fetch(partition(&topic, index), 0, 0, &mut values);
    }
    assert_eq!(values.len() as u64, 3 * BATCHES);
    let state = state_when(&broker, |state| {
        state.topics[0].sum(|partition| partition.records_out) == 3 * BATCHES
    });
    assert_eq!(state.phase, Phase::Serving);
    assert!(state.silent_cores.is_empty());
    assert_eq!((state.cores.len(), state.stores.len()), (2, 2));
    let orders = &state.topics[0];
    assert_eq!(orders.partitions.len(), 4);
    assert_eq!(orders.sum(|p| p.records_in), 3 * BATCHES);
    assert_eq!(orders.sum(|p| p.batches_in), BATCHES);
    assert_eq!(orders.sum(|p| p.bytes_in), BATCHES * bytes.len() as u64);
    assert_eq!(orders.sum(|p| p.high_watermark), 3 * BATCHES);
    // Blocks are padded.
    assert!(orders.sum(|p| p.size_bytes) >= BATCHES * bytes.len() as u64);
    let requests = |api: &str| -> u64 {
        let all = state.cores.iter().flat_map(|core| &core.requests);
        let of_api = all.filter(|request| request.api == api);
        of_api.map(|request| request.times.count()).sum()
    };
    assert_eq!((requests("Produce"), requests("Fetch")), (BATCHES, 4));
    let groups: u64 = state.stores.iter().map(|s| s.group_write.count()).sum();
    assert!(groups > 0 && groups <= BATCHES + 16, "{groups}");
    assert!(state.stores.iter().all(|s| s.group_write.sum > 0));
    assert!(state.cores.iter().all(|core| core.cpu_us > 0));

    // The same in both text formats.
    for (accept, content_type) in [
        ("text/plain", "text/plain; version=0.0.4"),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            "application/openmetrics-text",
        ),
    ] {
        let answer = metrics(&broker, accept);
        assert!(answer.head.contains(content_type), "{}", answer.head);
        let is_open = content_type.starts_with("application");
        assert_eq!(answer.body.ends_with("# EOF\n"), is_open);
        let series = series(&answer.body);
        let records = series["corelane_topic_records_in_total{topic=\"orders\"}"];
        assert!((records - (3 * BATCHES) as f64).abs() < 0.5);
        let appended = (BATCHES * bytes.len() as u64) as f64;
        assert!((sum(&series, "corelane_partition_in_bytes_total") - appended).abs() < 0.5);
        let flushes = sum(&series, "corelane_journal_flush_seconds_count");
        assert!((flushes - groups as f64).abs() < 16.0, "{flushes}");
        assert!(sum(&series, "corelane_journal_flush_seconds_sum") > 0.0);
    }
    shut_down(broker);
}

#[test]
fn a_broker_that_serves_is_healthy_and_ready() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path());
    let health = judged(&broker, "/health");
    assert_eq!(
        (health.status, health.body.as_str()),
        (200, r#"{"status":"healthy","problems":[]}"#)
    );
    let ready = judged(&broker, "/ready");
    assert_eq!(
        (ready.status, ready.body.as_str()),
        (200, r#"{"status":"ready","problems":[]}"#)
    );
    let index = get(admin(&broker), "/");
    assert_eq!(index.status, 200);
    for path in ["/metrics", "/health", "/ready", "/v1/state"] {
        assert!(index.body.contains(path), "{}", index.body);
    }
    shut_down(broker);
}

#[test]
fn other_paths_and_methods_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path());
    let address = admin(&broker);
    let nowhere = get(address, "/metric");
    assert_eq!(nowhere.status, 404);
    assert!(nowhere.body.contains("/metric"));
    let posted =
        "POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let posted = exchange(address, posted);
    assert_eq!(posted.status, 405);
    assert!(posted.head.contains("allow: get, head"), "{}", posted.head);
    let head = "HEAD /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let head = exchange(address, head);
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    shut_down(broker);
}

#[test]
fn a_store_that_is_out_of_service_is_named_and_the_rest_is_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path());
    Client::connect(broker.bootstrap()).create_topic("orders", 4);
    shut_down(broker);
    std::fs::remove_file(dir.path().join("store-0001/catalogue")).expect("it exists");
    let broker = start(dir.path());
    let ready = judged(&broker, "/ready");
    assert_eq!(ready.status, 503);
    assert!(
        ready.body.contains("store 1 takes no appends"),
        "{}",
        ready.body
    );
    assert!(ready.body.contains("restart"), "{}", ready.body);
    assert_eq!(judged(&broker, "/health").status, 200);
    let series = series(&metrics(&broker, "*/*").body);
    assert!((sum(&series, "corelane_store_in_service") - 1.0).abs() < 0.1);
    assert!((sum(&series, "corelane_topic_partitions_offline") - 2.0).abs() < 0.1);
    assert!((sum(&series, "corelane_partition_online") - 2.0).abs() < 0.1);
    shut_down(broker);
}

#[test]
fn a_port_that_is_taken_is_named_and_off_is_off() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut with_admin = config(dir.path());
    with_admin.admin.listen = Some(taken.local_addr().expect("bound"));
    let refused = serve(with_admin).err().expect("the port is taken");
    assert!(
        matches!(refused, StartError::AdminListen { .. }),
        "{refused}"
    );
    assert!(
        refused.to_string().contains("metrics and health"),
        "{refused}"
    );
    let mut without = config(dir.path());
    without.admin.listen = None;
    let broker = serve(without).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(broker.admin(), None);
    shut_down(broker);
}

#[test]
fn hostile_clients_are_bounded() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path());
    let address = admin(&broker);
    // More connections than there may be, none of which says anything or more than a half.
    let mut idle: Vec<_> = (0..200).map(|_| connect(address)).collect();
    for stream in idle.iter_mut().step_by(2) {
        // Those that were closed at once take nothing any more.
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nx: ");
    }
    // Clients of the broker notice nothing.
    let mut client = Client::connect(broker.bootstrap());
    let topic = client.create_topic("orders", 1);
    client
        .produce(partition(&topic, 0), &batch(&[b"one"]))
        .expect("a receipt");
    drop(idle);
    // Its places are free again, and heads without end are refused.
    let state = loop_until_answered(address);
    assert_eq!(state.topics[0].name, "orders");
    let endless = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let mut stream = connect(address);
    let _ = stream.write_all(endless.as_bytes());
    let mut answer = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    // Many who ask for everything at once get it, or are told to come again.
    let scrapers: Vec<_> = (0..32)
        .map(|_| std::thread::spawn(move || get(address, "/v1/state").status))
        .collect();
    let statuses: Vec<_> = scrapers
        .into_iter()
        .map(|scraper| scraper.join().expect("an answer"))
        .collect();
    assert!(
        statuses.iter().all(|status| matches!(status, 200 | 503)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&200));
    shut_down(broker);
}

fn loop_until_answered(address: SocketAddr) -> BrokerState {
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(50));
        let mut stream = connect(address);
        let asked =
            stream.write_all(b"GET /v1/state HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let mut text = String::new();
        let read = std::io::Read::read_to_string(&mut stream, &mut text);
        if asked.is_ok() && read.is_ok() && text.starts_with("HTTP/1.1 200") {
            let (_, body) = text.split_once("\r\n\r\n").expect("a body");
            return serde_json::from_str(body).expect("the state");
        }
    }
    panic!("the endpoint does not answer any more");
}

#[test]
fn many_partitions_are_all_shown_or_counted() {
    const PARTITIONS: usize = 2000;
    let dir = tempfile::tempdir().expect("a directory");
    let mut limited = config(dir.path());
    limited.admin.partition_series_max = 700;
    let broker = serve(limited).unwrap_or_else(|error| panic!("{error}"));
    let count = u32::try_from(PARTITIONS).expect("small");
    Client::connect(broker.bootstrap()).create_topic("many", count);
    let state = state_when(&broker, |state| !state.topics.is_empty());
    let numbers: Vec<_> = state.topics[0]
        .partitions
        .iter()
        .map(|partition| partition.partition)
        .collect();
    assert!(numbers.iter().copied().eq(0..count));
    // In short they are a row, unless they are asked for.
    let all = get(admin(&broker), "/v1/state").body;
    let short = get(admin(&broker), "/v1/state?form=summary").body;
    assert!(
        short.len() < 50_000 && all.len() > 400_000,
        "{}",
        short.len()
    );
    let open = get(admin(&broker), "/v1/state?form=summary&topic=many").body;
    assert!(open.len() < 200_000, "{}", open.len());
    let open: serde_json::Value = serde_json::from_str(&open).expect("JSON");
    let rows = open["topic"]["partitions"]["rows"].as_array();
    assert_eq!(rows.map(Vec::len), Some(PARTITIONS));

    let series = series(&metrics(&broker, "*/*").body);
    let with_series = series
        .keys()
        .filter(|name| name.starts_with("corelane_partition_online{"));
    assert_eq!(with_series.count(), 700);
    assert!((series["corelane_partitions_without_series"] - 1300.0).abs() < 0.5);
    let of_topic = series["corelane_topic_partitions{topic=\"many\"}"];
    assert!((of_topic - PARTITIONS as f64).abs() < 0.5);
    shut_down(broker);
}

/// The rows of the page's table: name, type, unit, labels.
fn documented() -> Vec<[String; 4]> {
    let page = include_str!("../../../docs/metrics.md");
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| `corelane_") || line.starts_with("| `process_"));
    rows.map(|row| {
        let cells: Vec<_> = row
            .split('|')
            .map(|cell| cell.trim().replace('`', ""))
            .collect();
        [1, 2, 3, 4].map(|index| cells[index].clone())
    })
    .collect()
}

#[test]
fn the_page_lists_exactly_what_a_broker_shows() {
    let expected: Vec<_> = families()
        .map(|family| {
            let unit = family.unit().unwrap_or("").to_owned();
            let labels = family.labels.join(", ");
            [family.name(), family.kind().to_owned(), unit, labels]
        })
        .collect();
    assert_eq!(
        documented(),
        expected,
        "docs/metrics.md, and the table in the code"
    );

    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path());
    let mut client = Client::connect(broker.bootstrap());
    let topic = client.create_topic_with("orders", 1, &[("retention.guard.readers", "billing")]);
    client
        .produce(partition(&topic, 0), &batch(&[b"one"]))
        .expect("a receipt");
    client.commit("billing", partition(&topic, 0), 0);
    state_when(&broker, |state| !state.groups.is_empty());
    let text = metrics(&broker, "*/*").body;
    let shown: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(str::to_owned)
        .collect();
    let listed: Vec<_> = documented()
        .into_iter()
        .map(|[name, kind, ..]| format!("{name} {kind}"))
        .collect();
    assert_eq!(shown, listed);
    for [name, kind, _, labels] in documented() {
        let suffix = if kind == "histogram" { "_count" } else { "" };
        let start = format!("{name}{suffix}");
        let mut of_family = text
            .lines()
            .filter(|line| line.split([' ', '{']).next() == Some(&start));
        if name == "corelane_request_errors_total" {
            continue;
        }
        let line = of_family.next();
        let line = line.unwrap_or_else(|| panic!("{name} has no series"));
        for label in labels.split(", ").filter(|label| !label.is_empty()) {
            assert!(
                line.contains(&format!("{label}=\"")),
                "{line} lacks {label}"
            );
        }
    }
    shut_down(broker);
}
