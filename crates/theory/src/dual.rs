//! Dual numbers: a value with its slope, so that any program of them is its own derivative.
//!
//! `(a + b e)` with `e^2 = 0`: arithmetic on such pairs carries the chain rule along exactly, to the
//! rounding of a double. That is the independent side of every gradient formula here. It is written
//! out because a crate for it would bring a second linear algebra along for sixty lines.
//!
//! Source: Griewank and Walther, "Evaluating Derivatives", SIAM 2008, chapter 3 (forward mode).

use std::ops::{Add, Div, Mul, Neg, Sub};

use ndarray::{Array2, ArrayView1};

/// A number and its derivative with respect to one entry.
///
/// # Example
///
/// ```
/// use mnemoscope_theory::dual::Dual;
///
/// // The derivative of x exp(x) at 1 is 2 e.
/// let x = Dual { value: 1.0, slope: 1.0 };
/// let y = x * x.exp();
/// assert!((y.slope - 2.0 * 1f64.exp()).abs() < 1e-15);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dual {
    /// The number.
    pub value: f64,
    /// Its derivative.
    pub slope: f64,
}

impl Dual {
    /// Nothing, and it stays nothing.
    pub const ZERO: Self = Self::constant(0.0);

    /// A number that does not depend on the entry.
    #[must_use]
    pub const fn constant(value: f64) -> Self {
        Self { value, slope: 0.0 }
    }

    /// The exponential.
    #[must_use]
    pub fn exp(self) -> Self {
        let value = self.value.exp();
        Self { value, slope: value * self.slope }
    }

    /// The natural logarithm.
    #[must_use]
    pub fn ln(self) -> Self {
        Self { value: self.value.ln(), slope: self.slope / self.value }
    }

    /// The square root.
    #[must_use]
    pub fn sqrt(self) -> Self {
        let value = self.value.sqrt();
        Self { value, slope: self.slope / (2.0 * value) }
    }
}

impl Add for Dual {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { value: self.value + other.value, slope: self.slope + other.slope }
    }
}

impl Sub for Dual {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { value: self.value - other.value, slope: self.slope - other.slope }
    }
}

impl Mul for Dual {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        let slope = self.value * other.slope + self.slope * other.value;
        Self { value: self.value * other.value, slope }
    }
}

impl Mul<f64> for Dual {
    type Output = Self;
    fn mul(self, factor: f64) -> Self {
        Self { value: self.value * factor, slope: self.slope * factor }
    }
}

impl Div for Dual {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        let value = self.value / other.value;
        Self { value, slope: (self.slope - value * other.slope) / other.value }
    }
}

impl Neg for Dual {
    type Output = Self;
    fn neg(self) -> Self {
        Self { value: -self.value, slope: -self.slope }
    }
}

impl std::iter::Sum for Dual {
    fn sum<I: Iterator<Item = Self>>(terms: I) -> Self {
        terms.fold(Self::ZERO, |sum, term| sum + term)
    }
}

/// `u^T v` of a vector of duals and one of numbers.
///
/// # Panics
///
/// If their lengths differ.
#[must_use]
#[track_caller]
pub fn dot(duals: &[Dual], numbers: ArrayView1<'_, f64>) -> Dual {
    assert_eq!(duals.len(), numbers.len(), "a product of vectors of different lengths");
    std::iter::zip(duals, numbers).map(|(&dual, &number)| dual * number).sum()
}

/// `W x` of a matrix of duals and a vector of numbers.
///
/// # Shapes
///
/// `weight: [d_out, d_in]`, `x: [d_in]` -> `[d_out]`.
#[must_use]
pub fn apply(weight: &Array2<Dual>, x: ArrayView1<'_, f64>) -> Vec<Dual> {
    let rows = weight.rows().into_iter();
    rows.map(|row| std::iter::zip(row, x).map(|(&entry, &number)| entry * number).sum()).collect()
}

/// The softmax.
#[must_use]
pub fn softmax(scores: &[Dual]) -> Vec<Dual> {
    let largest = scores.iter().map(|score| score.value).fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<Dual> =
        scores.iter().map(|&score| (score - Dual::constant(largest)).exp()).collect();
    let sum: Dual = powers.iter().copied().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The cross entropy of `label` under `logits`, in nats.
///
/// # Panics
///
/// If `label` has no logit.
#[must_use]
#[track_caller]
pub fn cross_entropy(logits: &[Dual], label: usize) -> Dual {
    let largest = logits.iter().map(|logit| logit.value).fold(f64::NEG_INFINITY, f64::max);
    let sum: Dual = logits.iter().map(|&logit| (logit - Dual::constant(largest)).exp()).sum();
    sum.ln() + Dual::constant(largest) - logits[label]
}

/// The gradient of a scalar with respect to a matrix, an entry at a time.
///
/// # Shapes
///
/// `weight: [d_out, d_in]` -> the same.
///
/// # Example
///
/// ```
/// use mnemoscope_theory::dual::{apply, dot, gradient};
/// use ndarray::array;
///
/// // u^T W v has the gradient u v^T.
/// let (u, v) = (array![1.0, 2.0], array![3.0, 5.0]);
/// let found = gradient(&array![[0.0, 1.0], [4.0, 0.0]], |w| dot(&apply(w, v.view()), u.view()));
/// assert_eq!(found, array![[3.0, 5.0], [6.0, 10.0]]);
/// ```
pub fn gradient(weight: &Array2<f64>, loss: impl Fn(&Array2<Dual>) -> Dual) -> Array2<f64> {
    let mut moved = weight.mapv(Dual::constant);
    Array2::from_shape_fn(weight.dim(), |at| {
        moved[at].slope = 1.0;
        let slope = loss(&moved).slope;
        moved[at].slope = 0.0;
        slope
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against derivatives that were found by hand, and central differences of the same program.
    #[test]
    fn slopes_are_derivatives() {
        let program = |x: Dual| (x.exp() / (x * x + Dual::constant(1.0))).sqrt() - x.ln() * 0.5;
        for value in [0.3, 1.0, 2.5] {
            let slope = program(Dual { value, slope: 1.0 }).slope;
            // f = sqrt(e^x / (x^2 + 1)) - ln(x) / 2, so f' = g (1 - 2 x / (x^2 + 1)) / 2 - 1 / 2x.
            let inner = f64::exp(value) / (value * value + 1.0);
            let by_hand = inner.sqrt() * (1.0 - 2.0 * value / (value * value + 1.0)) / 2.0
                - 1.0 / (2.0 * value);
            assert!((slope - by_hand).abs() < 1e-14, "{value}: {slope} {by_hand}");
            let step = 1e-5;
            let ahead = program(Dual::constant(value + step)).value;
            let behind = program(Dual::constant(value - step)).value;
            assert!((slope - (ahead - behind) / (2.0 * step)).abs() < 1e-8);
        }
    }

    #[test]
    fn the_cross_entropy_slopes_towards_the_label() {
        let logit = |value, slope| Dual { value, slope };
        let logits = [logit(1.0, 0.0), logit(-2.0, 1.0), logit(0.5, 0.0)];
        let p = softmax(&logits)[1].value;
        assert!((cross_entropy(&logits, 1).slope - (p - 1.0)).abs() < 1e-15);
        assert!((cross_entropy(&logits, 0).slope - p).abs() < 1e-15);
    }
}
