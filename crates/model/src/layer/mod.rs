//! The parts that architectures are made of: parameters by name and the arithmetic around them.

mod attention;
mod mlp;
mod relative;
mod sinusoid;

pub(crate) use attention::{
    Attention, Heads, mix_at, pattern_if_watched, scores_at, scores_everywhere,
};
pub(crate) use mlp::Mlp;
pub(crate) use relative::Distances;
pub(crate) use sinusoid::{BASE, line, sinusoids};

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use mnemoscope_engine::{Activation, Ops, QueryRows, as_factor};

use crate::params::Source;

/// A linear map `x weight + bias` of rows, `weight: [d_in, d_out]`.
#[derive(Module, Debug)]
pub(crate) struct Linear<B: Backend> {
    pub(crate) weight: Param<Tensor<B, 2>>,
    pub(crate) bias: Option<Param<Tensor<B, 1>>>,
}

impl<B: Backend> Linear<B> {
    pub(crate) fn from_source(source: &mut Source<'_, B>, name: &str) -> Self {
        Self {
            weight: source.param(&format!("{name}.weight")),
            bias: source.optional(&format!("{name}.bias")),
        }
    }

    /// The map of that name, if the model has one.
    pub(crate) fn optional(source: &mut Source<'_, B>, name: &str) -> Option<Self> {
        source.has(&format!("{name}.weight")).then(|| Self::from_source(source, name))
    }

    /// The columns `columns` of the map alone.
    pub(crate) fn columns(
        &self,
        columns: std::ops::Range<usize>,
    ) -> (Tensor<B, 2>, Option<Tensor<B, 1>>) {
        let weight = self.weight.val();
        let [d_in, d_out] = weight.dims();
        let bias = self.bias.as_ref().map(|bias| {
            // Of a cohort each member has a bias of its own.
            let n_members = bias.dims()[0] / d_out;
            let bias = bias.val().reshape([n_members, d_out]);
            bias.slice([0..n_members, columns.clone()]).reshape([n_members * columns.len()])
        });
        (weight.slice([0..d_in, columns]), bias)
    }
}

impl<B: Ops> Linear<B> {
    /// `x: [rows, d_in]` -> `[rows, d_out]`
    pub(crate) fn apply(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        <B as Ops>::linear(x, self.weight.val(), self.bias.as_ref().map(Param::val))
    }

    /// [`apply`](Self::apply) and an activation, in one pass.
    pub(crate) fn apply_act(&self, x: Tensor<B, 2>, act: Activation) -> Tensor<B, 2> {
        <B as Ops>::linear_act(x, self.weight.val(), self.bias.as_ref().map(Param::val), act)
    }
}

/// What an operation gives; [as a factor](as_factor), if it will only ever be one.
pub(crate) fn factor_if<T>(factor: bool, operation: impl FnOnce() -> T) -> T {
    if factor { as_factor(operation) } else { operation() }
}

/// Normalisation of each row to mean 0 and variance 1, then a gain and a bias.
#[derive(Module, Debug)]
pub(crate) struct LayerNorm<B: Backend> {
    gain: Param<Tensor<B, 1>>,
    bias: Param<Tensor<B, 1>>,
}

impl<B: Backend> LayerNorm<B> {
    pub(crate) fn from_source(source: &mut Source<'_, B>, name: &str) -> Self {
        Self {
            gain: source.param(&format!("{name}.gain")),
            bias: source.param(&format!("{name}.bias")),
        }
    }

    /// The norm of that name, if the model has one.
    pub(crate) fn optional(source: &mut Source<'_, B>, name: &str) -> Option<Self> {
        source.has(&format!("{name}.gain")).then(|| Self::from_source(source, name))
    }
}

impl<B: Ops> LayerNorm<B> {
    /// `x: [rows, d]` -> `[rows, d]`
    pub(crate) fn apply(&self, x: Tensor<B, 2>, epsilon: f64) -> Tensor<B, 2> {
        <B as Ops>::layer_norm(x, self.gain.val(), self.bias.val(), epsilon)
    }
}

/// A vector for each of `n` things: the embedding, learned positions, or buckets of distances.
#[derive(Module, Debug)]
pub(crate) struct Table<B: Backend> {
    pub(crate) weight: Param<Tensor<B, 2>>,
}

impl<B: Backend> Table<B> {
    pub(crate) fn from_source(source: &mut Source<'_, B>, name: &str) -> Self {
        Self { weight: source.param(&format!("{name}.weight")) }
    }

    /// The table of that name, if the model has one.
    pub(crate) fn optional(source: &mut Source<'_, B>, name: &str) -> Option<Self> {
        source.has(&format!("{name}.weight")).then(|| Self::from_source(source, name))
    }
}

impl<B: Ops> Table<B> {
    /// Rows of the table, one a token; of a cohort each member looks up in its own.
    ///
    /// `tokens: [batch, pos]` -> `[batch, pos, d]`
    pub(crate) fn look_up(
        table: Tensor<B, 2>,
        tokens: Tensor<B, 2, Int>,
        n_members: usize,
    ) -> Tensor<B, 3> {
        if n_members == 1 {
            return <B as Ops>::embed(table, tokens);
        }
        <B as Ops>::embed_each(table, tokens, n_members)
    }
}

/// The map from the residual stream to logits; without a weight it is the embedding's transpose.
#[derive(Module, Debug)]
pub(crate) struct Unembed<B: Backend> {
    weight: Option<Param<Tensor<B, 2>>>,
    bias: Option<Param<Tensor<B, 1>>>,
}

impl<B: Backend> Unembed<B> {
    pub(crate) fn from_source(source: &mut Source<'_, B>) -> Self {
        Self { weight: source.optional("unembed.weight"), bias: source.optional("unembed.bias") }
    }
}

impl<B: Ops> Unembed<B> {
    /// `x: [rows, d_model]`, of `n_members` of a cohort -> `[rows, d_vocab]`
    pub(crate) fn apply(
        &self,
        x: Tensor<B, 2>,
        embed: &Table<B>,
        n_members: usize,
    ) -> Tensor<B, 2> {
        let weight = match &self.weight {
            Some(weight) => weight.val(),
            None => {
                let [n_rows, d] = embed.weight.dims();
                let tables = embed.weight.val().reshape([n_members, n_rows / n_members, d]);
                tables.swap_dims(1, 2).reshape([n_members * d, n_rows / n_members])
            }
        };
        <B as Ops>::linear(x, weight, self.bias.as_ref().map(Param::val))
    }
}

/// `[batch, pos, d]` -> `[batch * pos, d]`
pub(crate) fn to_rows<B: Backend>(x: Tensor<B, 3>) -> Tensor<B, 2> {
    let [batch, pos, d] = x.dims();
    x.reshape([batch * pos, d])
}

/// `[batch * pos, d]` -> `[batch, pos, d]`
pub(crate) fn from_rows<B: Backend>(rows: Tensor<B, 2>, n_pos: usize) -> Tensor<B, 3> {
    let [n_rows, d] = rows.dims();
    rows.reshape([n_rows / n_pos, n_pos, d])
}

/// The asked rows: `[batch, pos, d]` -> `[n_queries, d]`
pub(crate) fn select_rows<B: Ops>(x: Tensor<B, 3>, queries: &QueryRows) -> Tensor<B, 2> {
    let [batch, n_pos, _] = x.dims();
    let rows = to_rows(x);
    if queries.len() == batch * n_pos { rows } else { B::select_rows(rows, queries) }
}
