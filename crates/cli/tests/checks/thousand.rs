//! A thousand short runs: what each costs beside its training and measuring, and whether memory grows.
//!
//! They keep no glitches: each would be a file of its own that is synced to the disk, and untrained models err at every
//! other read.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::Outcome;
use crate::door::{Door, TINY};

const N_RUNS: usize = 1_000;
/// What a run may cost beside its work.
const MOST_OVERHEAD_SECS: f64 = 0.05;
/// Growth of memory between the first hundred runs and the last, beyond which it is not flat.
const MOST_GROWTH_KIB: u64 = 32 << 10;

/// The check.
pub(crate) fn check() -> Outcome {
    let door = Door::new();
    door.write("tiny.toml", &format!("{TINY}\n[sweep]\nseed = {{ count = {N_RUNS} }}\n"));
    let child = door
        .command(&[
            "sweep",
            "tiny.toml",
            "--json",
            "--quiet",
            "--set",
            "train.n_steps=40",
            "--set",
            "eval.max_glitches=0",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (pid, runs) = (child.id(), door.path("runs"));
    let reader = std::thread::spawn(move || child.wait_with_output().unwrap());
    let mut memory: Vec<(usize, u64)> = Vec::new();
    while !reader.is_finished() {
        let n_begun = fs::read_dir(&runs).map_or(0, Iterator::count);
        if let Some(kib) = resident_kib(pid) {
            memory.push((n_begun, kib));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let output = reader.join().unwrap();
    assert!(output.status.success());
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let runs = said["runs"].as_array().unwrap();
    assert_eq!(runs.len(), N_RUNS);
    let work_secs: f64 = runs.iter().map(work_secs).sum();
    let wall_secs = said["sweep"]["wall_secs"].as_f64().unwrap();
    let n_threads = 2.0;
    let overhead_secs = (wall_secs * n_threads - work_secs) / N_RUNS as f64;
    let share = work_secs / (wall_secs * n_threads);
    assert!(overhead_secs < MOST_OVERHEAD_SECS, "{overhead_secs} s of overhead a run");
    let largest = |from: usize, to: usize| {
        memory
            .iter()
            .filter(|(n, _)| (from..to).contains(n))
            .map(|(_, kib)| *kib)
            .max()
            .unwrap_or(0)
    };
    // The answer itself holds all results; it is made when all runs have begun and ended.
    let (early, late) = (largest(50, 200), largest(800, N_RUNS - 20));
    assert!(late < early + MOST_GROWTH_KIB, "from {early} KiB to {late} KiB");
    Outcome::Holds(format!(
        "{N_RUNS} runs on 2 threads in {wall_secs:.1} s: {:.1} ms of overhead a run, {:.1} % of the time in training and \
         measuring; {early} KiB of memory at the beginning, {late} KiB at the end",
        overhead_secs * 1e3,
        share * 100.0
    ))
}

/// Seconds that a run spent in training and measuring.
fn work_secs(run: &Value) -> f64 {
    let sets = run["eval"].as_object().unwrap().values();
    let eval: f64 = sets.filter_map(|set| set["wall_secs"].as_f64()).sum();
    eval + run["train"]["wall_secs"].as_f64().unwrap()
}

/// Memory of a process, where the system tells it.
fn resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
