//! Gradients of the matrices that hold keys and query, at zero, where attention is still uniform.

use ndarray::{Array1, Array2, Axis};

use super::{Examples, Lemma, logits, mean_of_rows, outer, probabilities};
use crate::dual::{self, Dual};

/// Lemma 4: keys and query of the second layer, at `W = 0`.
///
/// ```text
/// xi(X)     = W_U Phi_2 X softmax(X^T W x_T)
/// grad L(0) = sum_k E[ (p_hat(k | X) - 1{y = k})
///             (1 / T) sum_t w_U(k)^T Phi_2 x_t (x_t - mean(x)) x_T^T ]
/// ```
///
/// Where keys `z` differ from the values `x`, they take the place of `x_t` in the second factor.
///
/// Source: arXiv:2306.00802, lemma 4 (appendices B.2 and C.3).
#[derive(Clone, Copy, Debug)]
pub struct SecondKeyQuery<'a> {
    /// The data.
    pub examples: &'a Examples,
    /// Whether keys are vectors of their own.
    pub keys_apart: bool,
}

impl SecondKeyQuery<'_> {
    fn keys(&self, idx: usize) -> &Array2<f64> {
        let it = self.examples;
        if self.keys_apart { &it.keys[idx] } else { &it.inputs[idx] }
    }
}

impl Lemma for SecondKeyQuery<'_> {
    fn name(&self) -> String {
        let keys = if self.keys_apart { "keys apart" } else { "keys are values" };
        format!("lemma 4, key-query of layer 2, {keys}")
    }

    fn weight(&self) -> Array2<f64> {
        self.examples.zero_weight()
    }

    fn loss(&self, weight: &Array2<Dual>) -> Dual {
        let it = self.examples;
        it.mean_loss(|idx| {
            let (input, keys) = (&it.inputs[idx], self.keys(idx));
            let query = dual::apply(weight, input.row(input.nrows() - 1));
            let scores: Vec<Dual> =
                keys.rows().into_iter().map(|key| dual::dot(&query, key)).collect();
            let pattern = dual::softmax(&scores);
            let values = input.dot(&it.remap_2.t());
            let attended: Vec<Dual> =
                values.columns().into_iter().map(|column| dual::dot(&pattern, column)).collect();
            dual::cross_entropy(&logits(&it.unembed, &attended), it.labels[idx])
        })
    }

    fn gradient(&self) -> Array2<f64> {
        let it = self.examples;
        let mut gradient = it.zero_weight();
        for (idx, (input, &label)) in std::iter::zip(&it.inputs, &it.labels).enumerate() {
            let keys = self.keys(idx);
            let seq_len = input.nrows();
            // [k, t]: what position t says for class k.
            let says = it.unembed.dot(&it.remap_2).dot(&input.t());
            let p_hat = probabilities(says.sum_axis(Axis(1)) / seq_len as f64);
            let centred = keys - &mean_of_rows(keys);
            for k in 0..p_hat.len() {
                let excess = p_hat[k] - if k == label { 1.0 } else { 0.0 };
                let left = says.row(k).dot(&centred) / seq_len as f64;
                let term = outer(left.view(), input.row(seq_len - 1));
                gradient.scaled_add(excess / it.n(), &term);
            }
        }
        gradient
    }
}

/// Lemma 5: keys and query of the first layer, at `W = 0`, the second softmax linearised.
///
/// ```text
/// z_t(W)    = sum_{s <= t} Phi_1 x_s softmax_s(p_{1:t}^T W p_t)
/// u_t       = z_t(W)^T W_2 x_T
/// xi        = W_U Phi_2 X a,   a_t = (1 / T) (1 + u_t - mean(u))
/// grad L(0) = sum_k E[ (p_hat(k | X) - 1{y = k}) (1 / T) sum_t w_U(k)^T Phi_2 (x_t - mean(x))
///             (1 / t) sum_{s <= t} (Phi_1 x_s)^T W_2 x_T (p_s - mean(p_{1:t})) p_t^T ]
/// ```
///
/// The paper prints the product of the two differences as four terms.
///
/// Source: arXiv:2306.00802, lemma 5 (appendices B.2 and C.4).
#[derive(Clone, Copy, Debug)]
pub struct FirstKeyQuery<'a>(pub &'a Examples);

impl Lemma for FirstKeyQuery<'_> {
    fn name(&self) -> String {
        "lemma 5, key-query of layer 1".to_owned()
    }

    fn weight(&self) -> Array2<f64> {
        self.0.zero_weight()
    }

    fn loss(&self, weight: &Array2<Dual>) -> Dual {
        let it = self.0;
        it.mean_loss(|idx| {
            let input = &it.inputs[idx];
            let seq_len = input.nrows();
            let remapped = input.dot(&it.remap_1.t());
            let asked = it.key_query_2.dot(&input.row(seq_len - 1));
            let scores_2: Vec<Dual> = (0..seq_len)
                .map(|t| {
                    let query = dual::apply(weight, it.positions.row(t));
                    let scores_1: Vec<Dual> =
                        (0..=t).map(|s| dual::dot(&query, it.positions.row(s))).collect();
                    let pattern = dual::softmax(&scores_1);
                    let key: Vec<Dual> = remapped
                        .columns()
                        .into_iter()
                        .map(|column| (0..=t).map(|s| pattern[s] * column[s]).sum())
                        .collect();
                    dual::dot(&key, asked.view())
                })
                .collect();
            let mean = scores_2.iter().copied().sum::<Dual>() * (1.0 / seq_len as f64);
            let pattern: Vec<Dual> = scores_2
                .iter()
                .map(|&score| (Dual::constant(1.0) + score - mean) * (1.0 / seq_len as f64))
                .collect();
            let values = input.dot(&it.remap_2.t());
            let attended: Vec<Dual> =
                values.columns().into_iter().map(|column| dual::dot(&pattern, column)).collect();
            dual::cross_entropy(&logits(&it.unembed, &attended), it.labels[idx])
        })
    }

    fn gradient(&self) -> Array2<f64> {
        let it = self.0;
        let mut gradient = it.zero_weight();
        for (input, &label) in std::iter::zip(&it.inputs, &it.labels) {
            let seq_len = input.nrows();
            // [s]: how well the remapped token at s matches the query of layer 2.
            let matches =
                input.dot(&it.remap_1.t()).dot(&it.key_query_2.dot(&input.row(seq_len - 1)));
            let says = it.unembed.dot(&it.remap_2).dot(&input.t());
            let mean_says = says.sum_axis(Axis(1)) / seq_len as f64;
            let p_hat = self.p_hat(&says, &matches);
            for t in 0..seq_len {
                let here = it.positions.slice(ndarray::s![..=t, ..]).to_owned();
                let centred = &here - &mean_of_rows(&here);
                let moved = matches.slice(ndarray::s![..=t]).dot(&centred) / (t + 1) as f64;
                let factor: f64 = (0..p_hat.len())
                    .map(|k| {
                        let excess = p_hat[k] - if k == label { 1.0 } else { 0.0 };
                        excess * (says[[k, t]] - mean_says[k])
                    })
                    .sum();
                let term = outer(moved.view(), it.positions.row(t));
                gradient.scaled_add(factor / seq_len as f64 / it.n(), &term);
            }
        }
        gradient
    }
}

impl FirstKeyQuery<'_> {
    /// Predictions at zero, where each key is the mean of what came before.
    fn p_hat(&self, says: &Array2<f64>, matches: &Array1<f64>) -> Array1<f64> {
        let seq_len = matches.len();
        let mut before = 0.0;
        let scores: Array1<f64> = matches
            .iter()
            .enumerate()
            .map(|(t, matched)| {
                before += matched;
                before / (t + 1) as f64
            })
            .collect();
        let pattern = (&scores - scores.sum() / seq_len as f64 + 1.0) / seq_len as f64;
        probabilities(says.dot(&pattern))
    }
}
