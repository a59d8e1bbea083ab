use super::keys::KEYS;
use super::*;
use corelane_storage::store::StoreConfig;

const EXAMPLE: &str = include_str!("../../../docs/corelane.example.toml");

fn from_file(text: &str) -> Result<BrokerConfig, ConfigError> {
    BrokerConfig::load(&ConfigSources {
        file: Some(ConfigFile {
            name: "corelane.toml".to_owned(),
            text: text.to_owned(),
        }),
        ..ConfigSources::default()
    })
}

/// The message that a file is refused with.
fn refusal(text: &str) -> String {
    from_file(text).expect_err(text).to_string()
}

#[test]
fn the_example_is_the_default() {
    assert_eq!(from_file(EXAMPLE), Ok(BrokerConfig::default()));
    assert_eq!(from_file(""), Ok(BrokerConfig::default()));
}

#[test]
fn the_example_lists_every_key_with_its_default_and_a_comment() {
    let mut section = "";
    let (mut listed, mut by_machine) = (Vec::new(), Vec::new());
    let lines: Vec<_> = EXAMPLE.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if let Some((name, value)) = line.split_once(" = ")
            && !line.starts_with("# ")
        {
            assert!(lines[index - 1].starts_with("# "), "{name} has no comment");
            let sized = name.strip_prefix('#');
            by_machine.extend(sized);
            let name = sized.unwrap_or(name);
            let path = if section.is_empty() {
                name.to_owned()
            } else {
                format!("{section}.{name}")
            };
            listed.push((path, value.trim_matches('"').to_owned()));
        }
    }
    let known: Vec<_> = BrokerConfig::default()
        .entries()
        .into_iter()
        .map(|(path, value)| (path.to_owned(), value))
        .collect();
    assert_eq!(listed, known);
    // Whoever begins with the example has what depends on the machine as well.
    assert_eq!(
        by_machine,
        ["open_files_max", "files_max", "per_core_bytes"]
    );
}

#[test]
fn every_key_reads_what_it_shows() {
    let defaults = BrokerConfig::default();
    let mut config = BrokerConfig::default();
    for key in KEYS {
        key.set(&mut config, &key.show(&defaults)).expect(key.path);
    }
    assert_eq!(config, defaults);
}

#[test]
fn unknown_keys_are_refused_with_their_line() {
    assert_eq!(
        refusal("data_dir = \"x\"\n\nspeed = 3\n"),
        "corelane.toml:3: unknown key `speed`; known at the top of the file are data_dir, listen, advertised_host, broker_id, cores, stores, insecure, shutdown_drain_ms; sections are [log], [journal], [memory], [limits], [groups], [producers], [compaction], [admin], [logging]"
    );
    let message = refusal("[journal]\nfile_bytes = 67108864\nfiles = 3\n");
    assert!(message.starts_with(
        "corelane.toml:3: unknown key `journal.files`; known in [journal] are file_bytes,"
    ));
    assert_eq!(
        refusal("segment_bytes = \"1 MiB\"\n"),
        "corelane.toml:1: unknown key `segment_bytes`; did you mean `log.segment_bytes`?"
    );
    assert!(refusal("\n[tuning]\na = 1\n").starts_with("corelane.toml:2: unknown key `tuning`"));
}

#[test]
fn impossible_values_are_refused_with_their_line() {
    assert_eq!(
        refusal("[log]\nsegment_bytes = \"4 KiB\"\n"),
        "corelane.toml:2: log.segment_bytes: `4 KiB` is out of range; choose between 64 KiB and 2 GiB"
    );
    assert!(
        refusal("[log]\n# comment\n\nsegment_bytes = 1.5\n")
            .starts_with("corelane.toml:4: log.segment_bytes: `1.5` is not a size")
    );
    assert!(refusal("stores = 1.5").contains("`1.5` is not a whole number"));
    assert!(refusal("stores = 2026-01-31").contains("a value of type datetime"));
    assert!(refusal("cores = \"0\"").contains("corelane.toml:1: cores: `0` names no cores"));
    assert!(refusal("insecure = 1").contains("neither true nor false"));
    assert!(refusal("data_dir = \"\"").contains("name a directory"));
    assert!(refusal("advertised_host = \"a b\"").contains("not a host name"));
    assert!(
        refusal("[logging]\nlevel = \"loud\"")
            .contains("not one of error, warn, info, debug, trace")
    );
    assert!(refusal("[logging]\nlevel = [1]").contains("array"));
    assert!(refusal("log = 3").contains("unknown key `log`"));
    assert!(refusal("stores = -1").contains("not a whole number"));
    assert!(refusal("stores = 0x10").contains("cannot be used"));
}

#[test]
fn broken_files_are_refused_with_their_line() {
    assert!(refusal("data_dir = \"x\"\nlisten = \n").starts_with("corelane.toml:2: "));
    assert!(refusal("stores = 1\nstores = 2\n").starts_with("corelane.toml:2: "));
}

#[test]
fn values_that_do_not_fit_together_are_refused_where_they_were_set() {
    let message = refusal("\n[log]\nmax_message_bytes = \"64 MiB\"\n");
    assert!(
        message.starts_with("corelane.toml:3: log.max_message_bytes (64 MiB) must be at most limits.frame_bytes_max (8256 KiB)"),
        "{message}"
    );
    assert!(refusal("[journal]\nfiles_max = 100\n").contains("may grow to 6400 MiB"));
    assert!(refusal("cores = 4\nstores = 2\n").contains("at least 4"));
}

#[test]
fn compaction_is_configured_for_topics_and_for_stores() {
    let config = from_file(
        "[log]\ncleanup_policy = \"delete,compact\"\nmin_compaction_lag_ms = \"1 h\"\n\
         delete_retention_ms = 5\nmin_cleanable_dirty_ratio = 0.25\n\
         [compaction]\nkeys_bytes_max = \"2 MiB\"\nbytes_per_second = 0\n",
    )
    .expect("a sound file");
    let log = &config.log;
    assert_eq!(log.cleanup_policy, CleanupPolicy::CompactAndDelete);
    assert_eq!(log.min_compaction_lag_ms, 3_600_000);
    assert_eq!(log.delete_retention_ms, 5);
    assert_eq!(log.min_cleanable_dirty_ratio, 250);
    let store = config.store_config();
    assert_eq!(store.compaction_keys_bytes_max, 2 << 20);
    assert_eq!(store.compaction_bytes_per_second, 0);
    assert_eq!(store.check(), Ok(()));
    let shown = config.entries();
    for (path, value) in [
        ("log.cleanup_policy", "compact,delete"),
        ("log.min_cleanable_dirty_ratio", "0.25"),
        ("compaction.keys_bytes_max", "2 MiB"),
    ] {
        assert!(shown.contains(&(path, value.to_owned())), "{path}");
    }
    // What a store does by itself is what is documented here.
    let (config, store) = (
        BrokerConfig::default().store_config(),
        StoreConfig::default(),
    );
    assert_eq!(
        (
            config.compaction_keys_bytes_max,
            config.compaction_bytes_per_second
        ),
        (
            store.compaction_keys_bytes_max,
            store.compaction_bytes_per_second
        )
    );
    for (file, part) in [
        (
            "[log]\ncleanup_policy = \"keep\"",
            "choose delete, compact, or compact,delete",
        ),
        (
            "[log]\nmin_cleanable_dirty_ratio = 1.5",
            "`1.5` is no share",
        ),
        ("[log]\nmin_cleanable_dirty_ratio = nan", "from 0 to 1"),
        ("[log]\nmin_compaction_lag_ms = -1", "not a duration"),
        (
            "[compaction]\nkeys_bytes_max = 1000",
            "between 1 MiB and 64 GiB",
        ),
        (
            "[compaction]\nbytes_per_second = \"2 GiB\"",
            "between 0 and 1 GiB",
        ),
        (
            "[compaction]\nkeys_memory = 1",
            "known in [compaction] are keys_bytes_max",
        ),
    ] {
        assert!(refusal(file).contains(part), "{}", refusal(file));
    }
}

#[test]
fn the_admin_endpoint_can_be_elsewhere_or_off_but_not_where_clients_are() {
    let admin = |text: &str| from_file(text).map(|config| config.admin.listen);
    assert_eq!(admin("[admin]\nlisten = \"off\""), Ok(None));
    let elsewhere = Ok("127.0.0.1:0".parse().ok());
    assert_eq!(admin("[admin]\nlisten = \"localhost:0\""), elsewhere);
    assert!(refusal("[admin]\nlisten = \"9600\"").contains("or \"off\""));
    assert!(refusal("[admin]\nlisten = \"127.0.0.1:9500\"").contains("another port"));
}

#[test]
fn beyond_loopback_needs_the_insecure_flag_and_an_address_to_tell() {
    assert!(refusal("listen = \"192.0.2.1:9500\"").contains("--insecure"));
    assert!(from_file("listen = \"192.0.2.1:9500\"\ninsecure = true").is_ok());
    assert!(refusal("listen = \"0.0.0.0:9500\"\ninsecure = true").contains("advertised_host"));
    assert!(refusal("[admin]\nlisten = \"192.0.2.1:9600\"").contains("--insecure"));
    assert!(from_file("insecure = true\n[admin]\nlisten = \"192.0.2.1:9600\"").is_ok());
    let named = "listen = \"0.0.0.0:9500\"\ninsecure = true\nadvertised_host = \"broker.example\"";
    assert!(from_file(named).is_ok());
    assert!(from_file("listen = \"[::1]:0\"").is_ok());
}

#[test]
fn the_environment_overrides_the_file_and_flags_override_both() {
    let mut sources = ConfigSources {
        file: Some(ConfigFile {
            name: "corelane.toml".to_owned(),
            text: "stores = 3\ncores = 2\n[log]\nsegment_bytes = \"2 MiB\"\nmax_message_bytes = \"1 MiB\"".to_owned(),
        }),
        environment: vec![
            ("CORELANE_LOG_SEGMENT_BYTES".to_owned(), "3 MiB".to_owned()),
            ("CORELANE_STORES".to_owned(), "5".to_owned()),
            ("CORELANE_BROKER".to_owned(), "127.0.0.1:1".to_owned()),
            ("PATH".to_owned(), "/bin".to_owned()),
        ],
        flags: vec![("--cores", "cores", "1".to_owned())],
        machine: Machine::default(),
    };
    let config = BrokerConfig::load(&sources).expect("valid sources");
    assert_eq!(config.log.segment_bytes, 3 << 20);
    assert_eq!(config.server.stores, 5);
    assert_eq!(config.server.cores, CoreSelection::Count(1));

    sources.flags[0].2 = "none".to_owned();
    let error = BrokerConfig::load(&sources).expect_err("a bad flag");
    assert!(error.to_string().starts_with("flag --cores: cores: `none`"));

    sources.environment[1].1 = "many".to_owned();
    let error = BrokerConfig::load(&sources).expect_err("a bad variable");
    assert!(
        error
            .to_string()
            .starts_with("environment variable CORELANE_STORES: stores: `many`")
    );

    sources.environment[1].0 = "CORELANE_LOG_SEGMENT_SIZE".to_owned();
    let error = BrokerConfig::load(&sources).expect_err("an unknown variable");
    assert!(
        error.to_string().contains("CORELANE_LOG_SEGMENT_BYTES"),
        "{error}"
    );
}

#[test]
fn journals_of_several_stores_must_fit_the_memory_of_their_core() {
    let config = BrokerConfig::default();
    assert_eq!(config.check_journals_fit(1), Ok(()));
    let problem = config.check_journals_fit(4).expect_err("four journals");
    assert!(problem.contains("memory.per_core_bytes"), "{problem}");
}
