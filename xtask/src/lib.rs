//! The rules of the house that no compiler holds, as functions that return what breaks them.
//!
//! Each rule takes plain data (a list of rooms, a parsed file, the text of a document) and gives
//! back [`Finding`]s. `tests/house.rs` applies every rule to this repository and expects none; the
//! unit tests beside a rule feed it a small offence and expect it to be found, so no rule can pass
//! because it looks at nothing.
//!
//! | Module | Holds |
//! |---|---|
//! | [`arrows`] | who may know whom |
//! | [`invariants`] | what a room must not touch: the clock, threads, the network, the environment, `unsafe` |
//! | [`tidy`] | headers, sizes, left-overs, files nobody includes |
//! | [`lexicon`] | one word per thing in public names |
//! | [`docs`] | documents that name the code, and code that documents must name |

use std::fmt;
use std::path::{Path, PathBuf};

pub mod arrows;
pub mod docs;
pub mod invariants;
pub mod lexicon;
pub mod source;
pub mod tidy;
pub mod workspace;

/// One offence against a rule: where it is, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// A path relative to the root, with a line where there is one.
    pub place: String,
    /// What is wrong there and how to mend it.
    pub message: String,
}

impl Finding {
    /// An offence at `place`.
    pub fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// The root of the repository this crate was built from.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.to_path_buf(), Path::to_path_buf)
}

/// Fails with every finding on a line of its own.
///
/// # Panics
///
/// If there is a finding: the rules are tests.
///
/// # Example
///
/// ```
/// xtask::assert_clean("arrows", &[]);
/// ```
#[track_caller]
pub fn assert_clean(rule: &str, findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{rule}: {} to mend\n  {}", lines.len(), lines.join("\n  "));
}
