//! The voice for people: pages and tables on standard output.

use std::io;

use super::{Spoken, Voice, err, out};
use crate::failure::Failure;

/// Speaks to people.
#[derive(Debug)]
pub(crate) struct Table;

impl Voice for Table {
    fn say(&mut self, answer: &dyn Spoken) -> io::Result<()> {
        out(&answer.page())
    }

    fn note(&mut self, words: &str) {
        err(&format!("{words}\n"));
    }

    fn fail(&mut self, failure: &Failure) -> io::Result<()> {
        err(&failure.to_text());
        Ok(())
    }

    fn shows_progress(&self) -> bool {
        true
    }
}
