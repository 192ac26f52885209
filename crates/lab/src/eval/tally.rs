//! Counting answers: the arg-max over the whole vocabulary, and the two-way one beside it.

use mnemoscope_stats::rate::clopper_pearson;
use mnemoscope_stats::resample::{ClusterCounts, cluster_bootstrap};
use mnemoscope_stats::stream::Stream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How one trial went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The arg-max over the whole vocabulary; the lowest token wins a tie.
    pub predicted: u16,
    /// The arg-max over the data symbols only.
    pub predicted_symbol: u16,
}

impl Answered {
    /// Reads the prediction off one row of logits.
    ///
    /// # Arguments
    ///
    /// - `logits`: `[d_vocab]`, finite.
    /// - `symbols`: which tokens are data.
    ///
    /// # Panics
    ///
    /// If `symbols` is empty or reaches beyond the vocabulary.
    #[must_use]
    pub fn from_logits(logits: &[f32], symbols: std::ops::Range<u16>) -> Self {
        let first = symbols.start;
        let of_symbols = &logits[usize::from(symbols.start)..usize::from(symbols.end)];
        Self { predicted: arg_max(logits), predicted_symbol: first + arg_max(of_symbols) }
    }
}

/// The first place of the largest value.
fn arg_max(values: &[f32]) -> u16 {
    assert!(!values.is_empty(), "no values to choose from");
    let mut best = 0;
    for (idx, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = idx;
        }
    }
    u16::try_from(best).expect("a token has 16 bits")
}

/// The counts of an evaluation, complete enough to compute any interval again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Examples looked at.
    pub n_examples: u64,
    /// Errors and trials by example, over the whole vocabulary.
    pub clusters: ClusterCounts,
    /// Errors when only data symbols may be answered.
    pub n_errors_two_way: u64,
}

impl Tally {
    /// Adds one example: its trials, its errors, and its errors among symbols only.
    pub fn add_example(&mut self, n_errors: u64, n_errors_two_way: u64, n_trials: u64) {
        self.n_examples += 1;
        self.clusters.add(n_errors, n_trials);
        self.n_errors_two_way += n_errors_two_way;
    }

    /// The numbers of a result, each with its count and interval; docs/formats.md describes them.
    ///
    /// # Randomness
    ///
    /// The bootstrap over examples resamples from `stream`.
    #[must_use]
    pub fn to_json(&self, confidence: f64, n_resamples: u32, stream: &Stream) -> Value {
        let n_trials = self.clusters.n_trials();
        let two_way = clopper_pearson(self.n_errors_two_way, n_trials, confidence);
        let mut result = judged(&self.clusters, confidence, n_resamples, stream);
        result["n_examples"] = json!(self.n_examples);
        result["two_way"] = json!({
            "n_errors": self.n_errors_two_way,
            "error_rate": rate(self.n_errors_two_way, n_trials),
            "interval": two_way,
        });
        result
    }
}

/// Counts with their rate and both intervals.
pub(super) fn judged(
    clusters: &ClusterCounts,
    confidence: f64,
    n_resamples: u32,
    stream: &Stream,
) -> Value {
    let (n_trials, n_errors) = (clusters.n_trials(), clusters.n_errors());
    let clustered = cluster_bootstrap(clusters, confidence, n_resamples, stream);
    json!({
        "n_trials": n_trials,
        "n_errors": n_errors,
        "error_rate": rate(n_errors, n_trials),
        "confidence": confidence,
        "interval": clopper_pearson(n_errors, n_trials, confidence),
        "method": "clopper-pearson",
        "n_clusters_with_errors": clustered.n_clusters_with_errors,
        "cluster_interval": clustered.interval,
        "cluster_method": clustered.method,
    })
}

/// Errors per trial; `null` where nothing was tried.
fn rate(n_errors: u64, n_trials: u64) -> Option<f64> {
    (n_trials > 0).then(|| n_errors as f64 / n_trials as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_logits_wins() {
        let answered = Answered::from_logits(&[0.5, 0.5, 0.1, 0.2, 0.2], 3..5);
        assert_eq!(answered, Answered { predicted: 0, predicted_symbol: 3 });
    }

    #[test]
    fn the_two_way_answer_ignores_instructions() {
        let answered = Answered::from_logits(&[9.0, 0.0, 0.0, -1.0, -0.5], 3..5);
        assert_eq!(answered, Answered { predicted: 0, predicted_symbol: 4 });
    }

    #[test]
    fn a_tally_reports_both_kinds_of_error() {
        let mut tally = Tally::default();
        tally.add_example(0, 0, 30);
        tally.add_example(3, 1, 20);
        let value = tally.to_json(0.95, 200, &Stream::root(1));
        assert_eq!(value["n_examples"], 2);
        assert_eq!(value["n_trials"], 50);
        assert_eq!(value["n_errors"], 3);
        assert_eq!(value["error_rate"], 0.06);
        assert_eq!(value["two_way"]["n_errors"], 1);
        assert_eq!(value["n_clusters_with_errors"], 1);
    }

    #[test]
    fn nothing_tried_has_no_rate() {
        let value = Tally::default().to_json(0.95, 10, &Stream::root(1));
        assert!(value["error_rate"].is_null());
        assert_eq!(value["interval"], json!([0.0, 1.0]));
    }
}
