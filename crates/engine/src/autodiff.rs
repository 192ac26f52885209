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

use crate::{Activation, Attend, Dropout, Gelu, Ops, QueryRows, Rotary, cohort, reference};

mod pull;

use pull::{
    Add, CausalAttention, CausalAttentionAt, CausalAttentionLookedUp, CausalAttentionOf,
    CausalAttentionOfAt, CrossEntropy, Dropped, Embed, EmbedAt, EmbedEach, GeluOf, LayerNorm,
    Linear, LinearAct, Lstm, RmsNorm, Selected, Turned, WeightedLosses,
};

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

/// How many members a cohort has that is computed one after the other: 1, if the backend takes it as a whole.
#[track_caller]
fn apart<B: Ops>(what: &str, n: usize, n_each: usize) -> usize {
    if B::FUSED && B::COHORTS { 1 } else { cohort::members(what, n, n_each) }
}

impl<B: Ops, C: CheckpointStrategy> Ops for Autodiff<B, C> {
    const COHORTS: bool = true;
    const COMPILES: bool = B::COMPILES;

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

    fn embed_each(
        table: Tensor<Self, 2>,
        tokens: Tensor<Self, 2, Int>,
        n_members: usize,
    ) -> Tensor<Self, 3> {
        if apart::<B>("tokens", n_members, 1) > 1 {
            return cohort::embed_each(&table, &tokens, n_members);
        }
        let d_vocab = cohort::members("table", table.dims()[0], n_members);
        let (table, tokens) = (raw(table), tokens.into_primitive());
        let run = |table| {
            raw(B::embed_each(float(table), Tensor::from_primitive(tokens.clone()), n_members))
        };
        register!(B, EmbedEach<B>, C, [table],
            tracked (run(table.primitive), EmbedEach { tokens, d_vocab, n_members }),
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
        let n_members = apart::<B>("weight", weight.dims()[0], x.dims()[1]);
        if n_members > 1 {
            return cohort::each(n_members, |member| {
                let bias = bias.as_ref().map(|bias| cohort::part(bias, n_members, member));
                let [x, weight] = [&x, &weight].map(|all| cohort::part(all, n_members, member));
                <Self as Ops>::linear(x, weight, bias)
            });
        }
        if !B::FUSED {
            return reference::linear(x, weight, bias);
        }
        let (x, weight) = (raw(x), raw(weight));
        let operands = || (float(x.primitive.clone()), float(weight.primitive.clone()));
        let run = |bias: Option<Primitive<B>>| {
            let (x, weight) = operands();
            raw(<B as Ops>::linear(x, weight, bias.map(float)))
        };
        let run_saved = |bias: Option<Primitive<B>>| {
            let (x, weight) = operands();
            let [x, weight] = B::linear_factors(x, weight);
            let y = raw(<B as Ops>::linear(x.clone(), weight.clone(), bias.map(float)));
            (y, Linear::<B> { x: raw(x), weight: raw(weight) })
        };
        match bias.map(raw) {
            None => register!(B, Linear<B>, C, [x, weight],
                tracked run_saved(None),
                untracked run(None)),
            Some(bias) => register!(B, Linear<B>, C, [x, weight, bias],
                tracked run_saved(Some(bias.primitive)),
                untracked run(Some(bias.primitive))),
        }
    }

    fn linear_act(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
        act: Activation,
    ) -> Tensor<Self, 2> {
        let n_members = apart::<B>("weight", weight.dims()[0], x.dims()[1]);
        if n_members > 1 {
            return cohort::each(n_members, |member| {
                let bias = bias.as_ref().map(|bias| cohort::part(bias, n_members, member));
                let [x, weight] = [&x, &weight].map(|all| cohort::part(all, n_members, member));
                Self::linear_act(x, weight, bias, act)
            });
        }
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
        let n_members = apart::<B>("gain", gain.dims()[0], x.dims()[1]);
        if n_members > 1 {
            return cohort::each(n_members, |member| {
                let [gain, bias] = [&gain, &bias].map(|all| cohort::part(all, n_members, member));
                Self::layer_norm(cohort::part(&x, n_members, member), gain, bias, epsilon)
            });
        }
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
        let n_members = apart::<B>("gain", gain.dims()[0], x.dims()[1]);
        if n_members > 1 {
            return cohort::each(n_members, |member| {
                let gain = cohort::part(&gain, n_members, member);
                Self::rms_norm(cohort::part(&x, n_members, member), gain, epsilon)
            });
        }
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
        let n_biases = bias.as_ref().map_or(attend.n_heads, |bias| bias.dims()[0]);
        let n_members = apart::<B>("bias", n_biases, attend.n_heads);
        if n_members > 1 {
            return cohort::each(n_members, |member| {
                let bias = bias.as_ref().map(|bias| cohort::part(bias, n_members, member));
                let attend = attend.of_member(member);
                Self::causal_attention(cohort::part(&qkv, n_members, member), bias, &attend)
            });
        }
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
            (raw(y), CausalAttention { saved, attend: attend.clone() })
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
        let n_biases = bias.as_ref().map_or(attend.n_heads, |bias| bias.dims()[0]);
        let n_members = apart::<B>("bias", n_biases, attend.n_heads);
        if n_members > 1 {
            let n_each = kv.dims()[0] / n_members;
            return cohort::each(n_members, |member| {
                let bias = bias.as_ref().map(|bias| cohort::part(bias, n_members, member));
                let rows = cohort::rows_of(rows, n_each, member);
                let (q, kv) =
                    (cohort::part(&q, n_members, member), cohort::part(&kv, n_members, member));
                Self::causal_attention_at(q, kv, bias, &rows, &attend.of_member(member))
            });
        }
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
            (raw(y), CausalAttentionAt { saved, rows: rows.clone(), attend: attend.clone() })
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
            (raw(y), CausalAttentionOf { saved, attend: attend.clone() })
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
            (raw(y), CausalAttentionOfAt { saved, rows: rows.clone(), attend: attend.clone() })
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
            (raw(y), CausalAttentionLookedUp { saved, tokens, d_vocab, attend: attend.clone() })
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
                let (rows, dropout) = (rows.clone(), dropout.clone());
                (run(x.primitive), Dropped { rows, dropout, backend: PhantomData })
            },
            untracked run(x.primitive))
    }

    fn select_rows(x: Tensor<Self, 2>, rows: &QueryRows) -> Tensor<Self, 2> {
        if !B::FUSED {
            return reference::select_rows(x, rows);
        }
        let [n_rows, _] = x.dims();
        let x = raw(x);
        let run = |x| raw(<B as Ops>::select_rows(float(x), rows));
        register!(B, Selected<B>, C, [x],
            tracked {
                let state = Selected { n_rows, rows: rows.clone(), backend: PhantomData };
                (run(x.primitive), state)
            },
            untracked run(x.primitive))
    }

    fn lstm(gates_in: Tensor<Self, 3>, w_hh: Tensor<Self, 2>) -> Tensor<Self, 3> {
        let n_members = apart::<B>("w_hh", w_hh.dims()[0], gates_in.dims()[2] / 4);
        if n_members > 1 {
            return cohort::each(n_members, |member| {
                let w_hh = cohort::part(&w_hh, n_members, member);
                Self::lstm(cohort::part(&gates_in, n_members, member), w_hh)
            });
        }
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

    fn weighted_losses(
        logits: Tensor<Self, 2>,
        targets: Tensor<Self, 1, Int>,
        weights: Tensor<Self, 1>,
    ) -> Tensor<Self, 1> {
        if !(B::FUSED && B::COHORTS) {
            return reference::weighted_losses(logits, targets, weights);
        }
        let (logits, targets, weights) =
            (raw(logits), targets.into_primitive(), raw(weights).primitive);
        let run = |logits| {
            let targets = Tensor::from_primitive(targets.clone());
            raw(B::weighted_losses(float(logits), targets, float(weights.clone())))
        };
        register!(B, WeightedLosses<B>, C, [logits],
            tracked {
                let y = run(logits.primitive.clone());
                (y, WeightedLosses { logits: logits.primitive, targets, weights: weights.clone() })
            },
            untracked run(logits.primitive))
    }
}
