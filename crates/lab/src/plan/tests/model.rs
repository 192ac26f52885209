//! `[model]` and what training does to it beside the loss.

use super::*;

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
        asked_rows: false,
        from_step: 2_000,
        anneal: Anneal::Linear { n_steps: 8_000 },
    };
    assert_eq!(sharp.train.sharpen, Some(expected));
    let rows = |rows: &str| plan(&format!("train.sharpen.rows = '{rows}'"), &[]);
    assert_eq!(rows("all").id(), plan("train.sharpen = {}", &[]).id());
    assert!(rows("asked").train.sharpen.unwrap().asked_rows);
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
      study.toml:5:46: train.sharpen.anneal_steps: `anneal_steps` does not go with this kind of train.sharpen; known here: `from_step`, `form`, `weight`, `layers`, `rows`, `anneal`
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
      study.toml:1:97: model.n_buckets: `n_buckets` does not go with this kind of model; known here: `preset`, `name`, `d_vocab`, `d_model`, `mlp`, `norm`, `n_heads`, `relative`, `n_rotated`, `positions`, `pos_scale`, `n_layers`, `own_v`, `identity_v`, `identity_out`, `d_mlp`, `n_ctx`, `tie_unembed`, `attn_bias`, `unembed_bias`, `gelu`, `layer_norm_epsilon`, `init`, `mlp_bias`, `mlp_from_layer`, `parallel_mlp`, `temperature`
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

#[test]
fn memories_in_factors_normalised_or_with_thresholds_are_options_of_the_simplified_model() {
    let of = |spec: &str| match plan(&format!("task.name = 'bigram'\n{spec}"), &[]).model {
        ModelSpec::Associative(spec) => spec,
        ModelSpec::Lstm(_) | ModelSpec::Transformer(_) => panic!("{spec} is associative"),
    };
    let usual = "model = { preset = 'birth', factored = [], normalised = [], mlp_bias = false }";
    assert_eq!(of(usual), of("model.preset = 'birth'"));
    let factored = of("model = { preset = 'birth', d_model = 64, factored = ['k2', 'mlp'] }");
    assert_eq!((factored.d_inner, factored.factored), (64, vec![Memory::K2, Memory::Mlp]));
    let narrow = of("model = { preset = 'birth', factored = ['out2'], d_inner = 16, \
                     normalised = ['k1', 'out2'], norm_length = 'sqrt_d_model' }");
    assert_eq!((narrow.d_inner, narrow.norm_length), (16, NormLength::SqrtDModel));
    assert!(of("model = { preset = 'birth', mlp = 'relu', mlp_bias = true }").mlp_bias);
    // Both factors of a memory learn by themselves, as the memory does.
    let plan = plan("task.name = 'bigram'\nmodel = { preset = 'birth', factored = ['k1'] }", &[]);
    assert!(plan.train.learns("blocks.0.attn.k.left.weight", 1));
    assert!(!plan.train.learns("blocks.0.attn.v.weight", 1));
}

#[test]
fn memories_that_cannot_be_so_are_refused_at_their_field() {
    let birth =
        |rest: &str| format!("task.name = 'bigram'\nmodel = {{ preset = 'birth', {rest} }}");
    assert_snapshot!(refusal(&birth("factored = ['w_k2', 'k1', 7]"), &[]), @r#"
    2 things are wrong with study.toml:
      study.toml:2:40: model.factored: found "w_k2"; allowed: "k1", "k2", "out2", "mlp"
      study.toml:2:40: model.factored: found 7; allowed: "k1", "k2", "out2", "mlp"
    "#);
    assert_snapshot!(refusal(&birth("factored = 'k1'"), &[]), @r#"
    one thing is wrong with study.toml:
      study.toml:2:40: model.factored: found "k1"; allowed: a list of "k1", "k2", "out2", "mlp"
    "#);
    let order = "factored = ['out2', 'k1'], mlp = 'none', normalised = ['mlp', 'mlp']";
    assert_snapshot!(refusal(&birth(order), &[]), @r#"
    3 things are wrong with study.toml:
      study.toml:2:40: model.factored: factored is ["out2", "k1"]; give each once, in the order k1, k2, out2, mlp
      study.toml:2:83: model.normalised: normalised is ["mlp", "mlp"]; give each once, in the order k1, k2, out2, mlp
      study.toml:2:83: model.normalised: normalised has "mlp", but mlp = "none"; leave it out
    "#);
    let rest = "mlp = 'relu', factored = ['mlp'], init = 'theory', normalised = ['k1']";
    assert_snapshot!(refusal(&birth(rest), &[]), @r#"
    2 things are wrong with study.toml:
      study.toml:2:54: model.factored: factored has "mlp", but mlp = "relu" is not one matrix; leave it out, or use mlp = "linear"
      study.toml:2:93: model.normalised: normalised has "k1", which begins at zero under init = "theory" and has no direction then; factor it as well, or use another init
    "#);
    let nothing = "d_inner = 8, norm_length = 'sqrt_d_model', mlp_bias = true";
    assert_snapshot!(refusal(&birth(nothing), &[]), @r#"
    3 things are wrong with study.toml:
      study.toml:2:39: model.d_inner: d_inner = 8 is the inner width of factored memories, and factored names none; leave d_inner out
      study.toml:2:56: model.norm_length: norm_length is of normalised memories, and normalised names none; leave norm_length out
      study.toml:2:83: model.mlp_bias: mlp_bias is the thresholds of neurons, and neither first_mlp nor mlp is "relu"; leave mlp_bias out
    "#);
    assert_snapshot!(refusal("model.factored = ['k1']", &[]), @r#"
    one thing is wrong with study.toml:
      study.toml:1:7: model.factored: `factored` does not go with this kind of model; known here: `preset`, `name`, `d_vocab`, `d_model`, `mlp`, `norm`, `n_heads`, `relative`, `positions`, `pos_scale`, `n_layers`, `own_v`, `identity_v`, `identity_out`, `d_mlp`, `n_ctx`, `tie_unembed`, `attn_bias`, `unembed_bias`, `gelu`, `layer_norm_epsilon`, `init`, `mlp_bias`, `mlp_from_layer`, `parallel_mlp`, `temperature`
    "#);
}

#[test]
fn value_and_output_maps_are_left_out_of_all_or_chosen_blocks() {
    let of = |spec: &str| match plan(spec, &[]).model {
        ModelSpec::Transformer(spec) => (spec.own_v, spec.identity_v, spec.identity_out),
        ModelSpec::Lstm(_) | ModelSpec::Associative(_) => panic!("{spec} is a transformer"),
    };
    let usual = "model = { own_v = false, identity_v = 'none', identity_out = 'none' }";
    assert_eq!(plan(usual, &[]).id(), plan("", &[]).id());
    let all = of("model = { preset = 'birth-full', identity_v = 'all', identity_out = [1] }");
    assert_eq!(all, (false, vec![0, 1], vec![1]));
    assert_eq!(of("model.own_v = true"), (true, Vec::new(), Vec::new()));
    // Values of their own can be frozen where they first were.
    let frozen = "model = { preset = 'birth-full', own_v = true }\n\
                  train.freeze = ['blocks.*.attn.v.weight']";
    let frozen = plan(&format!("task.name = 'bigram'\n{frozen}"), &[]);
    assert!(!frozen.train.learns("blocks.1.attn.v.weight", 1));
    assert!(frozen.train.learns("blocks.1.attn.qk.weight", 1));
    assert_snapshot!(refusal("model = { identity_v = [0, 6], identity_out = [1, 1] }", &[]), @r#"
    2 things are wrong with study.toml:
      study.toml:1:24: model.identity_v: identity_v has 6, but the last of n_layers = 6 blocks is 5; use at most that
      study.toml:1:47: model.identity_out: identity_out is [1, 1]; give each once, ascending
    "#);
    assert_snapshot!(refusal("model = { identity_v = 'all', own_v = true }", &[]), @r#"
    one thing is wrong with study.toml:
      study.toml:1:39: model.own_v: own_v is about W_V, but identity_v leaves it out of every block; leave own_v out
    "#);
    assert_snapshot!(refusal("model = { preset = 'lstm', own_v = true }", &[]), @r#"
    one thing is wrong with study.toml:
      study.toml:1:28: model.own_v: `own_v` does not go with this kind of model; known here: `preset`, `name`, `d_vocab`, `n_layers`, `d_model`
    "#);
    assert_snapshot!(refusal("model.identity_out = 'first'", &[]), @r#"
    one thing is wrong with study.toml:
      study.toml:1:22: model.identity_out: found "first"; allowed: "none", "all", or a list of layers from 0, such as [0, 1]
    "#);
}
