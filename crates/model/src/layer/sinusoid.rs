//! Vectors of places that are no parameters, for the models that add them: sines and cosines, or a line.

use burn::tensor::TensorData;

/// The base of the angles of sinusoidal and of rotary positions: Vaswani et al. 2017, section 3.5, and
/// Su et al. 2021.
pub(crate) const BASE: f64 = 10_000.0;

/// `[n_pos, d]`: place `p` holds `sin(p w_i)` at number `2i` and `cos(p w_i)` at `2i + 1`, with
/// `w_i = BASE^(-2i/d)`.
///
/// By `libm` in double precision, so that they are the same on every platform.
pub(crate) fn sinusoids(n_pos: usize, d: usize) -> TensorData {
    // A training step asks for them anew, and powers are the dearest part of them.
    let speeds: Vec<f64> =
        (0..d).step_by(2).map(|i| libm::pow(BASE, -(i as f64) / d as f64)).collect();
    let mut table = Vec::with_capacity(n_pos * d);
    for pos in 0..n_pos {
        for i in 0..d {
            let angle = pos as f64 * speeds[i / 2];
            let wave = if i.is_multiple_of(2) { libm::sin(angle) } else { libm::cos(angle) };
            table.push(wave as f32);
        }
    }
    TensorData::new(table, [n_pos, d])
}

/// `[n_pos, d]`: place `p` is `p / n_ctx` at the last number and zeros before.
pub(crate) fn line(n_pos: usize, d: usize, n_ctx: usize) -> TensorData {
    let mut table = vec![0.0; n_pos * d];
    for (pos, row) in table.chunks_exact_mut(d).enumerate() {
        row[d - 1] = (pos as f64 / n_ctx as f64) as f32;
    }
    TensorData::new(table, [n_pos, d])
}
