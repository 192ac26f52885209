//! The gradients that the paper derives, each beside a loss that can be differentiated by machine.
//!
//! | formula | the weight `W` in | what it says |
//! |---|---|---|
//! | [`Clean`] (lemma 1) | `W_U W w_E(z)` | the gradient is a sum of `w_U(k) w_E(z)^T` |
//! | [`Noisy`] (lemma 2) | `W_U W x` | only the class means of `x` matter |
//! | [`Normed`] (appendix D) | `W_U W x / norm(W x)` | nothing is added along what is aligned |
//! | [`SecondKeyQuery`] (lemma 4) | keys and query of layer 2, at 0 | attention to useful values |
//! | [`FirstKeyQuery`] (lemma 5) | keys and query of layer 1, at 0 | by way of the second layer |
//!
//! Each is a [`Lemma`]: a loss in dual numbers that reads as the model does, and a formula in plain
//! numbers that reads as the paper does. They share the data and nothing else.
//!
//! Source: arXiv:2306.00802, sections 4.1 and 6, appendices B.2, C and D.

mod key_query;
mod output;

use mnemoscope_stats::stream::Stream;
use ndarray::{Array1, Array2, ArrayView1, Axis};

pub use key_query::{FirstKeyQuery, SecondKeyQuery};
pub use output::{Clean, Noisy, Normed};

use crate::check::Check;
use crate::dual::{self, Dual};
use crate::embedding::gaussian;

/// A loss in a square weight and the formula of its gradient.
pub trait Lemma {
    /// Its name, for tables.
    fn name(&self) -> String;

    /// The weight at which the formula is true.
    fn weight(&self) -> Array2<f64>;

    /// The mean cross entropy over the examples, in nats, as a program of dual numbers.
    fn loss(&self, weight: &Array2<Dual>) -> Dual;

    /// The gradient of the loss at [`Lemma::weight`], by the formula.
    fn gradient(&self) -> Array2<f64>;
}

/// The largest difference between the formula and automatic differentiation, and the largest entry
/// of the gradient, without which the difference would say nothing.
///
/// # Example
///
/// ```
/// use mnemoscope_stats::stream::Stream;
/// use mnemoscope_theory::gradient::{Clean, Examples, Shape, difference};
///
/// let examples = Examples::generate(Shape::PAPER, &Stream::root(0));
/// let (difference, largest) = difference(&Clean(&examples));
/// assert!(difference < 1e-12 && largest > 1e-3);
/// ```
#[must_use]
pub fn difference(lemma: &dyn Lemma) -> (f64, f64) {
    let by_formula = lemma.gradient();
    let by_machine = dual::gradient(&lemma.weight(), |weight| lemma.loss(weight));
    let largest = |matrix: &Array2<f64>| {
        // A comparison would lose what is not a number.
        matrix.iter().fold(
            0.0,
            |most: f64, entry| {
                if entry.is_nan() { f64::NAN } else { most.max(entry.abs()) }
            },
        )
    };
    (largest(&(&by_formula - &by_machine)), largest(&by_machine))
}

/// Sizes of random examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The paper's `N`.
    pub d_vocab: usize,
    /// The paper's `d`.
    pub d_model: usize,
    /// The paper's `T`.
    pub seq_len: usize,
    /// Examples that the loss is the mean of.
    pub n_examples: usize,
}

impl Shape {
    /// Small sizes, no two alike, so that no exchanged axis goes unseen.
    pub const PAPER: Self = Self { d_vocab: 7, d_model: 11, seq_len: 6, n_examples: 50 };
}

/// Random examples and random weights, with no structure that a wrong formula could hide behind.
#[derive(Clone, Debug)]
pub struct Examples {
    /// Output embeddings `w_U`: `[d_vocab, d_model]`.
    pub unembed: Array2<f64>,
    /// Input embeddings `w_E`: `[d_vocab, d_model]`.
    pub embed: Array2<f64>,
    /// Positions `p`: `[seq_len, d_model]`.
    pub positions: Array2<f64>,
    /// `W_O W_V` of layer 1: `[d_model, d_model]`.
    pub remap_1: Array2<f64>,
    /// `W_O W_V` of layer 2: `[d_model, d_model]`.
    pub remap_2: Array2<f64>,
    /// Keys and query of layer 2 where layer 1 is looked at: `[d_model, d_model]`.
    pub key_query_2: Array2<f64>,
    /// Where gradients that hold everywhere are taken: `[d_model, d_model]`.
    pub weight: Array2<f64>,
    /// One input token for each example.
    pub tokens: Vec<usize>,
    /// One label for each example.
    pub labels: Vec<usize>,
    /// For each example its residual stream: `[seq_len, d_model]`.
    pub inputs: Vec<Array2<f64>>,
    /// For each example keys that are not its inputs: `[seq_len, d_model]`.
    pub keys: Vec<Array2<f64>>,
}

impl Examples {
    /// Draws everything: vectors with entries of variance `1 / d_model`, tokens and labels uniform.
    ///
    /// # Randomness
    ///
    /// A child of `stream` for each field.
    #[must_use]
    pub fn generate(shape: Shape, stream: &Stream) -> Self {
        let Shape { d_vocab, d_model, seq_len, n_examples } = shape;
        let variance = 1.0 / d_model as f64;
        let matrix = |name, n_rows| gaussian(&stream.derive(name), [n_rows, d_model], variance);
        let sequences = |name| {
            let stream = stream.derive(name);
            let sequence = |idx| gaussian(&stream.child(idx), [seq_len, d_model], 1.0);
            (0..n_examples as u64).map(sequence).collect()
        };
        let tokens = |name| {
            let mut draws = stream.derive(name).at(0);
            (0..n_examples).map(|_| draws.below(d_vocab as u32) as usize).collect()
        };
        Self {
            unembed: matrix("unembed", d_vocab),
            embed: matrix("embed", d_vocab),
            positions: matrix("positions", seq_len),
            remap_1: matrix("remap 1", d_model),
            remap_2: matrix("remap 2", d_model),
            key_query_2: matrix("key and query 2", d_model),
            weight: matrix("weight", d_model),
            tokens: tokens("tokens"),
            labels: tokens("labels"),
            inputs: sequences("inputs"),
            keys: sequences("keys"),
        }
    }

    fn n(&self) -> f64 {
        self.labels.len() as f64
    }

    fn zero_weight(&self) -> Array2<f64> {
        Array2::zeros(self.weight.dim())
    }

    /// The mean of a loss over the examples.
    fn mean_loss(&self, loss: impl Fn(usize) -> Dual) -> Dual {
        let sum: Dual = (0..self.labels.len()).map(loss).sum();
        sum * (1.0 / self.n())
    }
}

/// Logits of an output vector of duals.
fn logits(unembed: &Array2<f64>, output: &[Dual]) -> Vec<Dual> {
    unembed.rows().into_iter().map(|row| dual::dot(output, row)).collect()
}

/// The softmax of plain logits.
fn probabilities(mut logits: Array1<f64>) -> Array1<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    logits.mapv_inplace(|logit| (logit - largest).exp());
    let sum = logits.sum();
    logits / sum
}

/// `u v^T`.
fn outer(u: ArrayView1<'_, f64>, v: ArrayView1<'_, f64>) -> Array2<f64> {
    u.insert_axis(Axis(1)).dot(&v.insert_axis(Axis(0)))
}

/// The mean over positions of a sequence.
fn mean_of_rows(sequence: &Array2<f64>) -> Array1<f64> {
    sequence.sum_axis(Axis(0)) / sequence.nrows() as f64
}

/// The checks of this module: every formula beside automatic differentiation.
#[must_use]
pub fn checks(stream: &Stream) -> Vec<Check> {
    let examples = Examples::generate(Shape::PAPER, stream);
    let lemmas: [&dyn Lemma; 6] = [
        &Clean(&examples),
        &Noisy(&examples),
        &Normed(&examples),
        &SecondKeyQuery { examples: &examples, keys_apart: false },
        &SecondKeyQuery { examples: &examples, keys_apart: true },
        &FirstKeyQuery(&examples),
    ];
    let check = |lemma: &dyn Lemma| {
        let (difference, largest) = difference(lemma);
        // A gradient that vanished would agree with anything.
        let measured = if largest > 1e-4 { difference } else { f64::NAN };
        let what = format!("{}: off by at most (largest entry {largest:.1e})", lemma.name());
        Check::within(what, 0.0, measured, 1e-12, lemma.weight().len() as u64)
    };
    lemmas.map(check).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_formula_agrees_with_automatic_differentiation() {
        for seed in 0..2 {
            for check in checks(&Stream::root(seed)) {
                assert!(check.holds(), "{check:?}");
            }
        }
    }

    /// A formula with an error is found: lemma 2 with the means of the wrong classes.
    #[test]
    fn a_wrong_formula_is_found() {
        struct Shifted<'a>(Noisy<'a>, Examples);
        impl Lemma for Shifted<'_> {
            fn name(&self) -> String {
                "wrong".to_owned()
            }
            fn weight(&self) -> Array2<f64> {
                self.0.weight()
            }
            fn loss(&self, weight: &Array2<Dual>) -> Dual {
                self.0.loss(weight)
            }
            fn gradient(&self) -> Array2<f64> {
                Noisy(&self.1).gradient()
            }
        }
        let examples = Examples::generate(Shape::PAPER, &Stream::root(0));
        let mut shifted = examples.clone();
        shifted.labels.rotate_left(1);
        let (difference, _) = difference(&Shifted(Noisy(&examples), shifted));
        assert!(difference > 1e-3, "{difference}");
    }
}
