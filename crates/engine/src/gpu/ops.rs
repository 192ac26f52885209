//! [`Ops`] for every backend of CubeCL: from tensors to kernels and back.

use burn::tensor::{DType, Int, Tensor, TensorPrimitive};
use burn_cubecl::cubecl::prelude::CubeElement as _;
use burn_cubecl::kernel::cast;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, tensor::CubeTensor};

use super::attend::{self, Kept, Layout, Operand, dropped};
use super::kernel::heads::Part;
use super::kernel::lookup::{self, Table};
use super::kernel::lstm::Dims;
use super::kernel::optim::Members;
use super::kernel::places::Turned;
use super::kernel::rows::{column_sums, column_sums_and, in_type};
use super::kernel::{act, dense, ints, loss, lstm, narrow, norm, optim, places};
use super::product::{
    by_member, dims, layer_product, operand, operand_type, product, product_over_rows, result_type,
    shaped, transposed,
};
use crate::{
    Activation, Attend, Dropout, Gelu, Ops, QueryRows, Rotary, Saved, cohort,
    optim::{Learned, Pace, Rule},
    saved::ApartGrads,
};

type Gpu<R, BT> = CubeBackend<R, f32, i32, BT>;

/// The numbers of a tensor, dense and in order.
fn raw<R: CubeRuntime, BT: BoolElement, const D: usize>(
    tensor: Tensor<Gpu<R, BT>, D>,
) -> CubeTensor<R> {
    dense(tensor.into_primitive().tensor())
}

/// Whole numbers of 32 bits, dense and in order.
fn raw_ints<R: CubeRuntime, BT: BoolElement, const D: usize>(
    tensor: Tensor<Gpu<R, BT>, D, Int>,
) -> CubeTensor<R> {
    let tensor = tensor.into_primitive();
    dense(if tensor.dtype == DType::I32 { tensor } else { cast(tensor, DType::I32) })
}

/// A tensor of the numbers of a kernel.
fn wrap<R: CubeRuntime, BT: BoolElement, const D: usize>(
    numbers: CubeTensor<R>,
    shape: [usize; D],
) -> Tensor<Gpu<R, BT>, D> {
    Tensor::from_primitive(TensorPrimitive::Float(shaped(numbers, shape)))
}

/// Flat places of rows, on the device.
fn flat<R: CubeRuntime>(rows: &QueryRows, like: &CubeTensor<R>) -> CubeTensor<R> {
    let flat: Vec<i32> = rows.flat().iter().map(|&row| row as i32).collect();
    ints(&flat, like)
}

/// Single precision numbers, on the device of `like`.
fn floats<R: CubeRuntime>(numbers: &[f32], like: &CubeTensor<R>) -> CubeTensor<R> {
    let (client, device) = (like.client.clone(), like.device.clone());
    let handle = client.create_from_slice(f32::as_bytes(numbers));
    CubeTensor::new_contiguous(client, device, [numbers.len()].into(), handle, DType::F32)
}

/// A part of rows that holds `n_parts` of one width, each `n_heads` wide.
#[track_caller]
fn part(width: usize, n_parts: usize, which: usize, n_heads: usize) -> Part {
    let d = width / n_parts;
    assert!(
        n_heads > 0 && d * n_parts == width && d.is_multiple_of(n_heads),
        "[.., {width}] is not {n_parts} parts of {n_heads} heads each"
    );
    Part { width, offset: which * d, n_heads, d_head: d / n_heads }
}

/// Checks that a bias is `[members * head, distance]` of these heads and keys.
#[track_caller]
fn check_bias<R: CubeRuntime>(bias: Option<&CubeTensor<R>>, n_heads: usize, seq_len: usize) {
    if let Some(bias) = bias {
        let [n_biases, n_distances] = [bias.meta.shape()[0], bias.meta.shape()[1]];
        let fits = "bias is not [head, distance] of these heads and keys";
        assert!(n_biases.is_multiple_of(n_heads) && n_distances == seq_len, "{fits}");
    }
}

/// How many members' layers there are.
#[track_caller]
fn check_linear(
    [n_in, d_in]: [usize; 2],
    [d_weight, d_out]: [usize; 2],
    bias: Option<usize>,
) -> usize {
    assert!(
        d_in > 0 && d_weight.is_multiple_of(d_in),
        "x: [{n_in}, {d_in}] does not fit weight: [{d_weight}, {d_out}]"
    );
    let n_members = (d_weight / d_in).max(1);
    if let Some(bias) = bias {
        let expected = n_members * d_out;
        assert_eq!(bias, expected, "bias: [{bias}] does not fit weight: [{d_weight}, {d_out}]");
    }
    n_members
}

impl<R: CubeRuntime, BT: BoolElement> Ops for Gpu<R, BT> {
    const FUSED: bool = true;
    const COHORTS: bool = true;
    const COMPILES: bool = true;

    fn embed(table: Tensor<Self, 2>, tokens: Tensor<Self, 2, Int>) -> Tensor<Self, 3> {
        Self::embed_each(table, tokens, 1)
    }

    fn embed_each(
        table: Tensor<Self, 2>,
        tokens: Tensor<Self, 2, Int>,
        n_members: usize,
    ) -> Tensor<Self, 3> {
        let ([batch, n_pos], [_, d]) = (tokens.dims(), table.dims());
        let shape = [batch, n_pos, d];
        wrap(places::embed(raw(table), None, raw_ints(tokens), shape, n_members), shape)
    }

    fn embed_each_backward(
        tokens: Tensor<Self, 2, Int>,
        d_vocab: usize,
        n_members: usize,
        d_y: Tensor<Self, 3>,
    ) -> Tensor<Self, 2> {
        let [batch, n_pos, d] = d_y.dims();
        let (sizes, tokens) = ([batch * n_pos, d], raw_ints(tokens));
        let d_table = places::embed_backward(tokens, raw(d_y), d_vocab, n_members, sizes);
        wrap(d_table, [n_members * d_vocab, d])
    }

    fn embed_backward(
        tokens: Tensor<Self, 2, Int>,
        d_vocab: usize,
        d_y: Tensor<Self, 3>,
    ) -> Tensor<Self, 2> {
        Self::embed_each_backward(tokens, d_vocab, 1, d_y)
    }

    fn embed_at(
        table: Tensor<Self, 2>,
        places: Tensor<Self, 2>,
        scale: f64,
        tokens: Tensor<Self, 2, Int>,
    ) -> Tensor<Self, 3> {
        let ([batch, n_pos], [_, d]) = (tokens.dims(), table.dims());
        assert!(places.dims()[0] >= n_pos, "there are fewer places than {n_pos}");
        let (shape, at) = ([batch, n_pos, d], Some((raw(places), scale)));
        wrap(places::embed(raw(table), at, raw_ints(tokens), shape, 1), shape)
    }

    fn embed_at_backward(n_ctx: usize, scale: f64, d_y: Tensor<Self, 3>) -> Tensor<Self, 2> {
        let shape = d_y.dims();
        wrap(places::places_backward(raw(d_y), scale, n_ctx, shape), [n_ctx, shape[2]])
    }

    fn matrices<const D: usize>(x: Tensor<Self, D>, y: Tensor<Self, D>) -> Tensor<Self, D> {
        let (of_x, of_y) = (x.dims(), y.dims());
        assert_eq!(of_x[..D - 2], of_y[..D - 2], "{of_x:?} and {of_y:?} are not of one batch");
        let ([m, k], n) = ([of_x[D - 2], of_x[D - 1]], of_y[D - 1]);
        let batch = of_x[..D - 2].iter().product();
        let product = product(shaped(raw(x), [batch, m, k]), shaped(raw(y), [batch, k, n]));
        let mut shape = of_x;
        shape[D - 1] = n;
        wrap(product, shape)
    }

    fn linear(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 2> {
        let ([n_rows, _], [_, d_out]) = (x.dims(), weight.dims());
        let n = check_linear(x.dims(), weight.dims(), bias.as_ref().map(|bias| bias.dims()[0]));
        let (x, weight, biases) =
            (by_member(raw(x), n), by_member(raw(weight), n), bias.clone().map(raw));
        let (y, has_bias) = layer_product(x, weight, biases.as_ref(), result_type());
        match bias {
            Some(bias) if !has_bias => {
                let y = wrap::<R, BT, 3>(y, [n, n_rows / n, d_out]) + bias.reshape([n, 1, d_out]);
                y.reshape([n_rows, d_out])
            }
            _ => wrap(y, [n_rows, d_out]),
        }
    }

    fn linear_factors(x: Tensor<Self, 2>, weight: Tensor<Self, 2>) -> [Tensor<Self, 2>; 2] {
        let (of_x, of_weight) = (x.dims(), weight.dims());
        if narrow::is_narrow(of_x[1], of_weight[1]) {
            return [x, weight];
        }
        [wrap(operand(raw(x)), of_x), wrap(operand(raw(weight)), of_weight)]
    }

    fn linear_backward(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        wanted: [bool; 3],
        d_y: Tensor<Self, 2>,
    ) -> (Option<Tensor<Self, 2>>, Option<Tensor<Self, 2>>, Option<Tensor<Self, 1>>) {
        let ([n_rows, d_in], [d_weight, d_out]) = (x.dims(), weight.dims());
        let n = check_linear([n_rows, d_in], [d_weight, d_out], None);
        let (d_bias, d_y) = if wanted[2] {
            let of_each = [n, n_rows / n, d_out];
            let (d_bias, d_y) = column_sums_and(raw(d_y), of_each, operand_type());
            (Some(wrap(d_bias, [n * d_out])), shaped(d_y, [n_rows, d_out]))
        } else {
            (None, operand(raw(d_y)))
        };
        let [d_x, d_weight] = by_factors([raw(x), raw(weight)], [wanted[0], wanted[1]], d_y);
        (d_x, d_weight, d_bias)
    }

    fn linear_act(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
        act: Activation,
    ) -> Tensor<Self, 2> {
        Self::linear_act_saved(x, weight, bias, act).0
    }

    fn linear_act_saved(
        x: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
        act: Activation,
    ) -> (Tensor<Self, 2>, Saved<Self>) {
        let n = check_linear(x.dims(), weight.dims(), bias.as_ref().map(|bias| bias.dims()[0]));
        let ([n_rows, _], [_, d_product]) = (x.dims(), weight.dims());
        let (x, weight, bias) = (operand(raw(x)), operand(raw(weight)), bias.map(raw));
        let factors = [&x, &weight].map(|factor| by_member(factor.clone(), n));
        let [of_x, of_weight] = factors;
        let (made, has_bias) = layer_product(of_x, of_weight, bias.as_ref(), DType::F32);
        let made = shaped(made, [n_rows, d_product]);
        let shape = [n_rows, act.d_out(d_product)];
        let y = act::act(&made, bias.filter(|_| !has_bias), act, shape, result_type());
        (wrap(y, shape), Saved(vec![x, weight, made]))
    }

    fn linear_act_backward(
        saved: Saved<Self>,
        act: Activation,
        wanted: [bool; 3],
        d_y: Tensor<Self, 2>,
    ) -> (Option<Tensor<Self, 2>>, Option<Tensor<Self, 2>>, Option<Tensor<Self, 1>>) {
        let [x, weight, made] = saved.take();
        let [n_rows, d_out] = d_y.dims();
        let n = check_linear(dims(&x), dims(&weight), None);
        let of_each = [n, n_rows / n, d_out];
        let made = act::act_backward(made, raw(d_y), act, of_each, operand_type());
        let d_product = made.d_product.clone();
        let d_bias = wanted[2].then(|| made.by_bias());
        let d_bias = d_bias.map(|d_bias| wrap(d_bias, [n * act.d_product(d_out)]));
        let [d_x, d_weight] = by_factors([x, weight], [wanted[0], wanted[1]], d_product);
        (d_x, d_weight, d_bias)
    }

    fn layer_norm(
        x: Tensor<Self, 2>,
        gain: Tensor<Self, 1>,
        bias: Tensor<Self, 1>,
        epsilon: f64,
    ) -> Tensor<Self, 2> {
        let shape = x.dims();
        cohort::members("gain", gain.dims()[0], shape[1]);
        assert_eq!(gain.dims(), bias.dims(), "gain and bias are not both [d]");
        wrap(norm::norm(raw(x), raw(gain), Some(raw(bias)), epsilon, shape, result_type()), shape)
    }

    fn layer_norm_backward(
        x: Tensor<Self, 2>,
        gain: Tensor<Self, 1>,
        epsilon: f64,
        d_y: Tensor<Self, 2>,
    ) -> (Tensor<Self, 2>, Tensor<Self, 1>, Tensor<Self, 1>) {
        let (shape, [d]) = (x.dims(), gain.dims());
        let (d_x, d_gain, d_bias) =
            norm::norm_backward(raw(x), raw(gain), raw(d_y), epsilon, true, shape);
        (wrap(d_x, shape), wrap(d_gain, [d]), wrap(d_bias.expect("there is a bias"), [d]))
    }

    fn rms_norm(x: Tensor<Self, 2>, gain: Tensor<Self, 1>, epsilon: f64) -> Tensor<Self, 2> {
        let shape = x.dims();
        cohort::members("gain", gain.dims()[0], shape[1]);
        wrap(norm::norm(raw(x), raw(gain), None, epsilon, shape, result_type()), shape)
    }

    fn rms_norm_backward(
        x: Tensor<Self, 2>,
        gain: Tensor<Self, 1>,
        epsilon: f64,
        d_y: Tensor<Self, 2>,
    ) -> (Tensor<Self, 2>, Tensor<Self, 1>) {
        let (shape, [d]) = (x.dims(), gain.dims());
        let (d_x, d_gain, _) =
            norm::norm_backward(raw(x), raw(gain), raw(d_y), epsilon, false, shape);
        (wrap(d_x, shape), wrap(d_gain, [d]))
    }

    fn gelu(x: Tensor<Self, 2>, form: Gelu) -> Tensor<Self, 2> {
        let shape = x.dims();
        wrap(act::act(&raw(x), None, Activation::Gelu(form), shape, result_type()), shape)
    }

    fn gelu_backward(x: Tensor<Self, 2>, form: Gelu, d_y: Tensor<Self, 2>) -> Tensor<Self, 2> {
        let shape = x.dims();
        let (all, act) = ([1, shape[0], shape[1]], Activation::Gelu(form));
        wrap(act::act_backward(raw(x), raw(d_y), act, all, DType::F32).d_product, shape)
    }

    fn causal_attention(
        qkv: Tensor<Self, 3>,
        bias: Option<Tensor<Self, 2>>,
        attend: &Attend,
    ) -> Tensor<Self, 3> {
        Self::causal_attention_saved(qkv, bias, attend).0
    }

    fn causal_attention_saved(
        qkv: Tensor<Self, 3>,
        bias: Option<Tensor<Self, 2>>,
        attend: &Attend,
    ) -> (Tensor<Self, 3>, Saved<Self>) {
        let [batch, seq_len, width] = qkv.dims();
        let (rows, bias) = (raw(qkv), bias.map(raw));
        check_bias(bias.as_ref(), attend.n_heads, seq_len);
        let layout = Layout::all(batch, seq_len);
        let heads = attend::unpacked(&rows, part(width, 3, 0, attend.n_heads), &layout);
        let (y, kept) = attend::forward(heads, bias, &layout, attend);
        let shape = [batch, seq_len, width / 3 + attend.n_stats()];
        (wrap(y, shape), Saved(kept.into_list()))
    }

    fn causal_attention_backward(
        saved: Saved<Self>,
        attend: &Attend,
        d_y: Tensor<Self, 3>,
    ) -> (Tensor<Self, 3>, Option<Tensor<Self, 2>>) {
        let ([batch, seq_len, width], d_y) = (d_y.dims(), raw(d_y));
        let kept = Kept::from_list(saved.0, true);
        let layout = Layout::all(batch, seq_len);
        let (_, d_qkv, d_bias) = attend::backward_packed(&kept, &layout, attend, true, &d_y);
        let d = width - attend.n_stats();
        (wrap(d_qkv, [batch, seq_len, 3 * d]), d_bias.map(of_bias))
    }

    fn causal_attention_at(
        q: Tensor<Self, 2>,
        kv: Tensor<Self, 3>,
        bias: Option<Tensor<Self, 2>>,
        rows: &QueryRows,
        attend: &Attend,
    ) -> Tensor<Self, 2> {
        Self::causal_attention_at_saved(q, kv, bias, rows, attend).0
    }

    fn causal_attention_at_saved(
        q: Tensor<Self, 2>,
        kv: Tensor<Self, 3>,
        bias: Option<Tensor<Self, 2>>,
        rows: &QueryRows,
        attend: &Attend,
    ) -> (Tensor<Self, 2>, Saved<Self>) {
        let ([n_queries, d], [batch, seq_len, width]) = (q.dims(), kv.dims());
        assert_eq!([n_queries, 2 * d], [rows.len(), width], "q is not [queries, d] of these keys");
        assert_eq!(rows.seq_len(), seq_len, "rows are of another seq_len than kv");
        let (q, kv, bias) = (raw(q), raw(kv), bias.map(raw));
        check_bias(bias.as_ref(), attend.n_heads, seq_len);
        let layout = Layout::of(rows, batch, &kv);
        let of_queries = Operand { rows: &q, part: part(d, 1, 0, attend.n_heads) };
        let q = attend::queries(of_queries, &layout);
        let [k, v] = attend::unpacked(&kv, part(width, 2, 0, attend.n_heads), &layout);
        let (y, kept) = attend::forward([q, k, v], bias, &layout, attend);
        (wrap(y, [n_queries, d + attend.n_stats()]), Saved(kept.into_list()))
    }

    fn causal_attention_at_backward(
        saved: Saved<Self>,
        rows: &QueryRows,
        attend: &Attend,
        d_y: Tensor<Self, 2>,
    ) -> (Tensor<Self, 2>, Tensor<Self, 3>, Option<Tensor<Self, 2>>) {
        let ([n_queries, width], d_y) = (d_y.dims(), raw(d_y));
        let (kept, d) = (Kept::from_list(saved.0, true), width - attend.n_stats());
        let (batch, seq_len) = (kept.v.meta.shape()[0] / attend.n_heads, rows.seq_len());
        let layout = Layout::of(rows, batch, &d_y);
        let (d_q, d_kv, d_bias) = attend::backward_packed(&kept, &layout, attend, false, &d_y);
        let d_bias = d_bias.map(of_bias);
        let d_q = wrap(d_q.expect("queries are apart"), [n_queries, d]);
        (d_q, wrap(d_kv, [batch, seq_len, 2 * d]), d_bias)
    }

    fn causal_attention_of(
        q: Tensor<Self, 3>,
        k: Tensor<Self, 3>,
        v: Tensor<Self, 3>,
        attend: &Attend,
    ) -> Tensor<Self, 3> {
        Self::causal_attention_of_saved(q, k, v, attend).0
    }

    fn causal_attention_of_saved(
        q: Tensor<Self, 3>,
        k: Tensor<Self, 3>,
        v: Tensor<Self, 3>,
        attend: &Attend,
    ) -> (Tensor<Self, 3>, Saved<Self>) {
        let ([batch, seq_len, d], [_, _, d_value]) = (k.dims(), v.dims());
        let (q, k, v) = (raw(q), raw(k), raw(v));
        let layout = Layout::all(batch, seq_len);
        let parts = [part(d, 1, 0, attend.n_heads), part(d_value, 1, 0, attend.n_heads)];
        let of = |rows, i: usize| Operand { rows, part: parts[i] };
        let [k, v] = [of(&k, 0), of(&v, 1)].map(|rows| attend::keys(rows, &layout));
        let heads = [attend::queries(of(&q, 0), &layout), k, v];
        let (y, kept) = attend::forward(heads, None, &layout, attend);
        (wrap(y, [batch, seq_len, d_value + attend.n_stats()]), Saved(kept.into_list()))
    }

    fn causal_attention_of_backward(
        saved: Saved<Self>,
        attend: &Attend,
        wanted: [bool; 3],
        d_y: Tensor<Self, 3>,
    ) -> [Option<Tensor<Self, 3>>; 3] {
        let ([batch, seq_len, width], d_y) = (d_y.dims(), raw(d_y));
        let kept = Kept::from_list(saved.0, true);
        let layout = Layout::all(batch, seq_len);
        let d = kept.width_of_keys(attend.n_heads);
        let grads = attend::backward(&kept, &layout, attend, wanted, &d_y);
        let of = |grad: Option<_>, d| grad.map(|grad| wrap(grad, [batch, seq_len, d]));
        [of(grads.q, d), of(grads.k, d), of(grads.v, width - attend.n_stats())]
    }

    fn causal_attention_of_at(
        q: Tensor<Self, 2>,
        k: Tensor<Self, 3>,
        v: Tensor<Self, 3>,
        rows: &QueryRows,
        attend: &Attend,
    ) -> Tensor<Self, 2> {
        Self::causal_attention_of_at_saved(q, k, v, rows, attend).0
    }

    fn causal_attention_of_at_saved(
        q: Tensor<Self, 2>,
        k: Tensor<Self, 3>,
        v: Tensor<Self, 3>,
        rows: &QueryRows,
        attend: &Attend,
    ) -> (Tensor<Self, 2>, Saved<Self>) {
        let ([n_queries, d], [batch, seq_len, _]) = (q.dims(), k.dims());
        assert_eq!(
            [n_queries, d],
            [rows.len(), k.dims()[2]],
            "q is not [queries, d] of these keys"
        );
        assert_eq!(rows.seq_len(), seq_len, "rows are of another seq_len than k");
        let d_value = v.dims()[2];
        let (q, k, v) = (raw(q), raw(k), raw(v));
        let layout = Layout::of(rows, batch, &k);
        let parts = [part(d, 1, 0, attend.n_heads), part(d_value, 1, 0, attend.n_heads)];
        let of = |rows, i: usize| Operand { rows, part: parts[i] };
        let [k, v] = [of(&k, 0), of(&v, 1)].map(|rows| attend::keys(rows, &layout));
        let heads = [attend::queries(of(&q, 0), &layout), k, v];
        let (y, kept) = attend::forward(heads, None, &layout, attend);
        (wrap(y, [n_queries, d_value + attend.n_stats()]), Saved(kept.into_list()))
    }

    fn causal_attention_of_at_backward(
        saved: Saved<Self>,
        rows: &QueryRows,
        attend: &Attend,
        wanted: [bool; 3],
        d_y: Tensor<Self, 2>,
    ) -> ApartGrads<Self> {
        let ([n_queries, width], d_y) = (d_y.dims(), raw(d_y));
        let kept = Kept::from_list(saved.0, true);
        let (batch, seq_len) = (kept.v.meta.shape()[0] / attend.n_heads, rows.seq_len());
        let layout = Layout::of(rows, batch, &d_y);
        let d = kept.width_of_keys(attend.n_heads);
        let grads = attend::backward(&kept, &layout, attend, wanted, &d_y);
        let of = |grad: Option<_>, d| grad.map(|grad| wrap(grad, [batch, seq_len, d]));
        let d_q = grads.q.map(|d_q| wrap(d_q, [n_queries, d]));
        (d_q, [of(grads.k, d), of(grads.v, width - attend.n_stats())])
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
        let ([batch, seq_len, d_value], [n_rows, _]) = (values.dims(), scores.dims());
        assert_eq!(attend.n_heads, 1, "a table has the scores of one head");
        let (values, table) = (raw(values), raw(scores));
        let layout = Layout::all(batch, seq_len);
        let dims = Table { batch, n_there: seq_len, seq_len: layout.n_keys(), d_vocab, n_rows };
        let looked_up = lookup::scores(table.clone(), raw_ints(tokens), dims);
        let of_values = Operand { rows: &values, part: part(d_value, 1, 0, 1) };
        let scale = attend.scale(1);
        let values = attend::keys(of_values, &layout);
        let (y, kept) = attend::mix(looked_up, scale, values, None, &layout, attend);
        let mut saved = kept.into_list();
        saved.push(table);
        (wrap(y, [batch, seq_len, d_value + attend.n_stats()]), Saved(saved))
    }

    fn causal_attention_looked_up_backward(
        saved: Saved<Self>,
        tokens: Tensor<Self, 2, Int>,
        d_vocab: usize,
        attend: &Attend,
        wanted: [bool; 2],
        d_y: Tensor<Self, 3>,
    ) -> (Option<Tensor<Self, 2>>, Option<Tensor<Self, 3>>) {
        let ([batch, seq_len, width], d_y) = (d_y.dims(), raw(d_y));
        let mut saved = saved.0;
        let table = saved.pop().expect("the table was saved");
        let n_rows = table.meta.shape()[0];
        let kept = Kept::from_list(saved, false);
        let layout = Layout::all(batch, seq_len);
        let grads = attend::mix_backward(&kept, attend.scale(1), &layout, attend, wanted, &d_y);
        let d_values = grads.v.map(|d_v| wrap(d_v, [batch, seq_len, width - attend.n_stats()]));
        let dims = Table { batch, n_there: seq_len, seq_len: layout.n_keys(), d_vocab, n_rows };
        let d_table = grads.scores.map(|d_scores| {
            wrap(table_backward(d_scores, raw_ints(tokens), dims), [n_rows, n_rows])
        });
        (d_table, d_values)
    }

    fn rotary(
        x: Tensor<Self, 2>,
        n_turned: usize,
        rows: &QueryRows,
        rotary: &Rotary,
    ) -> Tensor<Self, 2> {
        turn(x, n_turned, rows, rotary, 1.0)
    }

    fn rotary_backward(
        n_turned: usize,
        rows: &QueryRows,
        rotary: &Rotary,
        d_y: Tensor<Self, 2>,
    ) -> Tensor<Self, 2> {
        turn(d_y, n_turned, rows, rotary, -1.0)
    }

    fn dropout(x: Tensor<Self, 2>, rows: &QueryRows, dropout: &Dropout) -> Tensor<Self, 2> {
        let (shape, x) = (x.dims(), raw(x));
        assert_eq!(shape[0], rows.len(), "x: {shape:?} does not fit {} places", rows.len());
        let at = flat(rows, &x);
        let dropped = dropped(dropout, &x);
        wrap(places::dropout(x, at, rows.seq_len(), shape, dropped), shape)
    }

    fn select_rows_backward(
        n_rows: usize,
        rows: &QueryRows,
        d_y: Tensor<Self, 2>,
    ) -> Tensor<Self, 2> {
        let [_, d] = d_y.dims();
        // Burn adds row by row, all rows in one unit: they might be the same. These are not.
        let d_x = raw(Tensor::<Self, 2>::zeros([n_rows, d], &d_y.device()));
        let d_y = raw(d_y);
        let at = flat(rows, &d_y);
        places::scatter(d_y, at, &d_x, d);
        wrap(d_x, [n_rows, d])
    }

    fn lstm(gates_in: Tensor<Self, 3>, w_hh: Tensor<Self, 2>) -> Tensor<Self, 3> {
        let dims = lstm_dims(&gates_in, &w_hh);
        let scanned = lstm::scan(raw(gates_in), raw(w_hh), dims, false);
        wrap(scanned.h, [dims.batch, dims.seq_len, dims.d])
    }

    fn lstm_saved(
        gates_in: Tensor<Self, 3>,
        w_hh: Tensor<Self, 2>,
    ) -> (Tensor<Self, 3>, Saved<Self>) {
        let (dims, w_hh) = (lstm_dims(&gates_in, &w_hh), raw(w_hh));
        let scanned = lstm::scan(raw(gates_in), w_hh.clone(), dims, true);
        let saved = [vec![w_hh], scanned.kept.into()].concat();
        (wrap(scanned.h, [dims.batch, dims.seq_len, dims.d]), Saved(saved))
    }

    fn lstm_backward(
        saved: Saved<Self>,
        d_h: Tensor<Self, 3>,
    ) -> (Tensor<Self, 3>, Tensor<Self, 2>) {
        let [w_hh, h_before, gates, cells] = saved.take();
        let [batch, seq_len, d] = d_h.dims();
        let n_members = w_hh.meta.shape()[0] / d;
        let w_hh_t = dense(transposed(by_member(w_hh, n_members)));
        let dims = Dims { batch, seq_len, d, n_members };
        let d_gates = lstm::scan_backward(w_hh_t, [gates, cells], raw(d_h), dims);
        let n_rows = batch * seq_len;
        let d_rows = shaped(d_gates.clone(), [n_rows, 4 * d]);
        let d_w_hh = product_over_rows(shaped(h_before, [n_rows, d]), d_rows, n_members);
        (wrap(d_gates, [batch, seq_len, 4 * d]), wrap(d_w_hh, [n_members * d, 4 * d]))
    }

    fn cross_entropy(logits: Tensor<Self, 2>, targets: Tensor<Self, 1, Int>) -> Tensor<Self, 1> {
        let shape = logits.dims();
        let losses = loss::losses(raw(logits), raw_ints(targets), None, shape);
        wrap::<R, BT, 1>(losses, [shape[0]]).mean()
    }

    fn cross_entropy_backward(
        logits: Tensor<Self, 2>,
        targets: Tensor<Self, 1, Int>,
        d_loss: Tensor<Self, 1>,
    ) -> Tensor<Self, 2> {
        let shape = logits.dims();
        let (logits, targets) = (raw(logits), raw_ints(targets));
        wrap(loss::losses_backward(logits, targets, None, raw(d_loss), shape), shape)
    }

    fn weighted_losses(
        logits: Tensor<Self, 2>,
        targets: Tensor<Self, 1, Int>,
        weights: Tensor<Self, 1>,
    ) -> Tensor<Self, 1> {
        let (shape, weights) = (logits.dims(), Some(raw(weights)));
        wrap(loss::losses(raw(logits), raw_ints(targets), weights, shape), [shape[0]])
    }

    fn weighted_losses_backward(
        logits: Tensor<Self, 2>,
        targets: Tensor<Self, 1, Int>,
        weights: Tensor<Self, 1>,
        d_losses: Tensor<Self, 1>,
    ) -> Tensor<Self, 2> {
        let (shape, weights) = (logits.dims(), Some(raw(weights)));
        let (logits, targets) = (raw(logits), raw_ints(targets));
        wrap(loss::losses_backward(logits, targets, weights, raw(d_losses), shape), shape)
    }

    fn update(
        params: Vec<Learned<Self>>,
        rule: &Rule,
        step: u64,
        grad_scale: f64,
    ) -> (Vec<Learned<Self>>, Vec<bool>) {
        Self::update_each(params, &[Pace { rule: *rule, grad_scale }], step)
    }

    fn update_each(
        params: Vec<Learned<Self>>,
        paces: &[Pace],
        step: u64,
    ) -> (Vec<Learned<Self>>, Vec<bool>) {
        let Some(device) = params.first().map(|learned| learned.param.device()) else {
            return (params, Vec::new());
        };
        let beyond = Tensor::<Self, 1, Int>::zeros([params.len() * paces.len()], &device);
        let beyond = raw_ints(beyond);
        let numbers = paces.iter().flat_map(|Pace { rule, grad_scale }| match rule {
            Rule::AdamW(rule) => optim::adamw_numbers(rule, step, *grad_scale).to_vec(),
            Rule::Sgd(rule) => optim::sgd_numbers(rule, step, *grad_scale).to_vec(),
        });
        let numbers = floats(&numbers.collect::<Vec<f32>>(), &beyond);
        let members = Members { n: paces.len(), numbers, beyond };
        let grads: Vec<_> = params.iter().map(|learned| learned.grad.clone()).collect();
        let rows = params.into_iter().map(|Learned { param, grad, kept }| {
            let kept = kept.into_iter().map(raw).collect();
            [vec![raw(param), raw(grad)], kept].concat()
        });
        let moved: Vec<Vec<CubeTensor<R>>> = match paces.first().map(|pace| pace.rule) {
            Some(Rule::AdamW(_)) => {
                let rows: Vec<_> = rows.map(of_rule).collect();
                optim::adamw(&rows, &members).into_iter().map(Vec::from).collect()
            }
            _ => {
                let moved = |(which, rows)| optim::sgd(of_rule(rows), which, &members).into();
                rows.enumerate().map(moved).collect()
            }
        };
        let learned = |(grad, moved): (Tensor<Self, 1>, Vec<CubeTensor<R>>)| {
            let mut moved = moved.into_iter().map(|row| wrap(row, grad.dims()));
            let param = moved.next().expect("the first is the parameter");
            let kept = moved.collect();
            Learned { param, kept, grad }
        };
        let moved = grads.into_iter().zip(moved).map(learned).collect();
        let beyond: Tensor<Self, 1, Int> = Tensor::from_primitive(members.beyond);
        let finite = beyond.into_data().iter::<i32>().map(|beyond| beyond == 0).collect();
        (moved, finite)
    }
}

/// The gradients of a product of rows and a weight that are `wanted`, from that by the product, which is a factor already.
fn by_factors<R: CubeRuntime, BT: BoolElement>(
    [x, weight]: [CubeTensor<R>; 2],
    [by_x, by_weight]: [bool; 2],
    d_y: CubeTensor<R>,
) -> [Option<Tensor<Gpu<R, BT>, 2>>; 2] {
    let (of_x, of_weight) = (dims(&x), dims(&weight));
    let n = check_linear(of_x, of_weight, None);
    let d_x = by_x.then(|| product(by_member(d_y.clone(), n), transposed(by_member(weight, n))));
    let d_weight = by_weight.then(|| product_over_rows(x, d_y, n));
    [d_x.map(|d_x| wrap(d_x, of_x)), d_weight.map(|d_weight| wrap(d_weight, of_weight))]
}

/// The rows of one parameter that a rule takes.
#[track_caller]
fn of_rule<R: CubeRuntime, const N: usize>(rows: Vec<CubeTensor<R>>) -> [CubeTensor<R>; N] {
    let n_rows = rows.len();
    rows.try_into().unwrap_or_else(|_rows| panic!("{n_rows} rows of a parameter, not {N}"))
}

/// The gradient by a bias, of the shape it was made in.
fn of_bias<R: CubeRuntime, BT: BoolElement>(d_bias: CubeTensor<R>) -> Tensor<Gpu<R, BT>, 2> {
    let shape = [d_bias.meta.shape()[0], d_bias.meta.shape()[1]];
    wrap(d_bias, shape)
}

/// Rows turned by the angles of their places, or back.
fn turn<R: CubeRuntime, BT: BoolElement>(
    x: Tensor<Gpu<R, BT>, 2>,
    n_turned: usize,
    rows: &QueryRows,
    rotary: &Rotary,
    sign: f32,
) -> Tensor<Gpu<R, BT>, 2> {
    let (shape, x) = (x.dims(), raw(x));
    rotary.check(shape, n_turned, rows);
    let (at, tables) = (flat(rows, &x), rotary.tables().map(|table| floats(table, &x)));
    let turned = Turned {
        d_head: rotary.d_head(),
        half: rotary.n_rotated() / 2,
        n_turned,
        seq_len: rows.seq_len(),
        sign,
    };
    wrap(places::rotary(x, at, tables, shape, &turned), shape)
}

#[track_caller]
fn lstm_dims<R: CubeRuntime, BT: BoolElement>(
    gates_in: &Tensor<Gpu<R, BT>, 3>,
    w_hh: &Tensor<Gpu<R, BT>, 2>,
) -> Dims {
    let ([batch, seq_len, width], [n_rows, d4]) = (gates_in.dims(), w_hh.dims());
    let d = d4 / 4;
    assert_eq!([width, d4], [4 * d; 2], "gates_in and w_hh are not 4 d wide");
    Dims { batch, seq_len, d, n_members: cohort::members("w_hh", n_rows, d) }
}

/// The gradient of a table from that of the scores `A` it gave, `[batch, query, key]`.
///
/// With `Z` the tokens of an example, one 1 a row, the blocks are sums over examples of `Z^T A Z`, `Z^T A`, `A Z` and
/// `A`: products, so that no two units add to one number.
fn table_backward<R: CubeRuntime>(
    d_scores: CubeTensor<R>,
    tokens: CubeTensor<R>,
    dims: Table,
) -> CubeTensor<R> {
    let Table { batch, seq_len, d_vocab, .. } = dims;
    let hot = lookup::one_hot(tokens, dims, operand_type());
    let by_key = product(d_scores.clone(), hot.clone());
    let by_query = product(transposed(hot.clone()), d_scores.clone());
    let by_both = product(transposed(hot), by_key.clone());
    let sum = |x: CubeTensor<R>, n: usize| column_sums(in_type(x, DType::F32), [batch, n]);
    let blocks = [
        sum(by_both, d_vocab * d_vocab),
        sum(by_query, d_vocab * seq_len),
        sum(by_key, seq_len * d_vocab),
        sum(d_scores, seq_len * seq_len),
    ];
    lookup::table(blocks, dims)
}
