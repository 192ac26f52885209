//! A wrong answer as a file: everything needed to see it happen again.

use mnemoscope_stats::stream::Stream;
use mnemoscope_task::Token;
use serde::{Deserialize, Serialize};

/// One error, with the address of its example and the numbers the model gave.
///
/// It is stored as `glitches/<set>-<index>-<query_pos>.json` and read back by
/// [`replay`](crate::replay::replay).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Glitch {
    /// Id of the run whose model erred.
    pub run: String,
    /// Steps the model had been trained for.
    pub step: u64,
    /// BLAKE3 of the checkpoint's bytes, in hex.
    pub checkpoint_blake3: String,
    /// Name of the evaluation set.
    pub set: String,
    /// Where the set's examples come from.
    pub stream: Stream,
    /// Which example of that stream.
    pub index: u64,
    /// The place of the `r` at which the model erred, of the trigger, or of any token of the automaton.
    pub query_pos: u32,
    /// The place of the `w` whose symbol it should have said, or of the same trigger before; its
    /// own place where nothing before says what is right.
    pub write_pos: u32,
    /// The whole example.
    pub tokens: Vec<Token>,
    /// The same in the public text form.
    pub text: String,
    /// The token that is right.
    pub expected: Token,
    /// The arg-max over the whole vocabulary.
    pub predicted: Token,
    /// The arg-max over the data symbols.
    pub predicted_symbol: Token,
    /// What the model gave, `[d_vocab]`.
    pub logits: Vec<f32>,
}

impl Glitch {
    /// The name of its file within a record.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("glitches/{}-{:09}-{:04}.json", self.set, self.index, self.query_pos)
    }
}
