//! Our side: one workload, in blocks, on request. It speaks the same lines as `pytorch/worker.py`.

use std::hint::black_box;
use std::io::BufRead as _;
use std::time::Instant;

use mnemoscope_lab::engine::device::{Device, OnDevice, Unavailable, cpu_level};
use mnemoscope_lab::engine::{AutodiffOps, burn};
use mnemoscope_lab::eval::{Exam, evaluate};
use mnemoscope_lab::model::{Model, layout};
use mnemoscope_lab::plan::{Plan, resolve};
use mnemoscope_lab::stats::stream::Stream;
use mnemoscope_lab::task::split;
use mnemoscope_lab::train::Trainer;
use serde_json::{Value, json};

use crate::process::{cpu_secs, peak_bytes};
use crate::say;
use crate::workload::{ALL, Kind, Workload};

/// On a GPU a block is so many times longer, so that the clock sees work.
const LONGER_ON_GPU: u64 = 40;

/// `worker NAME N_THREADS DEVICE`: does a block for each line on standard input.
pub(crate) fn serve(args: &[String]) -> Result<(), String> {
    let [name, n_threads, device] = args else {
        return Err("worker takes NAME, N_THREADS and DEVICE".to_owned());
    };
    let said = |unavailable: Unavailable| unavailable.to_string();
    let device: Device = device.parse().map_err(said)?;
    let workload =
        ALL.iter().find(|workload| workload.name == name).ok_or("an unknown workload")?;
    let n_threads = n_threads.parse().ok().ok_or("the number of threads is no number")?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build();
    let pool = pool.ok().ok_or("cannot start the threads")?;
    pool.install(|| match workload.kind {
        Kind::Draw(task) => {
            const N_EXAMPLES: usize = 1024;
            let (task, stream) = (task(), split::train_stream(0));
            let (mut tokens, mut first_index) = (Vec::new(), 0);
            answer(workload.n_per_block, None, || {
                let mut n_drawn = 0;
                while n_drawn < workload.n_per_block {
                    task.batch_into(&stream, first_index, N_EXAMPLES, &mut tokens);
                    n_drawn += black_box(&tokens).len() as u64;
                    first_index += N_EXAMPLES as u64;
                }
                Ok(())
            })
        }
        Kind::Train | Kind::Evaluate => {
            let longer = if device == Device::Cpu { 1 } else { LONGER_ON_GPU };
            let plan = plan(workload)?;
            let work = Work { plan: &plan, workload, n_per_block: workload.n_per_block * longer };
            device.run(work).map_err(said)?
        }
    })
}

/// A workload with a model, to be done on some device.
struct Work<'a> {
    plan: &'a Plan,
    workload: &'a Workload,
    n_per_block: u64,
}

impl OnDevice for Work<'_> {
    type Output = Result<(), String>;

    fn on<A: AutodiffOps>(self, device: &burn::tensor::Device<A>) -> Self::Output {
        let Self { plan, workload, n_per_block } = self;
        if matches!(workload.kind, Kind::Train) {
            let mut trainer = Trainer::<A>::new(plan, device);
            return answer(n_per_block, Some(n_learned(plan)), || {
                (0..n_per_block)
                    .try_for_each(|_| trainer.step().map(drop).map_err(|error| error.to_string()))
            });
        }
        let init = Stream::root(plan.seeds.model).derive("model");
        let model = Model::<A::InnerBackend>::init(&plan.model, &init, device);
        let exam = Exam {
            set: "val_sparse",
            task: &plan.eval.sets["val_sparse"].task,
            stream: split::eval_stream(0, "val_sparse"),
            n_examples: n_per_block,
            max_glitches: 0,
        };
        answer(n_per_block, plan.model.n_params(), || {
            let measured = evaluate(&model, &exam, device, &mut |_| true);
            measured.map(drop).map_err(|error| error.to_string())
        })
    }
}

fn plan(workload: &Workload) -> Result<Plan, String> {
    let mut study =
        resolve(workload.spec, None, &[], None).map_err(|complaints| format!("{complaints:?}"))?;
    Ok(study.arms.remove(0).plans.remove(0))
}

/// Numbers that training changes.
fn n_learned(plan: &Plan) -> u64 {
    let slots = layout(&plan.model).into_iter().filter(|slot| plan.train.learns(&slot.name, 1));
    slots.map(|slot| slot.shape.iter().product::<usize>() as u64).sum()
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn answer(
    n_per_block: u64,
    n_params: Option<u64>,
    mut block: impl FnMut() -> Result<(), String>,
) -> Result<(), String> {
    block()?;
    print(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "kernels": cpu_level(),
        "n_params": n_params,
        "n_per_block": n_per_block,
    }));
    for line in std::io::stdin().lock().lines() {
        line.map_err(|error| error.to_string())?;
        let (wall, cpu) = (Instant::now(), cpu_secs());
        block()?;
        let wall_secs = wall.elapsed().as_secs_f64();
        print(&json!({"wall_secs": wall_secs, "cpu_secs": cpu_secs() - cpu}));
    }
    print(&json!({"peak_bytes": peak_bytes()}));
    Ok(())
}

fn print(value: &Value) {
    say(&value.to_string());
}
