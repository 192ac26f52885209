//! Models: small sequence models whose every number has a name and every activation a hook.
//!
//! A [`ModelSpec`] fixes an architecture. From a spec and an addressed stream comes a [`Model`],
//! which answers with logits at the places it is asked ([`Model::logits`]). Around it stand its
//! parameters as plain named numbers ([`params`]), the optimiser ([`optim`]), and the points at
//! which an activation can be read or replaced ([`hook`]).
//!
//! ```text
//! spec ──> layout ──> params (drawn, or read from a file) ──> Model ──> logits [query, d_vocab]
//!            │                                                  │
//!       names, shapes, laws                                   hooks
//! ```
//!
//! The crate knows no task: tokens are numbers below `d_vocab`, and which places are asked is
//! the caller's business.
//!
//! # Conventions
//!
//! - Axes are `[batch, pos, d_model]`; heads `[batch, pos, head, d_head]`; attention
//!   `[batch, head, query, key]`. What holds one row for each asked place begins with `[n_queries]`.
//! - Weights are `[d_in, d_out]`: a row vector times a weight is the next row vector.
//! - The last block of a transformer computes only what the asked places need: keys and values
//!   everywhere, the rest for the queries alone. Training and evaluation take the same path.
//! - A row of logits has the same bits whatever else is in the batch.
//!
//! # Example
//!
//! ```
//! use mnemoscope_engine::{QueryRows, burn::tensor::Tensor, device::{Cpu, cpu}};
//! use mnemoscope_model::{LstmSpec, Model, ModelSpec, hook::NoHooks};
//! use mnemoscope_stats::stream::Stream;
//!
//! let spec = ModelSpec::Lstm(LstmSpec { n_layers: 1, d_model: 8, d_vocab: 5 });
//! let model = Model::<Cpu>::init(&spec, &Stream::root(0).derive("model"), &cpu());
//!
//! // One example of four tokens, asked at its third.
//! let tokens = Tensor::from_data([[0, 4, 1, 4]], &cpu());
//! let queries = QueryRows::new(4, vec![(0, 2)]);
//! assert_eq!(model.logits(tokens, &queries, &mut NoHooks).dims(), [1, 5]);
//! ```

mod arch;
mod cost;
mod error;
pub mod hook;
mod init;
mod layer;
mod layout;
mod model;
pub mod optim;
pub mod params;
mod regular;
mod safetensor;
mod spec;

pub use arch::{Associative, Lstm, Transformer};
pub use error::{Error, ErrorKind};
pub use layout::{Law, Slot, layout};
pub use model::Model;
pub use regular::{Bluntness, DropoutRates, Regularisation};
pub use spec::{
    AssociativeInit, AssociativeSpec, Complaint, FeedForward, Gelu, Init, LstmSpec, Memory, Mlp,
    ModelSpec, Norm, NormLength, Places, PosScale, Positions, Relative, ScoreScale,
    TransformerSpec,
};
