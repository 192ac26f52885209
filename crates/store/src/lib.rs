//! Records of runs: format, writer, reader, index. Knows no science.
//!
//! ```text
//! runs/                                the store
//!   index.sqlite                       derived: may be deleted at any time
//!   3f9c0a1b2c3d4e5f/                  a run, named by the id of its plan
//!     record.json                      format, id, and what was given when it began
//!     plan.json                        the plan
//!     events.jsonl                     what happened, append-only, a chain of checksums
//!     checkpoints/0000000500.safetensors
//!     eval/…  glitches/…  spec.toml    whatever the caller writes
//!     result.json                      written last: a run with a result is sealed
//!     lock                             held by the one writer
//! ```
//!
//! What comes in is canonical JSON and bytes, what goes out is the same; the bytes are described
//! in `docs/formats.md`. Three promises:
//!
//! - **Whole or not at all.** A process killed at any point, or a disk that fills up, leaves a
//!   record that opens, with every event and checkpoint that was acknowledged.
//! - **Nothing damaged is believed.** Every byte that is read was compared with a checksum.
//! - **A sealed run is never altered.**
//!
//! The clock is not read here: times come from the caller.
//!
//! # Example
//!
//! ```
//! use mnemoscope_store::{Begun, Status, Store};
//! use serde_json::json;
//!
//! # let dir = tempfile::tempdir()?;
//! # let root = dir.path().join("runs");
//! let store = Store::open(&root)?;
//! let (plan, meta) = (json!({"n_steps": 2}), json!({"created_secs": 1_790_000_000}));
//! let Begun::New(mut run) = store.begin("3f9c0a1b", &plan, &meta)? else { panic!("not new") };
//! run.append("curve", &json!({"step": 1, "loss_nats": 0.7}))?;
//! run.save_checkpoint(1, b"all state after step 1")?;
//! drop(run); // as if the process had been killed here
//!
//! let Begun::Resumed(mut run) = store.begin("3f9c0a1b", &plan, &meta)? else { panic!("lost") };
//! let (checkpoint, bytes) = run.last_good_checkpoint()?.expect("one was saved");
//! assert_eq!((checkpoint.step, bytes.as_slice()), (1, &b"all state after step 1"[..]));
//! run.seal(&json!({"error_rate": 0.0}))?;
//!
//! let run = store.find("3f")?;
//! assert_eq!(run.status(), Status::Sealed);
//! assert_eq!(run.events().of_kind("curve").count(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![warn(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]

pub mod canonical;
mod checkpoint;
#[cfg(test)]
mod end_of_disk;
mod error;
pub mod event;
mod files;
mod filter;
mod format;
pub mod index;
mod lock;
mod place;
mod prune;
mod read;
mod store;
mod sweeps;
mod write;

pub use checkpoint::CheckpointRef;
pub use error::{Error, ErrorKind};
pub use event::{Event, Events, Torn};
pub use filter::Filter;
pub use format::{FORMAT, FormatVersion};
pub use index::{Listed, Selected, Selection};
pub use prune::Prunable;
pub use read::{RunReader, Status, read_json};
pub use store::{Begun, Store};
pub use write::RunWriter;
