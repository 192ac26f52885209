//! Helpers with which this and other rooms check a kernel or a layer.

/// Checks `backward` against central differences of `sum(weight * forward(x))` in `f64`.
///
/// The weights of the sum are fixed and all different, so that a wrong axis cannot cancel.
///
/// # Arguments
///
/// - `x`: where to check; values of order 1.
/// - `forward`: the operation, from its flattened inputs to its flattened outputs.
/// - `backward`: from the same inputs and the gradient of the outputs to the gradient of the inputs.
///
/// # Panics
///
/// If any partial derivative is off by more than `1e-7 * (1 + |expected|)`, naming the first.
///
/// # Example
///
/// ```
/// use mnemoscope_engine::testing::check_grad;
///
/// let square = |x: &[f64]| x.iter().map(|x| x * x).collect();
/// check_grad(&[0.5, -2.0], square, |x, d_y| x.iter().zip(d_y).map(|(x, d)| 2.0 * x * d).collect());
/// ```
#[track_caller]
pub fn check_grad(
    x: &[f64],
    forward: impl Fn(&[f64]) -> Vec<f64>,
    backward: impl Fn(&[f64], &[f64]) -> Vec<f64>,
) {
    const STEP: f64 = 1e-5;
    let y = forward(x);
    let weight: Vec<f64> = (1..=y.len()).map(|i| (i as f64).sin()).collect();
    let got = backward(x, &weight);
    assert_eq!(got.len(), x.len(), "the gradient has {} of {} entries", got.len(), x.len());
    for i in 0..x.len() {
        let loss = |delta: f64| {
            let mut moved = x.to_vec();
            moved[i] += delta;
            std::iter::zip(forward(&moved), &weight).map(|(y, w)| y * w).sum::<f64>()
        };
        let expected = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
        let allowed = 1e-7 * (1.0 + expected.abs());
        assert!(
            (got[i] - expected).abs() <= allowed,
            "d x[{i}]: got {}, expected {expected}",
            got[i]
        );
    }
}

/// Checks that `got` is within `tolerance` of `expected`, relative to the largest expected value.
///
/// Single entries of a gradient may cancel to almost nothing; an error is therefore measured
/// against the size of the whole array.
///
/// # Panics
///
/// If the lengths differ, a value is not finite, or an entry is too far off; the message names it.
///
/// # Example
///
/// ```
/// mnemoscope_engine::testing::check_close("y", &[1.0, 1e-9], &[1.0, 0.0], 1e-6);
/// ```
#[track_caller]
pub fn check_close(name: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{name}: lengths differ");
    let scale = expected.iter().fold(0.0_f32, |scale, x| scale.max(x.abs())).max(1e-20);
    for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        assert!(
            got.is_finite() && (got - expected).abs() <= tolerance * scale,
            "{name}[{i}]: got {got:e}, expected {expected:e} (scale {scale:e}, tolerance {tolerance:e})"
        );
    }
}

/// Checks that two arrays are the same to the bit.
///
/// # Panics
///
/// If the lengths differ or any entry does, naming the first.
#[track_caller]
pub fn check_same_bits(name: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{name}: lengths differ");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!(
            got.to_bits() == expected.to_bits(),
            "{name}[{i}]: {got:e} and {expected:e} differ in their bits"
        );
    }
}

/// Fixed numbers in `(-1, 1)` that look random and are the same everywhere.
///
/// For tests and benches only: this is a Weyl sequence folded by a hash, not an addressed stream.
///
/// # Example
///
/// ```
/// use mnemoscope_engine::testing::numbers;
///
/// assert_eq!(numbers(1, 3), numbers(1, 5)[..3]);
/// assert_ne!(numbers(1, 3), numbers(2, 3));
/// ```
#[must_use]
pub fn numbers(salt: u64, n_numbers: usize) -> Vec<f32> {
    (0..n_numbers as u64)
        .map(|i| {
            let mut z = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                ^ salt.wrapping_mul(0xd6e8_feb8_6659_fd93);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z >> 40) as f32 + 0.5) / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_gradient_is_found() {
        let wrong = std::panic::catch_unwind(|| {
            check_grad(&[0.5], |x| vec![x[0] * x[0]], |x, d_y| vec![x[0] * d_y[0]]);
        });
        assert!(wrong.is_err());
    }

    #[test]
    fn a_value_that_is_not_finite_is_not_close_to_anything() {
        let nan = std::panic::catch_unwind(|| check_close("y", &[f32::NAN], &[0.0], 1.0));
        assert!(nan.is_err());
    }

    #[test]
    fn negative_zero_has_other_bits() {
        let zero = std::panic::catch_unwind(|| check_same_bits("y", &[0.0], &[-0.0]));
        assert!(zero.is_err());
    }

    #[test]
    fn numbers_are_spread_over_the_interval() {
        let numbers = numbers(3, 10_000);
        let mean = numbers.iter().sum::<f32>() / 1e4;
        let square = numbers.iter().map(|x| x * x).sum::<f32>() / 1e4;
        assert!(mean.abs() < 0.03 && (square - 1.0 / 3.0).abs() < 0.02);
        assert!(numbers.iter().all(|x| x.abs() < 1.0));
    }
}
