//! Training: [`Ops`] for [`Autodiff`] over any backend, with the backward passes of that backend.
//!
//! Each operation is one node of Burn's graph. Its state is what [`Ops`] of the inner backend needs
//! for the backward pass; an operation none of whose inputs wants a gradient keeps nothing. Over a
//! backend without backward passes of its own, the references are composed and Burn derives them.

use std::marker::PhantomData;

use burn::{
    backend::Autodiff,
    tensor::{Int, Tensor, TensorPrimitive, backend::Backend},
};
use burn_autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops as Node, OpsKind},
};

use crate::{Activation, Attend, Dropout, Gelu, Ops, QueryRows, Rotary, Saved, reference};

type Primitive<B> = <B as burn::tensor::backend::BackendTypes>::FloatTensorPrimitive;
type IntPrimitive<B> = <B as burn::tensor::backend::BackendTypes>::IntTensorPrimitive;

/// A float tensor of a plain backend.
fn float<B: Backend, const D: usize>(primitive: Primitive<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// The primitive of a float tensor.
fn raw<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Primitive<B> {
    tensor.into_primitive().tensor()
}

/// The backward pass of one operation with `N` inputs, as plain tensors.
trait Pull<B: Ops, const N: usize>: std::fmt::Debug + Send + Sync + Clone + 'static {
    /// Gradients of the inputs, in order, from the gradient of the output; those that nobody wants
    /// may be left out.
    fn pull(self, d_y: Primitive<B>, wanted: [bool; N]) -> [Option<Primitive<B>>; N];
}

/// The one node all operations share: it only hands gradients over.
#[derive(Debug)]
struct Fused<P>(PhantomData<P>);

impl<P> Fused<P> {
    fn new() -> Self {
        Self(PhantomData)
    }
}

impl<B: Ops, P: Pull<B, N>, const N: usize> Backward<B, N> for Fused<P> {
    type State = P;

    fn backward(self, node: Node<P, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_y = grads.consume::<B>(&node.node);
        let wanted = node.parents.each_ref().map(Option::is_some);
        let pulled = node.state.pull(d_y, wanted);
        for (parent, grad) in node.parents.into_iter().zip(pulled) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, grad.expect("a wanted gradient is computed"));
            }
        }
    }
}

/// Registers an operation: `run(true)` also returns the state of its backward pass.
macro_rules! register {
    ($backend:ty, $state:ty, $strategy:ty, [$($parent:ident),+], tracked $tracked:expr, untracked $untracked:expr) => {
        match <Fused<$state> as Backward<$backend, { [$(stringify!($parent)),+].len() }>>::prepare::<$strategy>(
            Fused::<$state>::new(),
            [$($parent.node.clone()),+],
        )
        .compute_bound()
        .stateful()
        {
            OpsKind::Tracked(prep) => {
                let (y, state) = $tracked;
                float_tracked(prep.finish(state, y))
            }
            OpsKind::UnTracked(prep) => float_tracked(prep.finish($untracked)),
        }
    };
}

/// A float tensor of the graph.
fn float_tracked<B: Backend, C: CheckpointStrategy, const D: usize>(
    primitive: Primitive<Autodiff<B, C>>,
) -> Tensor<Autodiff<B, C>, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

#[derive(Clone, Debug)]
struct Embed<B: Backend> {
    tokens: IntPrimitive<B>,
    d_vocab: usize,
}

impl<B: Ops> Pull<B, 1> for Embed<B> {
    fn pull(self, d_y: Primitive<B>, _: [bool; 1]) -> [Option<Primitive<B>>; 1] {
        let tokens = Tensor::from_primitive(self.tokens);
        [Some(raw(B::embed_backward(tokens, self.d_vocab, float(d_y))))]
    }
}

#[derive(Clone, Debug)]
struct EmbedAt<B: Backend> {
    table: Embed<B>,
    n_ctx: usize,
    scale: f64,
}

impl<B: Ops> Pull<B, 2> for EmbedAt<B> {
    fn pull(self, d_y: Primitive<B>, wanted: [bool; 2]) -> [Option<Primitive<B>>; 2] {
        let d_places = wanted[1]
            .then(|| raw(B::embed_at_backward(self.n_ctx, self.scale, float(d_y.clone()))));
        let [d_table] = if wanted[0] { self.table.pull(d_y, [true]) } else { [None] };
        [d_table, d_places]
    }
}

#[derive(Clone, Debug)]
struct Add;

impl<B: Ops> Pull<B, 2> for Add {
    fn pull(self, d_y: Primitive<B>, wanted: [bool; 2]) -> [Option<Primitive<B>>; 2] {
        wanted.map(|wanted| wanted.then(|| d_y.clone()))
    }
}

#[derive(Clone, Debug)]
struct Linear<B: Backend> {
    x: Primitive<B>,
    weight: Primitive<B>,
}

impl<B: Ops> Pull<B, 2> for Linear<B> {
    fn pull(self, d_y: Primitive<B>, wanted: [bool; 2]) -> [Option<Primitive<B>>; 2] {
        let [x, weight] = wanted;
        let wanted = [x, weight, false];
        let (d_x, d_weight, _) =
            B::linear_backward(float(self.x), float(self.weight), wanted, float(d_y));
        [d_x.map(raw), d_weight.map(raw)]
    }
}

impl<B: Ops> Pull<B, 3> for Linear<B> {
    fn pull(self, d_y: Primitive<B>, wanted: [bool; 3]) -> [Option<Primitive<B>>; 3] {
        let (d_x, d_weight, d_bias) =
            B::linear_backward(float(self.x), float(self.weight), wanted, float(d_y));
        [d_x.map(raw), d_weight.map(raw), d_bias.map(raw)]
    }
}

#[derive(Clone, Debug)]
struct LinearAct<B: Backend> {
    saved: Saved<B>,
    act: Activation,
}

impl<B: Ops> Pull<B, 2> for LinearAct<B> {
    fn pull(self, d_y: Primitive<B>, [x, weight]: [bool; 2]) -> [Option<Primitive<B>>; 2] {
        let wanted = [x, weight, false];
        let (d_x, d_weight, _) = B::linear_act_backward(self.saved, self.act, wanted, float(d_y));
        [d_x.map(raw), d_weight.map(raw)]
    }
}

impl<B: Ops> Pull<B, 3> for LinearAct<B> {
    fn pull(self, d_y: Primitive<B>, wanted: [bool; 3]) -> [Option<Primitive<B>>; 3] {
        let (d_x, d_weight, d_bias) =
            B::linear_act_backward(self.saved, self.act, wanted, float(d_y));
        [d_x.map(raw), d_weight.map(raw), d_bias.map(raw)]
    }
}

#[derive(Clone, Debug)]
struct LayerNorm<B: Backend> {
    x: Primitive<B>,
    gain: Primitive<B>,
    epsilon: f64,
}

impl<B: Ops> Pull<B, 3> for LayerNorm<B> {
    fn pull(self, d_y: Primitive<B>, _: [bool; 3]) -> [Option<Primitive<B>>; 3] {
        let (d_x, d_gain, d_bias) =
            B::layer_norm_backward(float(self.x), float(self.gain), self.epsilon, float(d_y));
        [Some(raw(d_x)), Some(raw(d_gain)), Some(raw(d_bias))]
    }
}

#[derive(Clone, Debug)]
struct RmsNorm<B: Backend> {
    x: Primitive<B>,
    gain: Primitive<B>,
    epsilon: f64,
}

impl<B: Ops> Pull<B, 2> for RmsNorm<B> {
    fn pull(self, d_y: Primitive<B>, _: [bool; 2]) -> [Option<Primitive<B>>; 2] {
        let (d_x, d_gain) =
            B::rms_norm_backward(float(self.x), float(self.gain), self.epsilon, float(d_y));
        [Some(raw(d_x)), Some(raw(d_gain))]
    }
}

#[derive(Clone, Debug)]
struct GeluOf<B: Backend> {
    x: Primitive<B>,
    form: Gelu,
}

impl<B: Ops> Pull<B, 1> for GeluOf<B> {
    fn pull(self, d_y: Primitive<B>, _: [bool; 1]) -> [Option<Primitive<B>>; 1] {
        [Some(raw(<B as Ops>::gelu_backward(float(self.x), self.form, float(d_y))))]
    }
}

#[derive(Clone, Debug)]
struct CausalAttention<B: Backend> {
    saved: Saved<B>,
    attend: Attend,
}

impl<B: Ops> Pull<B, 1> for CausalAttention<B> {
    fn pull(self, d_y: Primitive<B>, _: [bool; 1]) -> [Option<Primitive<B>>; 1] {
        let (d_qkv, _) = B::causal_attention_backward(self.saved, &self.attend, float(d_y));
        [Some(raw(d_qkv))]
    }
}

impl<B: Ops> Pull<B, 2> for CausalAttention<B> {
    fn pull(self, d_y: Primitive<B>, _: [bool; 2]) -> [Option<Primitive<B>>; 2] {
        let (d_qkv, d_bias) = B::causal_attention_backward(self.saved, &self.attend, float(d_y));
        [Some(raw(d_qkv)), d_bias.map(raw)]
    }
}

#[derive(Clone, Debug)]
struct CausalAttentionAt<B: Backend> {
    saved: Saved<B>,
    rows: QueryRows,
    attend: Attend,
}

impl<B: Ops> Pull<B, 2> for CausalAttentionAt<B> {
    fn pull(self, d_y: Primitive<B>, _: [bool; 2]) -> [Option<Primitive<B>>; 2] {
        let Self { saved, rows, attend } = self;
        let (d_q, d_kv, _) = B::causal_attention_at_backward(saved, &rows, &attend, float(d_y));
        [Some(raw(d_q)), Some(raw(d_kv))]
    }
}

impl<B: Ops> Pull<B, 3> for CausalAttentionAt<B> {
    fn pull(self, d_y: Primitive<B>, _: [bool; 3]) -> [Option<Primitive<B>>; 3] {
        let Self { saved, rows, attend } = self;
        let (d_q, d_kv, d_bias) =
            B::causal_attention_at_backward(saved, &rows, &attend, float(d_y));
        [Some(raw(d_q)), Some(raw(d_kv)), d_bias.map(raw)]
    }
}

#[derive(Clone, Debug)]
struct CausalAttentionOf<B: Backend> {
    saved: Saved<B>,
    attend: Attend,
}

impl<B: Ops> Pull<B, 3> for CausalAttentionOf<B> {
    fn pull(self, d_y: Primitive<B>, wanted: [bool; 3]) -> [Option<Primitive<B>>; 3] {
        let grads = B::causal_attention_of_backward(self.saved, &self.attend, wanted, float(d_y));
        grads.map(|grad| grad.map(raw))
    }
}

#[derive(Clone, Debug)]
struct CausalAttentionOfAt<B: Backend> {
    saved: Saved<B>,
    rows: QueryRows,
    attend: Attend,
}

impl<B: Ops> Pull<B, 3> for CausalAttentionOfAt<B> {
    fn pull(self, d_y: Primitive<B>, wanted: [bool; 3]) -> [Option<Primitive<B>>; 3] {
        let Self { saved, rows, attend } = self;
        let (d_q, [d_k, d_v]) =
            B::causal_attention_of_at_backward(saved, &rows, &attend, wanted, float(d_y));
        [d_q.map(raw), d_k.map(raw), d_v.map(raw)]
    }
}

#[derive(Clone, Debug)]
struct CausalAttentionLookedUp<B: Backend> {
    saved: Saved<B>,
    tokens: IntPrimitive<B>,
    d_vocab: usize,
    attend: Attend,
}

impl<B: Ops> Pull<B, 2> for CausalAttentionLookedUp<B> {
    fn pull(self, d_y: Primitive<B>, wanted: [bool; 2]) -> [Option<Primitive<B>>; 2] {
        let Self { saved, tokens, d_vocab, attend } = self;
        let (tokens, d_y) = (Tensor::from_primitive(tokens), float(d_y));
        let (d_scores, d_values) =
            B::causal_attention_looked_up_backward(saved, tokens, d_vocab, &attend, wanted, d_y);
        [d_scores.map(raw), d_values.map(raw)]
    }
}

#[derive(Clone, Debug)]
struct Turned<B: Backend> {
    n_turned: usize,
    rows: QueryRows,
    rotary: Rotary,
    backend: PhantomData<B>,
}

impl<B: Ops> Pull<B, 1> for Turned<B> {
    fn pull(self, d_y: Primitive<B>, _: [bool; 1]) -> [Option<Primitive<B>>; 1] {
        [Some(raw(B::rotary_backward(self.n_turned, &self.rows, &self.rotary, float(d_y))))]
    }
}

#[derive(Clone, Debug)]
struct Dropped<B: Backend> {
    rows: QueryRows,
    dropout: Dropout,
    backend: PhantomData<B>,
}

impl<B: Ops> Pull<B, 1> for Dropped<B> {
    fn pull(self, d_y: Primitive<B>, _: [bool; 1]) -> [Option<Primitive<B>>; 1] {
        [Some(raw(<B as Ops>::dropout(float(d_y), &self.rows, &self.dropout)))]
    }
}

#[derive(Clone, Debug)]
struct Lstm<B: Backend> {
    saved: Saved<B>,
}

impl<B: Ops> Pull<B, 2> for Lstm<B> {
    fn pull(self, d_h: Primitive<B>, _: [bool; 2]) -> [Option<Primitive<B>>; 2] {
        let (d_gates_in, d_w_hh) = B::lstm_backward(self.saved, float(d_h));
        [Some(raw(d_gates_in)), Some(raw(d_w_hh))]
    }
}

#[derive(Clone, Debug)]
struct CrossEntropy<B: Backend> {
    logits: Primitive<B>,
    targets: IntPrimitive<B>,
}

impl<B: Ops> Pull<B, 1> for CrossEntropy<B> {
    fn pull(self, d_loss: Primitive<B>, _: [bool; 1]) -> [Option<Primitive<B>>; 1] {
        let targets = Tensor::from_primitive(self.targets);
        [Some(raw(B::cross_entropy_backward(float(self.logits), targets, float(d_loss))))]
    }
}

impl<B: Ops, C: CheckpointStrategy> Ops for Autodiff<B, C> {
    fn embed(table: Tensor<Self, 2>, tokens: Tensor<Self, 2, Int>) -> Tensor<Self, 3> {
        if !B::FUSED {
            return reference::embed(table, tokens);
        }
        let [d_vocab, _] = table.dims();
        let (table, tokens) = (raw(table), tokens.into_primitive());
        let run = |table| raw(B::embed(float(table), Tensor::from_primitive(tokens.clone())));
        register!(B, Embed<B>, C, [table],
            tracked (run(table.primitive), Embed { tokens, d_vocab }),
            untracked run(table.primitive))
    }

    fn embed_at(
        table: Tensor<Self, 2>,
        places: Tensor<Self, 2>,
        scale: f64,
        tokens: Tensor<Self, 2, Int>,
    ) -> Tensor<Self, 3> {
        if !B::FUSED {
            return reference::embed_at(table, places, scale, tokens);
        }
        let ([d_vocab, _], [n_ctx, _]) = (table.dims(), places.dims());
        let (table, places, tokens) = (raw(table), raw(places), tokens.into_primitive());
        let run = |table, places| {
            let tokens = Tensor::from_primitive(tokens.clone());
            raw(B::embed_at(float(table), float(places), scale, tokens))
        };
        register!(B, EmbedAt<B>, C, [table, places],
            tracked {
                let y = run(table.primitive, places.primitive);
                (y, EmbedAt { table: Embed { tokens, d_vocab }, n_ctx, scale })
            },
            untracked run(table.primitive, places.primitive))
    }

    fn add<const D: usize>(x: Tensor<Self, D>, y: Tensor<Self, D>) -> Tensor<Self, D> {
        if !B::FUSED {
            return reference::add(x, y);
        }
        let (x, y) = (raw(x), raw(y));
        let run = |x, y| raw(<B as Ops>::add(float::<B, D>(x), float(y)));
        register!(B, Add, C, [x, y],
            tracked (run(x.primitive, y.primitive), Add),
            untracked run(x.primitive, y.primitive))
    }

    fn linear(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 2> {
        if !B::FUSED {
            return reference::linear(x, weight, bias);
        }
        let (x, weight) = (raw(x), raw(weight));
        let state = || Linear::<B> { x: x.primitive.clone(), weight: weight.primitive.clone() };
        let run = |bias: Option<Primitive<B>>| {
            let (x, weight) = (x.primitive.clone(), weight.primitive.clone());
            raw(<B as Ops>::linear(float(x), float(weight), bias.map(float)))
        };
        match bias.map(raw) {
            None => register!(B, Linear<B>, C, [x, weight],
                tracked (run(None), state()),
                untracked run(None)),
            Some(bias) => register!(B, Linear<B>, C, [x, weight, bias],
                tracked (run(Some(bias.primitive)), state()),
                untracked run(Some(bias.primitive))),
        }
    }

    fn linear_act(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
        act: Activation,
    ) -> Tensor<Self, 2> {
        if !B::FUSED {
            return reference::linear_act(x, weight, bias, act);
        }
        let (x, weight) = (raw(x), raw(weight));
        let operands = || (float(x.primitive.clone()), float(weight.primitive.clone()));
        let run = |bias: Option<Primitive<B>>| {
            let (x, weight) = operands();
            raw(B::linear_act(x, weight, bias.map(float), act))
        };
        let run_saved = |bias: Option<Primitive<B>>| {
            let (x, weight) = operands();
            let (y, saved) = B::linear_act_saved(x, weight, bias.map(float), act);
            (raw(y), LinearAct { saved, act })
        };
        match bias.map(raw) {
            None => register!(B, LinearAct<B>, C, [x, weight],
                tracked run_saved(None),
                untracked run(None)),
            Some(bias) => register!(B, LinearAct<B>, C, [x, weight, bias],
                tracked run_saved(Some(bias.primitive)),
                untracked run(Some(bias.primitive))),
        }
    }

    fn layer_norm(
        x: Tensor<Self, 2>,
        gain: Tensor<Self, 1>,
        bias: Tensor<Self, 1>,
        epsilon: f64,
    ) -> Tensor<Self, 2> {
        if !B::FUSED {
            return reference::layer_norm(x, gain, bias, epsilon);
        }
        let (x, gain, bias) = (raw(x), raw(gain), raw(bias));
        let run = |x, gain, bias| {
            raw(<B as Ops>::layer_norm(float(x), float(gain), float(bias), epsilon))
        };
        register!(B, LayerNorm<B>, C, [x, gain, bias],
            tracked (
                run(x.primitive.clone(), gain.primitive.clone(), bias.primitive),
                LayerNorm { x: x.primitive, gain: gain.primitive, epsilon }
            ),
            untracked run(x.primitive, gain.primitive, bias.primitive))
    }

    fn rms_norm(x: Tensor<Self, 2>, gain: Tensor<Self, 1>, epsilon: f64) -> Tensor<Self, 2> {
        if !B::FUSED {
            return reference::rms_norm(x, gain, epsilon);
        }
        let (x, gain) = (raw(x), raw(gain));
        let run = |x, gain| raw(<B as Ops>::rms_norm(float(x), float(gain), epsilon));
        register!(B, RmsNorm<B>, C, [x, gain],
            tracked (
                run(x.primitive.clone(), gain.primitive.clone()),
                RmsNorm { x: x.primitive, gain: gain.primitive, epsilon }
            ),
            untracked run(x.primitive, gain.primitive))
    }

    fn gelu(x: Tensor<Self, 2>, form: Gelu) -> Tensor<Self, 2> {
        if !B::FUSED {
            return reference::gelu(x, form);
        }
        let x = raw(x);
        let run = |x| raw(<B as Ops>::gelu(float(x), form));
        register!(B, GeluOf<B>, C, [x],
            tracked (run(x.primitive.clone()), GeluOf { x: x.primitive, form }),
            untracked run(x.primitive))
    }

    fn causal_attention(
        qkv: Tensor<Self, 3>,
        bias: Option<Tensor<Self, 2>>,
        attend: &Attend,
    ) -> Tensor<Self, 3> {
        if !B::FUSED {
            return reference::causal_attention(qkv, bias, attend);
        }
        let qkv = raw(qkv);
        let run = |bias: Option<Primitive<B>>| {
            raw(B::causal_attention(float(qkv.primitive.clone()), bias.map(float), attend))
        };
        let run_saved = |bias: Option<Primitive<B>>| {
            let qkv = float(qkv.primitive.clone());
            let (y, saved) = B::causal_attention_saved(qkv, bias.map(float), attend);
            (raw(y), CausalAttention { saved, attend: *attend })
        };
        match bias.map(raw) {
            None => register!(B, CausalAttention<B>, C, [qkv],
                tracked run_saved(None),
                untracked run(None)),
            Some(bias) => register!(B, CausalAttention<B>, C, [qkv, bias],
                tracked run_saved(Some(bias.primitive)),
                untracked run(Some(bias.primitive))),
        }
    }

    fn causal_attention_at(
        q: Tensor<Self, 2>,
        kv: Tensor<Self, 3>,
        bias: Option<Tensor<Self, 2>>,
        rows: &QueryRows,
        attend: &Attend,
    ) -> Tensor<Self, 2> {
        if !B::FUSED {
            return reference::causal_attention_at(q, kv, bias, rows, attend);
        }
        let (q, kv) = (raw(q), raw(kv));
        let run = |bias: Option<Primitive<B>>| {
            let (q, kv) = (float(q.primitive.clone()), float(kv.primitive.clone()));
            raw(B::causal_attention_at(q, kv, bias.map(float), rows, attend))
        };
        let run_saved = |bias: Option<Primitive<B>>| {
            let (q, kv) = (float(q.primitive.clone()), float(kv.primitive.clone()));
            let (y, saved) = B::causal_attention_at_saved(q, kv, bias.map(float), rows, attend);
            (raw(y), CausalAttentionAt { saved, rows: rows.clone(), attend: *attend })
        };
        match bias.map(raw) {
            None => register!(B, CausalAttentionAt<B>, C, [q, kv],
                tracked run_saved(None),
                untracked run(None)),
            Some(bias) => register!(B, CausalAttentionAt<B>, C, [q, kv, bias],
                tracked run_saved(Some(bias.primitive)),
                untracked run(Some(bias.primitive))),
        }
    }

    fn causal_attention_of(
        q: Tensor<Self, 3>,
        k: Tensor<Self, 3>,
        v: Tensor<Self, 3>,
        attend: &Attend,
    ) -> Tensor<Self, 3> {
        if !B::FUSED {
            return reference::causal_attention_of(q, k, v, attend);
        }
        let (q, k, v) = (raw(q), raw(k), raw(v));
        register!(B, CausalAttentionOf<B>, C, [q, k, v],
        tracked {
            let (q, k, v) = (float(q.primitive), float(k.primitive), float(v.primitive));
            let (y, saved) = B::causal_attention_of_saved(q, k, v, attend);
            (raw(y), CausalAttentionOf { saved, attend: *attend })
        },
        untracked {
            let (q, k, v) = (float(q.primitive), float(k.primitive), float(v.primitive));
            raw(B::causal_attention_of(q, k, v, attend))
        })
    }

    fn causal_attention_of_at(
        q: Tensor<Self, 2>,
        k: Tensor<Self, 3>,
        v: Tensor<Self, 3>,
        rows: &QueryRows,
        attend: &Attend,
    ) -> Tensor<Self, 2> {
        if !B::FUSED {
            return reference::causal_attention_of_at(q, k, v, rows, attend);
        }
        let (q, k, v) = (raw(q), raw(k), raw(v));
        register!(B, CausalAttentionOfAt<B>, C, [q, k, v],
        tracked {
            let (q, k, v) = (float(q.primitive), float(k.primitive), float(v.primitive));
            let (y, saved) = B::causal_attention_of_at_saved(q, k, v, rows, attend);
            (raw(y), CausalAttentionOfAt { saved, rows: rows.clone(), attend: *attend })
        },
        untracked {
            let (q, k, v) = (float(q.primitive), float(k.primitive), float(v.primitive));
            raw(B::causal_attention_of_at(q, k, v, rows, attend))
        })
    }

    fn causal_attention_looked_up(
        tokens: Tensor<Self, 2, Int>,
        scores: Tensor<Self, 2>,
        d_vocab: usize,
        values: Tensor<Self, 3>,
        attend: &Attend,
    ) -> Tensor<Self, 3> {
        if !B::FUSED {
            return reference::causal_attention_looked_up(tokens, scores, d_vocab, values, attend);
        }
        let (scores, values, tokens) = (raw(scores), raw(values), tokens.into_primitive());
        let held = || Tensor::from_primitive(tokens.clone());
        register!(B, CausalAttentionLookedUp<B>, C, [scores, values],
        tracked {
            let (scores, values) = (float(scores.primitive), float(values.primitive));
            let (y, saved) =
                B::causal_attention_looked_up_saved(held(), scores, d_vocab, values, attend);
            (raw(y), CausalAttentionLookedUp { saved, tokens, d_vocab, attend: *attend })
        },
        untracked {
            let (scores, values) = (float(scores.primitive), float(values.primitive));
            raw(B::causal_attention_looked_up(held(), scores, d_vocab, values, attend))
        })
    }

    fn rotary(
        x: Tensor<Self, 2>,
        n_turned: usize,
        rows: &QueryRows,
        rotary: &Rotary,
    ) -> Tensor<Self, 2> {
        if !B::FUSED {
            return reference::rotary(x, n_turned, rows, rotary);
        }
        let x = raw(x);
        let run = |x| raw(B::rotary(float(x), n_turned, rows, rotary));
        register!(B, Turned<B>, C, [x],
            tracked {
                let (rows, rotary) = (rows.clone(), rotary.clone());
                (run(x.primitive), Turned { n_turned, rows, rotary, backend: PhantomData })
            },
            untracked run(x.primitive))
    }

    fn dropout(x: Tensor<Self, 2>, rows: &QueryRows, dropout: &Dropout) -> Tensor<Self, 2> {
        if !B::FUSED {
            return reference::dropout(x, rows, dropout);
        }
        let x = raw(x);
        let run = |x| raw(<B as Ops>::dropout(float(x), rows, dropout));
        register!(B, Dropped<B>, C, [x],
            tracked {
                let (rows, dropout) = (rows.clone(), *dropout);
                (run(x.primitive), Dropped { rows, dropout, backend: PhantomData })
            },
            untracked run(x.primitive))
    }

    fn lstm(gates_in: Tensor<Self, 3>, w_hh: Tensor<Self, 2>) -> Tensor<Self, 3> {
        if !B::FUSED {
            return reference::lstm(gates_in, w_hh);
        }
        let (gates_in, w_hh) = (raw(gates_in), raw(w_hh));
        register!(B, Lstm<B>, C, [gates_in, w_hh],
            tracked {
                let (h, saved) = B::lstm_saved(float(gates_in.primitive), float(w_hh.primitive));
                (raw(h), Lstm { saved })
            },
            untracked raw(B::lstm(float(gates_in.primitive), float(w_hh.primitive))))
    }

    fn cross_entropy(logits: Tensor<Self, 2>, targets: Tensor<Self, 1, Int>) -> Tensor<Self, 1> {
        if !B::FUSED {
            return reference::cross_entropy(logits, targets);
        }
        let (logits, targets) = (raw(logits), targets.into_primitive());
        let run =
            |logits| raw(B::cross_entropy(float(logits), Tensor::from_primitive(targets.clone())));
        register!(B, CrossEntropy<B>, C, [logits],
            tracked (
                run(logits.primitive.clone()),
                CrossEntropy { logits: logits.primitive, targets }
            ),
            untracked run(logits.primitive))
    }
}
