//! `mnemoscope reproduce`: every study of a paper, its claims and published curves beside the numbers.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use mnemoscope_lab::plan::{Verdict, resolve};
use mnemoscope_lab::sweep::{End, Planned, forecast, planned_of};
use mnemoscope_lab::theory::bench::{Effort, Part};
use mnemoscope_store::Store;
use mnemoscope_view::table::{Align, Table};
use serde_json::{Value, json};

use crate::command::plan::{Resolved, forecast_words};
use crate::command::run::{CheckpointFlags, Executed};
use crate::command::sweep::local::{How, side_by_side};
use crate::command::theory::Bench;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::machine::memory_bytes;
use crate::session::Session;
use crate::voice::Spoken;

/// A study of a paper.
#[derive(Clone, Copy)]
enum Source {
    /// The text of its spec.
    Spec(&'static str),
    /// Parts of the theory.
    Theory(&'static [Part]),
}

/// A study that is a spec, by its paper's folder and its own.
macro_rules! spec {
    ($paper:literal, $name:literal) => {
        (
            $name,
            Source::Spec(include_str!(concat!(
                "../../../../studies/",
                $paper,
                "/",
                $name,
                "/study.toml"
            ))),
        )
    };
}

/// The studies of "Birth of a Transformer", in the order of its figures.
const BIRTH: &[(&str, Source)] = &[
    spec!("birth", "fig2-attention"),
    spec!("birth", "one-layer"),
    spec!("birth", "fig3-freezing"),
    spec!("birth", "fig4-left"),
    spec!("birth", "fig4-outputs"),
    spec!("birth", "fig7-pictures"),
    spec!("birth", "fig8-fixed"),
    spec!("birth", "fig8-tuned"),
    ("fig9-one-step", Source::Theory(&[Part::OneStep])),
    spec!("birth", "fig10-full"),
    spec!("birth", "fig11-heads"),
    ("theorem", Source::Theory(&[Part::Gradients, Part::Coefficients, Part::ThreeSteps])),
];

/// The studies of "Exposing Attention Glitches", in the order of its claims.
const FFLM: &[(&str, Source)] = &[
    spec!("fflm", "baseline"),
    spec!("fflm", "lstm-seeds"),
    spec!("fflm", "diversity"),
    spec!("fflm", "data"),
    spec!("fflm", "size"),
    spec!("fflm", "sizes"),
    spec!("fflm", "optimizer"),
    spec!("fflm", "dropout"),
    spec!("fflm", "architecture"),
    spec!("fflm", "sharpening"),
    spec!("fflm", "combinations"),
    spec!("fflm", "temperature"),
    spec!("fflm", "symbols"),
    spec!("fflm", "generative"),
    spec!("fflm", "seeds"),
    spec!("fflm", "automaton"),
    spec!("fflm", "fig14-drift"),
    spec!("fflm", "fig15-norms"),
    spec!("fflm", "fig16-maps"),
    spec!("fflm", "fig17-values"),
    spec!("fflm", "fig18-20-heads"),
];

/// Flags of `reproduce`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The paper
    #[arg(value_enum)]
    paper: Paper,
    /// How much of it: seconds, hours, or as published
    #[arg(long, value_enum, default_value_t = Scale::Smoke)]
    scale: Scale,
    /// Only the study of this name; may be repeated
    #[arg(long, value_name = "STUDY")]
    only: Vec<String>,
    /// Another value for a key of every study's spec, such as `sweep.seed.count=5`; may be repeated
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    checkpoints: CheckpointFlags,
}

/// A paper whose figures are studies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Paper {
    /// "Birth of a Transformer", Bietti et al. 2023
    Birth,
    /// "Exposing Attention Glitches with Flip-Flop Language Modeling", Liu et al. 2023
    Fflm,
}

impl Paper {
    fn studies(self) -> &'static [(&'static str, Source)] {
        match self {
            Self::Birth => BIRTH,
            Self::Fflm => FFLM,
        }
    }

    /// What is set over a study at a scale.
    ///
    /// The bigram paper's models train at their published sizes on a laptop, so its scales are counts of seeds;
    /// studies of the flip-flop paper have a size of their own for it.
    fn sets(self, scale: Scale, text: &str) -> Vec<String> {
        let mut sets: Vec<&str> = match (self, scale) {
            (Self::Fflm, Scale::Paper) if text.contains("[scales.paper]") => vec!["scale=paper"],
            (_, Scale::Paper) => vec![],
            (Self::Birth, Scale::Laptop) => vec!["sweep.seed.count=1"],
            (Self::Fflm, Scale::Laptop) => vec!["scale=laptop"],
            (Self::Birth, Scale::Smoke) => {
                vec!["sweep.seed.count=1", "train.n_steps=11", "train.batch_size=8"]
            }
            (Self::Fflm, Scale::Smoke) => {
                vec!["scale=laptop", "sweep.seed.count=1", "train.n_steps=2", "train.batch_size=2"]
            }
        };
        let named = |set: &str| text.contains(&format!("[eval.{set}]"));
        if self == Self::Fflm && scale == Scale::Smoke {
            // The automaton has the sets that its spec names and no others.
            let automaton = text.contains("name = \"automaton\"");
            if !automaton || named("val_sparse") {
                sets.extend(["eval.val_sparse.n_examples=8", "eval.val_sparse.curve_examples=8"]);
            }
            if !automaton {
                sets.push("eval.val_dense.n_examples=8");
            }
            if named("val_long") {
                sets.push("eval.val_long.n_examples=8");
            }
        }
        if scale == Scale::Smoke && (self == Self::Fflm || named("val")) {
            sets.extend(["eval.val.n_examples=8", "eval.val.curve_examples=8"]);
        }
        if scale == Scale::Smoke && named("val_bigram") {
            sets.extend(["eval.val_bigram.n_examples=8", "eval.val_bigram.curve_examples=8"]);
        }
        let mut sets: Vec<String> = sets.into_iter().map(str::to_owned).collect();
        if scale == Scale::Smoke {
            // A penalty that begins late would begin after the last of these few steps.
            let key = |line: &str| line.split_once(" = ").map(|(key, _)| key.to_owned());
            let keys = text.lines().filter_map(key);
            let late = keys.filter(|key| key.ends_with(".sharpen.from_step"));
            sets.extend(late.map(|key| format!("{key}=0")));
        }
        sets
    }
}

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scale {
    /// A few small steps: everything runs, nothing is learned
    Smoke,
    /// What two cores do in hours: one seed of "birth", small models of "fflm"
    Laptop,
    /// As published, in several seeds
    Paper,
}

impl Scale {
    /// How much is drawn to check theory.
    fn effort(self) -> Effort {
        if self == Self::Smoke { Effort::Quick } else { Effort::Full }
    }
}

/// A study that was run.
enum Done {
    Spec(Executed),
    Theory(Bench),
}

impl Done {
    /// How many runs it has, and of its claims how many hold, fail, and are open.
    fn counts(&self) -> [usize; 4] {
        match self {
            Self::Spec(study) => {
                let verdicts = study.verdicts();
                let count = |which| verdicts.iter().filter(|&&verdict| verdict == which).count();
                let [held, failed, undecided, unmeasured] =
                    [Verdict::Held, Verdict::Failed, Verdict::Undecided, Verdict::Unmeasured]
                        .map(count);
                [study.n_runs(), held, failed, undecided + unmeasured]
            }
            Self::Theory(bench) => {
                let [n, n_failed] = bench.counts();
                [0, n - n_failed, n_failed, 0]
            }
        }
    }
}

/// The studies that were run, by name.
struct Reproduced {
    scale: Scale,
    studies: Vec<(&'static str, Done)>,
}

impl Reproduced {
    fn exit(&self) -> Exit {
        let specs = self.studies.iter().filter_map(|(_, done)| match done {
            Done::Spec(study) => Some(study),
            Done::Theory(_) => None,
        });
        if let Some(failure) = specs.clone().find_map(Executed::failure) {
            return failure.exit;
        }
        // At this scale nothing can be borne out by training; theory can.
        let fails = |verdict| match verdict {
            Verdict::Held | Verdict::Undecided => false,
            Verdict::Failed => self.scale != Scale::Smoke,
            Verdict::Unmeasured => self.scale == Scale::Paper,
        };
        let theory_fails = |(_, done): &(_, Done)| match done {
            Done::Theory(bench) => bench.counts()[1] > 0,
            Done::Spec(_) => false,
        };
        let failed =
            specs.flat_map(Executed::verdicts).any(fails) || self.studies.iter().any(theory_fails);
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
        for (name, done) in &self.studies {
            let [n_runs, held, failed, open] = done.counts();
            let counts = [n_runs, held + failed + open, held, failed, open];
            let mut row = vec![(*name).to_owned()];
            row.extend(counts.map(|count| count.to_string()));
            table.row(row);
        }
        table
    }
}

impl Spoken for Reproduced {
    fn page(&self) -> String {
        let page = |(name, done): &(&str, Done)| match done {
            Done::Spec(study) => study.page(),
            Done::Theory(bench) => format!("{name}\n\n{}", bench.page()),
        };
        let pages: Vec<String> = self.studies.iter().map(page).collect();
        format!("{}\nAll studies\n{}", pages.join("\n\n"), self.table())
    }

    fn json(&self) -> Value {
        let json = |(name, done): &(&str, Done)| match done {
            Done::Spec(study) => study.json(),
            Done::Theory(bench) => json!({"study": name, "theory": bench.json()}),
        };
        json!({"studies": self.studies.iter().map(json).collect::<Vec<_>>()})
    }

    fn brief(&self) -> String {
        let brief = |(_, done): &(&str, Done)| match done {
            Done::Spec(study) => study.brief(),
            Done::Theory(_) => String::new(),
        };
        self.studies.iter().map(brief).collect()
    }
}

/// A study that is ready to be run.
enum Ready {
    Spec(Box<Resolved>),
    Theory(&'static [Part]),
}

impl Ready {
    fn plans(&self) -> Vec<Planned> {
        match self {
            Self::Spec(resolved) => planned_of(&resolved.study, &resolved.text),
            Self::Theory(_) => Vec::new(),
        }
    }
}

/// Runs the studies of a paper, after saying how long it will take: the plans of all of them side by side.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let mut ready = Vec::new();
    for (name, source) in chosen(flags.paper, &flags.only)? {
        ready.push((
            name,
            match source {
                Source::Theory(parts) => Ready::Theory(parts),
                Source::Spec(text) => {
                    let mut sets = flags.paper.sets(flags.scale, text);
                    sets.extend_from_slice(&flags.sets);
                    let mut study = resolve(text, None, &sets, memory_bytes())?;
                    name.clone_into(&mut study.name);
                    for warning in study.warnings() {
                        session.voice.note(&format!("warning: {warning}"));
                    }
                    Ready::Spec(Box::new(Resolved { text: text.to_owned(), study }))
                }
            },
        ));
    }
    let plans: Vec<Planned> = ready.iter().flat_map(|(_, ready)| ready.plans()).collect();
    let (runs, run_of) = once(&plans);
    let mut ends = Vec::new();
    let mut store = None;
    if !runs.is_empty() {
        say_how_long(&runs, session)?;
        let (of_runs, kept) = sweep(&runs, flags.checkpoints, session)?;
        ends = of_runs;
        store = Some(kept);
    }
    let mut ended = plans.iter().zip(run_of.into_iter().map(|run| &ends[run]));
    let mut studies = Vec::new();
    for (name, ready) in ready {
        let done = match ready {
            Ready::Spec(resolved) => {
                let mut study = Executed::of(resolved.study);
                let n_plans = study.study().plans().count();
                for (planned, end) in ended.by_ref().take(n_plans) {
                    study.keep_end(planned, end, store.as_ref().expect("plans were executed"))?;
                }
                Done::Spec(study)
            }
            Ready::Theory(parts) => {
                session.voice.note(&format!("study {name}"));
                Done::Theory(Bench::run(parts, flags.scale.effort(), 0, session))
            }
        };
        studies.push((name, done));
    }
    let reproduced = Reproduced { scale: flags.scale, studies };
    let exit = reproduced.exit();
    session.say(&reproduced, exit)
}

/// Each plan once, for studies share their baseline, and which of them each of `plans` is.
fn once(plans: &[Planned]) -> (Vec<Planned>, Vec<usize>) {
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    let mut runs = Vec::new();
    let of = |planned: &Planned| {
        *first.entry(planned.plan.id()).or_insert_with(|| {
            runs.push(planned.clone());
            runs.len() - 1
        })
    };
    let run_of = plans.iter().map(of).collect();
    (runs, run_of)
}

fn chosen(paper: Paper, only: &[String]) -> Result<Vec<(&'static str, Source)>, Failure> {
    let names = || paper.studies().iter().map(|(name, _)| *name);
    if let Some(unknown) = only.iter().find(|only| names().all(|name| name != *only)) {
        let all: Vec<&str> = names().collect();
        return Err(Failure::usage(format!("no study is called {unknown:?}"))
            .help(format!("there are {}", all.join(", "))));
    }
    let wanted = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    Ok(paper.studies().iter().copied().filter(|(name, _)| wanted(name)).collect())
}

/// Executes the plans of all studies side by side: how each ended, and where its record lies.
fn sweep(
    plans: &[Planned],
    checkpoints: CheckpointFlags,
    session: &mut Session,
) -> Result<(Vec<End>, Store), Failure> {
    let store = session.store_for_writing()?;
    let how = How { checkpoints, retries: 0, most_together: None };
    let swept = side_by_side(plans, &store, how, session)?;
    Ok((swept.ends, store))
}

/// Tries steps of some arms and says what all runs come to that are not done already.
fn say_how_long(plans: &[Planned], session: &mut Session) -> Result<(), Failure> {
    let store = Store::open_existing(&session.store_root).ok();
    let forecast = forecast(
        plans,
        store.as_ref(),
        session.n_threads,
        memory_bytes(),
        session.device,
        &session.clock,
    )?;
    session.voice.note(&forecast_words(&forecast, session.n_threads));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_studies_share_is_run_once() {
        let plans_of = |name: &str| {
            let (_, source) = chosen(Paper::Fflm, &[name.to_owned()]).unwrap()[0];
            let Source::Spec(text) = source else { panic!("{name} has a spec") };
            let study = resolve(text, None, &Paper::Fflm.sets(Scale::Laptop, text), None).unwrap();
            planned_of(&study, text)
        };
        let plans = [plans_of("baseline"), plans_of("data")].concat();
        let (runs, run_of) = once(&plans);
        assert_eq!((plans.len(), runs.len()), (5 + 15, 15), "five of each are the same");
        for (planned, run) in plans.iter().zip(run_of) {
            assert_eq!(planned.plan.id(), runs[run].plan.id());
        }
    }

    #[test]
    fn every_study_resolves_at_every_scale() {
        for (paper, scale) in [Paper::Birth, Paper::Fflm]
            .into_iter()
            .flat_map(|paper| Scale::value_variants().iter().map(move |&scale| (paper, scale)))
        {
            for &(name, source) in paper.studies() {
                let Source::Spec(text) = source else { continue };
                let study = resolve(text, None, &paper.sets(scale, text), None).unwrap();
                let shown_only = ["fig8-tuned", "sizes"].contains(&name);
                assert_eq!(study.claims.is_empty(), shown_only, "{name}");
                assert!(study.question.is_some(), "{name}");
            }
        }
    }
}
