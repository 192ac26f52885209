//! The illustrative example: the label's own embedding, and a position as noise.
//!
//! `y` is uniform on the tokens, `t` on the positions, and `x = w_E(y) + p_t`. The class means of `x`
//! differ by the embeddings only, so one gradient step stores those and forgets the positions.
//!
//! Source: arXiv:2306.00802, section 6 and appendix B.1.

use mnemoscope_stats::stream::Draws;
use ndarray::{Array1, Array2};

/// The law of a label and the place of its noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Illustrative {
    /// The paper's `N`.
    pub d_vocab: u32,
    /// The paper's `T`.
    pub seq_len: u32,
}

/// A label and the position that blurs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blurred {
    /// The label `y`, which is also the token.
    pub label: usize,
    /// The position `t`, from 0.
    pub pos: usize,
}

impl Illustrative {
    /// Draws a label and a position.
    ///
    /// # Randomness
    ///
    /// A word for each, rarely one more.
    ///
    /// # Panics
    ///
    /// If there is no token or no position.
    #[must_use]
    #[track_caller]
    pub fn generate(&self, draws: &mut Draws) -> Blurred {
        Blurred {
            label: draws.below(self.d_vocab) as usize,
            pos: draws.below(self.seq_len) as usize,
        }
    }
}

impl Blurred {
    /// The input `w_E(y) + p_t`.
    ///
    /// # Shapes
    ///
    /// `embed: [d_vocab, d_model]`, `positions: [seq_len, d_model]` -> `[d_model]`.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_stats::stream::Stream;
    /// use mnemoscope_theory::data::illustrative::Illustrative;
    /// use ndarray::array;
    ///
    /// let law = Illustrative { d_vocab: 2, seq_len: 1 };
    /// let example = law.generate(&mut Stream::root(0).at(0));
    /// let x = example.input(&array![[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], &array![[0.0, 0.0, 1.0]]);
    /// assert_eq!((x[example.label], x[1 - example.label], x[2]), (1.0, 0.0, 1.0));
    /// ```
    #[must_use]
    pub fn input(&self, embed: &Array2<f64>, positions: &Array2<f64>) -> Array1<f64> {
        &embed.row(self.label) + &positions.row(self.pos)
    }
}

#[cfg(test)]
mod tests {
    use mnemoscope_stats::rate::clopper_pearson;
    use mnemoscope_stats::stream::Stream;

    use super::*;

    /// Six cells, each outside of its interval once in 10^8 streams.
    #[test]
    fn labels_and_positions_are_uniform_and_independent() {
        let (law, stream) = (Illustrative { d_vocab: 3, seq_len: 2 }, Stream::root(0));
        let mut cells = [[0_u64; 2]; 3];
        for index in 0..20_000 {
            let Blurred { label, pos } = law.generate(&mut stream.at(index));
            cells[label][pos] += 1;
        }
        for n in cells.as_flattened() {
            assert!(clopper_pearson(*n, 20_000, 1.0 - 1e-8).contains(1.0 / 6.0), "{cells:?}");
        }
    }
}
