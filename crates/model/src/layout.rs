//! The parameters of a model by name: which there are, their shapes, and the law of their first values.
//!
//! This is the one list of parameters. Initialisation draws along it, reading a checkpoint compares
//! with it, and a test holds the modules in [`crate::arch`] to it.
//!
//! | parameter | shape | x-transformers | GPT-2 | PyTorch |
//! |---|---|---|---|---|
//! | `embed.weight` | `[d_vocab, d_model]` | N(0, 2/d_model) | N(0, 0.02²) | N(0, 1) |
//! | `pos.weight` | `[n_ctx, d_model]` | N(0, 1), times the scale | N(0, 0.02²) | N(0, 1), times the scale |
//! | `pos_scale` (of sinusoids) | `[1]` | d_model^-½ | d_model^-½ | d_model^-½ |
//! | `relative.weight` (T5's, of all blocks) | `[n_buckets, n_heads]` | N(0, 1) | N(0, 0.02²) | N(0, 1) |
//! | `blocks.{i}.ln_1.gain`, `.bias` | `[d_model]` | 1, 0 | 1, 0 | 1, 0 |
//! | `blocks.{i}.attn.qkv.weight` | `[d_model, 3 d_model]` | U(±d_model^-½) | N(0, 0.02²) | U(±d_model^-½) |
//! | `blocks.{i}.attn.out.weight` | `[d_model, d_model]` | U(±d_model^-½) | N(0, 0.02²/2n_layers) | U(±d_model^-½) |
//! | `blocks.{i}.ln_2.gain`, `.bias` | `[d_model]` | 1, 0 | 1, 0 | 1, 0 |
//! | `blocks.{i}.mlp.up.weight` | `[d_model, d_mlp]` | U(±d_model^-½) | N(0, 0.02²) | U(±d_model^-½) |
//! | `blocks.{i}.mlp.down.weight` | `[d_mlp, d_model]` | U(±d_mlp^-½) | N(0, 0.02²/2n_layers) | U(±d_mlp^-½) |
//! | `ln_f.gain`, `.bias` | `[d_model]` | 1, 0 | 1, 0 | 1, 0 |
//! | `unembed.weight` | `[d_model, d_vocab]` | U(±d_model^-½) | N(0, 0.02²) | U(±d_model^-½) |
//! | `.bias` of a linear map | `[d_out]` | U(±d_in^-½) | 0 | U(±d_in^-½) |
//!
//! Positions whose scale is 1 start smaller under the x-transformers law, N(0, 1/d_model), so that
//! the embedding has the same law either way.
//!
//! Not every transformer has all of them. Only learned positions have `pos.weight`; a norm that
//! stands nowhere, an `ln_2` without its MLP and an `ln_f` after post-norm blocks are not there; a
//! linear MLP has no `up`, and its `down` is `[d_model, d_model]`; a gated one has values and gates side
//! by side, and its `up` is `[d_model, 2 d_mlp]`. With values of their own, or without any, there are
//! `attn.qk.weight`, `[d_model, 2 d_model]`, and `attn.v.weight`, `[d_model, d_model]`, or the first of
//! them alone, under the law of `attn.qkv`; a block without `W_O` has no `attn.out`.
//!
//! | parameter of an LSTM | shape | law |
//! |---|---|---|
//! | `embed.weight` | `[d_vocab, d_model]` | N(0, 1) |
//! | `layers.{i}.w_ih`, `.w_hh` | `[d_model, 4 d_model]`, gates i, f, g, o | U(±d_model^-½) |
//! | `layers.{i}.b_ih`, `.b_hh` | `[4 d_model]` | U(±d_model^-½) |
//! | `unembed.weight`, `.bias` | `[d_model, d_vocab]`, `[d_vocab]` | U(±d_model^-½) |
//!
//! | parameter of an associative model | shape | published | theory |
//! |---|---|---|---|
//! | `embed.weight` (W_E) | `[d_vocab, d_model]` | N(0, 1) | N(0, 1/d_model) |
//! | `pos.weight` (p; of a table of places) | `[n_ctx, d_model]` | N(0, 1) | N(0, 1/d_model) |
//! | `blocks.{i}.attn.k.weight` (W_K, transposed) | `[d_model, d_model]` | U(±d_model^-½) | 0 |
//! | `blocks.{i}.attn.v.weight` (W_V, transposed) | `[d_model, d_model]` | U(±d_model^-½) | N(0, 1/d_model) |
//! | `blocks.{i}.attn.out.weight` (W_O, transposed) | `[d_model, d_model]` | U(±d_model^-½) | block 0: N(0, 1/d_model); block 1: 0 |
//! | `blocks.{i}.mlp.weight` (linear; W_F, transposed) | `[d_model, d_model]` | U(±d_model^-½) | 0 |
//! | `blocks.{i}.mlp.up.weight` | `[d_model, d_mlp]` | U(±d_model^-½) | N(0, 1/d_model) |
//! | `blocks.{i}.mlp.up.bias` (with thresholds) | `[d_mlp]` | U(±d_model^-½) | 0 |
//! | `blocks.{i}.mlp.down.weight` | `[d_mlp, d_model]` | U(±d_mlp^-½) | 0 |
//! | `.right.weight` (of a factored memory; V, transposed) | `[d_model, d_inner]` | U(±d_model^-½) | N(0, 1/d_model) |
//! | `.left.weight` (of a factored memory; U, transposed) | `[d_inner, d_model]` | U(±d_inner^-½) | N(0, 1/d_model) |
//! | `unembed.weight` (W_U, transposed) | `[d_model, d_vocab]` | U(±d_model^-½) | N(0, 1/d_model) |
//!
//! Under the law `small-embed` embeddings and places are N(0, 1/d_model) and the rest is as published.
//! Matrices are transposed against the paper because it writes vectors as columns and we as rows.
//! A factored memory has the two factors in place of its `.weight`; neither begins at zero, because the
//! gradient of each is a multiple of the other.

use crate::spec::{
    AssociativeInit, AssociativeSpec, FeedForward, Init, LstmSpec, Memory, Mlp, ModelSpec, Norm,
    Places, PosScale, Positions, TransformerSpec,
};

/// One parameter of a model before it has numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// Its name in the tree, such as `blocks.0.attn.qkv.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The law of its first values.
    pub law: Law,
}

/// The law of a parameter's first values; each number is drawn independently.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Law {
    /// Every value is this.
    Constant(f64),
    /// Uniform between minus and plus this.
    Uniform(f64),
    /// Normal with mean zero and this standard deviation.
    Normal(f64),
}

/// Every parameter of the model, in the order of computation.
///
/// # Panics
///
/// If the spec has complaints, see [`ModelSpec::check`].
///
/// # Example
///
/// ```
/// use mnemoscope_model::{LstmSpec, ModelSpec, layout};
///
/// let slots = layout(&ModelSpec::Lstm(LstmSpec::paper()));
/// assert_eq!(slots[1].name, "layers.0.w_ih");
/// assert_eq!(slots[1].shape, [128, 512]);
/// ```
#[must_use]
#[track_caller]
pub fn layout(spec: &ModelSpec) -> Vec<Slot> {
    if let Some(complaint) = spec.check().first() {
        panic!("the spec was not checked: {}", complaint.message);
    }
    match spec {
        ModelSpec::Transformer(spec) => transformer(spec),
        ModelSpec::Lstm(spec) => lstm(spec),
        ModelSpec::Associative(spec) => associative(spec),
    }
}

fn transformer(spec: &TransformerSpec) -> Vec<Slot> {
    let d = spec.d_model;
    let mut slots = vec![slot("embed.weight", &[spec.d_vocab, d], embed_law(spec))];
    if spec.positions == Positions::Learned {
        slots.push(slot("pos.weight", &[spec.n_ctx, d], pos_law(spec)));
    }
    if spec.pos_scale == PosScale::Learned {
        slots.push(slot("pos_scale", &[1], Law::Constant((d as f64).sqrt().recip())));
    }
    if let Some(shape) = spec.relative.param_shape(spec.n_heads) {
        slots.push(slot("relative.weight", &shape, relative_law(spec)));
    }
    for layer in 0..spec.n_layers {
        let name = |part: &str| format!("blocks.{layer}.{part}");
        if spec.norm != Norm::None {
            norm(&mut slots, &name("ln_1"), d);
        }
        attention(&mut slots, spec, layer);
        if !spec.has_mlp(layer) {
            continue;
        }
        if spec.norm != Norm::None {
            norm(&mut slots, &name("ln_2"), d);
        }
        let d_in = if spec.mlp == Mlp::Linear { d } else { spec.d_mlp };
        if spec.mlp.has_width() {
            let up = weight_law(spec, d, false);
            let d_up = if spec.mlp.gated() { 2 * d_in } else { d_in };
            linear(&mut slots, &name("mlp.up"), [d, d_up], up, spec.mlp_bias);
        }
        let down = weight_law(spec, d_in, true);
        linear(&mut slots, &name("mlp.down"), [d_in, d], down, spec.mlp_bias);
    }
    if spec.norm == Norm::Pre {
        norm(&mut slots, "ln_f", d);
    }
    let unembed = weight_law(spec, d, false);
    if !spec.tie_unembed {
        slots.push(slot("unembed.weight", &[d, spec.d_vocab], unembed));
    }
    if spec.unembed_bias {
        slots.push(slot("unembed.bias", &[spec.d_vocab], bias_law(unembed)));
    }
    slots
}

/// Queries, keys and values as one map, unless values have one of their own or none; and the output.
fn attention(slots: &mut Vec<Slot>, spec: &TransformerSpec, layer: usize) {
    let (d, law) = (spec.d_model, weight_law(spec, spec.d_model, false));
    let mut add = |part: &str, n: usize, law| {
        linear(slots, &format!("blocks.{layer}.attn.{part}"), [d, n * d], law, spec.attn_bias);
    };
    match (spec.identity_v.contains(&layer), spec.own_v) {
        (false, false) => add("qkv", 3, law),
        (false, true) => {
            add("qk", 2, law);
            add("v", 1, law);
        }
        (true, _) => add("qk", 2, law),
    }
    if !spec.identity_out.contains(&layer) {
        add("out", 1, weight_law(spec, d, true));
    }
}

fn lstm(spec: &LstmSpec) -> Vec<Slot> {
    let d = spec.d_model;
    let law = Law::Uniform((d as f64).sqrt().recip());
    let mut slots = vec![slot("embed.weight", &[spec.d_vocab, d], Law::Normal(1.0))];
    for layer in 0..spec.n_layers {
        for weight in ["w_ih", "w_hh"] {
            slots.push(slot(&format!("layers.{layer}.{weight}"), &[d, 4 * d], law));
        }
        for bias in ["b_ih", "b_hh"] {
            slots.push(slot(&format!("layers.{layer}.{bias}"), &[4 * d], law));
        }
    }
    slots.push(slot("unembed.weight", &[d, spec.d_vocab], law));
    slots.push(slot("unembed.bias", &[spec.d_vocab], law));
    slots
}

fn associative(spec: &AssociativeSpec) -> Vec<Slot> {
    let d = spec.d_model;
    let rsqrt = |d_in: usize| (d_in as f64).sqrt().recip();
    let embed = match spec.init {
        AssociativeInit::Published => Law::Normal(1.0),
        AssociativeInit::SmallEmbed | AssociativeInit::Theory => Law::Normal(rsqrt(d)),
    };
    // What stays frozen in the theory is random, what learns begins at zero.
    let matrix = |learns: bool, d_in: usize| match spec.init {
        AssociativeInit::Theory if learns => Law::Constant(0.0),
        AssociativeInit::Theory => Law::Normal(rsqrt(d)),
        AssociativeInit::Published | AssociativeInit::SmallEmbed => Law::Uniform(rsqrt(d_in)),
    };
    let mut slots = vec![slot("embed.weight", &[spec.d_vocab, d], embed)];
    if spec.places == Places::Table {
        slots.push(slot("pos.weight", &[spec.n_ctx, d], embed));
    }
    for (block, mlp) in [spec.first_mlp, spec.mlp].into_iter().enumerate() {
        let name = |part: &str| format!("blocks.{block}.{part}.weight");
        let add = |slots: &mut Vec<Slot>, memory: Option<Memory>, part: &str| {
            if memory.is_some_and(|memory| spec.factored.contains(&memory)) {
                let inner = spec.d_inner;
                let [right, left] = ["right", "left"].map(|half| name(&format!("{part}.{half}")));
                slots.push(slot(&right, &[d, inner], matrix(false, d)));
                slots.push(slot(&left, &[inner, d], matrix(false, inner)));
            } else {
                slots.push(slot(&name(part), &[d, d], matrix(memory.is_some(), d)));
            }
        };
        add(&mut slots, Some([Memory::K1, Memory::K2][block]), "attn.k");
        slots.push(slot(&name("attn.v"), &[d, d], matrix(false, d)));
        add(&mut slots, (block == 1).then_some(Memory::Out2), "attn.out");
        match mlp {
            FeedForward::None => {}
            FeedForward::Linear if block == 1 => add(&mut slots, Some(Memory::Mlp), "mlp"),
            FeedForward::Linear => slots.push(slot(&name("mlp"), &[d, d], matrix(true, d))),
            FeedForward::Relu => {
                slots.push(slot(&name("mlp.up"), &[d, spec.d_mlp], matrix(false, d)));
                if spec.mlp_bias {
                    let bias = format!("blocks.{block}.mlp.up.bias");
                    slots.push(slot(&bias, &[spec.d_mlp], bias_law(matrix(false, d))));
                }
                slots.push(slot(&name("mlp.down"), &[spec.d_mlp, d], matrix(true, spec.d_mlp)));
            }
        }
    }
    slots.push(slot("unembed.weight", &[d, spec.d_vocab], matrix(false, d)));
    slots
}

fn slot(name: &str, shape: &[usize], law: Law) -> Slot {
    Slot { name: name.to_owned(), shape: shape.to_vec(), law }
}

fn norm(slots: &mut Vec<Slot>, name: &str, d: usize) {
    slots.push(slot(&format!("{name}.gain"), &[d], Law::Constant(1.0)));
    slots.push(slot(&format!("{name}.bias"), &[d], Law::Constant(0.0)));
}

fn linear(slots: &mut Vec<Slot>, name: &str, [d_in, d_out]: [usize; 2], law: Law, bias: bool) {
    slots.push(slot(&format!("{name}.weight"), &[d_in, d_out], law));
    if bias {
        slots.push(slot(&format!("{name}.bias"), &[d_out], bias_law(law)));
    }
}

fn embed_law(spec: &TransformerSpec) -> Law {
    match spec.init {
        Init::XTransformers => Law::Normal((2.0 / spec.d_model as f64).sqrt()),
        Init::Gpt2 => Law::Normal(0.02),
        Init::PyTorch => Law::Normal(1.0),
    }
}

fn pos_law(spec: &TransformerSpec) -> Law {
    match (spec.init, spec.pos_scale) {
        // A learned scale is of sinusoids, which are no parameters.
        (Init::XTransformers, PosScale::RsqrtDModel | PosScale::Learned) => Law::Normal(1.0),
        (Init::XTransformers, PosScale::Unit) => Law::Normal((spec.d_model as f64).sqrt().recip()),
        (Init::Gpt2, _) => Law::Normal(0.02),
        (Init::PyTorch, _) => Law::Normal(1.0),
    }
}

fn relative_law(spec: &TransformerSpec) -> Law {
    match spec.init {
        Init::XTransformers | Init::PyTorch => Law::Normal(1.0),
        Init::Gpt2 => Law::Normal(0.02),
    }
}

/// The law of a weight; `into_resid` marks the projections whose outputs add up in the residual
/// stream, which GPT-2 starts smaller.
fn weight_law(spec: &TransformerSpec, d_in: usize, into_resid: bool) -> Law {
    match spec.init {
        Init::XTransformers | Init::PyTorch => Law::Uniform((d_in as f64).sqrt().recip()),
        Init::Gpt2 if into_resid => Law::Normal(0.02 / (2.0 * spec.n_layers as f64).sqrt()),
        Init::Gpt2 => Law::Normal(0.02),
    }
}

/// A bias has its weight's law if that is uniform, and starts at zero otherwise.
fn bias_law(weight: Law) -> Law {
    match weight {
        Law::Uniform(_) => weight,
        Law::Normal(_) | Law::Constant(_) => Law::Constant(0.0),
    }
}
