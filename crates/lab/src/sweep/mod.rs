//! Many plans side by side: each on threads of its own, as many at once as cores and memory allow.
//!
//! A run on one thread wastes no time waiting for others, so the cores are filled with such runs. Where memory allows
//! fewer, or where there are fewer plans than cores, each gets more threads. No number depends on it.
//!
//! On a GPU one run leaves most of the device idle. There plans of one shape train side by side in one program of it, a
//! [cohort](crate::train::Cohort), one cohort after the other; up to the order of additions they have the numbers of runs
//! alone.
//!
//! Whoever holds the lock of a run executes it, so several processes may work on one store: each takes what nobody
//! holds, and at the end waits for what others hold, to go on with it should they die. A run that fails is recorded
//! and the others go on; a machine that refuses to write ends the sweep, with the state of every run saved.

mod cohorts;
mod desk;
mod forecast;
mod shard;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;

use mnemoscope_store::{Store, canonical};
use serde_json::json;

pub use cohorts::MOST_TOGETHER;
pub use forecast::{Forecast, disk_bytes, forecast};
pub use shard::Shard;
pub use work::Work;

use crate::Error;
use crate::clock::Clock;
use crate::event::Progress;
use crate::plan::{Plan, Study};
use crate::run::RunOptions;
use desk::Desk;

/// One plan of a sweep.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The arm it belongs to.
    pub arm: String,
    /// The plan.
    pub plan: Plan,
    /// The spec it comes from, if its record is to name one.
    pub origin: Option<Arc<Origin>>,
}

/// Where plans come from, as their records say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The study.
    pub study: String,
    /// The spec as it was written.
    pub spec_text: String,
}

/// What a person may choose about a sweep; no number of a record depends on it.
#[derive(Clone, Debug)]
pub struct SweepOptions {
    /// As for a single run; its threads are those of the whole sweep.
    pub run: RunOptions,
    /// Memory that all runs together may take; `None` if it is unknown, and then cores alone limit.
    pub memory_bytes: Option<u64>,
    /// The most runs that train side by side in one program of the device, each with the numbers it has alone up to the
    /// order of additions; 1 on a CPU, where it is of no use.
    pub most_together: usize,
    /// The device's own memory, if it has some and it is known.
    pub device_bytes: Option<u64>,
    /// How often a run is tried again that crashed or that the machine refused. One that diverged would diverge
    /// again.
    pub n_retries: u32,
}

/// How one plan of a sweep ended.
#[derive(Clone, Debug)]
pub enum End {
    /// Its record is complete since now.
    Sealed,
    /// Its record was complete before.
    AlreadySealed,
    /// Its state is saved after so many steps.
    Interrupted {
        /// Steps taken.
        step: u64,
    },
    /// It came to no good end, which its record says too.
    Failed(Arc<Error>),
    /// It was not begun, or another process holds it, and somebody asked to stop.
    Open,
}

impl End {
    /// Whether there is a complete record.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        matches!(self, Self::Sealed | Self::AlreadySealed)
    }
}

/// What came of a sweep.
#[derive(Clone, Debug)]
pub struct Swept {
    /// How each plan ended, in the order of the plans.
    pub ends: Vec<End>,
    /// What the machine refused, if that ended the sweep.
    pub refusal: Option<Arc<Error>>,
}

/// Watches a sweep from several threads at once, and may ask it to stop.
pub trait SweepWatcher: Sync {
    /// Something happened to the run of plan `idx`.
    fn event(&self, idx: usize, event: &Progress);

    /// The run of plan `idx` ended, or was found to have ended before.
    fn ended(&self, idx: usize, end: &End);

    /// Plan `idx` is executed by another process at the moment.
    fn held_elsewhere(&self, idx: usize);

    /// Whether all runs should save their state and return.
    fn stop_requested(&self) -> bool {
        false
    }
}

/// Every plan of a study, in its order.
#[must_use]
pub fn planned(study: &Study) -> Vec<Planned> {
    let of = |(arm, plan): (&str, &Plan)| Planned {
        arm: arm.to_owned(),
        plan: plan.clone(),
        origin: None,
    };
    study.plans().map(of).collect()
}

/// [`planned`], with records that name the study and keep its spec.
#[must_use]
pub fn planned_of(study: &Study, spec_text: &str) -> Vec<Planned> {
    let (study_name, spec_text) = (study.name.clone(), spec_text.to_owned());
    let origin = Arc::new(Origin { study: study_name, spec_text });
    let of = |planned: Planned| Planned { origin: Some(Arc::clone(&origin)), ..planned };
    planned(study).into_iter().map(of).collect()
}

/// What tells this sweep from every other: the hash of the ids of its plans, 16 hexadecimal digits.
///
/// # Example
///
/// ```
/// use mnemoscope_lab::{plan::resolve, sweep};
///
/// let two = sweep::planned(&resolve("sweep.seed = { count = 2 }", None, &[], None)?);
/// let three = sweep::planned(&resolve("sweep.seed = { count = 3 }", None, &[], None)?);
/// assert_eq!(sweep::id(&two), sweep::id(&three[..2]));
/// assert_ne!(sweep::id(&two), sweep::id(&three));
/// # Ok::<(), mnemoscope_lab::Error>(())
/// ```
#[must_use]
pub fn id(plans: &[Planned]) -> String {
    let ids: Vec<String> = plans.iter().map(|planned| planned.plan.id()).collect();
    let mut hash = canonical::hash(&json!(ids));
    hash.truncate(16);
    hash
}

/// Executes every plan that has no complete record in `store`, several side by side.
///
/// Returns when every plan has ended, when somebody asks to stop, or when the machine refuses.
///
/// # Panics
///
/// If `options.run.n_threads` is 0.
pub fn run_sweep(
    plans: &[Planned],
    store: &Store,
    options: &SweepOptions,
    clock: &dyn Clock,
    watcher: &dyn SweepWatcher,
) -> Swept {
    assert!(options.run.n_threads > 0, "a sweep needs a thread");
    // The same plan in two arms is one run.
    let mut first_of: BTreeMap<String, usize> = BTreeMap::new();
    let mut same_as: Vec<usize> = Vec::with_capacity(plans.len());
    let mut ends: Vec<Option<End>> = vec![None; plans.len()];
    let mut open = Vec::new();
    for (idx, planned) in plans.iter().enumerate() {
        let id = planned.plan.id();
        if store.is_sealed(&id) {
            watcher.ended(idx, &End::AlreadySealed);
            ends[idx] = Some(End::AlreadySealed);
        } else if !first_of.contains_key(&id) {
            open.push(idx);
        }
        same_as.push(*first_of.entry(id).or_insert(idx));
    }
    let desk = Desk::new(plans, open, options, watcher);
    let n_workers = options.run.n_threads.min(desk.n_open());
    std::thread::scope(|scope| {
        for _ in 0..n_workers {
            scope.spawn(|| desk.work(store, options, clock));
        }
    });
    let (ended, refusal) = desk.into_ends();
    for (idx, end) in ended {
        ends[idx] = Some(end);
    }
    for idx in 0..plans.len() {
        if ends[idx].is_none() {
            let end = ends[same_as[idx]].clone().unwrap_or(End::Open);
            if same_as[idx] != idx {
                watcher.ended(idx, &end);
            }
            ends[idx] = Some(end);
        }
    }
    Swept { ends: ends.into_iter().flatten().collect(), refusal }
}
