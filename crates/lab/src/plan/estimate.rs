//! What a plan costs, before anything is allocated.

use mnemoscope_task::{Scoring, Task};
use serde::Serialize;

use super::types::{EvalSet, Plan};
use crate::eval::EVAL_BUDGET_BYTES;

/// What it takes to run a plan: sizes exactly, memory and arithmetic as estimates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Learned numbers of the model.
    pub n_params: u64,
    /// Memory that training needs at its fullest.
    pub train_bytes: u64,
    /// Memory that evaluation needs at its fullest.
    pub eval_bytes: u64,
    /// Tokens seen in training.
    pub n_train_tokens: u64,
    /// Tokens seen in the final evaluation.
    pub n_eval_tokens: u64,
    /// Multiplications and additions of training.
    pub train_flops: f64,
    /// Multiplications and additions of the final evaluation; curves are not counted.
    pub eval_flops: f64,
}

impl Estimate {
    /// The larger of training's and evaluation's memory: they do not happen at the same time.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.train_bytes.max(self.eval_bytes)
    }
}

impl Plan {
    /// What it takes to run the plan; `None` if 64 bits cannot count it.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_lab::plan::resolve;
    ///
    /// let study = resolve("model.preset = 'fflm-base'", None, &[], None)?;
    /// let estimate = study.arms[0].plans[0].estimate().expect("a base model can be counted");
    /// assert_eq!(estimate.n_params, 19_170_309);
    /// // 10,000 steps of 16 examples of 512 tokens.
    /// assert_eq!(estimate.n_train_tokens, 81_920_000);
    /// # Ok::<(), mnemoscope_lab::Error>(())
    /// ```
    #[must_use]
    pub fn estimate(&self) -> Option<Estimate> {
        let (task, train) = (&self.task, &self.train);
        let seq_len = task.seq_len() as u64;
        let batch_size = u64::from(train.batch_size);
        let n_train_tokens = train.n_steps.checked_mul(batch_size)?.checked_mul(seq_len)?;
        let share = match train.loss {
            Scoring::Reads => share_of_reads(task),
            Scoring::All => 1.0,
        };
        // A backward pass takes twice the arithmetic of a forward pass.
        let train_flops =
            3.0 * n_train_tokens as f64 * self.model.flops_per_token(task.seq_len(), share);
        let mut estimate = Estimate {
            n_params: self.model.n_params()?,
            train_bytes: self.model.train_bytes(batch_size, seq_len)?,
            eval_bytes: 0,
            n_train_tokens,
            n_eval_tokens: 0,
            train_flops,
            eval_flops: 0.0,
        };
        for EvalSet { task, n_examples, .. } in self.eval.sets.values() {
            let seq_len = task.seq_len() as u64;
            let n_tokens = n_examples.checked_mul(seq_len)?;
            let one = self.model.eval_bytes(1, seq_len)?;
            let all = self.model.eval_bytes(*n_examples, seq_len).unwrap_or(u64::MAX);
            let bytes = all.min(EVAL_BUDGET_BYTES).max(one);
            estimate.eval_bytes = estimate.eval_bytes.max(bytes);
            estimate.n_eval_tokens = estimate.n_eval_tokens.checked_add(n_tokens)?;
            estimate.eval_flops +=
                n_tokens as f64 * self.model.flops_per_token(task.seq_len(), share_of_reads(task));
        }
        Some(estimate)
    }
}

/// The share of tokens at which a read is answered.
fn share_of_reads(task: &Task) -> f64 {
    task.expected_reads() / task.seq_len() as f64
}

/// A number of bytes for a person: three digits and a unit of powers of 1,000.
pub(crate) fn bytes_for_people(n_bytes: u64) -> String {
    let mut number = n_bytes as f64;
    for unit in ["bytes", "kB", "MB", "GB", "TB", "PB"] {
        if number < 999.5 {
            return match unit {
                "bytes" => format!("{n_bytes} bytes"),
                _ if number < 9.995 => format!("{number:.2} {unit}"),
                _ if number < 99.95 => format!("{number:.1} {unit}"),
                _ => format!("{number:.0} {unit}"),
            };
        }
        number /= 1000.0;
    }
    format!("{number:.0} EB")
}

#[cfg(test)]
mod tests {
    use super::bytes_for_people;

    #[test]
    fn bytes_read_with_three_digits_and_a_unit() {
        let check = |n_bytes, text| assert_eq!(bytes_for_people(n_bytes), text);
        check(0, "0 bytes");
        check(999, "999 bytes");
        check(1_000, "1.00 kB");
        check(12_345_678, "12.3 MB");
        check(999_999, "1.00 MB");
        check(999_400_000, "999 MB");
        check(u64::MAX, "18 EB");
    }
}
