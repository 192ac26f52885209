//! Streams from outside: the generator against published and independent answers, pinned
//! addresses, and properties that every caller relies on.
//!
//! Each statistical assertion fixes its stream and fails by chance with probability below 10^-6.

use mnemoscope_stats::stream::Stream;
use proptest::prelude::*;

/// ChaCha with 8 rounds, straight from the paper, one block: no SIMD, no buffer, no dependency.
fn chacha8_block(key: [u8; 32], counter: u64, nonce: u64) -> [u32; 16] {
    fn quarter(x: &mut [u32; 16], [a, b, c, d]: [usize; 4]) {
        for (rotation_d, rotation_b) in [(16, 12), (8, 7)] {
            x[a] = x[a].wrapping_add(x[b]);
            x[d] = (x[d] ^ x[a]).rotate_left(rotation_d);
            x[c] = x[c].wrapping_add(x[d]);
            x[b] = (x[b] ^ x[c]).rotate_left(rotation_b);
        }
    }
    let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let mut state = [0; 16];
    state[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    for (idx, bytes) in key.chunks(4).enumerate() {
        state[4 + idx] = word(bytes);
    }
    for (idx, number) in [(12, counter), (14, nonce)] {
        let bytes = number.to_le_bytes();
        (state[idx], state[idx + 1]) = (word(&bytes[..4]), word(&bytes[4..]));
    }
    let mut x = state;
    for _ in 0..4 {
        for lane in 0..4 {
            quarter(&mut x, [lane, lane + 4, lane + 8, lane + 12]);
        }
        for lane in 0..4 {
            quarter(&mut x, [lane, 4 + (lane + 1) % 4, 8 + (lane + 2) % 4, 12 + (lane + 3) % 4]);
        }
    }
    std::array::from_fn(|idx| x[idx].wrapping_add(state[idx]))
}

fn key_of(stream: &Stream) -> [u8; 32] {
    let hex = stream.address();
    std::array::from_fn(|idx| u8::from_str_radix(&hex[2 * idx..2 * idx + 2], 16).unwrap_or(0))
}

/// Strombergson, "Test vectors for the stream cipher ChaCha", draft 01, TC1, 8 rounds, 256 bits.
#[test]
fn the_zero_key_gives_the_published_key_stream() {
    let stream = Stream::from_address(&"0".repeat(64)).unwrap();
    let mut words = [0; 16];
    stream.at(0).fill_u32(&mut words);
    let hex: String = words
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        hex,
        "3e00ef2f895f40d67f5bb8e81f09a5a12c840ec3ce9a7f3b181be188ef711a1e\
         984ce172b9216f419f445367456d5619314a42a3da86b001387bfdb80e0cfe42"
    );
}

/// Every stored number depends on these: a change here is a change of format.
#[test]
fn addresses_and_draws_are_pinned() {
    let root = Stream::root(0);
    let val = root.derive("eval").derive("val");
    assert_eq!(root.address(), "2120e3732333d956ee098b979af1e75903862617c9c9972563b0e10e8afea3f3");
    assert_eq!(
        Stream::root(u64::MAX).address(),
        "6e667a3aa6ce7794e613fed342a8ed0c9f98358ae5d79a630a4b8ef6d21d408b"
    );
    assert_eq!(val.address(), "43b9656df73bbed917c3e2579139a93c5916d61a821af4a537ddefd4229aadca");
    assert_eq!(
        val.child(7).address(),
        "2a3df7d8c1037e8cc2adf72b08a022af0a5e3c56d98bbc1f7a0825139f7f3095"
    );

    let mut draws = val.at(1_000);
    assert_eq!(draws.next_u32(), 0x6565_da38);
    assert_eq!(draws.next_u64(), 0x818e_8a3e_951b_9e6e);
    assert_eq!(draws.below(6), 1);
    assert_eq!(draws.uniform().to_bits(), 0x3fef_0cb5_89f1_80de);
    assert_eq!(draws.normal().to_bits(), 0x3feb_1e24_917a_ee34);
}

#[test]
fn a_stream_is_written_as_its_address() {
    let stream = Stream::root(3).derive("train");
    let json = serde_json::to_string(&stream).unwrap();
    assert_eq!(json, format!("\"{}\"", stream.address()));
    assert_eq!(serde_json::from_str::<Stream>(&json).unwrap(), stream);
    assert_eq!(format!("{stream:?}"), format!("Stream({})", stream.address()));
    let failure = serde_json::from_str::<Stream>("\"train\"").unwrap_err().to_string();
    assert!(
        failure.starts_with("`train` is not the address of a stream; write 64 hexadecimal digits"),
        "{failure}"
    );
}

#[test]
fn different_paths_are_different_streams() {
    let root = Stream::root(0);
    let mut addresses: Vec<String> = [
        root.clone(),
        Stream::root(1),
        Stream::root(1 << 32),
        root.derive(""),
        root.derive("ab"),
        root.derive("a").derive("b"),
        root.derive("b").derive("a"),
        root.derive("\0\0\0\0\0\0\0\0"),
        root.child(0),
        root.child(1),
        root.child(0).child(1),
        root.child(1).child(0),
        root.derive("0"),
        root.derive("c\0\0\0\0\0\0\0\0"),
    ]
    .iter()
    .map(Stream::address)
    .collect();
    let n_paths = addresses.len();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), n_paths);
}

/// Seeds 0 and 1 share nothing: over 64 items each, the streams of neighbouring seeds, indices and
/// names agree in half of their bits (131,072 of them, 5 standard deviations).
#[test]
fn neighbouring_addresses_are_unrelated() {
    let root = Stream::root(0);
    let pairs = [
        (root.derive("train"), Stream::root(1).derive("train"), 0),
        (root.derive("train"), root.derive("eval"), 0),
        (root.derive("train"), root.derive("train"), 1),
        (root.child(0), root.child(1), 0),
    ];
    for (left, right, offset) in pairs {
        let mut n_equal = 0_u32;
        for index in 0..64 {
            let (mut a, mut b) = ([0; 64], [0; 64]);
            left.at(index).fill_u32(&mut a);
            right.at(index + offset).fill_u32(&mut b);
            n_equal += std::iter::zip(a, b).map(|(a, b)| (a ^ b).count_zeros()).sum::<u32>();
        }
        assert!((f64::from(n_equal) - 65_536.0).abs() < 5.0 * 181.02, "{n_equal} bits agree");
    }
}

/// Without rejection, a third of `0..3 * 2^30` would be drawn twice as often as the rest.
#[test]
fn whole_numbers_are_drawn_without_bias() {
    for n in [1, 2, 3, 7, 1000, 3 << 30, u32::MAX] {
        let mut draws = Stream::root(0).derive("below").at(u64::from(n));
        let mut n_seen = [0_u32; 3];
        let mut sum = 0.0;
        for _ in 0..30_000 {
            let drawn = draws.below(n);
            assert!(drawn < n);
            n_seen[(drawn % 3) as usize] += 1;
            sum += f64::from(drawn);
        }
        // The mean of n equally likely numbers, 5 standard deviations.
        let (mean, spread) = (0.5 * f64::from(n - 1), f64::from(n) / 12_f64.sqrt());
        assert!((sum / 30_000.0 - mean).abs() <= 5.0 * spread / 30_000_f64.sqrt(), "n {n}: {sum}");
        if n % 3 == 0 {
            for n_seen in n_seen {
                assert!((f64::from(n_seen) - 10_000.0).abs() < 5.0 * 81.65, "n {n}: {n_seen}");
            }
        }
    }
}

/// The first four moments of 200,000 draws, each within 5 standard deviations, and the share
/// beyond 3 standard deviations.
#[test]
fn normal_draws_have_the_moments_of_the_normal() {
    const N: f64 = 200_000.0;
    let mut draws = Stream::root(0).derive("normal").at(0);
    let (mut powers, mut n_far) = ([0.0; 4], 0.0);
    for _ in 0..200_000 {
        let z = draws.normal();
        for (sum, exponent) in powers.iter_mut().zip(1..) {
            *sum += z.powi(exponent);
        }
        n_far += f64::from(u8::from(z.abs() > 3.0));
    }
    // The mean of z^k, and the variance of z^k.
    let expected = [(0.0, 1.0), (1.0, 2.0), (0.0, 15.0), (3.0, 96.0)];
    for (sum, (mean, variance)) in powers.into_iter().zip(expected) {
        let got: f64 = sum / N;
        assert!((got - mean).abs() < 5.0 * f64::sqrt(variance / N), "got {got}, expected {mean}");
    }
    assert!((n_far - 0.002_699_796 * N).abs() < 5.0 * 23.2, "{n_far} beyond 3");
}

/// Kolmogorov's statistic of 100,000 uniform draws; beyond 2.7 it is met once in 10^6 times.
#[test]
fn uniform_draws_are_uniform() {
    let mut draws = Stream::root(0).derive("uniform").at(0);
    let mut drawn: Vec<f64> = (0..100_000).map(|_| draws.uniform()).collect();
    drawn.sort_by(f64::total_cmp);
    assert!(0.0 <= drawn[0] && drawn[99_999] < 1.0);
    let gap = drawn
        .iter()
        .enumerate()
        .map(|(rank, value)| {
            (value - rank as f64 / 1e5).abs().max((value - (rank + 1) as f64 / 1e5).abs())
        })
        .fold(0.0, f64::max);
    assert!(gap * 1e5_f64.sqrt() < 2.7, "{gap}");
}

proptest! {
    /// The fast path gives the words of the definition, whatever the index and the place.
    #[test]
    fn draws_are_chacha_with_eight_rounds(seed: u64, index: u64, n_blocks in 1_usize..12) {
        let stream = Stream::root(seed).derive("any");
        let mut words = vec![0; 16 * n_blocks];
        stream.at(index).fill_u32(&mut words);
        for (counter, block) in (0..).zip(words.chunks(16)) {
            prop_assert_eq!(block, chacha8_block(key_of(&stream), counter, index));
        }
    }

    /// Single and bulk draws read one sequence of words, however they are mixed.
    #[test]
    fn single_and_bulk_draws_can_be_mixed(seed: u64, sizes in prop::collection::vec(0_usize..600, 1..8)) {
        let stream = Stream::root(seed);
        let (mut bulk, mut single) = (stream.at(9), stream.at(9));
        for size in sizes {
            let mut words = vec![0; size];
            bulk.fill_u32(&mut words);
            for word in words {
                prop_assert_eq!(word, single.next_u32());
            }
            let (low, high) = (single.next_u32(), single.next_u32());
            prop_assert_eq!(bulk.next_u64(), u64::from(high) << 32 | u64::from(low));
        }
    }

    /// An address leads back to its stream, and nothing else is an address.
    #[test]
    fn addresses_lead_back(seed: u64, index: u64, purpose in ".*", junk in "[0-9a-f]{0,70}") {
        let stream = Stream::root(seed).derive(&purpose).child(index);
        prop_assert_eq!(Stream::from_address(&stream.address()), Some(stream));
        prop_assert_eq!(Stream::from_address(&junk).is_some(), junk.len() == 64);
    }
}
