//! The allocator of a program that trains, and what it does with memory that was freed.

#![expect(unsafe_code, reason = "one call into the allocator's own library")]

/// The allocator that a program declares as its `#[global_allocator]`.
///
/// # Example
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: mnemoscope_engine::memory::Allocator = mnemoscope_engine::memory::Allocator;
///
/// mnemoscope_engine::memory::keep_freed();
/// assert_eq!(vec![0.0_f32; 1 << 20].len(), 1 << 20);
/// ```
pub use mimalloc::MiMalloc as Allocator;

/// Makes the [`Allocator`] keep what is freed instead of giving it back to the operating system.
///
/// A training step frees and allocates the same large buffers again and again. Given back in between,
/// every page of them is mapped and cleared anew: a third of a step of the 19M-parameter baseline. The
/// price is that a program keeps its largest size to its end. Without the [`Allocator`] this does
/// nothing.
pub fn keep_freed() {
    /// `mi_option_purge_delay`, whose number is the same in the allocator's second and third series.
    const PURGE_DELAY: i32 = 15;
    const NEVER: std::ffi::c_long = -1;
    // SAFETY: the option exists, and setting it is defined at any time from any thread.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, NEVER) }
}
