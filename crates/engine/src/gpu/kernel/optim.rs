//! One pass over a parameter: AdamW, and descent with momentum.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{one_each, room};
use crate::optim::{AdamW, Sgd};

/// The largest finite number of single precision.
const LARGEST: f32 = f32::MAX;

/// The numbers of a step of AdamW.
#[derive(Clone, Copy)]
pub(crate) struct AdamWStep {
    pub(crate) grad_scale: f32,
    pub(crate) betas: [f32; 2],
    /// `1 - beta` each.
    pub(crate) rest: [f32; 2],
    pub(crate) correction2: f32,
    pub(crate) epsilon: f32,
    /// By what the parameter is multiplied.
    pub(crate) decay: f32,
    /// By what `m / (sqrt(v) + epsilon)` is.
    pub(crate) rate: f32,
}

impl AdamWStep {
    /// Step `step` by a rule.
    pub(crate) fn new(rule: &AdamW, step: u64, grad_scale: f64) -> Self {
        let (correction1, correction2) = rule.corrections(step);
        Self {
            grad_scale: grad_scale as f32,
            betas: [rule.beta1 as f32, rule.beta2 as f32],
            rest: [(1.0 - rule.beta1) as f32, (1.0 - rule.beta2) as f32],
            correction2: correction2 as f32,
            epsilon: rule.epsilon as f32,
            decay: (1.0 - rule.lr * rule.weight_decay) as f32,
            rate: (rule.lr / correction1) as f32,
        }
    }
}

#[cube(launch)]
fn adamw_kernel(
    param: &Array<f32>,
    grad: &Array<f32>,
    m: &Array<f32>,
    v: &Array<f32>,
    new_param: &mut Array<f32>,
    new_m: &mut Array<f32>,
    new_v: &mut Array<f32>,
    beyond: &mut Array<i32>,
    which: u32,
    grad_scale: f32,
    beta1: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
    correction2: f32,
    epsilon: f32,
    decay: f32,
    rate: f32,
) {
    let i = ABSOLUTE_POS;
    if i < new_param.len() {
        let grad = grad[i] * grad_scale;
        let mean = m[i] * beta1 + grad * rest1;
        let square = v[i] * beta2 + grad * grad * rest2;
        let moved = param[i] * decay - rate * mean / (f32::sqrt(square / correction2) + epsilon);
        new_m[i] = mean;
        new_v[i] = square;
        new_param[i] = moved;
        // No comparison holds of what is no number.
        let within =
            f32::abs(mean) <= LARGEST && f32::abs(square) <= LARGEST && f32::abs(moved) <= LARGEST;
        if !within {
            beyond[which as usize] = 1i32;
        }
    }
}

/// What one step makes of a parameter: the parameter, `m` and `v`. Where a number is not finite, place `which` of
/// `beyond` is set.
pub(crate) fn adamw<R: CubeRuntime>(
    [param, grad, m, v]: [CubeTensor<R>; 4],
    beyond: &CubeTensor<R>,
    which: usize,
    step: &AdamWStep,
) -> [CubeTensor<R>; 3] {
    let n = param.meta.num_elements();
    let moved = [(); 3].map(|()| room(&param, [n], DType::F32));
    let (client, (count, dim)) = (param.client.clone(), one_each(n));
    adamw_kernel::launch::<R>(
        &client,
        count,
        dim,
        param.into_array_arg(),
        grad.into_array_arg(),
        m.into_array_arg(),
        v.into_array_arg(),
        moved[0].clone().into_array_arg(),
        moved[1].clone().into_array_arg(),
        moved[2].clone().into_array_arg(),
        beyond.clone().into_array_arg(),
        which as u32,
        step.grad_scale,
        step.betas[0],
        step.betas[1],
        step.rest[0],
        step.rest[1],
        step.correction2,
        step.epsilon,
        step.decay,
        step.rate,
    );
    moved
}

/// The numbers of a step of descent.
#[derive(Clone, Copy)]
pub(crate) struct SgdStep {
    pub(crate) grad_scale: f32,
    pub(crate) weight_decay: f32,
    /// By what the sum and the gradient are multiplied to give the new sum.
    pub(crate) into_sum: [f32; 2],
    /// By what the new sum and the gradient are multiplied to give the direction.
    pub(crate) into_direction: [f32; 2],
    pub(crate) rate: f32,
}

impl SgdStep {
    /// Step `step` by a rule.
    pub(crate) fn new(rule: &Sgd, step: u64, grad_scale: f64) -> Self {
        let (sum, grad) = rule.into_sum(step);
        let (of_sum, of_grad) = rule.into_direction();
        Self {
            grad_scale: grad_scale as f32,
            weight_decay: rule.weight_decay as f32,
            into_sum: [sum as f32, grad as f32],
            into_direction: [of_sum as f32, of_grad as f32],
            rate: rule.lr as f32,
        }
    }
}

#[cube(launch)]
fn sgd_kernel(
    param: &Array<f32>,
    grad: &Array<f32>,
    sum: &Array<f32>,
    new_param: &mut Array<f32>,
    new_sum: &mut Array<f32>,
    beyond: &mut Array<i32>,
    which: u32,
    grad_scale: f32,
    weight_decay: f32,
    sum_in_sum: f32,
    grad_in_sum: f32,
    sum_in_direction: f32,
    grad_in_direction: f32,
    rate: f32,
) {
    let i = ABSOLUTE_POS;
    if i < new_param.len() {
        let grad = grad[i] * grad_scale + weight_decay * param[i];
        // What has no weight is not multiplied, or what is not finite would stay.
        let mut next = grad_in_sum * grad;
        if sum_in_sum != 0.0f32 {
            next += sum_in_sum * sum[i];
        }
        let mut direction = sum_in_direction * next;
        if grad_in_direction != 0.0f32 {
            direction += grad_in_direction * grad;
        }
        let moved = param[i] - rate * direction;
        new_sum[i] = next;
        new_param[i] = moved;
        // No comparison holds of what is no number.
        let within = f32::abs(next) <= LARGEST && f32::abs(moved) <= LARGEST;
        if !within {
            beyond[which as usize] = 1i32;
        }
    }
}

/// What one step makes of a parameter: the parameter and the sum; `beyond` as in [`adamw`].
pub(crate) fn sgd<R: CubeRuntime>(
    [param, grad, sum]: [CubeTensor<R>; 3],
    beyond: &CubeTensor<R>,
    which: usize,
    step: &SgdStep,
) -> [CubeTensor<R>; 2] {
    let n = param.meta.num_elements();
    let moved = [(); 2].map(|()| room(&param, [n], DType::F32));
    let (client, (count, dim)) = (param.client.clone(), one_each(n));
    sgd_kernel::launch::<R>(
        &client,
        count,
        dim,
        param.into_array_arg(),
        grad.into_array_arg(),
        sum.into_array_arg(),
        moved[0].clone().into_array_arg(),
        moved[1].clone().into_array_arg(),
        beyond.clone().into_array_arg(),
        which as u32,
        step.grad_scale,
        step.weight_decay,
        step.into_sum[0],
        step.into_sum[1],
        step.into_direction[0],
        step.into_direction[1],
        step.rate,
    );
    moved
}
