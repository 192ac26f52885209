//! Tasks: what can be generated, addressed by stream and index, and where it is scored.
//!
//! ```text
//! (stream, index)  ->  example       the same tokens on any machine, in any order
//! example          ->  targets       one for each read: where to ask, what to answer
//! ```

use std::ops::Range;

use mnemoscope_stats::stream::{Draws, Stream};
use serde::{Deserialize, Serialize};

use crate::complaint::Complaint;
use crate::error::{Cause, Error};
use crate::flipflop::FlipFlop;
use crate::mixture::Mixture;
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
}

impl Task {
    /// The word for the task in specs, records and commands.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::FlipFlop(_) => "flipflop",
            Self::Mixture(_) => "mixture",
        }
    }

    /// Everything that is wrong with the task; empty if examples can be generated.
    #[must_use]
    pub fn check(&self) -> Vec<Complaint> {
        match self {
            Self::FlipFlop(language) => language.check(),
            Self::Mixture(mixture) => mixture.check(),
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
        self.first_language().map_or(0, |language| language.seq_len as usize)
    }

    /// Number of data symbols.
    #[must_use]
    pub fn n_symbols(&self) -> u32 {
        self.first_language().map_or(0, |language| language.n_symbols)
    }

    /// Size of the vocabulary: three instructions and the data symbols.
    #[must_use]
    pub fn d_vocab(&self) -> u32 {
        self.n_symbols() + u32::from(FIRST_SYMBOL)
    }

    /// The tokens of the data symbols: the choice in a prediction that knows an answer is data.
    #[must_use]
    pub fn symbols(&self) -> Range<Token> {
        FIRST_SYMBOL..FIRST_SYMBOL + self.n_symbols().min(crate::token::MAX_SYMBOLS) as Token
    }

    /// The one language, or the first of a mixture: all of them have the same shape.
    fn first_language(&self) -> Option<&FlipFlop> {
        match self {
            Self::FlipFlop(language) => Some(language),
            Self::Mixture(mixture) => mixture.parts.first().map(|part| &part.task),
        }
    }

    /// Expected number of reads in one example.
    #[must_use]
    pub fn expected_reads(&self) -> f64 {
        match self {
            Self::FlipFlop(language) => language.expected_reads(),
            Self::Mixture(mixture) => mixture.expected_reads(),
        }
    }

    /// Standard deviation of the number of reads in one example.
    #[must_use]
    pub fn sd_reads(&self) -> f64 {
        match self {
            Self::FlipFlop(language) => language.sd_reads(),
            Self::Mixture(mixture) => mixture.sd_reads(),
        }
    }

    /// Generates the example at the address `(stream, index)` into `out`.
    ///
    /// # Randomness
    ///
    /// All of it from item `index` of `stream`; see [`FlipFlop::generate_into`] and [`Mixture`].
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
        for (index, tokens) in (first_index..).zip(out.chunks_exact_mut(self.seq_len().max(1))) {
            self.example_into(stream, index, tokens);
        }
    }

    #[track_caller]
    fn generate_into(&self, draws: &mut Draws, out: &mut [Token]) {
        match self {
            Self::FlipFlop(language) => language.generate_into(draws, out),
            Self::Mixture(mixture) => mixture.generate_into(draws, out),
        }
    }
}

/// Which targets train the model. Errors are counted at reads under either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scoring {
    /// Only the symbol after each `r`: the paper's deterministic, "clean" mode.
    Reads,
    /// Every next token: the paper's generative, "noisy" mode.
    All,
}

impl Scoring {
    /// The places of an example that train the model: where it is asked, and the token it
    /// should answer. What `out` held is replaced.
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
/// token at `query_pos + 1`.
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
