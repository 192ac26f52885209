//! The flags that every verb takes, and the list of verbs.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use mnemoscope_lab::engine::device::{Device, Unavailable};

use crate::command::{
    demo, doctor, eval, figure, gallery, generate, glitches, plan, probe, prune, replay, report,
    reproduce, run, runs, score, serve, show, spec, sweep, theory,
};

/// The end of the long help.
const AFTER: &str = "\
Exit codes: 0 done; 1 a claim or a check failed; 2 bad usage or a bad spec; 3 an input is damaged \
or of another release; 4 the machine refused (disk, memory, a record in use); 130 interrupted, \
the state is saved.

Begin with `mnemoscope demo`, or with `mnemoscope spec > my.toml` and `mnemoscope run my.toml`.";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "mnemoscope",
    version,
    about = "An instrument for looking at memory in sequence models",
    long_about = "An instrument for looking at memory in sequence models: where it forms during \
                  training, and where it glitches.",
    after_long_help = AFTER,
    max_term_width = 80,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Flags of every verb.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Globals {
    /// Print exactly one JSON object on standard output; words for people go to standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print only ids and paths, and no progress
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Where records lie [default: $MNEMOSCOPE_STORE, else ./runs]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// Threads to work with; no number depends on it [default: $MNEMOSCOPE_THREADS, else all
    /// cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
    /// Where models are computed: cpu, cuda:N, vulkan:N, metal:N, or auto for the fastest kind there is;
    /// `doctor` lists what is there
    #[arg(long, global = true, value_name = "DEVICE", default_value = "cpu", value_parser = device)]
    pub(crate) device: Device,
}

/// The device of a name, or the best one.
fn device(text: &str) -> Result<Device, Unavailable> {
    if text == "auto" { Ok(Device::best()) } else { text.parse() }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show a first glitch and its replay, in about a minute
    Demo(demo::Flags),
    /// Show every task with drawn examples
    Gallery(gallery::Flags),
    /// Write examples of a task as jsonl, parquet, npy or text
    Generate(Box<generate::Flags>),
    /// Count what a language model answered to generated stories, by length
    Score(score::Flags),
    /// Print the default spec, every key with its meaning
    Spec(spec::Flags),
    /// Resolve a spec: its plans, their ids, parameters and cost
    Plan(plan::Flags),
    /// Train and measure one plan, or all plans of a study
    Run(run::Flags),
    /// Run all plans of a study side by side
    Sweep(sweep::Flags),
    /// Run every study of a paper, published numbers beside measured ones
    Reproduce(reproduce::Flags),
    /// Measure a finished run again, or on fresh examples
    Eval(eval::AgainFlags),
    /// Probe a finished run: what its matrices remember, where its layers look
    Probe(probe::Flags),
    /// Say where the errors of a finished run live: how far, after what
    Glitches(glitches::Flags),
    /// Show a glitch again: same logits to the bit, and its attention
    Replay(replay::Flags),
    /// List runs: filtered, sorted, grouped, or as a file
    Runs(runs::Flags),
    /// Remove checkpoints that sealed runs no longer need; shows first what would go
    Prune(prune::Flags),
    /// Show one run
    Show(show::Flags),
    /// Draw runs or a study as SVG or PNG, every point with its run and count
    Figure(figure::Flags),
    /// Write a study or runs as one page that opens anywhere: claims, figures, numbers, glitches
    Report(report::Flags),
    /// Show the store in a browser: runs live, figures, studies, and failing sequences to edit
    Serve(serve::Flags),
    /// Check the theory of both papers, formula by formula
    Theory(theory::Flags),
    /// Look at the machine and the store, and check the instrument itself
    Doctor(doctor::Flags),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_flags_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
