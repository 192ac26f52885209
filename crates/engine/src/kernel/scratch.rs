//! Room that a kernel works in and gives back.
//!
//! A task of a kernel wants the same few buffers as the task before it. To ask the allocator for zeros
//! each time is to write each of them twice, so every thread keeps what it had. What stands in a buffer is
//! what the last one left there: whoever takes it writes before reading, and tests find NaN in it.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Buffers that a thread keeps, at most; tasks hold fewer at once.
const MAX_KEPT: usize = 16;

/// Numbers of the largest buffer that is kept, 4 MiB of them.
const MAX_LEN: usize = 1 << 20;

thread_local! {
    static KEPT: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Numbers of no meaning, to be written.
#[derive(Debug)]
pub(crate) struct Scratch {
    room: Vec<f32>,
    len: usize,
}

impl Scratch {
    /// The smallest buffer that this thread keeps and that is large enough, or a new one.
    pub(crate) fn new(len: usize) -> Self {
        let kept = KEPT.with_borrow_mut(|kept| {
            let fits = kept.iter().enumerate().filter(|(_, room)| room.len() >= len);
            let best = fits.min_by_key(|(_, room)| room.len()).map(|(at, _)| at);
            best.map(|at| kept.swap_remove(at))
        });
        let mut scratch = Self { room: kept.unwrap_or_else(|| vec![0.0; len]), len };
        if cfg!(debug_assertions) {
            scratch.fill(f32::NAN);
        }
        scratch
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.room[..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.room[..self.len]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let room = std::mem::take(&mut self.room);
        if room.is_empty() || room.len() > MAX_LEN {
            return;
        }
        // At the end of a thread there is nothing left to keep it in.
        let _ended = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            kept.push(room);
            if kept.len() > MAX_KEPT {
                let smallest = kept.iter().enumerate().min_by_key(|(_, room)| room.len());
                let at = smallest.map_or(0, |(at, _)| at);
                kept.swap_remove(at);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(scratch: &Scratch) -> usize {
        scratch.as_ptr().addr()
    }

    #[test]
    fn a_buffer_is_given_again_and_never_twice_at_once() {
        let first = Scratch::new(100);
        let at = address(&first);
        let other = Scratch::new(100);
        assert_ne!(address(&other), at);
        drop(first);
        let smaller = Scratch::new(40);
        assert_eq!((address(&smaller), smaller.len()), (at, 40));
    }

    #[test]
    fn of_the_buffers_that_fit_the_smallest_is_given() {
        let (small, large) = (Scratch::new(1000), Scratch::new(2000));
        let at = [address(&small), address(&large)];
        drop((large, small));
        let again = [address(&Scratch::new(900)), address(&Scratch::new(1500))];
        assert_eq!(again, at);
    }

    #[test]
    fn what_was_left_is_not_mistaken_for_zeros() {
        Scratch::new(10).fill(3.0);
        let left = if cfg!(debug_assertions) { f32::NAN } else { 3.0 };
        assert!(Scratch::new(10).iter().all(|x| x.total_cmp(&left).is_eq()));
    }

    #[test]
    fn few_buffers_are_kept_and_none_that_is_huge() {
        let many: Vec<Scratch> = (1..40).map(Scratch::new).collect();
        drop(many);
        drop(Scratch::new(MAX_LEN + 1));
        let (n, longest) =
            KEPT.with_borrow(|kept| (kept.len(), kept.iter().map(Vec::len).max().unwrap()));
        assert!(n <= MAX_KEPT && longest <= MAX_LEN, "{n} buffers, one of {longest}");
    }
}
