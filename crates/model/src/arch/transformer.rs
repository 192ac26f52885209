//! A GPT-style decoder.
//!
//! ```text
//! resid = embed[token] + pos_scale * pos[pos]
//! each block:  resid += attn(ln_1(resid))
//!              resid += mlp(ln_2(resid))
//! logits = unembed(ln_f(resid))
//! ```
//!
//! That is a block with `norm = "pre"`, the usual one. The others, `x` being the block's input:
//!
//! ```text
//! parallel_mlp     x + attn(ln_1(x)) + mlp(ln_2(x))       the MLP cannot see what was attended to
//! norm = "post"    h = ln_1(x + attn(x)), then ln_2(h + mlp(h)); no ln_f
//! norm = "none"    the same without ln_1, ln_2 and ln_f
//! ```
//!
//! In the last block only keys and values are needed everywhere. Its queries, its MLP, the final
//! norm and the unembedding are computed for the asked places alone: with reads at one place in
//! twenty, a block and its logits cost a sixth.

use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use mnemoscope_engine::{Attend, Ops, QueryRows};

use crate::hook::{Hooks, Site};
use crate::layer::{
    Attention, Distances, Heads, LayerNorm, Mlp, Table, Unembed, factor_if, from_rows, line,
    select_rows, sinusoids, to_rows,
};
use crate::params::Source;
use crate::regular::{Bluntness, DropoutRates, Regularisation};
use crate::spec::{Norm, Positions, TransformerSpec};

/// A decoder of blocks of attention and MLP; [`TransformerSpec`] says what fixes it.
#[derive(Module, Debug)]
pub struct Transformer<B: Backend> {
    embed: Table<B>,
    pos: Option<Table<B>>,
    /// Of sinusoids whose scale learns.
    pos_scale: Option<Param<Tensor<B, 1>>>,
    /// Of T5's relative positions.
    relative: Option<Table<B>>,
    blocks: Vec<Block<B>>,
    ln_f: Option<LayerNorm<B>>,
    unembed: Unembed<B>,
    #[module(skip)]
    spec: TransformerSpec,
}

#[derive(Module, Debug)]
struct Block<B: Backend> {
    ln_1: Option<LayerNorm<B>>,
    attn: Attention<B>,
    ln_2: Option<LayerNorm<B>>,
    mlp: Option<Mlp<B>>,
}

impl<B: Backend> Transformer<B> {
    pub(crate) fn from_source(source: &mut Source<'_, B>, spec: &TransformerSpec) -> Self {
        Self {
            embed: Table::from_source(source, "embed"),
            pos: Table::optional(source, "pos"),
            pos_scale: source.optional("pos_scale"),
            relative: Table::optional(source, "relative"),
            blocks: (0..spec.n_layers)
                .map(|layer| Block::from_source(source, &format!("blocks.{layer}")))
                .collect(),
            ln_f: LayerNorm::optional(source, "ln_f"),
            unembed: Unembed::from_source(source),
            spec: spec.clone(),
        }
    }

    pub(crate) fn spec(&self) -> &TransformerSpec {
        &self.spec
    }

    /// How many models of the spec are computed side by side.
    pub(crate) fn n_members(&self) -> usize {
        self.embed.weight.dims()[0] / self.spec.d_vocab
    }
}

/// What holds for all blocks of one pass.
struct Pass<'p, B: Backend> {
    spec: &'p TransformerSpec,
    n_members: usize,
    batch: usize,
    distances: Distances<B>,
    regularisation: Option<&'p Regularisation<'p>>,
}

/// One block of a pass.
struct Here<'p, B: Backend> {
    pass: &'p Pass<'p, B>,
    layer: usize,
    /// The places whose rows leave the block.
    rows: &'p QueryRows,
}

impl<B: Ops> Pass<'_, B> {
    /// Rows at the places `rows`, some of them set to 0 if training says so.
    fn drop(
        &self,
        name: &str,
        rate: impl Fn(&DropoutRates) -> f64,
        x: Tensor<B, 2>,
        rows: &QueryRows,
    ) -> Tensor<B, 2> {
        let dropout =
            self.regularisation.and_then(|it| it.dropout(rate(&it.dropout), name, self.batch));
        match dropout {
            Some(dropout) => <B as Ops>::dropout(x, rows, &dropout),
            None => x,
        }
    }
}

impl<B: Ops> Here<'_, B> {
    fn drop(
        &self,
        name: &str,
        rate: impl Fn(&DropoutRates) -> f64,
        x: Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        self.pass.drop(&format!("blocks.{}.{name}", self.layer), rate, x, self.rows)
    }

    /// Whether training drops anything at this rate.
    fn drops(&self, rate: impl Fn(&DropoutRates) -> f64) -> bool {
        self.pass.regularisation.is_some_and(|it| rate(&it.dropout) > 0.0)
    }

    /// What training measures of the block's patterns.
    fn measured(&self) -> Option<Bluntness> {
        self.pass.regularisation.and_then(|it| it.measured(self.layer))
    }

    fn heads(&self) -> Heads<'_, B> {
        let Pass { spec, batch, regularisation, .. } = *self.pass;
        let name = format!("blocks.{}.attn.pattern", self.layer);
        let attend = Attend {
            temperature: spec.temperature,
            dropout: regularisation.and_then(|it| it.dropout(it.dropout.attn, &name, batch)),
            stats: self.measured().is_some(),
            ..Attend::plain(spec.n_heads)
        };
        Heads { attend, distances: &self.pass.distances }
    }
}

impl<B: Ops> Transformer<B> {
    pub(crate) fn logits(
        &self,
        tokens: Tensor<B, 2, Int>,
        queries: &QueryRows,
        hooks: &mut dyn Hooks<B>,
    ) -> Tensor<B, 2> {
        self.pass(tokens, queries, hooks, None).0
    }

    /// Logits, and the penalty if one is asked for.
    pub(crate) fn pass(
        &self,
        tokens: Tensor<B, 2, Int>,
        queries: &QueryRows,
        hooks: &mut dyn Hooks<B>,
        regularisation: Option<&Regularisation<'_>>,
    ) -> (Tensor<B, 2>, Option<Tensor<B, 1>>) {
        let [batch, n_pos] = tokens.dims();
        let (spec, device) = (&self.spec, tokens.device());
        let distances = Distances::new(spec, self.relative.as_ref(), n_pos, &device);
        let n_members = self.n_members();
        let pass = Pass { spec, n_members, batch, distances, regularisation };
        let everywhere = QueryRows::all(batch, n_pos);
        let mut site = Site::root(hooks);
        let resid = to_rows(self.embed_tokens(tokens, &mut site));
        let mut resid =
            from_rows(pass.drop("embed", |rates| rates.embed, resid, &everywhere), n_pos);
        let mut penalties = Vec::new();
        let (last, before) = self.blocks.split_last().expect("a checked spec has a block");
        for (layer, block) in before.iter().enumerate() {
            let mut site = site.within(&format!("blocks.{layer}."));
            let here = Here { pass: &pass, layer, rows: &everywhere };
            let (out, penalty) = block.forward(resid, &here, &mut site);
            resid = out;
            penalties.extend(penalty);
        }
        let mut last_site = site.within(&format!("blocks.{}.", before.len()));
        let here = Here { pass: &pass, layer: before.len(), rows: queries };
        let (resid, penalty) = last.forward_at(resid, &here, &mut last_site);
        penalties.extend(penalty);
        let resid = normed(self.ln_f.as_ref(), resid, spec, false, |normed| {
            site.read("ln_final.hook_out", || normed.clone());
        });
        let logits = self.unembed.apply(resid, &self.embed, n_members);
        site.read("unembed.hook_out", || logits.clone());
        let n_layers = penalties.len() as f64;
        let penalty = penalties.into_iter().reduce(|sum, penalty| sum + penalty);
        (logits, penalty.map(|sum| sum.div_scalar(n_layers)))
    }

    /// `tokens: [batch, pos]` -> `[batch, pos, d_model]`
    fn embed_tokens(&self, tokens: Tensor<B, 2, Int>, site: &mut Site<'_, B>) -> Tensor<B, 3> {
        let ([batch, n_pos], n_members) = (tokens.dims(), self.n_members());
        let table = self.embed.weight.val();
        let embed = |table, tokens| Table::look_up(table, tokens, n_members);
        let Some(pos) = self.places(n_pos, &table.device()) else {
            return site.pass("embed.hook_out", embed(table, tokens));
        };
        let scale = self.spec.pos_factor();
        if n_members > 1 {
            let d = self.spec.d_model;
            let resid = embed(table, tokens).reshape([n_members, batch / n_members, n_pos, d]);
            let scaled = pos.mul_scalar(scale).unsqueeze_dim::<4>(1);
            return (resid + scaled).reshape([batch, n_pos, d]);
        }
        let scaled = || pos.clone().narrow(1, 0, n_pos).mul_scalar(scale);
        site.read("pos_embed.hook_out", || scaled().squeeze_dim::<2>(0));
        if site.replaces("embed.hook_out") {
            return site.pass("embed.hook_out", embed(table, tokens)) + scaled();
        }
        site.read("embed.hook_out", || embed(table.clone(), tokens.clone()));
        <B as Ops>::embed_at(table, pos.squeeze_dim::<2>(0), scale, tokens)
    }

    /// The vectors of places, if the model has any: `[members, places, d_model]`, or `[1, places, d_model]` where all
    /// members of a cohort have the same. Of a cohort there are `n_pos` places, of a model alone no fewer.
    fn places(&self, n_pos: usize, device: &B::Device) -> Option<Tensor<B, 3>> {
        let (spec, n_members) = (&self.spec, self.n_members());
        let (d, n_ctx) = (spec.d_model, spec.n_ctx);
        if let Some(pos) = &self.pos {
            assert!(
                n_pos <= n_ctx,
                "the sequence has {n_pos} places, the model knows n_ctx = {n_ctx}"
            );
            let pos = pos.weight.val().reshape([n_members, n_ctx, d]);
            return Some(if n_members == 1 { pos } else { pos.narrow(1, 0, n_pos) });
        }
        let pos = match spec.positions {
            Positions::None => return None,
            Positions::Linear => line(n_pos, d, n_ctx),
            _ => sinusoids(n_pos, d),
        };
        let pos = Tensor::<B, 2>::from_data(pos, device).unsqueeze::<3>();
        Some(match &self.pos_scale {
            Some(scale) => pos * scale.val().reshape([n_members, 1, 1]),
            None => pos,
        })
    }
}

impl<B: Backend> Block<B> {
    fn from_source(source: &mut Source<'_, B>, name: &str) -> Self {
        Self {
            ln_1: LayerNorm::optional(source, &format!("{name}.ln_1")),
            attn: Attention::from_source(source, &format!("{name}.attn")),
            ln_2: LayerNorm::optional(source, &format!("{name}.ln_2")),
            mlp: Mlp::optional(source, &format!("{name}.mlp")),
        }
    }
}

impl<B: Ops> Block<B> {
    /// `resid: [batch, pos, d_model]` -> `[batch, pos, d_model]`, and what is measured of the patterns
    fn forward(
        &self,
        resid: Tensor<B, 3>,
        here: &Here<'_, B>,
        site: &mut Site<'_, B>,
    ) -> (Tensor<B, 3>, Option<Tensor<B, 1>>) {
        let n_pos = resid.dims()[1];
        let factor = self.attn.only_multiplies();
        let (resid, seen) = self.enter(resid, here.pass.spec, site, factor);
        let (attn_out, penalty) = self.attend(seen, here, site);
        let resid = to_rows(resid);
        (self.leave(resid, attn_out, here, site, |rows| from_rows(rows, n_pos)), penalty)
    }

    /// `resid: [batch, pos, d_model]` -> `[n_queries, d_model]`, and what is measured of the patterns
    fn forward_at(
        &self,
        resid: Tensor<B, 3>,
        here: &Here<'_, B>,
        site: &mut Site<'_, B>,
    ) -> (Tensor<B, 2>, Option<Tensor<B, 1>>) {
        let n_pos = resid.dims()[1];
        let (resid, seen) = self.enter(resid, here.pass.spec, site, false);
        let ([batch, ..], n_members) = (resid.dims(), here.pass.n_members);
        let measured = here.measured();
        let elsewhere = here.pass.regularisation.is_some_and(|it| !it.asked_rows);
        let (attn_out, penalty) = match measured {
            // The penalty looks at every row. Where few are asked, the others are measured alone.
            Some(form) if elsewhere && 2 * here.rows.len() < batch * n_pos => {
                let (out, rows) = self.attn.measured_at(seen, here.rows, &here.heads());
                (out, rows.map(|rows| form.mean(rows, n_members)))
            }
            Some(_) if elsewhere => {
                let (all, penalty) = self.attend(seen, here, site);
                (select_rows(from_rows(all, n_pos), here.rows), penalty)
            }
            _ => {
                let mut site = site.within("attn.");
                let (out, rows) = self.attn.forward_at(seen, here.rows, &here.heads(), &mut site);
                (out, measured.zip(rows).map(|(form, rows)| form.mean(rows, n_members)))
            }
        };
        let resid = select_rows(resid, here.rows);
        (self.leave(resid, attn_out, here, site, |rows| rows), penalty)
    }

    /// Attention of every place, and what is measured of its rows.
    fn attend(
        &self,
        seen: Tensor<B, 3>,
        here: &Here<'_, B>,
        site: &mut Site<'_, B>,
    ) -> (Tensor<B, 2>, Option<Tensor<B, 1>>) {
        let (attn_out, rows) = self.attn.forward(seen, &here.heads(), &mut site.within("attn."));
        let penalty =
            here.measured().zip(rows).map(|(form, rows)| form.mean(rows, here.pass.n_members));
        (attn_out, penalty)
    }

    /// What both forms do before attention: the residual stream, and what attention sees of it, which may only be a factor.
    fn enter(
        &self,
        resid: Tensor<B, 3>,
        spec: &TransformerSpec,
        site: &mut Site<'_, B>,
        factor: bool,
    ) -> (Tensor<B, 3>, Tensor<B, 3>) {
        let n_pos = resid.dims()[1];
        let resid = site.pass("hook_in", resid);
        let ln_1 = self.ln_1.as_ref().filter(|_| spec.norm == Norm::Pre);
        let factor = factor && site.ignores(&["ln1.hook_out"]);
        let seen = normed(ln_1, to_rows(resid.clone()), spec, factor, |normed| {
            site.read("ln1.hook_out", || from_rows(normed.clone(), n_pos));
        });
        (resid, from_rows(seen, n_pos))
    }

    /// What both forms do after attention, on rows. `view` gives rows the shape hooks see.
    fn leave<const D: usize>(
        &self,
        resid: Tensor<B, 2>,
        attn_out: Tensor<B, 2>,
        here: &Here<'_, B>,
        site: &mut Site<'_, B>,
        view: impl Fn(Tensor<B, 2>) -> Tensor<B, D>,
    ) -> Tensor<B, D> {
        let ([_, d], spec) = (resid.dims(), here.pass.spec);
        let rows = |x: Tensor<B, D>| {
            let n_rows = x.dims().iter().product::<usize>() / d;
            x.reshape([n_rows, d])
        };
        let resid_drop = |name, x| here.drop(name, |rates| rates.resid, x);
        let attn_out = rows(site.pass("attn.hook_out", view(resid_drop("attn", attn_out))));
        // Kept only if somebody reads it: an operation may reuse what nobody else holds.
        let block_in = spec.parallel_mlp.then(|| resid.clone());
        let [before, after] = [Norm::Pre, Norm::Post].map(|norm| spec.norm == norm);
        let ln_1 = self.ln_1.as_ref().filter(|_| after);
        let resid = normed(ln_1, B::add(resid, attn_out), spec, false, |normed| {
            site.read("ln1.hook_out", || view(normed.clone()));
        });
        let resid = rows(site.pass("hook_resid_mid", view(resid)));
        let Some(mlp) = &self.mlp else { return site.pass("hook_out", view(resid)) };
        let seen = block_in.unwrap_or_else(|| resid.clone());
        let ln_2 = self.ln_2.as_ref();
        let factor = site.ignores(&["ln2.hook_out"]);
        let seen = normed(ln_2.filter(|_| before), seen, spec, factor, |normed| {
            site.read("ln2.hook_out", || view(normed.clone()));
        });
        let drop = here
            .drops(|rates| rates.mlp)
            .then_some(|post| here.drop("mlp.post", |rates| rates.mlp, post));
        let mlp_out = mlp.forward(seen, spec, &mut site.within("mlp."), &view, drop);
        let mlp_out = rows(site.pass("mlp.hook_out", view(resid_drop("mlp", mlp_out))));
        let resid = normed(ln_2.filter(|_| after), B::add(resid, mlp_out), spec, false, |normed| {
            site.read("ln2.hook_out", || view(normed.clone()));
        });
        site.pass("hook_out", view(resid))
    }
}

/// Rows as a norm leaves them, perhaps only [as a factor](factor_if), shown to `read`; without a norm the same rows.
fn normed<B: Ops>(
    norm: Option<&LayerNorm<B>>,
    rows: Tensor<B, 2>,
    spec: &TransformerSpec,
    factor: bool,
    read: impl FnOnce(&Tensor<B, 2>),
) -> Tensor<B, 2> {
    let Some(norm) = norm else { return rows };
    let normed = factor_if(factor, || norm.apply(rows, spec.layer_norm_epsilon));
    read(&normed);
    normed
}
