//! The oracle of the bigram language: counts and answers by looking back through the tokens.
//!
//! The generator makes a trigger's output; the oracle is told which tokens are triggers, and finds
//! what each should be followed by where it stood before. The two share no code.
//!
//! ```text
//! pos     0  1  2  3  4  5
//! token   t  h  e  m  e  m      triggers: e
//!               ^-----+         the `e` at 4 finds the `e` at 2: 2nd occurrence, answer m
//! ```

use super::Corpus;

/// What the oracle says about one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The place of a trigger.
    pub query_pos: usize,
    /// How often the trigger has occurred up to there, itself included.
    pub count: usize,
    /// The place of its nearest occurrence before, and the token after that: the right answer.
    /// None at the first occurrence, where nothing can be known.
    pub seen: Option<(usize, u16)>,
}

/// The right answer at every trigger that has a token after it.
///
/// Tokens are those of the sequence: of a language that shows its triggers before it, what comes
/// after them.
///
/// # Example
///
/// ```
/// use mnemoscope_task::bigram::oracle::{Answer, answers};
///
/// assert_eq!(
///     answers(&[4, 7, 7, 4, 7], &[4]),
///     [
///         Answer { query_pos: 0, count: 1, seen: None },
///         Answer { query_pos: 3, count: 2, seen: Some((0, 7)) },
///     ]
/// );
/// ```
#[must_use]
pub fn answers(tokens: &[u16], triggers: &[u16]) -> Vec<Answer> {
    (0..tokens.len().saturating_sub(1))
        .filter(|&pos| triggers.contains(&tokens[pos]))
        .map(|query_pos| {
            let earlier = || (0..query_pos).filter(|&pos| tokens[pos] == tokens[query_pos]);
            let seen = earlier().next_back().map(|pos| (pos, tokens[pos + 1]));
            Answer { query_pos, count: 1 + earlier().count(), seen }
        })
        .collect()
}

/// Whether these tokens can be an example in which `triggers` have these outputs: `(trigger,
/// output)` each.
///
/// After each trigger stands its output, and every other token is one that the corpus knows to
/// follow the token before it. Tokens are those of the sequence, as in [`answers`].
///
/// # Errors
///
/// What is wrong first, with its pos, for a person.
///
/// # Example
///
/// ```
/// use mnemoscope_task::bigram::{Corpus, oracle};
///
/// let corpus = Corpus::from_text("abcab")?;
/// assert_eq!(oracle::is_valid(&[0, 1, 1, 2, 0], &[(1, 1)], &corpus).unwrap_err(),
///     "the trigger at pos 2 is followed by 2, but its output is 1");
/// assert_eq!(oracle::is_valid(&[0, 1, 0, 1, 0], &[(1, 0)], &corpus), Ok(()));
/// # Ok::<(), mnemoscope_task::Error>(())
/// ```
pub fn is_valid(tokens: &[u16], triggers: &[(u16, u16)], corpus: &Corpus) -> Result<(), String> {
    let d_vocab = corpus.characters().len();
    if let Some(pos) = tokens.iter().position(|&token| usize::from(token) >= d_vocab) {
        return Err(format!("pos {pos} holds {}, but tokens are below {d_vocab}", tokens[pos]));
    }
    for (pos, pair) in tokens.windows(2).enumerate() {
        let (token, next) = (pair[0], pair[1]);
        match triggers.iter().find(|&&(trigger, _)| trigger == token) {
            Some(&(_, output)) if next != output => {
                return Err(format!(
                    "the trigger at pos {pos} is followed by {next}, but its output is {output}"
                ));
            }
            None if corpus.p_bigram(token, next) <= 0.0 => {
                return Err(format!("{token} at pos {pos} is never followed by {next}"));
            }
            _ => {}
        }
    }
    Ok(())
}
