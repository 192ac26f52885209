//! The fused operations composed of Burn's primitives: slow, and what the kernels must agree with.
//!
//! Written for reading, next to the formulas of [`Ops`](crate::Ops). Under autodiff Burn derives
//! their gradients, which is what the hand-written backward passes are checked against.

use burn::tensor::{Bool, IndexingUpdateOp, Int, Tensor, activation, backend::Backend};

use crate::{
    Activation, Attend, Dropout, Gate, Gelu, QueryRows, Rotary, cohort,
    optim::{AdamW, Learned, Pace, Rule, Sgd},
};

/// See [`crate::Ops::embed`].
pub fn embed<B: Backend>(table: Tensor<B, 2>, tokens: Tensor<B, 2, Int>) -> Tensor<B, 3> {
    let [batch, seq_len] = tokens.dims();
    let [_, d] = table.dims();
    table.select(0, tokens.reshape([batch * seq_len])).reshape([batch, seq_len, d])
}

/// See [`crate::Ops::embed_at`].
pub fn embed_at<B: Backend>(
    table: Tensor<B, 2>,
    places: Tensor<B, 2>,
    scale: f64,
    tokens: Tensor<B, 2, Int>,
) -> Tensor<B, 3> {
    let [_, n_pos] = tokens.dims();
    embed(table, tokens) + places.narrow(0, 0, n_pos).mul_scalar(scale).unsqueeze::<3>()
}

/// See [`crate::Ops::linear`].
pub fn linear<B: Backend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 2> {
    let y = x.matmul(weight);
    match bias {
        Some(bias) => y + bias.unsqueeze::<2>(),
        None => y,
    }
}

/// See [`crate::Ops::linear_act`].
pub fn linear_act<B: Backend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
    act: Activation,
) -> Tensor<B, 2> {
    let product = linear(x, weight, bias);
    let d_out = act.d_out(product.dims()[1]);
    match act {
        Activation::Relu => activation::relu(product),
        Activation::Gelu(form) => gelu(product, form),
        Activation::Gated(gate) => {
            let value = product.clone().narrow(1, 0, d_out);
            value * gated(product.narrow(1, d_out, d_out), gate)
        }
    }
}

/// The function of a gate.
fn gated<B: Backend>(x: Tensor<B, 2>, gate: Gate) -> Tensor<B, 2> {
    match gate {
        Gate::Sigmoid => activation::sigmoid(x),
        Gate::Relu => activation::relu(x),
        Gate::Gelu(form) => gelu(x, form),
        Gate::Silu => activation::silu(x),
    }
}

/// See [`crate::Ops::layer_norm`].
pub fn layer_norm<B: Backend>(
    x: Tensor<B, 2>,
    gain: Tensor<B, 1>,
    bias: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, 2> {
    let centered = x.clone() - x.mean_dim(1);
    let variance = centered.clone().powi_scalar(2).mean_dim(1);
    let normal = centered / (variance + epsilon).sqrt();
    normal * gain.unsqueeze::<2>() + bias.unsqueeze::<2>()
}

/// See [`crate::Ops::rms_norm`].
pub fn rms_norm<B: Backend>(x: Tensor<B, 2>, gain: Tensor<B, 1>, epsilon: f64) -> Tensor<B, 2> {
    let mean_square = x.clone().powi_scalar(2).mean_dim(1);
    x / (mean_square + epsilon).sqrt() * gain.unsqueeze::<2>()
}

/// See [`crate::Ops::gelu`].
pub fn gelu<B: Backend>(x: Tensor<B, 2>, form: Gelu) -> Tensor<B, 2> {
    let gate = match form {
        Gelu::Erf => (x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf(),
        Gelu::Tanh => {
            let cubic = x.clone() + x.clone().powi_scalar(3) * 0.044_715;
            (cubic * (2.0 / std::f64::consts::PI).sqrt()).tanh()
        }
    };
    x * 0.5 * (gate + 1.0)
}

/// See [`crate::Ops::add`].
pub fn add<B: Backend, const D: usize>(x: Tensor<B, D>, y: Tensor<B, D>) -> Tensor<B, D> {
    x + y
}

/// See [`crate::Ops::causal_attention`].
pub fn causal_attention<B: Backend>(
    qkv: Tensor<B, 3>,
    bias: Option<Tensor<B, 2>>,
    attend: &Attend,
) -> Tensor<B, 3> {
    let [batch, seq_len, d3] = qkv.dims();
    let d = d3 / 3;
    let part = |part: usize| qkv.clone().slice([0..batch, 0..seq_len, part * d..(part + 1) * d]);
    attention_of_all([part(0), part(1), part(2)], bias, attend)
}

/// See [`crate::Ops::causal_attention_of`].
pub fn causal_attention_of<B: Backend>(
    q: Tensor<B, 3>,
    k: Tensor<B, 3>,
    v: Tensor<B, 3>,
    attend: &Attend,
) -> Tensor<B, 3> {
    attention_of_all([q, k, v], None, attend)
}

/// See [`crate::Ops::causal_attention_looked_up`].
pub fn causal_attention_looked_up<B: Backend>(
    tokens: Tensor<B, 2, Int>,
    scores: Tensor<B, 2>,
    d_vocab: usize,
    values: Tensor<B, 3>,
    attend: &Attend,
) -> Tensor<B, 3> {
    let ([batch, seq_len], [n_rows, _]) = (tokens.dims(), scores.dims());
    assert_eq!(attend.n_heads, 1, "a table has the scores of one head");
    let of_places = scores.clone().narrow(0, d_vocab, n_rows - d_vocab);
    // Of each query with every token and every place: `[batch, query, d_vocab + n_ctx]`.
    let of_queries = embed_at(scores, of_places, 1.0, tokens.clone());
    let keys = tokens.unsqueeze_dim::<3>(1).expand([batch, seq_len, seq_len]);
    let attn_scores = of_queries.clone().gather(2, keys) + of_queries.narrow(2, d_vocab, seq_len);
    let query_pos: Vec<u32> = (0..seq_len as u32).collect();
    let shape = [batch, 1, seq_len, seq_len];
    let pattern = Pattern { shape, query_pos: &query_pos, bias: None, attend };
    pattern.mix(attn_scores.reshape(shape) / attend.divisor(1), values.unsqueeze_dim(1))
}

/// Attention of every place, from queries, keys and values `[batch, pos, ..]`.
fn attention_of_all<B: Backend>(
    qkv: [Tensor<B, 3>; 3],
    bias: Option<Tensor<B, 2>>,
    attend: &Attend,
) -> Tensor<B, 3> {
    let ([batch, seq_len, _], n_heads) = (qkv[0].dims(), attend.n_heads);
    let [q, k, v] = qkv.map(|part| {
        let [_, _, d] = part.dims();
        part.reshape([batch, seq_len, n_heads, d / n_heads]).swap_dims(1, 2)
    });
    let query_pos: Vec<u32> = (0..seq_len as u32).collect();
    let shape = [batch, n_heads, seq_len, seq_len];
    let pattern = Pattern { shape, query_pos: &query_pos, bias, attend };
    pattern.attend(q, k, v)
}

/// Where the queries of a batch stand, and what is asked of their rows of the pattern.
struct Pattern<'a, B: Backend> {
    /// `[batch, head, query, key]`
    shape: [usize; 4],
    /// `[batch, query]`, or `[1, query]` where every example has the same
    query_pos: &'a [u32],
    bias: Option<Tensor<B, 2>>,
    attend: &'a Attend,
}

impl<B: Backend> Pattern<'_, B> {
    /// Attention of `[batch, head, query, d_head]` on `[batch, head, key, d_head]` at or before it:
    /// `[batch, query, d]` and, if asked for, the statistics of the rows behind each `d`.
    fn attend(&self, q: Tensor<B, 4>, k: Tensor<B, 4>, v: Tensor<B, 4>) -> Tensor<B, 3> {
        let [_, _, _, d_head] = q.dims();
        // Of all there is the scores are the largest by far, so they are gone through as seldom as can be.
        self.mix((q / self.attend.divisor(d_head)).matmul(k.swap_dims(2, 3)), v)
    }

    /// [`Self::attend`] from scores that are scaled already.
    fn mix(&self, mut attn_scores: Tensor<B, 4>, v: Tensor<B, 4>) -> Tensor<B, 3> {
        let device = v.device();
        if let Some(bias) = &self.bias {
            attn_scores = attn_scores + self.bias_of_places(bias.clone());
        }
        let masked = self.after_query(&device);
        let nothing = Tensor::zeros(masked.dims(), &device);
        let attn_scores = attn_scores + nothing.mask_fill(masked.clone(), f32::NEG_INFINITY);
        let attn_pattern = activation::softmax(attn_scores.clone(), 3);
        let kept = match &self.attend.dropout {
            Some(dropout) => attn_pattern.clone() * self.factors(dropout, &device),
            None => attn_pattern.clone(),
        };
        let y = Self::by_row(kept.matmul(v));
        if !self.attend.stats {
            return y;
        }
        // 0 ln 0 is 0: where there is no key its logarithm is left out.
        let masked = masked.expand(self.shape);
        let ln_pattern = activation::log_softmax(attn_scores, 3).mask_fill(masked, 0.0);
        let entropy = -(attn_pattern.clone() * ln_pattern).sum_dim(3);
        let norm = attn_pattern.clone().powi_scalar(2).sum_dim(3).sqrt();
        let stats = [entropy, norm, attn_pattern.max_dim(3)].map(Self::by_row);
        Tensor::cat([vec![y], stats.to_vec()].concat(), 2)
    }

    /// `[batch, head, query, width]` -> `[batch, query, head * width]`
    fn by_row(x: Tensor<B, 4>) -> Tensor<B, 3> {
        let [batch, n_heads, n_queries, width] = x.dims();
        x.swap_dims(1, 2).reshape([batch, n_queries, n_heads * width])
    }

    /// Whether a key lies after the query: `[batch or 1, 1, query, key]`.
    fn after_query(&self, device: &B::Device) -> Tensor<B, 4, Bool> {
        let [_, _, n_queries, n_keys] = self.shape;
        let n_differing = self.query_pos.len() / n_queries;
        let query_pos: Vec<i64> = self.query_pos.iter().map(|&pos| i64::from(pos)).collect();
        let query = Tensor::<B, 1, Int>::from_data(query_pos.as_slice(), device)
            .reshape([n_differing, 1, n_queries, 1])
            .expand([n_differing, 1, n_queries, n_keys]);
        let key = Tensor::<B, 1, Int>::arange(0..n_keys as i64, device)
            .reshape([1, 1, 1, n_keys])
            .expand([n_differing, 1, n_queries, n_keys]);
        key.greater(query)
    }

    /// `[head, distance]` -> `[batch, head, query, key]`; keys after the query get any.
    fn bias_of_places(&self, bias: Tensor<B, 2>) -> Tensor<B, 4> {
        let [_, n_heads, n_queries, n_keys] = self.shape;
        let n_differing = self.query_pos.len() / n_queries;
        let distance =
            |&query: &u32| (0..n_keys).map(move |key| (query as usize).saturating_sub(key) as i64);
        let distances: Vec<i64> = self.query_pos.iter().flat_map(distance).collect();
        let distances = Tensor::<B, 1, Int>::from_data(distances.as_slice(), &bias.device());
        let of_places = bias.select(1, distances);
        of_places
            .reshape([n_heads, n_differing, n_queries, n_keys])
            .swap_dims(0, 1)
            .expand(self.shape)
    }

    /// What dropout multiplies the pattern by.
    fn factors(&self, dropout: &Dropout, device: &B::Device) -> Tensor<B, 4> {
        let [batch, n_heads, n_queries, n_keys] = self.shape;
        let mut factors = Vec::with_capacity(self.shape.iter().product());
        let query_pos = self.query_pos.chunks_exact(n_queries).cycle().take(batch);
        for (example, query_pos) in query_pos.enumerate() {
            for head in 0..n_heads as u32 {
                for &query_pos in query_pos {
                    let row = dropout.row(example as u32, head, query_pos);
                    factors.extend((0..n_keys as u32).map(|key_pos| row.factor(key_pos)));
                }
            }
        }
        Tensor::<B, 1>::from_data(factors.as_slice(), device).reshape(self.shape)
    }
}

/// See [`crate::Ops::causal_attention_at`].
pub fn causal_attention_at<B: Backend>(
    q: Tensor<B, 2>,
    kv: Tensor<B, 3>,
    bias: Option<Tensor<B, 2>>,
    rows: &QueryRows,
    attend: &Attend,
) -> Tensor<B, 2> {
    let [_, _, d2] = kv.dims();
    let part = |part: usize| kv.clone().narrow(2, part * d2 / 2, d2 / 2);
    attention_of_rows(q, [part(0), part(1)], bias, rows, attend)
}

/// See [`crate::Ops::causal_attention_of_at`].
pub fn causal_attention_of_at<B: Backend>(
    q: Tensor<B, 2>,
    k: Tensor<B, 3>,
    v: Tensor<B, 3>,
    rows: &QueryRows,
    attend: &Attend,
) -> Tensor<B, 2> {
    attention_of_rows(q, [k, v], None, rows, attend)
}

/// Attention of chosen places on keys and values `[batch, pos, ..]`.
///
/// Queries are laid out as `[batch, most queries of an example]`; the places that are left over
/// repeat the first query, at pos 0, and are dropped again.
fn attention_of_rows<B: Backend>(
    q: Tensor<B, 2>,
    kv: [Tensor<B, 3>; 2],
    bias: Option<Tensor<B, 2>>,
    rows: &QueryRows,
    attend: &Attend,
) -> Tensor<B, 2> {
    let ([batch, seq_len, d_values], n_heads) = (kv[1].dims(), attend.n_heads);
    let (width, device) = (d_values + attend.n_stats(), q.device());
    if rows.is_empty() {
        return Tensor::zeros([0, width], &device);
    }
    let by_example = rows.by_example(batch);
    let n_most = by_example.iter().map(std::ops::Range::len).max().unwrap_or(0);
    let mut source = vec![0_i64; batch * n_most];
    let mut query_pos = vec![0_u32; batch * n_most];
    let mut target = Vec::with_capacity(rows.len());
    for (example, range) in by_example.into_iter().enumerate() {
        for (i, query_idx) in range.enumerate() {
            let place = example * n_most + i;
            source[place] = query_idx as i64;
            query_pos[place] = rows.place(query_idx).1;
            target.push(place as i64);
        }
    }
    let ints = |ints: &[i64]| Tensor::<B, 1, Int>::from_data(ints, &device);
    let [_, d] = q.dims();
    let q = q.select(0, ints(&source)).reshape([batch, n_most, n_heads, d / n_heads]);
    let [k, v] = kv.map(|part| {
        let [_, _, d] = part.dims();
        part.reshape([batch, seq_len, n_heads, d / n_heads]).swap_dims(1, 2)
    });
    let shape = [batch, n_heads, n_most, seq_len];
    let pattern = Pattern { shape, query_pos: &query_pos, bias, attend };
    let y = pattern.attend(q.swap_dims(1, 2), k, v);
    y.reshape([batch * n_most, width]).select(0, ints(&target))
}

/// See [`crate::Ops::dropout`].
pub fn dropout<B: Backend>(x: Tensor<B, 2>, rows: &QueryRows, dropout: &Dropout) -> Tensor<B, 2> {
    let ([n_rows, d], device) = (x.dims(), x.device());
    assert_eq!(n_rows, rows.len(), "x: [{n_rows}, {d}] does not fit {} places", rows.len());
    let mut factors = Vec::with_capacity(n_rows * d);
    for (example, pos) in rows.places() {
        let row = dropout.row(example, 0, pos);
        factors.extend((0..d as u32).map(|column| row.factor(column)));
    }
    x * Tensor::<B, 1>::from_data(factors.as_slice(), &device).reshape([n_rows, d])
}

/// See [`crate::Ops::select_rows`].
pub fn select_rows<B: Backend>(x: Tensor<B, 2>, rows: &QueryRows) -> Tensor<B, 2> {
    let at = flat(rows, &x.device());
    x.select(0, at)
}

/// See [`crate::Ops::select_rows_backward`].
pub fn select_rows_backward<B: Backend>(
    n_rows: usize,
    rows: &QueryRows,
    d_y: Tensor<B, 2>,
) -> Tensor<B, 2> {
    let ([_, d], device) = (d_y.dims(), d_y.device());
    Tensor::zeros([n_rows, d], &device).select_assign(
        0,
        flat(rows, &device),
        d_y,
        IndexingUpdateOp::Add,
    )
}

/// The flat rows.
fn flat<B: Backend>(rows: &QueryRows, device: &B::Device) -> Tensor<B, 1, Int> {
    let flat: Vec<i64> = rows.flat().iter().map(|&row| i64::from(row)).collect();
    Tensor::from_data(flat.as_slice(), device)
}

/// See [`crate::Ops::rotary`].
pub fn rotary<B: Backend>(
    x: Tensor<B, 2>,
    n_turned: usize,
    rows: &QueryRows,
    rotary: &Rotary,
) -> Tensor<B, 2> {
    let ([n_rows, d], device) = (x.dims(), x.device());
    rotary.check([n_rows, d], n_turned, rows);
    let (d_head, half) = (rotary.d_head(), rotary.n_rotated() / 2);
    let d_turned = n_turned * d_head;
    // Cosine or sine of the angles of every row, the same for all heads.
    let of_rows = |of: fn(&Rotary, usize) -> &[f32]| {
        let all: Vec<f32> =
            rows.places().flat_map(|(_, pos)| of(rotary, pos as usize).to_vec()).collect();
        Tensor::<B, 1>::from_data(all.as_slice(), &device).reshape([n_rows, 1, half])
    };
    let (cos, sin) = (of_rows(Rotary::cos), of_rows(Rotary::sin));
    let heads = x.clone().slice([0..n_rows, 0..d_turned]).reshape([n_rows, n_turned, d_head]);
    let first = heads.clone().narrow(2, 0, half);
    let second = heads.clone().narrow(2, half, half);
    let mut parts = vec![
        first.clone() * cos.clone() - second.clone() * sin.clone(),
        second * cos + first * sin,
    ];
    if d_head > 2 * half {
        parts.push(heads.narrow(2, 2 * half, d_head - 2 * half));
    }
    let turned = Tensor::cat(parts, 2).reshape([n_rows, d_turned]);
    if d == d_turned {
        return turned;
    }
    Tensor::cat(vec![turned, x.slice([0..n_rows, d_turned..d])], 1)
}

/// See [`crate::Ops::lstm`].
pub fn lstm<B: Backend>(gates_in: Tensor<B, 3>, w_hh: Tensor<B, 2>) -> Tensor<B, 3> {
    let [batch, seq_len, d4] = gates_in.dims();
    let d = d4 / 4;
    let mut h = Tensor::<B, 2>::zeros([batch, d], &gates_in.device());
    let mut c = h.clone();
    let mut all = Vec::with_capacity(seq_len);
    for pos in 0..seq_len {
        let here = gates_in.clone().slice([0..batch, pos..pos + 1, 0..d4]).reshape([batch, d4]);
        let gates = here + h.matmul(w_hh.clone());
        let gate = |gate: usize| gates.clone().slice([0..batch, gate * d..(gate + 1) * d]);
        let (i, f) = (activation::sigmoid(gate(0)), activation::sigmoid(gate(1)));
        let (g, o) = (gate(2).tanh(), activation::sigmoid(gate(3)));
        c = f * c + i * g;
        h = o * c.clone().tanh();
        all.push(h.clone());
    }
    Tensor::stack(all, 1)
}

/// See [`crate::Ops::cross_entropy`].
pub fn cross_entropy<B: Backend>(logits: Tensor<B, 2>, targets: Tensor<B, 1, Int>) -> Tensor<B, 1> {
    let [n_rows, _] = logits.dims();
    let log_probs = activation::log_softmax(logits, 1);
    -log_probs.gather(1, targets.reshape([n_rows, 1])).mean()
}

/// See [`crate::Ops::weighted_losses`].
pub fn weighted_losses<B: Backend>(
    logits: Tensor<B, 2>,
    targets: Tensor<B, 1, Int>,
    weights: Tensor<B, 1>,
) -> Tensor<B, 1> {
    let [n_rows, _] = logits.dims();
    let log_probs = activation::log_softmax(logits, 1);
    -log_probs.gather(1, targets.reshape([n_rows, 1])).reshape([n_rows]) * weights
}

/// See [`crate::optim::update_each`]; each member by `update`.
pub fn update_each<B: Backend>(
    params: Vec<Learned<B>>,
    paces: &[Pace],
    step: u64,
    update: impl Fn(Vec<Learned<B>>, &Rule, u64, f64) -> (Vec<Learned<B>>, Vec<bool>),
) -> (Vec<Learned<B>>, Vec<bool>) {
    let n_members = paces.len();
    let of_members: Vec<_> = (0..n_members)
        .map(|member| {
            let part = |row: &Tensor<B, 1>| cohort::part(row, n_members, member);
            let of_param = |Learned { param, grad, kept }: &Learned<B>| Learned {
                param: part(param),
                grad: part(grad),
                kept: kept.iter().map(part).collect(),
            };
            let Pace { rule, grad_scale } = &paces[member];
            update(params.iter().map(of_param).collect(), rule, step, *grad_scale)
        })
        .collect();
    let all = |of: &dyn Fn(&Learned<B>) -> Tensor<B, 1>, which: usize| {
        cohort::each(n_members, |member| of(&of_members[member].0[which]))
    };
    let moved = params.into_iter().enumerate().map(|(which, Learned { grad, kept, .. })| Learned {
        param: all(&|learned| learned.param.clone(), which),
        grad,
        kept: (0..kept.len()).map(|row| all(&|learned| learned.kept[row].clone(), which)).collect(),
    });
    let moved: Vec<_> = moved.collect();
    let finite = |which: usize| of_members.iter().map(move |(_, finite)| finite[which]);
    let finite = (0..moved.len()).flat_map(finite).collect();
    (moved, finite)
}

/// See [`crate::optim::update`].
pub fn update<B: Backend>(
    params: Vec<Learned<B>>,
    rule: &Rule,
    step: u64,
    grad_scale: f64,
) -> (Vec<Learned<B>>, Vec<bool>) {
    let moved = params.into_iter().map(|Learned { param, grad, kept }| {
        let scaled = grad.clone() * grad_scale;
        let (param, kept) = match rule {
            Rule::AdamW(rule) => adamw(param, scaled, kept, rule, step),
            Rule::Sgd(rule) => sgd(param, scaled, kept, rule, step),
        };
        let rows = [vec![param.clone()], kept.clone()].concat();
        let finite = Tensor::cat(rows.into_iter().map(|row| row.is_finite().all()).collect(), 0);
        (Learned { param, grad, kept }, finite.all().float())
    });
    let (moved, finite): (Vec<_>, Vec<_>) = moved.unzip();
    let finite = read_all(finite).into_iter().map(|finite| finite > 0.0).collect();
    (moved, finite)
}

/// The numbers in tensors of one number each. They are read together: a device that works on its own has to
/// come to an end before each answer.
fn read_all<B: Backend>(numbers: Vec<Tensor<B, 1>>) -> Vec<f64> {
    if numbers.is_empty() {
        return Vec::new();
    }
    Tensor::cat(numbers, 0).into_data().iter().collect()
}

/// One parameter after a step, and the two means that are kept of it.
fn adamw<B: Backend>(
    param: Tensor<B, 1>,
    grad: Tensor<B, 1>,
    kept: Vec<Tensor<B, 1>>,
    rule: &AdamW,
    step: u64,
) -> (Tensor<B, 1>, Vec<Tensor<B, 1>>) {
    let m = kept[0].clone() * rule.beta1 + grad.clone() * (1.0 - rule.beta1);
    let v = kept[1].clone() * rule.beta2 + grad.clone() * grad * (1.0 - rule.beta2);
    let (correction1, correction2) = rule.corrections(step);
    let update = m.clone() / ((v.clone() / correction2).sqrt() + rule.epsilon);
    let decayed = param * (1.0 - rule.lr * rule.weight_decay);
    (decayed - update * (rule.lr / correction1), vec![m, v])
}

/// One parameter after a step, and the sum that is kept of it.
fn sgd<B: Backend>(
    param: Tensor<B, 1>,
    grad: Tensor<B, 1>,
    kept: Vec<Tensor<B, 1>>,
    rule: &Sgd,
    step: u64,
) -> (Tensor<B, 1>, Vec<Tensor<B, 1>>) {
    let grad = grad + param.clone() * rule.weight_decay;
    let sum = if step == 1 || rule.momentum <= 0.0 {
        grad.clone()
    } else {
        kept[0].clone() * rule.momentum + grad.clone() * (1.0 - rule.dampening)
    };
    let direction = if rule.nesterov { grad + sum.clone() * rule.momentum } else { sum.clone() };
    (param - direction * rule.lr, vec![sum])
}

/// See [`crate::optim::sums_of_squares`].
pub fn sums_of_squares<B: Backend>(arrays: Vec<Tensor<B, 1>>) -> Vec<f64> {
    read_all(arrays.into_iter().map(|x| (x.clone() * x).sum()).collect())
}
