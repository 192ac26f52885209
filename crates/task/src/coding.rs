//! Codings: which tokens stand for the instructions and data of a flip-flop string.
//!
//! ```text
//! tokens  w   2     i   0     r   2         a token for each instruction, one for each symbol
//! bits    w   1 0   i   0 0   r   1 0       a symbol of 2^k as k bits, the highest first
//! pairs   w2        i0        r2            one token for an instruction and its symbol
//! ```
//!
//! The string is the same, and so are its draws; a coding only spells it. Bits of two places for four
//! symbols are the paper's "2*2". In pairs a read is predicted by the token before it, like any other
//! token: where only reads are scored, the model knows that the next instruction is one.
//!
//! Source: Liu, Ash, Goel, Krishnamurthy and Zhang, arXiv:2306.00946, figure 12 and appendix A.3.

use serde::{Deserialize, Serialize};

use crate::task::Target;
use crate::token::{FIRST_SYMBOL, READ, Token, WRITE};

/// How a flip-flop string is spelt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coding {
    /// A token for each instruction and one for each symbol.
    #[default]
    Tokens,
    /// A token for each instruction, and for each of the 2^k symbols k tokens that are bits.
    Bits,
    /// One token for an instruction and its symbol: `op * n_symbols + symbol`.
    Pairs,
}

impl Coding {
    /// Whether this is the coding of the public data set, which stored plans do not name.
    pub(crate) fn is_tokens(&self) -> bool {
        *self == Self::Tokens
    }

    /// Tokens that stand for one symbol; of pairs the one that stands for the instruction too.
    #[must_use]
    pub fn n_per_symbol(self, n_symbols: u32) -> u32 {
        match self {
            Self::Bits => n_symbols.max(2).ilog2(),
            Self::Tokens | Self::Pairs => 1,
        }
    }

    /// Tokens that stand for one instruction and its symbol.
    #[must_use]
    pub fn n_per_op(self, n_symbols: u32) -> u32 {
        match self {
            Self::Pairs => 1,
            Self::Tokens | Self::Bits => 1 + self.n_per_symbol(n_symbols),
        }
    }

    /// Spells a string that is in tokens, `[2 n_ops]`, into `out`, `[n_per_op n_ops]`.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_task::Coding;
    ///
    /// let string = [0, 5, 2, 3, 1, 5]; // w2 i0 r2
    /// let mut bits = [0; 9];
    /// Coding::Bits.spell(&string, 4, &mut bits);
    /// assert_eq!(bits, [0, 4, 3, 2, 3, 3, 1, 4, 3]); // w10 i00 r10
    /// let mut pairs = [0; 3];
    /// Coding::Pairs.spell(&string, 4, &mut pairs);
    /// assert_eq!(pairs, [2, 8, 6]);
    /// ```
    ///
    /// # Panics
    ///
    /// If `out` has another length.
    #[track_caller]
    pub fn spell(self, string: &[Token], n_symbols: u32, out: &mut [Token]) {
        let (pairs, _) = string.as_chunks::<2>();
        let n_per_op = self.n_per_op(n_symbols) as usize;
        let expected = pairs.len() * n_per_op;
        assert!(out.len() == expected, "{} places for {expected} tokens", out.len());
        for (spelt, &[op, symbol]) in std::iter::zip(out.chunks_exact_mut(n_per_op), pairs) {
            let number = symbol - FIRST_SYMBOL;
            match self {
                Self::Tokens => spelt.copy_from_slice(&[op, symbol]),
                Self::Pairs => spelt[0] = op * n_symbols as Token + number,
                Self::Bits => {
                    spelt[0] = op;
                    let places = (0..n_per_op - 1).rev();
                    for (bit, place) in std::iter::zip(&mut spelt[1..], places) {
                        *bit = FIRST_SYMBOL + ((number >> place) & 1);
                    }
                }
            }
        }
    }

    /// The scored places of a spelt string, in order. What `out` held is replaced.
    ///
    /// Of bits each bit of a read is one, asked at the token before it; of pairs each read is one,
    /// asked at the pair before it. `write_pos` is where the write begins.
    pub(crate) fn targets(self, tokens: &[Token], n_symbols: u32, out: &mut Vec<Target>) {
        out.clear();
        let n_per_op = self.n_per_op(n_symbols) as usize;
        let mut written: Option<(u32, &[Token])> = None;
        for (pos, spelt) in (0_u32..).step_by(n_per_op).zip(tokens.chunks_exact(n_per_op)) {
            let op = match self {
                Self::Pairs => spelt[0] / n_symbols as Token,
                Self::Tokens | Self::Bits => spelt[0],
            };
            if op == WRITE {
                written = Some((pos, spelt));
            }
            let Some((write_pos, stored)) = written.filter(|_| op == READ) else { continue };
            match self {
                // A write precedes, so there is a place before.
                Self::Pairs => out.push(Target {
                    query_pos: pos - 1,
                    answer: n_symbols as Token + stored[0] % n_symbols as Token,
                    write_pos,
                }),
                Self::Tokens | Self::Bits => {
                    let places = std::iter::zip(pos.., &stored[1..]);
                    out.extend(places.map(|(query_pos, &answer)| Target {
                        query_pos,
                        answer,
                        write_pos,
                    }));
                }
            }
        }
    }
}
