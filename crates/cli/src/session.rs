//! What every verb works with: the store, the threads, the voice, and whether to stop.

use std::io;
use std::path::{Path, PathBuf};

use mnemoscope_lab::clock::SystemClock;
use mnemoscope_lab::engine::device::Device;
use mnemoscope_store::Store;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::progress::Watch;
use crate::voice::{Spoken, Voice};

/// The resolved flags of every verb.
pub(crate) struct Session {
    /// Where records lie.
    pub(crate) store_root: PathBuf,
    /// Threads to work with.
    pub(crate) n_threads: usize,
    /// Where models are computed.
    pub(crate) device: Device,
    /// Who speaks.
    pub(crate) voice: Box<dyn Voice>,
    /// Whether somebody asked to stop.
    pub(crate) interrupt: Interrupt,
    /// The machine's own clock.
    pub(crate) clock: SystemClock,
}

impl Session {
    /// Resolves what the flags leave open: the environment's store, else `./runs`.
    pub(crate) fn new(
        store_root: Option<PathBuf>,
        n_threads: usize,
        device: Device,
        voice: Box<dyn Voice>,
    ) -> Self {
        Self {
            store_root: store_root.unwrap_or_else(|| PathBuf::from("./runs")),
            n_threads,
            device,
            voice,
            interrupt: Interrupt::default(),
            clock: SystemClock,
        }
    }

    /// The store for writing; made if there is none.
    pub(crate) fn store_for_writing(&self) -> Result<Store, Failure> {
        Ok(Store::open(&self.store_root)?)
    }

    /// The store for reading; it may be one that we must not write.
    pub(crate) fn store(&self) -> Result<Store, Failure> {
        Store::open_existing(&self.store_root).map_err(|error| {
            Failure::from(error).help("`mnemoscope demo` and `mnemoscope run FILE` make a store")
        })
    }

    /// The store's place, as people typed it.
    pub(crate) fn store_name(&self) -> String {
        self.store_root.display().to_string()
    }

    /// Progress as this session shows it, and the ear for Ctrl-C.
    pub(crate) fn watch(&self) -> Result<Watch, Failure> {
        self.interrupt.listen()?;
        Ok(Watch::new(self.voice.shows_progress(), self.interrupt.clone(), self.clock))
    }

    /// Progress alone, for work that has no state to save.
    pub(crate) fn watch_only(&self) -> Watch {
        Watch::new(self.voice.shows_progress(), self.interrupt.clone(), self.clock)
    }

    /// Says the answer; the verb ends with `exit`.
    pub(crate) fn say(&mut self, answer: &dyn Spoken, exit: Exit) -> Result<Exit, Failure> {
        self.voice.say(answer).map_err(|refusal| unwritable(&refusal))?;
        Ok(exit)
    }
}

/// Standard output that cannot be written.
pub(crate) fn unwritable(refusal: &io::Error) -> Failure {
    Failure::machine("cannot write to standard output").because(refusal)
}

/// The text of a file that a person named.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    std::fs::read(path).map_err(|refusal| refused(path, &refusal)).and_then(|bytes| {
        String::from_utf8(bytes).map_err(|why| {
            let place = why.utf8_error().valid_up_to();
            Failure::usage(format!("{} is not text: byte {place} is not UTF-8", path.display()))
        })
    })
}

/// A named file that cannot be read: a wrong name is the person's, the rest the machine's.
fn refused(path: &Path, refusal: &io::Error) -> Failure {
    let message = format!("cannot read {}", path.display());
    let by_name =
        [io::ErrorKind::NotFound, io::ErrorKind::IsADirectory, io::ErrorKind::NotADirectory];
    if by_name.contains(&refusal.kind()) {
        Failure::usage(message).because(refusal)
    } else {
        Failure::machine(message).because(refusal)
    }
}
