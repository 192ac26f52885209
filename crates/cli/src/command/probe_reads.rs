//! `mnemoscope probe` of a run on flip-flop: where the heads look from its reads.

use clap::Args;
use mnemoscope_lab::probe::flipflop::{Reads, Which, finished};
use mnemoscope_store::RunReader;
use mnemoscope_view::probe::page;
use serde::Deserialize as _;
use serde_json::Value;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// Flags of `probe` that runs on flip-flop understand.
#[derive(Debug, Args)]
#[command(next_help_heading = "Of a run on flip-flop")]
pub(crate) struct ReadFlags {
    /// The evaluation set whose examples are looked at [default: the first by name]
    #[arg(long, value_name = "NAME")]
    set: Option<String>,
    /// Look at examples in which the record keeps a glitch
    #[arg(long)]
    glitches: bool,
}

impl ReadFlags {
    /// Refuses these flags where they would do nothing.
    pub(crate) fn check_unused(&self) -> Result<(), Failure> {
        if self.set.is_none() && !self.glitches {
            return Ok(());
        }
        let what = "--set and --glitches choose examples of flip-flop, and the run is on bigrams";
        Err(Failure::usage(format!("{what}; leave them out")))
    }
}

struct Probed {
    run: String,
    stored: Value,
    reads: mnemoscope_view::probe::Reads,
}

impl Spoken for Probed {
    fn page(&self) -> String {
        page(&self.run, &self.reads)
    }

    fn json(&self) -> Value {
        self.stored.clone()
    }
}

/// Whether a run is one that this file probes.
pub(crate) fn is_asked(run: &RunReader) -> bool {
    run.plan()["task"]["name"] != "bigram"
}

/// Probes the last checkpoint of a run at the reads of some examples.
pub(crate) fn run(
    run: &RunReader,
    flags: &ReadFlags,
    n_examples: u16,
    draws: bool,
    session: &mut Session,
) -> Result<Exit, Failure> {
    if draws {
        let what = "--pictures, --text and --output are of runs on bigrams";
        return Err(Failure::usage(format!("{what}; leave them out")));
    }
    let n = u64::from(n_examples);
    let which = if flags.glitches { Which::WithGlitches(n) } else { Which::First(n) };
    let found: Reads =
        finished(run, flags.set.as_deref(), which, session.n_threads, session.device)?;
    let unreadable =
        |why: &serde_json::Error| Failure::input("the probe is not readable").because(why);
    let mut stored = serde_json::to_value(&found).map_err(|why| unreadable(&why))?;
    let reads =
        mnemoscope_view::probe::Reads::deserialize(&stored).map_err(|why| unreadable(&why))?;
    stored["run"] = Value::from(run.id());
    session.say(&Probed { run: run.id().to_owned(), stored, reads }, Exit::Done)
}
