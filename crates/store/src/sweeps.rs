//! What was submitted to a cluster, beside the runs: for whoever asks later, and for no result.
//!
//! ```text
//! runs/.sweeps/<id>/
//!   sweep.json        the caller's record of the submission, with a checksum
//!   ...               scripts and logs of the caller
//! ```
//!
//! Losing it loses no run: the same sweep can be submitted again.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Cause, Error};
use crate::files;
use crate::format::{decode_json, encode_json};
use crate::store::{Store, is_id};

const SWEEPS: &str = ".sweeps";
const SWEEP: &str = "sweep.json";

impl Store {
    /// The folder of the sweep `id`, which is made if there is none.
    ///
    /// # Errors
    ///
    /// [`Full`](crate::ErrorKind::Full), [`Io`](crate::ErrorKind::Io).
    ///
    /// # Panics
    ///
    /// If `id` cannot be a name.
    #[track_caller]
    pub fn sweep_folder(&self, id: &str) -> Result<PathBuf, Error> {
        assert!(is_id(id), "`{id}` cannot be the id of a sweep");
        let folder = self.root().join(SWEEPS).join(id);
        files::create_dir(&folder)?;
        Ok(folder)
    }

    /// Keeps `record` as what is known of the sweep `id`.
    ///
    /// # Errors
    ///
    /// [`Full`](crate::ErrorKind::Full), [`Io`](crate::ErrorKind::Io); an older record is then still there.
    ///
    /// # Panics
    ///
    /// If `id` cannot be a name.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_store::Store;
    /// use serde_json::json;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(&dir.path().join("runs"))?;
    /// store.save_sweep("3f9c", &json!({"study": "lstm"}))?;
    /// assert_eq!(store.sweep("3f9c")?["study"], "lstm");
    /// assert_eq!(store.sweeps()?, ["3f9c"]);
    /// assert!(store.runs()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn save_sweep(&self, id: &str, record: &Value) -> Result<(), Error> {
        files::write_atomic(&self.sweep_folder(id)?.join(SWEEP), &encode_json(record))
    }

    /// What is known of the sweep `id`, or of the only one whose id begins so.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound), [`Ambiguous`](crate::ErrorKind::Ambiguous),
    /// [`Corrupt`](crate::ErrorKind::Corrupt), [`Incompatible`](crate::ErrorKind::Incompatible),
    /// [`Io`](crate::ErrorKind::Io).
    pub fn sweep(&self, id: &str) -> Result<Value, Error> {
        let ids = self.sweeps()?;
        let fits = |it: &&String| !id.is_empty() && it.starts_with(id);
        match ids.iter().filter(fits).collect::<Vec<_>>()[..] {
            [only] => read(&self.root().join(SWEEPS).join(only).join(SWEEP)),
            [] => Err(Cause::NoSuchSweep { id: id.to_owned() }.into()),
            ref many => {
                Err(Cause::AmbiguousSweep { id: id.to_owned(), n_matches: many.len() }.into())
            }
        }
    }

    /// The ids of all sweeps that something is known of, sorted.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io).
    pub fn sweeps(&self) -> Result<Vec<String>, Error> {
        let folder = self.root().join(SWEEPS);
        let mut ids = files::names_in(&folder)?;
        ids.retain(|id| folder.join(id).join(SWEEP).exists());
        Ok(ids)
    }
}

fn read(path: &Path) -> Result<Value, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::reading(path, source))?;
    Ok(decode_json(path, &bytes)?.1)
}
