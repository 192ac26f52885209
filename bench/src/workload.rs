//! What is compared: names, shapes, and how much of each makes a block.

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
    /// Steps of training, or examples of evaluation, in a block.
    pub(crate) n_per_block: u64,
    /// Our steps or examples are so many of PyTorch's in its block.
    pub(crate) unit: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Train,
    Evaluate,
    /// Training of [`Simplified`](crate::birth::Simplified), which has no spec.
    Birth,
}

const MID: &str = "model = { preset = 'fflm-base', n_layers = 2, d_model = 128, n_heads = 4 }";
const LSTM: &str = "model = { preset = 'lstm' }";

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
        kind: Kind::Birth,
        spec: "",
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
];
