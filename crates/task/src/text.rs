//! The public text form of an example: `w1i1w0i0...`, no separators.
//!
//! An instruction is its letter and a data symbol its number in decimal, so that an example of
//! 512 tokens with up to ten symbols has 512 characters, as in the data set `synthseq/flipflop`.
//! With more symbols numbers have up to three digits, and the letters between them keep the text
//! unambiguous. A number has no leading zero: each example has exactly one text.

use std::fmt;

use crate::error::{Cause, Error};
use crate::token::{FIRST_SYMBOL, IGNORE, MAX_SYMBOLS, READ, Token, WRITE};

/// The text of an example.
///
/// Any tokens can be written, also strings that are no example: a letter for each instruction, a
/// number for each symbol, in order.
///
/// # Example
///
/// ```
/// use mnemoscope_task::text;
///
/// assert_eq!(text::to_text(&[0, 4, 2, 3, 1, 4]), "w1i0r1");
/// ```
#[must_use]
pub fn to_text(tokens: &[Token]) -> String {
    let mut text = Vec::with_capacity(tokens.len());
    push_text(tokens, &mut text);
    String::from_utf8(text).expect("letters and digits are ASCII")
}

/// The characters of tokens that have one: all tokens of languages with up to ten symbols.
const CHARACTERS: &[u8; 16] = b"wri0123456789???";

/// Appends the text of an example.
pub(crate) fn push_text(tokens: &[Token], text: &mut Vec<u8>) {
    if tokens.iter().all(|&token| token < FIRST_SYMBOL + 10) {
        text.extend(tokens.iter().map(|&token| CHARACTERS[usize::from(token & 15)]));
        return;
    }
    for &token in tokens {
        if token < FIRST_SYMBOL {
            text.push(CHARACTERS[usize::from(token)]);
        } else {
            push_number(token - FIRST_SYMBOL, text);
        }
    }
}

fn push_number(number: u16, text: &mut Vec<u8>) {
    if number >= 10 {
        push_number(number / 10, text);
    }
    text.push(b'0' + (number % 10) as u8);
}

/// One token as it is shown to people: `w`, `r`, `i`, or the number of the symbol.
#[must_use]
pub fn token_text(token: Token) -> String {
    to_text(&[token])
}

/// The tokens of a text with `n_symbols` data symbols.
///
/// The text must alternate instructions and numbers below `n_symbols`; whether it is an example
/// of the language is for [`oracle::is_valid`](crate::oracle::is_valid) to say.
///
/// # Errors
///
/// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) with the first character that does not fit;
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if `n_symbols` is not 2 to 256.
///
/// # Example
///
/// ```
/// use mnemoscope_task::text;
///
/// // The beginning of the public data set's first training row.
/// assert_eq!(text::from_text("w1i1w0i0", 2)?, [0, 4, 2, 4, 0, 3, 2, 3]);
/// let error = text::from_text("w1i7", 2).unwrap_err();
/// assert_eq!(error.to_string(), "character 3 begins symbol 7, but the symbols are 0 to 1");
/// # Ok::<(), mnemoscope_task::Error>(())
/// ```
pub fn from_text(text: &str, n_symbols: u32) -> Result<Vec<Token>, Error> {
    check_n_symbols(n_symbols)?;
    let mut tokens = Vec::new();
    parse(text, n_symbols, &mut tokens).map_err(|flaw| Cause::Text { flaw })?;
    Ok(tokens)
}

/// Refuses a number of symbols that no language has.
pub(crate) fn check_n_symbols(n_symbols: u32) -> Result<(), Error> {
    if (2..=MAX_SYMBOLS).contains(&n_symbols) {
        Ok(())
    } else {
        Err(Cause::SymbolCount { n_symbols }.into())
    }
}

/// What is wrong with one row of data. Characters and tokens are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing there.
    Empty,
    /// Not w, r or i where an instruction belongs.
    NoInstruction { place: usize, found: char },
    /// No number where a symbol belongs.
    NoSymbol { place: usize, found: char },
    /// A number that is not a symbol of the language.
    SymbolRange { place: usize, digits: String, n_symbols: u32 },
    /// A number with a leading zero.
    LeadingZero { place: usize },
    /// Ends after an instruction.
    Odd { n_tokens: usize },
    /// A token, in a file of numbers, that does not belong at its pos.
    Token { pos: usize, token: u64, n_symbols: u32 },
    /// Another length than the rows before.
    Ragged { n_tokens: usize, expected: usize },
    /// Too long to be an example.
    TooLong { max_bytes: u64 },
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// A line that is not an object with a string `text`.
    NotJson { why: String },
    /// A missing value in a column.
    Null,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there is no example"),
            Self::NoInstruction { place, found } => {
                write!(f, "character {place} is `{}`, but w, r or i belongs there", shown(*found))
            }
            Self::NoSymbol { place, found } => {
                write!(f, "character {place} is `{}`, but a number belongs there", shown(*found))
            }
            Self::SymbolRange { place, digits, n_symbols } => {
                let last = n_symbols - 1;
                write!(
                    f,
                    "character {place} begins symbol {digits}, but the symbols are 0 to {last}"
                )
            }
            Self::LeadingZero { place } => {
                write!(f, "character {place} begins a number with a leading zero")
            }
            Self::Odd { n_tokens } => {
                write!(f, "it ends after an instruction: {n_tokens} tokens, an odd number")
            }
            Self::Token { pos, token, n_symbols } => {
                let belongs = if pos % 2 == 0 {
                    "an instruction, 0 to 2,".to_owned()
                } else {
                    format!("a symbol, 3 to {},", n_symbols + 2)
                };
                write!(f, "pos {pos} holds token {token}, but {belongs} belongs there")
            }
            Self::Ragged { n_tokens, expected } => {
                write!(f, "it has {n_tokens} tokens, the rows before it {expected}")
            }
            Self::TooLong { max_bytes } => {
                write!(f, "it is longer than {max_bytes} bytes, more than any example")
            }
            Self::NotUtf8 => f.write_str("it is not text in UTF-8"),
            Self::NotJson { why } => {
                write!(f, "it is no JSON object with a string `text`: {why}")
            }
            Self::Null => f.write_str("its text is missing (null)"),
        }
    }
}

/// A character that a terminal can show.
fn shown(found: char) -> String {
    found.escape_debug().collect()
}

/// Parses one text into `tokens`, which is emptied first.
pub(crate) fn parse(text: &str, n_symbols: u32, tokens: &mut Vec<Token>) -> Result<(), Flaw> {
    tokens.clear();
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return Err(Flaw::Empty);
    }
    tokens.reserve(bytes.len());
    // The place of a character counts characters; up to the first flaw all of them are ASCII.
    let found = |place: usize| text[place..].chars().next().unwrap_or('\u{0}');
    let mut place = 0;
    while place < bytes.len() {
        let op = match bytes[place] {
            b'w' => WRITE,
            b'r' => READ,
            b'i' => IGNORE,
            _ => return Err(Flaw::NoInstruction { place, found: found(place) }),
        };
        tokens.push(op);
        place += 1;
        if place == bytes.len() {
            return Err(Flaw::Odd { n_tokens: tokens.len() });
        }
        let digits = bytes[place..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return Err(Flaw::NoSymbol { place, found: found(place) });
        }
        tokens.push(FIRST_SYMBOL + symbol(&text[place..place + digits], place, n_symbols)?);
        place += digits;
    }
    Ok(())
}

/// The symbol that `digits` spell.
fn symbol(digits: &str, place: usize, n_symbols: u32) -> Result<Token, Flaw> {
    if digits.len() > 1 && digits.starts_with('0') {
        return Err(Flaw::LeadingZero { place });
    }
    match digits.parse::<Token>() {
        Ok(symbol) if u32::from(symbol) < n_symbols => Ok(symbol),
        _ => {
            // A message is for reading: a number of a thousand digits is cut short.
            let mut digits = digits.to_owned();
            if digits.len() > 20 {
                digits.truncate(20);
                digits.push_str("...");
            }
            Err(Flaw::SymbolRange { place, digits, n_symbols })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, n_symbols: u32, expected: &str) {
        let error = from_text(text, n_symbols).unwrap_err();
        assert_eq!(error.to_string(), expected, "{text}");
        assert_eq!(error.kind(), crate::ErrorKind::Corrupt);
    }

    #[test]
    fn the_public_token_map_is_pinned() {
        // The public data set's first training row begins so, and its card tokenises it so.
        assert_eq!(from_text("w1i1w0i0", 2).unwrap(), [0, 4, 2, 4, 0, 3, 2, 3]);
        assert_eq!(to_text(&[0, 4, 2, 4, 0, 3, 2, 3]), "w1i1w0i0");
        assert_eq!(from_text("r1", 2).unwrap(), [1, 4]);
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_place() {
        check("", 2, "there is no example");
        check("w1x0", 2, "character 2 is `x`, but w, r or i belongs there");
        check("w1 i0", 2, "character 2 is ` `, but w, r or i belongs there");
        check("w1\ni0", 2, "character 2 is `\\n`, but w, r or i belongs there");
        check("w1é0", 2, "character 2 is `é`, but w, r or i belongs there");
        check("wé", 2, "character 1 is `é`, but a number belongs there");
        check("ww", 2, "character 1 is `w`, but a number belongs there");
        check("10", 2, "character 0 is `1`, but w, r or i belongs there");
        check("w1i2", 2, "character 3 begins symbol 2, but the symbols are 0 to 1");
        check("w255i256", 256, "character 5 begins symbol 256, but the symbols are 0 to 255");
        check("w01", 256, "character 1 begins a number with a leading zero");
        check("w1i", 2, "it ends after an instruction: 3 tokens, an odd number");
        check(
            &format!("w{}", "9".repeat(1_000)),
            256,
            "character 1 begins symbol 99999999999999999999..., but the symbols are 0 to 255",
        );
    }

    #[test]
    fn a_number_of_symbols_that_no_language_has_is_refused() {
        for n_symbols in [0, 1, 257, u32::MAX] {
            let error = from_text("w0", n_symbols).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Invalid);
            assert_eq!(error.to_string(), format!("n_symbols is {n_symbols}; use 2 to 256"));
        }
    }

    #[test]
    fn tokens_beyond_any_language_still_have_a_text() {
        assert_eq!(to_text(&[65_535]), "65532");
        assert_eq!(token_text(2), "i");
        assert_eq!(token_text(12), "9");
    }

    proptest! {
        #[test]
        fn text_and_tokens_are_one_to_one(
            n_symbols in 2_u32..=256,
            pairs in prop::collection::vec((0_u16..3, any::<u16>()), 1..200),
        ) {
            let tokens: Vec<Token> = pairs
                .iter()
                .flat_map(|&(op, symbol)| [op, 3 + symbol % n_symbols as u16])
                .collect();
            prop_assert_eq!(from_text(&to_text(&tokens), n_symbols).unwrap(), tokens);
        }

        /// Whatever the text, it is refused or it is the text of its tokens.
        #[test]
        fn no_two_texts_have_the_same_tokens(text in "[wri01239]{0,12}") {
            if let Ok(tokens) = from_text(&text, 10) {
                prop_assert_eq!(to_text(&tokens), text);
            }
        }

        #[test]
        fn no_text_panics(text in ".{0,40}", n_symbols in 0_u32..300) {
            if let Ok(tokens) = from_text(&text, n_symbols) {
                prop_assert_eq!(to_text(&tokens), text);
            }
        }
    }
}
