//! Time, handed in: a record is made of what a clock said, never of what a function felt like asking.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Where a run reads the time; the science never depends on what it says.
///
/// # Example
///
/// ```
/// use mnemoscope_lab::clock::{Clock, StoppedClock};
///
/// // A stopped clock makes two records of one plan equal to the byte.
/// let clock = StoppedClock { unix_secs: 1_700_000_000 };
/// assert_eq!(clock.unix_secs(), 1_700_000_000);
/// assert_eq!(clock.elapsed_secs().total_cmp(&0.0), std::cmp::Ordering::Equal);
/// ```
pub trait Clock: Sync {
    /// Whole seconds since 1970-01-01T00:00:00Z.
    fn unix_secs(&self) -> u64;

    /// Seconds since some fixed moment; it only ever grows.
    fn elapsed_secs(&self) -> f64;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

static STARTED: OnceLock<Instant> = OnceLock::new();

#[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else is handed")]
impl Clock for SystemClock {
    fn unix_secs(&self) -> u64 {
        // A machine whose clock stands before 1970 says 0 rather than stopping a run.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    fn elapsed_secs(&self) -> f64 {
        STARTED.get_or_init(Instant::now).elapsed().as_secs_f64()
    }
}

/// A clock that stands still, for records that must be equal to the byte.
#[derive(Clone, Copy, Debug)]
pub struct StoppedClock {
    /// What it says, in seconds since 1970.
    pub unix_secs: u64,
}

impl Clock for StoppedClock {
    fn unix_secs(&self) -> u64 {
        self.unix_secs
    }

    fn elapsed_secs(&self) -> f64 {
        0.0
    }
}
