//! GPUs: which there are, and [`crate::Ops`] for them.
//!
//! A GPU composes the operations of Burn's primitives, as [`mod@crate::reference`] does; Burn fuses what is
//! done entry by entry and derives the gradients. Their drivers are libraries of the system that are loaded when
//! the first device is asked for: Burn panics where one is missing, so each module here looks first.

pub(crate) mod cuda;
pub(crate) mod wgpu;
