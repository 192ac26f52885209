//! Scores out of a table, and the gradient of the table.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{one_each, room};

#[cube(launch)]
fn scores_kernel(
    table: &Array<f32>,
    tokens: &Array<i32>,
    scores: &mut Array<f32>,
    n_rows: u32,
    d_vocab: u32,
    n_there: u32,
    seq_len: u32,
) {
    let i = ABSOLUTE_POS;
    if i < scores.len() {
        let seq_len = seq_len as usize;
        let n_there = n_there as usize;
        let n_rows = n_rows as usize;
        let d_vocab = d_vocab as usize;
        let key = i % seq_len;
        let query = (i / seq_len) % seq_len;
        let first = (i / seq_len / seq_len) * n_there;
        let mut score = f32::new(0.0);
        if key <= query && query < n_there {
            let of_query = tokens[first + query] as usize * n_rows;
            let of_place = (d_vocab + query) * n_rows;
            let of_key = tokens[first + key] as usize;
            score = table[of_query + of_key]
                + table[of_query + d_vocab + key]
                + table[of_place + of_key]
                + table[of_place + d_vocab + key];
        }
        scores[i] = score;
    }
}

/// Tokens, and the table they are looked up in.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub(crate) batch: usize,
    /// Places of an example, and what they are filled up to.
    pub(crate) n_there: usize,
    pub(crate) seq_len: usize,
    pub(crate) d_vocab: usize,
    /// Rows and columns: `d_vocab + n_ctx`.
    pub(crate) n_rows: usize,
}

/// Scores `[batch, 1, query, key]` as sums of four entries of `table`; keys after the query get 0.
pub(crate) fn scores<R: CubeRuntime>(
    table: CubeTensor<R>,
    tokens: CubeTensor<R>,
    dims: Table,
) -> CubeTensor<R> {
    let Table { batch, n_there, seq_len, d_vocab, n_rows } = dims;
    let scores = room(&table, [batch, 1, seq_len, seq_len], DType::F32);
    let (client, (count, dim)) = (table.client.clone(), one_each(batch * seq_len * seq_len));
    scores_kernel::launch::<R>(
        &client,
        count,
        dim,
        table.into_array_arg(),
        tokens.into_array_arg(),
        scores.clone().into_array_arg(),
        n_rows as u32,
        d_vocab as u32,
        n_there as u32,
        seq_len as u32,
    );
    scores
}

#[cube(launch)]
fn one_hot_kernel<N: Float>(
    tokens: &Array<i32>,
    hot: &mut Array<N>,
    d_vocab: u32,
    n_there: u32,
    seq_len: u32,
) {
    let i = ABSOLUTE_POS;
    if i < hot.len() {
        let d_vocab = d_vocab as usize;
        let pos = (i / d_vocab) % seq_len as usize;
        let example = i / d_vocab / seq_len as usize;
        let mut number = f32::new(0.0);
        if pos < n_there as usize {
            let token = tokens[example * n_there as usize + pos] as usize;
            if token == i % d_vocab {
                number = f32::new(1.0);
            }
        }
        hot[i] = N::cast_from(number);
    }
}

/// A 1 in the column of each token: `[batch, pos, d_vocab]`, as numbers of `dtype`.
pub(crate) fn one_hot<R: CubeRuntime>(
    tokens: CubeTensor<R>,
    dims: Table,
    dtype: DType,
) -> CubeTensor<R> {
    let hot = room(&tokens, [dims.batch, dims.seq_len, dims.d_vocab], dtype);
    let (client, (count, dim)) = (tokens.client.clone(), one_each(hot.meta.num_elements()));
    let launch = match dtype {
        DType::BF16 => one_hot_kernel::launch::<half::bf16, R>,
        _ => one_hot_kernel::launch::<f32, R>,
    };
    launch(
        &client,
        count,
        dim,
        tokens.into_array_arg(),
        hot.clone().into_array_arg(),
        dims.d_vocab as u32,
        dims.n_there as u32,
        dims.seq_len as u32,
    );
    hot
}

#[cube(launch)]
fn table_kernel(
    by_tokens: &Array<f32>,
    token_place: &Array<f32>,
    place_token: &Array<f32>,
    by_places: &Array<f32>,
    d_table: &mut Array<f32>,
    n_rows: u32,
    d_vocab: u32,
    n_there: u32,
    seq_len: u32,
) {
    let i = ABSOLUTE_POS;
    if i < d_table.len() {
        let n_rows = n_rows as usize;
        let d_vocab = d_vocab as usize;
        let seq_len = seq_len as usize;
        let n_there = n_there as usize;
        let row = i / n_rows;
        let column = i % n_rows;
        let mut grad = 0.0f32;
        if row < d_vocab {
            if column < d_vocab {
                grad = by_tokens[row * d_vocab + column];
            } else if column < d_vocab + n_there {
                grad = token_place[row * seq_len + column - d_vocab];
            }
        } else if row < d_vocab + n_there {
            let place = row - d_vocab;
            if column < d_vocab {
                grad = place_token[place * d_vocab + column];
            } else if column < d_vocab + n_there {
                grad = by_places[place * seq_len + column - d_vocab];
            }
        }
        d_table[i] = grad;
    }
}

/// The gradient of a table `[n_rows, n_rows]` from its four blocks: tokens by tokens, tokens by places, places by
/// tokens, places by places; places beyond the sequence get 0.
pub(crate) fn table<R: CubeRuntime>(blocks: [CubeTensor<R>; 4], dims: Table) -> CubeTensor<R> {
    let [by_tokens, token_place, place_token, by_places] = blocks;
    let d_table = room(&by_tokens, [dims.n_rows, dims.n_rows], DType::F32);
    let (client, (count, dim)) = (by_tokens.client.clone(), one_each(dims.n_rows * dims.n_rows));
    table_kernel::launch::<R>(
        &client,
        count,
        dim,
        by_tokens.into_array_arg(),
        token_place.into_array_arg(),
        place_token.into_array_arg(),
        by_places.into_array_arg(),
        d_table.clone().into_array_arg(),
        dims.n_rows as u32,
        dims.d_vocab as u32,
        dims.n_there as u32,
        dims.seq_len as u32,
    );
    d_table
}
