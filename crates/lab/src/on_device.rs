//! From a device that is named at run time to a function that is generic over backends.

/// Calls a function `f<B: Ops>(device: &Device<B>, arguments..) -> Result<_, Error>` on a device: without gradients, and
/// with the arguments it is given by their types.
///
/// Closures are not generic, so the arguments travel in a struct of their own.
macro_rules! on_device {
    ($device:expr, $f:ident($($argument:ident: $type:ty),*) -> $output:ty) => {{
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
        $device.run(Call { $($argument,)* lifetime: std::marker::PhantomData })?
    }};
}

pub(crate) use on_device;
