//! What a run tells whoever watches it, and the one thing they may ask of it: to stop.

/// One thing that happened while a plan is executed.
#[derive(Clone, Debug)]
pub enum Progress {
    /// A new run begins.
    Started {
        /// Id of the run.
        run: String,
        /// The arm it belongs to.
        arm: String,
        /// Steps to take.
        n_steps: u64,
    },
    /// An unfinished run goes on from its last good checkpoint.
    Resumed {
        /// Id of the run.
        run: String,
        /// The arm it belongs to.
        arm: String,
        /// Steps already taken.
        step: u64,
        /// Steps to take in all.
        n_steps: u64,
    },
    /// A training step was taken.
    Step {
        /// Steps taken so far.
        step: u64,
        /// Steps to take in all.
        n_steps: u64,
        /// Loss of this step's batch, in nats per scored target.
        loss_nats: f64,
        /// Training tokens per second since the run was started or resumed.
        tokens_per_sec: f64,
    },
    /// A point of a learning curve was measured.
    Curve {
        /// Steps taken so far.
        step: u64,
        /// The evaluation set.
        set: String,
        /// Scored targets looked at.
        n_trials: u64,
        /// Wrong answers among them.
        n_errors: u64,
    },
    /// The final evaluation moved on.
    Eval {
        /// The evaluation set.
        set: String,
        /// Examples looked at.
        n_examples_done: u64,
        /// Examples to look at.
        n_examples: u64,
        /// Scored targets looked at.
        n_trials: u64,
        /// Wrong answers among them.
        n_errors: u64,
    },
    /// The record is complete.
    Sealed {
        /// Id of the run.
        run: String,
    },
    /// The plan had been executed before; nothing is run again.
    AlreadySealed {
        /// Id of the run.
        run: String,
        /// The arm it belongs to.
        arm: String,
    },
    /// Something a person should know and no number depends on.
    Note(String),
}

/// Watches a run, and may ask it to stop.
pub trait Watcher {
    /// Called as things happen, often several times a second.
    fn event(&mut self, event: &Progress);

    /// Whether the run should save its state and return; asked between steps.
    fn stop_requested(&self) -> bool {
        false
    }
}

/// Watches nothing and never asks to stop.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWatcher;

impl Watcher for NoWatcher {
    fn event(&mut self, _event: &Progress) {}
}
