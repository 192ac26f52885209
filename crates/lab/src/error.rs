//! What can go wrong in the laboratory, and what a program does about it.

use std::error::Error as StdError;
use std::fmt;

use crate::plan::{Complaint, Complaints};

/// A failure of the laboratory.
///
/// Programs branch on [`Error::kind`]; people read the message and its sources.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Cause>);

/// The few answers a caller can give to an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The spec, or how the command was used, is wrong: mend it and try again.
    Spec,
    /// Nothing is recorded under that name.
    NotFound,
    /// Written by a release this one cannot read.
    Incompatible,
    /// The input is damaged.
    Corrupt,
    /// The machine refused: disk, memory, device, or a record in use by another process.
    Machine,
    /// A number that had to be finite was not; the record says which and when.
    Diverged,
    /// The program itself failed: a bug, written down in the record.
    Crashed,
    /// Somebody asked to stop; the state is saved.
    Interrupted,
    /// The operating system refused to read or write.
    Io,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error("{complaints}")]
    Spec { complaints: Complaints },
    #[error("{message}")]
    Said { kind: ErrorKind, message: String },
    #[error("{message}")]
    Because { kind: ErrorKind, message: String, source: Box<dyn StdError + Send + Sync> },
    #[error("{source}")]
    Store { kind: ErrorKind, source: mnemoscope_store::Error },
    #[error("{source}")]
    Model { kind: ErrorKind, source: mnemoscope_model::Error },
}

impl Error {
    /// An error that has no cause below it.
    pub(crate) fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self(Box::new(Cause::Said { kind, message: message.to_string() }))
    }

    /// An error whose cause lies below; the message says what was being done.
    pub(crate) fn because(
        kind: ErrorKind,
        message: impl fmt::Display,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        let message = message.to_string();
        Self(Box::new(Cause::Because { kind, message, source: Box::new(source) }))
    }

    /// What a program does about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match &*self.0 {
            Cause::Spec { complaints } if complaints.only_the_machine_objects() => {
                ErrorKind::Machine
            }
            Cause::Spec { .. } => ErrorKind::Spec,
            Cause::Said { kind, .. }
            | Cause::Because { kind, .. }
            | Cause::Store { kind, .. }
            | Cause::Model { kind, .. } => *kind,
        }
    }

    /// Whether another writer holds the record at this moment.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(&*self.0, Cause::Store { source, .. }
            if source.kind() == mnemoscope_store::ErrorKind::Locked)
    }

    /// Everything that is wrong with a spec, each thing with its place; empty for other failures.
    #[must_use]
    pub fn complaints(&self) -> &[Complaint] {
        match &*self.0 {
            Cause::Spec { complaints } => complaints.items(),
            Cause::Said { .. }
            | Cause::Because { .. }
            | Cause::Store { .. }
            | Cause::Model { .. } => &[],
        }
    }
}

impl From<Complaints> for Error {
    fn from(complaints: Complaints) -> Self {
        Self(Box::new(Cause::Spec { complaints }))
    }
}

impl From<mnemoscope_store::Error> for Error {
    fn from(error: mnemoscope_store::Error) -> Self {
        use mnemoscope_store::ErrorKind as Store;
        let kind = match error.kind() {
            Store::NotFound => ErrorKind::NotFound,
            Store::Ambiguous | Store::Invalid => ErrorKind::Spec,
            Store::Incompatible => ErrorKind::Incompatible,
            Store::Corrupt => ErrorKind::Corrupt,
            Store::Locked | Store::Full | Store::Io => ErrorKind::Machine,
        };
        Self(Box::new(Cause::Store { kind, source: error }))
    }
}

impl From<mnemoscope_engine::device::Unavailable> for Error {
    fn from(unavailable: mnemoscope_engine::device::Unavailable) -> Self {
        Self::new(ErrorKind::Machine, unavailable)
    }
}

impl From<mnemoscope_model::Error> for Error {
    fn from(error: mnemoscope_model::Error) -> Self {
        use mnemoscope_model::ErrorKind as Model;
        let kind = match error.kind() {
            Model::Incompatible => ErrorKind::Incompatible,
            Model::Corrupt => ErrorKind::Corrupt,
            Model::NotFinite => ErrorKind::Diverged,
        };
        Self(Box::new(Cause::Model { kind, source: error }))
    }
}
