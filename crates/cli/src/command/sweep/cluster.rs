//! A sweep on a cluster: written as a script or a file of tasks, submitted, looked after, taken away.

use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::Duration;

use clap::{Args, ValueEnum};
use mnemoscope_lab::clock::Clock as _;
use mnemoscope_lab::engine::device::Device;
use mnemoscope_lab::launch::slurm::{Array, MOST_TASKS, limit_secs, script};
use mnemoscope_lab::launch::{Command, hyperqueue};
use mnemoscope_lab::sweep::{Planned, Shard, forecast, id, planned};
use mnemoscope_store::Store;
use mnemoscope_view::number;
use serde_json::{Value, json};

use super::Start;
use super::status::{self, Known};
use crate::command::plan::{Resolved, check_disk, resolve_file};
use crate::command::run::CheckpointFlags;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::machine::memory_bytes;
use crate::session::Session;
use crate::voice::Spoken;

/// Runs in one task where nobody said how many and no trial could tell.
const USUAL_PACK: usize = 16;
/// Memory of a task beside its runs.
const BASE_BYTES: u64 = 256 << 20;

/// Where a sweep runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Place {
    /// In this process, side by side
    Local,
    /// In an array of Slurm tasks
    Slurm,
    /// As a file of tasks for HyperQueue
    Hq,
}

/// Flags for clusters.
#[derive(Debug, Args)]
#[command(next_help_heading = "On a cluster")]
pub(super) struct ClusterFlags {
    /// Where to run
    #[arg(long, value_enum, value_name = "PLACE", default_value_t = Place::Local)]
    pub(super) on: Place,
    /// Print what would be submitted and submit nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Runs in one task [default: as many as fill half of the time limit, by a short trial here]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pack: Option<u32>,
    /// Tasks at once [default: as the cluster likes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    at_once: Option<u32>,
    /// Time limit of a task, as Slurm writes it: minutes, H:MM:SS or D-HH:MM:SS
    #[arg(long, value_name = "TIME", default_value = "60")]
    time: String,
    /// Seconds before the limit at which a task saves its state and goes back into the queue
    #[arg(long, value_name = "SECS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..))]
    signal_secs: u32,
    /// Cores of a task; it runs as many plans side by side
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    cpus: u16,
    /// Another argument of sbatch, such as `--partition=long`; may be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    sbatch: Vec<String>,
}

/// A submission as it is said.
struct Submitted {
    place: Place,
    dry_run: bool,
    sweep: String,
    text: String,
    n_tasks: usize,
    n_open: usize,
    n_plans: usize,
    path: PathBuf,
    /// Slurm's number.
    slurm_id: Option<String>,
}

impl Spoken for Submitted {
    fn page(&self) -> String {
        if self.dry_run {
            return self.text.clone();
        }
        let runs = number::counted(self.n_open as u64, "open run", "open runs");
        let tasks = number::counted(self.n_tasks as u64, "task", "tasks");
        let of = number::count(self.n_plans as u64);
        let sweep = &self.sweep;
        match (&self.slurm_id, self.place) {
            _ if self.n_open == 0 => {
                format!("All {of} runs of sweep {sweep} are sealed; nothing was submitted.\n")
            }
            (Some(slurm_id), _) => format!(
                "Sweep {sweep}: {runs} of {of} in {tasks}, Slurm's number {slurm_id}\n  \
                 `mnemoscope sweep status {sweep}` says how it stands\n"
            ),
            (None, _) => format!(
                "Sweep {sweep}: {runs} of {of} in {tasks}\n  `hq job submit-file {}` submits them\n",
                self.path.display()
            ),
        }
    }

    fn json(&self) -> Value {
        json!({
            "sweep": self.sweep,
            "on": match self.place { Place::Local => "local", Place::Slurm => "slurm", Place::Hq => "hq" },
            "submitted": self.slurm_id.is_some(),
            "slurm_id": self.slurm_id,
            "n_plans": self.n_plans,
            "n_open": self.n_open,
            "n_tasks": self.n_tasks,
            "path": self.path,
            "text": self.text,
        })
    }

    fn brief(&self) -> String {
        if self.dry_run { self.text.clone() } else { format!("{}\n", self.sweep) }
    }
}

/// Writes what the cluster reads, and submits it.
pub(super) fn run(file: &Path, start: &Start, session: &mut Session) -> Result<Exit, Failure> {
    let flags = &start.cluster;
    if start.shard != Shard::WHOLE {
        return Err(Failure::usage(
            "`--shard` is for one process of many; a cluster's tasks get theirs from `--pack`",
        ));
    }
    let limit = limit_of(flags)?;
    let Resolved { study, .. } = resolve_file(file, &start.sets)?;
    let plans = planned(&study);
    let sweep = id(&plans);
    let store = session.store_for_writing()?;
    check_disk(start.checkpoints.disk_bytes(&plans, &store), store.root())?;
    let open: Vec<usize> =
        (0..plans.len()).filter(|&idx| !store.is_sealed(&plans[idx].plan.id())).collect();
    let pack = pack(flags, limit, &plans, &store, session)?;
    let n_shards = plans.len().div_ceil(pack).max(1);
    let mut tasks: Vec<usize> = open.iter().map(|idx| idx % n_shards).collect();
    tasks.sort_unstable();
    tasks.dedup();
    let root = absolute(store.root())?;
    let folder = root.join(".sweeps").join(&sweep);
    let command = Command {
        words: words(file, start, &study.name, &root, &sweep, session.device)?,
        n_shards,
    };
    let log_folder = folder.display().to_string();
    let (text, name) = match flags.on {
        Place::Hq => {
            let n_cpus = usize::from(flags.cpus);
            (hyperqueue::file(&study.name, &command, &tasks, n_cpus, &log_folder), "tasks.toml")
        }
        Place::Local | Place::Slurm => {
            let array = array(flags, &study.name, command, &tasks, &plans, log_folder);
            (script(&array), "array.sh")
        }
    };
    let mut submitted = Submitted {
        place: flags.on,
        dry_run: flags.dry_run,
        sweep,
        text,
        n_tasks: tasks.len(),
        n_open: open.len(),
        n_plans: plans.len(),
        path: folder.join(name),
        slurm_id: None,
    };
    if !flags.dry_run && !open.is_empty() {
        let known = Known::new(&submitted.sweep, &study.name, file, &plans);
        submit(&mut submitted, known, &store, session)?;
    }
    session.say(&submitted, Exit::Done)
}

/// The time limit in seconds, if it leaves a task time to do something.
fn limit_of(flags: &ClusterFlags) -> Result<u64, Failure> {
    let limit = limit_secs(&flags.time).ok_or_else(|| {
        Failure::usage(format!(
            "`{}` is no time limit; write minutes, H:MM:SS or D-HH:MM:SS",
            flags.time
        ))
    })?;
    // Slurm may send the signal up to a minute early.
    let least = u64::from(flags.signal_secs) + 60;
    if limit <= least {
        return Err(Failure::usage(format!(
            "a time limit of {} leaves a task no time, as it is told to save its state {} before; \
             give more `--time` or fewer `--signal-secs`",
            number::secs(Duration::from_secs(limit).as_secs_f64()),
            number::secs(f64::from(flags.signal_secs)),
        )));
    }
    Ok(limit)
}

/// Keeps the script, hands it to Slurm, and keeps what Slurm said.
fn submit(
    submitted: &mut Submitted,
    new: Known,
    store: &Store,
    session: &Session,
) -> Result<(), Failure> {
    store.sweep_folder(&submitted.sweep)?;
    let mut known = Known::of(store, &submitted.sweep)?.unwrap_or(new);
    if submitted.place == Place::Slurm {
        let queue = status::queue(&known)?;
        if !queue.is_empty() {
            let message = format!(
                "sweep {} has {} in the queue already; wait for them, or take them away with \
                 `mnemoscope sweep cancel {}`",
                known.sweep,
                number::counted(queue.len() as u64, "task", "tasks"),
                known.sweep
            );
            return Err(Failure::machine(message));
        }
    }
    std::fs::write(&submitted.path, &submitted.text).map_err(|why| {
        Failure::machine(format!("cannot write {}", submitted.path.display())).because(&why)
    })?;
    if submitted.place == Place::Slurm {
        let path = submitted.path.display().to_string();
        let said = said_by("sbatch", &["--parsable", &path])?;
        // With several clusters, the name of one follows.
        let slurm_id = said.trim().split(';').next().unwrap_or_default().to_owned();
        known.slurm_ids.push(slurm_id.clone());
        submitted.slurm_id = Some(slurm_id);
    }
    known.submitted_secs = session.clock.unix_secs();
    store.save_sweep(&known.sweep, &known.to_json())?;
    Ok(())
}

/// Runs of one task.
fn pack(
    flags: &ClusterFlags,
    limit_secs: u64,
    plans: &[Planned],
    store: &Store,
    session: &Session,
) -> Result<usize, Failure> {
    let least = plans.len().div_ceil(MOST_TASKS).max(1);
    if let Some(pack) = flags.pack {
        return Ok((pack as usize).max(least));
    }
    let forecast = forecast(plans, Some(store), 1, memory_bytes(), session.device, &session.clock)?;
    let pack = match forecast.wall_secs {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a number of runs, by an estimate"
        )]
        Some(secs) => {
            let secs_per_run = secs / forecast.n_open.max(1) as f64;
            let room = limit_secs as f64 / 2.0 * f64::from(flags.cpus);
            (room / secs_per_run) as usize
        }
        None => USUAL_PACK,
    };
    Ok(pack.clamp(least, plans.len().max(1)))
}

fn array(
    flags: &ClusterFlags,
    study: &str,
    command: Command,
    tasks: &[usize],
    plans: &[Planned],
    log_folder: String,
) -> Array {
    let peaks = plans.iter().map(|it| it.plan.estimate().map_or(0, |of| of.peak_bytes()));
    let peak = peaks.max().unwrap_or(0);
    let n_cpus = usize::from(flags.cpus);
    Array {
        name: study.to_owned(),
        command,
        tasks: tasks.to_vec(),
        most_at_once: flags.at_once.map(|n| n as usize),
        time_limit: flags.time.clone(),
        signal_secs: flags.signal_secs,
        n_cpus,
        memory_bytes: peak.saturating_mul(n_cpus as u64).saturating_add(BASE_BYTES),
        more: flags.sbatch.clone(),
        log_folder,
    }
}

/// The command of every task, with nothing that depends on where it is typed.
fn words(
    file: &Path,
    start: &Start,
    study: &str,
    root: &Path,
    sweep: &str,
    device: Device,
) -> Result<Vec<String>, Failure> {
    let program = std::env::current_exe()
        .map_err(|why| Failure::machine("cannot find out where this command lies").because(&why))?;
    let file = absolute(file)?;
    let mut words =
        vec![program.display().to_string(), "sweep".to_owned(), file.display().to_string()];
    for set in &start.sets {
        words.extend(["--set".to_owned(), set.clone()]);
    }
    // A study without a name is called after its file or its folder, as it was typed here.
    words.extend(["--set".to_owned(), format!("name={}", json!(study))]);
    words.extend(["--store".to_owned(), root.display().to_string()]);
    words.extend(["--threads".to_owned(), start.cluster.cpus.to_string()]);
    words.extend(["--retries".to_owned(), start.retries.to_string()]);
    if let Some(cohort) = start.cohort {
        words.extend(["--cohort".to_owned(), cohort.to_string()]);
    }
    let CheckpointFlags { checkpoint_every, keep_checkpoints } = start.checkpoints;
    words.extend(["--checkpoint-every".to_owned(), checkpoint_every.to_string()]);
    words.extend(["--keep-checkpoints".to_owned(), keep_checkpoints.to_string()]);
    words.extend(["--expect".to_owned(), sweep.to_owned()]);
    if device != Device::Cpu {
        words.extend(["--device".to_owned(), device.to_string()]);
    }
    Ok(words)
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|why| {
        Failure::machine(format!("cannot tell where {} is", path.display())).because(&why)
    })
}

/// What a command of the cluster printed.
pub(super) fn said_by(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let ran = Process::new(program).args(arguments).output();
    let output = ran.map_err(|why| {
        Failure::machine(format!("cannot run `{program}`")).because(&why).help(
            "submit where Slurm's commands are installed; `--dry-run` prints the script anywhere",
        )
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Failure::machine(format!("`{program} {}` refused: {}", arguments.join(" "), words.trim())))
}
