//! Events: the append-only part of a record, one line each.
//!
//! ```text
//! {"blake3":"<64 hex>","event":{"data":{...},"idx":7,"kind":"curve"}}<newline>
//!                      ^------------- the checksum covers ----------^
//! ```
//!
//! The checksum also covers the checksum of the event before (for the first: the id of the run),
//! so that no event can be changed, removed, moved or brought in from elsewhere. What is on the
//! disk after a crash is a prefix of what was written: whole events, then perhaps a part of one.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::canonical::to_canonical;
use crate::error::{Cause, Error};
use crate::files;
use crate::format::{split_checksum, with_checksum};

/// Kinds that the store itself writes; [`RunWriter::append`](crate::RunWriter::append) refuses them.
pub mod kind {
    /// The run began: `{"plan": hash, "record": hash}`.
    pub const BEGUN: &str = "begun";
    /// A checkpoint is on the disk: `{"step", "blake3", "n_bytes"}`.
    pub const CHECKPOINT: &str = "checkpoint";
    /// Checkpoints were removed on purpose: `{"steps": [..]}`.
    pub const PRUNED: &str = "pruned";
    /// A file without a checksum of its own is on the disk: `{"name", "blake3", "n_bytes"}`.
    pub const FILE: &str = "file";
    /// The run goes on after an interruption:
    /// `{"from_event", "step", "meta", "damaged": [..], "torn"}`. Events after `from_event` and
    /// before this one are superseded.
    pub const RESUMED: &str = "resumed";
    /// The run was asked to stop: `{}`.
    pub const INTERRUPTED: &str = "interrupted";
    /// The run could not go on: `{"message"}`.
    pub const FAILED: &str = "failed";
    /// The run panicked: `{"message"}`.
    pub const CRASHED: &str = "crashed";
    /// Nothing follows: `{"result": hash, "files": {name: hash}}`.
    pub const SEALED: &str = "sealed";

    /// All of them.
    pub const ALL: [&str; 9] =
        [BEGUN, CHECKPOINT, PRUNED, FILE, RESUMED, INTERRUPTED, FAILED, CRASHED, SEALED];
}

/// One line of a record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Its number, from 0.
    pub idx: u64,
    /// What it says: one of [`kind`], or the caller's.
    pub kind: String,
    /// What the writer gave.
    pub data: Value,
    /// Whether a later resume went back behind it: it happened, but is no part of the result.
    pub superseded: bool,
}

/// Everything that a record says happened, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Events {
    /// Every whole event.
    pub items: Vec<Event>,
    /// The rest of an event whose writing was cut off, if there is one.
    pub torn: Option<Torn>,
}

impl Events {
    /// The events that count: those that no resume went back behind.
    pub fn live(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.items.iter().filter(|event| !event.superseded)
    }

    /// The live events of one kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl DoubleEndedIterator<Item = &'a Event> {
        self.live().filter(move |event| event.kind == kind)
    }
}

/// A last event whose writing was cut off; every event before it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Torn {
    /// The number it would have had.
    pub event_idx: u64,
    /// How many bytes of it there are.
    pub n_bytes: u64,
}

/// The checksum of an event, from the checksum before it and the text it covers.
fn chain(before: &str, rest: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before.as_bytes()).update(b"\n").update(rest);
    hasher.finalize().to_hex().to_string()
}

/// One line with its newline, and its checksum.
fn encode(before: &str, idx: u64, kind: &str, data: &Value) -> (String, String) {
    let event = to_canonical(&json!({"data": data, "idx": idx, "kind": kind}));
    let rest = format!("\"event\":{event}}}");
    let checksum = chain(before, rest.as_bytes());
    let mut line = with_checksum(&checksum, &rest);
    line.push('\n');
    (line, checksum)
}

/// What the bytes of an events file hold.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) events: Events,
    /// The checksum of the last whole event.
    pub(crate) head: String,
    /// Where the last whole event ends.
    pub(crate) n_good_bytes: u64,
}

/// Reads `bytes`, the content of `path`, as the events of run `id`.
///
/// # Errors
///
/// Corrupt, with the number of the first event that is not as it was written. A part of an event
/// at the very end is no error: see [`Events::torn`].
pub(crate) fn parse(path: &Path, id: &str, bytes: &[u8]) -> Result<Parsed, Error> {
    let mut items: Vec<Event> = Vec::new();
    let mut head = id.to_owned();
    let mut n_good_bytes = 0;
    let mut torn = None;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let event_idx = items.len() as u64;
        // A line that ends the file without a newline was cut off. So was one with a hole in it, and all behind it:
        // after a power failure a file can have its new length before it has the new bytes, and later pages before
        // earlier ones.
        if line.last() != Some(&b'\n') || has_hole(line) {
            torn = Some(Torn { event_idx, n_bytes: (bytes.len() - n_good_bytes) as u64 });
            break;
        }
        let damaged =
            |why| Error::from(Cause::DamagedEvent { path: path.to_owned(), event_idx, why });
        let (event, checksum) = decode(&head, line).map_err(damaged)?;
        if event.idx != event_idx {
            return Err(damaged("its number is not in order"));
        }
        items.push(Event { idx: event.idx, kind: event.kind, data: event.data, superseded: false });
        head = checksum;
        n_good_bytes += line.len();
    }
    supersede(&mut items);
    Ok(Parsed { events: Events { items, torn }, head, n_good_bytes: n_good_bytes as u64 })
}

/// Whether some bytes never arrived: a run of zeros, too long to be one damaged byte, where no
/// zero is ever written.
fn has_hole(line: &[u8]) -> bool {
    line.windows(16).any(|bytes| bytes == [0; 16])
}

/// An event as it is stored. Fields that a newer minor added are left aside.
#[derive(Deserialize)]
struct Stored {
    idx: u64,
    kind: String,
    data: Value,
}

#[derive(Deserialize)]
struct Line {
    event: Stored,
}

fn decode(before: &str, line: &[u8]) -> Result<(Stored, String), &'static str> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let (found, rest) = split_checksum(line).ok_or("it does not begin with a checksum")?;
    let checksum = chain(before, rest);
    if found != checksum.as_bytes() {
        return Err("its checksum does not fit it and the events before it");
    }
    match serde_json::from_slice::<Line>(line) {
        Ok(line) => Ok((line.event, checksum)),
        Err(_) => Err("its content is not readable"),
    }
}

/// Marks what later resumes went back behind.
fn supersede(items: &mut [Event]) {
    for at in 0..items.len() {
        if items[at].kind != kind::RESUMED {
            continue;
        }
        let from = items[at].data["from_event"].as_u64().unwrap_or(0);
        let first = usize::try_from(from).unwrap_or(usize::MAX).saturating_add(1);
        if first < at {
            items[first..at].iter_mut().for_each(|event| event.superseded = true);
        }
    }
}

/// The end of an events file, where the next event goes.
#[derive(Debug)]
pub(crate) struct EventLog {
    path: PathBuf,
    file: File,
    /// Behind the last event.
    end: Mark,
    /// Behind the last event that survives a power failure.
    synced: Mark,
    /// Whether there may be something behind `end`.
    dirty: bool,
}

/// A place between two events.
#[derive(Clone, Debug)]
struct Mark {
    /// The checksum of the event before it.
    head: String,
    n_events: u64,
    n_bytes: u64,
}

impl EventLog {
    /// Writes the events file of a new run with its first event.
    pub(crate) fn create(path: &Path, id: &str, data: &Value) -> Result<Self, Error> {
        let (line, head) = encode(id, 0, kind::BEGUN, data);
        files::write_atomic(path, line.as_bytes())?;
        let end = Mark { head, n_events: 1, n_bytes: line.len() as u64 };
        let (file, synced) = (append_to(path)?, end.clone());
        Ok(Self { path: path.to_owned(), file, end, synced, dirty: false })
    }

    /// Goes on behind the last whole event; a torn one is removed.
    pub(crate) fn reopen(path: &Path, parsed: &Parsed) -> Result<Self, Error> {
        let end = Mark {
            head: parsed.head.clone(),
            n_events: parsed.events.items.len() as u64,
            n_bytes: parsed.n_good_bytes,
        };
        let (file, synced) = (append_to(path)?, end.clone());
        let dirty = parsed.events.torn.is_some();
        let mut log = Self { path: path.to_owned(), file, end, synced, dirty };
        log.clean()?;
        Ok(log)
    }

    /// Appends one event; when this returns, it and all before it survive a power failure. Returns its number.
    ///
    /// If it cannot be written whole, nothing of it stays; if the disk refuses to keep it, nothing of what it was
    /// not asked to keep before.
    pub(crate) fn append(&mut self, kind: &str, data: &Value) -> Result<u64, Error> {
        let idx = self.append_unsynced(kind, data)?;
        if let Err(source) = self.file.sync_data() {
            self.end = self.synced.clone();
            self.dirty = true;
            // If even this fails, the next append tries again.
            self.clean().ok();
            return Err(Error::writing(&self.path, source));
        }
        self.synced = self.end.clone();
        Ok(idx)
    }

    /// Appends one event that survives the death of this process, and a power failure from the next
    /// [`append`](Self::append) on. Returns its number.
    ///
    /// If it cannot be written whole, nothing of it stays.
    pub(crate) fn append_unsynced(&mut self, kind: &str, data: &Value) -> Result<u64, Error> {
        self.clean()?;
        let Mark { head, n_events: idx, n_bytes } = &self.end;
        let (line, head) = encode(head, *idx, kind, data);
        let (idx, n_bytes) = (*idx, n_bytes + line.len() as u64);
        self.dirty = true;
        if let Err(source) = files::write_all(&mut self.file, line.as_bytes()) {
            // If even this fails, the next append tries again, and a reader sees a torn event.
            self.clean().ok();
            return Err(Error::writing(&self.path, source));
        }
        self.dirty = false;
        self.end = Mark { head, n_events: idx + 1, n_bytes };
        Ok(idx)
    }

    fn clean(&mut self) -> Result<(), Error> {
        if self.dirty {
            files::set_len(&self.file, self.end.n_bytes)
                .map_err(|source| Error::writing(&self.path, source))?;
            self.dirty = false;
        }
        Ok(())
    }
}

fn append_to(path: &Path) -> Result<File, Error> {
    OpenOptions::new().append(true).open(path).map_err(|source| Error::writing(path, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    const ID: &str = "3f9c";

    /// The bytes of a run's events, and where each event ends.
    fn stream(id: &str, events: &[(&str, Value)]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends, mut head) = (Vec::new(), Vec::new(), id.to_owned());
        for (idx, (kind, data)) in events.iter().enumerate() {
            let (line, checksum) = encode(&head, idx as u64, kind, data);
            bytes.extend_from_slice(line.as_bytes());
            ends.push(bytes.len());
            head = checksum;
        }
        (bytes, ends)
    }

    fn short() -> (Vec<u8>, Vec<usize>) {
        stream(
            ID,
            &[
                (kind::BEGUN, json!({})),
                ("curve", json!({"step": 100, "loss_nats": 0.625_125})),
                ("note", json!("two\nlines")),
                ("curve", json!({"step": 200, "loss_nats": 1e-9})),
            ],
        )
    }

    fn read(bytes: &[u8]) -> Result<Parsed, Error> {
        parse(Path::new("events.jsonl"), ID, bytes)
    }

    #[test]
    fn the_line_is_pinned() {
        let (line, _) = encode(ID, 7, "curve", &json!({"step": 100, "loss_nats": 0.5}));
        assert_eq!(
            line,
            concat!(
                r#"{"blake3":"d65764fe96bc6bc72e5a797a4f7250d251fcb9205323382ad831ca7480a74830","#,
                r#""event":{"data":{"loss_nats":0.5,"step":100},"idx":7,"kind":"curve"}}"#,
                "\n"
            )
        );
    }

    /// All 255 ways to change each byte: damage is an error that names the event, and only at the
    /// very end, where it looks like a write that was cut off, a torn event.
    #[test]
    fn every_changed_byte_is_seen() {
        let (whole, ends) = short();
        let last = ends.len() - 1;
        for at in 0..whole.len() {
            let event_idx = ends.iter().filter(|&&end| end <= at).count();
            for flip in 1..=255_u8 {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                match read(&bytes) {
                    Ok(parsed) => {
                        assert_eq!(event_idx, last, "byte {at} xor {flip} went unseen");
                        assert!(parsed.events.torn.is_some(), "byte {at} xor {flip} went unseen");
                        assert_eq!(parsed.events.items.len(), last);
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Corrupt);
                        let place = format!("damaged at event {event_idx}:");
                        assert!(error.to_string().contains(&place), "{error}, not {place}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_cut_keeps_all_whole_events() {
        let (whole, ends) = short();
        let expected = read(&whole).unwrap().events.items;
        for n_bytes in 0..=whole.len() {
            let parsed = read(&whole[..n_bytes]).unwrap();
            let n_whole = ends.iter().filter(|&&end| end <= n_bytes).count();
            let n_good = if n_whole == 0 { 0 } else { ends[n_whole - 1] };
            assert_eq!(parsed.events.items, expected[..n_whole]);
            assert_eq!(parsed.n_good_bytes, n_good as u64);
            let n_torn = (n_bytes - n_good) as u64;
            let torn = (n_torn > 0).then_some(Torn { event_idx: n_whole as u64, n_bytes: n_torn });
            assert_eq!(parsed.events.torn, torn);
        }
    }

    #[test]
    fn zeros_where_the_last_event_should_be_are_a_torn_event() {
        let (mut bytes, ends) = short();
        bytes[ends[2] + 10..].fill(0);
        assert_eq!(read(&bytes).unwrap().events.torn.unwrap().event_idx, 3);
        // Also if the page with the newline did arrive.
        *bytes.last_mut().unwrap() = b'\n';
        assert_eq!(read(&bytes).unwrap().events.torn.unwrap().event_idx, 3);
        // And if a whole event behind the hole did.
        let (mut bytes, ends) = short();
        bytes[ends[1] + 3..ends[2] - 3].fill(0);
        let parsed = read(&bytes).unwrap();
        let n_bytes = (bytes.len() - ends[1]) as u64;
        assert_eq!(parsed.events.torn, Some(Torn { event_idx: 2, n_bytes }));
        assert_eq!(parsed.events.items.len(), 2);
    }

    #[test]
    fn events_cannot_be_removed_swapped_repeated_or_brought_from_another_run() {
        let (whole, ends) = short();
        let lines: Vec<&[u8]> = whole.split_inclusive(|&byte| byte == b'\n').collect();
        let broken = [
            [lines[0], lines[2], lines[3]].concat(),
            [lines[0], lines[2], lines[1], lines[3]].concat(),
            [lines[0], lines[1], lines[1], lines[2]].concat(),
            [lines[1], lines[2], lines[3]].concat(),
            [stream("4a", &[(kind::BEGUN, json!({}))]).0.as_slice(), &whole[ends[0]..]].concat(),
        ];
        for bytes in broken {
            assert_eq!(read(&bytes).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn a_resume_supersedes_what_came_after_its_checkpoint_and_nothing_else() {
        let resumed = |from: u64| (kind::RESUMED, json!({"from_event": from}));
        let (bytes, _) = stream(
            ID,
            &[
                (kind::BEGUN, json!({})),      // 0
                ("curve", json!(1)),           // 1
                (kind::CHECKPOINT, json!({})), // 2
                ("curve", json!(2)),           // 3
                resumed(2),                    // 4
                ("curve", json!(2)),           // 5
                (kind::CHECKPOINT, json!({})), // 6
                ("curve", json!(3)),           // 7
                resumed(6),                    // 8
                resumed(6),                    // 9
            ],
        );
        let live = |bytes: &[u8]| -> Vec<u64> {
            read(bytes).unwrap().events.live().map(|event| event.idx).collect()
        };
        assert_eq!(live(&bytes), [0, 1, 2, 4, 5, 6, 9]);
        let (again, _) = stream(ID, &[(kind::BEGUN, json!({})), ("curve", json!(1)), resumed(0)]);
        assert_eq!(live(&again), [0, 2]);
    }

    proptest! {
        #[test]
        fn every_event_comes_back(
            events in prop::collection::vec((".*", ".*", any::<i64>(), prop::num::f64::NORMAL), 0..8)
        ) {
            let events: Vec<(String, Value)> = events
                .into_iter()
                .map(|(kind, text, number, float)| (kind, json!({"a": text, "b": [number, float]})))
                .collect();
            let given: Vec<(&str, Value)> =
                events.iter().map(|(kind, data)| (kind.as_str(), data.clone())).collect();
            let parsed = read(&stream(ID, &given).0).unwrap();
            let found: Vec<(String, Value)> =
                parsed.events.items.into_iter().map(|event| (event.kind, event.data)).collect();
            prop_assert_eq!(parsed.events.torn, None);
            // `from_event` is not among these data, so nothing is superseded either.
            prop_assert_eq!(found, events);
        }

        #[test]
        fn anything_at_all_is_torn_or_refused(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
            match read(&bytes) {
                Ok(parsed) => prop_assert!(parsed.events.torn.is_some()),
                Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Corrupt),
            }
        }
    }
}
