//! Models that train side by side: their parameters and examples one behind another along the first axis.
//!
//! A *cohort* has several *members* of one shape, each with numbers and examples of its own. A matrix
//! `[d_in, d_out]` of each becomes one of `[members * d_in, d_out]`, a gain `[d]` one of `[members * d]`, and rows
//! `[rows, d]` become `[members * rows, d]`, equally many of each. No number of one member ever meets one of another,
//! so a device does with one launch what it did with one a member. The operations that know parameters see from the
//! shapes how many members there are.
//!
//! A backend with [`Ops::COHORTS`](crate::Ops::COHORTS) does so in its kernels. For the others the functions here take
//! a cohort apart and do one member after the other, which is of no use but for tests: on the CPU a run alone is as fast.

use burn::tensor::{Int, Tensor, backend::Backend};

use crate::{Ops, QueryRows};

/// How many members there are, if each has `n_each` of `n`.
///
/// # Panics
///
/// If it does not come out even, naming `what` does not fit.
#[track_caller]
pub(crate) fn members(what: &str, n: usize, n_each: usize) -> usize {
    assert!(
        n_each > 0 && n >= n_each && n.is_multiple_of(n_each),
        "{what}: {n} is no multiple of {n_each}"
    );
    n / n_each
}

/// What belongs to one of `n_members`.
#[track_caller]
pub(crate) fn part<B: Backend, const D: usize>(
    x: &Tensor<B, D>,
    n_members: usize,
    member: usize,
) -> Tensor<B, D> {
    let n_each = x.dims()[0] / n_members;
    x.clone().narrow(0, member * n_each, n_each)
}

/// What each of `n_members` gives, one behind another.
pub(crate) fn each<B: Backend, const D: usize>(
    n_members: usize,
    of: impl Fn(usize) -> Tensor<B, D>,
) -> Tensor<B, D> {
    Tensor::cat((0..n_members).map(of).collect(), 0)
}

/// The places of one member's examples, `n_each` of them, counted from its first.
pub(crate) fn rows_of(rows: &QueryRows, n_each: usize, member: usize) -> QueryRows {
    let first = (member * n_each) as u32;
    let mine = first..first + n_each as u32;
    let places = rows.places().filter(|(example, _)| mine.contains(example));
    QueryRows::new(rows.seq_len(), places.map(|(example, pos)| (example - first, pos)).collect())
}

/// Each member's tokens looked up in its table, one member after the other.
pub(crate) fn embed_each<B: Ops>(
    table: &Tensor<B, 2>,
    tokens: &Tensor<B, 2, Int>,
    n_members: usize,
) -> Tensor<B, 3> {
    let n_each = members("tokens", tokens.dims()[0], n_members);
    each(n_members, |member| {
        let tokens = tokens.clone().narrow(0, member * n_each, n_each);
        <B as Ops>::embed(part(table, n_members, member), tokens)
    })
}
