//! A GPT-style decoder.
//!
//! ```text
//! resid = embed[token] + pos_scale * pos[pos]
//! each block:  resid += attn(ln_1(resid))
//!              resid += mlp(ln_2(resid))
//! logits = unembed(ln_f(resid))
//! ```
//!
//! In the last block only keys and values are needed everywhere. Its queries, its MLP, the final
//! norm and the unembedding are computed for the asked places alone: with reads at one place in
//! twenty, a block and its logits cost a sixth.

use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use mnemoscope_engine::{Ops, QueryRows};

use crate::hook::{Hooks, Site};
use crate::layer::{Attention, LayerNorm, Mlp, Table, Unembed, from_rows, select_rows, to_rows};
use crate::params::Source;
use crate::spec::TransformerSpec;

/// A decoder of pre-norm blocks; [`TransformerSpec`] says what fixes it.
#[derive(Module, Debug)]
pub struct Transformer<B: Backend> {
    embed: Table<B>,
    pos: Option<Table<B>>,
    blocks: Vec<Block<B>>,
    ln_f: LayerNorm<B>,
    unembed: Unembed<B>,
    #[module(skip)]
    spec: TransformerSpec,
}

#[derive(Module, Debug)]
struct Block<B: Backend> {
    ln_1: LayerNorm<B>,
    attn: Attention<B>,
    ln_2: LayerNorm<B>,
    mlp: Mlp<B>,
}

impl<B: Backend> Transformer<B> {
    pub(crate) fn from_source(source: &mut Source<'_, B>, spec: &TransformerSpec) -> Self {
        Self {
            embed: Table::from_source(source, "embed"),
            pos: source.has("pos.weight").then(|| Table::from_source(source, "pos")),
            blocks: (0..spec.n_layers)
                .map(|layer| Block::from_source(source, &format!("blocks.{layer}")))
                .collect(),
            ln_f: LayerNorm::from_source(source, "ln_f"),
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
        let normed = self.ln_f.apply(resid, self.spec.layer_norm_epsilon);
        site.read("ln_final.hook_out", || normed.clone());
        let logits = self.unembed.apply(normed, &self.embed);
        site.read("unembed.hook_out", || logits.clone());
        logits
    }

    /// `tokens: [batch, pos]` -> `[batch, pos, d_model]`
    fn embed_tokens(&self, tokens: Tensor<B, 2, Int>, site: &mut Site<'_, B>) -> Tensor<B, 3> {
        let [_, n_pos] = tokens.dims();
        let table = self.embed.weight.val();
        let Some(pos) = &self.pos else {
            return site.pass("embed.hook_out", <B as Ops>::embed(table, tokens));
        };
        assert!(
            n_pos <= self.spec.n_ctx,
            "the sequence has {n_pos} places, the model knows n_ctx = {}",
            self.spec.n_ctx
        );
        let (pos, scale) = (pos.weight.val(), self.spec.pos_factor());
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
            ln_1: LayerNorm::from_source(source, &format!("{name}.ln_1")),
            attn: Attention::from_source(source, &format!("{name}.attn")),
            ln_2: LayerNorm::from_source(source, &format!("{name}.ln_2")),
            mlp: Mlp::from_source(source, &format!("{name}.mlp")),
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
        let (resid, normed) = self.enter(resid, spec, site);
        let attn_out = self.attn.forward(normed, spec.n_heads, &mut site.within("attn."));
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
        let (resid, normed) = self.enter(resid, spec, site);
        let attn_out =
            self.attn.forward_at(normed, queries, spec.n_heads, &mut site.within("attn."));
        self.leave(select_rows(resid, queries), attn_out, spec, site, |rows| rows)
    }

    /// What both forms do before attention: the residual stream, and its normalised form.
    fn enter(
        &self,
        resid: Tensor<B, 3>,
        spec: &TransformerSpec,
        site: &mut Site<'_, B>,
    ) -> (Tensor<B, 3>, Tensor<B, 3>) {
        let n_pos = resid.dims()[1];
        let resid = site.pass("hook_in", resid);
        let normed = self.ln_1.apply(to_rows(resid.clone()), spec.layer_norm_epsilon);
        let normed = from_rows(normed, n_pos);
        site.read("ln1.hook_out", || normed.clone());
        (resid, normed)
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
        let resid = rows(site.pass("hook_resid_mid", view(B::add(resid, attn_out))));
        let normed = self.ln_2.apply(resid.clone(), spec.layer_norm_epsilon);
        site.read("ln2.hook_out", || view(normed.clone()));
        let mlp_out = self.mlp.forward(normed, spec.gelu, &mut site.within("mlp."), &view);
        let mlp_out = rows(site.pass("mlp.hook_out", view(mlp_out)));
        site.pass("hook_out", view(B::add(resid, mlp_out)))
    }
}
