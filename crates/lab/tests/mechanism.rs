//! Mechanism, measured on models whose mechanism is known: they are written down, not trained.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use mnemoscope_lab::engine::device::{Cpu, cpu};
use mnemoscope_lab::eval::{By, Exam, evaluate_apart};
use mnemoscope_lab::model::params::Tensors;
use mnemoscope_lab::model::{Mlp, Model, ModelSpec, Norm, TransformerSpec};
use mnemoscope_lab::probe::flipflop::{Reads, look};
use mnemoscope_lab::stats::stream::Stream;
use mnemoscope_lab::task::{FlipFlop, Task, split};

/// Places of an example.
const SEQ_LEN: usize = 24;
/// Width of the written model: five tokens, then the places.
const D: usize = 32;

fn language(p_ignore: f64) -> Task {
    let p = (1.0 - p_ignore) / 2.0;
    Task::FlipFlop(FlipFlop::new(SEQ_LEN as u32, p, 1.0 - p_ignore - p, p_ignore, 2).unwrap())
}

fn spec() -> ModelSpec {
    let mut spec = TransformerSpec::x_transformers(1, D, 1);
    spec.n_ctx = SEQ_LEN;
    (spec.norm, spec.mlp, spec.d_mlp) = (Norm::None, Mlp::None, 0);
    ModelSpec::Transformer(spec)
}

/// A layer of one head that looks `n_back` places back, as sharply as `beta` says, and answers
/// what it finds.
fn params(n_back: usize, beta: f32) -> Tensors {
    let mut params = Model::<Cpu>::init(&spec(), &Stream::root(0), &cpu()).params();
    let names: Vec<String> = params.names().map(str::to_owned).collect();
    for name in &names {
        let mut array = params.remove(name).unwrap();
        array.data.fill(0.0);
        params.insert(name.clone(), array);
    }
    let mut set = |name: &str, row: usize, col: usize, value: f32| {
        let mut array = params.remove(name).unwrap();
        array.data[row * array.shape[1] + col] = value;
        params.insert(name, array);
    };
    for token in 0..5 {
        set("embed.weight", token, token, 1.0);
        set("blocks.0.attn.qkv.weight", token, 2 * D + token, 1.0);
        // More than the token of the query itself says.
        set("blocks.0.attn.out.weight", token, token, 10.0);
        set("unembed.weight", token, token, 1.0);
    }
    for pos in 0..SEQ_LEN {
        // Positions are multiplied by d_model^-1/2, and so are scores.
        set("pos.weight", pos, 5 + pos, (D as f32).sqrt());
        set("blocks.0.attn.qkv.weight", 5 + pos, D + pos, 1.0);
        if pos >= n_back {
            set("blocks.0.attn.qkv.weight", 5 + pos, pos - n_back, beta * (D as f32).sqrt());
        }
    }
    params
}

fn looking_back(n_back: usize) -> Model<Cpu> {
    Model::from_params(&spec(), params(n_back, 40.0), &cpu()).unwrap()
}

/// A model that answers the token before the read is right where that is the written bit, and half
/// of the time after an ignore; however many examples it is shown at a time.
#[test]
fn counts_apart_find_a_model_that_reads_what_came_last() {
    let task = language(0.5);
    let exam = Exam {
        set: "val",
        task: &task,
        stream: split::eval_stream(0, "val"),
        n_examples: 301,
        max_glitches: 0,
    };
    let model = looking_back(1);
    let apart = |batch_size| {
        evaluate_apart(batch_size, &model, &exam, &By::ALL, &cpu(), &mut |_| true).unwrap().1
    };
    let tables = apart(None);
    for batch_size in [1, 7, 300] {
        assert_eq!(apart(Some(batch_size)), tables, "{batch_size} at a time");
    }
    let rate = |by: By, bin: u32| {
        let table = tables.iter().find(|table| table.by == by).unwrap();
        let counts = &table.bins.iter().find(|(key, _)| key.0 == bin).unwrap().1;
        assert!(counts.n_trials() > 50, "{by:?} {bin}: {} reads", counts.n_trials());
        counts.n_errors() as f64 / counts.n_trials() as f64
    };
    // Right after an ignore the token before the read is that ignore's bit.
    assert!(rate(By::Distance, 1) == 0.0, "the token before the read is the written one");
    assert!(rate(By::Ignores, 0) == 0.0, "or that of a read, which is the same");
    let of_ignored = rate(By::Ignores, 1);
    assert!(
        (of_ignored - 0.5).abs() < 0.1,
        "an ignored bit is right half of the time: {of_ignored}"
    );
    assert!(rate(By::Distractor, 0) == 0.0);
    assert!(rate(By::Distractor, 2) > 0.3 && rate(By::Distractor, 1) == 0.0);
}

fn probed(model: &Model<Cpu>, p_ignore: f64) -> Reads {
    let ModelSpec::Transformer(spec) = model.spec() else { unreachable!() };
    let examples: Vec<u64> = (3..40).collect();
    let stream = split::eval_stream(0, "val");
    look(&language(p_ignore), &spec, model, &stream, &examples, &cpu()).unwrap()
}

#[test]
fn a_head_that_looks_one_place_back_is_seen_to() {
    let reads = probed(&looking_back(1), 0.5);
    let head = &reads.heads[0];
    let (right, wrong) = (head.right.as_ref().unwrap(), head.wrong.as_ref().unwrap());
    assert_eq!(right.max_on_latest.n, reads.answers.n_right);
    assert_eq!(wrong.max_on_latest.n, reads.answers.n - reads.answers.n_right);
    // It is wrong only after ignores, and then all of its weight is there.
    assert!((wrong.ignores - 1.0).abs() < 1e-6 && wrong.latest < 1e-6, "{wrong:?}");
    // All values have length 1, so both arg-maxima are the same place; where the write is one
    // instruction back, that place is its bit.
    let share = right.max_on_latest.share().unwrap();
    assert_eq!(right.max_on_latest, right.max_value_on_latest);
    assert!((right.latest - share).abs() < 1e-6 && share > 0.1, "{right:?}");
    let sum = right.latest + right.ignores + right.reads;
    assert!((sum - 1.0).abs() < 1e-6, "{right:?}");
    assert!((right.reads - right.previous_read).abs() < 1e-6);
    assert_eq!(reads.layers[0].head_distances, [[0.0]]);
}

#[test]
fn no_weight_is_above_the_bound_and_a_head_written_down_has_the_sigma_it_was_given() {
    for (beta, n_back) in [(0.5, 1), (2.0, 3), (8.0, 0)] {
        let model = Model::from_params(&spec(), params(n_back, beta), &cpu()).unwrap();
        let reads = probed(&model, 0.8);
        let head = &reads.heads[0];
        let beta = f64::from(beta);
        assert!((head.sigma - beta).abs() < 1e-6 * beta, "{} is not {beta}", head.sigma);
        // A token and a place, each of length 1.
        assert!((reads.layers[0].longest_input - 2_f64.sqrt()).abs() < 1e-6);
        let n_keys = SEQ_LEN as f64 - 1.0;
        let weight = 1.0 / (1.0 + (n_keys - 1.0) * (-beta).exp());
        assert!((head.largest_weight - weight).abs() < 1e-5, "{} {weight}", head.largest_weight);
        let bound = 1.0 / (1.0 + (n_keys - 1.0) * (-4.0 * beta).exp());
        assert!((head.bound.unwrap() - bound).abs() < 1e-5 && weight <= bound);
    }
}

/// Of random models with norms, heads and biases: masses add up, bounds hold, pairs are symmetric.
#[test]
fn what_is_seen_of_a_random_model_is_consistent() {
    let mut spec = TransformerSpec::gpt2(2, 16, 4);
    spec.n_ctx = SEQ_LEN;
    let drawn = ModelSpec::Transformer(spec);
    let reads = probed(&Model::init(&drawn, &Stream::root(5), &cpu()), 0.5);
    assert_eq!((reads.heads.len(), reads.layers.len()), (8, 2));
    for head in &reads.heads {
        let looks = head.right.iter().chain(&head.wrong);
        let mut n = 0;
        for it in looks {
            let writes = it.latest + it.same_writes + it.wrong_writes + it.write_ops;
            let sum = writes + it.ignores + it.reads + it.itself;
            assert!((sum - 1.0).abs() < 1e-5, "{it:?}");
            assert!(it.previous_read <= it.reads + 1e-9);
            n += it.max_on_latest.n;
        }
        assert_eq!(n, reads.answers.n);
        assert!(head.largest_weight <= head.bound.unwrap(), "{head:?}");
    }
    for layer in &reads.layers {
        let heads = || reads.heads.iter().filter(|head| head.layer == layer.layer);
        let looks = || heads().flat_map(|head| head.right.iter().chain(&head.wrong));
        let largest = looks().map(|it| it.largest * it.max_on_latest.n as f64).sum::<f64>();
        let n = 4 * reads.answers.n;
        assert!((layer.largest - largest / n as f64).abs() < 1e-12 && layer.largest > 1.0 / 24.0);
        let on_latest = looks().map(|it| it.max_on_latest.n_right).sum::<u64>();
        let mean = on_latest as f64 / n as f64;
        assert!((mean..=1.0).contains(&layer.on_latest), "{} {mean}", layer.on_latest);
        assert!(looks().all(|it| (0.0..3.2).contains(&it.entropy_nats)));
        for (one, row) in layer.head_distances.iter().enumerate() {
            for (other, &apart) in row.iter().enumerate() {
                assert!((apart - layer.head_distances[other][one]).abs() < 1e-12);
                assert_eq!(apart == 0.0, one == other, "{apart}");
            }
        }
        let names: Vec<&str> = layer.norms.keys().map(String::as_str).collect();
        assert_eq!(names, ["mlp.down", "mlp.up", "w_c", "w_k", "w_q", "w_v"]);
        assert!(layer.norms.values().all(|&norm| norm > 0.0));
    }
}
