//! The texts that specs name as corpora: found beside the spec, and each read once.
//!
//! A plan holds the counts of a text and neither its path nor its hash. The counts are all that a
//! language takes from a text, so the same id means the same numbers wherever the file lies or
//! goes, a stored plan needs no file to be run, and a text that was changed makes another plan. The
//! price is the size of a plan: the counts of a text in 65 characters take about 14 kB each time
//! they are written, those of one in thousands of characters megabytes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::{Path, PathBuf};

use mnemoscope_task::Corpus;

use super::suggest;

/// Reads corpora by the words of a spec.
#[derive(Debug, Default)]
pub(crate) struct Corpora {
    /// Where relative paths begin; none for a spec that is no file.
    folder: Option<PathBuf>,
    /// Whether no file is read at all.
    built_in_only: bool,
    /// What was read so far: arms, sweep points and evaluation sets name one text many times.
    known: RefCell<BTreeMap<PathBuf, Result<Corpus, String>>>,
}

impl Corpora {
    /// Looks for texts where the spec lies.
    pub(crate) fn beside(spec: Option<&Path>) -> Self {
        let folder = spec.map(|spec| spec.parent().unwrap_or(Path::new("")).to_owned());
        Self { folder, ..Self::default() }
    }

    /// Knows what is built in and reads no file: for specs that somebody else may have written.
    pub(crate) fn built_in_only() -> Self {
        Self { built_in_only: true, ..Self::default() }
    }

    /// The corpus that a spec means by `name`: the built-in one, or the counts of a text file.
    ///
    /// # Errors
    ///
    /// What is wrong, for a complaint at the place where the name is written.
    pub(crate) fn corpus(&self, name: &str) -> Result<Corpus, String> {
        if name == Corpus::TINY_SHAKESPEARE {
            return Ok(Corpus::tiny_shakespeare());
        }
        if self.built_in_only {
            return Err(format!(
                "found {name:?}, which is a file beside the spec; only {:?} is known where a record alone is read",
                Corpus::TINY_SHAKESPEARE
            ));
        }
        let Some(path) = self.path_of(name) else {
            return Err(format!(
                "found {name:?}; allowed: {:?}, or an absolute path, because a spec that is no \
                 file lies in no folder where a text could be looked for",
                Corpus::TINY_SHAKESPEARE
            ));
        };
        let read = || read(name, &path);
        self.known.borrow_mut().entry(path.clone()).or_insert_with(read).clone()
    }

    /// Where the text called `name` lies, if that can be said.
    fn path_of(&self, name: &str) -> Option<PathBuf> {
        match &self.folder {
            Some(folder) => Some(folder.join(name)),
            None => Some(PathBuf::from(name)).filter(|path| path.is_absolute()),
        }
    }
}

fn read(name: &str, path: &Path) -> Result<Corpus, String> {
    if !path.exists() {
        let built_in = Corpus::TINY_SHAKESPEARE;
        let place = path.display();
        return Err(match suggest::nearest(name, [built_in]) {
            Some(near) => {
                format!("found {name:?}; did you mean {near:?}? There is no file {place}")
            }
            None => format!(
                "found {name:?}; allowed: {built_in:?}, or the path of a text file from where the \
                 spec lies; there is no file {place}"
            ),
        });
    }
    Corpus::from_file(path).map_err(|error| match error.source() {
        Some(why) => format!("{error}: {why}"),
        None => error.to_string(),
    })
}
