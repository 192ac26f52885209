//! A store: a directory of runs.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::canonical::hash;
use crate::error::{Cause, Error};
use crate::files;
use crate::filter::Filter;
use crate::format::{GATE, RECORD, RESULT};
use crate::index::{self, Listed, Selected, Selection, open_named};
use crate::lock::{self, RunLock};
use crate::read::RunReader;
use crate::write::RunWriter;

/// A directory of runs, one directory each.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// What [`Store::begin`] found.
#[derive(Debug)]
pub enum Begun {
    /// A run that did not exist yet.
    New(RunWriter),
    /// A run that had begun and did not end; it goes on from its last good checkpoint.
    Resumed(RunWriter),
    /// A run that is done. Nothing is to be run again.
    Sealed(RunReader),
}

impl Store {
    /// Opens the store in `root` for writing and reading, and makes it if there is none.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) if nothing can be written there, [`Full`](crate::ErrorKind::Full).
    pub fn open(root: &Path) -> Result<Self, Error> {
        let unwritable = |source| Cause::Unwritable { root: root.to_owned(), source };
        std::fs::create_dir_all(root).map_err(unwritable)?;
        // The gate is there before the first run, and writing it is the test of the right to write.
        lock::open(&root.join(GATE)).map_err(unwritable)?;
        Ok(Self { root: root.to_owned() })
    }

    /// Opens the store in `root` for reading; it may be one that we must not write.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no such directory.
    pub fn open_existing(root: &Path) -> Result<Self, Error> {
        if !root.is_dir() {
            return Err(Cause::NoSuchStore { root: root.to_owned() }.into());
        }
        Ok(Self { root: root.to_owned() })
    }

    /// The directory of the store.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Every run, oldest first. A damaged one is listed with its problem.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) if the directory cannot be listed.
    pub fn runs(&self) -> Result<Vec<Listed>, Error> {
        self.runs_where(&[])
    }

    /// The runs that fit every one of `filters`, oldest first.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) if the directory cannot be listed.
    pub fn runs_where(&self, filters: &[Filter]) -> Result<Vec<Listed>, Error> {
        let selection = Selection { filters: filters.to_vec(), ..Selection::default() };
        Ok(self.select(&selection)?.runs)
    }

    /// The runs that `selection` asks for, in its order.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) if the directory cannot be listed.
    pub fn select(&self, selection: &Selection) -> Result<Selected, Error> {
        index::select(&self.root, selection)
    }

    /// The values at `paths` in each run that `selection` asks for, run by run: numbers, texts and flags. What is not
    /// there, and lists and objects, are null.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) if the directory cannot be listed.
    pub fn values(
        &self,
        selection: &Selection,
        paths: &[String],
    ) -> Result<Vec<Vec<Value>>, Error> {
        index::values(&self.root, selection, paths)
    }

    /// Every path that leads to a value in some run, sorted.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) if the directory cannot be listed.
    pub fn fields(&self) -> Result<Vec<String>, Error> {
        index::fields(&self.root)
    }

    /// Makes the index anew from the directories. Listing does what is needed by itself; this is
    /// for whoever doubts it.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io).
    pub fn rebuild_index(&self) -> Result<(), Error> {
        index::rebuild(&self.root)
    }

    /// Opens the run that `selector` names: `latest` (the run that began last), an id, or the
    /// beginning of exactly one id.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound), [`Ambiguous`](crate::ErrorKind::Ambiguous), and those of [`RunReader::open`].
    pub fn find(&self, selector: &str) -> Result<RunReader, Error> {
        // A whole id is looked up directly: in a store of many runs, listing them takes its time.
        if is_id(selector) && index::is_run(&self.root, selector) {
            return open_named(&self.root.join(selector), selector);
        }
        if selector == "latest" {
            let mut newest = Selection {
                filters: vec!["problem=null".parse()?],
                descending: true,
                most: Some(1),
                ..Selection::default()
            };
            let mut found = self.select(&newest)?.runs;
            if found.is_empty() {
                newest.filters.clear();
                found = self.select(&newest)?.runs;
            }
            let Some(Listed { id, .. }) = found.pop() else {
                return Err(Cause::NoRuns { root: self.root.clone() }.into());
            };
            return open_named(&self.root.join(&id), &id);
        }
        let ids = index::runs_in(&self.root)?;
        if ids.is_empty() {
            return Err(Cause::NoRuns { root: self.root.clone() }.into());
        }
        let is_prefix = |id: &&String| !selector.is_empty() && id.starts_with(selector);
        let matches: Vec<&String> = ids.iter().filter(is_prefix).collect();
        match matches.as_slice() {
            [id] => open_named(&self.root.join(id), id),
            [] => Err(Cause::NoSuchRun { selector: selector.to_owned() }.into()),
            many => {
                Err(Cause::AmbiguousRun { selector: selector.to_owned(), n_matches: many.len() }
                    .into())
            }
        }
    }

    /// Whether the run `id` has a result, without reading it.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_store::Store;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let root = dir.path().join("runs");
    /// let store = Store::open(&root)?;
    /// assert!(!store.is_sealed("3f9c0a1b"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_sealed(&self, id: &str) -> bool {
        self.root.join(id).join(RESULT).exists()
    }

    /// Whether some process is writing the run `id`, without reading it.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_store::Store;
    /// use serde_json::json;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(&dir.path().join("runs"))?;
    /// let begun = store.begin("3f9c0a1b", &json!({}), &json!({}))?;
    /// assert!(store.is_running("3f9c0a1b"));
    /// drop(begun);
    /// assert!(!store.is_running("3f9c0a1b"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_running(&self, id: &str) -> bool {
        RunLock::is_held(&self.root.join(id))
    }

    /// Begins the run `id` of `plan`, or goes on with it, or finds it done.
    ///
    /// The writer holds the lock of the run. A process that was killed leaves no lock behind.
    ///
    /// # Arguments
    ///
    /// - `id`: letters, digits, `-` and `_`; by custom the beginning of the hash of the plan.
    /// - `meta`: an object of what is worth knowing besides the plan, such as release and machine.
    ///   Its `created_secs` (seconds since 1970) orders the runs. When a run is resumed, `meta` is
    ///   kept in its `resumed` event; when it is sealed, `meta` is left aside.
    ///
    /// # Errors
    ///
    /// [`Locked`](crate::ErrorKind::Locked) if another writer has it, [`Invalid`](crate::ErrorKind::Invalid) if it was begun with
    /// another plan, [`Corrupt`](crate::ErrorKind::Corrupt) or [`Incompatible`](crate::ErrorKind::Incompatible) if its record cannot be
    /// read, [`Full`](crate::ErrorKind::Full), [`Io`](crate::ErrorKind::Io).
    ///
    /// # Panics
    ///
    /// If `id` cannot be the name of a run.
    #[track_caller]
    pub fn begin(&self, id: &str, plan: &Value, meta: &Value) -> Result<Begun, Error> {
        assert!(is_id(id), "`{id}` cannot be the id of a run");
        let dir = self.root.join(id);
        if let Some(sealed) = sealed(&dir, id, plan)? {
            return Ok(Begun::Sealed(sealed));
        }
        files::create_dir(&dir)?;
        let lock = RunLock::take(&dir, id)?;
        // It may have been sealed by the one who had the lock before us.
        if let Some(sealed) = sealed(&dir, id, plan)? {
            return Ok(Begun::Sealed(sealed));
        }
        if dir.join(RECORD).exists() {
            RunWriter::resume(&dir, id, plan, meta, lock).map(Begun::Resumed)
        } else {
            RunWriter::create(&dir, id, plan, meta, lock).map(Begun::New)
        }
    }
}

/// The run in `dir`, if it is sealed.
fn sealed(dir: &Path, id: &str, plan: &Value) -> Result<Option<RunReader>, Error> {
    if !dir.join(RESULT).exists() {
        return Ok(None);
    }
    let reader = open_named(dir, id)?;
    if hash(reader.plan()) != hash(plan) {
        return Err(Cause::OtherPlan { id: id.to_owned() }.into());
    }
    Ok(Some(reader))
}

/// Whether `id` is a plain name, and not one that selects.
pub(crate) fn is_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !id.is_empty() && id.len() <= 128 && id.bytes().all(plain) && id != "latest"
}
