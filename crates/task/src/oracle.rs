//! The oracle: what a read must answer, found by looking back from it.
//!
//! The generator runs a register forward; the oracle takes each read and walks backwards to the
//! nearest write. The two share no code, no state and no constants: the letters' numbers are
//! written out here a second time, on purpose. Where they disagree, one of them is wrong.
//!
//! ```text
//! pos     0  1  2  3  4  5  6  7  8  9
//! token   w  1  i  0  w  0  i  1  r  0
//!                     ^-----------+        the read at 8 finds the write at 4: answer 0
//! ```

/// The right answer to every read of an example, whatever symbols follow them.
///
/// # Returns
///
/// For each `r` in order: its pos, and the token that was last written before it, or `None` if
/// nothing was.
///
/// # Example
///
/// ```
/// use mnemoscope_task::oracle;
///
/// // w0 r1 w1 r0: both reads are followed by the wrong bit, the oracle does not care.
/// let tokens = [0, 3, 1, 4, 0, 4, 1, 3];
/// assert_eq!(oracle::answers(&tokens), [(2, Some(3)), (6, Some(4))]);
/// ```
#[must_use]
pub fn answers(tokens: &[u16]) -> Vec<(usize, Option<u16>)> {
    (0..tokens.len())
        .step_by(2)
        .filter(|&pos| tokens[pos] == 1)
        .map(|read_pos| {
            let answer = last_write(tokens, read_pos).and_then(|pos| tokens.get(pos + 1).copied());
            (read_pos, answer)
        })
        .collect()
}

/// The pos of the nearest `w` before `read_pos`.
fn last_write(tokens: &[u16], read_pos: usize) -> Option<usize> {
    (0..read_pos / 2).rev().map(|pair| 2 * pair).find(|&pos| tokens[pos] == 0)
}

/// The right answers in a string whose symbols are spelt in `n_bits` bits each: for each bit of each
/// read the pos of the token before it, and the bit of the last write.
///
/// # Example
///
/// ```
/// use mnemoscope_task::oracle;
///
/// // w10 i00 r: the bits 1 and 0 belong after it, asked at 6 and 7.
/// assert_eq!(oracle::bit_answers(&[0, 4, 3, 2, 3, 3, 1, 3, 3], 2), [(6, 4), (7, 3)]);
/// ```
#[must_use]
pub fn bit_answers(tokens: &[u16], n_bits: usize) -> Vec<(usize, u16)> {
    let width = n_bits + 1;
    let begins = |pos: &usize| pos.is_multiple_of(width);
    let mut answers = Vec::new();
    for read_pos in (0..tokens.len()).filter(begins).filter(|&pos| tokens[pos] == 1) {
        let write_pos = (0..read_pos).rev().filter(begins).find(|&pos| tokens[pos] == 0);
        let Some(write_pos) = write_pos else { continue };
        answers.extend((0..n_bits).map(|bit| (read_pos + bit, tokens[write_pos + 1 + bit])));
    }
    answers
}

/// The right answers in a string of pairs, whose tokens are an instruction times `n_symbols` and a
/// symbol: for each read the pos before it, and the pair that belongs there.
///
/// # Example
///
/// ```
/// use mnemoscope_task::oracle;
///
/// // With 4 symbols: w2 i0 r?, and r2 is 6.
/// assert_eq!(oracle::pair_answers(&[2, 8, 4], 4), [(1, 6)]);
/// ```
#[must_use]
pub fn pair_answers(tokens: &[u16], n_symbols: u16) -> Vec<(usize, u16)> {
    let is_read = |token: u16| (n_symbols..2 * n_symbols).contains(&token);
    let read_places = (0..tokens.len()).filter(|&pos| is_read(tokens[pos]));
    read_places
        .filter_map(|pos| {
            let written = tokens[..pos].iter().rev().find(|&&token| token < n_symbols)?;
            Some((pos - 1, n_symbols + written))
        })
        .collect()
}

/// The state of the flip-flop automaton after each token: the token of its last write, or that of
/// state 0 where nothing was written.
///
/// # Example
///
/// ```
/// use mnemoscope_task::oracle;
///
/// // - 1 - 0, with - for ⊥; 1 writes state 0 and 2 writes state 1.
/// assert_eq!(oracle::states(&[0, 2, 0, 1]), [1, 2, 2, 1]);
/// ```
#[must_use]
pub fn states(tokens: &[u16]) -> Vec<u16> {
    let last_write = |pos: usize| tokens[..=pos].iter().rev().find(|&&token| token != 0);
    (0..tokens.len()).map(|pos| last_write(pos).copied().unwrap_or(1)).collect()
}

/// Whether these tokens are an example of a flip-flop language with `n_symbols` symbols.
///
/// An example has an even number of tokens, at least 4; instructions and symbols alternate; it
/// begins with `w`, its last instruction is `r`, and the symbol after each `r` is the one last
/// written. The time grows with the sum of the distances from reads back to their writes.
///
/// # Errors
///
/// What is wrong first, with its pos, for a person.
///
/// # Example
///
/// ```
/// use mnemoscope_task::oracle;
///
/// assert_eq!(oracle::is_valid(&[0, 4, 2, 3, 1, 4], 2), Ok(())); // w1 i0 r1
/// assert_eq!(
///     oracle::is_valid(&[0, 4, 2, 3, 1, 3], 2), // w1 i0 r0
///     Err("the read at pos 4 says 0, but 1 was last written at pos 0".to_owned())
/// );
/// ```
pub fn is_valid(tokens: &[u16], n_symbols: u32) -> Result<(), String> {
    let n_tokens = tokens.len();
    if n_tokens < 4 || n_tokens % 2 == 1 {
        return Err(format!("{n_tokens} tokens are no example: an even number from 4 up is"));
    }
    for (pos, &token) in tokens.iter().enumerate() {
        let is_instruction = token < 3;
        if pos % 2 == 0 && !is_instruction {
            return Err(format!("pos {pos} holds token {token}, but w, r or i belongs there"));
        }
        if pos % 2 == 1 && (is_instruction || u32::from(token) >= 3 + n_symbols) {
            let last = 2 + n_symbols;
            return Err(format!("pos {pos} holds token {token}, but a symbol is 3 to {last}"));
        }
    }
    if tokens[0] != 0 {
        return Err("the first instruction is not w".to_owned());
    }
    if tokens[n_tokens - 2] != 1 {
        return Err("the last instruction is not r".to_owned());
    }
    for read_pos in (0..n_tokens).step_by(2).filter(|&pos| tokens[pos] == 1) {
        let said = tokens[read_pos + 1];
        let write_pos = last_write(tokens, read_pos).unwrap_or(0);
        let written = tokens[write_pos + 1];
        if said != written {
            return Err(format!(
                "the read at pos {read_pos} says {}, but {} was last written at pos {write_pos}",
                said - 3,
                written - 3
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{answers, is_valid};

    #[track_caller]
    fn check(tokens: &[u16], n_symbols: u32, expected: &str) {
        assert_eq!(is_valid(tokens, n_symbols), Err(expected.to_owned()), "{tokens:?}");
    }

    #[test]
    fn each_fault_is_named_with_its_pos() {
        check(&[0, 3], 2, "2 tokens are no example: an even number from 4 up is");
        check(&[0, 3, 1, 3, 1], 2, "5 tokens are no example: an even number from 4 up is");
        check(&[0, 3, 4, 3], 2, "pos 2 holds token 4, but w, r or i belongs there");
        check(&[0, 2, 1, 3], 2, "pos 1 holds token 2, but a symbol is 3 to 4");
        check(&[0, 5, 1, 5], 2, "pos 1 holds token 5, but a symbol is 3 to 4");
        check(&[2, 3, 1, 3], 2, "the first instruction is not w");
        check(&[0, 3, 2, 3], 2, "the last instruction is not r");
        check(
            &[0, 258, 0, 7, 1, 258],
            256,
            "the read at pos 4 says 255, but 4 was last written at pos 2",
        );
    }

    #[test]
    fn the_papers_two_strings_are_told_apart() {
        // Section 3.1: `w0 i1 i0 r0` is valid, `w0 i1 w1 r0` is not.
        assert_eq!(is_valid(&[0, 3, 2, 4, 2, 3, 1, 3], 2), Ok(()));
        check(
            &[0, 3, 2, 4, 0, 4, 1, 3],
            2,
            "the read at pos 6 says 0, but 1 was last written at pos 4",
        );
    }

    #[test]
    fn a_read_before_any_write_has_no_answer() {
        assert_eq!(answers(&[1, 3, 0, 4, 1, 4]), [(0, None), (4, Some(4))]);
        assert_eq!(answers(&[]), []);
    }
}
