//! What fixes the simplified two-layer model of "Birth of a Transformer".

use serde::{Deserialize, Serialize};

use super::{Complaint, at_least, is_default};

/// Two layers of attention whose weight matrices are read as associative memories.
///
/// One head, queries that are the residual stream itself, no norms and no biases:
///
/// ```text
/// x  = embed[token] + pos[pos]
/// x += out1 v1 (attention of x over x k1)        then x += first_mlp(x), if there is one
/// x += out2 v2 (attention of x over x k2)        then x += mlp(x), if there is one
/// logits = unembed x
/// ```
///
/// In the paper only `k1`, `k2`, `out2` and the feed-forward learn; everything else stays what it was
/// drawn as. That is a matter of training, not of the architecture: see
/// [`ModelSpec::frozen_by_default`](crate::ModelSpec::frozen_by_default).
///
/// # Source
///
/// Bietti et al., "Birth of a Transformer: A Memory Viewpoint", NeurIPS 2023, arXiv:2306.00802,
/// section 4.2 and appendix E, with the options of the authors' code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssociativeSpec {
    /// Width of the residual stream, and of the one head.
    pub d_model: usize,
    /// Width of a feed-forward that is an MLP; `4 * d_model` in the authors' code.
    pub d_mlp: usize,
    /// Longest sequence, in tokens.
    pub n_ctx: usize,
    /// Number of different tokens.
    pub d_vocab: usize,
    /// What follows the attention of the first layer.
    pub first_mlp: FeedForward,
    /// What follows the attention of the second layer: the paper's `W_F`.
    pub mlp: FeedForward,
    /// How the model knows where a token stands.
    pub places: Places,
    /// By what scores are multiplied before the softmax.
    pub score_scale: ScoreScale,
    /// The law of the initial parameters.
    pub init: AssociativeInit,
    /// Memories that are products of two matrices, ascending: `W = d_model / (2 d_inner) U V`, in
    /// which `V`, `[d_inner, d_model]`, reads and `U`, `[d_model, d_inner]`, writes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub factored: Vec<Memory>,
    /// The inner width of factored memories; 0 if there is none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub d_inner: usize,
    /// Memories whose answer `W x` is scaled to the length `norm_length`, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub normalised: Vec<Memory>,
    /// The length of normalised answers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub norm_length: NormLength,
    /// Whether each neuron of a `relu` feed-forward has a threshold of its own, stored as a bias that
    /// is added: `sum_j v_j relu(u_j x + b_j)`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mlp_bias: bool,
}

/// A matrix of the model that learns, in the paper's words an associative memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Memory {
    /// `W_K` of the first layer: normalised, its keys are.
    K1,
    /// `W_K` of the second layer: normalised, its keys are.
    K2,
    /// `W_O` of the second layer: normalised, what its attention adds to the stream is.
    Out2,
    /// The feed-forward of the second layer: normalised, what it adds to the stream is.
    Mlp,
}

impl Memory {
    /// Every memory by the word for it in specs and records.
    pub const ALL: [(&'static str, Self); 4] =
        [("k1", Self::K1), ("k2", Self::K2), ("out2", Self::Out2), ("mlp", Self::Mlp)];

    fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// The length that the answer of a normalised memory has, whatever it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormLength {
    /// 1, the paper's `LN(x) = x / |x|`, which goes with embeddings of that length.
    #[default]
    Unit,
    /// `d_model^1/2`, as long as the embeddings of the authors' code are.
    SqrtDModel,
}

/// A feed-forward without biases, added to the residual stream it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedForward {
    /// None.
    None,
    /// One matrix.
    Linear,
    /// Two matrices with a rectifier between them.
    Relu,
}

/// How the model knows where a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Places {
    /// One vector for each place, a parameter, added to the embedding.
    Table,
    /// Sines and cosines of the place (Vaswani et al. 2017), added to the embedding.
    Sinusoidal,
    /// Queries and keys of the first layer are turned by angles that grow with the place.
    Rotary,
}

/// By what scores are multiplied before the softmax.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreScale {
    /// `d_model^-1/2`, as in the paper's runs.
    RsqrtDModel,
    /// 1, as in the paper's formulas.
    Unit,
}

/// The law of the initial parameters. [`crate::layout`] spells it out by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AssociativeInit {
    /// The authors' code: embeddings and places standard normal, matrices uniform in
    /// `±d_in^-1/2`.
    Published,
    /// The same with embeddings and places `d_model^-1/2` as large (`sqrtd_embeddings`).
    SmallEmbed,
    /// The theory: everything that is frozen normal with variance `1 / d_model`, everything that
    /// learns zero.
    Theory,
}

impl AssociativeSpec {
    /// The model of the paper's figures 4 to 7: width 128, 256 places, 65 characters, linear `W_F`.
    #[must_use]
    pub fn birth() -> Self {
        Self {
            d_model: 128,
            d_mlp: 512,
            n_ctx: 256,
            d_vocab: 65,
            first_mlp: FeedForward::None,
            mlp: FeedForward::Linear,
            places: Places::Table,
            score_scale: ScoreScale::RsqrtDModel,
            init: AssociativeInit::Published,
            factored: Vec::new(),
            d_inner: 0,
            normalised: Vec::new(),
            norm_length: NormLength::Unit,
            mlp_bias: false,
        }
    }

    /// What a normalised memory's answers are long.
    #[must_use]
    pub fn length(&self) -> f64 {
        match self.norm_length {
            NormLength::Unit => 1.0,
            NormLength::SqrtDModel => (self.d_model as f64).sqrt(),
        }
    }

    /// What `U V` is multiplied by, so that a stored pair is answered with about 1.
    #[must_use]
    pub fn factor_scale(&self) -> f64 {
        self.d_model as f64 / (2.0 * self.d_inner as f64)
    }

    pub(super) fn complaints(&self) -> Vec<Complaint> {
        let mut found = Vec::new();
        at_least(1, "d_model", self.d_model, &mut found);
        at_least(1, "d_mlp", self.d_mlp, &mut found);
        at_least(1, "n_ctx", self.n_ctx, &mut found);
        at_least(2, "d_vocab", self.d_vocab, &mut found);
        if self.places == Places::Rotary && !self.d_model.is_multiple_of(2) {
            found.push(Complaint {
                field: "d_model",
                message: format!(
                    "d_model = {} is odd, and rotary places turn pairs of numbers; d_model = {} \
                     would do",
                    self.d_model,
                    self.d_model + 1
                ),
            });
        }
        self.complain_about_memories(&mut found);
        found
    }

    /// What cannot be said of the memories that this model has; a field that says nothing would
    /// make two specs of one model.
    fn complain_about_memories(&self, found: &mut Vec<Complaint>) {
        let Self { d_inner, ref factored, ref normalised, mlp, .. } = *self;
        let mut complain = |field, message| found.push(Complaint { field, message });
        for (field, memories) in [("factored", factored), ("normalised", normalised)] {
            if !memories.is_sorted_by(|a, b| a < b) {
                let names: Vec<&str> = memories.iter().map(|memory| memory.name()).collect();
                let message =
                    format!("{field} is {names:?}; give each once, in the order k1, k2, out2, mlp");
                complain(field, message);
            }
        }
        if factored.contains(&Memory::Mlp) && mlp != FeedForward::Linear {
            let message = format!(
                "factored has \"mlp\", but mlp = \"{}\" is not one matrix; leave it out, or use mlp = \
                 \"linear\"",
                mlp.name()
            );
            complain("factored", message);
        }
        if normalised.contains(&Memory::Mlp) && mlp == FeedForward::None {
            let message = "normalised has \"mlp\", but mlp = \"none\"; leave it out";
            complain("normalised", message.to_owned());
        }
        match (factored.is_empty(), d_inner) {
            (false, 0) => at_least(1, "d_inner", d_inner, found),
            (true, 1..) => {
                let message = format!(
                    "d_inner = {d_inner} is the inner width of factored memories, and factored names \
                     none; leave d_inner out"
                );
                complain("d_inner", message);
            }
            _ => {}
        }
        self.complain_about_lengths(found);
    }

    fn complain_about_lengths(&self, found: &mut Vec<Complaint>) {
        let Self { ref factored, ref normalised, norm_length, mlp_bias, .. } = *self;
        let mut complain = |field, message| found.push(Complaint { field, message });
        // What begins at zero has no direction, and its gradient none either.
        let begins_at_zero =
            |memory: &&Memory| self.init == AssociativeInit::Theory && !factored.contains(memory);
        if let Some(memory) = normalised.iter().find(begins_at_zero) {
            let message = format!(
                "normalised has \"{}\", which begins at zero under init = \"theory\" and has no \
                 direction then; factor it as well, or use another init",
                memory.name()
            );
            complain("normalised", message);
        }
        if normalised.is_empty() && norm_length != NormLength::Unit {
            let message = "norm_length is of normalised memories, and normalised names none; leave \
                           norm_length out";
            complain("norm_length", message.to_owned());
        }
        if mlp_bias && ![self.first_mlp, self.mlp].contains(&FeedForward::Relu) {
            let message = "mlp_bias is the thresholds of neurons, and neither first_mlp nor mlp is \
                           \"relu\"; leave mlp_bias out";
            complain("mlp_bias", message.to_owned());
        }
    }
}

impl FeedForward {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Linear => "linear",
            Self::Relu => "relu",
        }
    }
}
