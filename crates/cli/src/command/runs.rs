//! `mnemoscope runs`: the runs of a store, damaged ones included.

use clap::Args;
use mnemoscope_store::{Filter, Listed};
use mnemoscope_view::runs::{page, to_json};
use serde_json::Value;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// Flags of `runs`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Only runs where this holds: a path into the plan (`model.n_layers=2`), `arm`, `study`,
    /// `status` or `result...`, with = != < <= > >=; may be repeated
    #[arg(long = "where", value_name = "KEY=VALUE")]
    conditions: Vec<String>,
}

struct Runs {
    store: String,
    runs: Vec<Listed>,
}

impl Spoken for Runs {
    fn page(&self) -> String {
        page(&self.store, &self.runs)
    }

    fn json(&self) -> Value {
        to_json(&self.store, &self.runs)
    }

    fn brief(&self) -> String {
        self.runs.iter().map(|run| format!("{}\n", run.id)).collect()
    }
}

/// Lists runs, oldest first.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let filters = flags
        .conditions
        .iter()
        .map(|condition| full_path(condition).parse())
        .collect::<Result<Vec<Filter>, _>>()?;
    let runs = session.store()?.runs_where(&filters)?;
    session.say(&Runs { store: session.store_name(), runs }, Exit::Done)
}

/// A condition with the path that the store knows: people name keys of the spec and labels.
fn full_path(condition: &str) -> String {
    let condition = condition.trim_start();
    let end = condition.find(['.', '!', '<', '>', '=']).unwrap_or(condition.len());
    match condition.get(..end).map(str::trim_end) {
        Some("task" | "model" | "train" | "seeds") => format!("plan.{condition}"),
        Some("eval") => format!("result.{condition}"),
        Some("arm" | "study" | "version" | "machine") => format!("meta.{condition}"),
        _ => condition.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_name_keys_of_the_spec() {
        let cases = [
            ("model.n_layers=2", "plan.model.n_layers=2"),
            ("arm = lstm", "meta.arm = lstm"),
            ("eval.val.n_errors>0", "result.eval.val.n_errors>0"),
            ("status=sealed", "status=sealed"),
            ("plan.seeds.data=1", "plan.seeds.data=1"),
            ("nonsense", "nonsense"),
            ("", ""),
        ];
        for (said, meant) in cases {
            assert_eq!(full_path(said), meant);
        }
    }
}
