//! What a sweep will take, before it is begun: time by a short trial, memory and disk by arithmetic.

use mnemoscope_engine::device::Device;
use mnemoscope_store::Store;
use serde::Serialize;

use super::Planned;
use super::desk::{Share, share_of};
use crate::Error;
use crate::clock::Clock;
use crate::pace::secs_per_step;
use crate::plan::{OptimizerPlan, Plan};
use crate::run::CHECKPOINTS_KEPT;

/// Arms that are tried out; the others are taken to be as fast as their neighbours.
const MOST_TRIALS: usize = 6;
/// Multiplications and additions of a step that is tried out: some tenths of a second.
const TRIAL_FLOPS: f64 = 1e10;
/// Bytes of a record besides its checkpoints and glitches: plan, result, evaluations.
const RECORD_BYTES: u64 = 32 << 10;
/// Bytes of one kept glitch, at the lengths of the papers.
const GLITCH_BYTES: u64 = 8 << 10;
/// Bytes of one event.
const EVENT_BYTES: u64 = 160;

/// What the open runs of a sweep will take on this machine; estimates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// Runs of the sweep.
    pub n_runs: usize,
    /// Those without a complete record, which the rest is about.
    pub n_open: usize,
    /// Runs at once.
    pub n_side_by_side: usize,
    /// Time from begin to end; `None` if no time passed in the trial.
    pub wall_secs: Option<f64>,
    /// Memory of the largest runs that are under way at once.
    pub peak_bytes: u64,
    /// Disk.
    pub disk_bytes: u64,
}

/// Looks ahead: tries a step of some arms, and adds up the rest.
///
/// # Arguments
///
/// - `n_threads`, `memory_bytes`: what the sweep may use, as for [`run_sweep`](super::run_sweep).
/// - `device`: where the steps are tried.
///
/// # Errors
///
/// As a step of training; `Machine`, if a thread cannot be started.
pub fn forecast(
    plans: &[Planned],
    store: Option<&Store>,
    n_threads: usize,
    memory_bytes: Option<u64>,
    device: Device,
    clock: &dyn Clock,
) -> Result<Forecast, Error> {
    let is_open =
        |planned: &&Planned| store.is_none_or(|store| !store.is_sealed(&planned.plan.id()));
    let open: Vec<&Planned> = plans.iter().filter(is_open).collect();
    let all = Share::of_machine(n_threads, memory_bytes);
    let widest = open.iter().map(|planned| share_of(planned, all, open.len()).n_threads).max();
    let n_side_by_side = (n_threads / widest.unwrap_or(1)).min(open.len());
    let mut peaks: Vec<u64> =
        open.iter().map(|it| it.plan.estimate().map_or(0, |of| of.peak_bytes())).collect();
    peaks.sort_unstable_by(|a, b| b.cmp(a));
    Ok(Forecast {
        n_runs: plans.len(),
        n_open: open.len(),
        n_side_by_side,
        wall_secs: thread_secs(&open, device, clock)?
            .map(|secs| secs / n_threads.min(open.len()) as f64),
        peak_bytes: peaks.iter().take(n_side_by_side).sum(),
        disk_bytes: disk_bytes(plans, store, CHECKPOINTS_KEPT, 1),
    })
}

/// Seconds that all plans take on one thread.
fn thread_secs(open: &[&Planned], device: Device, clock: &dyn Clock) -> Result<Option<f64>, Error> {
    let mut firsts: Vec<usize> =
        (0..open.len()).filter(|&idx| idx == 0 || open[idx].arm != open[idx - 1].arm).collect();
    let every = firsts.len().div_ceil(MOST_TRIALS).max(1);
    firsts = firsts.into_iter().step_by(every).collect();
    let mut secs = 0.0;
    let mut per_flop = None;
    let mut next = firsts.into_iter().peekable();
    for (idx, planned) in open.iter().enumerate() {
        if next.next_if_eq(&idx).is_some() {
            per_flop = secs_per_flop(&planned.plan, device, clock)?;
        }
        let estimate = planned.plan.estimate();
        let flops = estimate.map_or(0.0, |estimate| estimate.train_flops + estimate.eval_flops);
        secs += per_flop.unwrap_or(0.0) * flops;
    }
    Ok((secs > 0.0).then_some(secs))
}

/// Seconds of one thread for a multiplication or addition of this plan, by a step of a batch that may be smaller.
fn secs_per_flop(plan: &Plan, device: Device, clock: &dyn Clock) -> Result<Option<f64>, Error> {
    let mut trial = plan.clone();
    trial.train.distinct_examples = None;
    trial.train.n_steps = 2;
    let step_flops = |plan: &Plan| {
        plan.estimate().map_or(0.0, |estimate| estimate.train_flops / plan.train.n_steps as f64)
    };
    let share = TRIAL_FLOPS / step_flops(&trial).max(1.0);
    if share < 1.0 {
        let batch_size = (f64::from(trial.train.batch_size) * share) as u32;
        trial.train.batch_size = batch_size.max(1);
    }
    let secs = secs_per_step(&trial, 1, device, clock)?;
    Ok((secs > 0.0).then(|| secs / step_flops(&trial).max(1.0)))
}

/// Bytes that the records of the open plans take at their fullest; an estimate that needs no trial.
///
/// # Arguments
///
/// - `checkpoints_kept`, `checkpoint_every`: as for a run; one keeps no more than it comes by.
#[must_use]
pub fn disk_bytes(
    plans: &[Planned],
    store: Option<&Store>,
    checkpoints_kept: usize,
    checkpoint_every: u64,
) -> u64 {
    let is_open =
        |planned: &&Planned| store.is_none_or(|store| !store.is_sealed(&planned.plan.id()));
    let of_record = |it: &Planned| {
        let n_coming = it.plan.train.n_steps.div_ceil(checkpoint_every.max(1));
        record_bytes(&it.plan, n_coming.min(checkpoints_kept as u64))
    };
    plans.iter().filter(is_open).map(of_record).fold(0, u64::saturating_add)
}

/// Bytes that the record of a plan with so many checkpoints takes at its fullest.
fn record_bytes(plan: &Plan, n_checkpoints: u64) -> u64 {
    let n_moments = match &plan.train.optimizer {
        OptimizerPlan::AdamW(_) => 2,
        OptimizerPlan::Sgd(_) => 1,
    };
    let n_params = plan.model.n_params().unwrap_or(0);
    let checkpoint_bytes = n_params.saturating_mul(4 * (1 + n_moments));
    // One more is there while the oldest is not yet removed.
    let n_checkpoints = n_checkpoints + 1;
    let n_sets = plan.eval.sets.len() as u64;
    let curves = plan.train.n_steps.checked_div(plan.train.curve_every).unwrap_or(0) * n_sets;
    let n_events = plan.train.n_steps / 10 + curves;
    let n_glitches = n_sets * u64::from(plan.eval.max_glitches);
    (RECORD_BYTES + n_glitches * GLITCH_BYTES)
        .saturating_add(checkpoint_bytes.saturating_mul(n_checkpoints))
        .saturating_add(n_events.saturating_mul(EVENT_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::StoppedClock;
    use crate::plan::resolve;
    use crate::sweep::planned;

    /// A clock on which every look takes a second.
    struct Ticking(std::sync::atomic::AtomicU32);

    impl Clock for Ticking {
        fn unix_secs(&self) -> u64 {
            0
        }

        fn elapsed_secs(&self) -> f64 {
            f64::from(self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst))
        }
    }

    fn plans(sweep: &str) -> Vec<Planned> {
        let spec = "task.seq_len = 8\nmodel = { name = 'lstm', d_model = 4 }\n\
                    train = { n_steps = 100, batch_size = 2, curve_every = 0 }\n";
        planned(&resolve(&format!("{spec}{sweep}"), None, &[], None).unwrap())
    }

    #[test]
    fn time_is_that_of_a_tried_step_for_all_steps_and_runs() {
        let plans = plans("sweep.seed = { count = 6 }");
        let look = |n_threads| {
            forecast(&plans, None, n_threads, None, Device::Cpu, &Ticking(0.into())).unwrap()
        };
        let (one, two) = (look(1), look(2));
        let estimate = plans[0].plan.estimate().unwrap();
        let per_run = 100.0 * (1.0 + estimate.eval_flops / estimate.train_flops);
        let secs = one.wall_secs.unwrap();
        assert!((secs / (6.0 * per_run) - 1.0).abs() < 1e-9, "{secs} and not 6 times {per_run}");
        assert!((two.wall_secs.unwrap() * 2.0 / secs - 1.0).abs() < 1e-9);
        assert_eq!((two.n_runs, two.n_open, two.n_side_by_side), (6, 6, 2));
        assert_eq!(two.peak_bytes, 2 * one.peak_bytes);
        let stopped =
            forecast(&plans, None, 2, None, Device::Cpu, &StoppedClock { unix_secs: 0 }).unwrap();
        assert_eq!(stopped.wall_secs, None);
    }

    #[test]
    fn large_steps_are_tried_in_small_and_the_disk_holds_three_checkpoints() {
        let spec = "model.preset = 'fflm-base'";
        let plan = resolve(spec, None, &[], None).unwrap().arms.remove(0).plans.remove(0);
        let checkpoints = 19_170_309 * 4 * 3 * 3;
        let bytes = record_bytes(&plan, 2);
        assert!((checkpoints..checkpoints + (3 << 20)).contains(&bytes), "{bytes}");
    }

    #[test]
    fn more_checkpoints_take_more_of_the_disk_but_no_more_than_come() {
        let plans = plans("");
        let bytes = |kept, every| disk_bytes(&plans, None, kept, every);
        let n_params = plans[0].plan.model.n_params().unwrap();
        assert_eq!(bytes(12, 1) - bytes(2, 1), 10 * n_params * 4 * 3);
        // Of a hundred steps three checkpoints come, at 40, at 80 and at the end.
        assert_eq!(bytes(1000, 40), bytes(3, 1));
    }
}
