//! Intervals for rates against 40-digit answers, against their definition, and in simulation.

use mnemoscope_stats::rate::{Interval, clopper_pearson, wilson, zero_error_upper};
use mnemoscope_stats::stream::Stream;
use proptest::prelude::*;

/// The probability of exactly `k` errors in `n` trials, without the incomplete beta function.
fn mass(k: u64, n: u64, rate: f64) -> f64 {
    let (k, n) = (k as f64, n as f64);
    let ways = libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(n - k + 1.0);
    // 0 ln 0 is 0 here: no error at rate 0 is certain.
    let power = |count: f64, log: f64| if count > 0.0 { count * log } else { 0.0 };
    libm::exp(ways + power(k, libm::log(rate)) + power(n - k, libm::log1p(-rate)))
}

/// The probability that the interval of `n` trials contains `rate`: a finite sum, no simulation.
fn coverage(interval: impl Fn(u64) -> Interval, n: u64, rate: f64) -> f64 {
    (0..=n).filter(|&k| interval(k).contains(rate)).map(|k| mass(k, n, rate)).sum()
}

/// Errors, trials, confidence and both ends, by continued fractions in 40 digits (mpmath 1.3).
#[test]
fn exact_intervals_agree_with_forty_digits() {
    let cases = [
        (1, 10, 0.95, 0.002_528_578_544_461_78, 0.445_016_117_028_195),
        (3, 7, 0.9, 0.128_756_392_804_243, 0.774_678_415_967_552),
        (500, 1_000, 0.95, 0.468_549_172_971_792, 0.531_450_827_028_208),
        (1, 26_508, 0.95, 9.551_001_921_595_86e-7, 2.101_691_174_034_79e-4),
        (5, 354_000, 0.95, 4.586_135_140_221_26e-6, 3.296_107_960_710_77e-5),
        (3_000, 354_000, 0.99, 8.082_922_133_768_22e-3, 8.879_504_500_119_74e-3),
        (175_000, 354_000, 0.95, 0.492_701_940_379_238, 0.495_998_717_081_486),
        (350_000, 700_000, 0.95, 0.498_827_985_228_734, 0.501_172_014_771_266),
        (1, 700_000, 0.95, 3.616_829_646_634_13e-8, 7.959_464_567_138_22e-6),
        (699_999, 700_000, 0.95, 0.999_992_040_535_433, 0.999_999_963_831_704),
        (10, 10_000_000, 0.95, 4.795_389_704_270_11e-7, 1.839_034_832_693_64e-6),
    ];
    for (n_errors, n_trials, confidence, low, high) in cases {
        let got = clopper_pearson(n_errors, n_trials, confidence);
        assert!((got.low / low - 1.0).abs() < 1e-8, "{n_errors}/{n_trials}: {got:?}");
        assert!((got.high / high - 1.0).abs() < 1e-8, "{n_errors}/{n_trials}: {got:?}");
    }
}

#[test]
fn the_outermost_counts_have_closed_forms() {
    for n_trials in [1, 2, 30, 26_508, 354_000, 1 << 40] {
        let interval = clopper_pearson(0, n_trials, 0.95);
        let high = -libm::expm1(libm::log(0.025) / n_trials as f64);
        assert!(interval.low.to_bits() == 0 && (interval.high / high - 1.0).abs() < 1e-12);
        // The two-sided end at 90 % is the one-sided one at 95 %.
        let two_sided = clopper_pearson(0, n_trials, 0.9).high;
        assert!((two_sided / zero_error_upper(n_trials, 0.95) - 1.0).abs() < 1e-12);
    }
    let all_wrong = clopper_pearson(30, 30, 0.95);
    assert!((all_wrong.low - libm::pow(0.025, 1.0 / 30.0)).abs() < 1e-12);
    assert!((all_wrong.high - 1.0).abs() < f64::EPSILON);
    let wilson_low = wilson(0, 30, 0.95);
    let z_square = 3.841_458_820_694_124;
    assert!((wilson_low.high - z_square / (30.0 + z_square)).abs() < 1e-12);
    for nothing in [clopper_pearson(0, 0, 0.95), wilson(0, 0, 0.95)] {
        assert_eq!(nothing, Interval::EVERYTHING);
    }
    assert!((zero_error_upper(0, 0.95) - 1.0).abs() < f64::EPSILON);
}

#[test]
fn an_interval_is_written_as_a_pair() {
    let interval = Interval { low: 0.0, high: 0.25 };
    assert_eq!(serde_json::to_string(&interval).unwrap(), "[0.0,0.25]");
    assert_eq!(serde_json::from_str::<Interval>("[0.0,0.25]").unwrap(), interval);
}

#[test]
fn impossible_counts_and_confidences_stop_the_program() {
    type Call = fn() -> Interval;
    let cases: [(Call, &str); 3] = [
        (|| clopper_pearson(3, 2, 0.95), "3 errors in 2 trials"),
        (|| wilson(0, 2, 1.0), "confidence 1 is not in (0, 1)"),
        (|| clopper_pearson(0, 2, f64::NAN), "confidence NaN is not in (0, 1)"),
    ];
    for (call, expected) in cases {
        let panic = std::panic::catch_unwind(call).unwrap_err();
        assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some(expected));
    }
}

/// The promise itself, without chance: for each rate of a fine grid, the exact interval covers at
/// least as often as stated, and the flawless bound exactly so at its own end.
#[test]
fn exact_intervals_never_cover_too_rarely() {
    for (n_trials, confidence) in [(1, 0.9), (7, 0.95), (30, 0.99), (200, 0.95)] {
        let intervals: Vec<Interval> =
            (0..=n_trials).map(|k| clopper_pearson(k, n_trials, confidence)).collect();
        for step in 0..=2_000 {
            let rate = f64::from(step) / 2_000.0;
            let got = coverage(|k| intervals[k as usize], n_trials, rate);
            assert!(got >= confidence - 1e-9, "{n_trials} trials at {rate}: {got}");
        }
        let upper = zero_error_upper(n_trials, confidence);
        assert!((mass(0, n_trials, upper) - (1.0 - confidence)).abs() < 1e-12);
    }
}

/// What the documentation says of Wilson's interval: near the stated coverage on average, far
/// below it for rare errors.
#[test]
fn wilson_covers_on_average_and_not_for_rare_errors() {
    let at = |rate: f64| coverage(|k| wilson(k, 1_000, 0.95), 1_000, rate);
    let mean = (1..100).map(|step| at(f64::from(step) / 200.0)).sum::<f64>() / 99.0;
    assert!((mean - 0.95).abs() < 0.003, "{mean}");
    let worst = (1..=400).map(|step| at(f64::from(step) * 1e-6)).fold(1.0, f64::min);
    assert!((worst - 0.84).abs() < 0.005, "{worst}");
}

/// Simulated coverage: 4,000 evaluations at each rate, drawn read by read. The number of covering
/// intervals must lie within 5 standard deviations of what the finite sum says (fails by chance
/// with probability below 10^-5 over all cases), and that sum not below the promise.
#[test]
fn simulated_coverage_is_as_computed() {
    const N_EVALUATIONS: u32 = 4_000;
    const N_TRIALS: u64 = 500;
    type Make = fn(u64, u64, f64) -> Interval;
    let flawless: Make = |n_errors, n_trials, confidence| {
        let high = if n_errors == 0 { zero_error_upper(n_trials, confidence) } else { 1.0 };
        Interval { low: 0.0, high }
    };
    let makes: [(Make, f64); 3] = [(clopper_pearson, 0.95), (wilson, 0.80), (flawless, 0.95)];
    for (idx, rate) in (0..).zip([0.0004, 0.002, 0.0065, 0.03, 0.4]) {
        let stream = Stream::root(0).derive("rate coverage").child(idx);
        let n_errors: Vec<u64> = (0..u64::from(N_EVALUATIONS))
            .map(|index| {
                let mut draws = stream.at(index);
                (0..N_TRIALS).map(|_| u64::from(draws.uniform() < rate)).sum()
            })
            .collect();
        for (make, at_least) in makes {
            let intervals: Vec<Interval> =
                (0..=N_TRIALS).map(|k| make(k, N_TRIALS, 0.95)).collect();
            let expected = coverage(|k| intervals[k as usize], N_TRIALS, rate).min(1.0);
            let covers = |&&k: &&u64| intervals[k as usize].contains(rate);
            let got = n_errors.iter().filter(covers).count() as f64 / f64::from(N_EVALUATIONS);
            let spread = (expected * (1.0 - expected) / f64::from(N_EVALUATIONS)).sqrt();
            assert!((got - expected).abs() <= 5.0 * spread + 1e-9, "{rate}: {got}, {expected}");
            assert!(expected >= at_least, "{rate}: {expected}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The definition: at each end, the observed count or one further out has the tail's
    /// probability, summed term by term.
    #[test]
    fn exact_ends_leave_the_stated_tails(n_trials in 1_u64..3_000, share in 0.0..1.0_f64, confidence in 0.5..0.999_f64) {
        let n_errors = (share * n_trials as f64) as u64;
        let tail = 0.5 * (1.0 - confidence);
        let interval = clopper_pearson(n_errors, n_trials, confidence);
        if n_errors > 0 {
            let as_many: f64 = (n_errors..=n_trials).map(|k| mass(k, n_trials, interval.low)).sum();
            prop_assert!((as_many / tail - 1.0).abs() < 1e-7, "{} for {}", as_many, tail);
        }
        let as_few: f64 = (0..=n_errors).map(|k| mass(k, n_trials, interval.high)).sum();
        prop_assert!((as_few / tail - 1.0).abs() < 1e-7, "{} for {}", as_few, tail);
    }

    /// Orders that every reader takes for granted.
    #[test]
    fn intervals_are_ordered(n_trials in 1_u64..1_000_000, share in 0.0..1.0_f64, confidence in 0.5..0.999_f64) {
        let n_errors = (share * n_trials as f64) as u64;
        let rate = n_errors as f64 / n_trials as f64;
        for make in [clopper_pearson, wilson] {
            let interval = make(n_errors, n_trials, confidence);
            prop_assert!(0.0 <= interval.low && interval.high <= 1.0);
            prop_assert!(interval.contains(rate));
            let surer = make(n_errors, n_trials, 0.5 * (1.0 + confidence));
            prop_assert!(surer.low <= interval.low && interval.high <= surer.high);
            let mirrored = make(n_trials - n_errors, n_trials, confidence);
            prop_assert!((mirrored.low - (1.0 - interval.high)).abs() < 1e-9);
        }
    }
}
