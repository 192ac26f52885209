//! The laboratory as the dashboard asks it: models that stay open, sequences that were answered, claims.

use std::sync::Arc;

use mnemoscope_lab::engine::device::Device;
use mnemoscope_lab::eval::Glitch;
use mnemoscope_lab::opened::{self, Opened};
use mnemoscope_lab::plan::resolve_stored;
use mnemoscope_lab::task::{Coding, Task};
use mnemoscope_lab::{Error, ErrorKind};
use mnemoscope_store::{RunReader, Store};
use mnemoscope_view::serve::{Asked, Judged, Lab, Pattern, Question, Refusal, RefusalKind, Seen};

use crate::command::run::Executed;
use crate::failure::Failure;

/// Models that stay open: the ones of a slider that goes back and forth.
const MOST_OPEN: usize = 16;
/// Sequences whose answers are kept, with all their patterns.
const MOST_SEEN: usize = 4;

/// Answers for the dashboard.
pub(super) struct Laboratory {
    store: Store,
    n_threads: usize,
    device: Device,
    /// The one asked last is the last.
    open: Vec<(String, u64, Arc<Opened>)>,
    seen: Vec<(String, Asked, Arc<Seen>)>,
}

impl Laboratory {
    pub(super) fn new(store: Store, n_threads: usize, device: Device) -> Self {
        Self { store, n_threads, device, open: Vec::new(), seen: Vec::new() }
    }

    /// The model of a run after so many steps.
    fn opened(&mut self, run: &RunReader, step: u64) -> Result<Arc<Opened>, Refusal> {
        let known = |(id, at, _): &(String, u64, Arc<Opened>)| id == run.id() && *at == step;
        let entry = match self.open.iter().position(known) {
            Some(idx) => self.open.remove(idx),
            None => {
                let opened =
                    Opened::open(run, Some(step), self.n_threads, self.device).map_err(refusal)?;
                (run.id().to_owned(), step, Arc::new(opened))
            }
        };
        let opened = Arc::clone(&entry.2);
        push(&mut self.open, entry, MOST_OPEN);
        Ok(opened)
    }
}

/// Adds an entry; the one that was asked longest ago goes.
fn push<T>(entries: &mut Vec<T>, entry: T, most: usize) {
    entries.push(entry);
    if entries.len() > most {
        entries.remove(0);
    }
}

impl Lab for Laboratory {
    fn see(&mut self, run: &RunReader, asked: &Asked) -> Result<Arc<Seen>, Refusal> {
        let last = run.checkpoints().last().map(|checkpoint| checkpoint.step);
        let step = asked.step.or(last).ok_or_else(|| {
            let words = format!("run {} keeps no checkpoint: there is no model to ask", run.id());
            Refusal::new(RefusalKind::NotFound, words)
        })?;
        // A checkpoint of one step is always the same, also of a run that goes on.
        let asked = Asked { step: Some(step), ..asked.clone() };
        let known = |(id, known, _): &(String, Asked, Arc<Seen>)| id == run.id() && *known == asked;
        if let Some(idx) = self.seen.iter().position(known) {
            return Ok(Arc::clone(&self.seen[idx].2));
        }
        let glitch: Glitch = serde_json::from_value(asked.glitch.clone()).map_err(|why| {
            Refusal::new(RefusalKind::Record, format!("the glitch cannot be read: {why}"))
        })?;
        let opened = self.opened(run, step)?;
        let seen = Arc::new(shown(opened.see(&glitch, &asked.edits).map_err(refusal)?, &opened));
        push(&mut self.seen, (run.id().to_owned(), asked, Arc::clone(&seen)), MOST_SEEN);
        Ok(seen)
    }

    fn judge(&mut self, spec: &str, runs: &[RunReader]) -> Result<Judged, Refusal> {
        let study = resolve_stored(spec).map_err(refusal)?;
        let plans: Vec<(String, String)> =
            study.plans().map(|(arm, plan)| (arm.to_owned(), plan.id())).collect();
        let question = study.question.clone();
        let mut executed = Executed::of(study);
        for (arm, id) in &plans {
            let record = runs.iter().find(|run| run.id() == id);
            if let Some(result) = record.and_then(RunReader::result) {
                executed.keep(arm, &self.store, result.clone()).map_err(failed)?;
            }
        }
        Ok(Judged {
            question,
            verdicts: executed.verdict_lines(),
            published: executed.curves(),
            plans: plans.into_iter().map(|(_, id)| id).collect(),
        })
    }
}

/// A sequence as pages show it.
fn shown(seen: opened::Seen, opened: &Opened) -> Seen {
    let opened::Seen { task, tokens, n_fed, targets, logits, patterns } = seen;
    let vocab = 0..u16::try_from(task.d_vocab()).unwrap_or(u16::MAX);
    let question = |target: &mnemoscope_lab::task::Target| Question {
        query_pos: target.query_pos as usize,
        expected: u32::from(target.answer),
        write_pos: target.write_pos as usize,
    };
    Seen {
        step: opened.step(),
        checkpoint: opened.blake3().to_owned(),
        tokens: tokens.into_iter().map(u32::from).collect(),
        n_fed,
        kinds: vocab.clone().map(|token| kind(&task, token)).collect(),
        vocab: vocab.map(|token| task.token_text(token)).collect(),
        logits,
        questions: targets.iter().map(question).collect(),
        patterns: patterns
            .into_iter()
            .map(|(layer, head, shares)| Pattern { layer, head, shares })
            .collect(),
    }
}

/// Instructions stand for instructions and symbols for symbols; elsewhere any token for any other.
fn kind(task: &Task, token: u16) -> u8 {
    let apart = task.flipflop().is_some() && task.coding() != Coding::Pairs;
    u8::from(apart && task.symbols().contains(&token))
}

fn refusal(error: Error) -> Refusal {
    let kind = match error.kind() {
        ErrorKind::Spec => RefusalKind::Asked,
        ErrorKind::NotFound => RefusalKind::NotFound,
        ErrorKind::Incompatible | ErrorKind::Corrupt => RefusalKind::Record,
        ErrorKind::Machine | ErrorKind::Io => RefusalKind::Busy,
        ErrorKind::Diverged | ErrorKind::Crashed | ErrorKind::Interrupted => RefusalKind::Failed,
    };
    Refusal::new(kind, error)
}

fn failed(failure: Failure) -> Refusal {
    Refusal::new(RefusalKind::Record, failure.message)
}
