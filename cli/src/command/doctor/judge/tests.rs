//! Each judgement, on made-up machines.

use std::path::PathBuf;
use std::time::Duration;

use corelane_broker::config::{BrokerConfig, CoreSelection};

use super::*;
use crate::command::doctor::directory::DirectoryFacts;
use crate::command::doctor::facts::{ListenFault, RingFacts};

const EXT4: u64 = 0xef53;

/// A machine without fault, and two CPUs.
fn healthy() -> Facts {
    Facts {
        kernel: "6.12.3-amd64".to_owned(),
        ring: RingFacts::Works {
            operations: vec![("accept", true), ("write", true)],
            fallbacks: Vec::new(),
        },
        io_uring_disabled: Some(0),
        has_seccomp_filter: false,
        memlock_bytes: None,
        open_files: Some(1 << 20),
        cpus: vec![0, 1],
        parallelism: 2,
        memory_bytes: Some(8 << 30),
        directory: Ok(DirectoryFacts {
            path: PathBuf::from("/data"),
            parent: None,
            stores: None,
            journal_bytes: 0,
            foreign: None,
            user: None,
            filesystem: EXT4,
            free_bytes: 100 << 30,
            has_inodes: true,
            is_direct: true,
            durable_write: Ok(Duration::from_micros(400)),
        }),
        listen: Ok(()),
        admin: Some(Ok(())),
        clock: Ok(true),
        huge_pages: Some("madvise".to_owned()),
    }
}

/// The only check that is not as it should be on a machine with this fault.
#[track_caller]
fn only_fault(change: impl FnOnce(&mut Facts)) -> Check {
    only_fault_with(&BrokerConfig::default(), change)
}

#[track_caller]
fn only_fault_with(config: &BrokerConfig, change: impl FnOnce(&mut Facts)) -> Check {
    let mut facts = healthy();
    change(&mut facts);
    let mut faults = judge(&facts, config);
    faults.retain(|check| check.state != State::Ok);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    faults.remove(0)
}

#[track_caller]
fn only_directory_fault(change: impl FnOnce(&mut DirectoryFacts)) -> Check {
    only_fault(|facts| change(facts.directory.as_mut().expect("it is usable")))
}

#[track_caller]
fn assert_says(check: &Check, name: &str, state: State, found: &str, advice: &str) {
    assert_eq!((check.name, check.state), (name, state), "{check:?}");
    assert!(check.found.contains(found), "{check:?}");
    let said = check.advice.as_deref().expect("a fault comes with advice");
    assert!(said.contains(advice), "{check:?}");
}

#[test]
fn a_healthy_machine_has_nothing_to_mend() {
    let checks = judge(&healthy(), &BrokerConfig::default());
    for check in &checks {
        assert_eq!(
            (check.state, &check.advice),
            (State::Ok, &None),
            "{check:?}"
        );
    }
    let mut names: Vec<_> = checks.iter().map(|check| check.name).collect();
    assert_eq!(names.len(), 17);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 17, "names are what programs look for");
}

#[test]
fn old_kernels_are_told_from_new_ones() {
    for (kernel, state) in [
        ("5.10.0-28-amd64", Some(State::Problem)),
        ("6.0.19", Some(State::Problem)),
        ("6.1.0-13-amd64", None),
        ("6.18.44-fc", None),
        ("7.0-rc1", None),
        ("of an unknown version", Some(State::Warning)),
    ] {
        let mut facts = healthy();
        facts.kernel = kernel.to_owned();
        let check = kernel::version(&facts);
        assert_eq!(check.state, state.unwrap_or(State::Ok), "{check:?}");
        assert!(check.found.contains(kernel));
    }
}

#[test]
fn a_forbidden_io_uring_names_who_forbids_it() {
    let forbidden = |sysctl, has_filter| {
        only_fault(|facts| {
            facts.ring = RingFacts::NotPermitted;
            facts.io_uring_disabled = sysctl;
            facts.has_seccomp_filter = has_filter;
        })
    };
    let problem = State::Problem;
    let everybody = forbidden(Some(2), true);
    assert_says(
        &everybody,
        "io_uring",
        problem,
        "is 2",
        "io_uring_disabled=0",
    );
    let user = forbidden(Some(1), false);
    assert_says(&user, "io_uring", problem, "is 1", "io_uring_group");
    let container = forbidden(Some(0), true);
    assert_says(&container, "io_uring", problem, "seccomp", "io_uring_setup");
    let module = forbidden(None, false);
    assert_says(&module, "io_uring", problem, "neither", "SELinux");
    let missing = only_fault(|facts| facts.ring = RingFacts::Unusable("it is missing".into()));
    assert_says(&missing, "io_uring", problem, "it is missing", "io_uring");
}

#[test]
fn missing_operations_are_named() {
    let check = only_fault(|facts| {
        facts.ring = RingFacts::Lacks {
            operations: vec![("accept", true), ("statx", false), ("renameat", false)],
            problem: "too old".to_owned(),
        };
    });
    let (name, problem) = ("io_uring operations", State::Problem);
    assert_says(
        &check,
        name,
        problem,
        "missing: statx, renameat",
        "newer kernel",
    );
    let check = only_fault(|facts| {
        facts.ring = RingFacts::Lacks {
            operations: vec![("accept", true)],
            problem: "provided buffer rings".to_owned(),
        };
    });
    assert_says(
        &check,
        name,
        problem,
        "provided buffer rings",
        "newer kernel",
    );
    let check = only_fault(|facts| {
        facts.ring = RingFacts::Works {
            operations: vec![("accept", true)],
            fallbacks: vec!["one is missing", "another is"],
        };
    });
    let found = "one is missing; another is";
    assert_says(
        &check,
        "io_uring extras",
        State::Warning,
        found,
        "newer kernel",
    );
}

#[test]
fn limits_are_held_against_what_a_broker_of_this_size_takes() {
    let check = only_fault(|facts| facts.memlock_bytes = Some(64 << 10));
    let (name, advice) = ("locked memory", "LimitMEMLOCK");
    assert_says(
        &check,
        name,
        State::Problem,
        "512.0 KiB is the least",
        advice,
    );
    let check = only_fault(|facts| {
        facts.memlock_bytes = Some(8 << 20);
        facts.cpus = (0..64).collect();
        facts.parallelism = 64;
        facts.memory_bytes = Some(1 << 40);
    });
    assert_says(
        &check,
        name,
        State::Warning,
        "64 cores may need 12.0 MiB",
        advice,
    );

    let check = only_fault(|facts| facts.open_files = Some(200));
    let (name, advice) = ("open files", "LimitNOFILE");
    assert_says(
        &check,
        name,
        State::Problem,
        "200 may be open, and 272",
        advice,
    );
    let check = only_fault(|facts| facts.open_files = Some(20_000));
    assert_says(&check, name, State::Warning, "may take 21,672", advice);
    let mut facts = healthy();
    facts.open_files = None;
    let check = host::open_files(
        &facts,
        &BrokerConfig::default(),
        Size {
            cores: 2,
            stores: 2,
        },
    );
    assert_eq!(check.state, State::Ok);

    let check = only_fault(|facts| facts.memory_bytes = Some(1 << 29));
    let found = "may take 1.0 GiB, but only 512.0 MiB";
    assert_says(
        &check,
        "memory",
        State::Warning,
        found,
        "memory.per_core_bytes",
    );
    let check = only_directory_fault(|made| made.stores = Some(8));
    let advice = "a restart after a crash";
    assert_says(
        &check,
        "memory",
        State::Warning,
        "4 store(s) of one core",
        advice,
    );
}

#[test]
fn the_configured_cores_are_held_against_the_allowed_ones() {
    let with = |cores| {
        let mut config = BrokerConfig::default();
        config.server.cores = cores;
        config
    };
    let check = only_fault_with(&with(CoreSelection::List(vec![0, 5])), |_| ());
    assert_says(
        &check,
        "cores",
        State::Problem,
        "asks for CPU 5",
        "AllowedCPUs",
    );
    let check = only_fault_with(&with(CoreSelection::Count(3)), |_| ());
    assert_says(&check, "cores", State::Warning, "asks for 3", "slow");
    let check = only_fault(|facts| facts.parallelism = 1);
    assert_says(
        &check,
        "cores",
        State::Warning,
        "the time of 1 only",
        "cpuset",
    );
    let fine = judge(&healthy(), &with(CoreSelection::List(vec![1])));
    assert!(
        fine.iter().all(|check| check.state == State::Ok),
        "{fine:#?}"
    );
}

#[test]
fn a_taken_address_is_no_fault_if_a_broker_runs_here() {
    let taken = |facts: &mut Facts| facts.listen = Err(ListenFault::InUse);
    let check = only_fault(taken);
    assert_says(
        &check,
        "address",
        State::Problem,
        "127.0.0.1:9500 is taken",
        "--listen",
    );
    let mut facts = healthy();
    taken(&mut facts);
    let made = facts.directory.as_mut().expect("it is usable");
    made.user = Some("process 12".to_owned());
    let checks = judge(&facts, &BrokerConfig::default());
    assert!(
        checks.iter().all(|check| check.state == State::Ok),
        "{checks:#?}"
    );
    assert!(
        checks
            .iter()
            .any(|check| check.found.contains("process 12"))
    );

    for (fault, found, advice) in [
        (ListenFault::NotPermitted, "may not listen", "from 1024 on"),
        (
            ListenFault::NotHere,
            "no address of this machine",
            "ip address",
        ),
        (ListenFault::Other("odd".to_owned()), "odd", "--listen"),
    ] {
        let check = only_fault(|facts| facts.listen = Err(fault));
        assert_says(&check, "address", State::Problem, found, advice);
    }
}

#[test]
fn the_admin_address_is_looked_at_unless_it_is_off() {
    let taken = |facts: &mut Facts| facts.admin = Some(Err(ListenFault::InUse));
    let check = only_fault(taken);
    let found = "127.0.0.1:9600 is taken by another program";
    assert_says(
        &check,
        "admin address",
        State::Problem,
        found,
        "--admin-listen",
    );
    let mut facts = healthy();
    taken(&mut facts);
    facts.directory.as_mut().expect("it is usable").user = Some("process 12".to_owned());
    let checks = judge(&facts, &BrokerConfig::default());
    assert!(checks.iter().all(|check| check.state == State::Ok));
    let mut config = BrokerConfig::default();
    config.admin.listen = None;
    facts.admin = None;
    let checks = judge(&facts, &config);
    assert!(checks.iter().all(|check| check.name != "admin address"));
}

#[test]
fn a_clock_by_itself_and_greedy_huge_pages_are_warnings() {
    let warning = State::Warning;
    let check = only_fault(|facts| facts.clock = Ok(false));
    assert_says(&check, "clock", warning, "not synchronised", "chrony");
    let check = only_fault(|facts| facts.clock = Err("not allowed".to_owned()));
    assert_says(&check, "clock", warning, "not allowed", "chrony");
    let check = only_fault(|facts| facts.huge_pages = Some("always".to_owned()));
    assert_says(&check, "huge pages", warning, "always", "madvise");
}

#[test]
fn filesystems_are_trusted_as_far_as_they_keep_things() {
    for (number, state, found) in [
        (0x0102_1994, State::Problem, "tmpfs: it is memory"),
        (0x8584_58f6, State::Problem, "ramfs"),
        (0x794c_7630, State::Warning, "overlay"),
        (0x6969, State::Warning, "nfs"),
        (0x9123_683e, State::Warning, "btrfs"),
        (0xabcdef, State::Warning, "0xabcdef"),
    ] {
        let check = only_directory_fault(|made| made.filesystem = number);
        assert_says(&check, "filesystem", state, found, "");
    }
    let check = only_directory_fault(|made| made.is_direct = false);
    assert_says(&check, "direct I/O", State::Warning, "O_DIRECT", "ext4");
    let check = only_directory_fault(|made| made.durable_write = Err("input/output error".into()));
    let found = "input/output error";
    assert_says(&check, "durable writes", State::Problem, found, "dmesg");
}

#[test]
fn room_is_counted_for_the_journals_that_are_not_there_yet() {
    // Two stores of at first 2, at last 4 journal files of 64 MiB.
    let name = "free space";
    let check = only_directory_fault(|made| made.free_bytes = 256 << 20);
    assert_says(
        &check,
        name,
        State::Problem,
        "256.0 MiB are free",
        "make room",
    );
    let check = only_directory_fault(|made| made.free_bytes = 1 << 30);
    assert_says(
        &check,
        name,
        State::Warning,
        "may take 512.0 MiB",
        "files_max",
    );
    let check = only_directory_fault(|made| {
        made.journal_bytes = 512 << 20;
        made.free_bytes = 1 << 29;
    });
    assert_says(&check, name, State::Warning, "may take 0 B", "make room");
    let check = only_directory_fault(|made| made.has_inodes = false);
    assert_says(&check, name, State::Problem, "inodes", "df -i");
}

#[test]
fn the_directory_itself_must_fit() {
    let unusable = Err("/x: a file cannot be made there: Permission denied".to_owned());
    let check = only_fault(|facts| facts.directory = unusable);
    let name = "data directory";
    assert_says(
        &check,
        name,
        State::Problem,
        "Permission denied",
        "--data-dir",
    );
    let check = only_directory_fault(|made| made.foreign = Some("thesis".to_owned()));
    assert_says(&check, name, State::Problem, "holds 'thesis'", "empty");
    let mut config = BrokerConfig::default();
    config.server.stores = 2;
    let check = only_fault_with(&config, |facts| {
        facts.directory.as_mut().expect("it is usable").stores = Some(1);
    });
    assert_says(&check, name, State::Problem, "has 1 store(s)", "stores = 0");
}
