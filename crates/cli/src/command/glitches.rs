//! `mnemoscope glitches`: where the errors of a finished run live.

use clap::{Args, ValueEnum};
use mnemoscope_lab::eval::By;
use mnemoscope_view::breakdown::{SetApart, page};
use serde_json::Value;

use crate::command::eval::{AgainFlags, Remeasured};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// Flags of `glitches`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    again: AgainFlags,
    /// Tell reads apart by this only; may be repeated
    #[arg(long, value_name = "WHAT")]
    by: Vec<Choice>,
}

/// By what reads are told apart, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// Instructions from the last write to the read
    Distance,
    /// Writes before it
    Writes,
    /// Ignores since the last read or write
    Ignores,
    /// Instructions before it
    Position,
    /// Whether the last ignored bit since the write is the right one
    Distractor,
}

impl Choice {
    fn by(self) -> By {
        match self {
            Self::Distance => By::Distance,
            Self::Writes => By::Writes,
            Self::Ignores => By::Ignores,
            Self::Position => By::Position,
            Self::Distractor => By::Distractor,
        }
    }
}

impl Spoken for Remeasured<SetApart> {
    fn page(&self) -> String {
        page(self.stored["run"].as_str().unwrap_or_default(), &self.eval, self.agrees)
    }

    fn json(&self) -> Value {
        self.stored.clone()
    }
}

/// Measures a run again, apart.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let wanted: Vec<By> = flags.by.iter().map(|choice| choice.by()).collect();
    let by = By::ALL.into_iter().filter(|by| wanted.is_empty() || wanted.contains(by)).collect();
    let apart: Remeasured<SetApart> = flags.again.measure(by, session)?;
    let exit = apart.exit();
    session.say(&apart, exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_can_be_told_apart_by_everything_there_is() {
        let chosen: Vec<By> = Choice::value_variants().iter().map(|choice| choice.by()).collect();
        assert_eq!(chosen, By::ALL);
        for choice in Choice::value_variants() {
            let typed = choice.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(typed.as_deref(), Some(choice.by().name()));
        }
    }
}
