//! Our side: one workload, in blocks, on request. It speaks the same lines as `pytorch/worker.py`.

use std::hint::black_box;
use std::io::BufRead as _;
use std::time::Instant;

use mnemoscope_lab::engine::device::{Device, OnDevice, Unavailable, cpu_level};
use mnemoscope_lab::engine::{AutodiffOps, burn};
use mnemoscope_lab::eval::{Exam, evaluate};
use mnemoscope_lab::model::{Model, layout};
use mnemoscope_lab::plan::{Plan, Seeds, resolve};
use mnemoscope_lab::stats::stream::Stream;
use mnemoscope_lab::task::{Task, split};
use mnemoscope_lab::train::{Cohort, Trainer};
use serde_json::{Value, json};

use crate::process::{cpu_secs, peak_bytes};
use crate::say;
use crate::workload::{ALL, Kind, Workload};

/// On a GPU a block of evaluation is so many times longer, so that the clock sees work.
const LONGER_ON_GPU: u64 = 40;

/// On a GPU a block of training has as many steps as take about so long: some take 1 ms and some 100.
const BLOCK_SECS: f64 = 1.5;

/// It has no more steps than this.
const MOST_STEPS: u64 = 500;

/// `worker NAME N_THREADS DEVICE PRECISION N_MEMBERS`: does a block for each line on standard input.
pub(crate) fn serve(args: &[String]) -> Result<(), String> {
    let [name, n_threads, device, precision, n_members] = args else {
        return Err("worker takes NAME, N_THREADS, DEVICE, PRECISION and N_MEMBERS".to_owned());
    };
    let said = |unavailable: Unavailable| unavailable.to_string();
    let device: Device = device.parse().map_err(said)?;
    let workload =
        ALL.iter().find(|workload| workload.name == name).ok_or("an unknown workload")?;
    let n_threads = n_threads.parse().ok().ok_or("the number of threads is no number")?;
    let n_members: u64 = n_members.parse().ok().ok_or("the number of members is no number")?;
    let threads = rayon::ThreadPoolBuilder::new().num_threads(n_threads);
    if let Kind::Draw(task) = workload.kind {
        let pool = threads.build().ok().ok_or("cannot start the threads")?;
        return pool.install(|| draw(workload, &task()));
    }
    let plan = plan(workload, device, precision)?;
    let of_products = plan.train.precision.of_products();
    if n_members > 1 {
        if !matches!(workload.kind, Kind::Train) {
            return Err(format!("{name} does not train, so it has one member"));
        }
        if plan.cohort().is_none() {
            return Err(format!("{name} does not train in a cohort"));
        }
        let pool = threads.build().ok().ok_or("cannot start the threads")?;
        let together = Together { plan: &plan, device, n_members };
        return pool.install(|| device.run_in(of_products, together).map_err(said)?);
    }
    let pool = threads.build().ok().ok_or("cannot start the threads")?;
    let work = Work { plan: &plan, workload, device };
    pool.install(|| device.run_in(of_products, work).map_err(said)?)
}

fn draw(workload: &Workload, task: &Task) -> Result<(), String> {
    const N_EXAMPLES: usize = 1024;
    let stream = split::train_stream(0);
    let (mut tokens, mut first_index) = (Vec::new(), 0);
    answer(workload.n_per_block, 1, None, |n| {
        let mut n_drawn = 0;
        while n_drawn < n {
            task.batch_into(&stream, first_index, N_EXAMPLES, &mut tokens);
            n_drawn += black_box(&tokens).len() as u64;
            first_index += N_EXAMPLES as u64;
        }
        Ok(())
    })
}

/// A workload with a model, to be done on some device.
struct Work<'a> {
    plan: &'a Plan,
    workload: &'a Workload,
    device: Device,
}

impl OnDevice for Work<'_> {
    type Output = Result<(), String>;

    fn on<A: AutodiffOps>(self, device: &burn::tensor::Device<A>) -> Self::Output {
        let Self { plan, workload, device: named } = self;
        let n_per_block = workload.n_per_block;
        if matches!(workload.kind, Kind::Train) {
            let mut trainer = Trainer::<A>::new(plan, device);
            if named != Device::Cpu && plan.cohort().is_some() {
                // As a run does it there.
                return train_together(vec![trainer], plan, named, device);
            }
            let mut steps = |n| take::<A>(&mut trainer, n, device);
            let n_steps = block_of_steps(named, n_per_block, &mut steps)?;
            return answer(n_steps, 1, Some(n_learned(plan)), steps);
        }
        let n_examples = n_per_block * if named == Device::Cpu { 1 } else { LONGER_ON_GPU };
        let init = Stream::root(plan.seeds.model).derive("model");
        let model = Model::<A::InnerBackend>::init(&plan.model, &init, device);
        let exam = Exam {
            set: "val_sparse",
            task: &plan.eval.sets["val_sparse"].task,
            stream: split::eval_stream(0, "val_sparse"),
            n_examples,
            max_glitches: 0,
        };
        answer(n_examples, 1, plan.model.n_params(), |_| {
            let measured = evaluate(&model, &exam, device, &mut |_| true);
            measured.map(drop).map_err(|error| error.to_string())
        })
    }
}

/// Takes steps, and waits until the device has done them: a step reads its loss before the backward pass.
fn take<A: AutodiffOps>(
    trainer: &mut Trainer<'_, A>,
    n_steps: u64,
    device: &burn::tensor::Device<A>,
) -> Result<(), String> {
    for _ in 0..n_steps {
        trainer.step().map_err(|error| error.to_string())?;
    }
    A::sync(device).map_err(|error| error.to_string())
}

/// Warms up what takes steps; how many of them make a block.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn block_of_steps(
    device: Device,
    on_cpu: u64,
    steps: &mut impl FnMut(u64) -> Result<(), String>,
) -> Result<u64, String> {
    if device == Device::Cpu {
        return Ok(on_cpu);
    }
    // The first ones compile kernels and find no memory to use again.
    steps(3)?;
    let (mut n_tried, mut secs) = (2, 0.0);
    while secs < BLOCK_SECS / 8.0 && n_tried < MOST_STEPS {
        n_tried *= 2;
        let from = Instant::now();
        steps(n_tried)?;
        secs = from.elapsed().as_secs_f64();
    }
    Ok(((BLOCK_SECS / secs * n_tried as f64).round() as u64).clamp(1, MOST_STEPS))
}

/// Trainers that differ in their seeds, side by side in one program of a device.
struct Together<'a> {
    plan: &'a Plan,
    device: Device,
    n_members: u64,
}

impl OnDevice for Together<'_> {
    type Output = Result<(), String>;

    fn on<A: AutodiffOps>(self, device: &burn::tensor::Device<A>) -> Self::Output {
        let Self { plan, device: named, n_members } = self;
        let plans: Vec<Plan> = (0..n_members)
            .map(|seed| {
                let seeds = Seeds { model: seed, data: seed, ..plan.seeds };
                Plan { seeds, ..plan.clone() }
            })
            .collect();
        let trainers = plans.iter().map(|plan| Trainer::<A>::new(plan, device)).collect();
        train_together(trainers, plan, named, device)
    }
}

/// Trains a cohort in blocks.
fn train_together<A: AutodiffOps>(
    trainers: Vec<Trainer<'_, A>>,
    plan: &Plan,
    named: Device,
    device: &burn::tensor::Device<A>,
) -> Result<(), String> {
    let n_members = trainers.len() as u64;
    let mut cohort = Cohort::of(trainers).map_err(|error| error.to_string())?;
    let mut steps = |n| take_together::<A>(&mut cohort, n, device);
    let n_steps = block_of_steps(named, 1, &mut steps)?;
    answer(n_steps, n_members, Some(n_learned(plan)), steps)
}

/// [`take`] of a cohort.
fn take_together<A: AutodiffOps>(
    cohort: &mut Cohort<'_, A>,
    n_steps: u64,
    device: &burn::tensor::Device<A>,
) -> Result<(), String> {
    for _ in 0..n_steps {
        for end in cohort.step() {
            end.map_err(|error| error.to_string())?;
        }
    }
    A::sync(device).map_err(|error| error.to_string())
}

/// The plan of a workload in a precision that the device has.
pub(crate) fn plan(workload: &Workload, device: Device, precision: &str) -> Result<Plan, String> {
    if !device.precisions().iter().any(|there| there.name() == precision) {
        return Err(format!("no products in {precision} on {device}"));
    }
    // A bench takes as many steps as it wants.
    let sets = [format!("train.precision={precision}"), "train.n_steps=1000000".to_owned()];
    let mut study = resolve(workload.spec, None, &sets, None)
        .map_err(|complaints| format!("{}: {complaints}", workload.name))?;
    Ok(study.arms.remove(0).plans.remove(0))
}

/// Numbers that training changes.
pub(crate) fn n_learned(plan: &Plan) -> u64 {
    let slots = layout(&plan.model).into_iter().filter(|slot| plan.train.learns(&slot.name, 1));
    slots.map(|slot| slot.shape.iter().product::<usize>() as u64).sum()
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn answer(
    n_per_block: u64,
    n_at_once: u64,
    n_params: Option<u64>,
    mut block: impl FnMut(u64) -> Result<(), String>,
) -> Result<(), String> {
    block(n_per_block)?;
    print(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "kernels": cpu_level(),
        "n_params": n_params,
        "n_per_block": n_per_block * n_at_once,
    }));
    for line in std::io::stdin().lock().lines() {
        line.map_err(|error| error.to_string())?;
        let (wall, cpu) = (Instant::now(), cpu_secs());
        block(n_per_block)?;
        let wall_secs = wall.elapsed().as_secs_f64();
        print(&json!({"wall_secs": wall_secs, "cpu_secs": cpu_secs() - cpu}));
    }
    print(&json!({"peak_bytes": peak_bytes()}));
    Ok(())
}

fn print(value: &Value) {
    say(&value.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_on_a_gpu_is_as_long_as_its_steps_want() {
        let mut tried = Vec::new();
        let mut quick = |n| {
            tried.push(n);
            Ok(())
        };
        assert_eq!(block_of_steps(Device::Cuda(0), 7, &mut quick), Ok(MOST_STEPS));
        assert_eq!(tried, [3, 4, 8, 16, 32, 64, 128, 256, 512]);
        tried.clear();
        let mut on_cpu = |n| {
            tried.push(n);
            Ok(())
        };
        assert_eq!(block_of_steps(Device::Cpu, 7, &mut on_cpu), Ok(7));
        assert!(tried.is_empty());
        let mut failing = |_| Err("no memory".to_owned());
        assert_eq!(block_of_steps(Device::Cuda(0), 7, &mut failing), Err("no memory".to_owned()));
    }

    #[test]
    fn a_precision_that_a_device_does_not_have_is_refused() {
        let base = &ALL[0];
        assert!(plan(base, Device::Cpu, "f32").is_ok());
        assert!(plan(base, Device::Cuda(0), "tf32").is_ok());
        for (device, precision) in [(Device::Metal(0), "tf32"), (Device::Vulkan(0), "bf16")] {
            let refused = plan(base, device, precision).expect_err("not of this device");
            assert_eq!(refused, format!("no products in {precision} on {device}"));
        }
    }
}
