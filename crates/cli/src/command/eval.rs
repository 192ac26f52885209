//! `mnemoscope eval`: measures a finished run again, on its own sets or on fresh examples.

use std::collections::BTreeMap;

use clap::Args;
use mnemoscope_lab::again::{Again, eval_run};
use mnemoscope_view::result::SetResult;
use mnemoscope_view::run::measurements;
use serde::Deserialize as _;
use serde_json::Value;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// Flags of `eval`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// `latest`, or the beginning of a run's id
    run: String,
    /// Only this set of the plan; may be repeated
    #[arg(long = "set", value_name = "NAME")]
    sets: Vec<String>,
    /// Another number of examples than the plan's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    examples: Option<u64>,
    /// Another eval seed than the plan's: examples that nobody has looked at
    #[arg(long, value_name = "N")]
    eval_seed: Option<u64>,
}

struct Measured {
    stored: Value,
    eval: BTreeMap<String, SetResult>,
    task: Value,
    agrees: Option<bool>,
}

impl Spoken for Measured {
    fn page(&self) -> String {
        let run = self.stored["run"].as_str().unwrap_or_default();
        let verdict = match self.agrees {
            Some(true) => "\nEvery count is the recorded one.\n",
            Some(false) => "\nThe counts DIFFER from the record.\n",
            None => "\nNot what the record measured, so there is nothing to compare with.\n",
        };
        format!("Run {run}, measured again\n{}{verdict}", measurements(&self.eval, &self.task))
    }

    fn json(&self) -> Value {
        self.stored.clone()
    }
}

/// Measures a run again; counts that differ from the record are a failed check.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let run = session.store()?.find(&flags.run)?;
    let again = Again {
        sets: flags.sets.clone(),
        n_examples: flags.examples,
        eval_seed: flags.eval_seed,
        by: Vec::new(),
        n_threads: session.n_threads,
    };
    let mut watch = session.watch()?;
    let stored = eval_run(&run, &again, &session.clock, &mut watch)?;
    watch.finish();
    let eval = BTreeMap::deserialize(&stored["eval"])
        .map_err(|why| Failure::input("the evaluation is not readable").because(&why))?;
    let agrees = stored["agrees"].as_bool();
    let exit = if agrees == Some(false) { Exit::CheckFailed } else { Exit::Done };
    let task = run.plan()["task"].clone();
    session.say(&Measured { stored, eval, task, agrees }, exit)
}
