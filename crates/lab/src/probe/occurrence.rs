//! Answers by how often the trigger has occurred.
//!
//! A position has count 0 if its token is no trigger of the example, else the number of times this trigger
//! has stood at or before it. The sets overlap: `output` is `first` and `in_context` together.
//!
//! | set | counts | what follows |
//! |---|---|---|
//! | `global` | 0 | a matter of chance bigrams |
//! | `first` | 1 | the output, which nothing before says |
//! | `in_context` | 2 and more | the output, which stands in the context |
//! | `output` | 1 and more | the output |
//! | `start` | 1 and more, first ten positions | the output |
//!
//! A set's loss is the mean over all its positions in the batch, not over examples. All are level 1 of
//! statistics: counts and means of one batch, without intervals.
//!
//! # Source
//!
//! Bietti et al. 2023, section 5; `acc_tot`, `acc_start` and `acc_end` of the authors' code are
//! `output`, `start` and `in_context`.

use mnemoscope_stats::stream::Stream;
use mnemoscope_task::{Bigram, Token};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::batch::Batch;

/// Positions that count as the start of an example.
const START: u32 = 10;

/// Answers at the positions of one set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// Positions whose most likely token is the one that follows.
    pub n_right: u64,
    /// Positions.
    pub n: u64,
    /// Mean cross entropy, in nats; `None` of nothing.
    pub loss_nats: Option<f64>,
}

/// Answers to one batch, by set. A set that training does not ask for is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the sets are in the table of the module")]
pub struct Answers {
    pub global: Answered,
    pub first: Answered,
    pub in_context: Answered,
    pub output: Answered,
    pub start: Answered,
}

/// Sums over some positions.
#[derive(Clone, Copy, Default)]
struct Sums {
    n_right: u64,
    n: u64,
    loss_nats: f64,
}

impl Sums {
    fn add(&mut self, other: Self) {
        self.n_right += other.n_right;
        self.n += other.n;
        self.loss_nats += other.loss_nats;
    }

    fn answered(self) -> Answered {
        let loss_nats = (self.n > 0).then(|| self.loss_nats / self.n as f64);
        Answered { n_right: self.n_right, n: self.n, loss_nats }
    }
}

/// Sorts the answers to a batch.
///
/// # Arguments
///
/// - `logits`: `[n_questions, d_vocab]`, in the order of the batch's questions.
///
/// # Panics
///
/// If the batch is not of this language and stream.
#[must_use]
pub fn sort(language: &Bigram, stream: &Stream, batch: &Batch, logits: &[f32]) -> Answers {
    let d_vocab = logits.len() / batch.questions.len().max(1);
    // One sum an example, added in order: the same bits for any number of threads.
    let mut spans = Vec::with_capacity(batch.n_examples);
    let mut from = 0;
    for example in 0..batch.n_examples as u32 {
        let n = batch.questions[from..].partition_point(|ask| ask.example == example);
        spans.push((example, from, from + n));
        from += n;
    }
    let sums: Vec<[Sums; 5]> = spans
        .into_par_iter()
        .map(|(example, from, to)| {
            let tokens = batch.example(example as usize);
            let index = batch.first_index + u64::from(example);
            let mut counts = Vec::new();
            language.occurrences(tokens, &language.triggers_at(&mut stream.at(index)), &mut counts);
            let mut sums = [Sums::default(); 5];
            for (ask, row) in batch.questions[from..to]
                .iter()
                .zip(logits[from * d_vocab..to * d_vocab].chunks_exact(d_vocab))
            {
                let count = counts[ask.query_pos as usize];
                let one = answer(row, tokens[ask.query_pos as usize + 1]);
                let sets = [
                    count == 0,
                    count == 1,
                    count >= 2,
                    count >= 1,
                    count >= 1 && ask.query_pos < START,
                ];
                sums.iter_mut().zip(sets).filter(|(_, of)| *of).for_each(|(sum, _)| sum.add(one));
            }
            sums
        })
        .collect();
    let mut all = [Sums::default(); 5];
    for example in sums {
        all.iter_mut().zip(example).for_each(|(all, one)| all.add(one));
    }
    let [global, first, in_context, output, start] = all.map(Sums::answered);
    Answers { global, first, in_context, output, start }
}

/// One position: whether the largest logit (the first of equals) is that of `next`, and its loss.
fn answer(logits: &[f32], next: Token) -> Sums {
    let mut best = 0;
    for (token, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = token;
        }
    }
    let largest = logits[best];
    let total: f32 = logits.iter().map(|&logit| (logit - largest).exp()).sum();
    let loss = f64::from(total).ln() - f64::from(logits[usize::from(next)] - largest);
    Sums { n_right: u64::from(best == usize::from(next)), n: 1, loss_nats: loss }
}

#[cfg(test)]
mod tests {
    use mnemoscope_task::{Scoring, Task};

    use super::*;

    #[test]
    fn answers_are_sorted_by_the_count_of_their_trigger() {
        let language = Bigram::paper(5);
        let task = Task::Bigram(language.clone());
        let stream = Stream::root(1).derive("occurrence test");
        let batch = Batch::draw(&task, &stream, 3, 40, Scoring::All);
        // Certain of the token that follows, but for every seventh position.
        let mut logits = vec![0.0; batch.questions.len() * 65];
        for (i, ask) in batch.questions.iter().enumerate() {
            let next = usize::from(ask.answer);
            logits[i * 65 + if i % 7 == 0 { (next + 1) % 65 } else { next }] = 3.0;
        }
        let answers = sort(&language, &stream, &batch, &logits);
        let Answers { global, first, in_context, output, start } = answers;
        assert_eq!(global.n + output.n, batch.questions.len() as u64);
        assert_eq!(
            (first.n + in_context.n, first.n_right + in_context.n_right),
            (output.n, output.n_right)
        );
        assert!(start.n > 0 && start.n < output.n);
        let wrong = batch.questions.len().div_ceil(7) as u64;
        assert_eq!(global.n_right + output.n_right, batch.questions.len() as u64 - wrong);
        // ln(e^3 + 64) nats, three less where it is right.
        let all = (global.loss_nats.unwrap() * global.n as f64
            + output.loss_nats.unwrap() * output.n as f64)
            / batch.questions.len() as f64;
        let share = 1.0 - wrong as f64 / batch.questions.len() as f64;
        assert!((all - ((3.0_f64.exp() + 64.0).ln() - 3.0 * share)).abs() < 1e-5);
    }

    #[test]
    fn a_set_that_is_not_asked_is_empty() {
        let language = Bigram::paper(5);
        let task = Task::Bigram(language.clone());
        let stream = Stream::root(1).derive("occurrence test");
        let batch = Batch::draw(&task, &stream, 0, 8, Scoring::Reads);
        let logits = vec![0.0; batch.questions.len() * 65];
        let answers = sort(&language, &stream, &batch, &logits);
        assert_eq!(answers.global, Answered::default());
        assert_eq!(answers.in_context.n, batch.questions.len() as u64);
        assert!((answers.in_context.loss_nats.unwrap() - 65.0_f64.ln()).abs() < 1e-6);
    }
}
