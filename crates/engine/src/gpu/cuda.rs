//! NVIDIA's GPUs.

#![cfg_attr(
    feature = "cuda",
    expect(unsafe_code, reason = "the driver is asked through its C interface")
)]

use crate::device::{Found, OnDevice, Precision, Unavailable};

#[cfg(feature = "cuda")]
pub(super) mod gemm;

#[cfg(feature = "cuda")]
mod built {
    use burn::backend::Autodiff;
    use burn_cuda::{Cuda, CudaDevice};
    use cudarc::{driver, nvrtc};

    use super::{Found, OnDevice, Precision, Unavailable};
    use crate::device::Device;
    use crate::gpu::GivesBack;

    pub(crate) fn run<W: OnDevice>(
        number: usize,
        precision: Precision,
        work: W,
    ) -> Result<W::Output, Unavailable> {
        let n_devices = count().map_err(Unavailable)?;
        if number >= n_devices {
            let message =
                format!("there is no cuda:{number}; this machine has {n_devices}, counted from 0");
            return Err(Unavailable(message));
        }
        if precision != Precision::F32 {
            check_tensor_cores(number, precision).map_err(Unavailable)?;
        }
        let device = CudaDevice::new(number);
        let _memory = GivesBack::<Cuda>(device.clone());
        Ok(precision.within(|| work.on::<Autodiff<Cuda>>(&device)))
    }

    /// Refuses a device whose tensor cores know neither tf32 nor bf16.
    fn check_tensor_cores(number: usize, precision: Precision) -> Result<(), String> {
        use driver::sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
        const ENOUGH: i32 = 8;
        let silent = |problem| format!("cuda:{number} does not tell what it can do: {problem}");
        let index = i32::try_from(number).expect("there are few devices");
        let handle = driver::result::device::get(index).map_err(silent)?;
        let attribute = CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
        // SAFETY: the handle comes from the driver, which is initialised.
        let major = unsafe { driver::result::device::get_attribute(handle, attribute) };
        match major.map_err(silent)? {
            major if major >= ENOUGH => Ok(()),
            major => Err(format!(
                "cuda:{number} is of compute capability {major}, and {precision} needs {ENOUGH}; say \
                 --set train.precision=f32"
            )),
        }
    }

    pub(crate) fn found() -> Vec<Found> {
        let device = |number: usize| {
            let handle = driver::result::device::get(i32::try_from(number).ok()?).ok()?;
            let name = driver::result::device::get_name(handle).ok()?;
            // SAFETY: the handle comes from the driver, which is initialised.
            let memory = unsafe { driver::result::device::total_mem(handle) };
            let memory_bytes = memory.ok().map(|bytes| bytes as u64);
            Some(Found { device: Device::Cuda(number), name, memory_bytes, emulated: false })
        };
        (0..count().unwrap_or(0)).filter_map(device).collect()
    }

    /// How many devices there are.
    fn count() -> Result<usize, String> {
        // SAFETY: both only try to load a library of the system by its name.
        let (driver_there, compiler_there) =
            unsafe { (driver::sys::is_culib_present(), nvrtc::sys::is_culib_present()) };
        if !driver_there {
            return Err(
                "no CUDA driver (libcuda) was found; install NVIDIA's driver, or say --device cpu"
                    .to_owned(),
            );
        }
        if !compiler_there {
            return Err("the CUDA driver is there, but not NVRTC (libnvrtc), which compiles kernels; install it, or add \
                 its folder to LD_LIBRARY_PATH"
                .to_owned());
        }
        let refused =
            |problem: driver::result::DriverError| format!("the CUDA driver refuses: {problem}");
        driver::result::init().map_err(refused)?;
        let count = driver::result::device::get_count().map_err(refused)?;
        match usize::try_from(count) {
            Ok(count) if count > 0 => Ok(count),
            _ => Err("the CUDA driver finds no device; say --device cpu".to_owned()),
        }
    }
}

#[cfg(not(feature = "cuda"))]
mod built {
    use super::{Found, OnDevice, Precision, Unavailable};

    pub(crate) fn run<W: OnDevice>(
        number: usize,
        _precision: Precision,
        _work: W,
    ) -> Result<W::Output, Unavailable> {
        let message = format!("this build knows no cuda:{number}; build with `--features cuda`");
        Err(Unavailable(message))
    }

    pub(crate) fn found() -> Vec<Found> {
        Vec::new()
    }
}

pub(crate) use built::{found, run};
