//! What each operation leaves for its backward pass, and how that is done.

use std::marker::PhantomData;

use burn::tensor::{Tensor, backend::Backend};

use super::{IntPrimitive, Primitive, Pull, float, raw};
use crate::{Activation, Attend, Dropout, Gelu, Ops, QueryRows, Rotary, Saved};

#[derive(Clone, Debug)]
pub(super) struct Embed<B: Backend> {
    pub(super) tokens: IntPrimitive<B>,
    pub(super) d_vocab: usize,
}

impl<B: Ops> Pull<B, 1> for Embed<B> {
    fn pull(self, d_y: Primitive<B>, _: [bool; 1]) -> [Option<Primitive<B>>; 1] {
        let tokens = Tensor::from_primitive(self.tokens);
        [Some(raw(B::embed_backward(tokens, self.d_vocab, float(d_y))))]
    }
}

#[derive(Clone, Debug)]
pub(super) struct EmbedEach<B: Backend> {
    pub(super) tokens: IntPrimitive<B>,
    pub(super) d_vocab: usize,
    pub(super) n_members: usize,
}

impl<B: Ops> Pull<B, 1> for EmbedEach<B> {
    fn pull(self, d_y: Primitive<B>, _: [bool; 1]) -> [Option<Primitive<B>>; 1] {
        let Self { tokens, d_vocab, n_members } = self;
        let tokens = Tensor::from_primitive(tokens);
        [Some(raw(B::embed_each_backward(tokens, d_vocab, n_members, float(d_y))))]
    }
}

#[derive(Clone, Debug)]
pub(super) struct EmbedAt<B: Backend> {
    pub(super) table: Embed<B>,
    pub(super) n_ctx: usize,
    pub(super) scale: f64,
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
pub(super) struct Add;

impl<B: Ops> Pull<B, 2> for Add {
    fn pull(self, d_y: Primitive<B>, wanted: [bool; 2]) -> [Option<Primitive<B>>; 2] {
        wanted.map(|wanted| wanted.then(|| d_y.clone()))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Linear<B: Backend> {
    pub(super) x: Primitive<B>,
    pub(super) weight: Primitive<B>,
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
pub(super) struct LinearAct<B: Backend> {
    pub(super) saved: Saved<B>,
    pub(super) act: Activation,
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
pub(super) struct LayerNorm<B: Backend> {
    pub(super) x: Primitive<B>,
    pub(super) gain: Primitive<B>,
    pub(super) epsilon: f64,
}

impl<B: Ops> Pull<B, 3> for LayerNorm<B> {
    fn pull(self, d_y: Primitive<B>, _: [bool; 3]) -> [Option<Primitive<B>>; 3] {
        let (d_x, d_gain, d_bias) =
            B::layer_norm_backward(float(self.x), float(self.gain), self.epsilon, float(d_y));
        [Some(raw(d_x)), Some(raw(d_gain)), Some(raw(d_bias))]
    }
}

#[derive(Clone, Debug)]
pub(super) struct RmsNorm<B: Backend> {
    pub(super) x: Primitive<B>,
    pub(super) gain: Primitive<B>,
    pub(super) epsilon: f64,
}

impl<B: Ops> Pull<B, 2> for RmsNorm<B> {
    fn pull(self, d_y: Primitive<B>, _: [bool; 2]) -> [Option<Primitive<B>>; 2] {
        let (d_x, d_gain) =
            B::rms_norm_backward(float(self.x), float(self.gain), self.epsilon, float(d_y));
        [Some(raw(d_x)), Some(raw(d_gain))]
    }
}

#[derive(Clone, Debug)]
pub(super) struct GeluOf<B: Backend> {
    pub(super) x: Primitive<B>,
    pub(super) form: Gelu,
}

impl<B: Ops> Pull<B, 1> for GeluOf<B> {
    fn pull(self, d_y: Primitive<B>, _: [bool; 1]) -> [Option<Primitive<B>>; 1] {
        [Some(raw(<B as Ops>::gelu_backward(float(self.x), self.form, float(d_y))))]
    }
}

#[derive(Clone, Debug)]
pub(super) struct CausalAttention<B: Backend> {
    pub(super) saved: Saved<B>,
    pub(super) attend: Attend,
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
pub(super) struct CausalAttentionAt<B: Backend> {
    pub(super) saved: Saved<B>,
    pub(super) rows: QueryRows,
    pub(super) attend: Attend,
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
pub(super) struct CausalAttentionOf<B: Backend> {
    pub(super) saved: Saved<B>,
    pub(super) attend: Attend,
}

impl<B: Ops> Pull<B, 3> for CausalAttentionOf<B> {
    fn pull(self, d_y: Primitive<B>, wanted: [bool; 3]) -> [Option<Primitive<B>>; 3] {
        let grads = B::causal_attention_of_backward(self.saved, &self.attend, wanted, float(d_y));
        grads.map(|grad| grad.map(raw))
    }
}

#[derive(Clone, Debug)]
pub(super) struct CausalAttentionOfAt<B: Backend> {
    pub(super) saved: Saved<B>,
    pub(super) rows: QueryRows,
    pub(super) attend: Attend,
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
pub(super) struct CausalAttentionLookedUp<B: Backend> {
    pub(super) saved: Saved<B>,
    pub(super) tokens: IntPrimitive<B>,
    pub(super) d_vocab: usize,
    pub(super) attend: Attend,
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
pub(super) struct Turned<B: Backend> {
    pub(super) n_turned: usize,
    pub(super) rows: QueryRows,
    pub(super) rotary: Rotary,
    pub(super) backend: PhantomData<B>,
}

impl<B: Ops> Pull<B, 1> for Turned<B> {
    fn pull(self, d_y: Primitive<B>, _: [bool; 1]) -> [Option<Primitive<B>>; 1] {
        [Some(raw(B::rotary_backward(self.n_turned, &self.rows, &self.rotary, float(d_y))))]
    }
}

#[derive(Clone, Debug)]
pub(super) struct Dropped<B: Backend> {
    pub(super) rows: QueryRows,
    pub(super) dropout: Dropout,
    pub(super) backend: PhantomData<B>,
}

impl<B: Ops> Pull<B, 1> for Dropped<B> {
    fn pull(self, d_y: Primitive<B>, _: [bool; 1]) -> [Option<Primitive<B>>; 1] {
        [Some(raw(<B as Ops>::dropout(float(d_y), &self.rows, &self.dropout)))]
    }
}

#[derive(Clone, Debug)]
pub(super) struct Selected<B: Backend> {
    pub(super) n_rows: usize,
    pub(super) rows: QueryRows,
    pub(super) backend: PhantomData<B>,
}

impl<B: Ops> Pull<B, 1> for Selected<B> {
    fn pull(self, d_y: Primitive<B>, _: [bool; 1]) -> [Option<Primitive<B>>; 1] {
        [Some(raw(<B as Ops>::select_rows_backward(self.n_rows, &self.rows, float(d_y))))]
    }
}

#[derive(Clone, Debug)]
pub(super) struct Lstm<B: Backend> {
    pub(super) saved: Saved<B>,
}

impl<B: Ops> Pull<B, 2> for Lstm<B> {
    fn pull(self, d_h: Primitive<B>, _: [bool; 2]) -> [Option<Primitive<B>>; 2] {
        let (d_gates_in, d_w_hh) = B::lstm_backward(self.saved, float(d_h));
        [Some(raw(d_gates_in)), Some(raw(d_w_hh))]
    }
}

#[derive(Clone, Debug)]
pub(super) struct CrossEntropy<B: Backend> {
    pub(super) logits: Primitive<B>,
    pub(super) targets: IntPrimitive<B>,
}

impl<B: Ops> Pull<B, 1> for CrossEntropy<B> {
    fn pull(self, d_loss: Primitive<B>, _: [bool; 1]) -> [Option<Primitive<B>>; 1] {
        let targets = Tensor::from_primitive(self.targets);
        [Some(raw(B::cross_entropy_backward(float(self.logits), targets, float(d_loss))))]
    }
}

#[derive(Clone, Debug)]
pub(super) struct WeightedLosses<B: Backend> {
    pub(super) logits: Primitive<B>,
    pub(super) targets: IntPrimitive<B>,
    pub(super) weights: Primitive<B>,
}

impl<B: Ops> Pull<B, 1> for WeightedLosses<B> {
    fn pull(self, d_losses: Primitive<B>, _: [bool; 1]) -> [Option<Primitive<B>>; 1] {
        let (logits, targets) = (float(self.logits), Tensor::from_primitive(self.targets));
        let (weights, d_losses) = (float(self.weights), float(d_losses));
        [Some(raw(B::weighted_losses_backward(logits, targets, weights, d_losses)))]
    }
}
