//! Failures of this crate: one opaque error, and the few answers a caller can give to it.

use std::error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::complaint::Complaint;
use crate::text::Flaw;

/// A failure to read a language, a text or a file of examples, or to write one.
///
/// Programs branch on [`Error::kind`]; people read the message and its sources.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Cause>);

/// The few answers a caller can give to an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// What was asked for makes no sense: ask differently.
    Invalid,
    /// The data is damaged, or not what this crate reads.
    Corrupt,
    /// The operating system refused.
    Io,
    /// The disk is full. What was written so far has been removed again.
    Full,
}

impl Error {
    /// What a program can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match *self.0 {
            Cause::Task { .. }
            | Cause::UnknownExtension { .. }
            | Cause::UnknownTableExtension { .. }
            | Cause::NoFileName { .. }
            | Cause::IndexRange { .. }
            | Cause::SymbolCount { .. } => ErrorKind::Invalid,
            Cause::Text { .. }
            | Cause::Row { .. }
            | Cause::Layout { .. }
            | Cause::Parquet { .. }
            | Cause::Provenance { .. } => ErrorKind::Corrupt,
            Cause::Read { .. } | Cause::Create { .. } | Cause::Write { .. } => ErrorKind::Io,
            Cause::Full { .. } => ErrorKind::Full,
        }
    }
}

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        Self(Box::new(cause))
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error("{}", Joined(complaints))]
    Task { complaints: Vec<Complaint> },
    #[error(
        "{path} has no known ending; use .jsonl, .parquet, .npy or .txt",
        path = path.display()
    )]
    UnknownExtension { path: PathBuf },
    #[error(
        "{path} has no known ending; use .csv, .parquet or .jsonl",
        path = path.display()
    )]
    UnknownTableExtension { path: PathBuf },
    #[error("{path} names no file; give the file a name", path = path.display())]
    NoFileName { path: PathBuf },
    #[error(
        "{n_examples} examples from index {first_index} on pass the last index, {last}; \
         ask for fewer or begin earlier",
        last = u64::MAX
    )]
    IndexRange { first_index: u64, n_examples: u64 },
    #[error("n_symbols is {n_symbols}; use 2 to 256")]
    SymbolCount { n_symbols: u32 },
    #[error("{flaw}")]
    Text { flaw: Flaw },
    #[error("{path}, row {row}: {flaw}", path = path.display())]
    Row { path: PathBuf, row: u64, flaw: Flaw },
    #[error("{path}: {what}", path = path.display())]
    Layout { path: PathBuf, what: String },
    #[error("{path} is no whole parquet file, or is damaged after row {row}", path = path.display())]
    Parquet { path: PathBuf, row: u64, source: Box<dyn error::Error + Send + Sync> },
    #[error(
        "{path} does not say where the examples came from in a form this release reads; \
         delete it to read them without",
        path = path.display()
    )]
    Provenance { path: PathBuf, source: serde_json::Error },
    #[error("cannot read {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "cannot write in {folder}; check that it is a folder and that you may write there",
        folder = folder.display()
    )]
    Create { folder: PathBuf, source: io::Error },
    #[error("cannot write {path}; nothing was kept", path = path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "the disk is full: {path} was not written and nothing was kept; \
         free some space or choose another folder",
        path = path.display()
    )]
    Full { path: PathBuf, source: io::Error },
}

impl Cause {
    /// What a refused write means: a full disk, or another refusal.
    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { path, source }
            }
            _ => Self::Write { path, source },
        }
    }

    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    pub(crate) fn layout(path: &Path, what: impl Into<String>) -> Self {
        Self::Layout { path: path.to_owned(), what: what.into() }
    }

    pub(crate) fn row(path: &Path, row: u64, flaw: Flaw) -> Self {
        Self::Row { path: path.to_owned(), row, flaw }
    }
}

/// Complaints in one line.
struct Joined<'a>(&'a [Complaint]);

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, complaint) in self.0.iter().enumerate() {
            let separator = if idx == 0 { "" } else { "; " };
            write!(f, "{separator}{complaint}")?;
        }
        Ok(())
    }
}
