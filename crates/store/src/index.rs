//! The index: what is known of every run, kept in SQLite so that asking thousands is quick.
//!
//! It is derived. Each row remembers sizes and times of the files it was made from; every listing compares them with
//! the directories and reads again what differs, so the index may be absent, old or damaged and the listing is still
//! that of the directories. Where it cannot be written or is in use it is made anew in memory.
//!
//! Sealed runs are never altered, so many of them are packed field by field: a question about three fields of a hundred
//! thousand runs then reads three columns and no run. In a store of more than `LARGE` runs the files of those are not
//! looked at again at each listing; `rebuild` looks at all.

mod fields;
mod select;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Cause, Error};
use crate::files;
use crate::format::{EVENTS, LOCK, PLAN, RECORD, RESULT};
use crate::place::index_path;
use crate::read::{RunReader, Status};
use crate::write::has_history;
use fields::Pack;
pub use select::{Selected, Selection};

/// The layout of the index; another one is thrown away and made anew.
const LAYOUT: i64 = 2;
/// How long to wait for another process that is writing the index.
const PATIENCE: Duration = Duration::from_secs(2);
/// The files by which a directory is known to be a run.
const MARKS: [&str; 5] = [RECORD, PLAN, EVENTS, RESULT, LOCK];
/// Runs beyond which sealed ones are not looked at again.
const LARGE: usize = 2_000;

/// One run in a listing. A damaged run is listed too, and says what is wrong with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// The name of its directory.
    pub id: String,
    /// Its directory.
    pub path: PathBuf,
    /// When it first began, in seconds since 1970, if that was given.
    pub created_secs: Option<f64>,
    /// How it stands; `None` if that cannot be read.
    pub status: Option<Status>,
    /// Why it cannot be read, if it cannot.
    pub problem: Option<String>,
    /// Its plan; null if it cannot be read.
    pub plan: Value,
    /// What was given besides the plan when it first began; null if it cannot be read.
    pub meta: Value,
    /// Its result; null unless it is sealed.
    pub result: Value,
}

/// Lists the runs in `root` that `selection` asks for.
pub(crate) fn select(root: &Path, selection: &Selection) -> Result<Selected, Error> {
    ask(root, &|index, packs| select::select(index, packs, root, selection))
}

/// The values of `paths` in each run that `selection` asks for, run by run.
pub(crate) fn values(
    root: &Path,
    selection: &Selection,
    paths: &[String],
) -> Result<Vec<Vec<Value>>, Error> {
    ask(root, &|index, packs| select::values(index, packs, root, selection, paths))
}

/// Every field that some run has and that holds a value, sorted.
pub(crate) fn fields(root: &Path) -> Result<Vec<String>, Error> {
    ask(root, &|index, _| select::names(index))
}

/// Throws the index away and makes it anew from the directories.
pub(crate) fn rebuild(root: &Path) -> Result<(), Error> {
    files::remove(&index_path(root))?;
    ask(root, &|_, _| Ok(()))
}

/// A question to the index and its packs.
type Question<'q, T> = &'q dyn Fn(&Transaction<'_>, &[Pack]) -> rusqlite::Result<T>;

/// Brings the index up to the directories, then asks it: the file, or one in memory if the file cannot be used.
fn ask<T>(root: &Path, question: Question<'_, T>) -> Result<T, Error> {
    let names = files::names_in(root)?;
    if let Some(answer) = on_disk(root, &names, question) {
        return Ok(answer);
    }
    let in_memory = || {
        let mut index = Connection::open_in_memory()?;
        lay_out(&index)?;
        refresh_and_ask(&mut index, root, &names, question)
    };
    in_memory().map_err(|source| Cause::Index { source }.into())
}

/// The answer by way of the file, or `None` if the file cannot be used.
fn on_disk<T>(root: &Path, names: &[String], question: Question<'_, T>) -> Option<T> {
    let path = index_path(root);
    for _attempt in 0..2 {
        let answer =
            open(&path).and_then(|mut index| refresh_and_ask(&mut index, root, names, question));
        match answer {
            Ok(answer) => return Some(answer),
            // Made anew once: nothing is in it that is not in the directories.
            Err(rusqlite::Error::SqliteFailure(failure, _))
                if matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) =>
            {
                fs::remove_file(&path).ok()?;
            }
            // In use, not writable, or the disk is full.
            Err(_) => return None,
        }
    }
    None
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let index = Connection::open(path)?;
    index.busy_timeout(PATIENCE)?;
    // It can be made anew at any time, so a power failure may cost it.
    index.execute_batch("PRAGMA synchronous = OFF;")?;
    let layout: i64 = index.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if layout != LAYOUT {
        index.execute_batch(
            "BEGIN IMMEDIATE;
             DROP TABLE IF EXISTS run; DROP TABLE IF EXISTS entry;
             DROP TABLE IF EXISTS pack; DROP TABLE IF EXISTS field;",
        )?;
        lay_out(&index)?;
        index.execute_batch("COMMIT")?;
    }
    Ok(index)
}

/// A row for each run; sealed ones belong to a pack, whose columns are in `field`. What is long stands apart, so that
/// going through all names reads little.
fn lay_out(index: &Connection) -> rusqlite::Result<()> {
    index.execute_batch(&format!(
        "CREATE TABLE run (
             id TEXT PRIMARY KEY, files TEXT NOT NULL, sealed INTEGER NOT NULL, pack INTEGER
         ) WITHOUT ROWID;
         CREATE TABLE entry (id TEXT PRIMARY KEY, entry TEXT NOT NULL);
         CREATE TABLE pack (pack INTEGER PRIMARY KEY, ids TEXT NOT NULL);
         CREATE TABLE field (
             path TEXT, pack INTEGER, data TEXT NOT NULL, PRIMARY KEY (path, pack)
         ) WITHOUT ROWID;
         CREATE INDEX loose ON run (id) WHERE pack IS NULL;
         PRAGMA user_version = {LAYOUT};"
    ))
}

fn refresh_and_ask<T>(
    index: &mut Connection,
    root: &Path,
    names: &[String],
    question: Question<'_, T>,
) -> rusqlite::Result<T> {
    let index = index.transaction()?;
    let packs = refresh(&index, root, names)?;
    let answer = question(&index, &packs)?;
    index.commit()?;
    Ok(answer)
}

/// What the index remembers of a run.
struct Known<'k> {
    id: Cow<'k, str>,
    /// The fingerprint to compare with; none for a run that is not to be looked at again.
    files: Option<String>,
    pack: Option<i64>,
}

/// Names that the index has and the store does not, and the other way round; and those of both to look at again.
struct Compared<'n, 'k> {
    gone: Vec<Known<'k>>,
    new: Vec<&'n String>,
    again: Vec<Known<'k>>,
}

/// Everything that the index knows, sorted by id. Of a large store, what is packed is known by its packs.
fn known<'p>(
    index: &Transaction<'_>,
    packs: &'p [Pack],
    large: bool,
) -> rusqlite::Result<Vec<Known<'p>>> {
    let mut known = Vec::new();
    if large {
        for Pack { pack, ids } in packs {
            let of = |id: &'p String| Known { id: id.into(), files: None, pack: Some(*pack) };
            known.extend(ids.iter().map(of));
        }
    }
    let sql = match large {
        true => "SELECT id, sealed, pack, files FROM run WHERE pack IS NULL",
        false => "SELECT id, sealed, pack, files FROM run",
    };
    let mut rows = index.prepare(sql)?;
    let rows = rows.query_map([], |row| {
        let is_settled = large && row.get(1)?;
        let files = if is_settled { None } else { Some(row.get(3)?) };
        Ok(Known { id: row.get::<_, String>(0)?.into(), files, pack: row.get(2)? })
    })?;
    for row in rows {
        known.push(row?);
    }
    // Packs are sorted in themselves, which a stable sort makes use of.
    known.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(known)
}

/// Goes through the names of both in one order.
fn compare<'n, 'k>(names: &'n [String], known: Vec<Known<'k>>) -> Compared<'n, 'k> {
    let mut compared = Compared { gone: Vec::new(), new: Vec::new(), again: Vec::new() };
    let mut names = names.iter().peekable();
    for known in known {
        while let Some(new) = names.next_if(|name| name.as_str() < &*known.id) {
            compared.new.push(new);
        }
        if names.next_if(|name| name.as_str() == known.id).is_none() {
            compared.gone.push(known);
        } else if known.files.is_some() {
            compared.again.push(known);
        }
    }
    compared.new.extend(names);
    compared
}

fn forget(index: &Transaction<'_>, id: &str) -> rusqlite::Result<()> {
    index.execute("DELETE FROM run WHERE id = ?1", [id])?;
    index.execute("DELETE FROM entry WHERE id = ?1", [id])?;
    Ok(())
}

/// Reads the directory `name` if it is not as it is known, and returns the pack that it was in.
fn look_again(
    index: &Transaction<'_>,
    root: &Path,
    name: &str,
    known: Option<&Known<'_>>,
) -> rusqlite::Result<Option<i64>> {
    let pack = known.and_then(|known| known.pack);
    if !is_run(root, name) {
        forget(index, name)?;
        return Ok(pack);
    }
    // Before the reading: what changes meanwhile is seen by the next listing.
    let files = fingerprint(&root.join(name));
    if known.is_some_and(|known| known.files.as_ref() == Some(&files)) {
        return Ok(None);
    }
    let mut listed = look(root, name);
    let sealed = listed.status == Some(Status::Sealed) && listed.problem.is_none();
    // JSON holds no path that is no text; whoever reads the entry puts the directory's own in its place.
    listed.path = listed.path.to_string_lossy().into_owned().into();
    let entry = serde_json::to_string(&listed).unwrap_or_default();
    index
        .prepare_cached("INSERT OR REPLACE INTO run VALUES (?1, ?2, ?3, NULL)")?
        .execute(params![name, files, sealed])?;
    index
        .prepare_cached("INSERT OR REPLACE INTO entry VALUES (?1, ?2)")?
        .execute(params![name, entry])?;
    Ok(pack)
}

/// Brings the index up to the directories; returns the packs that there are then.
fn refresh(index: &Transaction<'_>, root: &Path, names: &[String]) -> rusqlite::Result<Vec<Pack>> {
    let packs = fields::packs(index)?;
    let Compared { gone, new, again } = compare(names, known(index, &packs, names.len() > LARGE)?);
    let mut broken_packs = BTreeSet::new();
    for Known { id, pack, .. } in gone {
        broken_packs.extend(pack);
        forget(index, &id)?;
    }
    for name in new {
        broken_packs.extend(look_again(index, root, name, None)?);
    }
    for known in again {
        broken_packs.extend(look_again(index, root, &known.id, Some(&known))?);
    }
    for &pack in &broken_packs {
        fields::unpack(index, pack)?;
    }
    let packed = fields::pack(index)?;
    if packed || !broken_packs.is_empty() { fields::packs(index) } else { Ok(packs) }
}

/// What the directory of run `id` says.
fn look(root: &Path, id: &str) -> Listed {
    let path = root.join(id);
    let mut listed = Listed {
        id: id.to_owned(),
        path: path.clone(),
        created_secs: None,
        status: None,
        problem: None,
        plan: Value::Null,
        meta: Value::Null,
        result: Value::Null,
    };
    if !path.join(RECORD).exists() && matches!(has_history(&path, id), Ok(false)) {
        listed.problem =
            Some("its beginning was cut off; running its plan again begins anew".to_owned());
        return listed;
    }
    match open_named(&path, id) {
        Ok(reader) => {
            listed.created_secs = reader.created_secs();
            // Who holds the lock is asked at each listing and not remembered.
            listed.status = Some(match reader.status() {
                Status::Running => Status::Interrupted,
                status => status,
            });
            listed.plan = reader.plan().clone();
            listed.meta = reader.meta().clone();
            listed.result = reader.result().cloned().unwrap_or_default();
        }
        Err(why) => listed.problem = Some(why.to_string()),
    }
    listed
}

/// Opens the run in `path`, which must be the one it is named after.
pub(crate) fn open_named(path: &Path, id: &str) -> Result<RunReader, Error> {
    let reader = RunReader::open(path)?;
    if reader.id() != id {
        let why = format!("it is the record of run `{}` under another name", reader.id());
        return Err(Error::damaged(path, why));
    }
    Ok(reader)
}

/// The names of the directories in `root` that are runs, whole or damaged.
pub(crate) fn runs_in(root: &Path) -> Result<Vec<String>, Error> {
    let mut names = files::names_in(root)?;
    names.retain(|name| is_run(root, name));
    Ok(names)
}

/// Whether `name` is the directory of a run in `root`, whole or damaged.
pub(crate) fn is_run(root: &Path, name: &str) -> bool {
    !name.starts_with('.') && MARKS.iter().any(|mark| root.join(name).join(mark).exists())
}

/// Sizes and times of the files that a row is made from.
fn fingerprint(dir: &Path) -> String {
    let mut text = String::new();
    for name in [RECORD, PLAN, EVENTS, RESULT] {
        match fs::metadata(dir.join(name)) {
            Ok(metadata) => {
                let modified = metadata.modified().ok();
                let modified = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                let nanos = modified.map_or(0, |since| since.as_nanos());
                let changed = changed(&metadata);
                // Writing into a text cannot fail.
                write!(text, "{}@{nanos}@{changed} ", metadata.len()).ok();
            }
            Err(_) => text.push_str("- "),
        }
    }
    text
}

/// A number that differs when a file was replaced by another with the same size and time.
#[cfg(unix)]
fn changed(metadata: &Metadata) -> String {
    use std::os::unix::fs::MetadataExt;
    format!("{}.{}.{}", metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn changed(_metadata: &Metadata) -> String {
    String::new()
}
