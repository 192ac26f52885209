//! `mnemoscope run`: trains and measures every plan of a spec, and holds its claims against them.

use std::path::PathBuf;

use clap::Args;
use mnemoscope_lab::plan::{
    About, Claim, Judgement, Measure, Numbers, Plan, Study, Verdict as Judged, judge,
};
use mnemoscope_lab::probe::Probed;
use mnemoscope_lab::run::{Labels, Outcome, PROBE, RunOptions, run_plan};
use mnemoscope_lab::sweep::{End, Planned, disk_bytes};
use mnemoscope_store::Store;
use mnemoscope_view::number;
use mnemoscope_view::published::{Curve, Pair, tables};
use mnemoscope_view::result::{RunResult, SetResult};
use mnemoscope_view::study::{Mark, StudyRun, Verdict, page};
use serde_json::{Value, json};

use crate::command::plan::{Resolved, resolve_file};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::session::Session;
use crate::voice::Spoken;

/// Flags of `run`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The spec of a plan or of a study
    file: PathBuf,
    /// Another value for a key of the spec, such as `model.n_layers=1`; may be repeated
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    checkpoints: CheckpointFlags,
}

/// When the state of a run is saved, and how much of it stays; no number depends on either.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct CheckpointFlags {
    /// Steps between two checkpoints; no number depends on it
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) checkpoint_every: u64,
    /// Checkpoints to keep, the newest; with more than the usual 2 `serve` shows how a model came to its answers
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..), hide_default_value = true)]
    pub(crate) keep_checkpoints: u32,
}

impl CheckpointFlags {
    /// Bytes that the records of these plans still need.
    pub(crate) fn disk_bytes(self, plans: &[Planned], store: &Store) -> u64 {
        disk_bytes(plans, Some(store), self.keep_checkpoints as usize, self.checkpoint_every)
    }
}

/// A study whose plans were executed.
pub(crate) struct Executed {
    study: Study,
    /// Results as they are stored, in the order of the plans.
    stored: Vec<Value>,
    runs: Vec<StudyRun>,
    /// What was probed of each run, step by step.
    probed: Vec<Vec<Probed>>,
    /// Runs that did not come to their end.
    failures: Vec<(String, Failure)>,
}

impl Executed {
    /// A study of which nothing is executed yet.
    pub(crate) fn of(study: Study) -> Self {
        Self {
            study,
            stored: Vec::new(),
            runs: Vec::new(),
            probed: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Keeps a run apart that did not come to its end.
    pub(crate) fn keep_failure(&mut self, run: String, failure: Failure) {
        self.failures.push((run, failure));
    }

    /// The study itself.
    pub(crate) fn study(&self) -> &Study {
        &self.study
    }

    /// Results as they are read, in the order of the plans.
    pub(crate) fn runs(&self) -> &[StudyRun] {
        &self.runs
    }

    /// Whether the spec is more than one plan.
    pub(crate) fn is_study(&self) -> bool {
        let Study { question, claims, .. } = &self.study;
        self.study.plans().nth(1).is_some() || question.is_some() || !claims.is_empty()
    }

    /// Runs that came to their end.
    pub(crate) fn n_runs(&self) -> usize {
        self.runs.len()
    }

    /// What is to be said of each claim.
    pub(crate) fn verdicts(&self) -> Vec<Judged> {
        self.judged().into_iter().map(|(_, _, judgement)| judgement.verdict).collect()
    }

    /// The first run that did not come to its end.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failures.first().map(|(_, failure)| failure)
    }

    fn judged(&self) -> Vec<(&Claim, Numbers, Judgement)> {
        let claims = &self.study.claims;
        let numbers: Vec<Numbers> = claims.iter().map(|claim| self.numbers(claim)).collect();
        let judgements = judge(claims, &numbers);
        claims.iter().zip(numbers).zip(judgements).map(|((c, n), j)| (c, n, j)).collect()
    }

    /// The numbers that a claim is about, for each run of its arm or arms.
    fn numbers(&self, claim: &Claim) -> Numbers {
        let of_arm = |arm: &str| match &claim.about {
            About::Set { set, measure } => {
                let of_arm = self.runs.iter().filter(|run| run.arm == arm);
                let sets = of_arm.filter_map(|run| run.result.eval.get(set));
                sets.filter_map(|set| number_of(*measure, set)).collect()
            }
            About::Probe { probe, iteration } => self.probed(arm, probe, *iteration),
        };
        Numbers {
            measured: of_arm(&claim.arm),
            beside: claim.than().map(of_arm).unwrap_or_default(),
        }
    }

    /// A number that was probed at a published iteration, for each run of an arm.
    fn probed(&self, arm: &str, probe: &str, iteration: u64) -> Vec<f64> {
        let of_arm = self.runs.iter().zip(&self.probed).filter(|(run, _)| run.arm == arm);
        of_arm
            .filter_map(|(_, points)| {
                points.iter().find(|point| point.step == iteration + 1)?.number(probe)
            })
            .collect()
    }

    /// The published curves of the study beside what was measured.
    pub(crate) fn curves(&self) -> Vec<Curve> {
        let mut curves = Vec::new();
        for published in &self.study.published {
            for (probe, numbers) in &published.values {
                let pair = |(idx, &at): (usize, &u64)| Pair {
                    at,
                    published: numbers.get(idx).copied(),
                    measured: self.probed(&published.arm, probe, at),
                };
                curves.push(Curve {
                    arm: published.arm.clone(),
                    source: published.source.clone(),
                    probe: probe.clone(),
                    pairs: published.iterations.iter().enumerate().map(pair).collect(),
                });
            }
        }
        curves
    }

    /// How the command ends.
    pub(crate) fn exit(&self) -> Exit {
        // What cannot be told is no failure: the page says so, and how many runs there were.
        let borne = |verdict: &Judged| matches!(verdict, Judged::Held | Judged::Undecided);
        match self.failures.first() {
            Some((_, failure)) => failure.exit,
            None if self.verdicts().iter().all(borne) => Exit::Done,
            None => Exit::CheckFailed,
        }
    }
}

impl Spoken for Executed {
    fn page(&self) -> String {
        let verdicts = self.verdict_lines();
        let page = page(&self.study.name, self.study.question.as_deref(), &self.runs, &verdicts);
        page + &tables(&self.curves())
    }

    fn json(&self) -> Value {
        if let ([only], false) = (self.stored.as_slice(), self.is_study()) {
            return only.clone();
        }
        self.study_json()
    }

    fn brief(&self) -> String {
        self.runs.iter().map(|run| format!("{}\n", run.result.run)).collect()
    }
}

impl Executed {
    /// What is to be said of each claim, as it stands on a page.
    pub(crate) fn verdict_lines(&self) -> Vec<Verdict> {
        let verdict = |(claim, numbers, judgement): (&Claim, Numbers, Judgement)| Verdict {
            claim: format!("{} ({})", claim.text, claim.source),
            expected: claim.expectation(),
            measured: measured_words(&claim.about, &numbers, &judgement),
            mark: match judgement.verdict {
                Judged::Held => Mark::Holds,
                Judged::Failed => Mark::Fails,
                Judged::Undecided => Mark::Undecided,
                Judged::Unmeasured => Mark::Open,
            },
        };
        self.judged().into_iter().map(verdict).collect()
    }

    /// The study as one object, also where it is a single plan.
    pub(crate) fn study_json(&self) -> Value {
        let claims: Vec<Value> = self
            .judged()
            .into_iter()
            .map(|(claim, numbers, judgement)| {
                let mut said = json!({
                    "claim": claim,
                    "expected": claim.expectation(),
                    "measured": numbers.measured,
                    "verdict": judgement.verdict,
                });
                if claim.than().is_some() {
                    said["beside"] = json!(numbers.beside);
                    said["test"] = json!(judgement.test);
                }
                said
            })
            .collect();
        let failures: Vec<Value> = self
            .failures
            .iter()
            .map(|(run, failure)| json!({"run": run, "error": failure.to_json()}))
            .collect();
        json!({
            "study": self.study.name,
            "question": self.study.question,
            "runs": self.stored,
            "claims": claims,
            "published": self.curves(),
            "failures": failures,
        })
    }
}

/// Executes the plans of a spec.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let resolved = resolve_file(&flags.file, &flags.sets)?;
    let mut executed = execute(resolved, flags.checkpoints, session)?;
    if !executed.is_study()
        && let Some((_, failure)) = executed.failures.pop()
    {
        return Err(failure);
    }
    for (run, failure) in &executed.failures {
        session.voice.note(&format!("run {run} failed\n{}", failure.to_text().trim_end()));
    }
    let exit = executed.exit();
    session.say(&executed, exit)
}

/// Executes every plan; one that fails is kept apart and the others go on.
///
/// # Errors
///
/// When somebody asks to stop, or when the store itself refuses: then no run can be recorded.
pub(crate) fn execute(
    resolved: Resolved,
    checkpoints: CheckpointFlags,
    session: &mut Session,
) -> Result<Executed, Failure> {
    let Resolved { text, study } = resolved;
    for warning in study.warnings() {
        session.voice.note(&format!("warning: {warning}"));
    }
    let store = session.store_for_writing()?;
    let mut watch = session.watch()?;
    let options = RunOptions {
        n_threads: session.n_threads,
        device: session.device,
        checkpoint_every: checkpoints.checkpoint_every,
        checkpoints_kept: checkpoints.keep_checkpoints as usize,
        machine: Machine::look().to_json(),
    };
    let mut executed = Executed::of(study);
    let plans: Vec<(String, Plan)> =
        executed.study.plans().map(|(arm, plan)| (arm.to_owned(), plan.clone())).collect();
    for (idx, (arm, plan)) in plans.iter().enumerate() {
        watch.next_run(arm, idx, plans.len());
        let labels = Labels {
            study: executed.is_study().then(|| executed.study.name.clone()),
            arm: arm.clone(),
            spec_text: Some(text.clone()),
        };
        match run_plan(plan, &labels, &store, &options, &session.clock, &mut watch) {
            Ok(Outcome::Sealed(result) | Outcome::AlreadySealed(result)) => {
                executed.keep(arm, &store, result)?;
            }
            Ok(Outcome::Interrupted { run, step, n_steps }) => {
                watch.finish();
                return Err(interrupted(&run, step, n_steps));
            }
            Err(error) => {
                let failure = Failure::from(error);
                if failure.exit == Exit::Machine || failure.exit == Exit::Interrupted {
                    return Err(failure
                        .help("what was measured is saved; the same command goes on from there"));
                }
                executed.keep_failure(plan.id(), failure);
            }
        }
    }
    watch.finish();
    Ok(executed)
}

fn interrupted(run: &str, step: u64, n_steps: u64) -> Failure {
    let message = format!("run {run} was interrupted at step {step} of {n_steps}; it is saved");
    Failure::interrupted(message).help("the same command goes on from there, to the same bits")
}

impl Executed {
    /// The one run of a spec of one plan, as it is stored and as it was read.
    pub(crate) fn into_only(mut self) -> Result<(Value, StudyRun), Failure> {
        match (self.stored.pop(), self.runs.pop(), self.failures.pop()) {
            (Some(stored), Some(run), None) => Ok((stored, run)),
            (_, _, Some((_, failure))) => Err(failure),
            (_, _, None) => Err(Failure::usage("the spec holds no plan")),
        }
    }

    /// Keeps what came of a plan of a sweep, if it came to an end.
    pub(crate) fn keep_end(
        &mut self,
        planned: &Planned,
        end: &End,
        store: &Store,
    ) -> Result<(), Failure> {
        let run = planned.plan.id();
        match end {
            End::Sealed | End::AlreadySealed => {
                let stored = store.find(&run)?.result().cloned().unwrap_or_default();
                self.keep(&planned.arm, store, stored)?;
            }
            End::Failed(failure) => self.keep_failure(run, Failure::from_shared(failure)),
            End::Interrupted { .. } | End::Open => {}
        }
        Ok(())
    }

    /// Keeps the result of a sealed run.
    pub(crate) fn keep(&mut self, arm: &str, store: &Store, stored: Value) -> Result<(), Failure> {
        let result = RunResult::from_json(&stored).map_err(Failure::input)?;
        let path = store.root().join(&result.run).display().to_string();
        let record = store.find(&result.run)?;
        let points = record.events().of_kind(PROBE).map(|event| {
            serde_json::from_value(event.data.clone()).map_err(|problem| {
                Failure::input(format!("what run {} probed is damaged: {problem}", result.run))
            })
        });
        self.probed.push(points.collect::<Result<_, _>>()?);
        self.stored.push(with_path(stored, &path));
        self.runs.push(StudyRun { arm: arm.to_owned(), result, path });
        Ok(())
    }
}

/// The stored result, and where its record lies.
fn with_path(mut stored: Value, path: &str) -> Value {
    if let Value::Object(members) = &mut stored {
        members.insert("path".to_owned(), json!(path));
    }
    stored
}

#[expect(clippy::cast_precision_loss, reason = "2^53 errors are out of reach")]
fn number_of(measure: Measure, set: &SetResult) -> Option<f64> {
    match measure {
        Measure::NErrors => Some(set.n_errors as f64),
        Measure::ErrorRate => set.error_rate,
        Measure::IntervalLow => Some(set.interval[0]),
        Measure::IntervalHigh => Some(set.interval[1]),
    }
}

/// What was measured, run by run: `0, 0, 12`, of two arms with what the test says.
fn measured_words(about: &About, numbers: &Numbers, judgement: &Judgement) -> String {
    let word = |value: &f64| match about {
        About::Set { measure: Measure::NErrors, .. } => format!("{value}"),
        About::Set { .. } => number::rate(*value),
        About::Probe { .. } => format!("{value:.3}"),
    };
    let words = |numbers: &[f64]| match numbers {
        [] => "nothing".to_owned(),
        numbers => numbers.iter().map(word).collect::<Vec<_>>().join(", "),
    };
    let measured = words(&numbers.measured);
    let Some(test) = judgement.test else { return measured };
    let p = number::rate(test.p_corrected.min(test.p_opposite_corrected));
    let side = if test.p_corrected <= test.p_opposite_corrected { "" } else { " for the opposite" };
    format!(
        "{measured} beside {}; p = {p}{side}, of {} such claims",
        words(&numbers.beside),
        test.n_tests
    )
}
