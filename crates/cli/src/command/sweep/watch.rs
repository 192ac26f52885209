//! A sweep on standard error: a table that lives where people watch a terminal, else a line now and then.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mnemoscope_lab::clock::{Clock as _, SystemClock};
use mnemoscope_lab::event::Progress;
use mnemoscope_lab::sweep::{End, Planned, SweepWatcher, Work};
use mnemoscope_view::board::{self, ArmBoard};
use mnemoscope_view::sparkline::Trail;

use crate::interrupt::Interrupt;

/// Arms that a terminal of the usual height has room for.
const MOST_ARMS: usize = 12;
/// Seconds between two plain lines.
const LINE_EVERY_SECS: f64 = 5.0;
/// Seconds between two drawings of the table.
const DRAW_EVERY_SECS: f64 = 0.2;

/// Where one run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    Waiting,
    Running,
    Elsewhere,
    Sealed,
    Failed,
}

/// One run: its place, and how much of its work is done.
#[derive(Clone, Copy, Debug)]
struct Run {
    arm: usize,
    stand: Stand,
    train_flops: f64,
    total_flops: f64,
    done_flops: f64,
    /// What was done before this process began with it.
    before_flops: f64,
}

/// Everything that changes.
struct Board {
    arms: Vec<String>,
    /// Losses of each arm's run that moved last, and which run that is.
    losses: Vec<(Option<usize>, Trail)>,
    runs: Vec<Run>,
    drawn_secs: f64,
    began_secs: f64,
    bar: ProgressBar,
}

/// Shows a sweep, and passes on the wish to stop.
pub(super) struct Watch {
    shown: bool,
    on_terminal: bool,
    interrupt: Interrupt,
    clock: SystemClock,
    said_stopping: AtomicBool,
    board: Mutex<Board>,
}

impl Watch {
    pub(super) fn new(
        plans: &[Planned],
        shown: bool,
        interrupt: Interrupt,
        clock: SystemClock,
    ) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let mut arms: Vec<String> = Vec::new();
        let mut runs = Vec::with_capacity(plans.len());
        let study = |planned: &Planned| planned.origin.as_ref().map(|origin| origin.study.clone());
        let several = plans.iter().any(|planned| study(planned) != study(&plans[0]));
        for planned in plans {
            let arm = match study(planned).filter(|_| several) {
                Some(study) => format!("{study}: {}", planned.arm),
                None => planned.arm.clone(),
            };
            // Plans of an arm stand together.
            if arms.last() != Some(&arm) {
                arms.push(arm);
            }
            let estimate = planned.plan.estimate();
            let train_flops = estimate.map_or(1.0, |estimate| estimate.train_flops);
            runs.push(Run {
                arm: arms.len() - 1,
                stand: Stand::Waiting,
                train_flops,
                total_flops: train_flops + estimate.map_or(0.0, |estimate| estimate.eval_flops),
                done_flops: 0.0,
                before_flops: 0.0,
            });
        }
        let now = clock.elapsed_secs();
        let bar = if shown && on_terminal {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            // The template is a constant of ours; a bar without it would still be a bar.
            let style = ProgressStyle::with_template("{msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        } else {
            ProgressBar::hidden()
        };
        let losses = vec![(None, Trail::default()); arms.len()];
        let board =
            Board { arms, losses, runs, drawn_secs: now - LINE_EVERY_SECS, began_secs: now, bar };
        Self {
            shown,
            on_terminal,
            interrupt,
            clock,
            said_stopping: AtomicBool::new(false),
            board: Mutex::new(board),
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the table away.
    pub(super) fn finish(&self) {
        self.board().bar.finish_and_clear();
    }

    fn say(&self, board: &Board, words: &str) {
        // With standard error closed there is nobody to tell.
        let print = || drop(writeln!(std::io::stderr().lock(), "{words}"));
        match (self.shown, self.on_terminal) {
            (true, true) => board.bar.suspend(print),
            (true, false) => print(),
            (false, _) => {}
        }
    }

    /// Draws, unless that was done a moment ago.
    fn draw(&self, board: &mut Board) {
        let now = self.clock.elapsed_secs();
        let every = if self.on_terminal { DRAW_EVERY_SECS } else { LINE_EVERY_SECS };
        if !self.shown || now - board.drawn_secs < every {
            return;
        }
        board.drawn_secs = now;
        let left_secs = board.work().remaining_secs(now);
        let arms = board.by_arm();
        if self.on_terminal {
            board.bar.set_message(board::page(&arms, left_secs, MOST_ARMS));
        } else {
            self.say(board, &format!("sweep: {}", board::line(&arms, left_secs)));
        }
    }
}

impl Board {
    /// Adds a loss to the curve of an arm: that of one run, until it has ended and another moves.
    fn loss(&mut self, idx: usize, loss_nats: f64) {
        let (of, trail) = &mut self.losses[self.runs[idx].arm];
        let goes_on = of.is_some_and(|of| of == idx || self.runs[of].stand == Stand::Running);
        if !goes_on {
            (*of, *trail) = (Some(idx), Trail::default());
        }
        if *of == Some(idx) {
            trail.push(loss_nats);
        }
    }

    fn work(&self) -> Work {
        let left = |run: &&Run| run.stand != Stand::Failed;
        let sum = |of: fn(&Run) -> f64| self.runs.iter().filter(left).map(of).sum::<f64>();
        let mut work = Work::of(sum(|run| run.total_flops - run.before_flops), self.began_secs);
        work.done = sum(|run| run.done_flops - run.before_flops);
        work
    }

    fn by_arm(&self) -> Vec<ArmBoard> {
        let new = |(arm, (_, losses)): (&String, &(Option<usize>, Trail))| ArmBoard {
            arm: arm.clone(),
            losses: losses.clone(),
            ..ArmBoard::default()
        };
        let mut arms: Vec<ArmBoard> = self.arms.iter().zip(&self.losses).map(new).collect();
        for run in &self.runs {
            let arm = &mut arms[run.arm];
            arm.n_runs += 1;
            arm.done += run.done_flops / run.total_flops;
            match run.stand {
                Stand::Waiting => {}
                Stand::Running => arm.n_running += 1,
                Stand::Elsewhere => arm.n_elsewhere += 1,
                Stand::Sealed => arm.n_sealed += 1,
                Stand::Failed => arm.n_failed += 1,
            }
        }
        for arm in &mut arms {
            #[expect(clippy::cast_precision_loss, reason = "a share")]
            let n_runs = arm.n_runs as f64;
            arm.done /= n_runs;
        }
        arms
    }
}

impl Run {
    /// What is done after `step` of `n_steps`.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    fn trained(&self, step: u64, n_steps: u64) -> f64 {
        self.train_flops * step as f64 / n_steps.max(1) as f64
    }
}

impl SweepWatcher for Watch {
    fn event(&self, idx: usize, event: &Progress) {
        let mut board = self.board();
        let run = &mut board.runs[idx];
        match event {
            Progress::Started { .. } => {
                run.stand = Stand::Running;
                (run.done_flops, run.before_flops) = (0.0, 0.0);
            }
            Progress::Resumed { step, n_steps, .. } => {
                run.stand = Stand::Running;
                run.before_flops = run.trained(*step, *n_steps);
                run.done_flops = run.before_flops;
            }
            Progress::Step { step, n_steps, loss_nats, .. } => {
                run.done_flops = run.trained(*step, *n_steps);
                board.loss(idx, *loss_nats);
            }
            Progress::Note(words) => self.say(&board, words),
            Progress::Curve { .. }
            | Progress::Eval { .. }
            | Progress::Sealed { .. }
            | Progress::AlreadySealed { .. } => {}
        }
        self.draw(&mut board);
    }

    fn ended(&self, idx: usize, end: &End) {
        let mut board = self.board();
        let run = &mut board.runs[idx];
        match end {
            End::Sealed => {
                run.stand = Stand::Sealed;
                run.done_flops = run.total_flops;
            }
            End::AlreadySealed => {
                run.stand = Stand::Sealed;
                (run.done_flops, run.before_flops) = (run.total_flops, run.total_flops);
            }
            End::Interrupted { .. } | End::Open => run.stand = Stand::Waiting,
            End::Failed(failure) => {
                run.stand = Stand::Failed;
                let words = format!("failed: {}: {failure}", board.arms[board.runs[idx].arm]);
                self.say(&board, &words);
            }
        }
        self.draw(&mut board);
    }

    fn held_elsewhere(&self, idx: usize) {
        let mut board = self.board();
        board.runs[idx].stand = Stand::Elsewhere;
        self.draw(&mut board);
    }

    fn stop_requested(&self) -> bool {
        let asked = self.interrupt.asked();
        if asked && !self.said_stopping.swap(true, Ordering::SeqCst) {
            self.say(&self.board(), "stopping: saving the state; Ctrl-C again aborts at once");
        }
        asked
    }
}
