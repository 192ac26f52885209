//! The workload `birth`: the simplified two-layer model of Bietti et al. 2023, section 4.2, with its
//! linear feed-forward, straight on the engine's operations.
//!
//! It computes what `Simplified` of `pytorch/worker.py` computes, from the same kind of parameters,
//! with the algebra that frozen matrices allow and without approximation:
//!
//! - what the first layer reads is a token's vector plus a place's, so its values are two small tables
//!   looked up at once, and a score is a sum of four out of one table of tokens and places;
//! - a frozen value matrix and the output matrix behind it are one matrix, and the values of the
//!   second layer are the residual stream itself;
//! - the feed-forward is linear, so it and the unembedding are one matrix, and the output matrix of
//!   the second layer is multiplied into it as well: that layer mixes logits, not vectors.

use mnemoscope_lab::engine::burn::tensor::backend::AutodiffBackend;
use mnemoscope_lab::engine::burn::tensor::{Int, Tensor, TensorData};
use mnemoscope_lab::engine::device::{Cpu, CpuAutodiff, cpu};
use mnemoscope_lab::engine::optim::{Learned, Rule, Sgd, update};
use mnemoscope_lab::engine::{Attend, Ops};
use mnemoscope_lab::stats::stream::{Draws, Stream};
use mnemoscope_lab::task::{Bigram, Task, Token, split};

type Matrix = Tensor<CpuAutodiff, 2>;

const D_VOCAB: usize = 65;
const D: usize = 128;
const SEQ_LEN: usize = 256;
const BATCH: usize = 512;

/// As on the other side.
const SGD: Sgd =
    Sgd { lr: 0.2, momentum: 0.9, dampening: 0.0, nesterov: false, weight_decay: 1e-4 };

/// The model, and the momentum of what it learns.
pub(crate) struct Simplified {
    frozen: Frozen,
    /// The keys of both layers, the output of the second, the feed-forward: `[d, d]` each.
    learned: [Matrix; 4],
    momenta: [Option<Tensor<Cpu, 1>>; 4],
    task: Task,
    stream: Stream,
    drawn: Vec<Token>,
    n_steps: u64,
}

/// What does not change; `[d_vocab, d]`, `[seq_len, d]`, `[d, d_vocab]` and `[d, d]`.
struct Frozen {
    embed: Matrix,
    places: Matrix,
    /// `embed`, and `places` below it.
    both: Matrix,
    /// `embed` and `places` through the value and output matrices of the first layer.
    embed_out: Matrix,
    places_out: Matrix,
    v2: Matrix,
    unembed: Matrix,
}

impl Simplified {
    /// Normal embeddings, and the uniform law of PyTorch's linear layers.
    pub(crate) fn new() -> Self {
        let stream = Stream::root(0).derive("birth");
        let matrix = |name: &str, shape: [usize; 2], law: fn(&mut Draws) -> f64| {
            let mut draws = stream.derive(name).at(0);
            let numbers: Vec<f32> =
                (0..shape[0] * shape[1]).map(|_| law(&mut draws) as f32).collect();
            Matrix::from_data(TensorData::new(numbers, shape), &cpu())
        };
        let linear = |name: &str, d_out: usize| {
            matrix(name, [D, d_out], |draws| (2.0 * draws.uniform() - 1.0) / (D as f64).sqrt())
        };
        let (embed, places) = (
            matrix("embed", [D_VOCAB, D], Draws::normal),
            matrix("places", [SEQ_LEN, D], Draws::normal),
        );
        let out = product(linear("v1", D), linear("o1", D));
        let frozen = Frozen {
            embed_out: product(embed.clone(), out.clone()),
            places_out: product(places.clone(), out),
            both: Tensor::cat(vec![embed.clone(), places.clone()], 0),
            embed,
            places,
            v2: linear("v2", D),
            unembed: linear("unembed", D_VOCAB),
        };
        let learned = ["k1", "k2", "o2", "ff"].map(|name| linear(name, D).require_grad());
        Self {
            frozen,
            learned,
            momenta: [const { None }; 4],
            task: Task::Bigram(Bigram::paper(5)),
            stream: split::train_stream(0),
            drawn: Vec::new(),
            n_steps: 0,
        }
    }

    /// Numbers that training changes.
    pub(crate) fn n_params(&self) -> u64 {
        (self.learned.len() * D * D) as u64
    }

    /// One step on fresh tokens; the loss before it, in nats.
    pub(crate) fn step(&mut self) -> f32 {
        let first_index = self.n_steps * BATCH as u64;
        self.task.batch_into(&self.stream, first_index, BATCH, &mut self.drawn);
        let rows = || self.drawn.chunks_exact(SEQ_LEN + 1);
        let token = |&token: &Token| i32::from(token);
        let tokens: Vec<i32> = rows().flat_map(|row| row[..SEQ_LEN].iter().map(token)).collect();
        let targets: Vec<i32> = rows().flat_map(|row| row[1..].iter().map(token)).collect();
        let tokens = Tensor::from_data(TensorData::new(tokens, [BATCH, SEQ_LEN]), &cpu());
        let targets = Tensor::from_data(TensorData::new(targets, [BATCH * SEQ_LEN]), &cpu());
        let loss = CpuAutodiff::cross_entropy(self.logits(tokens), targets);
        let loss_nats = loss.to_data().as_slice::<f32>().expect("losses are single precision")[0];
        self.descend(loss.backward());
        self.n_steps += 1;
        loss_nats
    }

    /// `[batch * pos, d_vocab]`
    fn logits(&self, tokens: Tensor<CpuAutodiff, 2, Int>) -> Matrix {
        let Frozen { embed, places, both, embed_out, places_out, v2, unembed } = &self.frozen;
        let [k1, k2, o2, ff] = &self.learned;
        let look_up = |table: &Matrix, places: &Matrix| {
            CpuAutodiff::embed_at(table.clone(), places.clone(), 1.0, tokens.clone())
        };
        let attend = Attend::plain(1);
        let x = look_up(embed, places);
        let keys = product(both.clone(), k1.clone());
        let scores = product(both.clone(), keys.transpose());
        let values = look_up(embed_out, places_out);
        let scaled = Attend { temperature: (D as f64).sqrt(), ..attend };
        let mixed = CpuAutodiff::causal_attention_looked_up(
            tokens.clone(),
            scores,
            D_VOCAB,
            values,
            &scaled,
        );
        let x = CpuAutodiff::add(x, mixed);
        let flat = |x: Tensor<CpuAutodiff, 3>| x.reshape([BATCH * SEQ_LEN, D]);
        let keys = product(flat(x.clone()), k2.clone()).reshape([BATCH, SEQ_LEN, D]);
        let output = unembed.clone() + product(ff.clone(), unembed.clone());
        let mixed_output = product(product(v2.clone(), o2.clone()), output.clone());
        let logits = product(flat(x.clone()), output);
        let values = product(flat(x.clone()), mixed_output).reshape([BATCH, SEQ_LEN, D_VOCAB]);
        let mixed = CpuAutodiff::causal_attention_of(x, keys, values, &attend);
        CpuAutodiff::add(logits, mixed.reshape([BATCH * SEQ_LEN, D_VOCAB]))
    }

    fn descend(&mut self, mut grads: <CpuAutodiff as AutodiffBackend>::Gradients) {
        let row = |x: Tensor<Cpu, 2>| x.reshape([D * D]);
        let learned = self.learned.iter().zip(&mut self.momenta).map(|(param, momentum)| {
            let grad = param.grad_remove(&mut grads).expect("every matrix has a gradient");
            let kept = momentum.take().unwrap_or_else(|| Tensor::zeros([D * D], &cpu()));
            Learned { param: row(param.clone().inner()), grad: row(grad), kept: vec![kept] }
        });
        let (moved, finite) = update(learned.collect(), &Rule::Sgd(SGD), self.n_steps + 1, 1.0);
        assert!(finite.iter().all(|finite| *finite), "a step left the finite numbers");
        for (i, Learned { param, kept, .. }) in moved.into_iter().enumerate() {
            self.learned[i] = Matrix::from_inner(param.reshape([D, D])).require_grad();
            self.momenta[i] = kept.into_iter().next();
        }
    }
}

fn product(x: Matrix, weight: Matrix) -> Matrix {
    <CpuAutodiff as Ops>::linear(x, weight, None)
}
