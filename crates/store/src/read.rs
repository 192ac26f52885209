//! The reader of one run: a snapshot of its record, checked.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::canonical::{hash, hash_bytes};
use crate::checkpoint::{CheckpointRef, kept};
use crate::error::{Cause, Error};
use crate::event::{Events, kind, parse};
use crate::files;
use crate::format::{EVENTS, FormatVersion, LOCK, PLAN, PRUNED, RECORD, RESULT, decode_json};
use crate::lock::RunLock;
use crate::prune::{is_checkpoint_of, steps_pruned};

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Some process is writing it.
    Running,
    /// It was stopped or killed before its end; `run` goes on with it.
    Interrupted,
    /// It has its result, and nothing alters it any more.
    Sealed,
    /// It could not go on, and said why.
    Failed,
    /// Its code panicked.
    Crashed,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Sealed => "sealed",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
        })
    }
}

/// The record of one run as it was when it was opened: identity, plan, events and result are
/// checked and in memory, other files are read and checked when asked for.
#[derive(Debug)]
pub struct RunReader {
    id: String,
    dir: PathBuf,
    format: FormatVersion,
    status: Status,
    meta: Value,
    plan: Value,
    result: Option<Value>,
    events: Events,
    /// Steps whose checkpoints were removed on purpose since.
    pub(crate) pruned: Vec<u64>,
}

impl RunReader {
    /// Opens the record in the directory `path`, whichever store it lies in.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is no record,
    /// [`Incompatible`](crate::ErrorKind::Incompatible) if a newer release wrote it,
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if it is not as it was written, and
    /// [`Io`](crate::ErrorKind::Io).
    pub fn open(path: &Path) -> Result<Self, Error> {
        loop {
            // `result.json` first: what comes before it in the writing comes after it in the
            // reading, so a result never meets events that are older than it.
            let result = read_json_if_there(&path.join(RESULT))?;
            let (reader, n_bytes) = Self::open_with(path, result.map(|(_, body)| body))?;
            // A run that was being sealed meanwhile is neither running nor interrupted, and an
            // event that was being written meanwhile is not torn.
            let sealed_since = reader.status != Status::Sealed && path.join(RESULT).exists();
            let written_since = reader.events.torn.is_some()
                && std::fs::metadata(path.join(EVENTS)).is_ok_and(|now| now.len() != n_bytes);
            if !sealed_since && !written_since {
                return Ok(reader);
            }
        }
    }

    /// The record beside `result`, and how many bytes its events had.
    fn open_with(path: &Path, result: Option<Value>) -> Result<(Self, u64), Error> {
        let (format, record) = read_record(path)?;
        let Some(id) = record["id"].as_str().map(str::to_owned) else {
            return Err(Error::damaged(&path.join(RECORD), "it names no run"));
        };
        let plan = read_required(&path.join(PLAN))?;
        let events_path = path.join(EVENTS);
        let Some(bytes) = files::read_if_there(&events_path)? else {
            return Err(Error::damaged(&events_path, "the file is missing"));
        };
        let mut events = parse(&events_path, &id, &bytes)?.events;
        let begun = events.items.first().filter(|event| event.kind == kind::BEGUN);
        let Some(begun) = begun else {
            return Err(Error::damaged(&events_path, "it has no first event"));
        };
        if begun.data["record"] != hash(&record) {
            let why = "it is not the record that this run began with";
            return Err(Error::damaged(&path.join(RECORD), why));
        }
        if begun.data["plan"] != hash(&plan) {
            let why = "it is not the plan that this run began with";
            return Err(Error::damaged(&path.join(PLAN), why));
        }
        if let Some(result) = &result {
            check_seal(path, result, &events)?;
        }
        let status = status_of(path, result.is_some(), &events);
        if status == Status::Running {
            // Not torn: somebody is in the middle of writing it.
            events.torn = None;
        }
        let meta = record["meta"].clone();
        let dir = path.to_owned();
        let pruned = steps_pruned(path)?;
        let reader = Self { id, dir, format, status, meta, plan, result, events, pruned };
        Ok((reader, bytes.len() as u64))
    }

    /// The id of the run.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The directory of the record.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The format it was written in.
    #[must_use]
    pub fn format(&self) -> FormatVersion {
        self.format
    }

    /// How the run stood when this was opened.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// What was given besides the plan when the run first began.
    #[must_use]
    pub fn meta(&self) -> &Value {
        &self.meta
    }

    /// When the run first began, in seconds since 1970: `created_secs` of its meta, if given.
    #[must_use]
    pub fn created_secs(&self) -> Option<f64> {
        self.meta["created_secs"].as_f64()
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Value {
        &self.plan
    }

    /// The result, if the run is sealed.
    #[must_use]
    pub fn result(&self) -> Option<&Value> {
        self.result.as_ref()
    }

    /// Everything that happened.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Why the run failed or crashed, if that is how it stands.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        let last = self.events.items.last()?;
        let ended = [kind::FAILED, kind::CRASHED].contains(&last.kind.as_str());
        last.data["message"].as_str().filter(|_| ended)
    }

    /// The checkpoints that are kept, oldest first. They are compared when they are read.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<CheckpointRef> {
        let mut checkpoints = self.checkpoints_saved();
        checkpoints.retain(|checkpoint| !self.pruned.contains(&checkpoint.step));
        checkpoints
    }

    /// The checkpoints that the run ended with, also those that were removed since.
    pub(crate) fn checkpoints_saved(&self) -> Vec<CheckpointRef> {
        kept(&self.dir, &self.events).into_iter().map(|kept| kept.checkpoint).collect()
    }

    /// The checkpoint of one step, with its bytes.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound), or [`Corrupt`](crate::ErrorKind::Corrupt) if it
    /// is not as it was saved: a reader never takes another one in its place.
    pub fn checkpoint(&self, step: u64) -> Result<(CheckpointRef, Vec<u8>), Error> {
        let checkpoints = self.checkpoints();
        let Some(found) = checkpoints.iter().find(|checkpoint| checkpoint.step == step) else {
            let steps: Vec<String> = checkpoints.iter().map(|it| it.step.to_string()).collect();
            let kept = if steps.is_empty() { "none".to_owned() } else { steps.join(", ") };
            return Err(Cause::NoSuchCheckpoint { id: self.id.clone(), step, kept }.into());
        };
        Ok((found.clone(), found.read()?))
    }

    /// The newest checkpoint with its bytes, or `None` if the run has none yet.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if it is not as it was saved.
    pub fn last_checkpoint(&self) -> Result<Option<(CheckpointRef, Vec<u8>)>, Error> {
        match self.checkpoints().pop() {
            Some(checkpoint) => {
                let bytes = checkpoint.read()?;
                Ok(Some((checkpoint, bytes)))
            }
            None => Ok(None),
        }
    }

    /// The content of the JSON file `name`, such as `eval/val.json`.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound), [`Corrupt`](crate::ErrorKind::Corrupt),
    /// [`Incompatible`](crate::ErrorKind::Incompatible) or [`Io`](crate::ErrorKind::Io).
    pub fn json(&self, name: &str) -> Result<Value, Error> {
        let path = self.dir.join(name);
        let missing = || Cause::NoSuchFile { id: self.id.clone(), name: name.to_owned() };
        let (_, body) = read_json_if_there(&path)?.ok_or_else(missing)?;
        Ok(body)
    }

    /// The bytes of the file `name` that [`RunWriter::write_file`](crate::RunWriter::write_file)
    /// wrote.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound), [`Corrupt`](crate::ErrorKind::Corrupt) or
    /// [`Io`](crate::ErrorKind::Io).
    pub fn file(&self, name: &str) -> Result<Vec<u8>, Error> {
        let noted = self.events.items.iter().rev();
        let noted =
            noted.filter(|event| event.kind == kind::FILE).find(|event| event.data["name"] == name);
        let Some(noted) = noted else {
            return Err(Cause::NoSuchFile { id: self.id.clone(), name: name.to_owned() }.into());
        };
        let path = self.dir.join(name);
        let Some(bytes) = files::read_if_there(&path)? else {
            return Err(Error::damaged(&path, "the file is missing"));
        };
        if noted.data["blake3"] != hash_bytes(&bytes) {
            return Err(Error::damaged(&path, "its checksum does not fit its content"));
        }
        Ok(bytes)
    }

    /// The names of the files in `folder` (such as `glitches`), sorted, as [`RunReader::json`]
    /// takes them.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io). A folder that does not exist is empty.
    pub fn names(&self, folder: &str) -> Result<Vec<String>, Error> {
        let names = files::names_in(&self.dir.join(folder))?;
        Ok(names.into_iter().map(|name| format!("{folder}/{name}")).collect())
    }

    /// Reads everything in the record and returns a complaint for each file that is not as it was
    /// written; empty if all is well.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) if the directory cannot be listed.
    pub fn verify(&self) -> Result<Vec<String>, Error> {
        let mut complaints: Vec<String> = Vec::new();
        let checkpoints = self.checkpoints();
        for checkpoint in &checkpoints {
            complaints.extend(checkpoint.read().err().map(|why| why.to_string()));
        }
        let there = walk(&self.dir)?;
        for name in there.iter().filter(|name| name.ends_with(".json")) {
            complaints.extend(self.json(name).err().map(|why| why.to_string()));
        }
        let noted: BTreeMap<&str, ()> = (self.events.items.iter())
            .filter(|event| event.kind == kind::FILE)
            .filter_map(|event| Some((event.data["name"].as_str()?, ())))
            .collect();
        for name in noted.keys() {
            complaints.extend(self.file(name).err().map(|why| why.to_string()));
        }
        if self.status == Status::Sealed {
            self.verify_sealed(&there, &mut complaints);
        }
        complaints.sort_unstable();
        complaints.dedup();
        Ok(complaints)
    }

    /// Compares the files of a sealed run with the list in its last event.
    fn verify_sealed(&self, there: &[String], complaints: &mut Vec<String>) {
        let listed = self.events.items.last().and_then(|event| event.data["files"].as_object());
        let Some(listed) = listed else { return };
        for (name, sum) in listed {
            if is_checkpoint_of(name, &self.pruned) {
                continue;
            }
            let path = self.dir.join(name);
            let complaint = match std::fs::read(&path) {
                Ok(bytes) if *sum == hash_bytes(&bytes) => continue,
                Ok(_) => Error::damaged(&path, "its checksum does not fit its content"),
                Err(_) => Error::damaged(&path, "the file is missing"),
            };
            complaints.push(complaint.to_string());
        }
        for name in there {
            let own = [EVENTS, RESULT, LOCK, PRUNED].contains(&name.as_str());
            if !own && !listed.contains_key(name) {
                let path = self.dir.join(name);
                complaints.push(format!("{} came after the run was sealed", path.display()));
            }
        }
    }
}

/// Reads one JSON file of a record on its own, such as a glitch that somebody sent.
///
/// # Errors
///
/// [`Corrupt`](crate::ErrorKind::Corrupt) if it is not as it was written,
/// [`Incompatible`](crate::ErrorKind::Incompatible) if a newer release wrote it, and
/// [`Io`](crate::ErrorKind::Io).
pub fn read_json(path: &Path) -> Result<Value, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::reading(path, source))?;
    Ok(decode_json(path, &bytes)?.1)
}

pub(crate) fn read_json_if_there(path: &Path) -> Result<Option<(FormatVersion, Value)>, Error> {
    files::read_if_there(path)?.map(|bytes| decode_json(path, &bytes)).transpose()
}

fn read_required(path: &Path) -> Result<Value, Error> {
    match read_json_if_there(path)? {
        Some((_, body)) => Ok(body),
        None => Err(Error::damaged(path, "the file is missing")),
    }
}

/// Format and body of `record.json` in `dir`.
fn read_record(dir: &Path) -> Result<(FormatVersion, Value), Error> {
    let path = dir.join(RECORD);
    match read_json_if_there(&path)? {
        Some(found) => Ok(found),
        None if dir.join(EVENTS).exists() => Err(Error::damaged(&path, "the file is missing")),
        None => Err(Cause::NoSuchRun { selector: dir.display().to_string() }.into()),
    }
}

/// A result means sealed, and a sealed run ends with the event that says so.
fn check_seal(dir: &Path, result: &Value, events: &Events) -> Result<(), Error> {
    let last = events.items.last().filter(|event| event.kind == kind::SEALED);
    match last {
        Some(sealed) if events.torn.is_none() => {
            if sealed.data["result"] != hash(result) {
                return Err(Error::damaged(
                    &dir.join(RESULT),
                    "it is not the result that this run was sealed with",
                ));
            }
            Ok(())
        }
        _ => {
            let path = dir.join(EVENTS);
            Err(Cause::EventsCut { path, n_events: events.items.len() }.into())
        }
    }
}

fn status_of(dir: &Path, has_result: bool, events: &Events) -> Status {
    if has_result {
        return Status::Sealed;
    }
    if RunLock::is_held(dir) {
        return Status::Running;
    }
    match events.items.last().map(|event| event.kind.as_str()) {
        Some(kind::FAILED) => Status::Failed,
        Some(kind::CRASHED) => Status::Crashed,
        _ => Status::Interrupted,
    }
}

/// Refuses a name that would leave the directory of the record.
#[track_caller]
pub(crate) fn check_name(name: &str) {
    let whole = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains('\\');
    assert!(name.split('/').all(whole), "`{name}` is not a name inside a record");
}

/// The names of all files of a record, sorted.
pub(crate) fn walk(dir: &Path) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for name in files::names_in(&dir.join(&folder))? {
            let name = format!("{folder}{name}");
            if dir.join(&name).is_dir() {
                folders.push(format!("{name}/"));
            } else {
                found.push(name);
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}
