//! Probes: what is measured of mechanism, while it forms on the bigram language and afterwards.
//!
//! A probe never changes a number of the run that it looks at. Of a finished run on flip-flop,
//! [`flipflop`] reads where the heads look from its reads; of one on bigrams, [`map`] where they look in a text.
//! Four families are read of bigrams while a model is trained, each a file:
//!
//! | family | reads | of a step |
//! |---|---|---|
//! | [`occurrence`] | the logits of the training batch | before it |
//! | [`attention`] | the patterns of the first examples of the batch | before it |
//! | [`memory`] | the params, as associative memories | after it |
//! | [`norms`] | gradients before the step, params after it | both |
//!
//! Point `i` of a published curve ("iteration `i`", from 0) is step `i + 1` here: what is measured
//! before a step is measured before the update of that iteration, what is measured after it after
//! the update.
//!
//! # Source
//!
//! Bietti et al., "Birth of a Transformer", arXiv:2306.00802, section 5 and appendix E, and the code
//! its authors published, which is followed where the two differ.

pub mod attention;
pub mod flipflop;
pub mod map;
pub mod memory;
pub mod norms;
pub mod occurrence;

use std::collections::BTreeMap;

use mnemoscope_engine::device::{Device, OnDevice};
use mnemoscope_engine::{AutodiffOps, Ops, burn};
use mnemoscope_model::params::Tensors;
use mnemoscope_model::{Model, ModelSpec};
use mnemoscope_stats::stream::Stream;
use mnemoscope_store::RunReader;
use mnemoscope_task::{Bigram, Task, split};
use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::replay::open_model;
use crate::{Error, ErrorKind};

/// Which steps are probed, and how closely.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbePlan {
    /// Steps between two probed ones. Step 1 is probed, and the last.
    pub every: u64,
    /// Examples of the batch whose attention patterns are looked at; `0` looks at none.
    pub attention_examples: u32,
}

impl ProbePlan {
    /// Whether `step`, from 1, is probed.
    #[must_use]
    pub fn is_due(&self, step: u64, n_steps: u64) -> bool {
        (step - 1).is_multiple_of(self.every) || step == n_steps
    }
}

/// Everything that is probed at one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probed {
    /// The step, from 1; the published iteration is one less.
    pub step: u64,
    /// Answers to the training batch, before the step.
    pub occurrence: occurrence::Answers,
    /// Attention patterns, before the step; `None` if the plan looks at none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<attention::Attention>,
    /// What the matrices remember, after the step.
    pub memory: memory::Memory,
    /// Sizes of gradients and params.
    pub norms: norms::Norms,
}

impl Probed {
    /// One number by its path in the stored form, such as `memory.w_o2` or `occurrence.in_context.loss_nats`;
    /// a recall or a count of right answers gives its share, and of a list (`attention.heads_previous`) there
    /// are `max` and `min`.
    #[must_use]
    pub fn number(&self, path: &str) -> Option<f64> {
        let stored = serde_json::to_value(self).ok()?;
        let value = path.split('.').try_fold(stored, |value, key| part(&value, key))?;
        let share = |value: &serde_json::Value| {
            let (n_right, n) = (value.get("n_right")?.as_f64()?, value.get("n")?.as_f64()?);
            (n > 0.0).then(|| n_right / n)
        };
        value.as_f64().or_else(|| share(&value))
    }
}

/// What stands in a value under a key, or the largest or smallest number of a list.
fn part(value: &serde_json::Value, key: &str) -> Option<serde_json::Value> {
    let Some(list) = value.as_array() else { return value.get(key).cloned() };
    let numbers = list.iter().filter_map(serde_json::Value::as_f64);
    let chosen = match key {
        "max" => numbers.reduce(f64::max),
        "min" => numbers.reduce(f64::min),
        _ => return None,
    };
    chosen.map(Into::into)
}

/// How many of a number of things are as they should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// As they should be.
    pub n_right: u64,
    /// All.
    pub n: u64,
}

impl Share {
    /// Counts one more.
    pub fn add(&mut self, right: bool) {
        self.n += 1;
        self.n_right += u64::from(right);
    }

    /// `n_right / n`, or `None` of nothing.
    #[must_use]
    pub fn share(self) -> Option<f64> {
        (self.n > 0).then(|| self.n_right as f64 / self.n as f64)
    }
}

/// The language that a plan's probes know, if they can be read of this task and this model.
///
/// # Errors
///
/// Why they cannot, in words.
pub fn subject<'p>(task: &'p Task, model: &ModelSpec) -> Result<&'p Bigram, String> {
    let Task::Bigram(language) = task else {
        return Err(format!("probes read the bigram language, and the task is {}", task.name()));
    };
    match model {
        ModelSpec::Associative(_) => Ok(language),
        ModelSpec::Transformer(spec) if spec.mlp.gated() => Err(format!(
            "probes read an MLP of two maps, and the transformer has mlp = \"{}\"",
            spec.mlp.name()
        )),
        ModelSpec::Transformer(spec) if spec.n_layers == 2 => Ok(language),
        ModelSpec::Transformer(spec) => Err(format!(
            "probes read two layers, and the transformer has n_layers = {}",
            spec.n_layers
        )),
        ModelSpec::Lstm(_) => Err("probes read attention, and the lstm has none".to_owned()),
    }
}

/// What is probed of a finished run.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Hash of the checkpoint that was probed.
    pub checkpoint_blake3: String,
    /// Steps taken.
    pub step: u64,
    /// What the matrices remember.
    pub memory: memory::Memory,
    /// Where the layers look, on examples of the run's task that training never draws.
    pub attention: attention::Attention,
    /// The scores of the matrices, pair by pair.
    pub pictures: Vec<memory::Picture>,
    /// Where each head looks in a text, if one was given.
    pub maps: Option<map::Maps>,
}

/// Probes the last checkpoint of a run; the record is not touched.
///
/// # Arguments
///
/// - `n_examples`: whose attention is looked at, from the evaluation stream `probe` of the plan.
/// - `text`: in the language's characters, to look at every head in.
///
/// # Errors
///
/// `NotFound`, if the run has no checkpoint, or its task or model cannot be probed; `Spec`, if the text is
/// empty, has characters that the language does not know, or more than the model has places; `Corrupt`
/// and `Incompatible` from reading it.
pub fn finished(
    run: &RunReader,
    n_examples: usize,
    text: Option<&str>,
    n_threads: usize,
    device: Device,
) -> Result<Finished, Error> {
    device.run(Probing { run, n_examples, text, n_threads })?
}

/// A finished run to be probed on some device.
struct Probing<'a> {
    run: &'a RunReader,
    n_examples: usize,
    text: Option<&'a str>,
    n_threads: usize,
}

impl OnDevice for Probing<'_> {
    type Output = Result<Finished, Error>;

    fn on<A: AutodiffOps>(self, device: &burn::tensor::Device<A>) -> Self::Output {
        self.probe::<A::InnerBackend>(device)
    }
}

impl Probing<'_> {
    fn probe<B: Ops>(self, device: &burn::tensor::Device<B>) -> Result<Finished, Error> {
        let Self { run, n_examples, text, n_threads } = self;
        let (plan, model, checkpoint_blake3) = open_model::<B>(run, device)?;
        let language = subject(&plan.task, &plan.model).map_err(|why| {
            Error::new(ErrorKind::NotFound, format!("run {} cannot be probed: {why}", run.id()))
        })?;
        let maps = match text {
            Some(text) => {
                Some(map::look(language, &model, &map::tokens_of(language, text)?, device)?)
            }
            None => None,
        };
        let stream = split::eval_stream(plan.seeds.eval, "probe");
        let matrices = memory::Matrices::of(&plan.model, &model.params());
        let pool = crate::run::pool(n_threads)?;
        let attention =
            pool.install(|| attention::look(language, &model, &stream, 0, n_examples, device));
        Ok(Finished {
            checkpoint_blake3,
            step: run.checkpoints().last().map_or(0, |kept| kept.step),
            memory: memory::recall(&matrices, language),
            attention,
            pictures: memory::pictures(&matrices),
            maps,
        })
    }
}

/// What can be seen of a model before a step.
pub(crate) fn before<B: Ops>(
    plan: &Plan,
    probe: &ProbePlan,
    model: &Model<B>,
    stream: &Stream,
    first_index: u64,
    device: &B::Device,
) -> Option<attention::Attention> {
    let Task::Bigram(language) = &plan.task else { return None };
    let n_examples = probe.attention_examples.min(plan.train.batch_size) as usize;
    (n_examples > 0)
        .then(|| attention::look(language, model, stream, first_index, n_examples, device))
}

/// What the training batch shows before a step, and what the step came from.
pub(crate) struct Watched {
    pub(crate) answers: occurrence::Answers,
    pub(crate) grad_norms: BTreeMap<String, f64>,
}

/// Everything of a step together, with what its params remember.
pub(crate) fn after(
    plan: &Plan,
    step: u64,
    attention: Option<attention::Attention>,
    watched: Watched,
    params: &Tensors,
) -> Option<Probed> {
    let Task::Bigram(language) = &plan.task else { return None };
    let memory = memory::recall(&memory::Matrices::of(&plan.model, params), language);
    let norms = norms::Norms::of(watched.grad_norms, params);
    Some(Probed { step, occurrence: watched.answers, attention, memory, norms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_step_are_probed() {
        let probe = ProbePlan { every: 5, attention_examples: 0 };
        let due: Vec<u64> = (1..=13).filter(|&step| probe.is_due(step, 13)).collect();
        assert_eq!(due, [1, 6, 11, 13]);
    }
}
