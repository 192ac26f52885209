//! Memories beyond one matrix: two factors, and the neurons of an MLP.
//!
//! Source: arXiv:2306.00802, appendix D.

use mnemoscope_stats::mean::Mean;
use mnemoscope_stats::stream::Stream;
use ndarray::{Array1, Array2, ArrayView1};

use crate::check::Check;
use crate::embedding::gaussian;
use crate::memory::{Recall, argmax};

/// A memory in two factors, as `W_O W_V` is one.
///
/// ```text
/// U = U_0 + sum_i y_i (V_0 x_i)^T       [d, d']
/// V = V_0 + sum_i (U_0^T y_i) x_i^T     [d', d]
/// y_k^T (d / 2 d') U V x_l  is near  1{k = l}
/// ```
///
/// Each factor stores its half by way of the other's random start, which is the form that one
/// gradient step on both has.
///
/// Source: arXiv:2306.00802, appendix D (factorised memories).
#[derive(Clone, Debug)]
pub struct Factored {
    /// `U`: `[d_model, d_inner]`.
    pub left: Array2<f64>,
    /// `V`: `[d_inner, d_model]`.
    pub right: Array2<f64>,
}

impl Factored {
    /// Stores row `i` of `outputs` under row `i` of `inputs`.
    ///
    /// # Shapes
    ///
    /// `inputs`, `outputs`: `[n, d_model]`.
    ///
    /// # Randomness
    ///
    /// Children of `stream` for both starts, with entries of variance `1 / d_model`.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_stats::stream::Stream;
    /// use mnemoscope_theory::embedding::gaussian;
    /// use mnemoscope_theory::extension::Factored;
    /// use mnemoscope_theory::memory::Recall;
    ///
    /// let rows = |seed| gaussian(&Stream::root(seed), [10, 128], 1.0 / 128.0);
    /// let (inputs, outputs) = (rows(0), rows(1));
    /// let memory = Factored::storing(&inputs, &outputs, 128, &Stream::root(2));
    /// assert_eq!(Recall::of_identity(memory.scores(&inputs, &outputs).view()).share(), 1.0);
    /// ```
    #[must_use]
    pub fn storing(
        inputs: &Array2<f64>,
        outputs: &Array2<f64>,
        d_inner: usize,
        stream: &Stream,
    ) -> Self {
        let d_model = inputs.ncols();
        let variance = 1.0 / d_model as f64;
        let left = gaussian(&stream.derive("left"), [d_model, d_inner], variance);
        let right = gaussian(&stream.derive("right"), [d_inner, d_model], variance);
        Self {
            left: &left + &outputs.t().dot(&inputs.dot(&right.t())),
            right: &right + &outputs.dot(&left).t().dot(inputs),
        }
    }

    /// `y_k^T (d / 2 d') U V x_l`.
    ///
    /// # Shapes
    ///
    /// `[l, k]`: inputs on the rows.
    #[must_use]
    pub fn scores(&self, inputs: &Array2<f64>, outputs: &Array2<f64>) -> Array2<f64> {
        let (d_model, d_inner) = self.left.dim();
        let scale = d_model as f64 / (2.0 * d_inner as f64);
        inputs.dot(&self.right.t()).dot(&outputs.dot(&self.left).t()) * scale
    }

    /// The variance of a score that should be 0, by the leading terms of its random products:
    /// `2 / d + 1 / d' + (n / 2 d) (1 / d + 1 / d')` for `n` pairs.
    ///
    /// The first term are overlaps of inputs and of outputs, the second the two random starts, the
    /// third what all other pairs let through.
    #[must_use]
    pub fn noise_variance(n: usize, d_model: usize, d_inner: usize) -> f64 {
        let (n, d, inner) = (n as f64, d_model as f64, d_inner as f64);
        2.0 / d + 1.0 / inner + 0.5 * n / d * (1.0 / d + 1.0 / inner)
    }
}

/// A memory of sets: one neuron for each stored pair, `F(x) = sum v_j relu(u_I^T x - b)`.
///
/// A set of tokens is `u_I = sum_{i in I} u_i / sqrt(|I|)`. Sets that share tokens overlap, and a
/// linear memory adds up what they say; a bias above the overlap silences all but the own neuron.
///
/// Source: arXiv:2306.00802, appendix D (MLP memories).
#[derive(Clone, Debug)]
pub struct Neurons {
    /// `u_I`: `[n, d_model]`.
    pub keys: Array2<f64>,
    /// `v_j`: `[n, d_model]`.
    pub values: Array2<f64>,
    /// `b`.
    pub bias: f64,
}

impl Neurons {
    /// What the memory gives for `x`.
    ///
    /// # Shapes
    ///
    /// `x: [d_model]` -> `[d_model]`.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_theory::extension::Neurons;
    /// use ndarray::array;
    ///
    /// let keys = array![[1.0, 0.0], [0.6, 0.8]];
    /// let memory = Neurons { keys: keys.clone(), values: array![[0.0, 5.0], [7.0, 0.0]], bias: 0.6 };
    /// // The keys overlap by 0.6, which the bias takes away.
    /// assert_eq!(memory.output(keys.row(0)), array![0.0, 2.0]);
    /// ```
    #[must_use]
    pub fn output(&self, x: ArrayView1<'_, f64>) -> Array1<f64> {
        let active = self.keys.dot(&x).mapv(|match_| (match_ - self.bias).max(0.0));
        active.dot(&self.values)
    }

    /// The same pairs in a linear memory, `sum v_j u_I^T x`.
    #[must_use]
    pub fn linear_output(&self, x: ArrayView1<'_, f64>) -> Array1<f64> {
        self.keys.dot(&x).dot(&self.values)
    }
}

fn factored_checks(n: usize, d_model: usize, n_draws: u64, stream: &Stream) -> Vec<Check> {
    let d_inner = d_model;
    let (mut signal, mut noise, mut recall) = (Mean::default(), Mean::default(), Mean::default());
    for draw in 0..n_draws {
        let stream = stream.child(draw);
        let rows = |name| gaussian(&stream.derive(name), [n, d_model], 1.0 / d_model as f64);
        let (inputs, outputs) = (rows("inputs"), rows("outputs"));
        let scores =
            Factored::storing(&inputs, &outputs, d_inner, &stream).scores(&inputs, &outputs);
        let diagonal = scores.diag().sum();
        let on: f64 = scores.diag().iter().map(|score| score * score).sum();
        let all: f64 = scores.iter().map(|score| score * score).sum();
        signal.add(diagonal / n as f64);
        noise.add((all - on) / (n * (n - 1)) as f64);
        recall.add(Recall::of_identity(scores.view()).share());
    }
    let at = format!("two factors, N {n}, d = d' = {d_model}");
    let sd = Factored::noise_variance(n, d_model, d_inner).sqrt();
    vec![
        Check::within(format!("{at}: diagonal"), 1.0, signal.mean(), 0.1, n_draws),
        Check::within(format!("{at}: sd off it"), sd, noise.mean().sqrt(), 0.1 * sd, n_draws),
        Check::band(format!("{at}: recall"), 1.0, recall.mean(), [0.99, 1.0], n_draws),
    ]
}

/// Sums modulo 2 of pairs of digits: nothing that treats the digits apart can tell them.
///
/// In a linear memory the pairs that share a digit speak for either parity alike, so its recall is
/// that of a coin.
fn parity_checks(n_digits: usize, d_model: usize, n_draws: u64, stream: &Stream) -> Vec<Check> {
    let (mut with_bias, mut linear) = (Recall::default(), Mean::default());
    for draw in 0..n_draws {
        let stream = stream.child(draw);
        let rows = |name, n| gaussian(&stream.derive(name), [n, d_model], 1.0 / d_model as f64);
        let (first, second, parities) =
            (rows("first", n_digits), rows("second", n_digits), rows("parity", 2));
        let pair = |idx: usize| (idx / n_digits, idx % n_digits);
        let parity = |idx| (pair(idx).0 + pair(idx).1) % 2;
        let n = n_digits * n_digits;
        let row = |rows: &dyn Fn(usize) -> Array1<f64>| {
            let flat: Vec<f64> = (0..n).flat_map(|idx| rows(idx).to_vec()).collect();
            Array2::from_shape_fn((n, d_model), |(idx, axis)| flat[idx * d_model + axis])
        };
        let keys = row(&|idx| {
            (&first.row(pair(idx).0) + &second.row(pair(idx).1)) * std::f64::consts::FRAC_1_SQRT_2
        });
        let values = row(&|idx| parities.row(parity(idx)).to_owned());
        let memory = Neurons { keys, values, bias: 0.75 };
        let n_right = |output: &dyn Fn(ArrayView1<'_, f64>) -> Array1<f64>| {
            let right = |idx: &usize| {
                let said = parities.dot(&output(memory.keys.row(*idx)));
                argmax(said.view()) == Some(parity(*idx))
            };
            (0..n).filter(right).count() as u64
        };
        with_bias.n_right += n_right(&|x| memory.output(x));
        with_bias.n_trials += n as u64;
        linear.add(n_right(&|x| memory.linear_output(x)) as f64 / n as f64);
    }
    let at = format!("parity of pairs of {n_digits} digits, d {d_model}");
    let (share, n) = (with_bias.share(), with_bias.n_trials);
    vec![
        Check::band(format!("{at}: recall of an MLP"), 1.0, share, [0.99, 1.0], n),
        Check::within(format!("{at}: recall of a matrix"), 0.5, linear.mean(), 0.05, n),
    ]
}

/// The checks of this module.
#[must_use]
pub fn checks(d_model: usize, n_draws: u64, stream: &Stream) -> Vec<Check> {
    let mut checks = factored_checks(30, d_model, n_draws, &stream.derive("factors"));
    checks.extend(parity_checks(8, d_model, n_draws, &stream.derive("parity")));
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is near its bound: the nearest is six of its standard deviations away.
    #[test]
    fn two_factors_recall_and_neurons_know_what_a_matrix_cannot() {
        for check in checks(192, 5, &Stream::root(0)) {
            assert!(check.holds(), "{check:?}");
        }
    }
}
