//! What each of the theorem's three gradient steps stores, in closed form, and measured.
//!
//! In orthonormal coordinates a weight is a table of coefficients, one for each pair of embeddings.
//! The examples are those of [`crate::data::induction`], the loss is taken at the last position, all
//! weights start at zero, and predictions count as uniform, `p_hat = 1 / N`, in every step. `eta` is
//! the step size, `alpha = eta / (N T)`.
//!
//! | step | stores | coefficient |
//! |---|---|---|
//! | 1, `W_O^2` | `w_U(k)` under `W_V w_E(j)` | `eta / (N T) (N E[1{y = k} n_j] - E[n_j])`, `n_j` occurrences of `j` |
//! | | and under `W_V Phi_1 w_E(j)` | the same with occurrence at `s` weighted by `h_s = sum_{t=s}^T 1 / t` |
//! | 2, `W_K^2` | `Phi_1 w_E(i)` under `w_E(j)` | `alpha eta / (N T) N E[1{q = j} sum_{t: z_t = y} (m_t(i) - mean m(i))]` |
//! | 3, `W_K^1` | `p_s` under `p_t` | `eta alpha alpha' / (T t) E[(1{z_t = y} - n_y / T)(1{z_s = q} - mean_{s <= t})]` |
//!
//! with `m_t(i)` the share of `i` among the first `t` tokens. The paper gives the leading order in
//! `1 / N` and `1 / T`; the law of the examples is simple enough for the whole value, which is what
//! [`Law`] has. The two differ by more than they sound: at `T = 256` the diagonal of step 2 is 4 %
//! below the leading order.
//!
//! Source: arXiv:2306.00802, appendix B.3. Finite sizes are derived here.

use mnemoscope_stats::mean::Mean;
use mnemoscope_stats::stream::Stream;
use ndarray::{Array2, Axis};

use crate::check::{Allowed, Check};
use crate::data::induction::{Example, Induction};

/// Closed forms for one vocabulary and one length.
///
/// # Example
///
/// ```
/// use mnemoscope_theory::coefficients::Law;
///
/// let law = Law::new(65, 64);
/// // The paper's 1 - 1 / N is the limit of long examples and large vocabularies.
/// assert!((law.direct_diagonal() - (1.0 - 1.0 / 65.0)).abs() < 0.02);
/// assert!((law.tau() - 0.956).abs() < 1e-3);
/// ```
#[derive(Clone, Debug)]
pub struct Law {
    d_vocab: f64,
    seq_len: f64,
    /// `h_t = sum_{t'=t}^T 1 / t'`, with `t` from 1; place 0 is not used.
    tails: Vec<f64>,
}

impl Law {
    /// The law of [`Induction::new`] with the same sizes.
    ///
    /// # Panics
    ///
    /// If there are fewer than 3 tokens or 4 positions: then some coefficient has no pairs.
    #[must_use]
    #[track_caller]
    pub fn new(d_vocab: usize, seq_len: usize) -> Self {
        assert!(
            d_vocab >= 3 && seq_len >= 4,
            "{d_vocab} tokens and {seq_len} positions are too few"
        );
        let mut tails = vec![0.0; seq_len + 2];
        for t in (1..=seq_len).rev() {
            tails[t] = tails[t + 1] + 1.0 / t as f64;
        }
        Self { d_vocab: d_vocab as f64, seq_len: seq_len as f64, tails }
    }

    /// The mean of `apart(t_q)` over the places of a trigger with another output, and of `repeated`
    /// where the trigger is its own output: each place has probability `1 / (T - 1)`.
    fn mean(&self, apart: impl Fn(usize) -> f64, repeated: f64) -> f64 {
        let last = self.seq_len as usize - 2;
        ((1..=last).map(apart).sum::<f64>() + repeated) / (self.seq_len - 1.0)
    }

    /// The mean weight of the label in an example, less its share of all weight, where the
    /// occurrence at `t` weighs `weight(t)`.
    ///
    /// The label stands after the trigger and, if it is no repeat, anywhere else but at the two
    /// triggers with probability `1 / (N - 1)`.
    fn diagonal(&self, weight: impl Fn(usize) -> f64) -> f64 {
        let seq_len = self.seq_len as usize;
        let all: f64 = (1..=seq_len).map(&weight).sum();
        let apart = |t_q| {
            let others = all - weight(t_q) - weight(t_q + 1) - weight(seq_len);
            weight(t_q + 1) + others / (self.d_vocab - 1.0)
        };
        self.mean(apart, weight(seq_len - 1) + weight(seq_len)) - all / self.d_vocab
    }

    /// Step 1: the coefficient of `w_U(k)` under `W_V w_E(k)`, in units of `eta / (N T)`.
    ///
    /// The paper has `1 - 1 / N`.
    #[must_use]
    pub fn direct_diagonal(&self) -> f64 {
        self.diagonal(|_| 1.0)
    }

    /// Step 1: the coefficient of `w_U(k)` under `W_V Phi_1 w_E(k)`, in units of `eta / (N T)`.
    ///
    /// The paper has `tau (1 - 1 / N)`.
    #[must_use]
    pub fn remapped_diagonal(&self) -> f64 {
        self.diagonal(|t| self.tails[t])
    }

    /// The paper's `tau = E[sum_{t = t_o}^T 1 / t]`, for outputs that are not their trigger.
    #[must_use]
    pub fn tau(&self) -> f64 {
        let last = self.seq_len as usize - 1;
        (2..=last).map(|t_o| self.tails[t_o]).sum::<f64>() / (self.seq_len - 2.0)
    }

    /// The paper's `gamma_T = E[1 / t_o - (1 / T) sum_{t = t_o - 1}^T 1 / t - 1 / T^2]`, for outputs
    /// that are not their trigger.
    #[must_use]
    pub fn gamma(&self) -> f64 {
        let last = self.seq_len as usize - 1;
        let term = |t_o: usize| {
            1.0 / t_o as f64 - self.tails[t_o - 1] / self.seq_len - self.seq_len.powi(-2)
        };
        (2..=last).map(term).sum::<f64>() / (self.seq_len - 2.0)
    }

    /// Step 2: the coefficient of `Phi_1 w_E(i)` under `w_E(i)`, in units of `alpha eta / (N T)`.
    ///
    /// The paper has `gamma_T`. With `m_t` the share of the trigger among the first `t` tokens, the
    /// other occurrences of the output fall on all places but three with probability `1 / (N - 1)`
    /// each, and as differences to the mean add up to zero, they take that share of the three away.
    #[must_use]
    pub fn key_diagonal(&self) -> f64 {
        let seq_len = self.seq_len;
        let apart = |t_q: usize| {
            let mean = (self.tails[t_q] + 1.0 / seq_len) / seq_len;
            let at_output = 1.0 / (t_q + 1) as f64 - mean;
            let at_triggers = 1.0 / t_q as f64 - mean + 2.0 / seq_len - mean;
            at_output - (at_triggers + at_output) / (self.d_vocab - 1.0)
        };
        let before = 1.0 / (seq_len - 1.0);
        let mean = (before + 2.0 / seq_len) / seq_len;
        self.mean(apart, before + 2.0 / seq_len - 2.0 * mean)
    }

    /// Step 3: the coefficient of `p_{t-1}` under `p_t`, in units of `eta alpha alpha' / (T t)`.
    ///
    /// ```text
    /// W p_t = (1 / (T - 1)) {(1 - 1 / (N - 1)) (p_{t-1} - mean p_{1:t}) - (p_t - mean p_{1:t}) / (N - 1)}
    /// ```
    ///
    /// for `1 < t <= T - 2`. Given `o != q` the factor is `1 / (T - 2)`.
    ///
    /// # Panics
    ///
    /// If `t` is outside of that range.
    #[must_use]
    #[track_caller]
    pub fn previous(&self, t: usize) -> f64 {
        assert!(1 < t && t as f64 <= self.seq_len - 2.0, "t is {t}; it has no closed form");
        let (share, other) = (1.0 / t as f64, 1.0 / (self.d_vocab - 1.0));
        ((1.0 - other) * (1.0 - share) + other * share) / (self.seq_len - 1.0)
    }

    /// Step 3 at `t = T - 1`: how much larger the coefficient of `p_{t-1}` is than that of `p_t`, in
    /// units of `eta alpha alpha' / (T t)`.
    ///
    /// ```text
    /// (1 - (T - 3) / (N - 1)) / (T (T - 1))
    /// ```
    ///
    /// With the trigger at `T - 2` its output stands at `T - 1`; a trigger that is its own output
    /// stands at `T - 1` itself. Each has probability `1 / (T - 1)`, and they differ only by how
    /// often the label occurs: `1 + (T - 3) / (N - 1)` times or twice. For `T > N + 2` the step looks
    /// at its own place. The paper leaves repeats out as being of lower order.
    #[must_use]
    pub fn repeat_margin(&self) -> f64 {
        let excess = 1.0 - (self.seq_len - 3.0) / (self.d_vocab - 1.0);
        excess / (self.seq_len * (self.seq_len - 1.0))
    }
}

/// The same coefficients from drawn examples.
#[derive(Clone, Debug)]
pub struct Measured {
    law: Induction,
    direct: Mean,
    remapped: Mean,
    key: Mean,
    tau: Mean,
    /// One for each of [`Measured::places`].
    previous: Vec<Mean>,
    places: Vec<usize>,
    /// Sums of `n_j` by label: `[label, j]`.
    by_label: Array2<f64>,
    n_of_label: Vec<f64>,
}

impl Measured {
    /// Draws `n_examples` examples and takes their means.
    ///
    /// # Randomness
    ///
    /// Examples 0 to `n_examples` of `stream`.
    #[must_use]
    pub fn new(law: Induction, n_examples: u64, stream: &Stream) -> Self {
        let d_vocab = law.d_vocab();
        let last = law.seq_len() - 2;
        let mut places: Vec<usize> = [2, 5, 10].into_iter().filter(|&t| t < last).collect();
        places.push(last);
        let mut measured = Self {
            law,
            direct: Mean::default(),
            remapped: Mean::default(),
            key: Mean::default(),
            tau: Mean::default(),
            previous: vec![Mean::default(); places.len()],
            places,
            by_label: Array2::zeros((d_vocab, d_vocab)),
            n_of_label: vec![0.0; d_vocab],
        };
        let tails = Law::new(d_vocab, law.seq_len()).tails;
        for index in 0..n_examples {
            measured.add(&law.generate(&mut stream.at(index)), &tails);
        }
        measured
    }

    /// The `t` at which step 3 is looked at: early, and the last with a closed form.
    #[must_use]
    pub fn places(&self) -> &[usize] {
        &self.places
    }

    fn add(&mut self, example: &Example, tails: &[f64]) {
        let (seq_len, d_vocab) = (self.law.seq_len(), self.law.d_vocab());
        let label = usize::from(example.output);
        let is = |t: usize, token| example.tokens[t - 1] == token;
        let n_label = (1..=seq_len).filter(|&t| is(t, example.output)).count() as f64;
        let by_chance = seq_len as f64 / d_vocab as f64;
        self.direct.add(n_label - by_chance);
        let weight: f64 = (1..=seq_len).filter(|&t| is(t, example.output)).map(|t| tails[t]).sum();
        self.remapped.add(weight - by_chance);
        if example.trigger != example.output {
            self.tau.add(tails[example.trigger_pos + 2]);
        }

        // Shares of the trigger among the first `t` tokens.
        let mut n_triggers = 0.0;
        let shares: Vec<f64> = (1..=seq_len)
            .map(|t| {
                n_triggers += indicator(is(t, example.trigger));
                n_triggers / t as f64
            })
            .collect();
        let mean = shares.iter().sum::<f64>() / seq_len as f64;
        let key = (1..=seq_len).filter(|&t| is(t, example.output)).map(|t| shares[t - 1] - mean);
        self.key.add(key.sum());

        let share = n_label / seq_len as f64;
        for (&t, previous) in std::iter::zip(&self.places, &mut self.previous) {
            let here = indicator(is(t, example.output)) - share;
            let before = indicator(is(t - 1, example.trigger)) - shares[t - 1];
            previous.add(here * before);
        }
        self.n_of_label[label] += 1.0;
        for &token in &example.tokens {
            self.by_label[[label, usize::from(token)]] += 1.0;
        }
    }

    /// Step 1: every coefficient of `w_U(k)` under `W_V w_E(j)`, in units of `eta / (N T)`.
    ///
    /// # Shapes
    ///
    /// `[k, j]`.
    #[must_use]
    pub fn direct_table(&self) -> Array2<f64> {
        let (n, d_vocab) = (self.n_of_label.iter().sum::<f64>(), self.law.d_vocab() as f64);
        let mean = self.by_label.sum_axis(Axis(0)) / n;
        &self.by_label * (d_vocab / n) - &mean
    }

    /// Closed forms beside these measurements.
    #[must_use]
    pub fn checks(&self) -> Vec<Check> {
        let (d_vocab, seq_len) = (self.law.d_vocab(), self.law.seq_len());
        let law = Law::new(d_vocab, seq_len);
        let length = seq_len as f64;
        let at = format!("N {d_vocab}, T {seq_len}");
        let table = self.direct_table();
        let diagonal = table.diag().sum();
        let off_diagonal = table.sum() - diagonal;
        // What the leading order leaves out: repeats (1 / T), and chance occurrences of the label
        // at the other places, of which a few are taken by triggers and output.
        let n = d_vocab as f64;
        let correction = 1.0 / length + (4.0 + length / n) / n;
        let mut checks = vec![
            Check::mean(format!("{at}: step 1, diagonal"), law.direct_diagonal(), &self.direct),
            Check::within(
                format!("{at}: step 1, the paper's 1 - 1/N beside the exact value"),
                1.0 - 1.0 / n,
                law.direct_diagonal(),
                correction,
                1,
            ),
            Check::within(
                format!("{at}: step 1, sum off the diagonal over sum on it"),
                -1.0,
                off_diagonal / diagonal,
                1e-9,
                (d_vocab * (d_vocab - 1)) as u64,
            ),
            Check::mean(
                format!("{at}: step 1, diagonal through Phi_1"),
                law.remapped_diagonal(),
                &self.remapped,
            ),
            Check::mean(format!("{at}: tau"), law.tau(), &self.tau),
            times(
                Check::mean(format!("{at}: step 2, T diagonal"), law.key_diagonal(), &self.key),
                length,
            ),
            Check::within(
                format!("{at}: step 2, the paper's gamma_T T beside the exact value"),
                law.gamma() * length,
                law.key_diagonal() * length,
                correction * law.gamma() * length,
                1,
            ),
        ];
        checks.extend(std::iter::zip(&self.places, &self.previous).map(|(&t, measured)| {
            let predicted = law.previous(t);
            let what = format!("{at}: step 3 at t = {t}, over the closed form");
            times(Check::mean(what, predicted, measured), 1.0 / predicted)
        }));
        checks
    }
}

fn indicator(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// A check in another unit.
fn times(mut check: Check, factor: f64) -> Check {
    check.predicted *= factor;
    check.measured *= factor;
    if let Allowed::Interval(bounds) = &mut check.allowed {
        bounds.iter_mut().for_each(|bound| *bound *= factor);
    }
    check
}

/// The checks of this module for some sizes: vocabulary, length, examples.
#[must_use]
pub fn checks(sizes: &[(u32, u32, u64)], stream: &Stream) -> Vec<Check> {
    let of_size = |(&(d_vocab, seq_len, n_examples), index)| {
        let law = Induction::new(d_vocab, seq_len);
        Measured::new(law, n_examples, &stream.child(index)).checks()
    };
    sizes.iter().zip(0..).flat_map(of_size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean of a function over every example of a small law, by its definition: places and
    /// tokens enumerated, each weighted by its probability.
    fn enumerated(d_vocab: u16, seq_len: usize, value: impl Fn(&Example) -> f64) -> f64 {
        let mut mean = 0.0;
        for trigger in 0..d_vocab {
            for trigger_pos in 0..seq_len - 1 {
                let adjacent = trigger_pos == seq_len - 2;
                let free: Vec<usize> = (0..seq_len - 1).filter(|&pos| pos != trigger_pos).collect();
                let n_codes = usize::from(d_vocab - 1).pow(free.len() as u32);
                for code in 0..n_codes {
                    let mut tokens = vec![trigger; seq_len];
                    let mut rest = code;
                    for &pos in &free {
                        let token = (rest % usize::from(d_vocab - 1)) as u16;
                        rest /= usize::from(d_vocab - 1);
                        tokens[pos] = token + u16::from(token >= trigger);
                    }
                    let output = if adjacent { trigger } else { tokens[trigger_pos + 1] };
                    let example = Example { tokens, trigger, output, trigger_pos };
                    mean += value(&example) / n_codes as f64;
                }
            }
        }
        mean / f64::from(d_vocab) / (seq_len - 1) as f64
    }

    /// What one example adds to step 3 at `t = T - 1`, under `p_{t-1}` less under `p_t`.
    fn repeat_margin(example: &Example) -> f64 {
        let seq_len = example.tokens.len();
        let is = |t: usize, token| indicator(example.tokens[t - 1] == token);
        let n_label: f64 = (1..=seq_len).map(|t| is(t, example.output)).sum();
        let here = is(seq_len - 1, example.output) - n_label / seq_len as f64;
        here * (is(seq_len - 2, example.trigger) - is(seq_len - 1, example.trigger))
    }

    /// Closed forms against enumeration, to rounding: nothing here is left to chance.
    #[test]
    fn closed_forms_are_the_means_over_every_example() {
        for (d_vocab, seq_len) in [(4_u16, 5_usize), (3, 7)] {
            let law = Law::new(usize::from(d_vocab), seq_len);
            let induction = Induction::new(u32::from(d_vocab), seq_len as u32);
            let of = |example: &Example| {
                let mut one = Measured::new(induction, 0, &Stream::root(0));
                one.add(example, &law.tails);
                one
            };
            let cases = [
                (law.direct_diagonal(), enumerated(d_vocab, seq_len, |it| of(it).direct.mean())),
                (
                    law.remapped_diagonal(),
                    enumerated(d_vocab, seq_len, |it| of(it).remapped.mean()),
                ),
                (law.key_diagonal(), enumerated(d_vocab, seq_len, |it| of(it).key.mean())),
                (law.previous(2), enumerated(d_vocab, seq_len, |it| of(it).previous[0].mean())),
                (law.repeat_margin(), enumerated(d_vocab, seq_len, repeat_margin)),
                (
                    law.previous(seq_len - 2),
                    enumerated(d_vocab, seq_len, |it| of(it).previous.last().unwrap().mean()),
                ),
            ];
            for (closed, mean) in cases {
                assert!((closed - mean).abs() < 1e-13, "{d_vocab}, {seq_len}: {closed}, {mean}");
            }
        }
    }

    /// Forty or so intervals of 99.99 %: one seed in 250 would fail.
    #[test]
    fn drawn_examples_agree_with_the_closed_forms() {
        for check in checks(&[(65, 32, 4_000), (20, 16, 4_000)], &Stream::root(0)) {
            assert!(check.holds(), "{check:?}");
        }
    }
}
