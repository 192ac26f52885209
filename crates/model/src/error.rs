//! What can go wrong with a model's numbers, and what a program does about it.

/// A failure to make a model out of stored numbers, or to go on with those it has.
///
/// Programs branch on [`Error::kind`]; people read the message.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Cause>);

/// The few answers a caller can give to an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The numbers are sound, but belong to another model or to another kind of file.
    Incompatible,
    /// The bytes are damaged.
    Corrupt,
    /// A number that had to be finite was not.
    NotFinite,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error("not a sound safetensors file ({why}); restore the file or use another checkpoint")]
    Damaged { why: String },
    #[error("tensor `{name}` holds {found} numbers, this release reads F32; convert the file")]
    Precision { name: String, found: String },
    #[error("the parameters do not fit the model: {}", complaints.join("; "))]
    Misfit { complaints: Vec<String> },
    #[error(
        "the optimiser's state does not fit: {}; restart the run or use another checkpoint",
        complaints.join("; ")
    )]
    OptimMisfit { complaints: Vec<String> },
    #[error("{what} `{param}` is not finite; try a smaller learning rate, or clip the gradient")]
    NotFinite { what: &'static str, param: String },
    #[error("{complaint}")]
    Point { complaint: String },
}

impl Error {
    /// What a program does about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match &*self.0 {
            Cause::Damaged { .. } => ErrorKind::Corrupt,
            Cause::NotFinite { .. } => ErrorKind::NotFinite,
            Cause::Precision { .. }
            | Cause::Misfit { .. }
            | Cause::OptimMisfit { .. }
            | Cause::Point { .. } => ErrorKind::Incompatible,
        }
    }
}

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        Self(Box::new(cause))
    }
}
