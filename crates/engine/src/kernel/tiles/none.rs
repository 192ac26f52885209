//! Processors without tiles. Nobody makes [`Pieces`](super::Pieces) there.

use super::{Side, Square};

pub(crate) fn available() -> bool {
    false
}

pub(super) unsafe fn fill(_: Side<'_>, _: usize, _: usize, _: usize, _: bool, _: &mut [f32]) {
    unreachable!("this processor has no tiles")
}

impl Square<'_> {
    pub(super) unsafe fn run(&self, _: *const f32, _: usize, _: *mut f32, _: usize) {
        unreachable!("this processor has no tiles")
    }
}

pub(super) struct Configured;

impl Configured {
    pub(super) fn new() -> Self {
        Self
    }
}
