//! `mnemoscope generate`: examples of a task as a file, with where they came from.

mod bigram;
mod stories;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use mnemoscope_lab::clock::Clock as _;
use mnemoscope_lab::task::file::{self, Provenance, Source};
use mnemoscope_lab::task::{Automaton, Coding, FlipFlop, Mixture, Part, Task, split};
use mnemoscope_view::number;
use mnemoscope_view::text::facts;
use serde_json::{Value, json};

use bigram::BigramFlags;
use stories::StoryFlags;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// A language to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    /// Flip-flop: write, ignore and read back one symbol
    Flipflop,
    /// Several flip-flop languages, one drawn for each example
    Mixture,
    /// Chance bigrams of characters, and triggers that keep their output
    Bigram,
    /// The flip-flop automaton, whose state is told at every token
    Automaton,
    /// Flip-flop strings told in sentences, for language models; JSON lines
    Stories,
}

/// How flip-flop is spelt.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum CodingFlag {
    /// A token for each instruction, one for each symbol
    Tokens,
    /// For each of 2^k symbols k tokens that are bits
    Bits,
    /// One token for an instruction and its symbol
    Pairs,
}

/// Flags of `generate`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The language
    task: Language,
    /// How many examples; of stories, how many of each length [default for stories: 500]
    #[arg(long, value_name = "N", required_if_eq_any([
        ("task", "flipflop"), ("task", "mixture"), ("task", "bigram"), ("task", "automaton"),
    ]))]
    n: Option<u64>,
    /// Where to: .jsonl, .parquet, .npy or .txt; `-` prints text
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Tokens in an example, even; in the bigram language one more is drawn, the answer at the last
    /// [default: 512; bigram: 256; automaton: 500]
    #[arg(long, value_name = "T")]
    seq_len: Option<u32>,
    /// How often to ignore; for a mixture, one number for each part [default: 0.8; mixture:
    /// 0.8,0.98,0.1; automaton: 0.5; stories: 0.6]
    #[arg(long, value_name = "P", value_delimiter = ',')]
    p_ignore: Vec<f64>,
    /// How often to write [default: half of what ignoring leaves]
    #[arg(long, value_name = "P")]
    p_write: Option<f64>,
    /// How often to read [default: what writing and ignoring leave]
    #[arg(long, value_name = "P")]
    p_read: Option<f64>,
    /// How many symbols a write can store [default: 2]
    #[arg(long, value_name = "M")]
    n_symbols: Option<u32>,
    /// How instructions and symbols are spelt [default: tokens]
    #[arg(long, value_name = "HOW")]
    coding: Option<CodingFlag>,
    /// Let the automaton begin without a write; its state is then 0 until the first one
    #[arg(long)]
    free_start: bool,
    /// `train`, or the name of an evaluation set; different names never share an example
    #[arg(long, value_name = "NAME", default_value = split::TRAIN, visible_alias = "set-name")]
    stream: String,
    /// The seed of the stream: a run's data seed for `train`, its eval seed for a set
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Index of the first example
    #[arg(long, value_name = "I", default_value_t = 0)]
    first: u64,
    #[command(flatten)]
    bigram: BigramFlags,
    #[command(flatten)]
    stories: StoryFlags,
}

/// What was written.
struct Generated {
    path: PathBuf,
    n_bytes: u64,
    provenance: Provenance,
    n_tokens: u64,
    wall_secs: f64,
}

impl Generated {
    #[expect(clippy::cast_precision_loss, reason = "a rate is shown to three digits")]
    fn tokens_per_sec(&self) -> f64 {
        if self.wall_secs > 0.0 { self.n_tokens as f64 / self.wall_secs } else { 0.0 }
    }
}

impl Spoken for Generated {
    fn page(&self) -> String {
        let Provenance { seed, split, first_index, n_examples, content_blake3, .. } =
            &self.provenance;
        let last = first_index + n_examples.saturating_sub(1);
        let examples = format!(
            "{}, index {first_index} to {last} of stream {split}, seed {seed}",
            number::count(*n_examples)
        );
        let rate = number::quantity(self.tokens_per_sec(), "tokens/s");
        let tokens = number::count(self.n_tokens);
        let written = format!("{} ({})", self.path.display(), number::bytes(self.n_bytes));
        facts(&[
            ("wrote", written),
            ("examples", examples),
            ("rate", format!("{tokens} tokens in {}: {rate}", number::secs(self.wall_secs))),
            ("content", format!("blake3 {content_blake3}")),
        ])
    }

    fn json(&self) -> Value {
        json!({
            "path": self.path,
            "n_bytes": self.n_bytes,
            "n_tokens": self.n_tokens,
            "wall_secs": self.wall_secs,
            "tokens_per_sec": self.tokens_per_sec(),
            "provenance": self.provenance,
        })
    }

    fn brief(&self) -> String {
        format!("{}\n", self.path.display())
    }
}

/// Generates the examples.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    flags.check_language()?;
    if flags.task == Language::Stories {
        return stories::run(flags, session);
    }
    let source = Source {
        task: flags.task()?,
        seed: flags.seed,
        split: flags.stream.clone(),
        first_index: flags.first,
        n_examples: flags.n.unwrap_or(0),
    };
    if flags.output == Path::new("-") {
        return print(&source, session);
    }
    let format = file::format_of(&flags.output)?;
    let mut watch = session.watch_only();
    let from = session.clock.elapsed_secs();
    let provenance = file::write_with(&flags.output, format, &source, |n_written| {
        watch.advance("generate", n_written, source.n_examples, "");
    })?;
    let wall_secs = session.clock.elapsed_secs() - from;
    watch.finish();
    let n_bytes = std::fs::metadata(&flags.output).map_or(0, |file| file.len());
    let n_tokens = source.n_examples * source.task.seq_len() as u64;
    let path = flags.output.clone();
    session.say(&Generated { path, n_bytes, provenance, n_tokens, wall_secs }, Exit::Done)
}

/// Prints examples as text, a line each.
fn print(source: &Source, session: &Session) -> Result<Exit, Failure> {
    refuse_json_on_stdout(session)?;
    let Some(end) = source.first_index.checked_add(source.n_examples) else {
        let (n, first, last) = (source.n_examples, source.first_index, u64::MAX);
        return Err(Failure::usage(format!(
            "{n} examples from index {first} on pass the last index, {last}; ask for fewer"
        )));
    };
    let stream = source.stream();
    let mut tokens = vec![0; source.task.seq_len()];
    let mut stdout = BufWriter::new(io::stdout().lock());
    for index in source.first_index..end {
        source.task.example_into(&stream, index, &mut tokens);
        match writeln!(stdout, "{}", source.task.line(&tokens)) {
            Ok(()) => {}
            Err(gone) if gone.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
            Err(refusal) => return Err(crate::session::unwritable(&refusal)),
        }
    }
    stdout.flush().map_err(|refusal| crate::session::unwritable(&refusal))?;
    Ok(Exit::Done)
}

/// Two things cannot both be printed.
fn refuse_json_on_stdout(session: &Session) -> Result<(), Failure> {
    if session.voice.is_json() {
        return Err(Failure::usage(
            "`--json` and `-o -` both want standard output; write to a file, such as -o data.jsonl",
        ));
    }
    Ok(())
}

impl Flags {
    /// The language that the flags describe.
    fn task(&self) -> Result<Task, Failure> {
        let p_ignores = match (self.task, self.p_ignore.as_slice()) {
            (Language::Bigram, _) => {
                return Ok(Task::Bigram(self.bigram.language(self.seq_len)?));
            }
            (Language::Automaton, p_ignores) => return self.automaton(p_ignores),
            (Language::Flipflop, []) => &[0.8],
            // The paper's appendix; its main text has 0.9 in the place of 0.8.
            (Language::Mixture, []) => &[0.8, 0.98, 0.1][..],
            (_, given) => given,
        };
        let mut parts = Vec::new();
        for &p_ignore in p_ignores {
            parts.push(self.flipflop(p_ignore)?);
        }
        match (self.task, parts.as_slice()) {
            (Language::Flipflop, [only]) => Ok(Task::FlipFlop(only.clone()).checked()?),
            (Language::Flipflop, many) => Err(Failure::usage(format!(
                "flipflop takes one --p-ignore, got {}; `generate mixture` takes several",
                many.len()
            ))),
            (_, _) => {
                let part = |task| Part { weight: 1.0, task };
                Ok(Task::Mixture(Mixture::new(parts.into_iter().map(part).collect())?))
            }
        }
    }

    fn automaton(&self, p_ignores: &[f64]) -> Result<Task, Failure> {
        let paper = Automaton::paper();
        let p_ignore = match p_ignores {
            [] => paper.p_ignore,
            [only] => *only,
            many => {
                let n = many.len();
                return Err(Failure::usage(format!("automaton takes one --p-ignore, got {n}")));
            }
        };
        let seq_len = self.seq_len.unwrap_or(paper.seq_len);
        Ok(Task::Automaton(Automaton { seq_len, p_ignore, first_write: !self.free_start })
            .checked()?)
    }

    /// Refuses a flag of a language that was not asked for.
    fn check_language(&self) -> Result<(), Failure> {
        let task = self.task;
        let first_of = |flags: &[(&'static str, bool)]| {
            flags.iter().find_map(|&(flag, given)| given.then_some(flag))
        };
        let of_stories = task == Language::Stories;
        let groups = [
            (task == Language::Bigram, self.bigram.given(), "the bigram language"),
            (of_stories, self.stories.given(), "stories"),
            (
                task == Language::Automaton,
                first_of(&[("--free-start", self.free_start)]),
                "the automaton",
            ),
            (
                task != Language::Bigram,
                first_of(&[("--p-ignore", !self.p_ignore.is_empty())]),
                "flipflop and mixture, the automaton and stories",
            ),
            (
                matches!(task, Language::Flipflop | Language::Mixture),
                first_of(&[
                    ("--p-write", self.p_write.is_some()),
                    ("--p-read", self.p_read.is_some()),
                    ("--n-symbols", self.n_symbols.is_some()),
                    ("--coding", self.coding.is_some()),
                ]),
                "flipflop and mixture",
            ),
            (
                !of_stories,
                first_of(&[
                    ("--seq-len", self.seq_len.is_some()),
                    ("--stream", self.stream != split::TRAIN),
                    ("--first", self.first > 0),
                ]),
                "all but stories, whose lengths are --lengths",
            ),
        ];
        let stray = groups.into_iter().find_map(|(asked_for, given, owners)| {
            given.filter(|_| !asked_for).map(|flag| (flag, owners))
        });
        match stray {
            Some((flag, owners)) => {
                Err(Failure::usage(format!("{flag} belongs to {owners}; leave it out")))
            }
            None => Ok(()),
        }
    }

    fn flipflop(&self, p_ignore: f64) -> Result<FlipFlop, Failure> {
        // Halves, and not what subtraction leaves: so the numbers are those of the paper's sets.
        let half = (1.0 - p_ignore) / 2.0;
        let (p_write, p_read) = match (self.p_write, self.p_read) {
            (None, None) => (half, half),
            (Some(p_write), None) => (p_write, 1.0 - p_ignore - p_write),
            (None, Some(p_read)) => (1.0 - p_ignore - p_read, p_read),
            (Some(p_write), Some(p_read)) => (p_write, p_read),
        };
        let (seq_len, n_symbols) = (self.seq_len.unwrap_or(512), self.n_symbols.unwrap_or(2));
        let coding = match self.coding {
            None | Some(CodingFlag::Tokens) => Coding::Tokens,
            Some(CodingFlag::Bits) => Coding::Bits,
            Some(CodingFlag::Pairs) => Coding::Pairs,
        };
        Ok(FlipFlop { coding, ..FlipFlop::new(seq_len, p_write, p_read, p_ignore, n_symbols)? })
    }
}

#[cfg(test)]
mod tests {
    use mnemoscope_lab::task::file::Format;

    #[test]
    fn the_help_names_every_format() {
        let help = include_str!("generate.rs");
        for format in Format::ALL {
            assert!(help.contains(&format!(".{}", format.extension())), "{format:?}");
        }
    }
}
