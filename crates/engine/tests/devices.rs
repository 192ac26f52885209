//! Every operation on every GPU that is found, and on the CPU in every other precision that it has, against the CPU in
//! single precision: values, gradients, the optimiser.
//!
//! GPUs need a build of their own: `cargo test -p mnemoscope-engine --features wgpu --test devices` (or
//! `cuda`). A machine without a GPU has one in software, Mesa's, which Debian packs as `mesa-vulkan-drivers`.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use mnemoscope_engine::burn::tensor::{Device as BurnDevice, ElementConversion as _, Int, Tensor};
use mnemoscope_engine::device::{Device, OnDevice, Precision};
use mnemoscope_engine::optim::{
    AdamW, Learned, Pace, Rule, Sgd, sums_of_squares, sums_of_squares_each, update, update_each,
};
use mnemoscope_engine::testing::{check_close, numbers};
use mnemoscope_engine::{
    Activation, Attend, AutodiffOps, Dropout, Gate, Gelu, Ops, QueryRows, Rotary, as_factor,
};

/// What one operation gave, and its gradients.
type Given = Vec<(String, Vec<f32>)>;

fn devices() -> Vec<Device> {
    let all: Vec<Device> = Device::all().into_iter().map(|found| found.device).collect();
    if cfg!(any(feature = "cuda", feature = "wgpu")) {
        let text = "no GPU was found; Debian's mesa-vulkan-drivers has one in software";
        assert!(all.iter().any(|&device| device != Device::Cpu), "{text}");
    }
    all
}

/// Devices and precisions, but the one with which the others are compared.
fn others() -> Vec<(Device, Precision)> {
    let each = |device: Device| device.precisions().iter().map(move |&it| (device, it));
    devices().into_iter().flat_map(each).filter(|&it| it != (Device::Cpu, Precision::F32)).collect()
}

/// Does the same on the CPU and everywhere else, and compares all numbers.
///
/// In another precision than single, where factors are cut to eleven bits or rounded to eight, single numbers may be far
/// off, as where a ReLU falls to the other side of its corner; all of them together may not.
fn check<W: OnDevice<Output = Given> + Copy>(work: W) {
    let expected = Device::Cpu.run(work).unwrap();
    for (device, precision) in others() {
        let got = device.run_in(precision, work).unwrap();
        assert_eq!(got.len(), expected.len());
        for ((name, got), (_, expected)) in got.iter().zip(&expected) {
            let name = format!("{device} in {precision}: {name}");
            match (device, precision) {
                (_, Precision::F32) => check_close(&name, got, expected, 5e-5),
                (Device::Cpu, Precision::Tf32) => check_together(&name, got, expected, 1e-4),
                (_, Precision::Tf32) => check_together(&name, got, expected, 1e-2),
                (_, Precision::Bf16) => check_together(&name, got, expected, 3e-2),
            }
        }
    }
}

/// Checks that the root of the mean square of the differences is within `tolerance` of that of the numbers.
fn check_together(name: &str, got: &[f32], expected: &[f32], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{name}");
    let length =
        |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>().sqrt();
    let pairs = || got.iter().zip(expected);
    let off = length(&mut pairs().map(|(got, expected)| f64::from(got - expected)));
    let size = length(&mut expected.iter().map(|&x| f64::from(x)));
    assert!(off <= tolerance * size, "{name}: off by {off:.3e} of {size:.3e}");
}

/// Makes leaves on a device and takes gradients.
struct Leaves<'d, A: AutodiffOps> {
    device: &'d BurnDevice<A>,
    given: Given,
}

impl<A: AutodiffOps> Leaves<'_, A> {
    fn leaf<const D: usize>(&self, salt: u64, shape: [usize; D], scale: f32) -> Tensor<A, D> {
        self.inner(salt, shape.iter().product(), scale).reshape(shape).require_grad()
    }

    fn inner(&self, salt: u64, n: usize, scale: f32) -> Tensor<A, 1> {
        let numbers: Vec<f32> = numbers(salt, n).iter().map(|x| x * scale).collect();
        Tensor::from_data(numbers.as_slice(), self.device)
    }

    fn ints<const D: usize>(&self, shape: [usize; D], bound: usize) -> Tensor<A, D, Int> {
        let int = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7).rem_euclid(bound) as i32;
        let ints: Vec<i32> = (0..shape.iter().product::<usize>()).map(int).collect();
        Tensor::<A, 1, Int>::from_data(ints.as_slice(), self.device).reshape(shape)
    }

    /// Keeps `y`, and hands out the gradients of a weighted sum of its entries.
    fn pull<const D: usize>(&mut self, name: &str, y: Tensor<A, D>) -> A::Gradients {
        let weight = self.inner(99, y.shape().num_elements(), 1.0).reshape(y.dims());
        self.given.push((name.to_owned(), plain(y.clone().inner())));
        (y * weight).sum().backward()
    }

    fn keep<const D: usize>(&mut self, name: &str, leaf: &Tensor<A, D>, grads: &A::Gradients) {
        let grad = leaf.grad(grads).unwrap();
        self.given.push((format!("gradient of {name}"), plain(grad)));
    }
}

fn plain<B: Ops, const D: usize>(x: Tensor<B, D>) -> Vec<f32> {
    x.into_data().to_vec().unwrap()
}

/// Declares a check: a body over `leaves` of any backend.
macro_rules! agrees {
    ($name:ident, $backend:ident, $leaves:ident, $body:block) => {
        #[test]
        fn $name() {
            #[derive(Clone, Copy)]
            struct Work;
            impl OnDevice for Work {
                type Output = Given;

                fn on<$backend: AutodiffOps>(self, device: &BurnDevice<$backend>) -> Given {
                    let mut $leaves = Leaves::<$backend> { device, given: Vec::new() };
                    $body
                    $leaves.given
                }
            }
            check(Work);
        }
    };
}

agrees!(embeddings_agree, A, leaves, {
    let (table, places) = (leaves.leaf(1, [7, 24], 1.0), leaves.leaf(2, [9, 24], 1.0));
    let tokens = leaves.ints([3, 8], 7);
    let grads = leaves.pull("embed", A::embed(table.clone(), tokens.clone()));
    leaves.keep("table", &table, &grads);
    let table = leaves.leaf(1, [7, 24], 1.0);
    let y = A::embed_at(table.clone(), places.clone(), 0.3, tokens);
    let grads = leaves.pull("embed_at", y);
    leaves.keep("table", &table, &grads);
    leaves.keep("places", &places, &grads);
});

agrees!(linear_layers_agree, A, leaves, {
    let acts = [
        None,
        Some(Activation::Relu),
        Some(Activation::Gelu(Gelu::Erf)),
        Some(Activation::Gelu(Gelu::Tanh)),
        Some(Activation::Gated(Gate::Gelu(Gelu::Erf))),
        Some(Activation::Gated(Gate::Silu)),
        Some(Activation::Gated(Gate::Sigmoid)),
    ];
    for act in acts {
        let d_product = act.map_or(48, |act| act.d_product(48));
        let (x, weight) = (leaves.leaf(1, [70, 32], 2.0), leaves.leaf(2, [32, d_product], 1.0));
        let bias = leaves.leaf(3, [d_product], 1.0);
        let y = match act {
            Some(act) => A::linear_act(x.clone(), weight.clone(), Some(bias.clone()), act),
            None => <A as Ops>::linear(x.clone(), weight.clone(), Some(bias.clone())),
        };
        let grads = leaves.pull(&format!("linear with {act:?}"), y);
        leaves.keep("x", &x, &grads);
        leaves.keep("weight", &weight, &grads);
        leaves.keep("bias", &bias, &grads);
    }
});

agrees!(matrices_agree, A, leaves, {
    // Two axes of a batch, and one factor that lies the other way round.
    let x = leaves.inner(1, 2 * 3 * 20 * 33, 1.0).reshape([2, 3, 20, 33]).inner();
    let y = leaves.inner(2, 2 * 3 * 24 * 33, 1.0).reshape([2, 3, 24, 33]).inner();
    let product = <A::InnerBackend as Ops>::matrices(x, y.swap_dims(2, 3));
    assert_eq!(product.dims(), [2, 3, 20, 24]);
    leaves.given.push(("matrices".to_owned(), plain(product)));
});

agrees!(norms_agree, A, leaves, {
    for [n_rows, d] in [[30, 64], [2_100, 200]] {
        let row = |salt| leaves.leaf(salt, [d], 1.0);
        let (x, gain, bias) = (leaves.leaf(1, [n_rows, d], 3.0), row(2), row(3));
        let y = <A as Ops>::layer_norm(x.clone(), gain.clone(), bias.clone(), 1e-5);
        let grads = leaves.pull("layer_norm", y);
        leaves.keep("x", &x, &grads);
        leaves.keep("gain", &gain, &grads);
        leaves.keep("bias", &bias, &grads);
        let (x, gain) = (leaves.leaf(1, [n_rows, d], 3.0), leaves.leaf(2, [d], 1.0));
        let grads = leaves.pull("rms_norm", A::rms_norm(x.clone(), gain.clone(), 1e-5));
        leaves.keep("x", &x, &grads);
        leaves.keep("gain", &gain, &grads);
    }
});

agrees!(narrow_layers_agree, A, leaves, {
    // Long sums of which there are few, and short ones.
    let (x, weight) = (leaves.leaf(1, [300, 80], 1.0), leaves.leaf(2, [80, 5], 1.0));
    let y = <A as Ops>::linear(x.clone(), weight.clone(), Some(leaves.leaf(3, [5], 1.0)));
    let grads = leaves.pull("narrow linear", y);
    leaves.keep("x", &x, &grads);
    leaves.keep("weight", &weight, &grads);
});

agrees!(what_is_only_a_factor_agrees, A, leaves, {
    let [batch, seq_len, d] = [2, 24, 32];
    let x = leaves.leaf(1, [batch * seq_len, d], 2.0);
    let (gain, bias) = (leaves.leaf(2, [d], 1.0), leaves.leaf(3, [d], 1.0));
    let of = |salt, d_in, d_out| leaves.leaf(salt, [d_in, d_out], 0.5);
    let (qkv, out, up, down) = (of(4, d, 3 * d), of(5, d, d), of(6, d, 48), of(7, 48, d));
    let up_bias = leaves.leaf(8, [48], 1.0);
    let attend = Attend { factor_grad: true, ..Attend::plain(2) };
    let map = |x, weight: &Tensor<A, 2>| <A as Ops>::linear(x, weight.clone(), None);
    let seen = as_factor(|| <A as Ops>::layer_norm(x.clone(), gain.clone(), bias.clone(), 1e-5));
    let rows = as_factor(|| map(seen, &qkv)).reshape([batch, seq_len, 3 * d]);
    let mixed = as_factor(|| A::causal_attention(rows, None, &attend));
    let attended = map(mixed.reshape([batch * seq_len, d]), &out);
    let act = Activation::Gelu(Gelu::Erf);
    let post = as_factor(|| A::linear_act(attended, up.clone(), Some(up_bias.clone()), act));
    let grads = leaves.pull("a block", map(post, &down));
    leaves.keep("x", &x, &grads);
    for (name, leaf) in [("gain", &gain), ("bias", &bias), ("up_bias", &up_bias)] {
        leaves.keep(name, leaf, &grads);
    }
    for (name, leaf) in [("qkv", &qkv), ("out", &out), ("up", &up), ("down", &down)] {
        leaves.keep(name, leaf, &grads);
    }
});

/// Dropout, statistics, temperature, a bias: alone and together.
fn ways(n_heads: usize) -> [(Attend, bool); 4] {
    let plain = || Attend::plain(n_heads);
    let dropout = Some(Dropout::new(0.3, 0x0123_4567_89ab_cdef));
    [
        (plain(), false),
        (Attend { temperature: 0.6, ..plain() }, true),
        (Attend { stats: true, ..plain() }, false),
        (Attend { temperature: 1.7, dropout, stats: true, ..plain() }, true),
    ]
}

/// Several, one and no query in an example.
fn places(batch: u32, seq_len: u32) -> QueryRows {
    let asked = |example: u32, pos: u32| example % 3 != 1 && (pos * 7 + example).is_multiple_of(5);
    let all = (0..batch).flat_map(|example| (0..seq_len).map(move |pos| (example, pos)));
    let all = all.filter(|&(example, pos)| asked(example, pos)).collect();
    QueryRows::new(seq_len as usize, all)
}

agrees!(attention_agrees, A, leaves, {
    let (batch, seq_len, n_heads, d) = (4, 65, 3, 48);
    for (attend, biased) in ways(n_heads) {
        let name = format!("attention {attend:?}");
        let bias = biased.then(|| leaves.leaf(9, [n_heads, seq_len], 1.5));
        let qkv = leaves.leaf(1, [batch, seq_len, 3 * d], 2.0);
        let grads = leaves.pull(&name, A::causal_attention(qkv.clone(), bias.clone(), &attend));
        leaves.keep("qkv", &qkv, &grads);
        if let Some(bias) = bias {
            leaves.keep("bias", &bias, &grads);
        }
        let rows = places(4, 65);
        let bias = biased.then(|| leaves.leaf(9, [n_heads, seq_len], 1.5));
        let (q, kv) =
            (leaves.leaf(1, [rows.len(), d], 2.0), leaves.leaf(2, [batch, seq_len, 2 * d], 2.0));
        let y = A::causal_attention_at(q.clone(), kv.clone(), bias, &rows, &attend);
        let grads = leaves.pull(&name, y);
        leaves.keep("q", &q, &grads);
        leaves.keep("kv", &kv, &grads);
    }
});

agrees!(attention_of_parts_agrees, A, leaves, {
    let (batch, seq_len, d, d_v) = (3, 40, 24, 33);
    let parts = |leaves: &Leaves<'_, A>| {
        let shape = |width| [batch, seq_len, width];
        (leaves.leaf(2, shape(d), 2.0), leaves.leaf(3, shape(d_v), 1.0))
    };
    let attend = Attend::plain(1);
    let (q, (k, v)) = (leaves.leaf(1, [batch, seq_len, d], 2.0), parts(&leaves));
    let y = A::causal_attention_of(q.clone(), k.clone(), v.clone(), &attend);
    let grads = leaves.pull("causal_attention_of", y);
    leaves.keep("q", &q, &grads);
    leaves.keep("k", &k, &grads);
    leaves.keep("v", &v, &grads);
    let rows = places(3, 40);
    let (q, (k, v)) = (leaves.leaf(1, [rows.len(), d], 2.0), parts(&leaves));
    let y = A::causal_attention_of_at(q.clone(), k.clone(), v.clone(), &rows, &attend);
    let grads = leaves.pull("causal_attention_of_at", y);
    leaves.keep("q", &q, &grads);
    leaves.keep("k", &k, &grads);
    leaves.keep("v", &v, &grads);
    let (tokens, scores) = (leaves.ints([batch, seq_len], 5), leaves.leaf(4, [50, 50], 2.0));
    let (_, v) = parts(&leaves);
    let y = A::causal_attention_looked_up(tokens, scores.clone(), 5, v.clone(), &attend);
    let grads = leaves.pull("causal_attention_looked_up", y);
    leaves.keep("scores", &scores, &grads);
    leaves.keep("values", &v, &grads);
});

agrees!(asked_rows_agree, A, leaves, {
    let (rows, x) = (places(3, 40), leaves.leaf(1, [120, 24], 1.0));
    let grads = leaves.pull("select_rows", A::select_rows(x.clone(), &rows));
    leaves.keep("x", &x, &grads);
});

agrees!(positions_and_dropout_agree, A, leaves, {
    let (rows, rotary) = (QueryRows::all(3, 11), Rotary::new(16, 12, 10_000.0, 11));
    let x = leaves.leaf(1, [33, 48], 1.0);
    let grads = leaves.pull("rotary", A::rotary(x.clone(), 2, &rows, &rotary));
    leaves.keep("x", &x, &grads);
    let x = leaves.leaf(1, [33, 48], 1.0);
    let grads = leaves.pull("dropout", A::dropout(x.clone(), &rows, &Dropout::new(0.3, 17)));
    leaves.keep("x", &x, &grads);
});

agrees!(lstms_agree, A, leaves, {
    let (gates_in, w_hh) = (leaves.leaf(1, [3, 20, 96], 2.0), leaves.leaf(2, [24, 96], 0.2));
    let grads = leaves.pull("lstm", A::lstm(gates_in.clone(), w_hh.clone()));
    leaves.keep("gates_in", &gates_in, &grads);
    leaves.keep("w_hh", &w_hh, &grads);
    let (table, w_hh) = (leaves.leaf(1, [5, 96], 2.0), leaves.leaf(2, [24, 96], 0.2));
    let tokens = leaves.ints([3, 20], 5);
    let grads = leaves.pull("lstm_of", A::lstm_of(table.clone(), tokens, w_hh.clone()));
    leaves.keep("table", &table, &grads);
    leaves.keep("w_hh", &w_hh, &grads);
});

agrees!(losses_agree, A, leaves, {
    for (n_rows, d_vocab) in [(1, 2), (130, 5), (300, 65)] {
        let (logits, targets) =
            (leaves.leaf(1, [n_rows, d_vocab], 8.0), leaves.ints([n_rows], d_vocab));
        let loss = A::cross_entropy(logits.clone(), targets);
        let grads = leaves.pull("cross_entropy", loss);
        leaves.keep("logits", &logits, &grads);
    }
});

agrees!(optimisers_agree, A, leaves, {
    let adamw = AdamW { lr: 3e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1 };
    let sgd = Sgd { lr: 0.1, momentum: 0.8, dampening: 0.3, nesterov: false, weight_decay: 1e-2 };
    for rule in [Rule::AdamW(adamw), Rule::Sgd(sgd)] {
        let row = |salt, n| leaves.inner(salt, n, 1.0).inner();
        let kept =
            |n| vec![Tensor::<A::InnerBackend, 1>::zeros([n], leaves.device); rule.kept().len()];
        let learned =
            |(salt, n)| Learned { param: row(salt, n), grad: row(salt, n), kept: kept(n) };
        let sizes = [2_001, 3, 300, 1, 513, 256, 7, 90, 5, 1_000];
        let mut all: Vec<_> = (1..).zip(sizes).map(learned).collect();
        for step in 1..=5 {
            for (salt, learned) in (20..).zip(&mut all) {
                learned.grad = row(salt + step, learned.param.dims()[0]);
            }
            let (moved, finite) = update(all, &rule, step, 0.5);
            assert_eq!(finite, [true; 10]);
            all = moved;
        }
        let squares = sums_of_squares(all.iter().map(|learned| learned.param.clone()).collect());
        leaves.given.push(("squares".to_owned(), squares.iter().map(|&sum| sum as f32).collect()));
        for learned in all {
            leaves.given.push(("param".to_owned(), plain(learned.param)));
            let kept = learned.kept.into_iter().map(|row| ("kept".to_owned(), plain(row)));
            leaves.given.extend(kept);
        }
    }
});

agrees!(layers_of_a_cohort_agree, A, leaves, {
    let (table, tokens) = (leaves.leaf(1, [3 * 7, 24], 1.0), leaves.ints([6, 8], 7));
    let grads = leaves.pull("embed_each", A::embed_each(table.clone(), tokens, 3));
    leaves.keep("table", &table, &grads);
    for act in [None, Some(Activation::Gelu(Gelu::Erf)), Some(Activation::Gated(Gate::Silu))] {
        for [n_rows, d_in, d_out] in [[23, 16, 40], [600, 24, 5]] {
            let d_product = act.map_or(d_out, |act| act.d_product(d_out));
            let (x, weight) = (
                leaves.leaf(1, [3 * n_rows, d_in], 2.0),
                leaves.leaf(2, [3 * d_in, d_product], 1.0),
            );
            let bias = leaves.leaf(3, [3 * d_product], 1.0);
            let y = match act {
                Some(act) => A::linear_act(x.clone(), weight.clone(), Some(bias.clone()), act),
                None => <A as Ops>::linear(x.clone(), weight.clone(), Some(bias.clone())),
            };
            let grads = leaves.pull("layer", y);
            leaves.keep("x", &x, &grads);
            leaves.keep("weight", &weight, &grads);
            leaves.keep("bias", &bias, &grads);
        }
    }
    let x = leaves.leaf(1, [3 * 10, 48], 1.0);
    let (gain, bias) = (leaves.leaf(2, [3 * 48], 1.0), leaves.leaf(3, [3 * 48], 1.0));
    let normed = <A as Ops>::layer_norm(x.clone(), gain.clone(), bias.clone(), 1e-5);
    let grads = leaves.pull("norms", <A as Ops>::rms_norm(normed, gain.clone(), 1e-5));
    for (name, leaf) in [("gain", &gain), ("bias", &bias)] {
        leaves.keep(name, leaf, &grads);
    }
    leaves.keep("x", &x, &grads);
});

agrees!(sequences_of_a_cohort_agree, A, leaves, {
    let (gates, w_hh) =
        (leaves.leaf(1, [6, 9, 4 * 12], 1.0), leaves.leaf(2, [3 * 12, 4 * 12], 0.3));
    let grads = leaves.pull("lstm", A::lstm(gates.clone(), w_hh.clone()));
    leaves.keep("gates", &gates, &grads);
    leaves.keep("w_hh", &w_hh, &grads);
    let (qkv, bias) = (leaves.leaf(1, [6, 9, 3 * 16], 1.0), leaves.leaf(2, [3 * 2, 9], 1.0));
    let dropout = Some(Dropout::each(0.3, &[5, u64::MAX, 1 << 33], 2));
    let attend = Attend { dropout, stats: true, ..Attend::plain(2) };
    let y = A::causal_attention(qkv.clone(), Some(bias.clone()), &attend);
    let grads = leaves.pull("attention", y);
    leaves.keep("qkv", &qkv, &grads);
    leaves.keep("bias", &bias, &grads);
    let places = [(0, 3), (0, 8), (1, 0), (2, 1), (3, 4), (3, 5), (4, 7), (5, 2), (5, 8)].to_vec();
    let rows = QueryRows::new(9, places);
    let (q, kv) = (leaves.leaf(3, [9, 16], 1.0), leaves.leaf(4, [6, 9, 2 * 16], 1.0));
    let y = A::causal_attention_at(q.clone(), kv.clone(), Some(bias.clone()), &rows, &attend);
    let grads = leaves.pull("attention at", y);
    leaves.keep("q", &q, &grads);
    leaves.keep("kv", &kv, &grads);
    leaves.keep("bias", &bias, &grads);
    let x = leaves.leaf(5, [9, 16], 1.0);
    let dropout = attend.dropout.as_ref().unwrap();
    let grads = leaves.pull("dropout", <A as Ops>::dropout(x.clone(), &rows, dropout));
    leaves.keep("x", &x, &grads);
    let (logits, targets) = (leaves.leaf(1, [40, 5], 2.0), leaves.ints([40], 5));
    let weights = leaves.inner(2, 40, 1.0);
    let losses = A::weighted_losses(logits.clone(), targets, weights);
    let grads = leaves.pull("losses", losses);
    leaves.keep("logits", &logits, &grads);
});

agrees!(paces_of_a_cohort_agree, A, leaves, {
    let adamw = |lr: f64, weight_decay: f64| {
        Rule::AdamW(AdamW { lr, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay })
    };
    let sgd = |lr: f64, momentum: f64| {
        Rule::Sgd(Sgd { lr, momentum, dampening: 0.0, nesterov: true, weight_decay: 1e-2 })
    };
    for rules in [[adamw(3e-3, 0.1), adamw(1e-2, 0.0)], [sgd(0.1, 0.8), sgd(0.01, 0.0)]] {
        let paces = rules.map(|rule| Pace { rule, grad_scale: 0.5 });
        let row = |salt, n| leaves.inner(salt, n, 1.0).inner();
        let none = |n| Tensor::<A::InnerBackend, 1>::zeros([n], leaves.device);
        let learned = |(salt, n): (u64, usize)| Learned {
            param: row(salt, n),
            grad: row(salt, n),
            kept: rules[0].kept().iter().map(|_| none(n)).collect(),
        };
        let mut all: Vec<_> = [(1, 2_002), (2, 6)].map(learned).into();
        for step in 1..=3 {
            for (salt, learned) in (20..).zip(&mut all) {
                learned.grad = row(salt + step, learned.param.dims()[0]);
            }
            let (moved, finite) = update_each(all, &paces, step);
            assert_eq!(finite, [true; 4]);
            all = moved;
        }
        let params = all.iter().map(|learned| learned.param.clone()).collect();
        let squares = sums_of_squares_each(params, 2);
        leaves.given.push(("squares".to_owned(), squares.iter().map(|&sum| sum as f32).collect()));
        for learned in all {
            leaves.given.push(("param".to_owned(), plain(learned.param)));
            leaves
                .given
                .extend(learned.kept.into_iter().map(|row| ("kept".to_owned(), plain(row))));
        }
    }
});

#[test]
fn a_step_says_of_which_member_a_number_is_not_finite() {
    #[derive(Clone, Copy)]
    struct Work;
    impl OnDevice for Work {
        type Output = Vec<bool>;

        fn on<A: AutodiffOps>(self, device: &BurnDevice<A>) -> Vec<bool> {
            let rule =
                Sgd { lr: 1.0, momentum: 0.9, dampening: 0.0, nesterov: false, weight_decay: 0.0 };
            let pace = Pace { rule: Rule::Sgd(rule), grad_scale: 1.0 };
            let row = |x: [f32; 2]| {
                let numbers = [x[0], 1.0, 1.0, x[1], 1.0, 1.0];
                Tensor::<A::InnerBackend, 1>::from_data(numbers, device)
            };
            let learned =
                |grad| Learned { param: row([1.0; 2]), grad: row(grad), kept: vec![row([0.0; 2])] };
            let params =
                vec![learned([1.0, f32::NAN]), learned([1.0, 1.0]), learned([f32::INFINITY, 1.0])];
            update_each(params, &[pace; 3], 1).1
        }
    }
    let expected = [true, false, true, true, true, true, false, true, true];
    for device in devices() {
        assert_eq!(device.run(Work).unwrap(), expected, "{device}");
    }
}

#[test]
fn a_step_says_of_which_parameter_a_number_is_not_finite() {
    #[derive(Clone, Copy)]
    struct Work;
    impl OnDevice for Work {
        type Output = Vec<bool>;

        fn on<A: AutodiffOps>(self, device: &BurnDevice<A>) -> Vec<bool> {
            let rule =
                Sgd { lr: 1.0, momentum: 0.9, dampening: 0.0, nesterov: false, weight_decay: 0.0 };
            let row = |x: f32| Tensor::<A::InnerBackend, 1>::from_data([1.0, x], device);
            let learned =
                |param, grad| Learned { param: row(param), grad: row(grad), kept: vec![row(0.0)] };
            let params = vec![learned(1.0, 1.0), learned(1.0, f32::NAN), learned(-3e38, 3e38)];
            update(params, &Rule::Sgd(rule), 1, 1.0).1
        }
    }
    for device in devices() {
        assert_eq!(device.run(Work).unwrap(), [true, false, false], "{device}");
    }
}

#[test]
fn a_device_that_is_not_there_is_refused_in_one_sentence() {
    #[derive(Debug)]
    struct Nothing;
    impl OnDevice for Nothing {
        type Output = ();

        fn on<A: AutodiffOps>(self, _device: &BurnDevice<A>) {}
    }
    for device in [Device::Cuda(77), Device::Vulkan(77)] {
        let why = device.run(Nothing).unwrap_err().to_string();
        assert!(!why.contains('\n') && why.len() > 20, "{why}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_thread_of_its_own_used_of_a_device_goes_back() {
    /// Fills 64 MiB, and waits until they are filled.
    #[derive(Clone, Copy)]
    struct Fill;
    impl OnDevice for Fill {
        type Output = ();

        fn on<A: AutodiffOps>(self, device: &BurnDevice<A>) {
            let ones = Tensor::<A, 1>::ones([1 << 24], device);
            assert!(ones.narrow(0, 0, 1).into_scalar().elem::<f32>() > 0.0);
        }
    }
    // Pages of this process, which is where an emulated device has its memory.
    let resident_mib = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4 / 1024
    };
    for found in Device::all().into_iter().filter(|found| found.emulated) {
        let fill = || std::thread::spawn(move || found.device.run(Fill).unwrap()).join().unwrap();
        fill();
        let before = resident_mib();
        (0..16).for_each(|_| fill());
        let more = resident_mib().saturating_sub(before);
        assert!(more < 512, "{more} MiB of {} were kept for threads that have ended", found.device);
    }
}
