//! `mnemoscope replay`: a glitch again, token by token, with the same logits to the bit.

use std::path::{Path, PathBuf};

use clap::Args;
use mnemoscope_lab::engine::device::Device;
use mnemoscope_lab::eval::Glitch;
use mnemoscope_lab::plan::Plan;
use mnemoscope_lab::replay::{Replay, replay};
use mnemoscope_lab::task::{Coding, Task};
use mnemoscope_store::{RunReader, read_json};
use mnemoscope_view::glitch::{Head, Language, Picture, page};
use serde::Deserialize as _;
use serde_json::Value;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// Flags of `replay`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// A glitch file, a run (its first glitch), or RUN:N (its N-th, from 0); a run is `latest` or
    /// the beginning of an id
    glitch: String,
}

/// A glitch seen again.
pub(crate) struct Replayed {
    replay: Replay,
    d_vocab: u32,
}

impl Replayed {
    /// Sees a glitch of a run again.
    pub(crate) fn of(run: &RunReader, glitch: Glitch, device: Device) -> Result<Self, Failure> {
        let d_vocab = Plan::from_value(run.plan())?.task.d_vocab();
        Ok(Self { replay: replay(run, glitch, device)?, d_vocab })
    }

    /// Whether the logits were the recorded ones: the check that decides how the command ends.
    pub(crate) fn exit(&self) -> Exit {
        if self.replay.same_bits { Exit::Done } else { Exit::CheckFailed }
    }

    /// The replay as a page shows it.
    pub(crate) fn picture(&self) -> Picture {
        let Replay { glitch, task, logits, attention, occurrence, .. } = &self.replay;
        let head = |it: &mnemoscope_lab::replay::HeadAttention| Head {
            layer: it.layer,
            head: it.head,
            weights: it.weights.clone(),
        };
        let d_vocab = u16::try_from(self.d_vocab).unwrap_or(u16::MAX);
        Picture {
            language: match (task, *occurrence) {
                (Task::Automaton(_), _) => Language::Automaton,
                (_, Some(occurrence)) => Language::Bigram { occurrence },
                (_, None) if task.coding() == Coding::Tokens => Language::FlipFlop,
                (_, None) => Language::Spelt,
            },
            run: glitch.run.clone(),
            step: glitch.step,
            set: glitch.set.clone(),
            index: glitch.index,
            words: glitch.tokens.iter().map(|&token| task.token_text(token)).collect(),
            vocab: (0..d_vocab).map(|token| task.token_text(token)).collect(),
            query_pos: glitch.query_pos as usize,
            write_pos: glitch.write_pos as usize,
            expected: usize::from(glitch.expected),
            predicted: usize::from(glitch.predicted),
            logits: logits.clone(),
            logits_recorded: glitch.logits.clone(),
            attention: attention.iter().map(head).collect(),
        }
    }
}

impl Spoken for Replayed {
    fn page(&self) -> String {
        page(&self.picture())
    }

    fn json(&self) -> Value {
        // Plain numbers and text: there is nothing in a replay that JSON cannot hold.
        serde_json::to_value(&self.replay).unwrap_or_default()
    }

    fn brief(&self) -> String {
        format!("{}\n", self.replay.glitch.text)
    }
}

/// Shows a glitch again; logits that differ from the record are a failed check.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let path = PathBuf::from(&flags.glitch);
    let (run, glitch) =
        if path.is_file() { from_file(&path, session)? } else { from_run(&flags.glitch, session)? };
    let replayed = Replayed::of(&run, glitch, session.device)?;
    let exit = replayed.exit();
    session.say(&replayed, exit)
}

/// A glitch file: its run is the record it lies in, else the one it names.
fn from_file(path: &Path, session: &Session) -> Result<(RunReader, Glitch), Failure> {
    let glitch = read_glitch(&read_json(path)?, &path.display().to_string())?;
    let record = path.parent().and_then(Path::parent).filter(|it| it.join("record.json").is_file());
    let run = match record {
        Some(record) => RunReader::open(record)?,
        None => session.store()?.find(&glitch.run)?,
    };
    Ok((run, glitch))
}

/// `RUN` or `RUN:N`.
fn from_run(selector: &str, session: &Session) -> Result<(RunReader, Glitch), Failure> {
    let (selector, idx) = match selector.split_once(':') {
        None => (selector, 0),
        Some((selector, idx)) => match idx.parse::<usize>() {
            Ok(idx) => (selector, idx),
            Err(_) => {
                return Err(Failure::usage(format!(
                    "`{idx}` is not the number of a glitch; write {selector}:0 for the first"
                )));
            }
        },
    };
    let run = session.store()?.find(selector)?;
    let glitch = nth_glitch(&run, None, idx)?;
    Ok((run, glitch))
}

/// A glitch of a run by its number, from 0; those of `first_set`, if it has any, come before
/// the others.
pub(crate) fn nth_glitch(
    run: &RunReader,
    first_set: Option<&str>,
    idx: usize,
) -> Result<Glitch, Failure> {
    let mut names = run.names("glitches")?;
    if let Some(set) = first_set {
        let prefix = format!("glitches/{set}-");
        names.sort_by_key(|name| !name.starts_with(&prefix));
    }
    let Some(name) = names.get(idx) else {
        return Err(match names.len() {
            0 => Failure::usage(format!(
                "run {} keeps no glitch, there is nothing to replay",
                run.id()
            ))
            .help("`mnemoscope runs --where 'eval.val_sparse.n_errors>0'` lists runs with errors"),
            n => Failure::usage(format!(
                "run {} keeps {n} glitches, numbered from 0 to {}; there is no {idx}",
                run.id(),
                n - 1
            )),
        });
    };
    read_glitch(&run.json(name)?, name)
}

fn read_glitch(stored: &Value, name: &str) -> Result<Glitch, Failure> {
    Glitch::deserialize(stored)
        .map_err(|why| Failure::input(format!("{name} is not a glitch file")).because(&why))
}
