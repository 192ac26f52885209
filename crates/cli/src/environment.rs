//! The environment, read once: it can move the store or limit threads, and change no number.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::failure::Failure;

/// What the environment says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// `MNEMOSCOPE_STORE`: where records lie.
    pub(crate) store: Option<PathBuf>,
    /// `MNEMOSCOPE_THREADS`: threads to work with.
    threads: Option<OsString>,
}

impl Environment {
    /// Reads it. A variable that is set and empty counts as unset.
    pub(crate) fn read() -> Self {
        let read = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            store: read("MNEMOSCOPE_STORE").map(PathBuf::from),
            threads: read("MNEMOSCOPE_THREADS"),
        }
    }

    /// The threads it asks for, else one for each core.
    pub(crate) fn n_threads(&self) -> Result<usize, Failure> {
        let Some(asked) = &self.threads else {
            // A system that does not say how many cores there are gets one thread.
            return Ok(std::thread::available_parallelism().map_or(1, usize::from));
        };
        let number = asked.to_str().and_then(|asked| asked.parse::<u16>().ok()).filter(|&n| n > 0);
        number.map(usize::from).ok_or_else(|| {
            Failure::usage(format!(
                "MNEMOSCOPE_THREADS is {asked:?}; use a whole number from 1 to 65535"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_a_positive_number_or_a_complaint() {
        let asking =
            |threads: &str| Environment { threads: Some(threads.into()), ..Environment::default() };
        assert_eq!(asking("3").n_threads().unwrap(), 3);
        assert!(Environment::default().n_threads().unwrap() >= 1);
        for wrong in ["0", "-1", "two", "1.5", "99999"] {
            let failure = asking(wrong).n_threads().unwrap_err();
            assert_eq!(
                failure.message,
                format!("MNEMOSCOPE_THREADS is {wrong:?}; use a whole number from 1 to 65535")
            );
        }
    }
}
