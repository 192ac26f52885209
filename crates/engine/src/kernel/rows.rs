//! Rows picked, and sums over rows in an order that threads do not change.

use rayon::prelude::*;

use super::fresh::Fresh;
use super::simd::multiversion;
use crate::dropout::DropoutRow;
use crate::{Dropout, QueryRows};

/// Rows of one partial sum. The cut depends on the number of rows only.
const SEGMENT: usize = 1024;

/// Row `indices[i]` of `table` as row `i`.
pub(crate) fn gather(table: &[f32], d: usize, indices: &[u32]) -> Vec<f32> {
    const ROWS: usize = 256;
    let mut out = Fresh::new(indices.len() * d);
    out.par_chunks_mut(ROWS * d).zip(indices.par_chunks(ROWS)).for_each(|(out, indices)| {
        for (out, &index) in out.chunks_exact_mut(d).zip(indices) {
            out.copy_from_slice(&table[index as usize * d..][..d]);
        }
    });
    out.finish()
}

/// Row `tokens[i]` of `table` plus `scale` times row `i % n_pos` of `places` as row `i`.
pub(crate) fn gather_at(
    table: &[f32],
    places: &[f32],
    scale: f32,
    d: usize,
    (tokens, n_pos): (&[u32], usize),
) -> Vec<f32> {
    let mut out = Fresh::new(tokens.len() * d);
    let examples = out.par_chunks_mut(n_pos * d).zip(tokens.par_chunks(n_pos.max(1)));
    examples.for_each(|(out, tokens)| {
        let rows = out.chunks_exact_mut(d).zip(places.chunks_exact(d));
        for ((out, place), &token) in rows.zip(tokens) {
            let row = &table[token as usize * d..][..d];
            for ((out, x), place) in out.iter_mut().zip(row).zip(place) {
                *out = x + place * scale;
            }
        }
    });
    out.finish()
}

/// Numbers of one task.
const CHUNK: usize = 1 << 14;

/// Adds `y` to `x`, number by number.
pub(crate) fn add_to(x: &mut [f32], y: &[f32]) {
    x.par_chunks_mut(CHUNK).zip(y.par_chunks(CHUNK)).for_each(|(x, y)| add(x, y));
}

/// `x + y`, number by number.
pub(crate) fn sum(x: &[f32], y: &[f32]) -> Vec<f32> {
    let mut out = Fresh::new(x.len());
    let operands = x.par_chunks(CHUNK).zip(y.par_chunks(CHUNK));
    out.par_chunks_mut(CHUNK).zip(operands).for_each(|(out, (x, y))| {
        for (out, (x, y)) in out.iter_mut().zip(x.iter().zip(y)) {
            *out = x + y;
        }
    });
    out.finish()
}

/// Multiplies the rows of `x: [rows, d]` by the factors of a dropout at their places.
pub(crate) fn drop_some(x: &mut [f32], d: usize, rows: &QueryRows, dropout: &Dropout) {
    /// Rows of one task.
    const ROWS: usize = 64;
    x.par_chunks_mut((ROWS * d).max(1)).enumerate().for_each(|(chunk_idx, x)| {
        for (row, x) in x.chunks_exact_mut(d).enumerate() {
            let (example, pos) = rows.place(chunk_idx * ROWS + row);
            drop_row(x, dropout.row(example, 0, pos));
        }
    });
}

multiversion! {
    /// Multiplies one row by its factors.
    fn drop_row(x: &mut [f32], row: DropoutRow) = drop_row_body;
}

#[inline(always)]
fn drop_row_body<const FMA: bool>(x: &mut [f32], row: DropoutRow) {
    for (column, x) in (0_u32..).zip(x) {
        *x *= row.factor(column);
    }
}

/// `scale` times the sum over examples of `x: [batch, pos, d]`, in their order: `[n_ctx, d]`.
pub(crate) fn example_sums(
    x: &[f32],
    scale: f32,
    d: usize,
    n_pos: usize,
    n_ctx: usize,
) -> Vec<f32> {
    const PLACES: usize = 16;
    let mut sums = vec![0.0; n_ctx * d];
    sums.par_chunks_mut((PLACES * d).max(1)).enumerate().for_each(|(chunk, sums)| {
        let first = (chunk * PLACES).min(n_pos) * d;
        let n = sums.len().min(n_pos * d - first);
        for example in x.chunks_exact((n_pos * d).max(1)) {
            add(&mut sums[..n], &example[first..first + n]);
        }
        sums.iter_mut().for_each(|sum| *sum *= scale);
    });
    sums
}

/// The sum of the rows of `x` that belong to each of `n_indices` indices.
pub(crate) fn scatter_sum(x: &[f32], d: usize, indices: &[u32], n_indices: usize) -> Vec<f32> {
    // Few rows of a table are summed in segments side by side; many would cost too much memory.
    let segment = if n_indices <= 1024 { SEGMENT } else { indices.len().max(1) };
    let parts: Vec<Vec<f32>> = x
        .par_chunks((segment * d).max(1))
        .zip(indices.par_chunks(segment))
        .map(|(x, indices)| {
            let mut sums = vec![0.0; n_indices * d];
            for (x, &index) in x.chunks_exact(d).zip(indices) {
                add(&mut sums[index as usize * d..][..d], x);
            }
            sums
        })
        .collect();
    in_order(&parts, n_indices * d)
}

/// The sum of all rows of `x`.
pub(crate) fn column_sums(x: &[f32], d: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = x
        .par_chunks((SEGMENT * d).max(1))
        .map(|x| {
            let mut sums = vec![0.0; d];
            x.chunks_exact(d).for_each(|row| add(&mut sums, row));
            sums
        })
        .collect();
    in_order(&parts, d)
}

/// The sum of `parts`, first to last.
pub(crate) fn in_order(parts: &[Vec<f32>], len: usize) -> Vec<f32> {
    let mut total = Fresh::new(len);
    total.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, total)| {
        let first = chunk * CHUNK;
        parts.iter().for_each(|part| add(total, &part[first..]));
    });
    total.finish()
}

fn add(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_close, check_same_bits, numbers};

    #[test]
    fn gathering_and_scattering_are_transposes() {
        let (n_rows, d, n_indices) = (3000, 7, 5);
        let indices: Vec<u32> = (0..n_rows as u32).map(|i| i * i % 5).collect();
        let (table, x) = (numbers(1, n_indices * d), numbers(2, n_rows * d));
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        let there = dot(&gather(&table, d, &indices), &x);
        let back = dot(&table, &scatter_sum(&x, d, &indices, n_indices));
        assert!((there - back).abs() < 1e-4 * there.abs().max(1.0), "{there} {back}");
    }

    #[test]
    fn sums_are_right_and_the_same_for_any_number_of_threads() {
        let (n_rows, d) = (5000, 19);
        let x = numbers(1, n_rows * d);
        let expected: Vec<f32> = (0..d)
            .map(|j| (0..n_rows).map(|i| f64::from(x[i * d + j])).sum::<f64>() as f32)
            .collect();
        let got = column_sums(&x, d);
        check_close("column sums", &got, &expected, 1e-5);
        let zeros = vec![0; n_rows];
        check_close("one index", &scatter_sum(&x, d, &zeros, 1), &expected, 1e-5);
        for n_threads in [1, 2, 4] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            pool.install(|| check_same_bits("threads", &column_sums(&x, d), &got));
        }
    }
}
