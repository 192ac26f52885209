//! Provenance: where the examples of a file came from, kept with the file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mnemoscope_stats::stream::Stream;
use serde::{Deserialize, Serialize};

use super::{Format, parquet};
use crate::error::{Cause, Error};
use crate::split;
use crate::task::Task;

/// The examples that a file should hold: a range of addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The language.
    pub task: Task,
    /// The seed of the stream: a run's data seed for `train`, the eval seed for test sets.
    pub seed: u64,
    /// The split: `train`, or the name of a test set, as [`split::stream`] reads it.
    pub split: String,
    /// The index of the first example.
    pub first_index: u64,
    /// Number of examples.
    pub n_examples: u64,
}

impl Source {
    /// The stream the examples come from.
    #[must_use]
    pub fn stream(&self) -> Stream {
        split::stream(self.seed, &self.split)
    }

    /// Refuses a task or a range from which nothing can be generated.
    pub(super) fn check(&self) -> Result<(), Error> {
        let complaints = self.task.check();
        if !complaints.is_empty() {
            return Err(Cause::Task { complaints }.into());
        }
        let Self { first_index, n_examples, .. } = *self;
        match first_index.checked_add(n_examples) {
            Some(_) => Ok(()),
            None => Err(Cause::IndexRange { first_index, n_examples }.into()),
        }
    }
}

/// Where the examples of a file came from: enough to generate them again and to notice a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The version of this form.
    pub format: u32,
    /// What made the file: `mnemoscope flipflop`.
    pub generator: String,
    /// The release that made it.
    pub version: String,
    /// The language.
    pub task: Task,
    /// The seed of the stream.
    pub seed: u64,
    /// The split, which with the seed gives the stream.
    pub split: String,
    /// The stream itself, for readers who do not know how seeds become streams.
    pub stream: Stream,
    /// The index of the first example.
    pub first_index: u64,
    /// Number of examples.
    pub n_examples: u64,
    /// BLAKE3 of the examples as text, a line each, whatever the file's format: the checksum
    /// that `b3sum` prints for the file in plain text.
    pub content_blake3: String,
}

/// The version of [`Provenance`] that this release writes and reads.
const FORMAT: u32 = 1;

impl Provenance {
    pub(super) fn new(source: &Source, content: &blake3::Hasher) -> Self {
        Self {
            format: FORMAT,
            generator: format!("mnemoscope {}", source.task.name()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            task: source.task.clone(),
            seed: source.seed,
            split: source.split.clone(),
            stream: source.stream(),
            first_index: source.first_index,
            n_examples: source.n_examples,
            content_blake3: content.finalize().to_hex().as_str().to_owned(),
        }
    }

    /// The addresses of the examples, to generate them again.
    #[must_use]
    pub fn source(&self) -> Source {
        Source {
            task: self.task.clone(),
            seed: self.seed,
            split: self.split.clone(),
            first_index: self.first_index,
            n_examples: self.n_examples,
        }
    }

    /// The record as JSON, for people and programs.
    pub(super) fn to_json(&self) -> io::Result<String> {
        let json = serde_json::to_string_pretty(self)?;
        Ok(json + "\n")
    }

    /// Reads the record that `path` holds.
    pub(super) fn from_json(json: &str, path: &Path) -> Result<Self, Error> {
        let damaged = |source| Cause::Provenance { path: path.to_owned(), source };
        // The version first: a newer form may have other fields.
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Version { format } = serde_json::from_str(json).map_err(damaged)?;
        if format != FORMAT {
            let what = format!(
                "its provenance has format {format}, this release reads {FORMAT}; \
                 use the release that wrote it"
            );
            return Err(Cause::layout(path, what).into());
        }
        Ok(serde_json::from_str(json).map_err(damaged)?)
    }
}

/// The file beside `path` that holds its provenance.
pub(super) fn sidecar(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".meta.json");
    PathBuf::from(name)
}

/// The provenance kept with a file, or `None` if it has none, as files of others.
///
/// # Errors
///
/// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if there is one that cannot be understood,
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the system refuses.
pub fn provenance(path: &Path, format: Format) -> Result<Option<Provenance>, Error> {
    if format == Format::Parquet {
        return match parquet::stored_provenance(path)? {
            Some(json) => Provenance::from_json(&json, path).map(Some),
            None => Ok(None),
        };
    }
    let path = sidecar(path);
    match fs::read_to_string(&path) {
        Ok(json) => Provenance::from_json(&json, &path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(Cause::layout(&path, "it is not text in UTF-8").into())
        }
        Err(error) => Err(Cause::read(&path, error).into()),
    }
}
