//! From spec to plan: what a person wrote becomes something that leaves nothing open.
//!
//! A spec is TOML and may leave things out. [`resolve`] fills in the defaults, expands presets,
//! arms and sweeps, checks everything, and returns a [`Study`] whose arms hold [`Plan`]s: every
//! field present, every range checked, an id that is the hash of the canonical form. Code outside
//! this module never sees a spec.
//!
//! All that is wrong with a spec is said at once, each thing with its path, line and column.
//!
//! # Example
//!
//! ```
//! use mnemoscope_lab::plan::resolve;
//!
//! let spec = "
//!     [model]
//!     name = 'lstm'
//!
//!     [train]
//!     n_steps = 500
//!
//!     [sweep]
//!     seed = { count = 5 }
//! ";
//! let study = resolve(spec, None, &[], None)?;
//! // Five seeds of one arm: five plans that differ in nothing else, and five ids.
//! assert_eq!(study.arms.len(), 1);
//! assert_eq!(study.arms[0].plans.len(), 5);
//! assert_eq!(study.arms[0].plans[0].model.n_params(), Some(133_381));
//! # Ok::<(), mnemoscope_lab::Error>(())
//! ```

mod check;
mod claim;
mod cohort;
mod complaint;
mod corpora;
mod estimate;
mod judge;
mod reader;
mod resolve;
mod scale;
mod section;
mod study;
mod suggest;
mod sweep;
#[cfg(test)]
mod tests;
mod tree;
mod types;

pub use claim::{About, Claim, Comparison, Expected, Measure, Published, Runs, Verdict};
pub(crate) use complaint::Complaints;
pub use complaint::{Complaint, Place};
pub use estimate::Estimate;
pub use judge::{Judgement, LEVEL, Numbers, Test, judge};
pub use resolve::{resolve, resolve_stored};
pub use study::{Arm, Study};
pub use types::{
    AdamWPlan, Anneal, Decay, EvalPlan, EvalSet, Freeze, OptimizerPlan, Plan, Precision, Seeds,
    SgdPlan, SharpenPlan, TrainPlan,
};

/// The commented spec that `mnemoscope spec` prints; it says every option and its default.
pub const DEFAULT_SPEC: &str = include_str!("default.toml");
