//! The angles of rotary positions.

use std::{fmt, sync::Arc};

use crate::QueryRows;

/// By which angles the numbers of a head are turned at each place.
///
/// Pair `i` of a head, its numbers `i` and `i + n_rotated / 2`, is turned by
/// `pos base^(-2i / n_rotated)`. The cosines and sines are computed once, in `f64` by `libm`, and
/// rounded: the bits are the same on every platform. A clone shares them.
///
/// # Example
///
/// ```
/// use mnemoscope_engine::{Ops, QueryRows, Rotary, burn::tensor::Tensor, device::{Cpu, cpu}};
///
/// // One head of two numbers, a single pair: turned by 0 at pos 0 and by 1 at pos 1.
/// let rotary = Rotary::new(2, 2, 10_000.0, 2);
/// let x = Tensor::<Cpu, 2>::from_data([[1.0, 0.0], [1.0, 0.0]], &cpu());
/// let y = <Cpu as Ops>::rotary(x, 1, &QueryRows::all(1, 2), &rotary);
/// let (cos, sin) = (1_f32.cos(), 1_f32.sin());
/// assert_eq!(y.into_data().to_vec::<f32>().unwrap(), [1.0, 0.0, cos, sin]);
/// ```
///
/// # Source
///
/// Su et al., "RoFormer", 2021, arXiv:2104.09864.
#[derive(Clone)]
pub struct Rotary {
    d_head: usize,
    n_rotated: usize,
    n_pos: usize,
    /// `[pos, pair]`
    cos: Arc<[f32]>,
    sin: Arc<[f32]>,
}

impl Rotary {
    /// The angles of `n_pos` places.
    ///
    /// # Arguments
    ///
    /// - `n_rotated`: numbers of a head that are turned, from its first; even, up to `d_head`.
    /// - `base`: above 0; 10000 in the paper.
    ///
    /// # Panics
    ///
    /// If `n_rotated` is odd, 0 or above `d_head`, or `base` is not above 0.
    #[must_use]
    #[track_caller]
    pub fn new(d_head: usize, n_rotated: usize, base: f64, n_pos: usize) -> Self {
        assert!(
            n_rotated > 0 && n_rotated.is_multiple_of(2) && n_rotated <= d_head,
            "n_rotated {n_rotated} is not an even number in 2..={d_head}, which is d_head"
        );
        assert!(base > 0.0 && base.is_finite(), "base {base} is not a finite number above 0");
        let speed = |pair: usize| libm::pow(base, -2.0 * pair as f64 / n_rotated as f64);
        let speeds: Vec<f64> = (0..n_rotated / 2).map(speed).collect();
        let of_angles = |of: fn(f64) -> f64| {
            let angles = (0..n_pos).flat_map(|pos| speeds.iter().map(move |s| pos as f64 * s));
            angles.map(|angle| of(angle) as f32).collect()
        };
        Self { d_head, n_rotated, n_pos, cos: of_angles(libm::cos), sin: of_angles(libm::sin) }
    }

    /// Numbers of a head.
    #[must_use]
    pub fn d_head(&self) -> usize {
        self.d_head
    }

    /// Numbers of a head that are turned.
    #[must_use]
    pub fn n_rotated(&self) -> usize {
        self.n_rotated
    }

    /// The cosine of each pair's angle at `pos`.
    pub(crate) fn cos(&self, pos: usize) -> &[f32] {
        &self.cos[pos * self.n_rotated / 2..][..self.n_rotated / 2]
    }

    /// The sine of each pair's angle at `pos`.
    pub(crate) fn sin(&self, pos: usize) -> &[f32] {
        &self.sin[pos * self.n_rotated / 2..][..self.n_rotated / 2]
    }

    /// Cosines and sines of all places, `[pos, pair]`.
    #[cfg(feature = "gpu")]
    pub(crate) fn tables(&self) -> [&[f32]; 2] {
        [&self.cos, &self.sin]
    }

    /// Stops where `[rows, d]` does not fit `n_turned` heads at these places.
    #[track_caller]
    pub(crate) fn check(&self, [n_rows, d]: [usize; 2], n_turned: usize, rows: &QueryRows) {
        assert_eq!(n_rows, rows.len(), "x: [{n_rows}, {d}] does not fit {} places", rows.len());
        assert!(
            n_turned > 0 && n_turned * self.d_head <= d,
            "x: [rows, {d}] does not begin with {n_turned} heads of {}",
            self.d_head
        );
        assert!(
            rows.seq_len() <= self.n_pos,
            "there are angles of {} places, the rows stand in {}",
            self.n_pos,
            rows.seq_len()
        );
    }
}

impl fmt::Debug for Rotary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rotary")
            .field("d_head", &self.d_head)
            .field("n_rotated", &self.n_rotated)
            .field("n_pos", &self.n_pos)
            .finish_non_exhaustive()
    }
}
