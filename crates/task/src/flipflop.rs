//! Flip-flop language: a one-bit register, written, ignored and read back.
//!
//! ```text
//! pos     0  1  2  3  4  5  6  7
//! token   w  1  i  0  i  1  r  1      after an instruction comes a symbol
//! answer  .  .  .  .  .  .  .  1      the symbol after `r` is the last one written
//! scored                       ^      errors are counted here and nowhere else
//! ```
//!
//! The paper's `T` is `seq_len`, its `p_w`, `p_r`, `p_i` are `p_write`, `p_read`, `p_ignore`,
//! and its `M` is `n_symbols`. The first instruction is always `w` and the last always `r`; the
//! `T/2 - 2` between them are drawn independently. Symbols after `w` and `i` are uniform.
//!
//! Source: Liu, Ash, Goel, Krishnamurthy and Zhang, "Exposing Attention Glitches with
//! Flip-Flop Language Modeling", NeurIPS 2023, arXiv:2306.00946, section 3.1.

use mnemoscope_stats::stream::Draws;
use serde::{Deserialize, Serialize};

use crate::coding::Coding;
use crate::complaint::{Complaint, plain};
use crate::error::{Cause, Error};
use crate::generate;
use crate::token::{MAX_SEQ_LEN, MAX_SYMBOLS, Token};

/// How far the three probabilities may be from adding up to 1.
const SUM_TOLERANCE: f64 = 1e-9;

/// Everything that fixes a flip-flop language.
///
/// The fields are open so that a spec can be read into them; [`FlipFlop::new`] and
/// [`FlipFlop::check`] say what they may hold. Asking a language that fails its check
/// for an example is a bug in the caller.
///
/// # Example
///
/// ```
/// use mnemoscope_task::FlipFlop;
///
/// // The paper's training set: four instructions in five are distractors.
/// let language = FlipFlop::paper(0.8)?;
/// assert_eq!((language.seq_len, language.d_vocab()), (512, 5));
/// // 1,000 examples of it held 26,508 reads in the paper; 26,400 are expected.
/// assert!((language.expected_reads() - 26.4).abs() < 1e-9);
/// # Ok::<(), mnemoscope_task::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlipFlop {
    /// Tokens in one example, the paper's `T`: even, at least 4. Two for each instruction, also where
    /// another [coding](Self::coding) spells it in more or fewer: see [`FlipFlop::n_tokens`].
    pub seq_len: u32,
    /// Probability that a free instruction is `w`.
    pub p_write: f64,
    /// Probability that a free instruction is `r`.
    pub p_read: f64,
    /// Probability that a free instruction is `i`.
    pub p_ignore: f64,
    /// Number of data symbols, the paper's `M`: 2 for bits, at most 256.
    pub n_symbols: u32,
    /// How instructions and symbols are spelt.
    #[serde(default, skip_serializing_if = "Coding::is_tokens")]
    pub coding: Coding,
}

impl FlipFlop {
    /// A language with every number checked.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) with all of [`FlipFlop::check`]'s
    /// complaints.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_task::FlipFlop;
    ///
    /// let error = FlipFlop::new(7, 0.1, 0.1, 0.7, 2).unwrap_err().to_string();
    /// assert!(error.contains("seq_len is 7"), "{error}");
    /// assert!(error.contains("= 0.9, not 1"), "{error}");
    /// ```
    pub fn new(
        seq_len: u32,
        p_write: f64,
        p_read: f64,
        p_ignore: f64,
        n_symbols: u32,
    ) -> Result<Self, Error> {
        let coding = Coding::Tokens;
        let language = Self { seq_len, p_write, p_read, p_ignore, n_symbols, coding };
        let complaints = language.check();
        if complaints.is_empty() { Ok(language) } else { Err(Cause::Task { complaints }.into()) }
    }

    /// FFL(`p_ignore`) of the paper: 512 tokens, bits, writes as likely as reads.
    ///
    /// 0.8 is the training set and `val`, 0.98 is `val_sparse`, 0.1 is `val_dense`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if `p_ignore` is not in `[0, 1]`.
    pub fn paper(p_ignore: f64) -> Result<Self, Error> {
        let p_write = half_of_rest(p_ignore);
        Self::new(512, p_write, p_write, p_ignore, 2)
    }

    /// Everything that is wrong with these numbers; empty if examples can be generated.
    #[must_use]
    pub fn check(&self) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let mut complain = |field, message| complaints.push(Complaint::new(field, message));
        let seq_len = self.seq_len;
        if seq_len < 4 {
            complain(
                "seq_len",
                format!("seq_len is {seq_len}, the shortest example has 4 tokens; use at least 4"),
            );
        } else if seq_len % 2 == 1 {
            complain(
                "seq_len",
                format!(
                    "seq_len is {seq_len}, but instructions and symbols come in pairs; use {} or {}",
                    seq_len - 1,
                    u64::from(seq_len) + 1
                ),
            );
        } else if seq_len > MAX_SEQ_LEN {
            complain(
                "seq_len",
                format!("seq_len is {seq_len}, at most {MAX_SEQ_LEN} is allowed; use fewer tokens"),
            );
        }
        let mut in_range = true;
        for (field, p) in self.probabilities() {
            if !(0.0..=1.0).contains(&p) {
                in_range = false;
                let p = plain(p);
                complain(field, format!("{field} is {p}; use a probability between 0 and 1"));
            }
        }
        let sum = self.p_write + self.p_read + self.p_ignore;
        if in_range && (sum - 1.0).abs() > SUM_TOLERANCE {
            complain("p_ignore", self.sum_message(sum));
        }
        if !(2..=MAX_SYMBOLS).contains(&self.n_symbols) {
            complain(
                "n_symbols",
                format!("n_symbols is {}; use 2 to {MAX_SYMBOLS}", self.n_symbols),
            );
        } else if self.coding == Coding::Bits && !self.n_symbols.is_power_of_two() {
            let n = self.n_symbols;
            complain(
                "n_symbols",
                format!(
                    "n_symbols is {n}, but symbols spelt in bits are a power of two; use {} or {}",
                    n.next_power_of_two() / 2,
                    n.next_power_of_two()
                ),
            );
        }
        complaints
    }

    fn probabilities(&self) -> [(&'static str, f64); 3] {
        [("p_write", self.p_write), ("p_read", self.p_read), ("p_ignore", self.p_ignore)]
    }

    fn sum_message(&self, sum: f64) -> String {
        let terms = self.probabilities().map(|(_, p)| plain(p)).join(" + ");
        let rest = 1.0 - self.p_write - self.p_read;
        let mend = if rest >= 0.0 {
            format!("with this p_write and p_read, p_ignore would be {}", plain(rest))
        } else {
            "lower p_write or p_read".to_owned()
        };
        format!("p_write + p_read + p_ignore = {terms} = {}, not 1; {mend}", plain(sum))
    }

    /// Size of the vocabulary: three instructions and the data symbols, or two bits, or in pairs all
    /// three with each symbol.
    #[must_use]
    pub fn d_vocab(&self) -> u32 {
        match self.coding {
            Coding::Tokens => self.n_symbols + 3,
            Coding::Bits => 5,
            Coding::Pairs => 3 * self.n_symbols,
        }
    }

    /// Tokens in one example as it is spelt.
    #[must_use]
    pub fn n_tokens(&self) -> usize {
        let n_per_op = self.coding.n_per_op(self.n_symbols) as usize;
        self.seq_len as usize / 2 * n_per_op
    }

    /// Scored places of one read: one for each bit where symbols are spelt in bits.
    #[must_use]
    pub fn n_targets_per_read(&self) -> u32 {
        self.coding.n_per_symbol(self.n_symbols)
    }

    /// Expected number of reads in one example, the forced last one included.
    ///
    /// `1 + (T/2 - 2) p_read`.
    #[must_use]
    pub fn expected_reads(&self) -> f64 {
        1.0 + self.n_free() * self.p_read
    }

    /// Standard deviation of the number of reads in one example.
    ///
    /// `sqrt((T/2 - 2) p_read (1 - p_read))`: the free instructions are independent. The number
    /// of reads in `n` examples has `sqrt(n)` times this.
    #[must_use]
    pub fn sd_reads(&self) -> f64 {
        (self.n_free() * self.p_read * (1.0 - self.p_read)).max(0.0).sqrt()
    }

    /// Instructions that are drawn: all but the first and the last.
    fn n_free(&self) -> f64 {
        f64::from(self.seq_len / 2) - 2.0
    }

    /// Generates one example, a pure function of the state of `draws`.
    ///
    /// Probabilities are divided by their sum and quantised to multiples of 2^-32: an
    /// instruction is chosen by comparing a 32-bit draw with two thresholds, so each is off by
    /// at most 2^-32 (it takes about 10^18 instructions to notice), and 0 and 1 are exact.
    /// Symbols are exactly uniform.
    ///
    /// # Randomness
    ///
    /// For each run of 64 instructions: one word for each instruction (those of the forced ones
    /// are thrown away), then for two symbols one bit for each instruction, packed into words
    /// from the lowest bit up, and for more symbols one word for each instruction and one for
    /// each rejected word. This order is part of the format: records address examples by it.
    ///
    /// # Panics
    ///
    /// If `out` does not hold exactly [`n_tokens`](Self::n_tokens) tokens, or the language fails
    /// [`check`](Self::check) so badly that nothing can be drawn from it.
    #[track_caller]
    pub fn generate_into(&self, draws: &mut Draws, out: &mut [Token]) {
        if self.coding == Coding::Tokens {
            self.assert_fits(out);
            return generate::fast(self, draws, out);
        }
        let mut string = vec![0; self.seq_len as usize];
        self.assert_fits(&string);
        generate::fast(self, draws, &mut string);
        self.coding.spell(&string, self.n_symbols, out);
    }

    /// The slow version that explains [`generate_into`](Self::generate_into) in the coding `tokens`, and
    /// agrees with it token by token: one instruction and one draw at a time.
    ///
    /// # Panics
    ///
    /// As [`generate_into`](Self::generate_into).
    #[track_caller]
    pub fn generate_reference(&self, draws: &mut Draws, out: &mut [Token]) {
        self.assert_fits(out);
        generate::reference(self, draws, out);
    }

    #[track_caller]
    fn assert_fits(&self, out: &[Token]) {
        let Self { seq_len, n_symbols, .. } = *self;
        assert!(
            seq_len >= 4 && seq_len.is_multiple_of(2) && (2..=MAX_SYMBOLS).contains(&n_symbols),
            "no example has {seq_len} tokens and {n_symbols} symbols: `check` the language first"
        );
        assert!(
            out.len() == seq_len as usize,
            "an example has {seq_len} tokens, the space for it {}",
            out.len()
        );
    }
}

/// `(1 - p_ignore) / 2` as a person writes it: `(1 - 0.8) / 2` is 0.09999999999999998 to a
/// machine, which would give the plan with `p_write = 0.1` another id.
pub(crate) fn half_of_rest(p_ignore: f64) -> f64 {
    const SCALE: f64 = 1e12;
    ((1.0 - p_ignore) / 2.0 * SCALE).round() / SCALE
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages of the complaints about a language, as a person gets them.
    #[track_caller]
    fn check(language: (u32, f64, f64, f64, u32), expected: &[&str]) {
        let (seq_len, p_write, p_read, p_ignore, n_symbols) = language;
        let coding = Coding::Tokens;
        let language = FlipFlop { seq_len, p_write, p_read, p_ignore, n_symbols, coding };
        let messages: Vec<String> =
            language.check().iter().map(|complaint| complaint.to_string()).collect();
        assert_eq!(messages, expected);
    }

    #[test]
    fn each_wrong_number_gets_one_message_that_says_what_to_do() {
        check((512, 0.1, 0.1, 0.8, 2), &[]);
        check((4, 0.0, 1.0, 0.0, 256), &[]);
        check((6, 0.3, 0.3, 0.4 + 9e-10, 2), &[]);
        check(
            (2, 0.1, 0.1, 0.8, 2),
            &["seq_len is 2, the shortest example has 4 tokens; use at least 4"],
        );
        check(
            (513, 0.1, 0.1, 0.8, 2),
            &["seq_len is 513, but instructions and symbols come in pairs; use 512 or 514"],
        );
        check(
            (1 << 25, 0.1, 0.1, 0.8, 2),
            &["seq_len is 33554432, at most 16777216 is allowed; use fewer tokens"],
        );
        check(
            (512, 0.1, 0.1, 0.7, 2),
            &["p_write + p_read + p_ignore = 0.1 + 0.1 + 0.7 = 0.9, not 1; \
               with this p_write and p_read, p_ignore would be 0.8"],
        );
        check(
            (512, 0.7, 0.7, 0.0, 2),
            &["p_write + p_read + p_ignore = 0.7 + 0.7 + 0 = 1.4, not 1; lower p_write or p_read"],
        );
        check((512, -0.1, 0.1, 1.0, 2), &["p_write is -0.1; use a probability between 0 and 1"]);
        check(
            (512, f64::NAN, 0.1, 1.0, 2),
            &["p_write is not a number; use a probability between 0 and 1"],
        );
        check((512, 0.1, 0.1, 0.8, 1), &["n_symbols is 1; use 2 to 256"]);
        check((512, 0.1, 0.1, 0.8, 257), &["n_symbols is 257; use 2 to 256"]);
    }

    #[test]
    fn bits_spell_a_power_of_two() {
        let language = |n_symbols| {
            let paper = FlipFlop::paper(0.8).unwrap();
            FlipFlop { n_symbols, coding: Coding::Bits, ..paper }
        };
        assert_eq!(language(4).check(), []);
        let [complaint] = &language(6).check()[..] else { panic!("one thing is wrong") };
        assert_eq!(
            complaint.message,
            "n_symbols is 6, but symbols spelt in bits are a power of two; use 4 or 8"
        );
        let sizes = |language: FlipFlop| (language.n_tokens(), language.d_vocab());
        assert_eq!(sizes(language(4)), (768, 5));
        assert_eq!(sizes(FlipFlop { coding: Coding::Pairs, ..language(4) }), (256, 12));
    }

    #[test]
    fn all_complaints_come_at_once() {
        check(
            (7, 2.0, 0.1, 0.1, 0),
            &[
                "seq_len is 7, but instructions and symbols come in pairs; use 6 or 8",
                "p_write is 2; use a probability between 0 and 1",
                "n_symbols is 0; use 2 to 256",
            ],
        );
        let error = FlipFlop::new(7, 0.1, 0.1, 0.8, 0).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Invalid);
        assert_eq!(
            error.to_string(),
            "seq_len is 7, but instructions and symbols come in pairs; use 6 or 8; \
             n_symbols is 0; use 2 to 256"
        );
    }

    #[test]
    fn the_papers_probabilities_are_the_decimal_ones() {
        for (p_ignore, p_write) in [(0.8, 0.1), (0.98, 0.01), (0.1, 0.45), (0.9, 0.05), (0.6, 0.2)]
        {
            let language = FlipFlop::paper(p_ignore).unwrap();
            assert_eq!((language.p_write, language.p_read), (p_write, p_write));
        }
    }

    #[test]
    fn the_papers_sets_expect_the_reads_it_reports() {
        // papers: 26,400 +- 151, 354,000 +- 502, 345,900 +- 434 reads.
        for (p_ignore, n_examples, reads, sd) in [
            (0.8, 1_000.0, 26_400.0, 151.0),
            (0.98, 100_000.0, 354_000.0, 502.0),
            (0.1, 3_000.0, 345_900.0, 434.0),
        ] {
            let language = FlipFlop::paper(p_ignore).unwrap();
            assert!((language.expected_reads() * n_examples - reads).abs() < 1e-3);
            let got = language.sd_reads() * f64::sqrt(n_examples);
            assert!((got - sd).abs() < 1.0, "p_ignore {p_ignore}: sd {got}, expected {sd}");
        }
    }
}
