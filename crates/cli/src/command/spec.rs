//! `mnemoscope spec`: the commented default spec, which is the documentation of every key.

use clap::Args;
use mnemoscope_lab::plan::DEFAULT_SPEC;
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// Flags of `spec`.
#[derive(Debug, Args)]
pub(crate) struct Flags {}

struct DefaultSpec;

impl Spoken for DefaultSpec {
    fn page(&self) -> String {
        DEFAULT_SPEC.to_owned()
    }

    fn json(&self) -> Value {
        json!({"spec": DEFAULT_SPEC})
    }

    fn brief(&self) -> String {
        // Whoever asks for the spec wants the spec, however quietly.
        self.page()
    }
}

/// Prints the default spec.
pub(crate) fn run(_flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    session.say(&DefaultSpec, Exit::Done)
}
