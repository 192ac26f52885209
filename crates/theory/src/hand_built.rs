//! The induction head written down at once: the paper's target weights, on embeddings of any kind.
//!
//! ```text
//! W_K^1 = beta sum_t p_t p_{t-1}^T                             look at the position before
//! W_K^2 = beta sum_{k in Q} w_E(k) (Phi_1 w_E(k))^T            look for what followed the trigger
//! W_O^2 = sum_k w_U(k) (W_V^2 w_E(k))^T                        say what is found there
//! W_F   = sum_{i not in Q} sum_j log pi_b(j | i) w_U(j) w_E(i)^T   else what follows by chance
//! ```
//!
//! `Q` are the fixed triggers, or all tokens where triggers are random; then no `i` is left out. Zero
//! probabilities have no logarithm; [`LOG_FLOOR`] stands for them.
//!
//! Everything the model computes is an inner product between embeddings or their images under
//! `Phi_1` and `W_V^2`. [`Products`] holds these, either of random vectors with entries of variance
//! `1 / d` (no factor `1 / sqrt(d)` in scores), or of exactly orthonormal ones, which need no vectors.
//! So no matrix of the model's width outlives its construction.
//!
//! Source: arXiv:2306.00802, equations 7 and 8 (section 4.2).

use mnemoscope_stats::stream::Stream;
use mnemoscope_task::Bigram;
use mnemoscope_task::bigram::{Occurrences, Triggers};
use ndarray::{Array1, Array2, Axis, s};

use crate::check::Check;
use crate::embedding::{gaussian, remapped};
use crate::memory::{argmax, softmax};

/// What stands for the logarithm of a bigram that never occurs.
pub const LOG_FLOOR: f64 = -9.210_340_371_976_182;

/// Inner products of everything in the residual stream with everything that a weight asks for.
///
/// A *source* is one of `w_E(0..N)`, `p_0..p_{T-1}`, and then the same again under `Phi_1`.
#[derive(Clone, Debug)]
pub struct Products {
    d_vocab: usize,
    seq_len: usize,
    /// Before layer 1, with positions: `[N + T, T]`.
    with_positions: Array2<f64>,
    /// With `w_E`: `[2 (N + T), N]`.
    with_embed: Array2<f64>,
    /// With `Phi_1 w_E`: `[2 (N + T), N]`.
    with_remapped: Array2<f64>,
    /// With `w_U`: `[2 (N + T), N]`.
    with_unembed: Array2<f64>,
    /// Both sides under `W_V^2`, with `w_E`: `[2 (N + T), N]`.
    with_values: Array2<f64>,
    /// Of `w_U` with each other: `[N, N]`.
    of_unembed: Array2<f64>,
}

impl Products {
    /// Of random embeddings and random maps with entries of variance `1 / d_model`.
    ///
    /// # Randomness
    ///
    /// A child of `stream` for each matrix.
    #[must_use]
    pub fn random(d_vocab: usize, seq_len: usize, d_model: usize, stream: &Stream) -> Self {
        let rows = |name, n| gaussian(&stream.derive(name), [n, d_model], 1.0 / d_model as f64);
        let (embed, unembed) = (rows("embed", d_vocab), rows("unembed", d_vocab));
        let positions = rows("positions", seq_len);
        let base = stacked(&embed, &positions);
        let through_v = remapped(base.view(), &stream.derive("value 1"));
        let images = remapped(through_v.view(), &stream.derive("output 1"));
        let sources = stacked(&base, &images);
        let values = remapped(sources.view(), &stream.derive("value 2"));
        Self {
            d_vocab,
            seq_len,
            with_positions: base.dot(&positions.t()),
            with_embed: sources.dot(&embed.t()),
            with_remapped: sources.dot(&images.slice(s![..d_vocab, ..]).t()),
            with_unembed: sources.dot(&unembed.t()),
            with_values: values.dot(&values.slice(s![..d_vocab, ..]).t()),
            of_unembed: unembed.dot(&unembed.t()),
        }
    }

    /// Of embeddings in blocks of their own, each exactly orthonormal, and maps that take blocks to
    /// new blocks.
    #[must_use]
    pub fn orthonormal(d_vocab: usize, seq_len: usize) -> Self {
        let n_sources = 2 * (d_vocab + seq_len);
        let unit = |first: usize, (row, column): (usize, usize)| {
            if row == first + column { 1.0 } else { 0.0 }
        };
        let block = |first| Array2::from_shape_fn((n_sources, d_vocab), |at| unit(first, at));
        Self {
            d_vocab,
            seq_len,
            with_positions: Array2::from_shape_fn((d_vocab + seq_len, seq_len), |at| {
                unit(d_vocab, at)
            }),
            with_embed: block(0),
            with_remapped: block(d_vocab + seq_len),
            with_unembed: Array2::zeros((n_sources, d_vocab)),
            with_values: block(0),
            of_unembed: Array2::eye(d_vocab),
        }
    }

    fn embed_with_unembed(&self) -> ndarray::ArrayView2<'_, f64> {
        self.with_unembed.slice(s![..self.d_vocab, ..])
    }
}

fn stacked(above: &Array2<f64>, below: &Array2<f64>) -> Array2<f64> {
    let mut rows = above.clone();
    // Widths agree by construction; a mismatch would be a mistake in this file.
    rows.append(Axis(0), below.view()).unwrap_or_else(|why| panic!("stacking rows: {why}"));
    rows
}

/// Multiples of the target weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gains {
    /// Of `W_K^1` and `W_K^2`.
    pub beta: f64,
    /// Of `W_O^2`.
    pub output: f64,
    /// Of `W_F`; 0 leaves it out.
    pub feed_forward: f64,
}

/// What the model got right on some examples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Positions in context answered right, and their number.
    pub in_context: [u64; 2],
    /// Positions after no trigger answered right, and their number.
    pub global: [u64; 2],
    /// Positions after no trigger at which the commonest bigram is right.
    pub global_best: u64,
    /// Queries of layer 1 that look at the position before, and their number.
    pub previous: [u64; 2],
}

impl Score {
    /// A share of right answers.
    #[must_use]
    pub fn share([n_right, n_trials]: [u64; 2]) -> f64 {
        n_right as f64 / n_trials as f64
    }

    /// Counts the answers of `other` too.
    fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.in_context, other.in_context),
            (&mut self.global, other.global),
            (&mut self.previous, other.previous),
        ];
        for ([n_right, n_trials], [n_right_more, n_trials_more]) in pairs {
            *n_right += n_right_more;
            *n_trials += n_trials_more;
        }
        self.global_best += other.global_best;
    }
}

/// The hand-built model for one language.
#[derive(Clone, Debug)]
pub struct HandBuilt<'a> {
    products: &'a Products,
    language: &'a Bigram,
    gains: Gains,
    /// The tokens that `W_K^2` knows.
    known: Vec<usize>,
    /// Scores of layer 1 between sources: `[N + T, N + T]`, queries on the rows.
    scores_1: Array2<f64>,
    /// `log pi_b`, `[i, j]`; rows that `W_F` leaves out are zero.
    log_bigrams: Array2<f64>,
}

impl<'a> HandBuilt<'a> {
    /// The model of equations 7 and 8 for `language`, in the coordinates of `products`.
    ///
    /// # Panics
    ///
    /// If the two have different vocabularies or lengths.
    #[must_use]
    #[track_caller]
    pub fn new(products: &'a Products, language: &'a Bigram, gains: Gains) -> Self {
        let d_vocab = language.d_vocab() as usize;
        assert_eq!(
            d_vocab, products.d_vocab,
            "the language and the products have other vocabularies"
        );
        assert_eq!(language.seq_len as usize, products.seq_len, "and here other lengths");
        let fixed: Option<Vec<usize>> = match language.triggers {
            Triggers::Fixed => {
                Some(language.fixed_triggers().into_iter().map(usize::from).collect())
            }
            Triggers::Random => None,
        };
        let log_bigram = |(token, next): (usize, usize)| {
            if fixed.as_ref().is_some_and(|fixed| fixed.contains(&token)) {
                return 0.0;
            }
            language.corpus.p_bigram(token as u16, next as u16).ln().max(LOG_FLOOR)
        };
        let with = &products.with_positions;
        let last = products.seq_len - 1;
        let scores_1 = with.slice(s![.., 1..]).dot(&with.slice(s![.., ..last]).t()) * gains.beta;
        Self {
            products,
            language,
            gains,
            log_bigrams: Array2::from_shape_fn((d_vocab, d_vocab), log_bigram),
            known: fixed.unwrap_or_else(|| (0..d_vocab).collect()),
            scores_1,
        }
    }

    /// The attention of layer 1: `[query, key]`.
    fn pattern_1(&self, tokens: &[usize]) -> Array2<f64> {
        let (d_vocab, seq_len) = (self.products.d_vocab, self.products.seq_len);
        let mut pattern = Array2::zeros((seq_len, seq_len));
        for (query, mut row) in pattern.rows_mut().into_iter().enumerate() {
            let of_token = self.scores_1.row(tokens[query]);
            let of_pos = self.scores_1.row(d_vocab + query);
            for (key, score) in row.iter_mut().enumerate().take(query + 1) {
                let sources = [tokens[key], d_vocab + key];
                *score = sources.iter().map(|&source| of_token[source] + of_pos[source]).sum();
            }
            if let Some(row) = row.as_slice_mut() {
                softmax(&mut row[..=query]);
            }
        }
        pattern
    }

    /// Products of the residual stream after layer 1 with the columns of a table of sources.
    ///
    /// # Shapes
    ///
    /// `table: [2 (N + T), n]` -> `[pos, n]`.
    fn after_layer_1(
        &self,
        tokens: &[usize],
        pattern: &Array2<f64>,
        table: &Array2<f64>,
    ) -> Array2<f64> {
        let (d_vocab, seq_len) = (self.products.d_vocab, self.products.seq_len);
        let at = |first: usize| {
            let mut rows = table
                .select(Axis(0), &tokens.iter().map(|token| first + token).collect::<Vec<_>>());
            rows += &table.slice(s![first + d_vocab..first + d_vocab + seq_len, ..]);
            rows
        };
        at(0) + pattern.dot(&at(d_vocab + seq_len))
    }

    /// Logits at every position.
    ///
    /// # Shapes
    ///
    /// `tokens: [seq_len]` -> `[seq_len, d_vocab]`, and the attention of layer 1.
    #[must_use]
    pub fn logits(&self, tokens: &[usize]) -> (Array2<f64>, Array2<f64>) {
        let products = self.products;
        let pattern_1 = self.pattern_1(tokens);
        let of = |table| self.after_layer_1(tokens, &pattern_1, table);
        let embed = of(&products.with_embed);
        let queries = embed.select(Axis(1), &self.known);
        let keys = of(&products.with_remapped).select(Axis(1), &self.known);
        let mut pattern_2 = queries.dot(&keys.t()) * self.gains.beta;
        for (query, mut row) in pattern_2.rows_mut().into_iter().enumerate() {
            if let Some(row) = row.as_slice_mut() {
                softmax(&mut row[..=query]);
                row[query + 1..].fill(0.0);
            }
        }
        // Coefficients of w_U(k) that the head adds: [pos, k].
        let said = pattern_2.dot(&of(&products.with_values)) * self.gains.output;
        let mut logits = of(&products.with_unembed) + said.dot(&products.of_unembed);
        if self.gains.feed_forward > 0.0 {
            // W_F reads the stream after the head, with what the head has just added.
            let read = embed + said.dot(&products.embed_with_unembed().t());
            let coefficients = read.dot(&self.log_bigrams) * self.gains.feed_forward;
            logits += &coefficients.dot(&products.of_unembed);
        }
        (logits, pattern_1)
    }

    /// Answers of the model on some examples.
    ///
    /// # Randomness
    ///
    /// Examples 0 to `n_examples` of `stream`.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_stats::stream::Stream;
    /// use mnemoscope_task::Bigram;
    /// use mnemoscope_theory::hand_built::{Gains, HandBuilt, Products, Score};
    ///
    /// let language = Bigram { seq_len: 64, ..Bigram::paper(5) };
    /// let products = Products::orthonormal(65, 64);
    /// let gains = Gains { beta: 50.0, output: 1.0, feed_forward: 0.0 };
    /// let score = HandBuilt::new(&products, &language, gains).score(2, &Stream::root(0));
    /// assert!(Score::share(score.previous) == 1.0 && Score::share(score.in_context) > 0.9);
    /// ```
    #[must_use]
    pub fn score(&self, n_examples: u64, stream: &Stream) -> Score {
        let language = self.language;
        let mut score = Score::default();
        let mut example = vec![0; language.n_tokens()];
        let mut counts = Vec::new();
        for index in 0..n_examples {
            language.generate_into(&mut stream.at(index), &mut example);
            let triggers = language.triggers_at(&mut stream.at(index));
            language.occurrences(&example, &triggers, &mut counts);
            let tokens: Vec<usize> = example.iter().map(|&token| usize::from(token)).collect();
            let (logits, pattern_1) = self.logits(&tokens[..tokens.len() - 1]);
            for (pos, row) in logits.rows().into_iter().enumerate() {
                let right = u64::from(argmax(row) == Some(tokens[pos + 1]));
                if Occurrences::InContext.holds(counts[pos]) {
                    add(&mut score.in_context, right);
                } else if Occurrences::Global.holds(counts[pos]) {
                    add(&mut score.global, right);
                    let best = argmax(self.bigrams_after(tokens[pos]).view());
                    score.global_best += u64::from(best == Some(tokens[pos + 1]));
                }
            }
            for (pos, row) in pattern_1.rows().into_iter().enumerate().skip(1) {
                add(&mut score.previous, u64::from(argmax(row) == Some(pos - 1)));
            }
        }
        score
    }

    fn bigrams_after(&self, token: usize) -> Array1<f64> {
        let corpus = &self.language.corpus;
        (0..corpus.d_vocab()).map(|next| corpus.p_bigram(token as u16, next as u16)).collect()
    }
}

fn add([n_right, n_trials]: &mut [u64; 2], right: u64) {
    *n_right += right;
    *n_trials += 1;
}

/// The language of these checks: five triggers, fixed or random.
fn language(triggers: Triggers) -> Bigram {
    Bigram { triggers, ..Bigram::paper(5) }
}

/// Sharpness of attention in the published table.
const BETAS: [f64; 2] = [20.0, 50.0];

/// Published at one width: share of queries that look back, and right answers with fixed and with
/// random triggers, at both values of beta.
#[derive(Clone, Copy, Debug)]
pub struct Width {
    /// The model's width.
    pub d_model: usize,
    /// How far from these the right answers on other embeddings may be; what looks back depends on
    /// them less, and may be 0.05 away at most.
    pub tolerance: f64,
    /// At `beta` 20 and 50.
    pub previous: [f64; 2],
    /// At `beta` 20 and 50.
    pub fixed: [f64; 2],
    /// At `beta` 20 and 50.
    pub random: [f64; 2],
}

/// Checks on random embeddings of some widths, without `W_F`.
///
/// # Arguments
///
/// - `n_draws`: how often embeddings and maps are drawn anew; counts are pooled.
/// - `n_examples`: sequences for each draw.
#[must_use]
pub fn random_checks(
    widths: &[Width],
    n_draws: u64,
    n_examples: u64,
    stream: &Stream,
) -> Vec<Check> {
    let languages = [language(Triggers::Fixed), language(Triggers::Random)];
    let mut checks = Vec::new();
    for width in widths {
        let mut scores = [[Score::default(); 2]; BETAS.len()];
        for draw in 0..n_draws {
            let stream = stream.child(width.d_model as u64).child(draw);
            let products = Products::random(65, 256, width.d_model, &stream);
            let data = stream.derive("examples");
            for (beta, scores) in BETAS.into_iter().zip(&mut scores) {
                let gains = Gains { beta, output: 1.0, feed_forward: 0.0 };
                for (language, score) in std::iter::zip(&languages, scores) {
                    score.add(&HandBuilt::new(&products, language, gains).score(n_examples, &data));
                }
            }
        }
        for (idx, (beta, [fixed, random])) in BETAS.into_iter().zip(scores).enumerate() {
            let rows = [
                ("looks back", width.previous, random.previous),
                ("right in context, fixed triggers", width.fixed, fixed.in_context),
                ("right in context, random triggers", width.random, random.in_context),
            ];
            let tolerances = [width.tolerance.min(0.05), width.tolerance, width.tolerance];
            for ((name, published, counts), tolerance) in rows.into_iter().zip(tolerances) {
                let what = format!("d {}, beta {beta}: {name}", width.d_model);
                let (share, n_trials) = (Score::share(counts), counts[1]);
                checks.push(Check::within(what, published[idx], share, tolerance, n_trials));
            }
        }
    }
    checks
}

/// Both equations together, on orthonormal embeddings: the head answers in context, and `W_F` as well
/// as the commonest bigram does elsewhere.
#[must_use]
pub fn orthonormal_checks(n_examples: u64, stream: &Stream) -> Vec<Check> {
    let products = Products::orthonormal(65, 256);
    let language = language(Triggers::Fixed);
    let gains = Gains { beta: 100.0, output: 1.0, feed_forward: 1.0 };
    let score = HandBuilt::new(&products, &language, gains).score(n_examples, stream);
    let best = Score::share([score.global_best, score.global[1]]);
    let band = [0.99, 1.0];
    let shares = [
        ("looks back", 1.0, score.previous, band),
        ("right in context, fixed triggers", 1.0, score.in_context, band),
        ("right elsewhere, of the commonest bigram's", best, score.global, [best - 0.02, 1.0]),
    ];
    let check = |(name, predicted, counts, band): (&str, f64, [u64; 2], [f64; 2])| {
        let what = format!("orthonormal, with W_F: {name}");
        Check::band(what, predicted, Score::share(counts), band, counts[1])
    };
    shares.map(check).into()
}

/// `W_F` on random embeddings: its 65 times 65 log-probabilities drown a head of gain one.
#[must_use]
pub fn crosstalk_check(d_model: usize, n_examples: u64, stream: &Stream) -> Check {
    let products = Products::random(65, 256, d_model, stream);
    let language = language(Triggers::Fixed);
    let gains = Gains { beta: 50.0, output: 1.0, feed_forward: 1.0 };
    let data = stream.derive("examples");
    let score = HandBuilt::new(&products, &language, gains).score(n_examples, &data);
    let what = format!("d {d_model}, with W_F: right in context");
    let share = Score::share(score.in_context);
    Check::band(what, 0.23, share, [0.0, 0.3], score.in_context[1])
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayView1;

    use super::*;

    /// The same products from explicit one-hot vectors, multiplied out as matrices.
    #[test]
    fn products_give_the_logits_of_the_model_written_out() {
        let language = Bigram { seq_len: 12, ..Bigram::paper(3) };
        let (d_vocab, seq_len, d_model) = (65, 12, 40);
        let stream = Stream::root(5);
        let products = Products::random(d_vocab, seq_len, d_model, &stream);
        let gains = Gains { beta: 3.0, output: 2.0, feed_forward: 0.5 };
        let model = HandBuilt::new(&products, &language, gains);
        let tokens: Vec<usize> = (0..seq_len).map(|pos| (7 * pos + 3) % 11).collect();
        let (logits, pattern) = model.logits(&tokens);

        let variance = 1.0 / d_model as f64;
        let matrix = |name, n| gaussian(&stream.derive(name), [n, d_model], variance);
        let (embed, unembed) = (matrix("embed", d_vocab), matrix("unembed", d_vocab));
        let positions = matrix("positions", seq_len);
        let (v_1, o_1, v_2) =
            (matrix("value 1", d_model), matrix("output 1", d_model), matrix("value 2", d_model));
        let phi = o_1.dot(&v_1);
        let key_query_1 =
            positions.slice(s![1.., ..]).t().dot(&positions.slice(s![..seq_len - 1, ..])) * 3.0;
        let key_query_2 = embed.t().dot(&embed.dot(&phi.t())) * 3.0;
        let output_2 = unembed.t().dot(&embed.dot(&v_2.t())) * 2.0;
        let feed_forward = unembed.t().dot(&model.log_bigrams.t()).dot(&embed) * 0.5;

        let stream_0 = embed.select(Axis(0), &tokens) + &positions;
        let attend = |scores: Array2<f64>| {
            let mut pattern = scores;
            for (query, mut row) in pattern.rows_mut().into_iter().enumerate() {
                let mut visible = row.slice(s![..=query]).to_vec();
                softmax(&mut visible);
                row.fill(0.0);
                row.slice_mut(s![..=query]).assign(&ArrayView1::from(&visible));
            }
            pattern
        };
        let attention_1 = attend(stream_0.dot(&key_query_1).dot(&stream_0.t()));
        assert!((&attention_1 - &pattern).iter().all(|entry| entry.abs() < 1e-12));
        let stream_1 = &stream_0 + &attention_1.dot(&stream_0).dot(&phi.t());
        let attention_2 = attend(stream_1.dot(&key_query_2).dot(&stream_1.t()));
        let head = attention_2.dot(&stream_1).dot(&v_2.t()).dot(&output_2.t());
        let before_ff = &stream_1 + &head;
        let after = &before_ff + &before_ff.dot(&feed_forward.t());
        let by_hand = after.dot(&unembed.t());
        let worst = (&by_hand - &logits).iter().fold(0.0, |most: f64, it| most.max(it.abs()));
        assert!(worst < 1e-10, "{worst}");
    }

    #[test]
    fn the_orthonormal_model_answers_in_context_and_elsewhere() {
        for check in orthonormal_checks(2, &Stream::root(0)) {
            assert!(check.holds(), "{check:?}");
        }
    }

    #[test]
    fn a_feed_forward_drowns_the_head_in_few_dimensions() {
        let check = crosstalk_check(128, 2, &Stream::root(0));
        assert!(check.holds(), "{check:?}");
    }
}
