//! Splits: the streams that training and test examples come from, disjoint by construction.
//!
//! ```text
//! root(data_seed) -- "train"            training examples of a run
//! root(eval_seed) -- "eval" -- "val"    a test set, the same for every run with this seed
//!                           `- "val_sparse" ...
//! ```
//!
//! What a stream is for is part of its address, so a test example is never trained on, even when
//! both seeds are equal: that would take a collision of BLAKE3. Nothing is remembered or filtered.
//! (Two examples of different streams may still be equal as strings; short languages have few.)

use mnemoscope_stats::stream::Stream;

/// The name of the training split, as the public data set calls it.
pub const TRAIN: &str = "train";

/// The stream of training examples of a run with this data seed.
///
/// # Example
///
/// ```
/// use mnemoscope_task::split;
///
/// // Equal seeds, even an equal name: training and test streams never meet.
/// assert_ne!(split::train_stream(0), split::eval_stream(0, "val"));
/// assert_ne!(split::train_stream(0), split::eval_stream(0, "train"));
/// ```
#[must_use]
pub fn train_stream(data_seed: u64) -> Stream {
    Stream::root(data_seed).derive(TRAIN)
}

/// The stream of the test set called `set_name`.
#[must_use]
pub fn eval_stream(eval_seed: u64, set_name: &str) -> Stream {
    Stream::root(eval_seed).derive("eval").derive(set_name)
}

/// The stream of a split by its name: `train`, or else the test set of that name.
#[must_use]
pub fn stream(seed: u64, split: &str) -> Stream {
    if split == TRAIN { train_stream(seed) } else { eval_stream(seed, split) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// No address occurs twice among 200 seeds, the training stream and six test sets: 1,400
    /// streams, some with names chosen to collide if paths were joined as text.
    #[test]
    fn train_and_eval_streams_never_coincide() {
        let names = ["val", "val_sparse", "val_dense", "train", "eval", ""];
        let mut addresses = BTreeSet::new();
        for seed in (0..100).chain(u64::MAX - 99..=u64::MAX) {
            assert!(addresses.insert(train_stream(seed).address()));
            for name in names {
                assert!(addresses.insert(eval_stream(seed, name).address()), "{seed} {name}");
            }
        }
        assert_eq!(addresses.len(), 200 * 7);
    }

    #[test]
    fn a_split_is_found_by_its_name() {
        assert_eq!(stream(3, "train"), train_stream(3));
        assert_eq!(stream(3, "val"), eval_stream(3, "val"));
    }
}
