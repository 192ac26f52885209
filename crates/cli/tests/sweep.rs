//! `sweep` from outside: many runs side by side, shared, stopped, failed, in parts.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod door;

use std::process::Stdio;

use door::{Door, TINY, interrupted};
use serde_json::Value;

/// The tiny spec with four seeds of two sizes.
fn eight() -> String {
    format!("{TINY}\n[sweep]\nseed = {{ count = 4 }}\nmodel.d_model = [16, 32]\n")
}

/// The checkpoint hash of each run, by id.
fn checkpoints(said: &Value) -> Vec<(String, String)> {
    let runs = said["runs"].as_array().unwrap();
    let of = |run: &Value| {
        let hash = run["checkpoint"]["blake3"].as_str().unwrap();
        (run["run"].as_str().unwrap().to_owned(), hash.to_owned())
    };
    runs.iter().map(of).collect()
}

#[test]
fn a_sweep_is_one_object_and_the_same_bits_as_one_run_after_the_other() {
    let door = Door::new();
    door.write("tiny.toml", &eight());
    let swept = door.run(&["sweep", "tiny.toml", "--json"]).code(0);
    assert!(swept.stderr().contains("sweep: "), "{}", swept.stderr());
    let said = swept.json();
    assert_eq!(said["study"], "tiny");
    assert_eq!(said["sweep"]["n_plans"], 8);
    assert_eq!(said["sweep"]["n_sealed"], 8);
    assert_eq!(said["sweep"]["n_sealed_before"], 0);
    assert_eq!(said["failures"], serde_json::json!([]));
    let one_by_one = door.run(&["run", "tiny.toml", "--json", "--store", "alone"]).code(0).json();
    assert_eq!(checkpoints(&said), checkpoints(&one_by_one));
    // Again, with a seed more: only the new runs are run.
    let more = door.run(&["sweep", "tiny.toml", "--set", "sweep.seed.count=5"]).code(0);
    assert!(more.stdout().contains("10 runs sealed (8 before)"), "{}", more.stdout());
    assert!(more.stdout().contains("Arms: how many"), "{}", more.stdout());
}

#[test]
fn parts_of_a_sweep_make_the_whole() {
    let door = Door::new();
    door.write("tiny.toml", &eight());
    for shard in ["0/3", "2/3"] {
        let said = door.run(&["sweep", "tiny.toml", "--shard", shard, "--json"]).code(0).json();
        assert_eq!(said["sweep"]["shard"], shard);
    }
    let rest = door.run(&["sweep", "tiny.toml", "--json"]).code(0).json();
    assert_eq!(
        (&rest["sweep"]["n_sealed"], &rest["sweep"]["n_sealed_before"]),
        (&8.into(), &5.into())
    );
    let wrong = door.run(&["sweep", "tiny.toml", "--shard", "3/3"]).code(2);
    assert!(
        wrong.stderr().contains("there is no part 3 of 3: they are 0/3 to 2/3"),
        "{}",
        wrong.stderr()
    );
}

#[test]
fn a_diverging_arm_is_named_with_its_message_and_the_others_are_measured() {
    let door = Door::new();
    let wild = format!(
        "{TINY}\n[[arm]]\nname = 'tame'\n[[arm]]\nname = 'wild'\n\
         train = {{ optimizer = 'sgd', lr = 1e30, warmup_steps = 0 }}\n[sweep]\nseed = {{ count = 2 }}\n"
    );
    door.write("wild.toml", &wild);
    let said = door.run(&["sweep", "wild.toml", "--retries", "2", "--json"]).code(1);
    let json = said.json();
    assert_eq!(json["sweep"]["n_failed"], 2);
    assert_eq!(json["sweep"]["n_sealed"], 2);
    assert_eq!(json["failures"][0]["error"]["kind"], "diverged");
    assert!(said.words().contains("wild, run "), "{}", said.stderr());
    assert!(!said.words().contains("tried again"), "{}", said.stderr());
    let listed = door.run(&["runs", "--where", "status=failed", "--json"]).code(0).json();
    assert_eq!(listed["runs"].as_array().unwrap().len(), 2);
}

#[test]
fn an_interrupted_sweep_saves_every_run_and_goes_on_to_the_same_bits() {
    let door = Door::new();
    door.write("tiny.toml", &eight());
    let long = ["--set", "train.n_steps=300", "--checkpoint-every", "10"];
    let (began, words) = interrupted(door.command(&[&["sweep", "tiny.toml"], &long[..]].concat()));
    assert!(began.starts_with("sweep: 0 of 8 runs sealed"), "{began}");
    assert!(words.contains("stopping: saving the state"), "{words}");
    assert!(words.contains("help: the same command goes on from there"), "{words}");
    let resumed =
        door.run(&[&["sweep", "tiny.toml", "--json"], &long[..2]].concat()).code(0).json();
    let whole =
        door.run(&[&["sweep", "tiny.toml", "--json", "--store", "whole"], &long[..2]].concat());
    assert_eq!(checkpoints(&resumed), checkpoints(&whole.code(0).json()));
}

#[test]
fn two_processes_on_one_store_share_the_work() {
    let door = Door::new();
    door.write("tiny.toml", &eight());
    let start = || {
        door.command(&["sweep", "tiny.toml", "--json", "--quiet"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let (first, second) = (start(), start());
    let mut n_before = 0;
    for child in [first, second] {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["sweep"]["n_sealed"], 8);
        n_before += said["sweep"]["n_sealed_before"].as_u64().unwrap();
    }
    // Each run was sealed by one of the two, and found sealed by the other.
    assert_eq!(n_before, 8);
}

#[test]
fn what_a_cluster_would_be_given_is_printed_and_nothing_is_submitted() {
    let door = Door::new();
    door.write("tiny.toml", &eight());
    let slurm = ["sweep", "tiny.toml", "--on", "slurm", "--dry-run", "--pack", "3"];
    let script = door.run(&[&slurm[..], &["--time", "2:00:00", "--sbatch=--qos=x"]].concat());
    let script = script.code(0).stdout();
    for line in
        ["#SBATCH --array=0-2\n", "#SBATCH --time=2:00:00\n", "#SBATCH --qos=x\n", " --shard "]
    {
        assert!(script.contains(line), "{line}: {script}");
    }
    assert!(!door.path("runs/.sweeps").exists());
    for (flags, word) in [
        (["--time", "soon"], "is no time limit"),
        (["--time", "2"], "leaves a task no time"),
        (["--shard", "0/2"], "get theirs from `--pack`"),
    ] {
        let refused = door.run(&[&slurm[..], &flags].concat()).code(2);
        assert!(refused.words().contains(word), "{}", refused.stderr());
    }
    // A file of tasks is written where it can be submitted from, and what is done is left out.
    door.run(&["sweep", "tiny.toml", "--shard", "0/2", "--quiet"]).code(0);
    let hq =
        door.run(&["sweep", "tiny.toml", "--on", "hq", "--pack", "4", "--json"]).code(0).json();
    assert_eq!((&hq["n_open"], &hq["n_tasks"]), (&4.into(), &1.into()));
    let text = std::fs::read_to_string(hq["path"].as_str().unwrap()).unwrap();
    assert!(text.contains("\"1/2\"") && !text.contains("\"0/2\""), "{text}");
    // The tasks refuse a spec that is no longer what was submitted.
    let changed = ["sweep", "tiny.toml", "--set", "train.n_steps=3", "--expect"];
    let refused = door.run(&[&changed[..], &[hq["sweep"].as_str().unwrap()]].concat()).code(2);
    assert!(
        refused.words().contains("has changed since this sweep was submitted"),
        "{}",
        refused.stderr()
    );
    let unknown = door.run(&["sweep", "status", "nowhere.toml"]).code(2);
    assert!(unknown.words().contains("was submitted from"), "{}", unknown.stderr());
}
