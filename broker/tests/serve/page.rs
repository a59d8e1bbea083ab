//! The page at the admin endpoint as it is handed out: what a browser gets of it, and the short state that it shows.

use serde_json::Value;

use crate::admin::{admin, state_when};
use crate::http::{exchange, get, get_as};
use crate::support::{Client, batch, partition, shut_down, start};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// The value of a header in a head in small letters.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let mut found = lines.filter(|(key, _)| *key == name);
    found.next().map(|(_, value)| value)
}

/// What is named in quotes after a mark.
fn named<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    let after = text.split(mark).skip(1);
    after.filter_map(|rest| rest.split('"').next())
}

#[test]
fn a_browser_gets_a_page_that_may_load_nothing_from_elsewhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path());
    let address = admin(&broker);
    let page = get_as(address, "/", BROWSER);
    assert_eq!(page.status, 200);
    assert!(page.body.starts_with("<!DOCTYPE html>"), "{}", page.body);
    assert_eq!(
        header(&page.head, "content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(header(&page.head, "vary"), Some("accept"));
    let policy = header(&page.head, "content-security-policy").expect("a policy");
    for rule in [
        "default-src 'none'",
        "script-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(
        !policy.contains("unsafe") && !policy.contains('*'),
        "{policy}"
    );

    // Everything that it names, and what that names.
    let mut wanted: Vec<_> = named(&page.body, "=\"page/")
        .map(|name| format!("/page/{name}"))
        .collect();
    let mut seen = Vec::new();
    while let Some(path) = wanted.pop() {
        if seen.contains(&path) {
            continue;
        }
        let part = get(address, &path);
        assert_eq!(part.status, 200, "{path}");
        let kind = match path.rsplit('.').next() {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => panic!("{path} is of no kind that a page is made of"),
        };
        assert_eq!(header(&part.head, "content-type"), Some(kind), "{path}");
        assert_eq!(
            header(&part.head, "x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
        assert_eq!(
            header(&part.head, "content-security-policy"),
            Some(policy),
            "{path}"
        );
        wanted.extend(named(&part.body, " from \"./").map(|name| format!("/page/{name}")));
        seen.push(path);
    }
    assert!(seen.len() >= 8, "{seen:?}");

    let head =
        format!("HEAD / HTTP/1.1\r\nhost: a\r\naccept: {BROWSER}\r\nconnection: close\r\n\r\n");
    let head = exchange(address, &head);
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let length = page.body.len().to_string();
    assert_eq!(header(&head.head, "content-length"), Some(length.as_str()));
    let posted = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    assert_eq!(exchange(address, posted).status, 405);
    for path in [
        "/page/",
        "/page/page.html",
        "/page/../mod.rs",
        "/index.html",
    ] {
        let nowhere = get_as(address, path, BROWSER);
        assert_eq!(nowhere.status, 404, "{path}");
        let kind = header(&nowhere.head, "content-type");
        assert_eq!(kind, Some("text/plain; charset=utf-8"));
    }
    shut_down(broker);
}

/// The rows of a table by the names of its columns.
fn rows(table: &Value) -> Vec<Value> {
    let columns = table["columns"].as_array().expect("columns");
    let rows = table["rows"].as_array().expect("rows");
    let named = rows.iter().map(|row| {
        let cells = row.as_array().expect("a row");
        assert_eq!(cells.len(), columns.len());
        let names = columns.iter().map(|name| name.as_str().expect("a name"));
        names
            .map(str::to_owned)
            .zip(cells.iter().cloned())
            .collect()
    });
    named.collect()
}

#[test]
fn the_short_state_says_the_same_as_the_whole_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = start(dir.path());
    let mut client = Client::connect(broker.bootstrap());
    let topic = client.create_topic("orders", 3);
    client.create_topic("payments", 1);
    for index in 0..3 {
        client
            .produce(partition(&topic, index), &batch(&[b"one", b"two"]))
            .expect("a receipt");
    }
    let group = "<b> & co.";
    client.commit(group, partition(&topic, 1), 1);
    let whole = state_when(&broker, |state| {
        state.groups.len() == 1 && state.groups[0].partitions.len() == 1
    });
    let path = "/v1/state?form=summary&topic=orders&group=%3Cb%3E%20%26%20co.";
    let answer = get(admin(&broker), path);
    assert_eq!(
        (answer.status, header(&answer.head, "content-type")),
        (200, Some("application/json"))
    );
    let short: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(short["phase"], "serving");
    assert_eq!(short["started_ms"], whole.started_ms);
    assert_eq!(short["problems"].as_array().map(Vec::len), Some(0));
    assert_eq!(short["cores"].as_array().map(Vec::len), Some(2));
    let requests = |core: &Value| core["requests"].as_u64().expect("a number");
    let requests: u64 = short["cores"]
        .as_array()
        .expect("cores")
        .iter()
        .map(requests)
        .sum();
    assert!(requests >= 6, "{requests}");

    let topics = rows(&short["topics"]);
    assert_eq!(topics.len(), whole.topics.len());
    for (row, topic) in topics.iter().zip(&whole.topics) {
        assert_eq!(row["name"], topic.name);
        assert_eq!(row["partitions"], topic.partitions.len());
        if topic.name == "orders" {
            assert_eq!(
                (&row["records"], &row["records_in"]),
                (&6.into(), &6.into())
            );
            assert_eq!(
                row["size_bytes"],
                topic.sum(|partition| partition.size_bytes)
            );
        }
    }
    assert_eq!(short["topic"]["name"], "orders");
    let partitions = rows(&short["topic"]["partitions"]);
    let ends: Vec<_> = partitions
        .iter()
        .map(|row| row["high_watermark"].clone())
        .collect();
    assert_eq!(ends, [2, 2, 2].map(Value::from));
    assert!(partitions.iter().all(|row| row["is_online"] == true));
    let groups = rows(&short["groups"]);
    assert_eq!(
        (&groups[0]["name"], &groups[0]["lag"]),
        (&group.into(), &1.into())
    );
    assert_eq!(short["group"]["name"], group);
    assert_eq!(rows(&short["group"]["partitions"])[0]["committed"], 1);

    for (query, word) in [
        ("form=short", "form=summary"),
        ("topic=orders", "add form=summary"),
        ("form=summary&group=%", "two digits"),
    ] {
        let refused = get(admin(&broker), &format!("/v1/state?{query}"));
        assert_eq!(refused.status, 400, "{query}");
        assert!(refused.body.contains(word), "{}", refused.body);
    }
    shut_down(broker);
}
