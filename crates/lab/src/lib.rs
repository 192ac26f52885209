//! The laboratory: from a spec to a plan, from a plan to a run, and every measurement on the way.
//!
//! This crate is also the door for Rust users: the rooms below it are re-exported, so that one
//! dependency is enough.

pub mod again;
pub mod batch;
pub mod clock;
mod error;
pub mod eval;
pub mod event;
pub mod launch;
mod on_device;
pub mod opened;
pub mod pace;
pub mod plan;
pub mod probe;
pub mod replay;
pub mod run;
pub mod sweep;
pub mod train;

pub use error::{Error, ErrorKind};
pub use mnemoscope_engine as engine;
pub use mnemoscope_model as model;
pub use mnemoscope_stats as stats;
pub use mnemoscope_store as store;
pub use mnemoscope_task as task;
pub use mnemoscope_theory as theory;
