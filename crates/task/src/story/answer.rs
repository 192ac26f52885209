//! What models made of stories, and how often it was wrong.

use mnemoscope_stats::rate::{Interval, clopper_pearson};

use super::{OPTIONS, Story};

/// What a model said to one story.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// Log-probability of each of the two [`OPTIONS`] after the prompt, in their order: the sum over
    /// the tokens of an option. The base of the logarithm does not matter.
    LogProbs([f64; 2]),
    /// What the model generated after the prompt. Its first word counts.
    Generated(String),
}

impl Said {
    /// The option that was chosen, or `None` if neither was.
    ///
    /// The larger log-probability chooses; equal ones choose nothing. Of a generated text the first
    /// word counts, in capitals or not, whatever spaces and quotation marks stand before it.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_task::story::Said;
    ///
    /// assert_eq!(Said::LogProbs([-0.1, -2.4]).choice(), Some(" on"));
    /// assert_eq!(Said::Generated("\n\"Off\". Then, Bob".to_owned()).choice(), Some(" off"));
    /// assert_eq!(Said::Generated(" one".to_owned()).choice(), None);
    /// ```
    #[must_use]
    pub fn choice(&self) -> Option<&'static str> {
        match self {
            Self::LogProbs([on, off]) if on > off => Some(OPTIONS[0]),
            Self::LogProbs([on, off]) if on < off => Some(OPTIONS[1]),
            Self::LogProbs(_) => None,
            Self::Generated(text) => {
                let text = text.trim_start_matches(|letter: char| {
                    letter.is_whitespace() || matches!(letter, '"' | '\'' | '`' | '“' | '‘')
                });
                let word = text.split(|letter: char| !letter.is_alphanumeric()).next()?;
                OPTIONS.into_iter().find(|option| option.trim_start().eq_ignore_ascii_case(word))
            }
        }
    }
}

/// The counts of stories of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Score {
    /// Tokens of the strings that were told; `None` for all lengths together.
    pub seq_len: Option<u32>,
    /// Number of stories.
    pub n_trials: u64,
    /// Stories answered wrong, or not at all.
    pub n_errors: u64,
    /// Stories to which neither option was the answer: a part of the errors.
    pub n_unanswered: u64,
}

impl Score {
    /// Errors per story.
    ///
    /// # Panics
    ///
    /// If there is no story.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of stories are far below 2^53")]
    pub fn error_rate(&self) -> f64 {
        assert!(self.n_trials > 0, "no story has no error rate");
        self.n_errors as f64 / self.n_trials as f64
    }

    /// The exact interval for the error rate: stories are drawn and answered independently.
    ///
    /// # Source
    ///
    /// Clopper and Pearson, Biometrika 26 (1934).
    #[must_use]
    pub fn interval(&self, confidence: f64) -> Interval {
        clopper_pearson(self.n_errors, self.n_trials, confidence)
    }
}

/// Counts what was said, by length in ascending order.
///
/// # Panics
///
/// If there are more or fewer answers than stories.
///
/// # Example
///
/// ```
/// use mnemoscope_task::story::{Said, Stories, score};
///
/// let stories = Stories { seq_lens: vec![8, 12], n_per_len: 10, ..Stories::paper() };
/// let stories: Vec<_> = stories.stories(0).collect();
/// // Whoever always says "on" errs where the light is off.
/// let said = vec![Said::Generated(" on.".to_owned()); 20];
/// let n_off = stories[..10].iter().filter(|story| story.answer == " off").count() as u64;
/// let scores = score(&stories, &said);
/// assert_eq!((scores[0].seq_len, scores[0].n_errors), (Some(8), n_off));
/// ```
#[must_use]
#[track_caller]
pub fn score(stories: &[Story], said: &[Said]) -> Vec<Score> {
    let (n_stories, n_said) = (stories.len(), said.len());
    assert_eq!(n_stories, n_said, "{n_said} answers to {n_stories} stories");
    let mut seq_lens: Vec<u32> = stories.iter().map(|story| story.seq_len).collect();
    seq_lens.sort_unstable();
    seq_lens.dedup();
    let of_length = |seq_len| {
        let mut score = Score { seq_len: Some(seq_len), n_trials: 0, n_errors: 0, n_unanswered: 0 };
        let pairs = std::iter::zip(stories, said);
        for (story, said) in pairs.filter(|(story, _)| story.seq_len == seq_len) {
            let choice = said.choice();
            score.n_trials += 1;
            score.n_errors += u64::from(choice != Some(story.answer.as_str()));
            score.n_unanswered += u64::from(choice.is_none());
        }
        score
    };
    seq_lens.into_iter().map(of_length).collect()
}
