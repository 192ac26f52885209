//! Architectures, one a file, each to be read from top to bottom like its paper.

mod associative;
mod lstm;
mod transformer;

pub use associative::Associative;
pub use lstm::Lstm;
pub use transformer::Transformer;
