//! The feed-forward half of a block, on each row by itself: up, an activation or a gate, down; or one
//! map.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use mnemoscope_engine::{self as engine, Activation, Gate, Ops};

use super::{Linear, factor_if};
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
    /// `view` gives rows the shape that the hooks of this block see, `drop` sets some of what stands
    /// behind the activation to 0, if anything does.
    pub(crate) fn forward<const D: usize>(
        &self,
        rows: Tensor<B, 2>,
        spec: &TransformerSpec,
        site: &mut Site<'_, B>,
        view: impl Fn(Tensor<B, 2>) -> Tensor<B, D>,
        drop: Option<impl FnOnce(Tensor<B, 2>) -> Tensor<B, 2>>,
    ) -> Tensor<B, 2> {
        let Some(up) = &self.up else { return self.down.apply(rows) };
        let gelu = match spec.gelu {
            Gelu::Erf => engine::Gelu::Erf,
            Gelu::Tanh => engine::Gelu::Tanh,
        };
        let activation = match spec.mlp {
            spec::Mlp::Relu => Activation::Relu,
            spec::Mlp::Geglu => Activation::Gated(Gate::Gelu(gelu)),
            spec::Mlp::Swiglu => Activation::Gated(Gate::Silu),
            spec::Mlp::Gelu | spec::Mlp::Linear | spec::Mlp::None => Activation::Gelu(gelu),
        };
        // The fused layer does not give its product away: who reads it has it computed once more.
        let product = |first| {
            let (weight, bias) = up.columns(first..first + spec.d_mlp);
            view(<B as Ops>::linear(rows.clone(), weight, bias))
        };
        if activation.gated() {
            site.read("hook_pre", || product(spec.d_mlp));
            site.read("hook_pre_linear", || product(0));
        } else {
            site.read("hook_pre", || product(0));
        }
        let factor = drop.is_none() && site.ignores(&["hook_post"]);
        let post = factor_if(factor, || up.apply_act(rows, activation));
        let post = match drop {
            Some(drop) => drop(post),
            None => post,
        };
        site.read("hook_post", || view(post.clone()));
        self.down.apply(post)
    }
}
