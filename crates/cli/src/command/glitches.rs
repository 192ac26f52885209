//! `mnemoscope glitches`: where the errors of a finished run live.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use mnemoscope_lab::again::{Again, eval_run};
use mnemoscope_lab::eval::By;
use mnemoscope_view::breakdown::{SetApart, page};
use serde::Deserialize as _;
use serde_json::Value;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// Flags of `glitches`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// `latest`, or the beginning of a run's id
    run: String,
    /// Only this set of the plan; may be repeated
    #[arg(long = "set", value_name = "NAME")]
    sets: Vec<String>,
    /// Tell reads apart by this only; may be repeated
    #[arg(long, value_name = "WHAT")]
    by: Vec<Choice>,
    /// Another number of examples than the plan's
    #[arg(long, alias = "n-examples", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    examples: Option<u64>,
    /// Another eval seed than the plan's: examples that nobody has looked at
    #[arg(long, value_name = "N")]
    eval_seed: Option<u64>,
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

struct Apart {
    stored: Value,
    eval: BTreeMap<String, SetApart>,
    agrees: Option<bool>,
}

impl Spoken for Apart {
    fn page(&self) -> String {
        page(self.stored["run"].as_str().unwrap_or_default(), &self.eval, self.agrees)
    }

    fn json(&self) -> Value {
        self.stored.clone()
    }
}

/// Measures a run again, apart; counts that differ from the record are a failed check.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let run = session.store()?.find(&flags.run)?;
    let wanted: Vec<By> = flags.by.iter().map(|choice| choice.by()).collect();
    let again = Again {
        sets: flags.sets.clone(),
        n_examples: flags.examples,
        eval_seed: flags.eval_seed,
        by: By::ALL.into_iter().filter(|by| wanted.is_empty() || wanted.contains(by)).collect(),
        n_threads: session.n_threads,
    };
    let mut watch = session.watch()?;
    let stored = eval_run(&run, &again, &session.clock, &mut watch)?;
    watch.finish();
    let eval = BTreeMap::deserialize(&stored["eval"])
        .map_err(|why| Failure::input("the evaluation is not readable").because(&why))?;
    let agrees = stored["agrees"].as_bool();
    let exit = if agrees == Some(false) { Exit::CheckFailed } else { Exit::Done };
    session.say(&Apart { stored, eval, agrees }, exit)
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
