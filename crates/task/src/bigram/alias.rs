//! Drawing the next token of a chain from one random word, by alias tables.
//!
//! ```text
//! row of `q`, 4 columns of 2^30 words each, two tokens to a column at most:
//!
//! word      0          2^30         2^31        3 2^30        2^32
//!           | a a a e e | e e e e e | o o o e e | u u e e e e |
//! column         0           1           2            3
//! ```
//!
//! The upper bits of a word name a column, and one comparison tells its two tokens apart. All of
//! it is whole numbers: counts become shares of 2^32 words that add up exactly, and columns are
//! filled by moving words between tokens, so the law that is drawn from is exactly those shares.
//!
//! Source: Walker, "An efficient method for generating discrete random variables with general
//! distributions", ACM TOMS 3 (1977); Vose, "A linear algorithm for generating random numbers with
//! a given distribution", IEEE TSE 17 (1991), for how columns are filled.

use super::Corpus;
use crate::token::Token;

/// Where the columns of one token's law stand, and which bits of a word choose among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The first column.
    first: usize,
    /// Bits of a word below those that name the column: 32 if there is only one.
    shift: u32,
}

/// One column: words below `bound` are one token, the others another.
#[derive(Clone, Copy, Debug)]
struct Column {
    bound: u32,
    below: Token,
    above: Token,
}

/// The laws of a corpus, ready to draw from.
pub(super) struct Tables {
    /// A row for each token's successors, then one for the unigrams.
    rows: Vec<Row>,
    columns: Vec<Column>,
    /// The column that holds token 0 alone; that of token `k` stands `k` further on.
    first_constant: usize,
}

impl Tables {
    pub(super) fn of(corpus: &Corpus) -> Self {
        let mut columns = Vec::new();
        let mut rows = Vec::new();
        let d_vocab = corpus.d_vocab() as Token;
        for token in 0..d_vocab {
            rows.push(push_row(corpus.successors(token), &mut columns));
        }
        let unigrams: Vec<(Token, u32)> = (0..).zip(corpus.unigrams().iter().copied()).collect();
        rows.push(push_row(&unigrams, &mut columns));
        let first_constant = columns.len();
        let constant = |token| Column { bound: 0, below: token, above: token };
        columns.extend((0..d_vocab).map(constant));
        Self { rows, columns, first_constant }
    }

    /// The row of each token.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows[..self.rows.len() - 1]
    }

    /// The row of the first token of an example.
    pub(super) fn unigrams(&self) -> Row {
        self.rows[self.rows.len() - 1]
    }

    /// A row that gives `token`, whatever the word.
    pub(super) fn constant(&self, token: Token) -> Row {
        Row { first: self.first_constant + usize::from(token), shift: u32::BITS }
    }

    /// The token that `word` draws from a row.
    #[inline]
    pub(super) fn token(&self, row: Row, word: u32) -> Token {
        // With one column the shift is by all 32 bits, so it is done in 64.
        let idx = (u64::from(word) >> row.shift) as usize;
        let Column { bound, below, above } = self.columns[row.first + idx];
        if word < bound { below } else { above }
    }
}

/// Adds the columns of one law.
fn push_row(counts: &[(Token, u32)], columns: &mut Vec<Column>) -> Row {
    let n_columns = counts.len().next_power_of_two();
    let shift = u32::BITS - n_columns.ilog2();
    let capacity = 1_u64 << shift;
    let mut n_words = shares(counts);
    n_words.resize(n_columns, 0);
    let first = columns.len();
    // A column that is only filling up has no token of its own and never shows this one.
    let token = |idx: usize| counts.get(idx).map_or(0, |&(token, _)| token);
    columns.extend((0..n_columns).map(|idx| {
        let (start, own) = (idx as u64 * capacity, token(idx));
        Column { bound: start as u32, below: own, above: own }
    }));
    let (mut short, mut long): (Vec<usize>, Vec<usize>) = (0..n_columns)
        .filter(|&idx| n_words[idx] != capacity)
        .partition(|&idx| n_words[idx] < capacity);
    // What lacks in one column is what others have too much, so the lists end together.
    while let (Some(poor), Some(&rich)) = (short.pop(), long.last()) {
        let column = &mut columns[first + poor];
        column.bound += n_words[poor] as u32;
        column.above = token(rich);
        n_words[rich] -= capacity - n_words[poor];
        if n_words[rich] <= capacity {
            long.pop();
            if n_words[rich] < capacity {
                short.push(rich);
            }
        }
    }
    Row { first, shift }
}

/// How many of 2^32 words each token gets: the whole part of its share, and one more for those
/// with the largest rest, so that all words are given away. Each is off by less than one word.
fn shares(counts: &[(Token, u32)]) -> Vec<u64> {
    let total: u64 = counts.iter().map(|&(_, count)| u64::from(count)).sum();
    let share = |&(_, count): &(Token, u32)| u64::from(count) << 32;
    let mut n_words: Vec<u64> = counts.iter().map(|count| share(count) / total).collect();
    let n_left = (1_u64 << 32) - n_words.iter().sum::<u64>();
    let mut by_rest: Vec<usize> = (0..counts.len()).collect();
    by_rest.sort_by_key(|&idx| std::cmp::Reverse(share(&counts[idx]) % total));
    for idx in by_rest.into_iter().take(n_left as usize) {
        n_words[idx] += 1;
    }
    n_words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How many of the 2^32 words draw each token, read off the columns.
    fn words_of(columns: &[Column], row: Row, n_columns: usize) -> Vec<(Token, u64)> {
        let mut n_words = std::collections::BTreeMap::new();
        let capacity = 1_u64 << row.shift;
        for (idx, column) in columns[row.first..][..n_columns].iter().enumerate() {
            let n_below = u64::from(column.bound) - idx as u64 * capacity;
            assert!(n_below < capacity);
            *n_words.entry(column.below).or_insert(0) += n_below;
            *n_words.entry(column.above).or_insert(0) += capacity - n_below;
        }
        n_words.into_iter().filter(|&(_, n)| n > 0).collect()
    }

    fn check_law(counts: &[(Token, u32)]) {
        let mut columns = vec![Column { bound: 7, below: 7, above: 7 }; 3];
        let row = push_row(counts, &mut columns);
        let n_columns = columns.len() - 3;
        let got = words_of(&columns, row, n_columns);
        let expected: Vec<(Token, u64)> =
            counts.iter().map(|&(token, _)| token).zip(shares(counts)).collect();
        assert_eq!(got, expected);
        let total: f64 = counts.iter().map(|&(_, count)| f64::from(count)).sum();
        for (&(token, count), (_, n_words)) in std::iter::zip(counts, got) {
            let exact = f64::from(count) / total * 2_f64.powi(32);
            assert!((n_words as f64 - exact).abs() < 1.001, "{token}: {n_words} not {exact}");
        }
    }

    #[test]
    fn every_row_of_the_built_in_corpus_gives_each_token_its_share_of_words() {
        let corpus = Corpus::tiny_shakespeare();
        for token in 0..65 {
            check_law(corpus.successors(token));
        }
        let unigrams: Vec<_> = (0..).zip(corpus.unigrams().iter().copied()).collect();
        check_law(&unigrams);
    }

    proptest! {
        #[test]
        fn every_law_gives_each_token_its_share_of_words(
            counts in prop::collection::vec(1_u32..=u32::MAX / 100, 1..100),
        ) {
            let counts: Vec<(Token, u32)> = (3..).zip(counts).collect();
            check_law(&counts);
        }
    }

    #[test]
    fn a_word_draws_the_token_whose_share_it_falls_into() {
        let corpus = Corpus::from_text("abacabaa").unwrap();
        let tables = Tables::of(&corpus);
        // Of the four after `a` two are `b`, one `c`, one `a`: a column each, and one to share.
        let row = tables.rows()[0];
        let quarters = [0, 1 << 30, 1 << 31, 3 << 30, u32::MAX].map(|word| tables.token(row, word));
        assert_eq!(quarters, [0, 1, 2, 1, 1]);
        for word in [0, 1 << 31, u32::MAX] {
            assert_eq!(tables.token(tables.constant(2), word), 2);
            // `b` and `c` are followed by nothing but `a`.
            assert_eq!(tables.token(tables.rows()[1], word), 0);
        }
    }
}
