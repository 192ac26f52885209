//! The difference of two error rates that are measured on the same clusters.
//!
//! Reads of two kinds stand in the same sequences, and a sequence that goes wrong does so in both: their rates
//! are not independent, and two intervals that overlap say little. Here whole clusters are resampled, each with
//! its reads of both kinds, and each resample gives one difference.
//!
//! The percentile interval of these differences is silent where one kind has no error in any cluster, and too
//! short where few clusters have errors. [`difference_bootstrap`] therefore gives its hull with the interval
//! that Newcombe's rule makes of [`cluster_bootstrap`]'s two, which know both cases. That rule takes the rates
//! for independent; where clusters are bad in both kinds it is too wide, never too narrow.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::rate::check;
use crate::resample::{ClusterCounts, cluster_bootstrap, percentile_interval, resample};
use crate::special::real;
use crate::stream::Stream;

/// How often a cluster with so many errors in so many trials of two kinds occurred.
///
/// # Example
///
/// ```
/// use mnemoscope_stats::difference::PairedCounts;
///
/// let mut counts = PairedCounts::default();
/// counts.add([(0, 5), (2, 7)]);
/// counts.add([(0, 5), (2, 7)]);
/// assert_eq!(counts.rates(), [Some(0.0), Some(2.0 / 7.0)]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairedCounts {
    /// From (errors, trials) of both kinds to the number of such clusters.
    classes: BTreeMap<[(u64, u64); 2], u64>,
}

impl PairedCounts {
    /// Counts one more cluster: errors and trials of either kind. One without any trial is not counted.
    ///
    /// # Panics
    ///
    /// If there are more errors than trials.
    #[track_caller]
    pub fn add(&mut self, kinds: [(u64, u64); 2]) {
        for (n_errors, n_trials) in kinds {
            assert!(n_errors <= n_trials, "{n_errors} errors in {n_trials} trials");
        }
        if kinds.iter().any(|&(_, n_trials)| n_trials > 0) {
            *self.classes.entry(kinds).or_default() += 1;
        }
    }

    /// Clusters with a trial of either kind.
    #[must_use]
    pub fn n_clusters(&self) -> u64 {
        self.classes.values().sum()
    }

    /// Errors per trial of each kind; `None` without a trial.
    #[must_use]
    pub fn rates(&self) -> [Option<f64>; 2] {
        [0, 1].map(|kind| {
            let sum = |pick: fn((u64, u64)) -> u64| -> u64 {
                self.classes.iter().map(|(class, n)| pick(class[kind]) * n).sum()
            };
            let n_trials = sum(|(_, n_trials)| n_trials);
            (n_trials > 0).then(|| real(sum(|(n_errors, _)| n_errors)) / real(n_trials))
        })
    }

    /// The clusters of one kind by themselves.
    fn of(&self, kind: usize) -> ClusterCounts {
        let mut counts = ClusterCounts::default();
        for (class, &n_clusters) in &self.classes {
            let (n_errors, n_trials) = class[kind];
            (0..n_clusters).for_each(|_| counts.add(n_errors, n_trials));
        }
        counts
    }
}

/// The difference of two error rates, the first kind's less the second's, and what the data leave plausible of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// In errors per trial, from -1 to 1.
    pub difference: f64,
    /// The lower and the upper end.
    pub interval: [f64; 2],
    /// The coverage asked for.
    pub confidence: f64,
    /// Clusters with a trial of either kind.
    pub n_clusters: u64,
    /// The bootstrap's own percentile interval, if resamples differ.
    pub bootstrap: Option<[f64; 2]>,
}

/// The interval for a difference of two error rates when whole clusters are drawn at random.
///
/// # Arguments
///
/// - `confidence`: the coverage wanted, in `(0, 1)`. - `n_resamples`: 1,999 is customary for 95 %.
/// - `stream`: an own one for each interval.
///
/// # Returns
///
/// `None`, if one kind has no trial.
///
/// # Randomness
///
/// Item `i` of `stream`'s child `paired` makes resample `i`; its children `first` and `second` make the
/// intervals of the two rates. A resample in which one kind has no trial is left out.
///
/// # Panics
///
/// If `n_resamples` is 0, or `confidence` is not strictly between 0 and 1.
///
/// # Source
///
/// Field and Welsh, "Bootstrapping clustered data", Journal of the Royal Statistical Society B 69 (2007);
/// Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine
/// 17 (1998), method 10, with other intervals of the single rates.
///
/// # Example
///
/// ```
/// use mnemoscope_stats::difference::{PairedCounts, difference_bootstrap};
/// use mnemoscope_stats::stream::Stream;
///
/// // Thirty of 500 sequences misread, and only where the last bit misleads.
/// let mut counts = PairedCounts::default();
/// for sequence in 0..500 {
///     counts.add([(if sequence < 30 { 4 } else { 0 }, 10), (0, 12)]);
/// }
/// let gap = difference_bootstrap(&counts, 0.95, 1_999, &Stream::root(0)).unwrap();
/// assert!((gap.difference - 0.024).abs() < 1e-12);
/// assert!(gap.interval[0] > 0.0 && gap.interval[1] < 0.05);
/// ```
#[must_use]
#[track_caller]
pub fn difference_bootstrap(
    counts: &PairedCounts,
    confidence: f64,
    n_resamples: u32,
    stream: &Stream,
) -> Option<Difference> {
    check(0, 0, confidence);
    assert!(n_resamples > 0, "a bootstrap needs at least one resample");
    let [Some(first), Some(second)] = counts.rates() else { return None };
    let difference = first - second;
    let of = |kind: usize, name: &str| {
        let stream = stream.derive(name);
        cluster_bootstrap(&counts.of(kind), confidence, n_resamples, &stream).interval
    };
    let (one, two) = (of(0, "first"), of(1, "second"));
    let below = (first - one.low).hypot(two.high - second);
    let above = (one.high - first).hypot(second - two.low);
    let mut interval = [(difference - below).max(-1.0), (difference + above).min(1.0)];
    let resampled = resampled_differences(counts, n_resamples, &stream.derive("paired"));
    let differ = resampled.first() < resampled.last();
    let bootstrap = differ.then(|| {
        let percentile = percentile_interval(&resampled, confidence);
        [percentile.low, percentile.high]
    });
    if let Some([low, high]) = bootstrap {
        interval = [interval[0].min(low), interval[1].max(high)];
    }
    let n_clusters = counts.n_clusters();
    Some(Difference { difference, interval, confidence, n_clusters, bootstrap })
}

/// The differences of resamples, in ascending order.
fn resampled_differences(counts: &PairedCounts, n_resamples: u32, stream: &Stream) -> Vec<f64> {
    let mut classes: Vec<(&[(u64, u64); 2], u64)> =
        counts.classes.iter().map(|(class, &n_clusters)| (class, n_clusters)).collect();
    classes.sort_by_key(|&(_, n_clusters)| std::cmp::Reverse(n_clusters));
    let sizes: Vec<u64> = classes.iter().map(|&(_, n_clusters)| n_clusters).collect();
    let mut differences: Vec<f64> = (0..u64::from(n_resamples))
        .filter_map(|item| {
            let mut sums = [(0, 0); 2];
            resample(&sizes, &mut stream.at(item), |class, n_drawn| {
                for (sum, (n_errors, n_trials)) in sums.iter_mut().zip(classes[class].0) {
                    sum.0 += n_drawn * n_errors;
                    sum.1 += n_drawn * n_trials;
                }
            });
            let rate =
                |(n_errors, n_trials)| (n_trials > 0).then(|| real(n_errors) / real(n_trials));
            Some(rate(sums[0])? - rate(sums[1])?)
        })
        .collect();
    differences.sort_by(f64::total_cmp);
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sequences of ten reads of either kind; a bad one errs in half of the first and in a tenth of the second.
    fn simulated(n_clusters: u64, p_bad: f64, stream: &Stream) -> PairedCounts {
        let mut counts = PairedCounts::default();
        for cluster in 0..n_clusters {
            let mut draws = stream.at(cluster);
            let bad = draws.uniform() < p_bad;
            let mut errors = |rate: f64| (0..10).filter(|_| bad && draws.uniform() < rate).count();
            let (first, second) = (errors(0.5) as u64, errors(0.1) as u64);
            counts.add([(first, 10), (second, 10)]);
        }
        counts
    }

    /// Of 300 intervals of 95 % at most 27 miss: more would come by chance in one case of a thousand.
    #[test]
    fn the_interval_covers_the_difference_as_often_as_it_says() {
        for (n_clusters, p_bad) in [(200, 0.1), (400, 0.3)] {
            let truth = p_bad * (0.5 - 0.1);
            let misses = (0..300)
                .filter(|&seed| {
                    let stream = Stream::root(seed).derive("coverage");
                    let counts = simulated(n_clusters, p_bad, &stream.derive("drawn"));
                    let gap = difference_bootstrap(&counts, 0.95, 199, &stream).unwrap();
                    !(gap.interval[0] <= truth && truth <= gap.interval[1])
                })
                .count();
            assert!(misses <= 27, "{misses} of 300 miss, {n_clusters} clusters, {p_bad} bad");
        }
    }

    #[test]
    fn no_error_at_all_leaves_room_on_both_sides() {
        let mut counts = PairedCounts::default();
        (0..100).for_each(|_| counts.add([(0, 8), (0, 3)]));
        let gap = difference_bootstrap(&counts, 0.95, 99, &Stream::root(1)).unwrap();
        assert!(gap.difference.abs() < 1e-300 && gap.bootstrap.is_none());
        assert!((gap.interval[0] + gap.interval[1]).abs() < 1e-12 && gap.interval[1] > 0.03);
    }

    #[test]
    fn the_kinds_exchanged_turn_the_sign() {
        let one = simulated(80, 0.2, &Stream::root(3));
        let mut other = PairedCounts::default();
        for (&[first, second], &n) in &one.classes {
            (0..n).for_each(|_| other.add([second, first]));
        }
        let of = |counts| difference_bootstrap(counts, 0.95, 399, &Stream::root(4)).unwrap();
        let (one, other) = (of(&one), of(&other));
        assert!((one.difference + other.difference).abs() < 1e-15);
        assert!(one.interval[0] < one.difference && one.difference < one.interval[1]);
        assert!((one.interval[0] + other.interval[1]).abs() < 0.02);
    }

    #[test]
    fn a_kind_without_trials_has_no_difference() {
        let mut counts = PairedCounts::default();
        counts.add([(1, 4), (0, 0)]);
        counts.add([(0, 0), (0, 0)]);
        assert_eq!(counts.n_clusters(), 1);
        assert_eq!(difference_bootstrap(&counts, 0.95, 99, &Stream::root(0)), None);
    }
}
