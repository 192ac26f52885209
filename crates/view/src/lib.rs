//! What people see: tables, pages and pictures as plain text, made from records alone.
//!
//! Every page fits 80 columns and says its units. Nothing here computes a result: a number is
//! read from a record (or, for a line that sums several runs, judged by `stats`), laid out and
//! handed back as a `String`. Who prints it, and where, is the caller's business.
//!
//! # Example
//!
//! ```
//! use mnemoscope_view::number;
//!
//! // A count is grouped by thin spaces, so that 353 875 reads never look like a decimal number.
//! assert_eq!(number::count(353_875), "353\u{2009}875");
//! ```

pub mod board;
pub mod breakdown;
pub mod complaint;
pub mod figure;
pub mod gallery;
pub mod glitch;
pub mod groups;
pub mod number;
pub mod picture;
pub mod plan;
pub mod probe;
pub mod published;
pub mod query;
pub mod report;
pub mod result;
pub mod run;
pub mod runs;
pub mod serve;
pub mod sparkline;
pub mod study;
pub mod table;
pub mod tensorboard;
pub mod text;

/// Columns of a terminal that every page fits into.
pub const WIDTH: usize = 80;
