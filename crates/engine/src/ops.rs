//! The fused operations as a trait over Burn's backends.

use burn::tensor::{Int, Tensor, backend::Backend};

use crate::{
    Activation, Attend, Dropout, Gelu, QueryRows, Rotary, Saved, cohort,
    optim::{Learned, Pace, Rule},
    reference,
    saved::no_backward_pass,
};

/// Fused operations over Burn's backends.
///
/// Every operation has a default body of Burn primitives ([`mod@reference`]): it is the reference, and
/// what a backend uses until it has something better. A backend that overrides nothing still trains,
/// because Burn derives the gradients of the primitives; one that sets [`FUSED`](Self::FUSED) brings
/// its own `*_backward` methods, all of them.
///
/// Of [`linear`](Self::linear), [`linear_act`](Self::linear_act), [`layer_norm`](Self::layer_norm),
/// [`rms_norm`](Self::rms_norm), [`rotary`](Self::rotary), [`dropout`](Self::dropout),
/// every kind of attention, and [`lstm`](Self::lstm) the CPU kernels promise that a row (an example,
/// for attention and `lstm`) has the same bits whatever the number of other rows and of threads. With
/// dropout, an example is what it is at its index in the batch.
///
/// Some names are also those of Burn's lower-level traits: write `<B as Ops>::linear(..)`.
///
/// A shape that does not fit is a bug in the caller and panics, naming the axes.
///
/// # Cohorts
///
/// Several models of one shape can be computed side by side: the parameters of each behind those of the one before it
/// along the first axis, and its examples likewise. Linear layers, norms, [`lstm`](Self::lstm) and biases of attention see
/// from the shapes how many there are; the others know no parameter, but for [`embed_each`](Self::embed_each).
pub trait Ops: Backend {
    /// Whether this backend has its own backward passes. If not, the `*_saved` and `*_backward` methods are never called:
    /// they cannot fall back on Burn's autodiff, which starts no backward pass inside another one.
    const FUSED: bool = false;

    /// Whether this backend computes the members of a cohort side by side. If not, autodiff over it does one after the
    /// other, and operations without gradients take one model.
    const COHORTS: bool = false;

    /// Whether kernels are compiled when a shape is first met, so that few shapes are to be preferred.
    const COMPILES: bool = false;

    /// Rows of a table, one a token.
    ///
    /// # Shapes
    ///
    /// `table: [d_vocab, d]`, `tokens: [batch, pos]` -> `[batch, pos, d]`
    fn embed(table: Tensor<Self, 2>, tokens: Tensor<Self, 2, Int>) -> Tensor<Self, 3> {
        reference::embed(table, tokens)
    }

    /// The gradient of [`embed`](Self::embed) by its table of `d_vocab` rows.
    fn embed_backward(
        tokens: Tensor<Self, 2, Int>,
        d_vocab: usize,
        d_y: Tensor<Self, 3>,
    ) -> Tensor<Self, 2> {
        no_backward_pass("embed", (tokens, d_vocab, d_y))
    }

    /// [`embed`](Self::embed) for a cohort: each member looks up its own tokens in its own table.
    ///
    /// # Shapes
    ///
    /// `table: [members * d_vocab, d]`, `tokens: [members * batch, pos]` -> `[members * batch, pos, d]`
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_engine::{Ops, burn::tensor::Tensor, device::{Cpu, cpu}};
    ///
    /// // Two members with two tokens each; either sees its second one.
    /// let table = Tensor::<Cpu, 2>::from_data([[1.0], [2.0], [3.0], [4.0]], &cpu());
    /// let y = <Cpu as Ops>::embed_each(table, Tensor::from_data([[1], [1]], &cpu()), 2).into_data();
    /// assert_eq!(y.to_vec::<f32>().unwrap(), [2.0, 4.0]);
    /// ```
    fn embed_each(
        table: Tensor<Self, 2>,
        tokens: Tensor<Self, 2, Int>,
        n_members: usize,
    ) -> Tensor<Self, 3> {
        cohort::embed_each(&table, &tokens, n_members)
    }

    /// The gradient of [`embed_each`](Self::embed_each) by its table, on backends with [`COHORTS`](Self::COHORTS).
    fn embed_each_backward(
        tokens: Tensor<Self, 2, Int>,
        d_vocab: usize,
        n_members: usize,
        d_y: Tensor<Self, 3>,
    ) -> Tensor<Self, 2> {
        no_backward_pass("embed_each", (tokens, d_vocab, n_members, d_y))
    }

    /// Rows of a table, one a token, plus `scale` times the vector of the place they stand at.
    ///
    /// # Shapes
    ///
    /// `table: [d_vocab, d]`, `places: [n_ctx, d]` with `n_ctx >= pos`, `tokens: [batch, pos]`
    /// -> `[batch, pos, d]`
    fn embed_at(
        table: Tensor<Self, 2>,
        places: Tensor<Self, 2>,
        scale: f64,
        tokens: Tensor<Self, 2, Int>,
    ) -> Tensor<Self, 3> {
        reference::embed_at(table, places, scale, tokens)
    }

    /// The gradient of [`embed_at`](Self::embed_at) by its `n_ctx` places; the one by its table is
    /// that of [`embed`](Self::embed).
    fn embed_at_backward(n_ctx: usize, scale: f64, d_y: Tensor<Self, 3>) -> Tensor<Self, 2> {
        no_backward_pass("embed_at", (n_ctx, scale, d_y))
    }

    /// `x + y`, which closes a residual branch.
    ///
    /// # Shapes
    ///
    /// `x` and `y` of one shape, which is that of the result
    fn add<const D: usize>(x: Tensor<Self, D>, y: Tensor<Self, D>) -> Tensor<Self, D> {
        reference::add(x, y)
    }

    /// Each matrix of `x` times that of `y` at the same place, without what [`linear`](Self::linear) promises of bits.
    ///
    /// For passes that show their patterns to hooks. Burn's own product may be of another precision than the device was
    /// asked for.
    ///
    /// # Shapes
    ///
    /// `x: [.., m, k]`, `y: [.., k, n]` -> `[.., m, n]`
    fn matrices<const D: usize>(x: Tensor<Self, D>, y: Tensor<Self, D>) -> Tensor<Self, D> {
        x.matmul(y)
    }

    /// `x weight + bias`.
    ///
    /// # Shapes
    ///
    /// `x: [rows, d_in]`, `weight: [d_in, d_out]`, `bias: [d_out]` -> `[rows, d_out]`
    fn linear(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 2> {
        reference::linear(x, weight, bias)
    }

    /// `x` and `weight` as [`linear`](Self::linear) multiplies them, and its backward pass once more.
    fn linear_factors(x: Tensor<Self, 2>, weight: Tensor<Self, 2>) -> [Tensor<Self, 2>; 2] {
        [x, weight]
    }

    /// Those of the gradients of [`linear`](Self::linear) by `x`, `weight` and bias that are `wanted`.
    #[expect(clippy::type_complexity, reason = "three gradients, each of which may be left out")]
    fn linear_backward(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        wanted: [bool; 3],
        d_y: Tensor<Self, 2>,
    ) -> (Option<Tensor<Self, 2>>, Option<Tensor<Self, 2>>, Option<Tensor<Self, 1>>) {
        no_backward_pass("linear", (x, weight, wanted, d_y))
    }

    /// `act(x weight + bias)`: a linear layer and the activation behind it.
    ///
    /// Each row has the bits of [`linear`](Self::linear) followed by the activation; the product
    /// between the two does not travel through memory.
    ///
    /// # Shapes
    ///
    /// `x: [rows, d_in]`, `weight: [d_in, d_product]`, `bias: [d_product]` -> `[rows, d_out]`, with
    /// `d_product` as in [`Activation::d_product`]: `2 d_out` of a gated unit, first the values, then
    /// the gates; else `d_out`.
    ///
    /// # Panics
    ///
    /// If the shapes do not fit, or the product of a gated unit does not have two halves.
    ///
    /// # Source
    ///
    /// See [`Activation`].
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_engine::{Activation, Gate, Ops, burn::tensor::Tensor, device::{Cpu, cpu}};
    ///
    /// // One number becomes a value of 3 and a gate of 2: ReGLU gives 3 max(2, 0).
    /// let x = Tensor::<Cpu, 2>::from_data([[1.0]], &cpu());
    /// let weight = Tensor::<Cpu, 2>::from_data([[3.0, 2.0]], &cpu());
    /// let y = <Cpu as Ops>::linear_act(x, weight, None, Activation::Gated(Gate::Relu));
    /// assert_eq!(y.into_data().to_vec::<f32>().unwrap(), [6.0]);
    /// ```
    fn linear_act(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
        act: Activation,
    ) -> Tensor<Self, 2> {
        reference::linear_act(x, weight, bias, act)
    }

    /// [`linear_act`](Self::linear_act), keeping what its backward pass needs.
    fn linear_act_saved(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
        act: Activation,
    ) -> (Tensor<Self, 2>, Saved<Self>) {
        no_backward_pass("linear_act", (x, weight, bias, act))
    }

    /// Those of the gradients of [`linear_act`](Self::linear_act) by `x`, `weight` and bias that are
    /// `wanted`.
    #[expect(clippy::type_complexity, reason = "three gradients, each of which may be left out")]
    fn linear_act_backward(
        saved: Saved<Self>,
        act: Activation,
        wanted: [bool; 3],
        d_y: Tensor<Self, 2>,
    ) -> (Option<Tensor<Self, 2>>, Option<Tensor<Self, 2>>, Option<Tensor<Self, 1>>) {
        no_backward_pass("linear_act", (saved, act, wanted, d_y))
    }

    /// Each row shifted to mean 0 and scaled to variance 1, then `* gain + bias`.
    ///
    /// `(x - mean) / sqrt(variance + epsilon) * gain + bias`, with the biased variance.
    ///
    /// # Shapes
    ///
    /// `x: [rows, d]`, `gain: [d]`, `bias: [d]` -> `[rows, d]`
    ///
    /// # Source
    ///
    /// Ba, Kiros and Hinton, "Layer Normalization", 2016, arXiv:1607.06450.
    fn layer_norm(
        x: Tensor<Self, 2>,
        gain: Tensor<Self, 1>,
        bias: Tensor<Self, 1>,
        epsilon: f64,
    ) -> Tensor<Self, 2> {
        reference::layer_norm(x, gain, bias, epsilon)
    }

    /// The gradients of [`layer_norm`](Self::layer_norm) by `x`, `gain` and `bias`.
    fn layer_norm_backward(
        x: Tensor<Self, 2>,
        gain: Tensor<Self, 1>,
        epsilon: f64,
        d_y: Tensor<Self, 2>,
    ) -> (Tensor<Self, 2>, Tensor<Self, 1>, Tensor<Self, 1>) {
        no_backward_pass("layer_norm", (x, gain, epsilon, d_y))
    }

    /// Each row scaled to a mean square of 1, then `* gain`.
    ///
    /// `x / sqrt(mean(x^2) + epsilon) * gain`: layer normalisation without the mean and the bias.
    ///
    /// # Shapes
    ///
    /// `x: [rows, d]`, `gain: [d]` -> `[rows, d]`
    ///
    /// # Panics
    ///
    /// If the gain is of another width than `x`.
    ///
    /// # Source
    ///
    /// Zhang and Sennrich, "Root Mean Square Layer Normalization", NeurIPS 2019, arXiv:1910.07467.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_engine::{Ops, burn::tensor::Tensor, device::{Cpu, cpu}};
    ///
    /// let x = Tensor::<Cpu, 2>::from_data([[7.0, -1.0]], &cpu());
    /// let gain = Tensor::<Cpu, 1>::from_data([5.0, 10.0], &cpu());
    /// // The mean square is (49 + 1) / 2 = 25.
    /// let y = <Cpu as Ops>::rms_norm(x, gain, 0.0).into_data().to_vec::<f32>().unwrap();
    /// assert!((y[0] - 7.0).abs() < 1e-5 && (y[1] + 2.0).abs() < 1e-5);
    /// ```
    fn rms_norm(x: Tensor<Self, 2>, gain: Tensor<Self, 1>, epsilon: f64) -> Tensor<Self, 2> {
        reference::rms_norm(x, gain, epsilon)
    }

    /// The gradients of [`rms_norm`](Self::rms_norm) by `x` and `gain`.
    fn rms_norm_backward(
        x: Tensor<Self, 2>,
        gain: Tensor<Self, 1>,
        epsilon: f64,
        d_y: Tensor<Self, 2>,
    ) -> (Tensor<Self, 2>, Tensor<Self, 1>) {
        no_backward_pass("rms_norm", (x, gain, epsilon, d_y))
    }

    /// The Gaussian error linear unit of every entry.
    ///
    /// # Source
    ///
    /// Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016, arXiv:1606.08415.
    fn gelu(x: Tensor<Self, 2>, form: Gelu) -> Tensor<Self, 2> {
        reference::gelu(x, form)
    }

    /// The gradient of [`gelu`](Self::gelu).
    fn gelu_backward(x: Tensor<Self, 2>, form: Gelu, d_y: Tensor<Self, 2>) -> Tensor<Self, 2> {
        no_backward_pass("gelu", (x, form, d_y))
    }

    /// Softmax attention of every place on itself and the places before it.
    ///
    /// Within each head, `softmax(q k^T / (sqrt(d_head) temperature) + bias) v` over the keys at or
    /// before the query. Dropout comes between the softmax and `v`, and the statistics of its rows
    /// before dropout. See [`Attend`]; [`Attend::split`] takes the result apart.
    ///
    /// The result is one tensor even with statistics: an operation of Burn's graph has one output,
    /// and two operations would each compute the pattern, forward and backward.
    ///
    /// # Arguments
    ///
    /// - `bias`: by how far the key lies before the query, from 0. ALiBi and the relative positions
    ///   of T5 are such tables.
    ///
    /// # Shapes
    ///
    /// `qkv: [batch, pos, 3 d]`, in the order query, key, value, each `n_heads` heads of `d_head`;
    /// `bias: [head, pos]` -> `[batch, pos, d]`, or `[batch, pos, d + 3 n_heads]` with statistics
    ///
    /// # Source
    ///
    /// Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.2. The biases: Raffel et
    /// al., JMLR 21 (2020), section 2.1; Press, Smith and Lewis, "Train Short, Test Long", ICLR 2022.
    fn causal_attention(
        qkv: Tensor<Self, 3>,
        bias: Option<Tensor<Self, 2>>,
        attend: &Attend,
    ) -> Tensor<Self, 3> {
        reference::causal_attention(qkv, bias, attend)
    }

    /// [`causal_attention`](Self::causal_attention), keeping what its backward pass needs.
    fn causal_attention_saved(
        qkv: Tensor<Self, 3>,
        bias: Option<Tensor<Self, 2>>,
        attend: &Attend,
    ) -> (Tensor<Self, 3>, Saved<Self>) {
        no_backward_pass("causal_attention", (qkv, bias, attend))
    }

    /// The gradients of [`causal_attention`](Self::causal_attention) by `qkv` and the bias, if there
    /// is one.
    fn causal_attention_backward(
        saved: Saved<Self>,
        attend: &Attend,
        d_y: Tensor<Self, 3>,
    ) -> (Tensor<Self, 3>, Option<Tensor<Self, 2>>) {
        no_backward_pass("causal_attention", (saved, attend, d_y))
    }

    /// [`causal_attention`](Self::causal_attention) of chosen queries only.
    ///
    /// # Shapes
    ///
    /// `q: [n_queries, d]`, `kv: [batch, pos, 2 d]` in the order key, value; `bias: [head, pos]`
    /// -> `[n_queries, d]`, or `[n_queries, d + 3 n_heads]` with statistics; row `i` of `q` is the
    /// query at place `rows.place(i)`.
    fn causal_attention_at(
        q: Tensor<Self, 2>,
        kv: Tensor<Self, 3>,
        bias: Option<Tensor<Self, 2>>,
        rows: &QueryRows,
        attend: &Attend,
    ) -> Tensor<Self, 2> {
        reference::causal_attention_at(q, kv, bias, rows, attend)
    }

    /// [`causal_attention_at`](Self::causal_attention_at), keeping what its backward pass needs.
    fn causal_attention_at_saved(
        q: Tensor<Self, 2>,
        kv: Tensor<Self, 3>,
        bias: Option<Tensor<Self, 2>>,
        rows: &QueryRows,
        attend: &Attend,
    ) -> (Tensor<Self, 2>, Saved<Self>) {
        no_backward_pass("causal_attention_at", (q, kv, bias, rows, attend))
    }

    /// The gradients of [`causal_attention_at`](Self::causal_attention_at) by `q`, `kv` and the
    /// bias, if there is one.
    fn causal_attention_at_backward(
        saved: Saved<Self>,
        rows: &QueryRows,
        attend: &Attend,
        d_y: Tensor<Self, 2>,
    ) -> (Tensor<Self, 2>, Tensor<Self, 3>, Option<Tensor<Self, 2>>) {
        no_backward_pass("causal_attention_at", (saved, rows, attend, d_y))
    }

    /// [`causal_attention`](Self::causal_attention) of queries, keys and values that are tensors of
    /// their own.
    ///
    /// For projections that are the identity, or frozen, or looked up, and for values of another width
    /// than the keys: nothing has to be packed, and the products that only serve the gradient of an
    /// operand without one are left out.
    ///
    /// # Shapes
    ///
    /// `q`, `k: [batch, pos, d]`, `v: [batch, pos, d_v]`, both `n_heads` heads wide
    /// -> `[batch, pos, d_v]`, or `[batch, pos, d_v + 3 n_heads]` with statistics
    fn causal_attention_of(
        q: Tensor<Self, 3>,
        k: Tensor<Self, 3>,
        v: Tensor<Self, 3>,
        attend: &Attend,
    ) -> Tensor<Self, 3> {
        reference::causal_attention_of(q, k, v, attend)
    }

    /// [`causal_attention_of`](Self::causal_attention_of), keeping what its backward pass needs.
    fn causal_attention_of_saved(
        q: Tensor<Self, 3>,
        k: Tensor<Self, 3>,
        v: Tensor<Self, 3>,
        attend: &Attend,
    ) -> (Tensor<Self, 3>, Saved<Self>) {
        no_backward_pass("causal_attention_of", (q, k, v, attend))
    }

    /// Those of the gradients of [`causal_attention_of`](Self::causal_attention_of) by `q`, `k` and
    /// `v` that are `wanted`.
    fn causal_attention_of_backward(
        saved: Saved<Self>,
        attend: &Attend,
        wanted: [bool; 3],
        d_y: Tensor<Self, 3>,
    ) -> [Option<Tensor<Self, 3>>; 3] {
        no_backward_pass("causal_attention_of", (saved, attend, wanted, d_y))
    }

    /// [`causal_attention_of`](Self::causal_attention_of) chosen queries only.
    ///
    /// For a loss at some of the places: the rows of the others are not computed, forward or backward.
    ///
    /// # Shapes
    ///
    /// `q: [n_queries, d]`, `k: [batch, pos, d]`, `v: [batch, pos, d_v]` -> `[n_queries, d_v]`, or
    /// `[n_queries, d_v + 3 n_heads]` with statistics; row `i` of `q` is the query at place
    /// `rows.place(i)`.
    ///
    /// # Panics
    ///
    /// If the shapes do not fit, or a row lies outside of the batch.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_engine::{Attend, Ops, QueryRows, burn::tensor::Tensor, device::{Cpu, cpu}};
    ///
    /// // The second of three places sees two keys, alike to it: it gets the mean of their values.
    /// let (q, k) = (Tensor::<Cpu, 2>::zeros([1, 4], &cpu()), Tensor::zeros([1, 3, 4], &cpu()));
    /// let v = Tensor::from_data([[[1.0], [2.0], [9.0]]], &cpu());
    /// let rows = QueryRows::new(3, vec![(0, 1)]);
    /// let y = <Cpu as Ops>::causal_attention_of_at(q, k, v, &rows, &Attend::plain(1));
    /// assert_eq!(y.into_data().to_vec::<f32>().unwrap(), [1.5]);
    /// ```
    fn causal_attention_of_at(
        q: Tensor<Self, 2>,
        k: Tensor<Self, 3>,
        v: Tensor<Self, 3>,
        rows: &QueryRows,
        attend: &Attend,
    ) -> Tensor<Self, 2> {
        reference::causal_attention_of_at(q, k, v, rows, attend)
    }

    /// [`causal_attention_of_at`](Self::causal_attention_of_at), keeping what its backward pass needs.
    fn causal_attention_of_at_saved(
        q: Tensor<Self, 2>,
        k: Tensor<Self, 3>,
        v: Tensor<Self, 3>,
        rows: &QueryRows,
        attend: &Attend,
    ) -> (Tensor<Self, 2>, Saved<Self>) {
        no_backward_pass("causal_attention_of_at", (q, k, v, rows, attend))
    }

    /// Those of the gradients of [`causal_attention_of_at`](Self::causal_attention_of_at) by `q`, and
    /// by `k` and `v`, that are `wanted`.
    fn causal_attention_of_at_backward(
        saved: Saved<Self>,
        rows: &QueryRows,
        attend: &Attend,
        wanted: [bool; 3],
        d_y: Tensor<Self, 2>,
    ) -> (Option<Tensor<Self, 2>>, [Option<Tensor<Self, 3>>; 2]) {
        no_backward_pass("causal_attention_of_at", (saved, rows, attend, wanted, d_y))
    }

    /// Attention of every place on itself and the places before it, with scores out of a table.
    ///
    /// Where a query is a token's vector plus a place's, and a key likewise, each score is a sum of
    /// four: of the token and the place of the query with those of the key. With `z` the tokens,
    ///
    /// `score(t, s) = S[z_t, z_s] + S[z_t, V + s] + S[V + t, z_s] + S[V + t, V + s]`, `V = d_vocab`.
    ///
    /// If `H` holds the vectors of tokens and of places, `S = H W_q W_k^T H^T`: two or three small
    /// products in place of one for each pair of places, and gradients flow through `S`.
    ///
    /// The pattern is `softmax(score / temperature)`: there is no width of a head to scale by, so what
    /// stands for its root goes into the temperature. The rest is as in
    /// [`causal_attention`](Self::causal_attention), with one head.
    ///
    /// # Shapes
    ///
    /// `tokens: [batch, pos]`, `scores: [d_vocab + n_ctx, d_vocab + n_ctx]` with `n_ctx >= pos`, a row a
    /// query and a column a key; `values: [batch, pos, d_v]` -> `[batch, pos, d_v]`, or
    /// `[batch, pos, d_v + 3]` with statistics
    ///
    /// # Panics
    ///
    /// If the shapes do not fit, a token is not below `d_vocab`, or more than one head is asked for.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_engine::{Attend, Ops, burn::tensor::Tensor, device::{Cpu, cpu}};
    ///
    /// // Two symbols and three places. A 1 looks for a 0, and nothing else matters.
    /// let mut scores = vec![0.0; 25];
    /// scores[5] = 100.0;
    /// let scores = Tensor::<Cpu, 1>::from_data(scores.as_slice(), &cpu()).reshape([5, 5]);
    /// let tokens = Tensor::from_data([[1, 0, 1]], &cpu());
    /// let values = Tensor::from_data([[[1.0], [2.0], [4.0]]], &cpu());
    /// let attend = Attend::plain(1);
    /// let y = <Cpu as Ops>::causal_attention_looked_up(tokens, scores, 2, values, &attend);
    /// assert_eq!(y.into_data().to_vec::<f32>().unwrap(), [1.0, 1.5, 2.0]);
    /// ```
    fn causal_attention_looked_up(
        tokens: Tensor<Self, 2, Int>,
        scores: Tensor<Self, 2>,
        d_vocab: usize,
        values: Tensor<Self, 3>,
        attend: &Attend,
    ) -> Tensor<Self, 3> {
        reference::causal_attention_looked_up(tokens, scores, d_vocab, values, attend)
    }

    /// [`causal_attention_looked_up`](Self::causal_attention_looked_up), keeping what its backward pass
    /// needs besides the tokens.
    fn causal_attention_looked_up_saved(
        tokens: Tensor<Self, 2, Int>,
        scores: Tensor<Self, 2>,
        d_vocab: usize,
        values: Tensor<Self, 3>,
        attend: &Attend,
    ) -> (Tensor<Self, 3>, Saved<Self>) {
        no_backward_pass("causal_attention_looked_up", (tokens, scores, d_vocab, values, attend))
    }

    /// Those of the gradients of [`causal_attention_looked_up`](Self::causal_attention_looked_up) by
    /// `scores` and `values` that are `wanted`.
    fn causal_attention_looked_up_backward(
        saved: Saved<Self>,
        tokens: Tensor<Self, 2, Int>,
        d_vocab: usize,
        attend: &Attend,
        wanted: [bool; 2],
        d_y: Tensor<Self, 3>,
    ) -> (Option<Tensor<Self, 2>>, Option<Tensor<Self, 3>>) {
        no_backward_pass(
            "causal_attention_looked_up",
            (saved, tokens, d_vocab, attend, wanted, d_y),
        )
    }

    /// Heads turned by angles that grow with their place.
    ///
    /// Numbers `i` and `i + n_rotated / 2` of a head are a point in the plane, which is turned by
    /// `pos base^(-2i / n_rotated)`; see [`Rotary`]. Numbers from `n_rotated` on stay. The product
    /// of a turned query and a turned key then depends on how far they lie apart, not on where.
    ///
    /// One operation serves packed queries, keys and values (the first `2 n_heads` heads are turned),
    /// packed keys and values, and chosen queries (the first `n_heads`).
    ///
    /// # Arguments
    ///
    /// - `n_turned`: heads from the left that are turned; the rest of a row stays.
    /// - `rows`: row `i` of `x` stands at place `rows.place(i)`.
    ///
    /// # Shapes
    ///
    /// `x: [rows, d]` -> `[rows, d]`
    ///
    /// # Source
    ///
    /// Su et al., "RoFormer", 2021, arXiv:2104.09864, with the pairs of GPT-NeoX and x-transformers.
    fn rotary(
        x: Tensor<Self, 2>,
        n_turned: usize,
        rows: &QueryRows,
        rotary: &Rotary,
    ) -> Tensor<Self, 2> {
        reference::rotary(x, n_turned, rows, rotary)
    }

    /// The gradient of [`rotary`](Self::rotary), which is turned back.
    fn rotary_backward(
        n_turned: usize,
        rows: &QueryRows,
        rotary: &Rotary,
        d_y: Tensor<Self, 2>,
    ) -> Tensor<Self, 2> {
        no_backward_pass("rotary", (n_turned, rows, rotary, d_y))
    }

    /// Some entries of each row set to 0, the others divided by the probability of being kept.
    ///
    /// The entry in column `c` of a row at place `(example, pos)` is multiplied by
    /// [`dropout.factor(example, 0, pos, c)`](Dropout::factor): it depends on where the row stands, not
    /// on which other rows there are. The operation is its own gradient.
    ///
    /// # Arguments
    ///
    /// - `rows`: row `i` of `x` stands at place `rows.place(i)`.
    ///
    /// # Shapes
    ///
    /// `x: [rows, d]` -> `[rows, d]`
    ///
    /// # Panics
    ///
    /// If there are more or fewer places than rows.
    ///
    /// # Source
    ///
    /// Srivastava et al., "Dropout", JMLR 15 (2014).
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_engine::{Dropout, Ops, QueryRows, burn::tensor::Tensor, device::{Cpu, cpu}};
    ///
    /// let x = Tensor::<Cpu, 2>::ones([2, 50], &cpu());
    /// let y = <Cpu as Ops>::dropout(x, &QueryRows::all(1, 2), &Dropout::new(0.5, 7));
    /// let y = y.into_data().to_vec::<f32>().unwrap();
    /// assert!(y.contains(&0.0) && y.contains(&2.0) && y[..50] != y[50..]);
    /// ```
    fn dropout(x: Tensor<Self, 2>, rows: &QueryRows, dropout: &Dropout) -> Tensor<Self, 2> {
        reference::dropout(x, rows, dropout)
    }

    /// The asked rows, `x: [batch * pos, d]` -> `[n_queries, d]`: row `i` is the one at place `rows.place(i)`.
    fn select_rows(x: Tensor<Self, 2>, rows: &QueryRows) -> Tensor<Self, 2> {
        reference::select_rows(x, rows)
    }

    /// The gradient of [`select_rows`](Self::select_rows) of `n_rows` rows.
    fn select_rows_backward(
        n_rows: usize,
        rows: &QueryRows,
        d_y: Tensor<Self, 2>,
    ) -> Tensor<Self, 2> {
        reference::select_rows_backward(n_rows, rows, d_y)
    }

    /// One layer of long short-term memory over a whole sequence, from a state of zeros.
    ///
    /// With `a = gates_in[pos] + h[pos - 1] w_hh` cut into `i, f, g, o`:
    /// `c[pos] = sigmoid(f) c[pos - 1] + sigmoid(i) tanh(g)` and `h[pos] = sigmoid(o) tanh(c[pos])`.
    ///
    /// # Shapes
    ///
    /// `gates_in: [batch, pos, 4 d]`, which is `x w_ih + b_ih + b_hh` in PyTorch's order of gates;
    /// `w_hh: [d, 4 d]` -> `h: [batch, pos, d]`
    ///
    /// # Source
    ///
    /// Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 9 (1997), with the
    /// forget gate of Gers, Schmidhuber and Cummins (2000); PyTorch's `nn.LSTM`.
    fn lstm(gates_in: Tensor<Self, 3>, w_hh: Tensor<Self, 2>) -> Tensor<Self, 3> {
        reference::lstm(gates_in, w_hh)
    }

    /// [`lstm`](Self::lstm) whose gates' inputs are looked up: rows of a table, one a token.
    ///
    /// In the first layer of a model they are the same wherever a token stands. Where no gradient is
    /// wanted, the CPU does not write them down.
    ///
    /// # Shapes
    ///
    /// `table: [d_vocab, 4 d]`, `tokens: [batch, pos]`, `w_hh: [d, 4 d]` -> `h: [batch, pos, d]`
    fn lstm_of(
        table: Tensor<Self, 2>,
        tokens: Tensor<Self, 2, Int>,
        w_hh: Tensor<Self, 2>,
    ) -> Tensor<Self, 3> {
        <Self as Ops>::lstm(<Self as Ops>::embed(table, tokens), w_hh)
    }

    /// [`lstm`](Self::lstm), keeping what its backward pass needs.
    fn lstm_saved(
        gates_in: Tensor<Self, 3>,
        w_hh: Tensor<Self, 2>,
    ) -> (Tensor<Self, 3>, Saved<Self>) {
        no_backward_pass("lstm", (gates_in, w_hh))
    }

    /// The gradients of [`lstm`](Self::lstm) by `gates_in` and `w_hh`.
    fn lstm_backward(
        saved: Saved<Self>,
        d_h: Tensor<Self, 3>,
    ) -> (Tensor<Self, 3>, Tensor<Self, 2>) {
        no_backward_pass("lstm", (saved, d_h))
    }

    /// The mean over rows of `-ln softmax(logits)[target]`, in nats.
    ///
    /// # Shapes
    ///
    /// `logits: [rows, d_vocab]`, `targets: [rows]` -> `[1]`
    fn cross_entropy(logits: Tensor<Self, 2>, targets: Tensor<Self, 1, Int>) -> Tensor<Self, 1> {
        reference::cross_entropy(logits, targets)
    }

    /// The gradient of [`cross_entropy`](Self::cross_entropy) by `logits`.
    fn cross_entropy_backward(
        logits: Tensor<Self, 2>,
        targets: Tensor<Self, 1, Int>,
        d_loss: Tensor<Self, 1>,
    ) -> Tensor<Self, 2> {
        no_backward_pass("cross_entropy", (logits, targets, d_loss))
    }

    /// Of each row `-ln softmax(logits)[target]`, in nats, times its weight.
    ///
    /// For the mean of each member of a cohort, whose rows are filled up by some of weight 0.
    ///
    /// # Shapes
    ///
    /// `logits: [rows, d_vocab]`, `targets: [rows]`, `weights: [rows]` -> `[rows]`
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_engine::{Ops, burn::tensor::Tensor, device::{Cpu, cpu}};
    ///
    /// let logits = Tensor::<Cpu, 2>::zeros([2, 4], &cpu());
    /// let (targets, weights) = (Tensor::from_data([3, 0], &cpu()), Tensor::ones([2], &cpu()) * 0.5);
    /// let losses = <Cpu as Ops>::weighted_losses(logits, targets, weights).into_data();
    /// assert!((losses.to_vec::<f32>().unwrap()[0] - 0.5 * 4_f32.ln()).abs() < 1e-6);
    /// ```
    fn weighted_losses(
        logits: Tensor<Self, 2>,
        targets: Tensor<Self, 1, Int>,
        weights: Tensor<Self, 1>,
    ) -> Tensor<Self, 1> {
        reference::weighted_losses(logits, targets, weights)
    }

    /// The gradient of [`weighted_losses`](Self::weighted_losses) by `logits`, on backends with [`COHORTS`](Self::COHORTS).
    fn weighted_losses_backward(
        logits: Tensor<Self, 2>,
        targets: Tensor<Self, 1, Int>,
        weights: Tensor<Self, 1>,
        d_losses: Tensor<Self, 1>,
    ) -> Tensor<Self, 2> {
        no_backward_pass("weighted_losses", (logits, targets, weights, d_losses))
    }

    /// One step of all parameters; see [`crate::optim::update`].
    fn update(
        params: Vec<Learned<Self>>,
        rule: &Rule,
        step: u64,
        grad_scale: f64,
    ) -> (Vec<Learned<Self>>, Vec<bool>) {
        reference::update(params, rule, step, grad_scale)
    }

    /// One step of all parameters of a cohort; see [`crate::optim::update_each`].
    fn update_each(
        params: Vec<Learned<Self>>,
        paces: &[Pace],
        step: u64,
    ) -> (Vec<Learned<Self>>, Vec<bool>) {
        reference::update_each(params, paces, step, Self::update)
    }

    /// Of each array the sum of the squares of all entries; see [`crate::optim::sums_of_squares`].
    fn sums_of_squares(arrays: Vec<Tensor<Self, 1>>) -> Vec<f64> {
        reference::sums_of_squares(arrays)
    }
}
