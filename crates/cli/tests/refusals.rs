//! Bad input through the front door: one clear message, the exit code of the guide, nothing lost.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod door;

use std::fs;
use std::path::{Path, PathBuf};

use door::{Door, TINY};

/// Plans and runs `TINY` with other values (`a=1 b=2`) and checks what is said.
#[track_caller]
fn refuses(sets: &str, code: i32, expected: &str) {
    let door = Door::new();
    door.write("tiny.toml", TINY);
    for verb in ["plan", "run"] {
        let mut arguments = vec![verb, "tiny.toml", "--json"];
        arguments.extend(sets.split(' ').flat_map(|set| ["--set", set]));
        let said = door.run(&arguments).code(code);
        let words = said.words();
        assert!(words.contains(expected), "{sets}: {words}");
        assert_eq!(words.matches("error: ").count(), 1, "said once: {words}");
        assert_eq!(said.json()["error"]["exit_code"], code);
    }
    assert!(!door.path("runs").exists(), "{sets}: a refused spec leaves no record");
}

#[test]
fn every_mistake_of_a_spec_is_reported_at_once() {
    let door = Door::new();
    door.write("bad.toml", "[model]\nn_layer = 2\nd_model = 60\n\n[train]\nlr = -1\n");
    let said = door.run(&["run", "bad.toml", "--json"]).code(2);
    let complaints = said.json()["error"]["complaints"].clone();
    let complaints = complaints.as_array().unwrap();
    assert_eq!(complaints.len(), 3, "{complaints:?}");
    assert_eq!(complaints[0]["place"], "bad.toml:2:1");
    assert!(complaints[0]["message"].as_str().unwrap().contains("did you mean `n_layers`?"));
    let words = door.run(&["plan", "bad.toml"]).code(2);
    insta::assert_snapshot!(words.stderr());
}

#[test]
fn numbers_that_do_not_fit_are_refused_with_the_numbers() {
    refuses("task.p_write=0.4 task.p_read=0.4 task.p_ignore=0.4", 2, "not 1");
    refuses("task.p_write=0.4", 2, "give all three");
    refuses("task.seq_len=15", 2, "15");
    refuses("task.seq_len=2", 2, "2");
    refuses("model.n_layers=0", 2, "n_layers");
    refuses("model.d_model=15", 2, "divisible");
    refuses("model.n_layer=1", 2, "did you mean `n_layers`?");
    refuses("train.n_steps", 2, "--set");
}

#[test]
fn sizes_beyond_this_machine_are_refused_before_anything_is_allocated() {
    refuses("model.d_model=4194304", 4, "params, and this machine has");
    refuses("train.batch_size=4294967295", 4, "and this machine has");
}

#[test]
fn what_is_not_a_spec_is_not_taken_for_one() {
    let door = Door::new();
    door.write("broken.toml", "[model\n");
    fs::write(door.path("bytes.toml"), [0xff, 0xfe]).unwrap();
    for (file, expected) in [
        ("broken.toml", "not TOML"),
        ("bytes.toml", "byte 0 is not UTF-8"),
        ("nowhere.toml", "cannot read nowhere.toml"),
        (".", "cannot read ."),
    ] {
        let said = door.run(&["run", file]).code(2);
        assert!(said.words().contains(expected), "{file}: {}", said.words());
    }
}

#[test]
fn a_wrong_command_line_is_one_json_object_too() {
    let door = Door::new();
    for arguments in [&["fly"][..], &[], &["run"], &["generate", "flipflop", "--n", "many"]] {
        door.run(arguments).code(2);
    }
    let said = door.run(&["run", "--fast", "--json"]).code(2).json();
    assert_eq!(said["error"]["kind"], "usage");
    assert!(said["error"]["message"].as_str().unwrap().contains("--fast"));
    let both = door.run(&["generate", "flipflop", "--n", "1", "-o", "-", "--json"]).code(2);
    assert_eq!(both.json()["error"]["exit_code"], 2);
}

#[test]
fn examples_that_no_language_has_are_refused() {
    let door = Door::new();
    for (flags, code, expected) in [
        (&["--seq-len", "7", "-o", "a.txt"][..], 2, "seq_len is 7"),
        (&["--seq-len", "2", "-o", "a.txt"], 2, "seq_len is 2"),
        (&["--p-write", "0.4", "--p-read", "0.4", "-o", "a.txt"], 2, "not 1"),
        (&["--n-symbols", "1", "-o", "a.txt"], 2, "n_symbols is 1"),
        (&["--p-ignore", "0.8,0.9", "-o", "a.txt"], 2, "generate mixture"),
        (&["-o", "a.csv"], 2, "use .jsonl, .parquet, .npy or .txt"),
        (&["--first", "18446744073709551615", "-o", "-"], 2, "pass the last index"),
        (&["-o", "nowhere/a.txt"], 4, "cannot write in nowhere"),
    ] {
        let said = door.run(&[&["generate", "flipflop", "--n", "2"], flags].concat()).code(code);
        assert!(said.words().contains(expected), "{flags:?}: {}", said.words());
        assert!(!door.path("a.txt").exists());
    }
}

#[test]
fn bigrams_that_no_text_gives_are_refused() {
    let door = Door::new();
    door.write("empty.txt", "");
    door.write("one.txt", "aaaa");
    door.write("two.txt", "abab\na");
    fs::write(door.path("bytes.txt"), *b"a\xff").unwrap();
    for (flags, code, expected) in [
        (&["--corpus", "empty.txt"][..], 2, "the corpus is empty"),
        (&["--corpus", "one.txt"], 2, "no character but `a`"),
        (&["--corpus", "bytes.txt"], 3, "byte 1 is not text in UTF-8"),
        (&["--corpus", "nowhere.txt"], 4, "cannot read nowhere.txt"),
        (&["--n-triggers", "66"], 2, "the corpus has 65 tokens; use at most 65"),
        (&["--triggers", "fixed", "--offset", "65"], 2, "leaves none of the 65 tokens"),
        (&["--offset", "1"], 2, "only fixed triggers have one"),
        (
            &["--corpus", "two.txt", "--n-triggers", "1", "--output-split", "test", "--no-repeat"],
            2,
            "no output is left for the trigger `b`",
        ),
        (&["--p-ignore", "0.8"], 2, "--p-ignore belongs to flipflop and mixture"),
    ] {
        let arguments = [&["generate", "bigram", "--n", "2", "-o", "a.txt"], flags].concat();
        let said = door.run(&arguments).code(code);
        assert!(said.words().contains(expected), "{flags:?}: {}", said.words());
        assert_eq!(said.words().matches("error: ").count(), 1, "said once: {}", said.words());
        assert!(!door.path("a.txt").exists());
    }
    let stray = ["generate", "flipflop", "--n", "2", "-o", "a.txt", "--no-repeat"];
    let said = door.run(&stray).code(2);
    assert!(
        said.words().contains("--no-repeat belongs to the bigram language"),
        "{}",
        said.words()
    );
}

#[test]
fn a_flag_of_another_language_and_stories_that_cannot_be_told_are_refused() {
    let door = Door::new();
    let stories = ["stories", "-o", "a.jsonl"];
    for (flags, expected) in [
        (&["flipflop", "-o", "a.jsonl"][..], "the following required arguments were not provided"),
        (&["flipflop", "--n", "2", "-o", "a.txt", "--shots", "1"], "--shots belongs to stories"),
        (&["bigram", "--n", "2", "-o", "a.txt", "--free-start"], "belongs to the automaton"),
        (&["automaton", "--n", "2", "-o", "a.txt", "--n-symbols", "4"], "flipflop and mixture"),
        (&["automaton", "--n", "2", "-o", "a.txt", "--p-ignore", "0.1,0.2"], "one --p-ignore"),
        (&[&stories[..], &["--first", "3"]].concat(), "--first belongs to all but stories"),
        (&[&stories[..], &["--lengths", "7"]].concat(), "use even numbers of tokens from 4 up"),
        (&[&stories[..], &["--query", "is it "]].concat(), "with a space at an end"),
        (&["stories", "-o", "a.parquet"], "stories are JSON lines; give a.parquet the ending"),
    ] {
        let said = door.run(&[&["generate"], flags].concat()).code(2);
        assert!(said.words().contains(expected), "{flags:?}: {}", said.words());
    }
    let said = door.run(&["score", "a.jsonl", "b.jsonl", "--confidence", "1"]).code(2);
    assert!(said.words().contains("--confidence is 1; use a number"), "{}", said.words());
    let said = door.run(&["score", "nowhere.jsonl", "b.jsonl"]).code(4);
    assert!(said.words().contains("cannot read nowhere.jsonl"), "{}", said.words());
}

#[test]
fn a_store_or_run_that_is_not_there_is_named() {
    let door = Door::new();
    let said = door.run(&["runs"]).code(2);
    assert!(said.words().contains("there is no store at ./runs"), "{}", said.words());
    fs::create_dir(door.path("runs")).unwrap();
    assert!(door.run(&["runs"]).code(0).stdout().starts_with("No runs in ./runs"));
    assert!(door.run(&["show", "latest"]).code(2).words().contains("holds no runs yet"));
    door.write("tiny.toml", TINY);
    door.run(&["run", "tiny.toml"]).code(0);
    assert!(door.run(&["show", "zz"]).code(2).words().contains("no run matches `zz`"));
    assert!(
        door.run(&["eval", "latest", "--set", "vall"]).code(2).words().contains("no set `vall`")
    );
    assert!(door.run(&["runs", "--where", "sealed"]).code(2).words().contains("compares nothing"));
}

#[test]
fn a_store_that_cannot_be_written_is_the_machines_refusal() {
    let door = Door::new();
    door.write("tiny.toml", TINY);
    door.write("file", "in the way");
    let said = door.run(&["run", "tiny.toml", "--store", "file"]).code(4);
    assert!(said.words().contains("the store file cannot be written"), "{}", said.words());
    assert!(said.words().contains("because: "), "{}", said.words());
    door.run(&["doctor", "--store", "file"]).code(4);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_standard_output_is_not_a_success() {
    let door = Door::new();
    for arguments in
        [&["spec"][..], &["gallery", "--json"], &["generate", "flipflop", "--n", "100", "-o", "-"]]
    {
        let said = door.run_into(arguments, Path::new("/dev/full")).code(4);
        assert!(said.words().contains("cannot write to standard output"), "{}", said.words());
    }
}

/// A run with every kind of file, and where its record lies.
fn recorded() -> (Door, PathBuf) {
    let door = Door::new();
    door.write("tiny.toml", TINY);
    let run = door.run(&["run", "tiny.toml", "--json"]).code(0).json();
    let record = door.path("runs").join(run["run"].as_str().unwrap());
    (door, record)
}

/// Flips one bit in the middle of a file.
fn flip_bit(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn checkpoint_of(record: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> = fs::read_dir(record.join("checkpoints"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files.pop().unwrap()
}

#[test]
fn damaged_events_are_found_and_the_run_stays_in_the_list() {
    let (door, record) = recorded();
    flip_bit(&record.join("events.jsonl"));
    let said = door.run(&["show", "latest", "--json"]).code(3);
    assert_eq!(said.json()["error"]["kind"], "corrupt");
    assert!(said.words().contains("is damaged at event"), "{}", said.words());
    let listed = door.run(&["runs", "--json"]).code(0).json();
    assert_eq!(listed["runs"][0]["status"], "damaged");
    assert!(door.run(&["runs"]).code(0).stdout().contains("Damaged\n"));
    door.run(&["run", "tiny.toml"]).code(3);
    door.run(&["doctor"]).code(3);
}

#[test]
fn a_damaged_or_cut_checkpoint_is_found_before_it_is_used() {
    let (door, record) = recorded();
    let checkpoint = checkpoint_of(&record);
    let whole = fs::read(&checkpoint).unwrap();
    flip_bit(&checkpoint);
    for arguments in
        [&["eval", "latest"][..], &["replay", "latest"], &["show", "latest", "--verify"]]
    {
        let said = door.run(arguments).code(3);
        assert!(said.all().contains("damaged"), "{arguments:?}: {}", said.all());
    }
    fs::write(&checkpoint, &whole[..whole.len() / 2]).unwrap();
    door.run(&["eval", "latest"]).code(3);
    fs::remove_file(&checkpoint).unwrap();
    door.run(&["eval", "latest"]).code(3);
    fs::write(&checkpoint, &whole).unwrap();
    door.run(&["eval", "latest"]).code(0);
}

#[test]
fn a_damaged_glitch_file_is_not_replayed() {
    let (door, record) = recorded();
    let names = fs::read_dir(record.join("glitches")).unwrap();
    for name in names {
        flip_bit(&name.unwrap().path());
    }
    door.run(&["replay", "latest"]).code(3);
    door.write("other.json", "{}");
    door.run(&["replay", "other.json"]).code(3);
}

#[test]
fn a_record_of_a_newer_format_is_refused_with_both_numbers() {
    let (door, record) = recorded();
    let path = record.join("record.json");
    // What a later release would write: the same envelope, whole, with a higher number.
    let text = fs::read_to_string(&path).unwrap();
    let (_, covered) = text.split_once(r#"","#).unwrap();
    assert!(covered.contains(r#""major":1"#), "{text}");
    let covered = covered.replace(r#""major":1"#, r#""major":99"#);
    let sum = blake3::hash(covered.as_bytes());
    fs::write(&path, format!("{{\"blake3\":\"{sum}\",{covered}")).unwrap();
    let said = door.run(&["show", "latest", "--json"]).code(3);
    let words = said.words();
    assert_eq!(said.json()["error"]["kind"], "incompatible", "{words}");
    assert!(words.contains("format 99.0") && words.contains("reads 1"), "{words}");
}

/// Also where the build knows such devices: there is no such number of them.
#[test]
fn a_device_that_is_not_there_is_one_sentence() {
    let door = Door::new();
    for device in ["cuda:77", "vulkan:77", "metal:77"] {
        let refused = door.run(&["demo", "--device", device, "--json"]).code(4).json();
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(message.contains(device) || message.contains("driver"), "{message}");
    }
    let unknown = door.run(&["demo", "--device", "gpu"]).code(2);
    assert!(unknown.stderr().contains("say cpu, cuda:0, vulkan:0 or metal:0"));
}
