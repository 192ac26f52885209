//! GPUs: which there are, and [`crate::Ops`] for them.
//!
//! A GPU has kernels of ours in CubeCL (`kernel`) around the products of CubeK (`product`), each with its backward pass.
//! Drivers are libraries of the system that are loaded when the first device is asked for: Burn panics where one is
//! missing, so each module here looks first.

#[cfg(feature = "gpu")]
mod attend;
#[cfg(feature = "gpu")]
mod kernel;
#[cfg(feature = "gpu")]
mod ops;
#[cfg(feature = "gpu")]
pub(crate) mod product;

pub(crate) mod cuda;
pub(crate) mod wgpu;
