//! Kills at random moments: whatever a process was doing, the run ends as one that was left alone.
//!
//! Each round is a run in a store of its own. Its process is killed (`SIGKILL`: nothing of it runs afterwards) after a
//! time that was drawn, then started again, until it comes to its end. Beside it somebody lists the runs, which writes
//! the index, and is killed too. Moments are drawn over the time that an undisturbed run takes, so that training,
//! checkpoints, evaluation and sealing are met in the measure of the time they take; every third kill waits for the
//! last evaluation file and comes a drawn moment after it, when the record is being sealed, and the first of every second
//! round as soon as there is a directory, when the record is being begun.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::door::{Door, TINY};
use crate::record;

/// Kills of the process that works on the run.
const N_KILLS: u32 = 200;
/// Kills of one round, after which its run may come to its end.
const KILLS_A_ROUND: u32 = 5;
const N_STEPS: &str = "train.n_steps=60";

/// Where the moments come from: the fraction that belongs to a number.
fn drawn(idx: u32) -> f64 {
    let hash = blake3::hash(format!("moment {idx}").as_bytes());
    let bytes: [u8; 4] = hash.as_bytes()[..4].try_into().unwrap();
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

fn start(door: &Door, verb: &[&str], store: &str) -> Child {
    let arguments = [verb, &["--store", store, "--quiet"]].concat();
    let mut command = door.command(&arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn run(door: &Door, store: &str) -> Child {
    start(door, &["run", "tiny.toml", "--set", N_STEPS, "--checkpoint-every", "4"], store)
}

/// Files that say how far a run is: its events' length, and whether it is being sealed.
fn is_measured(store: &Path) -> bool {
    let runs = fs::read_dir(store).into_iter().flatten().flatten();
    runs.map(|run| run.path().join("eval/val_sparse.json")).any(|path| path.exists())
}

/// Whether a run has a directory.
fn is_begun(store: &Path) -> bool {
    let mut names = fs::read_dir(store).into_iter().flatten().flatten();
    names.any(|name| !name.file_name().to_string_lossy().starts_with('.'))
}

#[expect(clippy::disallowed_methods, reason = "the moment of a kill is a time")]
fn now() -> Instant {
    Instant::now()
}

/// What was met by the kills.
#[derive(Default)]
struct Met {
    n_kills: u32,
    n_beginning: u32,
    n_training: u32,
    n_measuring: u32,
    n_torn: u32,
    n_temps: u32,
    n_listings: u32,
}

impl Met {
    /// Looks at what a killed process left.
    fn look(&mut self, store: &Path) {
        self.n_kills += 1;
        let names = if store.exists() { record::files(store) } else { Vec::new() };
        self.n_temps += u32::from(names.iter().any(|name| name.ends_with(".tmp")));
        let Some(record) = names.iter().find(|name| name.ends_with("record.json")) else {
            self.n_beginning += 1;
            return;
        };
        let folder = store.join(record);
        let run = mnemoscope_store::RunReader::open(folder.parent().unwrap()).unwrap();
        self.n_torn += u32::from(run.events().torn.is_some());
        match names.iter().any(|name| name.contains("/eval/")) {
            true => self.n_measuring += 1,
            false => self.n_training += 1,
        }
    }
}

/// The check.
pub(crate) fn check() -> Outcome {
    let door = Door::new();
    door.write("tiny.toml", TINY);
    let from = now();
    assert!(run(&door, "whole").wait().unwrap().success());
    let whole_secs = from.elapsed().as_secs_f64();
    let expected = record::all(&door.path("whole"));
    let mut met = Met::default();
    let mut n_rounds = 0;
    while met.n_kills < N_KILLS {
        let store = format!("round-{n_rounds}");
        round(&door, &store, whole_secs, n_rounds % 2 == 0, &mut met);
        record::assert_same(&record::all(&door.path(&store)), &expected, &store);
        let listed = door.run(&["runs", "--store", &store, "--json"]).code(0).json();
        assert_eq!(listed["runs"][0]["status"], "sealed", "{store}");
        let names = record::files(&door.path(&store));
        let orphans: Vec<&String> = names.iter().filter(|name| name.ends_with(".tmp")).collect();
        assert!(orphans.is_empty(), "{store}: {orphans:?}");
        fs::remove_dir_all(door.path(&store)).unwrap();
        n_rounds += 1;
    }
    let Met { n_kills, n_beginning, n_training, n_measuring, n_torn, n_temps, n_listings } = met;
    // Each kind of moment was met, or the check shows less than it says.
    for (n, what) in
        [(n_beginning, "beginning"), (n_training, "training"), (n_measuring, "measuring")]
    {
        assert!(n > 0, "no kill met a run in its {what}");
    }
    Outcome::Holds(format!(
        "{n_kills} kills in {n_rounds} runs ({n_beginning} while beginning, {n_training} in training, {n_measuring} in \
         measuring and sealing; {n_torn} left a torn event, {n_temps} a file half written) and {n_listings} of listings: \
         every run ended with the record of the undisturbed one and no orphan"
    ))
}

/// Kills a run again and again, then lets it come to its end.
fn round(door: &Door, store: &str, whole_secs: f64, first_at_once: bool, met: &mut Met) {
    let root = door.path(store);
    for idx in 0..KILLS_A_ROUND {
        let at_once = first_at_once && idx == 0;
        let share = drawn(met.n_kills);
        let mut child = run(door, store);
        let from = now();
        let late = !at_once && met.n_kills.is_multiple_of(3);
        let mut listing = None;
        loop {
            let secs = from.elapsed().as_secs_f64();
            let due = match (at_once, late) {
                (true, _) => is_begun(&root),
                (_, true) => is_measured(&root),
                _ => secs >= share * whole_secs,
            };
            if due || child.try_wait().unwrap().is_some() {
                break;
            }
            if listing.is_none() && secs >= share * whole_secs / 2.0 && root.exists() {
                listing = Some(start(door, &["runs"], store));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        if late {
            std::thread::sleep(Duration::from_secs_f64(share * 0.02));
        }
        // The one who lists first: both die in the middle of something.
        if let Some(mut listing) = listing {
            met.n_listings += u32::from(listing.try_wait().unwrap().is_none());
            listing.kill().unwrap();
            listing.wait().unwrap();
        }
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            // It had come to its end before.
            return;
        }
        met.look(&root);
    }
    assert!(run(door, store).wait().unwrap().success(), "{store} did not go on");
}
