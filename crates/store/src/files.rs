//! Files that are there whole or not at all, also after a crash.
//!
//! Every change to the disk goes through this module, so that a test can end the disk at any
//! point (`fault`).

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use crate::error::Error;
use crate::format::TEMP;

/// Writes `bytes` to `path` so that a reader, now or after a crash, sees all of them or the file
/// that was there before: temporary file, fsync, rename, fsync of the directory.
///
/// The caller holds the lock of the run, so one temporary name is enough.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temp = temp_path(path);
    let written = write_synced(&temp, bytes).and_then(|()| {
        step()?;
        fs::rename(&temp, path)
    });
    if let Err(source) = written {
        // What was there before is untouched; the half-written file would only fill the disk.
        if step().is_ok() {
            fs::remove_file(&temp).ok();
        }
        return Err(Error::writing(path, source));
    }
    path.parent().map_or(Ok(()), sync_dir)
}

fn temp_path(path: &Path) -> std::path::PathBuf {
    let mut temp = path.as_os_str().to_owned();
    temp.push(TEMP);
    temp.into()
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    step()?;
    let mut file = File::create(path)?;
    write_all(&mut file, bytes)?;
    file.sync_all()
}

/// `file.write_all(bytes)`, except that a test can stop it half-way.
pub(crate) fn write_all(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    #[cfg(test)]
    if let Some(n_bytes) = fault::cut(bytes.len()) {
        file.write_all(&bytes[..n_bytes])?;
        return Err(fault::failure());
    }
    file.write_all(bytes)
}

/// `file.set_len(n_bytes)` on the disk.
pub(crate) fn set_len(file: &File, n_bytes: u64) -> io::Result<()> {
    step()?;
    file.set_len(n_bytes)?;
    file.sync_all()
}

/// Makes the names in a directory survive a power failure.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    // Only Unix lets a directory be opened and synced; elsewhere the rename is the best there is.
    if cfg!(unix) {
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|source| Error::writing(dir, source))?;
    }
    Ok(())
}

/// Makes `dir` exist, together with its name in the directory above.
pub(crate) fn create_dir(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    step().and_then(|()| fs::create_dir_all(dir)).map_err(|source| Error::writing(dir, source))?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => Ok(()),
    }
}

/// Removes a file; that it is gone already is what was wanted.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match step().and_then(|()| fs::remove_file(path)) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(Error::writing(path, source)),
        _ => Ok(()),
    }
}

/// The bytes of a file, or `None` if there is none.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(source) if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(source) => Err(Error::reading(path, source)),
    }
}

/// The names in a directory, sorted, without those that are being written; none if there is no
/// such directory.
pub(crate) fn names_in(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::reading(dir, source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| Error::reading(dir, source))?;
        if let Ok(name) = entry.file_name().into_string()
            && !name.ends_with(TEMP)
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// One change to the disk other than the bytes of a file.
fn step() -> io::Result<()> {
    #[cfg(test)]
    if fault::cut(1).is_some() {
        return Err(fault::failure());
    }
    Ok(())
}

/// A disk that ends: for tests of what is left behind.
#[cfg(test)]
pub(crate) mod fault {
    use std::cell::Cell;
    use std::io;

    /// What happens when the budget is spent.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Fault {
        /// The write that crosses the limit fails, as on a full disk; smaller changes go on.
        Full,
        /// The change that crosses the limit fails half-way, as on a disk with a bad place; all others work.
        Refused,
        /// Nothing works any more, as if the process had been killed there.
        Dead,
    }

    thread_local! {
        static BUDGET: Cell<Option<(u64, Fault)>> = const { Cell::new(None) };
        static SPENT: Cell<u64> = const { Cell::new(0) };
    }

    /// Runs `work` on a disk that takes `budget` units more: a unit is a byte of a file, or one
    /// other change.
    pub(crate) fn with<T>(budget: u64, fault: Fault, work: impl FnOnce() -> T) -> T {
        BUDGET.set(Some((budget, fault)));
        let value = work();
        BUDGET.set(None);
        value
    }

    /// How many units `work` takes.
    pub(crate) fn cost(work: impl FnOnce()) -> u64 {
        SPENT.set(0);
        work();
        SPENT.get()
    }

    /// Spends `n_units`; if they are not there, how many are.
    pub(super) fn cut(n_units: usize) -> Option<usize> {
        SPENT.set(SPENT.get() + n_units as u64);
        let (left, fault) = BUDGET.get()?;
        if n_units as u64 <= left {
            BUDGET.set(Some((left - n_units as u64, fault)));
            return None;
        }
        // On a full disk a rename or a truncation still works: it needs no new block.
        if fault == Fault::Full && n_units == 1 {
            return None;
        }
        BUDGET.set(Some((if fault == Fault::Refused { u64::MAX } else { 0 }, fault)));
        Some(usize::try_from(left).unwrap())
    }

    pub(super) fn failure() -> io::Error {
        match BUDGET.get() {
            Some((_, Fault::Full)) => io::ErrorKind::StorageFull.into(),
            // EIO
            Some((_, Fault::Refused)) => io::Error::from_raw_os_error(5),
            _ => io::Error::other("killed here"),
        }
    }
}
