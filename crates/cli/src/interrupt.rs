//! Ctrl-C: the first asks the run to save its state and stop, the second aborts at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::exit::Exit;
use crate::failure::Failure;

/// Whether somebody asked to stop. Clones share the answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    asked: Arc<AtomicBool>,
    /// Set once there is a handler: a process may have only one.
    listens: Arc<OnceLock<()>>,
}

impl Interrupt {
    /// Begins to listen for Ctrl-C and for the request to terminate (a cluster sends it).
    ///
    /// Only long work listens: a short verb is ended by the system as usual. It may listen anew for each of
    /// its parts.
    pub(crate) fn listen(&self) -> Result<(), Failure> {
        if self.listens.set(()).is_err() {
            return Ok(());
        }
        let asked = Arc::clone(&self.asked);
        ctrlc::set_handler(move || {
            if asked.swap(true, Ordering::SeqCst) {
                // Records are written atomically, so an abort loses only what was not yet saved.
                std::process::exit(i32::from(Exit::Interrupted.code()));
            }
        })
        .map_err(|refusal| Failure::machine("cannot listen for Ctrl-C").because(&refusal))
    }

    /// Asks, as Ctrl-C does.
    #[cfg(test)]
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
    }

    /// Whether somebody asked to stop.
    pub(crate) fn asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }
}
