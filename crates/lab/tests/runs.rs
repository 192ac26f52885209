//! Whole runs of tiny plans: sealed, interrupted, resumed, measured again, replayed, diverged.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use mnemoscope_lab::again::{Again, eval_run};
use mnemoscope_lab::batch::Batch;
use mnemoscope_lab::clock::StoppedClock;
use mnemoscope_lab::engine::device::Device;
use mnemoscope_lab::engine::device::{CpuAutodiff, cpu};
use mnemoscope_lab::eval::{By, Exam, Glitch, answer, evaluate_by};
use mnemoscope_lab::event::{NoWatcher, Progress, Watcher};
use mnemoscope_lab::model::params::Tensors;
use mnemoscope_lab::plan::{Plan, resolve};
use mnemoscope_lab::probe::Probed;
use mnemoscope_lab::replay::replay;
use mnemoscope_lab::run::{Labels, Outcome, RunOptions, run_plan};
use mnemoscope_lab::store::{RunReader, Status, Store};
use mnemoscope_lab::task::{Scoring, oracle, split};
use mnemoscope_lab::train::{Checkpoint, Trainer};
use mnemoscope_lab::{Error, ErrorKind};
use serde_json::{Value, json};

const CLOCK: StoppedClock = StoppedClock { unix_secs: 1_700_000_000 };
const LSTM: &str = "name = 'lstm'\nn_layers = 2\nd_model = 8";
const TRANSFORMER: &str = "name = 'transformer'\nn_layers = 2\nd_model = 16\nn_heads = 2";

/// Twelve steps on strings of 24 tokens, measured on 41 and 9 others.
fn tiny(model: &str) -> Plan {
    tiny_with(model, &[])
}

/// A plan of each family, one of the other optimiser, one that is probed and thaws on the way, and
/// one that drops and penalises whatever can be.
fn one_of_each() -> [Plan; 5] {
    [
        tiny(LSTM),
        tiny(TRANSFORMER),
        tiny_with(LSTM, &["train.optimizer=sgd", "train.clip_norm=1"]),
        birth("[probe]\nevery = 3\nattention_examples = 2"),
        tiny_with(
            TRANSFORMER,
            &[
                "model.relative='t5'",
                "model.mlp='geglu'",
                "train.dropout={ attn = 0.2, mlp = 0.1, resid = 0.1, embed = 0.5 }",
                "train.sharpen={ form = 'neg_linf', from_step = 5, anneal = 'linear' }",
            ],
        ),
    ]
}

/// Twelve steps of the simplified model on bigrams, its second output frozen for the first five.
fn birth(more: &str) -> Plan {
    let spec = format!(
        "[task]\nname = 'bigram'\nseq_len = 24\nn_triggers = 3\n[model]\npreset = 'birth'\nd_model = 16\n\
         [train]\nn_steps = 12\nbatch_size = 4\ncurve_every = 5\noptimizer = 'sgd'\nlr = 0.2\nloss = 'all'\n\
         weight_decay = 1e-4\nwarmup_steps = 0\ndecay = 'none'\nfreeze = ['blocks.1.attn.out.weight until 5']\n\
         [eval]\nmax_glitches = 3\nn_resamples = 200\n[eval.val]\nn_examples = 9\ncurve_examples = 3\n{more}"
    );
    resolve(&spec, None, &[], None).unwrap().arms.remove(0).plans.remove(0)
}

/// [`tiny`] with some fields changed.
fn tiny_with(model: &str, sets: &[&str]) -> Plan {
    let spec = format!(
        "[task]\nname = 'flipflop'\nseq_len = 24\np_ignore = 0.5\n[model]\n{model}\n\
         [train]\nn_steps = 12\nbatch_size = 4\nwarmup_steps = 2\ncurve_every = 5\nlr = 0.01\n\
         [eval]\nmax_glitches = 3\nn_resamples = 200\n\
         [eval.val]\np_ignore = 0.5\nn_examples = 41\ncurve_examples = 7\n\
         [eval.val_sparse]\np_ignore = 0.9\nn_examples = 9\ncurve_examples = 0\n\
         [eval.val_dense]\np_ignore = 0.1\nn_examples = 9\ncurve_examples = 0\n"
    );
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    let mut study = resolve(&spec, None, &sets, None).unwrap();
    study.arms.remove(0).plans.remove(0)
}

fn options(n_threads: usize) -> RunOptions {
    RunOptions {
        n_threads,
        device: Device::Cpu,
        checkpoint_every: 4,
        checkpoints_kept: 2,
        machine: json!({"name": "test"}),
    }
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
        .filter(|event| ["loss", "curve", "probe"].contains(&event.kind.as_str()))
        .map(|event| json!([event.kind, event.data]))
        .collect();
    let glitches: Vec<Value> =
        run.names("glitches").unwrap().iter().map(|name| run.json(name).unwrap()).collect();
    json!({"result": run.result().unwrap(), "events": events, "glitches": glitches})
}

#[test]
fn a_run_whose_process_died_before_it_kept_the_spec_keeps_it_when_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let plan = tiny(LSTM);
    drop(store.begin(&plan.id(), &plan.to_value(), &json!({})).unwrap());
    let labels = Labels { spec_text: Some("[model]\n".to_owned()), ..Labels::default() };
    run_plan(&plan, &labels, &store, &options(1), &CLOCK, &mut NoWatcher).unwrap();
    let run = store.find(&plan.id()).unwrap();
    assert_eq!(run.file("spec.toml").unwrap(), b"[model]\n");
    assert_eq!(run.events().of_kind("resumed").count(), 1);
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

/// What a probe sees is of the run, and the run does not know of it.
#[test]
fn a_probed_run_ends_with_the_bits_of_an_unprobed_one() {
    let folder = tempfile::tempdir().unwrap();
    let probed = sealed(&birth("[probe]\nevery = 3\nattention_examples = 2"), folder.path());
    let plain = sealed(&birth(""), folder.path());
    let params = |run: &RunReader| {
        let (_, bytes) = run.last_checkpoint().unwrap().unwrap();
        Checkpoint::from_bytes(&bytes).unwrap()
    };
    let (a, b) = (params(&probed), params(&plain));
    assert_eq!((a.step, a.params, a.optim), (12, b.params, b.optim));
    assert_eq!(
        probed.result().unwrap()["eval"]["val"]["n_errors"],
        plain.result().unwrap()["eval"]["val"]["n_errors"]
    );

    let points: Vec<Probed> = probed
        .events()
        .of_kind("probe")
        .map(|event| serde_json::from_value(event.data.clone()).unwrap())
        .collect();
    let steps: Vec<u64> = points.iter().map(|point| point.step).collect();
    assert_eq!(steps, [1, 4, 7, 10, 12]);
    let losses: Vec<&Value> = probed.events().of_kind("loss").map(|event| &event.data).collect();
    for point in &points {
        let number = |path: &str| point.number(path).unwrap();
        let sets = ["global", "output"].map(|set| {
            (number(&format!("occurrence.{set}.loss_nats")), number(&format!("occurrence.{set}.n")))
        });
        assert!((sets[0].1 + sets[1].1 - 4.0 * 24.0).abs() < 0.5);
        // The loss of the step is the mean over both sets.
        let mean = (sets[0].0 * sets[0].1 + sets[1].0 * sets[1].1) / (4.0 * 24.0);
        if let Some(loss) = losses.iter().find(|loss| loss["step"] == point.step) {
            assert!((loss["loss_nats"].as_f64().unwrap() - mean).abs() < 1e-5);
        }
        // The second output has a gradient from step 6 on.
        let grad = &point.norms.as_ref().unwrap().grad;
        let late = grad.contains_key("blocks.1.attn.out.weight");
        assert_eq!(late, point.step > 5, "step {}", point.step);
        assert!(grad.contains_key("blocks.0.attn.k.weight"));
        assert!((0.0..=1.0).contains(&number("attention.mass_previous")));
        assert!((0.0..=1.0).contains(&number("memory.w_o2")));
    }
    assert!(plain.events().of_kind("probe").next().is_none());
}

/// A transformer on flip-flop or the automaton is probed while it is trained, and no number depends on it.
#[test]
fn heads_are_probed_while_a_model_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    for task in ["flipflop", "automaton"] {
        let spec = |more: &str| {
            let spec = format!(
                "[task]\nname = '{task}'\nseq_len = 24\np_ignore = 0.5\n[model]\n{TRANSFORMER}\n[train]\n\
                 n_steps = 12\nbatch_size = 4\ncurve_every = 0\n[eval.val]\np_ignore = 0.5\nn_examples = 9\n\
                 curve_examples = 0\n{more}"
            );
            let mut study = resolve(&spec, None, &[], None).unwrap();
            study.arms.remove(0).plans.remove(0)
        };
        let probed = sealed(&spec("[probe]\nevery = 6\nattention_examples = 3"), folder.path());
        let plain = sealed(&spec(""), folder.path());
        let params = |run: &RunReader| {
            let (_, bytes) = run.last_checkpoint().unwrap().unwrap();
            Checkpoint::from_bytes(&bytes).unwrap().params
        };
        assert_eq!(params(&probed), params(&plain));
        let events = probed.events().of_kind("probe");
        let points: Vec<Probed> =
            events.map(|event| serde_json::from_value(event.data.clone()).unwrap()).collect();
        assert_eq!(points.iter().map(|point| point.step).collect::<Vec<_>>(), [1, 7, 12]);
        for point in &points {
            let number = |path: &str| point.number(path).unwrap();
            let reads = point.reads.as_ref().unwrap();
            assert_eq!((reads.n_examples, reads.heads.len(), reads.layers.len()), (3, 4, 2));
            assert!(task == "flipflop" || reads.answers.n == 3 * 24);
            assert!(number("reads.layers.0.norms.w_q") > 0.0);
            assert!(number("reads.layers.max.head_distances.max.max") > 0.0);
            assert!((0.0..=1.0).contains(&number("reads.answers")));
            assert!(number("reads.heads.mean.sigma") > 0.0);
            assert_eq!(point.number("memory.w_o2"), None);
        }
        assert_ne!(points[0].reads, points[2].reads);
    }
}

/// The penalty of a step is of its batch before it, and the weight that of the ramp.
#[test]
fn a_penalty_is_recorded_beside_the_loss_once_it_has_a_weight() {
    let folder = tempfile::tempdir().unwrap();
    let sharpen = |from: u64| {
        format!(
            "train.sharpen={{ form = 'neg_linf', weight = 0.5, from_step = {from}, anneal = 'linear' }}"
        )
    };
    for (from_step, weights) in [(2, [0.4, 0.5]), (11, [0.0, 0.5])] {
        let run = sealed(&tiny_with(TRANSFORMER, &[&sharpen(from_step)]), folder.path());
        let events: Vec<Value> =
            run.events().of_kind("loss").map(|event| event.data.clone()).collect();
        let steps: Vec<u64> = events.iter().map(|data| data["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, [10, 12]);
        for (data, weight) in events.iter().zip(weights) {
            if weight == 0.0 {
                assert!(data.get("penalty").is_none() && data.get("penalty_weight").is_none());
                continue;
            }
            assert!((data["penalty_weight"].as_f64().unwrap() - weight).abs() < 1e-12);
            // The largest of 1 to 23 weights that add up to 1, on average.
            let mean = -data["penalty"].as_f64().unwrap() / weight;
            assert!((1.0 / 23.0..1.0).contains(&mean), "{data}");
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for plan in one_of_each() {
        let records = [1, 2, 4].map(|n_threads| {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path()).unwrap();
            let labels = Labels::default();
            run_plan(&plan, &labels, &store, &options(n_threads), &CLOCK, &mut NoWatcher).unwrap();
            science(&store.find("latest").unwrap())
        });
        assert_eq!(records[0], records[1], "{plan:?}");
        assert_eq!(records[0], records[2], "{plan:?}");
    }
}

#[test]
fn a_run_interrupted_while_training_resumes_to_the_same_bits() {
    for plan in one_of_each() {
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
        assert_eq!(science(&whole), science(&resumed), "{plan:?}");
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
fn examples_at_a_time_do_not_change_a_count_or_a_bit_of_a_logit() {
    for model in [LSTM, TRANSFORMER] {
        let plan = tiny(model);
        let mut trainer = Trainer::<CpuAutodiff>::new(&plan, &cpu());
        trainer.step().unwrap();
        let (model, set) = (trainer.model(), &plan.eval.sets["val"]);
        // More than the largest batch; every answer that is wrong is kept with its logits.
        let exam = Exam {
            set: "val",
            task: &set.task,
            stream: split::eval_stream(0, "val"),
            n_examples: 515,
            max_glitches: usize::MAX,
        };
        let at_a_time = |n_examples: u64| {
            let measured = evaluate_by(n_examples, &model, &exam, &cpu(), &mut |_| true).unwrap();
            let errors = measured.errors.into_iter().map(|error| (error.index, error.query_pos));
            (measured.tally, errors.collect::<Vec<_>>())
        };
        let logits = |n_examples: u64| -> Vec<u32> {
            let firsts = (0..exam.n_examples).step_by(n_examples as usize);
            let batches = firsts.map(|first| {
                let n_examples = n_examples.min(exam.n_examples - first) as usize;
                Batch::draw(exam.task, &exam.stream, first, n_examples, Scoring::Reads)
            });
            let rows = batches.map(|batch| answer(&model, &batch, &cpu()).unwrap());
            rows.flatten().map(f32::to_bits).collect()
        };
        let (counts, bits) = (at_a_time(1), logits(1));
        assert!(counts.0.clusters.n_errors() > 0 && bits.len() > 515);
        for n_examples in [7, 64, 512] {
            assert_eq!(at_a_time(n_examples), counts, "{n_examples} at a time, {model:?}");
            assert!(logits(n_examples) == bits, "{n_examples} at a time, {:?}", model.spec());
        }
    }
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_is_written_down() {
    // The gates of an LSTM keep its answers finite, so that its gradients are the first to show it.
    for (model, begins) in [
        (LSTM, "step 2: the gradient of `layers."),
        (
            TRANSFORMER,
            "step 2: the loss is not finite, and the first value that is not stands at `blocks.",
        ),
    ] {
        for checkpoint_every in [1, 4] {
            let folder = tempfile::tempdir().unwrap();
            let plan = tiny_with(model, &["train.lr=1e30"]);
            let store = Store::open(folder.path()).unwrap();
            let options = RunOptions { checkpoint_every, ..options(2) };
            let labels = Labels::default();
            let error =
                run_plan(&plan, &labels, &store, &options, &CLOCK, &mut NoWatcher).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Diverged, "{error}");
            let run = store.find("latest").unwrap();
            assert_eq!(run.status(), Status::Failed);
            assert_eq!(run.message().unwrap(), error.to_string());
            let words = error.to_string();
            assert!(words.starts_with(begins), "{words}");
            assert!(
                words.contains("; try a smaller learning rate, or clip the gradient; "),
                "{words}"
            );
            // What was good before is kept.
            let kept: Vec<u64> = run.checkpoints().iter().map(|kept| kept.step).collect();
            if checkpoint_every == 1 {
                assert!(words.ends_with("; the record keeps the checkpoint of step 1"), "{words}");
                assert_eq!(kept, [1]);
                let (_, bytes) = run.checkpoint(1).unwrap();
                let params = Checkpoint::from_bytes(&bytes).unwrap().params;
                assert!(params.iter().flat_map(|(_, array)| &array.data).all(|x| x.is_finite()));
            } else {
                assert!(words.ends_with("; it came before the first checkpoint"), "{words}");
                assert!(kept.is_empty());
            }
        }
    }
}

/// What is said about the next step after `change` was made to the params of a fresh checkpoint, and
/// whether it left the params alone.
fn step_after(plan: &Plan, change: impl Fn(&str, &mut [f32])) -> (String, bool) {
    let mut checkpoint = Trainer::<CpuAutodiff>::new(plan, &cpu()).checkpoint();
    let mut changed = Tensors::default();
    for (name, array) in checkpoint.params.iter() {
        let mut array = array.clone();
        change(name, &mut array.data);
        changed.insert(name, array);
    }
    checkpoint.params = changed;
    let bytes = checkpoint.to_bytes();
    let read = Checkpoint::from_bytes(&bytes).unwrap();
    let mut trainer = Trainer::<CpuAutodiff>::restore(plan, read, &cpu()).unwrap();
    let error = trainer.step().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Diverged, "{error}");
    assert_eq!(trainer.n_steps_taken(), 0);
    let (before, after) =
        (Checkpoint::from_bytes(&bytes).unwrap().params, trainer.checkpoint().params);
    let untouched = before
        .iter()
        .zip(after.iter())
        .all(|((name, before), (same, after))| name == same && before.data == after.data);
    (error.to_string(), untouched)
}

#[test]
fn a_parameter_that_is_not_finite_is_found_where_it_first_shows() {
    for (model, param, point) in [
        (LSTM, "embed.weight", "embed.hook_out"),
        (LSTM, "unembed.bias", "unembed.hook_out"),
        (TRANSFORMER, "pos.weight", "pos_embed.hook_out"),
        (TRANSFORMER, "blocks.1.ln_2.gain", "blocks.1.ln2.hook_out"),
        (TRANSFORMER, "unembed.bias", "unembed.hook_out"),
    ] {
        let (words, untouched) = step_after(&tiny(model), |name, numbers| {
            if name == param {
                numbers.fill(f32::INFINITY);
            }
        });
        let expected = format!(
            "step 1: the loss is not finite, and the first value that is not stands at `{point}`; \
             try a smaller learning rate, or clip the gradient"
        );
        assert_eq!(words, expected);
        assert!(untouched);
    }
}

#[test]
fn a_gradient_that_is_not_finite_is_named_though_the_loss_is_finite() {
    // Next to nothing, blown up behind the last norm: logits stay finite, their gradient does not.
    let blow_up = |name: &str, numbers: &mut [f32]| {
        let factor = match name {
            "ln_f.gain" => 1e20,
            "unembed.weight" => 1e18,
            "embed.weight" | "pos.weight" => 1e-4,
            _ if name.ends_with("attn.out.weight") || name.contains("mlp.down.") => 1e-4,
            _ => 1.0,
        };
        numbers.iter_mut().for_each(|x| *x *= factor);
    };
    for (sets, leaves_params) in
        [(&["train.clip_norm=1"][..], true), (&["train.optimizer=sgd"], false)]
    {
        let (words, untouched) = step_after(&tiny_with(TRANSFORMER, sets), blow_up);
        let expected = "step 1: the gradient of `blocks.1.mlp.down.bias` is not finite; \
                        try a smaller learning rate, or clip the gradient";
        assert_eq!(words, expected);
        assert_eq!(untouched, leaves_params, "{sets:?}");
    }
}

#[test]
fn a_step_to_infinity_is_said_of_the_step() {
    let plan = tiny_with(LSTM, &["train.lr=1e300"]);
    let mut trainer = Trainer::<CpuAutodiff>::new(&plan, &cpu());
    let words = trainer.step().unwrap_err().to_string();
    assert!(
        words.starts_with("step 1: what the step makes of `unembed.bias` is not finite; try"),
        "{words}"
    );
}

#[test]
fn a_replay_gives_the_same_logits_to_the_bit_and_attention_that_sums_to_one() {
    let folder = tempfile::tempdir().unwrap();
    let run = sealed(&tiny(TRANSFORMER), folder.path());
    let mut n_replayed = 0;
    for name in run.names("glitches").unwrap() {
        let glitch: Glitch = serde_json::from_value(run.json(&name).unwrap()).unwrap();
        let query_pos = glitch.query_pos as usize;
        let replay = replay(&run, glitch, Device::Cpu).unwrap();
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
    assert_eq!(replay(&run, changed, Device::Cpu).unwrap_err().kind(), ErrorKind::Corrupt);

    let mut other = glitch.clone();
    other.checkpoint_blake3 = "0".repeat(64);
    assert_eq!(replay(&run, other, Device::Cpu).unwrap_err().kind(), ErrorKind::Incompatible);

    let replayed = replay(&run, glitch, Device::Cpu).unwrap();
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

/// The counts of a table, bin by bin.
fn bins(table: &Value) -> Vec<(String, u64, u64)> {
    let count = |bin: &Value, key: &str| bin[key].as_u64().unwrap();
    let bins = table["bins"].as_array().unwrap().iter();
    bins.map(|bin| {
        (bin["bin"].as_str().unwrap().to_owned(), count(bin, "n_trials"), count(bin, "n_errors"))
    })
    .collect()
}

#[test]
fn counts_apart_add_up_to_the_set_for_any_number_of_threads() {
    for model in [LSTM, TRANSFORMER] {
        let folder = tempfile::tempdir().unwrap();
        let run = sealed(&tiny(model), folder.path());
        let apart = |n_threads| {
            let again = Again { n_threads, by: By::ALL.to_vec(), ..Again::default() };
            eval_run(&run, &again, &CLOCK, &mut NoWatcher).unwrap()
        };
        let (one, three) = (apart(1), apart(3));
        assert_eq!(one, three);
        assert_eq!(one["agrees"], true);
        for (name, set) in one["eval"].as_object().unwrap() {
            let (n_trials, n_errors) = (set["n_trials"].as_u64(), set["n_errors"].as_u64());
            let tables = set["by"].as_object().unwrap();
            assert_eq!(tables.len(), By::ALL.len());
            for (by, table) in tables {
                let bins = bins(table);
                assert!(bins.len() > 1, "{name} by {by}: {bins:?}");
                assert_eq!(Some(bins.iter().map(|bin| bin.1).sum()), n_trials, "{name} by {by}");
                assert_eq!(Some(bins.iter().map(|bin| bin.2).sum()), n_errors, "{name} by {by}");
            }
        }
        // The record has no trace of it.
        assert_eq!(run.result().unwrap()["eval"]["val"].get("by"), None);
    }
    let folder = tempfile::tempdir().unwrap();
    let again = Again { n_threads: 1, by: vec![By::Distance], ..Again::default() };
    let error = eval_run(&sealed(&birth(""), folder.path()), &again, &CLOCK, &mut NoWatcher);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("task bigram; only the reads of flip-flop"), "{error}");
}

/// A bigram task goes through all of a run: trained, measured where answers stand in the context,
/// errors kept and seen again.
#[test]
fn a_model_can_be_trained_on_bigrams_and_its_errors_replayed() {
    check_bigrams("show_latents = false", TRANSFORMER, 0);
}

/// The same with the triggers before the sequence, and the blocks that were made for this language.
#[test]
fn the_full_model_of_the_bigram_paper_can_be_trained_where_triggers_are_shown() {
    check_bigrams("show_latents = true", "preset = 'birth-full'\nd_model = 16", 5);
}

/// A tiny transformer and a tiny LSTM on the automaton: every position is a trial, errors are kept, and
/// the same state is asked for again to the bit.
#[test]
fn a_run_on_the_automaton_is_measured_at_every_position_and_replayed() {
    for model in ["n_layers = 2\nd_model = 16\nn_heads = 2", "name = 'lstm'\nd_model = 16"] {
        let spec = format!(
            "[task]\nname = 'automaton'\nseq_len = 24\n[model]\n{model}\n\
             [train]\nn_steps = 4\nbatch_size = 4\nwarmup_steps = 2\ncurve_every = 2\n\
             [eval]\nmax_glitches = 30\nn_resamples = 200\nval.n_examples = 20\n\
             rare = {{ p_ignore = 0.9, first_write = false, n_examples = 10 }}\n"
        );
        let plan = resolve(&spec, None, &[], None).unwrap().arms.remove(0).plans.remove(0);
        let folder = tempfile::tempdir().unwrap();
        let run = sealed(&plan, folder.path());
        let result = run.result().unwrap();
        assert_eq!(result["eval"]["val"]["n_trials"], 20 * 24);
        assert_eq!(result["eval"]["rare"]["n_trials"], 10 * 24);
        let names = run.names("glitches").unwrap();
        assert!(!names.is_empty(), "a model of four steps makes errors");
        let mut last_places = 0;
        for name in names {
            let glitch: Glitch = serde_json::from_value(run.json(&name).unwrap()).unwrap();
            let query = glitch.query_pos as usize;
            assert_eq!(glitch.expected, oracle::states(&glitch.tokens)[query]);
            last_places += usize::from(query == 23);
            let seen_again = replay(&run, glitch, Device::Cpu).unwrap();
            assert!(seen_again.same_bits, "{name}");
            for head in seen_again.attention {
                let sum: f32 = head.weights.iter().sum();
                assert_eq!(head.weights.len(), query + 1);
                assert!((sum - 1.0).abs() < 1e-5, "{name}: {sum}");
            }
        }
        assert!(last_places > 0, "the last token is asked at too");
    }
}

/// Both codings in whole runs: trials are the scored places, and errors are replayed to the bit.
#[test]
fn a_run_in_another_coding_is_measured_at_its_own_places_and_replayed() {
    for (coding, n_per_read) in [("bits", 3), ("pairs", 1)] {
        let spec = format!(
            "[task]\ncoding = '{coding}'\nn_symbols = 8\nseq_len = 16\n\
             [model]\nn_layers = 2\nd_model = 16\nn_heads = 2\n\
             [train]\nn_steps = 4\nbatch_size = 4\nwarmup_steps = 2\ncurve_every = 2\n\
             [eval]\nmax_glitches = 5\nn_resamples = 200\nval.n_examples = 20\n\
             val_sparse.n_examples = 0\nval_dense.n_examples = 0\n"
        );
        let plan = resolve(&spec, None, &[], None).unwrap().arms.remove(0).plans.remove(0);
        let folder = tempfile::tempdir().unwrap();
        let run = sealed(&plan, folder.path());
        let n_trials = run.result().unwrap()["eval"]["val"]["n_trials"].as_u64().unwrap();
        // The string at an address is that of the plain coding, whose reads the oracle counts.
        let plain = resolve("task = { n_symbols = 8, seq_len = 16 }", None, &[], None).unwrap();
        let plain = &plain.arms[0].plans[0].task;
        let stream = split::eval_stream(0, "val");
        let n_reads: usize =
            (0..20).map(|index| oracle::answers(&plain.example(&stream, index)).len()).sum();
        assert_eq!(n_trials, n_per_read * n_reads as u64);
        let names = run.names("glitches").unwrap();
        assert!(!names.is_empty(), "a model of four steps makes errors");
        for name in names {
            let glitch: Glitch = serde_json::from_value(run.json(&name).unwrap()).unwrap();
            assert_eq!(glitch.tokens[glitch.query_pos as usize + 1], glitch.expected);
            assert!(replay(&run, glitch, Device::Cpu).unwrap().same_bits, "{name}");
        }
    }
}

#[track_caller]
fn check_bigrams(task: &str, model: &str, n_latents: usize) {
    let spec = format!(
        "[task]\nname = 'bigram'\nseq_len = 40\n{task}\n[model]\n{model}\n\
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
        // Which occurrence of its trigger the query is, counted another way.
        let query = glitch.query_pos as usize;
        let sequence = &glitch.tokens[n_latents..=query];
        let n_seen = sequence.iter().filter(|&&token| token == glitch.tokens[query]).count();
        let seen_again = replay(&run, glitch, Device::Cpu).unwrap();
        assert!(seen_again.same_bits, "{name}");
        assert_eq!(seen_again.occurrence, Some(n_seen as i32), "{name}");
        assert!(n_seen >= 2, "{name} is in context");
    }
}

#[test]
fn what_is_distinct_begins_again_with_the_first_example() {
    // A learning rate that moves nothing: a loss then says which examples it is of.
    let losses = |more: &[&str]| -> Vec<f64> {
        let sets = [&["train.n_steps=6", "train.lr=1e-30", "train.weight_decay=0"], more].concat();
        let plan = tiny_with(LSTM, &sets);
        let mut trainer = Trainer::<CpuAutodiff>::new(&plan, &cpu());
        (0..plan.train.n_steps).map(|_| trainer.step().unwrap()).collect()
    };
    let (fresh, again) = (losses(&[]), losses(&["train.distinct_examples=8"]));
    assert_eq!(again[..2], fresh[..2]);
    assert_eq!((&again[2..4], &again[4..]), (&again[..2], &again[..2]));
    assert!((fresh[2] - fresh[0]).abs() > 1e-9 && (fresh[3] - fresh[1]).abs() > 1e-9, "{fresh:?}");
}
