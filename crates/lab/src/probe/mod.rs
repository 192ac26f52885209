//! Probes: what is measured of mechanism, while it forms on the bigram language and afterwards.
//!
//! A probe never changes a number of the run that it looks at. Of a run on flip-flop or its automaton,
//! [`flipflop`] reads where the heads look, while a transformer is trained and afterwards, and [`drift`] how far
//! they keep looking; of any finished run [`map`] shows where they look in a text.
//! Four families are read of bigrams while a model is trained, each a file:
//!
//! | family | reads | of a step |
//! |---|---|---|
//! | [`occurrence`] | the logits of the training batch | before it |
//! | [`attention`] | the patterns of the first examples of the batch | before it |
//! | [`memory`] | the params, as associative memories | after it |
//! | [`norms`] | gradients before the step, params after it | both |
//!
//! On flip-flop and the automaton [`flipflop::Reads`] are read after a step, of examples that training never
//! draws.
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
pub mod drift;
pub mod flipflop;
pub mod map;
pub mod memory;
pub mod norms;
pub mod occurrence;

use std::collections::BTreeMap;

use mnemoscope_engine::burn::module::Module;
use mnemoscope_engine::device::Device;
use mnemoscope_engine::{Ops, burn};
use mnemoscope_model::params::Tensors;
use mnemoscope_model::{Model, ModelSpec, TransformerSpec};
use mnemoscope_stats::stream::Stream;
use mnemoscope_store::RunReader;
use mnemoscope_task::{Bigram, Task, split};
use serde::{Deserialize, Serialize};

use crate::on_device::on_device;
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
    /// Answers to the training batch, before the step; of bigrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurrence: Option<occurrence::Answers>,
    /// Attention patterns, before the step; `None` if the plan looks at none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<attention::Attention>,
    /// What the matrices remember, after the step; of bigrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<memory::Memory>,
    /// Sizes of gradients and params; of bigrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norms: Option<norms::Norms>,
    /// Where the heads look, and sizes of matrices, after the step; of flip-flop and the automaton.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<flipflop::Reads>,
}

impl Probed {
    /// One number by its path in the stored form, such as `memory.w_o2` or `occurrence.in_context.loss_nats`;
    /// a recall or a count of right answers gives its share. Of a list (`attention.heads_previous`,
    /// `reads.layers`) there are the items by number, from 0, and `max`, `min` and `mean` of what the rest of
    /// the path finds in each: `reads.heads.max.right.latest`.
    #[must_use]
    pub fn number(&self, path: &str) -> Option<f64> {
        let stored = serde_json::to_value(self).ok()?;
        let keys: Vec<&str> = path.split('.').collect();
        number_at(&stored, &keys)
    }
}

fn number_at(value: &serde_json::Value, keys: &[&str]) -> Option<f64> {
    let Some((key, rest)) = keys.split_first() else {
        let share = || {
            let (n_right, n) = (value.get("n_right")?.as_f64()?, value.get("n")?.as_f64()?);
            (n > 0.0).then(|| n_right / n)
        };
        return value.as_f64().or_else(share);
    };
    let Some(list) = value.as_array() else { return number_at(value.get(key)?, rest) };
    let numbers = list.iter().filter_map(|item| number_at(item, rest));
    match *key {
        "max" => numbers.reduce(f64::max),
        "min" => numbers.reduce(f64::min),
        "mean" => {
            let numbers: Vec<f64> = numbers.collect();
            (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
        }
        idx => number_at(list.get(idx.parse::<usize>().ok()?)?, rest),
    }
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

/// What the probes of a plan are about.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'p> {
    /// Memories, and the attention of two layers.
    Bigrams(&'p Bigram),
    /// The heads of a transformer on flip-flop or the automaton.
    Heads(&'p TransformerSpec),
}

/// What a plan's probes are about, if they can be read of this task and this model.
///
/// # Errors
///
/// Why they cannot, in words.
pub fn subject<'p>(task: &'p Task, model: &'p ModelSpec) -> Result<Subject<'p>, String> {
    let Task::Bigram(language) = task else {
        return flipflop::subject(task, model).map(Subject::Heads);
    };
    bigrams(language, model).map(Subject::Bigrams)
}

/// The language, if the model's memories can be read of it.
fn bigrams<'p>(language: &'p Bigram, model: &ModelSpec) -> Result<&'p Bigram, String> {
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
    on_device!(
        device,
        of run,
        finished_on(run: &'a RunReader, n_examples: usize, text: Option<&'a str>, n_threads: usize) -> Finished
    )
}

fn finished_on<B: Ops>(
    device: &burn::tensor::Device<B>,
    run: &RunReader,
    n_examples: usize,
    text: Option<&str>,
    n_threads: usize,
) -> Result<Finished, Error> {
    let (plan, model, checkpoint_blake3) = open_model::<B>(run, device)?;
    let refuse = |why: String| {
        Error::new(ErrorKind::NotFound, format!("run {} cannot be probed: {why}", run.id()))
    };
    let Task::Bigram(language) = &plan.task else {
        return Err(refuse(format!("its task is {}, not bigrams", plan.task.name())));
    };
    let language = bigrams(language, &plan.model).map_err(refuse)?;
    let maps = match text {
        Some(text) => Some(map::of_text(&plan.task, &model, text, device)?),
        None => None,
    };
    let stream = split::eval_stream(plan.seeds.eval, "probe");
    let matrices = memory::Matrices::of(&plan.model, &model.params());
    let pool = crate::run::pool(n_threads)?;
    let attention = crate::run::install(&pool, || {
        attention::look(language, &model, &stream, 0, n_examples, device)
    });
    Ok(Finished {
        checkpoint_blake3,
        step: run.checkpoints().last().map_or(0, |kept| kept.step),
        memory: memory::recall(&matrices, language),
        attention,
        pictures: memory::pictures(&matrices),
        maps,
    })
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
    Some(Probed {
        step,
        occurrence: Some(watched.answers),
        attention,
        memory: Some(memory),
        norms: Some(norms),
        reads: None,
    })
}

/// Where the heads of a model look after a step, on examples that training never draws; nothing of a plan
/// whose probes are about bigrams.
pub(crate) fn heads<B: Ops>(
    plan: &Plan,
    probe: &ProbePlan,
    step: u64,
    model: &Model<B>,
) -> Result<Option<Probed>, Error> {
    let Ok(Subject::Heads(spec)) = subject(&plan.task, &plan.model) else { return Ok(None) };
    let device = model.devices().into_iter().next().unwrap_or_default();
    let stream = split::eval_stream(plan.seeds.eval, "probe");
    let examples: Vec<u64> = (0..u64::from(probe.attention_examples)).collect();
    let reads = flipflop::look(&plan.task, spec, model, &stream, &examples, &device)?;
    let (occurrence, attention, memory, norms) = (None, None, None, None);
    Ok(Some(Probed { step, occurrence, attention, memory, norms, reads: Some(reads) }))
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

    #[test]
    fn a_number_is_found_in_lists_by_its_place_and_over_all_of_them() {
        let stored = serde_json::json!({
            "heads": [{"at": 0.5, "n": {"n_right": 1, "n": 4}}, {"at": null}, {"at": 2.5}],
            "square": [[1.0, 2.0], [3.0, -4.0]], "none": [],
        });
        let number = |path: &str| number_at(&stored, &path.split('.').collect::<Vec<_>>());
        assert_eq!(number("heads.2.at"), Some(2.5));
        assert_eq!((number("heads.1.at"), number("heads.3.at")), (None, None));
        let over = ["max", "min", "mean"].map(|over| number(&format!("heads.{over}.at")));
        assert_eq!(over, [Some(2.5), Some(0.5), Some(1.5)]);
        assert_eq!(number("heads.0.n"), Some(0.25));
        assert_eq!((number("square.min.min"), number("square.1.max")), (Some(-4.0), Some(3.0)));
        assert_eq!((number("none.mean"), number("heads.all.at")), (None, None));
    }
}
