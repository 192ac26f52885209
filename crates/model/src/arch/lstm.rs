//! A stack of LSTM layers between an embedding and a linear unembedding.
//!
//! ```text
//! a = x w_ih + b_ih + h[pos - 1] w_hh + b_hh          cut into i, f, g, o
//! c[pos] = sigmoid(f) c[pos - 1] + sigmoid(i) tanh(g)
//! h[pos] = sigmoid(o) tanh(c[pos])                    the next layer's x
//! logits = unembed(h) at the asked places
//! ```
//!
//! What enters the first layer depends on the token alone, so its `x w_ih` is a table of one row for
//! each token of the vocabulary instead of a matrix product over all places. That is the same
//! arithmetic on fewer rows.

use burn::module::{Module, Param};
use burn::tensor::activation::sigmoid;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use mnemoscope_engine::{Ops, QueryRows};

use crate::hook::{Hooks, Site};
use crate::layer::{Table, Unembed, from_rows, select_rows, to_rows};
use crate::params::Source;
use crate::spec::LstmSpec;

/// Above this many tokens the first layer's inputs are no longer tabulated.
///
/// A rule about the spec and not about the batch, so that numbers never depend on the batch.
const LARGEST_TABLE: usize = 1024;

/// A stack of LSTM layers; [`LstmSpec`] says what fixes it.
#[derive(Module, Debug)]
pub struct Lstm<B: Backend> {
    embed: Table<B>,
    layers: Vec<LstmLayer<B>>,
    unembed: Unembed<B>,
    #[module(skip)]
    spec: LstmSpec,
}

#[derive(Module, Debug)]
struct LstmLayer<B: Backend> {
    w_ih: Param<Tensor<B, 2>>,
    w_hh: Param<Tensor<B, 2>>,
    b_ih: Param<Tensor<B, 1>>,
    b_hh: Param<Tensor<B, 1>>,
}

impl<B: Backend> Lstm<B> {
    pub(crate) fn from_source(source: &mut Source<'_, B>, spec: &LstmSpec) -> Self {
        Self {
            embed: Table::from_source(source, "embed"),
            layers: (0..spec.n_layers)
                .map(|layer| LstmLayer {
                    w_ih: source.param(&format!("layers.{layer}.w_ih")),
                    w_hh: source.param(&format!("layers.{layer}.w_hh")),
                    b_ih: source.param(&format!("layers.{layer}.b_ih")),
                    b_hh: source.param(&format!("layers.{layer}.b_hh")),
                })
                .collect(),
            unembed: Unembed::from_source(source),
            spec: spec.clone(),
        }
    }

    pub(crate) fn spec(&self) -> &LstmSpec {
        &self.spec
    }

    /// How many models of the spec are computed side by side.
    fn n_members(&self) -> usize {
        self.embed.weight.dims()[0] / self.spec.d_vocab
    }
}

impl<B: Ops> Lstm<B> {
    pub(crate) fn logits(
        &self,
        tokens: Tensor<B, 2, Int>,
        queries: &QueryRows,
        hooks: &mut dyn Hooks<B>,
    ) -> Tensor<B, 2> {
        let mut site = Site::root(hooks);
        let (first, after) = self.layers.split_first().expect("a checked spec has a layer");
        let mut h = self.first_states(first, tokens, &mut site);
        for (layer, parts) in (1..).zip(after) {
            let mut site = site.within(&format!("layers.{layer}."));
            h = parts.forward(parts.gates_in(site.pass("hook_in", h)), &mut site);
        }
        let logits = self.unembed.apply(select_rows(h, queries), &self.embed, self.n_members());
        site.read("unembed.hook_out", || logits.clone());
        logits
    }

    /// What the first layer gives: `tokens: [batch, pos]` -> `[batch, pos, d_model]`
    fn first_states(
        &self,
        first: &LstmLayer<B>,
        tokens: Tensor<B, 2, Int>,
        site: &mut Site<'_, B>,
    ) -> Tensor<B, 3> {
        let (table, n_members) = (self.embed.weight.val(), self.n_members());
        let embed = |table, tokens| Table::look_up(table, tokens, n_members);
        let replaced = site.replaces("embed.hook_out") || site.replaces("layers.0.hook_in");
        if replaced || self.spec.d_vocab > LARGEST_TABLE {
            let embed = site.pass("embed.hook_out", embed(table, tokens));
            let gates_in = first.gates_in(site.pass("layers.0.hook_in", embed));
            return first.forward(gates_in, &mut site.within("layers.0."));
        }
        for point in ["embed.hook_out", "layers.0.hook_in"] {
            site.read(point, || embed(table.clone(), tokens.clone()));
        }
        let (table, mut site) = (first.gates_of_rows(table), site.within("layers.0."));
        if LstmLayer::looks_inside(&site) || n_members > 1 {
            return first.forward(embed(table, tokens), &mut site);
        }
        let h = <B as Ops>::lstm_of(table, tokens, first.w_hh.val());
        site.pass("hook_out", h)
    }
}

impl<B: Ops> LstmLayer<B> {
    /// `x: [rows, d_model]` -> `[rows, 4 d_model]`
    fn gates_of_rows(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        <B as Ops>::linear(x, self.w_ih.val(), Some(self.b_ih.val() + self.b_hh.val()))
    }

    /// `x: [batch, pos, d_model]` -> `[batch, pos, 4 d_model]`
    fn gates_in(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let n_pos = x.dims()[1];
        from_rows(self.gates_of_rows(to_rows(x)), n_pos)
    }

    /// Whether somebody wants what is inside of the layer.
    fn looks_inside(site: &Site<'_, B>) -> bool {
        site.wants("hook_gates") || site.wants("hook_cell")
    }

    /// `gates_in: [batch, pos, 4 d_model]` -> `[batch, pos, d_model]`
    fn forward(&self, gates_in: Tensor<B, 3>, site: &mut Site<'_, B>) -> Tensor<B, 3> {
        let w_hh = self.w_hh.val();
        if !Self::looks_inside(site) {
            return site.pass("hook_out", <B as Ops>::lstm(gates_in, w_hh));
        }
        let h = <B as Ops>::lstm(gates_in.clone(), w_hh.clone());
        let gates = gates_of_states(gates_in, h.clone(), w_hh);
        site.read("hook_gates", || gates.clone());
        site.read("hook_cell", || cells_of_gates(gates));
        site.pass("hook_out", h)
    }
}

/// The gates once more, all places at once, now that every state is known.
///
/// `gates_in: [batch, pos, 4 d]`, `h: [batch, pos, d]` -> `[batch, pos, gate, d]`, after sigmoid and
/// tanh, in the order i, f, g, o.
fn gates_of_states<B: Ops>(
    gates_in: Tensor<B, 3>,
    h: Tensor<B, 3>,
    w_hh: Tensor<B, 2>,
) -> Tensor<B, 4> {
    let [batch, n_pos, d] = h.dims();
    let zero = Tensor::<B, 3>::zeros([batch, 1, d], &h.device());
    let h_before = Tensor::cat(vec![zero, h.narrow(1, 0, n_pos)], 1).narrow(1, 0, n_pos);
    let gates = gates_in + from_rows(<B as Ops>::linear(to_rows(h_before), w_hh, None), n_pos);
    let gates = gates.reshape([batch, n_pos, 4, d]);
    let [i_f, g, o] = [(0, 2), (2, 1), (3, 1)].map(|(at, n)| gates.clone().narrow(2, at, n));
    Tensor::cat(vec![sigmoid(i_f), g.tanh(), sigmoid(o)], 2)
}

/// The cell after each place: `[batch, pos, gate, d]` -> `[batch, pos, d]`
fn cells_of_gates<B: Backend>(gates: Tensor<B, 4>) -> Tensor<B, 3> {
    let [batch, n_pos, _, d] = gates.dims();
    let gate = |which: usize, pos: usize| {
        gates.clone().narrow(1, pos, 1).narrow(2, which, 1).reshape([batch, 1, d])
    };
    let mut cell = Tensor::<B, 3>::zeros([batch, 1, d], &gates.device());
    let mut cells = Vec::with_capacity(n_pos);
    for pos in 0..n_pos {
        cell = gate(1, pos) * cell + gate(0, pos) * gate(2, pos);
        cells.push(cell.clone());
    }
    Tensor::cat(cells, 1)
}
