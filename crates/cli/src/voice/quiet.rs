//! The voice for scripts: ids and paths on standard output, nothing but failures besides.

use std::io;

use super::{Spoken, Voice, err, out};
use crate::failure::Failure;

/// Speaks as little as it can.
#[derive(Debug)]
pub(crate) struct Quiet;

impl Voice for Quiet {
    fn say(&mut self, answer: &dyn Spoken) -> io::Result<()> {
        out(&answer.brief())
    }

    fn note(&mut self, _words: &str) {}

    fn fail(&mut self, failure: &Failure) -> io::Result<()> {
        err(&failure.to_text());
        Ok(())
    }

    fn shows_progress(&self) -> bool {
        false
    }
}
