//! A part of a sweep: `i/n` is every plan whose place in the order leaves the remainder `i`.

use std::fmt;
use std::str::FromStr;

/// One of `n` parts of a sweep, counted from 0 as indexed runs of a cluster are.
///
/// The parts are alike: seeds of one arm stand next to each other and go to different parts.
///
/// # Example
///
/// ```
/// use mnemoscope_lab::sweep::Shard;
///
/// let shard: Shard = "1/3".parse()?;
/// assert_eq!((0..8).filter(|&idx| shard.holds(idx)).collect::<Vec<_>>(), [1, 4, 7]);
/// assert!("3/3".parse::<Shard>().is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    idx: usize,
    n: usize,
}

impl Shard {
    /// The whole of a sweep.
    pub const WHOLE: Self = Self { idx: 0, n: 1 };

    /// Whether the plan at `idx` in the order of the sweep belongs to it.
    #[must_use]
    pub fn holds(self, idx: usize) -> bool {
        idx % self.n == self.idx
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.idx, self.n)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let numbers = parts.and_then(|(idx, n)| Some((idx.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((idx, n)) if idx < n => Ok(Self { idx, n }),
            Some((idx, n)) if n > 0 => {
                Err(format!("there is no part {idx} of {n}: they are 0/{n} to {}/{n}", n - 1))
            }
            _ => Err(format!("`{text}` is no part of a sweep; write i/n, such as 0/8 to 7/8")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_is_in_exactly_one_part() {
        for n in 1..=7 {
            let shards: Vec<Shard> = (0..n).map(|i| format!("{i}/{n}").parse().unwrap()).collect();
            for idx in 0..40 {
                assert_eq!(shards.iter().filter(|shard| shard.holds(idx)).count(), 1);
            }
        }
    }

    #[test]
    fn what_is_no_part_is_refused_with_what_to_write() {
        let refusal = |text: &str| text.parse::<Shard>().unwrap_err();
        assert_eq!(refusal("8/8"), "there is no part 8 of 8: they are 0/8 to 7/8");
        for wrong in ["", "1", "1/", "/2", "-1/2", "1/0", "a/b", "1/2/3"] {
            let expected =
                format!("`{wrong}` is no part of a sweep; write i/n, such as 0/8 to 7/8");
            assert_eq!(refusal(wrong), expected);
        }
    }
}
