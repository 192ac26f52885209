//! `mnemoscope sweep`: all plans of a spec side by side, here or on a cluster.

mod cluster;
pub(crate) mod local;
mod status;
mod watch;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mnemoscope_lab::sweep::Shard;

use crate::command::run::CheckpointFlags;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use cluster::{ClusterFlags, Place};

/// Flags of `sweep`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true
)]
pub(crate) struct Flags {
    #[command(subcommand)]
    submitted: Option<Submitted>,
    #[command(flatten)]
    start: Start,
}

/// What is done with a sweep that was submitted.
#[derive(Debug, Subcommand)]
enum Submitted {
    /// Say how a submitted sweep stands
    Status(status::Flags),
    /// Take a submitted sweep out of the queue; what was done is saved
    Cancel(status::Flags),
}

/// What is run, and how.
#[derive(Debug, Args)]
struct Start {
    /// The spec of a study
    #[arg(required = true)]
    file: Option<PathBuf>,
    /// Another value for a key of the spec, such as `model.n_layers=1`; may be repeated
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Only part I of N of the plans, counted from 0; one process for each makes the whole
    #[arg(long, value_name = "I/N", default_value_t = Shard::WHOLE, hide_default_value = true)]
    shard: Shard,
    /// How often a run is tried again that crashed or that the machine refused
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// The most runs that train side by side in one program of a GPU [default: as its memory holds, at most 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    cohort: Option<u16>,
    #[command(flatten)]
    checkpoints: CheckpointFlags,
    /// The sweep that the file must still be: tasks of a cluster start long after they were written
    #[arg(long, value_name = "ID", hide = true)]
    expect: Option<String>,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Runs a sweep, or says how one stands.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let start = &flags.start;
    match (&flags.submitted, &start.file) {
        (Some(Submitted::Status(flags)), _) => status::status(flags, session),
        (Some(Submitted::Cancel(flags)), _) => status::cancel(flags, session),
        (None, Some(file)) if start.cluster.on == Place::Local => local::run(file, start, session),
        (None, Some(file)) => cluster::run(file, start, session),
        (None, None) => Err(Failure::usage("name the spec of a sweep: `mnemoscope sweep FILE`")),
    }
}
