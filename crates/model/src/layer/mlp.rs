//! The feed-forward half of a block: up, GELU, down, on each row by itself.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use mnemoscope_engine::{self as engine, Activation, Ops};

use super::Linear;
use crate::hook::Site;
use crate::params::Source;
use crate::spec::Gelu;

#[derive(Module, Debug)]
pub(crate) struct Mlp<B: Backend> {
    up: Linear<B>,
    down: Linear<B>,
}

impl<B: Backend> Mlp<B> {
    pub(crate) fn from_source(source: &mut Source<'_, B>, name: &str) -> Self {
        Self {
            up: Linear::from_source(source, &format!("{name}.up")),
            down: Linear::from_source(source, &format!("{name}.down")),
        }
    }
}

impl<B: Ops> Mlp<B> {
    /// `rows: [rows, d_model]` -> `[rows, d_model]`
    ///
    /// `view` gives rows the shape that the hooks of this block see.
    pub(crate) fn forward<const D: usize>(
        &self,
        rows: Tensor<B, 2>,
        gelu: Gelu,
        site: &mut Site<'_, B>,
        view: impl Fn(Tensor<B, 2>) -> Tensor<B, D>,
    ) -> Tensor<B, 2> {
        let form = match gelu {
            Gelu::Erf => engine::Gelu::Erf,
            Gelu::Tanh => engine::Gelu::Tanh,
        };
        // The fused layer does not give its product away: who reads it has it computed once more.
        site.read("hook_pre", || view(self.up.apply(rows.clone())));
        let post = self.up.apply_act(rows, Activation::Gelu(form));
        site.read("hook_post", || view(post.clone()));
        self.down.apply(post)
    }
}
