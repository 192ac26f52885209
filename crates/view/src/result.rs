//! The result of a run as records hold it, read into types.
//!
//! A field this release does not know is ignored, so that a record of a later minor format still
//! opens. A count that is missing is a refusal, never a zero: no number is invented here.
//!
//! # Example
//!
//! ```
//! use mnemoscope_view::result::RunResult;
//!
//! let stored = serde_json::json!({
//!     "run": "3f2a", "plan": "3f2a", "status": "sealed", "from_the_future": [1, 2],
//!     "eval": {"val": {"n_examples": 10, "n_trials": 264, "n_errors": 0, "error_rate": 0.0,
//!                      "confidence": 0.95, "interval": [0.0, 0.0139]}},
//! });
//! let result = RunResult::from_json(&stored).unwrap();
//! assert_eq!(result.eval["val"].n_trials, 264);
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a run measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Id of the run.
    pub run: String,
    /// Id of the plan it executed.
    pub plan: String,
    /// How it stands: `sealed` for a complete record.
    pub status: String,
    /// The arm it belongs to.
    #[serde(default)]
    pub arm: Option<String>,
    /// The study it belongs to.
    #[serde(default)]
    pub study: Option<String>,
    /// The language it was trained on, as the plan has it.
    #[serde(default)]
    pub task: Value,
    /// What was trained.
    #[serde(default)]
    pub model: Option<ModelResult>,
    /// The seeds of its streams.
    #[serde(default)]
    pub seeds: Option<Seeds>,
    /// How training went.
    #[serde(default)]
    pub train: Option<TrainResult>,
    /// What was measured, by evaluation set.
    #[serde(default)]
    pub eval: BTreeMap<String, SetResult>,
    /// The checkpoint that was measured.
    #[serde(default)]
    pub checkpoint: Option<CheckpointResult>,
    /// What the record says about the machine.
    #[serde(default)]
    pub machine: Value,
    /// The release that wrote it.
    #[serde(default)]
    pub version: Option<String>,
}

/// The seeds that distinguish the runs of an arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seeds {
    /// Of the training examples.
    pub data: u64,
    /// Of the initial parameters.
    pub model: u64,
}

impl std::fmt::Display for Seeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.data == self.model {
            true => write!(f, "{}", self.data),
            false => write!(f, "{}/{}", self.data, self.model),
        }
    }
}

/// The model of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelResult {
    /// The architecture.
    #[serde(default)]
    pub name: Option<String>,
    /// How many numbers were learned.
    #[serde(default)]
    pub n_params: Option<u64>,
}

/// The training of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainResult {
    /// Optimizer updates.
    pub n_steps: u64,
    /// Training tokens per second.
    #[serde(default)]
    pub tokens_per_sec: Option<f64>,
    /// Seconds spent training.
    #[serde(default)]
    pub wall_secs: Option<f64>,
}

/// The measurement on one evaluation set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetResult {
    /// Examples looked at.
    pub n_examples: u64,
    /// Scored targets.
    pub n_trials: u64,
    /// Those answered wrong.
    pub n_errors: u64,
    /// Errors per trial; none where nothing was tried.
    pub error_rate: Option<f64>,
    /// Coverage of the intervals.
    pub confidence: f64,
    /// Interval of the rate, trials taken as independent.
    pub interval: [f64; 2],
    /// How that interval was made.
    #[serde(default)]
    pub method: Option<String>,
    /// Examples with at least one error.
    #[serde(default)]
    pub n_clusters_with_errors: Option<u64>,
    /// Interval of the rate, examples taken as independent and their trials not.
    #[serde(default)]
    pub cluster_interval: Option<[f64; 2]>,
    /// How that interval was made.
    #[serde(default)]
    pub cluster_method: Option<String>,
    /// The same trials, the answer taken among the data symbols only.
    #[serde(default)]
    pub two_way: Option<TwoWay>,
    /// Seconds spent measuring.
    #[serde(default)]
    pub wall_secs: Option<f64>,
    /// Errors kept as files, to be replayed.
    #[serde(default)]
    pub n_glitch_files: Option<u64>,
}

/// Errors when the model may only answer with a data symbol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TwoWay {
    /// Trials answered wrong.
    pub n_errors: u64,
    /// Errors per trial; none where nothing was tried.
    pub error_rate: Option<f64>,
    /// Interval of the rate, trials taken as independent.
    #[serde(default)]
    pub interval: Option<[f64; 2]>,
}

/// A checkpoint, by what it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointResult {
    /// Steps the model had been trained for.
    pub step: u64,
    /// BLAKE3 of its bytes, in hex.
    pub blake3: String,
}

impl RunResult {
    /// Reads a result as it is stored.
    ///
    /// # Errors
    ///
    /// A sentence that names what is missing or of the wrong kind.
    pub fn from_json(stored: &Value) -> Result<Self, String> {
        Self::deserialize(stored)
            .map_err(|refusal| format!("the result is not readable: {refusal}"))
    }
}

/// The value that all agree on.
pub(crate) fn common(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut agreed: Option<f64> = None;
    for value in values {
        match agreed {
            Some(first) if first.total_cmp(&value).is_ne() => return None,
            _ => agreed = Some(value),
        }
    }
    agreed
}

/// The heading of a column of intervals: `95 % interval`.
pub(crate) fn interval_heading(confidence: Option<f64>) -> String {
    confidence.map_or_else(
        || "interval".to_owned(),
        |confidence| format!("{} interval", crate::number::percent(confidence)),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn set(n_examples: u64, n_trials: u64, n_errors: u64) -> Value {
        let rate = n_errors as f64 / n_trials as f64;
        let interval = mnemoscope_stats::rate::clopper_pearson(n_errors, n_trials, 0.95);
        json!({
            "n_examples": n_examples, "n_trials": n_trials, "n_errors": n_errors,
            "error_rate": rate, "confidence": 0.95, "interval": [interval.low, interval.high],
            "method": "clopper-pearson", "n_clusters_with_errors": n_errors.div_ceil(2),
            "cluster_interval": [interval.low * 0.9, interval.high * 1.1],
            "cluster_method": "cluster-bootstrap",
            "two_way": {"n_errors": n_errors / 2, "error_rate": rate / 2.0, "interval": [0.0, rate]},
            "wall_secs": 12.5, "n_glitch_files": n_errors.min(20),
        })
    }

    /// A result with errors where the paper finds them.
    pub(crate) fn result(run: &str, arm: &str, errors: [u64; 3]) -> RunResult {
        let stored = json!({
            "run": run, "plan": run, "status": "sealed", "arm": arm, "study": "lstm-vs-transformer",
            "task": {"name": "flipflop", "seq_len": 512, "p_ignore": 0.8},
            "model": {"name": "lstm", "n_params": 133_381}, "seeds": {"data": 3, "model": 3},
            "train": {"n_steps": 500, "tokens_per_sec": 81_920.0, "wall_secs": 50.0},
            "eval": {"val": set(1000, 26_508, errors[0]),
                     "val_sparse": set(100_000, 353_875, errors[1]),
                     "val_dense": set(3000, 345_781, errors[2])},
            "checkpoint": {"step": 500, "blake3": "0123456789abcdef".repeat(4)},
            "version": "0.1.0",
        });
        RunResult::from_json(&stored).unwrap()
    }

    #[test]
    fn a_missing_count_is_a_refusal_and_not_a_zero() {
        let mut stored = serde_json::to_value(result("3f2a", "lstm", [0, 0, 0])).unwrap();
        stored["eval"]["val"].as_object_mut().unwrap().remove("n_errors");
        let refusal = RunResult::from_json(&stored).unwrap_err();
        assert_eq!(refusal, "the result is not readable: missing field `n_errors`");
    }

    #[test]
    fn what_is_read_can_be_written_and_read_again() {
        let once = result("3f2a", "lstm", [0, 7, 9]);
        let again = RunResult::from_json(&serde_json::to_value(&once).unwrap()).unwrap();
        assert_eq!(again, once);
    }

    #[test]
    fn a_heading_claims_a_confidence_only_if_all_share_it() {
        assert_eq!(interval_heading(common([0.95, 0.95].into_iter())), "95 % interval");
        assert_eq!(interval_heading(common([0.95, 0.99].into_iter())), "interval");
        assert_eq!(interval_heading(common(std::iter::empty())), "interval");
    }
}
