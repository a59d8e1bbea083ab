//! `corelane-sim`: runs seeds of the simulator.

use std::ffi::{c_int, c_long};
use std::io::{self, BufWriter, Write as _};
use std::num::NonZero;
use std::ops::Range;
use std::process::ExitCode;

use clap::{ArgGroup, Parser};
use corelane_sim::{
    Bug, Hunt, Outcome, Report, SECONDS_DEFAULT, hunt, keep_panics, run_many, run_seed,
};
use indicatif::{ProgressBar, ProgressStyle};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The option of mimalloc 3 by which free memory goes back to the kernel after so many milliseconds; -1 for never.
const PURGE_DELAY: c_int = 15;

unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
}

/// Free memory is kept: the next seed needs as much, and a tenth of the time would go into giving it back and taking
/// it again, page by page.
fn keep_memory() {
    // SAFETY: mimalloc, which is this binary's allocator, has this function with this signature; it only stores a
    // number, and no other thread runs yet.
    unsafe { mi_option_set(PURGE_DELAY, -1) };
}

/// Runs whole brokers on simulated disks, networks and clocks, with faults, under a seed, and judges the history
/// that their clients saw.
#[derive(Debug, Parser)]
#[command(version, group = ArgGroup::new("what").required(true))]
struct Arguments {
    /// Runs one seed and prints its trace, and last a line `hash HEX`.
    #[arg(long, value_name = "N", group = "what")]
    seed: Option<u64>,

    /// Runs the seeds from A up to, and without, B.
    #[arg(long, value_name = "A..B", group = "what", value_parser = parse_range)]
    seeds: Option<Range<u64>>,

    /// Plants each bug in turn and runs seeds until one fails, which is what should happen.
    #[arg(long, group = "what")]
    bugs: bool,

    /// With `--bugs`: only the one with this name.
    #[arg(long, value_name = "NAME", requires = "bugs")]
    bug: Option<String>,

    /// With `--bugs`: the seeds within which each has to be caught.
    #[arg(long, value_name = "N", default_value_t = 100)]
    within: u64,

    /// Virtual seconds with faults; healing and the last reads come on top.
    #[arg(long, value_name = "N", default_value_t = SECONDS_DEFAULT)]
    seconds: u64,

    /// Threads for many seeds [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,

    /// Runs every Nth of many seeds twice and compares the hashes; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 100)]
    repeat: u64,

    /// Does not print the trace of a seed.
    #[arg(long)]
    quiet: bool,

    /// Fails as well if many seeds did not reach everything that they should.
    #[arg(long)]
    require_all: bool,
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let help = || format!("'{text}' is not A..B, for example 0..1000");
    let (from, to) = text.split_once("..").ok_or_else(help)?;
    let from: u64 = from.parse().map_err(|_| help())?;
    let to: u64 = to.parse().map_err(|_| help())?;
    if from < to { Ok(from..to) } else { Err(help()) }
}

fn main() -> ExitCode {
    keep_memory();
    let arguments = Arguments::parse();
    keep_panics();
    let is_well = match (arguments.seed, &arguments.seeds) {
        _ if arguments.bugs => bugs(&arguments),
        (Some(seed), _) => one(seed, &arguments),
        (None, Some(seeds)) => many(seeds.clone(), &arguments),
        (None, None) => unreachable!("clap asks for one of them"),
    };
    if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs one seed; whether it passed.
fn one(seed: u64, arguments: &Arguments) -> bool {
    let mut out = BufWriter::new(io::stdout());
    let reader: Option<corelane_sim::Reader> = (!arguments.quiet).then(|| {
        Box::new(move |line: &str| {
            // Whoever reads the trace may stop reading it.
            let _ = writeln!(out, "{line}");
        }) as corelane_sim::Reader
    });
    let outcome = run_seed(seed, arguments.seconds, reader);
    if outcome.failures.is_empty() {
        println!("{}", outcome.verdict);
    }
    for failure in &outcome.failures {
        println!("FAILED: {failure}");
    }
    println!("hash {:016x}", outcome.hash);
    outcome.failures.is_empty()
}

/// Runs many seeds; whether all passed.
fn many(seeds: Range<u64>, arguments: &Arguments) -> bool {
    let threads = arguments.threads.map_or_else(cores, NonZero::get);
    let bar = ProgressBar::new(seeds.end - seeds.start);
    let style = "{elapsed_precise} {wide_bar} {pos}/{len} seeds, {per_sec}, {eta} left {msg}";
    bar.set_style(ProgressStyle::with_template(style).expect("a template"));
    let told = |outcome: &Outcome| {
        if let Some(failure) = outcome.failures.first() {
            bar.suspend(|| println!("seed {} FAILED: {failure}", outcome.seed));
        }
        bar.inc(1);
    };
    let report = run_many(seeds, arguments.seconds, threads, arguments.repeat, told);
    bar.finish_and_clear();
    print(&report, arguments)
}

/// Hunts planted bugs; whether all were caught.
fn bugs(arguments: &Arguments) -> bool {
    let is_wanted = |bug: &Bug| {
        let name = format!("{bug:?}");
        arguments.bug.as_ref().is_none_or(|wanted| *wanted == name)
    };
    let wanted: Vec<Bug> = Bug::ALL.iter().copied().filter(is_wanted).collect();
    if wanted.is_empty() {
        let names: Vec<_> = Bug::ALL.iter().map(|bug| format!("{bug:?}")).collect();
        eprintln!("there is no such bug; there are {}", names.join(", "));
        return false;
    }
    let threads = arguments.threads.map_or_else(cores, NonZero::get);
    let bar = ProgressBar::new(wanted.len() as u64);
    let told = |hunt: &Hunt| {
        bar.suspend(|| match &hunt.caught {
            Some(caught) => println!("{:?}: {}", hunt.bug, caught.failure),
            None => println!("{:?}: NOT CAUGHT", hunt.bug),
        });
        bar.inc(1);
    };
    let hunts = hunt(
        &wanted,
        0,
        arguments.within,
        arguments.seconds,
        threads,
        told,
    );
    bar.finish_and_clear();
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["planted bug", "what is wrong", "caught at seed", "by"]);
    for hunt in &hunts {
        let (seed, by) = match &hunt.caught {
            Some(caught) => (caught.seed.to_string(), first_words(&caught.failure)),
            None => ("NOT CAUGHT".to_owned(), String::new()),
        };
        let name = format!("{:?}", hunt.bug);
        table.add_row([name, hunt.bug.what().to_owned(), seed, by]);
    }
    println!("{table}");
    let missed = hunts.iter().filter(|hunt| hunt.caught.is_none()).count();
    println!(
        "{missed} of {} planted bugs were not caught within {} seeds",
        hunts.len(),
        arguments.within
    );
    missed == 0
}

/// The beginning of a failure.
fn first_words(failure: &str) -> String {
    const CHARACTERS: usize = 60;
    failure.chars().take(CHARACTERS).collect()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

fn print(report: &Report, arguments: &Arguments) -> bool {
    print!("{}", report.counters);
    println!(
        "{} seeds of {} s with faults, {} events, {} records, {} complete reads; {} seeds run twice",
        report.seeds,
        arguments.seconds,
        report.events,
        report.records,
        report.reads,
        report.repeated
    );
    let missing = report.counters.missing();
    for what in &missing {
        println!("never reached: {}", what.what());
    }
    for outcome in &report.failed {
        println!("seed {} failed:", outcome.seed);
        for failure in outcome.failures.iter().take(3) {
            println!("    {failure}");
        }
        let seconds = match arguments.seconds {
            SECONDS_DEFAULT => String::new(),
            seconds => format!(" --seconds {seconds}"),
        };
        println!("    replay: corelane-sim --seed {}{seconds}", outcome.seed);
    }
    println!("{} of {} seeds failed", report.failures, report.seeds);
    report.failures == 0 && (missing.is_empty() || !arguments.require_all)
}
