//! Reading examples, and validating a whole file against the oracle and its provenance.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::lines::Lines;
use super::{Format, Provenance, jsonl, npy, parquet, provenance};
use crate::automaton::Automaton;
use crate::bigram::Bigram;
use crate::coding::Coding;
use crate::error::{Cause, Error};
use crate::oracle;
use crate::task::Task;
use crate::text::{self, Flaw};
use crate::token::{READ, Token, WRITE};

/// Opens a file of flip-flop examples with `n_symbols` data symbols.
///
/// # Errors
///
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if it cannot be opened,
/// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if it is not of that format,
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if `n_symbols` is not 2 to 256.
///
/// # Example
///
/// ```
/// use mnemoscope_task::file::{self, Format};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("mine.txt");
/// std::fs::write(&path, "w1i0r1\nw0i1x0\n")?;
/// let mut examples = file::read(&path, Format::Text, 2)?;
/// assert_eq!(examples.next().transpose()?, Some(vec![0, 4, 2, 3, 1, 4]));
/// let error = examples.next().transpose().unwrap_err().to_string();
/// assert!(error.ends_with("mine.txt, row 1: character 4 is `x`, but w, r or i belongs there"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read(path: &Path, format: Format, n_symbols: u32) -> Result<Examples, Error> {
    text::check_n_symbols(n_symbols)?;
    let file = File::open(path).map_err(|error| Cause::read(path, error))?;
    let rows = match format {
        Format::Jsonl => Rows::Jsonl(Lines::new(file)),
        Format::Text => Rows::Text(Lines::new(file)),
        Format::Npy => Rows::Npy(npy::Reader::open(file, path)?),
        Format::Parquet => Rows::Parquet(parquet::Reader::open(file, path)?),
    };
    Ok(Examples { path: path.to_owned(), rows, n_symbols, seq_len: None, row: 0, ended: false })
}

/// The examples of a file, one after the other, in bounded memory.
///
/// A row that cannot be read is an error of kind [`Corrupt`](crate::ErrorKind::Corrupt) with the
/// row's number, counted from 0, and ends the iteration: characters that do not belong, an odd
/// number of tokens, another length than the rows before. Whether the answers are right is for
/// [`validate`] to say.
#[derive(Debug)]
pub struct Examples {
    path: PathBuf,
    rows: Rows,
    n_symbols: u32,
    seq_len: Option<usize>,
    row: u64,
    ended: bool,
}

/// The rows of a file by its format.
enum Rows {
    Jsonl(Lines),
    Text(Lines),
    Npy(npy::Reader),
    Parquet(parquet::Reader),
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Jsonl(_) => "Jsonl",
            Self::Text(_) => "Text",
            Self::Npy(_) => "Npy",
            Self::Parquet(_) => "Parquet",
        })
    }
}

impl Iterator for Examples {
    type Item = Result<Vec<Token>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let mut tokens = Vec::with_capacity(self.seq_len.unwrap_or(0));
        let next = self.next_into(&mut tokens);
        self.ended = !matches!(next, Ok(true));
        match next {
            Ok(true) => Some(Ok(tokens)),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl Examples {
    /// The next example into `tokens`; `false` after the last one.
    fn next_into(&mut self, tokens: &mut Vec<Token>) -> Result<bool, Error> {
        let Some(parsed) = self.parse_row(tokens)? else { return Ok(false) };
        let n_tokens = tokens.len();
        let expected = *self.seq_len.get_or_insert(n_tokens);
        let same_length =
            if n_tokens == expected { Ok(()) } else { Err(Flaw::Ragged { n_tokens, expected }) };
        parsed.and(same_length).map_err(|flaw| Cause::row(&self.path, self.row, flaw))?;
        self.row += 1;
        Ok(true)
    }

    /// Parses the next row, or says what is wrong with it; `None` after the last one.
    fn parse_row(&mut self, tokens: &mut Vec<Token>) -> Result<Option<Result<(), Flaw>>, Error> {
        let n_symbols = self.n_symbols;
        let refused = |error| Cause::read(&self.path, error);
        Ok(match &mut self.rows {
            Rows::Text(lines) => lines
                .next_line()
                .map_err(refused)?
                .map(|line| text::parse(line?, n_symbols, tokens)),
            Rows::Jsonl(lines) => lines
                .next_line()
                .map_err(refused)?
                .map(|line| text::parse(&jsonl::text_of(line?)?, n_symbols, tokens)),
            Rows::Npy(reader) => reader.next_row(n_symbols, tokens).map_err(refused)?,
            Rows::Parquet(reader) => reader
                .next_text()
                .map_err(|source| parquet::damaged(&self.path, self.row, source))?
                .map(|text| text::parse(text.ok_or(Flaw::Null)?, n_symbols, tokens)),
        })
    }
}

/// One row that can be read but is no example of the language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The row, counted from 0.
    pub row: u64,
    /// What is wrong with it.
    pub message: String,
}

/// What [`validate`] found in a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Number of examples.
    pub n_examples: u64,
    /// Tokens in each of them; 0 if there is none.
    pub seq_len: usize,
    /// Number of reads, the trials of an evaluation on this file.
    pub n_reads: u64,
    /// Number of writes.
    pub n_writes: u64,
    /// BLAKE3 of the examples as text, a line each.
    pub content_blake3: String,
    /// Where the examples came from, if the file says so.
    pub provenance: Option<Provenance>,
    /// In what the provenance and the examples disagree.
    pub disagreements: Vec<String>,
    /// Number of rows that are no example.
    pub n_faults: u64,
    /// The first of them, at most [`Report::MAX_FAULTS`].
    pub faults: Vec<Fault>,
}

impl Report {
    /// Faults that are kept; the others are only counted.
    pub const MAX_FAULTS: usize = 10;

    /// Whether every row is an example with right answers, and the provenance, if there is any,
    /// is that of these examples.
    #[must_use]
    pub fn sound(&self) -> bool {
        self.n_faults == 0 && self.disagreements.is_empty()
    }
}

/// Reads a whole file of flip-flop examples, asks the oracle about every row, and compares it with its provenance.
///
/// A read followed by the wrong symbol is a [`Fault`] in the report, not an error: the file can
/// be read, it is the data that is wrong.
///
/// # Errors
///
/// As [`read`] and [`Examples`]: what cannot be read at all.
///
/// # Example
///
/// ```
/// use mnemoscope_task::file::{self, Format};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("mine.txt");
/// std::fs::write(&path, "w1i0r1\nw0i1r1\n")?;
/// let report = file::validate(&path, Format::Text, 2)?;
/// assert_eq!((report.n_examples, report.n_reads, report.n_faults), (2, 2, 1));
/// assert_eq!(report.faults[0].row, 1);
/// assert_eq!(
///     report.faults[0].message,
///     "the read at pos 4 says 1, but 0 was last written at pos 0"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn validate(path: &Path, format: Format, n_symbols: u32) -> Result<Report, Error> {
    let provenance = provenance(path, format)?;
    if let Some(why) = provenance.as_ref().and_then(not_validated) {
        return Err(Cause::layout(path, why).into());
    }
    let mut examples = read(path, format, n_symbols)?;
    let mut tokens = Vec::new();
    let mut line = Vec::new();
    let mut content = blake3::Hasher::new();
    let mut report = Report {
        n_examples: 0,
        seq_len: 0,
        n_reads: 0,
        n_writes: 0,
        content_blake3: String::new(),
        provenance,
        disagreements: Vec::new(),
        n_faults: 0,
        faults: Vec::new(),
    };
    while examples.next_into(&mut tokens)? {
        let n_of = |op| tokens.iter().step_by(2).filter(|&&token| token == op).count() as u64;
        report.n_reads += n_of(READ);
        report.n_writes += n_of(WRITE);
        if let Err(message) = oracle::is_valid(&tokens, n_symbols) {
            if report.faults.len() < Report::MAX_FAULTS {
                report.faults.push(Fault { row: report.n_examples, message });
            }
            report.n_faults += 1;
        }
        line.clear();
        text::push_text(&tokens, &mut line);
        line.push(b'\n');
        content.update(&line);
        report.n_examples += 1;
    }
    report.seq_len = examples.seq_len.unwrap_or(0);
    report.content_blake3 = content.finalize().to_hex().as_str().to_owned();
    report.disagreements = disagreements(&report, n_symbols);
    Ok(report)
}

/// Why a file of another language than flip-flop is not validated, and what to do instead.
fn not_validated(from: &Provenance) -> Option<String> {
    let Provenance { n_examples, first_index, split, seed, .. } = from;
    let why = match &from.task {
        Task::FlipFlop(_) | Task::Mixture(_) if from.task.coding() == Coding::Tokens => {
            return None;
        }
        Task::FlipFlop(_) | Task::Mixture(_) => {
            "of flip-flop spelt in another coding than tokens".to_owned()
        }
        Task::Bigram(Bigram { n_triggers, seq_len, .. }) => format!(
            "of the bigram language (seq_len {seq_len}, n_triggers {n_triggers}), and which of their \
             tokens are triggers does not stand in the file"
        ),
        Task::Automaton(Automaton { seq_len, .. }) => format!(
            "of the flip-flop automaton (seq_len {seq_len}), and its states do not stand in the file"
        ),
    };
    Some(format!(
        "it holds {n_examples} examples {why}, so only flip-flop files in tokens can be validated; generate it \
         again (stream {split}, seed {seed}, first index {first_index}) and compare content_blake3 in \
         the two provenances"
    ))
}

fn disagreements(report: &Report, n_symbols: u32) -> Vec<String> {
    let Some(provenance) = &report.provenance else { return Vec::new() };
    let mut found = Vec::new();
    let mut compare = |what: &str, got: u64, expected: u64| {
        if got != expected {
            found.push(format!("{what} is {got}, but {expected} in the provenance"));
        }
    };
    compare("n_examples", report.n_examples, provenance.n_examples);
    compare("n_symbols", u64::from(n_symbols), u64::from(provenance.task.n_symbols()));
    if report.n_examples > 0 {
        compare("seq_len", report.seq_len as u64, provenance.task.seq_len() as u64);
    }
    if report.content_blake3 != provenance.content_blake3 {
        found.push(format!(
            "the examples have BLAKE3 {}, but {} in the provenance: they were changed",
            report.content_blake3, provenance.content_blake3
        ));
    }
    found
}
