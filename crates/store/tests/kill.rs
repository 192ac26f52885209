//! Processes killed at random points leave records that open, with all that was acknowledged.
//!
//! This binary starts itself as the process to be killed. The child works on one run for ever and
//! writes a line after each thing that the store says is safe. The parent reads some lines, kills
//! it (`SIGKILL`: nothing of it runs afterwards), and compares the record with what was said. Then
//! the next child goes on with the same run.
#![expect(clippy::unwrap_used, reason = "a test: what is not there is a failure")]

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use mnemoscope_store::{Begun, Error, Status, Store};
use serde_json::{Value, json};

const ID: &str = "3f9c";
const N_KILLS: u64 = 40;
/// Curve events between two checkpoints.
const N_CURVES: u64 = 3;

fn plan() -> Value {
    json!({"n_steps": "until killed"})
}

/// A state that says which step it is of, as long as a few pages.
fn state(step: u64) -> Vec<u8> {
    format!("state after step {step};").repeat(1_000).into_bytes()
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [flag, root] if flag == "--child" => child(Path::new(root)).unwrap(),
        // As the usual harness does: a filter for other tests leaves this one out.
        [filter] if !filter.starts_with('-') && !"killed".contains(filter.as_str()) => {}
        _ => killed_processes_lose_nothing_that_was_acknowledged(),
    }
}

/// Works on the run until it is killed.
fn child(root: &Path) -> Result<(), Error> {
    let store = Store::open(root)?;
    let mut run = match store.begin(ID, &plan(), &json!({"created_secs": 5}))? {
        Begun::New(run) | Begun::Resumed(run) => run,
        Begun::Sealed(_) => panic!("nobody sealed it"),
    };
    let mut step = run.last_good_checkpoint()?.map_or(0, |(checkpoint, _)| checkpoint.step);
    loop {
        step += 1;
        for part in 0..N_CURVES {
            let idx = run.append("curve", &json!({"step": step, "part": part}))?;
            say("event", idx);
        }
        run.write_json("eval/val.json", &json!({"step": step}))?;
        run.save_checkpoint(step, &state(step))?;
        say("checkpoint", step);
        run.keep_last(2)?;
    }
}

/// One acknowledged thing; the parent may have stopped reading.
fn say(what: &str, number: u64) {
    let mut out = io::stdout().lock();
    writeln!(out, "{what} {number}").and_then(|()| out.flush()).unwrap();
}

/// What a child said before it was killed.
#[derive(Debug, Default)]
struct Said {
    event: Option<u64>,
    checkpoint: Option<u64>,
}

fn killed_processes_lose_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut said = Said::default();
    for round in 0..N_KILLS {
        // Spread over the work by a fixed multiplicative sequence, from none to some thirty lines.
        let n_lines = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59;
        run_and_kill(dir.path(), n_lines, &mut said);
        check(dir.path(), &said);
    }
    assert!(said.checkpoint > Some(N_KILLS / 4), "the children got hardly anywhere: {said:?}");
}

/// Starts a child, kills it after `n_lines` lines, and collects all that it said.
fn run_and_kill(root: &Path, n_lines: u64, said: &mut Said) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("--child")
        .arg(root)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut killed = n_lines == 0;
    if killed {
        child.kill().unwrap();
    }
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for (count, line) in (1..).zip(lines) {
        let line = line.unwrap();
        let (what, number) = line.split_once(' ').unwrap();
        let number = Some(number.parse().unwrap());
        match what {
            "event" => said.event = said.event.max(number),
            _ => said.checkpoint = said.checkpoint.max(number),
        }
        if count >= n_lines && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    let status = child.wait().unwrap();
    assert!(killed && status.code().is_none(), "the child ended by itself: {status}");
}

/// The record opens, is not in use, and holds everything that was said.
fn check(root: &Path, said: &Said) {
    let store = Store::open_existing(root).unwrap();
    let runs = store.runs().unwrap();
    let problems: Vec<_> = runs.iter().filter_map(|run| run.problem.as_ref()).collect();
    if said.event.is_none() && (runs.is_empty() || !problems.is_empty()) {
        return; // killed while it began
    }
    assert_eq!((runs.len(), problems.len()), (1, 0), "{problems:?}");
    let run = store.find("latest").unwrap();
    assert_eq!(run.status(), Status::Interrupted);
    assert!(said.event < Some(run.events().items.len() as u64), "{said:?}");
    match run.last_checkpoint().unwrap() {
        Some((checkpoint, bytes)) => {
            assert!(said.checkpoint <= Some(checkpoint.step), "{said:?}");
            assert_eq!(bytes, state(checkpoint.step));
            // The live curve is whole up to there, each point once.
            let live = run.events().of_kind("curve");
            let steps: Vec<u64> = live.map(|event| event.data["step"].as_u64().unwrap()).collect();
            let until = steps.iter().filter(|&&step| step <= checkpoint.step).count() as u64;
            assert_eq!(until, checkpoint.step * N_CURVES);
            assert!(steps.is_sorted());
        }
        None => assert_eq!(said.checkpoint, None),
    }
    assert_eq!(run.verify().unwrap(), [""; 0]);
}
