//! A file that appears under its name when it is whole, or not at all.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use crate::error::{Cause, Error};

/// A file under a temporary name beside its target; dropped before [`Staged::publish`], it is
/// removed.
pub(super) struct Staged {
    target: PathBuf,
    temporary: PathBuf,
    published: bool,
}

impl Staged {
    /// Creates the temporary file in the folder of `target`, so that renaming it is atomic.
    pub(super) fn create(target: &Path) -> Result<(Self, File), Error> {
        let name = match target.file_name() {
            Some(name) if !target.is_dir() => name.to_string_lossy().into_owned(),
            _ => return Err(Cause::NoFileName { path: target.to_owned() }.into()),
        };
        let folder = folder_of(target);
        let mut attempt = 0_u32;
        loop {
            // The process and a number keep writers apart; a stale file is passed over.
            let temporary = folder.join(format!(".{name}.{}-{attempt}.partial", process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&temporary) {
                Ok(file) => {
                    let target = target.to_owned();
                    return Ok((Self { target, temporary, published: false }, file));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 1_000 => {
                    attempt += 1;
                }
                Err(error) => return Err(refused(target, error)),
            }
        }
    }

    /// Gives the file its name, once its bytes are on the disk; replaces what had the name.
    pub(super) fn publish(mut self, file: &File) -> Result<(), Error> {
        let write = |error| Error::from(Cause::write(&self.target, error));
        file.sync_all().map_err(write)?;
        fs::rename(&self.temporary, &self.target).map_err(write)?;
        sync_folder(folder_of(&self.target)).map_err(write)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.published {
            // The failure that led here is already on its way to the caller.
            drop(fs::remove_file(&self.temporary));
        }
    }
}

/// Why no file could be created: a full disk has another answer than a closed folder.
fn refused(target: &Path, source: io::Error) -> Error {
    match Cause::write(target, source) {
        Cause::Write { source, .. } => {
            Cause::Create { folder: folder_of(target).to_owned(), source }.into()
        }
        full => full.into(),
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes the new name itself survive a power cut.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Elsewhere a folder cannot be opened as a file, and the system takes care of names.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}
