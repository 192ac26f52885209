//! What a training step cannot do without: its arithmetic, and the bytes that must pass the device's memory.

use mnemoscope_lab::engine::device::Device;
use mnemoscope_lab::model::ModelSpec;
use mnemoscope_lab::plan::{OptimizerPlan, Plan};
use mnemoscope_lab::task::Scoring;

use crate::worker::{n_learned, plan};
use crate::workload::Workload;

/// What does not fit here must pass the memory; the H100 and the H200 have caches of 50 MB.
const CACHE_BYTES: u64 = 64 << 20;

/// Of one training step of one seed, while others may train beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Multiplications and additions, as plans are estimated: thrice those of a forward pass.
    pub(crate) flops: f64,
    /// Bytes read and written, at the least; nothing where all of it may stay in the cache of a GPU, or where no bound
    /// is known.
    ///
    /// Counted are: each learned number and each of the optimiser's moments, read once and written once in single
    /// precision; and of the activations those that take a product of matrices or attention to have again, written
    /// once in the forward pass and read once in the backward pass, of two bytes in `bf16` and else four. Gradients,
    /// the second reading of the params, norms, activation functions and what a kernel hands to the next one are
    /// not: a program could do without. So the share of the bandwidth that follows is one that a step certainly
    /// uses, and not what it uses.
    pub(crate) bytes: Option<u64>,
}

impl Cost {
    /// Of a workload that `n_members` seeds train at once, with products in `precision`.
    pub(crate) fn of(
        workload: &Workload,
        precision: &str,
        n_members: usize,
    ) -> Result<Self, String> {
        // Both depend on shapes only, so they are those of a plan that every device takes.
        let plan = plan(workload, Device::Cpu, "f32")?;
        let estimate = plan.estimate().ok_or("the workload is too large to be counted")?;
        let flops = estimate.train_flops / plan.train.n_steps as f64;
        let width = if precision == "bf16" { 2 } else { 4 };
        let passes = |&bytes: &u64| bytes / 2 * n_members as u64 > CACHE_BYTES;
        let bytes = bytes(&plan, width).filter(passes);
        Ok(Self { flops, bytes })
    }
}

/// Bytes of a step, each number that is kept read once and written once; `width` bytes of an activation.
fn bytes(plan: &Plan, width: u64) -> Option<u64> {
    let n_moments = match &plan.train.optimizer {
        OptimizerPlan::AdamW(_) => 2,
        OptimizerPlan::Sgd(sgd) => u64::from(sgd.momentum > 0.0),
    };
    let state = n_learned(plan) * (1 + n_moments) * 4;
    let n_rows = u64::from(plan.train.batch_size) * plan.task.seq_len() as u64;
    let kept = n_rows * kept_per_row(&plan.model, plan.train.loss)? as u64 * width;
    Some(2 * (state + kept))
}

/// Numbers that a forward pass keeps for each place. A last layer that is asked at some places only is counted as far
/// as it sees all of them.
fn kept_per_row(model: &ModelSpec, asked: Scoring) -> Option<usize> {
    match model {
        // The stream before both halves, queries, keys, values, their mixture, and before the activation; of the last
        // layer the stream, keys and values.
        ModelSpec::Transformer(spec) => {
            let (d, whole) = (spec.d_model, 6 * spec.d_model + spec.d_mlp);
            let last = if asked == Scoring::All { whole } else { 3 * d };
            Some(spec.n_layers.checked_sub(1)? * whole + last)
        }
        // The stream between the layers, what the second one mixes, and the logits.
        ModelSpec::Associative(spec) if asked == Scoring::All => {
            Some(spec.d_model + spec.d_model.min(spec.d_vocab) + spec.d_vocab)
        }
        // Its state goes from step to step in registers and cache.
        ModelSpec::Associative(_) | ModelSpec::Lstm(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::ALL;

    fn cost(name: &str, precision: &str, n_members: usize) -> Cost {
        let workload = ALL.iter().find(|workload| workload.name == name).unwrap();
        Cost::of(workload, precision, n_members).unwrap()
    }

    #[test]
    fn the_arithmetic_of_the_base_model_is_what_was_counted_by_hand() {
        // docs/compare.md: 880 of the base model, 60 of the simplified one.
        let giga = |name| cost(name, "tf32", 1).flops / 1e9;
        assert!((giga("fflm-base") - 880.0).abs() < 30.0, "{}", giga("fflm-base"));
        assert!((giga("birth") - 60.0).abs() < 3.0, "{}", giga("birth"));
        assert!((giga("lstm") - 3.2).abs() < 0.3, "{}", giga("lstm"));
    }

    #[test]
    fn bytes_are_counted_where_a_cache_cannot_hold_them() {
        // 5 layers of 6 d + 4 d and one of 3 d at 16 x 512 places, and three numbers for each of 19,170,309 params.
        let [rows, d] = [16 * 512, 512];
        let expected = |width| 2 * (19_170_309 * 3 * 4 + rows * (5 * 10 * d + 3 * d) * width);
        assert_eq!(cost("fflm-base", "tf32", 1).bytes, Some(expected(4)));
        assert_eq!(cost("fflm-base", "bf16", 1).bytes, Some(expected(2)));
        assert_eq!(cost("lstm", "tf32", 1).bytes, None);
        assert_eq!(cost("fflm-mid", "tf32", 1).bytes, None);
        assert!(cost("birth", "tf32", 1).bytes.is_some());
        // One member of a cohort moves what one alone would, but no cache holds all of them.
        let mid = 2 * (462_597 * 3 * 4 + rows * (10 * 128 + 3 * 128) * 4);
        assert_eq!(cost("fflm-mid", "tf32", 25).bytes, Some(mid));
    }
}
