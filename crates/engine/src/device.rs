//! Backends by the names the other rooms use.

use burn::backend::Autodiff;
use burn_flex::{Flex, FlexDevice};

/// The CPU, for evaluation: [`crate::Ops`] with the fused kernels.
pub type Cpu = Flex;

/// The CPU, for training: the same kernels with their hand-written backward passes.
pub type CpuAutodiff = Autodiff<Cpu>;

/// The one CPU device.
///
/// The number of threads is not a property of the device: kernels run in the rayon pool of the
/// caller, so a run that is given its own pool stays inside it.
#[must_use]
pub fn cpu() -> FlexDevice {
    FlexDevice
}

/// What this machine's CPU kernels use, for the record of a run.
///
/// # Returns
///
/// `"avx512"`, `"avx2"` or `"portable"`. The first two give the same bits.
///
/// # Example
///
/// ```
/// assert!(["avx512", "avx2", "portable"].contains(&mnemoscope_engine::device::cpu_level()));
/// ```
#[must_use]
pub fn cpu_level() -> &'static str {
    crate::kernel::simd::level().name()
}
