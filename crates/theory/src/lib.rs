//! The theory of both papers as explicit formulas in f64, each beside a measurement.
//!
//! "Birth of a Transformer" explains how an induction head comes to be: weight matrices are sums of outer products
//! that store pairs (an *associative memory*), a gradient step adds such products, and three steps
//! on the right examples build the head. Every link of that chain is a formula here, and every
//! formula meets an independent measurement: automatic differentiation, exact enumeration, or
//! drawn examples with an interval.
//!
//! - [`gradient`]: the paper's gradients (lemmas 1, 2, 4, 5 and the one through a norm), beside
//!   forward-mode differentiation with [`dual`] numbers;
//! - [`data`]: the laws of examples that the theory is about, drawn exactly;
//! - [`coefficients`]: what each of three gradient steps stores, in closed form;
//! - [`three_steps`]: the whole theorem from examples to an induction head;
//! - [`hand_built`]: the head written down at once, on random and on orthonormal embeddings;
//! - [`geometry`], [`extension`], [`noise`]: what random embeddings, factorised memories and
//!   memories in an MLP can hold, and the noise they add;
//! - [`one_step`]: how much one gradient step recalls from few batches;
//! - [`flip_flop`]: of the other paper, the Transformer that never misreads, written down;
//! - [`bench`](mod@bench): all of these as [`Check`]s.
//!
//! Axes are rows of vectors, `[n, d]`, where the paper has columns. Positions count from 0 in code;
//! the paper's `t` is `pos + 1`, and formulas in the documentation keep its `t`. Its `N` is
//! `d_vocab`, its `T` `seq_len`, its `d` `d_model`, its `Phi_1` is `remap`, the product `W_O W_V` of
//! a first layer, and its `q`, `o` and `t_o` are trigger, output and the place of the output.
//!
//! Source: Bietti, Cabannes, Bouchacourt, Jegou and Bottou, "Birth of a Transformer: A Memory
//! Viewpoint", NeurIPS 2023, arXiv:2306.00802 (version 2). For [`flip_flop`]: Liu, Ash, Goel, Krishnamurthy and
//! Zhang, "Exposing Attention Glitches with Flip-Flop Language Modeling", NeurIPS 2023, arXiv:2306.00946.
//!
//! # Example
//!
//! ```
//! use mnemoscope_theory::bench::{Effort, Part};
//!
//! // Every gradient that the paper derives, beside automatic differentiation.
//! let checks = Part::Gradients.checks(Effort::Quick, 0);
//! assert!(checks.iter().all(|check| check.holds()));
//! ```

pub mod bench;
pub mod check;
pub mod coefficients;
pub mod data;
pub mod dual;
pub mod embedding;
pub mod extension;
pub mod flip_flop;
pub mod geometry;
pub mod gradient;
pub mod hand_built;
pub mod memory;
pub mod noise;
pub mod one_step;
pub mod three_steps;

pub use check::{Allowed, Check};
