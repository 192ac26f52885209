//! `mnemoscope prune`: removes checkpoints that sealed runs no longer need; shows first what would go.

use clap::Args;
use mnemoscope_store::{Prunable, Selection};
use mnemoscope_view::table::{Align, Table};
use mnemoscope_view::{WIDTH, number, text};
use serde_json::{Value, json};

use super::runs::conditions;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// Runs that a page has room for.
const MOST_LINES: usize = 24;

/// Flags of `prune`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Only runs where this holds, as in `runs --where`; may be repeated
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<String>,
    /// Checkpoints that each sealed run keeps, the newest; without any, a run can no longer be
    /// replayed, probed or measured again
    #[arg(long, value_name = "N", default_value_t = 1)]
    keep_checkpoints: usize,
    /// Remove it; without this flag it is only shown
    #[arg(long)]
    yes: bool,
}

struct Pruned {
    store: String,
    found: Vec<Prunable>,
    removed: bool,
}

impl Pruned {
    fn n_bytes(&self) -> u64 {
        self.found.iter().map(|prunable| prunable.n_bytes).sum()
    }

    fn n_checkpoints(&self) -> usize {
        self.found.iter().map(|prunable| prunable.steps.len()).sum()
    }
}

impl Spoken for Pruned {
    fn page(&self) -> String {
        if self.found.is_empty() {
            return format!("Nothing in {} is to be removed by this policy.\n", self.store);
        }
        let mut table = Table::new(&[
            ("run", Align::Left),
            ("checkpoints of steps", Align::Wrapped),
            ("size", Align::Right),
        ]);
        for prunable in self.found.iter().take(MOST_LINES) {
            let steps: Vec<String> = prunable.steps.iter().map(u64::to_string).collect();
            table.row([prunable.id.clone(), steps.join(", "), number::bytes(prunable.n_bytes)]);
        }
        let mut page = table.to_string();
        if self.found.len() > MOST_LINES {
            let n_more = (self.found.len() - MOST_LINES) as u64;
            page += &format!("  and of {}\n", number::counted(n_more, "run more", "runs more"));
        }
        let what = format!(
            "{} of {}, {}",
            number::counted(self.n_checkpoints() as u64, "checkpoint", "checkpoints"),
            number::counted(self.found.len() as u64, "run", "runs"),
            number::bytes(self.n_bytes())
        );
        let line = match self.removed {
            true => format!("{what}: removed; every record stays"),
            false => format!("{what}: nothing was removed; `--yes` removes them, and no record"),
        };
        page + "\n" + &text::wrap(&line, WIDTH, "  ")
    }

    fn json(&self) -> Value {
        let run = |prunable: &Prunable| json!({"run": prunable.id, "steps": prunable.steps, "n_bytes": prunable.n_bytes});
        json!({
            "store": self.store,
            "removed": self.removed,
            "n_bytes": self.n_bytes(),
            "runs": self.found.iter().map(run).collect::<Vec<_>>(),
        })
    }

    fn brief(&self) -> String {
        self.found.iter().map(|prunable| format!("{}\n", prunable.id)).collect()
    }
}

/// Shows what a policy would remove, or removes it.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let store = session.store()?;
    let mut filters = conditions(&flags.conditions)?;
    filters.extend(conditions(&["status=sealed".to_owned()])?);
    let selection = Selection { filters, ..Selection::default() };
    let mut found = Vec::new();
    for row in store.values(&selection, &["id".to_owned()])? {
        let id = row[0].as_str().unwrap_or_default();
        found.extend(store.prunable(id, flags.keep_checkpoints)?);
    }
    if flags.yes {
        for prunable in &found {
            store.prune(prunable)?;
        }
    }
    session.say(&Pruned { store: session.store_name(), found, removed: flags.yes }, Exit::Done)
}
