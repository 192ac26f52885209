//! Seeing an error again: the same example, the same logits to the bit, and where attention went.

use mnemoscope_engine::device::Device;
use mnemoscope_engine::{Ops, burn};
use mnemoscope_model::hook::Record;
use mnemoscope_model::{Model, ModelSpec};
use mnemoscope_store::{CheckpointRef, RunReader};
use mnemoscope_task::{Scoring, Task};
use serde::Serialize;

use crate::batch::Batch;
use crate::eval::{Glitch, answer};
use crate::on_device::on_device;
use crate::plan::Plan;
use crate::train::Checkpoint;
use crate::{Error, ErrorKind};

/// An error seen again.
#[derive(Clone, Debug, Serialize)]
pub struct Replay {
    /// The error as the record has it.
    pub glitch: Glitch,
    /// The language of the set it comes from, which knows what its tokens are called.
    #[serde(skip)]
    pub task: Task,
    /// The logits now, `[d_vocab]`.
    pub logits: Vec<f32>,
    /// Whether they are the recorded ones to the bit.
    pub same_bits: bool,
    /// The most that a logit moved; zero when the bits are the same.
    pub largest_difference: f32,
    /// Where each head looked from the query; empty for models without attention.
    pub attention: Vec<HeadAttention>,
    /// In the bigram language the occurrence counter at the query: which occurrence of a trigger
    /// it is, or 0 if the token there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurrence: Option<i32>,
}

/// Where one head looked from one place.
#[derive(Clone, Debug, Serialize)]
pub struct HeadAttention {
    /// Layer, from 0.
    pub layer: usize,
    /// Head, from 0.
    pub head: usize,
    /// The share of attention on each place up to the query, `[query_pos + 1]`; sums to 1.
    pub weights: Vec<f32>,
}

/// The trained model of a sealed run, and the plan it came from.
///
/// # Errors
///
/// `Corrupt`, if the checkpoint is damaged; `Incompatible`, if a newer release wrote it.
pub fn open_model<B: Ops>(
    run: &RunReader,
    device: &burn::tensor::Device<B>,
) -> Result<(Plan, Model<B>, String), Error> {
    let (plan, model, reference) = open_model_at(run, None, device)?;
    Ok((plan, model, reference.blake3))
}

/// [`open_model`] after so many steps, if that checkpoint is kept; of none named the last.
///
/// # Errors
///
/// As [`open_model`]; `NotFound`, if there is no such checkpoint.
pub(crate) fn open_model_at<B: Ops>(
    run: &RunReader,
    step: Option<u64>,
    device: &burn::tensor::Device<B>,
) -> Result<(Plan, Model<B>, CheckpointRef), Error> {
    let plan = Plan::from_value(run.plan())?;
    let found = match step {
        Some(step) => Some(run.checkpoint(step)?),
        None => run.last_checkpoint()?,
    };
    let (reference, bytes) = found.ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            format!("run {} has no checkpoint yet; finish it with `mnemoscope run`", run.id()),
        )
    })?;
    let checkpoint = Checkpoint::from_bytes(&bytes)?;
    checkpoint.check_plan(&plan.id())?;
    let model = Model::from_params(&plan.model, checkpoint.params, device)?;
    Ok((plan, model, reference))
}

/// Answers a glitch's example again with the model that erred.
///
/// The example is drawn from its address, not read from the file, so the replay also proves that
/// the address is right. Attention is read through hooks in a pass of its own. The bits are the same on the
/// device that the model was measured on.
///
/// # Errors
///
/// `Incompatible`, if the run's checkpoint is another one than the model that erred; `Corrupt`, if
/// the address gives another example than the file holds.
pub fn replay(run: &RunReader, glitch: Glitch, device: Device) -> Result<Replay, Error> {
    on_device!(device, of run, replay_on(run: &'a RunReader, glitch: Glitch) -> Replay)
}

fn replay_on<B: Ops>(
    device: &burn::tensor::Device<B>,
    run: &RunReader,
    glitch: Glitch,
) -> Result<Replay, Error> {
    let (plan, model, blake3) = open_model::<B>(run, device)?;
    if blake3 != glitch.checkpoint_blake3 {
        return Err(Error::new(
            ErrorKind::Incompatible,
            format!(
                "the glitch is of checkpoint {}, run {} holds {blake3}",
                glitch.checkpoint_blake3,
                run.id()
            ),
        ));
    }
    let task = set_of(&plan, &glitch)?;
    let batch = draw_again(task, &glitch)?;
    let row = row_of(&batch, glitch.query_pos)?;
    let d_vocab = model.spec().d_vocab();
    let logits = answer(&model, &batch, device)?[row * d_vocab..][..d_vocab].to_vec();
    let same_bits =
        logits.iter().map(|l| l.to_bits()).eq(glitch.logits.iter().map(|l| l.to_bits()));
    let largest_difference = std::iter::zip(&logits, &glitch.logits)
        .map(|(now, then)| (now - then).abs())
        .fold(0.0, f32::max);
    let attention = attention_at(&model, &batch, row, device)?;
    let (task, occurrence) = (task.clone(), occurrence(task, &glitch));
    Ok(Replay { glitch, task, logits, same_bits, largest_difference, attention, occurrence })
}

/// The language of the set that a glitch comes from.
pub(crate) fn set_of<'p>(plan: &'p Plan, glitch: &Glitch) -> Result<&'p Task, Error> {
    let set = plan.eval.sets.get(&glitch.set).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("run {} has no set `{}`", plan.id(), glitch.set))
    })?;
    Ok(&set.task)
}

/// The occurrence counter at the place of the error, where the language has one.
fn occurrence(task: &Task, glitch: &Glitch) -> Option<i32> {
    let Task::Bigram(language) = task else { return None };
    let triggers = language.triggers_at(&mut glitch.stream.at(glitch.index));
    let mut counts = Vec::new();
    language.occurrences(&glitch.tokens, &triggers, &mut counts);
    counts.get(glitch.query_pos as usize).copied()
}

/// The glitch's example, from its address.
pub(crate) fn draw_again(task: &Task, glitch: &Glitch) -> Result<Batch, Error> {
    let batch = Batch::draw(task, &glitch.stream, glitch.index, 1, Scoring::Reads);
    if batch.tokens != glitch.tokens {
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!(
                "example {} of the stream is not the one in the glitch file; the file is damaged, or \
             another release drew it",
                glitch.index
            ),
        ));
    }
    Ok(batch)
}

/// Which of a batch's questions is the one at `query_pos`.
fn row_of(batch: &Batch, query_pos: u32) -> Result<usize, Error> {
    batch.questions.iter().position(|ask| ask.query_pos == query_pos).ok_or_else(|| {
        let message = format!("position {query_pos} of the example is not a scored place");
        Error::new(ErrorKind::Corrupt, message)
    })
}

/// Every head's attention from the place of one question of a batch of one example.
fn attention_at<B: Ops>(
    model: &Model<B>,
    batch: &Batch,
    row: usize,
    device: &B::Device,
) -> Result<Vec<HeadAttention>, Error> {
    let ModelSpec::Transformer(spec) = model.spec() else { return Ok(Vec::new()) };
    let points: Vec<String> =
        (0..spec.n_layers).map(|layer| format!("blocks.{layer}.attn.hook_pattern")).collect();
    let names: Vec<&str> = points.iter().map(String::as_str).collect();
    let mut record = Record::new(&model.spec(), &names)?;
    // Only what the hooks recorded is wanted; the logits are those of the plain pass.
    drop(model.logits(batch.inputs::<B>(device), &batch.rows(), &mut record));
    let n_keys = batch.n_fed;
    let query_pos = batch.questions[row].query_pos as usize;
    let mut attention = Vec::new();
    for (layer, point) in points.iter().enumerate() {
        let pattern = &record.values()[point].data;
        for head in 0..spec.n_heads {
            // The last layer is computed at the questions only: [n_questions, head, key];
            // the others everywhere: [1, head, query, key].
            let from = if layer + 1 == spec.n_layers {
                (row * spec.n_heads + head) * n_keys
            } else {
                (head * n_keys + query_pos) * n_keys
            };
            let weights = pattern[from..=from + query_pos].to_vec();
            attention.push(HeadAttention { layer, head, weights });
        }
    }
    Ok(attention)
}
