//! What specs resolve to, and what is said about those that do not.

use std::path::Path;

use insta::assert_snapshot;
use mnemoscope_model::{Bluntness, Gelu, Memory, ModelSpec, NormLength, Positions, Relative};
use mnemoscope_store::canonical;
use mnemoscope_task::bigram::{Corpus, Occurrences, Outputs};
use mnemoscope_task::{Automaton, Bigram, Coding, Task};

use super::resolve::vocabulary;
use super::*;
use crate::ErrorKind;

mod model;
mod study;
mod task;

#[track_caller]
fn study(spec: &str, sets: &[&str]) -> Study {
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    match resolve(spec, None, &sets, None) {
        Ok(study) => study,
        Err(error) => panic!("{error}"),
    }
}

/// The only plan of a spec.
#[track_caller]
fn plan(spec: &str, sets: &[&str]) -> Plan {
    let plans: Vec<Plan> = study(spec, sets).plans().map(|(_, plan)| plan.clone()).collect();
    let [plan] = plans.as_slice() else { panic!("{} plans", plans.len()) };
    plan.clone()
}

/// Everything that is said about a wrong spec.
#[track_caller]
fn refusal(spec: &str, sets: &[&str]) -> String {
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    let error = resolve(spec, Some(Path::new("study.toml")), &sets, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Spec);
    error.to_string()
}

/// The largest learning rate of a plan.
fn lr(plan: &Plan) -> f64 {
    match &plan.train.optimizer {
        OptimizerPlan::AdamW(adamw) => adamw.lr,
        OptimizerPlan::Sgd(sgd) => sgd.lr,
    }
}

fn names(study: &Study) -> Vec<(&str, usize)> {
    study.arms.iter().map(|arm| (arm.name.as_str(), arm.plans.len())).collect()
}

#[test]
fn the_default_spec_resolves_to_the_defaults() {
    assert_eq!(plan(DEFAULT_SPEC, &[]), plan("", &[]));
}

#[test]
fn the_default_spec_mentions_every_field_there_is() {
    for path in vocabulary() {
        let field = path.rsplit('.').next().unwrap();
        let mentions = |line: &str| {
            let line = line.trim_start_matches(['#', ' ', '{']);
            let assigned = line
                .split([',', '{'])
                .any(|part| part.trim_start().strip_prefix(field).is_some_and(is_assignment));
            assigned || line.starts_with(&format!("[{path}]")) || line == format!("[[{path}]]")
        };
        assert!(DEFAULT_SPEC.lines().any(mentions), "default.toml does not mention `{path}`");
    }
    assert!(vocabulary().len() > 50, "{:?}", vocabulary());
}

/// Whether what follows a field's name assigns it.
fn is_assignment(rest: &str) -> bool {
    rest.trim_start().starts_with('=')
}

#[test]
fn what_the_default_spec_shows_in_comments_resolves_too() {
    let shown = |from: &str| {
        let start = DEFAULT_SPEC.find(from).unwrap();
        let lines = DEFAULT_SPEC[start..].lines().take_while(|line| line.starts_with('#'));
        lines.map(|line| line.trim_start_matches("# ")).collect::<Vec<_>>().join("\n")
    };
    let mixture = plan(&shown("# [task]"), &[]);
    assert_eq!(mixture.task.name(), "mixture");
    let bigram = plan(&shown("# [task]\n# name = \"bigram\""), &[]);
    assert_eq!(bigram, plan("task.name = 'bigram'", &[]));
    let lstm = plan(&shown("# [model]"), &[]);
    assert_eq!(lstm.model.n_params(), Some(133_381));
    let birth =
        plan(&format!("task.name = 'bigram'\n{}", shown("# [model]\n# preset = \"birth\"")), &[]);
    assert_eq!(birth, plan("task.name = 'bigram'\nmodel.preset = 'birth'", &[]));
    let memories = shown("# [model]\n# preset = \"birth\"\n# factored");
    let ModelSpec::Associative(spec) =
        plan(&format!("task.name = 'bigram'\n{memories}"), &[]).model
    else {
        panic!("it is associative")
    };
    assert_eq!((spec.factored.len(), spec.d_inner, spec.normalised.len()), (4, 128, 1));
    assert_eq!(plan(&shown("# [train]"), &[]), plan("train.optimizer = 'sgd'", &[]));
    let arms = [shown("# [[arm]]"), shown("# [sweep]"), shown("# [[claim]]")].join("\n");
    let arms = arms.replace(
        "arm = \"lstm\" ",
        "arm = \"lstm n_layers=1 p_ignore=0.5 lr=0.001 batch_size=16\" ",
    );
    let study = study(&arms, &[]);
    assert_eq!((study.arms.len(), study.arms[0].plans.len(), study.claims.len()), (30, 25, 1));
}

#[test]
fn what_is_frozen_is_the_models_default_laid_over_by_name_and_pattern() {
    let frozen = |spec: &str| plan(&format!("task.name = 'bigram'\n{spec}"), &[]).train.freeze;
    assert!(frozen("").is_empty());
    let birth = frozen("model.preset = 'birth'");
    let names: Vec<&str> = birth.keys().map(String::as_str).collect();
    let expected = [
        "blocks.0.attn.out.weight",
        "blocks.0.attn.v.weight",
        "blocks.1.attn.v.weight",
        "embed.weight",
        "pos.weight",
        "unembed.weight",
    ];
    assert_eq!(names, expected);
    assert!(birth.values().all(|&freeze| freeze == Freeze::Always));
    let mine = frozen(
        "model.preset = 'birth'\n\
         train.freeze = ['blocks.*.attn.k.weight until 300', 'embed.weight']\n\
         train.learn = ['*embed.weight', 'blocks.*.attn.v.weight']",
    );
    assert_eq!(mine.get("unembed.weight"), None);
    assert_eq!(mine["embed.weight"], Freeze::Always);
    assert_eq!(mine["blocks.1.attn.k.weight"], Freeze::Until(300));
    assert_eq!(mine.len(), 5, "{mine:?}");
}

#[test]
fn a_freeze_list_that_cannot_be_followed_is_refused_with_the_nearest_name() {
    assert_snapshot!(refusal("task.name = 'bigram'\nmodel.preset = 'birth'\n[train]\nfreeze = ['blocks.1.attn.o.weight', 'mlp.*', 'embed.weight until', 'pos.weight', '*os.weight until 7']\nlearn = ['unembed']", &[]), @r"
    5 things are wrong with study.toml:
      study.toml:4:11: train.freeze: the model has no param `blocks.1.attn.o.weight`; did you mean `blocks.1.attn.k.weight`?
      study.toml:4:37: train.freeze: the model has no param `mlp.*`; its params are embed.weight, pos.weight, blocks.0.attn.k.weight, blocks.0.attn.v.weight, blocks.0.attn.out.weight, blocks.1.attn.k.weight, blocks.1.attn.v.weight, blocks.1.attn.out.weight, blocks.1.mlp.weight, unembed.weight
      study.toml:4:46: train.freeze: `embed.weight until` is no rule; write a param or a pattern, and perhaps `until` and a step, such as `blocks.*.attn.k.weight until 300`
      study.toml:4:82: train.freeze: `pos.weight` is frozen twice, for different times
      study.toml:5:10: train.learn: the model has no param `unembed`; its params are embed.weight, pos.weight, blocks.0.attn.k.weight, blocks.0.attn.v.weight, blocks.0.attn.out.weight, blocks.1.attn.k.weight, blocks.1.attn.v.weight, blocks.1.attn.out.weight, blocks.1.mlp.weight, unembed.weight
    ");
    assert_snapshot!(refusal("task.name = 'bigram'\nmodel.preset = 'birth'\ntrain.freeze = ['*']", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:3:16: train.freeze: every param is frozen to the last step, so nothing learns; leave one out
    ");
    assert_snapshot!(refusal("train.freeze = 'embed.weight'", &[]), @r#"
    one thing is wrong with study.toml:
      study.toml:1:16: train.freeze: found "embed.weight"; allowed: a list of words, such as ["blocks.*.attn.v.weight", "unembed.weight until 300"]
    "#);
}

#[test]
fn the_default_plan_is_pinned() {
    // The id names runs and the canonical form is what it hashes: both are a format.
    let default = plan("", &[]);
    assert_eq!(default.id(), "993484ff4e6c176e");
    assert_snapshot!(canonical::to_canonical(&default.to_value()), @r#"{"eval":{"confidence":0.95,"max_glitches":100,"n_resamples":2000,"sets":{"val":{"curve_examples":1000,"n_examples":1000,"task":{"n_symbols":2,"name":"flipflop","p_ignore":0.8,"p_read":0.1,"p_write":0.1,"seq_len":512}},"val_dense":{"curve_examples":0,"n_examples":3000,"task":{"n_symbols":2,"name":"flipflop","p_ignore":0.1,"p_read":0.45,"p_write":0.45,"seq_len":512}},"val_sparse":{"curve_examples":1000,"n_examples":100000,"task":{"n_symbols":2,"name":"flipflop","p_ignore":0.98,"p_read":0.01,"p_write":0.01,"seq_len":512}}}},"format":1,"model":{"attn_bias":false,"d_mlp":2048,"d_model":512,"d_vocab":5,"gelu":"erf","init":"x-transformers","layer_norm_epsilon":0.00001,"n_ctx":512,"n_heads":8,"n_layers":6,"name":"transformer","pos_scale":"rsqrt_d_model","positions":"learned","tie_unembed":false,"unembed_bias":true},"seeds":{"data":0,"eval":0,"model":0},"task":{"n_symbols":2,"name":"flipflop","p_ignore":0.8,"p_read":0.1,"p_write":0.1,"seq_len":512},"train":{"batch_size":16,"curve_every":100,"decay":"linear","decay_steps":10000,"loss":"reads","n_steps":10000,"optimizer":{"beta1":0.9,"beta2":0.999,"clip_norm":null,"epsilon":1e-8,"lr":0.0003,"weight_decay":0.1},"warmup_steps":50}}"#);
}

#[test]
fn a_plan_survives_its_json_and_refuses_another_format() {
    let default = plan("", &[]);
    let value = default.to_value();
    assert_eq!(Plan::from_value(&value).unwrap(), default);
    let mut newer = value.clone();
    newer["format"] = 2.into();
    let error = Plan::from_value(&newer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert_snapshot!(error, @"the plan has format 2, this release reads 1; use the release that wrote it");
    let mut odd = value.clone();
    odd["task"]["seq_len"] = 511.into();
    let error = Plan::from_value(&odd).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_snapshot!(error, @"the stored plan is damaged: task.seq_len: seq_len is 511, but instructions and symbols come in pairs; use 510 or 512");
    let mut strange = value;
    strange["train"]["momentum"] = 1.into();
    assert_eq!(Plan::from_value(&strange).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn three_mistakes_are_said_at_once_with_their_places() {
    let spec = "\
[task]
p_write = 0.1
p_read = 0.2
p_ignore = 0.8

[model]
n_layers = 0
n_embd = 64

[train]
lr = 'fast'
";
    assert_snapshot!(refusal(spec, &[]), @r#"
    4 things are wrong with study.toml:
      study.toml:4:12: task.p_ignore: p_write + p_read + p_ignore = 0.1 + 0.2 + 0.8 = 1.1, not 1; with this p_write and p_read, p_ignore would be 0.7
      study.toml:7:12: model.n_layers: found 0; allowed: a whole number from 1
      study.toml:8:1: model.n_embd: unknown key; did you mean `d_model`?
      study.toml:11:6: train.lr: found "fast"; allowed: a number above 0
    "#);
}

#[test]
fn what_is_not_toml_is_said_with_its_line() {
    let spec = "[task]\nname = flipflop\n\n[model\nd_model = 64\n";
    assert_snapshot!(refusal(spec, &[]), @r"
    2 things are wrong with study.toml:
      study.toml:2:8: not TOML: invalid boolean, expected `false`; words stand between quotes
      study.toml:4:7: not TOML: unclosed table, expected `]`
    ");
}

#[test]
fn unknown_keys_find_their_names() {
    let spec = "\
p_ignore = 0.5
random_seed = 3
tsak = { n_ops = 8 }

[model]
name = 'lstm'
n_heads = 2
dropout = 0.1
lr = 0.1
hidden_size = 64

[train]
betas = [0.9, 0.95]
n_stpes = 5

[eval.val_sparce]
n_examples = 5

[eval.val]
size = 5
";
    assert_snapshot!(refusal(spec, &[]), @r"
    11 things are wrong with study.toml:
      study.toml:1:1: p_ignore: unknown key here; `p_ignore` is a key of `[task]`
      study.toml:2:1: random_seed: unknown key; did you mean `seed`?
      study.toml:3:1: tsak: unknown key; did you mean `task`?
      study.toml:7:1: model.n_heads: `n_heads` does not go with this kind of model; known here: `preset`, `name`, `d_vocab`, `n_layers`, `d_model`
      study.toml:8:1: model.dropout: unknown key here; `dropout` is a key of `[train]`
      study.toml:9:1: model.lr: unknown key here; `lr` is a key of `[train]`
      study.toml:10:1: model.hidden_size: unknown key; did you mean `d_model`?
      study.toml:13:1: train.betas: unknown key; did you mean `beta1` and `beta2`, one number each?
      study.toml:14:1: train.n_stpes: unknown key; did you mean `n_steps`?
      study.toml:16:7: eval.val_sparce: unknown set; did you mean `val_sparse`? (a set of your own says at least p_ignore and n_examples)
      study.toml:20:1: eval.val.size: unknown key; did you mean `n_examples`?
    ");
}

#[test]
fn wrong_types_say_what_was_found_and_what_is_allowed() {
    let spec = "\
seed = -1
question = 7
model = 3

[task]
n_ops = 1.5
p_ignore = true
name = 'flipflip'

[train]
n_steps = 0
batch_size = 99999999999
beta1 = 1.0
weight_decay = nan
clip_norm = 'off'
loss = 2024-01-01

[eval]
confidence = 95
val = [1]
";
    assert_snapshot!(refusal(spec, &[]), @r#"
    14 things are wrong with study.toml:
      study.toml:1:8: seed: found -1; allowed: a whole number from 0
      study.toml:2:12: question: found 7; allowed: words between quotes
      study.toml:3:9: model: found 3; allowed: a table, such as `[model]`
      study.toml:6:9: task.n_ops: found 1.5; allowed: a whole number from 2 to 2147483647
      study.toml:7:12: task.p_ignore: found true; allowed: a number from 0 to 1
      study.toml:8:8: task.name: found "flipflip"; allowed: "flipflop", "mixture", "bigram", "automaton"; did you mean "flipflop"?
      study.toml:11:11: train.n_steps: found 0; allowed: a whole number from 1
      study.toml:12:14: train.batch_size: found 99999999999; allowed: a whole number from 1 to 4294967295
      study.toml:13:9: train.beta1: found 1.0; allowed: a number from 0 to below 1
      study.toml:14:16: train.weight_decay: found NaN; allowed: a number from 0
      study.toml:15:13: train.clip_norm: found "off"; allowed: a number above 0, or "none"
      study.toml:16:8: train.loss: found the date 2024-01-01; allowed: "reads", "all"
      study.toml:19:14: eval.confidence: found 95; allowed: a number between 0 and 1, such as 0.95
      study.toml:20:7: eval.val: found a list of 1; allowed: a table, such as `[eval.val]`
    "#);
}

#[test]
fn the_bad_languages_of_the_issue_are_refused() {
    assert_snapshot!(refusal("task.seq_len = 511", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:16: task.seq_len: seq_len is 511, but instructions and symbols come in pairs; use 510 or 512
    ");
    assert_snapshot!(refusal("task.seq_len = 2", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:16: task.seq_len: seq_len is 2, the shortest example has 4 tokens; use at least 4
    ");
    assert_snapshot!(refusal("task.n_ops = 1", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:14: task.n_ops: found 1; allowed: a whole number from 2 to 2147483647
    ");
    assert_snapshot!(refusal("task = { p_write = 0.5, p_read = 0.4, p_ignore = 0.3 }", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:50: task.p_ignore: p_write + p_read + p_ignore = 0.5 + 0.4 + 0.3 = 1.2, not 1; with this p_write and p_read, p_ignore would be 0.1
    ");
    assert_snapshot!(refusal("task = { p_write = 0.5, p_ignore = 0.3 }", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:20: task.p_write: p_write, p_read and p_ignore go together; give all three, or p_ignore alone: then p_write = p_read = (1 - p_ignore) / 2
    ");
    assert_snapshot!(refusal("task = { n_ops = 8, seq_len = 20 }", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:18: task.n_ops: n_ops = 8 makes 16 tokens, but seq_len is 20; give one of the two
    ");
}

#[test]
fn the_bad_models_of_the_issue_are_refused() {
    assert_snapshot!(refusal("model = { n_layers = 0 }", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:22: model.n_layers: found 0; allowed: a whole number from 1
    ");
    assert_snapshot!(refusal("model = { d_model = 100, n_heads = 3 }", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:21: model.d_model: d_model = 100 is not divisible by n_heads = 3; d_model = 102 would be
    ");
    assert_snapshot!(refusal("train = { n_steps = 10, warmup_steps = 20 }", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:40: train.warmup_steps: warmup_steps is 20, but training ends after n_steps = 10; use at most that
    ");
    assert_snapshot!(refusal("train = { n_steps = 10, decay_steps = 9 }", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:39: train.decay_steps: decay_steps is 9, so the learning rate would be 0 before n_steps = 10; use at least that
    ");
    assert_snapshot!(refusal("model.n_ctx = 256", &["eval.val.seq_len=1024"]), @r"
    one thing is wrong with study.toml:
      study.toml:1:15: model.n_ctx: n_ctx is 256, but eval.val.seq_len is 1024; use at least that, or leave n_ctx out
    ");
    assert_snapshot!(refusal("eval.val.n_symbols = 4", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:22: eval.val.n_symbols: n_symbols is 4, but the model is trained on n_symbols = 2; use the same vocabulary
    ");
    assert_snapshot!(refusal("task.n_symbols = 4\nmodel.d_vocab = 5", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:2:17: model.d_vocab: d_vocab is 5, but the task has 7 tokens (3 and n_symbols = 4); leave d_vocab out to follow the task
    ");
    assert_snapshot!(refusal("task = { name = 'mixture' }", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:1: task.parts: a mixture needs parts, such as `parts = [{ p_ignore = 0.8 }, { p_ignore = 0.98 }]`
    ");
    assert_snapshot!(
        refusal("task = { name = 'mixture', parts = [{ p_ignore = 0.5 }, { p_ignore = 2 }] }", &[]),
        @r"
    one thing is wrong with study.toml:
      study.toml:1:70: task.parts[1].p_ignore: found 2; allowed: a number from 0 to 1
    "
    );
    assert_snapshot!(refusal("eval = { val.n_examples = 0, val_sparse.n_examples = 0, val_dense.n_examples = 0 }", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:1: eval: every set is left out; keep at least one with n_examples above 0
    ");
    assert_snapshot!(refusal("model = { preset = 'lstm', name = 'transformer' }", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:35: model.name: name and preset are two different models; give one of the two
    ");
}

#[test]
fn sizes_beyond_the_machine_are_refused_with_the_estimate() {
    let refuse = |spec: &str, memory_bytes| {
        let error = resolve(spec, None, &[], memory_bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Machine, "{error}");
        error.to_string()
    };
    let eight_gb = Some(8_000_000_000);
    assert_snapshot!(refuse("[model]\nd_model = 65_536\nn_layers = 96", eight_gb), @r"
    one thing is wrong with spec:
      spec:1:2: model: training needs about 82.3 TB for 4947893288965 params, and this machine has 8.00 GB; lower d_model or n_layers
    ");
    assert_snapshot!(refuse("model = { d_model = 1_000_000_000_000, n_heads = 1 }", None), @r"
    one thing is wrong with spec:
      spec:1:21: model.d_model: the sizes of the model are beyond what 64 bits count; lower d_model, n_layers, d_mlp, n_ctx or d_vocab
    ");
    assert_snapshot!(refuse("train.batch_size = 4_000_000_000", eight_gb), @r"
    one thing is wrong with spec:
      spec:1:20: train.batch_size: training needs about 428 PB for 19170309 params, and this machine has 8.00 GB; lower batch_size, d_model or n_layers
    ");
    // The same sizes with a mistake beside them are a wrong spec first.
    let both = "model.d_model = 65_536\ntrain.lr = 0";
    let error = resolve(both, None, &[], eight_gb).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Spec);
    assert_eq!(error.complaints().len(), 2);
}

#[test]
fn set_speaks_the_paths_of_the_spec() {
    let spec = "[model]\npreset = 'lstm'\n[train]\nn_steps = 500\n";
    let changed = plan(spec, &["train.n_steps=7", "model.d_model = 8", "train.loss=all"]);
    assert_eq!(changed.train.n_steps, 7);
    assert_eq!(changed.model.d_model(), 8);
    assert_eq!(
        changed,
        plan("model = { name = 'lstm', d_model = 8 }\ntrain = { n_steps = 7, loss = 'all' }", &[])
    );
    assert_eq!(plan(spec, &["train.n_steps=1e3"]).train.n_steps, 1_000);
    assert_eq!(
        plan("train.clip_norm = 1", &["train.clip_norm=none"]).train.optimizer.clip_norm(),
        None
    );
    assert_snapshot!(
        refusal(spec, &["train.n_setps=7", "model.d_model=big", "train", "a b=1", "claim=[]"]),
        @r#"
    5 things are wrong with study.toml:
      --set train: no `=` found; write `--set path=value`, such as `--set model.n_layers=1`
      --set a b: not a path; allowed: keys joined by dots, such as `model.n_layers`
      --set claim: claims stand in the spec; they cannot be set
      --set train.n_setps: unknown key; did you mean `n_steps`?
      --set model.d_model: found "big"; allowed: a whole number from 1
    "#
    );
}

#[test]
fn a_model_that_becomes_another_kind_starts_afresh() {
    let spec = "model = { n_layers = 2, d_model = 64, n_heads = 4 }";
    let lstm = plan(spec, &["model.name=lstm"]);
    assert_eq!(lstm.model.n_params(), Some(133_381));
    // The order in which the parts of an override are given does not matter.
    let small = plan(spec, &["model.d_model=32", "model.name=lstm"]);
    assert_eq!((small.model.name(), small.model.d_model()), ("lstm", 32));
}

#[test]
fn sgd_is_a_choice_with_keys_of_its_own() {
    let sgd = plan("[train]\noptimizer = 'sgd'\nclip_norm = 1\nweight_decay = 1e-4", &[]);
    let stored = canonical::to_canonical(&sgd.to_value()["train"]["optimizer"]);
    assert_snapshot!(stored, @r#"{"clip_norm":1.0,"dampening":0.0,"lr":0.1,"momentum":0.9,"name":"sgd","nesterov":false,"weight_decay":0.0001}"#);
    assert_eq!(Plan::from_value(&sgd.to_value()).unwrap(), sgd);
    let mut strange = sgd.to_value();
    strange["train"]["optimizer"]["beta1"] = 0.9.into();
    assert_eq!(Plan::from_value(&strange).unwrap_err().kind(), ErrorKind::Corrupt);
    // AdamW may be said, and is then the plan it always was.
    assert_eq!(plan("train.optimizer = 'adamw'", &[]).id(), plan("", &[]).id());
    assert_snapshot!(refusal("[train]\noptimizer = 'sdg'\nmomentun = 1", &[]), @r#"
    2 things are wrong with study.toml:
      study.toml:2:13: train.optimizer: found "sdg"; allowed: "adamw", "sgd"; did you mean "sgd"?
      study.toml:3:1: train.momentun: unknown key; known here: `n_steps`, `batch_size`, `optimizer`, `lr`, `beta1`, `beta2`, `epsilon`, `weight_decay`, `clip_norm`, `warmup_steps`, `decay`, `decay_steps`, `loss`, `distinct_examples`, `curve_every`, `dropout`, `sharpen`, `precision`, `freeze`, `learn`
    "#);
    assert_snapshot!(refusal("[train]\noptimizer = 'sgd'\nbeta1 = 0.9\nmomentun = 0.5\nnesterov = 1", &[]), @r#"
    3 things are wrong with study.toml:
      study.toml:3:1: train.beta1: `beta1` does not go with this kind of optimizer; known here: `n_steps`, `batch_size`, `optimizer`, `lr`, `momentum`, `dampening`, `nesterov`, `weight_decay`, `clip_norm`, `warmup_steps`, `decay`, `decay_steps`, `loss`, `distinct_examples`, `curve_every`, `dropout`, `sharpen`, `precision`, `freeze`, `learn`
      study.toml:4:1: train.momentun: unknown key; did you mean `momentum`?
      study.toml:5:12: train.nesterov: found 1; allowed: true or false
    "#);
    assert_snapshot!(refusal("train = { momentum = 0.9, optim = 'sgd' }", &[]), @r#"
    2 things are wrong with study.toml:
      study.toml:1:11: train.momentum: `momentum` does not go with this kind of optimizer; known here: `n_steps`, `batch_size`, `optimizer`, `lr`, `beta1`, `beta2`, `epsilon`, `weight_decay`, `clip_norm`, `warmup_steps`, `decay`, `decay_steps`, `loss`, `distinct_examples`, `curve_every`, `dropout`, `sharpen`, `precision`, `freeze`, `learn`
      study.toml:1:27: train.optim: unknown key; did you mean `optimizer`?
    "#);
    assert_snapshot!(refusal("train = { optimizer = 'sgd', momentum = 0, nesterov = true }", &[]), @r#"
    one thing is wrong with study.toml:
      study.toml:1:55: train.nesterov: nesterov goes with momentum above 0 and dampening 0, but momentum is 0 and dampening 0; mend these, or leave nesterov out
    "#);
    assert_snapshot!(refusal("[optimizer]\nlr = 1\n[model]\nmomentum = 1", &[]), @r#"
    2 things are wrong with study.toml:
      study.toml:1:2: optimizer: unknown key here; `optimizer` is a key of `[train]`
      study.toml:4:1: model.momentum: unknown key here; `momentum` is a key of `[train]`
    "#);
}

#[test]
fn an_optimizer_that_becomes_another_one_drops_its_settings() {
    let spec =
        "train = { n_steps = 7, lr = 1e-3, beta2 = 0.95, weight_decay = 0.2, clip_norm = 1 }";
    let sgd = plan(spec, &["train.optimizer=sgd", "train.momentum=0.5"]);
    assert_eq!(
        sgd,
        plan("train = { n_steps = 7, optimizer = 'sgd', momentum = 0.5, clip_norm = 1 }", &[])
    );
    assert_eq!(plan(spec, &["train.optimizer=adamw"]), plan(spec, &[]));
    let both = study(&format!("{spec}\nsweep.'train.optimizer' = ['adamw', 'sgd']"), &[]);
    let lrs: Vec<f64> = both.plans().map(|(_, plan)| lr(plan)).collect();
    assert_eq!(lrs, [1e-3, 0.1]);
}

#[test]
fn the_shorthand_is_the_plan_that_the_three_numbers_make() {
    let written_out = plan("task = { p_write = 0.1, p_read = 0.1, p_ignore = 0.8 }", &[]);
    assert_eq!(written_out.id(), plan("task = { p_ignore = 0.8 }", &[]).id());
}

#[test]
fn two_ways_to_say_one_thing_replace_each_other() {
    let spec = "task = { seq_len = 64, p_write = 0.2, p_read = 0.2, p_ignore = 0.6 }";
    let changed = plan(spec, &["task.n_ops=16", "task.p_ignore=0.5"]);
    let Task::FlipFlop(language) = &changed.task else { panic!("{changed:?}") };
    assert_eq!(language.seq_len, 32);
    assert_eq!(language.check(), []);
    // The evaluation sets and the positions follow.
    assert!(changed.eval.sets.values().all(|set| set.task.seq_len() == 32));
    assert_eq!(changed.model.n_ctx(), Some(32));
}

#[test]
fn presets_have_the_published_sizes() {
    let n_params = |preset: &str| plan(&format!("model.preset = '{preset}'"), &[]).model.n_params();
    assert_eq!(n_params("fflm-base"), Some(19_170_309));
    assert_eq!(n_params("gpt2-base"), Some(19_180_032));
    assert_eq!(n_params("lstm"), Some(133_381));
    let full = plan("model.preset = 'birth-full'\ntask.name = 'bigram'", &[]);
    let birth_full = mnemoscope_model::TransformerSpec::birth_full();
    assert_eq!(full.model, ModelSpec::Transformer(birth_full));
    assert_eq!(full.model.n_params(), Some(443_904));
    let ModelSpec::Transformer(gpt2) = plan("model.preset = 'gpt2-base'", &[]).model else {
        panic!("gpt2-base is a transformer")
    };
    assert_eq!(gpt2, mnemoscope_model::TransformerSpec::gpt2_base());
}
