//! The data directory and its filesystem.

use corelane_broker::config::BrokerConfig;

use super::{Check, Size};
use crate::command::doctor::directory::DirectoryFacts;
use crate::output::units;

/// Journal files that a store makes before it serves: one to write to, and one that is ready.
const FIRST_JOURNAL_FILES: u64 = 2;
/// Room that should be left for records when all journals are as large as they may become, in bytes.
const ROOM_BYTES: u64 = 1 << 30;

/// How much a filesystem can be trusted to keep what it was given.
enum Trust {
    Disk,
    Copying,
    Overlay,
    Remote,
    Memory,
}

/// The numbers of `statfs(2)`.
const FILESYSTEMS: [(u64, &str, Trust); 16] = [
    (0xef53, "ext4", Trust::Disk),
    (0x5846_5342, "xfs", Trust::Disk),
    (0xf2f5_2010, "f2fs", Trust::Disk),
    (0x9123_683e, "btrfs", Trust::Copying),
    (0x2fc1_2fc1, "zfs", Trust::Copying),
    (0xca45_1a4e, "bcachefs", Trust::Copying),
    (0x794c_7630, "overlay", Trust::Overlay),
    (0x6969, "nfs", Trust::Remote),
    (0x517b, "smb", Trust::Remote),
    (0xff53_4d42, "cifs", Trust::Remote),
    (0xfe53_4d42, "smb2", Trust::Remote),
    (0x6573_5546, "fuse", Trust::Remote),
    (0x0102_1997, "9p", Trust::Remote),
    (0x00c3_6400, "ceph", Trust::Remote),
    (0x0102_1994, "tmpfs", Trust::Memory),
    (0x8584_58f6, "ramfs", Trust::Memory),
];

pub(super) fn unusable(problem: &str) -> Check {
    Check::problem(
        "data directory",
        problem,
        "choose another one with --data-dir, or give this user (see `id`) the right to write there",
    )
}

pub(super) fn directory(facts: &DirectoryFacts, config: &BrokerConfig, size: Size) -> Vec<Check> {
    vec![
        place(facts, config),
        filesystem(facts),
        direct_io(facts),
        durable_writes(facts),
        free_space(facts, config, size),
    ]
}

fn place(facts: &DirectoryFacts, config: &BrokerConfig) -> Check {
    const NAME: &str = "data directory";
    let path = facts.path.display();
    let wanted = config.server.stores;
    if let Some(name) = &facts.foreign {
        return Check::problem(
            NAME,
            format!("{path} is no data directory, and not empty: it holds '{name}'"),
            "choose another one with --data-dir: empty, or not there yet",
        );
    }
    match (facts.stores, &facts.user, &facts.parent) {
        (Some(stores), ..) if wanted != 0 && wanted != stores => Check::problem(
            NAME,
            format!("{path} has {stores} store(s), and the setting stores asks for {wanted}"),
            "set stores = 0: a directory keeps its number for ever",
        ),
        (_, Some(user), _) => Check::ok(NAME, format!("{path} is used by a broker ({user})")),
        (_, _, Some(parent)) => Check::ok(
            NAME,
            format!("{path} would be made in {}", parent.display()),
        ),
        (Some(stores), ..) => Check::ok(NAME, format!("{path} has {stores} store(s)")),
        (None, None, None) => Check::ok(NAME, format!("{path} has no store yet")),
    }
}

fn filesystem(facts: &DirectoryFacts) -> Check {
    const NAME: &str = "filesystem";
    let known = FILESYSTEMS
        .iter()
        .find(|(number, ..)| *number == facts.filesystem);
    let Some((_, name, trust)) = known else {
        return Check::warning(
            NAME,
            format!("of a kind that is not known here ({:#x})", facts.filesystem),
            "ext4 and xfs are what Corelane is tried on",
        );
    };
    match trust {
        Trust::Disk => Check::ok(NAME, *name),
        Trust::Copying => Check::warning(
            NAME,
            format!("{name}: it writes every block to a new place"),
            "ext4 or xfs are faster for files that are written again and again, as journals are",
        ),
        Trust::Overlay => Check::warning(
            NAME,
            format!("{name}: a container's own layer, which is gone with the container"),
            "put the data on a volume",
        ),
        Trust::Remote => Check::warning(
            NAME,
            format!(
                "{name}: whether what is flushed survives is for another machine or program to say"
            ),
            "put the data on a local disk with ext4 or xfs",
        ),
        Trust::Memory => Check::problem(
            NAME,
            format!(
                "{name}: it is memory, so nothing on it survives a restart, whatever is acknowledged"
            ),
            "put the data on a disk; /tmp often is a tmpfs, /var/tmp is not",
        ),
    }
}

fn direct_io(facts: &DirectoryFacts) -> Check {
    const NAME: &str = "direct I/O";
    if facts.is_direct {
        Check::ok(NAME, "O_DIRECT works")
    } else {
        Check::warning(
            NAME,
            "the filesystem refuses O_DIRECT: every byte is copied through the page cache",
            "nothing is less durable; ext4 and xfs on a local disk can do it",
        )
    }
}

fn durable_writes(facts: &DirectoryFacts) -> Check {
    const NAME: &str = "durable writes";
    match &facts.durable_write {
        Ok(time) => Check::ok(
            NAME,
            format!(
                "RWF_DSYNC works: one of 4 KiB takes {} (median)",
                units::duration(*time)
            ),
        ),
        Err(problem) => Check::problem(
            NAME,
            format!("a small durable write fails: {problem}"),
            "look for the disk's errors in `dmesg`, for a full disk with `df`, for a quota with `quota`",
        ),
    }
}

fn free_space(facts: &DirectoryFacts, config: &BrokerConfig, size: Size) -> Check {
    const NAME: &str = "free space";
    if !facts.has_inodes {
        return Check::problem(
            NAME,
            "the filesystem has room for no more files (inodes)",
            "remove files (`df -i` shows how many there are), or use another filesystem",
        );
    }
    let of_stores = |files: u64| {
        let journals = size.stores.saturating_mul(config.journal.file_bytes);
        journals
            .saturating_mul(files)
            .saturating_sub(facts.journal_bytes)
    };
    let first = of_stores(FIRST_JOURNAL_FILES);
    let all = of_stores(u64::from(config.journal.files_max));
    let free = facts.free_bytes;
    let found = format!("{} are free", units::bytes(free));
    if free <= first {
        Check::problem(
            NAME,
            format!(
                "{found}, and the journals take {} at once",
                units::bytes(first)
            ),
            "make room, or lower journal.file_bytes",
        )
    } else if free < all.saturating_add(ROOM_BYTES) {
        Check::warning(
            NAME,
            format!(
                "{found}; the journals may take {} of that, so little is left for records",
                units::bytes(all)
            ),
            "make room, or lower journal.files_max",
        )
    } else {
        Check::ok(NAME, found)
    }
}
