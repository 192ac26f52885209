//! The learning rate of a step: linear warm-up, then linear decay aimed at zero one step past its end.
//!
//! Source: Liu et al. 2023, arXiv:2306.00946, appendix B.2 (50 steps of warm-up, then a decay
//! that would reach 0 at step 10,001 of a run of 10,000).

/// The factor in `[0, 1]` by which the learning rate is multiplied at `step`.
///
/// During warm-up it is `step / warmup_steps`, so that step 1 already moves and step
/// `warmup_steps` moves fully; afterwards it falls on a straight line that would reach zero at
/// step `decay_steps + 1`.
///
/// # Arguments
///
/// - `step`: the step being taken, from 1 to `decay_steps`.
/// - `warmup_steps`: `0` means no warm-up.
///
/// # Panics
///
/// If `step` is not in `1..=decay_steps`; the trainer counts, nobody else does.
///
/// # Example
///
/// ```
/// use mnemoscope_lab::train::learning_rate_factor;
///
/// let factor = |step| learning_rate_factor(step, 50, 10_000);
/// assert!((factor(1) - 0.02).abs() < 1e-15);
/// assert!((factor(50) - 1.0).abs() < 1e-15);
/// // The last step still moves, by one part in 9,951.
/// assert!((factor(10_000) - 1.0 / 9_951.0).abs() < 1e-15);
/// ```
#[must_use]
#[track_caller]
pub fn learning_rate_factor(step: u64, warmup_steps: u64, decay_steps: u64) -> f64 {
    assert!((1..=decay_steps).contains(&step), "step {step} is not in 1..={decay_steps}");
    if step <= warmup_steps {
        warmup_factor(step, warmup_steps)
    } else {
        (decay_steps + 1 - step) as f64 / (decay_steps + 1 - warmup_steps) as f64
    }
}

/// The factor of a schedule that only rises: `step / warmup_steps`, and 1 from there on.
///
/// # Example
///
/// ```
/// use mnemoscope_lab::train::warmup_factor;
///
/// assert_eq!([1, 2, 4, 9].map(|step| warmup_factor(step, 4)), [0.25, 0.5, 1.0, 1.0]);
/// assert_eq!(warmup_factor(1, 0), 1.0);
/// ```
#[must_use]
pub fn warmup_factor(step: u64, warmup_steps: u64) -> f64 {
    if step < warmup_steps { step as f64 / warmup_steps as f64 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::learning_rate_factor;

    #[test]
    fn the_factor_rises_to_one_and_falls_towards_zero() {
        let factors: Vec<f64> = (1..=500).map(|step| learning_rate_factor(step, 50, 500)).collect();
        assert!(factors[..50].is_sorted());
        assert!(factors[49..].iter().rev().is_sorted());
        assert!(factors.iter().all(|&factor| 0.0 < factor && factor <= 1.0));
        assert!((factors[499] - 1.0 / 451.0).abs() < 1e-15);
    }

    #[test]
    fn without_warm_up_the_fall_begins_with_the_first_step() {
        let factors: Vec<f64> = (1..=10).map(|step| learning_rate_factor(step, 0, 10)).collect();
        assert!((factors[0] - 10.0 / 11.0).abs() < 1e-15);
        assert!(factors.iter().rev().is_sorted());
    }

    #[test]
    fn a_run_that_is_all_warm_up_never_divides_by_zero() {
        assert!((learning_rate_factor(10, 10, 10) - 1.0).abs() < 1e-15);
    }
}
