//! What specs resolve to, and what is said about those that do not.

use std::path::Path;

use insta::assert_snapshot;
use mnemoscope_model::{Bluntness, Gelu, ModelSpec, Positions, Relative};
use mnemoscope_store::canonical;
use mnemoscope_task::bigram::{Corpus, Occurrences, Outputs};
use mnemoscope_task::{Automaton, Bigram, Coding, Task};

use super::resolve::vocabulary;
use super::*;
use crate::ErrorKind;

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
    assert_eq!(plan(&shown("# [train]"), &[]), plan("train.optimizer = 'sgd'", &[]));
    let arms = [shown("# [[arm]]"), shown("# [sweep]"), shown("# [[claim]]")].join("\n");
    let arms = arms.replace("arm = \"lstm\" ", "arm = \"lstm n_layers=1 p_ignore=0.5\" ");
    let study = study(&arms, &[]);
    assert_eq!((study.arms.len(), study.arms[0].plans.len(), study.claims.len()), (15, 25, 1));
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
      study.toml:3:1: train.momentun: unknown key; known here: `n_steps`, `batch_size`, `optimizer`, `lr`, `beta1`, `beta2`, `epsilon`, `weight_decay`, `clip_norm`, `warmup_steps`, `decay`, `decay_steps`, `loss`, `epoch_examples`, `curve_every`, `dropout`, `sharpen`, `freeze`, `learn`
    "#);
    assert_snapshot!(refusal("[train]\noptimizer = 'sgd'\nbeta1 = 0.9\nmomentun = 0.5\nnesterov = 1", &[]), @r#"
    3 things are wrong with study.toml:
      study.toml:3:1: train.beta1: `beta1` does not go with this kind of optimizer; known here: `n_steps`, `batch_size`, `optimizer`, `lr`, `momentum`, `dampening`, `nesterov`, `weight_decay`, `clip_norm`, `warmup_steps`, `decay`, `decay_steps`, `loss`, `epoch_examples`, `curve_every`, `dropout`, `sharpen`, `freeze`, `learn`
      study.toml:4:1: train.momentun: unknown key; did you mean `momentum`?
      study.toml:5:12: train.nesterov: found 1; allowed: true or false
    "#);
    assert_snapshot!(refusal("train = { momentum = 0.9, optim = 'sgd' }", &[]), @r#"
    2 things are wrong with study.toml:
      study.toml:1:11: train.momentum: `momentum` does not go with this kind of optimizer; known here: `n_steps`, `batch_size`, `optimizer`, `lr`, `beta1`, `beta2`, `epsilon`, `weight_decay`, `clip_norm`, `warmup_steps`, `decay`, `decay_steps`, `loss`, `epoch_examples`, `curve_every`, `dropout`, `sharpen`, `freeze`, `learn`
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

#[test]
fn arms_are_laid_over_the_spec_and_swept_in_order() {
    let spec = "\
question = 'which?'
[train]
n_steps = 100
[[arm]]
name = 'lstm'
model.preset = 'lstm'
[[arm]]
name = 'small'
train.n_steps = 50
model = { n_layers = 2, d_model = 64, n_heads = 4 }
[sweep]
seed = { count = 3, from = 5 }
train.lr = [1e-4, 3e-4]
";
    let all = study(spec, &[]);
    assert_eq!(
        names(&all),
        [
            ("lstm lr=0.0001", 3),
            ("lstm lr=0.0003", 3),
            ("small lr=0.0001", 3),
            ("small lr=0.0003", 3)
        ]
    );
    let seeds: Vec<u64> = all.arms[0].plans.iter().map(|plan| plan.seeds.data).collect();
    assert_eq!(seeds, [5, 6, 7]);
    assert_eq!(all.arms[2].plans[0].train.n_steps, 50);
    assert_eq!(all.question.as_deref(), Some("which?"));
    // A path that `--set` decides is no longer swept, and an arm can be addressed alone.
    let one = study(spec, &["seed=1", "train.lr=1e-3", "arm.small.train.n_steps=9"]);
    assert_eq!(names(&one), [("lstm", 1), ("small", 1)]);
    assert_eq!(one.arms[0].plans[0].train.n_steps, 100);
    assert_eq!(one.arms[1].plans[0].train.n_steps, 9);
    assert_eq!(one.arms[1].plans[0].seeds, Seeds { data: 1, model: 1, eval: 0 });
    let fewer = study(spec, &["sweep.seed.count=1"]);
    assert_eq!(fewer.plans().count(), 4);
}

#[test]
fn seeds_split_and_the_evaluation_stays_where_it_is() {
    let seeds = |spec: &str| plan(spec, &[]).seeds;
    assert_eq!(seeds("seed = 3"), Seeds { data: 3, model: 3, eval: 0 });
    assert_eq!(seeds("seed = 3\ndata_seed = 4"), Seeds { data: 4, model: 3, eval: 0 });
    assert_eq!(seeds("model_seed = 5\neval_seed = 6"), Seeds { data: 0, model: 5, eval: 6 });
    let crossed = study("sweep = { data_seed = [0, 1, 2], model_seed = { count = 2 } }", &[]);
    assert_eq!(names(&crossed), [("transformer", 6)]);
}

#[test]
fn ranges_include_both_ends() {
    let values = |range: &str| -> Vec<f64> {
        let spec = format!("sweep.train.lr = {range}");
        study(&spec, &[]).plans().map(|(_, plan)| lr(plan)).collect()
    };
    assert_eq!(values("{ from = 0.1, to = 0.3, step = 0.1 }"), [0.1, 0.2, 0.3]);
    assert_eq!(values("{ from = 3, to = 1, step = -1 }"), [3.0, 2.0, 1.0]);
    let by_label = study("sweep.model.n_layers = { from = 1, to = 5, step = 2 }", &[]);
    assert_eq!(names(&by_label), [("n_layers=1", 1), ("n_layers=3", 1), ("n_layers=5", 1)]);
}

#[test]
fn mistakes_of_a_sweep_are_found() {
    let spec = "\
[sweep]
seed = 5
name = ['a']
train.lr = []
train.n_steps = { from = 10, to = 1 }
'model.n_layer' = [1, 2]
'model.d_model' = [64, 'wide']
data_seed = { count = 0 }
";
    assert_snapshot!(refusal(spec, &[]), @r#"
    7 things are wrong with study.toml:
      study.toml:2:8: sweep.seed: found 5; allowed: a list of values, { count = 25 }, or { from = 1, to = 9, step = 2 }
      study.toml:3:8: sweep.name: cannot be swept; swept are seeds and the values of task, model, train and eval
      study.toml:4:12: sweep.train.lr: found an empty list; give at least one value
      study.toml:5:7: sweep.train.n_steps: no step of 1 leads from 10 to 1; turn its sign
      study.toml:6:1: model.n_layer: unknown key; did you mean `n_layers`?
      study.toml:7:24: model.d_model: found "wide"; allowed: a whole number from 1
      study.toml:8:23: sweep.data_seed.count: found 0; allowed: a whole number from 1 to 100000
    "#);
    assert_snapshot!(refusal("[sweep]\nseed = [1, 2, 1]", &[]), @r#"
    one thing is wrong with study.toml:
      study.toml:1:2: sweep: 1 of the 3 plans of arm "transformer" are repeated; a swept value is listed twice, or the arm decides a swept value itself
    "#);
    assert_snapshot!(
        refusal("sweep = { seed = { count = 1000 }, 'train.n_steps' = { from = 1, to = 500 } }", &[]),
        @r"
    one thing is wrong with study.toml:
      study.toml:1:1: sweep: the sweep makes more than 100000 plans; shorten its lists
    "
    );
}

#[test]
fn mistakes_of_arms_and_claims_are_found() {
    let spec = "\
[train]
n_step = 3
[[arm]]
name = 'lstm'
model.preset = 'lstm'
[[arm]]
name = 'lstm'
question = 'why?'
[[arm]]
model.preset = 'fflm-base'
[[claim]]
text = 'no error'
source = 'R2'
arm = 'lstn'
set = 'val_spares'
measure = 'errors'
op = '='
bound = 0.5
[[claim]]
arm = 'lstm'
";
    assert_snapshot!(refusal(spec, &["arm.lsmt.seed=1"]), @r#"
    16 things are wrong with study.toml:
      study.toml:2:1: train.n_step: unknown key; did you mean `n_steps`?
      study.toml:7:8: arm[1].name: found "lstm" twice; give each arm a name of its own
      study.toml:8:1: arm[1].question: `question` stands at the top of a spec and not in an arm
      study.toml:9:1: arm[2].name: an arm needs a name, such as `name = "lstm"`
      study.toml:14:7: claim[0].arm: no arm is called "lstn"; did you mean "lstm"?
      study.toml:15:7: claim[0].set: no set is called "val_spares"; did you mean "val_sparse"?
      study.toml:16:11: claim[0].measure: found "errors"; allowed: "n_errors", "error_rate", "interval_low", "interval_high"; did you mean "n_errors"?
      study.toml:17:6: claim[0].op: found "="; allowed: "==", "<", "<=", ">", ">="; did you mean "=="?
      study.toml:18:9: claim[0].bound: found 0.5; allowed: a whole number from 0
      study.toml:19:1: claim[1].text: missing; say the claim in words
      study.toml:19:1: claim[1].source: missing; say who claims it, and where
      study.toml:19:1: claim[1].set: missing; say the name of an evaluation set, such as val_sparse
      study.toml:19:1: claim[1].measure: missing; a claim about a set says measure, op and bound, such as `measure = "n_errors"`, `op = "=="`, `bound = 0`
      study.toml:19:1: claim[1].op: missing; a claim says op and bound, such as `op = "=="`, `bound = 0`, or `within = [0.35, 0.55]`
      study.toml:19:1: claim[1].bound: missing; a claim says op and bound, such as `op = "=="`, `bound = 0`, or `within = [0.35, 0.55]`
      --set arm.lsmt: no arm is called "lsmt"; did you mean "lstm"?
    "#);
}

#[test]
fn a_claim_may_leave_out_what_is_the_only_one() {
    let spec = "\
model.preset = 'lstm'
[[arm]]
name = 'lstm'
[[claim]]
text = 'no error on sparse strings'
source = 'Liu et al. 2023, R2'
set = 'val_sparse'
measure = 'interval_high'
op = '<'
bound = 1e-4
";
    let study = study(spec, &["eval.val_sparse.n_examples=0"]);
    assert_eq!(study.claims[0].arm, "lstm");
    assert_eq!(
        study.claims[0].expectation(),
        "interval_high < 0.0001 in each run of lstm on val_sparse"
    );
}

#[test]
fn an_arm_may_be_held_against_another_and_not_against_itself() {
    let spec = |claim: &str| {
        format!(
            "[[arm]]\nname = 'lstm'\nmodel.preset = 'lstm'\n[[arm]]\nname = 'base'\n[[claim]]\n\
             text = 'it errs less'\nsource = 'a test'\narm = 'lstm'\nset = 'val'\n\
             measure = 'error_rate'\n{claim}"
        )
    };
    let expectation = |claim: &str| study(&spec(claim), &[]).claims[0].expectation();
    assert_eq!(
        expectation("than = 'base'\nop = '<'"),
        "error_rate < that of base in the runs of lstm on val"
    );
    assert_eq!(
        expectation("than = 'base'\nop = '>'\nfactor = 0.1"),
        "error_rate > 0.1 times that of base in the runs of lstm on val"
    );
    assert_snapshot!(refusal(&spec("than = 'lstm'\nop = '=='\nbound = 0.5\nruns = 'any'"), &[]), @r#"
    4 things are wrong with study.toml:
      study.toml:12:8: claim[0].than: an arm cannot be compared with itself
      study.toml:13:6: claim[0].op: found "=="; allowed: "<", ">"
      study.toml:14:9: claim[0].bound: does not go with than; leave one out
      study.toml:15:8: claim[0].runs: does not go with than; leave one out
    "#);
    assert_snapshot!(refusal(&spec("than = 'bsae'\nfactor = 0"), &[]), @r#"
    3 things are wrong with study.toml:
      study.toml:6:1: claim[0].op: missing; an arm is `op = "<"` or `op = ">"` than another
      study.toml:12:8: claim[0].than: no arm is called "bsae"; did you mean "base"?
      study.toml:13:10: claim[0].factor: found 0; allowed: a number above 0
    "#);
    assert_snapshot!(refusal(&spec("op = '<'\nbound = 0.5\nfactor = 2"), &[]), @r#"
    one thing is wrong with study.toml:
      study.toml:14:10: claim[0].factor: does not go with bound; leave one out
    "#);
}

#[test]
fn epochs_are_whole_numbers_of_batches() {
    let plan = plan("train.epoch_examples = 48", &[]);
    let first: Vec<u64> = (0..5).map(|step| plan.train.first_index(step)).collect();
    assert_eq!(first, [0, 16, 32, 0, 16]);
    assert_snapshot!(refusal("train.epoch_examples = 50", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:24: train.epoch_examples: 50 examples are no whole number of batches of 16; 64 would be
    ");
}

#[test]
fn of_many_arms_only_the_first_are_listed() {
    let spec = "[sweep]\n'model.n_layers' = { from = 1, to = 40 }\n[[claim]]\ntext = 'a'\nsource = 'b'\n\
                arm = 'transformer'\nset = 'val'\nmeasure = 'n_errors'\nop = '=='\nbound = 0";
    let message = resolve(spec, None, &[], None).unwrap_err().to_string();
    assert!(message.contains("`n_layers=12` and 28 more"), "{message}");
}

/// A study of two sizes, in which one arm has a size of its own in each.
const SCALED: &str = "\
train.n_steps = 10_000
[sweep]
seed = { count = 25 }
[scales.laptop]
train = { n_steps = 2_000 }
model = { n_layers = 2, d_model = 64, n_heads = 4 }
sweep.seed = { count = 5 }
arm.longer.train.n_steps = 6_000
[[arm]]
name = 'baseline'
[[arm]]
name = 'longer'
train.n_steps = 30_000
[[arm]]
name = 'lstm'
model = { preset = 'lstm' }
train.n_steps = 500
";

#[test]
fn a_scale_is_laid_over_the_spec_and_over_single_arms() {
    let sizes = |sets: &[&str]| -> Vec<(usize, u64, usize)> {
        let of_arm = |arm: &Arm| {
            let plan = &arm.plans[0];
            (arm.plans.len(), plan.train.n_steps, plan.model.d_model())
        };
        study(SCALED, sets).arms.iter().map(of_arm).collect()
    };
    assert_eq!(sizes(&[]), [(25, 10_000, 512), (25, 30_000, 512), (25, 500, 128)]);
    assert_eq!(sizes(&["scale=laptop"]), [(5, 2_000, 64), (5, 6_000, 64), (5, 500, 128)]);
    // What is set wins over the scale.
    let set = ["scale=laptop", "train.n_steps=7", "sweep.seed.count=1"];
    assert_eq!(sizes(&set), [(1, 7, 64), (1, 7, 64), (1, 7, 128)]);
    assert_snapshot!(refusal(SCALED, &["scale=labtop"]), @r#"
    one thing is wrong with study.toml:
      --set scale: no scale is called "labtop"; did you mean "laptop"?
    "#);
    let wrong = "scale = 'a'\n[scales]\nb = 3\n[scales.a]\nquestion = 'why?'\ntrain.n_step = 3\n\
                 arm.lsmt.train.n_steps = 3\n[[arm]]\nname = 'lstm'";
    assert_snapshot!(refusal(wrong, &[]), @r#"
    4 things are wrong with study.toml:
      study.toml:3:5: scales.b: a scale is a table, such as `[scales.laptop]`
      study.toml:5:1: scales.a.question: `question` stands at the top of a spec and not in a scale
      study.toml:6:7: train.n_step: unknown key; did you mean `n_steps`?
      study.toml: arm.lsmt: no arm is called "lsmt"; did you mean "lstm"?
    "#);
}

#[test]
fn a_study_is_named_after_its_folder() {
    let name = |path: &str| resolve("", Some(Path::new(path)), &[], None).unwrap().name;
    assert_eq!(name("studies/fflm/baseline/study.toml"), "baseline");
    assert_eq!(name("my-spec.toml"), "my-spec");
    assert_eq!(name("study.toml"), "study");
    assert_eq!(study("name = 'n'", &[]).name, "n");
    assert_eq!(study("", &[]).name, "spec");
}

#[test]
fn sets_of_ones_own_are_possible() {
    let spec = "\
[eval.long]
seq_len = 1024
p_ignore = 0.9
n_examples = 10
[eval.mixed]
name = 'mixture'
parts = [{ p_ignore = 0.1 }, { p_ignore = 0.98, weight = 2 }]
n_examples = 20
curve_examples = 20
[eval.val_dense]
n_examples = 0
";
    let plan = plan(spec, &[]);
    let sets: Vec<&str> = plan.eval.sets.keys().map(String::as_str).collect();
    assert_eq!(sets, ["long", "mixed", "val", "val_sparse"]);
    assert_eq!(plan.model.n_ctx(), Some(1024));
    assert_eq!(plan.eval.sets["mixed"].task.seq_len(), 512);
    assert_snapshot!(refusal("[eval.'a/b']\np_ignore = 0.5\nn_examples = 3", &[]), @r"
    one thing is wrong with study.toml:
      study.toml:1:7: eval.a/b: a set's name becomes a file's name; use a to z, 0 to 9, `_` and `-`, from a letter, at most 64 characters
    ");
}

#[test]
fn the_committed_studies_resolve() {
    let studies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../studies/fflm");
    for name in ["lstm-vs-transformer", "baseline"] {
        let path = studies.join(name).join("study.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let study = resolve(&text, Some(&path), &[], None).unwrap();
        assert_eq!(study.name, name);
        assert!(!study.claims.is_empty());
    }
}

/// What a line of a spec may be replaced by.
const SCRAPS: [&str; 12] = [
    "",
    "[",
    "name = 3",
    "[task]",
    "n_layers = -1",
    "seq_len = 99999999999999999999999999999999999999999",
    "p_ignore = nan",
    "[[arm]]",
    "sweep = { seed = { count = 3 } }",
    "= 1",
    "parts = [1, {}]",
    "\"\" = { from = 1, to = 1e300 }",
];

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(
        line in 0_usize..200,
        scrap in 0..SCRAPS.len(),
        text in ".{0,40}",
        set in "[a-z.=\"\\[{ 0-9]{0,20}",
    ) {
        let mut lines: Vec<&str> = DEFAULT_SPEC.lines().collect();
        let n_lines = lines.len();
        lines[line % n_lines] = SCRAPS[scrap];
        for spec in [lines.join("\n"), text] {
            match resolve(&spec, None, std::slice::from_ref(&set), Some(u64::MAX)) {
                Ok(study) => proptest::prop_assert!(study.plans().count() > 0),
                Err(error) => proptest::prop_assert!(!error.complaints().is_empty()),
            }
        }
    }
}

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

/// Models that were there before the later fields keep their ids, whether a field is said or not.
#[test]
fn plans_of_earlier_models_keep_their_ids() {
    let usual = "model = { mlp = 'gelu', mlp_bias = true, mlp_from_layer = 0, norm = 'pre', \
                 parallel_mlp = false }";
    assert_eq!(plan(usual, &[]).id(), "993484ff4e6c176e");
    assert_eq!(plan("model.preset = 'gpt2-base'", &[]).id(), "a43d34ba2dd62a61");
    assert_eq!(plan("model.preset = 'lstm'", &[]).id(), "abe3017e8da3f662");
}

#[test]
fn relative_positions_choose_the_absolute_ones_unless_these_are_said() {
    let of = |spec: &str| match plan(spec, &[]).model {
        ModelSpec::Transformer(spec) => (spec.relative, spec.positions),
        ModelSpec::Lstm(_) | ModelSpec::Associative(_) => panic!("{spec} is a transformer"),
    };
    let rotary = Relative::Rotary { n_rotated: 32 };
    assert_eq!(of("model.relative = 'rotary'"), (rotary, Positions::None));
    assert_eq!(of("model.relative = 't5'"), (Relative::T5, Positions::None));
    assert_eq!(of("model.relative = 'alibi'"), (Relative::Alibi, Positions::Learned));
    let both = "model = { relative = 'rotary', positions = 'learned', n_heads = 64 }";
    assert_eq!(of(both), (Relative::Rotary { n_rotated: 8 }, Positions::Learned));
}

#[test]
fn a_penalty_and_dropout_that_do_nothing_are_no_part_of_a_plan() {
    let nothing = "[train.dropout]\nembed = 0\n[train.sharpen]\nweight = 0";
    assert_eq!(plan(nothing, &[]).id(), plan("", &[]).id());
    let sharp = plan("train = { sharpen = { anneal = 'linear', from_step = 2_000 } }", &[]);
    assert_ne!(sharp.id(), plan("", &[]).id());
    assert_eq!(Plan::from_value(&sharp.to_value()).unwrap(), sharp);
    let expected = SharpenPlan {
        form: Bluntness::Entropy,
        weight: 0.01,
        layers: Vec::new(),
        from_step: 2_000,
        anneal: Anneal::Linear { n_steps: 8_000 },
    };
    assert_eq!(sharp.train.sharpen, Some(expected));
    let of_layer = plan("train.sharpen = { layers = [0, 5] }", &[]);
    assert_eq!(of_layer.train.sharpen.unwrap().layers, [0, 5]);
}

#[test]
fn what_a_model_cannot_drop_or_sharpen_is_refused_at_its_field() {
    let all = "model.preset = 'lstm'\ntrain = { dropout.embed = 0.5, sharpen = {} }";
    assert_snapshot!(refusal(all, &[]), @r#"
    2 things are wrong with study.toml:
      study.toml:2:11: train.dropout: dropout is of a transformer's training, and the model is lstm; leave [train.dropout] out
      study.toml:2:32: train.sharpen: sharpen is of a transformer's training, and the model is lstm; leave [train.sharpen] out
    "#);
    let birth = "task.name = 'bigram'\nmodel.preset = 'birth'\ntrain.sharpen.form = 'neg_l2'";
    assert_snapshot!(refusal(birth, &[]), @r#"
    one thing is wrong with study.toml:
      study.toml:3:7: train.sharpen: sharpen is of a transformer's training, and the model is associative; leave [train.sharpen] out
    "#);
    let train =
        "[train]\ndropout = { mlp = 1, attn = 0.1 }\nsharpen = { form = 'l2', layers = 'last' }";
    assert_snapshot!(refusal(train, &[]), @r#"
    3 things are wrong with study.toml:
      study.toml:2:19: train.dropout.mlp: found 1; allowed: a number from 0 to below 1
      study.toml:3:20: train.sharpen.form: found "l2"; allowed: "entropy", "neg_l2", "neg_linf"
      study.toml:3:35: train.sharpen.layers: found "last"; allowed: "all", or a list of layers from 0, such as [0, 1]
    "#);
    let together = "model.mlp = 'linear'\n[train]\nn_steps = 50\ndropout.mlp = 0.1\n\
                    sharpen = { layers = [0, 6], from_step = 50, anneal_steps = 5 }";
    assert_snapshot!(refusal(together, &[]), @r#"
    4 things are wrong with study.toml:
      study.toml:4:15: train.dropout.mlp: mlp is the dropout behind an activation, but mlp = "linear" has none; leave it out
      study.toml:5:22: train.sharpen.layers: layers has 6, but the last of n_layers = 6 is 5; use at most that
      study.toml:5:42: train.sharpen.from_step: from_step is 50, but training ends after n_steps = 50; use less
      study.toml:5:46: train.sharpen.anneal_steps: `anneal_steps` does not go with this kind of train.sharpen; known here: `from_step`, `form`, `weight`, `layers`, `anneal`
    "#);
    let sizes = "model = { d_model = 24, n_heads = 8, relative = 'rotary', n_rotated = 3, \
                 pos_scale = 'learned', temperature = 0 }";
    assert_snapshot!(refusal(sizes, &[]), @r#"
    3 things are wrong with study.toml:
      study.toml:1:71: model.n_rotated: n_rotated = 3 is not an even number from 2 to d_head = 3, which is d_model / n_heads; use at most 2
      study.toml:1:86: model.pos_scale: pos_scale = "learned" is of sinusoids; use positions = "sinusoidal", or pos_scale = "unit" or "rsqrt_d_model"
      study.toml:1:111: model.temperature: found 0; allowed: a number above 0
    "#);
    let odd = "model = { d_model = 24, n_heads = 8, relative = 'rotary', n_rotated = 3, \
               pos_scale = 'learned', n_buckets = 4 }";
    assert_snapshot!(refusal(odd, &[]), @r#"
    3 things are wrong with study.toml:
      study.toml:1:71: model.n_rotated: n_rotated = 3 is not an even number from 2 to d_head = 3, which is d_model / n_heads; use at most 2
      study.toml:1:86: model.pos_scale: pos_scale = "learned" is of sinusoids; use positions = "sinusoidal", or pos_scale = "unit" or "rsqrt_d_model"
      study.toml:1:97: model.n_buckets: `n_buckets` does not go with this kind of model; known here: `preset`, `name`, `d_vocab`, `d_model`, `mlp`, `norm`, `n_heads`, `relative`, `n_rotated`, `positions`, `pos_scale`, `n_layers`, `d_mlp`, `n_ctx`, `tie_unembed`, `attn_bias`, `unembed_bias`, `gelu`, `layer_norm_epsilon`, `init`, `mlp_bias`, `mlp_from_layer`, `parallel_mlp`, `temperature`
    "#);
    let buckets = "model = { relative = 't5', n_buckets = 32, max_distance = 16 }";
    assert_snapshot!(refusal(buckets, &[]), @r#"
    one thing is wrong with study.toml:
      study.toml:1:59: model.max_distance: max_distance = 16, but the first 16 of n_buckets = 32 are single distances; use more than that
    "#);
}

#[test]
fn an_mlp_of_another_kind_leaves_behind_what_a_preset_says_of_its_own() {
    let of = |spec: &str| match plan(spec, &[]).model {
        ModelSpec::Transformer(spec) => spec,
        ModelSpec::Lstm(_) | ModelSpec::Associative(_) => panic!("{spec} is a transformer"),
    };
    let linear = of("model = { preset = 'gpt2-base', mlp = 'linear' }");
    assert_eq!((linear.d_mlp, linear.gelu), (0, Gelu::Erf));
    let alone = of("model = { preset = 'birth-full', mlp = 'none' }");
    assert_eq!((alone.d_mlp, alone.mlp_bias, alone.parallel_mlp), (0, true, false));
    let post = of("model = { preset = 'birth-full', norm = 'post' }");
    assert_eq!((post.mlp_bias, post.parallel_mlp), (false, false));
    let narrow = of("model = { preset = 'birth-full', d_model = 64, mlp_from_layer = 1 }");
    assert_eq!((narrow.d_mlp, narrow.mlp_from_layer), (256, 1));
    // A kind of MLP can be swept.
    let swept =
        study("model.preset = 'birth-full'\nsweep.model.mlp = ['relu', 'linear', 'none']", &[]);
    assert_eq!(swept.arms.len(), 3);
}

#[test]
fn what_does_not_go_with_an_mlp_is_refused_at_its_field() {
    assert_snapshot!(refusal("model = { mlp = 'none', d_mlp = 64, mlp_bias = false }", &[]), @r#"
    2 things are wrong with study.toml:
      study.toml:1:33: model.d_mlp: d_mlp = 64, but mlp = "none" has no width of its own; leave d_mlp out
      study.toml:1:48: model.mlp_bias: mlp_bias is about an MLP, but mlp = "none"; leave mlp_bias out
    "#);
    assert_snapshot!(refusal("model = { mlp = 'relu', gelu = 'tanh', mlp_from_layer = 6 }", &[]), @r#"
    2 things are wrong with study.toml:
      study.toml:1:32: model.gelu: gelu is the form of a GELU, but mlp = "relu"; leave gelu out
      study.toml:1:57: model.mlp_from_layer: mlp_from_layer = 6, but the last of n_layers = 6 blocks is 5; use at most that, or mlp = "none"
    "#);
    assert_snapshot!(refusal("model = { norm = 'post', parallel_mlp = true, init = 'torch' }", &[]), @r#"
    2 things are wrong with study.toml:
      study.toml:1:41: model.parallel_mlp: parallel_mlp does not go with norm = "post", which normalises between attention and MLP; use norm = "pre" or "none"
      study.toml:1:54: model.init: found "torch"; allowed: "x-transformers", "gpt2", "pytorch"
    "#);
    assert_snapshot!(refusal("model = { mlp = 'reglu', activation = 'relu' }", &[]), @r#"
    2 things are wrong with study.toml:
      study.toml:1:17: model.mlp: found "reglu"; allowed: "gelu", "relu", "geglu", "swiglu", "linear", "none"; did you mean "relu"?
      study.toml:1:26: model.activation: unknown key; did you mean `mlp`?
    "#);
}
