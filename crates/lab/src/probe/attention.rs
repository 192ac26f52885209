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
//! positions from 1. Of several heads `heads_previous` and `heads_outputs` are these two masses head by head.
//! Counts and means of the examples looked at: level 1 of statistics.
//!
//! # Source
//!
//! `score_acc`, `score_start_acc`, `score2_acc`, `pred_attended_acc`, `score_cond_acc` and `repeat_frac` of
//! the code that Bietti et al. 2023 published; the masses are ours.

use mnemoscope_engine::{Ops, QueryRows};
use mnemoscope_model::Model;
use mnemoscope_model::hook::Record;
use mnemoscope_model::params::Array;
use mnemoscope_stats::stream::Stream;
use mnemoscope_task::{Bigram, Scoring, Task, Token};
use serde::{Deserialize, Serialize};

use super::Share;
use crate::batch::Batch;

const PATTERNS: [&str; 2] = ["blocks.0.attn.hook_pattern", "blocks.1.attn.hook_pattern"];

/// Where the two layers of a model look, in the examples looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// Empty of a single head, as the next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads_previous: Vec<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads_outputs: Vec<f64>,
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
        let heads = PATTERNS.map(|name| patterns_of_heads(&record.values()[name], example, n_pos));
        sums.add(&Seen { tokens, counts: &counts, answers: answers(logits, d_vocab), heads });
    }
    sums.attention(n_examples as u64)
}

/// `[query, key]` of each head, of one example.
///
/// # Arguments
///
/// - `read`: what `hook_pattern` showed, `[batch, head, query, key]`, or in the last block
///   `[n_queries, head, key]` with all places asked.
pub(super) fn patterns_of_heads(read: &Array, example: usize, n_pos: usize) -> Vec<Vec<f32>> {
    let n_heads = read.shape[1];
    let row = |head: usize, query: usize| {
        let row = match read.shape.len() {
            4 => (example * n_heads + head) * n_pos + query,
            _ => (example * n_pos + query) * n_heads + head,
        };
        &read.data[row * n_pos..][..n_pos]
    };
    (0..n_heads)
        .map(|head| (0..n_pos).flat_map(|query| row(head, query)).copied().collect())
        .collect()
}

fn mean_over_heads(heads: &[Vec<f32>]) -> Vec<f32> {
    let mut mean = vec![0.0; heads[0].len()];
    for head in heads {
        mean.iter_mut().zip(head).for_each(|(mean, x)| *mean += x / heads.len() as f32);
    }
    mean
}

/// The most likely token at each position.
pub(super) fn answers(logits: &[f32], d_vocab: usize) -> Vec<Token> {
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
    /// `[query, key]` of each layer and head.
    heads: [Vec<Vec<f32>>; 2],
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
        let patterns = seen.heads.each_ref().map(|heads| mean_over_heads(heads));
        let row = |layer: usize, query: usize| &patterns[layer][query * n_pos..][..=query];
        let most: [Vec<usize>; 2] =
            [0, 1].map(|layer| (0..n_pos).map(|query| largest(row(layer, query))).collect());
        let shares = &mut self.shares;
        shares.heads_previous.resize(seen.heads[0].len(), 0.0);
        shares.heads_outputs.resize(seen.heads[1].len(), 0.0);
        for query in 1..n_pos {
            self.n_later += 1;
            for (mass, head) in shares.heads_previous.iter_mut().zip(&seen.heads[0]) {
                *mass += f64::from(head[query * n_pos + query - 1]);
            }
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
            for key in (1..=i).filter(|&key| seen.tokens[key - 1] == token) {
                shares.mass_outputs += f64::from(row(1, i)[key]);
                for (mass, head) in shares.heads_outputs.iter_mut().zip(&seen.heads[1]) {
                    *mass += f64::from(head[i * n_pos + key]);
                }
            }
        }
    }

    fn attention(self, n_examples: u64) -> Attention {
        let mean = |sum: f64, n: u64| if n > 0 { sum / n as f64 } else { 0.0 };
        let of_several = |sums: &[f64], n: u64| match sums {
            [] | [_] => Vec::new(),
            sums => sums.iter().map(|&sum| mean(sum, n)).collect(),
        };
        Attention {
            heads_previous: of_several(&self.shares.heads_previous, self.n_later),
            heads_outputs: of_several(&self.shares.heads_outputs, self.n_in_context),
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
        let heads = [vec![previous.clone()], vec![at(&[0, 0, 0, 2, 0, 0])]];
        let answers = vec![x, x, x, m, x, x];
        sums.add(&Seen { tokens: &tokens, counts: &counts, answers, heads });
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
        let nowhere = at(&[0, 0, 0, 0, 0, 0]);
        let heads = [vec![previous.clone()], vec![nowhere.clone()]];
        sums.add(&Seen { tokens: &tokens, counts: &counts, answers: vec![x; 6], heads });
        let seen = sums.attention(1);
        assert_eq!(seen.induction, Share { n_right: 0, n: 1 });
        assert_eq!(seen.previous_of_attended, Share::default());
        assert!(seen.mass_outputs.abs() < 1e-12);
        assert_eq!((seen.heads_previous, seen.heads_outputs), (vec![], vec![]));

        // Beside a head that looks nowhere, each is told apart.
        let mut sums = Sums::default();
        let induction = at(&[0, 0, 0, 2, 0, 0]);
        let heads = [vec![nowhere.clone(), previous], vec![induction, nowhere]];
        sums.add(&Seen { tokens: &tokens, counts: &counts, answers: vec![x; 6], heads });
        let seen = sums.attention(1);
        assert_eq!((seen.heads_previous, seen.heads_outputs), (vec![0.2, 1.0], vec![1.0, 0.0]));
        assert!((seen.mass_previous - 0.6).abs() + (seen.mass_outputs - 0.5).abs() < 1e-6);
    }
}
