//! `mnemoscope plan`: what a spec resolves to and what it will cost, before anything is run.

use std::path::{Path, PathBuf};

use clap::Args;
use mnemoscope_lab::plan::{Plan, Study, resolve};
use mnemoscope_view::plan::{Cost, PlanCard, page};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::machine::memory_bytes;
use crate::session::{Session, read_text};
use crate::voice::Spoken;

/// Flags of `plan`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The spec
    file: PathBuf,
    /// Another value for a key of the spec, such as `model.n_layers=1`; may be repeated
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
}

/// A spec as text and what it resolves to.
pub(crate) struct Resolved {
    /// The spec as it was written.
    pub(crate) text: String,
    /// The study.
    pub(crate) study: Study,
}

/// Reads and resolves a spec; what this machine cannot hold is refused here.
pub(crate) fn resolve_file(file: &Path, sets: &[String]) -> Result<Resolved, Failure> {
    let text = read_text(file)?;
    let study = resolve(&text, Some(file), sets, memory_bytes())?;
    Ok(Resolved { text, study })
}

struct Plans {
    study: Study,
    cards: Vec<PlanCard>,
}

impl Spoken for Plans {
    fn page(&self) -> String {
        let Study { name, question, .. } = &self.study;
        page(name, question.as_deref(), &self.study.warnings(), &self.cards)
    }

    fn json(&self) -> Value {
        json!({
            "study": self.study.name,
            "question": self.study.question,
            "warnings": self.study.warnings(),
            "plans": self.cards,
            "claims": self.study.claims,
        })
    }

    fn brief(&self) -> String {
        self.cards.iter().map(|card| format!("{}\n", card.id)).collect()
    }
}

/// Prints the plans of a spec.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let Resolved { study, .. } = resolve_file(&flags.file, &flags.sets)?;
    let cards = study.plans().map(|(arm, plan)| card(arm, plan)).collect();
    session.say(&Plans { study, cards }, Exit::Done)
}

fn card(arm: &str, plan: &Plan) -> PlanCard {
    let estimate = plan.estimate();
    PlanCard {
        id: plan.id(),
        arm: arm.to_owned(),
        seed: plan.seeds.data,
        n_params: plan.model.n_params(),
        cost: estimate.map(|estimate| Cost {
            train_tokens: estimate.n_train_tokens,
            eval_tokens: estimate.n_eval_tokens,
            flops: estimate.train_flops + estimate.eval_flops,
            peak_bytes: estimate.peak_bytes(),
        }),
        plan: plan.to_value(),
    }
}
