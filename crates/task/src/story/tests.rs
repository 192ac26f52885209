//! Stories against the oracle on every short string, and what models may say to them.

use super::*;
use crate::oracle as looking_back;

/// Every example of `n_ops` instructions: each free instruction and each free bit in turn.
fn strings(n_ops: u32) -> Vec<Vec<Token>> {
    // A digit for each pair says which of w0, w1, r, i0, i1 it is; the ends are forced.
    let mut all = Vec::new();
    for code in 0..5_u32.pow(n_ops) {
        let kinds: Vec<u32> = (0..n_ops).map(|op| code / 5_u32.pow(op) % 5).collect();
        if kinds[0] > 1 || *kinds.last().unwrap() != 2 {
            continue;
        }
        let mut stored = 0;
        let mut tokens = Vec::new();
        for kind in kinds {
            let (op, bit) = match kind {
                0 | 1 => (0, kind),
                2 => (1, stored),
                _ => (2, kind - 3),
            };
            if op == 0 {
                stored = bit;
            }
            tokens.extend([op, 3 + bit as Token]);
        }
        all.push(tokens);
    }
    all
}

/// Words of every kind: both fruits, both ways with reads, nothing and something between sentences.
fn wordings() -> Vec<Wording> {
    let mut all = Vec::new();
    for fruit_of_0 in [Fruit::Banana, Fruit::Apple] {
        for inner_reads in [InnerReads::Told, InnerReads::Omitted] {
            for (header, joint, query) in [
                ("Transcript of events:", "Then,", "Now, the light is"),
                ("", "", "The light is turned"),
            ] {
                let [header, joint, query] = [header, joint, query].map(str::to_owned);
                all.push(Wording { header, joint, fruit_of_0, inner_reads, query });
            }
        }
    }
    all
}

/// 1,250 strings of up to 6 instructions in 8 wordings. The light that the words tell of is what looking
/// back in the tokens gives, and the distance is the number of sentences where none is left out.
#[test]
fn the_words_and_the_tokens_have_one_answer_on_every_short_string() {
    let mut n_strings = 0;
    for tokens in (2..=6).flat_map(strings) {
        n_strings += 1;
        let (query_pos, answer) = *looking_back::answers(&tokens).last().unwrap();
        assert_eq!(query_pos, tokens.len() - 2);
        let expected = if answer == Some(4) { "on" } else { "off" };
        let (distance_ops, option) = last_read(&tokens);
        assert_eq!(option.trim_start(), expected);
        for wording in wordings() {
            let told = wording.tell(&tokens);
            assert_eq!(oracle::light(&told), Some(expected), "{told}");
            if wording.inner_reads == InnerReads::Told {
                assert_eq!(oracle::n_sentences_back(&told), Some(distance_ops as usize), "{told}");
            }
        }
    }
    assert_eq!(n_strings, 2 * (1 + 5 + 25 + 125 + 625));
}

/// The words are all there is: the string can be read back from them, but for the last answer.
#[test]
fn a_story_tells_its_whole_string() {
    for tokens in (2..=5).flat_map(strings) {
        for wording in wordings() {
            let told = wording.tell(&tokens);
            let body = told.strip_prefix(&wording.header).unwrap().trim_start();
            let body = body.strip_suffix(&wording.query).unwrap();
            let (zero, one) = match wording.fruit_of_0 {
                Fruit::Banana => ("i0", "i1"),
                Fruit::Apple => ("i1", "i0"),
            };
            let on = format!("{} on.", wording.query);
            let off = format!("{} off.", wording.query);
            let back = body
                .replace("Then, ", "")
                .replace("Alice turns the light on.", "w1")
                .replace("Alice turns the light off.", "w0")
                .replace("Bob eats a banana.", zero)
                .replace("Bob eats an apple.", one)
                .replace(&on, "r1")
                .replace(&off, "r0")
                .replace(' ', "");
            let pairs = tokens.chunks(2).take(tokens.len() / 2 - 1);
            let kept = pairs.filter(|pair| pair[0] != 1 || wording.inner_reads == InnerReads::Told);
            assert_eq!(back, kept.map(text::to_text).collect::<String>(), "{told}");
        }
    }
}

#[test]
fn a_demonstration_stands_before_the_story_and_moves_nothing() {
    let with = Stories { seq_lens: vec![10], ..Stories::paper() };
    let without = Stories { n_shots: 0, ..with.clone() };
    let two = Stories { n_shots: 2, ..with.clone() };
    for index in 0..20 {
        let [plain, one, two] = [&without, &with, &two].map(|set| set.story(3, 10, index));
        assert_eq!((&plain.sequence, &plain.answer), (&one.sequence, &one.answer));
        let [first, second, last] = two.prompt.split("\n\n").collect::<Vec<_>>()[..] else {
            panic!("{}", two.prompt)
        };
        assert_eq!(last, plain.prompt);
        assert_eq!(one.prompt, format!("{first}\n\n{last}"));
        assert_ne!(first, second);
        // Eight sentences tell sixteen tokens, and the last of them is the answer.
        assert_eq!(first.matches('.').count(), 8, "{first}");
        let (story, said) = first.rsplit_once("Now, the light is ").unwrap();
        assert_eq!(oracle::light(story).map(|light| format!("{light}.")), Some(said.to_owned()));
    }
}

#[test]
fn a_set_has_so_many_stories_of_each_length_and_distinct_ids() {
    let set = Stories { n_per_len: 30, seq_lens: vec![50, 8], ..Stories::paper() };
    let stories: Vec<Story> = set.stories(0).collect();
    assert_eq!(stories.len() as u64, set.n_stories());
    let ids: std::collections::BTreeSet<&str> =
        stories.iter().map(|story| story.id.as_str()).collect();
    assert_eq!(ids.len(), 60);
    for story in &stories {
        assert_eq!(story.sequence.len(), story.seq_len as usize);
        assert!(story.sequence.ends_with(if story.answer == " on" { "r1" } else { "r0" }));
        assert_eq!(oracle::light(&story.prompt), Some(story.answer.trim_start()));
    }
    assert!(stories.iter().any(|story| story.answer == " on"));
    assert!(stories.iter().any(|story| story.answer == " off"));
}

#[test]
fn the_first_story_of_the_papers_set_stays_as_it_is() {
    let story = Stories::paper().story(0, 50, 0);
    insta::assert_snapshot!(serde_json::to_string_pretty(&story).unwrap());
}

#[test]
fn all_that_is_wrong_with_a_set_is_said_at_once() {
    let check = |set: Stories, expected: &[&str]| {
        let messages: Vec<String> =
            set.check().iter().map(|complaint| complaint.to_string()).collect();
        assert_eq!(messages, expected);
    };
    check(Stories::paper(), &[]);
    let paper = Stories::paper;
    let wording = |query: &str| Wording { query: query.to_owned(), ..Wording::paper() };
    check(
        Stories { wording: wording("The light is turned "), ..paper() },
        &[
            "query is \"The light is turned \", with a space at an end; leave it off: spaces between \
           sentences are added, and an option begins with one",
        ],
    );
    check(
        Stories { wording: wording(""), ..paper() },
        &["query is empty; say what is asked, such as \"Now, the light is\""],
    );
    check(
        Stories { wording: wording("Alice turns the light"), ..paper() },
        &["query is \"Alice turns the light\", which tells of a switch; use other words"],
    );
    check(
        Stories { p_ignore: 2.0, seq_lens: vec![7, 50, 50], n_per_len: 0, shot_len: 2, ..paper() },
        &[
            "p_ignore is 2; use a probability between 0 and 1",
            "n_per_len is 0; tell at least one story",
            "seq_lens has 50 twice; name it once",
            "seq_lens has 7; use even numbers of tokens from 4 up",
            "shot_len has 2; use even numbers of tokens from 4 up",
        ],
    );
    check(
        Stories { n_shots: 1 << 20, ..paper() },
        &[
            "a prompt would tell 16777416 tokens, at most 1048576 are allowed; use shorter or fewer \
           stories",
        ],
    );
    check(
        Stories { seq_lens: vec![], ..paper() },
        &["seq_lens is empty; name at least one length"],
    );
}

#[test]
fn what_a_model_says_chooses_an_option_or_none() {
    let check = |text: &str, expected: Option<&str>| {
        assert_eq!(Said::Generated(text.to_owned()).choice(), expected, "{text:?}");
    };
    check(" on", Some(" on"));
    check("on.", Some(" on"));
    check(" OFF, I think", Some(" off"));
    check("\n“off”", Some(" off"));
    check(" one", None);
    check(" offline", None);
    check(" the light is on", None);
    check("", None);
    check("...", None);
    let by = |on: f64, off: f64| Said::LogProbs([on, off]).choice();
    assert_eq!(by(-1.0, -2.0), Some(" on"));
    assert_eq!(by(-2.0, -1.0), Some(" off"));
    assert_eq!(by(-1.0, -1.0), None);
}

#[test]
fn scores_are_the_counts_of_each_length() {
    let set = Stories { seq_lens: vec![50, 8], n_per_len: 40, ..Stories::paper() };
    let stories: Vec<Story> = set.stories(0).collect();
    // Right but for every fourth story of 50 tokens, of which every second is not answered at all.
    let said: Vec<Said> = (0..)
        .zip(&stories)
        .map(|(place, story)| match (story.seq_len, place % 8) {
            (50, 0) => Said::Generated("?".to_owned()),
            (50, 4) => {
                Said::LogProbs(if story.answer == " on" { [-2.0, -1.0] } else { [-1.0, -2.0] })
            }
            _ => Said::Generated(story.answer.clone()),
        })
        .collect();
    let expected = [
        Score { seq_len: Some(8), n_trials: 40, n_errors: 0, n_unanswered: 0 },
        Score { seq_len: Some(50), n_trials: 40, n_errors: 10, n_unanswered: 5 },
    ];
    assert_eq!(score(&stories, &said), expected);
    assert!((expected[1].error_rate() - 0.25).abs() < 1e-12);
    // Clopper and Pearson for no error in 40: 1 - 0.025^(1/40).
    let interval = expected[0].interval(0.95);
    assert!(interval.low <= 0.0 && (interval.high - 0.088_097).abs() < 1e-6, "{interval:?}");
}
