//! Measuring a finished run again: the same sets to the same counts, or fresh and larger ones.

use mnemoscope_engine::device::Device;
use mnemoscope_engine::{Ops, burn};
use mnemoscope_store::RunReader;
use serde_json::{Map, Value, json};

use crate::clock::Clock;
use crate::eval::{By, evaluate_apart, has_reads};
use crate::event::{Progress, Watcher};
use crate::on_device::on_device;
use crate::plan::Plan;
use crate::replay::open_model;
use crate::run::{exam, summarize};
use crate::{Error, ErrorKind};

/// What to measure again.
#[derive(Clone, Debug, Default)]
pub struct Again {
    /// Names of sets of the plan; empty for all.
    pub sets: Vec<String>,
    /// Another number of examples than the plan's.
    pub n_examples: Option<u64>,
    /// Another seed than the plan's: examples that nobody has looked at.
    pub eval_seed: Option<u64>,
    /// By what the reads of flip-flop are told apart; nothing for the sets as a whole.
    pub by: Vec<By>,
    /// Threads to work with, at least 1.
    pub n_threads: usize,
    /// Where to compute; another device than the run's may see another error where two logits are close.
    pub device: Device,
}

/// Measures the trained model of a run again; the record is not touched.
///
/// # Returns
///
/// `{"run", "checkpoint", "eval_seed", "eval": {set: result}, "agrees"}`. `agrees` says whether
/// every count is the recorded one; it is `null` when something else was measured than what is
/// recorded. A result has a field `by` with a table for each of [`Again::by`], whose counts add up
/// to those of the result.
///
/// # Errors
///
/// `NotFound`, if the plan has no set of that name or the run no checkpoint yet, or if reads shall
/// be told apart in a language that has none; `Corrupt` and
/// `Incompatible` from reading it; `Interrupted`, if the watcher asks to stop.
pub fn eval_run(
    run: &RunReader,
    again: &Again,
    clock: &dyn Clock,
    watcher: &mut (dyn Watcher + Send),
) -> Result<Value, Error> {
    on_device!(
        again.device,
        of run,
        measure(run: &'a RunReader, again: &'a Again, clock: &'a dyn Clock, watcher: &'a mut (dyn Watcher + Send)) -> Value
    )
}

fn measure<B: Ops>(
    device: &burn::tensor::Device<B>,
    run: &RunReader,
    again: &Again,
    clock: &dyn Clock,
    watcher: &mut (dyn Watcher + Send),
) -> Result<Value, Error> {
    let (mut plan, model, blake3) = open_model::<B>(run, device)?;
    check(run, &plan, again)?;
    plan.seeds.eval = again.eval_seed.unwrap_or(plan.seeds.eval);
    let pool = crate::run::pool(again.n_threads)?;
    let recorded = run.result().cloned().unwrap_or(Value::Null);
    let as_recorded = again.n_examples.is_none() && again.eval_seed.is_none();
    let mut agrees = as_recorded;
    let mut results = Map::new();
    for (name, set) in &plan.eval.sets {
        if !again.sets.is_empty() && !again.sets.contains(name) {
            continue;
        }
        let n_examples = again.n_examples.unwrap_or(set.n_examples);
        let exam = exam(&plan, name, set, n_examples, 0);
        let from = clock.elapsed_secs();
        let (measured, breakdowns) = crate::run::install(&pool, || {
            evaluate_apart(None, &model, &exam, &again.by, device, &mut |tally| {
                watcher.event(&Progress::Eval {
                    set: name.clone(),
                    n_examples_done: tally.n_examples,
                    n_examples,
                    n_trials: tally.clusters.n_trials(),
                    n_errors: tally.clusters.n_errors(),
                });
                !watcher.stop_requested()
            })
        })?;
        if !measured.complete {
            return Err(Error::new(
                ErrorKind::Interrupted,
                format!("stopped while measuring `{name}`; nothing was written"),
            ));
        }
        let mut result = summarize(&plan, &exam, &measured.tally);
        result["wall_secs"] = json!(clock.elapsed_secs() - from);
        for breakdown in &breakdowns {
            let (confidence, n_resamples) = (plan.eval.confidence, plan.eval.n_resamples);
            let resampling = exam.stream.derive("breakdown");
            let table = breakdown.to_json(confidence, n_resamples, &resampling);
            result["by"][breakdown.by.name()] = table;
        }
        let before = &recorded["eval"][name];
        agrees &= ["n_trials", "n_errors"].iter().all(|count| result[count] == before[count]);
        results.insert(name.clone(), result);
    }
    Ok(json!({
        "run": run.id(),
        "checkpoint": blake3,
        "eval_seed": plan.seeds.eval,
        "eval": results,
        "agrees": as_recorded.then_some(agrees),
    }))
}

/// Refuses what the plan of a run does not have.
fn check(run: &RunReader, plan: &Plan, again: &Again) -> Result<(), Error> {
    if let Some(unknown) = again.sets.iter().find(|name| !plan.eval.sets.contains_key(*name)) {
        let known: Vec<&str> = plan.eval.sets.keys().map(String::as_str).collect();
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("run {} has no set `{unknown}`; it has {}", run.id(), known.join(", ")),
        ));
    }
    if !again.by.is_empty() && !has_reads(&plan.task) {
        let message = format!(
            "run {} was trained on the task {}; only the reads of flip-flop are told apart",
            run.id(),
            plan.task.name()
        );
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    Ok(())
}
