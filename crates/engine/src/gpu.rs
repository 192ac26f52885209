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

/// Gives the memory back that a thread's work on a device no longer uses, also if the work panics for want of more.
///
/// CubeCL keeps what it once got for each thread by itself, and a run has threads of its own: what one leaves would serve no
/// other one.
#[cfg(feature = "gpu")]
struct GivesBack<B: burn::tensor::backend::Backend>(B::Device);

#[cfg(feature = "gpu")]
impl<B: burn::tensor::backend::Backend> Drop for GivesBack<B> {
    fn drop(&mut self) {
        B::memory_cleanup(&self.0);
    }
}
