//! How a submitted sweep stands, and how it is taken out of the queue.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use mnemoscope_lab::launch::slurm::{QUEUE_FORMAT, QueueLine, queue_lines};
use mnemoscope_lab::sweep::{Planned, id, planned};
use mnemoscope_store::{ErrorKind, Status, Store};
use mnemoscope_view::table::{Align, Table};
use mnemoscope_view::{number, text};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cluster::said_by;
use crate::command::plan::{Resolved, resolve_file};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// Flags of `sweep status` and `sweep cancel`.
#[derive(Debug, Args)]
pub(super) struct Flags {
    /// The spec that was submitted, or the beginning of the sweep's id
    sweep: String,
    /// What was set when it was submitted; may be repeated
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
}

/// What the store knows of a submitted sweep.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) sweep: String,
    pub(super) study: String,
    pub(super) file: PathBuf,
    /// Ids of the plans, in their order.
    pub(super) plans: Vec<String>,
    /// Slurm's number of each submission, the oldest first.
    pub(super) slurm_ids: Vec<String>,
    pub(super) submitted_secs: u64,
}

impl Known {
    /// A sweep that is submitted for the first time.
    pub(super) fn new(sweep: &str, study: &str, file: &Path, plans: &[Planned]) -> Self {
        Self {
            sweep: sweep.to_owned(),
            study: study.to_owned(),
            file: file.to_owned(),
            plans: plans.iter().map(|planned| planned.plan.id()).collect(),
            slurm_ids: Vec::new(),
            submitted_secs: 0,
        }
    }

    /// What is known of a sweep; `None` if it was never submitted.
    pub(super) fn of(store: &Store, sweep: &str) -> Result<Option<Self>, Failure> {
        match store.sweep(sweep) {
            Ok(record) => serde_json::from_value(record).map(Some).map_err(|why| {
                Failure::input(format!("the record of sweep {sweep} is not readable")).because(&why)
            }),
            Err(absent) if absent.kind() == ErrorKind::NotFound => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        json!(self)
    }
}

/// The sweep that flags name: a file that is resolved, or an id.
fn named(flags: &Flags, session: &Session) -> Result<(Store, Known), Failure> {
    let store = session.store()?;
    let file = Path::new(&flags.sweep);
    let sweep = if file.exists() {
        let Resolved { study, .. } = resolve_file(file, &flags.sets)?;
        id(&planned(&study))
    } else {
        flags.sweep.clone()
    };
    let known = match Known::of(&store, &sweep)? {
        Some(known) => known,
        None => {
            let message =
                format!("no sweep `{}` was submitted from {}", flags.sweep, session.store_name());
            return Err(Failure::usage(message)
                .help("`mnemoscope sweep FILE --on slurm` submits one; if `--set` was given then, give it again"));
        }
    };
    Ok((store, known))
}

/// What is left of a sweep in Slurm's queue.
pub(super) fn queue(known: &Known) -> Result<Vec<QueueLine>, Failure> {
    let mut lines = Vec::new();
    for slurm_id in &known.slurm_ids {
        let format = format!("--format={QUEUE_FORMAT}");
        match said_by("squeue", &["--noheader", "--array", "--jobs", slurm_id, &format]) {
            Ok(printed) => lines.extend(queue_lines(&printed)),
            // Slurm forgets a number some minutes after its last task.
            Err(forgotten) if forgotten.message.contains("Invalid job id") => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(lines)
}

/// How a sweep stands.
struct Standing {
    known: Known,
    store: String,
    counts: BTreeMap<&'static str, usize>,
    queue: Vec<QueueLine>,
    cancelled: bool,
}

impl Spoken for Standing {
    fn page(&self) -> String {
        let words: Vec<String> = self
            .counts
            .iter()
            .map(|(state, n)| format!("{} {state}", number::count(*n as u64)))
            .collect();
        let mut page = format!("Sweep {} of {}\n", self.known.sweep, self.known.study);
        let line = format!(
            "{}: {}; in {}",
            number::counted(self.known.plans.len() as u64, "run", "runs"),
            words.join(", "),
            self.store
        );
        page += &text::wrap(&line, mnemoscope_view::WIDTH, "  ");
        if self.cancelled {
            page += "  its tasks were taken out of the queue; what they did is saved\n";
        } else if self.queue.is_empty() {
            page += "  nothing of it is in the queue\n";
        } else {
            let mut table = Table::new(&[
                ("task", Align::Right),
                ("state", Align::Left),
                ("time", Align::Right),
                ("node", Align::Left),
            ]);
            for line in &self.queue {
                table.row([
                    line.task.to_string(),
                    line.state.clone(),
                    line.elapsed.clone(),
                    line.node.clone(),
                ]);
            }
            page += &format!("\n{table}");
        }
        page
    }

    fn json(&self) -> Value {
        let task = |line: &QueueLine| json!({"task": line.task, "state": line.state, "elapsed": line.elapsed, "node": line.node});
        json!({
            "sweep": self.known.sweep,
            "study": self.known.study,
            "n_plans": self.known.plans.len(),
            "runs": self.counts,
            "slurm_ids": self.known.slurm_ids,
            "queue": self.queue.iter().map(task).collect::<Vec<_>>(),
            "cancelled": self.cancelled,
        })
    }

    fn brief(&self) -> String {
        format!("{}\n", self.counts.get("sealed").unwrap_or(&0))
    }
}

/// How many runs stand how.
fn counts(store: &Store, known: &Known) -> Result<BTreeMap<&'static str, usize>, Failure> {
    let mut counts = BTreeMap::from([("sealed", 0)]);
    for plan in &known.plans {
        let state = if store.is_sealed(plan) {
            "sealed"
        } else {
            match store.find(plan) {
                Ok(run) => match run.status() {
                    Status::Running => "running",
                    Status::Failed | Status::Crashed => "failed",
                    Status::Interrupted => "interrupted",
                    Status::Sealed => "sealed",
                },
                Err(absent) if absent.kind() == ErrorKind::NotFound => "not begun",
                Err(_) => "damaged",
            }
        };
        *counts.entry(state).or_insert(0) += 1;
    }
    Ok(counts)
}

/// Says how a sweep stands.
pub(super) fn status(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let (store, known) = named(flags, session)?;
    let (counts, queue) = (counts(&store, &known)?, queue(&known)?);
    let store = session.store_name();
    session.say(&Standing { known, store, counts, queue, cancelled: false }, Exit::Done)
}

/// Takes a sweep out of the queue.
pub(super) fn cancel(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let (store, known) = named(flags, session)?;
    let mut queue = queue(&known)?;
    let cancelled = !queue.is_empty();
    if cancelled {
        let ids: Vec<&str> = known.slurm_ids.iter().map(String::as_str).collect();
        said_by("scancel", &ids)?;
        queue.clear();
    }
    let counts = counts(&store, &known)?;
    let store = session.store_name();
    session.say(&Standing { known, store, counts, queue, cancelled }, Exit::Done)
}
