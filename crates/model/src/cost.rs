//! What a model costs: parameters exactly, memory and arithmetic as estimates, all before anything
//! is allocated and without overflow.

use crate::spec::{
    AssociativeSpec, FeedForward, LstmSpec, Memory, Mlp, ModelSpec, Norm, Places, PosScale,
    Positions, TransformerSpec,
};

/// Bytes of a single-precision number.
const F32_BYTES: u64 = 4;

impl ModelSpec {
    /// Number of learned numbers, in closed form; `None` if 64 bits cannot count them.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_model::{ModelSpec, TransformerSpec};
    ///
    /// let n_params = |spec| ModelSpec::Transformer(spec).n_params();
    /// assert_eq!(n_params(TransformerSpec::fflm_base()), Some(19_170_309));
    /// assert_eq!(n_params(TransformerSpec::gpt2_base()), Some(19_180_032));
    /// // Heads share the width, so their number does not matter.
    /// assert_eq!(n_params(TransformerSpec::x_transformers(2, 128, 2)), Some(462_597));
    /// assert_eq!(n_params(TransformerSpec::x_transformers(2, 128, 8)), Some(462_597));
    /// ```
    #[must_use]
    pub fn n_params(&self) -> Option<u64> {
        match self {
            Self::Transformer(spec) => transformer_params(spec),
            Self::Lstm(spec) => lstm_params(spec),
            Self::Associative(spec) => associative_params(spec),
        }
    }

    /// Bytes that training needs at its fullest, estimated; `None` if 64 bits cannot count them.
    ///
    /// Four numbers for each parameter (value, gradient, two moments) and the activations that
    /// the backward pass keeps when every place is asked. Attention patterns are never kept.
    /// Measured on the CPU, asking at one place in twenty: the baseline of 19 million parameters
    /// at 16 examples of 511 tokens peaks at 1.6 GB, and the estimate is 2.0 GB.
    ///
    /// # Arguments
    ///
    /// - `batch`: examples in a step. - `seq_len`: tokens fed of each.
    #[must_use]
    pub fn train_bytes(&self, batch: u64, seq_len: u64) -> Option<u64> {
        let rows = batch.checked_mul(seq_len)?;
        let [n_layers, kept, widest] = self.kept_per_row()?;
        let activations = rows.checked_mul(n_layers.checked_mul(kept)?.checked_add(widest)?)?;
        self.n_params()?.checked_mul(4)?.checked_add(activations)?.checked_mul(F32_BYTES)
    }

    /// Bytes that evaluation needs at its fullest, estimated; `None` if 64 bits cannot count them.
    ///
    /// The parameters once, and the activations of one layer: those of the one before are free
    /// again. Measured on the CPU, 128 examples of 511 tokens: the LSTM of width 128 peaks at 171 MB
    /// (estimate 201 MB), a transformer of width 128 at 370 MB (estimate 404 MB).
    #[must_use]
    pub fn eval_bytes(&self, batch: u64, seq_len: u64) -> Option<u64> {
        let rows = batch.checked_mul(seq_len)?;
        let [_, _, widest] = self.kept_per_row()?;
        let activations = rows.checked_mul(widest)?;
        self.n_params()?.checked_add(activations)?.checked_mul(F32_BYTES)
    }

    /// Multiplications and additions of a forward pass for each token fed, estimated.
    ///
    /// Matrix products and attention are counted, element-wise work is not. The backward pass
    /// takes about twice as many.
    ///
    /// # Arguments
    ///
    /// - `seq_len`: tokens fed of each example; attention looks back half as far on average.
    /// - `queries_per_token`: the share of places asked, in `[0, 1]`; only they pay for the last
    ///   block's queries and MLP, and for the unembedding.
    #[must_use]
    pub fn flops_per_token(&self, seq_len: usize, queries_per_token: f64) -> f64 {
        let float = |n: usize| n as f64;
        match self {
            Self::Transformer(spec) => {
                let (d, n_layers) = (float(spec.d_model), float(spec.n_layers));
                let keys_values = 4.0 * d * d;
                // Query and output projections, scores and mixtures.
                let rest = 4.0 * d * d + 2.0 * d * float(seq_len);
                let mlp = match spec.mlp {
                    Mlp::Gelu | Mlp::Relu => 4.0 * d * float(spec.d_mlp),
                    Mlp::Geglu | Mlp::Swiglu => 6.0 * d * float(spec.d_mlp),
                    Mlp::Linear => 2.0 * d * d,
                    Mlp::None => 0.0,
                };
                let n_mlps = float(spec.n_layers.saturating_sub(spec.mlp_from_layer));
                // The last block's outputs are only of what is asked.
                let out_last = spec.identity_out.contains(&spec.n_layers.saturating_sub(1));
                let n_out = float(spec.identity_out.len())
                    - if out_last { 1.0 - queries_per_token } else { 0.0 };
                let removed = 2.0 * d * d * (float(spec.identity_v.len()) + n_out);
                n_layers * keys_values - removed
                    + (n_layers - 1.0 + queries_per_token) * rest
                    + (n_mlps - 1.0 + queries_per_token) * mlp
                    + queries_per_token * 2.0 * d * float(spec.d_vocab)
            }
            Self::Associative(spec) => {
                let d = float(spec.d_model);
                let normalised = |memory| spec.normalised.contains(&memory);
                // What is normalised is formed, and so are the vectors that an MLP reads.
                let apart = spec.mlp == FeedForward::Relu || normalised(Memory::Mlp);
                let formed = apart || normalised(Memory::Out2);
                let mixed = if formed { d } else { float(spec.d_model.min(spec.d_vocab)) };
                let mlp = |kind, asked: f64| match kind {
                    FeedForward::None => 0.0,
                    FeedForward::Linear => asked * 2.0 * d * d,
                    FeedForward::Relu => asked * 4.0 * d * float(spec.d_mlp),
                };
                // The first layer's keys and values are looked up, and its scores too where they are sums over
                // token and place. A linear feed-forward of the second layer is part of the unembedding.
                let looked_up = spec.places != Places::Rotary && !normalised(Memory::K1);
                let first = if looked_up { d } else { 2.0 * d };
                // Queries are multiplied by the second layer's keys, unless those are formed.
                let n_keyed = if normalised(Memory::K2) { 1.0 } else { queries_per_token };
                let second_mlp = if apart { mlp(spec.mlp, queries_per_token) } else { 0.0 };
                first * float(seq_len)
                    + mlp(spec.first_mlp, 1.0)
                    + n_keyed * 2.0 * d * d
                    + 2.0 * d * mixed
                    + queries_per_token * (d + mixed) * float(seq_len)
                    + second_mlp
                    + queries_per_token * 2.0 * d * float(spec.d_vocab)
            }
            Self::Lstm(spec) => {
                let (d, n_layers) = (float(spec.d_model), float(spec.n_layers));
                // The first layer's inputs come from a table of the vocabulary.
                (2.0 * n_layers - 1.0) * 8.0 * d * d
                    + queries_per_token * 2.0 * d * float(spec.d_vocab)
            }
        }
    }

    /// `[layers, numbers a layer keeps for each row, numbers alive for each row at the widest]`.
    fn kept_per_row(&self) -> Option<[u64; 3]> {
        let (n_layers, kept, widest) = match self {
            // Kept: normed twice, resid, q, k, v, z, and both sides of the activation, of a gated one
            // value and gate; of a linear MLP, which has a width of 0, its result. Widest: the MLP.
            Self::Transformer(spec) => {
                let hidden = product([if spec.mlp.gated() { 3 } else { 2 }, spec.d_mlp])?;
                (
                    spec.n_layers,
                    sum([product([7, spec.d_model])?, hidden])?,
                    sum([product([4, spec.d_model])?, hidden])?,
                )
            }
            // Kept: the stream before and after each half, keys, values. Widest: the MLP.
            Self::Associative(spec) => {
                let hidden = |kind| if kind == FeedForward::Relu { spec.d_mlp } else { 0 };
                let widest_mlp = hidden(spec.first_mlp).max(hidden(spec.mlp));
                (
                    2,
                    sum([product([4, spec.d_model])?, product([2, widest_mlp])?])?,
                    sum([product([4, spec.d_model])?, product([2, widest_mlp])?])?,
                )
            }
            // Kept: gates before and after, cell, state. Widest: gates, state, embedding.
            Self::Lstm(spec) => {
                (spec.n_layers, product([10, spec.d_model])?, product([6, spec.d_model])?)
            }
        };
        Some([u64::try_from(n_layers).ok()?, kept, widest])
    }
}

fn transformer_params(spec: &TransformerSpec) -> Option<u64> {
    let TransformerSpec { d_model: d, d_mlp, d_vocab, .. } = *spec;
    let when = |present: bool, count: Option<u64>| if present { count } else { Some(0) };
    let norm = when(spec.norm != Norm::None, product([2, d]))?;
    // Of q, k, v and out with their biases.
    let map = sum([product([d, d])?, when(spec.attn_bias, product([d]))?])?;
    let n_maps = spec.n_layers.checked_mul(4)?;
    let n_maps = n_maps.checked_sub(spec.identity_v.len() + spec.identity_out.len())?;
    // Up and down, or one square map, and its biases; d_mlp is 0 where there is no width.
    let square = when(spec.mlp == Mlp::Linear, product([d, d]))?;
    let n_up = if spec.mlp.gated() { 2 } else { 1 };
    let biases = sum([d.try_into().ok()?, product([n_up, d_mlp])?]);
    let mlp = sum([norm, square, product([n_up + 1, d, d_mlp])?, when(spec.mlp_bias, biases)?])?;
    let n_mlps = match spec.mlp {
        Mlp::None => 0,
        _ => spec.n_layers.saturating_sub(spec.mlp_from_layer),
    };
    sum([
        product([d_vocab, d])?,
        when(spec.positions == Positions::Learned, product([spec.n_ctx, d]))?,
        u64::from(spec.pos_scale == PosScale::Learned),
        spec.relative.param_shape(spec.n_heads).map_or(Some(0), product)?,
        map.checked_mul(n_maps.try_into().ok()?)?,
        norm.checked_mul(spec.n_layers.try_into().ok()?)?,
        mlp.checked_mul(n_mlps.try_into().ok()?)?,
        when(spec.norm == Norm::Pre, product([2, d]))?,
        when(!spec.tie_unembed, product([d, d_vocab]))?,
        when(spec.unembed_bias, d_vocab.try_into().ok())?,
    ])
}

fn lstm_params(spec: &LstmSpec) -> Option<u64> {
    let LstmSpec { n_layers, d_model: d, d_vocab } = *spec;
    let layer = sum([product([8, d, d])?, product([8, d])?])?;
    sum([
        product([2, d_vocab, d])?,
        layer.checked_mul(n_layers.try_into().ok()?)?,
        d_vocab.try_into().ok()?,
    ])
}

fn associative_params(spec: &AssociativeSpec) -> Option<u64> {
    let AssociativeSpec { d_model: d, d_mlp, d_vocab, .. } = *spec;
    let mlp = |kind| match kind {
        FeedForward::None => Some(0),
        FeedForward::Linear => product([d, d]),
        FeedForward::Relu if spec.mlp_bias => product([d_mlp, d.checked_mul(2)?.checked_add(1)?]),
        FeedForward::Relu => product([2, d, d_mlp]),
    };
    // k, v, out of two blocks, and a linear feed-forward of the second, as matrices or as factors.
    let n_squares = if spec.mlp == FeedForward::Linear { 7 } else { 6 };
    let second_mlp = if spec.mlp == FeedForward::Linear { 0 } else { mlp(spec.mlp)? };
    let n_factored = spec.factored.len();
    sum([
        product([2, d_vocab, d])?, // embed, unembed
        if spec.places == Places::Table { product([spec.n_ctx, d])? } else { 0 },
        product([n_squares - n_factored.min(n_squares), d, d])?,
        product([n_factored, 2, d, spec.d_inner])?,
        mlp(spec.first_mlp)?,
        second_mlp,
    ])
}

fn product<const N: usize>(factors: [usize; N]) -> Option<u64> {
    factors.into_iter().try_fold(1_u64, |n, factor| n.checked_mul(factor.try_into().ok()?))
}

fn sum<const N: usize>(terms: [u64; N]) -> Option<u64> {
    terms.into_iter().try_fold(0_u64, u64::checked_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout;
    use crate::spec::{Gelu, Init, Relative};

    /// Every combination of the switches that change the number of parameters, at uneven sizes.
    fn variants() -> Vec<ModelSpec> {
        let mut specs = vec![ModelSpec::Lstm(LstmSpec { n_layers: 3, d_model: 7, d_vocab: 11 })];
        for (first_mlp, mlp) in [
            (FeedForward::None, FeedForward::Linear),
            (FeedForward::Linear, FeedForward::Relu),
            (FeedForward::Relu, FeedForward::None),
        ] {
            for places in [Places::Table, Places::Sinusoidal, Places::Rotary] {
                let sizes = AssociativeSpec {
                    d_model: 6,
                    d_mlp: 13,
                    n_ctx: 17,
                    d_vocab: 11,
                    ..AssociativeSpec::birth()
                };
                specs.push(ModelSpec::Associative(AssociativeSpec {
                    first_mlp,
                    mlp,
                    places,
                    ..sizes
                }));
            }
        }
        for (factored, normalised, mlp) in [
            (vec![Memory::K2], vec![Memory::Mlp], FeedForward::Relu),
            (vec![Memory::K1, Memory::Mlp], Vec::new(), FeedForward::Linear),
            (Memory::ALL.map(|(_, memory)| memory).to_vec(), vec![Memory::K1], FeedForward::Linear),
            (vec![Memory::K1, Memory::K2, Memory::Out2], Vec::new(), FeedForward::None),
        ] {
            let mlp_bias = mlp == FeedForward::Relu;
            let sizes =
                AssociativeSpec { d_model: 6, d_mlp: 13, d_inner: 5, ..AssociativeSpec::birth() };
            let spec = AssociativeSpec { factored, normalised, mlp, mlp_bias, ..sizes };
            specs.push(ModelSpec::Associative(spec));
        }
        for switches in 0..16_u32 {
            let on = |bit: u32| switches >> bit & 1 == 1;
            specs.push(ModelSpec::Transformer(TransformerSpec {
                n_layers: 3,
                d_model: 6,
                n_heads: 2,
                d_mlp: 13,
                n_ctx: 17,
                d_vocab: 11,
                positions: if on(0) { Positions::Learned } else { Positions::None },
                pos_scale: PosScale::Unit,
                tie_unembed: on(1),
                attn_bias: on(2),
                unembed_bias: on(3),
                gelu: Gelu::Erf,
                layer_norm_epsilon: 1e-5,
                init: Init::Gpt2,
                norm: Norm::Pre,
                mlp: Mlp::Gelu,
                mlp_bias: true,
                mlp_from_layer: 0,
                parallel_mlp: false,
                relative: if on(0) { Relative::None } else { Relative::T5 },
                temperature: 1.0,
                own_v: on(1),
                identity_v: if on(2) { vec![0, 2] } else { Vec::new() },
                identity_out: if on(3) { vec![1] } else { Vec::new() },
            }));
        }
        let base = TransformerSpec { n_layers: 3, ..TransformerSpec::birth_full() };
        for norm in [Norm::Pre, Norm::Post, Norm::None] {
            let gated = [(Mlp::Geglu, 13), (Mlp::Swiglu, 9)];
            let plain = [(Mlp::Gelu, 13), (Mlp::Relu, 17), (Mlp::Linear, 0), (Mlp::None, 0)];
            for (mlp, d_mlp) in plain.into_iter().chain(gated) {
                for (mlp_bias, mlp_from_layer) in [(true, 0), (false, 0), (true, 2), (false, 1)] {
                    let plain = mlp != Mlp::None;
                    specs.push(ModelSpec::Transformer(TransformerSpec {
                        norm,
                        mlp,
                        d_mlp,
                        mlp_bias: mlp_bias || !plain,
                        mlp_from_layer: if plain { mlp_from_layer } else { 0 },
                        parallel_mlp: plain && norm != Norm::Post,
                        positions: if mlp_bias {
                            Positions::Sinusoidal
                        } else {
                            Positions::Learned
                        },
                        pos_scale: if mlp_bias { PosScale::Learned } else { PosScale::Unit },
                        ..base.clone()
                    }));
                }
            }
        }
        specs
    }

    #[test]
    fn the_closed_form_counts_the_layout() {
        for spec in variants() {
            let n_listed: usize =
                layout(&spec).iter().map(|slot| slot.shape.iter().product::<usize>()).sum();
            assert_eq!(spec.n_params(), Some(n_listed as u64), "{spec:?}");
        }
    }

    #[test]
    fn the_published_sizes_are_exact() {
        let x = |l, d| ModelSpec::Transformer(TransformerSpec::x_transformers(l, d, 8)).n_params();
        let gpt2 = |l, d| ModelSpec::Transformer(TransformerSpec::gpt2(l, d, 8)).n_params();
        assert_eq!(x(6, 512), Some(19_170_309));
        assert_eq!(gpt2(6, 512), Some(19_180_032));
        assert_eq!((x(2, 128), gpt2(2, 128)), (Some(462_597), Some(462_976)));
        assert_eq!((x(8, 1024), gpt2(8, 1024)), (Some(101_273_605), Some(101_301_248)));
        assert_eq!(ModelSpec::Lstm(LstmSpec::paper()).n_params(), Some(133_381));
        // Seven matrices of 128 x 128, 65 tokens twice and 256 places of 128 numbers.
        assert_eq!(ModelSpec::Associative(AssociativeSpec::birth()).n_params(), Some(164_096));
        let full = TransformerSpec::birth_full();
        // Embedding, positions, unembedding; attention and MLP; five norms.
        let expected = 128 * (65 + 256 + 65) + 2 * (4 * 128 * 128 + 2 * 128 * 512) + 5 * 2 * 128;
        assert_eq!((expected, ModelSpec::Transformer(full).n_params()), (443_904, Some(443_904)));
    }

    #[test]
    fn an_overflow_is_seen_and_not_wrapped() {
        let spec = |d_model| ModelSpec::Lstm(LstmSpec { n_layers: 1, d_model, d_vocab: 5 });
        assert_eq!(spec(usize::MAX).n_params(), None);
        assert_eq!(spec(1 << 31).n_params(), None);
        assert!(spec(1 << 30).n_params().is_some());
        assert_eq!(spec(1 << 30).train_bytes(1, 1), None);
        assert_eq!(spec(8).train_bytes(u64::MAX, 2), None);
    }

    #[test]
    fn training_takes_more_than_evaluation_and_both_grow_with_the_batch() {
        for spec in variants() {
            let [small, large] = [1, 64].map(|batch| spec.train_bytes(batch, 512).unwrap());
            assert!(spec.eval_bytes(1, 512).unwrap() < small && small < large);
        }
    }

    #[test]
    fn asking_everywhere_costs_the_whole_forward_pass() {
        let spec = ModelSpec::Transformer(TransformerSpec::fflm_base());
        let per_token = spec.flops_per_token(512, 1.0);
        // Two for each weight of a matrix, and 2 d T for attention over half of T places.
        let expected = 2.0 * (6.0 * 12.0 * 512.0 * 512.0 + 512.0 * 5.0) + 6.0 * 2.0 * 512.0 * 512.0;
        assert!((per_token - expected).abs() < 1.0, "{per_token} {expected}");
        assert!(spec.flops_per_token(512, 0.05) < 0.9 * per_token);
        // Of three MLPs two and one are left, and the last one costs where it is asked.
        let of = |mlp, d_mlp, mlp_from_layer| {
            let base = TransformerSpec { n_layers: 3, ..TransformerSpec::birth_full() };
            let spec = TransformerSpec { mlp, d_mlp, mlp_from_layer, ..base };
            ModelSpec::Transformer(spec).flops_per_token(256, 0.25)
        };
        let one = 4.0 * 128.0 * 512.0;
        let all = of(Mlp::Relu, 512, 0);
        assert!((all - of(Mlp::Relu, 512, 1) - one).abs() < 1e-3);
        assert!((all - of(Mlp::None, 0, 0) - 2.25 * one).abs() < 1e-3);
        assert!((of(Mlp::Linear, 0, 2) - of(Mlp::None, 0, 0) - 0.25 * 2.0 * 128.0 * 128.0) < 1e-3);
    }
    #[test]
    fn what_is_looked_up_or_not_asked_costs_nothing() {
        let of = |queries_per_token, spec: AssociativeSpec| {
            ModelSpec::Associative(spec).flops_per_token(256, queries_per_token)
        };
        let birth = AssociativeSpec::birth;
        let square = 2.0 * 128.0 * 128.0;
        let behind = 128.0 * 256.0;
        // Of the first layer the mixture, of the second queries, values as wide as the logits, scores and
        // mixture, and the logits of what passes by.
        let rest = 2.0 * 2.0 * 128.0 * 65.0 + (128.0 + 65.0) * 256.0;
        let same = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} and not {b}");
        same(of(1.0, birth()), behind + square + rest);
        same(of(0.0, birth()), behind + 2.0 * 128.0 * 65.0);
        let rotary = AssociativeSpec { places: Places::Rotary, ..birth() };
        same(of(1.0, rotary) - of(1.0, birth()), behind);
        let formed = AssociativeSpec { normalised: vec![Memory::K2], ..birth() };
        same(of(0.0, formed) - of(0.0, birth()), square);
    }
}
