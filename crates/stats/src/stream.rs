//! Streams: addressed sources of randomness.
//!
//! Nothing in Mnemoscope draws from a shared generator. A [`Stream`] is a 256-bit key derived by
//! hashing a path of names from a seed, and `(stream, index)` is the address of one item: an
//! example of a task, the initial value of a parameter, a bootstrap resample. Whoever holds the
//! address can draw the item again, on any machine, in any order, on any thread, without drawing
//! anything before it.
//!
//! ```text
//! Stream::root(7) ── derive("train") ──────────────── at(0) at(1) at(2) ...   examples
//!              └──── derive("eval") ── derive("val") ─ at(0) at(1) at(2) ...   other examples
//! ```
//!
//! Seeds are never added to anything. With `seed + index`, seeds 0 and 1 would share all items but
//! one; with hashing, two paths that differ anywhere are unrelated.
//!
//! # Format
//!
//! Numbers in records depend on these definitions, and known-answer tests pin them. Changing
//! one is a change of format.
//!
//! - `root(seed)`: BLAKE3 in its key-derivation mode, context `mnemoscope stream root v1`, key
//!   material the seed as 8 little-endian bytes.
//! - `derive(purpose)`: BLAKE3 keyed with the parent, over the byte `p` and the purpose in UTF-8.
//! - `child(index)`: BLAKE3 keyed with the parent, over the byte `c` and the index as 8
//!   little-endian bytes.
//! - `at(index)`: the key stream of ChaCha with 8 rounds, 64-bit block counter from 0 and 64-bit
//!   stream number `index`, read as little-endian 32-bit words.
//!
//! Sources: O'Connor, Aumasson, Neves and Wilcox-O'Hearn, "BLAKE3: one function, fast
//! everywhere" (2020); Bernstein, "ChaCha, a variant of Salsa20" (2008); Salmon, Moraes, Dror and
//! Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, for randomness by counters.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Separates our streams from every other use of BLAKE3. A new version is a new format.
const ROOT_CONTEXT: &str = "mnemoscope stream root v1";

/// Marks a child by name, so that no name can collide with a number.
const PURPOSE_TAG: u8 = b'p';

/// Marks a child by number.
const CHILD_TAG: u8 = b'c';

/// An addressed source of randomness: a key derived by hashing from a seed and a path of names.
///
/// A stream holds no position and nothing is used up by drawing from it: `stream.at(index)` is a
/// function, and gives the same [`Draws`] each time. Streams are cheap to copy about (32 bytes).
/// The address as 64 hexadecimal digits is what records store and what serde writes.
///
/// # Example
///
/// ```
/// use mnemoscope_stats::stream::Stream;
///
/// // The same address, the same draw; another purpose or another seed, an unrelated one.
/// let train = Stream::root(0).derive("train");
/// let first = train.at(5).next_u64();
/// assert_eq!(Stream::root(0).derive("train").at(5).next_u64(), first);
/// assert_ne!(Stream::root(0).derive("eval").at(5).next_u64(), first);
/// assert_ne!(Stream::root(1).derive("train").at(5).next_u64(), first);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Stream {
    key: [u8; 32],
}

impl Stream {
    /// The stream at the beginning of every path: one for each seed.
    ///
    /// # Randomness
    ///
    /// None is drawn. Neighbouring seeds give unrelated streams.
    #[must_use]
    pub fn root(seed: u64) -> Self {
        Self { key: blake3::derive_key(ROOT_CONTEXT, &seed.to_le_bytes()) }
    }

    /// The child of this stream for a named purpose.
    ///
    /// Names form a path: `derive("a").derive("b")`, `derive("ab")` and `derive("b").derive("a")`
    /// are three different streams. A purpose may be any text, also the empty one.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_stats::stream::Stream;
    ///
    /// let root = Stream::root(0);
    /// assert_ne!(root.derive("eval").derive("val"), root.derive("evalval"));
    /// ```
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&[PURPOSE_TAG]).update(purpose.as_bytes());
        Self { key: *hasher.finalize().as_bytes() }
    }

    /// The child of this stream with a number, such as one for each training step.
    ///
    /// A child is a whole stream with its own items and children, where [`Stream::at`] is one
    /// item. Numbered and named children never coincide.
    #[must_use]
    pub fn child(&self, index: u64) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&[CHILD_TAG]).update(&index.to_le_bytes());
        Self { key: *hasher.finalize().as_bytes() }
    }

    /// The randomness of item `index`, from its beginning.
    ///
    /// # Randomness
    ///
    /// Up to 2^64 items, each of 2^70 bytes that overlap no other item's.
    #[must_use]
    #[inline]
    pub fn at(&self, index: u64) -> Draws {
        let mut rng = ChaCha8Rng::from_seed(self.key);
        rng.set_stream(index);
        Draws { rng }
    }

    /// The address as 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn address(&self) -> String {
        blake3::Hash::from_bytes(self.key).to_hex().as_str().to_owned()
    }

    /// The stream with this address, or `None` if `hex` is not 64 hexadecimal digits.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_stats::stream::Stream;
    ///
    /// let val = Stream::root(0).derive("eval").derive("val");
    /// assert_eq!(Stream::from_address(&val.address()), Some(val));
    /// assert_eq!(Stream::from_address("val"), None);
    /// ```
    #[must_use]
    pub fn from_address(hex: &str) -> Option<Self> {
        let hash = blake3::Hash::from_hex(hex).ok()?;
        Some(Self { key: *hash.as_bytes() })
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({})", self.address())
    }
}

impl Serialize for Stream {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.address())
    }
}

impl<'de> Deserialize<'de> for Stream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = String::deserialize(deserializer)?;
        Self::from_address(&hex).ok_or_else(|| {
            de::Error::custom(format_args!(
                "`{hex}` is not the address of a stream; write 64 hexadecimal digits"
            ))
        })
    }
}

/// A place in the randomness of one item, moved on by each draw.
///
/// It comes from [`Stream::at`], belongs to one loop, and cannot be cloned: two places in the code
/// that drew the same numbers by accident would be correlated without a trace. To draw the same
/// numbers on purpose, call [`Stream::at`] again.
///
/// All methods read the same sequence of 32-bit words in order and throw no word away, so the
/// words that a generator draws singly and in bulk are the same.
pub struct Draws {
    rng: ChaCha8Rng,
}

/// Words fetched at once by [`Draws::fill_u32`]: a multiple of the 64 that ChaCha makes in one go,
/// small enough to stay in the first-level cache.
const BULK_WORDS: usize = 256;

/// 2^-53: the distance between neighbouring values of [`Draws::uniform`].
const UNIFORM_STEP: f64 = 0.5 * f64::EPSILON;

impl Draws {
    /// The next word: uniform on all 2^32 values.
    #[must_use]
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        self.rng.next_u32()
    }

    /// The next two words as one number, the first word in the low half.
    #[must_use]
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Fills `out` with the next words: the same ones as from [`Draws::next_u32`], several times
    /// faster.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_stats::stream::Stream;
    ///
    /// let stream = Stream::root(0);
    /// let mut words = [0; 300];
    /// stream.at(0).fill_u32(&mut words);
    /// let mut draws = stream.at(0);
    /// assert!(words.iter().all(|&word| word == draws.next_u32()));
    /// ```
    pub fn fill_u32(&mut self, out: &mut [u32]) {
        let mut bytes = [0_u8; 4 * BULK_WORDS];
        for words in out.chunks_mut(BULK_WORDS) {
            let bytes = &mut bytes[..4 * words.len()];
            self.rng.fill_bytes(bytes);
            for (word, bytes) in std::iter::zip(words, bytes.as_chunks::<4>().0) {
                *word = u32::from_le_bytes(*bytes);
            }
        }
    }

    /// A number uniform on the 2^53 multiples of 2^-53 in `[0, 1)`.
    ///
    /// # Randomness
    ///
    /// Two words.
    #[must_use]
    #[inline]
    pub fn uniform(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
        let numerator = (self.next_u64() >> 11) as f64;
        numerator * UNIFORM_STEP
    }

    /// A whole number uniform on `0..n`, without bias.
    ///
    /// # Randomness
    ///
    /// One word, and another one with probability below `n / 2^32`, and so on.
    ///
    /// # Panics
    ///
    /// If `n` is 0: there is nothing to choose from.
    ///
    /// # Source
    ///
    /// Lemire, "Fast random integer generation in an interval", ACM Transactions on Modeling and
    /// Computer Simulation 29 (2019).
    #[must_use]
    #[track_caller]
    #[inline]
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "nothing lies below 0: `n` must be at least 1");
        let mut product = u64::from(self.next_u32()) * u64::from(n);
        // The low half says where in its slot the word fell. Only the first `2^32 mod n` places of
        // a slot are too many; the division that finds that number is rarely needed.
        if low_half(product) < n {
            let n_excess = n.wrapping_neg() % n;
            while low_half(product) < n_excess {
                product = u64::from(self.next_u32()) * u64::from(n);
            }
        }
        high_half(product)
    }

    /// A number with the standard normal distribution.
    ///
    /// Box and Muller's method, the cosine only, with logarithm and cosine from `libm`: these are
    /// the same on every platform, so initial parameters are too. Values beyond 8.6 cannot occur
    /// (a true normal exceeds that once in 10^17 draws).
    ///
    /// # Randomness
    ///
    /// Four words.
    ///
    /// # Source
    ///
    /// Box and Muller, "A note on the generation of random normal deviates", Annals of
    /// Mathematical Statistics 29 (1958).
    #[must_use]
    #[inline]
    pub fn normal(&mut self) -> f64 {
        // `1 - uniform` lies in (0, 1], where the logarithm is finite.
        let radius = (-2.0 * libm::log(1.0 - self.uniform())).sqrt();
        radius * libm::cos(std::f64::consts::TAU * self.uniform())
    }
}

impl fmt::Debug for Draws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draws")
            .field("index", &self.rng.get_stream())
            .field("n_words_drawn", &self.rng.get_word_pos())
            .finish_non_exhaustive()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
#[inline]
fn low_half(product: u64) -> u32 {
    product as u32
}

#[inline]
fn high_half(product: u64) -> u32 {
    (product >> 32) as u32
}
