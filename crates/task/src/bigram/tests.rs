//! The bigram language: what it refuses, and its generator against its reference and the oracle.

use std::collections::BTreeMap;

use super::*;

const SETTINGS: [(Triggers, u32, u32); 5] = [
    (Triggers::Fixed, 1, 0),
    (Triggers::Fixed, 2, 1),
    (Triggers::Random, 1, 0),
    (Triggers::Random, 2, 0),
    (Triggers::Random, 3, 0),
];

/// Four characters; after each, two others or itself.
fn small(seq_len: u32) -> Bigram {
    let corpus = Corpus::from_text("abbcadcbaaddbacab").unwrap();
    Bigram { corpus, seq_len, ..Bigram::paper(2) }
}

#[track_caller]
fn check(language: &Bigram, expected: &[&str]) {
    let messages: Vec<String> =
        language.check().iter().map(|complaint| complaint.to_string()).collect();
    assert_eq!(messages, expected);
}

#[test]
fn each_wrong_number_gets_one_message_that_says_what_to_do() {
    let fixed = |n_triggers, offset| Bigram {
        triggers: Triggers::Fixed,
        n_triggers,
        offset,
        ..Bigram::paper(1)
    };
    check(&Bigram::paper(65), &[]);
    check(&fixed(5, 60), &[]);
    check(&Bigram::paper(0), &["n_triggers is 0; use at least 1"]);
    check(&Bigram::paper(66), &["n_triggers is 66, but the corpus has 65 tokens; use at most 65"]);
    check(&fixed(66, 0), &["n_triggers is 66, but the corpus has 65 tokens; use at most 65"]);
    check(
        &fixed(5, 61),
        &["n_triggers is 5, but after offset 61 only 4 of 65 tokens are left; use at most that"],
    );
    for offset in [65, u32::MAX] {
        check(
            &fixed(5, offset),
            &[&format!(
                "offset is {offset}, which leaves none of the 65 tokens of the corpus to be a \
                 trigger; use less"
            )],
        );
    }
    check(
        &Bigram { offset: 5, ..Bigram::paper(3) },
        &["offset is 5, but only fixed triggers have one; leave it 0"],
    );
    for seq_len in [0, 1, 1 << 24] {
        check(
            &Bigram { seq_len, ..Bigram::paper(3) },
            &[&format!("seq_len is {seq_len}; use 2 to 16777215")],
        );
    }
    let shown = |seq_len| Bigram { seq_len, show_latents: true, ..Bigram::paper(5) };
    check(&shown(7), &[]);
    check(
        &shown(6),
        &["seq_len is 6, and show_latents takes n_triggers = 5 of these positions; use at least 7"],
    );
    check(
        &Bigram { seq_len: 1, ..fixed(0, 70) },
        &[
            "seq_len is 1; use 2 to 16777215",
            "offset is 70, which leaves none of the 65 tokens of the corpus to be a trigger; use \
             less",
            "n_triggers is 0; use at least 1",
        ],
    );
}

#[test]
fn outputs_excluded_until_none_is_left_are_refused_with_the_trigger() {
    // Two tokens, one to train on: without repeats it cannot be its own output.
    let two = Corpus::from_text("abab\na").unwrap();
    let two = Bigram { corpus: two, seq_len: 4, ..Bigram::paper(1) };
    check(&two, &[]);
    let test = Bigram { output_split: OutputSplit::Test, ..two.clone() };
    check(&test, &[]);
    check(
        &Bigram { no_repeat: true, ..test },
        &["no output is left for the trigger `b` with outputs = \"uniform\", output_split = \
           \"test\" and no_repeat = true; allow more outputs"],
    );
    check(
        &Bigram { outputs: Outputs::Bigram, output_split: OutputSplit::Test, ..two },
        &["no output is left for the trigger `b` with outputs = \"bigram\", output_split = \
           \"test\" and no_repeat = false; allow more outputs"],
    );
    // The most frequent token, a space, has followers among the last 17 letters; `$` has not.
    let bigram = |triggers| Bigram {
        outputs: Outputs::Bigram,
        output_split: OutputSplit::Test,
        triggers,
        ..Bigram::paper(1)
    };
    check(&bigram(Triggers::Fixed), &[]);
    assert_eq!(bigram(Triggers::Random).check().len(), 1);
}

#[test]
fn fixed_triggers_are_the_most_frequent_tokens_after_the_offset() {
    let fixed = |n_triggers, offset| {
        Bigram { triggers: Triggers::Fixed, n_triggers, offset, ..Bigram::paper(1) }
            .fixed_triggers()
    };
    assert_eq!(fixed(1, 0), [1]);
    assert_eq!(fixed(3, 0), [1, 43, 58]);
    assert_eq!(fixed(5, 0), [1, 39, 43, 53, 58]);
    assert_eq!(fixed(5, 5), [46, 47, 52, 56, 57]);
    assert_eq!(fixed(1, 64), [3]);
}

#[test]
fn fast_and_reference_agree_token_by_token() {
    let stream = Stream::root(11).derive("bigram");
    for (triggers, n_triggers, offset) in SETTINGS {
        for outputs in [Outputs::Uniform, Outputs::Bigram] {
            for (no_repeat, seq_len) in [(false, 2), (true, 255), (false, 256), (true, 700)] {
                let paper = Bigram::paper(n_triggers);
                let corpora = [paper.corpus.clone(), small(2).corpus];
                for corpus in corpora {
                    let show_latents = no_repeat;
                    let setting = Bigram { corpus, triggers, offset, seq_len, ..paper.clone() };
                    let setting = Bigram { show_latents, ..setting };
                    let language = Bigram { outputs, no_repeat, ..setting };
                    let mut batch = vec![999; 3 * language.n_tokens()];
                    language.batch_into(&stream, 5, &mut batch);
                    for (index, got) in (5..).zip(batch.chunks(language.n_tokens())) {
                        let mut expected = vec![777; language.n_tokens()];
                        language.generate_reference(&mut stream.at(index), &mut expected);
                        assert_eq!(got, expected, "{language:?}, example {index}");
                        language.generate_into(&mut stream.at(index), &mut expected);
                        assert_eq!(got, expected, "{language:?}, example {index}");
                    }
                }
            }
        }
    }
}

/// What `(stream, index)` draws is a format: these are the first tokens of two examples.
#[test]
fn what_an_address_draws_is_pinned() {
    let stream = Stream::root(0).derive("train");
    let check = |language: Bigram, triggers: &[(Token, Token)], text: &str| {
        let mut tokens = vec![0; language.n_tokens()];
        language.generate_into(&mut stream.at(3), &mut tokens);
        let drawn = language.triggers_at(&mut stream.at(3));
        let drawn: Vec<_> = drawn.iter().map(|pair| (pair.token, pair.output)).collect();
        assert_eq!(drawn, triggers);
        assert_eq!(language.corpus.line(&tokens[..40]), text);
    };
    check(
        Bigram::paper(3),
        &[(1, 21), (43, 11), (51, 44)],
        r"fe;\nYofe; I I I IO IColle; I Is I IO ISu",
    );
    let outputs = Outputs::Bigram;
    check(
        Bigram { triggers: Triggers::Fixed, outputs, ..Bigram::paper(3) },
        &[(1, 55), (43, 1), (58, 41)],
        r"e qury qu.\nBu qu qudie qungh qul qutcha ",
    );
}

/// Every string of up to 7 of four letters with every pair of triggers: the generator's counter
/// and targets against looking back; 46,428 of them can be examples.
#[test]
fn counts_and_targets_match_the_oracle_on_every_short_string() {
    let language = small(6);
    let everything =
        [Occurrences::Global, Occurrences::First, Occurrences::InContext, Occurrences::Output];
    let (mut counts, mut targets) = (Vec::new(), Vec::new());
    let mut n_cases = 0;
    for len in 1..=7_u32 {
        for code in 0..4_u32.pow(len) {
            let tokens: Vec<Token> =
                (0..len).map(|pos| (code / 4_u32.pow(pos) % 4) as Token).collect();
            for pair in [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]] {
                let output = |token: Token| {
                    let pos = tokens.iter().position(|&other| other == token)?;
                    tokens.get(pos + 1).copied()
                };
                let triggers = pair.map(|token| (token, output(token).unwrap_or(9)));
                // Only strings in which triggers keep their outputs.
                if oracle::is_valid(&tokens, &triggers, &Corpus::any_successor()).is_err() {
                    continue;
                }
                let triggers = triggers.map(|(token, output)| Trigger { token, output });
                let expected = oracle::answers(&tokens, &pair);
                language.occurrences(&tokens, &triggers, &mut counts);
                let count_at = |pos: usize| {
                    expected.iter().find(|answer| answer.query_pos == pos).map_or(0, |a| a.count)
                };
                assert!((0..tokens.len() - 1).all(|pos| counts[pos] as usize == count_at(pos)));
                for scored in everything {
                    let language = Bigram { scored, ..language.clone() };
                    language.targets(&tokens, &triggers, &mut targets);
                    let places: Vec<usize> =
                        targets.iter().map(|target| target.query_pos as usize).collect();
                    let held: Vec<usize> = (0..tokens.len() - 1)
                        .filter(|&pos| scored.holds(count_at(pos) as i32))
                        .collect();
                    assert_eq!(places, held, "{tokens:?} {pair:?} {scored:?}");
                    for target in &targets {
                        assert_eq!(target.answer, tokens[target.query_pos as usize + 1]);
                    }
                }
                language.targets(&tokens, &triggers, &mut targets);
                let got: Vec<_> = targets
                    .iter()
                    .map(|to| (to.query_pos as usize, (to.write_pos as usize, to.answer)))
                    .collect();
                let seen: Vec<_> = expected
                    .iter()
                    .filter_map(|answer| Some((answer.query_pos, answer.seen?)))
                    .collect();
                assert_eq!(got, seen, "{tokens:?} {pair:?}");
                n_cases += 1;
            }
        }
    }
    assert_eq!(n_cases, 46_428);
}

impl Corpus {
    /// Four characters, each of which follows each.
    fn any_successor() -> Self {
        Self::from_text("aabacadbbcbdccdda").unwrap()
    }
}

/// The probability of every example, by the definition: all orders in which triggers can be drawn,
/// all outputs they can have, and the chain.
fn probabilities(language: &Bigram) -> BTreeMap<Vec<Token>, f64> {
    let mut settings = vec![(BTreeMap::new(), 1.0)];
    let corpus = &language.corpus;
    let tokens = 0..language.d_vocab() as Token;
    for k in 0..language.n_triggers {
        let mut longer = Vec::new();
        for (chosen, p) in settings {
            let taken: f64 = chosen.keys().map(|&token| corpus.p_unigram(token)).sum();
            for token in tokens.clone().filter(|token| !chosen.contains_key(token)) {
                let p_token = match language.triggers {
                    Triggers::Random => corpus.p_unigram(token) / (1.0 - taken),
                    Triggers::Fixed => {
                        f64::from(u8::from(language.fixed_triggers()[k as usize] == token))
                    }
                };
                let weight = |output: Token| match language.outputs {
                    _ if language.no_repeat && output == token => 0.0,
                    Outputs::Uniform => 1.0,
                    Outputs::Bigram => corpus.p_bigram(token, output),
                };
                let total: f64 = tokens.clone().map(weight).sum();
                for output in tokens.clone().filter(|_| p_token > 0.0) {
                    let mut chosen = chosen.clone();
                    chosen.insert(token, output);
                    longer.push((chosen, p * p_token * weight(output) / total));
                }
            }
        }
        settings = longer;
    }
    let mut law = BTreeMap::new();
    for (chosen, p) in settings {
        let mut strings: Vec<(Vec<Token>, f64)> =
            tokens.clone().map(|token| (vec![token], p * corpus.p_unigram(token))).collect();
        for _ in 0..language.seq_len {
            let mut longer = Vec::new();
            for (string, p) in strings {
                let token = string[string.len() - 1];
                for next in tokens.clone() {
                    let p_next = match chosen.get(&token) {
                        Some(&output) => f64::from(u8::from(output == next)),
                        None => corpus.p_bigram(token, next),
                    };
                    if p * p_next > 0.0 {
                        longer.push(([string.as_slice(), &[next]].concat(), p * p_next));
                    }
                }
            }
            strings = longer;
        }
        for (string, p) in strings {
            *law.entry(string).or_insert(0.0) += p;
        }
    }
    law
}

/// Every example of five tokens occurs as often as its probability says, and nothing else does.
///
/// Chi-square over the strings expected at least five times (fewer in one class); its distance
/// from its mean, in standard deviations, is exceeded by 6 once in about 10^7 of the fixed streams
/// (the chi-square law with a hundred degrees of freedom and more is a little wider than a normal
/// one), in ten settings once in 10^6.
#[test]
fn every_short_example_occurs_as_often_as_its_probability_says() {
    let stream = Stream::root(8).derive("chi-square");
    let n_examples = 60_000;
    for (idx, (triggers, n_triggers, offset)) in (0..).zip(SETTINGS) {
        for (outputs, no_repeat) in [(Outputs::Uniform, false), (Outputs::Bigram, true)] {
            let setting = Bigram { triggers, n_triggers, offset, ..small(4) };
            let language = Bigram { outputs, no_repeat, ..setting };
            assert_eq!(language.check(), []);
            let law = probabilities(&language);
            assert!((law.values().sum::<f64>() - 1.0).abs() < 1e-9);
            let mut counts: BTreeMap<&[Token], u32> = BTreeMap::new();
            let mut batch = vec![0; n_examples * language.n_tokens()];
            language.batch_into(&stream.child(idx), 0, &mut batch);
            for tokens in batch.chunks(language.n_tokens()) {
                *counts.entry(tokens).or_default() += 1;
            }
            assert!(counts.keys().all(|&tokens| law.contains_key(tokens)));
            let (mut chi_square, mut n_classes) = (0.0, 0);
            let (mut rare, mut n_rare) = (0.0, 0.0);
            let mut class = |expected: f64, got: f64| {
                chi_square += (got - expected).powi(2) / expected;
                n_classes += 1;
            };
            for (tokens, p) in &law {
                let expected = p * n_examples as f64;
                let got = f64::from(counts.get(tokens.as_slice()).copied().unwrap_or(0));
                if expected < 5.0 {
                    (rare, n_rare) = (rare + expected, n_rare + got);
                } else {
                    class(expected, got);
                }
            }
            if rare > 5.0 {
                class(rare, n_rare);
            }
            let freedom = f64::from(n_classes - 1);
            let distance = (chi_square - freedom) / (2.0 * freedom).sqrt();
            assert!(n_classes > 80 && distance < 6.0, "{language:?}: {distance} of {n_classes}");
        }
    }
}

#[test]
fn held_out_outputs_are_never_seen_in_training() {
    let language = |output_split| Bigram { output_split, ..Bigram::paper(5) };
    let (train, test) = (language(OutputSplit::Train), language(OutputSplit::Test));
    assert_eq!((train.output_tokens(), test.output_tokens()), (0..48, 48..65));
    let stream = Stream::root(4);
    let drawn = |language: &Bigram| -> std::collections::BTreeSet<Token> {
        let triggers = (0..400).flat_map(|index| language.triggers_at(&mut stream.at(index)));
        triggers.map(|trigger| trigger.output).collect()
    };
    // 2,000 outputs: that one of 48 is missing happens once in 10^16 streams.
    assert!(drawn(&train).into_iter().eq(0..48));
    assert!(drawn(&test).into_iter().eq(48..65));
    let repeats = |no_repeat| {
        let language = Bigram { no_repeat, ..Bigram::paper(5) };
        let triggers = (0..400).flat_map(|index| language.triggers_at(&mut stream.at(index)));
        triggers.filter(|trigger| trigger.token == trigger.output).count()
    };
    // One in 65 of 2,000: none of them by chance once in 10^13 streams.
    assert!(repeats(false) > 0);
    assert_eq!(repeats(true), 0);
}

#[test]
fn a_batch_is_its_examples_and_no_index_wraps_around() {
    let language = Bigram::paper(3);
    let stream = Stream::root(1);
    let mut batch = vec![0; 4 * language.n_tokens()];
    language.batch_into(&stream, 10, &mut batch);
    let task = crate::Task::Bigram(language.clone());
    for (index, tokens) in (10..).zip(batch.chunks(language.n_tokens())) {
        assert_eq!(tokens, task.example(&stream, index));
    }
    let mut one = vec![0; language.n_tokens()];
    language.batch_into(&stream, u64::MAX - 1, &mut one);
    assert_eq!(one, task.example(&stream, u64::MAX - 1));
    let past_the_end = || language.batch_into(&stream, u64::MAX, &mut vec![0; 257]);
    assert!(std::panic::catch_unwind(past_the_end).is_err());
}

#[test]
fn a_language_is_stored_with_every_field() {
    let json = r#"{"corpus":"tiny-shakespeare","seq_len":256,"triggers":"random","n_triggers":5,"offset":0,"outputs":"uniform","output_split":"all","no_repeat":false,"scored":"in_context"}"#;
    assert_eq!(serde_json::to_string(&Bigram::paper(5)).unwrap(), json);
    assert_eq!(serde_json::from_str::<Bigram>(json).unwrap(), Bigram::paper(5));
    let task = crate::Task::Bigram(small(4));
    let json = serde_json::to_string(&task).unwrap();
    assert!(json.starts_with(r#"{"name":"bigram","corpus":{"characters":"abcd""#), "{json}");
    assert_eq!(serde_json::from_str::<crate::Task>(&json).unwrap(), task);
}

/// The triggers come first, then the same example as without them, as far as it fits.
#[test]
fn shown_triggers_stand_before_the_sequence_and_take_its_last_places() {
    let stream = Stream::root(12).derive("latents");
    for (triggers, n_triggers, offset) in SETTINGS {
        let plain = Bigram { triggers, offset, ..Bigram::paper(n_triggers) };
        let shown = Bigram { show_latents: true, ..plain.clone() };
        let n_latents = n_triggers as usize;
        assert_eq!((shown.n_tokens(), plain.n_latents(), shown.n_latents()), (257, 0, n_latents));
        for index in 0..20 {
            let [mut with, mut without] = [vec![0; 257], vec![0; 257]];
            shown.generate_into(&mut stream.at(index), &mut with);
            plain.generate_into(&mut stream.at(index), &mut without);
            let pairs = plain.triggers_at(&mut stream.at(index));
            assert_eq!(shown.triggers_at(&mut stream.at(index)), pairs);
            let tokens: Vec<Token> = pairs.iter().map(|pair| pair.token).collect();
            assert_eq!(with[..n_latents], tokens);
            assert_eq!(with[n_latents..], without[..257 - n_latents]);
            let (mut counts, mut expected) = (Vec::new(), Vec::new());
            shown.occurrences(&with, &pairs, &mut counts);
            plain.occurrences(&without, &pairs, &mut expected);
            assert!(counts[..n_latents].iter().all(|&count| count == -1));
            assert_eq!(counts[n_latents..], expected[..257 - n_latents]);
        }
    }
}

/// Every place of the sequence is in the set of its count, and no shown trigger is in any.
#[test]
fn shown_triggers_belong_to_no_set_of_positions() {
    let stream = Stream::root(12).derive("sets");
    let mut targets = Vec::new();
    for index in 0..20 {
        let mut n_places = 0;
        for scored in [Occurrences::Global, Occurrences::Output] {
            let language = Bigram { show_latents: true, scored, ..Bigram::paper(5) };
            let mut tokens = vec![0; language.n_tokens()];
            language.generate_into(&mut stream.at(index), &mut tokens);
            let triggers = language.triggers_at(&mut stream.at(index));
            language.targets(&tokens, &triggers, &mut targets);
            assert!(targets.iter().all(|to| to.query_pos >= 5 && to.write_pos >= 5));
            n_places += targets.len();
        }
        assert_eq!(n_places, 256 - 5);
    }
}

/// What a flag in place of the counter would score is what counts of 1 and more are.
#[test]
fn a_flag_in_place_of_the_counter_scores_every_output_and_nothing_in_context() {
    for count in -1..9 {
        let flag = count.min(1);
        assert_eq!(Occurrences::Output.holds(flag), Occurrences::Output.holds(count));
        assert_eq!(Occurrences::Global.holds(flag), Occurrences::Global.holds(count));
        assert!(!Occurrences::InContext.holds(flag));
    }
}

/// What is off is not stored, so a language has the form it had before there was the option.
#[test]
fn a_language_that_shows_its_triggers_says_so_and_no_other_does() {
    let shown = Bigram { show_latents: true, ..Bigram::paper(5) };
    let json = serde_json::to_string(&shown).unwrap();
    assert!(json.ends_with(r#""scored":"in_context","show_latents":true}"#), "{json}");
    assert_eq!(serde_json::from_str::<Bigram>(&json).unwrap(), shown);
    let json = json.replace("true}", "false}");
    assert_eq!(serde_json::from_str::<Bigram>(&json).unwrap(), Bigram::paper(5));
}
