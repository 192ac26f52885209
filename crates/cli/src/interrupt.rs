//! Ctrl-C: the first asks the run to save its state and stop, the second aborts at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::exit::Exit;
use crate::failure::Failure;

/// Whether somebody asked to stop. Clones share the answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Begins to listen for Ctrl-C and for the request to terminate (a cluster sends it).
    ///
    /// Only long work listens: a short verb is ended by the system as usual.
    pub(crate) fn listen(&self) -> Result<(), Failure> {
        let asked = Arc::clone(&self.0);
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
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether somebody asked to stop.
    pub(crate) fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
