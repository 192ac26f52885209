//! The plan: a spec with nothing left open.

use std::collections::BTreeMap;

use mnemoscope_model::optim::{AdamW, Rule, Sgd};
use mnemoscope_model::{Bluntness, DropoutRates, ModelSpec};
use mnemoscope_store::canonical;
use mnemoscope_task::{Scoring, Task};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::check::Problem;
use crate::probe::ProbePlan;
use crate::{Error, ErrorKind};

/// Everything that fixes the numbers of a run.
///
/// Two plans with the same [`id`](Self::id) give the same bits. Nothing that leaves the numbers
/// alone is in it: neither the arm's name, nor threads, nor where the record lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of this layout and of the meaning of its fields: [`Plan::FORMAT`].
    pub format: u32,
    /// The language to train on.
    pub task: Task,
    /// The architecture.
    pub model: ModelSpec,
    /// How it is trained.
    pub train: TrainPlan,
    /// How it is measured.
    pub eval: EvalPlan,
    /// What is probed while it is trained; `None` probes nothing. No other number depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbePlan>,
    /// Where the randomness comes from.
    pub seeds: Seeds,
}

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainPlan {
    /// Optimizer updates.
    pub n_steps: u64,
    /// Examples in each.
    pub batch_size: u32,
    /// The update's rule.
    pub optimizer: OptimizerPlan,
    /// Steps over which the learning rate rises in a straight line; `0` means at once.
    pub warmup_steps: u64,
    /// What the learning rate does afterwards.
    pub decay: Decay,
    /// Steps of the whole schedule, of which training may take only the first part.
    pub decay_steps: u64,
    /// Examples after which training begins again with the first one, a multiple of `batch_size`; `None` draws
    /// fresh ones for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct_examples: Option<u64>,
    /// Which tokens the loss looks at.
    pub loss: Scoring,
    /// Steps between two points of the learning curves; `0` means no curves.
    pub curve_every: u64,
    /// Params that do not learn, or not yet, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub freeze: BTreeMap<String, Freeze>,
    /// How much of a transformer is dropped in each step; evaluation drops nothing.
    #[serde(default, skip_serializing_if = "drops_nothing")]
    pub dropout: DropoutRates,
    /// A penalty on attention that is not sharp, added to the loss that is minimised. The loss that is
    /// recorded is without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharpen: Option<SharpenPlan>,
    /// How exactly products of matrices are computed.
    #[serde(default, skip_serializing_if = "Precision::is_full")]
    pub precision: Precision,
}

/// How exactly products of matrices are computed; everything else is of single precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// In single precision, which every device does.
    #[default]
    F32,
    /// Factors rounded to eleven significant bits, sums in single precision, as the tensor cores of CUDA do; on a CPU with
    /// AMX to sixteen.
    Tf32,
    /// Factors rounded to eight significant bits, sums in single precision; params and what the optimiser keeps of them
    /// are single as well.
    Bf16,
}

impl Precision {
    /// As in a spec.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.of_products().name()
    }

    /// As the engine has it.
    #[must_use]
    pub fn of_products(self) -> mnemoscope_engine::device::Precision {
        match self {
            Self::F32 => mnemoscope_engine::device::Precision::F32,
            Self::Tf32 => mnemoscope_engine::device::Precision::Tf32,
            Self::Bf16 => mnemoscope_engine::device::Precision::Bf16,
        }
    }

    fn is_full(&self) -> bool {
        *self == Self::F32
    }
}

fn drops_nothing(rates: &DropoutRates) -> bool {
    *rates == DropoutRates::default()
}

/// A penalty on the patterns of a transformer: a weight times the mean of a measure of bluntness over
/// the rows, heads and layers; see [`Regularisation`](mnemoscope_model::Regularisation).
///
/// # Source
///
/// Liu et al. 2023, arXiv:2306.00946, which names the measures, the weights and when they begin; the
/// ramps are ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharpenPlan {
    /// The measure.
    pub form: Bluntness,
    /// The largest weight, above 0.
    pub weight: f64,
    /// Layers whose patterns are measured, from 0 and ascending; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<usize>,
    /// Whether the last layer is measured at the places alone where the loss looks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asked_rows: bool,
    /// Steps before the weight is more than 0.
    pub from_step: u64,
    /// What the weight does from there on.
    pub anneal: Anneal,
}

/// What the weight of a penalty does once it has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Anneal {
    /// It is the largest at once.
    Constant,
    /// It rises in a straight line over so many steps, and stays.
    Linear {
        /// Steps of the rise.
        n_steps: u64,
    },
    /// It rises and falls in straight lines, again and again.
    Oscillating {
        /// Steps from 0 through the largest back to 0.
        n_steps: u64,
    },
}

impl SharpenPlan {
    /// The weight at `step`, from 1.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_lab::plan::{Anneal, SharpenPlan};
    /// use mnemoscope_model::Bluntness;
    ///
    /// let anneal = Anneal::Oscillating { n_steps: 4 };
    /// let layers = Vec::new();
    /// let plan = SharpenPlan { form: Bluntness::Entropy, weight: 2.0, layers, asked_rows: false, from_step: 10, anneal };
    /// assert_eq!([10, 11, 12, 13, 14, 15].map(|step| plan.weight_at(step)), [0.0, 1.0, 2.0, 1.0, 0.0, 1.0]);
    /// let plan = SharpenPlan { anneal: Anneal::Linear { n_steps: 4 }, ..plan };
    /// assert_eq!([10, 11, 14, 99].map(|step| plan.weight_at(step)), [0.0, 0.5, 2.0, 2.0]);
    /// ```
    #[must_use]
    pub fn weight_at(&self, step: u64) -> f64 {
        let since = step.saturating_sub(self.from_step);
        let share = match self.anneal {
            _ if since == 0 => 0.0,
            Anneal::Constant => 1.0,
            Anneal::Linear { n_steps } => (since as f64 / n_steps as f64).min(1.0),
            Anneal::Oscillating { n_steps } => {
                1.0 - (1.0 - 2.0 * (since % n_steps) as f64 / n_steps as f64).abs()
            }
        };
        self.weight * share
    }
}

/// How long a param stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Freeze {
    /// For the whole of training.
    Always,
    /// For so many steps; the next one moves it.
    Until(u64),
}

impl Freeze {
    /// Whether the param stays as it is at `step`, from 1.
    #[must_use]
    pub fn holds(self, step: u64) -> bool {
        match self {
            Self::Always => true,
            Self::Until(n_steps) => step <= n_steps,
        }
    }
}

impl TrainPlan {
    /// Index in the training stream of the first example that is learned from after `n_steps` steps.
    #[must_use]
    pub fn first_index(&self, n_steps: u64) -> u64 {
        let index = n_steps * u64::from(self.batch_size);
        self.distinct_examples.map_or(index, |distinct| index % distinct)
    }

    /// Whether the param called `name` moves at `step`, from 1.
    #[must_use]
    pub fn learns(&self, name: &str, step: u64) -> bool {
        self.freeze.get(name).is_none_or(|freeze| !freeze.holds(step))
    }
}

/// The update's rule with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum OptimizerPlan {
    /// Gradient descent with momentum; its stored form has the name `sgd`.
    Sgd(SgdPlan),
    /// AdamW. Its stored form has no name: it was once the only one, and its plans keep their ids.
    #[serde(untagged)]
    AdamW(AdamWPlan),
}

impl OptimizerPlan {
    /// The rule of a step whose learning rate is `factor` times the largest.
    #[must_use]
    pub fn rule(&self, factor: f64) -> Rule {
        match *self {
            Self::AdamW(AdamWPlan { lr, beta1, beta2, epsilon, weight_decay, .. }) => {
                Rule::AdamW(AdamW { lr: lr * factor, beta1, beta2, epsilon, weight_decay })
            }
            Self::Sgd(SgdPlan { lr, momentum, dampening, nesterov, weight_decay, .. }) => {
                Rule::Sgd(Sgd { lr: lr * factor, momentum, dampening, nesterov, weight_decay })
            }
        }
    }

    /// What the gradient's 2-norm over all params is cut to; `None` cuts nothing.
    #[must_use]
    pub fn clip_norm(&self) -> Option<f64> {
        match self {
            Self::AdamW(plan) => plan.clip_norm,
            Self::Sgd(plan) => plan.clip_norm,
        }
    }
}

/// AdamW with decoupled weight decay on all params, as PyTorch's `AdamW`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWPlan {
    /// The largest learning rate of the schedule.
    pub lr: f64,
    /// Decay of the running mean of gradients.
    pub beta1: f64,
    /// Decay of the running mean of their squares.
    pub beta2: f64,
    /// Added to the root of the second mean.
    pub epsilon: f64,
    /// Share of a param taken off in a step, before it is multiplied by the learning rate.
    pub weight_decay: f64,
    /// The gradient's 2-norm over all params is cut to this; `None` cuts nothing.
    pub clip_norm: Option<f64>,
}

/// Gradient descent with momentum, as PyTorch's `SGD`: all params decay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SgdPlan {
    /// The largest learning rate of the schedule.
    pub lr: f64,
    /// What is left of the running sum of gradients after a step.
    pub momentum: f64,
    /// The share of each gradient after the first that is left out of the sum.
    pub dampening: f64,
    /// Whether to look ahead by one step of momentum.
    pub nesterov: bool,
    /// So many times a param is added to its gradient.
    pub weight_decay: f64,
    /// The gradient's 2-norm over all params is cut to this; `None` cuts nothing.
    pub clip_norm: Option<f64>,
}

/// What the learning rate does after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Falls in a straight line that would reach 0 at step `decay_steps + 1`, as in the paper.
    Linear,
    /// Stays at its largest; `decay_steps` then says nothing.
    None,
}

/// How a trained model is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalPlan {
    /// The fixed sets, by name; a set's name is part of the address of its examples.
    pub sets: BTreeMap<String, EvalSet>,
    /// Coverage of every interval, in `(0, 1)`.
    pub confidence: f64,
    /// Errors kept as glitch files, for each set: the first ones in the order of the set.
    pub max_glitches: u32,
    /// Resamples of the cluster bootstrap.
    pub n_resamples: u32,
}

/// One fixed set of examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalSet {
    /// The language.
    pub task: Task,
    /// How many examples the final evaluation looks at.
    pub n_examples: u64,
    /// How many of them, from the first, the learning curves look at; `0` means not in the curves.
    pub curve_examples: u64,
}

/// The roots of all randomness of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seeds {
    /// Training examples.
    pub data: u64,
    /// Initial params.
    pub model: u64,
    /// Evaluation sets and resampling: the same for all runs unless a spec says otherwise, so that
    /// every run is measured on the same examples.
    pub eval: u64,
}

impl Plan {
    /// The layout this release writes.
    pub const FORMAT: u32 = 1;

    /// The name of this plan, and of the run that executes it: the first 16 hex digits of the
    /// BLAKE3 hash of its canonical JSON.
    #[must_use]
    pub fn id(&self) -> String {
        let mut id = canonical::hash(&self.to_value());
        id.truncate(16);
        id
    }

    /// The plan as it is stored.
    ///
    /// # Panics
    ///
    /// Never for a plan that [`resolve`](super::resolve) or [`from_value`](Self::from_value) made:
    /// all its numbers are finite and all its keys are strings.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match serde_json::to_value(self) {
            Ok(value) => value,
            Err(problem) => panic!("a plan has a JSON form: {problem}"),
        }
    }

    /// Reads a stored plan back.
    ///
    /// # Errors
    ///
    /// `Incompatible` if it was written by another layout, with both numbers; `Corrupt` if it is
    /// not a plan, or one that no spec resolves to.
    pub fn from_value(value: &Value) -> Result<Self, Error> {
        let format = value.get("format").and_then(Value::as_u64);
        if let Some(found) = format.filter(|&found| found != u64::from(Self::FORMAT)) {
            let message = format!(
                "the plan has format {found}, this release reads {}; use the release that wrote it",
                Self::FORMAT
            );
            return Err(Error::new(ErrorKind::Incompatible, message));
        }
        let plan: Self = serde_json::from_value(value.clone()).map_err(|problem| {
            Error::because(ErrorKind::Corrupt, "the stored plan is damaged", problem)
        })?;
        match plan.check().first() {
            Some(Problem { path, message, .. }) => {
                let message = format!("the stored plan is damaged: {path}: {message}");
                Err(Error::new(ErrorKind::Corrupt, message))
            }
            None => Ok(plan),
        }
    }
}
