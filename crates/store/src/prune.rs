//! Removing what a sealed run no longer needs: old checkpoints, by a policy, and never a record.
//!
//! A note `pruned.json` in the record says which steps are gone on purpose. It is written before anything is removed, so
//! a file that is missing without a note is still damage.

use std::path::Path;

use serde_json::{Value, json};

use crate::checkpoint::CheckpointRef;
use crate::error::Error;
use crate::files;
use crate::format::{PRUNED, encode_json};
use crate::lock::RunLock;
use crate::read::{RunReader, Status, read_json_if_there};
use crate::store::Store;

/// What could be removed of one sealed run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prunable {
    /// The run.
    pub id: String,
    /// Steps whose checkpoints would go, oldest first.
    pub steps: Vec<u64>,
    /// What that would free.
    pub n_bytes: u64,
}

impl Store {
    /// What of the run `id` may go if its newest `n_checkpoints` checkpoints stay; `None` if it is not sealed, or if
    /// there is nothing to remove. Removes nothing.
    ///
    /// # Errors
    ///
    /// As [`Store::find`].
    pub fn prunable(&self, id: &str, n_checkpoints: usize) -> Result<Option<Prunable>, Error> {
        let run = self.find(id)?;
        if run.status() != Status::Sealed {
            return Ok(None);
        }
        let mut checkpoints = run.checkpoints();
        checkpoints.truncate(checkpoints.len().saturating_sub(n_checkpoints));
        // Noted before, and the removing was cut off.
        let noted = |it: &CheckpointRef| run.steps_pruned().contains(&it.step) && it.path.exists();
        checkpoints.extend(run.checkpoints_saved().into_iter().filter(noted));
        checkpoints.sort_by_key(|checkpoint| checkpoint.step);
        if checkpoints.is_empty() {
            return Ok(None);
        }
        Ok(Some(Prunable {
            id: run.id().to_owned(),
            steps: checkpoints.iter().map(|checkpoint| checkpoint.step).collect(),
            n_bytes: checkpoints.iter().map(|checkpoint| checkpoint.n_bytes).sum(),
        }))
    }

    /// Removes what was found prunable.
    ///
    /// # Errors
    ///
    /// [`Locked`](crate::ErrorKind::Locked), and as [`Store::find`]. What was removed by then is noted.
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_store::{Begun, Store};
    /// use serde_json::json;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(&dir.path().join("runs"))?;
    /// let Begun::New(mut run) = store.begin("3f9c", &json!({}), &json!({}))? else { panic!() };
    /// run.save_checkpoint(1, b"early")?;
    /// run.save_checkpoint(2, b"last")?;
    /// run.seal(&json!({}))?;
    /// let prunable = store.prunable("3f9c", 1)?.expect("there is an early one");
    /// assert_eq!((prunable.steps.as_slice(), prunable.n_bytes), (&[1][..], 5));
    /// store.prune(&prunable)?;
    /// assert_eq!(store.find("3f9c")?.checkpoints().len(), 1);
    /// assert!(store.find("3f9c")?.verify()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn prune(&self, prunable: &Prunable) -> Result<(), Error> {
        let run = self.find(&prunable.id)?;
        let _lock = RunLock::take(run.path(), run.id())?;
        let mut steps = steps_pruned(run.path())?;
        let going =
            run.checkpoints_saved().into_iter().filter(|it| prunable.steps.contains(&it.step));
        let going: Vec<_> = going.collect();
        steps.extend(going.iter().map(|checkpoint| checkpoint.step));
        steps.sort_unstable();
        steps.dedup();
        files::write_atomic(&run.path().join(PRUNED), &encode_json(&json!({"steps": steps})))?;
        for checkpoint in going {
            files::remove(&checkpoint.path)?;
        }
        Ok(())
    }
}

/// The steps whose checkpoints were removed from the sealed run in `dir`.
pub(crate) fn steps_pruned(dir: &Path) -> Result<Vec<u64>, Error> {
    let noted = read_json_if_there(&dir.join(PRUNED))?;
    let steps = noted.map(|(_, body)| body["steps"].clone()).unwrap_or_default();
    Ok(steps.as_array().into_iter().flatten().filter_map(Value::as_u64).collect())
}

/// The step of a checkpoint's file, by its name below the record.
pub(crate) fn is_checkpoint_of(name: &str, steps: &[u64]) -> bool {
    steps.iter().any(|&step| name == crate::checkpoint::file_name(step))
}

impl RunReader {
    /// The steps whose checkpoints were removed on purpose after the run was sealed.
    #[must_use]
    pub fn steps_pruned(&self) -> &[u64] {
        &self.pruned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Begun;

    fn sealed() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("runs")).unwrap();
        let Begun::New(mut run) = store.begin("3f9c", &json!({}), &json!({})).unwrap() else {
            panic!("it is there")
        };
        for step in 1..=3 {
            run.save_checkpoint(step, format!("state {step}").as_bytes()).unwrap();
        }
        run.seal(&json!({"n_errors": 0})).unwrap();
        (dir, store)
    }

    #[test]
    fn what_is_pruned_is_gone_on_purpose_and_the_rest_is_whole() {
        let (_dir, store) = sealed();
        let prunable = store.prunable("3f9c", 1).unwrap().unwrap();
        assert_eq!(prunable.steps, [1, 2]);
        // Looking removes nothing.
        assert_eq!(store.find("3f9c").unwrap().checkpoints().len(), 3);
        store.prune(&prunable).unwrap();
        let run = store.find("3f9c").unwrap();
        assert_eq!(run.checkpoints().iter().map(|it| it.step).collect::<Vec<_>>(), [3]);
        assert_eq!(run.steps_pruned(), [1, 2]);
        assert_eq!(run.verify().unwrap(), [""; 0]);
        assert_eq!(run.last_checkpoint().unwrap().unwrap().1, b"state 3");
        assert!(run.checkpoint(1).unwrap_err().to_string().contains("3"));
        assert_eq!(store.prunable("3f9c", 1).unwrap(), None);
        // The last one may go too; the record stays.
        store.prune(&store.prunable("3f9c", 0).unwrap().unwrap()).unwrap();
        let run = store.find("3f9c").unwrap();
        assert_eq!((run.status(), run.checkpoints().len()), (Status::Sealed, 0));
        assert_eq!(run.result().unwrap()["n_errors"], 0);
        assert_eq!(run.verify().unwrap(), [""; 0]);
    }

    #[test]
    fn a_checkpoint_that_is_missing_without_a_note_is_damage() {
        let (_dir, store) = sealed();
        let run = store.find("3f9c").unwrap();
        std::fs::remove_file(&run.checkpoints()[0].path).unwrap();
        assert_eq!(store.find("3f9c").unwrap().verify().unwrap().len(), 1);
    }

    #[test]
    fn a_removing_that_was_cut_off_is_taken_up_again() {
        let (_dir, store) = sealed();
        let run = store.find("3f9c").unwrap();
        let note = encode_json(&json!({"steps": [1, 2]}));
        files::write_atomic(&run.path().join(PRUNED), &note).unwrap();
        std::fs::remove_file(&run.checkpoints()[0].path).unwrap();
        assert_eq!(store.find("3f9c").unwrap().verify().unwrap(), [""; 0]);
        let left = store.prunable("3f9c", 1).unwrap().unwrap();
        assert_eq!(left.steps, [2]);
        store.prune(&left).unwrap();
        assert_eq!(store.prunable("3f9c", 1).unwrap(), None);
    }

    #[test]
    fn a_run_that_is_not_sealed_keeps_what_it_needs() {
        let (_dir, store) = sealed();
        let Begun::New(mut run) = store.begin("4a", &json!({}), &json!({})).unwrap() else {
            panic!("it is there")
        };
        run.save_checkpoint(1, b"state").unwrap();
        run.interrupt().unwrap();
        assert_eq!(store.prunable("4a", 0).unwrap(), None);
    }
}
