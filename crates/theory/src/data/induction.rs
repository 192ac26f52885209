//! Examples that end at the second occurrence of a trigger, drawn exactly.
//!
//! ```text
//! t       1  2  3  4  5  6  7  8      a trigger q with its output o, all laws uniform
//! token   c  a  q  o  b  a  o  q      the label is o
//!               ^              ^
//!              t_q             T      q occurs at t_q and at T and nowhere else
//! ```
//!
//! The paper draws sequences of its bigram language with one trigger, uniform laws, and keeps those
//! whose last input is the second occurrence of the trigger. Kept are very few, but their law is
//! simple. With `o != q` the trigger stands at each `t_q <= T - 2` with the same probability
//! `((N - 1) / N)^(T - 2) / N^2`: the tokens that must not be `q` are `t_q - 1` before, the output
//! itself, and `T - t_q - 2` after. With `o = q` the two occurrences are adjacent, `t_q = T - 1`,
//! and the probability is again that. So `t_q` is uniform on `1..=T - 1`, the last of which means
//! `o = q`, and every other token is uniform on what is not `q`.
//!
//! The output is therefore seen at a place uniform on `2..=T` and not concentrated anywhere, and it
//! is the trigger itself with probability `1 / (T - 1)` and not `1 / N`.
//!
//! Source: arXiv:2306.00802, appendix B.3, for the language; the sampler is derived above.

use mnemoscope_stats::stream::Draws;
use mnemoscope_task::Token;

/// The law of examples that end at the second occurrence of their trigger.
///
/// # Example
///
/// ```
/// use mnemoscope_stats::stream::Stream;
/// use mnemoscope_theory::data::induction::Induction;
///
/// let law = Induction::new(65, 32);
/// let example = law.generate(&mut Stream::root(0).at(0));
/// let n_triggers = example.tokens.iter().filter(|&&token| token == example.trigger).count();
/// assert_eq!((example.tokens.len(), n_triggers), (32, 2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Induction {
    d_vocab: u32,
    seq_len: u32,
}

/// One example: `seq_len` input tokens, the last of which is the trigger; the label is the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The inputs `z_1 .. z_T`.
    pub tokens: Vec<Token>,
    /// The trigger `q`.
    pub trigger: Token,
    /// The output `o`, which is the label `y`.
    pub output: Token,
    /// The place of the trigger's first occurrence, from 0; the output stands after it.
    pub trigger_pos: usize,
}

impl Induction {
    /// The law with this vocabulary and length.
    ///
    /// # Panics
    ///
    /// If there are fewer than 2 tokens or more than 65,536, or fewer than 3 positions.
    #[must_use]
    #[track_caller]
    pub fn new(d_vocab: u32, seq_len: u32) -> Self {
        assert!((2..=1 << 16).contains(&d_vocab), "d_vocab is {d_vocab}; use 2 to 65536");
        assert!(seq_len >= 3, "seq_len is {seq_len}; use at least 3");
        Self { d_vocab, seq_len }
    }

    /// The paper's `N`.
    #[must_use]
    pub fn d_vocab(&self) -> usize {
        self.d_vocab as usize
    }

    /// The paper's `T`.
    #[must_use]
    pub fn seq_len(&self) -> usize {
        self.seq_len as usize
    }

    /// Draws an example.
    ///
    /// # Randomness
    ///
    /// A word for the trigger, one for its place, one for the output unless it is the trigger, and
    /// one for each other token by position; rarely one more for any of these.
    #[must_use]
    pub fn generate(&self, draws: &mut Draws) -> Example {
        let seq_len = self.seq_len();
        let trigger = draws.below(self.d_vocab) as Token;
        let trigger_pos = draws.below(self.seq_len - 1) as usize;
        let adjacent = trigger_pos == seq_len - 2;
        let output = if adjacent { trigger } else { self.other(trigger, draws) };
        let token = |pos| {
            if pos == trigger_pos || pos == seq_len - 1 {
                trigger
            } else if pos == trigger_pos + 1 {
                output
            } else {
                self.other(trigger, draws)
            }
        };
        Example { tokens: (0..seq_len).map(token).collect(), trigger, output, trigger_pos }
    }

    /// A token uniform on what is not `trigger`.
    fn other(&self, trigger: Token, draws: &mut Draws) -> Token {
        let token = draws.below(self.d_vocab - 1) as Token;
        token + Token::from(token >= trigger)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mnemoscope_stats::rate::clopper_pearson;
    use mnemoscope_stats::stream::Stream;

    use super::*;

    /// The law from its definition: every trigger, output and sequence of the language, with its
    /// probability, kept if the last token is the second trigger.
    fn enumerated(d_vocab: u32, seq_len: u32) -> BTreeMap<(Token, Vec<Token>), f64> {
        let n = f64::from(d_vocab);
        let mut law = BTreeMap::new();
        for trigger in 0..d_vocab {
            for output in 0..d_vocab {
                for code in 0..d_vocab.pow(seq_len) {
                    let digit = |pos| (code / d_vocab.pow(pos)) % d_vocab;
                    let tokens: Vec<Token> = (0..seq_len).map(|pos| digit(pos) as Token).collect();
                    let mut probability = 1.0 / n / n / n;
                    for pair in tokens.windows(2) {
                        let after_trigger = u32::from(pair[0]) == trigger;
                        probability *= match after_trigger {
                            true if u32::from(pair[1]) == output => 1.0,
                            true => 0.0,
                            false => 1.0 / n,
                        };
                    }
                    let n_triggers =
                        tokens.iter().filter(|&&token| u32::from(token) == trigger).count();
                    let ends = tokens.last().is_some_and(|&token| u32::from(token) == trigger);
                    if probability > 0.0 && n_triggers == 2 && ends {
                        *law.entry((output as Token, tokens)).or_insert(0.0) += probability;
                    }
                }
            }
        }
        let sum: f64 = law.values().sum();
        law.values_mut().for_each(|probability| *probability /= sum);
        law
    }

    /// Every possible example of a small language against its frequency in 40,000 draws. The first
    /// language has 6 * 2^4 examples or fewer, the second 4 * 3^2 * 2 or so: below 200 intervals,
    /// each of which excludes the truth once in 10^8 streams.
    #[test]
    fn the_law_is_that_of_the_language_conditioned_on_its_end() {
        const N_EXAMPLES: u64 = 40_000;
        for (d_vocab, seq_len) in [(3, 5), (4, 4)] {
            let law = enumerated(d_vocab, seq_len);
            assert!(law.len() > 20 && law.len() < 200, "{}", law.len());
            let (sampler, stream) = (Induction::new(d_vocab, seq_len), Stream::root(0));
            let mut seen: BTreeMap<(Token, Vec<Token>), u64> = BTreeMap::new();
            for index in 0..N_EXAMPLES {
                let example = sampler.generate(&mut stream.at(index));
                assert_eq!(example.tokens[example.trigger_pos + 1], example.output);
                *seen.entry((example.output, example.tokens)).or_default() += 1;
            }
            for example in seen.keys() {
                assert!(law.contains_key(example), "{example:?} cannot occur");
            }
            for (example, probability) in law {
                let n = seen.get(&example).copied().unwrap_or(0);
                let interval = clopper_pearson(n, N_EXAMPLES, 1.0 - 1e-8);
                assert!(interval.contains(probability), "{example:?}: {n}, {probability}");
            }
        }
    }

    /// 31 places and one share, each outside of its interval once in 10^8 streams.
    #[test]
    fn the_place_of_the_trigger_is_uniform_and_its_end_means_a_repeat() {
        let (law, stream) = (Induction::new(65, 32), Stream::root(1));
        let mut places = [0_u64; 31];
        for index in 0..31_000 {
            let example = law.generate(&mut stream.at(index));
            places[example.trigger_pos] += 1;
            assert_eq!(example.trigger_pos == 30, example.trigger == example.output);
        }
        for n in places {
            let interval = clopper_pearson(n, 31_000, 1.0 - 1e-8);
            assert!(interval.contains(1.0 / 31.0), "{places:?}");
        }
    }
}
