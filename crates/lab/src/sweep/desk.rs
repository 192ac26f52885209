//! The desk where workers take plans: what is open, and what of cores and memory is free.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mnemoscope_store::Store;

use super::cohorts::cohorts;
use super::{End, Planned, SweepOptions, SweepWatcher};
use crate::clock::Clock;
use crate::event::{Progress, Watcher};
use crate::run::{Labels, Member, Outcome, RunOptions, run_cohort, run_plan};
use crate::{Error, ErrorKind};

/// How long a worker with nothing to do sleeps before it looks again whether somebody asked to stop.
const NAP: Duration = Duration::from_millis(100);
/// How often a run that another process holds is asked for again, in naps.
const NAPS_BETWEEN_LOOKS: u32 = 5;

/// What one run takes while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) n_threads: usize,
    pub(super) bytes: u64,
}

impl Share {
    /// All that a sweep may take.
    pub(super) fn of_machine(n_threads: usize, memory_bytes: Option<u64>) -> Self {
        // A tenth is left for everything that estimates do not count.
        Self { n_threads, bytes: memory_bytes.map_or(u64::MAX, |bytes| bytes / 10 * 9) }
    }
}

/// What a worker took: a plan, or several that train side by side.
#[derive(Debug)]
struct Taken {
    group: Vec<usize>,
    share: Share,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Vec<usize>>,
    /// Plans that another process holds.
    elsewhere: Vec<usize>,
    free: Share,
    n_running: usize,
    ends: BTreeMap<usize, End>,
    refusal: Option<Arc<Error>>,
}

/// The open plans of a sweep and the free part of the machine.
pub(super) struct Desk<'a> {
    plans: &'a [Planned],
    watcher: &'a dyn SweepWatcher,
    n_open: usize,
    all: Share,
    state: Mutex<State>,
    changed: Condvar,
    /// Set when the machine refused; the running ones then save their state.
    halted: AtomicBool,
}

impl<'a> Desk<'a> {
    pub(super) fn new(
        plans: &'a [Planned],
        open: Vec<usize>,
        options: &SweepOptions,
        watcher: &'a dyn SweepWatcher,
    ) -> Self {
        let all = Share::of_machine(options.run.n_threads, options.memory_bytes);
        let n_open = open.len();
        let state = State {
            queue: cohorts(plans, open, options.most_together, options.device_bytes).into(),
            elsewhere: Vec::new(),
            free: all,
            n_running: 0,
            ends: BTreeMap::new(),
            refusal: None,
        };
        Self {
            plans,
            watcher,
            n_open,
            all,
            state: Mutex::new(state),
            changed: Condvar::new(),
            halted: AtomicBool::new(false),
        }
    }

    /// Plans that have no complete record.
    pub(super) fn n_open(&self) -> usize {
        self.n_open
    }

    /// How the plans that were taken ended, and what the machine refused.
    pub(super) fn into_ends(self) -> (BTreeMap<usize, End>, Option<Arc<Error>>) {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        (state.ends, state.refusal)
    }

    /// Takes plans and executes them until there is nothing left to take.
    pub(super) fn work(&self, store: &Store, options: &SweepOptions, clock: &dyn Clock) {
        while let Some(taken) = self.take() {
            let ends = match taken.group[..] {
                [idx] => vec![(idx, self.execute(idx, taken.share, store, options, clock))],
                _ => self.execute_cohort(&taken.group, taken.share, store, options, clock),
            };
            self.give_back(&taken, ends);
        }
    }

    /// The state; what a panicking worker left is as whole as any other.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop_requested(&self) -> bool {
        self.halted.load(Ordering::SeqCst) || self.watcher.stop_requested()
    }

    /// Waits until the next plan fits beside those that run; `None` when there is nothing left or somebody asked to
    /// stop. Plans keep their order: a large one is not passed over for ever by small ones behind it.
    fn take(&self) -> Option<Taken> {
        let mut state = self.lock();
        let mut n_naps = 0;
        loop {
            if self.stop_requested() {
                return None;
            }
            if let Some(group) = state.queue.front() {
                let share = match group[..] {
                    [idx] => share_of(&self.plans[idx], self.all, self.n_open),
                    // A program of a device takes the whole of it, and its members are measured by all threads.
                    _ => self.all,
                };
                let fits =
                    share.n_threads <= state.free.n_threads && share.bytes <= state.free.bytes;
                if fits || state.n_running == 0 {
                    let group = state.queue.pop_front().expect("it has just been seen");
                    state.n_running += 1;
                    state.free.n_threads = state.free.n_threads.saturating_sub(share.n_threads);
                    state.free.bytes = state.free.bytes.saturating_sub(share.bytes);
                    return Some(Taken { group, share });
                }
            } else if state.elsewhere.is_empty() {
                // Whoever runs now and finds its plan held elsewhere looks after it itself.
                return None;
            } else if n_naps >= NAPS_BETWEEN_LOOKS {
                let held = std::mem::take(&mut state.elsewhere);
                state.queue.extend(held.into_iter().map(|idx| vec![idx]));
                n_naps = 0;
                continue;
            }
            state = match self.changed.wait_timeout(state, NAP) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
            n_naps += 1;
        }
    }

    fn give_back(&self, taken: &Taken, ends: Vec<(usize, Option<End>)>) {
        // Outside of the lock: whoever watches may take its time to draw.
        for (idx, end) in &ends {
            match end {
                Some(end) => self.watcher.ended(*idx, end),
                None => self.watcher.held_elsewhere(*idx),
            }
        }
        let mut state = self.lock();
        state.n_running -= 1;
        // One run alone may take more than there is.
        let free = state.free;
        state.free.n_threads = (free.n_threads + taken.share.n_threads).min(self.all.n_threads);
        state.free.bytes = free.bytes.saturating_add(taken.share.bytes).min(self.all.bytes);
        for (idx, end) in ends {
            match end {
                Some(end) => drop(state.ends.insert(idx, end)),
                None => state.elsewhere.push(idx),
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Executes a plan, again if it may help; `None` if another process holds it.
    fn execute(
        &self,
        idx: usize,
        share: Share,
        store: &Store,
        options: &SweepOptions,
        clock: &dyn Clock,
    ) -> Option<End> {
        let planned = &self.plans[idx];
        let labels = labels(planned);
        let run = RunOptions { n_threads: share.n_threads, ..options.run.clone() };
        let mut watcher = OneRun { idx, desk: self };
        for n_tried in 0.. {
            let ended = run_plan(&planned.plan, &labels, store, &run, clock, &mut watcher);
            let failure = match end_of(ended) {
                Ok(end) => return Some(end),
                Err(failure) if failure.is_in_use() => return None,
                Err(failure) => failure,
            };
            if may_pass(failure.kind()) && n_tried < options.n_retries && !self.stop_requested() {
                let words = format!("run {} is tried again: {failure}", planned.plan.id());
                watcher.event(&Progress::Note(words));
                continue;
            }
            return Some(self.failed(failure));
        }
        None
    }

    /// Executes plans side by side; those that crash together, as where a device has not enough memory for them, are tried
    /// again in halves, and at last alone.
    fn execute_cohort(
        &self,
        group: &[usize],
        share: Share,
        store: &Store,
        options: &SweepOptions,
        clock: &dyn Clock,
    ) -> Vec<(usize, Option<End>)> {
        if let [idx] = *group {
            return vec![(idx, self.execute(idx, share, store, options, clock))];
        }
        let run = RunOptions { n_threads: share.n_threads, ..options.run.clone() };
        let labels: Vec<Labels> = group.iter().map(|&idx| labels(&self.plans[idx])).collect();
        let mut watchers: Vec<_> = group.iter().map(|&idx| OneRun { idx, desk: self }).collect();
        let members = group.iter().zip(&labels).zip(&mut watchers);
        let members = members.map(|((&idx, labels), watcher)| Member {
            plan: &self.plans[idx].plan,
            labels,
            watcher,
        });
        let outcomes = run_cohort(members.collect(), store, &run, clock);
        let (mut ends, mut again) = (Vec::new(), Vec::new());
        for ((&idx, watcher), ended) in group.iter().zip(&mut watchers).zip(outcomes) {
            match end_of(ended) {
                Ok(end) => ends.push((idx, Some(end))),
                Err(failure) if failure.is_in_use() => ends.push((idx, None)),
                Err(failure) if failure.kind() == ErrorKind::Crashed && !self.stop_requested() => {
                    let words = format!("{failure}; it is tried again beside fewer others");
                    watcher.event(&Progress::Note(words));
                    again.push(idx);
                }
                Err(failure) => ends.push((idx, Some(self.failed(failure)))),
            }
        }
        for half in again.chunks(group.len().div_ceil(2)) {
            ends.extend(self.execute_cohort(half, share, store, options, clock));
        }
        ends
    }

    fn failed(&self, failure: Error) -> End {
        let refused = matches!(failure.kind(), ErrorKind::Machine | ErrorKind::Io);
        let failure = Arc::new(failure);
        if refused {
            self.halted.store(true, Ordering::SeqCst);
            self.lock().refusal.get_or_insert_with(|| Arc::clone(&failure));
        }
        End::Failed(failure)
    }
}

/// How people call a plan.
fn labels(planned: &Planned) -> Labels {
    let origin = planned.origin.as_ref();
    Labels {
        study: origin.map(|origin| origin.study.clone()),
        arm: planned.arm.clone(),
        spec_text: origin.map(|origin| origin.spec_text.clone()),
    }
}

/// The end that an outcome is.
fn end_of(ended: Result<Outcome, Error>) -> Result<End, Error> {
    ended.map(|outcome| match outcome {
        Outcome::Sealed(_) => End::Sealed,
        Outcome::AlreadySealed(_) => End::AlreadySealed,
        Outcome::Interrupted { step, .. } => End::Interrupted { step },
    })
}

/// Whether trying again may end otherwise.
fn may_pass(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Machine | ErrorKind::Io | ErrorKind::Crashed)
}

/// The part of the machine that one run gets: one thread, or more where fewer runs than threads are possible, by
/// memory or because there are no more plans.
pub(super) fn share_of(planned: &Planned, all: Share, n_open: usize) -> Share {
    let bytes = planned.plan.estimate().map_or(u64::MAX, |estimate| estimate.peak_bytes()).max(1);
    let n_by_memory = usize::try_from(all.bytes / bytes).unwrap_or(usize::MAX);
    let n_side_by_side = n_by_memory.min(n_open).clamp(1, all.n_threads);
    Share { n_threads: all.n_threads / n_side_by_side, bytes }
}

/// What one run of a sweep tells, and whether all are to stop.
struct OneRun<'a, 'd> {
    idx: usize,
    desk: &'d Desk<'a>,
}

impl Watcher for OneRun<'_, '_> {
    fn event(&mut self, event: &Progress) {
        self.desk.watcher.event(self.idx, event);
    }

    fn stop_requested(&self) -> bool {
        self.desk.stop_requested()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::resolve;
    use crate::sweep::planned;

    #[test]
    fn cores_are_filled_with_single_threads_or_fewer_wider_runs() {
        let plans = planned(&resolve("model.preset = 'lstm'", None, &[], None).unwrap());
        let bytes = plans[0].plan.estimate().unwrap().peak_bytes();
        let check = |n_threads: usize, n_fit: u64, n_open: usize, expected: usize| {
            let all = Share { n_threads, bytes: bytes * n_fit };
            let share = share_of(&plans[0], all, n_open);
            assert_eq!(share, Share { n_threads: expected, bytes }, "{n_threads} {n_fit} {n_open}");
        };
        check(8, 1_000, 1_000, 1);
        // Memory for two: four threads each, and for one that does not even fit: all.
        check(8, 2, 1_000, 4);
        check(8, 0, 1_000, 8);
        // Fewer plans than cores.
        check(8, 1_000, 3, 2);
        check(8, 1_000, 1, 8);
        check(2, 1_000, 1_000, 1);
    }
}
