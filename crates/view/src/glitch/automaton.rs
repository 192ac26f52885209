//! The parts of a glitch's page where a token is no half of a pair: of the automaton, and of flip-flop
//! in another coding.

use super::{Picture, bigram};
use crate::number;
use crate::text::wrap;

/// The example up to the query in rows of tokens, the last write and the query marked.
pub(super) fn sequence(picture: &Picture) -> String {
    let Picture { write_pos, query_pos, .. } = *picture;
    if write_pos < query_pos {
        bigram::rows(picture, write_pos..write_pos + 1, "^ the last write    = the token asked at")
    } else {
        bigram::rows(picture, 0..0, "= the token asked at")
    }
}

/// What was right, why, and what the model said.
pub(super) fn answer(picture: &Picture) -> String {
    let Picture { query_pos, write_pos, vocab, words, expected, predicted, .. } = picture;
    let name = |token: usize| vocab.get(token).map_or("?", String::as_str);
    let n_back = query_pos.saturating_sub(*write_pos) as u64;
    let state = name(*expected);
    let why = if n_back > 0 {
        let back = number::counted(n_back, "token", "tokens");
        format!("The state is {state} (written at position {write_pos}, {back} back).")
    } else if words.get(*query_pos).is_some_and(|word| word == state) {
        format!("The state is {state}: this token writes it.")
    } else {
        format!("The state is {state}, as at the beginning: nothing has been written.")
    };
    let said = format!("The model answered {}.", name(*predicted));
    wrap(&why, crate::WIDTH, "  ") + &wrap(&said, crate::WIDTH, "  ")
}

/// The same of flip-flop in another coding, where the right answer is a token that a read repeats.
pub(super) fn spelt_answer(picture: &Picture) -> String {
    let Picture { query_pos, write_pos, vocab, expected, predicted, .. } = picture;
    let name = |token: usize| vocab.get(token).map_or("?", String::as_str);
    let back = number::counted(query_pos.saturating_sub(*write_pos) as u64, "token", "tokens");
    let why = format!(
        "The next token is {}: the last write begins at position {write_pos}, {back} back.",
        name(*expected)
    );
    let said = format!("The model answered {}.", name(*predicted));
    wrap(&why, crate::WIDTH, "  ") + &wrap(&said, crate::WIDTH, "  ")
}
