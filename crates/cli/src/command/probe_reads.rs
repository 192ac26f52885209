//! `mnemoscope probe` of a run on flip-flop or its automaton: where the heads look from its reads, in a string
//! of one's own, and how far they keep looking.

use std::path::PathBuf;

use clap::Args;
use mnemoscope_lab::probe::drift::{Drift, DriftRow, Drifted, HeadDrift};
use mnemoscope_lab::probe::flipflop::{Reads, Which, finished};
use mnemoscope_lab::probe::map::{self, Maps};
use mnemoscope_lab::probe::{Share, drift};
use mnemoscope_store::RunReader;
use mnemoscope_view::picture::shaded;
use mnemoscope_view::probe::page;
use mnemoscope_view::table::{Align, Table};
use mnemoscope_view::{WIDTH, text};
use serde::{Deserialize as _, Serialize};
use serde_json::{Value, json};

use super::probe::{self, PICTURE};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// What the columns of a table of rows mean.
const MASSES: &str = "Share of attention in a row on the last write, on the write before it, on the ⊥ among the \
                      32 places up to the row, and on every other ⊥.";

/// Flags of `probe` that runs on flip-flop understand.
#[derive(Debug, Args)]
#[command(next_help_heading = "Of a run on flip-flop or its automaton")]
pub(crate) struct ReadFlags {
    /// The evaluation set whose examples are looked at [default: the first by name]
    #[arg(long, value_name = "NAME")]
    set: Option<String>,
    /// Look at examples in which the record keeps a glitch
    #[arg(long)]
    glitches: bool,
    /// Of the automaton: look at a write and this many ⊥ (800 if no number is given) instead
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "800",
          value_parser = clap::value_parser!(u16).range(1..), conflicts_with_all = ["set", "glitches", "text"])]
    drift: Option<u16>,
}

impl ReadFlags {
    /// Refuses these flags where they would do nothing.
    pub(crate) fn check_unused(&self) -> Result<(), Failure> {
        if self.set.is_none() && !self.glitches && self.drift.is_none() {
            return Ok(());
        }
        let what = "--set, --glitches and --drift are of flip-flop, and the run is on bigrams";
        Err(Failure::usage(format!("{what}; leave them out")))
    }
}

/// Heads at the reads of a set, or in a string.
struct Probed {
    run: String,
    stored: Value,
    reads: mnemoscope_view::probe::Reads,
    maps: Option<Maps>,
    written: Vec<PathBuf>,
}

impl Spoken for Probed {
    fn page(&self) -> String {
        let mut said = page(&self.run, &self.reads);
        if let Some(maps) = &self.maps {
            said += &probe::mapped(maps);
        }
        said + &written(&self.written)
    }

    fn json(&self) -> Value {
        self.stored.clone()
    }
}

/// Heads along two strings.
struct Drifts {
    run: String,
    drift: Drift,
    draws: bool,
    written: Vec<PathBuf>,
}

impl Spoken for Drifts {
    fn page(&self) -> String {
        let mut page = format!("Run {}, attention as ⊥ after ⊥ follows a write\n", self.run);
        for string in &self.drift.strings {
            page += &drifted(string, self.draws);
        }
        page += "\n";
        page += &text::wrap(MASSES, WIDTH, "");
        page + &written(&self.written)
    }

    fn json(&self) -> Value {
        let mut stored = stored(&self.drift);
        stored["run"] = json!(self.run);
        stored["written"] = json!(self.written);
        stored
    }
}

fn stored(found: &impl Serialize) -> Value {
    serde_json::to_value(found).expect("what is probed is plain data")
}

fn written(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("written: {}\n", path.display())).collect()
}

/// Whether a run is one that this file probes.
pub(crate) fn is_asked(run: &RunReader) -> bool {
    run.plan()["task"]["name"] != "bigram"
}

/// Probes the last checkpoint of a run.
pub(crate) fn run(
    run: &RunReader,
    flags: &probe::Flags,
    session: &mut Session,
) -> Result<Exit, Failure> {
    let asked = &flags.reads;
    if let Some(n_bottoms) = asked.drift {
        return run_drift(run, flags, usize::from(n_bottoms), session);
    }
    if flags.pictures {
        let what = "--pictures is of runs on bigrams, and of --drift";
        return Err(Failure::usage(format!("{what}; leave it out")));
    }
    if flags.output.is_some() && flags.text.is_none() {
        let what = "--output writes the patterns of --text or the rows of --drift";
        return Err(Failure::usage(format!("{what}; give one of them, or leave it out")));
    }
    let n = u64::from(flags.examples);
    let which = if asked.glitches { Which::WithGlitches(n) } else { Which::First(n) };
    let found: Reads =
        finished(run, asked.set.as_deref(), which, session.n_threads, session.device)?;
    let maps = match &flags.text {
        Some(text) => Some(map::finished(run, text, session.n_threads, session.device)?),
        None => None,
    };
    let mut stored = stored(&found);
    let reads = mnemoscope_view::probe::Reads::deserialize(&stored)
        .map_err(|why| Failure::input("the probe is not readable").because(&why))?;
    stored["run"] = Value::from(run.id());
    let mut written = Vec::new();
    if let Some(maps) = &maps {
        stored["text"] = probe::stored(maps);
        if let Some(folder) = &flags.output {
            written = probe::write(folder, probe::map_files(maps))?;
        }
        stored["written"] = json!(written);
    }
    let run = run.id().to_owned();
    session.say(&Probed { run, stored, reads, maps, written }, Exit::Done)
}

fn run_drift(
    run: &RunReader,
    flags: &probe::Flags,
    n_bottoms: usize,
    session: &mut Session,
) -> Result<Exit, Failure> {
    let drift = drift::finished(run, n_bottoms, session.n_threads, session.device)?;
    let written = match &flags.output {
        Some(folder) => probe::write(folder, files(&drift))?,
        None => Vec::new(),
    };
    let run = run.id().to_owned();
    session.say(&Drifts { run, drift, draws: flags.pictures, written }, Exit::Done)
}

/// One string: how it was answered, and where each head turned away.
fn drifted(string: &Drifted, draws: bool) -> String {
    let Drifted { what, n_tokens, answers, first_wrong, heads } = string;
    let Share { n_right, n } = answers;
    let wrong = match first_wrong {
        Some(pos) => format!("first wrong at place {pos}"),
        None => "never wrong".to_owned(),
    };
    let mut page =
        format!("\n{what}: {n_tokens} tokens\n  state told: {n_right} of {n} right, {wrong}\n");
    for head in heads {
        let HeadDrift { layer, head: number, first_lost, rows } = head;
        let lost = match first_lost {
            Some(pos) => format!("looks elsewhere first at place {pos}"),
            None => "looks at the last write throughout".to_owned(),
        };
        page += &format!("\n  layer {}, head {}: {lost}\n", layer + 1, number + 1);
        page += &rows_table(rows).to_string();
        if draws {
            page += "\n";
            page += &shaded(&binned(rows, *n_tokens));
        }
    }
    page
}

fn rows_table(rows: &[DriftRow]) -> Table {
    let mut table = Table::new(&[
        ("row", Align::Right),
        ("latest", Align::Right),
        ("before", Align::Right),
        ("recent", Align::Right),
        ("other", Align::Right),
        ("largest at", Align::Right),
    ]);
    for row in rows {
        let masses = [row.latest, row.other_writes, row.recent, row.earlier];
        let [latest, before, recent, other] = masses.map(|mass| format!("{mass:.3}"));
        let (at, largest) = (row.query_pos.to_string(), row.largest_pos.to_string());
        table.row([at, latest, before, recent, other, largest]);
    }
    table
}

/// Rows in parts of equally many keys that fit a page's width, what falls into one added up.
fn binned(rows: &[DriftRow], n_tokens: usize) -> Vec<Vec<f64>> {
    let n_keys = n_tokens.div_ceil(PICTURE).max(1);
    let of = |row: &DriftRow| {
        let mut bins = vec![0.0; n_tokens.div_ceil(n_keys)];
        for (pos, &weight) in row.weights.iter().enumerate() {
            bins[pos / n_keys] += f64::from(weight);
        }
        bins
    };
    rows.iter().map(of).collect()
}

/// The rows that were kept, a file for each string and head.
fn files(drift: &Drift) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for (idx, string) in drift.strings.iter().enumerate() {
        for head in &string.heads {
            let mut text = "query/key".to_owned();
            text.extend((0..string.n_tokens).map(|pos| format!(",{pos}")));
            for row in &head.rows {
                text += &format!("\n{}", row.query_pos);
                text.extend(row.weights.iter().map(|weight| format!(",{weight}")));
                text += &",0".repeat(string.n_tokens - row.weights.len());
            }
            text.push('\n');
            let (layer, head) = (head.layer + 1, head.head + 1);
            files.push((format!("drift-{}-layer-{layer}-head-{head}", idx + 1), text));
        }
    }
    files
}
