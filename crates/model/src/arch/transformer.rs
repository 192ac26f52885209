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

use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use mnemoscope_engine::{Ops, QueryRows};

use crate::hook::{Hooks, Site};
use crate::layer::{Attention, LayerNorm, Mlp, Table, Unembed, from_rows, select_rows, to_rows};
use crate::params::Source;
use crate::spec::{Norm, Positions, TransformerSpec};

/// A decoder of blocks of attention and MLP; [`TransformerSpec`] says what fixes it.
#[derive(Module, Debug)]
pub struct Transformer<B: Backend> {
    embed: Table<B>,
    pos: Option<Table<B>>,
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
            pos: source.has("pos.weight").then(|| Table::from_source(source, "pos")),
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
}

impl<B: Ops> Transformer<B> {
    pub(crate) fn logits(
        &self,
        tokens: Tensor<B, 2, Int>,
        queries: &QueryRows,
        hooks: &mut dyn Hooks<B>,
    ) -> Tensor<B, 2> {
        let mut site = Site::root(hooks);
        let mut resid = self.embed_tokens(tokens, &mut site);
        let (last, before) = self.blocks.split_last().expect("a checked spec has a block");
        for (layer, block) in before.iter().enumerate() {
            let mut site = site.within(&format!("blocks.{layer}."));
            resid = block.forward(resid, &self.spec, &mut site);
        }
        let mut last_site = site.within(&format!("blocks.{}.", before.len()));
        let resid = last.forward_at(resid, queries, &self.spec, &mut last_site);
        let resid = normed(self.ln_f.as_ref(), resid, &self.spec, |normed| {
            site.read("ln_final.hook_out", || normed.clone());
        });
        let logits = self.unembed.apply(resid, &self.embed);
        site.read("unembed.hook_out", || logits.clone());
        logits
    }

    /// `tokens: [batch, pos]` -> `[batch, pos, d_model]`
    fn embed_tokens(&self, tokens: Tensor<B, 2, Int>, site: &mut Site<'_, B>) -> Tensor<B, 3> {
        let [_, n_pos] = tokens.dims();
        let table = self.embed.weight.val();
        let pos = match &self.pos {
            Some(pos) => {
                assert!(
                    n_pos <= self.spec.n_ctx,
                    "the sequence has {n_pos} places, the model knows n_ctx = {}",
                    self.spec.n_ctx
                );
                pos.weight.val()
            }
            None if self.spec.positions == Positions::Sinusoidal => {
                sinusoids(n_pos, self.spec.d_model, &table.device())
            }
            None => return site.pass("embed.hook_out", <B as Ops>::embed(table, tokens)),
        };
        let scale = self.spec.pos_factor();
        let scaled = || pos.clone().narrow(0, 0, n_pos).mul_scalar(scale);
        site.read("pos_embed.hook_out", scaled);
        if site.replaces("embed.hook_out") {
            let embed = site.pass("embed.hook_out", <B as Ops>::embed(table, tokens));
            return embed + scaled().unsqueeze::<3>();
        }
        site.read("embed.hook_out", || <B as Ops>::embed(table.clone(), tokens.clone()));
        <B as Ops>::embed_at(table, pos, scale, tokens)
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
    /// `resid: [batch, pos, d_model]` -> `[batch, pos, d_model]`
    fn forward(
        &self,
        resid: Tensor<B, 3>,
        spec: &TransformerSpec,
        site: &mut Site<'_, B>,
    ) -> Tensor<B, 3> {
        let n_pos = resid.dims()[1];
        let (resid, seen) = self.enter(resid, spec, site);
        let attn_out = self.attn.forward(seen, spec.n_heads, &mut site.within("attn."));
        self.leave(to_rows(resid), attn_out, spec, site, |rows| from_rows(rows, n_pos))
    }

    /// `resid: [batch, pos, d_model]` -> `[n_queries, d_model]`
    fn forward_at(
        &self,
        resid: Tensor<B, 3>,
        queries: &QueryRows,
        spec: &TransformerSpec,
        site: &mut Site<'_, B>,
    ) -> Tensor<B, 2> {
        let (resid, seen) = self.enter(resid, spec, site);
        let attn_out = self.attn.forward_at(seen, queries, spec.n_heads, &mut site.within("attn."));
        self.leave(select_rows(resid, queries), attn_out, spec, site, |rows| rows)
    }

    /// What both forms do before attention: the residual stream, and what attention sees of it.
    fn enter(
        &self,
        resid: Tensor<B, 3>,
        spec: &TransformerSpec,
        site: &mut Site<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 3>) {
        let n_pos = resid.dims()[1];
        let resid = site.pass("hook_in", resid);
        let ln_1 = self.ln_1.as_ref().filter(|_| spec.norm == Norm::Pre);
        let seen = normed(ln_1, to_rows(resid.clone()), spec, |normed| {
            site.read("ln1.hook_out", || from_rows(normed.clone(), n_pos));
        });
        (resid, from_rows(seen, n_pos))
    }

    /// What both forms do after attention, on rows. `view` gives rows the shape hooks see.
    fn leave<const D: usize>(
        &self,
        resid: Tensor<B, 2>,
        attn_out: Tensor<B, 2>,
        spec: &TransformerSpec,
        site: &mut Site<'_, B>,
        view: impl Fn(Tensor<B, 2>) -> Tensor<B, D>,
    ) -> Tensor<B, D> {
        let [_, d] = resid.dims();
        let rows = |x: Tensor<B, D>| {
            let n_rows = x.dims().iter().product::<usize>() / d;
            x.reshape([n_rows, d])
        };
        let attn_out = rows(site.pass("attn.hook_out", view(attn_out)));
        // Kept only if somebody reads it: an operation may reuse what nobody else holds.
        let block_in = spec.parallel_mlp.then(|| resid.clone());
        let [before, after] = [Norm::Pre, Norm::Post].map(|norm| spec.norm == norm);
        let ln_1 = self.ln_1.as_ref().filter(|_| after);
        let resid = normed(ln_1, B::add(resid, attn_out), spec, |normed| {
            site.read("ln1.hook_out", || view(normed.clone()));
        });
        let resid = rows(site.pass("hook_resid_mid", view(resid)));
        let Some(mlp) = &self.mlp else { return site.pass("hook_out", view(resid)) };
        let seen = block_in.unwrap_or_else(|| resid.clone());
        let ln_2 = self.ln_2.as_ref();
        let seen = normed(ln_2.filter(|_| before), seen, spec, |normed| {
            site.read("ln2.hook_out", || view(normed.clone()));
        });
        let mlp_out = mlp.forward(seen, spec, &mut site.within("mlp."), &view);
        let mlp_out = rows(site.pass("mlp.hook_out", view(mlp_out)));
        let resid = normed(ln_2.filter(|_| after), B::add(resid, mlp_out), spec, |normed| {
            site.read("ln2.hook_out", || view(normed.clone()));
        });
        site.pass("hook_out", view(resid))
    }
}

/// Rows as a norm leaves them, shown to `read`; without a norm the same rows.
fn normed<B: Ops>(
    norm: Option<&LayerNorm<B>>,
    rows: Tensor<B, 2>,
    spec: &TransformerSpec,
    read: impl FnOnce(&Tensor<B, 2>),
) -> Tensor<B, 2> {
    let Some(norm) = norm else { return rows };
    let normed = norm.apply(rows, spec.layer_norm_epsilon);
    read(&normed);
    normed
}

/// Sinusoidal positions, `[n_pos, d_model]`: `sin(pos w)`, `cos(pos w)` with `w = 10000^(-2i/d_model)`
/// side by side, for each `i`.
///
/// By `libm` in double precision, so that they are the same on every platform.
fn sinusoids<B: Backend>(n_pos: usize, d_model: usize, device: &B::Device) -> Tensor<B, 2> {
    let mut table = Vec::with_capacity(n_pos * d_model);
    for pos in 0..n_pos {
        for dim in 0..d_model {
            let speed = libm::pow(10_000.0, -((dim / 2 * 2) as f64) / d_model as f64);
            let angle = pos as f64 * speed;
            let wave = if dim % 2 == 0 { libm::sin(angle) } else { libm::cos(angle) };
            table.push(wave as f32);
        }
    }
    Tensor::from_data(TensorData::new(table, [n_pos, d_model]), device)
}
