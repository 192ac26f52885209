//! What fixes the simplified two-layer model of "Birth of a Transformer".

use serde::{Deserialize, Serialize};

use super::{Complaint, at_least};

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
        }
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
        found
    }
}
