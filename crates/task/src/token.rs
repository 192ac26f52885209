//! Tokens: the numbers that a language's letters have, as in the public data set.
//!
//! ```text
//! letter   w  r  i  '0' '1' ... 'k'
//! token    0  1  2   3   4  ... 3 + k
//! ```
//!
//! The map is that of the data set `synthseq/flipflop`, so that weights trained on it read our
//! examples and the other way round.

/// One letter of an example, as a number.
pub type Token = u16;

/// `w`: the symbol that follows is stored.
pub const WRITE: Token = 0;
/// `r`: the symbol that follows is the one last stored.
pub const READ: Token = 1;
/// `i`: the symbol that follows means nothing.
pub const IGNORE: Token = 2;
/// The token of data symbol 0; symbol `k` is `FIRST_SYMBOL + k`.
pub const FIRST_SYMBOL: Token = 3;

/// The most data symbols a language may have.
pub const MAX_SYMBOLS: u32 = 256;
/// The most tokens an example may have: 2^24, so that one row of a file always fits in memory.
pub const MAX_SEQ_LEN: u32 = 1 << 24;
