//! Executing plans of one shape side by side: trained as one, recorded and measured each for itself.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mnemoscope_engine::AutodiffOps;
use mnemoscope_engine::burn;
use mnemoscope_engine::device::{Device, OnDevice};
use mnemoscope_store::Store;
use rayon::prelude::*;

use super::{
    Ended, Execution, Labels, Opening, Outcome, RunOptions, Trained, begin, panic_message, per_sec,
    pool,
};
use crate::Error;
use crate::clock::Clock;
use crate::event::Watcher;
use crate::plan::Plan;
use crate::train::{Cohort, Trainer};

/// One plan of a cohort.
pub struct Member<'a> {
    /// What is executed.
    pub plan: &'a Plan,
    /// How people call it.
    pub labels: &'a Labels,
    /// Who watches it.
    pub watcher: &'a mut (dyn Watcher + Send),
}

/// Executes plans of one [cohort](Plan::cohort) as [`run_plan`](super::run_plan) does each of them: they take their steps
/// in one program of the device, and everything else each for itself.
///
/// Their numbers are those of a run alone, up to the order in which the device adds. A member that comes to no good end
/// leaves the others alone; one whose record another process holds is left out. Members that have taken other numbers of
/// steps before train one group after the other. All stop when one watcher asks for it.
///
/// # Returns
///
/// How each ended, in their order.
///
/// # Panics
///
/// If there are several plans and they are not of one cohort.
pub fn run_cohort(
    members: Vec<Member<'_>>,
    store: &Store,
    options: &RunOptions,
    clock: &dyn Clock,
) -> Vec<Result<Outcome, Error>> {
    let mut outcomes: BTreeMap<usize, Result<Outcome, Error>> = BTreeMap::new();
    let mut together: Vec<Running<'_>> = Vec::new();
    for (idx, Member { plan, labels, watcher }) in members.into_iter().enumerate() {
        match begin(plan, labels, store, options, clock, watcher) {
            Ok(Opening::Begun(execution)) => {
                together.push(Running { idx, execution: Some(*execution), outcome: None });
            }
            Ok(Opening::Sealed(result)) => {
                outcomes.insert(idx, Ok(Outcome::AlreadySealed(result)));
            }
            Err(failure) => {
                outcomes.insert(idx, Err(failure));
            }
        }
    }
    let refused = execute(&mut together, options);
    for mut running in together {
        if running.is_under_way() {
            running.close(match &refused {
                Ok(Err(refusal)) => Ok(Err(Error::new(refusal.kind(), refusal.to_string()))),
                Err(message) => Err(message.clone()),
                Ok(Ok(())) => unreachable!("every execution comes to an end"),
            });
        }
        outcomes.insert(running.idx, running.outcome.expect("it has been closed"));
    }
    outcomes.into_values().collect()
}

/// An execution under way, or what came of it.
struct Running<'a> {
    idx: usize,
    execution: Option<Execution<'a>>,
    outcome: Option<Result<Outcome, Error>>,
}

impl<'a> Running<'a> {
    fn is_under_way(&self) -> bool {
        self.execution.is_some()
    }

    fn execution(&mut self) -> &mut Execution<'a> {
        self.execution.as_mut().expect("the execution is under way")
    }

    /// Closes the record.
    fn close(&mut self, ended: Result<Result<Ended, Error>, String>) {
        let execution = self.execution.take().expect("the execution is under way");
        self.outcome = Some(execution.close(ended));
    }

    /// Does something with an execution that is under way, which ends if that fails.
    fn try_to(&mut self, work: impl FnOnce(&mut Execution<'a>) -> Result<(), Error>) {
        if let Some(Err(failure)) = self.execution.as_mut().map(work) {
            self.end(Err(failure));
        }
    }

    /// Closes the record of an execution that came to an end by itself.
    fn end(&mut self, ended: Result<Ended, Error>) {
        self.close(Ok(ended));
    }
}

/// Executes them all: what the machine refused, or the words of a panic, if that ended those that are still under way.
fn execute(
    together: &mut [Running<'_>],
    options: &RunOptions,
) -> Result<Result<(), Error>, String> {
    let Some(first) = together.first_mut() else { return Ok(Ok(())) };
    let precision = first.execution().plan.train.precision.of_products();
    let pool = match pool(options.n_threads) {
        Ok(pool) => pool,
        Err(refusal) => return Ok(Err(refusal)),
    };
    // A panic must not take the records with it: it is caught here and written down.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        pool.install(|| options.device.run_in(precision, Together(together)))
    }));
    ended.map(|ended| ended.map_err(Error::from)).map_err(|panic| panic_message(panic.as_ref()))
}

/// Executions to be taken to their device.
struct Together<'r, 'a>(&'r mut [Running<'a>]);

impl OnDevice for Together<'_, '_> {
    type Output = ();

    fn on<A: AutodiffOps>(self, device: &burn::tensor::Device<A>) {
        let mut by_step: BTreeMap<u64, Vec<(&mut Running<'_>, Trainer<'_, A>)>> = BTreeMap::new();
        for running in self.0 {
            match running.execution().open_trainer::<A>(device) {
                Ok(trainer) => {
                    by_step.entry(trainer.n_steps_taken()).or_default().push((running, trainer));
                }
                Err(failure) => running.end(Err(failure)),
            }
        }
        for group in by_step.into_values() {
            for (running, trained) in train(group, device) {
                let ended = running.execution().finish(&trained, device);
                running.end(ended);
            }
        }
    }
}

/// Members beside what there is of each.
type Beside<'r, 'a, T> = Vec<(&'r mut Running<'a>, T)>;

/// Takes the remaining steps of members that have taken equally many. Those that come to an end on the way are closed;
/// the others come back.
fn train<'r, 'a, A: AutodiffOps>(
    mut group: Beside<'r, 'a, Trainer<'a, A>>,
    device: &burn::tensor::Device<A>,
) -> Beside<'r, 'a, Trained<A::InnerBackend>> {
    let mut trained = Vec::new();
    while may_be_together(&mut group) {
        let (mut members, trainers): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let cohort = match Cohort::of(trainers) {
            Ok(cohort) => cohort,
            Err(failure) => {
                for running in members {
                    running.end(Err(Error::new(failure.kind(), failure.to_string())));
                }
                return trained;
            }
        };
        let (left, trainers) = go_on(&mut members, cohort, device);
        let mut fewer = Vec::new();
        for (running, trainer) in members.into_iter().zip(trainers) {
            // Those that came to an end by themselves have no more to say.
            let Some(execution) = &mut running.execution else { continue };
            match left {
                Left::Fewer => fewer.push((running, trainer)),
                Left::Stopped => {
                    let step = trainer.n_steps_taken();
                    let saved = execution.save(&trainer);
                    running.end(saved.map(|_blake3| Ended::Stopped { step }));
                }
                Left::Done => match execution.save(&trainer) {
                    Ok(blake3) => {
                        trained.push((running, Trained { model: trainer.model(), blake3 }));
                    }
                    Err(failure) => running.end(Err(failure)),
                },
            }
        }
        group = fewer;
    }
    // On a CPU the last of them goes on alone.
    for (running, mut trainer) in group {
        running.execution().n_together = 1;
        match running.execution().train(&mut trainer, device) {
            Ok(Some(done)) => trained.push((running, done)),
            Ok(None) => running.end(Ok(Ended::Stopped { step: trainer.n_steps_taken() })),
            Err(failure) => running.end(Err(failure)),
        }
    }
    trained
}

/// Whether members train as a cohort: several do, and on a GPU also one.
fn may_be_together<T>(group: &mut Beside<'_, '_, T>) -> bool {
    match &mut group[..] {
        [] => false,
        [(running, _)] => running.execution().options.device != Device::Cpu,
        _ => true,
    }
}

/// Why members no longer train together.
#[derive(Clone, Copy)]
enum Left {
    /// All steps are taken.
    Done,
    /// Somebody asked to stop.
    Stopped,
    /// Some came to an end, and are closed.
    Fewer,
}

/// Takes steps of a cohort until it no longer can, and takes it apart.
fn go_on<'a, A: AutodiffOps>(
    members: &mut [&mut Running<'a>],
    mut cohort: Cohort<'a, A>,
    device: &burn::tensor::Device<A>,
) -> (Left, Vec<Trainer<'a, A>>) {
    for running in members.iter_mut() {
        running.execution().n_together = cohort.n_members();
    }
    let first = members[0].execution();
    let (clock, every) = (first.clock, first.options.checkpoint_every);
    let (n_steps, tokens_per_step) = (first.plan.train.n_steps, first.tokens_per_step());
    let (mut n_tokens, mut secs) = (0, 0.0);
    while cohort.n_steps_taken() < n_steps {
        if members.iter_mut().any(|running| running.execution().watcher.stop_requested()) {
            return (Left::Stopped, cohort.trainers());
        }
        let from = clock.elapsed_secs();
        let ends = cohort.step();
        let took = clock.elapsed_secs() - from;
        secs += took;
        n_tokens += tokens_per_step;
        let step = cohort.n_steps_taken();
        let mut curves = false;
        for ((running, end), penalty) in members.iter_mut().zip(ends).zip(cohort.penalties()) {
            curves |= running.execution().curve_due(step);
            running.try_to(|execution| {
                execution.train_secs += took;
                match end {
                    Ok(loss) => execution.note_step(step, loss, penalty, per_sec(n_tokens, secs)),
                    Err(failure) => Err(execution.with_checkpoint(failure)),
                }
            });
        }
        if curves {
            for (running, trainer) in members.iter_mut().zip(cohort.trainers()) {
                running.try_to(|execution| match execution.curve_due(step) {
                    true => execution.curve(&trainer.model(), step, device),
                    false => Ok(()),
                });
            }
        }
        if step.is_multiple_of(every) {
            // Most of it is waiting for the disk.
            members.par_iter_mut().zip(cohort.checkpoints()).for_each(|(running, checkpoint)| {
                running.try_to(|execution| execution.save_state(&checkpoint).map(drop));
            });
        }
        if members.iter().any(|running| !running.is_under_way()) {
            return (Left::Fewer, cohort.trainers());
        }
    }
    (Left::Done, cohort.trainers())
}
