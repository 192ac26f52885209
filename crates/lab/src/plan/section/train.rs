//! `[train]`: an optimiser on an endless stream of fresh examples.

use std::collections::BTreeMap;

use mnemoscope_model::{Bluntness, DropoutRates};
use mnemoscope_task::Scoring;

use super::freeze::Freezing;
use crate::plan::complaint::Fault;
use crate::plan::reader::{Allowed, Section};
use crate::plan::types::{
    AdamWPlan, Anneal, Decay, OptimizerPlan, Precision, SgdPlan, SharpenPlan, TrainPlan,
};

/// Steps from one time without a penalty to the next, where it oscillates.
const OSCILLATION_STEPS: u64 = 1_000;

/// Steps of warm-up, unless training is shorter.
const WARMUP_STEPS: u64 = 50;

/// What the table says, but for what is frozen: the model has to be known for that.
pub(super) fn read<'t>(mut train: Section<'t, '_>) -> (TrainPlan, Freezing<'t>) {
    let n_steps = train.whole("n_steps", 10_000, 1..=u64::MAX);
    let batch_size = train.whole32("batch_size", 16, 1);
    let plan = TrainPlan {
        n_steps,
        batch_size,
        optimizer: read_optimizer(&mut train),
        warmup_steps: train.whole("warmup_steps", WARMUP_STEPS.min(n_steps), 0..=u64::MAX),
        decay: read_decay(&mut train),
        decay_steps: train.whole("decay_steps", n_steps, 1..=u64::MAX),
        loss: train.choice(
            "loss",
            &[("reads", Scoring::Reads), ("all", Scoring::All)],
            Scoring::Reads,
        ),
        distinct_examples: read_distinct(&mut train, batch_size),
        curve_every: train.whole("curve_every", 100, 0..=u64::MAX),
        freeze: BTreeMap::new(),
        dropout: read_dropout(train.table("dropout")),
        sharpen: read_sharpen(&mut train, n_steps),
        precision: train.choice(
            "precision",
            &[("f32", Precision::F32), ("tf32", Precision::Tf32), ("bf16", Precision::Bf16)],
            Precision::F32,
        ),
    };
    let freezing = Freezing::read(&mut train);
    train.finish();
    (plan, freezing)
}

fn read_distinct(train: &mut Section<'_, '_>, batch_size: u32) -> Option<u64> {
    let distinct =
        train.has("distinct_examples").then(|| train.whole("distinct_examples", 1, 1..=1 << 62));
    train.know("distinct_examples");
    if let Some(distinct) =
        distinct.filter(|distinct| !distinct.is_multiple_of(u64::from(batch_size)))
    {
        let message = format!(
            "{distinct} examples are no whole number of batches of {batch_size}; {} would be",
            distinct.next_multiple_of(u64::from(batch_size))
        );
        train.complain(Fault::Together, "distinct_examples", message);
    }
    distinct
}

/// Rates of dropout, 0 unless said.
fn read_dropout(mut section: Section<'_, '_>) -> DropoutRates {
    let mut rate = |key| section.real(key, 0.0, Allowed::BELOW_ONE);
    let rates = DropoutRates {
        attn: rate("attn"),
        mlp: rate("mlp"),
        resid: rate("resid"),
        embed: rate("embed"),
    };
    section.finish();
    rates
}

#[derive(Clone, Copy)]
enum Ramp {
    Constant,
    Linear,
    Oscillating,
}

/// A penalty, if the table is there and its weight is not 0, so that a sweep of weights can have 0
/// in it.
fn read_sharpen(train: &mut Section<'_, '_>, n_steps: u64) -> Option<SharpenPlan> {
    const FORMS: &[(&str, Bluntness)] = &[
        ("entropy", Bluntness::Entropy),
        ("neg_l2", Bluntness::NegL2),
        ("neg_linf", Bluntness::NegLinf),
    ];
    const RAMPS: &[(&str, Ramp)] = &[
        ("constant", Ramp::Constant),
        ("linear", Ramp::Linear),
        ("oscillating", Ramp::Oscillating),
    ];
    let wanted = train.has("sharpen");
    let mut section = train.table("sharpen");
    let from_step = section.whole("from_step", 0, 0..=u64::MAX);
    let anneal_steps = |section: &mut Section<'_, '_>, default: u64| {
        section.whole("anneal_steps", default, 1..=u64::MAX)
    };
    let plan = SharpenPlan {
        form: section.choice("form", FORMS, Bluntness::Entropy),
        weight: section.real("weight", 0.01, Allowed::NOT_NEGATIVE),
        layers: section.layers("layers"),
        asked_rows: section.choice("rows", &[("all", false), ("asked", true)], false),
        from_step,
        anneal: match section.choice("anneal", RAMPS, Ramp::Constant) {
            Ramp::Constant => Anneal::Constant,
            Ramp::Linear => {
                let rest = n_steps.saturating_sub(from_step).max(1);
                Anneal::Linear { n_steps: anneal_steps(&mut section, rest) }
            }
            Ramp::Oscillating => {
                Anneal::Oscillating { n_steps: anneal_steps(&mut section, OSCILLATION_STEPS) }
            }
        },
    };
    section.finish();
    (wanted && plan.weight > 0.0).then_some(plan)
}

fn read_decay(train: &mut Section<'_, '_>) -> Decay {
    let decays = [("linear", Decay::Linear), ("none", Decay::None)];
    let decay = train.choice("decay", &decays, Decay::Linear);
    if decay == Decay::None && train.has("decay_steps") {
        let message = "the learning rate does not decay, so decay_steps says nothing; leave it out";
        train.complain(Fault::Together, "decay_steps", message.to_owned());
    }
    decay
}

#[derive(Clone, Copy)]
enum Name {
    AdamW,
    Sgd,
}

fn read_optimizer(train: &mut Section<'_, '_>) -> OptimizerPlan {
    const NAMES: &[(&str, Name)] = &[("adamw", Name::AdamW), ("sgd", Name::Sgd)];
    match train.choice("optimizer", NAMES, Name::AdamW) {
        Name::AdamW => OptimizerPlan::AdamW(AdamWPlan {
            lr: train.real("lr", 3e-4, Allowed::POSITIVE),
            beta1: train.real("beta1", 0.9, Allowed::BELOW_ONE),
            beta2: train.real("beta2", 0.999, Allowed::BELOW_ONE),
            epsilon: train.real("epsilon", 1e-8, Allowed::POSITIVE),
            weight_decay: train.real("weight_decay", 0.1, Allowed::NOT_NEGATIVE),
            clip_norm: train.real_or_none("clip_norm", Allowed::POSITIVE),
        }),
        Name::Sgd => OptimizerPlan::Sgd(SgdPlan {
            lr: train.real("lr", 0.1, Allowed::POSITIVE),
            momentum: train.real("momentum", 0.9, Allowed::BELOW_ONE),
            dampening: train.real("dampening", 0.0, Allowed::BELOW_ONE),
            nesterov: train.flag("nesterov", false),
            weight_decay: train.real("weight_decay", 0.0, Allowed::NOT_NEGATIVE),
            clip_norm: train.real_or_none("clip_norm", Allowed::POSITIVE),
        }),
    }
}
