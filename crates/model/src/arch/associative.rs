//! The simplified two-layer model of "Birth of a Transformer".
//!
//! ```text
//! x  = embed[token] + pos[pos]
//! x += (pattern of x, x k1) x v1 out1            x += first_mlp(x)
//! x += (pattern of x, x k2) x v2 out2            x += mlp(x)
//! logits = x unembed
//! ```
//!
//! # Algebra
//!
//! Exact, so that it changes roundings only:
//!
//! - what the first layer reads is a token's vector plus a place's, so its values are two small tables
//!   looked up at once, and its scores are sums of four out of one table of tokens and places;
//! - a value matrix and the output matrix behind it are one matrix;
//! - the keys of a layer are the only projection of its queries and keys, so that in the second layer it is
//!   the queries that are multiplied by it, transposed: no more rows than are asked for;
//! - a linear feed-forward and the unembedding are one matrix, and if the vocabulary is smaller than
//!   the stream is wide, the second layer mixes logits, not vectors: the output matrix and the unembedding
//!   are multiplied into its values.
//!
//! A factored memory is multiplied out first and then is a matrix like any other. A normalised one is no linear
//! map, so what it answers is formed and scaled: its keys, what its attention adds, or its feed-forward.
//!
//! A hook that replaces something inside has the values it stands between computed one by one.

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use mnemoscope_engine::{Activation, Attend, Ops, QueryRows, Rotary};

use crate::hook::{Hooks, Site};
use crate::layer::{
    BASE, Linear, Table, from_rows, mix_at, pattern_if_watched, scores_at, scores_everywhere,
    select_rows, sinusoids, to_rows,
};
use crate::params::Source;
use crate::spec::{AssociativeSpec, Memory, Places, ScoreScale};

/// Two layers of attention without norms; [`AssociativeSpec`] says what fixes it.
#[derive(Module, Debug)]
pub struct Associative<B: Backend> {
    embed: Table<B>,
    pos: Option<Table<B>>,
    blocks: Vec<Block<B>>,
    unembed: Linear<B>,
    /// Sines and cosines, `[n_ctx, d_model]`: no parameter.
    sinusoids: Option<Tensor<B, 2>>,
    #[module(skip)]
    rotary: Option<Rotary>,
    #[module(skip)]
    spec: AssociativeSpec,
}

#[derive(Module, Debug)]
struct Block<B: Backend> {
    attn: Attention<B>,
    mlp: Mlp<B>,
}

/// `k`, `v`, `out`: `[d_model, d_model]`; a query is the residual stream itself.
#[derive(Module, Debug)]
struct Attention<B: Backend> {
    k: Stored<B>,
    v: Linear<B>,
    out: Stored<B>,
}

/// A matrix as it is, or as two factors.
#[derive(Module, Debug)]
struct Stored<B: Backend> {
    weight: Option<Param<Tensor<B, 2>>>,
    right: Option<Linear<B>>,
    left: Option<Linear<B>>,
    #[module(skip)]
    scale: f64,
}

/// A feed-forward: one matrix, or two with a rectifier between them, or nothing.
#[derive(Module, Debug)]
struct Mlp<B: Backend> {
    weight: Option<Param<Tensor<B, 2>>>,
    right: Option<Linear<B>>,
    left: Option<Linear<B>>,
    #[module(skip)]
    scale: f64,
    up: Option<Linear<B>>,
    down: Option<Linear<B>>,
}

/// What the first layer reads: rows of tables, or vectors that a hook has touched.
enum Stream<B: Backend> {
    /// Token ids and the vectors that are looked up for them: `[d_vocab, d]`, `[n_ctx, d]`.
    LookedUp { tokens: Tensor<B, 2, Int>, embed: Tensor<B, 2>, places: Option<Tensor<B, 2>> },
    /// `[batch, pos, d_model]`
    Vectors(Tensor<B, 3>),
}

impl<B: Backend> Associative<B> {
    pub(crate) fn from_source(source: &mut Source<'_, B>, spec: &AssociativeSpec) -> Self {
        let sinusoids = (spec.places == Places::Sinusoidal)
            .then(|| Tensor::from_data(sinusoids(spec.n_ctx, spec.d_model), source.device()));
        let rotary = (spec.places == Places::Rotary)
            .then(|| Rotary::new(spec.d_model, spec.d_model, BASE, spec.n_ctx));
        Self {
            embed: Table::from_source(source, "embed"),
            pos: source.has("pos.weight").then(|| Table::from_source(source, "pos")),
            blocks: (0..2).map(|block| Block::from_source(source, block, spec)).collect(),
            unembed: Linear::from_source(source, "unembed"),
            sinusoids,
            rotary,
            spec: spec.clone(),
        }
    }

    pub(crate) fn spec(&self) -> &AssociativeSpec {
        &self.spec
    }

    fn normalised(&self, memory: Memory) -> bool {
        self.spec.normalised.contains(&memory)
    }

    /// What is added to the embedding at each place: `[n_ctx, d_model]`
    fn places(&self) -> Option<Tensor<B, 2>> {
        self.pos.as_ref().map(|pos| pos.weight.val()).or_else(|| self.sinusoids.clone())
    }

    /// One head, whose products are multiplied by [`Self::score_factor`].
    fn attend(&self) -> Attend {
        let temperature = match self.spec.score_scale {
            ScoreScale::RsqrtDModel => 1.0,
            ScoreScale::Unit => (self.spec.d_model as f64).sqrt().recip(),
        };
        Attend { temperature, ..Attend::plain(1) }
    }

    fn score_factor(&self) -> f64 {
        match self.spec.score_scale {
            ScoreScale::RsqrtDModel => (self.spec.d_model as f64).sqrt().recip(),
            ScoreScale::Unit => 1.0,
        }
    }
}

impl<B: Ops> Associative<B> {
    /// What a memory answers, scaled if it is a normalised one: `[rows, d_model]`, and the same.
    fn answered(&self, memory: Memory, rows: Tensor<B, 2>) -> Tensor<B, 2> {
        /// Below any mean square that is one: an answer of zeros stays what it is.
        const TINY: f64 = 1e-24;
        if !self.normalised(memory) {
            return rows;
        }
        let d_model = self.spec.d_model;
        let gain = self.spec.length() / (d_model as f64).sqrt();
        let gain = Tensor::full([d_model], gain, &rows.device());
        <B as Ops>::rms_norm(rows, gain, TINY)
    }

    /// The keys of a block: `[batch, pos, d_model]` times `attn.k`, and scaled.
    fn keys(&self, block: usize, products: Tensor<B, 3>) -> Tensor<B, 3> {
        let memory = [Memory::K1, Memory::K2][block];
        let n_pos = products.dims()[1];
        if !self.normalised(memory) {
            return products;
        }
        from_rows(self.answered(memory, to_rows(products)), n_pos)
    }

    pub(crate) fn logits(
        &self,
        tokens: Tensor<B, 2, Int>,
        queries: &QueryRows,
        hooks: &mut dyn Hooks<B>,
    ) -> Tensor<B, 2> {
        let [_, n_pos] = tokens.dims();
        assert!(
            n_pos <= self.spec.n_ctx,
            "the sequence has {n_pos} places, the model knows n_ctx = {}",
            self.spec.n_ctx
        );
        let mut site = Site::root(hooks);
        let read = self.embed_tokens(tokens, &mut site);
        let resid = self.first(&read, &mut site.within("blocks.0."));
        let logits = self.second(resid, queries, &mut site.within("blocks.1."));
        site.read("unembed.hook_out", || logits.clone());
        logits
    }

    fn embed_tokens(&self, tokens: Tensor<B, 2, Int>, site: &mut Site<'_, B>) -> Stream<B> {
        let n_pos = tokens.dims()[1];
        let places = self.places().map(|places| places.narrow(0, 0, n_pos));
        if let Some(places) = &places {
            site.read("pos_embed.hook_out", || places.clone());
        }
        let embed = self.embed.weight.val();
        let vectors = || <B as Ops>::embed(embed.clone(), tokens.clone());
        if site.replaces("embed.hook_out") {
            let vectors = site.pass("embed.hook_out", vectors());
            let placed = match places {
                Some(places) => vectors + places.unsqueeze::<3>(),
                None => vectors,
            };
            return Stream::Vectors(site.pass("blocks.0.hook_in", placed));
        }
        site.read("embed.hook_out", vectors);
        let stream = Stream::LookedUp { tokens: tokens.clone(), embed, places };
        if site.replaces("blocks.0.hook_in") {
            return Stream::Vectors(site.pass("blocks.0.hook_in", stream.vectors()));
        }
        site.read("blocks.0.hook_in", || stream.vectors());
        stream
    }

    /// The first layer: `[batch, pos, d_model]`
    fn first(&self, read: &Stream<B>, site: &mut Site<'_, B>) -> Tensor<B, 3> {
        let Block { attn, mlp } = &self.blocks[0];
        let resid = read.vectors();
        let [n_examples, n_pos, _] = resid.dims();
        let turned = |x: Tensor<B, 3>| match &self.rotary {
            Some(rotary) => {
                let rows = QueryRows::all(n_examples, n_pos);
                from_rows(<B as Ops>::rotary(to_rows(x), 1, &rows, rotary), n_pos)
            }
            None => x,
        };
        let keys = || turned(self.keys(0, read.through(attn.k.matrix())));
        // Scores are sums over token and place as long as keys are linear in them.
        let by_table = self.rotary.is_none() && !self.normalised(Memory::K1);
        let values = read.through(attn.value_out());
        site.read("attn.k.hook_out", || heads(keys()));
        let scores = || {
            scores_everywhere(
                heads(turned(resid.clone())),
                heads(keys()),
                None,
                self.score_factor(),
            )
        };
        let mixed = match pattern_if_watched(&mut site.within("attn."), scores) {
            // [batch, 1, query, key] x [batch, 1, key, d_model]
            Some(pattern) => {
                B::matrices(pattern, values.unsqueeze_dim::<4>(1)).reshape(resid.dims())
            }
            None => match by_table.then(|| read.score_table(&attn.k.matrix())).flatten() {
                Some((tokens, table)) => {
                    let attend =
                        Attend { temperature: self.score_factor().recip(), ..Attend::plain(1) };
                    let d_vocab = self.spec.d_vocab;
                    <B as Ops>::causal_attention_looked_up(tokens, table, d_vocab, values, &attend)
                }
                None => {
                    let queries = turned(resid.clone());
                    <B as Ops>::causal_attention_of(queries, keys(), values, &self.attend())
                }
            },
        };
        let mixed = site.pass("attn.hook_out", mixed);
        let resid = site.pass("hook_resid_mid", B::add(resid, mixed));
        mlp.look(&to_rows(resid.clone()), site, |rows| from_rows(rows, n_pos));
        let out = match mlp.apply(to_rows(resid.clone())) {
            Some(out) => B::add(resid, site.pass("mlp.hook_out", from_rows(out, n_pos))),
            None => resid,
        };
        site.pass("hook_out", out)
    }

    /// The second layer and the unembedding: `[batch, pos, d_model]` -> `[n_queries, d_vocab]`
    fn second(
        &self,
        resid: Tensor<B, 3>,
        queries: &QueryRows,
        site: &mut Site<'_, B>,
    ) -> Tensor<B, 2> {
        /// What the shortest way to the logits does not form.
        const INSIDE: [&str; 6] = [
            "attn.hook_out",
            "hook_resid_mid",
            "mlp.hook_pre",
            "mlp.hook_post",
            "mlp.hook_out",
            "hook_out",
        ];
        let resid = site.pass("hook_in", resid);
        let Block { attn, .. } = &self.blocks[1];
        let n_pos = resid.dims()[1];
        let k = attn.k.matrix();
        let formed = || {
            let products = <B as Ops>::linear(to_rows(resid.clone()), k.clone(), None);
            self.keys(1, from_rows(products, n_pos))
        };
        site.read("attn.k.hook_out", || heads(formed()));
        let asked = select_rows(resid.clone(), queries);
        let everywhere = asked.dims()[0] == resid.dims()[0] * n_pos;
        let (query, keys) = if self.normalised(Memory::K2) {
            (asked.clone(), formed())
        } else {
            (<B as Ops>::linear(asked.clone(), k.clone().transpose(), None), resid.clone())
        };
        let scores = || {
            let query = query.clone().unsqueeze_dim(1);
            scores_at(query, heads(keys.clone()), None, queries, self.score_factor())
        };
        let pattern = pattern_if_watched(&mut site.within("attn."), scores);
        let mix = |weight: Tensor<B, 2>| {
            let values = from_rows(<B as Ops>::linear(to_rows(resid.clone()), weight, None), n_pos);
            if let Some(pattern) = &pattern {
                return mix_at(pattern.clone(), heads(values), queries);
            }
            let (asked, keys, attend) = (query.clone(), keys.clone(), self.attend());
            if everywhere {
                let asked = from_rows(asked, n_pos);
                return to_rows(<B as Ops>::causal_attention_of(asked, keys, values, &attend));
            }
            <B as Ops>::causal_attention_of_at(asked, keys, values, queries, &attend)
        };
        let replaced = INSIDE.iter().any(|point| site.replaces(point));
        if replaced || INSIDE.iter().any(|point| site.wants(point)) {
            let mixed = self.answered(Memory::Out2, mix(attn.value_out()));
            let out = self.leave(asked.clone(), mixed, site);
            if replaced {
                return self.unembed.apply(out);
            }
        }
        self.answer(asked.clone(), mix)
    }

    /// Logits of the asked rows, by the shortest way: `[n_queries, d_vocab]`
    ///
    /// # Arguments
    ///
    /// - `mix`: what the second layer attends to, through a matrix: `[d_model, d]` -> `[n_queries, d]`
    fn answer(
        &self,
        asked: Tensor<B, 2>,
        mix: impl Fn(Tensor<B, 2>) -> Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        let Block { attn, mlp } = &self.blocks[1];
        let unembed = self.unembed.weight.val();
        let product = |x, weight| <B as Ops>::linear(x, weight, None);
        let mid = |asked| B::add(asked, self.answered(Memory::Out2, mix(attn.value_out())));
        if mlp.up.is_some() || self.normalised(Memory::Mlp) {
            let mid = mid(asked);
            let out = self.fed(mid.clone()).expect("there is a feed-forward");
            return product(B::add(mid, out), unembed);
        }
        let output = match mlp.linear() {
            Some(weight) => unembed.clone() + product(weight, unembed),
            None => unembed,
        };
        if self.normalised(Memory::Out2) || self.spec.d_vocab >= self.spec.d_model {
            return product(mid(asked), output);
        }
        let mixed = mix(product(attn.value_out(), output.clone()));
        B::add(product(asked, output), mixed)
    }

    /// What the second feed-forward adds: `[rows, d_model]`, and the same.
    fn fed(&self, rows: Tensor<B, 2>) -> Option<Tensor<B, 2>> {
        let out = self.blocks[1].mlp.apply(rows)?;
        Some(self.answered(Memory::Mlp, out))
    }

    /// What follows the second attention, one by one for the hooks: `[n_queries, d_model]`
    fn leave(
        &self,
        asked: Tensor<B, 2>,
        mixed: Tensor<B, 2>,
        site: &mut Site<'_, B>,
    ) -> Tensor<B, 2> {
        let mixed = site.pass("attn.hook_out", mixed);
        let mid = site.pass("hook_resid_mid", B::add(asked, mixed));
        let mlp = &self.blocks[1].mlp;
        mlp.look(&mid, site, |rows| rows);
        let out = match self.fed(mid.clone()) {
            Some(out) => B::add(mid, site.pass("mlp.hook_out", out)),
            None => mid,
        };
        site.pass("hook_out", out)
    }
}

impl<B: Ops> Stream<B> {
    /// `[batch, pos, d_model]`
    fn vectors(&self) -> Tensor<B, 3> {
        match self {
            Self::LookedUp { tokens, embed, places: Some(places) } => {
                <B as Ops>::embed_at(embed.clone(), places.clone(), 1.0, tokens.clone())
            }
            Self::LookedUp { tokens, embed, places: None } => {
                <B as Ops>::embed(embed.clone(), tokens.clone())
            }
            Self::Vectors(x) => x.clone(),
        }
    }

    /// Unscaled scores of all tokens and places with each other, through keys, and the token ids:
    /// `[d_vocab + pos, d_vocab + pos]`. None where there are vectors, or no places, or too many tokens.
    fn score_table(&self, keys: &Tensor<B, 2>) -> Option<(Tensor<B, 2, Int>, Tensor<B, 2>)> {
        /// A table of more tokens and places than this would outgrow the cache, and then memory.
        const MOST: usize = 1024;
        let Self::LookedUp { tokens, embed, places: Some(places) } = self else { return None };
        if embed.dims()[0] + places.dims()[0] > MOST {
            return None;
        }
        let both = Tensor::cat(vec![embed.clone(), places.clone()], 0);
        let keys = <B as Ops>::linear(both.clone(), keys.clone(), None);
        Some((tokens.clone(), <B as Ops>::linear(both, keys.transpose(), None)))
    }

    /// All vectors times `weight: [d_model, d]`: `[batch, pos, d]`
    fn through(&self, weight: Tensor<B, 2>) -> Tensor<B, 3> {
        match self {
            Self::LookedUp { tokens, embed, places } => {
                let table = |rows| <B as Ops>::linear(rows, weight.clone(), None);
                let (tokens, embed) = (tokens.clone(), table(embed.clone()));
                Self::LookedUp { tokens, embed, places: places.clone().map(table) }.vectors()
            }
            Self::Vectors(x) => {
                let n_pos = x.dims()[1];
                from_rows(<B as Ops>::linear(to_rows(x.clone()), weight, None), n_pos)
            }
        }
    }
}

impl<B: Backend> Block<B> {
    fn from_source(source: &mut Source<'_, B>, block: usize, spec: &AssociativeSpec) -> Self {
        let name = |part: &str| format!("blocks.{block}.{part}");
        Self {
            attn: Attention {
                k: Stored::from_source(source, &name("attn.k"), spec),
                v: Linear::from_source(source, &name("attn.v")),
                out: Stored::from_source(source, &name("attn.out"), spec),
            },
            mlp: Mlp::from_source(source, &name("mlp"), spec),
        }
    }
}

impl<B: Backend> Stored<B> {
    fn from_source(source: &mut Source<'_, B>, name: &str, spec: &AssociativeSpec) -> Self {
        let has_factors = source.has(&format!("{name}.right.weight"));
        let mut half = |half: &str| {
            has_factors.then(|| Linear::from_source(source, &format!("{name}.{half}")))
        };
        let (right, left) = (half("right"), half("left"));
        let weight = source.optional(&format!("{name}.weight"));
        Self { weight, right, left, scale: spec.factor_scale() }
    }
}

impl<B: Ops> Stored<B> {
    /// `[d_model, d_model]`
    fn matrix(&self) -> Tensor<B, 2> {
        stored(self.weight.as_ref(), self.right.as_ref().zip(self.left.as_ref()), self.scale)
            .expect("the layout lists a matrix or its factors")
    }
}

/// A matrix as it is stored, or the product of its factors: `[d_model, d_model]`
fn stored<B: Ops>(
    weight: Option<&Param<Tensor<B, 2>>>,
    factors: Option<(&Linear<B>, &Linear<B>)>,
    scale: f64,
) -> Option<Tensor<B, 2>> {
    if let Some(weight) = weight {
        return Some(weight.val());
    }
    let (right, left) = factors?;
    let product = <B as Ops>::linear(right.weight.val(), left.weight.val(), None);
    Some(product.mul_scalar(scale))
}

impl<B: Ops> Attention<B> {
    /// Values and outputs as one matrix: `[d_model, d_model]`
    fn value_out(&self) -> Tensor<B, 2> {
        <B as Ops>::linear(self.v.weight.val(), self.out.matrix(), None)
    }
}

impl<B: Backend> Mlp<B> {
    fn from_source(source: &mut Source<'_, B>, name: &str, spec: &AssociativeSpec) -> Self {
        let has_up = source.has(&format!("{name}.up.weight"));
        let Stored { weight, right, left, scale } = Stored::from_source(source, name, spec);
        let mut half =
            |half: &str| has_up.then(|| Linear::from_source(source, &format!("{name}.{half}")));
        let (up, down) = (half("up"), half("down"));
        Self { weight, right, left, scale, up, down }
    }
}

impl<B: Ops> Mlp<B> {
    /// The one matrix of a feed-forward that is linear: `[d_model, d_model]`
    fn linear(&self) -> Option<Tensor<B, 2>> {
        stored(self.weight.as_ref(), self.right.as_ref().zip(self.left.as_ref()), self.scale)
    }

    /// `[rows, d_model]` -> `[rows, d_model]`, or nothing if there is no feed-forward.
    fn apply(&self, rows: Tensor<B, 2>) -> Option<Tensor<B, 2>> {
        if let Some(weight) = self.linear() {
            return Some(<B as Ops>::linear(rows, weight, None));
        }
        let (up, down) = (self.up.as_ref()?, self.down.as_ref()?);
        Some(down.apply(up.apply_act(rows, Activation::Relu)))
    }

    /// Lets the hooks see what stands inside of an MLP; `view` gives rows the shape they see.
    fn look<const D: usize>(
        &self,
        rows: &Tensor<B, 2>,
        site: &mut Site<'_, B>,
        view: impl Fn(Tensor<B, 2>) -> Tensor<B, D>,
    ) {
        let Some(up) = &self.up else { return };
        site.read("mlp.hook_pre", || view(up.apply(rows.clone())));
        site.read("mlp.hook_post", || view(up.apply_act(rows.clone(), Activation::Relu)));
    }
}

/// One head: `[batch, pos, d]` -> `[batch, pos, 1, d]`
fn heads<B: Backend>(x: Tensor<B, 3>) -> Tensor<B, 4> {
    x.unsqueeze_dim(2)
}
