//! The real trackers read what is written for them: `tensorboard` and Trackio the event files, number by number, and
//! `wandb sync` the offline runs of `docs/guide/to_wandb.py`.

use std::fs;
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
            "`python3 -m venv` and `pip install tensorboard wandb trackio` do not work here"
                .to_owned(),
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
    let n_imported = trackio(&door);
    assert_eq!(n_imported * runs.len(), n_numbers);
    let offline = wandb(&door);
    for run in runs {
        assert!(offline.contains(run["run"].as_str().unwrap()), "{offline}");
    }
    Outcome::Holds(format!(
        "tensorboard read {n_numbers} numbers of {} runs as they are recorded, Trackio imported {n_imported} of one, \
         and `wandb sync` found an offline run of each",
        runs.len()
    ))
}

/// Imports one folder into a database of Trackio's and counts what is there.
fn trackio(door: &Door) -> usize {
    const IMPORT: &str = r"
import glob, os, sqlite3, sys, trackio
folder = os.path.dirname(sorted(glob.glob(sys.argv[1] + '/*/*/*tfevents*'))[0])
trackio.import_tf_events(folder, project='check', name='run')
base = sqlite3.connect(glob.glob(os.environ['TRACKIO_DIR'] + '/*.db')[0])
print()
print('counted', base.execute('select count(*) from metrics').fetchone()[0])
";
    let board = door.path("board").display().to_string();
    let mut python = Command::new(door.path("venv/bin/python"));
    python.args(["-c", IMPORT, &board]);
    python.env("TRACKIO_DIR", door.path("trackio")).env("HF_HUB_OFFLINE", "1");
    let said = said_by(&mut python);
    said.lines().find_map(|line| line.strip_prefix("counted ")).unwrap().parse().unwrap()
}

/// What `wandb sync` says it would send.
fn wandb(door: &Door) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/to_wandb.py");
    let folder = door.path("");
    let mut write = Command::new(door.path("venv/bin/python"));
    said_by(write.args([script, "runs"]).current_dir(&folder));
    let offline = fs::read_dir(door.path("wandb")).unwrap().map(|entry| entry.unwrap().path());
    let offline: Vec<_> = offline
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("offline-run-"))
        .collect();
    let mut sync = Command::new(door.path("venv/bin/wandb"));
    said_by(sync.args(["sync", "--dry-run"]).args(offline).current_dir(&folder))
}

fn said_by(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let all = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{all}");
    all.into_owned()
}
