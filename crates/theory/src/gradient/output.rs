//! Gradients of a memory that is read by the unembedding: clean inputs, noisy inputs, normed output.

use ndarray::{Array1, Array2};

use super::{Examples, Lemma, logits, outer, probabilities};
use crate::dual::{self, Dual};

/// Lemma 1: inputs are embeddings of tokens.
///
/// ```text
/// L(W)      = E[ cross_entropy(y, W_U W w_E(z)) ]
/// grad L(W) = sum_k E_z[ (p_hat(k | z) - p(k | z)) w_U(k) w_E(z)^T ]
/// ```
///
/// So gradient descent stays a sum of `w_U(j) w_E(i)^T` and its start. `p(k | z)` is the share of
/// label `k` among the examples with token `z`.
///
/// Source: arXiv:2306.00802, lemma 1 (section 4.1, appendix C.1).
#[derive(Clone, Copy, Debug)]
pub struct Clean<'a>(pub &'a Examples);

impl Lemma for Clean<'_> {
    fn name(&self) -> String {
        "lemma 1, clean inputs".to_owned()
    }

    fn weight(&self) -> Array2<f64> {
        self.0.weight.clone()
    }

    fn loss(&self, weight: &Array2<Dual>) -> Dual {
        let it = self.0;
        it.mean_loss(|idx| {
            let output = dual::apply(weight, it.embed.row(it.tokens[idx]));
            dual::cross_entropy(&logits(&it.unembed, &output), it.labels[idx])
        })
    }

    fn gradient(&self) -> Array2<f64> {
        let it = self.0;
        let d_vocab = it.embed.nrows();
        let mut gradient = it.zero_weight();
        for token in 0..d_vocab {
            let labels: Vec<usize> = std::iter::zip(&it.tokens, &it.labels)
                .filter(|(seen, _)| **seen == token)
                .map(|(_, &label)| label)
                .collect();
            if labels.is_empty() {
                continue;
            }
            let p_token = labels.len() as f64 / it.n();
            let p_hat = probabilities(it.unembed.dot(&it.weight.dot(&it.embed.row(token))));
            for k in 0..d_vocab {
                let n_k = labels.iter().filter(|&&label| label == k).count();
                let p_k = n_k as f64 / labels.len() as f64;
                let term = outer(it.unembed.row(k), it.embed.row(token));
                gradient.scaled_add(p_token * (p_hat[k] - p_k), &term);
            }
        }
        gradient
    }
}

/// Lemma 2: inputs are any vectors; the first position of each example is its `x`.
///
/// ```text
/// L(W)      = E[ cross_entropy(y, W_U W x) ]
/// grad L(W) = sum_k p(y = k) w_U(k) (mu_hat_k - mu_k)^T
/// mu_k      = E[ x | y = k ],   mu_hat_k = E[ p_hat(k | x) x ] / p(y = k)
/// ```
///
/// Source: arXiv:2306.00802, lemma 2 (section 6, appendix C.2).
#[derive(Clone, Copy, Debug)]
pub struct Noisy<'a>(pub &'a Examples);

impl Lemma for Noisy<'_> {
    fn name(&self) -> String {
        "lemma 2, noisy inputs".to_owned()
    }

    fn weight(&self) -> Array2<f64> {
        self.0.weight.clone()
    }

    fn loss(&self, weight: &Array2<Dual>) -> Dual {
        let it = self.0;
        it.mean_loss(|idx| {
            let output = dual::apply(weight, it.inputs[idx].row(0));
            dual::cross_entropy(&logits(&it.unembed, &output), it.labels[idx])
        })
    }

    fn gradient(&self) -> Array2<f64> {
        let it = self.0;
        let inputs = || it.inputs.iter().map(|input| input.row(0));
        let mut gradient = it.zero_weight();
        for k in 0..it.unembed.nrows() {
            let n_k = it.labels.iter().filter(|&&label| label == k).count();
            if n_k == 0 {
                // The class has no mean, and enters by its predictions alone.
                let mut predicted = Array1::zeros(it.weight.nrows());
                for x in inputs() {
                    let p_hat = probabilities(it.unembed.dot(&it.weight.dot(&x)));
                    predicted.scaled_add(p_hat[k] / it.n(), &x);
                }
                gradient += &outer(it.unembed.row(k), predicted.view());
                continue;
            }
            let p_k = n_k as f64 / it.n();
            let (mut mu, mut mu_hat) =
                (Array1::zeros(it.weight.nrows()), Array1::zeros(it.weight.nrows()));
            for (x, &label) in inputs().zip(&it.labels) {
                if label == k {
                    mu.scaled_add(1.0 / n_k as f64, &x);
                }
                let p_hat = probabilities(it.unembed.dot(&it.weight.dot(&x)));
                mu_hat.scaled_add(p_hat[k] / it.n() / p_k, &x);
            }
            gradient.scaled_add(p_k, &outer(it.unembed.row(k), (mu_hat - mu).view()));
        }
        gradient
    }
}

/// The gradient through a norm, `LN(x) = x / norm(x)` after the memory.
///
/// ```text
/// L(W)      = E[ cross_entropy(y, W_U W x / r) ],   r = norm(W x)
/// grad L(W) = sum_k E[ (p_hat(k | x) - p(k | x)) / r (I - (W x)(W x)^T / r^2) w_U(k) x^T ]
/// ```
///
/// What is already aligned with `W x` is projected away. `p(k | x)` is 1 for the label.
///
/// Source: arXiv:2306.00802, appendix D (layer-norm).
#[derive(Clone, Copy, Debug)]
pub struct Normed<'a>(pub &'a Examples);

impl Lemma for Normed<'_> {
    fn name(&self) -> String {
        "through a layer norm".to_owned()
    }

    fn weight(&self) -> Array2<f64> {
        self.0.weight.clone()
    }

    fn loss(&self, weight: &Array2<Dual>) -> Dual {
        let it = self.0;
        it.mean_loss(|idx| {
            let output = dual::apply(weight, it.inputs[idx].row(0));
            let norm = output.iter().map(|&entry| entry * entry).sum::<Dual>().sqrt();
            let normed: Vec<Dual> = output.into_iter().map(|entry| entry / norm).collect();
            dual::cross_entropy(&logits(&it.unembed, &normed), it.labels[idx])
        })
    }

    fn gradient(&self) -> Array2<f64> {
        let it = self.0;
        let d_model = it.weight.nrows();
        let mut gradient = it.zero_weight();
        for (input, &label) in std::iter::zip(&it.inputs, &it.labels) {
            let x = input.row(0);
            let output = it.weight.dot(&x);
            let norm = output.dot(&output).sqrt();
            let p_hat = probabilities(it.unembed.dot(&(&output / norm)));
            let aligned = outer(output.view(), output.view()) / (norm * norm);
            let across = Array2::eye(d_model) - aligned;
            for (k, unembed) in it.unembed.rows().into_iter().enumerate() {
                let p_k = if k == label { 1.0 } else { 0.0 };
                let term = outer(across.dot(&unembed).view(), x);
                gradient.scaled_add((p_hat[k] - p_k) / norm / it.n(), &term);
            }
        }
        gradient
    }
}
