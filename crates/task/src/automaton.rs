//! The flip-flop automaton: a one-bit register whose state is told at every position.
//!
//! ```text
//! pos     0  1  2  3  4  5  6  7
//! token   1  -  0  -  -  0  1  -      0 and 1 write, - leaves the state as it is
//! answer  1  1  0  0  0  0  1  1      the state after the token, told where the token stands
//! scored  ^  ^  ^  ^  ^  ^  ^  ^
//! ```
//!
//! The paper's states are 0 and 1, its inputs σ0, σ1 and ⊥: `0`, `1` and `-` here. The state at a pos
//! depends on the tokens up to it alone, so nothing that a model answers is ever fed back to it. The
//! paper's `p(⊥)` is `p_ignore`. A state is answered by the token that writes it.
//!
//! Source: Liu, Ash, Goel, Krishnamurthy and Zhang, "Exposing Attention Glitches with Flip-Flop
//! Language Modeling", NeurIPS 2023, arXiv:2306.00946, definition 1, section 5.3 and figures 14 to 19.

use mnemoscope_stats::stream::Draws;
use serde::{Deserialize, Serialize};

use crate::complaint::{Complaint, plain};
use crate::task::Target;
use crate::token::{MAX_SEQ_LEN, Token};

/// ⊥: the state stays.
pub const BOTTOM: Token = 0;
/// The token that writes state 0; `FIRST_STATE + q` writes state `q`, and is the answer where the
/// state is `q`.
pub const FIRST_STATE: Token = 1;
/// Tokens: ⊥ and one for each of the two states.
pub const D_VOCAB: u32 = 3;

/// Words drawn at a time.
const CHUNK: usize = 64;

/// Everything that fixes a language of the flip-flop automaton.
///
/// # Example
///
/// ```
/// use mnemoscope_task::{Automaton, Task, split};
///
/// let task = Task::Automaton(Automaton::paper());
/// let stream = split::train_stream(0);
/// let tokens = task.example(&stream, 0);
/// let mut targets = Vec::new();
/// task.targets_into(&stream, 0, &tokens, &mut targets);
/// // Every position is scored, and the first token is a write: it is its own answer.
/// assert_eq!(targets.len(), 500);
/// assert_eq!(targets[0].answer, tokens[0]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Automaton {
    /// Tokens in one example, all of which a model is fed.
    pub seq_len: u32,
    /// Probability of ⊥; the two writes share the rest.
    pub p_ignore: f64,
    /// Whether the first token is always a write. If not, the state is 0 until the first one.
    pub first_write: bool,
}

impl Automaton {
    /// The language of figure 14: 500 tokens, every second one ⊥. The first token is a write, as in
    /// later code of the paper's first author; the paper does not say.
    #[must_use]
    pub fn paper() -> Self {
        Self { seq_len: 500, p_ignore: 0.5, first_write: true }
    }

    /// Everything that is wrong with these numbers; empty if examples can be generated.
    #[must_use]
    pub fn check(&self) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let mut complain = |field, message| complaints.push(Complaint::new(field, message));
        let Self { seq_len, p_ignore, .. } = *self;
        if !(1..=MAX_SEQ_LEN).contains(&seq_len) {
            complain("seq_len", format!("seq_len is {seq_len}; use 1 to {MAX_SEQ_LEN}"));
        }
        if !(0.0..=1.0).contains(&p_ignore) {
            let p = plain(p_ignore);
            complain("p_ignore", format!("p_ignore is {p}; use a probability between 0 and 1"));
        }
        complaints
    }

    /// Generates one example, a pure function of the state of `draws`.
    ///
    /// Probabilities are quantised to multiples of 2^-32; 0 and 1 are exact.
    ///
    /// # Randomness
    ///
    /// One word for each token. It is ⊥ if the word is below `p_ignore` of 2^32, and the rest of the
    /// words is halved between the writes of 0 and of 1. A first token that must write halves all
    /// words. This order is part of the format: records address examples by it.
    ///
    /// # Panics
    ///
    /// If `out` does not hold exactly `seq_len` tokens.
    #[track_caller]
    pub fn generate_into(&self, draws: &mut Draws, out: &mut [Token]) {
        assert!(
            out.len() == self.seq_len as usize,
            "an example has {} tokens, the space for it {}",
            self.seq_len,
            out.len()
        );
        let below = |p: f64| (p * 2_f64.powi(32)).round() as u64;
        let bottom = below(self.p_ignore);
        let mut words = [0; CHUNK];
        for (chunk_idx, chunk) in out.chunks_mut(CHUNK).enumerate() {
            let words = &mut words[..chunk.len()];
            draws.fill_u32(words);
            for (token, &word) in std::iter::zip(chunk.iter_mut(), &*words) {
                *token = letter(u64::from(word), bottom);
            }
            if chunk_idx == 0 && self.first_write {
                chunk[0] = letter(u64::from(words[0]), 0);
            }
        }
    }

    /// The scored places of an example, all of them. What `out` held is replaced.
    ///
    /// `write_pos` is the pos of the write that made the state, which may be the query itself; before
    /// the first write it is the query's own pos.
    pub fn targets(&self, tokens: &[Token], out: &mut Vec<Target>) {
        out.clear();
        let mut written = None;
        out.extend((0_u32..).zip(tokens).map(|(query_pos, &token)| {
            if token != BOTTOM {
                written = Some((token, query_pos));
            }
            let (answer, write_pos) = written.unwrap_or((FIRST_STATE, query_pos));
            Target { query_pos, answer, write_pos }
        }));
    }
}

/// The token of a word: ⊥ below `bottom`, and of the rest the lower half writes 0.
fn letter(word: u64, bottom: u64) -> Token {
    if word < bottom {
        return BOTTOM;
    }
    let n_left = (1 << 32) - bottom;
    FIRST_STATE + Token::from(2 * (word - bottom) >= n_left)
}

/// A token as it is shown and written to files: `-`, `0` or `1`.
pub(crate) fn letter_of(token: Token) -> char {
    match token {
        BOTTOM => '-',
        FIRST_STATE => '0',
        2 => '1',
        _ => '?',
    }
}

#[cfg(test)]
mod tests {
    use mnemoscope_stats::stream::Stream;

    use super::*;

    #[track_caller]
    fn check(language: &Automaton, expected: &[&str]) {
        let messages: Vec<String> =
            language.check().iter().map(|complaint| complaint.to_string()).collect();
        assert_eq!(messages, expected);
    }

    #[test]
    fn each_wrong_number_gets_one_message_that_says_what_to_do() {
        check(&Automaton::paper(), &[]);
        check(&Automaton { seq_len: 1, p_ignore: 1.0, first_write: false }, &[]);
        check(
            &Automaton { seq_len: 0, p_ignore: 1.5, first_write: true },
            &[
                "seq_len is 0; use 1 to 16777216",
                "p_ignore is 1.5; use a probability between 0 and 1",
            ],
        );
    }

    #[test]
    fn the_words_are_shared_out_as_the_law_says() {
        let half = 1 << 31;
        let check = |word: u64, bottom: u64, expected: Token| {
            assert_eq!(letter(word, bottom), expected, "{word} {bottom}");
        };
        let last = (1 << 32) - 1;
        check(0, half, 0);
        check(half - 1, half, 0);
        check(half, half, 1);
        check(half + half / 2 - 1, half, 1);
        check(half + half / 2, half, 2);
        check(last, half, 2);
        check(0, 0, 1);
        check(half, 0, 2);
        check(last, 1 << 32, 0);
    }

    /// Shares of 10^6 tokens: five standard deviations (0.0025) are allowed, so the test fails by
    /// chance once in 10^6 choices of the stream, and the stream is fixed.
    #[test]
    fn tokens_are_as_frequent_as_their_probabilities() {
        let n_tokens = 1_000_000;
        let language = Automaton { seq_len: n_tokens, p_ignore: 0.9, first_write: true };
        let mut tokens = vec![0; n_tokens as usize];
        language.generate_into(&mut Stream::root(0).derive("automaton").at(0), &mut tokens);
        assert_ne!(tokens[0], BOTTOM);
        for (letter, expected) in [(0, 0.9), (1, 0.05), (2, 0.05)] {
            let n = tokens.iter().filter(|&&token| token == letter).count();
            let share = n as f64 / f64::from(n_tokens);
            assert!((share - expected).abs() < 0.0025, "{letter}: {share}");
        }
    }

    #[test]
    fn without_a_write_the_state_is_0() {
        let mut targets = Vec::new();
        Automaton::paper().targets(&[0, 0, 2, 0], &mut targets);
        let got: Vec<_> =
            targets.iter().map(|it| (it.query_pos, it.answer, it.write_pos)).collect();
        assert_eq!(got, [(0, 1, 0), (1, 1, 1), (2, 2, 2), (3, 2, 2)]);
    }
}
