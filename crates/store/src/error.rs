//! Failures of the store: the kind is what a program does about it, the message what a person does.

use std::io;
use std::path::{Path, PathBuf};

use crate::format::FormatVersion;

/// A failure of the store.
///
/// Programs branch on [`Error::kind`]; people read the message and its sources.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Cause>);

/// The few answers a caller can give to an [`Error`].
///
/// Exhaustive on purpose: whoever maps kinds to exit codes or exceptions is told by the compiler
/// when one is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nothing is recorded under that name.
    NotFound,
    /// The name fits several runs.
    Ambiguous,
    /// The request itself makes no sense: an unreadable filter, or another plan under a used id.
    Invalid,
    /// The record was written by a release this one cannot read.
    Incompatible,
    /// The record is damaged.
    Corrupt,
    /// Another process (or another writer in this one) is working on the run.
    Locked,
    /// The disk, or the quota on it, is full.
    Full,
    /// The operating system refused.
    Io,
}

impl Error {
    /// What a program can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match *self.0 {
            Cause::NoSuchRun { .. }
            | Cause::NoRuns { .. }
            | Cause::NoSuchSweep { .. }
            | Cause::NoSuchStore { .. }
            | Cause::NoSuchFile { .. }
            | Cause::NoSuchCheckpoint { .. } => ErrorKind::NotFound,
            Cause::AmbiguousRun { .. } | Cause::AmbiguousSweep { .. } => ErrorKind::Ambiguous,
            Cause::OtherPlan { .. } | Cause::Filter { .. } => ErrorKind::Invalid,
            Cause::Format { .. } => ErrorKind::Incompatible,
            Cause::Damaged { .. } | Cause::DamagedEvent { .. } | Cause::EventsCut { .. } => {
                ErrorKind::Corrupt
            }
            Cause::Locked { .. } => ErrorKind::Locked,
            Cause::Full { .. } => ErrorKind::Full,
            Cause::Read { .. }
            | Cause::Write { .. }
            | Cause::Unwritable { .. }
            | Cause::Lock { .. }
            | Cause::Index { .. } => ErrorKind::Io,
        }
    }

    /// A read of `path` that the operating system refused.
    pub(crate) fn reading(path: &Path, source: io::Error) -> Self {
        Cause::Read { path: path.to_owned(), source }.into()
    }

    /// A write to `path` that did not happen: a full disk has a kind of its own.
    pub(crate) fn writing(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Cause::Full { path, source }.into()
            }
            _ => Cause::Write { path, source }.into(),
        }
    }

    /// A file that does not hold what was written into it.
    pub(crate) fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Cause::Damaged { path: path.to_owned(), why: why.into() }.into()
    }
}

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        Self(Box::new(cause))
    }
}

/// Everything that goes wrong here, with the message for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error("no run matches `{selector}`; `mnemoscope runs` lists them")]
    NoSuchRun { selector: String },
    #[error("the store {root} holds no runs yet; `mnemoscope run FILE` makes one", root = root.display())]
    NoRuns { root: PathBuf },
    #[error("there is no store at {root}; choose one with `--store DIR`", root = root.display())]
    NoSuchStore { root: PathBuf },
    #[error("run `{id}` has no file `{name}`")]
    NoSuchFile { id: String, name: String },
    #[error("run `{id}` has no checkpoint of step {step}; it has {kept}")]
    NoSuchCheckpoint { id: String, step: u64, kept: String },
    #[error("`{selector}` matches {n_matches} runs; type more of the id")]
    AmbiguousRun { selector: String, n_matches: usize },
    #[error(
        "no sweep `{id}` was submitted from this store; `mnemoscope sweep FILE --on slurm` submits one"
    )]
    NoSuchSweep { id: String },
    #[error("`{id}` matches {n_matches} sweeps; type more of the id")]
    AmbiguousSweep { id: String, n_matches: usize },
    #[error("run `{id}` was begun with another plan; give this plan an id of its own")]
    OtherPlan { id: String },
    #[error("the filter `{text}` {why}; write for example `plan.model.n_layers=2`")]
    Filter { text: String, why: &'static str },
    #[error("{path} has format {found}, this release reads {supported}; see docs/formats.md", path = path.display())]
    Format { path: PathBuf, found: FormatVersion, supported: FormatVersion },
    #[error("{path} is damaged: {why}; restore it from a copy, or move the run away and run it again", path = path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("{path} is damaged at event {event_idx}: {why}; restore it from a copy, or move the run away and run it again", path = path.display())]
    DamagedEvent { path: PathBuf, event_idx: u64, why: &'static str },
    #[error("{path} ends after {n_events} events, but the run was sealed with more; restore it from a copy, or move the run away and run it again", path = path.display())]
    EventsCut { path: PathBuf, n_events: usize },
    #[error("run `{id}` is in use by {holder}; wait until it ends")]
    Locked { id: String, holder: String },
    #[error("no space left to write {path}; free some and run again: it goes on from its last good checkpoint", path = path.display())]
    Full { path: PathBuf, source: io::Error },
    #[error("cannot read {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path}", path = path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the store {root} cannot be written; choose another with `--store DIR`", root = root.display())]
    Unwritable { root: PathBuf, source: io::Error },
    #[error("cannot lock {path}; does its file system support locks?", path = path.display())]
    Lock { path: PathBuf, source: io::Error },
    #[error("cannot list the runs")]
    Index { source: rusqlite::Error },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One message with its kind and the text that a person reads.
    #[track_caller]
    fn check(cause: Cause, kind: ErrorKind, expected: &str) {
        let error = Error::from(cause);
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, expected));
    }

    fn path(name: &str) -> PathBuf {
        Path::new("runs/3f9c").join(name)
    }

    #[test]
    fn what_is_not_there_says_where_to_look() {
        let (id, selector) = ("3f9c".to_owned(), "4a".to_owned());
        check(
            Cause::NoSuchRun { selector: selector.clone() },
            ErrorKind::NotFound,
            "no run matches `4a`; `mnemoscope runs` lists them",
        );
        check(
            Cause::NoRuns { root: "runs".into() },
            ErrorKind::NotFound,
            "the store runs holds no runs yet; `mnemoscope run FILE` makes one",
        );
        check(
            Cause::NoSuchStore { root: "runs".into() },
            ErrorKind::NotFound,
            "there is no store at runs; choose one with `--store DIR`",
        );
        check(
            Cause::NoSuchFile { id: id.clone(), name: "eval/val.json".to_owned() },
            ErrorKind::NotFound,
            "run `3f9c` has no file `eval/val.json`",
        );
        check(
            Cause::NoSuchCheckpoint { id: id.clone(), step: 7, kept: "400, 500".to_owned() },
            ErrorKind::NotFound,
            "run `3f9c` has no checkpoint of step 7; it has 400, 500",
        );
        check(
            Cause::AmbiguousRun { selector, n_matches: 3 },
            ErrorKind::Ambiguous,
            "`4a` matches 3 runs; type more of the id",
        );
        check(
            Cause::OtherPlan { id: id.clone() },
            ErrorKind::Invalid,
            "run `3f9c` was begun with another plan; give this plan an id of its own",
        );
        check(
            Cause::Filter { text: "plan".to_owned(), why: "compares nothing" },
            ErrorKind::Invalid,
            "the filter `plan` compares nothing; write for example `plan.model.n_layers=2`",
        );
        check(
            Cause::Locked { id, holder: "process 12".to_owned() },
            ErrorKind::Locked,
            "run `3f9c` is in use by process 12; wait until it ends",
        );
    }

    #[test]
    fn what_is_damaged_or_newer_says_which_file_and_what_to_do() {
        check(
            Cause::Format {
                path: path("record.json"),
                found: FormatVersion { major: 2, minor: 3 },
                supported: FormatVersion { major: 1, minor: 0 },
            },
            ErrorKind::Incompatible,
            "runs/3f9c/record.json has format 2.3, this release reads 1.0; see docs/formats.md",
        );
        check(
            Cause::Damaged { path: path("plan.json"), why: "the file is missing".to_owned() },
            ErrorKind::Corrupt,
            "runs/3f9c/plan.json is damaged: the file is missing; \
             restore it from a copy, or move the run away and run it again",
        );
        check(
            Cause::DamagedEvent {
                path: path("events.jsonl"),
                event_idx: 4,
                why: "its number is not in order",
            },
            ErrorKind::Corrupt,
            "runs/3f9c/events.jsonl is damaged at event 4: its number is not in order; \
             restore it from a copy, or move the run away and run it again",
        );
        check(
            Cause::EventsCut { path: path("events.jsonl"), n_events: 4 },
            ErrorKind::Corrupt,
            "runs/3f9c/events.jsonl ends after 4 events, but the run was sealed with more; \
             restore it from a copy, or move the run away and run it again",
        );
    }

    #[test]
    fn a_full_disk_has_a_kind_of_its_own() {
        for full in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let error = Error::writing(&path("plan.json"), full.into());
            assert_eq!(error.kind(), ErrorKind::Full);
            assert_eq!(
                error.to_string(),
                "no space left to write runs/3f9c/plan.json; \
                 free some and run again: it goes on from its last good checkpoint"
            );
        }
        let refused = Error::writing(&path("plan.json"), io::ErrorKind::PermissionDenied.into());
        assert_eq!(refused.kind(), ErrorKind::Io);
        assert_eq!(refused.to_string(), "cannot write runs/3f9c/plan.json");
        let source = std::error::Error::source(&refused).map(ToString::to_string);
        assert_eq!(source.as_deref(), Some("permission denied"));
    }

    #[test]
    fn what_the_system_refuses_is_named() {
        let source = || io::Error::from(io::ErrorKind::PermissionDenied);
        check(
            Cause::Read { path: path("plan.json"), source: source() },
            ErrorKind::Io,
            "cannot read runs/3f9c/plan.json",
        );
        check(
            Cause::Unwritable { root: "runs".into(), source: source() },
            ErrorKind::Io,
            "the store runs cannot be written; choose another with `--store DIR`",
        );
        check(
            Cause::Lock { path: path("lock"), source: source() },
            ErrorKind::Io,
            "cannot lock runs/3f9c/lock; does its file system support locks?",
        );
        check(
            Cause::Index { source: rusqlite::Error::InvalidQuery },
            ErrorKind::Io,
            "cannot list the runs",
        );
    }
}
