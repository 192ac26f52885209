//! `mnemoscope score`: what a language model said to light-switch stories, counted by length.

use std::path::PathBuf;

use clap::Args;
use mnemoscope_lab::task::file;
use mnemoscope_lab::task::story::{self, Score};
use mnemoscope_view::table::{Align, Table};
use mnemoscope_view::{WIDTH, number, text};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::voice::Spoken;

/// What the columns mean.
const MEANING: &str = "Length in tokens of flip-flop. An answer that is neither on nor off is an \
                       error. Intervals are exact (Clopper-Pearson).";

/// Flags of `score`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The stories, as `generate stories` wrote them
    stories: PathBuf,
    /// JSON lines of what a model said: an `id`, and `logprobs` of the options or `generated` text
    outputs: PathBuf,
    /// Coverage of the intervals, between 0 and 1
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    confidence: f64,
}

struct Scored {
    scores: Vec<Score>,
    confidence: f64,
}

impl Scored {
    /// All lengths together.
    fn total(&self) -> Score {
        let none = Score { seq_len: None, n_trials: 0, n_errors: 0, n_unanswered: 0 };
        self.scores.iter().fold(none, |sum, score| Score {
            seq_len: None,
            n_trials: sum.n_trials + score.n_trials,
            n_errors: sum.n_errors + score.n_errors,
            n_unanswered: sum.n_unanswered + score.n_unanswered,
        })
    }

    fn score_json(&self, score: &Score) -> Value {
        json!({
            "seq_len": score.seq_len,
            "n_trials": score.n_trials,
            "n_errors": score.n_errors,
            "n_unanswered": score.n_unanswered,
            "error_rate": score.error_rate(),
            "confidence": self.confidence,
            "interval": score.interval(self.confidence),
            "method": "clopper-pearson",
        })
    }
}

impl Spoken for Scored {
    fn page(&self) -> String {
        let interval = format!("{} interval", number::percent(self.confidence));
        let mut table = Table::new(&[
            ("length", Align::Right),
            ("stories", Align::Right),
            ("errors", Align::Right),
            ("unanswered", Align::Right),
            ("error rate", Align::Right),
            (interval.as_str(), Align::Left),
        ]);
        for score in self.scores.iter().chain([&self.total()]) {
            table.row([
                score.seq_len.map_or_else(|| "all".to_owned(), |len| len.to_string()),
                number::count(score.n_trials),
                number::count(score.n_errors),
                number::count(score.n_unanswered),
                number::rate(score.error_rate()),
                number::interval(score.interval(self.confidence).into()),
            ]);
        }
        format!("{table}\n{}", text::wrap(MEANING, WIDTH, "  "))
    }

    fn json(&self) -> Value {
        let by_len: Vec<Value> = self.scores.iter().map(|score| self.score_json(score)).collect();
        json!({"by_seq_len": by_len, "all": self.score_json(&self.total())})
    }

    fn brief(&self) -> String {
        let line = |score: &Score| {
            let len = score.seq_len.unwrap_or_default();
            format!("{len} {} {}\n", score.n_errors, score.n_trials)
        };
        self.scores.iter().map(line).collect()
    }
}

/// Counts what was said.
pub(crate) fn run(flags: &Flags, session: &mut Session) -> Result<Exit, Failure> {
    let confidence = flags.confidence;
    if !(0.0 < confidence && confidence < 1.0) {
        return Err(Failure::usage(format!(
            "--confidence is {confidence}; use a number between 0 and 1, such as 0.95"
        )));
    }
    let stories = file::read_stories(&flags.stories)?;
    let said = file::read_outputs(&flags.outputs, &stories)?;
    let scores = story::score(&stories, &said);
    session.say(&Scored { scores, confidence }, Exit::Done)
}
