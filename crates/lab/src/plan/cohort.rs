//! Which plans can train side by side in one program of a device.

use mnemoscope_store::canonical;
use serde_json::json;

use super::types::{OptimizerPlan, Plan};

impl Plan {
    /// A name that two plans share exactly if they can train in one [cohort](crate::train::Cohort): if they take equally
    /// many steps of one shape. Their seeds, their languages, the settings of their optimiser and how they are measured
    /// may differ.
    ///
    /// `None` for a plan that trains alone, because training does what a cohort does not: it probes, sharpens attention at
    /// the asked rows alone, or the model is of associative memories.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_lab::plan::resolve;
    ///
    /// let sweep = "sweep.seed = { count = 2 }\nsweep.train.lr = [1e-3, 1e-4]\nsweep.model.d_model = [64, 128]";
    /// let study = resolve(&format!("{sweep}\nmodel.preset = 'lstm'"), None, &[], None)?;
    /// let mut cohorts: Vec<_> = study.plans().map(|(_, plan)| plan.cohort()).collect();
    /// cohorts.sort();
    /// cohorts.dedup();
    /// assert_eq!(cohorts.len(), 2);
    /// # Ok::<(), mnemoscope_lab::Error>(())
    /// ```
    #[must_use]
    pub fn cohort(&self) -> Option<String> {
        let train = &self.train;
        let asked_rows = train.sharpen.as_ref().is_some_and(|sharpen| sharpen.asked_rows);
        if self.probe.is_some() || asked_rows || !self.model.may_be_in_cohort() {
            return None;
        }
        let rule = match train.optimizer {
            OptimizerPlan::AdamW(_) => "adamw",
            OptimizerPlan::Sgd(_) => "sgd",
        };
        Some(canonical::hash(&json!({
            "model": self.model,
            "seq_len": self.task.seq_len(),
            "n_fed": self.task.n_fed(),
            "n_steps": train.n_steps,
            "batch_size": train.batch_size,
            "loss": train.loss,
            "rule": rule,
            "freeze": train.freeze,
            "dropout": train.dropout,
            "sharpen": train.sharpen,
            "precision": train.precision,
        })))
    }
}
