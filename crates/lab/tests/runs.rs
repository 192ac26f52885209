//! Whole runs of tiny plans: sealed, interrupted, resumed, measured again, replayed.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use mnemoscope_lab::again::{Again, eval_run};
use mnemoscope_lab::clock::StoppedClock;
use mnemoscope_lab::eval::Glitch;
use mnemoscope_lab::event::{NoWatcher, Progress, Watcher};
use mnemoscope_lab::plan::{Plan, resolve};
use mnemoscope_lab::replay::replay;
use mnemoscope_lab::run::{Labels, Outcome, RunOptions, run_plan};
use mnemoscope_lab::store::{RunReader, Status, Store};
use mnemoscope_lab::{Error, ErrorKind};
use serde_json::{Value, json};

const CLOCK: StoppedClock = StoppedClock { unix_secs: 1_700_000_000 };
const LSTM: &str = "name = 'lstm'\nn_layers = 2\nd_model = 8";
const TRANSFORMER: &str = "name = 'transformer'\nn_layers = 2\nd_model = 16\nn_heads = 2";

/// Twelve steps on strings of 24 tokens, measured on 41 and 9 others.
fn tiny(model: &str) -> Plan {
    let spec = format!(
        "[task]\nname = 'flipflop'\nseq_len = 24\np_ignore = 0.5\n[model]\n{model}\n\
         [train]\nn_steps = 12\nbatch_size = 4\nwarmup_steps = 2\ncurve_every = 5\nlr = 0.01\n\
         [eval]\nmax_glitches = 3\nn_resamples = 200\n\
         [eval.val]\np_ignore = 0.5\nn_examples = 41\ncurve_examples = 7\n\
         [eval.val_sparse]\np_ignore = 0.9\nn_examples = 9\ncurve_examples = 0\n\
         [eval.val_dense]\np_ignore = 0.1\nn_examples = 9\ncurve_examples = 0\n"
    );
    let mut study = resolve(&spec, None, &[], None).unwrap();
    study.arms.remove(0).plans.remove(0)
}

fn options(n_threads: usize) -> RunOptions {
    RunOptions { n_threads, checkpoint_every: 4, machine: json!({"name": "test"}) }
}

fn execute(
    plan: &Plan,
    store: &Path,
    watcher: &mut (dyn Watcher + Send),
) -> Result<Outcome, Error> {
    let labels = Labels { arm: "tiny".to_owned(), ..Labels::default() };
    run_plan(plan, &labels, &Store::open(store).unwrap(), &options(2), &CLOCK, watcher)
}

/// Runs a plan to its end and returns its record.
fn sealed(plan: &Plan, store: &Path) -> RunReader {
    let outcome = execute(plan, store, &mut NoWatcher).unwrap();
    assert!(matches!(outcome, Outcome::Sealed(_)), "{outcome:?}");
    Store::open(store).unwrap().find(&plan.id()).unwrap()
}

/// Asks to stop once something has happened so many times.
struct StopAfter<F> {
    n_left: u32,
    counts: F,
}

impl<F: Fn(&Progress) -> bool> Watcher for StopAfter<F> {
    fn event(&mut self, event: &Progress) {
        if (self.counts)(event) {
            self.n_left = self.n_left.saturating_sub(1);
        }
    }

    fn stop_requested(&self) -> bool {
        self.n_left == 0
    }
}

fn is_step(event: &Progress) -> bool {
    matches!(event, Progress::Step { .. })
}

/// What must be equal in two records of one plan: everything but the store's own book-keeping.
fn science(run: &RunReader) -> Value {
    let events: Vec<Value> = run
        .events()
        .live()
        .filter(|event| ["loss", "curve"].contains(&event.kind.as_str()))
        .map(|event| json!([event.kind, event.data]))
        .collect();
    let glitches: Vec<Value> =
        run.names("glitches").unwrap().iter().map(|name| run.json(name).unwrap()).collect();
    json!({"result": run.result().unwrap(), "events": events, "glitches": glitches})
}

#[test]
fn a_run_is_sealed_with_counts_intervals_and_glitches() {
    let folder = tempfile::tempdir().unwrap();
    let plan = tiny(TRANSFORMER);
    let run = sealed(&plan, folder.path());
    assert_eq!(run.status(), Status::Sealed);
    let result = run.result().unwrap();
    assert_eq!(result["run"], plan.id());
    assert_eq!(result["model"]["n_params"], plan.model.n_params().unwrap());
    let val = &result["eval"]["val"];
    assert_eq!(val["n_examples"], 41);
    let (n_trials, n_errors) =
        (val["n_trials"].as_u64().unwrap(), val["n_errors"].as_u64().unwrap());
    assert!(n_trials >= 41, "every example ends with a read, so there are at least 41 trials");
    let rate = val["error_rate"].as_f64().unwrap();
    assert!((rate - n_errors as f64 / n_trials as f64).abs() < 1e-15);
    let (low, high) = (val["interval"][0].as_f64().unwrap(), val["interval"][1].as_f64().unwrap());
    assert!(low <= rate && rate <= high);
    assert!(n_errors > 0, "twelve steps teach no model to read; this test looks at errors");
    let kept = run.names("glitches").unwrap();
    assert_eq!(kept.iter().filter(|name| name.contains("val-")).count(), 3);
    // Twelve steps with a curve every five, and one at the end.
    let curve: Vec<u64> =
        run.events().of_kind("curve").map(|event| event.data["step"].as_u64().unwrap()).collect();
    assert_eq!(curve, [5, 10, 12]);
}

#[test]
fn a_sealed_run_is_not_executed_again() {
    let folder = tempfile::tempdir().unwrap();
    let plan = tiny(LSTM);
    let first = sealed(&plan, folder.path());
    let mut nothing = StopAfter { n_left: 1, counts: is_step };
    let outcome = execute(&plan, folder.path(), &mut nothing).unwrap();
    let Outcome::AlreadySealed(result) = outcome else { panic!("{outcome:?}") };
    assert_eq!(&result, first.result().unwrap());
    assert_eq!(nothing.n_left, 1, "no step was taken");
}

#[test]
fn threads_do_not_change_a_bit() {
    for model in [LSTM, TRANSFORMER] {
        let plan = tiny(model);
        let records = [1, 2, 4].map(|n_threads| {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path()).unwrap();
            let labels = Labels::default();
            run_plan(&plan, &labels, &store, &options(n_threads), &CLOCK, &mut NoWatcher).unwrap();
            science(&store.find("latest").unwrap())
        });
        assert_eq!(records[0], records[1], "{model}");
        assert_eq!(records[0], records[2], "{model}");
    }
}

#[test]
fn a_run_interrupted_while_training_resumes_to_the_same_bits() {
    for model in [LSTM, TRANSFORMER] {
        let plan = tiny(model);
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let whole = sealed(&plan, folders[0].path());
        // After 7 steps: between two regular checkpoints, and again after 3 more.
        for n_left in [7, 3] {
            let mut watcher = StopAfter { n_left, counts: is_step };
            let outcome = execute(&plan, folders[1].path(), &mut watcher).unwrap();
            assert!(matches!(outcome, Outcome::Interrupted { .. }), "{outcome:?}");
            let store = Store::open(folders[1].path()).unwrap();
            assert_eq!(store.find(&plan.id()).unwrap().status(), Status::Interrupted);
        }
        let resumed = sealed(&plan, folders[1].path());
        assert_eq!(science(&whole), science(&resumed), "{model}");
    }
}

#[test]
fn a_run_interrupted_while_measuring_keeps_the_sets_it_finished() {
    let plan = tiny(LSTM);
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let whole = sealed(&plan, folders[0].path());
    let is_second_set =
        |event: &Progress| matches!(event, Progress::Eval { set, .. } if set != "val");
    let mut watcher = StopAfter { n_left: 1, counts: is_second_set };
    let outcome = execute(&plan, folders[1].path(), &mut watcher).unwrap();
    let Outcome::Interrupted { step, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(step, 12);
    let resumed = sealed(&plan, folders[1].path());
    assert_eq!(science(&whole), science(&resumed));
}

#[test]
fn a_damaged_checkpoint_costs_the_steps_since_the_one_before_it() {
    let plan = tiny(TRANSFORMER);
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let whole = sealed(&plan, folders[0].path());
    let mut watcher = StopAfter { n_left: 9, counts: is_step };
    execute(&plan, folders[1].path(), &mut watcher).unwrap();
    let run = Store::open(folders[1].path()).unwrap().find("latest").unwrap();
    let newest = run.checkpoints().pop().unwrap();
    let mut bytes = std::fs::read(&newest.path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest.path, bytes).unwrap();
    drop(run);

    let mut notes = Notes::default();
    execute(&plan, folders[1].path(), &mut notes).unwrap();
    assert!(notes.0.iter().any(|note| note.contains("checkpoint of step 9")), "{:?}", notes.0);
    let resumed = Store::open(folders[1].path()).unwrap().find("latest").unwrap();
    assert_eq!(science(&whole), science(&resumed));
}

/// Collects what people are told.
#[derive(Default)]
struct Notes(Vec<String>);

impl Watcher for Notes {
    fn event(&mut self, event: &Progress) {
        if let Progress::Note(note) = event {
            self.0.push(note.clone());
        }
    }
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_is_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = tiny(TRANSFORMER);
    plan.train.optimizer.lr = 1e30;
    let error = execute(&plan, folder.path(), &mut NoWatcher).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Diverged, "{error}");
    let run = Store::open(folder.path()).unwrap().find("latest").unwrap();
    assert_eq!(run.status(), Status::Failed);
    assert_eq!(run.message().unwrap(), error.to_string());
    assert!(error.to_string().contains("try a smaller learning rate"), "{error}");
}

#[test]
fn a_replay_gives_the_same_logits_to_the_bit_and_attention_that_sums_to_one() {
    let folder = tempfile::tempdir().unwrap();
    let run = sealed(&tiny(TRANSFORMER), folder.path());
    let mut n_replayed = 0;
    for name in run.names("glitches").unwrap() {
        let glitch: Glitch = serde_json::from_value(run.json(&name).unwrap()).unwrap();
        let query_pos = glitch.query_pos as usize;
        let replay = replay(&run, glitch).unwrap();
        assert!(replay.same_bits, "{name}: moved by {}", replay.largest_difference);
        assert_eq!(replay.attention.len(), 4, "two layers of two heads");
        for head in &replay.attention {
            assert_eq!(head.weights.len(), query_pos + 1);
            let sum: f32 = head.weights.iter().sum();
            assert!((sum - 1.0).abs() < 1e-5, "{name}: attention sums to {sum}");
        }
        n_replayed += 1;
    }
    assert!(n_replayed > 0);
}

#[test]
fn a_glitch_file_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = sealed(&tiny(LSTM), folder.path());
    let name = run.names("glitches").unwrap().remove(0);
    let glitch: Glitch = serde_json::from_value(run.json(&name).unwrap()).unwrap();

    let mut changed = glitch.clone();
    changed.tokens[3] = 7 - changed.tokens[3];
    assert_eq!(replay(&run, changed).unwrap_err().kind(), ErrorKind::Corrupt);

    let mut other = glitch.clone();
    other.checkpoint_blake3 = "0".repeat(64);
    assert_eq!(replay(&run, other).unwrap_err().kind(), ErrorKind::Incompatible);

    let replayed = replay(&run, glitch).unwrap();
    assert!(replayed.same_bits && replayed.attention.is_empty(), "an LSTM has no attention");
}

#[test]
fn measuring_again_agrees_and_fresh_examples_are_others() {
    let folder = tempfile::tempdir().unwrap();
    let run = sealed(&tiny(TRANSFORMER), folder.path());
    let again = Again { n_threads: 1, ..Again::default() };
    let value = eval_run(&run, &again, &CLOCK, &mut NoWatcher).unwrap();
    assert_eq!(value["agrees"], true);
    assert_eq!(value["eval"]["val"]["n_errors"], run.result().unwrap()["eval"]["val"]["n_errors"]);

    let fresh = Again { eval_seed: Some(1), sets: vec!["val".to_owned()], ..again.clone() };
    let value = eval_run(&run, &fresh, &CLOCK, &mut NoWatcher).unwrap();
    assert!(value["agrees"].is_null());
    assert_ne!(
        value["eval"]["val"]["n_trials"],
        run.result().unwrap()["eval"]["val"]["n_trials"],
        "41 other examples; they have as many reads with a chance of about 1 in 20"
    );

    let unknown = Again { sets: vec!["vall".to_owned()], ..again };
    let error = eval_run(&run, &unknown, &CLOCK, &mut NoWatcher).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("it has val, val_dense, val_sparse"), "{error}");
}

/// A bigram task goes through all of a run: trained, measured where answers stand in the context,
/// errors kept and seen again.
#[test]
fn a_model_can_be_trained_on_bigrams_and_its_errors_replayed() {
    let spec = format!(
        "[task]\nname = 'bigram'\nseq_len = 40\n[model]\n{TRANSFORMER}\n\
         [train]\nn_steps = 4\nbatch_size = 4\nwarmup_steps = 2\ncurve_every = 2\n\
         [eval]\nmax_glitches = 2\nn_resamples = 200\n\
         [eval.val]\nn_examples = 20\ncurve_examples = 5\n"
    );
    let plan = resolve(&spec, None, &[], None).unwrap().arms.remove(0).plans.remove(0);
    let folder = tempfile::tempdir().unwrap();
    let run = sealed(&plan, folder.path());
    let result = run.result().unwrap();
    let n_trials = result["eval"]["val"]["n_trials"].as_u64().unwrap();
    let stream = mnemoscope_lab::task::split::eval_stream(0, "val");
    let task = &plan.eval.sets["val"].task;
    let mut targets = Vec::new();
    let n_scored: usize = (0..20)
        .map(|index| {
            task.targets_into(&stream, index, &task.example(&stream, index), &mut targets);
            targets.len()
        })
        .sum();
    assert!(n_scored > 0);
    assert_eq!(n_trials, n_scored as u64);
    let names = run.names("glitches").unwrap();
    assert!(!names.is_empty(), "a model of four steps makes errors");
    for name in names {
        let glitch: Glitch = serde_json::from_value(run.json(&name).unwrap()).unwrap();
        assert_eq!(glitch.text, task.line(&glitch.tokens));
        assert_eq!(glitch.tokens[glitch.write_pos as usize + 1], glitch.expected);
        assert!(replay(&run, glitch).unwrap().same_bits, "{name}");
    }
}
