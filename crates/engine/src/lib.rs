//! The engine: the one seam to Burn.
//!
//! Everything that touches a tensor goes through this crate. It names the version of Burn, the
//! devices ([`device`]), the *fused operations* the models are written in ([`Ops`]), the optimiser's
//! update ([`optim`]) and the helpers with which other rooms check a gradient ([`testing`]).
//!
//! A fused operation has three forms that must agree: a default body composed of Burn's primitives
//! (the reference, and what a new backend uses until it has something better), a plain scalar
//! function on slices that can be read beside the formula, and the fast CPU kernel. `Ops` is
//! implemented for [`burn_flex::Flex`] with the kernels, and for [`burn_autodiff::Autodiff`] over
//! any backend with hand-written backward passes.
//!
//! # Same plan, same bits
//!
//! The CPU kernels add in an order that is fixed by the shapes of one row or one example alone. A
//! row of a result has the same bits for any number of threads and any number of other rows. On
//! x86-64 the AVX2 and AVX-512 paths also agree with each other to the bit; the portable path has
//! no fused multiply-add and differs from them in the last places.
//!
//! # Example
//!
//! ```
//! use mnemoscope_engine::{Ops, burn::tensor::Tensor, device::{Cpu, cpu}};
//!
//! let x = Tensor::<Cpu, 2>::from_data([[1.0, 2.0]], &cpu());
//! let weight = Tensor::<Cpu, 2>::from_data([[3.0], [4.0]], &cpu());
//! let y = <Cpu as Ops>::linear(x, weight, None);
//! assert_eq!(y.into_data().to_vec::<f32>().unwrap(), [11.0]);
//! ```

pub use burn;

pub mod device;
pub mod memory;
pub mod optim;
pub mod testing;

mod activation;
mod attend;
mod autodiff;
mod cohort;
mod dropout;
mod factor;
mod flex;
mod gpu;
mod kernel;
mod ops;
pub mod reference;
mod rotary;
mod rows;
mod saved;

pub use activation::{Activation, Gate, Gelu};
pub use attend::{Attend, RowStats};
pub use dropout::Dropout;
pub use factor::as_factor;
pub use ops::Ops;
pub use rotary::Rotary;
pub use rows::QueryRows;
pub use saved::{AutodiffOps, Saved};
