//! Every fused operation against its reference: values, gradients, rows, threads.
//!
//! Both sides run under autodiff from the same leaves, so a wrong hand-written backward pass shows
//! as a gradient that differs from the one Burn derives for the composed primitives.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod attention;

use std::slice::from_ref;

use mnemoscope_engine::{
    Activation, Attend, Dropout, Gate, Gelu, Ops, QueryRows, Rotary,
    burn::tensor::{Int, Tensor, backend::AutodiffBackend},
    device::{Cpu, CpuAutodiff, cpu},
    optim::{AdamW, Learned, Rule, Sgd, sums_of_squares, update},
    reference,
    testing::{check_close, check_same_bits, numbers},
};

use attention::{places, ways};

type Ad = CpuAutodiff;

type Gradients = <Ad as AutodiffBackend>::Gradients;

fn leaf<const D: usize>(salt: u64, shape: [usize; D], scale: f32) -> Tensor<Ad, D> {
    let numbers = numbers(salt, shape.iter().product());
    let numbers: Vec<f32> = numbers.iter().map(|x| x * scale).collect();
    Tensor::<Ad, 1>::from_data(numbers.as_slice(), &cpu()).reshape(shape).require_grad()
}

fn ints<const D: usize>(shape: [usize; D], bound: usize) -> Tensor<Ad, D, Int> {
    let ints: Vec<i32> = (0..shape.iter().product::<usize>())
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 7).rem_euclid(bound) as i32)
        .collect();
    Tensor::<Ad, 1, Int>::from_data(ints.as_slice(), &cpu()).reshape(shape)
}

fn plain<B: Ops, const D: usize>(x: Tensor<B, D>) -> Vec<f32> {
    x.into_data().to_vec().unwrap()
}

/// Values of both sides, and the gradient of `sum(y * w)` by the leaf.
struct Side<const Y: usize> {
    y: Tensor<Ad, Y>,
}

/// Compares two ways to compute the same from the same leaves.
fn check<const Y: usize, const X: usize>(
    name: &str,
    leaves: &[Tensor<Ad, X>],
    got: Tensor<Ad, Y>,
    expected: Tensor<Ad, Y>,
    tolerance: f32,
) {
    let (got, expected) = (Side { y: got }, Side { y: expected });
    check_close(name, &plain(got.y.clone()), &plain(expected.y.clone()), tolerance);
    let weight: Tensor<Ad, Y> =
        Tensor::<Ad, 1>::from_data(numbers(99, got.y.shape().num_elements()).as_slice(), &cpu())
            .reshape(got.y.dims());
    let grads = |y: Tensor<Ad, Y>| (y * weight.clone()).sum().backward();
    let (got, expected) = (grads(got.y), grads(expected.y));
    for (i, leaf) in leaves.iter().enumerate() {
        let got = plain(leaf.grad(&got).unwrap());
        let expected = plain(leaf.grad(&expected).unwrap());
        check_close(&format!("d {name} / d input {i}"), &got, &expected, tolerance);
    }
}

/// [`check`] with one more leaf of another rank.
fn check_two<const Y: usize, const X: usize, const Z: usize>(
    name: &str,
    leaves: (&[Tensor<Ad, X>], &[Tensor<Ad, Z>]),
    run: impl Fn(bool) -> Tensor<Ad, Y>,
    tolerance: f32,
) {
    check(name, leaves.0, run(true), run(false), tolerance);
    check(name, leaves.1, run(true), run(false), tolerance);
}

#[test]
fn embed_agrees() {
    for (d_vocab, d, batch, seq_len) in [(5, 24, 3, 7), (5, 1, 1, 1), (300, 16, 2, 511)] {
        let table = leaf(1, [d_vocab, d], 1.0);
        let tokens = ints([batch, seq_len], d_vocab);
        let run = |fused: bool| match fused {
            true => <Ad as Ops>::embed(table.clone(), tokens.clone()),
            false => reference::embed(table.clone(), tokens.clone()),
        };
        check("embed", from_ref(&table), run(true), run(false), 1e-5);
    }
}

#[test]
fn embed_at_agrees() {
    for (d_vocab, d, batch, seq_len, n_ctx) in
        [(5, 24, 3, 7, 7), (5, 1, 1, 1, 4), (300, 16, 2, 511, 512)]
    {
        let table = leaf(1, [d_vocab, d], 1.0);
        let places = leaf(2, [n_ctx, d], 1.0);
        let tokens = ints([batch, seq_len], d_vocab);
        let run = |fused: bool| {
            let (table, places, tokens) = (table.clone(), places.clone(), tokens.clone());
            match fused {
                true => <Ad as Ops>::embed_at(table, places, 0.3, tokens),
                false => reference::embed_at(table, places, 0.3, tokens),
            }
        };
        check("embed_at", &[table.clone(), places.clone()], run(true), run(false), 1e-5);
    }
}

#[test]
fn add_agrees_whoever_else_holds_its_operands() {
    for shape in [[3, 7, 5], [1, 1, 1], [2, 300, 64]] {
        let (x, y) = (leaf(1, shape, 1.0), leaf(2, shape, 1.0));
        let (got, expected) =
            (<Ad as Ops>::add(x.clone(), y.clone()), reference::add(x.clone(), y.clone()));
        check("add", &[x.clone(), y.clone()], got, expected, 1e-6);
        let n = shape.iter().product();
        let sum: Vec<f32> = numbers(1, n).iter().zip(numbers(2, n)).map(|(x, y)| x + y).collect();
        let (x, y) = (|| inner(1, shape), || inner(2, shape));
        let (held, held_too) = (x(), y());
        let add = <Cpu as Ops>::add;
        for got in [
            add(x(), y()),
            add(held.clone(), y()),
            add(x(), held_too.clone()),
            add(held.clone(), held_too.clone()),
        ] {
            check_same_bits("add", &plain(got), &sum);
        }
        check_same_bits("held", &plain(held), &numbers(1, n));
        check_same_bits("held", &plain(held_too), &numbers(2, n));
    }
}

#[test]
fn linear_agrees() {
    for (n_rows, d_in, d_out) in [(1, 1, 1), (1, 64, 5), (7, 24, 33), (1030, 16, 96)] {
        for with_bias in [false, true] {
            let (x, weight) = (leaf(1, [n_rows, d_in], 1.0), leaf(2, [d_in, d_out], 1.0));
            let bias = with_bias.then(|| leaf(3, [d_out], 1.0));
            let run = |fused: bool| match fused {
                true => <Ad as Ops>::linear(x.clone(), weight.clone(), bias.clone()),
                false => reference::linear(x.clone(), weight.clone(), bias.clone()),
            };
            let leaves = (&[x.clone(), weight.clone()][..], bias.as_slice());
            check_two("linear", leaves, run, 1e-5);
        }
    }
}

const ACTIVATIONS: [Activation; 8] = [
    Activation::Relu,
    Activation::Gelu(Gelu::Erf),
    Activation::Gelu(Gelu::Tanh),
    Activation::Gated(Gate::Sigmoid),
    Activation::Gated(Gate::Relu),
    Activation::Gated(Gate::Gelu(Gelu::Erf)),
    Activation::Gated(Gate::Gelu(Gelu::Tanh)),
    Activation::Gated(Gate::Silu),
];

/// `y`, `d_x`, `d_weight` and perhaps `d_bias` of a layer of this shape from leaves of its own.
fn layer_sides(
    [n_rows, d_in, d_product]: [usize; 3],
    with_bias: bool,
    layer: impl Fn(Tensor<Ad, 2>, Tensor<Ad, 2>, Option<Tensor<Ad, 1>>) -> Tensor<Ad, 2>,
) -> Vec<(&'static str, Vec<f32>)> {
    let (x, weight) = (leaf(1, [n_rows, d_in], 2.0), leaf(2, [d_in, d_product], 1.0));
    let bias = with_bias.then(|| leaf(3, [d_product], 1.0));
    let (y, grads) = pulled(layer(x.clone(), weight.clone(), bias.clone()));
    let d_x = ("d_x", plain(x.grad(&grads).unwrap()));
    let d_weight = ("d_weight", plain(weight.grad(&grads).unwrap()));
    let d_bias = bias.map(|bias| ("d_bias", plain(bias.grad(&grads).unwrap())));
    [("y", y), d_x, d_weight].into_iter().chain(d_bias).collect()
}

#[test]
fn linear_act_agrees() {
    for act in ACTIVATIONS {
        for (n_rows, d_in, d_out) in [(1, 1, 1), (7, 24, 33), (1030, 16, 48)] {
            for with_bias in [false, true] {
                check_sides(1e-5, |fused| {
                    let dims = [n_rows, d_in, act.d_product(d_out)];
                    layer_sides(dims, with_bias, |x, weight, bias| match fused {
                        true => <Ad as Ops>::linear_act(x, weight, bias, act),
                        false => reference::linear_act(x, weight, bias, act),
                    })
                });
            }
        }
    }
}

#[test]
fn an_epilogue_has_the_bits_of_linear_and_gelu() {
    for form in [Gelu::Erf, Gelu::Tanh] {
        let act = Activation::Gelu(form);
        let dims = [211, 24, 70];
        let fused = layer_sides(dims, true, |x, w, b| <Ad as Ops>::linear_act(x, w, b, act));
        let apart = layer_sides(dims, true, |x, weight, bias| {
            <Ad as Ops>::gelu(<Ad as Ops>::linear(x, weight, bias), form)
        });
        for ((name, fused), (_, apart)) in fused.iter().zip(&apart) {
            check_same_bits(name, fused, apart);
        }
        // Without gradients the product is not kept, which is another path.
        let (x, weight, bias) =
            (leaf(1, [211, 24], 2.0), leaf(2, [24, 70], 1.0), leaf(3, [70], 1.0));
        let y = <Cpu as Ops>::linear_act(x.inner(), weight.inner(), Some(bias.inner()), act);
        check_same_bits("y without gradients", &plain(y), &fused[0].1);
    }
}

#[test]
fn a_gradient_reaches_one_input_of_linear_act_alone() {
    let act = Activation::Gated(Gate::Silu);
    for alone in 0..3 {
        check_sides(1e-5, |fused| {
            let (mut x, mut weight): (Tensor<Ad, 2>, Tensor<Ad, 2>) =
                (Tensor::from_inner(inner(1, [9, 6])), Tensor::from_inner(inner(2, [6, 8])));
            let mut bias: Tensor<Ad, 1> = Tensor::from_inner(inner(3, [8]));
            match alone {
                0 => x = x.require_grad(),
                1 => weight = weight.require_grad(),
                _ => bias = bias.require_grad(),
            }
            let operands = (x.clone(), weight.clone(), Some(bias.clone()));
            let (y, grads) = pulled(match (fused, operands) {
                (true, (x, weight, bias)) => <Ad as Ops>::linear_act(x, weight, bias, act),
                (false, (x, weight, bias)) => reference::linear_act(x, weight, bias, act),
            });
            let grad = match alone {
                0 => plain(x.grad(&grads).unwrap()),
                1 => plain(weight.grad(&grads).unwrap()),
                _ => plain(bias.grad(&grads).unwrap()),
            };
            vec![("y", y), ("gradient", grad)]
        });
    }
}

#[test]
fn a_gated_product_without_two_halves_is_refused() {
    let refused = std::panic::catch_unwind(|| {
        let act = Activation::Gated(Gate::Silu);
        <Cpu as Ops>::linear_act(inner(1, [2, 3]), inner(2, [3, 5]), None, act)
    });
    let message = *refused.unwrap_err().downcast::<String>().unwrap();
    assert_eq!(message, "weight: [d_in, 5] is not [d_in, 2 d_out], a value and a gate");
}

#[test]
fn layer_norm_agrees() {
    for (n_rows, d) in [(1, 16), (7, 24), (300, 128)] {
        let (x, gain, bias) = (leaf(1, [n_rows, d], 3.0), leaf(2, [d], 1.0), leaf(3, [d], 1.0));
        let run = |fused: bool| match fused {
            true => <Ad as Ops>::layer_norm(x.clone(), gain.clone(), bias.clone(), 1e-5),
            false => reference::layer_norm(x.clone(), gain.clone(), bias.clone(), 1e-5),
        };
        check_two("layer_norm", (from_ref(&x), &[gain.clone(), bias.clone()]), run, 1e-5);
    }
}

#[test]
fn rms_norm_agrees() {
    for (n_rows, d) in [(1, 16), (7, 24), (300, 128)] {
        check_sides(1e-5, |fused| {
            let (x, gain) = (leaf(1, [n_rows, d], 3.0), leaf(2, [d], 1.0));
            let (y, grads) = pulled(match fused {
                true => <Ad as Ops>::rms_norm(x.clone(), gain.clone(), 1e-5),
                false => reference::rms_norm(x.clone(), gain.clone(), 1e-5),
            });
            let (d_x, d_gain) = (x.grad(&grads).unwrap(), gain.grad(&grads).unwrap());
            vec![("y", y), ("d_x", plain(d_x)), ("d_gain", plain(d_gain))]
        });
    }
}

#[test]
fn gelu_agrees() {
    for form in [Gelu::Erf, Gelu::Tanh] {
        for shape in [[2, 4], [3, 37], [200, 64]] {
            let x = leaf(1, shape, 6.0);
            let (got, expected) =
                (<Ad as Ops>::gelu(x.clone(), form), reference::gelu(x.clone(), form));
            check("gelu", from_ref(&x), got, expected, 2e-6);
        }
    }
}

/// The values of `y`, and the gradients of `sum(y * w)` by each leaf that is there.
fn pulled<const Y: usize>(y: Tensor<Ad, Y>) -> (Vec<f32>, Gradients) {
    let weight = numbers(99, y.shape().num_elements());
    let weight = Tensor::<Ad, 1>::from_data(weight.as_slice(), &cpu()).reshape(y.dims());
    (plain(y.clone()), (y * weight).sum().backward())
}

/// Compares what both ways give. Each makes its own leaves: a leaf that two graphs share is gone
/// from the second when Burn has walked the first.
fn check_sides(tolerance: f32, side: impl Fn(bool) -> Vec<(&'static str, Vec<f32>)>) {
    let (got, expected) = (side(true), side(false));
    assert_eq!(got.len(), expected.len());
    for ((name, got), (_, expected)) in got.iter().zip(&expected) {
        check_close(name, got, expected, tolerance);
    }
}

#[test]
fn lstm_agrees() {
    for (batch, seq_len, d) in [(1, 1, 16), (3, 20, 24), (2, 511, 16), (1, 5, 64)] {
        let gates_in = leaf(1, [batch, seq_len, 4 * d], 2.0);
        let w_hh = leaf(2, [d, 4 * d], (d as f32).sqrt().recip());
        let run = |fused: bool| match fused {
            true => <Ad as Ops>::lstm(gates_in.clone(), w_hh.clone()),
            false => reference::lstm(gates_in.clone(), w_hh.clone()),
        };
        if seq_len > 1 {
            check_two("lstm", (from_ref(&gates_in), from_ref(&w_hh)), run, 2e-5);
        } else {
            check("lstm", from_ref(&gates_in), run(true), run(false), 2e-5);
        }
    }
}

#[test]
fn gates_that_are_looked_up_have_the_bits_of_those_written_down() {
    for (batch, seq_len, d, d_vocab) in [(1, 1, 1, 1), (3, 7, 16, 5), (50, 9, 33, 70)] {
        let (table, w_hh) = (inner(1, [d_vocab, 4 * d]), inner(2, [d, 4 * d]));
        let tokens = || ints([batch, seq_len], d_vocab).inner();
        let written = <Cpu as Ops>::embed(table.clone(), tokens());
        let expected = plain(<Cpu as Ops>::lstm(written, w_hh.clone()));
        let looked_up = <Cpu as Ops>::lstm_of(table.clone(), tokens(), w_hh.clone());
        check_same_bits("lstm_of", &plain(looked_up), &expected);
        let [table, w_hh] = [table, w_hh].map(|x| Tensor::<Ad, 2>::from_inner(x).require_grad());
        let tokens = ints([batch, seq_len], d_vocab);
        let h = <Ad as Ops>::lstm_of(table.clone(), tokens, w_hh.clone());
        check_same_bits("lstm_of under autodiff", &plain(h.clone()), &expected);
        let grads = h.sum().backward();
        assert!(table.grad(&grads).is_some() && w_hh.grad(&grads).is_some());
    }
}

#[test]
fn cross_entropy_agrees() {
    for (n_rows, d_vocab) in [(1, 2), (17, 5), (1030, 65), (1000, 300), (3, 5000)] {
        let logits = leaf(1, [n_rows, d_vocab], 8.0);
        let targets = ints([n_rows], d_vocab);
        let (got, expected) = (
            <Ad as Ops>::cross_entropy(logits.clone(), targets.clone()),
            reference::cross_entropy(logits.clone(), targets),
        );
        check("cross_entropy", from_ref(&logits), got, expected, 1e-5);
    }
}

/// Runs `f(n_examples)` in pools of 1, 2 and 4 threads: the first results must be the same bits.
fn check_rows(name: &str, n_examples: &[usize], f: impl Fn(usize) -> Vec<f32> + Sync) {
    let most = f(*n_examples.last().unwrap());
    for n_threads in [1, 2, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        for &n_examples in n_examples {
            let some = pool.install(|| f(n_examples));
            assert!(!some.is_empty());
            check_same_bits(name, &some, &most[..some.len()]);
        }
    }
}

fn inner<const D: usize>(salt: u64, shape: [usize; D]) -> Tensor<Cpu, D> {
    leaf(salt, shape, 1.0).inner()
}

#[test]
fn a_row_has_the_same_bits_whatever_the_batch_and_the_threads() {
    let (seq_len, n_heads, d) = (70, 2, 48);
    let sizes = [1, 7, 64];
    check_rows("linear", &sizes, |n| {
        plain(<Cpu as Ops>::linear(inner(1, [n, d]), inner(2, [d, 33]), Some(inner(3, [33]))))
    });
    check_rows("layer_norm", &sizes, |n| {
        plain(<Cpu as Ops>::layer_norm(inner(1, [n, d]), inner(2, [d]), inner(3, [d]), 1e-5))
    });
    check_rows("rms_norm", &sizes, |n| {
        plain(<Cpu as Ops>::rms_norm(inner(1, [n, d]), inner(2, [d]), 1e-5))
    });
    for act in ACTIVATIONS {
        check_rows("linear_act", &[1, 7, 97, 211], |n| {
            let d_product = act.d_product(33);
            let (weight, bias) = (inner(2, [d, d_product]), inner(3, [d_product]));
            plain(<Cpu as Ops>::linear_act(inner(1, [n, d]), weight, Some(bias), act))
        });
    }
    check_rows("gelu", &sizes, |n| plain(<Cpu as Ops>::gelu(inner(1, [n, d]), Gelu::Erf)));
    check_rows("causal_attention", &sizes, |n| {
        plain(<Cpu as Ops>::causal_attention(
            inner(1, [n, seq_len, 3 * d]),
            None,
            &Attend::plain(n_heads),
        ))
    });
    check_rows("causal_attention_at", &sizes, |n| {
        let rows = places(n, seq_len);
        let q = inner(1, [rows.len(), d]);
        plain(<Cpu as Ops>::causal_attention_at(
            q,
            inner(2, [n, seq_len, 2 * d]),
            None,
            &rows,
            &Attend::plain(n_heads),
        ))
    });
    for (attend, biased) in ways(n_heads) {
        let bias = || biased.then(|| inner(3, [n_heads, seq_len]));
        check_rows("causal_attention in every way", &sizes, |n| {
            let qkv = inner(1, [n, seq_len, 3 * d]);
            plain(<Cpu as Ops>::causal_attention(qkv, bias(), &attend))
        });
        check_rows("causal_attention_at in every way", &sizes, |n| {
            let rows = places(n, seq_len);
            let (q, kv) = (inner(1, [rows.len(), d]), inner(2, [n, seq_len, 2 * d]));
            plain(<Cpu as Ops>::causal_attention_at(q, kv, bias(), &rows, &attend))
        });
    }
    for (attend, _) in ways(n_heads) {
        check_rows("causal_attention_of_at in every way", &sizes, |n| {
            let rows = places(n, seq_len);
            let (q, k) = (inner(1, [rows.len(), d]), inner(2, [n, seq_len, d]));
            let v = inner(3, [n, seq_len, 34]);
            plain(<Cpu as Ops>::causal_attention_of_at(q, k, v, &rows, &attend))
        });
    }
    for (attend, _) in ways(1) {
        check_rows("causal_attention_looked_up in every way", &sizes, |n| {
            let (tokens, scores) = (ints([n, seq_len], 5).inner(), inner(1, [80, 80]));
            let values = inner(2, [n, seq_len, 34]);
            plain(<Cpu as Ops>::causal_attention_looked_up(tokens, scores, 5, values, &attend))
        });
    }
    check_rows("rotary", &sizes, |n| {
        let (rows, rotary) = (QueryRows::all(n, 5), Rotary::new(24, 16, 10_000.0, 5));
        plain(<Cpu as Ops>::rotary(inner(1, [5 * n, 3 * d]), 4, &rows, &rotary))
    });
    check_rows("dropout", &sizes, |n| {
        let (rows, dropout) = (QueryRows::all(n, 5), Dropout::new(0.3, 5));
        plain(<Cpu as Ops>::dropout(inner(1, [5 * n, d]), &rows, &dropout))
    });
    check_rows("lstm", &sizes, |n| {
        plain(<Cpu as Ops>::lstm(inner(1, [n, 9, 4 * d]), inner(2, [d, 4 * d])))
    });
}

#[test]
fn gradients_have_the_same_bits_for_any_number_of_threads() {
    let (batch, seq_len, n_heads, d) = (5, 70, 2, 48);
    let step = || {
        let (table, weight) = (leaf(1, [5, d], 1.0), leaf(2, [d, 3 * d], 1.0));
        let (gain, bias, w_hh) = (leaf(3, [d], 1.0), leaf(4, [d], 1.0), leaf(5, [d, 4 * d], 0.1));
        let x = <Ad as Ops>::embed(table.clone(), ints([batch, seq_len], 5));
        let x = x.reshape([batch * seq_len, d]);
        let x = <Ad as Ops>::layer_norm(x, gain.clone(), bias.clone(), 1e-5);
        let qkv = <Ad as Ops>::linear(x, weight.clone(), None);
        let y = <Ad as Ops>::causal_attention(
            qkv.reshape([batch, seq_len, 3 * d]),
            None,
            &Attend::plain(n_heads),
        );
        let gates = Tensor::cat(vec![y.clone(), y.clone(), y.clone(), y], 2);
        let h = <Ad as Ops>::lstm(gates, w_hh.clone()).reshape([batch * seq_len, d]);
        let h = <Ad as Ops>::gelu(h, Gelu::Erf);
        let loss = <Ad as Ops>::cross_entropy(h, ints([batch * seq_len], d));
        let grads = loss.backward();
        let of = |leaf: &Tensor<Ad, 2>| plain(leaf.grad(&grads).unwrap());
        let of_row = |leaf: &Tensor<Ad, 1>| plain(leaf.grad(&grads).unwrap());
        [of(&table), of(&weight), of(&w_hh), of_row(&gain), of_row(&bias)].concat()
    };
    let all = step();
    for n_threads in [1, 2, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        check_same_bits("gradients", &pool.install(step), &all);
    }
}

#[test]
fn gradients_of_layers_have_the_same_bits_for_any_number_of_threads() {
    let (n_rows, d) = (3000, 24);
    let step = || {
        let mut all = Vec::new();
        for act in ACTIVATIONS {
            let sides = layer_sides([n_rows, d, act.d_product(d)], true, |x, weight, bias| {
                let y = <Ad as Ops>::linear_act(x, weight, bias, act);
                <Ad as Ops>::rms_norm(y, leaf(4, [d], 1.0), 1e-5)
            });
            all.extend(sides.into_iter().map(|(_, numbers)| numbers));
        }
        for d_vocab in [5, 65] {
            let logits = leaf(1, [n_rows, d_vocab], 8.0);
            let loss = <Ad as Ops>::cross_entropy(logits.clone(), ints([n_rows], d_vocab));
            let (loss, grads) = pulled(loss);
            all.extend([loss, plain(logits.grad(&grads).unwrap())]);
        }
        all.concat()
    };
    let all = step();
    for n_threads in [1, 2, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        check_same_bits("gradients", &pool.install(step), &all);
    }
}

/// Ten steps of two parameters by the kernel and by the reference, with gradients cut to a half.
fn check_ten_steps(rule: &Rule) {
    let lengths = [20_001, 3];
    let start = || {
        let learned = lengths.map(|n| {
            let kept = vec![Tensor::zeros([n], &cpu()); rule.kept().len()];
            Learned { param: inner(1, [n]), grad: Tensor::zeros([n], &cpu()), kept }
        });
        learned.to_vec()
    };
    let (mut got, mut expected) = (start(), start());
    for step in 1..=10 {
        for learned in got.iter_mut().chain(&mut expected) {
            learned.grad = inner(10 + step, learned.param.dims());
        }
        let finite;
        (got, finite) = update(got, rule, step, 0.5);
        (expected, _) = reference::update(expected, rule, step, 0.5);
        assert_eq!(finite, [true; 2]);
    }
    for (got, expected) in got.into_iter().zip(expected) {
        check_close("param", &plain(got.param), &plain(expected.param), 1e-6);
        for ((got, expected), name) in got.kept.into_iter().zip(expected.kept).zip(rule.kept()) {
            check_close(name, &plain(got), &plain(expected), 1e-6);
        }
    }
}

#[test]
fn ten_steps_of_adamw_agree() {
    check_ten_steps(&Rule::AdamW(AdamW {
        lr: 3e-3,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.1,
    }));
}

#[test]
fn ten_steps_of_sgd_agree() {
    for (momentum, dampening, nesterov) in
        [(0.9, 0.0, false), (0.9, 0.0, true), (0.8, 0.3, false), (0.0, 0.3, false)]
    {
        let rule = Sgd { lr: 0.1, momentum, dampening, nesterov, weight_decay: 1e-2 };
        check_ten_steps(&Rule::Sgd(rule));
    }
}

#[test]
fn a_step_says_of_which_parameter_a_number_is_not_finite() {
    let rule = Sgd { lr: 1.0, momentum: 0.9, dampening: 0.0, nesterov: false, weight_decay: 0.0 };
    let row = |x: f32| Tensor::<Cpu, 1>::from_data([1.0, x], &cpu());
    let learned =
        |param, grad| Learned { param: row(param), grad: row(grad), kept: vec![row(0.0)] };
    let params = || vec![learned(1.0, 1.0), learned(1.0, f32::NAN), learned(-3e38, 3e38)];
    let expected = [true, false, false];
    assert_eq!(update(params(), &Rule::Sgd(rule), 1, 1.0).1, expected);
    assert_eq!(reference::update(params(), &Rule::Sgd(rule), 1, 1.0).1, expected);
}

#[test]
fn sums_of_squares_agree() {
    let arrays = || vec![inner(1, [40_000]), inner(2, [5])];
    let (got, expected) = (sums_of_squares(arrays()), reference::sums_of_squares(arrays()));
    for (got, expected) in got.into_iter().zip(expected) {
        assert!((got / expected - 1.0).abs() < 1e-5, "{got} {expected}");
    }
}

#[test]
fn dropout_agrees_and_keeps_the_mean() {
    let (rows, d) = (QueryRows::all(9, 70), 130);
    let (x, dropout) = (leaf(1, [rows.len(), d], 1.0), Dropout::new(0.3, 17));
    let got = <Ad as Ops>::dropout(x.clone(), &rows, &dropout);
    let expected = reference::dropout(x.clone(), &rows, &dropout);
    check("dropout", from_ref(&x), got, expected, 0.0);
    let whole = <Cpu as Ops>::dropout(Tensor::ones([rows.len(), d], &cpu()), &rows, &dropout);
    // 81,900 factors of 0 or 1 / 0.7, whose mean has a standard deviation of 0.0023: one in a million.
    let mean = plain(whole.clone()).iter().sum::<f32>() / (rows.len() * d) as f32;
    assert!((mean - 1.0).abs() < 0.0115, "{mean}");
    // A place that is asked alone loses what it loses among all.
    let alone = QueryRows::new(70, vec![(4, 13)]);
    let alone = <Cpu as Ops>::dropout(Tensor::ones([1, d], &cpu()), &alone, &dropout);
    check_same_bits("one place", &plain(alone), &plain(whole)[(4 * 70 + 13) * d..][..d]);
}
