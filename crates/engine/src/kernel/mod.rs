//! CPU kernels: plain functions on slices.

pub(crate) mod activation;
pub(crate) mod attention;
pub(crate) mod fresh;
pub(crate) mod gemm;
pub(crate) mod linear;
pub(crate) mod lstm;
pub(crate) mod math;
pub(crate) mod norm;
pub(crate) mod optim;
pub(crate) mod packed;
pub(crate) mod pointwise;
pub(crate) mod rotary;
pub(crate) mod rows;
pub(crate) mod scratch;
pub(crate) mod simd;
pub(crate) mod tiles;
