//! What stands around [`Ops`]: what passes leave for each other, and a backend that has both.

use burn::tensor::{Tensor, backend::AutodiffBackend, backend::Backend};

use crate::Ops;

/// What a forward pass leaves for its backward pass; each backend chooses what that is.
#[derive(Clone, Debug)]
pub struct Saved<B: Backend>(pub(crate) Vec<B::FloatTensorPrimitive>);

impl<B: Backend> Saved<B> {
    /// The saved tensors, in the order they were saved.
    #[track_caller]
    pub(crate) fn take<const N: usize>(self) -> [B::FloatTensorPrimitive; N] {
        self.0.try_into().unwrap_or_else(|saved: Vec<_>| {
            panic!("the forward pass saved {} tensors, the backward pass wants {N}", saved.len())
        })
    }

    /// The first `N` saved tensors, and the one behind them if there is one.
    #[track_caller]
    pub(crate) fn take_and_more<const N: usize>(
        mut self,
    ) -> ([B::FloatTensorPrimitive; N], Option<B::FloatTensorPrimitive>) {
        let more = if self.0.len() > N { self.0.pop() } else { None };
        (self.take(), more)
    }
}

/// Where a backend says it has its own backward passes and lacks one, which was given this.
pub(crate) fn no_backward_pass<T>(name: &str, _given: T) -> ! {
    panic!("this backend claims FUSED operations but has no backward pass of `{name}`")
}

/// The gradients of chosen queries, and of keys and values, that are wanted.
pub(crate) type ApartGrads<B> = (Option<Tensor<B, 2>>, [Option<Tensor<B, 3>>; 2]);

/// A backend one can train on: [`Ops`] with gradients, over a backend with [`Ops`].
pub trait AutodiffOps: Ops + AutodiffBackend<InnerBackend: Ops> {}

impl<B: Ops + AutodiffBackend<InnerBackend: Ops>> AutodiffOps for B {}
