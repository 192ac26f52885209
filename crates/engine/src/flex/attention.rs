//! What stands between tensors and the kernels of attention: sizes, and operands as slices.

use burn::tensor::Tensor;
use burn_flex::{Flex, FlexTensor};

use super::{dense, row, tensor, wrap};
use crate::{
    Attend, QueryRows, Saved,
    kernel::{
        self,
        attention::{Apart, Form, LookedUp, Places, Table},
    },
    saved::ApartGrads,
};

/// `[batch, pos, d]` and the sizes of attention whose operand is `n_parts` d wide.
#[track_caller]
pub(super) fn attention_dims(
    x: &Tensor<Flex, 3>,
    n_parts: usize,
    n_heads: usize,
) -> ([usize; 3], kernel::attention::Dims) {
    let [batch, seq_len, width] = x.dims();
    let d = width / n_parts;
    assert!(
        n_heads > 0 && d * n_parts == width && d.is_multiple_of(n_heads),
        "[batch, pos, {width}] is not {n_parts} parts of {n_heads} heads each"
    );
    let d_head = d / n_heads;
    ([batch, seq_len, d], kernel::attention::Dims { seq_len, n_heads, d_head, d_value: d_head })
}

/// A table of biases as the kernels want it.
///
/// # Panics
///
/// If it is not `[head, seq_len]`.
#[track_caller]
pub(super) fn by_key(bias: &FlexTensor, dims: kernel::attention::Dims) -> Vec<f32> {
    let (shape, expected) = (bias.layout().shape().to_vec(), [dims.n_heads, dims.seq_len]);
    assert_eq!(shape, expected, "bias is not [head, distance] of these heads and keys");
    kernel::attention::reversed(bias.storage(), dims.seq_len)
}

/// The sizes of attention whose queries, keys and values are tensors of their own.
///
/// # Panics
///
/// If they do not fit each other.
#[track_caller]
fn apart_dims(
    q_width: usize,
    k: &Tensor<Flex, 3>,
    v: &Tensor<Flex, 3>,
    n_heads: usize,
) -> kernel::attention::Dims {
    let ([batch, seq_len, d], dims) = attention_dims(k, 1, n_heads);
    assert_eq!(q_width, d, "q and k are not of one width");
    let ([v_batch, v_len, _], of_values) = attention_dims(v, 1, n_heads);
    assert_eq!([batch, seq_len], [v_batch, v_len], "v is not [batch, pos, ..] of k");
    kernel::attention::Dims { d_value: of_values.d_head, ..dims }
}

/// Attention whose scores are looked up.
///
/// # Panics
///
/// If table, tokens and values do not fit each other.
#[track_caller]
pub(super) fn looked_up<'a>(
    tokens: &'a [u32],
    seq_len: usize,
    scores: &'a FlexTensor,
    d_vocab: usize,
    values: &'a FlexTensor,
    attend: &'a Attend,
) -> LookedUp<'a> {
    let (shape, of_values) = (scores.layout().shape(), values.layout().shape());
    let (n_rows, d_value) = (shape[0], of_values[2]);
    assert!(
        shape[1] == n_rows && n_rows >= d_vocab + seq_len,
        "scores: [{n_rows}, {}] are not of {d_vocab} tokens and at least {seq_len} places",
        shape[1]
    );
    let fits = of_values[1] == seq_len && of_values[0] * seq_len == tokens.len();
    assert!(fits, "values: {of_values:?} are not [batch, pos, ..] of the tokens");
    assert_eq!(attend.n_heads, 1, "a table has the scores of one head");
    // A head one number wide: what is asked for then scales by the temperature alone.
    let dims = kernel::attention::Dims { seq_len, n_heads: 1, d_head: 1, d_value };
    let table = Table { scores: scores.storage(), d_vocab, n_ctx: n_rows - d_vocab };
    LookedUp { tokens, table, v: values.storage(), form: Form::new(dims, attend, None) }
}

/// Attention of a query at each place, on keys and values.
///
/// # Arguments
///
/// - `keep`: whether a backward pass follows.
#[track_caller]
pub(super) fn attention_of(
    q: Tensor<Flex, 3>,
    k: Tensor<Flex, 3>,
    v: Tensor<Flex, 3>,
    attend: &Attend,
    keep: bool,
) -> (Tensor<Flex, 3>, Saved<Flex>) {
    assert_eq!(q.dims(), k.dims(), "q and k are not of one shape");
    let [batch, seq_len, d] = q.dims();
    let places = &Places::all(batch, seq_len);
    let (y, saved) = attention_apart(q.reshape([batch * seq_len, d]), k, v, places, attend, keep);
    let [_, width] = y.dims();
    (y.reshape([batch, seq_len, width]), saved)
}

/// Attention of queries at chosen places, on keys and values.
///
/// # Arguments
///
/// - `keep`: whether a backward pass follows.
#[track_caller]
pub(super) fn attention_of_at(
    q: Tensor<Flex, 2>,
    k: Tensor<Flex, 3>,
    v: Tensor<Flex, 3>,
    rows: &QueryRows,
    attend: &Attend,
    keep: bool,
) -> (Tensor<Flex, 2>, Saved<Flex>) {
    let ([n_queries, _], [batch, seq_len, _]) = (q.dims(), k.dims());
    assert_eq!(n_queries, rows.len(), "q is not [queries, d] of these rows");
    assert_eq!(rows.seq_len(), seq_len, "rows are of another seq_len than k");
    attention_apart(q, k, v, &Places::of(rows, batch), attend, keep)
}

/// Attention of `q: [queries, d]`, which stand at `places`, on keys and values.
#[track_caller]
fn attention_apart(
    q: Tensor<Flex, 2>,
    k: Tensor<Flex, 3>,
    v: Tensor<Flex, 3>,
    places: &Places,
    attend: &Attend,
    keep: bool,
) -> (Tensor<Flex, 2>, Saved<Flex>) {
    let ([n_queries, d], [.., d_values]) = (q.dims(), v.dims());
    let dims = apart_dims(d, &k, &v, attend.n_heads);
    let (q, k, v) = (dense(q), dense(k), dense(v));
    let qkv = [q.storage(), k.storage(), v.storage()];
    let apart = Apart { qkv, places, form: Form::new(dims, attend, None) };
    let (y, lse, kept) = apart.forward(keep);
    let y: Tensor<Flex, 2> = tensor(y, [n_queries, d_values + attend.n_stats()]);
    let y_kept = y.clone().into_primitive().tensor();
    let mut saved = vec![q, k, v, y_kept, row(lse)];
    saved.extend(kept.map(row));
    (y, Saved(saved))
}

/// The gradients of [`attention_apart`] that are wanted.
pub(super) fn apart_backward(
    saved: Saved<Flex>,
    places: &Places,
    attend: &Attend,
    wanted: [bool; 3],
    d_y: Tensor<Flex, 2>,
) -> ApartGrads<Flex> {
    let ([q, k, v, y, lse], kept) = saved.take_and_more();
    let (q, k, v): (Tensor<Flex, 2>, Tensor<Flex, 3>, Tensor<Flex, 3>) =
        (wrap(q), wrap(k), wrap(v));
    let (q_shape, k_shape, v_shape) = (q.dims(), k.dims(), v.dims());
    let dims = apart_dims(q_shape[1], &k, &v, attend.n_heads);
    let (q, k, v, d_y) = (dense(q), dense(k), dense(v), dense(d_y));
    let qkv = [q.storage(), k.storage(), v.storage()];
    let apart = Apart { qkv, places, form: Form::new(dims, attend, None) };
    let trace = kernel::attention::Trace { y: y.storage(), lse: lse.storage() };
    let [d_q, d_k, d_v] =
        apart.backward(trace, kept.as_ref().map(FlexTensor::storage), d_y.storage(), wanted);
    let d_q = d_q.map(|d_q| tensor(d_q, q_shape));
    (d_q, [d_k.map(|d_k| tensor(d_k, k_shape)), d_v.map(|d_v| tensor(d_v, v_shape))])
}
