//! A learning curve in one line of text, also of one that is still being drawn.

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

/// A curve of any numbers, one character a point, between its lowest and its highest.
///
/// Of more numbers than columns each character is the mean of its share of them, so that a noisy curve is
/// smooth and no part of it is left out. What is not finite is `?`.
///
/// # Example
///
/// ```
/// use mnemoscope_view::sparkline::curve;
///
/// assert_eq!(curve(&[8.0, 6.0, 3.0, 2.0, 0.0], 60), "█▇▄▃▁");
/// ```
#[must_use]
pub fn curve(values: &[f64], n_columns: usize) -> String {
    let n_kept = values.len().min(n_columns);
    let mean = |column: usize| {
        let part = &values[column * values.len() / n_kept..(column + 1) * values.len() / n_kept];
        part.iter().sum::<f64>() / part.len() as f64
    };
    let means: Vec<f64> = (0..n_kept).map(mean).collect();
    let finite = || means.iter().copied().filter(|mean| mean.is_finite());
    let (low, high) =
        (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let level = |mean: &f64| match high - low {
        _ if !mean.is_finite() => '?',
        // A curve that does not move is neither high nor low.
        width if width <= 0.0 => LEVELS[3],
        width => LEVELS[level_idx((mean - low) / width)],
    };
    means.iter().map(level).collect()
}

/// A curve that grows by one number at a time and stays small however many there are.
///
/// # Example
///
/// ```
/// use mnemoscope_view::sparkline::Trail;
///
/// let mut trail = Trail::default();
/// for step in 0..10_000 {
///     trail.push(f64::from(10_000 - step));
/// }
/// assert_eq!(trail.line(8), "█▇▆▅▄▃▂▁");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trail {
    /// Means of `every` numbers each, in order.
    means: Vec<f64>,
    /// Sum and number of those that are not yet as many.
    rest: (f64, u32),
    /// Numbers of a mean, less one.
    every_less_one: u32,
}

impl Trail {
    /// Means that are kept, at most.
    const MOST: usize = 256;

    /// Adds a number.
    pub fn push(&mut self, value: f64) {
        self.rest = (self.rest.0 + value, self.rest.1 + 1);
        if self.rest.1 <= self.every_less_one {
            return;
        }
        self.means.push(self.rest.0 / f64::from(self.rest.1));
        self.rest = (0.0, 0);
        if self.means.len() == Self::MOST {
            self.means = self.means.chunks(2).map(|two| two.iter().sum::<f64>() / 2.0).collect();
            self.every_less_one = 2 * self.every_less_one + 1;
        }
    }

    /// Whether nothing can be shown yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.means.is_empty()
    }

    /// The curve so far, as [`curve`] draws it.
    #[must_use]
    pub fn line(&self, n_columns: usize) -> String {
        curve(&self.means, n_columns)
    }
}

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
    fn a_curve_is_as_wide_as_its_numbers_and_smooth_where_there_are_many() {
        assert_eq!(curve(&[], 10), "");
        assert_eq!(curve(&[2.0, 2.0], 10), "▄▄");
        assert_eq!(curve(&[1.0, f64::NAN, 0.0], 10), "█?▁");
        let noisy: Vec<f64> = (0..1000).map(|idx| f64::from(idx % 2)).collect();
        assert_eq!(curve(&noisy, 5), "▄▄▄▄▄");
        assert_eq!(curve(&[0.5; 3], 0), "");
    }

    #[test]
    fn a_trail_keeps_the_form_of_what_it_halves() {
        let mut trail = Trail::default();
        assert!(trail.is_empty());
        for idx in 0..100_000 {
            trail.push(if idx < 50_000 { 1.0 } else { 0.0 });
        }
        assert!(trail.means.len() < Trail::MOST);
        let line = trail.line(10);
        assert!(line.starts_with("████") && line.ends_with("▁▁▁▁"), "{line}");
    }

    #[test]
    fn every_level_is_reachable() {
        let roots = [0.1, 0.15, 0.3, 0.4, 0.55, 0.7, 0.8, 0.95];
        let shares = roots.map(|root: f64| root * root);
        assert_eq!(shares.map(level).iter().collect::<String>(), "▁▂▃▄▅▆▇█");
    }
}
