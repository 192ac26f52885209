//! Runs that nobody trained, with the fields of real ones: what benches make stores of.

use mnemoscope_store::{Begun, Store};
use serde_json::{Value, json};

/// Runs of one arm.
pub(crate) const N_SEEDS: u64 = 25;

/// The id of a run by its number.
pub(crate) fn id(idx: u64) -> String {
    format!("{:016x}", idx.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// How many layers its model has.
pub(crate) fn n_layers(idx: u64) -> u64 {
    1 + idx / N_SEEDS % 6
}

/// How often it errs.
pub(crate) fn error_rate(idx: u64) -> f64 {
    // Below 2^53, so exact.
    (idx.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / (1_u64 << 24) as f64
}

/// A sealed run with the fields of a real one.
pub(crate) fn make(store: &Store, idx: u64) {
    let set = |name: &str, rate: f64| {
        let n_trials = 26_242;
        json!({
            "n_examples": 1_000, "n_trials": n_trials, "n_errors": (rate * 26_242.0) as u64, "error_rate": rate,
            "confidence": 0.95, "interval": [rate / 2.0, rate * 1.5], "method": "clopper-pearson",
            "two_way": {"n_errors": 3, "error_rate": rate / 3.0}, "loss_nats_mean": rate * 0.7, "wall_secs": 1.25,
            "n_glitch_files": 8, "clusters": {"n": 1_000, "n_with_errors": 17, "design_effect": 1.2},
            "set": name, "bootstrap": {"n_resamples": 1_000, "interval": [rate / 2.0, rate * 1.4]},
        })
    };
    let model = json!({
        "name": "transformer", "n_layers": n_layers(idx), "d_model": 64, "n_heads": 4, "d_mlp": 256, "n_ctx": 512,
        "d_vocab": 5, "positions": "sinusoidal", "relative": null, "mlp": "gelu", "norm": "pre", "tied": false,
    });
    let task = json!({"name": "flipflop", "seq_len": 512, "p_write": 0.1, "p_read": 0.1, "p_ignore": 0.8, "n_symbols": 2});
    let sets = ["val", "val_sparse", "val_dense"];
    let eval_plan: serde_json::Map<String, Value> = sets
        .iter()
        .map(|name| {
            ((*name).to_owned(), json!({"task": task, "n_examples": 1_000, "curve_examples": 100}))
        })
        .collect();
    let plan = json!({
        "format": 1, "task": task, "model": model,
        "train": {
            "n_steps": 2_000, "batch_size": 16, "warmup_steps": 50, "decay": "linear", "decay_steps": 10_001,
            "loss": "reads", "curve_every": 100,
            "optimizer": {"lr": 3e-4, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.1, "clip_norm": null},
        },
        "eval": {"confidence": 0.95, "n_resamples": 1_000, "max_glitches": 8, "sets": eval_plan},
        "seeds": {"data": idx % N_SEEDS, "model": idx % N_SEEDS, "eval": 0},
    });
    let arm = format!("n_layers={}", n_layers(idx));
    let machine = json!({"os": "linux", "arch": "x86_64", "cpu": "a processor", "n_cores": 64, "features": ["avx2", "fma"], "memory_bytes": 1_u64 << 36});
    let meta = json!({"study": "scale", "arm": arm, "version": "0.1.0", "machine": machine, "created_secs": 1_790_000_000 + idx});
    let Begun::New(run) = store.begin(&id(idx), &plan, &meta).unwrap() else {
        panic!("an id came twice");
    };
    let rate = error_rate(idx);
    let eval: serde_json::Map<String, Value> =
        sets.iter().map(|name| ((*name).to_owned(), set(name, rate))).collect();
    run.seal(&json!({
        "run": id(idx), "plan": id(idx), "status": "sealed", "study": "scale", "arm": arm,
        "seeds": plan["seeds"], "task": task, "model": model, "eval": eval, "machine": machine,
        "train": {"n_steps": 2_000, "n_tokens": 16_384_000, "wall_secs": 61.5, "tokens_per_sec": 266_000.0},
        "checkpoint": {"step": 2_000, "blake3": id(idx)}, "version": "0.1.0", "sealed": 1_790_000_000 + idx,
    }))
    .unwrap();
}
