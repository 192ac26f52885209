//! Measuring a model on a fixed set: streamed, with bounded memory, every read counted.

mod breakdown;
mod glitch;
mod tally;

pub use breakdown::{Breakdown, By, Context, Distractor, contexts, evaluate_apart, has_reads};
pub use glitch::Glitch;
pub use tally::{Answered, Tally};

use std::slice::from_ref;

use mnemoscope_engine::Ops;
use mnemoscope_model::hook::{FirstNotFinite, NoHooks};
use mnemoscope_model::{Model, ModelSpec};
use mnemoscope_stats::stream::Stream;
use mnemoscope_task::{Scoring, Task};

use crate::batch::{Asked, Batch};
use crate::{Error, ErrorKind};

/// What the activations of one evaluation batch may take; the estimate of a plan counts with it too.
pub(crate) const EVAL_BUDGET_BYTES: u64 = 256 << 20;

/// What an evaluation looks at.
#[derive(Clone, Debug)]
pub struct Exam<'a> {
    /// Name of the set, for messages and glitch files.
    pub set: &'a str,
    /// The language.
    pub task: &'a Task,
    /// Where its examples come from.
    pub stream: Stream,
    /// How many of them, from index 0.
    pub n_examples: u64,
    /// How many errors are kept with their logits: the first ones in the order of the set.
    pub max_glitches: usize,
}

/// An error as the evaluation saw it; [`Glitch`] adds which run and checkpoint it belongs to.
#[derive(Clone, Debug)]
pub struct SeenError {
    /// Which example of the set.
    pub index: u64,
    /// The place of the `r`.
    pub query_pos: u32,
    /// The place of the last `w` before it.
    pub write_pos: u32,
    /// The whole example.
    pub tokens: Vec<u16>,
    /// The token that is right.
    pub expected: u16,
    /// What the model said instead.
    pub answered: Answered,
    /// The row of logits.
    pub logits: Vec<f32>,
}

/// What came of an evaluation.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// The counts.
    pub tally: Tally,
    /// The first errors, at most [`Exam::max_glitches`].
    pub errors: Vec<SeenError>,
    /// Whether every example was looked at; otherwise somebody asked to stop.
    pub complete: bool,
}

/// Measures `model` on an exam.
///
/// Examples are drawn, answered and forgotten a few at a time, so memory does not grow with the
/// set. Only the scored places are asked, and the model computes only what they need.
///
/// # Arguments
///
/// - `watch`: told the tally after each batch; returning `false` stops the evaluation.
///
/// # Errors
///
/// `Diverged`, if a logit is not finite: such a model has no arg-max, and a count made of it would
/// be a lie.
pub fn evaluate<B: Ops>(
    model: &Model<B>,
    exam: &Exam<'_>,
    device: &B::Device,
    watch: &mut dyn FnMut(&Tally) -> bool,
) -> Result<Measured, Error> {
    evaluate_apart(None, model, exam, &[], device, watch).map(|(measured, _)| measured)
}

/// [`evaluate`] with so many examples at a time; nothing that is measured depends on how many.
///
/// # Errors
///
/// As [`evaluate`].
///
/// # Panics
///
/// If `batch_size` is 0.
pub fn evaluate_by<B: Ops>(
    batch_size: u64,
    model: &Model<B>,
    exam: &Exam<'_>,
    device: &B::Device,
    watch: &mut dyn FnMut(&Tally) -> bool,
) -> Result<Measured, Error> {
    let apart = evaluate_apart(Some(batch_size), model, exam, &[], device, watch);
    apart.map(|(measured, _)| measured)
}

/// Draws an exam so many examples at a time and hands each batch to `seen` with its logits, until
/// that says `false`. Returns whether it never did.
fn each_batch<B: Ops>(
    batch_size: u64,
    model: &Model<B>,
    exam: &Exam<'_>,
    device: &B::Device,
    seen: &mut dyn FnMut(&Batch, &[f32]) -> bool,
) -> Result<bool, Error> {
    assert!(batch_size > 0, "an evaluation looks at no examples at a time");
    let mut first_index = 0;
    while first_index < exam.n_examples {
        let n_examples = batch_size.min(exam.n_examples - first_index);
        let batch = Batch::draw(
            exam.task,
            &exam.stream,
            first_index,
            usize::try_from(n_examples).expect("a batch is small"),
            Scoring::Reads,
        );
        let logits = answer(model, &batch, device)?;
        first_index += n_examples;
        if !seen(&batch, &logits) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The model's logits at the questions of a batch, row after row: `[n_questions, d_vocab]`.
///
/// # Errors
///
/// `Diverged`, if one of them is not finite.
pub fn answer<B: Ops>(
    model: &Model<B>,
    batch: &Batch,
    device: &B::Device,
) -> Result<Vec<f32>, Error> {
    // Each number of questions is a shape of its own.
    let filled = (B::COMPILES && !batch.questions.is_empty()).then(|| Asked::of(from_ref(batch)));
    let rows = filled.as_ref().map_or_else(|| batch.rows(), |asked| asked.rows.clone());
    let logits = model.logits(batch.inputs::<B>(device), &rows, &mut NoHooks);
    let mut logits = logits.into_data().into_vec::<f32>().expect("logits are single precision");
    if let Some(Asked { weights, .. }) = filled {
        let asked = logits.chunks_exact(model.spec().d_vocab()).zip(weights);
        logits =
            asked.filter(|(_, weight)| *weight > 0.0).flat_map(|(row, _)| row.to_vec()).collect();
    }
    if let Some(place) = logits.iter().position(|logit| !logit.is_finite()) {
        let ask = batch.questions[place / model.spec().d_vocab()];
        return Err(Error::new(
            ErrorKind::Diverged,
            format!(
                "the logits of example {} at position {} are not finite, {}",
                batch.first_index + u64::from(ask.example),
                ask.query_pos,
                place_not_finite(model, batch, device),
            ),
        ));
    }
    Ok(logits)
}

/// Where in a forward pass over a batch something first is not finite, for a message.
///
/// It takes another pass that looks at every activation, so it is asked only when all is lost.
pub(crate) fn place_not_finite<B: Ops>(
    model: &Model<B>,
    batch: &Batch,
    device: &B::Device,
) -> String {
    let mut found = FirstNotFinite::default();
    drop(model.logits(batch.inputs::<B>(device), &batch.rows(), &mut found));
    match found.point() {
        Some(point) => format!("and the first value that is not stands at `{point}`"),
        None => "though every activation is".to_owned(),
    }
}

/// How many examples are answered at once.
///
/// A power of two chosen so that the activations stay near a quarter of a gibibyte; it is a
/// function of the model and the task alone, and no logit depends on it.
fn examples_per_batch(spec: &ModelSpec, seq_len: usize) -> u64 {
    const MOST: u64 = 128;
    let mut n_examples = MOST;
    while n_examples > 1
        && spec.eval_bytes(n_examples, seq_len as u64).is_none_or(|bytes| bytes > EVAL_BUDGET_BYTES)
    {
        n_examples /= 2;
    }
    n_examples
}

impl Measured {
    /// Counts the answers to one batch.
    fn count(&mut self, exam: &Exam<'_>, batch: &Batch, logits: &[f32]) {
        let d_vocab = logits.len().checked_div(batch.questions.len()).unwrap_or(0);
        let mut asked = batch.questions.iter().zip(logits.chunks_exact(d_vocab.max(1))).peekable();
        for example in 0..batch.n_examples {
            let (mut n_trials, mut n_errors, mut n_errors_two_way) = (0, 0, 0);
            while let Some((ask, row)) = asked.next_if(|(ask, _)| ask.example as usize == example) {
                let answered = Answered::from_logits(row, exam.task.symbols());
                n_trials += 1;
                n_errors_two_way += u64::from(answered.predicted_symbol != ask.answer);
                if answered.predicted == ask.answer {
                    continue;
                }
                n_errors += 1;
                if self.errors.len() < exam.max_glitches {
                    self.errors.push(SeenError {
                        index: batch.first_index + example as u64,
                        query_pos: ask.query_pos,
                        write_pos: ask.write_pos,
                        tokens: batch.example(example).to_vec(),
                        expected: ask.answer,
                        answered,
                        logits: row.to_vec(),
                    });
                }
            }
            self.tally.add_example(n_errors, n_errors_two_way, n_trials);
        }
    }
}

impl SeenError {
    /// The error as a file of the record of `run`.
    #[must_use]
    pub fn into_glitch(
        self,
        run: &str,
        step: u64,
        checkpoint_blake3: &str,
        exam: &Exam<'_>,
    ) -> Glitch {
        Glitch {
            run: run.to_owned(),
            step,
            checkpoint_blake3: checkpoint_blake3.to_owned(),
            set: exam.set.to_owned(),
            stream: exam.stream.clone(),
            index: self.index,
            query_pos: self.query_pos,
            write_pos: self.write_pos,
            text: exam.task.line(&self.tokens),
            tokens: self.tokens,
            expected: self.expected,
            predicted: self.answered.predicted,
            predicted_symbol: self.answered.predicted_symbol,
            logits: self.logits,
        }
    }
}

#[cfg(test)]
mod tests {
    use mnemoscope_task::FlipFlop;
    use mnemoscope_theory::flip_flop::{Attend, ByHand, read};

    use super::*;

    /// The evaluator counts what a Transformer that was written down gets wrong, and the theory counts
    /// the same beside the task's oracle: nothing of the construction, half of a spoiled one.
    #[test]
    fn a_transformer_written_down_is_counted_as_the_oracle_counts_it() {
        let intact = ByHand::new(512);
        for p_ignore in [0.8, 0.98, 0.1] {
            let language = FlipFlop::paper(p_ignore).unwrap();
            let task = Task::FlipFlop(language.clone());
            let stream = Stream::root(7).derive("by hand");
            for (by_hand, errs) in [(intact, false), (intact.without_look_back(), true)] {
                let (set, stream) = ("val", stream.clone());
                let exam = Exam { set, task: &task, stream, n_examples: 12, max_glitches: 5 };
                let mut measured = Measured::default();
                for first in [0, 7] {
                    let n_examples = if first == 0 { 7 } else { 5 };
                    let batch = Batch::draw(&task, &exam.stream, first, n_examples, Scoring::Reads);
                    let said = (0..n_examples).flat_map(|example| {
                        by_hand.answers(batch.example(example), Attend::Soft(2.0))
                    });
                    let logits =
                        |(_, said)| (0..5_u16).map(move |token| f32::from(u8::from(token == said)));
                    let logits: Vec<f32> = said.flat_map(logits).collect();
                    measured.count(&exam, &batch, &logits);
                }
                let found = read(&by_hand, &language, Attend::Soft(2.0), 12, &exam.stream);
                let clusters = &measured.tally.clusters;
                let counted = (clusters.n_trials(), clusters.n_errors());
                assert_eq!(counted, (found.n_reads, found.n_errors));
                assert_eq!(found.n_errors > 0, errs, "{found:?}");
                assert_eq!(measured.errors.is_empty(), !errs);
                assert_eq!(measured.tally.n_errors_two_way, found.n_errors);
            }
        }
    }
}
