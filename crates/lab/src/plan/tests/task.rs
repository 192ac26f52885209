//! `[task]`: languages of every kind.

use super::*;

#[test]
fn a_coding_changes_the_vocabulary_and_holds_for_every_set() {
    let said = plan("task = { coding = 'bits', n_symbols = 4, n_ops = 20 }", &[]);
    assert_eq!((said.model.d_vocab(), said.model.n_ctx()), (5, Some(60)));
    for set in said.eval.sets.values() {
        assert_eq!((set.task.coding(), set.task.seq_len()), (Coding::Bits, 60));
    }
    let pairs = plan("task.coding = 'pairs'\ntask.n_symbols = 4", &[]);
    assert_eq!((pairs.model.d_vocab(), pairs.model.n_ctx()), (12, Some(256)));
    assert_eq!(Plan::from_value(&pairs.to_value()).unwrap(), pairs);
    // The coding that every plan had is not named, so ids stay.
    assert_eq!(plan("task.coding = 'tokens'", &[]).id(), plan("", &[]).id());
    let spec = "task = { coding = 'bits', n_symbols = 6 }\neval.val.coding = 'pairs'\n";
    assert_snapshot!(refusal(spec, &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:39: task.n_symbols: n_symbols is 6, but symbols spelt in bits are a power of two; use 4 or 8
    ");
    let spec = "task = { coding = 'bits', n_symbols = 4 }\neval.val.coding = 'pairs'\n\
                model.n_ctx = 512\n";
    assert_snapshot!(refusal(spec, &[]), @r"
    2 things are wrong with study.toml:
      study.toml:2:19: eval.val.coding: the coding is another one than the model is trained on; use the same
      study.toml:3:15: model.n_ctx: n_ctx is 512, but an example of eval.val_sparse is spelt in 768 tokens; use at least that, or leave n_ctx out
    ");
}

#[test]
fn the_automaton_has_fields_and_sets_of_its_own() {
    let said = plan("task = { name = 'automaton', seq_len = 40 }", &[]);
    let language = Automaton { seq_len: 40, ..Automaton::paper() };
    assert_eq!(said.task, Task::Automaton(language.clone()));
    let sets: Vec<_> =
        said.eval.sets.iter().map(|(name, set)| (name.as_str(), &set.task)).collect();
    assert_eq!(sets, [("val", &said.task)]);
    // Asked at all 40 tokens, the last one included.
    assert_eq!((said.model.d_vocab(), said.model.n_ctx()), (3, Some(40)));
    let own = "task.name = 'automaton'\neval.rare = { p_ignore = 0.9, n_examples = 9 }";
    let own = plan(own, &["eval.rare.first_write=false"]);
    let rare = Automaton { p_ignore: 0.9, first_write: false, ..Automaton::paper() };
    assert_eq!(own.eval.sets["rare"].task, Task::Automaton(rare));
    assert_eq!(Plan::from_value(&own.to_value()).unwrap(), own);
}

#[test]
fn an_automaton_that_cannot_be_is_refused_at_its_field() {
    let spec = "task = { name = 'automaton', n_symbols = 4, seq_len = 0 }";
    assert_snapshot!(refusal(spec, &[]), @r"
    3 things are wrong with study.toml:
      study.toml:1:30: task.n_symbols: `n_symbols` does not go with this kind of task; known here: `name`, `seq_len`, `p_ignore`, `first_write`
      study.toml:1:55: task.seq_len: seq_len is 0; use 1 to 16777216
      study.toml: model.n_ctx: n_ctx = 0 is too small; it must be at least 1
    ");
    assert_snapshot!(refusal("task.name = 'automaton'\ntrain.loss = 'all'\n", &[]), @r#"
    one thing is wrong with study.toml:
      study.toml:2:14: train.loss: loss is "all", the next tokens, but the automaton is asked for its state at every token already; leave loss out
    "#);
    let spec = "task.name = 'automaton'\neval.val.name = 'flipflop'\n";
    assert_snapshot!(refusal(spec, &[]), @r"
    one thing is wrong with study.toml:
      study.toml:2:17: eval.val.name: the set is flipflop, but the model is trained on automaton, which has other tokens; use the same family
    ");
    let spec = "task.name = 'automaton'\neval.more.n_examples = 3\n";
    assert_snapshot!(refusal(spec, &[]), @r"
    one thing is wrong with study.toml:
      study.toml:2:6: eval.more: unknown set; known here: `val`, `val_sparse`, `val_dense` (a set of your own says at least a key of its language and n_examples)
    ");
}

#[test]
fn a_bigram_task_has_fields_and_sets_of_its_own() {
    let said = plan("task = { name = 'bigram', n_triggers = 3, outputs = 'bigram' }", &[]);
    let language = Bigram { outputs: Outputs::Bigram, ..Bigram::paper(3) };
    assert_eq!(said.task, Task::Bigram(language.clone()));
    // One set, of the same language; the model has its vocabulary and as many positions.
    let sets: Vec<_> =
        said.eval.sets.iter().map(|(name, set)| (name.as_str(), &set.task)).collect();
    assert_eq!(sets, [("val", &said.task)]);
    assert_eq!((said.model.d_vocab(), said.model.n_ctx()), (65, Some(256)));
    let own = "task.name = 'bigram'\neval.uniform = { outputs = 'bigram', n_examples = 9 }";
    let own = plan(own, &["eval.val.n_examples=0"]);
    assert_eq!(own.eval.sets.keys().collect::<Vec<_>>(), ["uniform"]);
    let language = Bigram { outputs: Outputs::Bigram, ..Bigram::paper(5) };
    assert_eq!(own.eval.sets["uniform"].task, Task::Bigram(language));
    assert_eq!(Plan::from_value(&own.to_value()).unwrap(), own);
    let share = own.estimate().unwrap().train_flops;
    assert!(share.is_finite() && share > 0.0);
}

#[test]
fn a_bigram_task_that_cannot_be_is_refused_at_its_field() {
    assert_snapshot!(refusal("task = { name = 'bigram', n_triggers = 66 }", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:40: task.n_triggers: n_triggers is 66, but the corpus has 65 tokens; use at most 65
    ");
    assert_snapshot!(
        refusal("task = { name = 'bigram', triggers = 'fixed', offset = 65 }", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:56: task.offset: offset is 65, which leaves none of the 65 tokens of the corpus to be a trigger; use less
    ");
    assert_snapshot!(refusal("task = { name = 'bigram', p_ignore = 0.5 }", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:27: task.p_ignore: `p_ignore` does not go with this kind of task; known here: `name`, `corpus`, `seq_len`, `triggers`, `n_triggers`, `offset`, `outputs`, `output_split`, `no_repeat`, `scored`, `show_latents`
    ");
    assert_snapshot!(refusal("task = { name = 'bigram', corpus = 'bible' }", &[]), @r#"
    one thing is wrong with study.toml:
      study.toml:1:36: task.corpus: found "bible"; allowed: "tiny-shakespeare", or the path of a text file from where the spec lies; there is no file bible
    "#);
    assert_snapshot!(
        refusal("task.name = 'bigram'\neval.val = { name = 'flipflop', seq_len = 64 }", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:2:21: eval.val.name: the set is flipflop, but the model is trained on bigram, which has other tokens; use the same family
    ");
    assert_snapshot!(refusal("task.name = 'bigram'\nmodel.d_vocab = 64", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:2:17: model.d_vocab: d_vocab is 64, but the task has 65 tokens; leave d_vocab out to follow the task
    ");
    assert_snapshot!(refusal("task.name = 'bigram'\nmodel.n_ctx = 255", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:2:15: model.n_ctx: n_ctx is 255, but eval.val.seq_len is 256; use at least that, or leave n_ctx out
    ");
    assert_snapshot!(refusal("task.name = 'bigram'\neval.vall = { n_examples = 3 }", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:2:6: eval.vall: unknown set; did you mean `val`? (a set of your own says at least a key of its language and n_examples)
    ");
}

/// Plans of bigram tasks have the ids they had before there were options that are off by default.
#[test]
fn plans_of_bigram_tasks_keep_their_ids() {
    let usual = "task.name = 'bigram'";
    assert_eq!(plan(usual, &[]).id(), "dfeee2affed77fed");
    assert_eq!(plan(usual, &["task.show_latents=false"]).id(), "dfeee2affed77fed");
    let other = "task = { name = 'bigram', triggers = 'fixed', n_triggers = 3, offset = 5, \
                 outputs = 'bigram', output_split = 'train', no_repeat = true, \
                 scored = 'output', seq_len = 64 }\nmodel.preset = 'gpt2-base'";
    assert_eq!(plan(other, &[]).id(), "a9863fa5160cfc54");
    let shown = plan(usual, &["task.show_latents=true"]);
    assert_ne!(shown.id(), "dfeee2affed77fed");
    assert_eq!(Plan::from_value(&shown.to_value()).unwrap(), shown);
    // The evaluation set shows its triggers too, and the model has as many positions as before.
    assert_eq!(shown.eval.sets["val"].task, shown.task);
    assert_eq!(shown.model.n_ctx(), Some(256));
    assert_snapshot!(refusal(usual, &["task.show_latents=true", "task.seq_len=6"]), @r"
    one thing is wrong with study.toml:
      --set task.seq_len: seq_len is 6, and show_latents takes n_triggers = 5 of these positions; use at least 7
    ");
}

/// What else is scored is a set beside `val`: the same language, other positions.
#[test]
fn a_set_may_differ_in_what_is_scored() {
    let said = plan("task.name = 'bigram'\neval.all = { scored = 'output', n_examples = 9 }", &[]);
    let language = Bigram { scored: Occurrences::Output, ..Bigram::paper(5) };
    assert_eq!(said.eval.sets["all"].task, Task::Bigram(language));
}

/// A spec in a folder with texts, and what is said about it with the folder's name taken out.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(texts: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in texts {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        Self(folder)
    }

    fn resolve(&self, spec: &str, sets: &[&str]) -> Result<Study, String> {
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        let path = self.0.path().join("study.toml");
        resolve(spec, Some(&path), &sets, None).map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::Spec);
            error.to_string().replace(&format!("{}/", self.0.path().display()), "FOLDER/")
        })
    }
}

#[test]
fn a_text_beside_the_spec_is_a_corpus_and_the_plan_holds_its_counts() {
    let text = "the quick brown fox jumps over the lazy dog and the dog barks. ".repeat(3);
    let folder = Folder::with(&[("fox.txt", text.as_bytes()), ("moved.txt", text.as_bytes())]);
    let spec = "task = { name = 'bigram', corpus = 'fox.txt' }\n\
                eval.more = { outputs = 'bigram', n_examples = 9 }";
    let plan = folder.resolve(spec, &[]).unwrap().arms.remove(0).plans.remove(0);
    let corpus = Corpus::from_text(&text).unwrap();
    let language = Bigram { corpus, ..Bigram::paper(5) };
    assert_eq!(plan.task, Task::Bigram(language.clone()));
    // The sets and the model follow.
    let bigram_outputs = Bigram { outputs: Outputs::Bigram, ..language };
    assert_eq!(plan.eval.sets["more"].task, Task::Bigram(bigram_outputs));
    assert_eq!(plan.model.d_vocab(), plan.task.d_vocab() as usize);
    // Where the text lies is no part of the plan; what it says is.
    let elsewhere = folder.resolve(spec, &["task.corpus=moved.txt"]).unwrap();
    assert_eq!(elsewhere.arms[0].plans[0].id(), plan.id());
    std::fs::write(folder.0.path().join("fox.txt"), text.replace("fox", "ox")).unwrap();
    let changed = folder.resolve(spec, &[]).unwrap();
    assert_ne!(changed.arms[0].plans[0].id(), plan.id());
    // A stored plan needs no file.
    let stored = plan.to_value();
    drop(folder);
    let again = Plan::from_value(&stored).unwrap();
    assert_eq!((again.id(), &again), (plan.id(), &plan));
}

#[test]
fn the_built_in_text_is_the_same_plan_as_its_counts() {
    let plan = plan("task = { name = 'bigram', corpus = 'tiny-shakespeare' }", &[]);
    assert_eq!(plan.id(), "dfeee2affed77fed");
    assert_eq!(plan.to_value()["task"]["corpus"], "tiny-shakespeare");
}

#[test]
fn a_text_that_is_no_corpus_is_one_complaint_at_the_key() {
    let many: String = (0..70_000).filter_map(char::from_u32).collect();
    let folder = Folder::with(&[
        ("empty.txt", b""),
        ("one.txt", b"aaa"),
        ("latin.txt", b"caf\xe9"),
        ("many.txt", many.as_bytes()),
        ("end.txt", b"abab!"),
    ]);
    std::fs::create_dir(folder.0.path().join("texts")).unwrap();
    let said = |name: &str| {
        // What is wrong with the text is not said again of the triggers that it does not have.
        let spec = format!("task = {{ name = 'bigram', n_triggers = 66, corpus = '{name}' }}");
        let refusal = folder.resolve(&spec, &[]).unwrap_err();
        let beginning = "one thing is wrong with FOLDER/study.toml:\n  \
                         FOLDER/study.toml:1:53: task.corpus: ";
        let rest = refusal.strip_prefix(beginning).map(str::to_owned);
        rest.unwrap_or_else(|| panic!("{refusal}"))
    };
    assert_snapshot!(said("empty.txt"), @"FOLDER/empty.txt: the corpus is empty; use a text of two characters and more");
    assert_snapshot!(said("one.txt"), @"FOLDER/one.txt: the corpus has no character but `a`; use a text of two characters and more");
    assert_snapshot!(said("latin.txt"), @"FOLDER/latin.txt: byte 3 is not text in UTF-8; convert the file first");
    assert_snapshot!(said("many.txt"), @"FOLDER/many.txt: the corpus has 67952 distinct characters; use at most 65535");
    assert_snapshot!(said("end.txt"), @"FOLDER/end.txt: the corpus ends with `!`, which occurs nowhere else, so nothing is known to follow it; end the text elsewhere");
    assert_snapshot!(said("texts"), @"FOLDER/texts: that is a folder; name a text file");
    assert_snapshot!(said("missing.txt"), @r#"found "missing.txt"; allowed: "tiny-shakespeare", or the path of a text file from where the spec lies; there is no file FOLDER/missing.txt"#);
    assert_snapshot!(said("tiny_shakespeare"), @r#"found "tiny_shakespeare"; did you mean "tiny-shakespeare"? There is no file FOLDER/tiny_shakespeare"#);
    // A spec that is no file lies nowhere.
    let error = resolve("task = { name = 'bigram', corpus = 'a.txt' }", None, &[], None);
    assert_snapshot!(error.unwrap_err(), @r#"
    one thing is wrong with spec:
      spec:1:36: task.corpus: found "a.txt"; allowed: "tiny-shakespeare", or an absolute path, because a spec that is no file lies in no folder where a text could be looked for
    "#);
}

#[test]
fn triggers_and_outputs_that_a_text_does_not_have_are_refused_at_their_field() {
    let folder = Folder::with(&[("ab.txt", b"abbab\na"), ("other.txt", b"xyzxyzx")]);
    let said = |rest: &str| {
        let spec = format!("task = {{ name = 'bigram', corpus = 'ab.txt', {rest} }}");
        folder.resolve(&spec, &[]).unwrap_err()
    };
    assert_snapshot!(said("n_triggers = 4"), @r"
    one thing is wrong with FOLDER/study.toml:
      FOLDER/study.toml:1:59: task.n_triggers: n_triggers is 4, but the corpus has 3 tokens; use at most 3
    ");
    assert_snapshot!(said("triggers = 'fixed', n_triggers = 1, offset = 3"), @r"
    one thing is wrong with FOLDER/study.toml:
      FOLDER/study.toml:1:91: task.offset: offset is 3, which leaves none of the 3 tokens of the corpus to be a trigger; use less
    ");
    assert_snapshot!(said("triggers = 'fixed', n_triggers = 2, offset = 2"), @r"
    one thing is wrong with FOLDER/study.toml:
      FOLDER/study.toml:1:79: task.n_triggers: n_triggers is 2, but after offset 2 only 1 of 3 tokens are left; use at most that
    ");
    assert_snapshot!(said("n_triggers = 1, output_split = 'test', outputs = 'bigram'"), @r#"
    one thing is wrong with FOLDER/study.toml:
      FOLDER/study.toml:1:95: task.outputs: no output is left for the trigger `\n` with outputs = "bigram", output_split = "test" and no_repeat = false; allow more outputs
    "#);
    assert_snapshot!(
        folder.resolve("task = { name = 'bigram', n_triggers = 1 }", &["eval.val.corpus=other.txt"]).unwrap_err(), @r"
    one thing is wrong with FOLDER/study.toml:
      --set eval.val.corpus: the corpus is another one than the model is trained on; use the same
    ");
}
