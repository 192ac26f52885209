//! How much a single gradient step recalls, from few batches and in few dimensions.
//!
//! By lemma 2 the first step of `W_O^2` is `sum_k w_U(k) (mu_k - mu)^T` up to weights of classes. With
//! orthonormal outputs its score for class `k'` on input token `k` is `a_k^T (mu_{k'} - mu)`, where
//! `a_k = W_V w_E(k)` and `mu_{k'} = sum_j a_j bag_{k'}[j]`. So all scores are `G (bags - bag)^T` with the
//! Gram matrix `G = a^T a`, and no vector of the model's width is needed beyond it.
//!
//! ```text
//! plotted    for each input token k, the largest over classes k' of a_k^T (mu_{k'} - mu)
//! printed    for each class k, the largest over tokens k' of a_{k'}^T (mu_k - mu)
//! ```
//!
//! The paper prints the second and its figure shows the first. A class that was not seen has no mean
//! and is not recalled; it takes no part in the argmax either.
//!
//! Source: arXiv:2306.00802, appendix E (figure 9).

use mnemoscope_stats::mean::Mean;
use mnemoscope_stats::stream::Stream;
use mnemoscope_task::Bigram;
use ndarray::Array2;

use crate::check::Check;
use crate::data::in_context::ClassBags;
use crate::embedding::{gaussian, remapped};
use crate::memory::argmax;

/// Sequences of one batch in the figure.
const BATCH: usize = 32;

/// Which of the two contractions of the same product is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contraction {
    /// Classes compete for an input token: what the figure plots.
    Plotted,
    /// Tokens compete for a class: what the text prints.
    Printed,
}

/// The Gram matrix of remapped random embeddings.
///
/// # Shapes
///
/// `[d_vocab, d_vocab]`.
///
/// # Randomness
///
/// Children of `stream` for the embeddings and for `W_V`.
#[must_use]
pub fn gram(d_vocab: usize, d_model: usize, stream: &Stream) -> Array2<f64> {
    let embed = gaussian(&stream.derive("embed"), [d_vocab, d_model], 1.0 / d_model as f64);
    let values = remapped(embed.view(), &stream.derive("value"));
    values.dot(&values.t())
}

/// The share of tokens that one step recalls.
///
/// # Shapes
///
/// `gram: [d_vocab, d_vocab]`.
///
/// # Source
///
/// arXiv:2306.00802, appendix E (figure 9).
///
/// # Example
///
/// ```
/// use mnemoscope_stats::stream::Stream;
/// use mnemoscope_task::Bigram;
/// use mnemoscope_theory::data::in_context::ClassBags;
/// use mnemoscope_theory::one_step::{Contraction, one_step_recall};
/// use ndarray::Array2;
///
/// let mut bags = ClassBags::new(65);
/// bags.add_batch(&Bigram::paper(5), &Stream::root(0), 0, 320);
/// // Without any cross-talk between embeddings, ten batches are enough for nearly everything.
/// assert!(one_step_recall(&bags, &Array2::eye(65), Contraction::Plotted) > 0.9);
/// ```
#[must_use]
pub fn one_step_recall(bags: &ClassBags, gram: &Array2<f64>, contraction: Contraction) -> f64 {
    let d_vocab = gram.nrows();
    let centred = bags.means() - bags.mean();
    // [token, class].
    let mut scores = gram.dot(&centred.t());
    let seen: Vec<bool> = (0..d_vocab).map(|class| bags.n_of(class) > 0).collect();
    for (class, _) in seen.iter().enumerate().filter(|(_, seen)| !**seen) {
        scores.column_mut(class).fill(f64::NEG_INFINITY);
    }
    let recalled = |&k: &usize| {
        let best = match contraction {
            Contraction::Plotted => argmax(scores.row(k)),
            Contraction::Printed => argmax(scores.column(k)),
        };
        seen[k] && best == Some(k)
    };
    (0..d_vocab).filter(recalled).count() as f64 / d_vocab as f64
}

/// One point of the figure.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// The model's width.
    pub d_model: usize,
    /// Batches of 32 sequences.
    pub n_batches: u64,
    /// Which contraction.
    pub contraction: Contraction,
    /// The published value.
    pub published: f64,
    /// Where the measurement must lie.
    pub band: [f64; 2],
}

/// What the figure shows, in both contractions; bands where there are any, else 0.12 around what was
/// read off, which is a single run.
pub const POINTS: [Point; 15] = {
    use Contraction::{Plotted, Printed};
    const fn point(d_model: usize, n_batches: u64, published: f64) -> Point {
        let band = [published - 0.12, if published > 0.88 { 1.0 } else { published + 0.12 }];
        Point { d_model, n_batches, contraction: Plotted, published, band }
    }
    const fn banded(d_model: usize, published: f64, band: [f64; 2]) -> Point {
        Point { d_model, n_batches: 10, contraction: Plotted, published, band }
    }
    const fn printed(d_model: usize, published: f64) -> Point {
        let band = [published - 0.06, published + 0.06];
        Point { d_model, n_batches: 5, contraction: Printed, published, band }
    }
    [
        point(64, 5, 0.262),
        point(256, 5, 0.508),
        point(1024, 5, 0.908),
        banded(64, 0.277, [0.22, 0.33]),
        banded(256, 0.600, [0.53, 0.66]),
        banded(1024, 0.923, [0.89, 0.95]),
        point(64, 20, 0.338),
        point(256, 20, 0.677),
        point(1024, 20, 0.908),
        point(64, 39, 0.385),
        point(256, 39, 0.723),
        point(1024, 39, 0.954),
        printed(64, 0.689),
        printed(256, 0.898),
        printed(1024, 0.914),
    ]
};

/// The checks of this module: the mean over `n_draws` draws of data and embeddings at each point.
#[must_use]
pub fn checks(points: &[Point], n_draws: u64, stream: &Stream) -> Vec<Check> {
    let language = Bigram::paper(5);
    let d_vocab = language.d_vocab() as usize;
    let mut recalls = vec![Mean::default(); points.len()];
    for draw in 0..n_draws {
        let stream = stream.child(draw);
        let data = stream.derive("data");
        let mut bags = ClassBags::new(d_vocab);
        let mut n_added = 0;
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by_key(|&idx| points[idx].n_batches);
        for idx in order {
            let point = points[idx];
            let n_more = point.n_batches - n_added;
            if n_more > 0 {
                let (first, n_examples) = (n_added * BATCH as u64, n_more as usize * BATCH);
                bags.add_batch(&language, &data, first, n_examples);
                n_added = point.n_batches;
            }
            let gram = gram(d_vocab, point.d_model, &stream.child(point.d_model as u64));
            recalls[idx].add(one_step_recall(&bags, &gram, point.contraction));
        }
    }
    let check = |(point, recall): (&Point, &Mean)| {
        let what = format!(
            "d {}, {} batches, as {}",
            point.d_model,
            point.n_batches,
            if point.contraction == Contraction::Plotted { "plotted" } else { "printed" }
        );
        Check::band(what, point.published, recall.mean(), point.band, n_draws)
    };
    std::iter::zip(points, &recalls).map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_was_not_seen_is_not_recalled_and_recalls_nothing() {
        let bags = ClassBags::new(65);
        for contraction in [Contraction::Plotted, Contraction::Printed] {
            assert!(one_step_recall(&bags, &Array2::eye(65), contraction) < 1e-9);
        }
    }

    /// With the published widths the means over draws lie 0.1 and more apart.
    #[test]
    fn width_and_batches_both_help() {
        let point = |d_model, n_batches| Point {
            d_model,
            n_batches,
            contraction: Contraction::Plotted,
            published: 0.5,
            band: [0.0, 1.0],
        };
        let points = [point(64, 2), point(64, 10), point(256, 10)];
        let recalls: Vec<f64> =
            checks(&points, 2, &Stream::root(0)).iter().map(|check| check.measured).collect();
        assert!(recalls[0] + 0.02 < recalls[1] && recalls[1] + 0.15 < recalls[2], "{recalls:?}");
    }
}
