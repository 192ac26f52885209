//! How long training will take, by trying.

use mnemoscope_engine::device::{Device, OnDevice, Precision};
use mnemoscope_engine::{AutodiffOps, Ops, burn};

use crate::Error;
use crate::clock::Clock;
use crate::plan::Plan;
use crate::run::pool;
use crate::train::Trainer;

/// Seconds that one training step of a plan takes now, on so many threads.
///
/// Two steps are taken, and the second counts: the first finds no memory to use again, and on a GPU compiles its
/// kernels. Nothing is recorded.
///
/// # Errors
///
/// As [`Trainer::step`]; `Machine`, if the threads cannot be started or there is no such device.
pub fn secs_per_step(
    plan: &Plan,
    n_threads: usize,
    device: Device,
    clock: &dyn Clock,
) -> Result<f64, Error> {
    pool(n_threads)?.install(|| {
        let precision = plan.train.precision.of_products();
        device.run_in(precision, Pacing { plan, clock })?
    })
}

/// A few steps to be taken on some device.
struct Pacing<'a> {
    plan: &'a Plan,
    clock: &'a dyn Clock,
}

impl OnDevice for Pacing<'_> {
    type Output = Result<f64, Error>;

    fn on<A: AutodiffOps>(self, device: &burn::tensor::Device<A>) -> Self::Output {
        let mut trainer = Trainer::<A>::new(self.plan, device);
        let mut secs = 0.0;
        for _ in 0..self.plan.train.n_steps.min(2) {
            let from = self.clock.elapsed_secs();
            trainer.step()?;
            secs = self.clock.elapsed_secs() - from;
        }
        Ok(secs)
    }
}

/// Multiplications and additions of a product of two square matrices that a device does in a second, as it is used
/// here.
///
/// # Arguments
///
/// - `n`: rows and columns of both.
///
/// # Errors
///
/// `Machine`, if there is no such device, it has no such products, or the threads cannot be started.
pub fn product_rate(
    n: usize,
    n_threads: usize,
    device: Device,
    precision: Precision,
    clock: &dyn Clock,
) -> Result<f64, Error> {
    Ok(pool(n_threads)?.install(|| device.run_in(precision, Multiplying { n, clock }))?)
}

/// Products to be timed on some device.
struct Multiplying<'a> {
    n: usize,
    clock: &'a dyn Clock,
}

impl OnDevice for Multiplying<'_> {
    type Output = f64;

    fn on<A: AutodiffOps>(self, device: &burn::tensor::Device<A>) -> f64 {
        const ENOUGH_SECS: f64 = 0.2;
        let matrix = || burn::tensor::Tensor::<A::InnerBackend, 2>::ones([self.n, self.n], device);
        let (x, weight) = (matrix().mul_scalar(1.0 / self.n as f64), matrix());
        // Each product waits for the one before it, and reading one number for the last of them.
        let secs_of = |n_products: usize| {
            let from = self.clock.elapsed_secs();
            let y = (0..n_products)
                .fold(x.clone(), |y, _| <A::InnerBackend as Ops>::linear(y, weight.clone(), None));
            drop(y.slice([0..1, 0..1]).into_data());
            self.clock.elapsed_secs() - from
        };
        // The first ones compile, and find out which kernel is the best.
        secs_of(2);
        let mut n_products = 1;
        let mut secs = secs_of(n_products);
        while secs < ENOUGH_SECS && n_products < 1 << 12 {
            n_products *= 2;
            secs = secs_of(n_products);
        }
        let n_flops = 2.0 * (self.n as f64).powi(3) * n_products as f64;
        if secs > 0.0 { n_flops / secs } else { 0.0 }
    }
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
        assert_eq!(
            secs_per_step(&plan, 1, Device::Cpu, &clock).unwrap().to_bits(),
            0.0_f64.to_bits()
        );
    }
}
