//! `mnemoscope probe`: what the matrices of a trained model remember, and where its layers look.

use std::path::{Path, PathBuf};

use clap::Args;
use mnemoscope_lab::probe::attention::Attention;
use mnemoscope_lab::probe::map::{HeadMap, Maps};
use mnemoscope_lab::probe::memory::{Matrix, Memory, Picture};
use mnemoscope_lab::probe::{Finished, Share, finished};
use mnemoscope_view::picture::{labelled, shaded};
use mnemoscope_view::table::{Align, Table};
use serde_json::{Value, json};

use super::probe_reads;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// Rows and columns of a picture that fit a page.
pub(super) const PICTURE: usize = 72;

/// Flags of `probe`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// `latest`, or the beginning of a run's id
    run: String,
    /// Examples whose attention is looked at
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) examples: u16,
    /// Draw the scores of the matrices, pair by pair, or with --drift the rows of each head
    #[arg(long)]
    pub(super) pictures: bool,
    /// Show where each head looks in this text; on flip-flop such as w1i0r1, of the automaton such as 1--0-
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(super) text: Option<String>,
    /// Write the scores of the matrices, and the patterns of the heads, as CSV files into this folder
    #[arg(short, long, value_name = "DIR")]
    pub(super) output: Option<PathBuf>,
    #[command(flatten)]
    pub(super) reads: probe_reads::ReadFlags,
}

struct Probed {
    run: String,
    finished: Finished,
    draws: bool,
    written: Vec<PathBuf>,
}

impl Spoken for Probed {
    fn page(&self) -> String {
        let Finished { step, memory, attention, pictures, .. } = &self.finished;
        let mut page = format!("Run {}, probed after {step} steps\n\n", self.run);
        page += &memory_table(memory).to_string();
        if let Some(kl_nats) = memory.kl_nats {
            page += &format!(
                "  feed-forward: KL(bigrams || model) = {kl_nats:.3} nats, mean over tokens\n"
            );
        }
        page += &format!("\nAttention in {} fresh examples\n", attention.n_examples);
        page += &attention_table(attention).to_string();
        if self.draws {
            for picture in pictures {
                page += &drawn(picture);
            }
        }
        if let Some(maps) = &self.finished.maps {
            page += &mapped(maps);
        }
        for path in &self.written {
            page += &format!("written: {}\n", path.display());
        }
        page
    }

    fn json(&self) -> Value {
        let Finished { checkpoint_blake3, step, memory, attention, maps, .. } = &self.finished;
        let maps = maps.as_ref().map(stored);
        json!({
            "run": self.run,
            "checkpoint": checkpoint_blake3,
            "step": step,
            "memory": memory,
            "attention": attention,
            "text": maps,
            "written": self.written,
        })
    }
}

/// Probes the last checkpoint of a run.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let run = session.store()?.find(&flags.run)?;
    if probe_reads::is_asked(&run) {
        return probe_reads::run(&run, flags, session);
    }
    flags.reads.check_unused()?;
    let (n_examples, text) = (usize::from(flags.examples), flags.text.as_deref());
    let finished = finished(&run, n_examples, text, session.n_threads, session.device)?;
    let written = match &flags.output {
        Some(folder) => write(folder, files(&finished))?,
        None => Vec::new(),
    };
    let run = run.id().to_owned();
    session.say(&Probed { run, finished, draws: flags.pictures, written }, Exit::Done)
}

/// Writes CSV files into a folder, which is made if it is not there, and says which.
pub(super) fn write(folder: &Path, files: Vec<(String, String)>) -> Result<Vec<PathBuf>, Failure> {
    let refused = |why: std::io::Error| {
        Failure::machine(format!("cannot write into {}", folder.display())).because(&why)
    };
    std::fs::create_dir_all(folder).map_err(refused)?;
    let write = |(name, text): (String, String)| {
        let path = folder.join(format!("{name}.csv"));
        std::fs::write(&path, text).map_err(refused)?;
        Ok(path)
    };
    files.into_iter().map(write).collect()
}

fn memory_table(memory: &Memory) -> Table {
    let mut table = Table::new(&[
        ("memory", Align::Left),
        ("asked", Align::Left),
        ("recalled", Align::Right),
        ("of", Align::Right),
        ("share", Align::Right),
    ]);
    let asked = "each query, over keys";
    let by_key = "each key, over queries";
    for (name, asked, share) in [
        ("w_o2", "each token, over outputs", Some(memory.w_o2)),
        ("w_k2", asked, Some(memory.w_k2)),
        ("w_k2", by_key, Some(memory.w_k2_by_key)),
        ("w_k2, frequent half", asked, memory.w_k2_frequent),
        ("w_k2, rare half", asked, memory.w_k2_rare),
        ("w_k1", asked, memory.w_k1),
        ("w_k1", by_key, memory.w_k1_by_key),
        ("w_k1, 64 places", asked, memory.w_k1_first_64),
        ("w_k1, 64 places", by_key, memory.w_k1_first_64_by_key),
    ] {
        let Some(share) = share else { continue };
        let [n_right, n, share] = words(share);
        table.row([name.to_owned(), asked.to_owned(), n_right, n, share]);
    }
    table
}

fn attention_table(attention: &Attention) -> Table {
    let mut table = Table::new(&[
        ("layer and place", Align::Wrapped),
        ("right", Align::Right),
        ("of", Align::Right),
        ("share", Align::Right),
    ]);
    for (name, share) in [
        ("1: behind a trigger, looks at it", attention.previous),
        ("1: behind a trigger's first occurrence, looks at it", attention.previous_first),
        ("2: at a trigger seen before, looks behind an earlier one", attention.induction),
        ("2: ... looks at the token that follows", attention.attended),
        ("2: ... looks at the token that is answered", attention.answered),
        ("1: where layer 2 looks from there, looks one back", attention.previous_of_attended),
    ] {
        let [n_right, n, share] = words(share);
        table.row([name.to_owned(), n_right, n, share]);
    }
    for (name, mass) in [
        ("1: mean softmax on the place before", attention.mass_previous),
        ("2: mean softmax on all places behind an earlier one", attention.mass_outputs),
        ("1: mean softmax on the first place", attention.mass_first_place[0]),
        ("2: mean softmax on the first place", attention.mass_first_place[1]),
    ] {
        table.row([name.to_owned(), String::new(), String::new(), format!("{mass:.3}")]);
    }
    for (layer, heads, on) in [
        (1, &attention.heads_previous, "the place before"),
        (2, &attention.heads_outputs, "all places behind an earlier one"),
    ] {
        for (head, mass) in heads.iter().enumerate() {
            let name = format!("{layer}: head {} alone, on {on}", head + 1);
            table.row([name, String::new(), String::new(), format!("{mass:.3}")]);
        }
    }
    table
}

fn words(share: Share) -> [String; 3] {
    let part = share.share().map_or_else(|| "-".to_owned(), |part| format!("{part:.3}"));
    [share.n_right.to_string(), share.n.to_string(), part]
}

/// A picture of at most a page, and what it shows.
fn drawn(picture: &Picture) -> String {
    let [n_rows, n_cols] = picture.scores.dims();
    let rows: Vec<&[f64]> = (0..n_rows.min(PICTURE))
        .map(|row| &picture.scores.row(row)[..n_cols.min(PICTURE)])
        .collect();
    let Picture { name, rows: down, cols: right, .. } = picture;
    let words = format!("{name}: {down} downwards, {right} to the right; the darkest is recalled");
    format!("\n{words}\n{}", shaded(&rows))
}

/// The patterns of all heads, and what is answered after each character.
pub(super) fn mapped(maps: &Maps) -> String {
    let n = maps.characters.len().min(PICTURE);
    let labels: Vec<char> = maps.characters[..n].iter().map(|shown| label(shown)).collect();
    let answers: String = maps.answers[..n].iter().map(|shown| label(shown)).collect();
    let mut page = format!("\nText     {}\nAnswers  {answers}\n", String::from_iter(&labels));
    for HeadMap { layer, head, pattern } in &maps.heads {
        let rows: Vec<&[f64]> = (0..n).map(|query| &pattern.row(query)[..n]).collect();
        page += &format!("\nLayer {}, head {}: where each row looks\n", layer + 1, head + 1);
        page += &labelled(&rows, &labels);
    }
    page
}

/// The patterns of all heads as they are printed with `--json`.
pub(super) fn stored(maps: &Maps) -> Value {
    let head = |map: &HeadMap| {
        let rows = 0..map.pattern.dims()[0];
        let rows: Vec<&[f64]> = rows.map(|query| map.pattern.row(query)).collect();
        json!({"layer": map.layer, "head": map.head, "pattern": rows})
    };
    let heads: Vec<Value> = maps.heads.iter().map(head).collect();
    json!({"characters": maps.characters, "answers": maps.answers, "heads": heads})
}

/// The patterns of all heads as files, by name.
pub(super) fn map_files(maps: &Maps) -> Vec<(String, String)> {
    let map = |map: &HeadMap| {
        let name = format!("pattern-layer-{}-head-{}", map.layer + 1, map.head + 1);
        (name, csv("query/key", &map.pattern))
    };
    maps.heads.iter().map(map).collect()
}

/// One character for what may be shown as several.
fn label(shown: &str) -> char {
    let mut characters = shown.chars();
    match (characters.next(), characters.next()) {
        (Some(only), None) => only,
        _ if shown == "\\n" => '↵',
        _ => '?',
    }
}

/// What is written, by name.
fn files(finished: &Finished) -> Vec<(String, String)> {
    let picture = |picture: &Picture| {
        let corner = format!("{}/{}", picture.rows, picture.cols).replace(' ', "_");
        (picture.name.to_owned(), csv(&corner, &picture.scores))
    };
    let maps = finished.maps.iter().flat_map(map_files);
    finished.pictures.iter().map(picture).chain(maps).collect()
}

/// A matrix with a header of column numbers and a column of row numbers.
fn csv(corner: &str, matrix: &Matrix) -> String {
    let [n_rows, n_cols] = matrix.dims();
    let mut text = corner.to_owned();
    text.extend((0..n_cols).map(|col| format!(",{col}")));
    for row in 0..n_rows {
        text += &format!("\n{row}");
        text.extend(matrix.row(row).iter().map(|score| format!(",{score}")));
    }
    text.push('\n');
    text
}
