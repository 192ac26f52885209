//! Architectures, one a file, each to be read from top to bottom like its paper.

mod lstm;
mod transformer;

pub use lstm::Lstm;
pub use transformer::Transformer;
