//! Questions to an index that is up to the directories: which runs fit, in which order, with which values.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::{OptionalExtension as _, Transaction};
use serde_json::{Value, json};

use super::Listed;
use super::fields::{Column, Pack, parsed, visit};
use crate::filter::{Filter, at, total_order};
use crate::format::RECORD;
use crate::lock::RunLock;

/// Which runs, in which order, and how many of them.
///
/// # Example
///
/// ```
/// use mnemoscope_store::{Selection, Store};
///
/// # let dir = tempfile::tempdir()?;
/// let store = Store::open(&dir.path().join("runs"))?;
/// // The ten youngest of the sealed runs.
/// let selection = Selection {
///     filters: vec!["status=sealed".parse()?],
///     sort: Some("created_secs".to_owned()),
///     descending: true,
///     most: Some(10),
///     ..Selection::default()
/// };
/// assert_eq!(store.select(&selection)?.n_fit, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// All of these hold.
    pub filters: Vec<Filter>,
    /// The field to sort by; `None` sorts by `created_secs`. Where it is equal, ids decide.
    pub sort: Option<String>,
    /// From the largest to the smallest.
    pub descending: bool,
    /// So many of the first are left out: those of the pages before.
    pub skip: usize,
    /// The first so many of the others; `None` for all.
    pub most: Option<usize>,
}

/// What was selected.
#[derive(Clone, Debug, PartialEq)]
pub struct Selected {
    /// Runs that fit, also those before and beyond the ones that were asked for.
    pub n_fit: usize,
    /// The runs, in order.
    pub runs: Vec<Listed>,
}

/// Where a run is known from.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// A pack and the place in it.
    Packed(usize, usize),
    /// The loose ones.
    Loose(usize),
}

/// Everything that is needed of all runs to answer one question.
struct Table<'p> {
    packs: Vec<Packed<'p>>,
    loose: Vec<Value>,
}

/// Some columns of a pack.
struct Packed<'p> {
    ids: &'p [String],
    columns: BTreeMap<String, Column>,
}

impl<'p> Table<'p> {
    /// Reads the columns of `paths`, and the loose runs with the status of this moment.
    fn read(
        index: &Transaction<'_>,
        packs: &'p [Pack],
        root: &Path,
        paths: &BTreeSet<&str>,
    ) -> rusqlite::Result<Self> {
        let mut column = index.prepare("SELECT data FROM field WHERE path = ?1 AND pack = ?2")?;
        let mut read = Vec::with_capacity(packs.len());
        for Pack { pack, ids } in packs {
            let mut columns = BTreeMap::new();
            for &path in paths {
                let data: Option<String> =
                    column.query_row((path, pack), |row| row.get(0)).optional()?;
                if let Some(data) = data {
                    columns.insert(path.to_owned(), parsed(&data)?);
                }
            }
            read.push(Packed { ids, columns });
        }
        Ok(Self { packs: read, loose: loose(index, root)? })
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        let packed = self.packs.iter().enumerate();
        let packed = packed
            .flat_map(|(pack, it)| (0..it.ids.len()).map(move |idx| Place::Packed(pack, idx)));
        packed.chain((0..self.loose.len()).map(Place::Loose))
    }

    fn value(&self, place: Place, path: &str) -> &Value {
        match place {
            Place::Loose(idx) => at(&self.loose[idx], path),
            Place::Packed(pack, idx) => {
                self.packs[pack].columns.get(path).unwrap_or(&Column::NOTHING_REF).at(idx)
            }
        }
    }

    fn id(&self, place: Place) -> &str {
        match place {
            Place::Loose(idx) => self.loose[idx]["id"].as_str().unwrap_or_default(),
            Place::Packed(pack, idx) => &self.packs[pack].ids[idx],
        }
    }

    /// The places that a selection asks for, in its order; all that fit.
    fn fitting(&self, selection: &Selection) -> Vec<Place> {
        let filter = Filter::all(&selection.filters);
        let fits = |&place: &Place| filter.holds(&|path| self.value(place, path));
        let mut fitting: Vec<Place> = self.places().filter(fits).collect();
        let sort = sort_path(selection);
        let order = |a: &Place, b: &Place| {
            let by_field = total_order(self.value(*a, sort), self.value(*b, sort));
            let ordering = by_field.then_with(|| self.id(*a).cmp(self.id(*b)));
            if selection.descending { ordering.reverse() } else { ordering }
        };
        match selection.most.map(|most| most.saturating_add(selection.skip)) {
            // Of many, only the first need be in order.
            Some(most) if most > 0 && most < fitting.len() => {
                fitting.select_nth_unstable_by(most - 1, order);
                fitting[..most].sort_by(order);
            }
            _ => fitting.sort_by(order),
        }
        fitting
    }
}

/// Those of the runs that fit that are on the page that was asked for.
fn on_page<'f>(fitting: &'f [Place], selection: &Selection) -> impl Iterator<Item = &'f Place> {
    fitting.iter().skip(selection.skip).take(selection.most.unwrap_or(usize::MAX))
}

impl Column {
    const NOTHING_REF: Self = Self::NOTHING;
}

fn sort_path(selection: &Selection) -> &str {
    selection.sort.as_deref().unwrap_or("created_secs")
}

/// Every path that a selection needs.
fn paths(selection: &Selection) -> BTreeSet<&str> {
    let mut paths: BTreeSet<&str> = selection.filters.iter().flat_map(Filter::fields).collect();
    paths.insert(sort_path(selection));
    paths
}

/// The runs that are in no pack.
fn loose(index: &Transaction<'_>, root: &Path) -> rusqlite::Result<Vec<Value>> {
    let mut rows = index.prepare(
        "SELECT entry, sealed FROM run JOIN entry USING (id) WHERE pack IS NULL ORDER BY id",
    )?;
    let rows = rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)))?;
    rows.map(|row| {
        let (entry, sealed) = row?;
        let mut entry: Value = parsed(&entry)?;
        if !sealed {
            look_who_writes(root, &mut entry);
        }
        Ok(entry)
    })
    .collect()
}

/// Whether a run is being written is known only now.
fn look_who_writes(root: &Path, entry: &mut Value) {
    let id = entry["id"].as_str().unwrap_or_default().to_owned();
    if entry["status"] == "sealed" || !RunLock::is_held(&root.join(&id)) {
        return;
    }
    entry["status"] = json!("running");
    // A run that is just beginning has no record yet; that is no damage.
    if !root.join(&id).join(RECORD).exists() {
        entry["problem"] = Value::Null;
    }
}

/// The runs of a selection.
pub(super) fn select(
    index: &Transaction<'_>,
    packs: &[Pack],
    root: &Path,
    selection: &Selection,
) -> rusqlite::Result<Selected> {
    let table = Table::read(index, packs, root, &paths(selection))?;
    let fitting = table.fitting(selection);
    let mut entry = index.prepare("SELECT entry FROM entry WHERE id = ?1")?;
    let mut runs = Vec::new();
    for &place in on_page(&fitting, selection) {
        let listed = match place {
            Place::Loose(idx) => table.loose[idx].clone(),
            Place::Packed(pack, idx) => {
                let id = &table.packs[pack].ids[idx];
                let text: String = entry.query_row([id], |row| row.get(0))?;
                parsed(&text)?
            }
        };
        let mut listed: Listed = serde_json::from_value(listed)
            .map_err(|fault| rusqlite::Error::ToSqlConversionFailure(fault.into()))?;
        // Not from the index: the store may have been moved.
        listed.path = root.join(&listed.id);
        runs.push(listed);
    }
    Ok(Selected { n_fit: fitting.len(), runs })
}

/// The values of `wanted` in each run of a selection.
pub(super) fn values(
    index: &Transaction<'_>,
    packs: &[Pack],
    root: &Path,
    selection: &Selection,
    wanted: &[String],
) -> rusqlite::Result<Vec<Vec<Value>>> {
    let mut all = paths(selection);
    all.extend(wanted.iter().map(String::as_str));
    let table = Table::read(index, packs, root, &all)?;
    let fitting = table.fitting(selection);
    let row = |&place: &Place| {
        wanted
            .iter()
            .map(|path| match table.value(place, path) {
                // What a pack keeps of lists and objects is that they are there.
                Value::Array(_) | Value::Object(_) => Value::Null,
                scalar => scalar.clone(),
            })
            .collect()
    };
    Ok(on_page(&fitting, selection).map(row).collect())
}

/// Every path that leads to a value in some run.
pub(super) fn names(index: &Transaction<'_>) -> rusqlite::Result<Vec<String>> {
    let mut names = BTreeSet::new();
    let mut rows = index.prepare(
        "SELECT DISTINCT path FROM field WHERE data NOT IN ('{\"all\":{}}', '{\"all\":[]}')",
    )?;
    for path in rows.query_map([], |row| row.get::<_, String>(0))? {
        names.insert(path?);
    }
    let mut rows =
        index.prepare("SELECT entry FROM run JOIN entry USING (id) WHERE pack IS NULL")?;
    for entry in rows.query_map([], |row| row.get::<_, String>(0))? {
        visit(&parsed(&entry?)?, String::new(), &mut |path, value| {
            if !value.is_object() && !value.is_array() {
                names.insert(path);
            }
        });
    }
    Ok(names.into_iter().collect())
}
