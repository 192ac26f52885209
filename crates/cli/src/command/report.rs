//! `mnemoscope report`: a study or runs as one file that opens anywhere, without network or server.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use mnemoscope_store::RunReader;
use mnemoscope_view::figure::{Source, attention_of};
use mnemoscope_view::number;
use mnemoscope_view::report::{Glitch, Report};
use serde_json::{Value, json};

use crate::command::figure::cannot_write;
use crate::command::replay::{Replayed, nth_glitch};
use crate::command::subject::{Subject, SubjectFlags};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// Flags of `report`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    subject: SubjectFlags,
    /// Where to write it [default: report.html or report.md]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How to set it [default: by the ending of FILE, else html]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Glitches to see again, from runs that err least to runs that err most
    #[arg(long, value_name = "N", default_value_t = 3)]
    glitches: usize,
}

/// How a report is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One file, figures inside
    Html,
    /// Markdown, and a folder of figures beside it
    Md,
}

impl Flags {
    fn format(&self) -> Result<Format, Failure> {
        let ending = self.output.as_deref().and_then(Path::extension).and_then(|it| it.to_str());
        match (self.format, ending) {
            (Some(format), _) => Ok(format),
            (None, None | Some("html" | "htm")) => Ok(Format::Html),
            (None, Some("md")) => Ok(Format::Md),
            (None, Some(unknown)) => Err(Failure::usage(format!(
                "a report is written as .html or .md, not as .{unknown}; `--format` says which it is"
            ))),
        }
    }
}

struct Written {
    path: PathBuf,
    n_bytes: u64,
    n_runs: usize,
    n_figures: usize,
    n_glitches: usize,
}

impl Spoken for Written {
    fn page(&self) -> String {
        format!(
            "  {}: {}, {}, {}, {}\n",
            self.path.display(),
            number::counted(self.n_runs as u64, "run", "runs"),
            number::counted(self.n_figures as u64, "figure", "figures"),
            number::counted(self.n_glitches as u64, "glitch", "glitches"),
            number::bytes(self.n_bytes)
        )
    }

    fn json(&self) -> Value {
        json!({
            "path": self.path.display().to_string(),
            "n_bytes": self.n_bytes,
            "n_runs": self.n_runs,
            "n_figures": self.n_figures,
            "n_glitches": self.n_glitches,
        })
    }

    fn brief(&self) -> String {
        format!("{}\n", self.path.display())
    }
}

/// Writes a report.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let format = flags.format()?;
    if flags.subject.is_several_studies() {
        return Err(Failure::usage(
            "a report is of one study; `mnemoscope figure` draws the runs of several together",
        ));
    }
    let subject = Subject::find(&flags.subject, session)?;
    let report = put_together(&subject, flags, session);
    let usual = if format == Format::Html { "report.html" } else { "report.md" };
    let path = flags.output.clone().unwrap_or_else(|| PathBuf::from(usual));
    let document = match format {
        Format::Html => report.to_html(),
        Format::Md => {
            let stem = path.file_stem().and_then(|it| it.to_str()).unwrap_or("report");
            let folder = format!("{stem}-figures");
            write_figures(&report, &path.with_file_name(&folder))?;
            report.to_markdown(&folder)
        }
    };
    std::fs::write(&path, &document).map_err(|why| cannot_write(&path, &why))?;
    let written = Written {
        n_bytes: document.len() as u64,
        n_runs: subject.sources.len(),
        n_figures: report.all_figures().count(),
        n_glitches: report.glitches.len(),
        path,
    };
    session.say(&written, Exit::Done)
}

fn write_figures(report: &Report, folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|why| cannot_write(folder, &why))?;
    for figure in report.all_figures() {
        let path = folder.join(format!("{}.svg", figure.name));
        std::fs::write(&path, figure.to_svg_with_font())
            .map_err(|why| cannot_write(&path, &why))?;
    }
    Ok(())
}

fn put_together(subject: &Subject, flags: &Flags, session: &mut Session) -> Report {
    let mut report = Report::new(&subject.title(), &subject.sources, subject.figures());
    if let Some(study) = &subject.study {
        report.question.clone_from(&study.study().question);
        report.verdicts = study.verdict_lines();
    }
    if subject.n_missing > 0 {
        let missing = number::counted(subject.n_missing as u64, "run", "runs");
        report.warnings.insert(
            0,
            format!(
                "{missing} of this study are not in the store; claims are judged without them."
            ),
        );
    }
    report.again = again(subject, flags);
    report.spec.clone_from(&subject.spec);
    report.glitches = glitches(subject, flags.glitches, session);
    report
}

/// The command that makes the runs again.
fn again(subject: &Subject, flags: &Flags) -> Option<String> {
    match &subject.study {
        Some(_) => Some(flags.subject.again()),
        None if subject.spec.is_some() && subject.records.len() == 1 => Some(
            "# with the spec below as study.toml; sealed runs are not run twice\n\
                  mnemoscope run study.toml"
                .to_owned(),
        ),
        None => None,
    }
}

/// The first glitch of each of several runs, from the run that errs least to the one that errs most: a model
/// that hardly errs shows what a glitch is.
fn glitches(subject: &Subject, most: usize, session: &mut Session) -> Vec<Glitch> {
    let n_errors = |run: &Source| -> Option<u64> {
        let result = run.page.result.as_ref()?.as_ref().ok()?;
        Some(result.eval.values().map(|set| set.n_errors).sum())
    };
    let mut erring: Vec<(u64, &Source, &RunReader)> = subject
        .sources
        .iter()
        .zip(&subject.records)
        .filter(|(run, _)| !run.page.glitches.is_empty())
        .filter_map(|(run, record)| Some((n_errors(run)?, run, record)))
        .collect();
    erring.sort_by_key(|(n_errors, ..)| *n_errors);
    // As far apart from each other as so many can be.
    let n = erring.len();
    let chosen = (0..most.min(n)).map(|idx| idx * (n - 1) / (most.min(n) - 1).max(1));
    chosen
        .map(|idx| {
            let (n_errors, run, record) = erring[idx];
            let errors = number::counted(n_errors, "error", "errors");
            let title = format!("Run {} of {}, {errors} in all", run.page.id, run.arm);
            seen_again(title, record, session)
        })
        .collect()
}

/// A glitch by its replay; where that is not possible, what the record says of it and why.
fn seen_again(title: String, record: &RunReader, session: &mut Session) -> Glitch {
    let replayed = nth_glitch(record, None, 0)
        .map(|glitch| (glitch.text.clone(), Replayed::of(record, glitch, session.device)));
    match replayed {
        Ok((_, Ok(replayed))) => {
            let picture = replayed.picture();
            Glitch { title, page: replayed.page(), attention: attention_of(&picture) }
        }
        Ok((text, Err(failure))) => {
            let page = format!("{text}\n\nIt cannot be replayed: {}", failure.message);
            Glitch { title, page, attention: None }
        }
        Err(failure) => Glitch { title, page: failure.message, attention: None },
    }
}
