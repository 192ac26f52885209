//! `mnemoscope runs`: the runs of a store, damaged ones included: filtered, sorted, grouped, as files.

use std::path::{Path, PathBuf};

use clap::Args;
use mnemoscope_lab::task::file::{Columns, write_columns};
use mnemoscope_store::{Filter, Listed, Selection, Store};
use mnemoscope_view::groups::{self, Group, group};
use mnemoscope_view::number;
use mnemoscope_view::query::{self, full_path};
use mnemoscope_view::runs::{page, table_page, to_json};
use mnemoscope_view::tensorboard::{event_file, scalars};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// Runs on a page, where nobody said how many.
const USUAL_PAGE: usize = 100;

/// Flags of `runs`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// Only runs where this holds, such as `model.n_layers>=4 and val_sparse.error_rate>0`; may be repeated
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<String>,
    /// Sort by this field instead of by age
    #[arg(long, value_name = "FIELD")]
    sort: Option<String>,
    /// From the largest to the smallest, or from the youngest to the oldest
    #[arg(long)]
    reverse: bool,
    /// At most so many runs; 0 for all [default: 100 on a page, all with --json]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Show this field; may be repeated
    #[arg(long, value_name = "FIELD")]
    show: Vec<String>,
    /// Group runs that agree in this field, such as `arm`, with mean, median and interval of what
    /// is shown; may be repeated
    #[arg(long, value_name = "FIELD")]
    by: Vec<String>,
    /// Write the fields that are shown, or all there are, as .csv, .parquet or .jsonl
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write each run as a TensorBoard event file into a folder of its own in DIR; Trackio imports
    /// them too
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "by", "show"])]
    tensorboard: Option<PathBuf>,
    /// Make the index anew from the directories first
    #[arg(long)]
    rebuild: bool,
}

/// What was asked, and the answer.
enum Answer {
    Runs { n_fit: usize, runs: Vec<Listed> },
    Table { fields: Vec<String>, n_fit: usize, rows: Vec<Vec<Value>> },
    Groups { by: Vec<String>, fields: Vec<String>, groups: Vec<Group> },
    Written { path: PathBuf, n_runs: usize, n_fields: usize },
    Tracked { path: PathBuf, n_runs: usize, n_numbers: usize },
}

struct Runs {
    store: String,
    answer: Answer,
}

impl Spoken for Runs {
    fn page(&self) -> String {
        match &self.answer {
            Answer::Runs { n_fit, runs } => page(&self.store, runs, *n_fit),
            Answer::Table { fields, n_fit, rows } => table_page(&self.store, fields, rows, *n_fit),
            Answer::Groups { by, fields, groups } => groups::page(by, fields, groups),
            Answer::Written { path, n_runs, n_fields } => format!(
                "{} with {} in {}\n",
                number::counted(*n_runs as u64, "run", "runs"),
                number::counted(*n_fields as u64, "field", "fields"),
                path.display()
            ),
            Answer::Tracked { path, n_runs, n_numbers } => format!(
                "{} with {} in {}; `tensorboard --logdir {}` shows them\n",
                number::counted(*n_runs as u64, "run", "runs"),
                number::counted(*n_numbers as u64, "number", "numbers"),
                path.display(),
                path.display()
            ),
        }
    }

    fn json(&self) -> Value {
        match &self.answer {
            Answer::Runs { n_fit, runs } => {
                let mut said = to_json(&self.store, runs);
                said["n_fit"] = json!(n_fit);
                said
            }
            Answer::Table { fields, n_fit, rows } => {
                let row = |row: &Vec<Value>| -> serde_json::Map<String, Value> {
                    fields.iter().cloned().zip(row.iter().cloned()).collect()
                };
                let rows: Vec<_> = rows.iter().map(row).collect();
                json!({"store": self.store, "n_fit": n_fit, "runs": rows})
            }
            Answer::Groups { by, fields, groups } => {
                json!({"store": self.store, "by": by, "fields": fields, "groups": groups})
            }
            Answer::Written { path, n_runs, n_fields } => {
                json!({"store": self.store, "path": path, "n_runs": n_runs, "n_fields": n_fields})
            }
            Answer::Tracked { path, n_runs, n_numbers } => {
                json!({"store": self.store, "path": path, "n_runs": n_runs, "n_numbers": n_numbers})
            }
        }
    }

    fn brief(&self) -> String {
        match &self.answer {
            Answer::Runs { runs, .. } => runs.iter().map(|run| format!("{}\n", run.id)).collect(),
            Answer::Table { rows, .. } => {
                let line = |row: &Vec<Value>| {
                    let words: Vec<String> = row.iter().map(groups::word).collect();
                    words.join("\t") + "\n"
                };
                rows.iter().map(line).collect()
            }
            Answer::Groups { groups, .. } => {
                let line = |group: &Group| {
                    let words: Vec<String> = group.by.iter().map(groups::word).collect();
                    words.join("\t") + "\n"
                };
                groups.iter().map(line).collect()
            }
            Answer::Written { path, .. } | Answer::Tracked { path, .. } => {
                format!("{}\n", path.display())
            }
        }
    }
}

/// Lists runs, oldest first unless something else is asked for.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let store = session.store()?;
    if flags.rebuild {
        store.rebuild_index()?;
    }
    let filters = conditions(&flags.conditions)?;
    let usual = if session.voice.is_json()
        || !flags.by.is_empty()
        || flags.output.is_some()
        || flags.tensorboard.is_some()
    {
        0
    } else {
        USUAL_PAGE
    };
    let selection = Selection {
        filters,
        sort: flags.sort.as_deref().map(full_path),
        descending: flags.reverse,
        most: Some(flags.limit.unwrap_or(usual)).filter(|&most| most > 0),
        ..Selection::default()
    };
    let answer = answer(flags, &store, &selection)?;
    session.say(&Runs { store: session.store_name(), answer }, Exit::Done)
}

fn answer(flags: &Flags, store: &Store, selection: &Selection) -> Result<Answer, Failure> {
    let show: Vec<String> = flags.show.iter().map(|field| full_path(field)).collect();
    let by: Vec<String> = flags.by.iter().map(|field| full_path(field)).collect();
    let asked = [&show[..], &by[..], selection.sort.as_slice()].concat();
    check_fields(store, &asked)?;
    let answer = if let Some(folder) = &flags.tensorboard {
        track(folder, store, selection)?
    } else if let Some(path) = &flags.output {
        write(path, store, selection, show)?
    } else if !by.is_empty() {
        let fields = if show.is_empty() { rates(store)? } else { show };
        let rows = store.values(selection, &[&by[..], &fields[..]].concat())?;
        let groups = group(&rows, by.len());
        Answer::Groups { by, fields, groups }
    } else if !show.is_empty() {
        let fields = [&["id".to_owned()], &show[..]].concat();
        let rows = store.values(selection, &fields)?;
        let all = Selection { most: None, ..selection.clone() };
        let n_fit = match selection.most {
            Some(most) if rows.len() == most => store.values(&all, &[])?.len(),
            _ => rows.len(),
        };
        Answer::Table { fields, n_fit, rows }
    } else {
        let selected = store.select(selection)?;
        Answer::Runs { n_fit: selected.n_fit, runs: selected.runs }
    };
    let nothing = match &answer {
        Answer::Runs { n_fit, .. } | Answer::Table { n_fit, .. } => *n_fit == 0,
        Answer::Groups { groups, .. } => groups.is_empty(),
        Answer::Written { n_runs, .. } | Answer::Tracked { n_runs, .. } => *n_runs == 0,
    };
    if nothing {
        // Perhaps because a name is wrong.
        let asked: Vec<String> =
            selection.filters.iter().flat_map(Filter::fields).map(str::to_owned).collect();
        check_fields(store, &asked)?;
    }
    Ok(answer)
}

fn write(
    path: &Path,
    store: &Store,
    selection: &Selection,
    show: Vec<String>,
) -> Result<Answer, Failure> {
    let mut names = if show.is_empty() { store.fields()? } else { show };
    names.retain(|name| name != "id" && name != "path");
    names.insert(0, "id".to_owned());
    let rows = store.values(selection, &names)?;
    let (n_runs, n_fields) = (rows.len(), names.len());
    write_columns(path, &Columns { names, rows })?;
    Ok(Answer::Written { path: path.to_owned(), n_runs, n_fields })
}

/// Writes an event file for each run, each in a folder that TensorBoard takes for a run of its own.
fn track(folder: &Path, store: &Store, selection: &Selection) -> Result<Answer, Failure> {
    let (mut n_runs, mut n_numbers) = (0, 0);
    for row in store.values(selection, &["id", "meta.study", "meta.arm"].map(str::to_owned))? {
        let run = store.find(row[0].as_str().unwrap_or_default())?;
        let numbers = scalars(&run);
        let secs = run.created_secs().unwrap_or(0.0);
        let name = format!("{}-{}", plain(&groups::word(&row[2])), run.id());
        let place = folder.join(plain(&groups::word(&row[1]))).join(name);
        let refused =
            |why| Failure::machine(format!("cannot write {}", place.display())).because(&why);
        std::fs::create_dir_all(&place).map_err(refused)?;
        let path = place.join(format!("events.out.tfevents.{secs:.0}.mnemoscope"));
        std::fs::write(path, event_file(&numbers, secs)).map_err(refused)?;
        n_runs += 1;
        n_numbers += numbers.len();
    }
    Ok(Answer::Tracked { path: folder.to_owned(), n_runs, n_numbers })
}

/// A label as the name of a folder.
fn plain(label: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "-_.=,".contains(c) { c } else { '_' };
    label.chars().map(plain).collect()
}

/// The error rate of every set.
fn rates(store: &Store) -> Result<Vec<String>, Failure> {
    let fields = query::rates(store)?;
    if fields.is_empty() {
        return Err(Failure::usage(
            "nothing is measured yet; choose what to show with `--show FIELD`",
        ));
    }
    Ok(fields)
}

/// Refuses a field that no run has, where there are runs.
fn check_fields(store: &Store, asked: &[String]) -> Result<(), Failure> {
    match query::unknown_field(store, asked)? {
        None => Ok(()),
        Some(field) => Err(Failure::usage(query::no_such_field(&field))),
    }
}

/// Conditions as people write them.
pub(crate) fn conditions(texts: &[String]) -> Result<Vec<Filter>, Failure> {
    Ok(query::conditions(texts)?)
}
