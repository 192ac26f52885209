//! Our side: one workload, in blocks, on request. It speaks the same lines as `pytorch/worker.py`.

use std::hint::black_box;
use std::io::BufRead as _;
use std::time::Instant;

use mnemoscope_lab::engine::device::{Cpu, CpuAutodiff, cpu, cpu_level};
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

/// `worker NAME N_THREADS`: does a block for each line on standard input.
pub(crate) fn serve(args: &[String]) -> Result<(), String> {
    let [name, n_threads] = args else { return Err("worker takes NAME and N_THREADS".to_owned()) };
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
            answer(workload, None, || {
                let mut n_drawn = 0;
                while n_drawn < workload.n_per_block {
                    task.batch_into(&stream, first_index, N_EXAMPLES, &mut tokens);
                    n_drawn += black_box(&tokens).len() as u64;
                    first_index += N_EXAMPLES as u64;
                }
                Ok(())
            })
        }
        Kind::Train => {
            let plan = plan(workload)?;
            let mut trainer = Trainer::<CpuAutodiff>::new(&plan, &cpu());
            answer(workload, Some(n_learned(&plan)), || {
                (0..workload.n_per_block)
                    .try_for_each(|_| trainer.step().map(drop).map_err(|error| error.to_string()))
            })
        }
        Kind::Evaluate => {
            let plan = plan(workload)?;
            let init = Stream::root(plan.seeds.model).derive("model");
            let model = Model::<Cpu>::init(&plan.model, &init, &cpu());
            let exam = Exam {
                set: "val_sparse",
                task: &plan.eval.sets["val_sparse"].task,
                stream: split::eval_stream(0, "val_sparse"),
                n_examples: workload.n_per_block,
                max_glitches: 0,
            };
            answer(workload, plan.model.n_params(), || {
                evaluate(&model, &exam, &cpu(), &mut |_| true)
                    .map(drop)
                    .map_err(|error| error.to_string())
            })
        }
    })
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
    workload: &Workload,
    n_params: Option<u64>,
    mut block: impl FnMut() -> Result<(), String>,
) -> Result<(), String> {
    block()?;
    print(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "kernels": cpu_level(),
        "n_params": n_params,
        "n_per_block": workload.n_per_block,
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
