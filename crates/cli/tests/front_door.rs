//! The built command, from outside: every verb, every exit code, every bad input of a person.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod door;

use std::fs;

use door::{Door, TINY};
use serde_json::Value;

#[test]
fn the_default_spec_is_a_spec() {
    let door = Door::new();
    let spec = door.run(&["spec"]).code(0).stdout();
    fs::write(door.path("default.toml"), &spec).unwrap();
    let plan = door.run(&["plan", "default.toml", "--json"]).code(0).json();
    assert_eq!(plan["plans"].as_array().unwrap().len(), 1);
    assert_eq!(plan["plans"][0]["n_params"], 19_170_309);
    assert_eq!(door.run(&["spec", "--json"]).code(0).json()["spec"], spec);
}

#[test]
fn every_table_has_a_json_twin_and_a_quiet_one() {
    let door = Door::new();
    door.write("tiny.toml", TINY);
    door.run(&["run", "tiny.toml"]).code(0);
    for verb in [
        &["gallery"][..],
        &["gallery", "flipflop"],
        &["generate", "stories", "--n", "2", "-o", "stories.jsonl"],
        &["spec"],
        &["plan", "tiny.toml"],
        &["run", "tiny.toml"],
        &["runs"],
        &["show", "latest"],
        &["eval", "latest"],
        &["glitches", "latest"],
        &["probe", "latest"],
        &["replay", "latest"],
        &["generate", "flipflop", "--n", "3", "-o", "a.jsonl"],
    ] {
        let page = door.run(verb).code(0).stdout();
        assert!(page.ends_with('\n') && !page.trim().is_empty(), "{verb:?}: {page}");
        for line in page.lines().filter(|_| verb != ["spec"]) {
            assert!(line.chars().count() <= 80, "{verb:?}: {line}");
        }
        let said = door.run(&[verb, &["--json"]].concat()).code(0);
        assert!(said.json().is_object(), "{verb:?}");
        assert!(!said.stderr().is_empty(), "people's words are beside it: {verb:?}");
        let hushed = door.run(&[verb, &["--json", "--quiet"]].concat()).code(0);
        assert!(hushed.json().is_object() && hushed.stderr().is_empty(), "{verb:?}");
        assert!(door.run(&[verb, &["--quiet"]].concat()).code(0).stderr().is_empty());
    }
}

#[test]
fn a_run_is_recorded_shown_measured_again_and_never_run_twice() {
    let door = Door::new();
    door.write("tiny.toml", TINY);
    let first = door.run(&["run", "tiny.toml", "--json"]).code(0).json();
    let id = first["run"].as_str().unwrap();
    assert_eq!(first["status"], "sealed");
    assert!(door.path("runs").join(id).join("result.json").is_file());
    let second = door.run(&["run", "tiny.toml", "--json"]).code(0);
    assert!(second.stderr().contains("was done before"), "{}", second.stderr());
    assert_eq!(second.json(), first);
    let shown = door.run(&["show", &id[..6], "--json", "--verify"]).code(0).json();
    for key in ["run", "plan", "status", "train", "model", "eval", "checkpoint"] {
        assert_eq!(shown[key], first[key], "{key}");
    }
    assert_eq!(door.run(&["eval", "latest", "--json"]).code(0).json()["agrees"], true);
    let fresh = door.run(&["eval", id, "--eval-seed", "9", "--json"]).code(0).json();
    assert_eq!(fresh["agrees"], Value::Null);
    assert_eq!(door.run(&["runs", "-q"]).code(0).stdout().trim(), id);
    for (condition, n_runs) in [
        ("model.n_layers=2", 1),
        ("model.n_layers=3", 0),
        ("status=sealed", 1),
        ("eval.val.n_errors>=0", 1),
    ] {
        let listed = door.run(&["runs", "--where", condition, "--json"]).code(0).json();
        assert_eq!(listed["runs"].as_array().unwrap().len(), n_runs, "{condition}");
    }
}

#[test]
fn a_glitch_is_replayed_to_the_bit_from_a_run_and_from_a_file() {
    let door = Door::new();
    door.write("tiny.toml", TINY);
    door.run(&["run", "tiny.toml"]).code(0);
    let shown = door.run(&["show", "latest", "--json"]).code(0).json();
    let id = shown["run"].as_str().unwrap();
    let file = shown["glitches"][1].as_str().unwrap();
    let by_number = door.run(&["replay", &format!("{id}:1"), "--json"]).code(0).json();
    let by_file = door.run(&["replay", &format!("runs/{id}/{file}"), "--json"]).code(0).json();
    assert_eq!(by_number, by_file);
    assert_eq!(by_file["same_bits"], true);
    assert_eq!(by_file["logits"], by_file["glitch"]["logits"]);
    // A copy that somebody was sent finds its run in the store.
    fs::copy(door.path("runs").join(id).join(file), door.path("sent.json")).unwrap();
    assert_eq!(door.run(&["replay", "sent.json", "--json"]).code(0).json(), by_file);
    let page = door.run(&["replay", "latest"]).code(0).stdout();
    assert!(page.contains("The logits are those of the record, to the bit."), "{page}");
    let refused = door.run(&["replay", "latest:9999"]).code(2);
    assert!(refused.words().contains("there is no 9999"), "{}", refused.words());
    door.run(&["replay", "latest:x"]).code(2);
}

#[test]
fn the_errors_of_a_run_are_told_apart_and_its_heads_looked_at() {
    let door = Door::new();
    door.write("tiny.toml", TINY);
    door.run(&["run", "tiny.toml"]).code(0);
    let shown = door.run(&["show", "latest", "--json"]).code(0).json();
    let apart = ["glitches", "latest", "--set", "val", "--by", "writes", "--json"];
    let apart = door.run(&apart).code(0).json();
    assert_eq!(apart["agrees"], true);
    let set = &apart["eval"]["val"];
    assert_eq!(set["n_errors"], shown["eval"]["val"]["n_errors"]);
    assert_eq!(set["by"].as_object().unwrap().keys().collect::<Vec<_>>(), ["writes"]);
    let fewer = door.run(&["glitches", "latest", "--n-examples", "5", "--json"]).code(0).json();
    assert_eq!((&fewer["eval"]["val"]["n_examples"], &fewer["agrees"]), (&5.into(), &Value::Null));

    let heads =
        ["probe", "latest", "--set", "val_sparse", "--glitches", "--examples", "3", "--json"];
    let heads = door.run(&heads).code(0).json();
    assert_eq!((&heads["set"], &heads["n_examples"]), (&"val_sparse".into(), &3.into()));
    // Every one of these examples has an error, and the checkpoint is the one that was measured.
    let answers = &heads["answers"];
    assert!(answers["n"].as_u64().unwrap() - answers["n_right"].as_u64().unwrap() >= 3);
    assert_eq!(heads["checkpoint"], shown["checkpoint"]["blake3"]);
    assert_eq!(heads["heads"].as_array().unwrap().len(), 4);
    for threads in ["1", "3"] {
        let again = ["probe", "latest", "--examples", "9", "--threads", threads, "--json"];
        let again = door.run(&again).code(0).json();
        assert_eq!(
            again,
            door.run(&["probe", "latest", "--examples", "9", "--json"]).code(0).json()
        );
    }
    for (wrong, words) in [
        (
            &["probe", "latest", "--pictures"][..],
            "--pictures is of runs on bigrams, and of --drift; leave it out",
        ),
        (&["probe", "latest", "-o", "maps"], "--output writes the patterns of --text or the rows"),
        (&["probe", "latest", "--drift"], "its task is flipflop, not the automaton"),
        (&["probe", "latest", "--text", "w1-"], "does not know '-'; it knows \"wri01\""),
        (&["probe", "latest", "--set", "vall"], "no set `vall`; it has val, val_dense, val_sparse"),
        (&["glitches", "latest", "--set", "vall"], "has no set `vall`"),
    ] {
        let refused = door.run(wrong).code(2);
        assert!(refused.words().contains(words), "{}", refused.words());
    }
}

#[test]
fn a_model_of_the_automaton_is_seen_to_drift_and_in_a_string() {
    let door = Door::new();
    let spec = "task = { name = 'automaton', seq_len = 40 }\n\
                model = { preset = 'gpt2-base', n_layers = 1, n_heads = 1, d_model = 8, \
                positions = 'linear', n_ctx = 40 }\ntrain = { n_steps = 3, batch_size = 2 }\n\
                eval.val.n_examples = 9\neval.val.curve_examples = 0";
    door.write("automaton.toml", spec);
    door.run(&["run", "automaton.toml"]).code(0);

    let page = door.run(&["probe", "latest", "--text", "-1-0--01-"]).code(0).stdout();
    for words in ["W_Qp . W_Kp", "Text     -1-0--01-", "Layer 1, head 1: where each row looks"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let text = ["probe", "latest", "--text", "1-0", "-o", "maps", "--json"];
    let said = door.run(&text).code(0).json();
    assert_eq!(said["text"]["characters"], serde_json::json!(["1", "-", "0"]));
    let csv = fs::read_to_string(door.path("maps/pattern-layer-1-head-1.csv")).unwrap();
    assert_eq!((csv.lines().count(), csv.lines().nth(1)), (4, Some("0,1,0,0")));

    let drift = ["probe", "latest", "--drift", "70"];
    let said = door.run(&[&drift[..], &["--json", "-o", "rows"]].concat()).code(0).json();
    assert_eq!(said["strings"][0]["n_tokens"], 71);
    assert_eq!(said["strings"][1]["what"], "0, 32 times -, 1, then 70 times -");
    let rows = said["strings"][1]["heads"][0]["rows"].as_array().unwrap();
    let places: Vec<&Value> = rows.iter().map(|row| &row["query_pos"]).collect();
    assert_eq!(places, [0, 32, 64, 96, 103]);
    let csv = fs::read_to_string(door.path("rows/drift-1-layer-1-head-1.csv")).unwrap();
    assert_eq!((csv.lines().count(), csv.lines().nth(1).unwrap().split(',').count()), (5, 72));
    let page = door.run(&[&drift[..], &["--pictures"]].concat()).code(0).stdout();
    assert!(page.contains("1, then 70 times -: 71 tokens\n  state told: "), "{page}");
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    let both = door.run(&["probe", "latest", "--drift", "--glitches"]).code(2);
    assert!(both.words().contains("cannot be used with"), "{}", both.words());
}

#[test]
fn arms_of_different_lengths_are_warned_of() {
    let door = Door::new();
    let arms = "model.n_layers = 1\n[[arm]]\nname = 'a'\ntask.seq_len = 24\n[[arm]]\nname = 'b'\n\
                task = { name = 'mixture', seq_len = LENGTH, parts = [{ weight = 1, p_ignore = 0.5 }] }";
    for (length, warns) in [("24", false), ("26", true)] {
        door.write("arms.toml", &arms.replace("LENGTH", length));
        let said = door.run(&["plan", "arms.toml", "--json"]).code(0).json();
        let warnings = said["warnings"].as_array().unwrap();
        assert_eq!(warnings.len(), usize::from(warns), "{warnings:?}");
        let page = door.run(&["plan", "arms.toml"]).code(0).stdout();
        let words = "warning: arms differ in task.seq_len: 24 of a, 26 of b;";
        assert_eq!(page.contains(words), warns, "{page}");
    }
}

#[test]
fn a_study_prints_one_table_and_its_claims_decide_the_exit_code() {
    let door = Door::new();
    let study = |bound: &str| {
        format!(
            "question = 'Which one errs?'\nname = 'both'\n{TINY}\n\
             [[arm]]\nname = 'wide'\n[[arm]]\nname = 'narrow'\nmodel.d_model = 8\n\
             [sweep]\nseed = {{ count = 2 }}\n\
             [[claim]]\ntext = 'the narrow one errs'\nsource = 'a test'\narm = 'narrow'\n\
             set = 'val_sparse'\nmeasure = 'n_errors'\nop = '>='\nbound = {bound}\nruns = 'each'\n"
        )
    };
    door.write("holds.toml", &study("0"));
    let said = door.run(&["run", "holds.toml", "--json"]).code(0).json();
    assert_eq!(said["study"], "both");
    assert_eq!(said["runs"].as_array().unwrap().len(), 4);
    assert_eq!(said["claims"][0]["verdict"], "held");
    let page = door.run(&["run", "holds.toml"]).code(0).stdout();
    for word in ["arm", "seed", "trials", "errors", "rate", "95 % interval", "holds", "Records"] {
        assert!(page.contains(word), "{word}: {page}");
    }
    door.write("fails.toml", &study("1_000_000"));
    let failed = door.run(&["run", "fails.toml", "--json"]).code(1).json();
    assert_eq!(failed["claims"][0]["verdict"], "failed");
    assert!(door.run(&["run", "fails.toml"]).code(1).stdout().contains("FAILS"));
}

#[test]
fn the_environment_moves_the_store_and_limits_threads() {
    let door = Door::new();
    door.write("tiny.toml", TINY);
    let run = |threads: &str| {
        door.with_env(
            &["run", "tiny.toml", "--json"],
            &[
                ("MNEMOSCOPE_STORE", &format!("elsewhere-{threads}")),
                ("MNEMOSCOPE_THREADS", threads),
            ],
        )
    };
    let (one, three) = (run("1").code(0).json(), run("3").code(0).json());
    // Same plan, same bits, whatever the number of threads.
    assert_eq!(one["checkpoint"], three["checkpoint"]);
    assert!(door.path("elsewhere-3").is_dir() && !door.path("runs").exists());
    let said = run("two").code(2);
    assert!(said.stderr().contains("MNEMOSCOPE_THREADS is \"two\""), "{}", said.stderr());
    door.run(&["gallery", "--threads", "0"]).code(2);
}

#[test]
fn examples_are_written_in_every_format_and_read_the_same() {
    let door = Door::new();
    let mut contents = Vec::new();
    for file in ["a.jsonl", "a.parquet", "a.npy", "a.txt"] {
        let said = door.run(&["generate", "flipflop", "--n", "100", "-o", file, "--json"]).code(0);
        let said = said.json();
        assert_eq!(said["n_tokens"], 51_200);
        assert!(said["tokens_per_sec"].as_f64().unwrap() > 0.0);
        assert!(door.path(file).is_file());
        contents.push(said["provenance"]["content_blake3"].clone());
    }
    contents.dedup();
    assert_eq!(contents.len(), 1, "the same examples, whatever the format");
    let printed = door.run(&["generate", "flipflop", "--n", "100", "-o", "-"]).code(0).stdout();
    assert_eq!(printed, fs::read_to_string(door.path("a.txt")).unwrap());
    // A slice is the slice of the whole.
    let slice = ["generate", "flipflop", "--n", "10", "--first", "90", "-o", "-"];
    assert!(printed.ends_with(&door.run(&slice).code(0).stdout()));
    let other = ["generate", "flipflop", "--n", "100", "--stream", "val", "-o", "-"];
    assert_ne!(door.run(&other).code(0).stdout(), printed);
    let mixed = ["generate", "mixture", "--n", "9", "--seq-len", "16", "-o", "-"];
    assert_eq!(door.run(&mixed).code(0).stdout().lines().count(), 9);
}

#[test]
fn bigrams_of_any_text_are_written() {
    let door = Door::new();
    door.write("rhyme.txt", &"row, row, row your boat\ngently down the stream\n".repeat(2));
    let of_text = ["generate", "bigram", "--n", "4", "--corpus", "rhyme.txt", "--seq-len", "30"];
    let flags = ["--triggers", "fixed", "--offset", "1", "--n-triggers", "2", "-o", "a.npy"];
    let said = door.run(&[&of_text[..], &flags, &["--json"]].concat()).code(0).json();
    let task = &said["provenance"]["task"];
    assert_eq!((&task["name"], &task["offset"]), (&"bigram".into(), &1.into()));
    assert_eq!(task["corpus"]["characters"], "\n ,abdeghlmnorstuwy");
    assert_eq!(said["n_tokens"], 4 * 31);
    let built_in = ["generate", "bigram", "--n", "3", "-o", "-"];
    let printed = door.run(&built_in).code(0).stdout();
    assert_eq!(printed.lines().count(), 3);
    let said =
        door.run(&["generate", "bigram", "--n", "3", "-o", "b.txt", "--json"]).code(0).json();
    assert_eq!(said["provenance"]["task"]["corpus"], "tiny-shakespeare");
    assert_eq!(fs::read_to_string(door.path("b.txt")).unwrap(), printed);
}

#[test]
fn the_automaton_is_trained_shown_and_replayed_in_its_own_words() {
    let door = Door::new();
    // The sets but `val` are those of flip-flop, and the language has a length of its own.
    let (_, rest) = TINY.split_once("p_ignore").unwrap();
    let (rest, _) = rest.split_once("val_sparse").unwrap();
    let spec = format!("[task]\nname = 'automaton'\nseq_len = 16\np_ignore{rest}");
    door.write("tiny.toml", &spec);
    let said = door.run(&["run", "tiny.toml", "--json"]).code(0).json();
    assert_eq!(said["eval"]["val"]["n_trials"], 32 * 16);
    let page = door.run(&["show", "latest"]).code(0).stdout();
    assert!(page.contains("automaton, p_ignore 0.5, 16 tokens"), "{page}");
    let page = door.run(&["replay", "latest"]).code(0).stdout();
    for words in ["The state is ", "the token asked at", "to the bit", "w the last write, q"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    for words in ["register", "read", "instruction"] {
        assert!(!page.contains(words), "{words}: {page}");
    }
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    let tokens =
        door.run(&["generate", "automaton", "--n", "2", "--seq-len", "30", "-o", "-"]).code(0);
    let tokens = tokens.stdout();
    assert!(tokens.lines().all(|line| line.len() == 30 && !line.starts_with('-')), "{tokens}");
}

/// A language model that always says "on" and one that knows the answers.
#[test]
fn stories_go_out_and_what_was_said_to_them_is_scored() {
    let door = Door::new();
    let generate = ["generate", "stories", "-o", "s.jsonl", "--n", "50", "--lengths", "20,10"];
    let said = door.run(&[&generate[..], &["--json"]].concat()).code(0).json();
    assert_eq!(said["provenance"]["n_stories"], 100);
    let stories = fs::read_to_string(door.path("s.jsonl")).unwrap();
    let printed = door.run(&["generate", "stories", "-o", "-", "--n", "50", "--lengths", "20,10"]);
    assert_eq!(printed.code(0).stdout(), stories);
    let stories: Vec<Value> =
        stories.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outputs = |said: &dyn Fn(&Value) -> Value| -> String {
        let line = |story: &Value| {
            let mut line = said(story);
            line["id"] = story["id"].clone();
            format!("{line}\n")
        };
        stories.iter().map(line).collect()
    };
    door.write(
        "knows.jsonl",
        &outputs(&|story| {
            let is = |option: &str| if story["answer"] == option { -0.1 } else { -2.3 };
            serde_json::json!({"logprobs": {" on": is(" on"), " off": is(" off")}})
        }),
    );
    door.write("on.jsonl", &outputs(&|_| serde_json::json!({"generated": " on. Then,"})));
    let knows = door.run(&["score", "s.jsonl", "knows.jsonl", "--json"]).code(0).json();
    assert_eq!(knows["by_seq_len"][0]["seq_len"], 10);
    assert_eq!(knows["all"]["n_trials"], 100);
    assert_eq!(knows["all"]["n_errors"], 0);
    let on = door.run(&["score", "s.jsonl", "on.jsonl", "--json"]).code(0).json();
    let n_off = stories.iter().filter(|story| story["answer"] == " off").count();
    assert_eq!(on["all"]["n_errors"], n_off);
    let page = door.run(&["score", "s.jsonl", "on.jsonl"]).code(0).stdout();
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    insta::assert_snapshot!(page);
    let half: String = outputs(&|_| serde_json::json!({"generated": " on"}))
        .lines()
        .skip(1)
        .map(|line| format!("{line}\n"))
        .collect();
    door.write("half.jsonl", &half);
    let refused = door.run(&["score", "s.jsonl", "half.jsonl"]).code(3);
    assert!(refused.words().contains("1 missing: s0-t20-0"), "{}", refused.words());
}

#[test]
fn the_gallery_knows_its_tasks() {
    let door = Door::new();
    let names = door.run(&["gallery", "-q"]).code(0).stdout();
    assert!(names.lines().any(|name| name == "flipflop"), "{names}");
    let refused = door.run(&["gallery", "flipflap"]).code(2);
    assert!(refused.stderr().contains("there is no task `flipflap`; there are flipflop"));
}

#[test]
fn the_doctor_finds_this_machine_healthy() {
    let door = Door::new();
    let said = door.run(&["doctor", "--json"]).code(0).json();
    assert_eq!(said["ok"], true, "{said}");
    assert_eq!(said["checks"].as_array().unwrap().len(), 3);
    assert!(!door.path("runs").exists(), "looking leaves nothing behind");
    assert!(door.run(&["doctor"]).code(0).stdout().contains("same plan, same bits"));
}

#[test]
fn the_theory_holds_and_says_so_in_both_voices() {
    let door = Door::new();
    let said = door.run(&["theory", "--quick", "--json"]).code(0).json();
    assert_eq!(said["ok"], true, "{said}");
    let parts = said["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 9);
    for check in parts.iter().flat_map(|part| part["checks"].as_array().unwrap()) {
        assert_eq!(check["holds"], true, "{check}");
        for field in ["predicted", "measured", "n_trials"] {
            assert!(check[field].is_number(), "{field}: {check}");
        }
    }
    let page = door.run(&["theory", "--quick", "--part", "gradients"]).code(0).stdout();
    assert!(page.contains("lemma 5") && !page.contains("recall of"), "{page}");
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    let last = page.lines().last().unwrap();
    assert_eq!(last, "6 checks, 6 hold", "{page}");
}

#[test]
fn the_demonstration_ends_with_a_glitch_that_was_replayed() {
    let door = Door::new();
    // Three steps teach nothing, so there is a glitch to show.
    let mut arguments = vec!["demo"];
    for set in ["train.n_steps=3", "eval.val_sparse.n_examples=200", "eval.val_dense.n_examples=20"]
    {
        arguments.extend(["--set", set]);
    }
    let page = door.run(&arguments).code(0).stdout();
    for word in ["95 % interval", "Glitch: val_sparse", "to the bit", "mnemoscope replay"] {
        assert!(page.contains(word), "{word}: {page}");
    }
    arguments.push("--json");
    let said = door.run(&arguments).code(0).json();
    assert_eq!(said["replay"]["same_bits"], true);
    assert_eq!(said["run"]["status"], "sealed");
}

#[test]
fn studies_of_a_paper_run_side_by_side_and_heads_are_shown_in_a_text() {
    let door = Door::new();
    let studies = ["--only", "one-layer", "--only", "fig11-heads", "--only", "fig9-one-step"];
    let page = door.run(&[&["reproduce", "birth"], &studies[..]].concat()).code(0).stdout();
    // No claim can be borne out at this scale, and none is counted as failed but by what was measured.
    for row in ["one-layer", "fig11-heads", "fig9-one-step"] {
        assert!(page.lines().any(|line| line.trim_start().starts_with(row)), "{row}: {page}");
    }
    let again = door.run(&[&["reproduce", "birth", "--json"], &studies[..]].concat()).code(0);
    let studies = again.json();
    assert_eq!(studies["studies"][2]["claims"][0]["verdict"], "unmeasured");
    assert_eq!(studies["studies"][1]["theory"]["ok"], true);

    let heads = studies["studies"][2]["runs"][0]["run"].as_str().unwrap();
    let text = ["probe", heads, "--examples", "1", "--text", "K:l Thee merF me"];
    let page = door.run(&text).code(0).stdout();
    for head in ["Layer 1, head 1", "Layer 2, head 4", "Text     K:l␣Thee"] {
        assert!(page.contains(head), "{head}: {page}");
    }
    let said = door.run(&[&text[..], &["--json", "-o", "maps"]].concat()).code(0).json();
    assert_eq!(said["text"]["heads"].as_array().unwrap().len(), 8);
    assert_eq!(said["text"]["characters"].as_array().unwrap().len(), 16);
    let csv = fs::read_to_string(door.path("maps/pattern-layer-2-head-3.csv")).unwrap();
    assert_eq!(
        (csv.lines().count(), csv.lines().nth(1)),
        (17, Some("0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0"))
    );
    assert!(said["attention"]["heads_previous"].as_array().unwrap().len() == 4);
    let refused = door.run(&["probe", heads, "--text", "K[l]"]).code(2).stderr();
    assert!(refused.contains("the language does not know '['"), "{refused}");
}
