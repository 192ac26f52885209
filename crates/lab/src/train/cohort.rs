//! Several plans in training side by side: one program of a device takes a step of all of them.

use std::collections::BTreeSet;

use mnemoscope_engine::Ops;
use mnemoscope_engine::burn::module::AutodiffModule;
use mnemoscope_engine::burn::tensor::backend::AutodiffBackend;
use mnemoscope_engine::burn::tensor::{Int, Tensor, TensorData};
use mnemoscope_model::Model;
use mnemoscope_model::optim::OptimState;
use mnemoscope_model::params::Tensors;
use mnemoscope_stats::stream::Stream;
use rayon::prelude::*;

use super::{
    Checkpoint, Penalty, Trainer, answer, batch_after, diverged, frozen_at, loss_not_finite,
    numbers, penalties, stride_at,
};
use crate::Error;
use crate::batch::{Asked, Batch};
use crate::eval::place_not_finite;
use crate::plan::Plan;

/// Plans of one shape in training, between two steps.
///
/// Each member has its own parameters, batches, learning rate and optimiser's state, and no number of one depends on
/// another; alone it takes the same steps, up to the order in which a device adds. It is made of trainers that have taken
/// equally many steps, and can be taken apart into them at any time.
#[derive(Debug)]
pub struct Cohort<'a, B: AutodiffBackend + Ops> {
    members: Vec<Member<'a>>,
    device: B::Device,
    model: Model<B>,
    state: OptimState<B::InnerBackend>,
    n_steps_taken: u64,
    /// The batches of the next step, if they have been drawn already.
    drawn: Option<Vec<Batch>>,
    frozen: BTreeSet<&'a str>,
}

/// What a member has of its own besides numbers.
#[derive(Debug)]
struct Member<'a> {
    plan: &'a Plan,
    stream: Stream,
    dropout_stream: Stream,
    penalty: Option<Penalty>,
}

impl<'a, B> Cohort<'a, B>
where
    B: AutodiffBackend + Ops,
    B::InnerBackend: Ops,
{
    /// The trainers side by side.
    ///
    /// # Errors
    ///
    /// `Incompatible`, if their models cannot be in one cohort.
    ///
    /// # Panics
    ///
    /// If there is none, if their plans are not of one [cohort](Plan::cohort), or if they have not taken equally many steps.
    #[track_caller]
    pub fn of(trainers: Vec<Trainer<'a, B>>) -> Result<Self, Error> {
        let first = trainers.first().expect("a cohort has a member");
        let (plan, n_steps_taken) = (first.plan, first.n_steps_taken);
        let cohort = plan.cohort();
        assert!(cohort.is_some(), "the plan trains alone");
        for trainer in &trainers {
            assert_eq!(trainer.plan.cohort(), cohort, "the plans are of different cohorts");
            assert_eq!(trainer.n_steps_taken, n_steps_taken, "members have taken other steps");
        }
        let params: Vec<Tensors> = trainers.iter().map(|trainer| trainer.model.params()).collect();
        let states: Vec<_> = trainers.iter().map(|trainer| trainer.state.clone()).collect();
        let device = first.device.clone();
        let model = Model::cohort(&plan.model, &params, &device)?;
        let member = |trainer: Trainer<'a, B>| {
            let Trainer { plan, stream, dropout_stream, penalty, .. } = trainer;
            Member { plan, stream, dropout_stream, penalty }
        };
        Ok(Self {
            members: trainers.into_iter().map(member).collect(),
            device,
            model,
            state: OptimState::stack(&states),
            n_steps_taken,
            drawn: None,
            frozen: BTreeSet::new(),
        })
    }

    /// How many there are.
    #[must_use]
    pub fn n_members(&self) -> usize {
        self.members.len()
    }

    /// Steps each of them has taken.
    #[must_use]
    pub fn n_steps_taken(&self) -> u64 {
        self.n_steps_taken
    }

    /// The penalty of each in the last step, as of [`Trainer::penalty`].
    #[must_use]
    pub fn penalties(&self) -> Vec<Option<Penalty>> {
        self.members.iter().map(|member| member.penalty).collect()
    }

    /// Everything needed to go on from here with each member.
    ///
    /// # Panics
    ///
    /// If the device does not compute in single precision.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<Checkpoint> {
        let params = self.model.params().split(self.n_members());
        let states = self.state.to_tensors_each(self.n_members());
        let of = |((member, params), optim): ((&Member<'a>, Tensors), Tensors)| Checkpoint {
            plan: member.plan.id(),
            step: self.n_steps_taken,
            stream: member.stream.clone(),
            params,
            optim,
        };
        self.members.iter().zip(params).zip(states).map(of).collect()
    }

    /// Each member alone, as it is now.
    ///
    /// # Panics
    ///
    /// As [`checkpoints`](Self::checkpoints).
    #[must_use]
    pub fn trainers(&self) -> Vec<Trainer<'a, B>> {
        let alone = |(member, checkpoint): (&Member<'a>, Checkpoint)| {
            let trainer = Trainer::restore(member.plan, checkpoint, &self.device);
            let trainer = trainer.expect("the checkpoint was taken of such a trainer");
            Trainer { penalty: member.penalty, ..trainer }
        };
        self.members.iter().zip(self.checkpoints()).map(alone).collect()
    }

    /// Takes one step of each member, and returns the loss of each as [`Trainer::step`] does.
    ///
    /// What one of them does wrong does not touch the others. It is of no further use afterwards: take the others out of
    /// [`trainers`](Self::trainers), and go on with them.
    ///
    /// # Randomness
    ///
    /// As [`Trainer::step`], of each member's plan.
    ///
    /// # Panics
    ///
    /// If all steps of the plans have been taken.
    pub fn step(&mut self) -> Vec<Result<f64, Error>> {
        let (plan, step) = (self.members[0].plan, self.n_steps_taken + 1);
        assert!(step <= plan.train.n_steps, "the plans have {} steps", plan.train.n_steps);
        let frozen = frozen_at(&plan.train, step);
        if self.frozen != frozen {
            self.model = self.model.clone().learn(|name| !frozen.contains(name));
            self.frozen = frozen;
        }
        let batches = self.drawn.take().unwrap_or_else(|| self.draw(self.n_steps_taken));
        let (losses, added) = self.losses(&batches, step);
        let minimised = match added {
            Some(added) => losses.clone() + added,
            None => losses.clone(),
        };
        let strides: Vec<_> =
            self.members.iter().map(|member| stride_at(&member.plan.train, step)).collect();
        let (before, grads) = (self.model.clone(), minimised.sum().backward());
        // A device works behind what it is told. It would stand idle if it were told nothing while the next batches are drawn,
        // or were asked for a number halfway.
        self.drawn = (step < plan.train.n_steps).then(|| self.draw(step));
        let ends = self.state.step_each(&mut self.model, grads, &strides);
        let losses_nats: Vec<f64> = numbers(losses).into_iter().map(f64::from).collect();
        let lost = |member: usize| {
            let finite = losses_nats[member].is_finite();
            let place = || self.place_not_finite(&before, member, &batches[member]);
            (!finite).then(|| loss_not_finite(step, &place()))
        };
        let lost: Vec<Option<Error>> = (0..self.n_members()).map(lost).collect();
        self.n_steps_taken = step;
        let end = |((lost, end), loss_nats): ((Option<Error>, Result<(), _>), f64)| match lost {
            Some(lost) => Err(lost),
            None => end.map(|()| loss_nats).map_err(|found| diverged(step, &found)),
        };
        lost.into_iter().zip(ends).zip(losses_nats).map(end).collect()
    }

    /// The batches of all members after so many steps.
    fn draw(&self, n_steps: u64) -> Vec<Batch> {
        let of = |member: &Member<'_>| batch_after(member.plan, &member.stream, n_steps);
        self.members.par_iter().map(of).collect()
    }

    /// The loss of each member `[members]`, and what is added to it, if anything is.
    fn losses(&mut self, batches: &[Batch], step: u64) -> (Tensor<B, 1>, Option<Tensor<B, 1>>) {
        let (n, device) = (self.n_members(), &self.device);
        let Asked { rows, answers, weights } = Asked::of(batches);
        let [n_examples, n_fed] = [batches[0].n_examples, batches[0].n_fed];
        let fed: Vec<i32> = batches.iter().flat_map(Batch::fed).collect();
        let inputs = Tensor::from_data(TensorData::new(fed, [n * n_examples, n_fed]), device);
        let train = &self.members[0].plan.train;
        let streams: Vec<Stream> =
            self.members.iter().map(|member| member.dropout_stream.clone()).collect();
        let (logits, added) = answer(&self.model, train, &streams, (inputs, &rows), step);
        let told = penalties(train, added.as_ref(), step, n);
        self.members.iter_mut().zip(told).for_each(|(member, penalty)| member.penalty = penalty);
        let n_each = answers.len() / n;
        let answers = Tensor::<B, 1, Int>::from_data(answers.as_slice(), device);
        let weights = Tensor::<B, 1>::from_data(weights.as_slice(), device);
        let losses = B::weighted_losses(logits, answers, weights);
        let losses = losses.reshape([n, n_each]).sum_dim(1).reshape([n]);
        (losses, added)
    }

    /// Where a value of a member's forward pass is first not finite, with the params that `model` has of it.
    fn place_not_finite(&self, model: &Model<B>, member: usize, batch: &Batch) -> String {
        let params = model.params().split(self.n_members()).swap_remove(member);
        let alone = Model::<B>::from_params(&self.members[member].plan.model, params, &self.device);
        let alone = alone.expect("a member's params fit its plan");
        place_not_finite(&alone.valid(), batch, &self.device)
    }
}
