//! The optimiser's update: AdamW, and gradient descent with momentum, of all parameters at once.

use burn::tensor::{Tensor, backend::Backend};

use crate::{Ops, cohort};

/// The rule by which a parameter moves against its gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// By running means of the gradients and of their squares.
    AdamW(AdamW),
    /// By a running sum of the gradients.
    Sgd(Sgd),
}

impl Rule {
    /// The names of the rows of numbers that the rule keeps of each parameter between two steps.
    #[must_use]
    pub fn kept(&self) -> &'static [&'static str] {
        match self {
            Self::AdamW(_) => &["m", "v"],
            Self::Sgd(_) => &["momentum"],
        }
    }
}

/// AdamW, in PyTorch's convention.
///
/// `p -= lr * weight_decay * p`, then `m = beta1 m + (1 - beta1) g`, `v = beta2 v + (1 - beta2) g^2`
/// and, at step `t`, `p -= lr * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)`.
///
/// # Source
///
/// Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, algorithm 2, as in
/// `torch.optim.AdamW`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// The learning rate of this step, after any schedule.
    pub lr: f64,
    /// Decay of the mean of gradients; 0.9 is customary.
    pub beta1: f64,
    /// Decay of the mean of squared gradients; 0.999 is customary.
    pub beta2: f64,
    /// Added to the root of the second mean, outside the root; 1e-8 is customary.
    pub epsilon: f64,
    /// Decoupled decay: the parameter shrinks by `lr * weight_decay` of itself.
    pub weight_decay: f64,
}

impl AdamW {
    /// `1 - beta1^step` and `1 - beta2^step`.
    pub(crate) fn corrections(&self, step: u64) -> (f64, f64) {
        let correction = |beta: f64| 1.0 - power(beta, step);
        (correction(self.beta1), correction(self.beta2))
    }
}

/// Stochastic gradient descent with momentum, in PyTorch's convention.
///
/// `g += weight_decay * p`, then `b = momentum * b + (1 - dampening) * g`, where the first step sets
/// `b = g`, and `p -= lr * b`; with Nesterov's momentum `p -= lr * (g + momentum * b)`. Without
/// momentum `b = g`.
///
/// # Source
///
/// Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in deep
/// learning", ICML 2013, as in `torch.optim.SGD`, which multiplies by the learning rate last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// The learning rate of this step, after any schedule.
    pub lr: f64,
    /// What is left of the running sum after a step; 0.9 is customary, 0 keeps no sum.
    pub momentum: f64,
    /// The share of each gradient after the first that is left out of the sum; 0 is customary.
    pub dampening: f64,
    /// Whether to look ahead by one step of momentum.
    pub nesterov: bool,
    /// Coupled decay: so many times the parameter is added to its gradient.
    pub weight_decay: f64,
}

impl Sgd {
    /// By what the sum and the gradient are multiplied to give the new sum.
    pub(crate) fn into_sum(self, step: u64) -> (f64, f64) {
        let starts = step == 1 || self.momentum <= 0.0;
        if starts { (0.0, 1.0) } else { (self.momentum, 1.0 - self.dampening) }
    }

    /// By what the new sum and the gradient are multiplied to give the direction of the step.
    pub(crate) fn into_direction(self) -> (f64, f64) {
        if self.nesterov { (self.momentum, 1.0) } else { (1.0, 0.0) }
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

/// A parameter in an update: its numbers, their gradient, and what the rule keeps of earlier ones.
///
/// # Shapes
///
/// Each is the `[n_values]` of the parameter in a row; an update does not ask for axes.
#[derive(Clone, Debug)]
pub struct Learned<B: Backend> {
    /// The parameter.
    pub param: Tensor<B, 1>,
    /// Its gradient.
    pub grad: Tensor<B, 1>,
    /// One row for each of [`Rule::kept`]; zeros before the first step.
    pub kept: Vec<Tensor<B, 1>>,
}

/// One step of all parameters of a model.
///
/// On the CPU this is one parallel pass over everything, in place where the caller gives up its own.
///
/// # Arguments
///
/// - `step`: which step this is, counted from 1.
/// - `grad_scale`: what every gradient is multiplied by before anything else; below 1 where the
///   gradients together are clipped.
///
/// # Returns
///
/// The parameters, with their gradients as they were, and for each whether all numbers that the step
/// gave it and what is kept of it are finite.
///
/// # Panics
///
/// If the rows of a parameter differ in length, if there are not as many as the rule keeps, or if
/// `step` is 0.
///
/// # Example
///
/// ```
/// use mnemoscope_engine::{burn::tensor::Tensor, device::{Cpu, cpu}};
/// use mnemoscope_engine::optim::{AdamW, Learned, Rule, Sgd, update};
///
/// let row = |x: f32| Tensor::<Cpu, 1>::from_data([x], &cpu());
/// let learned = |n_kept| vec![Learned { param: row(1.0), grad: row(-7.0), kept: vec![row(0.0); n_kept] }];
///
/// // Whatever its size, the first gradient moves a parameter by one learning rate of AdamW.
/// let adamw = AdamW { lr: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 0.0, weight_decay: 0.0 };
/// let (mut moved, finite) = update(learned(2), &Rule::AdamW(adamw), 1, 1.0);
/// assert!((moved.remove(0).param.into_scalar() - 1.1).abs() < 1e-6);
/// assert_eq!(finite, [true]);
///
/// // Of SGD by one learning rate times itself; here the gradient was clipped to a tenth.
/// let sgd = Sgd { lr: 0.1, momentum: 0.9, dampening: 0.0, nesterov: false, weight_decay: 0.0 };
/// let (mut moved, _) = update(learned(1), &Rule::Sgd(sgd), 1, 0.1);
/// assert!((moved.remove(0).param.into_scalar() - 1.07).abs() < 1e-6);
/// ```
#[must_use]
#[track_caller]
pub fn update<B: Ops>(
    params: Vec<Learned<B>>,
    rule: &Rule,
    step: u64,
    grad_scale: f64,
) -> (Vec<Learned<B>>, Vec<bool>) {
    check_update(&params, rule, step);
    B::update(params, rule, step, grad_scale)
}

/// Stops where what is to be updated does not fit the rule.
#[track_caller]
fn check_update<B: Ops>(params: &[Learned<B>], rule: &Rule, step: u64) {
    assert!(step > 0, "steps are counted from 1");
    for Learned { param, grad, kept } in params {
        let n_values = param.dims();
        assert_eq!(grad.dims(), n_values, "the gradient is not as long as its parameter");
        assert_eq!(kept.len(), rule.kept().len(), "the rule keeps {:?}", rule.kept());
        for (row, name) in kept.iter().zip(rule.kept()) {
            assert_eq!(row.dims(), n_values, "`{name}` is not as long as its parameter");
        }
    }
}

/// How one member of a cohort steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Its rule; those of a cohort are of one kind.
    pub rule: Rule,
    /// What its gradients are multiplied by, as in [`update`].
    pub grad_scale: f64,
}

/// [`update`] of several models whose parameters stand one behind another, each at its own pace.
///
/// # Returns
///
/// As [`update`], with as many answers as there are members for each parameter: those of the first parameter, then those
/// of the second.
///
/// # Panics
///
/// As [`update`]; if the rules are not of one kind, or a parameter cannot be divided among the members.
///
/// # Example
///
/// ```
/// use mnemoscope_engine::{burn::tensor::Tensor, device::{Cpu, cpu}};
/// use mnemoscope_engine::optim::{Learned, Pace, Rule, Sgd, update_each};
///
/// let row = |x: f32| Tensor::<Cpu, 1>::from_data([x, x], &cpu());
/// let pace = |lr: f64| {
///     let rule = Sgd { lr, momentum: 0.0, dampening: 0.0, nesterov: false, weight_decay: 0.0 };
///     Pace { rule: Rule::Sgd(rule), grad_scale: 1.0 }
/// };
/// let learned = vec![Learned { param: row(1.0), grad: row(1.0), kept: vec![row(0.0)] }];
/// let (mut moved, finite) = update_each(learned, &[pace(0.25), pace(0.5)], 1);
/// assert_eq!(moved.remove(0).param.into_data().to_vec::<f32>().unwrap(), [0.75, 0.5]);
/// assert_eq!(finite, [true, true]);
/// ```
#[must_use]
#[track_caller]
pub fn update_each<B: Ops>(
    params: Vec<Learned<B>>,
    paces: &[Pace],
    step: u64,
) -> (Vec<Learned<B>>, Vec<bool>) {
    let first = &paces.first().expect("a cohort has a member").rule;
    let one_kind =
        |pace: &Pace| std::mem::discriminant(&pace.rule) == std::mem::discriminant(first);
    assert!(paces.iter().all(one_kind), "the rules of a cohort are not of one kind");
    check_update(&params, first, step);
    for learned in &params {
        cohort::members("a parameter of a cohort", learned.param.dims()[0], paces.len());
    }
    match paces {
        [Pace { rule, grad_scale }] => B::update(params, rule, step, *grad_scale),
        _ => B::update_each(params, paces, step),
    }
}

/// [`sums_of_squares`] of the numbers of each of `n_members`, which stand one behind another: those of the first array,
/// then those of the second.
#[must_use]
pub fn sums_of_squares_each<B: Ops>(arrays: Vec<Tensor<B, 1>>, n_members: usize) -> Vec<f64> {
    if n_members == 1 || arrays.is_empty() {
        return sums_of_squares(arrays);
    }
    let sums = arrays.into_iter().map(|x| {
        let n = x.dims()[0];
        let x = x.reshape([n_members, n / n_members]);
        (x.clone() * x).sum_dim(1).reshape([n_members])
    });
    Tensor::cat(sums.collect(), 0).into_data().iter().collect()
}

/// Of each array the sum of the squares of all entries, for a gradient's norm.
///
/// On the CPU it is one parallel pass, added in `f64` in an order that the lengths alone fix. A sum is
/// not finite exactly when an entry is not (squares of `f32` do not overflow `f64`), so it also tells
/// whether a gradient may be used.
///
/// # Example
///
/// ```
/// use mnemoscope_engine::{burn::tensor::Tensor, device::{Cpu, cpu}, optim::sums_of_squares};
///
/// let row = |x: [f32; 2]| Tensor::<Cpu, 1>::from_data(x, &cpu());
/// assert_eq!(sums_of_squares(vec![row([3.0, 4.0]), row([0.0, 2.0])]), [25.0, 4.0]);
/// ```
#[must_use]
pub fn sums_of_squares<B: Ops>(arrays: Vec<Tensor<B, 1>>) -> Vec<f64> {
    B::sums_of_squares(arrays)
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
