//! Files truncated, bit-flipped and removed, one at a time, under a stopped broker. Whatever is
//! damaged, every acknowledged line is either read back as it was sent, or refused with an error that
//! names the file and the position. What the damage does not touch keeps serving: damage in a store
//! costs its partitions alone, and only the files that the whole broker shares keep it from starting.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde::Deserialize;

use super::broker_process::{BrokerProcess, Launcher};
use super::history::{History, Place};
use super::input::Line;
use super::random::Random;
use super::reading::read_to_end;
use super::stream::Stream;
use super::{PARTITIONS, Topic, create_topic};

/// Bits flipped in each file, one in each case.
const FLIPS_PER_FILE: u32 = 4;

/// Stores of the data directory: one is damaged, the other is to serve.
const STORES: u16 = 2;

/// How far a damaged file may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Nowhere: what it holds can be made again from other files.
    Nowhere,
    /// Partition 0; all others are served.
    Partition,
    /// The partitions of this store; those of all others are served.
    Store(u16),
    /// The start of the broker.
    Broker,
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    FlipBit { position: u64, bit: u8 },
    Truncate { length: u64 },
    Remove,
}

/// What became of a damaged data directory.
enum Outcome {
    /// Every line was read back: the damage hit nothing that counts.
    AllServed,
    /// These partitions refused to be read, with an error that names the file.
    PartitionsRefused(Vec<u32>, String),
    /// The broker refused to start, with an error that names the file.
    StartRefused(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllServed => write!(f, "every line is served"),
            Self::PartitionsRefused(partitions, last) => {
                write!(f, "partitions refused: {partitions:?}; {last}")
            }
            Self::StartRefused(refusal) => write!(f, "start refused; {refusal}"),
        }
    }
}

/// What a stopped broker left behind, and what it had acknowledged.
struct Image {
    data_dir: PathBuf,
    lines: Arc<Vec<Line>>,
    receipts: Vec<(u64, Place)>,
    /// The store of each partition.
    stores: Vec<u16>,
}

/// Runs all cases.
///
/// # Errors
/// All cases in which damage was served, or hid, or reached further than it may.
pub(crate) fn run(
    launcher: &Launcher,
    scratch: &Path,
    lines: Vec<Line>,
    mut random: Random,
) -> Result<(), String> {
    let mut launcher = launcher.clone();
    let stores = ("CORELANE_STORES".to_owned(), STORES.to_string());
    launcher.settings.push(stores);
    let lines = Arc::new(lines);
    let (mut cases, mut failures) = (0, 0);
    let (mut refused_partitions, mut refused_starts) = (0, 0);
    for state in ["stopped", "killed"] {
        let original = Launcher {
            data_dir: scratch.join(state),
            ..launcher.clone()
        };
        let image = produce(&original, Arc::clone(&lines), state == "stopped")?;
        for (file, reach) in files(&image.data_dir)? {
            for damage in damages(&image.data_dir.join(&file), &mut random)? {
                let case = Launcher {
                    data_dir: scratch.join("case"),
                    // What an earlier case logged must not be taken for this one's error.
                    log: scratch.join(format!("case-{cases}.log")),
                    ..launcher.clone()
                };
                copy_directory(&image.data_dir, &case.data_dir)?;
                apply(&case.data_dir.join(&file), damage)?;
                let outcome = observe(&case, &image, &file, damage);
                fs::remove_dir_all(&case.data_dir).map_err(|error| error.to_string())?;
                let outcome = outcome.and_then(|outcome| judge(outcome, reach, &image.stores));
                cases += 1;
                let shown = match &outcome {
                    Ok(outcome) => outcome.to_string(),
                    Err(error) => format!("FAILED: {error}"),
                };
                println!("{state}, {}, {damage:?}\n    {shown}", file.display());
                match outcome {
                    Ok(Outcome::AllServed) => {}
                    Ok(Outcome::PartitionsRefused(..)) => refused_partitions += 1,
                    Ok(Outcome::StartRefused(_)) => refused_starts += 1,
                    Err(_) => failures += 1,
                }
            }
        }
    }
    println!(
        "{cases} cases: {refused_partitions} refused partitions, {refused_starts} refused starts, {failures} failures"
    );
    match (failures, refused_partitions) {
        (0, 0) => Err("no damage was ever noticed, so these cases show nothing".to_owned()),
        (0, _) => Ok(()),
        _ => Err(format!(
            "{failures} of {cases} cases of damage were served, hidden or unclear"
        )),
    }
}

/// Fills a data directory with all lines, and stops the broker.
fn produce(launcher: &Launcher, lines: Arc<Vec<Line>>, cleanly: bool) -> Result<Image, String> {
    let broker = launcher.start()?;
    let topic = create_topic(&launcher.corelane, broker.address())?;
    let stores = stores_of_partitions(&topic)?;
    let stream = Stream::start(&topic, Arc::clone(&lines), &History::new())?;
    stream.allow(lines.len());
    let receipts = stream.finish(false)?;
    if cleanly {
        broker.stop()?;
    } else {
        broker.kill();
    }
    Ok(Image {
        data_dir: launcher.data_dir.clone(),
        lines,
        receipts,
        stores,
    })
}

/// Where the partitions of the topic are, by their numbers.
fn stores_of_partitions(topic: &Topic) -> Result<Vec<u16>, String> {
    let output = Command::new(&topic.corelane)
        .args(["topic", "describe", &topic.name, "--format", "json"])
        .args(["--broker", &topic.broker])
        .output()
        .map_err(|error| format!("cannot run corelane: {error}"))?;
    let described: Described = serde_json::from_slice(&output.stdout).map_err(|error| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("the topic's description: {error}; {said}")
    })?;
    let stores: Vec<_> = described.partitions.iter().map(|at| at.store).collect();
    match (0..STORES).find(|store| !stores.contains(store)) {
        None => Ok(stores),
        Some(store) => Err(format!("no partition is in store {store}")),
    }
}

#[derive(Deserialize)]
struct Described {
    partitions: Vec<DescribedPartition>,
}

#[derive(Deserialize)]
struct DescribedPartition {
    store: u16,
}

/// Every file of the data directory that matters, relative to it, and how far it reaches. Of the
/// partitions' files, those of partition 0 stand for all.
fn files(data_dir: &Path) -> Result<Vec<(PathBuf, Reach)>, String> {
    let mut files = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(data_dir.join(&directory)).map_err(|error| error.to_string())?;
        for entry in entries {
            let entry = entry.map_err(|error| error.to_string())?;
            let path = directory.join(entry.file_name());
            if entry.path().is_dir() {
                directories.push(path);
            } else if let Some(reach) = reach(&path) {
                files.push((path, reach));
            }
        }
    }
    files.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(files)
}

fn reach(file: &Path) -> Option<Reach> {
    let name = file.file_name()?.to_str()?;
    let parent = file.parent()?.file_name().and_then(|name| name.to_str());
    match (
        name,
        file.extension().and_then(|extension| extension.to_str()),
    ) {
        ("LOCK", _) => None,
        (_, Some("log")) if parent == Some("0") => Some(Reach::Partition),
        (_, Some("index")) if parent == Some("0") => Some(Reach::Nowhere),
        (_, Some("log" | "index")) => None,
        _ if name == "catalogue" || name.starts_with("journal-") => {
            let store = parent?.strip_prefix("store-")?;
            Some(Reach::Store(store.parse().ok()?))
        }
        _ => Some(Reach::Broker),
    }
}

fn damages(file: &Path, random: &mut Random) -> Result<Vec<Damage>, String> {
    let content = fs::read(file).map_err(|error| error.to_string())?;
    // A flip among the zeros of a pre-written file would mostly show that zeros are not read.
    let used: Vec<_> = (0..content.len()).filter(|&at| content[at] != 0).collect();
    let mut damages = vec![Damage::Remove];
    if used.is_empty() {
        return Ok(damages);
    }
    damages.push(Damage::Truncate {
        length: used[used.len() / 2] as u64,
    });
    for _ in 0..FLIPS_PER_FILE {
        let position = used[random.within(0..used.len() as u64) as usize] as u64;
        let bit = u8::try_from(random.within(0..8)).expect("a bit's number is small");
        damages.push(Damage::FlipBit { position, bit });
    }
    Ok(damages)
}

fn apply(file: &Path, damage: Damage) -> Result<(), String> {
    let change = || match damage {
        Damage::Remove => fs::remove_file(file),
        Damage::Truncate { length } => OpenOptions::new().write(true).open(file)?.set_len(length),
        Damage::FlipBit { position, bit } => {
            let file = OpenOptions::new().read(true).write(true).open(file)?;
            let mut byte = [0];
            file.read_exact_at(&mut byte, position)?;
            file.write_all_at(&[byte[0] ^ (1 << bit)], position)
        }
    };
    change().map_err(|error| format!("cannot damage {}: {error}", file.display()))
}

/// Starts a broker on the damaged directory and reads every partition.
fn observe(
    launcher: &Launcher,
    image: &Image,
    file: &Path,
    damage: Damage,
) -> Result<Outcome, String> {
    let broker = match launcher.start() {
        Ok(broker) => broker,
        Err(refusal) => return place(&refusal, file, damage).map(Outcome::StartRefused),
    };
    let (mut refused, mut refusals) = (Vec::new(), Vec::new());
    for partition in 0..PARTITIONS {
        if let Some(refusal) = read(&broker, launcher, image, partition)? {
            refusals.push(place(&refusal, file, damage)?);
            refused.push(partition);
        }
    }
    broker.stop()?;
    Ok(refusals.pop().map_or(Outcome::AllServed, |last| {
        Outcome::PartitionsRefused(refused, last)
    }))
}

/// Reads a partition: `None` if it gives back everything acknowledged in it, and otherwise what it
/// says. What it gave before it stopped must be right in any case.
fn read(
    broker: &BrokerProcess,
    launcher: &Launcher,
    image: &Image,
    partition: u32,
) -> Result<Option<String>, String> {
    let history = History::new();
    for (number, line) in (0..).zip(image.lines.iter()) {
        history.sent(number, 0, line);
    }
    for &(number, place) in image
        .receipts
        .iter()
        .filter(|(_, at)| at.partition == partition)
    {
        history.acknowledged(number, place, true);
    }
    let topic = Topic {
        corelane: launcher.corelane.clone(),
        broker: broker.address().to_owned(),
        name: "drill".to_owned(),
    };
    let read = read_to_end(&topic, partition..partition + 1, &history);
    let verdict = history.finish();
    match read {
        Ok(_) if verdict.holds() => Ok(None),
        Ok(_) => Err(format!(
            "partition {partition} hides or serves damage: {verdict}"
        )),
        Err(refusal) => {
            // It stopped before its end, so what lies behind that was not looked for.
            let found = verdict.violations_by_kind.keys();
            match found.copied().find(|kind| *kind != "not verified") {
                None => Ok(Some(refusal)),
                Some(_) => Err(format!("partition {partition} serves damage: {verdict}")),
            }
        }
    }
}

/// The line of an error that names the damaged file, and a position in it unless it is gone.
fn place(error: &str, file: &Path, damage: Damage) -> Result<String, String> {
    let name = file
        .file_name()
        .map(|name| name.to_string_lossy())
        .unwrap_or_default();
    let line = error
        .lines()
        .find(|line| line.contains(&*name) && line.contains("error"));
    let names_position = |line: &&str| {
        matches!(damage, Damage::Remove) || line.contains("byte ") || line.contains("position ")
    };
    line.filter(names_position)
        .map(str::to_owned)
        .ok_or_else(|| format!("the error does not name {name} and a position: {error}"))
}

/// Whether the damage reached no further than it may.
fn judge(outcome: Outcome, reach: Reach, stores: &[u16]) -> Result<Outcome, String> {
    let allowed = match &outcome {
        Outcome::AllServed => true,
        Outcome::PartitionsRefused(refused, _) => match reach {
            Reach::Nowhere | Reach::Broker => false,
            Reach::Partition => refused == &[0],
            Reach::Store(store) => refused.iter().all(|at| stores[*at as usize] == store),
        },
        Outcome::StartRefused(_) => reach == Reach::Broker,
    };
    if allowed {
        Ok(outcome)
    } else {
        Err(format!(
            "damage that may reach {reach:?} reached further: {outcome}"
        ))
    }
}

fn copy_directory(from: &Path, to: &Path) -> Result<(), String> {
    let status = Command::new("cp")
        .args(["--recursive", "--sparse=always"])
        .args([from, to])
        .status()
        .map_err(|error| format!("cannot run cp: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("cannot copy {}", from.display()))
    }
}
