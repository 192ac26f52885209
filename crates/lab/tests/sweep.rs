//! Sweeps of tiny plans: side by side, shared between processes, stopped, failed, refused.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use mnemoscope_lab::ErrorKind;
use mnemoscope_lab::clock::StoppedClock;
use mnemoscope_lab::engine::device::Device;
use mnemoscope_lab::event::{NoWatcher, Progress};
use mnemoscope_lab::plan::resolve;
use mnemoscope_lab::run::{Labels, RunOptions, run_plan};
use mnemoscope_lab::store::{Begun, Status, Store};
use mnemoscope_lab::sweep::{
    End, Planned, Shard, SweepOptions, SweepWatcher, Swept, planned, run_sweep,
};
use serde_json::{Value, json};

const CLOCK: StoppedClock = StoppedClock { unix_secs: 1_700_000_000 };

/// Two sizes of LSTM with three seeds each, twelve steps on strings of 16 tokens.
const SPEC: &str = "\
[task]
name = 'flipflop'
seq_len = 16
p_ignore = 0.5
[model]
name = 'lstm'
d_model = 8
[train]
n_steps = 12
batch_size = 4
warmup_steps = 2
curve_every = 0
[eval]
n_resamples = 100
[eval.val]
n_examples = 20
curve_examples = 0
[eval.val_sparse]
n_examples = 8
[eval.val_dense]
n_examples = 8
[sweep]
seed = { count = 3 }
model.d_model = [8, 12]
";

fn plans(sets: &[&str]) -> Vec<Planned> {
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    planned(&resolve(SPEC, None, &sets, None).unwrap())
}

fn options(n_threads: usize) -> SweepOptions {
    SweepOptions {
        run: RunOptions {
            n_threads,
            device: Device::Cpu,
            checkpoint_every: 4,
            checkpoints_kept: 2,
            machine: json!({"name": "test"}),
        },
        memory_bytes: None,
        most_together: 1,
        device_bytes: None,
        n_retries: 0,
    }
}

/// Remembers what it was told, and asks to stop after so many steps of all runs together.
#[derive(Default)]
struct Memory {
    started: Mutex<Vec<usize>>,
    notes: Mutex<Vec<String>>,
    held_elsewhere: AtomicU32,
    n_steps: AtomicU32,
    stop_after: Option<u32>,
    on_elsewhere: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl SweepWatcher for Memory {
    fn event(&self, idx: usize, event: &Progress) {
        match event {
            Progress::Started { .. } => self.started.lock().unwrap().push(idx),
            Progress::Step { .. } => drop(self.n_steps.fetch_add(1, Ordering::SeqCst)),
            Progress::Note(words) => self.notes.lock().unwrap().push(words.clone()),
            _ => {}
        }
    }

    fn ended(&self, _idx: usize, _end: &End) {}

    fn held_elsewhere(&self, _idx: usize) {
        self.held_elsewhere.fetch_add(1, Ordering::SeqCst);
        if let Some(then) = self.on_elsewhere.lock().unwrap().take() {
            then();
        }
    }

    fn stop_requested(&self) -> bool {
        self.stop_after.is_some_and(|most| self.n_steps.load(Ordering::SeqCst) >= most)
    }
}

fn sweep(plans: &[Planned], root: &Path, n_threads: usize, memory: &Memory) -> Swept {
    run_sweep(plans, &Store::open(root).unwrap(), &options(n_threads), &CLOCK, memory)
}

/// What is left of every run: its result, and everything that training and evaluation recorded.
fn science(root: &Path) -> BTreeMap<String, Value> {
    let store = Store::open(root).unwrap();
    let of = |listed: mnemoscope_lab::store::Listed| {
        let run = store.find(&listed.id).unwrap();
        assert_eq!(run.verify().unwrap(), [""; 0]);
        let losses: Vec<Value> =
            run.events().of_kind("loss").map(|event| event.data.clone()).collect();
        (listed.id, json!({"result": run.result(), "losses": losses}))
    };
    store.runs().unwrap().into_iter().map(of).collect()
}

#[test]
fn side_by_side_or_one_after_the_other_the_records_are_the_same() {
    let (side_by_side, alone) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let plans = plans(&[]);
    let memory = Memory::default();
    let swept = sweep(&plans, side_by_side.path(), 3, &memory);
    assert!(swept.ends.iter().all(|end| matches!(end, End::Sealed)), "{swept:?}");
    let store = Store::open(alone.path()).unwrap();
    for Planned { arm, plan, .. } in &plans {
        let labels = Labels { arm: arm.clone(), ..Labels::default() };
        run_plan(plan, &labels, &store, &options(1).run, &CLOCK, &mut NoWatcher).unwrap();
    }
    assert_eq!(science(side_by_side.path()), science(alone.path()));
    // Once more: nothing is run again.
    let again = sweep(&plans, side_by_side.path(), 3, &memory);
    assert!(again.ends.iter().all(|end| matches!(end, End::AlreadySealed)), "{again:?}");
    assert_eq!(memory.started.lock().unwrap().len(), plans.len());
}

#[test]
fn more_seeds_later_run_only_the_new_ones() {
    let root = tempfile::tempdir().unwrap();
    sweep(&plans(&["sweep.seed.count=2"]), root.path(), 2, &Memory::default());
    let memory = Memory::default();
    let swept = sweep(&plans(&[]), root.path(), 2, &memory);
    assert!(swept.ends.iter().all(End::is_sealed));
    let mut started = memory.started.into_inner().unwrap();
    started.sort_unstable();
    // The third seed of each of the two arms.
    assert_eq!(started, [2, 5]);
}

#[test]
fn two_sweeps_of_one_store_do_no_run_twice() {
    let root = tempfile::tempdir().unwrap();
    let plans = plans(&["sweep.seed.count=6"]);
    let (first, second) = (Memory::default(), Memory::default());
    std::thread::scope(|scope| {
        let handles =
            [&first, &second].map(|memory| scope.spawn(|| sweep(&plans, root.path(), 2, memory)));
        for handle in handles {
            let swept = handle.join().unwrap();
            assert!(swept.ends.iter().all(End::is_sealed), "{swept:?}");
        }
    });
    let mut started = first.started.into_inner().unwrap();
    started.extend(second.started.into_inner().unwrap());
    started.sort_unstable();
    assert_eq!(started, (0..plans.len()).collect::<Vec<_>>());
    let store = Store::open(root.path()).unwrap();
    for run in store.runs().unwrap() {
        assert_eq!(store.find(&run.id).unwrap().events().of_kind("resumed").count(), 0);
    }
}

#[test]
fn shards_make_the_whole_and_one_plan_in_two_arms_is_one_run() {
    let root = tempfile::tempdir().unwrap();
    let mut plans = plans(&[]);
    let copy = Planned { arm: "the same again".to_owned(), ..plans[0].clone() };
    plans.push(copy);
    let memory = Memory::default();
    for shard in ["0/3", "1/3", "2/3"] {
        let shard: Shard = shard.parse().unwrap();
        let of_shard =
            |(idx, planned): (usize, &Planned)| shard.holds(idx).then(|| planned.clone());
        let part: Vec<Planned> = plans.iter().enumerate().filter_map(of_shard).collect();
        let swept = sweep(&part, root.path(), 2, &memory);
        assert!(swept.ends.iter().all(End::is_sealed));
    }
    assert_eq!(memory.started.lock().unwrap().len(), 6);
    let whole = tempfile::tempdir().unwrap();
    let swept = sweep(&plans, whole.path(), 2, &Memory::default());
    assert_eq!(swept.ends.len(), 7);
    assert!(swept.ends.iter().all(End::is_sealed), "{swept:?}");
    assert_eq!(science(whole.path()), science(root.path()));
}

#[test]
fn a_stopped_sweep_goes_on_to_the_same_bits() {
    let (stopped, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let plans = plans(&[]);
    let memory = Memory { stop_after: Some(17), ..Memory::default() };
    let swept = sweep(&plans, stopped.path(), 2, &memory);
    let n_open = swept.ends.iter().filter(|end| !end.is_sealed()).count();
    assert!(n_open >= 4, "{swept:?}");
    assert!(swept.ends.iter().any(|end| matches!(end, End::Interrupted { step } if *step > 0)));
    sweep(&plans, stopped.path(), 2, &Memory::default());
    sweep(&plans, whole.path(), 1, &Memory::default());
    assert_eq!(science(stopped.path()), science(whole.path()));
}

#[test]
fn a_diverging_run_is_recorded_once_and_the_others_go_on() {
    let root = tempfile::tempdir().unwrap();
    let mut plans = plans(&[]);
    let wild =
        ["train.optimizer=sgd", "train.lr=1e30", "train.warmup_steps=0", "sweep.seed.count=1"];
    let sets: Vec<String> = wild.iter().map(|&set| set.to_owned()).collect();
    plans[1] = planned(&resolve(SPEC, None, &sets, None).unwrap()).remove(0);
    let memory = Memory::default();
    let store = Store::open(root.path()).unwrap();
    let patient = SweepOptions { n_retries: 3, ..options(2) };
    let swept = run_sweep(&plans, &store, &patient, &CLOCK, &memory);
    let End::Failed(failure) = &swept.ends[1] else { panic!("{swept:?}") };
    assert_eq!(failure.kind(), ErrorKind::Diverged);
    assert_eq!(swept.ends.iter().filter(|end| end.is_sealed()).count(), 5);
    assert!(swept.refusal.is_none());
    // It would diverge again: nobody tried.
    assert_eq!(memory.notes.lock().unwrap().len(), 0);
    let run = store.find(&plans[1].plan.id()).unwrap();
    assert_eq!(run.status(), Status::Failed);
    let said = run.events().of_kind("failed").next_back().unwrap().data["message"].clone();
    assert_eq!(said, failure.to_string());
}

#[test]
fn a_machine_that_refuses_ends_the_sweep_after_the_retries() {
    let root = tempfile::tempdir().unwrap();
    let plans = plans(&[]);
    // A file stands where the second run's directory belongs.
    std::fs::write(root.path().join(plans[1].plan.id()), "").unwrap();
    let memory = Memory::default();
    let store = Store::open(root.path()).unwrap();
    let swept =
        run_sweep(&plans, &store, &SweepOptions { n_retries: 2, ..options(1) }, &CLOCK, &memory);
    assert!(swept.refusal.is_some());
    assert!(matches!(swept.ends[0], End::Sealed));
    assert!(matches!(swept.ends[1], End::Failed(_)));
    assert!(swept.ends[2..].iter().all(|end| matches!(end, End::Open)), "{swept:?}");
    let notes = memory.notes.into_inner().unwrap();
    assert_eq!(notes.iter().filter(|note| note.contains("is tried again")).count(), 2, "{notes:?}");
}

#[test]
fn a_run_that_another_held_is_taken_over_when_it_lets_go() {
    let root = tempfile::tempdir().unwrap();
    let plans = plans(&[]);
    let store = Store::open(root.path()).unwrap();
    let plan = &plans[2].plan;
    let Begun::New(held) = store.begin(&plan.id(), &plan.to_value(), &json!({})).unwrap() else {
        panic!("it was there already")
    };
    let memory = Memory {
        // The other dies as soon as the sweep has met its lock.
        on_elsewhere: Mutex::new(Some(Box::new(move || drop(held)))),
        ..Memory::default()
    };
    let swept = sweep(&plans, root.path(), 2, &memory);
    assert!(swept.ends.iter().all(End::is_sealed), "{swept:?}");
    assert!(memory.held_elsewhere.load(Ordering::SeqCst) >= 1);
}

#[test]
fn memory_limits_how_many_run_side_by_side_and_no_number_depends_on_it() {
    /// The most runs that were under way at once.
    #[derive(Default)]
    struct Most {
        now: AtomicU32,
        most: AtomicU32,
    }
    impl SweepWatcher for Most {
        fn event(&self, _idx: usize, event: &Progress) {
            if matches!(event, Progress::Started { .. }) {
                let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
                self.most.fetch_max(now, Ordering::SeqCst);
            }
        }
        fn ended(&self, _idx: usize, _end: &End) {
            self.now.fetch_sub(1, Ordering::SeqCst);
        }
        fn held_elsewhere(&self, _idx: usize) {}
    }
    let (tight, wide) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let plans = plans(&["model.d_model=8", "sweep.seed.count=5"]);
    let peak = plans.iter().map(|it| it.plan.estimate().unwrap().peak_bytes()).max().unwrap();
    let most = Most::default();
    // Room for one and a half.
    let options_tight = SweepOptions { memory_bytes: Some(peak + peak / 2), ..options(4) };
    let store = Store::open(tight.path()).unwrap();
    let swept = run_sweep(&plans, &store, &options_tight, &CLOCK, &most);
    assert!(swept.ends.iter().all(End::is_sealed));
    assert_eq!(most.most.into_inner(), 1);
    sweep(&plans, wide.path(), 4, &Memory::default());
    assert_eq!(science(tight.path()), science(wide.path()));
}

/// Losses and results beside each other: equal up to the order of additions, and the counts of evaluation exactly.
fn check_alike(together: &BTreeMap<String, Value>, alone: &BTreeMap<String, Value>) {
    assert!(together.keys().eq(alone.keys()));
    let losses = |run: &Value| -> Vec<f64> {
        let all = run["losses"].as_array().unwrap().iter();
        all.map(|loss| loss["loss_nats"].as_f64().unwrap()).collect()
    };
    for (got, expected) in together.values().zip(alone.values()) {
        let (got_losses, expected_losses) = (losses(got), losses(expected));
        assert_eq!(got_losses.len(), expected_losses.len());
        for (got, expected) in got_losses.iter().zip(&expected_losses) {
            assert!((got / expected - 1.0).abs() < 1e-4, "{got_losses:?} {expected_losses:?}");
        }
        for set in ["val", "val_sparse", "val_dense"] {
            let n_trials = |run: &Value| run["result"]["eval"][set]["n_trials"].as_u64().unwrap();
            assert_eq!(n_trials(got), n_trials(expected));
        }
    }
}

fn together(most_together: usize) -> SweepOptions {
    SweepOptions { most_together, ..options(2) }
}

#[test]
fn runs_of_a_cohort_have_the_numbers_of_runs_alone() {
    let (cohorts, alone) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sets = ["train.curve_every=5", "eval.val.curve_examples=6", "sweep.train.lr=[1e-3,1e-2]"];
    let plans = plans(&sets);
    let store = Store::open(cohorts.path()).unwrap();
    let memory = Memory::default();
    let swept = run_sweep(&plans, &store, &together(4), &CLOCK, &memory);
    assert!(swept.ends.iter().all(|end| matches!(end, End::Sealed)), "{swept:?}");
    sweep(&plans, alone.path(), 2, &Memory::default());
    let got = science(cohorts.path());
    check_alike(&got, &science(alone.path()));
    // Two sizes of six runs each: two cohorts of three for each.
    assert!(got.values().all(|run| run["result"]["device"]["n_together"] == 3), "{got:?}");
    for run in store.runs().unwrap() {
        let run = store.find(&run.id).unwrap();
        let curve = run.events().of_kind("curve").filter(|point| point.data["set"] == "val");
        let steps: Vec<_> = curve.map(|point| point.data["step"].clone()).collect();
        assert_eq!(steps, [5, 10, 12]);
        assert_eq!(run.checkpoints().len(), 2);
    }
}

#[test]
fn a_stopped_cohort_goes_on_and_leaves_a_diverging_member_behind() {
    let (stopped, alone) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut plans = plans(&["model.d_model=8", "sweep.model.d_model=[8]", "sweep.seed.count=4"]);
    plans[1].plan.train.optimizer = {
        let wild = ["train.lr=1e30".to_owned(), "train.warmup_steps=0".to_owned()];
        resolve(SPEC, None, &wild, None).unwrap().arms.remove(0).plans.remove(0).train.optimizer
    };
    plans[1].plan.train.warmup_steps = 0;
    let store = Store::open(stopped.path()).unwrap();
    let memory = Memory { stop_after: Some(17), ..Memory::default() };
    let swept = run_sweep(&plans, &store, &together(8), &CLOCK, &memory);
    let at: Vec<u64> = swept
        .ends
        .iter()
        .filter_map(|end| if let End::Interrupted { step } = end { Some(*step) } else { None })
        .collect();
    assert!(at.len() == 3 && at.iter().all(|step| *step == at[0] && *step > 3), "{swept:?}");
    let swept = run_sweep(&plans, &store, &together(8), &CLOCK, &Memory::default());
    let End::Failed(failure) = &swept.ends[1] else { panic!("{swept:?}") };
    assert_eq!(failure.kind(), ErrorKind::Diverged);
    assert_eq!(swept.ends.iter().filter(|end| end.is_sealed()).count(), 3, "{swept:?}");
    assert_eq!(store.find(&plans[1].plan.id()).unwrap().status(), Status::Failed);
    sweep(&plans, alone.path(), 1, &Memory::default());
    let sound = |root: &Path| {
        let mut all = science(root);
        all.remove(&plans[1].plan.id());
        all
    };
    check_alike(&sound(stopped.path()), &sound(alone.path()));
}

#[test]
fn a_cohort_that_is_too_large_for_its_device_is_halved_until_it_fits() {
    /// A device with room for two runs.
    #[derive(Default)]
    struct Small {
        n_together: AtomicU32,
        notes: Mutex<Vec<String>>,
    }
    impl SweepWatcher for Small {
        fn event(&self, _idx: usize, event: &Progress) {
            match event {
                Progress::Started { .. } | Progress::Resumed { .. } => {
                    self.n_together.fetch_add(1, Ordering::SeqCst);
                }
                Progress::Step { .. } => {
                    assert!(self.n_together.load(Ordering::SeqCst) <= 2, "out of memory");
                }
                Progress::Sealed { .. } => {
                    self.n_together.fetch_sub(1, Ordering::SeqCst);
                }
                Progress::Note(words) => {
                    self.n_together.fetch_sub(1, Ordering::SeqCst);
                    self.notes.lock().unwrap().push(words.clone());
                }
                _ => {}
            }
        }
        fn ended(&self, _idx: usize, _end: &End) {}
        fn held_elsewhere(&self, _idx: usize) {}
    }
    let (small, alone) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let plans = plans(&["sweep.model.d_model=[8]", "sweep.seed.count=4"]);
    let watcher = Small::default();
    let store = Store::open(small.path()).unwrap();
    let swept = run_sweep(&plans, &store, &together(8), &CLOCK, &watcher);
    let notes = watcher.notes.into_inner().unwrap();
    assert!(notes.iter().all(|note| note.contains("out of memory")), "{notes:?}");
    assert!(swept.ends.iter().all(End::is_sealed), "{swept:?} {notes:?}");
    assert_eq!(notes.len(), 4);
    sweep(&plans, alone.path(), 2, &Memory::default());
    check_alike(&science(small.path()), &science(alone.path()));
}
