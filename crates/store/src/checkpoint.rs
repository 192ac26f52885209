//! Checkpoints: opaque bytes on the disk, with size and checksum in an event.
//!
//! A checkpoint counts from the moment its event is whole. It is compared with that event on every
//! read, so a damaged one is never loaded.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use crate::canonical::hash_bytes;
use crate::error::Error;
use crate::event::{Events, kind};
use crate::files;
use crate::format::CHECKPOINTS;

/// Where a checkpoint lies and what must be in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckpointRef {
    /// How many steps had been taken.
    pub step: u64,
    /// BLAKE3 of its bytes, 64 hexadecimal digits.
    pub blake3: String,
    /// Its size.
    pub n_bytes: u64,
    /// Its file.
    pub path: PathBuf,
}

impl CheckpointRef {
    /// Describes `bytes`, saved after `step` steps of the run in `dir`.
    pub(crate) fn of(dir: &Path, step: u64, bytes: &[u8]) -> Self {
        let n_bytes = bytes.len() as u64;
        Self { step, blake3: hash_bytes(bytes), n_bytes, path: dir.join(file_name(step)) }
    }

    fn from_event(dir: &Path, data: &Value) -> Option<Self> {
        let step = data["step"].as_u64()?;
        Some(Self {
            step,
            blake3: data["blake3"].as_str()?.to_owned(),
            n_bytes: data["n_bytes"].as_u64()?,
            path: dir.join(file_name(step)),
        })
    }

    /// What the event says about it.
    pub(crate) fn to_data(&self) -> Value {
        json!({"step": self.step, "blake3": self.blake3, "n_bytes": self.n_bytes})
    }

    /// Its bytes, if they are the ones that were saved.
    pub(crate) fn read(&self) -> Result<Vec<u8>, Error> {
        let Some(bytes) = files::read_if_there(&self.path)? else {
            return Err(Error::damaged(&self.path, "the file is missing"));
        };
        let n_found = bytes.len() as u64;
        if n_found != self.n_bytes {
            let why = format!("it has {n_found} bytes and {} were saved", self.n_bytes);
            return Err(Error::damaged(&self.path, why));
        }
        if hash_bytes(&bytes) != self.blake3 {
            return Err(Error::damaged(&self.path, "its checksum does not fit its content"));
        }
        Ok(bytes)
    }
}

/// The name of the checkpoint of `step`, below the directory of its run.
pub(crate) fn file_name(step: u64) -> String {
    format!("{CHECKPOINTS}/{step:010}.safetensors")
}

/// A checkpoint and the number of its event.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) event_idx: u64,
    pub(crate) checkpoint: CheckpointRef,
}

/// The checkpoints that should be there, oldest first: saved, not superseded, not pruned since.
pub(crate) fn kept(dir: &Path, events: &Events) -> Vec<Kept> {
    let mut kept: Vec<Kept> = Vec::new();
    for event in &events.items {
        match event.kind.as_str() {
            kind::CHECKPOINT if !event.superseded => {
                if let Some(checkpoint) = CheckpointRef::from_event(dir, &event.data) {
                    kept.retain(|older| older.checkpoint.step != checkpoint.step);
                    kept.push(Kept { event_idx: event.idx, checkpoint });
                }
            }
            // Also if a resume went back behind it: the files are gone all the same.
            kind::PRUNED => {
                let steps = event.data["steps"].as_array().map_or(&[][..], Vec::as_slice);
                kept.retain(|older| !steps.contains(&older.checkpoint.step.into()));
            }
            _ => {}
        }
    }
    kept
}
