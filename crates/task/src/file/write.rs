//! Writing examples: generated in batches, laid out by the format, published when whole.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::provenance::sidecar;
use super::staged::Staged;
use super::{Format, Provenance, Source, jsonl, npy, parquet, plain};
use crate::error::{Cause, Error};
use crate::task::Task;
use crate::token::Token;

/// Tokens generated at a time: a few megabytes with their texts.
const BATCH_TOKENS: usize = 1 << 20;

/// Writes examples to a file, with their provenance.
///
/// The file appears under its name when it is whole, and replaces what had that name.
/// Memory stays bounded whatever the number of examples.
///
/// # Errors
///
/// - [`ErrorKind::Invalid`](crate::ErrorKind::Invalid): the task or the range makes no sense, or
///   the path names no file.
/// - [`ErrorKind::Full`](crate::ErrorKind::Full): the disk is full; nothing is left behind.
/// - [`ErrorKind::Io`](crate::ErrorKind::Io): the system refused; nothing is left behind.
///
/// # Example
///
/// ```
/// use mnemoscope_task::file::{self, Format, Source};
/// use mnemoscope_task::{FlipFlop, Task};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("val.jsonl");
/// let source = Source {
///     task: Task::FlipFlop(FlipFlop::paper(0.8)?),
///     seed: 0,
///     split: "val".to_owned(),
///     first_index: 0,
///     n_examples: 10,
/// };
/// let provenance = file::write(&path, Format::Jsonl, &source)?;
/// let report = file::validate(&path, Format::Jsonl, 2)?;
/// assert!(report.sound() && report.n_examples == 10);
/// assert_eq!(report.content_blake3, provenance.content_blake3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write(path: &Path, format: Format, source: &Source) -> Result<Provenance, Error> {
    write_with(path, format, source, |_| ())
}

/// As [`write()`], telling `on_progress` the number of examples written so far, every few
/// megabytes.
///
/// # Errors
///
/// As [`write()`].
pub fn write_with(
    path: &Path,
    format: Format,
    source: &Source,
    on_progress: impl FnMut(u64),
) -> Result<Provenance, Error> {
    source.check()?;
    let (staged, mut file) = Staged::create(path)?;
    let refused = |error| Error::from(Cause::write(path, error));
    let provenance = write_to(&mut file, format, source, on_progress).map_err(refused)?;
    if format == Format::Parquet {
        staged.publish(&file)?;
        return Ok(provenance);
    }
    let beside = sidecar(path);
    let (staged_beside, mut file_beside) = Staged::create(&beside)?;
    let refused = |error| Error::from(Cause::write(&beside, error));
    let json = provenance.to_json().map_err(refused)?;
    file_beside.write_all(json.as_bytes()).map_err(refused)?;
    staged.publish(&file)?;
    staged_beside.publish(&file_beside)?;
    Ok(provenance)
}

/// Generates the examples and lays them out into `out`.
fn write_to<W: Write + Send>(
    out: W,
    format: Format,
    source: &Source,
    mut on_progress: impl FnMut(u64),
) -> io::Result<Provenance> {
    let mut layout = Layout::begin(out, format, source)?;
    let stream = source.stream();
    let seq_len = source.task.seq_len();
    let batch_len = (BATCH_TOKENS / seq_len).max(1);
    let mut content = blake3::Hasher::new();
    let mut batch = Batch { escaped: matches!(source.task, Task::Bigram(_)), ..Batch::default() };
    let mut n_written = 0;
    while n_written < source.n_examples {
        let n_left = source.n_examples - n_written;
        let n = usize::try_from(n_left).map_or(batch_len, |left| left.min(batch_len));
        let first_index = source.first_index + n_written;
        source.task.batch_into(&stream, first_index, n, &mut batch.tokens);
        batch.set_lines(&source.task);
        content.update(&batch.lines);
        layout.write(&batch)?;
        n_written += n as u64;
        on_progress(n_written);
    }
    let provenance = Provenance::new(source, &content);
    layout.finish(&provenance)?;
    Ok(provenance)
}

/// Some examples, as tokens and as lines of text.
#[derive(Default)]
pub(super) struct Batch {
    /// Tokens, example after example.
    pub(super) tokens: Vec<Token>,
    /// Texts, each followed by a line feed.
    pub(super) lines: Vec<u8>,
    /// Whether texts have line ends of their own, which are escaped in their lines.
    escaped: bool,
}

impl Batch {
    fn set_lines(&mut self, task: &Task) {
        self.lines.clear();
        for tokens in self.tokens.chunks_exact(task.seq_len()) {
            task.push_line(tokens, &mut self.lines);
            self.lines.push(b'\n');
        }
    }

    /// The texts one by one.
    pub(super) fn texts(&self) -> io::Result<impl Iterator<Item = Cow<'_, str>>> {
        let lines = std::str::from_utf8(&self.lines).map_err(io::Error::other)?.lines();
        let escaped = self.escaped;
        Ok(lines.map(move |line| if escaped { unescaped(line).into() } else { line.into() }))
    }
}

/// The text of a line in which `\`, line feeds and carriage returns are escaped.
fn unescaped(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        text.push(match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                _ => '\\',
            },
            plain => plain,
        });
    }
    text
}

/// A file being written, by its format.
enum Layout<W: Write + Send> {
    Jsonl(BufWriter<W>),
    Npy(BufWriter<W>),
    Text(BufWriter<W>),
    Parquet(Box<parquet::Writer<W>>),
}

impl<W: Write + Send> Layout<W> {
    fn begin(out: W, format: Format, source: &Source) -> io::Result<Self> {
        Ok(match format {
            Format::Jsonl => Self::Jsonl(BufWriter::new(out)),
            Format::Text => Self::Text(BufWriter::new(out)),
            Format::Npy => {
                let mut out = BufWriter::new(out);
                npy::write_header(&mut out, source.n_examples, source.task.seq_len())?;
                Self::Npy(out)
            }
            Format::Parquet => Self::Parquet(Box::new(parquet::Writer::begin(out)?)),
        })
    }

    fn write(&mut self, batch: &Batch) -> io::Result<()> {
        match self {
            Self::Jsonl(out) => jsonl::write(out, batch),
            Self::Npy(out) => npy::write(out, batch),
            Self::Text(out) => plain::write(out, batch),
            Self::Parquet(writer) => writer.write(batch),
        }
    }

    fn finish(self, provenance: &Provenance) -> io::Result<()> {
        match self {
            Self::Jsonl(mut out) | Self::Npy(mut out) | Self::Text(mut out) => out.flush(),
            Self::Parquet(writer) => writer.finish(&provenance.to_json()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, FlipFlop, Task, text};

    /// A disk with room for so many bytes.
    struct SmallDisk {
        n_bytes_left: usize,
    }

    impl Write for SmallDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.n_bytes_left == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let n = bytes.len().min(self.n_bytes_left);
            self.n_bytes_left -= n;
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn source(n_examples: u64) -> Source {
        let task = Task::FlipFlop(FlipFlop::paper(0.8).unwrap());
        Source { task, seed: 0, split: "val".to_owned(), first_index: 0, n_examples }
    }

    /// A disk that fills up at any byte of a file gives the same answer: full.
    #[test]
    fn a_full_disk_is_recognised_in_every_format_at_every_stage() {
        let source = source(4);
        for format in Format::ALL {
            let mut whole = Vec::new();
            write_to(&mut whole, format, &source, |_| ()).unwrap();
            for n_bytes_left in (0..whole.len()).step_by(7) {
                let error =
                    write_to(SmallDisk { n_bytes_left }, format, &source, |_| ()).unwrap_err();
                let error = Error::from(Cause::write(Path::new("val.x"), error));
                assert_eq!(error.kind(), ErrorKind::Full, "{format}, {n_bytes_left}: {error:?}");
                assert_eq!(
                    error.to_string(),
                    "the disk is full: val.x was not written and nothing was kept; \
                     free some space or choose another folder"
                );
            }
        }
    }

    #[test]
    fn progress_counts_examples_and_ends_at_all_of_them() {
        let mut told = Vec::new();
        write_to(io::sink(), Format::Text, &source(5_000), |n| told.push(n)).unwrap();
        assert_eq!(told, [2_048, 4_096, 5_000]);
    }

    #[test]
    fn a_batch_boundary_leaves_no_trace() {
        let mut text = Vec::new();
        let source = source(2_100);
        write_to(&mut text, Format::Text, &source, |_| ()).unwrap();
        let text = String::from_utf8(text).unwrap();
        let stream = source.stream();
        for (index, line) in (0..).zip(text.lines()) {
            assert_eq!(line, text::to_text(&source.task.example(&stream, index)));
        }
        assert_eq!(text.lines().count(), 2_100);
    }
}
