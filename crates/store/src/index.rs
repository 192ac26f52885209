//! The index: what is known of every run, kept in SQLite so that listing thousands is quick.
//!
//! It is derived. Each row remembers sizes and times of the files it was made from; every listing
//! compares them with the directories and reads again what differs, so the index may be absent,
//! old or damaged and the listing is still that of the directories. Where it cannot be written or
//! is in use it is made anew in memory.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, ErrorCode, params, params_from_iter};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Cause, Error};
use crate::files;
use crate::format::{EVENTS, INDEX, LOCK, PLAN, RECORD, RESULT};
use crate::lock::RunLock;
use crate::read::{RunReader, Status};
use crate::write::has_history;

/// The layout of the index; another one is thrown away and made anew.
const LAYOUT: i64 = 1;
/// How long to wait for another process that is writing the index.
const PATIENCE: Duration = Duration::from_secs(2);
/// The files by which a directory is known to be a run.
const MARKS: [&str; 5] = [RECORD, PLAN, EVENTS, RESULT, LOCK];

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

/// A condition on a run: a path into its listing, a comparison and a value.
///
/// The path begins with `id`, `status`, `created_secs`, `problem`, `plan`, `meta` or `result`;
/// numbers in it count array items. Numbers are compared with numbers and text with text: a run
/// where the path leads nowhere, or to another kind of value, fits `!=` only. A text that looks
/// like a number is written in quotes: `meta.host="7"`.
///
/// # Example
///
/// ```
/// use mnemoscope_store::Filter;
///
/// let filter: Filter = "plan.model.n_layers>=2".parse()?;
/// assert_eq!(filter.to_string(), "plan.model.n_layers>=2");
/// assert!("plan.model.n_layers".parse::<Filter>().is_err());
/// # Ok::<(), mnemoscope_store::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    path: String,
    op: &'static str,
    value: Value,
}

/// Comparisons, the longer before those they begin with.
const OPS: [&str; 6] = ["!=", "<=", ">=", "=", "<", ">"];
const ROOTS: [&str; 7] = ["id", "status", "created_secs", "problem", "plan", "meta", "result"];

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |why| Error::from(Cause::Filter { text: text.to_owned(), why });
        let at = text.find(['!', '<', '>', '=']).ok_or_else(|| refuse("compares nothing"))?;
        let (path, rest) = text.split_at(at);
        let op = OPS.into_iter().find(|op| rest.starts_with(op));
        let op = op.ok_or_else(|| refuse("has no comparison among = != < <= > >="))?;
        let value = rest[op.len()..].trim();
        let path = path.trim();
        let root = path.split('.').next().unwrap_or_default();
        if !ROOTS.contains(&root) {
            return Err(refuse(
                "does not begin with id, status, created_secs, problem, plan, meta or result",
            ));
        }
        if path.contains('"') || path.split('.').any(str::is_empty) {
            return Err(refuse("has a path that is not words with points between them"));
        }
        if value.is_empty() {
            return Err(refuse("compares with nothing"));
        }
        let value = match serde_json::from_str(value) {
            Ok(Value::String(quoted)) => quoted.into(),
            // An id of digits alone is still a text.
            Ok(scalar @ (Value::Number(_) | Value::Bool(_) | Value::Null)) if root != "id" => {
                scalar
            }
            _ => value.into(),
        };
        Ok(Self { path: path.to_owned(), op, value })
    }
}

impl std::fmt::Display for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bare = |text: &String| serde_json::from_str::<Value>(text).is_err();
        match &self.value {
            Value::String(text) if bare(text) => write!(f, "{}{}{text}", self.path, self.op),
            value => write!(f, "{}{}{value}", self.path, self.op),
        }
    }
}

impl Filter {
    /// The condition in SQL, with its parameters appended to `params`.
    fn to_sql(&self, params: &mut Vec<Sql>) -> String {
        let mut path = "$".to_owned();
        for part in self.path.split('.') {
            if part.bytes().all(|byte| byte.is_ascii_digit()) {
                path.push_str(&format!("[{part}]"));
            } else {
                path.push_str(&format!(".\"{part}\""));
            }
        }
        let (value, kinds) = match &self.value {
            Value::Bool(flag) => (Sql::Integer(i64::from(*flag)), "'true','false'"),
            Value::Number(number) => match number.as_i64() {
                Some(integer) => (Sql::Integer(integer), "'integer','real'"),
                None => (Sql::Real(number.as_f64().unwrap_or(f64::NAN)), "'integer','real'"),
            },
            Value::String(text) => (Sql::Text(text.clone()), "'text'"),
            _ => (Sql::Null, "'null'"),
        };
        params.push(Sql::Text(path));
        let path = format!("?{}", params.len());
        params.push(value);
        let value = format!("?{}", params.len());
        let fits = match (self.op, &self.value) {
            ("=" | "!=", Value::Null) => format!("json_extract(entry, {path}) IS {value}"),
            (op, _) => {
                let op = if op == "!=" { "=" } else { op };
                format!(
                    "(coalesce(json_type(entry, {path}), '') IN ({kinds}) \
                     AND json_extract(entry, {path}) {op} {value})"
                )
            }
        };
        if self.op == "!=" { format!("NOT {fits}") } else { fits }
    }
}

/// Lists the runs in `root` that fit every filter, oldest first.
pub(crate) fn list(root: &Path, filters: &[Filter]) -> Result<Vec<Listed>, Error> {
    let there = runs_in(root)?;
    if let Some(listed) = on_disk(root, &there, filters) {
        return Ok(listed);
    }
    let in_memory = || {
        let mut index = Connection::open_in_memory()?;
        lay_out(&index)?;
        refresh_and_select(&mut index, root, &there, filters)
    };
    in_memory().map_err(|source| Cause::Index { source }.into())
}

/// Throws the index away and makes it anew from the directories.
pub(crate) fn rebuild(root: &Path) -> Result<(), Error> {
    files::remove(&root.join(INDEX))?;
    list(root, &[]).map(drop)
}

/// The listing by way of the file, or `None` if the file cannot be used.
fn on_disk(root: &Path, there: &[String], filters: &[Filter]) -> Option<Vec<Listed>> {
    let path = root.join(INDEX);
    for _attempt in 0..2 {
        let listed =
            open(&path).and_then(|mut index| refresh_and_select(&mut index, root, there, filters));
        match listed {
            Ok(listed) => return Some(listed),
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
    let layout: i64 = index.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if layout != LAYOUT {
        index.execute_batch("BEGIN IMMEDIATE; DROP TABLE IF EXISTS run;")?;
        lay_out(&index)?;
        index.execute_batch("COMMIT")?;
    }
    Ok(index)
}

fn lay_out(index: &Connection) -> rusqlite::Result<()> {
    index.execute_batch(&format!(
        "CREATE TABLE run (id TEXT PRIMARY KEY, files TEXT NOT NULL, entry TEXT NOT NULL);
         PRAGMA user_version = {LAYOUT};"
    ))
}

/// Brings the index up to the directories, then asks it.
fn refresh_and_select(
    index: &mut Connection,
    root: &Path,
    there: &[String],
    filters: &[Filter],
) -> rusqlite::Result<Vec<Listed>> {
    let index = index.transaction()?;
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    {
        let mut rows = index.prepare("SELECT id, files FROM run")?;
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        for row in rows {
            let (id, files) = row?;
            known.insert(id, files);
        }
    }
    for id in there {
        // Before the reading: what changes meanwhile is seen by the next listing.
        let files = fingerprint(&root.join(id));
        if known.remove(id).as_ref() != Some(&files) {
            let entry = serde_json::to_string(&look(root, id)).unwrap_or_default();
            index.execute(
                "INSERT OR REPLACE INTO run (id, files, entry) VALUES (?1, ?2, ?3)",
                params![id, files, entry],
            )?;
        }
    }
    for gone in known.keys() {
        index.execute("DELETE FROM run WHERE id = ?1", [gone])?;
    }
    let listed = select(&index, root, filters)?;
    index.commit()?;
    Ok(listed)
}

/// The rows that fit, with the status of this moment.
fn select(index: &Connection, root: &Path, filters: &[Filter]) -> rusqlite::Result<Vec<Listed>> {
    // Whether a run is being written is known only now, so it is put in before the asking.
    index.execute_batch(
        "CREATE TEMP TABLE IF NOT EXISTS live (id TEXT PRIMARY KEY, entry TEXT NOT NULL);
         DELETE FROM live;
         INSERT INTO live SELECT id, entry FROM run;",
    )?;
    let open: Vec<String> = {
        let sql = "SELECT id FROM live WHERE json_extract(entry, '$.status') IS NOT 'sealed'";
        let mut rows = index.prepare(sql)?;
        rows.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?
    };
    for id in open.iter().filter(|id| RunLock::is_held(&root.join(id))) {
        // A run that is just beginning has no record yet; that is no damage.
        let cleared = if root.join(id).join(RECORD).exists() { "" } else { ", '$.problem', null" };
        let sql = format!(
            "UPDATE live SET entry = json_set(entry, '$.status', 'running'{cleared}) WHERE id = ?1"
        );
        index.execute(&sql, [id])?;
    }
    let mut params = Vec::new();
    let mut sql = "SELECT entry FROM live WHERE 1".to_owned();
    for filter in filters {
        let condition = filter.to_sql(&mut params);
        sql.push_str(" AND ");
        sql.push_str(&condition);
    }
    sql.push_str(" ORDER BY json_extract(entry, '$.created_secs') NULLS FIRST, id");
    let mut rows = index.prepare(&sql)?;
    let rows = rows.query_map(params_from_iter(params), |row| row.get::<_, String>(0))?;
    rows.map(|entry| {
        let mut listed: Listed = serde_json::from_str(&entry?)
            .map_err(|fault| rusqlite::Error::ToSqlConversionFailure(fault.into()))?;
        // Not from the index: the store may have been moved.
        listed.path = root.join(&listed.id);
        Ok(listed)
    })
    .collect()
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
    names.retain(|name| {
        !name.starts_with('.') && MARKS.iter().any(|mark| root.join(name).join(mark).exists())
    });
    Ok(names)
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
