//! What training adds to a pass of a transformer: dropout, and a penalty on attention that is not sharp.
//!
//! Evaluation knows neither. Dropout is where x-transformers and GPT-2 have it:
//!
//! | rate | what is dropped |
//! |---|---|
//! | `attn` | entries of each attention pattern, after the softmax |
//! | `mlp` | what stands behind the activation or gate of an MLP |
//! | `resid` | what attention and MLP add to the residual stream |
//! | `embed` | the embedding, positions added |
//!
//! The penalty is a mean of `R(p)` over the rows `p` of attention patterns, before dropout: over the chosen
//! layers, all heads, all examples and all places, asked or not. With the last layer among the chosen
//! ones its scores are therefore computed everywhere, and what they mix only where the model is asked;
//! unless `asked_rows` says that of the last layer the asked places are enough. Each layer counts alike.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use mnemoscope_engine::{Dropout, RowStats};
use mnemoscope_stats::stream::Stream;
use serde::{Deserialize, Serialize};

/// The share of entries that each kind of dropout sets to 0, each in `[0, 1)`; the kept ones are
/// divided by 1 minus it.
///
/// # Source
///
/// Srivastava et al., "Dropout", JMLR 15 (2014).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropoutRates {
    /// Of attention patterns.
    pub attn: f64,
    /// Behind an MLP's activation.
    pub mlp: f64,
    /// Of what attention and MLP add to the residual stream.
    pub resid: f64,
    /// Of the embedding.
    pub embed: f64,
}

/// A measure of a row `p` of an attention pattern that is smallest where one key has all.
///
/// # Source
///
/// Liu et al., "Exposing Attention Glitches with Flip-Flop Language Modeling", NeurIPS 2023,
/// arXiv:2306.00946: attention-sharpening regularisers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bluntness {
    /// The entropy `-sum p ln p`, in nats.
    Entropy,
    /// The negative 2-norm, `-sqrt(sum p^2)`.
    NegL2,
    /// The negative largest entry, `-max p`.
    NegLinf,
}

impl Bluntness {
    /// The mean over rows and heads of each member of a cohort, `[n_members]`.
    pub(crate) fn mean<B: Backend, const D: usize>(
        self,
        rows: RowStats<B, D>,
        n_members: usize,
    ) -> Tensor<B, 1> {
        let mean = |stat: Tensor<B, D>| {
            if n_members == 1 {
                return stat.mean();
            }
            let n_each = stat.shape().num_elements() / n_members;
            stat.reshape([n_members, n_each]).mean_dim(1).reshape([n_members])
        };
        match self {
            Self::Entropy => mean(rows.entropy_nats),
            Self::NegL2 => mean(rows.norm).neg(),
            Self::NegLinf => mean(rows.max).neg(),
        }
    }
}

/// How a pass of training differs from the plain one.
///
/// # Randomness
///
/// The dropout called `name` (`embed`, `blocks.0.attn.pattern`, `blocks.0.attn`,
/// `blocks.0.mlp.post`, `blocks.0.mlp`) has the key `streams[0].derive(name).at(step)`, its first 64 bits, and
/// each entry's fate is a function of that and of its example, place and column: see
/// [`Dropout`](mnemoscope_engine::Dropout).
#[derive(Clone, Copy, Debug)]
pub struct Regularisation<'a> {
    /// How much is dropped.
    pub dropout: DropoutRates,
    /// Where the masks come from: one for each member of a [cohort](crate::Model::cohort).
    pub streams: &'a [Stream],
    /// The step of training; each has masks of its own.
    pub step: u64,
    /// What the penalty measures, and in which layers, ascending; `None` computes none.
    pub sharpen: Option<(Bluntness, &'a [usize])>,
    /// Whether the last layer is measured at the asked rows alone, which are all that is computed of it
    /// otherwise.
    pub asked_rows: bool,
}

impl Regularisation<'_> {
    /// The dropout called `name` of a batch, unless its rate is 0.
    pub(crate) fn dropout(&self, rate: f64, name: &str, batch: usize) -> Option<Dropout> {
        let key = |stream: &Stream| stream.derive(name).at(self.step).next_u64();
        (rate > 0.0).then(|| {
            let keys: Vec<u64> = self.streams.iter().map(key).collect();
            Dropout::each(rate, &keys, (batch / keys.len()) as u32)
        })
    }

    /// What is measured of the patterns of `layer`.
    pub(crate) fn measured(&self, layer: usize) -> Option<Bluntness> {
        self.sharpen.filter(|(_, layers)| layers.contains(&layer)).map(|(form, _)| form)
    }
}
