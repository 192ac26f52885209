//! Synthetic languages with exact answers, their oracles and their gallery.
//!
//! A task fixes a language; `(stream, index)` is the address of one example of it, so any slice
//! of any set can be generated again anywhere. This crate knows no tensor, no clock and no
//! thread pool: an oracle that cannot reach a model cannot leak into it.
//!
//! ```
//! use mnemoscope_task::{FlipFlop, Task, reads, split, text};
//!
//! let task = Task::FlipFlop(FlipFlop::new(16, 0.2, 0.3, 0.5, 2)?);
//! let tokens = task.example(&split::eval_stream(0, "val"), 42);
//! let mut targets = Vec::new();
//! reads(&tokens, &mut targets);
//! // The last instruction is a read, so there is always something to score.
//! assert_eq!(targets.last().map(|read| read.query_pos), Some(14));
//! assert_eq!(text::to_text(&tokens).len(), 16);
//! # Ok::<(), mnemoscope_task::Error>(())
//! ```
//!
//! | Module | What it holds |
//! |---|---|
//! | [`flipflop`], [`mixture`], [`automaton`], [`bigram`] | the languages |
//! | [`coding`] | which tokens stand for an instruction and its symbol |
//! | [`task`] | a closed list of them; examples, batches, scored places |
//! | [`oracle`], [`bigram::oracle`] | right answers by looking back, sharing nothing with the generator |
//! | [`bigram::bayes`] | the best that can be predicted without knowing the triggers |
//! | [`story`] | flip-flop strings told in sentences, and scoring what a language model answers |
//! | [`split`] | which stream is for what |
//! | [`text`], [`file`](mod@file) | the public text form; jsonl, parquet, npy and plain files |
//! | [`gallery`] | every task with a drawn example |

pub mod automaton;
pub mod bigram;
pub mod coding;
mod complaint;
mod error;
pub mod file;
pub mod flipflop;
pub mod gallery;
mod generate;
pub mod mixture;
pub mod oracle;
pub mod split;
pub mod story;
pub mod task;
pub mod text;
pub mod token;

pub use automaton::Automaton;
pub use bigram::{Bigram, Corpus};
pub use coding::Coding;
pub use complaint::Complaint;
pub use error::{Error, ErrorKind};
pub use flipflop::FlipFlop;
pub use mixture::{Mixture, Part};
pub use task::{Scoring, Target, Task, reads};
pub use token::Token;
