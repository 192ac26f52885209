//! The optimiser's update, and the norm of a gradient: all parameters in one parallel pass.
//!
//! Parameters are cut into chunks and the chunks of all of them are one list, so that a model of many
//! small parameters costs no more than one of few large ones.

use rayon::prelude::*;

use super::simd::{fma, multiversion};
use crate::optim::{AdamW, Sgd};

/// Numbers of one task.
const CHUNK: usize = 1 << 14;

/// The bits of infinity; those of a larger magnitude are not numbers.
const INFINITE: u32 = 0x7f80_0000;

/// The arrays of one parameter, or the same part of each: `N` are kept by the optimiser.
#[derive(Debug)]
pub(crate) struct Part<'a, const N: usize> {
    pub(crate) param: &'a mut [f32],
    pub(crate) grad: &'a [f32],
    pub(crate) kept: [&'a mut [f32]; N],
}

impl<'a, const N: usize> Part<'a, N> {
    fn chunks(self) -> impl Iterator<Item = Self> {
        let mut kept = self.kept.map(|row| row.chunks_mut(CHUNK));
        self.param.chunks_mut(CHUNK).zip(self.grad.chunks(CHUNK)).map(move |(param, grad)| {
            let kept = kept.each_mut().map(|rows| rows.next().expect("rows are equally long"));
            Part { param, grad, kept }
        })
    }
}

/// Applies `to_chunk` to all chunks of all items side by side: the index of the item and what came of
/// it, in the order of the items and of their chunks.
fn side_by_side<C: Send, T: Send>(
    items: impl IntoIterator<Item = impl Iterator<Item = C>>,
    to_chunk: impl Fn(C) -> T + Sync,
) -> Vec<(usize, T)> {
    let items = items.into_iter().enumerate();
    let chunks: Vec<(usize, C)> =
        items.flat_map(|(idx, chunks)| chunks.map(move |chunk| (idx, chunk))).collect();
    chunks.into_par_iter().map(|(idx, chunk)| (idx, to_chunk(chunk))).collect()
}

/// Moves all parameters by `to_chunk`, which says whether all that it wrote is finite.
fn moved<const N: usize>(
    params: Vec<Part<'_, N>>,
    to_chunk: impl Fn(Part<'_, N>) -> bool + Sync,
) -> Vec<bool> {
    let mut finite = vec![true; params.len()];
    for (idx, chunk) in side_by_side(params.into_iter().map(Part::chunks), to_chunk) {
        finite[idx] &= chunk;
    }
    finite
}

/// One step of AdamW in place; of each parameter, whether all numbers written are finite.
pub(crate) fn adamw(
    params: Vec<Part<'_, 2>>,
    rule: &AdamW,
    step: u64,
    grad_scale: f64,
) -> Vec<bool> {
    let rates = AdamWRates::of(rule, step, grad_scale);
    moved(params, |part| adamw_chunk(part, rates))
}

/// The numbers of a step, in the parameters' precision.
#[derive(Clone, Copy)]
struct AdamWRates {
    grad_scale: f32,
    keep: f32,
    beta1: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
    size: f32,
    root: f32,
    epsilon: f32,
}

impl AdamWRates {
    fn of(rule: &AdamW, step: u64, grad_scale: f64) -> Self {
        let (correction1, correction2) = rule.corrections(step);
        Self {
            grad_scale: grad_scale as f32,
            keep: (1.0 - rule.lr * rule.weight_decay) as f32,
            beta1: rule.beta1 as f32,
            beta2: rule.beta2 as f32,
            rest1: (1.0 - rule.beta1) as f32,
            rest2: (1.0 - rule.beta2) as f32,
            size: (rule.lr / correction1) as f32,
            root: (1.0 / correction2.sqrt()) as f32,
            epsilon: rule.epsilon as f32,
        }
    }
}

multiversion! {
    fn adamw_chunk(part: Part<'_, 2>, rates: AdamWRates) -> bool = adamw_chunk_body;
}

#[inline(always)]
fn adamw_chunk_body<const FMA: bool>(part: Part<'_, 2>, rates: AdamWRates) -> bool {
    let Part { param, grad, kept: [m, v] } = part;
    let n = param.len();
    let (grad, m, v) = (&grad[..n], &mut m[..n], &mut v[..n]);
    let mut largest = 0;
    for i in 0..n {
        let g = grad[i] * rates.grad_scale;
        m[i] = fma::<FMA>(m[i], rates.beta1, g * rates.rest1);
        v[i] = fma::<FMA>(v[i], rates.beta2, g * g * rates.rest2);
        let update = m[i] / fma::<FMA>(v[i].sqrt(), rates.root, rates.epsilon);
        param[i] = fma::<FMA>(param[i], rates.keep, -rates.size * update);
        largest = largest.max(magnitude(param[i])).max(magnitude(m[i])).max(magnitude(v[i]));
    }
    largest < INFINITE
}

/// One step of SGD in place; of each parameter, whether all numbers written are finite.
pub(crate) fn sgd(params: Vec<Part<'_, 1>>, rule: &Sgd, step: u64, grad_scale: f64) -> Vec<bool> {
    let rates = SgdRates::of(rule, step, grad_scale);
    moved(params, |part| sgd_chunk(part, rates))
}

/// The numbers of a step, in the parameters' precision. A factor of 0 or 1 leaves no rounding.
#[derive(Clone, Copy)]
struct SgdRates {
    grad_scale: f32,
    lr: f32,
    weight_decay: f32,
    into_sum: (f32, f32),
    into_direction: (f32, f32),
}

impl SgdRates {
    fn of(rule: &Sgd, step: u64, grad_scale: f64) -> Self {
        let narrow = |(sum, grad): (f64, f64)| (sum as f32, grad as f32);
        Self {
            grad_scale: grad_scale as f32,
            lr: rule.lr as f32,
            weight_decay: rule.weight_decay as f32,
            into_sum: narrow(rule.into_sum(step)),
            into_direction: narrow(rule.into_direction()),
        }
    }
}

multiversion! {
    fn sgd_chunk(part: Part<'_, 1>, rates: SgdRates) -> bool = sgd_chunk_body;
}

#[inline(always)]
fn sgd_chunk_body<const FMA: bool>(part: Part<'_, 1>, rates: SgdRates) -> bool {
    let Part { param, grad, kept: [sum] } = part;
    let n = param.len();
    let (grad, sum) = (&grad[..n], &mut sum[..n]);
    let mix = |of: (f32, f32), sum: f32, g: f32| fma::<FMA>(sum, of.0, g * of.1);
    let mut largest = 0;
    for i in 0..n {
        let g = fma::<FMA>(param[i], rates.weight_decay, grad[i] * rates.grad_scale);
        sum[i] = mix(rates.into_sum, sum[i], g);
        param[i] = fma::<FMA>(-rates.lr, mix(rates.into_direction, sum[i], g), param[i]);
        largest = largest.max(magnitude(param[i])).max(magnitude(sum[i]));
    }
    largest < INFINITE
}

/// Bits that order numbers by their size. Whole numbers, because their maximum can be taken in any
/// order and so in a register.
#[inline(always)]
fn magnitude(x: f32) -> u32 {
    x.to_bits() & !(1 << 31)
}

/// The sum of squares of each array in `f64`: all chunks side by side, the sums of an array in order.
pub(crate) fn sums_of_squares(arrays: &[&[f32]]) -> Vec<f64> {
    let mut sums = vec![0.0; arrays.len()];
    for (idx, sum) in side_by_side(arrays.iter().map(|x| x.chunks(CHUNK)), sum_of_squares) {
        sums[idx] += sum;
    }
    sums
}

fn sum_of_squares(x: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; 8];
    let (blocks, tail) = x.as_chunks::<8>();
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane += f64::from(x) * f64::from(x);
        }
    }
    let tail: f64 = tail.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    lanes.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::simd::{Level, at_level};
    use crate::testing::{check_same_bits, numbers};

    /// Lengths around the cuts.
    const LENGTHS: [usize; 7] = [1, 0, 7, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5];

    const ADAMW: AdamW =
        AdamW { lr: 3e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1 };
    const SGD: Sgd =
        Sgd { lr: 0.1, momentum: 0.9, dampening: 0.2, nesterov: false, weight_decay: 1e-4 };

    #[test]
    fn squares_are_summed_as_if_exactly() {
        let arrays = LENGTHS.map(|n| numbers(1, n));
        let slices: Vec<&[f32]> = arrays.iter().map(Vec::as_slice).collect();
        for (x, sum) in arrays.iter().zip(sums_of_squares(&slices)) {
            let expected: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
            assert!((sum - expected).abs() <= 1e-12 * expected, "{} numbers", x.len());
        }
        let sums = sums_of_squares(&[&[3.0, 4.0], &[f32::MAX], &[1.0, f32::NAN], &[f32::INFINITY]]);
        assert_eq!(
            sums.iter().map(|sum| sum.is_finite()).collect::<Vec<_>>(),
            [true, true, false, false]
        );
    }

    /// The bits of parameters and what is kept of them after three steps.
    fn after_three_steps(lengths: &[usize], n_threads: usize) -> Vec<Vec<f32>> {
        let arrays = |salt: u64| lengths.iter().map(|&n| numbers(salt, n)).collect::<Vec<_>>();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build();
        let (mut p, mut m, mut v) = (arrays(1), arrays(2), arrays(3));
        let (mut q, mut sum) = (arrays(4), arrays(5));
        v.iter_mut().flatten().for_each(|v| *v = v.abs());
        pool.expect("threads can be started").install(|| {
            for step in 1..=3 {
                let grad = arrays(10 + step);
                let adam = p.iter_mut().zip(&grad).zip(m.iter_mut().zip(&mut v));
                let adam = adam.map(|((param, grad), (m, v))| Part { param, grad, kept: [m, v] });
                assert!(adamw(adam.collect(), &ADAMW, step, 0.5).iter().all(|&finite| finite));
                let plain = q.iter_mut().zip(&grad).zip(&mut sum);
                let plain = plain.map(|((param, grad), sum)| Part { param, grad, kept: [sum] });
                assert!(sgd(plain.collect(), &SGD, step, 0.5).iter().all(|&finite| finite));
            }
            let slices: Vec<&[f32]> = p.iter().map(Vec::as_slice).collect();
            let sums = sums_of_squares(&slices).into_iter().map(f64::to_bits);
            let halves = sums.map(|sum| vec![(sum >> 32) as u32, sum as u32]);
            let halves = halves.map(|bits| bits.into_iter().map(f32::from_bits).collect());
            [p, m, v, q, sum].concat().into_iter().chain(halves).collect()
        })
    }

    #[test]
    fn an_update_has_the_same_bits_for_any_number_of_threads_and_of_other_parameters() {
        let one = after_three_steps(&LENGTHS, 1);
        for n_threads in [2, 3, 8] {
            for (got, expected) in after_three_steps(&LENGTHS, n_threads).iter().zip(&one) {
                check_same_bits("several threads", got, expected);
            }
        }
        for (idx, &length) in LENGTHS.iter().enumerate() {
            let alone = after_three_steps(&[length], 2);
            for (got, expected) in alone.iter().zip(one.iter().skip(idx).step_by(LENGTHS.len())) {
                check_same_bits("alone", got, expected);
            }
        }
    }

    /// What the chunks of both rules say of a gradient with one wrong number.
    fn told(n: usize, place: usize, wrong: f32) -> [bool; 2] {
        let mut grad = vec![0.5; n];
        grad[place] = wrong;
        let zeros = || vec![0.0; n];
        let (mut p, mut m, mut v) = (zeros(), zeros(), zeros());
        let part = Part { param: &mut p, grad: &grad, kept: [&mut m, &mut v] };
        let adamw = adamw_chunk(part, AdamWRates::of(&ADAMW, 1, 1.0));
        let (mut p, mut sum) = (zeros(), zeros());
        let part = Part { param: &mut p, grad: &grad, kept: [&mut sum] };
        [adamw, sgd_chunk(part, SgdRates::of(&SGD, 1, 1.0))]
    }

    #[test]
    fn a_number_that_is_not_finite_is_seen_wherever_it_stands() {
        for level in [Level::Portable, Level::Avx2, Level::Avx512] {
            for (n, place) in [(1, 0), (40, 0), (40, 39), (67, 66), (67, 13)] {
                let told = |wrong| at_level(level, || told(n, place, wrong));
                for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    assert!(
                        told(wrong).is_none_or(|told| told == [false; 2]),
                        "{wrong} at {place}"
                    );
                }
                assert!(told(-1e3).is_none_or(|told| told == [true; 2]));
                // The square is what AdamW keeps.
                assert!(told(1e30).is_none_or(|told| told == [false, true]));
            }
        }
    }

    #[test]
    fn a_chunk_speaks_for_its_own_parameter() {
        let mut grad = LENGTHS.map(|n| numbers(7, n));
        grad[6][2 * CHUNK] = f32::NAN;
        grad[3][0] = f32::INFINITY;
        let (mut p, mut sum) = (LENGTHS.map(|n| numbers(1, n)), LENGTHS.map(|n| numbers(2, n)));
        let parts = p.iter_mut().zip(&grad).zip(&mut sum);
        let parts = parts.map(|((param, grad), sum)| Part { param, grad, kept: [sum] });
        let finite = sgd(parts.collect(), &SGD, 2, 1.0);
        assert_eq!(finite, [true, true, true, false, true, true, false]);
    }
}
