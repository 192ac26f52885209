//! The voice for programs: exactly one JSON object on standard output, people's words beside it.

use std::io;

use serde_json::{Value, json};

use super::{Spoken, Voice, err, out};
use crate::failure::Failure;

/// Speaks to programs, and on standard error to whoever looks over their shoulder.
#[derive(Debug)]
pub(crate) struct Json {
    /// Keeps people's words back.
    pub(crate) quiet: bool,
}

impl Voice for Json {
    fn say(&mut self, answer: &dyn Spoken) -> io::Result<()> {
        if !self.quiet {
            err(&answer.page());
        }
        out_line(&answer.json())
    }

    fn note(&mut self, words: &str) {
        if !self.quiet {
            err(&format!("{words}\n"));
        }
    }

    fn fail(&mut self, failure: &Failure) -> io::Result<()> {
        err(&failure.to_text());
        out_line(&json!({"error": failure.to_json()}))
    }

    fn shows_progress(&self) -> bool {
        !self.quiet
    }

    fn is_json(&self) -> bool {
        true
    }
}

fn out_line(object: &Value) -> io::Result<()> {
    out(&format!("{object}\n"))
}
