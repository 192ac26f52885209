//! A sweep on this machine: cores filled with runs, each sealed, resumed or recorded as failed.

use std::path::Path;

use mnemoscope_lab::clock::Clock as _;
use mnemoscope_lab::engine::device::Device;
use mnemoscope_lab::plan::Study;
use mnemoscope_lab::run::RunOptions;
use mnemoscope_lab::sweep::{
    self, End, MOST_TOGETHER, Planned, Shard, SweepOptions, Swept, planned_of, run_sweep,
};
use mnemoscope_store::Store;
use mnemoscope_view::study::page_of_arms;
use mnemoscope_view::{number, text};
use serde_json::{Value, json};

use super::Start;
use super::watch::Watch;
use crate::command::plan::{Resolved, check_disk, resolve_file};
use crate::command::run::{CheckpointFlags, Executed};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::machine::{Machine, memory_bytes};
use crate::session::Session;
use crate::voice::Spoken;

/// Runs that a page has room for, each with a line for each of its sets.
const MOST_RUNS: usize = 24;

/// How many plans ended in which way.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    n_plans: usize,
    n_sealed: usize,
    n_sealed_before: usize,
    n_failed: usize,
}

struct Answer {
    name: String,
    question: Option<String>,
    shard: Shard,
    store: String,
    counts: Counts,
    wall_secs: f64,
    executed: Executed,
    /// Runs that failed, each with its arm and message.
    failed: Vec<(String, String, String)>,
}

impl Answer {
    fn counts_line(&self) -> String {
        let Counts { n_plans, n_sealed, n_sealed_before, n_failed } = self.counts;
        let mut line = format!(
            "{} of {} sealed",
            number::count(n_sealed as u64),
            number::counted(n_plans as u64, "run", "runs")
        );
        if n_sealed_before > 0 {
            line += &format!(" ({} before)", number::count(n_sealed_before as u64));
        }
        if n_failed > 0 {
            line += &format!(", {} failed", number::count(n_failed as u64));
        }
        if self.shard != Shard::WHOLE {
            line += &format!("; this was part {}", self.shard);
        }
        format!("{line}; {} in {}", number::secs(self.wall_secs), self.store)
    }
}

impl Spoken for Answer {
    fn page(&self) -> String {
        let mut page = if self.counts.n_sealed <= MOST_RUNS {
            self.executed.page()
        } else {
            let (name, question) = (&self.name, self.question.as_deref());
            page_of_arms(name, question, self.executed.runs(), &self.executed.verdict_lines())
        };
        if !self.failed.is_empty() {
            page += "\nFailed\n";
            for (arm, run, message) in &self.failed {
                page += &text::wrap(
                    &format!("{arm}, run {run}: {message}"),
                    mnemoscope_view::WIDTH,
                    "  ",
                );
            }
        }
        page + "\n" + &text::wrap(&self.counts_line(), mnemoscope_view::WIDTH, "  ")
    }

    fn json(&self) -> Value {
        let Counts { n_plans, n_sealed, n_sealed_before, n_failed } = self.counts;
        let mut said = self.executed.study_json();
        said["sweep"] = json!({
            "shard": self.shard.to_string(),
            "n_plans": n_plans,
            "n_sealed": n_sealed,
            "n_sealed_before": n_sealed_before,
            "n_failed": n_failed,
            "wall_secs": self.wall_secs,
        });
        said
    }

    fn brief(&self) -> String {
        self.executed.brief()
    }
}

/// Executes the plans of a spec, or the shard of them that was asked for.
pub(super) fn run(file: &Path, start: &Start, session: &mut Session) -> Result<Exit, Failure> {
    let Resolved { text, study } = resolve_file(file, &start.sets)?;
    if start.cluster.dry_run {
        return Err(Failure::usage(
            "`--dry-run` prints what a cluster would be given; say which with `--on`",
        ));
    }
    let all = planned_of(&study, &text);
    if start.expect.as_ref().is_some_and(|expected| *expected != sweep::id(&all)) {
        let file = file.display();
        return Err(Failure::usage(format!(
            "{file} has changed since this sweep was submitted; submit it again"
        )));
    }
    let plans: Vec<Planned> = all
        .into_iter()
        .enumerate()
        .filter_map(|(idx, planned)| start.shard.holds(idx).then_some(planned))
        .collect();
    let store = session.store_for_writing()?;
    let from = session.clock.elapsed_secs();
    let how =
        How { checkpoints: start.checkpoints, retries: start.retries, most_together: start.cohort };
    let swept = side_by_side(&plans, &store, how, session)?;
    let wall_secs = session.clock.elapsed_secs() - from;
    let mut answer = Answer {
        name: study.name.clone(),
        question: study.question.clone(),
        shard: start.shard,
        store: session.store_name(),
        counts: Counts { n_plans: plans.len(), ..Counts::default() },
        wall_secs,
        executed: executed_of(start.shard, study),
        failed: Vec::new(),
    };
    answer.keep(&plans, &swept, &store)?;
    let exit = answer.executed.exit();
    session.say(&answer, exit)
}

/// What a person chose about plans that are executed side by side.
#[derive(Clone, Copy)]
pub(crate) struct How {
    pub(crate) checkpoints: CheckpointFlags,
    pub(crate) retries: u32,
    pub(crate) most_together: Option<u16>,
}

/// Executes plans side by side, and shows how they stand.
///
/// # Errors
///
/// When the disk cannot hold the records, when somebody asks to stop, or when the machine refuses.
pub(crate) fn side_by_side(
    plans: &[Planned],
    store: &Store,
    how: How,
    session: &mut Session,
) -> Result<Swept, Failure> {
    check_disk(how.checkpoints.disk_bytes(plans, store), store.root())?;
    session.interrupt.listen()?;
    let (most_together, device_bytes) = together(session.device, how.most_together);
    let options = SweepOptions {
        run: RunOptions {
            n_threads: session.n_threads,
            device: session.device,
            checkpoint_every: how.checkpoints.checkpoint_every,
            checkpoints_kept: how.checkpoints.keep_checkpoints as usize,
            machine: Machine::look().to_json(),
        },
        memory_bytes: memory_bytes(),
        most_together,
        device_bytes,
        n_retries: how.retries,
    };
    let shown = session.voice.shows_progress();
    let watch = Watch::new(plans, shown, session.interrupt.clone(), session.clock);
    let swept = run_sweep(plans, store, &options, &session.clock, &watch);
    watch.finish();
    unfinished(&swept).map_or(Ok(swept), Err)
}

/// The most runs that train side by side in one program of a device, and how much memory it has. A device that is the CPU,
/// or pretends, gains nothing by it and does so only when it is asked to.
fn together(device: Device, asked: Option<u16>) -> (usize, Option<u64>) {
    let all = if device == Device::Cpu { Vec::new() } else { Device::all() };
    let found = all.into_iter().find(|found| found.device == device);
    let gains = found.as_ref().is_some_and(|found| !found.emulated);
    let most = asked.map_or(if gains { MOST_TOGETHER } else { 1 }, usize::from);
    (most, found.and_then(|found| found.memory_bytes))
}

/// Why the sweep ended before all its runs did, if it did.
fn unfinished(swept: &Swept) -> Option<Failure> {
    let n_plans = swept.ends.len();
    let n_sealed = swept.ends.iter().filter(|end| end.is_sealed()).count();
    let so_far = format!(
        "{n_sealed} of {n_plans} runs are sealed, the others are saved as far as they came"
    );
    if let Some(refusal) = &swept.refusal {
        let mut failure = Failure::from_shared(refusal);
        failure.help.push(so_far);
        return Some(
            failure.help("when the machine allows it, the same command goes on from there"),
        );
    }
    let stopped = |end: &End| matches!(end, End::Interrupted { .. } | End::Open);
    swept.ends.iter().any(stopped).then(|| {
        Failure::interrupted(format!("the sweep was interrupted; {so_far}"))
            .help("the same command goes on from there, to the same bits")
    })
}

/// What will be known of a study, or of a part of its runs.
fn executed_of(shard: Shard, mut study: Study) -> Executed {
    if shard != Shard::WHOLE {
        // What is claimed of all runs is not judged by some.
        study.claims.clear();
        study.published.clear();
    }
    Executed::of(study)
}

impl Answer {
    fn keep(&mut self, plans: &[Planned], swept: &Swept, store: &Store) -> Result<(), Failure> {
        for (planned, end) in plans.iter().zip(&swept.ends) {
            self.executed.keep_end(planned, end, store)?;
            self.counts.n_sealed += usize::from(end.is_sealed());
            self.counts.n_sealed_before += usize::from(matches!(end, End::AlreadySealed));
            if let End::Failed(failure) = end {
                self.counts.n_failed += 1;
                let run = planned.plan.id();
                self.failed.push((planned.arm.clone(), run, failure.to_string()));
            }
        }
        Ok(())
    }
}
