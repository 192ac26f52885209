//! The same plans on the CPU, there in every other precision that it has, and on every GPU that is found: a small study,
//! probed, sealed, evaluated again.
//!
//! GPUs need a build of their own: `cargo test -p mnemoscope-lab --features wgpu --test devices`.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use mnemoscope_lab::ErrorKind;
use mnemoscope_lab::again::{Again, eval_run};
use mnemoscope_lab::clock::StoppedClock;
use mnemoscope_lab::engine::device::{Device, Precision};
use mnemoscope_lab::event::{NoWatcher, Progress, Watcher};
use mnemoscope_lab::plan::{Plan, resolve};
use mnemoscope_lab::run::{Labels, Outcome, RunOptions, run_plan};
use mnemoscope_lab::store::Store;
use serde_json::{Value, json};

const CLOCK: StoppedClock = StoppedClock { unix_secs: 1_700_000_000 };

/// Two architectures of the first paper and the model of the second, a dozen steps each.
const SPECS: [&str; 3] = [
    "task.seq_len = 32\n[model]\nname = 'transformer'\nn_layers = 2\nd_model = 32\nn_heads = 2\n\
     [train]\nn_steps = 12\nbatch_size = 4\nlr = 1e-3\ncurve_every = 4\nclip_norm = 1.0\n\
     [eval.val]\nn_examples = 20\ncurve_examples = 4\n[eval.val_sparse]\nn_examples = 4\n\
     [eval.val_dense]\nn_examples = 4\n",
    "task.seq_len = 32\n[model]\nname = 'lstm'\nd_model = 16\n\
     [train]\nn_steps = 12\nbatch_size = 4\nlr = 1e-3\ncurve_every = 0\n\
     [eval.val]\nn_examples = 20\n[eval.val_sparse]\nn_examples = 4\n[eval.val_dense]\nn_examples = 4\n",
    "[task]\nname = 'bigram'\nseq_len = 24\nn_triggers = 3\n[model]\npreset = 'birth'\nd_model = 32\n\
     [train]\nn_steps = 12\nbatch_size = 4\noptimizer = 'sgd'\nlr = 0.1\nloss = 'all'\nweight_decay = 1e-4\n\
     warmup_steps = 0\ndecay = 'none'\ncurve_every = 0\nfreeze = ['blocks.1.attn.out.weight until 5']\n\
     [eval.val]\nn_examples = 9\n[probe]\nevery = 3\nattention_examples = 2\n",
];

fn plan(spec: &str, precision: Precision) -> Plan {
    let sets = [format!("train.precision={precision}")];
    resolve(spec, None, &sets, None).unwrap().arms.remove(0).plans.remove(0)
}

fn options(device: Device) -> RunOptions {
    RunOptions {
        n_threads: 2,
        device,
        checkpoint_every: 5,
        checkpoints_kept: 2,
        machine: json!({"name": "test"}),
    }
}

/// The losses of all recorded steps, and the result, of a plan executed in a store of its own.
fn executed(spec: &str, options: RunOptions, precision: Precision) -> (Vec<f64>, Value) {
    let folder = tempfile::tempdir().unwrap();
    let (store, plan) = (Store::open(folder.path()).unwrap(), plan(spec, precision));
    let device = options.device;
    let ended = run_plan(&plan, &Labels::default(), &store, &options, &CLOCK, &mut NoWatcher);
    let Outcome::Sealed(result) = ended.unwrap() else { panic!("the run did not come to its end") };
    let run = store.find(&plan.id()).unwrap();
    let losses =
        run.events().of_kind("loss").map(|event| event.data["loss_nats"].as_f64().unwrap());
    let again = Again { n_threads: 2, device, ..Again::default() };
    let measured = eval_run(&run, &again, &CLOCK, &mut NoWatcher).unwrap();
    assert_eq!(measured["agrees"], true, "{device}");
    (losses.collect(), result)
}

fn gpus() -> Vec<Device> {
    let all: Vec<Device> = Device::all().into_iter().map(|found| found.device).collect();
    let gpus: Vec<Device> = all.into_iter().filter(|&device| device != Device::Cpu).collect();
    if cfg!(any(feature = "cuda", feature = "wgpu")) {
        let text = "no GPU was found; Debian's mesa-vulkan-drivers has one in software";
        assert!(!gpus.is_empty(), "{text}");
    }
    gpus
}

/// Devices and precisions, but the one with which the others are compared.
fn others() -> Vec<(Device, Precision)> {
    let each = |device: Device| device.precisions().iter().map(move |&it| (device, it));
    let all = gpus().into_iter().chain([Device::Cpu]).flat_map(each);
    all.filter(|&it| it != (Device::Cpu, Precision::F32)).collect()
}

#[test]
fn a_run_elsewhere_learns_what_it_learns_on_the_cpu_in_single_precision() {
    for spec in SPECS {
        let (expected, on_cpu) = executed(spec, options(Device::Cpu), Precision::F32);
        for (device, precision) in others() {
            let (losses, result) = executed(spec, options(device), precision);
            assert_eq!(result["device"]["name"], device.to_string());
            assert_eq!(result["device"]["precision"], precision.name());
            let tolerance = match precision {
                Precision::F32 => 1e-3,
                Precision::Tf32 => 2e-2,
                Precision::Bf16 => 6e-2,
            };
            for (got, expected) in losses.iter().zip(&expected) {
                assert!(
                    (got / expected - 1.0).abs() < tolerance,
                    "{device}: {losses:?} {expected:?}"
                );
            }
            assert_eq!(result["eval"]["val"]["n_trials"], on_cpu["eval"]["val"]["n_trials"]);
        }
    }
}

#[test]
fn on_the_cpu_every_precision_gives_the_same_bits_with_any_number_of_threads() {
    for (spec, &precision) in
        SPECS.into_iter().flat_map(|spec| Device::Cpu.precisions().iter().map(move |it| (spec, it)))
    {
        let of = |n_threads| {
            let options = RunOptions { n_threads, ..options(Device::Cpu) };
            let (losses, result) = executed(spec, options, precision);
            (losses, result["eval"].clone())
        };
        assert_eq!(of(1), of(3), "{precision}: {spec}");
    }
}

/// Cohorts, which only a GPU trains in one program.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod side_by_side {
    use super::*;
    use mnemoscope_lab::sweep::{End, Planned, SweepOptions, SweepWatcher, planned, run_sweep};

    /// Watches nothing.
    struct Nobody;

    impl SweepWatcher for Nobody {
        fn event(&self, _idx: usize, _event: &Progress) {}
        fn ended(&self, _idx: usize, _end: &End) {}
        fn held_elsewhere(&self, _idx: usize) {}
    }

    /// The losses of all recorded steps of each run of a sweep of three seeds and two learning rates.
    fn swept(
        spec: &str,
        device: Device,
        precision: Precision,
        most_together: usize,
    ) -> Vec<Vec<f64>> {
        let folder = tempfile::tempdir().unwrap();
        let spec = format!("{spec}\n[sweep]\nseed = {{ count = 3 }}\ntrain.lr = [1e-3, 3e-3]\n");
        let sets = [format!("train.precision={precision}")];
        let plans = planned(&resolve(&spec, None, &sets, None).unwrap());
        let store = Store::open(folder.path()).unwrap();
        let options = SweepOptions {
            run: options(device),
            memory_bytes: None,
            most_together,
            device_bytes: None,
            n_retries: 0,
        };
        let swept = run_sweep(&plans, &store, &options, &CLOCK, &Nobody);
        assert!(swept.ends.iter().all(End::is_sealed), "{device}: {swept:?}");
        let losses = |Planned { plan, .. }: &Planned| {
            let run = store.find(&plan.id()).unwrap();
            let n_together = &run.result().unwrap()["device"]["n_together"];
            assert_eq!(n_together.as_u64().unwrap_or(1), most_together as u64);
            let all = run.events().of_kind("loss").map(|it| it.data["loss_nats"].as_f64().unwrap());
            all.collect()
        };
        plans.iter().map(losses).collect()
    }

    #[test]
    fn runs_side_by_side_in_one_program_learn_what_they_learn_alone() {
        let sharpen = "[train.sharpen]\nform = 'entropy'\nweight = 0.1\n[train.dropout]\nattn = 0.2\nmlp = 0.1\n";
        for spec in [SPECS[1].to_owned(), format!("{}{sharpen}", SPECS[0])] {
            let spec = spec.as_str();
            let expected = swept(spec, Device::Cpu, Precision::F32, 1);
            for device in gpus() {
                for &precision in device.precisions() {
                    let tolerance = if precision == Precision::F32 { 1e-3 } else { 6e-2 };
                    let got = swept(spec, device, precision, 3);
                    for (got, expected) in got.iter().flatten().zip(expected.iter().flatten()) {
                        let off = (got / expected - 1.0).abs();
                        assert!(off < tolerance, "{device} in {precision}: {got} {expected}");
                    }
                }
            }
        }
    }
}

/// Asks to stop at once.
struct Stop;

impl Watcher for Stop {
    fn event(&mut self, _event: &Progress) {}

    fn stop_requested(&self) -> bool {
        true
    }
}

#[test]
fn a_plan_of_another_precision_and_a_run_begun_elsewhere_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let run = |plan: &Plan, device: Device| {
        run_plan(plan, &Labels::default(), &store, &options(device), &CLOCK, &mut NoWatcher)
    };
    for device in gpus().into_iter().chain([Device::Cpu]) {
        let lacks = |precision| !device.precisions().contains(precision);
        let Some(&other) = [Precision::Tf32, Precision::Bf16].iter().find(|other| lacks(other))
        else {
            continue;
        };
        let refused = run(&plan(SPECS[1], other), device).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Spec);
        assert!(refused.to_string().contains("--set train.precision="), "{refused}");
    }
    for device in gpus() {
        let (plan, folder) = (plan(SPECS[0], Precision::F32), tempfile::tempdir().unwrap());
        let store = Store::open(folder.path()).unwrap();
        let begun =
            run_plan(&plan, &Labels::default(), &store, &options(device), &CLOCK, &mut Stop);
        assert!(matches!(begun, Ok(Outcome::Interrupted { step: 0, .. })));
        let elsewhere = options(Device::Cpu);
        let refused =
            run_plan(&plan, &Labels::default(), &store, &elsewhere, &CLOCK, &mut NoWatcher);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.ends_with(&format!("go on with --device {device}")), "{refused}");
    }
    let absent = run(&plan(SPECS[1], Precision::F32), Device::Vulkan(77)).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::Machine, "{absent}");
}
