//! `mnemoscope demo`: trains a small Transformer from nothing and shows its first glitch.

use clap::Args;
use mnemoscope_lab::plan::resolve;
use mnemoscope_view::result::RunResult;
use mnemoscope_view::text::wrap;
use mnemoscope_view::{WIDTH, run::reads_table};
use serde_json::{Value, json};

use crate::command::plan::Resolved;
use crate::command::replay::{Replayed, nth_glitch};
use crate::command::run::{CheckpointFlags, execute};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::machine::memory_bytes;
use crate::session::Session;
use crate::voice::Spoken;

/// The plan of the demonstration.
pub(crate) const SPEC: &str = include_str!("../spec/demo.toml");

/// Enough checkpoints to see in `serve` how the model came to read.
const CHECKPOINTS: CheckpointFlags = CheckpointFlags { checkpoint_every: 50, keep_checkpoints: 12 };

/// Flags of `demo`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Another value for a key of the demo's spec, such as `model.n_layers=1`; may be repeated
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
}

/// A run and its first glitch.
struct Demonstrated {
    stored: Value,
    result: RunResult,
    path: String,
    replayed: Replayed,
}

impl Spoken for Demonstrated {
    fn page(&self) -> String {
        let mut page = wrap(
            "A small Transformer was trained from nothing to carry one bit over distractors (val), \
             and then asked for it where writes and reads are rarer (val_sparse) or denser \
             (val_dense) than in training. A wrong answer is a glitch.",
            WIDTH,
            "",
        );
        page += &format!("\n{}\n{}", reads_table(&self.result.eval), self.replayed.page());
        let id = &self.result.run;
        page += &format!(
            "\nGo on with\n  mnemoscope show {id}\n  mnemoscope replay {id}:1\n  mnemoscope serve\n  \
             mnemoscope run studies/fflm/lstm-vs-transformer/study.toml\nThe record lies in {}\n",
            self.path
        );
        page
    }

    fn json(&self) -> Value {
        json!({"run": self.stored, "replay": self.replayed.json()})
    }

    fn brief(&self) -> String {
        format!("{}\n", self.result.run)
    }
}

/// Trains, measures, and shows the first glitch; without one the demonstration has failed.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let study = resolve(SPEC, None, &flags.sets, memory_bytes())?;
    let resolved = Resolved { text: SPEC.to_owned(), study };
    let (stored, run) = execute(resolved, CHECKPOINTS, session)?.into_only()?;
    let reader = session.store()?.find(&run.result.run)?;
    if reader.names("glitches")?.is_empty() {
        return Err(Failure::check(format!("run {} made no error to show", run.result.run))
            .help("train less: `mnemoscope run` a spec with a smaller train.n_steps"));
    }
    // A long look back is the glitch that people know; where there is none, any will do.
    let replayed =
        Replayed::of(&reader, nth_glitch(&reader, Some("val_sparse"), 0)?, session.device)?;
    let exit = replayed.exit();
    session.say(&Demonstrated { stored, result: run.result, path: run.path, replayed }, exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demonstration_resolves_to_one_plan() {
        let study = resolve(SPEC, None, &[], None).unwrap();
        assert_eq!(study.plans().count(), 1);
    }
}
