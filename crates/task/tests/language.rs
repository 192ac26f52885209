//! The languages against the oracle, against the paper's numbers, and against themselves.

#![expect(clippy::unwrap_used, reason = "in a test a failure is a panic")]

use std::collections::{BTreeMap, BTreeSet};

use mnemoscope_stats::stream::Stream;
use mnemoscope_task::{
    Coding, FlipFlop, Mixture, Part, Scoring, Target, Task, Token, oracle, reads, split, text,
};
use proptest::prelude::*;

fn paper(p_ignore: f64) -> Task {
    Task::FlipFlop(FlipFlop::paper(p_ignore).unwrap())
}

/// Every string over `letters` of `len` tokens.
fn strings(letters: Token, len: u32) -> impl Iterator<Item = Vec<Token>> {
    let letters = u64::from(letters);
    (0..letters.pow(len))
        .map(move |code| (0..len).map(|pos| (code / letters.pow(pos) % letters) as Token).collect())
}

/// Whether a string is an example, said once more in the words of the paper's definition.
fn valid_by_definition(tokens: &[Token]) -> bool {
    let pairs: Vec<(Token, Token)> = tokens.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    let alternates = pairs.iter().all(|&(op, symbol)| op < 3 && symbol >= 3);
    let ends = pairs.first().is_some_and(|pair| pair.0 == 0)
        && pairs.last().is_some_and(|pair| pair.0 == 1);
    let answers = pairs.iter().enumerate().all(|(k, &(op, symbol))| {
        let mut writes = pairs[..k].iter().filter(|pair| pair.0 == 0);
        op != 1 || writes.next_back().is_some_and(|write| write.1 == symbol)
    });
    alternates && ends && answers
}

/// Every string of up to 8 letters of the 5: 488,280 of them, most of them nonsense. The scored
/// places must be those that the oracle answers, and nothing may panic.
#[test]
fn reads_match_the_oracle_on_every_short_string() {
    let mut targets = Vec::new();
    let mut n_strings = 0;
    for len in 1..=8 {
        for tokens in strings(5, len) {
            reads(&tokens, &mut targets);
            let got: Vec<(usize, Token)> =
                targets.iter().map(|read| (read.query_pos as usize, read.answer)).collect();
            let expected: Vec<(usize, Token)> = oracle::answers(&tokens)
                .into_iter()
                .filter_map(|(pos, answer)| Some((pos, answer?)))
                .collect();
            // A letter left over at the end has no symbol and is not scored.
            let whole = expected.iter().filter(|(pos, _)| pos + 1 < tokens.len());
            assert!(got.iter().eq(whole), "{tokens:?}: {got:?}, expected {expected:?}");
            for read in &targets {
                assert_eq!(tokens[read.write_pos as usize], 0);
                assert_eq!(tokens[read.write_pos as usize + 1], read.answer);
            }
            n_strings += 1;
        }
    }
    assert_eq!(n_strings, (5_u64.pow(9) - 5) / 4);
}

#[test]
fn the_oracle_accepts_exactly_the_definition_on_every_short_string() {
    let mut n_valid = 0;
    for len in [2, 4, 6, 8] {
        for tokens in strings(5, len) {
            let expected = len >= 4 && valid_by_definition(&tokens);
            assert_eq!(oracle::is_valid(&tokens, 2).is_ok(), expected, "{tokens:?}");
            n_valid += u64::from(expected);
        }
    }
    // Two choices for the first bit, and for each free instruction w0, w1, i0, i1 or the one
    // right r: 2 * (1 + 5 + 25).
    assert_eq!(n_valid, 62);
}

/// The exact probability of an example of 8 tokens: free instructions by their probabilities,
/// a half for each bit that is drawn.
fn probability(language: &FlipFlop, tokens: &[Token]) -> f64 {
    let n_instructions = tokens.len() / 2;
    tokens
        .chunks(2)
        .enumerate()
        .map(|(k, pair)| {
            let free = 0 < k && k + 1 < n_instructions;
            let p_op = [language.p_write, language.p_read, language.p_ignore][pair[0] as usize];
            let p_symbol = if pair[0] == 1 { 1.0 } else { 1.0 / f64::from(language.n_symbols) };
            if free { p_op * p_symbol } else { p_symbol }
        })
        .product()
}

/// All 50 examples of 8 tokens occur, nothing else does, and each as often as it should.
///
/// Chi-square with 49 degrees of freedom; 118 is exceeded by chance once in 10^7 streams, and
/// the stream is fixed.
#[test]
fn every_short_example_occurs_as_often_as_its_probability_says() {
    let language = FlipFlop::new(8, 0.3, 0.45, 0.25, 2).unwrap();
    let task = Task::FlipFlop(language.clone());
    let stream = Stream::root(21).derive("chi-square");
    let n_examples = 200_000;
    let mut counts = BTreeMap::new();
    let mut batch = Vec::new();
    task.batch_into(&stream, 0, n_examples, &mut batch);
    for tokens in batch.chunks(8) {
        *counts.entry(tokens.to_vec()).or_insert(0_u32) += 1;
    }
    let valid: Vec<Vec<Token>> =
        strings(5, 8).filter(|tokens| oracle::is_valid(tokens, 2).is_ok()).collect();
    assert_eq!(valid.len(), 50);
    let sorted: BTreeSet<&Vec<Token>> = valid.iter().collect();
    assert!(counts.keys().eq(sorted), "these occurred: {:?}", counts.keys());
    let mut total = 0.0;
    let chi_square: f64 = valid
        .iter()
        .map(|tokens| {
            let p = probability(&language, tokens);
            total += p;
            let expected = p * n_examples as f64;
            let got = f64::from(counts.get(tokens).copied().unwrap_or(0));
            (got - expected).powi(2) / expected
        })
        .sum();
    assert!((total - 1.0).abs() < 1e-12, "the probabilities add up to {total}");
    assert!(chi_square < 118.0, "chi-square {chi_square} with 49 degrees of freedom");
}

/// Reads in the paper's three sets, at the paper's sizes, within two standard deviations of
/// their expectation: 26.4 K, 354.0 K and 345.9 K. Chance alone would fail 1 of 7 choices of the
/// seed (three sets at 4.6 %); the seed is 0, that of the default plan.
#[test]
fn the_papers_sets_have_the_reads_they_should() {
    for (set_name, p_ignore, n_examples) in
        [("val", 0.8, 1_000), ("val_sparse", 0.98, 100_000), ("val_dense", 0.1, 3_000)]
    {
        let task = paper(p_ignore);
        let stream = split::eval_stream(0, set_name);
        let mut tokens = vec![0; task.seq_len()];
        let mut targets = Vec::new();
        let mut n_reads = 0;
        for index in 0..n_examples {
            task.example_into(&stream, index, &mut tokens);
            reads(&tokens, &mut targets);
            n_reads += targets.len();
        }
        let expected = task.expected_reads() * n_examples as f64;
        let sd = task.sd_reads() * (n_examples as f64).sqrt();
        let z = (n_reads as f64 - expected) / sd;
        assert!(z.abs() < 2.0, "{set_name}: {n_reads} reads, expected {expected:.0}, z = {z:.2}");
    }
}

/// Distances from reads back to their writes, against the geometric law that the definition
/// implies: the share beyond 50 and 100 instructions, from the paper's notes. Each share is
/// allowed a tenth of itself; the standard deviations are below a fiftieth.
#[test]
fn distances_back_to_the_write_are_as_the_definition_implies() {
    let far = |p_ignore: f64, beyond: u32, n_examples: u64| {
        let task = paper(p_ignore);
        let stream = Stream::root(4).derive("distance");
        let (mut n_far, mut n_reads) = (0, 0);
        let mut targets = Vec::new();
        for index in 0..n_examples {
            reads(&task.example(&stream, index), &mut targets);
            let distance = |read: &&Target| (read.query_pos - read.write_pos) / 2 > beyond;
            n_far += targets.iter().filter(distance).count();
            n_reads += targets.len();
        }
        n_far as f64 / n_reads as f64
    };
    for (p_ignore, beyond, n_examples, expected) in
        [(0.8, 50, 40_000, 4.2e-3), (0.98, 50, 20_000, 0.52), (0.98, 100, 20_000, 0.26)]
    {
        let got = far(p_ignore, beyond, n_examples);
        assert!((got / expected - 1.0).abs() < 0.1, "{p_ignore}, {beyond}: {got}");
    }
}

/// Symbols after `w` and `i` are uniform also where 2^32 is no multiple of their number.
///
/// Chi-square with M - 1 degrees of freedom, allowed its mean plus six standard deviations
/// (below 10^-6 by chance for each M, and the stream is fixed).
#[test]
fn symbols_are_uniform_for_any_number_of_them() {
    for n_symbols in [2, 3, 10, 100, 255, 256] {
        let task = Task::FlipFlop(FlipFlop::new(512, 0.1, 0.1, 0.8, n_symbols).unwrap());
        let stream = Stream::root(8).derive("symbols");
        let mut counts = vec![0_u64; n_symbols as usize];
        for index in 0..1_000 {
            let tokens = task.example(&stream, index);
            for pair in tokens.chunks(2).filter(|pair| pair[0] != 1) {
                counts[usize::from(pair[1] - 3)] += 1;
            }
        }
        let n: u64 = counts.iter().sum();
        let expected = n as f64 / f64::from(n_symbols);
        let chi_square: f64 =
            counts.iter().map(|&count| (count as f64 - expected).powi(2) / expected).sum();
        let freedom = f64::from(n_symbols - 1);
        let limit = freedom + 6.0 * (2.0 * freedom).sqrt() + 12.0;
        assert!(chi_square < limit, "{n_symbols} symbols: chi-square {chi_square}");
    }
}

/// The numbers in every record rest on these strings. A change here is a change of format.
#[test]
fn addresses_are_pinned() {
    let check = |task: Task, stream: Stream, index: u64, expected: &str| {
        let text = text::to_text(&task.example(&stream, index));
        let digest = blake3::hash(text.as_bytes()).to_hex();
        assert_eq!(format!("{} {}", &text[..16], &digest[..16]), expected);
    };
    check(paper(0.8), split::train_stream(0), 0, "w1i1i0r1i0i0i0i1 6a1a3f25e06447f0");
    check(
        paper(0.98),
        split::eval_stream(0, "val_sparse"),
        99_999,
        "w1i1i1i0i0i1i1i0 14982abade55bd64",
    );
    check(
        paper(0.1),
        split::eval_stream(7, "val_dense"),
        u64::MAX,
        "w1w1w0w1i1w1i1w0 410a9f4d4b9ea04a",
    );
    let symbols = FlipFlop::new(200, 0.2, 0.2, 0.6, 10).unwrap();
    check(Task::FlipFlop(symbols), split::train_stream(1), 5, "w1w4i6r4i2w1r1r1 194c83bd4cb516c8");
    let part = |weight, p_ignore| Part { weight, task: FlipFlop::paper(p_ignore).unwrap() };
    let mixture = Mixture::new(vec![part(1.0, 0.8), part(2.0, 0.1)]).unwrap();
    check(Task::Mixture(mixture), split::train_stream(0), 3, "w1i1r1i1i0i1i1r1 67340b0f9a8ff171");
}

#[test]
fn the_shortest_example_writes_and_reads() {
    let task = Task::FlipFlop(FlipFlop::new(4, 0.1, 0.1, 0.8, 2).unwrap());
    let stream = Stream::root(0);
    let texts: Vec<String> =
        (0..40).map(|index| text::to_text(&task.example(&stream, index))).collect();
    assert!(texts.iter().all(|text| text == "w0r0" || text == "w1r1"), "{texts:?}");
    assert!(texts.contains(&"w0r0".to_owned()) && texts.contains(&"w1r1".to_owned()));
    assert!((task.expected_reads() - 1.0).abs() < 1e-12 && task.sd_reads().abs() < 1e-12);
}

#[test]
fn certain_instructions_are_certain() {
    let ops = |p_write, p_read, p_ignore| {
        let task = Task::FlipFlop(FlipFlop::new(512, p_write, p_read, p_ignore, 2).unwrap());
        let tokens: Vec<Token> =
            (0..20).flat_map(|index| task.example(&Stream::root(0), index)).collect();
        let free = tokens.chunks(512).flat_map(|tokens| tokens[2..510].iter().step_by(2));
        let mut ops: Vec<Token> = free.copied().collect();
        ops.sort_unstable();
        ops.dedup();
        ops
    };
    assert_eq!(ops(1.0, 0.0, 0.0), [0]);
    assert_eq!(ops(0.0, 1.0, 0.0), [1]);
    assert_eq!(ops(0.0, 0.0, 1.0), [2]);
    assert_eq!(ops(0.5, 0.5, 0.0), [0, 1]);
}

#[test]
fn batches_are_the_examples_in_order() {
    let task = paper(0.8);
    let stream = split::train_stream(3);
    let mut batch = vec![9; 100_000];
    task.batch_into(&stream, 10, 5, &mut batch);
    assert_eq!(batch.len(), 5 * 512);
    for (row, index) in batch.chunks(512).zip(10..) {
        assert_eq!(row, task.example(&stream, index));
    }
}

#[test]
fn equal_seeds_give_unrelated_training_and_test_examples() {
    let task = paper(0.8);
    let (train, eval) = (split::train_stream(0), split::eval_stream(0, "train"));
    let all: Vec<Vec<Token>> = (0..500)
        .flat_map(|index| [task.example(&train, index), task.example(&eval, index)])
        .collect();
    let mut distinct = all.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), all.len());
}

#[test]
fn tasks_keep_their_form_in_json() {
    let task = paper(0.8);
    let json = serde_json::to_string(&task).unwrap();
    assert_eq!(
        json,
        r#"{"name":"flipflop","seq_len":512,"p_write":0.1,"p_read":0.1,"p_ignore":0.8,"n_symbols":2}"#
    );
    assert_eq!(serde_json::from_str::<Task>(&json).unwrap(), task);
    let part = Part { weight: 2.0, task: FlipFlop::new(8, 0.5, 0.25, 0.25, 4).unwrap() };
    let task = Task::Mixture(Mixture::new(vec![part]).unwrap());
    let json = serde_json::to_string(&task).unwrap();
    assert_eq!(
        json,
        r#"{"name":"mixture","parts":[{"weight":2.0,"task":{"seq_len":8,"p_write":0.5,"p_read":0.25,"p_ignore":0.25,"n_symbols":4}}]}"#
    );
    assert_eq!(serde_json::from_str::<Task>(&json).unwrap(), task);
    // Unknown keys are refused, also inside the tagged form.
    let error = serde_json::from_str::<Task>(
        r#"{"name":"flipflop","seq_len":8,"p_write":1,"p_read":0,"p_ignore":0,"n_symbols":2,"seed":1}"#,
    );
    assert!(error.unwrap_err().to_string().contains("unknown field `seed`"));
    assert_eq!(
        serde_json::to_string(&[Scoring::Reads, Scoring::All]).unwrap(),
        r#"["reads","all"]"#
    );
}

#[test]
fn a_task_knows_its_shape() {
    let task = Task::FlipFlop(FlipFlop::new(64, 0.1, 0.1, 0.8, 256).unwrap());
    assert_eq!((task.seq_len(), task.n_symbols(), task.d_vocab()), (64, 256, 259));
    assert_eq!(task.symbols(), 3..259);
    assert_eq!(task.name(), "flipflop");
    // An unchecked mixture without parts answers instead of panicking: `check` will complain.
    let empty = Task::Mixture(Mixture { parts: Vec::new() });
    assert_eq!((empty.seq_len(), empty.d_vocab(), empty.check().len()), (0, 3, 1));
    assert_eq!(
        empty.checked().unwrap_err().to_string(),
        "a mixture has no parts; give it at least one"
    );
}

/// A language within the limits, of moderate length.
fn any_language() -> impl Strategy<Value = FlipFlop> {
    (2_u32..200, 0.0..=1.0_f64, 0.0..=1.0_f64, 2_u32..=256).prop_map(
        |(n_instructions, cut, split, n_symbols)| FlipFlop {
            seq_len: 2 * n_instructions,
            p_write: cut * split,
            p_read: cut * (1.0 - split),
            p_ignore: 1.0 - cut,
            n_symbols,
            coding: Coding::Tokens,
        },
    )
}

proptest! {
    #[test]
    fn every_example_of_every_language_is_valid(
        language in any_language(),
        seed: u64,
        index: u64,
    ) {
        prop_assert_eq!(language.check(), []);
        let (n_symbols, seq_len) = (language.n_symbols, language.seq_len as usize);
        let tokens = Task::FlipFlop(language).example(&Stream::root(seed), index);
        prop_assert_eq!(tokens.len(), seq_len);
        prop_assert_eq!(oracle::is_valid(&tokens, n_symbols), Ok(()));
        let mut targets = Vec::new();
        reads(&tokens, &mut targets);
        let answers: Vec<_> =
            targets.iter().map(|read| (read.query_pos as usize, Some(read.answer))).collect();
        prop_assert_eq!(answers, oracle::answers(&tokens));
        // In a valid example the answer is the token that follows.
        prop_assert!(targets.iter().all(|read| tokens[read.query_pos as usize + 1] == read.answer));
        let mut trained = Vec::new();
        Scoring::All.trained(&tokens, &mut trained);
        prop_assert_eq!(trained.len(), seq_len - 1);
        Scoring::Reads.trained(&tokens, &mut trained);
        prop_assert!(trained.iter().all(|&(pos, answer)| tokens[pos as usize + 1] == answer));
        prop_assert_eq!(trained.len(), targets.len());
    }
}
