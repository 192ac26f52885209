//! Hooks: named points at which an activation can be read or replaced.
//!
//! Reading never changes a number: what the fused operations do not form on their own, such as
//! attention patterns, is computed beside them, and the model goes on with the fused result.
//! Replacing changes what follows. Names are those of TransformerLens; its older names, such as
//! `blocks.0.hook_resid_pre`, are understood by [`canonical`].
//!
//! # Points of a transformer
//!
//! `{i}` is a block, from 0. In the last block every row marked * is one of a query:
//! `[batch, pos, ..]` becomes `[n_queries, ..]` and `[batch, head, query, key]` becomes
//! `[n_queries, head, key]`, because the model computes nothing else there. Whoever wants the last
//! block in full asks at all places.
//!
//! | point | shape | replaceable |
//! |---|---|---|
//! | `embed.hook_out` | `[batch, pos, d_model]` | yes |
//! | `pos_embed.hook_out` (absolute positions, after their scale) | `[pos, d_model]` | |
//! | `blocks.{i}.hook_in` | `[batch, pos, d_model]` | yes |
//! | `blocks.{i}.ln1.hook_out` | `[batch, pos, d_model]` | |
//! | `blocks.{i}.attn.q.hook_out` (before rotary positions) | `[batch, pos, head, d_head]` * | |
//! | `blocks.{i}.attn.k.hook_out` (before rotary positions) | `[batch, pos, head, d_head]` | |
//! | `blocks.{i}.attn.v.hook_out` | `[batch, pos, head, d_head]` | |
//! | `blocks.{i}.attn.hook_attn_scores` (scaled, with relative positions; -inf where masked) | `[batch, head, query, key]` * | |
//! | `blocks.{i}.attn.hook_pattern` | `[batch, head, query, key]` * | yes |
//! | `blocks.{i}.attn.hook_z` | `[batch, pos, head, d_head]` * | |
//! | `blocks.{i}.attn.hook_out` | `[batch, pos, d_model]` * | yes |
//! | `blocks.{i}.hook_resid_mid` | `[batch, pos, d_model]` * | yes |
//! | `blocks.{i}.ln2.hook_out` | `[batch, pos, d_model]` * | |
//! | `blocks.{i}.mlp.hook_pre` (of a gated MLP the gate) | `[batch, pos, d_mlp]` * | |
//! | `blocks.{i}.mlp.hook_pre_linear` (of a gated MLP the value) | `[batch, pos, d_mlp]` * | |
//! | `blocks.{i}.mlp.hook_post` | `[batch, pos, d_mlp]` * | |
//! | `blocks.{i}.mlp.hook_out` | `[batch, pos, d_model]` * | yes |
//! | `blocks.{i}.hook_out` | `[batch, pos, d_model]` * | yes |
//! | `ln_final.hook_out` | `[n_queries, d_model]` | |
//! | `unembed.hook_out` | `[n_queries, d_vocab]` | |
//!
//! A point of a part that the model does not have is not there: of norms without `norm`, of the MLP in
//! blocks without one, `mlp.hook_pre` and `.hook_post` of a linear MLP, `ln_final` unless the norms
//! come first. With `norm = "post"` the two norms stand after the sums: `ln1.hook_out` *, between
//! `attn.hook_out` and `hook_resid_mid`, is what the latter holds before it is replaced, and likewise
//! `ln2.hook_out` * before `hook_out`. With `parallel_mlp` the MLP does not read `hook_resid_mid`,
//! and replacing that is felt in the sum alone.
//!
//! A replaced pattern is multiplied with the values explicitly. Replacing a pattern by itself
//! therefore agrees with the fused operation to rounding, not to the bit.
//!
//! # Points of an associative model
//!
//! Those of a transformer of two blocks and one head, but for its norms, `attn.q` (a query is the
//! residual stream itself), `attn.v` and `attn.hook_z` (values and outputs are one product), and what
//! stands inside of a feed-forward that is no MLP. Where the fused computation skips a value because
//! exact algebra does without it, reading the point computes it beside.
//!
//! # Points of an LSTM
//!
//! | point | shape | replaceable |
//! |---|---|---|
//! | `embed.hook_out` | `[batch, pos, d_model]` | yes |
//! | `layers.{i}.hook_in` | `[batch, pos, d_model]` | yes |
//! | `layers.{i}.hook_gates` (after sigmoid and tanh; order i, f, g, o) | `[batch, pos, gate, d_model]` | |
//! | `layers.{i}.hook_cell` | `[batch, pos, d_model]` | |
//! | `layers.{i}.hook_out` | `[batch, pos, d_model]` | yes |
//! | `unembed.hook_out` | `[n_queries, d_vocab]` | |

use std::collections::BTreeMap;
use std::fmt;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorPrimitive};

use crate::error::{Cause, Error};
use crate::params::Array;
use crate::spec::{
    AssociativeSpec, FeedForward, ModelSpec, Norm, Places, Positions, TransformerSpec,
};

mod site;
pub(crate) use site::Site;

/// What stands at the points of a model during one pass.
///
/// The default methods leave everything alone. A point is asked for by its canonical name.
pub trait Hooks<B: Backend> {
    /// Whether [`Self::read`] should be called at this point.
    fn wants(&self, point: &str) -> bool {
        let _ = point;
        false
    }

    /// Receives the value at a point, after any replacement.
    ///
    /// On a backend with gradients the value is part of the graph, so that a regulariser can be
    /// made of it.
    fn read(&mut self, point: &str, value: Value<B>) {
        let _ = (point, value);
    }

    /// Whether [`Self::replace`] should be called at this point. Only asked at replaceable points.
    fn replaces(&self, point: &str) -> bool {
        let _ = point;
        false
    }

    /// What the model shall go on with instead of `value`, in the same shape.
    fn replace(&mut self, point: &str, value: Value<B>) -> Value<B> {
        let _ = point;
        value
    }
}

/// No hooks: the plain model.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHooks;

impl<B: Backend> Hooks<B> for NoHooks {}

/// An activation whose number of axes is known only at run time.
#[derive(Clone, Debug)]
pub struct Value<B: Backend> {
    primitive: TensorPrimitive<B>,
    dims: Vec<usize>,
}

impl<B: Backend> Value<B> {
    /// Length of each axis.
    #[must_use]
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The activation as a tensor.
    ///
    /// # Panics
    ///
    /// If it does not have `D` axes; the tables above say how many each point has.
    #[must_use]
    #[track_caller]
    pub fn tensor<const D: usize>(self) -> Tensor<B, D> {
        assert_eq!(self.dims.len(), D, "the activation has axes {:?}, not {D} of them", self.dims);
        Tensor::from_primitive(self.primitive)
    }

    /// The numbers, copied out of the backend.
    ///
    /// # Panics
    ///
    /// If the backend does not compute in single precision.
    #[must_use]
    pub fn to_array(&self) -> Array {
        // The number of axes is erased in the primitive; the flat order is all that is needed.
        let flat: Tensor<B, 1> = Tensor::from_primitive(self.primitive.clone());
        Array { shape: self.dims.clone(), data: crate::params::numbers(flat.into_data()) }
    }
}

impl<B: Backend, const D: usize> From<Tensor<B, D>> for Value<B> {
    fn from(tensor: Tensor<B, D>) -> Self {
        let dims = tensor.dims().to_vec();
        Self { primitive: tensor.into_primitive(), dims }
    }
}

/// A point of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Its canonical name.
    pub name: String,
    /// The names of its axes, in order.
    pub axes: Vec<&'static str>,
    /// Whether the value there can be replaced.
    pub replaceable: bool,
}

/// Every point of the model in the order in which a pass comes by: the tables above, spelt out.
///
/// # Example
///
/// ```
/// use mnemoscope_model::{ModelSpec, TransformerSpec, hook::points};
///
/// let points = points(&ModelSpec::Transformer(TransformerSpec::x_transformers(2, 64, 4)));
/// let pattern = points.iter().find(|p| p.name == "blocks.0.attn.hook_pattern").unwrap();
/// assert_eq!(pattern.axes, ["batch", "head", "query", "key"]);
/// assert!(pattern.replaceable);
/// ```
#[must_use]
pub fn points(spec: &ModelSpec) -> Vec<Point> {
    let mut found = Vec::new();
    let mut add = |name: String, axes: &[&'static str], replaceable| {
        found.push(Point { name, axes: axes.to_vec(), replaceable });
    };
    let resid = &["batch", "pos", "d_model"];
    add("embed.hook_out".to_owned(), resid, true);
    match spec {
        ModelSpec::Transformer(spec) => {
            if spec.positions != Positions::None {
                add("pos_embed.hook_out".to_owned(), &["pos", "d_model"], false);
            }
            for layer in 0..spec.n_layers {
                block_points(spec, layer, &mut add);
            }
            if spec.norm == Norm::Pre {
                add("ln_final.hook_out".to_owned(), &["n_queries", "d_model"], false);
            }
        }
        ModelSpec::Associative(spec) => {
            if spec.places != Places::Rotary {
                add("pos_embed.hook_out".to_owned(), &["pos", "d_model"], false);
            }
            associative_points(spec, &mut add);
        }
        ModelSpec::Lstm(spec) => {
            for layer in 0..spec.n_layers {
                let name = |part| format!("layers.{layer}.{part}");
                add(name("hook_in"), resid, true);
                add(name("hook_gates"), &["batch", "pos", "gate", "d_model"], false);
                add(name("hook_cell"), resid, false);
                add(name("hook_out"), resid, true);
            }
        }
    }
    add("unembed.hook_out".to_owned(), &["n_queries", "d_vocab"], false);
    found
}

fn block_points(
    spec: &TransformerSpec,
    layer: usize,
    add: &mut impl FnMut(String, &[&'static str], bool),
) {
    let last = layer + 1 == spec.n_layers;
    let name = |part| format!("blocks.{layer}.{part}");
    let everywhere = &["batch", "pos", "d_model"];
    let heads_everywhere = &["batch", "pos", "head", "d_head"];
    let asked: &[_] = if last { &["n_queries", "d_model"] } else { everywhere };
    let heads: &[_] = if last { &["n_queries", "head", "d_head"] } else { heads_everywhere };
    let mlp: &[_] = if last { &["n_queries", "d_mlp"] } else { &["batch", "pos", "d_mlp"] };
    let pattern: &[_] =
        if last { &["n_queries", "head", "key"] } else { &["batch", "head", "query", "key"] };
    add(name("hook_in"), everywhere, true);
    if spec.norm == Norm::Pre {
        add(name("ln1.hook_out"), everywhere, false);
    }
    add(name("attn.q.hook_out"), heads, false);
    add(name("attn.k.hook_out"), heads_everywhere, false);
    add(name("attn.v.hook_out"), heads_everywhere, false);
    add(name("attn.hook_attn_scores"), pattern, false);
    add(name("attn.hook_pattern"), pattern, true);
    add(name("attn.hook_z"), heads, false);
    add(name("attn.hook_out"), asked, true);
    if spec.norm == Norm::Post {
        add(name("ln1.hook_out"), asked, false);
    }
    add(name("hook_resid_mid"), asked, true);
    if spec.has_mlp(layer) {
        if spec.norm == Norm::Pre {
            add(name("ln2.hook_out"), asked, false);
        }
        if spec.mlp.has_width() {
            add(name("mlp.hook_pre"), mlp, false);
            if spec.mlp.gated() {
                add(name("mlp.hook_pre_linear"), mlp, false);
            }
            add(name("mlp.hook_post"), mlp, false);
        }
        add(name("mlp.hook_out"), asked, true);
        if spec.norm == Norm::Post {
            add(name("ln2.hook_out"), asked, false);
        }
    }
    add(name("hook_out"), asked, true);
}

fn associative_points(spec: &AssociativeSpec, add: &mut impl FnMut(String, &[&'static str], bool)) {
    let everywhere = &["batch", "pos", "d_model"];
    for (block, mlp) in [spec.first_mlp, spec.mlp].into_iter().enumerate() {
        let name = |part| format!("blocks.{block}.{part}");
        let last = block == 1;
        let asked: &[_] = if last { &["n_queries", "d_model"] } else { everywhere };
        let hidden: &[_] = if last { &["n_queries", "d_mlp"] } else { &["batch", "pos", "d_mlp"] };
        let pattern: &[_] =
            if last { &["n_queries", "head", "key"] } else { &["batch", "head", "query", "key"] };
        add(name("hook_in"), everywhere, true);
        add(name("attn.k.hook_out"), &["batch", "pos", "head", "d_head"], false);
        add(name("attn.hook_attn_scores"), pattern, false);
        add(name("attn.hook_pattern"), pattern, true);
        add(name("attn.hook_out"), asked, true);
        add(name("hook_resid_mid"), asked, true);
        if mlp == FeedForward::Relu {
            add(name("mlp.hook_pre"), hidden, false);
            add(name("mlp.hook_post"), hidden, false);
        }
        if mlp != FeedForward::None {
            add(name("mlp.hook_out"), asked, true);
        }
        add(name("hook_out"), asked, true);
    }
}

/// The canonical name of a point that may be given by TransformerLens's older name.
///
/// # Example
///
/// ```
/// use mnemoscope_model::hook::canonical;
///
/// assert_eq!(canonical("blocks.3.hook_resid_post"), "blocks.3.hook_out");
/// assert_eq!(canonical("blocks.3.attn.hook_q"), "blocks.3.attn.q.hook_out");
/// assert_eq!(canonical("blocks.3.attn.hook_pattern"), "blocks.3.attn.hook_pattern");
/// ```
#[must_use]
pub fn canonical(point: &str) -> String {
    const OLDER: [(&str, &str); 12] = [
        ("hook_embed", "embed.hook_out"),
        ("hook_pos_embed", "pos_embed.hook_out"),
        ("hook_resid_pre", "hook_in"),
        ("hook_resid_post", "hook_out"),
        ("hook_attn_out", "attn.hook_out"),
        ("hook_mlp_out", "mlp.hook_out"),
        ("attn.hook_q", "attn.q.hook_out"),
        ("attn.hook_k", "attn.k.hook_out"),
        ("attn.hook_v", "attn.v.hook_out"),
        ("ln1.hook_normalized", "ln1.hook_out"),
        ("ln2.hook_normalized", "ln2.hook_out"),
        ("ln_final.hook_normalized", "ln_final.hook_out"),
    ];
    for (older, newer) in OLDER {
        if let Some(before) = point.strip_suffix(older)
            && (before.is_empty() || before.ends_with('.'))
        {
            return format!("{before}{newer}");
        }
    }
    point.to_owned()
}

/// Finds a point by its canonical or older name, so that a mistyped one is refused, not ignored.
fn find(spec: &ModelSpec, point: &str) -> Result<Point, Error> {
    let name = canonical(point);
    points(spec).into_iter().find(|known| known.name == name).ok_or_else(|| {
        let complaint = format!(
            "this {} of {} layers has no hook point `{point}`; the table of points is in the \
             documentation of mnemoscope_model::hook",
            spec.name(),
            spec.n_layers(),
        );
        Cause::Point { complaint }.into()
    })
}

/// Copies the values at some points out of a pass.
///
/// # Example
///
/// ```
/// use mnemoscope_engine::{QueryRows, burn::tensor::Tensor, device::{Cpu, cpu}};
/// use mnemoscope_model::{Model, ModelSpec, TransformerSpec, hook::Record};
/// use mnemoscope_stats::stream::Stream;
///
/// let spec = ModelSpec::Transformer(TransformerSpec::x_transformers(2, 8, 2));
/// let model = Model::<Cpu>::init(&spec, &Stream::root(0), &cpu());
/// let mut record = Record::new(&spec, &["blocks.0.attn.hook_pattern"]).unwrap();
/// let tokens = Tensor::from_data([[0, 4, 1]], &cpu());
/// model.logits(tokens, &QueryRows::new(3, vec![(0, 2)]), &mut record);
///
/// // The first place can look only at itself.
/// let pattern = &record.values()["blocks.0.attn.hook_pattern"];
/// assert_eq!(pattern.shape, [1, 2, 3, 3]);
/// assert_eq!(pattern.data[..3], [1.0, 0.0, 0.0]);
///
/// assert!(Record::new(&spec, &["blocks.2.hook_in"]).is_err());
/// ```
#[derive(Clone, Debug)]
pub struct Record {
    wanted: Vec<String>,
    values: BTreeMap<String, Array>,
}

impl Record {
    /// Will copy the values at `points`, given by canonical or older names.
    ///
    /// # Errors
    ///
    /// `Incompatible`, if the model has no such point.
    pub fn new(spec: &ModelSpec, points: &[&str]) -> Result<Self, Error> {
        let wanted = points
            .iter()
            .map(|point| Ok(find(spec, point)?.name))
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(Self { wanted, values: BTreeMap::new() })
    }

    /// Will copy the values at every point of the model.
    #[must_use]
    pub fn everything(spec: &ModelSpec) -> Self {
        let wanted = points(spec).into_iter().map(|point| point.name).collect();
        Self { wanted, values: BTreeMap::new() }
    }

    /// What the last pass left at each point, by canonical name.
    #[must_use]
    pub fn values(&self) -> &BTreeMap<String, Array> {
        &self.values
    }
}

impl<B: Backend> Hooks<B> for Record {
    fn wants(&self, point: &str) -> bool {
        self.wanted.iter().any(|wanted| wanted == point)
    }

    fn read(&mut self, point: &str, value: Value<B>) {
        self.values.insert(point.to_owned(), value.to_array());
    }
}

/// Finds the first point of a pass at which a value is not finite.
///
/// A score of minus infinity says that a key is masked and does not count.
///
/// # Example
///
/// ```
/// use mnemoscope_engine::{QueryRows, burn::tensor::Tensor, device::{Cpu, cpu}};
/// use mnemoscope_model::{Model, ModelSpec, TransformerSpec, hook::FirstNotFinite};
/// use mnemoscope_stats::stream::Stream;
///
/// let spec = ModelSpec::Transformer(TransformerSpec::x_transformers(2, 8, 2));
/// let model = Model::<Cpu>::init(&spec, &Stream::root(0), &cpu());
/// let mut params = model.params();
/// let mut bias = params.remove("blocks.1.mlp.up.bias").unwrap();
/// bias.data[3] = f32::INFINITY;
/// params.insert("blocks.1.mlp.up.bias", bias);
///
/// let mut found = FirstNotFinite::default();
/// let (tokens, queries) = (Tensor::from_data([[0, 4, 1]], &cpu()), QueryRows::new(3, vec![(0, 2)]));
/// model.load(&params).unwrap().logits(tokens, &queries, &mut found);
/// assert_eq!(found.point(), Some("blocks.1.mlp.hook_pre"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct FirstNotFinite {
    point: Option<String>,
}

impl FirstNotFinite {
    /// The point's canonical name; `None` if all values were finite.
    #[must_use]
    pub fn point(&self) -> Option<&str> {
        self.point.as_deref()
    }
}

impl<B: Backend> Hooks<B> for FirstNotFinite {
    fn wants(&self, _point: &str) -> bool {
        self.point.is_none()
    }

    fn read(&mut self, point: &str, value: Value<B>) {
        let masks = point.ends_with(".hook_attn_scores");
        let sound = |x: &f32| x.is_finite() || (masks && *x == f32::NEG_INFINITY);
        // Two points can be asked about before the first of them is read.
        if self.point.is_none() && !value.to_array().data.iter().all(sound) {
            self.point = Some(point.to_owned());
        }
    }
}

type Change<'f, B> = Box<dyn FnMut(Value<B>) -> Value<B> + 'f>;

/// Replaces the values at some points: ablation and patching.
///
/// # Example
///
/// ```
/// use mnemoscope_engine::{QueryRows, burn::tensor::Tensor, device::{Cpu, cpu}};
/// use mnemoscope_model::{Model, ModelSpec, TransformerSpec, hook::Patch};
/// use mnemoscope_stats::stream::Stream;
///
/// let spec = ModelSpec::Transformer(TransformerSpec::x_transformers(2, 8, 2));
/// let model = Model::<Cpu>::init(&spec, &Stream::root(0), &cpu());
/// let tokens = Tensor::from_data([[0, 4, 1]], &cpu());
///
/// // Without the first block's attention the model still answers.
/// let zero = |value: mnemoscope_model::hook::Value<Cpu>| value.tensor::<3>().zeros_like().into();
/// let mut patch = Patch::new(&spec).at("blocks.0.attn.hook_out", zero).unwrap();
/// model.logits(tokens, &QueryRows::new(3, vec![(0, 2)]), &mut patch);
/// ```
pub struct Patch<'f, B: Backend> {
    spec: ModelSpec,
    changes: BTreeMap<String, Change<'f, B>>,
}

impl<'f, B: Backend> Patch<'f, B> {
    /// Changes nothing yet.
    #[must_use]
    pub fn new(spec: &ModelSpec) -> Self {
        Self { spec: spec.clone(), changes: BTreeMap::new() }
    }

    /// Also replaces the value at `point` by what `change` makes of it.
    ///
    /// # Errors
    ///
    /// `Incompatible`, if the model has no such point or the point can only be read.
    pub fn at(
        mut self,
        point: &str,
        change: impl FnMut(Value<B>) -> Value<B> + 'f,
    ) -> Result<Self, Error> {
        let found = find(&self.spec, point)?;
        if !found.replaceable {
            let complaint = format!(
                "hook point `{point}` can be read but not replaced; the table of points is in the \
                 documentation of mnemoscope_model::hook"
            );
            return Err(Cause::Point { complaint }.into());
        }
        self.changes.insert(found.name, Box::new(change));
        Ok(self)
    }
}

impl<B: Backend> fmt::Debug for Patch<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patch").field("points", &self.changes.keys()).finish_non_exhaustive()
    }
}

impl<B: Backend> Hooks<B> for Patch<'_, B> {
    fn replaces(&self, point: &str) -> bool {
        self.changes.contains_key(point)
    }

    fn replace(&mut self, point: &str, value: Value<B>) -> Value<B> {
        match self.changes.get_mut(point) {
            Some(change) => change(value),
            None => value,
        }
    }
}
