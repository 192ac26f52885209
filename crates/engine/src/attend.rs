//! How a query attends: what attention is asked for beyond its operands.

use burn::tensor::{Tensor, backend::Backend};

use crate::Dropout;

/// What is asked of attention, beside its operands.
///
/// # Example
///
/// ```
/// use mnemoscope_engine::{Attend, Dropout, Ops, burn::tensor::Tensor, device::{Cpu, cpu}};
///
/// // Two places, two heads of one number each; q, k and v of a place behind each other.
/// let qkv = Tensor::<Cpu, 3>::from_data([[[0.0; 6], [0.0, 0.0, 0.0, 0.0, 1.0, 3.0]]], &cpu());
/// let attend = Attend { stats: true, ..Attend::plain(2) };
/// let packed = <Cpu as Ops>::causal_attention(qkv, None, &attend);
/// let (y, stats) = attend.split(packed);
/// assert_eq!(y.into_data().to_vec::<f32>().unwrap(), [0.0, 0.0, 0.5, 1.5]);
/// // The second place attends to both places alike, with either head.
/// let max = stats.unwrap().max;
/// assert_eq!(max.into_data().to_vec::<f32>().unwrap(), [1.0, 1.0, 0.5, 0.5]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Attend {
    /// Attention heads.
    pub n_heads: usize,
    /// Scores are `q . k / (sqrt(d_head) temperature)`; 1 is the usual. Above 0.
    pub temperature: f64,
    /// Whether, and which, entries of the pattern are dropped.
    pub dropout: Option<Dropout>,
    /// Whether the rows of the result carry [`RowStats`] behind them.
    pub stats: bool,
    /// Whether packed rows come of [`linear`](crate::Ops::linear) layers without a bias, and go nowhere else: their gradient is
    /// then only ever a factor, and may be rounded as it is written ([`as_factor`](crate::as_factor)).
    pub factor_grad: bool,
}

impl Attend {
    /// Statistics of one row and one head.
    pub(crate) const N_STATS: usize = 3;

    /// The plain softmax of the scores.
    #[must_use]
    pub const fn plain(n_heads: usize) -> Self {
        Self { n_heads, temperature: 1.0, dropout: None, stats: false, factor_grad: false }
    }

    /// The same of one member of a cohort, whose examples are counted from its first.
    pub(crate) fn of_member(&self, member: usize) -> Self {
        let dropout = self.dropout.as_ref().map(|dropout| dropout.of_member(member));
        Self { dropout, ..*self }
    }

    /// What products of queries and keys are divided by.
    #[track_caller]
    pub(crate) fn divisor(&self, d_head: usize) -> f64 {
        self.check();
        (d_head as f64).sqrt() * self.temperature
    }

    /// What products of queries and keys are multiplied by.
    #[track_caller]
    pub(crate) fn scale(&self, d_head: usize) -> f32 {
        self.check();
        // Rounded before the temperature comes in, so that a temperature of 1 changes no bit.
        (f64::from((d_head as f32).sqrt().recip()) / self.temperature) as f32
    }

    #[track_caller]
    fn check(&self) {
        let temperature = self.temperature;
        assert!(
            temperature > 0.0 && temperature.is_finite(),
            "temperature {temperature} is not a finite number above 0"
        );
    }

    /// Numbers behind the `d` of a row of the result.
    pub(crate) fn n_stats(&self) -> usize {
        if self.stats { Self::N_STATS * self.n_heads } else { 0 }
    }

    /// What attention gave, and the statistics of its rows if they were asked for.
    ///
    /// # Shapes
    ///
    /// `[.., d + 3 n_heads]` -> `[.., d]` and three of `[.., n_heads]`; without statistics `[.., d]`
    /// is handed back.
    ///
    /// # Panics
    ///
    /// If a row has no room for the statistics of `n_heads`.
    #[track_caller]
    pub fn split<B: Backend, const D: usize>(
        &self,
        packed: Tensor<B, D>,
    ) -> (Tensor<B, D>, Option<RowStats<B, D>>) {
        if !self.stats {
            return (packed, None);
        }
        let (width, n_stats) = (packed.dims()[D - 1], self.n_stats());
        assert!(width > n_stats, "[.., {width}] has no room for d and {n_stats} statistics");
        let d = width - n_stats;
        let stat = |i: usize| packed.clone().narrow(D - 1, d + i * self.n_heads, self.n_heads);
        let stats = RowStats { entropy_nats: stat(0), norm: stat(1), max: stat(2) };
        (packed.narrow(D - 1, 0, d), Some(stats))
    }
}

/// Statistics of the rows of an attention pattern, before dropout.
///
/// Each is `[.., n_heads]` and can be differentiated.
#[derive(Clone, Debug)]
pub struct RowStats<B: Backend, const D: usize> {
    /// `-sum p ln p` over the keys: 0 where one key has all, `ln n` where `n` keys share alike.
    pub entropy_nats: Tensor<B, D>,
    /// `sqrt(sum p^2)`.
    pub norm: Tensor<B, D>,
    /// The largest entry; its gradient goes to the first key that has it.
    pub max: Tensor<B, D>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temperature_of_one_changes_no_bit_of_the_scale() {
        for d_head in 1..200 {
            let scale = (d_head as f32).sqrt().recip();
            assert_eq!(Attend::plain(1).scale(d_head).to_bits(), scale.to_bits());
        }
    }

    #[test]
    fn a_temperature_that_is_not_above_zero_is_refused() {
        for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let attend = Attend { temperature, ..Attend::plain(1) };
            assert!(std::panic::catch_unwind(|| attend.scale(4)).is_err());
        }
    }
}
