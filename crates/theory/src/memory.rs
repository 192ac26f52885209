//! Associative memories: a matrix that stores pairs, and how many of them it gives back.
//!
//! ```text
//! W = sum_i v_i u_i^T        pairs (u_i, v_i): u near orthonormal, so W u_i is near v_i
//! S[i, j] = v_j^T W u_i      scores: input i on the rows, candidate outputs j on the columns
//! recalled                   the largest of row i stands at its own output
//! ```
//!
//! Source: arXiv:2306.00802, equations 5 and 9.

use ndarray::{ArrayView1, ArrayView2};

/// How many of the stored pairs a memory gives back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recall {
    /// Pairs whose own output scores highest.
    pub n_right: u64,
    /// Pairs that were asked for.
    pub n_trials: u64,
}

impl Recall {
    /// The share of pairs given back; not a number if none was asked for.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.n_right as f64 / self.n_trials as f64
    }

    /// Asks each row of `scores` for its target.
    ///
    /// The paper's equation 9 takes the largest score over outputs for each input. Whoever has the
    /// inputs on the columns passes the transposed view, and gets the other contraction.
    ///
    /// # Shapes
    ///
    /// `scores: [n_inputs, n_outputs]`; one target for each input.
    ///
    /// # Panics
    ///
    /// If there are more or fewer targets than rows.
    ///
    /// # Source
    ///
    /// arXiv:2306.00802, equation 9.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_theory::memory::Recall;
    /// use ndarray::array;
    ///
    /// let scores = array![[0.9, 0.1], [0.8, 0.7]];
    /// assert_eq!(Recall::of_rows(scores.view(), &[0, 1]).share(), 0.5);
    /// assert_eq!(Recall::of_rows(scores.t(), &[0, 1]).share(), 1.0);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn of_rows(scores: ArrayView2<'_, f64>, targets: &[usize]) -> Self {
        let (n_rows, n_targets) = (scores.nrows(), targets.len());
        assert_eq!(n_rows, n_targets, "{n_targets} targets for {n_rows} rows of scores");
        let rows = scores.rows().into_iter().zip(targets);
        let n_right = rows.filter(|(row, target)| argmax(*row) == Some(**target)).count();
        Self { n_right: n_right as u64, n_trials: n_rows as u64 }
    }

    /// Asks a square memory that stores `i` under `i`.
    ///
    /// # Shapes
    ///
    /// `scores: [n, n]`.
    #[must_use]
    #[track_caller]
    pub fn of_identity(scores: ArrayView2<'_, f64>) -> Self {
        let targets: Vec<usize> = (0..scores.nrows()).collect();
        Self::of_rows(scores, &targets)
    }
}

/// The first place of the largest value; none if there is no value, or one is not a number.
///
/// # Example
///
/// ```
/// use mnemoscope_theory::memory::argmax;
/// use ndarray::array;
///
/// assert_eq!(argmax(array![1.0, 3.0, 3.0].view()), Some(1));
/// assert_eq!(argmax(array![1.0, f64::NAN].view()), None);
/// ```
#[must_use]
pub fn argmax(values: ArrayView1<'_, f64>) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (idx, &value) in values.iter().enumerate() {
        if value.is_nan() {
            return None;
        }
        if best.is_none_or(|(_, largest)| value > largest) {
            best = Some((idx, value));
        }
    }
    best.map(|(idx, _)| idx)
}

/// Replaces scores by their softmax.
///
/// # Example
///
/// ```
/// let mut pattern = [0.0, f64::ln(3.0)];
/// mnemoscope_theory::memory::softmax(&mut pattern);
/// assert!((pattern[1] - 0.75).abs() < 1e-15);
/// ```
pub fn softmax(scores: &mut [f64]) {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for score in &mut *scores {
        *score = (*score - largest).exp();
        sum += *score;
    }
    for score in scores {
        *score /= sum;
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    #[test]
    fn a_memory_without_content_recalls_by_chance_only() {
        let recall = Recall::of_identity(Array2::zeros((65, 65)).view());
        assert_eq!(recall, Recall { n_right: 1, n_trials: 65 });
    }

    #[test]
    fn softmax_survives_large_scores() {
        let mut pattern = [1e4, 1e4, -1e4];
        softmax(&mut pattern);
        let expected = [0.5, 0.5, 0.0];
        assert!(std::iter::zip(pattern, expected).all(|(got, it)| (got - it).abs() < 1e-15));
    }
}
