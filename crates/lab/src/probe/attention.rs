//! Where the two layers look.
//!
//! With `a1(t)` and `a2(t)` the places that positions attend to most in layers 1 and 2 (of several heads the
//! mean pattern), `x` the tokens, `occ` the count of the trigger at a position, all from 0:
//!
//! | name | over | right if |
//! |---|---|---|
//! | `previous` | `occ(i) >= 1`, but for the last position | `a1(i + 1) = i` |
//! | `previous_first` | the same with `occ(i) = 1` | `a1(i + 1) = i` |
//! | `induction` | `occ(i) >= 2` | `x[a2(i) - 1] = x[i]`; place 0 is wrong |
//! | `answered` | `occ(i) >= 2` | `x[a2(i)]` is what the model answers |
//! | `attended` | `occ(i) >= 2` | `x[a2(i)]` is what follows |
//! | `previous_of_attended` | `occ(i) >= 2` and `a2(i) >= 1` | `a1(a2(i)) = a2(i) - 1` |
//! | `repeat` | `occ(i) >= 1` | the output is the trigger itself |
//! | `repeat_attended` | `occ(i) >= 2` where it is | `x[a2(i)]` is what follows |
//!
//! `repeat` is a fact about the data. Masses are means of the softmax itself: `mass_previous` of layer 1
//! on the place before, over positions from 1; `mass_outputs` of layer 2 on all places behind an earlier
//! occurrence of the trigger, over `occ(i) >= 2`; `mass_first_place` of each layer on place 0, over
//! positions from 1. Counts and means of the examples looked at: level 1 of statistics.
//!
//! # Source
//!
//! `score_acc`, `score_start_acc`, `score2_acc`, `pred_attended_acc`, `score_cond_acc` and `repeat_frac` of
//! the code that Bietti et al. 2023 published; the masses are ours.

use mnemoscope_engine::{Ops, QueryRows};
use mnemoscope_model::Model;
use mnemoscope_model::hook::Record;
use mnemoscope_stats::stream::Stream;
use mnemoscope_task::{Bigram, Scoring, Task, Token};
use serde::{Deserialize, Serialize};

use super::Share;
use crate::batch::Batch;

const PATTERNS: [&str; 2] = ["blocks.0.attn.hook_pattern", "blocks.1.attn.hook_pattern"];

/// Where the two layers of a model look, in the examples looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are in the table of the module")]
pub struct Attention {
    pub n_examples: u64,
    pub previous: Share,
    pub previous_first: Share,
    pub induction: Share,
    pub answered: Share,
    pub attended: Share,
    pub previous_of_attended: Share,
    pub repeat: Share,
    pub repeat_attended: Share,
    pub mass_previous: f64,
    pub mass_outputs: f64,
    pub mass_first_place: [f64; 2],
}

/// Looks at the patterns of `n_examples` examples of a stream.
///
/// # Panics
///
/// If the model has no two layers of attention.
#[must_use]
pub fn look<B: Ops>(
    language: &Bigram,
    model: &Model<B>,
    stream: &Stream,
    first_index: u64,
    n_examples: usize,
    device: &B::Device,
) -> Attention {
    let task = Task::Bigram(language.clone());
    let batch = Batch::draw(&task, stream, first_index, n_examples, Scoring::All);
    let n_pos = batch.n_fed;
    let mut record = Record::new(&model.spec(), &PATTERNS)
        .expect("a model that probes read has two layers of attention");
    let logits =
        model.logits(batch.inputs::<B>(device), &QueryRows::all(n_examples, n_pos), &mut record);
    let logits =
        logits.into_data().into_vec::<f32>().expect("the model computes in single precision");
    let d_vocab = logits.len() / (n_examples * n_pos);
    let mut sums = Sums::default();
    for example in 0..n_examples {
        let tokens = batch.example(example);
        let mut counts = Vec::new();
        let triggers = language.triggers_at(&mut stream.at(first_index + example as u64));
        language.occurrences(tokens, &triggers, &mut counts);
        let logits = &logits[example * n_pos * d_vocab..][..n_pos * d_vocab];
        let patterns = [0, 1].map(|layer| pattern(&record, layer, example, n_pos));
        sums.add(&Seen { tokens, counts: &counts, answers: answers(logits, d_vocab), patterns });
    }
    sums.attention(n_examples as u64)
}

/// `[query, key]` of one example, the mean over heads.
fn pattern(record: &Record, layer: usize, example: usize, n_pos: usize) -> Vec<f32> {
    let array = &record.values()[PATTERNS[layer]];
    // [batch, head, query, key], or in the last block [n_queries, head, key].
    let n_heads = array.shape[1];
    let mut mean = vec![0.0; n_pos * n_pos];
    for (query, mean) in mean.chunks_exact_mut(n_pos).enumerate() {
        for head in 0..n_heads {
            let row = match array.shape.len() {
                4 => (example * n_heads + head) * n_pos + query,
                _ => (example * n_pos + query) * n_heads + head,
            };
            let row = &array.data[row * n_pos..][..n_pos];
            mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += x / n_heads as f32);
        }
    }
    mean
}

/// The most likely token at each position.
fn answers(logits: &[f32], d_vocab: usize) -> Vec<Token> {
    logits.chunks_exact(d_vocab).map(|row| largest(row) as Token).collect()
}

fn largest(row: &[f32]) -> usize {
    (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

/// One example and what the model did with it.
struct Seen<'e> {
    tokens: &'e [Token],
    counts: &'e [i32],
    answers: Vec<Token>,
    /// `[query, key]` of each layer.
    patterns: [Vec<f32>; 2],
}

#[derive(Default)]
struct Sums {
    shares: Attention,
    n_later: u64,
    n_in_context: u64,
}

impl Sums {
    fn add(&mut self, seen: &Seen<'_>) {
        let n_pos = seen.answers.len();
        let row = |layer: usize, query: usize| &seen.patterns[layer][query * n_pos..][..=query];
        let most: [Vec<usize>; 2] =
            [0, 1].map(|layer| (0..n_pos).map(|query| largest(row(layer, query))).collect());
        let shares = &mut self.shares;
        for query in 1..n_pos {
            self.n_later += 1;
            shares.mass_previous += f64::from(row(0, query)[query - 1]);
            for layer in 0..2 {
                shares.mass_first_place[layer] += f64::from(row(layer, query)[0]);
            }
        }
        for i in (0..n_pos).filter(|&i| seen.counts[i] >= 1) {
            let (token, next) = (seen.tokens[i], seen.tokens[i + 1]);
            shares.repeat.add(token == next);
            if i + 1 < n_pos {
                let right = most[0][i + 1] == i;
                shares.previous.add(right);
                if seen.counts[i] == 1 {
                    shares.previous_first.add(right);
                }
            }
            if seen.counts[i] < 2 {
                continue;
            }
            let at = most[1][i];
            shares.induction.add(at >= 1 && seen.tokens[at - 1] == token);
            shares.answered.add(seen.tokens[at] == seen.answers[i]);
            shares.attended.add(seen.tokens[at] == next);
            if token == next {
                shares.repeat_attended.add(seen.tokens[at] == next);
            }
            if at >= 1 {
                shares.previous_of_attended.add(most[0][at] == at - 1);
            }
            self.n_in_context += 1;
            let outputs = (1..=i).filter(|&key| seen.tokens[key - 1] == token);
            shares.mass_outputs += outputs.map(|key| f64::from(row(1, i)[key])).sum::<f64>();
        }
    }

    fn attention(self, n_examples: u64) -> Attention {
        let mean = |sum: f64, n: u64| if n > 0 { sum / n as f64 } else { 0.0 };
        Attention {
            n_examples,
            mass_previous: mean(self.shares.mass_previous, self.n_later),
            mass_outputs: mean(self.shares.mass_outputs, self.n_in_context),
            mass_first_place: self.shares.mass_first_place.map(|sum| mean(sum, self.n_later)),
            ..self.shares
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[query, key]` that looks at one place each.
    fn at(places: &[usize]) -> Vec<f32> {
        let n = places.len();
        let mut pattern = vec![0.0; n * n];
        places.iter().enumerate().for_each(|(query, &key)| pattern[query * n + key] = 1.0);
        pattern
    }

    /// `e` is the trigger and `m` its output: `t e m e m t`, and the next token is `x`.
    #[test]
    fn an_induction_head_is_seen_as_one() {
        let [t, e, m, x] = [0, 1, 2, 3];
        let tokens = [t, e, m, e, m, t, x];
        let counts = [0, 1, 0, 2, 0, 0, 0];
        let previous = at(&[0, 0, 1, 2, 3, 4]);
        let mut sums = Sums::default();
        // The second `e`, at 3, looks at the `m` at 2, and the model answers `m`.
        let patterns = [previous.clone(), at(&[0, 0, 0, 2, 0, 0])];
        sums.add(&Seen {
            tokens: &tokens,
            counts: &counts,
            answers: vec![x, x, x, m, x, x],
            patterns,
        });
        let seen = sums.attention(1);
        let all = |n| Share { n_right: n, n };
        assert_eq!((seen.previous, seen.previous_first), (all(2), all(1)));
        assert_eq!((seen.induction, seen.answered, seen.attended), (all(1), all(1), all(1)));
        assert_eq!((seen.previous_of_attended, seen.repeat), (all(1), Share { n_right: 0, n: 2 }));
        assert_eq!((seen.mass_previous, seen.mass_outputs), (1.0, 1.0));
        assert!(
            (seen.mass_first_place[0] - 0.2).abs() + (seen.mass_first_place[1] - 0.8).abs() < 1e-12
        );

        // One that looks at the place 0 is none.
        let mut sums = Sums::default();
        let patterns = [previous, at(&[0, 0, 0, 0, 0, 0])];
        sums.add(&Seen { tokens: &tokens, counts: &counts, answers: vec![x; 6], patterns });
        let seen = sums.attention(1);
        assert_eq!(seen.induction, Share { n_right: 0, n: 1 });
        assert_eq!(seen.previous_of_attended, Share::default());
        assert!(seen.mass_outputs.abs() < 1e-12);
    }
}
