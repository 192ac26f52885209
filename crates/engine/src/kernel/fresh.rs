//! Numbers that a kernel is about to write.

#![expect(unsafe_code, reason = "memory that is handed out before it was ever written")]

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

/// The numbers of a result, each chunk of which is cleared, or written without that, by the thread whose
/// it is.
///
/// `vec![0.0; n]` clears all of a large result on one thread, and it has left the cache when the
/// kernel comes to it.
#[derive(Debug)]
pub(crate) struct Fresh {
    room: Vec<MaybeUninit<f32>>,
    n_handed_out: AtomicUsize,
}

impl Fresh {
    pub(crate) fn new(len: usize) -> Self {
        let mut room = Vec::with_capacity(len);
        // SAFETY: the capacity is there, and `MaybeUninit` asks for nothing to be written.
        unsafe { room.set_len(len) };
        if cfg!(debug_assertions) {
            // What a kernel forgets to write is to be seen.
            room.fill(MaybeUninit::new(f32::NAN));
        }
        Self { room, n_handed_out: AtomicUsize::new(0) }
    }

    /// Chunks of `len` numbers and one with the rest, to be cleared or written by whoever reaches them.
    pub(crate) fn par_chunks(
        &mut self,
        len: usize,
    ) -> impl IndexedParallelIterator<Item = Chunk<'_>> {
        *self.n_handed_out.get_mut() = 0;
        let n_handed_out = &self.n_handed_out;
        self.room.par_chunks_mut(len.max(1)).map(|room| Chunk { room, n_handed_out })
    }

    /// The same chunks, each cleared when it is reached.
    pub(crate) fn par_chunks_mut(
        &mut self,
        len: usize,
    ) -> impl IndexedParallelIterator<Item = &mut [f32]> {
        self.par_chunks(len).map(Chunk::cleared)
    }

    /// Chunks of these lengths behind each other, to be cleared by whoever writes them.
    pub(crate) fn cut(
        &mut self,
        lens: impl Iterator<Item = usize>,
    ) -> impl Iterator<Item = Chunk<'_>> {
        *self.n_handed_out.get_mut() = 0;
        let (n_handed_out, mut rest) = (&self.n_handed_out, &mut self.room[..]);
        lens.map(move |len| {
            let (room, behind) = std::mem::take(&mut rest).split_at_mut(len);
            rest = behind;
            Chunk { room, n_handed_out }
        })
    }

    /// The numbers.
    ///
    /// # Panics
    ///
    /// If some chunk was never reached.
    #[track_caller]
    pub(crate) fn finish(self) -> Vec<f32> {
        let (n, len) = (self.n_handed_out.into_inner(), self.room.len());
        assert_eq!(n, len, "only some of the numbers were handed out");
        let mut room = std::mem::ManuallyDrop::new(self.room);
        // SAFETY: every number was written before it was handed out; the parts are a vector's, and
        // `f32` has the layout of `MaybeUninit<f32>`.
        unsafe { Vec::from_raw_parts(room.as_mut_ptr().cast(), len, room.capacity()) }
    }
}

/// Some of the numbers, before they are cleared or written.
#[derive(Debug)]
pub(crate) struct Chunk<'a> {
    room: &'a mut [MaybeUninit<f32>],
    n_handed_out: &'a AtomicUsize,
}

impl<'a> Chunk<'a> {
    pub(crate) fn len(&self) -> usize {
        self.room.len()
    }

    pub(crate) fn cleared(self) -> &'a mut [f32] {
        // SAFETY: every number is written.
        unsafe { self.written(|room| room.fill(MaybeUninit::new(0.0))) }
    }

    /// As `write` leaves it.
    ///
    /// # Safety
    ///
    /// `write` must write every number.
    pub(crate) unsafe fn written(
        self,
        write: impl FnOnce(&mut [MaybeUninit<f32>]),
    ) -> &'a mut [f32] {
        write(self.room);
        self.n_handed_out.fetch_add(self.room.len(), Ordering::Relaxed);
        // SAFETY: the caller promises that every number was just written.
        unsafe { &mut *(std::ptr::from_mut(self.room) as *mut [f32]) }
    }

    /// To be written once, from its beginning on.
    pub(crate) fn writer(self) -> Writer<'a> {
        Writer { room: self.room, n_handed_out: self.n_handed_out }
    }
}

/// Some of the numbers, as they are written one after the other. They need not be cleared before.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    room: &'a mut [MaybeUninit<f32>],
    n_handed_out: &'a AtomicUsize,
}

impl Writer<'_> {
    /// The next numbers.
    ///
    /// # Panics
    ///
    /// If there are more of them than room.
    #[track_caller]
    pub(crate) fn push(&mut self, numbers: &[f32]) {
        let (next, rest) = std::mem::take(&mut self.room).split_at_mut(numbers.len());
        next.write_copy_of_slice(numbers);
        self.n_handed_out.fetch_add(numbers.len(), Ordering::Relaxed);
        self.room = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_piece_by_piece_is_there_and_half_of_it_is_not_enough() {
        let mut fresh = Fresh::new(5);
        for (chunk, pieces) in fresh.cut([2, 3].into_iter()).zip([[1.0, 2.0], [3.0, 4.0]]) {
            let mut writer = chunk.writer();
            pieces.iter().for_each(|&piece| writer.push(&[piece]));
        }
        let stopped = std::panic::catch_unwind(|| fresh.finish()).unwrap_err();
        let words = stopped.downcast_ref::<String>().unwrap();
        assert!(words.contains("only some of the numbers were handed out"), "{words}");
        let mut fresh = Fresh::new(3);
        fresh.cut([3].into_iter()).for_each(|chunk| chunk.writer().push(&[1.0, 2.0, 3.0]));
        assert_eq!(fresh.finish(), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn chunks_are_zeros_and_keep_what_is_written() {
        let mut fresh = Fresh::new(10);
        fresh.par_chunks_mut(4).enumerate().for_each(|(i, chunk)| {
            assert_eq!(chunk, vec![0.0; chunk.len()]);
            chunk[0] = i as f32;
        });
        assert_eq!(fresh.finish(), [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 2.0, 0.0]);
        let mut fresh = Fresh::new(3);
        fresh.cut([2, 0, 1].into_iter()).for_each(|chunk| chunk.cleared().fill(5.0));
        assert_eq!(fresh.finish(), [5.0; 3]);
        assert!(Fresh::new(0).finish().is_empty());
    }

    #[test]
    fn what_was_never_written_is_never_read() {
        let mut fresh = Fresh::new(10);
        fresh.par_chunks_mut(4).take(2).for_each(|_| ());
        let stopped = std::panic::catch_unwind(|| fresh.finish()).unwrap_err();
        let words = stopped.downcast_ref::<String>().unwrap();
        assert!(words.contains("only some of the numbers were handed out"), "{words}");
    }
}
