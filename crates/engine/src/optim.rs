//! The optimiser's update of one parameter.

use burn::tensor::Tensor;

use crate::Ops;

/// What one step of AdamW needs to know besides the numbers it updates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// The learning rate of this step, after any schedule.
    pub lr: f64,
    /// Decay of the mean of gradients; 0.9 is customary.
    pub beta1: f64,
    /// Decay of the mean of squared gradients; 0.999 is customary.
    pub beta2: f64,
    /// Added to the root of the second mean, outside the root.
    pub epsilon: f64,
    /// Decoupled decay: the parameter shrinks by `lr * weight_decay` of itself.
    pub weight_decay: f64,
    /// Which step this is, counted from 1.
    pub step: u64,
}

impl AdamWStep {
    /// `1 - beta1^step` and `1 - beta2^step`.
    ///
    /// # Panics
    ///
    /// If `step` is 0: steps are counted from 1, and the corrections would be 0.
    #[must_use]
    #[track_caller]
    pub fn corrections(&self) -> (f64, f64) {
        assert!(self.step > 0, "AdamW steps are counted from 1");
        let correction = |beta: f64| 1.0 - power(beta, self.step);
        (correction(self.beta1), correction(self.beta2))
    }
}

/// `base^exponent` by squaring: products only, so the same bits on every platform.
fn power(base: f64, exponent: u64) -> f64 {
    let (mut result, mut square, mut rest) = (1.0, base, exponent);
    while rest > 0 {
        if rest & 1 == 1 {
            result *= square;
        }
        square *= square;
        rest >>= 1;
    }
    result
}

/// One step of AdamW on one parameter: the new parameter and its two means.
///
/// In PyTorch's convention: `p -= lr * weight_decay * p`, then
/// `m = beta1 m + (1 - beta1) g`, `v = beta2 v + (1 - beta2) g^2` and
/// `p -= lr * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)`.
///
/// On the CPU this is one pass over the four arrays, in place where the caller gives up its own.
///
/// # Panics
///
/// If the shapes differ or `step.step` is 0.
///
/// # Source
///
/// Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, algorithm 2.
///
/// # Example
///
/// ```
/// use mnemoscope_engine::{burn::tensor::Tensor, device::{Cpu, cpu}, optim::{AdamWStep, adamw_step}};
///
/// let step = AdamWStep { lr: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 0.0, weight_decay: 0.0, step: 1 };
/// let param = Tensor::<Cpu, 1>::from_data([1.0], &cpu());
/// let grad = Tensor::from_data([-7.0], &cpu());
/// let (param, ..) = adamw_step(param.clone(), grad, param.zeros_like(), param.zeros_like(), &step);
/// // Whatever its size, the first gradient moves a parameter by one learning rate.
/// assert!((param.into_scalar() - 1.1).abs() < 1e-6);
/// ```
#[must_use]
#[track_caller]
pub fn adamw_step<B: Ops, const D: usize>(
    param: Tensor<B, D>,
    grad: Tensor<B, D>,
    m: Tensor<B, D>,
    v: Tensor<B, D>,
    step: &AdamWStep,
) -> (Tensor<B, D>, Tensor<B, D>, Tensor<B, D>) {
    assert_eq!(param.dims(), grad.dims(), "the gradient does not have the parameter's shape");
    assert_eq!(param.dims(), m.dims(), "m does not have the parameter's shape");
    assert_eq!(param.dims(), v.dims(), "v does not have the parameter's shape");
    B::adamw(param, grad, m, v, step)
}

/// The sum of the squares of all entries, for a gradient's norm.
///
/// On the CPU it is added in `f64` in a fixed order. It is not finite exactly when an entry is not
/// (squares of `f32` do not overflow `f64`), so it also tells whether a gradient may be used.
///
/// # Example
///
/// ```
/// use mnemoscope_engine::{burn::tensor::Tensor, device::{Cpu, cpu}, optim::sum_squares};
///
/// assert_eq!(sum_squares(Tensor::<Cpu, 1>::from_data([3.0, 4.0], &cpu())), 25.0);
/// ```
#[must_use]
pub fn sum_squares<B: Ops, const D: usize>(x: Tensor<B, D>) -> f64 {
    B::sum_squares(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_agree_with_the_library() {
        for (beta, step) in [(0.9, 1), (0.999, 500), (0.95, 12_345)] {
            let expected = f64::powf(beta, step as f64);
            assert!((power(beta, step) - expected).abs() <= 1e-12, "{beta}^{step}");
        }
    }
}
