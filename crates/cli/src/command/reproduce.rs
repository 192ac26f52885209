//! `mnemoscope reproduce`: every study of a paper, its claims and published curves beside the numbers.

use clap::{Args, ValueEnum};
use mnemoscope_lab::pace::secs_per_step;
use mnemoscope_lab::plan::{Verdict, resolve};
use mnemoscope_view::number;
use mnemoscope_view::table::{Align, Table};
use serde_json::{Value, json};

use crate::command::plan::Resolved;
use crate::command::run::{Executed, execute};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::machine::memory_bytes;
use crate::session::Session;
use crate::voice::Spoken;

/// The studies of "Birth of a Transformer", in the order of its figures.
const BIRTH: [(&str, &str); 6] = [
    ("fig3-freezing", include_str!("../../../../studies/birth/fig3-freezing/study.toml")),
    ("fig4-left", include_str!("../../../../studies/birth/fig4-left/study.toml")),
    ("fig4-outputs", include_str!("../../../../studies/birth/fig4-outputs/study.toml")),
    ("fig8-fixed", include_str!("../../../../studies/birth/fig8-fixed/study.toml")),
    ("fig8-tuned", include_str!("../../../../studies/birth/fig8-tuned/study.toml")),
    ("fig10-full", include_str!("../../../../studies/birth/fig10-full/study.toml")),
];

/// Flags of `reproduce`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The paper
    #[arg(value_enum)]
    paper: Paper,
    /// How much of it: seconds, one seed, or as published
    #[arg(long, value_enum, default_value_t = Scale::Smoke)]
    scale: Scale,
    /// Only the study of this name; may be repeated
    #[arg(long, value_name = "STUDY")]
    only: Vec<String>,
    /// Steps between two checkpoints; no number depends on it
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    checkpoint_every: u64,
}

/// A paper whose figures are studies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Paper {
    /// "Birth of a Transformer", Bietti et al. 2023
    Birth,
}

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scale {
    /// A few small steps: everything runs, nothing is learned
    Smoke,
    /// One seed at the published sizes
    Laptop,
    /// As published, three seeds
    Paper,
}

impl Scale {
    /// What is set over a study.
    fn sets(self, text: &str) -> Vec<String> {
        let mut sets = match self {
            Self::Paper => vec![],
            Self::Laptop => vec!["sweep.seed.count=1".to_owned()],
            Self::Smoke => ["sweep.seed.count=1", "train.n_steps=11", "train.batch_size=8"]
                .map(str::to_owned)
                .to_vec(),
        };
        if self == Self::Smoke {
            let named = |set: &&str| text.contains(&format!("[eval.{set}]"));
            for set in ["val", "val_bigram"].iter().filter(|set| named(set)) {
                sets.push(format!("eval.{set}.n_examples=8"));
                sets.push(format!("eval.{set}.curve_examples=8"));
            }
        }
        sets
    }
}

/// The studies that were run.
struct Reproduced {
    scale: Scale,
    studies: Vec<Executed>,
}

impl Reproduced {
    fn exit(&self) -> Exit {
        if let Some(failure) = self.studies.iter().find_map(Executed::failure) {
            return failure.exit;
        }
        // At this scale nothing can be borne out.
        let fails = |verdict| match verdict {
            Verdict::Held => false,
            Verdict::Failed => self.scale != Scale::Smoke,
            Verdict::Unmeasured => self.scale == Scale::Paper,
        };
        let failed = self.studies.iter().flat_map(Executed::verdicts).any(fails);
        if failed { Exit::CheckFailed } else { Exit::Done }
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            ("study", Align::Wrapped),
            ("runs", Align::Right),
            ("claims", Align::Right),
            ("hold", Align::Right),
            ("fail", Align::Right),
            ("open", Align::Right),
        ]);
        for study in &self.studies {
            let verdicts = study.verdicts();
            let count = |which| verdicts.iter().filter(|&&verdict| verdict == which).count();
            table.row([
                study.name().to_owned(),
                study.n_runs().to_string(),
                verdicts.len().to_string(),
                count(Verdict::Held).to_string(),
                count(Verdict::Failed).to_string(),
                count(Verdict::Unmeasured).to_string(),
            ]);
        }
        table
    }
}

impl Spoken for Reproduced {
    fn page(&self) -> String {
        let pages: Vec<String> = self.studies.iter().map(Executed::page).collect();
        format!("{}\nAll studies\n{}", pages.join("\n\n"), self.table())
    }

    fn json(&self) -> Value {
        json!({"studies": self.studies.iter().map(Executed::json).collect::<Vec<_>>()})
    }

    fn brief(&self) -> String {
        self.studies.iter().map(Executed::brief).collect()
    }
}

/// Runs the studies of a paper, after saying how long it will take.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let Paper::Birth = flags.paper;
    let chosen = chosen(&flags.only)?;
    let mut resolved = Vec::new();
    for (name, text) in chosen {
        let mut study = resolve(text, None, &flags.scale.sets(text), memory_bytes())?;
        name.clone_into(&mut study.name);
        resolved.push(Resolved { text: text.to_owned(), study });
    }
    say_how_long(&resolved, session)?;
    let mut studies = Vec::new();
    for resolved in resolved {
        session.voice.note(&format!("study {}", resolved.study.name));
        studies.push(execute(resolved, flags.checkpoint_every, session)?);
    }
    let reproduced = Reproduced { scale: flags.scale, studies };
    let exit = reproduced.exit();
    session.say(&reproduced, exit)
}

fn chosen(only: &[String]) -> Result<Vec<(&'static str, &'static str)>, Failure> {
    let names = || BIRTH.iter().map(|(name, _)| *name);
    if let Some(unknown) = only.iter().find(|only| names().all(|name| name != *only)) {
        let all: Vec<&str> = names().collect();
        return Err(Failure::usage(format!("no study is called {unknown:?}"))
            .help(format!("there are {}", all.join(", "))));
    }
    let wanted = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    Ok(BIRTH.into_iter().filter(|(name, _)| wanted(name)).collect())
}

/// Times two steps of each arm and says what they come to, without evaluation and what is done already.
fn say_how_long(resolved: &[Resolved], session: &mut Session) -> Result<(), Failure> {
    let (mut secs, mut n_steps) = (0.0, 0);
    for arm in resolved.iter().flat_map(|resolved| &resolved.study.arms) {
        let Some(plan) = arm.plans.first() else { continue };
        let steps = plan.train.n_steps * arm.plans.len() as u64;
        secs += secs_per_step(plan, session.n_threads, &session.clock)? * steps as f64;
        n_steps += steps;
    }
    session.voice.note(&format!(
        "about {} for {} steps of training, by two steps of each arm; what is sealed is not run again",
        number::secs(secs),
        number::count(n_steps),
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_study_resolves_at_every_scale() {
        for scale in [Scale::Smoke, Scale::Laptop, Scale::Paper] {
            for (name, text) in BIRTH {
                let study = resolve(text, None, &scale.sets(text), None).unwrap();
                assert!(!study.claims.is_empty() || name == "fig8-tuned", "{name}");
                assert!(!study.published.is_empty(), "{name}");
            }
        }
    }
}
