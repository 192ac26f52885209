//! What the matrices of a two-layer model remember.
//!
//! A matrix that should hold a set of pairs `(u_i, v_i)` is asked each `u_i` and answers with the `v_j` of
//! the largest score. Its *recall* is the share of pairs for which that is `v_i`. In the paper's words,
//! with vectors as columns:
//!
//! | name | score | from each | to all | pairs |
//! |---|---|---|---|---|
//! | `w_o2` | `w_U(j)ᵀ W_O2 W_V2 w_E(i)` | token `i` | tokens `j` | `i = j` |
//! | `w_k2` | `w_E(i)ᵀ W_K2 W_O1 W_V1 w_E(j)` | query `i` | keys `j` | `i = j` |
//! | `w_k1` | `p_tᵀ W_K1 p_s` | query `t` | keys `s` | `s = t - 1` |
//! | `w_k1_first_64` | the same | of the first 64 places | | |
//!
//! The keys' recalls are taken as the authors' code takes them, over keys for each query. The printed
//! equation 9, read literally, asks each key and takes the largest over queries: that is
//! `w_k1_by_key`, `w_k1_first_64_by_key` and `w_k2_by_key`. No softmax, no scale and no causal mask. With
//! fixed triggers the rows and columns of `w_k2` are the triggers alone, as in the code. `w_k2_frequent` and
//! `w_k2_rare` are its pairs among the more frequent half of the tokens and among the others, still over all
//! keys: figure 7 shows the first strong and the second weak.
//!
//! `kl_nats` is the mean over tokens `k` of `KL(π_b(.|k) ‖ softmax(W_U W_F w_E(k)))`, the order that the paper
//! plots (the printed order is infinite, because most bigrams never occur); with fixed triggers over
//! the other tokens. Uniform logits have 2.2655 nats on tiny Shakespeare.
//!
//! A factored memory is read as the product of its factors, and of a normalised one each answer is scaled
//! before it is compared: the keys of `w_k1` and `w_k2`, the rows of `w_o2`, what W_F adds.
//!
//! In a transformer `W_Q` stands on the queries' side, all heads are added up, and norms are ignored, as
//! in the code. Everything is computed in double precision from the stored params; a recall is level 1 of
//! statistics, a count without an interval.
//!
//! # Source
//!
//! Bietti et al. 2023, equations 9 and 10; `wo1_acc`, `wk1_acc`, `wk0_acc`, `wk0_64_acc` and the KL of the
//! authors' code.

use mnemoscope_model::params::{Array, Tensors};
use mnemoscope_model::{
    AssociativeSpec, FeedForward, Gelu, Memory as Stored, Mlp, ModelSpec, TransformerSpec,
};
use mnemoscope_task::bigram::Triggers;
use mnemoscope_task::{Bigram, Token};
use serde::{Deserialize, Serialize};

use super::Share;

/// Places that count as early.
const EARLY: usize = 64;

/// Recalls, and the distance of the feed-forward from the bigrams.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the recalls are in the table of the module")]
pub struct Memory {
    pub w_o2: Share,
    pub w_k2: Share,
    pub w_k2_by_key: Share,
    /// `None` with fixed triggers, and so is the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub w_k2_frequent: Option<Share>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub w_k2_rare: Option<Share>,
    /// `None` without a table of places, and so are the next three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub w_k1: Option<Share>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub w_k1_by_key: Option<Share>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub w_k1_first_64: Option<Share>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub w_k1_first_64_by_key: Option<Share>,
    /// `None` without a feed-forward in the second layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl_nats: Option<f64>,
}

/// A matrix in double precision, rows one after another.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    n_rows: usize,
    n_cols: usize,
    data: Vec<f64>,
}

impl Matrix {
    /// # Panics
    ///
    /// If the array has not two axes.
    pub(super) fn of(array: &Array) -> Self {
        let [n_rows, n_cols] = array.shape[..] else { panic!("{:?} is no matrix", array.shape) };
        Self { n_rows, n_cols, data: array.data.iter().map(|&x| f64::from(x)).collect() }
    }

    /// Number of rows and of columns.
    #[must_use]
    pub fn dims(&self) -> [usize; 2] {
        [self.n_rows, self.n_cols]
    }

    /// One row.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f64] {
        &self.data[row * self.n_cols..][..self.n_cols]
    }

    fn times(&self, other: &Self) -> Self {
        assert_eq!(self.n_cols, other.n_rows);
        let mut data = vec![0.0; self.n_rows * other.n_cols];
        for (row, out) in data.chunks_exact_mut(other.n_cols.max(1)).enumerate() {
            for (x, other) in self.row(row).iter().zip(other.data.chunks_exact(other.n_cols)) {
                out.iter_mut().zip(other).for_each(|(out, y)| *out += x * y);
            }
        }
        Self { n_rows: self.n_rows, n_cols: other.n_cols, data }
    }

    /// A vector added to each row.
    fn plus_each(mut self, row: &[f64]) -> Self {
        for own in self.data.chunks_exact_mut(row.len().max(1)) {
            own.iter_mut().zip(row).for_each(|(x, y)| *x += y);
        }
        self
    }

    /// Each row scaled to a length; a row of zeros stays.
    fn scaled_to(mut self, length: f64) -> Self {
        for row in self.data.chunks_exact_mut(self.n_cols.max(1)) {
            let own = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            if own > 0.0 {
                row.iter_mut().for_each(|x| *x *= length / own);
            }
        }
        self
    }

    fn identity(n: usize) -> Self {
        let data = (0..n * n).map(|at| f64::from(u8::from(at / n == at % n))).collect();
        Self { n_rows: n, n_cols: n, data }
    }

    fn transposed(&self) -> Self {
        let data =
            (0..self.n_cols).flat_map(|col| (0..self.n_rows).map(move |row| self.row(row)[col]));
        Self { n_rows: self.n_cols, n_cols: self.n_rows, data: data.collect() }
    }

    fn rows(&self, rows: impl IntoIterator<Item = usize>) -> Self {
        let rows: Vec<usize> = rows.into_iter().collect();
        let data = rows.iter().flat_map(|&row| self.row(row)).copied().collect();
        Self { n_rows: rows.len(), n_cols: self.n_cols, data }
    }

    fn columns(&self, from: usize, n_cols: usize) -> Self {
        let data = (0..self.n_rows).flat_map(|row| &self.row(row)[from..from + n_cols]);
        Self { n_rows: self.n_rows, n_cols, data: data.copied().collect() }
    }

    /// Where each row is largest; of equals the first.
    fn largest(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.n_rows).map(|row| {
            let row = self.row(row);
            (0..row.len()).fold(0, |best, col| if row[col] > row[best] { col } else { best })
        })
    }
}

/// The matrices of a two-layer model that probes read, vectors as rows.
#[derive(Clone, Debug)]
pub struct Matrices {
    embed: Matrix,
    /// What is added at each place.
    places: Option<Matrix>,
    unembed: Matrix,
    /// What queries go through; `None` where a query is the stream itself.
    queries: [Option<Matrix>; 2],
    keys: [Matrix; 2],
    /// Values and outputs as one.
    outputs: [Matrix; 2],
    feed: Feed,
    /// The length that the answers of normalised memories have, if they are.
    lengths: Lengths,
}

/// See [`AssociativeSpec::normalised`].
#[derive(Clone, Copy, Debug, Default)]
struct Lengths {
    keys: [Option<f64>; 2],
    output: Option<f64>,
    feed: Option<f64>,
}

/// The feed-forward of the second layer.
#[derive(Clone, Debug)]
enum Feed {
    None,
    Linear { weight: Matrix, bias: Vec<f64> },
    Mlp { up: Matrix, up_bias: Vec<f64>, down: Matrix, down_bias: Vec<f64>, act: fn(f64) -> f64 },
}

impl Feed {
    /// The feed-forward of a transformer's second block.
    fn of_transformer(spec: &TransformerSpec, params: &Tensors) -> Self {
        if !spec.has_mlp(1) {
            return Self::None;
        }
        let matrix = |part: &str| {
            let name = format!("blocks.1.mlp.{part}.weight");
            Matrix::of(
                params.get(&name).unwrap_or_else(|| panic!("the model has no param `{name}`")),
            )
        };
        let bias = |part: &str, n: usize| match params.get(&format!("blocks.1.mlp.{part}.bias")) {
            Some(array) => array.data.iter().map(|&x| f64::from(x)).collect(),
            None => vec![0.0; n],
        };
        let act: fn(f64) -> f64 = match (spec.mlp, spec.gelu) {
            (Mlp::Relu, _) => |x| x.max(0.0),
            (_, Gelu::Erf) => |x| 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            (_, Gelu::Tanh) => |x| {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            },
        };
        if spec.mlp == Mlp::Linear {
            return Self::Linear { weight: matrix("down"), bias: bias("down", spec.d_model) };
        }
        Self::Mlp {
            up: matrix("up"),
            up_bias: bias("up", spec.d_mlp),
            down: matrix("down"),
            down_bias: bias("down", spec.d_model),
            act,
        }
    }
}

impl Lengths {
    fn of(spec: &AssociativeSpec) -> Self {
        let of = |memory| spec.normalised.contains(&memory).then(|| spec.length());
        Self {
            keys: [of(Stored::K1), of(Stored::K2)],
            output: of(Stored::Out2),
            feed: of(Stored::Mlp),
        }
    }
}

/// The answers of a memory, one a row, as the model goes on with them.
fn answered(answers: Matrix, length: Option<f64>) -> Matrix {
    match length {
        Some(length) => answers.scaled_to(length),
        None => answers,
    }
}

impl Matrices {
    /// Takes the matrices out of the params of a model that [`subject`](super::subject) accepts.
    ///
    /// # Panics
    ///
    /// If the params are not the model's, or the model is none of those.
    #[must_use]
    pub fn of(spec: &ModelSpec, params: &Tensors) -> Self {
        let matrix = |name: &str| match params.get(name) {
            Some(array) => Matrix::of(array),
            None => panic!("the model has no param `{name}`"),
        };
        let places = params.get("pos.weight").map(Matrix::of);
        let spec = match spec {
            ModelSpec::Associative(spec) => spec,
            ModelSpec::Transformer(spec) => return Self::of_transformer(spec, params),
            ModelSpec::Lstm(_) => panic!("an lstm has no matrices that probes read"),
        };
        // A matrix as it is stored, or as the product of its factors.
        let part = |block: usize, part: &str| {
            let name = |half: &str| format!("blocks.{block}.{part}{half}.weight");
            if params.get(&name("")).is_some() {
                return matrix(&name(""));
            }
            let mut product = matrix(&name(".right")).times(&matrix(&name(".left")));
            product.data.iter_mut().for_each(|x| *x *= spec.factor_scale());
            product
        };
        let bias = |block: usize| match params.get(&format!("blocks.{block}.mlp.up.bias")) {
            Some(array) => array.data.iter().map(|&x| f64::from(x)).collect(),
            None => vec![0.0; spec.d_mlp],
        };
        let output = |block| part(block, "attn.v").times(&part(block, "attn.out"));
        Self {
            embed: matrix("embed.weight"),
            places,
            unembed: matrix("unembed.weight"),
            queries: [None, None],
            keys: [0, 1].map(|block| part(block, "attn.k")),
            outputs: [0, 1].map(output),
            feed: match spec.mlp {
                FeedForward::None => Feed::None,
                FeedForward::Linear => {
                    Feed::Linear { weight: part(1, "mlp"), bias: vec![0.0; spec.d_model] }
                }
                FeedForward::Relu => Feed::Mlp {
                    up: part(1, "mlp.up"),
                    up_bias: bias(1),
                    down: part(1, "mlp.down"),
                    down_bias: vec![0.0; spec.d_model],
                    act: |x| x.max(0.0),
                },
            },
            lengths: Lengths::of(spec),
        }
    }

    /// As [`Self::of`], of a transformer of two layers.
    fn of_transformer(spec: &TransformerSpec, params: &Tensors) -> Self {
        let matrix = |name: &str| match params.get(name) {
            Some(array) => Matrix::of(array),
            None => panic!("the model has no param `{name}`"),
        };
        let d = spec.d_model;
        let attn = |block: usize, part: &str| format!("blocks.{block}.attn.{part}.weight");
        // Queries and keys stand together, with the values or without.
        let of_qk = |block: usize, part: usize| {
            let all = params.get(&attn(block, "qkv")).or_else(|| params.get(&attn(block, "qk")));
            Matrix::of(all.expect("a block has queries and keys")).columns(part * d, d)
        };
        let values = |block: usize| match params.get(&attn(block, "qkv")) {
            Some(all) => Matrix::of(all).columns(2 * d, d),
            None => params.get(&attn(block, "v")).map_or_else(|| Matrix::identity(d), Matrix::of),
        };
        let output = |block: usize| match params.get(&attn(block, "out")) {
            Some(out) => values(block).times(&Matrix::of(out)),
            None => values(block),
        };
        let embed = matrix("embed.weight");
        let mut places = params.get("pos.weight").map(Matrix::of);
        if let Some(places) = &mut places {
            places.data.iter_mut().for_each(|x| *x *= spec.pos_factor());
        }
        Self {
            unembed: if spec.tie_unembed { embed.transposed() } else { matrix("unembed.weight") },
            embed,
            places,
            queries: [0, 1].map(|block| Some(of_qk(block, 0))),
            keys: [0, 1].map(|block| of_qk(block, 1)),
            outputs: [0, 1].map(output),
            feed: Feed::of_transformer(spec, params),
            lengths: Lengths::default(),
        }
    }

    /// `[token, token]`: `w_U(j)ᵀ W_O2 W_V2 w_E(i)` in row `i`.
    #[must_use]
    pub fn w_o2(&self) -> Matrix {
        answered(self.embed.times(&self.outputs[1]), self.lengths.output).times(&self.unembed)
    }

    /// `[query, key]` over tokens.
    #[must_use]
    pub fn w_k2(&self) -> Matrix {
        let keys = self.embed.times(&self.outputs[0]).times(&self.keys[1]);
        let keys = answered(keys, self.lengths.keys[1]);
        self.asked(1, &self.embed).times(&keys.transposed())
    }

    /// `[query, key]` over all places, if there is a table of them.
    #[must_use]
    pub fn w_k1(&self) -> Option<Matrix> {
        let places = self.places.as_ref()?;
        let keys = answered(places.times(&self.keys[0]), self.lengths.keys[0]);
        Some(self.asked(0, places).times(&keys.transposed()))
    }

    /// `[token, token]`: the logits that the feed-forward alone gives after each token.
    #[must_use]
    pub fn w_f(&self) -> Option<Matrix> {
        let out = match &self.feed {
            Feed::None => return None,
            Feed::Linear { weight, bias } => self.embed.times(weight).plus_each(bias),
            Feed::Mlp { up, up_bias, down, down_bias, act } => {
                let mut hidden = self.embed.times(up).plus_each(up_bias);
                hidden.data.iter_mut().for_each(|x| *x = act(*x));
                hidden.times(down).plus_each(down_bias)
            }
        };
        Some(answered(out, self.lengths.feed).times(&self.unembed))
    }

    fn asked(&self, layer: usize, rows: &Matrix) -> Matrix {
        match &self.queries[layer] {
            Some(weight) => rows.times(weight),
            None => rows.clone(),
        }
    }
}

/// The scores that the recalls are taken of, as the paper's figure 7 shows them: vectors of every pair.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Which matrix: `w_o2`, `w_k2` or `w_k1`.
    pub name: &'static str,
    /// What a row is.
    pub rows: &'static str,
    /// What a column is.
    pub cols: &'static str,
    /// The scores, so arranged that what belongs together stands on the diagonal.
    pub scores: Matrix,
}

/// The pictures of a model's matrices; of the first keys the places from 1 on, without the last as a key.
#[must_use]
pub fn pictures(matrices: &Matrices) -> Vec<Picture> {
    let mut pictures = vec![
        Picture {
            name: "w_o2",
            rows: "input token",
            cols: "output token",
            scores: matrices.w_o2(),
        },
        Picture { name: "w_k2", rows: "query token", cols: "key token", scores: matrices.w_k2() },
    ];
    if let Some(scores) = matrices.w_k1() {
        let n = scores.n_rows;
        let scores = scores.rows(1..n).columns(0, n.saturating_sub(1));
        pictures.push(Picture { name: "w_k1", rows: "place", cols: "place before", scores });
    }
    pictures
}

/// All recalls of a model.
#[must_use]
pub fn recall(matrices: &Matrices, language: &Bigram) -> Memory {
    let fixed: Option<Vec<Token>> =
        (language.triggers == Triggers::Fixed).then(|| language.fixed_triggers());
    let w_k2 = matrices.w_k2();
    let w_k2 = match &fixed {
        Some(triggers) => {
            let among = || triggers.iter().map(|&token| usize::from(token));
            w_k2.rows(among()).transposed().rows(among()).transposed()
        }
        None => w_k2,
    };
    let w_k1 = matrices.w_k1();
    let previous = |n_places: usize, by_key: bool| {
        let scores = w_k1.as_ref()?;
        let n = n_places.min(scores.n_rows);
        // Query t in row t - 1, key s in column s: what belongs together stands on the diagonal.
        let pairs = scores.rows(1..n).columns(0, n.saturating_sub(1));
        Some(diagonal(&if by_key { pairs.transposed() } else { pairs }))
    };
    let ranked = language.corpus.ranked();
    let (frequent, rare) = ranked.split_at(ranked.len() / 2);
    let answered: Vec<usize> = w_k2.largest().collect();
    let among = |tokens: &[Token]| {
        let mut share = Share::default();
        let right = |token: usize| answered[token] == token;
        tokens.iter().for_each(|&token| share.add(right(usize::from(token))));
        share
    };
    let trigger = |token: usize| {
        fixed
            .as_ref()
            .is_some_and(|triggers| triggers.iter().any(|&known| usize::from(known) == token))
    };
    Memory {
        w_o2: diagonal(&matrices.w_o2()),
        w_k2: diagonal(&w_k2),
        w_k2_by_key: diagonal(&w_k2.transposed()),
        w_k2_frequent: fixed.is_none().then(|| among(frequent)),
        w_k2_rare: fixed.is_none().then(|| among(rare)),
        w_k1: previous(usize::MAX, false),
        w_k1_by_key: previous(usize::MAX, true),
        w_k1_first_64: previous(EARLY, false),
        w_k1_first_64_by_key: previous(EARLY, true),
        kl_nats: matrices.w_f().map(|logits| {
            let tokens: Vec<usize> = (0..logits.n_rows).filter(|&token| !trigger(token)).collect();
            let sum: f64 =
                tokens.iter().map(|&token| kl_nats(language, token, logits.row(token))).sum();
            sum / tokens.len() as f64
        }),
    }
}

/// Rows that are largest on the diagonal.
fn diagonal(scores: &Matrix) -> Share {
    let mut share = Share::default();
    scores.largest().enumerate().for_each(|(row, largest)| share.add(largest == row));
    share
}

/// `KL(π_b(.|token) ‖ softmax(logits))`
fn kl_nats(language: &Bigram, token: usize, logits: &[f64]) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_total = logits.iter().map(|&logit| (logit - largest).exp()).sum::<f64>().ln() + largest;
    let token = Token::try_from(token).expect("a row of the vocabulary is a token");
    let after = language.corpus.successors(token).iter().map(|&(next, _)| next);
    after
        .map(|next| {
            let p = language.corpus.p_bigram(token, next);
            p * (p.ln() - (logits[usize::from(next)] - log_total))
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use mnemoscope_engine::device::{Cpu, cpu};
    use mnemoscope_model::{AssociativeSpec, Model};
    use mnemoscope_stats::stream::Stream;

    use super::*;

    fn spec(d_model: usize) -> AssociativeSpec {
        AssociativeSpec { d_model, n_ctx: 96, ..AssociativeSpec::birth() }
    }

    /// A model at its beginning, with one matrix replaced by `sum_i v_i u_iᵀ`, vectors as rows `[d, d]`.
    fn with(
        spec: &AssociativeSpec,
        name: &str,
        pairs: impl Fn(&Matrices) -> (Matrix, Matrix),
    ) -> Memory {
        let spec = ModelSpec::Associative(spec.clone());
        let mut params =
            Model::<Cpu>::init(&spec, &Stream::root(2).derive("model"), &cpu()).params();
        let (from, to) = pairs(&Matrices::of(&spec, &params));
        let stored = from.transposed().times(&to);
        let data = stored.data.iter().map(|&x| x as f32).collect();
        params.insert(name, Array { shape: stored.dims().to_vec(), data });
        recall(&Matrices::of(&spec, &params), &Bigram::paper(5))
    }

    #[test]
    fn an_untrained_model_remembers_next_to_nothing() {
        let spec = ModelSpec::Associative(spec(64));
        let params = Model::<Cpu>::init(&spec, &Stream::root(2).derive("model"), &cpu()).params();
        let memory = recall(&Matrices::of(&spec, &params), &Bigram::paper(5));
        assert!(memory.w_o2.n_right < 8 && memory.w_k2.n_right < 8, "{memory:?}");
        assert_eq!((memory.w_o2.n, memory.w_k2.n), (65, 65));
        assert_eq!((memory.w_k1.unwrap().n, memory.w_k1_first_64.unwrap().n), (95, 63));
        assert!((2.2..2.8).contains(&memory.kl_nats.unwrap()), "{memory:?}");
    }

    /// The hand-built matrices of equation 7 are recalled, each by its own probe.
    #[test]
    fn what_is_written_into_a_matrix_is_recalled() {
        let spec = spec(512);
        let keys = with(&spec, "blocks.0.attn.k.weight", |m| {
            // p_s goes to p_{s+1}.
            let places = m.places.as_ref().unwrap();
            (places.rows(0..95), places.rows(1..96))
        });
        assert_eq!(keys.w_k1.unwrap(), Share { n_right: 95, n: 95 });
        assert_eq!(keys.w_k1_by_key.unwrap(), Share { n_right: 95, n: 95 });
        assert_eq!(keys.w_k1_first_64.unwrap().n_right, 63);
        assert!(keys.w_o2.n_right < 10);
        let second = with(&spec, "blocks.1.attn.k.weight", |m| {
            (m.embed.times(&m.outputs[0]), m.embed.clone())
        });
        assert_eq!(second.w_k2, Share { n_right: 65, n: 65 });
        assert_eq!(second.w_k2_rare.unwrap(), Share { n_right: 33, n: 33 });
        // Without the twenty most frequent tokens.
        let ranked = Bigram::paper(5).corpus.ranked();
        let second = with(&spec, "blocks.1.attn.k.weight", |m| {
            let kept = || ranked[20..].iter().map(|&token| usize::from(token));
            (m.embed.rows(kept()).times(&m.outputs[0]), m.embed.rows(kept()))
        });
        assert_eq!(second.w_k2_rare.unwrap(), Share { n_right: 33, n: 33 });
        assert_eq!(second.w_k2_frequent.unwrap().n, 32);
        assert!((12..20).contains(&second.w_k2_frequent.unwrap().n_right), "{second:?}");
    }

    #[test]
    fn a_key_that_is_wanted_by_all_is_seen_in_one_reading_only() {
        let scores = Matrix {
            n_rows: 3,
            n_cols: 3,
            data: vec![1.0, 0.0, 0.0, 9.0, 8.0, 0.0, 9.0, 0.0, 8.0],
        };
        assert_eq!(diagonal(&scores), Share { n_right: 1, n: 3 });
        assert_eq!(diagonal(&scores.transposed()), Share { n_right: 2, n: 3 });
    }

    #[test]
    fn the_divergence_of_uniform_logits_is_the_known_one() {
        let language = Bigram::paper(5);
        let mean = (0..65).map(|token| kl_nats(&language, token, &[0.3; 65])).sum::<f64>() / 65.0;
        assert!((mean - 2.2655).abs() < 1e-4, "{mean}");
        let own: Vec<f64> =
            (0..65).map(|next| language.corpus.p_bigram(7, next).max(1e-300).ln()).collect();
        assert!(kl_nats(&language, 7, &own).abs() < 1e-9);
    }

    /// Queries that are the identity make a transformer's first layer the associative one's.
    #[test]
    fn a_transformer_is_read_with_its_queries_and_its_mlp() {
        let spec = TransformerSpec { n_ctx: 96, d_model: 256, ..TransformerSpec::birth_full() };
        let d = spec.d_model;
        let spec = ModelSpec::Transformer(spec);
        let model = Model::<Cpu>::init(&spec, &Stream::root(2).derive("model"), &cpu());
        let mut params = model.params();
        let before = recall(&Matrices::of(&spec, &params), &Bigram::paper(5));
        assert!(before.w_k1.unwrap().n_right < 5 && before.w_o2.n_right < 8, "{before:?}");
        let places = Matrices::of(&spec, &params).places.unwrap();
        let keys = places.rows(0..95).transposed().times(&places.rows(1..96));
        let mut qkv = params.remove("blocks.0.attn.qkv.weight").unwrap();
        for row in 0..d {
            for col in 0..d {
                qkv.data[row * 3 * d + col] = f32::from(u8::from(row == col));
                qkv.data[row * 3 * d + d + col] = keys.row(row)[col] as f32;
            }
        }
        params.insert("blocks.0.attn.qkv.weight", qkv);
        let after = recall(&Matrices::of(&spec, &params), &Bigram::paper(5));
        assert!(after.w_k1.unwrap().n_right >= 94, "{after:?}");
        assert!((2.0..3.5).contains(&after.kl_nats.unwrap()), "{after:?}");
    }

    /// Factors are read as their product, and values of their own as a third of the one param.
    #[test]
    fn the_same_matrices_are_read_however_they_are_stored() {
        let plain = ModelSpec::Associative(spec(64));
        let all = Stored::ALL.map(|(_, memory)| memory).to_vec();
        let factored = AssociativeSpec { factored: all, d_inner: 48, ..spec(64) };
        let scale = factored.factor_scale();
        let factored = ModelSpec::Associative(factored);
        let stream = Stream::root(2).derive("model");
        let params = Model::<Cpu>::init(&factored, &stream, &cpu()).params();
        let mut multiplied = Model::<Cpu>::init(&plain, &stream, &cpu()).params();
        let half = |name: &str| Matrix::of(params.get(name).unwrap());
        for part in ["blocks.0.attn.k", "blocks.1.attn.k", "blocks.1.attn.out", "blocks.1.mlp"] {
            let [right, left] = ["right", "left"].map(|it| half(&format!("{part}.{it}.weight")));
            let data = right.times(&left).data.iter().map(|x| (x * scale) as f32).collect();
            multiplied.insert(format!("{part}.weight"), Array { shape: vec![64, 64], data });
        }
        let [one, two] = [(&factored, &params), (&plain, &multiplied)]
            .map(|(spec, params)| Matrices::of(spec, params));
        let apart = |a: &Matrix, b: &Matrix| {
            a.data.iter().zip(&b.data).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
        };
        assert!(apart(&one.w_o2(), &two.w_o2()) < 1e-4);
        assert!(apart(&one.w_k2(), &two.w_k2()) < 1e-4);
        assert!(apart(&one.w_k1().unwrap(), &two.w_k1().unwrap()) < 1e-4);
        assert!(apart(&one.w_f().unwrap(), &two.w_f().unwrap()) < 1e-4);
    }

    /// What is normalised has one length, so no answer is larger than that of the unembedding times it.
    #[test]
    fn normalised_memories_answer_with_one_length() {
        let spec = AssociativeSpec {
            normalised: vec![Stored::K1, Stored::Mlp],
            norm_length: mnemoscope_model::NormLength::SqrtDModel,
            ..spec(64)
        };
        let model = ModelSpec::Associative(spec);
        let mut params =
            Model::<Cpu>::init(&model, &Stream::root(2).derive("model"), &cpu()).params();
        let before = Matrices::of(&model, &params);
        for name in ["blocks.0.attn.k.weight", "blocks.1.mlp.weight", "blocks.1.attn.k.weight"] {
            let mut array = params.remove(name).unwrap();
            array.data.iter_mut().for_each(|x| *x *= 7.0);
            params.insert(name, array);
        }
        let after = Matrices::of(&model, &params);
        let same = |a: &Matrix, b: &Matrix, factor: f64| {
            let near = |(a, b): (&f64, &f64)| (a * factor - b).abs() < 1e-4 * (1.0 + b.abs());
            assert!(a.data.iter().zip(&b.data).all(near));
        };
        same(&before.w_k1().unwrap(), &after.w_k1().unwrap(), 1.0);
        same(&before.w_f().unwrap(), &after.w_f().unwrap(), 1.0);
        same(&before.w_k2(), &after.w_k2(), 7.0);
    }

    #[test]
    fn a_transformer_without_a_map_moves_what_it_reads() {
        let base = TransformerSpec { n_ctx: 96, d_model: 32, ..TransformerSpec::birth_full() };
        let bare = TransformerSpec { identity_v: vec![1], identity_out: vec![1], ..base.clone() };
        let own = TransformerSpec { own_v: true, ..base };
        let stream = Stream::root(2).derive("model");
        let of = |spec: TransformerSpec| {
            let spec = ModelSpec::Transformer(spec);
            let params = Model::<Cpu>::init(&spec, &stream, &cpu()).params();
            (Matrices::of(&spec, &params), params)
        };
        let (bare, _) = of(bare);
        assert_eq!(bare.w_o2(), bare.embed.times(&bare.unembed));
        let (own, params) = of(own);
        let part =
            |part: &str| Matrix::of(params.get(&format!("blocks.1.attn.{part}.weight")).unwrap());
        let expected = own.embed.times(&part("v").times(&part("out"))).times(&own.unembed);
        assert_eq!(own.w_o2(), expected);
    }

    #[test]
    fn fixed_triggers_are_asked_among_themselves() {
        let spec = ModelSpec::Associative(spec(64));
        let params = Model::<Cpu>::init(&spec, &Stream::root(2).derive("model"), &cpu()).params();
        let language = Bigram { triggers: Triggers::Fixed, ..Bigram::paper(1) };
        let memory = recall(&Matrices::of(&spec, &params), &language);
        assert_eq!(memory.w_k2, Share { n_right: 1, n: 1 });
        assert_eq!((memory.w_k2_frequent, memory.w_k2_rare), (None, None));
    }
}
