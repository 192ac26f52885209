//! Who may write: at most one writer a run, and none for ever.
//!
//! The lock is the operating system's own on the file `lock`. It ends with the process that holds
//! it, however that ends, so no lock can be left behind by a crash, and the file itself means
//! nothing. Asking whether a run is being written takes a shared lock for an instant; so that this
//! never makes a writer believe the run is in use, both pass a gate that belongs to the store.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read;
use std::path::Path;

use crate::error::{Cause, Error};
use crate::files;
use crate::format::{GATE, LOCK};

/// The right to write one run, for as long as it lives.
#[derive(Debug)]
pub(crate) struct RunLock {
    _file: File,
}

impl RunLock {
    /// Takes the lock of the run in `dir`, or says who has it.
    pub(crate) fn take(dir: &Path, id: &str) -> Result<Self, Error> {
        let refused = |path: &Path, source| Cause::Lock { path: path.to_owned(), source };
        let gate_path = gate_path(dir);
        let gate = open(&gate_path).map_err(|source| Error::writing(&gate_path, source))?;
        gate.lock().map_err(|source| refused(&gate_path, source))?;

        let path = dir.join(LOCK);
        let mut file = open(&path).map_err(|source| Error::writing(&path, source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let holder = match file.read_to_string(&mut text) {
                    Ok(_) if !text.is_empty() => format!("process {}", text.trim_end()),
                    _ => "another process".to_owned(),
                };
                return Err(Cause::Locked { id: id.to_owned(), holder }.into());
            }
            Err(TryLockError::Error(source)) => return Err(refused(&path, source).into()),
        }
        // The number is for the message above only, so a full disk does not matter here.
        if file.set_len(0).is_ok() {
            files::write_all(&mut file, format!("{}\n", std::process::id()).as_bytes()).ok();
        }
        Ok(Self { _file: file })
    }

    /// Whether some writer holds the run in `dir` at this moment.
    ///
    /// A store without locks (or without the right to ask) has no writer we could know of.
    pub(crate) fn is_held(dir: &Path) -> bool {
        // A store that we may only read has perhaps no gate; then there is no writer to disturb.
        let gate = File::open(gate_path(dir)).ok();
        if let Some(gate) = &gate {
            gate.lock_shared().ok();
        }
        // Opened inside the gate, so that it is closed, and with it the lock let go, before the
        // gate is: the other way round a writer could pass the gate and still meet our lock.
        let Ok(file) = File::open(dir.join(LOCK)) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}

fn gate_path(dir: &Path) -> std::path::PathBuf {
    dir.parent().unwrap_or(dir).join(GATE)
}

/// Opens a lock file without emptying it: it may be another's.
pub(crate) fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    /// A reader in the middle of asking: it holds the gate and, for an instant, the lock.
    #[test]
    fn a_writer_waits_for_a_reader_that_is_asking() {
        let store = tempfile::tempdir().unwrap();
        let dir = store.path().join("3f9c");
        std::fs::create_dir(&dir).unwrap();
        drop(RunLock::take(&dir, "3f9c").unwrap());
        let gate = open(&gate_path(&dir)).unwrap();
        gate.lock_shared().unwrap();
        let file = File::open(dir.join(LOCK)).unwrap();
        file.try_lock_shared().unwrap();
        let barrier = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                barrier.wait();
                RunLock::take(&dir, "3f9c").map(drop).map_err(|error| error.kind())
            });
            barrier.wait();
            // Time enough for a writer that does not wait to fail; one that waits is still there.
            (0..200).for_each(|_| std::thread::yield_now());
            drop((file, gate));
            assert_eq!(writer.join().unwrap(), Ok(()));
        });
    }

    /// Readers that never cease to ask: whatever the moment, a writer gets a free run.
    #[test]
    fn a_reader_lets_go_of_the_run_before_the_gate() {
        let store = tempfile::tempdir().unwrap();
        let dir = store.path().join("3f9c");
        std::fs::create_dir(&dir).unwrap();
        drop(RunLock::take(&dir, "3f9c").unwrap());
        let done = std::sync::atomic::AtomicBool::new(false);
        let refused = std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        RunLock::is_held(&dir);
                    }
                });
            }
            // Nothing may panic before `done`, or the readers would go on for ever.
            let refused = (0..100).filter(|_| RunLock::take(&dir, "3f9c").is_err()).count();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            refused
        });
        assert_eq!(refused, 0);
    }

    #[test]
    fn a_lock_is_seen_exactly_while_it_is_held() {
        let store = tempfile::tempdir().unwrap();
        let dir = store.path().join("3f9c");
        std::fs::create_dir(&dir).unwrap();
        assert!(!RunLock::is_held(&dir));
        let lock = RunLock::take(&dir, "3f9c").unwrap();
        assert!(RunLock::is_held(&dir));
        assert_eq!(RunLock::take(&dir, "3f9c").unwrap_err().kind(), ErrorKind::Locked);
        drop(lock);
        assert!(!RunLock::is_held(&dir));
    }
}
