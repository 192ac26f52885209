//! Attention between its products: rows of the pattern, and their gradients.
//!
//! Products of matrices leave scores `[batch, head, query, key]` in memory. One kernel makes a pattern of them in one
//! pass, with bias, mask, dropout and the statistics of its rows; one makes the gradient of the scores of the gradient
//! of the pattern.

#![expect(
    clippy::fn_params_excessive_bools,
    reason = "what a kernel is compiled for are its arguments"
)]
#![expect(unsafe_code, reason = "a check of every index is a third of a kernel's instructions")]

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::heads::place_of;
use super::places::{Dropped, dropout_factor, dropout_words};
use super::{
    UNITS, by_lanes, cubes, lanes, max_of_row, one_each, room, row_dim, row_of_lanes, sum_of_cube,
    sum_of_row,
};

/// Numbers that are kept of a row of the pattern: entropy, norm, largest entry and its key.
pub(crate) const N_STATS: usize = 4;

/// The scores of a pattern and where its queries stand.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) batch: usize,
    pub(crate) n_heads: usize,
    pub(crate) n_queries: usize,
    pub(crate) n_keys: usize,
}

impl Shape {
    fn n_rows(self) -> usize {
        self.batch * self.n_heads * self.n_queries
    }

    /// Keys of a row that each of its [`lanes`] takes.
    fn per_unit(self, lanes: u32) -> u32 {
        (self.n_keys as u32).div_ceil(lanes)
    }

    /// Examples of each member, of which a bias `[members * head, distance]` tells how many there are.
    fn per_member<R: CubeRuntime>(self, bias: Option<&CubeTensor<R>>) -> usize {
        let n_members = bias.map_or(1, |bias| bias.meta.shape()[0] / self.n_heads);
        (self.batch / n_members).max(1)
    }

    fn dims(self) -> [usize; 4] {
        [self.batch, self.n_heads, self.n_queries, self.n_keys]
    }
}

/// The example, head and place of a query.
#[cube]
fn query_of(
    row: usize,
    query_pos: &Array<i32>,
    n_heads: usize,
    n_queries: usize,
    #[comptime] chosen: bool,
) -> (usize, usize, usize) {
    let query = row % n_queries;
    let head = (row / n_queries) % n_heads;
    let example = row / n_queries / n_heads;
    let mut pos = query;
    if chosen {
        pos = query_pos[example * n_queries + query] as usize;
    }
    (example, head, pos)
}

/// The words of a row that is dropped from; zeros where nothing is.
#[cube]
fn words_of(
    keys: &Array<i32>,
    n_each: u32,
    example: usize,
    head: usize,
    pos: usize,
    #[comptime] version: u32,
    #[comptime] dropped: bool,
) -> (u32, u32) {
    let mut word0 = 0u32;
    let mut word1 = 0u32;
    if dropped {
        let words = dropout_words(keys, n_each, example as u32, head as u32, pos as u32, version);
        word0 = words.0;
        word1 = words.1;
    }
    (word0, word1)
}

/// The scores of a unit's keys, scaled and with their bias, into `own`; and the largest of them.
#[cube]
fn scaled(
    scores: &Array<f32>,
    bias: &Array<f32>,
    own: &mut Array<f32>,
    start: usize,
    of_head: usize,
    pos: usize,
    past: usize,
    scale: f32,
    #[comptime] lanes: u32,
    #[comptime] per_unit: u32,
    #[comptime] biased: bool,
) -> f32 {
    let mut largest = f32::min_value();
    #[unroll]
    for i in 0..per_unit {
        let key = (i * lanes + UNIT_POS_X) as usize;
        if key < past {
            let mut score = scores[start + key] * scale;
            if biased {
                // What a row that is not there makes of it is not looked at.
                score += bias[min(of_head + pos - key, bias.len() - 1)];
            }
            own[i as usize] = score;
            largest = max(largest, score);
        }
    }
    largest
}

/// The exponentials of a unit's scores less the largest of the row, in their place; the sums of them, of them times their
/// logarithm and of their squares, and the first key that has the largest.
#[cube]
fn exponentials(
    own: &mut Array<f32>,
    largest: f32,
    past: usize,
    n_keys: usize,
    #[comptime] lanes: u32,
    #[comptime] per_unit: u32,
    #[comptime] counted: bool,
) -> (f32, f32, f32, usize) {
    let mut sum = 0.0f32;
    let mut weighted = 0.0f32;
    let mut squares = 0.0f32;
    let mut first = n_keys;
    #[unroll]
    for i in 0..per_unit {
        let key = (i * lanes + UNIT_POS_X) as usize;
        if key < past {
            let off = own[i as usize] - largest;
            let mass = f32::exp(off);
            own[i as usize] = mass;
            sum += mass;
            if counted {
                weighted += mass * off;
                squares += mass * mass;
                if off >= 0.0f32 {
                    first = min(first, key);
                }
            }
        }
    }
    (sum, weighted, squares, first)
}

/// The statistics of a row from its sum and what [`exponentials`] gave of each unit's keys.
#[cube]
fn write_stats(
    stats: &mut Array<f32>,
    shared: &mut SharedMemory<f32>,
    at: usize,
    total: f32,
    weighted: f32,
    squares: f32,
    first: usize,
    #[comptime] lanes: u32,
) {
    let weighted = sum_of_row(shared, weighted, lanes);
    let squares = sum_of_row(shared, squares, lanes);
    // The smallest key as the largest of negative ones.
    let first = -max_of_row(shared, -(first as f32), lanes);
    if UNIT_POS_X == 0 {
        stats[at] = f32::ln(total) - weighted / total;
        stats[at + 1] = f32::sqrt(squares) / total;
        stats[at + 2] = 1.0f32 / total;
        stats[at + 3] = first;
    }
}

#[cube(launch_unchecked)]
fn pattern_kernel<N: Float>(
    scores: &Array<f32>,
    query_pos: &Array<i32>,
    bias: &Array<f32>,
    keys: &Array<i32>,
    pattern: &mut Array<N>,
    kept: &mut Array<N>,
    stats: &mut Array<f32>,
    scale: f32,
    n_heads: u32,
    n_queries: u32,
    n_keys: u32,
    n_distances: u32,
    per_member: u32,
    n_each: u32,
    bound: u32,
    factor: f32,
    #[comptime] lanes: u32,
    #[comptime] per_unit: u32,
    #[comptime] chosen: bool,
    #[comptime] biased: bool,
    #[comptime] dropped: bool,
    #[comptime] version: u32,
    #[comptime] counted: bool,
) {
    let row = row_of_lanes(lanes);
    let n_keys = n_keys as usize;
    let start = row * n_keys;
    if start < pattern.len() {
        let (unit, n_units) = (UNIT_POS_X as usize, lanes as usize);
        let mut shared = SharedMemory::<f32>::new(UNITS as usize);
        let (example, head, pos) =
            query_of(row, query_pos, n_heads as usize, n_queries as usize, chosen);
        let past = min(pos + 1, n_keys);
        let member = example / per_member as usize;
        let of_head = (member * n_heads as usize + head) * n_distances as usize;
        // What a unit makes of its keys stays with it from one pass over the row to the next.
        let mut own = Array::<f32>::new(per_unit as usize);
        let mine = scaled(
            scores, bias, &mut own, start, of_head, pos, past, scale, lanes, per_unit, biased,
        );
        let largest = max_of_row(&mut shared, mine, lanes);
        let (sum, weighted, squares, first) =
            exponentials(&mut own, largest, past, n_keys, lanes, per_unit, counted);
        let total = sum_of_row(&mut shared, sum, lanes);
        if counted {
            let at = row * N_STATS;
            write_stats(stats, &mut shared, at, total, weighted, squares, first, lanes);
        }
        let (word0, word1) = words_of(keys, n_each, example, head, pos, version, dropped);
        let share = 1.0f32 / total;
        #[unroll]
        for i in 0..per_unit {
            let key = unit + i as usize * n_units;
            if key < n_keys {
                let mut mass = f32::new(0.0);
                if key < past {
                    mass = own[i as usize] * share;
                }
                pattern[start + key] = N::cast_from(mass);
                if dropped {
                    let factor = dropout_factor(key as u32, word0, word1, bound, factor);
                    kept[start + key] = N::cast_from(mass * factor);
                }
            }
        }
    }
}

/// How rows of a pattern come about.
pub(crate) struct Rule<'a, R: CubeRuntime> {
    pub(crate) shape: Shape,
    /// Where chosen queries stand, `[batch, query]`; else each stands at its place.
    pub(crate) query_pos: Option<&'a CubeTensor<R>>,
    /// `[head, distance]`
    pub(crate) bias: Option<&'a CubeTensor<R>>,
    /// What scores are multiplied by before the bias is added.
    pub(crate) scale: f32,
    pub(crate) dropped: Option<Dropped<R>>,
    pub(crate) counted: bool,
}

impl<R: CubeRuntime> Rule<'_, R> {
    /// Dropout for a kernel; one that drops nothing does not look at it, and gets some other array for the keys.
    fn dropped(&self, other: &CubeTensor<R>) -> Dropped<R> {
        let nothing =
            || Dropped { keys: other.clone(), n_each: 1, bound: 0, kept: 1.0, version: 0 };
        self.dropped.clone().unwrap_or_else(nothing)
    }
}

/// A pattern, what dropout left of it, and the statistics of its rows `[batch, head, query, 4]`.
pub(crate) struct Pattern<R: CubeRuntime> {
    pub(crate) pattern: CubeTensor<R>,
    pub(crate) kept: CubeTensor<R>,
    pub(crate) stats: CubeTensor<R>,
}

/// The pattern of `scores: [batch, head, query, key]`, as numbers of `dtype`.
pub(crate) fn pattern<R: CubeRuntime>(
    scores: CubeTensor<R>,
    rule: &Rule<'_, R>,
    dtype: DType,
) -> Pattern<R> {
    let Shape { n_heads, n_queries, n_keys, .. } = rule.shape;
    let pattern = room(&scores, rule.shape.dims(), dtype);
    let kept = match &rule.dropped {
        Some(_) => room(&scores, rule.shape.dims(), dtype),
        None => pattern.clone(),
    };
    let n_stats = if rule.counted { rule.shape.n_rows() * N_STATS } else { 1 };
    let stats = room(&scores, [n_stats], DType::F32);
    let n_distances = rule.bias.map_or(0, |bias| bias.meta.shape()[1]);
    let client = scores.client.clone();
    let dropped = rule.dropped(&stats);
    let launch = match dtype {
        DType::BF16 => pattern_kernel::launch_unchecked::<half::bf16, R>,
        _ => pattern_kernel::launch_unchecked::<f32, R>,
    };
    // What is not dropped from has no second array; some other one takes its place, unwritten.
    let unwritten = if rule.dropped.is_some() { kept.clone() } else { room(&stats, [1], dtype) };
    let lanes = lanes(&client);
    let (count, dim) = by_lanes(rule.shape.n_rows(), lanes);
    // SAFETY: a row is looked at only if it begins within the pattern, which has as many numbers as the scores (and as what is
    // kept, where something is dropped), and keys end with their row. A place of a chosen query is one of the keys, there is one for
    // each query, and keys of dropout for each member; what is behind the last bias is brought back to it. Statistics have four
    // numbers a row.
    unsafe {
        launch(
            &client,
            count,
            dim,
            scores.into_array_arg(),
            rule.query_pos.unwrap_or(&stats).clone().into_array_arg(),
            rule.bias.unwrap_or(&stats).clone().into_array_arg(),
            dropped.keys.into_array_arg(),
            pattern.clone().into_array_arg(),
            unwritten.into_array_arg(),
            stats.clone().into_array_arg(),
            rule.scale,
            n_heads as u32,
            n_queries as u32,
            n_keys as u32,
            n_distances as u32,
            rule.shape.per_member(rule.bias) as u32,
            dropped.n_each,
            dropped.bound,
            dropped.kept,
            lanes,
            rule.shape.per_unit(lanes),
            rule.query_pos.is_some(),
            rule.bias.is_some(),
            rule.dropped.is_some(),
            dropped.version,
            rule.counted,
        );
    }
    Pattern { pattern, kept, stats }
}

/// The gradient by a score of its row's statistics, which begin at `at`; their gradients stand `one` apart from `from` on.
#[cube]
fn by_stats(
    stats: &Array<f32>,
    d_stats: &Array<f32>,
    at: usize,
    from: usize,
    one: usize,
    key: usize,
    mass: f32,
) -> f32 {
    let norm = stats[at + 1];
    let largest = stats[at + 2];
    let mut grad = d_stats[from + one] * mass * (mass / norm - norm);
    if mass > 0.0f32 {
        grad -= d_stats[from] * mass * (f32::ln(mass) + stats[at]);
    }
    grad -= d_stats[from + 2 * one] * largest * mass;
    if key == stats[at + 3] as usize {
        grad += d_stats[from + 2 * one] * largest;
    }
    grad
}

#[cube(launch_unchecked)]
fn pattern_backward_kernel<N: Float>(
    pattern: &Array<N>,
    d_kept: &Array<f32>,
    query_pos: &Array<i32>,
    stats: &Array<f32>,
    d_stats: &Array<f32>,
    keys: &Array<i32>,
    d_scores: &mut Array<N>,
    scale: f32,
    n_heads: u32,
    n_queries: u32,
    n_keys: u32,
    n_each: u32,
    bound: u32,
    factor: f32,
    #[comptime] lanes: u32,
    #[comptime] per_unit: u32,
    #[comptime] chosen: bool,
    #[comptime] dropped: bool,
    #[comptime] version: u32,
    #[comptime] counted: bool,
) {
    let row = row_of_lanes(lanes);
    let n_keys = n_keys as usize;
    let start = row * n_keys;
    if start < d_scores.len() {
        let (unit, n_units) = (UNIT_POS_X as usize, lanes as usize);
        let n_queries = n_queries as usize;
        let mut shared = SharedMemory::<f32>::new(UNITS as usize);
        let (example, head, pos) = query_of(row, query_pos, n_heads as usize, n_queries, chosen);
        let past = min(pos + 1, n_keys);
        let (word0, word1) = words_of(keys, n_each, example, head, pos, version, dropped);
        let mut masses = Array::<f32>::new(per_unit as usize);
        let mut pulls = Array::<f32>::new(per_unit as usize);
        let mut sum = 0.0f32;
        #[unroll]
        for i in 0..per_unit {
            let key = unit + i as usize * n_units;
            if key < past {
                let mass = f32::cast_from(pattern[start + key]);
                let mut pull = d_kept[start + key];
                if dropped {
                    pull *= dropout_factor(key as u32, word0, word1, bound, factor);
                }
                masses[i as usize] = mass;
                pulls[i as usize] = pull;
                sum += mass * pull;
            }
        }
        let level = sum_of_row(&mut shared, sum, lanes);
        #[unroll]
        for i in 0..per_unit {
            let key = unit + i as usize * n_units;
            if key < n_keys {
                let mut grad = f32::new(0.0);
                if key < past {
                    let mass = masses[i as usize];
                    grad = mass * (pulls[i as usize] - level);
                    if counted {
                        // `[batch, statistic, query, head]`
                        let one = n_queries * n_heads as usize;
                        let from = example * 3 * one + (row % n_queries) * n_heads as usize + head;
                        grad += by_stats(stats, d_stats, row * N_STATS, from, one, key, mass);
                    }
                }
                d_scores[start + key] = N::cast_from(grad * scale);
            }
        }
    }
}

/// The gradient by scores, before they were scaled, from that by what dropout left: `[batch, head, query, key]`.
///
/// `d_stats: [batch, 3, query, head]` are the gradients of entropies, norms and largest entries, where they count.
pub(crate) fn pattern_backward<R: CubeRuntime>(
    pattern: &CubeTensor<R>,
    d_kept: CubeTensor<R>,
    stats: &CubeTensor<R>,
    d_stats: Option<CubeTensor<R>>,
    rule: &Rule<'_, R>,
) -> CubeTensor<R> {
    let Shape { n_heads, n_queries, n_keys, .. } = rule.shape;
    let dtype = pattern.dtype;
    let d_scores = room(pattern, rule.shape.dims(), dtype);
    let client = pattern.client.clone();
    let counted = d_stats.is_some();
    let dropped = rule.dropped(stats);
    let launch = match dtype {
        DType::BF16 => pattern_backward_kernel::launch_unchecked::<half::bf16, R>,
        _ => pattern_backward_kernel::launch_unchecked::<f32, R>,
    };
    let lanes = lanes(&client);
    let (count, dim) = by_lanes(rule.shape.n_rows(), lanes);
    // SAFETY: as of `pattern`, whose arrays these are or are of one size with; gradients of statistics are laid out by query and
    // head.
    unsafe {
        launch(
            &client,
            count,
            dim,
            pattern.clone().into_array_arg(),
            d_kept.into_array_arg(),
            rule.query_pos.unwrap_or(stats).clone().into_array_arg(),
            stats.clone().into_array_arg(),
            d_stats.unwrap_or_else(|| stats.clone()).into_array_arg(),
            dropped.keys.into_array_arg(),
            d_scores.clone().into_array_arg(),
            rule.scale,
            n_heads as u32,
            n_queries as u32,
            n_keys as u32,
            dropped.n_each,
            dropped.bound,
            dropped.kept,
            lanes,
            rule.shape.per_unit(lanes),
            rule.query_pos.is_some(),
            rule.dropped.is_some(),
            dropped.version,
            counted,
        );
    }
    d_scores
}

#[cube(launch)]
fn bias_kernel<N: Float>(
    d_scores: &Array<N>,
    query_pos: &Array<i32>,
    d_bias: &mut Array<f32>,
    over_scale: f32,
    per_member: u32,
    n_heads: u32,
    n_queries: u32,
    n_keys: u32,
    n_distances: u32,
    #[comptime] chosen: bool,
) {
    let n_distances = n_distances as usize;
    let n_queries = n_queries as usize;
    let n_heads = n_heads as usize;
    let distance = CUBE_POS % n_distances;
    let head = (CUBE_POS / n_distances) % n_heads;
    let first = (CUBE_POS / n_distances / n_heads) * per_member as usize * n_queries;
    if CUBE_POS < d_bias.len() {
        let mut shared = SharedMemory::<f32>::new(UNITS as usize);
        let mut sum = 0.0f32;
        let mut place = first + UNIT_POS_X as usize;
        while place < first + per_member as usize * n_queries {
            let mut pos = place % n_queries;
            if chosen {
                pos = query_pos[place] as usize;
            }
            if pos >= distance && pos - distance < n_keys as usize {
                let row = ((place / n_queries) * n_heads + head) * n_queries + place % n_queries;
                sum += f32::cast_from(d_scores[row * n_keys as usize + pos - distance]);
            }
            place += UNITS as usize;
        }
        let total = sum_of_cube(&mut shared, sum);
        if UNIT_POS_X == 0 {
            d_bias[CUBE_POS] = total * over_scale;
        }
    }
}

/// The gradient by a bias `[members * head, distance]`, from that by the scores before they were scaled.
pub(crate) fn bias_backward<R: CubeRuntime>(
    d_scores: &CubeTensor<R>,
    bias: &CubeTensor<R>,
    rule: &Rule<'_, R>,
) -> CubeTensor<R> {
    let Shape { n_heads, n_queries, n_keys, .. } = rule.shape;
    let [n_biases, n_distances] = [bias.meta.shape()[0], bias.meta.shape()[1]];
    let d_bias = room(bias, [n_biases, n_distances], DType::F32);
    let launch = match d_scores.dtype {
        DType::BF16 => bias_kernel::launch::<half::bf16, R>,
        _ => bias_kernel::launch::<f32, R>,
    };
    launch(
        &d_scores.client,
        cubes(n_biases * n_distances),
        row_dim(),
        d_scores.clone().into_array_arg(),
        rule.query_pos.unwrap_or(bias).clone().into_array_arg(),
        d_bias.clone().into_array_arg(),
        rule.scale.recip(),
        rule.shape.per_member(Some(bias)) as u32,
        n_heads as u32,
        n_queries as u32,
        n_keys as u32,
        n_distances as u32,
        rule.query_pos.is_some(),
    );
    d_bias
}

#[cube(launch)]
fn stats_kernel(
    stats: &Array<f32>,
    index: &Array<i32>,
    x: &mut Array<f32>,
    width: u32,
    n_heads: u32,
    n_there: u32,
    n_queries: u32,
    n_written: u32,
    #[comptime] indexed: bool,
) {
    let i = ABSOLUTE_POS;
    if i < n_written as usize {
        let n_heads = n_heads as usize;
        let n_queries = n_queries as usize;
        let row = i / (3 * n_heads);
        let which = (i % (3 * n_heads)) / n_heads;
        let head = i % n_heads;
        let place = place_of(row, index, n_there as usize, n_queries, indexed);
        let from = ((place / n_queries) * n_heads + head) * n_queries + place % n_queries;
        let at = row * width as usize + width as usize - 3 * n_heads + which * n_heads + head;
        x[at] = stats[from * N_STATS + which];
    }
}

/// Statistics `[batch, head, query, 4]` into the last `3 n_heads` columns of `x: [n_written, width]`.
pub(crate) fn stats_into<R: CubeRuntime>(
    stats: &CubeTensor<R>,
    index: Option<&CubeTensor<R>>,
    x: &CubeTensor<R>,
    [n_written, width]: [usize; 2],
    n_there: usize,
    shape: Shape,
) {
    let n = n_written * 3 * shape.n_heads;
    let (count, dim) = one_each(n);
    stats_kernel::launch::<R>(
        &x.client,
        count,
        dim,
        stats.clone().into_array_arg(),
        index.unwrap_or(x).clone().into_array_arg(),
        x.clone().into_array_arg(),
        width as u32,
        shape.n_heads as u32,
        n_there as u32,
        shape.n_queries as u32,
        n as u32,
        index.is_some(),
    );
}
