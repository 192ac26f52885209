//! Draws and judgements: addressed streams of randomness, and intervals for rare events.
//!
//! Every number that Mnemoscope publishes begins with a draw and ends with an interval. Both live
//! here, apart from everything else, so that they can be read and trusted by themselves:
//!
//! - [`stream`]: randomness with an address; what was drawn once can be drawn again anywhere;
//! - [`rate`]: intervals for an error rate when trials are independent, exact down to no error;
//! - [`mean`]: the interval of a mean, for what is a number and not a count;
//! - [`resample`]: the interval for reads that come in sequences and err together;
//! - [`ranks`]: whether one group of runs does better than another.
//!
//! The crate knows no clock, no thread pool, no network and no other room of the project.
//!
//! # Example
//!
//! ```
//! use mnemoscope_stats::rate::clopper_pearson;
//! use mnemoscope_stats::resample::{ClusterCounts, cluster_bootstrap};
//! use mnemoscope_stats::stream::Stream;
//!
//! // 1,000 sequences of 26 reads. Twenty sequences went wrong, in half of their reads.
//! let mut counts = ClusterCounts::default();
//! for sequence in 0..1_000 {
//!     counts.add(if sequence < 20 { 13 } else { 0 }, 26);
//! }
//! // As if the 260 errors were independent: too sure of itself by a factor of three or so.
//! let naive = clopper_pearson(counts.n_errors(), counts.n_trials(), 0.95);
//! // As what they are: twenty events.
//! let stream = Stream::root(0).derive("bootstrap");
//! let honest = cluster_bootstrap(&counts, 0.95, 1_999, &stream).interval;
//! assert!(honest.high - honest.low > 3.0 * (naive.high - naive.low));
//! ```

#![warn(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

mod binomial;
pub mod difference;
pub mod mean;
pub mod ranks;
pub mod rate;
pub mod resample;
mod special;
pub mod stream;
