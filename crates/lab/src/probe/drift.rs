//! How attention drifts from a write as ⊥ after ⊥ follows: the protocol of figure 14.
//!
//! Two strings of the automaton, in its tokens: a write of 1 and then ⊥ alone; and a write of 0, 32 ⊥, a write of
//! 1 and then ⊥ alone. Every place of the second part has the last write for its ideal target, further away
//! with each. A head whose scores depend on places by more than a trifle turns from it somewhere: the first
//! such place is `first_lost`.
//!
//! The rows of every 32nd place, and of the last, tell where the weight goes:
//!
//! | mass | tokens |
//! |---|---|
//! | `latest` | the last write |
//! | `other_writes` | the write before it |
//! | `recent` | ⊥ among the 32 places up to the row's own |
//! | `earlier` | every other ⊥ |
//!
//! # Source
//!
//! Liu et al. 2023, arXiv:2306.00946, figure 14 and appendix C.3. The paper trains on 500 tokens and looks at 800
//! ⊥.

use mnemoscope_engine::device::Device;
use mnemoscope_engine::{Ops, burn};
use mnemoscope_model::Model;
use mnemoscope_store::RunReader;
use mnemoscope_task::automaton::{BOTTOM, FIRST_STATE};
use mnemoscope_task::{Task, Token};
use serde::Serialize;

use super::Share;
use super::map::{Seen, see};
use crate::on_device::on_device;
use crate::replay::open_model;
use crate::{Error, ErrorKind};

/// Places between two rows that are shown, and ⊥ between the two writes of the second string.
pub const EVERY: usize = 32;

/// What was seen of a finished run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drift {
    /// Hash of the checkpoint that was looked at.
    pub checkpoint: String,
    /// String by string.
    pub strings: Vec<Drifted>,
}

/// One string.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drifted {
    /// It in words.
    pub what: String,
    /// Its tokens.
    pub n_tokens: usize,
    /// How the state was told, place by place.
    pub answers: Share,
    /// The first place where it was told wrong.
    pub first_wrong: Option<usize>,
    /// Layer by layer, head by head.
    pub heads: Vec<HeadDrift>,
}

/// One head.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeadDrift {
    /// Layer, from 0.
    pub layer: usize,
    /// Head, from 0.
    pub head: usize,
    /// The first place whose largest weight is not on the last write.
    pub first_lost: Option<usize>,
    /// Every 32nd row and the last.
    pub rows: Vec<DriftRow>,
}

/// One row of a head's pattern; the table of the [module](self) defines the masses.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the masses are in the table of the module")]
pub struct DriftRow {
    /// The row's place.
    pub query_pos: usize,
    pub latest: f64,
    pub other_writes: f64,
    pub recent: f64,
    pub earlier: f64,
    /// The place of the largest weight.
    pub largest_pos: usize,
    /// All weights, `[query_pos + 1]`; not stored.
    #[serde(skip)]
    pub weights: Vec<f32>,
}

/// Looks at the last checkpoint of a run on the automaton; the record is not touched.
///
/// # Arguments
///
/// - `n_bottoms`: ⊥ after the last write, at least 1.
///
/// # Errors
///
/// `NotFound`, if the run has no checkpoint, or is not a transformer on the automaton; `Spec`, if the strings are
/// longer than the model knows places; `Corrupt` and `Incompatible` from reading it.
pub fn finished(
    run: &RunReader,
    n_bottoms: usize,
    n_threads: usize,
    device: Device,
) -> Result<Drift, Error> {
    on_device!(device, of run, finished_on(run: &'a RunReader, n_bottoms: usize, n_threads: usize) -> Drift)
}

fn finished_on<B: Ops>(
    device: &burn::tensor::Device<B>,
    run: &RunReader,
    n_bottoms: usize,
    n_threads: usize,
) -> Result<Drift, Error> {
    let (plan, model, checkpoint) = open_model::<B>(run, device)?;
    let refuse = |why: String| {
        Error::new(ErrorKind::NotFound, format!("run {} does not drift: {why}", run.id()))
    };
    if !matches!(plan.task, Task::Automaton(_)) {
        return Err(refuse(format!("its task is {}, not the automaton", plan.task.name())));
    }
    super::flipflop::subject(&plan.task, &plan.model).map_err(refuse)?;
    let pool = crate::run::pool(n_threads)?;
    let strings = Vec::from(crate::run::install(&pool, || look(&model, n_bottoms, device))?);
    Ok(Drift { checkpoint, strings })
}

/// Looks at both strings.
///
/// # Errors
///
/// `Spec`, if they are longer than the model knows places.
///
/// # Panics
///
/// If the model does not know the automaton's three tokens, or has no attention patterns.
///
/// # Example
///
/// ```
/// use mnemoscope_lab::engine::device::{Cpu, cpu};
/// use mnemoscope_lab::model::{Model, ModelSpec, Positions, TransformerSpec};
/// use mnemoscope_lab::probe::drift::look;
/// use mnemoscope_lab::stats::stream::Stream;
///
/// let mut spec = TransformerSpec::x_transformers(1, 8, 1);
/// (spec.positions, spec.d_vocab) = (Positions::None, 3);
/// let model = Model::<Cpu>::init(&ModelSpec::Transformer(spec), &Stream::root(0), &cpu());
/// let strings = look(&model, 40, &cpu())?;
/// assert_eq!(strings.map(|string| string.n_tokens), [41, 74]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn look<B: Ops>(
    model: &Model<B>,
    n_bottoms: usize,
    device: &burn::tensor::Device<B>,
) -> Result<[Drifted; 2], Error> {
    let write = |state: Token| FIRST_STATE + state;
    let mut one = vec![write(1)];
    let mut two = vec![write(0)];
    two.extend(std::iter::repeat_n(BOTTOM, EVERY));
    two.push(write(1));
    for string in [&mut one, &mut two] {
        string.extend(std::iter::repeat_n(BOTTOM, n_bottoms));
    }
    Ok([
        drifted(model, &one, format!("1, then {n_bottoms} times -"), device)?,
        drifted(model, &two, format!("0, {EVERY} times -, 1, then {n_bottoms} times -"), device)?,
    ])
}

fn drifted<B: Ops>(
    model: &Model<B>,
    tokens: &[Token],
    what: String,
    device: &burn::tensor::Device<B>,
) -> Result<Drifted, Error> {
    let n_pos = tokens.len();
    let too_long = |n_ctx| {
        format!("the string has {n_pos} tokens, and the model knows {n_ctx} places; use fewer -")
    };
    let Seen { answers: said, patterns, .. } = see(model, tokens, &too_long, device)?;
    let states: Vec<usize> = latest_writes(tokens);
    let right: Vec<bool> =
        said.iter().zip(&states).map(|(&said, &write)| said == tokens[write]).collect();
    let mut share = Share::default();
    right.iter().for_each(|&right| share.add(right));
    let heads = patterns
        .iter()
        .map(|(layer, head, pattern)| of_head(*layer, *head, pattern, tokens, &states));
    Ok(Drifted {
        what,
        n_tokens: n_pos,
        answers: share,
        first_wrong: right.iter().position(|&right| !right),
        heads: heads.collect(),
    })
}

/// The place of the last write up to each place; the first token writes.
fn latest_writes(tokens: &[Token]) -> Vec<usize> {
    let mut latest = 0;
    let at = |(pos, &token): (usize, &Token)| {
        latest = if token == BOTTOM { latest } else { pos };
        latest
    };
    tokens.iter().enumerate().map(at).collect()
}

fn of_head(
    layer: usize,
    head: usize,
    pattern: &[f32],
    tokens: &[Token],
    latest: &[usize],
) -> HeadDrift {
    let n_pos = tokens.len();
    let row = |query_pos: usize| &pattern[query_pos * n_pos..][..=query_pos];
    let shown = (0..n_pos).filter(|pos| pos % EVERY == 0 || pos + 1 == n_pos);
    HeadDrift {
        layer,
        head,
        first_lost: (0..n_pos).find(|&pos| largest(row(pos)) != latest[pos]),
        rows: shown.map(|pos| DriftRow::of(row(pos), tokens, latest[pos])).collect(),
    }
}

/// The place of the largest weight, of equals the first.
fn largest(row: &[f32]) -> usize {
    (0..row.len()).fold(0, |best, pos| if row[pos] > row[best] { pos } else { best })
}

impl DriftRow {
    fn of(row: &[f32], tokens: &[Token], latest: usize) -> Self {
        let query_pos = row.len() - 1;
        let mut of = Self {
            query_pos,
            latest: 0.0,
            other_writes: 0.0,
            recent: 0.0,
            earlier: 0.0,
            largest_pos: largest(row),
            weights: row.to_vec(),
        };
        for (pos, &weight) in row.iter().enumerate() {
            *match tokens[pos] {
                _ if pos == latest => &mut of.latest,
                BOTTOM if pos + EVERY > query_pos => &mut of.recent,
                BOTTOM => &mut of.earlier,
                _ => &mut of.other_writes,
            } += f64::from(weight);
        }
        of
    }
}

#[cfg(test)]
mod tests {
    use mnemoscope_engine::device::{Cpu, cpu};
    use mnemoscope_model::{Mlp, ModelSpec, Norm, PosScale, Positions, TransformerSpec};
    use mnemoscope_stats::stream::Stream;

    use super::*;

    /// One head whose scores are `write` for a write and `slope` times both places, as proposition 4 has it.
    fn head(write: f32, slope: f32) -> Model<Cpu> {
        const D: usize = 4;
        let mut spec = TransformerSpec::x_transformers(1, D, 1);
        (spec.positions, spec.pos_scale) = (Positions::Linear, PosScale::Unit);
        (spec.norm, spec.mlp, spec.d_mlp, spec.d_vocab) = (Norm::None, Mlp::None, 0, 3);
        spec.n_ctx = 100;
        let spec = ModelSpec::Transformer(spec);
        let model = Model::<Cpu>::init(&spec, &Stream::root(0), &cpu());
        let mut params = model.params();
        let names: Vec<String> = params.names().map(str::to_owned).collect();
        for name in names {
            let mut array = params.remove(&name).unwrap();
            array.data.fill(0.0);
            let width = *array.shape.last().unwrap();
            let mut set =
                |row: usize, col: usize, value: f32| array.data[row * width + col] = value;
            match name.as_str() {
                // Every token has a 1 at number 2, what it writes stands at 0 and 1.
                "embed.weight" => {
                    (0..3).for_each(|token| set(token, 2, 1.0));
                    set(1, 0, 1.0);
                    set(2, 1, 1.0);
                }
                "blocks.0.attn.qkv.weight" => {
                    // Scores are divided by the root of D, which is 2.
                    set(2, 0, 2.0);
                    (0..2).for_each(|number| set(number, D, write));
                    set(3, 3, 2.0 * slope);
                    set(3, D + 3, 1.0);
                    (0..2).for_each(|number| set(number, 2 * D + number, 1.0));
                }
                "blocks.0.attn.out.weight" => (0..2).for_each(|number| set(number, number, 1.0)),
                "unembed.weight" => (0..2).for_each(|number| set(number, 1 + number, 1.0)),
                _ => {}
            }
            params.insert(name, array);
        }
        model.load(&params).unwrap()
    }

    #[test]
    fn without_the_product_of_places_a_hard_head_never_turns_away() {
        let [one, two] = look(&head(40.0, 0.0), 200, &cpu()).unwrap();
        assert_eq!((one.n_tokens, one.heads[0].first_lost, one.first_wrong), (201, None, None));
        // Two writes have one score: the second string is told by half.
        let last = two.heads[0].rows.last().unwrap();
        assert!((last.latest - 0.5).abs() < 1e-4 && (last.other_writes - 0.5).abs() < 1e-4);
    }

    /// The score of a write at 0 is 40, that of the row's own place `slope (pos / 100)^2`.
    #[test]
    fn a_positive_product_drifts_to_the_present_where_the_formula_says() {
        let slope = 10.0;
        let [one, _] = look(&head(40.0, slope), 400, &cpu()).unwrap();
        let lost = (40.0_f32 / slope).sqrt() * 100.0;
        assert_eq!(one.heads[0].first_lost, Some(lost as usize + 1));
        let rows = &one.heads[0].rows;
        let at = |pos: usize| rows.iter().find(|row| row.query_pos == pos).unwrap();
        assert!(at(96).latest > 0.99 && at(96).largest_pos == 0);
        assert!(at(384).latest < 1e-3 && at(384).largest_pos == 384);
        assert!(at(384).recent > at(384).earlier);
        for row in rows {
            let sum = row.latest + row.other_writes + row.recent + row.earlier;
            assert!((sum - 1.0).abs() < 1e-4, "{row:?}");
        }
    }

    #[test]
    fn a_string_longer_than_learned_places_is_refused() {
        let mut spec = TransformerSpec::x_transformers(1, 8, 1);
        (spec.d_vocab, spec.n_ctx) = (3, 50);
        let model = Model::<Cpu>::init(&ModelSpec::Transformer(spec), &Stream::root(0), &cpu());
        let why = look(&model, 50, &cpu()).unwrap_err().to_string();
        assert_eq!(why, "the string has 51 tokens, and the model knows 50 places; use fewer -");
    }
}
