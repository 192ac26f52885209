//! Bigram language with triggers: chance bigrams, but after a trigger always the same output.
//!
//! ```text
//! pos      0  1  2  3  4  5  6  7      trigger `e` with output `m` in this example
//! token    t  h  e  m  e  m  o  r      every other token follows its predecessor by chance
//! count    0  0  1  0  2  0  0  0      which occurrence of a trigger it is
//! answer   .  .  .  m  .  m  .  .      the first output cannot be known, the second can
//! scored                  ^            in context: from the second occurrence on
//! ```
//!
//! The paper's `N` is `d_vocab`, its `T` is `seq_len`, its `K` is `n_triggers`; its laws `pi_u` and
//! `pi_b` are those of the [`Corpus`], its `pi_q` is [`Triggers`] and its `pi_o` is [`Outputs`].
//! An example draws its triggers, an output for each of them independently of the others, a first
//! token by the unigram law, and then each token by the bigram law of the one before it, or the
//! output if that one is a trigger. An output may be a trigger, also its own: such an example ends
//! in a loop.
//!
//! Source: Bietti, Cabannes, Bouchacourt, Jegou and Bottou, "Birth of a Transformer: A Memory
//! Viewpoint", NeurIPS 2023, arXiv:2306.00802, section 3.

mod alias;
pub mod bayes;
mod corpus;
mod draw;
pub mod oracle;

use std::ops::Range;

use mnemoscope_stats::stream::{Draws, Stream};
use serde::{Deserialize, Serialize};

use crate::complaint::Complaint;
use crate::error::{Cause, Error};
use crate::task::Target;
use crate::token::{MAX_SEQ_LEN, Token};

pub use corpus::Corpus;
use draw::Drawer;

/// How the triggers of an example are chosen, the paper's `pi_q`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Triggers {
    /// The most frequent tokens, after leaving out `offset` of them; the same in all examples.
    Fixed,
    /// Drawn for each example by the unigram law, without replacement.
    Random,
}

/// How the output of a trigger is drawn, the paper's `pi_o`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outputs {
    /// Every token that may be an output is equally likely.
    Uniform,
    /// By the bigram law of the trigger, among the tokens that may be an output.
    Bigram,
}

/// Which tokens may be an output: training and test can be kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputSplit {
    /// All tokens.
    All,
    /// The first three quarters of the tokens, rounded down.
    Train,
    /// The other tokens, which are then held out.
    Test,
}

/// A set of positions, by the occurrence counter: how often the token there has occurred up to
/// there if it is a trigger, else 0; -1 where the triggers are shown before the sequence.
///
/// The authors' code can also make the counter a flag, 1 after every trigger (`output_counter =
/// False`). In context means a count of 2 and more, so under a flag that set is empty, and what is
/// left to score is [`Output`](Self::Output). There is no option for it: that set says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occurrences {
    /// Count 0: the token is no trigger, what follows is a matter of chance.
    Global,
    /// Count 1: the output follows, but nothing before says which.
    First,
    /// Count 2 and more: the output stands in the context.
    InContext,
    /// Count 1 and more: an output follows. It is what a flag in place of the counter scores.
    Output,
}

impl Occurrences {
    /// Whether a position with this count belongs to the set.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_task::bigram::Occurrences;
    ///
    /// assert!(Occurrences::Output.holds(1) && !Occurrences::InContext.holds(1));
    /// // The triggers that are shown before the sequence are in none of the sets.
    /// assert!(!Occurrences::Global.holds(-1));
    /// ```
    #[must_use]
    pub fn holds(self, count: i32) -> bool {
        match self {
            Self::Global => count == 0,
            Self::First => count == 1,
            Self::InContext => count >= 2,
            Self::Output => count >= 1,
        }
    }
}

/// A trigger of one example, and the token that follows it there each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The trigger, the paper's `q_k`.
    pub token: Token,
    /// Its output, the paper's `o_k`.
    pub output: Token,
}

/// Everything that fixes a bigram language.
///
/// The fields are open so that a spec can be read into them; [`Bigram::check`] says what they
/// may hold. Asking a language that fails its check for an example is a bug in the caller.
///
/// # Shapes
///
/// An example has `seq_len + 1` tokens: a model reads the first `seq_len` and is asked at each of
/// them for the token after it. With `show_latents` the first `n_triggers` of these are the
/// triggers, by ascending token, and the sequence is that much shorter.
///
/// # Example
///
/// ```
/// use mnemoscope_task::bigram::{Bigram, Trigger};
/// use mnemoscope_task::split;
///
/// let language = Bigram::paper(5);
/// let stream = split::train_stream(0);
/// let mut tokens = vec![0; language.n_tokens()];
/// language.batch_into(&stream, 7, &mut tokens);
/// // Whoever has the address has the triggers too: after each of them stands its output.
/// for Trigger { token, output } in language.triggers_at(&mut stream.at(7)) {
///     assert!(tokens.windows(2).all(|pair| pair[0] != token || pair[1] == output));
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bigram {
    /// The unigram and bigram laws.
    pub corpus: Corpus,
    /// Positions at which a model is asked, the paper's `T`: at least 2.
    pub seq_len: u32,
    /// How the triggers are chosen.
    pub triggers: Triggers,
    /// Number of triggers, the paper's `K`: at least 1.
    pub n_triggers: u32,
    /// How many of the most frequent tokens are no fixed triggers; 0 for random ones.
    pub offset: u32,
    /// How outputs are drawn.
    pub outputs: Outputs,
    /// Which tokens may be outputs.
    pub output_split: OutputSplit,
    /// Whether a trigger is kept from being its own output.
    pub no_repeat: bool,
    /// The positions that are scored.
    pub scored: Occurrences,
    /// Whether the triggers stand before the sequence. They take `n_triggers` of the `seq_len`
    /// positions, and what follows is the beginning of the same example without them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub show_latents: bool,
}

/// A field that is left out where it is off, so that languages from before it keep their form.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Bigram {
    /// The paper's main setting: characters of tiny Shakespeare, 256 positions, random triggers,
    /// uniform outputs, scored in context. It has 5 triggers in most figures, 3 or 1 in others.
    #[must_use]
    pub fn paper(n_triggers: u32) -> Self {
        Self {
            corpus: Corpus::tiny_shakespeare(),
            seq_len: 256,
            triggers: Triggers::Random,
            n_triggers,
            offset: 0,
            outputs: Outputs::Uniform,
            output_split: OutputSplit::All,
            no_repeat: false,
            scored: Occurrences::InContext,
            show_latents: false,
        }
    }

    /// The language if nothing is wrong with it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) with all of [`Bigram::check`]'s
    /// complaints.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_task::bigram::Bigram;
    ///
    /// let error = Bigram::paper(66).checked().unwrap_err().to_string();
    /// assert_eq!(error, "n_triggers is 66, but the corpus has 65 tokens; use at most 65");
    /// ```
    pub fn checked(self) -> Result<Self, Error> {
        let complaints = self.check();
        if complaints.is_empty() { Ok(self) } else { Err(Cause::Task { complaints }.into()) }
    }

    /// Everything that is wrong with these numbers; empty if examples can be generated.
    #[must_use]
    pub fn check(&self) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let mut complain = |field, message| complaints.push(Complaint::new(field, message));
        let Self { seq_len, n_triggers, offset, show_latents, .. } = *self;
        let least = 2 + u64::from(n_triggers);
        if !(2..MAX_SEQ_LEN).contains(&seq_len) {
            let most = MAX_SEQ_LEN - 1;
            complain("seq_len", format!("seq_len is {seq_len}; use 2 to {most}"));
        } else if show_latents && u64::from(seq_len) < least {
            complain(
                "seq_len",
                format!(
                    "seq_len is {seq_len}, and show_latents takes n_triggers = {n_triggers} of \
                     these positions; use at least {least}"
                ),
            );
        }
        let d_vocab = self.corpus.d_vocab();
        let n_left = d_vocab.saturating_sub(offset);
        match self.triggers {
            Triggers::Random if offset > 0 => complain(
                "offset",
                format!("offset is {offset}, but only fixed triggers have one; leave it 0"),
            ),
            Triggers::Fixed if n_left == 0 => complain(
                "offset",
                format!(
                    "offset is {offset}, which leaves none of the {d_vocab} tokens of the corpus \
                     to be a trigger; use less"
                ),
            ),
            Triggers::Fixed if n_triggers > n_left && offset > 0 => complain(
                "n_triggers",
                format!(
                    "n_triggers is {n_triggers}, but after offset {offset} only {n_left} of \
                     {d_vocab} tokens are left; use at most that"
                ),
            ),
            _ if n_triggers > d_vocab => complain(
                "n_triggers",
                format!(
                    "n_triggers is {n_triggers}, but the corpus has {d_vocab} tokens; use at \
                     most {d_vocab}"
                ),
            ),
            _ => {}
        }
        if n_triggers == 0 {
            complain("n_triggers", "n_triggers is 0; use at least 1".to_owned());
        }
        if complaints.is_empty()
            && let Some(trigger) = self.without_output()
        {
            complaints.push(Complaint::new("outputs", self.no_output_message(trigger)));
        }
        complaints
    }

    /// A possible trigger for which no output is left.
    fn without_output(&self) -> Option<Token> {
        let possible = match self.triggers {
            Triggers::Fixed => self.fixed_triggers(),
            Triggers::Random => self.corpus.ranked(),
        };
        possible.into_iter().find(|&trigger| match self.outputs {
            Outputs::Uniform => {
                let split = self.output_tokens();
                split.len() == usize::from(self.no_repeat && split.contains(&trigger))
            }
            Outputs::Bigram => self.bigram_outputs(trigger).next().is_none(),
        })
    }

    fn no_output_message(&self, trigger: Token) -> String {
        let character = self.corpus.shown(trigger);
        let outputs = match self.outputs {
            Outputs::Uniform => "uniform",
            Outputs::Bigram => "bigram",
        };
        let split = match self.output_split {
            OutputSplit::All => "all",
            OutputSplit::Train => "train",
            OutputSplit::Test => "test",
        };
        format!(
            "no output is left for the trigger `{character}` with outputs = \"{outputs}\", \
             output_split = \"{split}\" and no_repeat = {}; allow more outputs",
            self.no_repeat
        )
    }

    /// Number of tokens in an example: `seq_len + 1`.
    #[must_use]
    pub fn n_tokens(&self) -> usize {
        self.seq_len as usize + 1
    }

    /// Number of tokens before the sequence: the triggers if they are shown, else none.
    #[must_use]
    pub fn n_latents(&self) -> usize {
        if self.show_latents { self.n_triggers as usize } else { 0 }
    }

    /// Size of the vocabulary: the characters of the corpus.
    #[must_use]
    pub fn d_vocab(&self) -> u32 {
        self.corpus.d_vocab()
    }

    /// The tokens that may be an output of some trigger.
    #[must_use]
    pub fn output_tokens(&self) -> Range<Token> {
        let d_vocab = self.d_vocab();
        let n_train = (u64::from(d_vocab) * 3 / 4) as Token;
        match self.output_split {
            OutputSplit::All => 0..d_vocab as Token,
            OutputSplit::Train => 0..n_train,
            OutputSplit::Test => n_train..d_vocab as Token,
        }
    }

    /// The fixed triggers by ascending token; those after the `offset` most frequent tokens.
    ///
    /// Tokens that are equally frequent rank by ascending token.
    #[must_use]
    pub fn fixed_triggers(&self) -> Vec<Token> {
        let ranked = self.corpus.ranked().into_iter();
        let mut tokens: Vec<Token> =
            ranked.skip(self.offset as usize).take(self.n_triggers as usize).collect();
        tokens.sort_unstable();
        tokens
    }

    /// What may be the output of `trigger` under bigram outputs, with its count.
    fn bigram_outputs(&self, trigger: Token) -> impl Iterator<Item = (Token, u32)> {
        let (split, no_repeat) = (self.output_tokens(), self.no_repeat);
        let allowed = move |next| split.contains(&next) && !(no_repeat && next == trigger);
        self.corpus.successors(trigger).iter().copied().filter(move |&(next, _)| allowed(next))
    }

    /// Generates one example, a pure function of the state of `draws`.
    ///
    /// # Randomness
    ///
    /// For random triggers one word each; then an output for each trigger, by ascending trigger,
    /// one word each; a word may have to be replaced by the next, with a probability below 2^-11
    /// for the built-in corpus. Then one word for each token, also after triggers, but none for
    /// triggers that are shown before the sequence. This order is part of the format: records
    /// address examples by it.
    ///
    /// Triggers and outputs follow their laws exactly. The laws of tokens are rounded to
    /// multiples of 2^-32: each probability is off by less than that, and those of what never
    /// occurs are exactly 0.
    ///
    /// # Panics
    ///
    /// If `out` does not hold exactly [`n_tokens`](Self::n_tokens) tokens, or the language fails
    /// [`check`](Self::check).
    #[track_caller]
    pub fn generate_into(&self, draws: &mut Draws, out: &mut [Token]) {
        self.assert_fits(out.len());
        Drawer::of(self).draw(draws, out);
    }

    /// The slow version that explains [`generate_into`](Self::generate_into) and agrees with it
    /// token by token: one token and one draw at a time.
    ///
    /// # Panics
    ///
    /// As [`generate_into`](Self::generate_into).
    #[track_caller]
    pub fn generate_reference(&self, draws: &mut Draws, out: &mut [Token]) {
        self.assert_fits(out.len());
        draw::reference(self, draws, out);
    }

    /// Generates the examples of `stream` from `first_index` on, as many as `out` holds.
    ///
    /// # Shapes
    ///
    /// `out: [n_examples, n_tokens]`, row by row.
    ///
    /// # Panics
    ///
    /// If `out` does not hold whole examples, the indices run past the largest number, or the
    /// language fails [`check`](Self::check).
    #[track_caller]
    pub fn batch_into(&self, stream: &Stream, first_index: u64, out: &mut [Token]) {
        let n_tokens = self.n_tokens();
        let n_examples = out.len() / n_tokens;
        assert!(
            out.len().is_multiple_of(n_tokens),
            "an example has {n_tokens} tokens, which do not divide the {} of the batch",
            out.len()
        );
        assert!(
            first_index.checked_add(n_examples as u64).is_some(),
            "{n_examples} examples from {first_index} on are more than can be addressed"
        );
        self.assert_fits(n_tokens);
        let mut drawer = Drawer::of(self);
        // The indices come second: asked for one too many, they could pass the largest number.
        for (tokens, index) in out.chunks_exact_mut(n_tokens).zip(first_index..) {
            drawer.draw(&mut stream.at(index), tokens);
        }
    }

    /// The triggers of the example that begins at `draws`, by ascending token.
    ///
    /// # Panics
    ///
    /// If the language fails [`check`](Self::check).
    #[must_use]
    #[track_caller]
    pub fn triggers_at(&self, draws: &mut Draws) -> Vec<Trigger> {
        self.assert_fits(self.n_tokens());
        draw::triggers(self, draws)
    }

    /// The occurrence counter of an example, `[n_tokens]`; what `out` held is replaced.
    ///
    /// One pass forward with a counter for each token. The paper counts at the first `seq_len`
    /// positions only: nothing is asked at the last token. Triggers that are shown before the
    /// sequence have -1 and are not counted.
    ///
    /// # Panics
    ///
    /// If a token is none of the corpus.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_task::bigram::{Bigram, Trigger};
    ///
    /// let mut counts = Vec::new();
    /// let triggers = [Trigger { token: 4, output: 7 }];
    /// Bigram::paper(1).occurrences(&[4, 7, 7, 4, 7], &triggers, &mut counts);
    /// assert_eq!(counts, [1, 0, 0, 2, 0]);
    /// ```
    #[track_caller]
    pub fn occurrences(&self, tokens: &[Token], triggers: &[Trigger], out: &mut Vec<i32>) {
        let mut counters = vec![None; self.d_vocab() as usize];
        for trigger in triggers {
            counters[usize::from(trigger.token)] = Some(0);
        }
        let (latents, sequence) = tokens.split_at(self.n_latents().min(tokens.len()));
        out.clear();
        out.extend(latents.iter().map(|_| -1));
        out.extend(sequence.iter().map(|&token| match &mut counters[usize::from(token)] {
            Some(count) => {
                *count += 1;
                *count
            }
            None => 0,
        }));
    }

    /// The scored places of an example whose triggers are known, in order. What `out` held is
    /// replaced.
    ///
    /// `query_pos` is the place of the trigger, `answer` its output, and `write_pos` the place of
    /// the same trigger before it, after which the output was seen last. Where nothing was seen
    /// (the sets with counts 0 and 1) `write_pos` is `query_pos`, and after a token that is no
    /// trigger the answer is what happens to follow.
    ///
    /// # Panics
    ///
    /// If a token is none of the corpus.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_task::Target;
    /// use mnemoscope_task::bigram::{Bigram, Trigger};
    ///
    /// let mut targets = Vec::new();
    /// let triggers = [Trigger { token: 4, output: 7 }];
    /// Bigram::paper(1).targets(&[4, 7, 7, 4, 7], &triggers, &mut targets);
    /// assert_eq!(targets, [Target { query_pos: 3, answer: 7, write_pos: 0 }]);
    /// ```
    #[track_caller]
    pub fn targets(&self, tokens: &[Token], triggers: &[Trigger], out: &mut Vec<Target>) {
        /// A trigger as it was met so far.
        struct Met {
            output: Token,
            count: i32,
            last_pos: u32,
        }
        let mut met: Vec<Option<Met>> = (0..self.d_vocab()).map(|_| None).collect();
        for &Trigger { token, output } in triggers {
            met[usize::from(token)] = Some(Met { output, count: 0, last_pos: 0 });
        }
        out.clear();
        // A trigger that is shown before the sequence is no place of any set.
        for (query_pos, pair) in (0..).zip(tokens.windows(2)).skip(self.n_latents()) {
            let target = match &mut met[usize::from(pair[0])] {
                Some(Met { output, count, last_pos }) => {
                    *count += 1;
                    let seen_pos = std::mem::replace(last_pos, query_pos);
                    let write_pos = if *count > 1 { seen_pos } else { query_pos };
                    (*count, Target { query_pos, answer: *output, write_pos })
                }
                None => (0, Target { query_pos, answer: pair[1], write_pos: query_pos }),
            };
            if self.scored.holds(target.0) {
                out.push(target.1);
            }
        }
    }

    /// Mean and standard deviation of the number of scored places in one example, counted in 256
    /// examples of a stream of their own: an estimate, the same each time.
    #[must_use]
    pub fn estimated_targets(&self) -> (f64, f64) {
        const N_EXAMPLES: u64 = 256;
        let stream = Stream::root(0).derive("expected targets");
        let mut tokens = vec![0; self.n_tokens()];
        let mut targets = Vec::new();
        let mut drawer = Drawer::of(self);
        let (mut sum, mut sum_of_squares) = (0.0, 0.0);
        for index in 0..N_EXAMPLES {
            drawer.draw(&mut stream.at(index), &mut tokens);
            self.targets(&tokens, drawer.triggers(), &mut targets);
            let n = targets.len() as f64;
            sum += n;
            sum_of_squares += n * n;
        }
        let mean = sum / N_EXAMPLES as f64;
        (mean, (sum_of_squares / N_EXAMPLES as f64 - mean * mean).max(0.0).sqrt())
    }

    #[track_caller]
    fn assert_fits(&self, n_tokens: usize) {
        let d_vocab = self.d_vocab();
        assert!(
            self.n_triggers.saturating_add(self.offset) <= d_vocab && self.n_triggers > 0,
            "{} triggers of {d_vocab} tokens make no example: `check` the language first",
            self.n_triggers
        );
        assert!(
            n_tokens == self.n_tokens(),
            "an example has {} tokens, the space for it {n_tokens}",
            self.n_tokens()
        );
        assert!(
            self.n_latents() < n_tokens,
            "{} triggers before the sequence leave nothing of {n_tokens} tokens: `check` the \
             language first",
            self.n_latents()
        );
    }
}

#[cfg(test)]
mod tests;
