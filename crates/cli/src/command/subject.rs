//! What a figure or a report is about: the records of a study, or runs that somebody named.

use std::path::Path;

use clap::Args;
use mnemoscope_lab::plan::Study;
use mnemoscope_store::RunReader;
use mnemoscope_view::figure::{Figure, Source, figures};

use crate::command::plan::resolve_file;
use crate::command::run::Executed;
use crate::failure::Failure;
use crate::session::Session;

/// What is asked about.
#[derive(Debug, Args)]
pub(crate) struct SubjectFlags {
    /// The spec of a study, whose runs lie in the store; or runs: `latest`, or beginnings of ids. A figure
    /// also takes several specs, and tells their runs apart by study
    #[arg(required = true, value_name = "STUDY|RUN")]
    what: Vec<String>,
    /// Another value for a key of the spec, as it was given to `run`; may be repeated
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
}

/// The records that were found.
pub(crate) struct Subject {
    /// The study, if a spec was named: its claims are judged by the sealed runs that were found.
    pub(crate) study: Option<Executed>,
    /// The spec, as it was written; of runs, that of the first one if its record has it.
    pub(crate) spec: Option<String>,
    /// Each run.
    pub(crate) sources: Vec<Source>,
    /// Its record.
    pub(crate) records: Vec<RunReader>,
    /// Plans of the study, or of all of several, without a record.
    pub(crate) n_missing: usize,
}

impl SubjectFlags {
    /// Whether several studies are named.
    pub(crate) fn is_several_studies(&self) -> bool {
        self.what.len() > 1 && self.what.iter().all(is_spec)
    }

    /// The command that runs this study.
    pub(crate) fn again(&self) -> String {
        let mut command = format!("mnemoscope run {}", quoted(&self.what.concat()));
        for set in &self.sets {
            command += &format!(" --set {}", quoted(set));
        }
        command
    }
}

/// Whether somebody named a spec, and no run.
fn is_spec(what: &String) -> bool {
    let path = Path::new(what);
    path.is_file() || path.extension().is_some_and(|it| it.eq_ignore_ascii_case("toml"))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

impl Subject {
    /// Finds the records; the store is only read.
    pub(crate) fn find(flags: &SubjectFlags, session: &Session) -> Result<Self, Failure> {
        match flags.what.as_slice() {
            [file] if is_spec(file) => Self::of_study(Path::new(file), &flags.sets, session),
            files if files.iter().all(is_spec) => Self::of_studies(files, &flags.sets, session),
            several if several.iter().any(is_spec) => {
                Err(Failure::usage("studies and runs do not mix: name specs, or only runs"))
            }
            _ if !flags.sets.is_empty() => {
                Err(Failure::usage("--set changes a spec; name the spec of a study with it"))
            }
            runs => Self::of_runs(runs, session),
        }
    }

    fn of_study(file: &Path, sets: &[String], session: &Session) -> Result<Self, Failure> {
        let resolved = resolve_file(file, sets)?;
        let (found, n_missing) = records_of(&resolved.study, session)?;
        if found.is_empty() {
            return Err(none_of(
                n_missing,
                &resolved.study.name,
                &file.display().to_string(),
                session,
            ));
        }
        let store = session.store()?;
        let mut study = Executed::of(resolved.study);
        let (mut sources, mut records) = (Vec::new(), Vec::new());
        for (arm, record) in found {
            if let Some(result) = record.result() {
                study.keep(&arm, &store, result.clone())?;
            }
            sources.push(Source::read(&record, Some(&arm))?);
            records.push(record);
        }
        Ok(Self { study: Some(study), spec: Some(resolved.text), sources, records, n_missing })
    }

    /// The runs of several studies, each study an arm; a run that several of them have belongs to the first.
    fn of_studies(files: &[String], sets: &[String], session: &Session) -> Result<Self, Failure> {
        let (mut sources, mut records) = (Vec::new(), Vec::<RunReader>::new());
        let mut n_missing = 0;
        for file in files {
            let study = resolve_file(Path::new(file), sets)?.study;
            let (found, n_missing_here) = records_of(&study, session)?;
            n_missing += n_missing_here;
            for (_, record) in found {
                if records.iter().all(|known| known.id() != record.id()) {
                    sources.push(Source::read(&record, Some(&study.name))?);
                    records.push(record);
                }
            }
        }
        if sources.is_empty() {
            return Err(none_of(n_missing, "these studies", "STUDY", session));
        }
        Ok(Self { study: None, spec: None, sources, records, n_missing })
    }

    fn of_runs(runs: &[String], session: &Session) -> Result<Self, Failure> {
        let store = session.store()?;
        let (mut sources, mut records) = (Vec::new(), Vec::<RunReader>::new());
        for selector in runs {
            let record = store.find(selector)?;
            if records.iter().any(|known| known.id() == record.id()) {
                continue;
            }
            sources.push(Source::read(&record, None)?);
            records.push(record);
        }
        let spec = records.first().and_then(|record| record.file("spec.toml").ok());
        let spec = spec.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(Self { study: None, spec, sources, records, n_missing: 0 })
    }

    /// Every figure that there is to draw.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let published = self.study.as_ref().map(Executed::curves).unwrap_or_default();
        figures(&self.sources, &published)
    }

    /// The study's name, or that of the runs if they share one, or their ids.
    pub(crate) fn title(&self) -> String {
        if let Some(study) = &self.study {
            return study.study().name.clone();
        }
        let ids: Vec<&str> = self.sources.iter().map(|run| run.page.id.as_str()).collect();
        match ids.as_slice() {
            [only] => format!("run {only}"),
            several => format!("{} runs", several.len()),
        }
    }
}

/// The records of a study with their arms, and how many of its plans have none.
fn records_of(
    study: &Study,
    session: &Session,
) -> Result<(Vec<(String, RunReader)>, usize), Failure> {
    let store = session.store()?;
    let (mut found, mut n_missing) = (Vec::new(), 0);
    for (arm, plan) in study.plans() {
        let id = plan.id();
        if store.root().join(&id).is_dir() {
            found.push((arm.to_owned(), store.find(&id)?));
        } else {
            n_missing += 1;
        }
    }
    Ok((found, n_missing))
}

fn none_of(n_plans: usize, what: &str, file: &str, session: &Session) -> Failure {
    Failure::usage(format!(
        "{} has none of the {n_plans} runs of {what}; `mnemoscope run {file}` makes them, and what was set then with \
         --set has to be set here too",
        session.store_name()
    ))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn what_a_shell_would_take_apart_is_quoted() {
        assert_eq!(quoted("train.n_steps=5"), "train.n_steps=5");
        assert_eq!(quoted("my study.toml"), "'my study.toml'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
