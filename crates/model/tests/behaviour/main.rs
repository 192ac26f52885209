//! What must hold of every model: causality, independence of the batch, hooks that only look.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod cohort;
mod regular;

use std::cell::Cell;

use mnemoscope_engine::burn::tensor::backend::{AutodiffBackend, Backend};
use mnemoscope_engine::burn::tensor::{Int, Tensor, TensorData};
use mnemoscope_engine::device::{Cpu, CpuAutodiff, cpu};
use mnemoscope_engine::testing::check_same_bits;
use mnemoscope_engine::{Gelu, Ops, QueryRows};
use mnemoscope_model::hook::{
    FirstNotFinite, Hooks, NoHooks, Patch, Record, Value, canonical, points,
};
use mnemoscope_model::optim::{AdamW, OptimState, Rule, Sgd, grad_norm, read_grads};
use mnemoscope_model::params::{Array, Tensors};
use mnemoscope_model::{
    AssociativeSpec, Bluntness, DropoutRates, ErrorKind, FeedForward, LstmSpec, Memory, Mlp, Model,
    ModelSpec, Norm, NormLength, Places, PosScale, Positions, Regularisation, Relative, ScoreScale,
    TransformerSpec,
};
use mnemoscope_stats::stream::Stream;

const N_POS: usize = 12;
const D_VOCAB: usize = 6;

fn specs() -> Vec<ModelSpec> {
    let x = TransformerSpec {
        n_ctx: 16,
        d_vocab: D_VOCAB,
        d_mlp: 24,
        ..TransformerSpec::x_transformers(3, 16, 2)
    };
    let one = TransformerSpec { n_layers: 1, positions: Positions::None, ..x.clone() };
    let gpt2 = TransformerSpec { n_ctx: 12, d_vocab: D_VOCAB, ..TransformerSpec::gpt2(2, 12, 3) };
    let birth = TransformerSpec {
        n_ctx: 12,
        d_vocab: D_VOCAB,
        d_model: 12,
        d_mlp: 20,
        n_heads: 2,
        ..TransformerSpec::birth_full()
    };
    let post = TransformerSpec {
        norm: Norm::Post,
        positions: Positions::Sinusoidal,
        mlp_from_layer: 1,
        parallel_mlp: false,
        ..birth.clone()
    };
    let linear = TransformerSpec {
        norm: Norm::None,
        mlp: Mlp::Linear,
        mlp_bias: true,
        d_mlp: 0,
        ..birth.clone()
    };
    let alone = TransformerSpec {
        mlp: Mlp::None,
        mlp_bias: true,
        d_mlp: 0,
        parallel_mlp: false,
        ..birth.clone()
    };
    vec![
        ModelSpec::Transformer(x),
        ModelSpec::Transformer(one),
        ModelSpec::Transformer(gpt2),
        ModelSpec::Lstm(LstmSpec { n_layers: 2, d_model: 12, d_vocab: D_VOCAB }),
        // Too many tokens for a table of the first layer's inputs.
        ModelSpec::Lstm(LstmSpec { n_layers: 1, d_model: 8, d_vocab: 2000 }),
        // Mixing logits, mixing vectors, with and without places that are looked up.
        ModelSpec::Associative(associative(
            16,
            Places::Table,
            [FeedForward::None, FeedForward::Linear],
        )),
        ModelSpec::Associative(associative(
            6,
            Places::Rotary,
            [FeedForward::Linear, FeedForward::None],
        )),
        ModelSpec::Associative(associative(
            10,
            Places::Sinusoidal,
            [FeedForward::Relu, FeedForward::Relu],
        )),
        ModelSpec::Transformer(birth.clone()),
        ModelSpec::Transformer(post),
        ModelSpec::Transformer(linear),
        ModelSpec::Transformer(alone),
        // Factors, answers of one length, thresholds; each where the shortest way is another.
        ModelSpec::Associative(AssociativeSpec {
            factored: vec![Memory::K1, Memory::K2, Memory::Out2, Memory::Mlp],
            d_inner: 5,
            normalised: vec![Memory::Out2],
            ..associative(16, Places::Table, [FeedForward::None, FeedForward::Linear])
        }),
        ModelSpec::Associative(AssociativeSpec {
            normalised: vec![Memory::K1, Memory::K2, Memory::Mlp],
            norm_length: NormLength::SqrtDModel,
            ..associative(16, Places::Rotary, [FeedForward::None, FeedForward::Linear])
        }),
        ModelSpec::Associative(AssociativeSpec {
            factored: vec![Memory::K2],
            d_inner: 20,
            normalised: vec![Memory::K1],
            mlp_bias: true,
            ..associative(6, Places::Table, [FeedForward::Relu, FeedForward::None])
        }),
        // Values of their own, or none, and outputs too.
        ModelSpec::Transformer(TransformerSpec {
            own_v: true,
            identity_v: vec![0],
            attn_bias: true,
            ..birth.clone()
        }),
        ModelSpec::Transformer(TransformerSpec {
            identity_v: vec![0, 1],
            identity_out: vec![1],
            ..birth
        }),
    ]
    .into_iter()
    .chain(interventions().map(ModelSpec::Transformer))
    .collect()
}

/// Each kind of relative positions, of gates, and the temperature.
fn interventions() -> [TransformerSpec; 4] {
    let x = TransformerSpec {
        n_ctx: 16,
        d_vocab: D_VOCAB,
        d_mlp: 24,
        ..TransformerSpec::x_transformers(2, 12, 2)
    };
    [
        TransformerSpec {
            relative: Relative::Rotary { n_rotated: 4 },
            positions: Positions::Sinusoidal,
            pos_scale: PosScale::Learned,
            mlp: Mlp::Swiglu,
            ..x.clone()
        },
        TransformerSpec {
            relative: Relative::T5 { n_buckets: 6, max_distance: 9 },
            positions: Positions::None,
            attn_bias: true,
            ..x.clone()
        },
        TransformerSpec { relative: Relative::Alibi, n_heads: 3, mlp: Mlp::Geglu, ..x.clone() },
        TransformerSpec { relative: Relative::T5, temperature: 0.3, ..x },
    ]
}

fn associative(
    d_model: usize,
    places: Places,
    [first_mlp, mlp]: [FeedForward; 2],
) -> AssociativeSpec {
    AssociativeSpec {
        d_model,
        d_mlp: 14,
        n_ctx: 13,
        d_vocab: D_VOCAB,
        first_mlp,
        mlp,
        places,
        score_scale: if d_model == 6 { ScoreScale::Unit } else { ScoreScale::RsqrtDModel },
        ..AssociativeSpec::birth()
    }
}

fn init<
    B: Backend<Device = <Cpu as mnemoscope_engine::burn::tensor::backend::BackendTypes>::Device>,
>(
    spec: &ModelSpec,
) -> Model<B> {
    Model::init(spec, &Stream::root(11).derive("model"), &cpu())
}

/// Examples of random tokens; example `k` is the same in every batch.
fn examples(which: std::ops::Range<u64>) -> Vec<Vec<i64>> {
    which
        .map(|example| {
            let mut draws = Stream::root(5).derive("examples").at(example);
            (0..N_POS).map(|_| i64::from(draws.below(D_VOCAB as u32))).collect()
        })
        .collect()
}

fn tensor<B: Backend>(examples: &[Vec<i64>], device: &B::Device) -> Tensor<B, 2, Int> {
    let shape = [examples.len(), examples[0].len()];
    Tensor::from_data(TensorData::new(examples.concat(), shape), device)
}

/// The bits of the logits, a row for each query.
fn bits(
    model: &Model<Cpu>,
    examples: &[Vec<i64>],
    queries: &QueryRows,
    hooks: &mut dyn Hooks<Cpu>,
) -> Vec<Vec<u32>> {
    let logits = model.logits(tensor(examples, &cpu()), queries, hooks);
    let d_vocab = logits.dims()[1];
    let logits = logits.into_data().into_vec::<f32>().unwrap();
    assert!(logits.iter().all(|logit| logit.is_finite()));
    logits.chunks_exact(d_vocab).map(|row| row.iter().map(|x| x.to_bits()).collect()).collect()
}

#[test]
fn future_tokens_do_not_change_logits_and_past_ones_do() {
    for spec in specs() {
        let model = init::<Cpu>(&spec);
        let queries = QueryRows::all(1, N_POS);
        let before = bits(&model, &examples(0..1), &queries, &mut NoHooks);
        for changed_pos in 0..N_POS {
            let mut changed = examples(0..1);
            changed[0][changed_pos] = (changed[0][changed_pos] + 1) % D_VOCAB as i64;
            let after = bits(&model, &changed, &queries, &mut NoHooks);
            assert_eq!(before[..changed_pos], after[..changed_pos], "{spec:?}");
            // Every later place can see the change, so a model that ignores its past fails here.
            for pos in changed_pos..N_POS {
                assert_ne!(before[pos], after[pos], "{spec:?}: {changed_pos} is unseen at {pos}");
            }
        }
    }
}

#[test]
fn a_row_of_logits_has_the_same_bits_in_any_batch_and_among_any_queries() {
    for spec in specs() {
        let model = init::<Cpu>(&spec);
        let whole = bits(&model, &examples(0..7), &QueryRows::all(7, N_POS), &mut NoHooks);
        for batch in [0..1_u64, 2..5, 6..7] {
            let n_examples = batch.clone().count();
            let places: Vec<(u32, u32)> =
                (0..n_examples as u32).flat_map(|k| [(k, 1), (k, 4), (k, 11)]).collect();
            let queries = QueryRows::new(N_POS, places.clone());
            let some = bits(&model, &examples(batch.clone()), &queries, &mut NoHooks);
            for ((example, pos), row) in std::iter::zip(places, some) {
                let flat = (batch.start as usize + example as usize) * N_POS + pos as usize;
                assert_eq!(row, whole[flat], "{spec:?}: example {example}, pos {pos} of {batch:?}");
            }
        }
    }
}

#[test]
fn hooks_that_read_everything_change_no_bit_of_logits_or_gradients() {
    for spec in specs() {
        let queries = QueryRows::new(N_POS, vec![(0, 3), (1, 0), (1, 11), (2, 7)]);
        let model = init::<CpuAutodiff>(&spec);
        let grads = |hooks: &mut dyn Hooks<CpuAutodiff>| {
            let logits = model.logits(tensor(&examples(0..3), &cpu()), &queries, hooks);
            let answers = Tensor::from_data([1, 2, 3, 4], &cpu());
            let loss = CpuAutodiff::cross_entropy(logits.clone(), answers);
            (logits.into_data().into_vec::<f32>().unwrap(), read_grads(&model, &loss.backward()))
        };
        let mut record = Record::everything(&spec);
        assert_eq!(grads(&mut NoHooks), grads(&mut record), "{spec:?}");
        assert_eq!(record.values().len(), points(&spec).len());
    }
}

#[test]
fn every_point_has_the_axes_of_the_table() {
    for spec in specs() {
        let queries = QueryRows::new(N_POS, vec![(0, 3), (1, 0), (1, 11), (2, 7)]);
        let mut record = Record::everything(&spec);
        bits(&init(&spec), &examples(0..3), &queries, &mut record);
        let (n_heads, d_mlp) = match &spec {
            ModelSpec::Transformer(spec) => (spec.n_heads, spec.d_mlp),
            ModelSpec::Lstm(_) => (1, 1),
            ModelSpec::Associative(spec) => (1, spec.d_mlp),
        };
        for point in points(&spec) {
            let length = |axis: &&str| match *axis {
                "batch" => 3,
                "pos" | "query" | "key" => N_POS,
                "n_queries" => queries.len(),
                "d_model" => spec.d_model(),
                "d_vocab" => spec.d_vocab(),
                "d_mlp" => d_mlp,
                "head" => n_heads,
                "d_head" => spec.d_model() / n_heads,
                "gate" => 4,
                other => panic!("no axis is called {other}"),
            };
            let expected: Vec<usize> = point.axes.iter().map(length).collect();
            assert_eq!(record.values()[&point.name].shape, expected, "{}", point.name);
        }
    }
}

/// What a pass leaves at one point.
fn value(spec: &ModelSpec, point: &str, queries: &QueryRows) -> Array {
    let mut record = Record::new(spec, &[point]).unwrap();
    bits(&init(spec), &examples(0..3), queries, &mut record);
    record.values()[&canonical(point)].clone()
}

#[test]
fn a_pattern_is_a_distribution_over_the_past_and_explains_the_fused_result() {
    let spec = &specs()[0];
    let queries = QueryRows::all(3, N_POS);
    for layer in 0..3 {
        let read = |point: &str| value(spec, &format!("blocks.{layer}.attn.{point}"), &queries);
        // In the last block the query axis lies before the head axis.
        let last = layer == 2;
        let (pattern, v, z) = (read("hook_pattern"), read("v.hook_out"), read("hook_z"));
        let (n_heads, d_head) = (2, 8);
        for (example, head, query) in (0..3 * n_heads * N_POS)
            .map(|k| (k / (n_heads * N_POS), k / N_POS % n_heads, k % N_POS))
        {
            let row = if last {
                (example * N_POS + query) * n_heads + head
            } else {
                (example * n_heads + head) * N_POS + query
            };
            let row = &pattern.data[row * N_POS..][..N_POS];
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            assert!(row[query + 1..].iter().all(|&weight| weight.to_bits() == 0));
            for c in 0..d_head {
                let at = |pos: usize| ((example * N_POS + pos) * n_heads + head) * d_head + c;
                let mixed: f32 = (0..N_POS).map(|key| row[key] * v.data[at(key)]).sum();
                assert!((mixed - z.data[at(query)]).abs() < 1e-5, "layer {layer}");
            }
        }
    }
}

#[test]
fn what_a_hook_reads_before_the_gelu_explains_what_comes_after_it_to_the_bit() {
    let queries = QueryRows::new(N_POS, vec![(0, 3), (1, 0), (2, 7)]);
    for (spec, form) in [(&specs()[0], Gelu::Erf), (&specs()[2], Gelu::Tanh)] {
        for layer in 0..2 {
            let read = |point: &str| value(spec, &format!("blocks.{layer}.mlp.{point}"), &queries);
            let (pre, post) = (read("hook_pre"), read("hook_post"));
            let rows = [1, pre.data.len()];
            let pre = Tensor::<Cpu, 2>::from_data(TensorData::new(pre.data, rows), &cpu());
            let expected = <Cpu as Ops>::gelu(pre, form).into_data().into_vec::<f32>().unwrap();
            check_same_bits(&format!("layer {layer}"), &post.data, &expected);
        }
    }
}

/// The short way to the logits is the long one: unembedding what the last point holds.
#[test]
fn the_logits_of_an_associative_model_are_its_last_stream_unembedded() {
    for spec in specs().iter().filter(|spec| spec.name() == "associative") {
        let queries = QueryRows::new(N_POS, vec![(0, 3), (1, 0), (1, 11), (2, 7)]);
        let (out, logits) =
            (value(spec, "blocks.1.hook_out", &queries), value(spec, "unembed.hook_out", &queries));
        let params = init::<Cpu>(spec).params();
        let unembed = &params.get("unembed.weight").unwrap().data;
        for (row, logits) in
            std::iter::zip(out.data.chunks(spec.d_model()), logits.data.chunks(D_VOCAB))
        {
            for (token, &logit) in logits.iter().enumerate() {
                let terms = row.iter().enumerate().map(|(i, x)| x * unembed[i * D_VOCAB + token]);
                let expected: f32 = terms.sum();
                assert!((logit - expected).abs() < 1e-4 * (1.0 + expected.abs()), "{spec:?}");
            }
        }
    }
}

/// The quirk of the published code, seen from outside: what attention adds does not reach the MLP of
/// its own block. In the usual order it does.
#[test]
fn a_parallel_mlp_does_not_see_what_its_block_attended_to() {
    let ModelSpec::Transformer(parallel) = &specs()[8] else { panic!("a transformer") };
    let queries = QueryRows::new(N_POS, vec![(0, 3), (1, 0), (2, 7)]);
    for (parallel_mlp, norm) in
        [(true, Norm::Pre), (false, Norm::Pre), (true, Norm::None), (false, Norm::None)]
    {
        let spec =
            ModelSpec::Transformer(TransformerSpec { parallel_mlp, norm, ..parallel.clone() });
        let model = init::<Cpu>(&spec);
        for layer in 0..2 {
            let mlp_out = format!("blocks.{layer}.mlp.hook_out");
            let seen = |point: &str| {
                let mut said = None;
                let mut patch = Patch::new(&spec)
                    .at(&format!("blocks.{layer}.{point}"), |value: Value<Cpu>| {
                        match value.dims().len() {
                            2 => value.tensor::<2>().mul_scalar(0.0).into(),
                            _ => value.tensor::<3>().mul_scalar(0.0).into(),
                        }
                    })
                    .unwrap()
                    .at(&mlp_out, |value| {
                        said = Some(value.to_array());
                        value
                    })
                    .unwrap();
                bits(&model, &examples(0..3), &queries, &mut patch);
                drop(patch);
                said.unwrap()
            };
            let plain = value(&spec, &mlp_out, &queries);
            assert_eq!(seen("attn.hook_out") == plain, parallel_mlp, "{norm:?}, block {layer}");
            assert_ne!(seen("hook_in"), plain);
        }
    }
}

#[test]
fn sinusoidal_positions_are_those_of_the_formula_and_know_no_longest_sequence() {
    let spec = &specs()[9];
    let read = value(spec, "pos_embed.hook_out", &QueryRows::all(3, N_POS));
    assert_eq!(read.shape, [N_POS, 12]);
    for (k, &got) in read.data.iter().enumerate() {
        let (pos, dim) = ((k / 12) as f64, k % 12);
        let angle = pos / 10_000_f64.powf((dim - dim % 2) as f64 / 12.0);
        let expected = if dim % 2 == 0 { angle.sin() } else { angle.cos() };
        assert!((f64::from(got) - expected).abs() < 1e-6, "pos {pos}, dim {dim}");
    }
    assert_eq!(spec.n_ctx(), None);
    let long = vec![(0..40).map(|k| k % 6).collect::<Vec<i64>>()];
    let model = init::<Cpu>(spec);
    let queries = QueryRows::new(40, vec![(0, 39)]);
    let logits = model.logits(tensor(&long, &cpu()), &queries, &mut NoHooks);
    assert_eq!(logits.dims(), [1, D_VOCAB]);
}

/// A place is its number in units of the longest sequence, on the last number of the stream.
#[test]
fn linear_positions_are_a_line_and_know_no_longest_sequence() {
    let spec = ModelSpec::Transformer(TransformerSpec {
        positions: Positions::Linear,
        pos_scale: PosScale::Unit,
        n_ctx: 8,
        d_vocab: D_VOCAB,
        ..TransformerSpec::x_transformers(1, 12, 1)
    });
    let read = value(&spec, "pos_embed.hook_out", &QueryRows::all(3, N_POS));
    assert_eq!(read.shape, [N_POS, 12]);
    for (k, &got) in read.data.iter().enumerate() {
        let expected = if k % 12 == 11 { (k / 12) as f32 / 8.0 } else { 0.0 };
        assert!((got - expected).abs() < 1e-7, "pos {}, dim {}", k / 12, k % 12);
    }
    assert_eq!(spec.n_ctx(), None);
    assert!(init::<Cpu>(&spec).params().names().all(|name| !name.starts_with("pos")));
}

/// The rows that nobody asks for are measured beside the others, and change no bit of theirs.
#[test]
fn measuring_all_rows_of_the_last_layer_leaves_the_asked_logits_alone() {
    let stream = Stream::root(3);
    let queries = QueryRows::new(N_POS, vec![(0, 4), (1, 0), (2, 11)]);
    for spec in interventions() {
        let layers = [spec.n_layers - 1];
        let model = init::<Cpu>(&ModelSpec::Transformer(spec.clone()));
        let tokens = || tensor::<Cpu>(&examples(0..3), &cpu());
        let regularisation = Regularisation {
            dropout: DropoutRates::default(),
            streams: std::slice::from_ref(&stream),
            step: 1,
            sharpen: Some((Bluntness::Entropy, &layers)),
            asked_rows: false,
        };
        let (logits, penalty) = model.regularised_logits(tokens(), &queries, &regularisation);
        let plain = model.logits(tokens(), &queries, &mut NoHooks);
        let bits = |logits: Tensor<Cpu, 2>| logits.into_data().into_vec::<f32>().unwrap();
        check_same_bits(&format!("{:?}", spec.relative), &bits(logits), &bits(plain));
        assert!(penalty.is_some());
    }
}

#[test]
fn the_cell_of_an_lstm_explains_its_state() {
    let spec = &specs()[3];
    let queries = QueryRows::all(3, N_POS);
    for layer in 0..2 {
        let read = |point: &str| value(spec, &format!("layers.{layer}.{point}"), &queries);
        let (gates, cell, h) = (read("hook_gates"), read("hook_cell"), read("hook_out"));
        for (k, state) in h.data.iter().enumerate() {
            let (row, c) = (k / 12, k % 12);
            let output_gate = gates.data[(row * 4 + 3) * 12 + c];
            assert!((output_gate * cell.data[k].tanh() - state).abs() < 1e-6, "layer {layer}");
        }
    }
}

#[test]
fn replacing_is_possible_at_every_replaceable_point_and_is_felt() {
    for spec in specs() {
        let model = init::<Cpu>(&spec);
        let queries = QueryRows::new(N_POS, vec![(0, 3), (2, 7)]);
        let plain = bits(&model, &examples(0..3), &queries, &mut NoHooks);
        for point in points(&spec).into_iter().filter(|point| point.replaceable) {
            let n_calls = Cell::new(0);
            let mut double = Patch::new(&spec)
                .at(&point.name, |value: Value<Cpu>| {
                    n_calls.set(n_calls.get() + 1);
                    match value.dims().len() {
                        2 => value.tensor::<2>().mul_scalar(2.0).into(),
                        3 => value.tensor::<3>().mul_scalar(2.0).into(),
                        _ => value.tensor::<4>().mul_scalar(2.0).into(),
                    }
                })
                .unwrap();
            let patched = bits(&model, &examples(0..3), &queries, &mut double);
            assert_eq!(n_calls.get(), 1, "{}", point.name);
            assert_ne!(plain, patched, "{}", point.name);
        }
        let name = points(&spec).into_iter().find(|point| !point.replaceable).unwrap().name;
        let refused = Patch::<Cpu>::new(&spec).at(&name, |value| value).unwrap_err();
        assert!(refused.to_string().contains("can be read but not replaced"), "{refused}");
    }
}

#[test]
fn a_pattern_replaced_by_itself_gives_the_fused_logits_to_rounding() {
    for spec in specs().iter().filter(|spec| spec.name() != "lstm") {
        let model = init::<Cpu>(spec);
        let queries = QueryRows::new(N_POS, vec![(0, 3), (1, 0), (2, 7)]);
        let mut patch = Patch::new(spec);
        for layer in 0..spec.n_layers() {
            patch = patch.at(&format!("blocks.{layer}.attn.hook_pattern"), |same| same).unwrap();
        }
        let plain = bits(&model, &examples(0..3), &queries, &mut NoHooks).concat();
        let patched = bits(&model, &examples(0..3), &queries, &mut patch).concat();
        for (a, b) in std::iter::zip(plain, patched) {
            assert!((f32::from_bits(a) - f32::from_bits(b)).abs() < 1e-5);
        }
    }
}

#[test]
fn a_mistyped_point_is_refused_with_the_way_to_the_table() {
    let spec = &specs()[0];
    let why = Record::new(spec, &["blocks.0.attn.hook_patern"]).unwrap_err().to_string();
    assert_eq!(
        why,
        "this transformer of 3 layers has no hook point `blocks.0.attn.hook_patern`; the table of \
         points is in the documentation of mnemoscope_model::hook"
    );
}

const SGD: Sgd =
    Sgd { lr: 0.1, momentum: 0.9, dampening: 0.0, nesterov: false, weight_decay: 1e-4 };

fn adamw(lr: f64) -> Rule {
    Rule::AdamW(AdamW { lr, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1 })
}

/// The gradients of a small batch, each times `factor`.
fn grads_times(
    model: &Model<CpuAutodiff>,
    factor: f64,
) -> <CpuAutodiff as AutodiffBackend>::Gradients {
    let queries = QueryRows::new(N_POS, vec![(0, 3), (1, 11)]);
    let logits = model.logits(tensor(&examples(0..2), &cpu()), &queries, &mut NoHooks);
    let loss = CpuAutodiff::cross_entropy(logits, Tensor::from_data([1, 2], &cpu()));
    loss.mul_scalar(factor).backward()
}

#[test]
fn training_continues_from_a_stored_state_to_the_same_bits() {
    for (spec, rule) in
        specs().iter().flat_map(|spec| [adamw(3e-3), Rule::Sgd(SGD)].map(|rule| (spec, rule)))
    {
        let step = |model: &mut Model<CpuAutodiff>, state: &mut OptimState<Cpu>| {
            let grads = grads_times(model, 1.0);
            state.step(model, grads, &rule, Some(0.5)).unwrap();
        };
        let (mut model, mut state) = (init::<CpuAutodiff>(spec), OptimState::new(&rule));
        state.check_fit(spec, |_| true).unwrap();
        for _ in 0..3 {
            step(&mut model, &mut state);
        }
        state.check_fit(spec, |_| true).unwrap();
        let (stored_model, stored_state) = (model.params(), state.to_tensors());
        for _ in 0..2 {
            step(&mut model, &mut state);
        }
        let mut state = OptimState::from_tensors(&rule, &stored_state, &cpu()).unwrap();
        assert_eq!(state.n_steps(), 3);
        let mut resumed = Model::from_params(spec, stored_model, &cpu()).unwrap();
        for _ in 0..2 {
            step(&mut resumed, &mut state);
        }
        assert_eq!(resumed.params(), model.params(), "{spec:?} {rule:?}");
    }
}

/// A parameter that learns late is to its optimiser as one that learns from the beginning: its first
/// step is a first step, as in PyTorch, where frozen tensors are skipped.
#[test]
fn a_parameter_that_was_frozen_begins_like_any_other() {
    let spec = &specs()[5];
    let late = "blocks.1.attn.out.weight";
    let dampened = Sgd { dampening: 0.4, ..SGD };
    for rule in [adamw(1e-2), Rule::Sgd(dampened)] {
        let frozen = init::<CpuAutodiff>(spec).learn(|name| name != late);
        let (mut model, mut state) = (frozen, OptimState::new(&rule));
        let before = model.params();
        for _ in 0..2 {
            let grads = grads_times(&model, 1.0);
            state.step(&mut model, grads, &rule, None).unwrap();
        }
        assert_eq!(model.params().get(late), before.get(late), "it was frozen");
        assert_ne!(model.params().get("embed.weight"), before.get("embed.weight"));
        state.check_fit(spec, |name| name != late).unwrap();
        assert!(state.check_fit(spec, |_| true).is_err());

        let mut thawed = model.learn(|_| true);
        let (mut fresh, mut fresh_state) = (thawed.clone(), OptimState::new(&rule));
        let grads = grads_times(&thawed, 1.0);
        state.step(&mut thawed, grads, &rule, None).unwrap();
        let grads = grads_times(&fresh, 1.0);
        fresh_state.step(&mut fresh, grads, &rule, None).unwrap();
        assert_eq!(thawed.params().get(late), fresh.params().get(late), "{rule:?}");

        // The count of steps it missed survives being stored.
        let mut stored = OptimState::from_tensors(&rule, &state.to_tensors(), &cpu()).unwrap();
        let mut resumed = thawed.clone();
        let grads = grads_times(&thawed, 1.0);
        state.step(&mut thawed, grads, &rule, None).unwrap();
        let grads = grads_times(&resumed, 1.0);
        stored.step(&mut resumed, grads, &rule, None).unwrap();
        assert_eq!(thawed.params(), resumed.params(), "{rule:?}");
    }
}

#[test]
fn clipping_scales_all_gradients_to_the_norm_and_leaves_small_ones_alone() {
    let spec = &specs()[3];
    let model = init::<CpuAutodiff>(spec);
    let grads = grads_times(&model, 1.0);
    let norm = grad_norm(&model, &grads);
    let named = read_grads(&model, &grads);
    let squares = named.iter().flat_map(|(_, array)| &array.data);
    let expected = squares.map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    assert!((norm / expected - 1.0).abs() < 1e-6);

    // One step from zeros: SGD keeps the gradient that was used, AdamW a tenth of it.
    for (rule, row, share) in [
        (adamw(0.0), "m.", 0.1),
        (Rule::Sgd(Sgd { lr: 0.0, weight_decay: 0.0, ..SGD }), "momentum.", 1.0),
    ] {
        let kept_norm = |clip_norm: f64| {
            let (mut moved, mut state) = (model.clone(), OptimState::new(&rule));
            state.step(&mut moved, grads_times(&model, 1.0), &rule, Some(clip_norm)).unwrap();
            assert_eq!(moved.params(), model.params(), "a learning rate of zero moves nothing");
            let kept = state.to_tensors().strip_prefix(row);
            let numbers = kept.iter().flat_map(|(_, array)| &array.data);
            numbers.map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt() / share
        };
        assert!((kept_norm(norm / 4.0) / (norm / 4.0) - 1.0).abs() < 1e-4, "{rule:?}");
        assert!((kept_norm(4.0 * norm) / norm - 1.0).abs() < 1e-6, "{rule:?}");
    }
}

#[test]
fn a_gradient_that_is_not_finite_is_named_and_clipping_sees_it_before_anything_moves() {
    for spec in specs() {
        let last = match &spec {
            ModelSpec::Associative(_) => "unembed.weight",
            ModelSpec::Transformer(spec) if spec.tie_unembed => "ln_f.bias",
            ModelSpec::Transformer(spec) if !spec.unembed_bias => "unembed.weight",
            ModelSpec::Transformer(_) | ModelSpec::Lstm(_) => "unembed.bias",
        };
        for (rule, clip_norm) in
            [(adamw(1e-3), None), (Rule::Sgd(SGD), None), (adamw(1e-3), Some(1.0))]
        {
            let (mut model, mut state) = (init::<CpuAutodiff>(&spec), OptimState::new(&rule));
            let grads = grads_times(&model, 1.0);
            state.step(&mut model, grads, &rule, clip_norm).unwrap();
            let before = (model.params(), state.to_tensors());
            let grads = grads_times(&model, f64::NAN);
            let found = state.step(&mut model, grads, &rule, clip_norm).unwrap_err();
            assert_eq!(found.kind(), ErrorKind::NotFinite);
            let advice = "try a smaller learning rate, or clip the gradient";
            let expected = format!("the gradient of `{last}` is not finite; {advice}");
            assert_eq!(found.to_string(), expected);
            let after = (model.params(), state.to_tensors());
            assert_eq!(after == before, clip_norm.is_some(), "{rule:?} {clip_norm:?}");
        }
    }
}

#[test]
fn a_step_beyond_all_numbers_is_told_from_a_wrong_gradient() {
    let spec = &specs()[3];
    let rule = Rule::Sgd(Sgd { lr: 1e38, weight_decay: 1e38, ..SGD });
    let (mut model, mut state) = (init::<CpuAutodiff>(spec), OptimState::new(&rule));
    let grads = grads_times(&model, 1.0);
    let found = state.step(&mut model, grads, &rule, None).unwrap_err().to_string();
    assert!(found.starts_with("what the step makes of `unembed."), "{found}");
}

#[test]
fn the_first_point_that_is_not_finite_is_found_in_every_model() {
    for spec in specs() {
        let queries = QueryRows::all(2, N_POS);
        let tokens = || tensor::<Cpu>(&examples(0..2), &cpu());
        let mut found = FirstNotFinite::default();
        let model = init::<Cpu>(&spec);
        drop(model.logits(tokens(), &queries, &mut found));
        assert_eq!(found.point(), None, "{spec:?}: a masked score counts");
        let (param, expected) = match &spec {
            ModelSpec::Lstm(_) => ("layers.0.b_hh", "layers.0.hook_gates"),
            // The models of "Birth of a Transformer" have no biases to spoil.
            ModelSpec::Transformer(spec) if !spec.has_mlp(0) => {
                ("blocks.0.attn.out.weight", "blocks.0.attn.hook_out")
            }
            ModelSpec::Transformer(spec) if spec.mlp == Mlp::Linear => {
                ("blocks.0.mlp.down.bias", "blocks.0.mlp.hook_out")
            }
            ModelSpec::Transformer(spec) if !spec.mlp_bias => {
                ("blocks.0.mlp.up.weight", "blocks.0.mlp.hook_pre")
            }
            // The first of the biases are those of the values.
            ModelSpec::Transformer(spec) if spec.mlp.gated() => {
                ("blocks.0.mlp.up.bias", "blocks.0.mlp.hook_pre_linear")
            }
            ModelSpec::Transformer(_) => ("blocks.0.mlp.up.bias", "blocks.0.mlp.hook_pre"),
            ModelSpec::Associative(spec) if spec.factored.contains(&Memory::K2) => {
                ("blocks.1.attn.k.right.weight", "blocks.1.attn.k.hook_out")
            }
            ModelSpec::Associative(_) => ("blocks.1.attn.k.weight", "blocks.1.attn.k.hook_out"),
        };
        let mut params = model.params();
        let mut bias = params.remove(param).unwrap();
        bias.data[2] = f32::NAN;
        params.insert(param, bias);
        drop(model.load(&params).unwrap().logits(tokens(), &queries, &mut found));
        assert_eq!(found.point(), Some(expected), "{spec:?}");
    }
}

#[test]
fn a_state_that_does_not_fit_is_refused_with_every_complaint() {
    let spec = &specs()[3];
    let rule = adamw(1e-3);
    let (mut model, mut state) = (init::<CpuAutodiff>(spec), OptimState::new(&rule));
    let grads = grads_times(&model, 1.0);
    state.step(&mut model, grads, &rule, None).unwrap();
    let other = ModelSpec::Lstm(LstmSpec { n_layers: 2, d_model: 12, d_vocab: 7 });
    let why = state.check_fit(&other, |_| true).unwrap_err().to_string();
    assert!(why.contains("`embed.weight` has shape [6, 12], the model needs [7, 12]"), "{why}");

    let refused = |rule: &Rule, stored: &Tensors| {
        OptimState::<Cpu>::from_tensors(rule, stored, &cpu()).unwrap_err().to_string()
    };
    let mut stored = state.to_tensors();
    let why = refused(&Rule::Sgd(SGD), &stored);
    assert!(why.contains("`m.embed.weight` is no part of it"), "{why}");
    stored.remove("v.embed.weight");
    stored.remove("n_steps");
    let why = refused(&rule, &stored);
    assert!(why.contains("`n_steps` is missing; `v.embed.weight` is missing"), "{why}");
    let row = Array { shape: vec![72], data: vec![0.0; 72] };
    stored.insert("v.embed.weight", row);
    let why = refused(&rule, &stored);
    assert!(
        why.contains("`m.embed.weight` has shape [6, 12] and `v.embed.weight` has [72]"),
        "{why}"
    );
}
