//! `mnemoscope plan`: what a spec resolves to and what it will cost, before anything is run.

use std::path::{Path, PathBuf};

use clap::Args;
use mnemoscope_lab::plan::{Plan, Study, resolve};
use mnemoscope_lab::sweep::{Forecast, forecast, planned};
use mnemoscope_store::Store;
use mnemoscope_view::plan::{Cost, PlanCard, page};
use mnemoscope_view::{WIDTH, number, text};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::machine::{free_disk_bytes, memory_bytes};
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
    forecast: Forecast,
    n_threads: usize,
}

impl Spoken for Plans {
    fn page(&self) -> String {
        let Study { name, question, .. } = &self.study;
        let page = page(name, question.as_deref(), &self.study.warnings(), &self.cards);
        let words = text::wrap(&forecast_words(&self.forecast, self.n_threads), WIDTH, "  ");
        format!("{page}\nOn this machine\n{words}")
    }

    fn json(&self) -> Value {
        json!({
            "study": self.study.name,
            "question": self.study.question,
            "warnings": self.study.warnings(),
            "plans": self.cards,
            "claims": self.study.claims,
            "forecast": self.forecast,
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
    let forecast = look_ahead(&study, session)?;
    let n_threads = session.n_threads;
    session.say(&Plans { study, cards, forecast, n_threads }, Exit::Done)
}

/// What a study will take here.
fn look_ahead(study: &Study, session: &Session) -> Result<Forecast, Failure> {
    let store = Store::open_existing(&session.store_root).ok();
    let (plans, n_threads) = (planned(study), session.n_threads);
    let forecast = forecast(
        &plans,
        store.as_ref(),
        n_threads,
        memory_bytes(),
        session.device,
        &session.clock,
    )?;
    check_disk(forecast.disk_bytes, &session.store_root)?;
    Ok(forecast)
}

/// Refuses what the disk cannot hold.
pub(crate) fn check_disk(needed_bytes: u64, root: &Path) -> Result<(), Failure> {
    let Some(free) = free_disk_bytes(root).filter(|free| *free < needed_bytes) else {
        return Ok(());
    };
    Err(Failure::machine(format!(
        "the records need about {}, and {} are free in {}; sweep less, free some space, or give \
         another `--store`",
        number::bytes(needed_bytes),
        number::bytes(free),
        root.display(),
    )))
}

/// The forecast in a sentence.
pub(crate) fn forecast_words(forecast: &Forecast, n_threads: usize) -> String {
    let n_done = forecast.n_runs - forecast.n_open;
    let runs = number::counted(forecast.n_runs as u64, "run", "runs");
    if forecast.n_open == 0 {
        return format!("{runs}, all of them done");
    }
    let done = match n_done {
        0 => String::new(),
        n => format!(", {} of them done", number::count(n as u64)),
    };
    let time = match forecast.wall_secs {
        Some(secs) => format!("about {}", number::secs(secs)),
        None => "an unknown time".to_owned(),
    };
    format!(
        "{runs}{done}: {time} side by side on {}, {} at once; {} of memory, {} on the disk",
        number::counted(n_threads as u64, "thread", "threads"),
        forecast.n_side_by_side,
        number::bytes(forecast.peak_bytes),
        number::bytes(forecast.disk_bytes),
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    const FORECAST: Forecast = Forecast {
        n_runs: 1_200,
        n_open: 1_000,
        n_side_by_side: 2,
        wall_secs: Some(5_400.0),
        peak_bytes: 90_000_000,
        disk_bytes: 12_000_000_000,
    };

    #[test]
    fn a_forecast_is_a_sentence() {
        assert_eq!(
            forecast_words(&FORECAST, 2).replace('\u{2009}', " "),
            "1200 runs, 200 of them done: about 1 h 30 min side by side on 2 threads, 2 at once; \
             85.8 MiB of memory, 11.2 GiB on the disk"
        );
        let done = Forecast { n_open: 0, ..FORECAST };
        assert_eq!(
            forecast_words(&done, 2).replace('\u{2009}', " "),
            "1200 runs, all of them done"
        );
    }

    #[test]
    fn what_the_disk_cannot_hold_is_refused_with_both_numbers() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_disk(1, folder.path()).is_ok());
        let failure = check_disk(u64::MAX, folder.path()).unwrap_err();
        assert_eq!(failure.exit, Exit::Machine);
        assert!(failure.message.contains(" are free in "), "{}", failure.message);
    }
}
