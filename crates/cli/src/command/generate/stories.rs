//! `generate stories`: light-switch stories for language models, as JSON lines.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use mnemoscope_lab::task::file::{self, Format, StoryProvenance};
use mnemoscope_lab::task::story::{Fruit, InnerReads, Stories, Wording};
use mnemoscope_view::number;
use mnemoscope_view::text::facts;
use serde_json::{Value, json};

use super::Flags;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// What Bob eats for an ignored 0.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FruitFlag {
    /// A banana, and for a 1 an apple
    Banana,
    /// An apple, and for a 1 a banana
    Apple,
}

/// What becomes of reads before the last.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum InnerReadsFlag {
    /// The query and its answer, as a sentence
    Told,
    /// Nothing
    Omitted,
}

/// What fixes a set of stories.
#[derive(Debug, Args)]
#[command(next_help_heading = "Of stories")]
pub(crate) struct StoryFlags {
    /// Tokens of the strings that are told, a set of `--n` for each [default: 50,100,150,200]
    #[arg(long, value_name = "T", value_delimiter = ',')]
    lengths: Vec<u32>,
    /// Stories with their answers before the one that is asked about [default: 1]
    #[arg(long, value_name = "N")]
    shots: Option<u32>,
    /// Tokens of the string of each of these [default: 16]
    #[arg(long, value_name = "T")]
    shot_len: Option<u32>,
    /// What stands before a story; "" for nothing [default: "Transcript of events:"]
    #[arg(long, value_name = "TEXT")]
    header: Option<String>,
    /// What stands before each sentence about Alice or Bob but the first; "" for nothing [default:
    /// "Then,"]
    #[arg(long, value_name = "TEXT")]
    joint: Option<String>,
    /// What Bob eats for an ignored 0; for a 1 it is the other one [default: banana]
    #[arg(long, value_name = "FRUIT")]
    fruit_of_0: Option<FruitFlag>,
    /// What becomes of reads before the last one [default: told]
    #[arg(long, value_name = "HOW")]
    inner_reads: Option<InnerReadsFlag>,
    /// What the model goes on from [default: "Now, the light is"]; the paper has "The light is
    /// turned" too
    #[arg(long, value_name = "TEXT")]
    query: Option<String>,
}

impl StoryFlags {
    /// A flag that was given, if there is one.
    pub(super) fn given(&self) -> Option<&'static str> {
        let flags = [
            ("--lengths", !self.lengths.is_empty()),
            ("--shots", self.shots.is_some()),
            ("--shot-len", self.shot_len.is_some()),
            ("--header", self.header.is_some()),
            ("--joint", self.joint.is_some()),
            ("--fruit-of-0", self.fruit_of_0.is_some()),
            ("--inner-reads", self.inner_reads.is_some()),
            ("--query", self.query.is_some()),
        ];
        flags.into_iter().find_map(|(flag, given)| given.then_some(flag))
    }

    fn stories(&self, n_per_len: Option<u64>, p_ignore: &[f64]) -> Result<Stories, Failure> {
        let paper = Stories::paper();
        let p_ignore = match p_ignore {
            [] => paper.p_ignore,
            [only] => *only,
            many => {
                let n = many.len();
                return Err(Failure::usage(format!("stories take one --p-ignore, got {n}")));
            }
        };
        let n_per_len = n_per_len.unwrap_or_else(|| u64::from(paper.n_per_len));
        let Ok(n_per_len) = u32::try_from(n_per_len) else {
            let message = format!("--n is {n_per_len}; tell at most {} stories", u32::MAX);
            return Err(Failure::usage(message));
        };
        let wording = Wording {
            header: self.header.clone().unwrap_or(paper.wording.header),
            joint: self.joint.clone().unwrap_or(paper.wording.joint),
            fruit_of_0: match self.fruit_of_0 {
                None => paper.wording.fruit_of_0,
                Some(FruitFlag::Banana) => Fruit::Banana,
                Some(FruitFlag::Apple) => Fruit::Apple,
            },
            inner_reads: match self.inner_reads {
                None => paper.wording.inner_reads,
                Some(InnerReadsFlag::Told) => InnerReads::Told,
                Some(InnerReadsFlag::Omitted) => InnerReads::Omitted,
            },
            query: self.query.clone().unwrap_or(paper.wording.query),
        };
        let seq_lens = if self.lengths.is_empty() { paper.seq_lens } else { self.lengths.clone() };
        let n_shots = self.shots.unwrap_or(paper.n_shots);
        let shot_len = self.shot_len.unwrap_or(paper.shot_len);
        let stories = Stories { p_ignore, seq_lens, n_per_len, n_shots, shot_len, wording };
        Ok(stories.checked()?)
    }
}

struct Written {
    path: PathBuf,
    n_bytes: u64,
    provenance: StoryProvenance,
}

impl Spoken for Written {
    fn page(&self) -> String {
        let StoryProvenance { stories, seed, n_stories, content_blake3, .. } = &self.provenance;
        let lens: Vec<String> = stories.seq_lens.iter().map(u32::to_string).collect();
        facts(&[
            ("wrote", format!("{} ({})", self.path.display(), number::bytes(self.n_bytes))),
            (
                "stories",
                format!(
                    "{}: {} each of {} tokens of FFL({}), seed {seed}",
                    number::count(*n_stories),
                    stories.n_per_len,
                    lens.join(", "),
                    stories.p_ignore
                ),
            ),
            (
                "before each",
                match stories.n_shots {
                    0 => "nothing".to_owned(),
                    n => format!(
                        "{} of {} tokens",
                        number::counted(u64::from(n), "answered story", "answered stories"),
                        stories.shot_len
                    ),
                },
            ),
            ("content", format!("blake3 {content_blake3}")),
        ])
    }

    fn json(&self) -> Value {
        json!({"path": self.path, "n_bytes": self.n_bytes, "provenance": self.provenance})
    }

    fn brief(&self) -> String {
        format!("{}\n", self.path.display())
    }
}

/// Tells the stories.
pub(super) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let stories = flags.stories.stories(flags.n, &flags.p_ignore)?;
    if flags.output == Path::new("-") {
        super::refuse_json_on_stdout(session)?;
        return print(&stories, flags.seed);
    }
    if file::format_of(&flags.output)? != Format::Jsonl {
        return Err(Failure::usage(format!(
            "stories are JSON lines; give {} the ending .jsonl",
            flags.output.display()
        )));
    }
    let provenance = file::write_stories(&flags.output, &stories, flags.seed)?;
    let n_bytes = std::fs::metadata(&flags.output).map_or(0, |file| file.len());
    let path = flags.output.clone();
    session.say(&Written { path, n_bytes, provenance }, Exit::Done)
}

fn print(stories: &Stories, seed: u64) -> Result<Exit, Failure> {
    let mut stdout = BufWriter::new(io::stdout().lock());
    for story in stories.stories(seed) {
        match file::story_line(&story).and_then(|line| stdout.write_all(&line)) {
            Ok(()) => {}
            Err(gone) if gone.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
            Err(refusal) => return Err(crate::session::unwritable(&refusal)),
        }
    }
    stdout.flush().map_err(|refusal| crate::session::unwritable(&refusal))?;
    Ok(Exit::Done)
}
