//! The feed-forward half of a block, on each row by itself: up, an activation, down; or one map.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use mnemoscope_engine::{self as engine, Activation, Ops};

use super::Linear;
use crate::hook::Site;
use crate::params::Source;
use crate::spec::{self, Gelu, TransformerSpec};

#[derive(Module, Debug)]
pub(crate) struct Mlp<B: Backend> {
    /// None in a linear MLP, which is one map.
    up: Option<Linear<B>>,
    down: Linear<B>,
}

impl<B: Backend> Mlp<B> {
    /// The MLP of that name, if the block has one.
    pub(crate) fn optional(source: &mut Source<'_, B>, name: &str) -> Option<Self> {
        let (up, down) = (format!("{name}.up"), format!("{name}.down"));
        let has = |source: &Source<'_, B>, map: &str| source.has(&format!("{map}.weight"));
        if !has(source, &down) {
            return None;
        }
        let up = has(source, &up).then(|| Linear::from_source(source, &up));
        Some(Self { up, down: Linear::from_source(source, &down) })
    }
}

impl<B: Ops> Mlp<B> {
    /// `rows: [rows, d_model]` -> `[rows, d_model]`
    ///
    /// `view` gives rows the shape that the hooks of this block see.
    pub(crate) fn forward<const D: usize>(
        &self,
        rows: Tensor<B, 2>,
        spec: &TransformerSpec,
        site: &mut Site<'_, B>,
        view: impl Fn(Tensor<B, 2>) -> Tensor<B, D>,
    ) -> Tensor<B, 2> {
        let Some(up) = &self.up else { return self.down.apply(rows) };
        let activation = match (spec.mlp, spec.gelu) {
            (spec::Mlp::Relu, _) => Activation::Relu,
            (_, Gelu::Erf) => Activation::Gelu(engine::Gelu::Erf),
            (_, Gelu::Tanh) => Activation::Gelu(engine::Gelu::Tanh),
        };
        // The fused layer does not give its product away: who reads it has it computed once more.
        site.read("hook_pre", || view(up.apply(rows.clone())));
        let post = up.apply_act(rows, activation);
        site.read("hook_post", || view(post.clone()));
        self.down.apply(post)
    }
}
