//! How long training will take, by trying.

use mnemoscope_engine::device::{CpuAutodiff, cpu};

use crate::Error;
use crate::clock::Clock;
use crate::plan::Plan;
use crate::run::pool;
use crate::train::Trainer;

/// Seconds that one training step of a plan takes now, on so many threads.
///
/// Two steps are taken, and the second counts: the first finds no memory to use again. Nothing is
/// recorded.
///
/// # Errors
///
/// As [`Trainer::step`]; `Machine`, if the threads cannot be started.
pub fn secs_per_step(plan: &Plan, n_threads: usize, clock: &dyn Clock) -> Result<f64, Error> {
    pool(n_threads)?.install(|| {
        let mut trainer = Trainer::<CpuAutodiff>::new(plan, &cpu());
        let mut secs = 0.0;
        for _ in 0..plan.train.n_steps.min(2) {
            let from = clock.elapsed_secs();
            trainer.step()?;
            secs = clock.elapsed_secs() - from;
        }
        Ok(secs)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::StoppedClock;
    use crate::plan::resolve;

    #[test]
    fn a_plan_of_one_step_can_be_timed() {
        let spec = "model = { name = 'lstm', d_model = 4 }\ntask.seq_len = 8\ntrain.n_steps = 1";
        let plan = resolve(spec, None, &[], None).unwrap().arms.remove(0).plans.remove(0);
        let clock = StoppedClock { unix_secs: 0 };
        assert_eq!(secs_per_step(&plan, 1, &clock).unwrap().to_bits(), 0.0_f64.to_bits());
    }
}
