//! What is compared: names, shapes, and how much of each makes a block.

use mnemoscope_lab::task::{Bigram, FlipFlop, Task};

/// One thing both sides do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    /// Its name, on both sides.
    pub(crate) name: &'static str,
    /// What it is, for the table.
    pub(crate) about: &'static str,
    /// Which of our kinds of work it is.
    pub(crate) kind: Kind,
    /// Its spec; what it leaves out has the default.
    pub(crate) spec: &'static str,
    /// Steps of training, examples of evaluation, or tokens, in a block.
    pub(crate) n_per_block: u64,
    /// Our steps or examples are so many of PyTorch's in its block.
    pub(crate) unit: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Train,
    Evaluate,
    /// Drawing of examples into memory, on one thread.
    Draw(fn() -> Task),
}

const MID: &str = "model = { preset = 'fflm-base', n_layers = 2, d_model = 128, n_heads = 4 }";
const LSTM: &str = "model = { preset = 'lstm' }";

const BIRTH: &str = "\
    task = { name = 'bigram', n_triggers = 5 }\n\
    model.preset = 'birth'\n\
    [train]\nbatch_size = 512\noptimizer = 'sgd'\nlr = 0.2\nweight_decay = 1e-4\n\
    warmup_steps = 0\ndecay = 'none'\nloss = 'all'\n";

impl Workload {
    /// The forms of the other side: PyTorch as it comes and compiled, or a generator that makes a
    /// sequence at a time, as the published ones do, and one that makes many at once.
    pub(crate) fn forms(&self) -> [&'static str; 2] {
        match self.kind {
            Kind::Draw(_) => ["loop", "batch"],
            Kind::Train | Kind::Evaluate => ["eager", "compile"],
        }
    }

    /// Threads of each side where `n_threads` are asked for.
    pub(crate) fn n_threads(&self, n_threads: usize) -> usize {
        if matches!(self.kind, Kind::Draw(_)) { 1 } else { n_threads }
    }
}

/// All workloads, in the order of the table.
pub(crate) const ALL: &[Workload] = &[
    Workload {
        name: "fflm-base",
        about: "6 layers, d 512, 8 heads, T 512, batch 16, AdamW",
        kind: Kind::Train,
        spec: "",
        n_per_block: 1,
        unit: "step",
    },
    Workload {
        name: "fflm-mid",
        about: "2 layers, d 128, 4 heads, T 512, batch 16, AdamW",
        kind: Kind::Train,
        spec: MID,
        n_per_block: 8,
        unit: "step",
    },
    Workload {
        name: "fflm-small",
        about: "2 layers, d 64, 4 heads, T 128, batch 32, AdamW",
        kind: Kind::Train,
        spec: "task.seq_len = 128\ntrain.batch_size = 32\n\
               model = { preset = 'fflm-base', n_layers = 2, d_model = 64, n_heads = 4 }",
        n_per_block: 40,
        unit: "step",
    },
    Workload {
        name: "lstm",
        about: "1 layer, d 128, T 512, batch 16, AdamW",
        kind: Kind::Train,
        spec: LSTM,
        n_per_block: 40,
        unit: "step",
    },
    Workload {
        name: "birth",
        about: "the simplified two-layer model with its feed-forward, d 128, T 256, batch 512, SGD",
        kind: Kind::Train,
        spec: BIRTH,
        n_per_block: 1,
        unit: "step",
    },
    Workload {
        name: "eval-lstm",
        about: "the LSTM on val_sparse, T 512",
        kind: Kind::Evaluate,
        spec: LSTM,
        n_per_block: 2048,
        unit: "example",
    },
    Workload {
        name: "eval-mid",
        about: "the model of fflm-mid on val_sparse, T 512",
        kind: Kind::Evaluate,
        spec: MID,
        n_per_block: 1024,
        unit: "example",
    },
    Workload {
        name: "draw-flipflop",
        about: "FFL(0.8) of 512 tokens into memory, one thread",
        kind: Kind::Draw(|| Task::FlipFlop(FlipFlop::paper(0.8).expect("the paper's own"))),
        spec: "",
        n_per_block: 64 * 1024 * 512,
        unit: "token",
    },
    Workload {
        name: "draw-bigram",
        about: "bigrams of 65 symbols with 5 random triggers, 257 tokens, one thread",
        kind: Kind::Draw(|| Task::Bigram(Bigram::paper(5))),
        spec: "",
        n_per_block: 32 * 1024 * 257,
        unit: "token",
    },
];
