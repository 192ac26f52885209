//! What is wrong with a spec: every complaint at once, each with its place.

use std::fmt;

use serde::Serialize;

/// One thing that is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Complaint {
    /// The path of the value within the spec, such as `model.n_layers`.
    pub path: String,
    /// Where it was written.
    pub place: Place,
    /// What was found there, what is allowed, and where possible what was meant.
    pub message: String,
    /// What kind of mistake it is.
    #[serde(skip)]
    pub(crate) fault: Fault,
}

/// Where a value of a spec was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "in", rename_all = "snake_case")]
pub enum Place {
    /// In the spec's file; both count from 1, columns in characters.
    File {
        /// The line.
        line: u32,
        /// The column.
        column: u32,
    },
    /// On the command line, with `--set`.
    Set,
    /// Nowhere: the value is a default.
    Default,
}

/// What kind of mistake a complaint is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The text is not TOML.
    Syntax,
    /// No such key.
    Key,
    /// The value has the wrong type or lies outside what is allowed for it alone.
    Value,
    /// Values that are allowed one by one do not go together.
    Together,
    /// The plan is sound and this machine cannot hold it.
    Machine,
}

/// Everything that is wrong with one spec.
///
/// Printed, it is one line a complaint: the file, line and column (or `--set`), the path, and what
/// to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Complaints {
    /// What to call the spec: its file, or `spec`.
    file: String,
    items: Vec<Complaint>,
}

impl Complaints {
    /// No complaints yet about the spec called `file`.
    pub(crate) fn about(file: &str) -> Self {
        Self { file: file.to_owned(), items: Vec::new() }
    }

    /// Adds a complaint unless the same was said before: arms share most of their values.
    pub(crate) fn push(&mut self, complaint: Complaint) {
        if !self.items.contains(&complaint) {
            self.items.push(complaint);
        }
    }

    /// The complaints, in the order of the file.
    pub(crate) fn items(&self) -> &[Complaint] {
        &self.items
    }

    /// Whether the spec is fine and only too large for this machine.
    pub(crate) fn only_the_machine_objects(&self) -> bool {
        self.items.iter().all(|complaint| complaint.fault == Fault::Machine)
    }

    /// Nothing if nothing is wrong.
    pub(crate) fn into_result(mut self) -> Result<(), Self> {
        if self.items.is_empty() {
            return Ok(());
        }
        self.items.sort_by_key(|complaint| complaint.place);
        Err(self)
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.items.len();
        let things = if n == 1 { "one thing is wrong" } else { "things are wrong" };
        match n {
            1 => write!(f, "{things} with {}:", self.file)?,
            _ => write!(f, "{n} {things} with {}:", self.file)?,
        }
        for Complaint { path, place, message, .. } in &self.items {
            write!(f, "\n  ")?;
            match place {
                Place::File { line, column } => write!(f, "{}:{line}:{column}: ", self.file)?,
                Place::Set => write!(f, "--set ")?,
                Place::Default => write!(f, "{}: ", self.file)?,
            }
            match path.as_str() {
                "" => write!(f, "{message}")?,
                path => write!(f, "{path}: {message}")?,
            }
        }
        Ok(())
    }
}
