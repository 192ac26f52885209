//! From a device that is named at run time to a function that is generic over backends.

use mnemoscope_engine::device::{Device, Precision};
use mnemoscope_store::RunReader;

/// Calls a function `f<B: Ops>(device: &Device<B>, arguments..) -> Result<_, Error>` on a device: without gradients, and
/// with the arguments it is given by their types, and with products as in the training of a run.
///
/// Closures are not generic, so the arguments travel in a struct of their own.
macro_rules! on_device {
    ($device:expr, of $run:expr, $f:ident($($argument:ident: $type:ty),*) -> $output:ty) => {{
        struct Call<'a> {
            $($argument: $type,)*
            lifetime: std::marker::PhantomData<&'a ()>,
        }
        impl<'a> mnemoscope_engine::device::OnDevice for Call<'a> {
            type Output = Result<$output, $crate::Error>;

            fn on<A: mnemoscope_engine::AutodiffOps>(
                self,
                device: &mnemoscope_engine::burn::tensor::Device<A>,
            ) -> Self::Output {
                $f::<A::InnerBackend>(device, $(self.$argument),*)
            }
        }
        let precision = $crate::on_device::precision($run, $device);
        $device.run_in(precision, Call { $($argument,)* lifetime: std::marker::PhantomData })?
    }};
}

pub(crate) use on_device;

/// In which precision a device computes with the model of a run: that of its training, or, where the device has none
/// such, the most exact it has.
pub(crate) fn precision(run: &RunReader, device: Device) -> Precision {
    let there = device.precisions();
    // A record without one is of single precision, which is the first of every device.
    let of_training = run.plan()["train"]["precision"].as_str();
    let same = there.iter().copied().find(|known| Some(known.name()) == of_training);
    same.unwrap_or(there[0])
}
