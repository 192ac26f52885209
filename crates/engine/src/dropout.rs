//! Dropout of attention patterns as a function of an address.
//!
//! Whether an entry is kept depends on a key and on where the entry stands, and on nothing else: not
//! on the order of computing, the number of threads or which other queries were asked. So nothing is
//! stored for the backward pass, and a place that is asked alone loses the keys it loses among all.
//!
//! # The format
//!
//! Runs depend on these definitions; a test pins their output, and a change is a new [`VERSION`].
//!
//! 1. A row of the pattern has two words: the first two of Philox4x32-10 with the counter
//!    `(example, head, query_pos, VERSION)` and the key's low and high half.
//! 2. The entry of `key_pos` has 32 bits, a mixture of `key_pos` and those words: the finaliser
//!    `triple32` of `key_pos + word 0`, with word 1 brought in after its first round, so that
//!    two rows share their bits only if 64 bits agree.
//! 3. It is dropped if its bits, as a number, lie below `p_drop 2^32`, rounded to the nearest.
//!
//! A row is paid once and may be thorough. An entry is paid for every query and key: three
//! multiplications of 32 bits, which every vector unit has.
//!
//! # Source
//!
//! Philox: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011. `triple32`: C. Wellons,
//! "Prospecting for Hash Functions", 2018, github.com/skeeto/hash-prospector. Dropout, with the kept
//! entries scaled up: Srivastava et al., JMLR 15 (2014).

use std::sync::Arc;

/// The version of the format, part of what is hashed.
const VERSION: u32 = 1;

/// Which entries of an attention pattern are dropped, and by how much the others grow.
///
/// # Example
///
/// ```
/// use mnemoscope_engine::Dropout;
///
/// let dropout = Dropout::new(0.5, 7);
/// // Example 0, head 1, query 20: each of its keys is either dropped or counts twice.
/// let factors: Vec<f32> = (0..21).map(|key_pos| dropout.factor(0, 1, 20, key_pos)).collect();
/// assert!(factors.contains(&0.0) && factors.contains(&2.0));
/// assert!(factors.iter().all(|&factor| factor < 0.1 || factor > 1.9));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Dropout {
    p_drop: f64,
    /// One for each member of a cohort.
    keys: Arc<[u64]>,
    /// Examples of each.
    n_each: u32,
}

impl Dropout {
    /// Drops an entry with probability `p_drop`, by the bits of `key`.
    ///
    /// # Arguments
    ///
    /// - `p_drop`: in `0..1`; kept entries are divided by `1 - p_drop`.
    /// - `key`: another one for every layer and step.
    ///
    /// # Panics
    ///
    /// If `p_drop` lies outside `0..1`: nothing would be kept, or more than everything.
    #[must_use]
    #[track_caller]
    pub fn new(p_drop: f64, key: u64) -> Self {
        Self::each(p_drop, &[key], u32::MAX)
    }

    /// Dropout of a cohort: the first `n_each` examples are the first member's, and lose what they lose alone under its
    /// key, the next ones are the second's, and so on.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new); if there is no key, or a member has no example.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_engine::Dropout;
    ///
    /// let (both, second) = (Dropout::each(0.5, &[7, 8], 4), Dropout::new(0.5, 8));
    /// let same = |key_pos| both.factor(4 + 1, 0, 20, key_pos) == second.factor(1, 0, 20, key_pos);
    /// assert!((0..21).all(same));
    /// ```
    #[must_use]
    #[track_caller]
    pub fn each(p_drop: f64, keys: &[u64], n_each: u32) -> Self {
        assert!((0.0..1.0).contains(&p_drop), "p_drop {p_drop} is outside 0..1");
        assert!(!keys.is_empty() && n_each > 0, "there is nothing to drop from");
        Self { p_drop, keys: keys.into(), n_each }
    }

    /// What one member loses, whose examples are counted from its first.
    pub(crate) fn of_member(&self, member: usize) -> Self {
        Self::new(self.p_drop, self.keys[member])
    }

    /// What the entry at this address is multiplied by: 0 or `1 / (1 - p_drop)`.
    ///
    /// # Arguments
    ///
    /// - `example`: its index in the batch.
    /// - `query_pos`, `key_pos`: places in the example.
    #[must_use]
    pub fn factor(&self, example: u32, head: u32, query_pos: u32, key_pos: u32) -> f32 {
        self.row(example, head, query_pos).factor(key_pos)
    }

    /// The version of the format.
    #[cfg(feature = "gpu")]
    pub(crate) const VERSION: u32 = VERSION;

    /// The halves of the keys, the lower one first, and how many examples each is for.
    #[cfg(feature = "gpu")]
    pub(crate) fn halves(&self) -> (Vec<i32>, u32) {
        let halves = |&key: &u64| [key as i32, (key >> 32) as i32];
        (self.keys.iter().flat_map(halves).collect(), self.n_each)
    }

    /// Below which bits an entry is dropped, and by what kept ones are multiplied.
    #[cfg(feature = "gpu")]
    pub(crate) fn bounds(&self) -> (u32, f32) {
        let DropoutRow { bound, kept, .. } = self.row(0, 0, 0);
        (bound, kept)
    }

    /// One row of a pattern.
    pub(crate) fn row(&self, example: u32, head: u32, query_pos: u32) -> DropoutRow {
        let key = self.keys[(example / self.n_each) as usize];
        let (key, example) = ([key as u32, (key >> 32) as u32], example % self.n_each);
        let [first, second, ..] = philox([example, head, query_pos, VERSION], key);
        DropoutRow {
            words: [first, second],
            bound: (self.p_drop * 2_f64.powi(32)).round() as u32,
            kept: (1.0 - self.p_drop).recip() as f32,
        }
    }
}

/// Dropout of one row of a pattern.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DropoutRow {
    words: [u32; 2],
    /// Bits below this are dropped.
    bound: u32,
    /// The factor of the kept.
    kept: f32,
}

impl DropoutRow {
    /// See [`Dropout::factor`].
    #[inline(always)]
    pub(crate) fn factor(self, key_pos: u32) -> f32 {
        if mix(key_pos, self.words) < self.bound { 0.0 } else { self.kept }
    }
}

/// The bits of one entry: `triple32` with a word before and a word inside.
#[inline(always)]
fn mix(key_pos: u32, words: [u32; 2]) -> u32 {
    let mut x = key_pos.wrapping_add(words[0]);
    x = (x ^ (x >> 17)).wrapping_mul(0xed5a_d4bb);
    x ^= words[1];
    x = (x ^ (x >> 11)).wrapping_mul(0xac4c_1b51);
    x = (x ^ (x >> 15)).wrapping_mul(0x3184_8bab);
    x ^ (x >> 14)
}

/// Philox4x32 with ten rounds.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    let product = |a: u32, b: u32| {
        let product = u64::from(a) * u64::from(b);
        ((product >> 32) as u32, product as u32)
    };
    for _ in 0..10 {
        let (high0, low0) = product(0xd251_1f53, counter[0]);
        let (high1, low1) = product(0xcd9e_8d57, counter[2]);
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_known_answers_of_its_authors() {
        let zeros = [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8];
        assert_eq!(philox([0; 4], [0; 2]), zeros);
        let ones = [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd];
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), ones);
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let pi = [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1];
        assert_eq!(philox(counter, [0xa409_3822, 0x299f_31d0]), pi);
    }

    /// Factors of 64 keys as bits, key 0 lowest: 1 is kept.
    fn bits(dropout: &Dropout, [example, head, query_pos]: [u32; 3], first_key: u32) -> u64 {
        let kept = |i: &u32| dropout.factor(example, head, query_pos, first_key + i) > 0.0;
        (0..64).filter(kept).fold(0, |bits, i| bits | 1 << i)
    }

    #[test]
    fn the_format_is_pinned() {
        let dropout = Dropout::new(0.5, 0x0123_4567_89ab_cdef);
        let got = [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [31, 7, 511]]
            .map(|row| bits(&dropout, row, 0));
        let pinned = [
            0x8383_3f2d_35c9_bf5c,
            0x663e_81eb_ae64_19a9,
            0xc823_155b_b494_c94d,
            0xfb2c_2b3f_1ff2_3644,
            0x6916_5257_7abe_9d52,
        ];
        assert_eq!(got, pinned, "{got:#x?}");
        let rare = bits(&Dropout::new(0.1, u64::MAX), [2, 3, 400], 300);
        assert_eq!(rare, 0xffc6_fafe_fffb_ffcc, "{rare:#x}");
    }

    #[test]
    fn a_probability_of_zero_keeps_all_and_one_is_refused() {
        let all = Dropout::new(0.0, 5);
        assert_eq!(bits(&all, [1, 2, 3], 0), u64::MAX);
        assert!((all.factor(1, 2, 3, 4) - 1.0).abs() == 0.0);
        for p_drop in [1.0, -0.1, f64::NAN] {
            assert!(std::panic::catch_unwind(|| Dropout::new(p_drop, 0)).is_err());
        }
    }

    /// A signed step from one address to another.
    struct Neighbour {
        name: &'static str,
        /// By example, head, query and key.
        by: [u32; 4],
        key: u64,
    }

    /// For each probability: the rate is right, and neighbours in any direction know nothing of each
    /// other. There are 2^20 entries, so a correlation has a standard deviation of 2^-10; bounds of
    /// five of them fail by chance once in a million.
    #[test]
    fn entries_are_kept_at_their_rate_and_independently_of_their_neighbours() {
        let neighbour = |name, by| Neighbour { name, by, key: 0 };
        let neighbours = [
            neighbour("example", [1, 0, 0, 0]),
            neighbour("head", [0, 1, 0, 0]),
            neighbour("query", [0, 0, 1, 0]),
            neighbour("key", [0, 0, 0, 1]),
            neighbour("diagonal", [0, 0, 1, 1]),
            neighbour("two keys", [0, 0, 0, 2]),
            neighbour("sixteen keys", [0, 0, 0, 16]),
            Neighbour { name: "key of the dropout", by: [0; 4], key: 1 },
            Neighbour { name: "high key of the dropout", by: [0; 4], key: 1 << 32 },
        ];
        for (p_drop, key) in [(0.1, 1), (0.5, 2), (0.2, 0xdead_beef_0000_0003)] {
            let entries = |by: [u32; 4], more: u64| -> Vec<f64> {
                let dropout = Dropout::new(p_drop, key ^ more);
                let mut all = Vec::with_capacity(1 << 20);
                for row in 0..1 << 12_u32 {
                    let [example, head, query] = [row >> 10, row >> 8 & 3, row & 255];
                    let row = dropout.row(example + by[0], head + by[1], query + by[2]);
                    all.extend((0..256).map(|key| {
                        let kept = row.factor(key + by[3]) > 0.0;
                        f64::from(u8::from(kept)) - (1.0 - p_drop)
                    }));
                }
                all
            };
            let here = entries([0; 4], 0);
            let (n, variance) = (here.len() as f64, p_drop * (1.0 - p_drop));
            let mean = here.iter().sum::<f64>() / n;
            assert!(mean.abs() < 5.0 * (variance / n).sqrt(), "p_drop {p_drop}: off by {mean}");
            for Neighbour { name, by, key } in &neighbours {
                let there = entries(*by, *key);
                let products: f64 = here.iter().zip(&there).map(|(a, b)| a * b).sum();
                let correlation = products / n / variance;
                assert!(
                    correlation.abs() < 5.0 / n.sqrt(),
                    "p_drop {p_drop}, {name}: {correlation}"
                );
            }
        }
    }

    /// The sums of rows and of columns spread as sums of independent entries do: their variance is
    /// that of a binomial within five standard deviations, one in a million by chance.
    #[test]
    fn rows_and_columns_lose_as_many_entries_as_chance_would_have_it() {
        const N: usize = 1024;
        let (p_drop, dropout) = (0.3, Dropout::new(0.3, 11));
        let (mut rows, mut columns) = ([0.0_f64; N], [0.0_f64; N]);
        for (query, in_row) in rows.iter_mut().enumerate() {
            let row = dropout.row(0, 0, query as u32);
            for (key, in_column) in columns.iter_mut().enumerate() {
                let lost = f64::from(u8::from(row.factor(key as u32) < 0.5));
                *in_row += lost;
                *in_column += lost;
            }
        }
        for (name, sums) in [("rows", rows), ("columns", columns)] {
            let (n, variance) = (N as f64, N as f64 * p_drop * (1.0 - p_drop));
            let got = sums.iter().map(|sum| (sum - n * p_drop).powi(2)).sum::<f64>() / n;
            assert!((got / variance - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{name}: {got}");
        }
    }
}
