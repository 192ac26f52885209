//! Relative positions in a pass: queries and keys turned, or a bias on scores by distance.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use mnemoscope_engine::{Ops, QueryRows, Rotary};

use super::Table;
use super::sinusoid::BASE;
use crate::spec::{Relative, TransformerSpec};

/// What every block of one pass uses.
#[derive(Debug)]
pub(crate) enum Distances<B: Backend> {
    None,
    Rotary(Rotary),
    /// Added to scores, by how far the key lies before the query: `[head, pos]`, of a cohort `[members * head, pos]` if
    /// it is learned.
    Bias(Tensor<B, 2>),
}

impl<B: Ops> Distances<B> {
    /// Those of sequences of `n_pos` places; `table: [n_buckets, head]` if the spec has one.
    pub(crate) fn new(
        spec: &TransformerSpec,
        table: Option<&Table<B>>,
        n_pos: usize,
        device: &B::Device,
    ) -> Self {
        let d_head = spec.d_head();
        // The temperature divides whole scores, and the fused operations apply it to products alone.
        let bias = |bias: Tensor<B, 2>, factor: f64| {
            Self::Bias(bias.mul_scalar(factor / spec.temperature))
        };
        match spec.relative {
            Relative::None => Self::None,
            Relative::Rotary { n_rotated } => {
                Self::Rotary(Rotary::new(d_head, n_rotated, BASE, n_pos))
            }
            Relative::T5 { n_buckets, max_distance } => {
                let table = table.expect("the layout lists the buckets").weight.val();
                let buckets: Vec<i64> =
                    (0..n_pos).map(|n| bucket(n, n_buckets, max_distance) as i64).collect();
                let buckets = TensorData::new(buckets, [n_pos]);
                let buckets = Tensor::<B, 1, Int>::from_data(buckets, device);
                let [n_rows, n_heads] = table.dims();
                let n_members = n_rows / n_buckets;
                let rows = table.reshape([n_members, n_buckets, n_heads]).select(1, buckets);
                let by_head = rows.swap_dims(1, 2).reshape([n_members * n_heads, n_pos]);
                bias(by_head, (d_head as f64).sqrt())
            }
            Relative::Alibi => {
                let distance = |slope: f64| (0..n_pos).map(move |n| (-slope * n as f64) as f32);
                let table: Vec<f32> = slopes(spec.n_heads).into_iter().flat_map(distance).collect();
                let table = TensorData::new(table, [spec.n_heads, n_pos]);
                bias(Tensor::from_data(table, device), 1.0)
            }
        }
    }

    /// Rows of which the first `n_turned` heads are queries or keys, as the scores see them.
    pub(crate) fn place(
        &self,
        x: Tensor<B, 2>,
        n_turned: usize,
        rows: impl FnOnce() -> QueryRows,
    ) -> Tensor<B, 2> {
        match self {
            Self::Rotary(rotary) => B::rotary(x, n_turned, &rows(), rotary),
            Self::None | Self::Bias(_) => x,
        }
    }

    /// Whether queries and keys are [turned](Self::place).
    pub(crate) fn turns(&self) -> bool {
        matches!(self, Self::Rotary(_))
    }

    /// What is added to scores: `[head, pos]`.
    pub(crate) fn bias(&self) -> Option<Tensor<B, 2>> {
        match self {
            Self::Bias(bias) => Some(bias.clone()),
            Self::None | Self::Rotary(_) => None,
        }
    }
}

/// The bucket of a key `distance` tokens before its query.
fn bucket(distance: usize, n_buckets: usize, max_distance: usize) -> usize {
    let n_single = n_buckets / 2;
    if distance < n_single {
        return distance;
    }
    let [distance, first, last] = [distance, n_single, max_distance].map(|n| libm::log(n as f64));
    let share = (distance - first) / (last - first);
    let further = (share * (n_buckets - n_single) as f64) as usize;
    (n_single + further).min(n_buckets - 1)
}

/// ALiBi's slopes of `n_heads` heads.
fn slopes(n_heads: usize) -> Vec<f64> {
    let of_power = |n: usize| (1..=n).map(move |i| libm::exp2(-8.0 * i as f64 / n as f64));
    let below = if n_heads.is_power_of_two() { n_heads } else { n_heads.next_power_of_two() / 2 };
    let between = of_power(2 * below).step_by(2).take(n_heads - below);
    of_power(below).chain(between).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_t5() {
        // Single distances below 16; 8^(k/16) times 16 from there on: the third begins at 16 * 8^(2/16).
        let expected = [
            (0, 0),
            (15, 15),
            (16, 16),
            (18, 16),
            (19, 17),
            (20, 17),
            (21, 18),
            (127, 31),
            (999, 31),
        ];
        for (distance, expected) in expected {
            assert_eq!(bucket(distance, 32, 128), expected, "{distance}");
        }
        assert!((0..600).map(|n| bucket(n, 5, 9)).is_sorted());
        assert_eq!((0..600).map(|n| bucket(n, 5, 9)).max(), Some(4));
    }

    #[test]
    fn slopes_are_those_of_alibi() {
        assert_eq!(slopes(8), [1, 2, 3, 4, 5, 6, 7, 8].map(|i| 0.5_f64.powi(i)));
        assert_eq!(slopes(2), [0.0625, 0.003_906_25]);
        // Those of two heads, then the first of four.
        assert_eq!(slopes(3), [0.0625, 0.003_906_25, 0.25]);
        assert_eq!(slopes(1), [0.003_906_25]);
    }
}
