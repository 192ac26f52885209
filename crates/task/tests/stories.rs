//! Files of stories and of what was said to them, and the automaton against its oracle.

#![expect(clippy::unwrap_used, reason = "in a test a failure is a panic")]

use std::fs;

use mnemoscope_task::story::{Said, Stories, Story};
use mnemoscope_task::{Automaton, ErrorKind, Task, Token, file, oracle, split};

fn set() -> Stories {
    Stories { seq_lens: vec![8, 12], n_per_len: 20, ..Stories::paper() }
}

#[test]
fn stories_are_read_back_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stories.jsonl");
    let provenance = file::write_stories(&path, &set(), 7).unwrap();
    assert_eq!(file::read_stories(&path).unwrap(), set().stories(7).collect::<Vec<_>>());
    let content = blake3::hash(&fs::read(&path).unwrap());
    assert_eq!(provenance.content_blake3, content.to_hex().as_str());
    let beside = fs::read_to_string(folder.path().join("stories.jsonl.meta.json")).unwrap();
    assert_eq!(serde_json::from_str::<file::StoryProvenance>(&beside).unwrap(), provenance);
    assert_eq!(provenance.stories, set());
}

#[test]
fn the_line_of_a_story_with_a_field_added_is_an_output() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("said.jsonl");
    let stories: Vec<Story> = set().stories(0).collect();
    let line = |story: &Story| {
        let mut line = serde_json::to_value(story).unwrap();
        line["generated"] = story.answer.clone().into();
        line.to_string() + "\n"
    };
    // In another order than the stories: the ids count.
    fs::write(&path, stories.iter().rev().map(line).collect::<String>()).unwrap();
    let said = file::read_outputs(&path, &stories).unwrap();
    let expected: Vec<Said> =
        stories.iter().map(|story| Said::Generated(story.answer.clone())).collect();
    assert_eq!(said, expected);
}

/// The outputs in these lines to two stories are refused, in these words after the file's name.
#[track_caller]
fn check(lines: &[&str], expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("said.jsonl");
    let stories: Vec<Story> = set().stories(0).take(2).collect();
    fs::write(&path, lines.join("\n")).unwrap();
    let error = file::read_outputs(&path, &stories).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let message = error.to_string();
    assert_eq!(message.split_once("said.jsonl: ").unwrap().1, expected);
}

#[test]
fn missing_double_and_unknown_ids_are_named_together() {
    let on = r#"{"id":"s0-t8-0","generated":" on"}"#;
    check(
        &[on, on, r#"{"id":"s1-t8-0","generated":" on"}"#],
        "its ids are not those of the 2 stories, each once; 1 missing: s0-t8-1; 1 there twice: \
         s0-t8-0; 1 of no story: s1-t8-0",
    );
}

#[test]
fn a_line_that_is_no_output_is_named_with_what_to_do() {
    check(
        &[r#"{"id":"s0-t8-0","logprobs":{"on":-1,"off":-2}}"#],
        "line 1: the logprobs of s0-t8-0 are of [\"off\", \"on\"]; give one for each of [\" on\", \
         \" off\"], the spaces included",
    );
    check(
        &[r#"{"id":"s0-t8-0","generated":"a","logprobs":{}}"#],
        "line 1: s0-t8-0 has both logprobs and generated; give one of the two",
    );
    check(
        &[r#"{"id":"s0-t8-0"}"#],
        "line 1: s0-t8-0 has neither logprobs, such as {\" on\": -0.1, \" off\": -2.4}, nor \
         generated, such as \" on.\"",
    );
    check(
        &[r#"{"generated":" on"}"#],
        "line 1: it is no output: missing field `id` at line 1 column 19",
    );
}

#[test]
fn a_damaged_file_of_stories_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stories.jsonl");
    let refused = |text: &str| {
        fs::write(&path, text).unwrap();
        file::read_stories(&path).unwrap_err().to_string()
    };
    let story = serde_json::to_string(&set().story(0, 8, 0)).unwrap();
    let twice = refused(&format!("{story}\n{story}\n"));
    assert!(twice.ends_with("line 2: story s0-t8-0 stood in line 1 already; keep one"), "{twice}");
    let other = refused(&story.replace(" off\"]", " dark\"]"));
    assert!(other.contains("line 1: the options of story s0-t8-0 are not"), "{other}");
    assert!(refused("").ends_with("it holds no story; generate it again"));
}

/// Every string of the automaton of up to 9 tokens: 29,523 of them. The states that run forward are
/// those that looking back finds, and a write is where the target says it is.
#[test]
fn the_automaton_and_its_oracle_agree_on_every_short_string() {
    let language = Automaton { first_write: false, ..Automaton::paper() };
    let mut targets = Vec::new();
    let mut n_strings = 0;
    for len in 1..=9 {
        for code in 0..3_u32.pow(len) {
            let tokens: Vec<Token> =
                (0..len).map(|pos| (code / 3_u32.pow(pos) % 3) as Token).collect();
            language.targets(&tokens, &mut targets);
            let answers: Vec<Token> = targets.iter().map(|target| target.answer).collect();
            assert_eq!(answers, oracle::states(&tokens), "{tokens:?}");
            for (pos, target) in targets.iter().enumerate() {
                assert_eq!(target.query_pos as usize, pos);
                let written = tokens[target.write_pos as usize];
                assert!(written == target.answer || target.write_pos as usize == pos);
            }
            n_strings += 1;
        }
    }
    assert_eq!(n_strings, 29_523);
}

#[test]
fn a_file_of_the_automaton_holds_its_tokens_and_says_that_it_is_not_validated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("automaton.txt");
    let task = Task::Automaton(Automaton { seq_len: 12, ..Automaton::paper() });
    let source = file::Source {
        task: task.clone(),
        seed: 0,
        split: "val".to_owned(),
        first_index: 0,
        n_examples: 3,
    };
    file::write(&path, file::Format::Text, &source).unwrap();
    let written = fs::read_to_string(&path).unwrap();
    let stream = split::eval_stream(0, "val");
    let expected: String =
        (0..3).map(|index| task.line(&task.example(&stream, index)) + "\n").collect();
    assert_eq!(written, expected);
    assert!(written.bytes().all(|letter| b"-01\n".contains(&letter)), "{written}");
    let error = file::validate(&path, file::Format::Text, 2).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "it holds 3 examples of the flip-flop automaton (seq_len 12), and its states do not \
             stand in the file, so only flip-flop files in tokens can be validated; generate it again (stream \
             val, seed 0, first index 0) and compare content_blake3 in the two provenances"
        ),
        "{error}"
    );
}

/// An address of the automaton is a format: this example is drawn by every release.
#[test]
fn an_example_of_the_automaton_is_pinned() {
    let task = Task::Automaton(Automaton { seq_len: 70, ..Automaton::paper() });
    let tokens = task.example(&split::train_stream(0), 3);
    let pinned = "1----00-0--1-001--0----1--01-1--01--0-10---1-1011-11-10----1-1-1010000";
    assert_eq!(task.line(&tokens), pinned);
}
