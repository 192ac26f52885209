//! Writes the records that are kept as fixtures of the format: one sealed after an interruption,
//! one interrupted in the middle of an event.
//!
//! `cargo run -p mnemoscope-store --example fixture -- DIR`; a test compares what it writes with
//! `fixtures/`, so a change of the format cannot go unnoticed.

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use mnemoscope_store::{Begun, RunWriter, Store};
use serde_json::{Value, json};

/// The run that is sealed.
pub(crate) const SEALED: &str = "3f9c0a1b2c3d4e5f";
/// The run that stopped in the middle of an event.
pub(crate) const TORN: &str = "7a5e000000000001";

fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::args().nth(1).ok_or("say where: `-- DIR`")?;
    write(Path::new(&root))
}

/// Writes both records into a store at `root`.
pub(crate) fn write(root: &Path) -> Result<(), Box<dyn Error>> {
    let store = Store::open(root)?;
    sealed(&store)?;
    torn(&store)?;
    // Of no run: one comes and goes with the readers, the other is only a lock.
    fs::remove_file(root.join(".gate"))?;
    for id in [SEALED, TORN] {
        fs::remove_file(root.join(id).join("lock"))?;
    }
    Ok(())
}

fn plan(seed: u64) -> Value {
    json!({
        "task": {"name": "flipflop", "seq_len": 512, "p_ignore": 0.8},
        "model": {"name": "lstm", "n_layers": 1, "d_model": 128},
        "train": {"n_steps": 300, "lr": 3e-4, "epsilon": 1e-8},
        "seeds": {"data": seed},
    })
}

fn begin(
    store: &Store,
    id: &str,
    seed: u64,
    created_secs: f64,
) -> Result<RunWriter, Box<dyn Error>> {
    let meta = json!({"created_secs": created_secs, "version": "0.1.0"});
    match store.begin(id, &plan(seed), &meta)? {
        Begun::New(run) | Begun::Resumed(run) => Ok(run),
        Begun::Sealed(_) => Err("already sealed".into()),
    }
}

fn step(run: &mut RunWriter, step: u64, loss_nats: f64) -> Result<(), Box<dyn Error>> {
    run.append("curve", &json!({"step": step, "loss_nats": loss_nats, "val_n_errors": 12}))?;
    run.save_checkpoint(step, format!("the state after step {step}").as_bytes())?;
    run.keep_last(2)?;
    Ok(())
}

fn sealed(store: &Store) -> Result<(), Box<dyn Error>> {
    let mut run = begin(store, SEALED, 0, 1_790_000_000.25)?;
    run.write_file("spec.toml", b"[model]\nname = \"lstm\"\n")?;
    step(&mut run, 100, 0.625_125)?;
    step(&mut run, 200, 2.5e-7)?;
    run.append("curve", &json!({"step": 201, "loss_nats": 0.1}))?;
    run.interrupt()?;
    let mut run = begin(store, SEALED, 0, 1_790_000_100.5)?;
    step(&mut run, 300, 1e-9)?;
    run.write_json("eval/val.json", &json!({"n_trials": 26_508, "n_errors": 1}))?;
    run.write_json("glitches/val-17-4.json", &json!({"tokens": [0, 3, 1, 4], "expected": 3}))?;
    run.seal(&json!({"run": SEALED, "eval": {"val": {"n_trials": 26_508, "n_errors": 1}}}))?;
    Ok(())
}

fn torn(store: &Store) -> Result<(), Box<dyn Error>> {
    let mut run = begin(store, TORN, 1, 1_790_000_200.0)?;
    step(&mut run, 100, 0.5)?;
    drop(run);
    let path = store.root().join(TORN).join("events.jsonl");
    let mut events = OpenOptions::new().append(true).open(path)?;
    events.write_all(br#"{"blake3":"5d41402abc4b2a76b97"#)?;
    Ok(())
}
