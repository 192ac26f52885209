//! A learning curve in one line of text.

/// A curve of error rates, one character a point, tall where the rate is high.
///
/// Rates of interest span five orders of magnitude, so the height is logarithmic: eight levels
/// from one error in a hundred thousand to all wrong. A point without any error is a dot,
/// because zero has no logarithm and is the one value a reader looks for.
///
/// More points than `n_columns` are thinned evenly; the last point always stays.
///
/// # Example
///
/// ```
/// use mnemoscope_view::sparkline::log_rates;
///
/// assert_eq!(log_rates(&[0.5, 0.1, 0.001, 0.0, 0.0], 60), "█▇▄··");
/// ```
#[must_use]
pub fn log_rates(rates: &[f64], n_columns: usize) -> String {
    thin(rates, n_columns).map(log_level).collect()
}

/// What the characters of [`log_rates`] mean, for the foot of a page.
pub const LOG_LEGEND: &str = "log scale: ▁ 1e-5 … █ 0.5 and more; · no error";

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A level for one share in `[0, 1]`, as tall as its square root; nearly nothing is blank.
///
/// Attention is spread over many positions: on a linear scale a tenth of it, which is a lot, would
/// look like nothing.
///
/// # Example
///
/// ```
/// use mnemoscope_view::sparkline::level;
///
/// assert_eq!([1.0, 0.25, 0.1, 0.01, 0.004].map(level), ['█', '▅', '▃', '▁', ' ']);
/// ```
#[must_use]
pub fn level(share: f64) -> char {
    // Below a hundredth a bar would only be ink.
    if share.is_nan() || share < 0.01 {
        return ' ';
    }
    LEVELS[level_idx(share.sqrt())]
}

fn log_level(rate: f64) -> char {
    // The logarithms of the lowest and of the highest level: 1e-5 and 0.5.
    const LOWEST: f64 = -5.0;
    const HIGHEST: f64 = -0.301;
    if rate.is_nan() {
        return '?';
    }
    if rate <= 0.0 {
        return '·';
    }
    LEVELS[level_idx((rate.log10() - LOWEST) / (HIGHEST - LOWEST))]
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=7")]
fn level_idx(share: f64) -> usize {
    (share * 8.0).floor().clamp(0.0, 7.0) as usize
}

fn thin(values: &[f64], n_columns: usize) -> impl Iterator<Item = f64> + '_ {
    let n_kept = values.len().min(n_columns);
    (0..n_kept).map(move |column| values[(column + 1) * values.len() / n_kept - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_not_a_small_rate() {
        assert_eq!(log_rates(&[1e-9, 0.0, 1.0, f64::NAN], 10), "▁·█?");
    }

    #[test]
    fn a_long_curve_is_thinned_and_keeps_its_last_point() {
        let mut rates = vec![0.5; 1000];
        rates[999] = 0.0;
        let line = log_rates(&rates, 50);
        assert_eq!(line.chars().count(), 50);
        assert!(line.ends_with('·'), "{line}");
        assert_eq!(log_rates(&[], 50), "");
        assert_eq!(log_rates(&[0.5], 0), "");
    }

    #[test]
    fn every_level_is_reachable() {
        let roots = [0.1, 0.15, 0.3, 0.4, 0.55, 0.7, 0.8, 0.95];
        let shares = roots.map(|root: f64| root * root);
        assert_eq!(shares.map(level).iter().collect::<String>(), "▁▂▃▄▅▆▇█");
    }
}
