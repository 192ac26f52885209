//! The writer of one run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::canonical::{hash, hash_bytes};
use crate::checkpoint::{CheckpointRef, Kept, kept};
use crate::error::{Cause, Error, ErrorKind};
use crate::event::{EventLog, Events, kind, parse};
use crate::files;
use crate::format::{
    CHECKPOINTS, EVENTS, LOCK, PLAN, PRUNED, RECORD, RESULT, TEMP, decode_json, encode_json,
};
use crate::lock::RunLock;
use crate::read::{RunReader, check_name, walk};

/// The one writer of a run that is not sealed. It holds the run's lock as long as it lives.
///
/// Dropping it without a last word leaves the run interrupted, as a killed process does.
///
/// What is appended *after* a checkpoint is superseded if the run is resumed from it. So first
/// append everything that belongs to the steps up to the checkpoint, then save the checkpoint.
#[derive(Debug)]
pub struct RunWriter {
    id: String,
    dir: PathBuf,
    log: EventLog,
    kept: Vec<Kept>,
    /// The checkpoint that a resume has already read, until it is asked for.
    resumed_from: Option<(CheckpointRef, Vec<u8>)>,
    warnings: Vec<String>,
    _lock: RunLock,
}

impl RunWriter {
    /// Makes the record of a new run in `dir`. What an earlier beginning that was cut off left
    /// there is written over.
    pub(crate) fn create(
        dir: &Path,
        id: &str,
        plan: &Value,
        meta: &Value,
        lock: RunLock,
    ) -> Result<Self, Error> {
        if has_history(dir, id)? {
            return Err(Error::damaged(&dir.join(RECORD), "the file is missing"));
        }
        let record = json!({"id": id, "meta": meta});
        files::write_atomic(&dir.join(PLAN), &encode_json(plan))?;
        let begun = json!({"plan": hash(plan), "record": hash(&record)});
        let log = EventLog::create(&dir.join(EVENTS), id, &begun)?;
        files::create_dir(&dir.join(CHECKPOINTS))?;
        files::write_atomic(&dir.join(RECORD), &encode_json(&record))?;
        Ok(Self {
            id: id.to_owned(),
            dir: dir.to_owned(),
            log,
            kept: Vec::new(),
            resumed_from: None,
            warnings: Vec::new(),
            _lock: lock,
        })
    }

    /// Goes on with the unsealed run in `dir` behind its last good checkpoint.
    pub(crate) fn resume(
        dir: &Path,
        id: &str,
        plan: &Value,
        meta: &Value,
        lock: RunLock,
    ) -> Result<Self, Error> {
        let reader = RunReader::open(dir)?;
        if hash(reader.plan()) != hash(plan) {
            return Err(Cause::OtherPlan { id: id.to_owned() }.into());
        }
        let path = dir.join(EVENTS);
        let bytes = files::read_if_there(&path)?.unwrap_or_default();
        let parsed = parse(&path, id, &bytes)?;
        let mut warnings = Vec::new();
        if let Some(torn) = parsed.events.torn {
            warnings.push(format!(
                "the writing of event {} was cut off after {} bytes; the events before it are intact",
                torn.event_idx, torn.n_bytes
            ));
        }
        remove_temps(dir)?;
        files::create_dir(&dir.join(CHECKPOINTS))?;
        let mut writer = Self {
            id: id.to_owned(),
            dir: dir.to_owned(),
            log: EventLog::reopen(&path, &parsed)?,
            kept: kept(dir, &parsed.events),
            resumed_from: None,
            warnings,
            _lock: lock,
        };
        writer.go_back(&parsed.events, meta)?;
        Ok(writer)
    }

    /// Chooses the checkpoint to go on from and says so in an event.
    fn go_back(&mut self, events: &Events, meta: &Value) -> Result<(), Error> {
        let n_before = self.warnings.len();
        let chosen = self.newest_good()?;
        let damaged = &self.warnings[n_before..];
        let from_event = chosen.as_ref().map_or(0, |(kept, _)| kept.event_idx);
        let step = chosen.as_ref().map(|(kept, _)| kept.checkpoint.step);
        self.log.append(
            kind::RESUMED,
            &json!({
                "from_event": from_event,
                "step": step,
                "meta": meta,
                "damaged": damaged,
                "torn": events.torn,
            }),
        )?;
        self.kept.retain(|kept| kept.event_idx <= from_event);
        self.resumed_from = chosen.map(|(kept, bytes)| (kept.checkpoint, bytes));
        Ok(())
    }

    /// The newest checkpoint that is as it was saved; a warning for each newer one that is not.
    ///
    /// Only damage is gone behind. If the operating system refuses to read, the checkpoint may be
    /// good, and going back would throw its steps away.
    fn newest_good(&mut self) -> Result<Option<(Kept, Vec<u8>)>, Error> {
        for kept in self.kept.iter().rev() {
            match kept.checkpoint.read() {
                Ok(bytes) => return Ok(Some((kept.clone(), bytes))),
                Err(why) if why.kind() == ErrorKind::Corrupt => {
                    let step = kept.checkpoint.step;
                    self.warnings
                        .push(format!("the checkpoint of step {step} was passed over: {why}"));
                }
                Err(refused) => return Err(refused),
            }
        }
        Ok(None)
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

    /// What a resume found damaged and went on without, for people; empty if all was well.
    ///
    /// Also in the run's `resumed` event.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The record as it is on the disk now: after a resume, what earlier processes wrote.
    ///
    /// # Errors
    ///
    /// As [`RunReader::open`].
    pub fn reader(&self) -> Result<RunReader, Error> {
        RunReader::open(&self.dir)
    }

    /// Appends one event and returns its number; when this returns, it survives the death of this process.
    ///
    /// A power failure it survives from the next event of the store's own on, such as a checkpoint: a resume goes back
    /// to a checkpoint anyway, and syncing each event by itself would cost a short run more than its training.
    ///
    /// # Errors
    ///
    /// [`Full`](crate::ErrorKind::Full) or [`Io`](crate::ErrorKind::Io);
    /// nothing of the event stays, and the writer can be used further.
    ///
    /// # Panics
    ///
    /// If `kind` is one of the store's own, [`event::kind::ALL`](crate::event::kind::ALL).
    #[track_caller]
    pub fn append(&mut self, kind: &str, data: &Value) -> Result<u64, Error> {
        assert!(!kind::ALL.contains(&kind), "events of kind `{kind}` are the store's own");
        self.log.append_unsynced(kind, data)
    }

    /// Writes `value` to the JSON file `name` (such as `eval/val.json`), whole or not at all.
    ///
    /// The file carries its checksum and the format version. An older file of this name is
    /// replaced.
    ///
    /// # Errors
    ///
    /// [`Full`](crate::ErrorKind::Full) or [`Io`](crate::ErrorKind::Io);
    /// an older file of this name is then still there.
    ///
    /// # Panics
    ///
    /// If `name` does not end in `.json`, leaves the directory, or is one of the store's own.
    #[track_caller]
    pub fn write_json(&mut self, name: &str, value: &Value) -> Result<(), Error> {
        assert!(name.ends_with(".json"), "`{name}` does not end in .json");
        self.place(name, &encode_json(value))
    }

    /// Writes `bytes` to the file `name` (such as `spec.toml`), whole or not at all, and its
    /// checksum into an event.
    ///
    /// # Errors
    ///
    /// As [`RunWriter::write_json`].
    ///
    /// # Panics
    ///
    /// If `name` leaves the directory or is one of the store's own.
    #[track_caller]
    pub fn write_file(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        assert!(!name.ends_with(".json"), "`{name}` is JSON: write_json gives it a checksum");
        self.place(name, bytes)?;
        let n_bytes = bytes.len();
        let data = json!({"name": name, "blake3": hash_bytes(bytes), "n_bytes": n_bytes});
        self.log.append(kind::FILE, &data)?;
        Ok(())
    }

    #[track_caller]
    fn place(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        check_name(name);
        let own = [RECORD, PLAN, EVENTS, RESULT, LOCK, PRUNED];
        assert!(
            !own.contains(&name) && !name.starts_with(CHECKPOINTS),
            "`{name}` is the store's own"
        );
        let path = self.dir.join(name);
        if let Some(folder) = path.parent() {
            files::create_dir(folder)?;
        }
        files::write_atomic(&path, bytes)
    }

    /// Saves the state after `step` steps. When this returns, a resume goes on from here at the
    /// earliest, whatever happens.
    ///
    /// A checkpoint of the same step is replaced; what an earlier one of other bytes was good for
    /// ends there, so give every state a step of its own.
    ///
    /// # Errors
    ///
    /// [`Full`](crate::ErrorKind::Full) or [`Io`](crate::ErrorKind::Io);
    /// earlier checkpoints are untouched.
    pub fn save_checkpoint(&mut self, step: u64, bytes: &[u8]) -> Result<CheckpointRef, Error> {
        let checkpoint = CheckpointRef::of(&self.dir, step, bytes);
        files::write_atomic(&checkpoint.path, bytes)?;
        let event_idx = self.log.append(kind::CHECKPOINT, &checkpoint.to_data())?;
        self.kept.retain(|older| older.checkpoint.step != step);
        self.kept.push(Kept { event_idx, checkpoint: checkpoint.clone() });
        Ok(checkpoint)
    }

    /// The checkpoint to go on from, with its bytes; `None` if the run starts at step 0.
    ///
    /// After a resume this is the newest one that is as it was saved;
    /// [`RunWriter::warnings`] names the newer ones that are not.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) if the operating system refuses to read. A damaged checkpoint
    /// is no error: an older one is taken, with a warning.
    pub fn last_good_checkpoint(&mut self) -> Result<Option<(CheckpointRef, Vec<u8>)>, Error> {
        if let Some(found) = self.resumed_from.take() {
            return Ok(Some(found));
        }
        Ok(self.newest_good()?.map(|(kept, bytes)| (kept.checkpoint, bytes)))
    }

    /// Removes all but the newest `n_checkpoints` checkpoints; at least one always stays.
    ///
    /// Two are customary: if the newest is damaged on the disk, a resume has another.
    ///
    /// # Errors
    ///
    /// [`Full`](crate::ErrorKind::Full) or [`Io`](crate::ErrorKind::Io).
    pub fn keep_last(&mut self, n_checkpoints: usize) -> Result<(), Error> {
        let n_removed = self.kept.len().saturating_sub(n_checkpoints.max(1));
        if n_removed == 0 {
            return Ok(());
        }
        let steps: Vec<u64> =
            self.kept[..n_removed].iter().map(|kept| kept.checkpoint.step).collect();
        // The event first: a file that is missing without one is damage.
        self.log.append(kind::PRUNED, &json!({"steps": steps}))?;
        for kept in self.kept.drain(..n_removed) {
            files::remove(&kept.checkpoint.path)?;
        }
        Ok(())
    }

    /// Ends the run with its result. From here on nothing alters the record.
    ///
    /// The last event holds the checksum of every file; `result.json` comes after it, so a run
    /// with a result is whole.
    ///
    /// # Errors
    ///
    /// [`Full`](crate::ErrorKind::Full) or [`Io`](crate::ErrorKind::Io);
    /// the run is then interrupted and can be resumed. [`Corrupt`](crate::ErrorKind::Corrupt), if a file is no longer
    /// as it was written.
    pub fn seal(mut self, result: &Value) -> Result<RunReader, Error> {
        remove_temps(&self.dir)?;
        self.remove_orphans()?;
        let noted = self.files_noted()?;
        let mut sums = Map::new();
        for name in walk(&self.dir)? {
            if [EVENTS, LOCK, RESULT].contains(&name.as_str()) {
                continue;
            }
            let path = self.dir.join(&name);
            let known = self.kept.iter().find(|kept| kept.checkpoint.path == path);
            let sum = match known {
                Some(kept) => kept.checkpoint.blake3.clone(),
                None => {
                    let bytes =
                        std::fs::read(&path).map_err(|source| Error::reading(&path, source))?;
                    let sum = hash_bytes(&bytes);
                    // What was damaged since it was written is not sealed as if it were whole.
                    if name.ends_with(".json") {
                        decode_json(&path, &bytes)?;
                    }
                    if noted.get(&name).is_some_and(|noted| *noted != sum) {
                        return Err(Error::damaged(&path, "its checksum does not fit its content"));
                    }
                    sum
                }
            };
            sums.insert(name, sum.into());
        }
        self.log.append(kind::SEALED, &json!({"result": hash(result), "files": sums}))?;
        files::write_atomic(&self.dir.join(RESULT), &encode_json(result))?;
        RunReader::open(&self.dir)
    }

    /// Removes checkpoints that no event keeps: a process was killed between the two.
    fn remove_orphans(&self) -> Result<(), Error> {
        let folder = self.dir.join(CHECKPOINTS);
        for name in files::names_in(&folder)? {
            let path = folder.join(name);
            if !self.kept.iter().any(|kept| kept.checkpoint.path == path) {
                files::remove(&path)?;
            }
        }
        Ok(())
    }

    /// The checksums of files that have none of their own, by name.
    fn files_noted(&self) -> Result<BTreeMap<String, String>, Error> {
        let path = self.dir.join(EVENTS);
        let bytes = files::read_if_there(&path)?.unwrap_or_default();
        let events = parse(&path, &self.id, &bytes)?.events;
        let noted = events.items.iter().filter(|event| event.kind == kind::FILE);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        // The last note of a name counts.
        Ok(noted
            .filter_map(|event| Some((text(&event.data["name"])?, text(&event.data["blake3"])?)))
            .collect())
    }

    /// Ends the run because it could not go on, and says why. It can be resumed.
    ///
    /// # Errors
    ///
    /// [`Full`](crate::ErrorKind::Full) or [`Io`](crate::ErrorKind::Io);
    /// the run is then interrupted.
    pub fn fail(mut self, message: &str) -> Result<(), Error> {
        self.log.append(kind::FAILED, &json!({"message": message}))?;
        Ok(())
    }

    /// Ends the run because its code panicked, and says where. It can be resumed.
    ///
    /// # Errors
    ///
    /// As [`RunWriter::fail`].
    pub fn crash(mut self, message: &str) -> Result<(), Error> {
        self.log.append(kind::CRASHED, &json!({"message": message}))?;
        Ok(())
    }

    /// Ends the process's part of the run because it was asked to stop. It can be resumed.
    ///
    /// # Errors
    ///
    /// As [`RunWriter::fail`].
    pub fn interrupt(mut self) -> Result<(), Error> {
        self.log.append(kind::INTERRUPTED, &json!({}))?;
        Ok(())
    }
}

/// Whether more has happened in `dir` than the beginning of a run.
///
/// A directory without `record.json` is a beginning that was cut off. With a history, the file is
/// missing, and writing over the rest would lose a run.
pub(crate) fn has_history(dir: &Path, id: &str) -> Result<bool, Error> {
    let path = dir.join(EVENTS);
    let n_events = match files::read_if_there(&path)? {
        Some(bytes) => parse(&path, id, &bytes)?.events.items.len(),
        None => 0,
    };
    let n_checkpoints = files::names_in(&dir.join(CHECKPOINTS))?.len();
    Ok(n_events > 1 || n_checkpoints > 0 || dir.join(RESULT).exists())
}

/// Removes files whose writing was cut off.
fn remove_temps(dir: &Path) -> Result<(), Error> {
    let entries = std::fs::read_dir(dir).map_err(|source| Error::reading(dir, source))?;
    for entry in entries {
        let path = entry.map_err(|source| Error::reading(dir, source))?.path();
        if path.is_dir() {
            remove_temps(&path)?;
        } else if path.as_os_str().to_string_lossy().ends_with(TEMP) {
            files::remove(&path)?;
        }
    }
    Ok(())
}
