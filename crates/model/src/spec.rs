//! What fixes an architecture, and what can be wrong with it.

use serde::{Deserialize, Serialize};

mod associative;
mod relative;

pub use associative::{
    AssociativeInit, AssociativeSpec, FeedForward, Memory, NormLength, Places, ScoreScale,
};
pub use relative::Relative;

/// Everything that fixes the architecture of a model and its initial law.
///
/// Every field is present: defaults are the business of whoever reads a spec. In TOML or JSON the
/// kind of model is the field `name`.
///
/// # Example
///
/// ```
/// use mnemoscope_model::{LstmSpec, ModelSpec};
///
/// let json = r#"{"name": "lstm", "n_layers": 1, "d_model": 128, "d_vocab": 5}"#;
/// let spec: ModelSpec = serde_json::from_str(json).unwrap();
/// assert_eq!(spec, ModelSpec::Lstm(LstmSpec::paper()));
/// assert_eq!(spec.n_params(), Some(133_381));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum ModelSpec {
    /// A GPT-style decoder.
    Transformer(TransformerSpec),
    /// A long short-term memory.
    Lstm(LstmSpec),
    /// Two layers of attention without norms, whose matrices are read as associative memories.
    Associative(AssociativeSpec),
}

/// A decoder of blocks: attention, then an MLP, each added to the residual stream; normalised before
/// both, after both, or not at all.
///
/// # Source
///
/// Vaswani et al., "Attention is all you need", NeurIPS 2017; pre-norm and learned positions as in
/// Radford et al., "Language models are unsupervised multitask learners", 2019 (GPT-2). The
/// other preset is what the library x-transformers gives by default, which Liu et al.,
/// arXiv:2306.00946, trained. Blocks with another norm or MLP, or with both parts in parallel, are
/// those of Bietti et al., "Birth of a Transformer: A Memory Viewpoint", arXiv:2306.00802.
///
/// The last fields are left out of a stored spec where they have the value that all models had
/// before there was the field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerSpec {
    /// Blocks, at least 1.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Attention heads of a block; `d_head` is `d_model / n_heads`.
    pub n_heads: usize,
    /// Width of the MLP; customary is `4 * d_model`. 0 if the MLP is linear or there is none.
    pub d_mlp: usize,
    /// Longest sequence, in tokens. It binds only learned positions; of linear ones it is the unit.
    pub n_ctx: usize,
    /// Number of different tokens.
    pub d_vocab: usize,
    /// How the model knows where a token stands.
    pub positions: Positions,
    /// By what learned or sinusoidal positions are multiplied before they are added to the embedding.
    pub pos_scale: PosScale,
    /// Whether the unembedding is the embedding's transpose.
    pub tie_unembed: bool,
    /// Whether the projections of attention have biases.
    pub attn_bias: bool,
    /// Whether the unembedding has a bias.
    pub unembed_bias: bool,
    /// The form of the MLP's GELU, of a gate too; [`Gelu::Erf`] if it has another activation.
    pub gelu: Gelu,
    /// Added to the variance in layer norms; customary is `1e-5`.
    pub layer_norm_epsilon: f64,
    /// The law of the initial parameters.
    pub init: Init,
    /// Where the layer norms stand.
    #[serde(default, skip_serializing_if = "is_default")]
    pub norm: Norm,
    /// What the MLP of a block is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mlp: Mlp,
    /// Whether the MLP's maps have biases; true if there is no MLP.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub mlp_bias: bool,
    /// The first block that has an MLP; those before it have attention alone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mlp_from_layer: usize,
    /// Whether the MLP reads the block's input in place of what attention made of it, so that it
    /// cannot see what its own block attended to: `x + attn(ln_1(x)) + mlp(ln_2(x))`. The published
    /// pre-norm code of "Birth of a Transformer" does so.
    #[serde(default, skip_serializing_if = "is_default")]
    pub parallel_mlp: bool,
    /// What attention knows of distances, beside `positions`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub relative: Relative,
    /// What scores, relative positions included, are divided by before the softmax, in training as
    /// in evaluation; 1 is the usual.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub temperature: f64,
    /// Whether values have a parameter of their own, `attn.v`, beside `attn.qk`, so that it can be
    /// frozen by itself. Of the same numbers it is the same function as `attn.qkv`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub own_v: bool,
    /// The blocks without `W_V`, ascending: values are what attention reads, the heads side by side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identity_v: Vec<usize>,
    /// The blocks without `W_O`, ascending: what the heads mixed, side by side, is added to the stream.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identity_out: Vec<usize>,
}

fn one() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_one(x: &f64) -> bool {
    x.to_bits() == one().to_bits()
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_yes(flag: &bool) -> bool {
    *flag
}

/// A stack of LSTM layers of one width, with an embedding before and a linear unembedding after.
///
/// # Source
///
/// Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9 (1997), with forget
/// gates, both biases and the gate order i, f, g, o of `torch.nn.LSTM`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LstmSpec {
    /// Layers, at least 1.
    pub n_layers: usize,
    /// Width of the embedding, of the state and of the output.
    pub d_model: usize,
    /// Number of different tokens.
    pub d_vocab: usize,
}

/// How a transformer knows where a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// One learned vector for each place, added to the embedding.
    Learned,
    /// A fixed vector for each place, however far: sines and cosines of `pos / 10000^(2i/d_model)`
    /// in turns. They are no parameters.
    Sinusoidal,
    /// `pos / n_ctx` is added to the last number of the embedding, however far: the linear encoding of
    /// proposition 4 of Liu et al. 2023, whose `C` is `n_ctx`. It is no parameter.
    Linear,
    /// Not at all: order is felt through the causal mask alone.
    None,
}

/// The factor of learned and of sinusoidal positions.
///
/// A fixed factor is part of the architecture, not of the initial values: AdamW moves a parameter by
/// about the learning rate whatever its scale, so positions that are multiplied by `d_model^-1/2`
/// learn that much more slowly than positions that merely start that much smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PosScale {
    /// 1, as in GPT-2.
    Unit,
    /// `d_model^-1/2`, as in x-transformers.
    RsqrtDModel,
    /// One learned number that starts at `d_model^-1/2`, of sinusoidal positions: the scaled sinusoids
    /// of x-transformers, but for the order of their columns.
    Learned,
}

/// Which form of the Gaussian error linear unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gelu {
    /// `x Φ(x)` with the error function, as in x-transformers.
    Erf,
    /// The approximation by the hyperbolic tangent, as in GPT-2.
    Tanh,
}

/// Where the layer norms of a transformer stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Before attention, before the MLP, and before the unembedding: `x + f(ln(x))`.
    #[default]
    Pre,
    /// After each sum, as in the first transformer, and none before the unembedding:
    /// `ln(x + f(x))`.
    Post,
    /// Nowhere: `x + f(x)`.
    None,
}

/// What stands after attention in a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mlp {
    /// Two maps with a GELU between them.
    #[default]
    Gelu,
    /// Two maps with `max(x, 0)` between them.
    Relu,
    /// A gated unit: `value * gelu(gate)` between two maps, the first of which gives both, side by side
    /// in this order: `mlp.up.weight` is `[d_model, 2 d_mlp]`. Shazeer, 2020, arXiv:2002.05202.
    Geglu,
    /// The same with `x / (1 + e^-x)` in place of the GELU.
    Swiglu,
    /// One map of the residual stream into itself, the paper's `W_F`.
    Linear,
    /// Nothing: a block is attention alone.
    None,
}

impl Mlp {
    /// The word for it in specs and records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gelu => "gelu",
            Self::Relu => "relu",
            Self::Geglu => "geglu",
            Self::Swiglu => "swiglu",
            Self::Linear => "linear",
            Self::None => "none",
        }
    }

    /// Whether it has a width of its own: two maps with an activation between them.
    #[must_use]
    pub fn has_width(self) -> bool {
        matches!(self, Self::Gelu | Self::Relu) || self.gated()
    }

    /// Whether it has a value and a gate.
    #[must_use]
    pub fn gated(self) -> bool {
        matches!(self, Self::Geglu | Self::Swiglu)
    }

    /// Whether a GELU is in it.
    #[must_use]
    pub fn has_gelu(self) -> bool {
        matches!(self, Self::Gelu | Self::Geglu)
    }
}

/// The law of a transformer's initial parameters. [`crate::layout`] spells it out by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Init {
    /// PyTorch's defaults as x-transformers leaves them: linear weights and biases uniform in
    /// `±d_in^-1/2`, embedding normal with variance `2 / d_model`, positions standard normal
    /// before their scale.
    #[serde(rename = "x-transformers")]
    XTransformers,
    /// GPT-2's: everything normal with standard deviation 0.02, the two projections into the
    /// residual stream divided by `sqrt(2 n_layers)`, biases zero.
    #[serde(rename = "gpt2")]
    Gpt2,
    /// PyTorch's defaults: embedding and positions standard normal, linear weights and biases
    /// uniform in `±d_in^-1/2`.
    #[serde(rename = "pytorch")]
    PyTorch,
}

/// Something wrong with a spec: which field, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The field's name within the model's table.
    pub field: &'static str,
    /// What is wrong, with the numbers, and how to mend it.
    pub message: String,
}

impl TransformerSpec {
    /// The x-transformers variant on flip-flop strings: 512 places, 5 tokens, MLP four times as wide.
    #[must_use]
    pub fn x_transformers(n_layers: usize, d_model: usize, n_heads: usize) -> Self {
        Self {
            n_layers,
            d_model,
            n_heads,
            d_mlp: 4 * d_model,
            n_ctx: 512,
            d_vocab: 5,
            positions: Positions::Learned,
            pos_scale: PosScale::RsqrtDModel,
            tie_unembed: false,
            attn_bias: false,
            unembed_bias: true,
            gelu: Gelu::Erf,
            layer_norm_epsilon: 1e-5,
            init: Init::XTransformers,
            norm: Norm::Pre,
            mlp: Mlp::Gelu,
            mlp_bias: true,
            mlp_from_layer: 0,
            parallel_mlp: false,
            relative: Relative::None,
            temperature: 1.0,
            own_v: false,
            identity_v: Vec::new(),
            identity_out: Vec::new(),
        }
    }

    /// The GPT-2 variant on flip-flop strings: tied unembedding, biases in attention, tanh GELU.
    #[must_use]
    pub fn gpt2(n_layers: usize, d_model: usize, n_heads: usize) -> Self {
        Self {
            pos_scale: PosScale::Unit,
            tie_unembed: true,
            attn_bias: true,
            unembed_bias: false,
            gelu: Gelu::Tanh,
            init: Init::Gpt2,
            ..Self::x_transformers(n_layers, d_model, n_heads)
        }
    }

    /// The baseline of Liu et al.: 6 layers, width 512, 8 heads, 19,170,309 parameters.
    #[must_use]
    pub fn fflm_base() -> Self {
        Self::x_transformers(6, 512, 8)
    }

    /// The same size in the GPT-2 variant: 19,180,032 parameters.
    #[must_use]
    pub fn gpt2_base() -> Self {
        Self::gpt2(6, 512, 8)
    }

    /// The full model of "Birth of a Transformer" as its code has it: 2 layers of one head, width
    /// 128, no biases, ReLU, parallel MLP, 256 places, 65 tokens; 443,904 parameters.
    #[must_use]
    pub fn birth_full() -> Self {
        Self {
            n_ctx: 256,
            d_vocab: 65,
            pos_scale: PosScale::Unit,
            unembed_bias: false,
            init: Init::PyTorch,
            mlp: Mlp::Relu,
            mlp_bias: false,
            parallel_mlp: true,
            ..Self::x_transformers(2, 128, 1)
        }
    }

    /// Whether the block `layer` has an MLP.
    #[must_use]
    pub fn has_mlp(&self, layer: usize) -> bool {
        self.mlp != Mlp::None && layer >= self.mlp_from_layer
    }

    /// Width of one head.
    #[must_use]
    pub fn d_head(&self) -> usize {
        self.d_model / self.n_heads
    }

    /// The fixed factor of positions as a number.
    #[must_use]
    pub fn pos_factor(&self) -> f64 {
        match self.pos_scale {
            // A learned factor is in the places already.
            PosScale::Unit | PosScale::Learned => 1.0,
            PosScale::RsqrtDModel => (self.d_model as f64).sqrt().recip(),
        }
    }

    fn complaints(&self) -> Vec<Complaint> {
        let mut found = Vec::new();
        at_least(1, "n_layers", self.n_layers, &mut found);
        at_least(1, "d_model", self.d_model, &mut found);
        at_least(1, "n_heads", self.n_heads, &mut found);
        if self.mlp.has_width() {
            at_least(1, "d_mlp", self.d_mlp, &mut found);
        }
        at_least(1, "n_ctx", self.n_ctx, &mut found);
        at_least(2, "d_vocab", self.d_vocab, &mut found);
        let heads_fit = self.n_heads == 0 || self.d_model.is_multiple_of(self.n_heads);
        if !heads_fit {
            found.push(Complaint {
                field: "d_model",
                message: format!(
                    "d_model = {} is not divisible by n_heads = {}; {} would be",
                    self.d_model,
                    self.n_heads,
                    match self.d_model.div_ceil(self.n_heads).checked_mul(self.n_heads) {
                        Some(next) => format!("d_model = {next}"),
                        None => "n_heads = 1".to_owned(),
                    },
                ),
            });
        }
        if !(self.layer_norm_epsilon > 0.0 && self.layer_norm_epsilon.is_finite()) {
            found.push(Complaint {
                field: "layer_norm_epsilon",
                message: format!(
                    "layer_norm_epsilon = {} is not a positive number; 1e-5 is customary",
                    self.layer_norm_epsilon
                ),
            });
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            let message = format!(
                "temperature = {} is not a positive number; 1 is the usual",
                self.temperature
            );
            found.push(Complaint { field: "temperature", message });
        }
        if self.pos_scale == PosScale::Learned && self.positions != Positions::Sinusoidal {
            let message = "pos_scale = \"learned\" is of sinusoids; use positions = \"sinusoidal\", or \
                           pos_scale = \"unit\" or \"rsqrt_d_model\"";
            found.push(Complaint { field: "pos_scale", message: message.to_owned() });
        }
        self.relative.complain(self, &mut found);
        self.complain_about_mlp(&mut found);
        self.complain_about_identities(&mut found);
        found
    }

    /// Whether the blocks without a map are blocks of the model, each named once.
    fn complain_about_identities(&self, found: &mut Vec<Complaint>) {
        let n_layers = self.n_layers;
        let mut complain = |field, message| found.push(Complaint { field, message });
        for (field, layers) in
            [("identity_v", &self.identity_v), ("identity_out", &self.identity_out)]
        {
            if let Some(layer) = layers.iter().find(|&&layer| layer >= n_layers) {
                let message = format!(
                    "{field} has {layer}, but the last of n_layers = {n_layers} blocks is {}; use at \
                     most that",
                    n_layers.saturating_sub(1)
                );
                complain(field, message);
            } else if !layers.is_sorted_by(|a, b| a < b) {
                complain(field, format!("{field} is {layers:?}; give each once, ascending"));
            }
        }
        if self.own_v && self.identity_v.len() >= n_layers {
            let message = "own_v is about W_V, but identity_v leaves it out of every block; leave \
                           own_v out";
            complain("own_v", message.to_owned());
        }
    }

    /// What does not go together around the MLP: a field of something that the block does not have
    /// would make two specs of one model.
    fn complain_about_mlp(&self, found: &mut Vec<Complaint>) {
        let Self { n_layers, d_mlp, mlp, mlp_from_layer, .. } = *self;
        let mut complain = |field, message| found.push(Complaint { field, message });
        let mlp_is = format!("mlp = \"{}\"", mlp.name());
        if !mlp.has_width() && d_mlp > 0 {
            let message = format!("d_mlp = {d_mlp}, but {mlp_is} has no width of its own");
            complain("d_mlp", message + "; leave d_mlp out");
        }
        if !mlp.has_gelu() && self.gelu != Gelu::Erf {
            complain("gelu", format!("gelu is the form of a GELU, but {mlp_is}; leave gelu out"));
        }
        if mlp != Mlp::None && mlp_from_layer > 0 && mlp_from_layer >= n_layers {
            let message = format!(
                "mlp_from_layer = {mlp_from_layer}, but the last of n_layers = {n_layers} blocks is \
                 {}; use at most that, or mlp = \"none\"",
                n_layers.saturating_sub(1)
            );
            complain("mlp_from_layer", message);
        }
        let without = [
            ("mlp_bias", !self.mlp_bias),
            ("mlp_from_layer", mlp_from_layer > 0),
            ("parallel_mlp", self.parallel_mlp),
        ];
        for (field, says_something) in without {
            if mlp == Mlp::None && says_something {
                let message = format!("{field} is about an MLP, but {mlp_is}; leave {field} out");
                complain(field, message);
            }
        }
        if self.parallel_mlp && self.norm == Norm::Post {
            let message = "parallel_mlp does not go with norm = \"post\", which normalises between \
                           attention and MLP; use norm = \"pre\" or \"none\"";
            complain("parallel_mlp", message.to_owned());
        }
    }
}

impl LstmSpec {
    /// The LSTM of Liu et al.: one layer of width 128, 133,381 parameters.
    #[must_use]
    pub fn paper() -> Self {
        Self { n_layers: 1, d_model: 128, d_vocab: 5 }
    }

    fn complaints(&self) -> Vec<Complaint> {
        let mut found = Vec::new();
        at_least(1, "n_layers", self.n_layers, &mut found);
        at_least(1, "d_model", self.d_model, &mut found);
        at_least(2, "d_vocab", self.d_vocab, &mut found);
        found
    }
}

impl ModelSpec {
    /// Everything wrong with the spec, all at once; empty if a model can be made of it.
    ///
    /// Whether the machine can hold it is another question: see [`Self::train_bytes`].
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_model::{ModelSpec, TransformerSpec};
    ///
    /// let spec = ModelSpec::Transformer(TransformerSpec {
    ///     n_layers: 0,
    ///     ..TransformerSpec::x_transformers(1, 64, 5)
    /// });
    /// let said: Vec<String> = spec.check().into_iter().map(|c| c.message).collect();
    /// assert_eq!(said, [
    ///     "n_layers = 0 is too small; it must be at least 1",
    ///     "d_model = 64 is not divisible by n_heads = 5; d_model = 65 would be",
    /// ]);
    /// ```
    #[must_use]
    pub fn check(&self) -> Vec<Complaint> {
        let mut found = match self {
            Self::Transformer(spec) => spec.complaints(),
            Self::Lstm(spec) => spec.complaints(),
            Self::Associative(spec) => spec.complaints(),
        };
        if found.is_empty() && self.train_bytes(1, 1).is_none() {
            found.push(Complaint {
                field: "d_model",
                message: "the sizes of the model are beyond what 64 bits count; lower d_model, \
                          n_layers, d_mlp, n_ctx or d_vocab"
                    .to_owned(),
            });
        }
        found
    }

    /// The kind of model, as the field `name` has it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Transformer(_) => "transformer",
            Self::Lstm(_) => "lstm",
            Self::Associative(_) => "associative",
        }
    }

    /// Number of different tokens.
    #[must_use]
    pub fn d_vocab(&self) -> usize {
        match self {
            Self::Transformer(spec) => spec.d_vocab,
            Self::Lstm(spec) => spec.d_vocab,
            Self::Associative(spec) => spec.d_vocab,
        }
    }

    /// Width of the residual stream, or of the LSTM's state.
    #[must_use]
    pub fn d_model(&self) -> usize {
        match self {
            Self::Transformer(spec) => spec.d_model,
            Self::Lstm(spec) => spec.d_model,
            Self::Associative(spec) => spec.d_model,
        }
    }

    /// Number of blocks or layers.
    #[must_use]
    pub fn n_layers(&self) -> usize {
        match self {
            Self::Transformer(spec) => spec.n_layers,
            Self::Lstm(spec) => spec.n_layers,
            Self::Associative(_) => 2,
        }
    }

    /// The longest sequence the model can read, or `None` if any length will do.
    #[must_use]
    pub fn n_ctx(&self) -> Option<usize> {
        match self {
            Self::Transformer(spec) if spec.positions == Positions::Learned => Some(spec.n_ctx),
            Self::Associative(spec) => Some(spec.n_ctx),
            Self::Transformer(_) | Self::Lstm(_) => None,
        }
    }

    /// The parameters that do not learn unless a plan says otherwise, by name.
    ///
    /// Empty but for the associative model, of which the paper trains the keys of both layers, the
    /// output of the second and its feed-forward.
    ///
    /// # Panics
    ///
    /// If the spec has complaints, see [`Self::check`].
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_model::{AssociativeSpec, ModelSpec};
    ///
    /// let frozen = ModelSpec::Associative(AssociativeSpec::birth()).frozen_by_default();
    /// assert_eq!(frozen, [
    ///     "embed.weight", "pos.weight", "blocks.0.attn.v.weight", "blocks.0.attn.out.weight",
    ///     "blocks.1.attn.v.weight", "unembed.weight",
    /// ]);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn frozen_by_default(&self) -> Vec<String> {
        let Self::Associative(_) = self else { return Vec::new() };
        let learns = |name: &str| {
            name.contains(".attn.k.")
                || name.contains(".mlp.")
                || name.starts_with("blocks.1.attn.out")
        };
        let names = crate::layout(self).into_iter().map(|slot| slot.name);
        names.filter(|name| !learns(name)).collect()
    }
}

fn at_least(least: usize, field: &'static str, value: usize, found: &mut Vec<Complaint>) {
    if value < least {
        found.push(Complaint {
            field,
            message: format!("{field} = {value} is too small; it must be at least {least}"),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: TransformerSpec, expected: &[(&str, &str)]) {
        let found = ModelSpec::Transformer(spec).check();
        let found: Vec<_> = found.iter().map(|c| (c.field, c.message.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_presets_are_sound() {
        check(TransformerSpec::fflm_base(), &[]);
        check(TransformerSpec::gpt2_base(), &[]);
        check(TransformerSpec::birth_full(), &[]);
        assert_eq!(ModelSpec::Lstm(LstmSpec::paper()).check(), []);
    }

    #[test]
    fn all_complaints_come_at_once() {
        check(
            TransformerSpec {
                n_layers: 0,
                n_heads: 0,
                d_vocab: 1,
                layer_norm_epsilon: f64::NAN,
                ..TransformerSpec::fflm_base()
            },
            &[
                ("n_layers", "n_layers = 0 is too small; it must be at least 1"),
                ("n_heads", "n_heads = 0 is too small; it must be at least 1"),
                ("d_vocab", "d_vocab = 1 is too small; it must be at least 2"),
                (
                    "layer_norm_epsilon",
                    "layer_norm_epsilon = NaN is not a positive number; 1e-5 is customary",
                ),
            ],
        );
        let lstm = LstmSpec { n_layers: 0, d_model: 0, d_vocab: 0 };
        assert_eq!(ModelSpec::Lstm(lstm).check().len(), 3);
    }

    #[test]
    fn sizes_beyond_counting_are_refused() {
        let huge = TransformerSpec { d_mlp: usize::MAX / 2, ..TransformerSpec::fflm_base() };
        let found = ModelSpec::Transformer(huge).check();
        assert_eq!(found.len(), 1);
        assert!(found[0].message.starts_with("the sizes of the model are beyond"));
    }

    #[test]
    fn fields_of_an_mlp_that_is_not_there_are_refused() {
        let base = TransformerSpec::birth_full;
        let parallel = "parallel_mlp is about an MLP, but mlp = \"none\"; leave parallel_mlp out";
        check(
            TransformerSpec { mlp: Mlp::None, mlp_from_layer: 1, gelu: Gelu::Tanh, ..base() },
            &[
                (
                    "d_mlp",
                    "d_mlp = 512, but mlp = \"none\" has no width of its own; leave d_mlp out",
                ),
                ("gelu", "gelu is the form of a GELU, but mlp = \"none\"; leave gelu out"),
                ("mlp_bias", "mlp_bias is about an MLP, but mlp = \"none\"; leave mlp_bias out"),
                (
                    "mlp_from_layer",
                    "mlp_from_layer is about an MLP, but mlp = \"none\"; leave mlp_from_layer out",
                ),
                ("parallel_mlp", parallel),
            ],
        );
        check(
            TransformerSpec { mlp: Mlp::Linear, ..base() },
            &[(
                "d_mlp",
                "d_mlp = 512, but mlp = \"linear\" has no width of its own; leave d_mlp out",
            )],
        );
        check(TransformerSpec { mlp: Mlp::Linear, d_mlp: 0, mlp_from_layer: 1, ..base() }, &[]);
        check(
            TransformerSpec { mlp_from_layer: 2, norm: Norm::Post, ..base() },
            &[
                (
                    "mlp_from_layer",
                    "mlp_from_layer = 2, but the last of n_layers = 2 blocks is 1; use at most \
                     that, or mlp = \"none\"",
                ),
                (
                    "parallel_mlp",
                    "parallel_mlp does not go with norm = \"post\", which normalises between \
                     attention and MLP; use norm = \"pre\" or \"none\"",
                ),
            ],
        );
        check(
            TransformerSpec { d_mlp: 0, ..base() },
            &[("d_mlp", "d_mlp = 0 is too small; it must be at least 1")],
        );
    }

    /// What all models had before there was the field is not stored: ids of plans depend on it.
    #[test]
    fn a_spec_stores_of_the_later_fields_only_what_is_unusual() {
        let stored = |spec| serde_json::to_value(ModelSpec::Transformer(spec)).unwrap();
        for preset in [TransformerSpec::fflm_base(), TransformerSpec::gpt2_base()] {
            assert_eq!(stored(preset).as_object().unwrap().len(), 15);
        }
        let full = stored(TransformerSpec::birth_full());
        assert_eq!(full.as_object().unwrap().len(), 15 + 3, "{full}");
        assert_eq!(full["mlp"], "relu");
        assert_eq!((&full["mlp_bias"], &full["parallel_mlp"]), (&false.into(), &true.into()));
        let again: ModelSpec = serde_json::from_value(full).unwrap();
        assert_eq!(again, ModelSpec::Transformer(TransformerSpec::birth_full()));
        let rest = TransformerSpec {
            norm: Norm::None,
            mlp: Mlp::None,
            mlp_from_layer: 1,
            positions: Positions::Sinusoidal,
            ..TransformerSpec::birth_full()
        };
        let json = stored(rest.clone());
        assert_eq!((&json["norm"], &json["mlp"]), (&"none".into(), &"none".into()));
        assert_eq!(json["positions"], "sinusoidal");
        assert_eq!(
            serde_json::from_value::<ModelSpec>(json).unwrap(),
            ModelSpec::Transformer(rest)
        );
    }

    #[test]
    fn an_unknown_field_is_refused_and_a_spec_survives_json() {
        let spec = ModelSpec::Transformer(TransformerSpec::fflm_base());
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<ModelSpec>(&json).unwrap(), spec);
        let json = json.replace("\"n_heads\"", "\"heads\":8,\"n_heads\"");
        let why = serde_json::from_str::<ModelSpec>(&json).unwrap_err().to_string();
        assert!(why.contains("unknown field `heads`"), "{why}");
    }
}
