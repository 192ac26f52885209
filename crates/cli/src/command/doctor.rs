//! `mnemoscope doctor`: the machine, the store, the versions, and checks of the instrument itself.

use std::path::{Path, PathBuf};

use clap::Args;
use mnemoscope_lab::clock::StoppedClock;
use mnemoscope_lab::engine::device::{Device, Found, Precision};
use mnemoscope_lab::event::NoWatcher;
use mnemoscope_lab::pace::product_rate;
use mnemoscope_lab::plan::{Plan, resolve};
use mnemoscope_lab::run::{CHECKPOINTS_KEPT, Labels, Outcome, RunOptions, run_plan};
use mnemoscope_lab::task::{FlipFlop, Target, Task, oracle, reads, split};
use mnemoscope_store::{FORMAT, Store};
use mnemoscope_view::{WIDTH, number, text};
use serde_json::{Map, Value, json};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::session::Session;
use crate::voice::Spoken;

/// The plan that is run twice.
const SPEC: &str = include_str!("../spec/doctor.toml");

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct Flags {}

/// One thing that was checked.
struct Check {
    name: &'static str,
    /// What was found, or what is wrong.
    found: Result<String, Failure>,
}

/// A device, and how fast it multiplies here.
struct Timed {
    found: Found,
    flops_per_sec: Vec<(Precision, Result<f64, Failure>)>,
}

impl Timed {
    /// Times products of matrices large enough to fill such a device.
    fn of(found: Found, session: &Session) -> Self {
        let fills = if found.device == Device::Cpu || found.emulated { 512 } else { 4096 };
        let rate = |&precision: &Precision| {
            let rate =
                product_rate(fills, session.n_threads, found.device, precision, &session.clock);
            (precision, rate.map_err(Failure::from))
        };
        let flops_per_sec = found.device.precisions().iter().map(rate).collect();
        Self { found, flops_per_sec }
    }

    fn words(&self) -> String {
        let Found { name, memory_bytes, emulated, .. } = &self.found;
        let memory = memory_bytes.map(|bytes| format!(", {}", number::bytes(bytes)));
        let rate = |(precision, rate): &(Precision, Result<f64, Failure>)| match rate {
            Ok(rate) => format!("{:.1} GFLOP/s in {precision}", rate / 1e9),
            Err(failure) => failure.message.clone(),
        };
        let rates: Vec<String> = self.flops_per_sec.iter().map(rate).collect();
        let rate = rates.join(", ");
        let how = if *emulated { ", emulated by the CPU" } else { "" };
        format!("{name}{}, {rate}{how}", memory.unwrap_or_default())
    }

    fn json(&self) -> Value {
        let rate = |(precision, rate): &(Precision, Result<f64, Failure>)| {
            (precision.name().to_owned(), json!(rate.as_ref().ok()))
        };
        let rates: Map<String, Value> = self.flops_per_sec.iter().map(rate).collect();
        json!({
            "device": self.found.device.to_string(),
            "name": self.found.name,
            "memory_bytes": self.found.memory_bytes,
            "emulated": self.found.emulated,
            "flops_per_sec": rates,
        })
    }
}

struct Examined {
    machine: Machine,
    devices: Vec<Timed>,
    n_threads: usize,
    store: String,
    checks: Vec<Check>,
}

impl Examined {
    /// The gravest thing found: a machine that refuses before a check that fails.
    fn exit(&self) -> Exit {
        let exits = self.checks.iter().filter_map(|check| check.found.as_ref().err());
        exits.map(|failure| failure.exit).max_by_key(|exit| exit.code()).unwrap_or(Exit::Done)
    }
}

impl Spoken for Examined {
    fn page(&self) -> String {
        let machine = &self.machine;
        let cpu = machine.cpu.as_deref().unwrap_or(machine.arch);
        let memory = machine.memory_bytes.map_or_else(|| "unknown".to_owned(), number::bytes);
        let cores = number::counted(machine.n_cores as u64, "core", "cores");
        let mut page = String::from("Machine\n");
        page += &text::facts(&[
            ("system", format!("{} {}", machine.os, machine.arch)),
            ("processor", format!("{cpu}, {cores}")),
            ("instructions", machine.features.join(" ")),
            ("memory", memory),
            ("threads", format!("{} in use; change with --threads", self.n_threads)),
            ("store", self.store.clone()),
        ]);
        page += "\nDevices\n";
        for timed in &self.devices {
            page += &text::facts(&[(&timed.found.device.to_string(), timed.words())]);
        }
        page += "\nVersions\n";
        page += &text::facts(&[
            ("mnemoscope", env!("CARGO_PKG_VERSION").to_owned()),
            ("record format", format!("{FORMAT}, and every earlier minor")),
            ("plan format", Plan::FORMAT.to_string()),
        ]);
        page += "\nChecks\n";
        for Check { name, found } in &self.checks {
            let (mark, words) = match found {
                Ok(words) => ("ok     ", words.clone()),
                Err(failure) => ("FAILED ", failure.message.clone()),
            };
            let wrapped = text::wrap(&format!("{name}: {words}"), WIDTH, "         ");
            page += &format!("  {mark}{}", wrapped.trim_start());
        }
        page
    }

    fn json(&self) -> Value {
        let check = |check: &Check| match &check.found {
            Ok(words) => json!({"name": check.name, "ok": true, "found": words}),
            Err(failure) => json!({"name": check.name, "ok": false, "error": failure.to_json()}),
        };
        json!({
            "machine": self.machine.to_json(),
            "devices": self.devices.iter().map(Timed::json).collect::<Vec<_>>(),
            "n_threads": self.n_threads,
            "store": self.store,
            "versions": {
                "mnemoscope": env!("CARGO_PKG_VERSION"),
                "record_format": FORMAT,
                "plan_format": Plan::FORMAT,
            },
            "checks": self.checks.iter().map(check).collect::<Vec<_>>(),
            "ok": self.exit() == Exit::Done,
        })
    }
}

/// Examines the machine and the instrument.
pub(crate) fn run(_flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let checks = vec![
        Check { name: "store", found: check_store(&session.store_root) },
        Check { name: "oracle", found: check_oracle() },
        Check { name: "same plan, same bits", found: check_bits(session.n_threads) },
    ];
    let examined = Examined {
        machine: Machine::look(),
        devices: Device::all().into_iter().map(|found| Timed::of(found, session)).collect(),
        n_threads: session.n_threads,
        store: session.store_name(),
        checks,
    };
    let exit = examined.exit();
    session.say(&examined, exit)
}

/// Whether runs can be recorded there; a store that was not there before is not left behind.
fn check_store(root: &Path) -> Result<String, Failure> {
    let was_there = root.exists();
    let store = Store::open(root)?;
    if was_there {
        let runs = store.runs()?;
        let n_damaged = runs.iter().filter(|run| run.problem.is_some()).count();
        if n_damaged > 0 {
            let damaged = number::counted(n_damaged as u64, "run is", "runs are");
            return Err(Failure::input(format!("{damaged} damaged; `mnemoscope runs` says which")));
        }
        let n_runs = number::counted(runs.len() as u64, "run", "runs");
        return Ok(format!("{} can be written and holds {n_runs}", root.display()));
    }
    drop(Scratch(root.to_owned()));
    Ok(format!("{} does not exist yet and can be made", root.display()))
}

/// Answers of the generator against the oracle, which looks back from each read.
fn check_oracle() -> Result<String, Failure> {
    const N_EXAMPLES: u64 = 200;
    let mut n_reads = 0;
    let mut targets = Vec::new();
    for (seq_len, n_symbols) in [(4, 2), (6, 2), (16, 3), (64, 256)] {
        let task = Task::FlipFlop(FlipFlop::new(seq_len, 0.25, 0.25, 0.5, n_symbols)?);
        let stream = split::eval_stream(0, "doctor");
        for index in 0..N_EXAMPLES {
            let tokens = task.example(&stream, index);
            reads(&tokens, &mut targets);
            n_reads += targets.len();
            check_example(&tokens, &targets, n_symbols).map_err(|why| {
                Failure::check(format!("example {index} of {seq_len} tokens: {why}"))
            })?;
        }
    }
    let n_reads = number::count(n_reads as u64);
    Ok(format!("{n_reads} generated reads answered alike by the oracle"))
}

fn check_example(tokens: &[u16], targets: &[Target], n_symbols: u32) -> Result<(), String> {
    oracle::is_valid(tokens, n_symbols)?;
    let said = targets.iter().map(|target| (target.query_pos as usize, Some(target.answer)));
    if said.eq(oracle::answers(tokens)) {
        Ok(())
    } else {
        Err("the reads and the oracle's answers differ".to_owned())
    }
}

/// A tiny model trained and measured twice, with one thread and with several.
fn check_bits(n_threads: usize) -> Result<String, Failure> {
    let study = resolve(SPEC, None, &[], None)?;
    let Some((_, plan)) = study.plans().next() else {
        return Err(Failure::check("the doctor's own spec holds no plan"));
    };
    let several = n_threads.max(2);
    let once = train(plan, 1)?;
    let again = train(plan, several)?;
    if once != again {
        return Err(Failure::check(format!(
            "1 thread and {several} threads gave different results for one plan"
        )));
    }
    let hash = once["checkpoint"]["blake3"].as_str().unwrap_or_default();
    Ok(format!(
        "a tiny Transformer trained with 1 and with {several} threads: {}",
        text::cut(hash, 17)
    ))
}

/// Runs a plan in a store of its own that is removed afterwards; the clock stands still.
fn train(plan: &Plan, n_threads: usize) -> Result<Value, Failure> {
    let name = format!("mnemoscope-doctor-{}-{n_threads}", std::process::id());
    let scratch = Scratch(std::env::temp_dir().join(name));
    let store = Store::open(&scratch.0)?;
    let options = RunOptions {
        n_threads,
        device: Device::Cpu,
        checkpoint_every: 4,
        checkpoints_kept: CHECKPOINTS_KEPT,
        machine: Value::Null,
    };
    let clock = StoppedClock { unix_secs: 0 };
    match run_plan(plan, &Labels::default(), &store, &options, &clock, &mut NoWatcher)? {
        Outcome::Sealed(result) => Ok(result),
        Outcome::AlreadySealed(_) | Outcome::Interrupted { .. } => {
            Err(Failure::check("a run in an empty store did not come to its end"))
        }
    }
}

/// A folder of ours that goes away with its owner.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind in a temporary folder does no harm.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
