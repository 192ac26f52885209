//! Where the heads of a transformer look from the reads of flip-flop strings, and from the places of the
//! automaton.
//!
//! The tokens up to a read at `q` fall into seven classes, whose masses add up to 1:
//!
//! | class | tokens |
//! |---|---|
//! | `latest` | the bit of the last write: the ideal target |
//! | `same_writes` | bits of earlier writes that are equal to it |
//! | `wrong_writes` | bits of earlier writes that are not |
//! | `ignores` | both tokens of ignores |
//! | `reads` | both tokens of earlier reads |
//! | `write_ops` | the `w` of every write |
//! | `itself` | the `r` that is asked |
//!
//! Of the automaton, which is asked at every place, `latest` is the write that made the state (also where
//! it is the token that is asked), `ignores` are ⊥, `itself` is a ⊥ that is asked, and `reads` and
//! `write_ops` are empty.
//!
//! Two more overlap with them: `first_8`, the first eight places, and `previous_read`, both tokens of
//! the read before. `max_on_latest` counts rows whose largest weight is on the target,
//! `max_value_on_latest` those where the largest `alpha_j |v_j|` is, `v_j` being the head's value at
//! `j` (with its bias, if values have one): a plain pattern may mislead where values differ in length.
//! `largest` is the mean of the largest weight of a row, `entropy_nats` of its entropy. All of it apart by
//! right and wrong answers.
//!
//! Of a layer: `largest`, the mean over heads of that of a head, right and wrong answers together;
//! `on_latest`, the largest share that a head of it has in `max_on_latest`; `head_distances`, for each pair of heads the root of the mean over reads of
//! `sum_j (alpha_j - alpha'_j)^2`, from 0 to the root of 2; and Frobenius norms of its matrices.
//!
//! # How sharp a head can be
//!
//! With `s` no score is larger than, no weight over `T` keys exceeds `1 / (1 + (T - 1) e^(-2s))`
//! (proposition 3). Here `s = sigma r^2`: `sigma` is the largest singular value of `W_Q W_K^T /
//! sqrt(d_head)`, by power iteration in double precision, and `r` the longest input of the layer in
//! the examples looked at, where the paper's have length 1. Biases count as a further coordinate of
//! the input, which is 1. Beside the bound stands the largest weight from the last read, which sees
//! `T = seq_len - 1` keys.
//!
//! # How linear positions count
//!
//! With them, `w_qp_w_kp` is the product of what the heads' queries and keys make of a place, `W_Qp . W_Kp`
//! with biases and norms ignored: proposition 4 says that it has to be exactly 0 for a head of hard attention
//! that is right at every length.
//!
//! # Source
//!
//! Liu et al. 2023, arXiv:2306.00946, section 5.3 and appendices B.5, C.2 and C.3.

use std::collections::BTreeMap;

use mnemoscope_engine::device::Device;
use mnemoscope_engine::{Ops, burn};
use mnemoscope_model::hook::Record;
use mnemoscope_model::params::{Array, Tensors};
use mnemoscope_model::{Model, ModelSpec, Norm, Positions, Relative, TransformerSpec};
use mnemoscope_stats::stream::Stream;
use mnemoscope_store::RunReader;
use mnemoscope_task::automaton::BOTTOM;
use mnemoscope_task::token::{IGNORE, READ, WRITE};
use mnemoscope_task::{Scoring, Task, Token, split};
use serde::{Deserialize, Serialize};

use super::Share;
use crate::batch::{Batch, Question};
use crate::eval::{Answered, Glitch, answer, has_reads};
use crate::on_device::on_device;
use crate::replay::open_model;
use crate::{Error, ErrorKind};

/// Places that count as the first ones.
const N_FIRST: usize = 8;

/// Which examples of a set are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The first so many.
    First(u64),
    /// The first so many of those in which the record keeps a glitch.
    WithGlitches(u64),
}

/// What was probed of a finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reads {
    /// Hash of the checkpoint that was probed; empty where that was a model in training.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub checkpoint: String,
    /// The evaluation set that the examples are of, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub set: String,
    /// Examples looked at.
    pub n_examples: usize,
    /// How their reads were answered.
    pub answers: Share,
    /// Head by head, layer by layer.
    pub heads: Vec<HeadReads>,
    /// Layer by layer.
    pub layers: Vec<LayerReads>,
}

/// One head at the reads that were looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadReads {
    /// Layer, from 0.
    pub layer: usize,
    /// Head, from 0.
    pub head: usize,
    /// At reads that were answered right; `None` of no such read.
    pub right: Option<Looked>,
    /// At reads that were answered wrong.
    pub wrong: Option<Looked>,
    /// Largest singular value of `W_Q W_K^T / sqrt(d_head)`, biases included.
    pub sigma: f64,
    /// The largest weight from the last read of an example.
    pub largest_weight: f64,
    /// What no weight from there can exceed; `None` where scores depend on more than the two inputs.
    pub bound: Option<f64>,
    /// `W_Qp . W_Kp`, of the first layer with linear positions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub w_qp_w_kp: Option<f64>,
}

/// Mean masses over reads, and where rows are largest; the table of the [module](self) defines each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are in the table of the module")]
pub struct Looked {
    pub latest: f64,
    pub same_writes: f64,
    pub wrong_writes: f64,
    pub ignores: f64,
    pub reads: f64,
    pub write_ops: f64,
    pub itself: f64,
    pub first_8: f64,
    pub previous_read: f64,
    pub largest: f64,
    pub entropy_nats: f64,
    pub max_on_latest: Share,
    pub max_value_on_latest: Share,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerReads {
    /// Layer, from 0.
    pub layer: usize,
    /// The longest input of its attention.
    pub longest_input: f64,
    /// The mean largest weight of a row.
    pub largest: f64,
    /// The share of rows whose largest weight is on the target, of the head where it is largest.
    pub on_latest: f64,
    /// `[head, head]`.
    pub head_distances: Vec<Vec<f64>>,
    /// Frobenius norms: `w_q`, `w_k`, `w_v`, `w_c` and the MLP's matrices by name.
    pub norms: BTreeMap<String, f64>,
}

/// Probes the last checkpoint of a run on flip-flop; the record is not touched.
///
/// # Arguments
///
/// - `set`: an evaluation set of the plan; the first by name where none is named.
///
/// # Errors
///
/// `NotFound`, if the run has no checkpoint, no such set or no glitch of it, or cannot be probed;
/// `Corrupt` and `Incompatible` from reading it; `Diverged`, if a logit is not finite.
pub fn finished(
    run: &RunReader,
    set: Option<&str>,
    which: Which,
    n_threads: usize,
    device: Device,
) -> Result<Reads, Error> {
    on_device!(
        device,
        of run,
        finished_on(run: &'a RunReader, set: Option<&'a str>, which: Which, n_threads: usize) -> Reads
    )
}

fn finished_on<B: Ops>(
    device: &burn::tensor::Device<B>,
    run: &RunReader,
    set: Option<&str>,
    which: Which,
    n_threads: usize,
) -> Result<Reads, Error> {
    let refuse = |why: String| {
        Error::new(ErrorKind::NotFound, format!("run {} cannot be probed: {why}", run.id()))
    };
    let (plan, model, checkpoint) = open_model::<B>(run, device)?;
    let spec = subject(&plan.task, &plan.model).map_err(refuse)?;
    let known: Vec<&str> = plan.eval.sets.keys().map(String::as_str).collect();
    let name = match set {
        Some(name) if known.contains(&name) => name,
        Some(name) => return Err(refuse(format!("no set `{name}`; it has {}", known.join(", ")))),
        None => known.first().copied().ok_or_else(|| refuse("its plan has no set".to_owned()))?,
    };
    let examples = match which {
        Which::First(n) => (0..n.min(plan.eval.sets[name].n_examples)).collect(),
        Which::WithGlitches(n) => with_glitches(run, name, n)?,
    };
    if examples.is_empty() {
        return Err(refuse(format!("the record keeps no glitch of `{name}`; name another set")));
    }
    let stream = split::eval_stream(plan.seeds.eval, name);
    let task = &plan.eval.sets[name].task;
    let pool = crate::run::pool(n_threads)?;
    let looked =
        crate::run::install(&pool, || look(task, spec, &model, &stream, &examples, device))?;
    Ok(Reads { checkpoint, set: name.to_owned(), ..looked })
}

/// The transformer whose heads can be looked at, if the task is asked at places that [`look`] knows.
///
/// # Errors
///
/// Why they cannot, in words.
pub(super) fn subject<'p>(
    task: &Task,
    model: &'p ModelSpec,
) -> Result<&'p TransformerSpec, String> {
    if !has_reads(task) && !matches!(task, Task::Automaton(_)) {
        return Err(format!("the task {} has no reads of one token", task.name()));
    }
    match model {
        ModelSpec::Transformer(spec) => Ok(spec),
        _ => Err(format!("a model `{}` has no heads to look at", model.name())),
    }
}

/// The first examples of a set that the record keeps a glitch of, in order.
fn with_glitches(run: &RunReader, set: &str, n: u64) -> Result<Vec<u64>, Error> {
    let mut found = Vec::new();
    for name in run.names("glitches")? {
        let stored = run.json(&name)?;
        let glitch: Glitch = serde_json::from_value(stored).map_err(|why| {
            Error::because(ErrorKind::Corrupt, format!("{name} is not a glitch file"), why)
        })?;
        if glitch.set == set {
            found.push(glitch.index);
        }
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(usize::try_from(n).unwrap_or(usize::MAX));
    Ok(found)
}

/// Looks at the questions of some examples of a stream, one example at a time.
///
/// # Errors
///
/// `Diverged`, if a logit is not finite.
///
/// # Panics
///
/// If the task is neither flip-flop of one token a symbol nor the automaton, or the model is not the one that `spec` describes.
///
/// # Example
///
/// ```
/// use mnemoscope_lab::engine::device::{Cpu, cpu};
/// use mnemoscope_lab::model::{Model, ModelSpec, TransformerSpec};
/// use mnemoscope_lab::probe::flipflop::look;
/// use mnemoscope_lab::stats::stream::Stream;
/// use mnemoscope_lab::task::{FlipFlop, Task};
///
/// let spec = TransformerSpec::x_transformers(2, 16, 2);
/// let drawn = ModelSpec::Transformer(spec.clone());
/// let model = Model::<Cpu>::init(&drawn, &Stream::root(0), &cpu());
/// let task = Task::FlipFlop(FlipFlop::new(24, 0.25, 0.25, 0.5, 2)?);
/// let reads = look(&task, &spec, &model, &Stream::root(1), &[0, 1], &cpu())?;
/// assert_eq!((reads.heads.len(), reads.layers.len()), (4, 2));
/// assert!(reads.heads.iter().all(|head| head.largest_weight <= head.bound.unwrap()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn look<B: Ops>(
    task: &Task,
    spec: &TransformerSpec,
    model: &Model<B>,
    stream: &Stream,
    examples: &[u64],
    device: &B::Device,
) -> Result<Reads, Error> {
    let points: Vec<[String; 3]> = (0..spec.n_layers)
        .map(|layer| {
            let input = if spec.norm == Norm::Pre { "ln1.hook_out" } else { "hook_in" };
            ["attn.hook_pattern", "attn.v.hook_out", input].map(|it| format!("blocks.{layer}.{it}"))
        })
        .collect();
    let names: Vec<&str> = points.iter().flatten().map(String::as_str).collect();
    let mut sums = Sums::new(spec);
    for &index in examples {
        let batch = Batch::draw(task, stream, index, 1, Scoring::Reads);
        let logits = answer(model, &batch, device)?;
        let mut record = Record::new(&model.spec(), &names)?;
        drop(model.logits(batch.inputs::<B>(device), &batch.rows(), &mut record));
        let rows = logits.chunks_exact(spec.d_vocab).zip(&batch.questions);
        let right: Vec<bool> = rows
            .map(|(row, ask)| Answered::from_logits(row, task.symbols()).predicted == ask.answer)
            .collect();
        for (layer, points) in points.iter().enumerate() {
            let [pattern, values, inputs] = points.each_ref().map(|it| &record.values()[it]);
            sums.add(layer, task, &batch, &right, [pattern, values, inputs]);
        }
        right.iter().for_each(|&right| sums.answers.add(right));
    }
    // The last question of an example sees all that the model is fed.
    Ok(sums.finish(spec, &model.params(), examples.len(), task.n_fed()))
}

/// What a token is to a read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Latest,
    SameWrite,
    WrongWrite,
    Ignore,
    Read,
    WriteOp,
    Itself,
}

/// The class of every token up to a question.
fn classes(task: &Task, tokens: &[Token], ask: &Question) -> Vec<Class> {
    let (query_pos, write_pos) = (ask.query_pos as usize, ask.write_pos as usize);
    if matches!(task, Task::Automaton(_)) {
        // A write may be asked itself; before the first, a ⊥ stands where the write would.
        let class = |pos: usize| match tokens[pos] {
            BOTTOM if pos == query_pos => Class::Itself,
            BOTTOM => Class::Ignore,
            _ if pos == write_pos => Class::Latest,
            token if token == ask.answer => Class::SameWrite,
            _ => Class::WrongWrite,
        };
        return (0..=query_pos).map(class).collect();
    }
    (0..=query_pos)
        .map(|pos| match (tokens[pos & !1], pos % 2) {
            _ if pos == query_pos => Class::Itself,
            (IGNORE, _) => Class::Ignore,
            (READ, _) => Class::Read,
            (WRITE, 0) => Class::WriteOp,
            _ if pos == write_pos + 1 => Class::Latest,
            _ if tokens[pos] == ask.answer => Class::SameWrite,
            _ => Class::WrongWrite,
        })
        .collect()
}

impl Looked {
    /// Adds one row of weights over the tokens up to a read, and the lengths of the values there.
    fn add(&mut self, row: &[f32], lengths: &[f64], classes: &[Class]) {
        let previous = classes[..classes.len() - 1].iter().rposition(|&it| it == Class::Read);
        for (pos, (&weight, class)) in row.iter().zip(classes).enumerate() {
            let weight = f64::from(weight);
            *match class {
                Class::Latest => &mut self.latest,
                Class::SameWrite => &mut self.same_writes,
                Class::WrongWrite => &mut self.wrong_writes,
                Class::Ignore => &mut self.ignores,
                Class::Read => &mut self.reads,
                Class::WriteOp => &mut self.write_ops,
                Class::Itself => &mut self.itself,
            } += weight;
            if pos < N_FIRST {
                self.first_8 += weight;
            }
            // The last token of the read before is its bit, one behind its `r`.
            if previous.is_some_and(|bit| pos == bit || pos + 1 == bit) {
                self.previous_read += weight;
            }
        }
        let weights: Vec<f64> = row.iter().map(|&weight| f64::from(weight)).collect();
        let by_value: Vec<f64> =
            weights.iter().zip(lengths).map(|(w, length)| w * length).collect();
        self.largest += weights[largest(&weights)];
        let entropy = |p: &f64| if *p > 0.0 { -p * libm::log(*p) } else { 0.0 };
        self.entropy_nats += weights.iter().map(entropy).sum::<f64>();
        self.max_on_latest.add(classes[largest(&weights)] == Class::Latest);
        self.max_value_on_latest.add(classes[largest(&by_value)] == Class::Latest);
    }

    /// Means in place of sums; `None` of nothing.
    fn mean(mut self) -> Option<Self> {
        let n = self.max_on_latest.n;
        for sum in [
            &mut self.latest,
            &mut self.same_writes,
            &mut self.wrong_writes,
            &mut self.ignores,
            &mut self.reads,
            &mut self.write_ops,
            &mut self.itself,
            &mut self.first_8,
            &mut self.previous_read,
            &mut self.largest,
            &mut self.entropy_nats,
        ] {
            *sum /= n as f64;
        }
        (n > 0).then_some(self)
    }
}

/// The first place of the largest value.
fn largest(values: &[f64]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// Everything that is summed over examples, in their order.
struct Sums {
    n_layers: usize,
    n_heads: usize,
    answers: Share,
    /// `[layer, head]`: right, wrong.
    looked: Vec<[Looked; 2]>,
    /// `[layer, head]`
    largest_weight: Vec<f64>,
    /// `[layer, head, head]`
    squares: Vec<f64>,
    /// `[layer]`
    longest_input: Vec<f64>,
}

impl Sums {
    fn new(spec: &TransformerSpec) -> Self {
        let (n_layers, n_heads) = (spec.n_layers, spec.n_heads);
        Self {
            n_layers,
            n_heads,
            answers: Share::default(),
            looked: vec![Default::default(); n_layers * n_heads],
            largest_weight: vec![0.0; n_layers * n_heads],
            squares: vec![0.0; n_layers * n_heads * n_heads],
            longest_input: vec![0.0; n_layers],
        }
    }

    /// Adds what one layer did in an example.
    fn add(&mut self, layer: usize, task: &Task, batch: &Batch, right: &[bool], seen: [&Array; 3]) {
        let [pattern, values, inputs] = seen;
        let (n_heads, n_keys) = (self.n_heads, batch.n_fed);
        let longest = lengths(inputs).into_iter().fold(self.longest_input[layer], f64::max);
        self.longest_input[layer] = longest;
        // [1, pos, head, d_head]
        let lengths = lengths(values);
        for (idx, (ask, &right)) in batch.questions.iter().zip(right).enumerate() {
            let query_pos = ask.query_pos as usize;
            let classes = classes(task, batch.example(0), ask);
            let row = |head: usize| {
                // The last layer is computed at the questions only: [n_queries, head, key].
                let row = match pattern.shape.len() {
                    4 => head * n_keys + query_pos,
                    _ => idx * n_heads + head,
                };
                &pattern.data[row * n_keys..][..=query_pos]
            };
            for head in 0..n_heads {
                let at = layer * n_heads + head;
                let of_head: Vec<f64> =
                    (0..=query_pos).map(|pos| lengths[pos * n_heads + head]).collect();
                self.looked[at][usize::from(!right)].add(row(head), &of_head, &classes);
                if query_pos + 1 == n_keys {
                    let most = row(head).iter().copied().map(f64::from);
                    self.largest_weight[at] = most.fold(self.largest_weight[at], f64::max);
                }
                for other in 0..n_heads {
                    let apart = row(head).iter().zip(row(other));
                    let square: f64 = apart.map(|(a, b)| f64::from(a - b).powi(2)).sum();
                    self.squares[at * n_heads + other] += square;
                }
            }
        }
    }

    fn finish(
        self,
        spec: &TransformerSpec,
        params: &Tensors,
        n_examples: usize,
        n_keys: usize,
    ) -> Reads {
        let Self { n_layers, n_heads, answers, looked, largest_weight, squares, longest_input } =
            self;
        let mut looked = looked.into_iter();
        let mut heads = Vec::new();
        for (layer, &longest) in longest_input.iter().enumerate() {
            for head in 0..n_heads {
                let [right, wrong] = looked.next().unwrap_or_default().map(Looked::mean);
                let (sigma, bias) = sigma(spec, params, layer, head);
                let exponent = sigma * (longest.powi(2) + f64::from(u8::from(bias)));
                let bound = by_inputs_alone(spec)
                    .then(|| (1.0 + (n_keys as f64 - 1.0) * libm::exp(-2.0 * exponent)).recip());
                let largest_weight = largest_weight[layer * n_heads + head];
                let w_qp_w_kp =
                    (layer == 0).then(|| position_product(spec, params, head)).flatten();
                heads.push(HeadReads {
                    layer,
                    head,
                    right,
                    wrong,
                    sigma,
                    largest_weight,
                    bound,
                    w_qp_w_kp,
                });
            }
        }
        let distance = |square: &f64| (square / answers.n.max(1) as f64).sqrt();
        let layer = |layer: usize| LayerReads {
            layer,
            longest_input: longest_input[layer],
            largest: mean_largest(&heads[layer * n_heads..][..n_heads]),
            on_latest: most_on_latest(&heads[layer * n_heads..][..n_heads]),
            head_distances: squares[layer * n_heads * n_heads..][..n_heads * n_heads]
                .chunks_exact(n_heads)
                .map(|row| row.iter().map(distance).collect())
                .collect(),
            norms: norms(params, layer),
        };
        let layers = (0..n_layers).map(layer).collect();
        Reads { checkpoint: String::new(), set: String::new(), n_examples, answers, heads, layers }
    }
}

/// The mean largest weight of a row over heads and answers.
fn mean_largest(heads: &[HeadReads]) -> f64 {
    let looked = heads.iter().flat_map(|head| head.right.iter().chain(&head.wrong));
    let (sum, n) = looked.fold((0.0, 0), |(sum, n), looked| {
        let here = looked.max_on_latest.n;
        (sum + looked.largest * here as f64, n + here)
    });
    sum / n.max(1) as f64
}

/// The largest share of rows whose largest weight is on the target.
fn most_on_latest(heads: &[HeadReads]) -> f64 {
    let share = |head: &HeadReads| {
        let mut all = Share::default();
        for looked in head.right.iter().chain(&head.wrong) {
            all.n_right += looked.max_on_latest.n_right;
            all.n += looked.max_on_latest.n;
        }
        all.share().unwrap_or(0.0)
    };
    heads.iter().map(share).fold(0.0, f64::max)
}

/// Euclidean lengths along the last axis.
fn lengths(array: &Array) -> Vec<f64> {
    let width = array.shape.last().copied().unwrap_or(1).max(1);
    array.data.chunks_exact(width).map(|row| norm(row.iter().copied().map(f64::from))).collect()
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

/// Whether a score is the product of queries and keys and nothing else.
fn by_inputs_alone(spec: &TransformerSpec) -> bool {
    spec.relative == Relative::None
}

/// Some columns of a layer's queries and keys in double precision, row by row, with the bias
/// as a last row if there is one.
fn columns(
    params: &Tensors,
    layer: usize,
    columns: std::ops::Range<usize>,
) -> (Vec<Vec<f64>>, bool) {
    // Values of their own, or none, leave queries and keys together.
    let of = |map: &str, part: &str| params.get(&format!("blocks.{layer}.attn.{map}.{part}"));
    let map = if of("qkv", "weight").is_some() { "qkv" } else { "qk" };
    let rows_of = |array: &Array| -> Vec<Vec<f64>> {
        let width = array.shape.last().copied().unwrap_or(1);
        let rows = array.data.chunks_exact(width);
        rows.map(|row| row[columns.clone()].iter().copied().map(f64::from).collect()).collect()
    };
    let mut rows = of(map, "weight").map(rows_of).unwrap_or_default();
    let bias = of(map, "bias").map(rows_of);
    let biased = bias.is_some();
    rows.extend(bias.into_iter().flatten());
    (rows, biased)
}

/// The largest singular value of a head's `W_Q W_K^T / (sqrt(d_head) temperature)`, and whether biases are in it.
fn sigma(spec: &TransformerSpec, params: &Tensors, layer: usize, head: usize) -> (f64, bool) {
    let d_head = spec.d_model / spec.n_heads;
    let first = head * d_head;
    let (queries, biased) = columns(params, layer, first..first + d_head);
    let (keys, _) = columns(params, layer, spec.d_model + first..spec.d_model + first + d_head);
    let divisor = (d_head as f64).sqrt() * spec.temperature;
    (largest_singular(&queries, &keys) / divisor, biased)
}

/// What a head's queries and keys of the first layer make of a place, multiplied; of linear positions.
fn position_product(spec: &TransformerSpec, params: &Tensors, head: usize) -> Option<f64> {
    if spec.positions != Positions::Linear {
        return None;
    }
    let d_head = spec.d_model / spec.n_heads;
    // The place is the last number of the stream.
    let of_place = |first: usize| {
        let (mut rows, _) = columns(params, 0, first..first + d_head);
        rows.swap_remove(spec.d_model - 1)
    };
    let (query, key) = (of_place(head * d_head), of_place(spec.d_model + head * d_head));
    Some(query.iter().zip(&key).map(|(q, k)| q * k).sum())
}

/// The largest singular value of `a b^T`, by power iteration.
///
/// The estimate grows towards it from below and stops growing at the last digits; where the two
/// largest values are close, it may stop short by about as little.
///
/// # Shapes
///
/// `a, b: [n, k]` as rows.
fn largest_singular(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    const MOST: usize = 10_000;
    let k = a.first().map_or(0, Vec::len);
    // a^T x and b^T x, then the other matrix on it.
    let down = |m: &[Vec<f64>], x: &[f64]| -> Vec<f64> {
        let of = |col: usize| m.iter().zip(x).map(|(row, x)| row[col] * x).sum();
        (0..k).map(of).collect()
    };
    let up = |m: &[Vec<f64>], y: &[f64]| -> Vec<f64> {
        m.iter().map(|row| row.iter().zip(y).map(|(m, y)| m * y).sum()).collect()
    };
    // Waves that no matrix of weights is orthogonal to by accident.
    let mut x: Vec<f64> = (0..a.len()).map(|idx| libm::sin(1.0 + idx as f64)).collect();
    let mut sigma = 0.0;
    for _ in 0..MOST {
        let length = norm(x.iter().copied());
        if length == 0.0 {
            return 0.0;
        }
        x.iter_mut().for_each(|x| *x /= length);
        let back = up(b, &down(a, &x));
        let next = norm(back.iter().copied());
        x = up(a, &down(b, &back));
        if next - sigma <= 1e-13 * next {
            return next.max(sigma);
        }
        sigma = next;
    }
    sigma
}

/// Frobenius norms of a layer's matrices.
fn norms(params: &Tensors, layer: usize) -> BTreeMap<String, f64> {
    let prefix = format!("blocks.{layer}.");
    let mut norms = BTreeMap::new();
    for (name, array) in params.iter() {
        let Some(part) = name.strip_prefix(&prefix).and_then(|it| it.strip_suffix(".weight"))
        else {
            continue;
        };
        match part {
            "attn.qkv" | "attn.qk" => {
                let (d, width) = (array.shape[0], array.shape[1]);
                for (which, name) in ["w_q", "w_k", "w_v"].into_iter().take(width / d).enumerate() {
                    let rows = array.data.chunks_exact(width);
                    let of = rows.flat_map(|row| &row[which * d..][..d]).copied().map(f64::from);
                    norms.insert(name.to_owned(), norm(of));
                }
            }
            _ => {
                let name = match part {
                    "attn.out" => "w_c",
                    "attn.v" => "w_v",
                    other => other,
                };
                let of = array.data.iter().copied().map(f64::from);
                norms.insert(name.to_owned(), norm(of));
            }
        }
    }
    norms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_iteration_finds_the_largest_singular_value() {
        // diag(3, 1) times a rotation, against the identity.
        let (c, s) = (0.6, 0.8);
        let a = vec![vec![3.0 * c, -3.0 * s], vec![s, c]];
        let eye = vec![vec![1.0, 0.0], vec![0.0, 1.0]];
        assert!((largest_singular(&a, &eye) - 3.0).abs() < 1e-9);
        assert!((largest_singular(&eye, &a) - 3.0).abs() < 1e-9);
        // A product of rank one: |u| |v| times |p| |q|.
        let column = |x: [f64; 3]| x.map(|x| vec![x]).to_vec();
        let product = largest_singular(&column([1.0, 2.0, 2.0]), &column([0.0, 3.0, 4.0]));
        assert!((product - 15.0).abs() < 1e-12);
        assert!(largest_singular(&column([0.0; 3]), &column([1.0; 3])).abs() < 1e-300);
    }

    #[test]
    fn every_token_of_the_automaton_has_one_class() {
        // - 1 - 0 1 - 1 -, asked at its first, third, sixth and seventh token.
        let tokens = [0, 2, 0, 1, 2, 0, 2, 0];
        let task = Task::Automaton(mnemoscope_task::Automaton::paper());
        let of = |query_pos, answer, write_pos| {
            classes(&task, &tokens, &Question { example: 0, query_pos, answer, write_pos })
        };
        use Class::{Ignore, Itself, Latest, SameWrite, WrongWrite};
        assert!(of(0, 1, 0) == [Itself]);
        assert!(of(2, 2, 1) == [Ignore, Latest, Itself]);
        assert!(of(5, 2, 4) == [Ignore, SameWrite, Ignore, WrongWrite, Latest, Itself]);
        let write = [Ignore, SameWrite, Ignore, WrongWrite, SameWrite, Ignore, Latest];
        assert!(of(6, 2, 6) == write);
    }

    #[test]
    fn every_token_up_to_a_read_has_one_class() {
        // w1 w0 i1 r0 w1 w0 r: the read at 12 finds the write at 10.
        let tokens = [0, 4, 0, 3, 2, 4, 1, 3, 0, 4, 0, 3, 1, 3];
        let ask = Question { example: 0, query_pos: 12, answer: 3, write_pos: 10 };
        let row = [0.0, 0.01, 0.0, 0.02, 0.03, 0.04, 0.05, 0.06, 0.0, 0.07, 0.08, 0.5, 0.14];
        let mut looked = Looked::default();
        let task = Task::FlipFlop(mnemoscope_task::FlipFlop::paper(0.8).unwrap());
        looked.add(&row, &[1.0; 13], &classes(&task, &tokens, &ask));
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} is not {b}");
        near(looked.latest, 0.5);
        near(looked.same_writes, 0.02);
        near(looked.wrong_writes, 0.08);
        near(looked.ignores, 0.07);
        near(looked.reads, 0.11);
        near(looked.write_ops, 0.08);
        near(looked.itself, 0.14);
        near(looked.previous_read, 0.11);
        near(looked.first_8, 0.21);
        assert_eq!(looked.max_on_latest, Share { n_right: 1, n: 1 });
        near(looked.largest, 0.5);
        // A long value elsewhere outweighs the largest weight.
        let mut lengths = [1.0; 13];
        lengths[1] = 100.0;
        looked.add(&row, &lengths, &classes(&task, &tokens, &ask));
        assert_eq!(looked.max_value_on_latest, Share { n_right: 1, n: 2 });
    }
}
