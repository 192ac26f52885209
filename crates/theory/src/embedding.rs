//! Random embeddings and random linear maps, with an address for every row.

use mnemoscope_stats::stream::Stream;
use ndarray::{Array2, ArrayView2};

/// A matrix of independent normal numbers.
///
/// # Arguments
///
/// - `shape`: rows and columns.
/// - `variance`: of one entry; the theory's embeddings and maps have `1 / d_model`.
///
/// # Randomness
///
/// Row `i` is item `i` of `stream`, so a matrix with more rows begins with the same ones.
///
/// # Source
///
/// arXiv:2306.00802, appendix A.
///
/// # Example
///
/// ```
/// use mnemoscope_stats::stream::Stream;
/// use mnemoscope_theory::embedding::gaussian;
///
/// let rows = gaussian(&Stream::root(0), [65, 256], 1.0 / 256.0);
/// let squared_norm = rows.row(0).dot(&rows.row(0));
/// assert!((squared_norm - 1.0).abs() < 0.5);
/// ```
#[must_use]
pub fn gaussian(stream: &Stream, shape: [usize; 2], variance: f64) -> Array2<f64> {
    let sd = variance.sqrt();
    let mut matrix = Array2::zeros(shape);
    for (row, index) in matrix.rows_mut().into_iter().zip(0..) {
        let mut draws = stream.at(index);
        for entry in row {
            *entry = sd * draws.normal();
        }
    }
    matrix
}

/// `rows` after a random linear map with entries of variance `1 / d_model`: the paper's remapping.
///
/// The map is drawn a few rows at a time and never held as a whole.
///
/// # Shapes
///
/// `rows: [n, d_model]` -> `[n, d_model]`: row `i` is `W rows[i]`.
///
/// # Randomness
///
/// Row `i` of the map is item `i` of `stream`.
///
/// # Source
///
/// arXiv:2306.00802, section 4.1 and appendix A.
///
/// # Example
///
/// ```
/// use mnemoscope_stats::stream::Stream;
/// use mnemoscope_theory::embedding::{gaussian, remapped};
///
/// let rows = gaussian(&Stream::root(0), [3, 40], 1.0 / 40.0);
/// let map = gaussian(&Stream::root(1), [40, 40], 1.0 / 40.0);
/// let by_hand = rows.dot(&map.t());
/// let difference = remapped(rows.view(), &Stream::root(1)) - by_hand;
/// assert!(difference.iter().all(|entry| entry.abs() < 1e-14));
/// ```
#[must_use]
pub fn remapped(rows: ArrayView2<'_, f64>, stream: &Stream) -> Array2<f64> {
    /// Rows of the map at a time.
    const BLOCK: usize = 64;
    let (n, d_model) = rows.dim();
    let sd = (1.0 / d_model as f64).sqrt();
    let mut out = Array2::zeros((n, d_model));
    let mut block = Array2::zeros((BLOCK, d_model));
    for first in (0..d_model).step_by(BLOCK) {
        let n_rows = BLOCK.min(d_model - first);
        for (row, index) in block.rows_mut().into_iter().zip(first..first + n_rows) {
            let mut draws = stream.at(index as u64);
            for entry in row {
                *entry = sd * draws.normal();
            }
        }
        let part = rows.dot(&block.slice(ndarray::s![..n_rows, ..]).t());
        out.slice_mut(ndarray::s![.., first..first + n_rows]).assign(&part);
    }
    out
}
