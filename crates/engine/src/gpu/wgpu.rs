//! Every other GPU, through Vulkan or Metal.

use crate::device::{Device, Found, OnDevice, Unavailable};

#[cfg(feature = "wgpu")]
mod built {
    use std::sync::Mutex;

    use burn::backend::Autodiff;
    use burn::tensor::Device as BurnDevice;
    use burn_wgpu::graphics::{Metal, Vulkan};
    use burn_wgpu::{Wgpu, WgpuDevice, init_setup};
    use wgpu::{Adapter, Backends, DeviceType, Instance, InstanceDescriptor};

    use super::{Device, Found, OnDevice, Unavailable};
    use crate::gpu::GivesBack;

    /// The devices that have been set up: a second time is refused by the runtime.
    static SET_UP: Mutex<Vec<WgpuDevice>> = Mutex::new(Vec::new());

    pub(crate) fn run<W: OnDevice>(device: Device, work: W) -> Result<W::Output, Unavailable> {
        let metal = matches!(device, Device::Metal(_));
        let (Device::Vulkan(number) | Device::Metal(number)) = device else {
            unreachable!("{device} is another module's")
        };
        let adapters = adapters(if metal { Backends::METAL } else { Backends::VULKAN });
        let Some(adapter) = adapters.get(number) else {
            let message = match adapters.len() {
                0 => format!(
                    "there is no {device}: no driver for such a GPU was found; say --device cpu"
                ),
                n => format!("there is no {device}; this machine has {n}, counted from 0"),
            };
            return Err(Unavailable(message));
        };
        let kind = adapter.get_info().device_type;
        let alike = adapters[..number].iter().filter(|other| other.get_info().device_type == kind);
        let chosen: BurnDevice<Wgpu> = match (kind, alike.count()) {
            (DeviceType::DiscreteGpu, nth) => WgpuDevice::DiscreteGpu(nth),
            (DeviceType::IntegratedGpu, nth) => WgpuDevice::IntegratedGpu(nth),
            (DeviceType::VirtualGpu, nth) => WgpuDevice::VirtualGpu(nth),
            (DeviceType::Cpu, _) => WgpuDevice::Cpu,
            (DeviceType::Other, _) => WgpuDevice::DefaultDevice,
        };
        let mut set_up = SET_UP.lock().expect("nobody panics while holding it");
        if !set_up.contains(&chosen) {
            if metal {
                init_setup::<Metal>(&chosen, Default::default());
            } else {
                init_setup::<Vulkan>(&chosen, Default::default());
            }
            set_up.push(chosen.clone());
        }
        drop(set_up);
        let _memory = GivesBack::<Wgpu>(chosen.clone());
        Ok(work.on::<Autodiff<Wgpu>>(&chosen))
    }

    pub(crate) fn found() -> Vec<Found> {
        let of = |backends: Backends, named: fn(usize) -> Device| {
            let found = move |(number, adapter): (usize, Adapter)| {
                let info = adapter.get_info();
                Found {
                    device: named(number),
                    name: info.name,
                    memory_bytes: None,
                    emulated: info.device_type == DeviceType::Cpu,
                }
            };
            adapters(backends).into_iter().enumerate().map(found)
        };
        of(Backends::VULKAN, Device::Vulkan).chain(of(Backends::METAL, Device::Metal)).collect()
    }

    /// The devices of the system that speak one of these languages, in its order.
    fn adapters(backends: Backends) -> Vec<Adapter> {
        let descriptor =
            InstanceDescriptor { backends, ..InstanceDescriptor::new_without_display_handle() };
        pollster::block_on(Instance::new(descriptor).enumerate_adapters(backends))
    }
}

#[cfg(not(feature = "wgpu"))]
mod built {
    use super::{Device, Found, OnDevice, Unavailable};

    pub(crate) fn run<W: OnDevice>(device: Device, _work: W) -> Result<W::Output, Unavailable> {
        Err(Unavailable(format!("this build knows no {device}; build with `--features wgpu`")))
    }

    pub(crate) fn found() -> Vec<Found> {
        Vec::new()
    }
}

pub(crate) use built::{found, run};
