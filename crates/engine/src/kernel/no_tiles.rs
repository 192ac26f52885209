//! [`super`]`::tiles` where processors have none.

use super::gemm::{Lhs, Start};

pub(super) const DEPTH: usize = 32;
pub(super) const BLOCK_LEN: usize = 256;

/// There are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pieces {}

impl Pieces {
    pub(crate) fn here() -> Option<Self> {
        None
    }

    pub(super) fn n(self) -> usize {
        match self {}
    }
}

pub(crate) fn available() -> bool {
    false
}

#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) data: &'a [f32],
    pub(super) line_stride: usize,
    pub(super) k_stride: usize,
    pub(super) n_lines: usize,
    pub(super) k: usize,
}

pub(super) struct Blocks(Pieces);

impl std::ops::Deref for Blocks {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self.0 {}
    }
}

impl Blocks {
    pub(super) fn new(_: Side<'_>, _: usize, _: bool, pieces: Pieces) -> Self {
        Self(pieces)
    }

    pub(super) fn place_stride(&self) -> usize {
        match self.0 {}
    }
}

#[derive(Clone, Copy)]
pub(super) struct Right<'a> {
    pub(super) blocks: &'a [f32],
    pub(super) place_stride: usize,
    pub(super) lead: usize,
    pub(super) pieces: Pieces,
    pub(super) k: usize,
    pub(super) n: usize,
}

pub(super) fn matmul(
    _: Lhs<'_>,
    _: usize,
    right: Right<'_>,
    _: Start<'_>,
    _: &mut [f32],
    _: usize,
) {
    match right.pieces {}
}
