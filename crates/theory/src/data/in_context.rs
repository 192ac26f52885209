//! What one gradient step sees of the full bigram language: class means of bags of tokens.
//!
//! At a position whose token is a trigger that occurred before, the input is the mean of what came
//! so far, `x = (1 / t) sum_{s <= t} W_V w_E(z_s)`, and the class is the output that follows. As `x` is
//! linear in the bag of tokens, only bags are collected here; `W_V w_E` comes later, in any width.
//!
//! Source: arXiv:2306.00802, appendix E (figure 9).

use mnemoscope_stats::stream::Stream;
use mnemoscope_task::Bigram;
use ndarray::{Array1, Array2, Axis};

/// Sums of bags by class.
///
/// # Example
///
/// ```
/// use mnemoscope_stats::stream::Stream;
/// use mnemoscope_task::Bigram;
/// use mnemoscope_theory::data::in_context::ClassBags;
///
/// let language = Bigram::paper(5);
/// let mut bags = ClassBags::new(65);
/// bags.add_batch(&language, &Stream::root(0), 0, 32);
/// // A bag is a share for each token, so every class mean adds up to one.
/// let means = bags.means();
/// let seen = (0..65).find(|&class| bags.n_of(class) > 0).unwrap();
/// assert!((means.row(seen).sum() - 1.0).abs() < 1e-12);
/// ```
#[derive(Clone, Debug)]
pub struct ClassBags {
    n_of_class: Vec<u64>,
    /// `[class, token]`.
    sums: Array2<f64>,
}

impl ClassBags {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(d_vocab: usize) -> Self {
        Self { n_of_class: vec![0; d_vocab], sums: Array2::zeros((d_vocab, d_vocab)) }
    }

    /// Takes in the scored positions of a batch: those of `language.scored`, which for the paper
    /// are the ones in context.
    ///
    /// # Randomness
    ///
    /// Examples `first_index` to `first_index + n_examples` of `stream`.
    ///
    /// # Panics
    ///
    /// If the language has another vocabulary.
    #[track_caller]
    pub fn add_batch(
        &mut self,
        language: &Bigram,
        stream: &Stream,
        first_index: u64,
        n_examples: usize,
    ) {
        let (d_vocab, n_classes) = (language.d_vocab() as usize, self.n_of_class.len());
        assert_eq!(d_vocab, n_classes, "{d_vocab} tokens in bags of {n_classes}");
        let n_tokens = language.n_tokens();
        let mut batch = vec![0; n_examples * n_tokens];
        language.batch_into(stream, first_index, &mut batch);
        let mut targets = Vec::new();
        for (tokens, index) in batch.chunks_exact(n_tokens).zip(first_index..) {
            let triggers = language.triggers_at(&mut stream.at(index));
            language.targets(tokens, &triggers, &mut targets);
            let mut bag = Array1::<f64>::zeros(d_vocab);
            let mut n_in_bag = 0;
            for target in &targets {
                let n_seen = target.query_pos as usize + 1;
                for &token in &tokens[n_in_bag..n_seen] {
                    bag[usize::from(token)] += 1.0;
                }
                n_in_bag = n_seen;
                let class = usize::from(target.answer);
                self.n_of_class[class] += 1;
                self.sums.row_mut(class).scaled_add(1.0 / n_seen as f64, &bag);
            }
        }
    }

    /// How many positions had this class.
    #[must_use]
    pub fn n_of(&self, class: usize) -> u64 {
        self.n_of_class[class]
    }

    /// Mean bags by class; a class that was not seen has zeros.
    ///
    /// # Shapes
    ///
    /// `[class, token]`.
    #[must_use]
    pub fn means(&self) -> Array2<f64> {
        let mut means = self.sums.clone();
        for (mut row, &n) in means.rows_mut().into_iter().zip(&self.n_of_class) {
            row /= n.max(1) as f64;
        }
        means
    }

    /// The mean bag of all positions, `[token]`: classes count as often as they occur.
    #[must_use]
    pub fn mean(&self) -> Array1<f64> {
        let n: u64 = self.n_of_class.iter().sum();
        self.sums.sum_axis(Axis(0)) / n.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use mnemoscope_task::bigram::Occurrences;

    use super::*;

    /// The slow way: counters of occurrences and a fresh bag at every position.
    #[test]
    fn bags_are_the_shares_of_all_tokens_up_to_the_query() {
        let (language, stream) = (Bigram::paper(5), Stream::root(3));
        let mut bags = ClassBags::new(65);
        bags.add_batch(&language, &stream, 10, 4);
        let (mut sums, mut n) = (Array2::<f64>::zeros((65, 65)), vec![0; 65]);
        let mut counts = Vec::new();
        for index in 10..14 {
            let mut tokens = vec![0; language.n_tokens()];
            language.generate_into(&mut stream.at(index), &mut tokens);
            language.occurrences(
                &tokens,
                &language.triggers_at(&mut stream.at(index)),
                &mut counts,
            );
            for pos in 0..256 {
                if Occurrences::InContext.holds(counts[pos]) {
                    let class = usize::from(tokens[pos + 1]);
                    n[class] += 1;
                    for &token in &tokens[..=pos] {
                        sums[[class, usize::from(token)]] += 1.0 / (pos + 1) as f64;
                    }
                }
            }
        }
        assert_eq!(bags.n_of_class, n);
        assert!(n.iter().sum::<u64>() > 100);
        assert!((&bags.sums - &sums).iter().all(|difference| difference.abs() < 1e-12));
    }
}
