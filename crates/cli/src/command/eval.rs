//! `mnemoscope eval`: measures a finished run again, on its own sets or on fresh examples.

use std::collections::BTreeMap;

use clap::Args;
use mnemoscope_lab::again::{Again, eval_run};
use mnemoscope_lab::eval::By;
use mnemoscope_store::RunReader;
use mnemoscope_view::result::SetResult;
use mnemoscope_view::run::measurements;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// What is measured again: the flags of `eval`, and of every verb that does the same.
#[derive(Debug, Args)]
pub(crate) struct AgainFlags {
    /// `latest`, or the beginning of a run's id
    run: String,
    /// Only this set of the plan; may be repeated
    #[arg(long = "set", value_name = "NAME")]
    sets: Vec<String>,
    /// Another number of examples than the plan's
    #[arg(long, alias = "n-examples", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    examples: Option<u64>,
    /// Another eval seed than the plan's: examples that nobody has looked at
    #[arg(long, value_name = "N")]
    eval_seed: Option<u64>,
}

/// A run that was measured again.
pub(super) struct Remeasured<S> {
    pub(super) run: RunReader,
    pub(super) stored: Value,
    pub(super) eval: BTreeMap<String, S>,
    /// Whether the counts are the recorded ones, where they can be compared.
    pub(super) agrees: Option<bool>,
}

impl<S> Remeasured<S> {
    /// Counts that differ from the record are a failed check.
    pub(super) fn exit(&self) -> Exit {
        if self.agrees == Some(false) { Exit::CheckFailed } else { Exit::Done }
    }
}

impl AgainFlags {
    /// Measures a run again, its reads told apart `by` some things or by none.
    pub(super) fn measure<S: DeserializeOwned>(
        &self,
        by: Vec<By>,
        session: &mut Session,
    ) -> Result<Remeasured<S>, Failure> {
        let run = session.store()?.find(&self.run)?;
        let again = Again {
            sets: self.sets.clone(),
            n_examples: self.examples,
            eval_seed: self.eval_seed,
            by,
            n_threads: session.n_threads,
            device: session.device,
        };
        let mut watch = session.watch()?;
        let stored = eval_run(&run, &again, &session.clock, &mut watch)?;
        watch.finish();
        let eval = BTreeMap::deserialize(&stored["eval"])
            .map_err(|why| Failure::input("the evaluation is not readable").because(&why))?;
        let agrees = stored["agrees"].as_bool();
        Ok(Remeasured { run, stored, eval, agrees })
    }
}

struct Measured {
    again: Remeasured<SetResult>,
    task: Value,
}

impl Spoken for Measured {
    fn page(&self) -> String {
        let run = self.again.stored["run"].as_str().unwrap_or_default();
        let verdict = match self.again.agrees {
            Some(true) => "\nEvery count is the recorded one.\n",
            Some(false) => "\nThe counts DIFFER from the record.\n",
            None => "\nNot what the record measured, so there is nothing to compare with.\n",
        };
        format!(
            "Run {run}, measured again\n{}{verdict}",
            measurements(&self.again.eval, &self.task)
        )
    }

    fn json(&self) -> Value {
        self.again.stored.clone()
    }
}

/// Measures a run again.
pub(crate) fn run(flags: &AgainFlags, session: &mut Session) -> Result<Exit, Failure> {
    let again: Remeasured<SetResult> = flags.measure(Vec::new(), session)?;
    let (exit, task) = (again.exit(), again.run.plan()["task"].clone());
    session.say(&Measured { again, task }, exit)
}
