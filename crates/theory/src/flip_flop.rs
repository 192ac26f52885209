//! A Transformer of two layers and one head that never misreads, written down.
//!
//! Seven axes: `e_1` for `w`, `e_2` for `r` and `i`, `e_3` and `e_4` for the bits, `e_5` always 1, `e_6`
//! the place `t / T` (from `t = 1`), and `e_7`, which layer 1 writes.
//!
//! ```text
//! layer 1   W_Q = [e_5 e_5]   W_K = [(3c/2T) e_1, c e_6]   W_V = [e_1 0]   W_C = [e_7 0]
//!           s_ij = (c/T) (1.5 1{x_j = w} + j): the greatest is j = i, or j = i - 1 if a w is there
//!           e_7 is rounded to 1{x_i = w or x_(i-1) = w}
//! layer 2   W_Q = [e_5 e_5]   W_K = [c e_7, c e_6]         W_V = [e_4 0]   W_C = [e_1 0]
//!           s_ij = c (e_7(x_j) + j/T): the greatest is right behind the last w, at the written bit
//!           the answer is 1 if e_1 is above one half
//! ```
//!
//! With hard attention any `c > 0` does. With a softmax the margins of the scores are at least `c/2T` and `c/T`,
//! so `c = T log T` is enough at every length. Expressivity is therefore not what trained models lack.
//!
//! Source: Liu et al., "Exposing Attention Glitches with Flip-Flop Language Modeling",
//! arXiv:2306.00946, proposition 2 (appendix C.1). `c` and `T` are the paper's; an MLP that rounds
//! is a rounding here.

use mnemoscope_stats::mean::Mean;
use mnemoscope_stats::stream::Stream;
use mnemoscope_task::token::{FIRST_SYMBOL, READ, WRITE};
use mnemoscope_task::{FlipFlop, Token, oracle};

use crate::check::Check;

/// Axes of the residual stream.
const D: usize = 7;
/// The paper's `e_1`: the token is `w`.
const E_W: usize = 0;
/// Its `e_2`: the token is `r` or `i`.
const E_R_OR_I: usize = 1;
/// Its `e_3` and `e_4`: the token is the bit 0, the bit 1.
const E_BITS: [usize; 2] = [2, 3];
/// Its `e_5`: always 1.
const E_ONE: usize = 4;
/// Its `e_6`: the place.
const E_PLACE: usize = 5;
/// Its `e_7`: a `w` stands here or one place before.
const E_BEHIND_W: usize = 6;
/// How many more units of `T log T` than one the softmax is tried with.
const SHARPNESS: [f64; 3] = [1.0, 2.0, 6.0];

/// How scores become weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Attend {
    /// All weight on the greatest score, shared equally where several are equal.
    Hard,
    /// A softmax of the scores, whose unit `c` is so many times `T log T`.
    Soft(f64),
}

/// A head with one value: two products of queries and keys, one number carried over.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Head {
    /// Columns of `W_K` over `c`; the queries are `e_5` twice.
    keys: [[f64; D]; 2],
    /// The axis that is read.
    value: usize,
    /// The axis that is written to.
    output: usize,
}

impl Head {
    /// What the head adds to the stream at place `idx`: the weighted mean of what it reads.
    fn mixed(&self, stream: &[[f64; D]], idx: usize, attend: Attend) -> f64 {
        let n = stream.len() as f64;
        let c = match attend {
            Attend::Hard => 1.0,
            Attend::Soft(unit) => unit * n * n.ln(),
        };
        let query = [stream[idx][E_ONE]; 2];
        let score = |x: &[f64; D]| {
            let products = self.keys.iter().zip(query).map(|(key, q)| {
                q * c * key.iter().zip(x).map(|(weight, x)| weight * x).sum::<f64>()
            });
            products.sum::<f64>()
        };
        let scores: Vec<f64> = stream[..=idx].iter().map(score).collect();
        let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weight = |score: f64| match attend {
            Attend::Hard => f64::from(u8::from(score >= greatest)),
            Attend::Soft(_) => (score - greatest).exp(),
        };
        let (mut sum, mut total) = (0.0, 0.0);
        for (x, &score) in stream.iter().zip(&scores) {
            let weight = weight(score);
            sum += weight * x[self.value];
            total += weight;
        }
        sum / total
    }
}

/// The construction; its fields are what a test spoils.
///
/// # Example
///
/// ```
/// use mnemoscope_theory::flip_flop::{Attend, ByHand};
///
/// // w0 i1 w1 i0 r1: the read at pos 8 is answered by token 4, which is the bit 1.
/// let tokens = [0, 3, 2, 4, 0, 4, 2, 3, 1, 4];
/// assert_eq!(ByHand::new(tokens.len()).answers(&tokens, Attend::Hard), [(8, 4)]);
/// assert_eq!(ByHand::new(tokens.len()).answers(&tokens, Attend::Soft(1.0)), [(8, 4)]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ByHand {
    layers: [Head; 2],
}

impl ByHand {
    /// The construction for examples of `seq_len` tokens, the paper's `T`.
    #[must_use]
    pub fn new(seq_len: usize) -> Self {
        let place = unit(E_PLACE, 1.0);
        let look_for_w = unit(E_W, 1.5 / seq_len as f64);
        let first = Head { keys: [look_for_w, place], value: E_W, output: E_BEHIND_W };
        let look_behind_w = unit(E_BEHIND_W, 1.0);
        let second = Head { keys: [look_behind_w, place], value: E_BITS[1], output: E_W };
        Self { layers: [first, second] }
    }

    /// The same without positions in layer 2, which then attends to all writes alike, recent or not.
    #[must_use]
    pub fn without_recency(mut self) -> Self {
        self.layers[1].keys[1] = [0.0; D];
        self
    }

    /// The same with a third of the weight on `w` in layer 1, which then never looks one place
    /// back: layer 2 finds the last `w` in place of its bit.
    #[must_use]
    pub fn without_look_back(mut self) -> Self {
        self.layers[0].keys[0].iter_mut().for_each(|weight| *weight /= 3.0);
        self
    }

    /// What the construction answers to each read, by the place of the `r`, in order.
    ///
    /// # Arguments
    ///
    /// - `tokens`: an example of two symbols.
    #[must_use]
    pub fn answers(&self, tokens: &[Token], attend: Attend) -> Vec<(usize, Token)> {
        let [first, second] = &self.layers;
        let mut stream = embedded(tokens);
        let written: Vec<f64> =
            (0..stream.len()).map(|idx| first.mixed(&stream, idx, attend).round()).collect();
        for (x, written) in stream.iter_mut().zip(written) {
            x[first.output] += written;
        }
        let reads = (0..tokens.len()).step_by(2).filter(|&pos| tokens[pos] == READ);
        reads
            .map(|pos| {
                let carried = stream[pos][second.output] + second.mixed(&stream, pos, attend);
                (pos, FIRST_SYMBOL + Token::from(carried > 0.5))
            })
            .collect()
    }
}

/// `size` along one axis.
fn unit(axis: usize, size: f64) -> [f64; D] {
    let mut vector = [0.0; D];
    vector[axis] = size;
    vector
}

/// The residual stream before layer 1, `[seq_len, 7]`.
fn embedded(tokens: &[Token]) -> Vec<[f64; D]> {
    let n = tokens.len() as f64;
    let embed = |(idx, &token): (usize, &Token)| {
        let axis = match token {
            WRITE => E_W,
            FIRST_SYMBOL => E_BITS[0],
            _ if token > FIRST_SYMBOL => E_BITS[1],
            _ => E_R_OR_I,
        };
        let mut x = unit(axis, 1.0);
        x[E_ONE] = 1.0;
        x[E_PLACE] = (idx + 1) as f64 / n;
        x
    };
    tokens.iter().enumerate().map(embed).collect()
}

/// How a construction did on drawn examples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Read {
    /// Reads, of all examples.
    pub n_reads: u64,
    /// Those whose answer is not the oracle's.
    pub n_errors: u64,
    /// The share of wrong answers in each example; examples are independent, reads are not.
    pub error_rate: Mean,
}

/// Asks a construction at every read of drawn examples, and the oracle after it.
///
/// # Randomness
///
/// Example `i` is item `i` of `stream`.
#[must_use]
pub fn read(
    by_hand: &ByHand,
    language: &FlipFlop,
    attend: Attend,
    n_examples: u64,
    stream: &Stream,
) -> Read {
    let mut tokens = vec![0; language.seq_len as usize];
    let mut found = Read::default();
    for index in 0..n_examples {
        language.generate_into(&mut stream.at(index), &mut tokens);
        let answers = by_hand.answers(&tokens, attend);
        let right = oracle::answers(&tokens);
        assert_eq!(answers.len(), right.len(), "every read is asked and answered");
        let n_wrong = answers
            .iter()
            .zip(&right)
            .filter(|&(&(pos, said), &(read_pos, is))| pos != read_pos || Some(said) != is)
            .count();
        found.n_reads += right.len() as u64;
        found.n_errors += n_wrong as u64;
        found.error_rate.add(n_wrong as f64 / right.len() as f64);
    }
    found
}

/// The checks of this module: no error on the paper's three sets at `T = 512`, and errors as soon as
/// a part is missing.
///
/// # Panics
///
/// If there are fewer than two examples.
#[must_use]
pub fn checks(n_examples: u64, stream: &Stream) -> Vec<Check> {
    let mut checks = Vec::new();
    for p_ignore in [0.8, 0.98, 0.1] {
        let language = language(p_ignore);
        let stream = stream.derive(&format!("FFL({p_ignore})"));
        let by_hand = ByHand::new(language.seq_len as usize);
        let soft =
            SHARPNESS.map(|unit| (format!("softmax, c = {unit} T log T"), Attend::Soft(unit)));
        for (how, attend) in [("hard attention".to_owned(), Attend::Hard)].into_iter().chain(soft) {
            let found = read(&by_hand, &language, attend, n_examples, &stream);
            let what = format!("FFL({p_ignore}), {how}: wrong reads");
            checks.push(Check::within(what, 0.0, found.n_errors as f64, 0.0, found.n_reads));
        }
        // Bits are exchangeable, so an answer that depends on none is wrong half of the time.
        let blind = by_hand.without_look_back();
        let found = read(&blind, &language, Attend::Hard, n_examples, &stream);
        let what = format!("FFL({p_ignore}), layer 1 never looks back: share of wrong reads");
        checks.push(Check::mean(what, 0.5, &found.error_rate));
    }
    checks
}

fn language(p_ignore: f64) -> FlipFlop {
    FlipFlop::paper(p_ignore).unwrap_or_else(|why| panic!("FFL({p_ignore}): {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The intervals of the blind construction hold with a chance of 0.9999 each; the rest is exact.
    #[test]
    fn the_construction_never_errs_and_without_a_part_it_does() {
        for check in checks(40, &Stream::root(0)) {
            assert!(check.holds(), "{check:?}");
        }
    }

    /// Attending to all writes alike, to `w` and bit, never finds more than one half of ones: it says 0.
    #[test]
    fn a_construction_without_recency_is_right_by_chance() {
        for p_ignore in [0.8, 0.98, 0.1] {
            let by_hand = ByHand::new(512).without_recency();
            let found = read(&by_hand, &language(p_ignore), Attend::Hard, 40, &Stream::root(1));
            let rate = found.n_errors as f64 / found.n_reads as f64;
            assert!((rate - 0.5).abs() < 0.15, "p_ignore {p_ignore}: {rate}");
        }
    }

    #[test]
    fn a_softmax_that_is_too_soft_misreads() {
        let soft = |unit| {
            read(&ByHand::new(512), &language(0.8), Attend::Soft(unit), 10, &Stream::root(2))
        };
        assert_eq!(soft(1.0).n_errors, 0);
        assert!(soft(0.05).n_errors > 0);
    }

    /// The margins that the proof names, on every place of some examples.
    #[test]
    fn layer_1_marks_every_w_and_what_stands_behind_it() {
        let language = language(0.8);
        let mut tokens = vec![0; 512];
        for index in 0..10 {
            language.generate_into(&mut Stream::root(3).at(index), &mut tokens);
            let stream = embedded(&tokens);
            let [first, _] = ByHand::new(512).layers;
            for idx in 0..tokens.len() {
                let behind_w = tokens[idx] == WRITE || (idx > 0 && tokens[idx - 1] == WRITE);
                let marked = first.mixed(&stream, idx, Attend::Hard);
                assert!((marked - f64::from(u8::from(behind_w))).abs() < 1e-12, "{idx}");
            }
        }
    }
}
