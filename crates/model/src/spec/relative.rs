//! Relative positions: what attention knows of how far a key lies before its query.

use serde::{Deserialize, Serialize};

use super::{Complaint, TransformerSpec};

/// What attention itself knows of distances, beside the [`Positions`](super::Positions) that are
/// added to the embedding.
///
/// x-transformers leaves absolute positions out where these are rotary or T5's, and keeps learned ones
/// beside ALiBi; the two fields allow every combination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Relative {
    /// Nothing: a score depends on the two vectors alone.
    #[default]
    None,
    /// Queries and keys are turned by angles that grow with their place: numbers `i` and
    /// `i + n_rotated / 2` of a head by `pos 10000^(-2i / n_rotated)`. Values are not turned.
    ///
    /// Su et al., "RoFormer", 2021, arXiv:2104.09864.
    Rotary {
        /// Numbers of a head that are turned, from its first: even, up to `d_head`.
        n_rotated: usize,
    },
    /// `sqrt(d_head)` times a learned number for each head and bucket of distances is added to a score.
    /// All blocks share the numbers.
    ///
    /// The first half of the buckets are single distances, the others grow in a geometric series up
    /// to `max_distance`; the last takes all beyond. Raffel et al., JMLR 21 (2020), section 2.1; the
    /// factor is x-transformers'.
    T5 {
        /// Buckets, at least 2.
        n_buckets: usize,
        /// Tokens back from where on all distances share a bucket; above half of `n_buckets`.
        max_distance: usize,
    },
    /// A fixed slope of each head times the distance is taken off a score: of `n` heads, a power
    /// of two, `2^(-8 i / n)` for `i` from 1; else those of the power below, and every other one
    /// of the power above.
    ///
    /// Press, Smith and Lewis, "Train Short, Test Long", ICLR 2022.
    Alibi,
}

impl Relative {
    /// T5's buckets as x-transformers has them.
    pub const T5: Self = Self::T5 { n_buckets: 32, max_distance: 128 };

    /// Rotary positions as x-transformers has them: half of a head is turned, or 32 of its numbers, or
    /// all if there are fewer.
    #[must_use]
    pub fn rotary(d_head: usize) -> Self {
        let n_rotated = (d_head / 2).max(32).min(d_head);
        Self::Rotary { n_rotated: n_rotated - n_rotated % 2 }
    }

    /// The shape of the parameter `relative.weight`, if there is one.
    #[must_use]
    pub fn param_shape(self, n_heads: usize) -> Option<[usize; 2]> {
        match self {
            Self::T5 { n_buckets, .. } => Some([n_buckets, n_heads]),
            Self::None | Self::Rotary { .. } | Self::Alibi => None,
        }
    }

    /// What is wrong with it in a model of these sizes.
    pub(super) fn complain(self, spec: &TransformerSpec, found: &mut Vec<Complaint>) {
        let mut complain = |field, message| found.push(Complaint { field, message });
        match self {
            Self::Rotary { n_rotated } if spec.n_heads > 0 => {
                let d_head = spec.d_head();
                if n_rotated == 0 || !n_rotated.is_multiple_of(2) || n_rotated > d_head {
                    let message = format!(
                        "n_rotated = {n_rotated} is not an even number from 2 to d_head = {d_head}, \
                         which is d_model / n_heads; {}",
                        match d_head - d_head % 2 {
                            0 => "use fewer heads".to_owned(),
                            most => format!("use at most {most}"),
                        }
                    );
                    complain("n_rotated", message);
                }
            }
            Self::T5 { n_buckets, max_distance } => {
                if n_buckets < 2 {
                    let message = format!("n_buckets = {n_buckets} is too small; use at least 2");
                    complain("n_buckets", message);
                } else if max_distance <= n_buckets / 2 {
                    let message = format!(
                        "max_distance = {max_distance}, but the first {} of n_buckets = {n_buckets} \
                         are single distances; use more than that",
                        n_buckets / 2
                    );
                    complain("max_distance", message);
                }
            }
            Self::None | Self::Rotary { .. } | Self::Alibi => {}
        }
    }
}
