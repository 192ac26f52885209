//! Files of examples: written with their provenance, read from the public layout.
//!
//! | Format | Ending | A row is | Provenance |
//! |---|---|---|---|
//! | [`Jsonl`](Format::Jsonl) | `.jsonl` | `{"text":"w1i0r1"}` | `FILE.meta.json` |
//! | [`Parquet`](Format::Parquet) | `.parquet` | column `text`, a string | in the file, key `mnemoscope` |
//! | [`Npy`](Format::Npy) | `.npy` | `uint16 [n, T]`, tokens | `FILE.meta.json` |
//! | [`Text`](Format::Text) | `.txt` | `w1i0r1` | `FILE.meta.json` |
//!
//! Of the bigram language a row is its characters; in plain text, where a row is a line, `\`, line
//! feeds and carriage returns are escaped ([`Corpus::line`](crate::Corpus::line)). Such files are
//! written with their provenance and not read back: the provenance is enough to draw them again.
//!
//! Flip-flop in another [coding](crate::coding) has the text of its tokens, `w10i00r10` in bits and `w2i0r2`
//! in pairs. Of the automaton a row is a character for each token, `-`, `0` or `1`; its states are not in the file.
//!
//! Light-switch [stories](crate::story) are JSON lines of their own, with the fields of a
//! [`Story`](crate::story::Story); [`read_outputs`] reads what a model said to them.
//!
//! The parquet layout is that of the public data set `synthseq/flipflop`, which can be read as it
//! is. Files are written and read in bounded memory. They appear under their name when they are
//! whole: until then they have a temporary name beside it, and a failure removes that.

mod columns;
mod jsonl;
mod lines;
mod npy;
mod parquet;
mod plain;
mod provenance;
mod read;
mod staged;
mod stories;
mod write;

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Cause, Error};

pub use columns::{Columns, write_columns};
pub use provenance::{Provenance, Source, provenance};
pub use read::{Examples, Fault, Report, read, validate};
pub use stories::{StoryProvenance, read_outputs, read_stories, story_line, write_stories};
pub use write::{write, write_with};

/// How a file holds examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A JSON object a line, its field `text` the example.
    Jsonl,
    /// A table with one column, `text`, compressed; the format of the public data set.
    Parquet,
    /// The array of tokens as NumPy saves it: `uint16`, `[n_examples, seq_len]`.
    Npy,
    /// A line of text for each example, nothing else.
    Text,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Jsonl, Self::Parquet, Self::Npy, Self::Text];

    /// The ending of the format's files, without the dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
            Self::Npy => "npy",
            Self::Text => "txt",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.extension())
    }
}

/// The format that a file's ending asks for.
///
/// # Errors
///
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if the ending is none of the known ones.
///
/// # Example
///
/// ```
/// use std::path::Path;
///
/// use mnemoscope_task::file::{Format, format_of};
///
/// assert_eq!(format_of(Path::new("data/val.parquet"))?, Format::Parquet);
/// let error = format_of(Path::new("data/val.csv")).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "data/val.csv has no known ending; use .jsonl, .parquet, .npy or .txt"
/// );
/// # Ok::<(), mnemoscope_task::Error>(())
/// ```
pub fn format_of(path: &Path) -> Result<Format, Error> {
    let extension = path.extension().and_then(|ending| ending.to_str()).unwrap_or("");
    Format::ALL
        .into_iter()
        .find(|format| format.extension().eq_ignore_ascii_case(extension))
        .ok_or_else(|| Cause::UnknownExtension { path: path.to_owned() }.into())
}
