//! The CPU: [`Ops`] for [`Flex`], from tensors to slices and back.

use burn::tensor::{DType, Int, Tensor, TensorData, TensorPrimitive};
use burn_flex::{Flex, FlexTensor};

use crate::{
    Activation, Attend, Dropout, Gelu, Ops, QueryRows, Rotary, Saved,
    kernel::{
        self,
        attention::{Chosen, Form, Places},
        lstm::Dims,
    },
    optim::{Learned, Rule},
    saved::ApartGrads,
};

mod attention;

use attention::{apart_backward, attention_dims, attention_of, attention_of_at, by_key, looked_up};

/// The numbers of a tensor, dense and in order.
fn dense<const D: usize>(tensor: Tensor<Flex, D>) -> FlexTensor {
    tensor.into_primitive().tensor().to_contiguous()
}

/// A tensor of the numbers of a kernel.
fn tensor<const D: usize>(numbers: Vec<f32>, shape: [usize; D]) -> Tensor<Flex, D> {
    wrap(primitive(numbers, shape))
}

fn primitive<const D: usize>(numbers: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(numbers, shape))
}

/// Numbers in a row, to be kept for a backward pass.
fn row(numbers: Vec<f32>) -> FlexTensor {
    let len = numbers.len();
    primitive(numbers, [len])
}

fn wrap<const D: usize>(primitive: FlexTensor) -> Tensor<Flex, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// Whole numbers as indices below `bound`.
///
/// # Panics
///
/// If one is negative or not below `bound`, naming `what` it is.
#[track_caller]
fn indices<const D: usize>(what: &str, tensor: Tensor<Flex, D, Int>, bound: usize) -> Vec<u32> {
    let dense = tensor.into_primitive().to_contiguous();
    let check = |index: i64| {
        assert!((0..bound as i64).contains(&index), "{what} {index} is outside 0..{bound}");
        index as u32
    };
    match dense.dtype() {
        DType::I32 => dense.storage::<i32>().iter().map(|&i| check(i64::from(i))).collect(),
        DType::I64 => dense.storage::<i64>().iter().map(|&i| check(i)).collect(),
        other => panic!("{what}s are {other:?}, expected 32 or 64 bit integers"),
    }
}

impl Ops for Flex {
    const FUSED: bool = true;

    fn embed(table: Tensor<Self, 2>, tokens: Tensor<Self, 2, Int>) -> Tensor<Self, 3> {
        let ([batch, seq_len], [d_vocab, d]) = (tokens.dims(), table.dims());
        let tokens = indices("token", tokens, d_vocab);
        let table = dense(table);
        tensor(kernel::rows::gather(table.storage(), d, &tokens), [batch, seq_len, d])
    }

    fn embed_backward(
        tokens: Tensor<Self, 2, Int>,
        d_vocab: usize,
        d_y: Tensor<Self, 3>,
    ) -> Tensor<Self, 2> {
        let [_, _, d] = d_y.dims();
        let tokens = indices("token", tokens, d_vocab);
        let d_y = dense(d_y);
        tensor(kernel::rows::scatter_sum(d_y.storage(), d, &tokens, d_vocab), [d_vocab, d])
    }

    fn embed_at(
        table: Tensor<Self, 2>,
        places: Tensor<Self, 2>,
        scale: f64,
        tokens: Tensor<Self, 2, Int>,
    ) -> Tensor<Self, 3> {
        let ([batch, n_pos], [d_vocab, d]) = (tokens.dims(), table.dims());
        let [n_ctx, d_places] = places.dims();
        assert!(
            n_pos <= n_ctx && d_places == d,
            "places: [{n_ctx}, {d_places}] do not fit [batch, {n_pos}, {d}]"
        );
        let tokens = indices("token", tokens, d_vocab);
        let (table, places) = (dense(table), dense(places));
        let rows = (tokens.as_slice(), n_pos);
        let y = kernel::rows::gather_at(table.storage(), places.storage(), scale as f32, d, rows);
        tensor(y, [batch, n_pos, d])
    }

    fn embed_at_backward(n_ctx: usize, scale: f64, d_y: Tensor<Self, 3>) -> Tensor<Self, 2> {
        let [_, n_pos, d] = d_y.dims();
        let d_y = dense(d_y);
        let sums = kernel::rows::example_sums(d_y.storage(), scale as f32, d, n_pos, n_ctx);
        tensor(sums, [n_ctx, d])
    }

    fn add<const D: usize>(x: Tensor<Self, D>, y: Tensor<Self, D>) -> Tensor<Self, D> {
        let shape = x.dims();
        assert_eq!(shape, y.dims(), "x and y are not of one shape");
        let (mut x, mut y) = (dense(x), dense(y));
        if x.is_unique() {
            kernel::rows::add_to(x.storage_mut(), y.storage());
            wrap(x)
        } else if y.is_unique() {
            kernel::rows::add_to(y.storage_mut(), x.storage());
            wrap(y)
        } else {
            tensor(kernel::rows::sum(x.storage(), y.storage()), shape)
        }
    }

    fn linear(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 2> {
        let ([n_rows, d_in, d_out], [x, weight], bias) = linear_operands(x, weight, bias);
        let bias = bias.as_ref().map(|bias| bias.storage());
        let y = kernel::linear::forward(x.storage(), weight.storage(), bias, d_in, d_out);
        tensor(y, [n_rows, d_out])
    }

    fn linear_backward(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        wanted: [bool; 3],
        d_y: Tensor<Self, 2>,
    ) -> (Option<Tensor<Self, 2>>, Option<Tensor<Self, 2>>, Option<Tensor<Self, 1>>) {
        let ([n_rows, d_in], [_, d_out]) = (x.dims(), weight.dims());
        let (x, weight, d_y) = (dense(x), dense(weight), dense(d_y));
        let (x, weight, d_y) = (x.storage(), weight.storage(), d_y.storage());
        let [d_x, d_weight, d_bias] = wanted;
        let d_x = d_x.then(|| kernel::linear::d_x(d_y, weight, d_in, d_out));
        let d_weight = d_weight.then(|| kernel::linear::d_weight(x, d_y, d_in, d_out));
        let d_bias = d_bias.then(|| kernel::rows::column_sums(d_y, d_out));
        (
            d_x.map(|d_x| tensor(d_x, [n_rows, d_in])),
            d_weight.map(|d_weight| tensor(d_weight, [d_in, d_out])),
            d_bias.map(|d_bias| tensor(d_bias, [d_out])),
        )
    }

    fn linear_act(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
        act: Activation,
    ) -> Tensor<Self, 2> {
        let ([n_rows, d_in, d_product], [x, weight], bias) = linear_operands(x, weight, bias);
        let bias = bias.as_ref().map(|bias| bias.storage());
        let dims = [d_in, d_product];
        let y = kernel::linear::forward_act(x.storage(), weight.storage(), bias, dims, act);
        tensor(y, [n_rows, act.d_out(d_product)])
    }

    fn linear_act_saved(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
        act: Activation,
    ) -> (Tensor<Self, 2>, Saved<Self>) {
        let ([n_rows, d_in, d_product], [x, weight], bias) = linear_operands(x, weight, bias);
        let bias = bias.as_ref().map(|bias| bias.storage());
        let dims = [d_in, d_product];
        let (product, y) =
            kernel::linear::forward_act_saved(x.storage(), weight.storage(), bias, dims, act);
        let saved = Saved(vec![x, weight, primitive(product, [n_rows, d_product])]);
        (tensor(y, [n_rows, act.d_out(d_product)]), saved)
    }

    fn linear_act_backward(
        saved: Saved<Self>,
        act: Activation,
        wanted: [bool; 3],
        d_y: Tensor<Self, 2>,
    ) -> (Option<Tensor<Self, 2>>, Option<Tensor<Self, 2>>, Option<Tensor<Self, 1>>) {
        let [x, weight, product] = saved.take();
        let [n_rows, d_out] = d_y.dims();
        let (product, mut d_y) = (product.storage(), dense(d_y));
        let d_product = if act.gated() {
            let d = kernel::activation::backward_gated(product, act, d_y.storage(), d_out);
            primitive(d, [n_rows, 2 * d_out])
        } else {
            // In place if the graph gave its tensor up; otherwise this copies.
            kernel::activation::backward(product, act, d_y.storage_mut());
            d_y
        };
        <Self as Ops>::linear_backward(wrap(x), wrap(weight), wanted, wrap(d_product))
    }

    fn layer_norm(
        x: Tensor<Self, 2>,
        gain: Tensor<Self, 1>,
        bias: Tensor<Self, 1>,
        epsilon: f64,
    ) -> Tensor<Self, 2> {
        let shape = x.dims();
        assert_eq!([shape[1]; 2], [gain.dims()[0], bias.dims()[0]], "gain and bias are not [d]");
        let (x, gain, bias) = (dense(x), dense(gain), dense(bias));
        let bias = Some(bias.storage());
        let y = kernel::norm::forward(x.storage(), gain.storage(), bias, epsilon as f32);
        tensor(y, shape)
    }

    fn layer_norm_backward(
        x: Tensor<Self, 2>,
        gain: Tensor<Self, 1>,
        epsilon: f64,
        d_y: Tensor<Self, 2>,
    ) -> (Tensor<Self, 2>, Tensor<Self, 1>, Tensor<Self, 1>) {
        let (shape, [d]) = (x.dims(), gain.dims());
        let (x, gain, d_y) = (dense(x), dense(gain), dense(d_y));
        let (x, gain, d_y) = (x.storage(), gain.storage(), d_y.storage());
        let (d_x, d_gain, d_bias) = kernel::norm::layer_norm_backward(x, gain, epsilon as f32, d_y);
        (tensor(d_x, shape), tensor(d_gain, [d]), tensor(d_bias, [d]))
    }

    fn rms_norm(x: Tensor<Self, 2>, gain: Tensor<Self, 1>, epsilon: f64) -> Tensor<Self, 2> {
        let shape = x.dims();
        assert_eq!(shape[1], gain.dims()[0], "gain is not [d]");
        let (x, gain) = (dense(x), dense(gain));
        tensor(kernel::norm::forward(x.storage(), gain.storage(), None, epsilon as f32), shape)
    }

    fn rms_norm_backward(
        x: Tensor<Self, 2>,
        gain: Tensor<Self, 1>,
        epsilon: f64,
        d_y: Tensor<Self, 2>,
    ) -> (Tensor<Self, 2>, Tensor<Self, 1>) {
        let (shape, [d]) = (x.dims(), gain.dims());
        let (x, gain, d_y) = (dense(x), dense(gain), dense(d_y));
        let (x, gain, d_y) = (x.storage(), gain.storage(), d_y.storage());
        let (d_x, d_gain) = kernel::norm::rms_norm_backward(x, gain, epsilon as f32, d_y);
        (tensor(d_x, shape), tensor(d_gain, [d]))
    }

    fn gelu(x: Tensor<Self, 2>, form: Gelu) -> Tensor<Self, 2> {
        let shape = x.dims();
        tensor(kernel::activation::forward(dense(x).storage(), Activation::Gelu(form)), shape)
    }

    fn gelu_backward(x: Tensor<Self, 2>, form: Gelu, d_y: Tensor<Self, 2>) -> Tensor<Self, 2> {
        // In place if the graph gave its tensor up; otherwise this copies.
        let (x, mut d) = (dense(x), dense(d_y));
        kernel::activation::backward(x.storage(), Activation::Gelu(form), d.storage_mut());
        wrap(d)
    }

    fn causal_attention(
        qkv: Tensor<Self, 3>,
        bias: Option<Tensor<Self, 2>>,
        attend: &Attend,
    ) -> Tensor<Self, 3> {
        let ([batch, seq_len, d], dims) = attention_dims(&qkv, 3, attend.n_heads);
        let bias = bias.map(|bias| by_key(&dense(bias), dims));
        let form = Form::new(dims, attend, bias.as_deref());
        let (y, _) = kernel::attention::forward_all(dense(qkv).storage(), form, false);
        tensor(y, [batch, seq_len, d + attend.n_stats()])
    }

    fn causal_attention_saved(
        qkv: Tensor<Self, 3>,
        bias: Option<Tensor<Self, 2>>,
        attend: &Attend,
    ) -> (Tensor<Self, 3>, Saved<Self>) {
        let ([batch, seq_len, d], dims) = attention_dims(&qkv, 3, attend.n_heads);
        let (qkv, bias) = (dense(qkv), bias.map(dense));
        let by_key = bias.as_ref().map(|bias| by_key(bias, dims));
        let form = Form::new(dims, attend, by_key.as_deref());
        let (y, lse) = kernel::attention::forward_all(qkv.storage(), form, true);
        let y: Tensor<Self, 3> = tensor(y, [batch, seq_len, d + attend.n_stats()]);
        let saved = vec![qkv, y.clone().into_primitive().tensor(), row(lse)];
        (y, Saved(saved.into_iter().chain(bias).collect()))
    }

    fn causal_attention_backward(
        saved: Saved<Self>,
        attend: &Attend,
        d_y: Tensor<Self, 3>,
    ) -> (Tensor<Self, 3>, Option<Tensor<Self, 2>>) {
        let ([qkv, y, lse], bias) = saved.take_and_more();
        let qkv: Tensor<Self, 3> = wrap(qkv);
        let (shape, (_, dims)) = (qkv.dims(), attention_dims(&qkv, 3, attend.n_heads));
        let (qkv, d_y) = (dense(qkv), dense(d_y));
        let bias = bias.map(|bias| by_key(&bias, dims));
        let form = Form::new(dims, attend, bias.as_deref());
        let trace = kernel::attention::Trace { y: y.storage(), lse: lse.storage() };
        let (d_qkv, d_bias) =
            kernel::attention::backward_all(qkv.storage(), form, trace, d_y.storage());
        (tensor(d_qkv, shape), d_bias.map(|d_bias| tensor(d_bias, [dims.n_heads, dims.seq_len])))
    }

    fn causal_attention_at(
        q: Tensor<Self, 2>,
        kv: Tensor<Self, 3>,
        bias: Option<Tensor<Self, 2>>,
        rows: &QueryRows,
        attend: &Attend,
    ) -> Tensor<Self, 2> {
        let (y, _) = Self::causal_attention_at_saved(q, kv, bias, rows, attend);
        y
    }

    fn causal_attention_at_saved(
        q: Tensor<Self, 2>,
        kv: Tensor<Self, 3>,
        bias: Option<Tensor<Self, 2>>,
        rows: &QueryRows,
        attend: &Attend,
    ) -> (Tensor<Self, 2>, Saved<Self>) {
        let ([batch, seq_len, d], dims) = attention_dims(&kv, 2, attend.n_heads);
        assert_eq!(q.dims(), [rows.len(), d], "q is not [queries, d] of these rows and keys");
        assert_eq!(rows.seq_len(), seq_len, "rows are of another seq_len than kv");
        let (q, kv, places) = (dense(q), dense(kv), &Places::of(rows, batch));
        let bias = bias.map(dense);
        let by_key = bias.as_ref().map(|bias| by_key(bias, dims));
        let form = Form::new(dims, attend, by_key.as_deref());
        let (q_rows, kv_rows) = (q.storage(), kv.storage());
        let (y, lse) = Chosen { q: q_rows, kv: kv_rows, places, form }.forward();
        let y: Tensor<Self, 2> = tensor(y, [rows.len(), d + attend.n_stats()]);
        let saved = vec![q, kv, y.clone().into_primitive().tensor(), row(lse)];
        (y, Saved(saved.into_iter().chain(bias).collect()))
    }

    fn causal_attention_at_backward(
        saved: Saved<Self>,
        rows: &QueryRows,
        attend: &Attend,
        d_y: Tensor<Self, 2>,
    ) -> (Tensor<Self, 2>, Tensor<Self, 3>, Option<Tensor<Self, 2>>) {
        let ([q, kv, y, lse], bias) = saved.take_and_more();
        let kv: Tensor<Self, 3> = wrap(kv);
        let (kv_shape, ([batch, _, d], dims)) = (kv.dims(), attention_dims(&kv, 2, attend.n_heads));
        let (kv, d_y, places) = (dense(kv), dense(d_y), &Places::of(rows, batch));
        let bias = bias.map(|bias| by_key(&bias, dims));
        let form = Form::new(dims, attend, bias.as_deref());
        let trace = kernel::attention::Trace { y: y.storage(), lse: lse.storage() };
        let chosen = Chosen { q: q.storage(), kv: kv.storage(), places, form };
        let (d_q, d_kv, d_bias) = chosen.backward(trace, d_y.storage());
        let d_bias = d_bias.map(|d_bias| tensor(d_bias, [dims.n_heads, dims.seq_len]));
        (tensor(d_q, [rows.len(), d]), tensor(d_kv, kv_shape), d_bias)
    }

    fn causal_attention_of(
        q: Tensor<Self, 3>,
        k: Tensor<Self, 3>,
        v: Tensor<Self, 3>,
        attend: &Attend,
    ) -> Tensor<Self, 3> {
        attention_of(q, k, v, attend, false).0
    }

    fn causal_attention_of_saved(
        q: Tensor<Self, 3>,
        k: Tensor<Self, 3>,
        v: Tensor<Self, 3>,
        attend: &Attend,
    ) -> (Tensor<Self, 3>, Saved<Self>) {
        attention_of(q, k, v, attend, true)
    }

    fn causal_attention_of_backward(
        saved: Saved<Self>,
        attend: &Attend,
        wanted: [bool; 3],
        d_y: Tensor<Self, 3>,
    ) -> [Option<Tensor<Self, 3>>; 3] {
        let [batch, seq_len, width] = d_y.dims();
        let d_y = d_y.reshape([batch * seq_len, width]);
        let places = &Places::all(batch, seq_len);
        let (d_q, [d_k, d_v]) = apart_backward(saved, places, attend, wanted, d_y);
        let d_q = d_q.map(|d_q| {
            let [_, d] = d_q.dims();
            d_q.reshape([batch, seq_len, d])
        });
        [d_q, d_k, d_v]
    }

    fn causal_attention_of_at(
        q: Tensor<Self, 2>,
        k: Tensor<Self, 3>,
        v: Tensor<Self, 3>,
        rows: &QueryRows,
        attend: &Attend,
    ) -> Tensor<Self, 2> {
        attention_of_at(q, k, v, rows, attend, false).0
    }

    fn causal_attention_of_at_saved(
        q: Tensor<Self, 2>,
        k: Tensor<Self, 3>,
        v: Tensor<Self, 3>,
        rows: &QueryRows,
        attend: &Attend,
    ) -> (Tensor<Self, 2>, Saved<Self>) {
        attention_of_at(q, k, v, rows, attend, true)
    }

    fn causal_attention_of_at_backward(
        saved: Saved<Self>,
        rows: &QueryRows,
        attend: &Attend,
        wanted: [bool; 3],
        d_y: Tensor<Self, 2>,
    ) -> ApartGrads<Self> {
        let [_, k, ..] = &saved.0[..] else { panic!("nothing was saved") };
        let places = &Places::of(rows, k.layout().shape()[0]);
        apart_backward(saved, places, attend, wanted, d_y)
    }

    fn causal_attention_looked_up(
        tokens: Tensor<Self, 2, Int>,
        scores: Tensor<Self, 2>,
        d_vocab: usize,
        values: Tensor<Self, 3>,
        attend: &Attend,
    ) -> Tensor<Self, 3> {
        Self::causal_attention_looked_up_saved(tokens, scores, d_vocab, values, attend).0
    }

    fn causal_attention_looked_up_saved(
        tokens: Tensor<Self, 2, Int>,
        scores: Tensor<Self, 2>,
        d_vocab: usize,
        values: Tensor<Self, 3>,
        attend: &Attend,
    ) -> (Tensor<Self, 3>, Saved<Self>) {
        let ([batch, seq_len], [_, _, d_value]) = (tokens.dims(), values.dims());
        let (scores, values) = (dense(scores), dense(values));
        let tokens = &indices("token", tokens, d_vocab);
        let (y, lse) = looked_up(tokens, seq_len, &scores, d_vocab, &values, attend).forward();
        let y: Tensor<Self, 3> = tensor(y, [batch, seq_len, d_value + attend.n_stats()]);
        let y_kept = y.clone().into_primitive().tensor();
        (y, Saved(vec![scores, values, y_kept, row(lse)]))
    }

    fn causal_attention_looked_up_backward(
        saved: Saved<Self>,
        tokens: Tensor<Self, 2, Int>,
        d_vocab: usize,
        attend: &Attend,
        wanted: [bool; 2],
        d_y: Tensor<Self, 3>,
    ) -> (Option<Tensor<Self, 2>>, Option<Tensor<Self, 3>>) {
        let [scores, values, y, lse] = saved.take();
        let ([_, seq_len], d_y) = (tokens.dims(), dense(d_y));
        let tokens = &indices("token", tokens, d_vocab);
        let looked_up = looked_up(tokens, seq_len, &scores, d_vocab, &values, attend);
        let trace = kernel::attention::Trace { y: y.storage(), lse: lse.storage() };
        let [d_scores, d_values] = looked_up.backward(trace, d_y.storage(), wanted);
        let of_scores = Tensor::<Self, 2>::dims(&wrap(scores.clone()));
        let of_values = Tensor::<Self, 3>::dims(&wrap(values.clone()));
        (d_scores.map(|d| tensor(d, of_scores)), d_values.map(|d| tensor(d, of_values)))
    }

    fn rotary(
        x: Tensor<Self, 2>,
        n_turned: usize,
        rows: &QueryRows,
        rotary: &Rotary,
    ) -> Tensor<Self, 2> {
        turned(x, n_turned, rows, rotary, 1.0)
    }

    fn rotary_backward(
        n_turned: usize,
        rows: &QueryRows,
        rotary: &Rotary,
        d_y: Tensor<Self, 2>,
    ) -> Tensor<Self, 2> {
        turned(d_y, n_turned, rows, rotary, -1.0)
    }

    fn dropout(x: Tensor<Self, 2>, rows: &QueryRows, dropout: &Dropout) -> Tensor<Self, 2> {
        let [n_rows, d] = x.dims();
        assert_eq!(n_rows, rows.len(), "x: [{n_rows}, {d}] does not fit {} places", rows.len());
        // In place if nobody else holds the tensor; otherwise this copies.
        let mut x = dense(x);
        kernel::rows::drop_some(x.storage_mut(), d, rows, dropout);
        wrap(x)
    }

    fn cross_entropy(logits: Tensor<Self, 2>, targets: Tensor<Self, 1, Int>) -> Tensor<Self, 1> {
        let (targets, d_vocab) = targets_of(&logits, targets);
        let loss = kernel::pointwise::cross_entropy(dense(logits).storage(), &targets, d_vocab);
        tensor(vec![loss], [1])
    }

    fn cross_entropy_backward(
        logits: Tensor<Self, 2>,
        targets: Tensor<Self, 1, Int>,
        d_loss: Tensor<Self, 1>,
    ) -> Tensor<Self, 2> {
        let (targets, d_vocab) = targets_of(&logits, targets);
        // In place if the graph gave its tensor up; otherwise this copies.
        let (mut d, d_loss) = (dense(logits), dense(d_loss).storage::<f32>()[0]);
        kernel::pointwise::cross_entropy_backward(d.storage_mut(), &targets, d_vocab, d_loss);
        wrap(d)
    }

    fn update(
        params: Vec<Learned<Self>>,
        rule: &Rule,
        step: u64,
        grad_scale: f64,
    ) -> (Vec<Learned<Self>>, Vec<bool>) {
        let mut rows: Vec<Rows> = params.into_iter().map(Rows::of).collect();
        let finite = match rule {
            Rule::AdamW(rule) => {
                let params = rows.iter_mut().map(Rows::part).collect();
                kernel::optim::adamw(params, rule, step, grad_scale)
            }
            Rule::Sgd(rule) => {
                let params = rows.iter_mut().map(Rows::part).collect();
                kernel::optim::sgd(params, rule, step, grad_scale)
            }
        };
        (rows.into_iter().map(Rows::into_learned).collect(), finite)
    }

    fn sums_of_squares(arrays: Vec<Tensor<Self, 1>>) -> Vec<f64> {
        let arrays: Vec<FlexTensor> = arrays.into_iter().map(dense).collect();
        let arrays: Vec<&[f32]> = arrays.iter().map(|x| x.storage()).collect();
        kernel::optim::sums_of_squares(&arrays)
    }

    fn lstm(gates_in: Tensor<Self, 3>, w_hh: Tensor<Self, 2>) -> Tensor<Self, 3> {
        let dims = lstm_dims(&gates_in, &w_hh);
        let (gates_in, w_hh) = (dense(gates_in), dense(w_hh));
        let h = kernel::lstm::forward(gates_in.storage(), w_hh.storage(), dims);
        tensor(h, [dims.batch, dims.seq_len, dims.d])
    }

    fn lstm_of(
        table: Tensor<Self, 2>,
        tokens: Tensor<Self, 2, Int>,
        w_hh: Tensor<Self, 2>,
    ) -> Tensor<Self, 3> {
        let ([batch, seq_len], [d_vocab, d4], [d, w_cols]) =
            (tokens.dims(), table.dims(), w_hh.dims());
        assert!(
            d4 == 4 * d && w_cols == d4,
            "table: [d_vocab, {d4}] does not fit w_hh: [{d}, {w_cols}]; expected [d, 4 d]"
        );
        let tokens = indices("token", tokens, d_vocab);
        let (table, w_hh, dims) = (dense(table), dense(w_hh), Dims { batch, seq_len, d });
        let h = kernel::lstm::forward_of(table.storage(), &tokens, w_hh.storage(), dims);
        tensor(h, [batch, seq_len, d])
    }

    fn lstm_saved(
        gates_in: Tensor<Self, 3>,
        w_hh: Tensor<Self, 2>,
    ) -> (Tensor<Self, 3>, Saved<Self>) {
        let dims = lstm_dims(&gates_in, &w_hh);
        let shape = [dims.batch, dims.seq_len, dims.d];
        // In place if the caller gave its tensor up; otherwise this copies.
        let (mut gates, w_hh) = (dense(gates_in), dense(w_hh));
        let (h, c) = kernel::lstm::forward_saved(gates.storage_mut(), w_hh.storage(), dims);
        let h: Tensor<Self, 3> = tensor(h, shape);
        let h_kept = h.clone().into_primitive().tensor();
        (h, Saved(vec![gates, primitive(c, shape), h_kept, w_hh]))
    }

    fn lstm_backward(
        saved: Saved<Self>,
        d_h: Tensor<Self, 3>,
    ) -> (Tensor<Self, 3>, Tensor<Self, 2>) {
        let [batch, seq_len, d] = d_h.dims();
        let [mut gates, c, h, w_hh] = saved.take();
        let d_h = dense(d_h);
        let d_w_hh = kernel::lstm::backward(
            gates.storage_mut(),
            kernel::lstm::Trace { c: c.storage(), h: h.storage() },
            w_hh.storage(),
            d_h.storage(),
            Dims { batch, seq_len, d },
        );
        (wrap(gates), tensor(d_w_hh, [d, 4 * d]))
    }
}

/// `[rows, d_in, d_out]`, `x` and weight, and the bias of a linear layer, dense.
///
/// # Panics
///
/// If they do not fit each other.
#[track_caller]
fn linear_operands(
    x: Tensor<Flex, 2>,
    weight: Tensor<Flex, 2>,
    bias: Option<Tensor<Flex, 1>>,
) -> ([usize; 3], [FlexTensor; 2], Option<FlexTensor>) {
    let ([n_rows, d_x], [d_in, d_out]) = (x.dims(), weight.dims());
    assert_eq!(d_x, d_in, "x: [rows, {d_x}] does not fit weight: [{d_in}, {d_out}]");
    if let Some(bias) = &bias {
        let [d_bias] = bias.dims();
        assert_eq!(d_bias, d_out, "bias: [{d_bias}] does not fit weight: [{d_in}, {d_out}]");
    }
    ([n_rows, d_in, d_out], [dense(x), dense(weight)], bias.map(dense))
}

/// A [`Learned`] whose numbers can be reached.
struct Rows {
    param: FlexTensor,
    grad: FlexTensor,
    kept: Vec<FlexTensor>,
}

impl Rows {
    fn of(learned: Learned<Flex>) -> Self {
        let kept = learned.kept.into_iter().map(dense).collect();
        Self { param: dense(learned.param), grad: dense(learned.grad), kept }
    }

    /// The numbers as the kernels want them; where the caller gave its tensors up they are not copied.
    fn part<const N: usize>(&mut self) -> kernel::optim::Part<'_, N> {
        let mut kept = self.kept.iter_mut();
        kernel::optim::Part {
            param: self.param.storage_mut(),
            grad: self.grad.storage(),
            kept: [(); N].map(|()| kept.next().expect("checked at the door").storage_mut()),
        }
    }

    fn into_learned(self) -> Learned<Flex> {
        let kept = self.kept.into_iter().map(wrap).collect();
        Learned { param: wrap(self.param), grad: wrap(self.grad), kept }
    }
}

/// The sizes of an LSTM.
///
/// # Panics
///
/// If `w_hh` is not `[d, 4 d]` for gates of width `4 d`.
#[track_caller]
fn lstm_dims(gates_in: &Tensor<Flex, 3>, w_hh: &Tensor<Flex, 2>) -> Dims {
    let ([batch, seq_len, d4], [d, w_cols]) = (gates_in.dims(), w_hh.dims());
    assert!(
        d4 == 4 * d && w_cols == d4,
        "gates_in: [batch, pos, {d4}] does not fit w_hh: [{d}, {w_cols}]; expected [d, 4 d]"
    );
    Dims { batch, seq_len, d }
}

/// Turned heads; `sign` is -1 to turn them back.
#[track_caller]
fn turned(
    x: Tensor<Flex, 2>,
    n_turned: usize,
    rows: &QueryRows,
    rotary: &Rotary,
    sign: f32,
) -> Tensor<Flex, 2> {
    let [n_rows, d] = x.dims();
    rotary.check([n_rows, d], n_turned, rows);
    // In place if the caller gave its tensor up; otherwise this copies.
    let mut x = dense(x);
    kernel::rotary::turn(x.storage_mut(), d, n_turned, rows, rotary, sign);
    wrap(x)
}

/// The targets of `logits: [rows, d_vocab]`, and `d_vocab`.
#[track_caller]
fn targets_of(logits: &Tensor<Flex, 2>, targets: Tensor<Flex, 1, Int>) -> (Vec<u32>, usize) {
    let ([n_rows, d_vocab], [n_targets]) = (logits.dims(), targets.dims());
    assert_eq!(n_rows, n_targets, "logits: [{n_rows}, {d_vocab}] of {n_targets} targets");
    (indices("target", targets, d_vocab), d_vocab)
}
