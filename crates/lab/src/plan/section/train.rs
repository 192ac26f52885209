//! `[train]`: AdamW on an endless stream of fresh examples.

use mnemoscope_task::Scoring;

use crate::plan::reader::{Allowed, Section};
use crate::plan::types::{AdamWPlan, Decay, TrainPlan};

/// Steps of warm-up, unless training is shorter.
const WARMUP_STEPS: u64 = 50;

pub(super) fn read(mut train: Section<'_, '_>) -> TrainPlan {
    let n_steps = train.whole("n_steps", 10_000, 1..=u64::MAX);
    let plan = TrainPlan {
        n_steps,
        batch_size: train.whole32("batch_size", 16, 1),
        optimizer: AdamWPlan {
            lr: train.real("lr", 3e-4, Allowed::POSITIVE),
            beta1: train.real("beta1", 0.9, Allowed::BELOW_ONE),
            beta2: train.real("beta2", 0.999, Allowed::BELOW_ONE),
            epsilon: train.real("epsilon", 1e-8, Allowed::POSITIVE),
            weight_decay: train.real("weight_decay", 0.1, Allowed::NOT_NEGATIVE),
            clip_norm: train.real_or_none("clip_norm", Allowed::POSITIVE),
        },
        warmup_steps: train.whole("warmup_steps", WARMUP_STEPS.min(n_steps), 0..=u64::MAX),
        decay: train.choice("decay", &[("linear", Decay::Linear)], Decay::Linear),
        decay_steps: train.whole("decay_steps", n_steps, 1..=u64::MAX),
        loss: train.choice(
            "loss",
            &[("reads", Scoring::Reads), ("all", Scoring::All)],
            Scoring::Reads,
        ),
        curve_every: train.whole("curve_every", 100, 0..=u64::MAX),
    };
    train.finish();
    plan
}
