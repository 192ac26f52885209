//! On one GPU: training beside PyTorch in each precision, and a cohort of seeds beside seeds one after another.
//!
//! All sides of a row, in all precisions, are started at once and take turns: A B C A B C. A side that fails is a line
//! of the table and stops no other, and what there was no time for is said.

mod cost;
mod table;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mnemoscope_lab::engine::device::{Device, Unavailable};
use serde_json::{Value, json};

use crate::side::{Side, append, ours};
use crate::workload::{ALL, Workload};
use crate::{say, tell};
use cost::Cost;

/// Longest that a side may take to be ready: `torch.compile` takes a minute or two of them.
const START_SECS: u64 = 150;

/// Longest that a block may take.
const TURN_SECS: u64 = 60;

/// So much longer than the time that was given a block may take that was begun in it.
const GRACE_SECS: u64 = 15;

/// The sides, in the order of their turns.
pub(crate) const SIDES: [&str; 3] = ["ours", "eager", "compile"];

/// What becomes a row of the table in each precision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Its name for `--only`.
    name: &'static str,
    /// What is trained.
    workload: &'static str,
    /// Whether ours trains many seeds at once; PyTorch trains one in either case.
    cohort: bool,
}

/// In the order in which they are measured: what was asked for first comes first.
const ENTRIES: [Entry; 5] = [
    Entry { name: "fflm-base", workload: "fflm-base", cohort: false },
    Entry { name: "cohort-mid", workload: "fflm-mid", cohort: true },
    Entry { name: "lstm", workload: "lstm", cohort: false },
    Entry { name: "birth", workload: "birth", cohort: false },
    Entry { name: "cohort-base", workload: "fflm-base", cohort: true },
];

impl Entry {
    fn workload(self) -> &'static Workload {
        let found = ALL.iter().find(|workload| workload.name == self.workload);
        found.expect("an entry names a workload")
    }
}

/// What a person may choose.
pub(crate) struct Flags {
    python: String,
    script: String,
    n_threads: usize,
    device: Device,
    precisions: Vec<String>,
    n_rounds: usize,
    n_members: usize,
    minutes: usize,
    only: Option<&'static str>,
    history: Option<PathBuf>,
    table: Option<PathBuf>,
    commit: Option<String>,
}

impl Flags {
    pub(crate) fn parse(args: &[String]) -> Result<Self, String> {
        let mut flags = Self {
            python: "python3".into(),
            script: "bench/pytorch/worker.py".into(),
            n_threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            device: Device::Cuda(0),
            precisions: Vec::new(),
            n_rounds: 5,
            n_members: 25,
            minutes: 9,
            only: None,
            history: None,
            table: None,
            commit: None,
        };
        let mut args = args.iter();
        while let Some(flag) = args.next() {
            let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
            flags.set(flag, value)?;
        }
        if flags.precisions.is_empty() {
            let usual: &[&str] =
                if flags.device == Device::Cpu { &["f32"] } else { &["tf32", "bf16"] };
            flags.precisions = usual.iter().map(|&precision| precision.to_owned()).collect();
        }
        // What cannot be kept should not be measured first.
        for file in [&flags.history, &flags.table].into_iter().flatten() {
            append(file, "")?;
        }
        Ok(flags)
    }

    fn set(&mut self, flag: &str, value: &str) -> Result<(), String> {
        let count = |least: usize| match value.parse() {
            Ok(count) if count >= least => Ok(count),
            _ => Err(format!("{flag} is a whole number from {least}, not {value}")),
        };
        match flag {
            "--python" => value.clone_into(&mut self.python),
            "--script" => value.clone_into(&mut self.script),
            "--threads" => self.n_threads = count(1)?,
            "--rounds" => self.n_rounds = count(1)?,
            "--cohort" => self.n_members = count(0)?,
            "--minutes" => self.minutes = count(1)?,
            "--history" => self.history = Some(value.into()),
            "--table" => self.table = Some(value.into()),
            "--commit" => self.commit = Some(value.to_owned()),
            "--device" => {
                self.device = value.parse().map_err(|unknown: Unavailable| unknown.to_string())?;
                if !matches!(self.device, Device::Cpu | Device::Cuda(_)) {
                    return Err(format!(
                        "PyTorch knows no {value} here; say cuda:0, or cpu to try"
                    ));
                }
            }
            "--precisions" => {
                let unknown = |name: &&str| !["f32", "tf32", "bf16"].contains(name);
                if let Some(name) = value.split(',').find(unknown) {
                    return Err(format!("no precision {name}; there are f32, tf32, bf16"));
                }
                self.precisions = value.split(',').map(str::to_owned).collect();
            }
            "--only" => {
                let named = ENTRIES.iter().find(|entry| entry.name == value);
                let names = || ENTRIES.map(|entry| entry.name).join(", ");
                let entry =
                    named.ok_or_else(|| format!("no row {value}; there are {}", names()))?;
                self.only = Some(entry.name);
            }
            _ => return Err(format!("unknown flag {flag}")),
        }
        Ok(())
    }

    fn wants(&self, entry: Entry) -> bool {
        let named = self.only.is_none_or(|only| only == entry.name);
        named && (!entry.cohort || self.n_members > 0)
    }
}

/// What came of one side.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Seconds of a step in each round; where ours trains many seeds at once, over the steps of all.
    wall: Vec<f64>,
    /// Why there are no more.
    failure: Option<String>,
    hello: Value,
    peak_bytes: Option<u64>,
}

/// One entry in one precision.
#[derive(Debug)]
pub(crate) struct Row {
    entry: Entry,
    precision: String,
    /// Seeds that ours trains at once.
    n_members: usize,
    cost: Cost,
    /// As [`SIDES`].
    sides: [Outcome; 3],
}

/// The time that was given.
struct Time {
    from: Instant,
    all: Duration,
}

impl Time {
    #[expect(clippy::disallowed_methods, reason = "a bench measures time")]
    fn minutes(n: usize) -> Self {
        Self { from: Instant::now(), all: Duration::from_secs(60 * n as u64) }
    }

    fn left(&self) -> Duration {
        self.all.saturating_sub(self.from.elapsed())
    }

    /// How long to wait for what may take `secs`.
    fn patience(&self, secs: u64) -> Duration {
        Duration::from_secs(secs).min(self.left() + Duration::from_secs(GRACE_SECS))
    }
}

pub(crate) fn run(flags: &Flags) -> Result<(), String> {
    let time = Time::minutes(flags.minutes);
    let ceiling = ceiling(flags, &time);
    let mut rows = Vec::new();
    for entry in ENTRIES.into_iter().filter(|&entry| flags.wants(entry)) {
        // A cohort fills the memory, so its precisions do not stand beside each other.
        let at_once = if entry.cohort { 1 } else { flags.precisions.len() };
        for precisions in flags.precisions.chunks(at_once) {
            let measured = measure(entry, precisions, flags, &time)?;
            if let Some(history) = &flags.history {
                measured.iter().try_for_each(|row| remember(row, flags, &ceiling, history))?;
            }
            rows.extend(measured);
            if let Some(file) = &flags.table {
                let written = std::fs::write(file, table::markdown(&ceiling, &rows, flags));
                written.map_err(|error| format!("{}: {error}", file.display()))?;
            }
        }
    }
    say(&table::markdown(&ceiling, &rows, flags));
    Ok(())
}

/// What the device reaches, as PyTorch measures it; or why that is not known.
fn ceiling(flags: &Flags, time: &Time) -> Result<Value, String> {
    tell("ceiling: starting");
    let command = pytorch(flags, "ceiling", &flags.precisions.join(","), "f32");
    let mut side = Side::launch("ceiling", command)?;
    side.be_patient(time.patience(START_SECS));
    let said = side.greet().map(|()| side.hello.clone());
    side.end();
    said
}

/// The command that serves a side of PyTorch.
fn pytorch(flags: &Flags, workload: &str, form: &str, precision: &str) -> Command {
    let mut command = Command::new(&flags.python);
    let (n_threads, device) = (flags.n_threads.to_string(), flags.device.to_string());
    command.args([&flags.script, workload, form, &n_threads, &device, precision]);
    command.stderr(Stdio::piped());
    command
}

/// A row for each of the precisions, whose sides take turns.
fn measure(
    entry: Entry,
    precisions: &[String],
    flags: &Flags,
    time: &Time,
) -> Result<Vec<Row>, String> {
    let workload = entry.workload();
    let n_members = if entry.cohort { flags.n_members } else { 1 };
    let mut rows = Vec::new();
    for precision in precisions {
        let cost = Cost::of(workload, precision, n_members)?;
        let (precision, sides) = (precision.clone(), Default::default());
        rows.push(Row { entry, precision, n_members, cost, sides });
    }
    if time.left().is_zero() {
        return Ok(rows);
    }
    tell(&format!("{}: starting, in {}", entry.name, precisions.join(" and ")));
    let mut running: Vec<Option<Side>> = Vec::new();
    for row in &mut rows {
        let device = flags.device.to_string();
        let mut first = ours(workload, flags.n_threads, &device, &row.precision, n_members)?;
        first.stderr(Stdio::piped());
        let theirs = |form| pytorch(flags, workload.name, form, &row.precision);
        let commands = [first, theirs(SIDES[1]), theirs(SIDES[2])];
        for ((name, command), outcome) in SIDES.into_iter().zip(commands).zip(&mut row.sides) {
            let launched = Side::launch(name, command);
            running.push(launched.map_err(|why| outcome.failure = Some(why)).ok());
        }
    }
    let mut outcomes: Vec<&mut Outcome> = rows.iter_mut().flat_map(|row| &mut row.sides).collect();
    let starting =
        Time { from: time.from, all: time.from.elapsed() + Duration::from_secs(START_SECS) };
    each(&mut running, &mut outcomes, |side| {
        side.be_patient(starting.left().min(time.left()));
        side.greet()
    });
    for round in 1..=flags.n_rounds {
        if time.left().is_zero() {
            break;
        }
        tell(&format!("{}: round {round} of {}", entry.name, flags.n_rounds));
        each(&mut running, &mut outcomes, |side| {
            side.be_patient(time.patience(TURN_SECS));
            side.turn()
        });
    }
    for (side, outcome) in running.into_iter().zip(outcomes) {
        let Some(mut side) = side else { continue };
        side.be_patient(Duration::from_secs(GRACE_SECS));
        let finished = side.finish()?;
        outcome.wall = finished.wall;
        outcome.hello = finished.hello;
        outcome.peak_bytes = finished.peak_bytes;
    }
    Ok(rows)
}

/// Does something with every side that is still there; one that fails is ended, and its reason kept with what it measured
/// so far.
fn each(
    running: &mut [Option<Side>],
    outcomes: &mut [&mut Outcome],
    mut with: impl FnMut(&mut Side) -> Result<(), String>,
) {
    for (place, outcome) in running.iter_mut().zip(outcomes) {
        let Some(side) = place else { continue };
        let Err(why) = with(side) else { continue };
        outcome.failure = Some(why);
        outcome.wall.clone_from(&side.wall);
        outcome.hello = side.hello.clone();
        place.take().into_iter().for_each(Side::end);
    }
}

/// One line of JSON for each row: every round of every side.
fn remember(
    row: &Row,
    flags: &Flags,
    ceiling: &Result<Value, String>,
    history: &Path,
) -> Result<(), String> {
    let workload = row.entry.workload();
    let mut line = json!({
        "row": row.entry.name, "workload": workload.name, "about": workload.about,
        "unit": workload.unit, "n_members": row.n_members, "precision": row.precision,
        "device": flags.device.to_string(), "n_threads": flags.n_threads,
        "n_rounds": flags.n_rounds, "commit": flags.commit,
        "flops_per_step": row.cost.flops, "bytes_per_step": row.cost.bytes,
        "ceiling": match ceiling { Ok(said) => said.clone(), Err(why) => json!({"failure": why}) },
    });
    for (name, side) in SIDES.into_iter().zip(&row.sides) {
        line[name] = json!({
            "hello": side.hello, "wall_secs": side.wall, "failure": side.failure,
            "peak_bytes": side.peak_bytes,
        });
    }
    append(history, &format!("{line}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Result<Flags, String> {
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        Flags::parse(&flags)
    }

    #[test]
    fn a_wrong_flag_says_what_there_is() {
        let refused = |flags: &[&str]| parse(flags).err().expect("refused");
        assert!(refused(&["--only", "gru"]).contains("cohort-mid, lstm"));
        assert!(refused(&["--precisions", "tf32,f16"]).contains("no precision f16"));
        assert!(refused(&["--device", "vulkan:0"]).contains("say cuda:0"));
        assert!(refused(&["--minutes", "0"]).contains("from 1"));
        assert!(refused(&["--table"]).contains("needs a value"));
        assert!(refused(&["--seeds", "3"]).contains("unknown flag --seeds"));
    }

    #[test]
    fn what_is_measured_follows_the_flags() {
        let measured = |flags: &[&str]| {
            let flags = parse(flags).expect("right flags");
            let entries = ENTRIES.into_iter().filter(|&entry| flags.wants(entry));
            (entries.map(|entry| entry.name).collect::<Vec<_>>().join(" "), flags.precisions)
        };
        let (rows, precisions) = measured(&[]);
        assert_eq!(rows, "fflm-base cohort-mid lstm birth cohort-base");
        assert_eq!(precisions, ["tf32", "bf16"]);
        assert_eq!(measured(&["--cohort", "0"]).0, "fflm-base lstm birth");
        assert_eq!(measured(&["--only", "lstm"]).0, "lstm");
        assert_eq!(measured(&["--device", "cpu"]).1, ["f32"]);
        assert_eq!(measured(&["--device", "cpu", "--precisions", "bf16"]).1, ["bf16"]);
    }

    #[test]
    fn a_side_that_cannot_start_is_a_line_and_stops_no_other() {
        let flags =
            parse(&["--device", "cpu", "--python", "/nowhere/python"]).expect("right flags");
        let failed = ceiling(&flags, &Time::minutes(1)).expect_err("there is no such program");
        assert!(failed.starts_with("ceiling: cannot start"), "{failed}");
    }

    #[test]
    fn without_time_nothing_is_begun() {
        let flags = parse(&["--device", "cpu"]).expect("right flags");
        let rows = measure(ENTRIES[0], &flags.precisions, &flags, &Time::minutes(0));
        let rows = rows.expect("nothing was tried");
        assert_eq!(rows.len(), 1);
        assert!(rows[0].sides.iter().all(|side| side.wall.is_empty() && side.failure.is_none()));
    }
}
