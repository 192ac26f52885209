//! What random vectors and random maps do: near orthonormal, and a map makes fresh ones.
//!
//! With entries of variance `1 / d`:
//!
//! | fact | exact at every width |
//! |---|---|
//! | `norm(u)^2` is near 1 | mean 1 |
//! | `sqrt(d) u^T v` is near normal | variance 1, fourth moment `3 (1 + 2 / d)` |
//! | `norm(W x)` is near `norm(x)` | the mean of `norm(W x)^2 / norm(x)^2` is 1 |
//! | `W x` is near orthogonal to `x` | `x^T W x` has mean 0 and variance `norm(x)^4 / d` |
//!
//! The last two make a *remapping*: what passes through `W_O W_V` of a head stays as long as it was
//! and collides with nothing that was there before.
//!
//! Source: arXiv:2306.00802, appendix A.

use mnemoscope_stats::mean::Mean;
use mnemoscope_stats::stream::Stream;

use crate::check::Check;
use crate::embedding::{gaussian, remapped};

/// The checks of this module.
///
/// # Arguments
///
/// - `d_model`: the width.
/// - `n_pairs`: pairs of vectors; `n_maps`: maps, each drawn anew for one vector.
#[must_use]
pub fn checks(d_model: usize, n_pairs: usize, n_maps: u64, stream: &Stream) -> Vec<Check> {
    let d = d_model as f64;
    let rows = gaussian(&stream.derive("vectors"), [2 * n_pairs, d_model], 1.0 / d);
    let [mut norm, mut second, mut fourth] = [Mean::default(); 3];
    for pair in 0..n_pairs {
        let (u, v) = (rows.row(2 * pair), rows.row(2 * pair + 1));
        norm.add(u.dot(&u));
        let product = d * u.dot(&v).powi(2);
        second.add(product);
        fourth.add(product * product);
    }
    let [mut stretched, mut overlap, mut overlap_squared] = [Mean::default(); 3];
    for idx in 0..n_maps {
        let stream = stream.derive("maps").child(idx);
        let x = gaussian(&stream.derive("x"), [1, d_model], 1.0 / d);
        let mapped = remapped(x.view(), &stream.derive("map"));
        let squared = x.row(0).dot(&x.row(0));
        stretched.add(mapped.row(0).dot(&mapped.row(0)) / squared);
        let along = x.row(0).dot(&mapped.row(0)) / squared;
        overlap.add(along);
        overlap_squared.add(d * along * along);
    }
    let at = format!("d {d_model}");
    vec![
        Check::mean(format!("{at}: u.u"), 1.0, &norm),
        Check::mean(format!("{at}: variance of sqrt(d) u.v"), 1.0, &second),
        Check::mean(format!("{at}: its fourth moment"), 3.0 * (1.0 + 2.0 / d), &fourth),
        Check::mean(format!("{at}: |Wx|^2 / |x|^2"), 1.0, &stretched),
        Check::mean(format!("{at}: x.Wx / |x|^2"), 0.0, &overlap),
        Check::mean(format!("{at}: d times its square"), 1.0, &overlap_squared),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six intervals of 99.99 %: one seed in 1,600 would fail.
    #[test]
    fn random_vectors_are_near_orthonormal() {
        for check in checks(48, 500, 100, &Stream::root(0)) {
            assert!(check.holds(), "{check:?}");
        }
    }
}
