//! How much there is to do, and how long the rest will take at the pace so far.

/// Arithmetic of plans as a measure of time: what is done, and since when.
///
/// # Example
///
/// ```
/// use mnemoscope_lab::sweep::Work;
///
/// let mut work = Work::of(8.0, 100.0);
/// assert_eq!(work.remaining_secs(100.0), None);
/// work.done = 2.0;
/// assert_eq!(work.remaining_secs(110.0), Some(30.0));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Multiplications and additions in all, without what was done before.
    pub total: f64,
    /// How many of them are done.
    pub done: f64,
    began_secs: f64,
}

impl Work {
    /// Work that begins now.
    #[must_use]
    pub fn of(total: f64, now_secs: f64) -> Self {
        Self { total, done: 0.0, began_secs: now_secs }
    }

    /// The time that the rest takes if it goes on as it went; `None` before anything is done and afterwards.
    #[must_use]
    pub fn remaining_secs(&self, now_secs: f64) -> Option<f64> {
        let secs = now_secs - self.began_secs;
        let left = self.total - self.done;
        (self.done > 0.0 && left > 0.0 && secs > 0.0).then(|| secs * left / self.done)
    }
}
