//! Elementary functions a compiler can turn into vector code, with their errors.
//!
//! Each is a polynomial or a quotient of two, free of branches and calls, and passes NaN on. The
//! tests measure the stated errors against `f64` over the whole range.

#![expect(
    clippy::excessive_precision,
    reason = "coefficients are given as published; the compiler rounds them"
)]

use super::simd::fma;

/// `e^x`, with a relative error below 2e-7 for `x` in [-87, 88].
///
/// Below, the result stays at the smallest normal number (1.2e-38) instead of fading to 0; above,
/// at 2.4e38 instead of infinity. `x = n ln 2 + r` with `|r| <= ln 2 / 2`, and a polynomial for
/// `e^r`.
///
/// # Source
///
/// The coefficients are those of `expf` in S. Moshier's Cephes library.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    /// Adding this rounds to an integer, which then stands in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_375;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // In this form a NaN stays a NaN, and each line is one instruction.
    let x = if x < -87.3 { -87.3 } else { x };
    let x = if x > 88.3 { 88.3 } else { x };
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<FMA>(n, -LN_2_LOW, fma::<FMA>(n, -LN_2_HIGH, x));
    let mut p = 1.987_569_150e-4;
    p = fma::<FMA>(p, r, 1.398_199_950_7e-3);
    p = fma::<FMA>(p, r, 8.333_451_907_3e-3);
    p = fma::<FMA>(p, r, 4.166_579_589_4e-2);
    p = fma::<FMA>(p, r, 1.666_666_545_9e-1);
    p = fma::<FMA>(p, r, 5.000_000_120_1e-1);
    let e_r = fma::<FMA>(p, r * r, r) + 1.0;
    // 2^n: the exponent moved to its place. The subtraction drops the bits of `ROUND`.
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits() - 127) << 23;
    e_r * f32::from_bits(exponent)
}

/// `1 / (1 + e^-x)`, with a relative error below 4e-7 for `x > -87`.
#[inline(always)]
pub(crate) fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// The hyperbolic tangent, with a relative error below 5e-7.
///
/// # Source
///
/// The quotient of polynomials that Eigen and TensorFlow use for single precision.
#[inline(always)]
pub(crate) fn tanh<const FMA: bool>(x: f32) -> f32 {
    // Beyond this the quotient is 1 to the last place.
    const LIMIT: f32 = 7.905_311_107_635_498;
    let x = if x < -LIMIT { -LIMIT } else { x };
    let x = if x > LIMIT { LIMIT } else { x };
    let x2 = x * x;
    let mut p = -2.760_768_477_423_55e-16;
    p = fma::<FMA>(p, x2, 2.000_187_904_824_77e-13);
    p = fma::<FMA>(p, x2, -8.604_671_522_137_35e-11);
    p = fma::<FMA>(p, x2, 5.122_297_090_371_14e-8);
    p = fma::<FMA>(p, x2, 1.485_722_357_179_79e-5);
    p = fma::<FMA>(p, x2, 6.372_619_288_754_36e-4);
    p = fma::<FMA>(p, x2, 4.893_524_558_917_86e-3);
    let mut q = 1.198_258_394_667_02e-6;
    q = fma::<FMA>(q, x2, 1.185_347_056_866_54e-4);
    q = fma::<FMA>(q, x2, 2.268_434_632_439_00e-3);
    q = fma::<FMA>(q, x2, 4.893_525_185_543_85e-3);
    x * p / q
}

/// The error function, with an absolute error below 4e-7.
///
/// # Source
///
/// The quotient of polynomials that Eigen and TensorFlow use for single precision.
#[inline(always)]
pub(crate) fn erf<const FMA: bool>(x: f32) -> f32 {
    const LIMIT: f32 = 4.0;
    let x = if x < -LIMIT { -LIMIT } else { x };
    let x = if x > LIMIT { LIMIT } else { x };
    let x2 = x * x;
    let mut p = -2.726_142_258_013_06e-10;
    p = fma::<FMA>(p, x2, 2.770_681_424_959_02e-8);
    p = fma::<FMA>(p, x2, -2.101_024_020_825_08e-6);
    p = fma::<FMA>(p, x2, -5.692_506_394_623_46e-5);
    p = fma::<FMA>(p, x2, -7.349_906_303_268_55e-4);
    p = fma::<FMA>(p, x2, -2.954_599_808_540_25e-3);
    p = fma::<FMA>(p, x2, -1.609_603_332_624_15e-2);
    let mut q = -1.456_607_184_649_96e-5;
    q = fma::<FMA>(q, x2, -2.133_740_552_789_05e-4);
    q = fma::<FMA>(q, x2, -1.682_826_974_382_03e-3);
    q = fma::<FMA>(q, x2, -7.373_329_167_204_68e-3);
    q = fma::<FMA>(q, x2, -1.426_473_905_141_89e-2);
    x * p / q
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error of `f` against `truth` on a fine grid, as `error(got, expected)`.
    fn worst(
        range: std::ops::Range<f64>,
        f: impl Fn(f32) -> f32,
        truth: impl Fn(f64) -> f64,
        error: impl Fn(f64, f64) -> f64,
    ) -> f64 {
        const N: usize = 400_001;
        (0..N)
            .map(|i| (range.start + (range.end - range.start) * i as f64 / N as f64) as f32)
            .map(|x| error(f64::from(f(x)), truth(f64::from(x))))
            .fold(0.0, f64::max)
    }

    fn relative(got: f64, expected: f64) -> f64 {
        if expected == 0.0 { got.abs() } else { ((got - expected) / expected).abs() }
    }

    fn absolute(got: f64, expected: f64) -> f64 {
        (got - expected).abs()
    }

    #[test]
    fn errors_are_within_what_the_documentation_states() {
        let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
        assert!(worst(-87.0..88.0, exp::<true>, f64::exp, relative) < 2e-7);
        assert!(worst(-87.0..88.0, exp::<false>, f64::exp, relative) < 2e-7);
        assert!(worst(-1e-3..1e-3, exp::<true>, f64::exp, relative) < 2e-7);
        assert!(worst(-86.0..86.0, sigmoid::<true>, sigma, relative) < 4e-7);
        assert!(worst(-12.0..12.0, tanh::<true>, f64::tanh, relative) < 5e-7);
        assert!(worst(-1e-3..1e-3, tanh::<false>, f64::tanh, relative) < 5e-7);
        assert!(worst(-6.0..6.0, erf::<true>, libm::erf, absolute) < 4e-7);
        assert!(worst(-1e-2..1e-2, erf::<false>, libm::erf, relative) < 4e-7);
    }

    #[test]
    fn nan_is_passed_on_and_the_ends_are_finite() {
        for f in [exp::<true>, sigmoid::<true>, tanh::<true>, erf::<true>] {
            assert!(f(f32::NAN).is_nan());
            for x in [f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30] {
                assert!(f(x).is_finite());
            }
        }
        assert!((exp::<true>(0.0) - 1.0).abs() == 0.0);
        assert!((tanh::<true>(30.0) - 1.0).abs() < 5e-7 && tanh::<true>(0.0).abs() == 0.0);
        assert!(exp::<true>(-1e30) < 1.3e-38);
    }
}
