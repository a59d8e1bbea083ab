//! The configuration and what people type: read or refused with a sentence, and what was read is read again
//! from what is shown of it.
//!
//! Input: a byte that says which, and text.

use corelane_broker::config::{
    BrokerConfig, ConfigFile, ConfigSources, format_bytes, parse_bytes, parse_millis,
};
use corelane_broker::metadata::TopicSettings;

use crate::bytes::Bytes;
use crate::input::escapes::unescape;
use crate::input::start::From;
use crate::output::print_format::{PrintFormat, PrintedRecord};

/// Flags of `corelane serve`, by the keys that they set.
const FLAGS: [(&str, &str); 4] = [
    ("--data-dir", "data_dir"),
    ("--listen", "listen"),
    ("--cores", "cores"),
    ("--insecure", "insecure"),
];

pub(crate) fn run(input: &[u8]) {
    let mut input = Bytes::new(input);
    let which = input.u8() % 6;
    let text = String::from_utf8_lossy(input.rest()).into_owned();
    match which {
        0 => file(text),
        1 => environment(&text),
        2 => flags(&text),
        3 => settings(&text),
        4 => values(&text),
        _ => forms(&text),
    }
}

fn load(sources: &ConfigSources) {
    match BrokerConfig::load(sources) {
        Ok(config) => shown_and_read_again(&config),
        Err(error) => {
            let shown = error.to_string();
            assert!(shown.len() > 10, "{shown}");
        }
    }
}

/// What a configuration shows of itself gives the same one, and a store takes what it makes of it.
fn shown_and_read_again(config: &BrokerConfig) {
    let variable = |(path, value): (&str, String)| {
        let name = format!("CORELANE_{}", path.replace('.', "_").to_uppercase());
        // A host that is not set has no textual form.
        (path != "advertised_host" || !value.is_empty()).then_some((name, value))
    };
    let environment = config.entries().into_iter().filter_map(variable);
    let sources = ConfigSources {
        environment: environment.collect(),
        ..ConfigSources::default()
    };
    let again = BrokerConfig::load(&sources);
    let again = again.unwrap_or_else(|error| panic!("{error}: {:?}", sources.environment));
    assert_eq!(&again, config);
    let checked = config.store_config().check();
    assert!(checked.is_ok(), "{checked:?}: {config:?}");
}

fn file(text: String) {
    load(&ConfigSources {
        file: Some(ConfigFile {
            name: "corelane.toml".to_owned(),
            text,
        }),
        ..ConfigSources::default()
    });
}

/// Lines of `NAME=VALUE`.
fn environment(text: &str) {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    load(&ConfigSources {
        environment: pairs.collect(),
        ..ConfigSources::default()
    });
}

/// Lines of a digit, which says the flag, and its value.
fn flags(text: &str) {
    let flag = |line: &str| {
        let (flag, path) = FLAGS[usize::from(*line.as_bytes().first()?) % FLAGS.len()];
        Some((flag, path, line.get(1..)?.to_owned()))
    };
    load(&ConfigSources {
        flags: text.lines().filter_map(flag).collect(),
        ..ConfigSources::default()
    });
}

/// Lines of `name=value`, and of names that lose their value.
fn settings(text: &str) {
    let set = text.lines().filter_map(|line| line.split_once('='));
    let unset = text.lines().filter(|line| !line.contains('='));
    let config = BrokerConfig::default();
    let settings = match TopicSettings::default().altered(set, unset) {
        Ok(settings) => settings,
        Err(error) => {
            assert!(!error.message.is_empty());
            return;
        }
    };
    let pairs = settings.to_pairs();
    let pairs = pairs.iter().map(|(key, value)| (*key, value.as_str()));
    assert_eq!(TopicSettings::parse(pairs), Ok(settings.clone()));
    if settings.check(&config).is_ok() {
        let effective = settings.effective(&config);
        assert!(u64::from(effective.max_message_bytes) < effective.segment_bytes);
        assert!(!settings.describe(&config).is_empty());
    }
}

fn values(text: &str) {
    if let Ok(bytes) = parse_bytes(text) {
        assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes));
    }
    let _ = parse_millis(text);
    if let Ok(From::Time(ms)) = text.parse::<From>() {
        assert!(ms >= 0);
    }
}

fn forms(text: &str) {
    if let Ok(bytes) = unescape(text) {
        assert!(bytes.len() <= text.len());
    }
    let Ok(format) = text.parse::<PrintFormat>() else {
        return;
    };
    let bytes = text.as_bytes();
    let mut output = Vec::new();
    let headers = [(text, Some(bytes)), ("", None)];
    let record = PrintedRecord {
        topic: "orders",
        partition: 3,
        offset: 42,
        timestamp_ms: -1,
        key: bytes.len().is_multiple_of(2).then_some(bytes),
        value: Some(&bytes[bytes.len() / 2..]),
        headers: &headers,
    };
    for format in [format, PrintFormat::Json] {
        output.clear();
        format
            .write(&mut output, record)
            .expect("a vector takes it");
        if format == PrintFormat::Json {
            let line: serde_json::Value = serde_json::from_slice(&output).expect("JSON");
            assert_eq!(line["offset"], 42);
        }
    }
}

/// The documented example, whole and by line, and one of each form.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    const EXAMPLE: &str = include_str!("../../docs/corelane.example.toml");
    let seed = |which: u8, text: &str| [&[which], text.as_bytes()].concat();
    let mut seeds = Vec::new();
    let mut section = String::new();
    let mut all = String::new();
    for line in EXAMPLE.lines() {
        let line = line.trim_start_matches("# ").trim_start_matches('#');
        if line.starts_with('[') {
            section = format!("{line}\n");
            all.push_str(&section);
        } else if let Some((name, value)) = line.split_once(" = ")
            && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        {
            seeds.push(seed(0, &format!("{section}{line}\n")));
            all.push_str(&format!("{line}\n"));
            let section = section.trim().trim_matches(['[', ']']);
            let dot = if section.is_empty() { "" } else { "_" };
            let name = format!("CORELANE_{section}{dot}{name}").to_uppercase();
            let value = value.split('#').next().unwrap_or_default();
            seeds.push(seed(
                1,
                &format!("{name}={}\n", value.trim().trim_matches('"')),
            ));
        }
    }
    seeds.push(seed(0, &all));
    for flag in ["0/data", "1127.0.0.1:9500", "22", "3true", "20,2-3"] {
        seeds.push(seed(2, flag));
    }
    for pair in [
        "retention.ms=7d\nsegment.bytes=1 GiB\nflush.ms",
        "max.message.bytes=1000012\nmessage.timestamp.type=LogAppendTime",
        "retention.bytes=-1\nsegment.ms=1000\nflush.messages=10",
        "cleanup.policy=delete,compact\nmin.cleanable.dirty.ratio=0.125\ndelete.retention.ms",
    ] {
        seeds.push(seed(3, pair));
    }
    for value in [
        "1.5 MiB",
        "30 s",
        "@2026-01-31T08:00:00+01:00",
        "-10",
        "start",
    ] {
        seeds.push(seed(4, value));
    }
    for form in ["%t %p %o %k=%v %T\\n", "json", "100%% \\t\\0\\\\", "é"] {
        seeds.push(seed(5, form));
    }
    seeds
}
