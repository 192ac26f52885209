//! One pass over a parameter: AdamW, and descent with momentum.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{cubes, ints, one_each, room};
use crate::optim::{AdamW, Sgd};

/// The largest finite number of single precision.
const LARGEST: f32 = f32::MAX;

/// Numbers of a step of AdamW, in the order its kernel reads them: what gradients are multiplied by, the two betas and
/// `1 -` each, the correction of squares, epsilon, and by what the parameter and `m / (sqrt(v) + epsilon)` are multiplied.
const N_ADAMW: usize = 9;

/// The numbers of step `step` by a rule.
pub(crate) fn adamw_numbers(rule: &AdamW, step: u64, grad_scale: f64) -> [f32; N_ADAMW] {
    let (correction1, correction2) = rule.corrections(step);
    let AdamW { lr, beta1, beta2, epsilon, weight_decay } = *rule;
    let [decay, rate] = [1.0 - lr * weight_decay, lr / correction1];
    let numbers =
        [grad_scale, beta1, beta2, 1.0 - beta1, 1.0 - beta2, correction2, epsilon, decay, rate];
    numbers.map(|number| number as f32)
}

/// Parameters that one launch moves at most; fewer, where a kernel may not see so many arrays.
const TOGETHER: usize = 8;
/// Units of a cube of such a launch.
const DIM: usize = 256;

/// Number `i` of one parameter.
#[cube]
fn adamw_of(
    param: &Array<f32>,
    grad: &Array<f32>,
    m: &Array<f32>,
    v: &Array<f32>,
    new_param: &mut Array<f32>,
    new_m: &mut Array<f32>,
    new_v: &mut Array<f32>,
    beyond: &mut Array<i32>,
    numbers: &Array<f32>,
    which: usize,
    i: usize,
    n_members: usize,
) {
    if i < new_param.len() {
        let member = i / (new_param.len() / n_members);
        let at = member * N_ADAMW;
        let grad = grad[i] * numbers[at];
        let mean = m[i] * numbers[at + 1] + grad * numbers[at + 3];
        let square = v[i] * numbers[at + 2] + grad * grad * numbers[at + 4];
        let root = f32::sqrt(square / numbers[at + 5]) + numbers[at + 6];
        let moved = param[i] * numbers[at + 7] - numbers[at + 8] * mean / root;
        new_m[i] = mean;
        new_v[i] = square;
        new_param[i] = moved;
        // No comparison holds of what is no number.
        let within =
            f32::abs(mean) <= LARGEST && f32::abs(square) <= LARGEST && f32::abs(moved) <= LARGEST;
        if !within {
            beyond[which * n_members + member] = 1i32;
        }
    }
}

#[cube(launch)]
fn adamw_kernel(
    params: &Sequence<Array<f32>>,
    grads: &Sequence<Array<f32>>,
    ms: &Sequence<Array<f32>>,
    vs: &Sequence<Array<f32>>,
    new_params: &mut Sequence<Array<f32>>,
    new_ms: &mut Sequence<Array<f32>>,
    new_vs: &mut Sequence<Array<f32>>,
    beyond: &mut Array<i32>,
    numbers: &Array<f32>,
    cubes: &Array<i32>,
    first_which: u32,
    first_cube: u32,
    n_members: u32,
) {
    let cube = CUBE_POS + first_cube as usize;
    #[unroll]
    for j in 0..params.len() {
        let which = first_which as usize + j;
        let first = cubes[which] as usize;
        if cube >= first && cube < cubes[which + 1] as usize {
            let i = (cube - first) * DIM + UNIT_POS_X as usize;
            adamw_of(
                &params[j],
                &grads[j],
                &ms[j],
                &vs[j],
                new_params.index_mut(j),
                new_ms.index_mut(j),
                new_vs.index_mut(j),
                beyond,
                numbers,
                which,
                i,
                n_members as usize,
            );
        }
    }
}

/// The members of an update: the numbers of each one's step, one member's behind another's, and where it says that
/// something is not finite.
pub(crate) struct Members<R: CubeRuntime> {
    pub(crate) n: usize,
    pub(crate) numbers: CubeTensor<R>,
    /// `[params * members]`
    pub(crate) beyond: CubeTensor<R>,
}

/// Several arrays of a launch.
fn arrays<'t, R: CubeRuntime>(
    tensors: impl Iterator<Item = &'t CubeTensor<R>>,
) -> SequenceArg<R, Array<f32>> {
    let mut arrays = SequenceArg::new();
    tensors.for_each(|tensor| arrays.push(tensor.clone().into_array_arg()));
    arrays
}

/// What one step makes of each parameter, given as itself, gradient, `m` and `v`: the parameter, `m` and `v`. Where a number is
/// not finite, the place of the parameter and the member in `beyond` is set.
pub(crate) fn adamw<R: CubeRuntime>(
    params: &[[CubeTensor<R>; 4]],
    members: &Members<R>,
) -> Vec<[CubeTensor<R>; 3]> {
    let client = members.beyond.client.clone();
    let size = |param: &[CubeTensor<R>; 4]| param[0].meta.num_elements();
    // In which cube each parameter begins.
    let mut first_cubes = vec![0];
    for param in params {
        first_cubes.push(first_cubes[first_cubes.len() - 1] + size(param).div_ceil(DIM));
    }
    let on_device: Vec<i32> = first_cubes.iter().map(|&cube| cube as i32).collect();
    let on_device = ints(&on_device, &members.beyond);
    // Seven of each parameter, and three of all.
    let n_together = (client.properties().hardware.max_bindings as usize - 3) / 7;
    let mut all_moved = Vec::with_capacity(params.len());
    let mut first = 0;
    for group in params.chunks(n_together.clamp(1, TOGETHER)) {
        let like = &members.numbers;
        let moved: Vec<[CubeTensor<R>; 3]> =
            group.iter().map(|it| [(); 3].map(|()| room(like, [size(it)], DType::F32))).collect();
        let of = |row: usize| arrays(group.iter().map(move |param| &param[row]));
        let into = |row: usize| arrays(moved.iter().map(move |moved| &moved[row]));
        adamw_kernel::launch::<R>(
            &client,
            cubes(first_cubes[first + group.len()] - first_cubes[first]),
            CubeDim::new_1d(DIM as u32),
            of(0),
            of(1),
            of(2),
            of(3),
            into(0),
            into(1),
            into(2),
            members.beyond.clone().into_array_arg(),
            members.numbers.clone().into_array_arg(),
            on_device.clone().into_array_arg(),
            first as u32,
            first_cubes[first] as u32,
            members.n as u32,
        );
        first += group.len();
        all_moved.extend(moved);
    }
    all_moved
}

/// Numbers of a step of descent, in the order its kernel reads them: what gradients are multiplied by, the decay, by what
/// the sum and the gradient are multiplied to give the new sum, by what the new sum and the gradient are to give the
/// direction, and the rate.
const N_SGD: usize = 7;

/// The numbers of step `step` by a rule.
pub(crate) fn sgd_numbers(rule: &Sgd, step: u64, grad_scale: f64) -> [f32; N_SGD] {
    let (sum, grad) = rule.into_sum(step);
    let (of_sum, of_grad) = rule.into_direction();
    let numbers = [grad_scale, rule.weight_decay, sum, grad, of_sum, of_grad, rule.lr];
    numbers.map(|number| number as f32)
}

#[cube(launch)]
fn sgd_kernel(
    param: &Array<f32>,
    grad: &Array<f32>,
    sum: &Array<f32>,
    new_param: &mut Array<f32>,
    new_sum: &mut Array<f32>,
    beyond: &mut Array<i32>,
    numbers: &Array<f32>,
    which: u32,
    per_member: u32,
) {
    let i = ABSOLUTE_POS;
    if i < new_param.len() {
        let member = i / per_member as usize;
        let at = member * N_SGD;
        let grad = grad[i] * numbers[at] + numbers[at + 1] * param[i];
        let sum_in_sum = numbers[at + 2];
        let grad_in_direction = numbers[at + 5];
        // What has no weight is not multiplied, or what is not finite would stay.
        let mut next = numbers[at + 3] * grad;
        if sum_in_sum != 0.0f32 {
            next += sum_in_sum * sum[i];
        }
        let mut direction = numbers[at + 4] * next;
        if grad_in_direction != 0.0f32 {
            direction += grad_in_direction * grad;
        }
        let moved = param[i] - numbers[at + 6] * direction;
        new_sum[i] = next;
        new_param[i] = moved;
        // No comparison holds of what is no number.
        let within = f32::abs(next) <= LARGEST && f32::abs(moved) <= LARGEST;
        if !within {
            beyond[which as usize + member] = 1i32;
        }
    }
}

/// What one step makes of a parameter: the parameter and the sum; otherwise as [`adamw`].
pub(crate) fn sgd<R: CubeRuntime>(
    [param, grad, sum]: [CubeTensor<R>; 3],
    which: usize,
    members: &Members<R>,
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
        members.beyond.clone().into_array_arg(),
        members.numbers.clone().into_array_arg(),
        (which * members.n) as u32,
        (n / members.n).max(1) as u32,
    );
    moved
}
