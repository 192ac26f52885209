//! Taking steps: draw a batch, answer it, learn from what was wrong.

mod checkpoint;
mod cohort;
mod schedule;

pub use checkpoint::Checkpoint;
pub use cohort::Cohort;
pub use schedule::{learning_rate_factor, warmup_factor};

use std::collections::BTreeSet;

use mnemoscope_engine::burn::module::AutodiffModule;
use mnemoscope_engine::burn::tensor::backend::{AutodiffBackend, Backend};
use mnemoscope_engine::burn::tensor::{Int, Tensor};
use mnemoscope_engine::{Ops, QueryRows};
use mnemoscope_model::hook::NoHooks;
use mnemoscope_model::optim::{OptimState, Stride, grad_norms};
use mnemoscope_model::{DropoutRates, Model, Regularisation};
use mnemoscope_stats::stream::Stream;
use mnemoscope_task::{Task, split};

use crate::batch::Batch;
use crate::eval::place_not_finite;
use crate::plan::{Decay, Plan, TrainPlan};
use crate::probe::attention::Attention;
use crate::probe::{self, ProbePlan, Watched, occurrence};
use crate::{Error, ErrorKind};

/// A model in training, between two steps.
///
/// Everything it does next is a function of the plan, the parameters, the optimiser's state and
/// the number of steps taken: nothing else is remembered, so a checkpoint of these continues to
/// the same bits.
#[derive(Debug)]
pub struct Trainer<'a, B: AutodiffBackend + Ops> {
    plan: &'a Plan,
    stream: Stream,
    /// Where the masks of dropout come from.
    dropout_stream: Stream,
    device: B::Device,
    model: Model<B>,
    state: OptimState<B::InnerBackend>,
    n_steps_taken: u64,
    /// The params that do not learn at the moment.
    frozen: BTreeSet<&'a str>,
    /// Of the last step, if it had one.
    penalty: Option<Penalty>,
}

/// What a step added to its loss for attention that is not sharp.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Penalty {
    /// What was added: the weight times the mean measure of the rows.
    pub added: f64,
    /// The weight at this step.
    pub weight: f64,
}

impl<'a, B> Trainer<'a, B>
where
    B: AutodiffBackend + Ops,
    B::InnerBackend: Ops,
{
    /// A fresh model, initialised as the plan's model seed says.
    #[must_use]
    pub fn new(plan: &'a Plan, device: &B::Device) -> Self {
        let init = Stream::root(plan.seeds.model).derive("model");
        Self::with(plan, Model::init(&plan.model, &init, device), device)
    }

    /// No step taken yet by this model.
    fn with(plan: &'a Plan, model: Model<B>, device: &B::Device) -> Self {
        Self {
            plan,
            stream: split::train_stream(plan.seeds.data),
            dropout_stream: Stream::root(plan.seeds.model).derive("dropout"),
            device: device.clone(),
            model,
            state: OptimState::new(&plan.train.optimizer.rule(1.0)),
            n_steps_taken: 0,
            frozen: BTreeSet::new(),
            penalty: None,
        }
    }

    /// A model as a checkpoint left it.
    ///
    /// # Errors
    ///
    /// `Incompatible`, if the checkpoint belongs to another plan or lacks a parameter.
    pub fn restore(
        plan: &'a Plan,
        checkpoint: Checkpoint,
        device: &B::Device,
    ) -> Result<Self, Error> {
        checkpoint.check_plan(&plan.id())?;
        let model = Model::from_params(&plan.model, checkpoint.params, device)?;
        let mut trainer = Self::with(plan, model, device);
        let rule = plan.train.optimizer.rule(1.0);
        trainer.state = OptimState::from_tensors(&rule, &checkpoint.optim, device)?;
        trainer.state.check_fit(&plan.model, |name| plan.train.learns(name, checkpoint.step))?;
        trainer.n_steps_taken = checkpoint.step;
        Ok(trainer)
    }

    /// Steps taken so far.
    #[must_use]
    pub fn n_steps_taken(&self) -> u64 {
        self.n_steps_taken
    }

    /// The penalty of the last step, of its batch before it; `None` where the plan asks for none then.
    #[must_use]
    pub fn penalty(&self) -> Option<Penalty> {
        self.penalty
    }

    /// The model without its gradients' book-keeping, for measuring.
    #[must_use]
    pub fn model(&self) -> Model<B::InnerBackend> {
        self.model.valid()
    }

    /// Everything needed to go on from here.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            plan: self.plan.id(),
            step: self.n_steps_taken,
            stream: self.stream.clone(),
            params: self.model.params(),
            optim: self.state.to_tensors(),
        }
    }

    /// Takes one step and returns the loss of its batch before the step, in nats per target: the
    /// task's loss, without the [`penalty`](Self::penalty) of a plan that sharpens attention.
    ///
    /// # Randomness
    ///
    /// Step `s` (from 1) learns from examples `(s - 1) * batch_size ..` of the training stream, counted from the
    /// beginning again after each `distinct_examples`, if the plan has them. What it drops is drawn from the model's
    /// seed under `dropout`: see [`Regularisation`].
    ///
    /// # Errors
    ///
    /// `Diverged`, if a number is not finite: the loss, and then the message names the first point of
    /// the forward pass where a value is not; or a gradient or an updated parameter, which it names.
    /// If the loss is not finite, or if gradients are clipped and one is not, the parameters are as
    /// they were before the step. Otherwise nothing here is of further use: a checkpoint is.
    ///
    /// # Panics
    ///
    /// If all steps of the plan have been taken.
    pub fn step(&mut self) -> Result<f64, Error> {
        self.advance(None)
    }

    /// As [`Self::step`], and shows what it does on the way; no number depends on it.
    ///
    /// # Errors
    ///
    /// As [`Self::step`].
    pub(crate) fn step_watched(&mut self) -> Result<(f64, Option<Watched>), Error> {
        let mut watched = None;
        let loss_nats = self.advance(Some(&mut watched))?;
        Ok((loss_nats, watched))
    }

    /// What probes see of the model and of the next step's batch before it.
    pub(crate) fn attention(&self, probe: &ProbePlan) -> Option<Attention> {
        let first_index = self.plan.train.first_index(self.n_steps_taken);
        let (model, stream) = (self.model.valid(), &self.stream);
        probe::before(self.plan, probe, &model, stream, first_index, &self.device)
    }

    fn advance(&mut self, watch: Option<&mut Option<Watched>>) -> Result<f64, Error> {
        let train = &self.plan.train;
        let step = self.n_steps_taken + 1;
        assert!(step <= train.n_steps, "the plan has {} steps", train.n_steps);
        self.thaw(step);
        let batch = batch_after(self.plan, &self.stream, self.n_steps_taken);
        let (inputs, rows) = (batch.inputs::<B>(&self.device), batch.rows());
        let streams = std::slice::from_ref(&self.dropout_stream);
        let (logits, penalty) = answer(&self.model, train, streams, (inputs, &rows), step);
        let answers = match (&watch, &self.plan.task) {
            (Some(_), Task::Bigram(language)) => {
                let logits = numbers(logits.clone().inner());
                Some(occurrence::sort(language, &self.stream, &batch, &logits))
            }
            _ => None,
        };
        let loss = B::cross_entropy(logits, batch.answers::<B>(&self.device));
        let loss_nats = scalar(&loss);
        if !loss_nats.is_finite() {
            let place = place_not_finite(&self.model.valid(), &batch, &self.device);
            return Err(loss_not_finite(step, &place));
        }
        let Stride { rule, clip_norm } = stride_at(train, step);
        self.penalty = penalties(train, penalty.as_ref(), step, 1).remove(0);
        let minimised = match penalty {
            Some(penalty) => loss + penalty,
            None => loss,
        };
        let grads = minimised.backward();
        if let (Some(watch), Some(answers)) = (watch, answers) {
            *watch = Some(Watched { answers, grad_norms: grad_norms(&self.model, &grads) });
        }
        self.state
            .step(&mut self.model, grads, &rule, clip_norm)
            .map_err(|found| diverged(step, &found))?;
        self.n_steps_taken = step;
        Ok(loss_nats)
    }

    /// Lets exactly those params have gradients that learn at `step`.
    fn thaw(&mut self, step: u64) {
        let frozen = frozen_at(&self.plan.train, step);
        if self.frozen != frozen {
            self.model = self.model.clone().learn(|name| !frozen.contains(name));
            self.frozen = frozen;
        }
    }
}

/// What the step after so many learns from.
fn batch_after(plan: &Plan, stream: &Stream, n_steps: u64) -> Batch {
    let train = &plan.train;
    let first_index = train.first_index(n_steps);
    Batch::draw(&plan.task, stream, first_index, train.batch_size as usize, train.loss)
}

/// Logits of the batch of a model, or of those of a cohort, as `step` of training sees them, and what is added to the loss of
/// each.
///
/// # Arguments
///
/// - `streams`: where the masks of each come from.
fn answer<B: Ops>(
    model: &Model<B>,
    train: &TrainPlan,
    streams: &[Stream],
    (inputs, rows): (Tensor<B, 2, Int>, &QueryRows),
    step: u64,
) -> (Tensor<B, 2>, Option<Tensor<B, 1>>) {
    let sharpen = train.sharpen.as_ref().filter(|sharpen| sharpen.weight_at(step) > 0.0);
    if train.dropout == DropoutRates::default() && sharpen.is_none() {
        return (model.logits(inputs, rows, &mut NoHooks), None);
    }
    let all: Vec<usize> = (0..model.spec().n_layers()).collect();
    let regularisation = Regularisation {
        dropout: train.dropout,
        streams,
        step,
        sharpen: sharpen.map(|sharpen| {
            let chosen = if sharpen.layers.is_empty() { &all } else { &sharpen.layers };
            (sharpen.form, chosen.as_slice())
        }),
        asked_rows: sharpen.is_some_and(|sharpen| sharpen.asked_rows),
    };
    let (logits, penalty) = model.regularised_logits(inputs, rows, &regularisation);
    let weighted = sharpen.zip(penalty);
    (logits, weighted.map(|(sharpen, mean)| mean.mul_scalar(sharpen.weight_at(step))))
}

/// What was added to the loss of each of `n` models at `step`, as it is told.
fn penalties<B: Backend>(
    train: &TrainPlan,
    added: Option<&Tensor<B, 1>>,
    step: u64,
    n: usize,
) -> Vec<Option<Penalty>> {
    let Some((sharpen, added)) = train.sharpen.as_ref().zip(added) else { return vec![None; n] };
    let weight = sharpen.weight_at(step);
    let of = |added: f32| Some(Penalty { added: f64::from(added), weight });
    numbers(added.clone()).into_iter().map(of).collect()
}

/// How `step` learns.
fn stride_at(train: &TrainPlan, step: u64) -> Stride {
    let factor = match train.decay {
        Decay::Linear => learning_rate_factor(step, train.warmup_steps, train.decay_steps),
        Decay::None => warmup_factor(step, train.warmup_steps),
    };
    Stride { rule: train.optimizer.rule(factor), clip_norm: train.optimizer.clip_norm() }
}

/// The params that do not learn at `step`.
fn frozen_at(train: &TrainPlan, step: u64) -> BTreeSet<&str> {
    let still = train.freeze.iter().filter(|(_, freeze)| freeze.holds(step));
    still.map(|(name, _)| name.as_str()).collect()
}

/// `place` says where a number was first not finite.
fn loss_not_finite(step: u64, place: &str) -> Error {
    let why = format!(
        "step {step}: the loss is not finite, {place}; try a smaller learning rate, or clip the gradient"
    );
    Error::new(ErrorKind::Diverged, why)
}

fn diverged(step: u64, found: &mnemoscope_model::Error) -> Error {
    Error::new(ErrorKind::Diverged, format!("step {step}: {found}"))
}

/// The one number in a loss.
fn scalar<B: Backend>(loss: &Tensor<B, 1>) -> f64 {
    f64::from(numbers(loss.clone())[0])
}

fn numbers<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().into_vec().expect("models compute in single precision")
}
