//! The ladder of the fused operations, at the sizes of a training step on flip-flop.
//!
//! Rungs: `reference` composes Burn's primitives and lets Burn derive the gradient; `fused` is the
//! hand-written kernel. Each operation is timed forward and forward with backward. Before a rung is
//! timed its answer is compared with the reference. The rate is in GFLOP/s of the products an
//! operation needs (skipping the masked half of attention), or in GB/s of the numbers it must
//! touch; `share` compares a rate with the matrix product measured first, on the same threads.
//!
//! `cargo bench -p mnemoscope-engine` times, and a name behind `--` selects rungs. Under `cargo test`
//! every rung runs once, on one example.

#![expect(clippy::print_stdout, reason = "a bench reports to the person who runs it")]
#![expect(clippy::disallowed_methods, reason = "a bench measures time")]
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a bench may stop")]

use std::time::Instant;

use mnemoscope_engine::{
    Activation, Attend, Dropout, Gate, Gelu, Ops, QueryRows, Rotary,
    burn::tensor::{Int, Tensor},
    device::{Cpu, CpuAutodiff, cpu, cpu_level},
    memory,
    optim::{AdamW, Learned, Rule, Sgd, update},
    reference,
    testing::{check_close, numbers},
};

/// As the command has it.
#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

type Ad = CpuAutodiff;

const SEQ_LEN: usize = 511;

/// How work is counted.
#[derive(Clone, Copy)]
enum Work {
    /// Multiplications and additions of matrix products, forward.
    Flops(f64),
    /// Bytes read and written, forward.
    Bytes(f64),
}

struct Ladder {
    /// Whether rungs are only checked.
    once: bool,
    /// Examples in a batch.
    batch: usize,
    only: Option<String>,
    peak_gflops: f64,
}

impl Ladder {
    /// The median of a few runs, in seconds.
    fn time(&self, mut run: impl FnMut()) -> f64 {
        run();
        if self.once {
            return f64::NAN;
        }
        let begin = Instant::now();
        let mut secs = Vec::new();
        while secs.len() < 3 || (begin.elapsed().as_secs_f64() < 0.5 && secs.len() < 100) {
            let begin = Instant::now();
            run();
            secs.push(begin.elapsed().as_secs_f64());
        }
        secs.sort_by(f64::total_cmp);
        secs[secs.len() / 2]
    }

    fn line(&self, name: &str, rung: &str, secs: f64, work: Work) {
        if self.once {
            return;
        }
        let rate = match work {
            Work::Flops(flops) => {
                let rate = flops / secs / 1e9;
                format!("{rate:8.1} GFLOP/s  share {:5.2}", rate / self.peak_gflops)
            }
            Work::Bytes(bytes) => format!("{:8.1} GB/s", bytes / secs / 1e9),
        };
        println!("{name:<42} {rung:<10} {:10.3} ms {rate}", secs * 1e3);
    }

    /// Both rungs of one operation, forward and forward with backward.
    fn rungs<const Y: usize>(
        &self,
        name: &str,
        work: Work,
        backward_factor: f64,
        run: impl Fn(bool) -> Tensor<Ad, Y>,
    ) {
        if self.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            return;
        }
        let plain = |y: Tensor<Ad, Y>| y.into_data().to_vec::<f32>().unwrap();
        check_close(name, &plain(run(true)), &plain(run(false)), 1e-4);
        let scaled = match work {
            Work::Flops(flops) => Work::Flops(flops * backward_factor),
            Work::Bytes(bytes) => Work::Bytes(bytes * backward_factor),
        };
        for (rung, fused) in [("reference", false), ("fused", true)] {
            let secs = self.time(|| drop(run(fused)));
            self.line(&format!("{name}/forward"), rung, secs, work);
            let secs = self.time(|| drop(run(fused).sum().backward()));
            self.line(&format!("{name}/forward+backward"), rung, secs, scaled);
        }
    }
}

fn leaf<const D: usize>(salt: u64, shape: [usize; D], scale: f32) -> Tensor<Ad, D> {
    let numbers = numbers(salt, shape.iter().product());
    let numbers: Vec<f32> = numbers.iter().map(|x| x * scale).collect();
    Tensor::<Ad, 1>::from_data(numbers.as_slice(), &cpu()).reshape(shape).require_grad()
}

fn ints<const D: usize>(shape: [usize; D], bound: i32) -> Tensor<Ad, D, Int> {
    let ints: Vec<i32> = (0..shape.iter().product::<usize>() as i32)
        .map(|i| i.wrapping_mul(1_664_525).rem_euclid(bound))
        .collect();
    Tensor::<Ad, 1, Int>::from_data(ints.as_slice(), &cpu()).reshape(shape)
}

fn products(ladder: &Ladder) {
    let n_rows = ladder.batch * SEQ_LEN;
    for (d_in, d_out) in [(64, 192), (128, 384), (128, 512), (512, 128), (512, 512)] {
        let (x, w, b) =
            (leaf(1, [n_rows, d_in], 1.0), leaf(2, [d_in, d_out], 0.1), leaf(3, [d_out], 1.0));
        let flops = 2.0 * (n_rows * d_in * d_out) as f64;
        ladder.rungs(
            &format!("linear/[{n_rows},{d_in},{d_out}]"),
            Work::Flops(flops),
            3.0,
            |fused| match fused {
                true => <Ad as Ops>::linear(x.clone(), w.clone(), Some(b.clone())),
                false => reference::linear(x.clone(), w.clone(), Some(b.clone())),
            },
        );
    }
}

/// The first layer of an MLP with its activation.
fn activated(ladder: &Ladder) {
    let n_rows = ladder.batch * SEQ_LEN;
    let (d_in, d_out) = (128, 512);
    let acts = [
        ("relu", Activation::Relu),
        ("gelu_erf", Activation::Gelu(Gelu::Erf)),
        ("gelu_tanh", Activation::Gelu(Gelu::Tanh)),
        ("geglu_erf", Activation::Gated(Gate::Gelu(Gelu::Erf))),
        ("swiglu", Activation::Gated(Gate::Silu)),
    ];
    for (act_name, act) in acts {
        let d_product = act.d_product(d_out);
        let (x, w, b) = (
            leaf(1, [n_rows, d_in], 1.0),
            leaf(2, [d_in, d_product], 0.1),
            leaf(3, [d_product], 1.0),
        );
        let flops = 2.0 * (n_rows * d_in * d_product) as f64;
        let name = format!("linear_act_{act_name}/[{n_rows},{d_in},{d_out}]");
        ladder.rungs(&name, Work::Flops(flops), 3.0, |fused| match fused {
            true => <Ad as Ops>::linear_act(x.clone(), w.clone(), Some(b.clone()), act),
            false => reference::linear_act(x.clone(), w.clone(), Some(b.clone()), act),
        });
    }
}

fn sequences(ladder: &Ladder) {
    let (batch, n_rows, d) = (ladder.batch, ladder.batch * SEQ_LEN, 128);
    let (gates, w_hh) = (leaf(1, [batch, SEQ_LEN, 4 * d], 1.0), leaf(2, [d, 4 * d], 0.1));
    let flops = 2.0 * (n_rows * d * 4 * d) as f64;
    ladder.rungs(&format!("lstm/[{batch},{SEQ_LEN},{d}]"), Work::Flops(flops), 3.0, |fused| {
        match fused {
            true => <Ad as Ops>::lstm(gates.clone(), w_hh.clone()),
            false => reference::lstm(gates.clone(), w_hh.clone()),
        }
    });
    for (n_heads, d_head) in [(4, 16), (4, 32), (2, 64)] {
        let d = n_heads * d_head;
        let qkv = leaf(1, [batch, SEQ_LEN, 3 * d], 1.0);
        let flops = 2.0 * (n_rows * d * (SEQ_LEN + 1)) as f64;
        let name = format!("causal_attention/[{batch},{SEQ_LEN},{n_heads},{d_head}]");
        ladder.rungs(&name, Work::Flops(flops), 3.5, |fused| match fused {
            true => <Ad as Ops>::causal_attention(qkv.clone(), None, &Attend::plain(n_heads)),
            false => reference::causal_attention(qkv.clone(), None, &Attend::plain(n_heads)),
        });
    }
}

/// Attention of chosen queries, and with everything that may be asked of it.
fn attention(ladder: &Ladder) {
    let (batch, n_rows, d) = (ladder.batch, ladder.batch * SEQ_LEN, 128);
    let places = (0..batch as u32).flat_map(|e| (1..6).map(move |i| (e, i * 100))).collect();
    let rows = QueryRows::new(SEQ_LEN, places);
    let (q, kv) = (leaf(1, [rows.len(), d], 1.0), leaf(2, [batch, SEQ_LEN, 2 * d], 1.0));
    let bytes = (n_rows * 2 * d * 4) as f64;
    ladder.rungs(
        &format!("causal_attention_at/[{batch},{SEQ_LEN},4,32] 5 queries"),
        Work::Bytes(bytes),
        3.0,
        |fused| match fused {
            true => <Ad as Ops>::causal_attention_at(
                q.clone(),
                kv.clone(),
                None,
                &rows,
                &Attend::plain(4),
            ),
            false => reference::causal_attention_at(
                q.clone(),
                kv.clone(),
                None,
                &rows,
                &Attend::plain(4),
            ),
        },
    );
    let qkv = leaf(1, [batch, SEQ_LEN, 3 * d], 1.0);
    let bias = leaf(2, [4, SEQ_LEN], 1.0);
    let flops = 2.0 * (n_rows * d * (SEQ_LEN + 1)) as f64;
    let dropout = Some(Dropout::new(0.1, 7));
    for (way, attend, biased) in [
        ("bias", Attend::plain(4), true),
        ("stats", Attend { stats: true, ..Attend::plain(4) }, false),
        ("dropout", Attend { dropout, ..Attend::plain(4) }, false),
    ] {
        let name = format!("causal_attention {way}/[{batch},{SEQ_LEN},4,32]");
        ladder.rungs(&name, Work::Flops(flops), 3.5, |fused| {
            let (qkv, bias) = (qkv.clone(), biased.then(|| bias.clone()));
            match fused {
                true => <Ad as Ops>::causal_attention(qkv, bias, &attend),
                false => reference::causal_attention(qkv, bias, &attend),
            }
        });
    }
}

/// The simplified model of Bietti et al. 2023: one head, identities for queries and values.
fn attention_apart(ladder: &Ladder) {
    let d = 128;
    let (n_examples, seq_len) = (4 * ladder.batch, 256);
    let apart = [1, 2].map(|salt| leaf(salt, [n_examples, seq_len, d], 1.0));
    let flops = 2.0 * (n_examples * seq_len * d * (seq_len + 1)) as f64;
    let name = format!("causal_attention_of/[{n_examples},{seq_len},1,{d}]");
    ladder.rungs(&name, Work::Flops(flops), 3.5, |fused| {
        let ([q, k], attend) = (apart.clone(), Attend::plain(1));
        match fused {
            true => <Ad as Ops>::causal_attention_of(q.clone(), k, q, &attend),
            false => reference::causal_attention_of(q.clone(), k, q, &attend),
        }
    });
    // Its first layer: values are frozen, and scores come out of a table.
    let (d_vocab, table) = (65, leaf(5, [65 + seq_len, 65 + seq_len], 1.0));
    let (tokens, values) = (ints([n_examples, seq_len], 65), apart[0].clone().detach());
    let name = format!("causal_attention_looked_up/[{n_examples},{seq_len},1,{d}]");
    // The values' product alone, and its gradient by the scores.
    ladder.rungs(&name, Work::Flops(flops / 2.0), 2.0, |fused| {
        let (tokens, table, values) = (tokens.clone(), table.clone(), values.clone());
        let attend = &Attend::plain(1);
        match fused {
            true => <Ad as Ops>::causal_attention_looked_up(tokens, table, d_vocab, values, attend),
            false => reference::causal_attention_looked_up(tokens, table, d_vocab, values, attend),
        }
    });
    // A quarter of its places, as many as a loss in context asks for.
    let asked =
        (0..n_examples as u32).flat_map(|e| (0..seq_len as u32 / 4).map(move |i| (e, 4 * i)));
    let rows = QueryRows::new(seq_len, asked.collect());
    let (q, v) = (leaf(3, [rows.len(), d], 1.0), leaf(4, [n_examples, seq_len, 65], 1.0));
    let flops = 2.0 * (rows.len() * (d + 65) * (seq_len - 2) / 2) as f64;
    let name = format!("causal_attention_of_at/[{n_examples},{seq_len},1,{d}] a quarter");
    ladder.rungs(&name, Work::Flops(flops), 3.5, |fused| {
        let ([k, _], q, v, attend) = (apart.clone(), q.clone(), v.clone(), Attend::plain(1));
        match fused {
            true => <Ad as Ops>::causal_attention_of_at(q, k, v, &rows, &attend),
            false => reference::causal_attention_of_at(q, k, v, &rows, &attend),
        }
    });
}

fn rows(ladder: &Ladder) {
    let (n_rows, d) = (ladder.batch * SEQ_LEN, 128);
    let (x, gain, bias) = (leaf(1, [n_rows, d], 2.0), leaf(2, [d], 1.0), leaf(3, [d], 1.0));
    let bytes = (2 * n_rows * d * 4) as f64;
    ladder.rungs(
        &format!("layer_norm/[{n_rows},{d}]"),
        Work::Bytes(bytes),
        2.5,
        |fused| match fused {
            true => <Ad as Ops>::layer_norm(x.clone(), gain.clone(), bias.clone(), 1e-5),
            false => reference::layer_norm(x.clone(), gain.clone(), bias.clone(), 1e-5),
        },
    );
    ladder.rungs(
        &format!("rms_norm/[{n_rows},{d}]"),
        Work::Bytes(bytes),
        2.5,
        |fused| match fused {
            true => <Ad as Ops>::rms_norm(x.clone(), gain.clone(), 1e-5),
            false => reference::rms_norm(x.clone(), gain.clone(), 1e-5),
        },
    );
    let wide = leaf(1, [n_rows, 4 * d], 2.0);
    for form in [Gelu::Erf, Gelu::Tanh] {
        let name = format!("gelu_{form:?}/[{n_rows},{}]", 4 * d).to_lowercase();
        ladder.rungs(&name, Work::Bytes(4.0 * bytes), 2.5, |fused| match fused {
            true => <Ad as Ops>::gelu(wide.clone(), form),
            false => reference::gelu(wide.clone(), form),
        });
    }
}

/// Tables looked up, and losses.
fn symbols(ladder: &Ladder) {
    let (batch, n_rows, d) = (ladder.batch, ladder.batch * SEQ_LEN, 128);
    let (x, bytes) = (leaf(1, [n_rows, d], 2.0), (2 * n_rows * d * 4) as f64);
    let (table, tokens) = (leaf(1, [5, 4 * d], 1.0), ints([batch, SEQ_LEN], 5));
    ladder.rungs(&format!("embed/[{n_rows},{}]", 4 * d), Work::Bytes(2.0 * bytes), 2.0, |fused| {
        match fused {
            true => <Ad as Ops>::embed(table.clone(), tokens.clone()),
            false => reference::embed(table.clone(), tokens.clone()),
        }
    });
    let (table, places) = (leaf(1, [5, d], 1.0), leaf(2, [SEQ_LEN, d], 1.0));
    ladder.rungs(&format!("embed_at/[{n_rows},{d}]"), Work::Bytes(bytes), 2.0, |fused| {
        let (table, places, tokens) = (table.clone(), places.clone(), tokens.clone());
        match fused {
            true => <Ad as Ops>::embed_at(table, places, 0.5, tokens),
            false => reference::embed_at(table, places, 0.5, tokens),
        }
    });
    ladder.rungs(
        &format!("add/[{n_rows},{d}]"),
        Work::Bytes(1.5 * bytes),
        1.0,
        |fused| match fused {
            true => <Ad as Ops>::add(x.clone(), x.clone()),
            false => reference::add(x.clone(), x.clone()),
        },
    );
    let (places, rotary) = (QueryRows::all(batch, SEQ_LEN), Rotary::new(32, 16, 10_000.0, SEQ_LEN));
    ladder.rungs(&format!("rotary/[{n_rows},{d}]"), Work::Bytes(bytes), 2.0, |fused| match fused {
        true => <Ad as Ops>::rotary(x.clone(), 4, &places, &rotary),
        false => reference::rotary(x.clone(), 4, &places, &rotary),
    });
    for (n_rows, d_vocab) in [(n_rows, 5), (16 * n_rows, 65)] {
        let logits = leaf(1, [n_rows, d_vocab], 4.0);
        let targets = ints([n_rows], d_vocab as i32);
        ladder.rungs(
            &format!("cross_entropy/[{n_rows},{d_vocab}]"),
            Work::Bytes((n_rows * d_vocab * 4) as f64),
            3.0,
            |fused| match fused {
                true => <Ad as Ops>::cross_entropy(logits.clone(), targets.clone()),
                false => reference::cross_entropy(logits.clone(), targets.clone()),
            },
        );
    }
}

fn updates(ladder: &Ladder) {
    let n = if ladder.once { 1_000 } else { 1_000_000 };
    let adamw = AdamW { lr: 3e-4, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1 };
    let sgd = Sgd { lr: 0.1, momentum: 0.9, dampening: 0.0, nesterov: false, weight_decay: 1e-4 };
    for (name, rule) in [("adamw", Rule::AdamW(adamw)), ("sgd", Rule::Sgd(sgd))] {
        let name = &format!("{name}/[{n}]");
        if ladder.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        let array = |salt: u64| Tensor::<Cpu, 1>::from_data(numbers(salt, n).as_slice(), &cpu());
        let n_kept = rule.kept().len();
        let kept = || (0..n_kept as u64).map(|idx| array(4 + idx).abs() * 0.01).collect();
        let fresh = || vec![Learned { param: array(2), grad: array(1), kept: kept() }];
        let plain = |x: Tensor<Cpu, 1>| x.into_data().to_vec::<f32>().expect("these are f32");
        let (expected, _) = reference::update(fresh(), &rule, 3, 1.0);
        let (got, _) = update(fresh(), &rule, 3, 1.0);
        for (got, expected) in got.into_iter().zip(expected) {
            check_close(name, &plain(got.param), &plain(expected.param), 1e-6);
            for (got, expected) in got.kept.into_iter().zip(expected.kept) {
                check_close(name, &plain(got), &plain(expected), 1e-6);
            }
        }
        for (rung, fused) in [("reference", false), ("fused", true)] {
            let mut state = Some(fresh());
            let secs = ladder.time(|| {
                let params = state.take().expect("put back below");
                state = Some(match fused {
                    true => update(params, &rule, 3, 1.0).0,
                    false => reference::update(params, &rule, 3, 1.0).0,
                });
            });
            // Each row that is kept and the parameter are read and written, the gradient read.
            ladder.line(name, rung, secs, Work::Bytes(((3 + 2 * n_kept) * n * 4) as f64));
        }
    }
}

fn main() {
    memory::keep_freed();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let once = !args.iter().any(|arg| arg == "--bench");
    let only = args.into_iter().find(|arg| !arg.starts_with("--"));
    let mut ladder = Ladder { once, batch: if once { 1 } else { 16 }, only, peak_gflops: f64::NAN };
    let (x, w) = (leaf(1, [4096, 512], 1.0).inner(), leaf(2, [512, 512], 0.1).inner());
    let secs = ladder.time(|| drop(<Cpu as Ops>::linear(x.clone(), w.clone(), None)));
    ladder.peak_gflops = 2.0 * 4096.0 * 512.0 * 512.0 / secs / 1e9;
    if !once {
        println!(
            "kernels {}, {} threads, matrix product {:.0} GFLOP/s",
            cpu_level(),
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            ladder.peak_gflops
        );
    }
    products(&ladder);
    activated(&ladder);
    sequences(&ladder);
    attention(&ladder);
    attention_apart(&ladder);
    rows(&ladder);
    symbols(&ladder);
    updates(&ladder);
    if once {
        println!("every rung agrees with its reference");
    }
}
