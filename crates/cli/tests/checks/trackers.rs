//! The real trackers read what is written for them: `tensorboard` and Trackio the event files, number by number, and
//! `wandb sync` the offline runs of `docs/guide/to_wandb.py`.

use std::process::Command;

use serde_json::Value;

use crate::Outcome;
use crate::door::{Door, TINY};

/// Prints what TensorBoard's own reader finds below a folder: `{folder: {tag: [[step, value], ...]}}`.
const READ: &str = r"
import json, os, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = {}
for folder, _, files in os.walk(sys.argv[1]):
    if any('tfevents' in name for name in files):
        events = EventAccumulator(folder, size_guidance={'scalars': 0}).Reload()
        tags = events.Tags()['scalars']
        found[os.path.basename(folder)] = {t: [[e.step, e.value] for e in events.Scalars(t)] for t in tags}
print(json.dumps(found))
";

/// The check.
pub(crate) fn check() -> Outcome {
    let door = Door::new();
    door.write("tiny.toml", &format!("{TINY}\n[sweep]\nseed = {{ count = 3 }}\n"));
    door.run(&["sweep", "tiny.toml", "--quiet", "--set", "train.n_steps=40"]).code(0);
    door.run(&["runs", "--tensorboard", "board"]).code(0);
    let python = door.path("venv/bin/python");
    let venv = door.path("venv").display().to_string();
    let made = Command::new("python3").args(["-m", "venv", &venv]).output();
    let installed = made.is_ok_and(|made| made.status.success())
        && Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "setuptools<81"])
            .args(["tensorboard", "wandb", "trackio[tensorboard]"])
            .output()
            .is_ok_and(|pip| pip.status.success());
    if !installed {
        return Outcome::LeftOut(
            "`python3 -m venv` and `pip install tensorboard` do not work here".to_owned(),
        );
    }
    let board = door.path("board").display().to_string();
    let said = Command::new(&python).args(["-c", READ, &board]).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let found: Value = serde_json::from_slice(&said.stdout).unwrap();
    let runs = door.run(&["runs", "--json"]).code(0).json();
    let runs = runs["runs"].as_array().unwrap();
    assert_eq!(found.as_object().unwrap().len(), runs.len());
    let mut n_numbers = 0;
    for run in runs {
        let id = run["run"].as_str().unwrap();
        let (_, tags) =
            found.as_object().unwrap().iter().find(|(name, _)| name.ends_with(id)).unwrap();
        let losses = tags["loss"].as_array().unwrap();
        let steps: Vec<u64> = losses.iter().map(|it| it[0].as_u64().unwrap()).collect();
        assert_eq!(steps, [10, 20, 30, 40]);
        for (set, measured) in run["eval"].as_object().unwrap() {
            let shown = tags[format!("final/{set}/error_rate")][0][1].as_f64().unwrap();
            let rate = measured["error_rate"].as_f64().unwrap();
            assert!((shown - rate).abs() < 1e-6, "{id} {set}: {shown} and not {rate}");
        }
        let n_of = |points: &Value| points.as_array().unwrap().len();
        n_numbers += tags.as_object().unwrap().values().map(n_of).sum::<usize>();
    }
    Outcome::Holds(format!(
        "tensorboard read {n_numbers} numbers of {} runs as they are recorded",
        runs.len()
    ))
}
