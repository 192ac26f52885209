//! `mnemoscope gallery`: every task with drawn examples, their answers marked underneath.

use clap::Args;
use mnemoscope_lab::task::gallery::{self, Entry};
use mnemoscope_view::gallery::{Card, page};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// Flags of `gallery`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Only this task
    task: Option<String>,
}

struct Gallery(Vec<Entry>);

impl Spoken for Gallery {
    fn page(&self) -> String {
        let card = |entry: &Entry| Card {
            name: entry.name.to_owned(),
            title: entry.title.to_owned(),
            what: entry.what.to_owned(),
            source: entry.source.to_owned(),
            example_lines: entry.example_lines.clone(),
        };
        page(&self.0.iter().map(card).collect::<Vec<_>>())
    }

    fn json(&self) -> Value {
        let entry = |entry: &Entry| {
            json!({
                "name": entry.name,
                "title": entry.title,
                "what": entry.what,
                "source": entry.source,
                "task": entry.task,
                "example_lines": entry.example_lines,
            })
        };
        json!({"tasks": self.0.iter().map(entry).collect::<Vec<_>>()})
    }

    fn brief(&self) -> String {
        self.0.iter().map(|entry| format!("{}\n", entry.name)).collect()
    }
}

/// Shows the gallery, or one picture of it.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let entries = match &flags.task {
        None => gallery::entries(),
        Some(name) => vec![gallery::find(name).ok_or_else(|| unknown(name))?],
    };
    session.say(&Gallery(entries), Exit::Done)
}

fn unknown(name: &str) -> Failure {
    let known: Vec<&str> = gallery::entries().iter().map(|entry| entry.name).collect();
    Failure::usage(format!("there is no task `{name}`; there are {}", known.join(", ")))
}
