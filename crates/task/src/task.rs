//! Tasks: what can be generated, addressed by stream and index, and where it is scored.
//!
//! ```text
//! (stream, index)  ->  example       the same tokens on any machine, in any order
//! example          ->  targets       one for each scored place: where to ask, what to answer
//! ```

use std::ops::Range;

use mnemoscope_stats::stream::{Draws, Stream};
use serde::{Deserialize, Serialize};

use crate::automaton::{self, Automaton};
use crate::bigram::Bigram;
use crate::coding::Coding;
use crate::complaint::Complaint;
use crate::error::{Cause, Error};
use crate::flipflop::FlipFlop;
use crate::mixture::Mixture;
use crate::text;
use crate::token::{FIRST_SYMBOL, READ, Token, WRITE};

/// A language with exact answers. The list is closed: the compiler knows every task.
///
/// As a value in a spec or a record it is its fields beside its `name`.
///
/// # Example
///
/// ```
/// use mnemoscope_task::{FlipFlop, Task, split};
///
/// let task = Task::FlipFlop(FlipFlop::paper(0.8)?);
/// let stream = split::train_stream(0);
/// // Example 7 needs no example before it, and is the same each time.
/// assert_eq!(task.example(&stream, 7), task.example(&stream, 7));
/// assert_ne!(task.example(&stream, 7), task.example(&stream, 8));
/// # Ok::<(), mnemoscope_task::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum Task {
    /// One flip-flop language.
    FlipFlop(FlipFlop),
    /// Several of them, one drawn for each example.
    Mixture(Mixture),
    /// Chance bigrams, and triggers that are always followed by the same output.
    Bigram(Bigram),
    /// The flip-flop automaton, its state told at every position.
    Automaton(Automaton),
}

impl Task {
    /// The word for the task in specs, records and commands.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::FlipFlop(_) => "flipflop",
            Self::Mixture(_) => "mixture",
            Self::Bigram(_) => "bigram",
            Self::Automaton(_) => "automaton",
        }
    }

    /// Everything that is wrong with the task; empty if examples can be generated.
    #[must_use]
    pub fn check(&self) -> Vec<Complaint> {
        match self {
            Self::FlipFlop(language) => language.check(),
            Self::Mixture(mixture) => mixture.check(),
            Self::Bigram(language) => language.check(),
            Self::Automaton(language) => language.check(),
        }
    }

    /// The task if nothing is wrong with it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) with all of [`Task::check`]'s
    /// complaints.
    pub fn checked(self) -> Result<Self, Error> {
        let complaints = self.check();
        if complaints.is_empty() { Ok(self) } else { Err(Cause::Task { complaints }.into()) }
    }

    /// Tokens in one example.
    #[must_use]
    pub fn seq_len(&self) -> usize {
        match self {
            Self::Bigram(language) => language.n_tokens(),
            Self::Automaton(language) => language.seq_len as usize,
            _ => self.flipflop().map_or(0, FlipFlop::n_tokens),
        }
    }

    /// Positions a model must have to be asked everywhere: `seq_len`, but in the bigram language
    /// one less, because nothing is asked at the last token.
    #[must_use]
    pub fn n_ctx(&self) -> usize {
        match self {
            Self::Bigram(language) => language.seq_len as usize,
            _ => self.seq_len(),
        }
    }

    /// Tokens of an example that a model is fed: all of them for the automaton, whose state is told
    /// at the last one too, elsewhere all but the last, which is only an answer.
    #[must_use]
    pub fn n_fed(&self) -> usize {
        match self {
            Self::Automaton(_) => self.seq_len(),
            Self::FlipFlop(_) | Self::Mixture(_) | Self::Bigram(_) => {
                self.seq_len().saturating_sub(1)
            }
        }
    }

    /// Number of data symbols; in the bigram language all tokens are, and of the automaton the two
    /// that write.
    #[must_use]
    pub fn n_symbols(&self) -> u32 {
        match self {
            Self::Bigram(language) => language.d_vocab(),
            Self::Automaton(_) => automaton::D_VOCAB - 1,
            _ => self.flipflop().map_or(0, |language| language.n_symbols),
        }
    }

    /// Size of the vocabulary: the data symbols, and the three instructions of flip-flop or the one
    /// of the automaton.
    #[must_use]
    pub fn d_vocab(&self) -> u32 {
        match self {
            Self::Bigram(language) => language.d_vocab(),
            Self::Automaton(_) => automaton::D_VOCAB,
            _ => self.flipflop().map_or(u32::from(FIRST_SYMBOL), FlipFlop::d_vocab),
        }
    }

    /// The tokens of the data symbols: the choice in a prediction that knows an answer is data. In the
    /// coding `pairs` those that read one.
    #[must_use]
    pub fn symbols(&self) -> Range<Token> {
        match self {
            Self::Bigram(language) => 0..language.d_vocab() as Token,
            Self::Automaton(_) => automaton::FIRST_STATE..automaton::D_VOCAB as Token,
            _ => {
                let n_symbols = self.n_symbols().min(crate::token::MAX_SYMBOLS) as Token;
                match self.coding() {
                    Coding::Tokens => FIRST_SYMBOL..FIRST_SYMBOL + n_symbols,
                    Coding::Bits => FIRST_SYMBOL..FIRST_SYMBOL + 2,
                    Coding::Pairs => READ * n_symbols..(READ + 1) * n_symbols,
                }
            }
        }
    }

    /// How a flip-flop string is spelt; other languages have a token for each of theirs.
    #[must_use]
    pub fn coding(&self) -> Coding {
        self.flipflop().map_or(Coding::Tokens, |language| language.coding)
    }

    /// The one flip-flop language, or the first of a mixture: all of them have the same shape.
    #[must_use]
    pub fn flipflop(&self) -> Option<&FlipFlop> {
        match self {
            Self::FlipFlop(language) => Some(language),
            Self::Mixture(mixture) => mixture.parts.first().map(|part| &part.task),
            Self::Bigram(_) | Self::Automaton(_) => None,
        }
    }

    /// Expected number of scored places in one example: of reads, of all places of the automaton, or
    /// an [estimate](Bigram::estimated_targets) for the bigram language.
    #[must_use]
    pub fn expected_reads(&self) -> f64 {
        match self {
            Self::FlipFlop(language) => language.expected_reads() * self.n_targets_per_read(),
            Self::Mixture(mixture) => mixture.expected_reads() * self.n_targets_per_read(),
            Self::Bigram(language) => language.estimated_targets().0,
            Self::Automaton(language) => f64::from(language.seq_len),
        }
    }

    /// Scored places of one read of flip-flop.
    fn n_targets_per_read(&self) -> f64 {
        self.flipflop().map_or(1.0, |language| f64::from(language.n_targets_per_read()))
    }

    /// Standard deviation of that number.
    #[must_use]
    pub fn sd_reads(&self) -> f64 {
        match self {
            Self::FlipFlop(language) => language.sd_reads() * self.n_targets_per_read(),
            Self::Mixture(mixture) => mixture.sd_reads() * self.n_targets_per_read(),
            Self::Bigram(language) => language.estimated_targets().1,
            Self::Automaton(_) => 0.0,
        }
    }

    /// Generates the example at the address `(stream, index)` into `out`.
    ///
    /// # Randomness
    ///
    /// All of it from item `index` of `stream`; see [`FlipFlop::generate_into`], [`Mixture`],
    /// [`Bigram::generate_into`] and [`Automaton::generate_into`].
    ///
    /// # Panics
    ///
    /// If `out` does not hold exactly `seq_len` tokens, or the task was not checked.
    #[track_caller]
    pub fn example_into(&self, stream: &Stream, index: u64, out: &mut [Token]) {
        self.generate_into(&mut stream.at(index), out);
    }

    /// The example at the address `(stream, index)`.
    ///
    /// # Panics
    ///
    /// If the task was not checked.
    #[must_use]
    #[track_caller]
    pub fn example(&self, stream: &Stream, index: u64) -> Vec<Token> {
        let mut tokens = vec![0; self.seq_len()];
        self.example_into(stream, index, &mut tokens);
        tokens
    }

    /// Generates the examples from `first_index` on into `out`, replacing what it held.
    ///
    /// # Shapes
    ///
    /// `out: [n_examples, seq_len]`, row by row.
    ///
    /// # Panics
    ///
    /// If the task was not checked, or the indices or the tokens run past the largest number.
    #[track_caller]
    pub fn batch_into(
        &self,
        stream: &Stream,
        first_index: u64,
        n_examples: usize,
        out: &mut Vec<Token>,
    ) {
        let n_tokens = n_examples.checked_mul(self.seq_len());
        let last = u64::try_from(n_examples).ok().and_then(|n| first_index.checked_add(n));
        let (Some(n_tokens), Some(_)) = (n_tokens, last) else {
            panic!("{n_examples} examples from {first_index} on are more than can be addressed")
        };
        // Every token is overwritten; only growth is filled.
        out.resize(n_tokens, 0);
        if let Self::Bigram(language) = self {
            return language.batch_into(stream, first_index, out);
        }
        for (index, tokens) in (first_index..).zip(out.chunks_exact_mut(self.seq_len().max(1))) {
            self.example_into(stream, index, tokens);
        }
    }

    #[track_caller]
    fn generate_into(&self, draws: &mut Draws, out: &mut [Token]) {
        match self {
            Self::FlipFlop(language) => language.generate_into(draws, out),
            Self::Mixture(mixture) => mixture.generate_into(draws, out),
            Self::Bigram(language) => language.generate_into(draws, out),
            Self::Automaton(language) => language.generate_into(draws, out),
        }
    }

    /// The scored places of the example at the address `(stream, index)`, in order. What `out`
    /// held is replaced.
    ///
    /// For flip-flop the [`reads`], in the coding `bits` each bit of them; for the automaton every place;
    /// for the bigram language those of [`Bigram::targets`], whose triggers are drawn again from the
    /// address.
    ///
    /// # Arguments
    ///
    /// - `tokens`: the example, so that it need not be drawn again.
    ///
    /// # Panics
    ///
    /// If the task was not checked, or the tokens are none of its vocabulary.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_task::{Bigram, Task, split};
    ///
    /// let task = Task::Bigram(Bigram::paper(3));
    /// let stream = split::train_stream(0);
    /// let tokens = task.example(&stream, 2);
    /// let mut targets = Vec::new();
    /// task.targets_into(&stream, 2, &tokens, &mut targets);
    /// // What is scored in context was seen before.
    /// assert!(targets.iter().all(|target| tokens[target.write_pos as usize + 1] == target.answer));
    /// ```
    #[track_caller]
    pub fn targets_into(
        &self,
        stream: &Stream,
        index: u64,
        tokens: &[Token],
        out: &mut Vec<Target>,
    ) {
        match self {
            Self::FlipFlop(_) | Self::Mixture(_) => match self.coding() {
                Coding::Tokens => reads(tokens, out),
                coding => coding.targets(tokens, self.n_symbols(), out),
            },
            Self::Bigram(language) => {
                language.targets(tokens, &language.triggers_at(&mut stream.at(index)), out);
            }
            Self::Automaton(language) => language.targets(tokens, out),
        }
    }

    /// One token as it is shown to people: [`text::token_text`] for flip-flop, `-`, `0` or `1` for the
    /// automaton, [`Corpus::shown`] in the bigram language. A number that is no token of that is shown
    /// as a number.
    ///
    /// [`Corpus::shown`]: crate::bigram::Corpus::shown
    #[must_use]
    pub fn token_text(&self, token: Token) -> String {
        match self {
            Self::FlipFlop(_) | Self::Mixture(_) if self.coding() == Coding::Pairs => {
                self.pair_text(token)
            }
            Self::FlipFlop(_) | Self::Mixture(_) => text::token_text(token),
            Self::Bigram(language) if u32::from(token) < language.d_vocab() => {
                language.corpus.shown(token)
            }
            Self::Automaton(_) if u32::from(token) < automaton::D_VOCAB => {
                automaton::letter_of(token).to_string()
            }
            Self::Bigram(_) | Self::Automaton(_) => token.to_string(),
        }
    }

    /// Appends an example as one line of text, without its end.
    pub(crate) fn push_line(&self, tokens: &[Token], line: &mut Vec<u8>) {
        match self {
            Self::FlipFlop(_) | Self::Mixture(_) if self.coding() == Coding::Pairs => {
                line.extend(self.line(tokens).into_bytes());
            }
            Self::FlipFlop(_) | Self::Mixture(_) => text::push_text(tokens, line),
            Self::Bigram(language) => line.extend(language.corpus.line(tokens).into_bytes()),
            Self::Automaton(_) => line.extend(automaton_line(tokens).into_bytes()),
        }
    }

    /// A token of the coding `pairs`: `w1`. A number that is none is shown as a number.
    fn pair_text(&self, token: Token) -> String {
        let n_symbols = self.n_symbols() as Token;
        if u32::from(token) >= self.d_vocab() {
            return token.to_string();
        }
        text::to_text(&[token / n_symbols, FIRST_SYMBOL + token % n_symbols])
    }

    /// An example as one line of text: [`text::to_text`] for flip-flop, a character for each token of
    /// the automaton, [`Corpus::line`] for the bigram language.
    ///
    /// [`Corpus::line`]: crate::bigram::Corpus::line
    ///
    /// # Panics
    ///
    /// If a token is none of the corpus of a bigram language.
    #[must_use]
    #[track_caller]
    pub fn line(&self, tokens: &[Token]) -> String {
        match self {
            Self::FlipFlop(_) | Self::Mixture(_) if self.coding() == Coding::Pairs => {
                tokens.iter().map(|&token| self.pair_text(token)).collect()
            }
            Self::FlipFlop(_) | Self::Mixture(_) => text::to_text(tokens),
            Self::Bigram(language) => language.corpus.line(tokens),
            Self::Automaton(_) => automaton_line(tokens),
        }
    }
}

fn automaton_line(tokens: &[Token]) -> String {
    tokens.iter().map(|&token| automaton::letter_of(token)).collect()
}

/// Which targets train the model. Errors are counted at the scored places under either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scoring {
    /// Only the scored places, in flip-flop the symbol after each `r`: the paper's deterministic,
    /// "clean" mode.
    Reads,
    /// Every next token: the paper's generative, "noisy" mode.
    All,
}

impl Scoring {
    /// The places of a flip-flop example that train the model: where it is asked, and the token
    /// it should answer. What `out` held is replaced. [`Task::targets_into`] knows the scored
    /// places of every task.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_task::Scoring;
    ///
    /// let tokens = [0, 4, 2, 3, 1, 4]; // w1 i0 r1
    /// let mut trained = Vec::new();
    /// Scoring::Reads.trained(&tokens, &mut trained);
    /// assert_eq!(trained, [(4, 4)]);
    /// Scoring::All.trained(&tokens, &mut trained);
    /// assert_eq!(trained, [(0, 4), (1, 2), (2, 3), (3, 1), (4, 4)]);
    /// ```
    pub fn trained(self, tokens: &[Token], out: &mut Vec<(u32, Token)>) {
        out.clear();
        match self {
            Self::Reads => out.extend(reads_of(tokens).map(|read| (read.query_pos, read.answer))),
            Self::All => out.extend((0..).zip(tokens.iter().skip(1).copied())),
        }
    }
}

/// A scored place: the model is asked at `query_pos`, an `r`, and should answer `answer`, the
/// token at `query_pos + 1`. In the bigram language a trigger stands in the place of `r` and `w`. The
/// automaton is asked at any token, and the answer is the token that writes the state after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The pos of the `r`.
    pub query_pos: u32,
    /// The token last written: the right answer, whatever follows the `r`.
    pub answer: Token,
    /// The pos of the `w` that wrote it; `query_pos - write_pos` is the distance in tokens.
    pub write_pos: u32,
}

/// The scored places of one example, in order. What `out` held is replaced.
///
/// One pass forward with a register. A read with nothing written before it has no right answer
/// and is not scored; examples of our languages begin with a write.
///
/// # Example
///
/// ```
/// use mnemoscope_task::{Target, reads};
///
/// let mut targets = Vec::new();
/// reads(&[0, 4, 2, 3, 1, 4], &mut targets); // w1 i0 r1
/// assert_eq!(targets, [Target { query_pos: 4, answer: 4, write_pos: 0 }]);
/// ```
pub fn reads(tokens: &[Token], out: &mut Vec<Target>) {
    out.clear();
    out.extend(reads_of(tokens));
}

fn reads_of(tokens: &[Token]) -> impl Iterator<Item = Target> {
    let mut register = None;
    (0_u32..).step_by(2).zip(tokens.as_chunks::<2>().0).filter_map(move |(pos, &[op, symbol])| {
        if op == WRITE {
            register = Some((symbol, pos));
        }
        let (answer, write_pos) = register?;
        (op == READ).then_some(Target { query_pos: pos, answer, write_pos })
    })
}
