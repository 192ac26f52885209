//! Backends by the names the other rooms use, and the devices of a machine by the names people give them.
//!
//! The CPU is always there. CUDA and Vulkan come with the cargo features `cuda` and `wgpu`; a build without one
//! says so when such a device is asked for. Work that shall run on whatever device a person names is an
//! [`OnDevice`], and [`Device::run`] takes it there.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

use burn::backend::Autodiff;
use burn_flex::{Flex, FlexDevice};

use crate::{AutodiffOps, gpu};

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

/// A device of a machine.
///
/// # Example
///
/// ```
/// use mnemoscope_engine::device::Device;
///
/// assert_eq!("cuda:1".parse(), Ok(Device::Cuda(1)));
/// assert_eq!(Device::Cpu.to_string(), "cpu");
/// assert!("gpu".parse::<Device>().unwrap_err().to_string().contains("cuda:0"));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The CPU, with the kernels of this crate.
    #[default]
    Cpu,
    /// The CUDA device of this number.
    Cuda(usize),
    /// The device of this number that speaks Vulkan.
    Vulkan(usize),
    /// The device of this number that speaks Metal.
    Metal(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Vulkan(number) => write!(f, "vulkan:{number}"),
            Self::Metal(number) => write!(f, "metal:{number}"),
        }
    }
}

impl FromStr for Device {
    type Err = Unavailable;

    /// `cpu`, or `cuda`, `vulkan` or `metal` with `:N` behind it; without a number the first.
    fn from_str(text: &str) -> Result<Self, Unavailable> {
        let unknown = || {
            let message = format!("`{text}` is no device; say cpu, cuda:0, vulkan:0 or metal:0");
            Unavailable(message)
        };
        let (kind, number) = text.split_once(':').unwrap_or((text, "0"));
        let number = number.parse().map_err(|_no_number: std::num::ParseIntError| unknown())?;
        match kind {
            "cpu" if text == "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(number)),
            "vulkan" => Ok(Self::Vulkan(number)),
            "metal" => Ok(Self::Metal(number)),
            _ => Err(unknown()),
        }
    }
}

thread_local! {
    /// In which precision this thread multiplies. Burn calls backward passes on the thread that asks for gradients.
    static HERE: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// How exactly products of matrices are computed. Sums, and everything else, are of single precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// In single precision.
    F32,
    /// Of factors rounded to eleven significant bits on tensor cores, and to sixteen on a CPU with AMX, as PyTorch under
    /// `set_float32_matmul_precision("high")` does.
    Tf32,
    /// Of factors rounded to eight significant bits; parameters and what the optimiser keeps stay single.
    Bf16,
}

impl Precision {
    /// `"f32"`, `"tf32"` or `"bf16"`, as plans and records have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }
}

impl Precision {
    /// The precision of this thread: single, unless it is [`within`](Self::within) another.
    #[must_use]
    pub fn here() -> Self {
        HERE.get()
    }

    /// Does `work` with products of this precision, on the thread that calls.
    ///
    /// [`Device::run_in`] does so. Threads that `work` starts, or goes to, begin with single precision again: they are
    /// told by [`here`](Self::here) and this.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_engine::device::Precision;
    ///
    /// assert_eq!(Precision::Bf16.within(Precision::here), Precision::Bf16);
    /// assert_eq!(Precision::here(), Precision::F32);
    /// ```
    pub fn within<T>(self, work: impl FnOnce() -> T) -> T {
        struct Before(Precision);
        impl Drop for Before {
            fn drop(&mut self) {
                HERE.set(self.0);
            }
        }
        let _before = Before(HERE.replace(self));
        work()
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a device cannot be used, in one sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable(pub(crate) String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// Something to do on a device that is chosen when the program runs.
pub trait OnDevice {
    /// What comes of it.
    type Output;

    /// Does it with a backend that can train. For work without gradients there is `B::InnerBackend`.
    fn on<B: AutodiffOps>(self, device: &burn::tensor::Device<B>) -> Self::Output;
}

impl Device {
    /// Does `work` on this device, with products in single precision.
    ///
    /// # Errors
    ///
    /// If this build does not know such devices, the machine has no driver for it, or no device of that number.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_engine::device::{Device, OnDevice};
    /// use mnemoscope_engine::{AutodiffOps, burn};
    ///
    /// struct Double(f32);
    /// impl OnDevice for Double {
    ///     type Output = f32;
    ///     fn on<B: AutodiffOps>(self, device: &burn::tensor::Device<B>) -> f32 {
    ///         let x = burn::tensor::Tensor::<B, 1>::from_data([self.0], device);
    ///         (x * 2.0).into_data().to_vec().unwrap()[0]
    ///     }
    /// }
    /// assert_eq!(Device::Cpu.run(Double(21.0)), Ok(42.0));
    /// ```
    pub fn run<W: OnDevice>(self, work: W) -> Result<W::Output, Unavailable> {
        self.run_in(Precision::F32, work)
    }

    /// Does `work` on this device, with products of a precision. Both stay on the thread that calls.
    ///
    /// # Errors
    ///
    /// As [`Self::run`], or if the device has no such products.
    pub fn run_in<W: OnDevice>(
        self,
        precision: Precision,
        work: W,
    ) -> Result<W::Output, Unavailable> {
        if !self.precisions().contains(&precision) {
            return Err(Unavailable(self.lacks(precision)));
        }
        match self {
            Self::Cpu => Ok(precision.within(|| work.on::<CpuAutodiff>(&cpu()))),
            Self::Cuda(number) => gpu::cuda::run(number, precision, work),
            Self::Vulkan(_) | Self::Metal(_) => gpu::wgpu::run(self, work),
        }
    }

    /// Whether work can be done here.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    pub fn check(self) -> Result<(), Unavailable> {
        struct Nothing;
        impl OnDevice for Nothing {
            type Output = ();

            fn on<B: AutodiffOps>(self, _device: &burn::tensor::Device<B>) {}
        }
        self.run(Nothing)
    }

    /// The devices that this build finds on this machine, the CPU last.
    #[must_use]
    pub fn all() -> Vec<Found> {
        let mut all = gpu::cuda::found();
        all.extend(gpu::wgpu::found());
        all.push(Found {
            device: Self::Cpu,
            name: cpu_level().to_owned(),
            memory_bytes: None,
            emulated: false,
        });
        all
    }

    /// The fastest kind of device there is: CUDA before Vulkan or Metal before the CPU. A GPU that is emulated
    /// by the CPU is never chosen.
    #[must_use]
    pub fn best() -> Self {
        Self::all()
            .into_iter()
            .find(|found| !found.emulated)
            .map_or(Self::Cpu, |found| found.device)
    }

    /// Says in a sentence that this device has no products of a precision.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_engine::device::{Device, Precision};
    ///
    /// let why = Device::Vulkan(0).lacks(Precision::Bf16);
    /// assert_eq!(why, "vulkan:0 does not multiply in bf16; it knows f32");
    /// ```
    #[must_use]
    pub fn lacks(self, precision: Precision) -> String {
        let known: Vec<&str> = self.precisions().iter().map(|known| known.name()).collect();
        let known = known.join(", ");
        let who = if self == Self::Cpu { " (processors with AMX do, under Linux)" } else { "" };
        format!("{self} does not multiply in {precision}{who}; it knows {known}")
    }

    /// In which precisions this device multiplies matrices; the first is the most exact.
    #[must_use]
    pub fn precisions(self) -> &'static [Precision] {
        match self {
            Self::Cpu if !crate::kernel::tiles::available() => &[Precision::F32],
            Self::Cpu | Self::Cuda(_) => &[Precision::F32, Precision::Tf32, Precision::Bf16],
            Self::Vulkan(_) | Self::Metal(_) => &[Precision::F32],
        }
    }
}

/// A device that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The device.
    pub device: Device,
    /// What its maker calls it; of the CPU, what its kernels use.
    pub name: String,
    /// Its own memory in bytes, where it tells.
    pub memory_bytes: Option<u64>,
    /// Whether it is a program on the CPU that speaks like a GPU.
    pub emulated: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read_as_it_is_written() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Vulkan(3), Device::Metal(1)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for wrong in ["", "cpu:1", "cuda:", "cuda:-1", "cuda:x", "tpu:0", "CPU"] {
            let refused = wrong.parse::<Device>().unwrap_err();
            assert!(refused.to_string().starts_with(&format!("`{wrong}` is no device")));
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        assert_eq!(Device::all().last().unwrap().device, Device::Cpu);
    }
}
