//! Attention in every way it can be asked for, and the positions that turn its heads.

use super::*;

#[test]
fn causal_attention_agrees() {
    for (batch, seq_len, n_heads, d_head) in
        [(1, 1, 1, 16), (2, 65, 3, 24), (1, 511, 2, 16), (3, 130, 1, 64), (2, 16, 2, 5)]
    {
        let qkv = leaf(1, [batch, seq_len, 3 * n_heads * d_head], 2.0);
        let (got, expected) = (
            <Ad as Ops>::causal_attention(qkv.clone(), None, &Attend::plain(n_heads)),
            reference::causal_attention(qkv.clone(), None, &Attend::plain(n_heads)),
        );
        check("causal_attention", from_ref(&qkv), got, expected, 2e-5);
    }
}

/// A scatter of places: several, one and no query per example.
pub(crate) fn places(batch: usize, seq_len: usize) -> QueryRows {
    let asked = |example: u32, pos: u32| example % 3 != 1 && (pos * 7 + example).is_multiple_of(5);
    let all = (0..batch as u32).flat_map(|e| (0..seq_len as u32).map(move |pos| (e, pos)));
    QueryRows::new(seq_len, all.filter(|&(example, pos)| asked(example, pos)).collect())
}

#[test]
fn causal_attention_at_agrees() {
    for (batch, seq_len, n_heads, d_head) in
        [(1, 1, 1, 16), (4, 65, 3, 24), (3, 511, 2, 16), (2, 130, 1, 64)]
    {
        let rows = places(batch, seq_len);
        let d = n_heads * d_head;
        let (q, kv) = (leaf(1, [rows.len(), d], 2.0), leaf(2, [batch, seq_len, 2 * d], 2.0));
        let run = |fused: bool| match fused {
            true => <Ad as Ops>::causal_attention_at(
                q.clone(),
                kv.clone(),
                None,
                &rows,
                &Attend::plain(n_heads),
            ),
            false => reference::causal_attention_at(
                q.clone(),
                kv.clone(),
                None,
                &rows,
                &Attend::plain(n_heads),
            ),
        };
        if seq_len > 1 {
            check_two("causal_attention_at", (from_ref(&q), from_ref(&kv)), run, 2e-5);
        } else {
            // With one key there is nothing to attend to: the gradient of q is 0.
            check("causal_attention_at", from_ref(&kv), run(true), run(false), 2e-5);
        }
    }
}

/// Every way to attend, alone and together: dropout, statistics, temperature, and with a bias.
pub(crate) fn ways(n_heads: usize) -> Vec<(Attend, bool)> {
    let plain = || Attend::plain(n_heads);
    let dropout = || Some(Dropout::new(0.3, 0x0123_4567_89ab_cdef));
    vec![
        (plain(), true),
        (Attend { temperature: 0.6, ..plain() }, false),
        (Attend { dropout: dropout(), ..plain() }, false),
        (Attend { stats: true, ..plain() }, false),
        (Attend { temperature: 1.7, dropout: dropout(), stats: true, ..plain() }, true),
    ]
}

#[test]
fn causal_attention_agrees_in_every_way() {
    for (batch, seq_len, n_heads, d_head) in [(2, 65, 3, 24), (1, 200, 2, 16), (3, 2, 1, 5)] {
        for (attend, biased) in ways(n_heads) {
            check_sides(2e-5, |fused| {
                let qkv = leaf(1, [batch, seq_len, 3 * n_heads * d_head], 2.0);
                let bias = biased.then(|| leaf(2, [n_heads, seq_len], 1.5));
                let (y, grads) = pulled(match fused {
                    true => <Ad as Ops>::causal_attention(qkv.clone(), bias.clone(), &attend),
                    false => reference::causal_attention(qkv.clone(), bias.clone(), &attend),
                });
                let d_qkv = ("d_qkv", plain(qkv.grad(&grads).unwrap()));
                let d_bias = bias.map(|bias| ("d_bias", plain(bias.grad(&grads).unwrap())));
                [("y", y), d_qkv].into_iter().chain(d_bias).collect()
            });
        }
    }
}

#[test]
fn causal_attention_at_agrees_in_every_way() {
    for (batch, seq_len, n_heads, d_head) in [(4, 65, 3, 24), (3, 200, 2, 16)] {
        let (rows, d) = (places(batch, seq_len), n_heads * d_head);
        for (attend, biased) in ways(n_heads) {
            check_sides(2e-5, |fused| {
                let q = leaf(1, [rows.len(), d], 2.0);
                let kv = leaf(2, [batch, seq_len, 2 * d], 2.0);
                let bias = biased.then(|| leaf(3, [n_heads, seq_len], 1.5));
                let operands = (q.clone(), kv.clone(), bias.clone());
                let (y, grads) = pulled(match (fused, operands) {
                    (true, (q, kv, bias)) => {
                        <Ad as Ops>::causal_attention_at(q, kv, bias, &rows, &attend)
                    }
                    (false, (q, kv, bias)) => {
                        reference::causal_attention_at(q, kv, bias, &rows, &attend)
                    }
                });
                let d_q = ("d_q", plain(q.grad(&grads).unwrap()));
                let d_kv = ("d_kv", plain(kv.grad(&grads).unwrap()));
                let d_bias = bias.map(|bias| ("d_bias", plain(bias.grad(&grads).unwrap())));
                [("y", y), d_q, d_kv].into_iter().chain(d_bias).collect()
            });
        }
    }
}

#[test]
fn causal_attention_of_agrees_whichever_gradients_are_wanted() {
    for (batch, seq_len, n_heads, d_head, d_value) in
        [(2, 65, 3, 24, 24), (3, 130, 1, 128, 65), (2, 40, 2, 5, 33), (1, 1, 1, 5, 2)]
    {
        for attend in [Attend::plain(n_heads), ways(n_heads)[4].0.clone()] {
            for wanted in 1_u32..8 {
                let names = ["d / dq", "d / dk", "d / dv"];
                check_sides(2e-5, |fused| {
                    let operand = |i: usize| {
                        let width = if i == 2 { d_value } else { d_head };
                        let all = leaf(i as u64, [batch, seq_len, n_heads * width], 2.0);
                        if wanted >> i & 1 == 1 { all } else { all.detach() }
                    };
                    let qkv = [0, 1, 2].map(operand);
                    let [q, k, v] = qkv.clone();
                    let (y, grads) = pulled(match fused {
                        true => <Ad as Ops>::causal_attention_of(q, k, v, &attend),
                        false => reference::causal_attention_of(q, k, v, &attend),
                    });
                    let got = names.into_iter().zip(&qkv).filter_map(|(name, leaf)| {
                        leaf.grad(&grads).map(|grad| (name, plain(grad)))
                    });
                    // With one key there is nothing to attend to: the gradients of q and k are 0.
                    let got = got.filter(|(name, _)| seq_len > 1 || *name == "d / dv");
                    std::iter::once(("causal_attention_of", y)).chain(got).collect()
                });
            }
        }
    }
}

#[test]
fn causal_attention_of_at_agrees_whichever_gradients_are_wanted() {
    for (batch, seq_len, n_heads, d_head, d_value) in
        [(4, 65, 3, 24, 24), (3, 130, 1, 128, 65), (5, 40, 2, 5, 33)]
    {
        let rows = places(batch, seq_len);
        for attend in [Attend::plain(n_heads), ways(n_heads)[4].0.clone()] {
            for wanted in 1_u32..8 {
                check_sides(2e-5, |fused| {
                    let is_wanted = |i: u32| wanted >> i & 1 == 1;
                    let q = leaf(0, [rows.len(), n_heads * d_head], 2.0);
                    let q = if is_wanted(0) { q } else { q.detach() };
                    let [k, v] = [(1, d_head), (2, d_value)].map(|(i, width)| {
                        let part = leaf(u64::from(i), [batch, seq_len, n_heads * width], 2.0);
                        if is_wanted(i) { part } else { part.detach() }
                    });
                    let operands = (q.clone(), k.clone(), v.clone());
                    let (y, grads) = pulled(match (fused, operands) {
                        (true, (q, k, v)) => {
                            <Ad as Ops>::causal_attention_of_at(q, k, v, &rows, &attend)
                        }
                        (false, (q, k, v)) => {
                            reference::causal_attention_of_at(q, k, v, &rows, &attend)
                        }
                    });
                    let d_q = q.grad(&grads).map(|d_q| ("d / dq", plain(d_q)));
                    let d_k = k.grad(&grads).map(|d_k| ("d / dk", plain(d_k)));
                    let d_v = v.grad(&grads).map(|d_v| ("d / dv", plain(d_v)));
                    let grads = [d_q, d_k, d_v].into_iter().flatten();
                    std::iter::once(("causal_attention_of_at", y)).chain(grads).collect()
                });
            }
        }
    }
}

#[test]
fn a_chosen_query_has_the_bits_it_has_among_all_operands_apart() {
    let (batch, seq_len, n_heads, d, d_values) = (4, 150, 2, 48, 66);
    let rows = places(batch, seq_len);
    let (q, k) = (inner(1, [batch, seq_len, d]), inner(2, [batch, seq_len, d]));
    let v = inner(3, [batch, seq_len, d_values]);
    let flat: Vec<i64> = rows.flat().iter().map(|&row| i64::from(row)).collect();
    let flat = Tensor::<Cpu, 1, Int>::from_data(flat.as_slice(), &cpu());
    for (attend, _) in ways(n_heads) {
        let all = <Cpu as Ops>::causal_attention_of(q.clone(), k.clone(), v.clone(), &attend);
        let width = all.dims()[2];
        let expected = all.reshape([batch * seq_len, width]).select(0, flat.clone());
        let asked = q.clone().reshape([batch * seq_len, d]).select(0, flat.clone());
        let (k, v) = (k.clone(), v.clone());
        let got = <Cpu as Ops>::causal_attention_of_at(asked, k, v, &rows, &attend);
        check_same_bits("y", &plain(got), &plain(expected));
    }
}

#[test]
fn operands_apart_and_packed_have_the_same_bits() {
    let (batch, seq_len, n_heads, d) = (3, 70, 2, 48);
    for (attend, _) in ways(n_heads) {
        let parts = [1, 2, 3].map(|salt| leaf(salt, [batch, seq_len, d], 1.0));
        let (y, grads) = {
            let [q, k, v] = parts.clone();
            pulled(<Ad as Ops>::causal_attention_of(q, k, v, &attend))
        };
        let packed = Tensor::cat(parts.each_ref().map(|part| part.clone().inner()).to_vec(), 2);
        let packed = Tensor::<Ad, 3>::from_inner(packed).require_grad();
        let (y_packed, grads_packed) =
            pulled(<Ad as Ops>::causal_attention(packed.clone(), None, &attend));
        check_same_bits("y", &y, &y_packed);
        let d_packed = packed.grad(&grads_packed).unwrap();
        for (i, part) in parts.iter().enumerate() {
            let expected = plain(d_packed.clone().narrow(2, i * d, d));
            check_same_bits("gradient", &plain(part.grad(&grads).unwrap()), &expected);
        }
    }
}

#[test]
fn causal_attention_looked_up_agrees_whichever_gradients_are_wanted() {
    for (batch, seq_len, d_value, d_vocab, n_ctx) in
        [(1, 1, 2, 1, 1), (3, 65, 24, 5, 70), (33, 20, 5, 40, 20), (2, 130, 33, 65, 130)]
    {
        for (attend, _) in ways(1) {
            for wanted in 1_u32..4 {
                check_sides(2e-5, |fused| {
                    let scores = leaf(1, [d_vocab + n_ctx, d_vocab + n_ctx], 2.0);
                    let scores = if wanted & 1 == 1 { scores } else { scores.detach() };
                    let values = leaf(2, [batch, seq_len, d_value], 2.0);
                    let values = if wanted & 2 == 2 { values } else { values.detach() };
                    let tokens = ints([batch, seq_len], d_vocab);
                    let (s, v) = (scores.clone(), values.clone());
                    let (y, grads) = pulled(match fused {
                        true => {
                            <Ad as Ops>::causal_attention_looked_up(tokens, s, d_vocab, v, &attend)
                        }
                        false => {
                            reference::causal_attention_looked_up(tokens, s, d_vocab, v, &attend)
                        }
                    });
                    // With one key there is nothing to attend to: the gradient of the table is 0.
                    let d_scores = scores.grad(&grads).filter(|_| seq_len > 1);
                    let d_scores = d_scores.map(|d| ("d / dscores", plain(d)));
                    let d_values = values.grad(&grads).map(|d| ("d / dvalues", plain(d)));
                    let grads = [d_scores, d_values].into_iter().flatten();
                    std::iter::once(("causal_attention_looked_up", y)).chain(grads).collect()
                });
            }
        }
    }
}

#[test]
fn scores_that_are_looked_up_are_those_of_the_vectors() {
    let (batch, seq_len, d, d_vocab) = (3, 40, 24, 7);
    let (table, places) = (inner(1, [d_vocab, d]), inner(2, [seq_len, d]));
    let (w, values) = (inner(3, [d, d]), inner(4, [batch, seq_len, d]));
    let tokens = || ints([batch, seq_len], d_vocab).inner();
    let x = <Cpu as Ops>::embed_at(table.clone(), places.clone(), 1.0, tokens());
    let keys = <Cpu as Ops>::linear(x.clone().reshape([batch * seq_len, d]), w.clone(), None);
    let keys = keys.reshape([batch, seq_len, d]);
    let expected = <Cpu as Ops>::causal_attention_of(x, keys, values.clone(), &Attend::plain(1));
    let both = Tensor::cat(vec![table, places], 0);
    let keys = <Cpu as Ops>::linear(both.clone(), w, None);
    let scores = <Cpu as Ops>::linear(both, keys.transpose(), None);
    let attend = Attend { temperature: (d as f64).sqrt(), ..Attend::plain(1) };
    let got = <Cpu as Ops>::causal_attention_looked_up(tokens(), scores, d_vocab, values, &attend);
    check_close("y", &plain(got), &plain(expected), 1e-5);
}

#[test]
fn a_table_that_does_not_fit_is_refused() {
    let refused = |d_vocab: usize, n_heads: usize, bound: usize| {
        let run = || {
            let (scores, values) = (inner(1, [9, 9]), inner(2, [2, 4, 6]));
            let tokens = ints([2, 4], bound).inner();
            let attend = Attend::plain(n_heads);
            <Cpu as Ops>::causal_attention_looked_up(tokens, scores, d_vocab, values, &attend)
        };
        *std::panic::catch_unwind(run).unwrap_err().downcast::<String>().unwrap()
    };
    assert_eq!(refused(6, 1, 6), "scores: [9, 9] are not of 6 tokens and at least 4 places");
    assert!(refused(5, 2, 5).contains("a table has the scores of one head"));
    assert!(refused(3, 1, 9).ends_with("is outside 0..3"));
}

#[test]
fn a_gradient_reaches_a_bias_alone() {
    check_sides(1e-5, |fused| {
        let qkv = Tensor::from_inner(inner(1, [2, 9, 24]));
        let (bias, attend) = (leaf(2, [2, 9], 1.0), Attend::plain(2));
        let (y, grads) = pulled(match fused {
            true => <Ad as Ops>::causal_attention(qkv, Some(bias.clone()), &attend),
            false => reference::causal_attention(qkv, Some(bias.clone()), &attend),
        });
        vec![("y", y), ("d_bias", plain(bias.grad(&grads).unwrap()))]
    });
}

#[test]
fn split_statistics_can_be_differentiated() {
    let (batch, seq_len, n_heads, d) = (2, 33, 2, 16);
    let qkv = leaf(1, [batch, seq_len, 3 * d], 2.0);
    let attend = Attend { stats: true, ..Attend::plain(n_heads) };
    let loss = |packed: Tensor<Ad, 3>| {
        let (y, stats) = attend.split(packed);
        let stats = stats.unwrap();
        assert_eq!(y.dims(), [batch, seq_len, d]);
        assert_eq!(stats.norm.dims(), [batch, seq_len, n_heads]);
        let heads = stats.entropy_nats * 0.3 - stats.norm + stats.max * 2.0;
        heads.sum() + y.powi_scalar(2).sum()
    };
    let got = loss(<Ad as Ops>::causal_attention(qkv.clone(), None, &attend));
    let expected = loss(reference::causal_attention(qkv.clone(), None, &attend));
    check("loss of statistics", from_ref(&qkv), got, expected, 2e-5);
}

#[test]
fn rotary_agrees() {
    for (d_head, n_rotated, n_turned, rest) in [(16, 16, 2, 0), (24, 8, 3, 24), (5, 2, 1, 1)] {
        let rows = places(4, 65);
        let rotary = Rotary::new(d_head, n_rotated, 10_000.0, 80);
        let x = leaf(1, [rows.len(), n_turned * d_head + rest], 1.0);
        let (got, expected) = (
            <Ad as Ops>::rotary(x.clone(), n_turned, &rows, &rotary),
            reference::rotary(x.clone(), n_turned, &rows, &rotary),
        );
        check("rotary", from_ref(&x), got, expected, 1e-6);
    }
}

#[test]
fn scores_of_turned_heads_depend_on_the_distance_alone() {
    let (n_pos, d_head) = (40, 8);
    let rotary = Rotary::new(d_head, d_head, 10_000.0, n_pos);
    let turned = |salt: u64| {
        let row = leaf(salt, [1, d_head], 1.0).inner();
        let rows = QueryRows::all(1, n_pos);
        <Cpu as Ops>::rotary(row.repeat_dim(0, n_pos), 1, &rows, &rotary)
    };
    let scores = plain(turned(1).matmul(turned(2).transpose()));
    for query_pos in 5..n_pos {
        let near = scores[query_pos * n_pos + query_pos - 5];
        check_close("score", &[near], &scores[5 * n_pos..][..1], 1e-5);
    }
}

#[test]
fn no_query_gives_no_row() {
    let rows = QueryRows::new(4, Vec::new());
    let (q, kv) = (leaf(1, [1, 8], 1.0).inner().slice([0..0, 0..8]), leaf(2, [2, 4, 16], 1.0));
    let y = <Cpu as Ops>::causal_attention_at(q, kv.inner(), None, &rows, &Attend::plain(2));
    assert_eq!(y.dims(), [0, 8]);
    let (k, v) = (leaf(2, [2, 4, 8], 1.0), leaf(3, [2, 4, 6], 1.0));
    let q = Tensor::<Ad, 2>::zeros([0, 8], &cpu());
    let y = <Ad as Ops>::causal_attention_of_at(q, k.clone(), v, &rows, &Attend::plain(2));
    assert_eq!(y.dims(), [0, 6]);
    assert_eq!(plain(k.grad(&y.sum().backward()).unwrap()), [0.0; 64]);
}

#[test]
fn gradients_of_attention_in_every_way_have_the_same_bits_for_any_number_of_threads() {
    let (batch, seq_len, n_heads, d) = (5, 70, 2, 48);
    let rows = places(batch, seq_len);
    let step = || {
        let mut all = Vec::new();
        for (attend, biased) in ways(n_heads) {
            let qkv = leaf(1, [batch, seq_len, 3 * d], 1.0);
            let (q, kv) = (leaf(2, [rows.len(), d], 1.0), leaf(3, [batch, seq_len, 2 * d], 1.0));
            let bias = biased.then(|| leaf(4, [n_heads, seq_len], 1.0));
            let y = <Ad as Ops>::causal_attention(qkv.clone(), bias.clone(), &attend);
            let (q2, kv2) = (q.clone(), kv.clone());
            let y_at = <Ad as Ops>::causal_attention_at(q2, kv2, bias.clone(), &rows, &attend);
            let loss = y.powi_scalar(2).sum() + y_at.powi_scalar(2).sum();
            let (q2, k, v) = (q.clone(), kv.clone().narrow(2, 0, d), kv.clone().narrow(2, d, 30));
            let y_of = <Ad as Ops>::causal_attention_of_at(q2, k, v, &rows, &attend);
            let table = leaf(5, [5 + seq_len, 5 + seq_len], 1.0);
            // More examples than there are tables of gradients.
            let (v, tokens) = (leaf(6, [45, seq_len, 30], 1.0), ints([45, seq_len], 5));
            let one = Attend { n_heads: 1, ..attend };
            let (table2, v2) = (table.clone(), v.clone());
            let y_up = <Ad as Ops>::causal_attention_looked_up(tokens, table2, 5, v2, &one);
            let loss = loss + y_of.powi_scalar(2).sum() + y_up.powi_scalar(2).sum();
            let grads = loss.backward();
            all.extend([plain(table.grad(&grads).unwrap()), plain(v.grad(&grads).unwrap())]);
            all.extend([&qkv, &kv].map(|leaf| plain(leaf.grad(&grads).unwrap())));
            all.extend(
                std::iter::once(&q).chain(&bias).map(|leaf| plain(leaf.grad(&grads).unwrap())),
            );
        }
        all.concat()
    };
    let all = step();
    for n_threads in [1, 2, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        check_same_bits("gradients", &pool.install(step), &all);
    }
}
