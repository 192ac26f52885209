//! Generating a flip-flop example: the fast way, and the slow way that explains it.
//!
//! ```text
//! draws   0.03   0.95   0.42   0.15   0.71      one word for each instruction
//!           |      |      |      |      |       below p_write: w, then below
//! op      w (1st)  i      i      r      r (last)  p_write + p_read: r, else i
//! bits      1      0      1      0      0       uniform, used after w and i
//! out       w1     i0     i1     r1     r1      a register runs along: 1 1 1 1 1
//! ```

use mnemoscope_stats::stream::Draws;

use crate::flipflop::FlipFlop;
use crate::token::{FIRST_SYMBOL, READ, Token, WRITE};

/// Instructions laid out at a time: enough for wide registers, few enough for the stack. It
/// decides the order of the draws and is therefore part of the format.
const CHUNK: usize = 64;

/// One number for each instruction of a chunk.
type Lanes = [Token; CHUNK];

/// All bits set, to select a lane; its complement is 0.
const ALL: Token = Token::MAX;

/// Generates without branches that depend on what is drawn.
///
/// Each step works on a whole chunk, so that the compiler uses wide registers. A last chunk that
/// is not full draws only what it needs; its other lanes hold what was there before and are not
/// laid out.
pub(crate) fn fast(language: &FlipFlop, draws: &mut Draws, out: &mut [Token]) {
    let thresholds = Thresholds::of(language);
    let n_tokens = out.len();
    let mut register = 0;
    let mut words = [0; CHUNK];
    let mut ops = [WRITE; CHUNK];
    for (chunk_idx, chunk) in out.chunks_mut(2 * CHUNK).enumerate() {
        let n = chunk.len() / 2;
        draws.fill_u32(&mut words[..n]);
        thresholds.choose(&words, &mut ops);
        if chunk_idx == 0 {
            ops[0] = WRITE;
        }
        if (chunk_idx + 1) * 2 * CHUNK >= n_tokens {
            ops[n - 1] = READ;
        }
        let shown = if language.n_symbols == 2 {
            answer_bits(&ops, draw_bits(draws, n), &mut register, n)
        } else {
            answer_symbols(&ops, draw_symbols(draws, language.n_symbols, n), &mut register, n)
        };
        interleave(&ops, &shown, chunk);
    }
}

/// Where a 32-bit draw turns from `w` into `r` and from `r` into `i`.
///
/// A draw `u` is `w` if `u < write`, `r` if it is below `write_or_read`, else `i`. The thresholds
/// go up to 2^32, so that a probability of 1 needs no exception.
struct Thresholds {
    write: u64,
    write_or_read: u64,
}

impl Thresholds {
    fn of(language: &FlipFlop) -> Self {
        let FlipFlop { p_write, p_read, p_ignore, .. } = *language;
        let sum = p_write + p_read + p_ignore;
        let quantise = |p: f64| (p / sum * 2_f64.powi(32)).round() as u64;
        let write = quantise(p_write);
        let write_or_read = if p_read <= 0.0 {
            write
        } else if p_ignore <= 0.0 {
            1 << 32
        } else {
            quantise(p_write + p_read).max(write)
        };
        Self { write, write_or_read }
    }

    /// Chooses instructions: `w`, `r`, `i` are 0, 1, 2, so a draw's instruction is the number of
    /// thresholds it reaches.
    fn choose(&self, words: &[u32; CHUNK], ops: &mut Lanes) {
        // A threshold of 2^32 is never reached; it does not fit 32 bits, so its comparison is
        // switched off instead.
        let narrow = |threshold: u64| match u32::try_from(threshold) {
            Ok(threshold) => (threshold, 1),
            Err(_) => (u32::MAX, 0),
        };
        let (write, write_on) = narrow(self.write);
        let (write_or_read, write_or_read_on) = narrow(self.write_or_read);
        for (op, &word) in std::iter::zip(ops, words) {
            let past_write = Token::from(word >= write) & write_on;
            let past_read = Token::from(word >= write_or_read) & write_or_read_on;
            *op = past_write + past_read;
        }
    }
}

/// Uniform bits for `n` instructions, the first in the lowest place.
fn draw_bits(draws: &mut Draws, n: usize) -> u64 {
    let mut words = [0; CHUNK / 32];
    draws.fill_u32(&mut words[..n.div_ceil(32)]);
    u64::from(words[0]) | u64::from(words[1]) << 32
}

/// Uniform symbols for `n` instructions, one word each, without bias.
///
/// A word `u` becomes the symbol `floor(u n / 2^32)`. Some symbols own one word more than the
/// others; words in that surplus (fewer than `n` of 2^32) are replaced by new ones, after the
/// whole chunk has drawn.
///
/// Source: Lemire, "Fast random integer generation in an interval", ACM TOMACS 29 (2019).
fn draw_symbols(draws: &mut Draws, n_symbols: u32, n: usize) -> Lanes {
    let mut words = [u32::MAX; CHUNK];
    let mut data = [0; CHUNK];
    draws.fill_u32(&mut words[..n]);
    let mut n_doubtful = 0;
    for (symbol, &word) in std::iter::zip(&mut data, &words) {
        let product = u64::from(word) * u64::from(n_symbols);
        n_doubtful += u32::from((product as u32) < n_symbols);
        *symbol = (product >> 32) as Token;
    }
    if n_doubtful > 0 {
        for (symbol, &word) in std::iter::zip(&mut data, &words).take(n) {
            *symbol = unbiased_symbol(draws, n_symbols, word);
        }
    }
    data
}

/// The symbol of `word`, or of the next words if it lies in the surplus.
fn unbiased_symbol(draws: &mut Draws, n_symbols: u32, word: u32) -> Token {
    let n_surplus = n_symbols.wrapping_neg() % n_symbols;
    let mut product = u64::from(word) * u64::from(n_symbols);
    while (product as u32) < n_surplus {
        product = u64::from(draws.next_u32()) * u64::from(n_symbols);
    }
    (product >> 32) as Token
}

/// The symbol after each of `n` instructions: drawn, or the register's after `r`.
///
/// Selections are masks made beforehand, not comparisons in the loop: the compiler would turn
/// those into branches, which for random instructions are guessed wrong.
fn answer_symbols(ops: &Lanes, data: Lanes, register: &mut Token, n: usize) -> Lanes {
    let (mut kept, mut written) = ([0; CHUNK], [0; CHUNK]);
    for lane in 0..CHUNK {
        let writes = if ops[lane] == WRITE { ALL } else { 0 };
        kept[lane] = !writes;
        written[lane] = data[lane] & writes;
    }
    let mut registers = [0; CHUNK];
    let mut now = *register;
    for lane in 0..CHUNK {
        now = (now & kept[lane]) | written[lane];
        registers[lane] = now;
    }
    *register = registers[n - 1];
    let mut shown = data;
    for lane in 0..CHUNK {
        let reads = if ops[lane] == READ { ALL } else { 0 };
        shown[lane] = (registers[lane] & reads) | (data[lane] & !reads);
    }
    shown
}

/// [`answer_symbols`] for bits, all lanes at once in one 64-bit number.
///
/// A written bit is copied over the lanes after it that hold none: 1 lane on, then 2, 4, ... 32,
/// which reaches every lane after six steps.
fn answer_bits(ops: &Lanes, bits: u64, register: &mut Token, n: usize) -> Lanes {
    let mut held = pack(ops, WRITE);
    let reads = pack(ops, READ);
    let mut registers = bits & held;
    // What the register held before is held by the first lane, unless that writes.
    registers |= u64::from(*register) & !held;
    held |= 1;
    for shift in [1, 2, 4, 8, 16, 32] {
        registers |= (registers << shift) & !held;
        held |= held << shift;
    }
    *register = ((registers >> (n - 1)) & 1) as Token;
    unpack((registers & reads) | (bits & !reads))
}

/// A bit for each lane: whether its instruction is `op`. The first lane is the lowest bit.
fn pack(ops: &Lanes, op: Token) -> u64 {
    let mut flags = [0; CHUNK];
    for (flag, &lane_op) in std::iter::zip(&mut flags, ops) {
        *flag = u8::from(lane_op == op);
    }
    // The product moves the lowest bits of eight bytes side by side into the highest byte.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let eights = flags.as_chunks::<8>().0.iter().enumerate();
    eights.fold(0, |packed, (idx, eight)| {
        packed | (u64::from_le_bytes(*eight).wrapping_mul(GATHER) >> 56) << (8 * idx)
    })
}

/// The bits as numbers, a lane each.
fn unpack(bits: u64) -> Lanes {
    const QUARTER: usize = 16;
    let mut lanes = [0; CHUNK];
    for (idx, quarter) in lanes.as_chunks_mut::<QUARTER>().0.iter_mut().enumerate() {
        let bits = (bits >> (QUARTER * idx)) as u16;
        for (lane, number) in quarter.iter_mut().enumerate() {
            *number = Token::from(bits & (1 << lane) != 0);
        }
    }
    lanes
}

/// Puts each instruction before its symbol.
fn interleave(ops: &Lanes, symbols: &Lanes, out: &mut [Token]) {
    let mut pairs = [[0; 2]; CHUNK];
    for ((pair, &op), &symbol) in pairs.iter_mut().zip(ops).zip(symbols) {
        *pair = [op, FIRST_SYMBOL + symbol];
    }
    out.copy_from_slice(&pairs.as_flattened()[..out.len()]);
}

/// The same examples from the same draws, one instruction at a time.
pub(crate) fn reference(language: &FlipFlop, draws: &mut Draws, out: &mut [Token]) {
    let thresholds = Thresholds::of(language);
    let n_instructions = out.len() / 2;
    let mut stored = None;
    for first in (0..n_instructions).step_by(CHUNK) {
        let n = CHUNK.min(n_instructions - first);
        let chances: Vec<u64> = (0..n).map(|_| u64::from(draws.next_u32())).collect();
        let symbols = reference_symbols(language.n_symbols, draws, n);
        for (idx, (chance, symbol)) in (first..).zip(chances.into_iter().zip(symbols)) {
            let (letter, shown) = if idx == 0 {
                stored = Some(symbol);
                (0, symbol)
            } else if idx == n_instructions - 1 {
                (1, stored.unwrap_or(symbol))
            } else if chance < thresholds.write {
                stored = Some(symbol);
                (0, symbol)
            } else if chance < thresholds.write_or_read {
                (1, stored.unwrap_or(symbol))
            } else {
                (2, symbol)
            };
            out[2 * idx] = letter;
            out[2 * idx + 1] = 3 + symbol_token(shown);
        }
    }
}

fn reference_symbols(n_symbols: u32, draws: &mut Draws, n: usize) -> Vec<u32> {
    if n_symbols == 2 {
        let words: Vec<u32> = (0..n.div_ceil(32)).map(|_| draws.next_u32()).collect();
        return (0..n).map(|k| (words[k / 32] >> (k % 32)) & 1).collect();
    }
    let words: Vec<u32> = (0..n).map(|_| draws.next_u32()).collect();
    words.into_iter().map(|word| u32::from(unbiased_symbol(draws, n_symbols, word))).collect()
}

fn symbol_token(symbol: u32) -> Token {
    Token::try_from(symbol).expect("a language has at most 256 symbols")
}

#[cfg(test)]
mod tests {
    use mnemoscope_stats::stream::Stream;

    use super::*;
    use crate::token::IGNORE;

    fn language(seq_len: u32, p_write: f64, p_read: f64, n_symbols: u32) -> FlipFlop {
        FlipFlop::new(seq_len, p_write, p_read, 1.0 - p_write - p_read, n_symbols).unwrap()
    }

    #[test]
    fn fast_and_reference_agree_token_by_token() {
        for seq_len in [4, 6, 62, 64, 126, 128, 130, 254, 256, 258, 512, 514] {
            for (p_write, p_read) in [(0.1, 0.1), (0.45, 0.45), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0)]
            {
                for n_symbols in [2, 3, 10, 255, 256] {
                    let language = language(seq_len, p_write, p_read, n_symbols);
                    let mut got = vec![99; seq_len as usize];
                    let mut expected = vec![77; seq_len as usize];
                    for index in 0..3 {
                        let stream = Stream::root(11);
                        fast(&language, &mut stream.at(index), &mut got);
                        reference(&language, &mut stream.at(index), &mut expected);
                        assert_eq!(got, expected, "{language:?}, example {index}");
                    }
                }
            }
        }
    }

    #[test]
    fn thresholds_are_exact_at_zero_and_one_and_close_between() {
        let check = |p_write, p_read, write, write_or_read| {
            let got = Thresholds::of(&language(8, p_write, p_read, 2));
            assert_eq!((got.write, got.write_or_read), (write, write_or_read));
        };
        check(0.0, 0.0, 0, 0);
        check(1.0, 0.0, 1 << 32, 1 << 32);
        check(0.0, 1.0, 0, 1 << 32);
        check(0.5, 0.5, 1 << 31, 1 << 32);
        check(0.5, 0.0, 1 << 31, 1 << 31);
        check(0.25, 0.25, 1 << 30, 1 << 31);
        // A hair below 1 is not 1: `i` keeps its share, rounded to a multiple of 2^-32.
        let hair = 2_f64.powi(-32);
        check(0.5, 0.5 - hair, 1 << 31, (1 << 32) - 1);
    }

    #[test]
    fn extreme_draws_fall_on_the_right_side() {
        let choose = |p_write, p_read| {
            let (mut words, mut ops) = ([0; CHUNK], [9; CHUNK]);
            words[..4].copy_from_slice(&[0, (1 << 31) - 1, 1 << 31, u32::MAX]);
            Thresholds::of(&language(8, p_write, p_read, 2)).choose(&words, &mut ops);
            ops[..4].to_vec()
        };
        assert_eq!(choose(1.0, 0.0), [0, 0, 0, 0]);
        assert_eq!(choose(0.0, 1.0), [1, 1, 1, 1]);
        assert_eq!(choose(0.0, 0.0), [2, 2, 2, 2]);
        assert_eq!(choose(0.5, 0.5), [0, 0, 1, 1]);
        assert_eq!(choose(0.5, 0.0), [0, 0, 2, 2]);
        assert_eq!(choose(0.0, 0.5), [1, 1, 2, 2]);
    }

    #[test]
    fn a_word_in_the_surplus_is_replaced() {
        // 2^32 = 3 * 1431655765 + 1: of three symbols one owns a word more. The surplus is the
        // word 0, and what replaces it is the next draw.
        let stream = Stream::root(3);
        let next = stream.at(0).next_u32();
        let expected = (u64::from(next) * 3) >> 32;
        assert_eq!(u64::from(unbiased_symbol(&mut stream.at(0), 3, 0)), expected);
        assert_eq!(unbiased_symbol(&mut stream.at(0), 3, 1), 0);
        assert_eq!(unbiased_symbol(&mut stream.at(0), 3, 1_431_655_766), 1);
        assert_eq!(unbiased_symbol(&mut stream.at(0), 3, u32::MAX), 2);
        // A power of two divides 2^32: there is no surplus.
        assert_eq!(unbiased_symbol(&mut stream.at(0), 4, 0), 0);
    }

    /// The first lanes of a chunk; the others hold a number that is no token.
    fn lanes(first: &[Token]) -> Lanes {
        let mut lanes = [99; CHUNK];
        lanes[..first.len()].copy_from_slice(first);
        lanes
    }

    /// Every string of up to five instructions, with either register before: 18,660 cases.
    #[test]
    fn answers_are_right_on_every_short_string() {
        let mut n_cases = 0;
        for n in 1..=5_u32 {
            for code in 0..2 * 6_usize.pow(n) {
                let digit = |k: u32| code / 6_usize.pow(k) % 6;
                let ops: Vec<Token> = (0..n).map(|k| (digit(k) % 3) as Token).collect();
                let data: Vec<Token> = (0..n).map(|k| (digit(k) / 3) as Token).collect();
                let before = (code / 6_usize.pow(n)) as Token;
                let last_write = |k: usize| (0..k).rev().find(|&past| ops[past] == 0);
                let register = |k: usize| last_write(k).map_or(before, |past| data[past]);
                let expected: Vec<Token> = (0..n as usize)
                    .map(|k| if ops[k] == 1 { register(k) } else { data[k] })
                    .collect();
                let n = n as usize;
                let bits = (0..n).map(|k| u64::from(data[k]) << k).sum();
                let (mut after, mut after_bits) = (before, before);
                let got = answer_symbols(&lanes(&ops), lanes(&data), &mut after, n);
                let got_bits = answer_bits(&lanes(&ops), bits, &mut after_bits, n);
                assert_eq!(got[..n], expected, "{ops:?} {data:?} after {before}");
                assert_eq!(got_bits[..n], expected, "{ops:?} {data:?} after {before}");
                assert_eq!((after, after_bits), (register(n), register(n)));
                n_cases += 1;
            }
        }
        assert_eq!(n_cases, 18_660);
    }

    #[test]
    fn packing_keeps_the_order_of_lanes() {
        for lane in 0..CHUNK {
            let mut ops = [IGNORE; CHUNK];
            ops[lane] = READ;
            assert_eq!(pack(&ops, READ), 1 << lane);
            assert_eq!(pack(&ops, IGNORE), !(1 << lane));
            let numbers = unpack(1 << lane);
            assert!(
                numbers.iter().enumerate().all(|(k, &number)| number == Token::from(k == lane))
            );
        }
    }
}
