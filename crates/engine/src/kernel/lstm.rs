//! The LSTM over a whole sequence, forward and backward.
//!
//! Groups of examples run in parallel; within a group one step is a product with `w_hh`, packed
//! once, and a pass over the cells. Every example is computed by itself, so the size of a group
//! changes no bits. The forward pass for training turns the gates' inputs into their activations in
//! place; the backward pass turns those into the gradient of the inputs in place.

use rayon::prelude::*;

use super::fresh::Fresh;
use super::gemm::{Lhs, Span, Start, matmul, weight_grad};
use super::math::{sigmoid, tanh};
use super::packed::Packed;
use super::simd::{fma, multiversion};

/// `[batch, pos, d]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dims {
    pub(crate) batch: usize,
    pub(crate) seq_len: usize,
    pub(crate) d: usize,
}

impl Dims {
    /// Examples of one task: as many tasks for one thread as for another, each so small that a step
    /// stays in the cache. No bit depends on it.
    fn group(self) -> usize {
        const MOST: usize = 48;
        let n_groups = self.batch.div_ceil(MOST).next_multiple_of(rayon::current_num_threads());
        self.batch.div_ceil(n_groups.max(1)).max(1)
    }
}

/// `h: [batch, pos, d]` from the gates' inputs `[batch, pos, 4 d]`.
pub(crate) fn forward(gates_in: &[f32], w_hh: &[f32], dims: Dims) -> Vec<f32> {
    let d4 = 4 * dims.d;
    forward_from(|place| &gates_in[place * d4..][..d4], w_hh, dims)
}

/// [`forward`] with the gates' inputs of a place in the row of `table` that its token names.
pub(crate) fn forward_of(table: &[f32], tokens: &[u32], w_hh: &[f32], dims: Dims) -> Vec<f32> {
    let d4 = 4 * dims.d;
    forward_from(|place| &table[tokens[place] as usize * d4..][..d4], w_hh, dims)
}

/// [`forward`] with the gates' inputs of flat place `example * seq_len + pos` in `gates_in(place)`.
fn forward_from<'a>(
    gates_in: impl Fn(usize) -> &'a [f32] + Sync,
    w_hh: &[f32],
    dims: Dims,
) -> Vec<f32> {
    let Dims { batch, seq_len, d } = dims;
    let packed = Packed::rows(w_hh, 4 * d, d, 4 * d);
    let mut h = Fresh::new(batch * seq_len * d);
    let group = dims.group();
    h.par_chunks_mut(group * seq_len * d).enumerate().for_each(|(group_idx, h)| {
        let first = group_idx * group * seq_len;
        let n_rows = h.len() / (seq_len * d);
        let mut gates = vec![0.0; n_rows * 4 * d];
        let mut c = vec![0.0; n_rows * d];
        for pos in 0..seq_len {
            for (row, gates) in gates.chunks_exact_mut(4 * d).enumerate() {
                gates.copy_from_slice(gates_in(first + row * seq_len + pos));
            }
            if pos > 0 {
                let before = Lhs::rows(&h[(pos - 1) * d..], seq_len * d);
                matmul(before, n_rows, &packed, Start::Keep, &mut gates, 4 * d);
            }
            let rows = gates.chunks_exact_mut(4 * d).zip(c.chunks_exact_mut(d));
            for (row, (gates, c)) in rows.enumerate() {
                cell(gates, c, &mut h[(row * seq_len + pos) * d..][..d]);
            }
        }
    });
    h.finish()
}

/// `h` and `c`, both `[batch, pos, d]`; `gates` goes from the gates' inputs to their activations.
pub(crate) fn forward_saved(gates: &mut [f32], w_hh: &[f32], dims: Dims) -> (Vec<f32>, Vec<f32>) {
    let Dims { batch, seq_len, d } = dims;
    let packed = Packed::rows(w_hh, 4 * d, d, 4 * d);
    let (mut h, mut c) = (Fresh::new(batch * seq_len * d), Fresh::new(batch * seq_len * d));
    let group = dims.group();
    let h_groups = h.par_chunks_mut(group * seq_len * d);
    let c_groups = c.par_chunks_mut(group * seq_len * d);
    let gate_groups = gates.par_chunks_mut((group * seq_len * 4 * d).max(1));
    h_groups.zip(c_groups).zip(gate_groups).for_each(|((h, c), gates)| {
        let n_rows = h.len() / (seq_len * d);
        for pos in 0..seq_len {
            if pos > 0 {
                let before = Lhs::rows(&h[(pos - 1) * d..], seq_len * d);
                let gates = &mut gates[pos * 4 * d..];
                matmul(before, n_rows, &packed, Start::Keep, gates, seq_len * 4 * d);
            }
            for row in 0..n_rows {
                let at = row * seq_len + pos;
                if pos > 0 {
                    c.copy_within((at - 1) * d..at * d, at * d);
                }
                let gates = &mut gates[at * 4 * d..][..4 * d];
                cell(gates, &mut c[at * d..][..d], &mut h[at * d..][..d]);
            }
        }
    });
    (h.finish(), c.finish())
}

/// What the forward pass computed, both `[batch, pos, d]`.
#[derive(Clone, Copy)]
pub(crate) struct Trace<'a> {
    pub(crate) c: &'a [f32],
    pub(crate) h: &'a [f32],
}

/// The gradient of `w_hh`; `gates` goes from activations to the gradient of the gates' inputs.
pub(crate) fn backward(
    gates: &mut [f32],
    Trace { c, h }: Trace<'_>,
    w_hh: &[f32],
    d_h: &[f32],
    dims: Dims,
) -> Vec<f32> {
    let Dims { batch, seq_len, d } = dims;
    let packed = Packed::transposed(w_hh, 4 * d, 4 * d, d);
    let group = dims.group();
    let gate_groups = gates.par_chunks_mut((group * seq_len * 4 * d).max(1));
    let c_groups = c.par_chunks((group * seq_len * d).max(1));
    let d_h_groups = d_h.par_chunks((group * seq_len * d).max(1));
    gate_groups.zip(c_groups).zip(d_h_groups).for_each(|((gates, c), d_h)| {
        let n_rows = c.len() / (seq_len * d);
        // What flows back from the next pos, through h and through c.
        let mut d_h_next = vec![0.0; n_rows * d];
        let mut d_c_next = vec![0.0; n_rows * d];
        let start = vec![0.0; d];
        for pos in (0..seq_len).rev() {
            for row in 0..n_rows {
                let at = row * seq_len + pos;
                let gates = &mut gates[at * 4 * d..][..4 * d];
                let c_before = if pos > 0 { &c[(at - 1) * d..][..d] } else { &start };
                let d_h_here = &mut d_h_next[row * d..][..d];
                for (sum, d_h) in d_h_here.iter_mut().zip(&d_h[at * d..][..d]) {
                    *sum += d_h;
                }
                let d_c = &mut d_c_next[row * d..][..d];
                cell_backward(gates, c_before, &c[at * d..][..d], d_h_here, d_c);
            }
            if pos > 0 {
                let here = Lhs::rows(&gates[pos * 4 * d..], seq_len * 4 * d);
                matmul(here, n_rows, &packed, Start::Zero, &mut d_h_next, d);
            }
        }
    });
    // d w_hh = sum over pos of h[pos - 1]^T d_gates[pos], two examples in each partial sum.
    let span = |example: usize| {
        let row = example * seq_len;
        Span { x_row: row, y_row: row + 1, n_rows: seq_len - 1 }
    };
    let examples: Vec<Span> = (0..batch).filter(|_| seq_len > 1).map(span).collect();
    let groups: Vec<Vec<Span>> = examples.chunks(2).map(<[_]>::to_vec).collect();
    weight_grad(h, d, gates, 4 * d, &groups)
}

multiversion! {
    /// One cell row: `gates` from sums to activations, `c` from the last pos to this one.
    fn cell(gates: &mut [f32], c: &mut [f32], h: &mut [f32]) = cell_body;
}

#[inline(always)]
fn cell_body<const FMA: bool>(gates: &mut [f32], c: &mut [f32], h: &mut [f32]) {
    let d = c.len();
    let (i, rest) = gates.split_at_mut(d);
    let (f, rest) = rest.split_at_mut(d);
    let (g, o) = rest.split_at_mut(d);
    let (i, f, g, o, h) = (&mut i[..d], &mut f[..d], &mut g[..d], &mut o[..d], &mut h[..d]);
    for j in 0..d {
        i[j] = sigmoid::<FMA>(i[j]);
        f[j] = sigmoid::<FMA>(f[j]);
        g[j] = tanh::<FMA>(g[j]);
        o[j] = sigmoid::<FMA>(o[j]);
        c[j] = fma::<FMA>(f[j], c[j], i[j] * g[j]);
        h[j] = o[j] * tanh::<FMA>(c[j]);
    }
}

multiversion! {
    /// One cell row: `gates` from activations to the gradient of the sums, `d_c` from the gradient
    /// of this pos' `c` by later ones to that of the last pos'.
    fn cell_backward(gates: &mut [f32], c_before: &[f32], c: &[f32], d_h: &[f32], d_c: &mut [f32])
        = cell_backward_body;
}

#[inline(always)]
fn cell_backward_body<const FMA: bool>(
    gates: &mut [f32],
    c_before: &[f32],
    c: &[f32],
    d_h: &[f32],
    d_c: &mut [f32],
) {
    let d = c.len();
    let (i, rest) = gates.split_at_mut(d);
    let (f, rest) = rest.split_at_mut(d);
    let (g, o) = rest.split_at_mut(d);
    let (i, f, g, o) = (&mut i[..d], &mut f[..d], &mut g[..d], &mut o[..d]);
    let (c_before, d_h, d_c) = (&c_before[..d], &d_h[..d], &mut d_c[..d]);
    for j in 0..d {
        let tanh_c = tanh::<FMA>(c[j]);
        let through_h = d_h[j] * o[j] * (1.0 - tanh_c * tanh_c);
        let d_c_here = d_c[j] + through_h;
        d_c[j] = d_c_here * f[j];
        o[j] = d_h[j] * tanh_c * o[j] * (1.0 - o[j]);
        let d_i = d_c_here * g[j] * i[j] * (1.0 - i[j]);
        g[j] = d_c_here * i[j] * (1.0 - g[j] * g[j]);
        i[j] = d_i;
        f[j] = d_c_here * c_before[j] * f[j] * (1.0 - f[j]);
    }
}

/// The LSTM by its formulas, in `f64`: the scalar reference and its gradient.
#[cfg(test)]
mod scalar {
    /// `h`, and `(activations, c)` for the backward pass, of one example.
    pub(super) type Trace = (Vec<f64>, Vec<f64>, Vec<f64>);

    pub(super) fn forward(gates_in: &[f64], w_hh: &[f64], d: usize) -> Trace {
        let seq_len = gates_in.len() / (4 * d);
        let (mut h, mut c) = (vec![0.0; seq_len * d], vec![0.0; seq_len * d]);
        let mut acts = gates_in.to_vec();
        for pos in 0..seq_len {
            for gate in 0..4 * d {
                for j in 0..d {
                    let before = if pos > 0 { h[(pos - 1) * d + j] } else { 0.0 };
                    acts[pos * 4 * d + gate] += before * w_hh[j * 4 * d + gate];
                }
                let a = acts[pos * 4 * d + gate];
                let sigma = 1.0 / (1.0 + (-a).exp());
                acts[pos * 4 * d + gate] = if gate / d == 2 { a.tanh() } else { sigma };
            }
            for j in 0..d {
                let act = |gate: usize| acts[(pos * 4 + gate) * d + j];
                let before = if pos > 0 { c[(pos - 1) * d + j] } else { 0.0 };
                c[pos * d + j] = act(1) * before + act(0) * act(2);
                h[pos * d + j] = act(3) * c[pos * d + j].tanh();
            }
        }
        (h, acts, c)
    }

    /// The gradients of the gates' inputs and of `w_hh`.
    pub(super) fn backward(
        trace: &Trace,
        w_hh: &[f64],
        d_h: &[f64],
        d: usize,
    ) -> (Vec<f64>, Vec<f64>) {
        let (h, acts, c) = trace;
        let seq_len = c.len() / d;
        let (mut d_gates, mut d_w) = (vec![0.0; acts.len()], vec![0.0; w_hh.len()]);
        let (mut d_h_next, mut d_c_next) = (vec![0.0; d], vec![0.0; d]);
        for pos in (0..seq_len).rev() {
            for j in 0..d {
                let act = |gate: usize| acts[(pos * 4 + gate) * d + j];
                let (i, f, g, o) = (act(0), act(1), act(2), act(3));
                let before = if pos > 0 { c[(pos - 1) * d + j] } else { 0.0 };
                let tanh_c = c[pos * d + j].tanh();
                let d_h = d_h[pos * d + j] + d_h_next[j];
                let d_c = d_c_next[j] + d_h * o * (1.0 - tanh_c * tanh_c);
                d_c_next[j] = d_c * f;
                let grads = [
                    d_c * g * i * (1.0 - i),
                    d_c * before * f * (1.0 - f),
                    d_c * i * (1.0 - g * g),
                    d_h * tanh_c * o * (1.0 - o),
                ];
                for (gate, grad) in grads.into_iter().enumerate() {
                    d_gates[(pos * 4 + gate) * d + j] = grad;
                }
            }
            for j in 0..d {
                d_h_next[j] = 0.0;
                for gate in 0..4 * d {
                    let grad = d_gates[pos * 4 * d + gate];
                    d_h_next[j] += grad * w_hh[j * 4 * d + gate];
                    if pos > 0 {
                        d_w[j * 4 * d + gate] += h[(pos - 1) * d + j] * grad;
                    }
                }
            }
        }
        (d_gates, d_w)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_close, check_grad, check_same_bits, numbers};

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|&x| f64::from(x)).collect()
    }

    fn narrow(x: &[f64]) -> Vec<f32> {
        x.iter().map(|&x| x as f32).collect()
    }

    #[test]
    fn the_scalar_gradient_agrees_with_central_differences() {
        let (seq_len, d) = (4, 3);
        let n_gates = seq_len * 4 * d;
        let x = wide(&numbers(1, n_gates + d * 4 * d));
        check_grad(
            &x,
            |x| scalar::forward(&x[..n_gates], &x[n_gates..], d).0,
            |x, d_h| {
                let trace = scalar::forward(&x[..n_gates], &x[n_gates..], d);
                let (d_gates, d_w) = scalar::backward(&trace, &x[n_gates..], d_h, d);
                [d_gates, d_w].concat()
            },
        );
    }

    /// Kernel against scalar, forward and backward, example by example.
    fn check(batch: usize, seq_len: usize, d: usize) {
        let dims = Dims { batch, seq_len, d };
        let gates_in = numbers(1, batch * seq_len * 4 * d);
        let gates_in: Vec<f32> = gates_in.iter().map(|x| 2.0 * x).collect();
        let w_hh: Vec<f32> = numbers(2, d * 4 * d).iter().map(|x| x / (d as f32).sqrt()).collect();
        let d_h = numbers(3, batch * seq_len * d);
        let only = forward(&gates_in, &w_hh, dims);
        let mut gates = gates_in.clone();
        let (h, c) = forward_saved(&mut gates, &w_hh, dims);
        check_same_bits("h with and without saving", &only, &h);
        let d_w = backward(&mut gates, Trace { c: &c, h: &h }, &w_hh, &d_h, dims);
        let mut expected_d_w = vec![0.0; w_hh.len()];
        for example in 0..batch {
            let at = |width: usize| example * seq_len * width..(example + 1) * seq_len * width;
            let trace = scalar::forward(&wide(&gates_in[at(4 * d)]), &wide(&w_hh), d);
            check_close("h", &h[at(d)], &narrow(&trace.0), 2e-6);
            let grads = scalar::backward(&trace, &wide(&w_hh), &wide(&d_h[at(d)]), d);
            check_close("d_gates", &gates[at(4 * d)], &narrow(&grads.0), 5e-6);
            expected_d_w.iter_mut().zip(grads.1).for_each(|(sum, grad)| *sum += grad);
        }
        check_close("d_w_hh", &d_w, &narrow(&expected_d_w), 5e-6);
    }

    #[test]
    fn kernel_and_scalar_agree_on_odd_shapes() {
        check(1, 1, 16);
        check(3, 17, 5);
        check(5, 33, 24);
        check(2, 511, 16);
    }

    #[test]
    fn an_example_has_the_same_bits_whatever_the_batch_and_the_threads() {
        let (batch, seq_len, d) = (64, 9, 24);
        let gates_in = numbers(1, batch * seq_len * 4 * d);
        let w_hh = numbers(2, d * 4 * d);
        let d_h = numbers(3, batch * seq_len * d);
        let run = |batch: usize| {
            let dims = Dims { batch, seq_len, d };
            let mut gates = gates_in[..batch * seq_len * 4 * d].to_vec();
            let (h, c) = forward_saved(&mut gates, &w_hh, dims);
            let d_w = backward(&mut gates, Trace { c: &c, h: &h }, &w_hh, &d_h[..h.len()], dims);
            (h, gates, d_w)
        };
        let all = run(batch);
        for n_threads in [1, 2, 4] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            for batch in [1, 7, 64] {
                let some = pool.install(|| run(batch));
                check_same_bits("h", &some.0, &all.0[..some.0.len()]);
                check_same_bits("d_gates", &some.1, &all.1[..some.1.len()]);
                if batch == 64 {
                    check_same_bits("d_w_hh", &some.2, &all.2);
                }
            }
        }
    }
}
