//! Flags of `generate bigram`: what fixes a bigram language.

use std::path::Path;

use clap::{Args, ValueEnum};
use mnemoscope_lab::task::bigram::{Bigram, Corpus, OutputSplit, Outputs, Triggers};

use crate::failure::Failure;

/// How triggers are chosen.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum TriggersFlag {
    /// Drawn for each example by how frequent tokens are
    Random,
    /// The most frequent tokens, the same in all examples
    Fixed,
}

/// How outputs are drawn.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OutputsFlag {
    /// All tokens equally likely
    Uniform,
    /// By what follows the trigger in the corpus
    Bigram,
}

/// Which tokens may be outputs.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SplitFlag {
    /// All tokens
    All,
    /// The first three quarters
    Train,
    /// The others
    Test,
}

/// What only the bigram language has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Of the bigram language")]
pub(super) struct BigramFlags {
    /// The text its characters come from: a file, or `tiny-shakespeare`, which is built in
    /// [default: tiny-shakespeare]
    #[arg(long, value_name = "FILE")]
    corpus: Option<String>,
    /// How the triggers of an example are chosen [default: random]
    #[arg(long, value_name = "HOW")]
    triggers: Option<TriggersFlag>,
    /// How many triggers [default: 5]
    #[arg(long, value_name = "K")]
    n_triggers: Option<u32>,
    /// How many of the most frequent tokens are no fixed triggers [default: 0]
    #[arg(long, value_name = "N")]
    offset: Option<u32>,
    /// How the output of a trigger is drawn [default: uniform]
    #[arg(long, value_name = "HOW")]
    outputs: Option<OutputsFlag>,
    /// Which tokens may be outputs [default: all]
    #[arg(long, value_name = "WHICH")]
    output_split: Option<SplitFlag>,
    /// Keep a trigger from being its own output
    #[arg(long)]
    no_repeat: bool,
    /// Put the triggers before the sequence, where they take that many of its positions
    #[arg(long)]
    show_latents: bool,
}

impl BigramFlags {
    /// The first of these flags that was given, for a language that has none of them.
    pub(super) fn given(&self) -> Option<&'static str> {
        [
            ("--corpus", self.corpus.is_some()),
            ("--triggers", self.triggers.is_some()),
            ("--n-triggers", self.n_triggers.is_some()),
            ("--offset", self.offset.is_some()),
            ("--outputs", self.outputs.is_some()),
            ("--output-split", self.output_split.is_some()),
            ("--no-repeat", self.no_repeat),
            ("--show-latents", self.show_latents),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag))
    }

    /// The language that the flags describe.
    pub(super) fn language(&self, seq_len: Option<u32>) -> Result<Bigram, Failure> {
        let paper = Bigram::paper(self.n_triggers.unwrap_or(5));
        let corpus = match self.corpus.as_deref() {
            None | Some(Corpus::TINY_SHAKESPEARE) => paper.corpus.clone(),
            Some(file) => Corpus::from_file(Path::new(file))?,
        };
        let language = Bigram {
            corpus,
            seq_len: seq_len.unwrap_or(paper.seq_len),
            triggers: match self.triggers {
                None | Some(TriggersFlag::Random) => Triggers::Random,
                Some(TriggersFlag::Fixed) => Triggers::Fixed,
            },
            offset: self.offset.unwrap_or(0),
            outputs: match self.outputs {
                None | Some(OutputsFlag::Uniform) => Outputs::Uniform,
                Some(OutputsFlag::Bigram) => Outputs::Bigram,
            },
            output_split: match self.output_split {
                None | Some(SplitFlag::All) => OutputSplit::All,
                Some(SplitFlag::Train) => OutputSplit::Train,
                Some(SplitFlag::Test) => OutputSplit::Test,
            },
            no_repeat: self.no_repeat,
            show_latents: self.show_latents,
            ..paper
        };
        Ok(language.checked()?)
    }
}
